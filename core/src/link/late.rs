//! Owns what the sender knows of datagrams that come late: those that were called lost and may still come, and how much
//! longer than a round trip the late ones took.

use crate::time::{Duration, Instant};
use alloc::vec::Vec;

/// Lost datagrams that are remembered; with the next one the older half is forgotten. Source: one round trip of 1 Gbit/s
/// and 10 ms, after which the allowance has grown.
const LOST_MAX: usize = 1024;
/// Time after which a lateness that was not seen again counts half. Source: as for the smallest round trip (`cc`).
const LIFETIME: Duration = Duration::from_secs(10);

/// One datagram that was called lost.
struct Lost {
    number: u64,
    at: Instant,
    /// Unit: bytes.
    size: u32,
}

/// Lateness on one path.
#[derive(Default)]
pub(super) struct Late {
    /// Ascending numbers.
    lost: Vec<Lost>,
    /// The longest lateness of late.
    longest: Duration,
    longest_at: Instant,
}

impl Late {
    /// How much longer than a round trip a datagram may take.
    pub(super) const fn longest(&self) -> Duration {
        self.longest
    }

    /// Notes a datagram that is called lost.
    pub(super) fn on_lost(&mut self, now: Instant, number: u64, at: Instant, size: u32) {
        if self.lost.len() == LOST_MAX {
            self.lost.drain(..LOST_MAX / 2);
        }
        debug_assert!(self.lost.last().is_none_or(|last| last.number < number), "the oldest is lost first");
        self.lost.push(Lost { number, at, size });
        self.fade(now);
    }

    /// Notes that a datagram came so much later than a round trip, and that a later one had overtaken it.
    pub(super) fn note(&mut self, now: Instant, lateness: Duration) {
        self.fade(now);
        if lateness >= self.longest {
            (self.longest, self.longest_at) = (lateness, now);
        }
    }

    fn fade(&mut self, now: Instant) {
        if now.since(self.longest_at) > LIFETIME {
            (self.longest, self.longest_at) = (self.longest / 2, now);
        }
    }

    /// Takes out the datagrams of these ranges (newest first) that were called lost; `on_late` gets the number, the time
    /// of sending and the size of each.
    pub(super) fn take(
        &mut self,
        ranges: impl Iterator<Item = (u64, u64)>,
        mut on_late: impl FnMut(u64, Instant, u32),
    ) {
        for (low, high) in ranges {
            let Some(oldest) = self.lost.first().map(|lost| lost.number) else { return };
            if high < oldest {
                return;
            }
            let from = self.lost.partition_point(|lost| lost.number < low);
            let to = self.lost.partition_point(|lost| lost.number <= high);
            self.lost.drain(from..to.max(from)).for_each(|lost| on_late(lost.number, lost.at, lost.size));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec;
    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn lost_datagrams_that_come_are_told_once_and_the_oldest_are_forgotten() {
        let mut late = Late::default();
        (0..LOST_MAX as u64 + 1).for_each(|n| late.on_lost(Instant::ZERO, n, Instant::ZERO, 100));
        assert_eq!(late.lost.len(), LOST_MAX / 2 + 1);
        let mut came = vec![];
        let last = LOST_MAX as u64;
        for _ in 0..2 {
            late.take([(last - 1, last + 5), (last - 4, last - 3), (0, 9)].into_iter(), |n, _, _| came.push(n));
        }
        assert_eq!(came, [last - 1, last, last - 4, last - 3]);
    }

    #[test]
    fn the_longest_lateness_counts_and_fades() {
        let mut late = Late::default();
        late.note(Instant::ZERO, MS * 20);
        late.note(Instant::ZERO + MS, MS * 5);
        assert_eq!(late.longest(), MS * 20);
        late.on_lost(Instant::ZERO + LIFETIME + MS, 1, Instant::ZERO, 100);
        assert_eq!(late.longest(), MS * 10);
        late.note(Instant::ZERO + LIFETIME * 3, MS * 7);
        assert_eq!(late.longest(), MS * 7);
    }
}
