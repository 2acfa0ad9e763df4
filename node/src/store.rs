//! Owns what must survive: trust, inbox, outbox, address. One redb file, one worker thread, commits in groups.
//!
//! The loop sends [`Job`]s and gets [`Done`]s back; those of the database in the same order, and those of files. A job's `Done` arrives only after its commit was
//! synced (messages.md: an acknowledgement means it is on disk). A failed commit fails every job of its group and changes
//! nothing.

use crate::files::{FileDone, FileJob, Files};
use crossbeam_channel::{Receiver, Sender, unbounded};
use mio::Waker;
use pilot_core::Addr;
use pilot_core::codec::{Malformed, Put, Reader};
use pilot_core::identity::IdentityKey;
use redb::{Database, ReadableDatabase, ReadableTable, ReadableTableMetadata, TableDefinition, WriteTransaction};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::SystemTime;

const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");
const INBOX: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("inbox");
const OUTBOX: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("outbox");
/// Sender and message id of everything accepted lately, so that nothing is accepted twice.
const SEEN: TableDefinition<'_, &[u8; 48], u64> = TableDefinition::new("seen");
const SEEN_ORDER: TableDefinition<'_, u64, &[u8; 48]> = TableDefinition::new("seen_order");

/// Longest message. Unit: bytes. Source: messages.md.
pub(crate) const MESSAGE_LEN_MAX: usize = 16 << 20;
/// Most messages in the inbox. Source: messages.md.
pub(crate) const INBOX_MAX: u64 = 100_000;
/// Most bytes in the inbox. Source: messages.md.
pub(crate) const INBOX_LEN_MAX: u64 = 1 << 30;
/// Largest share of the inbox that one sender may fill. Unit: per cent. Source: messages.md.
const SENDER_SHARE: u64 = 25;
/// Message ids remembered against duplicates.
const SEEN_MAX: u64 = 500_000;
/// Most messages in the outbox.
pub(crate) const OUTBOX_MAX: u64 = 10_000;
/// Lifetime of a message in the outbox. Unit: seconds (7 days). Source: messages.md.
const OUTBOX_LIFETIME_S: u64 = 7 * 24 * 3600;
/// Jobs of one commit. Source: messages.md.
const GROUP_MAX: usize = 64;
/// Jobs that may wait for the worker.
pub(crate) const JOBS_MAX: usize = 4096;
/// redb's own cache. Unit: bytes.
const CACHE_LEN: usize = 1 << 20;
/// Characters of a message that a listing shows.
const PREVIEW_CHARS: usize = 120;

/// What a message's bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    Text = 1,
    Binary = 2,
    Json = 3,
}

impl Kind {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Binary => "binary",
            Self::Json => "json",
        }
    }

    pub(crate) const fn from_number(n: u32) -> Option<Self> {
        match n {
            1 => Some(Self::Text),
            2 => Some(Self::Binary),
            3 => Some(Self::Json),
            _ => None,
        }
    }
}

/// A message as the inbox holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) id: [u8; 16],
    pub(crate) sender: IdentityKey,
    pub(crate) addr: Addr,
    pub(crate) kind: Kind,
    /// Seconds since 1970.
    pub(crate) at: u64,
    pub(crate) body: Vec<u8>,
}

/// A message that waits for its recipient to take it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Outgoing {
    pub(crate) id: [u8; 16],
    pub(crate) to: IdentityKey,
    pub(crate) kind: Kind,
    /// Seconds since 1970.
    pub(crate) expires: u64,
    pub(crate) body: Vec<u8>,
}

/// Work for the disk.
pub(crate) enum Job {
    /// Remember a value under a name.
    Put(&'static str, Vec<u8>),
    /// Accept a message into the inbox, unless it was accepted before.
    Deliver(Message),
    /// Remember a message to be sent.
    Queue(Outgoing),
    /// It was taken, or nobody waits for it any more.
    Unqueue(u64),
    /// List the inbox.
    List { limit: usize, before: Option<u64> },
    /// One whole message.
    Read(u64),
    /// The oldest message behind this one.
    Next(u64),
    /// The reader has taken these (or everything).
    Take(Option<Vec<u64>>),
    /// Work on a received file; no part of any transaction.
    File(FileJob),
}

/// A job's outcome.
#[derive(Debug)]
pub(crate) enum Done {
    Written,
    /// The message is on disk; `fresh` unless it already was.
    Delivered {
        fresh: bool,
        seq: u64,
    },
    /// The message has this number in the outbox.
    Queued(u64),
    Listing(Listing),
    Message(Option<(u64, Message)>),
    Taken(usize),
    File(FileDone),
    /// The job is against a limit.
    Full(&'static str),
    /// Nothing was changed.
    Failed(String),
}

/// One page of the inbox.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    /// Number and message, its body cut to a preview; newest last.
    pub(crate) rows: Vec<(u64, Message, usize)>,
    pub(crate) total: u64,
}

/// What a node finds on its disk.
pub(crate) struct Saved {
    pub(crate) trust: Option<Vec<u8>>,
    pub(crate) addr: Addr,
    pub(crate) profile: Option<Vec<u8>>,
    pub(crate) outbox: Vec<(u64, Outgoing)>,
}

/// The loop's end of the worker. The channels have no bound of their own, whose room would be taken for ever: no more than
/// [`JOBS_MAX`] jobs are between them.
pub(crate) struct Worker {
    jobs: Option<Sender<(u64, Job)>>,
    under_way: usize,
    done: Receiver<(u64, Done)>,
    thread: Option<JoinHandle<()>>,
    next: u64,
}

impl Worker {
    /// Opens the file, reads what the loop needs, and starts the thread.
    pub(crate) fn start(path: &Path, waker: Arc<Waker>) -> Result<(Self, Saved), String> {
        let store = Store::open(path).map_err(|e| format!("{}: {e}", path.display()))?;
        let saved = store.saved().map_err(|e| format!("{}: {e}", path.display()))?;
        let (jobs, job_rx) = unbounded();
        let (done_tx, done) = unbounded();
        let files = Files::new(path.with_file_name("received"));
        let body = move || work(store, files, &job_rx, &done_tx, &waker);
        let thread = std::thread::Builder::new().name("pilot-disk".into()).spawn(body).map_err(|e| e.to_string())?;
        Ok((Self { jobs: Some(jobs), under_way: 0, done, thread: Some(thread), next: 1 }, saved))
    }

    /// Hands a job over; its outcome comes under the returned number. `None` when the disk is [`JOBS_MAX`] jobs behind.
    pub(crate) fn submit(&mut self, job: Job) -> Option<u64> {
        // Giving a file up is always taken: there are no more of these than open files, and one that was lost would stay open.
        if self.under_way >= JOBS_MAX && !matches!(job, Job::File(FileJob::Drop { .. })) {
            return None;
        }
        let number = self.next;
        self.jobs.as_ref()?.send((number, job)).ok()?;
        self.next += 1;
        self.under_way += 1;
        Some(number)
    }

    pub(crate) fn poll(&mut self) -> Option<(u64, Done)> {
        let done = self.done.try_recv().ok()?;
        self.under_way -= 1;
        Some(done)
    }

    /// Finishes what was handed over.
    pub(crate) fn stop(&mut self) {
        self.jobs = None;
        while self.done.recv().is_ok() {}
        if let Some(thread) = self.thread.take() {
            // A worker that panicked has nothing more to give.
            let _ = thread.join();
        }
    }
}

fn work(mut store: Store, mut files: Files, jobs: &Receiver<(u64, Job)>, done: &Sender<(u64, Done)>, waker: &Waker) {
    while let Ok(first) = jobs.recv() {
        let mut group = vec![first];
        while group.len() < GROUP_MAX
            && let Ok(job) = jobs.try_recv()
        {
            group.push(job);
        }
        let (on_files, in_database): (Vec<_>, Vec<_>) =
            group.into_iter().partition(|(_, job)| matches!(job, Job::File(_)));
        let mut outcomes = Vec::new();
        for (number, job) in on_files {
            if let Job::File(job) = job {
                outcomes.push((number, Done::File(files.run(job))));
            }
        }
        if !in_database.is_empty() {
            let numbers: Vec<u64> = in_database.iter().map(|(n, _)| *n).collect();
            let done = store.commit(in_database.into_iter().map(|(_, job)| job));
            let done = done.unwrap_or_else(|e| numbers.iter().map(|_| Done::Failed(e.to_string())).collect());
            outcomes.extend(numbers.into_iter().zip(done));
        }
        for outcome in outcomes {
            if done.send(outcome).is_err() {
                return;
            }
        }
        // The loop may be gone already; then nobody needs to wake.
        let _ = waker.wake();
    }
}

struct Store {
    path: PathBuf,
    /// `None` after the disk failed: redb wants to be opened anew then.
    db: Option<Database>,
    inbox_len: u64,
}

type Result<T, E = redb::Error> = std::result::Result<T, E>;

impl Store {
    fn open(path: &Path) -> Result<Self> {
        let db = Database::builder().set_cache_size(CACHE_LEN).create(path)?;
        let write = db.begin_write()?;
        write.open_table(META)?;
        write.open_table(OUTBOX)?;
        write.open_table(SEEN)?;
        write.open_table(SEEN_ORDER)?;
        let mut inbox_len = 0;
        for row in write.open_table(INBOX)?.iter()? {
            inbox_len += row?.1.value().len() as u64;
        }
        write.commit()?;
        Ok(Self { path: path.into(), db: Some(db), inbox_len })
    }

    fn saved(&self) -> Result<Saved> {
        let db = self.db.as_ref().ok_or(redb::Error::PreviousIo)?;
        let read = db.begin_read()?;
        let meta = read.open_table(META)?;
        let get = |key: &str| Ok::<_, redb::Error>(meta.get(key)?.map(|v| v.value().to_vec()));
        let addr = get("addr")?.and_then(|b| b.try_into().ok()).map(Addr::from_bytes).unwrap_or_default();
        let mut outbox = Vec::new();
        for row in read.open_table(OUTBOX)?.iter()? {
            let (seq, bytes) = row?;
            // A damaged row cannot be sent; it stays on disk for whoever looks for it.
            outbox.extend(parse_outgoing(bytes.value()).ok().map(|m| (seq.value(), m)));
        }
        Ok(Saved { trust: get("trust")?, addr, profile: get("profile")?, outbox })
    }

    /// Runs a group of jobs in one transaction, synced once. After a failure the database is opened anew for the next group:
    /// it then has what was committed, and works again when the disk does.
    fn commit(&mut self, jobs: impl Iterator<Item = Job>) -> Result<Vec<Done>> {
        let result = self.try_commit(jobs);
        if result.is_err() {
            self.db = None;
        }
        result
    }

    fn try_commit(&mut self, jobs: impl Iterator<Item = Job>) -> Result<Vec<Done>> {
        if self.db.is_none() {
            *self = Self::open(&self.path)?;
        }
        let write = self.db.as_ref().ok_or(redb::Error::PreviousIo)?.begin_write()?;
        let before = self.inbox_len;
        let mut outcomes = Vec::new();
        for job in jobs {
            match self.run(&write, job) {
                Ok(done) => outcomes.push(done),
                Err(e) => {
                    self.inbox_len = before;
                    return Err(e);
                }
            }
        }
        write.commit().inspect_err(|_| self.inbox_len = before)?;
        Ok(outcomes)
    }

    fn run(&mut self, write: &WriteTransaction, job: Job) -> Result<Done> {
        match job {
            Job::Put(key, value) => {
                write.open_table(META)?.insert(key, value.as_slice())?;
                Ok(Done::Written)
            }
            Job::Deliver(message) => self.deliver(write, &message),
            Job::Queue(message) => queue(write, &message),
            Job::Unqueue(seq) => {
                write.open_table(OUTBOX)?.remove(seq)?;
                Ok(Done::Written)
            }
            Job::List { limit, before } => list(write, limit, before),
            Job::Read(seq) => {
                let inbox = write.open_table(INBOX)?;
                let row = inbox.get(seq)?.and_then(|bytes| parse_message(bytes.value()).ok());
                Ok(Done::Message(row.map(|m| (seq, m))))
            }
            Job::Next(after) => {
                let inbox = write.open_table(INBOX)?;
                let mut rows = inbox.range(after.saturating_add(1)..)?;
                let row = rows.next().transpose()?;
                Ok(Done::Message(row.and_then(|(seq, bytes)| Some((seq.value(), parse_message(bytes.value()).ok()?)))))
            }
            Job::Take(which) => self.take(write, which),
            Job::File(_) => Ok(Done::Written), // never here: the worker keeps them apart
        }
    }

    fn deliver(&mut self, write: &WriteTransaction, message: &Message) -> Result<Done> {
        let mut key = [0; 48];
        key[..32].copy_from_slice(&message.sender.0);
        key[32..].copy_from_slice(&message.id);
        let mut seen = write.open_table(SEEN)?;
        if let Some(seq) = seen.get(&key)? {
            return Ok(Done::Delivered { fresh: false, seq: seq.value() });
        }
        let mut inbox = write.open_table(INBOX)?;
        let row = emit_message(message);
        if inbox.len()? >= INBOX_MAX {
            return Ok(Done::Full("the inbox holds as many messages as it may"));
        }
        if self.inbox_len + row.len() as u64 > INBOX_LEN_MAX {
            return Ok(Done::Full("the inbox holds as many bytes as it may"));
        }
        // Counting one sender's share walks the inbox, so it is asked only when the inbox is large.
        if self.inbox_len > INBOX_LEN_MAX / 100 * SENDER_SHARE {
            let mut share = row.len() as u64;
            for row in inbox.iter()? {
                let (_, bytes) = row?;
                let same = bytes.value().get(16..48) == Some(&message.sender.0[..]);
                share += if same { bytes.value().len() as u64 } else { 0 };
            }
            if share > INBOX_LEN_MAX / 100 * SENDER_SHARE {
                return Ok(Done::Full("this sender's share of the inbox is used up"));
            }
        }
        let mut order = write.open_table(SEEN_ORDER)?;
        let seq = order.last()?.map_or(1, |(k, _)| k.value() + 1);
        inbox.insert(seq, row.as_slice())?;
        seen.insert(&key, seq)?;
        order.insert(seq, &key)?;
        if order.len()? > SEEN_MAX
            && let Some((_, oldest)) = order.pop_first()?
        {
            seen.remove(oldest.value())?;
        }
        self.inbox_len += row.len() as u64;
        Ok(Done::Delivered { fresh: true, seq })
    }

    fn take(&mut self, write: &WriteTransaction, which: Option<Vec<u64>>) -> Result<Done> {
        let mut inbox = write.open_table(INBOX)?;
        let which = match which {
            Some(list) => list,
            None => inbox.iter()?.map(|row| Ok(row?.0.value())).collect::<Result<_>>()?,
        };
        let mut taken = 0;
        for seq in which {
            if let Some(row) = inbox.remove(seq)? {
                self.inbox_len -= row.value().len() as u64;
                taken += 1;
            }
        }
        Ok(Done::Taken(taken))
    }
}

fn queue(write: &WriteTransaction, message: &Outgoing) -> Result<Done> {
    let mut outbox = write.open_table(OUTBOX)?;
    if outbox.len()? >= OUTBOX_MAX {
        return Ok(Done::Full("the outbox holds as many messages as it may"));
    }
    let seq = outbox.last()?.map_or(1, |(k, _)| k.value() + 1);
    outbox.insert(seq, emit_outgoing(message).as_slice())?;
    Ok(Done::Queued(seq))
}

fn list(write: &WriteTransaction, limit: usize, before: Option<u64>) -> Result<Done> {
    let inbox = write.open_table(INBOX)?;
    let mut rows = Vec::new();
    for row in inbox.range(..before.unwrap_or(u64::MAX))?.rev().take(limit) {
        let (seq, bytes) = row?;
        let Ok(mut message) = parse_message(bytes.value()) else { continue };
        let len = message.body.len();
        message.body.truncate(4 * PREVIEW_CHARS);
        rows.push((seq.value(), message, len));
    }
    rows.reverse();
    Ok(Done::Listing(Listing { rows, total: inbox.len()? }))
}

impl Message {
    /// The beginning of the body as text.
    pub(crate) fn preview(&self) -> String {
        String::from_utf8_lossy(&self.body)
            .chars()
            .take(PREVIEW_CHARS)
            .map(|c| if c.is_control() { ' ' } else { c })
            .collect()
    }
}

fn emit_message(m: &Message) -> Vec<u8> {
    let mut out = Vec::with_capacity(64 + m.body.len());
    out.put(&m.id);
    out.put(&m.sender.0);
    out.put(&m.addr.to_bytes());
    out.put_u8(m.kind as u8);
    out.put_u64(m.at);
    out.put(&m.body);
    out
}

fn parse_message(bytes: &[u8]) -> std::result::Result<Message, Malformed> {
    let mut r = Reader::new(bytes);
    Ok(Message {
        id: r.array()?,
        sender: IdentityKey(r.array()?),
        addr: Addr::from_bytes(r.array()?),
        kind: Kind::from_number(r.u8()?.into()).ok_or(Malformed)?,
        at: r.u64()?,
        body: r.rest().to_vec(),
    })
}

fn emit_outgoing(m: &Outgoing) -> Vec<u8> {
    let mut out = Vec::with_capacity(64 + m.body.len());
    out.put(&m.id);
    out.put(&m.to.0);
    out.put_u8(m.kind as u8);
    out.put_u64(m.expires);
    out.put(&m.body);
    out
}

fn parse_outgoing(bytes: &[u8]) -> std::result::Result<Outgoing, Malformed> {
    let mut r = Reader::new(bytes);
    Ok(Outgoing {
        id: r.array()?,
        to: IdentityKey(r.array()?),
        kind: Kind::from_number(r.u8()?.into()).ok_or(Malformed)?,
        expires: r.u64()?,
        body: r.rest().to_vec(),
    })
}

/// The wall clock. Unit: seconds since 1970.
pub(crate) fn wall_s() -> u64 {
    SystemTime::UNIX_EPOCH.elapsed().map_or(0, |d| d.as_secs())
}

/// When a message queued now expires. Unit: seconds since 1970.
pub(crate) fn outbox_expiry() -> u64 {
    wall_s() + OUTBOX_LIFETIME_S
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store() -> (Store, std::path::PathBuf) {
        let id: [u8; 8] = crate::home::entropy();
        let path = std::env::temp_dir().join(format!("pilot-store-{:x}", u64::from_le_bytes(id)));
        (Store::open(&path).expect("a fresh file"), path)
    }

    fn message(n: u64, body: usize) -> Message {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&n.to_le_bytes());
        Message {
            id,
            sender: IdentityKey([1; 32]),
            addr: Addr::new(0, 1),
            kind: Kind::Json,
            at: 5,
            body: vec![b'x'; body],
        }
    }

    fn one(store: &mut Store, job: Job) -> Done {
        store.commit(std::iter::once(job)).expect("works").remove(0)
    }

    #[test]
    fn a_disk_that_is_too_far_behind_takes_no_more_jobs() {
        let poll = mio::Poll::new().expect("poll");
        let waker = Arc::new(Waker::new(poll.registry(), mio::Token(0)).expect("waker"));
        let id: [u8; 8] = crate::home::entropy();
        let path = std::env::temp_dir().join(format!("pilot-jobs-{:x}", u64::from_le_bytes(id)));
        let (mut worker, _) = Worker::start(&path, waker).expect("a fresh file");
        // Jobs count until their outcome was taken.
        (0..JOBS_MAX).for_each(|n| assert!(worker.submit(Job::Read(n as u64)).is_some()));
        assert!(worker.submit(Job::Read(0)).is_none());
        while worker.poll().is_none() {
            std::thread::yield_now();
        }
        assert!(worker.submit(Job::Read(0)).is_some());
        worker.stop();
        std::fs::remove_file(path).expect("made above");
    }

    #[test]
    fn messages_are_accepted_once_and_in_order_across_reopening() {
        let (mut store, path) = store();
        for n in 0..100 {
            assert!(matches!(one(&mut store, Job::Deliver(message(n, 10))), Done::Delivered { fresh: true, .. }));
        }
        drop(store);
        let mut store = Store::open(&path).expect("reopens");
        assert!(matches!(one(&mut store, Job::Deliver(message(7, 10))), Done::Delivered { fresh: false, seq: 8 }));
        let Done::Listing(listing) = one(&mut store, Job::List { limit: 1000, before: None }) else {
            panic!("a listing")
        };
        assert!(listing.rows.iter().map(|r| r.1.id).eq((0..100).map(|n| message(n, 0).id)));
        assert!(matches!(one(&mut store, Job::Take(Some(vec![1, 1, 500]))), Done::Taken(1)));
        assert!(
            matches!(one(&mut store, Job::Deliver(message(0, 10))), Done::Delivered { fresh: false, .. }),
            "taken, not forgotten"
        );
        assert!(matches!(one(&mut store, Job::Take(None)), Done::Taken(99)));
        assert_eq!(store.inbox_len, 0);
        std::fs::remove_file(path).expect("removed");
    }

    #[test]
    fn one_sender_cannot_fill_the_inbox_and_refused_messages_change_nothing() {
        let (mut store, path) = store();
        store.inbox_len = INBOX_LEN_MAX / 100 * SENDER_SHARE; // as if others' messages were there
        assert!(matches!(one(&mut store, Job::Deliver(message(1, 100))), Done::Delivered { fresh: true, .. }));
        store.inbox_len = INBOX_LEN_MAX;
        assert!(matches!(one(&mut store, Job::Deliver(message(2, 100))), Done::Full(_)));
        store.inbox_len = 0;
        assert!(
            matches!(one(&mut store, Job::Deliver(message(2, 100))), Done::Delivered { fresh: true, .. }),
            "not marked as seen"
        );
        std::fs::remove_file(path).expect("removed");
    }

    #[test]
    fn the_outbox_survives_and_has_a_maximum() {
        let (mut store, path) = store();
        let outgoing =
            Outgoing { id: [3; 16], to: IdentityKey([2; 32]), kind: Kind::Text, expires: 9, body: b"hi".to_vec() };
        let jobs = (0..OUTBOX_MAX + 1).map(|_| Job::Queue(outgoing.clone()));
        let outcomes = store.commit(jobs).expect("works");
        assert!(matches!(outcomes.last(), Some(Done::Full(_))));
        assert!(matches!(outcomes[outcomes.len() - 2], Done::Queued(OUTBOX_MAX)));
        one(&mut store, Job::Unqueue(1));
        let saved = store.saved().expect("readable");
        assert_eq!((saved.outbox.len() as u64, &saved.outbox[0].1), (OUTBOX_MAX - 1, &outgoing));
        std::fs::remove_file(path).expect("removed");
    }
}
