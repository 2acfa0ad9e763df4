//! Owns the verbs of invites.

use super::invites::{INVITE_LIFETIME_MAX_S, Invite, InviteState, InviteTerms, USES_MAX};
use super::{GroupError, Me, Ports, TrustBook, TrustError};
use crate::group::GroupId;
use crate::invite::{InviteId, InviteSecret};
use crate::rng::Rng;

impl TrustBook {
    // Getters.

    /// All invites of this node that are kept, oldest first, with their states.
    pub fn invites(&self) -> impl Iterator<Item = (&Invite, InviteState)> {
        self.invites.list.iter().map(|invite| (invite, self.invites.state(invite)))
    }

    // Verbs.

    /// Tells the clock of this run and the wall clock, by which invites grow old. While one is open, the book changes by that once an
    /// hour. Unit: seconds, and seconds since 1970.
    pub fn count_time(&mut self, uptime_s: u64, wall_s: u64) {
        if self.invites.count_time(uptime_s, wall_s) {
            self.changed();
        }
    }

    /// Makes an invite.
    ///
    /// # Errors
    /// `Full` ([`INVITES_MAX`](super::INVITES_MAX) are open), `OutOfRange` for terms that are none.
    pub fn invite(&mut self, me: &Me<'_>, terms: InviteTerms, rng: &mut Rng) -> Result<Invite, TrustError> {
        if !(1..=USES_MAX).contains(&terms.uses) || !(1..=INVITE_LIFETIME_MAX_S).contains(&terms.lifetime_s) {
            return Err(TrustError::OutOfRange);
        }
        if !self.invites.make_room() {
            return Err(TrustError::Full);
        }
        let is_free = |id: &InviteId| self.invites.list.iter().all(|invite| invite.id != *id);
        let id = core::iter::repeat_with(|| InviteId(rng.u32())).find(is_free).unwrap_or(InviteId(0));
        let invite = Invite {
            id,
            secret: InviteSecret::new(rng.bytes()),
            terms,
            made_at: me.now_s,
            used: 0,
            wrong: 0,
            group: None,
            is_withdrawn: false,
            made: self.invites.counted,
        };
        self.invites.list.push(invite.clone());
        self.changed();
        Ok(invite)
    }

    /// Makes an invite to a group of which this node is an admin.
    ///
    /// # Errors
    /// `Unknown`, `NotAnAdmin`, `Full`, `OutOfRange`.
    pub fn group_invite(
        &mut self,
        me: &Me<'_>,
        id: &GroupId,
        (uses, lifetime_s): (u16, u64),
        rng: &mut Rng,
    ) -> Result<Invite, GroupError> {
        let at = self.groups.position(id).ok_or(GroupError::Unknown)?;
        let judge = self.groups.list[at].roster.judge(self.group_time(me.common_s));
        if !judge.is_admin(&me.identity.public()) {
            return Err(GroupError::NotAnAdmin);
        }
        let terms = InviteTerms { ports: Ports::NONE, uses, lifetime_s };
        let invite = self.invite(me, terms, rng).map_err(|why| match why {
            TrustError::OutOfRange => GroupError::OutOfRange,
            _ => GroupError::Full,
        })?;
        let kept = self.invites.list.iter_mut().find(|kept| kept.id == invite.id);
        kept.into_iter().for_each(|kept| kept.group = Some(*id));
        Ok(Invite { group: Some(*id), ..invite })
    }

    /// Withdraws an invite. Nodes that have joined by it stay peers.
    ///
    /// # Errors
    /// `Unknown` when none with this number is open.
    pub fn withdraw_invite(&mut self, id: InviteId) -> Result<(), TrustError> {
        let at = self.invites().position(|(invite, state)| invite.id == id && state == InviteState::Open);
        self.invites.list[at.ok_or(TrustError::Unknown)?].is_withdrawn = true;
        self.changed();
        Ok(())
    }
}
