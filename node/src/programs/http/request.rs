//! Owns the rewriting of a request's head: for a server behind `expose --http`, and for a server behind the proxy.

use super::body::Body;
use super::head;
use super::reject::Reject;
use crate::programs::authority::Authority;
use crate::programs::socks::same;
use httparse::Request;

/// A server behind `expose --http`, as its requests are rewritten for one peer.
#[derive(Debug)]
pub(crate) struct Exposed {
    /// The server, as its Host says.
    host: String,
    /// The lines that tell the peer.
    peer: String,
    /// The agent's card is rewritten to the name that the caller used.
    a2a: bool,
}

/// The peer that a server is told of.
#[derive(Debug)]
pub(crate) struct Peer<'a> {
    pub(crate) name: &'a str,
    pub(crate) address: &'a str,
    pub(crate) fingerprint: &'a str,
}

impl Exposed {
    /// `host`: the server's host and port.
    pub(crate) fn new(host: String, peer: &Peer, a2a: bool) -> Self {
        let Peer { name, address, fingerprint } = peer;
        let peer =
            format!("Pilot-Peer: {name}\r\nPilot-Peer-Address: {address}\r\nPilot-Peer-Fingerprint: {fingerprint}\r\n");
        Self { host, peer, a2a }
    }
}

/// The kind of a request, on which the end of its answer depends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Plain,
    /// The answer has no body.
    Head,
    /// The connection is no HTTP any more when the answer is 2xx.
    Connect,
    /// The connection is no HTTP any more when the answer is 101.
    Upgrade,
    /// For an agent's card, by the scheme and authority that its URLs shall have.
    Card(String),
}

impl Kind {
    /// True when the answer decides how the following bytes are read.
    pub(super) const fn decides(&self) -> bool {
        matches!(self, Self::Connect | Self::Upgrade)
    }
}

/// What a request means for the rest of its connection.
pub(super) type Meaning = (Body, Kind);

/// The paths of an agent's card, the second for agents of older revisions.
const CARDS: [&str; 2] = ["/.well-known/agent-card.json", "/.well-known/agent.json"];
/// Headers that say where a request ends and for which server it is. They may not be named as headers of one hop.
const FRAMING: [&str; 4] = ["content-length", "transfer-encoding", "host", "x-forwarded-host"];

/// How the protocols begin that carry HTTP: `h2c`, `h3`, `HTTP/2.0`, `TLS/1.0`.
const CARRIERS: [&[u8]; 4] = [b"h2", b"h3", b"ht", b"tl"];

/// A head that was read, with what both ways of rewriting need.
struct Parsed<'h, 'b> {
    request: Request<'h, 'b>,
    method: &'b str,
    path: &'b str,
    host: Option<&'b [u8]>,
    upgrade: Upgrade,
}

/// What a request says about other protocols on its connection.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Upgrade {
    No,
    Wanted,
    /// To a protocol that carries HTTP with headers that could not be rewritten. The server is not told of it.
    ToHttp,
}

fn parse<'h, 'b>(bytes: &'b [u8], room: &'h mut head::Room<'b>) -> Result<Parsed<'h, 'b>, Reject> {
    let request = head::request(bytes, room)?;
    let headers = &*request.headers;
    let (method, path) = (request.method.unwrap_or_default(), request.path.unwrap_or_default());
    let mut hosts = headers.iter().filter(|header| header.name.eq_ignore_ascii_case("host")).map(|header| header.value);
    let host = hosts.next();
    if hosts.next().is_some() || (host.is_none() && request.version == Some(1)) {
        return Err(Reject::bad("a request has one Host"));
    }
    let is_hidden = |token: &[u8]| {
        head::is_peer_header(token) || FRAMING.iter().any(|name| token.eq_ignore_ascii_case(name.as_bytes()))
    };
    if head::tokens(headers, "connection").any(is_hidden) {
        return Err(Reject::bad("Connection names a header that belongs to the whole way"));
    }
    let names_http = |token: &[u8]| {
        let start = token.get(..2).unwrap_or_default();
        CARRIERS.iter().any(|carrier| start.eq_ignore_ascii_case(carrier))
    };
    let upgrade = if head::tokens(headers, "upgrade").any(names_http) {
        Upgrade::ToHttp
    } else if head::has_token(headers, "connection", "upgrade") && head::values(headers, "upgrade").next().is_some() {
        Upgrade::Wanted
    } else {
        Upgrade::No
    };
    Ok(Parsed { method, path, host, upgrade, request })
}

impl Parsed<'_, '_> {
    fn kind(&self) -> Kind {
        match self.method {
            "HEAD" => Kind::Head,
            "CONNECT" => Kind::Connect,
            _ if self.upgrade == Upgrade::Wanted => Kind::Upgrade,
            _ => Kind::Plain,
        }
    }

    /// The request's line with this path.
    fn line(&self, path: &str, out: &mut Vec<u8>) {
        out.extend_from_slice(self.method.as_bytes());
        out.push(b' ');
        if path.starts_with('?') || path.is_empty() {
            out.push(b'/');
        }
        out.extend_from_slice(path.as_bytes());
        out.extend_from_slice(if self.request.version == Some(1) { b" HTTP/1.1\r\n" } else { b" HTTP/1.0\r\n" });
    }
}

/// The authority and the rest of an absolute URL with one of these schemes.
fn absolute<'a>(path: &'a str, schemes: &[&str]) -> Option<(&'a str, &'a str)> {
    let (scheme, rest) = path.split_once("://")?;
    schemes.iter().find(|known| known.eq_ignore_ascii_case(scheme))?;
    Some(rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len())))
}

fn line(name: &str, value: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// The lines of headers of a whole head.
fn header_lines(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    bytes.split_inclusive(|byte| *byte == b'\n').skip(1).filter(|line| line.len() > 2)
}

/// Rewrites a head for a server behind `expose --http`.
pub(super) fn expose(bytes: &[u8], server: &Exposed, out: &mut Vec<u8>) -> Result<Meaning, Reject> {
    let mut room = head::room();
    let parsed = parse(bytes, &mut room)?;
    let body = Body::after_request(&parsed.request)?;
    let headers = &*parsed.request.headers;
    let (host, path) = match absolute(parsed.path, &["http", "https"]) {
        Some((authority, path)) => (authority.as_bytes(), path),
        None => (parsed.host.unwrap_or_default(), parsed.path),
    };
    let outer = head::values(headers, "x-forwarded-host").next();
    let is_card = server.a2a && parsed.method == "GET" && {
        let path = path.split(['?', '#']).next().unwrap_or_default();
        CARDS.iter().any(|card| path.ends_with(card))
    };
    let kind = match base(outer.unwrap_or(host), headers) {
        Some(base) if is_card => Kind::Card(base),
        _ => parsed.kind(),
    };

    parsed.line(path, out);
    let mut has_host = false;
    for header in header_lines(bytes) {
        let is_dropped = head::is_peer_header(head::name_of(header))
            || (matches!(kind, Kind::Card(_)) && head::is_named(header, &["accept-encoding", "range", "if-range"]))
            || (parsed.upgrade == Upgrade::ToHttp && head::is_named(header, &["upgrade", "http2-settings"]));
        if head::is_named(header, &["host"]) {
            line("Host", server.host.as_bytes(), out);
            has_host = true;
        } else if !is_dropped {
            out.extend_from_slice(header);
        }
    }
    if !has_host {
        line("Host", server.host.as_bytes(), out);
    }
    if outer.is_none() && !host.is_empty() {
        line("X-Forwarded-Host", host, out);
    }
    out.extend_from_slice(server.peer.as_bytes());
    out.extend_from_slice(b"\r\n");
    Ok((body, kind))
}

/// The scheme and authority that a caller used, if they can stand in a URL.
fn base(host: &[u8], headers: &[httparse::Header]) -> Option<String> {
    let host = std::str::from_utf8(host).ok()?;
    Authority::parse(host, Some(80))?;
    let is_https = head::has_token(headers, "x-forwarded-proto", "https");
    Some(format!("{}{host}", if is_https { "https://" } else { "http://" }))
}

/// The first look at a request to the proxy: the server that it is for, and true when it asks for a stream (CONNECT).
///
/// # Errors
/// The refusal of what is no request to a proxy: a web page can send the origin form to any port of this machine.
pub(super) fn proxied_to(bytes: &[u8], credentials: &[String]) -> Result<(Authority, bool), Reject> {
    let mut room = head::room();
    let parsed = parse(bytes, &mut room)?;
    if parsed.path.starts_with('/') || parsed.path == "*" {
        return Err(Reject::bad("this is a proxy: it takes whole URLs and CONNECT, from clients that are told of it"));
    }
    if !credentials.is_empty() {
        let given = head::values(parsed.request.headers, "proxy-authorization").next().unwrap_or_default();
        let (scheme, token) = given.split_at(given.iter().position(|b| *b == b' ').unwrap_or(0));
        let is_known = credentials.iter().fold(false, |known, own| known | same(own.as_bytes(), token.trim_ascii()));
        if !scheme.eq_ignore_ascii_case(b"basic") || !is_known {
            return Err(Reject::new(407, "the proxy asks for a user and a password"));
        }
    }
    let invalid = || Reject::bad("the URL has no valid host and port");
    if parsed.method == "CONNECT" {
        Body::after_request(&parsed.request).and_then(|body| match body {
            Body::Over => Ok(()),
            _ => Err(Reject::bad("CONNECT has no body")),
        })?;
        return Ok((Authority::parse(parsed.path, None).ok_or_else(invalid)?, true));
    }
    let (authority, _) = absolute(parsed.path, &["http", "ws"])
        .ok_or_else(|| Reject::bad("only http:// is forwarded; everything else takes CONNECT"))?;
    Ok((Authority::parse(authority, Some(80)).ok_or_else(invalid)?, false))
}

/// Rewrites the head of a request to the proxy for its server: the form of an origin server's, without headers of one hop.
pub(super) fn proxied(bytes: &[u8], out: &mut Vec<u8>) -> Result<Meaning, Reject> {
    let mut room = head::room();
    let parsed = parse(bytes, &mut room)?;
    let body = Body::after_request(&parsed.request)?;
    let headers = &*parsed.request.headers;
    let (authority, path) = absolute(parsed.path, &["http", "ws"]).unwrap_or_default();
    const HOP: [&str; 8] = [
        "connection",
        "proxy-connection",
        "keep-alive",
        "proxy-authorization",
        "proxy-authenticate",
        "te",
        "upgrade",
        "http2-settings",
    ];
    let is_of_hop = |header: &[u8]| {
        let name = head::name_of(header);
        head::is_named(header, &HOP)
            || head::is_named(header, &["host"])
            || head::tokens(headers, "connection").any(|token| token.eq_ignore_ascii_case(name))
    };
    parsed.line(path, out);
    line("Host", authority.as_bytes(), out);
    for header in header_lines(bytes).filter(|header| !is_of_hop(header)) {
        out.extend_from_slice(header);
    }
    if parsed.upgrade == Upgrade::Wanted {
        line("Connection", b"Upgrade", out);
        head::values(headers, "upgrade").for_each(|value| line("Upgrade", value, out));
    } else if head::has_token(headers, "connection", "close") || head::has_token(headers, "proxy-connection", "close") {
        line("Connection", b"close", out);
    }
    out.extend_from_slice(b"\r\n");
    Ok((body, parsed.kind()))
}
