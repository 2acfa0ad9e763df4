//! Power cuts while trust is made and ended: whichever node loses power at whichever moment, both sides agree afterwards, and
//! their owners can talk, or approve again and then talk. A failure prints its seed; `PILOT_SEED` takes it back.
#![allow(clippy::unwrap_used, reason = "tests")]

use pilot_core::NodeRecord;
use pilot_core::identity::IdentityKey;
use pilot_core::time::Duration;
use pilot_core::trust::{Ports, Regrant, Terms, TrustBook};
use pilot_tests::{NodeIndex, World, seed};

/// Which nodes lose their power, at once.
const TARGETS: [&[NodeIndex]; 3] = [&[0], &[1], &[0, 1]];
const SEEDS: u64 = 2;
/// Moments of one story. All take far fewer.
const TURNS_MAX: usize = 2000;
/// Both nodes are registered again, and letters have arrived.
const SETTLED: Duration = Duration::from_secs(30);

/// Two nodes with slow disks, and what their owners want.
struct Story {
    world: World,
    records: [NodeRecord; 2],
}

impl Story {
    fn new(seed: u64) -> Self {
        let mut world = World::new(seed, 2);
        world.run_until("both are registered", |w| [0, 1].iter().all(|n| w.is_registered(*n)));
        let records = [world.find(1, 0), world.find(0, 1)];
        (0..2).for_each(|node| world.set_disk_delay(node, 500..25_000));
        Self { world, records }
    }

    /// The same, of two nodes that trust each other and have a tunnel.
    fn of_friends(seed: u64) -> Self {
        let mut story = Self::new(seed);
        story.world.make_friends(0, 1);
        story.talk();
        story
    }

    fn trust(&self, node: NodeIndex) -> &TrustBook {
        self.world.nodes[node].stack.endpoint().trust()
    }

    fn key(&self, node: NodeIndex) -> IdentityKey {
        self.records[node].identity
    }

    fn trusts(&self, node: NodeIndex) -> bool {
        self.trust(node).pin(&self.key(1 - node)).is_some()
    }

    fn asks(&self, node: NodeIndex) -> bool {
        self.trust(node).outgoing().count() > 0
    }

    fn is_asked(&self, node: NodeIndex) -> bool {
        self.trust(node).pending().count() > 0
    }

    fn is_saved(&self, node: NodeIndex) -> bool {
        self.world.nodes[node].stack.endpoint().trust_is_saved()
    }

    // Owners.

    fn ask(&mut self, node: NodeIndex) {
        let (now, record) = (self.world.now, self.records[1 - node].clone());
        self.world.nodes[node].stack.endpoint_mut().request_trust(now, &record, &Terms::default()).unwrap();
    }

    fn approve(&mut self, node: NodeIndex) {
        let (now, key) = (self.world.now, self.key(1 - node));
        self.world.nodes[node].stack.endpoint_mut().approve(now, &key, &Terms::default()).unwrap();
    }

    /// An owner gives a lost command again; one that is asked approves.
    fn insist(&mut self, askers: &[NodeIndex]) {
        for node in 0..2 {
            if self.is_asked(node) {
                self.approve(node);
            } else if askers.contains(&node) && !self.trusts(node) && !self.asks(node) {
                self.ask(node);
            }
        }
    }

    /// Goes on from moment to moment until `done`, cuts the power of `targets` at the given one, and tells the number of
    /// moments.
    fn run(
        &mut self,
        cut: Option<(usize, &[NodeIndex])>,
        mut owners: impl FnMut(&mut Self),
        done: impl Fn(&Self) -> bool,
    ) -> usize {
        for turn in 0..TURNS_MAX {
            owners(self);
            if let Some((_, targets)) = cut.filter(|(at, _)| *at == turn) {
                targets.iter().for_each(|node| self.world.cut_power(*node));
            } else if done(self) && cut.is_none_or(|(at, _)| at < turn) {
                return turn;
            }
            assert!(self.world.turn(), "nothing happens any more");
        }
        panic!("no end after {TURNS_MAX} moments");
    }

    /// A stream carries bytes, whichever side opens it.
    fn talk(&mut self) {
        for (a, b) in [(0, 1), (1, 0)] {
            assert!(self.trusts(a) && self.trusts(b));
            // It is bound already when the power stayed.
            let _ = self.world.nodes[b].stack.listen(1000);
            let start = self.world.now;
            let (ours, theirs) = self.world.open(a, b, 1000);
            self.world.transfer((a, ours), (b, theirs), 5000);
            let took = self.world.now.since(start);
            assert!(took < Duration::from_secs(30), "{took:?}");
        }
    }
}

/// Tells a story once for its length, and then with a power cut at each of its moments.
fn at_every_moment(first_seed: u64, tell: impl Fn(u64, Option<(usize, &[NodeIndex])>) -> usize) {
    for seed in (0..SEEDS).map(|n| seed(first_seed) + n) {
        let moments = tell(seed, None);
        println!("seed {seed}: {moments} moments");
        assert!(moments > 3, "{moments}");
        for targets in TARGETS {
            for at in 0..=moments {
                println!("seed {seed}, {targets:?} at {at}");
                tell(seed, Some((at, targets)));
            }
        }
    }
}

fn both_trust(story: &Story) -> bool {
    (0..2).all(|node| story.trusts(node) && story.is_saved(node))
}

#[test]
fn approval_survives_a_power_cut_at_every_moment() {
    at_every_moment(300, |seed, cut| {
        let mut story = Story::new(seed);
        let moments = story.run(cut, |story| story.insist(&[0]), both_trust);
        story.talk();
        moments
    });
}

#[test]
fn crossing_requests_survive_a_power_cut_at_every_moment() {
    at_every_moment(400, |seed, cut| {
        let mut story = Story::new(seed);
        let moments = story.run(cut, |story| story.insist(&[0, 1]), both_trust);
        story.talk();
        moments
    });
}

#[test]
fn an_owner_who_is_away_after_a_power_cut_can_approve_again_later() {
    at_every_moment(500, |seed, cut| {
        let mut story = Story::new(seed);
        let mut is_over = false;
        story.ask(0);
        let moments = story.run(
            cut,
            |story| {
                if story.is_asked(1) && !is_over {
                    is_over = true;
                    story.approve(1);
                }
            },
            |story| both_trust(story) || cut.is_some(),
        );
        story.world.run_for(SETTLED);
        if !both_trust(&story) {
            story.run(None, |story| story.insist(&[0]), both_trust);
        }
        story.talk();
        moments
    });
}

#[test]
fn a_revocation_that_its_owner_was_told_of_survives_a_power_cut_at_every_moment() {
    at_every_moment(600, |seed, cut| {
        let mut story = Story::of_friends(seed);
        let (now, key) = (story.world.now, story.key(0));
        story.world.nodes[1].stack.endpoint_mut().revoke(now, &key).unwrap();
        let mut told = false;
        let moments = story.run(
            cut,
            |story| told |= !story.trusts(1) && story.is_saved(1),
            |story| cut.is_some() || (0..2).all(|node| !story.trusts(node) && story.is_saved(node)),
        );
        story.world.run_for(SETTLED);
        assert_eq!(story.trusts(0), story.trusts(1), "the two do not agree");
        assert!(!(told && story.trusts(1)), "it came back");
        story.run(None, |story| story.insist(&[0]), both_trust);
        story.talk();
        moments
    });
}

#[test]
fn a_rejection_that_its_owner_was_told_of_survives_a_power_cut_at_every_moment() {
    at_every_moment(700, |seed, cut| {
        let mut story = Story::new(seed);
        story.ask(0);
        story.run(None, |_| (), |story| story.is_asked(1) && story.is_saved(0) && story.is_saved(1));
        let (now, key) = (story.world.now, story.key(0));
        story.world.nodes[1].stack.endpoint_mut().reject(now, &key, "no").unwrap();
        let mut told = false;
        let moments = story.run(
            cut,
            |story| told |= !story.is_asked(1) && story.is_saved(1),
            |story| cut.is_some() || (!story.asks(0) && story.is_saved(0)),
        );
        story.world.run_for(SETTLED);
        assert_eq!(story.asks(0), story.is_asked(1), "the two do not agree");
        assert!(!(told && story.asks(0)), "it came back");
        story.run(None, |story| story.insist(&[0]), both_trust);
        story.talk();
        moments
    });
}

/// What node 0 may reach at node 1, as either has it.
fn grants(story: &Story) -> (Option<Ports>, Option<Ports>) {
    let theirs = story.trust(1).pin(&story.key(0)).map(|pin| pin.reach());
    (theirs, story.trust(0).pin(&story.key(1)).and_then(|pin| pin.granted.clone()))
}

#[test]
fn a_change_of_grants_survives_a_power_cut_at_every_moment() {
    at_every_moment(800, |seed, cut| {
        let mut story = Story::of_friends(seed);
        let before = grants(&story).0;
        let (now, key, port) = (story.world.now, story.key(0), Ports::one(1001));
        story.world.nodes[1].stack.endpoint_mut().regrant(now, &key, &Regrant::Withdraw(port)).unwrap();
        let after = grants(&story).0;
        let mut told = false;
        let moments = story.run(
            cut,
            |story| told |= grants(story).0 == after && story.is_saved(1),
            |story| cut.is_some() || (grants(story).1 == after && story.is_saved(0)),
        );
        story.world.run_for(SETTLED);
        story.talk(); // a tunnel stands in any case
        let (theirs, ours) = grants(&story);
        assert_eq!(theirs, ours, "the two do not agree");
        assert!(theirs == after || (theirs == before && !told), "it came back");
        moments
    });
}

#[test]
fn a_wish_and_its_answer_survive_a_power_cut_at_every_moment() {
    at_every_moment(850, |seed, cut| {
        let mut story = Story::of_friends(seed);
        let (port, keys) = (Ports::one(80), [story.key(0), story.key(1)]);
        let is_granted = |story: &Story| grants(story).1.is_some_and(|ports| ports.allow(80)) && story.is_saved(0);
        let moments = story.run(
            cut,
            |story| {
                let now = story.world.now;
                // An owner gives a lost command again; the other, which is asked, approves.
                let has_asked = story.trust(0).pin(&keys[1]).is_some_and(|pin| pin.asked.is_some());
                if !has_asked && !is_granted(story) {
                    // The other may have granted it before.
                    let _ = story.world.nodes[0].stack.endpoint_mut().wish(now, &keys[1], &port, "");
                }
                if story.trust(1).pin(&keys[0]).is_some_and(|pin| pin.wish.is_some()) {
                    let change = Regrant::Approve(port.clone(), None);
                    story.world.nodes[1].stack.endpoint_mut().regrant(now, &keys[0], &change).unwrap();
                }
            },
            is_granted,
        );
        story.world.run_for(SETTLED);
        story.talk();
        assert_eq!(grants(&story).0, grants(&story).1);
        assert!(is_granted(&story) && story.trust(0).pin(&keys[1]).is_some_and(|pin| pin.asked.is_none()));
        moments
    });
}

/// The first session of a pair makes a KEM secret. One side may use it, or have answered, before the other has it on disk.
#[test]
fn the_first_session_of_a_pair_survives_a_power_cut_at_every_moment() {
    let secrets = |story: &Story| [0, 1].map(|node| story.trust(node).pin(&story.key(1 - node)).unwrap().kem.clone());
    at_every_moment(900, |seed, cut| {
        let mut story = Story::new(seed);
        story.run(None, |story| story.insist(&[0]), both_trust);
        assert_eq!(secrets(&story), [None, None]);
        let reach = |story: &mut Story| {
            let (now, peer) = (story.world.now, story.world.peer(0, 1));
            story.world.nodes[0].stack.endpoint_mut().reach(now, peer);
        };
        let moments = story.run(cut, reach, |story| secrets(story).iter().all(Option::is_some) && both_trust(story));
        story.talk();
        story.world.run_for(SETTLED);
        let [ours, theirs] = secrets(&story);
        assert!(ours.is_some() && ours == theirs, "two secrets");
        moments
    });
}

/// A full disk has a reserve of some saves. Decisions for which there is room no more have not happened, those that were
/// confirmed survive a power cut, streams go on, and a second after there is room everything is saved.
#[test]
fn a_full_disk_takes_nothing_back_and_works_a_second_after_there_is_room() {
    for reserve in 0..4 {
        let mut story = Story::of_friends(seed(31));
        let world = &mut story.world;
        let (a, b) = world.open(0, 1, 1000);
        world.run_for(SETTLED); // what the first session has to save
        world.set_disk_room(1, Some(reserve));
        let taken = (0..5).filter(|_| {
            let is_taken = world.decide(1, 0);
            world.run_for(Duration::from_millis(30));
            is_taken
        });
        assert_eq!(taken.count(), reserve as usize);
        world.transfer((0, a), (1, b), 100_000);
        // What a peer tells has to be saved as well.
        let (now, key, port) = (world.now, story.records[1].identity, Ports::one(1001));
        world.nodes[0].stack.endpoint_mut().regrant(now, &key, &Regrant::Withdraw(port)).unwrap();
        world.run_for(Duration::from_secs(5));
        assert!(!world.is_saved(1), "there is no room");
        world.set_disk_room(1, None);
        world.run_for(Duration::from_millis(1030));
        assert!(world.is_saved(1) && world.decide(1, 0), "there is room");
        world.run_for(Duration::from_millis(30));
        world.cut_power(1); // checks that nothing is missing
        story.talk();
    }
}
