//! Owns the watch on the wall clock, which may be set while the node runs.

use pilot_core::Instant;
use pilot_core::time::Duration;

/// Pause between two looks.
const PAUSE: Duration = Duration::from_secs(5);
/// Difference between the clocks from which on the wall clock was set. Unit: milliseconds.
const STEP_MIN_MS: u64 = 2000;

/// A step of the wall clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ClockStep {
    pub(crate) forwards: bool,
    pub(crate) by: Duration,
}

/// What both clocks said at the last look.
#[derive(Default)]
pub(crate) struct ClockWatch {
    last: Option<(Instant, u64)>,
}

impl ClockWatch {
    /// Compares the clocks, at most once in five seconds. A machine that slept looks as one with a clock that was set forwards.
    /// `wall_ms` is called only then and gives milliseconds since 1970.
    pub(crate) fn look(&mut self, now: Instant, wall_ms: impl FnOnce() -> u64) -> Option<ClockStep> {
        let (at, wall_before) = match self.last {
            Some(last) if now < last.0 + PAUSE => return None,
            last => last.unzip(),
        };
        let wall = wall_ms();
        self.last = Some((now, wall));
        let expected = wall_before?.saturating_add(now.since(at?).as_millis() as u64);
        let by_ms = wall.abs_diff(expected);
        (by_ms > STEP_MIN_MS).then(|| ClockStep { forwards: wall > expected, by: Duration::from_millis(by_ms) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_seen_and_a_slow_drift_is_not() {
        let mut watch = ClockWatch::default();
        let at = |s: u64| Instant::from_micros(s * 1_000_000);
        assert_eq!(watch.look(at(0), || 1_000_000), None);
        assert_eq!(watch.look(at(1), || unreachable!("too early")), None);
        assert_eq!(watch.look(at(5), || 1_006_999), None, "1.999 s are within what clocks do");
        let step = watch.look(at(10), || 1_072_000).expect("a step");
        assert_eq!(step, ClockStep { forwards: true, by: Duration::from_millis(60_001) });
        let step = watch.look(at(20), || 0).expect("a step back");
        assert_eq!(step, ClockStep { forwards: false, by: Duration::from_millis(1_082_000) });
        assert_eq!(watch.look(at(80), || 60_000), None);
    }
}
