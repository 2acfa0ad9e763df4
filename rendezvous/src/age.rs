//! Owns the time by which the rows of the books grow old: that of the newest row at the start, a pause before it, and from then
//! on the time for which this process runs. A wall clock that is wrong for one start, or is set later, thus ages no row by more
//! than [`PAUSE_MAX_S`].

use pilot_core::Instant;

/// Longest pause between two processes that counts. Unit: seconds (one day). Source: `docs/trust.md`, "Registry".
pub(crate) const PAUSE_MAX_S: u64 = 24 * 3600;

/// The clock of the books.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Age {
    /// Unit: seconds since 1970, as far as the wall clock was right.
    begin_s: u64,
    began: Instant,
}

impl Age {
    /// Goes on from `newest_s`, the time of the newest row; without any row the wall clock is as good as another.
    pub(crate) fn begin(now: Instant, newest_s: Option<u64>, wall_s: u64) -> Self {
        let begin_s = newest_s.map_or(wall_s, |newest| wall_s.clamp(newest, newest.saturating_add(PAUSE_MAX_S)));
        Self { begin_s, began: now }
    }

    /// The time at a moment of this process. Unit: as above.
    pub(crate) fn at(&self, now: Instant) -> u64 {
        self.begin_s.saturating_add(now.since(self.began).as_secs())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pilot_core::time::Duration;

    #[test]
    fn pauses_count_up_to_a_day_and_never_backwards() {
        const NEWEST: u64 = 1_700_000_000;
        let (began, hour) = (Instant::from_micros(7_000_000), Duration::from_secs(3600));
        let far = NEWEST + 3000 * PAUSE_MAX_S;
        for (wall_s, begin_s) in [(0, NEWEST), (NEWEST + 9, NEWEST + 9), (far, NEWEST + PAUSE_MAX_S)] {
            let age = Age::begin(began, Some(NEWEST), wall_s);
            assert_eq!((age.at(began), age.at(began + hour)), (begin_s, begin_s + 3600), "the clock says {wall_s}");
        }
        assert_eq!(Age::begin(began, None, far).at(began + hour), far + 3600);
    }
}
