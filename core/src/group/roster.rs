//! Owns the roster of a group: its rows, how two rosters become one, and which nodes stand as members.
//!
//! The rows of a roster are a set that only grows, but for what is void or has ended. For each node there are at most one statement
//! of the group key, which counts first, one of an admin, and one by an enrolment, which counts last; a greater epoch, then a later
//! time, then a greater signature makes the other one void. So two members that have heard the same rows, in whatever order, have the same roster.
//!
//! **Admins that remove each other:** admins have an order, the time at which they became one (`since`), then their keys. An
//! admin removes members, and admins that are younger than itself; the group key removes all. A removal of an older admin by a
//! younger one never counts anywhere, so there is nothing to settle. What a removed admin has signed is void; whoever removes
//! an admin signs anew what is to stay.

use super::enrolment::{ENROLMENTS_MAX, Enrolment, OVER_USES_MAX};
use super::row::{KeyRow, Removal, Role, Row, Signer, Statement};
use super::{DAY_S, Group, GroupId, Refusal};
use crate::codec::{Malformed, Put as _, Reader};
use crate::hash;
use crate::identity::IdentityKey;
use crate::sort::sort_by;
use alloc::vec::Vec;
use litemap::LiteMap;

/// Most members of a group. Source: `docs/trust.md`, "Groups".
pub const MEMBERS_MAX: usize = 4096;
/// Most removals that a roster remembers. Source: own choice, that of members.
pub const REMOVALS_MAX: usize = 4096;
/// Most removals of nodes that left by themselves and that a roster does not know any more: any key signs such a row. Source: own
/// choice, a quarter of all removals.
pub const LEAVERS_MAX: usize = REMOVALS_MAX / 4;
/// Longest roster. Unit: bytes (1 MiB). Source: `docs/trust.md`, "Groups".
pub const ROSTER_LEN_MAX: usize = 1 << 20;
/// Length in front of a row in a roster. Unit: bytes.
const ROW_HEAD_LEN: usize = 2;

/// The place of a statement among those of one node: the first that counts decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Slot {
    GroupKey,
    Admin,
    Enrolment,
}

impl Slot {
    const ALL: [Self; 3] = [Self::GroupKey, Self::Admin, Self::Enrolment];

    const fn of(row: &Statement) -> Self {
        match row.signer {
            Signer::GroupKey => Self::GroupKey,
            Signer::Admin(_) => Self::Admin,
            Signer::Enrolment(_) => Self::Enrolment,
        }
    }
}

/// The rows of a group that this node knows.
#[derive(Clone, Debug)]
pub struct Roster {
    id: GroupId,
    group: Group,
    key: Option<KeyRow>,
    /// By member and kind of signer.
    statements: LiteMap<(IdentityKey, Slot), Statement>,
    enrolments: LiteMap<IdentityKey, Enrolment>,
    /// By member and signer.
    removals: LiteMap<(IdentityKey, Option<IdentityKey>), Removal>,
    /// Length of all rows with the lengths in front. Unit: bytes.
    len: usize,
}

impl Roster {
    /// The roster of a group without rows.
    pub fn new(group: Group) -> Self {
        let id = group.id();
        let (statements, enrolments, removals) = (LiteMap::new(), LiteMap::new(), LiteMap::new());
        Self { id, group, key: None, statements, enrolments, removals, len: 0 }
    }

    // Getters.

    /// The group.
    pub const fn group(&self) -> &Group {
        &self.group
    }

    /// The group's name for machines.
    pub const fn id(&self) -> GroupId {
        self.id
    }

    /// The group key that counts.
    pub fn key(&self) -> IdentityKey {
        self.key.as_ref().map_or(self.group.key, |row| row.key)
    }

    /// The row that made the group key count, unless that is the first one.
    pub const fn key_row(&self) -> Option<&KeyRow> {
        self.key.as_ref()
    }

    /// The epoch of the newest removal of a node by an admin or the group key; 0 before the first. What a node says when it leaves
    /// counts for that node alone, and an enrolment that is withdrawn for what it has signed.
    pub fn epoch(&self) -> u32 {
        self.removals.values().filter(|row| !row.is_own() && !row.is_enrolment).map(|row| row.epoch).max().unwrap_or(0)
    }

    /// The epoch of a new statement or removal of a node: above all removals that concern it, so that none of them makes the statement
    /// void, and not below any enrolment, which the removal makes void.
    pub fn next_epoch(&self, member: &IdentityKey) -> u32 {
        let of = self.removals_of(member).map(|row| row.epoch).max();
        let next = of.unwrap_or(0).max(self.epoch()).saturating_add(1);
        self.enrolments.values().map(|row| row.epoch).fold(next, u32::max)
    }

    /// The time of a new statement about a node by the group key or an admin: `now`, or just after the newest one, which it is to make
    /// void although both fall into one second, or the clock was ahead. Unit: seconds since 1970.
    pub fn next_issue(&self, member: &IdentityKey, now: u32) -> u32 {
        let of = [Slot::GroupKey, Slot::Admin].map(|slot| self.statements.get(&(*member, slot)));
        of.into_iter().flatten().map(|row| row.issued.saturating_add(1)).fold(now, u32::max)
    }

    /// The enrolment with this number, whether it counts or not.
    pub fn enrolment(&self, number: u32) -> Option<&Enrolment> {
        self.enrolments.values().find(|row| row.number() == number)
    }

    /// The removals of one node.
    fn removals_of(&self, member: &IdentityKey) -> impl Iterator<Item = &Removal> {
        let (mut first, mut end) = (0, self.removals.len());
        while first < end {
            let middle = first.midpoint(end);
            match self.removals.get_indexed(middle) {
                Some(((key, _), _)) if key < member => first = middle + 1,
                _ => end = middle,
            }
        }
        let from = (first..).map_while(|at| self.removals.get_indexed(at));
        from.map(|(_, row)| row).take_while(move |row| row.member == *member)
    }

    /// All rows, in an order that depends on nothing but the rows and in which each comes after those that it is judged by: the
    /// key, statements of the group key, those of admins, enrolments, statements by these, removals.
    pub fn rows(&self) -> impl Iterator<Item = Row> {
        let key = self.key.iter().cloned().map(Row::Key);
        let of = |slot| {
            let rows = self.statements.values().filter(move |row| Slot::of(row) == slot);
            rows.cloned().map(Row::Statement)
        };
        let enrolments = self.enrolments.values().cloned().map(Row::Enrolment);
        let statements = of(Slot::GroupKey).chain(of(Slot::Admin)).chain(enrolments).chain(of(Slot::Enrolment));
        key.chain(statements).chain(self.removals.values().cloned().map(Row::Removal))
    }

    /// The removals.
    pub fn removals(&self) -> impl Iterator<Item = &Removal> {
        self.removals.values()
    }

    /// The version of the roster: equal for equal rows.
    pub fn digest(&self) -> [u8; 16] {
        let mut all = Vec::new();
        self.rows().for_each(|row| all.put(row.signature()));
        *hash::blake2s(&[b"pn1-roster", &all]).first_chunk().expect("16 of 32 bytes")
    }

    /// Judges the roster at a moment. Unit: seconds since 1970. Work grows with the number of rows.
    pub fn judge(&self, now_s: u64) -> Judge<'_> {
        Judge::new(self, now_s)
    }

    // Input.

    /// Takes a row after verifying it; true when the roster has changed. A row that is there already is not verified again. A row
    /// that ended less than a day ago is taken, as [`Roster::prune`] keeps it: all members have the same rows, and a node
    /// is told that its term is over.
    ///
    /// # Errors
    /// See [`Refusal`]: nothing has changed then.
    pub fn insert(&mut self, row: &Row, now_s: u64) -> Result<bool, Refusal> {
        if self.knows(row) {
            return Ok(false);
        }
        match row {
            Row::Key(_) if !row.is_signed(&self.id, &self.group.founder) => return Err(Refusal::Signature),
            Row::Key(_) => {}
            Row::Statement(statement) => self.check_statement(row, statement, day_before(now_s))?,
            Row::Removal(removal) => self.check_removal(row, removal, day_before(now_s))?,
            Row::Enrolment(_) if !row.is_signed(&self.id, &self.key()) => return Err(Refusal::Signature),
            Row::Enrolment(enrolment) => self.judge(day_before(now_s)).check_enrolment(enrolment)?,
        }
        let is_near_limit = self.statements.len() >= MEMBERS_MAX
            || self.enrolments.len() >= ENROLMENTS_MAX
            || self.removals.len() >= REMOVALS_MAX
            || self.len + row.emit().len() + ROW_HEAD_LEN > ROSTER_LEN_MAX;
        let before = is_near_limit.then(|| self.clone());
        self.put(row);
        match row {
            Row::Statement(_) | Row::Enrolment(_) => {}
            // Members of admins that the new key signs in its next rows stay: they are judged after those.
            Row::Key(_) => self.forget_former_key(),
            Row::Removal(_) => _ = self.prune(now_s),
        }
        if let Some(before) = before.filter(|_| self.is_too_large()) {
            *self = before;
            return Err(Refusal::Full);
        }
        Ok(self.knows(row))
    }

    /// True when the same row, or one that makes it void by its rank, is there.
    fn knows(&self, row: &Row) -> bool {
        match row {
            Row::Key(row) => self.key.as_ref().is_some_and(|known| known.rank() >= row.rank()),
            Row::Statement(row) => {
                let known = self.statements.get(&(row.identity, Slot::of(row)));
                known.is_some_and(|known| known.rank() >= row.rank())
            }
            Row::Enrolment(row) => self.enrolments.get(&row.key).is_some_and(|known| known.rank() >= row.rank()),
            Row::Removal(row) => {
                let known = self.removals.get(&(row.member, row.signer));
                known.is_some_and(|known| known.rank() >= row.rank())
            }
        }
    }

    fn check_statement(&self, row: &Row, statement: &Statement, then_s: u64) -> Result<(), Refusal> {
        let judge = self.judge(then_s);
        let signer = match statement.signer {
            Signer::GroupKey => self.key(),
            Signer::Admin(signer) if statement.role == Role::Member && judge.is_admin(&signer) => signer,
            Signer::Admin(_) => return Err(Refusal::NotAnAdmin),
            Signer::Enrolment(signer) => {
                judge.check_enrolled(statement, &signer)?;
                self.check_room_in_enrolment(statement, &signer)?;
                signer
            }
        };
        if !row.is_signed(&self.id, &signer) {
            return Err(Refusal::Signature);
        }
        if has_ended(statement, then_s) {
            return Err(Refusal::Ended);
        }
        if judge.is_removed(statement) {
            return Err(Refusal::Removed);
        }
        Ok(())
    }

    fn check_removal(&self, row: &Row, removal: &Removal, then_s: u64) -> Result<(), Refusal> {
        let judge = self.judge(then_s);
        let signer = removal.signer.unwrap_or_else(|| self.key());
        let may = removal.signer.is_none() || removal.is_own() || judge.is_admin(&signer);
        if !may {
            return Err(Refusal::NotAnAdmin);
        }
        if !row.is_signed(&self.id, &signer) {
            return Err(Refusal::Signature);
        }
        let is_known = Slot::ALL.iter().any(|slot| self.statements.contains_key(&(removal.member, *slot)));
        if removal.is_own() && !is_known && self.removals.values().filter(|row| row.is_own()).count() >= LEAVERS_MAX {
            return Err(Refusal::Full);
        }
        if u64::from(removal.until) <= then_s { Err(Refusal::Ended) } else { Ok(()) }
    }

    fn check_room_in_enrolment(&self, row: &Statement, by: &IdentityKey) -> Result<(), Refusal> {
        let uses = self.enrolments.get(by).map_or(0, |enrolment| usize::from(enrolment.uses));
        let others =
            self.statements.values().filter(|known| known.signer == row.signer && known.identity != row.identity);
        if others.count() < uses + OVER_USES_MAX { Ok(()) } else { Err(Refusal::Full) }
    }

    fn is_too_large(&self) -> bool {
        let mut last = None;
        let members = self.statements.keys().filter(|(key, _)| last.replace(*key) != Some(*key)).count();
        self.len > ROSTER_LEN_MAX
            || members > MEMBERS_MAX
            || self.enrolments.len() > ENROLMENTS_MAX
            || self.removals.len() > REMOVALS_MAX
    }

    fn put(&mut self, row: &Row) {
        let len = |row: &Row| row.emit().len() + ROW_HEAD_LEN;
        self.len += len(row);
        let before = match row.clone() {
            Row::Key(row) => self.key.replace(row).map(Row::Key),
            Row::Statement(row) => self.statements.insert((row.identity, Slot::of(&row)), row).map(Row::Statement),
            Row::Enrolment(row) => self.enrolments.insert(row.key, row).map(Row::Enrolment),
            Row::Removal(row) => self.removals.insert((row.member, row.signer), row).map(Row::Removal),
        };
        self.len -= before.as_ref().map_or(0, len);
    }

    /// Forgets what a former group key has signed.
    fn forget_former_key(&mut self) {
        let (id, key) = (self.id, self.key());
        self.statements.retain(|_, row| !row.is_by_key() || Row::Statement(row.clone()).is_signed(&id, &key));
        self.removals.retain(|_, row| row.signer.is_some() || Row::Removal(row.clone()).is_signed(&id, &key));
        self.enrolments.retain(|_, row| Row::Enrolment(row.clone()).is_signed(&id, &key));
        self.measure();
    }

    fn measure(&mut self) {
        self.len = self.rows().map(|row| row.emit().len() + ROW_HEAD_LEN).sum();
    }

    /// Forgets what is void for good: what a removed admin or a void enrolment has signed, void enrolments, statements of removed
    /// nodes, and what has ended a day ago. True when there was any.
    pub fn prune(&mut self, now_s: u64) -> bool {
        let (before, day_ago) = (self.len, day_before(now_s));
        self.removals.retain(|_, row| u64::from(row.until) > day_ago);
        // Seniority decides first, so that a removal by an admin that is gone does not count.
        let judge = self.judge(day_ago);
        let void: Vec<_> =
            self.statements.iter().filter(|(_, row)| judge.judge(row).is_err()).map(|(key, _)| *key).collect();
        let over: Vec<_> = self
            .enrolments
            .iter()
            .filter(|(_, row)| judge.check_enrolment(row).is_err())
            .map(|(key, _)| *key)
            .collect();
        let is_gone = |row: &Removal| row.signer.is_some_and(|by| !row.is_own() && !judge.is_admin(&by));
        let gone: Vec<_> = self.removals.iter().filter(|(_, row)| is_gone(row)).map(|(key, _)| *key).collect();
        void.iter().for_each(|key| _ = self.statements.remove(key));
        over.iter().for_each(|key| _ = self.enrolments.remove(key));
        gone.iter().for_each(|key| _ = self.removals.remove(key));
        self.measure();
        self.len != before
    }

    // Bytes.

    /// Appends group and rows.
    pub fn emit(&self, out: &mut Vec<u8>) {
        self.group.emit(out);
        out.put_varint(self.rows().count() as u64);
        self.rows().for_each(|row| out.put_bytes(&row.emit()));
    }

    /// Reads what [`Roster::emit`] wrote: rows that were verified before.
    ///
    /// # Errors
    /// When the bytes are damaged, or the roster is larger than it may be.
    pub fn parse(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        let mut roster = Self::new(Group::parse(r)?);
        for _ in 0..r.varint()? {
            roster.put(&Row::parse(r.bytes(super::STATEMENT_LEN_MAX)?)?);
            if roster.len > ROSTER_LEN_MAX {
                return Err(Malformed);
            }
        }
        if roster.is_too_large() { Err(Malformed) } else { Ok(roster) }
    }
}

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
    /// How many members have signed by it, with those that an admin has taken over since.
    pub used: usize,
}

impl Usage<'_> {
    /// True when more nodes have used it than may.
    pub fn is_over_used(&self) -> bool {
        self.used > self.enrolment.uses.into()
    }
}

impl<'a> Judge<'a> {
    fn new(roster: &'a Roster, now_s: u64) -> Self {
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
    /// those with a name that an admin or the group key has signed.
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
    /// `Withdrawn`, also when a member was removed since; `Ended`.
    pub fn check_enrolment(&self, row: &Enrolment) -> Result<(), Refusal> {
        let mut removals = self.roster.removals_of(&row.key).filter(|removal| removal.is_enrolment);
        let is_withdrawn = removals.any(|removal| removal.epoch >= row.epoch && self.is_by_authority(removal));
        if is_withdrawn || row.epoch <= self.epoch {
            return Err(Refusal::Withdrawn);
        }
        if u64::from(row.not_after) <= self.now_s { Err(Refusal::Ended) } else { Ok(()) }
    }

    /// Judges what the enrolment with the key `by` has signed.
    fn check_enrolled(&self, row: &Statement, by: &IdentityKey) -> Result<(), Refusal> {
        let enrolment = self.roster.enrolments.get(by).ok_or(Refusal::NotEnrolled)?;
        self.check_enrolment(enrolment)?;
        if covers(enrolment, row) { Ok(()) } else { Err(Refusal::NotEnrolled) }
    }

    /// True when the admin `by` may remove the member.
    pub fn may_remove(&self, by: &IdentityKey, member: &IdentityKey) -> bool {
        self.standing(member).is_ok_and(|row| self.is_below(row, by))
    }

    fn judge<'b>(&self, row: &'b Statement) -> Result<&'b Statement, Refusal> {
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
    fn is_removed(&self, row: &Statement) -> bool {
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

const fn day_before(now_s: u64) -> u64 {
    now_s.saturating_sub(DAY_S as u64)
}

fn has_ended(row: &Statement, now_s: u64) -> bool {
    u64::from(row.not_after) <= now_s
}

/// True when the key of an enrolment may have signed the statement: a code that is used after its end, with a clock that was set
/// back, gains nothing, nor does one of before a removal.
fn covers(enrolment: &Enrolment, row: &Statement) -> bool {
    row.role == Role::Member
        && row.epoch == enrolment.epoch
        && enrolment.issued <= row.since
        && row.since <= row.issued
        && row.issued < row.not_after
        && row.not_after <= enrolment.not_after
}
