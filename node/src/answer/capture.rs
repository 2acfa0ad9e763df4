//! Owns the answer about a capture.

use serde::{Deserialize, Serialize};

/// A capture of inner packets, of which the next blocks come beside the answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Captured {
    /// Packets in the file so far.
    pub packets: u64,
    /// Packets that are missing in it, because they came faster than they were fetched.
    pub missed: u64,
    /// Length of the file so far, these blocks included.
    pub bytes: u64,
    /// Whether these blocks are the last: the client said so, or the file has its length.
    pub over: bool,
}
