//! The link: one per peer, inside the tunnel. It makes a lossy path look loss-free to the TCP stack above, and holds
//! the one congestion controller that all streams to the peer share (`docs/link.md`).
//!
//! Flow of a packet out: `enqueue_packet` → `poll_frames` when window and pacing allow → sealed by the
//! peer → `on_sent`, which keeps the bytes until they are acknowledged.
//! Flow back: `on_ack` frees them, measures the round trip, finds what is lost and queues it again.
//!
//! Packets are handed up as they come; order is TCP's business, per flow, so that a hole in one stream never holds back
//! another (see `pilot-stack`).

pub mod cc;
pub mod control;
pub mod frame;
mod late;
mod pacer;
mod packet;
mod ranges;
mod recovery;

pub use packet::{Cut, Packet, PacketKind};
pub use ranges::Urgency;

use crate::time::{Duration, Instant};
use crate::timer::{PeerTimer, Soonest};
use crate::wire::{Counter, LocalIndex, RemoteIndex};
use alloc::boxed::Box;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;
use cc::{AckSample, Controller, LossSample, TolerantCubic};
use control::{BacklogFull, ControlReceiver, ControlSender};
use frame::AckFrame;
use pacer::Pacer;
use ranges::Received;
use recovery::{Carried, Length, Load, NewlyAcked, Rtt, Sent, SentLog};

/// Packets that may wait in front of the congestion window. Source: `docs/link.md`, "Hazards met while prototyping".
pub const QUEUE_MAX: usize = 64;
/// Bytes of packets that may wait there: two batches, however large datagrams are. A longer queue delays every stream.
const QUEUE_LEN_MAX: usize = 128 * 1024;
/// Buffers of acknowledged packets kept for new ones.
const SPARE_MAX: usize = 2048;
/// Inner datagrams that may wait; the oldest goes when a new one comes.
pub const LOOSE_QUEUE_MAX: usize = 64;
/// Pure acknowledgements that may wait, one per flow.
const PURE_ACKS_MAX: usize = 16_384;
/// Sessions with datagrams that can still be acknowledged, in each direction.
const SESSIONS_MAX: usize = 4;
/// Datagrams sent without regard to the window when a probe timeout expires. Source: RFC 9002 §6.2.4.
const PROBES: u32 = 2;
/// Long datagrams lost in a row, without one that arrived, after which the path seems to swallow them. Source: own choice; at a
/// loss of 30 % that happens by chance once in 170,000 times.
const BLACK_HOLE_LOSSES: u8 = 10;
/// Unanswered probes after which the window is taken back to its minimum. Source: RFC 9002 §7.6, simplified.
const COLLAPSE_PROBES: u32 = 3;
/// Room below which no further frame is started in a datagram. Unit: bytes.
const FRAME_ROOM_MIN: usize = 48;
/// Most memory that the control stream of one peer uses in both directions: buffers double when they grow. Unit: bytes.
pub(crate) const CONTROL_LEN_MAX: usize =
    2 * (control::BACKLOG_MAX + control::HELD_LEN_MAX + 2 * control::RANGES_LEN_MAX);
/// Longest an ACK frame gets with all its ranges. Unit: bytes.
const ACK_LEN_MAX: usize = ACK_LEN_MIN + ACK_RANGE_LEN * (frame::ACK_RANGES_MAX - 1);
/// Longest ACK frame with one range, and what each further one adds at most. Unit: bytes.
const ACK_LEN_MIN: usize = 1 + 4 + 4 * 8;
const ACK_RANGE_LEN: usize = 2 * 8;

/// Counters for `info`, benchmarks and tests.
#[derive(Clone, Copy, Debug, Default)]
pub struct LinkStats {
    /// Datagrams that carried something to acknowledge.
    pub sent: u64,
    /// Datagrams declared lost.
    pub lost: u64,
    /// Probe timeouts.
    pub probes: u64,
    /// Packets too large for a path that shrank: cut, or dropped when they cannot be cut.
    pub oversized: u64,
}

/// The contents of a datagram that [`Link::poll_frames`] wrote; [`Link::on_sent`] takes it back.
pub(crate) struct Outgoing {
    carried: Load,
    counts_for_pacing: bool,
}

/// A session that this side sends under.
struct Epoch {
    index: RemoteIndex,
    /// The packet number of its counter 0; negative when the link is younger than the session.
    base: i64,
    /// The packet number of its first datagram that the link knows of.
    first: i64,
}

/// Reliability and congestion control towards one peer.
pub(crate) struct Link {
    controller: Box<dyn Controller>,
    rtt: Rtt,
    sent: SentLog,
    /// The newest sessions that this side sends under, oldest first, at most [`SESSIONS_MAX`].
    epochs: Vec<Epoch>,
    received: Vec<Received>,
    control_tx: ControlSender,
    control_rx: ControlReceiver,
    hello: Option<Vec<u8>>,
    hello_due: bool,
    ping_due: bool,
    /// Inner packets wait for a session that may carry them.
    is_held: bool,
    packets: VecDeque<Packet>,
    /// Bytes in `packets`.
    packets_len: usize,
    resend: VecDeque<Packet>,
    loose: VecDeque<Packet>,
    pure_acks: VecDeque<(u32, Packet)>,
    /// The packet number that carries each flow's newest pure acknowledgement.
    newest_pure_ack: BTreeMap<u32, u64>,
    pacer: Pacer,
    /// Buffers of packets that have arrived, to be written again.
    spare: Vec<Vec<u8>>,
    probes: u32,
    /// Since when an answer is awaited, while `probes` is not 0.
    awaited_since: Instant,
    probe_credit: u32,
    /// Datagrams of [`Length::Long`], and those of [`Length::Least`].
    long: Swallowed,
    least: Swallowed,
    stats: LinkStats,
}

/// Datagrams of a length that were lost, since the newest one of that length that arrived.
struct Swallowed {
    /// How many; those of [`Length::Least`] count once until a shorter one has arrived after them.
    lost: u8,
    newest_acked: Option<u64>,
    /// One was lost, and no shorter one has arrived since.
    is_open: bool,
}

impl Swallowed {
    const NONE: Self = Self { lost: 0, newest_acked: None, is_open: false };

    fn on_acked(&mut self, newest: Option<u64>) {
        if newest.is_some() {
            self.newest_acked = self.newest_acked.max(newest);
            self.forget();
        }
    }

    /// True when the loss of this datagram counts.
    fn counts(&self, number: u64) -> bool {
        self.newest_acked.is_none_or(|newest| newest < number)
    }

    const fn forget(&mut self) {
        (self.lost, self.is_open) = (0, false);
    }
}

impl Link {
    pub(crate) fn new(datagram_len: usize) -> Self {
        Self {
            controller: Box::new(TolerantCubic::new(datagram_len)),
            rtt: Rtt::default(),
            sent: SentLog::default(),
            epochs: Vec::new(),
            received: Vec::new(),
            control_tx: ControlSender::default(),
            control_rx: ControlReceiver::default(),
            hello: None,
            hello_due: false,
            ping_due: false,
            is_held: false,
            packets: VecDeque::new(),
            packets_len: 0,
            resend: VecDeque::new(),
            loose: VecDeque::new(),
            pure_acks: VecDeque::new(),
            newest_pure_ack: BTreeMap::new(),
            pacer: Pacer::default(),
            spare: Vec::new(),
            probes: 0,
            awaited_since: Instant::ZERO,
            probe_credit: 0,
            long: Swallowed::NONE,
            least: Swallowed::NONE,
            stats: LinkStats::default(),
        }
    }

    // Getters.

    pub(crate) const fn stats(&self) -> LinkStats {
        self.stats
    }

    pub(crate) fn srtt(&self) -> Option<Duration> {
        self.rtt.smoothed()
    }

    pub(crate) const fn min_rtt(&self) -> Duration {
        self.rtt.minimum()
    }

    pub(crate) fn window(&self) -> u64 {
        self.controller.window()
    }

    pub(crate) const fn in_flight(&self) -> u64 {
        self.sent.in_flight()
    }

    pub(crate) fn controller_name(&self) -> &'static str {
        self.controller.name()
    }

    /// Probe timeouts since something was last acknowledged.
    pub(crate) const fn unanswered_probes(&self) -> u32 {
        self.probes
    }

    /// Since when an answer is awaited that has not come within a probe timeout; `None` while all come.
    pub(crate) fn awaited_since(&self) -> Option<Instant> {
        (self.probes > 0).then_some(self.awaited_since)
    }

    /// How many more packets the stack may hand over now.
    pub(crate) fn room(&self) -> usize {
        if self.packets_len >= QUEUE_LEN_MAX { 0 } else { QUEUE_MAX.saturating_sub(self.packets.len()) }
    }

    /// True while anything waits or is in flight.
    pub(crate) fn is_busy(&self) -> bool {
        !self.sent.is_empty() || self.has_data() || self.hello_due || self.ping_due || self.control_tx.is_ready()
    }

    /// True while a packet waits or is in flight for which `is_wanted` is true. Work is bounded by the window.
    pub(crate) fn holds(&self, is_wanted: impl Fn(&[u8]) -> bool) -> bool {
        let waiting = self.packets.iter().chain(&self.resend).any(|p| is_wanted(p.bytes()));
        waiting || self.sent.any(|carried| matches!(carried, Carried::Packet(p) if is_wanted(p.bytes())))
    }

    /// Memory that the control stream uses. Unit: bytes.
    pub(crate) fn control_len(&self) -> usize {
        self.control_tx.held_len() + self.control_rx.held_len()
    }

    // Verbs.

    pub(crate) fn enqueue_packet(&mut self, segment: Packet) {
        self.packets_len += segment.len();
        self.packets.push_back(segment);
    }

    /// Buffers for new packets, if any are spare.
    pub(crate) const fn spare(&mut self) -> &mut Vec<Vec<u8>> {
        &mut self.spare
    }

    /// Queues a segment that only acknowledges; an older one of the same flow is replaced.
    pub(crate) fn enqueue_pure_ack(&mut self, flow: u32, segment: Packet) {
        if let Some(waiting) = self.pure_acks.iter_mut().rev().take(64).find(|(f, _)| *f == flow) {
            waiting.1 = segment;
        } else if self.pure_acks.len() < PURE_ACKS_MAX {
            self.pure_acks.push_back((flow, segment));
        }
    }

    pub(crate) fn enqueue_loose(&mut self, datagram: Packet) {
        if self.loose.len() == LOOSE_QUEUE_MAX {
            self.loose.pop_front();
        }
        self.loose.push_back(datagram);
    }

    /// Frees memory that only traffic needs; for a link that is not busy.
    pub(crate) fn rest(&mut self) {
        debug_assert!(!self.is_busy(), "a busy link needs its buffers");
        self.spare = Vec::new();
        self.packets.shrink_to_fit();
        self.resend.shrink_to_fit();
        self.loose.shrink_to_fit();
        self.pure_acks.shrink_to_fit();
        self.epochs.shrink_to_fit();
        self.received.shrink_to_fit();
        self.received.iter_mut().for_each(Received::rest);
        self.sent.rest();
        self.control_tx.rest();
        self.control_rx.rest();
    }

    pub(crate) fn send_control(&mut self, message: &[u8]) -> Result<(), BacklogFull> {
        self.control_tx.push(message)
    }

    /// Lets inner packets wait, or leave, from now on.
    pub(crate) const fn hold(&mut self, is_held: bool) {
        self.is_held = is_held;
    }

    /// Lets two datagrams leave beside the window.
    pub(crate) const fn hurry(&mut self) {
        self.probe_credit = PROBES;
    }

    pub(crate) const fn ping(&mut self) {
        self.ping_due = true;
    }

    /// Begins a session: its first datagrams carry `hello`, and its counter starts again.
    pub(crate) fn start_epoch(&mut self, index: RemoteIndex, next_counter: Counter, hello: Vec<u8>) {
        if self.epochs.len() == SESSIONS_MAX {
            self.epochs.remove(0);
        }
        let first = self.sent.next() as i64;
        self.epochs.push(Epoch { index, base: first - next_counter.0 as i64, first });
        (self.hello, self.hello_due) = (Some(hello), true);
        debug_assert!(self.epochs.len() <= SESSIONS_MAX);
        // Silence under the old keys says nothing about the new ones.
        self.probes = 0;
    }

    // Input.

    /// Takes the round trip of the key handshake for the first estimate (RFC 9002 §6.2.2).
    pub(crate) fn on_handshake(&mut self, rtt: Duration) {
        if self.rtt.smoothed().is_none() {
            self.rtt.update(rtt, Duration::ZERO);
        }
    }

    /// Notes that a datagram of the session with our index `local_index` was opened and its frames handled.
    pub(crate) fn on_received(&mut self, now: Instant, local_index: LocalIndex, counter: Counter, urgency: Urgency) {
        if !self.received.iter().any(|r| r.index == local_index) {
            if self.received.len() == SESSIONS_MAX {
                self.received.remove(0);
            }
            self.received.push(Received::new(local_index));
        }
        if let Some(received) = self.received.iter_mut().find(|r| r.index == local_index) {
            received.note(now, counter, urgency);
        }
    }

    /// Takes a piece of the control stream; `None` when the peer broke it for good.
    pub(crate) fn on_control(&mut self, offset: u64, bytes: &[u8]) -> Option<Vec<Vec<u8>>> {
        self.control_rx.receive(offset, bytes)
    }

    /// Takes an ACK frame that came in the session with the peer's index `remote_index`.
    pub(crate) fn on_ack(&mut self, now: Instant, remote_index: RemoteIndex, ack: &AckFrame<'_>) {
        let session = ack.session.unwrap_or(remote_index);
        let Some(at) = self.epochs.iter().position(|epoch| epoch.index == session) else { return };
        let Epoch { base, first, .. } = self.epochs[at];
        let end = self.epochs.get(at + 1).map(|next| next.first);
        let is_current = end.is_none();
        let (control_tx, newest, hello, hello_due, spare) =
            (&mut self.control_tx, &mut self.newest_pure_ack, &mut self.hello, &mut self.hello_due, &mut self.spare);
        // What left under the session before this link began, or beside it before or after the link used the session, has no
        // number and means nothing here.
        let last = end.map_or(i64::MAX, |end| end - 1);
        let number = |counter: u64| base.saturating_add(counter.min(i64::MAX as u64) as i64);
        let ranges = || {
            let ranges = ack.ranges().map(|r| (number(*r.start()).max(first), number(*r.end()).min(last)));
            ranges.filter(|(low, high)| low <= high).map(|(low, high)| (low as u64, high as u64))
        };
        let controller = &mut self.controller;
        let late = self.sent.take_late(now, ranges(), |number, bytes| controller.on_late(number, bytes));
        let acked = self.sent.acknowledge(now, ranges(), |number, carried| match carried {
            Carried::Packet(packet) if spare.len() < SPARE_MAX => spare.push(packet.into_buffer()),
            Carried::Control { offset, bytes } => control_tx.on_ack(offset, bytes.len()),
            Carried::PureAck { flow, .. } if newest.get(&flow) == Some(&number) => {
                newest.remove(&flow);
            }
            Carried::Hello if is_current => (*hello, *hello_due) = (None, false),
            _ => {}
        });
        if let Some(acked) = &acked {
            self.on_progress(now, acked, Duration::from_micros(ack.delay_us));
        }
        if let Some(took) = late.max(acked.and_then(|acked| acked.overtaken)) {
            let rtt = self.rtt.smoothed().unwrap_or(took);
            self.sent.note_lateness(now, took.saturating_sub(rtt));
        }
        self.detect_lost(now);
    }

    fn on_progress(&mut self, now: Instant, acked: &NewlyAcked, ack_delay: Duration) {
        (self.probes, self.probe_credit) = (0, 0);
        self.long.on_acked(acked.newest_long);
        self.least.on_acked(acked.newest_least);
        self.on_passed();
        if let Some(rtt) = acked.rtt {
            self.rtt.update(rtt, ack_delay);
        }
        self.controller.on_ack(&AckSample {
            now,
            bytes: acked.bytes,
            rtt: acked.rtt,
            srtt: self.rtt.smoothed().unwrap_or_default(),
            largest: acked.largest,
            next: self.sent.next(),
            app_limited: acked.in_flight_before * 13 < self.controller.window() * 10,
            delivery_rate: acked.delivery_rate,
        });
        self.pacer.set_rate(self.controller.pacing_rate());
    }

    fn detect_lost(&mut self, now: Instant) {
        let mut lost = Vec::new();
        let allowance = self.rtt.reordering_allowance(self.sent.lateness());
        self.sent.detect_lost(now, allowance, |number, sent| lost.push((number, sent)));
        if lost.is_empty() {
            return;
        }
        let next = self.sent.next();
        for (number, sent) in lost {
            self.stats.lost += 1;
            self.note_swallowed(number, &sent);
            if sent.size > 0 {
                self.controller.on_loss(&LossSample { now, number, next, bytes: u64::from(sent.size) });
            }
            self.requeue(number, sent);
        }
        self.pacer.set_rate(self.controller.pacing_rate());
    }

    /// A datagram is lost; it may be too long for the path.
    fn note_swallowed(&mut self, number: u64, sent: &Sent) {
        match sent.length() {
            Length::Short => {}
            Length::Least => self.least.is_open |= self.least.counts(number),
            Length::Long => self.long.lost = self.long.lost.saturating_add(self.long.counts(number).into()),
        }
    }

    /// True, once, when so many long datagrams in a row were lost that the path seems to carry short ones alone.
    pub(crate) const fn take_black_hole(&mut self) -> bool {
        let is_black_hole = self.long.lost >= BLACK_HOLE_LOSSES;
        if is_black_hole {
            self.long.lost = 0;
        }
        is_black_hole
    }

    /// True when those of the length that the smallest paths carry were lost as often, and shorter ones arrived each time after.
    pub(crate) const fn is_least_swallowed(&self) -> bool {
        self.least.lost >= BLACK_HOLE_LOSSES
    }

    /// A datagram has arrived, which may be a short one.
    pub(crate) fn on_passed(&mut self) {
        self.least.lost = self.least.lost.saturating_add(self.least.is_open.into());
        self.least.is_open = false;
    }

    fn requeue(&mut self, number: u64, sent: Sent) {
        debug_assert!(number < self.sent.next(), "only datagrams that were sent are lost");
        sent.carried.for_each(|carried| match carried {
            Carried::Packet(segment) => self.resend.push_back(segment),
            Carried::PureAck { flow, bytes } => {
                if self.newest_pure_ack.get(&flow) == Some(&number) {
                    self.newest_pure_ack.remove(&flow);
                    let superseded = self.pure_acks.iter().any(|(f, _)| *f == flow);
                    if !superseded {
                        self.pure_acks.push_front((flow, bytes));
                    }
                }
            }
            Carried::Control { offset, bytes } => self.control_tx.on_loss(offset, bytes),
            Carried::Hello => self.hello_due = self.hello.is_some(),
            Carried::Ping => {}
        });
    }

    /// The relay says that it has dropped datagrams of this link.
    pub(crate) fn on_congestion(&mut self) {
        self.controller.on_congestion(self.sent.next());
        self.pacer.set_rate(self.controller.pacing_rate());
    }

    /// The path is given up: what is under way goes again on the next one, at once.
    pub(crate) fn on_path_lost(&mut self) {
        while let Some((number, sent)) = self.sent.take_oldest() {
            self.requeue(number, sent);
        }
        debug_assert!(self.sent.in_flight() == 0, "nothing is under way on the next path");
        self.long.forget();
        self.probes = 0;
        self.ping_due = true;
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        self.detect_lost(now);
        if self.sent.is_empty() {
            self.spare = Vec::new(); // a quiet peer keeps no buffers
        }
        let timeout = self.rtt.probe_timeout(self.probes);
        if self.sent.probe_deadline(timeout).is_some_and(|at| at <= now) {
            self.probe(now);
        }
    }

    fn probe(&mut self, now: Instant) {
        if self.probes == 0 {
            self.awaited_since = self.sent.silent_since().unwrap_or(now);
        }
        self.sent.on_probe(now);
        self.probes += 1;
        self.stats.probes += 1;
        self.probe_credit = PROBES;
        if self.probes == COLLAPSE_PROBES {
            self.controller.on_collapse();
            self.pacer.set_rate(self.controller.pacing_rate());
        }
        for _ in 0..PROBES {
            let Some((number, sent)) = self.sent.take_oldest() else { break };
            self.note_swallowed(number, &sent);
            self.requeue(number, sent);
        }
        // A probe carries at least a PING, which elicits an answer.
        self.ping_due = true;
    }

    // Output.

    fn has_data(&self) -> bool {
        !(self.packets.is_empty() && self.resend.is_empty() && self.loose.is_empty() && self.pure_acks.is_empty())
    }

    /// True when something waits that only leaves when window and pacing allow.
    fn has_paced(&self) -> bool {
        let has_packets = !(self.packets.is_empty() && self.resend.is_empty() && self.loose.is_empty());
        (has_packets && !self.is_held) || self.control_tx.is_ready()
    }

    /// False when [`Link::poll_frames`] has nothing to write.
    pub(crate) fn has_output(&self, now: Instant) -> bool {
        let has_acks = !self.is_held && !self.pure_acks.is_empty();
        let is_due = self.hello_due || self.ping_due || has_acks;
        is_due
            || (self.has_paced() && self.may_send_paced(now))
            || self.received.iter().any(|r| r.deadline().is_some_and(|at| at <= now))
    }

    fn is_window_full(&self) -> bool {
        self.sent.in_flight() >= self.controller.window()
    }

    /// When paced sending may go on; `None` when nothing paced waits or the window is full.
    fn pacing_deadline(&self) -> Option<Instant> {
        if self.has_paced() && !self.is_window_full() { self.pacer.deadline() } else { None }
    }

    fn may_send_paced(&self, now: Instant) -> bool {
        self.probe_credit > 0 || (self.pacer.may_send(now) && !self.is_window_full())
    }

    /// Writes the frames of one datagram, at most `room` bytes, for the session with our index `local_index`.
    /// `None` when nothing may or needs to be sent now. Bounded work.
    pub(crate) fn poll_frames(
        &mut self,
        now: Instant,
        local_index: LocalIndex,
        room: usize,
        out: &mut Vec<u8>,
    ) -> Option<Outgoing> {
        let end = out.len() + room;
        let mut carried = Load::None;
        let mut counts_for_pacing = false;
        let ack_due = self.received.iter().any(|r| r.deadline().is_some_and(|at| at <= now));
        let start = out.len();
        // Packets are cut only when they fit no datagram at all, not because something stands before them.
        if ack_due {
            self.emit_acks(now, local_index, (start, end), out);
        }
        self.emit_hello(end, out, &mut carried);
        let may_send = self.may_send_paced(now);
        if may_send {
            counts_for_pacing = self.emit_control(end, out, &mut carried);
        }
        if !self.is_held {
            self.emit_pure_acks(end, out, &mut carried);
        }
        if may_send && !self.is_held {
            let ack_waits = !ack_due && self.received.iter().any(Received::is_waiting);
            let fits_beside = self.next_len().is_some_and(|len| out.len() + ACK_LEN_MAX + len < end);
            if ack_waits && fits_beside {
                self.emit_acks(now, local_index, (start, end), out);
            }
            counts_for_pacing |= self.emit_packets(start, end, out, &mut carried);
        }
        if core::mem::take(&mut self.ping_due) && carried.is_empty() {
            frame::emit_ping(out);
            carried.push(Carried::Ping);
        }
        debug_assert!(out.len() <= end, "the frames fit the datagram");
        (out.len() > start).then_some(Outgoing { carried, counts_for_pacing })
    }

    /// An ACK frame at the beginning of a datagram that is too short for all ranges has as many as fit.
    fn emit_acks(&mut self, now: Instant, local_index: LocalIndex, (start, end): (usize, usize), out: &mut Vec<u8>) {
        for received in self.received.iter_mut().filter(|r| r.is_waiting()) {
            let room = end - out.len();
            if room >= ACK_LEN_MAX || out.len() == start {
                let ranges = 1 + room.saturating_sub(ACK_LEN_MIN) / ACK_RANGE_LEN;
                received.emit(now, local_index, ranges, out);
            }
        }
    }

    fn emit_hello(&mut self, end: usize, out: &mut Vec<u8>, carried: &mut Load) {
        if self.hello_due
            && let Some(hello) = &self.hello
            && out.len() + hello.len() + 8 <= end
        {
            frame::emit_hello(out, hello);
            carried.push(Carried::Hello);
            self.hello_due = false;
        }
    }

    fn emit_control(&mut self, end: usize, out: &mut Vec<u8>, carried: &mut Load) -> bool {
        let before = out.len();
        while out.len() + FRAME_ROOM_MIN < end && self.control_tx.is_ready() {
            let Some((offset, bytes)) = self.control_tx.take(end - out.len() - 24) else { break };
            frame::emit_control(out, offset, &bytes);
            carried.push(Carried::Control { offset, bytes });
        }
        out.len() > before
    }

    fn emit_pure_acks(&mut self, end: usize, out: &mut Vec<u8>, carried: &mut Load) {
        while let Some((_, bytes)) = self.pure_acks.front() {
            if out.len() + bytes.len() + 4 > end {
                break;
            }
            let Some((flow, bytes)) = self.pure_acks.pop_front() else { break };
            frame::emit_pure_ack(out, bytes.bytes());
            self.newest_pure_ack.insert(flow, self.sent.next());
            carried.push(Carried::PureAck { flow, bytes });
        }
    }

    fn next_len(&self) -> Option<usize> {
        self.resend.front().or(self.packets.front()).or(self.loose.front()).map(Packet::len)
    }

    /// Packets until the datagram is full: resent ones first, then new ones, then loose datagrams.
    fn emit_packets(&mut self, start: usize, end: usize, out: &mut Vec<u8>, carried: &mut Load) -> bool {
        let before = out.len();
        while let Some(len) = self.next_len() {
            if out.len() + 1 + len > end {
                if out.len() == start {
                    self.cut_oversized(end - out.len() - 1);
                    continue;
                }
                break;
            }
            let (packet, recovered) = if let Some(packet) = self.resend.pop_front() {
                (packet, true)
            } else if let Some(packet) = self.packets.pop_front() {
                self.packets_len -= packet.len();
                (packet, true)
            } else if let Some(packet) = self.loose.pop_front() {
                (packet, false)
            } else {
                break;
            };
            let more_fits = self.next_len().is_some_and(|next| out.len() + len + next + 8 <= end);
            frame::emit_packet(out, recovered, !more_fits, packet.bytes());
            carried.push(if recovered { Carried::Packet(packet) } else { Carried::Ping });
            if !more_fits {
                break;
            }
        }
        out.len() > before
    }

    /// The path shrank after the front packet was made: it is cut in two, or dropped.
    fn cut_oversized(&mut self, room: usize) {
        self.stats.oversized += 1;
        if let Some(packet) = self.resend.pop_front() {
            if let Some((first, rest)) = packet.cut(room) {
                self.resend.push_front(rest);
                self.resend.push_front(first);
            }
        } else if let Some(packet) = self.packets.pop_front() {
            self.packets_len -= packet.len();
            if let Some((first, rest)) = packet.cut(room) {
                self.packets_len += first.len() + rest.len();
                self.packets.push_front(rest);
                self.packets.push_front(first);
            }
        } else {
            self.loose.pop_front();
        }
    }

    /// Notes that the frames of [`Link::poll_frames`] were sealed into a datagram of `size` bytes. Every sealed
    /// datagram is noted, probes too (with an empty `Outgoing`), so that numbers stay in step with the cipher's
    /// counter.
    pub(crate) fn on_sent(&mut self, now: Instant, size: usize, outgoing: Outgoing) {
        let elicits = !outgoing.carried.is_empty();
        self.sent.push(now, size, outgoing.carried);
        if let Some((number, sent)) = self.sent.take_surplus() {
            self.stats.lost += 1;
            self.requeue(number, sent);
        }
        if elicits {
            self.stats.sent += 1;
        }
        if outgoing.counts_for_pacing {
            self.probe_credit = self.probe_credit.saturating_sub(1);
            self.pacer.on_sent(now, size);
        }
    }

    /// When silence has lasted long enough to probe.
    pub(crate) fn note_probe_deadline(&self, soonest: &mut Soonest) {
        soonest.note(PeerTimer::Probe, self.sent.probe_deadline(self.rtt.probe_timeout(self.probes)));
    }

    /// When [`Link::handle_timeout`] or [`Link::poll_frames`] has something to do, and why.
    pub(crate) fn note_deadlines(&self, soonest: &mut Soonest) {
        let allowance = self.rtt.reordering_allowance(self.sent.lateness());
        soonest.note(PeerTimer::Ack, self.received.iter().filter_map(Received::deadline).min());
        self.note_probe_deadline(soonest);
        soonest.note(PeerTimer::Loss, self.sent.loss_deadline(allowance));
        soonest.note(PeerTimer::Pacing, self.pacing_deadline());
    }
}

impl Outgoing {
    /// A datagram that needs no acknowledgement (probes, CLOSE).
    pub(crate) const fn untracked() -> Self {
        Self { carried: Load::None, counts_for_pacing: false }
    }
}

#[cfg(test)]
mod tests;
