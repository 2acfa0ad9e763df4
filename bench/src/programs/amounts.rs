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

impl Sizes {
    /// Sizes of a measurement.
    pub(super) fn full(rounds: usize) -> Self {
        Self {
            rounds: rounds.max(1),
            download: 1000 << 20,
            requests: 5000,
            connections: 10_000,
            load_s: 5,
            lossy_requests: 2000,
        }
    }

    /// Sizes that only show that everything works.
    pub(super) fn quick() -> Self {
        Self { rounds: 1, download: 20 << 20, requests: 100, connections: 100, load_s: 1, lossy_requests: 40 }
    }
}
