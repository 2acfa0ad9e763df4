//! Owns the tap: copies of the inner packets that enter and leave this node, in clear, kept in a bounded buffer while it is on.
//!
//! A packet that leaves is copied as it stands in its datagram before that is sealed, so one that the link sends again is copied
//! again. A packet that arrives is copied behind the gate, on its way to the stack. While the tap is off it costs one branch for
//! each datagram, and no memory.

use crate::inner::{PeerId, Sink};
use crate::link::frame::{Frame, Frames};
use crate::time::Instant;
use alloc::vec::Vec;

/// Most bytes of copies, notes included, that wait for the owner. Later packets are missed and counted. Unit: bytes. Source: own
/// choice; several times what one turn of a node's loop takes in and sends.
pub const TAP_LEN_MAX: usize = 8 << 20;

/// The way of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the peer.
    In,
    /// To the peer.
    Out,
}

/// The form of a packet's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// A TCP segment without an IPv6 header, of which the checksum is not filled in.
    Segment,
    /// An inner datagram: source port 2, destination port 2 (big-endian), payload.
    Datagram,
}

/// One copied packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tapped<'a> {
    /// When it came or left.
    pub at: Instant,
    /// The peer at the other end.
    pub peer: PeerId,
    /// Its way.
    pub direction: Direction,
    /// The form of its bytes.
    pub form: Form,
    /// The packet.
    pub bytes: &'a [u8],
}

/// Facts of a copied packet. Its bytes lie behind those of the packet before.
struct Note {
    at: Instant,
    peer: PeerId,
    direction: Direction,
    form: Form,
    len: u32,
}

/// The copies that wait for the owner.
#[derive(Default)]
pub(crate) struct Tap {
    notes: Vec<Note>,
    bytes: Vec<u8>,
    missed: u64,
}

impl Tap {
    /// Copies a packet, or counts it as missed.
    fn keep(&mut self, Tapped { at, peer, direction, form, bytes }: Tapped<'_>) {
        let len = self.bytes.len() + bytes.len() + (self.notes.len() + 1) * size_of::<Note>();
        if len > TAP_LEN_MAX {
            self.missed += 1;
            return;
        }
        self.notes.push(Note { at, peer, direction, form, len: bytes.len() as u32 });
        self.bytes.extend_from_slice(bytes);
    }

    /// Copies the packets among the frames of a datagram that is about to be sealed.
    pub(crate) fn keep_frames(&mut self, at: Instant, peer: PeerId, frames: &[u8]) {
        for frame in Frames::new(frames).map_while(Result::ok) {
            let (form, bytes) = match frame {
                Frame::Packet(bytes) | Frame::PureAck(bytes) => (Form::Segment, bytes),
                Frame::Loose(bytes) => (Form::Datagram, bytes),
                _ => continue,
            };
            self.keep(Tapped { at, peer, direction: Direction::Out, form, bytes });
        }
    }

    /// Gives all copies to `take`, oldest first, and forgets them; gives the number of packets that were missed since the last call.
    pub(crate) fn drain(&mut self, mut take: impl FnMut(Tapped<'_>)) -> u64 {
        let mut rest = &self.bytes[..];
        for Note { at, peer, direction, form, len } in self.notes.drain(..) {
            let Some((bytes, behind)) = rest.split_at_checked(len as usize) else { break };
            take(Tapped { at, peer, direction, form, bytes });
            rest = behind;
        }
        debug_assert!(rest.is_empty(), "every byte has a note");
        self.bytes.clear();
        core::mem::take(&mut self.missed)
    }
}

/// A sink that copies what it passes on.
pub(crate) struct TappedSink<'a> {
    pub(crate) tap: &'a mut Tap,
    pub(crate) at: Instant,
    pub(crate) sink: &'a mut dyn Sink,
}

impl Sink for TappedSink<'_> {
    fn packet(&mut self, peer: PeerId, bytes: &[u8]) {
        self.tap.keep(Tapped { at: self.at, peer, direction: Direction::In, form: Form::Segment, bytes });
        self.sink.packet(peer, bytes);
    }

    fn loose(&mut self, peer: PeerId, bytes: &[u8]) {
        self.tap.keep(Tapped { at: self.at, peer, direction: Direction::In, form: Form::Datagram, bytes });
        self.sink.loose(peer, bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec;

    fn packet(bytes: &[u8]) -> Tapped<'_> {
        Tapped { at: Instant::ZERO, peer: PeerId(7), direction: Direction::In, form: Form::Segment, bytes }
    }

    #[test]
    fn copies_have_a_maximum_of_bytes_and_what_is_missed_is_counted() {
        let (mut tap, long) = (Tap::default(), vec![1; 60_000]);
        (0..200).for_each(|_| tap.keep(packet(&long)));
        let (mut kept, mut bytes) = (0, 0);
        let missed = tap.drain(|tapped| (kept, bytes) = (kept + 1, bytes + tapped.bytes.len()));
        assert_eq!((kept + missed, bytes), (200, kept as usize * 60_000));
        assert!(missed > 0 && bytes > TAP_LEN_MAX - 130_000 && bytes <= TAP_LEN_MAX, "{bytes}");
        // Packets without bytes are bounded by their notes.
        (0..TAP_LEN_MAX).for_each(|_| tap.keep(packet(b"")));
        let mut kept = 0;
        assert!(tap.drain(|_| kept += 1) > 0);
        assert!(kept * size_of::<Note>() <= TAP_LEN_MAX, "{kept}");
        tap.keep(packet(b"next"));
        assert_eq!(tap.drain(|tapped| assert_eq!(tapped, packet(b"next"))), 0);
    }
}
