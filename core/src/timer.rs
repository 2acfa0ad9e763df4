//! Owns the reasons for which a machine wants to be woken, so that a busy loop explains itself.

use crate::inner::PeerId;
use crate::time::Instant;

/// Why a peer wants to be looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum PeerTimer {
    /// An acknowledgement is due.
    Ack,
    /// A datagram counts as lost.
    Loss,
    /// Silence has lasted long enough to probe.
    Probe,
    /// Paced sending goes on.
    Pacing,
    /// Candidates are probed for a direct path.
    Punch,
    /// A larger datagram is tried.
    Size,
    /// An INIT is repeated.
    Resend,
    /// An unanswered key handshake is given up.
    GiveUp,
    /// The rendezvous is asked for a relay to the peer.
    AskRelay,
    /// Keys are replaced.
    Rekey,
    /// The keys before the current ones are erased.
    EraseOld,
    /// All keys are erased.
    Erase,
    /// A path in use has been silent for long.
    KeepAlive,
    /// Memory is freed that only traffic needs.
    Rest,
}

/// Why an endpoint wants to be woken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Timer {
    /// One of its peers.
    Peer(PeerId, PeerTimer),
    /// A rendezvous call's time, or the next attempt to reach it.
    Directory,
    /// The key for the next key handshake is made in advance.
    Reserve,
}

/// The first of some deadlines, with its reason.
pub(crate) fn first_due<R: Copy + Ord>(
    deadlines: impl IntoIterator<Item = (R, Option<Instant>)>,
) -> Option<(Instant, R)> {
    deadlines.into_iter().filter_map(|(reason, at)| Some((at?, reason))).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_deadline_wins_and_brings_its_reason() {
        let at = |ms: u64| Some(Instant::from_micros(1000 * ms));
        let deadlines = [(PeerTimer::Erase, at(9)), (PeerTimer::Ack, None), (PeerTimer::Punch, at(3))];
        assert_eq!(first_due(deadlines), Some((Instant::from_micros(3000), PeerTimer::Punch)));
        assert_eq!(first_due([(PeerTimer::Ack, None)]), None);
    }
}
