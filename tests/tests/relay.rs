//! Scenarios of the relay: many that want more of it than there is.
//! A failure prints its seed; `PILOT_SEED` repeats that seed.
#![allow(clippy::unwrap_used, reason = "tests")]

use pilot_core::Instant;
use pilot_core::endpoint::Event as EndpointEvent;
use pilot_core::path::PathAddr;
use pilot_core::time::Duration;
use pilot_stack::{Event, Recv, StreamId};
use pilot_tests::{NatKind, NodeIndex, World, seed};

/// A world of nodes that no direct path leads to, with streams between these pairs of them.
fn relayed(seed: u64, nodes: usize, pairs: &[(NodeIndex, NodeIndex)]) -> (World, Vec<(StreamId, StreamId)>) {
    println!("seed {seed}");
    let mut world = World::new(seed, nodes);
    (0..nodes).for_each(|node| world.set_nat(node, NatKind::Symmetric));
    let mut friends = pairs.to_vec();
    friends.dedup();
    friends.iter().for_each(|(a, b)| world.make_friends(*a, *b));
    friends.iter().for_each(|(_, b)| world.nodes[*b].stack.listen(1000).unwrap());
    let streams = pairs.iter().map(|(a, b)| world.open(*a, *b, 1000)).collect();
    for (a, b) in friends {
        let info = world.nodes[a].stack.endpoint().peer_info(world.now, world.peer(a, b)).unwrap();
        assert!(matches!(info.path, Some(PathAddr::Relay(_))), "{:?}", info.path);
    }
    (world, streams)
}

/// Two nodes send all that they can, one of them to three peers over four streams each. The relay has 8 Mbit/s for both.
#[test]
fn senders_share_a_narrow_relay_whatever_number_of_streams_they_have() {
    const RATE: u64 = 1_000_000;
    let mut pairs: Vec<_> = (2..5).flat_map(|to| [(0, to); 4]).collect();
    pairs.push((1, 5));
    let (mut world, streams) = relayed(seed(950), 6, &pairs);
    let now = world.now;
    world.rendezvous.as_mut().unwrap().set_relay_budget(now, Some(RATE));
    let (mut got, chunk, mut buffer) = ([0usize; 2], [1u8; 16384], vec![0; 65536]);
    for seconds in [5, 10] {
        got = [0; 2];
        let end = world.now + Duration::from_secs(seconds);
        world.run_until("some seconds have passed", |w| {
            for ((from, to), (a, b)) in pairs.iter().zip(&streams) {
                while w.nodes[*from].stack.send(*a, &chunk).unwrap() > 0 {}
                while let Recv::Data(n) = w.nodes[*to].stack.recv(*b, &mut buffer) {
                    got[*from] += n;
                }
            }
            w.now >= end
        });
    }
    let [greedy, modest] = got.map(|n| n as f64);
    println!("greedy {greedy}, modest {modest}");
    let ratio = (greedy / modest).max(modest / greedy);
    assert!(ratio <= 1.1, "1 : {ratio:.2}: {got:?}");
    assert!(greedy + modest > 0.8 * 10.0 * RATE as f64, "{got:?} of {RATE} a second");
    let peer = world.peer(1, 5);
    let rtt = world.nodes[1].stack.endpoint().srtt(peer).unwrap();
    assert!(rtt < Duration::from_millis(300), "{rtt:?}: the relay's queue is short");
}

/// Two nodes with a stream over the relay, and another relay beside it.
struct Scene {
    world: World,
    stream: (StreamId, StreamId),
    written: usize,
    read: usize,
    /// When something last arrived, and the longest time between two arrivals.
    arrived: Instant,
    stall: Duration,
}

impl Scene {
    fn new(seed: u64) -> Self {
        let (mut world, streams) = relayed(seed, 2, &[(0, 1)]);
        world.add_spare();
        world.run_for(Duration::from_secs(3));
        let arrived = world.now;
        Self { world, stream: streams[0], written: 0, read: 0, arrived, stall: Duration::ZERO }
    }

    /// The way of node 0 to node 1 in use now, and how many relays there are.
    fn ways(&self) -> (PathAddr, usize) {
        let info = self.world.nodes[0].stack.endpoint().peer_info(self.world.now, self.world.peer(0, 1)).unwrap();
        (info.path.unwrap(), info.paths.iter().filter(|path| matches!(path.addr, PathAddr::Relay(_))).count())
    }

    /// Writes 300 bytes each 20 ms, and reads what arrives.
    fn live(&mut self, span: Duration) {
        let end = self.world.now + span;
        let mut buffer = [0; 65536];
        while self.world.now < end {
            self.written += self.world.nodes[0].stack.send(self.stream.0, &[7; 300]).unwrap_or(0);
            self.world.run_for(Duration::from_millis(20));
            while let Recv::Data(n) = self.world.nodes[1].stack.recv(self.stream.1, &mut buffer) {
                self.read += n;
                self.stall = self.stall.max(self.world.now.since(self.arrived));
                self.arrived = self.world.now;
            }
        }
    }

    fn assert_nothing_is_lost(&mut self) {
        let mut buffer = [0; 65536];
        let (stream, written, mut read) = (self.stream.1, self.written, self.read);
        self.world.run_until("everything arrives", |w| {
            while let Recv::Data(n) = w.nodes[1].stack.recv(stream, &mut buffer) {
                read += n;
            }
            read == written
        });
        self.read = read;
        for node in 0..2 {
            let other = self.world.peer(node, 1 - node);
            let mut events = self.world.nodes[node].events.iter();
            let reset = events.find(|e| matches!(e, Event::Endpoint(EndpointEvent::Reset(id, _)) if *id == other));
            assert_eq!(reset, None);
        }
    }
}

/// The relay in use is killed, and comes back; then the other one is.
#[test]
fn one_of_two_relays_is_killed_and_streams_go_on_over_the_other() {
    for seed_number in 0..4 {
        let mut scene = Scene::new(seed(960 + seed_number));
        let (before, relays) = scene.ways();
        assert_eq!(relays, 2, "a hot spare");
        scene.live(Duration::from_secs(2));
        scene.stall = Duration::ZERO;
        scene.world.rendezvous = None;
        scene.live(Duration::from_secs(40));
        println!("stall {:?}", scene.stall);
        assert!(scene.stall < Duration::from_secs(1), "{:?}", scene.stall);
        assert!(scene.ways().0 != before, "{before}");
        scene.assert_nothing_is_lost();
        scene.world.restart_rendezvous();
        scene.world.run_until("both are registered again", |w| [0, 1].iter().all(|n| w.is_registered(*n)));
        scene.live(Duration::from_secs(20));
        scene.stall = Duration::ZERO;
        scene.world.kill_spare();
        scene.live(Duration::from_secs(20));
        println!("stall {:?}", scene.stall);
        assert!(scene.stall < Duration::from_secs(1), "{:?}", scene.stall);
        scene.assert_nothing_is_lost();
    }
}

/// Relays are measured, and the nearest is used, also after that has changed.
#[test]
fn the_nearest_of_two_relays_is_used() {
    let mut scene = Scene::new(seed(970));
    let mut ways = Vec::new();
    for is_farther in [true, false] {
        scene.world.set_rendezvous_farther(is_farther, Duration::from_millis(60));
        scene.live(Duration::from_secs(150));
        ways.push(scene.ways().0);
        let rtt = scene.world.nodes[0].stack.endpoint().srtt(scene.world.peer(0, 1)).unwrap();
        assert!(rtt < Duration::from_millis(100), "{rtt:?}");
        scene.assert_nothing_is_lost();
    }
    assert!(ways[0] != ways[1], "{ways:?}");
}

/// A spare relay that is killed while nothing is on it, or is another process now, does no harm.
#[test]
fn a_spare_relay_that_is_not_used_comes_and_goes() {
    let mut scene = Scene::new(seed(971));
    let before = scene.ways();
    scene.stall = Duration::ZERO;
    scene.world.kill_spare();
    scene.live(Duration::from_secs(200));
    scene.world.restart_spare();
    scene.live(Duration::from_secs(200));
    assert!(scene.stall < Duration::from_millis(300), "{:?}", scene.stall);
    assert_eq!(scene.ways(), before);
    let mut relays = scene.world.nodes[0].stack.endpoint().spare_relays();
    assert!(relays.all(|relay| relay.is_ready));
    drop(relays);
    scene.assert_nothing_is_lost();
}
