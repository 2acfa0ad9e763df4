//! Owns the form of what is kept for JOINs.

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
