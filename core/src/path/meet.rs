//! Owns what a meeting does with the paths of a peer.

use super::nat::{Acquaintance, Nat};
use super::{PathAddr, Paths, Probe, PunchRound, Source};
use crate::rng::Rng;
use crate::time::Instant;
use alloc::boxed::Box;

/// Most probes that wait to leave when another one is sprayed. Source: own choice, above a part of a spray.
pub(super) const WAITING_MAX: usize = 128;

impl Paths {
    pub(crate) fn acquaintance(&self) -> Acquaintance {
        self.acquaintance.as_deref().copied().unwrap_or_default()
    }

    pub(crate) fn acquaintance_mut(&mut self) -> &mut Acquaintance {
        self.acquaintance.get_or_insert_with(Box::default)
    }

    /// The peer says what its NAT is.
    pub(crate) fn note_nat(&mut self, nat: Nat) {
        if nat != self.acquaintance().nat {
            self.acquaintance_mut().nat = nat;
        }
    }

    /// Probes these addresses now, in their order and before all others, and in the other steps of a round. The pauses between
    /// rounds go on as before.
    pub(crate) fn meet(&mut self, now: Instant, targets: impl Iterator<Item = PathAddr>) {
        for to in targets {
            self.add(to);
        }
        if !self.has_direct() {
            self.round = Some(PunchRound { start: now, step: 0 });
        }
    }

    /// Probes an address once, and does not wait for the answer: one that gets there makes the peer probe this side.
    pub(crate) fn spray(&mut self, to: PathAddr, rng: &mut Rng) {
        if self.ready.len() < WAITING_MAX {
            self.ready.push(Probe { to, id: rng.u64(), is_answer: false, len: None });
        }
    }

    /// True when the peer is reached from this socket, or speaks to it.
    pub(crate) fn uses(&self, source: Source) -> bool {
        [self.selected(), self.newest_from].iter().flatten().any(|addr| addr.source() == source)
    }

    /// Forgets the paths from a socket that is closed.
    pub(crate) fn forget_source(&mut self, source: Source) {
        debug_assert!(source != Source::MAIN && !self.uses(source), "a socket in use is not closed");
        self.retain(|path| path.addr.source() != source);
        self.ready.retain(|probe| probe.to.source() != source);
        self.outstanding.retain(|probe| probe.to.source() != source);
    }
}
