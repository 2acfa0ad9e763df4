//! Owns the choice of the cipher's implementation: ring where it was built in, the portable one otherwise.

use pilot_core::aead::AeadProvider;

/// The implementation of ChaCha20-Poly1305 that nodes of this build use: the fastest that was built in.
pub fn fastest() -> &'static dyn AeadProvider {
    #[cfg(feature = "ring")]
    return &ring_backend::Ring;
    #[cfg(not(feature = "ring"))]
    &pilot_core::aead::PORTABLE
}

#[cfg(feature = "ring")]
mod ring_backend {
    use pilot_core::aead::{AeadKey, AeadProvider, TAG_LEN};
    use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};

    /// The implementation of ring.
    pub(super) struct Ring;

    struct RingKey(LessSafeKey);

    /// ring erases nothing: another key takes the place of one that is over.
    impl Drop for RingKey {
        fn drop(&mut self) {
            self.0 = new_key(&[0; 32]);
            std::hint::black_box(&self.0);
        }
    }

    fn new_key(key: &[u8; 32]) -> LessSafeKey {
        LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, key).expect("the key has the cipher's length"))
    }

    impl AeadProvider for Ring {
        fn key(&self, key: &[u8; 32]) -> Box<dyn AeadKey> {
            Box::new(RingKey(new_key(key)))
        }

        fn name(&self) -> &'static str {
            "ring"
        }
    }

    fn nonce(counter: u64) -> Nonce {
        let mut nonce = [0; 12];
        nonce[4..].copy_from_slice(&counter.to_le_bytes());
        Nonce::assume_unique_for_key(nonce)
    }

    impl AeadKey for RingKey {
        fn seal(&self, counter: u64, aad: &[u8], buf: &mut [u8]) {
            let (text, tag) = buf.split_last_chunk_mut::<TAG_LEN>().expect("callers leave room for the tag");
            let sealed = self.0.seal_in_place_separate_tag(nonce(counter), Aad::from(aad), text);
            tag.copy_from_slice(sealed.expect("datagrams are far below the cipher's limit").as_ref());
        }

        fn open(&self, counter: u64, aad: &[u8], buf: &mut [u8]) -> bool {
            self.0.open_in_place(nonce(counter), Aad::from(aad), buf).is_ok()
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;
        use pilot_core::aead::PORTABLE;

        #[test]
        fn both_implementations_agree() {
            for len in [0usize, 1, 63, 64, 65, 1400, 65_000] {
                let key = [len as u8; 32];
                let mut ours: Vec<u8> = (0..len + TAG_LEN).map(|i| i as u8).collect();
                let mut theirs = ours.clone();
                Ring.key(&key).seal(7, b"aad", &mut ours);
                PORTABLE.key(&key).seal(7, b"aad", &mut theirs);
                assert_eq!(ours, theirs, "{len} bytes");
                assert!(PORTABLE.key(&key).open(7, b"aad", &mut ours) && Ring.key(&key).open(7, b"aad", &mut theirs));
                theirs[len] ^= 1;
                assert!(!Ring.key(&key).open(7, b"aad", &mut theirs), "a changed tag");
            }
        }
    }
}
