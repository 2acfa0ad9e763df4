//! Owns the disk's thread: one worker keeps the [`Books`] in a [`Log`], writes received [`Files`], and commits in groups.
//!
//! The same thread writes the log's lines, between two groups.
//!
//! The loop sends [`Job`]s and gets [`Done`]s back, those of the books in the order of their jobs, and those of files in theirs.
//! Between two groups at most [`FILE_TURN_LEN`] bytes of files are written and synced, or one job is done that needs more, so that
//! no message waits for a file. A job's `Done` arrives only
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
use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;

/// Most jobs of one commit. Source: `docs/messages.md`, "How".
const GROUP_MAX: usize = 64;
/// Most bytes of one commit without those of its last job. Unit: bytes.
const GROUP_LEN_MAX: usize = 1 << 20;
/// Bytes of files that are written or synced before the books are looked after again, unless one job needs more. Unit: bytes.
const FILE_TURN_LEN: usize = 1 << 20;
/// Bytes as which a job for a file counts at least: opening takes as long as writing so many. Unit: bytes.
const FILE_JOB_COST: usize = 64 << 10;
/// Most jobs between the loop and the worker, their outcomes included.
pub(crate) const JOBS_MAX: usize = 4096;
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
    let mut backlog = VecDeque::new();
    loop {
        let first = if backlog.is_empty() { next(jobs, &lines) } else { jobs.try_recv().ok() };
        if first.is_none() && backlog.is_empty() {
            break; // the loop has ended
        }
        let (numbers, in_books) = group_with(first, jobs, &mut backlog);
        let has_changes = !in_books.is_empty();
        let mut outcomes: Vec<(Ticket, Done)> = numbers.into_iter().zip(books.run(in_books.into_iter())).collect();
        // Acknowledgements of messages do not wait for files.
        if !send(&mut outcomes, done, waker) {
            break;
        }
        if has_changes {
            books.clean();
        }
        file_turn(&mut files, &mut backlog, &mut outcomes);
        if !send(&mut outcomes, done, waker) {
            break;
        }
        // Files that come without a pause hold no line of the log back.
        lines.orders.try_iter().take(GROUP_MAX).for_each(|order| lines.write(order));
    }
    lines.finish();
}

/// Does the jobs for files that fit into one turn, at least one.
fn file_turn(files: &mut Files, backlog: &mut VecDeque<(Ticket, FileJob)>, outcomes: &mut Vec<(Ticket, Done)>) {
    let mut len = 0;
    while let Some((number, job)) = backlog.pop_front() {
        let cost = files.cost(&job).max(FILE_JOB_COST);
        if len > 0 && len + cost > FILE_TURN_LEN {
            return backlog.push_front((number, job));
        }
        len += cost;
        outcomes.push((number, Done::File(files.run(job))));
    }
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

/// Takes the jobs that wait behind a first one: those for the books up to [`GROUP_MAX`] and [`GROUP_LEN_MAX`] in all; those
/// for files join the backlog.
fn group_with(
    first: Option<(Ticket, Job)>,
    jobs: &Receiver<(Ticket, Job)>,
    backlog: &mut VecDeque<(Ticket, FileJob)>,
) -> (Vec<Ticket>, Vec<Job>) {
    let (mut len, mut numbers, mut group) = (0, Vec::new(), Vec::new());
    let mut next = first;
    while let Some((number, job)) = next {
        match job {
            Job::File(job) => backlog.push_back((number, job)),
            job => {
                len += job.len();
                numbers.push(number);
                group.push(job);
            }
        }
        next = if group.len() < GROUP_MAX && len < GROUP_LEN_MAX { jobs.try_recv().ok() } else { None };
    }
    debug_assert!(group.len() <= GROUP_MAX && backlog.len() <= JOBS_MAX);
    (numbers, group)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::files::{Announced, FileDone};
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
        let mut backlog = VecDeque::new();
        let groups = std::iter::from_fn(|| Some(group_with(Some(jobs.recv().ok()?), &jobs, &mut backlog).1.len()));
        assert_eq!(groups.collect::<Vec<_>>(), [GROUP_MAX, 3, 1]);
    }

    #[test]
    fn jobs_for_the_books_do_not_wait_for_files() {
        let (sender, jobs) = unbounded();
        for n in 0..1000 {
            let data = FileJob::Data { id: 1, offset: n, bytes: vec![0; 100] };
            sender.send((Ticket(n), Job::File(data))).expect("a receiver");
        }
        sender.send((Ticket(1000), Job::Read(1))).expect("a receiver");
        let mut backlog = VecDeque::new();
        let (numbers, group) = group_with(jobs.try_recv().ok(), &jobs, &mut backlog);
        assert_eq!((numbers.as_slice(), group.len(), backlog.len()), (&[Ticket(1000)][..], 1, 1000));
        assert!(backlog.iter().map(|(number, _)| number.0).eq(0..1000), "files keep their order");
    }

    /// What a peer has written without a sync, and has synced by ending many files at once, is done in slices, between which
    /// messages are committed.
    #[test]
    fn between_two_commits_files_are_written_and_synced_in_slices() {
        const FILES: u64 = 8;
        const PIECES: u64 = 6;
        const PIECE: usize = 256 << 10;
        let folder = std::env::temp_dir().join(format!("pilot-slices-{}", std::process::id()));
        let mut files = Files::new(folder.clone());
        let announced = |id: u64| Announced {
            name: format!("{id}"),
            len: PIECES * PIECE as u64,
            sender: format!("{id}"),
            quota: u64::MAX,
            resume: None,
        };
        let (mut jobs, mut turns) = (VecDeque::new(), Vec::new());
        let mut add = |job| jobs.push_back((Ticket(0), job));
        (0..FILES).for_each(|id| add(FileJob::Open { id, file: announced(id) }));
        for n in 0..FILES * PIECES {
            let offset = n / FILES * PIECE as u64;
            add(FileJob::Data { id: n % FILES, offset, bytes: vec![7; PIECE] });
        }
        (0..FILES).for_each(|id| add(FileJob::End { id }));
        while !jobs.is_empty() {
            let mut done = Vec::new();
            file_turn(&mut files, &mut jobs, &mut done);
            let count = |is: fn(&FileDone) -> bool| {
                done.iter().filter(|(_, done)| matches!(done, Done::File(done) if is(done))).count()
            };
            let [written, kept] =
                [count(|d| matches!(d, FileDone::Written { .. })), count(|d| matches!(d, FileDone::Kept { .. }))];
            assert!(written * PIECE <= FILE_TURN_LEN, "{done:?}");
            assert!(kept <= 1 && (kept == 0 || written == 0), "each end syncs more than a turn has: {done:?}");
            turns.push(written + kept);
        }
        assert_eq!(turns.iter().sum::<usize>() as u64, FILES * (PIECES + 1), "all is done: {turns:?}");
        std::fs::remove_dir_all(folder).expect("made above");
    }
}
