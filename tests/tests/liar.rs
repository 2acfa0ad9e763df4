//! A rendezvous that lies, or a relay, costs time and never correctness; and no node floods a host that it names
//! (`docs/paths.md`, "Amplification"). The world checks after each step what addresses get that never answered.
#![allow(clippy::unwrap_used, reason = "tests")]

use pilot_core::endpoint::DirectoryState;
use pilot_core::time::Duration;
use pilot_tests::{NatKind, NodeIndex, World, seed};

/// Seeds of each test.
const SEEDS: u64 = 6;

/// Three nodes, of which the first has the others as friends.
fn friends(seed: u64, nat: Option<NatKind>) -> World {
    println!("seed {seed}");
    let mut world = World::new(seed, 3);
    for node in 0..3 {
        nat.into_iter().for_each(|kind| world.set_nat(node, kind));
    }
    for other in [1, 2] {
        world.make_friends(0, other);
        world.nodes[other].stack.listen(1000).unwrap();
    }
    world
}

fn is_ready(world: &World, node: NodeIndex) -> bool {
    matches!(world.nodes[node].stack.endpoint().directory_state(), DirectoryState::Ready(_))
}

/// The honest one is back: all nodes are registered soon, with the addresses that they had, and find each other.
fn recover(world: &mut World, addrs: &[pilot_core::Addr]) {
    let (answers, told) = world.end_lies();
    assert!(answers >= 3 && told >= 100, "there were lies: {answers} answers, {told} unasked");
    let begin = world.now;
    world.run_for(Duration::from_secs(3));
    world.seek_rendezvous();
    world.run_until("all are registered", |w| (0..3).all(|node| is_ready(w, node)));
    let took = world.now.since(begin);
    assert!(took < Duration::from_secs(90), "registered after {took:?}");
    let now: Vec<_> = world.nodes.iter().map(|node| node.stack.endpoint().addr()).collect();
    assert_eq!(now, addrs, "addresses are for life");
    let (c, d) = world.open(0, 2, 1000);
    world.transfer((0, c), (2, d), 100_000);
}

fn addrs(world: &World) -> Vec<pilot_core::Addr> {
    world.nodes.iter().map(|node| node.stack.endpoint().addr()).collect()
}

#[test]
fn lies_cost_a_direct_pair_nothing() {
    for n in 0..SEEDS {
        let mut world = friends(seed(40) + n, None);
        let (a, b) = world.open(0, 1, 1000);
        world.run_for(Duration::from_secs(5));
        let addrs = addrs(&world);
        world.let_rendezvous_lie();
        for _ in 0..6 {
            world.run_for(Duration::from_secs(20));
            world.seek_rendezvous();
            let took = world.transfer((0, a), (1, b), 200_000);
            assert!(took < Duration::from_secs(2), "{took:?}");
        }
        // A pair with its pins needs no rendezvous for another stream.
        let (c, d) = world.open(0, 1, 1000);
        world.transfer((0, c), (1, d), 10_000);
        recover(&mut world, &addrs);
    }
}

#[test]
fn a_relayed_stream_outlives_lies() {
    for n in 0..SEEDS {
        let mut world = friends(seed(60) + n, Some(NatKind::Symmetric));
        let (a, b) = world.open(0, 1, 1000);
        world.transfer((0, a), (1, b), 10_000);
        let addrs = addrs(&world);
        world.let_rendezvous_lie();
        world.nodes[0].stack.send(a, &[7; 5000]).unwrap();
        for _ in 0..4 {
            world.run_for(Duration::from_secs(20));
            world.seek_rendezvous();
        }
        recover(&mut world, &addrs);
        let mut got = Vec::new();
        let mut room = [0; 8192];
        world.run_until("what was said meanwhile", |w| {
            while let pilot_stack::Recv::Data(n) = w.nodes[1].stack.recv(b, &mut room) {
                got.extend_from_slice(&room[..n]);
            }
            got.len() >= 5000
        });
        assert_eq!(got, [7; 5000]);
        world.transfer((0, a), (1, b), 10_000);
    }
}
