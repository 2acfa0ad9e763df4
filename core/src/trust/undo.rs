//! Owns what takes a decision of the owner back that did not reach the disk.

use super::{LetterNumber, Outgoing, PendingRequest, Pin, TrustBook};
use crate::identity::IdentityKey;
use alloc::boxed::Box;
use alloc::vec::Vec;

/// The rows of one node before and after a decision that gives trust, asks for it, or grants more. Decisions that take trust
/// away are never undone.
#[derive(Clone, Debug)]
pub struct Undo {
    key: IdentityKey,
    before: Box<Rows>,
    after: Box<Rows>,
    last_letter: LetterNumber,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Rows {
    pin: Option<Pin>,
    pending: Option<PendingRequest>,
    outgoing: Option<Outgoing>,
}

impl Undo {
    /// The rows of a node before a decision.
    pub fn before(book: &TrustBook, key: &IdentityKey) -> Self {
        let before = Box::new(book.rows(key));
        Self { key: *key, after: before.clone(), before, last_letter: book.last_letter }
    }

    pub(crate) const fn key(&self) -> IdentityKey {
        self.key
    }

    /// The same, with the rows after the decision.
    #[must_use]
    pub fn after(mut self, book: &TrustBook) -> Self {
        *self.after = book.rows(&self.key);
        self
    }
}

impl TrustBook {
    fn rows(&self, key: &IdentityKey) -> Rows {
        let (pin, pending) = (self.pins.get(key).cloned(), self.pending.get(key).cloned());
        Rows { pin, pending, outgoing: self.outgoing.get(key).cloned() }
    }

    /// Takes a decision back, with the letters that tell of it and have not left. Each row that has changed since stays as it
    /// is: what another node has told, or the owner has decided, meanwhile.
    pub(crate) fn undo(&mut self, undo: Undo) {
        let Undo { key, before, after, last_letter } = undo;
        let now = self.rows(&key);
        if now.pin == after.pin {
            self.pins.remove(&key);
            match before.pin {
                Some(pin) => drop(self.pins.insert(key, pin)),
                None => self.claims.end(&key),
            }
        }
        if now.pending == after.pending {
            self.pending.remove(&key);
            before.pending.into_iter().for_each(|request| drop(self.pending.insert(key, request)));
        }
        if now.outgoing == after.outgoing {
            self.outgoing.remove(&key);
            before.outgoing.into_iter().for_each(|ours| drop(self.outgoing.insert(key, ours)));
        }
        let told: Vec<_> =
            self.letters.iter().filter(|(n, (to, _))| **n > last_letter && *to == key).map(|(n, _)| *n).collect();
        told.into_iter().for_each(|number| drop(self.letters.remove(&number)));
        self.changed();
    }
}
