//! Owns the sizes and limits of a stack.

use crate::ring_socket::{RingSource, allocated};
use pilot_core::time::Duration;
use pilot_core::trust::{Pin, Quota};

/// Sizes and limits of a [`Stack`](crate::Stack).
#[derive(Clone, Copy, Debug)]
pub struct StackConfig {
    /// Largest send ring and largest receive ring of a stream. Unit: bytes. Streams of short paths get smaller ones. A
    /// stream moves at most one ring in a round-trip time.
    pub ring_len_max: usize,
    /// Bytes of all rings together. The nearer the rings come to the budget, the smaller are those of new streams, down
    /// to 256 KiB.
    pub ring_budget: usize,
    /// Where the memory of rings comes from; the allocator, if nothing else is said. Rings are large and mostly untouched,
    /// and are given back when their stream is over.
    pub ring_memory: RingSource,
    /// Takes notice that bytes of a ring were read and that their contents do not count any more: their pages may go back to the
    /// system. Called while a peer uses more than an eighth of its memory.
    pub ring_discard: Option<fn(&mut [u8])>,
    /// Most bytes that one peer makes this node hold, where its pin has no quota. Unit: bytes.
    pub memory_per_peer_max: usize,
    /// Most streams to one peer, where its pin has no quota.
    pub streams_per_peer_max: usize,
    /// Most streams of one listener that wait, for the end of their handshake or for [`Stack::accepted`]. One peer may have as
    /// many of them as are free, so that others find room. A peer that asks for one more gets no answer, and its TCP asks
    /// again.
    ///
    /// [`Stack::accepted`]: crate::Stack::accepted
    pub backlog_max: usize,
    /// Longest time in which a closed stream delivers what was written.
    pub linger: Duration,
}

impl Default for StackConfig {
    fn default() -> Self {
        Self {
            ring_len_max: 32 << 20,
            ring_budget: 512 << 20,
            ring_memory: allocated,
            ring_discard: None,
            memory_per_peer_max: Quota::MEMORY as usize,
            streams_per_peer_max: Quota::STREAMS as usize,
            backlog_max: 2048,
            linger: Duration::from_secs(60),
        }
    }
}

/// Smallest ring while there is budget. Unit: bytes. Source: `docs/link.md`, "Hazards met while
/// prototyping".
pub(crate) const RING_LEN_USUAL: usize = 1 << 20;
/// Smallest ring where the budget is spent. Unit: bytes.
const RING_LEN_MIN: usize = 256 << 10;
/// Ring per round-trip time: five times what 1 Gbit/s carries in it, since the bytes behind a lost packet wait in the
/// ring until the packet was sent again. Unit: bytes per microsecond. Source: measured in `pilot_tests::lab` at 3 %
/// loss.
const RING_BYTES_PER_US: usize = 5 * 125;
/// A new stream's ring takes at most the 16th part of the rest of the budget.
const RING_SHARE: usize = 16;

impl StackConfig {
    /// Most memory of a peer and most streams with it: as the pin says, or as configured.
    pub(crate) fn limits(&self, pin: &Pin) -> (usize, usize) {
        let quota = pin.quota();
        let memory = quota.memory.map_or(self.memory_per_peer_max, |max| usize::try_from(max).unwrap_or(usize::MAX));
        (memory, quota.streams.map_or(self.streams_per_peer_max, |max| max as usize))
    }

    /// Size of each ring of a new stream over a path with this round-trip time, while all rings together have `used`
    /// bytes.
    pub(crate) fn ring_len(&self, rtt: Option<Duration>, used: usize) -> usize {
        let wanted = rtt.map_or(usize::MAX, |rtt| RING_BYTES_PER_US.saturating_mul(rtt.as_micros() as usize));
        let share = self.ring_budget.saturating_sub(used) / RING_SHARE;
        wanted.max(RING_LEN_USUAL).min(share).max(RING_LEN_MIN).min(self.ring_len_max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rings_follow_the_round_trip_until_the_budget_ends() {
        let config = StackConfig::default();
        let ms = |n| Some(Duration::from_millis(n));
        assert_eq!(config.ring_len(ms(0), 0), RING_LEN_USUAL);
        assert_eq!(config.ring_len(ms(20), 0), 12_500_000);
        assert_eq!(config.ring_len(None, 0), config.ring_len_max, "nothing is known yet");
        let (mut used, mut streams) = (0, 0);
        while config.ring_len(ms(50), used) > RING_LEN_MIN {
            used += 2 * config.ring_len(ms(50), used);
            streams += 1;
            assert!(used <= config.ring_budget, "{streams} streams");
        }
        assert!((30..200).contains(&streams), "{streams} streams have more than the least");
        let small = StackConfig { ring_len_max: 16 << 10, ..config };
        assert_eq!(small.ring_len(ms(50), usize::MAX), 16 << 10, "a small device keeps its limit");
    }
}
