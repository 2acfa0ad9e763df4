//! Owns the sockets that flows have left behind.

use crate::config::{RING_LEN_USUAL, StackConfig};
use crate::ring_socket::{RingSocket, RingSource};
use alloc::vec::Vec;

/// Sockets of flows that are over, for flows to come. Getting and clearing the memory of rings takes longer than the rest
/// of opening a stream.
pub(crate) struct SocketPool {
    kept: Vec<RingSocket>,
    source: RingSource,
    /// Bytes of the rings of all sockets that were taken and not given back.
    ring_bytes: usize,
    /// Bytes of the rings of the kept sockets, untouched ones too.
    kept_ring_bytes: usize,
    /// Bytes of touched pages of the kept sockets.
    kept_bytes: usize,
    /// Most bytes of all rings, in use or kept.
    budget: usize,
}

/// Most sockets that are kept. Source: measured, 200 clients that open a stream for each request (`pilot-bench clients`).
const POOL_MAX: usize = 256;
/// Share of the rings' budget that kept sockets may have touched: with the usual budget 4 MiB.
const POOL_SHARE: usize = 128;
/// Memory is touched in pages. Unit: bytes.
const PAGE_LEN: usize = 4096;

impl SocketPool {
    /// A pool with one socket of the usual size, for the first stream.
    pub(crate) fn new(config: &StackConfig) -> Self {
        let first = RingSocket::new(RING_LEN_USUAL.min(config.ring_len_max), config.ring_memory);
        Self {
            kept_ring_bytes: 2 * first.ring_len(),
            kept: [first].into(),
            source: config.ring_memory,
            ring_bytes: 0,
            kept_bytes: 0,
            budget: config.ring_budget,
        }
    }

    /// Bytes of all rings in use.
    pub(crate) const fn ring_bytes(&self) -> usize {
        self.ring_bytes
    }

    /// A socket with rings of this size, or up to twice the size where one was left behind.
    pub(crate) fn take(&mut self, ring_len: usize) -> RingSocket {
        let fitting = |socket: &RingSocket| (ring_len..=2 * ring_len).contains(&socket.ring_len());
        // The socket that came last is the likeliest to be in a cache.
        let kept = self.kept.iter().rposition(fitting).map(|i| self.kept.swap_remove(i));
        if let Some(socket) = &kept {
            self.kept_ring_bytes -= 2 * socket.ring_len();
            self.kept_bytes -= pages(socket);
        }
        let socket = kept.unwrap_or_else(|| RingSocket::new(ring_len, self.source));
        self.ring_bytes += 2 * socket.ring_len();
        socket
    }

    /// Takes a socket back; a socket without rings may come from elsewhere. The pool keeps it while few and small are kept;
    /// otherwise the memory of its rings goes back to the system.
    pub(crate) fn give(&mut self, mut socket: RingSocket) {
        let ring_bytes = 2 * socket.ring_len();
        debug_assert!(self.ring_bytes >= ring_bytes, "a socket is given back once");
        self.ring_bytes = self.ring_bytes.saturating_sub(ring_bytes);
        socket.reset();
        let (kept_ring_bytes, kept_bytes) = (self.kept_ring_bytes + ring_bytes, self.kept_bytes + pages(&socket));
        let fits = self.ring_bytes + kept_ring_bytes <= self.budget && kept_bytes <= self.budget / POOL_SHARE;
        if ring_bytes > 0 && fits && self.kept.len() < POOL_MAX {
            (self.kept_ring_bytes, self.kept_bytes) = (kept_ring_bytes, kept_bytes);
            self.kept.push(socket);
        }
    }

    /// Counts anew after sockets were lost in a panic: `ring_bytes` are in use.
    pub(crate) const fn recount(&mut self, ring_bytes: usize) {
        self.ring_bytes = ring_bytes;
    }
}

/// Bytes of touched pages of a socket's two rings, at least one page if any.
fn pages(socket: &RingSocket) -> usize {
    match socket.touched() {
        0 => 0,
        touched => touched + PAGE_LEN,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pool_has_a_maximum_and_gives_what_fits() {
        let config = StackConfig { ring_len_max: 4096, ..StackConfig::default() };
        let mut pool = SocketPool::new(&config);
        let taken: Vec<_> = (0..POOL_MAX + 5).map(|_| pool.take(4096)).collect();
        assert_eq!(pool.ring_bytes(), 2 * 4096 * taken.len());
        taken.into_iter().for_each(|socket| pool.give(socket));
        assert_eq!((pool.ring_bytes(), pool.kept.len()), (0, POOL_MAX));
        assert_eq!((pool.take(8192).ring_len(), pool.kept.len()), (8192, POOL_MAX));
        assert_eq!((pool.take(2100).ring_len(), pool.kept.len()), (4096, POOL_MAX - 1), "rather too large than new");
        assert_eq!((pool.take(1000).ring_len(), pool.kept.len()), (1000, POOL_MAX - 1), "but not much too large");
        pool.give(RingSocket::without_rings());
        assert_eq!(pool.kept.len(), POOL_MAX - 1, "there is nothing to keep");
    }

    #[test]
    fn sockets_that_have_touched_much_memory_are_not_kept() {
        let config = StackConfig::default();
        let (mut pool, len) = (SocketPool::new(&config), 1 << 20);
        let first = pool.take(len);
        assert_eq!((pool.kept.len(), pool.kept_bytes), (0, 0));
        pool.give(first);
        for _ in 0..2 {
            let mut taken: Vec<_> = (0..8).map(|_| pool.take(len)).collect();
            taken.iter_mut().for_each(|socket| socket.note_received(1 << 30));
            taken.into_iter().for_each(|socket| pool.give(socket));
            assert_eq!(pool.kept.len(), 3, "what each has touched counts, one ring");
            assert!(pool.kept_bytes <= config.ring_budget / POOL_SHARE);
        }
        (0..3).for_each(|_| drop(pool.take(len)));
        assert_eq!((pool.kept.len(), pool.kept_bytes, pool.kept_ring_bytes), (0, 0, 0));
    }

    #[test]
    fn rings_in_use_and_kept_ones_share_the_budget() {
        let config = StackConfig { ring_budget: 32 << 20, ..StackConfig::default() };
        let mut pool = SocketPool::new(&config);
        let mut taken: Vec<_> = (0..20).map(|_| pool.take(1 << 20)).collect();
        taken.drain(..10).for_each(|socket| pool.give(socket));
        assert_eq!((pool.ring_bytes(), pool.kept.len()), (20 << 20, 6));
    }
}
