//! Owns what the owner of one node has decided about its peers: quotas of messages, each above the one before.

use pilot_core::identity::IdentityKey;
use pilot_core::trust::{TrustBook, TrustVersion};
use std::collections::{BTreeMap, VecDeque};

/// A decision: the version of the trust book that holds it, the peer, and the quota.
pub(crate) type Decision = (TrustVersion, IdentityKey, u32);

#[derive(Default)]
pub(crate) struct Owner {
    last: u32,
    /// Decisions that wait for the disk.
    waiting: VecDeque<Decision>,
    /// The newest that the node has confirmed, for each peer.
    confirmed: BTreeMap<IdentityKey, u32>,
}

impl Owner {
    /// The next quota.
    pub(crate) const fn next(&mut self) -> u32 {
        self.last += 1;
        self.last
    }

    /// A decision waits for the disk.
    pub(crate) fn wait(&mut self, decision: Decision) {
        self.waiting.push_back(decision);
    }

    /// The trust book with this version is on disk.
    pub(crate) fn confirm(&mut self, version: TrustVersion) {
        while let Some((_, key, value)) = self.waiting.front().filter(|(of, ..)| *of <= version) {
            self.confirmed.insert(*key, *value);
            self.waiting.pop_front();
        }
    }

    /// A new process has read its book.
    ///
    /// # Panics
    /// When something is missing that the process before has confirmed.
    pub(crate) fn check(&mut self, book: &TrustBook) {
        self.waiting.clear();
        for (key, value) in &self.confirmed {
            let found = book.pin(key).and_then(|pin| pin.quota.as_ref()).and_then(|quota| quota.messages);
            assert!(found >= Some(*value), "a confirmed decision is lost: {found:?} instead of {value}");
        }
    }
}
