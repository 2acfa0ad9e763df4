//! Owns the state of registration, of calls to the rendezvous, and of trust, and what waits for the disk.
//!
//! ```text
//!   Absent ─▶ Connecting ─▶ Registering ─▶ Ready        Refused: the rendezvous does not accept our record
//!                 ▲─────── lost ◀──────────┘
//! ```
//! [`Directory`] is a machine of its own: inputs (verbs of the owner, messages of the rendezvous and of peers, the clock)
//! change it, and what the endpoint has to do about them comes out of [`Directory::poll_effect`] as an [`Effect`]. Peers are
//! named by their identity keys here; sessions and paths are unknown. Nothing between nodes that trust each other waits for
//! any of this (`docs/trust.md`, "When the rendezvous is away").
//!
//! **Save, then post.** Whatever tells others of a change of trust (letters, the word that a letter was taken, farewells) is
//! a [`Departure`] and leaves once the trust book with that change is on disk: the owner learns by [`Effect::SaveTrust`] that
//! a save is wanted, and says [`Directory::trust_saved`] when it is done.

use crate::addr::Addr;
use crate::control::{Answer, CANDIDATES_MAX, Call, GRANTS_MAX, InboxNumber, Query, Refusal, Ticket};
use crate::identity::{Identity, IdentityKey, NodeRecord, Profile, StaticKey};
use crate::path::PathAddr;
use crate::rng::{Entropy, Rng};
use crate::time::{Duration, Instant, earliest};
use crate::trust::{
    LetterNumber, Me, Outcome, PINS_MAX, Pin, Ports, Regrant, Terms, TrustBook, TrustError, TrustVersion,
};
use alloc::collections::{BTreeSet, VecDeque};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::SocketAddr;
use litemap::LiteMap;

/// Calls that may wait for their answers.
pub const CALLS_MAX: usize = 1024;
/// Time an answer may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(4);
/// Bounds of the pause before the next attempt to reach the rendezvous. Source: `docs/trust.md`, "When the rendezvous is
/// away".
const RETRY_MIN: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(60);
/// Most departures that wait for the disk, beside letters. Source: own choice; those beyond are lost, and made up for.
const HELD_MAX: usize = 1024;

/// State of the registration with the rendezvous.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DirectoryState {
    /// No rendezvous is configured.
    Absent,
    /// The rendezvous has not been reached yet, or was lost.
    Connecting,
    /// A tunnel to the rendezvous exists; our record is not confirmed.
    Registering,
    /// Our record is registered under this address.
    Ready(Addr),
    /// The rendezvous refuses our record; the owner must change something.
    Refused(Refusal),
}

/// What the endpoint has to do for its directory, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// Begin a key handshake with the rendezvous.
    Reach,
    /// Send this call to the rendezvous; [`Directory::on_call_refused`] when its link has no room.
    Call(Ticket, Call),
    /// Begin every session from now on with this record of ours.
    Record(Arc<[u8]>),
    /// Make the trusted peers equal to the pins.
    Peers,
    /// Seal this message, that trust is withdrawn, while the keys for the peer are there: [`Directory::hold_farewell`].
    Farewell(IdentityKey, Vec<u8>),
    /// Send this datagram as it is.
    Send(PathAddr, Vec<u8>),
    /// Send this trust message over the tunnel to a peer, if there is one.
    Tell(IdentityKey, Vec<u8>),
    /// Our record is confirmed and has another name: tell the peers that have a tunnel.
    Renamed,
    /// This node grants the peer other ports than before.
    Regranted(IdentityKey),
    /// Tell every connected peer our underlay addresses.
    Candidates,
    /// Use this relay channel to a peer. `online`: the rendezvous has the peer connected.
    Relay {
        /// Identity of the peer.
        to: IdentityKey,
        /// Our number of the channel.
        channel: u32,
        /// The peer is connected to the rendezvous now.
        online: bool,
    },
    /// The rendezvous does not have this peer connected, or the peer has not granted us the relay: only direct paths are left.
    NoRelay(IdentityKey),
    /// The rendezvous cannot be asked for a relay to this peer.
    NoBeacon(IdentityKey),
    /// Ask for relays to the peers with which a key handshake is under way.
    AskForRelays,
    /// Tell the owner that the registration's state changed.
    State(DirectoryState),
    /// Tell the owner the answer to a call, or that none came in time.
    Answer(Ticket, Option<Answer>),
    /// Tell the owner that a message of another node changed trust.
    Trust(Outcome),
    /// Tell the owner to put the trust book, which has this version now, on disk.
    SaveTrust(TrustVersion),
}

/// What an input borrows of the endpoint.
pub(super) struct Context<'a> {
    pub(super) now: Instant,
    /// Wall clock at `now`. Unit: microseconds since 1970.
    pub(super) wall_us: u64,
    pub(super) identity: &'a Identity,
    /// For what is no secret.
    pub(super) rng: &'a mut Rng,
    /// For secrets.
    pub(super) entropy: &'a mut dyn Entropy,
}

/// The reason for a call, which decides what its answer does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    /// The owner asked.
    Application,
    Register,
    Relay(IdentityKey),
    Letter(LetterNumber),
    /// Nothing waits for the answer.
    Notice,
}

/// What leaves this node only once the trust book behind it is on disk.
#[derive(Debug)]
enum Departure {
    /// A letter of ours, for the mailbox of its recipient.
    Letter(LetterNumber),
    /// The word that a letter of our mailbox has had its effect, so that the rendezvous may forget it.
    Taken(InboxNumber),
    /// The last datagrams of a session that ended with trust.
    Farewell(PathAddr, Vec<u8>),
    /// A message for a trusted peer, for the tunnel.
    Direct(IdentityKey, Vec<u8>),
}

pub(super) struct Directory {
    trust: TrustBook,
    /// Newest version of the book that is on disk, and the newest that the owner was told of.
    saved: TrustVersion,
    told: TrustVersion,
    /// Departures by the version that has to be on disk before them, oldest first.
    held: VecDeque<(TrustVersion, Departure)>,
    /// The newest letter with a statement for each peer; one that has not left is replaced by a newer one.
    statements: Vec<(IdentityKey, LetterNumber)>,
    profile: Profile,
    /// The hostname that the connected peers know.
    announced: String,
    addr: Addr,
    /// Sequence of the newest record of ours.
    sequence: u64,
    record: Arc<[u8]>,
    candidates: Vec<SocketAddr>,
    reflexive: Option<SocketAddr>,
    rendezvous: Option<(StaticKey, SocketAddr)>,
    relay_key: [u8; 32],
    state: DirectoryState,
    /// Calls without an answer yet, and until when the answer is awaited.
    calls: LiteMap<Ticket, (Instant, Purpose)>,
    next_ticket: Ticket,
    retry_at: Option<Instant>,
    retry_pause: Duration,
    effects: VecDeque<Effect>,
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
            saved: trust.version(),
            told: trust.version(),
            trust,
            held: VecDeque::new(),
            statements: Vec::new(),
            announced: profile.hostname.clone(),
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
            next_ticket: Ticket(1),
            retry_at: None,
            retry_pause: RETRY_MIN,
            effects: VecDeque::new(),
        }
    }

    // Getters.

    pub(super) const fn trust(&self) -> &TrustBook {
        &self.trust
    }

    pub(super) const fn profile(&self) -> &Profile {
        &self.profile
    }

    pub(super) const fn addr(&self) -> Addr {
        self.addr
    }

    pub(super) const fn state(&self) -> DirectoryState {
        self.state
    }

    pub(super) const fn reflexive(&self) -> Option<SocketAddr> {
        self.reflexive
    }

    pub(super) fn record(&self) -> Arc<[u8]> {
        self.record.clone()
    }

    pub(super) const fn rendezvous(&self) -> Option<(StaticKey, SocketAddr)> {
        self.rendezvous
    }

    pub(super) const fn relay_key(&self) -> &[u8; 32] {
        &self.relay_key
    }

    pub(super) fn beacon(&self) -> Option<SocketAddr> {
        self.rendezvous.map(|(_, addr)| addr)
    }

    pub(super) fn is_rendezvous(&self, addr: &SocketAddr) -> bool {
        self.beacon() == Some(*addr)
    }

    /// The underlay addresses at which this node may be reached: its own, and the one that the rendezvous sees.
    pub(super) fn addresses(&self) -> Vec<SocketAddr> {
        let mut list = self.candidates.clone();
        list.extend(self.reflexive.filter(|r| !list.contains(r)));
        list
    }

    /// The part of [`Directory::addresses`] that one message tells a peer.
    pub(super) fn candidates(&self) -> Vec<SocketAddr> {
        let mut list = self.addresses();
        list.truncate(CANDIDATES_MAX);
        list
    }

    /// True while the call with this ticket waits for its answer.
    pub(super) fn is_waiting(&self, ticket: Ticket) -> bool {
        self.calls.contains_key(&ticket)
    }

    const fn is_ready(&self) -> bool {
        matches!(self.state, DirectoryState::Ready(_))
    }

    // Verbs: rendezvous.

    /// Uses this rendezvous from now on.
    pub(super) fn set_rendezvous(&mut self, now: Instant, key: StaticKey, addr: SocketAddr) {
        self.rendezvous = Some((key, addr));
        self.forget_taken();
        self.retry_at = Some(now);
        self.set_state(DirectoryState::Connecting);
    }

    /// Changes what our record says.
    pub(super) fn set_profile(&mut self, cx: &mut Context<'_>, profile: Profile) {
        self.profile = profile;
        if self.rendezvous.is_some() && !matches!(self.state, DirectoryState::Connecting) {
            self.register(cx);
        } else {
            self.sign_record(cx);
            self.announce_name();
        }
    }

    /// Replaces our own underlay addresses; false when they are the ones known before.
    pub(super) fn set_candidates(&mut self, candidates: Vec<SocketAddr>) -> bool {
        if self.candidates == candidates {
            return false;
        }
        self.candidates = candidates;
        self.reflexive = None; // the rendezvous saw an address of the old network
        true
    }

    /// Registers again, so that the rendezvous learns of a move.
    pub(super) fn register_again(&mut self, cx: &mut Context<'_>) {
        if self.is_ready() {
            self.register(cx);
        }
    }

    pub(super) fn lookup(&mut self, now: Instant, query: Query) -> Option<Ticket> {
        self.call(now, Call::Lookup(query), Purpose::Application)
    }

    pub(super) fn search(&mut self, now: Instant, tag: String) -> Option<Ticket> {
        self.call(now, Call::Search(tag), Purpose::Application)
    }

    /// Asks for a relay channel to a peer, unless that is under way.
    pub(super) fn ask_for_relay(&mut self, now: Instant, to: IdentityKey) {
        let is_asked = self.calls.values().any(|(_, purpose)| *purpose == Purpose::Relay(to));
        if !is_asked && self.call(now, Call::OpenRelay(to), Purpose::Relay(to)).is_none() {
            self.effects.push_back(Effect::NoBeacon(to));
        }
    }

    fn call(&mut self, now: Instant, call: Call, purpose: Purpose) -> Option<Ticket> {
        let is_allowed = self.is_ready() || matches!(purpose, Purpose::Register);
        if self.rendezvous.is_none() || !is_allowed || self.calls.len() >= CALLS_MAX {
            return None;
        }
        let ticket = self.next_ticket;
        self.next_ticket = Ticket(ticket.0.wrapping_add(1).max(1));
        self.calls.insert(ticket, (now + CALL_TIMEOUT, purpose));
        debug_assert!(self.calls.len() <= CALLS_MAX);
        self.effects.push_back(Effect::Call(ticket, call));
        Some(ticket)
    }

    // Verbs: trust.

    pub(super) fn request_trust(
        &mut self,
        cx: &mut Context<'_>,
        record: &NodeRecord,
        terms: &Terms,
    ) -> Result<(), TrustError> {
        if self.trust.pending().any(|p| p.record.identity == record.identity) {
            return self.approve(cx, &record.identity, terms); // both owners have said yes
        }
        self.check_room_for_letter()?;
        let message = self.with_trust(cx, |book, me, rng| book.request(me, record, terms, rng))?;
        self.write_letter(cx, record.identity, record.static_key, &message);
        Ok(())
    }

    pub(super) fn approve(&mut self, cx: &mut Context<'_>, key: &IdentityKey, terms: &Terms) -> Result<(), TrustError> {
        self.check_room_for_letter()?;
        let static_key = self.pending_static_key(key)?;
        let message = self.with_trust(cx, |book, me, rng| book.approve(me, key, terms, rng))?;
        self.pins_changed(cx.now);
        self.write_letter(cx, *key, static_key, &message);
        Ok(())
    }

    pub(super) fn reject(&mut self, cx: &mut Context<'_>, key: &IdentityKey, note: &str) -> Result<(), TrustError> {
        self.check_room_for_letter()?;
        let static_key = self.pending_static_key(key)?;
        let message = self.with_trust(cx, |book, me, rng| book.reject(me, key, note, rng))?;
        self.write_letter(cx, *key, static_key, &message);
        Ok(())
    }

    pub(super) fn revoke(&mut self, cx: &mut Context<'_>, key: &IdentityKey) -> Result<Pin, TrustError> {
        let (pin, message) = self.with_trust(cx, |book, me, rng| book.revoke(me, key, rng))?;
        self.effects.push_back(Effect::Farewell(*key, message.clone()));
        self.pins_changed(cx.now);
        self.write_letter(cx, *key, pin.static_key, &message);
        Ok(pin)
    }

    /// Ends expired trust and expired grants; true when there was any.
    pub(super) fn expire_trust(&mut self, cx: &mut Context<'_>) -> bool {
        let now_s = cx.wall_us / 1_000_000;
        let is_any = !self.trust.expire_pins(now_s).is_empty();
        if is_any {
            self.pins_changed(cx.now);
        }
        let regranted = self.trust.expire_grants(now_s);
        for key in &regranted {
            self.effects.push_back(Effect::Regranted(*key));
            let standing = self.with_trust(cx, |book, me, rng| book.standing(me, key, rng));
            standing.into_iter().take(1).for_each(|statement| self.tell_statement(cx, key, statement));
        }
        is_any || !regranted.is_empty()
    }

    // Verbs: grants. What they tell leaves over the tunnel, if there is one, and as a letter, since a tunnel may end before
    // its last message has arrived.

    /// Changes what a peer may reach.
    pub(super) fn regrant(
        &mut self,
        cx: &mut Context<'_>,
        key: &IdentityKey,
        change: &Regrant,
    ) -> Result<(), TrustError> {
        let message = self.with_trust(cx, |book, me, rng| book.regrant(me, key, change, rng))?;
        self.effects.push_back(Effect::Regranted(*key));
        self.tell_statement(cx, key, message);
        Ok(())
    }

    /// Asks a peer for ports of its node.
    pub(super) fn wish(
        &mut self,
        cx: &mut Context<'_>,
        key: &IdentityKey,
        (ports, note): (&Ports, &str),
    ) -> Result<(), TrustError> {
        self.check_room_for_letter()?;
        let message = self.with_trust(cx, |book, me, rng| book.wish(me, key, (ports, note), rng))?;
        self.tell_peer(cx, key, message);
        Ok(())
    }

    /// Tells a peer, with which a tunnel has come up, all that it may reach, and what this node asks of it.
    pub(super) fn on_peer_up(&mut self, cx: &mut Context<'_>, key: &IdentityKey) {
        for message in self.with_trust(cx, |book, me, rng| book.standing(me, key, rng)) {
            self.depart_when_saved(cx.now, Departure::Direct(*key, message));
        }
    }

    /// Tells a peer a new statement, and no older one besides. Without room for the letter the peer learns it when a tunnel
    /// comes up.
    fn tell_statement(&mut self, cx: &mut Context<'_>, key: &IdentityKey, message: Vec<u8>) {
        if let Some(i) = self.statements.iter().position(|(to, _)| to == key) {
            let (_, number) = self.statements.swap_remove(i);
            let is_posted = self.calls.values().any(|(_, purpose)| *purpose == Purpose::Letter(number));
            if !is_posted {
                self.trust.remove_letter(number);
            }
        }
        if let Some(number) = self.tell_peer(cx, key, message) {
            self.statements.push((*key, number));
            debug_assert!(self.statements.len() <= PINS_MAX, "one for each peer");
        }
    }

    /// Gives the number of the letter, if there is room for one.
    fn tell_peer(&mut self, cx: &mut Context<'_>, key: &IdentityKey, message: Vec<u8>) -> Option<LetterNumber> {
        let static_key = self.trust.pin(key)?.static_key;
        let number = self.write_letter(cx, *key, static_key, &message);
        self.depart_when_saved(cx.now, Departure::Direct(*key, message));
        number
    }

    /// Takes a record of a node, which may be a trusted peer with another name.
    pub(super) fn refresh(&mut self, record: &NodeRecord) {
        if let Some(outcome) = self.trust.refresh(record) {
            self.effects.push_back(Effect::Trust(outcome));
        }
    }

    /// Remembers where a peer was reached.
    pub(super) fn note_endpoint(&mut self, key: &IdentityKey, addr: SocketAddr) {
        self.trust.note_endpoint(key, addr);
    }

    // Save, then post.

    /// The trust book with this version is on disk: what waited for it leaves.
    pub(super) fn trust_saved(&mut self, now: Instant, version: TrustVersion) {
        debug_assert!(version <= self.trust.version(), "no book with {version} has been there to be saved");
        self.saved = self.saved.max(version);
        while self.held.front().is_some_and(|(version, _)| *version <= self.saved) {
            if let Some((_, departure)) = self.held.pop_front() {
                self.depart(now, departure);
            }
        }
    }

    pub(super) fn trust_is_saved(&self) -> bool {
        self.trust.version() <= self.saved
    }

    /// Takes what [`Effect::Farewell`] asked for.
    pub(super) fn hold_farewell(&mut self, now: Instant, to: PathAddr, datagram: Vec<u8>) {
        self.depart_when_saved(now, Departure::Farewell(to, datagram));
    }

    /// Lets something leave once the book as it is now is on disk, which may be so already.
    fn depart_when_saved(&mut self, now: Instant, departure: Departure) {
        let version = self.trust.version();
        debug_assert!(self.held.back().is_none_or(|(last, _)| *last <= version), "versions only rise");
        if self.trust_is_saved() {
            self.depart(now, departure);
        } else if self.held.len() < HELD_MAX || matches!(departure, Departure::Letter(_)) {
            self.held.push_back((version, departure));
        }
        // A letter of the mailbox that is not said to be taken comes again; a farewell only hastens a letter.
    }

    fn depart(&mut self, now: Instant, departure: Departure) {
        match departure {
            Departure::Letter(number) => {
                let to = self.trust.letter(number).map(|letter| letter.0);
                to.into_iter().for_each(|to| self.post_next(now, to));
            }
            Departure::Taken(number) => {
                self.call(now, Call::Taken([number].into()), Purpose::Notice);
            }
            Departure::Farewell(to, datagram) => self.effects.push_back(Effect::Send(to, datagram)),
            Departure::Direct(to, message) => self.effects.push_back(Effect::Tell(to, message)),
        }
    }

    /// Forgets which letters were taken: the rendezvous will deliver them again, perhaps under other numbers.
    fn forget_taken(&mut self) {
        self.held.retain(|(_, departure)| !matches!(departure, Departure::Taken(_)));
    }

    // Helpers of trust.

    fn pending_static_key(&self, key: &IdentityKey) -> Result<StaticKey, TrustError> {
        let request = self.trust.pending().find(|p| p.record.identity == *key);
        request.map(|p| p.record.static_key).ok_or(TrustError::Unknown)
    }

    fn with_trust<R>(&mut self, cx: &mut Context<'_>, f: impl FnOnce(&mut TrustBook, &Me<'_>, &mut Rng) -> R) -> R {
        let me = Me { identity: cx.identity, record: &self.record, now_s: cx.wall_us / 1_000_000 };
        f(&mut self.trust, &me, &mut cx.entropy.generator())
    }

    fn pins_changed(&mut self, now: Instant) {
        self.effects.push_back(Effect::Peers);
        self.grant(now);
    }

    /// Without room for the letter that tells the other side, a command must change nothing.
    fn check_room_for_letter(&self) -> Result<(), TrustError> {
        if self.trust.has_room_for_letter() { Ok(()) } else { Err(TrustError::Full) }
    }

    /// Seals a message and keeps it for the mailbox of its recipient. A revocation for which there is no room is only told
    /// directly.
    fn write_letter(
        &mut self,
        cx: &mut Context<'_>,
        to: IdentityKey,
        key: StaticKey,
        message: &[u8],
    ) -> Option<LetterNumber> {
        let sealed = key.seal(message, &mut cx.entropy.generator());
        let number = self.trust.add_letter(to, sealed)?;
        self.depart_when_saved(cx.now, Departure::Letter(number));
        Some(number)
    }

    /// Posts the oldest letter to a node, unless one is under way: letters to one node arrive in the order in which they
    /// were written, whatever the rendezvous refuses.
    fn post_next(&mut self, now: Instant, to: IdentityKey) {
        let is_to = |number| self.trust.letter(number).is_some_and(|letter| letter.0 == to);
        let is_under_way = |purpose: &Purpose| matches!(*purpose, Purpose::Letter(number) if is_to(number));
        if self.calls.values().any(|(_, purpose)| is_under_way(purpose)) {
            return;
        }
        let oldest = self.trust.letters().find(|number| is_to(*number));
        if let Some(number) = oldest.filter(|number| !self.is_held(*number))
            && let Some((_, sealed)) = self.trust.letter(number)
        {
            let call = Call::Post(to, sealed.clone());
            self.call(now, call, Purpose::Letter(number));
        }
    }

    fn is_held(&self, number: LetterNumber) -> bool {
        self.held.iter().any(|(_, departure)| matches!(departure, Departure::Letter(held) if *held == number))
    }

    // Input.

    /// Takes a letter out of our mailbox.
    pub(super) fn handle_letter(&mut self, cx: &mut Context<'_>, number: InboxNumber, sealed: &[u8]) {
        match cx.identity.open_sealed(sealed) {
            Some(message) => self.handle_trust(cx, &message, Some(number)),
            None => self.depart_when_saved(cx.now, Departure::Taken(number)), // sealed to another key, and unreadable for ever
        }
    }

    /// Takes a trust message, from a letter or from the peer itself.
    pub(super) fn handle_trust(&mut self, cx: &mut Context<'_>, message: &[u8], letter: Option<InboxNumber>) {
        let outcome = self.with_trust(cx, |book, me, _| book.receive(me, message));
        // A letter without effect may be the copy of one with an effect that is not on disk yet.
        letter.into_iter().for_each(|number| self.depart_when_saved(cx.now, Departure::Taken(number)));
        match outcome {
            Outcome::Discarded(_) => {}
            Outcome::Pending(_) | Outcome::Pinned(_) | Outcome::Rejected(_) | Outcome::Revoked(_) => {
                self.pins_changed(cx.now);
                self.effects.push_back(Effect::Trust(outcome));
            }
            Outcome::Granted(_) | Outcome::Wished(_) | Outcome::Declined(_) | Outcome::Renamed(..) => {
                self.effects.push_back(Effect::Trust(outcome));
            }
        }
    }

    /// Takes the rendezvous' answer to a call.
    pub(super) fn handle_answer(&mut self, cx: &mut Context<'_>, ticket: Ticket, answer: Answer) {
        let Some((_, purpose)) = self.calls.remove(&ticket) else { return };
        match (purpose, answer) {
            (Purpose::Application, answer) => self.effects.push_back(Effect::Answer(ticket, Some(answer))),
            (Purpose::Register, Answer::Registered { addr, reflexive, relay_key }) => {
                self.relay_key = relay_key;
                let has_moved = self.reflexive.replace(reflexive) != Some(reflexive);
                self.on_registered(cx, addr);
                if has_moved {
                    self.effects.push_back(Effect::Candidates);
                }
            }
            (Purpose::Register, Answer::Refused(why)) => self.set_state(DirectoryState::Refused(why)),
            (Purpose::Relay(to), Answer::Relay { channel, online }) => {
                self.effects.push_back(Effect::Relay { to, channel, online });
            }
            (Purpose::Relay(to), Answer::Refused(Refusal::NotFound)) => self.effects.push_back(Effect::NoRelay(to)),
            (Purpose::Letter(letter), Answer::Ok | Answer::Refused(Refusal::NotFound)) => {
                let to = self.trust.remove_letter(letter);
                to.into_iter().for_each(|to| self.post_next(cx.now, to));
            }
            _ => {}
        }
    }

    fn on_registered(&mut self, cx: &mut Context<'_>, addr: Addr) {
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
    pub(super) fn on_up(&mut self, cx: &mut Context<'_>) {
        if !self.is_ready() {
            self.register(cx);
        }
    }

    /// The rendezvous is another process now, which knows nothing of our calls.
    pub(super) fn on_restarted(&mut self, cx: &mut Context<'_>) {
        self.calls.clear();
        self.forget_taken();
        self.register(cx);
    }

    /// The tunnel to the rendezvous is gone.
    pub(super) fn on_lost(&mut self, cx: &mut Context<'_>) {
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

    /// The link to the rendezvous had no room for a call: nothing was sent.
    pub(super) fn on_call_refused(&mut self, ticket: Ticket) {
        if let Some((_, Purpose::Relay(to))) = self.calls.remove(&ticket) {
            self.effects.push_back(Effect::NoBeacon(to));
        }
    }

    pub(super) fn handle_timeout(&mut self, cx: &mut Context<'_>) {
        if self.retry_at.take_if(|at| *at <= cx.now).is_some() {
            self.effects.push_back(Effect::Reach);
        }
        let late: Vec<Ticket> = self.calls.iter().filter(|(_, (at, _))| *at <= cx.now).map(|(id, _)| *id).collect();
        for ticket in late {
            match self.calls.remove(&ticket) {
                Some((_, Purpose::Application)) => self.effects.push_back(Effect::Answer(ticket, None)),
                Some((_, Purpose::Register)) => self.register(cx),
                _ => {}
            }
        }
    }

    // Output.

    /// The next thing that the endpoint has to do.
    pub(super) fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front().or_else(|| {
            let version = self.trust.version();
            (version > self.told).then(|| {
                self.told = version;
                Effect::SaveTrust(version)
            })
        })
    }

    /// When [`Directory::handle_timeout`] has something to do.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        earliest(self.calls.values().map(|(at, _)| *at).min(), self.retry_at)
    }

    // Helpers.

    fn set_state(&mut self, state: DirectoryState) {
        if self.state != state {
            self.state = state;
            self.effects.push_back(Effect::State(state));
        }
    }

    fn sign_record(&mut self, cx: &Context<'_>) {
        // Rises across restarts with the wall clock, and within one run by itself.
        self.sequence = (cx.wall_us / 1000).max(self.sequence + 1);
        self.record = NodeRecord::sign(cx.identity, self.addr, &self.profile, self.sequence).emit().into();
        self.effects.push_back(Effect::Record(self.record.clone()));
    }

    fn announce_name(&mut self) {
        if self.announced != self.profile.hostname {
            self.announced.clone_from(&self.profile.hostname);
            self.effects.push_back(Effect::Renamed);
        }
    }

    fn register(&mut self, cx: &Context<'_>) {
        self.sign_record(cx);
        self.set_state(DirectoryState::Registering);
        self.call(cx.now, Call::Register(self.record.to_vec()), Purpose::Register);
    }

    fn grant(&mut self, now: Instant) {
        let keys = self.trust.pins().map(|p| p.identity).take(GRANTS_MAX).collect();
        self.call(now, Call::Grant(keys), Purpose::Notice);
    }
}

#[cfg(test)]
mod tests;
