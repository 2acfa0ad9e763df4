//! Owns the verbs of enrolment, and how a node that has entered a group by a code comes to its members: the contacts in the code are
//! asked one after the other, since none of them need be there.

use super::joining::Enrolling;
use super::{Context, Departure, Directory, Effect};
use crate::group::{Enrolment, EnrolmentSeed, GroupId};
use crate::identity::IdentityKey;
use crate::invite::{CONTACTS_MAX, EnrolmentCode, InviteId};
use crate::time::{Duration, Instant};
use crate::trust::unanswered::{DirectJoin, JOINS_MAX};
use crate::trust::{GroupError, Outcome, Ports};
use alloc::vec::Vec;
use core::net::SocketAddr;

/// Time that a contact has before the next one is asked as well. Source: own choice, many times a round trip of letters. The question
/// to the first one stands.
const CONTACT_PAUSE: Duration = Duration::from_secs(3);

impl Directory {
    pub(crate) fn make_enrolment(
        &mut self,
        cx: &mut Context<'_>,
        id: &GroupId,
        terms: (u16, u64),
    ) -> Result<(Enrolment, EnrolmentSeed), GroupError> {
        let (enrolment, seed, rows) = self.with_trust(cx, |book, me, rng| book.enrolment(me, id, terms, rng))?;
        self.tell_members(cx, *id, rows);
        Ok((enrolment, seed))
    }

    pub(crate) fn withdraw_enrolment(&mut self, cx: &mut Context<'_>, number: InviteId) -> Result<(), GroupError> {
        let (id, rows) = self.with_trust(cx, |book, me, _| book.withdraw_enrolment(me, number.0))?;
        self.tell_members(cx, id, rows);
        self.settle(cx);
        Ok(())
    }

    /// Enters the group of a code, and asks its contacts by all ways that the code and this node have in common.
    pub(crate) fn enrol(
        &mut self,
        cx: &mut Context<'_>,
        code: &EnrolmentCode,
        allowed: Ports,
    ) -> Result<(), GroupError> {
        let key = self.rendezvous.map(|(key, _)| key);
        let has_letters = code.rendezvous.as_ref().zip(key).is_some_and(|(meant, key)| meant.is(&key));
        if !has_letters && code.candidates.is_empty() {
            return Err(GroupError::NoWay);
        }
        let group = code.group.id();
        self.enrolling.retain(|other| other.group != group);
        if self.enrolling.len() >= JOINS_MAX || has_letters && !self.trust.has_room_for_letter() {
            return Err(GroupError::Full);
        }
        self.take_address(cx);
        self.with_trust(cx, |book, me, _| book.enrol(me, code, allowed))?;
        let own = cx.identity.public();
        // Without letters the node at the addresses alone hears anything.
        let reachable = if has_letters { CONTACTS_MAX } else { 1 };
        let mut contacts: Vec<_> = code.contacts.iter().take(reachable).filter(|key| **key != own).copied().collect();
        contacts.reverse();
        let candidates = code.candidates.clone();
        self.trust.set_contacts(&group, contacts);
        self.enrolling.push(Enrolling { group, candidates, has_letters, at: cx.now });
        self.settle(cx);
        self.tend_enrolling(cx);
        debug_assert!(self.enrolling.len() <= JOINS_MAX, "room was made before");
        Ok(())
    }

    /// When [`Directory::tend_enrolling`] has something to do.
    pub(super) fn enrolling_timeout(&self) -> Option<Instant> {
        self.enrolling.iter().map(|enrolling| enrolling.at).min()
    }

    /// Asks the contacts that are due, and forgets those of groups in which one has answered.
    pub(super) fn tend_enrolling(&mut self, cx: &mut Context<'_>) {
        if self.enrolling.is_empty() {
            return;
        }
        self.trust.forget_answered();
        self.enrolling.retain(|enrolling| self.trust.groups_with_contacts().any(|id| id == enrolling.group));
        let mut due = Vec::new();
        for enrolling in self.enrolling.iter_mut().filter(|enrolling| enrolling.at <= cx.now) {
            let Some(contact) = self.trust.next_contact(&enrolling.group) else { continue };
            enrolling.at = cx.now + CONTACT_PAUSE;
            due.push((enrolling.group, contact, core::mem::take(&mut enrolling.candidates), enrolling.has_letters));
        }
        for (group, contact, candidates, has_letters) in due {
            self.ask_contact(cx, (&group, &contact), candidates, has_letters);
        }
    }

    fn ask_contact(
        &mut self,
        cx: &mut Context<'_>,
        (group, contact): (&GroupId, &IdentityKey),
        to: Vec<SocketAddr>,
        has_letters: bool,
    ) {
        let asked = self.with_trust(cx, |book, me, rng| book.ask_contact(me, group, contact, rng));
        // Without room for a question the next contact is asked.
        let Ok(datagram) = asked else { return };
        if has_letters && let Some(number) = self.trust.add_letter(*contact, datagram.clone()) {
            self.depart_when_saved(cx.now, Departure::Letter(number));
        }
        if !to.is_empty() {
            self.ask_directly(cx.now, DirectJoin { inviter: *contact, to, datagram });
        }
    }

    /// A contact does not take this node: the next one is asked at once.
    pub(super) fn hasten_enrolling(&mut self, now: Instant) {
        self.enrolling.iter_mut().for_each(|enrolling| enrolling.at = now);
    }

    /// Does what an admin does about members by enrolments, and tells of codes that too many have used.
    pub(super) fn tend_enrolments(&mut self, cx: &mut Context<'_>) {
        for (id, rows) in self.with_trust(cx, |book, me, _| book.adopt(me)) {
            self.tell_members(cx, id, rows);
        }
        for (id, number) in self.with_trust(cx, |book, me, _| book.over_used(me)) {
            self.effects.push_back(Effect::Trust(Outcome::OverUsed(id, InviteId(number))));
        }
    }
}
