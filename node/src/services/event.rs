//! Owns the events of port 1002 as bytes: `topic length u16 | topic | length u32 | payload`, big-endian
//! (`docs/messages.md`, "Services on well-known ports").

use crate::frame_reader::{FrameReader, Parsed};

/// Longest topic. Unit: bytes.
pub(crate) const TOPIC_LEN_MAX: usize = 4096;
/// Longest payload. Unit: bytes.
pub(crate) const PAYLOAD_LEN_MAX: usize = 1 << 20;

/// One event of an event stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// The topic. 1 to 4096 bytes.
    pub topic: String,
    /// Any bytes; at most 1,048,576.
    pub payload: Vec<u8>,
}

/// The bytes of a stream are not events.
#[derive(Debug, PartialEq, Eq)]
pub struct NotAnEvent;

impl std::fmt::Display for NotAnEvent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the bytes are no event: a length is impossible, or the topic is not UTF-8")
    }
}

impl std::error::Error for NotAnEvent {}

impl Published {
    /// Takes a whole event from the front of `incoming`; `None` when more bytes are needed.
    ///
    /// # Errors
    /// A length is impossible, or the topic is not UTF-8; `incoming` is unchanged then.
    pub fn take(incoming: &mut FrameReader) -> Result<Option<Self>, NotAnEvent> {
        incoming.next(Self::parse)
    }

    /// Reads the event at the front of `incoming`: its length in bytes, and the event.
    pub(crate) fn parse(incoming: &[u8]) -> Parsed<Self, NotAnEvent> {
        let Some(len) = incoming.first_chunk::<2>() else { return Ok(None) };
        let topic_len = usize::from(u16::from_be_bytes(*len));
        if topic_len > TOPIC_LEN_MAX {
            return Err(NotAnEvent);
        }
        let Some(len) = incoming.get(2 + topic_len..).and_then(|rest| rest.first_chunk::<4>()) else {
            return Ok(None);
        };
        let (begin, len) = (6 + topic_len, u32::from_be_bytes(*len) as usize);
        if len > PAYLOAD_LEN_MAX {
            return Err(NotAnEvent);
        }
        let Some(payload) = incoming.get(begin..begin + len) else { return Ok(None) };
        let topic = std::str::from_utf8(&incoming[2..2 + topic_len]).map_err(|_| NotAnEvent)?.to_owned();
        Ok(Some((begin + len, Self { topic, payload: payload.to_vec() })))
    }

    /// An event as bytes. An empty payload, as the first event of a stream, subscribes to the topic.
    pub fn emit(topic: &str, payload: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(6 + topic.len() + payload.len());
        out.extend_from_slice(&(topic.len() as u16).to_be_bytes());
        out.extend_from_slice(topic.as_bytes());
        out.extend_from_slice(&(payload.len() as u32).to_be_bytes());
        out.extend_from_slice(payload);
        out
    }
}

/// True when `pattern` selects `topic`: both are equal, or `pattern` ends in `*` and `topic` begins with the text before it.
pub(crate) fn matches(pattern: &str, topic: &str) -> bool {
    pattern == topic || pattern.strip_suffix('*').is_some_and(|start| topic.starts_with(start))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_and_payloads_have_longest_lengths() {
        for (topic, payload, is_event) in
            [(TOPIC_LEN_MAX, PAYLOAD_LEN_MAX, true), (TOPIC_LEN_MAX + 1, 0, false), (0, PAYLOAD_LEN_MAX + 1, false)]
        {
            let mut bytes = FrameReader::new();
            bytes.extend(&Published::emit(&"a".repeat(topic), &vec![7; payload]));
            assert_eq!(Published::take(&mut bytes).is_ok_and(|event| event.is_some()), is_event);
            assert_eq!(bytes.rest().is_empty(), is_event, "what is no event is left");
        }
    }

    #[test]
    fn topics_match_exactly_or_by_their_beginning() {
        for (pattern, topic, fits) in [
            ("a", "a", true),
            ("a", "ab", false),
            ("*", "anything", true),
            ("a.*", "a.b.c", true),
            ("a.*", "ab", false),
            ("", "a", false),
        ] {
            assert_eq!(matches(pattern, topic), fits, "{pattern} {topic}");
        }
    }
}
