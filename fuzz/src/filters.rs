//! The filters of programs' connections: the first bytes of the proxy's clients, and the HTTP behind `expose --http`.

use httparse::{EMPTY_HEADER, Request, Status};
use pilot_node::probe::filter;

/// Runs both filters. The first byte of the input says where the rest is cut in pieces. Invariants: cuts change nothing; and
/// a server that reads what it gets finds in each head one Host, and the peer's headers once, from this node.
pub fn filters(bytes: &[u8]) {
    let Some((cut, bytes)) = bytes.split_first() else { return };
    let cut = usize::from(*cut).min(bytes.len());
    for is_proxy in [false, true] {
        let whole = filter(is_proxy, &[bytes]);
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        assert_eq!(filter(is_proxy, &[&bytes[..cut], &bytes[cut..]]), whole, "in two pieces");
        assert_eq!(filter(is_proxy, &single), whole, "byte by byte");
        let is_visible = |host: &String| (1..=255).contains(&host.len()) && host.bytes().all(|b| b.is_ascii_graphic());
        assert!(whole.wanted.iter().all(is_visible), "{:?}", whole.wanted);
        if !is_proxy {
            read_as_a_server(&whole.to_server);
        }
    }
}

/// Reads requests one after another as a simple server does.
fn read_as_a_server(mut bytes: &[u8]) {
    while !bytes.is_empty() {
        let mut headers = [EMPTY_HEADER; 140];
        let mut request = Request::new(&mut headers);
        let Ok(Status::Complete(len)) = request.parse(bytes) else { panic!("a head that a server refuses") };
        let count = |name: &str| request.headers.iter().filter(|h| h.name.eq_ignore_ascii_case(name)).count();
        let ours = request.headers.iter().filter(|h| like_cgi(h.name).starts_with("PILOT_PEER"));
        let values: Vec<&[u8]> = ours.map(|header| header.value).collect();
        assert_eq!(values, [&b"ann"[..], b"0:0000.0000.0007", b"aa-bb"]);
        assert_eq!((count("host"), count("content-length") + count("transfer-encoding") <= 1), (1, true));
        let body = &bytes[len..];
        let length = request.headers.iter().find(|header| header.name.eq_ignore_ascii_case("content-length"));
        let rest = match length.and_then(|header| std::str::from_utf8(header.value).ok()?.parse::<usize>().ok()) {
            _ if count("transfer-encoding") > 0 => behind_chunks(body),
            Some(length) => body.get(length..),
            None => Some(body),
        };
        let Some(rest) = rest else { return }; // the body is not whole
        bytes = rest;
    }
}

/// A header's name as CGI and its heirs give it to programs.
fn like_cgi(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' }).collect()
}

/// The bytes after a chunked body; `None` while it is not whole.
fn behind_chunks(mut bytes: &[u8]) -> Option<&[u8]> {
    loop {
        let Ok(Status::Complete((line, size))) = httparse::parse_chunk_size(bytes) else { return None };
        if size == 0 {
            let mut trailer = [EMPTY_HEADER; 140];
            let Ok(Status::Complete((len, headers))) = httparse::parse_headers(&bytes[line..], &mut trailer) else {
                return None;
            };
            assert!(headers.iter().all(|header| !like_cgi(header.name).starts_with("PILOT_PEER")));
            return Some(&bytes[line + len..]);
        }
        bytes = bytes.get(line + usize::try_from(size).ok()?..)?.strip_prefix(b"\r\n")?;
    }
}
