//! Owns the disk's thread: one worker keeps the [`Books`] in a [`Log`], writes received [`Files`], and commits in groups.
//!
//! The same thread writes the log's lines, between two groups.
//!
//! The loop sends [`Job`]s and gets [`Done`]s back, in the order that [`Schedule`] gives: those of a sender's messages, those of all
//! else in the books, and those of files come each in the order of their jobs.
//! A job's `Done` arrives only after its commit was synced, since an acknowledgement means that
//! a message is on disk (`docs/messages.md`, "The promise"). A failed commit fails every job of its group and changes nothing.

use crate::disk::books::Books;
use crate::disk::files::{FileJob, Files};
use crate::disk::job::{Done, Job, Saved};
use crate::disk::schedule::{GROUP_MAX, JOBS_MAX, Schedule};
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

/// The hint of a failure to read damaged books.
pub(crate) const DAMAGED_HINT: &str =
    "restore it from a backup, or go on with what is left: daemon start --accept-loss";

/// The loop's end of the worker. At most [`JOBS_MAX`] jobs are under way, so the channels need no bound of their own, for
/// which they would keep memory for ever.
pub(crate) struct Worker {
    jobs: Option<Sender<(Ticket, Job)>>,
    /// Jobs with outcomes that the loop has not taken.
    under_way: usize,
    done: Receiver<(Ticket, Done)>,
    thread: Option<JoinHandle<()>>,
}

/// The disk's end of a worker that has neither thread nor disk: a test takes the jobs and gives their outcomes.
#[cfg(test)]
pub(crate) struct Paper {
    pub(crate) jobs: Receiver<(Ticket, Job)>,
    pub(crate) done: Sender<(Ticket, Done)>,
}

impl Worker {
    /// A worker that a test plays.
    #[cfg(test)]
    pub(crate) fn on_paper() -> (Self, Paper) {
        let (jobs, job_rx) = unbounded();
        let (done_tx, done) = unbounded();
        (Self { jobs: Some(jobs), under_way: 0, done, thread: None }, Paper { jobs: job_rx, done: done_tx })
    }

    /// Opens the log in a node's folder, reads the part that the loop needs, and starts the thread.
    ///
    /// # Errors
    /// `Internal` with the log's path and the text of the file system, or of the damage.
    pub(crate) fn start(
        home: &Path,
        accept_loss: bool,
        waker: Arc<Waker>,
        lines: Lines,
    ) -> Result<(Self, Saved), Failure> {
        let path = home.join("books");
        let log = |is_lossy: bool| {
            let read = if is_lossy { Log::salvage } else { Log::open };
            read(Folder::open(path.clone())?, Limits::default())
        };
        let open = || {
            let log = match log(false) {
                Err(e) if accept_loss && e.kind() == io::ErrorKind::InvalidData => log(true)?,
                log => log?,
            };
            let mut books = Books::open(log)?;
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

    /// Hands a job to the worker; its outcome comes with the ticket. False when the disk is [`JOBS_MAX`] jobs behind.
    pub(crate) fn submit(&mut self, ticket: Ticket, job: Job) -> bool {
        // `FileJob::Drop` is always taken: there are no more of these than open files, and without it a file would stay open.
        if self.under_way >= JOBS_MAX && !matches!(job, Job::File(FileJob::Drop { .. })) {
            if let Job::DeliverInLine(_, line) = &job {
                line.break_off();
            }
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

    /// Waits until every job was done, and ends the thread.
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
    let mut schedule = Schedule::default();
    loop {
        let mut first = if schedule.is_empty() { next(jobs, &lines) } else { jobs.try_recv().ok() };
        if first.is_none() && schedule.is_empty() {
            break; // the loop has ended
        }
        let mut outcomes = run(&mut books, schedule.group(|| first.take().or_else(|| jobs.try_recv().ok())));
        let has_changes = !outcomes.is_empty();
        // Acknowledgements of short messages wait neither for long ones nor for files.
        if !send(&mut outcomes, done, waker) {
            break;
        }
        if has_changes {
            books.clean();
        }
        outcomes = run(&mut books, schedule.long_turn());
        outcomes.extend(schedule.file_turn().into_iter().map(|(number, job)| (number, Done::File(files.run(job)))));
        if !send(&mut outcomes, done, waker) {
            break;
        }
        // Files that come without a pause hold no line of the log back.
        lines.orders.try_iter().take(GROUP_MAX).for_each(|order| lines.write(order));
    }
    lines.finish();
}

/// Commits jobs for the books together.
fn run(books: &mut Books<Folder>, (numbers, jobs): (Vec<Ticket>, Vec<Job>)) -> Vec<(Ticket, Done)> {
    if jobs.is_empty() {
        return Vec::new();
    }
    numbers.into_iter().zip(books.run(jobs.into_iter())).collect()
}

/// Tells the loop outcomes; false when the loop is gone.
fn send(outcomes: &mut Vec<(Ticket, Done)>, done: &Sender<(Ticket, Done)>, waker: &Waker) -> bool {
    if outcomes.is_empty() {
        return true;
    }
    let are_sent = outcomes.drain(..).all(|outcome| done.send(outcome).is_ok());
    // A loop that has ended needs no waking.
    let _ = waker.wake();
    are_sent
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
