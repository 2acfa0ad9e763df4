//! Owns the state that a node keeps: its trust, address and profile, the inbox, the outbox, and the ids of messages that have arrived.
//!
//! The ids of the newest [`RECENT_MAX`] messages of each sender are known. A sender keeps its messages in order and sends only
//! unacknowledged ones again, so a message that arrives a second time is among these, however much other senders have sent
//! meanwhile. When more than [`RECENT_ALL_MAX`] ids are known, the sender with the most loses its oldest one, so that each
//! sender keeps at least as many ids as it can have messages in flight.

pub(super) mod questions;
mod tables;

use crate::disk::job::{Done, Job, Listing, Meta, Part, Saved};
use crate::mail::given_up::{GIVEN_UP_MAX, GivenUp};
use crate::mail::message::{Line, Message, Outgoing, PREVIEW_CHARS, Tag, emit_tag, parse_tag, row_kind};
use crate::mail::outbox::IN_FLIGHT_MAX;
use litemap::LiteMap;
use pilot_core::Addr;
use pilot_core::codec::{Malformed, Put as _, Reader};
use pilot_core::identity::IdentityKey;
use pilot_store::{Batch, Disk, Key, Log, NoRoom, is_full};
use std::collections::{BTreeSet, VecDeque};
use std::io;
use tables::{ASKED, Questions};

const META: u8 = 1;
const OUTBOX: u8 = 2;
const INBOX: u8 = 3;
/// Sender and id of messages that were taken out of the inbox, under the number that they had there.
const TAKEN: u8 = 4;
/// What is known of messages that left the outbox without being delivered, under the number that they had there.
const GIVEN_UP: u8 = 5;

/// Most messages in the inbox. Source: `docs/messages.md`, "How".
pub(super) const INBOX_MAX: usize = 100_000;
/// Most bytes in the inbox. Unit: bytes. Source: `docs/messages.md`, "How".
pub(super) const INBOX_LEN_MAX: u64 = 1 << 30;
/// Largest share of the inbox's messages, and of its bytes, that one sender may fill. Unit: per cent. Source: `docs/messages.md`, "How".
const SENDER_SHARE: u64 = 25;
/// Most messages of one sender that are known by their ids.
pub(super) const RECENT_MAX: usize = 4096;
/// Most senders with known messages. A new sender takes the place of the one that was silent for longest and has no message
/// in the inbox.
pub(super) const SENDERS_MAX: usize = 4096;
/// Most messages of all senders that are known by their ids: for each sender as many as it can have in flight.
pub(super) const RECENT_ALL_MAX: usize = SENDERS_MAX * IN_FLIGHT_MAX;
/// Most messages of one slice that is taken out of the inbox.
const TAKE_MAX: usize = 1000;
/// Most messages in the outbox.
pub(super) const OUTBOX_MAX: usize = 10_000;
/// Length of the head before the body of a message in the inbox. Unit: bytes.
const MESSAGE_HEAD_LEN: usize = 16 + 32 + 6 + 1 + 8;

/// A part of the inbox.
#[derive(Clone, Copy, Default)]
struct Share {
    messages: usize,
    /// Unit: bytes.
    len: u64,
}

impl Share {
    fn add(&mut self, len: u64) {
        self.messages += 1;
        self.len += len;
    }

    fn take(&mut self, len: u64) {
        debug_assert!(self.messages > 0 && self.len >= len, "a message is taken once");
        self.messages -= 1;
        self.len -= len;
    }
}

/// The known facts of one sender.
#[derive(Default)]
struct Sender {
    /// What the sender's messages fill of the inbox.
    share: Share,
    /// The sender's newest messages, oldest first.
    recent: VecDeque<Recent>,
}

#[derive(Clone, Copy)]
struct Recent {
    id: [u8; 16],
    seq: u64,
    /// The message was taken out of the inbox.
    taken: bool,
}

/// The books, on a disk.
pub(super) struct Books<D> {
    log: Log<D>,
    /// The changes of the jobs since the last commit.
    batch: Batch,
    /// Those of jobs that must not wait for room on a full disk: they remove something, or change the node's own state.
    urgent: Batch,
    /// These jobs by their place among the outcomes, and whether they are urgent.
    uncommitted: Vec<(usize, bool)>,
    /// Why nothing that needs room can be committed.
    no_room: Option<NoRoom>,
    /// The lines of the messages among them.
    lines: Vec<Line>,
    senders: LiteMap<IdentityKey, Sender>,
    /// Messages that are known by their ids.
    recent_all: usize,
    inbox: BTreeSet<u64>,
    inbox_len: u64,
    outbox: BTreeSet<u64>,
    given_up: BTreeSet<u64>,
    questions: Questions,
    next_inbox: u64,
    next_outbox: u64,
    /// A commit failed, and so did the reading of the disk after it: memory differs from the disk.
    is_stale: bool,
}

impl<D: Disk> Books<D> {
    pub(super) fn open(log: Log<D>) -> io::Result<Self> {
        let mut books = Self {
            log,
            batch: Batch::default(),
            urgent: Batch::urgent(),
            uncommitted: Vec::new(),
            no_room: None,
            lines: Vec::new(),
            senders: LiteMap::new(),
            recent_all: 0,
            inbox: BTreeSet::new(),
            inbox_len: 0,
            outbox: BTreeSet::new(),
            given_up: BTreeSet::new(),
            questions: Questions::default(),
            next_inbox: 1,
            next_outbox: 1,
            is_stale: false,
        };
        books.load()?;
        Ok(books)
    }

    /// Replaces the tables in memory by those of the log.
    fn load(&mut self) -> io::Result<()> {
        self.is_stale = true;
        (self.batch, self.urgent) = (Batch::default(), Batch::urgent());
        (self.senders, self.inbox_len) = (LiteMap::new(), 0);
        let table = |table| self.log.rows(table, 0, Key::ID_MAX).map(Key::id);
        (self.outbox, self.inbox) = (set(table(OUTBOX)), set(table(INBOX)));
        // Numbers are not given twice, also when a commit failed: the outbox in memory may still know the last ones.
        self.given_up = set(table(GIVEN_UP));
        let asked = self.log.rows(ASKED, 0, Key::ID_MAX).map(Key::id).max();
        let last = self.outbox.last().max(self.given_up.last()).copied().max(asked);
        self.next_outbox = last.map_or(1, |seq| seq + 1).max(self.next_outbox);
        let taken = set(table(TAKEN));
        self.next_inbox = self.inbox.last().max(taken.last()).map_or(1, |seq| seq + 1).max(self.next_inbox);
        self.questions = self.load_asked()?;
        let all = set(self.inbox.union(&taken).copied());
        for seq in all {
            let is_taken = taken.contains(&seq);
            let key = Key::new(if is_taken { TAKEN } else { INBOX }, seq);
            let head = self.log.read(key, MESSAGE_HEAD_LEN + Tag::ROW_LEN_MAX)?;
            let message = head.as_deref().filter(|_| !is_taken).and_then(|head| parse_message(head).ok());
            let head = head.filter(|_| is_taken || message.is_some());
            let known = head.and_then(|head| parse_sender_and_id(&head).ok());
            if is_taken || known.is_none() {
                // What is no message to this version counts for nothing, and its row stays for another one.
                self.inbox.remove(&seq);
            }
            let Some((sender, id)) = known else { continue };
            if message.is_some_and(|message| self.questions.enter(seq, &message)) {
                self.inbox.remove(&seq);
            }
            let len = if is_taken { 0 } else { self.log.len_of(key).unwrap_or(0) };
            let known = self.senders.entry(sender).or_default();
            if !is_taken {
                known.share.add(len);
                self.inbox_len += len;
            }
            known.recent.push_back(Recent { id, seq, taken: is_taken });
            // A message that leaves the list here had left it before as well; its row stays, since it is in the inbox.
            if known.recent.len() > RECENT_MAX {
                known.recent.pop_front();
            }
        }
        self.load_failed();
        self.recent_all = self.senders.values().map(|s| s.recent.len()).sum();
        self.is_stale = false;
        Ok(())
    }

    /// The part of the books that a node needs when it starts.
    pub(super) fn saved(&mut self) -> io::Result<Saved> {
        let mut meta = |what: Meta| self.log.read(Key::new(META, what as u64), usize::MAX);
        let (trust, addr, profile) = (meta(Meta::Trust)?, meta(Meta::Addr)?, meta(Meta::Profile)?);
        let (webhook, counted) = (meta(Meta::Webhook)?, meta(Meta::Counted)?);
        let used_us = meta(Meta::Times)?.and_then(|b| b.try_into().ok()).map_or(0, u64::from_le_bytes);
        let port = meta(Meta::Port)?.and_then(|b| b.try_into().ok()).map_or(0, u16::from_le_bytes);
        let programs = meta(Meta::Programs)?.unwrap_or_default();
        let addr = addr.and_then(|b| b.try_into().ok()).map(Addr::from_bytes).unwrap_or_default();
        let mut outbox = Vec::new();
        for seq in &self.outbox {
            let row = self.log.read(Key::new(OUTBOX, *seq), usize::MAX)?;
            // A message that cannot be parsed cannot be sent; its row stays on the disk for a later version.
            outbox.extend(row.and_then(|row| parse_outgoing(&row).ok()).map(|m| (*seq, m)));
        }
        let mut given_up = Vec::new();
        for seq in &self.given_up {
            let row = self.log.read(Key::new(GIVEN_UP, *seq), usize::MAX)?;
            given_up.extend(row.and_then(|row| GivenUp::parse(*seq, &row).ok()));
        }
        let has_questions = !(self.questions.asked.is_empty() && self.questions.open.is_empty());
        let saved =
            Saved { trust, addr, profile, port, webhook, used_us, programs, outbox, given_up, counted, has_questions };
        Ok(saved)
    }

    /// Runs jobs in order, and commits their changes together. When a commit fails, all of its jobs fail and change nothing; on a
    /// full disk urgent ones are committed by themselves.
    pub(super) fn run(&mut self, jobs: impl Iterator<Item = Job>) -> Vec<Done> {
        let mut done = Vec::new();
        self.no_room = self.log.secure().err().and_then(|e| NoRoom::of(&e).cloned());
        for job in jobs {
            // These jobs read the log, so the changes of the jobs before must be in it; and they need no commit afterwards.
            let looks = self.looks(&job);
            if looks {
                self.commit(&mut done);
            }
            let needs_room =
                matches!(job, Job::Deliver(_) | Job::DeliverInLine(..) | Job::Queue(_) | Job::Ask(..) | Job::Reply(_));
            let is_urgent = !needs_room;
            let outcome = if self.is_stale { self.load() } else { Ok(()) }.and_then(|()| self.job(job));
            done.push(outcome.unwrap_or_else(|e| failed(&e)));
            // A job that looked may have changed something too.
            if !(looks && self.batch.is_empty() && self.urgent.is_empty()) {
                self.uncommitted.push((done.len() - 1, is_urgent));
            }
        }
        self.commit(&mut done);
        done
    }

    /// Commits the changes of the jobs that wait for it, and puts their failures into `done`.
    fn commit(&mut self, done: &mut [Done]) {
        let (jobs, lines) = (std::mem::take(&mut self.uncommitted), std::mem::take(&mut self.lines));
        let mut all = std::mem::take(&mut self.batch);
        let mut urgent = std::mem::replace(&mut self.urgent, Batch::urgent());
        let are_all_urgent = all.is_empty();
        all.append(&urgent);
        let outcome = if are_all_urgent { self.log.commit(&mut urgent) } else { self.log.commit(&mut all) };
        let Err(e) = outcome else { return };
        lines.iter().for_each(Line::break_off);
        let are_urgent_done = !are_all_urgent && is_full(&e) && self.log.commit(&mut urgent).is_ok();
        for (index, is_urgent) in jobs {
            if !(is_urgent && are_urgent_done) {
                done[index] = failed(&e);
            }
        }
        // When the reading fails too, the next job tries again.
        let _ = self.load();
    }

    /// Frees room on the disk, where the gain is worth the time.
    pub(super) fn clean(&mut self) {
        // The next commit reports a disk that fails.
        let _ = self.log.clean();
    }

    fn job(&mut self, job: Job) -> io::Result<Done> {
        match job {
            Job::Put(what, value) => {
                self.urgent.put(Key::new(META, what as u64), &[&value]);
                Ok(Done::Written)
            }
            Job::Deliver(message) => {
                let done = self.deliver(&message);
                Ok(self.questions.arrived(done, message))
            }
            Job::DeliverInLine(message, line) => {
                let done = self.deliver_in_line(&message, line);
                Ok(self.questions.arrived(done, message))
            }
            Job::Queue(message) => Ok(self.queue(&message)),
            Job::Unqueue(seq) => {
                self.unqueue(seq);
                Ok(Done::Written)
            }
            Job::GiveUp(row) => {
                self.give_up(&row);
                Ok(Done::Written)
            }
            Job::Ask(message, at) => Ok(self.ask(&message, at)),
            Job::Reply(reply) => self.reply(reply),
            Job::Expire(now) => {
                self.expire(now);
                Ok(Done::Written)
            }
            Job::Fail(seq, reason) => Ok(self.fail_question(seq, reason)),
            Job::Forget(question) => {
                self.forget_asked(&question);
                Ok(Done::Written)
            }
            Job::Asked(question) => self.asked(&question),
            Job::ListAsked { limit, now } => self.list_asked(limit, now),
            Job::List { limit, before, part } => self.list(limit, before.unwrap_or(Key::ID_MAX), part),
            Job::Read(seq) => self.read(Some(seq)),
            Job::Next(after, part) => self.read(self.next(after, part)),
            Job::Take(Some(which)) if self.are_questions(&which) => Ok(self.take_questions(&which)),
            Job::Take(which) => self.take(which),
            Job::File(_) => Ok(Done::Written), // never: the worker gives these to `Files`
        }
    }

    /// The outcome of a job that adds `len` bytes, when there is no room for it.
    fn refuse(&self, len: u64) -> Option<Done> {
        self.no_room.as_ref().map(|why| Done::DiskFull(why.with(len).to_string()))
    }

    fn deliver_in_line(&mut self, message: &Message, line: Line) -> Done {
        if line.is_broken() {
            return Done::Full("a message before it was refused");
        }
        let done = self.deliver(message);
        match &done {
            Done::Delivered { .. } => self.lines.push(line),
            _ => line.break_off(),
        }
        done
    }

    fn deliver(&mut self, message: &Message) -> Done {
        let known = self.senders.get(&message.sender);
        if let Some(recent) = known.and_then(|s| s.recent.iter().find(|recent| recent.id == message.id)) {
            return Done::Delivered { fresh: false, seq: recent.seq };
        }
        let len = (MESSAGE_HEAD_LEN + message.tag.row_len() + message.body.len()) as u64;
        if let Some(full) = self.refuse(len) {
            return full;
        }
        if self.inbox.len() + self.questions.answers() >= INBOX_MAX {
            return Done::Full("the inbox holds as many messages as it may");
        }
        if self.inbox_len + len > INBOX_LEN_MAX {
            return Done::Full("the inbox holds as many bytes as it may");
        }
        // Each sender may fill a quarter of the inbox, so that one sender cannot fill it alone.
        let mut share = known.map(|s| s.share).unwrap_or_default();
        share.add(len);
        let is_too_long = share.len > INBOX_LEN_MAX / 100 * SENDER_SHARE;
        if is_too_long || share.messages > INBOX_MAX / 100 * SENDER_SHARE as usize {
            return Done::Full("this sender's share of the inbox is used up");
        }
        if known.is_none() && self.senders.len() >= SENDERS_MAX && !self.forget_a_sender() {
            return Done::Full("the inbox holds messages of as many senders as it may");
        }
        let seq = self.next_inbox;
        self.next_inbox += 1;
        self.batch.put(Key::new(INBOX, seq), &[&emit_head(message), &message.body]);
        if !self.questions.enter(seq, message) {
            self.inbox.insert(seq);
        }
        self.inbox_len += len;
        debug_assert!(self.inbox.len() <= INBOX_MAX && self.inbox_len <= INBOX_LEN_MAX);
        let known = self.senders.entry(message.sender).or_default();
        known.share = share;
        known.recent.push_back(Recent { id: message.id, seq, taken: false });
        let is_full = known.recent.len() > RECENT_MAX;
        self.recent_all += 1;
        if is_full {
            self.forget_oldest(message.sender);
        }
        while self.recent_all > RECENT_ALL_MAX
            && let Some((longest, _)) = self.senders.iter().max_by_key(|(_, s)| s.recent.len())
        {
            self.forget_oldest(*longest);
        }
        Done::Delivered { fresh: true, seq }
    }

    /// Forgets the id of a sender's oldest message.
    fn forget_oldest(&mut self, sender: IdentityKey) {
        let oldest = self.senders.get_mut(&sender).and_then(|s| s.recent.pop_front());
        self.recent_all -= usize::from(oldest.is_some());
        if let Some(Recent { seq, taken: true, .. }) = oldest {
            self.batch.remove(Key::new(TAKEN, seq));
        }
    }

    /// Forgets the sender that was silent for longest. False when the inbox has messages of every sender.
    fn forget_a_sender(&mut self) -> bool {
        let silent = self.senders.iter().filter(|(_, s)| s.share.messages == 0);
        let Some(key) = silent.min_by_key(|(_, s)| s.recent.back().map(|r| r.seq)).map(|(key, _)| *key) else {
            return false;
        };
        let forgotten = self.senders.remove(&key).unwrap_or_default();
        self.recent_all -= forgotten.recent.len();
        forgotten.recent.iter().for_each(|recent| self.batch.remove(Key::new(TAKEN, recent.seq)));
        true
    }

    fn queue(&mut self, message: &Outgoing) -> Done {
        if let Some(full) = self.refuse(message.body.len() as u64) {
            return full;
        }
        if self.outbox.len() >= OUTBOX_MAX {
            return Done::Full("the outbox holds as many messages as it may");
        }
        let seq = self.next_outbox;
        self.next_outbox += 1;
        self.batch.put(Key::new(OUTBOX, seq), &[&emit_outgoing_head(message), &message.body]);
        let is_new = self.outbox.insert(seq);
        debug_assert!(is_new, "numbers are given once");
        Done::Queued(seq)
    }

    fn unqueue(&mut self, seq: u64) {
        if self.outbox.remove(&seq) {
            self.urgent.remove(Key::new(OUTBOX, seq));
        }
    }

    /// Moves a message from the outbox to those that were given up, of which the oldest makes place.
    fn give_up(&mut self, row: &GivenUp) {
        self.unqueue(row.seq);
        self.forget_asked(&row.id);
        self.urgent.put(Key::new(GIVEN_UP, row.seq), &[&row.emit()]);
        self.given_up.insert(row.seq);
        while self.given_up.len() > GIVEN_UP_MAX
            && let Some(oldest) = self.given_up.pop_first()
        {
            self.urgent.remove(Key::new(GIVEN_UP, oldest));
        }
    }

    fn list(&mut self, limit: usize, before: u64, part: Part) -> io::Result<Done> {
        let newest = self.inbox.range(..before).rev().copied();
        let shown: Vec<u64> = newest.filter(|seq| self.questions.are_in(*seq, part)).take(limit).collect();
        let total = match part {
            Part::All => self.inbox.len(),
            Part::Open(_) | Part::Failed => self.questions.count(part),
        };
        let (mut rows, mut failed) = (Vec::new(), Vec::new());
        for seq in shown.into_iter().rev() {
            let key = Key::new(INBOX, seq);
            // A character has four bytes at most.
            let preview_len = MESSAGE_HEAD_LEN + Tag::ROW_LEN_MAX + 4 * PREVIEW_CHARS;
            let Some(row) = self.log.read(key, preview_len)? else { continue };
            let Ok(message) = parse_message(&row) else { continue };
            let len = self.body_len(seq, message.tag);
            rows.push((seq, message, len));
            failed.extend(self.why_failed(seq)?.map(|why| (seq, why)));
        }
        Ok(Done::Listing(Listing { rows, failed, total: total as u64 }))
    }

    /// Length of the body of a message. Unit: bytes.
    fn body_len(&self, seq: u64, tag: Tag) -> usize {
        self.log.len_of(Key::new(INBOX, seq)).unwrap_or(0) as usize - MESSAGE_HEAD_LEN - tag.row_len()
    }

    /// The oldest message of a part with a greater number.
    fn next(&self, after: u64, part: Part) -> Option<u64> {
        let from = after.saturating_add(1);
        match part {
            Part::All => self.inbox.range(from..).next().copied(),
            Part::Open(_) | Part::Failed => self.questions.next(from, part),
        }
    }

    fn read(&mut self, seq: Option<u64>) -> io::Result<Done> {
        let has = |seq: &u64| self.inbox.contains(seq) || self.questions.is_answer(*seq);
        let Some(seq) = seq.filter(has) else { return Ok(Done::Message(None)) };
        let row = self.log.read(Key::new(INBOX, seq), usize::MAX)?;
        Ok(Done::Message(row.and_then(|row| parse_message(&row).ok()).map(|message| (seq, message))))
    }

    /// Takes messages out of the inbox, in slices that leave room for one another on a full disk. After a failure the slices
    /// before it stay taken.
    fn take(&mut self, which: Option<Vec<u64>>) -> io::Result<Done> {
        let which = match which {
            Some(list) => {
                set(list.into_iter().filter(|seq| self.inbox.contains(seq) || self.questions.is_answer(*seq)))
            }
            None => self.inbox.clone(),
        };
        let which: Vec<u64> = which.into_iter().collect();
        let mut taken = 0;
        for slice in which.chunks(TAKE_MAX) {
            match self.take_slice(slice) {
                Ok(count) => taken += count,
                Err(e) if taken == 0 => return Err(e),
                Err(_) => break,
            }
            if which.len() > TAKE_MAX {
                self.clean();
            }
        }
        Ok(Done::Taken(taken))
    }

    fn take_slice(&mut self, which: &[u64]) -> io::Result<usize> {
        let mut heads = Vec::with_capacity(which.len());
        for seq in which {
            let key = Key::new(INBOX, *seq);
            if let Some(head) = self.log.read(key, 48)? {
                heads.push((*seq, head, self.log.len_of(key).unwrap_or(0)));
            }
        }
        let taken = heads.len();
        let mut batch = Batch::urgent();
        for (seq, head, len) in heads {
            self.inbox.remove(&seq);
            self.inbox_len -= len;
            batch.remove(Key::new(INBOX, seq));
            self.questions.leave(seq, &mut batch);
            let sender = parse_sender_and_id(&head).ok().map(|(sender, _)| sender);
            let Some(known) = sender.and_then(|sender| self.senders.get_mut(&sender)) else {
                continue; // never: a sender is known while one of its messages is in the inbox
            };
            known.share.take(len);
            if let Ok(i) = known.recent.binary_search_by_key(&seq, |recent| recent.seq) {
                known.recent[i].taken = true;
                batch.put(Key::new(TAKEN, seq), &[&head]);
            }
        }
        self.log.commit(&mut batch).inspect_err(|_| drop(self.load()))?;
        Ok(taken)
    }
}

/// The set of these numbers. They come nearly in order, so that sorting them first, as collecting does, gains nothing.
fn set(numbers: impl Iterator<Item = u64>) -> BTreeSet<u64> {
    let mut set = BTreeSet::new();
    set.extend(numbers);
    set
}

fn failed(e: &io::Error) -> Done {
    if is_full(e) { Done::DiskFull(e.to_string()) } else { Done::Failed(e.to_string()) }
}

fn emit_head(m: &Message) -> Vec<u8> {
    let mut out = Vec::with_capacity(MESSAGE_HEAD_LEN + Tag::ROW_LEN_MAX);
    out.put(&m.id);
    out.put(&m.sender.0);
    out.put(&m.addr.to_bytes());
    out.put_u8(row_kind(m.kind, m.tag));
    out.put_u64(m.at);
    emit_tag(m.tag, &mut out);
    out
}

/// The sender and the id of a message, from the beginning of its head.
fn parse_sender_and_id(head: &[u8]) -> Result<(IdentityKey, [u8; 16]), Malformed> {
    let mut r = Reader::new(head);
    let id = r.array()?;
    Ok((IdentityKey(r.array()?), id))
}

fn parse_message(bytes: &[u8]) -> Result<Message, Malformed> {
    let mut r = Reader::new(bytes);
    let (id, sender, addr) = (r.array()?, IdentityKey(r.array()?), Addr::from_bytes(r.array()?));
    let (kind, at) = (r.u8()?, r.u64()?);
    let (kind, tag) = parse_tag(kind, &mut r)?;
    Ok(Message { id, sender, addr, kind, at, tag, body: r.rest().to_vec() })
}

fn emit_outgoing_head(m: &Outgoing) -> Vec<u8> {
    let mut out = Vec::with_capacity(80);
    out.put(&m.id);
    out.put(&m.to.0);
    out.put_u8(row_kind(m.kind, m.tag));
    out.put_u64(m.since);
    emit_tag(m.tag, &mut out);
    out
}

fn parse_outgoing(bytes: &[u8]) -> Result<Outgoing, Malformed> {
    let mut r = Reader::new(bytes);
    let (id, to, kind, since) = (r.array()?, IdentityKey(r.array()?), r.u8()?, r.u64()?);
    let (kind, tag) = parse_tag(kind, &mut r)?;
    Ok(Outgoing { id, to, kind, since, tag, body: r.rest().to_vec() })
}
