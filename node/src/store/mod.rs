//! Owns what must survive: trust, inbox, outbox, address. One worker thread, which keeps [`books`] in a [`Log`], and commits
//! in groups.
//!
//! The loop sends [`Job`]s and gets [`Done`]s back; those of the books in the same order, and those of files. A job's `Done`
//! arrives only after its commit was synced (messages.md: an acknowledgement means it is on disk). A failed commit fails
//! every job of its group and changes nothing.

mod books;

use self::books::Books;
use crate::failure::{Code, Failure};
use crate::files::{FileDone, FileJob, Files};
use crossbeam_channel::{Receiver, Sender, unbounded};
use mio::Waker;
use pilot_core::Addr;
use pilot_core::identity::IdentityKey;
use pilot_store::{Folder, Limits, Log};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::SystemTime;

/// Longest message. Unit: bytes. Source: messages.md.
pub(crate) const MESSAGE_LEN_MAX: usize = 16 << 20;
/// Lifetime of a message in the outbox. Unit: seconds (7 days). Source: messages.md.
const OUTBOX_LIFETIME_S: u64 = 7 * 24 * 3600;
/// Jobs of one commit. Source: messages.md.
const GROUP_MAX: usize = 64;
/// Bytes of one commit, beside its last job. Unit: bytes.
const GROUP_LEN_MAX: usize = 1 << 20;
/// Jobs that may wait for the worker.
pub(crate) const JOBS_MAX: usize = 4096;
/// What to do about damaged books.
pub(crate) const DAMAGED_HINT: &str = "restore it from a backup; without it every peer must be approved again";
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

/// What there is one of.
#[derive(Clone, Copy, Debug)]
#[repr(u64)]
pub(crate) enum Meta {
    Trust = 1,
    Addr = 2,
    Profile = 3,
}

/// Work for the disk.
pub(crate) enum Job {
    /// Remember this instead of what was there.
    Put(Meta, Vec<u8>),
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
    /// Opens the log in a node's folder, reads what the loop needs, and starts the thread.
    ///
    /// # Errors
    /// What the disk says, with the log's path; that something of it is damaged or missing.
    pub(crate) fn start(home: &Path, waker: Arc<Waker>) -> Result<(Self, Saved), Failure> {
        let path = home.join("books");
        let open = || {
            let mut books = Books::open(Log::open(Folder::open(path.clone())?, Limits::default())?)?;
            let saved = books.saved()?;
            io::Result::Ok((books, saved))
        };
        let (books, saved) = open().map_err(|e| {
            let failure = Failure::new(Code::Internal, format!("{}: {e}", path.display()));
            if e.kind() == io::ErrorKind::InvalidData { failure.hint(DAMAGED_HINT) } else { failure }
        })?;
        let (jobs, job_rx) = unbounded();
        let (done_tx, done) = unbounded();
        let files = Files::new(home.join("received"));
        let body = move || work(books, files, &job_rx, &done_tx, &waker);
        let thread = std::thread::Builder::new().name("pilot-disk".into()).spawn(body);
        let thread = thread.map_err(|e| Failure::new(Code::Internal, e.to_string()))?;
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

fn work(
    mut books: Books<Folder>,
    mut files: Files,
    jobs: &Receiver<(u64, Job)>,
    done: &Sender<(u64, Done)>,
    waker: &Waker,
) {
    while let Ok(first) = jobs.recv() {
        let mut len = first.1.len();
        let mut group = vec![first];
        while group.len() < GROUP_MAX
            && len < GROUP_LEN_MAX
            && let Ok(job) = jobs.try_recv()
        {
            len += job.1.len();
            group.push(job);
        }
        let (on_files, in_books): (Vec<_>, Vec<_>) =
            group.into_iter().partition(|(_, job)| matches!(job, Job::File(_)));
        let mut outcomes = Vec::new();
        for (number, job) in on_files {
            if let Job::File(job) = job {
                outcomes.push((number, Done::File(files.run(job))));
            }
        }
        let (numbers, in_books): (Vec<u64>, Vec<Job>) = in_books.into_iter().unzip();
        outcomes.extend(numbers.into_iter().zip(books.run(in_books.into_iter())));
        for outcome in outcomes {
            if done.send(outcome).is_err() {
                return;
            }
        }
        // The loop may be gone already; then nobody needs to wake.
        let _ = waker.wake();
        books.clean();
    }
}

impl Job {
    /// What it adds to a commit. Unit: bytes.
    const fn len(&self) -> usize {
        match self {
            Self::Put(_, value) => value.len(),
            Self::Deliver(message) => message.body.len(),
            Self::Queue(message) => message.body.len(),
            _ => 0,
        }
    }
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

/// The wall clock. Unit: seconds since 1970.
pub(crate) fn wall_s() -> u64 {
    SystemTime::UNIX_EPOCH.elapsed().map_or(0, |d| d.as_secs())
}

/// When a message queued now expires. Unit: seconds since 1970.
pub(crate) fn outbox_expiry() -> u64 {
    wall_s() + OUTBOX_LIFETIME_S
}

#[cfg(test)]
mod tests;
