//! Owns the count of the jobs that each peer's streams have given to the disk, and the streams that wait until they may give more:
//! the disk does jobs in their order, so no peer may put thousands before those of others.

use pilot_core::identity::IdentityKey;
use pilot_stack::StreamId;
use std::collections::VecDeque;

/// Most jobs of one peer that the disk has not done. Source: as many messages as a sender has in flight, and two commits, so that
/// the message of another peer waits for three at most.
pub(crate) const JOBS_OF_PEER_MAX: usize = crate::mail::outbox::IN_FLIGHT_MAX;
/// Bytes of one peer's messages and files that wait for the disk; at the limit no more are taken. Unit: bytes.
const LEN_OF_PEER_MAX: usize = 4 << 20;

/// The lanes of all peers that have jobs, or streams that wait.
#[derive(Default)]
pub(super) struct Lanes(Vec<Lane>);

struct Lane {
    peer: IdentityKey,
    jobs: usize,
    /// Bytes of messages and files. Unit: bytes.
    len: usize,
    /// In the order in which they have come.
    waiting: VecDeque<StreamId>,
    /// Streams without memory for what has arrived; they are served again when no bytes of the peer wait for the disk.
    starving: Vec<StreamId>,
}

impl Lanes {
    fn find(&self, peer: &IdentityKey) -> Option<&Lane> {
        self.0.iter().find(|lane| lane.peer == *peer)
    }

    fn lane(&mut self, peer: &IdentityKey) -> &mut Lane {
        let place = self.0.iter().position(|lane| lane.peer == *peer).unwrap_or_else(|| {
            self.0.push(Lane { peer: *peer, jobs: 0, len: 0, waiting: VecDeque::new(), starving: Vec::new() });
            self.0.len() - 1
        });
        &mut self.0[place]
    }

    fn forget_empty(&mut self) {
        self.0.retain(|lane| lane.jobs > 0 || !lane.waiting.is_empty() || !lane.starving.is_empty());
    }

    /// Jobs of a peer that count; [`JOBS_OF_PEER_MAX`] when no more are taken.
    pub(super) fn load(&self, peer: &IdentityKey) -> usize {
        self.find(peer).map_or(0, |lane| if lane.len >= LEN_OF_PEER_MAX { JOBS_OF_PEER_MAX } else { lane.jobs })
    }

    /// True while bytes of the peer wait for the disk, which will free their memory.
    pub(super) fn has_bytes(&self, peer: &IdentityKey) -> bool {
        self.find(peer).is_some_and(|lane| lane.len > 0)
    }

    /// The disk has got a job of `len` bytes.
    pub(super) fn add(&mut self, peer: &IdentityKey, len: usize) {
        let lane = self.lane(peer);
        (lane.jobs, lane.len) = (lane.jobs + 1, lane.len + len);
        // One look allows three jobs at most: the last bytes of a file, its end, and the next file.
        debug_assert!(lane.jobs <= JOBS_OF_PEER_MAX + 2, "a stream looks at the load before it takes another frame");
    }

    /// The disk has done a job of `len` bytes. Gives the streams without memory, once they need not wait for the disk.
    pub(super) fn done(&mut self, peer: &IdentityKey, len: usize) -> Vec<StreamId> {
        let lane = self.lane(peer);
        debug_assert!(lane.jobs > 0 && lane.len >= len, "what is done was added");
        (lane.jobs, lane.len) = (lane.jobs.saturating_sub(1), lane.len.saturating_sub(len));
        let fed = if lane.len == 0 { std::mem::take(&mut lane.starving) } else { Vec::new() };
        self.forget_empty();
        fed
    }

    /// The stream waits until its peer may give more; it does not wait already.
    pub(super) fn wait(&mut self, peer: &IdentityKey, stream: StreamId) {
        self.lane(peer).waiting.push_back(stream);
    }

    /// The stream has no memory, and waits until the disk has made room; it does not wait for that already, and bytes of its peer
    /// are on the way to the disk.
    pub(super) fn starve(&mut self, peer: &IdentityKey, stream: StreamId) {
        debug_assert!(self.has_bytes(peer), "the disk makes no room");
        self.lane(peer).starving.push(stream);
    }

    /// The stream waits no longer.
    pub(super) fn leave(&mut self, peer: &IdentityKey, stream: StreamId) {
        let lane = self.lane(peer);
        lane.waiting.retain(|id| *id != stream);
        lane.starving.retain(|id| *id != stream);
        self.forget_empty();
    }

    /// Takes the stream that goes on next, if its peer may give more.
    pub(super) fn next(&mut self, peer: &IdentityKey) -> Option<StreamId> {
        if self.load(peer) >= JOBS_OF_PEER_MAX {
            return None;
        }
        let stream = self.lane(peer).waiting.pop_front();
        self.forget_empty();
        stream
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_and_bytes_of_a_peer_have_maxima_and_every_lane_walks_back_to_nothing() {
        let (mut lanes, peers) = (Lanes::default(), [IdentityKey([1; 32]), IdentityKey([2; 32])]);
        let ids: Vec<StreamId> = (0..3).map(StreamId::from_number).collect();
        (0..JOBS_OF_PEER_MAX).for_each(|_| lanes.add(&peers[0], 0));
        lanes.add(&peers[1], LEN_OF_PEER_MAX - 1);
        assert_eq!((lanes.load(&peers[0]), lanes.load(&peers[1])), (JOBS_OF_PEER_MAX, 1));
        lanes.add(&peers[1], 1);
        assert_eq!(lanes.load(&peers[1]), JOBS_OF_PEER_MAX);
        assert_eq!((lanes.has_bytes(&peers[0]), lanes.has_bytes(&peers[1])), (false, true));

        ids.iter().for_each(|id| lanes.wait(&peers[0], *id));
        assert_eq!(lanes.next(&peers[0]), None, "the peer's lane is full");
        lanes.leave(&peers[0], ids[1]);
        lanes.starve(&peers[1], ids[0]);
        lanes.starve(&peers[1], ids[1]);
        lanes.leave(&peers[1], ids[0]);
        assert_eq!(lanes.done(&peers[0], 0), []);
        let order: Vec<StreamId> = std::iter::from_fn(|| lanes.next(&peers[0])).collect();
        assert_eq!(order, [ids[0], ids[2]]);
        (1..JOBS_OF_PEER_MAX).for_each(|_| assert_eq!(lanes.done(&peers[0], 0), []));
        assert_eq!(lanes.done(&peers[1], 1), []);
        assert_eq!(lanes.done(&peers[1], LEN_OF_PEER_MAX - 1), [ids[1]]);
        assert_eq!(lanes.len(), 0);
    }
}
