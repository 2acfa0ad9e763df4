//! Owns the replay window: which of the last 8192 counters have been seen (RFC 6479's ring of bit blocks).

use crate::wire::Counter;
use alloc::vec::Vec;

const BLOCK_BITS: u64 = 64;
const BLOCKS: usize = 128;

/// How far below the newest counter a datagram may still be accepted. One block is always being refilled.
pub const WINDOW: u64 = (BLOCKS as u64 - 1) * BLOCK_BITS;

/// Remembers which counters were accepted. Work is O(1) per datagram, at most 128 steps after a jump. Memory grows with
/// the first counters, up to 1 KiB: most sessions of most peers see few.
#[derive(Default)]
pub struct ReplayWindow {
    /// A ring of [`BLOCKS`] blocks. Blocks that no counter has reached yet are missing.
    blocks: Vec<u64>,
    /// One more than the newest accepted counter.
    next: u64,
}

impl ReplayWindow {
    /// Accepts `counter` unless it was accepted before or lies below the window. Call it only after the tag verified
    /// (PN1: tag before window), or a forged counter would move the window.
    pub fn accept(&mut self, Counter(counter): Counter) -> bool {
        if counter >= self.next {
            let (old, new) = (self.next / BLOCK_BITS, counter / BLOCK_BITS);
            let first = if self.next == 0 { 0 } else { (self.next - 1) / BLOCK_BITS + 1 };
            debug_assert!(first >= old);
            if self.blocks.len() < BLOCKS && new >= self.blocks.len() as u64 {
                let len = (new + 1).min(BLOCKS as u64).next_power_of_two() as usize;
                self.blocks.reserve_exact(len - self.blocks.len());
                self.blocks.resize(len, 0);
            }
            for block in first..=new.min(first + BLOCKS as u64 - 1) {
                self.blocks[block as usize % BLOCKS] = 0;
            }
            self.next = counter + 1;
        } else if self.next - 1 - counter >= WINDOW {
            return false;
        }
        let (block, bit) = ((counter / BLOCK_BITS) as usize % BLOCKS, 1 << (counter % BLOCK_BITS));
        let fresh = self.blocks[block] & bit == 0;
        self.blocks[block] |= bit;
        fresh
    }

    /// True when `counter` is newer than every accepted one; only such datagrams may move a path.
    pub const fn is_newest(&self, counter: Counter) -> bool {
        counter.0 >= self.next
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;
    use std::collections::BTreeSet;

    #[test]
    fn agrees_with_a_naive_set_under_random_counters() {
        for seed in 0..20 {
            let mut rng = Rng::new([seed; 32]);
            let (mut window, mut seen, mut newest) = (ReplayWindow::default(), BTreeSet::new(), 0u64);
            for _ in 0..20_000 {
                let counter = match rng.below(100) {
                    0 => newest + rng.below(3 * WINDOW),
                    1..10 => newest.saturating_sub(rng.below(2 * WINDOW)),
                    _ => newest.saturating_sub(8) + rng.below(20),
                };
                let expected = !seen.contains(&counter) && (counter > newest || newest - counter < WINDOW);
                assert_eq!(window.accept(Counter(counter)), expected, "seed {seed} counter {counter} newest {newest}");
                if expected {
                    seen.insert(counter);
                }
                newest = newest.max(counter);
            }
        }
    }
}
