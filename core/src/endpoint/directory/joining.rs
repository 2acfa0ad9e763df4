//! Owns the form of what is kept for JOINs.

use crate::group::GroupId;
use crate::identity::IdentityKey;
use crate::time::{Duration, Instant};
use crate::trust::unanswered::DirectJoin;
use crate::trust::{TrustBook, TrustVersion};
use alloc::vec::Vec;
use core::net::SocketAddr;

/// First pause between two datagrams to one address. Source: own choice, a round trip on most paths.
const PAUSE_MIN: Duration = Duration::from_millis(250);

/// When a JOIN goes directly to the inviter; the book has the JOIN.
pub(super) struct Join {
    pub(super) inviter: IdentityKey,
    /// The book with the request must be on disk before.
    pub(super) version: TrustVersion,
    pub(super) at: Instant,
    pub(super) pause: Duration,
}

impl Join {
    pub(super) const fn new(inviter: IdentityKey, version: TrustVersion, at: Instant) -> Self {
        Self { inviter, version, at, pause: PAUSE_MIN }
    }
}

/// The answer to a JOIN that came directly: copies of the JOIN, by whomever, cost no signature.
pub(super) struct Answered {
    /// Hash of the JOIN.
    pub(super) join: [u8; 32],
    /// The book in which the answer is right.
    pub(super) version: TrustVersion,
    pub(super) answer: Vec<u8>,
}

/// A group that this node has entered and of which no member has answered yet; the book has those that are still to be asked.
pub(super) struct Enrolling {
    pub(super) group: GroupId,
    /// Where the next contact is asked directly.
    pub(super) candidates: Vec<SocketAddr>,
    pub(super) has_letters: bool,
    /// When the next one is asked.
    pub(super) at: Instant,
}

/// What the last run has left to do. Where a code has told addresses, they are with the JOIN.
pub(super) fn unanswered(trust: &TrustBook) -> (Vec<Join>, Vec<Enrolling>) {
    let join = |direct: &DirectJoin| Join::new(direct.inviter, trust.version(), Instant::ZERO);
    let enrolling = |group| Enrolling { group, candidates: Vec::new(), has_letters: true, at: Instant::ZERO };
    (trust.direct_joins().iter().map(join).collect(), trust.groups_with_contacts().map(enrolling).collect())
}
