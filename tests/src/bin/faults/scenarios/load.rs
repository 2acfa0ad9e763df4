//! Floods, replays, readers that stop, and many streams.

use super::star::Star;
use super::{PORT, SECOND, friends, incoming, quantile, read_all, resident};
use crate::measured::Measured;
use pilot_core::rng::Rng;
use pilot_core::time::Duration;
use pilot_stack::StreamId;
use pilot_tests::{Conditions, World};
use std::collections::BTreeMap;
use std::time::Instant as Clock;

/// Datagrams of the flood.
const GARBAGE: u32 = 1_000_000;
/// Rate at which the flood may take half of a core.
const GARBAGE_PER_SECOND: f64 = 100_000.0;
/// Most bytes that the flood may cost.
const GARBAGE_GROWTH_MAX: u64 = 1 << 20;
const STREAMS: usize = 10_000;
/// Streams that are asked for at once, fewer than wait for their acceptance.
const STREAMS_AT_ONCE: usize = 500;
/// Most bytes for both ends of all streams.
const STREAMS_GROWTH_MAX: u64 = 512 << 20;

/// Every datagram of a new tunnel and a transfer.
fn capture(world: &mut World) -> Vec<Vec<u8>> {
    // Everything arrives, probes for larger datagrams too: what never arrived would be no replay.
    world.set_conditions(Conditions { mtu: 65_535, ..Conditions::default() });
    world.restart(0);
    world.capture = Some(Vec::new());
    world.run_until("it is registered again", |w| w.is_registered(0));
    let (a, b) = world.open(0, 1, PORT);
    world.transfer((0, a), (1, b), 100_000);
    world.capture.take().unwrap_or_default()
}

/// Gives a changed copy of a captured datagram that node 1 discards for this reason, as the discard's text names it.
fn spoiled(world: &mut World, capture: &[Vec<u8>], reason: &str) -> Vec<u8> {
    let (now, from) = (world.now, world.nodes[0].addr);
    let mut copies = capture.iter().map(|datagram| {
        let mut copy = datagram.clone();
        // The second byte from the end lies in a tag or, in an INIT, in mac2; the one 20 before the end in mac1.
        let at = copy.len() - if reason == "mac1" { 20 } else { 2 };
        copy[at] ^= 1;
        copy
    });
    let node = &mut world.nodes[1];
    let is_it = |copy: &Vec<u8>| {
        let outcome = node.stack.handle_datagram(now, from, &mut copy.clone());
        outcome.is_err_and(|discard| discard.to_string().ends_with(reason))
    };
    copies.find(is_it).expect("the capture has such a datagram")
}

pub(crate) fn garbage() -> Measured {
    let mut world = friends(1);
    let capture = capture(&mut world);
    let (a, b) = world.open(0, 1, PORT);
    let kinds = ["mac1", "tag"].map(|reason| spoiled(&mut world, &capture, reason));
    let (mut rng, mut random) = (Rng::new([5; 32]), vec![0; 1200]);
    let (mut replies, mut batch, from) = (0, Vec::new(), world.nodes[0].addr);
    let seen = world.nodes[1].events.len();
    world.run_for(SECOND * 5);
    let (before, begin) = (resident(), Clock::now());
    let mut effects = 0;
    for i in 0..GARBAGE {
        let now = world.now;
        let stack = &mut world.nodes[1].stack;
        let outcome = match i % 3 {
            0 => {
                random[..8].copy_from_slice(&rng.bytes::<8>());
                stack.handle_datagram(now, from, &mut random)
            }
            kind => stack.handle_datagram(now, from, &mut kinds[kind as usize - 1].clone()),
        };
        effects += u32::from(outcome.is_ok());
        while i % 1000 == 0 && stack.poll_transmit(now, &mut batch).is_some() {
            replies += 1;
        }
    }
    let each = begin.elapsed() / GARBAGE;
    let growth = resident().saturating_sub(before);
    let left = 1.0 - each.as_secs_f64() * GARBAGE_PER_SECOND;
    let took = world.transfer((0, a), (1, b), 1 << 20);
    let news = incoming(&world, 1, seen);
    Measured::new(
        effects == 0 && replies == 0 && news == 0 && growth < GARBAGE_GROWTH_MAX && left >= 0.5,
        format!(
            "{replies} replies, {} kB more, {each:.0?} each: {:.0} % of a core is left at 100,000/s; 1 MiB in {took:.1?} afterwards",
            growth / 1000,
            left * 100.0
        ),
    )
}

pub(crate) fn replay() -> Measured {
    let mut world = friends(2);
    let capture = capture(&mut world);
    world.run_for(SECOND);
    let (a, b) = world.open(0, 1, PORT);
    let (seen, streams) = (world.nodes[1].events.len(), world.nodes[1].stack.streams().count());
    let mut effects = 0;
    for _ in 0..3 {
        for datagram in &capture {
            for (to, from) in [(1, 0), (0, 1)] {
                let (from, now) = (world.nodes[from].addr, world.now);
                let outcome = world.nodes[to].stack.handle_datagram(now, from, &mut datagram.clone());
                effects += u32::from(outcome.is_ok());
            }
        }
        world.run_for(SECOND);
    }
    let news = incoming(&world, 1, seen);
    let same = world.nodes[1].stack.streams().count() == streams;
    let took = world.transfer((0, a), (1, b), 1 << 20);
    Measured::new(
        effects == 0 && news == 0 && same,
        format!(
            "{} datagrams three times at both ends: {effects} had an effect; 1 MiB in {took:.1?} afterwards",
            capture.len()
        ),
    )
}

pub(crate) fn stopped_reader() -> Measured {
    let mut world = friends(3);
    let (a, b) = world.open(0, 1, PORT);
    let (c, d) = world.open(0, 1, PORT);
    let warm_up: Duration = (0..20).map(|_| world.transfer((0, c), (1, d), 1 << 20)).sum();
    debug_assert!(warm_up > Duration::ZERO, "a transfer takes time");
    let alone: Duration = (0..20).map(|_| world.transfer((0, c), (1, d), 1 << 20)).sum();
    let mut written = 0;
    let mut beside = Duration::ZERO;
    for minute in 0..60 {
        // The writer takes every chance; the reader of this stream takes none.
        while let Ok(n) = world.nodes[0].stack.send(a, &[7; 16 * 1024])
            && n > 0
        {
            written += n;
        }
        if minute % 3 == 0 {
            beside += world.transfer((0, c), (1, d), 1 << 20);
        }
        world.run_for(SECOND * 60);
    }
    let (read, _) = read_all(&mut world, 1, b);
    let share = alone.as_secs_f64() / beside.as_secs_f64() * 100.0;
    let rings = 4 * pilot_stack::StackConfig::default().ring_len_max;
    Measured::new(
        share >= 95.0 && written < rings && read > 0,
        format!(
            "{} MB written in an hour, {} MB then read; the other stream kept {share:.0} %",
            written >> 20,
            read >> 20
        ),
    )
}

pub(crate) fn streams() -> Measured {
    let before = resident();
    let mut star = Star::new(1, 3);
    let mut streams: Vec<StreamId> = Vec::new();
    let begin = Clock::now();
    while streams.len() < STREAMS {
        streams.extend((0..STREAMS_AT_ONCE).map(|_| star.ask(1)));
        let wanted = streams.len();
        star.run_until("every stream has its answer", |star| star.answers.len() == wanted);
    }
    star.answers.clear();
    let mut asked = BTreeMap::new();
    for stream in &streams {
        star.stacks[1].send(*stream, b"echo").expect("the stream stands");
        asked.insert((1, *stream), star.now);
    }
    star.run_until("an echo has come back on each", |star| star.answers.len() == STREAMS);
    let mut echoes: Vec<Duration> = star.answers.iter().map(|(key, at)| at.since(asked[key])).collect();
    let (p99, growth, took) = (quantile(&mut echoes, 0.99), resident().saturating_sub(before), begin.elapsed());
    star.close_all();
    Measured::new(
        p99 < SECOND * 2 && took.as_secs() < 60 && growth < STREAMS_GROWTH_MAX && star.arrived == STREAMS,
        format!(
            "{STREAMS} streams and an echo on each in {took:.1?} of one core's time; echo p99 {p99:.0?}; {} MB for both ends; none \
             left",
            growth >> 20
        ),
    )
}
