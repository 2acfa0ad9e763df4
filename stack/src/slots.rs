//! Owns the stacks of all peers, each in a slot that is empty while the stack is in use.

use crate::peer_stack::PeerStack;
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use pilot_core::PeerId;

/// The stacks of all peers that have streams. Boxed, since a tree keeps room for many more values than it has.
#[derive(Default)]
pub(crate) struct Slots(BTreeMap<PeerId, Option<Box<PeerStack>>>);

impl Slots {
    /// Runs `f` on a peer's stack, out of its slot for that time: when smoltcp panics on a peer's arithmetic, the slot
    /// stays empty and nothing half-changed is used again (`docs/link.md`, "Hazards met while prototyping").
    /// `None` for a peer without a stack.
    pub(crate) fn with_stack<R>(&mut self, peer: PeerId, f: impl FnOnce(&mut PeerStack) -> R) -> Option<R> {
        let slot = self.0.get_mut(&peer)?;
        let mut stack = slot.take()?;
        let result = f(&mut stack);
        *slot = Some(stack);
        Some(result)
    }

    /// A peer's stack in its slot, for what cannot panic.
    pub(crate) fn get(&self, peer: PeerId) -> Option<&PeerStack> {
        self.0.get(&peer)?.as_deref()
    }

    /// The same, to be changed.
    pub(crate) fn get_mut(&mut self, peer: PeerId) -> Option<&mut PeerStack> {
        self.0.get_mut(&peer)?.as_deref_mut()
    }

    /// Fills a peer's slot.
    pub(crate) fn insert(&mut self, peer: PeerId, stack: PeerStack) {
        self.0.insert(peer, Some(Box::new(stack)));
    }

    /// Drops a peer's stack and its slot.
    pub(crate) fn remove(&mut self, peer: PeerId) {
        self.0.remove(&peer);
    }

    /// Removes the slots that a panic left empty; the peers they belonged to.
    pub(crate) fn take_lost(&mut self) -> Vec<PeerId> {
        let lost: Vec<PeerId> = self.0.iter().filter(|(_, slot)| slot.is_none()).map(|(peer, _)| *peer).collect();
        self.0.retain(|_, slot| slot.is_some());
        lost
    }

    /// Bytes of all rings. Looks at every stream.
    pub(crate) fn ring_bytes(&self) -> usize {
        self.0.values().flatten().map(|stack| stack.ring_bytes()).sum()
    }
}
