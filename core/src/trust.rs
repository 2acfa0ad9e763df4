//! Owns the trust of a node: pins, requests in both directions, and the signed messages that change them.
//!
//! ```text
//!   A: request ──────────▶ B: pending ── approve ──▶ B: pin of A
//!   A: pin of B ◀─────────── accept (quotes the request's hash)
//!   two crossing requests approve each other          revoke: pin gone on both sides, older accepts are void
//! ```
//! Each message is signed over everything it says (type, both keys, nonce, times, epoch, the hash of what it answers, record,
//! note) and travels sealed to its recipient. A registry that carries a message can withhold it and nothing else.
//!
//! # One pair secret
//! The secret of a pair is made of both static keys and two nonces: those of the request and of its accept, or those of two
//! crossing requests. Both sides must take the same two, whatever is lost, delayed or asked twice, and whichever side loses
//! power when. The rules that see to this:
//!
//! * **Save, then post.** A message leaves once the book with its nonce is on disk, and a letter is acknowledged once the
//!   book with its effect is. A power cut then only delays: nothing of what it undoes has been told, and what it makes a node
//!   forget comes again and has the same effect again. A pin may therefore be used before it is saved.
//! * Letters to one node arrive in the order in which they were written, except that a revocation may come directly and
//!   overtake: its epoch voids what it has overtaken.
//! * A request that is made again keeps its nonce. The request that crossed ours is recognised when it comes again, and
//!   changes nothing.
//! * The secret of a pin changes only by a command of this node's owner (`renewal`). A pinned node without that secret waits
//!   for the owner as a stranger does.

mod claims;
mod enrolling;
mod form;
mod grant;
mod grouping;
mod groups;
mod inbound;
mod invites;
mod inviting;
pub(crate) mod join;
mod joining;
pub(crate) mod meet;
mod message;
mod names;
mod pin;
mod ports;
mod quota;
mod renewal;
mod strangers;
pub(crate) mod unanswered;
mod undo;

pub(crate) use groups::Settled;
pub use groups::{GroupError, Membership};
pub use invites::{INVITE_LIFETIME_MAX_S, INVITES_MAX, Invite, InviteState, InviteTerms, JoinRefusal, USES_MAX};
pub(crate) use join::Joined;
pub use message::{MESSAGE_LEN_MAX, NOTE_LEN_MAX};
pub use pin::{Asked, GroupGrant, Pin, Regrant, Wish};
pub use ports::Ports;
pub use quota::{Quota, QuotaError};
pub use undo::Undo;

use crate::addr::Addr;
use crate::group::GroupId;
use crate::hash;
use crate::identity::{Identity, IdentityKey, NodeRecord, StaticKey};
use crate::invite::InviteId;
use crate::rng::Rng;
use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use claims::Claims;
use core::fmt;
use core::net::SocketAddr;
use groups::Groups;
use invites::Invites;
use litemap::LiteMap;
use message::{Kind, Message};
use pin::Marks;
use unanswered::Unanswered;
use zeroize::Zeroizing;

/// Longest letter: a trust message under its seal. Unit: bytes.
pub const LETTER_LEN_MAX: usize = 2048;
/// Most requests of strangers that wait for this node's owner. Source: `docs/trust.md`.
pub const PENDING_MAX: usize = 256;
/// Most requests of this node that wait for an answer.
pub const OUTGOING_MAX: usize = 256;
/// Most letters that wait for the rendezvous.
pub const LETTERS_MAX: usize = 512;
/// Most peers a node trusts.
pub const PINS_MAX: usize = 16_384;
/// Most keys that are gone and have their last epoch remembered.
const EPOCHS_MAX: usize = 16_384;
/// Most pins that are gone and have their names remembered. Source: own choice; they are told at once.
const FORMER_MAX: usize = 64;
/// Lifetime of a request. Unit: seconds (30 days). Source: `docs/trust.md`.
pub const REQUEST_LIFETIME_S: u64 = 30 * 24 * 3600;

/// The network from which a letter was posted, as a number that means nothing by itself. Never zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Source(u64);

impl Source {
    /// Numbers `network` for the letters of one recipient: a keyed hash under the seed of the rendezvous. Only the rendezvous
    /// can tell which network it is or whether two recipients were written to from one; after a restart it is the same number.
    pub fn new(rendezvous: &Identity, recipient: &IdentityKey, network: &[u8]) -> Self {
        let seed = Zeroizing::new(rendezvous.seed());
        let hash = hash::derive(&seed, &[b"pn1-source", &recipient.0, network]);
        Self(u64::from_le_bytes(*hash.first_chunk().expect("8 of 32 bytes")).max(1))
    }

    /// Reads what [`Source::number`] gives.
    pub fn from_number(number: u64) -> Option<Self> {
        (number != 0).then_some(Self(number))
    }

    /// The number, or zero for a network that is not known.
    pub fn number(source: Option<Self>) -> u64 {
        source.map_or(0, |source| source.0)
    }
}

/// A request that waits for this node's owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PendingRequest {
    /// The signed record of the node that asks.
    pub record: NodeRecord,
    /// The justification, made safe for terminals.
    pub note: String,
    /// Time of its arrival. Unit: seconds since 1970.
    pub received_at: u64,
    /// The owner has seen the request: those that no owner has seen give way first.
    pub is_seen: bool,
    /// Its sender's node asks whether the secrets are the same, and no owner has: approving it asks in turn.
    is_question: bool,
    /// The network from which it was posted, if that is known.
    source: Option<Source>,
    epoch: u64,
    nonce: [u8; 32],
    hash: [u8; 32],
}

/// A request of ours without an answer yet, or one that crossed a request of its recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Outgoing {
    record: NodeRecord,
    ports: Ports,
    nonce: [u8; 32],
    hash: [u8; 32],
    expires: u64,
    verified: bool,
    quota: Option<Quota>,
    /// End of the trust, if it comes about. Unit: seconds since 1970.
    not_after: Option<u64>,
    /// Asks a pinned node whether it has the same secret; no owner has said anything.
    is_question: bool,
    /// Our owner has approved the node's question: a new secret is wanted for its pin.
    is_anew: bool,
    /// The node has revoked since: it may have taken the request and forgotten it, so that no other request crosses it.
    is_stale: bool,
    /// It is proven by an invite: the node answers at once, and no request of its own crosses it.
    is_join: bool,
    /// The group of which it is to make this node a member, or as a member of which this node asks.
    group: Option<GroupId>,
}

/// In whose name a node is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asking {
    /// Our owner asks the other one.
    Owner,
    /// Our node asks a pinned one whether it has the same secret.
    Question,
    /// Our owner has a code of this invite.
    Join(InviteId, Option<GroupId>),
}

/// What a received trust message did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A new or renewed request waits for the owner.
    Pending(IdentityKey),
    /// A peer is trusted now.
    Pinned(IdentityKey),
    /// Our request was declined.
    Rejected(IdentityKey),
    /// The peer withdrew; it is not trusted any more.
    Revoked(IdentityKey),
    /// A request that waited for the owner was taken back by its sender.
    Cancelled(IdentityKey),
    /// A trusted peer has said what this node may reach, and that is news.
    Granted(IdentityKey),
    /// A trusted peer asks for more ports, which waits for the owner.
    Wished(IdentityKey),
    /// A trusted peer grants none of the ports that it was asked for.
    Declined(IdentityKey),
    /// A trusted peer has another name. What this node may reach may have changed with it.
    Renamed(IdentityKey, Renaming),
    /// The maker of a code that we have does not take us.
    JoinRefused(IdentityKey, JoinRefusal),
    /// So many wrong codes came that this invite of ours is dead.
    InviteDead(InviteId),
    /// The roster of a group of this node has changed.
    GroupChanged(GroupId),
    /// More nodes have used the enrolment with this number than may.
    OverUsed(GroupId, InviteId),
    /// Nothing changed.
    Discarded(Discarded),
}

/// How the name of a trusted peer changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Renaming {
    /// The name before, or empty.
    pub former: String,
    /// The name that the peer's record has, or empty.
    pub wanted: String,
    /// Another trusted peer has that name, so that this one has none: its address names it.
    pub is_refused: bool,
}

/// Why a trust message had no effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Discarded {
    /// Not a trust message, or a wrong signature.
    Malformed,
    /// Meant for another node.
    NotForUs,
    /// Issued too long ago.
    Expired,
    /// Older than something already received from this key.
    Replayed,
    /// Answers nothing that was asked.
    Unsolicited,
    /// A table is full.
    Full,
    /// The peer is trusted already.
    AlreadyTrusted,
    /// Another trusted peer has this address.
    AddressTaken,
    /// Its sender is no member of a group of ours.
    NotAMember,
    /// It names an invite of ours and does not have its secret.
    WrongCode,
    /// It has the secret of an invite of ours, and was refused with a reason.
    Uninvited,
}

/// Why a command of the owner was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrustError {
    /// No such peer or request.
    Unknown,
    /// Trusted already.
    AlreadyTrusted,
    /// A table is full.
    Full,
    /// Another trusted peer has this address; one of them must go first.
    AddressTaken,
    /// The justification is longer than [`NOTE_LEN_MAX`].
    NoteTooLong,
    /// A node need not ask itself.
    Oneself,
    /// None of the ports is granted.
    NotGranted,
    /// The uses or the lifetime of an invite are out of their range.
    OutOfRange,
    /// A code leads over a rendezvous that this node does not use, and names no address of the inviter.
    NoWay,
}

impl fmt::Display for TrustError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unknown => "neither trusted nor waiting",
            Self::AlreadyTrusted => "trusted already",
            Self::Full => "too many requests, letters or peers",
            Self::AddressTaken => "another trusted peer has this address",
            Self::NoteTooLong => "the justification is too long",
            Self::Oneself => "a node cannot ask itself",
            Self::NotGranted => "none of these ports is granted",
            Self::NoWay => "the code leads over another rendezvous",
            Self::OutOfRange => "an invite has no such number of uses or lifetime",
        })
    }
}

impl core::error::Error for TrustError {}

/// Number of a letter of ours that the rendezvous has not confirmed. Rises within one run; the book on disk has none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct LetterNumber(u64);

/// Counts the changes of a [`TrustBook`] in one run. [`Endpoint::trust_saved`](crate::Endpoint::trust_saved) takes the version
/// that is on disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct TrustVersion(u64);

impl fmt::Display for TrustVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "version {}", self.0)
    }
}

/// Everything a node knows about trust. Held in memory; `emit` and `parse` carry it to and from disk as one value, so
/// that a crash never leaves half a change.
#[derive(Default)]
pub struct TrustBook {
    pins: LiteMap<IdentityKey, Pin>,
    pending: LiteMap<IdentityKey, PendingRequest>,
    outgoing: LiteMap<IdentityKey, Outgoing>,
    /// The newest epoch received from each key that was pinned or asked once: nothing older counts any more.
    epochs: LiteMap<IdentityKey, u64>,
    /// Keys of pins that went of late, with address and hostname, oldest first: for words, and not on disk.
    former: Vec<(IdentityKey, Addr, String)>,
    /// The epochs of revocations by other keys, oldest first.
    revoked: Vec<(IdentityKey, u64)>,
    own_epoch: u64,
    /// Sealed messages that the rendezvous has not confirmed yet.
    letters: LiteMap<LetterNumber, (IdentityKey, Vec<u8>)>,
    last_letter: LetterNumber,
    version: TrustVersion,
    invites: Invites,
    groups: Groups,
    unanswered: Unanswered,
    /// Not on disk.
    claims: Claims,
    /// A peer was reached at another place than the pin had; not on disk.
    has_new_places: bool,
}

impl TrustBook {
    // Letters.

    /// Keeps a sealed message until the rendezvous confirms it; `None` when [`LETTERS_MAX`] wait.
    pub(crate) fn add_letter(&mut self, to: IdentityKey, sealed: Vec<u8>) -> Option<LetterNumber> {
        if !self.has_room_for_letter() {
            return None;
        }
        debug_assert!(sealed.len() <= LETTER_LEN_MAX, "{} bytes", sealed.len());
        self.last_letter = LetterNumber(self.last_letter.0 + 1);
        self.letters.insert(self.last_letter, (to, sealed));
        self.changed();
        Some(self.last_letter)
    }

    /// True when fewer than [`LETTERS_MAX`] letters wait.
    pub(crate) fn has_room_for_letter(&self) -> bool {
        self.letters.len() < LETTERS_MAX
    }

    pub(crate) fn letter(&self, number: LetterNumber) -> Option<&(IdentityKey, Vec<u8>)> {
        self.letters.get(&number)
    }

    pub(crate) fn letters(&self) -> impl Iterator<Item = LetterNumber> {
        self.letters.keys().copied()
    }

    /// Forgets a letter that has arrived; gives its recipient.
    pub(crate) fn remove_letter(&mut self, number: LetterNumber) -> Option<IdentityKey> {
        self.letters.remove(&number).map(|letter| letter.0)
    }

    // Getters.

    /// The version of the book: it rises with every change that a power cut must not undo. Hints and letters that have
    /// arrived are no such changes.
    pub const fn version(&self) -> TrustVersion {
        self.version
    }

    /// All trusted peers, by key.
    pub fn pins(&self) -> impl Iterator<Item = &Pin> {
        self.pins.values()
    }

    /// The pin of a key.
    pub fn pin(&self, key: &IdentityKey) -> Option<&Pin> {
        self.pins.get(key)
    }

    /// Address and hostname of a peer that was trusted until a moment ago.
    pub fn former(&self, key: &IdentityKey) -> Option<(Addr, &str)> {
        let rows = self.former.iter().rev();
        rows.map(|(of, addr, name)| (of, *addr, name.as_str())).find(|row| row.0 == key).map(|row| (row.1, row.2))
    }

    /// All requests that wait for the owner.
    pub fn pending(&self) -> impl Iterator<Item = &PendingRequest> {
        self.pending.values()
    }

    /// True while the inviter of a code has not answered.
    pub fn is_joining(&self, inviter: &IdentityKey) -> bool {
        self.outgoing
            .get(inviter)
            .filter(|ours| ours.is_join)
            .is_some_and(|ours| ours.group.map_or(!self.pins.contains_key(inviter), |group| !self.is_met(&group)))
    }

    /// Nodes that were asked and have not answered.
    pub fn outgoing(&self) -> impl Iterator<Item = &NodeRecord> {
        let unanswered = self.outgoing.iter().filter(|(key, _)| !self.pins.contains_key(*key));
        unanswered.map(|(_, o)| &o.record)
    }

    // Verbs.

    /// Makes a request to the owner of `record`; `verified` says that its fingerprint was checked.
    ///
    /// # Errors
    /// `AlreadyTrusted`, `Oneself`, `NoteTooLong`, `Full` ([`OUTGOING_MAX`]).
    pub fn request(
        &mut self,
        me: &Me<'_>,
        record: &NodeRecord,
        terms: &Terms,
        rng: &mut Rng,
    ) -> Result<Vec<u8>, TrustError> {
        self.check_request(me, &record.identity, terms)?;
        self.ask(me, record, terms, Asking::Owner, rng)
    }

    fn check_request(&self, me: &Me<'_>, to: &IdentityKey, terms: &Terms) -> Result<(), TrustError> {
        if *to == me.identity.public() {
            return Err(TrustError::Oneself);
        }
        if self.pins.contains_key(to) {
            return Err(TrustError::AlreadyTrusted);
        }
        if terms.note.len() > NOTE_LEN_MAX { Err(TrustError::NoteTooLong) } else { Ok(()) }
    }

    /// Makes a request and keeps it until it is answered.
    fn ask(
        &mut self,
        me: &Me<'_>,
        record: &NodeRecord,
        terms: &Terms,
        asking: Asking,
        rng: &mut Rng,
    ) -> Result<Vec<u8>, TrustError> {
        let (to, is_question) = (record.identity, asking == Asking::Question);
        self.expire(me.earliest_s());
        if self.outgoing.len() >= OUTGOING_MAX && !self.outgoing.contains_key(&to) {
            // Crossed requests are kept only in case they are answered all the same.
            let crossed = self.outgoing.keys().find(|key| self.pins.contains_key(*key)).copied();
            self.outgoing.remove(&crossed.ok_or(TrustError::Full)?);
        }
        let pinned = self.pins.get(&to).map(|pin| proof_of(&pin.secret));
        let proof = pinned.filter(|_| is_question).unwrap_or_default();
        let (kind, invite, group) = match asking {
            Asking::Join(invite, group) => (Kind::Join, invite.0, group),
            Asking::Owner | Asking::Question => (Kind::Request, 0, None),
        };
        let mut message = Message { invite, ..self.message(me, kind, to, proof, &terms.note, rng) };
        // Asking again is the same question: an answer to either gives one secret.
        let before = self.outgoing.get(&to).filter(|before| !before.is_stale);
        message.nonce = before.map_or(message.nonce, |before| before.nonce);
        let bytes = message.emit(me.identity);
        let outgoing = Outgoing {
            record: record.clone(),
            ports: terms.ports.clone(),
            nonce: message.nonce,
            hash: hash::blake2s(&[&bytes]),
            expires: me.now_s.saturating_add(REQUEST_LIFETIME_S),
            verified: terms.verified,
            quota: terms.quota,
            not_after: terms.not_after,
            is_question,
            is_anew: !is_question && pinned.is_some(),
            is_stale: false,
            is_join: kind == Kind::Join,
            group,
        };
        self.outgoing.insert(to, outgoing);
        self.changed();
        Ok(bytes)
    }

    /// Takes back what a node was asked for and has not answered, be it trust or ports; returns the node's static key and the
    /// message that tells it.
    ///
    /// # Errors
    /// `Unknown` when nothing was asked.
    pub fn cancel(
        &mut self,
        me: &Me<'_>,
        key: &IdentityKey,
        rng: &mut Rng,
    ) -> Result<(StaticKey, Vec<u8>), TrustError> {
        let (static_key, kind) = match self.pins.get_mut(key) {
            Some(pin) => {
                pin.asked.take().ok_or(TrustError::Unknown)?;
                (pin.static_key, Kind::Wish)
            }
            None => (self.outgoing.remove(key).ok_or(TrustError::Unknown)?.record.static_key, Kind::Revoke),
        };
        self.changed();
        Ok((static_key, self.message(me, kind, *key, [0; 32], "", rng).emit(me.identity)))
    }

    /// Approves a pending request; returns the accept to send. A node that has a pin keeps what that grants and when it ends. A
    /// request that only asks whether the secrets are the same is answered by one of ours, for the other owner.
    ///
    /// # Errors
    /// `Unknown`, `Full` ([`PINS_MAX`], [`OUTGOING_MAX`]), `AddressTaken`.
    pub fn approve(
        &mut self,
        me: &Me<'_>,
        key: &IdentityKey,
        terms: &Terms,
        rng: &mut Rng,
    ) -> Result<Vec<u8>, TrustError> {
        let request = self.pending.get(key).ok_or(TrustError::Unknown)?.clone();
        self.check_new_pin(&request.record)?;
        if request.is_question {
            return self.consent(me, &request, terms, rng);
        }
        self.pending.remove(key);
        // The owner has seen this node's name just now, and means this node by it from now on.
        self.take_name_away(&request.record);
        let end = self.pins.get(key).and_then(|pin| pin.not_after);
        let terms = Terms { not_after: terms.not_after.or(end), ..terms.clone() };
        Ok(self.accept(me, &request, &terms, rng))
    }

    /// Makes the pin that answers a request; returns the accept to send.
    fn accept(&mut self, me: &Me<'_>, request: &PendingRequest, terms: &Terms, rng: &mut Rng) -> Vec<u8> {
        let (record, key) = (&request.record, request.record.identity);
        let end = terms.not_after.map(|at| me.told(at));
        let message = Message { end, ..self.message(me, Kind::Accept, key, request.hash, "", rng) };
        let secret = pair_secret(me.identity, &record.static_key, &request.nonce, &message.nonce);
        self.outgoing.remove(&key);
        self.note_epoch(key, request.epoch);
        self.insert_pin(me, record, terms, (secret, request.epoch));
        self.changed();
        message.emit(me.identity)
    }

    /// Declines a pending request; returns the message to send.
    ///
    /// # Errors
    /// `Unknown`.
    pub fn reject(&mut self, me: &Me<'_>, key: &IdentityKey, note: &str, rng: &mut Rng) -> Result<Vec<u8>, TrustError> {
        let request = self.pending.remove(key).ok_or(TrustError::Unknown)?;
        self.note_epoch(*key, request.epoch);
        self.changed();
        Ok(self.message(me, Kind::Reject, *key, request.hash, note, rng).emit(me.identity))
    }

    /// Withdraws trust; returns the peer's former pin and the message that tells it.
    ///
    /// # Errors
    /// `Unknown`.
    pub fn revoke(&mut self, me: &Me<'_>, key: &IdentityKey, rng: &mut Rng) -> Result<(Pin, Vec<u8>), TrustError> {
        let pin = self.remove_pin(key).ok_or(TrustError::Unknown)?;
        self.changed();
        Ok((pin, self.message(me, Kind::Revoke, *key, [0; 32], "", rng).emit(me.identity)))
    }

    /// Keeps the KEM secret of this node and a peer, which their first session makes. A laboratory with pairs that have met
    /// before sets one.
    pub fn set_kem(&mut self, key: &IdentityKey, secret: &[u8; 32]) {
        if let Some(pin) = self.pins.get_mut(key) {
            pin.kem = Some(Zeroizing::new(*secret));
            self.changed();
        }
    }

    /// Remembers where a peer was reached. That is a hint and no change of trust: the book keeps its version.
    pub fn note_endpoint(&mut self, key: &IdentityKey, endpoint: SocketAddr) {
        if let Some(pin) = self.pins.get_mut(key) {
            self.has_new_places |= pin.last_endpoint.replace(endpoint) != Some(endpoint);
        }
    }

    /// True, once, when a peer was reached at another place than before.
    pub(crate) const fn take_new_places(&mut self) -> bool {
        core::mem::replace(&mut self.has_new_places, false)
    }

    /// Ends trust that is over; returns each peer's former pin and the message that tells it.
    pub fn expire_pins(&mut self, me: &Me<'_>, rng: &mut Rng) -> Vec<(Pin, Vec<u8>)> {
        for (_, pin) in &mut self.pins {
            if pin.by_hand && !pin.groups.is_empty() && pin.not_after.is_some_and(|at| at <= me.now_s) {
                // What the owners have approved is over; the groups go on.
                (pin.by_hand, pin.ports, pin.groups) = (false, Ports::NONE, Box::default());
                let again = me.now_s.saturating_add(1); // until the groups say how long
                pin.not_after = Some(again);
                self.version.0 += 1;
            }
        }
        let is_over = |pin: &&Pin| pin.not_after.is_some_and(|at| at <= me.now_s);
        let over: Vec<_> = self.pins.values().filter(is_over).map(|pin| pin.identity).collect();
        over.iter().filter_map(|key| self.revoke(me, key, rng).ok()).collect()
    }

    /// The epoch of the newest message of this node. Unit: milliseconds since 1970, or one more than the last.
    pub(crate) const fn own_epoch(&self) -> u64 {
        self.own_epoch
    }

    // Helpers.

    const fn changed(&mut self) {
        self.version.0 += 1;
    }

    /// Ends trust in a key, and what was asked of it before.
    fn remove_pin(&mut self, key: &IdentityKey) -> Option<Pin> {
        let pin = self.pins.remove(key)?;
        self.claims.end(key);
        self.outgoing.remove(key);
        if self.former.len() >= FORMER_MAX {
            self.former.remove(0);
        }
        self.former.push((pin.identity, pin.addr, pin.hostname.clone()));
        Some(pin)
    }

    fn message(
        &mut self,
        me: &Me<'_>,
        kind: Kind,
        to: IdentityKey,
        in_reply_to: [u8; 32],
        note: &str,
        rng: &mut Rng,
    ) -> Message {
        let epoch = self.next_epoch(me.now_s);
        Message {
            kind,
            from: me.identity.public(),
            to,
            nonce: rng.bytes(),
            issued: me.common_s,
            expires: me.common_s.saturating_add(REQUEST_LIFETIME_S),
            epoch,
            in_reply_to,
            record: if kind.has_record() { me.record.into() } else { Vec::new() },
            note: note.chars().take(NOTE_LEN_MAX / 4).collect(),
            ports: Ports::NONE,
            temporary: Vec::new(),
            end: None,
            invite: 0,
            membership: Vec::new(),
        }
    }

    fn check_new_pin(&self, record: &NodeRecord) -> Result<(), TrustError> {
        if self.pins.len() >= PINS_MAX && !self.pins.contains_key(&record.identity) {
            return Err(TrustError::Full);
        }
        let taken = self.pins.values().any(|p| p.addr == record.addr && p.identity != record.identity);
        if taken { Err(TrustError::AddressTaken) } else { Ok(()) }
    }

    /// `since`: the epoch of the message that makes the pin; what the peer says of grants has greater ones. What a pin of the
    /// same node granted before stays granted.
    fn insert_pin(&mut self, me: &Me<'_>, record: &NodeRecord, terms: &Terms, (secret, since): ([u8; 32], u64)) {
        let (hostname, sequence) = self.name_for(record);
        let stated = self.next_epoch(me.now_s);
        debug_assert!(self.check_new_pin(record).is_ok(), "two pins with one address");
        let mut pin = Pin {
            identity: record.identity,
            static_key: record.static_key,
            addr: record.addr,
            hostname,
            ports: terms.ports.clone(),
            temporary: Vec::new(),
            granted: None,
            granted_ends: Vec::new(),
            wish: None,
            asked: None,
            secret: Zeroizing::new(secret),
            kem: None,
            approved_at: me.now_s,
            not_after: terms.not_after,
            verified: terms.verified,
            last_endpoint: None,
            quota: terms.quota.map(Box::new),
            by_hand: true,
            groups: Box::default(),
            marks: Marks { stated, heard: since, wished: since, sequence, answered: [0; 32] },
        };
        if let Some(before) = self.pins.remove(&record.identity) {
            pin.verified |= before.verified;
            let known = before.quota();
            pin.groups = before.groups;
            (pin.ports, pin.temporary) = (before.ports, before.temporary);
            (pin.wish, pin.asked, pin.last_endpoint) = (before.wish, before.asked, before.last_endpoint);
            pin.quota = terms.quota.map_or(before.quota, |quota| Some(Box::new(quota.or(known))));
        }
        pin.quota = pin.quota.filter(|quota| **quota != Quota::default());
        self.pins.insert(record.identity, pin);
    }

    /// An epoch above every one before, even when the wall clock goes back.
    const fn next_epoch(&mut self, now_s: u64) -> u64 {
        let (wall, next) = (now_s.saturating_mul(1000), self.own_epoch + 1);
        self.own_epoch = if wall > next { wall } else { next };
        self.own_epoch
    }

    fn note_epoch(&mut self, key: IdentityKey, epoch: u64) {
        if self.epochs.len() >= EPOCHS_MAX && !self.epochs.contains_key(&key) {
            // The epochs of pinned peers stay; the lowest of the others goes.
            let goes = self.epochs.iter().filter(|(k, _)| !self.pins.contains_key(k)).min_by_key(|(_, e)| **e);
            if let Some(key) = goes.map(|(k, _)| *k) {
                self.epochs.remove(&key);
            }
        }
        let newest = self.epochs.get(&key).copied().unwrap_or_default().max(epoch);
        self.epochs.insert(key, newest);
    }

    /// The newest epoch that counts of a key; 0 for a key that is not known.
    fn epoch_of(&self, key: &IdentityKey) -> u64 {
        let known = self.epochs.get(key).copied().unwrap_or_default();
        let waiting = self.pending.get(key).map_or(0, |request| request.epoch);
        known.max(waiting).max(self.revocation_of(key))
    }

    fn expire(&mut self, now_s: u64) {
        self.outgoing.retain(|_, o| o.expires > now_s);
        self.pending.retain(|_, p| p.received_at.saturating_add(REQUEST_LIFETIME_S) > now_s);
    }
}

/// This node as it is now, for making and judging messages.
pub struct Me<'a> {
    /// The keys of this node.
    pub identity: &'a Identity,
    /// The current signed record of this node.
    pub record: &'a [u8],
    /// Wall clock. Unit: seconds since 1970.
    pub now_s: u64,
    /// The clock of the rendezvous, by which nodes tell each other times; the wall clock while no other is known, or when
    /// they differ little. Unit: seconds since 1970.
    pub common_s: u64,
}

impl Me<'_> {
    /// The clock that makes the fewest things old: no single wrong clock lets a request expire.
    fn earliest_s(&self) -> u64 {
        self.now_s.min(self.common_s)
    }

    /// A time of our wall clock, as others are told it.
    const fn told(&self, at_s: u64) -> u64 {
        at_s.saturating_sub(self.now_s).saturating_add(self.common_s)
    }

    /// A time that was told at `issued`, by our wall clock. A time that is over by our clock, and was not when the message
    /// was made, is counted from now: one of the two clocks is wrong.
    const fn heard(&self, at_s: u64, issued: u64) -> u64 {
        let since = if at_s <= self.common_s && at_s > issued { issued } else { self.common_s };
        at_s.saturating_sub(since).saturating_add(self.now_s)
    }
}

/// The owner's part of a request or approval.
#[derive(Clone, Debug, Default)]
pub struct Terms {
    /// Our ports that the peer may reach.
    pub ports: Ports,
    /// Justification shown to the other owner.
    pub note: String,
    /// End of the approval. Unit: seconds since 1970.
    pub not_after: Option<u64>,
    /// The peer's fingerprint was checked.
    pub verified: bool,
    /// How much of our node the peer may use: these values, and no others.
    pub quota: Option<Quota>,
}

/// Shows to the holder of the same pair secret that its sender holds it, too.
fn proof_of(secret: &[u8; 32]) -> [u8; 32] {
    hash::derive(secret, &[b"pn1-held"])
}

/// A secret that only the two sides know: made of what their static keys share and of both nonces, which travel sealed.
fn pair_secret(identity: &Identity, peer: &StaticKey, first: &[u8; 32], second: &[u8; 32]) -> [u8; 32] {
    // A static key of low order shares nothing; its node cannot finish any key handshake, which hurts only itself.
    let shared = identity.static_pair().agree(&peer.0).unwrap_or([0; 32]);
    hash::derive(&shared, &[b"pn1-pair", first, second])
}

#[cfg(test)]
mod tests;
