//! Owns the receive side of acknowledgement: which counters of a session came, and when they are acknowledged.

use super::frame::{self, ACK_RANGES_MAX};
use crate::sort::sort_by;
use crate::time::{Duration, Instant};
use crate::wire::{Counter, LocalIndex};
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec::Vec;

/// Longest time that a datagram waits for its acknowledgement. Source: measured with a prototype.
const ACK_DELAY: Duration = Duration::from_millis(2);
/// The same for datagrams that only carry inner acknowledgements.
pub(crate) const ACK_DELAY_RELAXED: Duration = Duration::from_millis(25);
/// Datagrams after which an acknowledgement is due at once.
const ACK_EVERY: u32 = 2;
/// The same for datagrams that only carry inner acknowledgements.
const ACK_EVERY_RELAXED: u32 = 32;
/// Newest ranges in an ACK; the rest is for datagrams that came late.
const NEWEST_MAX: usize = ACK_RANGES_MAX / 2;
/// Ranges remembered; the oldest are forgotten, which costs a needless resend at worst.
const RANGES_MAX: usize = 2 * NEWEST_MAX;
/// Late datagrams that wait for their acknowledgements. Source: a batch of the socket, half of it late.
const LATE_MAX: usize = ACK_RANGES_MAX - NEWEST_MAX;
/// ACKs in which a late datagram is named. Source: own choice; with 30 % of them lost, one late datagram in a hundred is
/// sent again.
const LATE_REPORTS: u8 = 4;

/// How much a received datagram wants to be acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Urgency {
    /// Not at all (acknowledgements, probes).
    None,
    /// Some time (inner acknowledgements).
    Relaxed,
    /// Soon.
    Normal,
}

/// Datagrams that came late, which may lie below the newest ranges: where a quarter of them is late by a round trip, there
/// are hundreds of ranges.
#[derive(Default)]
struct Late {
    /// Counters, and the number of ACKs in which each of them is still to be named.
    entries: [(u64, u8); LATE_MAX],
}

impl Late {
    /// Notes a counter in place of the one that was named most often.
    fn note(&mut self, counter: u64) {
        if let Some(entry) = self.entries.iter_mut().min_by_key(|(_, left)| *left) {
            *entry = (counter, LATE_REPORTS);
        }
    }

    /// The ranges below the counter `oldest` for one more ACK, descending, disjoint and not touching.
    fn report(&mut self, oldest: u64) -> Vec<(u64, u64)> {
        let waiting = self.entries.iter_mut().filter(|(_, left)| *left > 0);
        let named = waiting.map(|(counter, left)| {
            *left -= 1;
            *counter
        });
        let mut counters: Vec<u64> = named.filter(|counter| counter + 1 < oldest).collect();
        sort_by(&mut counters, |a, b| a > b);
        let mut ranges: Vec<(u64, u64)> = Vec::new();
        for counter in counters {
            match ranges.last_mut() {
                Some((low, _)) if counter + 1 >= *low => *low = counter,
                _ => ranges.push((counter, counter)),
            }
        }
        debug_assert!(ranges.len() <= LATE_MAX, "they fit beside the newest ranges");
        ranges
    }
}

/// The counters received in one session.
pub(crate) struct Received {
    /// The session, by our own index.
    pub(crate) index: LocalIndex,
    /// Descending, disjoint, not touching.
    ranges: VecDeque<(u64, u64)>,
    /// `None` on a path where datagrams come in order.
    late: Option<Box<Late>>,
    newest_at: Instant,
    waiting: u32,
    waiting_relaxed: u32,
    deadline: Option<Instant>,
}

impl Received {
    pub(crate) fn new(index: LocalIndex) -> Self {
        let ranges = VecDeque::new();
        Self { index, ranges, late: None, newest_at: Instant::ZERO, waiting: 0, waiting_relaxed: 0, deadline: None }
    }

    /// Frees the room of ranges that have become one.
    pub(crate) fn rest(&mut self) {
        self.ranges.shrink_to_fit();
        self.late = None;
    }

    /// Notes a counter that the replay window accepted.
    pub(crate) fn note(&mut self, now: Instant, Counter(counter): Counter, urgency: Urgency) {
        let in_order = self.ranges.front().is_none_or(|newest| counter == newest.1 + 1);
        if self.ranges.front().is_none_or(|newest| counter > newest.1) {
            self.newest_at = now;
        } else {
            self.late.get_or_insert_default().note(counter);
        }
        self.insert(counter);
        let delay = match urgency {
            Urgency::None => return,
            Urgency::Relaxed => {
                self.waiting_relaxed += 1;
                ACK_DELAY_RELAXED
            }
            Urgency::Normal => {
                // A gap is news that the sender waits for.
                self.waiting += if in_order { 1 } else { ACK_EVERY };
                ACK_DELAY
            }
        };
        self.deadline = Some(self.deadline.map_or(now + delay, |at| at.min(now + delay)));
    }

    fn insert(&mut self, counter: u64) {
        let position = self.ranges.iter().position(|r| counter + 1 >= r.0);
        let Some(i) = position else {
            if self.ranges.len() < RANGES_MAX {
                self.ranges.push_back((counter, counter));
            }
            return;
        };
        let (low, high) = self.ranges[i];
        if counter + 1 == low {
            self.ranges[i].0 = counter;
            // Grown downwards: it may touch the next older range now.
            if let Some(&(older_low, older_high)) = self.ranges.get(i + 1)
                && older_high + 1 == counter
            {
                self.ranges[i].0 = older_low;
                self.ranges.remove(i + 1);
            }
        } else if counter == high + 1 {
            self.ranges[i].1 = counter;
        } else if counter > high {
            self.ranges.insert(i, (counter, counter));
            self.ranges.truncate(RANGES_MAX);
        }
    }

    /// When an acknowledgement is due; `None` when nothing waits for one.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let at_once = self.waiting >= ACK_EVERY || self.waiting_relaxed >= ACK_EVERY_RELAXED;
        debug_assert!(!at_once || self.deadline.is_some(), "what waits has a deadline");
        if at_once { Some(Instant::ZERO) } else { self.deadline }
    }

    pub(crate) fn is_waiting(&self) -> bool {
        self.deadline.is_some()
    }

    /// Writes the ACK frame with at most `ranges_max` ranges; `current` is the index of the session it will travel in.
    pub(crate) fn emit(&mut self, now: Instant, current: LocalIndex, ranges_max: usize, out: &mut Vec<u8>) {
        let session = (self.index != current).then_some(self.index);
        let delay_us = now.since(self.newest_at).as_micros() as u64;
        let newest = self.ranges.iter().copied().take(NEWEST_MAX);
        let oldest = newest.clone().next_back().map_or(0, |(low, _)| low);
        let late = self.late.as_mut().map_or_else(Vec::new, |late| late.report(oldest));
        frame::emit_ack(out, session, delay_us, newest.chain(late.iter().copied()).take(ranges_max));
        (self.waiting, self.waiting_relaxed, self.deadline) = (0, 0, None);
    }
}

#[cfg(test)]
mod tests {
    use super::super::frame::{Frame, Frames};
    use super::*;
    use crate::rng::Rng;
    use std::collections::BTreeSet;

    #[test]
    fn ranges_agree_with_a_set() {
        let mut rng = Rng::new([4; 32]);
        let (mut received, mut set, mut next) = (Received::new(LocalIndex(1)), BTreeSet::new(), 0u64);
        for _ in 0..2000 {
            next += rng.below(2);
            let counter = next.saturating_sub(rng.below(6));
            if set.insert(counter) {
                received.note(Instant::ZERO, Counter(counter), Urgency::Normal);
            }
            next += 1;
            assert!(received.ranges.len() <= RANGES_MAX);
            let mut above = u64::MAX;
            for &(low, high) in &received.ranges {
                assert!(low <= high && high < above.saturating_sub(1));
                assert!((low..=high).all(|n| set.contains(&n)));
                above = low;
            }
        }
        let oldest = received.ranges.back().expect("not empty").0;
        let known: u64 = received.ranges.iter().map(|r| r.1 - r.0 + 1).sum();
        assert_eq!(known, set.range(oldest..).count() as u64);
    }

    /// Half of the datagrams come late by 2000, in batches of 64, and a third of the acknowledgements is lost.
    #[test]
    fn datagrams_that_come_very_late_are_acknowledged_among_hundreds_of_ranges() {
        let mut rng = Rng::new([4; 32]);
        let (mut received, mut acked) = (Received::new(LocalIndex(1)), BTreeSet::new());
        let is_late = |counter: &u64| counter % 2 == 1;
        let mut out = Vec::new();
        for batch in 0..400 {
            for counter in batch * 64..batch * 64 + 64 {
                let arrivals = [Some(counter).filter(|c| !is_late(c)), counter.checked_sub(2000).filter(is_late)];
                arrivals.into_iter().flatten().for_each(|c| received.note(Instant::ZERO, Counter(c), Urgency::Normal));
            }
            out.clear();
            received.emit(Instant::ZERO, LocalIndex(1), ACK_RANGES_MAX, &mut out);
            let Some(Ok(Frame::Ack(ack))) = Frames::new(&out).next() else { panic!("an ACK") };
            if rng.below(3) > 0 {
                ack.ranges().for_each(|range| acked.extend(range));
            }
        }
        let came = |end: u64| (0..end).filter(is_late).count();
        let told = acked.iter().filter(|c| is_late(c) && **c < 22_000).count();
        // One acknowledgement for each batch tells of its 32 late datagrams once.
        assert!(told * 100 >= came(22_000) * 60, "{told} of {}", came(22_000));
        let mut one_by_one = Received::new(LocalIndex(1));
        acked.clear();
        for counter in 0..10_000u64 {
            let arrivals = [Some(counter).filter(|c| !is_late(c)), counter.checked_sub(2001).filter(is_late)];
            for c in arrivals.into_iter().flatten() {
                one_by_one.note(Instant::ZERO, Counter(c), Urgency::Normal);
                out.clear();
                one_by_one.emit(Instant::ZERO, LocalIndex(1), ACK_RANGES_MAX, &mut out);
                let Some(Ok(Frame::Ack(ack))) = Frames::new(&out).next() else { panic!("an ACK") };
                if rng.below(3) > 0 {
                    ack.ranges().for_each(|range| acked.extend(range));
                }
            }
        }
        let told = acked.iter().filter(|c| is_late(c) && **c < 7000).count();
        assert!(told * 1000 >= came(7000) * 970, "{told} of {}", came(7000));
        one_by_one.emit(Instant::ZERO, LocalIndex(1), ACK_RANGES_MAX, &mut out);
        (0..LATE_REPORTS).for_each(|_| one_by_one.emit(Instant::ZERO, LocalIndex(1), ACK_RANGES_MAX, &mut out));
        assert!(one_by_one.late.expect("was used").report(u64::MAX).is_empty(), "told often enough");
    }

    #[test]
    fn acknowledgements_are_due_after_two_datagrams_a_gap_or_a_delay() {
        let mut received = Received::new(LocalIndex(1));
        received.note(Instant::ZERO, Counter(0), Urgency::None);
        assert_eq!(received.deadline(), None);
        received.note(Instant::ZERO, Counter(1), Urgency::Normal);
        assert_eq!(received.deadline(), Some(Instant::ZERO + ACK_DELAY));
        received.note(Instant::from_micros(10), Counter(2), Urgency::Normal);
        assert_eq!(received.deadline(), Some(Instant::ZERO));
        received.emit(Instant::ZERO, LocalIndex(1), ACK_RANGES_MAX, &mut Vec::new());
        assert!(!received.is_waiting());
        received.note(Instant::from_micros(10), Counter(9), Urgency::Normal);
        assert_eq!(received.deadline(), Some(Instant::ZERO), "a gap");
    }
}
