//! A trusted peer with every grant and bad intentions, beside an honest one. Time is simulated, that of the disk and of the loop
//! too; the rooms are the true ones.

use super::*;
use crate::disk::files::{FileJob, Files, Room};
use crate::disk::part::SYNC_EVERY;
use crate::disk::schedule::Schedule;
use crate::mail::frame::{FILE, emit_frame, emit_tagged};
use crate::mail::message::{Kind, Tag};
use crate::mail::receive_file::sender;
use crate::services::event::Published as Event1002;
use crate::services::{DATA_EXCHANGE, ECHO, EVENT_STREAM, PORTS, STDIO};
use crate::tests::{STEP, key};
use pilot_core::time::Duration;
use pilot_stack::Recv;
use std::collections::VecDeque;

/// Time that serving a stream takes: a whole slice of a service.
const SERVING: Duration = Duration::from_micros(60);
/// Time of one sync, of bytes that are written, and of looking through a folder, on a slow disk.
const SYNC: Duration = Duration::from_millis(4);
const BYTES_PER_MS: u64 = 100_000;
const OPENING: Duration = Duration::from_millis(1);
/// Room of the disk for all that the tricks announce, and for one of their idle files. Unit: bytes.
const PLENTY: Room = Room { free: 1 << 40, all: 1 << 40 };
const TIGHT: Room = Room { free: 4 << 30, all: 1 << 40 };
/// Steps in which things are measured: two seconds.
const STEPS: usize = 400;
/// The promise to honest peers.
const ACK_MAX: Duration = Duration::from_millis(100);

/// A disk in simulated time, which does its jobs in the order of the true one.
struct Disk {
    paper: Paper,
    schedule: Schedule,
    files: Files,
    folder: std::path::PathBuf,
    busy_until: Instant,
    unsynced: u64,
    done: VecDeque<(Instant, Ticket, Done)>,
    stored: u64,
}

impl Disk {
    fn new(paper: Paper, name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("pilot-hostile-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        let (schedule, mut files) = (Schedule::default(), Files::new(folder.clone()));
        files.room = |_| Ok(PLENTY);
        let (busy_until, done) = (Instant::ZERO, VecDeque::new());
        Self { paper, schedule, files, folder, busy_until, unsynced: 0, done, stored: 0 }
    }

    /// Does what can be begun before `now`, and tells what is done then.
    fn run(&mut self, now: Instant) {
        while self.busy_until <= now {
            let (numbers, group) = self.schedule.group(|| self.paper.jobs.try_recv().ok());
            let pieces = self.schedule.file_turn();
            if group.is_empty() && pieces.is_empty() {
                break;
            }
            let mut at = self.busy_until.max(now);
            if !group.is_empty() {
                at = at + SYNC + writing(group.iter().map(Job::len).sum::<usize>() as u64);
                for (ticket, job) in numbers.into_iter().zip(group) {
                    self.stored += 1;
                    let done = match job {
                        Job::Deliver(_) | Job::DeliverInLine(..) => Done::Delivered { fresh: true, seq: self.stored },
                        Job::Queue(_) => Done::Queued(self.stored),
                        _ => Done::Written,
                    };
                    self.done.push_back((at, ticket, done));
                }
            }
            for (ticket, job) in pieces {
                at = at + self.cost(&job);
                self.done.push_back((at, ticket, Done::File(self.files.run(job))));
            }
            self.busy_until = at;
        }
        while self.done.front().is_some_and(|(at, ..)| *at <= now) {
            let (_, ticket, done) = self.done.pop_front().expect("looked at");
            self.paper.done.send((ticket, done)).expect("the loop lives");
        }
    }

    fn cost(&mut self, job: &FileJob) -> Duration {
        match job {
            FileJob::Open { .. } => OPENING,
            FileJob::Data { bytes, .. } => {
                self.unsynced += bytes.len() as u64;
                if self.unsynced < SYNC_EVERY { Duration::ZERO } else { self.sync() }
            }
            FileJob::End { .. } => self.sync() + SYNC * 2,
            FileJob::Drop { .. } | FileJob::List | FileJob::Measure => self.sync(),
        }
    }

    fn sync(&mut self) -> Duration {
        SYNC + writing(std::mem::take(&mut self.unsynced))
    }
}

fn writing(len: u64) -> Duration {
    Duration::from_micros(len * 1000 / BYTES_PER_MS)
}

/// Node 0 with its rooms and disk; node 1 is hostile, node 2 honest.
pub(super) struct World {
    pub(super) lab: Lab,
    pub(super) rooms: Rooms,
    disk: Disk,
    /// Time for which the loop still works on its last turn.
    behind: Duration,
}

impl World {
    pub(super) fn new(name: &str) -> Self {
        let mut lab = Lab::friends(3);
        let placeholder = Lab::alone().nodes.pop().expect("a node");
        let (mut rooms, paper) = rooms_of(std::mem::replace(&mut lab.nodes[0], placeholder));
        rooms.streams.serve_ports(&mut rooms.cx, &PORTS, STDIO);
        rooms.turns.simulated = Some((SERVING, Duration::ZERO));
        Self { lab, rooms, disk: Disk::new(paper, name), behind: Duration::ZERO }
    }

    pub(super) fn now(&self) -> Instant {
        self.lab.nodes[2].now
    }

    /// Moves datagrams, runs the disk, and lets the loop make a turn, unless it is still in the last one.
    pub(super) fn step(&mut self) {
        std::mem::swap(&mut self.lab.nodes[0], &mut self.rooms.cx);
        self.lab.step();
        std::mem::swap(&mut self.lab.nodes[0], &mut self.rooms.cx);
        self.disk.run(self.now());
        if self.behind >= STEP {
            self.behind -= STEP;
            return;
        }
        self.rooms.handle_disk();
        self.rooms.handle_timeout();
        let spent = |rooms: &Rooms| rooms.turns.simulated.expect("set").1;
        let begin = spent(&self.rooms) - self.behind;
        loop {
            while let Some(event) = self.rooms.cx.stack.poll_event() {
                self.rooms.handle_event(event);
            }
            if spent(&self.rooms) - begin >= STEP || !self.rooms.serve_ready() {
                break;
            }
        }
        self.behind = (spent(&self.rooms) - begin).saturating_sub(STEP);
        (1..3).for_each(|node| while self.lab.nodes[node].stack.poll_event().is_some() {});
    }

    pub(super) fn open(&mut self, node: usize, port: u16) -> StreamId {
        let cx = &mut self.lab.nodes[node];
        let hub = cx.stack.endpoint().peer_by_identity(&key(0)).expect("trusted");
        cx.stack.connect(cx.now, hub, port).expect("trusted")
    }

    pub(super) fn write(&mut self, node: usize, id: StreamId, bytes: &[u8]) -> usize {
        self.lab.nodes[node].stack.send(id, bytes).unwrap_or(0)
    }

    /// Memory that the hostile peer makes node 0 hold, and the most.
    fn memory(&self) -> (usize, usize) {
        let stack = &self.rooms.cx.stack;
        let usage = stack.usage(stack.endpoint().peer_by_identity(&key(1)).expect("trusted"));
        (usage.memory, usage.memory_max)
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.disk.folder);
    }
}

/// What one stream of the hostile peer does, for ever.
#[derive(Clone, Copy)]
pub(super) enum Trick {
    /// A text that never ends.
    Text,
    /// A frame of 16 MiB of which the last byte never comes.
    Unfinished,
    /// Messages as short as they can be.
    TinyMessages,
    /// An announced file of 3 GiB without a byte.
    IdleFile,
    /// The same transfer opened and broken off, and pieces that belong to no file.
    Restarts,
    /// Files of five bytes.
    TinyFiles,
    /// Echoes that it does not read.
    UnreadEcho,
    /// Events for everyone, of which it reads none.
    Events,
}

pub(super) const TRICKS: [(Trick, usize); 8] = [
    (Trick::Text, 60),
    (Trick::Unfinished, 20),
    (Trick::TinyMessages, 10),
    (Trick::IdleFile, 8),
    (Trick::Restarts, 10),
    (Trick::TinyFiles, 4),
    (Trick::UnreadEcho, 10),
    (Trick::Events, 20),
];

struct Bad {
    trick: Trick,
    id: StreamId,
    /// Bytes that found no room.
    rest: Vec<u8>,
}

impl Trick {
    pub(super) const fn port(self) -> u16 {
        match self {
            Self::Text => STDIO,
            Self::UnreadEcho => ECHO,
            Self::Events => EVENT_STREAM,
            _ => DATA_EXCHANGE,
        }
    }

    /// The first bytes.
    pub(super) fn begin(self, number: u8) -> Vec<u8> {
        match self {
            Self::Unfinished => [2u32.to_be_bytes(), (16u32 << 20).to_be_bytes()].concat(),
            Self::IdleFile => sender::open(&[number; 16], 3 << 30, &[number; 32], "idle"),
            Self::Events => Event1002::emit("*", b""),
            _ => Vec::new(),
        }
    }

    /// Some more bytes.
    pub(super) fn go_on(self, number: u8) -> Vec<u8> {
        match self {
            Self::Text | Self::Unfinished | Self::UnreadEcho => vec![b'x'; 32 << 10],
            Self::TinyMessages => emit_tagged(&[number; 16], Tag::Plain, Kind::Text, b"").repeat(300),
            Self::IdleFile => Vec::new(),
            Self::Restarts => {
                let open = sender::open(&[9; 16], 3 << 30, &[9; 32], "again");
                [open, sender::data(&[9; 16], 7, b"x"), sender::data(&[8; 16], 0, b"x").repeat(100)].concat()
            }
            Self::TinyFiles => emit_frame(FILE, &[&1u16.to_be_bytes(), b"f", b"hello"]).repeat(20),
            Self::Events => Event1002::emit("a", b"x").repeat(2000),
        }
    }
}

/// The streams of the hostile peer. Those that the node ends are opened anew.
fn misbehave(world: &mut World, bad: &mut [Bad]) {
    for (number, bad) in bad.iter_mut().enumerate() {
        let stack = &world.lab.nodes[1].stack;
        if stack.broken(bad.id).is_some() {
            let now = world.now();
            world.lab.nodes[1].stack.close(now, bad.id);
            (bad.id, bad.rest) = (world.open(1, bad.trick.port()), bad.trick.begin(number as u8));
        }
        if bad.rest.is_empty() {
            bad.rest = bad.trick.go_on(number as u8);
        }
        let sent = world.write(1, bad.id, &bad.rest);
        bad.rest.drain(..sent);
    }
}

/// What the honest peer got.
#[derive(Debug)]
struct Got {
    /// Bytes that came back from the echo.
    echoed: usize,
    acks: usize,
    /// Longest wait for an acknowledgement.
    slowest: Duration,
    /// A file was acknowledged.
    has_file: bool,
    /// Most memory of the hostile peer.
    memory: usize,
}

fn run(world: &mut World, bad: &mut [Bad]) -> Got {
    let [echo, mail, files] = [ECHO, DATA_EXCHANGE, DATA_EXCHANGE].map(|port| world.open(2, port));
    let mut got = Got { echoed: 0, acks: 0, slowest: Duration::ZERO, has_file: false, memory: 0 };
    // The hostile peer was there before, and stays as it is.
    for _ in 0..STEPS / 2 {
        misbehave(world, bad);
        world.step();
    }
    let (mut buffer, mut asked) = (vec![0; 256 << 10], VecDeque::new());
    let file = emit_frame(FILE, &[&1u16.to_be_bytes(), b"f", &[7; 100_000]]);
    assert_eq!(world.write(2, files, &file), file.len());
    for step in 0..STEPS {
        misbehave(world, bad);
        world.write(2, echo, &buffer[..64 << 10]);
        if step % 10 == 0 {
            let frame = emit_tagged(&[step as u8; 16], Tag::Plain, Kind::Text, b"hello");
            assert_eq!(world.write(2, mail, &frame), frame.len());
            asked.push_back(world.now());
        }
        world.step();
        let now = world.now();
        let stack = &mut world.lab.nodes[2].stack;
        while let Recv::Data(n) = stack.recv(echo, &mut buffer) {
            got.echoed += n;
        }
        let answer = crate::mail::frame::emit_answer("ACK TEXT 5 bytes");
        while let Recv::Data(n) = stack.recv(mail, &mut buffer) {
            assert!(n % answer.len() == 0 && buffer[..n].chunks(answer.len()).all(|chunk| chunk == answer));
            for at in asked.drain(..n / answer.len()) {
                got.slowest = got.slowest.max(now.since(at));
                got.acks += 1;
            }
        }
        if let Recv::Data(n) = stack.recv(files, &mut buffer) {
            got.has_file |= String::from_utf8_lossy(&buffer[..n]).contains("ACK FILE");
        }
        let (memory, most) = world.memory();
        got.memory = got.memory.max(memory);
        assert!(memory <= most, "{memory} of {most}");
    }
    let late = asked.front().map_or(Duration::ZERO, |at| world.now().since(*at));
    got.slowest = got.slowest.max(late);
    got
}

/// Prints what the others lose (`--nocapture`). Without budgets such a peer made a node hold 1.06 GB by 60 streams to port 1000
/// alone, and others' acknowledgements waited 5 s.
#[test]
fn a_peer_with_every_grant_and_bad_intentions_costs_the_others_a_tenth_at_most() {
    let alone = run(&mut World::new("alone"), &mut []);
    cost_at_most_a_tenth(World::new("beside"), &alone);
}

/// Most files are refused, so that streams end while others of their answers wait for the disk.
#[test]
fn such_a_peer_costs_as_little_on_a_disk_that_is_nearly_full() {
    let alone = run(&mut World::new("alone-tight"), &mut []);
    let mut world = World::new("tight");
    world.disk.files.room = |_| Ok(TIGHT);
    cost_at_most_a_tenth(world, &alone);
}

fn cost_at_most_a_tenth(mut world: World, alone: &Got) {
    let tricks = TRICKS.iter().flat_map(|(trick, count)| std::iter::repeat_n(*trick, *count));
    let mut bad: Vec<Bad> = tricks
        .enumerate()
        .map(|(n, trick)| Bad { trick, id: world.open(1, trick.port()), rest: trick.begin(n as u8) })
        .collect();
    let beside = run(&mut world, &mut bad);
    let (held, most) = (beside.memory, world.memory().1);
    let rate = |got: &Got| got.echoed as f64 / (STEPS as f64 * STEP.as_secs_f64()) / 1e6;
    println!(
        "a hostile peer with {} streams: held {:.1} MB of {:.0} MB at most; an honest peer: {:.1} MB/s of echoes beside {:.1} MB/s \
         alone, slowest acknowledgement {:.0?} beside {:.0?} alone (simulated time)",
        bad.len(),
        held as f64 / 1e6,
        most as f64 / 1e6,
        rate(&beside),
        rate(alone),
        beside.slowest,
        alone.slowest
    );
    assert!(alone.echoed > 20 << 20 && alone.has_file && alone.acks > 30, "{alone:?}");
    assert!(beside.echoed * 10 >= alone.echoed * 9, "{beside:?} beside {alone:?}");
    assert!(beside.slowest <= ACK_MAX, "{beside:?} beside {alone:?}");
    assert!(beside.has_file && beside.acks + 2 >= alone.acks, "{beside:?} beside {alone:?}");
    assert!(beside.memory > 1 << 20 && world.disk.stored > 1000, "the peer has tried: {beside:?}");

    // Everything is given back.
    let now = world.now();
    bad.iter().for_each(|bad| world.lab.nodes[1].stack.abort(now, bad.id));
    for _ in 0..STEPS {
        world.step();
    }
    let stack = &world.rooms.cx.stack;
    let left: Vec<_> = stack.streams().map(|id| (id, stack.stream_info(id))).collect();
    assert_eq!((world.memory().0, world.rooms.services.held()), (0, (3, 0, 0)), "{left:#?}");
}
