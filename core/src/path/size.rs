//! Owns how long the datagrams of a path may be: what is tried, and what is given up.

use super::{DATAGRAM_LEN_MAX, Path, PathNews, Paths, SizeProbe};
use crate::rng::Rng;
use crate::time::{Duration, Instant};
use crate::wire::{DATAGRAM_LEN_BASE, DATAGRAM_LEN_MIN};

/// Datagram sizes tried one after the other. Unit: bytes. Those below the base are for paths that swallow larger ones, with IPv4
/// datagrams of 576, 768 and 1024 bytes; 1372 fits into tunnels of others and mobile networks, with an MTU of 1400 under IPv4 and
/// 1420 under IPv6; 1452 and 1472 fill a 1500-byte MTU under IPv6 and IPv4, the larger ones a jumbo frame and loopback.
const SIZES: [usize; 10] =
    [DATAGRAM_LEN_MIN, 724, 980, DATAGRAM_LEN_BASE, 1372, 1452, 1472, 8944, 32_000, DATAGRAM_LEN_MAX];
/// Time after which sizes up to the base are tried again on a path that has refused one. Source: own choice.
const SIZE_AGAIN: Duration = Duration::from_secs(30);
/// Time a size probe is given, and how often it is sent.
const SIZE_PROBE_WAIT: Duration = Duration::from_millis(500);
pub(super) const SIZE_PROBE_TRIES: u8 = 3;

impl Path {
    /// The next smaller bound for datagrams, for a path that seems to swallow those of the present one: the base first. IPv6
    /// carries the base everywhere. Unit: bytes.
    pub(super) fn smaller_len(&self) -> usize {
        let is_ipv6 = self.addr.addr().is_some_and(|addr| addr.ip().to_canonical().is_ipv6());
        let keeps_base = is_ipv6 || self.datagram_len > DATAGRAM_LEN_BASE;
        if keeps_base { self.datagram_len.min(DATAGRAM_LEN_BASE) } else { DATAGRAM_LEN_MIN }
    }
}

impl Paths {
    /// The path in use carries small datagrams and swallows full ones.
    pub(crate) fn on_black_hole(&mut self) {
        let Some(path) = self.selected.and_then(|at| self.list.get_mut(at)) else { return };
        path.datagram_len = path.smaller_len();
        let news = PathNews::Size(path.datagram_len);
        (self.size_probe, self.size_limit) = (None, None);
        self.note(news);
    }

    /// The peer answers again after a silence, in which probes of larger sizes were lost whatever the path carries.
    pub(crate) fn on_answering(&mut self) {
        if self.is_small() {
            (self.size_probe, self.size_limit) = (None, None);
        }
    }

    /// True while the path in use is held for one that does not carry the base.
    pub(super) fn is_small(&self) -> bool {
        self.selected_path().is_some_and(|path| path.datagram_len < DATAGRAM_LEN_BASE)
    }

    /// The size to be proven next on the selected path, if any.
    pub(super) fn next_size(&self) -> Option<usize> {
        let path = self.selected_path()?;
        let next = SIZES.iter().position(|size| (*size).min(self.len_max) > path.datagram_len)?;
        let is_for_path = path.addr.is_direct() || SIZES[next] <= DATAGRAM_LEN_BASE;
        (is_for_path && self.size_limit.is_none_or(|limit| next < limit)).then_some(next)
    }

    /// Finds out step by step how large datagrams may be (RFC 8899), only while data flows or the base is not carried.
    pub(super) fn probe_size(&mut self, now: Instant, loaded: bool, rng: &mut Rng) {
        if self.size_again_at.take_if(|at| *at <= now).is_some() {
            self.on_answering();
        }
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
            self.size_again_at = Some(now + SIZE_AGAIN);
        } else if loaded || self.is_small() {
            self.size_probe = Some(SizeProbe { index, tries: tries + 1, deadline: Some(now + SIZE_PROBE_WAIT) });
            self.probe(now, selected, Some(SIZES[index].min(self.len_max)), rng);
        }
    }

    /// When [`Paths::probe_size`] has something to do; at once when data flows and a size is unproven.
    pub(super) fn size_deadline(&self, loaded: bool) -> Option<Instant> {
        let next = self.next_size()?;
        match &self.size_probe {
            Some(SizeProbe { index, deadline: Some(at), .. }) if *index == next => Some(*at),
            _ => (loaded || self.is_small()).then_some(Instant::ZERO),
        }
    }
}
