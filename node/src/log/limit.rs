//! Owns the limits of the log: a bucket of tokens for each kind and source, and one for everything that strangers cause.
//!
//! Suppressed records are counted. Their number is a field of the next record of their bucket; when none comes, it is told
//! by a record of its own once the bucket was open for [`QUIET`].

use crate::log::record::{Cause, FieldValue, Record, Source};
use litemap::LiteMap;
use pilot_core::time::Duration;
use pilot_core::{Instant, Level};

/// How fast a bucket's tokens come back, and how many it holds.
#[derive(Clone, Copy)]
struct Pace {
    interval: Duration,
    burst: u32,
}

/// Records of one kind from one source, of those that known ones cause.
const KNOWN: Pace = Pace { interval: Duration::from_secs(1), burst: 8 };
/// Records that strangers cause, in the whole log.
const STRANGERS: Pace = Pace { interval: Duration::from_secs(1), burst: 1 };
/// Ignored datagrams among these: at most half, so that requests of strangers are seen beside them.
const DISCARDS: Pace = Pace { interval: Duration::from_secs(2), burst: 1 };
/// Time without records after which the number of suppressed ones is told without a record to join.
const QUIET: Duration = Duration::from_secs(1);
/// Most buckets of kinds and sources. A new one takes the place of the one that was idle for longest.
pub(super) const BUCKETS_MAX: usize = 1024;

/// Tokens that come back with time.
#[derive(Default)]
struct Bucket {
    /// When every token is back.
    full_at: Instant,
    suppressed: u64,
    /// The first field of the record that was suppressed last.
    about: Option<(&'static str, FieldValue)>,
}

impl Bucket {
    /// When there is a token again.
    fn open_at(&self, pace: Pace) -> Instant {
        self.full_at - pace.interval * (pace.burst - 1)
    }

    fn take(&mut self, now: Instant, pace: Pace) {
        debug_assert!(self.open_at(pace) <= now, "there is a token");
        self.full_at = self.full_at.max(now) + pace.interval;
    }

    fn suppress(&mut self, record: &Record) {
        self.suppressed += 1;
        self.about = record.fields().first().cloned();
    }
}

/// The buckets.
#[derive(Default)]
pub(super) struct Limit {
    buckets: LiteMap<(&'static str, Source), Bucket>,
    strangers: Bucket,
    discards: Bucket,
    /// When the number of suppressed records of a bucket may have to be told.
    due: Option<Instant>,
}

impl Limit {
    /// Lets a record through, or counts it.
    pub(super) fn admit(&mut self, now: Instant, mut record: Record) -> Option<Record> {
        let cause = record.cause();
        let discards_open_at = self.discards.open_at(DISCARDS);
        let (bucket, pace) = match cause {
            Cause::Known => (self.bucket(record.kind(), record.source()), KNOWN),
            Cause::Stranger | Cause::Discard => (&mut self.strangers, STRANGERS),
        };
        let mut open_at = bucket.open_at(pace);
        if cause == Cause::Discard {
            open_at = open_at.max(discards_open_at);
        }
        if open_at > now {
            bucket.suppress(&record);
            self.wake_at(open_at + QUIET);
            return None;
        }
        let suppressed = std::mem::take(&mut bucket.suppressed);
        bucket.take(now, pace);
        if cause == Cause::Discard {
            self.discards.take(now, DISCARDS);
        }
        if suppressed > 0 {
            record.push("suppressed", suppressed);
        }
        Some(record)
    }

    fn bucket(&mut self, kind: &'static str, source: Source) -> &mut Bucket {
        let mut bucket = Bucket::default();
        if self.buckets.len() >= BUCKETS_MAX && !self.buckets.contains_key(&(kind, source)) {
            let idle = self.buckets.iter().min_by_key(|(_, b)| (b.suppressed > 0, b.full_at)).map(|(key, _)| *key);
            let before = idle.and_then(|key| self.buckets.remove(&key)).unwrap_or_default();
            // The sum of what is told stays right.
            (bucket.suppressed, bucket.about) = (before.suppressed, before.about);
        }
        debug_assert!(self.buckets.len() <= BUCKETS_MAX);
        self.buckets.entry((kind, source)).or_insert(bucket)
    }

    /// Counts notes of ignored datagrams that were lost before they came here.
    pub(super) fn count_lost(&mut self, now: Instant, count: u64) {
        self.strangers.suppressed += count;
        self.wake_at(now + DISCARDS.interval + QUIET);
    }

    fn wake_at(&mut self, at: Instant) {
        self.due = Some(self.due.map_or(at, |due| due.min(at)));
    }

    pub(super) const fn poll_timeout(&self) -> Option<Instant> {
        self.due
    }

    /// The numbers of suppressed records with buckets that were open for [`QUIET`].
    pub(super) fn handle_timeout(&mut self, now: Instant) -> Vec<Record> {
        let mut told = Vec::new();
        if self.due.take_if(|due| *due <= now).is_none() {
            return told;
        }
        let strangers = ("stranger", &mut self.strangers, STRANGERS);
        let others = self.buckets.iter_mut().map(|((kind, _), bucket)| (*kind, bucket, KNOWN));
        let mut next: Option<Instant> = None;
        for (kind, bucket, pace) in std::iter::once(strangers).chain(others).filter(|(_, b, _)| b.suppressed > 0) {
            let at = bucket.open_at(pace) + QUIET;
            if at > now {
                next = Some(next.map_or(at, |next| next.min(at)));
                continue;
            }
            bucket.take(now, pace);
            let mut record = Record::new(Level::Info, "suppressed").with("of", kind);
            if let Some((key, value)) = bucket.about.take() {
                record = record.with(key, value);
            }
            told.push(record.with("count", std::mem::take(&mut bucket.suppressed)));
        }
        self.due = next;
        told
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pilot_core::identity::IdentityKey;
    use std::net::{IpAddr, Ipv4Addr};

    fn discard(number: u32) -> Record {
        let address = IpAddr::V4(Ipv4Addr::from(number));
        let record = Record::new(Level::Debug, "discarded").with("from", address.to_string());
        record.from(Source::Address(address), Cause::Discard)
    }

    fn refusal(source: Source) -> Record {
        Record::new(Level::Warn, "refused").with("port", 22).from(source, Cause::Known)
    }

    fn number(record: &Record, key: &str) -> u64 {
        let found = record.fields().iter().find(|(known, _)| *known == key);
        match found {
            Some((_, FieldValue::Number(number))) => *number,
            _ => 0,
        }
    }

    /// Everything that comes out, the numbers of suppressed records with it.
    fn run(limit: &mut Limit, until: Instant, records: impl Iterator<Item = (Instant, Record)>) -> Vec<Record> {
        let mut out = Vec::new();
        for (now, record) in records {
            out.extend(limit.handle_timeout(now));
            out.extend(limit.admit(now, record));
        }
        while let Some(due) = limit.poll_timeout().filter(|due| *due <= until) {
            out.extend(limit.handle_timeout(due));
        }
        out
    }

    #[test]
    fn strangers_cause_one_line_a_second_from_however_many_addresses() {
        for rounds in [1, 3] {
            let (mut limit, flood) = (Limit::default(), 100_000);
            let at = |n: u32| Instant::from_micros(u64::from(n) * 100);
            // Every second round the same addresses ask for trust as well.
            let asks = |n: u32| match n % 2 {
                1 if rounds > 1 => {
                    Record::new(Level::Info, "trust").from(Source::Key(IdentityKey([n as u8; 32])), Cause::Stranger)
                }
                _ => discard(n),
            };
            let end = Instant::from_micros(60_000_000);
            let out = run(&mut limit, end, (0..flood).map(|n| (at(n), asks(n))));
            let told: u64 = out.iter().map(|r| number(r, "suppressed") + number(r, "count")).sum();
            let lines = out.iter().filter(|r| r.kind() != "suppressed").count() as u64;
            assert_eq!(lines + told, u64::from(flood), "each is told or counted");
            assert!(out.len() <= 11, "{} lines in 10 s", out.len());
            assert!(limit.buckets.is_empty(), "a flood of strangers fills no table");
        }
    }

    #[test]
    fn each_source_has_its_own_share() {
        let mut limit = Limit::default();
        let (a, b) = (Source::Key(IdentityKey([1; 32])), Source::Key(IdentityKey([2; 32])));
        let now = Instant::from_micros(5);
        let admitted = (0..100).filter_map(|_| limit.admit(now, refusal(a))).count();
        assert_eq!(admitted as u32, KNOWN.burst);
        assert!(limit.admit(now, refusal(b)).is_some(), "another source is not held back");
        let later = limit.admit(now + KNOWN.interval, refusal(a)).expect("a token is back");
        assert_eq!(number(&later, "suppressed"), 92);
    }

    #[test]
    fn suppressed_records_are_told_when_no_other_comes() {
        let mut limit = Limit::default();
        let now = Instant::from_micros(5);
        (0..KNOWN.burst + 3).for_each(|_| drop(limit.admit(now, refusal(Source::Node))));
        let due = limit.poll_timeout().expect("something is to be told");
        assert!(limit.handle_timeout(now).is_empty(), "not yet");
        let told = limit.handle_timeout(due);
        assert_eq!(told.len(), 1);
        assert_eq!((told[0].kind(), number(&told[0], "port"), number(&told[0], "count")), ("suppressed", 22, 3));
        assert_eq!(limit.poll_timeout(), None);
    }

    #[test]
    fn the_table_is_bounded_and_loses_no_count() {
        let mut limit = Limit::default();
        let key = |n: u32| Source::Key(IdentityKey(std::array::from_fn(|i| n.to_le_bytes()[i % 4])));
        let sources = BUCKETS_MAX as u32 + 100;
        let records =
            (0..sources).flat_map(|n| (0..KNOWN.burst + 1).map(move |_| (Instant::from_micros(7), refusal(key(n)))));
        let out = run(&mut limit, Instant::from_micros(600_000_000), records);
        let told: u64 = out.iter().map(|r| number(r, "suppressed") + number(r, "count")).sum();
        assert_eq!(told, u64::from(sources));
        assert_eq!(limit.buckets.len(), BUCKETS_MAX);
    }
}
