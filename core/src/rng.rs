//! Owns randomness: a ChaCha20 generator made from a seed that the caller draws from its operating system.

use chacha20::ChaCha20Rng;
use chacha20::rand_core::{Rng as _, SeedableRng as _};
use core::time::Duration;

/// A cryptographic generator. Equal seeds give equal sequences, so that simulations are reproducible.
pub struct Rng(ChaCha20Rng);

impl Rng {
    /// A generator that is determined by `seed`. In production the seed is 32 bytes of the operating system's entropy.
    pub fn new(seed: [u8; 32]) -> Self {
        Self(ChaCha20Rng::from_seed(seed))
    }

    /// A uniformly random 32-bit number.
    pub fn u32(&mut self) -> u32 {
        self.0.next_u32()
    }

    /// A uniformly random 64-bit number.
    pub fn u64(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// A number in `0..bound`, or 0 when `bound` is 0. It is slightly biased: good for jitter and ports, not for keys.
    pub fn below(&mut self, bound: u64) -> u64 {
        if bound == 0 { 0 } else { self.u64() % bound }
    }

    /// `N` random bytes.
    pub fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut out = [0; N];
        self.0.fill_bytes(&mut out);
        out
    }

    /// `base` plus or minus at most `percent` per cent.
    pub fn jitter(&mut self, base: Duration, percent: u64) -> Duration {
        let us = base.as_micros() as u64;
        let span = us * percent / 100;
        Duration::from_micros(us - span + self.below(2 * span + 1))
    }
}
