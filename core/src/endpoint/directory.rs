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

mod calls;
mod clock;
mod consent;
mod departures;
mod duties;
mod enrolling;
mod groups;
mod joining;
mod joins;
mod registration;
mod times;

pub use calls::CALLS_MAX;

use crate::addr::Addr;
use crate::control::{Answer, CANDIDATES_MAX, Call, InboxNumber, Query, Refusal, Ticket};
use crate::group::GroupId;
use crate::identity::{Identity, IdentityKey, NodeRecord, Profile, StaticKey};
use crate::path::{PathAddr, is_reserved};
use crate::rng::{Entropy, Rng};
use crate::time::{Duration, Instant, earliest};
use crate::trust::{LetterNumber, Outcome, TrustBook, TrustVersion};
use crate::wire::LocalIndex;
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::SocketAddr;
use duties::Duties;
use joining::{Answered, Enrolling, Join};
use litemap::LiteMap;
use times::Times;

/// Bounds of the pause before the next attempt to reach the rendezvous. Source: `docs/trust.md`, "When the rendezvous is
/// away".
const RETRY_MIN: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(60);
/// Longest version of its program that a rendezvous may tell. Unit: bytes. Source: own choice.
const PROGRAM_LEN_MAX: usize = 32;

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

/// What the owner of this node should know, without being able to do anything about the node's calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Warning {
    /// The hostname belongs to another node: this one is registered without, and asks for the name again and again.
    NameTaken,
    /// Another process has this node's identity, and was reached at this address.
    Elsewhere(SocketAddr),
    /// The wall clock is so many seconds behind the rendezvous', or ahead of it when negative.
    Clock(i64),
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
    /// Send this message about groups over the tunnel to a peer, if there is one.
    Talk(IdentityKey, Vec<u8>),
    /// The same to all members of a group.
    Group(GroupId, Vec<u8>),
    /// Send this trust message over the tunnel to a peer, if there is one.
    Tell(IdentityKey, Vec<u8>),
    /// This peer and this node trust each other as of now: make their first session.
    Greet(IdentityKey),
    /// The KEM secret is on disk behind our answer to this peer, which was to begin the session with this index.
    KemSaved(IdentityKey, LocalIndex),
    /// Our record is confirmed and has another name: tell the peers that have a tunnel.
    Renamed,
    /// This node grants the peer other ports than before.
    Regranted(IdentityKey),
    /// Tell every connected peer our underlay addresses.
    Candidates,
    /// Find out about this node's NAT, from these addresses of the rendezvous too.
    Survey(Vec<SocketAddr>),
    /// Use this relay channel to a peer. `online`: the rendezvous has the peer connected.
    Relay {
        /// Identity of the peer.
        to: IdentityKey,
        /// Our number of the channel.
        channel: u32,
        /// The peer is connected to the rendezvous now.
        online: bool,
        /// Where the rendezvous sees the peer.
        seen: Option<SocketAddr>,
        /// The INIT that went along with the question has been passed on.
        is_passed_on: bool,
    },
    /// The rendezvous does not have this peer connected, or the peer has not granted us the relay: only direct paths are left.
    NoRelay(IdentityKey),
    /// The rendezvous cannot be asked for a relay to this peer.
    NoBeacon(IdentityKey),
    /// Ask for relays to the peers with which a key handshake is under way.
    AskForRelays,
    /// Use the rendezvous at this other address.
    Move(SocketAddr),
    /// Tell the owner what happened.
    Warn(Warning),
    /// Tell the owner that the registration's state changed.
    State(DirectoryState),
    /// Tell the owner the answer to a call, or that none came in time.
    Answer(Ticket, Option<Answer>),
    /// Tell the owner that a message of another node changed trust.
    Trust(Outcome),
    /// Tell the owner to put the trust book, which has this version now, on disk.
    SaveTrust(TrustVersion),
    /// Tell the owner to put this ceiling of the times on disk, in microseconds since 1970.
    SaveTimes(u64),
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
#[derive(Clone, Debug, PartialEq, Eq)]
enum Purpose {
    /// The owner asks for this node.
    Lookup(Query),
    /// The owner asks for public nodes.
    Search,
    Register,
    Relay(IdentityKey),
    Letter(LetterNumber),
    Grant,
    Taken,
    Leave,
}

/// What leaves this node only once the trust book behind it is on disk.
#[derive(Debug)]
enum Departure {
    /// A letter of ours, for the mailbox of its recipient.
    Letter(LetterNumber),
    /// The word that a letter of our mailbox has had its effect, so that the rendezvous may forget it.
    Taken(InboxNumber),
    /// A datagram as it is: one of the last of a session that ended with trust, or the answer to a JOIN.
    Datagram(PathAddr, Vec<u8>),
    /// A message for a trusted peer, for the tunnel.
    Direct(IdentityKey, Vec<u8>),
    /// A message for the members of a group that have a tunnel.
    Group(GroupId, Vec<u8>),
    /// Our answer to a key that a trusted peer offered, which was to begin the session with this index.
    Kem(IdentityKey, LocalIndex),
    /// The first key handshake with a peer that trusts this node as well.
    Greeting(IdentityKey),
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
    /// Inviters that are asked directly and have not answered.
    joins: Vec<Join>,
    /// Groups that this node has entered, of which contacts are asked.
    enrolling: Vec<Enrolling>,
    /// Answers to JOINs that came directly, newest first.
    answered: Vec<Answered>,
    profile: Profile,
    /// The hostname that the connected peers know.
    announced: String,
    addr: Addr,
    /// Sequence of the newest record of ours.
    sequence: u64,
    times: Times,
    record: Arc<[u8]>,
    candidates: Vec<SocketAddr>,
    /// Addresses at which gateways have promised to let peers in.
    mapped: Vec<SocketAddr>,
    reflexive: Option<SocketAddr>,
    /// When the rendezvous was last asked where it sees this node.
    where_asked_at: Option<Instant>,
    /// When the rendezvous was last asked for a sign of life.
    life_asked_at: Option<Instant>,
    rendezvous: Option<(StaticKey, SocketAddr)>,
    relay_key: [u8; 32],
    /// What its answer to the newest registration took.
    registered_in: Duration,
    /// The version of its program, as it says.
    program: Option<Box<str>>,
    state: DirectoryState,
    /// When our record is registered again: after a refusal, or with a name that may be free again.
    register_at: Option<Instant>,
    /// Our record has changed while a registration was under way.
    register_again: bool,
    /// The hostname belongs to another key.
    name_taken: bool,
    /// The record of the registration that is under way has no hostname.
    omits_name: bool,
    /// Sequence of the record that was registered last, and whether a refusal has raised the sequence since the last success.
    registered_sequence: u64,
    has_raised: bool,
    /// When another process with our identity was last seen, and where.
    elsewhere: Option<(Instant, SocketAddr)>,
    /// The address of the rendezvous that has answered last.
    beacon: Option<SocketAddr>,
    /// When the rendezvous is to be reached at another address.
    move_at: Option<(Instant, SocketAddr)>,
    /// This node is about to end for good: it asks for nothing any more.
    has_left: bool,
    /// The rendezvous has forgotten it.
    is_forgotten: bool,
    duties: Duties,
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
        used_us: u64,
    ) -> Self {
        let record = NodeRecord::sign(identity, addr, &profile, 0).emit().into();
        let (joins, enrolling) = joining::unanswered(&trust);
        Self {
            saved: trust.version(),
            told: trust.version(),
            trust,
            held: VecDeque::new(),
            statements: Vec::new(),
            joins,
            enrolling,
            answered: Vec::new(),
            announced: profile.hostname.clone(),
            profile,
            addr,
            sequence: used_us / 1000,
            times: Times::new(used_us),
            record,
            candidates,
            mapped: Vec::new(),
            reflexive: None,
            where_asked_at: None,
            life_asked_at: None,
            rendezvous: None,
            relay_key: [0; 32],
            registered_in: Duration::ZERO,
            program: None,
            state: DirectoryState::Absent,
            register_at: None,
            register_again: false,
            name_taken: false,
            omits_name: false,
            registered_sequence: 0,
            has_raised: false,
            elsewhere: None,
            beacon: None,
            move_at: None,
            has_left: false,
            is_forgotten: false,
            duties: Duties::default(),
            calls: LiteMap::new(),
            next_ticket: Ticket(1),
            retry_at: None,
            retry_pause: RETRY_MIN,
            effects: VecDeque::new(),
        }
    }

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

    pub(super) fn program(&self) -> Option<&str> {
        self.program.as_deref()
    }

    /// Where the rendezvous relays: the address from which it has answered last.
    pub(super) const fn beacon(&self) -> Option<SocketAddr> {
        self.beacon
    }

    pub(super) fn is_rendezvous(&self, addr: &SocketAddr) -> bool {
        self.beacon() == Some(*addr)
    }

    /// The underlay addresses at which this node may be reached: its own, those that gateways map, and the one that the rendezvous
    /// sees.
    pub(super) fn addresses(&self) -> Vec<SocketAddr> {
        let mut list = self.candidates.clone();
        list.extend(self.mapped().iter().filter(|mapped| !self.candidates.contains(mapped)));
        // Where no UDP passes, the rendezvous sees an address that no peer can reach.
        list.extend(self.reflexive.filter(|r| !list.contains(r) && !is_reserved(r)));
        list
    }

    /// The addresses at which gateways have promised to let peers in.
    pub(super) fn mapped(&self) -> &[SocketAddr] {
        &self.mapped
    }

    /// True for the port of one of this node's own underlay addresses.
    pub(super) fn has_port(&self, port: u16) -> bool {
        self.candidates.iter().any(|own| own.port() == port)
    }

    /// The part of [`Directory::addresses`] that one message tells a peer.
    pub(super) fn candidates(&self) -> Vec<SocketAddr> {
        let mut list = self.addresses();
        list.truncate(CANDIDATES_MAX);
        list
    }

    /// True while the hostname belongs to another node, and this one is registered without.
    pub(super) const fn name_is_taken(&self) -> bool {
        self.name_taken
    }

    pub(super) const fn is_ready(&self) -> bool {
        matches!(self.state, DirectoryState::Ready(_))
    }

    /// The next thing that the endpoint has to do.
    pub(super) fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front().or_else(|| {
            if self.trust.version() == self.told {
                return None;
            }
            // What has changed may have left a name to another peer.
            self.trust.settle_name().map(Effect::Trust).or_else(|| {
                self.told = self.trust.version();
                Some(Effect::SaveTrust(self.told))
            })
        })
    }

    /// When [`Directory::handle_timeout`] has something to do.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let calls = earliest(self.calls.values().map(|(at, _)| *at).min(), self.retry_at);
        let moves = earliest(self.register_at, self.move_at.map(|(at, _)| at));
        let duties = self.duties.poll_timeout().filter(|_| self.is_ready());
        let joins = earliest(self.joins_timeout(), self.enrolling_timeout());
        earliest(earliest(calls, moves), earliest(duties, joins))
    }

    fn set_state(&mut self, state: DirectoryState) {
        if self.state != state {
            self.state = state;
            self.effects.push_back(Effect::State(state));
        }
    }
}

#[cfg(test)]
mod tests;
