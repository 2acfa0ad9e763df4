//! Owns how two nodes get a common secret again, after one of them has lost its pin or holds another secret.
//!
//! ```text
//!   A: no pin     request of its owner ──▶ B: a pin, and the request waits     ── approve ──▶ accept, both pins anew
//!   A: a pin      question with the proof of its secret ──▶ B: none, or another secret: the question waits
//!   A: the request waits  ◀── request of the owner of B ── approve
//! ```
//! The secret of a pin changes only by a command of this node's owner, since the identity alone proves no more than that
//! its file is there. A node that does not reach its peer asks whether the secrets are the same, and the answer to such a
//! question is the other owner's request; a question with the right proof changes nothing.

use super::{Asking, Me, PendingRequest, Terms, TrustBook, TrustError};
use crate::identity::{IdentityKey, NodeRecord};
use crate::rng::Rng;
use alloc::vec::Vec;

impl TrustBook {
    /// Asks a pinned node to compare secrets; `None` without a pin, when one of the two has asked already, or without room.
    pub(crate) fn ask_to_compare(&mut self, me: &Me<'_>, key: &IdentityKey, rng: &mut Rng) -> Option<Vec<u8>> {
        let is_asked = self.outgoing.get(key).is_some_and(|ours| ours.is_question || ours.is_anew);
        if is_asked || self.pending.contains_key(key) {
            return None;
        }
        let pin = self.pins.get(key)?;
        let terms = Terms { ports: pin.ports.clone(), verified: pin.verified, ..Terms::default() };
        let record = NodeRecord::unsigned(pin.identity, pin.static_key, pin.addr, &pin.hostname);
        self.outgoing.remove(key); // a request that crossed once has another nonce
        self.ask(me, &record, &terms, Asking::Question, rng).ok()
    }

    /// True when a trusted peer has said, with its signature, that it lacks the secret of its pin, or this node's owner has
    /// asked it for a new one.
    pub fn secret_differs(&self, key: &IdentityKey) -> bool {
        let is_anew = self.outgoing.get(key).is_some_and(|ours| ours.is_anew);
        self.pins.contains_key(key) && (is_anew || self.pending.contains_key(key))
    }

    /// The two share their secret: a tunnel stands. Nothing is left to ask, nor to answer.
    pub(crate) fn note_agreement(&mut self, key: &IdentityKey) {
        let is_over = self.outgoing.get(key).is_some_and(|ours| ours.is_question || ours.is_anew);
        if is_over {
            self.outgoing.remove(key);
        }
        let waiting = self.pending.remove(key);
        waiting.iter().for_each(|request| self.note_epoch(*key, request.epoch));
        if is_over || waiting.is_some() {
            self.changed();
        }
    }

    /// Our owner approves the question of a node: asks for a new secret in our owner's name. A node without a pin gets one
    /// whose secret opens nothing until the other owner has answered.
    pub(super) fn consent(
        &mut self,
        me: &Me<'_>,
        question: &PendingRequest,
        terms: &Terms,
        rng: &mut Rng,
    ) -> Result<Vec<u8>, TrustError> {
        let (record, key) = (&question.record, question.record.identity);
        let has_asked = self.outgoing.get(&key).is_some_and(|ours| !ours.is_question);
        if !has_asked {
            self.outgoing.remove(&key);
        }
        if !self.pins.contains_key(&key) {
            self.take_name_away(record);
            self.insert_pin(me, record, terms, (rng.bytes(), question.epoch));
        }
        let Some(pin) = self.pins.get(&key) else { return Err(TrustError::Unknown) };
        let terms = Terms { ports: pin.ports.clone(), verified: pin.verified, ..terms.clone() };
        let message = self.ask(me, record, &terms, Asking::Owner, rng)?;
        self.pending.remove(&key);
        self.note_epoch(key, question.epoch);
        Ok(message)
    }
}
