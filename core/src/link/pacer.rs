//! Owns pacing: when the next datagram may leave, so that a window does not leave as one burst.

use crate::time::{Duration, Instant};

/// What may leave at once after a pause. Covers a timer that is a millisecond coarse. Unit: ns.
const BURST_NS: u64 = 2_000_000;
/// The least that may leave at once. Unit: bytes.
const BURST_LEN_MIN: u64 = 2 * 1500;

/// Counts in nanoseconds: at a gigabyte per second a datagram takes one microsecond.
#[derive(Default)]
pub(super) struct Pacer {
    /// Unit: bytes per second; 0 while nothing is known.
    rate: u64,
    /// What may leave at once, as time at this rate. Unit: ns.
    burst_ns: u64,
    /// When the next datagram may leave, were there no burst allowance. Unit: ns.
    next_ns: u64,
}

const fn ns(at: Instant) -> u64 {
    at.as_micros().saturating_mul(1000)
}

impl Pacer {
    /// Sets the rate; `None` lets everything pass.
    pub(super) fn set_rate(&mut self, rate: Option<u64>) {
        self.rate = rate.unwrap_or(0);
        self.burst_ns = BURST_NS.max(BURST_LEN_MIN * 1_000_000_000 / self.rate.max(1));
    }

    pub(super) const fn may_send(&self, now: Instant) -> bool {
        self.rate == 0 || self.next_ns <= ns(now) + self.burst_ns
    }

    /// When [`Pacer::may_send`] becomes true; `None` when everything passes.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let at_ns = self.next_ns.saturating_sub(self.burst_ns);
        (self.rate > 0).then(|| Instant::ZERO + Duration::from_micros(at_ns.div_ceil(1000)))
    }

    pub(super) fn on_sent(&mut self, now: Instant, len: usize) {
        if let Some(cost_ns) = (len as u64 * 1_000_000_000).checked_div(self.rate) {
            self.next_ns = self.next_ns.max(ns(now).saturating_sub(self.burst_ns)) + cost_ns;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_leaves_at_once_and_the_rest_at_the_rate() {
        let (mut pacer, mut now, mut sent) = (Pacer::default(), Instant::from_micros(1_000_000), 0u64);
        pacer.set_rate(Some(1_000_000_000));
        let end = now + Duration::from_millis(100);
        while now < end {
            while pacer.may_send(now) {
                pacer.on_sent(now, 1400);
                sent += 1400;
            }
            now = pacer.deadline().expect("paced").max(now);
        }
        // 100 ms at 1 GB/s, and two allowances of 2 ms: one saved up before, one in advance.
        assert!((102_000_000..=104_010_000).contains(&sent), "{sent}");
    }

    #[test]
    fn without_a_rate_nothing_waits() {
        let mut pacer = Pacer::default();
        (0..100).for_each(|_| pacer.on_sent(Instant::ZERO, 1 << 30));
        assert!(pacer.may_send(Instant::ZERO));
        assert_eq!(pacer.deadline(), None);
    }
}
