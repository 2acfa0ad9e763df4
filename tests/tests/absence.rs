//! Scenarios in which a peer, this node's network or the rendezvous is away for a while, in the simulator. What stands goes on
//! afterwards. A failure prints its seed; `PILOT_SEED` repeats that seed.
#![allow(clippy::unwrap_used, reason = "tests")]

use pilot_core::Instant;
use pilot_core::endpoint::{Event as EndpointEvent, ResetReason};
use pilot_core::path::PathAddr;
use pilot_core::time::Duration;
use pilot_stack::{Event, Recv, StreamEnd, StreamId};
use pilot_tests::{NatKind, World, seed};

/// The absence that must be survived, and the time in which a peer that vanished is told. Source: `docs/faults.md`, "Disks and load".
const ABSENCE: Duration = Duration::from_secs(60);
const TOLD: Duration = Duration::from_secs(90);
/// Time for everything to go on afterwards: the longest pause between INITs, and the rendezvous' own return.
const RETURN: Duration = Duration::from_secs(25);

/// Two nodes with a stream that is written to all the time, and one that rests.
struct Scene {
    world: World,
    busy: (StreamId, StreamId),
    idle: (StreamId, StreamId),
    written: usize,
    read: usize,
}

impl Scene {
    /// With `is_relayed`, no direct path is possible.
    fn new(seed: u64, is_relayed: bool) -> Self {
        println!("seed {seed}");
        let mut world = World::new(seed, 2);
        if is_relayed {
            (0..2).for_each(|node| world.set_nat(node, NatKind::Symmetric));
        }
        world.make_friends(0, 1);
        world.nodes[1].stack.listen(1000).unwrap();
        let (busy, idle) = (world.open(0, 1, 1000), world.open(0, 1, 1000));
        let mut scene = Self { world, busy, idle, written: 0, read: 0 };
        scene.live(Duration::from_secs(5));
        let peer = scene.world.peer(0, 1);
        let path = scene.world.nodes[0].stack.endpoint().peer_info(scene.world.now, peer).unwrap().path;
        assert_eq!(matches!(path, Some(PathAddr::Relay(_))), is_relayed, "{path:?}");
        scene
    }

    /// Writes eight bytes each half second, and reads what arrives.
    fn live(&mut self, span: Duration) {
        let end = self.world.now + span;
        while self.world.now < end {
            let sent = self.world.nodes[0].stack.send(self.busy.0, b"8 bytes.");
            self.written += sent.unwrap_or(0);
            self.world.run_for(Duration::from_millis(500));
            self.read += read(&mut self.world, 1, self.busy.1);
        }
    }

    /// Everything that was written has arrived, and the stream that rested carries bytes, before `deadline`.
    fn assert_goes_on(&mut self, deadline: Duration) {
        let begin = self.world.now;
        self.world.nodes[0].stack.send(self.idle.0, b"still here").unwrap();
        let (mut rested, mut late) = (0, self.read);
        let (busy, idle, written) = (self.busy.1, self.idle.1, self.written);
        self.world.run_until("everything arrives", |w| {
            (late, rested) = (late + read(w, 1, busy), rested + read(w, 1, idle));
            rested == 10 && late == written
        });
        let took = self.world.now.since(begin);
        assert!(took < deadline, "{took:?}");
        for node in 0..2 {
            let other = self.world.peer(node, 1 - node);
            let mut events = self.world.nodes[node].events.iter();
            let reset = events.find(|e| matches!(e, Event::Endpoint(EndpointEvent::Reset(id, _)) if *id == other));
            assert_eq!(reset, None);
        }
    }
}

fn read(world: &mut World, node: usize, stream: StreamId) -> usize {
    let mut buffer = vec![0; 65536];
    match world.nodes[node].stack.recv(stream, &mut buffer) {
        Recv::Data(n) => n,
        Recv::Blocked => 0,
        other => panic!("{other:?}"),
    }
}

fn end(world: &World, node: usize, stream: StreamId) -> Option<StreamEnd> {
    world.nodes[node].stack.stream_info(stream).unwrap().end
}

#[test]
fn what_stands_survives_the_absence_of_either_side() {
    for is_relayed in [false, true] {
        for away in [1, 0] {
            let mut scene = Scene::new(seed(901), is_relayed);
            scene.world.nodes[away].is_offline = true;
            scene.live(ABSENCE);
            scene.world.nodes[away].is_offline = false;
            scene.assert_goes_on(RETURN);
        }
    }
}

#[test]
fn what_stands_on_the_relay_survives_a_rendezvous_that_is_away() {
    for away in [20, 30, 60] {
        let mut scene = Scene::new(seed(902), true);
        scene.world.rendezvous = None;
        scene.live(Duration::from_secs(away));
        scene.world.restart_rendezvous();
        scene.assert_goes_on(Duration::from_secs(2 * away));
    }
}

#[test]
fn the_first_that_is_back_at_the_rendezvous_waits_for_the_other() {
    for first in [0, 1] {
        let mut scene = Scene::new(seed(903), true);
        scene.world.rendezvous = None;
        scene.live(Duration::from_secs(10));
        scene.world.restart_rendezvous();
        scene.world.nodes[1 - first].is_offline = true;
        scene.live(Duration::from_secs(40));
        scene.world.nodes[1 - first].is_offline = false;
        scene.assert_goes_on(RETURN);
    }
}

#[test]
fn a_peer_that_vanished_is_told() {
    for is_relayed in [false, true] {
        let mut scene = Scene::new(seed(904), is_relayed);
        scene.world.nodes[1].is_offline = true;
        let begin = scene.world.now;
        let ends = [(0, scene.busy.0), (0, scene.idle.0), (1, scene.busy.1), (1, scene.idle.1)];
        scene.world.run_until("all ends are told", |w| ends.iter().all(|(node, id)| end(w, *node, *id).is_some()));
        let took = scene.world.now.since(begin);
        assert!(took > ABSENCE && took < TOLD, "{took:?}");
        for (node, id) in ends {
            let end = end(&scene.world, node, id);
            let is_true = matches!(end, Some(StreamEnd::Tunnel(ResetReason::Away | ResetReason::Unreachable)));
            assert!(is_true, "{end:?}");
        }
    }
}

#[test]
fn a_new_stream_to_a_peer_that_is_away_fails_soon_and_those_that_stand_wait() {
    let mut scene = Scene::new(seed(905), false);
    scene.world.nodes[1].is_offline = true;
    // The rendezvous forgets which nodes were connected.
    scene.world.restart_rendezvous();
    scene.live(Duration::from_secs(20));
    let (now, peer) = (scene.world.now, scene.world.peer(0, 1));
    let asking = scene.world.nodes[0].stack.connect(now, peer, 1000).unwrap();
    scene.live(Duration::from_secs(10));
    assert_eq!(end(&scene.world, 0, asking), Some(StreamEnd::Tunnel(ResetReason::Away)));
    assert_eq!(end(&scene.world, 0, scene.busy.0), None);
    scene.live(Duration::from_secs(30));
    scene.world.nodes[1].is_offline = false;
    scene.assert_goes_on(RETURN);
    assert!(scene.world.now > Instant::ZERO + ABSENCE);
}

/// All machines sleep, and their clocks go on: what was due meanwhile is due at once, and all keys may be too old.
#[test]
fn nodes_that_slept_are_registered_again_whatever_was_due_meanwhile() {
    for minutes in [1, 3, 9, 11, 60, 24 * 60, 30 * 24 * 60] {
        let mut world = World::new(seed(906) + minutes, 3);
        world.make_friends(0, 1);
        world.nodes[1].stack.listen(1000).unwrap();
        world.run_for(Duration::from_secs(5));
        world.now = world.now + Duration::from_secs(60 * minutes);
        world.run_for(Duration::from_secs(40));
        let connected = world.rendezvous.as_ref().unwrap().connected(world.now);
        assert_eq!(connected, 3, "40 s after {minutes} minutes");
        let (a, b) = world.open(0, 1, 1000);
        world.transfer((0, a), (1, b), 10_000);
    }
}
