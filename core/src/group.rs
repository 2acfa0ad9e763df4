//! Owns groups: nodes that belong together because a key of one owner says so (`docs/trust.md`, "Groups").
//!
//! ```text
//!   group key ──signs──▶ statement of an admin ──signs──▶ statement of a member        no longer chain counts
//!   group key ──signs──▶ enrolment, for a code ──signs──▶ statement of a member
//!   founder   ──signs──▶ another group key, when the first one was stolen
//!   admin     ──signs──▶ removal of a member, or of an admin that is younger than the signer
//! ```
//! All of these are **rows** of a [`Roster`]. Each row is signed by itself, so that rosters are merged row by row in any order, over
//! any peer, and all members with the same rows judge alike: nothing depends on which row came first. A roster opens
//! nothing. What members may do at a node is said by the owner of that node (`trust`).

mod enrolment;
mod roster;
mod row;
mod talk;

pub use enrolment::{
    ENROLMENT_TERM_MAX_S, ENROLMENT_USES_MAX, ENROLMENTS_MAX, Enrolment, EnrolmentSeed, OVER_USES_MAX, number_of,
};
pub use roster::{Judge, LEAVERS_MAX, MEMBERS_MAX, REMOVALS_MAX, ROSTER_LEN_MAX, Roster, Usage};
pub use row::{KeyRow, Removal, Role, Row, STATEMENT_LEN_MAX, Signer, Statement};
pub use talk::{Credentials, Hello, PART_LEN_MAX, TOLD_LEN_MAX, Talk};

use crate::codec::{Malformed, Put as _, Reader};
use crate::hash;
use crate::identity::{IdentityKey, valid_hostname};
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::str::FromStr;

/// Most groups of a node. Source: `docs/trust.md`, "Groups".
pub const GROUPS_MAX: usize = 64;
/// Longest name of a group. Unit: bytes. Source: own choice; a name inside a group is shorter than a name of DNS.
pub const GROUP_NAME_MAX: usize = 32;
/// Term of a member's statement. Unit: seconds (30 days). Source: `docs/trust.md`, "Groups".
pub const MEMBER_TERM_S: u32 = 30 * DAY_S;
/// Term of an admin's statement, which the group key alone renews. Unit: seconds (one year). Source: own choice; so long a group
/// lives on when its key is lost.
pub const ADMIN_TERM_S: u32 = 365 * DAY_S;
/// Shortest age of a statement that is renewed. Unit: seconds (one day). Source: `docs/trust.md`, "Groups".
pub const RENEWAL_PAUSE_S: u32 = DAY_S;
/// Unit: seconds.
const DAY_S: u32 = 24 * 3600;

/// Name of a group for machines: the first bytes of a hash over its first key and its founder.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct GroupId(pub [u8; 16]);

impl fmt::Display for GroupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for GroupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for GroupId {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        let digits = text.as_bytes();
        let mut id = [0; 16];
        if digits.len() != 32 || !digits.iter().all(u8::is_ascii_hexdigit) {
            return Err(Malformed);
        }
        for (byte, two) in id.iter_mut().zip(digits.chunks_exact(2)) {
            let two = core::str::from_utf8(two).map_err(|_| Malformed)?;
            *byte = u8::from_str_radix(two, 16).map_err(|_| Malformed)?;
        }
        Ok(Self(id))
    }
}

/// What never changes about a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Name for people; two groups of one node have different ones. See [`valid_hostname`].
    pub name: String,
    /// The first group key.
    pub key: IdentityKey,
    /// The node with the identity key that may replace the group key.
    pub founder: IdentityKey,
}

impl Group {
    /// The group's name for machines.
    pub fn id(&self) -> GroupId {
        let hash = hash::blake2s(&[b"pn1-group", &self.key.0, &self.founder.0]);
        GroupId(*hash.first_chunk().expect("16 of 32 bytes"))
    }

    /// Appends the group's bytes.
    pub fn emit(&self, out: &mut Vec<u8>) {
        out.put_bytes(self.name.as_bytes());
        out.put(&self.key.0);
        out.put(&self.founder.0);
    }

    /// Reads what [`Group::emit`] wrote.
    ///
    /// # Errors
    /// When the bytes end early, or the name is none.
    pub fn parse(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        let name = r.str(GROUP_NAME_MAX)?;
        if !valid_group_name(name) {
            return Err(Malformed);
        }
        Ok(Self { name: name.into(), key: IdentityKey(r.array()?), founder: IdentityKey(r.array()?) })
    }
}

/// True for the name of a group: shaped like a hostname, at most [`GROUP_NAME_MAX`] bytes.
pub fn valid_group_name(name: &str) -> bool {
    name.len() <= GROUP_NAME_MAX && valid_hostname(name)
}

/// Why a row does not count, or a node does not stand as a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// The signature is wrong, or the row is of another group.
    Signature,
    /// The signer is no admin of the group: a chain has two links at most.
    NotAnAdmin,
    /// The term of the statement, or of the admin that signed it, is over.
    Ended,
    /// The node was removed, and has no statement that is newer than that.
    Removed,
    /// The group has no statement of this node.
    Unknown,
    /// The enrolment was withdrawn, or a member was removed after it had been made.
    Withdrawn,
    /// The group has no enrolment that allows what its key has signed.
    NotEnrolled,
    /// The roster has as many members, removals or bytes as it may have.
    Full,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Signature => "the signature is not one of this group",
            Self::NotAnAdmin => "the signer is no admin of the group",
            Self::Ended => "the membership has ended",
            Self::Removed => "the node was removed from the group",
            Self::Unknown => "the node is no member of the group",
            Self::Withdrawn => "the code by which the node enrolled was withdrawn",
            Self::NotEnrolled => "no code of the group allows this",
            Self::Full => "the group is full",
        })
    }
}

impl core::error::Error for Refusal {}

#[cfg(test)]
mod tests;
