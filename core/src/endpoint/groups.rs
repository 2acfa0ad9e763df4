//! Owns the verbs of groups of an endpoint. What they change is on disk, and told to members, as other changes of trust are.

use super::Endpoint;
use crate::control::Control;
use crate::group::{Enrolment, EnrolmentSeed, GroupId, Role, Statement};
use crate::identity::IdentityKey;
use crate::invite::{CONTACTS_MAX, EnrolmentCode, InviteId};
use crate::sort::sort_by;
use crate::time::Instant;
use crate::trust::{GroupError, Invite, Ports};
use alloc::vec::Vec;

impl Endpoint {
    /// The time by which memberships are judged. Unit: seconds since 1970.
    pub fn group_time(&self, now: Instant) -> u64 {
        let behind_s = self.clock_behind_s(now).unwrap_or_default();
        self.trust().group_time(self.wall_s(now).saturating_add_signed(behind_s))
    }

    /// Founds a group. Its members may reach `ports` here; see [`TrustBook::create_group`](crate::trust::TrustBook::create_group).
    ///
    /// # Errors
    /// `BadName`, `NameTaken`, `Full`.
    pub fn create_group(&mut self, now: Instant, name: &str, ports: Ports) -> Result<GroupId, GroupError> {
        self.with_directory(now, |directory, cx| directory.create_group(cx, name, ports))
    }

    /// Makes an invite to a group, for so many nodes and seconds. As [`Endpoint::invite`]; the code names the group.
    ///
    /// # Errors
    /// See [`TrustBook::group_invite`](crate::trust::TrustBook::group_invite).
    pub fn group_invite(&mut self, now: Instant, id: &GroupId, terms: (u16, u64)) -> Result<Invite, GroupError> {
        self.with_directory(now, |directory, cx| directory.group_invite(cx, id, terms))
    }

    /// Makes an enrolment of a group, for so many nodes and seconds, and what its code tells. The members are told at once.
    ///
    /// # Errors
    /// See [`TrustBook::enrolment`](crate::trust::TrustBook::enrolment).
    pub fn make_enrolment(
        &mut self,
        now: Instant,
        id: &GroupId,
        terms: (u16, u64),
    ) -> Result<(Enrolment, EnrolmentSeed), GroupError> {
        self.with_directory(now, |directory, cx| directory.make_enrolment(cx, id, terms))
    }

    /// The members that a code of an enrolment names: this node, then those that are best known to be reachable, with a tunnel now, as
    /// admins, as peers, or by a membership that was signed of late; at most [`CONTACTS_MAX`].
    pub fn contacts(&self, now: Instant, id: &GroupId) -> Vec<IdentityKey> {
        let (trust, own) = (self.trust(), self.identity().public());
        let Some(group) = trust.groups().find(|group| group.roster.id() == *id) else { return Vec::new() };
        let judge = group.roster.judge(self.group_time(now));
        let has_tunnel = |key: &IdentityKey| self.peer_by_identity(key).is_some_and(|peer| self.is_up(now, peer));
        let worth = |row: &Statement| {
            let key = row.identity;
            (key == own, has_tunnel(&key), row.role == Role::Admin, trust.pin(&key).is_some(), row.issued)
        };
        let mut members: Vec<_> = judge.members().map(|row| (worth(row), row.identity)).collect();
        sort_by(&mut members, |a, b| a > b);
        members.into_iter().take(CONTACTS_MAX).map(|(_, key)| key).collect()
    }

    /// Withdraws the enrolment with this number, of whichever group: the memberships that it alone has signed end with it.
    ///
    /// # Errors
    /// See [`TrustBook::withdraw_enrolment`](crate::trust::TrustBook::withdraw_enrolment).
    pub fn withdraw_enrolment(&mut self, now: Instant, number: InviteId) -> Result<(), GroupError> {
        self.with_directory(now, |directory, cx| directory.withdraw_enrolment(cx, number))
    }

    /// Enters a group by the code of an enrolment, and asks the contacts in the code until one has answered, once that is on disk. As
    /// of [`Endpoint::join`] the answer is an [`Event::Trust`](super::Event::Trust).
    ///
    /// # Errors
    /// See [`TrustBook::enrol`](crate::trust::TrustBook::enrol); `NoWay` when the code leads over another rendezvous only.
    pub fn enrol(&mut self, now: Instant, code: &EnrolmentCode, allowed: Ports) -> Result<(), GroupError> {
        self.with_directory(now, |directory, cx| directory.enrol(cx, code, allowed))
    }

    /// True when a member of each group in which this node has peers has a tunnel, so that what this node says of itself there is heard.
    pub fn is_heard_in_groups(&self, now: Instant) -> bool {
        self.trust().groups().all(|group| {
            let id = group.roster.id();
            let mut pins =
                self.trust().pins().filter(|pin| pin.groups.iter().any(|grant| grant.group == id)).peekable();
            let is_up = |peer| self.is_up(now, peer);
            pins.peek().is_none() || pins.any(|pin| self.peer_by_identity(&pin.identity).is_some_and(is_up))
        })
    }

    /// Says what members of a group may reach here, at once.
    ///
    /// # Errors
    /// `Unknown`.
    pub fn allow_group(&mut self, now: Instant, id: &GroupId, role: Role, ports: Ports) -> Result<(), GroupError> {
        self.with_directory(now, |directory, cx| directory.allow_group(cx, id, role, ports))
    }

    /// Removes a member: its pin and its streams end at once, here and where the roster arrives.
    ///
    /// # Errors
    /// See [`TrustBook::remove_member`](crate::trust::TrustBook::remove_member).
    pub fn remove_member(&mut self, now: Instant, id: &GroupId, key: &IdentityKey) -> Result<(), GroupError> {
        self.with_directory(now, |directory, cx| {
            directory.change_group(cx, id, |book, me, _| book.remove_member(me, id, key))
        })
    }

    /// Leaves a group.
    ///
    /// # Errors
    /// `Unknown`.
    pub fn leave_group(&mut self, now: Instant, id: &GroupId) -> Result<(), GroupError> {
        self.with_directory(now, |directory, cx| directory.leave_group(cx, id))
    }

    /// Renews the term of a member before it is due.
    ///
    /// # Errors
    /// See [`TrustBook::renew_member`](crate::trust::TrustBook::renew_member).
    pub fn renew_member(&mut self, now: Instant, id: &GroupId, key: &IdentityKey) -> Result<(), GroupError> {
        self.with_directory(now, |directory, cx| {
            directory.change_group(cx, id, |book, me, _| book.renew_member(me, id, key))
        })
    }

    /// Makes an admin of a member, or a member of an admin.
    ///
    /// # Errors
    /// See [`TrustBook::set_role`](crate::trust::TrustBook::set_role).
    pub fn set_role(&mut self, now: Instant, id: &GroupId, key: &IdentityKey, role: Role) -> Result<(), GroupError> {
        self.with_directory(now, |directory, cx| {
            directory.change_group(cx, id, |book, me, _| book.set_role(me, id, key, role))
        })
    }

    /// Gives a group another key; the admins that are `kept` stay admins.
    ///
    /// # Errors
    /// See [`TrustBook::rekey_group`](crate::trust::TrustBook::rekey_group).
    pub fn rekey_group(&mut self, now: Instant, id: &GroupId, kept: &[IdentityKey]) -> Result<(), GroupError> {
        self.with_directory(now, |directory, cx| {
            directory.change_group(cx, id, |book, me, rng| book.rekey_group(me, id, kept, rng))
        })
    }

    /// Takes the group key from where it was kept: this node, a member, is an admin from now on.
    ///
    /// # Errors
    /// See [`TrustBook::import_group_key`](crate::trust::TrustBook::import_group_key).
    pub fn import_group_key(&mut self, now: Instant, id: &GroupId, seed: &[u8; 32]) -> Result<(), GroupError> {
        self.with_directory(now, |directory, cx| {
            directory.change_group(cx, id, |book, me, _| book.import_group_key(me, id, seed))
        })
    }

    /// Tells a peer something about groups, if it has a tunnel.
    pub(super) fn tell_member(&mut self, now: Instant, key: &IdentityKey, message: Vec<u8>) {
        if let Some(id) = self.peer_by_identity(key).filter(|id| self.is_up(now, *id)) {
            self.send_control(id, &Control::Group(message));
        }
    }

    /// Tells the members of a group that have a tunnel.
    pub(super) fn tell_members(&mut self, now: Instant, group: &GroupId, message: &[u8]) {
        let members = self.trust().pins().filter(|pin| pin.groups.iter().any(|grant| grant.group == *group));
        let up = members.filter_map(|pin| self.peer_by_identity(&pin.identity)).filter(|id| self.is_up(now, *id));
        for id in up.collect::<Vec<_>>() {
            self.send_control(id, &Control::Group(message.into()));
        }
    }

    /// Asks another member of a group for trust, without a question to its owner. The answer is an [`Event::Trust`](super::Event::Trust).
    ///
    /// # Errors
    /// See [`TrustBook::meet`](crate::trust::TrustBook::meet).
    pub fn meet_member(&mut self, now: Instant, id: &GroupId, key: &IdentityKey) -> Result<(), GroupError> {
        self.with_directory(now, |directory, cx| directory.meet(cx, id, key))
    }
}
