//! Owns SOCKS version 5 up to the opened stream (RFC 1928, RFC 1929): CONNECT to names and addresses, without a password or
//! with one.

use super::authority::Authority;
use crate::failure::Code;
use std::net::{Ipv4Addr, Ipv6Addr};

/// The first byte of SOCKS version 5.
pub(crate) const VERSION: u8 = 5;
/// Method: none.
const NO_AUTH: u8 = 0;
/// Method: user and password.
const PASSWORD: u8 = 2;
/// No method is acceptable.
const NO_METHOD: u8 = 0xff;
/// Version of the negotiation of a password (RFC 1929).
const PASSWORD_VERSION: u8 = 1;

/// The answer to a request (RFC 1928, section 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Reply {
    Succeeded = 0,
    Failed = 1,
    NotAllowed = 2,
    HostUnreachable = 4,
    Refused = 5,
    TimedOut = 6,
    NoSuchCommand = 7,
    NoSuchAddress = 8,
}

impl Reply {
    /// The reply to a client that cannot have its server.
    pub(crate) const fn unreached(code: Code) -> Self {
        match code {
            Code::TrustRequired | Code::NotFound | Code::Ambiguous => Self::NotAllowed,
            Code::Unreachable => Self::HostUnreachable,
            Code::ConnectionRefused => Self::Refused,
            Code::Timeout => Self::TimedOut,
            _ => Self::Failed,
        }
    }

    /// The reply as bytes. The address in it is that of no host: a stream of Pilot has none that a client could use.
    pub(crate) const fn bytes(self) -> [u8; 10] {
        [VERSION, self as u8, 0, 1, 0, 0, 0, 0, 0, 0]
    }
}

/// What a client's bytes mean.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// More bytes are needed.
    More,
    /// So many bytes were taken; these go back.
    Answer(usize, [u8; 2]),
    /// So many bytes were taken; a stream to this server is asked for.
    Wanted(usize, Authority),
    /// The connection ends with these bytes, and with this reason for the log.
    Refused(Vec<u8>, &'static str),
}

/// One client's negotiation.
#[derive(Debug, Default)]
pub(crate) enum Socks {
    #[default]
    Methods,
    Password,
    Request,
}

impl Socks {
    /// Reads the next message at the front of `input`. `passwords`: `user:password`, one of which is asked for; none when
    /// empty. Messages have at most 513 bytes, so that what is incomplete stays short.
    pub(crate) fn step(&mut self, input: &[u8], passwords: &[String]) -> Step {
        let read = match self {
            Self::Methods => self.methods(input, passwords),
            Self::Password => self.password(input, passwords),
            Self::Request => request(input),
        };
        read.unwrap_or(Step::More)
    }

    fn methods(&mut self, input: &[u8], passwords: &[String]) -> Option<Step> {
        if *input.first()? != VERSION {
            return Some(refused([VERSION, NO_METHOD], "not SOCKS version 5"));
        }
        let count = usize::from(*input.get(1)?);
        let methods = input.get(2..2 + count)?;
        let wanted = if passwords.is_empty() { NO_AUTH } else { PASSWORD };
        if !methods.contains(&wanted) {
            return Some(refused([VERSION, NO_METHOD], "the client offers no method that is accepted"));
        }
        *self = if passwords.is_empty() { Self::Request } else { Self::Password };
        Some(Step::Answer(2 + count, [VERSION, wanted]))
    }

    fn password(&mut self, input: &[u8], passwords: &[String]) -> Option<Step> {
        if *input.first()? != PASSWORD_VERSION {
            return Some(refused([PASSWORD_VERSION, 1], "not a user and a password"));
        }
        let user_len = usize::from(*input.get(1)?);
        let user = input.get(2..2 + user_len)?;
        let len = usize::from(*input.get(2 + user_len)?);
        let password = input.get(3 + user_len..3 + user_len + len)?;
        let given = [user, b":", password].concat();
        let is_known = passwords.iter().fold(false, |known, own| known | same(own.as_bytes(), &given));
        // A user with a colon in its name would be another user with a colon in its password.
        if !is_known || user.contains(&b':') {
            return Some(refused([PASSWORD_VERSION, 1], "wrong user or password"));
        }
        *self = Self::Request;
        Some(Step::Answer(3 + user_len + len, [PASSWORD_VERSION, 0]))
    }
}

/// Compares in a time that depends on the lengths alone.
pub(crate) fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |different, (a, b)| different | (a ^ b)) == 0
}

fn refused(bytes: [u8; 2], why: &'static str) -> Step {
    Step::Refused(bytes.to_vec(), why)
}

fn request(input: &[u8]) -> Option<Step> {
    let failed = |reply: Reply, why| Some(Step::Refused(reply.bytes().to_vec(), why));
    if *input.first()? != VERSION {
        return failed(Reply::Failed, "not SOCKS version 5");
    }
    let [_, command, reserved, kind, rest @ ..] = input else { return None };
    if *command != 1 {
        return failed(Reply::NoSuchCommand, "only CONNECT is understood");
    }
    if *reserved != 0 {
        return failed(Reply::Failed, "malformed request");
    }
    let (host, len) = match kind {
        1 => (Ipv4Addr::from(*rest.first_chunk::<4>()?).to_string(), 4),
        4 => (Ipv6Addr::from(*rest.first_chunk::<16>()?).to_string(), 16),
        3 => {
            let len = usize::from(*rest.first()?);
            let name = rest.get(1..1 + len)?;
            (std::str::from_utf8(name).unwrap_or_default().to_owned(), 1 + len)
        }
        _ => return failed(Reply::NoSuchAddress, "an address that is neither a name nor IPv4 nor IPv6"),
    };
    let port = u16::from_be_bytes(*rest.get(len..)?.first_chunk()?);
    match Authority::new(&host, port) {
        Some(to) => Some(Step::Wanted(4 + len + 2, to)),
        None => failed(Reply::NotAllowed, "no valid host and port"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(user: &[u8], password: &[u8]) -> Vec<u8> {
        [&[1, user.len() as u8], user, &[password.len() as u8], password].concat()
    }

    /// Gives bytes one after another, as a slow client does; all but the last must say nothing.
    fn drip(socks: &mut Socks, bytes: &[u8], passwords: &[String]) -> Step {
        for len in 0..bytes.len() {
            assert_eq!(socks.step(&bytes[..len], passwords), Step::More, "{len} of {bytes:?}");
        }
        socks.step(bytes, passwords)
    }

    #[test]
    fn names_and_addresses_are_asked_for() {
        let name = [&[5, 1, 0, 3, 11][..], b"worker-node", &[0x1f, 0x90]].concat();
        let v6 =
            [&[5, 1, 0, 4][..], &"fd50:494c:4f54::1:f00d".parse::<Ipv6Addr>().expect("address").octets(), &[0, 80]]
                .concat();
        for (bytes, host, port) in [
            (name, "worker-node", 8080),
            (vec![5, 1, 0, 1, 127, 0, 0, 1, 0, 1], "127.0.0.1", 1),
            (v6, "fd50:494c:4f54::1:f00d", 80),
        ] {
            let mut socks = Socks::default();
            assert_eq!(drip(&mut socks, &[5, 2, 2, 0], &[]), Step::Answer(4, [5, 0]));
            let to = Authority { host: host.into(), port };
            assert_eq!(drip(&mut socks, &bytes, &[]), Step::Wanted(bytes.len(), to.clone()));
            let more = [&bytes[..], b"early"].concat();
            assert_eq!(socks.step(&more, &[]), Step::Wanted(bytes.len(), to), "bytes after the request stay");
        }
    }

    #[test]
    fn a_password_is_asked_for_and_compared_whole() {
        let passwords = ["ann:secret".to_owned(), "bob:x:y".to_owned()];
        for (bytes, is_right) in [
            (user(b"ann", b"secret"), true),
            (user(b"bob", b"x:y"), true),
            (user(b"bob:x", b"y"), false),
            (user(b"ann", b"secret2"), false),
            (user(b"ann", b""), false),
            (user(b"", b""), false),
        ] {
            let mut socks = Socks::default();
            assert_eq!(drip(&mut socks, &[5, 2, 0, 2], &passwords), Step::Answer(4, [5, 2]));
            let step = drip(&mut socks, &bytes, &passwords);
            let right = Step::Answer(bytes.len(), [1, 0]);
            assert!(
                if is_right { step == right } else { matches!(&step, Step::Refused(out, _) if *out == [1, 1]) },
                "{step:?}"
            );
        }
        assert!(matches!(Socks::default().step(&[5, 1, 0], &passwords), Step::Refused(out, _) if out == [5, 0xff]));
        assert!(matches!(Socks::default().step(&[5, 1, 2], &[]), Step::Refused(out, _) if out == [5, 0xff]));
    }

    #[test]
    fn malformed_requests_get_the_code_that_says_so() {
        let name = |name: &[u8], port: [u8; 2]| [&[5, 1, 0, 3, name.len() as u8], name, &port].concat();
        for (bytes, code) in [
            (vec![5, 2, 0, 1, 0, 0, 0, 0, 0, 1], 7),
            (vec![5, 3, 0, 1, 0, 0, 0, 0, 0, 1], 7),
            (vec![5, 1, 0, 2, 0], 8),
            (vec![5, 1, 1, 1, 0, 0, 0, 0, 0, 1], 1),
            (vec![4, 1, 0, 1, 0, 0, 0, 0, 0, 1], 1),
            (name(b"a", [0, 0]), 2),
            (name(b"", [0, 80]), 2),
            (name(b"a\0b", [0, 80]), 2),
            (name(b"a\r\nb", [0, 80]), 2),
            (name(b"\xff\xfe", [0, 80]), 2),
        ] {
            let mut socks = Socks::Request;
            let step = socks.step(&bytes, &[]);
            assert!(
                matches!(&step, Step::Refused(out, _) if out[..2] == [5, code] && out.len() == 10),
                "{bytes:?}: {step:?}"
            );
        }
    }

    #[test]
    fn failures_have_codes() {
        for (code, reply) in [
            (Code::TrustRequired, 2),
            (Code::NotFound, 2),
            (Code::Unreachable, 4),
            (Code::ConnectionRefused, 5),
            (Code::Timeout, 6),
            (Code::Internal, 1),
        ] {
            assert_eq!(Reply::unreached(code).bytes()[1], reply);
        }
    }
}
