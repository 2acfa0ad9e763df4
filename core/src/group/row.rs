//! Owns the rows of a roster: statements, removals, group keys and enrolments, with their bytes and signatures.
//!
//! ```text
//!   statement: 1 | flags u8 | identity 32 | static key 32 | address 6 | name | since, issued, not after, epoch u32 | signer 32 | signature 64
//!   removal:   2 | flags u8 | member 32 | epoch, until u32 | signer 32 | signature 64
//!   key:       3 | number u32 | group key 32 | signature 64 of the founder
//!   enrolment: 4 | flags u8 | enrolment key 32 | uses u16 | issued, not after, epoch u32 | signature 64 of the group key
//! ```
//! The signer is left out where it is the group key. A signature covers the group's id and all bytes before it. Times are seconds
//! since 1970 (to 2106).

use super::GroupId;
use super::enrolment::Enrolment;
use crate::addr::Addr;
use crate::codec::{Malformed, Put as _, Reader};
use crate::identity::{HOSTNAME_MAX, Identity, IdentityKey, StaticKey, valid_hostname};
use alloc::string::String;
use alloc::vec::Vec;

/// Longest statement. Unit: bytes. Source: `docs/trust.md`, "Groups"; the form above has 272 at most.
pub const STATEMENT_LEN_MAX: usize = 512;
const LABEL: &str = "pn1-group";

const STATEMENT: u8 = 1;
const REMOVAL: u8 = 2;
const KEY: u8 = 3;
const ENROLMENT: u8 = 4;
/// Flags of a row.
const ADMIN: u8 = 1;
const BY_KEY: u8 = 2;
/// The signer of a statement is an enrolment key; what a removal removes is one.
const OF_ENROLMENT: u8 = 4;

/// What a member may do in its group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Belongs to the group.
    Member,
    /// Signs statements of members, and removals.
    Admin,
}

/// The key that has signed a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signer {
    /// The group key.
    GroupKey,
    /// The admin with this identity key.
    Admin(IdentityKey),
    /// The node itself, with the key of this enrolment, which a code told it.
    Enrolment(IdentityKey),
}

impl Signer {
    /// The key that a row names; `None`: the group key, which none does.
    pub const fn key(&self) -> Option<IdentityKey> {
        match self {
            Self::GroupKey => None,
            Self::Admin(key) | Self::Enrolment(key) => Some(*key),
        }
    }
}

/// Says that a node belongs to a group until a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    /// The member.
    pub identity: IdentityKey,
    /// The member's key in key handshakes.
    pub static_key: StaticKey,
    /// The member's address when it joined.
    pub addr: Addr,
    /// The member's name inside the group. See [`valid_hostname`].
    pub name: String,
    /// What the member may do.
    pub role: Role,
    /// When the node became a member: of two admins the one with the smaller value is the older. Unit: seconds since 1970.
    pub since: u32,
    /// When the statement was signed. Unit: seconds since 1970.
    pub issued: u32,
    /// End of the membership. Unit: seconds since 1970.
    pub not_after: u32,
    /// Above the epochs of all removals that its signer knew.
    pub epoch: u32,
    /// The key that has signed.
    pub signer: Signer,
    pub(crate) signature: [u8; 64],
}

/// Says that all statements of a node up to an epoch are void, or an enrolment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Removal {
    /// The node, or the key of the enrolment.
    pub member: IdentityKey,
    /// True when an enrolment is withdrawn, and all that it alone has signed.
    pub is_enrolment: bool,
    /// One above the epochs of all removals that its signer knew.
    pub epoch: u32,
    /// When every statement that it makes void has ended: then it is forgotten. Unit: seconds since 1970.
    pub until: u32,
    /// The admin that signed, or the member itself, which leaves; `None`: the group key did.
    pub signer: Option<IdentityKey>,
    pub(crate) signature: [u8; 64],
}

/// Says that a group has another key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRow {
    /// From 1; the greatest counts.
    pub number: u32,
    /// The group key from now on.
    pub key: IdentityKey,
    pub(crate) signature: [u8; 64],
}

/// One row of a roster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Row {
    /// A node belongs to the group.
    Statement(Statement),
    /// A node does not belong to it any more.
    Removal(Removal),
    /// The group has another key.
    Key(KeyRow),
    /// Holders of a code may make themselves members.
    Enrolment(Enrolment),
}

impl Statement {
    /// True when the group key itself signed.
    pub const fn is_by_key(&self) -> bool {
        matches!(self.signer, Signer::GroupKey)
    }

    /// True when the node has signed by an enrolment: the holder of a code alone says so yet.
    pub const fn is_enrolled(&self) -> bool {
        matches!(self.signer, Signer::Enrolment(_))
    }

    /// True in the last third of the term, when an admin renews it.
    pub const fn is_due(&self, now_s: u64) -> bool {
        let term = self.not_after.saturating_sub(self.issued) as u64;
        now_s >= self.not_after as u64 - term / 3
    }

    /// Of two statements of one node, both by the group key or both by admins, the one with the greater rank counts.
    pub(super) fn rank(&self) -> (u32, u32, &[u8; 64]) {
        (self.epoch, self.issued, &self.signature)
    }

    fn body(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.put_u8(STATEMENT);
        let role = u8::from(self.role == Role::Admin) * ADMIN;
        out.put_u8(match self.signer {
            Signer::GroupKey => role | BY_KEY,
            Signer::Admin(_) => role,
            Signer::Enrolment(_) => role | OF_ENROLMENT,
        });
        out.put(&self.identity.0);
        out.put(&self.static_key.0);
        out.put(&self.addr.to_bytes());
        out.put_bytes(self.name.as_bytes());
        [self.since, self.issued, self.not_after, self.epoch].into_iter().for_each(|n| out.put_u32(n));
        self.signer.key().iter().for_each(|signer| out.put(&signer.0));
        out
    }
}

impl Removal {
    /// True for that of a node which leaves.
    pub fn is_own(&self) -> bool {
        self.signer == Some(self.member) && !self.is_enrolment
    }

    /// Of two removals of one node by one signer the one with the greater rank counts.
    pub(super) fn rank(&self) -> (u32, u32, &[u8; 64]) {
        (self.epoch, self.until, &self.signature)
    }

    fn body(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.put_u8(REMOVAL);
        let (by_key, of) = (u8::from(self.signer.is_none()) * BY_KEY, u8::from(self.is_enrolment) * OF_ENROLMENT);
        out.put_u8(by_key | of);
        out.put(&self.member.0);
        out.put_u32(self.epoch);
        out.put_u32(self.until);
        self.signer.iter().for_each(|signer| out.put(&signer.0));
        out
    }
}

impl KeyRow {
    /// The key with the greater rank counts: a founder that was set back may give two keys the same number.
    pub(super) const fn rank(&self) -> (u32, &[u8; 64]) {
        (self.number, &self.signature)
    }

    fn body(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.put_u8(KEY);
        out.put_u32(self.number);
        out.put(&self.key.0);
        out
    }
}

impl Enrolment {
    fn body(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.put_u8(ENROLMENT);
        out.put_u8(0);
        out.put(&self.key.0);
        out.put_u16(self.uses);
        [self.issued, self.not_after, self.epoch].into_iter().for_each(|n| out.put_u32(n));
        out
    }
}

impl Row {
    /// The row signed for a group with `identity`, which is that of the signer, the group key, or the founder.
    #[must_use]
    pub fn sign(mut self, group: &GroupId, identity: &Identity) -> Self {
        let signature = identity.sign(LABEL, &signed(group, &self.body()));
        match &mut self {
            Self::Statement(row) => row.signature = signature,
            Self::Removal(row) => row.signature = signature,
            Self::Key(row) => row.signature = signature,
            Self::Enrolment(row) => row.signature = signature,
        }
        self
    }

    /// True when `key` signed this row for the group.
    pub fn is_signed(&self, group: &GroupId, key: &IdentityKey) -> bool {
        key.verify(LABEL, &signed(group, &self.body()), self.signature())
    }

    fn body(&self) -> Vec<u8> {
        match self {
            Self::Statement(row) => row.body(),
            Self::Removal(row) => row.body(),
            Self::Key(row) => row.body(),
            Self::Enrolment(row) => row.body(),
        }
    }

    pub(super) const fn signature(&self) -> &[u8; 64] {
        match self {
            Self::Statement(row) => &row.signature,
            Self::Removal(row) => &row.signature,
            Self::Key(row) => &row.signature,
            Self::Enrolment(row) => &row.signature,
        }
    }

    /// The row's bytes.
    pub fn emit(&self) -> Vec<u8> {
        let mut out = self.body();
        out.put(self.signature());
        debug_assert!(out.len() <= STATEMENT_LEN_MAX, "{} bytes", out.len());
        out
    }

    /// Reads a row, without looking at its signature.
    ///
    /// # Errors
    /// When the bytes are no row.
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        if bytes.len() > STATEMENT_LEN_MAX {
            return Err(Malformed);
        }
        let mut r = Reader::new(bytes);
        let row = match r.u8()? {
            STATEMENT => Self::Statement(parse_statement(&mut r)?),
            REMOVAL => {
                let flags = r.u8()?;
                let (member, epoch, until) = (IdentityKey(r.array()?), r.u32()?, r.u32()?);
                let (is_enrolment, by_key) = (flags & OF_ENROLMENT != 0, flags & BY_KEY != 0);
                let signer = if by_key { None } else { Some(IdentityKey(r.array()?)) };
                if flags & !(BY_KEY | OF_ENROLMENT) != 0 {
                    return Err(Malformed); // one form for one content: flags that are not known are none
                }
                Self::Removal(Removal { member, is_enrolment, epoch, until, signer, signature: r.array()? })
            }
            ENROLMENT => Self::Enrolment(parse_enrolment(&mut r)?),
            KEY => Self::Key(KeyRow { number: r.u32()?, key: IdentityKey(r.array()?), signature: r.array()? }),
            _ => return Err(Malformed),
        };
        r.finish()?;
        Ok(row)
    }
}

fn parse_statement(r: &mut Reader<'_>) -> Result<Statement, Malformed> {
    let flags = r.u8()?;
    let (identity, static_key) = (IdentityKey(r.array()?), StaticKey(r.array()?));
    let (addr, name) = (Addr::from_bytes(r.array()?), r.str(HOSTNAME_MAX)?);
    if !valid_hostname(name) {
        return Err(Malformed);
    }
    let (since, issued, not_after, epoch) = (r.u32()?, r.u32()?, r.u32()?, r.u32()?);
    let role = if flags & ADMIN != 0 { Role::Admin } else { Role::Member };
    let signer = match flags & !ADMIN {
        BY_KEY => Signer::GroupKey,
        0 => Signer::Admin(IdentityKey(r.array()?)),
        OF_ENROLMENT if role == Role::Member => Signer::Enrolment(IdentityKey(r.array()?)),
        _ => return Err(Malformed),
    };
    let signature = r.array()?;
    let name = name.into();
    Ok(Statement { identity, static_key, addr, name, role, since, issued, not_after, epoch, signer, signature })
}

fn parse_enrolment(r: &mut Reader<'_>) -> Result<Enrolment, Malformed> {
    let flags = r.u8()?;
    let (key, uses) = (IdentityKey(r.array()?), r.u16()?);
    let (issued, not_after, epoch) = (r.u32()?, r.u32()?, r.u32()?);
    let enrolment = Enrolment { key, uses, issued, not_after, epoch, signature: r.array()? };
    if flags == 0 && enrolment.is_in_range() { Ok(enrolment) } else { Err(Malformed) }
}

fn signed(group: &GroupId, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::from(group.0);
    out.put(body);
    out
}
