//! Scenarios of machines with wrong clocks, in the simulator: nothing is refused for it for long, and the difference is told.
#![allow(clippy::unwrap_used, reason = "tests")]

use pilot_core::endpoint::{Event as EndpointEvent, Warning};
use pilot_core::time::Duration;
use pilot_core::trust::{Terms, TrustBook};
use pilot_stack::{CommandError, Event};
use pilot_tests::{World, seed};

const HOUR_S: i64 = 3600;
/// Within this everything works again. Source: the goal of `docs/faults.md`.
const SOON: Duration = Duration::from_secs(30);

/// Both are registered, and a stream of the first to the second stands within [`SOON`].
fn assert_reached(world: &mut World, what: &str) {
    let until = world.now + SOON;
    world.run_until("both are registered", |w| w.is_registered(0) && w.is_registered(1));
    let listening = world.nodes[1].stack.listen(1000);
    assert!(matches!(listening, Ok(()) | Err(CommandError::PortInUse)), "{listening:?}");
    world.open(0, 1, 1000);
    assert!(world.now <= until, "{what}");
}

fn told(world: &World, node: usize) -> Vec<i64> {
    let warnings = world.nodes[node].events.iter().filter_map(|event| match event {
        Event::Endpoint(EndpointEvent::Warning(Warning::Clock(behind_s))) => Some(*behind_s),
        _ => None,
    });
    warnings.collect()
}

#[test]
fn a_clock_that_is_an_hour_back_after_a_restart_keeps_nobody_away() {
    for node in [0, 1] {
        let mut world = World::new(seed(70 + node as u64), 2);
        world.set_clock(node, HOUR_S);
        world.make_friends(0, 1);
        world.set_clock(node, 0);
        world.restart(node);
        assert_reached(&mut world, "after the restart");
    }
}

#[test]
fn a_boot_in_1970_is_told_and_over_when_the_clock_is_right_again() {
    let mut world = World::new(seed(75), 2);
    world.make_friends(0, 1);
    world.set_clock(1, -1_000_000 * HOUR_S);
    world.restart(1);
    assert_reached(&mut world, "with the clock at zero");
    let [behind_s] = told(&world, 1)[..] else { panic!("told once: {:?}", told(&world, 1)) };
    assert!(behind_s > 365 * 24 * HOUR_S, "{behind_s}");
    world.set_clock(1, 0);
    assert_eq!(world.nodes[1].stack.endpoint().clock_behind_s(world.now), Some(0));
    world.restart(0);
    assert_reached(&mut world, "with the right clock");
}

#[test]
fn a_first_request_arrives_whatever_the_clocks_say() {
    for (n, hours) in [23_i64, 25, -25, 24 * 40, -24 * 40].into_iter().enumerate() {
        let ahead_s = hours * HOUR_S;
        for node in [0, 1] {
            let mut world = World::new(seed(80 + n as u64), 2);
            world.set_clock(node, ahead_s);
            world.make_friends(0, 1);
            assert_reached(&mut world, "a first request");
            // The answer's way back counts as a part of a second.
            let [behind_s] = told(&world, node)[..] else { panic!("told once: {:?}", told(&world, node)) };
            assert!((behind_s + ahead_s).abs() <= 1, "{behind_s} for {ahead_s}");
            assert!(told(&world, 1 - node).is_empty());
        }
    }
}

/// One side has lost its trust, or holds another secret: the other is told why there is no tunnel, and one approval on each
/// side that has to give one heals.
#[test]
fn a_pair_with_different_secrets_notices_and_is_healed_by_approvals() {
    let mut world = World::new(seed(90), 2);
    world.make_friends(0, 1);
    let early = world.nodes[1].stack.endpoint().trust().emit();
    // The pair trusts anew, and node 1 is restored from a backup of the time before.
    let (now, key) = (world.now, world.nodes[1].stack.endpoint().identity().public());
    world.nodes[0].stack.endpoint_mut().revoke(now, &key).unwrap();
    world.run_until("the revocation arrives", |w| w.nodes[1].stack.endpoint().trust().pins().count() == 0);
    world.make_friends(0, 1);
    world.boot_with(1, TrustBook::parse(&early).unwrap());
    world.nodes[1].stack.listen(1000).unwrap();
    let (now, peer) = (world.now, world.peer(0, 1));
    world.nodes[0].stack.connect(now, peer, 1000).unwrap();
    let differs = |w: &World, node: usize| {
        let peer = w.peer(node, 1 - node);
        w.nodes[node].stack.endpoint().peer_info(w.now, peer).unwrap().secret_differs
    };
    world.run_until("both know", |w| differs(w, 0) && differs(w, 1));
    let keys = [0, 1].map(|node| world.nodes[node].stack.endpoint().identity().public());
    for node in [1, 0] {
        let other = keys[1 - node];
        world.run_until("a request waits", |w| w.nodes[node].stack.endpoint().trust().pending().count() == 1);
        let now = world.now;
        world.nodes[node].stack.endpoint_mut().approve(now, &other, &Terms::default()).unwrap();
    }
    let secret =
        |w: &World, node: usize| w.nodes[node].stack.endpoint().trust().pin(&keys[1 - node]).unwrap().secret.clone();
    world.run_until("one secret", |w| secret(w, 0) == secret(w, 1));
    assert_reached(&mut world, "after the approvals");
    assert!(!differs(&world, 0) && !differs(&world, 1));
}

/// Data between peers that know each other goes on whatever their clocks say, and new keys are made.
#[test]
fn a_step_of_a_clock_ends_no_stream_and_keeps_nobody_away() {
    for (n, step_s) in [2, HOUR_S, 24 * 365 * HOUR_S].into_iter().flat_map(|step| [step, -step]).enumerate() {
        let mut world = World::new(seed(100 + n as u64), 2);
        world.make_friends(0, 1);
        world.nodes[1].stack.listen(1000).unwrap();
        for ahead_s in [step_s, 0] {
            let (a, b) = world.open(0, 1, 1000);
            world.set_clock(n % 2, ahead_s);
            for _ in 0..10 {
                // Longer than one key lasts, all in all.
                world.run_for(Duration::from_secs(20));
                let took = world.transfer((0, a), (1, b), 10_000);
                assert!(took < Duration::from_secs(2), "{took:?} after a step of {step_s} s");
            }
            world.restart(1 - n % 2);
            let _ = world.nodes[1].stack.listen(1000); // bound already in a process that goes on
            assert_reached(&mut world, "after a restart of the other");
        }
    }
}
