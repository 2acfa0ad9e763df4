//! Random lives of a group of six: joins, meetings, removals by two admins, cut networks, machines that are away, wrong clocks, and
//! months that pass.
//!
//! What is judged, all the time:
//! * A node trusts no other one that its own roster has as removed.
//! * No node is trusted after the end of the last statement that was ever signed for it, but for what clocks are wrong.
//! * No member that both sides allow is refused. That it is not reached is no refusal.
//!
//! And at the end, once the network is whole: all members meet.

use super::{DAY_S, found, invite, join, key, meet, members, outcomes, trusts, world};
use pilot_core::group::{GroupId, Refusal, Role, Row, Statement};
use pilot_core::identity::IdentityKey;
use pilot_core::rng::Rng;
use pilot_core::time::{Duration, Instant};
use pilot_core::trust::{GroupError, JoinRefusal, Membership, Outcome, Ports};
use pilot_tests::{NodeIndex, World, enrolment_code};

const NODES: usize = 6;
const STEPS: usize = 60;
/// Pause between two looks at what each node trusts.
const LOOK: Duration = Duration::from_millis(50);
/// How far a node's clock is ahead or behind, at most. Unit: seconds.
const WRONG_MAX_S: u64 = DAY_S;
/// How long a membership may outlive its end, for a clock that was ahead when it was signed and is behind now. Unit: seconds.
const LATE_MAX_S: u64 = 2 * WRONG_MAX_S + 3600;

/// Most rounds, of five seconds each, in which the nodes speak with the founder until all have one roster. A node that did not find
/// its rendezvous for days seeks it once a minute.
const ROUNDS_MAX: usize = 24;

struct Life {
    number: u64,
    world: World,
    rng: Rng,
    id: GroupId,
    /// The moment of the beginning, and the time of a right clock then.
    begin: (Instant, u64),
    /// The last end of all statements that were ever seen of each node. Unit: seconds since 1970.
    ends: [u64; NODES],
    /// An admin has removed the node; it may be back since.
    was_removed: [bool; NODES],
    /// The node's membership has ended at some time.
    has_ended: [bool; NODES],
    /// The node was no member in its own eyes at some time: it may not have heard of what has renewed it.
    has_lapsed: [bool; NODES],
    /// Days have passed, in which codes end.
    has_aged: bool,
    /// An admin has become a member, so that its codes are void.
    has_demoted: bool,
    /// How many of a node's outcomes have been judged.
    judged: [usize; NODES],
    cut: Option<(NodeIndex, NodeIndex)>,
    away: Option<NodeIndex>,
    seen: Seen,
}

/// What has happened in all lives: a test of what never happens would show nothing.
#[derive(Debug, Default)]
struct Seen {
    meetings: usize,
    refusals: usize,
    removals_by_another_admin: usize,
    ends_of_terms: usize,
    members_at_the_end: usize,
}

impl Life {
    fn new(number: u64, seen: Seen) -> Self {
        let mut world = world(number, NODES);
        let id = found(&mut world, 0);
        let begin = (world.now, world.nodes[0].stack.endpoint().group_time(world.now));
        let rng = Rng::new(*number.to_le_bytes().repeat(4).first_chunk().unwrap());
        let (nobody, none) = ([false; NODES], [0; NODES]);
        let (was_removed, has_ended, judged, ends) = (nobody, nobody, none, [0; NODES]);
        let (has_lapsed, has_aged, has_demoted) = (nobody, false, false);
        Self {
            number,
            world,
            rng,
            id,
            begin,
            ends,
            was_removed,
            has_ended,
            has_lapsed,
            has_aged,
            has_demoted,
            judged,
            cut: None,
            away: None,
            seen,
        }
    }

    fn any_node(&mut self) -> NodeIndex {
        self.rng.below(NODES as u64) as usize
    }

    /// The time of a right clock. Unit: seconds since 1970.
    fn now_s(&self) -> u64 {
        self.begin.1 + self.world.now.since(self.begin.0).as_micros() as u64 / 1_000_000
    }

    fn group(&self, node: NodeIndex) -> Option<&Membership> {
        let mut groups = self.world.nodes[node].stack.endpoint().trust().groups();
        groups.find(|group| group.roster.id() == self.id)
    }

    /// What a node thinks of a membership.
    fn standing(&self, node: NodeIndex, of: NodeIndex) -> Result<Statement, Refusal> {
        let now_s = self.world.nodes[node].stack.endpoint().group_time(self.world.now);
        let group = self.group(node).ok_or(Refusal::Unknown)?;
        group.roster.judge(now_s).standing(&key(&self.world, of)).cloned()
    }

    /// An admin that is here, in its own eyes: the founder, or at times another one.
    fn any_admin(&mut self) -> NodeIndex {
        let is_admin = |life: &Self, node| life.standing(node, node).is_ok_and(|row| row.role == Role::Admin);
        let admins: Vec<_> = (0..NODES).filter(|node| self.away != Some(*node) && is_admin(self, *node)).collect();
        admins[self.rng.below(admins.len() as u64) as usize]
    }

    /// Something happens, and some time passes.
    fn step(&mut self) {
        let (a, b) = (self.any_node(), self.any_node());
        match self.rng.below(18) {
            0..=4 => self.enter(a),
            5..=8 if a != b => _ = meet(&mut self.world, a, b, &self.id),
            9..=10 if a != 0 => self.remove(a),
            11..=12 if a != 0 => _ = self.set_role(a),
            13 => {
                let ahead_s = self.rng.below(2 * WRONG_MAX_S) as i64 - WRONG_MAX_S as i64;
                self.world.set_clock(a, ahead_s);
            }
            14 if self.cut.is_none() && a != b => {
                self.world.cut(a, b);
                self.cut = Some((a, b));
            }
            15 if self.away.is_none() && a != 0 => {
                self.world.nodes[a].is_offline = true;
                self.away = Some(a);
            }
            16 => {
                let days = [1, 11, 31][self.rng.below(3) as usize];
                self.days(days);
            }
            _ => self.mend(),
        }
        let span = Duration::from_millis(self.rng.below(3_000));
        self.run(span);
    }

    /// The network is whole again.
    fn mend(&mut self) {
        self.world.heal();
        (self.cut, _) = (None, self.away.take().map(|node| self.world.nodes[node].is_offline = false));
    }

    /// A node that is no member joins by a code of an admin, or by one that any member answers.
    fn enter(&mut self, node: NodeIndex) {
        if node == 0 || self.standing(node, node).is_ok() {
            return;
        }
        if self.rng.below(2) == 0 {
            let admin = self.any_admin();
            if admin != node && !trusts(&self.world, node, admin) {
                let code = invite(&mut self.world, admin, &self.id, 1);
                join(&mut self.world, node, &code);
            }
            return self.run(Duration::from_secs(2));
        }
        let code = enrolment_code(&mut self.world, 0, &self.id, (2, 7 * DAY_S));
        let now = self.world.now;
        let entered = self.world.nodes[node].stack.endpoint_mut().enrol(now, &code, Ports::one(80));
        assert!(matches!(entered, Ok(()) | Err(GroupError::AlreadyTrusted)), "seed {}: {entered:?}", self.number);
    }

    fn remove(&mut self, node: NodeIndex) {
        let (admin, now, gone) = (self.any_admin(), self.world.now, key(&self.world, node));
        if admin != node {
            let removed = self.world.nodes[admin].stack.endpoint_mut().remove_member(now, &self.id, &gone);
            self.was_removed[node] |= removed.is_ok();
            self.seen.removals_by_another_admin += usize::from(admin != 0 && removed.is_ok());
        }
        let founder = key(&self.world, 0);
        if admin != 0 {
            let refused = self.world.nodes[admin].stack.endpoint_mut().remove_member(now, &self.id, &founder);
            assert!(refused.is_err(), "seed {}: the founder is older", self.number);
        }
    }

    fn set_role(&mut self, node: NodeIndex) -> Result<(), GroupError> {
        let role = if self.rng.below(3) == 0 { Role::Member } else { Role::Admin };
        self.has_demoted |= role == Role::Member;
        let (now, key) = (self.world.now, key(&self.world, node));
        self.world.nodes[0].stack.endpoint_mut().set_role(now, &self.id, &key, role)
    }

    /// Days pass, of which each node sees a moment: what happens in between, keepalives, would cost minutes.
    fn days(&mut self, days: u64) {
        self.has_aged = true;
        for _ in 0..days {
            self.world.now = self.world.now + Duration::from_secs(DAY_S);
            self.world.run_for(LOOK);
            let now = self.world.now;
            self.world.nodes.iter_mut().for_each(|node| _ = node.stack.endpoint_mut().expire_trust(now));
            self.look();
        }
    }

    fn run(&mut self, span: Duration) {
        let end = self.world.now + span;
        while self.world.now < end {
            self.world.run_for(LOOK.min(end.since(self.world.now)));
            self.look();
        }
    }

    /// Judges what each node trusts and what it was told.
    fn look(&mut self) {
        let (now_s, number) = (self.now_s(), self.number);
        for node in 0..NODES {
            let rows: Vec<Row> = self.group(node).into_iter().flat_map(|group| group.roster.rows()).collect();
            for row in rows {
                let Row::Statement(row) = row else { continue };
                let of = (0..NODES).find(|of| key(&self.world, *of) == row.identity).unwrap();
                self.ends[of] = self.ends[of].max(row.not_after.into());
            }
        }
        for node in 0..NODES {
            // A node that has not heard of its renewal shows the statement of before.
            let own = self.standing(node, node).map_or(u64::MAX, |row| row.not_after.into());
            let has_ended = self.ends[node] > 0 && own.min(self.ends[node]) <= now_s + WRONG_MAX_S;
            self.seen.ends_of_terms += usize::from(has_ended && !self.has_ended[node]);
            self.has_ended[node] |= has_ended;
            self.has_lapsed[node] |= self.group(node).is_some() && self.standing(node, node).is_err();
        }
        for (node, other) in pairs().filter(|(node, other)| trusts(&self.world, *node, *other)) {
            let standing = self.standing(node, other);
            assert_ne!(
                standing.err(),
                Some(Refusal::Removed),
                "seed {number}: {node} trusts {other}, which is removed"
            );
            assert!(now_s < self.ends[other] + LATE_MAX_S, "seed {number}: {node} trusts {other} after its term");
        }
        for node in 0..NODES {
            let told = outcomes(&self.world, node);
            for outcome in &told[self.judged[node]..] {
                match outcome {
                    Outcome::JoinRefused(by, why) => self.judge_refusal(node, by, *why),
                    outcome => self.seen.meetings += usize::from(matches!(outcome, Outcome::Pinned(_))),
                }
            }
            self.judged[node] = told.len();
        }
    }

    fn judge_refusal(&mut self, node: NodeIndex, by: &IdentityKey, why: JoinRefusal) {
        let by = (0..NODES).find(|other| key(&self.world, *other) == *by).unwrap();
        let is_any_removed = self.was_removed.contains(&true);
        let is_right = match why {
            JoinRefusal::Removed => self.was_removed[node],
            JoinRefusal::Ended => self.has_ended[node],
            JoinRefusal::NotAllowed => self.has_lapsed[by],
            JoinRefusal::Expired if self.has_aged => true,
            JoinRefusal::Group if self.has_demoted => true,
            // A removal ends all codes; a membership or an admin that has ended, those that it has made.
            JoinRefusal::Withdrawn | JoinRefusal::Expired | JoinRefusal::Group => {
                is_any_removed || [self.has_ended, self.has_lapsed].concat().contains(&true)
            }
            _ => false,
        };
        assert!(is_right, "seed {}: {by} refuses {node}: {why:?}", self.number);
        self.seen.refusals += 1;
    }

    /// The network is whole, all clocks are right, and each node hears of what the others know.
    fn gather(&mut self) {
        self.mend();
        (0..NODES).for_each(|node| self.world.set_clock(node, 0));
        let now = self.world.now;
        self.world.nodes[0].stack.endpoint_mut().allow_group(now, &self.id, Role::Member, Ports::All).unwrap();
        for round in 0..ROUNDS_MAX {
            for node in 1..NODES {
                self.speak(node, 0);
            }
            self.run(Duration::from_secs(5));
            let rosters = (0..NODES).filter(|node| self.is_in(*node)).filter_map(|node| self.group(node));
            let mut versions: Vec<_> = rosters.map(|group| group.roster.digest()).collect();
            versions.dedup();
            if round > 0 && versions.len() == 1 {
                break;
            }
        }
    }

    /// True for a member in its own eyes and the founder's that knows the founder: one that has entered by its own word, and of which
    /// the answer was lost in a month of absence, knows no other member.
    fn is_in(&self, node: NodeIndex) -> bool {
        [(node, node), (0, node), (node, 0)].iter().all(|(at, of)| self.standing(*at, *of).is_ok())
    }

    /// Lets a node speak with another one, which is a peer already, or by a meeting. Its pin may be one from before the other one came
    /// back.
    fn speak(&mut self, node: NodeIndex, other: NodeIndex) {
        if !trusts(&self.world, node, other) {
            let _ = meet(&mut self.world, node, other, &self.id);
            return;
        }
        let (peer, now) = (self.world.peer(node, other), self.world.now);
        self.world.nodes[node].stack.endpoint_mut().reach(now, peer);
    }

    /// All that are members in their own eyes and the founder's meet, and no removed node is among their peers.
    fn end(mut self) -> Seen {
        self.gather();
        let joined: Vec<_> = (0..NODES).filter(|node| self.is_in(*node)).collect();
        for (a, b) in pairs().filter(|(a, b)| joined.contains(a) && joined.contains(b)) {
            self.world.run_until("each knows the other", |w| members(w, a, &self.id) >= joined.len());
            self.speak(a, b);
            self.world.run_until("members meet", |w| trusts(w, a, b) && trusts(w, b, a));
        }
        self.look();
        for (node, other) in pairs().filter(|(node, other)| joined.contains(node) && !joined.contains(other)) {
            let is_removed = self.standing(0, other).err() == Some(Refusal::Removed);
            assert!(!is_removed || !trusts(&self.world, node, other), "seed {}: {node} trusts {other}", self.number);
        }
        self.seen.members_at_the_end += joined.len();
        self.seen
    }
}

fn pairs() -> impl Iterator<Item = (NodeIndex, NodeIndex)> {
    (0..NODES).flat_map(|a| (0..NODES).map(move |b| (a, b))).filter(|(a, b)| a != b)
}

/// The lives of `PILOT_GROUP_SCHEDULES`, a range such as `0..1000`, or the first 24.
fn lives() -> std::ops::Range<u64> {
    let Ok(given) = std::env::var("PILOT_GROUP_SCHEDULES") else { return 0..24 };
    let range = given.split_once("..").and_then(|(from, to)| Some(from.parse().ok()?..to.parse().ok()?));
    range.expect("PILOT_GROUP_SCHEDULES is a range such as 0..1000")
}

#[test]
fn random_lives_of_a_group_admit_no_removed_member_and_refuse_no_other() {
    let mut seen = Seen::default();
    for number in lives() {
        let mut life = Life::new(18_100 + number, seen);
        (0..STEPS).for_each(|_| life.step());
        seen = life.end();
    }
    println!("{seen:?}");
    let all =
        [seen.meetings, seen.refusals, seen.removals_by_another_admin, seen.ends_of_terms, seen.members_at_the_end];
    let count = lives().count();
    assert!(count < 24 || all.iter().all(|times| *times >= count / 8), "{seen:?}");
}
