//! Owns which requests of strangers wait for the owner, how they give way to each other, and the revocations of keys that are
//! neither pinned nor asked.

use super::{PENDING_MAX, PendingRequest, Source, TrustBook};
use crate::identity::IdentityKey;
use crate::sort::sort_by;
use alloc::vec::Vec;

/// Most requests from one source that wait. Source: `docs/trust.md`.
const PER_SOURCE_MAX: usize = 16;
/// Most requests that count as seen: the rest of the room stays for newer ones. Source: own choice.
const SEEN_MAX: usize = PENDING_MAX / 2;
/// Most revocations of unknown keys that are remembered. Source: own choice; each voids messages under way only.
const REVOKED_MAX: usize = 256;

impl TrustBook {
    /// The owner has seen the requests that wait.
    pub fn note_seen(&mut self) {
        let mut rows: Vec<_> = self.pending.iter_mut().map(|(_, request)| request).collect();
        sort_by(&mut rows, |a, b| a.received_at > b.received_at);
        for (i, request) in rows.into_iter().enumerate() {
            request.is_seen = i < SEEN_MAX;
        }
    }

    /// Keeps a request for the owner. A newer request of a node takes the place of the one before; without room for another
    /// node's the oldest one that no owner has seen gives way, of the source that has most.
    pub(super) fn keep_request(&mut self, mut request: PendingRequest) {
        let key = request.record.identity;
        match self.pending.get(&key) {
            Some(before) => request.is_seen = before.is_seen,
            None if self.pins.contains_key(&key) => {}
            None => {
                if request.source.is_some() && self.count_of(request.source) >= PER_SOURCE_MAX {
                    self.give_way(|other| other.source == request.source);
                }
                if self.strangers().count() >= PENDING_MAX {
                    let most = self.strangers().map(|other| self.count_of(other.source)).max().unwrap_or_default();
                    let crowd = self.strangers().find(|other| self.count_of(other.source) == most);
                    let crowd = crowd.and_then(|other| other.source);
                    self.give_way(|other| other.source == crowd);
                }
            }
        }
        self.pending.insert(key, request);
        debug_assert!(self.strangers().count() <= PENDING_MAX, "one request gives way to another");
    }

    /// The requests of nodes without a pin. One of a peer takes no stranger's room, and gives way to none.
    pub(super) fn strangers(&self) -> impl Iterator<Item = &PendingRequest> {
        self.pending.values().filter(|request| !self.pins.contains_key(&request.record.identity))
    }

    fn count_of(&self, source: Option<Source>) -> usize {
        self.strangers().filter(|request| request.source == source).count()
    }

    fn give_way(&mut self, is_of: impl Fn(&PendingRequest) -> bool) {
        let rows = self.strangers().filter(|request| is_of(request));
        let oldest = rows.min_by_key(|request| (request.is_seen, request.received_at, request.epoch));
        if let Some(key) = oldest.map(|request| request.record.identity) {
            self.pending.remove(&key);
        }
    }

    /// Remembers the epoch of a revocation by a key of which nothing else is known, so that no older message of that key
    /// counts.
    pub(super) fn note_revocation(&mut self, key: IdentityKey, epoch: u64) {
        if let Some((_, newest)) = self.revoked.iter_mut().find(|(of, _)| *of == key) {
            *newest = epoch.max(*newest);
            return;
        }
        if self.revoked.len() >= REVOKED_MAX {
            self.revoked.remove(0);
        }
        self.revoked.push((key, epoch));
    }

    pub(super) fn revocation_of(&self, key: &IdentityKey) -> u64 {
        self.revoked.iter().find(|(of, _)| of == key).map_or(0, |(_, epoch)| *epoch)
    }
}

#[cfg(test)]
pub(super) const fn limits() -> (usize, usize, usize) {
    (PER_SOURCE_MAX, SEEN_MAX, REVOKED_MAX)
}
