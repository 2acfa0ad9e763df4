//! Owns the disk's thread: one worker keeps the [`Books`] in a [`Log`], writes received [`Files`], and commits in groups.
//!
//! The same thread writes the log's lines, between two groups.
//!
//! The loop sends [`Job`]s and gets [`Done`]s back, those of the books in the order of their jobs. A job's `Done` arrives only
//! after its commit was synced, since an acknowledgement means that a message is on disk (`docs/messages.md`, "The promise").
//! A failed commit fails every job of its group and changes nothing.

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

/// Most jobs of one commit. Source: `docs/messages.md`, "How".
const GROUP_MAX: usize = 64;
/// Most bytes of one commit without those of its last job. Unit: bytes.
const GROUP_LEN_MAX: usize = 1 << 20;
/// Most jobs between the loop and the worker, their outcomes included.
pub(crate) const JOBS_MAX: usize = 4096;
/// The hint of a failure to read damaged books.
pub(crate) const DAMAGED_HINT: &str = "restore it from a backup; without it every peer must be approved again";

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
    while let Some(first) = next(jobs, &lines) {
        let group = group_with(first, jobs);
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
        // A loop that has ended needs no waking.
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

/// Takes the jobs that wait behind a first one, up to [`GROUP_MAX`] and [`GROUP_LEN_MAX`] in all.
fn group_with(first: (Ticket, Job), jobs: &Receiver<(Ticket, Job)>) -> Vec<(Ticket, Job)> {
    let mut len = first.1.len();
    let mut group = vec![first];
    while group.len() < GROUP_MAX
        && len < GROUP_LEN_MAX
        && let Ok(job) = jobs.try_recv()
    {
        len += job.1.len();
        group.push(job);
    }
    debug_assert!(group.len() <= GROUP_MAX);
    group
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::job::Meta;

    #[test]
    fn groups_have_a_maximum_of_jobs_and_of_bytes() {
        let (sender, jobs) = unbounded();
        (0..GROUP_MAX as u64 + 1).for_each(|n| sender.send((Ticket(n), Job::Read(n))).expect("a receiver"));
        let put = |len| (Ticket(0), Job::Put(Meta::Trust, vec![0; len]));
        for len in [GROUP_LEN_MAX - 1, 5, 1] {
            sender.send(put(len)).expect("a receiver");
        }
        drop(sender);
        let groups = std::iter::from_fn(|| Some(group_with(jobs.recv().ok()?, &jobs).len()));
        assert_eq!(groups.collect::<Vec<_>>(), [GROUP_MAX, 3, 1]);
    }
}
