//! The implementations of the cipher and of the key agreement in this build, and the choice among them.

pub(crate) mod aead;
pub(crate) mod agreement;

use pilot_core::rng::Entropy;

/// The operating system's randomness.
pub struct SystemEntropy;

impl Entropy for SystemEntropy {
    /// # Panics
    /// When the operating system has no randomness, since no key would be safe.
    fn fill(&mut self, out: &mut [u8]) {
        getrandom::fill(out).expect("the operating system has no randomness");
    }
}

/// Random bytes from the operating system.
///
/// # Panics
/// When the operating system has no randomness, since no key would be safe.
pub fn entropy<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    SystemEntropy.fill(&mut bytes);
    bytes
}
