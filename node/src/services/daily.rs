//! Owns the number of messages that each peer with a quota has brought today.

use pilot_core::identity::IdentityKey;

/// Seconds of a day. Days begin at midnight UTC.
const DAY_S: u64 = 24 * 3600;

/// The counts of one day, of peers with a quota of messages; a node has at most
/// [`PINS_MAX`](pilot_core::trust::PINS_MAX) peers. In memory: a restart begins anew.
#[derive(Default)]
pub(crate) struct Daily {
    day: u64,
    counts: Vec<(IdentityKey, u32)>,
}

impl Daily {
    /// Counts one more message of a peer at this time; false, and nothing is counted, when `max` were counted today.
    pub(crate) fn take(&mut self, key: &IdentityKey, max: u32, now_s: u64) -> bool {
        let day = now_s / DAY_S;
        if day != self.day {
            (self.day, self.counts) = (day, Vec::new());
        }
        match self.counts.iter_mut().find(|(of, _)| of == key) {
            Some((_, count)) if *count >= max => return false,
            Some((_, count)) => *count += 1,
            None => self.counts.push((*key, 1)),
        }
        debug_assert!(max > 0, "a quota is at least one message");
        true
    }

    /// The messages of a peer that were counted today.
    pub(crate) fn count(&self, key: &IdentityKey, now_s: u64) -> u32 {
        let of_today = self.counts.iter().filter(|_| now_s / DAY_S == self.day);
        of_today.filter(|(of, _)| of == key).map(|(_, count)| *count).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_peer_has_its_own_count_that_ends_with_the_day() {
        let (a, b) = (IdentityKey([1; 32]), IdentityKey([2; 32]));
        let mut daily = Daily::default();
        let taken = |daily: &mut Daily, key, now_s| (0..5).filter(|_| daily.take(key, 3, now_s)).count();
        assert_eq!((taken(&mut daily, &a, DAY_S), taken(&mut daily, &b, DAY_S)), (3, 3));
        assert_eq!(taken(&mut daily, &a, 2 * DAY_S - 1), 0);
        assert_eq!((daily.count(&a, 2 * DAY_S - 1), daily.count(&a, 2 * DAY_S)), (3, 0));
        assert_eq!(taken(&mut daily, &a, 2 * DAY_S), 3);
    }
}
