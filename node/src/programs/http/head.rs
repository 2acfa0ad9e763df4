//! Owns the reading of an HTTP/1.x head: bytes are collected up to the empty line, httparse reads them, and of requests
//! everything is refused that two readers could understand differently.

use super::reject::Reject;
use httparse::{EMPTY_HEADER, Error, Header, ParserConfig, Request, Response, Status};

/// Longest head, and longest trailer. Unit: bytes. Own choice: eight times what common servers take.
pub(crate) const HEAD_LEN_MAX: usize = 64 * 1024;
/// Most headers of a head. Own choice: more than the 100 of common servers.
pub(crate) const HEADERS_MAX: usize = 128;

/// Room for the headers of one head.
pub(super) type Room<'b> = [Header<'b>; HEADERS_MAX];

/// Room for the headers of one head, empty.
pub(super) const fn room<'b>() -> Room<'b> {
    [EMPTY_HEADER; HEADERS_MAX]
}

/// Collects the lines of a head up to the empty one.
#[derive(Debug, Default)]
pub(super) struct Lines {
    pub(super) bytes: Vec<u8>,
    /// Where the line begins that is not whole yet.
    line: usize,
}

impl Lines {
    /// Lines of which `first` is the first one.
    pub(super) fn after(first: Vec<u8>) -> Self {
        Self { line: first.len(), bytes: first }
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Takes bytes up to the end of the empty line; gives their number, and true when the head is whole. Empty lines before
    /// a head are dropped (RFC 9112, section 2.2).
    pub(super) fn take(&mut self, input: &[u8], is_strict: bool) -> Result<(usize, bool), Reject> {
        let mut used = 0;
        while let Some(len) = input[used..].iter().position(|byte| *byte == b'\n') {
            self.append(&input[used..=used + len])?;
            used += len + 1;
            let line = &self.bytes[self.line..];
            let text = match line.strip_suffix(b"\r\n") {
                Some(text) => text,
                None if is_strict => return Err(Reject::bad("a line ends without CR")),
                None => &line[..line.len() - 1],
            };
            match (text.is_empty(), self.line) {
                (true, 0) => self.bytes.clear(),
                (true, _) => return Ok((used, true)),
                (false, _) => self.line = self.bytes.len(),
            }
        }
        self.append(&input[used..])?;
        Ok((input.len(), false))
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), Reject> {
        if self.bytes.len() + bytes.len() > HEAD_LEN_MAX {
            return Err(Reject::new(431, "the head is longer than 64 KiB"));
        }
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }
}

/// Reads a whole head of a request.
pub(super) fn request<'h, 'b>(bytes: &'b [u8], room: &'h mut Room<'b>) -> Result<Request<'h, 'b>, Reject> {
    let mut request = Request::new(room);
    match request.parse(bytes) {
        Ok(Status::Complete(len)) if len == bytes.len() => Ok(request),
        Ok(_) => Err(Reject::bad("the head does not end where its empty line is")),
        Err(Error::Version) => Err(Reject::new(505, "only HTTP/1.0 and HTTP/1.1 are understood here")),
        Err(error) => Err(refused(error)),
    }
}

/// Reads the trailer of a request's body.
pub(super) fn trailer(bytes: &[u8]) -> Result<(), Reject> {
    let mut room = room();
    httparse::parse_headers(bytes, &mut room).map_err(refused)?;
    Ok(())
}

/// Reads a whole head of a response, as leniently as browsers do.
pub(super) fn response<'h, 'b>(bytes: &'b [u8], room: &'h mut Room<'b>) -> Result<Response<'h, 'b>, Reject> {
    let mut response = Response::new(room);
    let mut config = ParserConfig::default();
    config
        .allow_spaces_after_header_name_in_responses(true)
        .allow_obsolete_multiline_headers_in_responses(true)
        .ignore_invalid_headers_in_responses(true);
    match config.parse_response(&mut response, bytes) {
        Ok(Status::Complete(_)) => Ok(response),
        _ => Err(Reject::new(502, "the server answered with something else than HTTP/1")),
    }
}

fn refused(error: Error) -> Reject {
    match error {
        Error::TooManyHeaders => Reject::new(431, "the head has more than 128 headers"),
        _ => Reject::bad("malformed head"),
    }
}

/// The values of the headers called `name`.
pub(super) fn values<'a>(headers: &'a [Header], name: &'a str) -> impl Iterator<Item = &'a [u8]> {
    headers.iter().filter(move |header| header.name.eq_ignore_ascii_case(name)).map(|header| header.value)
}

/// The elements of the lists in the headers called `name`.
pub(super) fn tokens<'a>(headers: &'a [Header], name: &'a str) -> impl Iterator<Item = &'a [u8]> {
    values(headers, name).flat_map(|value| value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii))
}

pub(super) fn has_token(headers: &[Header], name: &str, token: &str) -> bool {
    tokens(headers, name).any(|found| found.eq_ignore_ascii_case(token.as_bytes()))
}

/// The name in a line of a head; empty for a line that has none.
pub(super) fn name_of(line: &[u8]) -> &[u8] {
    let end = line.iter().position(|byte| *byte == b':').unwrap_or(0);
    line[..end].trim_ascii()
}

pub(super) fn is_named(line: &[u8], names: &[&str]) -> bool {
    let own = name_of(line);
    names.iter().any(|name| own.eq_ignore_ascii_case(name.as_bytes()))
}

/// True for the headers that only this node writes, and for every name that a program may take for one of them: CGI turns
/// each byte that is neither letter nor digit into `_`.
pub(super) fn is_peer_header(name: &[u8]) -> bool {
    const OURS: &[u8] = b"pilot-peer";
    let same = |(own, byte): (&u8, &u8)| match own {
        b'-' => !byte.is_ascii_alphanumeric(),
        letter => letter.eq_ignore_ascii_case(byte),
    };
    name.len() >= OURS.len() && OURS.iter().zip(name).all(same)
}
