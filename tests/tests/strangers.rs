//! Strangers with a great deal of bandwidth, and a peer that breaks its control streams: a node that the rendezvous knows, and a
//! peer that a node trusts, are served within two seconds all the time.
//! `cargo test --release -p pilot-tests --test strangers -- --nocapture` prints how long it waited.
#![allow(clippy::unwrap_used, reason = "tests")]

use pilot_core::control::Query;
use pilot_core::endpoint::Discard;
use pilot_core::time::Duration;
use pilot_tests::{Siege, World, seed};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_known_node_is_served_in_two_seconds_under_twenty_thousand_datagrams_in_a_second() {
    for addresses in [1, 1000] {
        let mut world = World::new(seed(41), 2);
        world.make_friends(0, 1);
        world.nodes[1].stack.listen(1000).unwrap();
        world.add_witness();
        world.add_friend(0);
        world.run_for(SECOND * 10);
        let calm = world.witness_waited();
        let seed = world.now.as_micros();
        world.besiege(Siege { addresses, per_second: 20_000, lasts: SECOND * 10 }, seed);
        world.run_for(SECOND);
        // A pair of which one end begins anew meets again, too.
        world.restart(0);
        let start = world.now;
        let (a, b) = world.open(0, 1, 1000);
        let met = world.now.since(start);
        let took = world.transfer((0, a), (1, b), 1 << 20);
        world.run_for(SECOND * 8);
        let rendezvous = world.rendezvous.as_ref().unwrap();
        let discards = rendezvous.endpoint().discards();
        let counts =
            [Discard::CookieSent, Discard::Overload, Discard::Replay, Discard::Mac1].map(|reason| discards.of(reason));
        assert!(counts.iter().sum::<u64>() > 10_000, "no siege: {counts:?}");
        println!(
            "20,000 datagrams a second, three in eight of them INITs, to three machines from {addresses} addresses ({counts:?} \
             discarded): the longest wait was {:.1?} ({calm:.1?} before), that of a trusted peer {:.1?}; a stream of a new process stood after {met:.1?}, 1 MiB in {took:.1?}",
            world.witness_waited(),
            world.friend_waited()
        );
        assert!(world.friend_waited() > Duration::ZERO, "no process of the friend has asked");
        assert!(calm < SECOND && met <= SECOND * 2, "{met:?}");
    }
}

/// What a machine holds for others, and that addresses are not flooded, the world checks after every step.
#[test]
fn a_peer_that_breaks_its_control_streams_costs_the_others_nothing() {
    let mut world = World::new(seed(43), 2);
    world.make_friends(0, 1);
    world.nodes[1].stack.listen(1000).unwrap();
    world.add_witness();
    world.add_friend(1);
    let traitor = world.add_traitor();
    let (a, b) = world.open(0, 1, 1000);
    let (peer, victims) = (world.peer(traitor, 1), [0, 1]);
    for n in 0..200 {
        if n % 10 == 0 {
            // What was never told keeps its control stream to the rendezvous waiting.
            world.restart(traitor);
        }
        let now = world.now;
        let stack = &mut world.nodes[traitor].stack;
        // Only so many calls wait at once.
        let _ = stack.endpoint_mut().lookup(now, Query::Name("x".repeat(60)));
        let stream = stack.connect_with(now, peer, 1000, vec![1; 1000]).unwrap();
        stack.send(stream, &[2; 30_000]).unwrap();
        assert!(world.transfer((0, a), (1, b), 10_000) <= SECOND, "a stream of others stops");
        world.run_for(SECOND / 10);
        let now = world.now;
        world.nodes[traitor].stack.abort(now, stream);
    }
    let of = |endpoint: &pilot_core::Endpoint| endpoint.discards().of(Discard::Malformed);
    let at_rendezvous = of(world.rendezvous.as_ref().unwrap().endpoint());
    let at_nodes: u64 = victims.iter().map(|node| of(world.nodes[*node].stack.endpoint())).sum();
    assert!(at_rendezvous > 0 && at_nodes > 0, "nothing was broken: {at_rendezvous}, {at_nodes}");
    assert!(world.friend_waited() > Duration::ZERO && world.witness_waited() > Duration::ZERO);
}
