//! Scenarios of the relay: many that want more of it than there is.
//! A failure prints its seed; `PILOT_SEED` repeats that seed.
#![allow(clippy::unwrap_used, reason = "tests")]

use pilot_core::path::PathAddr;
use pilot_core::time::Duration;
use pilot_stack::{Recv, StreamId};
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
