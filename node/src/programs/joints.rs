//! Owns the table of the connections of programs, and their deadlines in order.

use crate::programs::joint::Joint;
use crate::programs::joint_id::JointId;
use pilot_core::Instant;

#[derive(Default)]
struct Slot {
    generation: u32,
    joint: Option<Box<Joint>>,
}

/// The connections by name.
#[derive(Default)]
pub(super) struct Joints {
    slots: Vec<Slot>,
    free: Vec<u32>,
    /// In order.
    deadlines: Vec<(Instant, u32)>,
}

impl Joints {
    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// The name that the next connection gets.
    pub(super) fn next(&self) -> JointId {
        let slot = self.free.last().copied().unwrap_or(self.slots.len() as u32);
        JointId { slot, generation: self.slots.get(slot as usize).map_or(0, |s| s.generation) }
    }

    /// Enters a connection under the [`next`](Self::next) name.
    pub(super) fn insert(&mut self, joint: Joint) -> JointId {
        let id = self.next();
        if self.free.pop().is_none() {
            self.slots.push(Slot::default());
        }
        let slot = &mut self.slots[id.slot as usize];
        debug_assert!(slot.joint.is_none(), "a free place is empty");
        slot.joint = Some(Box::new(joint));
        id
    }

    pub(super) fn get_mut(&mut self, id: JointId) -> Option<&mut Joint> {
        self.slots.get_mut(id.slot as usize).filter(|s| s.generation == id.generation)?.joint.as_deref_mut()
    }

    /// The name of the connection in this place.
    pub(super) fn at(&self, slot: usize) -> Option<JointId> {
        let Slot { generation, joint } = self.slots.get(slot)?;
        joint.as_ref().map(|_| JointId { slot: slot as u32, generation: *generation })
    }

    pub(super) fn remove(&mut self, id: JointId) -> Option<Box<Joint>> {
        self.set_deadline(id, None);
        let slot = self.slots.get_mut(id.slot as usize).filter(|s| s.generation == id.generation)?;
        let joint = slot.joint.take()?;
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(id.slot);
        Some(joint)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Joint> {
        self.slots.iter().filter_map(|slot| slot.joint.as_deref())
    }

    /// Changes the end of a connection's patience.
    pub(super) fn set_deadline(&mut self, id: JointId, deadline: Option<Instant>) {
        let Some(joint) = self.get_mut(id) else { return };
        let before = std::mem::replace(&mut joint.deadline, deadline);
        if let Some(Ok(at)) = before.map(|at| self.deadlines.binary_search(&(at, id.slot))) {
            self.deadlines.remove(at);
        }
        if let Some(deadline) = deadline
            && let Err(at) = self.deadlines.binary_search(&(deadline, id.slot))
        {
            self.deadlines.insert(at, (deadline, id.slot));
        }
        debug_assert!(self.deadlines.len() <= self.len(), "a connection has one deadline at most");
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    /// The connection with the earliest deadline, if that has come; the deadline is over with this.
    pub(super) fn expired(&mut self, now: Instant) -> Option<JointId> {
        let &(at, slot) = self.deadlines.first()?;
        let id = self.at(slot as usize).filter(|_| at <= now)?;
        self.set_deadline(id, None);
        Some(id)
    }
}
