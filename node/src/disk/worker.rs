//! Owns what must survive: trust, inbox, outbox, address. One worker thread, which keeps [`books`] in a [`Log`], and commits
//! in groups.
//!
//! The same thread writes the log's lines, between two groups.
//!
//! The loop sends [`Job`]s and gets [`Done`]s back; those of the books in the same order, and those of files. A job's `Done`
//! arrives only after its commit was synced (messages.md: an acknowledgement means it is on disk). A failed commit fails
//! every job of its group and changes nothing.

use crate::disk::books::Books;
use crate::disk::files::{FileJob, Files};
use crate::disk::job::{Done, Job, Saved};
use crate::effect::Ticket;
use crate::failure::{Code, Failure};
use crate::log::writer::Lines;
use crossbeam_channel::{Receiver, Sender, select, unbounded};
use mio::Waker;
use pilot_store::{Folder, Limits, Log};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;

/// Jobs of one commit. Source: messages.md.
const GROUP_MAX: usize = 64;
/// Bytes of one commit, beside its last job. Unit: bytes.
const GROUP_LEN_MAX: usize = 1 << 20;
/// Jobs that may wait for the worker.
pub(crate) const JOBS_MAX: usize = 4096;
/// What to do about damaged books.
pub(crate) const DAMAGED_HINT: &str = "restore it from a backup; without it every peer must be approved again";

/// The loop's end of the worker. The channels have no bound of their own, whose room would be taken for ever: no more than
/// [`JOBS_MAX`] jobs are between them.
pub(crate) struct Worker {
    jobs: Option<Sender<(Ticket, Job)>>,
    under_way: usize,
    done: Receiver<(Ticket, Done)>,
    thread: Option<JoinHandle<()>>,
}

impl Worker {
    /// Opens the log in a node's folder, reads what the loop needs, and starts the thread.
    ///
    /// # Errors
    /// What the disk says, with the log's path; that something of it is damaged or missing.
    pub(crate) fn start(home: &Path, waker: Arc<Waker>, lines: Lines) -> Result<(Self, Saved), Failure> {
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
        let body = move || work((books, files, lines), &job_rx, &done_tx, &waker);
        let thread = std::thread::Builder::new().name("pilot-disk".into()).spawn(body);
        let thread = thread.map_err(|e| Failure::new(Code::Internal, e.to_string()))?;
        Ok((Self { jobs: Some(jobs), under_way: 0, done, thread: Some(thread) }, saved))
    }

    /// Hands a job over; its outcome comes with the ticket. False when the disk is [`JOBS_MAX`] jobs behind.
    pub(crate) fn submit(&mut self, ticket: Ticket, job: Job) -> bool {
        // Giving a file up is always taken: there are no more of these than open files, and a lost one would stay open.
        if self.under_way >= JOBS_MAX && !matches!(job, Job::File(FileJob::Drop { .. })) {
            return false;
        }
        let is_taken = self.jobs.as_ref().is_some_and(|jobs| jobs.send((ticket, job)).is_ok());
        self.under_way += usize::from(is_taken);
        is_taken
    }

    /// The next outcome.
    pub(crate) fn poll(&mut self) -> Option<(Ticket, Done)> {
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
    (mut books, mut files, lines): (Books<Folder>, Files, Lines),
    jobs: &Receiver<(Ticket, Job)>,
    done: &Sender<(Ticket, Done)>,
    waker: &Waker,
) {
    while let Some(first) = next(jobs, &lines) {
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
        let (numbers, in_books): (Vec<Ticket>, Vec<Job>) = in_books.into_iter().unzip();
        outcomes.extend(numbers.into_iter().zip(books.run(in_books.into_iter())));
        for outcome in outcomes {
            if done.send(outcome).is_err() {
                return lines.finish();
            }
        }
        // The loop may be gone already; then nobody needs to wake.
        let _ = waker.wake();
        books.clean();
    }
    lines.finish();
}

/// The next job; lines of the log are written meanwhile. `None` when the loop has ended.
fn next(jobs: &Receiver<(Ticket, Job)>, lines: &Lines) -> Option<(Ticket, Job)> {
    loop {
        select! {
            recv(jobs) -> job => return job.ok(),
            recv(lines.orders) -> order => match order {
                Ok(order) => lines.write(order),
                Err(_) => return jobs.recv().ok(), // the loop has no more lines, and soon no more jobs
            },
        }
    }
}
