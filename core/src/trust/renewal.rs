//! Owns how two nodes that have approved each other get a common secret again, after one of them has lost its pin or holds
//! another secret.
//!
//! ```text
//!   A: request with the proof of its secret, or with none ──▶ B: pin of A with another secret
//!   A: pin with a new secret ◀───────────────────── accept ── B: the same pin with a new secret
//! ```
//! The owners have said yes before and nothing was revoked, so that B's node answers by itself, with the grant and the end
//! that its pin has. A request with the right proof changes nothing. When both ask, the requests cross as first requests do;
//! each asks once more, since the other may have taken the first question for a repetition.

use super::{Me, Terms, TrustBook, TrustError};
use crate::identity::{IdentityKey, NodeRecord};
use crate::rng::Rng;
use alloc::vec::Vec;

impl TrustBook {
    /// Asks a pinned node to compare secrets, and for a new one if they differ; `None` without a pin, when the node was asked
    /// already, or without room.
    pub(crate) fn ask_to_renew(&mut self, me: &Me<'_>, key: &IdentityKey, rng: &mut Rng) -> Option<Vec<u8>> {
        if self.is_renewing(key) {
            return None;
        }
        let pin = self.pins.get(key)?;
        let terms = Terms { ports: pin.ports.clone(), verified: pin.verified, ..Terms::default() };
        let record = NodeRecord::unsigned(pin.identity, pin.static_key, pin.addr, &pin.hostname);
        self.outgoing.remove(key); // a request that crossed once has another nonce
        self.ask(me, &record, &terms, rng).ok()
    }

    /// True while a pinned node has not answered whether its secret is the same.
    pub fn is_renewing(&self, key: &IdentityKey) -> bool {
        self.outgoing.get(key).is_some_and(|ours| ours.renews)
    }

    /// The two share their secret: a tunnel stands. Nothing is left to ask.
    pub(crate) fn note_agreement(&mut self, key: &IdentityKey) {
        if self.is_renewing(key) {
            self.outgoing.remove(key);
            self.changed();
        }
    }

    /// Two requests for a new secret have crossed: ours is made again, once, for a peer that did not keep the first one.
    pub(crate) fn repeat_renewal(&mut self, me: &Me<'_>, key: &IdentityKey, rng: &mut Rng) -> Option<Vec<u8>> {
        let ours = self.outgoing.get(key).filter(|ours| ours.renews)?;
        let terms = Terms { ports: ours.ports.clone(), verified: ours.verified, ..Terms::default() };
        let record = ours.record.clone();
        let message = self.ask(me, &record, &terms, rng).ok()?;
        if let Some(ours) = self.outgoing.get_mut(key) {
            ours.renews = false;
        }
        Some(message)
    }

    /// Answers the request of a pinned node that holds another secret; returns the accept to send.
    ///
    /// # Errors
    /// `Unknown` without such a request.
    pub fn renew(&mut self, me: &Me<'_>, key: &IdentityKey, rng: &mut Rng) -> Result<Vec<u8>, TrustError> {
        let pin = self.pins.get(key).ok_or(TrustError::Unknown)?;
        let terms = Terms { not_after: pin.not_after, ..Terms::default() };
        let request = self.pending.remove(key).ok_or(TrustError::Unknown)?;
        Ok(self.accept(me, &request, &terms, rng))
    }
}
