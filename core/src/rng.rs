//! Owns randomness, of two kinds.
//!
//! [`Entropy`] gives what must stay secret: keys, and nonces that keys are made of. A node asks its operating system each
//! time, so that a look into its memory tells nothing of keys that are gone. [`Rng`] is a generator with a seed, for what
//! is no secret: jitter, indexes, ports. Simulations use it for both.

use alloc::boxed::Box;
use chacha20::ChaCha20Rng;
use chacha20::rand_core::{Rng as _, SeedableRng as _};
use core::time::Duration;
use zeroize::Zeroizing;

/// A source of secret bytes. In production it is the operating system, asked anew each time.
pub trait Entropy: Send {
    /// Fills `out` with bytes that nothing else knows.
    fn fill(&mut self, out: &mut [u8]);
}

impl dyn Entropy + '_ {
    /// A secret, erased when it is dropped.
    pub fn secret(&mut self) -> Zeroizing<[u8; 32]> {
        let mut out = Zeroizing::new([0; 32]);
        self.fill(&mut *out);
        out
    }

    /// A generator for one use, after which it is erased: for a function that draws several secrets.
    pub(crate) fn generator(&mut self) -> Rng {
        Rng::new(*self.secret())
    }
}

/// For tests and simulations: everything follows from the seed.
impl Entropy for Rng {
    fn fill(&mut self, out: &mut [u8]) {
        self.0.fill_bytes(out);
    }
}

/// A cryptographic generator, erased when it is dropped. Equal seeds give equal sequences, so that simulations are
/// reproducible.
pub struct Rng(ChaCha20Rng);

impl Rng {
    /// A generator that is determined by `seed`.
    pub fn new(seed: [u8; 32]) -> Self {
        Self(ChaCha20Rng::from_seed(seed))
    }

    /// The same as a source of secrets, for tests and simulations.
    pub fn entropy(seed: [u8; 32]) -> Box<dyn Entropy> {
        Box::new(Self::new(seed))
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
