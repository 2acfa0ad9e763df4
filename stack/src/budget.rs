//! Owns the count of the memory that one peer makes this node hold: bytes in the rings of its streams, and bytes that the
//! application keeps for a stream (`docs/link.md`, "Memory of a peer").
//!
//! Received bytes are bounded by the windows that the peer is told, and those beyond are dropped, as TCP allows: the peer's TCP
//! sends them again. Bytes to the peer are bounded by the room that a writer gets. Each stream may hold [`FLOOR`] bytes in each
//! direction beside that, so that none stands still because of others, until all of the maximum is held.

use crate::segment::FlowKey;
use alloc::vec::Vec;

/// Bytes that a stream may hold in each direction also when the others leave it no room, and what each stream counts for itself. Unit: bytes.
/// Source: one page, and three segments of the smallest datagram.
pub(crate) const FLOOR: usize = 4096;
/// Smallest part of the budget, in its 32nds, that is freed before streams that wait are told.
const FREED_SHARE: usize = 32;
/// Most streams among which the room for bytes that arrive is divided. More are rarely fast at once; if they are, bytes are
/// dropped and sent again.
const FAST_MAX: usize = 8;

/// Most streams among which the room for writers is divided. Source: own choice; of more streams few write at once.
const WRITERS_MAX: usize = 64;

/// Bytes that one stream holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Held {
    /// Arrived and not read, or not in order yet.
    pub(crate) received: usize,
    /// Written and not acknowledged by the peer's TCP.
    pub(crate) sent: usize,
    /// Kept by the application.
    pub(crate) kept: usize,
}

impl Held {
    const fn sum(self) -> usize {
        self.received + self.sent + self.kept
    }
}

/// The memory of one peer.
pub(crate) struct Budget {
    /// Unit: bytes.
    max: usize,
    streams_max: usize,
    streams: usize,
    held: Held,
    /// Bytes freed since streams that wait were told last.
    freed: usize,
    /// Streams that were told a smaller window than they have, or that wait for room.
    pub(crate) starved: Vec<FlowKey>,
}

impl Budget {
    pub(crate) const fn new(max: usize, streams_max: usize) -> Self {
        let held = Held { received: 0, sent: 0, kept: 0 };
        Self { max, streams_max, streams: 0, held, freed: 0, starved: Vec::new() }
    }

    /// The owner has decided anew; what is held stays.
    pub(crate) const fn set(&mut self, max: usize, streams_max: usize) {
        (self.max, self.streams_max) = (max, streams_max);
        self.freed = max; // streams that wait are told
    }

    // Getters.

    /// Bytes that count: a quarter of the maximum is left to what is not counted.
    const fn pot(&self) -> usize {
        self.max / 4 * 3
    }

    /// Bytes that may arrive and wait, and as many that may wait to be acknowledged.
    pub(crate) const fn share(&self) -> usize {
        self.max / 2
    }

    /// Bytes that the application may keep.
    const fn kept_share(&self) -> usize {
        self.max / 8 * 3
    }

    /// Bytes that count now.
    pub(crate) const fn used(&self) -> usize {
        self.held.sum() + self.streams * FLOOR
    }

    /// Streams, and bytes that count.
    pub(crate) const fn usage(&self) -> Usage {
        Usage { memory: self.used(), memory_max: self.max, streams: self.streams, streams_max: self.streams_max }
    }

    /// Why the peer may not have one more stream.
    pub(crate) fn refusal(&self) -> Option<&'static str> {
        if self.streams >= self.streams_max {
            return Some("too_many_streams");
        }
        (self.used() + FLOOR > self.pot()).then_some("budget")
    }

    fn rest(&self, held: usize, share: usize) -> usize {
        share.saturating_sub(held).min(self.pot().saturating_sub(self.used()))
    }

    /// What a stream that holds `held` bytes of one kind may add to them although the others leave it no room.
    fn floor(&self, held: usize) -> usize {
        FLOOR.saturating_sub(held).min(self.max.saturating_sub(self.used()))
    }

    /// True when any stream may be told this window: the usual case, told without a division.
    pub(crate) fn allows_window(&self, window: usize) -> bool {
        window <= self.rest(self.held.received, self.share()) / FAST_MAX
    }

    /// Largest window for a stream that holds `received` bytes.
    pub(crate) fn window(&self, received: usize) -> usize {
        let rest = self.rest(self.held.received, self.share());
        (rest / self.streams.clamp(1, FAST_MAX)).max(self.floor(received))
    }

    /// True when a stream that holds `received` bytes may take so many more.
    pub(crate) fn takes(&self, received: usize, len: usize) -> bool {
        len <= self.floor(received) || len <= self.rest(self.held.received, self.share())
    }

    /// Bytes that a stream with `sent` waiting ones may add, up to its fair part.
    pub(crate) fn room_to_send(&self, sent: usize) -> usize {
        let rest = self.rest(self.held.sent, self.share());
        let fair = self.share() / self.streams.clamp(1, WRITERS_MAX);
        let room = rest.min(fair.saturating_sub(sent));
        room.max(self.floor(sent))
    }

    /// Bytes that the application may keep beside the `kept` ones of a stream, which are counted already.
    pub(crate) fn room_to_keep(&self, kept: usize) -> usize {
        self.rest(self.held.kept, self.kept_share()).max(self.floor(kept))
    }

    /// True while the pages of bytes that were read are worth giving back to the system.
    pub(crate) const fn is_tight(&self) -> bool {
        self.used() > self.max / 8
    }

    // Changes.

    pub(crate) const fn add_stream(&mut self) {
        self.streams += 1;
    }

    pub(crate) fn remove_stream(&mut self, held: Held) {
        debug_assert!(self.streams > 0, "a stream is counted once");
        self.streams = self.streams.saturating_sub(1);
        self.replace(held, Held::default());
        self.freed += FLOOR;
    }

    /// Counts what a stream holds now instead of what it held before.
    pub(crate) fn replace(&mut self, before: Held, now: Held) {
        let changed = |all: usize, before: usize, now: usize| {
            debug_assert!(all >= before, "what a stream held was counted");
            (all + now).saturating_sub(before)
        };
        self.held = Held {
            received: changed(self.held.received, before.received, now.received),
            sent: changed(self.held.sent, before.sent, now.sent),
            kept: changed(self.held.kept, before.kept, now.kept),
        };
        self.freed += before.sum().saturating_sub(now.sum());
    }

    /// The streams to be told that there is room again; none while little was freed.
    pub(crate) fn relieved(&mut self) -> Vec<FlowKey> {
        if self.starved.is_empty() || self.freed < self.max / FREED_SHARE {
            return Vec::new();
        }
        self.freed = 0;
        core::mem::take(&mut self.starved)
    }
}

/// What a peer uses of its budget.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bytes that the peer makes this node hold. Unit: bytes.
    pub memory: usize,
    /// Most of them. Unit: bytes.
    pub memory_max: usize,
    /// Streams with the peer.
    pub streams: usize,
    /// Most of them.
    pub streams_max: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: usize = 8_000_000;

    fn received(received: usize) -> Held {
        Held { received, ..Held::default() }
    }

    #[test]
    fn windows_close_before_the_budget_is_spent_and_never_below_the_floor() {
        let mut budget = Budget::new(MAX, 100);
        (0..4).for_each(|_| budget.add_stream());
        assert_eq!(budget.window(0), budget.share() / 4);
        assert!(budget.allows_window(budget.share() / FAST_MAX) && !budget.allows_window(budget.share() / 4));
        let mut held = [0; 4];
        for _ in 0..200 {
            for flow in &mut held {
                let window = budget.window(*flow).min(1 << 20);
                assert!(budget.takes(*flow, window) || window <= FLOOR);
                budget.replace(received(*flow), received(*flow + window));
                *flow += window;
            }
        }
        let sum: usize = held.iter().sum();
        assert!(sum <= budget.share() + 4 * FLOOR && sum > budget.share() * 9 / 10, "{sum}");
        assert!(!budget.takes(FLOOR, 10) && budget.takes(0, FLOOR) && !budget.takes(0, FLOOR + 1));
        assert_eq!((budget.window(held[0]), budget.window(0)), (0, FLOOR));
    }

    #[test]
    fn all_kinds_share_one_pot() {
        let mut budget = Budget::new(MAX, 100);
        budget.add_stream();
        let held = Held { received: 0, sent: MAX / 8 * 3, kept: MAX / 8 * 3 };
        budget.replace(Held::default(), held);
        assert_eq!((budget.room_to_send(MAX), budget.room_to_keep(MAX), budget.window(FLOOR)), (0, 0, 0));
        assert!(budget.used() <= budget.pot() + FLOOR);
        assert_eq!((budget.room_to_send(0), budget.room_to_keep(1), budget.window(0)), (FLOOR, FLOOR - 1, FLOOR));
        assert_eq!(budget.refusal(), Some("budget"));
        budget.replace(held, Held::default());
        assert_eq!((budget.refusal(), budget.room_to_keep(0)), (None, budget.kept_share()));
    }

    #[test]
    fn writers_share_the_room() {
        let mut budget = Budget::new(MAX, 100);
        (0..4).for_each(|_| budget.add_stream());
        let mut sent = [0; 4];
        let write = |budget: &mut Budget, sent: &mut [usize; 4], i: usize| {
            let room = budget.room_to_send(sent[i]);
            budget.replace(Held { sent: sent[i], ..Held::default() }, Held { sent: sent[i] + room, ..Held::default() });
            sent[i] += room;
        };
        (0..4).for_each(|i| write(&mut budget, &mut sent, i));
        assert_eq!(sent, [budget.share() / 4; 4]);
        (0..4).for_each(|i| write(&mut budget, &mut sent, i));
        assert_eq!(sent, [budget.share() / 4; 4], "none takes the part of another");
    }

    #[test]
    fn streams_have_a_maximum_in_number_and_in_memory() {
        let mut budget = Budget::new(MAX, 100);
        (0..100).for_each(|_| budget.add_stream());
        assert_eq!(budget.refusal(), Some("too_many_streams"));
        budget.set(MAX, 100_000);
        while budget.refusal().is_none() {
            budget.add_stream();
        }
        assert_eq!((budget.refusal(), budget.used() / FLOOR), (Some("budget"), budget.pot() / FLOOR));
        budget.remove_stream(Held::default());
        assert_eq!(budget.refusal(), None);
    }

    #[test]
    fn streams_that_wait_are_told_when_enough_was_freed() {
        let mut budget = Budget::new(MAX, 100);
        budget.add_stream();
        budget.replace(Held::default(), received(MAX / 8 * 3));
        budget.replace(Held::default(), Held { kept: MAX / 8 * 3, ..Held::default() });
        budget.starved.push((1, 2));
        assert_eq!(budget.relieved(), []);
        budget.replace(received(MAX / 8), received(MAX / 8 - MAX / 64));
        assert_eq!(budget.relieved(), [], "little was freed");
        budget.replace(received(MAX / 8), received(MAX / 8 - MAX / 64));
        assert_eq!(budget.relieved(), [(1, 2)]);
        assert_eq!(budget.relieved(), [], "once");
    }
}
