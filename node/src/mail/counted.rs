//! Owns counted time, by which a message in the outbox grows old: time while the node runs, and pauses between its runs up to
//! [`PAUSE_MAX_S`]. A wall clock that is wrong for one boot can thus age a message by a day at most.

use pilot_core::Instant;
use pilot_core::codec::{Malformed, Put as _, Reader};

/// Longest part of a pause between two runs that counts. Unit: seconds (one day). Source: `docs/messages.md`, "Counted time".
pub(crate) const PAUSE_MAX_S: u64 = 24 * 3600;

/// The clock of counted time. Its numbers never fall within a run, and fall between runs by no more than was not saved.
#[derive(Debug, Default)]
pub(crate) struct Counted {
    /// Counted time at the start of this run. Unit: seconds.
    at_start: u64,
}

impl Counted {
    /// Goes on from what [`Counted::emit`] gave to an earlier run; a first run begins at 0. Unit of `wall`: seconds since 1970.
    pub(crate) fn resume(saved: Option<&[u8]>, wall: u64) -> Self {
        let Some((counted, then)) = saved.and_then(|row| parse(row).ok()) else { return Self::default() };
        Self { at_start: counted.saturating_add(wall.saturating_sub(then).min(PAUSE_MAX_S)) }
    }

    /// The counted time at a moment of this run. Unit: seconds.
    pub(crate) fn at(&self, now: Instant) -> u64 {
        self.at_start.saturating_add(now.since(Instant::ZERO).as_secs())
    }

    /// The counted time with the wall clock beside it, for the next run.
    pub(crate) fn emit(&self, now: Instant, wall: u64) -> Vec<u8> {
        let mut out = Vec::with_capacity(16);
        out.put_u64(self.at(now));
        out.put_u64(wall);
        out
    }
}

fn parse(row: &[u8]) -> Result<(u64, u64), Malformed> {
    let mut r = Reader::new(row);
    Ok((r.u64()?, r.u64()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn pauses_count_up_to_a_day_and_never_backwards() {
        let hour = Instant::ZERO + Duration::from_secs(3600);
        let first = Counted::resume(None, 1000);
        let saved = first.emit(hour, 5000);
        assert_eq!(first.at(hour), 3600);
        for (wall, counted) in [(5000, 3600), (5007, 3607), (5000 + 8 * PAUSE_MAX_S, 3600 + PAUSE_MAX_S), (4000, 3600)]
        {
            assert_eq!(Counted::resume(Some(&saved), wall).at(Instant::ZERO), counted, "the clock says {wall}");
        }
        assert_eq!(Counted::resume(Some(b"torn"), 5000).at(hour), 3600);
    }
}
