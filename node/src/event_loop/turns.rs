//! Owns the order in which streams are served: in turn, and where there are many, one of each peer before the next of any, so that
//! a peer with thousands of streams does not keep the others waiting.

use pilot_core::sort::sort_by;
use pilot_stack::StreamId;
use std::time::{Duration, Instant};

/// Streams that are served in a round without looking for their peers: so few take no time worth sharing.
const FEW: usize = 128;
/// Streams that are served between two looks at the clock.
const BETWEEN_LOOKS: usize = 16;
/// Longest time for the streams of a round; the others are served in the next. Source: own choice, a twentieth of the 100 ms that an
/// acknowledgement may take.
const TIME_MAX: Duration = Duration::from_millis(5);

/// The streams' turns.
#[derive(Default)]
pub(crate) struct Turns {
    /// The first stream of the next round, if streams were left over.
    next: Option<StreamId>,
    /// The time that serving a stream takes where time is simulated, and their sum.
    #[cfg(test)]
    pub(crate) simulated: Option<(Duration, Duration)>,
}

impl Turns {
    /// Puts the streams into the order in which they are served; each stands there once afterwards.
    pub(crate) fn order<P: Copy + Ord>(&self, ready: &mut Vec<StreamId>, peer_of: impl Fn(StreamId) -> Option<P>) {
        ready.sort_unstable();
        ready.dedup();
        if let Some(next) = self.next {
            let start = ready.partition_point(|id| *id < next);
            ready.rotate_left(start);
        }
        if ready.len() > FEW {
            interleave(ready, peer_of);
        }
    }

    /// Serves streams in their order; leaves in `ready` those for which there was no time.
    pub(crate) fn serve(&mut self, ready: &mut Vec<StreamId>, mut serve: impl FnMut(StreamId)) {
        let mut served = 0;
        let begin = (ready.len() > BETWEEN_LOOKS).then(Instant::now);
        for piece in ready.chunks(BETWEEN_LOOKS) {
            piece.iter().for_each(|id| serve(*id));
            served += piece.len();
            if begin.is_some_and(|begin| self.elapsed(begin, served) >= TIME_MAX) {
                break;
            }
        }
        ready.drain(..served);
        self.next = ready.iter().min().copied();
        #[cfg(test)]
        self.simulated.iter_mut().for_each(|(each, sum)| *sum += *each * served as u32);
        debug_assert!(ready.is_empty() || served >= BETWEEN_LOOKS, "each round goes on");
    }

    #[cfg(not(test))]
    fn elapsed(&self, begin: Instant, _: usize) -> Duration {
        begin.elapsed()
    }

    #[cfg(test)]
    fn elapsed(&self, begin: Instant, served: usize) -> Duration {
        self.simulated.map_or_else(|| begin.elapsed(), |(each, _)| each * served as u32)
    }
}

/// Orders streams so that the n-th of each peer comes before the next of any.
fn interleave<P: Copy + Ord>(ready: &mut Vec<StreamId>, peer_of: impl Fn(StreamId) -> Option<P>) {
    let mut by_peer: Vec<(Option<P>, usize, StreamId)> =
        ready.drain(..).enumerate().map(|(place, id)| (peer_of(id), place, id)).collect();
    sort_by(&mut by_peer, |a, b| a < b);
    let (mut turn, mut last) = (0, None);
    let mut by_turn: Vec<(usize, usize, StreamId)> = Vec::with_capacity(by_peer.len());
    for (peer, place, id) in by_peer {
        turn = if last == Some(peer) { turn + 1 } else { 0 };
        last = Some(peer);
        by_turn.push((turn, place, id));
    }
    sort_by(&mut by_turn, |a, b| a < b);
    ready.extend(by_turn.into_iter().map(|(_, _, id)| id));
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn ids(numbers: impl IntoIterator<Item = u64>) -> Vec<StreamId> {
        numbers.into_iter().map(StreamId::from_number).collect()
    }

    #[test]
    fn few_streams_are_served_once_in_their_order() {
        let mut ready = ids([3, 1, 2, 3, 1]);
        let mut turns = Turns::default();
        turns.order(&mut ready, |_| -> Option<u8> { panic!("no look is needed") });
        let mut served = Vec::new();
        turns.serve(&mut ready, |id| served.push(id));
        assert_eq!((served, ready.len(), turns.next), (ids([1, 2, 3]), 0, None));
    }

    #[test]
    fn among_many_the_streams_of_a_peer_with_few_come_first() {
        let mut ready = ids(0..10_000);
        let peer = |id: StreamId| Some(if id.number() >= 9_998 { 7 } else { 1 });
        Turns::default().order(&mut ready, peer);
        assert_eq!((ready.len(), &ready[..5]), (10_000, &ids([0, 9_998, 1, 9_999, 2])[..]));
    }

    #[test]
    fn those_that_had_no_time_come_first_in_the_next_round() {
        let simulated = Some((TIME_MAX / 10, Duration::ZERO));
        let (mut ready, mut turns, mut served) = (ids(0..200), Turns { next: None, simulated }, BTreeSet::new());
        let mut rounds = 0;
        while served.len() < 200 {
            turns.order(&mut ready, |_| Some(1));
            turns.serve(&mut ready, |id| {
                served.insert(id);
            });
            rounds += 1;
            ready.push(StreamId::from_number(0)); // ready again at once
        }
        assert_eq!(rounds, 13, "none waits longer than a cycle");
    }
}
