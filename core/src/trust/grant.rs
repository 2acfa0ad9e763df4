//! Owns changes of grants between nodes that trust each other, and of what they know of each other's.
//!
//! ```text
//!   A: wish (asks for ports) ──────────▶ B: waits in the pin of A ── grant, approve, decline ──▶ B: pin of A
//!   A: pin of B ◀──────────────── statement: all that A may reach, and B's newest record
//! ```
//! A **statement** says all that its recipient may reach, so that the newest one is enough, whatever was lost: it is sent
//! after every change, and again whenever a tunnel comes up. Its epoch is that of the grant, and its order with wishes,
//! requests and revocations does not matter: each kind has a mark of its own in the pin. A mark begins with the epoch of the
//! message that made the pin, so that what was said before the last revocation is void.

use super::message::{Kind, Message, NOTE_LEN_MAX};
use super::pin::{Asked, Pin, Regrant, Wish};
use super::ports::Ports;
use super::quota::Quota;
use super::{Discarded, Me, Outcome, REQUEST_LIFETIME_S, TrustBook, TrustError};
use crate::hash;
use crate::identity::{IdentityKey, NodeRecord};
use crate::rng::Rng;
use alloc::boxed::Box;
use alloc::vec::Vec;

/// The peers with grants that have ended.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Ended {
    /// Those that may reach less of this node.
    pub(crate) ours: Vec<IdentityKey>,
    /// Those of which this node may reach less.
    pub(crate) theirs: Vec<IdentityKey>,
}

impl TrustBook {
    // Getters.

    /// Requests and wishes that wait for the owner.
    pub fn waiting(&self) -> usize {
        self.pending.len() + self.pins.values().filter(|pin| pin.wish.is_some()).count()
    }

    /// When the next pin or temporary grant ends. Unit: seconds since 1970.
    pub fn next_end(&self) -> Option<u64> {
        let of =
            |pin: &Pin| pin.temporary.iter().chain(&pin.granted_ends).map(|(at, _)| *at).chain(pin.not_after).min();
        self.pins.values().filter_map(of).min()
    }

    // Verbs.

    /// Changes what a peer may reach; returns the statement that tells the peer.
    ///
    /// # Errors
    /// `Unknown` (no such peer, or it has asked for nothing), `NotGranted` (nothing to withdraw), `Full` (more ranges of
    /// ports, or more ends of temporary grants, than a pin has).
    pub fn regrant(
        &mut self,
        me: &Me<'_>,
        key: &IdentityKey,
        change: &Regrant,
        rng: &mut Rng,
    ) -> Result<Vec<u8>, TrustError> {
        let pin = self.pins.get(key).ok_or(TrustError::Unknown)?;
        let (is_answer, note) = match change {
            Regrant::Approve(..) => (true, ""),
            Regrant::Decline(note) => (true, note.as_str()),
            _ => (false, ""),
        };
        if is_answer && pin.wish.is_none() {
            return Err(TrustError::Unknown);
        }
        let mut next = pin.clone();
        apply(&mut next, change)?;
        let all = next.reach();
        if let Some(wish) = next.wish.take_if(|wish| is_answer || all.covers(&wish.ports)) {
            next.marks.answered = wish.hash;
        }
        next.marks.stated = self.next_epoch(me.now_s);
        self.pins.insert(*key, next);
        self.changed();
        self.state(me, key, note, rng).ok_or(TrustError::Unknown)
    }

    /// Changes how much of this node a peer may use: the values of `quota`, and no others; `None`: back to the defaults. The
    /// peer is not told.
    ///
    /// # Errors
    /// `Unknown` (no such peer).
    pub fn set_quota(&mut self, key: &IdentityKey, quota: Option<Quota>) -> Result<(), TrustError> {
        let pin = self.pins.get_mut(key).ok_or(TrustError::Unknown)?;
        pin.quota = quota.map(|quota| Box::new(quota.or(pin.quota())));
        self.changed();
        Ok(())
    }

    /// Asks a peer for ports of its node; returns the request to send.
    ///
    /// # Errors
    /// `Unknown`, `NoteTooLong`, `AlreadyTrusted` when the peer has said that this node may reach them all.
    pub fn wish(
        &mut self,
        me: &Me<'_>,
        key: &IdentityKey,
        (ports, note): (&Ports, &str),
        rng: &mut Rng,
    ) -> Result<Vec<u8>, TrustError> {
        let pin = self.pins.get(key).ok_or(TrustError::Unknown)?;
        if pin.granted.as_ref().is_some_and(|granted| granted.covers(ports)) {
            return Err(TrustError::AlreadyTrusted);
        }
        if note.len() > NOTE_LEN_MAX {
            return Err(TrustError::NoteTooLong);
        }
        let message = Message { ports: ports.clone(), ..self.message(me, Kind::Wish, *key, [0; 32], note, rng) };
        let bytes = message.emit(me.identity);
        if let Some(pin) = self.pins.get_mut(key) {
            pin.asked = Some(Box::new(Asked { ports: ports.clone(), asked_at: me.now_s, message: bytes.clone() }));
        }
        self.changed();
        Ok(bytes)
    }

    /// What a peer is told when a tunnel with it comes up: the statement of its grant, and our wish if there is one.
    pub(crate) fn standing(&mut self, me: &Me<'_>, key: &IdentityKey, rng: &mut Rng) -> Vec<Vec<u8>> {
        if self.pins.get(key).is_some_and(|pin| pin.marks.stated == 0) {
            let epoch = self.next_epoch(me.now_s);
            if let Some(pin) = self.pins.get_mut(key) {
                pin.marks.stated = epoch; // a pin of a book from before there were statements
            }
            self.changed();
        }
        let wish = self.pins.get(key).and_then(|pin| pin.asked.as_ref()).map(|asked| asked.message.clone());
        self.state(me, key, "", rng).into_iter().chain(wish).collect()
    }

    /// Removes temporary grants that have ended, ours and those of peers, and wishes that are too old.
    pub(crate) fn expire_grants(&mut self, me: &Me<'_>) -> Ended {
        let (mut ended, mut is_changed) = (Ended::default(), false);
        let epoch = me.now_s.saturating_mul(1000).max(self.own_epoch + 1);
        for (key, pin) in &mut self.pins {
            let before = pin.temporary.len();
            pin.temporary.retain(|(at, _)| *at > me.now_s);
            if pin.temporary.len() < before {
                pin.marks.stated = epoch;
                ended.ours.push(*key);
            }
            let (over, left): (Vec<_>, Vec<_>) = pin.granted_ends.drain(..).partition(|(at, _)| *at <= me.now_s);
            pin.granted_ends = left;
            if let Some(granted) = pin.granted.as_mut().filter(|_| !over.is_empty()) {
                for (_, ports) in &over {
                    // Too many ranges: the peer's own statement says the same.
                    *granted = granted.without(ports).unwrap_or_else(|| granted.clone());
                }
                ended.theirs.push(*key);
            }
            let is_old = |since: u64| since.saturating_add(REQUEST_LIFETIME_S) <= me.earliest_s();
            is_changed |= pin.wish.take_if(|wish| is_old(wish.received_at)).is_some();
            is_changed |= pin.asked.take_if(|asked| is_old(asked.asked_at)).is_some();
        }
        if is_changed || !ended.ours.is_empty() || !ended.theirs.is_empty() {
            self.own_epoch = epoch;
            self.changed();
        }
        ended
    }

    // Input.

    pub(super) fn receive_wish(&mut self, me: &Me<'_>, message: &Message, bytes: &[u8]) -> Outcome {
        let Some(pin) = self.pins.get_mut(&message.from) else { return Outcome::Discarded(Discarded::Unsolicited) };
        if message.epoch <= pin.marks.wished {
            return Outcome::Discarded(Discarded::Replayed);
        }
        if message.ports.is_empty() {
            pin.marks.wished = message.epoch;
            let is_taken_back = pin.wish.take().is_some();
            self.changed();
            return match is_taken_back {
                true => Outcome::Cancelled(message.from),
                false => Outcome::Discarded(Discarded::Unsolicited),
            };
        }
        if pin.reach().covers(&message.ports) {
            return Outcome::Discarded(Discarded::AlreadyTrusted);
        }
        pin.marks.wished = message.epoch;
        let (ports, note) = (message.ports.clone(), message.note.clone());
        pin.wish = Some(Box::new(Wish { ports, note, received_at: me.now_s, hash: hash::blake2s(&[bytes]) }));
        self.changed();
        Outcome::Wished(message.from)
    }

    pub(super) fn receive_statement(&mut self, me: &Me<'_>, message: &Message) -> Outcome {
        let ends = message.temporary.iter().map(|(at, ports)| (me.heard(*at, message.issued), ports.clone()));
        let ends: Vec<_> = ends.collect();
        // A sender with too many ranges refuses its own grant.
        let join = |all: Ports, (_, ports): &(u64, Ports)| all.with(ports).unwrap_or(all);
        let said = ends.iter().fold(message.ports.clone(), join);
        let Some(pin) = self.pins.get_mut(&message.from) else { return Outcome::Discarded(Discarded::Unsolicited) };
        let is_newer = message.epoch > pin.marks.heard;
        let answered = pin.asked.take_if(|asked| {
            hash::blake2s(&[&asked.message]) == message.in_reply_to || (is_newer && said.covers(&asked.ports))
        });
        let mut is_news = false;
        if is_newer {
            pin.marks.heard = message.epoch;
            is_news = pin.granted.as_ref() != Some(&said);
            (pin.granted, pin.granted_ends) = (Some(said), ends);
        }
        let is_declined = answered
            .as_ref()
            .is_some_and(|asked| !is_news && !pin.granted.as_ref().is_some_and(|granted| granted.covers(&asked.ports)));
        if is_newer || answered.is_some() {
            self.changed();
        }
        // The message's signature covers its record.
        let record = NodeRecord::parse_unverified(&message.record).ok().filter(|r| r.identity == message.from);
        if let Some(renamed) = record.and_then(|record| self.refresh(&record)) {
            return renamed;
        }
        match (is_declined, is_news || answered.is_some()) {
            (true, _) => Outcome::Declined(message.from),
            (false, true) => Outcome::Granted(message.from),
            (false, false) => Outcome::Discarded(Discarded::Replayed),
        }
    }

    // Helpers.

    /// The statement of what a peer may reach; `None` for a key without a pin.
    fn state(&mut self, me: &Me<'_>, key: &IdentityKey, note: &str, rng: &mut Rng) -> Option<Vec<u8>> {
        let pin = self.pins.get(key)?;
        let (ports, epoch, answered) = (pin.lasting(), pin.marks.stated, pin.marks.answered);
        let temporary = pin.temporary.iter().map(|(at, ports)| (me.told(*at), ports.clone())).collect();
        debug_assert!(epoch > 0, "a grant that is told has an epoch");
        let message = self.message(me, Kind::Statement, *key, answered, note, rng);
        Some(Message { ports, temporary, epoch, ..message }.emit(me.identity))
    }
}

/// Applies a decision to the ports of a pin.
fn apply(pin: &mut Pin, change: &Regrant) -> Result<(), TrustError> {
    let (ports, end) = match change {
        Regrant::Grant(ports, end) | Regrant::Approve(ports, end) => (ports, Some(*end)),
        Regrant::Withdraw(ports) => (ports, None),
        Regrant::Only(ports) => {
            (pin.ports, pin.temporary) = (ports.clone(), Vec::new());
            return Ok(());
        }
        Regrant::Decline(_) => return Ok(()),
    };
    let before = pin.reach();
    let cut = |set: &Ports| set.without(ports).ok_or(TrustError::Full);
    pin.ports = cut(&pin.ports)?;
    for (_, temporary) in &mut pin.temporary {
        *temporary = cut(temporary)?;
    }
    match end {
        Some(None) => pin.ports = pin.ports.with(ports).ok_or(TrustError::Full)?,
        Some(Some(at)) => match pin.temporary.iter_mut().find(|(end, _)| *end == at) {
            Some((_, temporary)) => *temporary = temporary.with(ports).ok_or(TrustError::Full)?,
            None => pin.temporary.push((at, ports.clone())),
        },
        None => {}
    }
    pin.temporary.retain(|(_, temporary)| !temporary.is_empty());
    // A statement has room for as many ranges as one set has.
    let count = pin.temporary.iter().fold(pin.ports.count(), |count, (_, temporary)| count + temporary.count());
    if pin.temporary.len() > Pin::TEMPORARY_MAX || count > Ports::LIST_MAX {
        return Err(TrustError::Full);
    }
    let is_withdrawal = end.is_none();
    if is_withdrawal && pin.reach() == before { Err(TrustError::NotGranted) } else { Ok(()) }
}
