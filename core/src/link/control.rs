//! Owns the control stream: a small reliable, ordered stream of messages beside the data, with a length before each.

use crate::codec::Put as _;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;
use core::fmt;

/// Longest control message. Unit: bytes. Source: `docs/trust.md` (bodies of at most 64 KiB, and their heads).
pub const MESSAGE_LEN_MAX: usize = 66_000;
/// Most bytes waiting or in flight on the sending side; beyond it the message is refused.
pub const BACKLOG_MAX: usize = 512 * 1024;
/// Most bytes in flight, and so the most that the receiver ever holds out of order.
const WINDOW: u64 = 128 * 1024;
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

/// The sending half.
#[derive(Default)]
pub(crate) struct ControlSender {
    waiting: VecDeque<u8>,
    next: u64,
    in_flight: u64,
    resend: VecDeque<(u64, Vec<u8>)>,
}

impl ControlSender {
    /// Frees the room of sent messages.
    pub(crate) fn rest(&mut self) {
        self.waiting.shrink_to_fit();
        self.resend.shrink_to_fit();
    }

    pub(crate) fn push(&mut self, message: &[u8]) -> Result<(), BacklogFull> {
        debug_assert!(!message.is_empty() && message.len() <= MESSAGE_LEN_MAX);
        if self.waiting.len() + message.len() + LENGTH_LEN + self.in_flight as usize > BACKLOG_MAX {
            return Err(BacklogFull);
        }
        self.waiting.extend((message.len() as u32).to_le_bytes());
        self.waiting.extend(message);
        Ok(())
    }

    pub(crate) fn is_ready(&self) -> bool {
        !self.resend.is_empty() || (!self.waiting.is_empty() && self.in_flight < WINDOW)
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
        let len = self.waiting.len().min(room).min((WINDOW - self.in_flight.min(WINDOW)) as usize);
        if len == 0 {
            return None;
        }
        let bytes: Vec<u8> = self.waiting.drain(..len).collect();
        let offset = self.next;
        self.next += len as u64;
        self.in_flight += len as u64;
        debug_assert!(self.in_flight <= WINDOW, "the window bounds what is in flight");
        Some((offset, bytes))
    }

    pub(crate) fn on_ack(&mut self, len: usize) {
        self.in_flight -= len as u64;
    }

    pub(crate) fn on_loss(&mut self, offset: u64, bytes: Vec<u8>) {
        self.resend.push_back((offset, bytes));
    }
}

/// The receiving half.
#[derive(Default)]
pub(crate) struct ControlReceiver {
    next: u64,
    held: BTreeMap<u64, Vec<u8>>,
    assembled: Vec<u8>,
}

impl ControlReceiver {
    /// Frees the room of pieces that came out of order.
    pub(crate) fn rest(&mut self) {
        self.assembled.shrink_to_fit();
        if self.held.is_empty() {
            self.held = BTreeMap::new(); // an empty tree keeps its root
        }
    }

    /// Takes a piece and returns the messages it completes. Pieces beyond the window are ignored (a peer that obeys
    /// the window never sends them); `None` when the stream is broken beyond repair.
    pub(crate) fn receive(&mut self, offset: u64, bytes: &[u8]) -> Option<Vec<Vec<u8>>> {
        let end = offset.checked_add(bytes.len() as u64)?;
        if end > self.next + WINDOW || end <= self.next {
            return Some(Vec::new());
        }
        // Pieces are resent whole or split, so a longer one at the same offset replaces a shorter one.
        let known = self.held.get(&offset).is_some_and(|held| held.len() >= bytes.len());
        if !known {
            self.held.insert(offset, bytes.to_vec());
        }
        while let Some((offset, bytes)) = self.held.pop_first() {
            if offset > self.next {
                self.held.insert(offset, bytes);
                break;
            }
            let fresh = bytes.get((self.next - offset) as usize..).unwrap_or_default();
            self.assembled.put(fresh);
            self.next += fresh.len() as u64;
        }
        self.messages()
    }

    fn messages(&mut self) -> Option<Vec<Vec<u8>>> {
        let mut out = Vec::new();
        let mut at = 0;
        while let Some(head) = self.assembled[at..].first_chunk::<LENGTH_LEN>() {
            let len = u32::from_le_bytes(*head) as usize;
            if len == 0 || len > MESSAGE_LEN_MAX {
                return None;
            }
            let Some(message) = self.assembled[at + LENGTH_LEN..].get(..len) else { break };
            out.push(message.to_vec());
            at += LENGTH_LEN + len;
        }
        self.assembled.drain(..at);
        debug_assert!(self.assembled.len() < LENGTH_LEN + MESSAGE_LEN_MAX, "only an incomplete message is left");
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
                    tx.on_ack(bytes.len());
                }
            }
        }
        assert_eq!(got, messages);
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
    fn pieces_beyond_the_window_and_impossible_lengths_are_refused() {
        let mut rx = ControlReceiver::default();
        assert_eq!(rx.receive(WINDOW + 1, b"x"), Some(vec![]));
        assert!(rx.held.is_empty());
        assert_eq!(rx.receive(u64::MAX, b"xx"), None);
        assert_eq!(rx.receive(0, &0u32.to_le_bytes()), None, "an empty message");
    }
}
