//! Members of one group meet without a question to any owner, and others do not. A failure prints its seed; `PILOT_SEED` takes it back.
#![allow(clippy::unwrap_used, reason = "tests")]

mod lives;
mod rules;

use pilot_core::endpoint::Event as EndpointEvent;
use pilot_core::group::{GroupId, Role};
use pilot_core::identity::IdentityKey;
use pilot_core::invite::{InviteCode, Rendezvous};
use pilot_core::time::Duration;
use pilot_core::trust::{GroupError, JoinRefusal, Outcome, Ports, Terms};
use pilot_stack::Event;
use pilot_tests::{NodeIndex, World, seed};

const DAY_S: u64 = 24 * 3600;

fn world(number: u64, nodes: usize) -> World {
    let seed = seed(number);
    println!("seed {seed}");
    let mut world = World::new(seed, nodes);
    world.run_until("all are registered", |w| (0..nodes).all(|node| w.is_registered(node)));
    world
}

fn key(world: &World, node: NodeIndex) -> IdentityKey {
    world.nodes[node].stack.endpoint().identity().public()
}

fn pin_ports(world: &World, node: NodeIndex, other: NodeIndex) -> Option<Ports> {
    let key = key(world, other);
    world.nodes[node].stack.endpoint().trust().pin(&key).map(pilot_core::trust::Pin::reach)
}

fn trusts(world: &World, node: NodeIndex, other: NodeIndex) -> bool {
    pin_ports(world, node, other).is_some()
}

fn members(world: &World, node: NodeIndex, id: &GroupId) -> usize {
    let endpoint = world.nodes[node].stack.endpoint();
    let group = endpoint.trust().groups().find(|group| group.roster.id() == *id);
    group.map_or(0, |group| group.roster.judge(endpoint.group_time(world.now)).members().count())
}

fn outcomes(world: &World, node: NodeIndex) -> Vec<Outcome> {
    let told = world.nodes[node].events.iter().filter_map(|event| match event {
        Event::Endpoint(EndpointEvent::Trust(outcome)) => Some(outcome.clone()),
        _ => None,
    });
    told.collect()
}

fn found(world: &mut World, node: NodeIndex) -> GroupId {
    let now = world.now;
    world.nodes[node].stack.endpoint_mut().create_group(now, "fleet", Ports::one(80)).unwrap()
}

fn invite(world: &mut World, node: NodeIndex, id: &GroupId, uses: u16) -> InviteCode {
    let now = world.now;
    let endpoint = world.nodes[node].stack.endpoint_mut();
    let invite = endpoint.group_invite(now, id, (uses, 7 * DAY_S)).unwrap();
    let code = InviteCode {
        inviter: endpoint.identity().public(),
        addr: endpoint.addr(),
        invite: invite.id,
        secret: invite.secret,
        expires: (invite.made_at + 7 * DAY_S) as u32,
        candidates: Vec::new(),
        group: Some(*id),
        rendezvous: endpoint.rendezvous_address().map(|(key, _)| Rendezvous::same(&key)),
    };
    code.emit().unwrap().parse().unwrap()
}

fn join(world: &mut World, node: NodeIndex, code: &InviteCode) {
    let now = world.now;
    let terms = Terms { ports: Ports::one(80), ..Terms::default() };
    world.nodes[node].stack.endpoint_mut().join(now, code, &terms).unwrap();
}

/// A group with all nodes: the first one founds it, the others join by one code.
fn fleet(number: u64, nodes: usize) -> (World, GroupId) {
    let mut world = world(number, nodes);
    let id = found(&mut world, 0);
    let code = invite(&mut world, 0, &id, nodes as u16 - 1);
    for node in 1..nodes {
        join(&mut world, node, &code);
        world.run_until("it has joined", |w| trusts(w, node, 0) && trusts(w, 0, node));
    }
    world.run_until("all know all", |w| (0..nodes).all(|node| members(w, node, &id) == nodes));
    (world, id)
}

fn meet(world: &mut World, a: NodeIndex, b: NodeIndex, id: &GroupId) -> Result<(), GroupError> {
    let (now, key) = (world.now, key(world, b));
    world.nodes[a].stack.endpoint_mut().meet_member(now, id, &key)
}

#[test]
fn members_of_one_group_meet_without_a_question_and_reach_what_each_owner_allows() {
    let (mut world, id) = fleet(1800, 3);
    let now = world.now;
    world.nodes[2].stack.endpoint_mut().allow_group(now, &id, Role::Member, Ports::one(22)).unwrap();
    assert!(!trusts(&world, 1, 2) && !trusts(&world, 2, 1));
    let begin = world.now;
    meet(&mut world, 1, 2, &id).unwrap();
    world.run_until("both trust each other", |w| trusts(w, 1, 2) && trusts(w, 2, 1));
    assert!(world.now.since(begin) < Duration::from_secs(2), "{:?}", world.now.since(begin));
    assert_eq!((pin_ports(&world, 1, 2), pin_ports(&world, 2, 1)), (Some(Ports::one(80)), Some(Ports::one(22))));
    assert!((0..3).all(|node| world.nodes[node].stack.endpoint().trust().pending().next().is_none()));
    world.nodes[1].stack.listen(80).unwrap();
    world.open(2, 1, 80);
}

#[test]
fn two_that_ask_each_other_at_once_have_one_secret() {
    let (mut world, id) = fleet(1801, 3);
    meet(&mut world, 1, 2, &id).unwrap();
    meet(&mut world, 2, 1, &id).unwrap();
    world.run_until("both trust each other", |w| trusts(w, 1, 2) && trusts(w, 2, 1));
    let secret = |of: NodeIndex, other: NodeIndex| {
        world.nodes[of].stack.endpoint().trust().pin(&key(&world, other)).unwrap().secret.clone()
    };
    assert_eq!(secret(1, 2), secret(2, 1));
    world.nodes[1].stack.listen(80).unwrap();
    world.open(2, 1, 80);
}

#[test]
fn a_removed_member_is_out_where_the_roster_arrives_and_comes_back_by_a_new_code_only() {
    let (mut world, id) = fleet(1802, 4);
    for (a, b) in [(1, 2), (1, 3)] {
        meet(&mut world, a, b, &id).unwrap();
        world.run_until("they met", |w| trusts(w, a, b) && trusts(w, b, a));
    }
    world.nodes[2].stack.listen(80).unwrap();
    world.open(1, 2, 80);
    world.nodes[0].stack.listen(80).unwrap();
    world.open(2, 0, 80);
    // Node 3 has no tunnel and hears nothing; its old roster has the member.
    let code = invite(&mut world, 0, &id, 5);
    let (now, gone) = (world.now, key(&world, 1));
    world.nodes[0].stack.endpoint_mut().remove_member(now, &id, &gone).unwrap();
    assert!(!trusts(&world, 0, 1));
    world.run_until("it is out at a member with a tunnel", |w| !trusts(w, 2, 1));
    assert!(world.now.since(now) < Duration::from_millis(400), "{:?}", world.now.since(now));
    world.run_until("it knows", |w| !trusts(w, 1, 2));
    assert_eq!(members(&world, 2, &id), 3);
    // Its old roster convinces no member with the new one.
    let _ = meet(&mut world, 1, 2, &id);
    world.run_for(Duration::from_secs(5));
    assert!(!trusts(&world, 2, 1) && !trusts(&world, 1, 2));
    assert!(
        outcomes(&world, 1).contains(&Outcome::JoinRefused(key(&world, 2), JoinRefusal::Removed)),
        "{:?}",
        outcomes(&world, 1)
    );
    // A code from before the removal is void.
    join(&mut world, 1, &code);
    world.run_for(Duration::from_secs(5));
    assert!(outcomes(&world, 1).contains(&Outcome::JoinRefused(key(&world, 0), JoinRefusal::Withdrawn)));
    let code = invite(&mut world, 0, &id, 1);
    join(&mut world, 1, &code);
    world.run_until("it is back", |w| trusts(w, 0, 1) && trusts(w, 1, 0));
    assert_eq!(members(&world, 0, &id), 4);
}

#[test]
fn strangers_and_members_without_an_allowance_do_not_meet() {
    let (mut world, id) = fleet(1803, 3);
    let now = world.now;
    world.nodes[2].stack.endpoint_mut().allow_group(now, &id, Role::Member, Ports::NONE).unwrap();
    meet(&mut world, 1, 2, &id).unwrap();
    world.run_until("it is told", |w| outcomes(w, 1).iter().any(|o| matches!(o, Outcome::JoinRefused(..))));
    assert!(outcomes(&world, 1).contains(&Outcome::JoinRefused(key(&world, 2), JoinRefusal::NotAllowed)));
    assert!(!trusts(&world, 2, 1) && !trusts(&world, 1, 2));
}

#[test]
fn an_used_up_code_lets_no_further_node_in() {
    let mut world = world(1804, 4);
    let id = found(&mut world, 0);
    let code = invite(&mut world, 0, &id, 2);
    for node in [1, 2] {
        join(&mut world, node, &code);
        world.run_until("it has joined", |w| trusts(w, node, 0));
    }
    join(&mut world, 3, &code);
    world.run_until("it is told", |w| !outcomes(w, 3).is_empty());
    assert_eq!(outcomes(&world, 3), [Outcome::JoinRefused(key(&world, 0), JoinRefusal::UsedUp)]);
    assert_eq!(world.nodes[3].stack.endpoint().trust().groups().count(), 0);
    assert_eq!(members(&world, 0, &id), 3);
}

#[test]
fn a_membership_ends_without_renewal_and_an_admin_renews_whom_it_meets_in_the_last_third() {
    for renews in [false, true] {
        let (mut world, id) = fleet(1805, 3);
        meet(&mut world, 1, 2, &id).unwrap();
        world.run_until("they met", |w| trusts(w, 1, 2) && trusts(w, 2, 1));
        world.nodes[0].stack.listen(80).unwrap();
        days(&mut world, 25);
        if renews {
            [1, 2].into_iter().for_each(|node| _ = world.open(node, 0, 80));
            world.run_for(Duration::from_secs(2));
        }
        days(&mut world, 6);
        assert_eq!((trusts(&world, 1, 2), trusts(&world, 0, 1)), (renews, renews), "renews {renews}");
    }
}

/// Lets days pass at all nodes.
fn days(world: &mut World, count: u64) {
    world.run_for(Duration::from_secs(count * DAY_S));
    let now = world.now;
    world.nodes.iter_mut().for_each(|node| _ = node.stack.endpoint_mut().expire_trust(now));
}

#[test]
fn a_clock_that_is_wrong_by_a_day_shuts_no_member_out() {
    for ahead_s in [DAY_S as i64, -(DAY_S as i64)] {
        let (mut world, id) = fleet(1806, 3);
        world.set_clock(1, ahead_s);
        world.set_clock(2, -ahead_s);
        meet(&mut world, 1, 2, &id).unwrap();
        world.run_until("both trust each other", |w| trusts(w, 1, 2) && trusts(w, 2, 1));
    }
}

#[test]
fn a_member_leaves_and_its_group_goes_on() {
    let (mut world, id) = fleet(1807, 3);
    world.nodes[0].stack.listen(80).unwrap();
    world.open(1, 0, 80);
    let now = world.now;
    world.nodes[1].stack.endpoint_mut().leave_group(now, &id).unwrap();
    assert!(!trusts(&world, 1, 0));
    world.run_until("the others know", |w| !trusts(w, 0, 1) && members(w, 0, &id) == 2);
    assert_eq!(world.nodes[1].stack.endpoint().trust().groups().count(), 0);
}

#[test]
fn a_node_for_one_run_is_nowhere_after_its_end_although_it_ends_as_soon_as_it_has_joined() {
    for seed in 1813..1823 {
        let mut world = world(seed, 3);
        let id = found(&mut world, 0);
        let code = invite(&mut world, 0, &id, 2);
        join(&mut world, 1, &code);
        world.run_until("the other member has joined", |w| trusts(w, 1, 0) && trusts(w, 0, 1));
        join(&mut world, 2, &code);
        world.run_until("it has joined", |w| trusts(w, 2, 0));
        world.run_until("a member hears it", |w| w.nodes[2].stack.endpoint().is_heard_in_groups(w.now));
        let now = world.now;
        world.nodes[2].stack.endpoint_mut().leave(now);
        world.run_until("the rendezvous has answered", |w| !w.nodes[2].stack.endpoint().is_leaving());
        world.nodes[2].is_offline = true;
        world.run_until("the members know", |w| (0..2).all(|node| members(w, node, &id) == 2 && !trusts(w, node, 2)));
        assert_eq!(world.nodes_in_books(), 2);
    }
}

#[test]
fn groups_survive_a_power_cut() {
    let (mut world, id) = fleet(1808, 3);
    world.run_until("all is on disk", |w| (0..3).all(|node| w.is_saved(node)));
    (0..3).for_each(|node| world.cut_power(node));
    world.run_until("all are registered", |w| (0..3).all(|node| w.is_registered(node)));
    assert_eq!(members(&world, 2, &id), 3);
    meet(&mut world, 2, 1, &id).unwrap();
    world.run_until("both trust each other", |w| trusts(w, 1, 2) && trusts(w, 2, 1));
    let now = world.now;
    assert!(world.nodes[0].stack.endpoint_mut().group_invite(now, &id, (1, 60)).is_ok(), "its key is there");
}

#[test]
fn fifty_nodes_join_by_one_code() {
    let (mut world, id) = fleet_of_many(1809, 50);
    meet(&mut world, 17, 42, &id).unwrap();
    world.run_until("both trust each other", |w| trusts(w, 17, 42) && trusts(w, 42, 17));
}

/// As [`fleet`], at once.
fn fleet_of_many(number: u64, nodes: usize) -> (World, GroupId) {
    let mut world = world(number, nodes);
    let id = found(&mut world, 0);
    let code = invite(&mut world, 0, &id, nodes as u16 - 1);
    (1..nodes).for_each(|node| join(&mut world, node, &code));
    world.run_until("all have joined", |w| members(w, 0, &id) == nodes && (1..nodes).all(|node| trusts(w, node, 0)));
    world.run_until("all know all", |w| (0..nodes).all(|node| members(w, node, &id) == nodes));
    (world, id)
}

#[test]
fn members_stay_when_the_founder_gives_the_group_another_key() {
    let (mut world, id) = fleet(1811, 3);
    world.nodes[0].stack.listen(80).unwrap();
    [1, 2].into_iter().for_each(|node| _ = world.open(node, 0, 80));
    let now = world.now;
    world.nodes[0].stack.endpoint_mut().rekey_group(now, &id, &[]).unwrap();
    world.run_for(Duration::from_secs(5));
    for node in [1, 2] {
        assert!(members(&world, node, &id) == 3 && trusts(&world, node, 0) && trusts(&world, 0, node), "node {node}");
    }
    meet(&mut world, 1, 2, &id).unwrap();
    world.run_until("both trust each other", |w| trusts(w, 1, 2) && trusts(w, 2, 1));
}
