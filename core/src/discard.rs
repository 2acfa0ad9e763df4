//! Owns the reasons for which input is ignored, and how often each occurred.

use core::fmt;

/// Why a datagram had no effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
#[non_exhaustive]
pub enum Discard {
    /// The type or size is none of PN1's.
    NotOurs,
    /// The version, or a reserved bit, is not spoken here.
    Version,
    /// No session has this receiver index.
    UnknownIndex,
    /// The session is too old to be used.
    ExpiredSession,
    /// mac1 is wrong: the sender does not know our static key.
    Mac1,
    /// The authentication tag is wrong.
    Tag,
    /// The datagram was seen before.
    Replay,
    /// No key handshake of ours waits for this.
    Unexpected,
    /// A valid INIT of a static key that is not trusted.
    Stranger,
    /// A valid INIT that offers no suite that is spoken here.
    Suite,
    /// A table is full.
    Full,
    /// Under load, a cookie was sent instead of an answer.
    CookieSent,
    /// Under load even from addresses that have proven themselves.
    Overload,
    /// A relayed datagram that is not from our beacon.
    ForeignRelay,
    /// Frames of a session before the peer's HELLO.
    BeforeHello,
    /// Inner packets under a session without a KEM secret.
    NotMixed,
    /// The record in the HELLO is not that of the pinned peer.
    WrongIdentity,
    /// An authentic datagram or message that makes no sense.
    Malformed,
}

impl fmt::Display for Discard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the datagram was ignored: {}", self.name())
    }
}

impl core::error::Error for Discard {}

impl Discard {
    const COUNT: usize = Self::Malformed as usize + 1;

    const ALL: [(Self, &str); Self::COUNT] = [
        (Self::NotOurs, "not_ours"),
        (Self::Version, "version"),
        (Self::UnknownIndex, "unknown_index"),
        (Self::ExpiredSession, "expired_session"),
        (Self::Mac1, "mac1"),
        (Self::Tag, "tag"),
        (Self::Replay, "replay"),
        (Self::Unexpected, "unexpected"),
        (Self::Stranger, "stranger"),
        (Self::Suite, "suite"),
        (Self::Full, "full"),
        (Self::CookieSent, "cookie_sent"),
        (Self::Overload, "overload"),
        (Self::ForeignRelay, "foreign_relay"),
        (Self::BeforeHello, "before_hello"),
        (Self::NotMixed, "not_mixed"),
        (Self::WrongIdentity, "wrong_identity"),
        (Self::Malformed, "malformed"),
    ];

    /// Its name in logs and statistics: a stable word in snake_case.
    pub const fn name(self) -> &'static str {
        Self::ALL[self as usize].1
    }
}

/// How often each reason occurred.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Discards([u64; Discard::COUNT]);

impl Discards {
    pub(crate) const fn count(&mut self, reason: Discard) {
        self.0[reason as usize] += 1;
    }

    /// Occurrences of one reason.
    pub const fn of(&self, reason: Discard) -> u64 {
        self.0[reason as usize]
    }

    /// Every reason that occurred, by its name.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        Discard::ALL.iter().map(|(reason, name)| (*name, self.of(*reason))).filter(|(_, n)| *n > 0)
    }
}
