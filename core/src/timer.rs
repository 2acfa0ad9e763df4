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
    /// An INIT is repeated, or leaves after all.
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
    /// A meeting with a peer, or a survey of this node's NAT.
    Meeting,
}

/// The first of the deadlines that were noted, with its reason.
#[derive(Clone, Copy, Default)]
pub(crate) struct Soonest(Option<(Instant, PeerTimer)>);

impl Soonest {
    /// Takes one more deadline into account. Of equal ones the first noted wins.
    pub(crate) fn note(&mut self, why: PeerTimer, at: Option<Instant>) {
        if let Some(at) = at
            && self.0.is_none_or(|(first, _)| at < first)
        {
            self.0 = Some((at, why));
        }
    }

    /// The first deadline and its reason.
    pub(crate) const fn get(self) -> Option<(Instant, PeerTimer)> {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_deadline_wins_and_brings_its_reason() {
        let at = |ms: u64| Some(Instant::from_micros(1000 * ms));
        let mut soonest = Soonest::default();
        assert_eq!(soonest.get(), None);
        soonest.note(PeerTimer::Erase, at(9));
        soonest.note(PeerTimer::Ack, None);
        soonest.note(PeerTimer::Punch, at(3));
        soonest.note(PeerTimer::Rest, at(3));
        assert_eq!(soonest.get(), Some((Instant::from_micros(3000), PeerTimer::Punch)));
    }
}
