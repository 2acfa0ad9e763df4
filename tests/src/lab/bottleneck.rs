//! Owns one direction of the path: a rate, a drop-tail queue in front of it, delay, loss and reordering.

use pilot_core::time::Duration;

/// Bytes that IPv4 and UDP add on the wire.
const HEADERS_LEN: usize = 28;
/// Larger datagrams vanish: an Ethernet path. Unit: bytes of UDP payload.
const MTU: usize = 1500 - HEADERS_LEN;

/// A small, fast generator (xorshift64*): millions of draws per simulated second need no cipher.
pub struct Dice(u64);

impl Dice {
    /// A generator; equal seeds give equal sequences.
    pub const fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// A number in 0..1.
    pub fn unit(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// What one direction does to datagrams.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Bits per second.
    pub rate: u64,
    /// One way.
    pub delay: Duration,
    /// Room in front of the rate; beyond it the newest is dropped. Unit: bytes.
    pub queue: u64,
    /// Share of datagrams that vanish, 0..1.
    pub loss: f64,
    /// Mean length of a run of losses; 1 is independent loss. The share stays `loss`.
    pub burst: f64,
    /// Share of datagrams that come 0.5–5 ms late, 0..1.
    pub reorder: f64,
}

/// One direction of the path. Times in nanoseconds, since a datagram takes 12 µs at 1 Gbit/s.
pub struct Bottleneck {
    /// What it does now; may be changed at any time.
    pub shape: Shape,
    /// Until when nothing gets through.
    pub outage_until_ns: u64,
    free_at_ns: u64,
    in_burst: bool,
    dice: Dice,
    /// Waiting time that each datagram met. Unit: microseconds.
    waits_us: Vec<u32>,
    /// Dropped by the full queue.
    pub overflowed: u64,
}

impl Bottleneck {
    /// An idle direction.
    pub const fn new(shape: Shape, seed: u64) -> Self {
        Self {
            shape,
            outage_until_ns: 0,
            free_at_ns: 0,
            in_burst: false,
            dice: Dice::new(seed),
            waits_us: Vec::new(),
            overflowed: 0,
        }
    }

    /// When a datagram of `len` bytes that is sent now arrives; `None` when it does not.
    pub fn send(&mut self, now_ns: u64, len: usize) -> Option<u64> {
        if len > MTU {
            return None;
        }
        let wire_ns = |bytes: u64| bytes * 8 * 1_000_000_000 / self.shape.rate;
        let takes = wire_ns((len + HEADERS_LEN) as u64);
        let start = self.free_at_ns.max(now_ns);
        let wait = start - now_ns;
        // A queue holds two datagrams however small it is.
        if wait + takes > wire_ns(self.shape.queue).max(2 * takes) {
            self.overflowed += 1;
            return None;
        }
        self.waits_us.push((wait / 1000) as u32);
        self.free_at_ns = start + takes;
        if now_ns < self.outage_until_ns || self.is_lost() {
            return None;
        }
        let late = if self.dice.unit() < self.shape.reorder { 500_000 + (self.dice.unit() * 4.5e6) as u64 } else { 0 };
        Some(self.free_at_ns + self.shape.delay.as_nanos() as u64 + late)
    }

    /// Gilbert's two states: a run of losses begins so often that their share is `loss`.
    fn is_lost(&mut self) -> bool {
        let Shape { loss, burst, .. } = self.shape;
        let draw = self.dice.unit();
        self.in_burst = if self.in_burst { draw < 1.0 - 1.0 / burst } else { draw < loss / (burst * (1.0 - loss)) };
        if burst <= 1.0 { draw < loss } else { self.in_burst }
    }

    /// The waiting time that this share of datagrams did not exceed, and forgets all.
    pub fn wait_quantile(&mut self, q: f64) -> Duration {
        let mut waits = std::mem::take(&mut self.waits_us);
        if waits.is_empty() {
            return Duration::ZERO;
        }
        let index = ((waits.len() - 1) as f64 * q) as usize;
        Duration::from_micros(u64::from(*waits.select_nth_unstable(index).1))
    }
}
