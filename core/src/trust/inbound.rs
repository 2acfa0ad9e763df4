//! Owns the effects of received trust messages, and which of them count.

use super::message::{Kind, Message};
use super::{
    Discarded, Me, Outcome, Outgoing, PendingRequest, Source, Terms, TrustBook, TrustError, pair_secret, proof_of,
};
use crate::hash;
use crate::identity::NodeRecord;

impl TrustBook {
    // Input.

    /// Takes a trust message that was opened from its seal. `source`: the network from which it was posted, if known.
    pub fn receive(&mut self, me: &Me<'_>, bytes: &[u8], source: Option<Source>) -> Outcome {
        let Ok(message) = Message::parse(bytes) else { return Outcome::Discarded(Discarded::Malformed) };
        if let Err(reason) = self.admit(me, &message) {
            return Outcome::Discarded(reason);
        }
        let outcome = match message.kind {
            Kind::Request => self.receive_request(me, &message, (hash::blake2s(&[bytes]), source)),
            Kind::Accept => self.receive_accept(me, &message),
            Kind::Reject => self.receive_reject(&message),
            Kind::Revoke => return self.receive_revoke(&message),
            // These have marks of their own in the pin.
            Kind::Statement => return self.receive_statement(me, &message),
            Kind::Wish => return self.receive_wish(me, &message, bytes),
            Kind::Refuse => self.receive_refusal(me, &message),
            Kind::Met => self.receive_met(me, &message),
            Kind::Welcome => self.receive_welcome(me, &message),
            // Without the proof of an invite the first says nothing; the second one has a door of its own.
            Kind::Join | Kind::Meet => Outcome::Discarded(Discarded::Unsolicited),
        };
        match outcome {
            Outcome::Discarded(_) => {}
            // The request that waits has its epoch: any number of strangers' takes no other room.
            Outcome::Pending(_) => self.changed(),
            _ => {
                self.note_epoch(message.from, message.epoch);
                self.changed();
            }
        }
        outcome
    }

    fn admit(&self, me: &Me<'_>, message: &Message) -> Result<(), Discarded> {
        if message.to != me.identity.public() || message.from == message.to {
            return Err(Discarded::NotForUs);
        }
        // A revocation is never too old. A message from the future is as good as its sender's clock is bad.
        if message.kind != Kind::Revoke && message.expires < me.earliest_s() {
            return Err(Discarded::Expired);
        }
        let has_mark = matches!(message.kind, Kind::Statement | Kind::Wish);
        if !has_mark && message.epoch <= self.epoch_of(&message.from) {
            return Err(Discarded::Replayed);
        }
        Ok(())
    }

    fn receive_request(
        &mut self,
        me: &Me<'_>,
        message: &Message,
        (hash, source): ([u8; 32], Option<Source>),
    ) -> Outcome {
        let Ok(record) = NodeRecord::parse(&message.record) else { return Outcome::Discarded(Discarded::Malformed) };
        if record.identity != message.from {
            return Outcome::Discarded(Discarded::Malformed);
        }
        self.expire(me.earliest_s());
        let is_question = message.in_reply_to != [0; 32];
        let pinned = self.pins.get(&message.from).map(|pin| *pin.secret);
        if pinned.is_some_and(|secret| message.in_reply_to == proof_of(&secret)) {
            return Outcome::Discarded(Discarded::AlreadyTrusted);
        }
        if let Some(ours) = self.outgoing.get(&message.from).filter(|ours| !ours.is_stale && !ours.is_join).cloned() {
            match pinned {
                None if !is_question => return self.cross(me, &ours, message),
                Some(secret) if secret == crossed_secret(me, &ours, message) => {
                    return Outcome::Discarded(Discarded::AlreadyTrusted); // the request that crossed ours, once more
                }
                Some(_) if ours.is_anew && !is_question => return self.cross(me, &ours, message),
                _ => {}
            }
        }
        let request = PendingRequest {
            record,
            note: message.note.clone(),
            received_at: me.now_s,
            is_seen: false,
            is_question,
            source,
            epoch: message.epoch,
            nonce: message.nonce,
            hash,
        };
        self.keep_request(request);
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
        let not_after = ours.not_after.or(self.pins.get(&theirs.from).and_then(|pin| pin.not_after));
        let terms = ours.terms(not_after);
        self.insert_pin(me, &ours.record, &terms, (secret, theirs.epoch));
        self.pending.remove(&theirs.from);
        if let Some(ours) = self.outgoing.get_mut(&theirs.from) {
            ours.is_anew = false; // the other side may have lost ours: whether it has this secret may be asked
        }
        Outcome::Pinned(theirs.from)
    }

    fn receive_accept(&mut self, me: &Me<'_>, message: &Message) -> Outcome {
        let Some(ours) =
            self.outgoing.get(&message.from).filter(|o| o.hash == message.in_reply_to && !o.is_question).cloned()
        else {
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
        // The earlier of both owners' ends.
        let theirs = message.end.map(|at| me.heard(at, message.issued));
        let terms = ours.terms(ours.not_after.into_iter().chain(theirs).min());
        self.insert_pin(me, &record, &terms, (secret, message.epoch));
        Outcome::Pinned(message.from)
    }

    fn receive_reject(&mut self, message: &Message) -> Outcome {
        if self.outgoing.get(&message.from).is_none_or(|o| o.hash != message.in_reply_to) {
            return Outcome::Discarded(Discarded::Unsolicited);
        }
        if self.remove_pin(&message.from).is_none() {
            self.outgoing.remove(&message.from);
        }
        Outcome::Rejected(message.from)
    }

    fn receive_revoke(&mut self, message: &Message) -> Outcome {
        let from = message.from;
        let is_asked = self.outgoing.get_mut(&from).map(|ours| ours.is_stale = true).is_some();
        let (had_pin, had_asked) = (self.remove_pin(&from).is_some(), self.pending.remove(&from).is_some());
        self.changed();
        if had_pin || is_asked {
            self.note_epoch(from, message.epoch);
        } else {
            self.note_revocation(from, message.epoch);
        }
        match (had_pin, had_asked) {
            (true, _) => Outcome::Revoked(from),
            (false, true) => Outcome::Cancelled(from),
            (false, false) => Outcome::Discarded(Discarded::Unsolicited),
        }
    }
}

impl Outgoing {
    /// What the owner said when the node was asked; the trust ends at `not_after`.
    fn terms(&self, not_after: Option<u64>) -> Terms {
        let (ports, verified, quota) = (self.ports.clone(), self.verified, self.quota);
        Terms { ports, verified, quota, not_after, ..Terms::default() }
    }
}

/// The pair secret that two crossing requests make.
fn crossed_secret(me: &Me<'_>, ours: &Outgoing, theirs: &Message) -> [u8; 32] {
    let is_first = me.identity.public() < theirs.from;
    let (first, second) = if is_first { (&ours.nonce, &theirs.nonce) } else { (&theirs.nonce, &ours.nonce) };
    pair_secret(me.identity, &ours.record.static_key, first, second)
}
