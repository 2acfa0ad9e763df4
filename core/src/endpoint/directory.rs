//! Owns what an endpoint has to do with its rendezvous and with trust: registration, calls and their answers, letters,
//! relay channels, and which peers exist.
//!
//! `Absent → Connecting → Registering → Ready`, and back to Connecting with a growing random pause when it is lost.
//! Nothing between nodes that know each other waits for any of this (trust.md, "When the rendezvous is away").

use super::{Endpoint, Event, PeerId, ResetReason};
use crate::addr::Addr;
use crate::control::{Answer, CANDIDATES_MAX, Call, Control, GRANTS_MAX, Push, Query, Refusal};
use crate::identity::{Identity, IdentityKey, NodeRecord, Profile, StaticKey};
use crate::path::{PathAddr, is_acceptable_candidate};
use crate::peer::{PacketBuilder, Role};
use crate::time::{Duration, Instant, earliest};
use crate::trust::{Me, Outcome, Pin, Terms, TrustBook, TrustError};
use crate::tunnel::handshake::NO_PSK;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::SocketAddr;
use litemap::LiteMap;

/// Calls that may wait for their answers.
pub const CALLS_MAX: usize = 1024;
/// Time an answer may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(4);
/// Bounds of the pause before the next attempt to reach the rendezvous. Source: trust.md.
const RETRY_MIN: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(60);

/// Where the relation with the rendezvous stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DirectoryState {
    /// None is configured.
    Absent,
    /// Not reached yet, or lost.
    Connecting,
    /// A tunnel exists, our record is not confirmed.
    Registering,
    /// Registered under our address.
    Ready(Addr),
    /// It refuses our record; the owner must change something.
    Refused(Refusal),
}

/// A change of trust, to be put on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustChange {
    /// What changed.
    pub outcome: Outcome,
    /// The letter that brought it: call [`Endpoint::letter_taken`] once the change is on disk.
    pub letter: Option<u64>,
}

/// What a call was made for.
enum Purpose {
    Application,
    Register,
    Relay(PeerId),
    Letter(u64),
    Grant,
}

pub(super) struct Directory {
    pub(super) trust: TrustBook,
    profile: Profile,
    addr: Addr,
    sequence: u64,
    record: Arc<[u8]>,
    candidates: Vec<SocketAddr>,
    reflexive: Option<SocketAddr>,
    rendezvous: Option<(PeerId, SocketAddr)>,
    relay_key: [u8; 32],
    state: DirectoryState,
    calls: LiteMap<u32, (Instant, Purpose)>,
    next_call: u32,
    retry_at: Option<Instant>,
    retry_pause: Duration,
}

impl Directory {
    pub(super) fn new(
        identity: &Identity,
        addr: Addr,
        profile: Profile,
        trust: TrustBook,
        candidates: Vec<SocketAddr>,
    ) -> Self {
        let record = NodeRecord::sign(identity, addr, &profile, 0).emit().into();
        Self {
            trust,
            profile,
            addr,
            sequence: 0,
            record,
            candidates,
            reflexive: None,
            rendezvous: None,
            relay_key: [0; 32],
            state: DirectoryState::Absent,
            calls: LiteMap::new(),
            next_call: 1,
            retry_at: None,
            retry_pause: RETRY_MIN,
        }
    }

    pub(super) fn record(&self) -> Arc<[u8]> {
        self.record.clone()
    }

    pub(super) fn relay_key(&self) -> &[u8; 32] {
        &self.relay_key
    }

    pub(super) fn beacon(&self) -> Option<SocketAddr> {
        self.rendezvous.map(|(_, addr)| addr)
    }

    pub(super) fn is_rendezvous(&self, addr: &SocketAddr) -> bool {
        self.rendezvous.is_some_and(|(_, known)| known == *addr)
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        earliest(self.calls.values().map(|(at, _)| *at).min(), self.retry_at)
    }

    const fn is_ready(&self) -> bool {
        matches!(self.state, DirectoryState::Ready(_))
    }
}

impl Endpoint {
    // Getters.

    /// Our address; unassigned until the first registration.
    pub const fn addr(&self) -> Addr {
        self.directory.addr
    }

    /// Our hostname, visibility and tags.
    pub const fn profile(&self) -> &Profile {
        &self.directory.profile
    }

    /// Who is trusted, who asks, who was asked.
    pub const fn trust(&self) -> &TrustBook {
        &self.directory.trust
    }

    /// Where the relation with the rendezvous stands.
    pub const fn directory_state(&self) -> DirectoryState {
        self.directory.state
    }

    /// Our underlay address as the rendezvous sees it.
    pub const fn reflexive(&self) -> Option<SocketAddr> {
        self.directory.reflexive
    }

    /// Static key and underlay address of our rendezvous.
    pub fn rendezvous_address(&self) -> Option<(StaticKey, SocketAddr)> {
        let (id, addr) = self.directory.rendezvous?;
        Some((self.peers.get(&id)?.peer.static_key, addr))
    }

    // Verbs: rendezvous.

    /// Uses this rendezvous from now on.
    pub fn set_rendezvous(&mut self, now: Instant, key: StaticKey, addr: SocketAddr) {
        if let Some((id, _)) = self.directory.rendezvous.take() {
            self.remove_peer(id);
        }
        let id = self.add_peer(Role::Rendezvous, key, NO_PSK);
        self.directory.rendezvous = Some((id, addr));
        if let Some(entry) = self.peers.get_mut(&id) {
            entry.peer.paths.add(PathAddr::Direct(addr));
            entry.peer.in_use = true;
        }
        self.directory.retry_at = Some(now);
        self.set_directory_state(DirectoryState::Connecting);
    }

    /// Changes what our record says and registers it. The result arrives as [`Event::Directory`].
    pub fn set_profile(&mut self, now: Instant, profile: Profile) {
        self.directory.profile = profile;
        if self.directory.rendezvous.is_some() && !matches!(self.directory.state, DirectoryState::Connecting) {
            self.register(now);
        } else {
            self.sign_record(now);
        }
    }

    /// Our own underlay addresses changed: every path may be broken, peers and rendezvous learn at once where we are now.
    /// Nothing happens when these are the addresses known before. Source: paths.md ("Roaming").
    pub fn set_candidates(&mut self, now: Instant, candidates: Vec<SocketAddr>) {
        if self.directory.candidates == candidates {
            return;
        }
        self.directory.candidates = candidates;
        // What the rendezvous saw us send from was the old network's.
        self.directory.reflexive = None;
        for id in self.up_peers(now) {
            if let Some(entry) = self.peers.get_mut(&id) {
                entry.peer.paths.on_own_move(now, &mut self.rng);
            }
            self.send_candidates(id);
            self.touch(id);
        }
        if self.directory.is_ready() {
            self.register(now);
        }
    }

    /// Asks for a node's record; the answer arrives as [`Event::Answer`] with the returned number.
    ///
    /// # Errors
    /// `None` when the rendezvous is not connected or [`CALLS_MAX`] calls wait.
    pub fn lookup(&mut self, now: Instant, query: Query) -> Option<u32> {
        self.call(now, Call::Lookup(query), Purpose::Application)
    }

    /// Asks for public nodes with a tag; like [`Endpoint::lookup`].
    ///
    /// # Errors
    /// As [`Endpoint::lookup`].
    pub fn search(&mut self, now: Instant, tag: String) -> Option<u32> {
        self.call(now, Call::Search(tag), Purpose::Application)
    }

    fn call(&mut self, now: Instant, call: Call, purpose: Purpose) -> Option<u32> {
        let (rendezvous, _) = self.directory.rendezvous?;
        let allowed = self.directory.is_ready() || matches!(purpose, Purpose::Register);
        if !allowed || self.directory.calls.len() >= CALLS_MAX {
            return None;
        }
        let id = self.directory.next_call;
        self.directory.next_call = id.wrapping_add(1).max(1);
        if !self.send_control(rendezvous, &Control::Call(id, call)) {
            return None;
        }
        self.directory.calls.insert(id, (now + CALL_TIMEOUT, purpose));
        Some(id)
    }

    // Verbs: trust.

    /// Asks the owner of `record` for trust. The letter leaves as soon as the rendezvous can be reached.
    ///
    /// # Errors
    /// See [`TrustBook::request`]. When its owner has asked us before, approve that instead.
    pub fn request_trust(&mut self, now: Instant, record: &NodeRecord, terms: &Terms) -> Result<(), TrustError> {
        let message = self.with_trust(now, |book, me, rng| book.request(me, record, terms, rng))?;
        self.post_letter(now, record.identity, record.static_key, &message)
    }

    /// Approves a pending request.
    ///
    /// # Errors
    /// See [`TrustBook::approve`].
    pub fn approve(&mut self, now: Instant, key: &IdentityKey, terms: &Terms) -> Result<(), TrustError> {
        let static_key = self.pending_static_key(key)?;
        let message = self.with_trust(now, |book, me, rng| book.approve(me, key, terms, rng))?;
        self.sync_peers();
        self.grant(now);
        self.post_letter(now, *key, static_key, &message)
    }

    /// Declines a pending request.
    ///
    /// # Errors
    /// See [`TrustBook::reject`].
    pub fn reject(&mut self, now: Instant, key: &IdentityKey, note: &str) -> Result<(), TrustError> {
        let static_key = self.pending_static_key(key)?;
        let message = self.with_trust(now, |book, me, rng| book.reject(me, key, note, rng))?;
        self.post_letter(now, *key, static_key, &message)
    }

    /// Withdraws trust: the session's keys are gone when this returns; the peer is told directly and by letter.
    ///
    /// # Errors
    /// `Unknown` when the peer is not trusted.
    pub fn revoke(&mut self, now: Instant, key: &IdentityKey) -> Result<Pin, TrustError> {
        let (pin, message) = self.with_trust(now, |book, me, rng| book.revoke(me, key, rng))?;
        if let Some(id) = self.peer_by_identity(key) {
            self.send_control(id, &Control::Trust(message.clone()));
            self.say_farewell(now, id);
        }
        self.sync_peers();
        self.grant(now);
        self.post_letter(now, *key, pin.static_key, &message)?;
        Ok(pin)
    }

    /// Ends trust whose time is over; true when there was any. Put [`Endpoint::trust`] on disk then.
    pub fn expire_trust(&mut self, now: Instant) -> bool {
        let over = self.directory.trust.expire_pins(self.wall_s(now));
        if !over.is_empty() {
            self.sync_peers();
            self.grant(now);
        }
        !over.is_empty()
    }

    fn pending_static_key(&self, key: &IdentityKey) -> Result<StaticKey, TrustError> {
        let request = self.directory.trust.pending().find(|p| p.record.identity == *key);
        request.map(|p| p.record.static_key).ok_or(TrustError::Unknown)
    }

    /// The change that a letter brought is on disk; the rendezvous may forget the letter.
    pub fn letter_taken(&mut self, now: Instant, id: u64) {
        self.call(now, Call::Taken([id].into()), Purpose::Grant);
    }

    fn with_trust<R>(&mut self, now: Instant, f: impl FnOnce(&mut TrustBook, &Me<'_>, &mut crate::rng::Rng) -> R) -> R {
        let now_s = self.wall_s(now);
        let me = Me { identity: &self.identity, record: &self.directory.record, now_s };
        f(&mut self.directory.trust, &me, &mut self.rng)
    }

    fn post_letter(&mut self, now: Instant, to: IdentityKey, key: StaticKey, message: &[u8]) -> Result<(), TrustError> {
        let sealed = key.seal(message, &mut self.rng);
        let id = self.directory.trust.add_letter(to, sealed).ok_or(TrustError::Full)?;
        self.post(now, id);
        Ok(())
    }

    fn post(&mut self, now: Instant, id: u64) {
        if let Some((to, sealed)) = self.directory.trust.letter(id) {
            let call = Call::Post(*to, sealed.clone());
            self.call(now, call, Purpose::Letter(id));
        }
    }

    /// Sends what the peer's link holds once more, without hope of recovery, before the keys go.
    fn say_farewell(&mut self, now: Instant, id: PeerId) {
        let relay_key = self.directory.relay_key;
        let mut farewells = Vec::new();
        if let Some(entry) = self.peers.get_mut(&id) {
            for close in [false, true] {
                if close {
                    entry.peer.close(ResetReason::Revoked as u8);
                }
                let mut out = Vec::new();
                if let Some((path, len)) = entry.peer.poll_transmit(now, &mut PacketBuilder::new(&mut out, &relay_key))
                {
                    out.truncate(len);
                    farewells.push((path, out));
                }
            }
        }
        for (path, datagram) in farewells {
            // The relay header is in the datagram already; it goes to the beacon as it is.
            let to = match path {
                PathAddr::Direct(_) => Some(path),
                PathAddr::Relay(_) => self.directory.beacon().map(PathAddr::Direct),
            };
            to.into_iter().for_each(|to| self.send_stray(to, datagram.clone()));
        }
    }

    /// Makes the set of peers equal to the set of pins (and the rendezvous, and strangers).
    pub(super) fn sync_peers(&mut self) {
        let pins: Vec<Pin> = self.directory.trust.pins().cloned().collect();
        let gone: Vec<PeerId> = self
            .peers
            .iter()
            .filter(|(_, e)| e.peer.role == Role::Trusted)
            .filter(|(_, e)| !pins.iter().any(|p| Some(p.identity) == e.peer.identity && p.secret == e.peer.secret))
            .map(|(id, _)| *id)
            .collect();
        for id in gone {
            self.events.push_back(Event::Reset(id, ResetReason::Revoked));
            self.remove_peer(id);
        }
        for pin in pins {
            if self.peers.by_static(&pin.static_key).is_some() {
                continue;
            }
            let id = self.add_peer(Role::Trusted, pin.static_key, pin.secret);
            if let Some(entry) = self.peers.get_mut(&id) {
                entry.peer.identity = Some(pin.identity);
                pin.last_endpoint.into_iter().for_each(|addr| entry.peer.paths.add(PathAddr::Direct(addr)));
            }
        }
    }

    // Input.

    pub(super) fn handle_control(&mut self, now: Instant, from: PeerId, message: Control) {
        let Some(role) = self.peers.get(&from).map(|e| e.peer.role) else { return };
        match (role, message) {
            (Role::Client, Control::Call(id, call)) => self.events.push_back(Event::Call(from, id, call)),
            (Role::Rendezvous, Control::Answer(id, answer)) => self.handle_answer(now, id, answer),
            (Role::Rendezvous, Control::Push(Push::Letter(id, sealed))) => self.handle_letter(now, id, &sealed),
            (Role::Rendezvous, Control::Push(Push::RelayOpened(channel, key))) => {
                if let Some(id) = self.peer_by_identity(&key) {
                    self.set_relay(id, channel);
                }
            }
            (Role::Trusted, Control::Candidates(list)) => self.handle_candidates(now, from, &list),
            (Role::Trusted, Control::Trust(message)) => self.handle_trust(now, &message, None),
            _ => self.discards.count(super::Discard::Malformed),
        }
    }

    fn handle_letter(&mut self, now: Instant, id: u64, sealed: &[u8]) {
        match self.identity.open_sealed(sealed) {
            Some(message) => self.handle_trust(now, &message, Some(id)),
            // Nobody will ever read it.
            None => self.letter_taken(now, id),
        }
    }

    fn handle_trust(&mut self, now: Instant, message: &[u8], letter: Option<u64>) {
        let outcome = self.with_trust(now, |book, me, _| book.receive(me, message));
        if let Outcome::Discarded(_) = outcome {
            letter.into_iter().for_each(|id| self.letter_taken(now, id));
            return;
        }
        self.sync_peers();
        self.grant(now);
        self.events.push_back(Event::Trust(TrustChange { outcome, letter }));
    }

    fn handle_candidates(&mut self, now: Instant, from: PeerId, list: &[SocketAddr]) {
        let own: Vec<_> = self.directory.candidates.iter().copied().chain(self.directory.reflexive).collect();
        let Some(entry) = self.peers.get_mut(&from) else { return };
        list.iter()
            .filter(|addr| is_acceptable_candidate(addr, &own))
            .for_each(|addr| entry.peer.paths.add(PathAddr::Direct(*addr)));
        entry.peer.paths.on_candidates(now);
        self.touch(from);
    }

    fn handle_answer(&mut self, now: Instant, id: u32, answer: Answer) {
        let Some((_, purpose)) = self.directory.calls.remove(&id) else { return };
        match (purpose, answer) {
            (Purpose::Application, answer) => self.events.push_back(Event::Answer(id, Some(answer))),
            (Purpose::Register, Answer::Registered { addr, reflexive, relay_key }) => {
                self.directory.relay_key = relay_key;
                let moved = self.directory.reflexive.replace(reflexive) != Some(reflexive);
                self.on_registered(now, addr);
                if moved {
                    self.up_peers(now).into_iter().for_each(|id| self.send_candidates(id));
                }
            }
            (Purpose::Register, Answer::Refused(why)) => self.set_directory_state(DirectoryState::Refused(why)),
            (Purpose::Relay(peer), Answer::Relay { channel, online }) => {
                self.set_relay(peer, channel);
                if let Some(entry) = self.peers.get_mut(&peer) {
                    entry.peer.set_away(!online);
                    entry.peer.relay_init(now);
                }
                self.touch(peer);
            }
            (Purpose::Relay(peer), Answer::Refused(Refusal::NotFound)) => {
                // Not connected, or it has not granted us the relay: only direct paths are left.
                if let Some(entry) = self.peers.get_mut(&peer) {
                    entry.peer.set_away(true);
                }
                self.touch(peer);
            }
            (Purpose::Letter(letter), Answer::Ok | Answer::Refused(Refusal::NotFound)) => {
                self.directory.trust.remove_letter(letter);
            }
            _ => {}
        }
    }

    fn on_registered(&mut self, now: Instant, addr: Addr) {
        if addr != self.directory.addr {
            // The record must name the address it was given: sign again and register once more.
            self.directory.addr = addr;
            self.register(now);
            return;
        }
        self.directory.retry_pause = RETRY_MIN;
        self.set_directory_state(DirectoryState::Ready(addr));
        self.grant(now);
        let letters: Vec<u64> = self.directory.trust.letters().collect();
        letters.into_iter().for_each(|id| self.post(now, id));
        let waiting: Vec<_> =
            self.peers.iter().filter(|(_, e)| e.peer.handshake().is_some()).map(|(id, _)| *id).collect();
        waiting.into_iter().for_each(|id| self.ask_for_relay(now, id));
    }

    pub(super) fn on_established(&mut self, now: Instant, id: PeerId) {
        if self.directory.rendezvous.is_some_and(|(r, _)| r == id) && !self.directory.is_ready() {
            self.register(now);
        }
    }

    /// The peer is another process now. A rendezvous that restarted must hear from us again.
    pub(super) fn on_restarted(&mut self, now: Instant, id: PeerId) {
        if self.directory.rendezvous.is_some_and(|(r, _)| r == id) {
            self.directory.calls.clear();
            self.register(now);
        }
    }

    pub(super) fn on_rendezvous_lost(&mut self, now: Instant) {
        let pause = self.directory.retry_pause;
        // Full jitter (trust.md): a rendezvous that comes back is not met by everybody at once.
        let wait = RETRY_MIN + Duration::from_micros(self.rng.below(pause.as_micros() as u64));
        self.directory.retry_at = Some(now + wait);
        self.directory.retry_pause = (pause * 2).min(RETRY_MAX);
        let calls = core::mem::take(&mut self.directory.calls);
        let lost = calls.into_iter().filter(|(_, (_, p))| matches!(p, Purpose::Application));
        lost.for_each(|(id, _)| self.events.push_back(Event::Answer(id, None)));
        self.set_directory_state(DirectoryState::Connecting);
    }

    pub(super) fn handle_directory_timeout(&mut self, now: Instant) {
        if self.directory.retry_at.is_some_and(|at| at <= now) {
            self.directory.retry_at = None;
            if let Some((id, _)) = self.directory.rendezvous {
                self.begin_handshake(now, id);
                self.touch(id);
            }
        }
        let late: Vec<u32> = self.directory.calls.iter().filter(|(_, (at, _))| *at <= now).map(|(id, _)| *id).collect();
        for id in late {
            match self.directory.calls.remove(&id) {
                Some((_, Purpose::Application)) => self.events.push_back(Event::Answer(id, None)),
                Some((_, Purpose::Register)) => self.register(now),
                _ => {}
            }
        }
    }

    // Helpers.

    fn set_directory_state(&mut self, state: DirectoryState) {
        if self.directory.state != state {
            self.directory.state = state;
            self.events.push_back(Event::Directory(state));
        }
    }

    fn sign_record(&mut self, now: Instant) {
        // Rises across restarts with the wall clock and within one run by itself.
        let wall_ms = (self.wall_at_zero_us + now.as_micros()) / 1000;
        self.directory.sequence = wall_ms.max(self.directory.sequence + 1);
        let d = &mut self.directory;
        d.record = NodeRecord::sign(&self.identity, d.addr, &d.profile, d.sequence).emit().into();
        for entry in self.peers.values_mut() {
            entry.peer.set_record(self.directory.record.clone());
        }
    }

    fn register(&mut self, now: Instant) {
        self.sign_record(now);
        self.set_directory_state(DirectoryState::Registering);
        let record = self.directory.record.to_vec();
        self.call(now, Call::Register(record), Purpose::Register);
    }

    fn grant(&mut self, now: Instant) {
        let keys: Vec<_> = self.directory.trust.pins().map(|p| p.identity).take(GRANTS_MAX).collect();
        self.call(now, Call::Grant(keys), Purpose::Grant);
    }

    pub(super) fn ask_for_relay(&mut self, now: Instant, id: PeerId) {
        let Some(entry) = self.peers.get(&id).filter(|e| e.peer.role == Role::Trusted) else { return };
        let Some(key) = entry.peer.identity else { return };
        let pending = self.directory.calls.values().any(|(_, p)| matches!(p, Purpose::Relay(peer) if *peer == id));
        let asked = pending || self.call(now, Call::OpenRelay(key), Purpose::Relay(id)).is_some();
        if !asked && let Some(entry) = self.peers.get_mut(&id) {
            // No beacon to help: without any known address the wait need not be long.
            let away = entry.peer.paths.list().is_empty();
            entry.peer.set_away(away);
        }
    }

    fn set_relay(&mut self, id: PeerId, channel: u32) {
        if let Some(entry) = self.peers.get_mut(&id) {
            entry.peer.paths.set_relay(crate::wire::Channel(channel));
        }
    }

    fn up_peers(&self, now: Instant) -> Vec<PeerId> {
        self.peers.keys().copied().filter(|id| self.is_up(now, *id)).collect()
    }

    pub(super) fn send_candidates(&mut self, id: PeerId) {
        let is_trusted = self.peers.get(&id).is_some_and(|e| e.peer.role == Role::Trusted);
        if is_trusted {
            let mut list = self.directory.candidates.clone();
            list.extend(self.directory.reflexive.filter(|r| !list.contains(r)));
            list.truncate(CANDIDATES_MAX);
            self.send_control(id, &Control::Candidates(list));
        }
    }
}
