//! Owns the reading of a client's bytes without sockets, for the fuzz targets (`fuzz/`).

use super::frame::{REQUEST, REQUEST_WITH_FD, parse_frame, parse_numbered};
use super::official::{Official, translate};
use crate::frame_reader::FrameReader;
use crate::request::Request;

/// What one frame of a client means.
#[derive(Debug, PartialEq, Eq)]
pub enum Heard {
    /// A request of ours: its number, the request or why it is none, and the number of bytes beside it.
    Request(u32, Result<Request, String>, usize),
    /// An official command that means this request.
    Official(Request),
    /// Another official command that is served.
    Served,
    /// An official command that is refused with this text.
    Refused(String),
    /// A frame of ours without a whole head.
    Malformed,
    /// A length that no frame has; nothing is read behind it.
    Impossible(usize),
}

/// Gives a client's bytes piece by piece to the reader of frames, as the server does, and reads the commands. Does not block;
/// any thread may call.
pub fn frames(pieces: &[&[u8]]) -> Vec<Heard> {
    let (mut reader, mut heard) = (FrameReader::new(), Vec::new());
    for piece in pieces {
        reader.extend(piece);
        loop {
            match reader.next(parse_frame) {
                Ok(Some((command, payload))) => heard.push(hear(command, &payload)),
                Ok(None) => break,
                Err(len) => {
                    heard.push(Heard::Impossible(len));
                    return heard;
                }
            }
        }
    }
    heard
}

fn hear(command: u8, payload: &[u8]) -> Heard {
    if command == REQUEST || command == REQUEST_WITH_FD {
        let Some((number, json, blob)) = parse_numbered(payload) else { return Heard::Malformed };
        return Heard::Request(number, Request::from_json(json).map_err(|failure| failure.to_string()), blob.len());
    }
    match translate(command, payload) {
        Ok(Official::Request(request)) => Heard::Official(request),
        Ok(_) => Heard::Served,
        Err(text) => Heard::Refused(text),
    }
}
