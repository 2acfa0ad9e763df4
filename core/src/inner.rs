//! Owns the vocabulary that the endpoint shares with its peers: names of peers, the way up for inner packets, and why a
//! tunnel ends.

/// A peer of one endpoint; never reused while the endpoint lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerId(pub(crate) u32);

/// Takes inner packets while a datagram is handled. Called only for introduced peers that may send data.
pub trait Sink {
    /// Takes an inner segment, as the peer's stack wrote it (no IPv6 header).
    fn packet(&mut self, peer: PeerId, segment: &[u8]);
    /// Takes an inner datagram: source port 2, destination port 2 (big-endian), payload.
    fn loose(&mut self, peer: PeerId, datagram: &[u8]);
}

/// A sink that ignores inner packets, for endpoints without a stack (a rendezvous).
pub struct NoSink;

impl Sink for NoSink {
    fn packet(&mut self, _: PeerId, _: &[u8]) {}
    fn loose(&mut self, _: PeerId, _: &[u8]) {}
}

/// Why all streams to a peer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ResetReason {
    /// The peer process ended in order.
    Closed,
    /// The peer is another process than before.
    Restarted,
    /// No answer on any path for the time allowed.
    Unreachable,
    /// The rendezvous does not have the peer connected, and no known address answers.
    Away,
    /// One side withdrew its trust.
    Revoked,
    /// The peer broke the rules of the control stream, or held more of it than there is room for.
    Broken,
    /// The peer answers, and its pair secret is not ours: one side was restored from a backup, or trusts anew.
    SecretDiffers,
    /// The owners have approved each other anew: what stood under the former pair secret is over.
    Renewed,
    /// The path carries short datagrams alone, none of the least length that data need.
    TooNarrow,
    /// The peer had no answer from this node for the time allowed, and its link began anew; it is the same process.
    GivenUp,
}

impl ResetReason {
    /// Its name in logs: a stable word in snake_case.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Restarted => "restarted",
            Self::Unreachable => "unreachable",
            Self::Away => "away",
            Self::Revoked => "revoked",
            Self::Broken => "broken",
            Self::SecretDiffers => "pair_secret_differs",
            Self::Renewed => "pair_secret_renewed",
            Self::TooNarrow => "too_narrow",
            Self::GivenUp => "given_up",
        }
    }

    /// True when the peer's link began anew, so that what it has not answered may be asked again.
    pub const fn is_new_beginning(self) -> bool {
        matches!(self, Self::Restarted | Self::GivenUp)
    }
}
