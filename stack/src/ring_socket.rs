//! Owns a TCP socket together with the memory of its rings, which the socket borrows.

use alloc::boxed::Box;
use alloc::vec::Vec;
use self_cell::{MutBorrow, self_cell};
use smoltcp::iface::{SocketHandle, SocketSet};
use smoltcp::socket::tcp;

/// Memory for the two rings of a stream, which goes back to its source when dropped.
pub type RingMemory = Box<dyn AsMut<[u8]> + Send>;

/// Gives this many bytes of memory, all zero. A source that maps pages lets a stream cost only the pages that it has
/// used; see [`StackConfig::ring_memory`](crate::StackConfig::ring_memory). Any thread that calls the stack.
pub type RingSource = fn(len: usize) -> RingMemory;

/// The allocator's memory, which may have been used before and is cleared then.
pub(crate) fn allocated(len: usize) -> RingMemory {
    Box::new(alloc::vec![0; len])
}

/// A set with one socket: smoltcp looks at every socket of a set for every packet.
struct Sockets<'a> {
    set: SocketSet<'a>,
    handle: SocketHandle,
}

self_cell! {
    struct Cell {
        owner: MutBorrow<RingMemory>,

        #[not_covariant]
        dependent: Sockets,
    }
}

/// Bytes at the beginning of each ring that may have been written.
#[derive(Clone, Copy, Default)]
struct Touched {
    receive: usize,
    send: usize,
}

/// A TCP socket, in a set of its own, with two rings of one size.
pub(crate) struct RingSocket {
    cell: Cell,
    ring_len: usize,
    /// Bytes that the present flow has moved through the rings.
    moved: Touched,
    /// Of all flows that had the socket.
    touched: Touched,
}

impl RingSocket {
    /// A closed socket that leaves recovery and congestion control to the link.
    pub(crate) fn new(ring_len: usize, source: RingSource) -> Self {
        Self::over(source(2 * ring_len))
    }

    /// A closed socket without rings, until the size of rings is known.
    pub(crate) fn without_rings() -> Self {
        Self::over(Box::new([]))
    }

    fn over(memory: RingMemory) -> Self {
        let cell = Cell::new(MutBorrow::new(memory), |memory| {
            let memory = (**memory.borrow_mut()).as_mut();
            // An odd byte at the end is not used.
            let (receive, send) = memory.split_at_mut(memory.len() / 2);
            let send_len = receive.len();
            let mut socket =
                tcp::Socket::new(tcp::SocketBuffer::new(receive), tcp::SocketBuffer::new(&mut send[..send_len]));
            socket.set_ack_delay(None);
            socket.set_nagle_enabled(false);
            socket.set_congestion_control(tcp::CongestionControl::None);
            let mut set = SocketSet::new(Vec::with_capacity(1));
            let handle = set.add(socket);
            Sockets { set, handle }
        });
        let ring_len =
            cell.with_dependent(|_, sockets| sockets.set.get::<tcp::Socket<'_>>(sockets.handle).recv_capacity());
        Self { cell, ring_len, moved: Touched::default(), touched: Touched::default() }
    }

    /// Size of each ring. Unit: bytes.
    pub(crate) const fn ring_len(&self) -> usize {
        self.ring_len
    }

    pub(crate) fn state(&self) -> tcp::State {
        self.with(|socket| socket.state())
    }

    /// Bytes that wait for the peer's acknowledgement or have not left.
    pub(crate) fn send_queue(&self) -> usize {
        self.with(|socket| socket.send_queue())
    }

    /// Bytes that have arrived and were not read.
    pub(crate) fn recv_queue(&self) -> usize {
        self.with(|socket| socket.recv_queue())
    }

    /// Lets `f` look at the socket.
    #[inline]
    pub(crate) fn with<R>(&self, f: impl FnOnce(&tcp::Socket<'_>) -> R) -> R {
        self.cell.with_dependent(|_, sockets| f(sockets.set.get(sockets.handle)))
    }

    /// Lets `f` change the socket.
    #[inline]
    pub(crate) fn with_mut<R>(&mut self, f: impl FnOnce(&mut tcp::Socket<'_>) -> R) -> R {
        self.cell.with_dependent_mut(|_, sockets| f(sockets.set.get_mut(sockets.handle)))
    }

    /// Lets `f` look at the set.
    #[inline]
    pub(crate) fn with_set<R>(&self, f: impl FnOnce(&SocketSet<'_>) -> R) -> R {
        self.cell.with_dependent(|_, sockets| f(&sockets.set))
    }

    /// Lets `f` move segments between the set and an interface.
    #[inline]
    pub(crate) fn with_set_mut<R>(&mut self, f: impl FnOnce(&mut SocketSet<'_>) -> R) -> R {
        self.cell.with_dependent_mut(|_, sockets| f(&mut sockets.set))
    }

    /// Notes that this many bytes were read from the socket.
    pub(crate) const fn note_received(&mut self, len: usize) {
        self.moved.receive = self.moved.receive.saturating_add(len);
    }

    /// Notes that this many bytes were written to the socket.
    pub(crate) const fn note_sent(&mut self, len: usize) {
        self.moved.send = self.moved.send.saturating_add(len);
    }

    /// Bytes of the rings that may be more than untouched pages. Each flow begins at the beginning of both rings, and an
    /// empty send ring begins there again.
    pub(crate) fn touched(&self) -> usize {
        let unread = self.recv_queue();
        let of = |before: usize, now: usize| before.max(now).min(self.ring_len);
        of(self.touched.receive, self.moved.receive + unread) + of(self.touched.send, self.moved.send)
    }

    /// Closes the socket and makes it ready for another flow; nothing is sent, since no interface asks.
    pub(crate) fn reset(&mut self) {
        let unread = self.recv_queue();
        let moved = core::mem::take(&mut self.moved);
        self.touched.receive = self.touched.receive.max(moved.receive + unread);
        self.touched.send = self.touched.send.max(moved.send);
        self.with_mut(|socket| {
            socket.abort();
            socket.set_ack_delay(None);
        });
        debug_assert_eq!(self.state(), tcp::State::Closed, "an aborted socket can connect and listen");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::sync::atomic::{AtomicUsize, Ordering};

    static LENT: AtomicUsize = AtomicUsize::new(0);

    /// Memory that is counted as long as the memory lives.
    struct Counted(Vec<u8>);

    impl AsMut<[u8]> for Counted {
        fn as_mut(&mut self) -> &mut [u8] {
            &mut self.0
        }
    }

    impl Drop for Counted {
        fn drop(&mut self) {
            LENT.fetch_sub(self.0.len(), Ordering::Relaxed);
        }
    }

    fn counted(len: usize) -> RingMemory {
        LENT.fetch_add(len, Ordering::Relaxed);
        Box::new(Counted(alloc::vec![0; len]))
    }

    #[test]
    fn memory_is_lent_as_long_as_its_socket_lives() {
        let sockets: Vec<_> = (1..=20).map(|n| RingSocket::new(n * 100, counted)).collect();
        assert_eq!(LENT.load(Ordering::Relaxed), 2 * 100 * 210);
        assert!(sockets.iter().zip(1..).all(|(socket, n)| socket.ring_len() == n * 100));
        let moved = sockets.into_iter().rev().collect::<Vec<_>>();
        assert!(moved.iter().all(|socket| socket.with(|s| s.send_capacity()) == socket.ring_len()));
        drop(moved);
        assert_eq!(LENT.load(Ordering::Relaxed), 0);
        assert_eq!(RingSocket::without_rings().ring_len(), 0);
    }

    #[test]
    fn what_any_flow_has_touched_counts() {
        let mut socket = RingSocket::new(1000, allocated);
        assert_eq!(socket.touched(), 0);
        socket.note_received(300);
        socket.note_sent(20);
        assert_eq!(socket.touched(), 320);
        socket.reset();
        socket.note_sent(5000);
        assert_eq!(socket.touched(), 1300, "no more than a ring");
        socket.reset();
        assert_eq!(socket.touched(), 1300);
    }
}
