//! Owns what members tell each other over their tunnel, and the proof of a membership.
//!
//! ```text
//!   when a tunnel comes up:   HELLO {group, version of the roster, own credentials} …      both ways, to members only
//!   another version:          WANT {group, from row} ──▶     ◀── ROWS {group, rows, where to go on}      and HELLO back
//!   something has changed:    ROWS with the new rows, to all members with a tunnel
//! ```

use super::{GROUPS_MAX, GroupId, Row, STATEMENT_LEN_MAX};
use crate::codec::{Malformed, Put as _, Reader};
use alloc::vec::Vec;

/// Most bytes of rows in one message. Source: own choice; many times less than a control stream holds.
pub const PART_LEN_MAX: usize = 16 * 1024;
/// Longest rows of a change that are told with one message. Unit: bytes. Source: own choice, below the longest message between members.
pub const TOLD_LEN_MAX: usize = 60_000;
/// Length in front of a row. Unit: bytes.
const ROW_HEAD_LEN: usize = 2;
/// Most rows that prove a membership: a group key, an admin or enrolment, a member; and the last two of another one.
const CREDENTIALS_MAX: usize = 5;

/// The proof of a membership.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// The group.
    pub group: GroupId,
    /// The group key if it is not the first one, the admin or the enrolment, the member.
    pub rows: Vec<Row>,
}

impl Credentials {
    /// Appends the bytes of the proof.
    pub fn emit(&self, out: &mut Vec<u8>) {
        out.put(&self.group.0);
        out.put_u8(self.rows.len() as u8);
        self.rows.iter().for_each(|row| out.put_bytes(&row.emit()));
    }

    /// Reads what [`Credentials::emit`] wrote, without looking at signatures.
    ///
    /// # Errors
    /// When the bytes are none.
    pub fn parse(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        let (group, count) = (GroupId(r.array()?), usize::from(r.u8()?));
        if count > CREDENTIALS_MAX {
            return Err(Malformed);
        }
        let rows: Vec<Row> = (0..count).map(|_| Row::parse(r.bytes(STATEMENT_LEN_MAX)?)).collect::<Result<_, _>>()?;
        // A removal proves nothing, and whoever is no member yet has none to tell.
        if rows.iter().any(|row| matches!(row, Row::Removal(_))) { Err(Malformed) } else { Ok(Self { group, rows }) }
    }
}

/// What a member says of one group when a tunnel comes up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// The sender's proof.
    pub credentials: Credentials,
    /// Version of the sender's roster.
    pub digest: [u8; 16],
}

/// A message between members over their tunnel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Talk {
    /// The groups that the sender has in common with the recipient.
    Hello(Vec<Hello>),
    /// The same as the answer to one that had another version: the first one of this side may have been lost.
    Back(Vec<Hello>),
    /// The sender asks for the rows of a group from this one on.
    Want(GroupId, u32),
    /// Rows of a group; the number of the next one when there are more.
    Rows(GroupId, Vec<Row>, Option<u32>),
}

impl Talk {
    /// The messages that tell these rows, in their order. The last one is the fullest: what makes others void comes last in a change, with
    /// what takes its place.
    pub fn all(group: GroupId, rows: Vec<Row>) -> Vec<Self> {
        let (mut messages, mut part, mut len) = (Vec::new(), Vec::new(), 0);
        for row in rows.into_iter().rev() {
            let row_len = row.emit().len() + ROW_HEAD_LEN;
            if len + row_len > TOLD_LEN_MAX {
                messages.push(core::mem::take(&mut part));
                len = 0;
            }
            len += row_len;
            part.push(row);
        }
        messages.push(part);
        let in_order = |mut rows: Vec<Row>| {
            rows.reverse();
            Self::Rows(group, rows, None)
        };
        messages.into_iter().rev().filter(|rows| !rows.is_empty()).map(in_order).collect()
    }

    /// The message's bytes.
    pub fn emit(&self) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            Self::Hello(list) | Self::Back(list) => {
                out.put_u8(if matches!(self, Self::Hello(_)) { 1 } else { 4 });
                out.put_u8(list.len() as u8);
                for hello in list {
                    hello.credentials.emit(&mut out);
                    out.put(&hello.digest);
                }
            }
            Self::Want(group, from) => {
                out.put_u8(2);
                out.put(&group.0);
                out.put_u32(*from);
            }
            Self::Rows(group, rows, next) => {
                out.put_u8(3);
                out.put(&group.0);
                out.put_u32(next.unwrap_or(u32::MAX));
                rows.iter().for_each(|row| out.put_bytes(&row.emit()));
            }
        }
        out
    }

    /// Reads a message, without looking at signatures.
    ///
    /// # Errors
    /// When the bytes are no message.
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut r = Reader::new(bytes);
        let message = match r.u8()? {
            kind @ (1 | 4) => {
                let count = usize::from(r.u8()?);
                if count > GROUPS_MAX {
                    return Err(Malformed);
                }
                let hello = |_| Ok(Hello { credentials: Credentials::parse(&mut r)?, digest: r.array()? });
                let list = (0..count).map(hello).collect::<Result<_, _>>()?;
                if kind == 1 { Self::Hello(list) } else { Self::Back(list) }
            }
            2 => Self::Want(GroupId(r.array()?), r.u32()?),
            3 => {
                let (group, next) = (GroupId(r.array()?), Some(r.u32()?).filter(|next| *next != u32::MAX));
                let mut rows = Vec::new();
                while !r.is_empty() {
                    rows.push(Row::parse(r.bytes(STATEMENT_LEN_MAX)?)?);
                }
                Self::Rows(group, rows, next)
            }
            _ => return Err(Malformed),
        };
        r.finish()?;
        Ok(message)
    }
}
