//! Owns the verbs of groups, what members say to each other, and what follows for the peers.

use super::{Context, Departure, Directory, Effect};
use crate::group::{GroupId, Role, Row, Talk};
use crate::identity::IdentityKey;
use crate::rng::Rng;
use crate::trust::meet::is_meet;
use crate::trust::{GroupError, Invite, Joined, Me, Outcome, Ports, Settled, TrustBook};
use alloc::vec::Vec;

impl Directory {
    pub(crate) fn create_group(
        &mut self,
        cx: &mut Context<'_>,
        name: &str,
        ports: Ports,
    ) -> Result<GroupId, GroupError> {
        self.take_address(cx);
        self.with_trust(cx, |book, me, rng| book.create_group(me, name, ports, rng))
    }

    pub(crate) fn group_invite(
        &mut self,
        cx: &mut Context<'_>,
        id: &GroupId,
        terms: (u16, u64),
    ) -> Result<Invite, GroupError> {
        self.with_trust(cx, |book, me, rng| book.group_invite(me, id, terms, rng))
    }

    pub(crate) fn allow_group(
        &mut self,
        cx: &mut Context<'_>,
        id: &GroupId,
        role: Role,
        ports: Ports,
    ) -> Result<(), GroupError> {
        self.trust.allow_group(id, role, ports)?;
        self.settle(cx);
        Ok(())
    }

    /// Changes the roster of a group, and tells all its members that have a tunnel.
    pub(crate) fn change_group(
        &mut self,
        cx: &mut Context<'_>,
        id: &GroupId,
        change: impl FnOnce(&mut TrustBook, &Me<'_>, &mut Rng) -> Result<Vec<Row>, GroupError>,
    ) -> Result<(), GroupError> {
        let rows = self.with_trust(cx, change)?;
        self.tell_members(cx, *id, rows);
        self.settle(cx);
        Ok(())
    }

    /// Leaves a group: the members with a tunnel are told before it goes.
    pub(crate) fn leave_group(&mut self, cx: &mut Context<'_>, id: &GroupId) -> Result<(), GroupError> {
        let is_of = |grants: &[crate::trust::GroupGrant]| grants.iter().any(|grant| grant.group == *id);
        let members: Vec<_> = self.trust.pins().filter(|pin| is_of(&pin.groups)).map(|pin| pin.identity).collect();
        let rows = self.with_trust(cx, |book, me, _| book.leave_group(me, id))?;
        let talk = Talk::Rows(*id, rows, None).emit();
        self.effects.extend(members.into_iter().map(|key| Effect::Talk(key, talk.clone())));
        self.settle(cx);
        Ok(())
    }

    /// Asks a member whom this node does not know yet.
    pub(crate) fn meet(&mut self, cx: &mut Context<'_>, id: &GroupId, key: &IdentityKey) -> Result<(), GroupError> {
        self.check_room_for_letter().map_err(|_| GroupError::Full)?;
        let (static_key, message) = self.with_trust(cx, |book, me, rng| book.meet(me, id, key, rng))?;
        self.write_letter(cx, *key, static_key, &message);
        Ok(())
    }

    /// Answers the question of a member that has a pin from before; false for another request.
    pub(super) fn meet_anew(&mut self, cx: &mut Context<'_>, key: &IdentityKey) -> bool {
        if self.check_room_for_letter().is_err() {
            return false;
        }
        let asked = self.with_trust(cx, |book, me, rng| book.meet_anew(me, key, rng));
        let Some((static_key, message)) = asked else { return false };
        self.write_letter(cx, *key, static_key, &message);
        true
    }

    /// Takes an opened letter that asks as a member; false for another one.
    pub(super) fn handle_meet(&mut self, cx: &mut Context<'_>, message: &[u8]) -> bool {
        if !is_meet(message) {
            return false;
        }
        let Joined { outcome, answer } = self.with_trust(cx, |book, me, rng| book.receive_meet(me, message, rng));
        if let Some((to, key, message)) = answer {
            self.write_letter(cx, to, key, &message);
        }
        self.tell_joined(cx, outcome);
        self.settle(cx);
        true
    }

    /// Takes what a trusted peer says of groups.
    pub(crate) fn handle_talk(&mut self, cx: &mut Context<'_>, from: &IdentityKey, bytes: &[u8]) {
        let (answers, news) = self.with_trust(cx, |book, me, _| book.receive_talk(me, from, bytes));
        self.effects.extend(answers.into_iter().map(|answer| Effect::Talk(*from, answer)));
        if news.is_empty() {
            return;
        }
        for (id, rows) in news {
            self.tell_members(cx, id, rows);
        }
        self.settle(cx);
    }

    /// What a peer, with which a tunnel has come up, is told of the groups that both are in.
    pub(super) fn greet_member(&mut self, cx: &mut Context<'_>, key: &IdentityKey) {
        let hello = self.with_trust(cx, |book, me, _| book.hello(me, key));
        self.effects.extend(hello.map(|hello| Effect::Talk(*key, hello)));
    }

    /// Tells the members with a tunnel of a node that may be a new one among them.
    pub(super) fn announce_member(&mut self, cx: &mut Context<'_>, key: &IdentityKey) {
        for (id, rows) in self.with_trust(cx, |book, me, _| book.proofs(me, key)) {
            self.tell_members(cx, id, rows);
        }
    }

    pub(super) fn tell_members(&mut self, cx: &Context<'_>, id: GroupId, rows: Vec<Row>) {
        if !rows.is_empty() {
            for message in Talk::all(id, rows) {
                self.depart_when_saved(cx.now, Departure::Group(id, message.emit()));
            }
            self.effects.push_back(Effect::Trust(Outcome::GroupChanged(id)));
        }
    }

    /// Makes the pins follow the groups.
    pub(super) fn settle(&mut self, cx: &mut Context<'_>) {
        self.tend_enrolments(cx);
        let Settled { ended, regranted } = self.with_trust(cx, |book, me, rng| book.settle_groups(me, rng));
        for (pin, message) in ended {
            self.effects.push_back(Effect::Farewell(pin.identity, message));
            self.pins_changed(cx.now, &pin.identity);
            self.tell(Outcome::Revoked(pin.identity));
        }
        for key in regranted {
            self.effects.push_back(Effect::Regranted(key));
            let standing = self.with_trust(cx, |book, me, rng| book.standing(me, &key, rng));
            standing.into_iter().take(1).for_each(|statement| {
                self.depart_when_saved(cx.now, Departure::Direct(key, statement));
            });
        }
    }

    /// Does what time alone asks for: memberships that end, and the own one that is renewed.
    pub(super) fn tend_groups(&mut self, cx: &mut Context<'_>) {
        let common_s = self.me(cx, &[]).common_s;
        if self.trust.groups_are_due(common_s) {
            self.settle(cx);
        }
    }
}
