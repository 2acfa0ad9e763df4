//! Owns the judgement of a roster at a moment: its admins, its members, and why a node is none.

use super::{Roster, Slot};
use crate::group::Refusal;
use crate::group::enrolment::Enrolment;
use crate::group::row::{Removal, Role, Row, Signer, Statement};
use crate::identity::IdentityKey;
use crate::sort::sort_by;
use alloc::vec::Vec;

/// A roster at a moment, with its admins in their order.
#[derive(Debug)]
pub struct Judge<'a> {
    roster: &'a Roster,
    now_s: u64,
    /// Oldest first.
    admins: Vec<&'a Statement>,
    /// The epoch of the newest removal of a node by one of them or the group key.
    epoch: u32,
}

/// An enrolment, and how it was used.
#[derive(Clone, Copy, Debug)]
pub struct Usage<'a> {
    /// The enrolment.
    pub enrolment: &'a Enrolment,
    /// How many members have signed by it, with those whom an admin has taken over since.
    pub used: usize,
}

impl Usage<'_> {
    /// True when more nodes have used it than may.
    pub fn is_over_used(&self) -> bool {
        self.used > self.enrolment.uses.into()
    }
}

impl<'a> Judge<'a> {
    pub(super) fn new(roster: &'a Roster, now_s: u64) -> Self {
        let is_admin = |row: &&Statement| row.is_by_key() && row.role == Role::Admin && !has_ended(row, now_s);
        let mut admins: Vec<&Statement> = roster.statements.values().filter(is_admin).collect();
        sort_by(&mut admins, |a, b| (a.since, a.identity) < (b.since, b.identity));
        let mut judge = Self { roster, now_s, admins: Vec::new(), epoch: 0 };
        for admin in admins {
            // Only older ones are in the list so far: no younger one removes this one.
            if !judge.is_removed(admin) {
                judge.admins.push(admin);
            }
        }
        let of_nodes = roster.removals.values().filter(|row| !row.is_own() && !row.is_enrolment);
        judge.epoch = of_nodes.filter(|row| judge.is_by_authority(row)).map(|row| row.epoch).max().unwrap_or(0);
        judge
    }

    /// The admins of the group, oldest first.
    pub fn admins(&self) -> &[&'a Statement] {
        &self.admins
    }

    /// True for an admin.
    pub fn is_admin(&self, key: &IdentityKey) -> bool {
        self.admins.iter().any(|admin| admin.identity == *key)
    }

    /// The statement by which a node is a member now.
    ///
    /// # Errors
    /// `Unknown`, `Removed`, `Ended`, `NotAnAdmin` (of the signer), `Withdrawn` and `NotEnrolled` (of the enrolment that signed).
    pub fn standing(&self, key: &IdentityKey) -> Result<&'a Statement, Refusal> {
        let of = Slot::ALL.map(|slot| self.roster.statements.get(&(*key, slot)));
        let judged = of.into_iter().flatten().map(|row| self.judge(row));
        judged.reduce(Result::or).unwrap_or_else(|| {
            let is_removed = self.roster.removals_of(key).next().is_some();
            Err(if is_removed { Refusal::Removed } else { Refusal::Unknown })
        })
    }

    /// All members that stand, by key.
    pub fn members(&self) -> impl Iterator<Item = &'a Statement> {
        let mut last = None;
        let standing = self.roster.statements.values().filter(|row| self.judge(row).is_ok());
        standing.filter(move |row| last.replace(row.identity) != Some(row.identity))
    }

    /// The member that has a name: the one that has it longest. A node that has given itself the name by an enrolment comes after
    /// those whose names an admin or the group key has signed.
    pub fn named(&self, name: &str) -> Option<&'a Statement> {
        let of = self.members().filter(|row| row.name == name);
        of.min_by_key(|row| (row.is_enrolled(), row.since, row.identity))
    }

    /// The rows that convince another member of a node's membership: the group key if it is not the first one, the admin or the
    /// enrolment that signed, the statement.
    ///
    /// # Errors
    /// As [`Judge::standing`].
    pub fn credentials(&self, key: &IdentityKey) -> Result<Vec<Row>, Refusal> {
        let own = self.standing(key)?;
        let signer = match own.signer {
            Signer::GroupKey => None,
            Signer::Admin(by) => {
                self.admins.iter().find(|admin| admin.identity == by).map(|row| Row::Statement((*row).clone()))
            }
            Signer::Enrolment(by) => self.roster.enrolments.get(&by).cloned().map(Row::Enrolment),
        };
        let key = self.roster.key.iter().cloned().map(Row::Key);
        Ok(key.chain(signer).chain([Row::Statement(own.clone())]).collect())
    }

    /// The enrolments that count, and how they were used. Work grows with their number and that of members.
    pub fn enrolments(&self) -> impl Iterator<Item = Usage<'a>> {
        let valid = self.roster.enrolments.values().filter(|row| self.check_enrolment(row).is_ok());
        valid.map(|enrolment| Usage { enrolment, used: self.enrolled(enrolment).count() })
    }

    /// The members by enrolments that an admin is to take over: of each as many as it has uses, those first that have used it
    /// first by their own word.
    pub fn adoptable(&self) -> Vec<&'a Statement> {
        let mut all = Vec::new();
        for enrolment in self.roster.enrolments.values().filter(|row| self.check_enrolment(row).is_ok()) {
            let is_open = |row: &&Statement| self.standing(&row.identity).is_ok_and(Statement::is_enrolled);
            let taken = self.enrolled(enrolment).filter(|row| !is_open(row)).count();
            let mut open: Vec<_> = self.enrolled(enrolment).filter(is_open).collect();
            sort_by(&mut open, |a, b| (a.since, a.identity) < (b.since, b.identity));
            all.extend(open.into_iter().take(usize::from(enrolment.uses).saturating_sub(taken)));
        }
        all
    }

    /// The members that have signed by an enrolment.
    fn enrolled(&self, enrolment: &Enrolment) -> impl Iterator<Item = &'a Statement> {
        let signer = Signer::Enrolment(enrolment.key);
        self.roster.statements.values().filter(move |row| row.signer == signer && self.judge(row).is_ok())
    }

    /// Judges an enrolment with a right signature.
    ///
    /// # Errors
    /// `Withdrawn`, also when somebody was removed since; `Ended`.
    pub fn check_enrolment(&self, row: &Enrolment) -> Result<(), Refusal> {
        let mut removals = self.roster.removals_of(&row.key).filter(|removal| removal.is_enrolment);
        let is_withdrawn = removals.any(|removal| removal.epoch >= row.epoch && self.is_by_authority(removal));
        if is_withdrawn || row.epoch <= self.epoch {
            return Err(Refusal::Withdrawn);
        }
        if u64::from(row.not_after) <= self.now_s { Err(Refusal::Ended) } else { Ok(()) }
    }

    /// Judges what the enrolment with the key `by` has signed.
    pub(super) fn check_enrolled(&self, row: &Statement, by: &IdentityKey) -> Result<(), Refusal> {
        let enrolment = self.roster.enrolments.get(by).ok_or(Refusal::NotEnrolled)?;
        self.check_enrolment(enrolment)?;
        if enrolment.covers(row) { Ok(()) } else { Err(Refusal::NotEnrolled) }
    }

    /// True when the admin `by` may remove the member.
    pub fn may_remove(&self, by: &IdentityKey, member: &IdentityKey) -> bool {
        self.standing(member).is_ok_and(|row| self.is_below(row, by))
    }

    pub(super) fn judge<'b>(&self, row: &'b Statement) -> Result<&'b Statement, Refusal> {
        if self.is_removed(row) {
            return Err(Refusal::Removed);
        }
        if has_ended(row, self.now_s) {
            return Err(Refusal::Ended);
        }
        match row.signer {
            Signer::Admin(signer) if !self.is_admin(&signer) => Err(Refusal::NotAnAdmin),
            Signer::Enrolment(signer) => self.check_enrolled(row, &signer).map(|()| row),
            _ => Ok(row),
        }
    }

    /// True when a removal that counts makes the statement void.
    pub(super) fn is_removed(&self, row: &Statement) -> bool {
        let mut of = self.roster.removals_of(&row.identity).filter(|removal| !removal.is_enrolment);
        of.any(|removal| removal.epoch >= row.epoch && self.counts(removal, row))
    }

    /// True for what the group key or an admin has signed.
    fn is_by_authority(&self, removal: &Removal) -> bool {
        removal.signer.is_none_or(|signer| self.is_admin(&signer))
    }

    /// True for the removal by the group key, by the member itself, or by an admin that may remove it.
    fn counts(&self, removal: &Removal, row: &Statement) -> bool {
        removal.is_own() || removal.signer.is_none_or(|signer| self.is_below(row, &signer))
    }

    /// True when the member with this statement may be removed by the admin `by`.
    fn is_below(&self, row: &Statement, by: &IdentityKey) -> bool {
        let is_admin = row.is_by_key() && row.role == Role::Admin;
        let by = self.admins.iter().find(|admin| admin.identity == *by);
        by.is_some_and(|by| !is_admin || (by.since, by.identity) < (row.since, row.identity))
    }
}

pub(super) fn has_ended(row: &Statement, now_s: u64) -> bool {
    u64::from(row.not_after) <= now_s
}
