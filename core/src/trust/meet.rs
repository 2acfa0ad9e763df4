//! Owns how two members of one group come to trust each other without a question to any owner.
//!
//! ```text
//!   A: MEET  {request, proof of A's membership} ──▶ B: judges it by its own roster and allowance, a pin of A
//!   A: a pin of B  ◀── MET  {accept, proof of B's membership}, or a refusal with its reason
//! ```
//! Both travel as letters. A node that has entered by the code of an enrolment asks by a JOIN under the secret of the group instead, since
//! the code has no static keys, and is answered by a welcome (`join`). A sender without a proof that B's group accepts gets no answer. The nonce of the answer follows from that of the request, as with a
//! join, so that the same letter again has the same answer.
//!
//! One of two members may have lost its pin while the other one keeps its own: it left and came back, and the other one heard of both
//! at once. The question of the other one, whether the secrets are the same, is answered by a MEET.

use super::groups::record_of;
use super::join::Joined;
use super::message::{Kind, Message};
use super::{
    Discarded, GroupError, JoinRefusal, Me, OUTGOING_MAX, Outcome, Outgoing, PINS_MAX, Ports, REQUEST_LIFETIME_S,
    Terms, TrustBook, pair_secret,
};
use crate::codec::Reader;
use crate::group::{Credentials, Group, GroupId, Refusal};
use crate::hash;
use crate::identity::{IdentityKey, NodeRecord, StaticKey};
use crate::rng::Rng;
use alloc::vec::Vec;

/// True for an opened letter that looks like a MEET.
pub(crate) fn is_meet(message: &[u8]) -> bool {
    message.first() == Some(&(Kind::Meet as u8))
}

impl TrustBook {
    /// Asks another member of a group, which its roster has; returns the member's static key and the message.
    ///
    /// # Errors
    /// `Unknown`, `NotAMember`, `AlreadyTrusted`, `Full`.
    pub fn meet(
        &mut self,
        me: &Me<'_>,
        id: &GroupId,
        key: &IdentityKey,
        rng: &mut Rng,
    ) -> Result<(StaticKey, Vec<u8>), GroupError> {
        let at = self.groups.position(id).ok_or(GroupError::Unknown)?;
        let record = record_of(self.groups.list[at].roster.judge(self.group_time(me.common_s)).standing(key)?);
        if self.pins.contains_key(key) || *key == me.identity.public() {
            return Err(GroupError::AlreadyTrusted);
        }
        let static_key = record.static_key;
        Ok((static_key, self.ask_member(me, id, record, rng)?))
    }

    /// Answers the question of another member whether the secrets are the same, where this node has none with it, or another one by
    /// groups alone: it asks the member, and both get a new one. No owner has to decide about what the groups give. `None` for
    /// any other request, which waits for the owner.
    pub(crate) fn meet_anew(&mut self, me: &Me<'_>, key: &IdentityKey, rng: &mut Rng) -> Option<(StaticKey, Vec<u8>)> {
        let epoch = self.pending.get(key).filter(|request| request.is_question)?.epoch;
        if self.pins.get(key).is_some_and(|pin| pin.by_hand) {
            return None;
        }
        let (own, now_s) = (me.identity.public(), self.group_time(me.common_s));
        let (id, record) = self.groups.list.iter().find_map(|membership| {
            let judge = membership.roster.judge(now_s);
            judge.standing(&own).ok()?;
            let theirs = judge.standing(key).ok().filter(|row| !membership.allowed(row.role).is_empty())?;
            Some((membership.roster.id(), record_of(theirs)))
        })?;
        let static_key = record.static_key;
        let message = self.ask_member(me, &id, record, rng).ok()?;
        self.pending.remove(key);
        self.note_epoch(*key, epoch);
        Some((static_key, message))
    }

    /// Asks the member with this record.
    pub(super) fn ask_member(
        &mut self,
        me: &Me<'_>,
        id: &GroupId,
        record: NodeRecord,
        rng: &mut Rng,
    ) -> Result<Vec<u8>, GroupError> {
        let key = record.identity;
        self.expire(me.earliest_s());
        if self.outgoing.len() >= OUTGOING_MAX && !self.outgoing.contains_key(&key) || self.pins.len() >= PINS_MAX {
            return Err(GroupError::Full);
        }
        let mut membership = Vec::new();
        self.own_credentials(me, id)?.emit(&mut membership);
        let mut message = Message { membership, ..self.message(me, Kind::Meet, key, [0; 32], "", rng) };
        // Asking again is the same question.
        let before = self.outgoing.get(&key).filter(|before| before.is_join && before.group == Some(*id));
        message.nonce = before.map_or(message.nonce, |before| before.nonce);
        let bytes = message.emit(me.identity);
        let outgoing = Outgoing {
            record,
            ports: Ports::NONE,
            nonce: message.nonce,
            hash: hash::blake2s(&[&bytes]),
            expires: me.now_s.saturating_add(REQUEST_LIFETIME_S),
            verified: true,
            quota: None,
            not_after: None,
            is_question: false,
            is_anew: false,
            is_stale: false,
            is_join: true,
            group: Some(*id),
        };
        self.outgoing.insert(key, outgoing);
        self.changed();
        Ok(bytes)
    }

    /// Takes a MEET that came as a letter.
    pub(crate) fn receive_meet(&mut self, me: &Me<'_>, bytes: &[u8], rng: &mut Rng) -> Joined {
        self.receive_member(me, bytes, Kind::Met, rng)
    }

    /// Takes a MEET, and answers with this kind of message.
    pub(super) fn receive_member(&mut self, me: &Me<'_>, bytes: &[u8], answer: Kind, rng: &mut Rng) -> Joined {
        let Ok(message) = Message::parse(bytes) else { return Discarded::Malformed.into() };
        let (key, own) = (message.from, me.identity.public());
        if message.kind != Kind::Meet || message.to != own || key == own {
            return Discarded::NotForUs.into();
        }
        let record = NodeRecord::parse(&message.record).ok().filter(|record| record.identity == key);
        let proof = Credentials::parse(&mut Reader::new(&message.membership));
        let (Some(record), Ok(proof)) = (record, proof) else { return Discarded::Malformed.into() };
        let nonce =
            hash::derive(&zeroize::Zeroizing::new(me.identity.seed()), &[b"pn1-meet-nonce", &key.0, &message.nonce]);
        let secret = pair_secret(me.identity, &record.static_key, &message.nonce, &nonce);
        let known = self.pins.get(&key).is_some_and(|pin| *pin.secret == secret);
        if !known && message.epoch <= self.epoch_of(&key) {
            return Discarded::Replayed.into();
        }
        // Of two that ask each other, the one with the greater key answers.
        if !known && own < key && self.outgoing.get(&key).is_some_and(|ours| ours.is_join) {
            return Discarded::Unsolicited.into();
        }
        let judged = match self.judge_member(me, &proof, &record) {
            Err(None) => return Discarded::NotAMember.into(),
            Err(Some(refusal)) => Err(refusal),
            Ok(()) => Ok(nonce),
        };
        let asked = (&message, hash::blake2s(&[bytes]));
        let answer = self.answer_member(me, asked, (answer, judged), &proof.group, rng);
        let answer = answer.map(|answer| (key, record.static_key, answer));
        if known || judged.is_err() {
            let why = if known { Discarded::AlreadyTrusted } else { Discarded::Uninvited };
            return Joined { outcome: Outcome::Discarded(why), answer };
        }
        self.outgoing.remove(&key);
        self.pending.remove(&key);
        self.note_epoch(key, message.epoch);
        self.insert_group_pin(me, &record, (secret, message.epoch));
        Joined { outcome: Outcome::Pinned(key), answer }
    }

    /// Judges a member that asks; `Err(None)` for a node that is none.
    fn judge_member(
        &mut self,
        me: &Me<'_>,
        proof: &Credentials,
        record: &NodeRecord,
    ) -> Result<(), Option<JoinRefusal>> {
        let mut news = Vec::new();
        self.take_rows(me, &record.identity, &proof.group, &proof.rows, true, &mut news);
        let at = self.groups.position(&proof.group).ok_or(None)?;
        let (membership, now_s) = (&self.groups.list[at], self.group_time(me.common_s));
        let judge = membership.roster.judge(now_s);
        let theirs = match judge.standing(&record.identity) {
            Ok(theirs) => theirs,
            Err(Refusal::Removed) => return Err(Some(JoinRefusal::Removed)),
            Err(Refusal::Ended) => return Err(Some(self.refusal_of(me, proof).unwrap_or(JoinRefusal::Ended))),
            Err(_) => return Err(self.refusal_of(me, proof)),
        };
        if judge.standing(&me.identity.public()).is_err() || membership.allowed(theirs.role).is_empty() {
            return Err(Some(JoinRefusal::NotAllowed));
        }
        self.check_new_pin(record).map_err(|why| match why {
            super::TrustError::AddressTaken => Some(JoinRefusal::AddressTaken),
            _ => Some(JoinRefusal::Full),
        })
    }

    fn answer_member(
        &mut self,
        me: &Me<'_>,
        (asked, hash): (&Message, [u8; 32]),
        (kind, judged): (Kind, Result<[u8; 32], JoinRefusal>),
        group: &GroupId,
        rng: &mut Rng,
    ) -> Option<Vec<u8>> {
        let key = asked.from;
        let message = match judged {
            Ok(nonce) => {
                let mut membership = Vec::new();
                if kind == Kind::Welcome {
                    self.groups.list[self.groups.position(group)?].roster.group().emit(&mut membership);
                }
                self.own_credentials(me, group).ok()?.emit(&mut membership);
                Message { nonce, membership, ..self.message(me, kind, key, hash, "", rng) }
            }
            Err(why) => Message { invite: why.number().into(), ..self.message(me, Kind::Refuse, key, hash, "", rng) },
        };
        Some(message.emit(me.identity))
    }

    /// The member that was asked has taken this node.
    pub(super) fn receive_met(&mut self, me: &Me<'_>, message: &Message) -> Outcome {
        let is_ours = |ours: &&Outgoing| ours.is_join && ours.hash == message.in_reply_to;
        let Some(ours) = self.outgoing.get(&message.from).filter(is_ours).cloned() else {
            return Outcome::Discarded(Discarded::Unsolicited);
        };
        let record = NodeRecord::parse(&message.record).ok().filter(|record| record.identity == message.from);
        let proof = Credentials::parse(&mut Reader::new(&message.membership));
        let (Some(record), Ok(proof)) = (record, proof) else { return Outcome::Discarded(Discarded::Malformed) };
        let is_member = ours.group == Some(proof.group)
            && self.take_rows(me, &message.from, &proof.group, &proof.rows, true, &mut Vec::new());
        if !is_member {
            return Outcome::Discarded(Discarded::NotAMember);
        }
        self.pin_answered(me, &ours, &record, message)
    }

    /// What an admin tells a node that has joined: the group, and the rows that make it a member.
    pub(super) fn welcome(&self, me: &Me<'_>, id: &GroupId, joiner: &IdentityKey) -> Option<Vec<u8>> {
        let membership = &self.groups.list[self.groups.position(id)?];
        let judge = membership.roster.judge(self.group_time(me.common_s));
        let mut rows = judge.credentials(&me.identity.public()).ok()?;
        rows.extend(judge.credentials(joiner).ok()?.into_iter().filter(|row| !rows.contains(row)).collect::<Vec<_>>());
        let mut out = Vec::new();
        membership.roster.group().emit(&mut out);
        Credentials { group: *id, rows }.emit(&mut out);
        Some(out)
    }

    /// The maker of a group's code has taken this node.
    pub(super) fn receive_welcome(&mut self, me: &Me<'_>, message: &Message) -> Outcome {
        let is_ours = |ours: &&Outgoing| ours.is_join && ours.hash == message.in_reply_to;
        let Some(ours) = self.outgoing.get(&message.from).filter(is_ours).cloned() else {
            return Outcome::Discarded(Discarded::Unsolicited);
        };
        let mut r = Reader::new(&message.membership);
        let (Ok(group), Ok(proof)) = (Group::parse(&mut r), Credentials::parse(&mut r)) else {
            return Outcome::Discarded(Discarded::Malformed);
        };
        // The code names the group that this owner has agreed to.
        if ours.group != Some(group.id()) || proof.group != group.id() {
            return Outcome::Discarded(Discarded::NotAMember);
        }
        if self.enter_group(me, group, &proof.rows, ours.ports.clone()).is_err() {
            self.outgoing.remove(&message.from);
            return Outcome::JoinRefused(message.from, JoinRefusal::Group);
        }
        let now_s = self.group_time(me.common_s);
        let inviter = self
            .groups
            .get_mut(&proof.group)
            .and_then(|membership| membership.roster.judge(now_s).standing(&message.from).ok().map(record_of));
        match inviter {
            Some(record) => self.pin_answered(me, &ours, &record, message),
            None => Outcome::Discarded(Discarded::NotAMember),
        }
    }

    /// Pins the member that has answered what this node asked.
    fn pin_answered(&mut self, me: &Me<'_>, ours: &Outgoing, record: &NodeRecord, message: &Message) -> Outcome {
        if self.check_new_pin(record).is_err() {
            return Outcome::Discarded(Discarded::AddressTaken);
        }
        let secret = pair_secret(me.identity, &record.static_key, &ours.nonce, &message.nonce);
        self.outgoing.remove(&message.from);
        self.pending.remove(&message.from);
        self.insert_group_pin(me, record, (secret, message.epoch));
        Outcome::Pinned(message.from)
    }

    /// Makes a pin that has what its groups give it; a pin by hand stays one.
    fn insert_group_pin(&mut self, me: &Me<'_>, record: &NodeRecord, made: ([u8; 32], u64)) {
        let by_hand = self.pins.get(&record.identity).is_some_and(|pin| pin.by_hand);
        let not_after = self.pins.get(&record.identity).and_then(|pin| pin.not_after);
        self.insert_pin(me, record, &Terms { verified: true, not_after, ports: Ports::NONE, ..Terms::default() }, made);
        self.pins.get_mut(&record.identity).into_iter().for_each(|pin| pin.by_hand = by_hand);
        self.give_grants(me, &record.identity);
        self.changed();
    }
}
