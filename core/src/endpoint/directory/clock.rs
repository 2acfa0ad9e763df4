//! Owns which clock each input of the directory goes by: this machine's, or the rendezvous' where nodes tell each other times.

use super::{Context, Directory, Effect, Warning};
use crate::time::Instant;
use crate::trust::Me;

impl Directory {
    /// Notes that a stamp, a sequence or an epoch of this time was used; asks for a save ahead of need.
    pub(crate) fn note_time(&mut self, used_us: u64, wall_us: u64) {
        let risen = self.times.note(used_us, wall_us);
        self.effects.extend(risen.map(Effect::SaveTimes));
    }

    /// The disk has refused the ceiling of the times.
    pub(crate) const fn times_not_saved(&mut self) {
        self.times.forget_ceiling();
    }

    /// The newest time that was used, for an orderly end.
    pub(crate) const fn used_us(&self) -> u64 {
        self.times.used_us()
    }

    /// How far the wall clock lies behind the rendezvous', or ahead of it when negative; `None` while that is not known.
    /// Unit: seconds.
    pub(crate) fn clock_behind_s(&self, now: Instant, wall_us: u64) -> Option<i64> {
        self.times.behind_s(now, wall_us)
    }

    /// The rendezvous' wall clock says `clock_us`. A clock of ours that differs from it is told.
    pub(super) fn learn_clock(&mut self, cx: &Context<'_>, clock_us: u64) {
        self.times.learn_clock(cx.now, clock_us);
        let news = self.times.skew_news(cx.now, cx.wall_us).map(Warning::Clock);
        self.effects.extend(news.map(Effect::Warn));
    }

    /// This node as it is now, for its trust book.
    pub(super) fn me<'a>(&self, cx: &'a Context<'_>, record: &'a [u8]) -> Me<'a> {
        let now_s = cx.wall_us / 1_000_000;
        let skew = self.times.skew_s(cx.now, cx.wall_us);
        let common_s = now_s.saturating_add_signed(skew.unwrap_or_default());
        Me { identity: cx.identity, record, now_s, common_s }
    }
}
