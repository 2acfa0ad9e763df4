//! Owns one TCP connection: its socket in a set of its own, and how it ended.

use crate::agenda::Agenda;
use crate::budget::Held;
use crate::early::Early;
use crate::reorder::{Reorder, is_after};
use crate::ring_socket::RingSocket;
use crate::segment::{ASKS_AGAIN, FlowKey, Segment, TCP_HEADER_LEN};
use crate::stream_id::StreamId;
use alloc::vec::Vec;
use core::time::Duration;
use pilot_core::Instant;
use pilot_core::codec::Put as _;
use pilot_core::endpoint::ResetReason;
use smoltcp::socket::tcp;

/// Longest time in which an acknowledgement waits for data to travel with. The link below acknowledges on its own, and
/// TCP acknowledges half a window or 64 KiB at once. Source: measured, a request and its answer then are two datagrams
/// instead of four.
const ACK_DELAY: smoltcp::time::Duration = smoltcp::time::Duration::from_millis(5);

/// Longer than TCP ever waits for an acknowledgement (RFC 6298 §2.5; 60 s in smoltcp).
const RESEND_AFTER: Duration = Duration::from_secs(61);

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
        matches!(self, Self::Tunnel(reason) if !matches!(reason, ResetReason::Unreachable | ResetReason::SecretDiffers))
    }
}

impl core::fmt::Display for StreamEnd {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Refused => "the peer refuses the port",
            Self::Reset => "the peer aborted the stream",
            Self::Aborted => "the stream was aborted here",
            Self::Tunnel(ResetReason::Unreachable) => "the peer cannot be reached",
            Self::Tunnel(ResetReason::SecretDiffers) => "the peer has another pair secret",
            Self::Tunnel(ResetReason::TooNarrow) => "the path to the peer carries short packets alone",
            Self::Tunnel(ResetReason::Away) => "the peer is not connected to the rendezvous",
            Self::Tunnel(ResetReason::Restarted) => "the peer was restarted",
            Self::Tunnel(ResetReason::GivenUp) => "the peer had no answer from here for too long",
            Self::Tunnel(ResetReason::Revoked) => "trust was withdrawn",
            Self::Tunnel(ResetReason::Renewed) => "the pair secret was renewed",
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
    /// Has no rings until the flow connects or listens.
    pub(crate) tcp: RingSocket,
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
    /// The stream broke after the peer's FIN: reading still ends in order.
    has_fin: bool,
    /// The application has let go of bytes that it did not read: a reset follows what it wrote.
    is_lossy: bool,
    /// Bytes that TCP has taken from the application.
    written: u64,
    /// Bytes that the peer's reset acknowledged, of which TCP takes no notice.
    reset_acknowledged: usize,
    /// FIN goes out as soon as the peer has answered.
    finishing: bool,
    /// When the flow is given up, once the application has dropped the stream.
    pub(crate) linger: Option<Instant>,
    order: Reorder,
    /// Sequence number of the first byte of the peer that the application has not read.
    unread: u32,
    /// Sequence number after the last one given to the link.
    sent: Option<u32>,
    /// The newest acknowledgement and window that the peer sent.
    newest: Option<(u32, u16)>,
    /// The acknowledgement of this side's SYN that came with the peer's.
    syn_acknowledged: Option<u32>,
    /// Bytes that the application has read since TCP last told the peer its window.
    unannounced: usize,
    pub(crate) early: Early,
    /// When the first SYN with early data went to the link.
    early_at: Option<Instant>,
    /// A SYN left without the early data, for which the path had no room, and may be the one that opened the stream.
    has_bare_syn: bool,
    /// Sequence number of the peer's SYN, which opened the flow.
    pub(crate) syn: Option<u32>,
    /// What the flow holds, as its peer's budget has counted it.
    pub(crate) held: Held,
    /// Bytes that the application keeps for the stream. Unit: bytes.
    pub(crate) kept: usize,
    /// Shift of the windows that this side tells. Unit: bits.
    pub(crate) window_scale: u32,
    /// The budget holds the flow's window or its writer back.
    pub(crate) is_starved: bool,
    /// The peer is to be told the window, of which TCP has no news.
    pub(crate) owes_window: bool,
    /// A writer got less room than the ring has.
    pub(crate) is_held_back: bool,
    /// Sequence number after the last bytes of the peer that were dropped for want of memory.
    dropped_end: Option<u32>,
    /// The acknowledgement with which the peer was asked for them.
    asked_at: Option<u32>,
    /// There may be room for them again: the peer is asked for them.
    pub(crate) asks_again: bool,
    /// The peer has asked for bytes again; they are sent at once.
    pub(crate) resend: Resend,
}

/// Whether a flow sends again what its peer has dropped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Resend {
    #[default]
    No,
    /// TCP is to begin.
    Wanted,
    /// TCP sends them. The link has carried them all before.
    On,
}

impl Flow {
    /// A flow that listens with this socket; or connects, once it has a socket with rings ([`Flow::set_socket`]).
    pub(crate) fn new(id: StreamId, key: FlowKey, tcp: RingSocket) -> Self {
        Self {
            id,
            key,
            tcp,
            is_sending: false,
            listed_in: 0,
            deadline: None,
            is_granted: false,
            accepting: None,
            waiting: None,
            end: None,
            has_fin: false,
            is_lossy: false,
            written: 0,
            reset_acknowledged: 0,
            finishing: false,
            linger: None,
            order: Reorder::default(),
            unread: 0,
            sent: None,
            newest: None,
            syn_acknowledged: None,
            unannounced: 0,
            early: Early::Nothing,
            early_at: None,
            has_bare_syn: false,
            syn: None,
            held: Held::default(),
            kept: 0,
            window_scale: 0,
            is_starved: false,
            owes_window: false,
            is_held_back: false,
            dropped_end: None,
            asked_at: None,
            asks_again: false,
            resend: Resend::No,
        }
    }

    /// Gives the flow its socket, before it connects or listens: the size of rings cannot change afterwards.
    pub(crate) fn set_socket(&mut self, socket: RingSocket) {
        debug_assert_eq!(self.ring_len(), 0, "a flow gets its rings once");
        self.tcp = socket;
    }

    /// Takes the socket of a flow that asks; afterwards the flow is as before it asked.
    pub(crate) fn forget_question(&mut self) -> RingSocket {
        (self.sent, self.order, self.newest, self.early_at) = (None, Reorder::default(), None, None);
        self.has_bare_syn = false;
        core::mem::replace(&mut self.tcp, RingSocket::without_rings())
    }

    // Getters.

    /// Size of each ring; 0 until it is chosen. Unit: bytes.
    pub(crate) const fn ring_len(&self) -> usize {
        self.tcp.ring_len()
    }

    /// True while the peer has not answered the flow's SYN.
    pub(crate) fn is_asking(&self) -> bool {
        self.ring_len() == 0 || self.tcp.state() == tcp::State::SynSent
    }

    /// True while the connection is not established.
    pub(crate) fn is_connecting(&self) -> bool {
        let state = self.tcp.state();
        self.ring_len() == 0 || matches!(state, tcp::State::SynSent | tcp::State::SynReceived | tcp::State::Listen)
    }

    /// True when early data may have reached a process of the peer that ended before `began`, and may have acted on it.
    pub(crate) fn may_have_acted(&self, began: Instant) -> bool {
        self.early_at.is_some_and(|at| at < began)
    }

    /// The early data for a SYN that goes to the link now; none where they do not fit behind it, with `room` bytes, so that the
    /// link never cuts a SYN. TCP sends them in any case.
    pub(crate) fn early_out(&mut self, now: Instant, room: usize) -> &[u8] {
        let Early::Ours(bytes) = &self.early else { return &[] };
        if bytes.len() > room {
            self.has_bare_syn = true;
            return &[];
        }
        self.early_at.get_or_insert(now);
        bytes
    }

    /// True while segments wait for one before them.
    pub(crate) fn is_holding(&self) -> bool {
        self.order.is_holding()
    }

    /// What the flow holds now.
    pub(crate) fn holds(&self) -> Held {
        let (received, sent) = self.tcp.with(|socket| (socket.recv_queue(), socket.send_queue()));
        Held { received: received + self.order.memory(), sent, kept: self.kept }
    }

    /// A segment that only tells the peer a window of at most `cap` bytes, and asks for what was dropped; `None` before the
    /// stream stands.
    pub(crate) fn window_segment(&mut self, cap: usize) -> Option<Vec<u8>> {
        const ACK: u8 = 0x10;
        let (sequence, next) = (self.sent?, self.taken());
        let is_open = matches!(self.tcp.state(), tcp::State::Established | tcp::State::FinWait1 | tcp::State::FinWait2);
        if !is_open || self.end.is_some() {
            return None;
        }
        let free = self.ring_len().saturating_sub(self.tcp.recv_queue());
        let window = (free.min(cap) >> self.window_scale).min(u16::MAX.into()) as u16;
        let mut segment = Vec::with_capacity(TCP_HEADER_LEN);
        segment.put(&self.key.0.to_be_bytes());
        segment.put(&self.key.1.to_be_bytes());
        segment.put(&sequence.to_be_bytes());
        segment.put(&next.to_be_bytes());
        let may_ask = core::mem::take(&mut self.asks_again) && window > 0;
        let asks_again = may_ask && self.has_gap() && self.asked_at != Some(next);
        if asks_again {
            self.asked_at = Some(next);
        }
        segment.put(&[(TCP_HEADER_LEN as u8 / 4) << 4, if asks_again { ACK | ASKS_AGAIN } else { ACK }]);
        segment.put(&window.to_be_bytes());
        segment.put(&[0; 4]);
        Some(segment)
    }

    /// Sequence number after the last byte that TCP has taken from the peer. The order of segments may be further, since TCP
    /// does not take everything that it is shown.
    fn taken(&self) -> u32 {
        self.unread.wrapping_add(self.tcp.recv_queue() as u32)
    }

    /// A segment with nothing but the FIN, in place of one whose payload TCP has taken before; `None` for any other segment.
    /// smoltcp looks at the payload alone to tell whether a segment is news, and would drop this one.
    pub(crate) fn only_fin(&self, segment: &Segment, bytes: &[u8]) -> Option<Vec<u8>> {
        let taken = self.taken();
        let is_old = segment.fin && segment.payload_len > 0 && segment.end() == taken.wrapping_add(1);
        let mut header = is_old.then(|| segment.split(bytes).1.to_vec())?;
        header.get_mut(4..8)?.copy_from_slice(&taken.to_be_bytes());
        Some(header)
    }

    /// A reset at the byte that TCP waits for, in place of one behind bytes that were dropped for want of memory, or that TCP was
    /// shown and had no room for: their sender has forgotten them, so they would never come. `None` for any other segment.
    pub(crate) fn reset_at_gap(&self, segment: &Segment, bytes: &[u8]) -> Option<Vec<u8>> {
        let taken = self.taken();
        // A FIN that TCP has taken has a number too, which `taken` does not count.
        let has_fin = matches!(
            self.tcp.state(),
            tcp::State::CloseWait | tcp::State::Closing | tcp::State::LastAck | tcp::State::TimeWait
        );
        let is_behind_refused = !has_fin && self.order.is_due(segment) && is_after(segment.sequence, taken);
        let is_at_gap = segment.rst && segment.sequence != taken && (self.has_gap() || is_behind_refused);
        let mut header = bytes.get(..TCP_HEADER_LEN).filter(|_| is_at_gap)?.to_vec();
        header.get_mut(4..8)?.copy_from_slice(&taken.to_be_bytes());
        Some(header)
    }

    /// Bytes that the application wrote and the peer's TCP has acknowledged.
    pub(crate) fn acknowledged(&self) -> u64 {
        let waiting = self.tcp.send_queue().saturating_sub(self.reset_acknowledged);
        self.written.saturating_sub(waiting as u64)
    }

    /// True when the flow can be forgotten.
    pub(crate) fn is_over(&self) -> bool {
        let closed = matches!(self.tcp.state(), tcp::State::Closed | tcp::State::TimeWait);
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
        let is_admitted = self.order.admit(segment, bytes, self.ring_len());
        if is_admitted && segment.syn {
            self.unread = segment.end();
        }
        is_admitted
    }

    /// Notes that TCP has seen a SYN and still asks: the SYN answers a question that this flow has taken back, and another
    /// will come.
    pub(crate) fn on_foreign_syn(&mut self) {
        debug_assert!(self.is_asking(), "TCP has not taken the SYN");
        self.order.forget_syn();
    }

    /// Drops the segments that are held back, so that one before them finds room; false when that does not help.
    pub(crate) fn make_room_for(&mut self, segment: &Segment) -> bool {
        if !self.order.is_due(segment) {
            return false;
        }
        let end = self.order.drop_held();
        end.into_iter().for_each(|end| self.note_dropped(end));
        end.is_some()
    }

    /// Notes that bytes before this sequence number were dropped for want of memory.
    pub(crate) fn note_dropped(&mut self, end: u32) {
        let is_last = self.dropped_end.is_none_or(|last| is_after(end, last));
        if is_last {
            self.dropped_end = Some(end);
        }
        self.asked_at = None;
    }

    /// True while bytes that were dropped have not come again.
    pub(crate) fn has_gap(&self) -> bool {
        let next = self.order.next();
        self.dropped_end.is_some_and(|end| next.is_some_and(|next| is_after(end, next)))
    }

    /// True while bytes that were dropped have not come again, and the peer was not asked for them.
    pub(crate) fn is_behind_gap(&self, segment: &Segment) -> bool {
        self.asked_at.is_none() && self.has_gap() && !self.order.is_due(segment)
    }

    /// Bytes behind a gap, which are a part of the window.
    pub(crate) const fn out_of_order(&self) -> usize {
        self.order.held_len()
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
        if segment.syn && segment.ack {
            self.syn_acknowledged = Some(segment.acknowledged);
        }
        if segment.syn || segment.rst || !segment.ack {
            return None; // the window of a SYN has another scale
        }
        let this = (segment.acknowledged, segment.window);
        let is_stale =
            |(ack, window): (u32, u16)| (this.0.wrapping_sub(ack) as i32) < 0 || (this.0 == ack && this.1 < window);
        // A window that comes with a question counts even if it is smaller.
        let newest = self.newest.filter(|newest| !segment.asks_again && is_stale(*newest)).unwrap_or(this);
        if segment.asks_again && newest.0 == segment.acknowledged && self.tcp.send_queue() > 0 {
            self.resend = Resend::Wanted;
        }
        self.newest = Some(newest);
        Some((newest.0, newest.1.saturating_sub(1)))
    }

    /// Lets acknowledgements wait from now on (before, that of the handshake would wait, and the peer with it), and
    /// hands early data that has arrived to TCP.
    pub(crate) fn on_established(&mut self) {
        self.tcp.with_mut(|socket| socket.set_ack_delay(Some(ACK_DELAY)));
        if let Early::Ours(bytes) = core::mem::take(&mut self.early) {
            let sent = self.tcp.with_mut(|socket| socket.send_slice(&bytes));
            self.tcp.note_sent(bytes.len());
            self.written += bytes.len() as u64;
            debug_assert_eq!(sent, Ok(bytes.len()), "a ring that is empty, and larger");
            if self.has_bare_syn {
                self.sent = None; // the peer may lack the bytes: they go to the link as if they were new
            }
            self.early = self.sent.map_or(Early::Nothing, Early::Arrived);
        }
        if self.finishing {
            self.finish();
        }
    }

    /// The time that TCP is told when it is asked for a segment. When the peer has asked for bytes again it is so late that TCP
    /// takes them for lost and sends all of them.
    pub(crate) fn time_for_tcp(&mut self, now: Instant) -> Instant {
        if self.resend != Resend::Wanted {
            return now;
        }
        self.resend = Resend::On;
        let is_sending = matches!(
            self.tcp.state(),
            tcp::State::Established | tcp::State::CloseWait | tcp::State::FinWait1 | tcp::State::LastAck
        );
        if is_sending { now + RESEND_AFTER } else { now }
    }

    // The application's side.

    /// Reads through `f`, which gets contiguous bytes and says how many it took. `discard` gets those that were taken.
    pub(crate) fn recv_with(&mut self, f: impl FnOnce(&mut [u8]) -> usize, discard: Option<fn(&mut [u8])>) -> Recv {
        let connecting = self.is_connecting();
        let end = self.end.map(|end| if self.has_fin { Recv::Fin } else { Recv::Ended(end) });
        let mut taken = 0;
        let (result, unread) = self.tcp.with_mut(|socket| {
            let result = socket.recv(|bytes| {
                taken = if bytes.is_empty() { 0 } else { f(bytes) };
                if let Some(discard) = discard {
                    discard(&mut bytes[..taken]);
                }
                (taken, ())
            });
            (result, socket.recv_queue())
        });
        match result {
            Ok(()) if taken > 0 => {
                self.unannounced += taken;
                self.unread = self.unread.wrapping_add(taken as u32);
                self.tcp.note_received(taken);
                Recv::Data(taken)
            }
            Ok(()) => end.filter(|_| unread == 0).unwrap_or(Recv::Blocked),
            Err(tcp::RecvError::InvalidState) if connecting && end.is_none() => Recv::Blocked,
            // Without a break both FINs have passed, and everything was read.
            Err(_) => end.unwrap_or(Recv::Fin),
        }
    }

    /// True when the window may have opened so far that TCP tells the peer, which smoltcp does when it has doubled. The
    /// window that the peer knows is the free part of the ring without the bytes read since it was told.
    pub(crate) fn may_announce(&self) -> bool {
        let free = self.ring_len().saturating_sub(self.tcp.with(|socket| socket.recv_queue()));
        self.unannounced >= free / 4 || free < self.ring_len() / 16
    }

    /// Notes that TCP has sent a segment, and with it the window.
    pub(crate) const fn note_announced(&mut self) {
        self.unannounced = 0;
    }

    /// Writes through `f`, which gets contiguous room, at most `most` bytes, and says how much it used.
    ///
    /// # Errors
    /// When the stream has ended, or its writing side was shut down (`None`).
    pub(crate) fn send_with(
        &mut self,
        f: impl FnOnce(&mut [u8]) -> usize,
        most: usize,
    ) -> Result<usize, Option<StreamEnd>> {
        if self.end.is_some() {
            return Err(self.end);
        }
        if self.is_connecting() {
            return Ok(0);
        }
        let (mut used, mut held_back) = (0, false);
        let sent = self.tcp.with_mut(|socket| {
            socket.send(|room| {
                let len = room.len().min(most);
                held_back = len < room.len();
                used = if len == 0 { 0 } else { f(&mut room[..len]) };
                (used, ())
            })
        });
        self.is_held_back = held_back;
        self.tcp.note_sent(used);
        self.written += used as u64;
        sent.map(|()| used).map_err(|_| None)
    }

    /// Sends FIN after everything written, and not before the peer has answered: TCP would give up a connection that
    /// still asks, and call that a clean end.
    pub(crate) fn finish(&mut self) {
        self.finishing = self.is_asking();
        if !self.finishing {
            self.tcp.with_mut(|socket| socket.close());
        }
    }

    // Ends.

    /// The peer has reset the stream, in this state of TCP.
    pub(crate) fn note_reset(&mut self, reset: &Segment, state: tcp::State) {
        self.break_off(if state == tcp::State::SynSent { StreamEnd::Refused } else { StreamEnd::Reset }, state);
        let newest = self.newest.map(|(newest, _)| newest).or(self.syn_acknowledged);
        if let Some(newest) = newest.filter(|_| reset.ack) {
            let more = reset.acknowledged.wrapping_sub(newest) as usize;
            self.reset_acknowledged = if more <= self.tcp.send_queue() { more } else { 0 };
        }
    }

    /// Notes that the stream broke in this state of TCP, unless both sides had ended in order.
    pub(crate) fn break_off(&mut self, end: StreamEnd, state: tcp::State) {
        use tcp::State;
        let is_finished = state == State::TimeWait || state == State::Closed && self.ring_len() > 0;
        if self.end.is_none() && !is_finished {
            self.end = Some(end);
            self.has_fin = matches!(state, State::CloseWait | State::Closing | State::LastAck);
        }
    }

    /// Lets the application go, which `has_lost` bytes elsewhere that it did not read. TCP delivers what was written until
    /// `linger`, then sends FIN; or a reset, when bytes were not read.
    pub(crate) fn let_go(&mut self, linger: Instant, has_lost: bool) {
        self.linger = Some(linger);
        self.is_lossy = has_lost || self.tcp.recv_queue() > 0;
        if !self.is_lossy || self.is_asking() {
            self.tcp.with_mut(|socket| socket.close());
        }
        self.reset_lossy();
    }

    /// Resets the stream of an application that has gone, when bytes of the peer were or will not be read (RFC 1122
    /// §4.2.2.13); not before everything that was written is acknowledged, so that the reset overtakes nothing. Until then
    /// the window closes as the ring fills.
    pub(crate) fn reset_lossy(&mut self) {
        use tcp::State;
        let is_lossy = self.is_lossy || self.tcp.recv_queue() > 0;
        let has_fin_waiting = matches!(self.tcp.state(), State::FinWait1 | State::Closing | State::LastAck);
        let has_arrived = self.tcp.send_queue() == 0 && !has_fin_waiting;
        self.is_lossy = is_lossy;
        if is_lossy && has_arrived && self.end.is_none() {
            self.end = Some(StreamEnd::Aborted);
            self.tcp.with_mut(|socket| socket.abort());
        }
    }
}
