//! Owns the input of a stack: datagrams, deadlines, and the endpoint's events.

use super::{Event, Stack};
use crate::flow::{Flow, StreamEnd};
use crate::ports::PortTable;
use crate::segment::{FlowKey, Segment};
use crate::sink::StackSink;
use crate::stream_id::StreamId;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::net::SocketAddr;
use pilot_core::endpoint::{Discard, Event as EndpointEvent, ResetReason};
use pilot_core::identity::IdentityKey;
use pilot_core::path::Source;
use pilot_core::{Endpoint, Instant, Level, PeerId, Trace};

/// Most inner datagrams that wait for the application.
const DATAGRAMS_MAX: usize = 512;

impl Stack {
    /// Takes a datagram from the network. See [`Endpoint::handle_datagram`].
    ///
    /// # Errors
    /// The reason for which the datagram had no effect.
    pub fn handle_datagram(&mut self, now: Instant, from: SocketAddr, datagram: &mut [u8]) -> Result<(), Discard> {
        let mut result = Ok(());
        self.handle_input(now, |endpoint, sink| result = endpoint.handle_datagram(now, from, datagram, sink));
        result
    }

    /// Takes datagrams of one source that lie one behind the other, all but the last `segment_len` bytes long, as the
    /// kernel hands them over. A batch is several times cheaper than its datagrams one by one. Ignored datagrams are
    /// counted in [`Endpoint::discards`].
    pub fn handle_batch(&mut self, now: Instant, from: SocketAddr, batch: &mut [u8], segment_len: usize) {
        self.handle_batch_at(now, (from, Source::MAIN), batch, segment_len);
    }

    /// Takes datagrams as [`Stack::handle_batch`] does that came to another socket than the node's own one.
    pub fn handle_batch_at(&mut self, now: Instant, from: (SocketAddr, Source), batch: &mut [u8], segment_len: usize) {
        self.handle_input(now, |endpoint, sink| {
            for datagram in batch.chunks_mut(segment_len.max(1)) {
                let _ = endpoint.handle_datagram_at(now, from, datagram, sink); // the endpoint counts it
            }
        });
    }

    fn handle_input(&mut self, now: Instant, input: impl FnOnce(&mut Endpoint, &mut StackSink<'_>)) {
        let mut sink = StackSink::new(now, &mut self.slots, &mut self.shared.agenda);
        input(&mut self.endpoint, &mut sink);
        let (unknown, loose) = sink.finish();
        self.shared.agenda.unblock();
        // A peer that was restarted loses its old streams before its new ones come.
        self.settle_input(now);
        for (peer, datagram) in loose {
            self.handle_loose(now, peer, &datagram);
        }
        if !unknown.is_empty() {
            for (peer, bytes) in unknown {
                self.handle_unknown(now, peer, &bytes);
            }
            self.settle_input(now);
        }
    }

    /// Runs everything that is due by `now`. Work is bounded by the number of due deadlines; idle peers and streams are
    /// not looked at.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.endpoint.handle_timeout(now);
        self.settle_input(now);
        let agenda = &mut self.shared.agenda;
        while let Some((peer, key)) = agenda.next_due(now) {
            self.slots.with_stack(peer, |stack| stack.handle_timeout(now, key, agenda));
        }
    }

    /// Hands streams out and takes the endpoint's events over.
    pub(super) fn settle_input(&mut self, now: Instant) {
        self.hand_out_arrivals(now);
        while let Some(event) = self.endpoint.poll_event() {
            match &event {
                EndpointEvent::Reset(peer, reason) => self.end_streams(now, *peer, *reason, |_| true),
                EndpointEvent::Away(peer) => self.end_streams(now, *peer, ResetReason::Away, Flow::is_asking),
                _ => {}
            }
            if let EndpointEvent::Regranted(peer) = &event {
                self.set_limits(*peer);
                self.end_withdrawn(now, *peer);
            }
            self.events.push_back(Event::Endpoint(event));
        }
    }

    /// Hands out streams that have completed their handshake, each once.
    pub(super) fn hand_out_arrivals(&mut self, now: Instant) {
        while let Some((peer, key)) = self.shared.agenda.next_arrival() {
            let flow = self.slots.get_mut(peer).and_then(|stack| stack.flows.get_mut(&key));
            let Some(flow) = flow.filter(|flow| flow.accepting.is_some()) else { continue };
            if flow.end.is_some() {
                abandon(now, flow, &mut self.streams, &mut self.ports);
            } else if let Some(port) = flow.accepting.take() {
                self.events.push_back(Event::Incoming { port, stream: flow.id });
                flow.list(&mut self.shared.agenda);
            }
        }
    }

    /// Ends the streams of a peer that `pick` picks: the tunnel is gone, and with it everything in flight. Bytes that have
    /// arrived can still be read.
    fn end_streams(&mut self, now: Instant, peer: PeerId, reason: ResetReason, pick: fn(&Flow) -> bool) {
        let began = self.endpoint.peer_began(peer).filter(|_| reason.is_new_beginning());
        let Some(stack) = self.slots.get_mut(peer) else { return };
        let mut asking = Vec::new();
        for (key, flow) in stack.flows.iter_mut().filter(|(_, flow)| pick(flow)) {
            // A flow without an answer has lost nothing and asks the new process; unless the old one may have acted on
            // early data, which then left before the new one began.
            if flow.is_asking() && began.is_some_and(|began| !flow.may_have_acted(began)) {
                asking.push(*key);
                continue;
            }
            flow.break_off(StreamEnd::Tunnel(reason), flow.tcp.state());
            if flow.end.is_some() {
                flow.tcp.with_mut(|socket| socket.abort());
            }
            if flow.accepting.is_some() {
                abandon(now, flow, &mut self.streams, &mut self.ports);
            } else if flow.linger.is_none() {
                flow.list(&mut self.shared.agenda);
            }
        }
        asking.into_iter().for_each(|key| stack.ask_again(key, &mut self.shared));
        stack.forget_broken_waiting();
        stack.wake_all(&mut self.shared.agenda);
        // The session or the room that the peer's flows waited for will not come any more: later flows ask anew.
        self.shared.agenda.unblock();
    }

    /// Follows the quota of a peer.
    fn set_limits(&mut self, peer: PeerId) {
        let pin = self.endpoint.identity_of(peer).and_then(|key| self.endpoint.trust().pin(&key));
        if let (Some(pin), Some(stack)) = (pin, self.slots.get_mut(peer)) {
            stack.set_limits(self.config.limits(pin), &mut self.shared.agenda);
        }
    }

    /// Resets the streams that a peer has opened to ports which it is not granted any more.
    fn end_withdrawn(&mut self, now: Instant, peer: PeerId) {
        let pin = self.endpoint.identity_of(peer).and_then(|key| self.endpoint.trust().pin(&key));
        let (Some(pin), Some(stack)) = (pin, self.slots.get_mut(peer)) else { return };
        for (key, flow) in &mut stack.flows {
            if !flow.is_granted || pin.allows(key.0) || flow.end.is_some() {
                continue;
            }
            flow.end = Some(StreamEnd::Withdrawn);
            flow.tcp.with_mut(|socket| socket.abort());
            if flow.accepting.is_some() {
                abandon(now, flow, &mut self.streams, &mut self.ports);
            } else if flow.linger.is_none() {
                flow.list(&mut self.shared.agenda);
            }
        }
        stack.wake_all(&mut self.shared.agenda);
    }

    fn handle_loose(&mut self, now: Instant, peer: PeerId, datagram: &[u8]) {
        let Some((header, payload)) = datagram.split_first_chunk::<4>() else { return };
        let (source_port, port) =
            (u16::from_be_bytes([header[0], header[1]]), u16::from_be_bytes([header[2], header[3]]));
        let Some(from) = self.endpoint.identity_of(peer) else { return };
        let granted = self.is_granted(now, peer, port);
        let is_taken = self.ports.takes_datagram(peer, port, granted);
        if is_taken && self.has_datagram_room(&from) {
            self.datagrams_waiting += 1;
            self.events.push_back(Event::Datagram { from, source_port, port, payload: payload.to_vec() });
        } else if !is_taken {
            let reason = if granted { "no_listener" } else { "not_granted" };
            self.endpoint.trace(Level::Warn, || Trace::Refused { peer, port, reason });
        }
    }

    /// True when one more datagram of this sender may wait: each may have as many as are free, so that others find room.
    fn has_datagram_room(&self, from: &IdentityKey) -> bool {
        let free = DATAGRAMS_MAX.saturating_sub(self.datagrams_waiting);
        let is_theirs = |event: &&Event| matches!(event, Event::Datagram { from: sender, .. } if sender == from);
        // Few wait as long as they are taken as they come.
        self.datagrams_waiting < free || self.events.iter().filter(is_theirs).count() < free
    }

    /// The gate: true when the peer's pin grants the port now.
    fn is_granted(&self, now: Instant, peer: PeerId, port: u16) -> bool {
        let pin = self.endpoint.identity_of(peer).and_then(|key| self.endpoint.trust().pin(&key));
        pin.is_some_and(|pin| pin.allows_at(port, self.endpoint.wall_s(now)))
    }

    /// Takes a segment without a flow: opens a stream if a listener and the gate admit that, otherwise answers with a
    /// reset.
    pub(super) fn handle_unknown(&mut self, now: Instant, peer: PeerId, bytes: &[u8]) {
        let Some(segment) = Segment::parse(bytes) else { return };
        if segment.syn && self.shared.spent.contains(peer, &segment) {
            return; // a late copy
        }
        if self.ensure_peer(now, peer).is_err() {
            return;
        }
        let (port, key, id) = (segment.destination, segment.incoming_key(), self.next_stream);
        let opens = segment.syn && !segment.ack && !segment.rst && port != 0;
        let granted = opens && self.is_granted(now, peer, port);
        let backlog = self.ports.has_room(peer, port, self.config.backlog_max).filter(|_| granted);
        if backlog == Some(false) {
            return; // the peer's TCP asks again, when there may be room
        }
        let (config, rtt) = (&self.config, self.endpoint.srtt(peer));
        let (shared, mut refused) = (&mut self.shared, None);
        let is_accepted = self.slots.with_stack(peer, |stack| {
            // The flow may exist by now: its SYN came in the same batch.
            if stack.handle_segment(now, &segment, bytes, &mut shared.agenda) {
                stack.deliver(now, &mut shared.agenda);
                return false;
            }
            let refusal = match (granted, backlog) {
                (false, _) => Some("not_granted"),
                (true, None) => Some("no_listener"),
                (true, Some(_)) => stack.refusal(),
            };
            if refusal.is_none() {
                let ring_len = stack.ring_len(config, rtt, shared);
                let mut flow = Flow::new(id, key, shared.pool.take(ring_len));
                (flow.accepting, flow.waiting, flow.is_granted) = (Some(port), Some(port), true);
                stack.accept(now, flow, (&segment, bytes), &mut shared.agenda);
            } else {
                stack.refuse(now, &segment, bytes, &mut shared.agenda);
                refused = refusal.filter(|_| opens);
            }
            refusal.is_none()
        });
        if let Some(reason) = refused {
            self.endpoint.trace(Level::Warn, || Trace::Refused { peer, port, reason });
        }
        if is_accepted == Some(true) {
            self.next_stream = id.next();
            self.streams.insert(id, (peer, key));
            self.ports.note_waiting(peer, port);
            self.endpoint.set_in_use(now, peer, true);
        }
    }
}

/// Lets go of a stream that ended before it was handed out: the application will not close it, and has not seen its
/// early data.
fn abandon(now: Instant, flow: &mut Flow, streams: &mut BTreeMap<StreamId, (PeerId, FlowKey)>, ports: &mut PortTable) {
    debug_assert!(flow.linger.is_none(), "the application cannot have closed it");
    flow.linger = Some(now);
    flow.syn = None;
    flow.accepting = None;
    if let (Some((peer, _)), Some(port)) = (streams.remove(&flow.id), flow.waiting.take()) {
        ports.note_gone(peer, port);
    }
}
