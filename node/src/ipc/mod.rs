//! The daemon's Unix socket: the official framing and commands, and our own from 0x80 up.
//!
//! A frame is `len u32 (big-endian) | command u8 | payload`. Our commands carry a request number, so that many may be
//! under way at once, and streams are handed out as file descriptors (SCM_RIGHTS):
//! `0x80 request: number u32 | JSON length u32 | JSON | bytes` — `0x81 answer`, `0x82 a handed-out stream ended`, `0x83 event`:
//! the same.

pub(crate) mod client;
pub mod framing;
pub(crate) mod official;
pub(crate) mod server;

use serde::Serialize;

/// A JSON operation.
pub(crate) const REQUEST: u8 = 0x80;
/// Its answer.
pub(crate) const ANSWER: u8 = 0x81;
/// How a handed-out stream ended: `{"stream", "end": "fin"}` or `{"stream", "end": "error", "code", "message", "hint"}`.
pub(crate) const STREAM_END: u8 = 0x82;
/// Something happened that the client watches: `{"event": …}`, under the number of the request that asked for events.
pub(crate) const EVENT: u8 = 0x83;
/// Longest frame of ours: the longest message and its description. Unit: bytes.
pub(crate) const FRAME_LEN_MAX: usize = crate::store::MESSAGE_LEN_MAX + (1 << 20);

/// Takes a whole frame from the front of `buffer`. `Err`: the length is impossible.
pub(crate) fn take_frame(buffer: &mut Vec<u8>) -> Result<Option<(u8, Vec<u8>)>, usize> {
    let Some(head) = buffer.first_chunk::<5>() else { return Ok(None) };
    let len = u32::from_be_bytes([head[0], head[1], head[2], head[3]]) as usize;
    let max = if head[4] >= REQUEST { FRAME_LEN_MAX } else { framing::FRAME_LEN_MAX };
    if len == 0 || len > max {
        return Err(len);
    }
    if buffer.len() < 4 + len {
        return Ok(None);
    }
    let (command, payload) = (head[4], buffer[5..4 + len].to_vec());
    buffer.drain(..4 + len);
    Ok(Some((command, payload)))
}

/// The payload of a request or answer.
pub(crate) fn numbered(command: u8, number: u32, json: &impl Serialize, blob: &[u8]) -> Vec<u8> {
    // Requests, answers and events have nothing in them that JSON cannot carry.
    let json = serde_json::to_string(json).unwrap_or_default();
    framing::frame(command, &[&number.to_be_bytes(), &(json.len() as u32).to_be_bytes(), json.as_bytes(), blob])
}

/// The number, the JSON text and the bytes of a request or answer: the inverse of [`numbered`].
pub(crate) fn parse_numbered(payload: &[u8]) -> Option<(u32, &[u8], &[u8])> {
    let (number, rest) = payload.split_first_chunk::<4>()?;
    let (len, rest) = rest.split_first_chunk::<4>()?;
    let (json, blob) = rest.split_at_checked(u32::from_be_bytes(*len) as usize)?;
    Some((u32::from_be_bytes(*number), json, blob))
}
