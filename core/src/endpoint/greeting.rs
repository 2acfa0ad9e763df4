//! Owns the greeting of a new peer: the first session of a pair, and with it the KEM secret, is made when both sides trust each
//! other, not when the first stream waits for it (`docs/trust.md`, "Greeting").
//!
//! The side that learns last that both have approved begins. It tries once: with a peer that is away, or when many come at
//! once, the first stream makes the session.

use super::{Endpoint, IdentityKey};
use crate::peer::{Peer, Role};
use crate::time::Instant;

/// Greetings that are under way at once; others are left to the first stream. Source: own choice, below the calls that a
/// rendezvous takes at once from a node.
pub(super) const GREETINGS_MAX: usize = 64;

impl Endpoint {
    /// Makes the first session with a peer, unless there is one or one is being made.
    pub(super) fn greet(&mut self, now: Instant, key: &IdentityKey) {
        let Some(id) = self.peer_by_identity(key) else { return };
        let is_new = |peer: &Peer| peer.role == Role::Trusted && !peer.is_up(now) && peer.handshake().is_none();
        let is_full = self.peers.iter().filter(|(_, entry)| entry.peer.is_greeting()).count() >= GREETINGS_MAX;
        if is_full || !self.peers.get(&id).is_some_and(|entry| is_new(&entry.peer)) {
            return;
        }
        self.begin_handshake(now, id);
        // A new member needs the roster that its admin has: it does not leave it at one try.
        let is_member = self.trust().pin(key).is_some_and(|pin| !pin.by_hand);
        self.peers.get_mut(&id).into_iter().filter(|_| !is_member).for_each(|entry| entry.peer.greet());
        self.touch(id);
    }
}
