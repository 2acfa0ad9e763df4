//! Owns the token bucket, in virtual time.

use pilot_core::Instant;
use pilot_core::time::Duration;

pub(crate) struct Bucket {
    tokens: u64,
    at: Instant,
}

impl Bucket {
    /// A full bucket.
    pub(crate) const fn new(burst: u64, now: Instant) -> Self {
        Self { tokens: burst, at: now }
    }

    fn earn(&mut self, now: Instant, per_second: u64, burst: u64) {
        let earned = (now.since(self.at).as_micros() as u64).saturating_mul(per_second) / 1_000_000;
        if earned > 0 {
            self.tokens = self.tokens.saturating_add(earned).min(burst);
            self.at = now;
        }
        debug_assert!(self.tokens <= burst, "a bucket holds at most its burst");
    }

    /// True when there were as many tokens; they are gone then.
    pub(crate) fn take(&mut self, now: Instant, cost: u64, per_second: u64, burst: u64) -> bool {
        self.earn(now, per_second, burst);
        let enough = self.tokens >= cost;
        if enough {
            self.tokens -= cost;
        }
        enough
    }

    /// When there are as many tokens, if none is taken before.
    pub(crate) fn has_at(&self, cost: u64, per_second: u64) -> Instant {
        let missing = cost.saturating_sub(self.tokens);
        self.at + Duration::from_micros(missing.saturating_mul(1_000_000).div_ceil(per_second.max(1)))
    }

    /// True for a bucket that says nothing that a new one would not say.
    pub(crate) fn is_full(&mut self, now: Instant, per_second: u64, burst: u64) -> bool {
        self.earn(now, per_second, burst);
        self.tokens == burst
    }
}
