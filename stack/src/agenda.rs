//! Owns the lists of work: peers that may have something to send, streams the application should look at, deadlines of
//! flows. A peer or stream in none of these lists costs nothing in a turn.

use crate::segment::FlowKey;
use crate::stream_id::StreamId;
use alloc::collections::{BTreeSet, VecDeque};
use alloc::vec::Vec;
use pilot_core::{Instant, PeerId};

/// The lists of one stack. Every flow and every peer's stack notes in which lists it is, so that each is listed once.
pub(crate) struct Agenda<P = PeerId> {
    /// Peers with flows that may have something to send, in turn.
    sending: VecDeque<P>,
    /// Peers with flows that wait for the endpoint: for a session, or for room in the link.
    blocked: Vec<P>,
    /// Streams that the application is told of next.
    streams: VecDeque<StreamId>,
    /// Streams that become `streams` when those are given out.
    next_streams: VecDeque<StreamId>,
    /// Number of `next_streams`, from 1.
    round: u64,
    /// Flows of listeners that can be handed out, or that ended before.
    arrivals: VecDeque<(P, FlowKey)>,
    deadlines: BTreeSet<(Instant, P, FlowKey)>,
}

impl<P: Copy + Ord> Agenda<P> {
    pub(crate) const fn new() -> Self {
        Self {
            sending: VecDeque::new(),
            blocked: Vec::new(),
            streams: VecDeque::new(),
            next_streams: VecDeque::new(),
            round: 1,
            arrivals: VecDeque::new(),
            deadlines: BTreeSet::new(),
        }
    }

    // Peers.

    /// Adds a peer that is in neither list of peers.
    pub(crate) fn add_sending(&mut self, peer: P) {
        self.sending.push_back(peer);
    }

    /// The next peer that may have something to send.
    pub(crate) fn next_sending(&mut self) -> Option<P> {
        self.sending.pop_front()
    }

    /// Adds a peer that waits for the endpoint and is in neither list of peers.
    pub(crate) fn add_blocked(&mut self, peer: P) {
        self.blocked.push(peer);
    }

    /// Lets blocked peers try again: the endpoint has sent or received, so that sessions may exist and links have room; or a
    /// tunnel has ended, so that a session is to be asked for anew.
    pub(crate) fn unblock(&mut self) {
        if !self.blocked.is_empty() {
            self.sending.extend(self.blocked.drain(..));
        }
    }

    // Streams.

    /// Number of the list that [`Agenda::add_stream`] adds to. A flow keeps the number of the list it is in, so that no
    /// flow needs to be looked up when the list is given out.
    pub(crate) const fn round(&self) -> u64 {
        self.round
    }

    /// Adds a stream that was not added in this round.
    pub(crate) fn add_stream(&mut self, id: StreamId) {
        self.next_streams.push_back(id);
    }

    /// The next stream that the application should look at.
    pub(crate) fn next_stream(&mut self) -> Option<StreamId> {
        if self.streams.is_empty() && !self.next_streams.is_empty() {
            core::mem::swap(&mut self.streams, &mut self.next_streams);
            self.round += 1;
        }
        self.streams.pop_front()
    }

    /// Adds a flow that waits to be handed out.
    pub(crate) fn add_arrival(&mut self, peer: P, key: FlowKey) {
        self.arrivals.push_back((peer, key));
    }

    /// The next flow that [`Agenda::add_arrival`] added.
    pub(crate) fn next_arrival(&mut self) -> Option<(P, FlowKey)> {
        self.arrivals.pop_front()
    }

    // Deadlines.

    /// Moves a flow's deadline from `old` to `new`; `None` is no deadline.
    pub(crate) fn move_deadline(&mut self, old: Option<Instant>, new: Option<Instant>, peer: P, key: FlowKey) {
        if let Some(old) = old {
            let was_there = self.deadlines.remove(&(old, peer, key));
            debug_assert!(was_there, "a flow knows its deadline");
        }
        if let Some(new) = new {
            let is_new = self.deadlines.insert((new, peer, key));
            debug_assert!(is_new, "a flow has one deadline");
        }
    }

    /// The first deadline, and the peer it belongs to.
    pub(crate) fn first_deadline(&self) -> Option<(Instant, P)> {
        self.deadlines.first().map(|(at, peer, _)| (*at, *peer))
    }

    /// Takes the first deadline that has come by `now`.
    pub(crate) fn next_due(&mut self, now: Instant) -> Option<(P, FlowKey)> {
        self.deadlines.first().filter(|(at, ..)| *at <= now)?;
        self.deadlines.pop_first().map(|(_, peer, key)| (peer, key))
    }

    /// Forgets a peer that has lost its flows.
    pub(crate) fn forget_peer(&mut self, peer: P) {
        self.sending.retain(|p| *p != peer);
        self.blocked.retain(|p| *p != peer);
        self.arrivals.retain(|(p, _)| *p != peer);
        self.deadlines.retain(|(_, p, _)| *p != peer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::time::Duration;

    #[test]
    fn deadlines_come_in_order_and_move() {
        let (mut agenda, at) = (Agenda::new(), |ms| Instant::ZERO + Duration::from_millis(ms));
        agenda.move_deadline(None, Some(at(30)), 'a', (1, 1));
        agenda.move_deadline(None, Some(at(20)), 'b', (1, 1));
        agenda.move_deadline(Some(at(30)), Some(at(10)), 'a', (1, 1));
        assert_eq!(agenda.first_deadline(), Some((at(10), 'a')));
        assert_eq!(agenda.next_due(at(9)), None);
        assert_eq!((agenda.next_due(at(20)), agenda.next_due(at(20))), (Some(('a', (1, 1))), Some(('b', (1, 1)))));
        assert_eq!(agenda.first_deadline(), None);
    }

    #[test]
    fn blocked_peers_wait_until_the_endpoint_moves() {
        let mut agenda = Agenda::new();
        agenda.add_blocked('a');
        agenda.add_blocked('b');
        assert_eq!(agenda.next_sending(), None);
        agenda.unblock();
        assert_eq!((agenda.next_sending(), agenda.next_sending(), agenda.next_sending()), (Some('a'), Some('b'), None));
    }

    #[test]
    fn a_forgotten_peer_is_in_no_list() {
        let mut agenda = Agenda::new();
        for peer in ['a', 'b'] {
            agenda.add_sending(peer);
            agenda.add_blocked(peer);
            agenda.add_arrival(peer, (1, 1));
            agenda.move_deadline(None, Some(Instant::ZERO), peer, (1, 1));
        }
        agenda.forget_peer('a');
        agenda.unblock();
        assert_eq!((agenda.next_sending(), agenda.next_sending(), agenda.next_sending()), (Some('b'), Some('b'), None));
        assert_eq!((agenda.next_arrival(), agenda.next_arrival()), (Some(('b', (1, 1))), None));
        assert_eq!((agenda.next_due(Instant::ZERO), agenda.next_due(Instant::ZERO)), (Some(('b', (1, 1))), None));
    }
}
