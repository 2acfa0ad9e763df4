//! Random worlds: under faults of nodes, NATs, links and the rendezvous a reader gets a prefix of the written bytes, and once
//! the faults stop every stream works again. A failure prints its seed; `PILOT_SEED` repeats that seed,
//! and `PILOT_SEEDS=30000..30500` runs a range. What happens in a world follows from its range: from 0, 10,000 (`KNOWING`),
//! 20,000 (`BESIEGED`) and 30,000 (`EVERYTHING`) on.
//! See `docs/testing.md, "Invariants of the random worlds"`.
#![allow(clippy::unwrap_used, reason = "tests")]

use pilot_core::control::Query;
use pilot_core::rng::Rng;
use pilot_core::time::Duration;
use pilot_core::{Instant, PeerId};
use pilot_rendezvous::Rendezvous;
use pilot_stack::{Event, Recv, StreamId};
use pilot_tests::{Conditions, NatKind, NodeIndex, Siege, World};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};

const MS: Duration = Duration::from_millis(1);
const NODES: usize = 3;
const PAIRS: [(NodeIndex, NodeIndex); 3] = [(0, 1), (0, 2), (1, 2)];
const PORT: u16 = 1000;
/// Time of the faults.
const CHAOS: Duration = Duration::from_secs(60);
/// Time after the faults in which everything pending is delivered and every end learns which streams are over.
const CALM: Duration = Duration::from_secs(60);
/// Longest time until a node that moved without a notice is reached again: its next keepalive, after 27.5 s at most, shows the
/// rendezvous the new address, and the other's next INIT, after 5.4 s at most, arrives there.
const FOUND_AGAIN: Duration = Duration::from_secs(34);
/// Seeds of worlds that have found faults.
const FOUND: [u64; 30] = [
    5, 40, 56, 247, 290, 309, 569, 692, 1002, 1006, 1057, 1091, 1395, 1678, 2152, 2283, 2604, 3154, 3156, 3537, 4651,
    5743, 6719, 20_029, 20_049, 20_058, 20_073, 20_088, 20_116, 30_163,
];
/// First seed of the worlds where the system tells some nodes that they roam.
const KNOWING: u64 = 10_000;
/// First seed of the worlds that strangers attack, beside all other faults. An honest node that the rendezvous knows is served
/// within two seconds all the time.
const BESIEGED: u64 = 20_000;
/// First seed of the worlds with everything: beside all of that disks are full, power is cut, clocks step by seconds to a year,
/// a peer with valid keys breaks its control streams, and an honest peer of node 0 has a session two seconds after it needs one.
const EVERYTHING: u64 = 30_000;
/// Worlds that run when no seeds are given, as (first seed, number): with those of [`FOUND`] 180, in about three minutes of one
/// core with the optimizations of the profile `dev`. One takes 0.25 s, with strangers 0.5 s, with everything 1 s.
const SAMPLES: [(u64, u64); 4] = [(0, 60), (KNOWING, 25), (BESIEGED, 35), (EVERYTHING, 30)];
/// Streams of the traitor at once.
const BETRAYALS_MAX: usize = 8;
/// Port for the streams of the traitor, which the nodes have granted.
const OTHER_PORT: u16 = 7;
/// Longest time that a disk takes. Unit: microseconds.
const DISK_US_MAX: u64 = 25_000;
/// Steps of a clock. Unit: seconds.
const STEPS_S: [i64; 6] = [2, 90, 3600, 25 * 3600, 40 * 24 * 3600, 365 * 24 * 3600];
/// Streams under way at once.
const STREAMS_MAX: usize = 12;

/// One end of a stream, as its application sees it.
#[derive(Debug)]
struct End {
    node: NodeIndex,
    id: StreamId,
    written: u64,
    read: u64,
    /// The application has ended its own direction.
    finished: bool,
    /// The application has read the end of the other direction.
    saw_fin: bool,
    /// The stream broke at this end, or the process of this end was killed.
    broken: bool,
    /// The application has closed the stream.
    closed: bool,
}

impl End {
    const fn new(node: NodeIndex, id: StreamId) -> Self {
        Self { node, id, written: 0, read: 0, finished: false, saw_fin: false, broken: false, closed: false }
    }
}

/// A stream, as its two ends know it. The opener sends the name of the talk in the first eight bytes.
struct Talk {
    ends: [Option<End>; 2],
    opened: Instant,
}

/// An accepted stream before its name has arrived whole.
struct Newcomer {
    node: NodeIndex,
    id: StreamId,
    name: Vec<u8>,
}

struct Chaos {
    /// The system tells some of the nodes that roam.
    knows_moves: bool,
    /// Strangers attack now and then, and the rendezvous restarts.
    is_besieged: bool,
    /// The machine with broken control streams, in worlds with everything, and its streams.
    traitor: Option<(NodeIndex, VecDeque<StreamId>)>,
    world: World,
    rng: Rng,
    talks: BTreeMap<u64, Talk>,
    /// Names of talks that reached the other side.
    arrived: BTreeSet<u64>,
    newcomers: Vec<Newcomer>,
    next: u64,
    hidden: Option<Rendezvous>,
    log: Vec<String>,
}

/// Returns the byte that side `side` of talk `name` writes at `position`.
fn byte(name: u64, side: usize, position: u64) -> u8 {
    let x = (name * 2 + side as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(position);
    (x.wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 40) as u8
}

fn first_bytes(name: u64, len: u64) -> Vec<u8> {
    (0..len).map(|i| if i < 8 { name.to_be_bytes()[i as usize] } else { byte(name, 0, i) }).collect()
}

impl Chaos {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::new([seed as u8, (seed >> 8) as u8, (seed >> 16) as u8, 77].repeat(8).try_into().unwrap());
        let mut world = World::new(seed, NODES);
        for node in 0..NODES {
            match rng.below(3) {
                // Its friend reaches it.
                _ if node == 0 && seed >= EVERYTHING => {}
                0 => world.set_nat(node, NatKind::PortRestricted),
                1 => world.set_nat(node, NatKind::Symmetric),
                _ => {}
            }
        }
        for (a, b) in PAIRS {
            world.make_friends(a, b);
        }
        let has_everything = seed >= EVERYTHING;
        let traitor = has_everything.then(|| {
            world.add_friend(0);
            (0..NODES).for_each(|node| world.set_disk_delay(node, 0..DISK_US_MAX));
            (world.add_traitor(), VecDeque::new())
        });
        for node in &mut world.nodes {
            node.stack.listen(PORT).unwrap();
            node.events.clear();
        }
        let is_besieged = seed >= BESIEGED;
        if is_besieged {
            world.add_witness();
            world.run_for(Duration::from_secs(2));
        }
        Self {
            knows_moves: seed >= KNOWING,
            is_besieged,
            traitor,
            world,
            rng,
            talks: BTreeMap::new(),
            arrived: BTreeSet::new(),
            newcomers: Vec::new(),
            next: 1,
            hidden: None,
            log: Vec::new(),
        }
    }

    fn note(&mut self, what: String) {
        self.log.push(format!("{:?} {what}", self.world.now));
    }

    fn peer(&self, node: NodeIndex, other: NodeIndex) -> PeerId {
        self.world.peer(node, other)
    }

    fn open(&mut self, a: NodeIndex, b: NodeIndex, early: u64) -> u64 {
        let (name, now, peer) = (self.next, self.world.now, self.peer(a, b));
        self.next += 1;
        let bytes = if early == 0 { Vec::new() } else { first_bytes(name, early.max(8)) };
        let id = self.world.nodes[a].stack.connect_with(now, peer, PORT, bytes.clone()).unwrap();
        let mut end = End::new(a, id);
        end.written = bytes.len() as u64;
        self.talks.insert(name, Talk { ends: [Some(end), None], opened: now });
        self.note(format!("{a} opens {name} to {b}, {} bytes early", bytes.len()));
        name
    }

    /// Makes one fault.
    fn fault(&mut self) {
        let node = self.rng.below(NODES as u64) as usize;
        match self.rng.below(8) {
            0 if self.knows_moves && self.rng.below(2) == 0 => {
                self.world.roam_knowingly(node);
                self.note(format!("{node} roams and knows it"));
            }
            0 => {
                self.world.roam(node);
                self.note(format!("{node} roams"));
            }
            1 => {
                self.world.reboot_nat(node);
                self.note(format!("{node}'s NAT reboots"));
            }
            2 => self.restart(node),
            3 => {
                self.world.lose_what_is_under_way();
                self.note("everything under way is lost".into());
            }
            4 => {
                // The rendezvous is absent for a while and keeps its books.
                match self.hidden.is_some() {
                    true => self.show_rendezvous(),
                    false => self.hidden = self.world.rendezvous.take(),
                }
                self.note(format!("rendezvous is there: {}", self.world.rendezvous.is_some()));
            }
            5 if self.rng.below(3) == 0 => {
                self.world.nodes[node].stack.endpoint_mut().close_all();
                self.note(format!("{node} says farewell"));
                self.world.run_for(MS * self.rng.below(50) as u32);
                self.restart(node);
            }
            _ => {
                let loss = [0, 10, 100, 300, 1000][self.rng.below(5) as usize];
                let conditions = Conditions {
                    delay: MS * (1 + self.rng.below(100) as u32),
                    loss,
                    reorder: self.rng.below(200),
                    duplicate: self.rng.below(200),
                    corrupt: self.rng.below(5),
                    ..Conditions::default()
                };
                self.note(format!("loss {loss} ‰, delay {:?}", conditions.delay));
                self.world.set_conditions(conditions);
            }
        }
    }

    fn fault_of_strangers(&mut self) {
        if self.rng.below(4) == 0 && self.hidden.is_none() {
            self.world.restart_rendezvous();
            return self.note("the rendezvous restarts".into());
        }
        let siege = Siege {
            addresses: [1, 3, 1000][self.rng.below(3) as usize],
            per_second: 100 + self.rng.below(2000),
            lasts: MS * (500 + self.rng.below(3000) as u32),
        };
        let seed = self.rng.u64();
        self.world.besiege(siege, seed);
        self.note(format!("{siege:?}"));
    }

    /// Makes one fault of a machine: of its disk, its clock or its power.
    fn fault_of_machines(&mut self) {
        let node = self.rng.below(NODES as u64) as usize;
        match self.rng.below(6) {
            0 | 1 => {
                let room = (self.rng.below(2) == 0).then(|| self.rng.below(4) as u32);
                self.world.set_disk_room(node, room);
                self.note(format!("{node}'s disk has room for {room:?} saves"));
            }
            2 => {
                let is_full = self.rng.below(2) == 0;
                self.world.set_rendezvous_full(is_full);
                self.note(format!("the disk of the rendezvous is full: {is_full}"));
            }
            3 => {
                self.begin_anew(node, World::cut_power);
                self.note(format!("{node} loses its power"));
            }
            _ => {
                let step_s = STEPS_S[self.rng.below(STEPS_S.len() as u64) as usize];
                let ahead_s = [step_s, 0, -step_s][self.rng.below(3) as usize];
                self.world.set_clock(node, ahead_s);
                self.note(format!("{node}'s clock is {ahead_s} s ahead"));
            }
        }
    }

    /// Lets the traitor send, and end what it sends: to a node, or to the rendezvous.
    fn betray(&mut self) {
        let Some((traitor, mut streams)) = self.traitor.take() else { return };
        if self.rng.below(40) == 0 {
            // What was never told keeps its control streams waiting.
            self.world.restart(traitor);
            streams.clear();
        }
        let (now, other) = (self.world.now, self.rng.below(NODES as u64 + 1) as usize);
        let len = self.rng.below(30_000) as usize;
        if other == NODES {
            let query = Query::Name("x".repeat(1 + len % 60));
            // Without a rendezvous there is no answer.
            let _ = self.world.nodes[traitor].stack.endpoint_mut().lookup(now, query);
        } else {
            let peer = self.peer(traitor, other);
            let stack = &mut self.world.nodes[traitor].stack;
            // The node may refuse more of them.
            streams.extend(stack.connect_with(now, peer, OTHER_PORT, vec![9; len.min(1000)]));
            let _ = streams.back().map(|id| stack.send(*id, &vec![9; len]));
        }
        if streams.len() > BETRAYALS_MAX
            && let Some(old) = streams.pop_front()
        {
            self.world.nodes[traitor].stack.abort(now, old);
        }
        self.world.nodes[traitor].events.clear();
        self.traitor = Some((traitor, streams));
    }

    /// What happens beside the streams in worlds with everything.
    fn live_on(&mut self) {
        if self.rng.below(60) == 0 {
            self.fault_of_machines();
        }
        if self.rng.below(4) == 0 {
            self.betray();
        }
        if self.rng.below(20) == 0 {
            let node = self.rng.below(NODES as u64) as usize;
            let is_taken = self.world.decide(node, (node + 1) % NODES);
            self.note(format!("{node}'s owner decides, and the disk has room: {is_taken}"));
        }
    }

    fn show_rendezvous(&mut self) {
        if let Some(hidden) = self.hidden.take() {
            self.world.rendezvous = Some(hidden);
        }
    }

    fn restart(&mut self, node: NodeIndex) {
        self.begin_anew(node, World::restart);
        self.note(format!("{node} restarts"));
    }

    fn begin_anew(&mut self, node: NodeIndex, how: fn(&mut World, NodeIndex)) {
        self.look_at_events();
        how(&mut self.world, node);
        self.world.nodes[node].stack.listen(PORT).unwrap();
        self.newcomers.retain(|new| new.node != node);
        let ends = self.talks.values_mut().flat_map(|talk| talk.ends.iter_mut().flatten());
        ends.filter(|end| end.node == node).for_each(|end| (end.broken, end.closed) = (true, true));
    }

    fn look_at_events(&mut self) {
        for node in 0..NODES {
            for event in std::mem::take(&mut self.world.nodes[node].events) {
                if let Event::Incoming { stream, port } = event {
                    self.world.nodes[node].stack.accepted(stream);
                    if port == OTHER_PORT {
                        self.world.nodes[node].stack.abort(self.world.now, stream);
                        continue;
                    }
                    self.newcomers.push(Newcomer { node, id: stream, name: Vec::new() });
                }
            }
        }
    }

    /// Reads the names of newcomers.
    fn introduce(&mut self) {
        let mut newcomers = std::mem::take(&mut self.newcomers);
        newcomers.retain_mut(|new| {
            let mut buffer = [0; 8];
            let missing = 8 - new.name.len();
            match self.world.nodes[new.node].stack.recv(new.id, &mut buffer[..missing]) {
                Recv::Data(n) => new.name.extend(&buffer[..n]),
                Recv::Blocked => return true,
                Recv::Fin | Recv::Ended(_) => {
                    let now = self.world.now;
                    self.world.nodes[new.node].stack.abort(now, new.id);
                    return false;
                }
            }
            if new.name.len() < 8 {
                return true;
            }
            let name = u64::from_be_bytes(new.name[..].try_into().unwrap());
            assert!(name < self.next, "nobody opened {name}");
            assert!(self.arrived.insert(name), "{name} arrives twice");
            let end = End { read: 8, ..End::new(new.node, new.id) };
            match self.talks.get_mut(&name) {
                Some(talk) => talk.ends[1] = Some(end),
                // The opener's end has broken meanwhile.
                None => self.world.nodes[new.node].stack.abort(self.world.now, new.id),
            }
            false
        });
        self.newcomers.extend(newcomers);
    }

    /// Lets every application read all bytes that have arrived, and write if `may_write`.
    fn talk(&mut self, may_write: bool) {
        self.look_at_events();
        self.introduce();
        let mut buffer = vec![0; 64 * 1024];
        for (name, talk) in &mut self.talks {
            for side in 0..2 {
                let (other_written, other_finished) =
                    talk.ends[1 - side].as_ref().map_or((0, false), |end| (end.written, end.finished));
                let Some(end) = talk.ends[side].as_mut().filter(|end| !end.closed) else { continue };
                let stack = &mut self.world.nodes[end.node].stack;
                loop {
                    match stack.recv(end.id, &mut buffer) {
                        Recv::Data(n) => {
                            for got in &buffer[..n] {
                                assert_eq!(*got, byte(*name, 1 - side, end.read), "{name}, byte {}", end.read);
                                end.read += 1;
                            }
                            assert!(!end.saw_fin && end.read <= other_written, "{name}: {end:?}");
                        }
                        Recv::Blocked => break,
                        Recv::Fin => {
                            assert!(
                                other_finished && end.read == other_written,
                                "{name}: a clean end too early: {end:?}"
                            );
                            end.saw_fin = true;
                            break;
                        }
                        Recv::Ended(_) => {
                            end.broken = true;
                            break;
                        }
                    }
                }
                // The name is written first and whole.
                if side == 0 && end.written < 8 {
                    let rest = &name.to_be_bytes()[end.written as usize..];
                    end.written += stack.send(end.id, rest).unwrap_or(0) as u64;
                } else if may_write && !end.finished && self.rng.below(4) == 0 {
                    let len = 1 + self.rng.below(20_000);
                    let bytes: Vec<u8> = (end.written..end.written + len).map(|i| byte(*name, side, i)).collect();
                    end.written += stack.send(end.id, &bytes).unwrap_or(0) as u64;
                }
                let ends_now = if may_write { self.rng.below(60) == 0 } else { true };
                if ends_now && !end.finished && (side == 1 || end.written >= 8) {
                    end.finished = true;
                    stack.shutdown_write(end.id);
                }
            }
        }
        self.forget();
    }

    /// Closes streams that are over, and forgets talks that are over on both sides.
    fn forget(&mut self) {
        let (now, world) = (self.world.now, &mut self.world);
        self.talks.retain(|_, talk| {
            for end in talk.ends.iter_mut().flatten() {
                if !end.closed && (end.broken || (end.saw_fin && end.finished)) {
                    end.closed = true;
                    world.nodes[end.node].stack.close(now, end.id);
                }
            }
            let [ours, theirs] = &talk.ends;
            let unheard = ours.as_ref().is_some_and(|end| end.broken);
            !(ours.as_ref().is_some_and(|end| end.closed) && theirs.as_ref().map_or(unheard, |end| end.closed))
        });
    }

    fn run(&mut self) {
        let end = self.world.now + CHAOS;
        while self.world.now < end {
            let step = MS * (1 + self.rng.below(100) as u32);
            self.world.run_for(step);
            self.talk(true);
            if self.talks.len() < STREAMS_MAX && self.rng.below(10) == 0 {
                let a = self.rng.below(NODES as u64) as usize;
                let b = (a + 1 + self.rng.below(NODES as u64 - 1) as usize) % NODES;
                let early = self.rng.below(2) * self.rng.below(1024);
                self.open(a, b, early);
            }
            if self.rng.below(40) == 0 {
                self.fault();
            }
            if self.is_besieged && self.rng.below(100) == 0 {
                self.fault_of_strangers();
            }
            if self.traitor.is_some() {
                self.live_on();
            }
        }
        self.show_rendezvous();
        self.world.relieve();
        self.world.set_rendezvous_full(false);
        (0..NODES).for_each(|node| self.world.set_disk_room(node, None));
        self.world.set_conditions(Conditions::default());
        self.note("calm".into());
        let end = self.world.now + CALM;
        while self.world.now < end && !self.is_settled() {
            self.world.run_for(MS * 20);
            self.talk(false);
        }
        assert!(self.is_settled(), "after a minute of calm: {:?}", self.unsettled());
    }

    fn is_settled(&self) -> bool {
        self.talks.is_empty()
    }

    fn unsettled(&self) -> Vec<String> {
        let look = |end: &End| format!("{end:?} {:?}", self.world.nodes[end.node].stack.stream_info(end.id));
        let ends = |talk: &Talk| talk.ends.iter().map(|end| end.as_ref().map(look)).collect::<Vec<_>>();
        self.talks.iter().map(|(name, talk)| format!("{name} of {:?}: {:#?}", talk.opened, ends(talk))).collect()
    }

    /// Prints the log of faults and the state of every peer, for the search for a failure's cause.
    fn explain(&self) {
        self.log.iter().for_each(|line| println!("{line}"));
        for (i, node) in self.world.nodes.iter().enumerate() {
            let endpoint = node.stack.endpoint();
            println!(
                "{i}: {:?}, discarded {:?}",
                endpoint.directory_state(),
                endpoint.discards().iter().collect::<Vec<_>>()
            );
        }
        for (a, b) in PAIRS.into_iter().flat_map(|(a, b)| [(a, b), (b, a)]) {
            let info = self.world.nodes[a].stack.endpoint().peer_info(self.world.now, self.peer(a, b));
            println!("{a} of {b}: {info:?}");
        }
    }

    /// Checks that every node reaches every other one.
    fn greet(&mut self) {
        for (a, b) in PAIRS.into_iter().flat_map(|(a, b)| [(a, b), (b, a)]) {
            let name = self.open(a, b, 0);
            let start = self.world.now;
            while self.talks.contains_key(&name) {
                self.world.run_for(MS * 5);
                self.talk(false);
                let took = self.world.now.since(start);
                assert!(took < FOUND_AGAIN, "{a} does not reach {b}: {:?}", self.unsettled());
            }
        }
    }
}

/// The seed of `PILOT_SEED`, or those of `PILOT_SEEDS`, a range such as `0..10000`.
fn given_seeds() -> Option<Vec<u64>> {
    if let Ok(seed) = std::env::var("PILOT_SEED") {
        return Some(vec![seed.parse().expect("PILOT_SEED is a number")]);
    }
    let given = std::env::var("PILOT_SEEDS").ok()?;
    let range = given.split_once("..").and_then(|(from, to)| Some(from.parse().ok()?..to.parse().ok()?));
    Some(range.expect("PILOT_SEEDS is a range such as 0..10000").collect())
}

/// Runs one world to its end; a world that fails shows what happened in it.
fn run_world(seed: u64) {
    let mut chaos = Chaos::new(seed);
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        chaos.run();
        chaos.greet();
    }));
    if let Err(panic) = result {
        chaos.explain();
        println!("seed {seed}");
        std::panic::resume_unwind(panic);
    }
}

#[test]
fn whatever_happens_readers_get_a_prefix_and_everything_works_again() {
    let all = || SAMPLES.into_iter().flat_map(|(first, count)| first..first + count).chain(FOUND).collect();
    let seeds: Vec<u64> = given_seeds().unwrap_or_else(all);
    let (begin, next) = (std::time::Instant::now(), AtomicUsize::new(0));
    // A thread that has failed leaves the worlds that are left to the others.
    let work = || {
        while let Some(seed) = seeds.get(next.fetch_add(1, Ordering::Relaxed)) {
            run_world(*seed);
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(work))));
    println!("{} worlds in {:.1?}", seeds.len(), begin.elapsed());
}
