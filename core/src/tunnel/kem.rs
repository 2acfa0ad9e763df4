//! Owns ML-KEM-768 (FIPS 203) as this tunnel uses it: an offered key, its answer, and what both sides make of it.
//!
//! X25519 keeps a session shut for everybody who listens today. A future quantum computer could open what was recorded; it
//! cannot open ML-KEM. In the first session of a pair one side offers a key, the other answers, and both derive two
//! things from the shared secret and from that session's exporter: the keys of the session that follows at once, and the
//! KEM secret, which stays with the pin and is mixed into the psk of every later key handshake.

use crate::hash;
use crate::identity::IdentityKey;
use crate::noise::TrafficKeys;
use crate::rng::Entropy;
use alloc::boxed::Box;
use ml_kem::kem::Decapsulate as _;
use ml_kem::{Key, KeyExport as _, ml_kem_768};
use zeroize::Zeroizing;

/// Size of an offered key.
pub(crate) const OFFER_LEN: usize = 1184;
/// Size of an answer.
pub(crate) const ANSWER_LEN: usize = 1088;

type Bytes32 = Zeroizing<[u8; 32]>;

/// The secret half of an offered key, as the seed that it is made of.
pub(crate) struct Offer(Zeroizing<[u8; 64]>);

impl Offer {
    pub(crate) fn draw(entropy: &mut dyn Entropy) -> Self {
        let mut seed = Zeroizing::new([0; 64]);
        entropy.fill(&mut *seed);
        Self(seed)
    }

    fn secret_key(&self) -> ml_kem_768::DecapsulationKey {
        ml_kem_768::DecapsulationKey::from_seed((*self.0).into())
    }

    /// The key that is offered.
    pub(crate) fn public(&self) -> Box<[u8; OFFER_LEN]> {
        Box::new(self.secret_key().encapsulation_key().to_bytes().into())
    }

    /// The secret in a peer's answer. A wrong answer gives another secret, which opens nothing.
    pub(crate) fn open(&self, answer: &[u8; ANSWER_LEN]) -> Bytes32 {
        Zeroizing::new(self.secret_key().decapsulate(&(*answer).into()).into())
    }
}

/// Answers an offered key, of a fresh secret: gives the answer and what both sides share. `None` for bytes that are no
/// key.
pub(crate) fn answer(key: &[u8; OFFER_LEN], fresh: &[u8; 32]) -> Option<(Box<[u8; ANSWER_LEN]>, Bytes32)> {
    let key = ml_kem_768::EncapsulationKey::new(&Key::<ml_kem_768::EncapsulationKey>::from(*key)).ok()?;
    let (answer, shared) = key.encapsulate_deterministic(&(*fresh).into());
    Some((Box::new(answer.into()), Zeroizing::new(shared.into())))
}

/// What both sides make of an answered key.
pub(crate) struct Mixed {
    /// The traffic keys of the session that follows, from the view of the side that offered.
    keys: TrafficKeys,
    /// What stays with the pin.
    pub(crate) secret: Bytes32,
}

impl Mixed {
    /// `exporter` is that of the session in which the key was offered by `offerer` and answered by `answerer`.
    pub(crate) fn new(shared: &[u8; 32], exporter: &[u8; 32], offerer: &IdentityKey, answerer: &IdentityKey) -> Self {
        let root = Zeroizing::new(hash::derive(shared, &[b"pn1-kem", exporter, &offerer.0, &answerer.0]));
        let keys = TrafficKeys {
            send: hash::derive(&root, &[b"offerer sends"]),
            receive: hash::derive(&root, &[b"answerer sends"]),
            exporter: hash::derive(&root, &[b"exporter"]),
        };
        Self { keys, secret: Zeroizing::new(hash::derive(&root, &[b"pin"])) }
    }

    /// The traffic keys for the side that offered.
    pub(crate) const fn keys_of_offerer(&self) -> &TrafficKeys {
        &self.keys
    }

    /// The traffic keys for the side that answered.
    pub(crate) fn keys_of_answerer(&self) -> TrafficKeys {
        let TrafficKeys { send, receive, exporter } = &self.keys;
        TrafficKeys { send: *receive, receive: *send, exporter: *exporter }
    }
}

/// The psk of a key handshake between two sides that both hold the KEM secret of their pair.
pub(crate) fn mixed_psk(pair: &[u8; 32], kem: &[u8; 32]) -> Bytes32 {
    Zeroizing::new(hash::derive(pair, &[b"pn1-psk", kem]))
}
