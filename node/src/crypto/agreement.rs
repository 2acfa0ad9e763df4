//! Owns the choice of X25519's implementation: graviola's where it was built in and knows the processor, the portable one
//! otherwise.

use pilot_core::agreement::{KeyAgreement, PORTABLE};

/// The implementation of X25519 that nodes of this build use on this processor: the fastest that was built in.
pub fn fastest() -> &'static dyn KeyAgreement {
    #[cfg(all(feature = "graviola", any(target_arch = "x86_64", target_arch = "aarch64")))]
    if graviola::util::is_cpu_supported() {
        return &graviola_backend::Graviola;
    }
    &PORTABLE
}

#[cfg(all(feature = "graviola", any(target_arch = "x86_64", target_arch = "aarch64")))]
mod graviola_backend {
    use graviola::key_agreement::x25519::{PublicKey, StaticPrivateKey};
    use pilot_core::agreement::{KeyAgreement, PORTABLE};

    /// Graviola's implementation. It panics on processors for which `graviola::util::is_cpu_supported` is false.
    pub(super) struct Graviola;

    impl KeyAgreement for Graviola {
        /// Makes a public key with the portable implementation: key pairs are made ahead, and graviola's tables for them would
        /// add 60 KB to the library.
        fn public(&self, secret: &[u8; 32]) -> [u8; 32] {
            PORTABLE.public(secret)
        }

        fn agree(&self, secret: &[u8; 32], public: &[u8; 32]) -> Option<[u8; 32]> {
            let shared = StaticPrivateKey::from_array(secret).diffie_hellman(&PublicKey::from_array(public));
            shared.ok().map(|shared| shared.0)
        }

        fn name(&self) -> &'static str {
            "graviola"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// On a processor that graviola does not know, this compares the portable implementation with itself.
    #[test]
    fn both_implementations_agree() {
        let (ours, mut points) = (fastest(), Vec::new());
        // Points of low order, points that are not reduced, and the bit that X25519 ignores (RFC 7748 §5).
        for first in [0, 1, 9, 0xec, 0xed, 0xee, 0xff] {
            for (rest, last) in [(0, 0), (0, 0x80), (0xff, 0x7f), (0xff, 0xff)] {
                let mut point = [rest; 32];
                (point[0], point[31]) = (first, last);
                points.push(point);
            }
        }
        let mut secret = [7; 32];
        for round in 0..200 {
            let public = PORTABLE.public(&secret);
            assert_eq!(ours.public(&secret), public, "round {round}");
            points.push(public);
            for point in &points {
                assert_eq!(ours.agree(&secret, point), PORTABLE.agree(&secret, point), "{point:x?}");
            }
            points.truncate(28);
            secret = PORTABLE.agree(&secret, &[9; 32]).expect("not of low order");
        }
        assert_eq!(ours.agree(&secret, &[0; 32]), None);
    }
}
