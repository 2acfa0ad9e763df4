//! Owns one direction of the path: a rate, a drop-tail queue in front of it, delay, loss and reordering.

use pilot_core::time::Duration;

/// Bytes that IPv4 and UDP add on the wire.
const HEADERS_LEN: usize = 28;
/// Longest datagram of an Ethernet path; longer ones are lost. Unit: bytes of UDP payload.
const MTU: usize = 1500 - HEADERS_LEN;

/// A small, fast generator (xorshift64*): millions of draws per simulated second need no cipher.
pub struct Dice(u64);

impl Dice {
    /// Makes a generator; equal seeds give equal sequences.
    pub const fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// Returns the next number in 0..1.
    pub fn unit(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// Properties of one direction.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Rate. Unit: bits per second.
    pub rate: u64,
    /// One-way delay behind the queue.
    pub delay: Duration,
    /// Length of the drop-tail queue in front of the rate. Unit: bytes.
    pub queue: u64,
    /// Share of datagrams that are lost, 0..1.
    pub loss: f64,
    /// Mean length of a run of losses; 1 is independent loss. The share stays `loss`.
    pub burst: f64,
    /// Share of datagrams that come late, 0..1.
    pub reorder: f64,
    /// Shortest and longest extra delay of a late datagram.
    pub late: [Duration; 2],
}

/// One direction of the path. Times in nanoseconds, since a datagram takes 12 µs at 1 Gbit/s.
pub struct Bottleneck {
    /// Current properties; may be changed at any time.
    pub shape: Shape,
    /// End of the current outage.
    pub outage_until_ns: u64,
    free_at_ns: u64,
    in_burst: bool,
    dice: Dice,
    /// Waiting time of each datagram in the queue. Unit: microseconds.
    waits_us: Vec<u32>,
    /// Datagrams that the full queue dropped.
    pub overflowed: u64,
}

impl Bottleneck {
    /// Makes an idle direction.
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

    /// Returns the arrival of a datagram of `len` bytes sent at `now`; `None` when the datagram is lost.
    pub fn send(&mut self, now_ns: u64, len: usize) -> Option<u64> {
        if len > MTU {
            return None;
        }
        let wire_ns = |bytes: u64| bytes * 8 * 1_000_000_000 / self.shape.rate;
        let takes = wire_ns((len + HEADERS_LEN) as u64);
        let start = self.free_at_ns.max(now_ns);
        let wait = start - now_ns;
        // The shortest queue holds two datagrams.
        if wait + takes > wire_ns(self.shape.queue).max(2 * takes) {
            self.overflowed += 1;
            return None;
        }
        self.waits_us.push((wait / 1000) as u32);
        self.free_at_ns = start + takes;
        if now_ns < self.outage_until_ns || self.is_lost() {
            return None;
        }
        Some(self.free_at_ns + self.shape.delay.as_nanos() as u64 + self.lateness_ns())
    }

    fn lateness_ns(&mut self) -> u64 {
        if self.dice.unit() >= self.shape.reorder {
            return 0;
        }
        let [least, most] = self.shape.late.map(|late| late.as_nanos() as f64);
        (least + self.dice.unit() * (most - least)) as u64
    }

    /// Draws a loss from Gilbert's two states: runs of losses begin so often that their share is `loss`.
    fn is_lost(&mut self) -> bool {
        let Shape { loss, burst, .. } = self.shape;
        let draw = self.dice.unit();
        self.in_burst = if self.in_burst { draw < 1.0 - 1.0 / burst } else { draw < loss / (burst * (1.0 - loss)) };
        if burst <= 1.0 { draw < loss } else { self.in_burst }
    }

    /// Returns the waiting time that a share `q` of the datagrams did not exceed, and forgets all waiting times.
    pub fn wait_quantile(&mut self, q: f64) -> Duration {
        let mut waits = std::mem::take(&mut self.waits_us);
        if waits.is_empty() {
            return Duration::ZERO;
        }
        let index = ((waits.len() - 1) as f64 * q) as usize;
        Duration::from_micros(u64::from(*waits.select_nth_unstable(index).1))
    }
}
