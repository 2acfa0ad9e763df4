//! Owns the frames of the node's socket: `len u32 (big-endian) | command u8 | payload`. Commands from 0x80 up are this
//! project's own, the others are the official ones ([`official_frame`]).
//!
//! Our commands carry the number of a request, so that many may be under way at once, and a stream travels as a file descriptor
//! (SCM_RIGHTS) beside its frame: `number u32 | JSON length u32 | JSON | bytes`.

use crate::answer::StreamState;
use crate::frame_reader::Parsed;
use crate::ipc::official_frame;
use serde::Serialize;

/// A request: JSON with bytes beside it.
pub(crate) const REQUEST: u8 = 0x80;
/// A request with a descriptor beside it (SCM_RIGHTS).
pub(crate) const REQUEST_WITH_FD: u8 = 0x84;
/// The answer to a request.
pub(crate) const ANSWER: u8 = 0x81;
/// The end of a handed-out stream: `{"stream", "end": "fin"}` or `{"stream", "end": "error", "code", "message", "hint"}`.
pub(crate) const STREAM_END: u8 = 0x82;
/// An event that the client watches: `{"event": …}`, under the number of the request that asked for events.
pub(crate) const EVENT: u8 = 0x83;
/// Longest frame of ours: the longest message and its description. Unit: bytes.
pub(crate) const FRAME_LEN_MAX: usize = crate::mail::message::MESSAGE_LEN_MAX + (1 << 20);

/// Reads the frame at the front of `bytes`: its length, command and payload. `Err`: the length is impossible.
pub(crate) fn parse_frame(bytes: &[u8]) -> Parsed<(u8, Vec<u8>), usize> {
    let Some(head) = bytes.first_chunk::<5>() else { return Ok(None) };
    let len = u32::from_be_bytes([head[0], head[1], head[2], head[3]]) as usize;
    let max = if head[4] >= REQUEST { FRAME_LEN_MAX } else { official_frame::FRAME_LEN_MAX };
    if len == 0 || len > max {
        return Err(len);
    }
    Ok(bytes.get(5..4 + len).map(|payload| (4 + len, (head[4], payload.to_vec()))))
}

/// The payload of a request or answer.
pub(crate) fn numbered(command: u8, number: u32, json: &impl Serialize, blob: &[u8]) -> Vec<u8> {
    // Requests, answers and events have nothing in them that JSON cannot carry.
    numbered_text(command, number, &serde_json::to_string(json).unwrap_or_default(), blob)
}

/// The payload of a request or answer whose JSON is written already.
pub(crate) fn numbered_text(command: u8, number: u32, json: &str, blob: &[u8]) -> Vec<u8> {
    official_frame::frame(command, &[&number.to_be_bytes(), &(json.len() as u32).to_be_bytes(), json.as_bytes(), blob])
}

/// The inverse of [`numbered`].
pub(crate) fn parse_numbered(payload: &[u8]) -> Option<(u32, &[u8], Vec<u8>)> {
    let (number, rest) = payload.split_first_chunk::<4>()?;
    let (len, rest) = rest.split_first_chunk::<4>()?;
    let (json, blob) = rest.split_at_checked(u32::from_be_bytes(*len) as usize)?;
    Some((u32::from_be_bytes(*number), json, blob.to_vec()))
}

/// The frame that tells a client how a handed-out stream ended.
pub(crate) fn stream_end(data: &StreamState) -> Vec<u8> {
    numbered(STREAM_END, 0, data, &[])
}
