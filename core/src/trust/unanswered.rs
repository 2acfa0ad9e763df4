//! Owns what is still to be done for joins without an answer: requests that go directly to addresses, and members of groups that are
//! yet to be asked. It is a part of the book on disk, so that a node that starts again goes on where it was.

use super::TrustBook;
use super::join::is_join;
use crate::codec::{Malformed, Put as _, Reader};
use crate::group::GroupId;
use crate::identity::IdentityKey;
use crate::invite::{CANDIDATES_MAX, CONTACTS_MAX};
use crate::underlay::{parse_endpoint, put_endpoint};
use crate::wire::DATAGRAM_LEN_BASE;
use alloc::vec::Vec;
use core::net::SocketAddr;

/// Most nodes that are asked directly at once, and most groups of which members are asked. Source: own choice; a node joins one, or a
/// few.
pub(crate) const JOINS_MAX: usize = 16;

/// A JOIN that goes directly to the inviter, or to a member of a group.
pub(crate) struct DirectJoin {
    pub(crate) inviter: IdentityKey,
    /// At most [`CANDIDATES_MAX`].
    pub(crate) to: Vec<SocketAddr>,
    pub(crate) datagram: Vec<u8>,
}

#[derive(Default)]
pub(super) struct Unanswered {
    direct: Vec<DirectJoin>,
    /// The members of each group that this node has entered which were not asked yet, the next one last.
    contacts: Vec<(GroupId, Vec<IdentityKey>)>,
}

impl TrustBook {
    /// The JOINs that go directly.
    pub(crate) fn direct_joins(&self) -> &[DirectJoin] {
        &self.unanswered.direct
    }

    /// Adds a JOIN in place of an earlier one to the same node; false when there are [`JOINS_MAX`].
    pub(crate) fn add_direct_join(&mut self, join: DirectJoin) -> bool {
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

    /// True when there is something to write.
    pub(super) fn has_unanswered(&self) -> bool {
        !self.unanswered.direct.is_empty() || !self.unanswered.contacts.is_empty()
    }
}

impl Unanswered {
    /// Appends it to the book on disk.
    pub(super) fn emit(&self, out: &mut Vec<u8>) {
        out.put_varint(self.direct.len() as u64);
        for join in &self.direct {
            out.put(&join.inviter.0);
            out.put_varint(join.to.len() as u64);
            join.to.iter().for_each(|to| put_endpoint(out, Some(to)));
            out.put_bytes(&join.datagram);
        }
        out.put_varint(self.contacts.len() as u64);
        for (id, contacts) in &self.contacts {
            out.put(&id.0);
            out.put_varint(contacts.len() as u64);
            contacts.iter().for_each(|key| out.put(&key.0));
        }
    }

    pub(super) fn parse(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        let mut unanswered = Self::default();
        for _ in 0..count(r, JOINS_MAX)? {
            let (inviter, mut to) = (IdentityKey(r.array()?), Vec::new());
            for _ in 0..count(r, CANDIDATES_MAX)? {
                to.push(parse_endpoint(r)?.ok_or(Malformed)?);
            }
            let datagram: Vec<u8> = r.bytes(DATAGRAM_LEN_BASE)?.into();
            if !is_join(&datagram) {
                return Err(Malformed);
            }
            unanswered.direct.push(DirectJoin { inviter, to, datagram });
        }
        for _ in 0..count(r, JOINS_MAX)? {
            let (id, mut contacts) = (GroupId(r.array()?), Vec::new());
            for _ in 0..count(r, CONTACTS_MAX)? {
                contacts.push(IdentityKey(r.array()?));
            }
            unanswered.contacts.push((id, contacts));
        }
        Ok(unanswered)
    }
}

fn count(r: &mut Reader<'_>, max: usize) -> Result<u64, Malformed> {
    r.varint().and_then(|count| if count <= max as u64 { Ok(count) } else { Err(Malformed) })
}
