//! Owns how an endpoint serves its spare relays: verbs, their messages in, calls out, and the channels that they give.

use super::spares::{ASKED_MAX, CALL_TIMEOUT, PAUSE_MAX, PAUSE_MIN, Purpose, SPARES_MAX, Spare, SpareRelay, Stage};
use super::{Endpoint, PeerId, Role};
use crate::control::{Answer, Call, Control, Push, Refusal, Ticket};
use crate::extensions::{ExtensionType, Extensions};
use crate::identity::{IdentityKey, NodeRecord, Profile, StaticKey};
use crate::path::PathAddr;
use crate::relay::RelayNumber;
use crate::time::{Duration, Instant};
use crate::tunnel::handshake::NO_PSK;
use crate::wire::Channel;
use alloc::vec::Vec;
use core::net::SocketAddr;

impl Endpoint {
    /// Uses another rendezvous as a relay, too, for the peers that use it as well. False when there are as many as may be, or
    /// when this key is in use.
    pub fn add_relay(&mut self, now: Instant, key: StaticKey, addr: SocketAddr) -> bool {
        if self.spares.0.len() == SPARES_MAX || self.peers.by_static(&key).is_some() {
            return false;
        }
        self.legs.add(addr);
        self.spares.0.push(Spare::new(now, key, addr));
        self.add_spare_peer(now, key, addr);
        true
    }

    /// The spare relays, in the order in which they were added.
    pub fn spare_relays(&self) -> impl Iterator<Item = SpareRelay> + '_ {
        self.spares.0.iter().map(|spare| SpareRelay {
            key: spare.key,
            addr: spare.addr,
            is_ready: spare.stage == Stage::Registered,
            srtt: self.peers.by_static(&spare.key).and_then(|id| self.srtt(id)),
        })
    }

    /// The underlay address of the relay that a path leads through; `None` for a direct path.
    pub fn relay_address(&self, path: PathAddr) -> Option<SocketAddr> {
        let PathAddr::Relay(channel) = path else { return None };
        self.legs.addr_of(channel).or_else(|| self.directory.beacon())
    }

    /// Peers with a tunnel whose path in use leads through each relay: that of the rendezvous, then the spares in their order. Work
    /// grows with the number of peers.
    pub fn relayed(&self, now: Instant) -> [usize; SPARES_MAX + 1] {
        let mut counts = [0; SPARES_MAX + 1];
        let up = self.peers.iter().map(|(_, entry)| &entry.peer).filter(|peer| peer.is_up(now));
        for path in up.filter_map(|peer| peer.paths.selected()) {
            if let PathAddr::Relay(channel) = path
                && let Some(count) = counts.get_mut(usize::from(self.legs.number(channel).unwrap_or(0)))
            {
                *count += 1;
            }
        }
        counts
    }

    /// Seeks a spare relay at another address.
    pub fn move_relay(&mut self, now: Instant, key: &StaticKey, addr: SocketAddr) {
        let Some(n) = self.spares.0.iter().position(|spare| spare.key == *key) else { return };
        let spare = &mut self.spares.0[n];
        spare.begin(Stage::Down);
        // Until that address has answered, nothing is relayed there.
        (spare.addr, spare.reach_at, spare.move_at) = (addr, Some(now), None);
        self.peers.by_static(key).into_iter().for_each(|id| self.remove_peer(id));
        self.add_spare_peer(now, *key, addr);
    }

    fn add_spare_peer(&mut self, now: Instant, key: StaticKey, addr: SocketAddr) {
        let id = self.add_peer(now, Role::Rendezvous, key, &NO_PSK);
        if let Some(entry) = self.peers.get_mut(&id) {
            entry.peer.paths.add_known(addr);
            entry.peer.in_use = true;
        }
    }

    /// The node's rendezvous has this key from now on: it is no spare relay any more.
    pub(super) fn take_spare(&mut self, key: &StaticKey) {
        if let Some(spare) = self.spares.0.iter_mut().find(|spare| spare.key == *key) {
            spare.begin(Stage::Down);
            spare.reach_at = None;
            self.peers.by_static(key).into_iter().for_each(|id| self.remove_peer(id));
        }
    }

    fn spare_of(&self, id: PeerId) -> Option<usize> {
        let peer = self.peers.get(&id).map(|entry| &entry.peer).filter(|peer| peer.role == Role::Rendezvous)?;
        self.spares.0.iter().position(|spare| spare.key == peer.static_key)
    }

    // Input.

    /// A session with a spare relay exists.
    pub(super) fn on_spare_session(&mut self, now: Instant, id: PeerId, has_restarted: bool) {
        let Some(n) = self.spare_of(id) else { return };
        let spare = &mut self.spares.0[n];
        if spare.stage == Stage::Down || has_restarted {
            spare.begin(Stage::Up);
            spare.reach_at = None;
            self.tend_spare(now, n);
        }
    }

    /// The tunnel to a spare relay is gone.
    pub(super) fn on_spare_lost(&mut self, now: Instant, id: PeerId) {
        let Some(n) = self.spare_of(id) else { return };
        let spare = &mut self.spares.0[n];
        let wait = PAUSE_MIN + Duration::from_micros(self.rng.below(spare.pause.as_micros() as u64));
        spare.begin(Stage::Down);
        spare.reach_at = Some(now + wait);
        spare.pause = (spare.pause * 2).min(PAUSE_MAX);
    }

    /// A spare relay may be reached elsewhere.
    pub(super) fn follow_spare(&mut self, id: PeerId, addr: SocketAddr) {
        if let Some(n) = self.spare_of(id) {
            self.spares.0[n].addr = addr;
            self.legs.set_addr(n as RelayNumber + 1, addr);
        }
    }

    /// Takes a message of a spare relay: what concerns relaying has an effect.
    pub(super) fn handle_spare(&mut self, now: Instant, from: PeerId, message: Control) {
        let Some(n) = self.spare_of(from) else { return };
        match message {
            Control::Answer(ticket, answer, extensions) => self.on_spare_answer(now, n, (ticket, answer, &extensions)),
            Control::Push(Push::RelayOpened(channel, key)) => self.use_spare(now, n, &key, channel),
            Control::Push(Push::Congested(channel)) => self.on_congested_by(Some(n as RelayNumber + 1), channel),
            Control::Push(Push::Move { to, after_ms }) => {
                self.spares.0[n].move_at = Some((now + Duration::from_millis(after_ms.into()), to));
            }
            _ => {}
        }
    }

    fn on_spare_answer(&mut self, now: Instant, n: usize, (ticket, answer, extensions): (Ticket, Answer, &Extensions)) {
        let spare = &mut self.spares.0[n];
        let Some(at) = spare.calls.iter().position(|(waiting, ..)| *waiting == ticket) else { return };
        let (_, _, purpose) = spare.calls.remove(at);
        if let Some(sequence) = extensions.u64(ExtensionType::SEQUENCE).filter(|known| *known < u64::MAX / 2) {
            spare.sequence = spare.sequence.max(sequence);
        }
        match (purpose, answer) {
            (_, Answer::Refused(Refusal::NotRegistered)) => spare.begin(Stage::Up),
            (Purpose::Register, Answer::Registered { addr, relay_key, .. }) => {
                self.legs.set_key(n as RelayNumber + 1, relay_key);
                // The record must name the address that it was given.
                if core::mem::replace(&mut spare.assigned, addr) == addr {
                    (spare.stage, spare.is_behind, spare.pause) = (Stage::Registered, true, PAUSE_MIN);
                    self.want_all(now, n);
                }
            }
            (Purpose::Grant(grant), Answer::Ok) => spare.granted(grant),
            (Purpose::Relay(key, _), Answer::Relay { channel, online: true }) => self.use_spare(now, n, &key, channel),
            (purpose, _) => spare.not_now(now, purpose),
        }
        self.tend_spare(now, n);
    }

    /// Asks for a channel to every peer with a tunnel or a key handshake.
    fn want_all(&mut self, now: Instant, n: usize) {
        let peers = self.peers.iter().map(|(_, entry)| &entry.peer).filter(|peer| peer.role == Role::Trusted);
        let near = peers.filter(|peer| peer.is_up(now) || peer.handshake().is_some());
        let keys: Vec<IdentityKey> = near.filter_map(|peer| peer.identity).collect();
        keys.into_iter().for_each(|key| self.spares.0[n].want(key, 0));
    }

    /// A key handshake with this peer looks for ways.
    pub(super) fn ask_spares(&mut self, now: Instant, key: IdentityKey) {
        for n in 0..self.spares.0.len() {
            self.spares.0[n].want(key, 0);
            self.tend_spare(now, n);
        }
    }

    /// Pins have come or gone.
    pub(super) fn tell_spares(&mut self, now: Instant) {
        for n in 0..self.spares.0.len() {
            self.spares.0[n].is_behind = true;
            self.tend_spare(now, n);
        }
    }

    pub(super) fn tend_spares(&mut self, now: Instant) {
        for n in 0..self.spares.0.len() {
            let spare = &mut self.spares.0[n];
            if spare.poll_timeout().is_none_or(|at| at > now) {
                continue;
            }
            let reaches = spare.reach_at.take_if(|at| *at <= now).is_some();
            let moved = spare.move_at.take_if(|(at, _)| *at <= now);
            let late: Vec<_> = spare.calls.extract_if(.., |(_, at, _)| *at <= now).collect();
            late.into_iter().for_each(|(_, _, purpose)| spare.not_now(now, purpose));
            let key = spare.key;
            if let Some((_, to)) = moved {
                self.move_relay(now, &key, to);
            } else if let Some(id) = self.peers.by_static(&key).filter(|_| reaches) {
                self.begin_handshake(now, id);
                self.touch(id);
            }
            self.tend_spare(now, n);
        }
    }

    pub(super) fn spares_timeout(&self) -> Option<Instant> {
        self.spares.0.iter().filter_map(Spare::poll_timeout).min()
    }

    // Output.

    /// Begins every call to a spare relay that is due.
    fn tend_spare(&mut self, now: Instant, n: usize) {
        let Some(id) = self.peers.by_static(&self.spares.0[n].key) else { return };
        let trust = self.directory.trust();
        let pins = || {
            let mut pins: Vec<_> = trust.pins().map(|pin| pin.identity).collect();
            pins.sort_unstable();
            pins
        };
        let Some(purpose) = self.spares.0[n].next(now, pins) else { return };
        let wall_ms = self.wall_us(now) / 1000;
        let spare = &mut self.spares.0[n];
        let call = match &purpose {
            Purpose::Register => {
                spare.sequence = wall_ms.max(spare.sequence + 1);
                let nameless = Profile::default();
                Call::Register(NodeRecord::sign(&self.identity, spare.assigned, &nameless, spare.sequence).emit())
            }
            Purpose::Grant(grant) => Call::Grant(grant.clone()),
            Purpose::Relay(key, _) => Call::OpenRelay(*key),
        };
        let ticket = Ticket(spare.next_ticket);
        spare.next_ticket = spare.next_ticket.wrapping_add(1);
        if self.send_control(id, &Control::Call(ticket, call, Extensions::NONE)) {
            self.spares.0[n].calls.push((ticket, now + CALL_TIMEOUT, purpose));
            debug_assert!(self.spares.0[n].calls.len() <= ASKED_MAX + 1, "questions have a maximum");
            self.tend_spare(now, n); // the next one, of at most as many
        } else {
            self.spares.0[n].not_now(now, purpose);
        }
    }

    /// A spare relay has given a channel to a peer.
    fn use_spare(&mut self, now: Instant, n: usize, key: &IdentityKey, channel: u32) {
        let number = n as RelayNumber + 1;
        let trusted = |id: &PeerId| self.peers.get(id).is_some_and(|entry| entry.peer.role == Role::Trusted);
        let Some(id) = self.peer_by_identity(key).filter(trusted) else { return };
        if !self.legs.open(number, Channel(channel)) {
            return;
        }
        if let Some(entry) = self.peers.get_mut(&id) {
            let before = entry.peer.paths.set_relay_of(number, Channel(channel));
            before.into_iter().for_each(|before| self.legs.close(before));
            entry.peer.set_away(now, false);
            entry.peer.relay_init_over(now, PathAddr::Relay(Channel(channel)));
            entry.peer.paths.on_relays(now);
        }
        self.touch(id);
    }

    /// A peer is forgotten: so are its channels.
    pub(super) fn close_spare_channels(&mut self, id: PeerId) {
        let Some(entry) = self.peers.get(&id).filter(|_| !self.spares.0.is_empty()) else { return };
        for path in entry.peer.paths.relays() {
            if let PathAddr::Relay(channel) = path.addr {
                self.legs.close(channel);
            }
        }
    }
}

#[cfg(test)]
mod tests;
