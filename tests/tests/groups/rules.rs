//! What members, admins, removed nodes and strangers may do, and what a pin by hand and one by group are together.

use super::{fleet, found, invite, join, key, meet, members, outcomes, pin_ports, trusts, world};
use pilot_core::group::{GroupId, Role};
use pilot_core::time::Duration;
use pilot_core::trust::{JoinRefusal, Outcome, Ports, Regrant, TrustBook};
use pilot_stack::{Event, StreamEnd, StreamId};
use pilot_tests::{NodeIndex, World, enrolment_code};

/// Longest time after which a removal that has arrived is in force.
const AT_ONCE: Duration = Duration::from_millis(100);
/// Enough for a letter and its answer.
const LETTERS: Duration = Duration::from_secs(5);

fn ports(text: &str) -> Ports {
    text.parse().unwrap()
}

fn allow(world: &mut World, node: NodeIndex, id: &GroupId, role: Role, ports: Ports) {
    let now = world.now;
    world.nodes[node].stack.endpoint_mut().allow_group(now, id, role, ports).unwrap();
}

fn remove(world: &mut World, by: NodeIndex, id: &GroupId, gone: NodeIndex) {
    let (now, key) = (world.now, key(world, gone));
    world.nodes[by].stack.endpoint_mut().remove_member(now, id, &key).unwrap();
}

fn set_role(world: &mut World, id: &GroupId, node: NodeIndex, role: Role) {
    let (now, key) = (world.now, key(world, node));
    world.nodes[0].stack.endpoint_mut().set_role(now, id, &key, role).unwrap();
}

fn role(world: &World, at: NodeIndex, id: &GroupId, of: NodeIndex) -> Option<Role> {
    let (endpoint, key) = (world.nodes[at].stack.endpoint(), key(world, of));
    let group = endpoint.trust().groups().find(|group| group.roster.id() == *id)?;
    group.roster.judge(endpoint.group_time(world.now)).standing(&key).ok().map(|row| row.role)
}

fn refusals(world: &World, node: NodeIndex) -> Vec<JoinRefusal> {
    let refusals = outcomes(world, node).into_iter().filter_map(|outcome| match outcome {
        Outcome::JoinRefused(_, why) => Some(why),
        _ => None,
    });
    refusals.collect()
}

fn end_of(world: &World, node: NodeIndex, stream: StreamId) -> Option<StreamEnd> {
    world.nodes[node].stack.stream_info(stream).and_then(|info| info.end)
}

/// How a stream that the other side does not take ends.
fn try_to_open(world: &mut World, a: NodeIndex, b: NodeIndex, port: u16) -> Option<StreamEnd> {
    let (peer, now) = (world.peer(a, b), world.now);
    let stream = world.nodes[a].stack.connect(now, peer, port).unwrap();
    world.run_for(Duration::from_secs(1));
    end_of(world, a, stream)
}

#[test]
fn an_allowance_for_admins_serves_admins_and_no_member() {
    let (mut world, id) = fleet(1830, 3);
    allow(&mut world, 2, &id, Role::Member, Ports::NONE);
    allow(&mut world, 2, &id, Role::Admin, Ports::one(22));
    world.nodes[2].stack.listen(22).unwrap();
    world.open(0, 2, 22);
    meet(&mut world, 1, 2, &id).unwrap();
    world.run_until("the member is told", |w| !refusals(w, 1).is_empty());
    assert_eq!(refusals(&world, 1), [JoinRefusal::NotAllowed]);
    assert!(!trusts(&world, 2, 1) && !trusts(&world, 1, 2));

    // As an admin it is served, as a member that it is again it is not: the stream that it has opened ends.
    set_role(&mut world, &id, 1, Role::Admin);
    world.run_until("the other one knows", |w| role(w, 2, &id, 1) == Some(Role::Admin));
    meet(&mut world, 1, 2, &id).unwrap();
    world.run_until("both trust each other", |w| trusts(w, 1, 2) && trusts(w, 2, 1));
    assert_eq!(pin_ports(&world, 2, 1), Some(Ports::one(22)));
    let (ours, theirs) = world.open(1, 2, 22);
    set_role(&mut world, &id, 1, Role::Member);
    world.run_until("the other one knows", |w| role(w, 2, &id, 1) == Some(Role::Member));
    world.run_for(AT_ONCE);
    assert_eq!(pin_ports(&world, 2, 1), Some(Ports::NONE));
    assert_eq!(end_of(&world, 2, theirs), Some(StreamEnd::Withdrawn));
    assert_eq!(end_of(&world, 1, ours), Some(StreamEnd::Reset));
}

#[test]
fn a_pin_by_hand_and_one_by_group_open_what_either_opens_and_a_removal_keeps_the_part_by_hand() {
    let mut world = world(1831, 2);
    world.make_friends(0, 1);
    let (now, other) = (world.now, key(&world, 1));
    world.nodes[0].stack.endpoint_mut().regrant(now, &other, &Regrant::Only(ports("81"))).unwrap();
    let id = found(&mut world, 0);
    let code = invite(&mut world, 0, &id, 1);
    join(&mut world, 1, &code);
    world.run_until("it has joined", |w| members(w, 0, &id) == 2 && members(w, 1, &id) == 2);
    world.run_until("what either opens is open", |w| pin_ports(w, 0, 1) == Some(ports("80,81")));
    let pin = world.nodes[0].stack.endpoint().trust().pin(&other).unwrap();
    assert_eq!((pin.by_hand, &pin.ports, &pin.groups[0].ports), (true, &ports("81"), &ports("80")));
    [80, 81].into_iter().for_each(|port| world.nodes[0].stack.listen(port).unwrap());
    let (by_group, by_group_there) = world.open(1, 0, 80);
    let (by_hand, by_hand_there) = world.open(1, 0, 81);

    remove(&mut world, 0, &id, 1);
    world.run_for(AT_ONCE);
    assert_eq!(pin_ports(&world, 0, 1), Some(ports("81")));
    assert_eq!(end_of(&world, 0, by_group_there), Some(StreamEnd::Withdrawn));
    assert_eq!(end_of(&world, 1, by_group), Some(StreamEnd::Reset));
    world.transfer((1, by_hand), (0, by_hand_there), 50_000);
    world.run_for(LETTERS);
    assert!(trusts(&world, 0, 1) && trusts(&world, 1, 0), "both owners have approved each other");
}

/// The machine that was removed is set up anew with everything that it knew but its identity: the code, the roster, its pins.
#[test]
fn a_removed_node_is_refused_with_a_new_identity_too() {
    let (mut world, id) = fleet(1832, 4);
    meet(&mut world, 1, 2, &id).unwrap();
    world.run_until("they met", |w| trusts(w, 1, 2) && trusts(w, 2, 1));
    let online = invite(&mut world, 0, &id, 9);
    let offline = enrolment_code(&mut world, 0, &id, (9, 24 * 3600));
    world.run_until("all know the code", |w| {
        (0..4).all(|node| {
            let mut groups = w.nodes[node].stack.endpoint().trust().groups();
            groups.any(|group| group.roster.enrolment(offline.enrolment.number()).is_some())
        })
    });
    remove(&mut world, 0, &id, 1);
    remove(&mut world, 0, &id, 3);
    world.run_until("both are out", |w| members(w, 0, &id) == 2 && members(w, 2, &id) == 2);

    // The fourth machine becomes what the second one was: it has the same book, and another identity.
    let book = world.nodes[1].stack.endpoint().trust().emit();
    world.boot_with(3, TrustBook::parse(&book).unwrap());
    world.run_until("it is registered", |w| w.is_registered(3));
    let met = meet(&mut world, 3, 2, &id);
    assert!(met.is_err(), "it has no proof of any membership");
    // Pins that it has not been told the end of lead nowhere.
    world.nodes[2].stack.listen(80).unwrap();
    let seen = world.nodes[2].events.len();
    let (peer, now) = (world.peer(3, 2), world.now);
    world.nodes[3].stack.connect(now, peer, 80).unwrap();
    world.run_for(LETTERS);
    assert!(!world.nodes[2].events[seen..].iter().any(|event| matches!(event, Event::Incoming { .. })));
    join(&mut world, 3, &online);
    world.run_for(LETTERS);
    assert_eq!(refusals(&world, 3), [JoinRefusal::Withdrawn]);
    let now = world.now;
    let _ = world.nodes[3].stack.endpoint_mut().enrol(now, &offline, Ports::one(80));
    world.run_for(LETTERS * 4);
    assert!([0, 2].into_iter().all(|node| !trusts(&world, node, 3) && members(&world, node, &id) == 2));
}

#[test]
fn a_removal_resets_open_streams_as_soon_as_the_roster_arrives() {
    let (mut world, id) = fleet(1833, 3);
    meet(&mut world, 1, 2, &id).unwrap();
    world.run_until("they met", |w| trusts(w, 1, 2) && trusts(w, 2, 1));
    [0, 2].into_iter().for_each(|node| world.nodes[node].stack.listen(80).unwrap());
    let (ours, theirs) = world.open(1, 2, 80);
    world.open(2, 0, 80);
    let (own, own_there) = world.open(1, 0, 80);
    remove(&mut world, 0, &id, 1);
    world.run_until("the roster arrives", |w| members(w, 2, &id) == 2);
    let arrived = world.now;
    world.run_until("all its streams are over", |w| {
        [(2, theirs), (1, ours), (0, own_there), (1, own)].iter().all(|(n, s)| end_of(w, *n, *s).is_some())
    });
    assert!(world.now.since(arrived) <= AT_ONCE, "{:?}", world.now.since(arrived));
    assert!(!trusts(&world, 2, 1) && !trusts(&world, 0, 1));
}

#[test]
fn a_member_that_asks_for_more_than_the_allowance_gets_the_owner_s_question_and_no_grant() {
    let (mut world, id) = fleet(1834, 3);
    meet(&mut world, 1, 2, &id).unwrap();
    world.run_until("they met", |w| trusts(w, 1, 2) && trusts(w, 2, 1));
    world.nodes[2].stack.listen(80).unwrap();
    world.nodes[2].stack.listen(22).unwrap();
    world.open(1, 2, 80);
    let (now, owner, asker) = (world.now, key(&world, 2), key(&world, 1));
    world.nodes[1].stack.endpoint_mut().wish(now, &owner, &ports("22"), "for the night").unwrap();
    world.run_until("its owner is asked", |w| outcomes(w, 2).contains(&Outcome::Wished(asker)));
    assert_eq!(world.nodes[2].stack.endpoint().trust().waiting(), 1);
    assert_eq!(pin_ports(&world, 2, 1), Some(Ports::one(80)), "nothing is granted");
    assert_eq!(try_to_open(&mut world, 1, 2, 22), Some(StreamEnd::Refused));

    // What the owner grants ends with the membership: the two have not approved each other.
    let now = world.now;
    world.nodes[2].stack.endpoint_mut().regrant(now, &asker, &Regrant::Approve(ports("22"), None)).unwrap();
    world.run_for(AT_ONCE);
    assert_eq!(pin_ports(&world, 2, 1), Some(ports("22,80")));
    world.open(1, 2, 22);
    world.nodes[0].stack.listen(80).unwrap();
    world.open(2, 0, 80);
    remove(&mut world, 0, &id, 1);
    world.run_until("it is out", |w| !trusts(w, 2, 1));
}

/// A member leaves and comes back by a new code while another one is away, which hears of both at once and still has its old pin.
#[test]
fn members_of_which_one_has_come_back_meet_again_and_no_owner_is_asked() {
    let (mut world, id) = fleet(1835, 3);
    meet(&mut world, 1, 2, &id).unwrap();
    world.run_until("they met", |w| trusts(w, 1, 2) && trusts(w, 2, 1));
    [0, 1].into_iter().for_each(|node| world.nodes[node].stack.listen(80).unwrap());
    world.open(1, 0, 80);
    world.nodes[2].is_offline = true;
    let now = world.now;
    world.nodes[1].stack.endpoint_mut().leave_group(now, &id).unwrap();
    world.run_until("the founder knows", |w| members(w, 0, &id) == 2);
    let code = invite(&mut world, 0, &id, 1);
    join(&mut world, 1, &code);
    world.run_until("it is back", |w| trusts(w, 0, 1) && trusts(w, 1, 0));
    world.restart(2);
    world.nodes[2].is_offline = false;
    world.run_until("it is registered", |w| w.is_registered(2));
    world.open(2, 0, 80);
    world.run_for(LETTERS);
    assert_eq!((trusts(&world, 2, 1), trusts(&world, 1, 2)), (true, false), "one side has a pin from before");
    let (peer, now) = (world.peer(2, 1), world.now);
    world.nodes[2].stack.connect(now, peer, 80).unwrap();
    world.run_until("both have met again", |w| trusts(w, 1, 2));
    assert!((0..3).all(|node| world.nodes[node].stack.endpoint().trust().pending().next().is_none()));
    world.open(2, 1, 80);
}
