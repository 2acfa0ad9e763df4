//! What becomes of calls when the rendezvous is restarted, full, or used by two processes with one identity.
#![allow(clippy::unwrap_used, reason = "tests")]

use pilot_core::control::Query;
use pilot_core::endpoint::{DirectoryState, Event as EndpointEvent, Warning};
use pilot_core::time::Duration;
use pilot_core::trust::Terms;
use pilot_stack::Event;
use pilot_tests::{NodeIndex, World, seed};

/// Nodes that ask the first one at once. Source: below the requests that wait at most, of 255 nodes that a world has.
const ASKERS: usize = 240;
const SOON: Duration = Duration::from_secs(30);

fn trust_of_hub(world: &World) -> usize {
    let hub = world.nodes[0].stack.endpoint().identity().public();
    world.nodes[1..].iter().filter(|node| node.stack.endpoint().trust().pin(&hub).is_some()).count()
}

/// All ask node 0, and its owner approves all in a loop; the rendezvous is restarted `after_ms` later.
fn approve_all(seed: u64, after_ms: u64) {
    let mut world = World::new(seed, 1 + ASKERS);
    world.run_until("all are registered", |w| (0..=ASKERS).all(|n| w.is_registered(n)));
    let record = world.find(1, 0);
    for node in 1..=ASKERS {
        let now = world.now;
        world.nodes[node].stack.endpoint_mut().request_trust(now, &record, &Terms::default()).unwrap();
    }
    world.run_until("all have asked", |w| w.nodes[0].stack.endpoint().trust().pending().count() == ASKERS);
    let keys: Vec<_> = world.nodes[1..].iter().map(|node| node.stack.endpoint().identity().public()).collect();
    let now = world.now;
    for key in &keys {
        world.nodes[0].stack.endpoint_mut().approve(now, key, &Terms::default()).unwrap();
    }
    world.run_for(Duration::from_millis(after_ms));
    world.restart_rendezvous();
    world.run_for(SOON);
    assert_eq!(trust_of_hub(&world), ASKERS, "seed {seed}, restarted after {after_ms} ms");
}

/// 720 approvals, the rendezvous restarted before, between and after their letters.
#[test]
fn approvals_in_a_loop_are_all_told_whenever_the_rendezvous_is_restarted() {
    for (n, after_ms) in [0, 700, 2500].into_iter().enumerate() {
        approve_all(seed(40 + n as u64), after_ms);
    }
}

#[test]
fn a_look_up_is_answered_or_told_when_the_rendezvous_restarts_under_it() {
    let mut world = World::new(seed(50), 2);
    world.run_until("both are registered", |w| [0, 1].iter().all(|n| w.is_registered(*n)));
    let now = world.now;
    let ticket = world.nodes[0].stack.endpoint_mut().lookup(now, Query::Name("node-2".into())).unwrap();
    world.restart_rendezvous();
    world.run_for(SOON);
    let is_told = |event: &Event| matches!(event, Event::Endpoint(EndpointEvent::Answer(of, _)) if *of == ticket);
    assert!(world.nodes[0].events.iter().any(is_told));
    assert!(world.is_registered(0) && world.is_registered(1));
    world.find(0, 1);
}

#[test]
fn a_full_disk_at_the_rendezvous_is_forgotten_thirty_seconds_after_there_is_room() {
    let mut world = World::new(seed(50), 2);
    world.set_rendezvous_full(true);
    world.run_for(Duration::from_secs(300));
    let state = world.nodes[0].stack.endpoint().directory_state();
    assert!(matches!(state, DirectoryState::Refused(_)), "{state:?}");
    world.set_rendezvous_full(false);
    world.run_for(SOON);
    assert!(world.is_registered(0) && world.is_registered(1));
}

/// A rendezvous that has lost its books gives a name to the first that asks. The former owner is registered without the name, is
/// reached by its key as before, and gets the name again once the other one is gone for long.
#[test]
fn a_node_whose_name_was_taken_stays_on_the_network() {
    let mut world = World::new(seed(50), 3);
    world.make_friends(0, 1);
    world.run_until("all are registered", |w| (0..3).all(|n| w.is_registered(n)));
    world.rendezvous = None;
    world.lose_books();
    let thief = pilot_core::identity::Profile { hostname: "node-2".into(), ..Default::default() };
    let now = world.now;
    world.nodes[2].stack.endpoint_mut().set_profile(now, thief);
    world.restart(1);
    world.restart_rendezvous();
    world.run_until("the name is taken", |w| {
        w.nodes[2].stack.endpoint().profile().hostname == "node-2" && w.is_registered(2)
    });
    world.run_until("it is registered nevertheless", |w| w.is_registered(1));
    let endpoint = world.nodes[1].stack.endpoint();
    let is_one_named = endpoint.name_is_taken() || world.nodes[2].stack.endpoint().name_is_taken();
    assert!(is_one_named && endpoint.profile().hostname == "node-2");
    world.restart(0);
    world.run_until("registered", |w| w.is_registered(0));
    world.nodes[1].stack.listen(7).unwrap();
    world.open(0, 1, 7);
    let key = world.nodes[1].stack.endpoint().identity().public();
    assert_eq!(
        world.nodes[0].stack.endpoint().trust().pin(&key).unwrap().hostname,
        "node-2",
        "its peers keep its name"
    );
}

fn warned(world: &World, node: NodeIndex) -> bool {
    let is_warning = |event: &Event| matches!(event, Event::Endpoint(EndpointEvent::Warning(Warning::Elsewhere(_))));
    world.nodes[node].events.iter().any(is_warning)
}

#[test]
fn two_processes_with_one_identity_are_both_told_and_the_first_one_recovers() {
    let mut world = World::new(seed(50), 2);
    world.make_friends(0, 1);
    let copy = world.copy(1);
    world.run_for(Duration::from_secs(240));
    assert!(warned(&world, 1), "the original knows");
    assert!(warned(&world, copy), "the copy knows");
    assert!(world.nodes[1].stack.endpoint().identity_elsewhere(world.now).is_some());
    let ended = world.now;
    world.kill_last();
    world.run_for(SOON);
    assert!(world.is_registered(1));
    let record = world.find(0, 1);
    assert_eq!(record.identity, world.nodes[1].stack.endpoint().identity().public());
    world.find(1, 0);
    assert!(world.now.since(ended) < SOON + Duration::from_secs(1), "{:?}", world.now.since(ended));
    world.run_for(Duration::from_secs(90));
    assert_eq!(world.nodes[1].stack.endpoint().identity_elsewhere(world.now), None);
}
