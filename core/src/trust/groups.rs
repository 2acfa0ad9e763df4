//! Owns the groups of this node: their rosters, what members may reach here, and the pins that follow from both.
//!
//! A pin has grants by hand, by group, or both; what any of them opens is open. The grants by group **follow** from the rosters
//! and from what this owner allows: `grouping` makes them so after every change of either, and a pin that has
//! no grant left goes. Nothing else gives or takes a grant by group.
//!
//! Ends of statements are judged by the clock of the rendezvous, and by no earlier time than this node has counted since it has had groups: a
//! clock that is set back brings no membership back (`docs/trust.md`, "Groups").

use super::pin::Pin;
use super::ports::Ports;
use crate::codec::{Malformed, Put as _, Reader};
use crate::group::{GROUPS_MAX, Group, GroupId, Refusal, Role, Roster, Row, Statement};
use crate::identity::{Identity, IdentityKey, NodeRecord};
use alloc::vec::Vec;
use core::fmt;
use zeroize::Zeroizing;

/// A group to which this node belongs, or did.
pub struct Membership {
    /// The members.
    pub roster: Roster,
    /// Our ports that members may reach.
    pub allowed: Ports,
    /// Our ports that admins may reach, when that is not the same.
    pub allowed_admins: Option<Ports>,
    /// Seed of the group key, where it was made.
    pub(super) key: Option<Zeroizing<[u8; 32]>>,
}

/// All groups of this node.
#[derive(Default)]
pub(super) struct Groups {
    pub(super) list: Vec<Membership>,
    /// The clock of the rendezvous when counted time was zero. Unit: seconds since 1970.
    pub(super) base_s: u64,
    /// When something is to be done next. Unit: seconds since 1970, by the clock of the signers.
    pub(super) due_s: u64,
    /// The keys of enrolments of which the owner was told in this run that more nodes have used them than may.
    pub(super) told: Vec<IdentityKey>,
}

/// Rows of groups that were not known before.
pub(super) type News = Vec<(GroupId, Vec<Row>)>;

/// What followed from a change of a group.
#[derive(Debug, Default)]
pub(crate) struct Settled {
    /// Former pins that had no grant left, each with the message that tells the peer.
    pub(crate) ended: Vec<(Pin, Vec<u8>)>,
    /// Peers that may reach other ports than before.
    pub(crate) regranted: Vec<IdentityKey>,
}

/// Why a command about a group was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum GroupError {
    /// This node has no such group.
    Unknown,
    /// Another group of this node has the name.
    NameTaken,
    /// It is no name for a group.
    BadName,
    /// This node has [`GROUPS_MAX`] groups, or the table of invites, requests or peers is full.
    Full,
    /// Only an admin of the group may do so, and for an admin only one that is older, or the group key.
    NotAnAdmin,
    /// The group key is not on this node.
    NoKey,
    /// It is not the key that the group has now.
    WrongKey,
    /// Only the founder of the group may do so.
    NotTheFounder,
    /// A statement is renewed once in a day.
    TooSoon,
    /// A value is out of its range.
    OutOfRange,
    /// The node is a peer already.
    AlreadyTrusted,
    /// The node, or this one, is no member.
    NotAMember(Refusal),
    /// The time of the code is over.
    CodeEnded,
    /// The code leads over a rendezvous that this node does not use, and names no address of a member.
    NoWay,
}

impl fmt::Display for GroupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unknown => "this node has no such group",
            Self::NameTaken => "this node has a group of that name",
            Self::BadName => "a group has a name of at most 32 letters a-z, digits and dashes",
            Self::Full => "too many groups, invites, requests or peers",
            Self::NotAnAdmin => "only an older admin of the group may do so, or the group key",
            Self::NoKey => "the group key is not on this node",
            Self::WrongKey => "that is not the key that the group has now",
            Self::NotTheFounder => "only the founder of the group may do so",
            Self::TooSoon => "a membership is renewed once in a day",
            Self::OutOfRange => "a value is out of its range",
            Self::AlreadyTrusted => "the node is trusted already",
            Self::NotAMember(why) => return why.fmt(f),
            Self::CodeEnded => "the time of the code is over",
            Self::NoWay => "the code leads over another rendezvous",
        })
    }
}

impl core::error::Error for GroupError {}

impl From<Refusal> for GroupError {
    fn from(why: Refusal) -> Self {
        if why == Refusal::Full { Self::Full } else { Self::NotAMember(why) }
    }
}

impl Membership {
    /// True when the group key is on this node.
    pub const fn has_key(&self) -> bool {
        self.key.is_some()
    }

    /// Seed of the group key, for keeping it elsewhere.
    pub fn key_seed(&self) -> Option<&[u8; 32]> {
        self.key.as_deref()
    }

    /// Our ports that a member with this role may reach.
    pub fn allowed(&self, role: Role) -> &Ports {
        self.allowed_admins.as_ref().filter(|_| role == Role::Admin).unwrap_or(&self.allowed)
    }

    pub(super) fn signer<'a>(&self, own: &'a Identity) -> SignerOf<'a> {
        SignerOf { own, key: self.key.as_ref().map(|seed| Identity::from_seed(**seed)) }
    }
}

/// The keys with which this node signs for a group.
pub(super) struct SignerOf<'a> {
    own: &'a Identity,
    pub(super) key: Option<Identity>,
}

impl SignerOf<'_> {
    /// Signs with the group key where it is here, and with this node's own key otherwise.
    pub(super) fn sign(&self, group: &GroupId, row: Row) -> Row {
        row.sign(group, self.key.as_ref().unwrap_or(self.own))
    }

    /// The signer as rows name it.
    pub(super) fn name(&self) -> Option<IdentityKey> {
        self.key.is_none().then(|| self.own.public())
    }
}

impl Groups {
    pub(super) fn position(&self, id: &GroupId) -> Option<usize> {
        self.list.iter().position(|membership| membership.roster.id() == *id)
    }

    pub(super) fn get_mut(&mut self, id: &GroupId) -> Option<&mut Membership> {
        self.list.iter_mut().find(|membership| membership.roster.id() == *id)
    }

    /// True when a peer is one by the group.
    pub(super) fn has_grant(pin: &Pin, id: &GroupId) -> bool {
        pin.groups.iter().any(|grant| grant.group == *id)
    }

    /// Makes room for another group.
    pub(super) fn check_new(&self, group: &Group) -> Result<(), GroupError> {
        if self.list.len() >= GROUPS_MAX {
            return Err(GroupError::Full);
        }
        let is_taken = self.list.iter().any(|other| other.roster.group().name == group.name);
        if is_taken { Err(GroupError::NameTaken) } else { Ok(()) }
    }

    /// Appends the groups to the book on disk.
    pub(super) fn emit(&self, out: &mut Vec<u8>) {
        out.put_u64(self.base_s);
        out.put_varint(self.list.len() as u64);
        for membership in &self.list {
            membership.roster.emit(out);
            membership.allowed.emit(out);
            out.put_u8(u8::from(membership.allowed_admins.is_some()) | u8::from(membership.key.is_some()) << 1);
            membership.allowed_admins.iter().for_each(|ports| ports.emit(out));
            membership.key.iter().for_each(|key| out.put(&**key));
        }
    }

    pub(super) fn parse(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        let mut groups = Self { base_s: r.u64()?, ..Self::default() };
        let count = r.varint()?;
        if count > GROUPS_MAX as u64 {
            return Err(Malformed);
        }
        for _ in 0..count {
            let (roster, allowed, flags) = (Roster::parse(r)?, Ports::parse(r)?, r.u8()?);
            let allowed_admins = if flags & 1 != 0 { Some(Ports::parse(r)?) } else { None };
            let key = if flags & 2 != 0 { Some(Zeroizing::new(r.array()?)) } else { None };
            groups.list.push(Membership { roster, allowed, allowed_admins, key });
        }
        Ok(groups)
    }
}

/// The keys by which a member is asked.
pub(super) fn record_of(row: &Statement) -> NodeRecord {
    NodeRecord::unsigned(row.identity, row.static_key, row.addr, &row.name)
}
