//! Owns the spare relays: rendezvous that this node uses beside its own, to relay and for nothing else.
//!
//! Each gets a record without a name, all grants, and the question for a channel to each peer that a key handshake or a tunnel
//! leads to. So a pair of nodes has one more way for each relay that both use, which [`Paths`](crate::path::Paths) measures and
//! takes when the one in use falls silent or is farther (`docs/paths.md`, "Relay").
//!
//! ```text
//!   down ─▶ (key handshake) ─▶ up ─▶ registered ─▶ granted: asks for channels
//!    ▲────────── lost ◀────────┴──────────┴───────────┘
//! ```

use crate::addr::Addr;
use crate::control::{GRANTS_MAX, Grant, Ticket};
use crate::identity::{IdentityKey, StaticKey};
use crate::time::{Duration, Instant, earliest};
use alloc::vec::Vec;
use core::net::SocketAddr;

/// Most spare relays. Source: own choice; `docs/paths.md`, "Relay".
pub const SPARES_MAX: usize = 3;
/// Time that an answer may take.
pub(super) const CALL_TIMEOUT: Duration = Duration::from_secs(4);
/// Bounds of the pause after a refusal or a lost tunnel, which doubles.
pub(super) const PAUSE_MIN: Duration = Duration::from_secs(1);
pub(super) const PAUSE_MAX: Duration = Duration::from_secs(60);
/// Questions for channels that are under way at once. Source: below the calls that a rendezvous takes in a second.
pub(super) const ASKED_MAX: usize = 16;
/// Times that a channel to a peer is asked for, unless the peer begins a key handshake again.
pub(super) const ASKS_MAX: u8 = 4;

/// One spare relay, as [`Endpoint::spare_relays`](crate::Endpoint::spare_relays) describes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpareRelay {
    /// Static key.
    pub key: StaticKey,
    /// Underlay address in use.
    pub addr: SocketAddr,
    /// Whether it relays for this node now.
    pub is_ready: bool,
    /// Smoothed round-trip time, once known.
    pub srtt: Option<Duration>,
}

/// What a call is about.
pub(super) enum Purpose {
    Register,
    Grant(Grant),
    /// A channel to this peer, asked for so many times.
    Relay(IdentityKey, u8),
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    Down,
    Up,
    Registered,
}

pub(super) struct Spare {
    pub(super) key: StaticKey,
    pub(super) addr: SocketAddr,
    pub(super) stage: Stage,
    /// The address of this node there.
    pub(super) assigned: Addr,
    /// Sequence of the newest record.
    pub(super) sequence: u64,
    /// Grants that are confirmed, sorted; `None`: not known.
    pub(super) told: Option<Vec<IdentityKey>>,
    /// Pins may have changed since all grants were confirmed.
    pub(super) is_behind: bool,
    /// Peers to which a channel is to be asked for, and how many times that was done; at most one entry for each pin.
    pub(super) wanted: Vec<(IdentityKey, u8)>,
    pub(super) calls: Vec<(Ticket, Instant, Purpose)>,
    pub(super) next_ticket: u32,
    /// When it is to be reached.
    pub(super) reach_at: Option<Instant>,
    /// Nothing is asked before.
    pub(super) quiet_until: Option<Instant>,
    pub(super) pause: Duration,
    pub(super) move_at: Option<(Instant, SocketAddr)>,
}

/// All spare relays.
#[derive(Default)]
pub(super) struct Spares(pub(super) Vec<Spare>);

impl Spare {
    pub(super) const fn new(now: Instant, key: StaticKey, addr: SocketAddr) -> Self {
        Self {
            key,
            addr,
            stage: Stage::Down,
            assigned: Addr::new(0, 0),
            sequence: 0,
            told: None,
            is_behind: false,
            wanted: Vec::new(),
            calls: Vec::new(),
            next_ticket: 1,
            reach_at: Some(now),
            quiet_until: None,
            pause: PAUSE_MIN,
            move_at: None,
        }
    }

    /// Everything that was said in the tunnel is void: it is gone, or another process is at its end.
    pub(super) fn begin(&mut self, stage: Stage) {
        (self.stage, self.told, self.quiet_until) = (stage, None, None);
        self.calls.clear();
        self.wanted.clear();
    }

    pub(super) fn want(&mut self, key: IdentityKey, asks: u8) {
        let is_asked = self.calls.iter().any(|(_, _, purpose)| matches!(purpose, Purpose::Relay(to, _) if *to == key));
        if !is_asked && !self.wanted.iter().any(|(wanted, _)| *wanted == key) {
            self.wanted.push((key, asks));
        }
    }

    /// Asks nothing for a while.
    fn back_off(&mut self, now: Instant) {
        self.quiet_until = Some(now + self.pause);
        self.pause = (self.pause * 2).min(PAUSE_MAX);
    }

    fn is_calling(&self, f: impl Fn(&Purpose) -> bool) -> bool {
        self.calls.iter().any(|(_, _, purpose)| f(purpose))
    }

    /// What is to be told about the pins; `None` when all of it is known.
    fn next_grant(&self, pins: &[IdentityKey]) -> Option<Grant> {
        let told = self.told.as_deref().unwrap_or_default();
        let missing = pins.iter().filter(|key| told.binary_search(key).is_err());
        let add: Vec<_> = missing.copied().take(GRANTS_MAX).collect();
        let over = told.iter().filter(|key| pins.binary_search(key).is_err());
        let remove: Vec<_> = over.copied().take(GRANTS_MAX - add.len()).collect();
        let is_whole = self.told.is_none();
        (is_whole || add.len() + remove.len() > 0).then_some(Grant { is_whole, add, remove })
    }

    /// The next call that is due, with its purpose; `pins` gives all pins, sorted.
    pub(super) fn next(&mut self, now: Instant, pins: impl Fn() -> Vec<IdentityKey>) -> Option<Purpose> {
        if self.stage == Stage::Down || self.quiet_until.is_some_and(|at| now < at) {
            return None;
        }
        self.quiet_until = None;
        if self.stage == Stage::Up {
            return (!self.is_calling(|purpose| matches!(purpose, Purpose::Register))).then_some(Purpose::Register);
        }
        if self.is_calling(|purpose| matches!(purpose, Purpose::Grant(_))) {
            return None;
        }
        if self.is_behind {
            match self.next_grant(&pins()) {
                Some(grant) => return Some(Purpose::Grant(grant)),
                None => self.is_behind = false,
            }
        }
        let has_room = self.calls.len() < ASKED_MAX && !self.wanted.is_empty();
        has_room.then(|| self.wanted.remove(0)).map(|(key, asks)| Purpose::Relay(key, asks + 1))
    }

    /// Grants are confirmed.
    pub(super) fn granted(&mut self, Grant { is_whole, add, remove }: Grant) {
        let mut told = if is_whole { Vec::new() } else { self.told.take().unwrap_or_default() };
        told.extend(add);
        told.retain(|key| !remove.contains(key));
        told.sort_unstable();
        told.dedup();
        self.told = Some(told);
    }

    /// A call has had no effect: what it was about is asked again later.
    pub(super) fn not_now(&mut self, now: Instant, purpose: Purpose) {
        self.back_off(now);
        if let Purpose::Relay(key, asks) = purpose
            && asks < ASKS_MAX
        {
            self.want(key, asks);
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let calls = self.calls.iter().map(|(_, at, _)| *at).min();
        let others = earliest(self.reach_at, self.move_at.map(|(at, _)| at));
        earliest(earliest(calls, others), self.quiet_until)
    }
}
