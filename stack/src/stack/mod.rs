//! The stack: streams and datagrams to every trusted peer, over the endpoint below.
//!
//! `streams` has the verbs of streams, `input` the handling of datagrams and deadlines, `output` the polling.

mod event;
mod input;
mod output;
mod streams;

pub use event::{CommandError, Event, Reason, StreamInfo};

use crate::budget::{Budget, Usage};
use crate::config::StackConfig;
use crate::peer_stack::PeerStack;
use crate::ports::PortTable;
use crate::segment::FlowKey;
use crate::shared::Shared;
use crate::slots::Slots;
use crate::stream_id::StreamId;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;
use pilot_core::rng::Rng;
use pilot_core::{Config, Endpoint, Instant, PeerId};

/// TCP/IP over trusted tunnels, for one thread. See the [crate's documentation](crate).
pub struct Stack {
    endpoint: Endpoint,
    config: StackConfig,
    rng: Rng,
    slots: Slots,
    /// The place of each stream's flow, until the application closes the stream.
    streams: BTreeMap<StreamId, (PeerId, FlowKey)>,
    next_stream: StreamId,
    ports: PortTable,
    shared: Shared,
    /// Events other than [`Event::Stream`], which the agenda keeps.
    events: VecDeque<Event>,
    /// Datagrams in `events`.
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
            next_stream: StreamId::from_number(1),
            ports: PortTable::new(),
            shared: Shared::new(&config),
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

    /// All streams that the application has not closed.
    pub fn streams(&self) -> impl Iterator<Item = StreamId> + '_ {
        self.streams.keys().copied()
    }

    /// What a peer uses of its budget.
    pub fn usage(&self, peer: PeerId) -> Usage {
        let pin = self.endpoint.identity_of(peer).and_then(|key| self.endpoint.trust().pin(&key));
        let (memory_max, streams_max) = pin.map_or((0, 0), |pin| self.config.limits(pin));
        let unused = Usage { memory_max, streams_max, ..Usage::default() };
        self.slots.get(peer).map_or(unused, |stack| stack.usage())
    }

    /// What the peers with streams use of their budgets.
    pub fn usages(&self) -> impl Iterator<Item = (PeerId, Usage)> + '_ {
        self.slots.stacks().map(|(peer, stack)| (peer, stack.usage()))
    }

    /// Ports with a listener.
    pub fn ports(&self) -> impl Iterator<Item = u16> + '_ {
        self.ports.listening()
    }

    // Verbs: ports.

    /// Accepts streams on `port` from now on, of peers that are granted the port.
    ///
    /// # Errors
    /// `PortInUse` when the port has a listener.
    pub fn listen(&mut self, port: u16) -> Result<(), CommandError> {
        if self.ports.listen(port) { Ok(()) } else { Err(CommandError::PortInUse) }
    }

    /// Stops accepting streams on `port`. Streams that stand go on.
    pub fn unlisten(&mut self, port: u16) {
        self.ports.unlisten(port);
    }

    /// Takes datagrams on `port` from now on.
    ///
    /// # Errors
    /// `PortInUse` when the port is bound.
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

    /// Sends a datagram to a trusted peer, from a source port to a port of the peer. The datagram may be lost. The peer
    /// may answer to the source port if that is bound.
    ///
    /// # Errors
    /// `UnknownPeer` for a peer that is not trusted; `TooLong` for more bytes than a datagram to the peer carries.
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
        self.endpoint.with_link(peer, |link| link.send_loose(datagram.into()));
        self.ports.note_asked(peer, source);
        Ok(())
    }

    // Peers.

    fn ensure_peer(&mut self, now: Instant, peer: PeerId) -> Result<(), CommandError> {
        if self.slots.get(peer).is_some() {
            return Ok(());
        }
        let key = self.endpoint.identity_of(peer).ok_or(CommandError::UnknownPeer)?;
        let pin = self.endpoint.trust().pin(&key).ok_or(CommandError::UnknownPeer)?;
        let addresses = (self.endpoint.addr().to_ipv6(), pin.addr.to_ipv6());
        let (memory, streams) = self.config.limits(pin);
        let segment_len_max = self.endpoint.segment_len_max(peer);
        let seed = (self.rng.u64(), Budget::new(memory, streams));
        self.slots.insert(peer, PeerStack::new(now, peer, addresses, segment_len_max, seed));
        Ok(())
    }

    /// Cleans up after the owner caught a panic in the middle of a call: the stack in use and its peer's streams are
    /// lost, and an [`Event::Stream`] comes for each of them. Gives these peers. Work grows with the number of streams.
    pub fn recover(&mut self) -> Vec<PeerId> {
        let lost = self.slots.take_lost();
        for peer in &lost {
            self.shared.agenda.forget_peer(*peer);
            let ids = self.streams.iter().filter(|(_, (owner, _))| owner == peer).map(|(id, _)| *id);
            ids.for_each(|id| self.shared.agenda.add_stream(id));
        }
        self.shared.pool.recount(self.slots.ring_bytes());
        self.ports.forget_waiting();
        self.slots.waiting().for_each(|(peer, port)| self.ports.note_waiting(peer, port));
        lost
    }
}

#[cfg(test)]
mod tests;
