//! Owns the questions that left bound datagram ports: the peer that was asked may answer there without a grant.

use alloc::collections::VecDeque;
use pilot_core::PeerId;

/// Most questions that are remembered; the oldest is forgotten first.
pub(crate) const ASKED_MAX: usize = 1024;

/// The newest [`ASKED_MAX`] pairs of peer and port, each once.
pub(crate) struct Asked<P = PeerId>(VecDeque<(P, u16)>);

impl<P: Copy + PartialEq> Asked<P> {
    pub(crate) const fn new() -> Self {
        Self(VecDeque::new())
    }

    /// Remembers that a datagram went from `port` to `peer`.
    pub(crate) fn note(&mut self, peer: P, port: u16) {
        if self.0.back() == Some(&(peer, port)) {
            return; // one conversation, as usual
        }
        self.0.retain(|pair| *pair != (peer, port));
        if self.0.len() == ASKED_MAX {
            self.0.pop_front();
        }
        self.0.push_back((peer, port));
        debug_assert!(self.0.len() <= ASKED_MAX, "the oldest question made room");
    }

    /// True when `peer` may answer to `port`.
    pub(crate) fn contains(&self, peer: P, port: u16) -> bool {
        self.0.contains(&(peer, port))
    }

    /// Forgets the questions of `port`, which gets another owner.
    pub(crate) fn forget(&mut self, port: u16) {
        self.0.retain(|(_, p)| *p != port);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_questions_are_remembered_up_to_the_maximum() {
        let (mut asked, peer) = (Asked::new(), 'a');
        for port in 0..=ASKED_MAX as u16 {
            asked.note(peer, port);
            asked.note(peer, port);
        }
        assert_eq!(asked.0.len(), ASKED_MAX);
        assert!(!asked.contains(peer, 0) && asked.contains(peer, 1));
        asked.forget(1);
        assert!(!asked.contains(peer, 1));
        (0..=ASKED_MAX as u16).for_each(|port| asked.forget(port));
        assert_eq!(asked.0.len(), 0);
    }
}
