//! Owns how many probes all peers together cause in a second.

use crate::rng::Rng;
use crate::time::{Duration, Instant};

/// Probes for paths that a node sends in a second, and at once. Source: `docs/paths.md`, "Rules".
pub(crate) const PROBES_PER_SECOND_MAX: u64 = 200;

/// A bucket of probes; see [`PROBES_PER_SECOND_MAX`].
pub(crate) struct ProbeBudget {
    /// Millionths of a probe.
    left: u64,
    at: Instant,
}

/// What is needed to send a probe.
pub(crate) struct Prober<'a> {
    pub(crate) rng: &'a mut Rng,
    pub(crate) budget: &'a mut ProbeBudget,
}

impl ProbeBudget {
    const RIM: u64 = PROBES_PER_SECOND_MAX * 1_000_000;

    pub(crate) const fn new() -> Self {
        Self { left: Self::RIM, at: Instant::ZERO }
    }

    /// Takes `count` probes out.
    ///
    /// # Errors
    /// How long to wait when there are not so many.
    pub(crate) fn take(&mut self, now: Instant, count: usize) -> Result<(), Duration> {
        let earned = (now.since(self.at).as_micros() as u64).saturating_mul(PROBES_PER_SECOND_MAX);
        self.left = self.left.saturating_add(earned).min(Self::RIM);
        self.at = self.at.max(now);
        let cost = (count as u64 * 1_000_000).min(Self::RIM);
        match self.left.checked_sub(cost) {
            Some(left) => {
                self.left = left;
                Ok(())
            }
            None => Err(Duration::from_micros((cost - self.left).div_ceil(PROBES_PER_SECOND_MAX))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_has_its_maximum_and_says_how_long_to_wait() {
        let (mut budget, mut now, mut sent) = (ProbeBudget::new(), Instant::ZERO, 0);
        while now < Instant::from_micros(10_000_000) {
            match budget.take(now, 24) {
                Ok(()) => sent += 24,
                Err(wait) => now = now + wait,
            }
        }
        assert!((2160..=2200).contains(&sent), "{sent} probes in ten seconds and at once");
    }
}
