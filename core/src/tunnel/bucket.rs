//! Owns token buckets: one that fills steadily, and a table with a small one for each source of INITs.

use crate::time::{Duration, Instant};
use alloc::boxed::Box;

/// A bucket that fills steadily up to its rim.
pub(super) struct Bucket {
    /// Millionths of a token.
    left: u64,
    per_second: u64,
    rim: u64,
    at: Instant,
}

impl Bucket {
    pub(super) const fn new(per_second: u64, rim: u64) -> Self {
        Self { left: rim * 1_000_000, per_second, rim, at: Instant::ZERO }
    }

    /// True when a token is there at `now`.
    pub(super) fn has(&mut self, now: Instant, count: u64) -> bool {
        let earned = (now.since(self.at).as_micros() as u64).saturating_mul(self.per_second);
        self.left = self.left.saturating_add(earned).min(self.rim * 1_000_000);
        self.at = self.at.max(now);
        self.left >= count * 1_000_000
    }

    /// Takes tokens out, as far as there are so many.
    pub(super) const fn take(&mut self, count: u64) {
        self.left = self.left.saturating_sub(count * 1_000_000);
    }
}

/// INITs that a source may send at once and in a second while others wait. Source: own choice; a household has some nodes.
pub(super) const SOURCE_BURST: u8 = 8;
const SOURCE_PER_SECOND: u32 = 2;
/// Places in the table: so many sources are told apart at once. Sixteen bytes each.
pub(super) const SOURCES_MAX: usize = 2048;
/// Places among which a source has its own.
const WAYS: usize = 8;
/// Time without load after which the table is freed.
const KEPT_FOR: Duration = Duration::from_secs(60);

/// A source of INITs: where its tokens were `tokens`.
#[derive(Clone, Copy, Default)]
struct Slot {
    tag: u32,
    at_ms: u32,
    tokens: u8,
    is_used: bool,
}

/// A bucket for each source; of too many sources the one that was quiet for longest is forgotten. There is no table while
/// there is no load.
#[derive(Default)]
pub(super) struct Sources {
    slots: Option<Box<[Slot]>>,
    used_at: Instant,
}

impl Sources {
    /// Takes a token of the source with this hash; false when it has none left.
    pub(super) fn take(&mut self, now: Instant, hash: u64) -> bool {
        self.used_at = now;
        let slots = self.slots.get_or_insert_with(|| alloc::vec![Slot::default(); SOURCES_MAX].into());
        let set = (hash as usize % (SOURCES_MAX / WAYS)) * WAYS;
        let (tag, now_ms) = ((hash >> 32) as u32, (now.as_micros() / 1000) as u32);
        let set = &mut slots[set..set + WAYS];
        let age = |slot: &Slot| if slot.is_used { now_ms.wrapping_sub(slot.at_ms) } else { u32::MAX };
        let known = set.iter().position(|slot| slot.is_used && slot.tag == tag);
        let oldest = || (0..WAYS).max_by_key(|i| age(&set[*i])).unwrap_or_default();
        let slot = &mut set[known.unwrap_or_else(oldest)];
        if known.is_none() {
            *slot = Slot { tag, at_ms: now_ms, tokens: SOURCE_BURST, is_used: true };
        }
        let earned = (now_ms.wrapping_sub(slot.at_ms)).saturating_mul(SOURCE_PER_SECOND) / 1000;
        if earned > 0 {
            slot.tokens = earned.saturating_add(u32::from(slot.tokens)).min(u32::from(SOURCE_BURST)) as u8;
            slot.at_ms = now_ms;
        }
        let has_token = slot.tokens > 0;
        slot.tokens = slot.tokens.saturating_sub(1);
        has_token
    }

    /// Frees the table when there was no load for a while.
    pub(super) fn rest(&mut self, now: Instant) {
        if now.since(self.used_at) >= KEPT_FOR {
            self.slots = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_has_its_burst_and_its_rate() {
        let (mut sources, mut now) = (Sources::default(), Instant::ZERO);
        assert_eq!((0..100).filter(|_| sources.take(now, 7)).count(), usize::from(SOURCE_BURST));
        let mut taken = 0;
        for _ in 0..1000 {
            now = now + Duration::from_millis(10);
            taken += u32::from(sources.take(now, 7));
        }
        assert!((18..=20).contains(&taken), "{taken} in ten seconds");
        assert!(sources.take(now, 8), "others are not concerned");
    }

    #[test]
    fn the_table_has_a_maximum_and_is_freed_again() {
        let (mut sources, mut now) = (Sources::default(), Instant::ZERO);
        for i in 0..100_000u64 {
            now = now + Duration::from_micros(100);
            sources.take(now, i.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        }
        let slots = sources.slots.as_ref().expect("there is load");
        assert!(slots.len() == SOURCES_MAX && slots.iter().all(|slot| slot.is_used));
        sources.rest(now);
        assert!(sources.slots.is_some());
        sources.rest(now + KEPT_FOR);
        assert!(sources.slots.is_none());
    }
}
