//! Owns the set-up of sockets, and sockets that flows have left behind.

use crate::config::RING_LEN_USUAL;
use alloc::vec::Vec;
use smoltcp::socket::tcp;

/// A socket that leaves recovery and congestion control to the link.
pub(crate) fn socket(ring_len: usize) -> tcp::Socket<'static> {
    // Zeroed pages cost nothing until they are touched, and smoltcp lets an empty ring start at its beginning again.
    let ring = || tcp::SocketBuffer::new(alloc::vec![0; ring_len]);
    let mut socket = tcp::Socket::new(ring(), ring());
    socket.set_ack_delay(None);
    socket.set_nagle_enabled(false);
    socket.set_congestion_control(tcp::CongestionControl::None);
    socket
}

/// Sockets of flows that are over, for flows to come. Finding and clearing rings takes longer than the rest of opening
/// a stream.
pub(crate) struct SocketPool {
    kept: Vec<tcp::Socket<'static>>,
    /// Bytes of the rings of all sockets that were taken and not given back.
    ring_bytes: usize,
}

/// Most sockets that are kept. Bounds the memory of a node without streams.
const POOL_MAX: usize = 8;

impl SocketPool {
    /// A pool with one socket of the usual size, for the first stream.
    pub(crate) fn new(ring_len_max: usize) -> Self {
        Self { kept: [socket(RING_LEN_USUAL.min(ring_len_max))].into(), ring_bytes: 0 }
    }

    /// Bytes of all rings in use.
    pub(crate) const fn ring_bytes(&self) -> usize {
        self.ring_bytes
    }

    /// A socket with rings of this size.
    pub(crate) fn take(&mut self, ring_len: usize) -> tcp::Socket<'static> {
        self.ring_bytes += 2 * ring_len;
        let fitting = self.kept.iter().position(|socket| socket.recv_capacity() == ring_len);
        fitting.map_or_else(|| socket(ring_len), |i| self.kept.swap_remove(i))
    }

    /// Takes a socket back; a socket without rings may come from elsewhere. The pool keeps it unless its rings are
    /// larger than usual or the pool is full.
    pub(crate) fn give(&mut self, mut socket: tcp::Socket<'static>) {
        let ring_len = socket.recv_capacity();
        debug_assert!(self.ring_bytes >= 2 * ring_len, "a socket is given back once");
        self.ring_bytes = self.ring_bytes.saturating_sub(2 * ring_len);
        if self.kept.len() < POOL_MAX && (1..=RING_LEN_USUAL).contains(&ring_len) {
            socket.abort(); // sends nothing: the socket is in no set
            socket.set_ack_delay(None);
            self.kept.push(socket);
        }
    }

    /// Counts anew after sockets were lost in a panic: `ring_bytes` are in use.
    pub(crate) const fn recount(&mut self, ring_bytes: usize) {
        self.ring_bytes = ring_bytes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pool_has_a_maximum_and_gives_what_fits() {
        let mut pool = SocketPool::new(4096);
        let taken: Vec<_> = (0..POOL_MAX + 5).map(|_| pool.take(4096)).collect();
        assert_eq!(pool.ring_bytes(), 2 * 4096 * taken.len());
        taken.into_iter().for_each(|socket| pool.give(socket));
        assert_eq!((pool.ring_bytes(), pool.kept.len()), (0, POOL_MAX));
        assert_eq!((pool.take(8192).recv_capacity(), pool.kept.len()), (8192, POOL_MAX));
        assert_eq!((pool.take(4096).recv_capacity(), pool.kept.len()), (4096, POOL_MAX - 1));
        let large = pool.take(RING_LEN_USUAL * 2);
        pool.give(large);
        assert_eq!(pool.kept.len(), POOL_MAX - 1, "large rings are given back to the system");
    }
}
