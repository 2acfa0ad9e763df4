//! Owns the verbs of streams: opening, reading, writing, ending.

use super::{CommandError, Stack, StreamInfo};
use crate::budget::Budget;
use crate::early::{EARLY_LEN_MAX, Early};
use crate::flow::{Flow, Recv, StreamEnd};
use crate::ring_socket::RingSocket;
use crate::stream_id::StreamId;
use alloc::vec::Vec;
use pilot_core::{Instant, PeerId};
use smoltcp::socket::tcp::State;

impl Stack {
    /// Facts of a stream; `None` once the application has closed it.
    pub fn stream_info(&self, id: StreamId) -> Option<StreamInfo> {
        let &(peer, key) = self.streams.get(&id)?;
        let flow = self.slots.get(peer)?.flows.get(&key)?;
        let connecting = flow.is_connecting();
        let over = flow.end.is_some() || (!connecting && matches!(flow.tcp.state(), State::Closed));
        Some(flow.tcp.with(|socket| StreamInfo {
            peer,
            local_port: key.0,
            remote_port: key.1,
            connected: !connecting && !over,
            connecting: connecting && flow.end.is_none(),
            writable: if socket.can_send() { socket.send_capacity() - socket.send_queue() } else { 0 },
            readable: socket.recv_queue(),
            unacknowledged: socket.send_queue(),
            acknowledged: flow.acknowledged(),
            end: flow.end,
            state: state_name(socket.state()),
        }))
    }

    /// The peer at the other end of a stream; `None` once the application has closed it.
    pub fn peer_of(&self, id: StreamId) -> Option<PeerId> {
        self.streams.get(&id).map(|(peer, _)| *peer)
    }

    /// Opens a stream to `port` of a trusted peer; an [`Event::Stream`](super::Event::Stream) tells when it stands or
    /// failed.
    ///
    /// # Errors
    /// `UnknownPeer` for a peer that is not trusted; `TooMany` when no local port is free or the peer has too many
    /// streams.
    pub fn connect(&mut self, now: Instant, peer: PeerId, port: u16) -> Result<StreamId, CommandError> {
        self.connect_with(now, peer, port, Vec::new())
    }

    /// The same as [`Stack::connect`]; the peer gets `early` together with the SYN, as the first bytes of the stream.
    ///
    /// # Errors
    /// As [`Stack::connect`]; `TooLong` for more than [`EARLY_LEN_MAX`] bytes.
    pub fn connect_with(
        &mut self,
        now: Instant,
        peer: PeerId,
        port: u16,
        early: Vec<u8>,
    ) -> Result<StreamId, CommandError> {
        if early.len() > EARLY_LEN_MAX {
            return Err(CommandError::TooLong);
        }
        self.ensure_peer(now, peer)?;
        let id = self.next_stream;
        let stack = self.slots.get_mut(peer).ok_or(CommandError::UnknownPeer)?;
        if stack.refusal().is_some() {
            return Err(CommandError::TooMany);
        }
        let key = (stack.free_port(port).ok_or(CommandError::TooMany)?, port);
        let mut flow = Flow::new(id, key, RingSocket::without_rings());
        if !early.is_empty() {
            flow.early = Early::Ours(early);
        }
        stack.connect(flow, &mut self.shared.agenda);
        self.next_stream = id.next();
        self.streams.insert(id, (peer, key));
        self.endpoint.set_in_use(now, peer, true);
        Ok(id)
    }

    /// Notes that the application has taken an incoming stream, which counts towards its listener's backlog until then.
    pub fn accepted(&mut self, id: StreamId) {
        if let Some(Some(port)) = self.with_flow(id, |flow, _| (flow.waiting.take(), false))
            && let Some((peer, _)) = self.streams.get(&id)
        {
            self.ports.note_gone(*peer, port);
        }
    }

    /// Lets an [`Event::Stream`](super::Event::Stream) come for this stream. An owner with something to do for a stream
    /// needs no list of its own then.
    pub fn look(&mut self, id: StreamId) {
        let agenda = &mut self.shared.agenda;
        let flow = self.streams.get(&id).and_then(|(peer, key)| self.slots.get_mut(*peer)?.flows.get_mut(key));
        match flow {
            Some(flow) => flow.list(agenda),
            None => agenda.add_stream(id),
        }
    }

    /// Reads into `buf`, which is not empty.
    pub fn recv(&mut self, id: StreamId, buf: &mut [u8]) -> Recv {
        self.recv_with(id, |bytes| {
            let len = bytes.len().min(buf.len());
            buf[..len].copy_from_slice(&bytes[..len]);
            len
        })
    }

    /// Reads through `f`, which gets contiguous bytes of the ring and says how many it took.
    pub fn recv_with(&mut self, id: StreamId, f: impl FnOnce(&mut [u8]) -> usize) -> Recv {
        let discard = self.config.ring_discard;
        let result = self.with_flow(id, |flow, budget| {
            let result = flow.recv_with(f, discard.filter(|_| budget.is_tight()));
            (result, matches!(result, Recv::Data(_)) && flow.may_announce())
        });
        // A stream that is unknown did not end in order.
        result.unwrap_or(Recv::Ended(StreamEnd::Aborted))
    }

    /// Writes as much of `bytes` as fits; 0 when nothing does (an event tells when to go on).
    ///
    /// # Errors
    /// `UnknownStream` after [`Stack::close`]; `ShutDown` after [`Stack::shutdown_write`]; `Ended` when the stream
    /// broke.
    pub fn send(&mut self, id: StreamId, bytes: &[u8]) -> Result<usize, CommandError> {
        let mut sent = 0;
        while sent < bytes.len() {
            let rest = &bytes[sent..];
            let n = self.send_with(id, |room| {
                let len = room.len().min(rest.len());
                room[..len].copy_from_slice(&rest[..len]);
                len
            })?;
            if n == 0 {
                break;
            }
            sent += n;
        }
        Ok(sent)
    }

    /// Writes through `f`, which gets contiguous room of the ring and says how much it used.
    ///
    /// # Errors
    /// As [`Stack::send`].
    pub fn send_with(&mut self, id: StreamId, f: impl FnOnce(&mut [u8]) -> usize) -> Result<usize, CommandError> {
        let sent = self.with_flow(id, |flow, budget| {
            let sent = flow.send_with(f, budget.room_to_send(flow.held.sent));
            (sent, sent.is_ok_and(|used| used > 0))
        });
        let sent = sent.ok_or(CommandError::UnknownStream)?;
        sent.map_err(|end| end.map_or(CommandError::ShutDown, CommandError::Ended))
    }

    /// Sends FIN after everything written, and once the stream stands; reading goes on.
    pub fn shutdown_write(&mut self, id: StreamId) {
        self.with_flow(id, |flow, _| (flow.finish(), true));
    }

    /// How a stream broke; `None` for one that goes on or ended in order.
    pub fn broken(&self, id: StreamId) -> Option<StreamEnd> {
        let flow = self.streams.get(&id).and_then(|(peer, key)| self.slots.get(*peer)?.flows.get(key));
        flow.map_or(Some(StreamEnd::Aborted), |flow| flow.end)
    }

    /// Lets go of a stream. Bytes that were written are still delivered, for at most [`StackConfig::linger`]. When bytes
    /// of the peer were not read, or arrive later, the peer sees a reset after them. A stream that does not stand yet is
    /// given up.
    ///
    /// [`StackConfig::linger`]: crate::StackConfig::linger
    pub fn close(&mut self, now: Instant, id: StreamId) {
        self.let_go(now, id, false);
    }

    /// Lets go of a stream of which the application did not read everything, or did not write everything that it meant
    /// to: the same as [`Stack::close`], with a reset in any case.
    pub fn give_up(&mut self, now: Instant, id: StreamId) {
        self.let_go(now, id, true);
    }

    fn let_go(&mut self, now: Instant, id: StreamId, has_lost: bool) {
        let linger = now + self.config.linger;
        self.accepted(id);
        self.with_flow(id, |flow, _| {
            flow.kept = 0;
            (flow.let_go(linger, has_lost), true)
        });
        self.streams.remove(&id);
    }

    /// Ends the stream at once; the peer sees a reset.
    pub fn abort(&mut self, now: Instant, id: StreamId) {
        self.accepted(id);
        self.with_flow(id, |flow, _| {
            flow.end.get_or_insert(StreamEnd::Aborted);
            (flow.linger, flow.kept) = (Some(now), 0);
            (flow.tcp.with_mut(|socket| socket.abort()), true)
        });
        self.streams.remove(&id);
    }

    /// Counts the bytes that the application keeps for a stream, beside those in the ring, until it says another number or lets
    /// the stream go. Gives the room for more in the peer's budget. With 0 the application should take no more, or end the
    /// stream; an [`Event::Stream`](super::Event::Stream) tells when there may be room.
    pub fn keep(&mut self, id: StreamId, bytes: usize) -> usize {
        let place = self.streams.get(&id).copied();
        let agenda = &mut self.shared.agenda;
        place.and_then(|(peer, key)| self.slots.get_mut(peer)?.keep(key, bytes, agenda)).unwrap_or(usize::MAX)
    }

    /// Runs `f` on a stream's flow, with its peer's budget. The flow is asked for segments when the second part of the result is
    /// true.
    fn with_flow<R>(&mut self, id: StreamId, f: impl FnOnce(&mut Flow, &Budget) -> (R, bool)) -> Option<R> {
        let &(peer, key) = self.streams.get(&id)?;
        self.slots.get_mut(peer)?.with_flow(key, &mut self.shared.agenda, f)
    }
}

const fn state_name(state: State) -> &'static str {
    match state {
        State::Closed => "CLOSED",
        State::Listen => "LISTEN",
        State::SynSent => "SYN_SENT",
        State::SynReceived => "SYN_RECEIVED",
        State::Established => "ESTABLISHED",
        State::FinWait1 => "FIN_WAIT_1",
        State::FinWait2 => "FIN_WAIT_2",
        State::CloseWait => "CLOSE_WAIT",
        State::Closing => "CLOSING",
        State::LastAck => "LAST_ACK",
        State::TimeWait => "TIME_WAIT",
    }
}
