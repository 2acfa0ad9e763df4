//! Owns the datagrams that wait to be relayed: a queue for each sender, and the turns in which they leave.
//!
//! The way out is the socket, or a budget below it. While it has no room, senders get equal shares of bytes, however many
//! channels each of them uses (deficit round robin), and the first datagrams of a sender that had none waiting leave before
//! those of the others (RFC 8290). A queue may hold as much as is free of all room, so that a sender that comes late finds a
//! place without anything being taken from others.

use crate::bucket::Bucket;
use pilot_core::Instant;
use pilot_core::endpoint::Transmit;
use pilot_core::identity::IdentityKey;
use pilot_core::path::Source;
use pilot_core::time::Duration;
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;

/// Most datagrams of one batch. Source: UDP_MAX_SEGMENTS of Linux.
const BATCH_SEGMENTS_MAX: usize = 64;
/// Longest batch. Unit: bytes. Source: below 2^16 with headers.
const BATCH_LEN_MAX: usize = 65_000;
/// What a sender gains with each turn. Unit: bytes. Source: own choice; about 13 relayed datagrams, or what a budget lets leave
/// in 2 ms and two datagrams at least, so that a turn of all does not take long.
const QUANTUM: usize = 16 << 10;
const QUANTUM_MIN: usize = 2464;
/// Most that waits of one sender. Unit: bytes. Source: own choice; 8 ms at the rate that one client may have relayed.
const QUEUE_LEN_MAX: usize = 512 << 10;
/// Waiting time from which on the sender is told to send less. Source: own choice: what a queue holds then outlasts the
/// answer of a link with a round trip of 100 ms.
const TELL_AFTER: Duration = Duration::from_millis(50);
/// Waiting time after which a datagram with others of its sender behind is dropped: those carry newer acknowledgements.
const DROP_AFTER: Duration = Duration::from_millis(250);
/// Headers of IP and UDP, which count towards the budget. Unit: bytes.
const HEADERS_LEN: usize = 28;

/// One datagram that waits.
pub(crate) struct Waiting {
    pub(crate) to: SocketAddr,
    /// The sender's number of the channel.
    pub(crate) channel: u32,
    pub(crate) at: Instant,
    pub(crate) datagram: Vec<u8>,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Waiting>,
    /// Unit: bytes.
    len: usize,
    /// What the sender may send in this turn. Unit: bytes.
    deficit: usize,
}

impl Queue {
    /// Drops what has waited for too long, but for the newest; `f` gets the channel of each.
    fn drop_old(&mut self, now: Instant, mut f: impl FnMut(u32)) {
        while self.waiting.len() > 1 && self.waiting.front().is_some_and(|first| now.since(first.at) >= DROP_AFTER) {
            if let Some(old) = self.waiting.pop_front() {
                self.len -= old.datagram.len();
                f(old.channel);
            }
        }
    }
}

/// All that waits.
pub(crate) struct Forward {
    queues: BTreeMap<IdentityKey, Queue>,
    /// The senders in the order of their turns. One of which nothing waits any more has its place until its next turn, so that
    /// it does not come first again and again.
    turns: VecDeque<IdentityKey>,
    len: usize,
    len_max: usize,
    /// Bytes per second, and what of them is left.
    budget: Option<(u64, Bucket)>,
}

impl Forward {
    pub(crate) const fn new(len_max: usize) -> Self {
        Self { queues: BTreeMap::new(), turns: VecDeque::new(), len: 0, len_max, budget: None }
    }

    /// What waits. Unit: bytes.
    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    /// Lets so many bytes leave in a second from now on; `None`: as many as the socket takes.
    pub(crate) fn set_budget(&mut self, now: Instant, per_second: Option<u64>) {
        self.budget = per_second.map(|rate| (rate.max(1), Bucket::new(burst(rate), now)));
    }

    fn quantum(&self) -> usize {
        let of_rate = |(rate, _): &(u64, Bucket)| ((rate / 500) as usize).clamp(QUANTUM_MIN, QUANTUM);
        self.budget.as_ref().map_or(QUANTUM, of_rate)
    }

    /// Takes a datagram of `sender`; false, and it is dropped, when there is no room for it.
    pub(crate) fn push(&mut self, sender: IdentityKey, waiting: Waiting) -> bool {
        let size = waiting.datagram.len();
        let (len, is_new) = self.queues.get(&sender).map_or((0, true), |queue| (queue.len, false));
        let quantum = self.quantum();
        let has_room = len + size <= QUEUE_LEN_MAX.min(self.len_max - self.len);
        if has_room {
            let queue = self.queues.entry(sender).or_default();
            queue.waiting.push_back(waiting);
            queue.len += size;
            self.len += size;
            if is_new {
                queue.deficit = quantum;
                self.turns.push_front(sender);
            }
        }
        debug_assert!(self.turns.len() == self.queues.len() && self.len <= self.len_max);
        has_room
    }

    /// When the budget has room for the next datagram; `None` when nothing waits for it.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let (rate, bucket) = self.budget.as_ref()?;
        let first = self.turns.iter().find_map(|sender| self.queues[sender].waiting.front())?;
        Some(bucket.has_at(cost(first.datagram.len()), *rate))
    }

    /// Fills `out` with datagrams of one sender to one address. `tell` gets each sender, and its channel, that sends more than
    /// passes.
    pub(crate) fn poll(
        &mut self,
        now: Instant,
        out: &mut Vec<u8>,
        mut tell: impl FnMut(IdentityKey, u32),
    ) -> Option<Transmit> {
        out.clear();
        let (quantum, mut transmit) = (self.quantum(), None);
        while transmit.is_none() {
            let sender = *self.turns.front()?;
            let is_alone = self.turns.len() == 1;
            let queue = self.queues.get_mut(&sender)?;
            let before = queue.len;
            queue.drop_old(now, |channel| tell(sender, channel));
            self.len -= before - queue.len;
            let Some(first) = queue.waiting.front() else {
                self.queues.remove(&sender);
                self.turns.pop_front();
                continue;
            };
            let (to, segment_len) = (first.to, first.datagram.len());
            if queue.deficit < segment_len {
                queue.deficit += quantum.max(segment_len);
                self.turns.rotate_left(1);
                continue;
            }
            if now.since(first.at) >= TELL_AFTER {
                tell(sender, first.channel);
            }
            for _ in 0..BATCH_SEGMENTS_MAX {
                let Some(next) = queue.waiting.front().filter(|next| next.to == to) else { break };
                let size = next.datagram.len();
                // Only the last datagram of a batch may be shorter than the others.
                let fits = out.len().is_multiple_of(segment_len) && size <= segment_len;
                let is_paid = is_alone || queue.deficit >= size;
                if !fits || !is_paid || out.len() + size > BATCH_LEN_MAX.max(size) {
                    break;
                }
                if let Some((rate, bucket)) = &mut self.budget
                    && !bucket.take(now, cost(size), *rate, burst(*rate))
                {
                    break;
                }
                out.extend_from_slice(&next.datagram);
                queue.waiting.pop_front();
                queue.deficit = queue.deficit.saturating_sub(size);
                (queue.len, self.len) = (queue.len - size, self.len - size);
            }
            if queue.waiting.is_empty() {
                self.turns.rotate_left(1);
            }
            if out.is_empty() {
                return None; // the budget is used up
            }
            transmit = Some(Transmit { to, source: Source::MAIN, segment_len });
        }
        transmit
    }
}

/// What a datagram takes of the budget. Unit: bytes.
const fn cost(len: usize) -> u64 {
    (len + HEADERS_LEN) as u64
}

/// What a budget lets leave at once: 5 ms of it, and the longest datagram at least. Unit: bytes.
fn burst(per_second: u64) -> u64 {
    (per_second / 200).max(cost(BATCH_LEN_MAX))
}

#[cfg(test)]
mod tests;
