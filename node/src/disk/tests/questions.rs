//! Questions in the books of two nodes: an answer is given once and arrives once, whichever node loses its power at whichever step.

use super::{LIMITS, books, message, one};
use crate::disk::books::Books;
use crate::disk::books::questions::ASKED_MAX;
use crate::disk::job::{Asked, Done, Job, Part, Unanswerable};
use crate::mail::message::{DEADLINE_MAX_S, Kind, Message, Outgoing, QuestionName, Reply, Tag, answer_id};
use pilot_core::Addr;
use pilot_core::identity::IdentityKey;
use pilot_store::Limits;
use pilot_store::sim::SimDisk;

const ASKER: IdentityKey = IdentityKey([1; 32]);
const WRITER: IdentityKey = IdentityKey([2; 32]);
const NOW: u64 = 5000;
/// Rounds of one story. All take far fewer.
const ROUNDS_MAX: usize = 100;

fn question(n: u8) -> Outgoing {
    let tag = Tag::Question { deadline: NOW + 600 };
    Outgoing { id: [n; 16], to: WRITER, kind: Kind::Text, since: 0, tag, body: b"how many?".to_vec() }
}

/// A message as it arrives.
fn arriving(outgoing: &Outgoing, sender: IdentityKey) -> Job {
    let Outgoing { id, kind, tag, body, .. } = outgoing.clone();
    Job::Deliver(Message { id, sender, addr: Addr::new(0, 1), kind, at: NOW, tag, body })
}

fn reply(question: QuestionName, body: &[u8]) -> Job {
    Job::Reply(Reply { question, kind: Kind::Text, since: NOW, body: body.to_vec() })
}

/// A node's books, on a disk that may lose its power.
struct Side {
    disk: SimDisk,
    books: Books<SimDisk>,
    cuts: u32,
}

impl Side {
    fn new(seed: u64, cut_after: Option<u32>) -> Self {
        let disk = SimDisk::new(seed);
        let books = books(&disk, LIMITS);
        cut_after.into_iter().for_each(|steps| disk.fail_after(steps, true));
        Self { disk, books, cuts: 0 }
    }

    /// The outcome of a job; `None`: the power went, and the node starts again.
    fn run(&mut self, job: Job) -> Option<Done> {
        let done = one(&mut self.books, job);
        self.books.clean();
        if !self.disk.is_off() {
            return Some(done);
        }
        self.disk.restart();
        (self.books, self.cuts) = (books(&self.disk, LIMITS), self.cuts + 1);
        None
    }

    fn outbox(&mut self) -> Vec<(u64, Outgoing)> {
        // A node reads its outbox when it starts, with power.
        if self.disk.is_off() {
            self.disk.restart();
            (self.books, self.cuts) = (books(&self.disk, LIMITS), self.cuts + 1);
        }
        self.books.saved().map(|saved| saved.outbox).unwrap_or_default()
    }

    fn asked(&mut self, id: [u8; 16]) -> Option<(Asked, Option<Message>)> {
        match self.run(Job::Asked(id))? {
            Done::Asked(found) => found.map(|exchange| (exchange.1, exchange.2.map(|(message, _)| message))),
            _ => None,
        }
    }
}

/// Delivers what waits in an outbox, as a node does until it is acknowledged.
fn deliver(from: &mut Side, key: IdentityKey, to: &mut Side) {
    for (seq, outgoing) in from.outbox() {
        if let Some(Done::Delivered { .. } | Done::Answered(_)) = to.run(arriving(&outgoing, key)) {
            from.run(Job::Unqueue(seq));
        }
    }
}

/// A question from its asking until its answer was taken. The program that answers says something else each time. Gives the answers
/// that the asker has seen, and the number of power cuts.
fn story(seed: u64, cut: [Option<u32>; 2]) -> (Vec<Vec<u8>>, u32) {
    let [mut a, mut b] = [Side::new(seed, cut[0]), Side::new(seed + 1, cut[1])];
    let (id, mut seen, mut runs) = ([7; 16], Vec::new(), 0);
    for _ in 0..ROUNDS_MAX {
        let asked = a.asked(id);
        if asked.is_none() && seen.is_empty() {
            a.run(Job::Ask(question(7), NOW));
        }
        deliver(&mut a, ASKER, &mut b);
        if let Some(Done::Message(Some((seq, found)))) = b.run(Job::Next(0, Part::Open(NOW))) {
            assert_eq!(found.body, b"how many?");
            runs += 1;
            b.run(reply(QuestionName::Number(seq), format!("{runs}").as_bytes()));
        }
        deliver(&mut b, WRITER, &mut a);
        if let Some((asked, Some(answer))) = a.asked(id) {
            seen.push(answer.body);
            a.run(Job::Take(asked.answer.map(|seq| vec![seq])));
        }
        let is_over = !seen.is_empty() && a.outbox().is_empty() && b.outbox().is_empty();
        if is_over && matches!(a.run(Job::Asked(id)), Some(Done::Asked(None))) {
            check_end(&mut a, &mut b, id);
            return (seen, a.cuts + b.cuts);
        }
    }
    panic!("seed {seed}, cut at {cut:?}: no end after {ROUNDS_MAX} rounds");
}

/// Nothing that is sent again has an effect, and nothing is left.
fn check_end(a: &mut Side, b: &mut Side, id: [u8; 16]) {
    let again = Outgoing { id: answer_id(&id), to: ASKER, tag: Tag::Answer(id), ..question(7) };
    assert!(matches!(one(&mut a.books, arriving(&again, WRITER)), Done::Delivered { fresh: false, .. }));
    assert!(matches!(one(&mut b.books, arriving(&question(7), ASKER)), Done::Delivered { fresh: false, .. }));
    let second = one(&mut b.books, reply(QuestionName::Id(id), b"another"));
    assert!(matches!(second, Done::Unanswerable(Unanswerable::Answered)), "{second:?}");
    for side in [a, b] {
        let list = Job::List { limit: 10, before: None, part: Part::All };
        assert!(matches!(one(&mut side.books, list), Done::Listing(listing) if listing.total == 0));
    }
}

#[test]
fn a_power_cut_at_any_step_between_question_and_answer_leaves_one_answer() {
    let mut cuts = 0;
    for seed in 0..40 {
        assert_eq!(story(seed, [None, None]), (vec![b"1".to_vec()], 0));
        for side in 0..2 {
            for step in 0.. {
                let mut cut = [None, None];
                cut[side] = Some(step);
                let (seen, count) = story(seed, cut);
                assert!(seen.iter().all(|body| *body == seen[0]), "seed {seed}, {cut:?}: {seen:?}");
                cuts += count;
                if count == 0 {
                    break;
                }
            }
        }
    }
    assert!(cuts > 40 * 20, "{cuts} cuts only");
}

#[test]
fn both_nodes_may_lose_their_power_in_one_story() {
    let mut cuts = 0;
    for seed in 0..20 {
        for step in (0..30).step_by(3) {
            for other in (0..30).step_by(4) {
                let (seen, count) = story(seed, [Some(step), Some(other)]);
                assert!(seen.iter().all(|body| *body == seen[0]), "seed {seed}, {step}, {other}: {seen:?}");
                cuts += count;
            }
        }
    }
    assert!(cuts > 1000, "{cuts} cuts only");
}

/// Books with question 7 in the inbox, under number 1.
fn with_question(disk: &SimDisk) -> Books<SimDisk> {
    let mut books = books(disk, LIMITS);
    assert!(matches!(one(&mut books, arriving(&question(7), ASKER)), Done::Delivered { fresh: true, seq: 1 }));
    books
}

#[test]
fn the_same_answer_again_changes_nothing_and_another_one_is_refused() {
    let disk = SimDisk::new(1);
    let mut now = with_question(&disk);
    let name = QuestionName::Number(1);
    // Three answers in one group: the first one counts.
    let done = now.run([b"4", b"4", b"5"].map(|body| reply(name, body)).into_iter());
    let Done::Replied { question: of, entered: Some((seq, answer)) } = &done[0] else { panic!("{done:?}") };
    assert_eq!((*of, answer.id, answer.to, answer.tag), ([7; 16], answer_id(&[7; 16]), ASKER, Tag::Answer([7; 16])));
    assert!(matches!(&done[1], Done::Replied { entered: None, .. }), "{done:?}");
    assert!(matches!(&done[2], Done::Unanswerable(Unanswerable::Answered)));
    drop(now);
    let mut later = books(&disk, LIMITS);
    for name in [name, QuestionName::Id([7; 16])] {
        assert!(matches!(one(&mut later, reply(name, b"4")), Done::Replied { entered: None, .. }));
        assert!(matches!(one(&mut later, reply(name, b"5")), Done::Unanswerable(Unanswerable::Answered)));
    }
    assert_eq!(later.saved().expect("readable").outbox, [(*seq, answer.clone())]);
    let unknown = one(&mut later, reply(QuestionName::Number(9), b"4"));
    assert!(matches!(unknown, Done::Unanswerable(Unanswerable::Unknown)));
}

#[test]
fn what_a_failing_disk_does_not_have_is_not_confirmed() {
    let (mut failed, mut confirmed) = (0, 0);
    for step in 0..60 {
        let disk = SimDisk::new(step);
        let mut books = books(&disk, LIMITS);
        disk.fail_after(step as u32, false);
        // The answer and the taking need the question in the log, so each commits what came before.
        let jobs = [arriving(&question(7), ASKER), reply(QuestionName::Number(1), b"4"), Job::Ask(question(8), NOW)];
        let done = books.run(jobs.into_iter());
        disk.heal();
        let mut later = super::books(&disk, LIMITS);
        let outbox = later.saved().expect("readable").outbox;
        let has = |id: [u8; 16]| outbox.iter().any(|(_, message)| message.id == id);
        for (done, id) in [(&done[1], answer_id(&[7; 16])), (&done[2], [8; 16])] {
            match done {
                Done::Replied { .. } | Done::Queued(_) => {
                    confirmed += 1;
                    assert!(has(id), "step {step}: {done:?}");
                }
                _ => failed += 1,
            }
        }
    }
    assert!(failed > 5 && confirmed > 50, "{failed} failed, {confirmed} confirmed");
}

#[test]
fn a_question_is_handed_out_until_its_deadline_and_goes_then() {
    let disk = SimDisk::new(1);
    let mut books = with_question(&disk);
    let mut next = |now| matches!(one(&mut books, Job::Next(0, Part::Open(now))), Done::Message(Some((1, _))));
    assert_eq!((next(NOW), next(NOW + 599), next(NOW + 600)), (true, true, false));
    // It is there until the books are told the time.
    assert!(matches!(one(&mut books, Job::Expire(NOW + 599)), Done::Written));
    assert!(matches!(one(&mut books, Job::Next(0, Part::All)), Done::Message(Some((1, _)))));
    assert!(matches!(one(&mut books, Job::Expire(NOW + 600)), Done::Written));
    let late = one(&mut books, reply(QuestionName::Number(1), b"4"));
    assert!(matches!(late, Done::Unanswerable(Unanswerable::Gone)), "{late:?}");
    assert!(matches!(one(&mut books, Job::Take(None)), Done::Taken(0)), "nothing is left");
}

#[test]
fn a_question_that_failed_waits_for_its_owner() {
    let disk = SimDisk::new(1);
    let mut before = with_question(&disk);
    assert!(matches!(one(&mut before, Job::Fail(1, Some("é".repeat(300)))), Done::Written));
    assert!(matches!(one(&mut before, Job::Fail(2, None)), Done::Unanswerable(Unanswerable::Unknown)));
    drop(before);
    let mut books = books(&disk, LIMITS);
    assert!(matches!(one(&mut books, Job::Next(0, Part::Open(NOW))), Done::Message(None)));
    let failed = || Job::List { limit: 9, before: None, part: Part::Failed };
    let Done::Listing(listing) = one(&mut books, failed()) else { panic!("a listing") };
    assert_eq!((listing.total, listing.failed), (1, vec![(1, "é".repeat(127))]));
    assert!(matches!(one(&mut books, Job::Fail(1, None)), Done::Written));
    assert!(matches!(one(&mut books, Job::Next(0, Part::Open(NOW))), Done::Message(Some((1, _)))));
    one(&mut books, Job::Fail(1, Some("no".into())));
    assert!(matches!(one(&mut books, reply(QuestionName::Number(1), b"4")), Done::Replied { entered: Some(_), .. }));
    assert!(matches!(one(&mut books, failed()), Done::Listing(listing) if listing.total == 0));
}

#[test]
fn only_the_peer_that_was_asked_answers_and_only_once() {
    let mut books = books(&SimDisk::new(1), LIMITS);
    assert!(matches!(one(&mut books, Job::Ask(question(7), NOW)), Done::Queued(1)));
    let answer = |id| Outgoing { id, to: ASKER, tag: Tag::Answer([7; 16]), ..question(7) };
    let good = answer(answer_id(&[7; 16]));
    let foreign = one(&mut books, arriving(&good, IdentityKey([3; 32])));
    assert!(matches!(foreign, Done::Delivered { fresh: true, .. }), "an ordinary message: {foreign:?}");
    assert!(matches!(one(&mut books, arriving(&answer([9; 16]), WRITER)), Done::Delivered { fresh: true, .. }));
    let Done::Answered(exchange) = one(&mut books, arriving(&good, WRITER)) else { panic!("an answer") };
    assert_eq!(exchange.1.answer, Some(3));
    assert!(matches!(one(&mut books, arriving(&good, WRITER)), Done::Delivered { fresh: false, .. }));
    // Emptying the inbox leaves the answer, which is taken by its number.
    assert!(matches!(one(&mut books, Job::Take(None)), Done::Taken(2)));
    assert!(matches!(one(&mut books, Job::Read(3)), Done::Message(Some(_))));
    assert!(matches!(one(&mut books, Job::Take(Some(vec![3, 3]))), Done::Taken(1)));
    assert!(matches!(one(&mut books, Job::ListAsked { limit: 9, now: NOW }), Done::ListAsked(_, 0)));
}

#[test]
fn questions_of_this_node_have_a_maximum_and_go_when_no_answer_can_come() {
    let mut books = books(&SimDisk::new(1), Limits::default());
    let asked = |n: usize| {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&(n as u64).to_le_bytes());
        Job::Ask(Outgoing { id, ..question(0) }, NOW)
    };
    for n in 0..ASKED_MAX {
        // The questions are delivered, so that the outbox has room.
        let done = books.run([asked(n), Job::Unqueue(n as u64 + 1)].into_iter());
        assert!(matches!(done[0], Done::Queued(_)), "{n}: {done:?}");
    }
    assert!(matches!(one(&mut books, asked(ASKED_MAX)), Done::Full(_)));
    let Done::ListAsked(shown, total) = one(&mut books, Job::ListAsked { limit: 2, now: NOW }) else { panic!() };
    assert_eq!((shown.len(), shown[1].1.seq, total), (2, ASKED_MAX as u64, ASKED_MAX as u64));
    let later = NOW + 600 + DEADLINE_MAX_S;
    assert!(matches!(one(&mut books, Job::ListAsked { limit: 2, now: later }), Done::ListAsked(_, 0)));
    assert!(matches!(one(&mut books, asked(ASKED_MAX)), Done::Queued(_)));
}

#[test]
fn an_ordinary_message_is_no_question() {
    let mut books = books(&SimDisk::new(1), LIMITS);
    one(&mut books, Job::Deliver(message(1, 10)));
    let done = one(&mut books, reply(QuestionName::Number(1), b"4"));
    assert!(matches!(done, Done::Unanswerable(Unanswerable::Unknown)), "{done:?}");
    assert!(matches!(one(&mut books, Job::Next(0, Part::Open(NOW))), Done::Message(None)));
    assert!(matches!(one(&mut books, Job::Next(0, Part::All)), Done::Message(Some((1, _)))));
}
