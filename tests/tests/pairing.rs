//! Nodes that know nothing of each other pair by a code. A failure prints its seed; `PILOT_SEED` takes it back.
#![allow(clippy::unwrap_used, reason = "tests")]

use pilot_core::endpoint::Event as EndpointEvent;
use pilot_core::identity::IdentityKey;
use pilot_core::invite::{InviteCode, InviteSecret, Rendezvous};
use pilot_core::time::Duration;
use pilot_core::trust::{InviteTerms, JoinRefusal, Outcome, Ports, Terms};
use pilot_stack::Event;
use pilot_tests::{Conditions, NodeIndex, World, seed};

const HOUR_S: u64 = 3600;
const DAY_S: i64 = 24 * 3600;

/// How the holder of a code finds its maker.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Rendezvous,
    Addresses,
}

fn world(number: u64, nodes: usize) -> World {
    let seed = seed(number);
    println!("seed {seed}");
    World::new(seed, nodes)
}

fn key(world: &World, node: NodeIndex) -> IdentityKey {
    world.nodes[node].stack.endpoint().identity().public()
}

fn invite(world: &mut World, node: NodeIndex, uses: u16, way: Way) -> InviteCode {
    let now = world.now;
    let endpoint = world.nodes[node].stack.endpoint_mut();
    let terms = InviteTerms { ports: Ports::one(80), uses, lifetime_s: HOUR_S };
    let invite = endpoint.invite(now, terms).unwrap();
    let rendezvous = endpoint.rendezvous_address().map(|(key, _)| Rendezvous::same(&key));
    let code = InviteCode {
        inviter: endpoint.identity().public(),
        addr: endpoint.addr(),
        invite: invite.id,
        secret: invite.secret,
        expires: (invite.made_at + HOUR_S) as u32,
        candidates: if way == Way::Addresses { endpoint.candidates() } else { Vec::new() },
        group: None,
        rendezvous: rendezvous.filter(|_| way == Way::Rendezvous),
    };
    // As it is copied from one machine to the other.
    code.emit().unwrap().parse().unwrap()
}

fn join(world: &mut World, node: NodeIndex, code: &InviteCode) {
    let now = world.now;
    world.nodes[node].stack.endpoint_mut().join(now, code, &Terms::default()).unwrap();
}

fn trusts(world: &World, node: NodeIndex, other: NodeIndex) -> bool {
    let key = key(world, other);
    world.nodes[node].stack.endpoint().trust().pin(&key).is_some_and(|pin| pin.verified)
}

fn secrets_agree(world: &World, a: NodeIndex, b: NodeIndex) -> bool {
    let secret = |of: NodeIndex, other| world.nodes[of].stack.endpoint().trust().pin(&other).unwrap().secret.clone();
    secret(a, key(world, b)) == secret(b, key(world, a))
}

fn outcomes(world: &World, node: NodeIndex) -> Vec<Outcome> {
    let told = world.nodes[node].events.iter().filter_map(|event| match event {
        Event::Endpoint(EndpointEvent::Trust(outcome)) => Some(outcome.clone()),
        _ => None,
    });
    told.collect()
}

fn registered(world: &mut World) {
    let all = world.nodes.len();
    world.run_until("all are registered", |w| (0..all).all(|node| w.is_registered(node)));
}

fn become_peers(world: &mut World, a: NodeIndex, b: NodeIndex) {
    world.run_until("both trust each other", |w| trusts(w, a, b) && trusts(w, b, a));
    assert!(secrets_agree(world, a, b));
}

#[test]
fn a_code_over_the_rendezvous_makes_two_verified_peers_and_a_stream() {
    let mut world = world(1700, 2);
    registered(&mut world);
    let code = invite(&mut world, 0, 1, Way::Rendezvous);
    join(&mut world, 1, &code);
    become_peers(&mut world, 0, 1);
    world.nodes[0].stack.listen(80).unwrap();
    world.open(1, 0, 80);
}

#[test]
fn a_code_with_addresses_needs_no_rendezvous() {
    let mut world = world(1701, 2);
    registered(&mut world);
    let code = invite(&mut world, 0, 1, Way::Addresses);
    world.rendezvous = None;
    join(&mut world, 1, &code);
    let begin = world.now;
    become_peers(&mut world, 0, 1);
    assert!(world.now.since(begin) < Duration::from_secs(1), "{:?}", world.now.since(begin));
    world.nodes[0].stack.listen(80).unwrap();
    world.open(1, 0, 80);
}

#[test]
fn half_of_all_datagrams_are_lost_and_power_is_cut_and_one_use_is_counted() {
    for number in 1710..1716 {
        let mut world = world(number, 2);
        registered(&mut world);
        let code = invite(&mut world, 0, 1, Way::Addresses);
        world.run_until("the invite is on disk", |w| w.is_saved(0));
        world.set_conditions(Conditions { loss: 500, ..Conditions::default() });
        join(&mut world, 1, &code);
        world.run_until("the request is on disk", |w| w.is_saved(1));
        world.run_for(Duration::from_millis(50 * (number - 1709)));
        world.cut_power(0);
        world.cut_power(1);
        // The joiner's next start has the same code.
        let now = world.now;
        let again = world.nodes[1].stack.endpoint_mut().join(now, &code, &Terms::default());
        assert!(again.is_ok() || trusts(&world, 1, 0), "{again:?}");
        become_peers(&mut world, 0, 1);
        let used = world.nodes[0].stack.endpoint().trust().invites().next().unwrap().0.used;
        assert_eq!(used, 1, "seed {number}");
    }
}

#[test]
fn a_join_without_an_answer_goes_on_after_a_power_cut() {
    for (number, way) in [(1716, Way::Rendezvous), (1717, Way::Addresses)] {
        let mut world = world(number, 2);
        registered(&mut world);
        let code = invite(&mut world, 0, 1, way);
        world.nodes[0].is_offline = true;
        join(&mut world, 1, &code);
        world.run_until("the request is on disk", |w| w.is_saved(1));
        world.cut_power(1);
        world.run_for(Duration::from_secs(60));
        world.nodes[0].is_offline = false;
        become_peers(&mut world, 0, 1);
    }
}

#[test]
fn a_code_that_is_used_twice_says_so_to_the_second() {
    for (number, way) in [(1720, Way::Rendezvous), (1721, Way::Addresses)] {
        let mut world = world(number, 3);
        registered(&mut world);
        let code = invite(&mut world, 0, 1, way);
        join(&mut world, 1, &code);
        become_peers(&mut world, 0, 1);
        join(&mut world, 2, &code);
        world.run_until("the second is told", |w| !outcomes(w, 2).is_empty());
        assert_eq!(outcomes(&world, 2), [Outcome::JoinRefused(key(&world, 0), JoinRefusal::UsedUp)]);
        assert!(!trusts(&world, 0, 2));
    }
}

#[test]
fn an_expired_code_says_so_and_clocks_that_are_wrong_by_a_day_do_not_matter() {
    for (number, ahead_s) in [(1730, 0), (1731, DAY_S), (1732, -DAY_S)] {
        let mut world = world(number, 3);
        registered(&mut world);
        world.set_clock(1, ahead_s);
        let code = invite(&mut world, 0, 2, Way::Addresses);
        world.set_clock(0, -ahead_s);
        join(&mut world, 1, &code);
        become_peers(&mut world, 0, 1);
        world.run_for(Duration::from_secs(HOUR_S));
        join(&mut world, 2, &code);
        world.run_until("the late one is told", |w| !outcomes(w, 2).is_empty());
        assert_eq!(outcomes(&world, 2), [Outcome::JoinRefused(key(&world, 0), JoinRefusal::Expired)]);
    }
}

#[test]
fn ten_guesses_end_an_invite_and_its_owner_is_told() {
    let mut world = world(1740, 3);
    registered(&mut world);
    let code = invite(&mut world, 0, 1, Way::Addresses);
    for guess in 0..10 {
        let wrong = InviteCode { secret: InviteSecret::new([guess; 10]), ..code.clone() };
        join(&mut world, 2, &wrong);
        world.run_for(Duration::from_millis(200));
    }
    assert!(outcomes(&world, 0).contains(&Outcome::InviteDead(code.invite)), "{:?}", outcomes(&world, 0));
    join(&mut world, 1, &code);
    world.run_until("the holder is told", |w| !outcomes(w, 1).is_empty());
    assert_eq!(outcomes(&world, 1), [Outcome::JoinRefused(key(&world, 0), JoinRefusal::Dead)]);
}

#[test]
fn inviters_that_are_asked_directly_have_a_maximum_and_walk_back_to_none() {
    let mut world = world(1750, 1);
    registered(&mut world);
    let own = invite(&mut world, 0, 1, Way::Addresses);
    let code = |n: u8| InviteCode { inviter: IdentityKey([n; 32]), ..own.clone() };
    (0..16).for_each(|n| join(&mut world, 0, &code(n)));
    let now = world.now;
    let endpoint = world.nodes[0].stack.endpoint_mut();
    assert!(endpoint.join(now, &code(16), &Terms::default()).is_err());
    assert!(endpoint.join(now, &code(15), &Terms::default()).is_ok(), "the same one again takes no other place");
    (0..16).for_each(|n| endpoint.cancel(now, &IdentityKey([n; 32])).unwrap());
    world.run_for(Duration::from_secs(31));
    join(&mut world, 0, &code(17));
}
