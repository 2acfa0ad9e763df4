//! The endpoint: all peers on one UDP socket.
//!
//! A datagram's way in (wire.md, Rules): type and size → receiver index or mac1 → load → static key → pin → session →
//! tag → window → frames. Whatever fails a step is counted as a [`Discard`] and changes nothing else.
//!
//! Registration and trust are a machine of their own, [`directory`]; `relations` carries out what that machine asks for,
//! because it speaks through the peers of the endpoint and decides which peers exist.

mod directory;
mod outbox;
mod output;
mod relations;

pub use crate::discard::{Discard, Discards};
pub use crate::inner::{NoSink, PeerId, ResetReason, Sink};
pub use directory::{CALLS_MAX, DirectoryState, TrustChange};
pub use outbox::Outbox;
use output::Events;
pub use output::{Event, PeerInfo, Timer, Transmit};

use crate::addr::Addr;
use crate::aead::{self, AeadProvider};
use crate::agreement::{self, KeyAgreement};
use crate::control::{Answer, Control, Ticket};
use crate::identity::{Identity, IdentityKey, Profile, StaticKey};
use crate::noise::StaticShared;
use crate::path::{PathAddr, PathNews};
use crate::peer::{Effects, PacketBuilder, Peer, Role};
use crate::relay;
use crate::rng::Rng;
use crate::time::{Duration, Instant, earliest};
use crate::trace::{HandshakeStep, Level, Trace};
use crate::trust::TrustBook;
use crate::tunnel::handshake::{
    Admission, Doorkeeper, InitReceived, NO_PSK, Pending, Reserve, Timestamp, source_bytes, tai64n,
};
use crate::tunnel::session::{Indexes, Session, Side};
use crate::wire::{Counter, Datagram, INIT_LEN, LocalIndex, RESP_LEN, WireError};
use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::vec::Vec;
use core::net::SocketAddr;
use directory::Directory;

/// Who may make sessions with this endpoint besides pinned peers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strangers {
    /// Nobody: silence, whatever they send.
    Refuse,
    /// Anybody, for control calls only. What a rendezvous does.
    Serve {
        /// Most strangers at once.
        max: usize,
    },
}

/// Everything an endpoint is made of.
pub struct Config {
    /// Our keys.
    pub identity: Identity,
    /// Fresh randomness; equal seeds make equal endpoints.
    pub seed: [u8; 32],
    /// The cipher's implementation on the data path.
    pub aead: &'static dyn AeadProvider,
    /// X25519's implementation for key handshakes.
    pub agreement: &'static dyn KeyAgreement,
    /// Who else may speak.
    pub strangers: Strangers,
    /// Wall clock at `Instant::ZERO`. Unit: microseconds since 1970.
    pub wall_at_zero_us: u64,
    /// Our address from an earlier run, or unassigned.
    pub addr: Addr,
    /// Hostname, visibility, tags.
    pub profile: Profile,
    /// Trust from an earlier run.
    pub trust: TrustBook,
    /// Static key and underlay address of our rendezvous.
    pub rendezvous: Option<(StaticKey, SocketAddr)>,
    /// Underlay addresses at which this node may be reached directly.
    pub candidates: Vec<SocketAddr>,
    /// Largest datagram that is tried on any path. Unit: bytes; at least 1216 is always used.
    pub datagram_len_max: usize,
}

impl Config {
    /// A node with these keys that knows nobody.
    pub fn new(identity: Identity, seed: [u8; 32]) -> Self {
        Self {
            identity,
            seed,
            aead: &aead::PORTABLE,
            agreement: &agreement::PORTABLE,
            strangers: Strangers::Refuse,
            wall_at_zero_us: 0,
            addr: Addr::default(),
            profile: Profile::default(),
            trust: TrustBook::default(),
            rendezvous: None,
            candidates: Vec::new(),
            datagram_len_max: crate::path::DATAGRAM_LEN_MAX,
        }
    }
}

/// The machine for all peers on one socket. See the module's documentation.
pub struct Endpoint {
    identity: Identity,
    aead: &'static dyn AeadProvider,
    rng: Rng,
    /// For the next handshake.
    reserve: Reserve,
    strangers: Strangers,
    wall_at_zero_us: u64,
    datagram_len_max: usize,
    door: Doorkeeper,
    /// Boxed, since a tree keeps room for many more values than it has.
    peers: BTreeMap<PeerId, Box<Entry>>,
    by_static: BTreeMap<StaticKey, PeerId>,
    by_index: BTreeMap<LocalIndex, PeerId>,
    next_peer: u32,
    ready: VecDeque<PeerId>,
    timers: BTreeSet<(Instant, PeerId)>,
    stray: VecDeque<(PathAddr, Vec<u8>)>,
    last_stamp: Timestamp,
    /// Ephemeral keys of the newest authentic INITs.
    recent_inits: [[u8; 32]; INITS_REMEMBERED],
    events: Events,
    discards: Discards,
    directory: Directory,
}

struct Entry {
    peer: Peer,
    indexes: Vec<LocalIndex>,
    queued: bool,
    timer: Option<Instant>,
}

/// Newest authentic INITs that are recognised without computing a key. Older copies are told by their timestamp.
const INITS_REMEMBERED: usize = 8;
/// With more peers than this, what their static keys and ours make together is computed at the first key handshake, not at once:
/// one X25519 each would be felt at start. Source: own choice.
const SHARED_AT_ONCE_MAX: usize = 256;
/// Datagrams outside any peer (cookies, farewells) that may wait.
const STRAY_MAX: usize = 256;

impl Endpoint {
    /// An endpoint; its pinned peers exist from the start, its rendezvous is tried at the first `handle_timeout`.
    pub fn new(config: Config) -> Self {
        let mut rng = Rng::new(config.seed);
        let mut endpoint = Self {
            door: Doorkeeper::new(&config.identity.static_key()),
            aead: config.aead,
            reserve: Reserve::new(config.agreement, &mut rng),
            rng,
            strangers: config.strangers,
            wall_at_zero_us: config.wall_at_zero_us,
            datagram_len_max: config.datagram_len_max,
            peers: BTreeMap::new(),
            by_static: BTreeMap::new(),
            by_index: BTreeMap::new(),
            next_peer: 1,
            ready: VecDeque::new(),
            timers: BTreeSet::new(),
            stray: VecDeque::new(),
            last_stamp: Timestamp::default(),
            recent_inits: [[0; 32]; INITS_REMEMBERED],
            events: Events::default(),
            discards: Discards::default(),
            directory: Directory::new(&config.identity, config.addr, config.profile, config.trust, config.candidates),
            identity: config.identity.with_agreement(config.agreement),
        };
        endpoint.sync_peers();
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
        let pinned = self.trust().pin(key).and_then(|pin| self.by_static.get(&pin.static_key)).copied();
        pinned.filter(has_identity).or_else(|| self.peers.keys().copied().find(has_identity))
    }

    /// The identity of a peer.
    pub fn identity_of(&self, peer: PeerId) -> Option<IdentityKey> {
        self.peers.get(&peer)?.peer.identity
    }

    /// What is known of a peer.
    pub fn peer_info(&self, now: Instant, peer: PeerId) -> Option<PeerInfo> {
        let peer = &self.peers.get(&peer)?.peer;
        Some(PeerInfo {
            identity: peer.identity,
            up: peer.is_up(now),
            session_age: peer.session_age(now),
            path: peer.paths.selected(),
            paths: peer.paths.list().to_vec(),
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
        })
    }

    /// When something authentic last came from the peer.
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
        (self.wall_at_zero_us + now.as_micros()) / 1_000_000
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

    // Verbs: packets.

    /// Makes a session with the peer now, so that it stands before the first packet is queued.
    pub fn reach(&mut self, now: Instant, peer: PeerId) {
        if let Some(entry) = self.peers.get_mut(&peer).filter(|e| !e.peer.is_up(now)) {
            entry.peer.link.ping();
            self.touch(peer);
        }
    }

    /// Lets `f` queue packets for the peer; `None` for an unknown one.
    pub fn outbox<R>(&mut self, id: PeerId, f: impl FnOnce(&mut Outbox<'_>) -> R) -> Option<R> {
        let entry = self.peers.get_mut(&id)?;
        let result = f(&mut Outbox { link: &mut entry.peer.link });
        self.touch(id);
        Some(result)
    }

    /// Says whether the application has streams to the peer: such a path is kept alive and looked after.
    pub fn set_in_use(&mut self, id: PeerId, in_use: bool) {
        if let Some(entry) = self.peers.get_mut(&id)
            && entry.peer.role == Role::Trusted
        {
            entry.peer.in_use = in_use;
            self.touch(id);
        }
    }

    /// Ends every tunnel in order; drain `poll_transmit` once more afterwards. The rendezvous comes last: it relays what is
    /// said to others.
    pub fn close_all(&mut self) {
        self.ready.clear();
        let mut ids: Vec<_> = self.peers.keys().copied().collect();
        ids.sort_by_key(|id| self.peers[id].peer.role == Role::Rendezvous);
        for id in ids {
            if let Some(entry) = self.peers.get_mut(&id) {
                entry.peer.close(ResetReason::Closed as u8);
                entry.queued = false;
            }
            self.touch(id);
        }
    }

    /// Answers a stranger's call (rendezvous). False when the stranger is gone or does not read.
    pub fn answer(&mut self, peer: PeerId, ticket: Ticket, answer: Answer) -> bool {
        self.send_control(peer, &Control::Answer(ticket, answer))
    }

    pub(crate) fn send_control(&mut self, id: PeerId, message: &Control) -> bool {
        let Some(entry) = self.peers.get_mut(&id) else { return false };
        let sent = entry.peer.link.send_control(&message.emit()).is_ok();
        self.touch(id);
        sent
    }

    /// Tells a stranger something unasked (rendezvous). False when it is gone or does not read.
    pub fn push(&mut self, peer: PeerId, push: crate::control::Push) -> bool {
        self.send_control(peer, &Control::Push(push))
    }

    /// Where a peer's datagrams go now; for the beacon's forwarding.
    pub fn direct_address(&self, peer: PeerId) -> Option<SocketAddr> {
        match self.peers.get(&peer)?.peer.paths.selected()? {
            PathAddr::Direct(addr) => Some(addr),
            PathAddr::Relay(_) => None,
        }
    }

    /// Where a peer's newest datagram came from: what it is told as its reflexive address. It may have moved there just now, and
    /// nothing goes there before it has answered.
    pub fn newest_address(&self, peer: PeerId) -> Option<SocketAddr> {
        match self.peers.get(&peer)?.peer.paths.newest_from()? {
            PathAddr::Direct(addr) => Some(addr),
            PathAddr::Relay(_) => None,
        }
    }

    // Input.

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
        let result = self.dispatch(now, PathAddr::Direct(from), datagram, sink);
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
        match Datagram::parse(datagram).map_err(|e| match e {
            WireError::Version => Discard::Version,
            WireError::Type | WireError::Length => Discard::NotOurs,
        })? {
            Datagram::Data { receiver, counter } => self.handle_data(now, from, (receiver, counter), datagram, sink),
            Datagram::Init(init) => self.handle_init(now, from, init),
            Datagram::Resp(resp) => self.handle_resp(now, from, resp),
            Datagram::Cookie(cookie) => {
                let id =
                    *self.by_index.get(&LocalIndex(crate::wire::u32_at(cookie, 4))).ok_or(Discard::UnknownIndex)?;
                let entry = self.peers.get_mut(&id).ok_or(Discard::UnknownIndex)?;
                let handshake = entry.peer.handshake.as_ref().ok_or(Discard::Unexpected)?;
                let cookie = handshake.pending.open_cookie(&entry.peer.static_key, cookie).ok_or(Discard::Tag)?;
                // Used by the next resend; resending at once would let a flood of cookies make a flood of INITs.
                entry.peer.cookie = Some(cookie);
                Ok(())
            }
            Datagram::Relay { channel, tag } => {
                if !matches!(from, PathAddr::Direct(addr) if self.directory.is_rendezvous(&addr)) {
                    return Err(Discard::ForeignRelay);
                }
                let inner = &mut datagram[crate::wire::RELAY_HEADER_LEN..];
                if !relay::is_authentic(self.directory.relay_key(), channel, &tag, inner) {
                    return Err(Discard::ForeignRelay);
                }
                self.dispatch(now, PathAddr::Relay(channel), inner, sink)
            }
        }
    }

    fn handle_data(
        &mut self,
        now: Instant,
        from: PathAddr,
        (receiver, counter): (LocalIndex, Counter),
        datagram: &mut [u8],
        sink: &mut dyn Sink,
    ) -> Result<(), Discard> {
        let id = *self.by_index.get(&receiver).ok_or(Discard::UnknownIndex)?;
        let entry = self.peers.get_mut(&id).ok_or(Discard::UnknownIndex)?;
        let mut no_sink = NoSink;
        // Gate: only a pinned peer's packets reach a stack.
        let sink: &mut dyn Sink = if entry.peer.role == Role::Trusted { sink } else { &mut no_sink };
        let (rng, mut effects) = (&mut self.rng, Effects::default());
        let result = entry.peer.handle_data(now, from, (receiver, counter), datagram, rng, sink, &mut effects);
        self.apply(now, id, effects);
        self.touch(id);
        result
    }

    fn apply(&mut self, now: Instant, id: PeerId, effects: Effects) {
        if effects.restarted {
            self.events.push_back(Event::Reset(id, ResetReason::Restarted));
            self.on_session(now, id, true);
        }
        if effects.established {
            self.on_up(id);
        }
        if effects.met {
            self.send_candidates(id);
        }
        if let Some(record) = effects.introduced {
            self.events.push_back(Event::Introduced(id, record));
        }
        if effects.path_changed {
            self.on_path_changed(id);
        }
        for bytes in effects.control {
            match Control::parse(&bytes) {
                Ok(message) => self.handle_control(now, id, message),
                Err(_) => self.discards.count(Discard::Malformed),
            }
        }
        if effects.closed.is_some() {
            self.reset_peer(now, id, ResetReason::Closed);
        }
    }

    fn on_path_changed(&mut self, id: PeerId) {
        self.events.push_back(Event::PathChanged(id));
        let Some(entry) = self.peers.get(&id) else { return };
        if let (Some(key), Some(PathAddr::Direct(addr))) = (entry.peer.identity, entry.peer.paths.selected()) {
            self.directory.note_endpoint(&key, addr);
        }
    }

    fn handle_init(&mut self, now: Instant, from: PathAddr, init: &[u8; INIT_LEN]) -> Result<(), Discard> {
        let source = match from {
            PathAddr::Direct(addr) => source_bytes(&addr),
            PathAddr::Relay(channel) => channel.0.to_le_bytes().to_vec(),
        };
        match self.door.admit_init(now, &source, init, &mut self.rng) {
            Admission::Go => {}
            Admission::Refuse => return Err(Discard::Mac1),
            Admission::Overload => return Err(Discard::Overload),
            Admission::Cookie(cookie) => {
                self.send_stray(from, cookie.to_vec());
                return Err(Discard::CookieSent);
            }
        }
        // It came by relay and directly, or somebody plays it again: known before any key is computed.
        let ephemeral = *init[8..].first_chunk().ok_or(Discard::NotOurs)?;
        if self.recent_inits.contains(&ephemeral) {
            return Err(Discard::Replay);
        }
        let known = |key: &StaticKey| self.peers.get(self.by_static.get(key)?)?.peer.shared.clone();
        let received = InitReceived::read(&self.identity, init, known).map_err(|_| Discard::Tag)?;
        let id = match self.by_static.get(&received.static_key) {
            Some(id) => *id,
            None => self.add_stranger(received.static_key)?,
        };
        let index = self.fresh_index();
        let entry = self.peers.get_mut(&id).ok_or(Discard::UnknownIndex)?;
        if entry.peer.last_stamp.is_some_and(|last| received.stamp <= last) {
            return Err(Discard::Replay);
        }
        let (stamp, remote_index, incarnation) = (received.stamp, received.remote_index, received.incarnation);
        entry.peer.shared.get_or_insert_with(|| received.shared().clone());
        let own = self.reserve.take(now, &mut self.rng);
        let (resp, keys) =
            received.respond((index, entry.peer.incarnation), &entry.peer.secret, &own).map_err(|_| Discard::Tag)?;
        entry.peer.last_stamp = Some(stamp);
        self.recent_inits.rotate_right(1);
        self.recent_inits[0] = ephemeral;
        entry.peer.install_next(self.aead, &keys, Indexes { local: index, remote: remote_index }, incarnation, now);
        entry.peer.send_raw(from, resp);
        self.trace(Level::Debug, || Trace::Handshake { peer: id, step: HandshakeStep::Answered });
        self.touch(id);
        Ok(())
    }

    fn add_stranger(&mut self, key: StaticKey) -> Result<PeerId, Discard> {
        let Strangers::Serve { max } = self.strangers else { return Err(Discard::Stranger) };
        if self.peers.len() >= max {
            return Err(Discard::Full);
        }
        Ok(self.add_peer(Role::Client, key, NO_PSK))
    }

    fn handle_resp(&mut self, now: Instant, from: PathAddr, resp: &[u8; RESP_LEN]) -> Result<(), Discard> {
        let index = LocalIndex(crate::wire::u32_at(resp, 8));
        let id = *self.by_index.get(&index).ok_or(Discard::UnknownIndex)?;
        if !self.door.mac1_is_valid(resp) {
            return Err(Discard::Mac1);
        }
        let entry = self.peers.get_mut(&id).ok_or(Discard::UnknownIndex)?;
        let handshake =
            entry.peer.handshake.as_ref().filter(|e| e.pending.local_index == index).ok_or(Discard::Unexpected)?;
        let finished = handshake.pending.finish(&self.identity, &entry.peer.secret, resp);
        let (remote_index, incarnation, keys) = finished.map_err(|_| Discard::Tag)?;
        let session =
            Session::new(self.aead, &keys, Indexes { local: index, remote: remote_index }, Side::Initiator, now)
                .of(incarnation);
        let was_up = entry.peer.is_up(now);
        let restarted = entry.peer.install_current(now, session, from);
        if restarted {
            self.events.push_back(Event::Reset(id, ResetReason::Restarted));
        }
        self.on_session(now, id, restarted);
        self.trace(Level::Debug, || Trace::Handshake { peer: id, step: HandshakeStep::Finished });
        if !was_up || restarted {
            self.on_up(id);
        }
        self.touch(id);
        Ok(())
    }

    fn on_up(&mut self, id: PeerId) {
        let path = self.peers.get(&id).and_then(|entry| entry.peer.paths.selected());
        self.trace(Level::Info, || Trace::PeerUp { peer: id, path });
        self.events.push_back(Event::Up(id));
    }

    /// Runs everything that is due by `now`.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some(&(at, id)) = self.timers.first() {
            if at > now {
                break;
            }
            self.timers.pop_first();
            let Some(entry) = self.peers.get_mut(&id) else { continue };
            entry.timer = None;
            let given_up = entry.peer.handle_timeout(now, &mut self.rng);
            let wants_relay = entry.peer.take_relay_wish(now);
            if wants_relay {
                entry.peer.relay_init(now);
            }
            if given_up {
                self.events.trace.push(Level::Debug, || Trace::Handshake { peer: id, step: HandshakeStep::Failed });
                let reason = if entry.peer.away { ResetReason::Away } else { ResetReason::Unreachable };
                self.reset_peer(now, id, reason);
            }
            if wants_relay {
                self.ask_for_relay(now, id);
            }
            self.touch(id);
        }
        self.with_directory(now, Directory::handle_timeout);
        self.reserve.handle_timeout(now, &mut self.rng);
    }

    // Output.

    /// Fills `out` with the next batch of datagrams for one destination; `None` when there is nothing to send.
    pub fn poll_transmit(&mut self, now: Instant, out: &mut Vec<u8>) -> Option<Transmit> {
        out.clear();
        while let Some((path, datagram)) = self.stray.pop_front() {
            PacketBuilder::new(out, self.directory.relay_key()).push(path, &datagram);
            if let Some(to) = self.resolve(path) {
                return Some(Transmit { to, segment_len: out.len() });
            }
            out.clear();
        }
        while let Some(&id) = self.ready.front() {
            self.tend(now, id);
            let mut batch = PacketBuilder::new(out, self.directory.relay_key());
            let Some(entry) = self.peers.get_mut(&id) else {
                self.ready.pop_front();
                continue;
            };
            let Some((path, segment_len)) = entry.peer.poll_transmit(now, &mut batch) else {
                entry.queued = false;
                self.ready.pop_front();
                self.reschedule(now, id);
                continue;
            };
            // One batch each, in turn.
            self.ready.rotate_left(1);
            match self.resolve(path) {
                Some(to) => return Some(Transmit { to, segment_len }),
                None => out.clear(),
            }
        }
        None
    }

    fn resolve(&self, path: PathAddr) -> Option<SocketAddr> {
        match path {
            PathAddr::Direct(addr) => Some(addr),
            PathAddr::Relay(_) => self.directory.beacon(),
        }
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
        let peer = self.timers.first().map(|(at, id)| (*at, Timer::Peer(*id)));
        let directory = self.directory.poll_timeout().map(|at| (at, Timer::Directory));
        let reserve = self.reserve.poll_timeout().map(|at| (at, Timer::Reserve));
        earliest(earliest(peer, directory), reserve)
    }

    // Peers.

    fn add_peer(&mut self, role: Role, key: StaticKey, secret: [u8; 32]) -> PeerId {
        let id = PeerId(self.next_peer);
        self.next_peer += 1;
        let mut peer = Peer::new((id, role), key, secret, self.datagram_len_max, &mut self.rng);
        peer.set_record(self.directory.record());
        if role != Role::Client && self.peers.len() < SHARED_AT_ONCE_MAX {
            peer.shared = StaticShared::new(self.identity.static_pair(), &key.0);
        }
        self.peers.insert(id, Box::new(Entry { peer, indexes: Vec::new(), queued: false, timer: None }));
        self.by_static.insert(key, id);
        id
    }

    fn remove_peer(&mut self, id: PeerId) {
        let Some(entry) = self.peers.remove(&id) else { return };
        self.by_static.remove(&entry.peer.static_key);
        for index in &entry.indexes {
            self.by_index.remove(index);
        }
        if let Some(at) = entry.timer {
            self.timers.remove(&(at, id));
        }
    }

    /// Forgets the tunnel with a peer and says so; a stranger is forgotten altogether.
    fn reset_peer(&mut self, now: Instant, id: PeerId, reason: ResetReason) {
        let Some(entry) = self.peers.get_mut(&id) else { return };
        entry.peer.reset(&mut self.rng);
        if reason == ResetReason::Closed {
            entry.peer.paths.forget_candidates();
        }
        let role = entry.peer.role;
        self.events.push_back(Event::Reset(id, reason));
        match role {
            Role::Client => self.remove_peer(id),
            Role::Rendezvous => self.with_directory(now, Directory::on_lost),
            Role::Trusted => {}
        }
    }

    fn fresh_index(&mut self) -> LocalIndex {
        loop {
            let index = LocalIndex(self.rng.u32());
            if !self.by_index.contains_key(&index) {
                return index;
            }
        }
    }

    /// After anything that may have changed a peer: it is looked after at the next [`Endpoint::poll_transmit`].
    fn touch(&mut self, id: PeerId) {
        if let Some(entry) = self.peers.get_mut(&id)
            && !entry.queued
        {
            entry.queued = true;
            self.ready.push_back(id);
        }
    }

    /// Before a peer sends: begin a due key handshake, keep the indexes. Nobody learns an index before it was sent, so that is
    /// early enough.
    fn tend(&mut self, now: Instant, id: PeerId) {
        let Some(entry) = self.peers.get(&id) else { return };
        if entry.peer.role == Role::Client && entry.peer.session_indexes().next().is_none() {
            return self.remove_peer(id);
        }
        if entry.peer.handshake_is_due(now) && entry.peer.role != Role::Client {
            self.begin_handshake(now, id);
        }
        let Some(entry) = self.peers.get_mut(&id) else { return };
        for news in entry.peer.paths.take_news() {
            self.events.trace.push(Level::Info, || match news {
                PathNews::Chosen { from, to, why } => Trace::PathChosen { peer: id, from, to, why },
                PathNews::Silent(path) => Trace::PathSilent { peer: id, path },
                PathNews::Size(len) => Trace::PathSize { peer: id, len },
            });
        }
        if !entry.peer.session_indexes().eq(entry.indexes.iter().copied()) {
            let current: Vec<LocalIndex> = entry.peer.session_indexes().collect();
            for index in entry.indexes.iter().filter(|i| !current.contains(i)) {
                self.by_index.remove(index);
            }
            self.by_index.extend(current.iter().map(|index| (*index, id)));
            entry.indexes = current;
        }
    }

    fn reschedule(&mut self, now: Instant, id: PeerId) {
        let Some(entry) = self.peers.get_mut(&id) else { return };
        let at = entry.peer.poll_timeout(now);
        if at != entry.timer {
            if let Some(old) = entry.timer {
                self.timers.remove(&(old, id));
            }
            entry.timer = at;
            if let Some(at) = at {
                self.timers.insert((at, id));
            }
        }
    }

    fn begin_handshake(&mut self, now: Instant, id: PeerId) {
        let index = self.fresh_index();
        let stamp = self.fresh_stamp(now);
        let Some(entry) = self.peers.get_mut(&id) else { return };
        entry.peer.away &= entry.peer.handshake.is_some();
        let (key, cookie) = (entry.peer.static_key, entry.peer.cookie.take());
        let shared = entry.peer.shared.take().or_else(|| StaticShared::new(self.identity.static_pair(), &key.0));
        let Some(shared) = shared else { return };
        let own = self.reserve.take(now, &mut self.rng);
        let pending = Pending::start(
            &self.identity,
            (&key, &shared),
            index,
            (&stamp, entry.peer.incarnation),
            cookie.as_ref(),
            own,
        );
        entry.peer.shared = Some(shared);
        let Ok(pending) = pending else { return };
        entry.peer.begin_handshake(now, pending, &mut self.rng);
        self.events.trace.push(Level::Debug, || Trace::Handshake { peer: id, step: HandshakeStep::Started });
        if entry.peer.take_relay_wish(now) {
            self.ask_for_relay(now, id);
        }
    }

    /// Strictly above every stamp sent before, whatever the wall clock does (wire.md, Rules).
    fn fresh_stamp(&mut self, now: Instant) -> Timestamp {
        let mut stamp = tai64n(self.wall_at_zero_us + now.as_micros());
        if stamp <= self.last_stamp {
            stamp = self.last_stamp;
            for byte in stamp.iter_mut().rev() {
                *byte = byte.wrapping_add(1);
                if *byte != 0 {
                    break;
                }
            }
        }
        self.last_stamp = stamp;
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
