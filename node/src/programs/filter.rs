//! Owns the bytes between a client and a server where they are not passed on unseen: a client of the proxy, from its first
//! byte to the server that it wants, and the HTTP behind `expose --http`. Bytes in, bytes out; no socket, no clock.

use super::authority::Authority;
use super::http::{Exposed, Http, Reject};
use super::socks::{self, Reply, Socks, Step};
use crate::failure::Failure;
use crate::frame_reader::FrameReader;
use std::sync::Arc;

/// Users of a proxy with their passwords, in the forms that clients write. Empty: none is asked for.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Access {
    /// `user:password`.
    passwords: Vec<String>,
    /// The same in Base64, as Basic authentication has it.
    basic: Arc<[String]>,
}

impl Access {
    pub(crate) fn new(passwords: Vec<String>) -> Self {
        let basic = passwords.iter().map(|password| base64(password.as_bytes())).collect();
        Self { passwords, basic }
    }
}

/// The end of a connection, with its reason.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// The last bytes to the client; may be empty.
    pub(crate) bytes: Vec<u8>,
    /// The reason, for the log.
    pub(crate) text: String,
}

/// Bytes that a filter lets go, by their direction.
#[derive(Debug, Default)]
pub(crate) struct Out {
    pub(crate) to_client: FrameReader,
    pub(crate) to_server: FrameReader,
}

/// What is known of a connection.
#[derive(Debug)]
pub(crate) enum Filter {
    /// A client of the proxy that has not said anything.
    New(Arc<Access>),
    Socks(Arc<Access>, Socks),
    /// A client of SOCKS waits for its server.
    Wanted(Authority),
    Http(Box<Http>),
    /// Bytes and nothing else.
    Raw,
}

impl Filter {
    /// For a client of the proxy.
    pub(crate) const fn proxy(access: Arc<Access>) -> Self {
        Self::New(access)
    }

    /// For a peer's connection to a server behind `expose --http`.
    pub(crate) fn exposed(server: Exposed) -> Self {
        Self::Http(Box::new(Http::exposed(server)))
    }

    /// True when nothing needs to be looked at any more.
    pub(crate) const fn is_raw(&self) -> bool {
        match self {
            Self::Raw => true,
            Self::Http(http) => http.is_raw(),
            _ => false,
        }
    }

    /// The number of the head that the client has [`HEAD_TIME`](super::http::HEAD_TIME) for; `None` while none is awaited.
    pub(crate) fn awaited_head(&self) -> Option<u32> {
        match self {
            Self::New(_) | Self::Socks(..) => Some(0),
            Self::Http(http) => http.awaited_head(),
            Self::Wanted(_) | Self::Raw => None,
        }
    }

    /// True while the client's next bytes wait for an answer of the server's.
    pub(crate) fn is_held(&self) -> bool {
        matches!(self, Self::Http(http) if http.is_held())
    }

    /// The server that the client asks for, and true when the client waits for the stream before it says anything.
    pub(crate) const fn wanted(&self) -> Option<(&Authority, bool)> {
        match self {
            Self::Wanted(to) => Some((to, true)),
            Self::Http(http) => http.wanted(),
            _ => None,
        }
    }

    /// Takes bytes of the client's and gives their number. The rest comes again after the server's next bytes, or after
    /// [`Self::connected`].
    pub(crate) fn push_request(&mut self, input: &[u8], out: &mut Out) -> Result<usize, Refusal> {
        let mut used = 0;
        loop {
            let rest = &input[used..];
            match self {
                Self::Http(http) => {
                    let pushed = http.push_request(rest, out.to_server.end());
                    return pushed.map(|len| used + len).map_err(|reject| refused(http, &reject));
                }
                Self::Raw => {
                    out.to_server.extend(rest);
                    return Ok(input.len());
                }
                Self::Wanted(_) => return Ok(used),
                Self::New(access) => match rest.first() {
                    None => return Ok(used),
                    Some(&socks::VERSION) => *self = Self::Socks(access.clone(), Socks::default()),
                    Some(4) => return Err(socks4()),
                    Some(byte) if byte.is_ascii_uppercase() || b"\r\n".contains(byte) => {
                        *self = Self::Http(Box::new(Http::proxied(access.basic.clone())));
                    }
                    Some(_) => return Err(Reject::bad("neither SOCKS version 5 nor a request of HTTP").into()),
                },
                Self::Socks(access, socks) => match socks.step(rest, &access.passwords) {
                    Step::More => return Ok(used),
                    Step::Answer(len, bytes) => {
                        out.to_client.extend(&bytes);
                        used += len;
                    }
                    Step::Wanted(len, to) => {
                        *self = Self::Wanted(to);
                        return Ok(used + len);
                    }
                    Step::Refused(bytes, why) => return Err(Refusal { bytes, text: why.to_owned() }),
                },
            }
        }
    }

    /// True when the end of the server's bytes is the end of the connection: HTTP has no half of a connection.
    pub(crate) const fn ends_with_server(&self) -> bool {
        matches!(self, Self::Http(_)) && !self.is_raw()
    }

    /// A stream to the wanted server stands, or for a client that does not wait for the stream: is being opened.
    pub(crate) fn connected(&mut self, out: &mut Out) -> Result<(), Refusal> {
        match self {
            Self::Wanted(_) => {
                out.to_client.extend(&Reply::Succeeded.bytes());
                *self = Self::Raw;
            }
            Self::Http(http) => {
                let answer = http.connected(out.to_server.end()).map_err(|reject| refused(http, &reject))?;
                out.to_client.extend(answer);
            }
            _ => debug_assert!(false, "only a filter that wants a server is connected"),
        }
        Ok(())
    }

    /// Takes all bytes of the server's.
    pub(crate) fn push_response(&mut self, input: &[u8], out: &mut Out) -> Result<(), Refusal> {
        match self {
            Self::Http(http) => {
                let pushed = http.push_response(input, out.to_client.end());
                pushed.map_err(|reject| unanswered(http, reject))
            }
            _ => {
                out.to_client.extend(input);
                Ok(())
            }
        }
    }

    /// The server sends nothing more.
    pub(crate) fn end_response(&mut self, out: &mut Out) -> Result<(), Refusal> {
        match self {
            Self::Http(http) => {
                let ended = http.end_response(out.to_client.end());
                ended.map_err(|reject| unanswered(http, reject))
            }
            _ => Ok(()),
        }
    }

    /// The refusal of a client that cannot have its server.
    pub(crate) fn unreached(&self, failure: &Failure) -> Refusal {
        match self {
            Self::Http(http) => unanswered(http, Reject::unreached(failure)),
            Self::Wanted(_) => {
                Refusal { bytes: Reply::unreached(failure.code).bytes().to_vec(), text: failure.to_string() }
            }
            _ => Refusal { bytes: Vec::new(), text: failure.to_string() },
        }
    }

    /// The refusal of a client that has taken longer than [`HEAD_TIME`](super::http::HEAD_TIME).
    pub(crate) fn too_slow(&self) -> Refusal {
        let reject = Reject::new(408, "the head of a request has 10 seconds");
        match self {
            Self::Http(http) => refused(http, &reject),
            _ => Refusal { bytes: Vec::new(), text: reject.text },
        }
    }
}

impl From<Reject> for Refusal {
    fn from(reject: Reject) -> Self {
        Self { bytes: reject.answer(), text: reject.text }
    }
}

fn refused(http: &Http, reject: &Reject) -> Refusal {
    Refusal { bytes: http.farewell(reject), text: reject.text.clone() }
}

/// The refusal of a client because of its server.
fn unanswered(http: &Http, reject: Reject) -> Refusal {
    Refusal { bytes: http.farewell_of_server(&reject), text: reject.text }
}

/// The refusal that clients of SOCKS version 4 understand.
fn socks4() -> Refusal {
    Refusal { bytes: vec![0, 91, 0, 0, 0, 0, 0, 0], text: "SOCKS version 4: version 5 is asked for".to_owned() }
}

/// Base64 (RFC 4648, section 4).
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let bits = group.iter().fold(0, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - group.len()));
        for digit in 0..4 {
            let is_filled = digit <= group.len();
            text.push(if is_filled { DIGITS[(bits >> (18 - 6 * digit) & 63) as usize] as char } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Code;

    fn push(filter: &mut Filter, input: &[u8]) -> (Result<usize, Refusal>, Out) {
        let mut out = Out::default();
        (filter.push_request(input, &mut out), out)
    }

    fn authority(host: &str, port: u16) -> Authority {
        Authority::new(host, port).expect("a host and a port")
    }

    #[test]
    fn one_port_speaks_socks_and_http() {
        let mut filter = Filter::proxy(Arc::default());
        let (used, out) = push(&mut filter, b"\x05\x01\x00\x05\x01\x00\x03\x01a\x00\x50GET");
        assert_eq!((used, out.to_client.rest()), (Ok(11), &[5, 0][..]));
        assert_eq!(filter.wanted(), Some((&authority("a", 80), true)));
        let mut out = Out::default();
        filter.connected(&mut out).expect("a stream");
        assert_eq!((out.to_client.rest(), filter.is_raw()), (&Reply::Succeeded.bytes()[..], true));

        let mut filter = Filter::proxy(Arc::default());
        let (used, _) = push(&mut filter, b"CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\nearly");
        assert_eq!((used, filter.wanted()), (Ok(37), Some((&authority("a", 80), true))));
        let mut out = Out::default();
        filter.connected(&mut out).expect("a stream");
        assert!(out.to_client.rest().starts_with(b"HTTP/1.1 200 ") && out.to_server.is_empty() && filter.is_raw());
    }

    #[test]
    fn other_first_bytes_are_refused_at_once() {
        for (bytes, answer) in [
            (&b"\x04\x01\x00\x50\x7f\x00\x00\x01\x00"[..], &b"\x00\x5b"[..]),
            (b"\x16\x03\x01", b"HTTP/1.1 400 "),
            (b"\0", b"HTTP/1.1 400 "),
            (b"ssh", b"HTTP/1.1 400 "),
        ] {
            let (used, _) = push(&mut Filter::proxy(Arc::default()), bytes);
            let refusal = used.expect_err("a refusal");
            assert!(refusal.bytes.starts_with(answer), "{bytes:?}: {refusal:?}");
        }
    }

    #[test]
    fn a_proxy_with_users_asks_in_both_languages() {
        let access = Arc::new(Access::new(vec!["ann:secret".into()]));
        let ask = |header: &str| {
            let head = format!("CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n{header}\r\n");
            push(&mut Filter::proxy(access.clone()), head.as_bytes()).0
        };
        assert!(ask("Proxy-Authorization: Basic YW5uOnNlY3JldA==\r\n").is_ok());
        assert!(ask("proxy-authorization: basic  YW5uOnNlY3JldA==\r\n").is_ok());
        for header in
            ["", "Proxy-Authorization: Basic YW5uOnNlY3JldB==\r\n", "Proxy-Authorization: YW5uOnNlY3JldA==\r\n"]
        {
            let refusal = ask(header).expect_err("a refusal");
            assert!(refusal.bytes.starts_with(b"HTTP/1.1 407 "), "{header}");
        }
        assert_eq!(push(&mut Filter::proxy(access), &[5, 1, 2]).1.to_client.rest(), [5, 2]);
    }

    #[test]
    fn a_server_that_is_not_reached_is_told_in_the_clients_language() {
        let failure = Failure::new(Code::TrustRequired, "a is not trusted").hint("pilotctl handshake a");
        let mut filter = Filter::proxy(Arc::default());
        let _ = push(&mut filter, b"\x05\x01\x00\x05\x01\x00\x03\x01a\x00\x50");
        assert_eq!(filter.unreached(&failure).bytes[..2], [5, 2]);
        let mut filter = Filter::proxy(Arc::default());
        let _ = push(&mut filter, b"GET http://a/ HTTP/1.1\r\nHost: a\r\n\r\n");
        let text = String::from_utf8(filter.unreached(&failure).bytes).expect("text");
        assert!(
            text.starts_with("HTTP/1.1 403 ") && text.ends_with("a is not trusted (pilotctl handshake a)\n"),
            "{text}"
        );
    }

    #[test]
    fn base64_fills_its_last_group() {
        for (bytes, text) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy"), ("\u{3ff}", "z78=")]
        {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
    }
}
