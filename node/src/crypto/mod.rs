//! The implementations of the cipher and of the key agreement in this build, and the choice among them.

pub(crate) mod aead;
pub(crate) mod agreement;

/// Random bytes from the operating system.
///
/// # Panics
/// When the operating system has no randomness, since no key would be safe.
pub fn entropy<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the operating system has no randomness");
    bytes
}
