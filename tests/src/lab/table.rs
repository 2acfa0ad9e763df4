//! Owns the table of the link's goals: paths, losses, and the share of each path that one bulk stream must reach
//! (`docs/link.md, "Why TCP alone is not enough"`).

use super::{Host, Lab, Pair, QuicController, Shape, Work, pilot_pair, quic_pair, stock_pair};
use pilot_core::Instant;
use pilot_core::time::Duration;
use pilot_stack::StackConfig;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Length of a measurement, from the moment the stream stands.
pub const SECONDS: u64 = 20;
/// Number of seeds of one cell; the cell's figure is their median.
pub const SEEDS: u64 = 5;
/// Share of the rate that payload can have; figures are relative to this limit.
const PAYLOAD_SHARE: f64 = 1380.0 / 1480.0;

/// A path of the table.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Path {
    /// Rate of both directions. Unit: Mbit/s.
    pub mbit: u64,
    /// Round-trip time without any queue. Unit: ms.
    pub rtt_ms: u64,
    /// Length of the drop-tail queue. Unit: bandwidth-delay products.
    pub queue: f64,
}

impl Path {
    /// Makes a path with a queue of one bandwidth-delay product.
    pub const fn new(mbit: u64, rtt_ms: u64) -> Self {
        Self { mbit, rtt_ms, queue: 1.0 }
    }

    /// Returns the round-trip time without any queue.
    pub const fn rtt(&self) -> Duration {
        Duration::from_millis(self.rtt_ms)
    }

    /// Returns the properties of each direction.
    pub fn shape(&self, trouble: Trouble) -> Shape {
        let bdp = self.mbit * 1_000_000 / 8 * self.rtt_ms / 1000;
        Shape {
            rate: self.mbit * 1_000_000,
            delay: self.rtt() / 2,
            queue: (bdp as f64 * self.queue) as u64,
            loss: trouble.loss_percent / 100.0,
            burst: 1.0,
            reorder: trouble.reorder_percent / 100.0,
            late: match trouble.late_rtts {
                0.0 => [Duration::from_micros(500), Duration::from_millis(5)],
                rtts => [self.rtt().mul_f64(rtts); 2],
            },
        }
    }

    /// Returns the rate of payload that the path can carry. Unit: bytes per second.
    pub fn limit(&self) -> f64 {
        self.mbit as f64 * 1e6 / 8.0 * PAYLOAD_SHARE
    }
}

impl std::fmt::Display for Path {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} Mbit/s, {} ms", self.mbit, self.rtt_ms)
    }
}

/// Losses and reordering of a path.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Trouble {
    /// Share of random loss in both directions, 0..1.
    pub loss_percent: f64,
    /// Share of datagrams that come late, 0..1.
    pub reorder_percent: f64,
    /// How late they come, in round trips of the path; 0: 0.5–5 ms.
    pub late_rtts: f64,
}

impl Trouble {
    /// Nothing is lost and nothing comes late.
    pub const NONE: Self = Self { loss_percent: 0.0, reorder_percent: 0.0, late_rtts: 0.0 };

    /// Loses this share of datagrams. Unit: per cent.
    pub const fn loss(percent: f64) -> Self {
        Self { loss_percent: percent, ..Self::NONE }
    }

    /// Delays this share of datagrams by so many round trips of the path. Unit of the share: per cent.
    pub const fn late(percent: f64, rtts: f64) -> Self {
        Self { reorder_percent: percent, late_rtts: rtts, ..Self::NONE }
    }

    fn is_chance(&self) -> bool {
        self.loss_percent > 0.0 || self.reorder_percent > 0.0
    }
}

impl std::fmt::Display for Trouble {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.reorder_percent, self.late_rtts) {
            (0.0, _) => write!(f, "{} % lost", self.loss_percent),
            (percent, 0.0) => write!(f, "{percent} % reordered"),
            (percent, rtts) => write!(f, "{percent} % late by {rtts} round trips"),
        }
    }
}

/// Columns of the table.
pub const TROUBLES: [Trouble; 5] =
    [Trouble::NONE, Trouble::loss(0.1), Trouble::loss(1.0), Trouble::loss(3.0), Trouble::late(1.0, 0.0)];

/// Columns of the table of lateness: links side by side, or a radio that repeats what it lost.
pub const LATE_TROUBLES: [Trouble; 6] = [
    Trouble::late(5.0, 0.25),
    Trouble::late(25.0, 0.25),
    Trouble::late(5.0, 1.0),
    Trouble::late(25.0, 1.0),
    Trouble::late(50.0, 1.0),
    Trouble::late(25.0, 1.5),
];

/// Rows of the table of lateness.
pub const LATE_ROWS: [Path; 3] = [Path::new(50, 100), Path::new(100, 20), Path::new(1000, 20)];

/// The share of a path that a stream keeps where datagrams come late: half of what TCP has. Unit: per cent.
pub const LATE_TARGET: f64 = 50.0;

/// Rows of the table, with the goodput to reach in each column. Unit: per cent of [`Path::limit`].
pub const ROWS: [(Path, [f64; 5]); 6] = [
    (Path::new(10, 200), [95.0, 93.0, 88.0, 75.0, 95.0]),
    (Path::new(50, 20), [98.0, 95.0, 91.0, 87.0, 98.0]),
    (Path::new(100, 50), [97.0, 94.0, 90.0, 80.0, 97.0]),
    (Path::new(100, 100), [96.0, 92.0, 88.0, 80.0, 96.0]),
    (Path::new(1000, 20), [95.0, 92.0, 88.0, 80.0, 95.0]),
    (Path::new(1000, 50), [95.0, 90.0, 88.0, 75.0, 95.0]),
];

/// Figures of a bulk transfer.
#[derive(Clone, Debug)]
pub struct Bulk {
    /// Goodput of all streams. Unit: per cent of the path's limit.
    pub percent: f64,
    /// Bytes of each stream.
    pub streams: Vec<u64>,
    /// Median time that a datagram waited in the forward queue.
    pub median_wait: Duration,
}

impl Bulk {
    /// Returns Jain's fairness index of the streams; 1 is perfectly fair.
    pub fn jain(&self) -> f64 {
        let (sum, squares) =
            self.streams.iter().fold((0.0, 0.0), |(sum, squares), n| (sum + *n as f64, squares + (*n as f64).powi(2)));
        sum * sum / (self.streams.len() as f64 * squares)
    }
}

/// Keeps the streams of `ends` full for `seconds` from the moment they stand.
///
/// # Panics
/// When the streams do not stand within a minute.
pub fn bulk(ends: [&mut dyn Host; 2], path: &Path, trouble: Trouble, seconds: u64, seed: u64) -> Bulk {
    let shape = path.shape(trouble);
    let mut lab = Lab::new(shape, shape, seed);
    let mut pairs = [Pair { ends, start: Instant::ZERO }];
    let stands = lab.run(&mut pairs, Instant::from_micros(60_000_000), |p| p[0].ends[0].is_ready());
    assert!(stands, "no stream within a minute");
    lab.forward.wait_quantile(0.5);
    let before = pairs[0].ends[1].received().to_vec();
    let end = lab.now() + Duration::from_secs(seconds);
    lab.run(&mut pairs, end, |_| false);
    let after = pairs[0].ends[1].received();
    let streams: Vec<u64> =
        after.iter().enumerate().map(|(i, n)| n - before.get(i).copied().unwrap_or_default()).collect();
    let bytes: u64 = streams.iter().sum();
    let percent = bytes as f64 / seconds as f64 / path.limit() * 100.0;
    Bulk { percent, streams, median_wait: lab.forward.wait_quantile(0.5) }
}

/// A transport that sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variant {
    /// Our stack over our link.
    Pilot,
    /// smoltcp with its own CUBIC, straight over UDP.
    Stock,
    /// quinn's QUIC.
    Quic(QuicController),
}

impl Variant {
    /// Every variant, in the order of the report.
    pub const ALL: [Self; 4] =
        [Self::Pilot, Self::Stock, Self::Quic(QuicController::Cubic), Self::Quic(QuicController::Bbr)];

    /// Returns the name in tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pilot => "pilot",
            Self::Stock => "smoltcp-cubic",
            Self::Quic(QuicController::Cubic) => "quic-cubic",
            Self::Quic(QuicController::Bbr) => "quic-bbr",
        }
    }
}

/// Measures one seed of one cell. Unit: per cent of [`Path::limit`].
pub fn cell(variant: Variant, path: &Path, trouble: Trouble, seconds: u64, seed: u64) -> f64 {
    let run = |a: &mut dyn Host, b: &mut dyn Host| bulk([a, b], path, trouble, seconds, seed).percent;
    match variant {
        Variant::Pilot => {
            let [mut a, mut b] = pilot_pair(Work::BULK, StackConfig::default(), seed);
            run(&mut a, &mut b)
        }
        Variant::Stock => {
            // The same buffer as our own stack gets on this path.
            let ring_len = (path.mbit * path.rtt_ms * 625).next_power_of_two() as usize;
            let [mut a, mut b] = stock_pair(ring_len.max(1 << 20), seed);
            run(&mut a, &mut b)
        }
        Variant::Quic(controller) => {
            let [mut a, mut b] = quic_pair(controller);
            run(&mut a, &mut b)
        }
    }
}

/// Measures the median of `seeds` seeds for each of `cells`, on every core. One seed is enough for a cell without loss and
/// reordering.
pub fn medians(variant: Variant, cells: &[(Path, Trouble)], seconds: u64, seeds: u64) -> Vec<f64> {
    let seeds_of = |trouble: Trouble| if trouble.is_chance() { seeds } else { 1 };
    let jobs: Vec<_> = cells.iter().flat_map(|at| (1..=seeds_of(at.1)).map(move |seed| (*at, seed))).collect();
    let percents = in_parallel(&jobs, |&((path, trouble), seed)| cell(variant, &path, trouble, seconds, seed));
    let mut percents = percents.into_iter();
    cells.iter().map(|at| median(percents.by_ref().take(seeds_of(at.1) as usize).collect())).collect()
}

/// Runs `work` over all `jobs` on every core; results have the order of `jobs`.
///
/// # Panics
/// When `work` panics.
pub fn in_parallel<J: Sync, R: Send>(jobs: &[J], work: impl Fn(&J) -> R + Sync) -> Vec<R> {
    let (next, results) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some((i, job)) = jobs.iter().enumerate().nth(next.fetch_add(1, Ordering::Relaxed)) {
                    let result = work(job);
                    results.lock().expect("no worker panicked").push((i, result));
                }
            });
        }
    });
    let mut results = results.into_inner().expect("no worker panicked");
    results.sort_by_key(|(i, _)| *i);
    results.into_iter().map(|(_, result)| result).collect()
}

/// Returns the middle value.
///
/// # Panics
/// When `values` is empty.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
