//! The service on port 1002: the first event of a stream subscribes to its topic, every later one is published to the other
//! subscribers (`docs/messages.md`, "Services on well-known ports").

use crate::frame_reader::FrameReader;
use crate::services::event::{NotAnEvent, Published, matches};
use crate::services::io::{Io, PUBLISHED_MAX};
use std::collections::VecDeque;

/// Bytes that may wait for a subscriber; it misses further events, and is told their number. Unit: bytes.
pub(crate) const WAITING_MAX: usize = 2 << 20;
/// Topic of the note that tells a subscriber the number of missed events.
pub(crate) const MISSED_TOPIC: &str = "pilot.missed";

/// The subscription of one stream.
#[derive(Default)]
pub(crate) struct Subscription {
    topic: Option<String>,
    missed: u64,
}

/// One stream of the service.
#[derive(Default)]
pub(crate) struct Events {
    incoming: FrameReader,
    subscription: Subscription,
}

impl Events {
    /// Takes bytes that have arrived.
    pub(crate) fn take(&mut self, io: &mut Io, bytes: &[u8]) {
        self.incoming.extend(bytes);
        match self.subscription.take(&mut self.incoming, PUBLISHED_MAX.saturating_sub(io.published.len())) {
            Ok(published) => io.published.extend(published),
            Err(NotAnEvent) => io.is_broken = true,
        }
    }

    /// Bytes of an event that is not complete.
    pub(crate) const fn held(&self) -> usize {
        self.incoming.held()
    }

    /// Queues an event for the subscriber at the other end, unless it wants other topics, is too slow, or has no `room`; true
    /// when queued.
    pub(crate) fn offer(&mut self, io: &mut Io, event: &Published, room: usize) -> bool {
        self.subscription.offer(event, &mut io.outgoing, room)
    }
}

impl Subscription {
    /// Takes whole events from the front of `incoming`, and stops when `most` are to be published.
    pub(crate) fn take(&mut self, incoming: &mut FrameReader, most: usize) -> Result<Vec<Published>, NotAnEvent> {
        let mut published = Vec::new();
        while published.len() < most
            && let Some(event) = incoming.next(Published::parse)?
        {
            match self.topic {
                None => self.topic = Some(event.topic),
                // Some readers take an empty payload for the end of the stream.
                Some(_) if event.payload.is_empty() => {}
                Some(_) => published.push(event),
            }
        }
        Ok(published)
    }

    /// Puts an event into the subscriber's queue, unless it wants other topics, is too slow, or has no `room`; true when queued.
    pub(crate) fn offer(&mut self, event: &Published, outgoing: &mut VecDeque<u8>, room: usize) -> bool {
        if !self.topic.as_deref().is_some_and(|pattern| matches(pattern, &event.topic)) {
            return false;
        }
        let frame = Published::emit(&event.topic, &event.payload);
        if outgoing.len() + frame.len() > WAITING_MAX || frame.len() > room {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::services::event::PAYLOAD_LEN_MAX;

    fn event(topic: &str, payload: &[u8]) -> Published {
        Published { topic: topic.into(), payload: payload.to_vec() }
    }

    #[test]
    fn the_first_event_subscribes_and_later_ones_are_published() {
        let mut bytes = Published::emit("a.*", b"");
        bytes.extend(Published::emit("a.b", b"1"));
        bytes.extend(Published::emit("a.c", b""));
        let (mut subscription, mut buffer, mut published) = (Subscription::default(), FrameReader::new(), Vec::new());
        for byte in bytes {
            buffer.extend(&[byte]);
            published.extend(subscription.take(&mut buffer, 9).expect("well-formed"));
        }
        assert_eq!(published, [event("a.b", b"1")]);
        let mut outgoing = VecDeque::new();
        assert!(subscription.offer(&event("a.x", b"2"), &mut outgoing, usize::MAX));
        assert!(!subscription.offer(&event("b.x", b"2"), &mut outgoing, usize::MAX));
        assert_eq!(Vec::from(outgoing), Published::emit("a.x", b"2"));
    }

    #[test]
    fn a_slow_subscriber_misses_events_and_is_told_how_many() {
        let mut subscription = Subscription { topic: Some("*".into()), missed: 0 };
        let mut outgoing = VecDeque::new();
        let large = event("a", &[0; PAYLOAD_LEN_MAX]);
        assert!(subscription.offer(&large, &mut outgoing, usize::MAX));
        assert!(!subscription.offer(&large, &mut outgoing, usize::MAX));
        assert!(!subscription.offer(&large, &mut outgoing, usize::MAX));
        outgoing.clear();
        assert!(subscription.offer(&event("a", b"x"), &mut outgoing, usize::MAX));
        let mut expected = Published::emit(MISSED_TOPIC, b"{\"missed\":2}");
        expected.extend(Published::emit("a", b"x"));
        assert_eq!(Vec::from(outgoing), expected);
    }

    #[test]
    fn a_stream_publishes_some_events_in_a_turn_and_the_rest_in_the_next_ones() {
        let (mut service, mut io) = (Events::default(), Io::default());
        let all: Vec<u8> = (0..PUBLISHED_MAX * 2 + 5).flat_map(|_| Published::emit("a", b"1")).collect();
        service.take(&mut io, &all); // the first one subscribes
        let mut turns = Vec::new();
        while !io.published.is_empty() {
            turns.push(std::mem::take(&mut io.published).len());
            service.take(&mut io, b"");
        }
        assert_eq!(turns, [PUBLISHED_MAX, PUBLISHED_MAX, 4]);
        assert_eq!(service.held(), 0);
    }

    #[test]
    fn impossible_lengths_and_text_end_the_stream() {
        for bytes in [&[0xff, 0xff][..], &[0, 1, b'a', 0xff, 0xff, 0xff, 0xff], &[0, 1, 0xff, 0, 0, 0, 0]] {
            let mut buffer = FrameReader::new();
            buffer.extend(bytes);
            assert_eq!(Subscription::default().take(&mut buffer, 9), Err(NotAnEvent));
        }
    }
}
