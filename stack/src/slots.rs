//! Owns the stacks of all peers, each in a slot that is empty while the stack is in use.

use crate::peer_stack::PeerStack;
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use pilot_core::PeerId;

/// The stacks of all peers that have streams. Boxed, since a tree keeps room for many more values than it has.
#[derive(Default)]
pub(crate) struct Slots {
    slots: BTreeMap<PeerId, Option<Box<PeerStack>>>,
    /// Looks at a peer's stack so far. A turn in which nothing happened adds none.
    #[cfg(test)]
    pub(crate) looks: core::cell::Cell<u64>,
}

impl Slots {
    /// Runs `f` on a peer's stack, which is out of its slot for that time: when smoltcp panics on a peer's arithmetic,
    /// the slot stays empty and nothing half-changed is used again (`docs/link.md`, "Hazards met while prototyping").
    /// `None` for a peer without a stack.
    pub(crate) fn with_stack<R>(&mut self, peer: PeerId, f: impl FnOnce(&mut PeerStack) -> R) -> Option<R> {
        self.note_look();
        let slot = self.slots.get_mut(&peer)?;
        let mut stack = slot.take()?;
        let result = f(&mut stack);
        *slot = Some(stack);
        Some(result)
    }

    /// A peer's stack, in its slot.
    pub(crate) fn get(&self, peer: PeerId) -> Option<&PeerStack> {
        self.note_look();
        self.slots.get(&peer)?.as_deref()
    }

    /// The same, to be changed.
    pub(crate) fn get_mut(&mut self, peer: PeerId) -> Option<&mut PeerStack> {
        self.note_look();
        self.slots.get_mut(&peer)?.as_deref_mut()
    }

    /// The stacks in their slots.
    pub(crate) fn stacks(&self) -> impl Iterator<Item = (PeerId, &PeerStack)> + '_ {
        self.slots.iter().filter_map(|(peer, stack)| Some((*peer, stack.as_deref()?)))
    }

    fn note_look(&self) {
        #[cfg(test)]
        self.looks.set(self.looks.get() + 1);
    }

    /// Fills a peer's slot.
    pub(crate) fn insert(&mut self, peer: PeerId, stack: PeerStack) {
        let old = self.slots.insert(peer, Some(Box::new(stack)));
        debug_assert!(old.is_none_or(|old| old.is_none()), "streams of a stack that is replaced would be lost");
    }

    /// Drops a peer's stack and its slot.
    pub(crate) fn remove(&mut self, peer: PeerId) {
        self.slots.remove(&peer);
    }

    /// Removes the slots that a panic left empty, and names their peers.
    pub(crate) fn take_lost(&mut self) -> Vec<PeerId> {
        let lost: Vec<PeerId> = self.slots.iter().filter(|(_, slot)| slot.is_none()).map(|(peer, _)| *peer).collect();
        self.slots.retain(|_, slot| slot.is_some());
        lost
    }

    /// The peers and the listeners' ports of the streams that wait, one for each stream. Looks at every stream.
    pub(crate) fn waiting(&self) -> impl Iterator<Item = (PeerId, u16)> + '_ {
        let of = |stack: &PeerStack| stack.flows.values().filter_map(|flow| flow.waiting).collect::<Vec<u16>>();
        self.stacks().flat_map(move |(peer, stack)| of(stack).into_iter().map(move |port| (peer, port)))
    }

    /// Bytes of all rings. Looks at every stream.
    pub(crate) fn ring_bytes(&self) -> usize {
        self.slots.values().flatten().map(|stack| stack.ring_bytes()).sum()
    }
}
