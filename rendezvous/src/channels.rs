//! Owns the relay channels: pairs of numbers, one for each end, that live while they are used, both ends are there, and neither
//! has withdrawn its grant.

use pilot_core::identity::IdentityKey;
use pilot_core::time::Duration;
use pilot_core::{Instant, rng::Rng};
use std::collections::BTreeMap;

/// Time without a datagram after which a pair of channels is closed; an end that is still there opens another. Source: own
/// choice, many times the keepalive of a path in use (15 s).
const IDLE_MAX: Duration = Duration::from_secs(600);
/// The same for a pair of which one end is not connected. Source: own choice, more than an initiator's pauses (5 s).
const HALF_IDLE_MAX: Duration = Duration::from_secs(45);
/// Pause between two words to a sender that its datagrams in one channel do not pass. Source: `docs/wire.md`, "Control
/// messages".
const CONGESTED_PAUSE: Duration = Duration::from_millis(100);

struct Channel {
    owner: IdentityKey,
    peer: IdentityKey,
    other: u32,
    used: Instant,
    /// When the owner was last told that its datagrams do not pass.
    congested: Option<Instant>,
}

/// What a datagram in a channel belongs to.
#[derive(Clone, Copy)]
pub(crate) struct Leg {
    pub(crate) from: IdentityKey,
    pub(crate) to: IdentityKey,
    /// The receiver's number of the pair.
    pub(crate) other: u32,
}

/// The open channels.
#[derive(Default)]
pub(crate) struct Channels {
    channels: BTreeMap<u32, Channel>,
    pairs: BTreeMap<(IdentityKey, IdentityKey), u32>,
}

impl Channels {
    pub(crate) fn len(&self) -> usize {
        self.channels.len()
    }

    /// The number that `from` has for its pair with `to`.
    pub(crate) fn number(&self, from: IdentityKey, to: IdentityKey) -> Option<u32> {
        self.pairs.get(&(from, to)).copied()
    }

    pub(crate) fn leg(&self, channel: u32) -> Option<Leg> {
        let channel = self.channels.get(&channel)?;
        Some(Leg { from: channel.owner, to: channel.peer, other: channel.other })
    }

    pub(crate) fn touch(&mut self, now: Instant, channel: u32) {
        if let Some(channel) = self.channels.get_mut(&channel) {
            channel.used = now;
        }
    }

    /// Opens the pair, or confirms that it is open; `None` without room.
    pub(crate) fn open(
        &mut self,
        now: Instant,
        (from, to): (IdentityKey, IdentityKey),
        max: usize,
        rng: &mut Rng,
    ) -> Option<u32> {
        if let Some(channel) = self.number(from, to) {
            self.touch(now, channel);
            return Some(channel);
        }
        if self.channels.len() + 2 > max {
            return None;
        }
        let a = self.fresh(None, rng);
        let b = self.fresh(Some(a), rng);
        debug_assert!(a != b && !self.pairs.contains_key(&(to, from)), "channels are distinct and come in pairs");
        self.channels.insert(a, Channel { owner: from, peer: to, other: b, used: now, congested: None });
        self.channels.insert(b, Channel { owner: to, peer: from, other: a, used: now, congested: None });
        self.pairs.insert((from, to), a);
        self.pairs.insert((to, from), b);
        Some(a)
    }

    /// Draws a number that is neither open nor `taken`.
    fn fresh(&self, taken: Option<u32>, rng: &mut Rng) -> u32 {
        loop {
            let channel = rng.u32();
            if Some(channel) != taken && !self.channels.contains_key(&channel) {
                return channel;
            }
        }
    }

    /// True when the owner of a channel is to be told now that its datagrams do not pass.
    pub(crate) fn tells_congestion(&mut self, now: Instant, channel: u32) -> bool {
        let channel = self.channels.get_mut(&channel);
        channel.is_some_and(|channel| {
            let tells = channel.congested.is_none_or(|at| now.since(at) >= CONGESTED_PAUSE);
            channel.congested = if tells { Some(now) } else { channel.congested };
            tells
        })
    }

    /// Closes the pair of two nodes, if there is one.
    pub(crate) fn close(&mut self, one: &IdentityKey, other: &IdentityKey) {
        for pair in [(*one, *other), (*other, *one)] {
            if let Some(number) = self.pairs.remove(&pair) {
                self.channels.remove(&number);
            }
        }
        debug_assert!(self.pairs.len() == self.channels.len(), "each channel has its pair");
    }

    /// Closes the pairs that a node has with others of which `is_over` holds. Bounded by the pairs of that node.
    pub(crate) fn close_of(&mut self, node: &IdentityKey, is_over: impl Fn(&IdentityKey) -> bool) {
        let all = (*node, IdentityKey([0; 32]))..=(*node, IdentityKey([0xff; 32]));
        let over = self.pairs.range(all).map(|((_, other), _)| *other).filter(is_over);
        for other in over.collect::<Vec<_>>() {
            self.close(node, &other);
        }
    }

    /// Closes the pairs that are not used any more, sooner where an end is not there, and those between nodes of which
    /// neither may relay to the other.
    pub(crate) fn sweep(
        &mut self,
        now: Instant,
        is_there: impl Fn(&IdentityKey) -> bool,
        may_relay: impl Fn(&IdentityKey, &IdentityKey) -> bool,
    ) {
        let gone = |channel: &Channel| {
            let there = [is_there(&channel.owner), is_there(&channel.peer)];
            let longest = if there == [true, true] { IDLE_MAX } else { HALF_IDLE_MAX };
            let is_used = |channel: &Channel| now.since(channel.used) < longest;
            let used = is_used(channel) || self.channels.get(&channel.other).is_some_and(is_used);
            let allowed = may_relay(&channel.owner, &channel.peer) || may_relay(&channel.peer, &channel.owner);
            !used || there == [false, false] || !allowed
        };
        let gone = self.channels.values().filter(|channel| gone(channel)).map(|channel| (channel.owner, channel.peer));
        for (owner, peer) in gone.collect::<Vec<_>>() {
            self.close(&owner, &peer);
        }
    }
}
