//! Owns the relay channels: pairs of numbers, one for each end, that live while they are used.

use pilot_core::identity::IdentityKey;
use pilot_core::time::Duration;
use pilot_core::{Instant, rng::Rng};
use std::collections::BTreeMap;

/// Time without a datagram after which a pair of channels is closed; an end that is still there opens another. Source: own
/// choice, many times the keepalive of a path in use (15 s).
const IDLE_MAX: Duration = Duration::from_secs(600);

struct Channel {
    owner: IdentityKey,
    peer: IdentityKey,
    other: u32,
    used: Instant,
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
        self.channels.insert(a, Channel { owner: from, peer: to, other: b, used: now });
        self.channels.insert(b, Channel { owner: to, peer: from, other: a, used: now });
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

    /// Closes the pairs that are not used any more, and those of which neither end is there.
    pub(crate) fn sweep(&mut self, now: Instant, is_there: impl Fn(&IdentityKey) -> bool) {
        let is_used = |channel: &Channel| now.since(channel.used) < IDLE_MAX;
        let gone = |(number, channel): (&u32, &Channel)| {
            let other = self.channels.get(&channel.other);
            let used = is_used(channel) || other.is_some_and(is_used);
            let there = is_there(&channel.owner) || is_there(&channel.peer);
            (!used || !there).then_some(*number)
        };
        let gone: Vec<u32> = self.channels.iter().filter_map(gone).collect();
        for number in gone {
            if let Some(channel) = self.channels.remove(&number) {
                self.pairs.remove(&(channel.owner, channel.peer));
            }
        }
        debug_assert!(self.pairs.len() == self.channels.len(), "each channel has its pair");
    }
}
