//! Owns the code of an enrolment: all that a node needs to become a member of a group while no admin of it is online.
//!
//! ```text
//!   version 2 | name of the group | first group key 32 | founder 32 | seed 16
//!     | uses u16 | issued, end, epoch u32 | signature of the group key 64 | parts
//!   parts: the group key if it is another one, 1 to 4 contacts, then ways as in a code of an invite
//! ```
//! A contact is the identity key of a member: its mailbox at the rendezvous is found by that alone, while an address finds only nodes
//! that are public. The addresses are those of the first contact.

use super::{
    CONTACT, CONTENT_LEN_MAX, CodeError, FOUNDER, InviteCode, KEY_ROW, Rendezvous, VERSION, VERSION_ENROLMENT, Ways,
    put_name, read_name, text,
};
use crate::codec::{Malformed, Put as _, Reader};
use crate::group::{Enrolment, EnrolmentSeed, Group, KeyRow, valid_group_name};
use crate::identity::IdentityKey;
use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::net::SocketAddr;
use core::str::FromStr;

/// Most members in a code. Source: own choice; each but the founder takes 55 characters.
pub const CONTACTS_MAX: usize = 4;

/// The content of a code by which nodes enrol in a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnrolmentCode {
    /// The group.
    pub group: Group,
    /// The group key, if it is not the first one.
    pub key_row: Option<KeyRow>,
    /// What the enrolment key is made of.
    pub seed: EnrolmentSeed,
    /// The row of the roster, with the key of `seed`.
    pub enrolment: Enrolment,
    /// Members that may answer, in the order in which they are asked, from 1 to [`CONTACTS_MAX`].
    pub contacts: Vec<IdentityKey>,
    /// Underlay addresses of the first contact, at most [`CANDIDATES_MAX`](super::CANDIDATES_MAX).
    pub candidates: Vec<SocketAddr>,
    /// The rendezvous of the group; there is one, or a candidate.
    pub rendezvous: Option<Rendezvous>,
}

impl EnrolmentCode {
    /// The text of the code: 375 characters with the founder alone over a rendezvous with a short name, 170 more with three other
    /// contacts, 170 more once the group has another key.
    ///
    /// # Errors
    /// `Content` as of [`InviteCode::emit`](super::InviteCode::emit), or with no contact, too many, or so much that it is no code.
    pub fn emit(&self) -> Result<String, CodeError> {
        let mut out = Vec::new();
        out.put_u8(VERSION_ENROLMENT);
        put_name(&self.group.name, &mut out).map_err(|Malformed| CodeError::Content)?;
        out.put(&self.group.key.0);
        out.put(&self.group.founder.0);
        out.put(self.seed.bytes());
        let Enrolment { uses, issued, not_after, epoch, signature, .. } = &self.enrolment;
        out.put_u16(*uses);
        [issued, not_after, epoch].into_iter().for_each(|n| out.put_u32(*n));
        out.put(signature);
        if let Some(row) = &self.key_row {
            out.put_u8(KEY_ROW);
            out.put_u32(row.number);
            out.put(&row.key.0);
            out.put(&row.signature);
        }
        for contact in &self.contacts {
            if *contact == self.group.founder {
                out.put_u8(FOUNDER);
            } else {
                out.put_u8(CONTACT);
                out.put(&contact.0);
            }
        }
        self.ways().emit(&mut out).map_err(|Malformed| CodeError::Content)?;
        if !self.is_whole() || out.len() > CONTENT_LEN_MAX {
            return Err(CodeError::Content);
        }
        Ok(text::emit(&out))
    }

    fn is_whole(&self) -> bool {
        (1..=CONTACTS_MAX).contains(&self.contacts.len())
            && self.seed.identity().public() == self.enrolment.key
            && self.enrolment.is_in_range()
            && self.ways().is_whole()
    }

    fn ways(&self) -> Ways {
        Ways { candidates: self.candidates.clone(), rendezvous: self.rendezvous.clone() }
    }

    /// Reads the content of a code of this version.
    pub(super) fn read(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut r = Reader::new(bytes);
        r.u8()?; // the version
        let name = read_name(&mut r)?;
        if !valid_group_name(&name) {
            return Err(Malformed);
        }
        let group = Group { name, key: IdentityKey(r.array()?), founder: IdentityKey(r.array()?) };
        let seed = EnrolmentSeed::new(r.array()?);
        let (uses, issued, not_after, epoch, signature) = (r.u16()?, r.u32()?, r.u32()?, r.u32()?, r.array()?);
        let enrolment = Enrolment { key: seed.identity().public(), uses, issued, not_after, epoch, signature };
        let (mut key_row, mut contacts, mut ways) = (None, Vec::new(), Ways::default());
        while !r.is_empty() {
            match r.u8()? {
                KEY_ROW if key_row.is_none() => {
                    let (number, key) = (r.u32()?, IdentityKey(r.array()?));
                    key_row = Some(KeyRow { number, key, signature: r.array()? });
                }
                FOUNDER => contacts.push(group.founder),
                CONTACT => contacts.push(IdentityKey(r.array()?)),
                kind => ways.read(kind, &mut r)?,
            }
        }
        let Ways { candidates, rendezvous } = ways;
        let code = Self { group, key_row, seed, enrolment, contacts, candidates, rendezvous };
        if code.is_whole() { Ok(code) } else { Err(Malformed) }
    }
}

/// What a text may be a code of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JoinCode {
    /// An invite of a node, which answers for itself.
    Invite(Box<InviteCode>),
    /// An enrolment of a group, of which any member answers.
    Enrolment(Box<EnrolmentCode>),
}

impl JoinCode {
    /// The rendezvous over which the code leads.
    pub fn rendezvous(&self) -> Option<&Rendezvous> {
        match self {
            Self::Invite(code) => code.rendezvous.as_ref(),
            Self::Enrolment(code) => code.rendezvous.as_ref(),
        }
    }

    /// The underlay addresses to which the code leads.
    pub fn candidates(&self) -> &[SocketAddr] {
        match self {
            Self::Invite(code) => &code.candidates,
            Self::Enrolment(code) => &code.candidates,
        }
    }

    /// The nodes of which one has to answer.
    pub fn contacts(&self) -> &[IdentityKey] {
        match self {
            Self::Invite(code) => core::slice::from_ref(&code.inviter),
            Self::Enrolment(code) => &code.contacts,
        }
    }
}

impl FromStr for JoinCode {
    type Err = CodeError;

    /// Reads a code of either version. Case, dashes and white space do not count.
    fn from_str(text: &str) -> Result<Self, CodeError> {
        let bytes = text::parse(text).map_err(CodeError::Typing)?;
        let read = match bytes.first() {
            Some(&VERSION) => InviteCode::read(&bytes).map(|code| Self::Invite(Box::new(code))),
            Some(&VERSION_ENROLMENT) => EnrolmentCode::read(&bytes).map(|code| Self::Enrolment(Box::new(code))),
            Some(version) => return Err(CodeError::Version(*version)),
            None => Err(Malformed),
        };
        read.map_err(|Malformed| CodeError::Content)
    }
}
