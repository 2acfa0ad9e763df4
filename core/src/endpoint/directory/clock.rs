//! Owns what the node knows of the rendezvous' clock, and the times that this node has used and must not use again.
//!
//! Records, trust messages and INITs count only when their sequence, epoch or stamp is above the last one, across restarts
//! and whatever the wall clock does. All three follow the wall clock; a **ceiling**, which is on disk before they reach it,
//! is where they begin after a restart when the wall clock lies below it. It rises an hour at a time, so that it is written
//! seldom.

use super::{Context, Directory, Effect};
use crate::time::Instant;
use crate::trust::Me;

/// How far ahead the ceiling is put. Unit: microseconds (one hour). Source: own choice; a sync in an hour, and after a crash
/// stamps that are as much ahead of the clock at most.
const BLOCK_US: u64 = 3600 * 1_000_000;
/// Distance from the ceiling at which it rises. Unit: microseconds.
const MARGIN_US: u64 = 60 * 1_000_000;
/// Clocks that differ less than this count as one clock. Unit: seconds. Source: own choice; NTP keeps far closer.
const SAME_CLOCK_S: u64 = 60;

/// The times of a node.
#[derive(Debug, Default)]
pub(super) struct Times {
    /// Newest time that was used. Unit: microseconds since 1970.
    pub(super) used_us: u64,
    ceiling_us: u64,
    /// The rendezvous' clock at the start of our monotonic one. Unit: microseconds since 1970; before it when negative.
    rendezvous_at_zero_us: Option<i64>,
}

impl Times {
    /// `used_us`: no time that this node has used was greater. 0: none is known.
    pub(super) const fn new(used_us: u64) -> Self {
        Self { used_us, ceiling_us: used_us, rendezvous_at_zero_us: None }
    }
}

impl Directory {
    /// Notes that a stamp, a sequence or an epoch of this time was used; asks for a save ahead of need.
    pub(crate) fn note_time(&mut self, used_us: u64, wall_us: u64) {
        let times = &mut self.times;
        times.used_us = times.used_us.max(used_us);
        if times.used_us.saturating_add(MARGIN_US) > times.ceiling_us {
            // Times that run ahead of the clock rise by single units: a margin is enough for them.
            let ahead = times.used_us.saturating_add(2 * MARGIN_US);
            times.ceiling_us = ahead.max(wall_us.saturating_add(BLOCK_US));
            self.effects.push_back(Effect::SaveTimes(times.ceiling_us));
        }
        debug_assert!(self.times.used_us <= self.times.ceiling_us, "what is on disk is ahead of what is used");
    }

    /// The newest time that was used, for an orderly end.
    pub(crate) const fn used_us(&self) -> u64 {
        self.times.used_us
    }

    // The rendezvous' clock.

    /// How far the wall clock lies behind the rendezvous', or ahead of it when negative; `None` while that is not known.
    /// Unit: seconds.
    pub(crate) fn clock_behind_s(&self, now: Instant, wall_us: u64) -> Option<i64> {
        let rendezvous_us = self.times.rendezvous_at_zero_us? + now.as_micros() as i64;
        Some((rendezvous_us - wall_us.min(i64::MAX as u64) as i64) / 1_000_000)
    }

    /// This node as it is now, for its trust book.
    pub(super) fn me<'a>(&self, cx: &'a Context<'_>, record: &'a [u8]) -> Me<'a> {
        let now_s = cx.wall_us / 1_000_000;
        let behind = self.clock_behind_s(cx.now, cx.wall_us).filter(|s| s.unsigned_abs() >= SAME_CLOCK_S);
        let common_s = now_s.saturating_add_signed(behind.unwrap_or_default());
        Me { identity: cx.identity, record, now_s, common_s }
    }
}
