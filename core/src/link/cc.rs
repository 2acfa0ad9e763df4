//! Owns congestion control: how much may be in flight and how fast it leaves, behind the trait [`Controller`].
//!
//! [`TolerantCubic`] is CUBIC (RFC 9438, counted in bytes) with slow-start exit by delay (in the spirit of HyStart++,
//! RFC 9406), guided by a model of the path: the delivery rate it has shown and the round trip it has without a queue.
//! The model changes CUBIC in four places.
//!
//! 1. A loss cuts the window only when a queue is visible or loss is heavy: random loss costs what it loses.
//! 2. A cut does not go below what the path was seen to carry without a queue, unless loss is heavy.
//! 3. Without a visible queue the path is not full, and the window grows by a quarter per round trip until it is. Large
//!    bandwidth-delay products are refilled in a few round trips, where CUBIC needs many seconds.
//! 4. The window stays below 1.75 times what the path carries, so a huge buffer is not filled; and when the smallest round
//!    trip was not seen for ten seconds, the queue is drained once to see it.
//!
//! Where other flows keep a queue standing, 1–3 do not apply and it behaves as CUBIC does.

use crate::time::{Duration, Instant};
use alloc::boxed::Box;

/// The news of one ACK frame.
#[derive(Clone, Copy, Debug)]
pub struct AckSample {
    /// When it arrived.
    pub now: Instant,
    /// Bytes newly acknowledged.
    pub bytes: u64,
    /// Round-trip time of its newest datagram, unless a later one was acknowledged before.
    pub rtt: Option<Duration>,
    /// Smoothed round-trip time.
    pub srtt: Duration,
    /// Its newest packet number.
    pub largest: u64,
    /// The packet number that will be sent next.
    pub next: u64,
    /// The sender had less to send than it was allowed to.
    pub app_limited: bool,
    /// Delivered bytes per second since the newest datagram was sent.
    pub delivery_rate: u64,
}

/// One lost datagram.
#[derive(Clone, Copy, Debug)]
pub struct LossSample {
    /// When it was declared lost.
    pub now: Instant,
    /// Its packet number.
    pub number: u64,
    /// The packet number that will be sent next.
    pub next: u64,
    /// Its size.
    pub bytes: u64,
}

/// A congestion controller for one path. Windows and sizes in bytes, rates in bytes per second.
pub trait Controller: Send {
    /// Something arrived.
    fn on_ack(&mut self, sample: &AckSample);
    /// Something was lost.
    fn on_loss(&mut self, sample: &LossSample);
    /// A machine on the way says that datagrams of this path wait there, or found no room; `next`: the packet number that will be
    /// sent next.
    fn on_congestion(&mut self, next: u64);
    /// A datagram that was declared lost has arrived.
    fn on_late(&mut self, number: u64, bytes: u64);
    /// Nothing arrived for several probe timeouts: start again carefully.
    fn on_collapse(&mut self);
    /// Most bytes in flight.
    fn window(&self) -> u64;
    /// Sending rate; `None` before the first round trip is known.
    fn pacing_rate(&self) -> Option<u64>;
    /// Name for statistics.
    fn name(&self) -> &'static str;
}

/// Datagrams in the initial window. Source: RFC 9002 §7.2.
const INITIAL_DATAGRAMS: f64 = 10.0;
/// Smallest window. Unit: datagrams.
const MINIMUM_DATAGRAMS: f64 = 4.0;
/// RFC 9438 §4.6.
const BETA: f64 = 0.7;
/// RFC 9438 §5.
const C: f64 = 0.4;
/// RFC 9438 §4.3: 3 (1 − β) / (1 + β).
const ALPHA: f64 = 3.0 * (1.0 - BETA) / (1.0 + BETA);
/// RFC 9438 §4.7, fast convergence.
const CONVERGENCE: f64 = (1.0 + BETA) / 2.0;

/// RFC 9406 §4.3: samples before a round's smallest delay is judged.
const DELAY_SAMPLES: u32 = 8;

// Our choices, judged by the table in `pilot_tests::lab`.

/// A queue is visible when srtt exceeds the minimum by this much, or by an eighth. Source: `docs/link.md`, "Congestion
/// control and pacing".
const QUEUE_VISIBLE: Duration = Duration::from_millis(3);
/// Loss above this share of recent bytes is congestion, whatever the delay. Source: as above.
const HEAVY_LOSS: f64 = 0.08;
/// A minimum of the round-trip time older than this is measured anew.
const MIN_RTT_LIFETIME: Duration = Duration::from_secs(10);
/// A minimum is also measured anew when for this long, and for so many round trips, none came below twice the minimum: our
/// own window makes no such queue, so the path has changed. Source: own choice; a stream has half its rate again within two
/// seconds.
const FAR_LIFETIME: Duration = Duration::from_millis(400);
const FAR_RTTS: u32 = 4;
/// Window while the queue is drained for that, in bandwidth-delay products.
const DRAIN: f64 = 0.75;
/// A cut stays above this many bandwidth-delay products.
const FLOOR: f64 = 0.95;
/// The window stays below this many bandwidth-delay products.
const CEILING: f64 = 1.75;
/// Growth per round trip while no queue is visible.
const FILL: f64 = 0.25;
/// Round trips for which cuts that follow each other count as one, when they turn out to answer no loss. Source: own
/// choice; a datagram that is late by more than two is not waited for (`recovery`).
const UNDO_RTTS: u32 = 3;
/// Round trips over which the largest delivery rate is remembered.
const RATE_ROUNDS: usize = 6;

/// CUBIC that does not mistake random loss for congestion. See the module's documentation.
pub struct TolerantCubic {
    datagram: f64,
    window: f64,
    threshold: f64,
    /// Window before the last cut, where the cubic curve has its plateau.
    plateau: f64,
    /// Seconds from the cut to the plateau.
    k: f64,
    epoch: Option<Instant>,
    /// The window that Reno would have; CUBIC's is never smaller.
    reno: f64,
    srtt: Duration,
    min_rtt: Option<Duration>,
    min_rtt_at: Instant,
    /// When a round trip was last so short that a queue of our own can explain it.
    near_at: Instant,
    /// The queue is drained until then.
    drain_until: Option<Instant>,
    /// Largest delivery rate of each of the last rounds, the current one first. Unit: bytes per second.
    rates: [u64; RATE_ROUNDS],
    round: Round,
    /// Losses of packet numbers below this belong to a reaction already taken.
    recovery_until: u64,
    /// Newest packet number that was acknowledged.
    acked_until: u64,
    /// What to go back to when the losses were none.
    before: Option<Box<BeforeCut>>,
}

/// The state before the oldest cut of which lost datagrams may still arrive.
struct BeforeCut {
    at: Instant,
    /// The packet number for which it was cut.
    number: u64,
    /// Bytes that were declared lost from this number on.
    lost: f64,
    /// Bytes of them that have arrived.
    arrived: f64,
    window: f64,
    threshold: f64,
    plateau: f64,
}

/// One round trip's observations.
#[derive(Default)]
struct Round {
    end: u64,
    count: u32,
    min_rtt: Option<Duration>,
    last_min_rtt: Option<Duration>,
    samples: u32,
    acked: f64,
    lost: f64,
}

impl TolerantCubic {
    /// A controller in slow start for datagrams of `datagram` bytes.
    pub fn new(datagram: usize) -> Self {
        let datagram = datagram as f64;
        Self {
            datagram,
            window: INITIAL_DATAGRAMS * datagram,
            threshold: f64::MAX,
            plateau: 0.0,
            k: 0.0,
            epoch: None,
            reno: 0.0,
            srtt: Duration::ZERO,
            min_rtt: None,
            min_rtt_at: Instant::ZERO,
            near_at: Instant::ZERO,
            drain_until: None,
            rates: [0; RATE_ROUNDS],
            round: Round::default(),
            recovery_until: 0,
            acked_until: 0,
            before: None,
        }
    }

    const fn in_slow_start(&self) -> bool {
        self.window < self.threshold
    }

    /// The bytes that the path holds without a queue, as far as it has shown; 0 while nothing is known.
    fn bdp(&self) -> f64 {
        let rate = self.rates.iter().max().copied().unwrap_or_default();
        rate as f64 * self.min_rtt.unwrap_or_default().as_secs_f64()
    }

    fn minimum(&self) -> f64 {
        MINIMUM_DATAGRAMS * self.datagram
    }

    /// RFC 9406 §4.2: slow start ends when the delay has grown by an eighth, bounded to 4–16 ms, since the last round.
    fn watch_delay(&mut self) {
        let (Some(last), Some(this)) = (self.round.last_min_rtt, self.round.min_rtt) else { return };
        let grown = this > last + (last / 8).clamp(Duration::from_millis(4), Duration::from_millis(16));
        if self.in_slow_start() && self.round.samples >= DELAY_SAMPLES && grown {
            self.threshold = self.window;
        }
    }

    fn end_round(&mut self, next: u64) {
        self.round.last_min_rtt = self.round.min_rtt.take();
        self.round.samples = 0;
        self.round.end = next;
        self.round.count += 1;
        self.rates.rotate_right(1);
        self.rates[0] = 0;
        if self.round.count.is_multiple_of(4) {
            self.round.acked /= 2.0;
            self.round.lost /= 2.0;
        }
    }

    /// RFC 9438 §4.2–4.4, or faster while the path is not full.
    fn avoid_congestion(&mut self, sample: &AckSample) {
        let acked = sample.bytes as f64;
        if !self.queue_is_visible() {
            self.window += FILL * acked;
            self.epoch = None; // the curve begins where the path is full
            return;
        }
        if self.epoch.is_none() {
            (self.epoch, self.reno) = (Some(sample.now), self.window);
            self.plateau = self.plateau.max(self.window);
            self.k = cube_root((self.plateau - self.window) / (C * self.datagram));
        }
        let since = sample.now.since(self.epoch.unwrap_or(sample.now)) + sample.srtt;
        let t = since.as_secs_f64() - self.k;
        let target = (C * self.datagram * t * t * t + self.plateau).min(1.5 * self.window);
        self.reno += ALPHA * self.datagram * acked / self.window;
        let target = target.max(self.reno);
        if target > self.window {
            self.window += (target - self.window) * acked / self.window;
        }
    }

    fn queue_is_visible(&self) -> bool {
        let Some(min) = self.min_rtt else { return true };
        self.srtt.saturating_sub(min) >= QUEUE_VISIBLE.max(min / 8)
    }

    fn cut(&mut self, floor: f64) {
        self.plateau = if self.window < self.plateau { self.window * CONVERGENCE } else { self.window };
        self.window = (self.window * BETA).max(floor.min(self.window)).max(self.minimum());
        self.threshold = self.window;
        self.epoch = None;
    }

    /// What a cut for this loss would be taken back to: the state of now, or of the cut before if that is recent.
    fn before_cut(&mut self, loss: &LossSample) -> Box<BeforeCut> {
        let recent = self.before.take().filter(|before| loss.now.since(before.at) < self.srtt * UNDO_RTTS);
        recent.unwrap_or_else(|| {
            Box::new(BeforeCut {
                at: loss.now,
                number: loss.number,
                lost: loss.bytes as f64,
                arrived: 0.0,
                window: self.window,
                threshold: self.threshold,
                plateau: self.plateau,
            })
        })
    }

    /// Keeps the smallest round trip; when it was not seen for long, drains the queue to see it.
    fn watch_rtt(&mut self, now: Instant, rtt: Duration) {
        if let Some(until) = self.drain_until
            && now >= until
        {
            // The round trip of the drained path is the smallest one now, even if it is more than before.
            self.drain_until = None;
            (self.min_rtt, self.min_rtt_at) = (self.round.last_min_rtt.or(self.round.min_rtt), now);
        }
        if self.min_rtt.is_none_or(|min| rtt < min * 2 + QUEUE_VISIBLE) {
            self.near_at = now;
        }
        let is_far = now.since(self.near_at) > FAR_LIFETIME.max(self.srtt * FAR_RTTS);
        if self.min_rtt.is_none_or(|min| rtt <= min + min / 32) {
            (self.min_rtt, self.min_rtt_at) = (Some(self.min_rtt.map_or(rtt, |min| min.min(rtt))), now);
        } else if (is_far || now.since(self.min_rtt_at) > MIN_RTT_LIFETIME) && self.drain_until.is_none() {
            self.drain_until = Some(now + self.srtt * 2);
        }
    }
}

impl Controller for TolerantCubic {
    fn on_ack(&mut self, sample: &AckSample) {
        self.srtt = sample.srtt;
        self.acked_until = self.acked_until.max(sample.largest);
        if let Some(rtt) = sample.rtt {
            self.round.min_rtt = Some(self.round.min_rtt.map_or(rtt, |min| min.min(rtt)));
            self.round.samples += 1;
            self.watch_delay();
            self.watch_rtt(sample.now, rtt);
        }
        self.round.acked += sample.bytes as f64;
        if !sample.app_limited || sample.delivery_rate > self.rates.iter().max().copied().unwrap_or_default() {
            self.rates[0] = self.rates[0].max(sample.delivery_rate);
        }
        if sample.largest >= self.round.end {
            self.end_round(sample.next);
        }
        if sample.app_limited {
            return; // RFC 9438 §4.2: an unused window is no reason to grow it
        }
        if self.in_slow_start() {
            self.window += sample.bytes as f64;
        } else {
            self.avoid_congestion(sample);
            let ceiling = CEILING * self.bdp() + self.minimum();
            if self.bdp() > 0.0 && self.window > ceiling {
                self.window = ceiling;
            }
        }
    }

    fn on_loss(&mut self, sample: &LossSample) {
        self.round.lost += sample.bytes as f64;
        if let Some(before) = &mut self.before {
            before.lost += sample.bytes as f64;
        }
        if sample.number < self.recovery_until {
            return; // one reaction per round trip
        }
        let share = self.round.lost / (self.round.acked + self.round.lost).max(1.0);
        let floor = if share >= HEAVY_LOSS {
            0.0
        } else if self.queue_is_visible() {
            FLOOR * self.bdp()
        } else {
            return;
        };
        self.before = Some(self.before_cut(sample));
        self.cut(floor);
        self.recovery_until = sample.next;
        debug_assert!(self.window >= self.minimum(), "a cut has a floor");
    }

    fn on_congestion(&mut self, next: u64) {
        if self.acked_until < self.recovery_until {
            return; // as with losses, one reaction per round trip
        }
        self.cut(FLOOR * self.bdp());
        self.recovery_until = next;
    }

    fn on_late(&mut self, number: u64, bytes: u64) {
        self.round.lost = (self.round.lost - bytes as f64).max(0.0);
        let Some(before) = self.before.as_mut().filter(|before| number >= before.number) else { return };
        before.arrived += bytes as f64;
        if before.arrived * 2.0 > before.lost {
            (self.window, self.threshold) = (self.window.max(before.window), self.threshold.max(before.threshold));
            (self.plateau, self.epoch) = (before.plateau, None);
            self.before = None;
        }
    }

    fn on_collapse(&mut self) {
        self.before = None;
        self.threshold = (self.window * BETA).max(self.minimum());
        self.window = self.minimum();
        self.epoch = None;
    }

    fn window(&self) -> u64 {
        if self.drain_until.is_none() {
            return self.window as u64;
        }
        self.window.min(DRAIN * self.bdp()).max(self.minimum()) as u64
    }

    fn pacing_rate(&self) -> Option<u64> {
        if self.srtt.is_zero() {
            return None;
        }
        let gain = if self.in_slow_start() { 2.0 } else { 1.2 };
        Some((gain * self.window / self.srtt.as_secs_f64()) as u64)
    }

    fn name(&self) -> &'static str {
        "cubic-tolerant"
    }
}

/// Newton's iteration; `core` has no `cbrt`. Good to 1e-9 for the 0–1e6 seen here.
fn cube_root(x: f64) -> f64 {
    if x <= 0.0 {
        return 0.0;
    }
    let mut root = if x > 1.0 { x / 2.0 } else { 1.0 };
    for _ in 0..60 {
        root -= (root * root * root - x) / (3.0 * root * root);
    }
    root
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ack(ms: u64, rtt_ms: u64, number: u64) -> AckSample {
        AckSample {
            now: Instant::from_micros(ms * 1000),
            bytes: 12_000,
            rtt: Some(Duration::from_millis(rtt_ms)),
            srtt: Duration::from_millis(rtt_ms),
            largest: number,
            next: number + 10,
            app_limited: false,
            delivery_rate: 0,
        }
    }

    fn loss(number: u64) -> LossSample {
        LossSample { now: Instant::from_micros(1_000_000), number, next: number + 10, bytes: 1200 }
    }

    #[test]
    fn cube_roots_are_exact_enough() {
        for x in [0.001, 0.5, 1.0, 27.0, 1e6] {
            assert!((cube_root(x) - x.cbrt()).abs() < 1e-6 * x.max(1.0));
        }
    }

    #[test]
    fn random_loss_keeps_the_window_and_loss_with_a_queue_cuts_it() {
        let mut cc = TolerantCubic::new(1200);
        for i in 0..20 {
            cc.on_ack(&ack(50 * i, 50, 10 * i));
        }
        let before = cc.window();
        cc.on_loss(&loss(200));
        assert_eq!(cc.window(), before, "no queue is visible");
        for i in 0..20 {
            cc.on_ack(&ack(1000 + 50 * i, 80, 300 + 10 * i));
        }
        let before = cc.window();
        cc.on_loss(&loss(500));
        assert!(cc.window().abs_diff((before as f64 * BETA) as u64) <= 1, "a queue is visible");
        cc.on_loss(&loss(505));
        assert!(cc.window().abs_diff((before as f64 * BETA) as u64) <= 1, "one cut per round trip");
    }

    #[test]
    fn a_word_of_congestion_counts_as_one_loss_and_once_per_round_trip() {
        let mut cc = TolerantCubic::new(1200);
        (0..20).for_each(|i| cc.on_ack(&ack(50 * i, 50, 10 * i)));
        let before = cc.window();
        let once = (before as f64 * BETA) as u64;
        for next in [200, 200, 210, 220] {
            cc.on_congestion(next);
            assert!(cc.window().abs_diff(once) <= 1, "{} of {before}", cc.window());
        }
        // The losses that the word was about, and what is acknowledged of the same round trip, change nothing more.
        cc.on_ack(&AckSample { bytes: 0, ..ack(1000, 80, 199) });
        cc.on_loss(&loss(195));
        cc.on_congestion(230);
        assert!(cc.window().abs_diff(once) <= 1, "{} of {before}", cc.window());
        cc.on_ack(&AckSample { bytes: 0, ..ack(1050, 80, 201) });
        cc.on_congestion(240);
        assert!(cc.window() < once * 8 / 10, "a round trip later there is another one");
    }

    #[test]
    fn slow_start_ends_when_the_delay_grows() {
        let mut cc = TolerantCubic::new(1200);
        // Rounds of ten acknowledgements; only the first of each ends the round before.
        let round = |cc: &mut TolerantCubic, i: u64, rtt_ms: u64, samples: u64| {
            (0..samples).for_each(|n| cc.on_ack(&ack(50 * i + n, rtt_ms, 10 * i + u64::from(n > 0))));
        };
        (1..5).for_each(|i| round(&mut cc, i, 50, 10));
        assert!(cc.in_slow_start());
        round(&mut cc, 5, 70, DELAY_SAMPLES as u64 - 1);
        assert!(cc.in_slow_start(), "too few samples to judge");
        round(&mut cc, 5, 70, 4);
        assert!(!cc.in_slow_start());
    }

    /// A path of 1 MB/s and 50 ms, filled by `window` bytes: what exceeds 50 kB waits in the queue.
    fn drive(cc: &mut TolerantCubic, from: u64, rounds: u64) {
        for i in from..from + rounds {
            let rtt_ms = 50.max(cc.window() / 1000);
            let sample = AckSample { bytes: cc.window(), delivery_rate: 1_000_000, ..ack(60 * i, rtt_ms, 10 * i) };
            cc.on_ack(&sample);
        }
    }

    #[test]
    fn a_cut_keeps_what_the_path_carries_and_growth_fills_it_and_stops() {
        let mut cc = TolerantCubic::new(1200);
        drive(&mut cc, 0, 40);
        cc.threshold = 0.0;
        drive(&mut cc, 40, 200);
        let ceiling = (CEILING * 50_000.0 + cc.minimum()) as u64;
        assert!(cc.window() > 55_000 && cc.window() <= ceiling, "{} of {ceiling}", cc.window());
        // One loss with the queue visible cuts, a second one does not go below the floor.
        cc.on_loss(&loss(2400));
        cc.on_loss(&loss(2500));
        assert!(cc.window() >= 47_499, "{}", cc.window());
        // Heavy loss knows no floor.
        (0..40).for_each(|i| cc.on_loss(&LossSample { bytes: 50_000, ..loss(2600 + 20 * i) }));
        assert!(cc.window() < 30_000, "{}", cc.window());
    }

    #[test]
    fn the_queue_is_drained_when_the_smallest_round_trip_was_not_seen_for_long() {
        let mut cc = TolerantCubic::new(1200);
        drive(&mut cc, 0, 3);
        // Another flow's queue hides it from now on.
        let sample = |i: u64| AckSample { bytes: 50_000, delivery_rate: 1_000_000, ..ack(60 * i, 80, 10 * i) };
        (3..100).for_each(|i| cc.on_ack(&sample(i)));
        assert!(cc.window() > 50_000);
        let rounds = (100..250).filter(|i| {
            cc.on_ack(&sample(*i));
            cc.window() < 50_000
        });
        let rounds = rounds.count();
        assert!((1..=4).contains(&rounds), "drained for {rounds} acknowledgements");
        assert!(cc.window() > 50_000, "and then as before");
    }

    #[test]
    fn an_idle_sender_does_not_grow_its_window() {
        let mut cc = TolerantCubic::new(1200);
        let before = cc.window();
        (0..50).for_each(|i| cc.on_ack(&AckSample { app_limited: true, ..ack(50 * i, 50, i) }));
        assert_eq!(cc.window(), before);
    }
}
