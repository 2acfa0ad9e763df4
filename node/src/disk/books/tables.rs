//! Owns the tables of questions in memory, which follow from the rows of the books, and the rows of this node's own questions.

use crate::disk::job::{Asked, Done, Part};
use crate::mail::message::{Message, QuestionName, Tag, answer_id};
use pilot_core::codec::{Malformed, Put as _, Reader};
use pilot_core::identity::IdentityKey;
use pilot_store::{Batch, Key};
use std::collections::{BTreeMap, BTreeSet};

/// Questions of this node, under the number that they had in the outbox.
pub(super) const ASKED: u8 = 6;
/// Why questions of the inbox failed, under their number there.
pub(super) const FAILED: u8 = 7;

/// A question of a peer in the inbox.
pub(super) struct Open {
    pub(super) id: [u8; 16],
    pub(super) sender: IdentityKey,
    pub(super) deadline: u64,
    pub(super) has_failed: bool,
}

/// The tables of questions in memory, which follow from the rows.
#[derive(Default)]
pub(super) struct Questions {
    /// By the number in the inbox.
    pub(super) open: BTreeMap<u64, Open>,
    /// Deadlines and numbers of these.
    pub(super) deadlines: BTreeSet<(u64, u64)>,
    /// Questions of this node by their id.
    pub(super) asked: BTreeMap<[u8; 16], Asked>,
    /// Their answers by the number in the inbox.
    pub(super) answers: BTreeMap<u64, [u8; 16]>,
}

impl Questions {
    /// Answers that were not taken.
    pub(super) fn answers(&self) -> usize {
        self.answers.len()
    }

    pub(super) fn is_answer(&self, seq: u64) -> bool {
        self.answers.contains_key(&seq)
    }

    /// Notes a message of the inbox. True for the answer to a question of this node.
    pub(super) fn enter(&mut self, seq: u64, message: &Message) -> bool {
        match message.tag {
            Tag::Plain => {}
            Tag::Question { deadline } => {
                let (id, sender) = (message.id, message.sender);
                self.open.insert(seq, Open { id, sender, deadline, has_failed: false });
                self.deadlines.insert((deadline, seq));
            }
            Tag::Answer(question) => {
                let is_it = |asked: &&mut Asked| {
                    asked.to == message.sender && asked.answer.is_none() && message.id == answer_id(&question)
                };
                if let Some(asked) = self.asked.get_mut(&question).filter(is_it) {
                    asked.answer = Some(seq);
                    self.answers.insert(seq, question);
                    return true;
                }
            }
        }
        false
    }

    /// Forgets a message of the inbox, and removes what the books have beside it.
    pub(super) fn leave(&mut self, seq: u64, batch: &mut Batch) {
        if let Some(open) = self.open.remove(&seq) {
            self.deadlines.remove(&(open.deadline, seq));
            if open.has_failed {
                batch.remove(Key::new(FAILED, seq));
            }
        }
        if let Some(asked) = self.answers.remove(&seq).and_then(|question| self.asked.remove(&question)) {
            batch.remove(Key::new(ASKED, asked.seq));
        }
    }

    /// The outcome of a delivery: an answer comes back, for callers that wait.
    pub(super) fn arrived(&self, done: Done, message: Message) -> Done {
        let Done::Delivered { fresh: true, seq } = done else { return done };
        let asked = self.answers.get(&seq).and_then(|id| Some((*id, self.asked.get(id)?.clone())));
        let Some((question, asked)) = asked else { return done };
        let len = message.body.len();
        Done::Answered(Box::new((question, asked, Some((message, len)))))
    }

    /// Whether a message of the inbox belongs to a part of it.
    pub(super) fn are_in(&self, seq: u64, part: Part) -> bool {
        part == Part::All || self.open.get(&seq).is_some_and(|open| open.is_in(part))
    }

    pub(super) fn count(&self, part: Part) -> usize {
        self.open.values().filter(|open| open.is_in(part)).count()
    }

    pub(super) fn next(&self, from: u64, part: Part) -> Option<u64> {
        self.open.range(from..).find(|(_, open)| open.is_in(part)).map(|(seq, _)| *seq)
    }

    /// The number of a question of the inbox.
    pub(super) fn find(&self, name: &QuestionName) -> Option<u64> {
        match name {
            QuestionName::Number(seq) => Some(*seq).filter(|seq| self.open.contains_key(seq)),
            QuestionName::Id(id) => self.open.iter().find(|(_, open)| open.id == *id).map(|(seq, _)| *seq),
        }
    }
}

impl Open {
    const fn is_in(&self, part: Part) -> bool {
        match part {
            Part::All => true,
            Part::Open(now) => !self.has_failed && self.deadline > now,
            Part::Failed => self.has_failed,
        }
    }
}

/// The row of a question of this node.
pub(super) fn emit_asked(id: &[u8; 16], asked: &Asked) -> Vec<u8> {
    let mut out = Vec::with_capacity(64);
    out.put(id);
    out.put(&asked.to.0);
    out.put_u64(asked.asked_at);
    out.put_u64(asked.deadline);
    out
}

/// Reads such a row, which has the question's number in the outbox.
pub(super) fn parse_asked(seq: u64, row: &[u8]) -> Result<([u8; 16], Asked), Malformed> {
    let mut r = Reader::new(row);
    let id = r.array()?;
    let (to, asked_at, deadline) = (IdentityKey(r.array()?), r.u64()?, r.u64()?);
    Ok((id, Asked { seq, to, asked_at, deadline, answer: None }))
}
