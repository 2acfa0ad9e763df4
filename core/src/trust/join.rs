//! Owns how a node joins another one by a pairing code: two messages, sealed and proven by the secret of the invite.
//!
//! ```text
//!   joiner: JOIN   {request, number of the invite} under a key of the secret ──▶ inviter: a use is counted, a pin
//!   joiner: a pin  ◀── accept, or refusal with its reason, sealed to the joiner's static key
//! ```
//! Both travel as letters, or directly between the two, in one datagram each. The inviter's static key is in no code, so that
//! a JOIN is sealed under the secret alone: its tag is the proof, over both identity keys and the nonce of the request. A node that knows
//! the secret may join in any case. The secret of the pair comes from both static keys as ever.
//!
//! The inviter's nonce follows from the JOIN's. The same JOIN again is thus recognised, counts no use and has the same answer.

use super::invites::{InviteState, JoinRefusal, WRONG_MAX};
use super::message::{Kind, Message};
use super::{Asking, Discarded, Me, Outcome, Terms, TrustBook, TrustError, pair_secret};
use crate::aead::{AeadProvider as _, PORTABLE, TAG_LEN};
use crate::codec::{Put as _, Reader};
use crate::group::{Group, GroupId, Role};
use crate::hash;
use crate::identity::{IdentityKey, NodeRecord, StaticKey};
use crate::invite::{InviteCode, InviteId, InviteSecret};
use crate::rng::Rng;
use crate::wire::{DATAGRAM_LEN_BASE, VERSION};
use alloc::vec::Vec;

/// First byte of a JOIN. Source: `docs/wire.md`, "Join".
const JOIN: u8 = 10;
/// First byte of the answer, which is never longer.
const ANSWER: u8 = 11;
/// Bytes before the sealed part of a JOIN: type, version, zeros, number of the invite, salt.
const HEAD_LEN: usize = 8 + SALT_LEN;
const SALT_LEN: usize = 32;
/// Length of every JOIN. Unit: bytes.
const JOIN_LEN: usize = DATAGRAM_LEN_BASE;
/// Bytes before the message in an answer.
const ANSWER_HEAD: [u8; 4] = [ANSWER, VERSION, 0, 0];

/// What a JOIN has done.
#[derive(Debug)]
pub(crate) struct Joined {
    pub(crate) outcome: Outcome,
    /// The answer, with the joiner's keys.
    pub(crate) answer: Option<(IdentityKey, StaticKey, Vec<u8>)>,
}

impl From<Outcome> for Joined {
    fn from(outcome: Outcome) -> Self {
        Self { outcome, answer: None }
    }
}

impl From<Discarded> for Joined {
    fn from(reason: Discarded) -> Self {
        Outcome::Discarded(reason).into()
    }
}

/// True for a datagram that looks like a JOIN.
pub(crate) fn is_join(datagram: &[u8]) -> bool {
    datagram.len() == JOIN_LEN && datagram.starts_with(&[JOIN, VERSION, 0, 0])
}

/// The sealed message in an answer; `None` for another datagram.
pub(crate) fn parse_answer(datagram: &[u8]) -> Option<&[u8]> {
    datagram.strip_prefix(&ANSWER_HEAD).filter(|_| datagram.len() <= JOIN_LEN)
}

/// The datagram that answers a JOIN with a message.
pub(crate) fn answer(to: &StaticKey, message: &[u8], rng: &mut Rng) -> Vec<u8> {
    let mut out = Vec::from(ANSWER_HEAD);
    out.put(&to.seal(message, rng));
    debug_assert!(out.len() <= JOIN_LEN, "{} bytes", out.len());
    out
}

impl TrustBook {
    /// Makes the request of the holder of a code, sealed for the inviter alone. Its length is that of one datagram.
    ///
    /// # Errors
    /// `Oneself`; `AlreadyTrusted`; `NoteTooLong`; `Full` ([`OUTGOING_MAX`](super::OUTGOING_MAX)).
    pub fn join(
        &mut self,
        me: &Me<'_>,
        code: &InviteCode,
        terms: &Terms,
        rng: &mut Rng,
    ) -> Result<Vec<u8>, TrustError> {
        // The inviter's record comes with its answer.
        let record = NodeRecord::unsigned(code.inviter, StaticKey([0; 32]), code.addr, "");
        match self.check_request(me, &code.inviter, terms) {
            Err(TrustError::AlreadyTrusted) if code.group.is_some_and(|group| !self.is_member(me, &group)) => {} // a peer may let this node into a group
            checked => checked?,
        }
        let terms = Terms { verified: true, ..terms.clone() };
        let message = self.ask(me, &record, &terms, Asking::Join(code.invite, code.group), rng)?;
        seal((&code.inviter, code.invite, &code.secret), &message, rng).ok_or(TrustError::NoteTooLong)
    }

    /// Takes a JOIN for this node.
    pub(crate) fn receive_join(&mut self, me: &Me<'_>, datagram: &[u8], rng: &mut Rng) -> Joined {
        if let Some(message) = self.open_for_group(me, datagram) {
            return self.receive_member(me, &message, Kind::Welcome, rng);
        }
        let (id, invite) = match self.open_join(me, datagram) {
            Ok(opened) => opened,
            Err(outcome) => return outcome.into(),
        };
        let Ok(message) = Message::parse(&invite) else { return Discarded::Malformed.into() };
        let record = NodeRecord::parse(&message.record).ok().filter(|record| record.identity == message.from);
        let Some(record) = record else { return Discarded::Malformed.into() };
        if message.kind != Kind::Join || message.invite != id.0 {
            return Discarded::Malformed.into();
        }
        let joiner = Joiner { hash: hash::blake2s(&[&invite]), record, message };
        if joiner.message.to != me.identity.public() || joiner.record.identity == joiner.message.to {
            return Discarded::NotForUs.into();
        }
        self.admit_joiner(me, id, &joiner, rng)
    }

    /// Opens a JOIN under the secret of a group of this node.
    fn open_for_group(&self, me: &Me<'_>, datagram: &[u8]) -> Option<Vec<u8>> {
        let mut r = Reader::new(datagram.get(4..HEAD_LEN)?);
        let (id, salt) = (InviteId(r.u32().ok()?), r.array().ok()?);
        let mut doors = self.groups.list.iter().map(|membership| door(membership.roster.group()));
        let (_, secret) = doors.find(|(number, _)| *number == id)?;
        open(&secret, (&me.identity.public(), id, &salt), &datagram[HEAD_LEN..])
    }

    /// Opens a JOIN; counts one that does not open as a wrong code.
    pub(super) fn open_join(&mut self, me: &Me<'_>, datagram: &[u8]) -> Result<(InviteId, Vec<u8>), Outcome> {
        let mut r = Reader::new(datagram.get(4..HEAD_LEN).unwrap_or_default());
        let (Ok(id), Ok(salt)) = (r.u32(), r.array()) else { return Err(Outcome::Discarded(Discarded::Malformed)) };
        let id = InviteId(id);
        let at = self.invites.list.iter().position(|invite| invite.id == id);
        let Some(at) = at else { return Err(Outcome::Discarded(Discarded::Unsolicited)) };
        let invite = &self.invites.list[at];
        if let Some(message) = open(&invite.secret, (&me.identity.public(), id, &salt), &datagram[HEAD_LEN..]) {
            return Ok((id, message));
        }
        if self.invites.state(invite) != InviteState::Open {
            return Err(Outcome::Discarded(Discarded::Malformed));
        }
        let invite = &mut self.invites.list[at];
        invite.wrong += 1;
        let is_dead = invite.wrong >= WRONG_MAX;
        self.changed();
        Err(if is_dead { Outcome::InviteDead(id) } else { Outcome::Discarded(Discarded::WrongCode) })
    }

    /// Judges the holder of a right code.
    fn admit_joiner(&mut self, me: &Me<'_>, id: InviteId, joiner: &Joiner, rng: &mut Rng) -> Joined {
        let Joiner { record, message, .. } = joiner;
        let key = message.from;
        let Some(at) = self.invites.list.iter().position(|invite| invite.id == id) else {
            return Discarded::Unsolicited.into();
        };
        let invite = &self.invites.list[at];
        let nonce = own_nonce(me, &invite.secret, message);
        let secret = pair_secret(me.identity, &record.static_key, &message.nonce, &nonce);
        if self.pins.get(&key).is_some_and(|pin| *pin.secret == secret) {
            let answer = self.answer_joiner(me, joiner, (Ok(nonce), invite.group), rng);
            return Joined { outcome: Outcome::Discarded(Discarded::AlreadyTrusted), answer };
        }
        if message.epoch <= self.epoch_of(&key) {
            return Discarded::Replayed.into();
        }
        // Two that join each other: one of the two is the inviter.
        if self.outgoing.get(&key).is_some_and(|ours| ours.is_join) && me.identity.public() < key {
            return Discarded::Unsolicited.into();
        }
        let refusal = match (self.invites.state(invite), self.check_new_pin(record)) {
            (InviteState::UsedUp, _) => Some(JoinRefusal::UsedUp),
            (InviteState::Expired, _) => Some(JoinRefusal::Expired),
            (InviteState::Dead, _) => Some(JoinRefusal::Dead),
            (InviteState::Withdrawn, _) => Some(JoinRefusal::Withdrawn),
            (InviteState::Open, Err(TrustError::AddressTaken)) => Some(JoinRefusal::AddressTaken),
            (InviteState::Open, Err(_)) => Some(JoinRefusal::Full),
            (InviteState::Open, Ok(())) => None,
        };
        let group = invite.group.filter(|_| refusal.is_none());
        let issued = group.map(|id| self.issue(me, &id, record, Role::Member));
        let refusal = refusal.or_else(|| issued.and_then(Result::err).map(|_| JoinRefusal::Group));
        if let Some(refusal) = refusal {
            let answer = self.answer_joiner(me, joiner, (Err(refusal), None), rng);
            return Joined { outcome: Outcome::Discarded(Discarded::Uninvited), answer };
        }
        let ports = self.invites.list[at].terms.ports.clone();
        self.invites.list[at].used += 1;
        self.outgoing.remove(&key);
        self.pending.remove(&key);
        self.note_epoch(key, message.epoch);
        let terms = Terms { ports: ports.clone(), verified: true, ..Terms::default() };
        let by_hand = group.is_none() || self.pins.get(&key).is_some_and(|pin| pin.by_hand);
        self.insert_pin(me, record, &terms, (secret, message.epoch));
        if let Some(pin) = self.pins.get_mut(&key) {
            pin.by_hand = by_hand;
            // A peer that joins once more keeps what it was granted.
            pin.ports = pin.ports.with(&ports).unwrap_or(ports);
            pin.verified = true;
        }
        self.give_grants(me, &key);
        self.changed();
        Joined { outcome: Outcome::Pinned(key), answer: self.answer_joiner(me, joiner, (Ok(nonce), group), rng) }
    }

    /// The accept with this nonce, or the refusal.
    fn answer_joiner(
        &mut self,
        me: &Me<'_>,
        joiner: &Joiner,
        (answer, group): (Result<[u8; 32], JoinRefusal>, Option<GroupId>),
        rng: &mut Rng,
    ) -> Option<(IdentityKey, StaticKey, Vec<u8>)> {
        let (key, hash) = (joiner.message.from, joiner.hash);
        let message = match answer {
            Ok(nonce) if group.is_some() => {
                let membership = self.welcome(me, &group?, &key)?;
                Message { nonce, membership, ..self.message(me, Kind::Welcome, key, hash, "", rng) }
            }
            Ok(nonce) => Message { nonce, ..self.message(me, Kind::Accept, key, hash, "", rng) },
            Err(why) => Message { invite: why.number().into(), ..self.message(me, Kind::Refuse, key, hash, "", rng) },
        };
        Some((key, joiner.record.static_key, message.emit(me.identity)))
    }

    /// The inviter refuses.
    pub(super) fn receive_refusal(&mut self, me: &Me<'_>, message: &Message) -> Outcome {
        let is_ours = |ours: &super::Outgoing| ours.is_join && ours.hash == message.in_reply_to;
        if !self.outgoing.get(&message.from).is_some_and(is_ours) {
            return Outcome::Discarded(Discarded::Unsolicited);
        }
        let group = self.outgoing.remove(&message.from).and_then(|ours| ours.group);
        let why = JoinRefusal::from_number(u8::try_from(message.invite).unwrap_or(u8::MAX));
        group.into_iter().for_each(|id| self.forget_enrolment(me, &id, why));
        Outcome::JoinRefused(message.from, why)
    }
}

/// The holder of a right code.
struct Joiner {
    record: NodeRecord,
    message: Message,
    hash: [u8; 32],
}

/// The inviter's nonce for a JOIN: only this node can tell it, and it is the same one when the JOIN comes again.
fn own_nonce(me: &Me<'_>, secret: &InviteSecret, message: &Message) -> [u8; 32] {
    let seed = zeroize::Zeroizing::new(me.identity.seed());
    hash::derive(&seed, &[b"pn1-join-nonce", secret.bytes(), &message.from.0, &message.nonce])
}

/// The key under which one JOIN is sealed.
fn key(
    secret: &InviteSecret,
    (inviter, id, salt): (&IdentityKey, InviteId, &[u8; SALT_LEN]),
) -> zeroize::Zeroizing<[u8; 32]> {
    secret.derive(&[b"pn1-join", &inviter.0, &id.0.to_le_bytes(), salt])
}

/// The JOIN with a message to this node, under a secret that has this number there.
pub(super) fn seal(
    (to, id, secret): (&IdentityKey, InviteId, &InviteSecret),
    message: &[u8],
    rng: &mut Rng,
) -> Option<Vec<u8>> {
    let salt = rng.bytes();
    let mut body = Vec::with_capacity(JOIN_LEN - HEAD_LEN);
    body.put_u16(message.len() as u16);
    body.put(message);
    if body.len() > JOIN_LEN - HEAD_LEN - TAG_LEN {
        return None;
    }
    body.resize(JOIN_LEN - HEAD_LEN, 0);
    PORTABLE.key(&key(secret, (to, id, &salt))).seal(0, &[], &mut body);
    let mut out = Vec::from([JOIN, VERSION, 0, 0]);
    out.put_u32(id.0);
    out.put(&salt);
    out.put(&body);
    debug_assert!(is_join(&out), "{} bytes", out.len());
    Some(out)
}

fn open(secret: &InviteSecret, of: (&IdentityKey, InviteId, &[u8; SALT_LEN]), sealed: &[u8]) -> Option<Vec<u8>> {
    let mut body = sealed.to_vec();
    if !PORTABLE.key(&key(secret, of)).open(0, &[], &mut body) {
        return None;
    }
    let mut r = Reader::new(&body);
    let len = r.u16().ok()?;
    r.take(len.into()).ok().map(Vec::from)
}

/// The secret under which a JOIN to a member of a group is sealed, with the number that names it. Members and holders of codes know
/// both keys of a group, and no rendezvous does; signatures say which node may come in.
pub(super) fn door(group: &Group) -> (InviteId, InviteSecret) {
    let hash = hash::blake2s(&[b"pn1-group-door", &group.key.0, &group.founder.0]);
    let (number, secret) = hash.split_first_chunk().expect("4 of 32 bytes");
    (InviteId(u32::from_le_bytes(*number)), InviteSecret::new(*secret.first_chunk().expect("10 of 28 bytes")))
}
