//! Owns early data: bytes that travel with a SYN, so that a stream and its first request take one round trip
//! (`docs/link.md`, "Data with a SYN").
//!
//! smoltcp neither sends nor takes data with a SYN. On the way out the bytes are appended to the SYN that smoltcp
//! wrote; the receiver cuts them off, and hands them to TCP in a segment of its own as soon as TCP has answered the
//! SYN. Forged and repeated SYNs, the risk of such data between strangers (RFC 7413 §4), do not pass a tunnel.

use crate::segment::{FlowKey, Segment, TCP_HEADER_LEN, window_scale};
use alloc::collections::{BTreeSet, VecDeque};
use alloc::vec::Vec;
use core::time::Duration;
use pilot_core::codec::Put as _;
use pilot_core::{Instant, PeerId};

/// Most bytes of early data. With the SYN's header they fit every datagram but those of small paths.
pub const EARLY_LEN_MAX: usize = 1024;

/// Most streams that are remembered after their end, by their SYN.
pub(crate) const SPENT_MAX: usize = 4096;
/// How long a SYN is remembered. Source: own choice; late copies in the link are rarely older than some seconds.
const SPENT_FOR: Duration = Duration::from_secs(60);

/// Streams of peers that are over. A late copy of their SYN that carries early data would open another stream and give the
/// application the same request once more (RFC 7413 §2), also where another copy, without the data, opened the stream: a SYN takes
/// the data along when the path of that moment has room for both.
pub(crate) struct Spent<P = PeerId> {
    known: BTreeSet<(P, FlowKey, u32)>,
    order: VecDeque<(Instant, (P, FlowKey, u32))>,
}

impl<P: Copy + Ord> Spent<P> {
    pub(crate) const fn new() -> Self {
        Self { known: BTreeSet::new(), order: VecDeque::new() }
    }

    /// Remembers the SYN of a stream that is over: the peer, the ports, and the sequence number.
    pub(crate) fn note(&mut self, now: Instant, peer: P, key: FlowKey, sequence: u32) {
        let is_old = |(at, _): &(Instant, _)| now.since(*at) > SPENT_FOR;
        while self.order.len() == SPENT_MAX || self.order.front().is_some_and(is_old) {
            if let Some((_, oldest)) = self.order.pop_front() {
                self.known.remove(&oldest);
            }
        }
        if self.known.insert((peer, key, sequence)) {
            self.order.push_back((now, (peer, key, sequence)));
        }
        debug_assert!(
            self.known.len() == self.order.len() && self.order.len() <= SPENT_MAX,
            "both hold the same streams"
        );
    }

    /// True for the SYN of a stream that is over.
    pub(crate) fn contains(&self, peer: P, syn: &Segment) -> bool {
        self.known.contains(&(peer, syn.incoming_key(), syn.sequence))
    }
}

/// Early data of one flow.
#[derive(Default)]
pub(crate) enum Early {
    #[default]
    Nothing,
    /// Bytes to the peer, until the peer has answered; every SYN takes them along.
    Ours(Vec<u8>),
    /// The peer has the bytes, which end at this sequence number. TCP does not know that and sends them once more.
    Arrived(u32),
    /// Bytes of the peer, as a segment for TCP once TCP has answered the SYN.
    Theirs(Vec<u8>),
}

impl Early {
    /// The bytes that came with a SYN. More than [`EARLY_LEN_MAX`] are not taken; the TCP of the sender sends them
    /// again.
    pub(crate) fn of_syn(syn: &Segment, bytes: &[u8], early: &[u8]) -> Self {
        if early.is_empty() || early.len() > EARLY_LEN_MAX {
            return Self::Nothing;
        }
        const ACK_PSH: u8 = 0x10 | 0x08;
        let window = syn.window >> window_scale(bytes); // a SYN's own window is not scaled (RFC 7323 §2.2)
        let mut segment = Vec::with_capacity(TCP_HEADER_LEN + early.len());
        segment.put(&syn.source.to_be_bytes());
        segment.put(&syn.destination.to_be_bytes());
        segment.put(&syn.sequence.wrapping_add(1).to_be_bytes());
        segment.put(&[0; 4]); // the acknowledgement: see `take_theirs`
        segment.put(&[(TCP_HEADER_LEN as u8 / 4) << 4, ACK_PSH]);
        segment.put(&window.to_be_bytes());
        segment.put(&[0; 4]);
        segment.put(early);
        Self::Theirs(segment)
    }

    /// The peer's early data, acknowledging the SYN that TCP sent with this sequence number.
    pub(crate) fn take_theirs(&mut self, sequence: u32) -> Option<Vec<u8>> {
        match core::mem::take(self) {
            Self::Theirs(mut segment) => {
                segment[8..12].copy_from_slice(&sequence.wrapping_add(1).to_be_bytes());
                Some(segment)
            }
            other => {
                *self = other;
                None
            }
        }
    }

    /// True for the segment in which TCP sends the bytes that went with the SYN.
    pub(crate) fn is_repeated_by(&mut self, segment: &Segment) -> bool {
        let Self::Arrived(end) = *self else { return false };
        if segment.payload_len == 0 {
            return false;
        }
        // Only the first time: a TCP that sends the bytes once more has learned that the peer lacks them.
        *self = Self::Nothing;
        segment.sequence.wrapping_add(segment.sequence_len()) == end
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec;

    fn syn(early: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0, 1, 0, 2, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 6 << 4, 0x02, 0xff, 0xff, 0, 0, 0, 0];
        bytes.extend_from_slice(&[3, 3, 4, 0]);
        bytes.extend_from_slice(early);
        bytes
    }

    fn early_of(bytes: &[u8]) -> Early {
        let (segment, syn, early) = Segment::parse(bytes).expect("a header").split(bytes);
        Early::of_syn(&segment, syn, early)
    }

    #[test]
    fn tcp_gets_what_came_with_a_syn_as_a_segment_of_its_own() {
        let mut early = early_of(&syn(b"first"));
        let bytes = early.take_theirs(u32::MAX).expect("it came");
        let segment = Segment::parse(&bytes).expect("a header");
        assert!(segment.is_plain_data() && bytes.ends_with(b"first"));
        assert_eq!((segment.source, segment.destination), (1, 2));
        assert_eq!((segment.sequence, segment.acknowledged), (0, 0), "across the wrap");
        assert_eq!(segment.window, 0xffff >> 4);
        assert_eq!(early.take_theirs(0), None, "once");
    }

    #[test]
    fn the_newest_streams_that_are_over_are_remembered_for_a_while() {
        let bytes = syn(b"first");
        let late = Segment::parse(&bytes).expect("a header");
        let mut spent = Spent::new();
        spent.note(Instant::ZERO, 'a', late.incoming_key(), late.sequence);
        assert!(spent.contains('a', &late) && !spent.contains('b', &late));
        let other = Segment::parse(&[&bytes[..4], &[9; 4], &bytes[8..]].concat()).expect("a header");
        assert!(!spent.contains('a', &other), "another stream of the same ports");
        (0..SPENT_MAX as u32).for_each(|sequence| spent.note(Instant::ZERO, 'a', (1, 2), sequence));
        assert!(!spent.contains('a', &late));
        assert_eq!((spent.known.len(), spent.order.len()), (SPENT_MAX, SPENT_MAX));
        spent.note(Instant::ZERO + SPENT_FOR * 2, 'a', (3, 4), 5);
        assert_eq!((spent.known.len(), spent.order.len()), (1, 1), "it costs nothing for ever");
    }

    #[test]
    fn what_came_with_a_syn_has_a_maximum() {
        assert!(matches!(early_of(&syn(&[7; EARLY_LEN_MAX])), Early::Theirs(_)));
        assert!(matches!(early_of(&syn(&[7; EARLY_LEN_MAX + 1])), Early::Nothing));
        assert!(matches!(early_of(&syn(&[])), Early::Nothing));
    }
}
