//! Owns the questions in the books: those of peers that wait in the inbox for an answer, and those of this node with the answers
//! that have come (`docs/messages.md`, "Questions").
//!
//! A question is taken and its answer enters the outbox in one commit; what is left of it tells a second answer from the first one,
//! sent again. An answer has the id that follows from its question's, so that it arrives once; it lies among the messages of the
//! inbox and counts as one, and is shown only as the answer to its question while that is known.

use super::tables::{ASKED, FAILED, Open, Questions, emit_asked, parse_asked};
use super::{Books, INBOX, MESSAGE_HEAD_LEN, OUTBOX_MAX, TAKE_MAX, TAKEN, parse_message};
use crate::disk::job::{Asked, Done, Exchange, Job, Part, Unanswerable};
use crate::mail::message::{
    DEADLINE_MAX_S, Message, Outgoing, PREVIEW_CHARS, QuestionName, Reply, Tag, answer_id, short_hash,
};
use pilot_store::{Batch, Disk, Key};
use std::io;

/// Most questions of this node that wait for an answer, or have one that was not taken. Source: own choice; as many as messages wait
/// in the outbox.
pub(in crate::disk) const ASKED_MAX: usize = OUTBOX_MAX;
/// Longest reason of a failure that is kept. Unit: bytes.
const REASON_LEN_MAX: usize = 255;

impl<D: Disk> Books<D> {
    /// The tables of questions as the log has them, but for those that [`Questions::enter`] notes.
    pub(super) fn load_asked(&mut self) -> io::Result<Questions> {
        let mut questions = Questions::default();
        let rows: Vec<Key> = self.log.rows(ASKED, 0, Key::ID_MAX).collect();
        for key in rows {
            let row = self.log.read(key, usize::MAX)?;
            questions.asked.extend(row.and_then(|row| parse_asked(key.id(), &row).ok()));
        }
        Ok(questions)
    }

    /// Marks the questions that failed, once all are noted.
    pub(super) fn load_failed(&mut self) {
        for key in self.log.rows(FAILED, 0, Key::ID_MAX) {
            // The row of a question that is gone goes with the next one of its number, which there is none of.
            self.questions.open.entry(key.id()).and_modify(|open| open.has_failed = true);
        }
    }

    /// Whether a job reads the log, so that the changes of the jobs before must be in it.
    pub(super) fn looks(&self, job: &Job) -> bool {
        let is_there = |seq: u64| self.log.len_of(Key::new(INBOX, seq)).is_some();
        match job {
            Job::List { .. } | Job::ListAsked { .. } => true,
            Job::Read(seq) => !is_there(*seq),
            Job::Next(after, part) => !self.next(*after, *part).is_some_and(is_there),
            Job::Take(Some(which)) => !self.are_questions(which),
            Job::Take(None) => true,
            Job::Asked(question) => {
                let answer = self.questions.asked.get(question).and_then(|asked| asked.answer);
                answer.is_some_and(|seq| !is_there(seq))
            }
            Job::Reply(reply) => !self.questions.find(&reply.question).is_some_and(is_there),
            _ => false,
        }
    }

    /// Whether these are questions and answers in the log, of which memory knows enough to take them.
    pub(super) fn are_questions(&self, which: &[u64]) -> bool {
        let is_known = |seq: &u64| {
            let is_listed = self.questions.open.contains_key(seq) || self.questions.is_answer(*seq);
            is_listed && self.log.len_of(Key::new(INBOX, *seq)).is_some()
        };
        which.len() <= TAKE_MAX && which.iter().all(is_known)
    }

    /// Takes questions and answers out of the inbox with the next commit.
    pub(super) fn take_questions(&mut self, which: &[u64]) -> Done {
        let mut batch = std::mem::replace(&mut self.urgent, Batch::urgent());
        let taken = which.iter().filter(|seq| self.take_question(**seq, &[], &mut batch)).count();
        self.urgent = batch;
        Done::Taken(taken)
    }

    /// Takes a question or an answer out of the inbox; `mark` is kept of it. False when it is gone already.
    fn take_question(&mut self, seq: u64, mark: &[u8], batch: &mut Batch) -> bool {
        let of_peer = self.questions.open.get(&seq).map(|open| (open.id, open.sender));
        let of_answer = || {
            let question = self.questions.answers.get(&seq)?;
            Some((answer_id(question), self.questions.asked.get(question)?.to))
        };
        let Some((id, sender)) = of_peer.or_else(of_answer) else { return false };
        let len = self.log.len_of(Key::new(INBOX, seq)).unwrap_or(0);
        self.inbox.remove(&seq);
        self.inbox_len -= len;
        batch.remove(Key::new(INBOX, seq));
        self.questions.leave(seq, batch);
        if let Some(known) = self.senders.get_mut(&sender) {
            known.share.take(len);
            if let Ok(i) = known.recent.binary_search_by_key(&seq, |recent| recent.seq) {
                known.recent[i].taken = true;
                batch.put(Key::new(TAKEN, seq), &[&id, &sender.0, mark]);
            }
        }
        true
    }

    /// Removes the questions of peers whose deadline is over, at most [`TAKE_MAX`] of them.
    pub(super) fn expire(&mut self, now: u64) {
        if self.questions.deadlines.first().is_none_or(|(deadline, _)| *deadline > now) {
            return;
        }
        let over = self.questions.deadlines.iter().take_while(|(deadline, _)| *deadline <= now);
        let is_there = |seq: &u64| self.log.len_of(Key::new(INBOX, *seq)).is_some();
        let over: Vec<u64> = over.map(|(_, seq)| *seq).filter(is_there).take(TAKE_MAX).collect();
        self.take_questions(&over);
    }

    pub(super) fn ask(&mut self, message: &Outgoing, at: u64) -> Done {
        if self.questions.asked.len() >= ASKED_MAX {
            self.sweep(message.since);
        }
        if self.questions.asked.len() >= ASKED_MAX {
            return Done::Full("as many questions as may be wait for answers, or have answers that were not taken");
        }
        let done = self.queue(message);
        if let (Done::Queued(seq), Tag::Question { deadline }) = (&done, message.tag) {
            let asked = Asked { seq: *seq, to: message.to, asked_at: at, deadline, answer: None };
            self.batch.put(Key::new(ASKED, *seq), &[&emit_asked(&message.id, &asked)]);
            self.questions.asked.insert(message.id, asked);
        }
        debug_assert!(self.questions.asked.len() <= ASKED_MAX);
        done
    }

    /// Forgets a question of this node that is in the outbox no more. Its answer becomes an ordinary message.
    pub(super) fn forget_asked(&mut self, question: &[u8; 16]) {
        let Some(asked) = self.questions.asked.remove(question) else { return };
        self.urgent.remove(Key::new(ASKED, asked.seq));
        if let Some(seq) = asked.answer {
            self.questions.answers.remove(&seq);
            self.inbox.insert(seq);
        }
    }

    /// Forgets the questions of this node that can get no answer any more: one waits in its writer's outbox for as long as a question
    /// lives at most.
    fn sweep(&mut self, now: u64) {
        let is_over = |asked: &Asked| asked.answer.is_none() && asked.deadline.saturating_add(DEADLINE_MAX_S) <= now;
        let over = self.questions.asked.iter().filter(|(_, asked)| is_over(asked)).map(|(id, _)| *id);
        let over: Vec<[u8; 16]> = over.collect();
        over.iter().for_each(|question| self.forget_asked(question));
    }

    pub(super) fn reply(&mut self, reply: Reply) -> io::Result<Done> {
        self.expire(reply.since);
        let mark = short_hash(&[&[reply.kind as u8], &reply.body]);
        let Some(seq) = self.questions.find(&reply.question) else { return self.replied_before(&reply.question, mark) };
        if let Some(full) = self.refuse(reply.body.len() as u64) {
            return Ok(full);
        }
        let Some(Open { id, sender, .. }) = self.questions.open.get(&seq) else {
            return Ok(Done::Unanswerable(Unanswerable::Unknown)); // never: it was found
        };
        let (question, to, tag) = (*id, *sender, Tag::Answer(*id));
        let answer = Outgoing { id: answer_id(id), to, kind: reply.kind, since: reply.since, tag, body: reply.body };
        let entered = match self.queue(&answer) {
            Done::Queued(seq) => Some((seq, answer)),
            full => return Ok(full),
        };
        // Both are in one commit, also on a full disk.
        let mut batch = std::mem::take(&mut self.batch);
        self.take_question(seq, &mark, &mut batch);
        self.batch = batch;
        Ok(Done::Replied { question, entered })
    }

    /// What an answer to a question means that is not in the inbox.
    fn replied_before(&mut self, name: &QuestionName, mark: [u8; 16]) -> io::Result<Done> {
        let of_id = |id: &[u8; 16]| {
            let recent = self.senders.values().flat_map(|sender| &sender.recent);
            recent.clone().find(|recent| recent.id == *id && recent.taken).map(|recent| recent.seq)
        };
        let seq = match name {
            QuestionName::Number(seq) => Some(*seq),
            QuestionName::Id(id) => of_id(id),
        };
        let row = match seq {
            Some(seq) => self.log.read(Key::new(TAKEN, seq), usize::MAX)?,
            None => None,
        };
        let Some(row) = row else { return Ok(Done::Unanswerable(Unanswerable::Unknown)) };
        Ok(match row.get(48..) {
            None | Some([]) => Done::Unanswerable(Unanswerable::Gone),
            Some(kept) if kept == mark => {
                Done::Replied { question: *row.first_chunk().unwrap_or(&[0; 16]), entered: None }
            }
            Some(_) => Done::Unanswerable(Unanswerable::Answered),
        })
    }

    pub(super) fn fail_question(&mut self, seq: u64, reason: Option<String>) -> Done {
        let Some(open) = self.questions.open.get_mut(&seq) else {
            return Done::Unanswerable(Unanswerable::Unknown);
        };
        open.has_failed = reason.is_some();
        match reason {
            Some(reason) => {
                let reason = &reason[..reason.floor_char_boundary(REASON_LEN_MAX)];
                self.urgent.put(Key::new(FAILED, seq), &[reason.as_bytes()]);
            }
            None => self.urgent.remove(Key::new(FAILED, seq)),
        }
        Done::Written
    }

    pub(super) fn why_failed(&mut self, seq: u64) -> io::Result<Option<String>> {
        if !self.questions.are_in(seq, Part::Failed) {
            return Ok(None);
        }
        let row = self.log.read(Key::new(FAILED, seq), usize::MAX)?;
        Ok(row.map(|row| String::from_utf8_lossy(&row).into_owned()))
    }

    pub(super) fn asked(&mut self, question: &[u8; 16]) -> io::Result<Done> {
        let Some(asked) = self.questions.asked.get(question).cloned() else { return Ok(Done::Asked(None)) };
        let answer = self.answer(&asked, usize::MAX)?;
        Ok(Done::Asked(Some(Box::new((*question, asked, answer)))))
    }

    pub(super) fn list_asked(&mut self, limit: usize, now: u64) -> io::Result<Done> {
        self.sweep(now);
        let mut all: Vec<_> = self.questions.asked.iter().map(|(id, asked)| (*id, asked.clone())).collect();
        let total = all.len() as u64;
        all.sort_unstable_by_key(|(_, asked)| asked.seq);
        let shown = all.split_off(all.len().saturating_sub(limit));
        let mut listed: Vec<Exchange> = Vec::with_capacity(shown.len());
        for (question, asked) in shown {
            let answer = self.answer(&asked, 4 * PREVIEW_CHARS)?;
            listed.push((question, asked, answer));
        }
        Ok(Done::ListAsked(listed, total))
    }

    /// The answer to a question of this node with at most `len_max` bytes of its body, and the length of the whole body.
    fn answer(&mut self, asked: &Asked, len_max: usize) -> io::Result<Option<(Message, usize)>> {
        let Some(seq) = asked.answer else { return Ok(None) };
        let row_len = len_max.saturating_add(MESSAGE_HEAD_LEN + Tag::ROW_LEN_MAX);
        let row = self.log.read(Key::new(INBOX, seq), row_len)?;
        let message = row.and_then(|row| parse_message(&row).ok());
        Ok(message.map(|message| (self.body_len(seq, message.tag), message)).map(|(len, message)| (message, len)))
    }
}
