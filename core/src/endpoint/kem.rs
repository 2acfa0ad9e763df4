//! Owns how an endpoint carries the KEM runs of its peers: between their tunnels, the trust book and its disk.

use super::{Discard, Endpoint, PeerId};
use crate::control::{Control, KemAnswer, KemOffer};
use crate::identity::IdentityKey;
use crate::path::PathAddr;
use crate::peer::Role;
use crate::time::Instant;
use crate::trace::{HandshakeStep, Level, Trace};
use crate::tunnel::kem::mixed_psk;
use crate::wire::LocalIndex;
use zeroize::Zeroizing;

impl Endpoint {
    /// The KEM secret of this node and a peer, which lies with the pin.
    pub(super) fn kem_secret(&self, id: PeerId) -> Option<Zeroizing<[u8; 32]>> {
        let peer = self.peers.get(&id).map(|entry| &entry.peer).filter(|peer| peer.role == Role::Trusted)?;
        self.trust().pin(&peer.identity?)?.kem.clone()
    }

    /// The psk of a key handshake with the peer in which both sides hold this KEM secret.
    pub(super) fn psk_with(&self, id: PeerId, kem: &[u8; 32]) -> Option<Zeroizing<[u8; 32]>> {
        Some(mixed_psk(&self.peers.get(&id)?.peer.secret, kem))
    }

    /// Offers a key to a peer if the session with it has no KEM secret, and this side is to.
    pub(super) fn tend_kem(&mut self, now: Instant, id: PeerId) {
        if !self.peers.get(&id).is_some_and(|entry| entry.peer.kem_is_due(now)) {
            return;
        }
        let index = self.fresh_index();
        let Some(entry) = self.peers.get_mut(&id) else { return };
        if let Some(offer) = entry.peer.offer_kem(index, &mut *self.entropy) {
            self.send_control(id, &Control::KemOffer(offer));
            self.trace(Level::Debug, || Trace::Handshake { peer: id, step: HandshakeStep::KemOffered });
        }
    }

    /// Offers a key with the RESP that leaves for `to`, if the session that it begins has no KEM secret.
    pub(super) fn offer_kem_early(&mut self, id: PeerId, to: PathAddr) {
        let index = self.fresh_index();
        let entry = self.peers.get_mut(&id);
        if entry.is_some_and(|entry| entry.peer.offer_kem_early(to, index, &mut *self.entropy)) {
            self.trace(Level::Debug, || Trace::Handshake { peer: id, step: HandshakeStep::KemOffered });
        }
    }

    /// A peer offers a key, which came with its RESP or in the control stream.
    pub(super) fn handle_kem_offer(&mut self, now: Instant, id: PeerId, (offer, is_early): (&KemOffer, bool)) {
        let (index, own) = (self.fresh_index(), (&self.identity.public(), self.aead));
        let Some(entry) = self.peers.get_mut(&id) else { return };
        let secret = entry.peer.answer_kem(now, own, (offer, is_early), index, &mut *self.entropy);
        let identity = entry.peer.identity;
        match (secret, identity) {
            (Some(secret), Some(key)) => {
                self.with_directory(now, |directory, cx| directory.set_kem(cx.now, &key, &secret, Some(index)));
                self.trace(Level::Debug, || Trace::Handshake { peer: id, step: HandshakeStep::KemAnswered });
            }
            _ => self.discards.count(Discard::Unexpected),
        }
    }

    pub(super) fn handle_kem_answer(&mut self, now: Instant, id: PeerId, answer: &KemAnswer) {
        let own = (&self.identity.public(), self.aead);
        let Some(entry) = self.peers.get_mut(&id) else { return };
        let secret = entry.peer.finish_kem(now, own, answer);
        let identity = entry.peer.identity;
        match (secret, identity) {
            (Some(secret), Some(key)) => {
                self.with_directory(now, |directory, cx| directory.set_kem(cx.now, &key, &secret, None));
                self.trace(Level::Debug, || Trace::Handshake { peer: id, step: HandshakeStep::KemFinished });
                self.touch(id);
            }
            _ => self.discards.count(Discard::Unexpected),
        }
    }

    /// The KEM secret behind an answer of ours is on disk.
    pub(super) fn on_kem_saved(&mut self, now: Instant, key: &IdentityKey, index: LocalIndex) {
        let Some(id) = self.peer_by_identity(key) else { return };
        let answer = self.peers.get_mut(&id).and_then(|entry| entry.peer.release_kem_answer(now, index));
        if let Some(answer) = answer {
            self.send_control(id, &Control::KemAnswer(*answer));
        }
        self.touch(id);
        self.peers.sync_indexes(id);
    }
}
