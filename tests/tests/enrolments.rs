//! Nodes enter a group by a code while no admin of it is online. A failure prints its seed; `PILOT_SEED` takes it back.
#![allow(clippy::unwrap_used, reason = "tests")]

use pilot_core::endpoint::Event as EndpointEvent;
use pilot_core::group::{GroupId, Judge};
use pilot_core::identity::IdentityKey;
use pilot_core::invite::{EnrolmentCode, InviteId, Rendezvous};
use pilot_core::time::Duration;
use pilot_core::trust::{GroupError, JoinRefusal, Outcome, Ports};
use pilot_stack::Event;
use pilot_tests::{NodeIndex, World, enrolment_code, seed};

const DAY_S: u64 = 24 * 3600;

/// Node 0 has founded a group that the first `members` nodes are in; the other nodes know nothing of it.
struct Fleet {
    world: World,
    id: GroupId,
}

impl Fleet {
    fn new(number: u64, nodes: usize, members: usize) -> Self {
        let seed = seed(number);
        println!("seed {seed}");
        let mut world = World::new(seed, nodes);
        world.run_until("all are registered", |w| (0..nodes).all(|node| w.is_registered(node)));
        let now = world.now;
        let id = world.nodes[0].stack.endpoint_mut().create_group(now, "fleet", Ports::one(80)).unwrap();
        let mut fleet = Self { world, id };
        if members > 1 {
            let code = fleet.code(members as u16 - 1, 7 * DAY_S);
            for node in 1..members {
                fleet.enrol(node, &code).unwrap();
                fleet.until("it is in", |f| f.trusts(0, node) && f.trusts(node, 0));
            }
            fleet.until("all know all", |f| (0..members).all(|node| f.members(node) == members));
            let number = InviteId(code.enrolment.number());
            let now = fleet.world.now;
            fleet.world.nodes[0].stack.endpoint_mut().withdraw_enrolment(now, number).unwrap();
            fleet.until("all know that it is over", |f| {
                (0..members).all(|node| f.judged(node, |judge| judge.enrolments().count()) == Some(0))
            });
        }
        fleet
    }

    /// A code of the founder.
    fn code(&mut self, uses: u16, lifetime_s: u64) -> EnrolmentCode {
        enrolment_code(&mut self.world, 0, &self.id, (uses, lifetime_s))
    }

    fn enrol(&mut self, node: NodeIndex, code: &EnrolmentCode) -> Result<(), GroupError> {
        let now = self.world.now;
        self.world.nodes[node].stack.endpoint_mut().enrol(now, code, Ports::one(80))
    }

    fn set_offline(&mut self, node: NodeIndex, is_offline: bool) {
        self.world.nodes[node].is_offline = is_offline;
    }

    fn key(&self, node: NodeIndex) -> IdentityKey {
        self.world.nodes[node].stack.endpoint().identity().public()
    }

    fn trusts(&self, node: NodeIndex, other: NodeIndex) -> bool {
        self.world.nodes[node].stack.endpoint().trust().pin(&self.key(other)).is_some()
    }

    fn judged<R>(&self, node: NodeIndex, f: impl FnOnce(&Judge<'_>) -> R) -> Option<R> {
        let endpoint = self.world.nodes[node].stack.endpoint();
        let group = endpoint.trust().group("fleet")?;
        Some(f(&group.roster.judge(endpoint.group_time(self.world.now))))
    }

    fn members(&self, node: NodeIndex) -> usize {
        self.judged(node, |judge| judge.members().count()).unwrap_or(0)
    }

    /// True when an admin has signed for `other`, as `node` knows.
    fn is_adopted(&self, node: NodeIndex, other: NodeIndex) -> bool {
        let key = self.key(other);
        self.judged(node, |judge| judge.standing(&key).is_ok_and(|row| !row.is_enrolled())).unwrap_or(false)
    }

    fn outcomes(&self, node: NodeIndex) -> Vec<Outcome> {
        let told = self.world.nodes[node].events.iter().filter_map(|event| match event {
            Event::Endpoint(EndpointEvent::Trust(outcome)) => Some(outcome.clone()),
            _ => None,
        });
        told.collect()
    }

    fn is_refused(&self, node: NodeIndex, by: NodeIndex, why: JoinRefusal) -> bool {
        self.outcomes(node).contains(&Outcome::JoinRefused(self.key(by), why))
    }

    fn until(&mut self, what: &str, done: impl Fn(&Self) -> bool) {
        let end = self.world.now + Duration::from_secs(600);
        while !done(self) {
            assert!(self.world.now < end && self.world.turn(), "until {what}");
        }
    }

    fn days(&mut self, count: u64) {
        self.world.run_for(Duration::from_secs(count * DAY_S));
        let now = self.world.now;
        self.world.nodes.iter_mut().for_each(|node| _ = node.stack.endpoint_mut().expire_trust(now));
    }
}

#[test]
fn a_node_enrols_by_a_member_while_the_admin_is_away_and_the_admin_signs_for_it_later() {
    let mut fleet = Fleet::new(1900, 3, 2);
    let code = fleet.code(2, 7 * DAY_S);
    fleet.set_offline(0, true);
    let begin = fleet.world.now;
    fleet.enrol(2, &code).unwrap();
    fleet.until("they trust each other", |f| f.trusts(1, 2) && f.trusts(2, 1));
    assert!(fleet.world.now.since(begin) < Duration::from_secs(6), "{:?}", fleet.world.now.since(begin));
    fleet.world.nodes[1].stack.listen(80).unwrap();
    fleet.world.open(2, 1, 80);
    fleet.until("it knows all", |f| f.members(2) == 3);
    assert!(!fleet.is_adopted(1, 2) && fleet.outcomes(1).iter().all(|o| !matches!(o, Outcome::Pending(_))));

    fleet.set_offline(0, false);
    fleet.world.nodes[0].stack.listen(80).unwrap();
    fleet.until("the admin is back", |f| f.world.is_registered(0));
    let (now, id, key) = (fleet.world.now, fleet.id, fleet.key(0));
    // The question to the admin may have been answered before.
    let _ = fleet.world.nodes[2].stack.endpoint_mut().meet_member(now, &id, &key);
    fleet.until("they have met", |f| f.trusts(2, 0) && f.trusts(0, 2));
    fleet.world.open(2, 0, 80);
    fleet.until("the admin has signed", |f| f.is_adopted(0, 2) && f.is_adopted(2, 2));
    // With the usual term it outlives the code.
    fleet.days(8);
    assert!(fleet.trusts(2, 0) && fleet.trusts(0, 2));
}

#[test]
fn a_member_that_has_not_heard_of_the_code_takes_its_holder_in() {
    let mut fleet = Fleet::new(1901, 3, 2);
    fleet.world.run_for(Duration::from_secs(5));
    fleet.set_offline(0, true);
    let code = fleet.code(1, 7 * DAY_S);
    assert_eq!(fleet.judged(1, |judge| judge.enrolments().count()), Some(0));
    fleet.enrol(2, &code).unwrap();
    fleet.until("they trust each other", |f| f.trusts(1, 2) && f.trusts(2, 1));
    assert_eq!(fleet.judged(1, |judge| judge.enrolments().count()), Some(1));
}

#[test]
fn the_next_contact_is_asked_when_one_does_not_answer_or_lets_nobody_in() {
    for lets_nobody_in in [false, true] {
        let mut fleet = Fleet::new(1902, 4, 3);
        let code = fleet.code(1, 7 * DAY_S);
        assert_eq!(code.contacts.len(), 3);
        let second = (1..3).find(|node| fleet.key(*node) == code.contacts[1]).unwrap();
        fleet.set_offline(0, true);
        if lets_nobody_in {
            let (now, id) = (fleet.world.now, fleet.id);
            let endpoint = fleet.world.nodes[second].stack.endpoint_mut();
            endpoint.allow_group(now, &id, pilot_core::group::Role::Member, Ports::NONE).unwrap();
        } else {
            fleet.set_offline(second, true);
        }
        fleet.enrol(3, &code).unwrap();
        let third = 3 - second;
        fleet.until("the last one has answered", |f| f.trusts(third, 3) && f.trusts(3, third));
        assert_eq!(fleet.is_refused(3, second, JoinRefusal::NotAllowed), lets_nobody_in);
        assert!(!fleet.trusts(3, second));
    }
}

#[test]
fn who_finds_no_member_waits_until_one_is_back_whatever_happens_to_its_power() {
    let mut fleet = Fleet::new(1903, 2, 1);
    let code = fleet.code(1, 7 * DAY_S);
    fleet.set_offline(0, true);
    fleet.enrol(1, &code).unwrap();
    fleet.world.run_for(Duration::from_secs(20));
    assert_eq!(fleet.outcomes(1).iter().filter(|o| matches!(o, Outcome::Pinned(_))).count(), 0);
    fleet.world.run_until("all is on disk", |w| w.is_saved(1));
    fleet.world.cut_power(1);
    fleet.world.run_for(Duration::from_secs(3600));
    fleet.set_offline(0, false);
    fleet.until("they trust each other", |f| f.trusts(0, 1) && f.trusts(1, 0));
    fleet.until("the admin has signed", |f| f.is_adopted(0, 1) && f.is_adopted(1, 1));
    assert_eq!(fleet.enrol(1, &code), Err(GroupError::AlreadyTrusted), "nothing is left to do");
}

#[test]
fn the_members_that_were_not_asked_yet_are_asked_after_a_power_cut() {
    let mut fleet = Fleet::new(1920, 4, 3);
    let code = fleet.code(1, 7 * DAY_S);
    let [second, third] = [1, 2].map(|at| (1..3).find(|node| fleet.key(*node) == code.contacts[at]).unwrap());
    [0, second].into_iter().for_each(|node| fleet.set_offline(node, true));
    fleet.enrol(3, &code).unwrap();
    fleet.world.run_until("the first question is on disk", |w| w.is_saved(3));
    fleet.world.cut_power(3);
    fleet.until("the last one has answered", |f| f.trusts(third, 3) && f.trusts(3, third));
}

#[test]
fn a_code_that_more_have_used_is_told_and_the_surplus_ends_with_it() {
    let mut fleet = Fleet::new(1904, 4, 2);
    let code = fleet.code(1, 2 * DAY_S);
    fleet.set_offline(0, true);
    for node in [2, 3] {
        fleet.enrol(node, &code).unwrap();
        fleet.until("it is in", |f| f.trusts(1, node) && f.trusts(node, 1));
    }
    let told = Outcome::OverUsed(fleet.id, InviteId(code.enrolment.number()));
    assert!(fleet.outcomes(1).contains(&told), "{:?}", fleet.outcomes(1));
    assert_eq!(fleet.judged(1, |judge| judge.enrolments().map(|usage| usage.used).collect::<Vec<_>>()), Some(vec![2]));
    fleet.set_offline(0, false);
    fleet.until("the admin is back", |f| f.world.is_registered(0));
    fleet.world.nodes[0].stack.listen(80).unwrap();
    fleet.world.open(1, 0, 80);
    fleet.until("the admin knows", |f| f.outcomes(0).contains(&told));
    fleet.until("the members know", |f| [2, 3].iter().filter(|node| f.is_adopted(1, **node)).count() == 1);
    let (first, beyond) = if fleet.is_adopted(1, 2) { (2, 3) } else { (3, 2) };
    fleet.days(3);
    assert!(fleet.trusts(1, first) && !fleet.trusts(1, beyond));
}

#[test]
fn a_code_that_is_withdrawn_ends_what_it_has_made_and_says_so_to_who_comes_later() {
    let mut fleet = Fleet::new(1905, 4, 2);
    let code = fleet.code(2, 7 * DAY_S);
    fleet.world.nodes[0].stack.listen(80).unwrap();
    fleet.set_offline(0, true);
    fleet.enrol(2, &code).unwrap();
    fleet.until("it is in", |f| f.trusts(1, 2) && f.trusts(2, 1));
    // Before the admin hears of the node, it withdraws the code.
    let (now, number) = (fleet.world.now, InviteId(code.enrolment.number()));
    fleet.world.nodes[0].stack.endpoint_mut().withdraw_enrolment(now, number).unwrap();
    fleet.set_offline(0, false);
    fleet.until("the admin is back", |f| f.world.is_registered(0));
    fleet.world.open(1, 0, 80);
    fleet.until("the member knows", |f| !f.trusts(1, 2));
    assert_eq!((fleet.members(0), fleet.members(1)), (2, 2));
    fleet.set_offline(0, true);
    fleet.enrol(3, &code).unwrap();
    fleet.until("it is told", |f| f.is_refused(3, 1, JoinRefusal::Withdrawn));
    assert_eq!(fleet.world.nodes[3].stack.endpoint().trust().groups().count(), 0, "nothing is left of it");
    assert!(!fleet.trusts(1, 3));
}

#[test]
fn a_code_that_has_ended_or_is_of_before_a_removal_lets_nobody_in() {
    let mut fleet = Fleet::new(1906, 4, 3);
    let (ended, void) = (fleet.code(5, DAY_S), fleet.code(5, 20 * DAY_S));
    let (now, id, gone) = (fleet.world.now, fleet.id, fleet.key(2));
    fleet.world.nodes[0].stack.listen(80).unwrap();
    fleet.world.open(1, 0, 80);
    fleet.world.nodes[0].stack.endpoint_mut().remove_member(now, &id, &gone).unwrap();
    fleet.until("the member knows", |f| f.members(1) == 2);
    // The removed one, which may not have heard of it, is away.
    [0, 2].into_iter().for_each(|node| fleet.set_offline(node, true));
    fleet.enrol(3, &void).unwrap();
    fleet.until("it is told", |f| f.is_refused(3, 1, JoinRefusal::Withdrawn));
    fleet.days(2);
    fleet.until("it is connected", |f| f.world.is_registered(3));
    assert_eq!(fleet.enrol(3, &ended), Err(GroupError::CodeEnded));
    // Nor does a clock help that was set back: the rendezvous says what time it is.
    fleet.world.set_clock(3, -3 * DAY_S as i64);
    assert_eq!(fleet.enrol(3, &ended), Err(GroupError::CodeEnded));
}

#[test]
fn a_clock_that_is_wrong_by_a_day_shuts_no_node_out() {
    for ahead_s in [DAY_S as i64, -(DAY_S as i64)] {
        let mut fleet = Fleet::new(1907, 3, 2);
        let code = fleet.code(2, 3600);
        fleet.set_offline(0, true);
        fleet.world.set_clock(2, ahead_s);
        fleet.world.set_clock(1, -ahead_s);
        fleet.enrol(2, &code).unwrap();
        fleet.until("they trust each other", |f| f.trusts(1, 2) && f.trusts(2, 1));
    }
}

#[test]
fn an_address_in_the_code_leads_to_the_first_contact_without_any_rendezvous() {
    let mut fleet = Fleet::new(1908, 2, 1);
    let code = fleet.code(1, DAY_S);
    let candidates = fleet.world.nodes[0].stack.endpoint().candidates();
    let code = EnrolmentCode { candidates, rendezvous: None, ..code };
    fleet.world.rendezvous = None;
    let begin = fleet.world.now;
    fleet.enrol(1, &code).unwrap();
    fleet.until("they trust each other", |f| f.trusts(0, 1) && f.trusts(1, 0));
    assert!(fleet.world.now.since(begin) < Duration::from_secs(1), "{:?}", fleet.world.now.since(begin));
    let elsewhere = EnrolmentCode { rendezvous: Some(Rendezvous::Same([9; 4])), candidates: Vec::new(), ..code };
    assert_eq!(fleet.enrol(0, &elsewhere), Err(GroupError::NoWay));
}

#[test]
fn a_code_of_a_group_with_another_key_works_and_those_of_the_first_key_do_not() {
    let mut fleet = Fleet::new(1909, 4, 2);
    let old = fleet.code(5, 7 * DAY_S);
    fleet.world.nodes[0].stack.listen(80).unwrap();
    fleet.world.open(1, 0, 80);
    let (now, id) = (fleet.world.now, fleet.id);
    fleet.world.nodes[0].stack.endpoint_mut().rekey_group(now, &id, &[]).unwrap();
    let key = fleet
        .judged(0, |_| ())
        .map(|()| fleet.world.nodes[0].stack.endpoint().trust().group("fleet").unwrap().roster.key());
    fleet.until("the member knows", |f| {
        f.world.nodes[1].stack.endpoint().trust().group("fleet").map(|group| group.roster.key()) == key
    });
    let new = fleet.code(5, 7 * DAY_S);
    fleet.set_offline(0, true);
    fleet.enrol(2, &old).unwrap();
    fleet.until("it is told", |f| f.is_refused(2, 1, JoinRefusal::Withdrawn));
    fleet.enrol(3, &new).unwrap();
    fleet.until("they trust each other", |f| f.trusts(1, 3) && f.trusts(3, 1));
}

#[test]
fn twenty_nodes_enrol_at_once_while_the_admin_is_away() {
    const NODES: usize = 22;
    let mut fleet = Fleet::new(1910, NODES, 2);
    let code = fleet.code(20, 7 * DAY_S);
    fleet.set_offline(0, true);
    (2..NODES).for_each(|node| fleet.enrol(node, &code).unwrap());
    fleet.until("all are in", |f| (2..NODES).all(|node| f.trusts(1, node) && f.trusts(node, 1)));
    fleet.until("all know all", |f| (1..NODES).all(|node| f.members(node) == NODES));
    fleet.set_offline(0, false);
    fleet.until("the admin has signed for all", |f| (2..NODES).all(|node| f.is_adopted(0, node)));
    assert!(fleet.outcomes(0).iter().all(|outcome| !matches!(outcome, Outcome::OverUsed(..))));
}
