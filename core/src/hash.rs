//! Owns hashing: BLAKE2s, the HMAC-based key derivation of Noise §4.3, and short keyed tags.

use blake2::digest::consts::{U8, U16, U32};
use blake2::digest::{Digest, KeyInit, Mac};
use blake2::{Blake2s256, Blake2sMac};
use hmac::SimpleHmac;
use zeroize::Zeroizing;

/// BLAKE2s-256 of the concatenated parts.
pub(crate) fn blake2s(parts: &[&[u8]]) -> [u8; 32] {
    let mut hash = Blake2s256::new();
    parts.iter().for_each(|part| hash.update(part));
    hash.finalize().into()
}

fn hmac(key: &[u8; 32], parts: &[&[u8]]) -> [u8; 32] {
    let mut mac = <SimpleHmac<Blake2s256> as KeyInit>::new_from_slice(key).expect("HMAC takes keys of any length");
    parts.iter().for_each(|part| mac.update(part));
    mac.finalize().into_bytes().into()
}

/// Noise HKDF with `N` outputs (2 or 3).
pub(crate) fn hkdf<const N: usize>(chaining_key: &[u8; 32], input: &[u8]) -> [[u8; 32]; N] {
    let secret = Zeroizing::new(hmac(chaining_key, &[input]));
    let mut out = [[0; 32]; N];
    let mut previous: &[u8] = &[];
    let mut block;
    for (i, slot) in out.iter_mut().enumerate() {
        block = hmac(&secret, &[previous, &[i as u8 + 1]]);
        *slot = block;
        previous = slot;
    }
    out
}

/// BLAKE2s-128 keyed with `key` (at most 32 bytes).
pub(crate) fn mac16(key: &[u8], parts: &[&[u8]]) -> [u8; 16] {
    let mut mac = <Blake2sMac<U16> as KeyInit>::new_from_slice(key).expect("keys here are at most 32 bytes");
    parts.iter().for_each(|part| Mac::update(&mut mac, part));
    mac.finalize().into_bytes().into()
}

/// BLAKE2s-64 keyed with `key`: the short tag of relay headers.
pub(crate) fn mac8(key: &[u8; 32], parts: &[&[u8]]) -> [u8; 8] {
    let mut mac = <Blake2sMac<U8> as KeyInit>::new_from_slice(key).expect("a 32-byte key fits");
    parts.iter().for_each(|part| Mac::update(&mut mac, part));
    mac.finalize().into_bytes().into()
}

/// Keyed BLAKE2s-256, used to derive independent keys from one secret by label.
pub(crate) fn derive(secret: &[u8; 32], parts: &[&[u8]]) -> [u8; 32] {
    let mut mac = <Blake2sMac<U32> as KeyInit>::new_from_slice(secret).expect("a 32-byte key fits");
    parts.iter().for_each(|part| Mac::update(&mut mac, part));
    mac.finalize().into_bytes().into()
}

/// Compares in a time that does not depend on where the slices differ.
pub(crate) fn equal(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |diff, (a, b)| diff | (a ^ b)) == 0
}
