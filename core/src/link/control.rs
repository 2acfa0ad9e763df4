//! Owns the control stream: a small reliable, ordered stream of messages beside the data, with a length before each.

use crate::codec::Put as _;
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::fmt;
use core::mem::size_of;

/// Longest control message. Unit: bytes. Source: `docs/trust.md` (bodies of at most 64 KiB, and their heads).
pub const MESSAGE_LEN_MAX: usize = 66_000;
/// Most bytes waiting or in flight on the sending side; beyond it the message is refused.
pub const BACKLOG_MAX: usize = 512 * 1024;
/// Most bytes in flight, and so the most that the receiver ever holds out of order.
pub const WINDOW: u64 = 128 * 1024;
/// Most bytes that the receiver holds: an incomplete message, and a window behind it.
pub const HELD_LEN_MAX: usize = LENGTH_LEN + MESSAGE_LEN_MAX + WINDOW as usize;
/// Most pieces behind gaps. Source: a window of full datagrams has 110; this leaves room for small messages.
const ISLANDS_MAX: usize = 4096;
/// What the list of pieces uses at most. Unit: bytes.
pub const RANGES_LEN_MAX: usize = (ISLANDS_MAX + 1) * size_of::<(u64, u64)>();
/// Longest empty buffer that is kept for the next message. Unit: bytes.
const KEPT_LEN_MAX: usize = 2048;
/// Bytes of the length in front of each message.
const LENGTH_LEN: usize = 4;

/// The backlog is full: the peer does not acknowledge its control stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BacklogFull;

impl fmt::Display for BacklogFull {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the peer does not acknowledge its control stream")
    }
}

impl core::error::Error for BacklogFull {}

/// Ranges of offsets: ascending, disjoint, not touching.
#[derive(Default)]
struct Ranges(Vec<(u64, u64)>);

impl Ranges {
    /// Adds a range; those that it touches become one with it.
    fn insert(&mut self, start: u64, end: u64) {
        let first = self.0.partition_point(|range| range.1 < start);
        let after = self.0.partition_point(|range| range.0 <= end);
        let touched = self.0.get(first..after).unwrap_or_default();
        let low = touched.first().map_or(start, |range| range.0.min(start));
        let high = touched.last().map_or(end, |range| range.1.max(end));
        self.0.splice(first..after, [(low, high)]);
    }

    /// Takes the first range out if it begins at `at` or before; gives its end.
    fn take_from(&mut self, at: u64) -> Option<u64> {
        self.0.first().filter(|range| range.0 <= at)?;
        Some(self.0.remove(0).1)
    }

    const fn held_len(&self) -> usize {
        self.0.capacity() * size_of::<(u64, u64)>()
    }
}

/// The sending half.
#[derive(Default)]
pub(crate) struct ControlSender {
    waiting: VecDeque<u8>,
    /// Offset of the next byte that is sent for the first time.
    next: u64,
    /// Everything below has been acknowledged.
    floor: u64,
    /// What has been acknowledged above `floor`.
    acked: Ranges,
    resend: VecDeque<(u64, Vec<u8>)>,
}

impl ControlSender {
    /// Frees the room of sent messages.
    pub(crate) fn rest(&mut self) {
        self.waiting.shrink_to_fit();
        self.resend.shrink_to_fit();
        self.acked.0.shrink_to_fit();
    }

    /// Bytes from the oldest that is not acknowledged to the newest that was sent.
    const fn span(&self) -> u64 {
        self.next - self.floor
    }

    /// Memory in use. Unit: bytes.
    pub(crate) fn held_len(&self) -> usize {
        self.waiting.capacity() + self.span() as usize + self.acked.held_len()
    }

    pub(crate) fn push(&mut self, message: &[u8]) -> Result<(), BacklogFull> {
        debug_assert!(!message.is_empty() && message.len() <= MESSAGE_LEN_MAX);
        if self.waiting.len() + message.len() + LENGTH_LEN + self.span() as usize > BACKLOG_MAX {
            return Err(BacklogFull);
        }
        self.waiting.extend((message.len() as u32).to_le_bytes());
        self.waiting.extend(message);
        Ok(())
    }

    pub(crate) fn is_ready(&self) -> bool {
        !self.resend.is_empty() || (!self.waiting.is_empty() && self.span() < WINDOW)
    }

    /// The next piece of at most `room` bytes, as (offset, bytes).
    pub(crate) fn take(&mut self, room: usize) -> Option<(u64, Vec<u8>)> {
        if let Some((offset, mut bytes)) = self.resend.pop_front() {
            if bytes.len() > room {
                let tail = bytes.split_off(room);
                self.resend.push_front((offset + room as u64, tail));
            }
            return Some((offset, bytes));
        }
        let len = self.waiting.len().min(room).min(WINDOW.saturating_sub(self.span()) as usize);
        if len == 0 {
            return None;
        }
        let bytes: Vec<u8> = self.waiting.drain(..len).collect();
        if self.waiting.is_empty() && self.waiting.capacity() > KEPT_LEN_MAX {
            self.waiting = VecDeque::new();
        }
        let offset = self.next;
        self.next += len as u64;
        debug_assert!(self.span() <= WINDOW, "a receiver takes no more for an honest piece");
        Some((offset, bytes))
    }

    pub(crate) fn on_ack(&mut self, offset: u64, len: usize) {
        self.acked.insert(offset, offset + len as u64);
        if let Some(floor) = self.acked.take_from(self.floor) {
            self.floor = floor;
        }
        debug_assert!(self.floor <= self.next, "only bytes that were sent are acknowledged");
    }

    pub(crate) fn on_loss(&mut self, offset: u64, bytes: Vec<u8>) {
        self.resend.push_back((offset, bytes));
    }
}

/// The receiving half: the bytes from the first incomplete message on, and which of them have come.
///
/// However the peer cuts, repeats and overlaps its pieces, each byte of the stream is held once, in a buffer of at most
/// [`HELD_LEN_MAX`] bytes.
#[derive(Default)]
pub struct ControlReceiver {
    /// Bytes from the first incomplete message on; those in a gap mean nothing yet.
    buffer: Vec<u8>,
    /// Offset of the first byte in `buffer`.
    base: u64,
    /// Offset of the first byte that has not come.
    next: u64,
    /// What has come behind that.
    islands: Ranges,
}

impl ControlReceiver {
    /// Frees the room of pieces that came out of order.
    pub(crate) fn rest(&mut self) {
        self.buffer.shrink_to_fit();
        self.islands.0.shrink_to_fit();
    }

    /// Memory in use. Unit: bytes.
    pub const fn held_len(&self) -> usize {
        self.buffer.capacity() + self.islands.held_len()
    }

    /// Takes a piece and returns the messages it completes; `None` when the stream is broken beyond repair: a length that
    /// no message has, a piece beyond the window, or so many gaps that no loss explains them.
    pub fn receive(&mut self, offset: u64, bytes: &[u8]) -> Option<Vec<Vec<u8>>> {
        let end = offset.checked_add(bytes.len() as u64)?;
        if end > self.next + WINDOW {
            return None;
        }
        // A piece that was cut in two may come once more in one.
        let known = self.next.saturating_sub(offset).min(bytes.len() as u64);
        let (start, fresh) = (offset + known, &bytes[known as usize..]);
        if fresh.is_empty() {
            return Some(Vec::new());
        }
        self.write(start, fresh);
        self.islands.insert(start, end);
        if let Some(next) = self.islands.take_from(self.next) {
            self.next = next;
        }
        if self.islands.0.len() > ISLANDS_MAX { None } else { self.messages() }
    }

    fn write(&mut self, start: u64, bytes: &[u8]) {
        let at = (start - self.base) as usize;
        let end = at + bytes.len();
        debug_assert!(start >= self.next && end <= HELD_LEN_MAX, "the window bounds what is held");
        if at == self.buffer.len() {
            self.buffer.put(bytes);
        } else {
            self.buffer.resize(self.buffer.len().max(end), 0);
            self.buffer[at..end].copy_from_slice(bytes);
        }
    }

    fn messages(&mut self) -> Option<Vec<Vec<u8>>> {
        let (mut out, mut at) = (Vec::new(), 0);
        let whole = &self.buffer[..(self.next - self.base) as usize];
        while let Some(head) = whole[at..].first_chunk::<LENGTH_LEN>() {
            let len = u32::from_le_bytes(*head) as usize;
            if len == 0 || len > MESSAGE_LEN_MAX {
                return None;
            }
            let Some(message) = whole[at + LENGTH_LEN..].get(..len) else { break };
            out.push(message.to_vec());
            at += LENGTH_LEN + len;
        }
        self.buffer.drain(..at);
        if self.buffer.is_empty() && self.buffer.capacity() > KEPT_LEN_MAX {
            self.buffer = Vec::new();
        }
        self.base += at as u64;
        debug_assert!(self.next - self.base < HELD_LEN_MAX as u64 - WINDOW, "only an incomplete message is left");
        Some(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;
    use std::vec;

    #[test]
    fn messages_arrive_once_and_in_order_whatever_the_network_does() {
        let mut rng = Rng::new([5; 32]);
        let (mut tx, mut rx) = (ControlSender::default(), ControlReceiver::default());
        let messages: Vec<Vec<u8>> = (0..50u8).map(|i| vec![i; 1 + 100 * usize::from(i)]).collect();
        messages.iter().for_each(|m| tx.push(m).expect("fits"));
        let (mut flight, mut got) = (Vec::new(), Vec::new());
        while got.len() < messages.len() {
            while let Some(piece) = tx.take(1 + rng.below(1200) as usize) {
                flight.push(piece);
            }
            let (offset, bytes) = flight.swap_remove(rng.below(flight.len() as u64) as usize);
            match rng.below(3) {
                0 => tx.on_loss(offset, bytes),
                duplicates => {
                    (0..duplicates).for_each(|_| got.extend(rx.receive(offset, &bytes).expect("well-formed")));
                    tx.on_ack(offset, bytes.len());
                }
            }
        }
        assert_eq!(got, messages);
    }

    /// Bytes behind a gap that were acknowledged do not open the window: the receiver holds them.
    #[test]
    fn a_sender_never_goes_a_window_beyond_what_is_missing() {
        let mut tx = ControlSender::default();
        (0..8).for_each(|_| tx.push(&[1; 60_000]).expect("fits"));
        let mut pieces: Vec<_> = core::iter::from_fn(|| tx.take(1200)).collect();
        let (first, bytes) = pieces.remove(0);
        pieces.iter().for_each(|(offset, bytes)| tx.on_ack(*offset, bytes.len()));
        assert_eq!((tx.take(1200), tx.span()), (None, WINDOW));
        tx.on_ack(first, bytes.len());
        assert_eq!((tx.span(), tx.acked.0.len()), (0, 0));
        assert!(tx.take(1200).is_some());
    }

    #[test]
    fn the_backlog_has_a_maximum() {
        let mut tx = ControlSender::default();
        let message = vec![1; 60_000];
        let accepted = (0..100).take_while(|_| tx.push(&message).is_ok()).count();
        assert_eq!(accepted, BACKLOG_MAX / 60_004);
        assert_eq!(tx.push(&message), Err(BacklogFull));
    }

    #[test]
    fn pieces_beyond_the_window_and_impossible_lengths_break_the_stream() {
        let broken = |offset, bytes: &[u8]| ControlReceiver::default().receive(offset, bytes).is_none();
        assert!(broken(WINDOW, b"x") && broken(u64::MAX, b"xx"));
        assert!(!broken(WINDOW - 1, b"x"));
        assert!(broken(0, &0u32.to_le_bytes()), "an empty message");
        assert!(broken(0, &(MESSAGE_LEN_MAX as u32 + 1).to_le_bytes()), "a message that is too long");
    }

    /// Found by an attack that filled a rendezvous with 600 MB: pieces that begin one byte apart were all kept.
    #[test]
    fn overlapping_pieces_are_held_once() {
        let (mut rx, piece) = (ControlReceiver::default(), [9; 1000]);
        for offset in 1..20_000 {
            assert_eq!(rx.receive(offset, &piece), Some(vec![]));
        }
        assert!(rx.held_len() <= 2 * 21_000 && rx.islands.0 == [(1, 20_999)], "{}", rx.held_len());
        for round in 0..3 {
            (1..20_000).rev().for_each(|offset| assert!(rx.receive(offset + round, &piece).is_some()));
        }
        assert!(rx.held_len() <= 2 * 21_002);
    }

    #[test]
    fn what_is_held_has_a_maximum_in_bytes_and_in_pieces() {
        let mut rx = ControlReceiver::default();
        assert_eq!(rx.receive(0, &(MESSAGE_LEN_MAX as u32).to_le_bytes()), Some(vec![]));
        let mut end = 4;
        while end < (LENGTH_LEN + MESSAGE_LEN_MAX) as u64 - 1 {
            let len = ((LENGTH_LEN + MESSAGE_LEN_MAX) as u64 - 1 - end).min(1000);
            assert_eq!(rx.receive(end, &vec![7; len as usize]), Some(vec![]));
            end += len;
        }
        assert_eq!(rx.receive(end + WINDOW - 1, b"x"), Some(vec![]));
        assert_eq!(rx.buffer.len(), HELD_LEN_MAX - 1);
        let pieces = (1..).take_while(|i| rx.receive(end + 2 * i, b"x").is_some()).count();
        assert_eq!(pieces, ISLANDS_MAX - 1, "beside the one at the end of the window");
        assert!(rx.held_len() <= 2 * HELD_LEN_MAX + 16 * ISLANDS_MAX);
    }

    #[test]
    fn pieces_in_any_order_and_cut_anew_make_the_stream() {
        let mut rng = Rng::new([6; 32]);
        for _ in 0..200 {
            let messages: Vec<Vec<u8>> = (0..20u8).map(|i| vec![i; 1 + rng.below(4000) as usize]).collect();
            let mut stream = Vec::new();
            messages.iter().for_each(|m| {
                stream.extend((m.len() as u32).to_le_bytes());
                stream.extend(m);
            });
            let (mut rx, mut got) = (ControlReceiver::default(), Vec::new());
            while got.len() < messages.len() {
                let start = rng.below(stream.len() as u64) as usize;
                let end = (start + 1 + rng.below(3000) as usize).min(stream.len());
                got.extend(rx.receive(start as u64, &stream[start..end]).expect("an honest piece"));
            }
            assert_eq!(got, messages);
        }
    }
}
