//! Owns the body of one message: where it ends, by its length, by its chunks, or with the connection.

use super::head::{self, Lines};
use super::reject::Reject;
use httparse::{Request, Response};

/// Longest line before a chunk. Unit: bytes. Own choice: extensions of chunks are rare and short.
pub(super) const CHUNK_LINE_MAX: usize = 1024;

/// The rest of a body.
#[derive(Debug)]
pub(super) enum Body {
    /// Nothing.
    Over,
    /// So many bytes. Never 0.
    Length(u64),
    /// Chunks, up to that of length 0 and its trailer.
    Chunked(Chunks),
    /// Everything until the connection ends.
    Close,
}

/// The place in a chunked body.
#[derive(Debug)]
pub(super) enum Chunks {
    /// In the line before a chunk.
    Size(Vec<u8>),
    /// In a chunk: so many bytes, and the end of line after them.
    Data(u64),
    /// Behind a chunk's bytes; true: behind the CR.
    End(bool),
    /// In the lines of the last chunk.
    Trailer(Lines),
}

/// What of a body goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keep {
    /// All of a response.
    All,
    /// A request, without trailers that only this node may write.
    Request,
    /// The bytes without their framing.
    Content,
}

impl Body {
    /// The body after the head of a request.
    pub(super) fn after_request(request: &Request) -> Result<Self, Reject> {
        let mut codings = head::values(request.headers, "transfer-encoding");
        let mut lengths = head::values(request.headers, "content-length");
        match (codings.next(), lengths.next()) {
            (None, None) => Ok(Self::Over),
            (Some(_), Some(_)) => Err(Reject::bad("Content-Length and Transfer-Encoding together")),
            (Some(coding), None) => {
                let is_chunked = coding.eq_ignore_ascii_case(b"chunked") && codings.next().is_none();
                if is_chunked && request.version == Some(1) {
                    Ok(Self::chunked())
                } else {
                    Err(Reject::bad("a Transfer-Encoding other than chunked"))
                }
            }
            (None, Some(length)) => match (number(length), lengths.next()) {
                (Some(length), None) => Ok(Self::of(length)),
                _ => Err(Reject::bad("Content-Length is not one number")),
            },
        }
    }

    /// The body after the head of a response with a status that allows one.
    pub(super) fn after_response(response: &Response) -> Result<Self, Reject> {
        if let Some(coding) = head::tokens(response.headers, "transfer-encoding").last() {
            return Ok(if coding.eq_ignore_ascii_case(b"chunked") { Self::chunked() } else { Self::Close });
        }
        let mut lengths = head::tokens(response.headers, "content-length").map(number);
        match lengths.next() {
            None => Ok(Self::Close),
            Some(Some(length)) if lengths.all(|other| other == Some(length)) => Ok(Self::of(length)),
            Some(_) => Err(Reject::new(502, "the server's answer has no valid Content-Length")),
        }
    }

    const fn chunked() -> Self {
        Self::Chunked(Chunks::Size(Vec::new()))
    }

    const fn of(length: u64) -> Self {
        if length == 0 { Self::Over } else { Self::Length(length) }
    }

    /// Bytes that may go on unseen from here. Unit: bytes.
    const fn free(&self) -> u64 {
        match self {
            Self::Length(left) | Self::Chunked(Chunks::Data(left)) => *left,
            Self::Close => u64::MAX,
            _ => 0,
        }
    }

    /// So many of the free bytes have gone on.
    fn pass(&mut self, len: u64) {
        debug_assert!(len <= self.free(), "only free bytes go on unseen");
        match self {
            Self::Length(left) if *left == len => *self = Self::Over,
            Self::Chunked(Chunks::Data(left)) if *left == len => *self = Self::Chunked(Chunks::End(false)),
            Self::Length(left) | Self::Chunked(Chunks::Data(left)) => *left -= len,
            _ => {}
        }
    }

    /// Takes bytes up to the body's end, and gives their number.
    pub(super) fn push(&mut self, input: &[u8], keep: Keep, out: &mut Vec<u8>) -> Result<usize, Reject> {
        let mut used = 0;
        while used < input.len() && !matches!(self, Self::Over) {
            let rest = &input[used..];
            let free = self.free().min(rest.len() as u64);
            used += if free > 0 {
                out.extend_from_slice(&rest[..free as usize]);
                self.pass(free);
                free as usize
            } else if let Self::Chunked(chunks) = self {
                let (len, is_over) = chunks.frame(rest, keep, out)?;
                if is_over {
                    *self = Self::Over;
                }
                len
            } else {
                debug_assert!(false, "only chunks have frames");
                break;
            };
        }
        Ok(used)
    }
}

impl Chunks {
    /// Takes bytes of the framing; gives their number, and true behind the last of them.
    fn frame(&mut self, input: &[u8], keep: Keep, out: &mut Vec<u8>) -> Result<(usize, bool), Reject> {
        match self {
            Self::Size(line) => {
                let end = input.iter().position(|byte| *byte == b'\n').map(|at| at + 1);
                let len = end.unwrap_or(input.len());
                if line.len() + len > CHUNK_LINE_MAX {
                    return Err(Reject::bad("a chunk's size is longer than 1,024 bytes"));
                }
                line.extend_from_slice(&input[..len]);
                if end.is_some() {
                    let size = chunk_size(line)?;
                    let line = std::mem::take(line);
                    if size == 0 {
                        *self = Self::Trailer(Lines::after(line));
                    } else {
                        emit(keep, &line, out);
                        *self = Self::Data(size);
                    }
                }
                Ok((len, false))
            }
            Self::End(is_behind_cr) => {
                if input[0] != if *is_behind_cr { b'\n' } else { b'\r' } {
                    return Err(Reject::bad("a chunk is longer than its size"));
                }
                emit(keep, &input[..1], out);
                *self = if *is_behind_cr { Self::Size(Vec::new()) } else { Self::End(true) };
                Ok((1, false))
            }
            Self::Trailer(lines) => {
                let (len, is_whole) = lines.take(input, true)?;
                if is_whole {
                    emit_trailer(&lines.bytes, keep, out)?;
                }
                Ok((len, is_whole))
            }
            Self::Data(_) => Ok((0, false)),
        }
    }
}

fn emit(keep: Keep, bytes: &[u8], out: &mut Vec<u8>) {
    if keep != Keep::Content {
        out.extend_from_slice(bytes);
    }
}

/// The length of a chunk, by its line. httparse takes a line without any digit as 0, and any byte in an extension.
fn chunk_size(line: &[u8]) -> Result<u64, Reject> {
    let text = line.strip_suffix(b"\r\n").unwrap_or_default();
    let is_clean = text.first().is_some_and(u8::is_ascii_hexdigit) && !text.iter().any(|b| *b < b' ' && *b != b'\t');
    match httparse::parse_chunk_size(line) {
        Ok(httparse::Status::Complete((_, size))) if is_clean && size <= i64::MAX as u64 => Ok(size),
        _ => Err(Reject::bad("a chunk without a valid size")),
    }
}

/// The last chunk and its trailer: a request's without headers that this node writes, and without those of framing.
fn emit_trailer(bytes: &[u8], keep: Keep, out: &mut Vec<u8>) -> Result<(), Reject> {
    if keep != Keep::Request {
        emit(keep, bytes, out);
        return Ok(());
    }
    let mut lines = bytes.split_inclusive(|byte| *byte == b'\n');
    let first = lines.next().unwrap_or_default();
    head::trailer(&bytes[first.len()..])?;
    out.extend_from_slice(first);
    let forbidden = ["content-length", "transfer-encoding", "host", "x-forwarded-host"];
    for line in lines.filter(|line| !head::is_peer_header(head::name_of(line)) && !head::is_named(line, &forbidden)) {
        out.extend_from_slice(line);
    }
    Ok(())
}

fn number(digits: &[u8]) -> Option<u64> {
    let is_number = !digits.is_empty() && digits.len() <= 18 && digits.iter().all(u8::is_ascii_digit);
    is_number.then(|| digits.iter().fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0')))
}
