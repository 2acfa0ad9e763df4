//! Owns one peer: its tunnel, link and paths, and what binds them together.
//!
//! [`sessions`] holds the states of the tunnel, [`handshake`] a key handshake of this side, [`early`] what goes with a RESP,
//! [`receive`] the way of a datagram in, [`send`] and [`builder`] the way out. This file holds the peer itself, its verbs and its timers.

mod builder;
mod early;
mod handshake;
mod kem;
mod kem_run;
mod receive;
mod send;
mod sessions;

pub(crate) use builder::PacketBuilder;
pub(crate) use receive::{Arrival, Effects};

use crate::codec::Put as _;
use crate::identity::{IdentityKey, StaticKey};
use crate::inner::{PeerId, ResetReason};
use crate::link::Link;
use crate::noise::StaticShared;
use crate::path::{Hindrance, Outlook, PathAddr, Paths, Prober};
use crate::rng::Rng;
use crate::time::{Duration, Instant, earliest};
use crate::timer::{PeerTimer, Soonest};
use crate::tunnel::handshake::{Age, Cookie, Incarnation, Introduction, Pending, Timestamp};
use crate::tunnel::session::Session;
use crate::tunnel::stance::Stance;
use crate::wire::{DATAGRAM_LEN_BASE, DATAGRAM_LEN_MIN, LocalIndex};
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::SocketAddr;
use handshake::{Handshake, VANISHED_AFTER};
use sessions::Sessions;
use zeroize::Zeroizing;

/// Silence on a path in use after which a keepalive is sent (± 20 %). Source: `docs/paths.md`, "Rules".
const KEEPALIVE: Duration = Duration::from_secs(15);
/// The same towards the rendezvous (± 10 %): NATs that forget after 30 s are common. Source: `docs/paths.md`, "Rules".
const KEEPALIVE_RENDEZVOUS: Duration = Duration::from_secs(25);
/// Silence, and what is added to three round trips, of which the longer one makes a path suspect on which an answer is overdue.
/// Source: `docs/paths.md`, "Rules".
const SUSPECT_SILENCE: Duration = Duration::from_millis(300);
const SUSPECT_MARGIN: Duration = Duration::from_millis(50);
/// Probe timeouts without an answer, and silence, after which new keys are asked for: the peer may have lost ours. A peer that still speaks under them has
/// not.
const HANDSHAKE_PROBES: u32 = 3;
const HANDSHAKE_SILENCE: Duration = Duration::from_secs(1);
/// After so long a silence one probe is enough: the peer may well have been replaced by another process meanwhile, and
/// a key handshake too many costs little. Source: own choice.
const HANDSHAKE_SILENCE_LONG: Duration = Duration::from_secs(5);
/// Full datagrams in flight from which on their size is worth probing.
const LOADED_DATAGRAMS: u64 = 4;
/// How long a peer with a known address may take before the rendezvous is asked for a relay: on a local network it has
/// answered by then, and its answer need not wait behind the question. Source: own choice.
const RELAY_PATIENCE: Duration = Duration::from_millis(5);
/// Time without a datagram after which memory is freed that the next one can have again. Source: own choice.
const REST_AFTER: Duration = Duration::from_secs(2);
/// Silence after which the rendezvous may have closed the channel of a relay. Source: own choice, half of what it waits.
const CHANNEL_LASTS: Duration = Duration::from_secs(300);
/// What a CLOSE counts for on a path that has not answered. Unit: bytes.
const CLOSE_LEN: usize = 64;
/// Datagrams of the key handshake that may wait to be sent.
const RAW_MAX: usize = 64;

/// What a peer is to this node; decides what the peer may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// A pinned peer.
    Trusted,
    /// Our rendezvous.
    Rendezvous,
    /// A stranger with calls to be served (on a rendezvous).
    Client,
}

/// What is known of the process at the other end.
#[derive(Clone, Copy)]
enum Counterpart {
    /// Nothing: no tunnel has stood since either side forgot the other.
    Unknown,
    /// It has finished a key handshake.
    Seen(Incarnation),
    /// It has also shown its record.
    Met(Incarnation),
}

impl Counterpart {
    /// True when `incarnation` is another process than the one before.
    fn is_another(self, incarnation: Incarnation) -> bool {
        matches!(self, Self::Seen(before) | Self::Met(before) if before != incarnation)
    }

    /// True when `incarnation` and the one before are of one process.
    fn is_same_process(self, incarnation: Incarnation) -> bool {
        matches!(self, Self::Seen(before) | Self::Met(before) if before.is_same_process(incarnation))
    }

    /// A key handshake finished with `incarnation`. True when that is another process than before.
    fn move_to_seen(&mut self, incarnation: Incarnation) -> bool {
        let is_another = self.is_another(incarnation);
        if is_another || matches!(self, Self::Unknown) {
            *self = Self::Seen(incarnation);
        }
        is_another
    }

    fn move_to_met(&mut self) {
        match *self {
            Self::Seen(incarnation) | Self::Met(incarnation) => *self = Self::Met(incarnation),
            Self::Unknown => debug_assert!(false, "a HELLO comes under keys, and keys come from an incarnation"),
        }
    }
}

/// Whether the peer answers what it is sent.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Liveness {
    Answers,
    /// Its path became suspect, and no acknowledgement has come since.
    Silent,
}

/// One peer. See the module's documentation.
pub(crate) struct Peer {
    pub(crate) id: PeerId,
    pub(crate) role: Role,
    pub(crate) static_key: StaticKey,
    pub(crate) identity: Option<IdentityKey>,
    /// The pair secret, which is mixed into every key handshake.
    pub(crate) secret: Zeroizing<[u8; 32]>,
    /// What the peer's static key and ours make together, once that has been computed.
    pub(crate) shared: Option<StaticShared>,
    pub(crate) link: Link,
    pub(crate) paths: Paths,
    /// The newest timestamp in an INIT of the peer.
    pub(crate) last_stamp: Option<Timestamp>,
    /// The application has streams or waiting data here.
    pub(crate) in_use: bool,
    /// The last key handshake has shown that the peer's pair secret is another one.
    pub(crate) secret_differs: bool,
    pub(crate) last_received: Option<Instant>,
    /// Datagrams in both directions, relay headers included in those sent. Unit: bytes.
    pub(crate) bytes_sent: u64,
    pub(crate) bytes_received: u64,
    /// Names this side's state of the link.
    incarnation: Incarnation,
    /// The peer's link began anew last time without another process: it had given this node up.
    is_same_process: bool,
    /// When that state began.
    began: Instant,
    /// The latest moment at which the peer's state of the link can have begun.
    pub(crate) counterpart_began: Instant,
    sessions: Sessions,
    counterpart: Counterpart,
    liveness: Liveness,
    /// A KEM run under way.
    kem: Option<Box<kem_run::Run>>,
    /// The current session was initiated here and has no KEM secret: a key is to be offered then, unless one comes before.
    kem_due_at: Option<Instant>,
    /// Our own signed record, as all peers get it.
    record: Arc<[u8]>,
    /// The verified record of a peer that is not pinned.
    remote_record: Vec<u8>,
    /// Datagrams of key handshakes that wait to be sent.
    raw: VecDeque<(PathAddr, Vec<u8>)>,
    /// The reason in the CLOSE that is to be sent.
    close: Option<u8>,
    /// A datagram that was too large for the batch it was built for.
    overflow: Option<Box<(PathAddr, Vec<u8>)>>,
    last_sent: Instant,
    ask_relay_at: Option<Instant>,
    keepalive_at: Option<Instant>,
    /// `None` when no datagram has moved since memory was freed.
    rest_at: Option<Instant>,
}

impl Peer {
    /// A peer without keys, to which no datagram of more than `len_max` bytes will be sent. This process has had no tunnel with
    /// the peer since `began`.
    pub(crate) fn new(
        id: PeerId,
        role: Role,
        static_key: StaticKey,
        secret: &[u8; 32],
        (began, len_max): (Instant, usize),
        rng: &mut Rng,
    ) -> Self {
        Self {
            id,
            role,
            static_key,
            identity: None,
            secret: Zeroizing::new(*secret),
            shared: None,
            link: Link::new(DATAGRAM_LEN_BASE),
            paths: Paths::new(len_max),
            last_stamp: None,
            in_use: false,
            secret_differs: false,
            last_received: None,
            bytes_sent: 0,
            bytes_received: 0,
            incarnation: Incarnation::new(rng),
            is_same_process: false,
            began,
            counterpart_began: Instant::ZERO,
            sessions: Sessions::new(),
            counterpart: Counterpart::Unknown,
            liveness: Liveness::Answers,
            kem: None,
            kem_due_at: None,
            record: Arc::default(),
            remote_record: Vec::new(),
            raw: VecDeque::new(),
            close: None,
            overflow: None,
            last_sent: Instant::ZERO,
            ask_relay_at: None,
            keepalive_at: None,
            rest_at: None,
        }
    }

    // Getters.

    /// True when data can be sealed now.
    pub(crate) fn is_up(&self, now: Instant) -> bool {
        self.sessions.current().is_some_and(|session| session.usable(now))
    }

    pub(crate) fn session_age(&self, now: Instant) -> Option<Duration> {
        self.sessions.current().map(|session| now.since(session.created))
    }

    /// Our indexes under which the peer may answer.
    pub(crate) fn session_indexes(&self) -> impl Iterator<Item = LocalIndex> + '_ {
        self.sessions.indexes().chain(self.offered_index())
    }

    /// Another number whenever [`Peer::session_indexes`] may give something else.
    pub(crate) const fn indexes_version(&self) -> u32 {
        self.sessions.version()
    }

    /// The key handshake of this side that waits for its answer.
    pub(crate) fn handshake(&self) -> Option<&Pending> {
        self.sessions.handshake().map(Handshake::pending)
    }

    /// The INIT of this side that a RESP to our index `local` answers.
    pub(crate) fn asked_at(&self, local: LocalIndex) -> Option<&Pending> {
        self.sessions.handshake()?.pending_at(local)
    }

    /// The cookie for the next INIT, if the peer has asked for one.
    pub(crate) fn cookie(&self) -> Option<Cookie> {
        self.sessions.handshake().and_then(Handshake::cookie)
    }

    /// True while a key handshake is under way that nothing waits for.
    pub(crate) fn is_greeting(&self) -> bool {
        self.sessions.handshake().is_some_and(Handshake::is_greeting)
    }

    /// True when a key handshake should be begun, or its INIT repeated, now.
    pub(crate) fn handshake_is_due(&self, now: Instant) -> bool {
        if let Some(handshake) = self.sessions.handshake() {
            return now >= handshake.resend_at() && !handshake.is_greeting();
        }
        if self.sessions.expects_use() {
            return false;
        }
        let is_busy = self.link.is_busy();
        let Some(current) = self.sessions.current() else { return is_busy };
        let rekey = current.wants_rekey(now) && (self.in_use || is_busy);
        let unanswered = self.is_unanswered(now, HANDSHAKE_PROBES, HANDSHAKE_SILENCE)
            || self.is_unanswered(now, 1, HANDSHAKE_SILENCE_LONG);
        let is_stuck = earliest(self.kem_overdue_at(), self.mute_at()).is_some_and(|at| at <= now);
        rekey || unanswered || is_stuck || (is_busy && !current.usable(now))
    }

    /// Most that the control stream and the key handshakes of a peer hold. Unit: bytes.
    pub(crate) const HELD_LEN_MAX: usize = crate::link::CONTROL_LEN_MAX + Self::RAW_LEN_MAX;
    /// Most that the datagrams of key handshakes hold. Unit: bytes.
    pub(crate) const RAW_LEN_MAX: usize = RAW_MAX * 256;

    /// Memory that the peer makes this node hold. Unit: bytes.
    pub(crate) fn held_len(&self) -> usize {
        self.link.control_len() + self.raw.iter().map(|(_, datagram)| datagram.capacity()).sum::<usize>()
    }

    /// When new keys are asked for because nothing may leave on the path in use, which does not answer: a copy of the RESP may
    /// have come from there.
    fn mute_at(&self) -> Option<Instant> {
        let is_mute = !self.paths.may_send() && self.link.is_busy() && self.sessions.handshake().is_none();
        let created = self.sessions.current().filter(|_| is_mute)?.created;
        Some(self.last_received.map_or(created, |at| at.max(created)) + HANDSHAKE_SILENCE_LONG)
    }

    /// True when so much is under way that larger datagrams would make a difference.
    fn is_loaded(&self) -> bool {
        self.link.in_flight() >= LOADED_DATAGRAMS * self.paths.datagram_len() as u64
    }

    /// When the path in use is suspect, unless an answer comes that is overdue, or at least something on this path.
    fn suspect_at(&self) -> Option<Instant> {
        let since = self.link.awaited_since().filter(|_| self.liveness == Liveness::Answers)?.max(self.paths.heard());
        Some(since + (self.link.srtt().unwrap_or_default() * 3 + SUSPECT_MARGIN).max(SUSPECT_SILENCE))
    }

    /// Leaves a path that a NAT may have forgotten, since something is to be sent. True when the peer is to be told where this node
    /// is: both sides look for a direct path then.
    pub(crate) fn leave_stale_path(&mut self, now: Instant) -> bool {
        let is_stale = self.paths.is_stale(now) && self.role == Role::Trusted && self.is_up(now) && self.link.is_busy();
        if is_stale {
            self.paths.on_stale(now);
            self.confirm_relay(now);
        }
        is_stale
    }

    /// Asks for the channel to which the peer has fallen back: it may be one that the rendezvous had before a restart.
    fn confirm_relay(&mut self, now: Instant) {
        if self.paths.selected().is_some_and(|path| !path.is_direct()) {
            self.ask_relay_at = Some(now);
        }
    }

    fn is_unanswered(&self, now: Instant, probes: u32, silence: Duration) -> bool {
        self.link.unanswered_probes() >= probes && self.last_received.is_none_or(|at| now.since(at) >= silence)
    }

    /// True when an answer of the peer is overdue, in a tunnel that stands or in a key handshake.
    pub(crate) fn is_overdue(&self, now: Instant) -> bool {
        let waits_long = |handshake: &Handshake| now.since(handshake.started()) >= HANDSHAKE_SILENCE;
        self.liveness == Liveness::Silent || self.sessions.handshake().is_some_and(waits_long)
    }

    /// Why the peer is not reached directly, and when that is tried next.
    pub(crate) fn outlook(&self, now: Instant) -> Outlook {
        let of_paths = self.paths.outlook(now);
        let hindrance = match self.sessions.handshake() {
            Some(handshake) if handshake.away_since().is_some() => Some(Hindrance::Away),
            Some(_) if !self.is_up(now) => Some(Hindrance::NoTunnel),
            None if !self.is_up(now) => Some(Hindrance::NotInUse),
            _ => of_paths.hindrance,
        };
        Outlook { hindrance, ..of_paths }
    }

    // Verbs.

    /// Replaces the record that the peer is shown, from the next session on.
    pub(crate) fn set_record(&mut self, record: Arc<[u8]>) {
        self.record = record;
    }

    /// Our HELLO: our signed record.
    fn hello(&self) -> Vec<u8> {
        let mut hello = Vec::with_capacity(2 + self.record.len());
        hello.put_bytes(&self.record);
        hello
    }

    /// Sends a finished datagram, before all frames.
    pub(crate) fn send_raw(&mut self, to: PathAddr, datagram: Vec<u8>) {
        if self.raw.len() < RAW_MAX {
            self.raw.push_back((to, datagram));
        }
    }

    /// Ends the tunnel for the peer with the next datagram, which goes before all others.
    pub(crate) const fn close(&mut self, reason: u8) {
        self.close = Some(reason);
    }

    /// Notes whether the rendezvous has the peer connected, for the key handshake under way.
    pub(crate) fn set_away(&mut self, now: Instant, away: bool) {
        if let Some(handshake) = self.sessions.handshake_mut() {
            handshake.set_away(now, away);
        }
    }

    /// True when the key handshake under way does without a KEM secret, though this side holds one.
    pub(crate) fn does_without_kem(&self) -> bool {
        self.sessions.handshake().is_some_and(Handshake::does_without_kem)
    }

    /// The peer's RESP to our index `local` opens under none of the secrets of this side.
    pub(crate) fn on_refused(&mut self, now: Instant, local: LocalIndex) {
        if let Some(handshake) = self.sessions.handshake_mut() {
            handshake.on_refused(now, local);
        }
    }

    /// Takes a cookie of the peer and the wait that it asks for. An INIT at once would let a flood of cookies make a flood of
    /// INITs.
    pub(crate) fn on_cookie(&mut self, now: Instant, cookie: (Cookie, Duration), rng: &mut Rng) {
        if let Some(handshake) = self.sessions.handshake_mut() {
            handshake.on_cookie(now, cookie, rng);
        }
    }

    /// Sends the INIT of a key handshake, new or under way, to every address at once where the peer has answered before: the
    /// first valid answer wins.
    pub(crate) fn begin_handshake(&mut self, now: Instant, pending: Pending, rng: &mut Rng) {
        let heard = self.last_received.filter(|at| self.in_use && now.since(*at) < VANISHED_AFTER);
        let heard = heard.filter(|_| self.sessions.current().is_some());
        let mut handshake = Handshake::new(now, pending, self.sessions.handshake(), heard, rng);
        let targets = self.paths.open_addrs();
        let knows_address = targets.iter().any(|to| to.is_direct());
        let patient = handshake.is_first_attempt() && knows_address;
        if !patient && self.paths.relay().is_some() {
            handshake.on_relayed(now);
        }
        self.sessions.move_to_handshake(handshake);
        self.ask_relay_at = Some(now + if patient { RELAY_PATIENCE } else { Duration::ZERO });
        targets.into_iter().filter(|to| to.is_direct() || !patient).for_each(|to| self.send_init(to));
    }

    /// The key handshake under way is a greeting, which is tried once, until something waits for it.
    pub(crate) fn greet(&mut self) {
        let is_greeting = !self.link.is_busy();
        self.sessions.handshake_mut().into_iter().for_each(|handshake| handshake.set_greeting(is_greeting));
    }

    /// A greeting for whose keys something waits meanwhile becomes an ordinary key handshake.
    pub(crate) fn tend_greeting(&mut self) {
        if self.is_greeting() {
            self.greet();
        }
    }

    /// Sends the INIT under way, if there is one, to this address.
    pub(crate) fn send_init(&mut self, to: PathAddr) {
        if let Some(datagram) = self.handshake().map(|pending| pending.datagram.clone()) {
            self.send_raw(to, datagram);
        }
    }

    /// Sends the INIT under way, if there is one, to another address as well, and those that follow.
    pub(crate) fn also_ask(&mut self, addr: SocketAddr) {
        self.paths.add_known(addr);
        self.send_init(PathAddr::Direct(addr));
    }

    /// Sends the INIT under way, if there is one, over the relays as well.
    pub(crate) fn relay_init(&mut self, now: Instant) {
        let relays: Vec<PathAddr> = self.paths.relays().map(|path| path.addr).collect();
        relays.into_iter().for_each(|relay| self.relay_init_over(now, relay));
    }

    /// The INIT under way, once, to go along with the question for a relay, unless it has left over one that stands.
    pub(crate) fn init_to_go_along(&mut self, now: Instant) -> Option<&[u8]> {
        let stands = self.last_received.is_some_and(|at| now.since(at) < CHANNEL_LASTS);
        self.sessions.handshake_mut()?.go_along(now, stands)
    }

    /// The rendezvous has opened this channel. Sends the INIT under way, if there is one, over it, unless the rendezvous has
    /// passed that on with the question.
    pub(crate) fn on_relay_opened(&mut self, now: Instant, relay: PathAddr, is_passed_on: bool) {
        let handshake = self.sessions.handshake_mut();
        if !handshake.is_some_and(|handshake| handshake.has_arrived_along(is_passed_on)) {
            self.relay_init_over(now, relay);
        }
    }

    /// What has left over the relay's channel is lost: the relay has given another one.
    pub(crate) fn on_channel_lost(&mut self) {
        self.sessions.handshake_mut().into_iter().for_each(Handshake::on_channel_lost);
    }

    /// Sends the INIT under way, if there is one, over this relay as well.
    pub(crate) fn relay_init_over(&mut self, now: Instant, relay: PathAddr) {
        if let Some(handshake) = self.sessions.handshake_mut() {
            handshake.on_relayed(now);
            self.send_init(relay);
        }
    }

    /// Seals under `session`, which this side initiated, at once; `from` and `len` are those of the RESP. True when the peer
    /// is another incarnation than before.
    pub(crate) fn install_current(
        &mut self,
        now: Instant,
        session: Session,
        (from, len): (PathAddr, usize),
        prober: &mut Prober<'_>,
    ) -> bool {
        self.paths.on_resp(now, (from, len), self.stands(now, &session), prober);
        let (is_mixed, local) = (session.is_mixed(), session.indexes.local);
        let (handshake, restarted) = self.make_current(now, Box::new(session));
        self.kem_due_at = (!is_mixed).then(|| self.kem_wanted_at(now, from));
        if let Some(handshake) = handshake {
            self.on_round_trip(from, handshake.round_trip(now, from, local));
        }
        restarted
    }

    /// A key handshake over `from` has taken so long.
    fn on_round_trip(&mut self, from: PathAddr, took: Duration) {
        self.link.on_handshake(took);
        self.paths.on_round_trip(from, took);
    }

    /// Keeps `session`, which the peer initiated, until the peer uses it.
    pub(crate) fn install_next(&mut self, session: Session) {
        self.sessions.set_next(session);
    }

    /// True while there are keys, the peer answers, and it is the same process under `session`: the paths of another one lead
    /// nowhere, unless it has the same address.
    fn stands(&self, now: Instant, session: &Session) -> bool {
        let is_another = self.counterpart.is_another(session.incarnation);
        self.is_up(now) && self.link.unanswered_probes() == 0 && !is_another
    }

    /// Seals under `session` from now on; gives the key handshake that this ends, and whether the peer is another
    /// incarnation than before. To that one the old link's numbers mean nothing, and nothing that was meant for the old
    /// one is given to it.
    fn make_current(&mut self, now: Instant, session: Box<Session>) -> (Option<Box<Handshake>>, bool) {
        self.is_same_process = self.counterpart.is_same_process(session.incarnation);
        let restarted = self.counterpart.move_to_seen(session.incarnation);
        // The peer knows this side by the name that it was shown, also when the link began anew before the session was used.
        self.incarnation = session.shown.as_deref().copied().unwrap_or(self.incarnation);
        if restarted {
            (self.began, self.counterpart_began) = (now, session.peer_began());
            self.link = Link::new(DATAGRAM_LEN_BASE);
            self.paths.forget_candidates();
        }
        if (session.is_mixed() || restarted) && !self.has_offered_in(session.indexes.local) {
            (self.kem, self.kem_due_at) = (None, None);
        }
        self.link.hold(!session.is_mixed());
        self.link.start_epoch(session.indexes.remote, session.next_counter(), self.hello());
        self.liveness = Liveness::Answers;
        (self.sessions.move_to_up(session), restarted)
    }

    /// The words for the peer about this side. This process began at `began`; `shown` replaces the incarnation.
    pub(crate) fn introduction(
        &self,
        (now, began): (Instant, Instant),
        stance: Stance,
        shown: Option<Incarnation>,
    ) -> Introduction {
        match shown {
            Some(incarnation) => Introduction { incarnation, age: Age(0), stance },
            None => {
                let age = Age::new(now, self.began.max(began));
                Introduction { incarnation: self.incarnation, age, stance }
            }
        }
    }

    /// The incarnation to show to a peer that begins a key handshake as `remote`, where that is another process than before: the
    /// link begins anew then, which a process that was here earlier has to learn. However often `remote` has to ask, it is shown
    /// the same one.
    pub(crate) fn new_incarnation_for(&self, remote: Incarnation, rng: &mut Rng) -> Option<Incarnation> {
        let shown = || self.sessions.shown_to(remote).unwrap_or_else(|| self.incarnation.next(rng));
        self.counterpart.is_another(remote).then(shown)
    }

    /// Why everything in flight is lost when the peer is another incarnation than before.
    pub(crate) const fn new_beginning(&self) -> ResetReason {
        if self.is_same_process { ResetReason::GivenUp } else { ResetReason::Restarted }
    }

    /// Forgets the tunnel but not the peer: everything in flight is lost, paths stay as hints.
    pub(crate) fn reset(&mut self, now: Instant, rng: &mut Rng) {
        // A peer that has not noticed learns by it that the link begins anew.
        (self.incarnation, self.began) = (self.incarnation.next(rng), now);
        self.link = Link::new(DATAGRAM_LEN_BASE);
        self.sessions.move_to_down();
        (self.counterpart, self.liveness) = (Counterpart::Unknown, Liveness::Answers);
        (self.kem, self.kem_due_at) = (None, None);
        self.overflow = None;
    }

    // Time.

    /// Runs everything that is due; gives the reason when a key handshake was given up, or the path in use carries no data.
    pub(crate) fn handle_timeout(&mut self, now: Instant, prober: &mut Prober<'_>) -> Option<ResetReason> {
        let probes = self.link.unanswered_probes();
        self.link.handle_timeout(now);
        if self.link.unanswered_probes() > probes {
            self.tell_kem_answer();
        }
        let loaded = self.is_loaded();
        self.paths.handle_timeout(now, self.in_use, loaded, prober);
        if self.suspect_at().is_some_and(|at| at <= now) {
            self.liveness = Liveness::Silent;
            self.paths.on_suspect(now);
            self.confirm_relay(now);
        } else if self.link.take_black_hole() {
            self.paths.on_black_hole();
        } else if self.link.is_least_swallowed() && self.paths.datagram_len() <= DATAGRAM_LEN_MIN {
            return Some(ResetReason::TooNarrow);
        }
        let had_keys = self.sessions.current().is_some();
        self.sessions.handle_timeout(now, self.last_received);
        let is_down = self.sessions.current().is_none() && self.sessions.handshake().is_none();
        if had_keys && is_down && self.role == Role::Rendezvous && self.in_use {
            // No timer ran before the keys were too old, as on a machine that has slept. Nothing else would begin anew.
            return Some(ResetReason::Unreachable);
        }
        self.keep_alive(now, prober.rng);
        if self.rest_at.take_if(|at| *at <= now).is_some() {
            self.rest(now);
        }
        let in_use = self.in_use;
        let given_up = self.sessions.handshake().filter(|handshake| now >= handshake.give_up_at(in_use));
        let reason = given_up.map(Handshake::give_up_reason)?;
        self.sessions.end_handshake();
        reason
    }

    /// Since when the rendezvous says that it does not have the peer connected, which has not answered meanwhile.
    pub(crate) fn away_since(&self) -> Option<Instant> {
        self.sessions.handshake()?.away_since()
    }

    /// True, once in a while, when the streams that have no answer yet are to be told that the peer is away, while others stand and wait.
    pub(crate) fn take_away(&mut self, now: Instant) -> bool {
        let handshake = self.sessions.handshake_mut();
        let Some(handshake) = handshake.filter(|h| h.tell_away_at().is_some_and(|at| at <= now)) else { return false };
        handshake.note_told_away(now);
        true
    }

    /// Frees what only traffic needs, unless there has been some.
    fn rest(&mut self, now: Instant) {
        let last = self.last_received.map_or(self.last_sent, |at| at.max(self.last_sent));
        if now < last + REST_AFTER || self.link.is_busy() {
            self.rest_at = Some(now + REST_AFTER);
            return;
        }
        self.sessions.rest();
        self.link.rest();
        self.paths.rest();
        self.raw.shrink_to_fit();
    }

    fn keep_alive(&mut self, now: Instant, rng: &mut Rng) {
        if !self.in_use || self.sessions.current().is_none() {
            self.keepalive_at = None;
            return;
        }
        let (interval, percent) = match self.role {
            Role::Rendezvous => (KEEPALIVE_RENDEZVOUS, 10),
            Role::Trusted | Role::Client => (KEEPALIVE, 20),
        };
        let due = *self.keepalive_at.get_or_insert_with(|| now + rng.jitter(interval, percent));
        if due <= now {
            let since = if now.since(self.last_sent) >= interval / 2 {
                self.link.ping();
                now
            } else {
                self.last_sent // no silence becomes longer than the interval and its jitter
            };
            self.keepalive_at = Some(since + rng.jitter(interval, percent));
        }
    }

    /// True, once, when the rendezvous is to be asked for a relay.
    pub(crate) fn take_relay_wish(&mut self, now: Instant) -> bool {
        self.ask_relay_at.take_if(|at| *at <= now).is_some()
    }

    /// When [`Peer::handle_timeout`] has something to do, and why.
    pub(crate) fn poll_timeout(&self, now: Instant) -> Option<(Instant, PeerTimer)> {
        let (is_up, mut soonest) = (self.is_up(now), Soonest::default());
        // Without keys the link's timers have nothing to act on; those of the key handshake count instead.
        match is_up {
            true if self.paths.may_send() => self.link.note_deadlines(&mut soonest),
            // What may not leave now waits for an answer on the path, or for new keys.
            true => self.link.note_probe_deadline(&mut soonest),
            false => {}
        }
        soonest.note(PeerTimer::Probe, self.suspect_at().filter(|_| is_up));
        self.paths.note_deadlines(is_up && self.is_loaded(), &mut soonest);
        self.sessions.note_deadlines(self.in_use, &mut soonest);
        soonest.note(PeerTimer::KeepAlive, self.keepalive_at);
        let stuck_at = earliest(self.kem_overdue_at(), self.mute_at().filter(|_| is_up));
        // While the peer is expected to use other keys nothing is asked, and the end of that time has its own deadline.
        soonest.note(PeerTimer::Rekey, stuck_at.filter(|_| !self.sessions.expects_use()));
        soonest.note(PeerTimer::Rekey, self.kem_due_at.filter(|_| is_up));
        soonest.note(PeerTimer::AskRelay, self.ask_relay_at);
        soonest.note(PeerTimer::Rest, self.rest_at);
        soonest.get()
    }
}
