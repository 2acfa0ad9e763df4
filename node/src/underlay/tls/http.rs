//! Owns what is said in HTTP/1.1 before a connection carries datagrams: CONNECT to a proxy, the upgrade to WebSocket
//! (RFC 6455 §4), and the answers of both sides.

use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};

/// Longest head that is read. Unit: bytes. Source: own choice; proxies send a few hundred.
pub(crate) const HEAD_LEN_MAX: usize = 8 << 10;
/// Most lines of a head. Source: as above.
const HEADERS_MAX: usize = 64;
/// The protocol in the upgrade, which says that the messages are datagrams of PN1.
const PROTOCOL: &str = "pilot-pn1";

/// A head of HTTP that is no head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NotHttp;

/// The question to a proxy for a connection to `target`, which is `host:port`. `credentials`: `user:password`.
pub(crate) fn connect(target: &str, credentials: Option<&str>) -> String {
    let basic = credentials.map(|text| format!("Proxy-Authorization: Basic {}\r\n", base64(text.as_bytes())));
    format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n{}\r\n", basic.unwrap_or_default())
}

/// The question for an upgrade.
pub(crate) fn upgrade(host: &str, nonce: &[u8; 16]) -> String {
    format!(
        "GET /pilot HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Protocol: {PROTOCOL}\r\nSec-WebSocket-Key: {}\r\n\r\n",
        base64(nonce)
    )
}

/// An answer's head.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// The words behind it, cut to what is shown.
    pub(crate) reason: String,
    /// What the answer to [`upgrade`] says about the nonce.
    accept: Option<String>,
    /// Length of the head; what follows is no part of it.
    pub(crate) len: usize,
}

impl Answer {
    /// Reads an answer; `None` until it is whole.
    ///
    /// # Errors
    /// What came is no answer of HTTP/1, or is longer than [`HEAD_LEN_MAX`].
    pub(crate) fn parse(bytes: &[u8]) -> Result<Option<Self>, NotHttp> {
        let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut response = httparse::Response::new(&mut headers);
        let len = match response.parse(bytes).map_err(|_| NotHttp)? {
            httparse::Status::Complete(len) if len <= HEAD_LEN_MAX => len,
            httparse::Status::Partial if bytes.len() <= HEAD_LEN_MAX => return Ok(None),
            _ => return Err(NotHttp),
        };
        let reason = response.reason.unwrap_or_default().chars().filter(|c| matches!(c, ' '..='~'));
        let accept = value(response.headers, "sec-websocket-accept").map(str::to_owned);
        Ok(Some(Self { status: response.code.ok_or(NotHttp)?, reason: reason.take(40).collect(), accept, len }))
    }

    /// True for the agreement to the question with this nonce.
    pub(crate) fn is_upgrade(&self, nonce: &[u8; 16]) -> bool {
        self.status == 101 && self.accept.as_deref() == Some(&accept(&base64(nonce)))
    }
}

/// A question's head, and what a rendezvous answers.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// An upgrade of a node: the answer, the length of the head, and the client that a reverse proxy has named last.
    Upgrade {
        /// The answer, after which messages follow.
        answer: String,
        /// Length of the question.
        len: usize,
        /// Address of the client.
        forwarded: Option<std::net::IpAddr>,
    },
    /// A browser or another stranger, with the answer after which the connection ends.
    Other(&'static str),
}

/// What other questions than upgrades are answered.
const REFUSAL: &str = "HTTP/1.1 426 Upgrade Required\r\nUpgrade: websocket\r\nConnection: close\r\n\
     Content-Type: text/plain\r\nContent-Length: 55\r\n\r\nThis is a rendezvous of Pilot. It serves nodes alone.\r\n";

impl Asked {
    /// Reads a question; `None` until it is whole.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut request = httparse::Request::new(&mut headers);
        let len = match request.parse(bytes) {
            Ok(httparse::Status::Complete(len)) if len <= HEAD_LEN_MAX => len,
            Ok(httparse::Status::Partial) if bytes.len() <= HEAD_LEN_MAX => return None,
            _ => return Some(Self::Other(REFUSAL)),
        };
        let get = |name| value(request.headers, name);
        let is_ours = request.method == Some("GET")
            && get("upgrade").is_some_and(|value| value.eq_ignore_ascii_case("websocket"))
            && get("sec-websocket-version") == Some("13")
            && get("sec-websocket-protocol") == Some(PROTOCOL);
        let Some(key) = get("sec-websocket-key").filter(|key| is_ours && key.len() == 24) else {
            return Some(Self::Other(REFUSAL));
        };
        let answer = format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Protocol: {PROTOCOL}\r\nSec-WebSocket-Accept: {}\r\n\r\n",
            accept(key)
        );
        let forwarded = get("x-forwarded-for").and_then(|list| list.rsplit(',').next()?.trim().parse().ok());
        Some(Self::Upgrade { answer, len, forwarded })
    }
}

/// The value of a line of a head, the last one of that name.
fn value<'a>(headers: &[httparse::Header<'a>], name: &str) -> Option<&'a str> {
    let header = headers.iter().rev().find(|header| header.name.eq_ignore_ascii_case(name))?;
    std::str::from_utf8(header.value).ok().map(str::trim)
}

/// What a server answers to a key. Source: RFC 6455 §4.2.2.
fn accept(key: &str) -> String {
    let text = [key, "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"].concat();
    base64(digest(&SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes()).as_ref())
}

/// Base64 with padding (RFC 4648 §4).
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let number = group.iter().fold(0u32, |n, byte| n << 8 | u32::from(*byte)) << (8 * (3 - group.len()));
        for place in 0..4 {
            let digit = DIGITS[(number >> (18 - 6 * place) & 63) as usize];
            out.push(if place <= group.len() { digit.into() } else { '=' });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_the_standard_is_answered_as_there() {
        assert_eq!(accept("dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        for (bytes, text) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg==")] {
            assert_eq!(base64(bytes.as_bytes()), text); // RFC 4648 §10
        }
        assert!(connect("a:1", Some("user:open sesame")).contains("Basic dXNlcjpvcGVuIHNlc2FtZQ==\r\n\r\n"));
    }

    #[test]
    fn an_upgrade_is_agreed_on_and_only_with_its_own_nonce() {
        let nonce = [9; 16];
        let question = upgrade("rdv.example", &nonce);
        assert_eq!(Asked::parse(&question.as_bytes()[..question.len() - 1]), None);
        let Some(Asked::Upgrade { answer, len, forwarded }) = Asked::parse(question.as_bytes()) else {
            panic!("an upgrade")
        };
        assert_eq!((len, forwarded), (question.len(), None));
        let whole = format!("{answer}rest");
        assert_eq!(Answer::parse(&whole.as_bytes()[..answer.len() - 1]), Ok(None));
        let read = Answer::parse(whole.as_bytes()).expect("HTTP").expect("whole");
        assert!(read.len == answer.len() && read.is_upgrade(&nonce) && !read.is_upgrade(&[8; 16]));
        let behind_proxy = question.replace("\r\n\r\n", "\r\nX-Forwarded-For: 10.0.0.1, 192.0.2.7\r\n\r\n");
        let asked = Asked::parse(behind_proxy.as_bytes());
        assert!(matches!(asked, Some(Asked::Upgrade { forwarded: Some(ip), .. }) if ip.to_string() == "192.0.2.7"));
    }

    #[test]
    fn strangers_get_a_short_answer_and_garbage_is_no_head() {
        let long = format!("GET / HTTP/1.1\r\nA: {}", "a".repeat(HEAD_LEN_MAX));
        let other_protocol = upgrade("a", &[0; 16]).replace(PROTOCOL, "chat");
        for bad in ["GET / HTTP/1.1\r\n\r\n", "POST / HTTP/1.0\r\n\r\n", "\x16\x03\x01", &long, &other_protocol] {
            assert_eq!(Asked::parse(bad.as_bytes()), Some(Asked::Other(REFUSAL)), "{bad:.20}");
        }
        let (_, body) = REFUSAL.split_once("\r\n\r\n").expect("a head");
        assert!(REFUSAL.contains(&format!("Content-Length: {}\r\n", body.len())), "{}", body.len());
        for bad in ["<html>", "HTTP/1.1 banana\r\n\r\n", "HTTP/2 200\r\n\r\n", &format!("HTTP/1.1 200 OK\r\n{long}")] {
            assert_eq!(Answer::parse(bad.as_bytes()), Err(NotHttp), "{bad:.20}");
        }
        let told = Answer::parse(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n").expect("HTTP").expect("whole");
        assert_eq!((told.status, &*told.reason), (407, "Proxy Authentication Required"));
    }

    #[test]
    fn heads_have_a_maximum_of_lines() {
        let lines = |count| format!("HTTP/1.1 200 OK\r\n{}\r\n", "A: b\r\n".repeat(count));
        assert!(matches!(Answer::parse(lines(HEADERS_MAX).as_bytes()), Ok(Some(_))));
        assert_eq!(Answer::parse(lines(HEADERS_MAX + 1).as_bytes()), Err(NotHttp));
    }
}
