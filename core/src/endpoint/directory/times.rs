//! Owns the times that this node has used and must not use again, and the difference to the rendezvous' clock.
//!
//! Records, trust messages and INITs count only when their sequence, epoch or stamp is above the last one, across restarts
//! and whatever the wall clock does. All three follow the wall clock; a **ceiling**, which is on disk before they reach it,
//! is where they begin after a restart when the wall clock lies below it. It rises an hour at a time, so that it is written
//! seldom.

use crate::time::Instant;

/// How far ahead the ceiling is put. Unit: microseconds (one hour). Source: own choice; a sync in an hour, and after a crash
/// stamps that are as much ahead of the clock at most.
const BLOCK_US: u64 = 3600 * 1_000_000;
/// Distance from the ceiling at which it rises. Unit: microseconds.
const MARGIN_US: u64 = 60 * 1_000_000;

/// Clocks that differ less than this count as one clock. Unit: seconds. Source: own choice; NTP keeps far closer.
const SAME_CLOCK_S: i64 = 60;

/// The times of a node.
#[derive(Debug, Default)]
pub(super) struct Times {
    used_us: u64,
    ceiling_us: u64,
    /// The rendezvous' clock at the start of our monotonic one. Unit: microseconds since 1970; before it when negative.
    rendezvous_at_zero_us: Option<i64>,
    /// The difference that the owner was told last. Unit: seconds.
    told_s: i64,
}

impl Times {
    /// `used_us`: no time that this node has used was greater. 0: none is known.
    pub(super) const fn new(used_us: u64) -> Self {
        Self { used_us, ceiling_us: used_us, rendezvous_at_zero_us: None, told_s: 0 }
    }

    /// Newest time that was used. Unit: microseconds since 1970.
    pub(super) const fn used_us(&self) -> u64 {
        self.used_us
    }

    /// Notes that this time was used; gives the ceiling when it has risen, which must then be saved.
    pub(super) fn note(&mut self, used_us: u64, wall_us: u64) -> Option<u64> {
        self.used_us = self.used_us.max(used_us);
        if self.used_us.saturating_add(MARGIN_US) <= self.ceiling_us {
            return None;
        }
        // Times that run ahead of the clock rise by single units: a margin is enough for them.
        let ahead = self.used_us.saturating_add(2 * MARGIN_US);
        self.ceiling_us = ahead.max(wall_us.saturating_add(BLOCK_US));
        debug_assert!(self.used_us <= self.ceiling_us, "what is on disk is ahead of what is used");
        Some(self.ceiling_us)
    }

    /// A ceiling could not be saved: the next time that is used asks for one again.
    pub(super) const fn forget_ceiling(&mut self) {
        self.ceiling_us = self.used_us;
    }

    /// The rendezvous' wall clock says `clock_us` at `now`. Unit: microseconds since 1970.
    pub(super) fn learn_clock(&mut self, now: Instant, clock_us: u64) {
        let clock_us = i64::try_from(clock_us).ok();
        self.rendezvous_at_zero_us = clock_us.and_then(|us| us.checked_sub(now.as_micros() as i64));
    }

    /// How far the wall clock lies behind the rendezvous', or ahead of it when negative. Unit: seconds.
    pub(super) fn behind_s(&self, now: Instant, wall_us: u64) -> Option<i64> {
        let rendezvous_us = self.rendezvous_at_zero_us?.saturating_add(now.as_micros() as i64);
        let behind_us = rendezvous_us.saturating_sub(wall_us.min(i64::MAX as u64) as i64);
        // The nearest second, since the answer was under way for a while.
        Some(behind_us.saturating_add(500_000).div_euclid(1_000_000))
    }

    /// The same, when the two are different clocks.
    pub(super) fn skew_s(&self, now: Instant, wall_us: u64) -> Option<i64> {
        self.behind_s(now, wall_us).filter(|behind| behind.abs() >= SAME_CLOCK_S)
    }

    /// The difference between the two clocks, once for each difference.
    pub(super) fn skew_news(&mut self, now: Instant, wall_us: u64) -> Option<i64> {
        let behind = self.behind_s(now, wall_us)?;
        if behind.abs_diff(self.told_s) < SAME_CLOCK_S as u64 {
            return None;
        }
        self.told_s = behind;
        self.skew_s(now, wall_us)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Duration;

    #[test]
    fn a_ceiling_that_is_not_on_disk_is_asked_for_again() {
        let mut times = Times::new(0);
        let ceiling = times.note(5, 5).expect("the first one");
        assert_eq!(times.note(6, 6), None);
        times.forget_ceiling();
        assert_eq!(times.note(7, 7), Some(ceiling + 2));
        assert_eq!(times.note(8, 8), None);
    }

    #[test]
    fn a_difference_is_told_to_the_nearest_second_and_any_clock_is_borne() {
        let (mut times, now) = (Times::new(0), Instant::ZERO);
        let later = now + Duration::from_secs(5);
        for (clock_us, wall_us, behind_s) in [
            (90_000_000_000, 0, 90_000),
            (89_999_990_000, 0, 90_000),
            (10_000, 90_000_000_000, -90_000),
            (90_000_400_000, 0, 90_000),
        ] {
            times.learn_clock(now, clock_us);
            assert_eq!(times.behind_s(now, wall_us), Some(behind_s));
            assert_eq!(times.behind_s(later, wall_us + 5_000_000), Some(behind_s));
        }
        times.learn_clock(now, i64::MAX as u64);
        assert!(times.behind_s(later, 0).is_some_and(|behind_s| behind_s > 0));
        times.learn_clock(now, u64::MAX);
        assert_eq!(times.behind_s(later, 0), None, "no time at all");
    }
}
