//! Owns ML-KEM-768 (FIPS 203) as this tunnel uses it: an offered key, its answer, and what both sides make of it.
//!
//! X25519 keeps a session shut for all listeners of today. A future quantum computer could open what was recorded; it
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

/// Size of an offered key. Unit: bytes.
pub const OFFER_LEN: usize = 1184;
/// Size of an answer. Unit: bytes.
pub const ANSWER_LEN: usize = 1088;

type Bytes32 = Zeroizing<[u8; 32]>;

/// The secret half of an offered key, as the seed that it is made of.
pub struct Offer(Zeroizing<[u8; 64]>);

impl Offer {
    /// A new key, of secret bytes that `entropy` gives now.
    pub fn draw(entropy: &mut dyn Entropy) -> Self {
        let mut seed = Zeroizing::new([0; 64]);
        entropy.fill(&mut *seed);
        Self(seed)
    }

    fn secret_key(&self) -> ml_kem_768::DecapsulationKey {
        ml_kem_768::DecapsulationKey::from_seed((*self.0).into())
    }

    /// The key that is offered.
    pub fn public(&self) -> Box<[u8; OFFER_LEN]> {
        Box::new(self.secret_key().encapsulation_key().to_bytes().into())
    }

    /// The secret in a peer's answer. A wrong answer gives another secret, which opens nothing.
    pub fn open(&self, answer: &[u8; ANSWER_LEN]) -> Bytes32 {
        Zeroizing::new(self.secret_key().decapsulate(&(*answer).into()).into())
    }
}

/// Answers an offered key, of a fresh secret: gives the answer and what both sides share. `None` for bytes that are no
/// key.
pub fn answer(key: &[u8; OFFER_LEN], fresh: &[u8; 32]) -> Option<(Box<[u8; ANSWER_LEN]>, Bytes32)> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    /// The examples of RFC 9935: the seed 00 01 … 3f and its ML-KEM-768 key, here by its BLAKE2s hash.
    #[test]
    fn the_key_of_the_published_seed_is_the_published_one() {
        let offer = Offer(Zeroizing::new(core::array::from_fn(|i| i as u8)));
        let key = offer.public();
        assert_eq!(key[..8], [0x29, 0x8a, 0xa1, 0x0d, 0x42, 0x3c, 0x8d, 0xda]);
        let hash = "d17574d4976b05ccfd85cfbeb1c2071fd3bebeddd32c83432fc29256ebfc3530";
        let expected: [u8; 32] =
            core::array::from_fn(|i| u8::from_str_radix(&hash[2 * i..2 * i + 2], 16).expect("hex"));
        assert_eq!(hash::blake2s(&[&*key]), expected);
    }

    #[test]
    fn both_sides_make_the_same_and_nothing_else_does() {
        let (mut entropy, ids) = (Rng::entropy([5; 32]), [IdentityKey([1; 32]), IdentityKey([2; 32])]);
        let (offer, other) = (Offer::draw(&mut *entropy), Offer::draw(&mut *entropy));
        let (bytes, theirs) = answer(&offer.public(), &entropy.secret()).expect("a key");
        let ours = offer.open(&bytes);
        assert_eq!(*ours, *theirs);
        assert_ne!(*other.open(&bytes), *ours);
        let mut changed = bytes.clone();
        changed[7] ^= 1;
        assert_ne!(*offer.open(&changed), *ours);
        assert!(answer(&[0xff; OFFER_LEN], &[0; 32]).is_none(), "coefficients beyond the modulus are no key");

        let mixed = Mixed::new(&ours, &[9; 32], &ids[0], &ids[1]);
        let (own, peer) = (mixed.keys_of_offerer(), mixed.keys_of_answerer());
        assert_eq!((own.send, own.receive, own.exporter), (peer.receive, peer.send, peer.exporter));
        let secrets = [own.send, own.receive, own.exporter, *mixed.secret];
        assert!((0..4).all(|i| (0..i).all(|j| secrets[i] != secrets[j])), "independent keys");
        for other in [
            Mixed::new(&[0; 32], &[9; 32], &ids[0], &ids[1]),
            Mixed::new(&ours, &[8; 32], &ids[0], &ids[1]),
            Mixed::new(&ours, &[9; 32], &ids[1], &ids[0]),
        ] {
            assert_ne!(*other.secret, *mixed.secret);
        }
        assert_ne!(*mixed_psk(&[1; 32], &mixed.secret), *mixed_psk(&[2; 32], &mixed.secret));
    }
}
