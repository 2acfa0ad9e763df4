//! Owns the cipher of the data path: ChaCha20-Poly1305 behind one small trait.
//!
//! [`PORTABLE`] is the implementation in Rust that is always there. A node may bring a faster one of the *same* cipher;
//! both are tested against each other and against RFC 8439.

use alloc::boxed::Box;
use chacha20poly1305::aead::{AeadInOut, KeyInit};
use chacha20poly1305::{ChaCha20Poly1305, Nonce, Tag};

/// Bytes that sealing adds: the Poly1305 tag.
pub const TAG_LEN: usize = 16;

/// One direction's key of one session.
pub trait AeadKey: Send {
    /// Encrypts `buf[..len − 16]` in place and writes the tag into the last 16 bytes.
    ///
    /// # Panics
    /// When `buf` is shorter than a tag; callers size it.
    fn seal(&self, counter: u64, aad: &[u8], buf: &mut [u8]);

    /// Verifies and decrypts `buf` (ciphertext, then tag) in place; true on success. On failure the content of `buf`
    /// is unspecified. The plaintext is `buf[..len − 16]`.
    fn open(&self, counter: u64, aad: &[u8], buf: &mut [u8]) -> bool;
}

/// Makes keys; one static value per implementation.
pub trait AeadProvider: Send + Sync {
    /// A key ready for use.
    fn key(&self, key: &[u8; 32]) -> Box<dyn AeadKey>;

    /// Name for `info` and benchmarks, such as `chacha20poly1305`.
    fn name(&self) -> &'static str;
}

/// The portable implementation, in Rust alone.
pub static PORTABLE: Portable = Portable;

/// [`PORTABLE`]'s type.
pub struct Portable;

impl AeadProvider for Portable {
    fn key(&self, key: &[u8; 32]) -> Box<dyn AeadKey> {
        Box::new(PortableKey(ChaCha20Poly1305::new(key.into())))
    }

    fn name(&self) -> &'static str {
        "chacha20poly1305"
    }
}

struct PortableKey(ChaCha20Poly1305);

impl AeadKey for PortableKey {
    fn seal(&self, counter: u64, aad: &[u8], buf: &mut [u8]) {
        let (text, tag) = buf.split_last_chunk_mut::<TAG_LEN>().expect("callers leave room for the tag");
        let sealed = self.0.encrypt_inout_detached(&nonce(counter), aad, text.into());
        tag.copy_from_slice(&sealed.expect("datagrams are far below the cipher's 256 GiB limit"));
    }

    fn open(&self, counter: u64, aad: &[u8], buf: &mut [u8]) -> bool {
        let Some((text, tag)) = buf.split_last_chunk_mut::<TAG_LEN>() else { return false };
        let tag = Tag::from(*tag);
        self.0.decrypt_inout_detached(&nonce(counter), aad, text.into(), &tag).is_ok()
    }
}

/// Noise §12: four zero bytes, then the counter in little-endian.
fn nonce(counter: u64) -> Nonce {
    let mut nonce = [0; 12];
    nonce[4..].copy_from_slice(&counter.to_le_bytes());
    nonce.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec;

    #[test]
    fn sealed_bytes_open_only_unchanged() {
        let key = PORTABLE.key(&[9; 32]);
        let mut buf = vec![5u8; 100];
        key.seal(7, b"header", &mut buf);
        for bit in [0usize, 83 * 8, 84 * 8, 99 * 8 + 7] {
            let mut bad = buf.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(!key.open(7, b"header", &mut bad), "bit {bit}");
        }
        assert!(!key.open(8, b"header", &mut buf.clone()), "other counter");
        assert!(!key.open(7, b"heade_", &mut buf.clone()), "other header");
        assert!(!key.open(7, b"header", &mut [0; 15]), "shorter than a tag");
        assert!(key.open(7, b"header", &mut buf));
        assert_eq!(&buf[..84], &[5u8; 84][..]);
    }

    /// RFC 8439 appendix A.5 has its nonce's first four bytes zero, so it fits our counter form.
    #[test]
    fn rfc_8439_a5_vector_opens() {
        let hex = |s: &str| -> vec::Vec<u8> {
            (0..s.len() / 2).map(|i| u8::from_str_radix(&s[2 * i..2 * i + 2], 16).expect("hex")).collect()
        };
        let key: [u8; 32] =
            hex("1c9240a5eb55d38af333888604f6b5f0473917c1402b80099dca5cbc207075c0").try_into().expect("32");
        let counter = u64::from_le_bytes(hex("0102030405060708").try_into().expect("8"));
        let mut text = hex(
            "64a0861575861af460f062c79be643bd5e805cfd345cf389f108670ac76c8cb24c6cfc18755d43eea09ee94e382d26b0bdb7b73c321b0100d4f03b7f355894cf332f830e710b97ce98c8a84abd0b948114ad176e008d33bd60f982b1ff37c8559797a06ef4f0ef61c186324e2b3506383606907b6a7c02b0f9f6157b53c867e4b9166c767b804d46a59b5216cde7a4e99040c5a40433225ee282a1b0a06c523eaf4534d7f83fa1155b0047718cbc546a0d072b04b3564eea1b422273f548271a0bb2316053fa76991955ebd63159434ecebb4e466dae5a1073a6727627097a1049e617d91d361094fa68f0ff77987130305beaba2eda04df997b714d6c6f2c29a6ad5cb4022b02709beead9d67890cbb22392336fea1851f38",
        );
        let aad = hex("f33388860000000000004e91");
        assert!(PORTABLE.key(&key).open(counter, &aad, &mut text));
        assert!(text.starts_with(b"Internet-Drafts are draft documents valid for a maximum of six months"));
    }
}
