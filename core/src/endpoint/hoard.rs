//! Owns the account of what the control streams of strangers hold together, and decides which stranger gives way.
//!
//! Each stranger may hold [`SHARE`] bytes, which a call and its answer fit. What strangers hold above that comes out of one
//! [`POOL`]; when it is empty, the stranger that has held its part for the longest loses its tunnel: an honest one has
//! finished its message long before.

use crate::inner::PeerId;
use alloc::collections::VecDeque;

/// What each stranger may hold beside the pool. Unit: bytes. Source: own choice; a registration has 600.
pub(super) const SHARE: usize = 4096;
/// What all strangers together may hold above their shares. Unit: bytes. Source: own choice; 300 strangers with a full
/// window each way.
pub(super) const POOL: usize = 64 << 20;

/// See the module's documentation.
#[derive(Default)]
pub(super) struct Hoard {
    /// Strangers above their share and what they hold, in shares and rounded up; longest first.
    holders: VecDeque<(PeerId, u32)>,
    /// Sum over `holders`. Unit: shares.
    shares: usize,
}

impl Hoard {
    /// Most strangers above their share at once.
    const HOLDERS_MAX: usize = POOL / SHARE;

    /// Notes that a stranger holds `len` bytes now.
    pub(super) fn note(&mut self, id: PeerId, len: usize) {
        let shares = if len <= SHARE { 0 } else { len.div_ceil(SHARE) };
        if shares == 0 && self.holders.is_empty() {
            return;
        }
        match self.holders.iter().position(|(holder, _)| *holder == id) {
            Some(at) => {
                self.shares -= self.holders[at].1 as usize;
                if shares == 0 {
                    self.holders.remove(at);
                } else {
                    self.holders[at].1 = shares as u32;
                }
            }
            None if shares > 0 => self.holders.push_back((id, shares as u32)),
            None => {}
        }
        self.shares += shares;
    }

    /// The stranger that has to give way now; [`Hoard::note`] is told when it holds nothing any more.
    pub(super) fn surplus(&self) -> Option<PeerId> {
        debug_assert!(self.holders.len() <= Self::HOLDERS_MAX + 1, "each holder has at least a share");
        self.holders.front().filter(|_| self.shares * SHARE > POOL).map(|(id, _)| *id)
    }

    /// Bytes above which strangers hold nothing, whatever they do.
    pub(super) const fn len_max(strangers_max: usize) -> usize {
        POOL + strangers_max * SHARE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pool_has_a_maximum_and_the_longest_holder_gives_way() {
        let mut hoard = Hoard::default();
        (0..1_000_000).for_each(|i| hoard.note(PeerId(i), SHARE));
        assert!(hoard.holders.is_empty() && hoard.surplus().is_none(), "a share is always there");
        let mut gone = 0;
        for i in 0..10_000 {
            hoard.note(PeerId(i), 100_000);
            while let Some(id) = hoard.surplus() {
                assert_eq!(id, PeerId(gone));
                hoard.note(id, 0);
                gone += 1;
            }
            assert!(hoard.shares * SHARE <= POOL && hoard.holders.len() <= Hoard::HOLDERS_MAX);
        }
        assert!(gone > 9000);
        (gone..10_000).for_each(|i| hoard.note(PeerId(i), 0));
        assert_eq!((hoard.shares, hoard.holders.len()), (0, 0));
    }

    #[test]
    fn a_holder_keeps_its_place_until_it_is_below_its_share() {
        let mut hoard = Hoard::default();
        hoard.note(PeerId(1), POOL / 2);
        hoard.note(PeerId(2), SHARE + 1);
        hoard.note(PeerId(1), SHARE * 3);
        assert_eq!(hoard.shares, 5);
        hoard.note(PeerId(2), POOL);
        assert_eq!(hoard.surplus(), Some(PeerId(1)));
        hoard.note(PeerId(1), SHARE);
        hoard.note(PeerId(1), SHARE * 2);
        assert_eq!(hoard.surplus(), Some(PeerId(2)), "the other has waited for longer now");
    }
}
