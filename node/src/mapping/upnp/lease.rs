//! Owns the mapping that a gateway keeps by UPnP: when it is asked for and renewed, beside the loop.

use super::job::{Job, LEASE_S, Mapped};
use crate::mapping::mapper::is_public;
use mio::Waker;
use pilot_core::Instant;
use pilot_core::time::Duration;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::thread::JoinHandle;

/// Bounds of the pause after an attempt that gave nothing. Source: docs/paths.md, "Port mapping".
const PAUSE_MIN: Duration = Duration::from_secs(600);
const PAUSE_MAX: Duration = Duration::from_secs(3600);
/// Longest time for which an orderly end waits for the gateway. Source: own choice.
const END_TIME: Duration = Duration::from_millis(300);
/// How often an attempt is looked after, should the waker fail. Source: own choice, more than an attempt takes.
const LOOK_PAUSE: Duration = Duration::from_secs(15);

/// A mapping by UPnP at one gateway.
pub(in crate::mapping) struct Lease {
    gateway: IpAddr,
    client: SocketAddr,
    waker: Arc<Waker>,
    /// The attempt that is under way.
    job: Option<JoinHandle<std::io::Result<Mapped>>>,
    held: Option<(Mapped, Instant)>,
    next_at: Instant,
    pause: Duration,
}

impl Lease {
    /// Nothing is held; the gateway is asked at once.
    pub(in crate::mapping) const fn new(now: Instant, gateway: IpAddr, client: SocketAddr, waker: Arc<Waker>) -> Self {
        Self { gateway, client, waker, job: None, held: None, next_at: now, pause: PAUSE_MIN }
    }

    /// The mapped address, and until when it lasts.
    pub(in crate::mapping) fn held(&self) -> Option<(SocketAddr, Instant)> {
        self.held.as_ref().map(|(mapped, until)| (mapped.external, *until))
    }

    pub(in crate::mapping) const fn poll_timeout(&self) -> Instant {
        self.next_at
    }

    /// Takes the outcome of an attempt, and begins one that is due.
    pub(in crate::mapping) fn handle_timeout(&mut self, now: Instant) {
        if let Some(job) = self.job.take_if(|job| job.is_finished()) {
            self.finished(now, job.join().ok().and_then(Result::ok));
        }
        self.held.take_if(|(_, until)| *until <= now);
        if self.next_at > now {
            return;
        }
        self.next_at = now + LOOK_PAUSE;
        if self.job.is_none() {
            let before = self.held.as_ref().map(|(mapped, _)| mapped.clone());
            let job = Job { gateway: self.gateway, client: self.client, before };
            let waker = self.waker.clone();
            let body = move || {
                let outcome = job.run();
                // A loop that has ended needs no waking.
                let _ = waker.wake();
                outcome
            };
            self.job = std::thread::Builder::new().name("pilot-upnp".into()).spawn(body).ok();
        }
    }

    fn finished(&mut self, now: Instant, mapped: Option<Mapped>) {
        match mapped.filter(|mapped| is_public(mapped.external)) {
            Some(mapped) => {
                let lease = Duration::from_secs(LEASE_S.into());
                (self.held, self.pause) = (Some((mapped, now + lease)), PAUSE_MIN);
                self.next_at = now + lease / 2;
            }
            None => {
                self.next_at = now + self.pause;
                self.pause = (self.pause * 2).min(PAUSE_MAX);
            }
        }
    }

    /// Gives the mapping back, within [`END_TIME`].
    pub(in crate::mapping) fn end(&self) {
        if let Some((mapped, _)) = &self.held {
            mapped.end(END_TIME);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::job::tests::{Igd, described};
    use super::*;

    fn lease(gateway: &Igd) -> (Lease, mio::Poll) {
        let poll = mio::Poll::new().expect("a poll");
        let waker = Arc::new(Waker::new(poll.registry(), mio::Token(0)).expect("a waker"));
        let mut lease = Lease::new(Instant::ZERO, [127, 0, 0, 1].into(), "127.0.0.1:5000".parse().expect("one"), waker);
        // The search goes to a port that only root may have; the rest of the conversation is the same.
        let mapped = Mapped { external: "203.0.113.1:5000".parse().expect("one"), service: described(gateway) };
        lease.held = Some((mapped, Instant::from_micros(10_000_000_000)));
        (lease, poll)
    }

    fn wait(lease: &mut Lease, now: Instant) {
        let begin = std::time::Instant::now();
        while lease.job.as_ref().is_some_and(|job| !job.is_finished()) {
            assert!(begin.elapsed() < std::time::Duration::from_secs(20), "a job ends");
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        lease.handle_timeout(now);
    }

    #[test]
    fn a_lease_is_renewed_at_half_and_given_back() {
        let gateway = Igd::honest();
        let (mut lease, _poll) = lease(&gateway);
        let mut now = Instant::ZERO;
        for _ in 0..3 {
            lease.handle_timeout(now);
            assert!(lease.job.is_some());
            wait(&mut lease, now);
            assert_eq!(lease.held(), Some(("203.0.113.9:5000".parse().expect("one"), now + Duration::from_secs(3600))));
            assert_eq!(lease.poll_timeout(), now + Duration::from_secs(1800));
            now = lease.poll_timeout();
        }
        lease.end();
        assert!(gateway.heard().ends_with(&["DeletePortMapping".into()]), "{:?}", gateway.heard());
    }

    #[test]
    fn an_address_that_is_not_of_the_internet_is_none_and_pauses_grow() {
        let gateway = Igd::saying("10.0.0.1");
        let (mut lease, _poll) = lease(&gateway);
        let (mut now, mut pauses) = (Instant::ZERO, Vec::new());
        for _ in 0..5 {
            lease.handle_timeout(now);
            wait(&mut lease, now);
            pauses.push(lease.poll_timeout().since(now).as_secs());
            now = lease.poll_timeout();
        }
        assert_eq!(pauses, [600, 1200, 2400, 3600, 3600]);
        assert_eq!(
            lease.held(),
            Some(("203.0.113.1:5000".parse().expect("one"), Instant::from_micros(10_000_000_000)))
        );
        lease.held = None;
        lease.next_at = now + Duration::from_secs(3600);
        lease.handle_timeout(now);
        assert!(lease.job.is_none() && lease.held().is_none());
    }
}
