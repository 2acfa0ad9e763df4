//! Owns the send side of recovery: what is in flight, round-trip times, and what counts as lost (RFC 9002 in spirit).
//!
//! The retransmission buffer is the in-flight log itself: each entry owns the bytes it carried and gives them back when
//! it is lost. Loss is judged by time alone (RACK, RFC 8985): a datagram is lost when one sent later was acknowledged
//! and a reordering allowance has passed, so that reordering by some milliseconds costs nothing. The allowance follows
//! what comes late (RFC 8985 §6.2, step 4), and a lost datagram that comes after all is told to the controller, which
//! takes its cut back (RFC 4015).

use super::late::Late;
use super::packet::Packet;
use super::ranges::ACK_DELAY_RELAXED;
use crate::time::{Duration, Instant};
use crate::wire::{DATAGRAM_LEN_MIN, RELAY_HEADER_LEN};
use alloc::boxed::Box;
use alloc::collections::{BTreeSet, VecDeque};
use alloc::vec::Vec;

/// Timer granularity. Source: RFC 9002 §6.1.2.
const GRANULARITY: Duration = Duration::from_millis(1);
/// Round-trip time assumed before one was measured. Source: measured with a prototype.
const RTT_INITIAL: Duration = Duration::from_millis(250);
/// Doublings of the probe timeout.
const BACKOFF_MAX: u32 = 6;
/// Most that lateness adds to the time after which a datagram is lost. Unit: round trips. Source: own choice; what comes
/// later still is sent again.
const LATENESS_RTTS_MAX: u64 = 2;
/// Longest pause between probes, so that a peer that comes back is found soon. Source: own choice; a probe now and then
/// costs nothing.
const BACKOFF_TIMEOUT_MAX: Duration = Duration::from_secs(3);

/// Most datagrams of which the log keeps account at once; an older one that was not acknowledged counts as lost. Source: own
/// choice; a window of datagrams at 10 Gbit/s and 70 ms. A peer that takes acknowledgements, which fill no window, and
/// acknowledges none of them would otherwise make the log grow for ever.
pub(crate) const SENT_MAX: usize = 65_536;

/// One thing in a datagram that matters until it is acknowledged.
#[derive(Debug)]
pub(crate) enum Carried {
    Packet(Packet),
    PureAck {
        flow: u32,
        bytes: Packet,
    },
    Control {
        offset: u64,
        bytes: Vec<u8>,
    },
    Hello,
    /// Asks for an acknowledgement and is not worth resending.
    Ping,
}

/// Everything in a datagram that matters until it is acknowledged: nearly always one thing, which needs no allocation.
#[derive(Debug, Default)]
pub(crate) enum Load {
    #[default]
    None,
    One(Carried),
    Many(Vec<Carried>),
}

impl Load {
    pub(crate) const fn is_empty(&self) -> bool {
        matches!(self, Self::None)
    }

    pub(crate) fn push(&mut self, carried: Carried) {
        *self = match core::mem::take(self) {
            Self::None => Self::One(carried),
            Self::One(first) => Self::Many(alloc::vec![first, carried]),
            Self::Many(mut all) => {
                all.push(carried);
                Self::Many(all)
            }
        };
    }

    /// False for acknowledgements alone, which no window holds back and which therefore fill none (RFC 9002 §2).
    fn fills_window(&self) -> bool {
        self.as_slice().iter().any(|carried| !matches!(carried, Carried::PureAck { .. }))
    }

    fn as_slice(&self) -> &[Carried] {
        match self {
            Self::None => &[],
            Self::One(carried) => core::slice::from_ref(carried),
            Self::Many(all) => all,
        }
    }

    pub(crate) fn for_each(self, mut f: impl FnMut(Carried)) {
        match self {
            Self::None => {}
            Self::One(carried) => f(carried),
            Self::Many(all) => all.into_iter().for_each(f),
        }
    }
}

/// One datagram in flight.
pub(crate) struct Sent {
    pub(crate) at: Instant,
    /// Its share of the window. Unit: bytes.
    pub(crate) size: u32,
    pub(crate) carried: Load,
    delivery: Delivery,
}

/// Datagrams from this length on show whether a path carries [`DATAGRAM_LEN_MIN`]. Unit: bytes.
const LENGTHY: usize = DATAGRAM_LEN_MIN / 2;
/// Longest that a path of [`DATAGRAM_LEN_MIN`] carries, over the relay. Unit: bytes.
const LEAST_LEN: usize = DATAGRAM_LEN_MIN + RELAY_HEADER_LEN;

/// Length of a datagram in view of paths that swallow long ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Length {
    /// Every path carries it.
    Short,
    /// A path that carries [`DATAGRAM_LEN_MIN`] carries it.
    Least,
    /// The smallest paths do not carry it.
    Long,
}

impl Sent {
    /// How long the datagram is: longer than what the smallest paths carry, nearly as long as that, or short.
    pub(crate) const fn length(&self) -> Length {
        match self.size as usize {
            ..LENGTHY => Length::Short,
            LENGTHY..=LEAST_LEN => Length::Least,
            _ => Length::Long,
        }
    }
}

/// The state of delivery when a datagram was sent, for delivery-rate samples.
#[derive(Clone, Copy, Default)]
struct Delivery {
    /// Bytes acknowledged so far.
    bytes: u64,
    /// When the newest of them were acknowledged.
    at: Instant,
    /// When the newest acknowledged datagram had been sent.
    sent_at: Instant,
}

/// The newest datagram of an acknowledgement.
struct Snapshot {
    number: u64,
    at: Instant,
    delivery: Delivery,
}

/// Everything in flight, by packet number. At most the congestion window's worth of datagrams.
#[derive(Default)]
pub(crate) struct SentLog {
    entries: VecDeque<Option<Sent>>,
    first: u64,
    in_flight: u64,
    delivery: Delivery,
    largest_acked: Option<u64>,
    /// In flight below `largest_acked`: late or lost. They are kept apart, so that the cost of an acknowledgement
    /// depends on what it acknowledges for the first time, not on what it repeats.
    holes: BTreeSet<u64>,
    /// `None` on a path where nothing was lost or late yet.
    late: Option<Box<Late>>,
    last_sent_at: Instant,
    last_probed_at: Instant,
}

/// The datagrams that an ACK frame acknowledged for the first time.
pub(crate) struct NewlyAcked {
    pub(crate) bytes: u64,
    /// Number of the newest one that is longer than the smallest paths carry.
    pub(crate) newest_long: Option<u64>,
    /// The newest of those that are at least [`Length::Least`].
    pub(crate) newest_least: Option<u64>,
    pub(crate) largest: u64,
    /// The round trip of the newest one, unless a later one had overtaken it (RFC 9002 §5.1).
    pub(crate) rtt: Option<Duration>,
    pub(crate) delivery_rate: u64,
    pub(crate) in_flight_before: u64,
    /// The longest time that one of them took which a later one had overtaken.
    pub(crate) overtaken: Option<Duration>,
}

impl SentLog {
    /// Frees the room of datagrams that were in flight.
    pub(crate) fn rest(&mut self) {
        self.entries.shrink_to_fit();
        self.late = None;
    }

    /// The number of the next datagram.
    pub(crate) fn next(&self) -> u64 {
        self.first + self.entries.len() as u64
    }

    pub(crate) const fn in_flight(&self) -> u64 {
        self.in_flight
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// True when something in flight satisfies `f`.
    pub(crate) fn any(&self, f: impl Fn(&Carried) -> bool) -> bool {
        self.entries.iter().flatten().flat_map(|sent| sent.carried.as_slice()).any(f)
    }

    /// Notes a datagram; one that carries nothing only takes its number.
    pub(crate) fn push(&mut self, now: Instant, size: usize, carried: Load) {
        if carried.is_empty() {
            self.entries.push_back(None);
            self.trim();
            return;
        }
        if self.in_flight == 0 {
            (self.delivery.at, self.delivery.sent_at) = (now, now);
        }
        let size = if carried.fills_window() { size } else { 0 };
        self.in_flight += size as u64;
        self.last_sent_at = now;
        self.entries.push_back(Some(Sent { at: now, size: size as u32, carried, delivery: self.delivery }));
    }

    /// Takes the datagrams with these numbers out; `on_acked` gets the contents of each. `ranges` come newest first.
    /// Work is bounded by the datagrams that are acknowledged for the first time and by the number of ranges.
    pub(crate) fn acknowledge(
        &mut self,
        now: Instant,
        ranges: impl Iterator<Item = (u64, u64)>,
        mut on_acked: impl FnMut(u64, Carried),
    ) -> Option<NewlyAcked> {
        let (end, in_flight_before) = (self.next(), self.in_flight);
        let fresh = self.largest_acked.map_or(0, |largest| largest + 1).max(self.first);
        let (mut newest, mut bytes, mut above, mut overtaken) = (None, 0, None, None);
        let (mut newest_long, mut newest_least) = (None, None);
        let mut take = |log: &mut Self, number: u64| {
            let Some(sent) = log.take(number) else { return };
            if number < fresh {
                overtaken = overtaken.max(Some(now.since(sent.at)));
            }
            bytes += u64::from(sent.size);
            newest_long = newest_long.max(Some(number).filter(|_| sent.length() == Length::Long));
            newest_least = newest_least.max(Some(number).filter(|_| sent.length() >= Length::Least));
            sent.carried.for_each(|carried| on_acked(number, carried));
            let snapshot = Snapshot { number, at: sent.at, delivery: sent.delivery };
            newest = newest.take().filter(|n: &Snapshot| n.number > number).or(Some(snapshot));
        };
        for (low, high) in ranges.map(|(low, high)| (low, high.min(end.saturating_sub(1)))) {
            if low > high {
                continue; // never sent
            }
            // Between this range and the one above it something is missing.
            self.note_holes(fresh.max(high + 1)..above.replace(low).unwrap_or(0));
            (fresh.max(low)..=high).for_each(|number| take(self, number));
            while low < fresh
                && let Some(number) = self.holes.range(low..fresh.min(high + 1)).next().copied()
            {
                take(self, number);
            }
            if low <= fresh && self.holes.is_empty() {
                break; // everything older is known
            }
        }
        self.note_holes(fresh..above.unwrap_or(0));
        let Snapshot { number, at, delivery } = newest?;
        debug_assert!(number < end && bytes <= in_flight_before, "only datagrams in flight are acknowledged");
        let sent_at = self.delivery.sent_at.max(at);
        self.delivery = Delivery { bytes: self.delivery.bytes + bytes, at: now, sent_at };
        self.largest_acked = self.largest_acked.max(Some(number));
        self.trim();
        let interval = now.since(delivery.at).max(at.since(delivery.sent_at)).max(Duration::from_micros(1));
        let delivery_rate = u128::from(self.delivery.bytes - delivery.bytes) * 1_000_000 / interval.as_micros();
        Some(NewlyAcked {
            bytes,
            newest_long,
            newest_least,
            largest: number,
            rtt: (number >= fresh).then(|| now.since(at)),
            delivery_rate: delivery_rate as u64,
            in_flight_before,
            overtaken,
        })
    }

    /// Takes out the datagrams with these numbers that were called lost and came after all; `on_late` gets the number and
    /// the size of each. Returns the longest time that one of them took.
    pub(crate) fn take_late(
        &mut self,
        now: Instant,
        ranges: impl Iterator<Item = (u64, u64)>,
        mut on_late: impl FnMut(u64, u64),
    ) -> Option<Duration> {
        let mut longest = None;
        self.late.as_mut()?.take(ranges, |number, at, size| {
            longest = longest.max(Some(now.since(at)));
            on_late(number, size.into());
        });
        longest
    }

    /// Notes that a datagram that was overtaken came so much later than a round trip.
    pub(crate) fn note_lateness(&mut self, now: Instant, lateness: Duration) {
        self.late.get_or_insert_default().note(now, lateness);
    }

    /// How much later than a round trip a datagram may come.
    pub(crate) fn lateness(&self) -> Duration {
        self.late.as_ref().map_or(Duration::ZERO, |late| late.longest())
    }

    fn note_holes(&mut self, numbers: core::ops::Range<u64>) {
        for number in numbers {
            if self.entry(number).is_some() {
                self.holes.insert(number);
            }
        }
    }

    /// Takes out the datagrams that are lost by now: sent before an acknowledged one, and longer ago than `allowance`.
    pub(crate) fn detect_lost(&mut self, now: Instant, allowance: Duration, mut on_lost: impl FnMut(u64, Sent)) {
        let Some(largest) = self.largest_acked else { return };
        while let Some(Some(oldest)) = self.entries.front() {
            if self.first >= largest || oldest.at + allowance > now {
                break;
            }
            let number = self.first;
            if let Some(sent) = self.take(number) {
                self.late.get_or_insert_default().on_lost(now, number, sent.at, sent.size);
                on_lost(number, sent);
            }
            self.trim();
        }
    }

    /// When [`SentLog::detect_lost`] could find something next.
    pub(crate) fn loss_deadline(&self, allowance: Duration) -> Option<Instant> {
        let largest = self.largest_acked?;
        let oldest = self.entries.front()?.as_ref()?;
        (self.first < largest).then(|| oldest.at + allowance)
    }

    /// When silence has lasted long enough to probe: `timeout` after the newest datagram (RFC 9002 §6.2.1), but not
    /// much later because new ones are sent again and again.
    pub(crate) fn probe_deadline(&self, timeout: Duration) -> Option<Instant> {
        let oldest = self.entries.front()?.as_ref()?;
        let silent_since = oldest.at.max(self.delivery.at).max(self.last_probed_at);
        Some((self.last_sent_at + timeout).min(silent_since + timeout * 2))
    }

    /// Since when nothing has come in answer to what is in flight; `None` while nothing is.
    pub(crate) fn silent_since(&self) -> Option<Instant> {
        Some(self.entries.front()?.as_ref()?.at.max(self.delivery.at))
    }

    /// Notes that [`SentLog::probe_deadline`] has come.
    pub(crate) const fn on_probe(&mut self, now: Instant) {
        self.last_probed_at = now;
    }

    /// The oldest datagram of a log that is full, to be sent again.
    pub(crate) fn take_surplus(&mut self) -> Option<(u64, Sent)> {
        if self.entries.len() > SENT_MAX { self.take_oldest() } else { None }
    }

    /// The oldest datagram in flight, to be sent again.
    pub(crate) fn take_oldest(&mut self) -> Option<(u64, Sent)> {
        let number = self.first;
        let sent = self.take(number)?;
        self.trim();
        Some((number, sent))
    }

    fn entry(&self, number: u64) -> Option<&Sent> {
        self.entries.get(number.checked_sub(self.first)? as usize)?.as_ref()
    }

    fn take(&mut self, number: u64) -> Option<Sent> {
        if !self.holes.is_empty() {
            self.holes.remove(&number);
        }
        let index = number.checked_sub(self.first)? as usize;
        let sent = self.entries.get_mut(index)?.take()?;
        self.in_flight -= u64::from(sent.size);
        Some(sent)
    }

    /// Keeps a datagram in flight at the front, so that every question about the oldest is O(1).
    fn trim(&mut self) {
        while let Some(None) = self.entries.front() {
            self.entries.pop_front();
            self.first += 1;
        }
    }
}

/// Round-trip time estimation (RFC 9002 §5). Times are numbers of microseconds here, since they are computed for every
/// datagram.
pub(crate) struct Rtt {
    smoothed: Option<u64>,
    variation: u64,
    latest: u64,
    min: u64,
}

impl Default for Rtt {
    fn default() -> Self {
        Self { smoothed: None, variation: 0, latest: 0, min: u64::MAX }
    }
}

const fn micros(time: Duration) -> u64 {
    time.as_micros() as u64
}

impl Rtt {
    pub(crate) fn update(&mut self, sample: Duration, ack_delay: Duration) {
        let (sample, ack_delay) = (micros(sample), micros(ack_delay));
        self.min = self.min.min(sample);
        // RFC 9002 §5.3: an acknowledgement's delay never takes a sample below the minimum.
        let adjusted = if sample - self.min >= ack_delay { sample - ack_delay } else { sample };
        self.latest = adjusted;
        match self.smoothed {
            None => (self.smoothed, self.variation) = (Some(adjusted), adjusted / 2),
            Some(smoothed) => {
                self.variation = (self.variation * 3 + smoothed.abs_diff(adjusted)) / 4;
                self.smoothed = Some((smoothed * 7 + adjusted) / 8);
            }
        }
    }

    pub(crate) fn smoothed(&self) -> Option<Duration> {
        self.smoothed.map(Duration::from_micros)
    }

    /// The shortest round trip; the longest time that there is before the first one.
    pub(crate) const fn minimum(&self) -> Duration {
        Duration::from_micros(self.min)
    }

    /// RFC 8985 with a reordering window of a quarter of srtt (`docs/link.md`, "Recovery"), or more where datagrams come
    /// later than that: an eighth more than the `lateness` that was seen.
    pub(crate) fn reordering_allowance(&self, lateness: Duration) -> Duration {
        let rtt = self.smoothed.unwrap_or(const { micros(RTT_INITIAL) }).max(self.latest);
        let late = micros(lateness);
        let window = (rtt / 4).max(const { micros(GRANULARITY) }).max((late + late / 8).min(rtt * LATENESS_RTTS_MAX));
        Duration::from_micros(rtt + window)
    }

    /// RFC 9002 §6.2.1, doubled for each probe that stayed unanswered.
    pub(crate) fn probe_timeout(&self, probes: u32) -> Duration {
        let base = match self.smoothed {
            None => const { micros(RTT_INITIAL) },
            Some(smoothed) => {
                let most = (self.variation * 4).max(const { micros(GRANULARITY) });
                smoothed + most + const { micros(ACK_DELAY_RELAXED) }
            }
        };
        let backed_off = base << probes.min(BACKOFF_MAX);
        Duration::from_micros(backed_off.min(base.max(const { micros(BACKOFF_TIMEOUT_MAX) })))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    const MS: Duration = Duration::from_millis(1);

    fn log(count: u64) -> SentLog {
        let mut log = SentLog::default();
        for i in 0..count {
            log.push(Instant::ZERO + MS * i as u32, 100, Load::One(Carried::Ping));
        }
        log
    }

    /// Found by `chaos`: small datagrams were sent again and again, and the other side's silence went unnoticed.
    #[test]
    fn new_datagrams_do_not_put_probing_off_for_ever() {
        let (mut log, timeout, mut now) = (SentLog::default(), MS * 100, Instant::ZERO);
        log.push(now, 100, Load::One(Carried::Ping));
        assert_eq!(log.probe_deadline(timeout), Some(now + timeout));
        for _ in 0..10 {
            now = now + MS * 60;
            log.push(now, 100, Load::One(Carried::Ping));
        }
        assert_eq!(log.probe_deadline(timeout), Some(Instant::ZERO + timeout * 2));
        log.on_probe(now);
        assert_eq!(log.probe_deadline(timeout), Some(now + timeout));
    }

    #[test]
    fn backing_off_has_a_maximum_but_never_undercuts_the_path() {
        let mut rtt = Rtt::default();
        rtt.update(MS * 100, Duration::ZERO);
        assert_eq!(rtt.probe_timeout(1), rtt.probe_timeout(0) * 2);
        assert_eq!(rtt.probe_timeout(30), BACKOFF_TIMEOUT_MAX);
        let mut long = Rtt::default();
        long.update(MS * 5000, Duration::ZERO);
        assert!(long.probe_timeout(0) > BACKOFF_TIMEOUT_MAX);
        assert_eq!(long.probe_timeout(30), long.probe_timeout(0));
    }

    #[test]
    fn datagrams_without_an_answer_have_a_maximum() {
        let mut log = SentLog::default();
        let mut lost = 0;
        for i in 0..3 * SENT_MAX {
            let load = if i % 2 == 0 { Load::One(Carried::Ping) } else { Load::None };
            log.push(Instant::ZERO, 100, load);
            lost += core::iter::from_fn(|| log.take_surplus()).count();
            assert!(log.entries.len() <= SENT_MAX);
        }
        assert_eq!((lost, log.in_flight()), (SENT_MAX, 100 * SENT_MAX as u64 / 2));
        log.acknowledge(Instant::ZERO, [(0, log.next())].into_iter(), |_, _| ());
        assert!(log.is_empty() && log.in_flight() == 0);
    }

    #[test]
    fn acknowledged_datagrams_leave_the_log_once() {
        let mut log = log(10);
        let now = Instant::ZERO + MS * 50;
        let acked = log.acknowledge(now, [(8, 9), (2, 3)].into_iter(), |_, _| ()).expect("new");
        assert_eq!((acked.bytes, log.in_flight()), (400, 600));
        assert!(log.acknowledge(now, [(8, 9)].into_iter(), |_, _| ()).is_none());
        assert!(log.acknowledge(now, [(10, 99)].into_iter(), |_, _| ()).is_none(), "never sent");
    }

    #[test]
    fn loss_needs_a_later_acknowledgement_and_the_allowance() {
        let mut log = log(10);
        let mut lost = Vec::new();
        log.detect_lost(Instant::ZERO + MS * 500, MS * 10, |n, _| lost.push(n));
        assert!(lost.is_empty(), "nothing was acknowledged yet");
        log.acknowledge(Instant::ZERO + MS * 12, [(5, 5)].into_iter(), |_, _| ());
        log.detect_lost(Instant::ZERO + MS * 12, MS * 10, |n, _| lost.push(n));
        assert_eq!(lost, [0, 1, 2]);
        assert_eq!(log.loss_deadline(MS * 10), Some(Instant::ZERO + MS * 13));
        log.detect_lost(Instant::ZERO + MS * 99, MS * 10, |n, _| lost.push(n));
        assert_eq!(lost, [0, 1, 2, 3, 4], "nothing newer than the acknowledged one");
    }
}
