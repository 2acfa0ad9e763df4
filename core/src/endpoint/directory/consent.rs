//! Owns the verbs of trust and of grants, and the messages of other nodes that change either.
//!
//! What a verb of grants tells leaves over the tunnel, if there is one, and as a letter, since a tunnel may end before its
//! last message has arrived.

use super::{Context, Departure, Directory, Effect, Purpose};
use crate::identity::{IdentityKey, NodeRecord, StaticKey};
use crate::rng::Rng;
use crate::time::Instant;
use crate::trust::{
    Discarded, LetterNumber, Me, Outcome, PINS_MAX, Pin, Ports, Quota, Regrant, Source, Terms, TrustBook, TrustError,
    Undo,
};
use alloc::vec::Vec;
use core::net::SocketAddr;

impl Directory {
    pub(crate) fn request_trust(
        &mut self,
        cx: &mut Context<'_>,
        record: &NodeRecord,
        terms: &Terms,
    ) -> Result<(), TrustError> {
        if self.trust.pending().any(|p| p.record.identity == record.identity) {
            return self.approve(cx, &record.identity, terms); // both owners have said yes
        }
        self.check_room_for_letter()?;
        let message = self.with_trust(cx, |book, me, rng| book.request(me, record, terms, rng))?;
        self.write_letter(cx, record.identity, record.static_key, &message);
        Ok(())
    }

    pub(crate) fn approve(&mut self, cx: &mut Context<'_>, key: &IdentityKey, terms: &Terms) -> Result<(), TrustError> {
        self.check_room_for_letter()?;
        let static_key = self.pending_static_key(key)?;
        let message = self.with_trust(cx, |book, me, rng| book.approve(me, key, terms, rng))?;
        self.pins_changed(cx.now, key);
        self.write_letter(cx, *key, static_key, &message);
        Ok(())
    }

    pub(crate) fn reject(&mut self, cx: &mut Context<'_>, key: &IdentityKey, note: &str) -> Result<(), TrustError> {
        self.check_room_for_letter()?;
        let static_key = self.pending_static_key(key)?;
        let message = self.with_trust(cx, |book, me, rng| book.reject(me, key, note, rng))?;
        self.write_letter(cx, *key, static_key, &message);
        Ok(())
    }

    pub(crate) fn revoke(&mut self, cx: &mut Context<'_>, key: &IdentityKey) -> Result<Pin, TrustError> {
        let (pin, message) = self.with_trust(cx, |book, me, rng| book.revoke(me, key, rng))?;
        self.effects.push_back(Effect::Farewell(*key, message.clone()));
        self.pins_changed(cx.now, key);
        self.write_letter(cx, *key, pin.static_key, &message);
        Ok(pin)
    }

    /// Takes a decision back that is not on disk.
    pub(crate) fn undo(&mut self, cx: &mut Context<'_>, undo: Undo) {
        let key = undo.key();
        self.trust.undo(undo);
        self.effects.push_back(Effect::Regranted(key));
        self.pins_changed(cx.now, &key);
    }

    /// Takes back what a node was asked for.
    pub(crate) fn cancel(&mut self, cx: &mut Context<'_>, key: &IdentityKey) -> Result<(), TrustError> {
        self.check_room_for_letter()?;
        let (static_key, message) = self.with_trust(cx, |book, me, rng| book.cancel(me, key, rng))?;
        self.write_letter(cx, *key, static_key, &message);
        if self.trust.pin(key).is_some() {
            self.depart_when_saved(cx.now, Departure::Direct(*key, message));
        }
        Ok(())
    }

    /// Ends expired trust and expired grants, and tells the peers; true when there was any.
    pub(crate) fn expire_trust(&mut self, cx: &mut Context<'_>) -> bool {
        let over = self.with_trust(cx, |book, me, rng| book.expire_pins(me, rng));
        let is_any = !over.is_empty();
        let before = self.trust.version();
        let farewells = over.iter().map(|(pin, message)| Effect::Farewell(pin.identity, message.clone()));
        self.effects.extend(farewells);
        for (pin, message) in over {
            self.pins_changed(cx.now, &pin.identity);
            self.write_letter(cx, pin.identity, pin.static_key, &message);
        }
        self.settle(cx);
        let is_any = is_any || self.trust.version() != before;
        let ended = self.with_trust(cx, |book, me, _| book.expire_grants(me));
        for key in &ended.ours {
            self.effects.push_back(Effect::Regranted(*key));
            let standing = self.with_trust(cx, |book, me, rng| book.standing(me, key, rng));
            standing.into_iter().take(1).for_each(|statement| self.tell_statement(cx, key, statement));
        }
        let is_any = is_any || !ended.ours.is_empty() || !ended.theirs.is_empty();
        self.effects.extend(ended.theirs.into_iter().map(|key| Effect::Trust(Outcome::Granted(key))));
        is_any
    }

    /// A trusted peer does not answer, or answers with another secret: asks by letter whether it still has ours. Nothing is
    /// asked twice.
    pub(crate) fn doubt(&mut self, cx: &mut Context<'_>, key: &IdentityKey) {
        if !self.is_ready() || !self.trust.has_room_for_letter() {
            return;
        }
        if let Some(message) = self.with_trust(cx, |book, me, rng| book.ask_to_compare(me, key, rng)) {
            self.write_to_peer(cx, key, &message);
        }
    }

    /// Changes what a peer may reach.
    pub(crate) fn regrant(
        &mut self,
        cx: &mut Context<'_>,
        key: &IdentityKey,
        change: &Regrant,
    ) -> Result<(), TrustError> {
        let message = self.with_trust(cx, |book, me, rng| book.regrant(me, key, change, rng))?;
        self.effects.push_back(Effect::Regranted(*key));
        self.tell_statement(cx, key, message);
        Ok(())
    }

    /// Changes how much of this node a peer may use.
    pub(crate) fn set_quota(&mut self, key: &IdentityKey, quota: Option<Quota>) -> Result<(), TrustError> {
        self.trust.set_quota(key, quota)?;
        self.effects.push_back(Effect::Regranted(*key));
        Ok(())
    }

    /// Asks a peer for ports of its node.
    pub(crate) fn wish(
        &mut self,
        cx: &mut Context<'_>,
        key: &IdentityKey,
        (ports, note): (&Ports, &str),
    ) -> Result<(), TrustError> {
        self.check_room_for_letter()?;
        let message = self.with_trust(cx, |book, me, rng| book.wish(me, key, (ports, note), rng))?;
        self.tell_peer(cx, key, message);
        Ok(())
    }

    /// Tells a peer, with which a tunnel has come up, all that it may reach, and what this node asks of it.
    pub(crate) fn on_peer_up(&mut self, cx: &mut Context<'_>, key: &IdentityKey) {
        self.trust.note_agreement(key);
        for message in self.with_trust(cx, |book, me, rng| book.standing(me, key, rng)) {
            self.depart_when_saved(cx.now, Departure::Direct(*key, message));
        }
        self.greet_member(cx, key);
    }

    pub(crate) fn note_requests_seen(&mut self) {
        self.trust.note_seen();
    }

    /// Takes a record of a node, which may be a trusted peer with another name.
    pub(crate) fn refresh(&mut self, record: &NodeRecord) {
        if let Some(outcome) = self.trust.refresh(record) {
            self.effects.push_back(Effect::Trust(outcome));
        }
    }

    /// Remembers where a peer was reached.
    pub(crate) fn note_endpoint(&mut self, key: &IdentityKey, addr: SocketAddr) {
        self.trust.note_endpoint(key, addr);
    }

    /// True, once, when a peer was reached at another place than before.
    pub(crate) const fn take_new_places(&mut self) -> bool {
        self.trust.take_new_places()
    }

    /// Takes a trust message from the peer itself.
    pub(crate) fn handle_trust(&mut self, cx: &mut Context<'_>, message: &[u8]) {
        let outcome = self.receive(cx, message, None);
        self.tell(outcome);
    }

    pub(super) fn receive(&mut self, cx: &mut Context<'_>, message: &[u8], source: Option<Source>) -> Outcome {
        let outcome = self.with_trust(cx, |book, me, _| book.receive(me, message, source));
        match &outcome {
            Outcome::Discarded(_) => {}
            Outcome::Pending(key) if self.meet_anew(cx, key) => return Outcome::Discarded(Discarded::AlreadyTrusted),
            Outcome::Pinned(key) => {
                self.pins_changed(cx.now, key);
                // Both have approved, and this side is the last to know.
                self.depart_when_saved(cx.now, Departure::Greeting(*key));
            }
            Outcome::Rejected(key) | Outcome::Revoked(key) => self.pins_changed(cx.now, key),
            Outcome::JoinRefused(..) => self.hasten_enrolling(cx.now),
            // These change no pin.
            _ => {}
        }
        if matches!(outcome, Outcome::Pinned(_)) {
            self.settle(cx);
        }
        outcome
    }

    pub(super) fn tell(&mut self, outcome: Outcome) {
        if !matches!(outcome, Outcome::Discarded(_)) {
            self.effects.push_back(Effect::Trust(outcome));
        }
    }

    fn write_to_peer(&mut self, cx: &mut Context<'_>, key: &IdentityKey, message: &[u8]) {
        if let Some(static_key) = self.trust.pin(key).map(|pin| pin.static_key) {
            self.write_letter(cx, *key, static_key, message);
        }
    }

    /// Tells a peer a new statement, and no older one besides. Without room for the letter the peer learns it when a tunnel
    /// comes up.
    pub(super) fn tell_statement(&mut self, cx: &mut Context<'_>, key: &IdentityKey, message: Vec<u8>) {
        if let Some(i) = self.statements.iter().position(|(to, _)| to == key) {
            let (_, number) = self.statements.swap_remove(i);
            let is_posted = self.calls.values().any(|(_, purpose)| *purpose == Purpose::Letter(number));
            if !is_posted {
                self.trust.remove_letter(number);
            }
        }
        if let Some(number) = self.tell_peer(cx, key, message) {
            self.statements.push((*key, number));
            debug_assert!(self.statements.len() <= PINS_MAX, "one for each peer");
        }
    }

    /// Gives the number of the letter, if there is room for one.
    pub(super) fn tell_peer(
        &mut self,
        cx: &mut Context<'_>,
        key: &IdentityKey,
        message: Vec<u8>,
    ) -> Option<LetterNumber> {
        let static_key = self.trust.pin(key)?.static_key;
        let number = self.write_letter(cx, *key, static_key, &message);
        self.depart_when_saved(cx.now, Departure::Direct(*key, message));
        number
    }

    pub(super) fn pending_static_key(&self, key: &IdentityKey) -> Result<StaticKey, TrustError> {
        let request = self.trust.pending().find(|p| p.record.identity == *key);
        request.map(|p| p.record.static_key).ok_or(TrustError::Unknown)
    }

    pub(super) fn with_trust<R>(
        &mut self,
        cx: &mut Context<'_>,
        f: impl FnOnce(&mut TrustBook, &Me<'_>, &mut Rng) -> R,
    ) -> R {
        let (record, mut secrets) = (self.record.clone(), cx.entropy.generator());
        let me = self.me(cx, &record);
        self.trust.count_time(cx.now.as_micros() / 1_000_000, me.now_s);
        let result = f(&mut self.trust, &me, &mut secrets);
        self.note_time(self.trust.own_epoch().saturating_mul(1000), cx.wall_us);
        result
    }

    /// The pin of `key` has come or gone: the rendezvous is told with all that changes in this turn.
    pub(super) fn pins_changed(&mut self, now: Instant, key: &IdentityKey) {
        self.effects.push_back(Effect::Peers);
        self.duties.grant_changed(*key);
        self.duties.look_at(now);
    }
}
