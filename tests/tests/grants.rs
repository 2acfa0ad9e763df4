//! Grants that change between nodes that trust each other, and peers with other names. A failure prints its seed;
//! `PILOT_SEED` takes it back.
#![allow(clippy::unwrap_used, reason = "tests")]

use pilot_core::NodeRecord;
use pilot_core::control::Query;
use pilot_core::endpoint::Event as EndpointEvent;
use pilot_core::identity::{IdentityKey, Profile};
use pilot_core::time::Duration;
use pilot_core::trust::{Outcome, Pin, Ports, Regrant, Terms};
use pilot_stack::{Event, Recv, StreamEnd};
use pilot_tests::{Conditions, NodeIndex, World, seed};

/// What a datagram needs over a link in its default condition.
const WAY: Duration = Duration::from_millis(10);
/// Round trip over links in their default condition, and some.
const SOON: Duration = Duration::from_millis(100);

fn friends(number: u64, nodes: usize) -> World {
    let seed = seed(number);
    println!("seed {seed}");
    let mut world = World::new(seed, nodes);
    (1..nodes).for_each(|node| world.make_friends(0, node));
    world
}

fn ports(text: &str) -> Ports {
    text.parse().unwrap()
}

fn key(world: &World, node: NodeIndex) -> IdentityKey {
    world.nodes[node].stack.endpoint().identity().public()
}

/// The pin that `node` has of `other`.
fn pin(world: &World, node: NodeIndex, other: NodeIndex) -> &Pin {
    world.nodes[node].stack.endpoint().trust().pin(&key(world, other)).unwrap()
}

fn regrant(world: &mut World, node: NodeIndex, other: NodeIndex, change: &Regrant) {
    let (now, key) = (world.now, key(world, other));
    world.nodes[node].stack.endpoint_mut().regrant(now, &key, change).unwrap();
}

/// Makes a tunnel between 0 and `other`, over which both have told each other what they may reach.
fn connect(world: &mut World, other: NodeIndex) {
    let (peer, now) = (world.peer(0, other), world.now);
    world.nodes[0].stack.endpoint_mut().reach(now, peer);
    let is_up = |w: &World, node: NodeIndex, peer| w.nodes[node].stack.endpoint().is_up(w.now, peer);
    world.run_until("a tunnel stands", |w| is_up(w, 0, w.peer(0, other)) && is_up(w, other, w.peer(other, 0)));
    world.run_until("both have heard", |w| pin(w, 0, other).granted.is_some() && pin(w, other, 0).granted.is_some());
    world.run_for(SOON);
}

fn end_of(world: &World, node: NodeIndex, stream: pilot_stack::StreamId) -> Option<StreamEnd> {
    world.nodes[node].stack.stream_info(stream).and_then(|info| info.end)
}

/// Trust outcomes that a node was told of.
fn outcomes(world: &World, node: NodeIndex) -> Vec<Outcome> {
    let told = world.nodes[node].events.iter().filter_map(|event| match event {
        Event::Endpoint(EndpointEvent::Trust(outcome)) => Some(outcome.clone()),
        _ => None,
    });
    told.collect()
}

#[test]
fn both_sides_know_what_they_may_reach_as_soon_as_a_tunnel_stands() {
    let mut world = friends(900, 2);
    assert_eq!(pin(&world, 0, 1).granted, None);
    connect(&mut world, 1);
    assert_eq!(
        (&pin(&world, 0, 1).granted, &pin(&world, 1, 0).granted),
        (&Some(Ports::default()), &Some(Ports::default()))
    );
}

#[test]
fn a_port_that_is_withdrawn_resets_its_streams_and_no_others() {
    let mut world = friends(901, 2);
    regrant(&mut world, 1, 0, &Regrant::Grant(ports("80,81"), None));
    [80, 81].into_iter().for_each(|port| world.nodes[1].stack.listen(port).unwrap());
    world.nodes[0].stack.listen(1000).unwrap();
    let ((ours, theirs), (kept, kept_there)) = (world.open(0, 1, 80), world.open(0, 1, 81));
    let (back, back_there) = world.open(1, 0, 1000);
    world.nodes[0].stack.send(ours, b"bytes that the other has read").unwrap();
    world.run_for(SOON);
    regrant(&mut world, 1, 0, &Regrant::Withdraw(ports("80,1000")));
    world.run_for(SOON);
    assert_eq!(end_of(&world, 1, theirs), Some(StreamEnd::Withdrawn));
    assert_eq!(end_of(&world, 0, ours), Some(StreamEnd::Reset), "never a clean end");
    assert!(pin(&world, 0, 1).is_denied(80) && !pin(&world, 0, 1).is_denied(81), "the other side was told");
    // What either side has opened to other ports goes on; port 1000 of node 0 is node 0's own.
    world.transfer((0, kept), (1, kept_there), 50_000);
    world.transfer((1, back), (0, back_there), 50_000);
    // Nothing new passes.
    let (peer, now) = (world.peer(0, 1), world.now);
    let refused = world.nodes[0].stack.connect(now, peer, 80).unwrap();
    world.nodes[1].stack.bind(80).unwrap();
    world.nodes[0].stack.send_datagram(peer, (80, 80), b"no").unwrap();
    world.run_for(SOON);
    assert_eq!(end_of(&world, 0, refused), Some(StreamEnd::Refused));
    assert!(!world.nodes[1].events.iter().any(|event| matches!(event, Event::Datagram { .. })));
    // Granted again, it is reached again.
    regrant(&mut world, 1, 0, &Regrant::Grant(ports("80"), None));
    world.run_for(SOON);
    let (ours, theirs) = world.open(0, 1, 80);
    world.transfer((0, ours), (1, theirs), 5000);
}

#[test]
fn unread_bytes_before_a_withdrawal_are_a_prefix_and_then_an_error() {
    let mut world = friends(902, 2);
    world.nodes[1].stack.listen(1000).unwrap();
    let (ours, theirs) = world.open(0, 1, 1000);
    world.nodes[1].stack.send(theirs, b"first").unwrap();
    world.run_for(SOON);
    regrant(&mut world, 1, 0, &Regrant::Withdraw(ports("stdio")));
    world.run_for(SOON);
    let mut buffer = [0; 64];
    let mut got = Vec::new();
    let end = loop {
        match world.nodes[0].stack.recv(ours, &mut buffer) {
            Recv::Data(n) => got.extend_from_slice(&buffer[..n]),
            end => break end,
        }
    };
    assert!(b"first".starts_with(&got), "{got:?}");
    assert_eq!(end, Recv::Ended(StreamEnd::Reset));
}

#[test]
fn a_peer_that_was_away_learns_the_newest_grant_by_letter() {
    let mut world = friends(903, 2);
    connect(&mut world, 1);
    // Node 0 is away while its grants change more often than its mailbox has room.
    world.set_conditions(Conditions { loss: 1000, ..Conditions::default() });
    world.restart(0);
    world.run_for(Duration::from_secs(1200));
    world.set_conditions(Conditions::default());
    world.run_until("node 1 is registered", |w| w.is_registered(1));
    for round in 0..20u16 {
        regrant(&mut world, 1, 0, &Regrant::Grant(Ports::one(8000 + 2 * round), None));
        regrant(&mut world, 1, 0, &Regrant::Withdraw(Ports::one(8000 + 2 * round)));
    }
    regrant(&mut world, 1, 0, &Regrant::Withdraw(ports("messages")));
    world.run_until("node 0 has heard", |w| pin(w, 0, 1).is_denied(1001));
    assert_eq!(pin(&world, 0, 1).granted, Some(pin(&world, 1, 0).reach()));
}

#[test]
fn a_wish_is_told_over_the_tunnel_without_a_rendezvous() {
    let mut world = friends(904, 2);
    connect(&mut world, 1);
    world.run_for(SOON); // a direct path is found
    world.rendezvous = None;
    let (now, other) = (world.now, key(&world, 1));
    world.nodes[0].stack.endpoint_mut().wish(now, &other, &ports("80"), "a web page").unwrap();
    world.run_until("the wish arrives", |w| pin(w, 1, 0).wish.is_some());
    assert!(world.now.since(now) < SOON);
    let wish = pin(&world, 1, 0).wish.clone().unwrap();
    regrant(&mut world, 1, 0, &Regrant::Approve(wish.ports, None));
    world.run_until("the answer arrives", |w| pin(w, 0, 1).granted.as_ref().is_some_and(|g| g.allow(80)));
    assert!(pin(&world, 0, 1).asked.is_none());
}

#[test]
fn a_wish_to_a_peer_that_is_away_waits_in_its_mailbox() {
    let mut world = friends(905, 2);
    let (now, other) = (world.now, key(&world, 1));
    world.nodes[0].stack.endpoint_mut().wish(now, &other, &ports("80"), "").unwrap();
    world.run_until("the wish arrives", |w| pin(w, 1, 0).wish.is_some());
    regrant(&mut world, 1, 0, &Regrant::Decline("no".into()));
    world.run_until("the answer arrives", |w| pin(w, 0, 1).asked.is_none());
    let declined = Outcome::Granted(other);
    // The first statement is news in any case.
    assert!(outcomes(&world, 0).contains(&declined));
    assert!(pin(&world, 0, 1).is_denied(80));
}

#[test]
fn grants_with_an_end_reset_streams_at_their_end() {
    let mut world = friends(906, 2);
    let wall = world.nodes[1].stack.endpoint().wall_s(world.now);
    regrant(&mut world, 1, 0, &Regrant::Grant(ports("80"), Some(wall + 60)));
    world.nodes[1].stack.listen(80).unwrap();
    let (ours, theirs) = world.open(0, 1, 80);
    assert_eq!(world.nodes[1].stack.endpoint().trust().next_end(), Some(wall + 60));
    let at_wall = |world: &World| world.nodes[1].stack.endpoint().wall_s(world.now);
    while at_wall(&world) < wall + 60 {
        assert_eq!((end_of(&world, 1, theirs), end_of(&world, 0, ours)), (None, None));
        world.run_for(SOON);
    }
    world.run_for(SOON);
    assert_eq!(
        (end_of(&world, 1, theirs), end_of(&world, 0, ours)),
        (Some(StreamEnd::Withdrawn), Some(StreamEnd::Reset))
    );
    assert!(pin(&world, 0, 1).is_denied(80));
}

/// Two nodes that trust each other until a second of the wall clock.
fn friends_until(number: u64, lasts_s: u64) -> (World, u64) {
    let seed = seed(number);
    println!("seed {seed}");
    let mut world = World::new(seed, 2);
    world.run_until("both are registered", |w| [0, 1].iter().all(|n| w.is_registered(*n)));
    let (record, asker) = (world.find(0, 1), key(&world, 0));
    let now = world.now;
    let end_s = world.nodes[1].stack.endpoint().wall_s(now) + lasts_s;
    world.nodes[0].stack.endpoint_mut().request_trust(now, &record, &Terms::default()).unwrap();
    world.run_until("the request arrives", |w| w.nodes[1].stack.endpoint().trust().pending().count() > 0);
    let (now, terms) = (world.now, Terms { not_after: Some(end_s), ..Terms::default() });
    world.nodes[1].stack.endpoint_mut().approve(now, &asker, &terms).unwrap();
    let other = key(&world, 1);
    world.run_until("the answer arrives", |w| w.nodes[0].stack.endpoint().trust().pin(&other).is_some());
    (world, end_s)
}

#[test]
fn trust_with_an_end_ends_busy_streams_at_both_ends_within_a_second() {
    let (mut world, end_s) = friends_until(908, 60);
    world.nodes[1].stack.listen(1000).unwrap();
    world.nodes[0].stack.listen(1000).unwrap();
    let streams = [world.open(0, 1, 1000), world.open(1, 0, 1000)];
    let [(a0, a1), (b1, b0)] = streams;
    let ends = [(0, a0), (1, a1), (0, b0), (1, b1)];
    let wall_s = |world: &World| world.nodes[1].stack.endpoint().wall_s(world.now);
    let (mut buffer, mut read) = (vec![0; 65536], 0);
    while wall_s(&world) < end_s {
        for (node, stream) in ends {
            assert_eq!(end_of(&world, node, stream), None, "{} s before the end", end_s - wall_s(&world));
            world.nodes[node].stack.send(stream, &buffer[..4096]).unwrap();
            while let Recv::Data(n) = world.nodes[node].stack.recv(stream, &mut buffer) {
                read += n;
            }
        }
        world.run_for(Duration::from_millis(20));
    }
    assert!(read > 1 << 20, "the streams were busy");
    world.run_for(Duration::from_millis(980));
    for (node, stream) in ends {
        assert!(end_of(&world, node, stream).is_some(), "node {node} goes on");
        let other = key(&world, 1 - node);
        assert!(world.nodes[node].stack.endpoint().trust().pin(&other).is_none(), "node {node} has the pin");
    }
}

/// What arrives with the second of the end finds the pin still there: a machine looks at its clock a little later.
#[test]
fn nothing_that_comes_with_the_second_of_the_end_is_let_in() {
    for (is_grant, early_us) in [(false, 1), (false, 0), (true, 1), (true, 0)] {
        let (mut world, end_s, port) = if is_grant {
            let mut world = friends(909, 2);
            let end_s = world.nodes[1].stack.endpoint().wall_s(world.now) + 60;
            regrant(&mut world, 1, 0, &Regrant::Grant(ports("80"), Some(end_s)));
            (world, end_s, 80)
        } else {
            let (world, end_s) = friends_until(909, 60);
            (world, end_s, 1000)
        };
        world.nodes[1].stack.listen(port).unwrap();
        world.nodes[1].stack.bind(port).unwrap();
        world.open(0, 1, port);
        world.nodes[1].events.clear();
        let left_us = end_s * 1_000_000 - world.nodes[1].stack.endpoint().wall_us(world.now);
        world.run_for(Duration::from_micros(left_us - early_us) - WAY);
        let (peer, now) = (world.peer(0, 1), world.now);
        world.nodes[0].stack.send_datagram(peer, (port, port), b"late").unwrap();
        world.nodes[0].stack.connect(now, peer, port).unwrap();
        world.run_for(SOON);
        let events = &world.nodes[1].events;
        let datagrams = events.iter().filter(|event| matches!(event, Event::Datagram { .. })).count();
        assert_eq!(datagrams as u64, early_us, "{early_us} us before the end");
        assert!(!events.iter().any(|event| matches!(event, Event::Incoming { .. })), "a stream was let in");
    }
}

#[test]
fn grants_arrive_at_every_loss_rate_and_never_out_of_order() {
    for loss in [50, 200, 400] {
        let mut world = friends(907, 2);
        connect(&mut world, 1);
        world.set_conditions(Conditions { loss, reorder: 200, duplicate: 100, ..Conditions::default() });
        for round in 0..30u16 {
            let port = ports(if round % 3 == 0 { "80" } else { "80,81" });
            let change = if round % 2 == 0 { Regrant::Grant(port, None) } else { Regrant::Withdraw(port) };
            regrant(&mut world, 1, 0, &change);
            world.run_for(Duration::from_millis(37));
        }
        let last = pin(&world, 1, 0).reach();
        world.run_until("the last grant arrives", |w| pin(w, 0, 1).granted.as_ref() == Some(&last));
    }
}

// Names.

fn rename(world: &mut World, node: NodeIndex, hostname: &str) {
    let (now, profile) = (world.now, Profile { hostname: hostname.into(), ..Profile::default() });
    world.nodes[node].stack.endpoint_mut().set_profile(now, profile);
}

/// Lets the tunnels end in which new friends have greeted each other.
fn let_tunnels_end(world: &mut World) {
    world.run_for(Duration::from_secs(600));
}

fn look_up(world: &mut World, node: NodeIndex, name: &str) -> NodeRecord {
    let (now, seen) = (world.now, world.nodes[node].events.len());
    world.nodes[node].stack.endpoint_mut().lookup(now, Query::Name(name.into())).unwrap();
    let mut found = None;
    world.run_until("the name is found", |w| {
        found = w.nodes[node].events[seen..].iter().find_map(|event| match event {
            Event::Endpoint(EndpointEvent::Answer(_, Some(pilot_core::control::Answer::Found(bytes)))) => {
                NodeRecord::parse(bytes).ok()
            }
            _ => None,
        });
        found.is_some()
    });
    found.unwrap()
}

#[test]
fn connected_peers_learn_a_new_name_at_once_and_others_with_the_next_tunnel() {
    let mut world = friends(908, 3);
    let_tunnels_end(&mut world);
    connect(&mut world, 1);
    rename(&mut world, 0, "other-name");
    world.run_for(SOON * 2);
    assert_eq!(pin(&world, 1, 0).hostname, "other-name");
    assert_eq!(pin(&world, 2, 0).hostname, "node-1", "nothing connects them");
    connect(&mut world, 2);
    assert_eq!(pin(&world, 2, 0).hostname, "other-name");
    // The name survives a restart of the one that knows it.
    world.restart(1);
    assert_eq!(pin(&world, 1, 0).hostname, "other-name");
}

#[test]
fn a_name_that_the_rendezvous_refuses_is_told_to_no_peer() {
    let mut world = friends(909, 3);
    connect(&mut world, 1);
    rename(&mut world, 0, "node-3");
    world.run_for(SOON * 2);
    assert_eq!(pin(&world, 1, 0).hostname, "node-1");
}

#[test]
fn a_peer_is_found_under_its_new_name_by_looking_it_up() {
    let mut world = friends(910, 2);
    let_tunnels_end(&mut world);
    rename(&mut world, 1, "other-name");
    world.run_for(SOON * 2);
    assert_eq!(pin(&world, 0, 1).hostname, "node-2");
    let record = look_up(&mut world, 0, "other-name");
    let now = world.now;
    world.nodes[0].stack.endpoint_mut().refresh(now, &record);
    assert_eq!(pin(&world, 0, 1).hostname, "other-name");
}

#[test]
fn a_node_with_a_freed_name_is_not_the_peer_that_had_it() {
    let mut world = friends(911, 3);
    let_tunnels_end(&mut world);
    connect(&mut world, 2);
    // Node 1 gives its name up, which node 0 does not hear; node 2, whom node 0 trusts too, takes it.
    rename(&mut world, 1, "other-name");
    world.run_for(SOON * 2);
    rename(&mut world, 2, "node-2");
    world.run_for(SOON * 2);
    assert_eq!(pin(&world, 0, 1).hostname, "node-2", "the name means the peer that was approved under it");
    assert_eq!(pin(&world, 0, 2).hostname, "", "the other is called by its address");
    let refused = |outcome: &Outcome| matches!(outcome, Outcome::Renamed(_, how) if how.is_refused);
    assert!(outcomes(&world, 0).iter().any(refused), "the owner is told");
    // Once node 0 hears of the first, both have their names, and the owner is told of both.
    connect(&mut world, 1);
    assert_eq!(pin(&world, 0, 1).hostname, "other-name");
    assert_eq!(pin(&world, 0, 2).hostname, "node-2");
    let key = pin(&world, 0, 2).identity;
    let named = |outcome: &Outcome| matches!(outcome, Outcome::Renamed(of, how) if *of == key && !how.is_refused);
    assert!(outcomes(&world, 0).iter().any(named), "the owner is told that the peer has its name");
}

/// Without a session of the one that gets the name.
#[test]
fn the_name_of_a_peer_that_is_trusted_no_more_goes_to_the_one_that_claims_it() {
    let mut world = friends(912, 3);
    let_tunnels_end(&mut world);
    connect(&mut world, 2);
    rename(&mut world, 1, "other-name");
    world.run_for(SOON * 2);
    rename(&mut world, 2, "node-2");
    world.run_for(SOON * 2);
    let_tunnels_end(&mut world);
    assert_eq!(pin(&world, 0, 2).hostname, "");
    let (now, key) = (world.now, pin(&world, 0, 1).identity);
    world.nodes[0].stack.endpoint_mut().revoke(now, &key).unwrap();
    world.run_for(Duration::from_millis(1));
    assert_eq!(pin(&world, 0, 2).hostname, "node-2");
}
