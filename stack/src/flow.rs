//! Owns one TCP connection: its socket in a set of its own, the order of what arrives, and how it ended.

use crate::config::RING_LEN_USUAL;
use crate::early::Early;
use crate::segment::Segment;
use crate::stream_id::StreamId;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use pilot_core::Instant;
use pilot_core::endpoint::ResetReason;
use smoltcp::iface::{SocketHandle, SocketSet, SocketStorage};
use smoltcp::socket::tcp;

/// How long TCP waits for something that its acknowledgement can travel with. Beneath it the link acknowledges by itself,
/// and half a window or 64 KiB are acknowledged at once. Source: measured, a request and its answer then are two
/// datagrams instead of four.
const ACK_DELAY: smoltcp::time::Duration = smoltcp::time::Duration::from_millis(5);
/// Segments held back because one before them is missing. The link resends the missing one; TCP would have to guess.
const HELD_MAX: usize = 32_768;
/// Bytes held back, in rings: what the window allows, twice, since segments may overlap.
const HELD_RINGS: usize = 2;

/// Why a stream ended otherwise than by both sides' FIN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StreamEnd {
    /// The peer has no listener on the port, or did not grant it to us.
    Refused,
    /// The peer aborted the stream.
    Reset,
    /// We aborted the stream.
    Aborted,
    /// The peer's tunnel ended.
    Tunnel(ResetReason),
}

impl StreamEnd {
    /// Nobody at the other end knows of the stream any more.
    pub(crate) const fn is_peer_gone(self) -> bool {
        matches!(self, Self::Tunnel(reason) if !matches!(reason, ResetReason::Unreachable))
    }
}

/// Result of reading from a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recv {
    /// This many bytes were read.
    Data(usize),
    /// Nothing has arrived; an event will tell.
    Blocked,
    /// The peer has sent everything it wanted to.
    Fin,
    /// The stream broke; what was read before is a prefix of what the peer wrote.
    Ended(StreamEnd),
}

pub(crate) struct Flow {
    pub(crate) id: StreamId,
    pub(crate) set: SocketSet<'static>,
    handle: SocketHandle,
    ring_len: usize,
    /// Waiting in the peer's list of flows that may have something to send.
    pub(crate) queued: bool,
    pub(crate) timer: Option<Instant>,
    /// The application has been told to look and has not looked yet.
    pub(crate) notified: bool,
    /// The listener's port while the stream has not been handed out.
    pub(crate) accepting: Option<u16>,
    pub(crate) end: Option<StreamEnd>,
    /// FIN goes out as soon as the peer has answered.
    finishing: bool,
    /// The application dropped its handle; set to the moment at which patience ends.
    pub(crate) linger: Option<Instant>,
    /// Next sequence number expected from the peer.
    next: Option<u32>,
    held: BTreeMap<u32, (u32, Vec<u8>)>,
    /// Bytes in `held`.
    held_len: usize,
    /// Sequence number after the last one given to the link.
    sent: Option<u32>,
    /// The newest acknowledgement and window that the peer sent.
    newest: Option<(u32, u16)>,
    pub(crate) early: Early,
    /// Sequence number of the peer's SYN, if early data came with it.
    pub(crate) early_syn: Option<u32>,
}

impl Flow {
    /// A flow that will listen or connect once it has a socket with rings; see [`Flow::set_socket`].
    pub(crate) fn new(id: StreamId) -> Self {
        let storage: Vec<SocketStorage<'static>> = Vec::with_capacity(1);
        let mut set = SocketSet::new(storage);
        let handle = set.add(socket(0));
        Self {
            id,
            set,
            handle,
            ring_len: 0,
            queued: false,
            timer: None,
            notified: false,
            accepting: None,
            end: None,
            finishing: false,
            linger: None,
            next: None,
            held: BTreeMap::new(),
            held_len: 0,
            sent: None,
            newest: None,
            early: Early::Nothing,
            early_syn: None,
        }
    }

    /// Gives the flow its socket, before it connects or listens: the size of rings cannot change afterwards.
    pub(crate) fn set_socket(&mut self, socket: tcp::Socket<'static>) {
        self.ring_len = socket.recv_capacity();
        *self.socket_mut() = socket;
    }

    /// Takes the socket of a flow that asks; it is as it was before.
    pub(crate) fn forget_question(&mut self) -> tcp::Socket<'static> {
        (self.ring_len, self.sent, self.next, self.newest) = (0, None, None, None);
        core::mem::replace(self.socket_mut(), socket(0))
    }

    /// Takes the socket back, for another flow.
    pub(crate) fn into_socket(mut self) -> tcp::Socket<'static> {
        core::mem::replace(self.socket_mut(), socket(0))
    }

    /// Size of each ring; 0 until it is chosen. Unit: bytes.
    pub(crate) const fn ring_len(&self) -> usize {
        self.ring_len
    }

    /// The peer has not answered our question yet.
    pub(crate) fn is_asking(&self) -> bool {
        self.ring_len == 0 || self.socket().state() == tcp::State::SynSent
    }

    /// Still on its way to being established.
    pub(crate) fn is_connecting(&self) -> bool {
        let state = self.socket().state();
        self.ring_len == 0 || matches!(state, tcp::State::SynSent | tcp::State::SynReceived | tcp::State::Listen)
    }

    pub(crate) fn socket(&self) -> &tcp::Socket<'static> {
        self.set.get(self.handle)
    }

    pub(crate) fn socket_mut(&mut self) -> &mut tcp::Socket<'static> {
        self.set.get_mut(self.handle)
    }

    /// Notes a segment on its way out; true when TCP has sent all of it before.
    pub(crate) fn is_resent(&mut self, segment: &Segment) -> bool {
        let end = segment.sequence.wrapping_add(segment.sequence_len());
        if self.sent.is_some_and(|sent| end.wrapping_sub(sent) as i32 <= 0) {
            return true;
        }
        self.sent = Some(end);
        false
    }

    /// Decides when smoltcp may see a segment: `true` now, `false` when it was held back or is not wanted.
    pub(crate) fn admit(&mut self, segment: &Segment, bytes: &[u8]) -> bool {
        let end = segment.sequence.wrapping_add(segment.sequence_len());
        if segment.syn {
            // A second one is a late copy; taken for new it would ask for everything again that has come since.
            let is_first = self.next.is_none();
            self.next.get_or_insert(end);
            return is_first;
        }
        if self.next.is_none() && !segment.rst {
            // It has overtaken the SYN that answers ours, which the peer's early answers can. To TCP it would be nonsense.
            self.acknowledgement(segment);
            self.hold(segment, bytes);
            return false;
        }
        let Some(next) = self.next.filter(|_| segment.sequence_len() > 0) else { return true };
        let ahead = segment.sequence.wrapping_sub(next) as i32;
        if ahead > 0 {
            self.hold(segment, bytes);
            return false;
        }
        if end.wrapping_sub(next) as i32 > 0 {
            self.next = Some(end);
        }
        true
    }

    /// Segments wait for one before them.
    pub(crate) fn is_holding(&self) -> bool {
        !self.held.is_empty()
    }

    /// Keeps a segment until what is before it has come; one that the window cannot hold is no honest peer's.
    fn hold(&mut self, segment: &Segment, bytes: &[u8]) {
        let is_full = self.held.len() == HELD_MAX || self.held_len + bytes.len() > HELD_RINGS * self.ring_len;
        let says_nothing_new = segment.sequence_len() == 0 && self.held.contains_key(&segment.sequence);
        if is_full || says_nothing_new {
            return;
        }
        self.held_len += bytes.len();
        if let Some((_, old)) = self.held.insert(segment.sequence, (segment.sequence_len(), bytes.to_vec())) {
            self.held_len -= old.len();
        }
    }

    /// Acknowledgement and window as smoltcp should see them in this segment; `None`: as they are.
    ///
    /// * The newest the peer said, whatever this segment says: inside the link acknowledgements overtake data, and smoltcp
    ///   would take a stale window for a new one (it has no SND.WL1 and SND.WL2, RFC 9293 §3.10.7.4).
    /// * One unit of the window less: a scaled window is rounded down, so its right edge may move back by less than a
    ///   unit, and smoltcp's receiver cuts off what lies beyond the edge it advertised last (RFC 7323 §2.4 warns of it).
    ///   A sender that stays a unit below never sends what will be cut off.
    pub(crate) fn acknowledgement(&mut self, segment: &Segment) -> Option<(u32, u16)> {
        if segment.syn || segment.rst || !segment.ack {
            return None; // the window of a SYN has another scale
        }
        let this = (segment.acknowledged, segment.window);
        let is_stale =
            |(ack, window): (u32, u16)| (this.0.wrapping_sub(ack) as i32) < 0 || (this.0 == ack && this.1 < window);
        let newest = self.newest.filter(|newest| is_stale(*newest)).unwrap_or(this);
        self.newest = Some(newest);
        Some((newest.0, newest.1.saturating_sub(1)))
    }

    /// A SYN has left, and data with it.
    pub(crate) fn has_sent_early(&self) -> bool {
        self.sent.is_some() && matches!(self.early, Early::Ours(_))
    }

    /// A held segment whose turn has come.
    pub(crate) fn release(&mut self) -> Option<Vec<u8>> {
        let next = self.next.filter(|_| !self.held.is_empty())?;
        // The map is in numeric order and sequence numbers wrap: what is due may lie on the other side of the wrap.
        let is_due = |sequence: &u32| sequence.wrapping_sub(next) as i32 <= 0;
        let here = self.held.range(..=next).next_back().map(|(sequence, _)| *sequence).filter(is_due);
        let beyond = || self.held.range(next..).next_back().map(|(sequence, _)| *sequence).filter(is_due);
        let due = here.or_else(beyond)?;
        let (len, bytes) = self.held.remove(&due)?;
        self.held_len -= bytes.len();
        let end = due.wrapping_add(len);
        if end.wrapping_sub(next) as i32 > 0 {
            self.next = Some(end);
        }
        Some(bytes)
    }

    /// Reads through `f`, which gets contiguous bytes and says how many it took.
    pub(crate) fn recv_with(&mut self, f: impl FnOnce(&mut [u8]) -> usize) -> Recv {
        self.notified = false;
        let (end, connecting) = (self.end, self.is_connecting());
        let socket = self.socket_mut();
        let mut taken = 0;
        match socket.recv(|bytes| {
            taken = if bytes.is_empty() { 0 } else { f(bytes) };
            (taken, ())
        }) {
            Ok(()) if taken > 0 => Recv::Data(taken),
            Ok(()) => end.filter(|_| socket.recv_queue() == 0).map_or(Recv::Blocked, Recv::Ended),
            Err(_) if end.is_some() => Recv::Ended(end.unwrap_or(StreamEnd::Reset)),
            Err(tcp::RecvError::Finished) => Recv::Fin,
            Err(tcp::RecvError::InvalidState) if connecting => Recv::Blocked,
            // Both FINs have passed and everything was read.
            Err(tcp::RecvError::InvalidState) => Recv::Fin,
        }
    }

    /// Writes through `f`, which gets contiguous room and says how much it used.
    ///
    /// # Errors
    /// When the stream has ended, or our side was shut down.
    pub(crate) fn send_with(&mut self, f: impl FnOnce(&mut [u8]) -> usize) -> Result<usize, Option<StreamEnd>> {
        self.notified = false;
        if self.end.is_some() {
            return Err(self.end);
        }
        if self.is_connecting() {
            return Ok(0);
        }
        let mut used = 0;
        let sent = self.socket_mut().send(|room| {
            used = if room.is_empty() { 0 } else { f(room) };
            (used, ())
        });
        sent.map(|()| used).map_err(|_| None)
    }

    /// Sends FIN after everything written. TCP would give up a connection that asks still, and call that a clean end.
    pub(crate) fn finish(&mut self) {
        self.finishing = self.is_asking();
        if !self.finishing {
            self.socket_mut().close();
        }
    }

    /// From now on acknowledgements may wait. Before, the handshake's own would, and the other side with it. What the peer
    /// has had since our SYN is TCP's from now on.
    pub(crate) fn on_established(&mut self) {
        self.socket_mut().set_ack_delay(Some(ACK_DELAY));
        if let Early::Ours(bytes) = core::mem::take(&mut self.early) {
            let sent = self.socket_mut().send_slice(&bytes);
            debug_assert_eq!(sent, Ok(bytes.len()), "a ring that is empty, and larger");
            self.early = self.sent.map_or(Early::Nothing, Early::Arrived);
        }
        if self.finishing {
            self.finish();
        }
    }

    /// True when nothing of this flow needs to be remembered any more.
    pub(crate) fn is_over(&self) -> bool {
        let closed = matches!(self.socket().state(), tcp::State::Closed | tcp::State::TimeWait);
        self.linger.is_some() && (closed || self.end.is_some())
    }
}

/// A socket as the link wants it: no timer or controller of its own second-guesses what the link does.
fn socket(ring_len: usize) -> tcp::Socket<'static> {
    // Zeroed pages cost nothing until they are touched, and smoltcp restarts an empty ring at its beginning.
    let ring = || tcp::SocketBuffer::new(alloc::vec![0; ring_len]);
    let mut socket = tcp::Socket::new(ring(), ring());
    socket.set_ack_delay(None);
    socket.set_nagle_enabled(false);
    socket.set_congestion_control(tcp::CongestionControl::None);
    socket
}

/// Sockets of flows that are over, for flows to come: their rings need not be found and cleared again, which takes longer
/// than all else about opening a stream.
pub(crate) struct SocketPool {
    kept: Vec<tcp::Socket<'static>>,
    /// Bytes of the rings of all sockets that were taken and not given back.
    ring_bytes: usize,
}

/// Sockets that are kept. Bounds the memory of a node without streams.
const POOL_MAX: usize = 8;

impl SocketPool {
    /// With a socket of the usual size, so that the first stream need not wait for it either.
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

    /// Takes a socket back, or one without rings. It is kept unless its rings are larger than usual or there are enough.
    pub(crate) fn give(&mut self, mut socket: tcp::Socket<'static>) {
        let ring_len = socket.recv_capacity();
        debug_assert!(self.ring_bytes >= 2 * ring_len, "a socket is given back once");
        self.ring_bytes = self.ring_bytes.saturating_sub(2 * ring_len);
        if self.kept.len() < POOL_MAX && (1..=RING_LEN_USUAL).contains(&ring_len) {
            socket.abort(); // nothing leaves: it is in no set any more
            socket.set_ack_delay(None);
            self.kept.push(socket);
        }
    }

    /// Takes note of sockets that were lost in a panic: `ring_bytes` are left in use.
    pub(crate) const fn recount(&mut self, ring_bytes: usize) {
        self.ring_bytes = ring_bytes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::segment::TCP_HEADER_LEN;
    use std::vec;

    fn flow(ring_len: usize) -> Flow {
        let mut flow = Flow::new(StreamId::from_number(1));
        flow.set_socket(socket(ring_len));
        flow
    }

    fn data(sequence: u32, len: usize) -> Vec<u8> {
        let mut bytes = vec![0u8; TCP_HEADER_LEN + len];
        bytes[4..8].copy_from_slice(&sequence.to_be_bytes());
        bytes[12] = 5 << 4;
        bytes[13] = 0x10;
        bytes
    }

    #[test]
    fn segments_reach_tcp_in_order_across_the_wrap() {
        let mut flow = flow(4096);
        flow.next = Some(u32::MAX - 99);
        let mut order = Vec::new();
        for sequence in [100, 0, u32::MAX - 99] {
            let bytes = data(sequence, 100);
            let segment = Segment::parse(&bytes).expect("header");
            if flow.admit(&segment, &bytes) {
                order.push(sequence);
                while let Some(bytes) = flow.release() {
                    order.push(Segment::parse(&bytes).expect("header").sequence);
                }
            }
        }
        assert_eq!(order, [u32::MAX - 99, 0, 100]);
    }

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

    #[test]
    fn held_segments_have_a_maximum() {
        let mut many = flow(32 << 20);
        many.next = Some(0);
        for i in 0..HELD_MAX as u32 + 10 {
            let bytes = data(1 + i * 10, 10);
            assert!(!many.admit(&Segment::parse(&bytes).expect("header"), &bytes));
        }
        assert_eq!(many.held.len(), HELD_MAX);

        let mut large = flow(100_000);
        large.next = Some(0);
        for i in 0..100 {
            let bytes = data(1 + i, 10_000); // each covers nearly the same
            assert!(!large.admit(&Segment::parse(&bytes).expect("header"), &bytes));
        }
        assert!(large.held_len <= HELD_RINGS * 100_000 && large.held.len() > 15, "{}", large.held_len);
        large.next = Some(2);
        while large.release().is_some() {}
        assert_eq!((large.held_len, large.is_holding()), (0, false));
    }
}
