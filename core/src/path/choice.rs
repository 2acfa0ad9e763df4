//! Owns which of several paths is used.

use super::{Outstanding, PathAddr, PathReason, Paths};
use crate::time::{Duration, Instant};

/// How much slower than the relay a direct path may be and still be preferred. Source: `docs/paths.md`, "Rules".
const DIRECT_BONUS: Duration = Duration::from_millis(10);
/// What another direct path must be faster by, beside a tenth of the round trip, and how often in a row. Source: `docs/paths.md`,
/// "Rules".
const FASTER_BY: Duration = Duration::from_millis(5);
pub(super) const FASTER_TIMES: u8 = 3;
/// Pause after a peer was followed from one direct path to another, in which two sides that follow each other would change places
/// for ever. Source: own choice.
const FOLLOW_PAUSE: Duration = Duration::from_secs(1);

impl Paths {
    /// Notes whether a probe of another direct path than the one in use was faster.
    pub(super) fn compare(&mut self, addr: PathAddr, rtt: Duration) {
        let Some(selected) = self.selected_path().filter(|path| path.addr != addr) else { return };
        let is_faster = selected.rtt.is_some_and(|old| rtt + FASTER_BY.max(old / 10) <= old);
        if let Some(path) = self.find_mut(addr) {
            path.faster = if is_faster { path.faster.saturating_add(1) } else { 0 };
        }
    }

    /// Why the path that has just answered a probe is better than the one in use, if it is.
    pub(super) fn is_better(&self, now: Instant, probe: &Outstanding, newest_from: PathAddr) -> Option<PathReason> {
        let path = self.find(probe.to)?;
        match (self.selected_path(), path.addr) {
            (None, _) => Some(PathReason::Answered),
            (Some(selected), addr) if selected.addr == addr => None,
            (Some(selected), addr) if !addr.is_direct() => {
                let is_nearer = !selected.addr.is_direct() && self.is_better_relay(addr);
                is_nearer.then_some(PathReason::Answered)
            }
            (Some(selected), _) if !selected.addr.is_direct() => {
                let rtts = selected.rtt.zip(path.rtt);
                rtts.is_none_or(|(relay, direct)| direct <= relay + DIRECT_BONUS).then_some(PathReason::Answered)
            }
            (Some(selected), _) if !selected.validated => Some(PathReason::Followed),
            // The peer speaks from there now, and nothing has come on the path in use since this one was asked.
            (Some(_), addr) => {
                let has_left = addr == newest_from && self.heard <= probe.at;
                let may_follow = self.followed_at.is_none_or(|at| now.since(at) >= FOLLOW_PAUSE);
                let is_faster = path.faster >= FASTER_TIMES;
                (has_left && may_follow).then_some(PathReason::Followed).or(is_faster.then_some(PathReason::Faster))
            }
        }
    }
}
