//! Owns the reasons for which a path is chosen.

/// Why a path was chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PathReason {
    /// The key handshake finished over it.
    Handshake,
    /// It answered a probe, and it is direct or the first one.
    Answered,
    /// The peer speaks from there now.
    Followed,
    /// Its round trip is shorter than that of the direct path before.
    Faster,
    /// The path before gave no answer.
    Silence,
    /// The beacon gave the relay channel another number.
    Renumbered,
}

impl PathReason {
    /// Its name in logs: a stable word in snake_case.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Handshake => "handshake",
            Self::Answered => "answered",
            Self::Followed => "followed",
            Self::Faster => "faster",
            Self::Silence => "silence",
            Self::Renumbered => "renumbered",
        }
    }
}
