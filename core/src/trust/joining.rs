//! Owns the verbs for joins without an answer.

use super::TrustBook;
use super::unanswered::{DirectJoin, JOINS_MAX};
use crate::group::GroupId;
use crate::identity::IdentityKey;
use crate::invite::{CANDIDATES_MAX, CONTACTS_MAX};
use alloc::vec::Vec;

impl TrustBook {
    /// The JOINs that go directly.
    pub(crate) fn direct_joins(&self) -> &[DirectJoin] {
        &self.unanswered.direct
    }

    /// Adds a JOIN in place of an earlier one to the same node, for the first [`CANDIDATES_MAX`] addresses; false when there are
    /// [`JOINS_MAX`].
    pub(crate) fn add_direct_join(&mut self, mut join: DirectJoin) -> bool {
        join.to.truncate(CANDIDATES_MAX);
        let direct = &mut self.unanswered.direct;
        direct.retain(|other| other.inviter != join.inviter);
        if direct.len() >= JOINS_MAX {
            return false;
        }
        direct.push(join);
        self.changed();
        true
    }

    /// Says which members of a group are to be asked, at most [`CONTACTS_MAX`], the next one last.
    pub(crate) fn set_contacts(&mut self, id: &GroupId, contacts: Vec<IdentityKey>) {
        debug_assert!(contacts.len() <= CONTACTS_MAX, "as many as a code has");
        self.unanswered.contacts.retain(|(group, _)| group != id);
        self.unanswered.contacts.push((*id, contacts));
        self.changed();
    }

    /// The groups of which members are yet to be asked.
    pub(crate) fn groups_with_contacts(&self) -> impl Iterator<Item = GroupId> {
        self.unanswered.contacts.iter().map(|(id, _)| *id)
    }

    /// Takes the member that is asked next.
    pub(crate) fn next_contact(&mut self, id: &GroupId) -> Option<IdentityKey> {
        let (_, contacts) = self.unanswered.contacts.iter_mut().find(|(group, _)| group == id)?;
        let contact = contacts.pop();
        self.changed();
        contact
    }

    /// Forgets what has an answer, or is not wanted any more.
    pub(crate) fn forget_answered(&mut self) {
        let mut unanswered = core::mem::take(&mut self.unanswered);
        unanswered.direct.retain(|join| self.is_joining(&join.inviter));
        unanswered.contacts.retain(|(id, contacts)| !contacts.is_empty() && self.is_entering(id));
        self.unanswered = unanswered;
    }

    /// True while no member of a group that this node has entered has answered.
    fn is_entering(&self, id: &GroupId) -> bool {
        self.groups.position(id).is_some() && !self.is_met(id)
    }
}
