//! The first minutes of a pair: what is ready before its first stream, what that costs, and how many times a datagram crosses
//! the network before the first byte arrives. A failure prints its seed; `PILOT_SEED` repeats that seed.
#![allow(clippy::unwrap_used, reason = "tests")]

use pilot_core::endpoint::{Discard, Event as EndpointEvent};
use pilot_core::path::PathAddr;
use pilot_core::time::Duration;
use pilot_stack::Event;
use pilot_tests::NatKind::{PortRestricted, Symmetric};
use pilot_tests::{Conditions, NatKind, World, seed};

/// What a datagram takes over one link: straight, or to the rendezvous.
const LINK: Duration = Duration::from_millis(20);
/// What it takes from node to node over the relay.
const RELAYED: Duration = Duration::from_millis(40);
/// Most datagrams that a pair causes beside relayed ones until it is direct. Source: `docs/paths.md`, "Meeting".
const FEW: usize = 60;
/// First byte of a relayed datagram, where the datagram inside begins, and the first byte of an INIT.
const RELAY: u8 = 5;
const INSIDE: usize = 16;
const INIT: u8 = 1;

/// Two friends behind these NATs, of which the first has just learnt that both have approved.
fn pair(seed: u64, nats: [Option<NatKind>; 2]) -> World {
    println!("seed {seed}, {nats:?}");
    let mut world = World::new(seed, 2);
    world.set_conditions(Conditions { delay: LINK, ..Conditions::default() });
    for (node, nat) in nats.into_iter().enumerate() {
        nat.into_iter().for_each(|kind| world.set_nat(node, kind));
    }
    world.make_friends(0, 1);
    world.capture = Some(Vec::new());
    world.nodes.iter_mut().for_each(|node| node.stack.listen(1000).unwrap());
    world
}

fn are_direct(world: &World) -> bool {
    (0..2).all(|node| {
        let info = world.nodes[node].stack.endpoint().peer_info(world.now, world.peer(node, 1 - node));
        info.is_some_and(|info| info.path.is_some_and(PathAddr::is_direct))
    })
}

fn kem_secret(world: &World, node: usize) -> Option<[u8; 32]> {
    world.nodes[node].stack.endpoint().trust().pins().find_map(|pin| pin.kem.as_deref().copied())
}

fn has_kem_secret(world: &World, node: usize) -> bool {
    kem_secret(world, node).is_some()
}

/// The INITs that both have sent each other since the capture began, straight or over the relay.
fn inits(world: &World) -> usize {
    let all = world.capture.as_deref().unwrap_or_default().iter();
    all.filter(|d| d[0] == RELAY && d[INSIDE] == INIT).count()
}

#[test]
fn a_pair_has_its_secret_and_its_path_before_the_first_stream() {
    for nats in [[None, None], [Some(PortRestricted); 2], [None, Some(Symmetric)], [Some(Symmetric); 2]] {
        let mut world = pair(seed(1), nats);
        let begin = world.now;
        world.run_until("both have the secret", |w| has_kem_secret(w, 0) && has_kem_secret(w, 1));
        assert!(world.now.since(begin) <= RELAYED * 4, "{nats:?}: {:?}", world.now.since(begin));
        world.run_for(Duration::from_secs(1));
        let is_easy = !nats.contains(&Some(Symmetric));
        assert!(!is_easy || are_direct(&world), "{nats:?}");
        let begin = world.now;
        world.open_with(0, 1, 1000, b"?");
        let took = world.now.since(begin);
        assert!(took <= if is_easy { LINK } else { RELAYED }, "{nats:?}: the first byte took {took:?}");
    }
}

/// Nothing is used, so nothing is looked for behind NATs that are hard to pass, and nothing is kept alive.
#[test]
fn a_greeting_is_few_datagrams_and_then_none() {
    for nats in [[None, None], [Some(PortRestricted); 2], [Some(PortRestricted), Some(Symmetric)]] {
        let mut world = pair(seed(2), nats);
        world.run_for(Duration::from_secs(5));
        let sent = world.capture.replace(Vec::new()).unwrap();
        let straight = sent.iter().filter(|datagram| datagram[0] != RELAY).count();
        println!("{nats:?}: {} datagrams, {straight} of them not relayed", sent.len());
        assert!(straight <= FEW, "{nats:?}: {straight}");
        world.run_for(Duration::from_secs(600));
        let later = world.capture.take().unwrap();
        assert!(later.iter().all(|d| d[0] != RELAY), "{nats:?}: nothing to each other");
    }
}

#[test]
fn a_peer_that_is_away_is_greeted_once_and_nothing_is_told() {
    let mut world = pair(seed(3), [None, None]);
    world.nodes[1].is_offline = true;
    world.nodes.iter_mut().for_each(|node| node.events.clear());
    world.run_for(Duration::from_secs(60));
    assert!(inits(&world) <= 1, "{} INITs", inits(&world));
    let is_about_peer = |e: &Event| matches!(e, Event::Endpoint(EndpointEvent::Reset(..) | EndpointEvent::Away(_)));
    assert!(!world.nodes[0].events.iter().any(is_about_peer), "nothing waits for it");
    world.nodes[1].is_offline = false;
    world.run_until("it is back", |w| w.is_registered(1));
    world.run_for(Duration::from_secs(60));
    assert!(!has_kem_secret(&world, 0), "the first stream makes the session then");
    world.open_with(0, 1, 1000, b"?");
    assert!(has_kem_secret(&world, 0));
}

/// An INIT is at the peer as soon as the question for a relay is at the rendezvous.
#[test]
fn the_first_byte_over_the_relay_takes_three_ways() {
    for from in [0, 1] {
        let mut world = pair(seed(4), [Some(Symmetric); 2]);
        world.run_for(Duration::from_secs(2000)); // keys and channels are gone
        let begin = world.now;
        world.open_with(from, 1 - from, 1000, b"?");
        let took = world.now.since(begin);
        assert!(took <= RELAYED * 3, "from {from}: {took:?}");
    }
}

/// From the first INIT on: keys, candidates and probes, each over its way, and the answers to the probes.
#[test]
fn an_easy_pair_is_direct_three_ways_over_the_relay_and_a_round_trip_after_its_first_datagram() {
    for nats in [[None, None], [Some(PortRestricted); 2], [Some(PortRestricted), None]] {
        let mut world = pair(seed(5), nats);
        let begin = world.now;
        world.run_until("both are on a direct path", |w| are_direct(w));
        let took = world.now.since(begin);
        println!("{nats:?}: {took:?}");
        assert!(took <= RELAYED * 3 + LINK * 2, "{nats:?}: {took:?}");
    }
}

/// INIT, RESP with a key, data: the answer to the key goes with it.
#[test]
fn the_first_stream_of_a_pair_waits_for_three_ways_over_the_relay() {
    for nats in [[None, None], [Some(PortRestricted); 2], [Some(Symmetric); 2]] {
        let mut world = pair(seed(6), nats);
        let begin = world.now;
        world.open_with(0, 1, 1000, b"?");
        let took = world.now.since(begin);
        assert!(took <= RELAYED * 3, "{nats:?}: {took:?}");
        assert!(has_kem_secret(&world, 0) && has_kem_secret(&world, 1));
    }
}

/// Whoever begins, whatever is lost, late or said twice: both sides have one secret, and no packet leaves without it.
#[test]
fn first_streams_stand_whatever_the_network_does() {
    for n in 0..60 {
        let mut world = pair(seed(100 + n), [Some(Symmetric); 2]);
        let (loss, reorder) = ([0, 50, 150][(n % 3) as usize], [0, 200][(n % 2) as usize]);
        let reorder_by = LINK * 2;
        world.set_conditions(Conditions {
            delay: LINK,
            loss,
            reorder,
            reorder_by,
            duplicate: reorder,
            ..Conditions::default()
        });
        let begin = world.now;
        for from in [n as usize % 2, 1 - n as usize % 2] {
            let (ours, theirs) = world.open(from, 1 - from, 1000);
            world.transfer((from, ours), (1 - from, theirs), 20_000);
        }
        let took = world.now.since(begin);
        assert!(took <= Duration::from_secs(30), "seed {n}: {took:?}");
        let secrets: Vec<_> = (0..2).map(|node| kem_secret(&world, node)).collect();
        assert!(secrets[0].is_some() && secrets[0] == secrets[1], "seed {n}");
        let discards = |node: usize| world.nodes[node].stack.endpoint().discards().of(Discard::NotMixed);
        assert_eq!([discards(0), discards(1)], [0, 0], "seed {n}: no packet leaves too soon");
    }
}

/// The side that approves opens a stream at once, while the word of its approval is on its way: the rendezvous refuses the relay until
/// the other side has granted it.
#[test]
fn a_stream_that_is_opened_before_the_peer_knows_of_the_trust_waits_for_its_grant() {
    for (n, relayed) in [0, 1, 2, 3, 4, 5].into_iter().map(Duration::from_secs).enumerate() {
        let mut world = World::new(seed(40 + n as u64), 2);
        let delay = LINK.max(relayed / 2);
        world.set_conditions(Conditions { delay, ..Conditions::default() });
        world.approve_without_an_answer(0, 1);
        world.nodes.iter_mut().for_each(|node| node.stack.listen(1000).unwrap());
        let begin = world.now;
        world.open_with(1, 0, 1000, b"?");
        let took = world.now.since(begin);
        println!("{relayed:?} over the relay: {took:?}");
        assert!(took <= delay * 20, "{relayed:?} over the relay: {took:?}");
    }
}

/// A long way costs its round trips and no more, also where an INIT is repeated before its answer can come: by satellite, on a
/// machine that has no time, or where datagrams overtake each other.
#[test]
fn a_long_way_to_the_first_byte_is_six_links_long() {
    for (n, millis) in [100, 300, 450, 600, 1000].into_iter().enumerate() {
        for reorder in [0, 500] {
            for seed in 0..8 {
                let delay = Duration::from_millis(millis);
                let mut world = World::new(seed + 10 * n as u64, 2);
                world.set_conditions(Conditions { delay, reorder, reorder_by: delay, ..Conditions::default() });
                world.make_friends(0, 1);
                world.nodes.iter_mut().for_each(|node| node.stack.listen(1000).unwrap());
                let begin = world.now;
                world.open_with(0, 1, 1000, b"?");
                let took = world.now.since(begin);
                // Half of the datagrams take up to twice as long, and what they overtake is asked for again.
                let most = delay * if reorder == 0 { 6 } else { 20 };
                assert!(took <= most, "{millis} ms, {reorder}, seed {seed}: {took:?}");
            }
        }
    }
}
