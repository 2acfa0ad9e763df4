//! Owns the table of peers: how one is found, which ones want to send, and when each wants to be woken.
//!
//! No question looks at all peers: the ready list and the timers hold exactly those that have something to do, so that
//! a turn in which nothing is due costs nothing, however many peers rest.

use crate::identity::StaticKey;
use crate::inner::PeerId;
use crate::peer::Peer;
use crate::time::Instant;
use crate::timer::PeerTimer;
use crate::wire::LocalIndex;
use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::vec::Vec;

/// One peer, and what the table keeps about it.
pub(super) struct Entry {
    pub(super) peer: Peer,
    /// The indexes under which `by_index` finds the peer, and the version of the peer's that they are.
    indexes: Vec<LocalIndex>,
    indexes_version: u32,
    /// The peer is in the ready list.
    queued: bool,
    /// What `timers` holds of the peer.
    timer: Option<(Instant, PeerTimer)>,
}

/// All peers of an endpoint.
pub(super) struct PeerTable {
    /// Boxed, since a tree keeps room for many more values than it has.
    entries: BTreeMap<PeerId, Box<Entry>>,
    by_static: BTreeMap<StaticKey, PeerId>,
    by_index: BTreeMap<LocalIndex, PeerId>,
    next: PeerId,
    ready: VecDeque<PeerId>,
    timers: BTreeSet<(Instant, PeerId, PeerTimer)>,
    /// Peers looked up since the start.
    #[cfg(test)]
    looks: core::cell::Cell<usize>,
}

impl PeerTable {
    pub(super) const fn new() -> Self {
        Self {
            entries: BTreeMap::new(),
            by_static: BTreeMap::new(),
            by_index: BTreeMap::new(),
            next: PeerId(1),
            ready: VecDeque::new(),
            timers: BTreeSet::new(),
            #[cfg(test)]
            looks: core::cell::Cell::new(0),
        }
    }

    // Getters.

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn get(&self, id: &PeerId) -> Option<&Entry> {
        #[cfg(test)]
        self.looks.set(self.looks.get() + 1);
        self.entries.get(id).map(|entry| &**entry)
    }

    pub(super) fn get_mut(&mut self, id: &PeerId) -> Option<&mut Entry> {
        #[cfg(test)]
        self.looks.set(self.looks.get() + 1);
        self.entries.get_mut(id).map(|entry| &mut **entry)
    }

    /// All peers. Work grows with their number: not for what happens in every turn.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&PeerId, &Entry)> {
        #[cfg(test)]
        self.looks.set(self.looks.get() + self.entries.len());
        self.entries.iter().map(|(id, entry)| (id, &**entry))
    }

    /// As [`PeerTable::iter`].
    pub(super) fn keys(&self) -> impl Iterator<Item = &PeerId> {
        self.entries.keys()
    }

    /// As [`PeerTable::iter`].
    pub(super) fn values_mut(&mut self) -> impl Iterator<Item = &mut Entry> {
        #[cfg(test)]
        self.looks.set(self.looks.get() + self.entries.len());
        self.entries.values_mut().map(|entry| &mut **entry)
    }

    pub(super) fn by_static(&self, key: &StaticKey) -> Option<PeerId> {
        self.by_static.get(key).copied()
    }

    pub(super) fn by_index(&self, index: LocalIndex) -> Option<PeerId> {
        self.by_index.get(&index).copied()
    }

    // Peers come and go.

    /// Adds the peer that `make` gives for its number. No other peer may have the same static key.
    pub(super) fn add(&mut self, make: impl FnOnce(PeerId) -> Peer) -> PeerId {
        let id = self.next;
        self.next = PeerId(id.0 + 1);
        let peer = make(id);
        let before = self.by_static.insert(peer.static_key, id);
        debug_assert!(before.is_none(), "a static key belongs to one peer");
        self.entries.insert(
            id,
            Box::new(Entry {
                indexes_version: peer.indexes_version(),
                peer,
                indexes: Vec::new(),
                queued: false,
                timer: None,
            }),
        );
        id
    }

    pub(super) fn remove(&mut self, id: PeerId) {
        let Some(entry) = self.entries.remove(&id) else { return };
        self.by_static.remove(&entry.peer.static_key);
        for index in &entry.indexes {
            self.by_index.remove(index);
        }
        if let Some((at, why)) = entry.timer {
            self.timers.remove(&(at, id, why));
        }
    }

    /// Makes the table find the peer under the indexes that it has now, and under no others.
    pub(super) fn sync_indexes(&mut self, id: PeerId) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        if entry.indexes_version == entry.peer.indexes_version() {
            return;
        }
        let current: Vec<LocalIndex> = entry.peer.session_indexes().collect();
        for index in entry.indexes.iter().filter(|i| !current.contains(i)) {
            self.by_index.remove(index);
        }
        self.by_index.extend(current.iter().map(|index| (*index, id)));
        (entry.indexes, entry.indexes_version) = (current, entry.peer.indexes_version());
        debug_assert!(self.by_index.len() >= entry.indexes.len(), "indexes are unique");
    }

    // The ready list.

    /// Puts the peer into the ready list and gives it, to be changed.
    pub(super) fn touch(&mut self, id: PeerId) -> Option<&mut Peer> {
        #[cfg(test)]
        self.looks.set(self.looks.get() + 1);
        let entry = self.entries.get_mut(&id)?;
        if !entry.queued {
            entry.queued = true;
            self.ready.push_back(id);
        }
        Some(&mut entry.peer)
    }

    /// Empties the ready list.
    pub(super) fn clear_ready(&mut self) {
        for id in core::mem::take(&mut self.ready) {
            if let Some(entry) = self.get_mut(&id) {
                entry.queued = false;
            }
        }
    }

    /// The peer that sends next.
    pub(super) fn front(&self) -> Option<PeerId> {
        self.ready.front().copied()
    }

    /// The front peer has sent a batch: the others come first now.
    pub(super) fn rotate(&mut self) {
        self.ready.rotate_left(1);
    }

    /// The front peer has nothing to send, or is gone: takes it from the list and keeps its deadline.
    pub(super) fn retire_front(&mut self, now: Instant) {
        let Some(id) = self.ready.pop_front() else { return };
        #[cfg(test)]
        self.looks.set(self.looks.get() + 1);
        let Some(entry) = self.entries.get_mut(&id) else { return };
        debug_assert!(entry.queued, "the list holds marked peers only");
        entry.queued = false;
        let timer = entry.peer.poll_timeout(now);
        if timer != entry.timer {
            if let Some((old, why)) = entry.timer {
                self.timers.remove(&(old, id, why));
            }
            entry.timer = timer;
            self.timers.extend(timer.map(|(at, why)| (at, id, why)));
        }
    }

    // Timers.

    /// The first peer that is due by `now`, without its timer: [`PeerTable::touch`] it, and it gets a new one.
    pub(super) fn take_due(&mut self, now: Instant) -> Option<PeerId> {
        let (at, id, why) = self.timers.first().copied().filter(|(at, ..)| *at <= now)?;
        self.timers.pop_first();
        let entry = self.get_mut(&id)?;
        debug_assert!(entry.timer == Some((at, why)), "an entry knows its timer");
        entry.timer = None;
        Some(id)
    }

    pub(super) fn poll_timeout(&self) -> Option<(Instant, PeerId, PeerTimer)> {
        self.timers.first().copied()
    }

    #[cfg(test)]
    pub(super) fn looks(&self) -> usize {
        self.looks.get()
    }
}
