//! Owns the order in which the disk does its jobs: those of the books in groups, one commit each, and between two groups a bounded
//! piece of the work on files, or a group of long messages, so that no short message waits for a file or for another sender's long
//! messages.

use crate::disk::files::{FileJob, OPEN_MAX};
use crate::disk::job::Job;
use crate::effect::Ticket;
use std::collections::VecDeque;

/// Most jobs between the loop and the worker, their outcomes included.
pub(crate) const JOBS_MAX: usize = 4096;
/// Most jobs of one commit. Source: `docs/messages.md`, "How".
pub(crate) const GROUP_MAX: usize = 64;
/// Most bytes of one commit without those of its last job. Unit: bytes.
const GROUP_LEN_MAX: usize = 1 << 20;
/// Bytes of files that are written before the books are looked after again. Unit: bytes.
const FILE_TURN_LEN: usize = 1 << 20;
/// Bytes as which a piece of a file counts at least. Unit: bytes.
const PIECE_COST: usize = 64 << 10;
/// Full groups in a row that files wait for; more jobs of the books wait behind a full one. Source: own choice; all the jobs of a
/// peer that floods, and those of another.
const FULL_GROUPS_MAX: u8 = 3;

/// Length from which a message waits for its turn with the other long ones. Unit: bytes.
const LONG_LEN: usize = 256 << 10;

/// Jobs that wait until short ones of the books are done.
#[derive(Default)]
pub(crate) struct Schedule {
    /// Long messages, and the messages that their senders sent behind them.
    long: VecDeque<(Ticket, Job)>,
    /// The last turn was one of long messages.
    was_long: bool,
    files: VecDeque<(Ticket, FileJob)>,
    /// Full groups since the last work on files or long messages.
    full_groups: u8,
}

impl Schedule {
    /// True when no job waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.files.is_empty() && self.long.is_empty()
    }

    /// Takes jobs from `next`: those for the books make a group, up to [`GROUP_MAX`] and [`GROUP_LEN_MAX`] in all; long messages and
    /// those for files wait.
    pub(crate) fn group(&mut self, mut next: impl FnMut() -> Option<(Ticket, Job)>) -> (Vec<Ticket>, Vec<Job>) {
        let (mut len, mut numbers, mut group) = (0, Vec::new(), Vec::new());
        while group.len() < GROUP_MAX
            && len < GROUP_LEN_MAX
            && let Some((number, job)) = next()
        {
            match job {
                Job::File(job) => self.files.push_back((number, job)),
                job if self.is_behind(&job) => self.long.push_back((number, job)),
                job => {
                    len += job.len();
                    numbers.push(number);
                    group.push(job);
                }
            }
        }
        let is_full = group.len() >= GROUP_MAX || len >= GROUP_LEN_MAX;
        self.full_groups = if is_full { self.full_groups + 1 } else { FULL_GROUPS_MAX };
        debug_assert!(group.len() <= GROUP_MAX && self.files.len() + self.long.len() <= JOBS_MAX + OPEN_MAX);
        (numbers, group)
    }

    /// True for a message that is long, or comes behind long ones of its sender.
    fn is_behind(&self, job: &Job) -> bool {
        let is_of = |sender| self.long.iter().any(|(_, job)| job.sender() == Some(sender));
        job.sender().is_some_and(|sender| job.len() >= LONG_LEN || is_of(sender))
    }

    /// Takes a group of long messages when it is their turn: they share it with files, whose turn is the next one.
    pub(crate) fn long_turn(&mut self) -> (Vec<Ticket>, Vec<Job>) {
        let mut len = 0;
        if self.full_groups < FULL_GROUPS_MAX || std::mem::replace(&mut self.was_long, false) || self.long.is_empty() {
            return (Vec::new(), Vec::new());
        }
        (self.full_groups, self.was_long) = (0, true);
        let fits = self.long.iter().take(GROUP_MAX).take_while(|(_, job)| {
            let has_room = len < GROUP_LEN_MAX;
            len += job.len();
            has_room
        });
        let count = fits.count();
        self.long.drain(..count).unzip()
    }

    /// Takes the work on files that is done before the next group: [`FILE_TURN_LEN`] bytes, and no job behind one that opens or ends
    /// a file, since these look through folders and wait for syncs. None after a full group, [`FULL_GROUPS_MAX`] excepted.
    pub(crate) fn file_turn(&mut self) -> Vec<(Ticket, FileJob)> {
        if self.full_groups < FULL_GROUPS_MAX {
            return Vec::new();
        }
        self.full_groups = 0;
        let (mut len, mut turn) = (0, Vec::new());
        while len < FILE_TURN_LEN
            && let Some((number, job)) = self.files.pop_front()
        {
            len += match &job {
                FileJob::Data { bytes, .. } => bytes.len().max(PIECE_COST),
                _ => FILE_TURN_LEN,
            };
            turn.push((number, job));
        }
        turn
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::job::Meta;
    use crate::mail::message::{Kind, Message, Tag};
    use pilot_core::Addr;
    use pilot_core::identity::IdentityKey;

    fn data(n: u64, len: usize) -> (Ticket, Job) {
        (Ticket(n), Job::File(FileJob::Data { id: 1, offset: n, bytes: vec![0; len] }))
    }

    #[test]
    fn groups_have_a_maximum_of_jobs_and_of_bytes() {
        let mut jobs: VecDeque<(Ticket, Job)> = (0..GROUP_MAX as u64 + 1).map(|n| (Ticket(n), Job::Read(n))).collect();
        let put = |len| (Ticket(0), Job::Put(Meta::Trust, vec![0; len]));
        jobs.extend([GROUP_LEN_MAX - 1, 5, 1].map(put));
        let mut schedule = Schedule::default();
        let mut groups = Vec::new();
        while !jobs.is_empty() {
            groups.push(schedule.group(|| jobs.pop_front()).1.len());
        }
        assert_eq!(groups, [GROUP_MAX, 3, 1]);
    }

    #[test]
    fn jobs_for_the_books_do_not_wait_for_files() {
        let mut jobs: VecDeque<(Ticket, Job)> = (0..1000).map(|n| data(n, 100)).collect();
        jobs.push_back((Ticket(1000), Job::Read(1)));
        let mut schedule = Schedule::default();
        let (numbers, group) = schedule.group(|| jobs.pop_front());
        assert_eq!((numbers.as_slice(), group.len(), schedule.files.len()), (&[Ticket(1000)][..], 1, 1000));
        assert!(schedule.files.iter().map(|(number, _)| number.0).eq(0..1000), "files keep their order");
    }

    #[test]
    fn short_messages_do_not_wait_for_other_senders_long_ones() {
        let message = |from: u8, len: usize| {
            let (addr, kind) = (Addr::default(), Kind::Binary);
            let sender = IdentityKey([from; 32]);
            Job::Deliver(Message { id: [0; 16], sender, addr, kind, at: 0, tag: Tag::Plain, body: vec![7; len] })
        };
        let sizes = [(1, 3 * LONG_LEN), (1, 3 * LONG_LEN), (1, 10), (2, LONG_LEN), (3, LONG_LEN - 1), (2, 10), (3, 10)];
        let mut jobs: VecDeque<_> =
            (0..).map(Ticket).zip(sizes.map(|(from, len)| message(from, len))).chain([data(9, 10)]).collect();
        let mut schedule = Schedule::default();
        let mut turn = |schedule: &mut Schedule| {
            let group = schedule.group(|| jobs.pop_front()).0;
            let (long, files) = (schedule.long_turn().0, schedule.file_turn());
            let plain = |numbers: Vec<Ticket>| numbers.into_iter().map(|ticket| ticket.0).collect::<Vec<_>>();
            (plain(group), plain(long), files.len())
        };
        assert_eq!(turn(&mut schedule), (vec![4, 6], vec![0, 1], 0), "short ones first, then a group of long ones");
        assert_eq!(turn(&mut schedule), (vec![], vec![], 1), "it is the files' turn");
        assert_eq!(turn(&mut schedule), (vec![], vec![2, 3, 5], 0), "each sender's messages keep their order");
        assert!(schedule.is_empty());
    }

    #[test]
    fn the_work_on_files_between_two_groups_is_bounded() {
        let mut jobs: VecDeque<(Ticket, Job)> = (0..20).map(|n| data(n, 10)).collect();
        jobs.push_back(data(20, FILE_TURN_LEN));
        jobs.extend([21, 22].map(|n| (Ticket(n), Job::File(FileJob::End { id: n }))));
        let mut schedule = Schedule::default();
        schedule.group(|| jobs.pop_front());
        let mut turns = Vec::new();
        while !schedule.is_empty() {
            turns.push(schedule.file_turn().len());
            schedule.group(|| None);
        }
        assert_eq!(turns, [16, 5, 1, 1]);
    }

    #[test]
    fn files_wait_for_some_full_groups_and_not_for_ever() {
        let mut schedule = Schedule::default();
        let mut pieces = 0;
        for round in 1..=12 {
            let mut jobs: VecDeque<(Ticket, Job)> = [data(round, FILE_TURN_LEN)].into();
            jobs.extend((0..GROUP_MAX as u64).map(|n| (Ticket(n), Job::Read(n))));
            schedule.group(|| jobs.pop_front());
            pieces += schedule.file_turn().len() as u64;
            assert_eq!(pieces, round / u64::from(FULL_GROUPS_MAX));
        }
        schedule.group(|| None);
        assert_eq!(schedule.file_turn().len(), 1, "no message waits");
    }
}
