//! Owns the friend: an honest machine that one node trusts. Its process begins anew again and again, so that each one needs
//! a session. Whatever strangers and other peers do, the node gives the session within [`SERVED_WITHIN`].
//!
//! Its datagrams arrive whatever the network does to others, and it knows where the node is, so that nothing but the node can
//! keep it waiting.

use pilot_core::endpoint::NoSink;
use pilot_core::identity::IdentityKey;
use pilot_core::rng::Rng;
use pilot_core::time::{Duration, earliest};
use pilot_core::trust::TrustBook;
use pilot_core::{Addr, Config, Endpoint, Event, Identity, Instant};
use std::net::SocketAddr;

/// Address of the friend.
pub(crate) const FRIEND_ADDR: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 201)), 4000);
/// Number of the friend, which its keys follow from.
pub(crate) const FRIEND_NUMBER: u8 = 203;
/// Time that its datagrams are under way.
pub(crate) const DELAY: Duration = Duration::from_millis(10);
/// Longest time from the start of a process to its session. Source: `docs/wire.md`, "Denial of service".
const SERVED_WITHIN: Duration = Duration::from_secs(2);
/// Time between a session and the next process.
const PAUSE: Duration = Duration::from_secs(3);

/// The node as a process of the friend finds it: where it is, and which process of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Whereabouts {
    pub(crate) addr: SocketAddr,
    pub(crate) incarnation: u8,
}

pub(crate) struct Friend {
    endpoint: Endpoint,
    /// What the friend's disk holds.
    book: Vec<u8>,
    /// The friend's own virtual address.
    own: Addr,
    /// The node that trusts it.
    node: IdentityKey,
    found: Whereabouts,
    processes: u64,
    /// The present process waits for its session since then.
    since: Option<Instant>,
    again_at: Instant,
    /// The longest that a process has waited.
    pub(crate) longest: Duration,
}

impl Friend {
    pub(crate) fn new(now: Instant, book: Vec<u8>, own: Addr, node: IdentityKey, found: Whereabouts) -> Self {
        let endpoint = Endpoint::new(Config::new(Identity::from_seed([FRIEND_NUMBER; 32]), Rng::entropy([0; 32])));
        let (since, again_at) = (None, now);
        Self { endpoint, book, own, node, found, processes: 0, since, again_at, longest: Duration::ZERO }
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let next = self.since.map_or(self.again_at, |since| since + SERVED_WITHIN + DELAY);
        earliest(Some(next), self.endpoint.poll_timeout().map(|(at, _)| at))
    }

    pub(crate) fn handle_datagram(&mut self, now: Instant, from: SocketAddr, datagram: &mut [u8]) {
        // What is ignored is of a process before.
        let _ = self.endpoint.handle_datagram(now, from, datagram, &mut NoSink);
    }

    /// Goes on. No process waits for a node that has moved or begun anew meanwhile; the next one finds it where it is.
    ///
    /// # Panics
    /// When a process has waited for too long.
    pub(crate) fn handle_timeout(&mut self, now: Instant, wall_us: u64, found: Whereabouts) {
        if self.found != found {
            (self.found, self.since, self.again_at) = (found, None, now + PAUSE);
        }
        if self.since.is_none() && self.again_at <= now {
            self.begin(now, wall_us);
        }
        self.endpoint.handle_timeout(now);
        while let Some(event) = self.endpoint.poll_event() {
            match event {
                Event::SaveTrust(version) => {
                    self.book = self.endpoint.trust().emit();
                    self.endpoint.trust_saved(now, version);
                }
                Event::Up(_) => {
                    let waited = self.since.take().map_or(Duration::ZERO, |since| now.since(since));
                    (self.longest, self.again_at) = (self.longest.max(waited), now + PAUSE);
                }
                _ => {}
            }
        }
        let waited = self.since.map_or(Duration::ZERO, |since| now.since(since));
        assert!(waited <= SERVED_WITHIN, "a trusted peer waits for {waited:?} at {now:?}");
    }

    /// Starts another process with what the disk holds.
    fn begin(&mut self, now: Instant, wall_us: u64) {
        self.processes += 1;
        let mut seed = [FRIEND_NUMBER; 32];
        seed[..8].copy_from_slice(&self.processes.to_le_bytes());
        let mut config = Config::new(Identity::from_seed([FRIEND_NUMBER; 32]), Rng::entropy(seed));
        config.wall_at_zero_us = wall_us - now.as_micros();
        config.addr = self.own;
        config.trust = TrustBook::parse(&self.book).expect("own form");
        config.trust.note_endpoint(&self.node, self.found.addr);
        self.endpoint = Endpoint::new(config);
        let peer = self.endpoint.peer_by_identity(&self.node).expect("pinned");
        self.endpoint.reach(now, peer);
        (self.since, self.again_at) = (Some(now), now + PAUSE);
    }

    /// The next datagrams, and where they go.
    pub(crate) fn poll_transmit(&mut self, now: Instant) -> Option<(SocketAddr, Vec<Vec<u8>>)> {
        let mut batch = Vec::new();
        let transmit = self.endpoint.poll_transmit(now, &mut batch)?;
        Some((transmit.to, batch.chunks(transmit.segment_len).map(<[u8]>::to_vec).collect()))
    }
}
