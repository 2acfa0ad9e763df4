//! Owns the frames of mail on port 1001: `type u32 | len u32 | payload`, big-endian (`docs/messages.md`, "Services on
//! well-known ports").

use crate::frame_reader::Parsed;
use crate::mail::message::{Kind, MESSAGE_LEN_MAX, Tag};

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
/// End of the answer to a question that was understood as one.
const AS_A_QUESTION: &str = " as a question";
/// Beginnings of the answers after which a message is not sent again.
const FINAL: [&str; 3] = ["ERR malformed", "ERR unknown frame type", "ERR too long"];

/// A frame of the sender, understood.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Request {
    /// Accept this message; without an id the sender cannot send it again.
    Message { id: Option<[u8; 16]>, tag: Tag, kind: Kind, body: Vec<u8> },
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
            Some(kind) => Request::Message { id: None, tag: Tag::Plain, kind, body: payload },
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
    let kind = Kind::from_number(u32::from_be_bytes(*kind))?;
    Some(Request::Message { id: Some(id), tag: parse_tag(&meta)?, kind, body: body.to_vec() })
}

/// The tag in a message's metadata. `None`: it is malformed. Other programs may refer to messages that have no id of our form.
fn parse_tag(meta: &serde_json::Value) -> Option<Tag> {
    let reply_to = meta.get("reply_to").and_then(|id| parse_id(id.as_str()?));
    match (meta.get("deadline_s"), reply_to) {
        (None, None) => Some(Tag::Plain),
        (None, Some(question)) => Some(Tag::Answer(question)),
        (Some(deadline), None) => Some(Tag::Question { deadline: deadline.as_u64()? }),
        (Some(_), Some(_)) => None,
    }
}

/// A message as a tagged frame; a question's deadline counts from now.
pub(crate) fn emit_tagged(id: &[u8; 16], tag: Tag, kind: Kind, body: &[u8]) -> Vec<u8> {
    let tag = match tag {
        Tag::Plain => String::new(),
        Tag::Question { deadline } => format!(",\"deadline_s\":{deadline}"),
        Tag::Answer(question) => format!(",\"reply_to\":\"{}\"", id_text(&question)),
    };
    let meta = format!("{{\"message_id\":\"{}\"{tag}}}", id_text(id));
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

/// The text of the answer to an accepted message. Of a question it says that it was understood as one.
pub(crate) fn ack_text(kind: Kind, tag: Tag, len: usize) -> String {
    let asks = if tag.is_question() { AS_A_QUESTION } else { "" };
    format!("ACK {} {len} bytes{asks}", kind.name().to_uppercase())
}

/// Whether the answer to a question comes from a node that knows none: then there will be no answer of its owner.
pub(crate) fn knows_no_questions(answer: &str) -> bool {
    answer.starts_with("ERR unknown frame type") || (answer.starts_with("ACK") && !answer.ends_with(AS_A_QUESTION))
}

/// The 32 hexadecimal digits of a message's id.
pub(crate) fn id_text(id: &[u8; 16]) -> String {
    id.iter().map(|b| format!("{b:02x}")).collect()
}

/// Reads 32 hexadecimal digits.
pub(crate) fn parse_id(text: &str) -> Option<[u8; 16]> {
    let value = u128::from_str_radix(text, 16).ok().filter(|_| text.len() == 32)?;
    Some(value.to_be_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame_reader::FrameReader;

    #[test]
    fn tagged_messages_round_trip_in_any_pieces() {
        let frame = emit_tagged(&[0xab; 16], Tag::Plain, Kind::Json, b"{}");
        let mut buffer = FrameReader::new();
        for (i, byte) in frame.iter().enumerate() {
            assert_eq!(buffer.next(parse_frame), Ok(None), "at {i}");
            buffer.extend(&[*byte]);
        }
        let frame = buffer.next(parse_frame).expect("well-formed").expect("complete");
        let expected =
            Request::Message { id: Some([0xab; 16]), tag: Tag::Plain, kind: Kind::Json, body: b"{}".to_vec() };
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

    #[test]
    fn questions_and_answers_have_these_bytes() {
        let (id, question) = ([0xab; 16], [0x0c; 16]);
        for (tag, meta) in [
            (Tag::Plain, r#"{"message_id":"abababababababababababababababab"}"#),
            (Tag::Question { deadline: 600 }, r#"{"message_id":"abababababababababababababababab","deadline_s":600}"#),
            (
                Tag::Answer(question),
                r#"{"message_id":"abababababababababababababababab","reply_to":"0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c"}"#,
            ),
        ] {
            let payload = [&[0, meta.len() as u8], meta.as_bytes(), &[0, 0, 0, 1], b"hi"].concat();
            let golden = [&[0, 0, 0, 10, 0, 0, 0, payload.len() as u8], &payload[..]].concat();
            assert_eq!(emit_tagged(&id, tag, Kind::Text, b"hi"), golden);
            let parsed = Request::Message { id: Some(id), tag, kind: Kind::Text, body: b"hi".to_vec() };
            assert_eq!(parse_request((TAGGED, payload)), parsed);
        }
    }

    #[test]
    fn tags_that_contradict_themselves_are_malformed_and_foreign_ids_are_none() {
        let parsed = |more: &str| {
            let meta = format!("{{\"message_id\":\"{}\",{more}}}", id_text(&[1; 16]));
            let frame = [&(meta.len() as u16).to_be_bytes(), meta.as_bytes(), &1u32.to_be_bytes(), b"hi"].concat();
            parse_request((TAGGED, frame))
        };
        for plain in [r#""reply_to":"msg-7""#, r#""reply_to":null"#, r#""colour":"red""#] {
            assert!(matches!(parsed(plain), Request::Message { tag: Tag::Plain, .. }), "{plain}");
        }
        let both = format!(r#""deadline_s":5,"reply_to":"{}""#, id_text(&[2; 16]));
        for bad in [r#""deadline_s":-1"#, r#""deadline_s":"soon""#, r#""deadline_s":1.5"#, &both] {
            assert!(matches!(parsed(bad), Request::Refuse(text) if is_final(&text)), "{bad}");
        }
    }

    #[test]
    fn the_acknowledgement_tells_whether_questions_are_known() {
        let question = Tag::Question { deadline: 5 };
        assert!(!knows_no_questions(&ack_text(Kind::Text, question, 5)));
        for old in ["ACK TEXT 5 bytes", "ERR unknown frame type 10"] {
            assert!(knows_no_questions(old), "{old}");
        }
        assert!(!knows_no_questions("ERR the inbox holds as many bytes as it may"));
        assert_eq!(ack_text(Kind::Json, Tag::Answer([1; 16]), 2), "ACK JSON 2 bytes");
    }
}
