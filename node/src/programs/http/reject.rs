//! Owns the refusal of HTTP: a status and a line of text, as the answer that a client reads.

use crate::failure::{Code, Failure};

/// The refusal of a request or of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reject {
    /// The status of the answer, 400 to 505.
    pub(crate) status: u16,
    /// The reason, for people.
    pub(crate) text: String,
}

impl Reject {
    pub(crate) fn new(status: u16, text: &str) -> Self {
        debug_assert!((400..=505).contains(&status));
        Self { status, text: text.to_owned() }
    }

    /// A request that two readers could understand differently, or none.
    pub(crate) fn bad(text: &str) -> Self {
        Self::new(400, text)
    }

    /// The answer to a client that cannot have its server.
    pub(crate) fn unreached(failure: &Failure) -> Self {
        let status = match failure.code {
            Code::TrustRequired | Code::NotFound | Code::Ambiguous => 403,
            Code::InvalidArgument => 400,
            Code::Timeout => 504,
            _ => 502,
        };
        Self::new(status, &failure.to_string())
    }

    /// The answer, after which the connection ends.
    pub(crate) fn answer(&self) -> Vec<u8> {
        let reason = match self.status {
            403 => "Forbidden",
            407 => "Proxy Authentication Required",
            408 => "Request Timeout",
            431 => "Request Header Fields Too Large",
            502 => "Bad Gateway",
            504 => "Gateway Timeout",
            505 => "HTTP Version Not Supported",
            _ => "Bad Request",
        };
        let asks = if self.status == 407 { "Proxy-Authenticate: Basic realm=\"pilot\"\r\n" } else { "" };
        let (status, text) = (self.status, &self.text);
        let len = text.len() + 1;
        format!(
            "HTTP/1.1 {status} {reason}\r\nContent-Type: text/plain; charset=utf-8\r\n{asks}Content-Length: {len}\r\n\
             Connection: close\r\n\r\n{text}\n"
        )
        .into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_becomes_the_status_that_fits() {
        for (code, status) in [
            (Code::TrustRequired, 403),
            (Code::NotFound, 403),
            (Code::ConnectionRefused, 502),
            (Code::Unreachable, 502),
            (Code::Timeout, 504),
            (Code::InvalidArgument, 400),
        ] {
            let reject = Reject::unreached(&Failure::new(code, "reason").hint("next"));
            assert_eq!((reject.status, reject.text.as_str()), (status, "reason (next)"));
        }
    }

    #[test]
    fn an_answer_has_its_length_and_asks_for_what_is_missing() {
        let text = String::from_utf8(Reject::new(407, "a password is asked for").answer()).expect("text");
        assert!(text.starts_with("HTTP/1.1 407 Proxy Authentication Required\r\n"), "{text}");
        assert!(text.contains("\r\nProxy-Authenticate: Basic realm=\"pilot\"\r\n"), "{text}");
        assert!(text.contains("\r\nContent-Length: 24\r\n"), "{text}");
        assert!(text.ends_with("\r\n\r\na password is asked for\n"), "{text}");
    }
}
