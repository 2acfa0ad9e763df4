//! The books on a real disk and on a simulated one.

mod power;
mod questions;

use super::books;
use super::books::{Books, INBOX_LEN_MAX, OUTBOX_MAX, RECENT_ALL_MAX, RECENT_MAX, SENDERS_MAX};
use super::job::{Done, Job, Meta, Part};
use super::schedule::JOBS_MAX;
use super::worker::Worker;
use crate::effect::Ticket;
use crate::log::writer::Writer;
use crate::mail::given_up::{GIVEN_UP_MAX, GivenUp};
use crate::mail::message::{Kind, Line, MESSAGE_LEN_MAX, Message, Outgoing, Tag};
use mio::Waker;
use pilot_core::Addr;
use pilot_core::identity::IdentityKey;
use pilot_store::sim::SimDisk;
use pilot_store::{Folder, Limits, Log};
use std::sync::Arc;

/// Small segments, so that they end and are cleaned all the time.
const LIMITS: Limits = Limits { segment_len: 2000, slack: 2000, segment_cost: 100, reserve_len: 2000 };

fn books(disk: &SimDisk, limits: Limits) -> Books<SimDisk> {
    Books::open(Log::open(disk.clone(), limits).expect("not damaged")).expect("readable")
}

fn message(n: u64, body: usize) -> Message {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&n.to_le_bytes());
    let (sender, addr) = (IdentityKey([1; 32]), Addr::new(0, 1));
    Message { id, sender, addr, kind: Kind::Json, at: 5, tag: Tag::Plain, body: vec![b'x'; body] }
}

fn of(sender: u32, n: u64) -> Message {
    let mut key = [0; 32];
    key[..4].copy_from_slice(&sender.to_le_bytes());
    Message { sender: IdentityKey(key), ..message(n, 10) }
}

fn one(books: &mut Books<SimDisk>, job: Job) -> Done {
    books.run(std::iter::once(job)).remove(0)
}

/// A folder for one test, gone afterwards.
struct Scratch(std::path::PathBuf);

impl Scratch {
    fn new() -> Self {
        let id: [u8; 8] = crate::crypto::entropy();
        let path = std::env::temp_dir().join(format!("pilot-store-{:x}", u64::from_le_bytes(id)));
        std::fs::create_dir(&path).expect("a new folder");
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn a_disk_that_is_too_far_behind_takes_no_more_jobs() {
    let poll = mio::Poll::new().expect("poll");
    let waker = Arc::new(Waker::new(poll.registry(), mio::Token(0)).expect("waker"));
    let scratch = Scratch::new();
    let (mut worker, _) = Worker::start(&scratch.0, false, waker, Writer::new(None).1).expect("a fresh folder");
    // Jobs count until their outcome was taken.
    (0..JOBS_MAX).for_each(|n| assert!(worker.submit(Ticket(n as u64), Job::Read(n as u64))));
    assert!(!worker.submit(Ticket(0), Job::Read(0)));
    while worker.poll().is_none() {
        std::thread::yield_now();
    }
    assert!(worker.submit(Ticket(0), Job::Read(0)));
    worker.stop();
}

#[test]
fn messages_are_accepted_once_and_in_order_across_reopening() {
    let disk = SimDisk::new(1);
    let mut before = books(&disk, LIMITS);
    for n in 0..100 {
        assert!(matches!(one(&mut before, Job::Deliver(message(n, 10))), Done::Delivered { fresh: true, .. }));
    }
    drop(before);
    let mut books = books(&disk, LIMITS);
    assert!(matches!(one(&mut books, Job::Deliver(message(7, 10))), Done::Delivered { fresh: false, seq: 8 }));
    let Done::Listing(listing) = one(&mut books, Job::List { limit: 1000, before: None, part: Part::All }) else {
        panic!("a listing")
    };
    assert!(listing.rows.iter().map(|r| r.1.id).eq((0..100).map(|n| message(n, 0).id)));
    assert!(matches!(one(&mut books, Job::Take(Some(vec![1, 1, 500]))), Done::Taken(1)));
    assert!(
        matches!(one(&mut books, Job::Deliver(message(0, 10))), Done::Delivered { fresh: false, .. }),
        "taken, not forgotten"
    );
    assert!(matches!(one(&mut books, Job::Next(1, Part::All)), Done::Message(Some((2, m))) if m == message(1, 10)));
    assert!(matches!(one(&mut books, Job::Take(None)), Done::Taken(99)));
    assert!(matches!(one(&mut books, Job::Next(0, Part::All)), Done::Message(None)));
}

#[test]
fn jobs_of_one_group_see_what_came_before_them() {
    let mut books = books(&SimDisk::new(1), LIMITS);
    let jobs = [
        Job::Deliver(message(1, 10)),
        Job::Deliver(message(1, 10)),
        Job::Read(1),
        Job::Deliver(message(2, 10)),
        Job::Take(None),
        Job::List { limit: 10, before: None, part: Part::All },
    ];
    let done = books.run(jobs.into_iter());
    assert!(matches!(&done[1], Done::Delivered { fresh: false, seq: 1 }));
    assert!(matches!(&done[2], Done::Message(Some((1, _)))));
    assert!(matches!(&done[4], Done::Taken(2)));
    assert!(matches!(&done[5], Done::Listing(listing) if listing.total == 0 && listing.rows.is_empty()));
}

#[test]
fn one_sender_cannot_fill_the_inbox_and_refused_messages_change_nothing() {
    let disk = SimDisk::new(1);
    let mut books = books(&disk, Limits { segment_len: 64 << 20, slack: 2 << 30, segment_cost: 0, reserve_len: 2000 });
    let large = |n| Message { body: vec![b'x'; MESSAGE_LEN_MAX], ..of(n as u32 % 5, n) };
    let mut refused = Vec::new();
    // Five senders with 240 MiB each, of 256 that each of them may have and 1024 that all may have.
    for n in 0..75 {
        if let Done::Full(why) = one(&mut books, Job::Deliver(large(n))) {
            refused.push((n, why));
        }
    }
    assert!(refused.iter().all(|(n, why)| *n >= 63 && why.contains("bytes")), "{refused:?}");
    assert_eq!(INBOX_LEN_MAX / (MESSAGE_LEN_MAX as u64 + 63), 75 - refused.len() as u64);
    let (first, _) = refused[0];
    assert!(matches!(one(&mut books, Job::Take(None)), Done::Taken(63)));
    assert!(
        matches!(one(&mut books, Job::Deliver(large(first))), Done::Delivered { fresh: true, .. }),
        "not known as had"
    );
    let of_one = |n| Message { body: vec![b'x'; MESSAGE_LEN_MAX], ..of(9, n) };
    let outcomes: Vec<Done> = (100..116).map(|n| one(&mut books, Job::Deliver(of_one(n)))).collect();
    let full = outcomes.iter().position(|done| matches!(done, Done::Full(why) if why.contains("sender's share")));
    assert_eq!(full, Some(15), "16 would be a bit more than a quarter");
}

#[test]
fn the_outbox_survives_and_has_a_maximum() {
    let disk = SimDisk::new(1);
    let mut before = books(&disk, LIMITS);
    let outgoing = Outgoing {
        id: [3; 16],
        to: IdentityKey([2; 32]),
        kind: Kind::Text,
        since: 9,
        tag: Tag::Plain,
        body: b"hi".to_vec(),
    };
    let outcomes = before.run((0..OUTBOX_MAX + 1).map(|_| Job::Queue(outgoing.clone())));
    assert!(matches!(outcomes.last(), Some(Done::Full(_))));
    assert!(matches!(outcomes[outcomes.len() - 2], Done::Queued(seq) if seq == OUTBOX_MAX as u64));
    one(&mut before, Job::Unqueue(1));
    one(&mut before, Job::Unqueue(1));
    drop(before);
    let saved = books(&disk, LIMITS).saved().expect("readable");
    assert_eq!((saved.outbox.len(), &saved.outbox[0]), (OUTBOX_MAX - 1, &(2, outgoing)));
}

#[test]
fn messages_that_were_given_up_are_remembered_up_to_a_maximum() {
    let disk = SimDisk::new(1);
    let mut before = books(&disk, LIMITS);
    let outgoing = Outgoing {
        id: [3; 16],
        to: IdentityKey([2; 32]),
        kind: Kind::Text,
        since: 9,
        tag: Tag::Plain,
        body: b"hi".to_vec(),
    };
    let row = |seq| GivenUp::new((seq, &outgoing), 5, "beta", "too old");
    for seq in 1..=GIVEN_UP_MAX as u64 + 1 {
        one(&mut before, Job::Queue(outgoing.clone()));
        assert!(matches!(one(&mut before, Job::GiveUp(row(seq))), Done::Written));
    }
    drop(before);
    let mut books = books(&disk, LIMITS);
    let saved = books.saved().expect("readable");
    let expected: Vec<GivenUp> = (2..=GIVEN_UP_MAX as u64 + 1).map(row).collect();
    assert_eq!((saved.outbox.len(), saved.given_up), (0, expected));
    assert!(matches!(one(&mut books, Job::Queue(outgoing)), Done::Queued(seq) if seq == GIVEN_UP_MAX as u64 + 2));
}

#[test]
fn nothing_is_taken_behind_a_refused_message_of_the_same_line() {
    let disk = SimDisk::new(1);
    let mut books = books(&disk, LIMITS);
    let line = Line::default();
    let deliver = |n| Job::DeliverInLine(message(n, 10), line.clone());
    assert!(matches!(one(&mut books, deliver(1)), Done::Delivered { fresh: true, .. }));
    disk.fail_after(0, false);
    let done = books.run([deliver(2), deliver(3)].into_iter());
    assert!(matches!(done[..], [Done::Failed(_), Done::Failed(_)]), "{done:?}");
    disk.heal();
    assert!(matches!(one(&mut books, deliver(3)), Done::Full(why) if why.contains("before")));
    assert!(matches!(one(&mut books, Job::Deliver(of(7, 1))), Done::Delivered { .. }), "another line");
    line.mend();
    for n in [2, 3] {
        assert!(matches!(one(&mut books, deliver(n)), Done::Delivered { fresh: true, .. }));
    }
}

#[test]
fn a_full_disk_takes_changes_of_trust_and_an_inbox_that_is_emptied_makes_room() {
    // As in a real node, the reserve is longer than the ids of the messages that were taken.
    let limits = Limits { reserve_len: 6000, ..LIMITS };
    let mut tight = 0;
    for capacity in (6700..14_000).step_by(16) {
        let disk = SimDisk::new(capacity);
        disk.limit(capacity as usize);
        let mut full = books(&disk, limits);
        let outgoing = Outgoing {
            id: [3; 16],
            to: IdentityKey([2; 32]),
            kind: Kind::Text,
            since: 9,
            tag: Tag::Plain,
            body: vec![7; 99],
        };
        one(&mut full, Job::Queue(outgoing.clone()));
        let mut had = 0;
        while matches!(one(&mut full, Job::Deliver(message(had, 70))), Done::Delivered { .. }) {
            had += 1;
        }
        // A group of both kinds: what must not wait for room is done.
        let trust = Job::Put(Meta::Trust, b"without node-b".to_vec());
        let group = [Job::Deliver(message(500, 70)), trust, Job::Queue(outgoing), Job::Unqueue(1)];
        let done = full.run(group.into_iter());
        assert!(
            matches!(&done[..], [Done::DiskFull(a), Done::Written, Done::DiskFull(b), Done::Written]
                if [a, b].iter().all(|why| why.ends_with("bytes are missing"))),
            "{capacity}: {done:?}"
        );
        full.clean();
        full = books(&disk, limits);
        let saved = full.saved().expect("readable");
        assert_eq!((saved.trust.as_deref(), saved.outbox.len()), (Some(&b"without node-b"[..]), 0), "{capacity}");
        // One by one, then the rest.
        for seq in 1..=had / 2 {
            let done = one(&mut full, Job::Take(Some(vec![seq])));
            assert!(matches!(done, Done::Taken(1)), "{capacity}: {seq} of {had}: {done:?}");
            full.clean();
        }
        let done = one(&mut full, Job::Take(None));
        assert!(matches!(done, Done::Taken(n) if n as u64 == had - had / 2), "{capacity}: {done:?}");
        full.clean();
        let is_delivered =
            matches!(one(&mut full, Job::Deliver(message(1000, 70))), Done::Delivered { fresh: true, .. });
        tight += usize::from(had > 5 && !is_delivered);
        // Nothing that was taken comes back.
        let done = one(&mut full, Job::List { limit: 99, before: None, part: Part::All });
        assert!(matches!(&done, Done::Listing(list) if list.total == u64::from(is_delivered)), "{capacity}: {done:?}");
    }
    // On a disk of four segments, the ids of taken messages can fill the oldest one; then there is room only with more of it.
    assert!(tight == 0, "{tight} of 457 disks have no room for a message");
}

#[test]
fn the_inbox_has_a_maximum_of_messages() {
    let mut books = books(&SimDisk::new(1), Limits::default());
    let max = books::INBOX_MAX as u64;
    for first in (0..max).step_by(1000) {
        // Four senders fill a quarter each.
        let done = books.run((first..first + 1000).map(|n| Job::Deliver(of((4 * first / max) as u32, n))));
        assert!(done.iter().all(|done| matches!(done, Done::Delivered { fresh: true, .. })), "{done:?}");
    }
    assert!(matches!(one(&mut books, Job::Deliver(of(9, max))), Done::Full(why) if why.contains("as many messages")));
    assert!(matches!(one(&mut books, Job::Take(Some(vec![5]))), Done::Taken(1)));
    assert!(
        matches!(one(&mut books, Job::Deliver(of(1, max))), Done::Full(why) if why.contains("share")),
        "a quarter is that of one sender"
    );
    assert!(matches!(one(&mut books, Job::Deliver(of(0, max))), Done::Delivered { fresh: true, .. }));
    assert!(matches!(one(&mut books, Job::Take(None)), Done::Taken(n) if n as u64 == max));
    assert!(
        matches!(one(&mut books, Job::List { limit: 9, before: None, part: Part::All }), Done::Listing(list) if list.total == 0)
    );
}

#[test]
fn a_senders_newest_messages_are_known_however_many_others_send() {
    let disk = SimDisk::new(1);
    let mut before = books(&disk, Limits::default());
    let known = RECENT_MAX as u64;
    before.run((0..=known).map(|n| Job::Deliver(of(1, n))));
    // Many more messages of other senders than any table could keep.
    before.run((0..50 * known).flat_map(|n| {
        let taken = (n % 1000 == 0).then_some(Job::Take(None));
        std::iter::once(Job::Deliver(of(2 + (n % 9) as u32, n))).chain(taken)
    }));
    for _ in 0..2 {
        let mut books = books(&disk, Limits::default());
        let mut is_known = |n| matches!(one(&mut books, Job::Deliver(of(1, n))), Done::Delivered { fresh: false, .. });
        assert!((1..=known).all(&mut is_known));
    }
    let mut books = books(&disk, Limits::default());
    assert!(matches!(one(&mut books, Job::Deliver(of(1, 0))), Done::Delivered { fresh: true, .. }), "one too many");
}

#[test]
fn the_sender_with_most_known_messages_loses_its_oldest() {
    let disk = SimDisk::new(1);
    let mut before = books(&disk, Limits::default());
    let full = (RECENT_ALL_MAX / RECENT_MAX) as u32;
    for sender in 0..full {
        before.run((0..RECENT_MAX as u64).map(|n| Job::Deliver(of(sender, n))).chain([Job::Take(None)]));
    }
    let quiet = 1000;
    before.run((0..5).map(|n| Job::Deliver(of(quiet, n))));
    let known = |books: &mut Books<SimDisk>, sender, n| {
        matches!(one(books, Job::Deliver(of(sender, n))), Done::Delivered { fresh: false, .. })
    };
    drop(before);
    let mut books = books(&disk, Limits::default());
    assert!((0..5).all(|n| known(&mut books, quiet, n)));
    assert!((0..full).all(|sender| known(&mut books, sender, RECENT_MAX as u64 - 1)));
    let gone = (0..full).filter(|sender| !known(&mut books, *sender, 0)).count();
    assert_eq!(gone, 5, "one each of as many senders");
}

#[test]
fn the_sender_that_was_silent_for_longest_makes_place_for_a_new_one() {
    let disk = SimDisk::new(1);
    let mut books = books(&disk, Limits::default());
    let max = SENDERS_MAX as u32;
    books.run((0..max).map(|sender| Job::Deliver(of(sender, 1))));
    assert!(
        matches!(one(&mut books, Job::Deliver(of(max, 1))), Done::Full(why) if why.contains("senders")),
        "messages of every sender are in the inbox"
    );
    assert!(matches!(one(&mut books, Job::Take(None)), Done::Taken(n) if n == SENDERS_MAX));
    books.run([Job::Deliver(of(0, 2)), Job::Deliver(of(max, 1))].into_iter());
    for (sender, fresh) in [(0, false), (2, false), (max, false), (1, true)] {
        let done = one(&mut books, Job::Deliver(of(sender, 1)));
        assert!(matches!(done, Done::Delivered { fresh: f, .. } if f == fresh), "{sender}: {done:?}");
    }
}

#[test]
fn a_real_folder_keeps_what_was_written() {
    let scratch = Scratch::new();
    let open = || {
        let folder = Folder::open(scratch.0.join("books")).expect("a folder");
        Books::open(Log::open(folder, LIMITS).expect("not damaged")).expect("readable")
    };
    let mut books = open();
    for n in 0..100 {
        books.run([Job::Deliver(message(n, 100)), Job::Put(Meta::Profile, vec![n as u8; 50])].into_iter());
        if n % 3 > 0 {
            books.run(std::iter::once(Job::Take(Some(vec![n]))));
        }
        books.clean();
    }
    std::fs::write(scratch.0.join("books/of somebody else"), b"").expect("written");
    drop(books);
    let mut books = open();
    assert_eq!(books.saved().expect("readable").profile, Some(vec![99; 50]));
    let done = books.run([Job::List { limit: 1000, before: None, part: Part::All }, Job::Read(100)].into_iter());
    assert!(matches!(&done[0], Done::Listing(listing) if listing.total == 34));
    assert!(matches!(&done[1], Done::Message(Some((100, m))) if *m == message(99, 100)));
    assert!(std::fs::read_dir(scratch.0.join("books")).expect("there").count() < 20);
}
