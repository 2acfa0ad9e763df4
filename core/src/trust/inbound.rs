//! Owns the effects of received trust messages, and which of them count.

use super::CLOCK_SKEW_S;
use super::message::{Kind, Message};
use super::{Discarded, Me, Outcome, Outgoing, PENDING_MAX, PendingRequest, Terms, TrustBook, TrustError, pair_secret};
use crate::hash;
use crate::identity::NodeRecord;

impl TrustBook {
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
}

/// The pair secret that two crossing requests make.
fn crossed_secret(me: &Me<'_>, ours: &Outgoing, theirs: &Message) -> [u8; 32] {
    let is_first = me.identity.public() < theirs.from;
    let (first, second) = if is_first { (&ours.nonce, &theirs.nonce) } else { (&theirs.nonce, &ours.nonce) };
    pair_secret(me.identity, &ours.record.static_key, first, second)
}
