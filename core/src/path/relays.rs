//! Owns the ways to a peer through relays: their channels, which of them is used, and when the peer has left one.

use super::{Path, PathAddr, PathNews, PathReason, Paths};
use crate::relay::RelayNumber;
use crate::time::{Duration, Instant};
use crate::wire::Channel;

/// Time without a datagram on a direct path, beside two of its round trips, after which a peer that speaks over the relay has
/// left it. Source: own choice.
pub(super) const LEFT_AFTER: Duration = Duration::from_millis(300);
/// How much nearer another relay has to be, or a tenth. Source: `docs/paths.md`, "Relay".
const RELAY_BONUS: Duration = Duration::from_millis(5);
/// Longest that a side waits for its candidates to arrive. Source: own choice.
const TELL_WAIT_MAX: Duration = Duration::from_secs(1);

impl Paths {
    /// The relay to be used: one that works, and of these the nearest.
    pub(crate) fn relay(&self) -> Option<PathAddr> {
        let badness = |path: &&Path| (!path.validated, path.rtt.unwrap_or(Duration::MAX));
        self.relays().min_by_key(badness).map(|path| path.addr)
    }

    /// The ways through relays.
    pub(crate) fn relays(&self) -> impl Iterator<Item = &Path> {
        self.list.iter().filter(|path| !path.addr.is_direct())
    }

    /// Replaces the channel of the rendezvous' relay (it was restarted, or told a new number).
    #[cfg(test)]
    pub(crate) fn set_relay(&mut self, channel: Channel) {
        self.set_relay_of(0, channel);
    }

    /// Replaces the channel of one relay, which is as far away as before; gives the one before, if that was another.
    pub(crate) fn set_relay_of(&mut self, relay: RelayNumber, channel: Channel) -> Option<Channel> {
        let new = PathAddr::Relay(channel);
        let before = self.relays().find(|path| path.relay == relay && path.addr != new);
        let (old, rtt) = (before.map(|path| path.addr), before.and_then(|path| path.rtt));
        let was_selected = old.is_some() && self.selected() == old;
        self.retain(|path| Some(path.addr) != old);
        self.add(new);
        self.find_mut(new).into_iter().for_each(|path| (path.relay, path.rtt) = (relay, path.rtt.or(rtt)));
        if was_selected {
            self.selected = self.position(new);
            self.note(PathNews::Chosen { from: old, to: new, why: PathReason::Renumbered });
        }
        if let Some(PathAddr::Relay(old)) = old { Some(old) } else { None }
    }

    /// A relay has given a channel: where there are several, a round shows which of them work, and which is nearest.
    pub(crate) fn on_relays(&mut self, now: Instant) {
        if !self.has_direct() && self.selected.is_some() && self.relays().count() > 1 {
            self.begin_rounds(now);
        }
    }

    /// A peer that speaks over a relay, while nothing comes on the path in use any more, has left that one.
    pub(super) fn follow_to_relay(&mut self, now: Instant, from: PathAddr) {
        let Some(selected) = self.selected_path().filter(|_| !from.is_direct()) else { return };
        let (is_relay, patience) = (!selected.addr.is_direct(), LEFT_AFTER + selected.rtt.unwrap_or_default() * 2);
        if now.since(self.heard) >= patience {
            self.on_suspect(now);
            if is_relay {
                self.select(from, PathReason::Followed);
                self.heard = now;
            }
        }
    }

    /// True when the relay in use gives no answer, or this one is nearer by more than chance.
    pub(super) fn is_better_relay(&self, addr: PathAddr) -> bool {
        let Some(selected) = self.selected_path() else { return true };
        let rtts = selected.rtt.zip(self.find(addr).and_then(|path| path.rtt));
        !selected.validated || rtts.is_some_and(|(old, new)| new + RELAY_BONUS.max(old / 10) < old)
    }

    /// Time that candidates take over the relay: half of what its probes took, or of a key handshake, which may have waited for
    /// the channel, before there were probes.
    pub(crate) fn tell_time(&self) -> Duration {
        let shaken = || Duration::from_micros(u64::from(self.relay_rtt_us));
        let probed = self.relay().and_then(|relay| self.find(relay)?.rtt);
        (probed.unwrap_or_else(shaken) / 2).min(TELL_WAIT_MAX)
    }

    /// A key handshake over `from` has taken so long.
    pub(crate) fn on_round_trip(&mut self, from: PathAddr, took: Duration) {
        if !from.is_direct() {
            self.relay_rtt_us = took.as_micros().min(u128::from(u32::MAX)) as u32;
        }
    }
}
