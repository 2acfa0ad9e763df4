//! Owns one peer: sessions, link, paths, and the key handshake in progress.
//!
//! A peer has three session slots. `current` seals; `previous` and `next` only open. The responder of a key handshake keeps
//! the new session in `next` until a datagram opened under it proves that the initiator has the keys as well.

mod builder;

pub(crate) use builder::PacketBuilder;

use crate::aead::AeadProvider;
use crate::codec::{Put as _, Reader};
use crate::discard::Discard;
use crate::identity::{IdentityKey, NodeRecord, StaticKey};
use crate::inner::{PeerId, Sink};
use crate::link::frame::{Frame, Frames, emit_close};
use crate::link::{Link, Outgoing, Urgency};
use crate::noise::{StaticShared, TrafficKeys};
use crate::path::{PathAddr, Paths, emit_probe_frames};
use crate::rng::Rng;
use crate::time::{Duration, Instant, earliest};
use crate::tunnel::handshake::{Incarnation, Pending, Timestamp};
use crate::tunnel::session::{Indexes, OpenError, Session, Side};
use crate::tunnel::{GIVE_UP_AFTER, INIT_RESEND, REJECT_AFTER};
use crate::wire::{Counter, DATA_OVERHEAD, DATAGRAM_LEN_BASE, LocalIndex};
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;

/// Most datagrams in one batch. Source: Linux's limit for UDP segmentation offload.
pub(crate) const BATCH_SEGMENTS_MAX: usize = 64;
/// Most bytes in one batch.
pub(crate) const BATCH_LEN_MAX: usize = 65_000;
/// Silence on a path in use after which a keepalive is sent (± 20 %). Source: paths.md.
const KEEPALIVE: Duration = Duration::from_secs(15);
/// Probe timeouts without an answer, and silence, after which the path is suspect. Source: paths.md.
const SUSPECT_PROBES: u32 = 2;
const SUSPECT_SILENCE: Duration = Duration::from_millis(300);
/// The same after which new keys are asked for: the peer may have lost ours. A peer that still speaks under them has not.
const HANDSHAKE_PROBES: u32 = 3;
const HANDSHAKE_SILENCE: Duration = Duration::from_secs(1);
/// After so long a silence one probe is enough: the peer may well have been replaced by another process meanwhile, and an
/// key handshake too many costs little. Source: own choice.
const HANDSHAKE_SILENCE_LONG: Duration = Duration::from_secs(5);
/// All keys are erased after this time without an handshake. Source: wire.md.
const ERASE_AFTER: Duration = Duration::from_secs(3 * REJECT_AFTER.as_secs());
/// How long a key handshake is tried when the rendezvous says that the peer is not connected.
const AWAY_AFTER: Duration = Duration::from_secs(3);
/// Full datagrams in flight from which on their size is worth probing.
const LOADED_DATAGRAMS: u64 = 4;
/// How long a peer whose address is known may take before the rendezvous is asked for a relay: on a local network it has
/// answered by then, and its answer need not wait behind the question. Source: own choice.
const RELAY_PATIENCE: Duration = Duration::from_millis(5);
/// Time without a datagram after which memory is freed that the next one can have again. Source: own choice.
const REST_AFTER: Duration = Duration::from_secs(2);
/// Datagrams of the key handshake that may wait to be sent.
const RAW_MAX: usize = 64;

/// What a peer is to us; decides what it may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// A pinned peer.
    Trusted,
    /// Our rendezvous.
    Rendezvous,
    /// Somebody whose requests we serve (on a rendezvous).
    Client,
}

pub(crate) struct Handshake {
    pub(crate) pending: Pending,
    pub(crate) started: Instant,
    sent_at: Instant,
    /// When it went over the relay too, if later.
    relayed_at: Option<Instant>,
    attempts: usize,
    resend_at: Instant,
    /// Somebody other than the path (a verb, a timer) still wants it.
    give_up_at: Instant,
}

/// What handling an opened datagram told the endpoint.
#[derive(Default)]
pub(crate) struct Effects {
    pub(crate) control: Vec<Vec<u8>>,
    /// The peer is another process than before: whatever was in flight is gone.
    pub(crate) restarted: bool,
    /// It is there for the first time since it or we started: it wants to know where we are.
    pub(crate) met: bool,
    /// A verified record that is new to us, of somebody who is not pinned.
    pub(crate) introduced: Option<NodeRecord>,
    pub(crate) path_changed: bool,
    pub(crate) closed: Option<u8>,
    pub(crate) established: bool,
}

pub(crate) struct Peer {
    pub(crate) id: PeerId,
    pub(crate) role: Role,
    pub(crate) static_key: StaticKey,
    pub(crate) identity: Option<IdentityKey>,
    pub(crate) secret: [u8; 32],
    /// What its static key and ours make together, once that has been computed.
    pub(crate) shared: Option<StaticShared>,
    pub(crate) link: Link,
    pub(crate) paths: Paths,
    pub(crate) handshake: Option<Box<Handshake>>,
    pub(crate) last_stamp: Option<Timestamp>,
    pub(crate) cookie: Option<[u8; 16]>,
    /// The application has streams or waiting data here.
    pub(crate) in_use: bool,
    /// The rendezvous said that the peer is not connected.
    pub(crate) away: bool,
    pub(crate) last_received: Option<Instant>,
    pub(crate) bytes_sent: u64,
    pub(crate) bytes_received: u64,
    /// When the rendezvous is to be asked for a relay to it.
    ask_relay_at: Option<Instant>,
    raw: VecDeque<(PathAddr, Vec<u8>)>,
    previous: Option<Box<Session>>,
    current: Option<Box<Session>>,
    next: Option<Box<Session>>,
    /// Our own signed record, as all peers get it.
    record: Arc<[u8]>,
    pub(crate) incarnation: Incarnation,
    remote_incarnation: Option<Incarnation>,
    /// The process at the other end has said who it is.
    met: bool,
    remote_record: Vec<u8>,
    close: Option<u8>,
    keepalive_at: Option<Instant>,
    /// When to look whether there is anything to free; `None`: nothing has moved since.
    rest_at: Option<Instant>,
    last_sent: Instant,
    suspected: bool,
    /// A datagram that was too large for the batch it was built for.
    overflow: Option<Box<(PathAddr, Vec<u8>)>>,
}

impl Peer {
    /// A peer without a session, to whom no datagram of more than `len_max` bytes will be sent.
    pub(crate) fn new(
        (id, role): (PeerId, Role),
        static_key: StaticKey,
        secret: [u8; 32],
        len_max: usize,
        rng: &mut Rng,
    ) -> Self {
        Self {
            id,
            role,
            static_key,
            identity: None,
            secret,
            shared: None,
            link: Link::new(DATAGRAM_LEN_BASE),
            paths: Paths::new(len_max),
            handshake: None,
            last_stamp: None,
            cookie: None,
            in_use: false,
            away: false,
            last_received: None,
            bytes_sent: 0,
            bytes_received: 0,
            ask_relay_at: None,
            raw: VecDeque::new(),
            previous: None,
            current: None,
            next: None,
            record: Arc::default(),
            incarnation: Incarnation(rng.bytes()),
            remote_incarnation: None,
            met: false,
            remote_record: Vec::new(),
            close: None,
            keepalive_at: None,
            rest_at: None,
            last_sent: Instant::ZERO,
            suspected: false,
            overflow: None,
        }
    }

    // Getters.

    /// True when data can be sealed now.
    pub(crate) fn is_up(&self, now: Instant) -> bool {
        self.current.as_ref().is_some_and(|s| s.usable(now))
    }

    pub(crate) fn session_age(&self, now: Instant) -> Option<Duration> {
        self.current.as_ref().map(|s| now.since(s.created))
    }

    pub(crate) fn session_indexes(&self) -> impl Iterator<Item = LocalIndex> + '_ {
        let sessions = [&self.previous, &self.current, &self.next];
        let pending = self.handshake.as_ref().map(|e| e.pending.local_index);
        sessions.into_iter().flatten().map(|s| s.indexes.local).chain(pending)
    }

    fn session_mut(&mut self, local: LocalIndex) -> Option<&mut Session> {
        let slots = [&mut self.previous, &mut self.current, &mut self.next];
        slots.into_iter().flatten().map(|session| &mut **session).find(|session| session.indexes.local == local)
    }

    /// True when something waits for a session that does not exist.
    pub(crate) fn wants_session(&self, now: Instant) -> bool {
        !self.is_up(now) && self.handshake.is_none() && self.link.is_busy()
    }

    /// Enough is under way that larger datagrams would make a difference.
    fn is_loaded(&self) -> bool {
        self.link.in_flight() >= LOADED_DATAGRAMS * self.paths.datagram_len() as u64
    }

    fn is_unanswered(&self, now: Instant, probes: u32, silence: Duration) -> bool {
        let silent = self.last_received.is_none_or(|at| now.since(at) >= silence);
        self.link.unanswered_probes() >= probes && silent
    }

    // Verbs.

    /// What we say of ourselves from the next session on.
    pub(crate) fn set_record(&mut self, record: Arc<[u8]>) {
        self.record = record;
    }

    /// Our HELLO: our signed record.
    fn hello(&self) -> Vec<u8> {
        let mut hello = Vec::with_capacity(2 + self.record.len());
        hello.put_bytes(&self.record);
        hello
    }

    pub(crate) fn send_raw(&mut self, to: PathAddr, datagram: Vec<u8>) {
        if self.raw.len() < RAW_MAX {
            self.raw.push_back((to, datagram));
        }
    }

    /// The next datagram of `poll_transmit`, before all others, ends the tunnel for the peer.
    pub(crate) const fn close(&mut self, reason: u8) {
        self.close = Some(reason);
    }

    pub(crate) fn begin_handshake(&mut self, now: Instant, pending: Pending, rng: &mut Rng) {
        let (started, attempts, give_up_at) = match &self.handshake {
            Some(e) => (e.started, e.attempts, e.give_up_at),
            None => (now, 0, now + GIVE_UP_AFTER),
        };
        let pause = INIT_RESEND[attempts.min(INIT_RESEND.len() - 1)];
        let resend_at = now + pause + Duration::from_millis(rng.below(333));
        let knows_address = self.paths.list().iter().any(|path| path.addr.is_direct());
        let patient = attempts == 0 && knows_address;
        let attempts = attempts + 1;
        let handshake = Handshake { pending, started, sent_at: now, relayed_at: None, attempts, resend_at, give_up_at };
        self.handshake = Some(Box::new(handshake));
        self.ask_relay_at = Some(now + if patient { RELAY_PATIENCE } else { Duration::ZERO });
        // All at once: the first valid answer wins.
        let targets: Vec<_> = self.paths.list().iter().map(|path| path.addr).collect();
        targets.into_iter().filter(|to| to.is_direct() || !patient).for_each(|to| self.send_init(to));
    }

    fn send_init(&mut self, to: PathAddr) {
        if let Some(datagram) = self.handshake.as_ref().map(|e| e.pending.datagram.clone()) {
            self.send_raw(to, datagram);
        }
    }

    /// Sends the INIT in progress, if there is one, over the relay as well.
    pub(crate) fn relay_init(&mut self, now: Instant) {
        if let (Some(handshake), Some(relay)) = (&mut self.handshake, self.paths.relay()) {
            handshake.relayed_at = Some(now); // too short a time at worst, which costs a probe too many
            self.send_init(relay);
        }
    }

    /// We are the initiator and the key handshake is done: seal under the new session at once. True when the peer is another
    /// incarnation than before.
    pub(crate) fn install_current(&mut self, now: Instant, session: Session, from: PathAddr) -> bool {
        self.paths.select_working(from, self.is_up(now) && self.link.unanswered_probes() == 0);
        let restarted = self.make_current(Box::new(session));
        if let Some(handshake) = self.handshake.take() {
            let relayed_at = handshake.relayed_at.filter(|_| !from.is_direct());
            self.link.on_handshake(now.since(relayed_at.unwrap_or(handshake.sent_at)));
        }
        restarted
    }

    /// We are the responder: the session waits in `next` until the initiator uses it.
    pub(crate) fn install_next(
        &mut self,
        provider: &'static dyn AeadProvider,
        keys: &TrafficKeys,
        indexes: Indexes,
        incarnation: Incarnation,
        now: Instant,
    ) {
        self.next = Some(Box::new(Session::new(provider, keys, indexes, Side::Responder, now).of(incarnation)));
    }

    /// True when the peer is another incarnation than before: the old link's numbers mean nothing to it, and nothing that
    /// was meant for the old one is given to it.
    fn make_current(&mut self, session: Box<Session>) -> bool {
        let restarted = self.remote_incarnation.is_some_and(|before| before != session.incarnation);
        self.next.take_if(|next| next.incarnation != session.incarnation);
        if restarted {
            (self.current, self.met) = (None, false);
            self.link = Link::new(DATAGRAM_LEN_BASE);
            self.paths.forget_candidates();
        }
        self.remote_incarnation = Some(session.incarnation);
        self.link.start_epoch(session.indexes.remote, session.next_counter(), self.hello());
        self.previous = self.current.replace(session);
        self.suspected = false;
        restarted
    }

    /// Forgets the tunnel but not the peer: whatever was in flight is lost, paths stay as hints.
    pub(crate) fn reset(&mut self, rng: &mut Rng) {
        // The peer may not have noticed; this tells it.
        self.incarnation = Incarnation(rng.bytes());
        self.link = Link::new(DATAGRAM_LEN_BASE);
        (self.previous, self.current, self.next) = (None, None, None);
        (self.handshake, self.overflow, self.remote_incarnation, self.met) = (None, None, None, false);
        self.suspected = false;
    }

    // Input.

    /// Opens a DATA datagram and handles its frames. PN1: nothing before the tag has verified. What the endpoint must know
    /// is noted in `effects`, of a datagram with a frame that is refused, too.
    #[expect(clippy::too_many_arguments, reason = "one datagram's whole context, used in one place")]
    pub(crate) fn handle_data(
        &mut self,
        now: Instant,
        from: PathAddr,
        (receiver, counter): (LocalIndex, Counter),
        datagram: &mut [u8],
        rng: &mut Rng,
        sink: &mut dyn Sink,
        effects: &mut Effects,
    ) -> Result<(), Discard> {
        let len = datagram.len();
        let session = self.session_mut(receiver).ok_or(Discard::UnknownIndex)?;
        if now.since(session.created) >= REJECT_AFTER {
            return Err(Discard::ExpiredSession);
        }
        let indexes = session.indexes;
        let (plaintext, newest) = session.open(counter, datagram).map_err(|e| match e {
            OpenError::Replay => Discard::Replay,
            OpenError::Tag | OpenError::Counter => Discard::Tag,
        })?;
        self.bytes_received += len as u64;
        self.last_received = Some(now);
        self.rest_at.get_or_insert(now + REST_AFTER);
        self.away = false;
        self.promote(now, (receiver, counter), from, effects);
        if newest {
            self.paths.on_newest(now, from, rng);
        }
        self.handle_frames(now, from, indexes, plaintext, counter, rng, sink, effects)
    }

    /// The initiator has used the session in `next`: it becomes the one we seal under.
    fn promote(
        &mut self,
        now: Instant,
        (receiver, counter): (LocalIndex, Counter),
        from: PathAddr,
        effects: &mut Effects,
    ) {
        if self.next.as_ref().is_none_or(|s| s.indexes.local != receiver) {
            return;
        }
        if let Some(session) = self.next.take() {
            let (was_up, created) = (self.current.is_some(), session.created);
            self.paths.select_working(from, self.is_up(now) && self.link.unanswered_probes() == 0);
            effects.restarted = self.make_current(session);
            effects.established = !was_up || effects.restarted;
            if counter == Counter(0) {
                self.link.on_handshake(now.since(created)); // what comes later may have been lost before
            }
            // Our own attempt has become pointless, unless it was for a path that we wanted.
            if self.is_up(now) {
                self.handshake = None;
            }
        }
    }

    #[expect(clippy::too_many_arguments, reason = "one datagram's whole context, used in one place")]
    fn handle_frames(
        &mut self,
        now: Instant,
        from: PathAddr,
        Indexes { local, remote }: Indexes,
        plaintext: &[u8],
        counter: Counter,
        rng: &mut Rng,
        sink: &mut dyn Sink,
        effects: &mut Effects,
    ) -> Result<(), Discard> {
        let mut urgency = Urgency::None;
        let mut introduced = self.session_mut(local).is_some_and(|session| session.introduced);
        for frame in Frames::new(plaintext) {
            let frame = frame.map_err(|_| Discard::Malformed)?;
            match frame {
                Frame::Padding => continue,
                Frame::Ack(ack) => {
                    self.link.on_ack(now, remote, &ack);
                    self.suspected &= self.link.unanswered_probes() > 0;
                    continue;
                }
                Frame::Probe(id) => {
                    self.paths.on_probe(now, from, id, rng);
                    continue;
                }
                Frame::ProbeOk(id) => {
                    effects.path_changed |= self.paths.on_probe_ok(now, id, from);
                    continue;
                }
                Frame::Hello(hello) => {
                    self.handle_hello(local, hello, effects)?;
                    introduced = true;
                    urgency = Urgency::Normal;
                    continue;
                }
                _ if !introduced => return Err(Discard::BeforeHello),
                Frame::Packet(bytes) => {
                    urgency = Urgency::Normal;
                    sink.packet(self.id, bytes);
                }
                Frame::PureAck(bytes) => {
                    urgency = urgency.max(Urgency::Relaxed);
                    sink.packet(self.id, bytes);
                }
                Frame::Loose(bytes) => {
                    urgency = Urgency::Normal;
                    sink.loose(self.id, bytes);
                }
                Frame::Control { offset, bytes } => {
                    urgency = Urgency::Normal;
                    let messages = self.link.on_control(offset, bytes).ok_or(Discard::Malformed)?;
                    effects.control.extend(messages);
                }
                Frame::Ping => urgency = Urgency::Normal,
                Frame::Close(reason) => effects.closed = Some(reason),
            }
        }
        self.link.on_received(now, local, counter, urgency);
        Ok(())
    }

    /// HELLO: the peer's signed record, which binds its identity to the key of the handshake.
    fn handle_hello(&mut self, local: LocalIndex, hello: &[u8], effects: &mut Effects) -> Result<(), Discard> {
        let bytes = Reader::new(hello).bytes(NodeRecord::LEN_MAX).map_err(|_| Discard::Malformed)?;
        // A pin binds both keys already, and the key handshake has proven one: no signature says more. Records that were
        // verified before need no second look either, but another process is introduced anew.
        let is_pinned = self.role == Role::Trusted;
        let is_known = is_pinned || self.remote_record == bytes;
        if !(is_known && self.met) {
            let parse = if is_known { NodeRecord::parse_unverified } else { NodeRecord::parse };
            let record = parse(bytes).map_err(|_| Discard::Malformed)?;
            if record.static_key != self.static_key || self.identity.is_some_and(|known| known != record.identity) {
                return Err(Discard::WrongIdentity);
            }
            self.identity = Some(record.identity);
            if !is_pinned {
                self.remote_record = bytes.into();
                effects.introduced = Some(record);
            }
            (self.met, effects.met) = (true, true);
        }
        if let Some(session) = self.session_mut(local) {
            session.introduced = true;
        }
        Ok(())
    }

    /// Runs what is due; true when the key handshake was given up.
    pub(crate) fn handle_timeout(&mut self, now: Instant, rng: &mut Rng) -> bool {
        self.link.handle_timeout(now);
        let loaded = self.is_loaded();
        self.paths.handle_timeout(now, self.in_use, loaded, rng);
        if self.is_unanswered(now, SUSPECT_PROBES, SUSPECT_SILENCE) && !self.suspected {
            self.suspected = true;
            self.paths.on_suspect(now);
        }
        self.previous.take_if(|s| now.since(s.created) >= REJECT_AFTER);
        self.next.take_if(|s| now.since(s.created) >= REJECT_AFTER);
        self.current.take_if(|s| now.since(s.created) >= ERASE_AFTER);
        self.keep_alive(now, rng);
        if self.rest_at.take_if(|at| *at <= now).is_some() {
            self.rest(now);
        }
        let given_up = self
            .handshake
            .as_ref()
            .is_some_and(|e| now >= e.give_up_at || (self.away && now >= e.started + AWAY_AFTER));
        if given_up {
            self.handshake = None;
        }
        given_up
    }

    /// Frees what only traffic needs, unless there has been some.
    fn rest(&mut self, now: Instant) {
        let last = self.last_received.map_or(self.last_sent, |at| at.max(self.last_sent));
        if now < last + REST_AFTER || self.link.is_busy() {
            self.rest_at = Some(now + REST_AFTER);
            return;
        }
        [&mut self.previous, &mut self.current, &mut self.next].into_iter().flatten().for_each(|s| s.rest());
        self.link.rest();
        self.paths.rest();
        self.raw.shrink_to_fit();
    }

    fn keep_alive(&mut self, now: Instant, rng: &mut Rng) {
        if !self.in_use || self.current.is_none() {
            self.keepalive_at = None;
            return;
        }
        let due = *self.keepalive_at.get_or_insert_with(|| now + rng.jitter(KEEPALIVE, 20));
        if due <= now {
            if now.since(self.last_sent) >= KEEPALIVE / 2 {
                self.link.ping();
            }
            self.keepalive_at = Some(now + rng.jitter(KEEPALIVE, 20));
        }
    }

    /// True when a key handshake should be begun (again) now.
    pub(crate) fn handshake_is_due(&self, now: Instant) -> bool {
        match &self.handshake {
            Some(e) => now >= e.resend_at,
            None => {
                let rekey =
                    self.current.as_ref().is_some_and(|s| s.wants_rekey(now)) && (self.in_use || self.link.is_busy());
                let unanswered = self.is_unanswered(now, HANDSHAKE_PROBES, HANDSHAKE_SILENCE)
                    || self.is_unanswered(now, 1, HANDSHAKE_SILENCE_LONG);
                let unanswered = self.current.is_some() && unanswered;
                rekey || unanswered || self.wants_session(now)
            }
        }
    }

    /// True, once, when the rendezvous is to be asked for a relay.
    pub(crate) fn take_relay_wish(&mut self, now: Instant) -> bool {
        self.ask_relay_at.take_if(|at| *at <= now).is_some()
    }

    // Output.

    /// Appends datagrams for one destination to the batch; gives the destination and the size of each but the last.
    pub(crate) fn poll_transmit(&mut self, now: Instant, batch: &mut PacketBuilder<'_>) -> Option<(PathAddr, usize)> {
        if let (Some(reason), Some(to), true) = (self.close, self.paths.selected(), self.is_up(now)) {
            self.close = None;
            self.seal_untracked(now, to, batch, |out| emit_close(out, reason));
            return Some((to, batch.len()));
        }
        if let Some((to, datagram)) = self.raw.pop_front() {
            batch.push(to, &datagram);
            return Some((to, batch.len()));
        }
        if let Some((to, datagram)) = self.overflow.take().map(|overflow| *overflow) {
            batch.push_finished(&datagram);
            if self.paths.selected() != Some(to) {
                return Some((to, batch.len()));
            }
            return Some(self.fill_batch(now, to, batch));
        }
        if !self.is_up(now) {
            return None;
        }
        if let Some(probe) = self.paths.poll_probe() {
            self.seal_untracked(now, probe.to, batch, |out| emit_probe_frames(&probe, DATA_OVERHEAD, out));
            return Some((probe.to, batch.len()));
        }
        let to = self.paths.selected()?;
        self.seal_frames(now, to, batch).then(|| self.fill_batch(now, to, batch))
    }

    /// Goes on after a first datagram: equal sizes, the last may be smaller, a larger one waits for the next batch.
    fn fill_batch(&mut self, now: Instant, to: PathAddr, batch: &mut PacketBuilder<'_>) -> (PathAddr, usize) {
        let size = batch.len();
        for _ in 1..BATCH_SEGMENTS_MAX {
            let start = batch.len();
            if start + size > BATCH_LEN_MAX || !self.seal_frames(now, to, batch) {
                break;
            }
            match (batch.len() - start).cmp(&size) {
                core::cmp::Ordering::Equal => {}
                core::cmp::Ordering::Less => break,
                core::cmp::Ordering::Greater => {
                    self.overflow = Some(Box::new((to, batch.split_off(start))));
                    break;
                }
            }
        }
        (to, size)
    }

    /// Seals one datagram of the link's frames; false when there is nothing to send.
    fn seal_frames(&mut self, now: Instant, to: PathAddr, batch: &mut PacketBuilder<'_>) -> bool {
        let room = self.paths.datagram_len() - DATA_OVERHEAD;
        let Some(session) = self.current.as_mut().filter(|s| s.usable(now)) else { return false };
        let (local, link) = (session.indexes.local, &mut self.link);
        let sealed = batch.seal(to, session, |out| link.poll_frames(now, local, room, out));
        if let Some((size, outgoing)) = sealed {
            self.on_sealed(now, size, outgoing);
            return true;
        }
        false
    }

    /// Seals one datagram of frames that need no acknowledgement.
    fn seal_untracked(
        &mut self,
        now: Instant,
        to: PathAddr,
        batch: &mut PacketBuilder<'_>,
        write: impl FnOnce(&mut Vec<u8>),
    ) {
        let Some(session) = &mut self.current else { return };
        let sealed = batch.seal(to, session, |out| {
            write(out);
            Some(Outgoing::untracked())
        });
        if let Some((size, outgoing)) = sealed {
            self.on_sealed(now, size, outgoing);
        }
    }

    fn on_sealed(&mut self, now: Instant, size: usize, outgoing: Outgoing) {
        self.link.on_sent(now, size, outgoing);
        self.bytes_sent += size as u64;
        self.last_sent = now;
        self.rest_at.get_or_insert(now + REST_AFTER);
    }

    pub(crate) fn poll_timeout(&self, now: Instant) -> Option<Instant> {
        let handshake = self.handshake.as_ref().map(|e| {
            let away = if self.away { (e.started + AWAY_AFTER).min(e.give_up_at) } else { e.give_up_at };
            e.resend_at.min(away)
        });
        let old = [&self.previous, &self.next].into_iter().flatten().map(|s| s.created + REJECT_AFTER).min();
        let current = self.current.as_ref().map(|s| s.created + ERASE_AFTER);
        let rekey =
            self.current.as_ref().filter(|s| self.in_use && s.side == Side::Initiator && self.handshake.is_none());
        let rekey = rekey.map(|s| s.created + crate::tunnel::REKEY_AFTER);
        // Without keys the link's timers have nothing to act on; the key handshake's count instead.
        let link = if self.is_up(now) { self.link.poll_timeout() } else { None };
        let loaded = self.is_up(now) && self.is_loaded();
        let paths = self.paths.poll_timeout(loaded);
        let all = [handshake, old, current, rekey, link, paths, self.keepalive_at, self.ask_relay_at, self.rest_at];
        all.into_iter().fold(None, earliest)
    }
}
