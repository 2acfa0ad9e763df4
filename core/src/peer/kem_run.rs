//! Owns the state of a KEM run.

use crate::control::KemAnswer;
use crate::tunnel::kem::Offer;
use crate::tunnel::session::Session;
use crate::wire::LocalIndex;
use alloc::boxed::Box;

/// A run under way.
pub(super) enum Run {
    /// This side has offered a key in the session with our index `session`, for one with our index `index`.
    Offered {
        key: Offer,
        session: LocalIndex,
        index: LocalIndex,
        /// It was offered with the RESP, and may be lost: a key that the peer offers is answered all the same.
        is_early: bool,
    },
    /// This side has an answer, and the session that follows, which wait for the disk.
    Answered {
        session: Box<Session>,
        answer: Box<KemAnswer>,
        /// The key was offered with the RESP.
        is_early: bool,
    },
    /// This side goes on under the session with our index `session`, and its answer, which the peer needs for that, may be lost.
    Told { session: LocalIndex, answer: Box<KemAnswer> },
}
