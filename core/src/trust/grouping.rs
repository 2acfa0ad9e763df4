//! Owns the verbs of groups, what members say to each other, and the grants that follow: [`TrustBook::settle_groups`].

use super::groups::{GroupError, Membership, News, Settled};
use super::pin::GroupGrant;
use super::ports::Ports;
use super::{Me, Pin, TrustBook};
use crate::codec::Malformed;
use crate::group::{
    ADMIN_TERM_S, Credentials, ENROLMENT_TERM_MAX_S, Group, GroupId, Hello, KeyRow, MEMBER_TERM_S, PART_LEN_MAX,
    RENEWAL_PAUSE_S, Removal, Role, Roster, Row, Signer, Statement, Talk, valid_group_name,
};
use crate::identity::{Identity, IdentityKey, NodeRecord};
use crate::rng::Rng;
use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use zeroize::Zeroizing;

impl TrustBook {
    // Getters.

    /// The groups of this node, in the order in which it has met them.
    pub fn groups(&self) -> impl Iterator<Item = &Membership> {
        self.groups.list.iter()
    }

    /// The group with this name, or this id in hexadecimal digits.
    pub fn group(&self, name: &str) -> Option<&Membership> {
        let id = name.parse().ok();
        self.groups().find(|group| group.roster.group().name == name || Some(group.roster.id()) == id)
    }

    /// The member that `NAME.GROUP` names, with its group.
    pub fn member_named(&self, name: &str, now_s: u64) -> Option<(GroupId, Statement)> {
        let (name, group) = name.rsplit_once('.')?;
        let group = self.group(group)?;
        Some((group.roster.id(), group.roster.judge(now_s).named(name)?.clone()))
    }

    /// The time by which memberships are judged. Unit: seconds since 1970.
    pub fn group_time(&self, common_s: u64) -> u64 {
        common_s.max(self.groups.base_s.saturating_add(self.invites.counted))
    }

    /// True when [`TrustBook::settle_groups`] has something to do that follows from time alone.
    pub(crate) fn groups_are_due(&self, common_s: u64) -> bool {
        !self.groups.list.is_empty() && self.group_time(common_s) >= self.groups.due_s
    }

    // Verbs.

    /// Founds a group with this node as its first admin; members may reach `allowed` here.
    ///
    /// # Errors
    /// `BadName`, `NameTaken`, `Full`.
    pub fn create_group(
        &mut self,
        me: &Me<'_>,
        name: &str,
        allowed: Ports,
        rng: &mut Rng,
    ) -> Result<GroupId, GroupError> {
        if !valid_group_name(name) {
            return Err(GroupError::BadName);
        }
        let seed = Zeroizing::new(rng.bytes());
        let group =
            Group { name: name.into(), key: Identity::from_seed(*seed).public(), founder: me.identity.public() };
        self.groups.check_new(&group)?;
        self.start_group_time(me);
        let roster = Roster::new(group);
        let id = roster.id();
        self.groups.list.push(Membership { roster, allowed, allowed_admins: None, key: Some(seed) });
        let record = own_record(me).ok_or(GroupError::OutOfRange)?;
        self.issue(me, &id, &record, Role::Admin)?;
        Ok(id)
    }

    /// Says what members of a group may reach here; with `Role::Admin` what its admins may.
    ///
    /// # Errors
    /// `Unknown`.
    pub fn allow_group(&mut self, id: &GroupId, role: Role, ports: Ports) -> Result<(), GroupError> {
        let membership = self.groups.get_mut(id).ok_or(GroupError::Unknown)?;
        match role {
            Role::Member => membership.allowed = ports,
            Role::Admin => membership.allowed_admins = Some(ports),
        }
        self.changed();
        Ok(())
    }

    /// Removes a member; returns the rows that tell it. Open invites of the group are withdrawn: the member may know their codes.
    ///
    /// # Errors
    /// `Unknown`, `NotAMember`, `NotAnAdmin`.
    pub fn remove_member(&mut self, me: &Me<'_>, id: &GroupId, key: &IdentityKey) -> Result<Vec<Row>, GroupError> {
        let (now_s, own) = (self.group_time(me.common_s), me.identity.public());
        let membership = self.groups.get_mut(id).ok_or(GroupError::Unknown)?;
        let (judge, signer) = (membership.roster.judge(now_s), membership.signer(me.identity));
        let goes = judge.standing(key)?.clone();
        let may = *key == own || signer.key.is_some() || judge.may_remove(&own, key);
        if !may {
            return Err(GroupError::NotAnAdmin);
        }
        let epoch = membership.roster.next_epoch(key).max(goes.epoch);
        let leaves_members = goes.role == Role::Admin && *key != own;
        let least = epoch.saturating_add(1);
        let mut rows = if leaves_members { membership.adopt(me.identity, key, (least, now_s)) } else { Vec::new() };
        let by = if *key == own { Some(own) } else { signer.name() };
        // No enrolment that it makes void comes back to life when it is forgotten.
        let until = goes.not_after.max((now_s as u32).saturating_add(ENROLMENT_TERM_MAX_S));
        let until = if *key == own { goes.not_after } else { until };
        let last = Removal { member: *key, is_enrolment: false, epoch, until, signer: by, signature: [0; 64] };
        let last = Row::Removal(last);
        rows.push(if *key == own { last.sign(id, me.identity) } else { signer.sign(id, last) });
        rows.iter().for_each(|row| _ = membership.roster.insert(row, now_s));
        let is_removed = membership.roster.judge(now_s).standing(key).is_err();
        self.withdraw_group_invites(id);
        self.changed();
        if is_removed { Ok(rows) } else { Err(GroupError::Full) }
    }

    /// Leaves a group and forgets it; returns the rows that tell the others.
    ///
    /// # Errors
    /// `Unknown`.
    pub fn leave_group(&mut self, me: &Me<'_>, id: &GroupId) -> Result<Vec<Row>, GroupError> {
        let rows = self.remove_member(me, id, &me.identity.public()).unwrap_or_default();
        let at = self.groups.position(id).ok_or(GroupError::Unknown)?;
        self.groups.list.remove(at);
        self.outgoing.retain(|_, ours| ours.group != Some(*id)); // no member lets this node in again by what it has asked
        self.withdraw_group_invites(id);
        self.changed();
        Ok(rows)
    }

    /// Renews the term of a member; returns the rows that tell it.
    ///
    /// # Errors
    /// `Unknown`, `NotAMember`, `NotAnAdmin`, `NoKey` (of an admin's), `TooSoon`.
    pub fn renew_member(&mut self, me: &Me<'_>, id: &GroupId, key: &IdentityKey) -> Result<Vec<Row>, GroupError> {
        let now_s = self.group_time(me.common_s);
        let membership = self.groups.get_mut(id).ok_or(GroupError::Unknown)?;
        let known = membership.roster.judge(now_s).standing(key)?.clone();
        if !known.is_enrolled() && now_s < u64::from(known.issued) + u64::from(RENEWAL_PAUSE_S) {
            return Err(GroupError::TooSoon);
        }
        let record = NodeRecord::unsigned(known.identity, known.static_key, known.addr, &known.name);
        self.issue(me, id, &record, known.role).map(|row| alloc::vec![row])
    }

    /// Makes an admin of a member, or a member of an admin; the members that it has let in stay. Returns the rows that tell it.
    ///
    /// # Errors
    /// `Unknown`, `NotAMember`, `NoKey`.
    pub fn set_role(
        &mut self,
        me: &Me<'_>,
        id: &GroupId,
        key: &IdentityKey,
        role: Role,
    ) -> Result<Vec<Row>, GroupError> {
        let now_s = self.group_time(me.common_s);
        let membership = self.groups.get_mut(id).ok_or(GroupError::Unknown)?;
        let known = membership.roster.judge(now_s).standing(key)?.clone();
        if !membership.has_key() {
            return Err(GroupError::NoKey);
        }
        let is_demoted = known.role == Role::Admin && role == Role::Member && *key != me.identity.public();
        let mut rows = if is_demoted { membership.adopt(me.identity, key, (0, now_s)) } else { Vec::new() };
        rows.iter().for_each(|row| _ = membership.roster.insert(row, now_s));
        let record = NodeRecord::unsigned(known.identity, known.static_key, known.addr, &known.name);
        rows.push(self.issue_by(me, id, &record, role, true)?);
        Ok(rows)
    }

    /// Gives a group another key, after the first one was stolen; returns the rows that tell it. What the old key has signed is
    /// void, but for what this node signs anew: the admins that are `kept`, and removals.
    ///
    /// # Errors
    /// `Unknown`, `NotTheFounder`.
    pub fn rekey_group(
        &mut self,
        me: &Me<'_>,
        id: &GroupId,
        kept: &[IdentityKey],
        rng: &mut Rng,
    ) -> Result<Vec<Row>, GroupError> {
        let now_s = self.group_time(me.common_s);
        let membership = self.groups.get_mut(id).ok_or(GroupError::Unknown)?;
        if membership.roster.group().founder != me.identity.public() {
            return Err(GroupError::NotTheFounder);
        }
        let seed = Zeroizing::new(rng.bytes());
        let key = Identity::from_seed(*seed);
        let judge = membership.roster.judge(now_s);
        let stays = |row: &&&Statement| row.identity == me.identity.public() || kept.contains(&row.identity);
        let admins: Vec<Row> =
            judge.admins().iter().filter(stays).map(|row| Row::Statement((**row).clone()).sign(id, &key)).collect();
        let removals: Vec<Row> = membership
            .roster
            .removals()
            .filter(|row| row.signer.is_none())
            .map(|row| Row::Removal(row.clone()).sign(id, &key))
            .collect();
        // Members of an admin that goes, and those that the old key has signed, are signed by this node.
        let of = judge.members().filter(|row| row.role == Role::Member);
        let members: Vec<Row> = of
            .filter(|row| row.signer.key().is_none_or(|by| by != me.identity.public() && !kept.contains(&by)))
            .filter(|row| !row.is_enrolled())
            .map(|row| Statement {
                issued: membership.roster.next_issue(&row.identity, now_s as u32),
                signer: Signer::Admin(me.identity.public()),
                ..row.clone()
            })
            .map(|row| Row::Statement(row).sign(id, me.identity))
            .collect();
        let number = membership.roster.key_row().map_or(1, |row| row.number + 1);
        let first = Row::Key(KeyRow { number, key: key.public(), signature: [0; 64] }).sign(id, me.identity);
        // The members come first, signed by an admin of the old key, so that none is gone before all rows have arrived.
        let rows: Vec<Row> = members.into_iter().chain([first]).chain(admins).chain(removals).collect();
        membership.key = Some(seed);
        rows.iter().for_each(|row| _ = membership.roster.insert(row, now_s));
        self.withdraw_group_invites(id);
        self.changed();
        Ok(rows)
    }

    /// Takes the group key from where it was kept: this node, a member, is an admin from now on. Returns the rows that tell it.
    ///
    /// # Errors
    /// `Unknown`, `WrongKey`, `NotAMember`, `OutOfRange`.
    pub fn import_group_key(&mut self, me: &Me<'_>, id: &GroupId, seed: &[u8; 32]) -> Result<Vec<Row>, GroupError> {
        let (now_s, own) = (self.group_time(me.common_s), me.identity.public());
        let membership = self.groups.get_mut(id).ok_or(GroupError::Unknown)?;
        if Identity::from_seed(*seed).public() != membership.roster.key() {
            return Err(GroupError::WrongKey);
        }
        let is_admin = membership.roster.judge(now_s).standing(&own)?.role == Role::Admin;
        membership.key = Some(Zeroizing::new(*seed));
        self.changed();
        if is_admin {
            return Ok(Vec::new());
        }
        let record = own_record(me).ok_or(GroupError::OutOfRange)?;
        self.issue(me, id, &record, Role::Admin).map(|row| alloc::vec![row])
    }

    /// The proof of this node's membership.
    pub(super) fn own_credentials(&self, me: &Me<'_>, id: &GroupId) -> Result<Credentials, GroupError> {
        let at = self.groups.position(id).ok_or(GroupError::Unknown)?;
        let judge = self.groups.list[at].roster.judge(self.group_time(me.common_s));
        Ok(Credentials { group: *id, rows: judge.credentials(&me.identity.public())? })
    }

    /// True when this node stands as a member of the group.
    pub(super) fn is_member(&self, me: &Me<'_>, id: &GroupId) -> bool {
        self.own_credentials(me, id).is_ok()
    }

    /// The rows that prove the memberships of a node.
    pub(crate) fn proofs(&self, me: &Me<'_>, key: &IdentityKey) -> Vec<(GroupId, Vec<Row>)> {
        let now_s = self.group_time(me.common_s);
        let of = |group: &Membership| Some((group.roster.id(), group.roster.judge(now_s).credentials(key).ok()?));
        self.groups.list.iter().filter_map(of).collect()
    }

    /// Signs that a node is a member of a group of which this node is an admin.
    pub(super) fn issue(
        &mut self,
        me: &Me<'_>,
        id: &GroupId,
        record: &NodeRecord,
        role: Role,
    ) -> Result<Row, GroupError> {
        self.issue_by(me, id, record, role, role == Role::Admin)
    }

    fn issue_by(
        &mut self,
        me: &Me<'_>,
        id: &GroupId,
        record: &NodeRecord,
        role: Role,
        by_key: bool,
    ) -> Result<Row, GroupError> {
        let (now_s, own) = (self.group_time(me.common_s), me.identity.public());
        let membership = self.groups.get_mut(id).ok_or(GroupError::Unknown)?;
        let (judge, signer) = (membership.roster.judge(now_s), membership.signer(me.identity));
        if by_key && signer.key.is_none() {
            return Err(GroupError::NoKey);
        }
        if !by_key && !judge.is_admin(&own) {
            return Err(GroupError::NotAnAdmin);
        }
        let now = u32::try_from(now_s).map_err(|_| GroupError::OutOfRange)?;
        // What a node has said of itself by an enrolment is no name that it has, and no time since which it belongs here.
        let before = judge.standing(&record.identity).ok().filter(|row| !row.is_enrolled());
        let term = if role == Role::Admin { ADMIN_TERM_S } else { MEMBER_TERM_S };
        let statement = Statement {
            identity: record.identity,
            static_key: record.static_key,
            addr: record.addr,
            name: before.map_or_else(|| free_name(&membership.roster, now_s, record), |row| row.name.clone()),
            role,
            since: before.filter(|row| row.role == role).map_or(now, |row| row.since),
            issued: membership.roster.next_issue(&record.identity, now),
            not_after: now.saturating_add(term),
            epoch: membership.roster.next_epoch(&record.identity),
            signer: if by_key { Signer::GroupKey } else { Signer::Admin(own) },
            signature: [0; 64],
        };
        let key = signer.key.as_ref().filter(|_| by_key).unwrap_or(me.identity);
        let row = Row::Statement(statement).sign(id, key);
        membership.roster.insert(&row, now_s)?;
        self.changed();
        Ok(row)
    }

    pub(super) fn start_group_time(&mut self, me: &Me<'_>) {
        if self.groups.list.is_empty() {
            self.groups.base_s = me.common_s.saturating_sub(self.invites.counted);
        }
    }

    fn withdraw_group_invites(&mut self, id: &GroupId) {
        let of = self.invites.list.iter_mut().filter(|invite| invite.group == Some(*id));
        of.for_each(|invite| invite.is_withdrawn = true);
    }

    /// Enters a group that an admin has let this node join.
    pub(super) fn enter_group(
        &mut self,
        me: &Me<'_>,
        group: Group,
        rows: &[Row],
        allowed: Ports,
    ) -> Result<GroupId, GroupError> {
        let (id, name) = (group.id(), group.name.clone());
        let is_new = self.groups.position(&id).is_none();
        if is_new {
            self.groups.check_new(&group)?;
            self.start_group_time(me);
            let roster = Roster::new(group);
            self.groups.list.push(Membership { roster, allowed, allowed_admins: None, key: None });
        }
        let now_s = self.group_time(me.common_s);
        let membership = self.groups.get_mut(&id).ok_or(GroupError::Unknown)?;
        debug_assert_eq!(membership.roster.group().name, name, "one id has one name");
        rows.iter().for_each(|row| _ = membership.roster.insert(row, now_s));
        let standing = membership.roster.judge(now_s).standing(&me.identity.public()).map(drop);
        if standing.is_err() && is_new {
            self.groups.list.retain(|membership| membership.roster.id() != id);
        }
        self.changed();
        standing.map(|()| id).map_err(GroupError::from)
    }

    // What follows.

    /// Makes the grants by group of all pins what the rosters and this owner's allowances say now. Work grows with the number of
    /// pins, groups and admins.
    pub(crate) fn settle_groups(&mut self, me: &Me<'_>, rng: &mut Rng) -> Settled {
        let mut settled = Settled::default();
        let now_s = self.group_time(me.common_s);
        self.renew_own(me, now_s);
        let mut due_s = now_s.saturating_add(RENEWAL_PAUSE_S.into());
        for membership in &mut self.groups.list {
            if membership.roster.prune(now_s) {
                self.version.0 += 1;
            }
        }
        let mut grants = Vec::new();
        for membership in &self.groups.list {
            let judge = membership.roster.judge(now_s);
            let Ok(own) = judge.standing(&me.identity.public()) else { continue };
            for key in self.pins.keys() {
                let Ok(theirs) = judge.standing(key) else { continue };
                let not_after = u64::from(own.not_after.min(theirs.not_after));
                due_s = due_s.min(not_after);
                let ports = membership.allowed(theirs.role).clone();
                grants.push((*key, GroupGrant { group: membership.roster.id(), ports, not_after }));
            }
        }
        self.groups.due_s = due_s;
        let epoch = me.now_s.saturating_mul(1000).max(self.own_epoch + 1);
        let mut over = Vec::new();
        for (key, pin) in &mut self.pins {
            let of: Box<[_]> = grants.iter().filter(|(of, _)| of == key).map(|(_, grant)| grant.clone()).collect();
            if of.is_empty() && !pin.by_hand {
                over.push(*key);
            }
            if of == pin.groups {
                continue;
            }
            let before = pin.reach();
            set_grants(pin, of, now_s, me.now_s);
            if pin.reach() != before {
                pin.marks.stated = epoch;
                self.own_epoch = epoch;
                settled.regranted.push(*key);
            }
            self.version.0 += 1;
        }
        settled.regranted.retain(|key| !over.contains(key));
        settled.ended = over.iter().filter_map(|key| self.revoke(me, key, rng).ok()).collect();
        settled
    }

    /// Gives a new pin what its groups give it.
    pub(super) fn give_grants(&mut self, me: &Me<'_>, key: &IdentityKey) {
        let now_s = self.group_time(me.common_s);
        let grant = |membership: &Membership| {
            let judge = membership.roster.judge(now_s);
            let (own, theirs) = (judge.standing(&me.identity.public()).ok()?, judge.standing(key).ok()?);
            let (group, ports) = (membership.roster.id(), membership.allowed(theirs.role).clone());
            Some(GroupGrant { group, ports, not_after: own.not_after.min(theirs.not_after).into() })
        };
        let of: Box<[_]> = self.groups.list.iter().filter_map(grant).collect();
        let first = of.iter().map(|grant| grant.not_after).min();
        self.groups.due_s = first.map_or(self.groups.due_s, |at| at.min(self.groups.due_s));
        self.pins.get_mut(key).into_iter().for_each(|pin| set_grants(pin, of.clone(), now_s, me.now_s));
    }

    /// The group key renews the statement of its own node.
    fn renew_own(&mut self, me: &Me<'_>, now_s: u64) {
        let own = me.identity.public();
        let is_due = |membership: &&Membership| {
            membership.has_key() && membership.roster.judge(now_s).standing(&own).is_ok_and(|row| row.is_due(now_s))
        };
        let due: Vec<_> = self.groups.list.iter().filter(is_due).map(|membership| membership.roster.id()).collect();
        due.iter().for_each(|id| _ = self.renew_member(me, id, &own));
    }

    // Between members.

    /// What a member is told when a tunnel with it comes up; `None` for a peer that is in no group of this node.
    pub(crate) fn hello(&self, me: &Me<'_>, to: &IdentityKey) -> Option<Vec<u8>> {
        self.hello_list(me, to).map(|list| Talk::Hello(list).emit())
    }

    fn hello_list(&self, me: &Me<'_>, to: &IdentityKey) -> Option<Vec<Hello>> {
        let now_s = self.group_time(me.common_s);
        let mut list = Vec::new();
        for membership in &self.groups.list {
            let judge = membership.roster.judge(now_s);
            let (true, Ok(rows)) = (judge.standing(to).is_ok(), judge.credentials(&me.identity.public())) else {
                continue;
            };
            let credentials = Credentials { group: membership.roster.id(), rows };
            list.push(Hello { credentials, digest: membership.roster.digest() });
        }
        (!list.is_empty()).then_some(list)
    }

    /// Takes what a peer says of groups; gives the answers for that peer, and the rows that are news for all other members.
    pub(crate) fn receive_talk(&mut self, me: &Me<'_>, from: &IdentityKey, bytes: &[u8]) -> (Vec<Vec<u8>>, News) {
        let (mut answers, mut news) = (Vec::new(), Vec::new());
        let talk = Talk::parse(bytes);
        let opens = matches!(talk, Ok(Talk::Hello(_)));
        match talk {
            Ok(Talk::Hello(list) | Talk::Back(list)) => {
                for Hello { credentials: Credentials { group, rows }, digest } in list {
                    self.take_rows(me, from, &group, &rows, true, &mut news);
                    if self.renew_due(me, from, &group, &mut news).is_some_and(|own| own != digest) {
                        answers.push(Talk::Want(group, 0).emit());
                    }
                }
                if opens && !answers.is_empty() {
                    answers.extend(self.hello_list(me, from).map(|list| Talk::Back(list).emit()));
                }
            }
            Ok(Talk::Want(group, first)) => answers.extend(self.part(me, from, &group, first)),
            Ok(Talk::Rows(group, rows, next)) => {
                if self.take_rows(me, from, &group, &rows, false, &mut news)
                    && let Some(next) = next
                {
                    answers.push(Talk::Want(group, next).emit());
                }
            }
            Err(Malformed) => {}
        }
        (answers, news)
    }

    /// Takes rows of a group from one of its members; true when the sender is one.
    pub(super) fn take_rows(
        &mut self,
        me: &Me<'_>,
        from: &IdentityKey,
        group: &GroupId,
        rows: &[Row],
        are_proof: bool,
        news: &mut News,
    ) -> bool {
        let now_s = self.group_time(me.common_s);
        let Some(membership) = self.groups.get_mut(group) else { return false };
        let roster = &mut membership.roster;
        if !are_proof && roster.judge(now_s).standing(from).is_err() {
            return false;
        }
        let (epoch, key) = (roster.epoch(), roster.key());
        let new: Vec<Row> = rows.iter().filter(|row| roster.insert(row, now_s) == Ok(true)).cloned().collect();
        let (is_member, has_risen) = (roster.judge(now_s).standing(from).is_ok(), roster.epoch() > epoch);
        if roster.key() != key {
            membership.key = None; // the founder has made another one, so that this one signs nothing that counts
        }
        if !new.is_empty() {
            news.push((*group, new));
            self.changed();
        }
        if has_risen {
            self.withdraw_group_invites(group);
        }
        is_member
    }

    /// An admin renews a member that it meets in the last third of its term; gives the version of the roster after that.
    fn renew_due(&mut self, me: &Me<'_>, member: &IdentityKey, group: &GroupId, news: &mut News) -> Option<[u8; 16]> {
        let now_s = self.group_time(me.common_s);
        let at = self.groups.position(group)?;
        let standing = self.groups.list[at].roster.judge(now_s).standing(member).ok()?;
        // A member by an enrolment is taken over, or ends with that.
        let is_due = standing.is_due(now_s) && !standing.is_enrolled();
        if is_due && let Ok(rows) = self.renew_member(me, group, member) {
            news.push((*group, rows));
        }
        Some(self.groups.list[at].roster.digest())
    }

    /// The part of a roster from one row on, for a member.
    fn part(&self, me: &Me<'_>, to: &IdentityKey, group: &GroupId, first: u32) -> Option<Vec<u8>> {
        let at = self.groups.position(group)?;
        let roster = &self.groups.list[at].roster;
        roster.judge(self.group_time(me.common_s)).standing(to).ok()?;
        let (mut rows, mut len, mut next) = (Vec::new(), 0, None);
        for (number, row) in roster.rows().enumerate().skip(first as usize) {
            len += row.emit().len() + 2;
            if len > PART_LEN_MAX {
                next = Some(number as u32);
                break;
            }
            rows.push(row);
        }
        Some(Talk::Rows(*group, rows, next).emit())
    }
}

/// `now_s`: the time of groups, beside the wall clock `wall_s`.
fn set_grants(pin: &mut Pin, grants: Box<[GroupGrant]>, now_s: u64, wall_s: u64) {
    pin.groups = grants;
    if !pin.by_hand {
        let end = pin.groups.iter().map(|grant| grant.not_after).max();
        pin.not_after = end.map(|at| at.saturating_sub(now_s).saturating_add(wall_s));
    }
}

impl Membership {
    /// What an admin that is none any more has signed ends with that: members and removals that are to stay, signed by this node, the
    /// members' statements with `least` as their lowest epoch.
    fn adopt(&self, own: &Identity, of: &IdentityKey, (least, now_s): (u32, u64)) -> Vec<Row> {
        let (id, judge, signer) = (self.roster.id(), self.roster.judge(now_s), self.signer(own));
        let members = judge.members().filter(|row| row.signer == Signer::Admin(*of)).map(|row| Statement {
            epoch: least.max(row.epoch),
            issued: self.roster.next_issue(&row.identity, now_s as u32),
            signer: Signer::Admin(own.public()),
            ..row.clone()
        });
        let removals = self.roster.removals().filter(|row| row.signer == Some(*of) && row.member != *of);
        let removals = removals.map(|row| Removal { signer: signer.name(), ..row.clone() });
        let members = members.map(|row| Row::Statement(row).sign(&id, own));
        members.chain(removals.map(|row| signer.sign(&id, Row::Removal(row)))).collect()
    }
}

/// This node's own record.
pub(super) fn own_record(me: &Me<'_>) -> Option<NodeRecord> {
    NodeRecord::parse_unverified(me.record).ok()
}

/// The name of a new member: its hostname, or one made of its address; with a number when a member has that.
pub(super) fn free_name(roster: &Roster, now_s: u64, record: &NodeRecord) -> String {
    let judge = roster.judge(now_s);
    let base = match record.hostname.as_str() {
        "" => format!("node-{:08x}", record.addr.node),
        name => name.chars().take(58).collect(),
    };
    let numbered = (2..).map(|n| format!("{base}-{n}"));
    let is_free = |name: &String| judge.named(name).is_none_or(|row| row.identity == record.identity);
    [base.clone()].into_iter().chain(numbered).find(is_free).unwrap_or(base)
}
