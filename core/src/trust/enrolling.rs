//! Owns enrolment: codes of a group that work while no admin is online (`docs/trust.md`, "Groups").
//!
//! ```text
//!   holder of the group key: a row of the roster, and a code with the secret half of its key
//!   joiner: signs its own membership with that key, and meets a member that the code names
//!   admin, as soon as it hears of it: a membership with the usual term, for as many nodes as the enrolment has uses
//! ```

use super::grouping::{free_name, own_record};
use super::groups::{GroupError, Groups, News, record_of};
use super::invites::{INVITE_LIFETIME_MAX_S, USES_MAX};
use super::join::{door, seal};
use super::{JoinRefusal, Me, Ports, TrustBook};
use crate::addr::Addr;
use crate::group::{
    Credentials, ENROLMENT_TERM_MAX_S, ENROLMENT_USES_MAX, Enrolment, EnrolmentSeed, GroupId, Refusal, Removal, Role,
    Roster, Row, Signer, Statement,
};
use crate::identity::{IdentityKey, NodeRecord, StaticKey};
use crate::invite::EnrolmentCode;
use crate::rng::Rng;
use alloc::vec;
use alloc::vec::Vec;

const _: () = assert!(ENROLMENT_USES_MAX == USES_MAX && ENROLMENT_TERM_MAX_S as u64 == INVITE_LIFETIME_MAX_S);

impl TrustBook {
    // The holder of the group key.

    /// Makes an enrolment for so many nodes and seconds; returns what a code tells, and the rows that tell the members.
    ///
    /// # Errors
    /// `Unknown`; `NoKey`: the group key alone signs one, since no chain has three links; `NotAMember`; `OutOfRange`; `Full`
    /// ([`ENROLMENTS_MAX`](crate::group::ENROLMENTS_MAX)).
    pub fn enrolment(
        &mut self,
        me: &Me<'_>,
        id: &GroupId,
        (uses, lifetime_s): (u16, u64),
        rng: &mut Rng,
    ) -> Result<(Enrolment, EnrolmentSeed, Vec<Row>), GroupError> {
        let now_s = self.group_time(me.common_s);
        let membership = self.groups.get_mut(id).ok_or(GroupError::Unknown)?;
        membership.roster.judge(now_s).standing(&me.identity.public())?;
        let key = membership.signer(me.identity).key.ok_or(GroupError::NoKey)?;
        let is_in_range = (1..=USES_MAX).contains(&uses) && (1..=INVITE_LIFETIME_MAX_S).contains(&lifetime_s);
        let end = now_s.saturating_add(lifetime_s);
        let (Ok(issued), Ok(not_after), true) = (u32::try_from(now_s), u32::try_from(end), is_in_range) else {
            return Err(GroupError::OutOfRange);
        };
        let seed = EnrolmentSeed::new(rng.bytes());
        let epoch = membership.roster.epoch().saturating_add(1);
        let enrolment = Enrolment { key: seed.identity().public(), uses, issued, not_after, epoch, signature: [0; 64] };
        let row = Row::Enrolment(enrolment).sign(id, &key);
        membership.roster.insert(&row, now_s)?;
        self.changed();
        let Row::Enrolment(enrolment) = row.clone() else { return Err(GroupError::OutOfRange) };
        Ok((enrolment, seed, vec![row]))
    }

    // Admins.

    /// Withdraws an enrolment, and with it all memberships that it alone has signed; returns its group and the rows that tell it.
    ///
    /// # Errors
    /// `Unknown` when no group has one with this number; `NotAnAdmin`; `Full`.
    pub fn withdraw_enrolment(&mut self, me: &Me<'_>, number: u32) -> Result<(GroupId, Vec<Row>), GroupError> {
        let now_s = self.group_time(me.common_s);
        let of = self.groups.list.iter_mut().find(|membership| membership.roster.enrolment(number).is_some());
        let membership = of.ok_or(GroupError::Unknown)?;
        let id = membership.roster.id();
        let Some(goes) = membership.roster.enrolment(number).cloned() else { return Err(GroupError::Unknown) };
        let signer = membership.signer(me.identity);
        if signer.key.is_none() && !membership.roster.judge(now_s).is_admin(&me.identity.public()) {
            return Err(GroupError::NotAnAdmin);
        }
        let Enrolment { key: member, epoch, not_after: until, .. } = goes;
        let row = Removal { member, is_enrolment: true, epoch, until, signer: signer.name(), signature: [0; 64] };
        let row = signer.sign(&id, Row::Removal(row));
        membership.roster.insert(&row, now_s)?;
        self.changed();
        Ok((id, vec![row]))
    }

    /// Signs for the members by enrolments, where this node is an admin; returns the rows that tell it.
    pub(crate) fn adopt(&mut self, me: &Me<'_>) -> News {
        let (now_s, own) = (self.group_time(me.common_s), me.identity.public());
        let mut open = Vec::new();
        for membership in &self.groups.list {
            let judge = membership.roster.judge(now_s);
            if judge.is_admin(&own) {
                let id = membership.roster.id();
                open.extend(judge.adoptable().into_iter().map(|row| (id, record_of(row))));
            }
        }
        let mut news = News::new();
        for (id, record) in open {
            // A roster without room keeps the member that it has.
            news.extend(self.issue(me, &id, &record, Role::Member).map(|row| (id, vec![row])));
        }
        news
    }

    /// The enrolments that more nodes have used than may, each once in a run.
    pub(crate) fn over_used(&mut self, me: &Me<'_>) -> Vec<(GroupId, u32)> {
        let now_s = self.group_time(me.common_s);
        let mut over = Vec::new();
        for membership in &self.groups.list {
            let judge = membership.roster.judge(now_s);
            let of = judge.enrolments().filter(|usage| usage.is_over_used()).map(|usage| usage.enrolment);
            over.extend(of.map(|row| (membership.roster.id(), row.number(), row.key)));
        }
        self.groups.told.retain(|told| over.iter().any(|(_, _, key)| key == told));
        over.retain(|(_, _, key)| !self.groups.told.contains(key));
        self.groups.told.extend(over.iter().map(|(_, _, key)| *key));
        over.into_iter().map(|(id, number, _)| (id, number)).collect()
    }

    // Joiners.

    /// Enters the group of a code by this node's own word, signed with the key that the code tells; its members may reach `allowed`
    /// here. The owner has agreed by using the code.
    ///
    /// # Errors
    /// `AlreadyTrusted` when this node has a peer by the group; `CodeEnded`; `NameTaken`, `Full`; `NotAMember` when the code is damaged,
    /// or this node knows that it was withdrawn or that itself was removed.
    pub fn enrol(&mut self, me: &Me<'_>, code: &EnrolmentCode, allowed: Ports) -> Result<GroupId, GroupError> {
        let id = code.group.id();
        if self.is_met(&id) {
            return Err(GroupError::AlreadyTrusted);
        }
        let now_s = self.group_time(me.common_s);
        let known = self.groups.position(&id).map(|at| &self.groups.list[at].roster);
        let standing = known.and_then(|roster| roster.judge(now_s).standing(&me.identity.public()).ok());
        let is_other = |row: &Statement| row.is_enrolled() && row.signer != Signer::Enrolment(code.enrolment.key);
        if standing.is_some_and(|row| !is_other(row)) {
            return Ok(id); // it has entered before, and no member has answered yet
        }
        let group = known.map_or_else(|| code.group.clone(), |roster| roster.group().clone());
        if now_s >= u64::from(code.enrolment.not_after) {
            return Err(GroupError::CodeEnded);
        }
        let rows = self.own_rows(me, code, now_s).ok_or(GroupError::OutOfRange)?;
        // A damaged code leaves nothing behind.
        let mut trial = Roster::new(code.group.clone());
        rows.iter().try_for_each(|row| trial.insert(row, now_s).map(drop))?;
        self.enter_group(me, group, &rows, allowed)
    }

    /// The rows that make this node a member.
    fn own_rows(&self, me: &Me<'_>, code: &EnrolmentCode, now_s: u64) -> Option<Vec<Row>> {
        let (id, key) = (code.group.id(), code.seed.identity());
        let (record, enrolment) = (own_record(me)?, &code.enrolment);
        // A clock that is wrong makes no statement that is older than the code.
        let now = u32::try_from(now_s).ok()?.max(enrolment.issued);
        let statement = Statement {
            identity: record.identity,
            static_key: record.static_key,
            addr: record.addr,
            name: free_name(&Roster::new(code.group.clone()), now_s, &record),
            role: Role::Member,
            since: now,
            issued: now,
            not_after: enrolment.not_after,
            epoch: enrolment.epoch,
            signer: Signer::Enrolment(enrolment.key),
            signature: [0; 64],
        };
        let statement = Row::Statement(statement).sign(&id, &key);
        let group_key = code.key_row.clone().map(Row::Key);
        Some(group_key.into_iter().chain([Row::Enrolment(enrolment.clone()), statement]).collect())
    }

    /// Asks a member that a code names; returns a JOIN under the secret of the group.
    ///
    /// # Errors
    /// `Unknown`, `NotAMember` (this node), `AlreadyTrusted`, `Full`; `OutOfRange` when the record and proof are longer than a datagram.
    pub(crate) fn ask_contact(
        &mut self,
        me: &Me<'_>,
        id: &GroupId,
        contact: &IdentityKey,
        rng: &mut Rng,
    ) -> Result<Vec<u8>, GroupError> {
        if self.pins.get(contact).is_some_and(|pin| Groups::has_grant(pin, id)) || *contact == me.identity.public() {
            return Err(GroupError::AlreadyTrusted);
        }
        // The contact's record comes with its answer.
        let record = NodeRecord::unsigned(*contact, StaticKey([0; 32]), Addr::default(), "");
        let message = self.ask_member(me, id, record, rng)?;
        let membership = self.groups.get_mut(id).ok_or(GroupError::Unknown)?;
        let (number, secret) = door(membership.roster.group());
        seal((contact, number, &secret), &message, rng).ok_or(GroupError::OutOfRange)
    }

    /// True when this node has a peer by the group.
    pub(crate) fn is_met(&self, id: &GroupId) -> bool {
        self.pins.values().any(|pin| Groups::has_grant(pin, id))
    }

    /// The code is of no use any more: what it has made goes, unless a member has taken this node before.
    pub(super) fn forget_enrolment(&mut self, me: &Me<'_>, id: &GroupId, why: JoinRefusal) {
        let is_over = matches!(why, JoinRefusal::Withdrawn | JoinRefusal::Expired | JoinRefusal::Removed);
        let own = me.identity.public();
        let now_s = self.group_time(me.common_s);
        let is_enrolled = |roster: &Roster| roster.judge(now_s).standing(&own).is_ok_and(Statement::is_enrolled);
        if is_over && !self.is_met(id) {
            self.groups.list.retain(|group| group.roster.id() != *id || !is_enrolled(&group.roster));
            self.outgoing.retain(|_, ours| ours.group != Some(*id));
        }
    }

    // Members.

    /// Why the holder of a right code of the group is no member by it.
    pub(super) fn refusal_of(&self, me: &Me<'_>, proof: &Credentials) -> Option<JoinRefusal> {
        let roster = &self.groups.list[self.groups.position(&proof.group)?].roster;
        let judge = roster.judge(self.group_time(me.common_s));
        proof.rows.iter().find_map(|row| {
            let Row::Enrolment(enrolment) = row else { return None };
            let keys = [roster.key(), roster.group().key];
            if !keys.iter().any(|key| row.is_signed(&proof.group, key)) {
                return None;
            }
            Some(match judge.check_enrolment(enrolment) {
                Err(Refusal::Ended) => JoinRefusal::Expired,
                Err(_) => JoinRefusal::Withdrawn,
                Ok(()) if row.is_signed(&proof.group, &keys[0]) => JoinRefusal::UsedUp,
                Ok(()) => JoinRefusal::Withdrawn, // the group has another key since
            })
        })
    }
}
