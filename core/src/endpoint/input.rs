//! Owns the way of a datagram in.
//!
//! Type and size → relay header → receiver index, or mac1 → load → static key → pin → session → tag → window → frames
//! (`docs/wire.md`, "Rules"). A datagram that fails a step is counted as a [`Discard`] and changes nothing else.

use super::config::Strangers;
use super::output::Event;
use super::{Endpoint, HALF_OPEN_MAX};
use crate::control::Control;
use crate::discard::Discard;
use crate::identity::StaticKey;
use crate::inner::{NoSink, PeerId, ResetReason, Sink};
use crate::path::{PathAddr, Prober, Source};
use crate::peer::{Arrival, Effects, Role};
use crate::relay::{self, Keys};
use crate::tap::TappedSink;
use crate::time::Instant;
use crate::trace::{HandshakeStep, Level, Trace};
use crate::tunnel::GIVE_UP_AFTER;
use crate::tunnel::door::{Admission, source_bytes};
use crate::tunnel::handshake::{InitReceived, NO_PSK};
use crate::tunnel::session::{Ends, Indexes, Session, Side};
use crate::tunnel::stance::Stance;
use crate::wire::{Datagram, INIT_LEN, LocalIndex, RELAY_HEADER_LEN, RESP_LEN, WireError, u32_at};
use core::net::SocketAddr;

impl Endpoint {
    /// Takes a datagram from the network; it is opened in place. Inner packets go to `sink` before this returns.
    /// Bounded work. Ignored input is counted in [`Endpoint::discards`] and reported for tests.
    ///
    /// # Errors
    /// Why the datagram had no effect.
    pub fn handle_datagram(
        &mut self,
        now: Instant,
        from: SocketAddr,
        datagram: &mut [u8],
        sink: &mut dyn Sink,
    ) -> Result<(), Discard> {
        self.handle_datagram_at(now, (from, Source::MAIN), datagram, sink)
    }

    /// Takes a datagram that came to another socket than the node's own one. Like [`Endpoint::handle_datagram`].
    ///
    /// # Errors
    /// Why the datagram had no effect.
    pub fn handle_datagram_at(
        &mut self,
        now: Instant,
        (from, source): (SocketAddr, Source),
        datagram: &mut [u8],
        sink: &mut dyn Sink,
    ) -> Result<(), Discard> {
        let result = self.dispatch(now, PathAddr::from_source(from, source), datagram, sink);
        if let Err(reason) = result {
            self.discards.count(reason);
            self.trace(Level::Info, || Trace::Discarded { from, reason });
        }
        result
    }

    fn dispatch(
        &mut self,
        now: Instant,
        from: PathAddr,
        datagram: &mut [u8],
        sink: &mut dyn Sink,
    ) -> Result<(), Discard> {
        let parsed = match Datagram::parse(datagram) {
            Ok(parsed) => parsed,
            Err(WireError::Version) => return Err(Discard::Version),
            Err(WireError::Type) if self.on_seen(now, from, datagram) => return Ok(()),
            Err(WireError::Type) if self.on_join(now, from, datagram) => return Ok(()),
            Err(WireError::Type | WireError::Length) => return Err(Discard::NotOurs),
        };
        match parsed {
            Datagram::Data { receiver, counter } => {
                self.handle_data(Arrival { now, from, receiver, counter }, datagram, sink)
            }
            Datagram::Init(init) => self.handle_init(now, from, init),
            Datagram::Resp(resp) => self.handle_resp(now, from, resp),
            Datagram::Cookie(cookie) => {
                let id = self.peers.by_index(LocalIndex(u32_at(cookie, 4))).ok_or(Discard::UnknownIndex)?;
                let entry = self.peers.get_mut(&id).ok_or(Discard::UnknownIndex)?;
                let pending = entry.peer.handshake().ok_or(Discard::Unexpected)?;
                let cookie = pending.open_cookie(&entry.peer.static_key, cookie).ok_or(Discard::Tag)?;
                entry.peer.on_cookie(now, cookie, &mut self.rng);
                self.touch(id);
                Ok(())
            }
            Datagram::Relay { channel, tag } => {
                let PathAddr::Direct(addr) = from else { return Err(Discard::ForeignRelay) };
                let spare = self.legs.at(&addr);
                // A channel is that of one relay, and nothing comes in it from another one.
                if (spare.is_none() && !self.directory.is_rendezvous(&addr)) || self.legs.number(channel) != spare {
                    return Err(Discard::ForeignRelay);
                }
                let inner = &mut datagram[RELAY_HEADER_LEN..];
                let key = Keys::new(self.directory.relay_key(), &self.legs).of(channel);
                if !relay::is_authentic(key, channel, &tag, inner) {
                    return Err(Discard::ForeignRelay);
                }
                self.dispatch(now, PathAddr::Relay(channel), inner, sink)
            }
        }
    }

    fn handle_data(&mut self, arrival: Arrival, datagram: &mut [u8], sink: &mut dyn Sink) -> Result<(), Discard> {
        let id = self.peers.by_index(arrival.receiver).ok_or(Discard::UnknownIndex)?;
        let peer = self.peers.touch(id).ok_or(Discard::UnknownIndex)?;
        let mut no_sink = NoSink;
        // Gate: only a pinned peer's packets reach a stack.
        let mut tapped;
        let sink: &mut dyn Sink = match &mut self.tap {
            _ if peer.role != Role::Trusted => &mut no_sink,
            Some(tap) => {
                tapped = TappedSink { tap, at: arrival.now, sink };
                &mut tapped
            }
            None => sink,
        };
        let mut effects = Effects::default();
        let prober = &mut Prober { rng: &mut self.rng, budget: &mut self.probes };
        let result = peer.handle_data(arrival, datagram, prober, sink, &mut effects);
        self.apply(arrival.now, id, effects);
        result
    }

    fn apply(&mut self, now: Instant, id: PeerId, effects: Effects) {
        if effects.restarted {
            self.note_new_beginning(id);
            self.on_session(now, id, true);
        }
        if effects.established {
            self.on_up(now, id);
        }
        if effects.is_fresh && effects.was_told {
            self.repeat_candidates(id);
        } else if effects.is_fresh {
            self.send_candidates(now, id, false);
        }
        if let Some(record) = effects.introduced {
            self.events.push_back(Event::Introduced(id, record));
        }
        self.follow_paths(now, id);
        for bytes in effects.early {
            match Control::parse(&bytes) {
                Ok(Control::KemOffer(offer)) => self.handle_kem_offer(now, id, (&offer, true)),
                Ok(message @ (Control::KemAnswer(_) | Control::Candidates(..))) => {
                    self.handle_control(now, id, message)
                }
                // Every other message has its place in the order of the control stream.
                Ok(_) | Err(_) => self.discards.count(Discard::Malformed),
            }
        }
        for bytes in effects.control {
            match Control::parse(&bytes) {
                Ok(message) => self.handle_control(now, id, message),
                Err(_) => self.discards.count(Discard::Malformed),
            }
        }
        if effects.closed.is_some() {
            self.reset_peer(now, id, ResetReason::Closed);
        } else if effects.broken {
            self.reset_peer(now, id, ResetReason::Broken);
        }
        self.count_hoard(id);
    }

    /// Counts what a stranger's control stream holds, and ends the tunnels for which there is no room any more.
    pub(super) fn count_hoard(&mut self, id: PeerId) {
        let Some(peer) = self.peers.get(&id).map(|e| &e.peer).filter(|peer| peer.role == Role::Client) else { return };
        self.hoard.note(id, peer.link.control_len());
        while let Some(surplus) = self.hoard.surplus() {
            self.events.push_back(Event::Reset(surplus, ResetReason::Broken));
            self.remove_peer(surplus);
        }
    }

    pub(super) fn handle_init(&mut self, now: Instant, from: PathAddr, init: &[u8; INIT_LEN]) -> Result<(), Discard> {
        let source = match from {
            PathAddr::Direct(addr) | PathAddr::Side(addr, _) => source_bytes(&addr),
            PathAddr::Relay(channel) => channel.0.to_le_bytes().to_vec(),
        };
        match self.door.admit_init(now, &source, init, (&mut self.rng, &mut *self.entropy)) {
            Admission::Go => {}
            Admission::Refuse => return Err(Discard::Mac1),
            Admission::Overload => return Err(Discard::Overload),
            Admission::Cookie(cookie) => {
                self.send_stray(from, cookie.to_vec());
                return Err(Discard::CookieSent);
            }
        }
        // A copy that came by another way, or a replay: recognised before any key is computed.
        let ephemeral = *init[8..].first_chunk().ok_or(Discard::NotOurs)?;
        if self.recent_inits.contains(&ephemeral) {
            return Err(Discard::Replay);
        }
        let known = |key: &StaticKey| self.peers.get(&self.peers.by_static(key)?)?.peer.shared.clone();
        let received = InitReceived::read(&self.identity, init, known).map_err(|_| Discard::Tag)?;
        let offer = received.peer.stance;
        let stance = self.strangers.stance().answer(offer).ok_or(Discard::Suite)?;
        let known = self.peers.by_static(&received.static_key);
        if known.is_none() && self.strangers == Strangers::Refuse {
            return Err(Discard::Stranger);
        }
        if !self.door.admit_key(now, &received.static_key, known.is_some()) {
            return Err(Discard::Overload);
        }
        let id = match known {
            Some(id) => id,
            None => self.add_stranger(now, received.static_key)?,
        };
        let (index, began) = (self.fresh_index(), self.began(now));
        let kem = offer.has_kem().then(|| self.kem_secret(id)).flatten().and_then(|kem| self.psk_with(id, &kem));
        let stance = stance.with_kem(kem.is_some());
        let entry = self.peers.get_mut(&id).ok_or(Discard::UnknownIndex)?;
        if entry.peer.last_stamp.is_some_and(|last| received.stamp <= last) {
            return Err(Discard::Replay);
        }
        let (stamp, remote_index, peer) = (received.stamp, received.remote_index, received.peer);
        entry.peer.shared.get_or_insert_with(|| received.shared().clone());
        let own = self.reserve.take(now, &mut *self.entropy);
        let shown = entry.peer.new_incarnation_for(peer.incarnation, &mut self.rng);
        let answer = (index, entry.peer.introduction((now, began), stance, shown));
        let (resp, keys) =
            received.respond(answer, kem.as_deref().unwrap_or(&entry.peer.secret), &own).map_err(|_| Discard::Tag)?;
        entry.peer.last_stamp = Some(stamp);
        self.recent_inits.rotate_right(1);
        self.recent_inits[0] = ephemeral;
        let indexes = Indexes { local: index, remote: remote_index };
        let ends = ends(entry.peer.role, stance, peer.stance);
        let session = Session::new(self.aead, &keys, indexes, Side::Responder, now).of(peer, ends).shown(shown);
        let needs_kem = entry.peer.role == Role::Trusted && kem.is_none();
        let is_fresh = !entry.peer.is_up(now) || session.shown.is_some();
        entry.peer.install_next(if needs_kem { session.unmixed(&keys) } else { session });
        entry.peer.paths.note_resp(from);
        entry.peer.send_raw(from, resp);
        self.trace(Level::Debug, || Trace::Handshake { peer: id, step: HandshakeStep::Answered });
        if is_fresh {
            self.tell_early(now, id, from);
        }
        self.touch(id);
        Ok(())
    }

    pub(super) fn add_stranger(&mut self, now: Instant, key: StaticKey) -> Result<PeerId, Discard> {
        let Strangers::Serve { max } = self.strangers else { return Err(Discard::Stranger) };
        if self.peers.len() >= max {
            return Err(Discard::Full);
        }
        let id = self.add_peer(now, Role::Client, key, &NO_PSK);
        self.half_open.push_back((now, id));
        self.forget_half_open(now);
        Ok(id)
    }

    /// Drops the strangers that have not finished their key handshake in time, or are too many.
    pub(super) fn forget_half_open(&mut self, now: Instant) {
        let is_over = |since: Instant, len: usize| len > HALF_OPEN_MAX || now.since(since) >= GIVE_UP_AFTER;
        while self.half_open.front().is_some_and(|(since, _)| is_over(*since, self.half_open.len())) {
            let oldest = self.half_open.pop_front().map(|(_, id)| id);
            let is_open = |id: &PeerId| self.peers.get(id).is_some_and(|e| e.peer.session_age(Instant::ZERO).is_none());
            if let Some(id) = oldest.filter(is_open) {
                self.remove_peer(id);
            }
        }
    }

    pub(super) fn handle_resp(&mut self, now: Instant, from: PathAddr, resp: &[u8; RESP_LEN]) -> Result<(), Discard> {
        let index = LocalIndex(u32_at(resp, 8));
        let id = self.peers.by_index(index).ok_or(Discard::UnknownIndex)?;
        if !self.door.mac1_is_valid(resp) {
            return Err(Discard::Mac1);
        }
        let kem = self.kem_secret(id).and_then(|kem| self.psk_with(id, &kem));
        let entry = self.peers.get_mut(&id).ok_or(Discard::UnknownIndex)?;
        let pending = entry.peer.asked_at(index).ok_or(Discard::Unexpected)?;
        let Ok((remote, peer, keys)) = pending.finish(&self.identity, (&entry.peer.secret, kem.as_deref()), resp)
        else {
            entry.peer.on_refused(now, index);
            self.touch(id);
            return Err(Discard::Tag);
        };
        let ends = ends(entry.peer.role, self.strangers.stance(), peer.stance);
        let indexes = Indexes { local: index, remote };
        let session = Session::new(self.aead, &keys, indexes, Side::Initiator, now).of(peer, ends);
        let needs_kem = entry.peer.role == Role::Trusted && !peer.stance.has_kem();
        let session = if needs_kem { session.unmixed(&keys) } else { session };
        let prober = &mut Prober { rng: &mut self.rng, budget: &mut self.probes };
        let was_up = entry.peer.is_up(now);
        let restarted = entry.peer.install_current(now, session, (from, RESP_LEN), prober);
        if restarted {
            self.note_new_beginning(id);
        }
        self.follow_rendezvous(id);
        self.on_session(now, id, restarted);
        self.trace(Level::Debug, || Trace::Handshake { peer: id, step: HandshakeStep::Finished });
        if !was_up || restarted {
            self.on_up(now, id);
            self.send_candidates(now, id, false);
        }
        self.follow_paths(now, id);
        self.touch(id);
        Ok(())
    }

    /// The peer's link began anew.
    fn note_new_beginning(&mut self, id: PeerId) {
        let reason = self.peers.get(&id).map(|entry| entry.peer.new_beginning());
        self.events.push_back(Event::Reset(id, reason.unwrap_or(ResetReason::Restarted)));
    }

    fn on_up(&mut self, now: Instant, id: PeerId) {
        let path = self.peers.get_mut(&id).and_then(|entry| {
            entry.peer.secret_differs = false;
            entry.peer.paths.selected()
        });
        self.trace(Level::Info, || Trace::PeerUp { peer: id, path });
        self.events.push_back(Event::Up(id));
        self.on_trusted_up(now, id);
    }
}

/// Which ends a session has. Between nodes that trust each other keys are short-lived, whatever the peer says it is.
fn ends(role: Role, own: Stance, peer: Stance) -> Ends {
    let is_rendezvous = role != Role::Trusted && (own.is_rendezvous() || peer.is_rendezvous());
    if is_rendezvous { Ends::Rendezvous } else { Ends::Nodes }
}
