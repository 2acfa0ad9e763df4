//! Owns the order in which the disk does its jobs: those of the books in groups, one commit each, and between two groups a bounded
//! piece of the work on files, so that no message waits for a file.

use crate::disk::files::FileJob;
use crate::disk::job::Job;
use crate::disk::worker::JOBS_MAX;
use crate::effect::Ticket;
use std::collections::VecDeque;

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

/// Jobs for files that wait.
#[derive(Default)]
pub(crate) struct Schedule {
    files: VecDeque<(Ticket, FileJob)>,
    /// Full groups since the last work on files.
    full_groups: u8,
}

impl Schedule {
    /// True when no job for a file waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// Takes jobs from `next`: those for the books make a group, up to [`GROUP_MAX`] and [`GROUP_LEN_MAX`] in all; those for files
    /// wait.
    pub(crate) fn group(&mut self, mut next: impl FnMut() -> Option<(Ticket, Job)>) -> (Vec<Ticket>, Vec<Job>) {
        let (mut len, mut numbers, mut group) = (0, Vec::new(), Vec::new());
        while group.len() < GROUP_MAX
            && len < GROUP_LEN_MAX
            && let Some((number, job)) = next()
        {
            match job {
                Job::File(job) => self.files.push_back((number, job)),
                job => {
                    len += job.len();
                    numbers.push(number);
                    group.push(job);
                }
            }
        }
        let is_full = group.len() >= GROUP_MAX || len >= GROUP_LEN_MAX;
        self.full_groups = if is_full { self.full_groups + 1 } else { FULL_GROUPS_MAX };
        debug_assert!(group.len() <= GROUP_MAX && self.files.len() <= JOBS_MAX);
        (numbers, group)
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
