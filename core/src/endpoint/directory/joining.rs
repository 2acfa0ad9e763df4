//! Owns the form of what is kept for JOINs.

use crate::group::GroupId;
use crate::identity::IdentityKey;
use crate::time::{Duration, Instant};
use crate::trust::TrustVersion;
use alloc::vec::Vec;
use core::net::SocketAddr;

/// A JOIN that goes directly to the inviter.
pub(super) struct Join {
    pub(super) inviter: IdentityKey,
    pub(super) to: Vec<SocketAddr>,
    pub(super) datagram: Vec<u8>,
    /// The book with the request must be on disk before.
    pub(super) version: TrustVersion,
    pub(super) at: Instant,
    pub(super) pause: Duration,
}

/// The answer to a JOIN that came directly: copies of the JOIN, by whomever, cost no signature.
pub(super) struct Answered {
    /// Hash of the JOIN.
    pub(super) join: [u8; 32],
    /// The book in which the answer is right.
    pub(super) version: TrustVersion,
    pub(super) answer: Vec<u8>,
}

/// A group that this node has entered and of which no member has answered yet.
pub(super) struct Enrolling {
    pub(super) group: GroupId,
    /// Those that were not asked yet, the next one last.
    pub(super) contacts: Vec<IdentityKey>,
    /// Where the next contact is asked directly.
    pub(super) candidates: Vec<SocketAddr>,
    pub(super) has_letters: bool,
    /// When the next one is asked.
    pub(super) at: Instant,
}
