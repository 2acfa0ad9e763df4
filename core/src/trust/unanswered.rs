//! Owns what is still to be done for joins without an answer: requests that go directly to addresses, and members of groups that are
//! yet to be asked. It is a part of the book on disk, so that a node that starts again goes on where it was.

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
    pub(super) direct: Vec<DirectJoin>,
    /// The members of each group that this node has entered which were not asked yet, the next one last.
    pub(super) contacts: Vec<(GroupId, Vec<IdentityKey>)>,
}

impl Unanswered {
    pub(super) fn is_empty(&self) -> bool {
        self.direct.is_empty() && self.contacts.is_empty()
    }

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
            if datagram.len() != DATAGRAM_LEN_BASE {
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
