//! The link lab: transports on both sides of one bottleneck, in virtual time and from one seed.
//!
//! ```text
//!  sender 0 ─┐                                          ┌─ receiver 0
//!  sender 1 ─┼─ queue ─ rate ─ delay, loss, reordering ─┼─ receiver 1      (and the same on the way back)
//!  …        ─┘                                          └─ …
//! ```
//! The scenarios of `table` are the goals of `docs/link.md`. Every transport is a [`Host`], so that other stacks run on the
//! same path and beside ours.

mod bottleneck;
mod pilot;
mod quic;
mod stock;
pub mod table;

pub use bottleneck::{Bottleneck, Dice, Shape};
pub use pilot::{PilotHost, TRANSPARENT, Transparent, Work, befriended, pilot_pair, star, star_again, underlay};
pub use quic::{AnyServer, QuicController, QuicHost, quic_pair};
pub use stock::{StockHost, stock_pair};

use pilot_core::Instant;
use pilot_core::time::Duration;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// One end of a simulated transport, with the application on it.
pub trait Host {
    /// Takes a datagram, which may be changed in place.
    fn handle_datagram(&mut self, now: Instant, datagram: &mut [u8]);
    /// Runs the timers that are due, at or after [`Host::poll_timeout`].
    fn handle_timeout(&mut self, now: Instant);
    /// Gives every datagram that may leave now to `send`.
    fn poll_transmit(&mut self, now: Instant, send: &mut dyn FnMut(&[u8]));
    /// Returns the next time at which [`Host::handle_timeout`] is due.
    fn poll_timeout(&self) -> Option<Instant>;
    /// Returns the bytes that the application has read, for each stream.
    fn received(&self) -> &[u64];
    /// Tells whether all streams of a sender stand.
    fn is_ready(&self) -> bool;
}

/// A sender and its receiver.
pub struct Pair<'a> {
    /// The two ends.
    pub ends: [&'a mut dyn Host; 2],
    /// Time at which the pair begins.
    pub start: Instant,
}

/// A path under test.
pub struct Lab {
    /// Direction to the receivers.
    pub forward: Bottleneck,
    /// Direction back to the senders.
    pub backward: Bottleneck,
    now_ns: u64,
    arrivals: BinaryHeap<Reverse<(u64, u64, usize)>>,
    slots: Vec<(usize, usize, Vec<u8>)>,
    free: Vec<usize>,
    sequence: u64,
}

impl Lab {
    /// Makes a path of two directions.
    pub fn new(forward: Shape, backward: Shape, seed: u64) -> Self {
        Self {
            forward: Bottleneck::new(forward, 2 * seed + 1),
            backward: Bottleneck::new(backward, 2 * seed + 2),
            now_ns: 0,
            arrivals: BinaryHeap::new(),
            slots: Vec::new(),
            free: Vec::new(),
            sequence: 0,
        }
    }

    /// Returns the virtual time.
    pub const fn now(&self) -> Instant {
        Instant::from_micros(self.now_ns / 1000)
    }

    /// Loses every datagram of both directions for `span`.
    pub const fn interrupt(&mut self, span: Duration) {
        let until = self.now_ns + span.as_nanos() as u64;
        (self.forward.outage_until_ns, self.backward.outage_until_ns) = (until, until);
    }

    /// Runs until `end`, or until `done` holds after a step; tells whether `done` held.
    pub fn run(&mut self, pairs: &mut [Pair<'_>], end: Instant, mut done: impl FnMut(&[Pair<'_>]) -> bool) -> bool {
        let mut deadlines: Vec<[Option<Instant>; 2]> = pairs.iter().map(|p| [Some(p.start); 2]).collect();
        // The caller may have made output since the last run.
        for i in 0..pairs.len() {
            for side in 0..2 {
                if pairs[i].start <= self.now() {
                    let now = self.now();
                    pairs[i].ends[side].handle_timeout(now);
                    self.settle(pairs, i, side, &mut deadlines);
                }
            }
        }
        loop {
            let timer = deadlines
                .iter()
                .enumerate()
                .flat_map(|(i, sides)| sides.iter().enumerate().filter_map(move |(side, at)| Some(((*at)?, i, side))))
                .min();
            let arrival = self.arrivals.peek().map(|Reverse((at, ..))| *at);
            let timer_ns = timer.map(|(at, ..)| at.as_micros() * 1000);
            let Some(next) = [arrival, timer_ns].into_iter().flatten().min() else { return false };
            if next > end.as_micros() * 1000 {
                self.now_ns = end.as_micros() * 1000;
                return false;
            }
            self.now_ns = self.now_ns.max(next);
            let (i, side) = if arrival == Some(next) {
                let Some(Reverse((_, _, slot))) = self.arrivals.pop() else { return false };
                let (i, side, mut datagram) = std::mem::take(&mut self.slots[slot]);
                let now = self.now();
                pairs[i].ends[side].handle_datagram(now, &mut datagram);
                self.slots[slot].2 = datagram;
                self.free.push(slot);
                (i, side)
            } else {
                let Some((_, i, side)) = timer else { return false };
                let now = self.now();
                pairs[i].ends[side].handle_timeout(now);
                (i, side)
            };
            self.settle(pairs, i, side, &mut deadlines);
            if done(pairs) {
                return true;
            }
        }
    }

    /// Sends the datagrams of a host and takes its next deadline.
    fn settle(&mut self, pairs: &mut [Pair<'_>], i: usize, side: usize, deadlines: &mut [[Option<Instant>; 2]]) {
        let (now, now_ns) = (self.now(), self.now_ns);
        let (way, slots, free) =
            (if side == 0 { &mut self.forward } else { &mut self.backward }, &mut self.slots, &mut self.free);
        let (arrivals, sequence) = (&mut self.arrivals, &mut self.sequence);
        pairs[i].ends[side].poll_transmit(now, &mut |datagram| {
            let Some(at) = way.send(now_ns, datagram.len()) else { return };
            *sequence += 1;
            let slot = free.pop().unwrap_or_else(|| {
                slots.push((0, 0, Vec::new()));
                slots.len() - 1
            });
            let entry = &mut slots[slot];
            (entry.0, entry.1) = (i, 1 - side);
            entry.2.clear();
            entry.2.extend_from_slice(datagram);
            arrivals.push(Reverse((at, *sequence, slot)));
        });
        // A deadline in the past is served at the next microsecond, so that time always moves.
        let soonest = now + Duration::from_micros(1);
        deadlines[i][side] = pairs[i].ends[side].poll_timeout().map(|at| at.max(soonest));
    }
}
