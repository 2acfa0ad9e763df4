//! Owns the moment in which the endpoint hands inner packets up: stacks are out of their slots, the endpoint is busy.

use crate::peer_stack::PeerStack;
use crate::segment::Segment;
use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use pilot_core::endpoint::Sink;
use pilot_core::{Instant, PeerId};

/// Each peer's stack; `None` while it is in use: should smoltcp panic, the slot stays empty and only that peer loses.
pub(crate) type Slots = BTreeMap<PeerId, Option<Box<PeerStack>>>;

/// Packets of a batch that somebody has to look at when it is over: who sent it, and its bytes.
pub(crate) type Later = Vec<(PeerId, Vec<u8>)>;

/// Hands inner packets to their flow while the endpoint is busy; what needs the endpoint waits until it is not.
pub(crate) struct StackSink<'a> {
    now: Instant,
    peers: &'a mut Slots,
    active: &'a mut BTreeSet<PeerId>,
    /// The stack in use, out of its slot: should smoltcp panic, only this peer's streams are lost (link.md, hazard 6).
    taken: Option<(PeerId, Box<PeerStack>)>,
    unknown: Later,
    loose: Later,
}

impl<'a> StackSink<'a> {
    pub(crate) const fn new(now: Instant, peers: &'a mut Slots, active: &'a mut BTreeSet<PeerId>) -> Self {
        Self { now, peers, active, taken: None, unknown: Vec::new(), loose: Vec::new() }
    }

    fn stack(&mut self, peer: PeerId) -> Option<&mut PeerStack> {
        if self.taken.as_ref().is_none_or(|(taken, _)| *taken != peer) {
            self.put_back();
            self.taken = self.peers.get_mut(&peer).and_then(Option::take).map(|stack| (peer, stack));
        }
        self.taken.as_mut().map(|(_, stack)| &mut **stack)
    }

    fn put_back(&mut self) {
        if let Some((_, stack)) = &mut self.taken {
            stack.deliver(self.now);
        }
        if let Some((peer, stack)) = self.taken.take()
            && let Some(slot) = self.peers.get_mut(&peer)
        {
            *slot = Some(stack);
            self.active.insert(peer);
        }
    }

    /// Gives the stacks back, and what could not be handled meanwhile: packets without a flow, datagrams.
    pub(crate) fn finish(mut self) -> (Later, Later) {
        self.put_back();
        (self.unknown, self.loose)
    }
}

impl Sink for StackSink<'_> {
    fn packet(&mut self, peer: PeerId, bytes: &[u8]) {
        let Some(segment) = Segment::parse(bytes) else { return };
        let now = self.now;
        if !self.stack(peer).is_some_and(|stack| stack.handle_segment(now, &segment, bytes)) {
            self.unknown.push((peer, bytes.to_vec()));
        }
    }

    fn loose(&mut self, peer: PeerId, datagram: &[u8]) {
        self.loose.push((peer, datagram.to_vec()));
    }
}
