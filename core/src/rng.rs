//! Owns randomness: a ChaCha20 generator made from a seed that the caller draws from its operating system.

use chacha20::ChaCha20Rng;
use chacha20::rand_core::{Rng as _, SeedableRng as _};
use core::time::Duration;

/// A cryptographic generator; equal seeds give equal sequences, which is what makes simulations reproducible.
pub struct Rng(ChaCha20Rng);

impl Rng {
    /// A generator whose whole output follows from `seed`. Use 32 bytes of operating-system entropy in production.
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

    /// A number in `0..bound` (slightly biased, which is fine for jitter and ports); 0 when `bound` is 0.
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
