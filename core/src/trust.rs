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
//! * A new request of a pinned node means that it has no pin any more: ours goes, and our owner decides anew.

mod form;
mod grant;
mod message;
mod pin;
mod ports;
mod quota;

pub use message::{MESSAGE_LEN_MAX, NOTE_LEN_MAX};
pub use pin::{Asked, Pin, Regrant, Wish};
pub use ports::Ports;
pub use quota::{Quota, QuotaError};

use crate::hash;
use crate::identity::{Identity, IdentityKey, NodeRecord, StaticKey};
use crate::rng::Rng;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::net::SocketAddr;
use litemap::LiteMap;
use message::{Kind, Message};
use pin::Marks;

/// Longest letter: a trust message under its seal. Unit: bytes.
pub const LETTER_LEN_MAX: usize = 2048;
/// Most requests that wait for this node's owner. Source: `docs/trust.md`.
pub const PENDING_MAX: usize = 256;
/// Most requests of this node that wait for an answer.
pub const OUTGOING_MAX: usize = 256;
/// Most letters that wait for the rendezvous.
pub const LETTERS_MAX: usize = 512;
/// Most peers a node trusts.
pub const PINS_MAX: usize = 16_384;
/// Most keys that are gone and have their last epoch remembered.
const EPOCHS_MAX: usize = 16_384;
/// Lifetime of a request. Unit: seconds (30 days). Source: `docs/trust.md`.
pub const REQUEST_LIFETIME_S: u64 = 30 * 24 * 3600;
/// How far a message's time of issue may lie in our future. Unit: seconds; clocks differ.
const CLOCK_SKEW_S: u64 = 24 * 3600;

/// A request that waits for this node's owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PendingRequest {
    /// The signed record of the node that asks.
    pub record: NodeRecord,
    /// The justification, made safe for terminals.
    pub note: String,
    /// Time of its arrival. Unit: seconds since 1970.
    pub received_at: u64,
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
    /// A trusted peer has said what this node may reach, and that is news.
    Granted(IdentityKey),
    /// A trusted peer asks for more ports, which waits for the owner.
    Wished(IdentityKey),
    /// A trusted peer grants none of the ports that it was asked for.
    Declined(IdentityKey),
    /// A trusted peer has another name. What this node may reach may have changed with it.
    Renamed(IdentityKey, Renaming),
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
    /// Issued in the future, or too long ago.
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
    /// The newest epoch received from each key: nothing older counts any more.
    epochs: LiteMap<IdentityKey, u64>,
    own_epoch: u64,
    /// Sealed messages that the rendezvous has not confirmed yet.
    letters: LiteMap<LetterNumber, (IdentityKey, Vec<u8>)>,
    last_letter: LetterNumber,
    version: TrustVersion,
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

    /// All requests that wait for the owner.
    pub fn pending(&self) -> impl Iterator<Item = &PendingRequest> {
        self.pending.values()
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
        let to = record.identity;
        if to == me.identity.public() {
            return Err(TrustError::Oneself);
        }
        if self.pins.contains_key(&to) {
            return Err(TrustError::AlreadyTrusted);
        }
        if terms.note.len() > NOTE_LEN_MAX {
            return Err(TrustError::NoteTooLong);
        }
        self.expire(me.now_s);
        if self.outgoing.len() >= OUTGOING_MAX && !self.outgoing.contains_key(&to) {
            // Crossed requests are kept only in case they are answered all the same.
            let crossed = self.outgoing.keys().find(|key| self.pins.contains_key(*key)).copied();
            self.outgoing.remove(&crossed.ok_or(TrustError::Full)?);
        }
        let mut message = self.message(me, Kind::Request, to, [0; 32], &terms.note, rng);
        // Asking again is the same question: an answer to either gives one secret.
        message.nonce = self.outgoing.get(&to).map_or(message.nonce, |before| before.nonce);
        let bytes = message.emit(me.identity);
        let outgoing = Outgoing {
            record: record.clone(),
            ports: terms.ports.clone(),
            nonce: message.nonce,
            hash: hash::blake2s(&[&bytes]),
            expires: message.expires,
            verified: terms.verified,
        };
        self.outgoing.insert(to, outgoing);
        self.changed();
        Ok(bytes)
    }

    /// Approves a pending request; returns the accept to send.
    ///
    /// # Errors
    /// `Unknown`, `Full` ([`PINS_MAX`]), `AddressTaken`.
    pub fn approve(
        &mut self,
        me: &Me<'_>,
        key: &IdentityKey,
        terms: &Terms,
        rng: &mut Rng,
    ) -> Result<Vec<u8>, TrustError> {
        let request = self.pending.get(key).ok_or(TrustError::Unknown)?.clone();
        self.check_new_pin(&request.record)?;
        let message = self.message(me, Kind::Accept, *key, request.hash, "", rng);
        let secret = pair_secret(me.identity, &request.record.static_key, &request.nonce, &message.nonce);
        self.pending.remove(key);
        self.outgoing.remove(key);
        // The owner has seen this node's name just now, and means this node by it from now on.
        self.take_name_away(&request.record);
        let since = self.epochs.get(key).copied().unwrap_or_default();
        self.insert_pin(me, &request.record, terms, (secret, since));
        self.changed();
        Ok(message.emit(me.identity))
    }

    /// Declines a pending request; returns the message to send.
    ///
    /// # Errors
    /// `Unknown`.
    pub fn reject(&mut self, me: &Me<'_>, key: &IdentityKey, note: &str, rng: &mut Rng) -> Result<Vec<u8>, TrustError> {
        let request = self.pending.remove(key).ok_or(TrustError::Unknown)?;
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

    /// Remembers where a peer was reached.
    pub fn note_endpoint(&mut self, key: &IdentityKey, endpoint: SocketAddr) {
        if let Some(pin) = self.pins.get_mut(key) {
            pin.last_endpoint = Some(endpoint);
        }
    }

    /// Removes expired pins and returns their keys.
    pub fn expire_pins(&mut self, now_s: u64) -> Vec<IdentityKey> {
        let over: Vec<_> =
            self.pins.values().filter(|p| p.not_after.is_some_and(|at| at <= now_s)).map(|p| p.identity).collect();
        over.iter().for_each(|key| drop(self.remove_pin(key)));
        if !over.is_empty() {
            self.changed();
        }
        over
    }

    // Input.

    /// Takes a trust message that was opened from its seal.
    pub fn receive(&mut self, me: &Me<'_>, bytes: &[u8]) -> Outcome {
        let Ok(message) = Message::parse(bytes) else { return Outcome::Discarded(Discarded::Malformed) };
        match self.admit(me, &message) {
            Err(reason) => Outcome::Discarded(reason),
            Ok(()) => {
                let outcome = match message.kind {
                    Kind::Request => self.receive_request(me, &message, hash::blake2s(&[bytes])),
                    Kind::Accept => self.receive_accept(me, &message),
                    Kind::Reject => self.receive_reject(&message),
                    Kind::Revoke => self.receive_revoke(&message),
                    // These have marks of their own in the pin.
                    Kind::Statement => return self.receive_statement(&message),
                    Kind::Wish => return self.receive_wish(me, &message, bytes),
                };
                if !matches!(outcome, Outcome::Discarded(_)) {
                    debug_assert!(self.epochs.get(&message.from).is_none_or(|last| *last < message.epoch));
                    self.note_epoch(message.from, message.epoch);
                    self.changed();
                }
                outcome
            }
        }
    }

    fn admit(&self, me: &Me<'_>, message: &Message) -> Result<(), Discarded> {
        if message.to != me.identity.public() || message.from == message.to {
            return Err(Discarded::NotForUs);
        }
        if message.issued > me.now_s + CLOCK_SKEW_S || message.expires < me.now_s {
            return Err(Discarded::Expired);
        }
        let has_mark = matches!(message.kind, Kind::Statement | Kind::Wish);
        if !has_mark && self.epochs.get(&message.from).is_some_and(|last| message.epoch <= *last) {
            return Err(Discarded::Replayed);
        }
        Ok(())
    }

    fn receive_request(&mut self, me: &Me<'_>, message: &Message, hash: [u8; 32]) -> Outcome {
        let Ok(record) = NodeRecord::parse(&message.record) else { return Outcome::Discarded(Discarded::Malformed) };
        if record.identity != message.from {
            return Outcome::Discarded(Discarded::Malformed);
        }
        self.expire(me.now_s);
        let pinned = self.pins.get(&message.from).map(|pin| pin.secret);
        if let Some(ours) = self.outgoing.get(&message.from).cloned() {
            match pinned {
                None => return self.cross(me, &ours, message),
                Some(secret) if secret == crossed_secret(me, &ours, message) => {
                    return Outcome::Discarded(Discarded::AlreadyTrusted); // the request that crossed ours, once more
                }
                Some(_) => {}
            }
        }
        if self.waiting() >= PENDING_MAX && !self.pending.contains_key(&message.from) {
            return Outcome::Discarded(Discarded::Full);
        }
        // A pinned peer that asks has no pin of us any more: its owner asks anew, and ours decides anew.
        self.remove_pin(&message.from);
        let request =
            PendingRequest { record, note: message.note.clone(), received_at: me.now_s, nonce: message.nonce, hash };
        self.pending.insert(message.from, request);
        Outcome::Pending(message.from)
    }

    /// Two requests crossed: both owners have said yes, and both sides know both nonces. Ours stays, so that theirs is
    /// recognised when it comes again.
    fn cross(&mut self, me: &Me<'_>, ours: &Outgoing, theirs: &Message) -> Outcome {
        if let Err(reason) = self.check_new_pin(&ours.record) {
            let taken = if reason == TrustError::AddressTaken { Discarded::AddressTaken } else { Discarded::Full };
            return Outcome::Discarded(taken);
        }
        let secret = crossed_secret(me, ours, theirs);
        let terms = Terms { ports: ours.ports.clone(), verified: ours.verified, ..Terms::default() };
        self.insert_pin(me, &ours.record, &terms, (secret, theirs.epoch));
        Outcome::Pinned(theirs.from)
    }

    fn receive_accept(&mut self, me: &Me<'_>, message: &Message) -> Outcome {
        let Some(ours) = self.outgoing.get(&message.from).filter(|o| o.hash == message.in_reply_to).cloned() else {
            return Outcome::Discarded(Discarded::Unsolicited);
        };
        // The record is the one we asked, or a newer one of the same identity.
        let record = NodeRecord::parse(&message.record).ok().filter(|r| r.identity == message.from);
        let Some(record) = record else { return Outcome::Discarded(Discarded::Malformed) };
        if self.check_new_pin(&record).is_err() {
            return Outcome::Discarded(Discarded::AddressTaken);
        }
        let secret = pair_secret(me.identity, &record.static_key, &ours.nonce, &message.nonce);
        self.outgoing.remove(&message.from);
        self.pending.remove(&message.from);
        let terms = Terms { ports: ours.ports, verified: ours.verified, ..Terms::default() };
        self.insert_pin(me, &record, &terms, (secret, message.epoch));
        Outcome::Pinned(message.from)
    }

    fn receive_reject(&mut self, message: &Message) -> Outcome {
        if self.outgoing.get(&message.from).is_none_or(|o| o.hash != message.in_reply_to) {
            return Outcome::Discarded(Discarded::Unsolicited);
        }
        self.outgoing.remove(&message.from);
        self.pins.remove(&message.from);
        Outcome::Rejected(message.from)
    }

    fn receive_revoke(&mut self, message: &Message) -> Outcome {
        let known = self.remove_pin(&message.from).is_some() | self.pending.remove(&message.from).is_some();
        if known { Outcome::Revoked(message.from) } else { Outcome::Discarded(Discarded::Unsolicited) }
    }

    // Helpers.

    const fn changed(&mut self) {
        self.version.0 += 1;
    }

    /// Ends trust in a key, and what was asked of it before.
    fn remove_pin(&mut self, key: &IdentityKey) -> Option<Pin> {
        let pin = self.pins.remove(key)?;
        self.outgoing.remove(key);
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
            issued: me.now_s,
            expires: me.now_s + REQUEST_LIFETIME_S,
            epoch,
            in_reply_to,
            record: if kind.has_record() { me.record.into() } else { Vec::new() },
            note: note.chars().take(NOTE_LEN_MAX / 4).collect(),
            ports: Ports::NONE,
        }
    }

    fn check_new_pin(&self, record: &NodeRecord) -> Result<(), TrustError> {
        if self.pins.len() >= PINS_MAX {
            return Err(TrustError::Full);
        }
        let taken = self.pins.values().any(|p| p.addr == record.addr && p.identity != record.identity);
        if taken { Err(TrustError::AddressTaken) } else { Ok(()) }
    }

    /// Lets the newest record have its name: another pin of that name is called by its address from now on.
    fn take_name_away(&mut self, record: &NodeRecord) {
        for (_, pin) in &mut self.pins {
            if pin.identity != record.identity
                && pin.hostname == record.hostname
                && pin.marks.sequence <= record.sequence
            {
                pin.hostname.clear();
            }
        }
    }

    /// `since`: the epoch of the message that makes the pin; what the peer says of grants has greater ones.
    fn insert_pin(&mut self, me: &Me<'_>, record: &NodeRecord, terms: &Terms, (secret, since): ([u8; 32], u64)) {
        let is_taken = self.is_name_taken(record);
        let stated = self.next_epoch(me.now_s);
        let pin = Pin {
            identity: record.identity,
            static_key: record.static_key,
            addr: record.addr,
            hostname: if is_taken { String::new() } else { record.hostname.clone() },
            ports: terms.ports.clone(),
            temporary: Vec::new(),
            granted: None,
            wish: None,
            asked: None,
            secret,
            approved_at: me.now_s,
            not_after: terms.not_after,
            verified: terms.verified,
            last_endpoint: None,
            quota: None,
            marks: Marks {
                stated,
                heard: since,
                wished: since,
                sequence: if is_taken { 0 } else { record.sequence },
                answered: [0; 32],
            },
        };
        debug_assert!(self.check_new_pin(record).is_ok(), "two pins with one address");
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
        self.epochs.insert(key, epoch);
    }

    fn expire(&mut self, now_s: u64) {
        self.outgoing.retain(|_, o| o.expires > now_s);
        self.pending.retain(|_, p| p.received_at + REQUEST_LIFETIME_S > now_s);
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
}

/// A secret that only the two sides know: made of what their static keys share and of both nonces, which travel sealed.
fn pair_secret(identity: &Identity, peer: &StaticKey, first: &[u8; 32], second: &[u8; 32]) -> [u8; 32] {
    // A static key of low order shares nothing; its node cannot finish any key handshake, which hurts only itself.
    let shared = identity.static_pair().agree(&peer.0).unwrap_or([0; 32]);
    hash::derive(&shared, &[b"pn1-pair", first, second])
}

/// The pair secret that two crossing requests make.
fn crossed_secret(me: &Me<'_>, ours: &Outgoing, theirs: &Message) -> [u8; 32] {
    let is_first = me.identity.public() < theirs.from;
    let (first, second) = if is_first { (&ours.nonce, &theirs.nonce) } else { (&theirs.nonce, &ours.nonce) };
    pair_secret(me.identity, &ours.record.static_key, first, second)
}

#[cfg(test)]
mod tests;
