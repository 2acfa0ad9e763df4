//! The implementations of the cipher and of the key agreement that this build has, and the choice among them.

pub(crate) mod aead;
pub(crate) mod agreement;

/// Bytes from the operating system.
///
/// # Panics
/// When it has none to give, which leaves nothing safe to do.
pub fn entropy<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the operating system has no randomness");
    bytes
}
