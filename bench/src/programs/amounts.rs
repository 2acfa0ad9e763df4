//! Owns how much is measured.

/// How much is done for each figure.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sizes {
    pub(super) rounds: usize,
    /// Unit: bytes.
    pub(super) download: u64,
    pub(super) requests: usize,
    pub(super) connections: usize,
    /// Unit: seconds.
    pub(super) load_s: u32,
    pub(super) lossy_requests: usize,
}
