//! Processes that are killed and started again, and a rendezvous that is away.

use super::star::Star;
use super::{MS, PORT, SECOND, friends, listen, quantile, until_ended};
use crate::measured::Measured;
use pilot_core::time::Duration;
use std::time::Instant as Clock;

const RESTARTS: usize = 200;
/// Peers that restart at once.
const PEERS: usize = 1000;
/// Time for which a process stands still.
const STOPPED: Duration = Duration::from_secs(600);
/// Unit: seconds.
const YEAR_S: u64 = 365 * 24 * 3600;
/// Turns of two machines in half an hour with little to do.
const TURNS_MAX: usize = 10_000;

pub(crate) fn restart() -> Measured {
    let mut world = friends(1);
    let (mut sessions, mut ends) = (Vec::new(), Vec::new());
    for _ in 0..RESTARTS {
        let (a, b) = world.open(0, 1, PORT);
        world.transfer((0, a), (1, b), 10_000);
        world.restart(1);
        listen(&mut world, 1);
        let start = world.now;
        let (c, d) = world.open(0, 1, PORT);
        sessions.push(world.now.since(start));
        world.transfer((0, c), (1, d), 10_000);
        let Some(end) = until_ended(&mut world, 0, a, SECOND * 10) else {
            return Measured::new(false, "a stream of the old process did not end in 10 s");
        };
        ends.push(end);
        let now = world.now;
        [a, c].into_iter().for_each(|stream| world.nodes[0].stack.abort(now, stream));
        world.run_for(MS * 100);
    }
    let (session, end) = (quantile(&mut sessions, 1.0), quantile(&mut ends, 1.0));
    let is_ok = session <= SECOND * 2 && end <= SECOND * 2;
    Measured::new(
        is_ok,
        format!("{RESTARTS} restarts: new stream in at most {session:.0?}, old one ended {end:.0?} later"),
    )
}

pub(crate) fn rendezvous_away() -> Measured {
    let mut world = friends(2);
    let (a, b) = world.open(0, 1, PORT);
    world.transfer((0, a), (1, b), 10_000);
    world.rendezvous = None;
    let (mut slowest, mut restarts) = (Duration::ZERO, 0);
    for hour in 1..=72 {
        world.run_for(SECOND * 3600);
        if hour % 6 == 0 {
            let node = (hour / 6) % 2;
            world.restart(node);
            listen(&mut world, node);
            restarts += 1;
        }
        for (from, to) in [(0, 1), (1, 0)] {
            let start = world.now;
            let (a, b) = world.open(from, to, PORT);
            world.transfer((from, a), (to, b), 10_000);
            slowest = slowest.max(world.now.since(start));
            let now = world.now;
            world.nodes[from].stack.abort(now, a);
            world.nodes[to].stack.abort(now, b);
        }
    }
    Measured::new(
        slowest <= SECOND * 5,
        format!("144 streams in 72 h with {restarts} restarts, each with 10 kB in at most {slowest:.1?}"),
    )
}

pub(crate) fn restarts() -> Measured {
    let mut star = Star::new(PEERS, 7);
    star.call_hub();
    star.restart_others(7);
    let begin = Clock::now();
    let span = star.call_hub();
    let took = begin.elapsed();
    Measured::new(
        took.as_secs() < 30 && span < SECOND * 30,
        format!(
            "{PEERS} peers have a stream again after {span:.1?} of simulated and {took:.1?} of one core's time, theirs included"
        ),
    )
}

/// Wall clocks that jump by a year, and a process that stands still for ten minutes.
pub(crate) fn clock() -> Measured {
    let mut star = Star::new(1, 11);
    star.call_hub();
    let (mut slowest, mut texts, turns) = (Duration::ZERO, Vec::new(), star.turns);
    for machine in 0..2 {
        star.stop(machine, STOPPED);
        let took = star.call_hub();
        slowest = slowest.max(took);
        texts.push(format!("machine {machine} stopped for {STOPPED:.0?}: a stream {took:.1?} later"));
    }
    for (what, wall_s) in [("ahead", 2 * YEAR_S), ("back", 1)] {
        for machine in 0..2 {
            star.set_wall(machine, wall_s * 1_000_000);
            // New keys are made meanwhile.
            star.pass(SECOND * 150);
            let took = star.call_hub();
            slowest = slowest.max(took);
            texts.push(format!("clock {machine} {what}: {took:.1?}"));
        }
    }
    let turns = star.turns - turns;
    texts.push(format!("{turns} turns in all"));
    Measured::new(slowest <= SECOND * 5 && turns < TURNS_MAX, texts.join("; "))
}
