//! Owns the way to the rendezvous: the record of this node, its registration, and what the loss of the rendezvous does.

use super::{Context, Directory, DirectoryState, Effect, Purpose, RETRY_MAX, RETRY_MIN};
use crate::addr::Addr;
use crate::control::{Call, GRANTS_MAX};
use crate::identity::{IdentityKey, NodeRecord, Profile, StaticKey};
use crate::time::{Duration, Instant};
use alloc::collections::BTreeSet;
use alloc::vec::Vec;
use core::net::SocketAddr;

impl Directory {
    /// Uses this rendezvous from now on.
    pub(crate) fn set_rendezvous(&mut self, now: Instant, key: StaticKey, addr: SocketAddr) {
        self.rendezvous = Some((key, addr));
        self.forget_taken();
        self.retry_at = Some(now);
        self.set_state(DirectoryState::Connecting);
    }

    /// Changes what our record says.
    pub(crate) fn set_profile(&mut self, cx: &mut Context<'_>, profile: Profile) {
        self.profile = profile;
        if self.rendezvous.is_some() && !matches!(self.state, DirectoryState::Connecting) {
            self.register(cx);
        } else {
            self.sign_record(cx);
            self.announce_name();
        }
    }

    /// Replaces our own underlay addresses; false when they are the ones known before.
    pub(crate) fn set_candidates(&mut self, candidates: Vec<SocketAddr>) -> bool {
        if self.candidates == candidates {
            return false;
        }
        self.candidates = candidates;
        self.reflexive = None; // the rendezvous saw an address of the old network
        true
    }

    /// Registers again, so that the rendezvous learns of a move.
    pub(crate) fn register_again(&mut self, cx: &mut Context<'_>) {
        if self.is_ready() {
            self.register(cx);
        }
    }

    pub(super) fn on_registered(&mut self, cx: &mut Context<'_>, addr: Addr) {
        if addr != self.addr {
            // The record must name the address it was given: sign again and register once more.
            self.addr = addr;
            self.register(cx);
            return;
        }
        self.retry_pause = RETRY_MIN;
        self.set_state(DirectoryState::Ready(addr));
        self.announce_name();
        self.grant(cx.now);
        let recipients: BTreeSet<IdentityKey> =
            self.trust.letters().filter_map(|n| Some(self.trust.letter(n)?.0)).collect();
        recipients.into_iter().for_each(|to| self.post_next(cx.now, to));
        self.effects.push_back(Effect::AskForRelays);
    }

    /// A session with the rendezvous exists.
    pub(crate) fn on_up(&mut self, cx: &mut Context<'_>) {
        if !self.is_ready() {
            self.register(cx);
        }
    }

    /// The rendezvous is another process now, which knows nothing of our calls.
    pub(crate) fn on_restarted(&mut self, cx: &mut Context<'_>) {
        self.calls.clear();
        self.forget_taken();
        self.register(cx);
    }

    /// The tunnel to the rendezvous is gone.
    pub(crate) fn on_lost(&mut self, cx: &mut Context<'_>) {
        let pause = self.retry_pause;
        // Full jitter, so that the nodes do not meet a rendezvous that comes back all at once.
        let wait = RETRY_MIN + Duration::from_micros(cx.rng.below(pause.as_micros() as u64));
        self.retry_at = Some(cx.now + wait);
        self.retry_pause = (pause * 2).min(RETRY_MAX);
        self.forget_taken();
        for (ticket, (_, purpose)) in core::mem::take(&mut self.calls) {
            if purpose == Purpose::Application {
                self.effects.push_back(Effect::Answer(ticket, None));
            }
        }
        self.set_state(DirectoryState::Connecting);
    }

    pub(super) fn sign_record(&mut self, cx: &Context<'_>) {
        // Rises across restarts with the wall clock, and within one run by itself.
        self.sequence = (cx.wall_us / 1000).max(self.sequence + 1);
        self.note_time(self.sequence.saturating_mul(1000), cx.wall_us);
        self.record = NodeRecord::sign(cx.identity, self.addr, &self.profile, self.sequence).emit().into();
        self.effects.push_back(Effect::Record(self.record.clone()));
    }

    pub(super) fn announce_name(&mut self) {
        if self.announced != self.profile.hostname {
            self.announced.clone_from(&self.profile.hostname);
            self.effects.push_back(Effect::Renamed);
        }
    }

    pub(super) fn register(&mut self, cx: &Context<'_>) {
        self.sign_record(cx);
        self.set_state(DirectoryState::Registering);
        self.call(cx.now, Call::Register(self.record.to_vec()), Purpose::Register);
    }

    pub(super) fn grant(&mut self, now: Instant) {
        let keys = self.trust.pins().map(|p| p.identity).take(GRANTS_MAX).collect();
        self.call(now, Call::Grant(keys), Purpose::Notice);
    }
}
