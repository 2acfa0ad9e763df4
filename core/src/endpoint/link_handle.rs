//! Owns the way of inner packets into a peer's link.

use crate::link::{Link, Packet};
use alloc::vec::Vec;

/// One peer's link, for the layer above that has packets for the peer.
pub struct LinkHandle<'a> {
    pub(super) link: &'a mut Link,
}

impl LinkHandle<'_> {
    /// How many more packets it takes now.
    pub fn room(&self) -> usize {
        self.link.room()
    }

    /// True while the link carries a packet for which `is_wanted` is true: such a packet arrives, and sending it again
    /// above the link would only multiply it. Work is bounded by the congestion window.
    pub fn holds(&self, is_wanted: impl Fn(&[u8]) -> bool) -> bool {
        self.link.holds(is_wanted)
    }

    /// Queues an inner segment. The caller respects [`LinkHandle::room`].
    pub fn send_packet(&mut self, segment: Packet) {
        self.link.enqueue_packet(segment);
    }

    /// Queues a segment without payload; only the newest of a flow matters.
    pub fn send_pure_ack(&mut self, flow: u32, segment: Packet) {
        self.link.enqueue_pure_ack(flow, segment);
    }

    /// Queues an inner datagram; the oldest waiting one may go.
    pub fn send_loose(&mut self, datagram: Packet) {
        self.link.enqueue_loose(datagram);
    }

    /// Buffers of packets that have arrived, to be used again.
    pub const fn spare_buffers(&mut self) -> &mut Vec<Vec<u8>> {
        self.link.spare()
    }
}
