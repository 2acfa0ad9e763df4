//! Paths that lose, reorder, repeat, damage and delay; NATs and networks that change.

use super::{MS, SECOND, exchange, friends, listen, quantile};
use crate::measured::Measured;
use pilot_core::Instant;
use pilot_core::time::Duration;
use pilot_stack::{Recv, StackConfig};
use pilot_tests::lab::table::{LATE_TARGET, LATE_TROUBLES, Path, Trouble, Variant, medians};
use pilot_tests::lab::{Host as _, Lab, Pair, Shape, Work, pilot_pair};
use pilot_tests::{Conditions, NatKind, World};

/// Exchanges of which the slowest of a hundred counts.
const EXCHANGES: usize = 300;

pub(crate) fn loss() -> Measured {
    let (mut is_ok, mut texts) = (true, Vec::new());
    for percent in [1, 5, 10, 30] {
        let mut world = friends(percent);
        world.set_conditions(Conditions { loss: percent * 10, ..Conditions::default() });
        let (a, b) = world.open(0, 1, super::PORT);
        let took = world.transfer((0, a), (1, b), 10 << 20);
        is_ok &= percent != 10 || took < SECOND * 60;
        let mut answers: Vec<Duration> = (0..EXCHANGES).map(|_| exchange(&mut world, 0, 1)).collect();
        let p99 = quantile(&mut answers, 0.99);
        is_ok &= percent != 30 || p99 < SECOND * 10;
        texts.push(format!("{percent} %: 10 MiB in {took:.1?}, exchange p99 {p99:.0?}"));
    }
    Measured::new(is_ok, texts.join("; "))
}

pub(crate) fn reorder() -> Measured {
    let mut world = friends(2);
    let (a, b) = world.open(0, 1, super::PORT);
    world.set_conditions(Conditions {
        reorder: 250,
        reorder_by: MS * 50,
        duplicate: 1000,
        corrupt: 1,
        ..Conditions::default()
    });
    let took = world.transfer((0, a), (1, b), 10 << 20);
    let ups = super::incoming(&world, 1, 0);
    Measured::new(ups == 1, format!("10 MiB equal in {took:.1?}, one stream arrived, {ups} in all"))
}

pub(crate) fn nat() -> Measured {
    let mut world = World::new(3, 2);
    (0..2).for_each(|node| world.set_nat(node, NatKind::PortRestricted));
    world.make_friends(0, 1);
    listen(&mut world, 1);
    let (a, b) = world.open(0, 1, super::PORT);
    world.transfer((0, a), (1, b), 1 << 20);
    let mut texts = Vec::new();
    world.reboot_nat(0);
    texts.push(format!("NAT rebinds: 1 MiB in {:.1?}", world.transfer((0, a), (1, b), 1 << 20)));
    world.roam(0);
    texts.push(format!("roamed: {:.1?}", world.transfer((0, a), (1, b), 1 << 20)));
    world.roam_knowingly(1);
    texts.push(format!("roamed and told: {:.1?}", world.transfer((1, b), (0, a), 1 << 20)));
    let usual = Conditions::default();
    for seconds in [30, 60] {
        world.set_conditions(Conditions { loss: 1000, ..usual.clone() });
        world.run_for(SECOND * seconds);
        world.reboot_nat(1);
        world.set_conditions(usual.clone());
        world.run_for(SECOND * 5);
        let ended = [(0, a), (1, b)].map(|(node, stream)| super::read_all(&mut world, node, stream).1);
        if let Some(end) = ended.into_iter().find(|end| *end != Recv::Blocked) {
            texts.push(format!("router away for {seconds} s: the stream ended ({end:?})"));
            return Measured::new(false, texts.join("; "));
        }
        texts.push(format!("router away for {seconds} s: {:.1?}", world.transfer((0, a), (1, b), 1 << 20)));
    }
    Measured::new(true, texts.join("; "))
}

pub(crate) fn late() -> Measured {
    let path = Path::new(100, 20);
    let places: Vec<(Path, Trouble)> = LATE_TROUBLES.iter().map(|trouble| (path, *trouble)).collect();
    let shares = medians(Variant::Pilot, &places, 10, 3);
    let texts: Vec<String> = places.iter().zip(&shares).map(|((_, t), share)| format!("{t}: {share:.0} %")).collect();
    let is_ok = shares.iter().all(|share| *share >= LATE_TARGET);
    Measured::new(is_ok, format!("of {path}: {}", texts.join(", ")))
}

pub(crate) fn rise() -> Measured {
    let path = Path { queue: 0.2, ..Path::new(1000, 20) };
    let (mut is_ok, mut texts) = (true, Vec::new());
    for (from, to) in [(MS / 5, MS * 20), (MS * 20, MS / 5), (MS * 5, MS * 60)] {
        let shape = |rtt: Duration| Shape { delay: rtt / 2, ..path.shape(Trouble::NONE) };
        let mut lab = Lab::new(shape(from), shape(from), 1);
        let [mut a, mut b] = pilot_pair(Work::BULK, StackConfig::default(), 1);
        let mut run = |lab: &mut Lab, span: Duration| {
            let (before, end) = (b.received().first().copied().unwrap_or_default(), lab.now() + span);
            lab.run(&mut [Pair { ends: [&mut a, &mut b], start: Instant::ZERO }], end, |_| false);
            (b.received()[0] - before) as f64 / span.as_secs_f64() / 1e6
        };
        run(&mut lab, SECOND * 3);
        (lab.forward.shape, lab.backward.shape) = (shape(to), shape(to));
        run(&mut lab, SECOND * 2);
        let (soon, _, later) = (run(&mut lab, SECOND), run(&mut lab, SECOND), run(&mut lab, SECOND * 3));
        is_ok &= soon >= later / 2.0;
        texts.push(format!("{from:?} to {to:?}: {soon:.0} MB/s after 2 s, {later:.0} later"));
    }
    Measured::new(is_ok, texts.join("; "))
}
