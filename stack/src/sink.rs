//! Owns the inner packets of one batch of datagrams: segments go to their flows while the endpoint opens the batch;
//! packets that need the endpoint wait until the batch is over.

use crate::agenda::Agenda;
use crate::segment::Segment;
use crate::slots::Slots;
use alloc::vec::Vec;
use pilot_core::endpoint::Sink;
use pilot_core::{Instant, PeerId};

/// Packets that wait for the end of their batch: sender and bytes of each.
pub(crate) type Later = Vec<(PeerId, Vec<u8>)>;

/// Takes the inner packets of one batch.
pub(crate) struct StackSink<'a> {
    now: Instant,
    slots: &'a mut Slots,
    agenda: &'a mut Agenda,
    /// The sender of the last segment. A run of segments may be gathered in its stack.
    last: Option<PeerId>,
    /// Segments without a flow.
    unknown: Later,
    /// Inner datagrams.
    loose: Later,
}

impl<'a> StackSink<'a> {
    pub(crate) const fn new(now: Instant, slots: &'a mut Slots, agenda: &'a mut Agenda) -> Self {
        Self { now, slots, agenda, last: None, unknown: Vec::new(), loose: Vec::new() }
    }

    /// Hands the segments of the last sender to TCP.
    fn deliver(&mut self) {
        if let Some(peer) = self.last.take() {
            self.slots.with_stack(peer, |stack| stack.deliver(self.now, self.agenda));
        }
    }

    /// Ends the batch; gives the segments without a flow, and the inner datagrams.
    pub(crate) fn finish(mut self) -> (Later, Later) {
        self.deliver();
        (self.unknown, self.loose)
    }
}

impl Sink for StackSink<'_> {
    fn packet(&mut self, peer: PeerId, bytes: &[u8]) {
        let Some(segment) = Segment::parse(bytes) else { return };
        if self.last != Some(peer) {
            self.deliver();
            self.last = Some(peer);
        }
        let (now, agenda) = (self.now, &mut *self.agenda);
        let is_known = self.slots.with_stack(peer, |stack| stack.handle_segment(now, &segment, bytes, agenda));
        if is_known != Some(true) {
            self.unknown.push((peer, bytes.to_vec()));
        }
    }

    fn loose(&mut self, peer: PeerId, datagram: &[u8]) {
        self.loose.push((peer, datagram.to_vec()));
    }
}
