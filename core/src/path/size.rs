//! Owns the search for the largest datagram that the path in use carries (RFC 8899).

use super::{DATAGRAM_LEN_MAX, Paths};
use crate::rng::Rng;
use crate::time::{Duration, Instant};
use crate::wire::DATAGRAM_LEN_BASE;

/// Datagram sizes tried one after the other. Unit: bytes. 1452 and 1472 fill a 1500-byte MTU under IPv6 and IPv4, the
/// larger ones a jumbo frame and loopback.
const SIZES: [usize; 6] = [DATAGRAM_LEN_BASE, 1452, 1472, 8944, 32_000, DATAGRAM_LEN_MAX];
/// Time a size probe is given, and how often it is sent.
const SIZE_PROBE_WAIT: Duration = Duration::from_millis(500);
pub(super) const SIZE_PROBE_TRIES: u8 = 3;

pub(super) struct SizeProbe {
    index: usize,
    tries: u8,
    /// When the answer is overdue; `None` after that.
    deadline: Option<Instant>,
}

impl Paths {
    /// The size to be proven next on the selected path, if any.
    fn next_size(&self) -> Option<usize> {
        let path = self.selected_path().filter(|path| path.addr.is_direct())?;
        let next = SIZES.iter().position(|size| (*size).min(self.len_max) > path.datagram_len)?;
        self.size_limit.is_none_or(|limit| next < limit).then_some(next)
    }

    /// Finds out step by step how large datagrams may be (RFC 8899), only while data flows.
    pub(super) fn probe_size(&mut self, now: Instant, loaded: bool, rng: &mut Rng) {
        let (Some(index), Some(selected)) = (self.next_size(), self.selected()) else { return };
        let tries = match &mut self.size_probe {
            Some(probe) if probe.index == index => {
                if probe.deadline.is_some_and(|at| now < at) {
                    return;
                }
                probe.deadline = None;
                probe.tries
            }
            _ => 0,
        };
        if tries == SIZE_PROBE_TRIES {
            (self.size_limit, self.size_probe) = (Some(index), None);
        } else if loaded {
            self.size_probe = Some(SizeProbe { index, tries: tries + 1, deadline: Some(now + SIZE_PROBE_WAIT) });
            self.probe(now, selected, Some(SIZES[index].min(self.len_max)), rng);
        }
    }

    /// When [`Paths::probe_size`] has something to do; at once when data flows and a size is unproven.
    pub(super) fn size_deadline(&self, loaded: bool) -> Option<Instant> {
        match &self.size_probe {
            Some(probe) if probe.deadline.is_some() => probe.deadline,
            _ => self.next_size().filter(|_| loaded).map(|_| Instant::ZERO),
        }
    }
}
