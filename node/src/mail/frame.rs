//! Owns the frames of mail on port 1001: `type u32 | len u32 | payload`, big-endian (`docs/messages.md`, "Services on
//! well-known ports").

use crate::frame_reader::Parsed;
use crate::mail::message::{Kind, MESSAGE_LEN_MAX};

/// Frame type of text, which also carries the answers.
const TEXT: u32 = 1;
/// Frame type of a whole file; see [`receive_file`](crate::mail::receive_file).
pub(crate) const FILE: u32 = 4;
/// Frame type of one step of a resumable transfer.
pub(crate) const FILE_STREAM: u32 = 7;
/// Frame type of a message with metadata: `metalen u16 | JSON | type u32 | body`.
const TAGGED: u32 = 10;
/// Longest metadata of a tagged message. Unit: bytes.
const META_LEN_MAX: usize = 1024;
/// Longest payload of a frame. Unit: bytes.
const FRAME_LEN_MAX: usize = MESSAGE_LEN_MAX + META_LEN_MAX + 16;

/// Longest answer to a message. Unit: bytes.
const ANSWER_LEN_MAX: usize = 4096;
/// Beginnings of the answers after which a message is not sent again.
const FINAL: [&str; 3] = ["ERR malformed", "ERR unknown frame type", "ERR too long"];

/// A frame of the sender, understood.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Request {
    /// Accept this message; without an id the sender cannot send it again.
    Message { id: Option<[u8; 16]>, kind: Kind, body: Vec<u8> },
    /// Take this step of a resumable transfer.
    File(Vec<u8>),
    /// Answer with this text: the frame cannot be served.
    Refuse(String),
}

/// The length of a frame is impossible: the stream carries another protocol and must be closed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Broken;

/// Reads the frame at the front of `bytes`: its length, type and payload. `Ok(None)` when more bytes are needed.
pub(crate) fn parse_frame(bytes: &[u8]) -> Parsed<(u32, Vec<u8>), Broken> {
    let Some(head) = bytes.first_chunk::<8>() else { return Ok(None) };
    let kind = u32::from_be_bytes([head[0], head[1], head[2], head[3]]);
    let len = u32::from_be_bytes([head[4], head[5], head[6], head[7]]) as usize;
    if len > FRAME_LEN_MAX {
        return Err(Broken);
    }
    Ok(bytes.get(8..8 + len).map(|payload| (8 + len, (kind, payload.to_vec()))))
}

/// Reads the answer at the front of `bytes`. `Ok(None)` when more bytes are needed.
pub(crate) fn parse_answer(bytes: &[u8]) -> Parsed<String, Broken> {
    if bytes.get(4..8).is_some_and(|len| len > &(ANSWER_LEN_MAX as u32).to_be_bytes()[..]) {
        return Err(Broken);
    }
    let frame = parse_frame(bytes)?;
    Ok(frame.map(|(len, (_, text))| (len, String::from_utf8_lossy(&text).into_owned())))
}

/// Whether the answer says that the message will never be taken. Any other answer that is no acknowledgement means: not now.
pub(crate) fn is_final(answer: &str) -> bool {
    FINAL.iter().any(|beginning| answer.starts_with(beginning))
}

/// Understands a frame of the sender.
pub(crate) fn parse_request((kind, payload): (u32, Vec<u8>)) -> Request {
    match kind {
        TAGGED => parse_tagged(&payload).unwrap_or_else(|| Request::Refuse("ERR malformed message".into())),
        FILE_STREAM => Request::File(payload),
        _ => match Kind::from_number(kind) {
            Some(kind) => Request::Message { id: None, kind, body: payload },
            None => Request::Refuse(format!("ERR unknown frame type {kind}")),
        },
    }
}

fn parse_tagged(payload: &[u8]) -> Option<Request> {
    let (len, rest) = payload.split_first_chunk::<2>()?;
    let len = usize::from(u16::from_be_bytes(*len));
    let (meta, rest) = rest.split_at_checked(len).filter(|_| len <= META_LEN_MAX)?;
    let (kind, body) = rest.split_first_chunk::<4>()?;
    let meta: serde_json::Value = serde_json::from_slice(meta).ok()?;
    let id = parse_id(meta.get("message_id")?.as_str()?)?;
    Some(Request::Message { id: Some(id), kind: Kind::from_number(u32::from_be_bytes(*kind))?, body: body.to_vec() })
}

/// A message as a tagged frame.
pub(crate) fn emit_tagged(id: &[u8; 16], kind: Kind, body: &[u8]) -> Vec<u8> {
    let meta = format!("{{\"message_id\":\"{}\"}}", id_text(id));
    let meta_len = (meta.len() as u16).to_be_bytes();
    emit_frame(TAGGED, &[&meta_len, meta.as_bytes(), &(kind as u32).to_be_bytes(), body])
}

/// A frame.
pub(crate) fn emit_frame(kind: u32, payload: &[&[u8]]) -> Vec<u8> {
    let len: usize = payload.iter().map(|p| p.len()).sum();
    let mut out = Vec::with_capacity(8 + len);
    out.extend_from_slice(&kind.to_be_bytes());
    out.extend_from_slice(&(len as u32).to_be_bytes());
    payload.iter().for_each(|p| out.extend_from_slice(p));
    out
}

/// An answer as a frame.
pub(crate) fn emit_answer(text: &str) -> Vec<u8> {
    emit_frame(TEXT, &[text.as_bytes()])
}

/// The text of the answer to an accepted message.
pub(crate) fn ack_text(kind: Kind, len: usize) -> String {
    format!("ACK {} {len} bytes", kind.name().to_uppercase())
}

pub(crate) fn id_text(id: &[u8; 16]) -> String {
    id.iter().map(|b| format!("{b:02x}")).collect()
}

fn parse_id(text: &str) -> Option<[u8; 16]> {
    let value = u128::from_str_radix(text, 16).ok().filter(|_| text.len() == 32)?;
    Some(value.to_be_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame_reader::FrameReader;

    #[test]
    fn tagged_messages_round_trip_in_any_pieces() {
        let frame = emit_tagged(&[0xab; 16], Kind::Json, b"{}");
        let mut buffer = FrameReader::new();
        for (i, byte) in frame.iter().enumerate() {
            assert_eq!(buffer.next(parse_frame), Ok(None), "at {i}");
            buffer.extend(&[*byte]);
        }
        let frame = buffer.next(parse_frame).expect("well-formed").expect("complete");
        let expected = Request::Message { id: Some([0xab; 16]), kind: Kind::Json, body: b"{}".to_vec() };
        assert_eq!(parse_request(frame), expected);
        assert!(buffer.rest().is_empty());
    }

    #[test]
    fn answers_have_a_longest_length_and_few_are_final() {
        let answer = |len: usize| emit_frame(TEXT, &[&vec![b'a'; len]]);
        assert!(matches!(parse_answer(&answer(ANSWER_LEN_MAX)), Ok(Some((_, text))) if text.len() == ANSWER_LEN_MAX));
        assert_eq!(parse_answer(&answer(ANSWER_LEN_MAX + 1)[..8]), Err(Broken), "before its bytes come");
        for refused in [(99, vec![]), (TAGGED, vec![0xff])] {
            assert!(matches!(parse_request(refused), Request::Refuse(text) if is_final(&text)));
        }
        assert!(!is_final("ERR the disk is full") && !is_final("of a later version"));
    }

    #[test]
    fn metadata_has_a_longest_length() {
        for (len, is_message) in [(META_LEN_MAX, true), (META_LEN_MAX + 1, false)] {
            let meta = format!("{{\"message_id\":\"{}\"}}", id_text(&[1; 16]));
            let meta = format!("{meta}{}", " ".repeat(len - meta.len()));
            let frame = [&(len as u16).to_be_bytes(), meta.as_bytes(), &1u32.to_be_bytes(), b"hi"].concat();
            assert_eq!(matches!(parse_request((TAGGED, frame)), Request::Message { .. }), is_message, "{len} bytes");
        }
    }

    #[test]
    fn huge_frames_break_the_stream_and_unknown_ones_are_answered() {
        assert_eq!(parse_frame(&[0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff]), Err(Broken));
        for (kind, payload) in
            [(99, vec![]), (FILE, vec![]), (TAGGED, vec![0xff, 0xff]), (TAGGED, vec![0, 2, b'{', b'}', 0, 0, 0, 1])]
        {
            assert!(matches!(parse_request((kind, payload)), Request::Refuse(text) if text.starts_with("ERR ")));
        }
    }
}
