//! Owns X25519 (RFC 7748), the only key agreement there is, behind one small trait.
//!
//! [`PORTABLE`] is the implementation in Rust that is always there. A node may bring a faster one of the *same*
//! function; both are tested against each other and against RFC 7748.

use crate::rng::Entropy;
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroizing;

/// X25519; one static value per implementation.
pub trait KeyAgreement: Send + Sync {
    /// The public key that belongs to `secret`.
    fn public(&self, secret: &[u8; 32]) -> [u8; 32];

    /// The secret that `secret` and a peer's `public` key share; `None` for a low-order point, which shares the same
    /// one with every key (RFC 7748 §6.1).
    fn agree(&self, secret: &[u8; 32], public: &[u8; 32]) -> Option<[u8; 32]>;

    /// Name for `info` and benchmarks, such as `x25519-dalek`.
    fn name(&self) -> &'static str;
}

/// The portable implementation, in Rust alone.
pub static PORTABLE: Portable = Portable;

/// [`PORTABLE`]'s type.
pub struct Portable;

impl KeyAgreement for Portable {
    fn public(&self, secret: &[u8; 32]) -> [u8; 32] {
        PublicKey::from(&StaticSecret::from(*secret)).to_bytes()
    }

    fn agree(&self, secret: &[u8; 32], public: &[u8; 32]) -> Option<[u8; 32]> {
        let shared = StaticSecret::from(*secret).diffie_hellman(&PublicKey::from(*public));
        shared.was_contributory().then(|| shared.to_bytes())
    }

    fn name(&self) -> &'static str {
        "x25519-dalek"
    }
}

/// A secret, the public key that belongs to it, and the implementation that computes with them.
#[derive(Clone)]
pub struct KeyPair {
    agreement: &'static dyn KeyAgreement,
    secret: Zeroizing<[u8; 32]>,
    public: [u8; 32],
}

impl KeyPair {
    /// The pair of 32 random bytes.
    pub fn new(agreement: &'static dyn KeyAgreement, secret: [u8; 32]) -> Self {
        Self { agreement, public: agreement.public(&secret), secret: Zeroizing::new(secret) }
    }

    /// A new pair; its secret is drawn from `entropy` now.
    pub(crate) fn draw(agreement: &'static dyn KeyAgreement, entropy: &mut dyn Entropy) -> Self {
        let secret = entropy.secret();
        Self { agreement, public: agreement.public(&secret), secret }
    }

    /// The same pair, used by another implementation.
    pub fn with_agreement(self, agreement: &'static dyn KeyAgreement) -> Self {
        Self { agreement, ..self }
    }

    /// The implementation.
    pub const fn agreement(&self) -> &'static dyn KeyAgreement {
        self.agreement
    }

    /// The public key.
    pub const fn public(&self) -> &[u8; 32] {
        &self.public
    }

    /// The secret that this pair and a peer's public key share; `None` for a low-order point.
    pub fn agree(&self, public: &[u8; 32]) -> Option<[u8; 32]> {
        self.agreement.agree(&self.secret, public)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(s: &str) -> [u8; 32] {
        core::array::from_fn(|i| u8::from_str_radix(&s[2 * i..2 * i + 2], 16).expect("hex"))
    }

    #[test]
    fn the_pairs_of_rfc_7748_6_1_agree() {
        let alice = KeyPair::new(&PORTABLE, hex("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a"));
        let bob = KeyPair::new(&PORTABLE, hex("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb"));
        assert_eq!(*alice.public(), hex("8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a"));
        assert_eq!(*bob.public(), hex("de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f"));
        let shared = Some(hex("4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742"));
        assert_eq!((alice.agree(bob.public()), bob.agree(alice.public())), (shared, shared));
        assert_eq!(alice.agree(&[0; 32]), None, "a low-order point");
    }
}
