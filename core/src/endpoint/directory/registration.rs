//! Owns the way to the rendezvous: the record of this node, its registration, and what the loss of the rendezvous does.

use super::{Context, Directory, DirectoryState, Effect, Purpose, RETRY_MAX, RETRY_MIN, Warning};
use crate::addr::Addr;
use crate::control::{Call, Refusal};
use crate::extensions::Extensions;
use crate::identity::{NodeRecord, Profile, StaticKey};
use crate::time::{Duration, Instant};
use alloc::string::String;
use alloc::vec::Vec;
use core::net::SocketAddr;

/// Pause before a hostname that belongs to another key is asked for again.
pub(super) const NAME_PAUSE: Duration = Duration::from_secs(300);
/// Time after the last word of another process with this identity, after which there is none any more. Source: a rendezvous
/// says so again within 30 s while both are there.
const ELSEWHERE_LASTS: Duration = Duration::from_secs(60);

/// Addresses that gateways map: one of each family. Source: docs/paths.md, "Port mapping"; a list of candidates has room for them.
const MAPPED_MAX: usize = 2;
/// Shortest pause between two questions where the rendezvous sees this node. Source: `docs/paths.md`, "Rules".
const WHERE_PAUSE: Duration = Duration::from_secs(5);

/// Shortest pause between two questions whether the rendezvous lives. Source: `docs/interfaces.md`, "The rendezvous in `info`".
const LIFE_PAUSE: Duration = Duration::from_secs(1);

impl Directory {
    /// Uses this rendezvous from now on.
    pub(crate) fn set_rendezvous(&mut self, now: Instant, key: StaticKey, addr: SocketAddr) {
        let before = self.rendezvous.replace((key, addr));
        // Nothing is relayed to another address before it has answered: until then it may be that of any host.
        self.beacon = self.beacon.filter(|_| before.is_some_and(|(before, _)| before == key));
        self.program = None;
        self.forget_taken();
        self.end_calls();
        (self.retry_at, self.move_at) = (Some(now), None);
        self.set_state(DirectoryState::Connecting);
    }

    /// The rendezvous in use answers from this address.
    pub(crate) fn rendezvous_is_at(&mut self, addr: SocketAddr) {
        if let Some((_, at)) = &mut self.rendezvous {
            *at = addr;
        }
        self.beacon = Some(addr);
    }

    /// Changes what our record says.
    pub(crate) fn set_profile(&mut self, cx: &mut Context<'_>, profile: Profile) {
        self.profile = profile;
        self.name_taken = false;
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

    /// Replaces our own underlay addresses, none of which is lost; false when they are the ones known before.
    pub(crate) fn add_candidates(&mut self, candidates: Vec<SocketAddr>) -> bool {
        let has_news = self.candidates != candidates;
        self.candidates = candidates;
        has_news
    }

    /// Replaces the addresses that gateways map; false when they are the ones known before.
    pub(crate) fn set_mapped(&mut self, mut mapped: Vec<SocketAddr>) -> bool {
        mapped.truncate(MAPPED_MAX);
        let has_news = self.mapped != mapped;
        self.mapped = mapped;
        has_news
    }

    /// Registers again, so that the rendezvous learns of a move.
    pub(crate) fn register_again(&mut self, cx: &mut Context<'_>) {
        if self.is_ready() {
            self.register(cx);
        }
    }

    /// The rendezvous sees this node at an address that may be news.
    pub(crate) fn on_observed(&mut self, addr: SocketAddr) {
        if self.is_ready() && self.reflexive.replace(addr) != Some(addr) {
            self.effects.push_back(Effect::Candidates);
        }
    }

    /// True when the rendezvous is to be asked where it sees this node, after the loss of a direct path.
    pub(crate) fn asks_where(&mut self, now: Instant) -> bool {
        let asks = self.is_ready() && self.where_asked_at.is_none_or(|at| now.since(at) >= WHERE_PAUSE);
        if asks {
            self.where_asked_at = Some(now);
        }
        asks
    }

    /// True when the rendezvous may be asked for a sign of life.
    pub(crate) fn asks_for_life(&mut self, now: Instant) -> bool {
        let asks = self.is_ready() && self.life_asked_at.is_none_or(|at| now.since(at) >= LIFE_PAUSE);
        if asks {
            self.life_asked_at = Some(now);
        }
        asks
    }

    /// The address of another process with this node's identity, if there was one of late.
    pub(crate) fn elsewhere(&self, now: Instant) -> Option<SocketAddr> {
        self.elsewhere.filter(|(at, _)| now.since(*at) < ELSEWHERE_LASTS).map(|(_, addr)| addr)
    }

    // The end.

    /// Gives back what the rendezvous keeps of this node, which asks it for nothing after that. Without a rendezvous that answers
    /// nothing is given back.
    pub(crate) fn leave(&mut self, cx: &Context<'_>) {
        self.sequence = (cx.wall_us / 1000).max(self.sequence + 1);
        let record = self.signed(cx, &Profile::default());
        self.call(cx.now, Call::Leave(record), Purpose::Leave);
        self.has_left = true;
    }

    /// True while the rendezvous has not answered to [`Directory::leave`].
    pub(crate) fn is_leaving(&self) -> bool {
        self.has_left && self.is_under_way(|purpose| *purpose == Purpose::Leave)
    }

    /// True once the rendezvous has forgotten this node.
    pub(crate) const fn is_forgotten(&self) -> bool {
        self.is_forgotten
    }

    // Input.

    pub(super) fn on_registered(&mut self, cx: &mut Context<'_>, addr: Addr) {
        if addr != self.addr || core::mem::take(&mut self.register_again) {
            // The record must name the address it was given: sign again and register once more.
            self.addr = addr;
            self.register(cx);
            return;
        }
        (self.retry_pause, self.has_raised) = (RETRY_MIN, false);
        if self.name_taken && !self.omits_name {
            self.name_taken = false;
            self.sign_record(cx);
        }
        self.register_at = self.name_taken.then(|| cx.now + NAME_PAUSE);
        self.set_state(DirectoryState::Ready(addr));
        self.announce_name();
        self.duties.begin();
        self.duties.look_at(cx.now);
        self.tend(cx.now);
        self.effects.push_back(Effect::AskForRelays);
    }

    /// The rendezvous refuses our record. Without a name that belongs to another key it may be taken, with a newer sequence
    /// too; and whatever the reason is, it may be gone later.
    pub(super) fn on_register_refused(&mut self, cx: &mut Context<'_>, why: Refusal) {
        if core::mem::take(&mut self.register_again) {
            return self.register(cx);
        }
        if why == Refusal::NameTaken && !self.profile.hostname.is_empty() && !self.omits_name {
            self.omits_name = true;
            if !core::mem::replace(&mut self.name_taken, true) {
                self.effects.push_back(Effect::Warn(Warning::NameTaken));
            }
            return self.send_record(cx);
        }
        let is_behind = why == Refusal::BadRecord && self.sequence > self.registered_sequence;
        if is_behind && !core::mem::replace(&mut self.has_raised, true) {
            return self.send_record(cx); // the refusal named a newer sequence
        }
        self.has_raised = false;
        let pause = self.duties.refused(cx.now, why == Refusal::TooMany);
        self.register_at = Some(cx.now + pause);
        self.set_state(DirectoryState::Refused(why));
    }

    /// A session with the rendezvous exists.
    pub(crate) fn on_up(&mut self, cx: &mut Context<'_>) {
        if !self.is_ready() {
            self.register(cx);
        }
    }

    /// The rendezvous is another process now, which knows nothing of our calls.
    pub(crate) fn on_restarted(&mut self, cx: &mut Context<'_>) {
        self.end_calls();
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
        self.end_calls();
        self.set_state(DirectoryState::Connecting);
    }

    /// The rendezvous serves elsewhere from now on.
    pub(crate) fn on_move(&mut self, now: Instant, to: SocketAddr, after: Duration) {
        self.move_at = Some((now + after, to));
    }

    /// Another process has our identity. Each of the two registers anew when the other one is gone.
    pub(crate) fn on_elsewhere(&mut self, now: Instant, addr: SocketAddr) {
        let is_news = self.elsewhere(now) != Some(addr);
        self.elsewhere = Some((now, addr));
        if is_news {
            self.effects.push_back(Effect::Warn(Warning::Elsewhere(addr)));
        }
    }

    // Helpers.

    /// The next record of this node gets a sequence above this one.
    pub(super) fn raise_sequence(&mut self, known: u64) {
        // A sequence in the upper half leaves no room to rise, and none was ever made that way.
        self.sequence = self.sequence.max(Some(known).filter(|known| *known < u64::MAX / 2).unwrap_or(0));
    }

    pub(super) fn sign_record(&mut self, cx: &Context<'_>) {
        // Rises across restarts with the wall clock, and within one run by itself.
        self.sequence = (cx.wall_us / 1000).max(self.sequence + 1);
        self.note_time(self.sequence.saturating_mul(1000), cx.wall_us);
        // Peers are told no name that the rendezvous refuses: they keep the one that they know.
        let known = self.name_taken.then(|| Profile { hostname: self.announced.clone(), ..self.profile.clone() });
        self.record = self.signed(cx, known.as_ref().unwrap_or(&self.profile)).into();
        self.effects.push_back(Effect::Record(self.record.clone()));
    }

    fn signed(&self, cx: &Context<'_>, profile: &Profile) -> Vec<u8> {
        NodeRecord::sign_with(cx.identity, self.addr, profile, self.sequence, Extensions::NONE).emit()
    }

    pub(super) fn announce_name(&mut self) {
        if self.announced != self.profile.hostname && !self.name_taken {
            self.announced.clone_from(&self.profile.hostname);
            self.effects.push_back(Effect::Renamed);
        }
    }

    /// Registers, and tells the owner that this is under way.
    pub(super) fn register(&mut self, cx: &Context<'_>) {
        self.set_state(DirectoryState::Registering);
        self.register_quietly(cx);
    }

    /// Registers with the state as it is.
    pub(super) fn register_quietly(&mut self, cx: &Context<'_>) {
        if self.calls.values().any(|(_, purpose)| *purpose == Purpose::Register) {
            self.register_again = true; // when the answer has come: never two registrations on one stream
            return;
        }
        self.omits_name = false;
        self.send_record(cx);
    }

    /// Registers the record of this node. Where its name belongs to another key, the rendezvous gets one without, or one that
    /// asks for the name again; peers get a newer one with the name that they know.
    fn send_record(&mut self, cx: &Context<'_>) {
        self.register_at = None;
        let of_its_own = self.name_taken.then(|| {
            self.sequence = (cx.wall_us / 1000).max(self.sequence + 1);
            let hostname = if self.omits_name { String::new() } else { self.profile.hostname.clone() };
            self.signed(cx, &Profile { hostname, ..self.profile.clone() })
        });
        self.sign_record(cx);
        self.registered_sequence = self.sequence;
        let record = of_its_own.unwrap_or_else(|| self.record.to_vec());
        if self.call(cx.now, Call::Register(record), Purpose::Register).is_none() {
            self.register_at = Some(cx.now + RETRY_MIN);
        }
    }
}
