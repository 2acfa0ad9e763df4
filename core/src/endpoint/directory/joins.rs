//! Owns the verbs of invites, and the ways of a JOIN: as a letter, and directly to the addresses in the code, again and again
//! until there is an answer.

use super::joining::{Answered, Join};
use super::{Context, Departure, Directory, Effect};
use crate::addr::Addr;
use crate::invite::{InviteCode, InviteId};
use crate::path::PathAddr;
use crate::time::{Duration, Instant};
use crate::trust::join::{Joined, answer as join_answer};
use crate::trust::unanswered::{DirectJoin, JOINS_MAX};
use crate::trust::{Invite, InviteTerms, Outcome, Terms, TrustError, TrustVersion};
use core::net::SocketAddr;

/// Most answers to JOINs that are kept for the case that the same JOIN comes again. Source: own choice; each is for one joiner.
pub(super) const ANSWERED_MAX: usize = 16;
/// Longest pause between two datagrams to one address; it doubles. Source: own choice.
const PAUSE_MAX: Duration = Duration::from_secs(30);

impl Directory {
    /// Makes an invite of this node.
    pub(crate) fn invite(&mut self, cx: &mut Context<'_>, terms: InviteTerms) -> Result<Invite, TrustError> {
        self.take_address(cx);
        self.with_trust(cx, |book, me, rng| book.invite(me, terms, rng))
    }

    /// Lets invites and memberships grow old; true when that is to be saved.
    pub(crate) fn count_time(&mut self, cx: &mut Context<'_>) -> bool {
        let before = self.trust.version();
        self.trust.count_time(cx.now.as_micros() / 1_000_000, cx.wall_us / 1_000_000);
        self.tend_groups(cx);
        self.trust.version() != before
    }

    /// Withdraws an invite of this node.
    pub(crate) fn withdraw_invite(&mut self, cx: &mut Context<'_>, id: InviteId) -> Result<(), TrustError> {
        self.with_trust(cx, |book, _, _| book.withdraw_invite(id))
    }

    /// Asks the inviter of a code, by all ways that the code and this node have in common.
    pub(crate) fn join(&mut self, cx: &mut Context<'_>, code: &InviteCode, terms: &Terms) -> Result<(), TrustError> {
        let key = self.rendezvous.map(|(key, _)| key);
        let has_letter = code.rendezvous.as_ref().zip(key).is_some_and(|(meant, key)| meant.is(&key));
        if !has_letter && code.candidates.is_empty() {
            return Err(TrustError::NoWay);
        }
        let others = self.joins.iter().filter(|join| join.inviter != code.inviter).count();
        if others >= JOINS_MAX || has_letter && !self.trust.has_room_for_letter() {
            return Err(TrustError::Full);
        }
        self.take_address(cx);
        let datagram = self.with_trust(cx, |book, me, rng| book.join(me, code, terms, rng))?;
        if has_letter && let Some(number) = self.trust.add_letter(code.inviter, datagram.clone()) {
            self.depart_when_saved(cx.now, Departure::Letter(number));
        }
        if !code.candidates.is_empty() {
            self.ask_directly(cx.now, DirectJoin { inviter: code.inviter, to: code.candidates.clone(), datagram });
        }
        debug_assert!(self.joins.len() <= JOINS_MAX, "room was made before");
        Ok(())
    }

    /// Sends a JOIN to the addresses that a code tells, once it is on disk, until there is an answer.
    pub(super) fn ask_directly(&mut self, now: Instant, join: DirectJoin) {
        let inviter = join.inviter;
        self.joins.retain(|join| join.inviter != inviter);
        if self.trust.add_direct_join(join) {
            self.joins.push(Join::new(inviter, self.trust.version(), now));
        }
    }

    /// Takes a JOIN that came from the joiner itself; false when it is none for this node.
    pub(crate) fn handle_join(&mut self, cx: &mut Context<'_>, from: SocketAddr, datagram: &[u8]) -> bool {
        let (join, version) = (crate::hash::blake2s(&[datagram]), self.trust.version());
        if let Some(known) = self.answered.iter().find(|known| known.join == join && known.version == version) {
            let again = Departure::Datagram(PathAddr::Direct(from), known.answer.clone());
            self.depart_when_saved(cx.now, again);
            return true;
        }
        let Joined { outcome, answer } = self.with_trust(cx, |book, me, rng| book.receive_join(me, datagram, rng));
        if let Outcome::Pinned(key) = &outcome {
            self.trust.note_endpoint(key, from);
        }
        let is_answered = answer.is_some();
        if let Some((_, key, message)) = answer {
            let answer = join_answer(&key, &message, &mut cx.entropy.generator());
            self.answered.truncate(ANSWERED_MAX - 1);
            self.answered.insert(0, Answered { join, version: self.trust.version(), answer: answer.clone() });
            self.depart_when_saved(cx.now, Departure::Datagram(PathAddr::Direct(from), answer));
        }
        self.tell_joined(cx, outcome);
        self.settle_since(cx, version);
        is_answered
    }

    /// Takes a JOIN that came as a letter.
    pub(super) fn handle_join_letter(&mut self, cx: &mut Context<'_>, sealed: &[u8]) {
        let version = self.trust.version();
        let Joined { outcome, answer } = self.with_trust(cx, |book, me, rng| book.receive_join(me, sealed, rng));
        if let Some((to, key, message)) = answer {
            self.write_letter(cx, to, key, &message);
        }
        self.tell_joined(cx, outcome);
        self.settle_since(cx, version);
    }

    /// Makes the pins follow the groups if the book has changed since: a stranger's datagram that changes nothing costs no look at rosters.
    fn settle_since(&mut self, cx: &mut Context<'_>, version: TrustVersion) {
        if self.trust.version() != version {
            self.settle(cx);
        }
    }

    pub(super) fn tell_joined(&mut self, cx: &mut Context<'_>, outcome: Outcome) {
        if let Outcome::Pinned(key) = &outcome {
            self.pins_changed(cx.now, key);
            self.announce_member(cx, key);
        }
        self.tell(outcome);
    }

    /// Takes the answer of an inviter that was asked directly; false when none was asked there, or it is no answer.
    pub(crate) fn handle_join_answer(&mut self, cx: &mut Context<'_>, from: SocketAddr, sealed: &[u8]) -> bool {
        if !self.trust.direct_joins().iter().any(|join| join.to.contains(&from)) {
            return false;
        }
        let Some(message) = cx.identity.open_sealed(sealed) else { return false };
        let outcome = self.receive(cx, &message, None);
        if let Outcome::Pinned(key) = &outcome {
            self.trust.note_endpoint(key, from);
        }
        let has_effect = !matches!(outcome, Outcome::Discarded(_));
        self.tell(outcome);
        has_effect
    }

    /// When [`Directory::tend_joins`] has something to do.
    pub(super) fn joins_timeout(&self) -> Option<Instant> {
        self.joins.iter().filter(|join| join.version <= self.saved).map(|join| join.at).min()
    }

    /// Sends what is due to inviters that have not answered, and forgets those that have.
    pub(super) fn tend_joins(&mut self, now: Instant) {
        if self.joins.is_empty() {
            return;
        }
        self.trust.forget_answered();
        let direct = self.trust.direct_joins();
        self.joins.retain(|join| direct.iter().any(|known| known.inviter == join.inviter));
        for join in self.joins.iter_mut().filter(|join| join.version <= self.saved && join.at <= now) {
            let of = direct.iter().filter(|known| known.inviter == join.inviter);
            let sent =
                of.flat_map(|of| of.to.iter().map(|to| Effect::Send(PathAddr::Direct(*to), of.datagram.clone())));
            self.effects.extend(sent);
            join.at = now + join.pause;
            join.pause = (join.pause * 2).min(PAUSE_MAX);
        }
    }

    /// A node without a rendezvous has no address before it meets another one: it takes one that follows from its key. A
    /// rendezvous confirms that later if it is free.
    pub(super) fn take_address(&mut self, cx: &mut Context<'_>) {
        if self.addr.is_unassigned() {
            let hash = crate::hash::blake2s(&[b"pn1-address", &cx.identity.public().0]);
            let node = u32::from_le_bytes(*hash.first_chunk().expect("4 of 32 bytes"));
            self.addr = Addr::new(0, node.max(1));
            self.sign_record(cx);
        }
    }
}
