//! Owns the event stream on port 1002: `topic length u16 | topic | length u32 | payload`, big-endian. The first event of a
//! stream subscribes it to its topic, every later one is published to the other subscribers (messages.md).

use std::collections::VecDeque;

/// Longest topic. Unit: bytes.
pub(crate) const TOPIC_LEN_MAX: usize = 4096;
/// Longest payload. Unit: bytes.
pub(crate) const PAYLOAD_LEN_MAX: usize = 1 << 20;
/// Bytes that may wait for a subscriber that reads slowly; what comes then it misses, and is told how much.
pub(crate) const WAITING_MAX: usize = 2 << 20;
/// Topic of the note that says how many events were missed.
pub(crate) const MISSED_TOPIC: &str = "pilot.missed";

/// Something published on an event stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// What it is about. At most 4096 bytes.
    pub topic: String,
    /// Any bytes. At most 1048576.
    pub payload: Vec<u8>,
}

/// One stream's subscription.
#[derive(Default)]
pub(crate) struct Subscription {
    topic: Option<String>,
    missed: u64,
}

/// The stream does not speak this protocol; it must be closed.
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
    /// A length is impossible, or the topic is not UTF-8.
    pub fn take(incoming: &mut Vec<u8>) -> Result<Option<Self>, NotAnEvent> {
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
        let payload = payload.to_vec();
        incoming.drain(..begin + len);
        Ok(Some(Self { topic, payload }))
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

impl Subscription {
    /// Takes whole events from the front of `incoming`.
    pub(crate) fn take(&mut self, incoming: &mut Vec<u8>) -> Result<Vec<Published>, NotAnEvent> {
        let mut published = Vec::new();
        while let Some(event) = Published::take(incoming)? {
            match self.topic {
                None => self.topic = Some(event.topic),
                // An empty payload would look like the end to some readers.
                Some(_) if event.payload.is_empty() => {}
                Some(_) => published.push(event),
            }
        }
        Ok(published)
    }

    /// Puts an event into the queue of this subscriber, if it wants it; true when something was queued.
    pub(crate) fn offer(&mut self, event: &Published, outgoing: &mut VecDeque<u8>) -> bool {
        if !self.topic.as_deref().is_some_and(|pattern| matches(pattern, &event.topic)) {
            return false;
        }
        let frame = Published::emit(&event.topic, &event.payload);
        if outgoing.len() + frame.len() > WAITING_MAX {
            self.missed += 1;
            return false;
        }
        if self.missed > 0 {
            let note = format!("{{\"missed\":{}}}", std::mem::take(&mut self.missed));
            outgoing.extend(Published::emit(MISSED_TOPIC, note.as_bytes()));
        }
        outgoing.extend(frame);
        true
    }
}

/// True when `topic` is meant by `pattern`: the same, or anything behind what stands before a final `*`.
pub(crate) fn matches(pattern: &str, topic: &str) -> bool {
    pattern == topic || pattern.strip_suffix('*').is_some_and(|start| topic.starts_with(start))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(topic: &str, payload: &[u8]) -> Published {
        Published { topic: topic.into(), payload: payload.to_vec() }
    }

    #[test]
    fn the_first_event_subscribes_and_later_ones_are_published() {
        let mut bytes = Published::emit("a.*", b"");
        bytes.extend(Published::emit("a.b", b"1"));
        bytes.extend(Published::emit("a.c", b""));
        let (mut subscription, mut buffer, mut published) = (Subscription::default(), Vec::new(), Vec::new());
        for byte in bytes {
            buffer.push(byte);
            published.extend(subscription.take(&mut buffer).expect("well-formed"));
        }
        assert_eq!(published, [event("a.b", b"1")]);
        let mut outgoing = VecDeque::new();
        assert!(subscription.offer(&event("a.x", b"2"), &mut outgoing));
        assert!(!subscription.offer(&event("b.x", b"2"), &mut outgoing));
        assert_eq!(Vec::from(outgoing), Published::emit("a.x", b"2"));
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

    #[test]
    fn a_slow_subscriber_misses_events_and_is_told_how_many() {
        let mut subscription = Subscription { topic: Some("*".into()), missed: 0 };
        let mut outgoing = VecDeque::new();
        let large = event("a", &[0; PAYLOAD_LEN_MAX]);
        assert!(subscription.offer(&large, &mut outgoing));
        assert!(!subscription.offer(&large, &mut outgoing));
        assert!(!subscription.offer(&large, &mut outgoing));
        outgoing.clear();
        assert!(subscription.offer(&event("a", b"x"), &mut outgoing));
        let mut expected = Published::emit(MISSED_TOPIC, b"{\"missed\":2}");
        expected.extend(Published::emit("a", b"x"));
        assert_eq!(Vec::from(outgoing), expected);
    }

    #[test]
    fn impossible_lengths_and_text_end_the_stream() {
        for bytes in [&[0xff, 0xff][..], &[0, 1, b'a', 0xff, 0xff, 0xff, 0xff], &[0, 1, 0xff, 0, 0, 0, 0]] {
            assert_eq!(Subscription::default().take(&mut bytes.to_vec()), Err(NotAnEvent));
        }
    }
}
