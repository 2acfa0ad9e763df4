//! Owns the invites of this node: the holder of the code of one becomes a peer without another question to the owner.
//!
//! ```text
//!   open ─┬─ all uses ──────────────▶ used up
//!         ├─ its time is over ──────▶ expired        what is over is kept for a while, so that holders are told why
//!         ├─ ten wrong codes ───────▶ dead
//!         └─ a command ─────────────▶ withdrawn
//! ```
//! An invite grows old by **counted time**: time for which the node runs, and pauses between its runs up to a day each. A wall
//! clock that is wrong for one start, or is set, ends no invite and brings none back.

use super::ports::Ports;
use crate::codec::{Malformed, Put as _, Reader};
use crate::group::GroupId;
use crate::invite::{InviteId, InviteSecret};
use alloc::vec::Vec;
use core::fmt;

/// Most invites of a node, with those that are over. Source: `docs/trust.md`, "Pairing".
pub const INVITES_MAX: usize = 64;
/// Most nodes that join by one invite. Source: own choice; more are better made peers by groups.
pub const USES_MAX: u16 = 1000;
/// Longest life of an invite. Unit: seconds (30 days). Source: own choice, that of a request.
pub const INVITE_LIFETIME_MAX_S: u64 = 30 * 24 * 3600;
/// Wrong codes after which an invite is dead. Source: `docs/trust.md`, "Pairing".
pub(super) const WRONG_MAX: u8 = 10;
/// Time for which an invite that is over is kept. Unit: seconds (30 days). Source: own choice, that of a request.
const KEPT_S: u64 = 30 * 24 * 3600;
/// Counted time that a crash may lose while an invite is open: so often it is saved. Unit: seconds. Source: own choice.
const SAVED_EVERY_S: u64 = 3600;
/// Longest part of a pause between two runs that counts. Unit: seconds (one day). Source: `docs/messages.md`, "Counted time".
const PAUSE_MAX_S: u64 = 24 * 3600;

/// What the owner says with an invite.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InviteTerms {
    /// Our ports that the joiner may reach.
    pub ports: Ports,
    /// How many nodes may join, from 1 to [`USES_MAX`].
    pub uses: u16,
    /// How long the invite lasts, from 1 to [`INVITE_LIFETIME_MAX_S`]. Unit: seconds.
    pub lifetime_s: u64,
}

/// An invite of this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invite {
    /// Its number.
    pub id: InviteId,
    /// What its code proves.
    pub secret: InviteSecret,
    /// What its owner said.
    pub terms: InviteTerms,
    /// When it was made. Unit: seconds since 1970.
    pub made_at: u64,
    /// How many nodes have joined.
    pub used: u16,
    /// How many wrong codes came.
    pub wrong: u8,
    /// The group of which the joiners become members.
    pub group: Option<GroupId>,
    pub(super) is_withdrawn: bool,
    /// When it was made, in counted time. Unit: seconds.
    pub(super) made: u64,
}

/// Whether a node may join by an invite.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InviteState {
    /// It may.
    Open,
    /// As many have joined as were invited.
    UsedUp,
    /// Its time is over.
    Expired,
    /// Too many wrong codes came.
    Dead,
    /// The owner has withdrawn it.
    Withdrawn,
}

/// Why the holder of a right code was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum JoinRefusal {
    /// As many have joined as were invited.
    UsedUp,
    /// The time of the invite is over.
    Expired,
    /// Too many wrong codes came.
    Dead,
    /// The inviter has withdrawn the invite.
    Withdrawn,
    /// The inviter has as many peers as it may have.
    Full,
    /// A peer of the inviter has the joiner's address.
    AddressTaken,
    /// The inviter is no admin of the group any more, or the group has no room.
    Group,
    /// The owner of the node lets no member of the group in.
    NotAllowed,
    /// The node holds the membership of the asking one for removed.
    Removed,
    /// The node holds the membership of the asking one for ended.
    Ended,
    /// A reason that this version does not know.
    Other(u8),
}

impl JoinRefusal {
    const KNOWN: [Self; 10] = [
        Self::UsedUp,
        Self::Expired,
        Self::Dead,
        Self::Withdrawn,
        Self::Full,
        Self::AddressTaken,
        Self::Group,
        Self::NotAllowed,
        Self::Removed,
        Self::Ended,
    ];

    /// The number that travels, from 1.
    pub(super) fn number(self) -> u8 {
        match (self, Self::KNOWN.iter().position(|known| *known == self)) {
            (Self::Other(number), _) => number,
            (_, place) => place.map_or(u8::MAX, |place| place as u8 + 1),
        }
    }

    pub(super) fn from_number(number: u8) -> Self {
        usize::from(number)
            .checked_sub(1)
            .and_then(|place| Self::KNOWN.get(place))
            .copied()
            .unwrap_or(Self::Other(number))
    }
}

impl fmt::Display for JoinRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::UsedUp => "the invite is used up",
            Self::Expired => "the invite has expired",
            Self::Dead => "the invite is dead: too many wrong codes came",
            Self::Withdrawn => "the invite was withdrawn",
            Self::Full => "the inviter has too many peers",
            Self::AddressTaken => "a peer of the inviter has this node's address",
            Self::Group => "the inviter cannot take members into the group",
            Self::NotAllowed => "the owner of the node lets no member of the group in",
            Self::Removed => "this node was removed from the group",
            Self::Ended => "this node's membership in the group has ended",
            Self::Other(_) => "the inviter refuses",
        })
    }
}

/// The invites, and the time by which they grow old.
#[derive(Debug, Default)]
pub(super) struct Invites {
    pub(super) list: Vec<Invite>,
    /// Unit: seconds.
    pub(super) counted: u64,
    /// The wall clock beside `counted`. Unit: seconds since 1970.
    wall_s: u64,
    /// The clock of this run beside `counted`; `None` before it was first told. Unit: seconds.
    uptime_s: Option<u64>,
}

impl Invites {
    /// Goes on with counted time; true when that is to be saved, so that a crash makes no invite young again.
    pub(super) fn count_time(&mut self, uptime_s: u64, wall_s: u64) -> bool {
        let before = self.counted;
        self.counted += match self.uptime_s.replace(uptime_s) {
            Some(before) => uptime_s.saturating_sub(before),
            None if self.wall_s == 0 => 0,
            None => wall_s.saturating_sub(self.wall_s).min(PAUSE_MAX_S),
        };
        self.wall_s = wall_s;
        let is_due = before / SAVED_EVERY_S != self.counted / SAVED_EVERY_S;
        is_due && self.list.iter().any(|invite| self.state(invite) == InviteState::Open)
    }

    pub(super) fn state(&self, invite: &Invite) -> InviteState {
        let is_over = self.age(invite) >= invite.terms.lifetime_s;
        match invite {
            Invite { is_withdrawn: true, .. } => InviteState::Withdrawn,
            Invite { wrong: WRONG_MAX.., .. } => InviteState::Dead,
            Invite { used, terms, .. } if *used >= terms.uses => InviteState::UsedUp,
            _ if is_over => InviteState::Expired,
            _ => InviteState::Open,
        }
    }

    const fn age(&self, invite: &Invite) -> u64 {
        self.counted.saturating_sub(invite.made)
    }

    /// Makes room for one more: the oldest one that is over gives way. False when all are open.
    pub(super) fn make_room(&mut self) -> bool {
        let list = core::mem::take(&mut self.list);
        let is_kept = |i: &Invite| self.age(i) < i.terms.lifetime_s.saturating_add(KEPT_S);
        self.list = list.into_iter().filter(is_kept).collect();
        if self.list.len() >= INVITES_MAX {
            let over = self.list.iter().position(|invite| self.state(invite) != InviteState::Open);
            let Some(over) = over else { return false };
            self.list.remove(over);
        }
        true
    }

    /// Appends the invites to the book on disk.
    pub(super) fn emit(&self, out: &mut Vec<u8>) {
        out.put_u64(self.counted);
        out.put_u64(self.wall_s);
        out.put_varint(self.list.len() as u64);
        for invite in &self.list {
            out.put_u32(invite.id.0);
            out.put(invite.secret.bytes());
            invite.terms.ports.emit(out);
            out.put_u16(invite.terms.uses);
            out.put_u64(invite.terms.lifetime_s);
            out.put_u64(invite.made_at);
            out.put_u64(invite.made);
            out.put_u16(invite.used);
            out.put_u8(invite.wrong);
            out.put_u8(invite.is_withdrawn.into());
        }
    }

    pub(super) fn parse(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        let mut invites = Self { counted: r.u64()?, wall_s: r.u64()?, ..Self::default() };
        let count = r.varint()?;
        if count > INVITES_MAX as u64 {
            return Err(Malformed);
        }
        for _ in 0..count {
            let (id, secret) = (InviteId(r.u32()?), InviteSecret::new(r.array()?));
            let terms = InviteTerms { ports: Ports::parse(r)?, uses: r.u16()?, lifetime_s: r.u64()? };
            let (made_at, made, used) = (r.u64()?, r.u64()?, r.u16()?);
            let (wrong, is_withdrawn) = (r.u8()?, r.u8()? != 0);
            invites.list.push(Invite { id, secret, terms, made_at, used, wrong, group: None, is_withdrawn, made });
        }
        Ok(invites)
    }

    /// Appends which invites are those of groups.
    pub(super) fn emit_groups(&self, out: &mut Vec<u8>) {
        let of = || self.list.iter().filter_map(|invite| Some((invite.id, invite.group?)));
        out.put_varint(of().count() as u64);
        of().for_each(|(id, group)| {
            out.put_u32(id.0);
            out.put(&group.0);
        });
    }

    pub(super) fn parse_groups(&mut self, r: &mut Reader<'_>) -> Result<(), Malformed> {
        for _ in 0..r.varint()? {
            let (id, group) = (InviteId(r.u32()?), GroupId(r.array()?));
            let mut of = self.list.iter_mut().filter(|invite| invite.id == id);
            of.next().ok_or(Malformed)?.group = Some(group);
        }
        Ok(())
    }
}
