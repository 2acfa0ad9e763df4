//! Owns the hash against torn writes and decay; not against an attacker: a program that can write a file can write its hash.

use sha2::{Digest as _, Sha256};

/// Length of a hash. Unit: bytes.
pub(crate) const HASH_LEN: usize = 16;

pub(crate) fn hash(parts: &[&[u8]]) -> [u8; HASH_LEN] {
    let mut hash = Sha256::new();
    parts.iter().for_each(|part| hash.update(part));
    let mut half = [0; HASH_LEN];
    half.copy_from_slice(&hash.finalize()[..HASH_LEN]);
    half
}
