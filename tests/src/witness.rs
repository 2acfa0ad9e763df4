//! Owns the witness: an honest node which the rendezvous knows, that begins anew again and again. Whatever strangers do, it is
//! served within [`SERVED_WITHIN`].
//!
//! Its datagrams arrive whatever the network does to others, so that nothing but the rendezvous can keep it waiting.

use pilot_core::endpoint::{DirectoryState, NoSink};
use pilot_core::identity::{Profile, StaticKey};
use pilot_core::rng::Rng;
use pilot_core::time::{Duration, earliest};
use pilot_core::{Config, Endpoint, Identity, Instant};
use std::net::SocketAddr;

/// Address of the witness.
pub(crate) const WITNESS_ADDR: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 200)), 4000);
/// Time that its datagrams are under way.
pub(crate) const DELAY: Duration = Duration::from_millis(10);
/// Longest time from the first datagram of a new process to the answer to its registration. Source: `docs/wire.md`, "Denial of
/// service".
const SERVED_WITHIN: Duration = Duration::from_secs(2);
/// Time between an answer and the next process.
const PAUSE: Duration = Duration::from_secs(3);

pub(crate) struct Witness {
    endpoint: Endpoint,
    rendezvous: (StaticKey, SocketAddr),
    processes: u64,
    /// The present process waits for its answer since then.
    since: Option<Instant>,
    again_at: Instant,
    /// It was served before: the rendezvous knows its key.
    is_known: bool,
    /// The longest that a known process has waited.
    pub(crate) longest: Duration,
}

impl Witness {
    pub(crate) fn new(now: Instant, rendezvous: (StaticKey, SocketAddr), wall_us: u64) -> Self {
        Self {
            endpoint: make(rendezvous, 0, now, wall_us),
            rendezvous,
            processes: 0,
            since: Some(now),
            again_at: now,
            is_known: false,
            longest: Duration::ZERO,
        }
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let next = self.since.map_or(self.again_at, |since| since + SERVED_WITHIN + DELAY);
        earliest(Some(next), self.endpoint.poll_timeout().map(|(at, _)| at))
    }

    pub(crate) fn handle_datagram(&mut self, now: Instant, from: SocketAddr, datagram: &mut [u8]) {
        // What is ignored is of a process before.
        let _ = self.endpoint.handle_datagram(now, from, datagram, &mut NoSink);
    }

    /// Goes on. While the rendezvous is absent no process waits.
    ///
    /// # Panics
    /// When a process has waited for too long.
    pub(crate) fn handle_timeout(&mut self, now: Instant, wall_us: u64, is_rendezvous_there: bool) {
        if !is_rendezvous_there {
            (self.since, self.again_at) = (None, now + PAUSE);
        }
        if self.since.is_none() && self.again_at <= now {
            self.processes += 1;
            self.endpoint = make(self.rendezvous, self.processes, now, wall_us);
            self.since = Some(now);
        }
        self.endpoint.handle_timeout(now);
        while self.endpoint.poll_event().is_some() {}
        let Some(since) = self.since else { return };
        let waited = now.since(since);
        assert!(!self.is_known || waited <= SERVED_WITHIN, "a known node waits for {waited:?} at {now:?}");
        if matches!(self.endpoint.directory_state(), DirectoryState::Ready(_)) {
            self.longest = self.longest.max(if self.is_known { waited } else { Duration::ZERO });
            (self.since, self.again_at, self.is_known) = (None, now + PAUSE, true);
        }
    }

    /// The next datagram to the rendezvous.
    pub(crate) fn poll_transmit(&mut self, now: Instant) -> Option<Vec<Vec<u8>>> {
        let mut batch = Vec::new();
        let transmit = self.endpoint.poll_transmit(now, &mut batch)?;
        Some(batch.chunks(transmit.segment_len).map(<[u8]>::to_vec).collect())
    }
}

fn make(rendezvous: (StaticKey, SocketAddr), process: u64, now: Instant, wall_us: u64) -> Endpoint {
    let mut seed = [202; 32];
    seed[..8].copy_from_slice(&process.to_le_bytes());
    let mut config = Config::new(Identity::from_seed([202; 32]), Rng::entropy(seed));
    config.wall_at_zero_us = wall_us - now.as_micros();
    config.profile = Profile { hostname: "witness".into(), ..Profile::default() };
    config.rendezvous = Some(rendezvous);
    Endpoint::new(config)
}
