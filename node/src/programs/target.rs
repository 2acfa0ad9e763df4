//! Owns the name of a program that listens on this machine or near it, and how peers' streams find it.

use crate::failure::{Code, Failure};
use std::fmt;
use std::path::PathBuf;

/// The address of a program, as its owner writes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// A host, by name or address without brackets, and a port.
    Tcp(String, u16),
    Unix(PathBuf),
}

/// Longest name of a host. Unit: bytes. Source: RFC 1035 §2.3.4.
const HOST_LEN_MAX: usize = 255;

impl Target {
    /// Reads `PORT`, `HOST:PORT` or `unix:PATH`. Without a host, the program is on the loopback address of IPv4.
    ///
    /// # Errors
    /// `InvalidArgument`, also for port 0, for a host with characters that no name has, and for a path that does not begin
    /// with `/`.
    pub(super) fn parse(text: &str) -> Result<Self, Failure> {
        let invalid = |why: String| Failure::new(Code::InvalidArgument, why).hint("PORT, HOST:PORT or unix:/PATH");
        if let Some(path) = text.strip_prefix("unix:") {
            return match PathBuf::from(path) {
                path if path.is_absolute() => Ok(Self::Unix(path)),
                _ => Err(invalid(format!("{path:?} is not the whole path of a socket"))),
            };
        }
        let (host, port) = text.rsplit_once(':').unwrap_or(("127.0.0.1", text));
        let port =
            port.parse::<u16>().ok().filter(|p| *p > 0).ok_or_else(|| invalid(format!("{port:?} is no port")))?;
        let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
        let is_v6 = bare.is_some_and(|h| h.parse::<std::net::Ipv6Addr>().is_ok());
        let is_name = |h: &str| h.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b));
        if is_v6 || (!host.is_empty() && host.len() <= HOST_LEN_MAX && is_name(host)) {
            return Ok(Self::Tcp(bare.unwrap_or(host).into(), port));
        }
        Err(invalid(format!("{host:?} is no host")))
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(host, port) if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp(host, port) => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_ports_hosts_and_paths() {
        let tcp = |host: &str, port| Target::Tcp(host.into(), port);
        for (text, target) in [
            ("8080", tcp("127.0.0.1", 8080)),
            ("localhost:8080", tcp("localhost", 8080)),
            ("db.example:5432", tcp("db.example", 5432)),
            ("[::1]:1", tcp("::1", 1)),
            ("unix:/run/x.sock", Target::Unix("/run/x.sock".into())),
        ] {
            let parsed = Target::parse(text).expect(text);
            assert_eq!(parsed, target, "{text}");
            assert_eq!(Target::parse(&parsed.to_string()), Ok(target), "{text}");
        }
        let long = format!("{}:80", "a".repeat(HOST_LEN_MAX + 1));
        for text in
            ["", "0", "65536", "a:0", "a b:80", "a\n:80", ":80", "::1:80", "[a]:80", "unix:a", "http://a:80", &long]
        {
            assert_eq!(Target::parse(text).expect_err(text).code, Code::InvalidArgument, "{text}");
        }
    }
}
