//! Owns the texts of UPnP that a mapping needs (UPnP Device Architecture 1.1, WANIPConnection:1): the search, the description of
//! the gateway, requests and answers. What comes from a gateway is searched for a few names and otherwise not looked at.

use httparse::{EMPTY_HEADER, Response, Status};
use std::net::{IpAddr, SocketAddr};

/// Most headers of an answer; with more it counts as none. Source: own choice, gateways send ten.
const HEADERS_MAX: usize = 32;
/// Services that map ports, the newest first.
const SERVICES: [&str; 3] = [
    "urn:schemas-upnp-org:service:WANIPConnection:2",
    "urn:schemas-upnp-org:service:WANIPConnection:1",
    "urn:schemas-upnp-org:service:WANPPPConnection:1",
];
/// The error of a service for a port that is another machine's already. Source: WANIPConnection:1, 2.4.16.
pub(super) const CONFLICT: u32 = 718;

/// Where the service of a gateway takes requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Service {
    pub(super) at: SocketAddr,
    pub(super) path: String,
    kind: &'static str,
}

/// The question which gateways are there.
pub(super) fn search(to: SocketAddr) -> String {
    format!(
        "M-SEARCH * HTTP/1.1\r\nHOST: {to}\r\nMAN: \"ssdp:discover\"\r\nMX: 1\r\n\
         ST: urn:schemas-upnp-org:device:InternetGatewayDevice:1\r\n\r\n"
    )
}

/// Where the description of the gateway at `ip` is that has answered the question; `None` for anything else. A description
/// elsewhere is none.
pub(super) fn location(answer: &[u8], ip: IpAddr) -> Option<(SocketAddr, String)> {
    let (head, _) = accepted(answer)?;
    let url = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("location").then_some(value.trim())
    })?;
    let (host, path) = split(url)?;
    let at = if host.contains(':') { host.parse().ok()? } else { SocketAddr::new(host.parse().ok()?, 80) };
    (at.ip() == ip && at.port() != 0).then(|| (at, path.to_owned()))
}

/// The host of a URL of HTTP, and its path.
fn split(url: &str) -> Option<(&str, &str)> {
    let rest = url.strip_prefix("http://")?;
    let at = rest.find('/')?;
    let is_plain = |c: char| c.is_ascii_graphic() && c != '#';
    rest[at..].chars().all(is_plain).then(|| rest.split_at(at))
}

/// A request of HTTP.
pub(super) fn request(at: SocketAddr, path: &str, action: Option<(&Service, &str, String)>) -> String {
    let (method, fields, body) = match action {
        None => ("GET", String::new(), String::new()),
        Some((service, action, arguments)) => {
            let kind = service.kind;
            let body = format!(
                "<?xml version=\"1.0\"?>\r\n<s:Envelope xmlns:s=\"http://schemas.xmlsoap.org/soap/envelope/\" \
                 s:encodingStyle=\"http://schemas.xmlsoap.org/soap/encoding/\"><s:Body><u:{action} xmlns:u=\"{kind}\">\
                 {arguments}</u:{action}></s:Body></s:Envelope>\r\n"
            );
            let fields = format!("Content-Type: text/xml; charset=\"utf-8\"\r\nSOAPAction: \"{kind}#{action}\"\r\n");
            ("POST", fields, body)
        }
    };
    // HTTP/1.0: the answer ends with the connection and has no chunks.
    format!(
        "{method} {path} HTTP/1.0\r\nHost: {at}\r\n{fields}Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
}

/// The length of an answer with its head, once that is whole and says so.
pub(super) fn len(answer: &[u8]) -> Option<usize> {
    let mut headers = [EMPTY_HEADER; HEADERS_MAX];
    let mut response = Response::new(&mut headers);
    let Ok(Status::Complete(head)) = response.parse(answer) else { return None };
    let length = response.headers.iter().find(|header| header.name.eq_ignore_ascii_case("content-length"))?;
    head.checked_add(std::str::from_utf8(length.value).ok()?.trim().parse().ok()?)
}

/// Head and body of an answer of HTTP that is a success or, as services refuse, an error of the server.
fn answered(answer: &[u8]) -> Option<(u16, &str, &str)> {
    let mut headers = [EMPTY_HEADER; HEADERS_MAX];
    let mut response = Response::new(&mut headers);
    let Ok(Status::Complete(head)) = response.parse(answer) else { return None };
    let (head, body) = answer.split_at_checked(head)?;
    Some((response.code?, std::str::from_utf8(head).ok()?, std::str::from_utf8(body).ok()?))
}

fn accepted(answer: &[u8]) -> Option<(&str, &str)> {
    answered(answer).filter(|(code, ..)| *code == 200).map(|(_, head, body)| (head, body))
}

/// The service that maps ports in the description of the gateway at `at`. One of another machine is none.
pub(super) fn service(answer: &[u8], at: SocketAddr) -> Option<Service> {
    let (_, description) = accepted(answer)?;
    SERVICES.iter().find_map(|kind| {
        let of_kind = |block: &&str| value(block, "serviceType") == Some(kind);
        let block = description.split("<service>").skip(1).find(of_kind)?;
        let url = value(block, "controlURL")?;
        let path = match split(url) {
            Some((host, path)) => {
                (host == at.to_string() || at.port() == 80 && host == at.ip().to_string()).then_some(path)?
            }
            None => url,
        };
        let is_plain = !path.is_empty() && path.chars().all(|c| c.is_ascii_graphic() && !"<>#\\".contains(c));
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        (is_plain && !path.starts_with("//") && !path.contains("://")).then_some(Service { at, path, kind })
    })
}

/// The text of the first element of this name.
fn value<'a>(xml: &'a str, name: &str) -> Option<&'a str> {
    let begin = xml.match_indices(name).find_map(|(at, _)| {
        let is_begun = matches!(xml[..at].chars().next_back(), Some('<' | ':'));
        let rest = xml[at + name.len()..].strip_prefix('>')?;
        is_begun.then_some(rest)
    })?;
    Some(begin.split('<').next()?.trim())
}

/// The external address that a service tells.
pub(super) fn external_ip(answer: &[u8]) -> Option<IpAddr> {
    value(accepted(answer)?.1, "NewExternalIPAddress")?.parse().ok()
}

/// What a service says to a request without a result.
///
/// # Errors
/// The number of its error; 0 for an answer that is none.
pub(super) fn outcome(answer: &[u8], action: &str) -> Result<(), u32> {
    match answered(answer) {
        Some((200, _, body)) if body.contains(&format!("{action}Response")) => Ok(()),
        Some((_, _, body)) => Err(value(body, "errorCode").and_then(|code| code.parse().ok()).unwrap_or(0)),
        None => Err(0),
    }
}

/// The arguments of `AddPortMapping`.
pub(super) fn mapping(external: u16, client: SocketAddr, lifetime_s: u32) -> String {
    let (ip, internal) = (client.ip(), client.port());
    format!(
        "<NewRemoteHost></NewRemoteHost><NewExternalPort>{external}</NewExternalPort><NewProtocol>UDP</NewProtocol>\
         <NewInternalPort>{internal}</NewInternalPort><NewInternalClient>{ip}</NewInternalClient><NewEnabled>1</NewEnabled>\
         <NewPortMappingDescription>pilot</NewPortMappingDescription><NewLeaseDuration>{lifetime_s}</NewLeaseDuration>"
    )
}

/// The arguments of `DeletePortMapping`.
pub(super) fn no_mapping(external: u16) -> String {
    format!(
        "<NewRemoteHost></NewRemoteHost><NewExternalPort>{external}</NewExternalPort><NewProtocol>UDP</NewProtocol>"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at() -> SocketAddr {
        "192.168.1.1:5000".parse().expect("one")
    }

    fn found(url: &str) -> Option<(SocketAddr, String)> {
        location(format!("HTTP/1.1 200 OK\r\nST: x\r\nLocation: {url}\r\n\r\n").as_bytes(), at().ip())
    }

    fn described(kind: &str, url: &str) -> Option<Service> {
        let text = format!(
            "HTTP/1.0 200 OK\r\n\r\n<root><service><serviceType>urn:x:1</serviceType><controlURL>/no</controlURL></service>\
             <service>\n<serviceType>{kind}</serviceType>\n<controlURL>{url}</controlURL></service></root>"
        );
        service(text.as_bytes(), at())
    }

    #[test]
    fn a_description_is_taken_at_the_gateway_alone() {
        assert_eq!(found("http://192.168.1.1:5000/desc.xml?a=1"), Some((at(), "/desc.xml?a=1".into())));
        assert_eq!(found("http://192.168.1.1/d"), Some(("192.168.1.1:80".parse().expect("one"), "/d".into())));
        for bad in [
            "http://192.168.1.9:5000/d",
            "http://203.0.113.1/d",
            "https://192.168.1.1/d",
            "http://192.168.1.1:0/d",
            "http://192.168.1.1:5000",
            "http://a@192.168.1.1:5000/d",
            "http://192.168.1.1:5000/d e",
            "http://router/d",
            "",
        ] {
            assert_eq!(found(bad), None, "{bad}");
        }
        assert_eq!(location(b"HTTP/1.1 404 No\r\nLocation: http://192.168.1.1/d\r\n\r\n", at().ip()), None);
        assert_eq!(location(&[0xff; 100], at().ip()), None);
    }

    #[test]
    fn the_service_that_maps_ports_is_found_at_the_gateway_alone() {
        for (url, path) in [("/ctl", "/ctl"), ("ctl", "/ctl"), ("http://192.168.1.1:5000/ctl", "/ctl")] {
            let service = described(SERVICES[1], url).expect(url);
            assert_eq!((service.at, service.path.as_str(), service.kind), (at(), path, SERVICES[1]));
        }
        for url in ["http://192.168.1.9:5000/ctl", "http://192.168.1.1:5001/ctl", "//a/ctl", "/c tl", "", "/a\r\nb"] {
            assert_eq!(described(SERVICES[1], url), None, "{url}");
        }
        assert_eq!(described("urn:schemas-upnp-org:service:Layer3Forwarding:1", "/ctl"), None);
        assert_eq!(service(b"HTTP/1.0 302 Found\r\nLocation: http://192.168.1.9/\r\n\r\n", at()), None, "elsewhere");
        assert_eq!(service(b"HTTP/1.0 200 OK\r\n\r\n<html>login</html>", at()), None);
    }

    #[test]
    fn requests_and_answers_have_the_forms_of_the_service() {
        let service = described(SERVICES[0], "/ctl").expect("one");
        let client = "192.168.1.2:4000".parse().expect("one");
        let text = request(at(), "/ctl", Some((&service, "AddPortMapping", mapping(6000, client, 3600))));
        let (head, body) = text.split_once("\r\n\r\n").expect("a head");
        assert!(head.starts_with("POST /ctl HTTP/1.0\r\nHost: 192.168.1.1:5000\r\n"), "{head}");
        assert!(head.contains(&format!("SOAPAction: \"{}#AddPortMapping\"", SERVICES[0])), "{head}");
        assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())), "{head}");
        for (name, expected) in [
            ("NewExternalPort", "6000"),
            ("NewInternalPort", "4000"),
            ("NewInternalClient", "192.168.1.2"),
            ("NewLeaseDuration", "3600"),
            ("NewProtocol", "UDP"),
        ] {
            assert_eq!(value(body, name), Some(expected));
        }
        let ip = b"HTTP/1.1 200 OK\r\n\r\n<a><NewExternalIPAddress> 203.0.113.9 </NewExternalIPAddress></a>";
        assert_eq!(external_ip(ip), Some([203, 0, 113, 9].into()));
        assert_eq!(outcome(b"HTTP/1.1 200 OK\r\n\r\n<u:AddPortMappingResponse/>", "AddPortMapping"), Ok(()));
        let refused = b"HTTP/1.1 500 Error\r\n\r\n<s:Fault><errorCode>718</errorCode></s:Fault>";
        assert_eq!(outcome(refused, "AddPortMapping"), Err(CONFLICT));
        assert_eq!(outcome(b"HTTP/1.1 200 OK\r\n\r\n<html>", "AddPortMapping"), Err(0));
        assert_eq!(
            (len(b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nab"), len(b"HTTP/1.0 200 OK\r\n")),
            (Some(43), None)
        );
        assert_eq!(len(format!("HTTP/1.0 200 OK\r\nContent-Length: {}\r\n\r\n", usize::MAX).as_bytes()), None);
    }
}
