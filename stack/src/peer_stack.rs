//! Owns the TCP/IP of one peer: its flows by port pair, and the order in which they send.
//!
//! smoltcp looks at every socket of a set for every packet, so each flow has a set of its own and is found by its
//! ports: a packet costs one search in a tree, however many flows there are.

use crate::agenda::Agenda;
use crate::budget::{Budget, Usage};
use crate::config::StackConfig;
use crate::early::Early;
use crate::flow::{Flow, StreamEnd};
use crate::interface::PeerInterface;
use crate::io::{PeerIo, send_segment};
use crate::ports::EphemeralPorts;
use crate::segment::{FlowKey, Segment, TCP_HEADER_LEN};
use crate::shared::Shared;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::net::Ipv6Addr;
use core::time::Duration;
use pilot_core::endpoint::LinkHandle;
use pilot_core::{Instant, PeerId};

/// Data segments of one flow that follow each other and wait in the device as one.
struct Run {
    key: FlowKey,
    newest: Segment,
}

impl Run {
    fn is_continued_by(&self, key: FlowKey, segment: &Segment) -> bool {
        let next = self.newest.sequence.wrapping_add(self.newest.payload_len);
        self.key == key && segment.sequence == next && segment.is_plain_data()
    }
}

/// TCP/IP towards one peer.
pub(crate) struct PeerStack {
    pub(crate) flows: BTreeMap<FlowKey, Flow>,
    /// Flows that connect as soon as the tunnel stands; its round-trip time decides the size of their rings.
    waiting: Vec<FlowKey>,
    ports: EphemeralPorts,
    gathered: Option<Run>,
    io: PeerIo,
}

/// How a peer's stack is left after it was asked for segments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Egress {
    /// Nothing is left to send.
    Done,
    /// Flows wait for the endpoint: for a session, or for room in the link.
    Blocked,
    /// There are no flows any more.
    Idle,
}

impl PeerStack {
    /// A stack without flows; `seed` decides ports and initial sequence numbers, `budget` what the peer may make this node hold.
    pub(crate) fn new(
        now: Instant,
        peer: PeerId,
        (local, remote): (Ipv6Addr, Ipv6Addr),
        segment_len_max: usize,
        (seed, budget): (u64, Budget),
    ) -> Self {
        let interface = PeerInterface::new(now, local, remote, segment_len_max, seed);
        Self {
            flows: BTreeMap::new(),
            waiting: Vec::new(),
            ports: EphemeralPorts::new(seed),
            gathered: None,
            io: PeerIo::new(peer, interface, budget),
        }
    }

    // Getters.

    /// Bytes of all rings of this peer's streams.
    pub(crate) fn ring_bytes(&self) -> usize {
        self.flows.values().map(|flow| 2 * flow.ring_len()).sum()
    }

    /// What the peer uses of its budget.
    pub(crate) const fn usage(&self) -> Usage {
        self.io.budget.usage()
    }

    /// Why the peer may not have one more stream.
    pub(crate) fn refusal(&self) -> Option<&'static str> {
        self.io.budget.refusal()
    }

    /// Size of each ring of a new flow.
    pub(crate) fn ring_len(&self, config: &StackConfig, rtt: Option<Duration>, shared: &Shared) -> usize {
        config.ring_len(rtt, shared.pool.ring_bytes()).min(self.io.budget.share())
    }

    /// True while flows wait for the tunnel.
    pub(crate) const fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// An ephemeral port that is free towards `remote_port`.
    pub(crate) fn free_port(&mut self, remote_port: u16) -> Option<u16> {
        self.ports.take(|port| self.flows.contains_key(&(port, remote_port)))
    }

    // Flows.

    /// Adds a flow that connects as soon as the tunnel stands; see [`PeerStack::connect_waiting`].
    pub(crate) fn connect(&mut self, flow: Flow, agenda: &mut Agenda) {
        self.io.budget.add_stream();
        self.waiting.push(flow.key);
        self.flows.insert(flow.key, flow);
        self.io.list(agenda);
    }

    /// Gives waiting flows rings that suit the round-trip time, and lets them send their SYN: the tunnel stands.
    pub(crate) fn connect_waiting(&mut self, config: &StackConfig, rtt: Duration, shared: &mut Shared) {
        for key in core::mem::take(&mut self.waiting) {
            let ring_len = self.ring_len(config, Some(rtt), shared);
            let Some(flow) = self.flows.get_mut(&key).filter(|f| f.linger.is_none() && f.end.is_none()) else {
                continue;
            };
            flow.set_socket(shared.pool.take(ring_len));
            let connected = self.io.interface.connect(&mut flow.tcp, key);
            debug_assert!(connected || key.1 == 0, "a closed socket and two ports");
            self.io.wake(flow, &mut shared.agenda);
        }
    }

    /// Lets a flow connect anew: another process than the one that got its SYN is at the peer's.
    pub(crate) fn ask_again(&mut self, key: FlowKey, shared: &mut Shared) {
        let Some(flow) = self.flows.get_mut(&key).filter(|flow| flow.ring_len() > 0) else { return };
        shared.pool.give(flow.forget_question());
        self.io.settle(flow);
        self.waiting.push(key);
    }

    /// Lets no flow wait for the tunnel that has ended before: it would have a key handshake begun for nothing.
    pub(crate) fn forget_broken_waiting(&mut self) {
        let flows = &self.flows;
        self.waiting.retain(|key| flows.get(key).is_some_and(|flow| flow.end.is_none() && flow.linger.is_none()));
    }

    /// Adds a flow for an admitted SYN: the flow listens for exactly this pair of ports, and smoltcp sees the SYN.
    pub(crate) fn accept(
        &mut self,
        now: Instant,
        mut flow: Flow,
        (syn, bytes): (&Segment, &[u8]),
        agenda: &mut Agenda,
    ) {
        let key = flow.key;
        let is_listening = self.io.interface.listen(&mut flow.tcp, key.0);
        debug_assert!(is_listening, "a closed socket and a port that is not 0");
        let (syn, bytes, early) = syn.split(bytes);
        flow.early = Early::of_syn(&syn, bytes, early);
        flow.syn = Some(syn.sequence);
        self.io.budget.add_stream();
        self.flows.insert(key, flow);
        self.handle_segment(now, &syn, bytes, agenda);
    }

    /// Runs `f` on a flow, with the budget of which it takes; `None` for an unknown one. The flow is asked for segments when the
    /// second part of the result is true.
    pub(crate) fn with_flow<R>(
        &mut self,
        key: FlowKey,
        agenda: &mut Agenda,
        f: impl FnOnce(&mut Flow, &Budget) -> (R, bool),
    ) -> Option<R> {
        let flow = self.flows.get_mut(&key)?;
        let (result, may_send) = f(flow, &self.io.budget);
        self.io.settle(flow);
        if core::mem::take(&mut flow.is_held_back) {
            self.io.starve(flow);
        }
        if may_send || flow.owes_window {
            self.io.wake(flow, agenda);
        }
        if flow.is_over() && flow.ring_len() == 0 {
            self.forget_unasked(key, agenda);
        }
        self.relieve(agenda);
        Some(result)
    }

    /// Drops a flow that the application has given up before its SYN was sent. Nothing is left to say to the peer, which may not
    /// have a tunnel for long.
    fn forget_unasked(&mut self, key: FlowKey, agenda: &mut Agenda) {
        let Some(mut flow) = self.flows.remove(&key) else { return };
        debug_assert!(flow.syn.is_none(), "a stream of the peer has rings");
        self.io.settle_last(&mut flow);
        agenda.move_deadline(flow.deadline, None, self.io.peer, key);
        self.waiting.retain(|waiting| *waiting != key);
        self.io.sending.retain(|sending| *sending != key);
        self.io.list(agenda); // which lets go of a stack without flows
    }

    // Memory.

    /// The owner has decided anew what the peer may use.
    pub(crate) fn set_limits(&mut self, (memory, streams): (usize, usize), agenda: &mut Agenda) {
        self.io.budget.set(memory, streams);
        self.relieve(agenda);
    }

    /// Counts the bytes that the application keeps for a flow; gives the room for more. Without any, the application looks at the
    /// stream again when there is some.
    pub(crate) fn keep(&mut self, key: FlowKey, kept: usize, agenda: &mut Agenda) -> Option<usize> {
        let flow = self.flows.get_mut(&key)?;
        flow.kept = kept;
        self.io.settle(flow);
        let room = self.io.budget.room_to_keep(kept);
        if room == 0 {
            self.io.starve(flow);
        }
        self.relieve(agenda);
        Some(room)
    }

    /// Lets flows go on that waited for memory, when some was freed.
    #[inline]
    fn relieve(&mut self, agenda: &mut Agenda) {
        if !self.io.budget.starved.is_empty() {
            self.relieve_starved(agenda);
        }
    }

    fn relieve_starved(&mut self, agenda: &mut Agenda) {
        for key in self.io.budget.relieved() {
            let Some(flow) = self.flows.get_mut(&key) else { continue };
            (flow.is_starved, flow.owes_window, flow.asks_again) = (false, true, true);
            self.io.wake(flow, agenda);
            if flow.linger.is_none() && flow.accepting.is_none() {
                flow.list(agenda);
            }
        }
    }

    /// Lists all flows among those that may have something to send.
    pub(crate) fn wake_all(&mut self, agenda: &mut Agenda) {
        self.flows.values_mut().for_each(|flow| self.io.wake(flow, agenda));
    }

    /// Asks a flow's TCP for a segment, since its deadline has come, and gives the flow up when its time is over.
    pub(crate) fn handle_timeout(&mut self, now: Instant, key: FlowKey, agenda: &mut Agenda) {
        let Some(flow) = self.flows.get_mut(&key) else { return };
        flow.deadline = None;
        if flow.linger.is_some_and(|at| at <= now) && flow.end.is_none() {
            flow.end = Some(StreamEnd::Aborted);
            flow.tcp.with_mut(|socket| socket.abort());
        }
        self.io.wake(flow, agenda);
    }

    // Segments in.

    /// Answers a segment that belongs to no flow: smoltcp resets what is not a reset itself (RFC 9293 §3.5.2).
    pub(crate) fn refuse(&mut self, now: Instant, segment: &Segment, bytes: &[u8], agenda: &mut Agenda) {
        self.deliver(now, agenda);
        // A SYN is refused without its early data, of which the sender's TCP knows nothing.
        let bytes = if segment.syn { segment.split(bytes).1 } else { bytes };
        self.io.interface.offer(bytes);
        self.io.interface.refuse(now);
        self.io.list(agenda);
    }

    /// Takes a segment of a known flow; false when there is no such flow. Data segments that follow each other are
    /// gathered into one, which costs TCP once; call [`PeerStack::deliver`] when no more segments come for now.
    pub(crate) fn handle_segment(
        &mut self,
        now: Instant,
        segment: &Segment,
        bytes: &[u8],
        agenda: &mut Agenda,
    ) -> bool {
        if segment.syn && segment.payload_len > 0 {
            // A SYN sent again, with early data that came the first time.
            let (segment, syn, _) = segment.split(bytes);
            return self.handle_segment(now, &segment, syn, agenda);
        }
        let key = segment.incoming_key();
        let continues = self.gathered.as_ref().is_some_and(|run| run.is_continued_by(key, segment));
        if !(continues && self.io.interface.device.has_room_for(segment)) {
            self.deliver(now, agenda);
        }
        let Some(flow) = self.flows.get_mut(&key) else { return false };
        if !self.io.fits(flow, segment, agenda) {
            return true;
        }
        if let Some((reset, header)) =
            flow.reset_at_gap(segment, bytes).and_then(|header| Some((Segment::parse(&header)?, header)))
        {
            self.io.process(now, flow, (&reset, &header), agenda);
            return true;
        }
        if !flow.admit(segment, bytes) {
            self.io.settle(flow);
            return true;
        }
        match &mut self.gathered {
            Some(run) => {
                debug_assert_eq!(run.key, key, "a run of one flow");
                self.io.interface.device.extend(bytes.get(TCP_HEADER_LEN..).unwrap_or_default());
                run.newest = *segment;
            }
            None if segment.is_plain_data() && !flow.is_holding() => {
                self.io.interface.offer(bytes);
                self.gathered = Some(Run { key, newest: *segment });
            }
            None => self.io.process(now, flow, (segment, bytes), agenda),
        }
        true
    }

    /// Hands the gathered segments to TCP.
    pub(crate) fn deliver(&mut self, now: Instant, agenda: &mut Agenda) {
        if let Some(run) = self.gathered.take() {
            self.deliver_run(now, run, agenda);
        }
        self.relieve(agenda);
    }

    fn deliver_run(&mut self, now: Instant, Run { key, newest }: Run, agenda: &mut Agenda) {
        let Some(flow) = self.flows.get_mut(&key) else { return };
        if let Some(acknowledgement) = flow.acknowledgement(&newest) {
            self.io.interface.device.set_acknowledgement(acknowledgement);
        }
        self.io.interface.receive(now, &mut flow.tcp);
        self.io.look_after(now, flow, agenda);
    }

    // Segments out.

    /// Lets flows send in turn, one packet each, while the link has room; hands the packets to `link`.
    pub(crate) fn poll_egress(
        &mut self,
        now: Instant,
        segment_len_max: usize,
        link: &mut LinkHandle<'_>,
        shared: &mut Shared,
    ) -> Egress {
        self.deliver(now, &mut shared.agenda);
        self.io.interface.set_segment_len_max(now, segment_len_max);
        self.send_answers(now, link, &mut shared.agenda);
        let mut room = link.room();
        while let Some(key) = self.io.sending.front().copied() {
            if room == 0 {
                return Egress::Blocked;
            }
            self.io.sending.pop_front();
            let Some(flow) = self.flows.get_mut(&key) else { continue };
            self.io.interface.device.take_spare(link.spare_buffers());
            let sent = self.io.interface.transmit(flow.time_for_tcp(now), &mut flow.tcp);
            if sent {
                // A full segment is rarely the last: TCP is asked for the next one without looking whether there is
                // one.
                let is_full = self.io.interface.device.is_last_full();
                self.io.send(now, flow, link, &mut shared.agenda);
                room = link.room();
                if is_full {
                    self.io.sending.push_back(key);
                    continue;
                }
            }
            // After TCP's own acknowledgement, which would take its place in the link.
            self.io.tell_window(flow, link);
            let wanted = self.io.interface.poll_at(now, &flow.tcp);
            if sent && wanted.is_some_and(|at| at <= now) {
                self.io.sending.push_back(key);
                continue;
            }
            flow.is_sending = false;
            if flow.is_over() {
                self.forget(now, key, shared);
            } else {
                self.io.note_deadline(now, flow, wanted, &mut shared.agenda);
            }
        }
        self.state()
    }

    /// Forgets flows the application is done with, for a peer that the endpoint does not know any more.
    pub(crate) fn poll_without_peer(&mut self, now: Instant, shared: &mut Shared) -> Egress {
        while let Some(key) = self.io.sending.pop_front() {
            let Some(flow) = self.flows.get_mut(&key) else { continue };
            flow.is_sending = false;
            if flow.is_over() {
                self.forget(now, key, shared);
            }
        }
        if self.flows.is_empty() { Egress::Idle } else { Egress::Done }
    }

    fn state(&self) -> Egress {
        debug_assert!(self.io.interface.device.outgoing.is_empty(), "everything that TCP wrote has left");
        match (self.waiting.is_empty(), self.flows.is_empty()) {
            (false, _) => Egress::Blocked,
            (true, false) => Egress::Done,
            (true, true) => Egress::Idle,
        }
    }

    /// Drops a flow that is over.
    fn forget(&mut self, now: Instant, key: FlowKey, shared: &mut Shared) {
        let Some(mut flow) = self.flows.remove(&key) else { return };
        self.io.settle_last(&mut flow);
        self.relieve(&mut shared.agenda);
        let peer = self.io.peer;
        shared.agenda.move_deadline(flow.deadline, None, peer, key);
        if flow.ring_len() == 0 {
            self.waiting.retain(|waiting| *waiting != key); // its SYN was never sent
        }
        if let Some(sequence) = flow.syn {
            shared.spent.note(now, peer, key, sequence);
        }
        shared.pool.give(flow.tcp);
    }

    /// Sends the segments with which TCP answered at once: resets, and acknowledgements that do not wait.
    fn send_answers(&mut self, now: Instant, link: &mut LinkHandle<'_>, agenda: &mut Agenda) {
        for mut packet in core::mem::take(&mut self.io.interface.device.outgoing) {
            let Some(segment) = Segment::parse(packet.bytes()) else { continue };
            match self.flows.get_mut(&segment.outgoing_key()) {
                Some(flow) => {
                    self.io.cap_window(flow, &segment, &mut packet);
                    let len_max = self.io.interface.device.segment_len_max;
                    let early = send_segment((now, len_max), flow, segment, packet, link);
                    self.io.take_early(now, flow, early, agenda);
                }
                None if segment.is_pure_ack() => link.send_pure_ack(segment.label(), packet),
                None => link.send_packet(packet),
            }
        }
    }

    /// Notes that the peer is in none of the agenda's lists of peers.
    pub(crate) const fn note_unlisted(&mut self) {
        self.io.is_listed = false;
    }
}
