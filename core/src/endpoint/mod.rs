//! The endpoint: all peers on one UDP socket.
//!
//! `input` holds the way of a datagram in, `lan` what nodes of one network announce, `peers` the table of peers with its ready list and timers, `output` the events and
//! the trace. Registration and trust are a machine of their own, `directory`; `relations` carries out what that machine asks
//! for, because it speaks through the peers of the endpoint and decides which peers exist.

mod config;
mod directory;
mod greeting;
mod groups;
mod hoard;
mod input;
mod kem;
mod lan;
mod link_handle;
mod meet;
mod meetings;
mod output;
mod paths;
mod peers;
mod relations;
mod relaying;
mod spares;
mod survey;

pub use crate::discard::{Discard, Discards};
pub use crate::inner::{NoSink, PeerId, ResetReason, Sink};
pub use crate::timer::{PeerTimer, Timer};
pub use config::{Config, Strangers};
pub use directory::{CALLS_MAX, DirectoryState, Warning};
pub use lan::ANNOUNCEMENT_LEN_MAX;
pub use link_handle::LinkHandle;
pub use output::{Event, PathChange, PeerInfo, Transmit};
pub use spares::{SPARES_MAX, SpareRelay};

use crate::aead::AeadProvider;
use crate::control::{Answer, Control, Push, Ticket};
use crate::extensions::Extensions;
use crate::identity::{Identity, IdentityKey, StaticKey};
use crate::noise::StaticShared;
use crate::path::{PathAddr, ProbeBudget, Prober};
use crate::peer::{PacketBuilder, Peer, Role};
use crate::relay::{Keys, Legs};
use crate::rng::{Entropy, Rng};
use crate::sort::sort_by;
use crate::tap::{Tap, Tapped};
use crate::time::{Duration, Instant, earliest};
use crate::trace::{HandshakeStep, Level, Trace};
use crate::tunnel::door::Doorkeeper;
use crate::tunnel::handshake::{Opening, Pending, Reserve, Timestamp, micros_of, tai64n};
use crate::wire::LocalIndex;
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::net::SocketAddr;
use directory::Directory;
use hoard::Hoard;
use meetings::Meetings;
use output::Events;
use peers::PeerTable;
use spares::Spares;

/// The machine for all peers on one socket.
///
/// After every `handle_*` or verb, drain [`Endpoint::poll_transmit`], [`Endpoint::poll_event`] and
/// [`Endpoint::poll_trace`]; then [`Endpoint::poll_timeout`] says when to call [`Endpoint::handle_timeout`].
pub struct Endpoint {
    identity: Identity,
    aead: &'static dyn AeadProvider,
    /// Gives secrets.
    entropy: Box<dyn Entropy>,
    /// Gives jitter, indexes and the like.
    rng: Rng,
    /// The key for the next key handshake.
    reserve: Reserve,
    strangers: Strangers,
    hoard: Hoard,
    /// Strangers that had no session yet when they came, and since when they are here, oldest first.
    half_open: VecDeque<(Instant, PeerId)>,
    /// Peers whose trust has ended, oldest first.
    gone: VecDeque<(PeerId, IdentityKey)>,
    wall_at_zero_us: u64,
    /// The first moment that was told to this endpoint.
    began: Option<Instant>,
    /// The moment after this machine's last sleep, which its monotonic clock has not counted.
    slept_until: Instant,
    datagram_len_max: usize,
    door: Doorkeeper,
    peers: PeerTable,
    stray: VecDeque<(PathAddr, Vec<u8>)>,
    probes: ProbeBudget,
    last_stamp: Timestamp,
    /// Ephemeral keys of the newest authentic INITs.
    recent_inits: [[u8; 32]; INITS_REMEMBERED],
    events: Events,
    discards: Discards,
    directory: Directory,
    spares: Spares,
    legs: Legs,
    meetings: Meetings,
    /// On while it is there.
    tap: Option<Box<Tap>>,
}

/// Newest authentic INITs that are recognised without computing a key. Older copies are told by their timestamp.
const INITS_REMEMBERED: usize = 8;
/// Peers up to this number get the secret that their static key and ours share at once; others at their first key
/// handshake, since one X25519 each would be felt at start. Source: own choice.
const SHARED_AT_ONCE_MAX: usize = 256;
/// Strangers with a key handshake that is not finished: the oldest gives way, and none stays longer than an initiator tries.
/// Source: own choice; at the rate of the door they come within eight seconds.
const HALF_OPEN_MAX: usize = 4096;
/// A step of the wall clock that may be a sleep. Source: own choice; clocks that are drawn together step by less.
const SLEEP_MIN_US: u64 = 1_000_000;
/// Datagrams outside any peer (cookies, farewells) that may wait.
const STRAY_MAX: usize = 256;

impl Endpoint {
    /// An endpoint; its pinned peers exist from the start, its rendezvous is tried at the first `handle_timeout`.
    pub fn new(mut config: Config) -> Self {
        let mut endpoint = Self {
            door: Doorkeeper::new(&config.identity.static_key(), matches!(config.strangers, Strangers::Serve { .. })),
            aead: config.aead,
            reserve: Reserve::new(config.agreement, &mut *config.entropy),
            entropy: config.entropy,
            rng: Rng::new(config.seed),
            strangers: config.strangers,
            hoard: Hoard::default(),
            half_open: VecDeque::new(),
            gone: VecDeque::new(),
            wall_at_zero_us: config.wall_at_zero_us,
            began: None,
            slept_until: Instant::ZERO,
            datagram_len_max: config.datagram_len_max,
            peers: PeerTable::new(),
            stray: VecDeque::new(),
            probes: ProbeBudget::new(),
            last_stamp: if config.used_us > 0 { tai64n(config.used_us) } else { Timestamp::default() },
            recent_inits: [[0; 32]; INITS_REMEMBERED],
            events: Events::default(),
            discards: Discards::default(),
            meetings: Meetings::default(),
            tap: None,
            directory: Directory::new(
                &config.identity,
                config.addr,
                config.profile,
                config.trust,
                config.candidates,
                config.used_us,
            ),
            spares: Spares::default(),
            legs: Legs::default(),
            identity: config.identity.with_agreement(config.agreement),
        };
        endpoint.sync_peers(Instant::ZERO);
        if let Some((key, addr)) = config.rendezvous {
            endpoint.set_rendezvous(Instant::ZERO, key, addr);
        }
        endpoint
    }

    // Getters.

    /// Our identity.
    pub const fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Name of the cipher's implementation.
    pub fn cipher(&self) -> &'static str {
        self.aead.name()
    }

    /// Name of the key agreement's implementation.
    pub fn key_agreement(&self) -> &'static str {
        self.identity.static_pair().agreement().name()
    }

    /// Counters of ignored input.
    pub const fn discards(&self) -> &Discards {
        &self.discards
    }

    /// All peers.
    pub fn peers(&self) -> impl Iterator<Item = PeerId> + '_ {
        self.peers.keys().copied()
    }

    /// The peer with this identity.
    pub fn peer_by_identity(&self, key: &IdentityKey) -> Option<PeerId> {
        let has_identity = |id: &PeerId| self.peers.get(id).is_some_and(|e| e.peer.identity == Some(*key));
        let pinned = self.trust().pin(key).and_then(|pin| self.peers.by_static(&pin.static_key));
        pinned.filter(has_identity).or_else(|| self.peers.keys().copied().find(has_identity))
    }

    /// The identity of a peer.
    pub fn identity_of(&self, peer: PeerId) -> Option<IdentityKey> {
        self.peers.get(&peer)?.peer.identity
    }

    /// The latest moment at which the peer's process can have begun that a [`ResetReason::Restarted`] told of: what left this
    /// node later did not reach the process before.
    pub fn peer_began(&self, peer: PeerId) -> Option<Instant> {
        // A peer counts the time for which this machine slept; its own clock does not.
        Some(self.peers.get(&peer)?.peer.counterpart_began.max(self.slept_until))
    }

    /// A description of the peer.
    pub fn peer_info(&self, now: Instant, peer: PeerId) -> Option<PeerInfo> {
        let peer = &self.peers.get(&peer)?.peer;
        Some(PeerInfo {
            identity: peer.identity,
            up: peer.is_up(now),
            session_age: peer.session_age(now),
            path: peer.paths.selected(),
            chosen: peer.paths.chosen(),
            paths: peer.paths.described(now),
            outlook: peer.outlook(now),
            is_overdue: peer.is_overdue(now),
            datagram_len: peer.paths.datagram_len(),
            srtt: peer.link.srtt(),
            min_rtt: peer.link.min_rtt(),
            window: peer.link.window(),
            in_flight: peer.link.in_flight(),
            controller: peer.link.controller_name(),
            bytes_sent: peer.bytes_sent,
            bytes_received: peer.bytes_received,
            link: peer.link.stats(),
            last_received: peer.last_received,
            away_since: peer.away_since(),
            nat: peer.paths.acquaintance().nat,
            secret_differs: peer.secret_differs || peer.identity.is_some_and(|key| self.trust().secret_differs(&key)),
        })
    }

    /// When an authentic datagram last came from the peer.
    pub fn last_received(&self, peer: PeerId) -> Option<Instant> {
        self.peers.get(&peer)?.peer.last_received
    }

    /// Smoothed round-trip time to the peer; `None` before the first key handshake.
    pub fn srtt(&self, peer: PeerId) -> Option<Duration> {
        self.peers.get(&peer)?.peer.link.srtt()
    }

    /// True when a session with the peer exists.
    pub fn is_up(&self, now: Instant, peer: PeerId) -> bool {
        self.peers.get(&peer).is_some_and(|e| e.peer.is_up(now))
    }

    /// Longest inner segment that fits a datagram to the peer now. Unit: bytes.
    pub fn segment_len_max(&self, peer: PeerId) -> usize {
        let len = self.peers.get(&peer).map(|e| e.peer.paths.datagram_len());
        len.unwrap_or(crate::wire::DATAGRAM_LEN_BASE) - crate::wire::DATA_OVERHEAD - 1
    }

    /// The wall clock at `now`. Unit: seconds since 1970.
    pub const fn wall_s(&self, now: Instant) -> u64 {
        self.wall_us(now) / 1_000_000
    }

    /// The wall clock at `now`. Unit: microseconds since 1970.
    pub const fn wall_us(&self, now: Instant) -> u64 {
        self.wall_at_zero_us.saturating_add(now.as_micros())
    }

    /// How far the wall clock lies behind the rendezvous', or ahead of it when negative; `None` while that is not known.
    /// Unit: seconds.
    pub fn clock_behind_s(&self, now: Instant) -> Option<i64> {
        self.directory.clock_behind_s(now, self.wall_us(now))
    }

    /// The newest time that a stamp, a record or a trust message of this node had, for
    /// [`Config::used_us`](Config::used_us) of the next start. Unit: microseconds since 1970.
    pub const fn used_us(&self) -> u64 {
        self.directory.used_us()
    }

    /// What [`Event::SaveTimes`] gave last is not on disk, and is asked for again when the next time is used.
    pub const fn times_not_saved(&mut self) {
        self.directory.times_not_saved();
    }

    /// True when a peer has answered from this underlay address, or this node's own configuration, trust book or rendezvous names it.
    pub fn is_open(&self, addr: SocketAddr) -> bool {
        self.meetings.is_probe(addr) || self.peers.iter().any(|(_, entry)| entry.peer.paths.is_open_at(addr))
    }

    /// Memory that other nodes make this endpoint hold for their control streams and key handshakes. Work grows with the
    /// number of peers. Unit: bytes.
    pub fn held_len(&self) -> usize {
        self.peers.iter().map(|(_, entry)| entry.peer.held_len()).sum()
    }

    /// What [`Endpoint::held_len`] never exceeds. Unit: bytes.
    pub fn held_len_max(&self) -> usize {
        let is_stranger = |entry: &&peers::Entry| entry.peer.role == Role::Client;
        let strangers = self.peers.iter().map(|(_, entry)| entry).filter(is_stranger).count();
        let others = self.peers.len() - strangers;
        Hoard::len_max(strangers) + strangers * Peer::RAW_LEN_MAX + others * Peer::HELD_LEN_MAX
    }

    /// Notes of the trace that were lost because nothing read them in time.
    pub const fn traces_lost(&self) -> u64 {
        self.events.trace.lost()
    }

    // Verbs: the trace.

    /// Keeps notes up to `level` for [`Endpoint::poll_trace`] from now on; `None`, as at the start, keeps none.
    pub fn set_trace_level(&mut self, level: Option<Level>) {
        self.events.trace.set_level(level);
    }

    /// Adds the note that `make` gives to the trace, if `level` is wanted; for the layers above.
    pub fn trace(&mut self, level: Level, make: impl FnOnce() -> Trace) {
        self.events.trace.push(level, make);
    }

    // Verbs: the tap.

    /// Copies inner packets for [`Endpoint::poll_tapped`] from now on, or does so no more and forgets the copies.
    pub fn set_tap(&mut self, is_on: bool) {
        if is_on != self.tap.is_some() {
            self.tap = is_on.then(Box::default);
        }
    }

    /// Gives the copies that wait to `take`, oldest first; gives the number of packets that were missed since the last call. Work
    /// is bounded by [`TAP_LEN_MAX`](crate::tap::TAP_LEN_MAX).
    pub fn poll_tapped(&mut self, mut take: impl FnMut(&Self, Tapped<'_>)) -> u64 {
        let Some(mut tap) = self.tap.take() else { return 0 };
        let missed = tap.drain(|tapped| take(self, tapped));
        self.tap = Some(tap);
        missed
    }

    /// Says what the wall clock says at `now`, in microseconds since 1970. It may have been set, or gone on while the
    /// machine slept.
    pub const fn set_wall(&mut self, now: Instant, wall_us: u64) {
        if wall_us.saturating_sub(self.wall_us(now)) > SLEEP_MIN_US {
            self.slept_until = now;
        }
        self.wall_at_zero_us = wall_us.saturating_sub(now.as_micros());
    }

    // Verbs: packets.

    /// Makes a session with the peer now, so that it stands before the first packet is queued.
    pub fn reach(&mut self, now: Instant, peer: PeerId) {
        if let Some(entry) = self.peers.get_mut(&peer).filter(|e| !e.peer.is_up(now)) {
            entry.peer.link.ping();
            self.touch(peer);
        }
    }

    /// Lets `f` queue packets for the peer; `None` for an unknown one.
    pub fn with_link<R>(&mut self, id: PeerId, f: impl FnOnce(&mut LinkHandle<'_>) -> R) -> Option<R> {
        let entry = self.peers.get_mut(&id)?;
        let result = f(&mut LinkHandle { link: &mut entry.peer.link });
        self.touch(id);
        Some(result)
    }

    /// Says whether the application has streams to the peer: such a path is kept alive and looked after.
    pub fn set_in_use(&mut self, now: Instant, id: PeerId, in_use: bool) {
        if let Some(entry) = self.peers.get_mut(&id)
            && entry.peer.role == Role::Trusted
        {
            let was_in_use = core::mem::replace(&mut entry.peer.in_use, in_use);
            if in_use && !was_in_use && entry.peer.is_up(now) && entry.peer.paths.is_worth_a_round(now) {
                self.send_candidates(now, id, true);
            }
            self.touch(id);
        }
    }

    /// Ends every tunnel in order; drain `poll_transmit` once more afterwards. The rendezvous comes last: it relays the
    /// farewells to others.
    pub fn close_all(&mut self) {
        self.peers.clear_ready();
        let mut ids: Vec<_> = self.peers.iter().map(|(id, entry)| (entry.peer.role == Role::Rendezvous, *id)).collect();
        sort_by(&mut ids, |a, b| a < b);
        for (_, id) in ids {
            if let Some(entry) = self.peers.get_mut(&id) {
                entry.peer.close(ResetReason::Closed as u8);
            }
            self.touch(id);
        }
    }

    /// Notes the key of a node that has been here before (rendezvous): when many strangers come, it is served all the same.
    pub fn remember(&mut self, key: &StaticKey) {
        self.door.remember(key);
    }

    /// Answers a stranger's call (rendezvous). False when the stranger is gone or does not read.
    pub fn answer(&mut self, peer: PeerId, ticket: Ticket, answer: Answer, extensions: Extensions) -> bool {
        self.send_control(peer, &Control::Answer(ticket, answer, extensions))
    }

    /// Forgets a stranger that has been silent, or unwelcome, for long (rendezvous).
    pub fn drop_client(&mut self, now: Instant, peer: PeerId) {
        if self.peers.get(&peer).is_some_and(|entry| entry.peer.role == Role::Client) {
            self.reset_peer(now, peer, ResetReason::Unreachable);
        }
    }

    pub(crate) fn send_control(&mut self, id: PeerId, message: &Control) -> bool {
        let Some(entry) = self.peers.get_mut(&id) else { return false };
        let sent = entry.peer.link.send_control(&message.emit()).is_ok();
        self.touch(id);
        self.count_hoard(id);
        sent
    }

    /// Tells a stranger something unasked (rendezvous). False when it is gone or does not read.
    pub fn push(&mut self, peer: PeerId, push: Push) -> bool {
        self.send_control(peer, &Control::Push(push))
    }

    /// The underlay address in use for a peer, for the beacon's forwarding; `None` when there is none or it is relayed.
    pub fn direct_address(&self, peer: PeerId) -> Option<SocketAddr> {
        self.peers.get(&peer)?.peer.paths.selected()?.addr()
    }

    /// Where a peer's newest datagram came from: its reflexive address. The peer may have moved there just now, and
    /// nothing goes there before it has answered.
    pub fn newest_address(&self, peer: PeerId) -> Option<SocketAddr> {
        self.peers.get(&peer)?.peer.paths.newest_from()?.addr()
    }

    // Time.

    /// Runs everything that is due by `now`.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.began(now);
        self.forget_half_open(now);
        while let Some(id) = self.peers.take_due(now) {
            let Some(entry) = self.peers.get_mut(&id) else { continue };
            let prober = &mut Prober { rng: &mut self.rng, budget: &mut self.probes };
            let given_up = entry.peer.handle_timeout(now, prober);
            entry.peer.secret_differs |= given_up == Some(ResetReason::SecretDiffers);
            let wants_relay = entry.peer.take_relay_wish(now);
            if wants_relay {
                entry.peer.relay_init(now);
            }
            if given_up.is_none() && entry.peer.take_away(now) {
                self.events.push_back(Event::Away(id));
            }
            if matches!(given_up, Some(ResetReason::Unreachable | ResetReason::SecretDiffers)) {
                self.doubt(now, id);
            }
            if let Some(reason) = given_up {
                if reason != ResetReason::TooNarrow {
                    self.events.trace.push(Level::Debug, || Trace::Handshake { peer: id, step: HandshakeStep::Failed });
                }
                self.reset_peer(now, id, reason);
            }
            if wants_relay {
                self.ask_for_relay(now, id);
            }
            self.follow_paths(now, id);
            self.touch(id);
        }
        if self.directory.poll_timeout().is_some_and(|at| at <= now) {
            self.with_directory(now, Directory::handle_timeout);
        }
        self.tend_spares(now);
        self.tend_meetings(now);
        self.reserve.handle_timeout(now, &mut *self.entropy);
    }

    // Output.

    /// Fills `out` with the next batch of datagrams for one destination; `None` when there is nothing to send.
    pub fn poll_transmit(&mut self, now: Instant, out: &mut Vec<u8>) -> Option<Transmit> {
        out.clear();
        while let Some((path, datagram)) = self.stray.pop_front() {
            PacketBuilder::new(out, Keys::new(self.directory.relay_key(), &self.legs)).push(path, &datagram);
            if let Some(to) = self.resolve(path) {
                return Some(Transmit { to, source: path.source(), segment_len: out.len() });
            }
            out.clear();
        }
        while let Some(id) = self.peers.front() {
            self.tend(now, id);
            let keys = Keys::new(self.directory.relay_key(), &self.legs);
            let mut batch = PacketBuilder::new(out, keys).tapped(self.tap.as_deref_mut());
            let sent = self.peers.get_mut(&id).and_then(|entry| entry.peer.poll_transmit(now, &mut batch));
            let Some((path, segment_len)) = sent else {
                self.peers.retire_front(now);
                continue;
            };
            let is_silent = out.len() <= segment_len && self.peers.get(&id).is_some_and(|e| e.peer.is_silent(now));
            if is_silent {
                self.peers.retire_front(now);
            } else {
                self.peers.rotate(); // one batch each, in turn
            }
            match self.resolve(path) {
                Some(to) => return Some(Transmit { to, source: path.source(), segment_len }),
                None => out.clear(),
            }
        }
        None
    }

    fn resolve(&self, path: PathAddr) -> Option<SocketAddr> {
        path.addr().or_else(|| match path {
            PathAddr::Relay(channel) => self.legs.addr_of(channel).or_else(|| self.directory.beacon()),
            PathAddr::Direct(_) | PathAddr::Side(..) => None,
        })
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// The next note of the trace. Notes wait only while a level is set.
    pub fn poll_trace(&mut self) -> Option<Trace> {
        self.events.trace.pop()
    }

    /// When [`Endpoint::handle_timeout`] has something to do, and why. Drain the other outputs first.
    pub fn poll_timeout(&self) -> Option<(Instant, Timer)> {
        let peer = self.peers.poll_timeout().map(|(at, id, why)| (at, Timer::Peer(id, why)));
        let directory = earliest(self.directory.poll_timeout(), self.spares_timeout()).map(|at| (at, Timer::Directory));
        let reserve = self.reserve.poll_timeout().map(|at| (at, Timer::Reserve));
        let meetings = self.meetings.poll_timeout().map(|at| (at, Timer::Meeting));
        earliest(earliest(peer, directory), earliest(reserve, meetings))
    }

    // Peers.

    fn add_peer(&mut self, now: Instant, role: Role, key: StaticKey, secret: &[u8; 32]) -> PeerId {
        let computes_shared = role != Role::Client && self.peers.len() < SHARED_AT_ONCE_MAX;
        self.peers.add(|id| {
            let mut peer = Peer::new(id, role, key, secret, (now, self.datagram_len_max), &mut self.rng);
            peer.set_record(self.directory.record());
            if computes_shared {
                peer.shared = StaticShared::new(self.identity.static_pair(), &key.0);
            }
            peer
        })
    }

    fn remove_peer(&mut self, id: PeerId) {
        self.close_spare_channels(id);
        self.hoard.note(id, 0);
        self.peers.remove(id);
        self.tidy_sources(id);
    }

    /// Forgets the tunnel with a peer and says so; a stranger is forgotten altogether.
    fn reset_peer(&mut self, now: Instant, id: PeerId, reason: ResetReason) {
        let Some(entry) = self.peers.get_mut(&id) else { return };
        entry.peer.reset(now, &mut self.rng);
        if reason == ResetReason::Closed {
            entry.peer.paths.forget_candidates();
        }
        let role = entry.peer.role;
        self.events.push_back(Event::Reset(id, reason));
        match role {
            Role::Client => self.remove_peer(id),
            Role::Rendezvous if self.rendezvous_peer() != Some(id) => self.on_spare_lost(now, id),
            Role::Rendezvous => self.with_directory(now, Directory::on_lost),
            Role::Trusted => {}
        }
    }

    /// When this process began, as far as its endpoint knows.
    fn began(&mut self, now: Instant) -> Instant {
        *self.began.get_or_insert(now)
    }

    fn fresh_index(&mut self) -> LocalIndex {
        loop {
            let index = LocalIndex(self.rng.u32());
            if self.peers.by_index(index).is_none() {
                return index;
            }
        }
    }

    /// Has the peer looked after at the next [`Endpoint::poll_transmit`]. Follows everything that may have changed a
    /// peer.
    fn touch(&mut self, id: PeerId) {
        self.peers.touch(id);
    }

    /// Prepares a peer for sending: begins a due key handshake, and makes its indexes known. No peer learns an index
    /// before it was sent, so that this is early enough.
    fn tend(&mut self, now: Instant, id: PeerId) {
        self.leave_stale_path(now, id);
        self.follow_paths(now, id);
        let Some(entry) = self.peers.get_mut(&id) else { return };
        if entry.peer.role == Role::Client {
            if entry.peer.session_indexes().next().is_none() {
                self.events.push_back(Event::Reset(id, ResetReason::Unreachable));
                return self.remove_peer(id);
            }
        } else {
            entry.peer.tend_greeting();
            if entry.peer.handshake_is_due(now) {
                self.begin_handshake(now, id);
            }
        }
        self.tend_kem(now, id);
        self.peers.sync_indexes(id);
    }

    fn begin_handshake(&mut self, now: Instant, id: PeerId) {
        let index = self.fresh_index();
        let stamp = self.fresh_stamp(now);
        let (began, holds_kem) = (self.began(now), self.kem_secret(id).is_some());
        let Some(entry) = self.peers.get_mut(&id) else { return };
        let stance = self.strangers.stance().with_kem(holds_kem && !entry.peer.does_without_kem());
        let (key, cookie) = (entry.peer.static_key, entry.peer.cookie());
        let shared = entry.peer.shared.take().or_else(|| StaticShared::new(self.identity.static_pair(), &key.0));
        let Some(shared) = shared else { return };
        let own = self.reserve.take(now, &mut *self.entropy);
        let opening = Opening {
            responder: &key,
            shared: &shared,
            local_index: index,
            stamp: &stamp,
            own: entry.peer.introduction((now, began), stance, None),
            cookie,
        };
        let pending = Pending::start(&self.identity, &opening, own);
        entry.peer.shared = Some(shared);
        let Ok(pending) = pending else { return };
        entry.peer.begin_handshake(now, pending, &mut self.rng);
        self.events.trace.push(Level::Debug, || Trace::Handshake { peer: id, step: HandshakeStep::Started });
        if entry.peer.take_relay_wish(now) {
            self.ask_for_relay(now, id);
        }
    }

    /// A timestamp strictly above every one sent before, whatever the wall clock does (`docs/wire.md`, "Key
    /// handshake").
    fn fresh_stamp(&mut self, now: Instant) -> Timestamp {
        let mut stamp = tai64n(self.wall_us(now));
        if stamp <= self.last_stamp {
            stamp = self.last_stamp;
            for byte in stamp.iter_mut().rev() {
                *byte = byte.wrapping_add(1);
                if *byte != 0 {
                    break;
                }
            }
        }
        debug_assert!(stamp > self.last_stamp, "a responder refuses a timestamp that it has seen");
        self.last_stamp = stamp;
        self.with_directory(now, |directory, cx| directory.note_time(micros_of(&stamp), cx.wall_us));
        stamp
    }

    fn send_stray(&mut self, to: PathAddr, datagram: Vec<u8>) {
        if self.stray.len() < STRAY_MAX {
            self.stray.push_back((to, datagram));
        }
    }
}

#[cfg(test)]
mod tests;
