//! Owns the way of segments between a peer's flows, smoltcp and the link.

use crate::agenda::Agenda;
use crate::budget::{Budget, Held};
use crate::flow::{Flow, Resend, StreamEnd};
use crate::interface::PeerInterface;
use crate::segment::{FlowKey, Segment, raise_mss, window_scale};
use alloc::borrow::Cow;
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::time::Duration;
use pilot_core::endpoint::LinkHandle;
use pilot_core::link::Packet;
use pilot_core::{Instant, PeerId};
use smoltcp::socket::tcp;

/// All of a peer's stack but its flows, so that a flow and the rest can be used at once.
pub(crate) struct PeerIo {
    pub(crate) peer: PeerId,
    pub(crate) interface: PeerInterface,
    /// Flows that may have something to send, in turn.
    pub(crate) sending: VecDeque<FlowKey>,
    /// The peer is in one of the agenda's lists of peers.
    pub(crate) is_listed: bool,
    pub(crate) budget: Budget,
}

impl PeerIo {
    pub(crate) const fn new(peer: PeerId, interface: PeerInterface, budget: Budget) -> Self {
        Self { peer, interface, sending: VecDeque::new(), is_listed: false, budget }
    }

    // Memory.

    /// Counts what the flow holds now.
    pub(crate) fn settle(&mut self, flow: &mut Flow) {
        let now = flow.holds();
        if now != flow.held {
            self.budget.replace(flow.held, now);
            // A flow that reads its own bytes need not wait for what others free.
            if (flow.is_starved || flow.has_gap()) && now.received < flow.held.received {
                (flow.owes_window, flow.asks_again) = (true, true);
            }
            flow.held = now;
        }
    }

    /// Counts a flow no more.
    pub(crate) fn settle_last(&mut self, flow: &mut Flow) {
        self.budget.remove_stream(core::mem::take(&mut flow.held));
        debug_assert_eq!(flow.held, Held::default(), "nothing is counted twice");
    }

    /// Notes that the budget holds a flow back, which is told when there is room.
    pub(crate) fn starve(&mut self, flow: &mut Flow) {
        if !core::mem::replace(&mut flow.is_starved, true) {
            self.budget.starved.push(flow.key);
        }
    }

    /// True when a segment with payload fits the budget. One that does not is dropped: the peer is told how much fits, and its
    /// TCP sends the bytes again.
    pub(crate) fn fits(&mut self, flow: &mut Flow, segment: &Segment, agenda: &mut Agenda) -> bool {
        let len = segment.payload_len as usize;
        if len > 0 && flow.is_behind_gap(segment) {
            flow.note_dropped(segment.end());
            return false; // what was dropped before comes again, and this with it
        }
        let mut fits = len == 0 || self.budget.takes(flow.held.received, len);
        if !fits && flow.make_room_for(segment) {
            // The bytes behind a gap would keep the gap from being filled.
            self.settle(flow);
            fits = self.budget.takes(flow.held.received, len);
        }
        if !fits {
            self.starve(flow);
            flow.owes_window = true;
            flow.note_dropped(segment.end());
            self.wake(flow, agenda);
        }
        fits
    }

    /// Tells the peer a flow's window where TCP has no reason to.
    pub(crate) fn tell_window(&mut self, flow: &mut Flow, link: &mut LinkHandle<'_>) {
        if !core::mem::take(&mut flow.owes_window) {
            return;
        }
        let cap = self.budget.window(flow.held.received) + flow.out_of_order();
        if cap + flow.tcp.recv_queue() < flow.ring_len() {
            self.starve(flow);
        }
        if let Some(bytes) = flow.window_segment(cap)
            && let Some(segment) = Segment::parse(&bytes)
        {
            link.send_pure_ack(segment.label(), bytes.into());
        }
    }

    /// Makes the window in a segment as small as the budget asks for.
    pub(crate) fn cap_window(&mut self, flow: &mut Flow, segment: &Segment, packet: &mut Packet) {
        let window = usize::from(segment.window);
        if segment.syn || segment.rst || self.budget.allows_window(window << flow.window_scale) {
            return;
        }
        let cap = self.budget.window(flow.held.received) + flow.out_of_order();
        let most = cap >> flow.window_scale;
        if window > most {
            self.starve(flow);
            if let Some(window) = packet.bytes_mut().get_mut(14..16) {
                window.copy_from_slice(&(most as u16).to_be_bytes());
            }
        }
    }

    /// Lists the peer among those that may have something to send.
    pub(crate) fn list(&mut self, agenda: &mut Agenda) {
        if !core::mem::replace(&mut self.is_listed, true) {
            agenda.add_sending(self.peer);
        }
    }

    /// Lists the flow among those that may have something to send, and its peer.
    pub(crate) fn wake(&mut self, flow: &mut Flow, agenda: &mut Agenda) {
        if !core::mem::replace(&mut flow.is_sending, true) {
            self.sending.push_back(flow.key);
        }
        self.list(agenda);
    }

    /// Hands a segment to TCP, and behind it the segments that waited for it.
    pub(crate) fn process(
        &mut self,
        now: Instant,
        flow: &mut Flow,
        (segment, bytes): (&Segment, &[u8]),
        agenda: &mut Agenda,
    ) {
        let before = flow.tcp.state();
        let mut is_asking = before != tcp::State::Established;
        let (mut bytes, mut next) = (Cow::Borrowed(bytes), *segment);
        loop {
            let fin = if next.fin { flow.only_fin(&next, &bytes) } else { None };
            self.interface.offer(fin.as_deref().unwrap_or(&bytes));
            if let Some(acknowledgement) = flow.acknowledgement(&next) {
                self.interface.device.set_acknowledgement(acknowledgement);
            }
            self.interface.receive(now, &mut flow.tcp);
            if is_asking && flow.tcp.state() == tcp::State::Established {
                is_asking = false;
                flow.on_established();
            }
            if next.syn && flow.is_asking() {
                flow.on_foreign_syn();
            }
            let Some((after, held)) = flow.release().and_then(|held| Some((Segment::parse(&held)?, held))) else {
                break;
            };
            (next, bytes) = (after, Cow::Owned(held));
        }
        let after = flow.tcp.state();
        if segment.rst && after == tcp::State::Closed && before != tcp::State::Closed {
            flow.note_reset(segment, before);
        }
        if before == tcp::State::SynReceived && after == tcp::State::Listen {
            // The peer gave the stream up. TCP would go on to listen for another SYN (RFC 9293 §3.10.7.4), which gets a
            // flow of its own.
            flow.end.get_or_insert(StreamEnd::Reset);
            flow.tcp.with_mut(|socket| socket.abort());
        }
        self.look_after(now, flow, agenda);
    }

    /// After TCP has taken a segment in: lets the application look, and TCP send now or later.
    pub(crate) fn look_after(&mut self, now: Instant, flow: &mut Flow, agenda: &mut Agenda) {
        self.settle(flow);
        if flow.linger.is_some() {
            flow.reset_lossy();
        } else if flow.accepting.is_none() {
            flow.list(agenda);
        } else if flow.end.is_some() || flow.tcp.state() != tcp::State::SynReceived {
            agenda.add_arrival(self.peer, flow.key);
        }
        let wanted = self.interface.poll_at(now, &flow.tcp);
        let is_ending = flow.end.is_some() || flow.linger.is_some() || flow.accepting.is_some();
        if is_ending || flow.resend == Resend::Wanted || wanted.is_some_and(|at| at <= now) {
            self.wake(flow, agenda);
        } else {
            self.note_deadline(now, flow, wanted, agenda);
        }
        if !self.interface.device.outgoing.is_empty() {
            self.list(agenda); // TCP wrote an answer at once
        }
    }

    /// Sends the segments that TCP wrote for this flow.
    pub(crate) fn send(&mut self, now: Instant, flow: &mut Flow, link: &mut LinkHandle<'_>, agenda: &mut Agenda) {
        let mut early = None;
        let mut outgoing = core::mem::take(&mut self.interface.device.outgoing);
        for mut packet in outgoing.drain(..) {
            let Some(segment) = Segment::parse(packet.bytes()) else { continue };
            debug_assert_eq!(segment.outgoing_key(), flow.key, "a set holds one socket");
            flow.note_announced();
            self.cap_window(flow, &segment, &mut packet);
            let len_max = self.interface.device.segment_len_max;
            early = early.or(send_segment((now, len_max), flow, segment, packet, link));
        }
        self.interface.device.outgoing = outgoing;
        self.take_early(now, flow, early, agenda);
    }

    /// Hands the peer's early data to TCP, once TCP has answered the SYN that brought them.
    pub(crate) fn take_early(&mut self, now: Instant, flow: &mut Flow, early: Option<Vec<u8>>, agenda: &mut Agenda) {
        if let Some(bytes) = early
            && let Some(segment) = Segment::parse(&bytes)
            && flow.admit(&segment, &bytes)
        {
            self.process(now, flow, (&segment, &bytes), agenda);
        }
    }

    /// Notes when TCP wants to be asked for a segment again.
    pub(crate) fn note_deadline(&self, now: Instant, flow: &mut Flow, wanted: Option<Instant>, agenda: &mut Agenda) {
        // A deadline in the past would spin when nothing can be sent.
        let wanted = wanted.map(|at| at.max(now + Duration::from_millis(1)));
        let wanted = pilot_core::time::earliest(wanted, flow.linger);
        // A deadline only moves to an earlier time. When the old time has come, TCP says the new one; so a packet moves
        // no deadline.
        if let Some(wanted) = wanted
            && flow.deadline.is_none_or(|deadline| wanted < deadline)
        {
            agenda.move_deadline(flow.deadline, Some(wanted), self.peer, flow.key);
            flow.deadline = Some(wanted);
        }
    }
}

/// Sends a segment of a flow, on a path that carries segments of `len_max` bytes. The result is the peer's early data, when this
/// segment answers the SYN that brought them.
pub(crate) fn send_segment(
    (now, len_max): (Instant, usize),
    flow: &mut Flow,
    mut segment: Segment,
    mut packet: Packet,
    link: &mut LinkHandle<'_>,
) -> Option<Vec<u8>> {
    if flow.end.is_some_and(StreamEnd::is_peer_gone) {
        return None; // a reset for a process that is gone would begin a key handshake
    }
    if segment.is_pure_ack() {
        link.send_pure_ack(segment.label(), packet);
        return None;
    }
    let mut early = None;
    if segment.syn {
        flow.window_scale = window_scale(packet.bytes());
        raise_mss(packet.bytes_mut());
        let early_out = flow.early_out(now, len_max.saturating_sub(packet.bytes().len()));
        if !early_out.is_empty() {
            packet.append(early_out);
            segment.payload_len = early_out.len() as u32;
        }
        early = flow.early.take_theirs(segment.sequence);
    }
    if !flow.early.is_repeated_by(&segment) && !is_needless(flow, &segment, packet.bytes(), link) {
        link.send_packet(packet);
    }
    early
}

/// True for a segment that TCP resends while the link still carries packets of this flow, which will arrive. A long
/// wait for the congestion window looks like loss to TCP, which then sends everything again.
fn is_needless(flow: &mut Flow, segment: &Segment, bytes: &[u8], link: &LinkHandle<'_>) -> bool {
    let resent = segment.sequence_len() > 0 && flow.is_resent(segment);
    if segment.sequence_len() > 0 && !resent {
        flow.resend = Resend::No;
    }
    resent
        && flow.resend == Resend::No
        && bytes.first_chunk::<4>().is_some_and(|ports| link.holds(|held| held.starts_with(ports)))
}
