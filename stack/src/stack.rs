//! The stack: streams and datagrams to every trusted peer, over the endpoint below.

use crate::config::StackConfig;
use crate::early::{EARLY_LEN_MAX, Early, Spent};
use crate::flow::{Flow, Recv, SocketPool, StreamEnd};
use crate::peer_stack::PeerStack;
use crate::ports::PortTable;
use crate::segment::{FlowKey, Segment};
use crate::sink::StackSink;
use crate::slots::Slots;
use crate::stream_id::StreamId;
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::vec::Vec;
use core::net::SocketAddr;
use pilot_core::endpoint::{Discard, Event as EndpointEvent, ResetReason, Timer, Transmit};
use pilot_core::identity::IdentityKey;
use pilot_core::rng::Rng;
use pilot_core::time::earliest;
use pilot_core::{Config, Endpoint, Instant, PeerId};
use smoltcp::socket::tcp::State;

/// Most inner datagrams that wait for the application.
pub const DATAGRAMS_MAX: usize = 256;

/// Why a command was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CommandError {
    /// No such stream, or it has ended and was closed.
    UnknownStream,
    /// No such trusted peer.
    UnknownPeer,
    /// The port has a listener already.
    PortInUse,
    /// No free local port, or too many streams to this peer.
    TooMany,
    /// The datagram does not fit the path, or the early data its maximum.
    TooLong,
    /// Our side of the stream is shut down.
    ShutDown,
    /// The stream has ended.
    Ended(StreamEnd),
}

/// What happened.
#[derive(Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A peer opened a stream to a listener's port.
    Incoming {
        /// Our port.
        port: u16,
        /// The stream, open for reading and writing.
        stream: StreamId,
    },
    /// Something about a stream changed: connected, readable, writable, or ended. Look.
    Stream(StreamId),
    /// A datagram arrived for a bound port.
    Datagram {
        /// Who sent it.
        from: IdentityKey,
        /// Its port there.
        source_port: u16,
        /// Our port.
        port: u16,
        /// What it said.
        payload: Vec<u8>,
    },
    /// Something of the endpoint below.
    Endpoint(EndpointEvent),
}

/// What is known of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamInfo {
    /// To whom.
    pub peer: PeerId,
    /// Our port.
    pub local_port: u16,
    /// The peer's port.
    pub remote_port: u16,
    /// The connection stands (it may be half closed).
    pub connected: bool,
    /// Still waiting for the peer's first answer.
    pub connecting: bool,
    /// Room in the send ring. Unit: bytes.
    pub writable: usize,
    /// Bytes that can be read now.
    pub readable: usize,
    /// Bytes written and not yet acknowledged by the peer's TCP.
    pub unacknowledged: usize,
    /// How it ended, if it broke.
    pub end: Option<StreamEnd>,
    /// State as in RFC 9293.
    pub state: &'static str,
}

/// TCP/IP over trusted tunnels. See the crate's documentation.
pub struct Stack {
    endpoint: Endpoint,
    config: StackConfig,
    rng: Rng,
    slots: Slots,
    streams: BTreeMap<StreamId, (PeerId, FlowKey)>,
    pool: SocketPool,
    ports: PortTable,
    spent: Spent,
    next_stream: StreamId,
    active: BTreeSet<PeerId>,
    timers: BTreeSet<(Instant, PeerId, FlowKey)>,
    events: VecDeque<Event>,
    datagrams_waiting: usize,
}

impl Stack {
    /// A stack over a new endpoint.
    pub fn new(mut endpoint: Config, config: StackConfig) -> Self {
        let mut rng = Rng::new(endpoint.seed);
        endpoint.seed = rng.bytes();
        Self {
            endpoint: Endpoint::new(endpoint),
            config,
            rng,
            slots: Slots::default(),
            streams: BTreeMap::new(),
            pool: SocketPool::new(config.ring_len_max),
            ports: PortTable::new(),
            spent: Spent::new(),
            next_stream: StreamId::from_number(1),
            active: BTreeSet::new(),
            timers: BTreeSet::new(),
            events: VecDeque::new(),
            datagrams_waiting: 0,
        }
    }

    // Getters.

    /// The endpoint below.
    pub const fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// The endpoint below, for its verbs (trust, rendezvous). Drain this stack's output afterwards.
    pub const fn endpoint_mut(&mut self) -> &mut Endpoint {
        &mut self.endpoint
    }

    /// All streams that have not been closed by the application and forgotten.
    pub fn streams(&self) -> impl Iterator<Item = StreamId> + '_ {
        self.streams.keys().copied()
    }

    /// Ports with a listener.
    pub fn ports(&self) -> impl Iterator<Item = u16> + '_ {
        self.ports.listening()
    }

    /// What is known of a stream; `None` once it is forgotten.
    pub fn stream_info(&self, id: StreamId) -> Option<StreamInfo> {
        let &(peer, key) = self.streams.get(&id)?;
        let flow = self.slots.get(peer)?.flows.get(&key)?;
        let socket = flow.socket();
        let connecting = flow.is_connecting();
        let over = flow.end.is_some() || (!connecting && matches!(socket.state(), State::Closed));
        Some(StreamInfo {
            peer,
            local_port: key.0,
            remote_port: key.1,
            connected: !connecting && !over,
            connecting: connecting && flow.end.is_none(),
            writable: if socket.can_send() { socket.send_capacity() - socket.send_queue() } else { 0 },
            readable: socket.recv_queue(),
            unacknowledged: socket.send_queue(),
            end: flow.end,
            state: state_name(socket.state()),
        })
    }

    // Verbs: ports.

    /// Accepts streams on `port` from now on.
    ///
    /// # Errors
    /// `PortInUse`.
    pub fn listen(&mut self, port: u16) -> Result<(), CommandError> {
        if self.ports.listen(port) { Ok(()) } else { Err(CommandError::PortInUse) }
    }

    /// Stops accepting streams on `port`. Streams that stand go on.
    pub fn unlisten(&mut self, port: u16) {
        self.ports.unlisten(port);
    }

    /// The application has taken an incoming stream over.
    pub fn accepted(&mut self, id: StreamId) {
        if let Some(port) = self.flow_mut(id).and_then(|f| f.accepting.take()) {
            self.ports.note_gone(port);
        }
    }

    /// Takes datagrams on `port` from now on.
    ///
    /// # Errors
    /// `PortInUse`.
    pub fn bind(&mut self, port: u16) -> Result<(), CommandError> {
        if self.ports.bind(port) { Ok(()) } else { Err(CommandError::PortInUse) }
    }

    /// Takes datagrams on every port from now on, as the daemon does for its clients.
    pub const fn bind_all(&mut self) {
        self.ports.bind_all();
    }

    /// Stops taking datagrams on `port`.
    pub fn unbind(&mut self, port: u16) {
        self.ports.unbind(port);
    }

    // Verbs: streams.

    /// Opens a stream to `port` of a trusted peer; an [`Event::Stream`] tells when it stands or failed.
    ///
    /// # Errors
    /// `UnknownPeer`, `TooMany`.
    pub fn connect(&mut self, now: Instant, peer: PeerId, port: u16) -> Result<StreamId, CommandError> {
        self.connect_with(now, peer, port, Vec::new())
    }

    /// The same, and the peer gets `early` together with the question: it is what was written first.
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
        let max = self.config.streams_per_peer_max;
        let stack = self.slots.get_mut(peer).ok_or(CommandError::UnknownPeer)?;
        if stack.flows.len() >= max {
            return Err(CommandError::TooMany);
        }
        let key = (stack.free_port(port).ok_or(CommandError::TooMany)?, port);
        let mut flow = Flow::new(id);
        if !early.is_empty() {
            flow.early = Early::Ours(early);
        }
        stack.connect(flow, key);
        self.next_stream = id.next();
        self.streams.insert(id, (peer, key));
        self.active.insert(peer);
        self.endpoint.set_in_use(peer, true);
        Ok(id)
    }

    /// Reads into `buf`.
    pub fn recv(&mut self, id: StreamId, buf: &mut [u8]) -> Recv {
        self.recv_with(id, |bytes| {
            let len = bytes.len().min(buf.len());
            buf[..len].copy_from_slice(&bytes[..len]);
            len
        })
    }

    /// Reads through `f`, which gets contiguous bytes of the ring and says how many it took.
    pub fn recv_with(&mut self, id: StreamId, f: impl FnOnce(&mut [u8]) -> usize) -> Recv {
        // Nothing is known of it any more: whatever that means, it is no orderly end.
        let Some(flow) = self.flow_mut(id) else { return Recv::Ended(StreamEnd::Aborted) };
        let result = flow.recv_with(f);
        if matches!(result, Recv::Data(_)) {
            self.wake(id); // the window may have opened
        }
        result
    }

    /// Writes as much of `bytes` as fits; 0 when nothing does (an event tells when to go on).
    ///
    /// # Errors
    /// `UnknownStream`, `ShutDown`, `Ended`.
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
        let flow = self.flow_mut(id).ok_or(CommandError::UnknownStream)?;
        let used = flow.send_with(f).map_err(|end| end.map_or(CommandError::ShutDown, CommandError::Ended))?;
        if used > 0 {
            self.wake(id);
        }
        Ok(used)
    }

    /// Sends FIN after everything written, and once the stream stands; reading goes on.
    pub fn shutdown_write(&mut self, id: StreamId) {
        if let Some(flow) = self.flow_mut(id) {
            flow.finish();
            self.wake(id);
        }
    }

    /// The application is done with the stream: what was written is still delivered (at most `linger` long), what
    /// arrives is dropped. A stream that does not stand yet is given up.
    pub fn close(&mut self, now: Instant, id: StreamId) {
        let linger = now + self.config.linger;
        self.accepted(id);
        if let Some(flow) = self.flow_mut(id) {
            flow.linger = Some(linger);
            flow.socket_mut().close();
            self.wake(id);
        }
        self.streams.remove(&id);
    }

    /// Ends the stream at once; the peer sees a reset.
    pub fn abort(&mut self, now: Instant, id: StreamId) {
        self.accepted(id);
        if let Some(flow) = self.flow_mut(id) {
            flow.end.get_or_insert(StreamEnd::Aborted);
            flow.linger = Some(now);
            flow.socket_mut().abort();
            self.wake(id);
        }
        self.streams.remove(&id);
    }

    /// Sends a datagram to a trusted peer; it may be lost. From a bound port it lets the peer answer there.
    ///
    /// # Errors
    /// `UnknownPeer`, `TooLong`.
    pub fn send_datagram(
        &mut self,
        peer: PeerId,
        (source, port): (u16, u16),
        payload: &[u8],
    ) -> Result<(), CommandError> {
        if self.endpoint.identity_of(peer).is_none() {
            return Err(CommandError::UnknownPeer);
        }
        if payload.len() + 4 > self.endpoint.segment_len_max(peer) {
            return Err(CommandError::TooLong);
        }
        let mut datagram = Vec::with_capacity(4 + payload.len());
        datagram.extend_from_slice(&source.to_be_bytes());
        datagram.extend_from_slice(&port.to_be_bytes());
        datagram.extend_from_slice(payload);
        self.endpoint.outbox(peer, |outbox| outbox.send_loose(datagram.into()));
        self.ports.note_asked(peer, source);
        Ok(())
    }

    // Input.

    /// Takes a datagram from the network. See [`Endpoint::handle_datagram`].
    ///
    /// # Errors
    /// Why it had no effect.
    pub fn handle_datagram(&mut self, now: Instant, from: SocketAddr, datagram: &mut [u8]) -> Result<(), Discard> {
        let mut result = Ok(());
        self.handle_input(now, |endpoint, sink| result = endpoint.handle_datagram(now, from, datagram, sink));
        result
    }

    /// Takes datagrams of one source that lie one behind the other, all but the last `segment_len` bytes long, as the
    /// kernel hands them over. What is done once for all of them makes this several times cheaper than one by one.
    /// Ignored ones are counted in [`Endpoint::discards`].
    pub fn handle_batch(&mut self, now: Instant, from: SocketAddr, batch: &mut [u8], segment_len: usize) {
        self.handle_input(now, |endpoint, sink| {
            for datagram in batch.chunks_mut(segment_len.max(1)) {
                let _ = endpoint.handle_datagram(now, from, datagram, sink); // counted there
            }
        });
    }

    fn handle_input(&mut self, now: Instant, input: impl FnOnce(&mut Endpoint, &mut StackSink<'_>)) {
        let mut sink = StackSink::new(now, &mut self.slots, &mut self.active);
        input(&mut self.endpoint, &mut sink);
        let (unknown, loose) = sink.finish();
        // A peer that is another process by now loses its old streams before its new ones come.
        self.drain_endpoint(now);
        for (peer, datagram) in loose {
            self.handle_loose(peer, &datagram);
        }
        if !unknown.is_empty() {
            for (peer, bytes) in unknown {
                self.handle_unknown(now, peer, &bytes);
            }
            self.drain_endpoint(now);
        }
    }

    /// Runs everything that is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.endpoint.handle_timeout(now);
        self.drain_endpoint(now);
        while let Some(&(at, peer, key)) = self.timers.first() {
            if at > now {
                break;
            }
            self.timers.pop_first();
            let Some(stack) = self.slots.get_mut(peer) else { continue };
            if let Some(flow) = stack.flows.get_mut(&key) {
                flow.timer = None;
                if flow.linger.is_some_and(|at| at <= now) && flow.end.is_none() {
                    flow.end = Some(StreamEnd::Aborted);
                    flow.socket_mut().abort();
                }
                stack.make_ready(key);
                self.active.insert(peer);
            }
        }
    }

    /// The owner caught a panic in the middle of a call: the peer whose stack was in use has lost its streams, and they
    /// are told so.
    pub fn recover(&mut self) {
        for peer in self.slots.take_lost() {
            self.timers.retain(|(_, owner, _)| *owner != peer);
            let ids = self.streams.iter().filter(|(_, (owner, _))| *owner == peer).map(|(id, _)| *id);
            self.events.extend(ids.map(Event::Stream));
        }
        self.pool.recount(self.slots.ring_bytes());
    }

    // Output.

    /// Fills `out` with the next batch; `None` when there is nothing to send. See [`Endpoint::poll_transmit`].
    pub fn poll_transmit(&mut self, now: Instant, out: &mut Vec<u8>) -> Option<Transmit> {
        self.poll_egress(now);
        self.endpoint.poll_transmit(now, out)
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        let event = self.events.pop_front()?;
        match &event {
            Event::Datagram { .. } => self.datagrams_waiting -= 1,
            Event::Stream(id) => {
                if let Some(flow) = self.flow_mut(*id) {
                    flow.notified = false;
                }
            }
            _ => {}
        }
        Some(event)
    }

    /// When [`Stack::handle_timeout`] has something to do, and why (`None`: TCP). Drain the other outputs first.
    pub fn poll_timeout(&self) -> Option<(Instant, Option<Timer>)> {
        let tcp = self.timers.first().map(|(at, ..)| (*at, None));
        earliest(tcp, self.endpoint.poll_timeout().map(|(at, why)| (at, Some(why))))
    }

    // Private.

    fn poll_egress(&mut self, now: Instant) {
        let active: Vec<PeerId> = self.active.iter().copied().collect();
        for peer in active {
            let (config, endpoint, pool) = (self.config, &mut self.endpoint, &mut self.pool);
            let polled = self.slots.with_stack(peer, |stack| {
                if stack.has_waiting() {
                    match endpoint.srtt(peer) {
                        Some(rtt) => stack.connect_waiting(pool, |used| config.ring_len(Some(rtt), used)),
                        None => endpoint.reach(now, peer),
                    }
                }
                let len_max = endpoint.segment_len_max(peer);
                let waits = endpoint.outbox(peer, |outbox| stack.poll_egress(now, len_max, outbox, pool));
                (waits.unwrap_or(false) || stack.has_waiting(), stack.flows.is_empty() && !stack.has_outgoing())
            });
            let (waits, is_idle) = polled.unwrap_or_default();
            self.after(now, peer);
            if is_idle {
                self.slots.remove(peer);
                self.endpoint.set_in_use(peer, false);
            }
            if !waits {
                self.active.remove(&peer);
            }
        }
    }

    /// Takes over what a peer's stack noted.
    fn after(&mut self, now: Instant, peer: PeerId) {
        let Some(stack) = self.slots.get_mut(peer) else { return };
        for (key, sequence) in stack.spent.drain(..) {
            self.spent.note(now, peer, key, sequence);
        }
        for (old, new, key) in stack.moved_timers.drain(..) {
            if let Some(old) = old {
                self.timers.remove(&(old, peer, key));
            }
            if let Some(new) = new {
                self.timers.insert((new, peer, key));
            }
        }
        for id in stack.changed.drain(..) {
            let accepting =
                self.streams.get(&id).and_then(|(_, key)| stack.flows.get_mut(key)).filter(|f| f.accepting.is_some());
            match accepting {
                Some(flow) if flow.end.is_some() => abandon(now, flow, &mut self.streams, &mut self.ports),
                // Handed out once the handshake is complete, and told about once.
                Some(flow) if flow.socket().state() == State::SynReceived => flow.notified = false,
                Some(flow) => {
                    if let Some(port) = flow.accepting.take() {
                        self.ports.note_gone(port);
                        self.events.push_back(Event::Incoming { port, stream: id });
                        self.events.push_back(Event::Stream(id));
                    }
                }
                None => self.events.push_back(Event::Stream(id)),
            }
        }
    }

    fn drain_endpoint(&mut self, now: Instant) {
        let touched: Vec<PeerId> = self.active.iter().copied().collect();
        for peer in touched {
            self.after(now, peer);
        }
        while let Some(event) = self.endpoint.poll_event() {
            if let EndpointEvent::Reset(peer, reason) = &event {
                self.end_streams(now, *peer, *reason);
            }
            self.events.push_back(Event::Endpoint(event));
        }
    }

    /// The tunnel is gone, and with it everything in flight: every stream ends, what arrived can still be read.
    fn end_streams(&mut self, now: Instant, peer: PeerId, reason: ResetReason) {
        let Some(stack) = self.slots.get_mut(peer) else { return };
        let mut asking = Vec::new();
        for (key, flow) in &mut stack.flows {
            // Nothing was lost then, and the new process is asked. But the old one may have acted on early data.
            if flow.is_asking() && reason == ResetReason::Restarted && !flow.has_sent_early() {
                asking.push(*key);
                continue;
            }
            flow.end.get_or_insert(StreamEnd::Tunnel(reason));
            flow.socket_mut().abort();
            if flow.accepting.is_some() {
                abandon(now, flow, &mut self.streams, &mut self.ports);
            } else if flow.linger.is_none() {
                self.events.push_back(Event::Stream(flow.id));
            }
        }
        asking.into_iter().for_each(|key| stack.ask_again(key, &mut self.pool));
        let keys: Vec<FlowKey> = stack.flows.keys().copied().collect();
        keys.into_iter().for_each(|key| stack.make_ready(key));
        self.active.insert(peer);
    }

    fn handle_loose(&mut self, peer: PeerId, datagram: &[u8]) {
        let Some((header, payload)) = datagram.split_first_chunk::<4>() else { return };
        let (source_port, port) =
            (u16::from_be_bytes([header[0], header[1]]), u16::from_be_bytes([header[2], header[3]]));
        let Some(from) = self.endpoint.identity_of(peer) else { return };
        let is_taken = self.ports.takes_datagram(peer, port, self.is_granted(peer, port));
        if is_taken && self.datagrams_waiting < DATAGRAMS_MAX {
            self.datagrams_waiting += 1;
            self.events.push_back(Event::Datagram { from, source_port, port, payload: payload.to_vec() });
        }
    }

    /// Gate: the port must be granted to this peer by its pin.
    fn is_granted(&self, peer: PeerId, port: u16) -> bool {
        let pin = self.endpoint.identity_of(peer).and_then(|key| self.endpoint.trust().pin(&key).map(|p| &p.ports));
        pin.is_some_and(|ports| ports.allow(port))
    }

    /// A segment without a flow: a new stream if a listener and the gate admit it, otherwise a reset.
    fn handle_unknown(&mut self, now: Instant, peer: PeerId, bytes: &[u8]) {
        let Some(segment) = Segment::parse(bytes) else { return };
        if segment.syn && self.spent.contains(peer, &segment) {
            return; // a late copy
        }
        if self.ensure_peer(now, peer).is_err() {
            return;
        }
        let (port, id) = (segment.destination, self.next_stream);
        let opens = segment.syn && !segment.ack && !segment.rst;
        let granted = opens && self.is_granted(peer, port);
        let backlog = self.ports.backlog(port).filter(|_| granted);
        if backlog.is_some_and(|waiting| waiting >= self.config.backlog_max) {
            return; // TCP asks again when there may be room
        }
        let (max, rtt) = (self.config.streams_per_peer_max, self.endpoint.srtt(peer));
        let ring_len = self.config.ring_len(rtt, self.pool.ring_bytes());
        let pool = &mut self.pool;
        let is_accepted = self.slots.with_stack(peer, |stack| {
            // It may be known by now: its SYN came in the same batch.
            if stack.handle_segment(now, &segment, bytes) {
                stack.deliver(now);
                return false;
            }
            let mut is_accepted = backlog.is_some() && stack.flows.len() < max;
            if is_accepted {
                let mut flow = Flow::new(id);
                flow.accepting = Some(port);
                flow.set_socket(pool.take(ring_len));
                let refused = stack.accept(now, flow, &segment, bytes).err();
                is_accepted = refused.is_none();
                refused.into_iter().for_each(|flow| pool.give(flow.into_socket()));
            }
            if !is_accepted {
                stack.refuse(now, &segment, bytes);
            }
            stack.deliver(now);
            is_accepted
        });
        if is_accepted == Some(true) {
            self.next_stream = id.next();
            self.streams.insert(id, (peer, segment.incoming_key()));
            self.ports.note_waiting(port);
            self.endpoint.set_in_use(peer, true);
        }
        self.active.insert(peer);
    }

    fn ensure_peer(&mut self, now: Instant, peer: PeerId) -> Result<(), CommandError> {
        if self.slots.get(peer).is_some() {
            return Ok(());
        }
        let key = self.endpoint.identity_of(peer).ok_or(CommandError::UnknownPeer)?;
        let pin = self.endpoint.trust().pin(&key).ok_or(CommandError::UnknownPeer)?;
        let (local, remote) = (self.endpoint.addr().to_ipv6(), pin.addr.to_ipv6());
        let stack = PeerStack::new(now, local, remote, self.endpoint.segment_len_max(peer), self.rng.u64());
        self.slots.insert(peer, stack);
        Ok(())
    }

    fn flow_mut(&mut self, id: StreamId) -> Option<&mut Flow> {
        let &(peer, key) = self.streams.get(&id)?;
        self.slots.get_mut(peer)?.flows.get_mut(&key)
    }

    fn wake(&mut self, id: StreamId) {
        if let Some(&(peer, key)) = self.streams.get(&id)
            && let Some(stack) = self.slots.get_mut(peer)
        {
            stack.make_ready(key);
            self.active.insert(peer);
        }
    }
}

/// A stream is over that was never handed out: nobody else will close it, and nobody has seen what came early.
fn abandon(now: Instant, flow: &mut Flow, streams: &mut BTreeMap<StreamId, (PeerId, FlowKey)>, ports: &mut PortTable) {
    flow.linger = Some(now);
    flow.early_syn = None;
    streams.remove(&flow.id);
    if let Some(port) = flow.accepting.take() {
        ports.note_gone(port);
    }
}

fn state_name(state: smoltcp::socket::tcp::State) -> &'static str {
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
