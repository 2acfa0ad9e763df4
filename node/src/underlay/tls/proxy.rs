//! Owns the settings of a proxy through which a node reaches its rendezvous.

use crate::host::RendezvousHost;
use std::net::IpAddr;

/// An HTTP proxy that knows CONNECT.
#[derive(Clone, PartialEq, Eq)]
pub struct Proxy {
    /// Where it is.
    pub at: RendezvousHost,
    /// `user:password`, for basic authentication.
    credentials: Option<String>,
}

/// Port of a proxy with a URL that names none. Source: that of `http`.
const DEFAULT_PORT: u16 = 80;

impl Proxy {
    pub(crate) fn credentials(&self) -> Option<&str> {
        self.credentials.as_deref()
    }

    /// The proxy of this process' environment, which may have a password, where that is at the same place; else this one.
    #[must_use]
    pub fn or_of_environment(self) -> Self {
        match Self::of_environment() {
            Some(Ok(own)) if own.at == self.at => own,
            _ => self,
        }
    }

    /// The proxy that `HTTPS_PROXY` or `https_proxy` names; `None` without one.
    ///
    /// # Errors
    /// As of reading a text.
    pub(crate) fn of_environment() -> Option<Result<Self, String>> {
        let text = ["HTTPS_PROXY", "https_proxy"].into_iter().find_map(set)?;
        Some(text.parse())
    }
}

/// The value of a variable that is set to something.
fn set(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|text| !text.is_empty())
}

/// True when `NO_PROXY` or `no_proxy` says that this host is reached without a proxy.
pub(crate) fn is_exempt(host: &str) -> bool {
    ["NO_PROXY", "no_proxy"].into_iter().find_map(set).is_some_and(|list| is_named(host, &list))
}

/// True when a list of names, of their ends, of addresses and of networks has this host; `*` is every host.
fn is_named(host: &str, list: &str) -> bool {
    let ip: Option<IpAddr> = host.parse().ok();
    list.split(',').map(str::trim).filter(|entry| !entry.is_empty()).any(|entry| match ip {
        _ if entry == "*" => true,
        Some(ip) => is_within(ip, entry),
        None => {
            let (host, entry) = (host.to_ascii_lowercase(), entry.to_ascii_lowercase());
            let end = entry.trim_start_matches("*").trim_start_matches('.');
            host.strip_suffix(end).is_some_and(|begin| begin.is_empty() || begin.ends_with('.'))
        }
    })
}

/// True for an address that is `network`, or within it (`address/bits`).
fn is_within(ip: IpAddr, network: &str) -> bool {
    let (net, bits) = network.split_once('/').map_or((network, None), |(net, bits)| (net, bits.parse::<u32>().ok()));
    let differ = |width: u32, difference: u128| difference.checked_shr(width - bits.unwrap_or(width).min(width));
    let difference = match (ip, net.trim_matches(['[', ']']).parse()) {
        (IpAddr::V4(ip), Ok(IpAddr::V4(net))) => differ(32, (ip.to_bits() ^ net.to_bits()).into()),
        (IpAddr::V6(ip), Ok(IpAddr::V6(net))) => differ(128, ip.to_bits() ^ net.to_bits()),
        _ => return false,
    };
    difference.unwrap_or(0) == 0
}

impl std::str::FromStr for Proxy {
    type Err = String;

    /// Reads `http://[user:password@]host[:port]`. Characters of user and password may be written as `%41`.
    fn from_str(text: &str) -> Result<Self, String> {
        const FORM: &str = "a proxy is given as http://[USER:PASSWORD@]HOST[:PORT]";
        let rest = match text.split_once("://") {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => rest,
            Some(_) => return Err(format!("{FORM}; others than http are not supported")),
            None => text,
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (credentials, place) = match rest.rsplit_once('@') {
            Some((credentials, place)) => (Some(plain(credentials).ok_or(FORM)?), place),
            None => (None, rest),
        };
        let at = RendezvousHost::parse(place, DEFAULT_PORT).ok_or(FORM)?;
        Ok(Self { at, credentials })
    }
}

/// A text without its `%41`; `None` for one that is malformed or has line ends.
fn plain(text: &str) -> Option<String> {
    let (mut out, mut bytes) = (Vec::new(), text.bytes());
    while let Some(byte) = bytes.next() {
        let mut digit = || char::from(bytes.next()?).to_digit(16);
        out.push(if byte == b'%' { (digit()? << 4 | digit()?) as u8 } else { byte });
    }
    String::from_utf8(out).ok().filter(|text| !text.contains(['\r', '\n']))
}

/// Without the password.
impl std::fmt::Debug for Proxy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.at.name, self.at.port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read_and_malformed_ones_refused() {
        let read = |text: &str| {
            let proxy: Proxy = text.parse().map_err(drop)?;
            Ok::<_, ()>((proxy.at.name.clone(), proxy.at.port, proxy.credentials().map(str::to_owned)))
        };
        let at = |name: &str, port, credentials: Option<&str>| Ok((name.into(), port, credentials.map(Into::into)));
        assert_eq!(read("http://proxy.example:3128"), at("proxy.example", 3128, None));
        assert_eq!(read("HTTP://proxy/"), at("proxy", 80, None));
        assert_eq!(read("10.0.0.1:8080"), at("10.0.0.1", 8080, None));
        assert_eq!(read("http://[2001:db8::1]"), at("2001:db8::1", 80, None));
        assert_eq!(read("http://u:p%40ss@[::1]:7"), at("::1", 7, Some("u:p@ss")));
        for bad in ["", "http://", "socks5://a:1", "https://a:1", "http://a:0", "http://a b", "http://u:%4@a", "a:1/x"]
        {
            assert_eq!(read(bad), Err(()), "{bad}");
        }
        assert_eq!(read("http://u:%0d%0aX@a"), Err(()), "no lines of HTTP come in by a password");
        assert_eq!(format!("{:?}", "http://u:secret@a:1".parse::<Proxy>()), "Ok(a:1)");
    }

    #[test]
    fn hosts_that_need_no_proxy_are_known() {
        let list = " example.com, .internal ,*.corp,192.0.2.1,10.0.0.0/8,[2001:db8::]/32";
        for host in ["example.com", "a.Example.com", "a.internal", "x.corp", "192.0.2.1", "10.9.9.9", "2001:db8::5"] {
            assert!(is_named(host, list), "{host}");
        }
        for host in ["notexample.com", "example.org", "192.0.2.2", "11.0.0.1", "2001:db9::5"] {
            assert!(!is_named(host, list), "{host}");
        }
        assert!(is_named("any", "a,*") && !is_named("any", "") && is_named("9.9.9.9", "0.0.0.0/0"));
    }
}
