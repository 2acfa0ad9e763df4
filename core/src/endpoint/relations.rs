//! Owns how an endpoint serves its directory: verbs for rendezvous and trust, control messages in, and the effects that
//! make the peers of the endpoint follow the trust book.

use super::directory::{Context, Directory, DirectoryState, Effect};
use super::{Discard, Endpoint, Event, PeerId, PeerInfo, ResetReason};
use crate::addr::Addr;
use crate::control::{Call, Candidates, Control, Push, Query, Ticket};
use crate::extensions::{ExtensionType, Extensions};
use crate::identity::{IdentityKey, NodeRecord, Profile, StaticKey};
use crate::invite::{InviteCode, InviteId};
use crate::path::{PathAddr, is_acceptable_candidate};
use crate::peer::{PacketBuilder, Peer, Role};
use crate::relay::{Keys, RelayNumber};
use crate::time::{Duration, Instant};
use crate::trust::join::{is_join, parse_answer as parse_join_answer};
use crate::trust::{Invite, InviteTerms, Pin, Ports, Quota, Regrant, Terms, TrustBook, TrustError, TrustVersion, Undo};
use crate::tunnel::handshake::NO_PSK;
use crate::wire::Channel;
use alloc::string::String;
use alloc::vec::Vec;
use core::net::SocketAddr;

/// Most peers whose identity is known after their trust has ended. Source: own choice; what ends with them is told at once.
pub(super) const GONE_MAX: usize = 64;

/// Time after an approval in which the peer hears of it and grants the relay. Unit: seconds. Source: own choice, four ways over two
/// satellites each; a stream to a peer that is away waits no longer for that than a dialer does.
const NEW_S: u64 = 10;

/// Most datagrams that leave before the CLOSE of a tunnel whose trust has ended. Source: own choice, some probes and messages.
const FAREWELLS_MAX: usize = 8;

impl Endpoint {
    // Getters.

    /// The identity of a peer that was trusted until a moment ago.
    pub fn former_identity(&self, peer: PeerId) -> Option<IdentityKey> {
        self.gone.iter().rev().find(|(id, _)| *id == peer).map(|(_, key)| *key)
    }

    /// The address of this node; unassigned until the first registration.
    pub const fn addr(&self) -> Addr {
        self.directory.addr()
    }

    /// The hostname, visibility and tags of this node.
    pub const fn profile(&self) -> &Profile {
        self.directory.profile()
    }

    /// The pins, and the requests in both directions.
    pub const fn trust(&self) -> &TrustBook {
        self.directory.trust()
    }

    /// The state of the registration with the rendezvous.
    pub const fn directory_state(&self) -> DirectoryState {
        self.directory.state()
    }

    /// The underlay address of this node as the rendezvous sees it.
    pub const fn reflexive(&self) -> Option<SocketAddr> {
        self.directory.reflexive()
    }

    /// Static key and underlay address of the rendezvous.
    pub const fn rendezvous_address(&self) -> Option<(StaticKey, SocketAddr)> {
        self.directory.rendezvous()
    }

    /// When an authentic datagram last came from the rendezvous.
    pub fn rendezvous_heard(&self) -> Option<Instant> {
        self.last_received(self.rendezvous_peer()?)
    }

    /// A description of the rendezvous.
    pub fn rendezvous_info(&self, now: Instant) -> Option<PeerInfo> {
        self.peer_info(now, self.rendezvous_peer()?)
    }

    /// The version of the program of the rendezvous, as it said when this node registered: visible characters of ASCII.
    pub fn rendezvous_version(&self) -> Option<&str> {
        self.directory.program()
    }

    /// True while the hostname of this node belongs to another one, and this one is registered without.
    pub const fn name_is_taken(&self) -> bool {
        self.directory.name_is_taken()
    }

    /// The address of another process with the identity of this node, if the rendezvous has seen one of late.
    pub fn identity_elsewhere(&self, now: Instant) -> Option<SocketAddr> {
        self.directory.elsewhere(now)
    }

    // Verbs: rendezvous.

    /// Uses this rendezvous from now on.
    pub fn set_rendezvous(&mut self, now: Instant, key: StaticKey, addr: SocketAddr) {
        if let Some(id) = self.rendezvous_peer() {
            self.remove_peer(id);
        }
        self.take_spare(&key);
        let id = self.add_peer(now, Role::Rendezvous, key, &NO_PSK);
        self.forget_probes();
        if let Some(entry) = self.peers.get_mut(&id) {
            entry.peer.paths.add_known(addr);
            entry.peer.in_use = true;
        }
        self.with_directory(now, |directory, cx| directory.set_rendezvous(cx.now, key, addr));
    }

    /// Asks the rendezvous at another address as well; where it answers first, it is from now on.
    pub fn also_ask_rendezvous(&mut self, addr: SocketAddr) {
        let Some(id) = self.rendezvous_peer() else { return };
        if let Some(entry) = self.peers.get_mut(&id) {
            entry.peer.also_ask(addr);
        }
        self.touch(id);
    }

    /// Asks the rendezvous for a sign of life, at most once in a second ([`PeerInfo::is_overdue`] tells when it is overdue). One
    /// datagram each way.
    pub fn ask_rendezvous(&mut self, now: Instant) {
        let Some(id) = self.rendezvous_peer().filter(|_| self.directory.asks_for_life(now)) else { return };
        self.peers.get_mut(&id).into_iter().for_each(|entry| entry.peer.link.ping());
        self.touch(id);
    }

    /// The path to a peer may have changed: datagrams for the relay go where the rendezvous is reached.
    pub(super) fn follow_rendezvous(&mut self, id: PeerId) {
        let peer = self.peers.get(&id).map(|e| &e.peer).filter(|peer| peer.role == Role::Rendezvous);
        let paths = peer.map(|peer| &peer.paths);
        // A copy of an answer may come from anywhere.
        let proven = paths.and_then(|paths| paths.selected().filter(|path| paths.is_open(*path)));
        match proven {
            Some(PathAddr::Direct(addr)) if self.rendezvous_peer() == Some(id) => self.directory.rendezvous_is_at(addr),
            Some(PathAddr::Direct(addr)) => self.follow_spare(id, addr),
            _ => {}
        }
    }

    /// Changes what the record of this node says and registers it. The result arrives as [`Event::Directory`].
    pub fn set_profile(&mut self, now: Instant, profile: Profile) {
        self.with_directory(now, |directory, cx| directory.set_profile(cx, profile));
    }

    /// Gives this node's address, name, grants and mailbox back to the rendezvous, before the node ends for good: its tunnels are to be
    /// closed once [`Endpoint::is_leaving`] is false, which it is after four seconds at the latest. Nothing else is asked of the
    /// rendezvous any more. It leaves its groups too: the members that have a tunnel tell the others.
    pub fn leave(&mut self, now: Instant) {
        self.with_directory(now, |directory, cx| directory.leave(cx));
        let groups: Vec<_> = self.trust().groups().map(|group| group.roster.id()).collect();
        for group in groups {
            let left = self.leave_group(now, &group);
            debug_assert!(left.is_ok(), "a group of this node");
        }
    }

    /// True while the rendezvous has not answered to [`Endpoint::leave`].
    pub fn is_leaving(&self) -> bool {
        self.directory.is_leaving()
    }

    /// True once the rendezvous has answered that it has forgotten this node.
    pub const fn is_forgotten(&self) -> bool {
        self.directory.is_forgotten()
    }

    /// Replaces the underlay addresses of this node: every path may be broken, and peers and rendezvous learn the new
    /// addresses at once. Nothing happens when these are the addresses known before. Source: `docs/paths.md`, "Roaming".
    pub fn set_candidates(&mut self, now: Instant, candidates: Vec<SocketAddr>) {
        if !self.directory.set_candidates(candidates) {
            return;
        }
        for id in self.up_peers(now) {
            if let Some(entry) = self.peers.get_mut(&id) {
                entry.peer.paths.on_own_move(now);
            }
            self.send_candidates(now, id, false);
            self.touch(id);
        }
        self.with_directory(now, Directory::register_again);
    }

    /// Replaces the underlay addresses of this node by those and more, which peers with a session learn; paths go on as before.
    pub fn add_candidates(&mut self, now: Instant, candidates: Vec<SocketAddr>) {
        if self.directory.add_candidates(candidates) {
            self.tell_candidates(now);
        }
    }

    /// Replaces the addresses at which gateways let peers in to this node, at most two, which peers with a session learn. A
    /// gateway may lie: such an address is worth a few probes of a peer and nothing more.
    pub fn set_mapped(&mut self, now: Instant, mapped: Vec<SocketAddr>) {
        if self.directory.set_mapped(mapped) {
            self.tell_candidates(now);
        }
    }

    fn tell_candidates(&mut self, now: Instant) {
        self.up_peers(now).into_iter().for_each(|id| {
            self.send_candidates(now, id, true);
            self.touch(id);
        });
    }

    /// The underlay addresses at which this node says that it may be reached: its own, and the one that the rendezvous sees.
    pub fn candidates(&self) -> Vec<SocketAddr> {
        self.directory.candidates()
    }

    /// Asks for a node's record; the answer arrives as [`Event::Answer`] with the returned ticket.
    ///
    /// # Errors
    /// `None` when the rendezvous is not connected or [`CALLS_MAX`](super::CALLS_MAX) calls wait.
    pub fn lookup(&mut self, now: Instant, query: Query) -> Option<Ticket> {
        let ticket = self.with_directory(now, |directory, cx| directory.lookup(cx.now, query));
        ticket.filter(|ticket| self.directory.is_waiting(*ticket))
    }

    /// Asks for public nodes with a tag; like [`Endpoint::lookup`].
    ///
    /// # Errors
    /// As [`Endpoint::lookup`].
    pub fn search(&mut self, now: Instant, tag: String) -> Option<Ticket> {
        let ticket = self.with_directory(now, |directory, cx| directory.search(cx.now, tag));
        ticket.filter(|ticket| self.directory.is_waiting(*ticket))
    }

    // Verbs: trust.

    /// Asks the owner of `record` for trust. The letter leaves as soon as the request is on disk
    /// ([`Endpoint::trust_saved`]) and the rendezvous can be reached; so do all other letters.
    ///
    /// # Errors
    /// See [`TrustBook::request`]. When its owner has asked this node before, approve that instead.
    pub fn request_trust(&mut self, now: Instant, record: &NodeRecord, terms: &Terms) -> Result<(), TrustError> {
        self.with_directory(now, |directory, cx| directory.request_trust(cx, record, terms))
    }

    /// Approves a pending request.
    ///
    /// # Errors
    /// See [`TrustBook::approve`].
    pub fn approve(&mut self, now: Instant, key: &IdentityKey, terms: &Terms) -> Result<(), TrustError> {
        self.with_directory(now, |directory, cx| directory.approve(cx, key, terms))
    }

    /// Declines a pending request.
    ///
    /// # Errors
    /// See [`TrustBook::reject`].
    pub fn reject(&mut self, now: Instant, key: &IdentityKey, note: &str) -> Result<(), TrustError> {
        self.with_directory(now, |directory, cx| directory.reject(cx, key, note))
    }

    /// Withdraws trust: the session's keys are gone when this returns. Once that is on disk, the peer is told directly and by
    /// letter.
    ///
    /// # Errors
    /// `Unknown` when the peer is not trusted.
    pub fn revoke(&mut self, now: Instant, key: &IdentityKey) -> Result<Pin, TrustError> {
        self.with_directory(now, |directory, cx| directory.revoke(cx, key))
    }

    /// Takes back what a node was asked for and has not answered: trust, or ports of a trusted peer. Once that is on disk, the
    /// node is told.
    ///
    /// # Errors
    /// See [`TrustBook::cancel`]; `Full` without room for a letter.
    pub fn cancel(&mut self, now: Instant, key: &IdentityKey) -> Result<(), TrustError> {
        self.with_directory(now, |directory, cx| directory.cancel(cx, key))
    }

    /// Takes a decision back that could not be put on disk. See [`Undo`].
    pub fn undo(&mut self, now: Instant, undo: Undo) {
        self.with_directory(now, |directory, cx| directory.undo(cx, undo));
    }

    /// The owner has seen the requests that wait: others give way first.
    pub fn note_requests_seen(&mut self) {
        self.directory.note_requests_seen();
    }

    /// Ends expired trust and expired grants; true when there was any. [`TrustBook::next_end`] says when to call this.
    pub fn expire_trust(&mut self, now: Instant) -> bool {
        self.with_directory(now, |directory, cx| directory.expire_trust(cx))
    }

    /// Lets invites and memberships grow old; true when that is to be saved. See [`TrustBook::count_time`]. Costs little: call it in every turn.
    pub fn count_time(&mut self, now: Instant) -> bool {
        self.with_directory(now, |directory, cx| directory.count_time(cx))
    }

    /// Changes what a trusted peer may reach, at once. Once that is on disk, the peer is told.
    ///
    /// # Errors
    /// See [`TrustBook::regrant`].
    pub fn regrant(&mut self, now: Instant, key: &IdentityKey, change: &Regrant) -> Result<(), TrustError> {
        self.with_directory(now, |directory, cx| directory.regrant(cx, key, change))
    }

    /// Makes an invite; [`InviteCode`] spells its code, and its holder becomes a peer. Hand the code out once the invite is on disk
    /// ([`Endpoint::trust_saved`]). A node that has no address yet takes one.
    ///
    /// # Errors
    /// See [`TrustBook::invite`].
    pub fn invite(&mut self, now: Instant, terms: InviteTerms) -> Result<Invite, TrustError> {
        self.with_directory(now, |directory, cx| directory.invite(cx, terms))
    }

    /// Withdraws an invite.
    ///
    /// # Errors
    /// See [`TrustBook::withdraw_invite`].
    pub fn withdraw_invite(&mut self, now: Instant, id: InviteId) -> Result<(), TrustError> {
        self.with_directory(now, |directory, cx| directory.withdraw_invite(cx, id))
    }

    /// Asks the inviter of a code, once the request is on disk: by letter where both have one rendezvous, and at the addresses in
    /// the code until it answers. The answer is an [`Event::Trust`]. A node that has no address yet takes one: with a
    /// rendezvous, join when that has given one.
    ///
    /// # Errors
    /// See [`TrustBook::join`]; `NoWay` when the code leads over another rendezvous only.
    pub fn join(&mut self, now: Instant, code: &InviteCode, terms: &Terms) -> Result<(), TrustError> {
        self.with_directory(now, |directory, cx| directory.join(cx, code, terms))
    }

    /// Changes how much of this node a trusted peer may use; see [`TrustBook::set_quota`].
    ///
    /// # Errors
    /// `Unknown` (no such peer).
    pub fn set_quota(&mut self, now: Instant, key: &IdentityKey, quota: Option<Quota>) -> Result<(), TrustError> {
        self.with_directory(now, |directory, _| directory.set_quota(key, quota))
    }

    /// Asks a trusted peer for ports of its node, with a justification for its owner.
    ///
    /// # Errors
    /// See [`TrustBook::wish`]; `Full` without room for a letter.
    pub fn wish(&mut self, now: Instant, key: &IdentityKey, ports: &Ports, note: &str) -> Result<(), TrustError> {
        self.with_directory(now, |directory, cx| directory.wish(cx, key, (ports, note)))
    }

    /// Takes a verified record of any node. A trusted peer with another name is found under that from now on, which
    /// [`Event::Trust`] tells.
    pub fn refresh(&mut self, now: Instant, record: &NodeRecord) {
        self.with_directory(now, |directory, _| directory.refresh(record));
    }

    /// Enters the places where trusted peers are reached directly now into [`Endpoint::trust`]. True when one of them is
    /// another than at the last call: put the book on disk within a minute, so that after a power cut the peers are found
    /// without the rendezvous. Work grows with the number of peers.
    pub fn note_places(&mut self) -> bool {
        for (_, entry) in self.peers.iter().filter(|(_, entry)| entry.peer.role == Role::Trusted) {
            if let (Some(key), Some(path @ PathAddr::Direct(addr))) = (entry.peer.identity, entry.peer.paths.selected())
                && entry.peer.paths.is_open(path)
            {
                self.directory.note_endpoint(&key, addr);
            }
        }
        self.directory.take_new_places()
    }

    /// Takes the word that [`Endpoint::trust`], as it was with this version, is on disk and survives a power cut. Letters that
    /// tell others of a change of trust, and acknowledgements of letters that brought one, wait for this; without it they
    /// never leave. [`Event::SaveTrust`] says when a save is wanted.
    pub fn trust_saved(&mut self, now: Instant, version: TrustVersion) {
        self.with_directory(now, |directory, cx| directory.trust_saved(cx.now, version));
    }

    /// True when [`Endpoint::trust`] as it is now is on disk, as far as [`Endpoint::trust_saved`] has said.
    pub fn trust_is_saved(&self) -> bool {
        self.directory.trust_is_saved()
    }

    /// True while a trusted peer waits for [`Endpoint::trust_saved`]: its streams go on once a secret with it is on disk.
    pub fn trust_save_is_urgent(&self) -> bool {
        self.directory.has_peer_waiting()
    }

    // Input.

    /// Takes a JOIN or its answer; false for every other datagram, and for one without effect.
    pub(super) fn on_join(&mut self, now: Instant, from: PathAddr, datagram: &[u8]) -> bool {
        let PathAddr::Direct(from) = from else { return false };
        if is_join(datagram) {
            return self.with_directory(now, |directory, cx| directory.handle_join(cx, from, datagram));
        }
        parse_join_answer(datagram).is_some_and(|sealed| {
            self.with_directory(now, |directory, cx| directory.handle_join_answer(cx, from, sealed))
        })
    }

    pub(super) fn handle_control(&mut self, now: Instant, from: PeerId, message: Control) {
        let Some(role) = self.peers.get(&from).map(|e| e.peer.role) else { return };
        if role == Role::Rendezvous && self.rendezvous_peer() != Some(from) {
            return self.handle_spare(now, from, message);
        }
        match (role, message) {
            (Role::Client, Control::Call(ticket, call, extensions)) => {
                self.events.push_back(Event::Call(from, ticket, call, extensions));
            }
            (Role::Rendezvous, Control::Answer(ticket, answer, extensions)) => {
                self.with_directory(now, |directory, cx| directory.handle_answer(cx, ticket, answer, &extensions));
            }
            (Role::Rendezvous, Control::Push(Push::Letter(number, source, sealed))) => {
                self.with_directory(now, |directory, cx| directory.handle_letter(cx, (number, source), &sealed));
            }
            (Role::Rendezvous, Control::Push(Push::RelayOpened(channel, key))) => {
                if let Some(id) = self.peer_by_identity(&key) {
                    self.set_relay(now, id, channel);
                    self.peers.get_mut(&id).into_iter().for_each(|entry| entry.peer.set_away(now, false));
                }
            }
            (Role::Rendezvous, Control::Push(Push::Congested(channel))) => self.on_congested_by(None, channel),
            (Role::Rendezvous, Control::Push(Push::Move { to, after_ms })) => {
                self.directory.on_move(now, to, Duration::from_millis(after_ms.into()));
            }
            (Role::Rendezvous, Control::Push(Push::Elsewhere(addr))) => {
                self.with_directory(now, |directory, cx| directory.on_elsewhere(cx.now, addr));
            }
            (Role::Rendezvous, Control::Push(Push::Observed(addr))) => {
                self.with_directory(now, |directory, _| directory.on_observed(addr));
            }
            (Role::Trusted, Control::Candidates(candidates)) => self.handle_candidates(now, from, &candidates),
            (Role::Trusted, Control::Meeting(meeting)) => self.on_meeting(now, from, meeting),
            (Role::Trusted, Control::KemOffer(offer)) => self.handle_kem_offer(now, from, (&offer, false)),
            (Role::Trusted, Control::KemAnswer(answer)) => self.handle_kem_answer(now, from, &answer),
            (Role::Trusted, Control::Trust(message)) => {
                self.with_directory(now, |directory, cx| directory.handle_trust(cx, &message));
            }
            (Role::Trusted, Control::Group(message)) => {
                if let Some(key) = self.identity_of(from) {
                    self.with_directory(now, |directory, cx| directory.handle_talk(cx, &key, &message));
                }
            }
            (_, Control::Unknown(_)) | (Role::Rendezvous, Control::Push(Push::Unknown(_))) => {}
            _ => self.discards.count(Discard::Malformed),
        }
    }

    fn handle_candidates(&mut self, now: Instant, from: PeerId, candidates: &Candidates) {
        let own = self.directory.addresses();
        let Some(entry) = self.peers.get_mut(&from) else { return };
        entry.peer.paths.note_nat(candidates.nat);
        let mut has_news = false;
        for addr in candidates.list.iter().filter(|addr| is_acceptable_candidate(addr, &own)) {
            has_news |= entry.peer.paths.add(PathAddr::Direct(*addr));
        }
        candidates.mapped.iter().for_each(|addr| entry.peer.paths.note_mapped(*addr));
        entry.peer.paths.on_candidates(now, has_news);
        self.touch(from);
    }

    /// A tunnel stands where none stood before, or with another process: the peer is told what it may reach.
    pub(super) fn on_trusted_up(&mut self, now: Instant, id: PeerId) {
        let peer = self.peers.get(&id).map(|e| &e.peer).filter(|peer| peer.role == Role::Trusted);
        if let Some(key) = peer.and_then(|peer| peer.identity) {
            self.with_directory(now, |directory, cx| directory.on_peer_up(cx, &key));
        }
    }

    /// A session with a peer exists that did not before, or its process is another one.
    pub(super) fn on_session(&mut self, now: Instant, id: PeerId, has_restarted: bool) {
        if self.rendezvous_peer() == Some(id) {
            self.with_directory(now, |directory, cx| match has_restarted {
                true => directory.on_restarted(cx),
                false => directory.on_up(cx),
            });
        } else {
            self.on_spare_session(now, id, has_restarted);
        }
    }

    // Effects.

    /// Gives the directory an input, and does what it asks for.
    pub(super) fn with_directory<R>(
        &mut self,
        now: Instant,
        input: impl FnOnce(&mut Directory, &mut Context<'_>) -> R,
    ) -> R {
        let wall_us = self.wall_us(now);
        let mut cx =
            Context { now, wall_us, identity: &self.identity, rng: &mut self.rng, entropy: &mut *self.entropy };
        let result = input(&mut self.directory, &mut cx);
        while let Some(effect) = self.directory.poll_effect() {
            self.carry_out(now, effect);
        }
        result
    }

    fn carry_out(&mut self, now: Instant, effect: Effect) {
        match effect {
            Effect::Reach => {
                if let Some(id) = self.rendezvous_peer() {
                    self.begin_handshake(now, id);
                    self.touch(id);
                }
            }
            Effect::Call(ticket, call) => {
                let (rendezvous, extensions) = (self.rendezvous_peer(), self.going_along(now, &call));
                let call = Control::Call(ticket, call, extensions);
                if !rendezvous.is_some_and(|id| self.send_control(id, &call)) {
                    self.with_directory(now, |directory, cx| directory.on_call_refused(cx, ticket));
                }
            }
            Effect::Record(record) => self.peers.values_mut().for_each(|e| e.peer.set_record(record.clone())),
            Effect::Peers => {
                self.sync_peers(now);
                self.tell_spares(now);
            }
            Effect::Farewell(key, message) => self.seal_farewell(now, &key, message),
            Effect::Send(to, datagram) => self.send_stray(to, datagram),
            Effect::Tell(key, message) => {
                if let Some(id) = self.peer_by_identity(&key).filter(|id| self.is_up(now, *id)) {
                    self.send_control(id, &Control::Trust(message));
                }
            }
            Effect::Talk(key, message) => self.tell_member(now, &key, message),
            Effect::Group(group, message) => self.tell_members(now, &group, &message),
            Effect::Greet(key) => self.greet(now, &key),
            Effect::KemSaved(key, index) => self.on_kem_saved(now, &key, index),
            Effect::Renamed => self.up_peers(now).into_iter().for_each(|id| self.on_trusted_up(now, id)),
            Effect::Regranted(key) => {
                let id = self.peer_by_identity(&key).map(Event::Regranted);
                id.into_iter().for_each(|event| self.events.push_back(event));
            }
            Effect::Candidates => self.up_peers(now).into_iter().for_each(|id| self.send_candidates(now, id, true)),
            Effect::Relay { to, channel, online, seen, is_passed_on } => {
                self.use_relay(now, &to, (channel, online, is_passed_on), seen);
            }
            Effect::Survey(probes) => self.survey(now, &probes),
            Effect::NoRelay(key) => self.no_relay(now, &key),
            Effect::NoBeacon(key) => {
                let id = self.peer_by_identity(&key);
                if let Some(entry) = id.and_then(|id| self.peers.get_mut(&id)) {
                    // Without any known address either the wait need not be long.
                    let is_away = entry.peer.paths.open_addrs().is_empty();
                    entry.peer.set_away(now, is_away);
                }
            }
            Effect::AskForRelays => {
                self.peers_without_way(now).into_iter().for_each(|id| self.ask_for_relay(now, id));
            }
            Effect::Move(to) => {
                if let Some((key, _)) = self.directory.rendezvous() {
                    self.set_rendezvous(now, key, to);
                }
            }
            Effect::Warn(warning) => self.events.push_back(Event::Warning(warning)),
            Effect::State(state) => self.events.push_back(Event::Directory(state)),
            Effect::Answer(ticket, answer) => self.events.push_back(Event::Answer(ticket, answer)),
            Effect::Trust(outcome) => self.events.push_back(Event::Trust(outcome)),
            Effect::SaveTrust(version) => self.events.push_back(Event::SaveTrust(version)),
            Effect::SaveTimes(ceiling_us) => self.events.push_back(Event::SaveTimes(ceiling_us)),
        }
    }

    /// Only direct paths lead to this peer: the rendezvous has no grant of it for this node. A peer that was approved just now has
    /// yet to hear of that: what waits for it goes on.
    fn no_relay(&mut self, now: Instant, key: &IdentityKey) {
        let (approved_at, now_s) =
            (self.trust().pin(key).map_or(0, |pin| pin.approved_at), self.wall_us(now) / 1_000_000);
        // A clock that was set back makes no approval new again.
        let is_new = (approved_at..approved_at.saturating_add(NEW_S)).contains(&now_s);
        let Some(id) = self.peer_by_identity(key) else { return };
        if let Some(entry) = self.peers.get_mut(&id).filter(|_| !is_new) {
            entry.peer.set_away(now, true);
        }
        // It may have left a group and come back, and this node has heard of both at once.
        if self.trust().pin(key).is_some_and(|pin| !pin.by_hand) && !is_new {
            self.doubt(now, id);
        }
        self.touch(id);
    }

    /// Makes the set of trusted peers equal to the set of pins.
    pub(super) fn sync_peers(&mut self, now: Instant) {
        let trust = self.directory.trust();
        let over = |identity: Option<IdentityKey>, secret: &[u8; 32]| match identity.and_then(|key| trust.pin(&key)) {
            None => Some(ResetReason::Revoked),
            Some(pin) => (*pin.secret != *secret).then_some(ResetReason::Renewed),
        };
        let trusted = self.peers.iter().filter(|(_, e)| e.peer.role == Role::Trusted);
        let gone = trusted.filter_map(|(id, e)| Some((*id, over(e.peer.identity, &e.peer.secret)?)));
        for (id, reason) in gone.collect::<Vec<_>>() {
            self.events.push_back(Event::Reset(id, reason));
            let key = self.identity_of(id);
            self.gone.extend(key.map(|key| (id, key)));
            self.remove_peer(id);
        }
        while self.gone.len() > GONE_MAX {
            self.gone.pop_front();
        }
        let new = self.directory.trust().pins().filter(|pin| self.peers.by_static(&pin.static_key).is_none());
        for pin in new.cloned().collect::<Vec<_>>() {
            let id = self.add_peer(now, Role::Trusted, pin.static_key, &pin.secret);
            if let Some(entry) = self.peers.get_mut(&id) {
                entry.peer.identity = Some(pin.identity);
                pin.last_endpoint.into_iter().for_each(|addr| entry.peer.paths.add_known(addr));
            }
        }
        debug_assert!(
            self.peers.iter().filter(|(_, e)| e.peer.role == Role::Trusted).count() <= self.trust().pins().count(),
            "a peer without a pin"
        );
    }

    /// Seals the last message to a peer, and what its link holds besides, without hope of recovery: the keys go now, the
    /// datagrams when the trust book is on disk.
    fn seal_farewell(&mut self, now: Instant, key: &IdentityKey, message: Vec<u8>) {
        let Some(id) = self.peer_by_identity(key) else { return };
        self.send_control(id, &Control::Trust(message));
        let keys = Keys::new(self.directory.relay_key(), &self.legs);
        let mut farewells = Vec::new();
        if let Some(entry) = self.peers.get_mut(&id) {
            entry.peer.link.hurry();
            for turn in 0..=FAREWELLS_MAX {
                // What waits leaves first: after a key handshake probes go before messages.
                if turn == FAREWELLS_MAX {
                    entry.peer.close(ResetReason::Revoked as u8);
                }
                let mut out = Vec::new();
                let mut batch = PacketBuilder::new(&mut out, keys).tapped(self.tap.as_deref_mut());
                if let Some((path, len)) = entry.peer.poll_transmit(now, &mut batch) {
                    out.truncate(len);
                    farewells.push((path, out));
                }
            }
        }
        for (path, datagram) in farewells {
            // The relay header is in the datagram already; it goes to the beacon as it is.
            let to = match path {
                PathAddr::Direct(_) | PathAddr::Side(..) => Some(path),
                PathAddr::Relay(_) => self.resolve(path).map(PathAddr::Direct),
            };
            if let Some(to) = to {
                self.directory.hold_farewell(now, to, datagram);
            }
        }
    }

    // Helpers.

    pub(super) fn rendezvous_peer(&self) -> Option<PeerId> {
        let (key, _) = self.directory.rendezvous()?;
        let id = self.peers.by_static(&key)?;
        self.peers.get(&id).is_some_and(|e| e.peer.role == Role::Rendezvous).then_some(id)
    }

    pub(super) fn ask_for_relay(&mut self, now: Instant, id: PeerId) {
        let peer = self.peers.get(&id).map(|e| &e.peer).filter(|peer| peer.role == Role::Trusted);
        if let Some(key) = peer.and_then(|peer| peer.identity) {
            self.with_directory(now, |directory, cx| directory.ask_for_relay(cx.now, key));
            self.ask_spares(now, key);
        }
    }

    /// What this node sends into a channel waits at its relay: the link that uses it sends less. The word of another relay has no
    /// effect.
    pub(super) fn on_congested_by(&mut self, relay: Option<RelayNumber>, channel: u32) {
        if self.legs.number(Channel(channel)) != relay {
            return;
        }
        let path = PathAddr::Relay(Channel(channel));
        let entry = self.peers.values_mut().find(|entry| entry.peer.paths.selected() == Some(path));
        entry.into_iter().for_each(|entry| entry.peer.link.on_congestion());
    }

    /// The peer does not answer, or not with our secret.
    pub(super) fn doubt(&mut self, now: Instant, id: PeerId) {
        let peer = self.peers.get(&id).map(|e| &e.peer).filter(|peer| peer.role == Role::Trusted);
        if let Some(key) = peer.and_then(|peer| peer.identity) {
            self.with_directory(now, |directory, cx| directory.doubt(cx, &key));
        }
    }

    /// What goes along with a call: with the question for a relay the INIT for which that is wanted, which so is a round trip to
    /// the rendezvous earlier at the peer.
    fn going_along(&mut self, now: Instant, call: &Call) -> Extensions {
        let Call::OpenRelay(to) = call else { return Extensions::NONE };
        let id = self.peer_by_identity(to);
        let init = id.and_then(|id| self.peers.get_mut(&id)).and_then(|entry| entry.peer.init_to_go_along(now));
        init.and_then(|init| Extensions::NONE.with(ExtensionType::INIT, init).ok()).unwrap_or_default()
    }

    /// The rendezvous has given a relay channel to a peer, which it has connected now or not.
    fn use_relay(
        &mut self,
        now: Instant,
        to: &IdentityKey,
        (channel, is_online, is_passed_on): (u32, bool, bool),
        seen: Option<SocketAddr>,
    ) {
        let Some(id) = self.peer_by_identity(to) else { return };
        self.set_relay(now, id, channel);
        seen.into_iter().for_each(|seen| self.on_peer_seen(id, seen));
        if let Some(entry) = self.peers.get_mut(&id) {
            entry.peer.set_away(now, !is_online);
            entry.peer.on_relay_opened(now, PathAddr::Relay(Channel(channel)), is_passed_on);
        }
        self.touch(id);
    }

    fn set_relay(&mut self, now: Instant, id: PeerId, channel: u32) {
        self.legs.close(Channel(channel)); // what the rendezvous has given counts
        if let Some(entry) = self.peers.get_mut(&id) {
            let before = entry.peer.paths.set_relay_of(0, Channel(channel));
            before.into_iter().for_each(|_| entry.peer.on_channel_lost());
            entry.peer.paths.on_relays(now);
        }
    }

    /// Peers with a key handshake, and relayed ones: their relay may be another process now, which knows no channel to them.
    fn peers_without_way(&self, now: Instant) -> Vec<PeerId> {
        let is_relayed = |peer: &Peer| peer.is_up(now) && matches!(peer.paths.selected(), Some(PathAddr::Relay(_)));
        let peers = self.peers.iter().filter(|(_, e)| e.peer.handshake().is_some() || is_relayed(&e.peer));
        peers.map(|(id, _)| *id).collect()
    }

    fn up_peers(&self, now: Instant) -> Vec<PeerId> {
        self.peers.keys().copied().filter(|id| self.is_up(now, *id)).collect()
    }
}
