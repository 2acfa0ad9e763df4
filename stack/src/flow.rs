//! Owns one TCP connection: its socket in a set of its own, and how it ended.

use crate::agenda::Agenda;
use crate::early::Early;
use crate::reorder::Reorder;
use crate::segment::{FlowKey, Segment};
use crate::socket_pool::socket;
use crate::stream_id::StreamId;
use alloc::vec::Vec;
use pilot_core::Instant;
use pilot_core::endpoint::ResetReason;
use smoltcp::iface::{SocketHandle, SocketSet, SocketStorage};
use smoltcp::socket::tcp;

/// Longest time in which an acknowledgement waits for data to travel with. The link below acknowledges on its own, and
/// TCP acknowledges half a window or 64 KiB at once. Source: measured, a request and its answer then are two datagrams
/// instead of four.
const ACK_DELAY: smoltcp::time::Duration = smoltcp::time::Duration::from_millis(5);

/// Why a stream ended otherwise than by both sides' FIN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StreamEnd {
    /// The peer has no listener on the port, or did not grant the port to this node.
    Refused,
    /// The peer aborted the stream.
    Reset,
    /// The stream was aborted here.
    Aborted,
    /// The peer's tunnel ended.
    Tunnel(ResetReason),
    /// This node does not grant the port to the peer any more.
    Withdrawn,
}

impl StreamEnd {
    /// True when the peer knows nothing of the stream any more.
    pub(crate) const fn is_peer_gone(self) -> bool {
        matches!(self, Self::Tunnel(reason) if !matches!(reason, ResetReason::Unreachable))
    }
}

impl core::fmt::Display for StreamEnd {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Refused => "the peer refuses the port",
            Self::Reset => "the peer aborted the stream",
            Self::Aborted => "the stream was aborted here",
            Self::Tunnel(ResetReason::Unreachable) => "the peer cannot be reached",
            Self::Tunnel(ResetReason::Away) => "the peer is not connected to the rendezvous",
            Self::Tunnel(ResetReason::Restarted) => "the peer was restarted",
            Self::Tunnel(ResetReason::Revoked) => "trust was withdrawn",
            Self::Tunnel(_) => "the peer ended its tunnel",
            Self::Withdrawn => "the port is not granted to the peer any more",
        })
    }
}

impl core::error::Error for StreamEnd {}

/// Result of reading from a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recv {
    /// This many bytes were read.
    Data(usize),
    /// Nothing has arrived; an event tells when something has.
    Blocked,
    /// The peer has shut its side down, and everything it wrote was read.
    Fin,
    /// The stream broke; the bytes read before are a prefix of those that the peer wrote.
    Ended(StreamEnd),
}

/// One stream's TCP, on one side.
pub(crate) struct Flow {
    pub(crate) id: StreamId,
    pub(crate) key: FlowKey,
    pub(crate) set: SocketSet<'static>,
    handle: SocketHandle,
    ring_len: usize,
    /// The flow is in its peer's list of flows that may have something to send.
    pub(crate) is_sending: bool,
    /// The agenda's round in which the stream was last listed.
    listed_in: u64,
    /// The flow's entry among the agenda's deadlines.
    pub(crate) deadline: Option<Instant>,
    /// The peer opened the stream, to a port that it was granted.
    pub(crate) is_granted: bool,
    /// The listener's port while the stream has not been handed out.
    pub(crate) accepting: Option<u16>,
    /// The listener's port while the stream counts towards its backlog: until the application has taken the stream.
    pub(crate) waiting: Option<u16>,
    pub(crate) end: Option<StreamEnd>,
    /// FIN goes out as soon as the peer has answered.
    finishing: bool,
    /// When the flow is given up, once the application has dropped the stream.
    pub(crate) linger: Option<Instant>,
    order: Reorder,
    /// Sequence number after the last one given to the link.
    sent: Option<u32>,
    /// The newest acknowledgement and window that the peer sent.
    newest: Option<(u32, u16)>,
    /// Bytes that the application has read since TCP last told the peer its window.
    unannounced: usize,
    pub(crate) early: Early,
    /// Sequence number of the peer's SYN, if early data came with it.
    pub(crate) early_syn: Option<u32>,
}

impl Flow {
    /// A flow that listens or connects once it has a socket with rings; see [`Flow::set_socket`].
    pub(crate) fn new(id: StreamId, key: FlowKey) -> Self {
        let storage: Vec<SocketStorage<'static>> = Vec::with_capacity(1);
        let mut set = SocketSet::new(storage);
        let handle = set.add(socket(0));
        Self {
            id,
            key,
            set,
            handle,
            ring_len: 0,
            is_sending: false,
            listed_in: 0,
            deadline: None,
            is_granted: false,
            accepting: None,
            waiting: None,
            end: None,
            finishing: false,
            linger: None,
            order: Reorder::default(),
            sent: None,
            newest: None,
            unannounced: 0,
            early: Early::Nothing,
            early_syn: None,
        }
    }

    /// Gives the flow its socket, before it connects or listens: the size of rings cannot change afterwards.
    pub(crate) fn set_socket(&mut self, socket: tcp::Socket<'static>) {
        debug_assert_eq!(self.ring_len, 0, "a flow gets its rings once");
        self.ring_len = socket.recv_capacity();
        *self.socket_mut() = socket;
    }

    /// Takes the socket of a flow that asks; afterwards the flow is as before it asked.
    pub(crate) fn forget_question(&mut self) -> tcp::Socket<'static> {
        (self.ring_len, self.sent, self.order, self.newest) = (0, None, Reorder::default(), None);
        core::mem::replace(self.socket_mut(), socket(0))
    }

    /// Takes the socket back, for another flow.
    pub(crate) fn into_socket(mut self) -> tcp::Socket<'static> {
        core::mem::replace(self.socket_mut(), socket(0))
    }

    // Getters.

    /// Size of each ring; 0 until it is chosen. Unit: bytes.
    pub(crate) const fn ring_len(&self) -> usize {
        self.ring_len
    }

    /// True while the peer has not answered the flow's SYN.
    pub(crate) fn is_asking(&self) -> bool {
        self.ring_len == 0 || self.socket().state() == tcp::State::SynSent
    }

    /// True while the connection is not established.
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

    /// True when a SYN has left with early data.
    pub(crate) fn has_sent_early(&self) -> bool {
        self.sent.is_some() && matches!(self.early, Early::Ours(_))
    }

    /// True while segments wait for one before them.
    pub(crate) fn is_holding(&self) -> bool {
        self.order.is_holding()
    }

    /// True when the flow can be forgotten.
    pub(crate) fn is_over(&self) -> bool {
        let closed = matches!(self.socket().state(), tcp::State::Closed | tcp::State::TimeWait);
        self.linger.is_some() && (closed || self.end.is_some())
    }

    /// Lets the application look at the stream.
    pub(crate) fn list(&mut self, agenda: &mut Agenda) {
        if self.listed_in != agenda.round() {
            self.listed_in = agenda.round();
            agenda.add_stream(self.id);
        }
    }

    // Segments.

    /// Notes a segment on its way out; true when TCP has sent all of it before.
    pub(crate) fn is_resent(&mut self, segment: &Segment) -> bool {
        let end = segment.end();
        if self.sent.is_some_and(|sent| end.wrapping_sub(sent) as i32 <= 0) {
            return true;
        }
        self.sent = Some(end);
        false
    }

    /// Decides when smoltcp may see a segment: `true` now, `false` when it was held back or is not wanted.
    pub(crate) fn admit(&mut self, segment: &Segment, bytes: &[u8]) -> bool {
        if self.order.is_before_syn() && !segment.rst {
            // A segment that is held back acknowledges all the same.
            self.acknowledgement(segment);
        }
        self.order.admit(segment, bytes, self.ring_len)
    }

    /// The next held segment that TCP may see.
    pub(crate) fn release(&mut self) -> Option<Vec<u8>> {
        self.order.release()
    }

    /// The acknowledgement and the window that smoltcp should see in this segment; `None`: those of the segment.
    ///
    /// * The newest pair that the peer sent replaces the segment's: inside the link acknowledgements overtake data, and
    ///   smoltcp would take a stale window for a new one (it lacks SND.WL1 and SND.WL2, RFC 9293 §3.10.7.4).
    /// * The window is one unit smaller: a scaled window is rounded down, so its right edge may move back by less than
    ///   a unit, and smoltcp's receiver cuts off the bytes beyond the edge it advertised last (RFC 7323 §2.4). A sender
    ///   that stays a unit below never sends such bytes.
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

    /// Lets acknowledgements wait from now on (before, that of the handshake would wait, and the peer with it), and
    /// hands early data that has arrived to TCP.
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

    // The application's side.

    /// Reads through `f`, which gets contiguous bytes and says how many it took.
    pub(crate) fn recv_with(&mut self, f: impl FnOnce(&mut [u8]) -> usize) -> Recv {
        let (end, connecting) = (self.end, self.is_connecting());
        let socket = self.socket_mut();
        let mut taken = 0;
        match socket.recv(|bytes| {
            taken = if bytes.is_empty() { 0 } else { f(bytes) };
            (taken, ())
        }) {
            Ok(()) if taken > 0 => {
                self.unannounced += taken;
                Recv::Data(taken)
            }
            Ok(()) => end.filter(|_| socket.recv_queue() == 0).map_or(Recv::Blocked, Recv::Ended),
            Err(_) if end.is_some() => Recv::Ended(end.unwrap_or(StreamEnd::Reset)),
            Err(tcp::RecvError::Finished) => Recv::Fin,
            Err(tcp::RecvError::InvalidState) if connecting => Recv::Blocked,
            // Both FINs have passed and everything was read.
            Err(tcp::RecvError::InvalidState) => Recv::Fin,
        }
    }

    /// True when the window may have opened so far that TCP tells the peer, which smoltcp does when it has doubled. The
    /// window that the peer knows is the free part of the ring without the bytes read since it was told.
    pub(crate) fn may_announce(&self) -> bool {
        let socket = self.socket();
        let free = socket.recv_capacity().saturating_sub(socket.recv_queue());
        self.unannounced >= free / 4 || free < socket.recv_capacity() / 16
    }

    /// Notes that TCP has sent a segment, and with it the window.
    pub(crate) const fn note_announced(&mut self) {
        self.unannounced = 0;
    }

    /// Writes through `f`, which gets contiguous room and says how much it used.
    ///
    /// # Errors
    /// When the stream has ended, or its writing side was shut down (`None`).
    pub(crate) fn send_with(&mut self, f: impl FnOnce(&mut [u8]) -> usize) -> Result<usize, Option<StreamEnd>> {
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

    /// Sends FIN after everything written, and not before the peer has answered: TCP would give up a connection that
    /// still asks, and call that a clean end.
    pub(crate) fn finish(&mut self) {
        self.finishing = self.is_asking();
        if !self.finishing {
            self.socket_mut().close();
        }
    }

    /// Drops received bytes that the application will not read, so that the window stays open for the FIN.
    pub(crate) fn discard_received(&mut self) {
        while self.socket_mut().recv(|bytes| (bytes.len(), bytes.len())).is_ok_and(|n| n > 0) {}
    }
}
