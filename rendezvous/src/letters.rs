//! Owns the letters that wait, and the names of those that were taken of late.

use crate::limits::Limits;
use pilot_core::codec::{Malformed, Put, Reader};
use pilot_core::control::{InboxNumber, LETTER_LEN_MAX, LetterId, Refusal};
use pilot_core::identity::IdentityKey;
use pilot_core::trust::Source;
use std::collections::{BTreeMap, VecDeque};

/// Names of taken letters that are remembered, and for how long: a sender that missed the answer posts again within a minute.
const TAKEN_MAX: usize = 4096;
const TAKEN_LASTS_S: u64 = 600;

#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Letter {
    pub(crate) to: IdentityKey,
    pub(crate) from: IdentityKey,
    pub(crate) id: LetterId,
    /// By the clock of the books. Unit: seconds since 1970.
    pub(crate) posted_s: u64,
    /// The network of the sender, as its recipient is told.
    pub(crate) source: Option<Source>,
    pub(crate) sealed: Vec<u8>,
}

/// What becomes of a letter that is posted.
pub(crate) enum Place {
    /// The letter is here, or has been taken already.
    Known,
    /// There is room under this number.
    New(InboxNumber),
}

/// All mailboxes.
#[derive(Default)]
pub(crate) struct Letters {
    waiting: BTreeMap<u64, Letter>,
    /// Numbers of the letters to each node, oldest first.
    mailboxes: BTreeMap<IdentityKey, Vec<u64>>,
    /// Unit: bytes.
    len: usize,
    next: u64,
    taken: VecDeque<(u64, IdentityKey, LetterId)>,
}

impl Letters {
    pub(crate) fn count(&self) -> usize {
        self.waiting.len()
    }

    /// All letters. Unit: bytes.
    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    /// Letters of the fullest mailbox. Looks at every mailbox.
    pub(crate) fn most_of_a_node(&self) -> usize {
        self.mailboxes.values().map(Vec::len).max().unwrap_or(0)
    }

    pub(crate) fn newest_s(&self) -> Option<u64> {
        self.waiting.values().map(|letter| letter.posted_s).max()
    }

    /// Rows of all tables, for tests that walk them back to zero.
    #[cfg(test)]
    pub(crate) fn rows(&self) -> usize {
        self.waiting.len() + self.mailboxes.len() + self.taken.len() + self.len
    }

    pub(crate) fn of(&self, to: &IdentityKey) -> impl Iterator<Item = (u64, &Letter)> {
        let numbers = self.mailboxes.get(to).into_iter().flatten();
        numbers.filter_map(|number| Some((*number, self.waiting.get(number)?)))
    }

    /// Finds a place for a letter; `is_granted` tells which senders the recipient has granted a relay.
    pub(crate) fn place(
        &self,
        limits: &Limits,
        letter: &Letter,
        is_granted: impl Fn(&IdentityKey) -> bool,
    ) -> Result<Place, Refusal> {
        let is_same = |(_, old): (u64, &Letter)| old.id == letter.id && old.from == letter.from;
        let was_taken = self.taken.iter().any(|(_, to, id)| *to == letter.to && *id == letter.id);
        if was_taken || self.of(&letter.to).any(is_same) {
            return Ok(Place::Known);
        }
        let all = self.of(&letter.to).count();
        let same = self.of(&letter.to).filter(|(_, old)| old.from == letter.from).count();
        let strangers = || self.of(&letter.to).filter(|(_, old)| !is_granted(&old.from));
        let is_near = |old: &Letter| letter.source.is_some() && old.source == letter.source;
        let is_crowded = || {
            strangers().count() >= limits.letters_per_node / 2
                || strangers().filter(|(_, old)| is_near(old)).count() >= limits.letters_per_source
        };
        let is_full = all >= limits.letters_per_node
            || same >= limits.letters_per_sender
            || self.len + letter.sealed.len() > limits.letters_len
            || (!is_granted(&letter.from) && is_crowded());
        if is_full { Err(Refusal::Full) } else { Ok(Place::New(InboxNumber(self.next))) }
    }

    /// Keeps a letter, which is on the disk.
    pub(crate) fn insert(&mut self, number: u64, letter: Letter) {
        self.next = self.next.max(number + 1);
        self.len += letter.sealed.len();
        self.mailboxes.entry(letter.to).or_default().push(number);
        let old = self.waiting.insert(number, letter);
        debug_assert!(old.is_none(), "each letter has a number of its own");
    }

    /// Forgets a letter that was taken or has become too old.
    pub(crate) fn remove(&mut self, number: u64, now_s: u64) {
        let Some(letter) = self.waiting.remove(&number) else { return };
        self.len -= letter.sealed.len();
        if let Some(numbers) = self.mailboxes.get_mut(&letter.to) {
            numbers.retain(|other| *other != number);
            if numbers.is_empty() {
                self.mailboxes.remove(&letter.to);
            }
        }
        if self.taken.len() >= TAKEN_MAX {
            self.taken.pop_front();
        }
        self.taken.push_back((now_s, letter.to, letter.id));
    }

    /// At most `max` letters that are too old, and forgets the names of letters that are not posted again.
    pub(crate) fn sweep(&mut self, limits: &Limits, now_s: u64, max: usize) -> Vec<u64> {
        while self.taken.front().is_some_and(|(at, ..)| at + TAKEN_LASTS_S <= now_s) {
            self.taken.pop_front();
        }
        let is_old = |letter: &Letter| letter.posted_s.saturating_add(limits.letter_age_s) <= now_s;
        // Numbers rise with time, so that the old ones come first.
        self.waiting.iter().take_while(|(_, letter)| is_old(letter)).take(max).map(|(number, _)| *number).collect()
    }
}

impl Letter {
    pub(crate) fn emit(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.put(&self.to.0);
        out.put(&self.from.0);
        out.put(&self.id.0);
        out.put_u64(self.posted_s);
        out.put_u64(Source::number(self.source));
        out.put_bytes(&self.sealed);
        out
    }

    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut r = Reader::new(bytes);
        let letter = Self {
            to: IdentityKey(r.array()?),
            from: IdentityKey(r.array()?),
            id: LetterId(r.array()?),
            posted_s: r.u64()?,
            source: Source::from_number(r.u64()?),
            sealed: r.bytes(LETTER_LEN_MAX)?.into(),
        };
        r.finish()?;
        Ok(letter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_taken_letters_have_a_maximum_and_are_forgotten() {
        let (mut letters, limits) = (Letters::default(), Limits::default());
        let letter = |n: u64| {
            let mut id = LetterId([0; 16]);
            id.0[..8].copy_from_slice(&n.to_le_bytes());
            Letter {
                to: IdentityKey([1; 32]),
                from: IdentityKey([2; 32]),
                id,
                posted_s: 0,
                source: None,
                sealed: vec![7],
            }
        };
        let is_known = |letters: &Letters, n| matches!(letters.place(&limits, &letter(n), |_| true), Ok(Place::Known));
        for n in 0..=TAKEN_MAX as u64 {
            letters.insert(n, letter(n));
            letters.remove(n, 5);
        }
        assert_eq!((letters.rows(), letters.taken.len()), (TAKEN_MAX, TAKEN_MAX));
        assert!(!is_known(&letters, 0) && is_known(&letters, 1), "the oldest name gave way");
        letters.sweep(&limits, 5 + TAKEN_LASTS_S - 1, 1);
        assert_eq!(letters.rows(), TAKEN_MAX);
        letters.sweep(&limits, 5 + TAKEN_LASTS_S, 1);
        assert_eq!(letters.rows(), 0);
    }
}
