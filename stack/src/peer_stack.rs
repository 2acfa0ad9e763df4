//! Owns the TCP/IP of one peer: a smoltcp interface, its flows by port pair, and which of them may have something to do.
//!
//! smoltcp looks at every socket of a set for every packet, so each flow has a set of its own and is found by its ports:
//! a packet costs one search among them, however many there are.

use crate::device::PeerDevice;
use crate::early::Early;
use crate::flow::{Flow, SocketPool, StreamEnd};
use crate::ports::EphemeralPorts;
use crate::segment::{FlowKey, Segment, TCP_HEADER_LEN, raise_mss};
use crate::stream_id::StreamId;
use alloc::borrow::Cow;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;
use core::net::Ipv6Addr;
use pilot_core::Instant;
use pilot_core::endpoint::Outbox;
use smoltcp::iface::{Interface, PollResult, SocketSet};
use smoltcp::socket::tcp;
use smoltcp::wire::{HardwareAddress, IpAddress, IpCidr};

/// Data segments that follow each other, waiting in the device as one.
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

pub(crate) struct PeerStack {
    interface: Interface,
    seed: u64,
    device: PeerDevice,
    local: Ipv6Addr,
    remote: Ipv6Addr,
    pub(crate) flows: BTreeMap<FlowKey, Flow>,
    gathered: Option<Run>,
    /// Flows that may have something to send, in turn.
    pub(crate) ready: VecDeque<FlowKey>,
    /// Flows the application should look at.
    pub(crate) changed: Vec<StreamId>,
    /// Timers that moved: old, new, flow.
    pub(crate) moved_timers: Vec<(Option<Instant>, Option<Instant>, FlowKey)>,
    /// Flows that are over and had come with early data: key, sequence number of the SYN.
    pub(crate) spent: Vec<(FlowKey, u32)>,
    /// Flows that connect as soon as the tunnel stands: its round trip decides the size of their rings.
    waiting: Vec<FlowKey>,
    ports: EphemeralPorts,
}

pub(crate) fn smol_time(now: Instant) -> smoltcp::time::Instant {
    smoltcp::time::Instant::from_micros(now.as_micros() as i64)
}

fn core_time(at: smoltcp::time::Instant) -> Instant {
    Instant::from_micros(at.total_micros().max(0) as u64)
}

fn interface(now: Instant, device: &mut PeerDevice, local: Ipv6Addr, seed: u64) -> Interface {
    let mut config = smoltcp::iface::Config::new(HardwareAddress::Ip);
    config.random_seed = seed;
    let mut interface = Interface::new(config, device, smol_time(now));
    interface.update_ip_addrs(|addrs| {
        // The table starts empty and takes at least one.
        let _ = addrs.push(IpCidr::new(IpAddress::from(local), 0));
    });
    interface
}

impl PeerStack {
    pub(crate) fn new(now: Instant, local: Ipv6Addr, remote: Ipv6Addr, segment_len_max: usize, seed: u64) -> Self {
        let mut device = PeerDevice::new(segment_len_max);
        Self {
            interface: interface(now, &mut device, local, seed),
            seed,
            device,
            local,
            remote,
            flows: BTreeMap::new(),
            gathered: None,
            ready: VecDeque::new(),
            changed: Vec::new(),
            moved_timers: Vec::new(),
            spent: Vec::new(),
            waiting: Vec::new(),
            ports: EphemeralPorts::new(seed),
        }
    }

    fn endpoint_of(address: Ipv6Addr, port: u16) -> (IpAddress, u16) {
        (IpAddress::from(address), port)
    }

    /// An ephemeral port that is free towards `remote_port`.
    pub(crate) fn free_port(&mut self, remote_port: u16) -> Option<u16> {
        self.ports.take(|port| self.flows.contains_key(&(port, remote_port)))
    }

    /// Bytes of all rings of this peer's streams.
    pub(crate) fn ring_bytes(&self) -> usize {
        self.flows.values().map(|flow| 2 * flow.ring_len()).sum()
    }

    /// True when flows wait for the tunnel.
    pub(crate) const fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Adds a flow that will connect; see [`PeerStack::connect_waiting`].
    pub(crate) fn connect(&mut self, flow: Flow, key: FlowKey) {
        self.flows.insert(key, flow);
        self.waiting.push(key);
    }

    /// The tunnel stands: waiting flows get rings of the size that `ring_len` finds, given the bytes of all rings, and ask
    /// the peer.
    pub(crate) fn connect_waiting(&mut self, pool: &mut SocketPool, ring_len: impl Fn(usize) -> usize) {
        for key in core::mem::take(&mut self.waiting) {
            let Some(flow) = self.flows.get_mut(&key).filter(|f| f.linger.is_none() && f.end.is_none()) else {
                continue;
            };
            flow.set_socket(pool.take(ring_len(pool.ring_bytes())));
            let remote = Self::endpoint_of(self.remote, key.1);
            let connected = flow.socket_mut().connect(self.interface.context(), remote, key.0);
            debug_assert!(connected.is_ok(), "a closed socket and two ports that are not zero");
            self.make_ready(key);
        }
    }

    /// Another process is there than the one that was asked: the flow connects anew, and at once.
    pub(crate) fn ask_again(&mut self, key: FlowKey, pool: &mut SocketPool) {
        let Some(flow) = self.flows.get_mut(&key).filter(|flow| flow.ring_len() > 0) else { return };
        pool.give(flow.forget_question());
        self.waiting.push(key);
    }

    /// A SYN was admitted: listen for exactly this pair of ports, and let smoltcp see it. Gives the flow back when nothing
    /// can listen on its port (0).
    pub(crate) fn accept(&mut self, now: Instant, mut flow: Flow, segment: &Segment, bytes: &[u8]) -> Result<(), Flow> {
        let key = segment.incoming_key();
        if flow.socket_mut().listen(Self::endpoint_of(self.local, key.0)).is_err() {
            return Err(flow);
        }
        let (segment, syn, early) = segment.split(bytes);
        flow.early = Early::of_syn(&segment, syn, early);
        flow.early_syn = matches!(flow.early, Early::Theirs(_)).then_some(segment.sequence);
        self.flows.insert(key, flow);
        self.handle_segment(now, &segment, syn);
        Ok(())
    }

    /// Answers a segment that belongs to no flow: smoltcp resets what is not a reset itself (RFC 9293 §3.5.2).
    pub(crate) fn refuse(&mut self, now: Instant, segment: &Segment, bytes: &[u8]) {
        self.deliver(now);
        // Of a SYN with early data the SYN alone is refused: its sender's TCP knows of nothing else.
        let bytes = if segment.syn { segment.split(bytes).1 } else { bytes };
        self.device.offer(bytes, self.remote, self.local);
        let mut nobody = SocketSet::new(Vec::new());
        self.interface.poll_ingress_single(smol_time(now), &mut self.device, &mut nobody);
    }

    /// Takes a segment of a known flow; false when there is no such flow. A run of data segments is gathered into one, which
    /// costs TCP once; call [`PeerStack::deliver`] when no more segments come for now.
    pub(crate) fn handle_segment(&mut self, now: Instant, segment: &Segment, bytes: &[u8]) -> bool {
        if segment.syn && segment.payload_len > 0 {
            // Asked again, with the early data that is here since the first time.
            let (segment, syn, _) = segment.split(bytes);
            return self.handle_segment(now, &segment, syn);
        }
        let key = segment.incoming_key();
        let continues = self.gathered.as_ref().is_some_and(|run| run.is_continued_by(key, segment));
        if !(continues && self.device.has_room_for(segment)) {
            self.deliver(now);
        }
        let Some(flow) = self.flows.get_mut(&key) else { return false };
        if !flow.admit(segment, bytes) {
            return true;
        }
        match &mut self.gathered {
            Some(run) => {
                self.device.extend(bytes.get(TCP_HEADER_LEN..).unwrap_or_default());
                run.newest = *segment;
            }
            None if segment.is_plain_data() && !flow.is_holding() => {
                self.device.offer(bytes, self.remote, self.local);
                self.gathered = Some(Run { key, newest: *segment });
            }
            None => self.process(now, segment, bytes),
        }
        true
    }

    /// Hands what was gathered to TCP.
    pub(crate) fn deliver(&mut self, now: Instant) {
        let Some(Run { key, newest }) = self.gathered.take() else { return };
        let Some(flow) = self.flows.get_mut(&key) else { return };
        if let Some(acknowledgement) = flow.acknowledgement(&newest) {
            self.device.set_acknowledgement(acknowledgement);
        }
        self.interface.poll_ingress_single(smol_time(now), &mut self.device, &mut flow.set);
        self.look_after(key);
    }

    /// Hands a segment to TCP, and behind it what was held back until it came.
    fn process(&mut self, now: Instant, segment: &Segment, bytes: &[u8]) {
        let key = segment.incoming_key();
        let Some(flow) = self.flows.get_mut(&key) else { return };
        let before = flow.socket().state();
        let mut is_asking = before != tcp::State::Established;
        let (mut bytes, mut next) = (Cow::Borrowed(bytes), *segment);
        loop {
            self.device.offer(&bytes, self.remote, self.local);
            if let Some(acknowledgement) = flow.acknowledgement(&next) {
                self.device.set_acknowledgement(acknowledgement);
            }
            self.interface.poll_ingress_single(smol_time(now), &mut self.device, &mut flow.set);
            if is_asking && flow.socket().state() == tcp::State::Established {
                is_asking = false;
                flow.on_established();
            }
            let Some((after, held)) = flow.release().and_then(|held| Some((Segment::parse(&held)?, held))) else {
                break;
            };
            (next, bytes) = (after, Cow::Owned(held));
        }
        let after = flow.socket().state();
        if segment.rst && after == tcp::State::Closed && before != tcp::State::Closed && flow.end.is_none() {
            let refused = before == tcp::State::SynSent;
            flow.end = Some(if refused { StreamEnd::Refused } else { StreamEnd::Reset });
        }
        if before == tcp::State::SynReceived && after == tcp::State::Listen {
            // Given up by its opener. TCP would go on to listen for the next (RFC 9293 §3.10.7.4), which gets a flow of its own.
            flow.end.get_or_insert(StreamEnd::Reset);
            flow.socket_mut().abort();
        }
        self.look_after(key);
    }

    /// TCP has taken something in: the application looks, and there may be something to send.
    fn look_after(&mut self, key: FlowKey) {
        let Some(flow) = self.flows.get_mut(&key) else { return };
        if flow.linger.is_some() {
            // Nobody will read it; taking it keeps the window open for the FIN.
            while flow.socket_mut().recv(|bytes| (bytes.len(), bytes.len())).is_ok_and(|n| n > 0) {}
        }
        if !flow.notified {
            flow.notified = true;
            self.changed.push(flow.id);
        }
        self.make_ready(key);
    }

    pub(crate) fn make_ready(&mut self, key: FlowKey) {
        if let Some(flow) = self.flows.get_mut(&key)
            && !flow.queued
        {
            flow.queued = true;
            self.ready.push_back(key);
        }
    }

    /// Lets flows send in turn, one packet each, while the link has room; hands the packets to `outbox`.
    /// True when flows are left that only wait for room.
    pub(crate) fn poll_egress(
        &mut self,
        now: Instant,
        segment_len_max: usize,
        outbox: &mut Outbox<'_>,
        pool: &mut SocketPool,
    ) -> bool {
        self.deliver(now);
        self.follow_path(now, segment_len_max);
        self.flush(now, outbox);
        let mut room = outbox.room();
        while let Some(key) = self.ready.front().copied() {
            if room == 0 {
                return true;
            }
            self.ready.pop_front();
            let Some(flow) = self.flows.get_mut(&key) else { continue };
            self.device.take_spare(outbox.spare_buffers());
            let result = self.interface.poll_egress(smol_time(now), &mut self.device, &mut flow.set);
            if result == PollResult::None && self.device.outgoing.is_empty() {
                flow.queued = false;
                self.settle(now, key, pool);
                continue;
            }
            self.ready.push_back(key);
            self.flush(now, outbox);
            room = outbox.room();
        }
        false
    }

    /// smoltcp asks for the size of packets once, when the interface is made; the interface itself has no state to lose.
    fn follow_path(&mut self, now: Instant, segment_len_max: usize) {
        if self.device.segment_len_max != segment_len_max {
            self.device.segment_len_max = segment_len_max;
            self.seed = self.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1); // new initial sequence numbers
            self.interface = interface(now, &mut self.device, self.local, self.seed);
        }
    }

    /// Nothing to send now: remember when smoltcp wants to be asked again, or forget the flow.
    fn settle(&mut self, now: Instant, key: FlowKey, pool: &mut SocketPool) {
        let Some(flow) = self.flows.get_mut(&key) else { return };
        if flow.is_over() {
            self.moved_timers.push((flow.timer, None, key));
            if flow.ring_len() == 0 {
                self.waiting.retain(|waiting| *waiting != key); // it never got to ask
            }
            if let Some(flow) = self.flows.remove(&key) {
                self.spent.extend(flow.early_syn.map(|sequence| (key, sequence)));
                pool.give(flow.into_socket());
            }
            return;
        }
        let wanted = self.interface.poll_at(smol_time(now), &flow.set).map(core_time);
        // A deadline that has passed although nothing was sent would spin.
        let wanted = wanted.map(|at| at.max(now + core::time::Duration::from_millis(1)));
        let wanted = pilot_core::time::earliest(wanted, flow.linger);
        // Only ever earlier: what is put off is found out when the old time has come, so that a packet moves no timer.
        if let Some(wanted) = wanted
            && flow.timer.is_none_or(|timer| wanted < timer)
        {
            self.moved_timers.push((flow.timer, Some(wanted), key));
            flow.timer = Some(wanted);
        }
    }

    fn flush(&mut self, now: Instant, outbox: &mut Outbox<'_>) {
        let mut came_early = None;
        for mut packet in self.device.outgoing.drain(..) {
            let Some(mut segment) = Segment::parse(packet.bytes()) else { continue };
            let flow = self.flows.get_mut(&(segment.source, segment.destination));
            if flow.as_ref().is_some_and(|flow| flow.end.is_some_and(StreamEnd::is_peer_gone)) {
                continue; // a reset for nobody, for which an exchange would begin
            }
            if segment.is_pure_ack() {
                outbox.send_pure_ack(u32::from(segment.source) << 16 | u32::from(segment.destination), packet);
                continue;
            }
            let Some(flow) = flow else {
                outbox.send_packet(packet);
                continue;
            };
            if segment.syn {
                raise_mss(packet.bytes_mut());
                if let Early::Ours(bytes) = &flow.early {
                    packet.append(bytes);
                    segment.payload_len = bytes.len() as u32;
                }
                came_early = came_early.or_else(|| flow.early.take_theirs(segment.sequence));
            }
            if !flow.early.is_repeated_by(&segment) && !is_needless(flow, &segment, packet.bytes(), outbox) {
                outbox.send_packet(packet);
            }
        }
        if let Some(bytes) = came_early {
            self.take_early(now, &bytes);
        }
    }

    /// TCP has answered a SYN: it gets what came with it.
    fn take_early(&mut self, now: Instant, bytes: &[u8]) {
        if let Some(segment) = Segment::parse(bytes)
            && let Some(flow) = self.flows.get_mut(&segment.incoming_key())
            && flow.admit(&segment, bytes)
        {
            self.process(now, &segment, bytes);
        }
    }

    pub(crate) fn has_outgoing(&self) -> bool {
        !self.device.outgoing.is_empty()
    }
}

/// True for a segment that TCP resends although the link still has this flow's packets and will deliver them. A long wait
/// for the congestion window would otherwise look like loss to TCP, which then sends everything again.
fn is_needless(flow: &mut Flow, segment: &Segment, bytes: &[u8], outbox: &Outbox<'_>) -> bool {
    let resent = segment.sequence_len() > 0 && flow.is_resent(segment);
    resent && bytes.first_chunk().is_some_and(|ports| outbox.holds_flow(*ports))
}
