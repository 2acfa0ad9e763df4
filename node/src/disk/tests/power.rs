//! Random work on a disk that fails and loses its power, against a model. `PILOT_SEED=n` runs one seed alone.

use super::{LIMITS, books, message};
use crate::disk::books::Books;
use crate::disk::job::{Done, Job, Meta, Part};
use crate::mail::message::{Kind, Outgoing, Tag};
use pilot_core::identity::IdentityKey;
use pilot_store::sim::SimDisk;

const SEEDS: u64 = 10_000;
const SENDERS: u64 = 3;
/// A sender sends none but its newest messages again. Source: `outbox::IN_FLIGHT_MAX`, made small.
const AGAIN: usize = 8;

/// The expected contents of the books.
#[derive(Clone, Debug, Default, PartialEq)]
struct Model {
    /// Sender, id, length, in the order of arrival.
    inbox: Vec<(u64, u64, usize)>,
    outbox: Vec<u64>,
    meta: [Option<Vec<u8>>; 3],
    /// Ids of the messages that have arrived from each sender.
    had: [Vec<u64>; SENDERS as usize],
}

#[derive(Clone, Debug)]
enum Step {
    Deliver { sender: u64, id: u64, len: usize },
    Queue(u64),
    Unqueue(u64),
    Put(Meta, Vec<u8>),
    Take(Vec<u64>),
}

impl Model {
    fn apply(&mut self, step: &Step) {
        match step {
            Step::Deliver { sender, id, len } => {
                let had = &mut self.had[*sender as usize];
                if !had.contains(id) {
                    had.push(*id);
                    self.inbox.push((*sender, *id, *len));
                }
            }
            Step::Queue(id) => self.outbox.push(*id),
            Step::Unqueue(id) => self.outbox.retain(|x| x != id),
            Step::Put(what, value) => self.meta[*what as usize - 1] = Some(value.clone()),
            Step::Take(ids) => self.inbox.retain(|(_, id, _)| !ids.contains(id)),
        }
    }

    fn with(&self, steps: &[Step]) -> Self {
        let mut after = self.clone();
        steps.iter().for_each(|step| after.apply(step));
        after
    }
}

fn number(id: [u8; 16]) -> u64 {
    u64::from_le_bytes(*id.first_chunk().expect("16 bytes"))
}

fn outgoing(id: u64) -> Outgoing {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&id.to_le_bytes());
    let body = vec![b'o'; id as usize % 50];
    Outgoing { id: bytes, to: IdentityKey([2; 32]), kind: Kind::Text, since: 9, tag: Tag::Plain, body }
}

fn listed(books: &mut Books<SimDisk>) -> Vec<(u64, crate::mail::message::Message, usize)> {
    let done = books.run(std::iter::once(Job::List { limit: usize::MAX, before: None, part: Part::All })).remove(0);
    let Done::Listing(listing) = done else { panic!("{done:?}") };
    assert_eq!(listing.total as usize, listing.rows.len());
    listing.rows
}

/// The contents of the books as their jobs tell them; the ids that have arrived come from `had`.
fn look(books: &mut Books<SimDisk>, had: &Model) -> Model {
    let inbox = listed(books).iter().map(|(_, m, len)| (u64::from(m.sender.0[0]), number(m.id), *len)).collect();
    let saved = books.saved().expect("readable");
    for (_, waiting) in &saved.outbox {
        assert_eq!(*waiting, outgoing(number(waiting.id)));
    }
    let addr = (saved.addr != pilot_core::Addr::default()).then(|| saved.addr.to_bytes().to_vec());
    Model {
        inbox,
        outbox: saved.outbox.iter().map(|(_, m)| number(m.id)).collect(),
        meta: [saved.trust, addr, saved.profile],
        had: had.had.clone(),
    }
}

struct World {
    seed: u64,
    disk: SimDisk,
    next_id: u64,
    /// The contents after the last confirmed group.
    model: Model,
    /// Contents that a later, failed group may have left on the disk.
    unsure: Vec<Model>,
}

impl World {
    fn steps(&mut self) -> Vec<Step> {
        let disk = self.disk.clone();
        if disk.below(4) == 0 {
            let taken: Vec<u64> = self.model.inbox.iter().map(|m| m.1).filter(|_| disk.below(2) == 0).collect();
            return vec![Step::Take(taken)];
        }
        (0..=disk.below(6))
            .map(|_| match disk.below(10) {
                0 => Step::Put(Meta::Trust, vec![b't'; disk.below(300) as usize]),
                1 => Step::Put(Meta::Addr, [1, 2, 3, 4, 5, disk.below(9) as u8].to_vec()),
                2 => Step::Put(Meta::Profile, vec![b'p'; disk.below(30) as usize]),
                3 if !self.model.outbox.is_empty() => {
                    Step::Unqueue(self.model.outbox[disk.below(self.model.outbox.len() as u64) as usize])
                }
                3 | 4 => {
                    self.next_id += 1;
                    Step::Queue(self.next_id)
                }
                _ => {
                    let sender = disk.below(SENDERS);
                    let had = &self.model.had[sender as usize];
                    if disk.below(3) == 0 && !had.is_empty() {
                        let back = disk.below(AGAIN.min(had.len()) as u64) as usize;
                        return Step::Deliver { sender, id: had[had.len() - 1 - back], len: 0 };
                    }
                    self.next_id += 1;
                    Step::Deliver { sender, id: self.next_id, len: disk.below(200) as usize }
                }
            })
            .collect()
    }

    fn job(&self, step: &Step, books: &mut Books<SimDisk>) -> Job {
        match step {
            Step::Deliver { sender, id, len } => {
                let mut message = message(*id, *len);
                message.sender = IdentityKey([*sender as u8; 32]);
                Job::Deliver(message)
            }
            Step::Queue(id) => Job::Queue(outgoing(*id)),
            Step::Unqueue(id) => {
                let rows = books.saved().expect("readable").outbox;
                Job::Unqueue(rows.iter().find(|(_, m)| number(m.id) == *id).map_or(0, |(seq, _)| *seq))
            }
            Step::Put(what, value) => Job::Put(*what, value.clone()),
            Step::Take(ids) => {
                let rows = listed(books);
                Job::Take(Some(
                    rows.iter().filter(|(_, m, _)| ids.contains(&number(m.id))).map(|(seq, ..)| *seq).collect(),
                ))
            }
        }
    }

    /// Checks that the books hold the confirmed contents, or these and one group that failed.
    fn check(&mut self, books: &mut Books<SimDisk>) {
        let seen = look(books, &self.model);
        let same = |model: &Model| Model { had: seen.had.clone(), ..model.clone() } == seen;
        let found = std::iter::once(&self.model).chain(&self.unsure).find(|model| same(model)).cloned();
        let Some(found) = found else {
            panic!("PILOT_SEED={}: the books hold {seen:?}, not {:?} or {:?}", self.seed, self.model, self.unsure)
        };
        self.model = found;
        self.unsure.clear();
        for (sender, had) in self.model.had.iter().enumerate() {
            for id in had.iter().rev().take(AGAIN) {
                let mut again = message(*id, 1);
                again.sender = IdentityKey([sender as u8; 32]);
                let done = books.run(std::iter::once(Job::Deliver(again))).remove(0);
                assert!(
                    matches!(done, Done::Delivered { fresh: false, .. }),
                    "PILOT_SEED={}: {id} came twice",
                    self.seed
                );
            }
        }
    }

    fn group(&mut self, books: &mut Books<SimDisk>) {
        let steps = self.steps();
        let jobs: Vec<Job> = steps.iter().map(|step| self.job(step, books)).collect();
        let fails = self.disk.below(4) == 0;
        if fails {
            let is_cut = self.disk.below(2) == 0;
            self.disk.fail_after(self.disk.below(24) as u32, is_cut);
        }
        let done = books.run(jobs.into_iter());
        if self.disk.below(2) == 0 {
            books.clean();
        }
        let after = self.model.with(&steps);
        if done.iter().all(|done| !matches!(done, Done::Failed(_))) {
            if after != self.model {
                // After this commit, a group that failed before cannot come back.
                self.unsure.clear();
            }
            self.model = after;
        } else {
            assert!(done.iter().all(|done| matches!(done, Done::Failed(_))), "PILOT_SEED={}: {done:?}", self.seed);
            self.unsure.push(after);
        }
    }
}

fn run(seed: u64) -> usize {
    let mut world = World { seed, disk: SimDisk::new(seed), next_id: 0, model: Model::default(), unsure: Vec::new() };
    let mut books = books(&world.disk, LIMITS);
    let mut cuts = 0;
    for _ in 0..40 {
        world.group(&mut books);
        if world.disk.is_off() {
            world.disk.restart();
            cuts += 1;
        } else if world.disk.below(8) == 0 {
            // The process is killed: the system keeps the written bytes.
            world.disk.heal();
        } else {
            world.disk.heal();
            // While the process runs, a group that failed has changed nothing.
            let confirmed = world.model.clone();
            assert_eq!(look(&mut books, &confirmed), confirmed, "PILOT_SEED={seed}");
            continue;
        }
        drop(books);
        books = super::books(&world.disk, LIMITS);
        world.check(&mut books);
    }
    let (live, files) = (world.model.clone(), world.disk.files());
    let total: usize = files.iter().map(|(_, len)| len).sum();
    let most = 2 * live.inbox.iter().map(|m| m.2 + 80).sum::<usize>() + 20_000;
    assert!(total < most, "PILOT_SEED={seed}: {total} bytes in {} files", files.len());
    cuts
}

#[test]
fn no_power_cut_or_failure_loses_what_was_confirmed_or_shows_it_twice() {
    if let Some(seed) = std::env::var("PILOT_SEED").ok().and_then(|seed| seed.parse().ok()) {
        run(seed);
        return;
    }
    let cuts: usize = (0..SEEDS).map(run).sum();
    assert!(cuts > SEEDS as usize, "{cuts} cuts only");
}
