//! Owns what waits for the disk before it leaves, and the letters, which keep their order for each recipient.

use super::{Context, Departure, Directory, Effect};
use crate::control::InboxNumber;
use crate::identity::{IdentityKey, StaticKey};
use crate::path::PathAddr;
use crate::time::Instant;
use crate::trust::join::is_join;
use crate::trust::{LetterNumber, Source, TrustError, TrustVersion};
use crate::wire::LocalIndex;
use alloc::vec::Vec;

/// Most departures that wait for the disk, beside letters. Source: own choice; those beyond are lost, and made up for.
pub(super) const HELD_MAX: usize = 1024;

impl Directory {
    /// The trust book with this version is on disk: what waited for it leaves.
    pub(crate) fn trust_saved(&mut self, now: Instant, version: TrustVersion) {
        debug_assert!(version <= self.trust.version(), "no book with {version} has been there to be saved");
        self.saved = self.saved.max(version);
        while self.held.front().is_some_and(|(version, _)| *version <= self.saved) {
            if let Some((_, departure)) = self.held.pop_front() {
                self.depart(now, departure);
            }
        }
    }

    pub(crate) fn trust_is_saved(&self) -> bool {
        self.trust.version() <= self.saved
    }

    /// True while the answer of a KEM run waits for the disk: until it leaves, the peer's streams wait as well.
    pub(crate) fn has_peer_waiting(&self) -> bool {
        self.held.iter().any(|(_, departure)| matches!(departure, Departure::Kem(..)))
    }

    /// Takes what [`Effect::Farewell`] asked for.
    pub(crate) fn hold_farewell(&mut self, now: Instant, to: PathAddr, datagram: Vec<u8>) {
        self.depart_when_saved(now, Departure::Datagram(to, datagram));
    }

    /// Keeps the KEM secret of this node and a peer; once it is on disk, the answer that it comes from leaves.
    pub(crate) fn set_kem(&mut self, now: Instant, key: &IdentityKey, secret: &[u8; 32], answer: Option<LocalIndex>) {
        self.trust.set_kem(key, secret);
        answer.into_iter().for_each(|index| self.depart_when_saved(now, Departure::Kem(*key, index)));
    }

    /// Lets something leave once the book as it is now is on disk, which may be so already. A node that leaves for good keeps no book, and
    /// may end before that is saved.
    pub(super) fn depart_when_saved(&mut self, now: Instant, departure: Departure) {
        let version = self.trust.version();
        debug_assert!(self.held.back().is_none_or(|(last, _)| *last <= version), "versions only rise");
        if self.trust_is_saved() || self.has_left {
            self.depart(now, departure);
        } else if self.held.len() < HELD_MAX || matches!(departure, Departure::Letter(_)) {
            self.held.push_back((version, departure));
        }
        // A letter of the mailbox that is not said to be taken comes again; a farewell only hastens a letter, and a greeting the
        // first stream.
    }

    pub(super) fn depart(&mut self, now: Instant, departure: Departure) {
        match departure {
            Departure::Letter(_) => self.tend(now),
            Departure::Taken(number) => {
                self.duties.letter_taken(number);
                self.tend(now);
            }
            Departure::Datagram(to, datagram) => self.effects.push_back(Effect::Send(to, datagram)),
            Departure::Kem(to, index) => self.effects.push_back(Effect::KemSaved(to, index)),
            Departure::Group(id, message) => self.effects.push_back(Effect::Group(id, message)),
            Departure::Greeting(key) => self.effects.push_back(Effect::Greet(key)),
            Departure::Direct(to, message) => self.effects.push_back(Effect::Tell(to, message)),
        }
    }

    /// Forgets which letters were taken: the rendezvous will deliver them again, perhaps under other numbers.
    pub(super) fn forget_taken(&mut self) {
        self.held.retain(|(_, departure)| !matches!(departure, Departure::Taken(_)));
        self.duties.forget_taken();
    }

    /// Without room for the letter that tells the other side, a command must change nothing.
    pub(super) fn check_room_for_letter(&self) -> Result<(), TrustError> {
        if self.trust.has_room_for_letter() { Ok(()) } else { Err(TrustError::Full) }
    }

    /// Seals a message and keeps it for the mailbox of its recipient. A revocation for which there is no room is only told
    /// directly.
    pub(super) fn write_letter(
        &mut self,
        cx: &mut Context<'_>,
        to: IdentityKey,
        key: StaticKey,
        message: &[u8],
    ) -> Option<LetterNumber> {
        let sealed = key.seal(message, &mut cx.entropy.generator());
        let number = self.trust.add_letter(to, sealed)?;
        self.depart_when_saved(cx.now, Departure::Letter(number));
        Some(number)
    }

    pub(super) fn is_held(&self, number: LetterNumber) -> bool {
        self.held.iter().any(|(_, departure)| matches!(departure, Departure::Letter(held) if *held == number))
    }

    /// Takes a letter out of our mailbox, with the network from which it was posted.
    pub(crate) fn handle_letter(
        &mut self,
        cx: &mut Context<'_>,
        (number, source): (InboxNumber, Option<Source>),
        sealed: &[u8],
    ) {
        // One that is sealed to another key is unreadable for ever.
        let opened = cx.identity.open_sealed(sealed);
        let others = opened.as_ref().filter(|message| !self.handle_meet(cx, message));
        let outcome = others.map(|message| self.receive(cx, message, source));
        if opened.is_none() && is_join(sealed) {
            self.handle_join_letter(cx, sealed);
        }
        // A letter without effect may be the copy of one with an effect that is not on disk yet.
        self.depart_when_saved(cx.now, Departure::Taken(number));
        outcome.into_iter().for_each(|outcome| self.tell(outcome));
    }
}
