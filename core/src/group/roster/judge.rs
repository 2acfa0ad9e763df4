//! Owns the judgement of a roster at a moment: its admins, its members, and why a node is none.

use super::Roster;
use crate::group::Refusal;
use crate::group::row::{Removal, Role, Row, Statement};
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
}

impl<'a> Judge<'a> {
    pub(super) fn new(roster: &'a Roster, now_s: u64) -> Self {
        let is_admin = |row: &&Statement| row.is_by_key() && row.role == Role::Admin && !has_ended(row, now_s);
        let mut admins: Vec<&Statement> = roster.statements.values().filter(is_admin).collect();
        sort_by(&mut admins, |a, b| (a.since, a.identity) < (b.since, b.identity));
        let mut judge = Self { roster, now_s, admins: Vec::new() };
        for admin in admins {
            // Only older ones are in the list so far: no younger one removes this one.
            if !judge.is_removed(admin) {
                judge.admins.push(admin);
            }
        }
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
    /// `Unknown`, `Removed`, `Ended`, `NotAnAdmin` (of the signer).
    pub fn standing(&self, key: &IdentityKey) -> Result<&'a Statement, Refusal> {
        let of = [false, true].map(|by_admin| self.roster.statements.get(&(*key, by_admin)));
        let judged = of.into_iter().flatten().map(|row| self.judge(row));
        judged.reduce(Result::or).unwrap_or_else(|| {
            let is_removed = self.roster.removals_of(key).next().is_some();
            Err(if is_removed { Refusal::Removed } else { Refusal::Unknown })
        })
    }

    /// All members that stand, by key.
    pub fn members(&self) -> impl Iterator<Item = &'a Statement> {
        let keys = self.roster.statements.iter().filter(|((key, by_admin), row)| {
            let first = self.roster.statements.get(&(*key, false));
            self.judge(row).is_ok() && !(*by_admin && first.is_some_and(|row| self.judge(row).is_ok()))
        });
        keys.map(|(_, row)| row)
    }

    /// The member that has a name: the one that has it longest.
    pub fn named(&self, name: &str) -> Option<&'a Statement> {
        self.members().filter(|row| row.name == name).min_by_key(|row| (row.since, row.identity))
    }

    /// The rows that convince another member of a node's membership: the group key if it is not the first one, the admin that
    /// signed, the statement.
    ///
    /// # Errors
    /// As [`Judge::standing`].
    pub fn credentials(&self, key: &IdentityKey) -> Result<Vec<Row>, Refusal> {
        let own = self.standing(key)?;
        let signer = own.signer.and_then(|by| self.admins.iter().find(|admin| admin.identity == by));
        let key = self.roster.key.iter().cloned().map(Row::Key);
        let statements = signer.into_iter().chain([&own]).map(|row| Row::Statement((*row).clone()));
        Ok(key.chain(statements).collect())
    }

    /// True when the admin `by` may remove the member.
    pub fn may_remove(&self, by: &IdentityKey, member: &IdentityKey) -> bool {
        self.standing(member).is_ok_and(|row| self.is_below(row, by))
    }

    fn judge(&self, row: &'a Statement) -> Result<&'a Statement, Refusal> {
        if self.is_removed(row) {
            return Err(Refusal::Removed);
        }
        if has_ended(row, self.now_s) {
            return Err(Refusal::Ended);
        }
        match row.signer {
            Some(signer) if !self.is_admin(&signer) => Err(Refusal::NotAnAdmin),
            _ => Ok(row),
        }
    }

    /// True when a removal that counts makes the statement void.
    pub(super) fn is_removed(&self, row: &Statement) -> bool {
        let mut of = self.roster.removals_of(&row.identity);
        of.any(|removal| removal.epoch >= row.epoch && self.counts(removal, row))
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
