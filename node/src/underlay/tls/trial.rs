//! Owns a try of the way to a rendezvous over TLS by a program that only asks whether it leads there.

use crate::config::ProxySetting;
use crate::host::RendezvousHost;
use crate::underlay::tls::join::{Join, Progress, Way};
use pilot_core::Instant;
use std::net::ToSocketAddrs as _;
use std::time::Duration;

/// A way over TLS that leads to a rendezvous.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsWay {
    /// The place, and the proxy on the way.
    pub to: String,
    /// Time for TCP, the proxy, TLS and the upgrade together.
    pub took: Duration,
}

/// Why a way over TLS does not lead to a rendezvous.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsTrouble {
    /// What was found, and at which machine.
    pub text: String,
    /// The proxy stands in the way, or its URL does, and not the rendezvous.
    pub is_by_proxy: bool,
    /// The proxy wants a password, or another one.
    pub wants_password: bool,
}

/// Tries what a node does when no UDP passes: TCP, CONNECT if there is a proxy, TLS, and the upgrade to WebSocket; then ends the
/// connection. Blocks for at most `time`, beside the look-up of a name.
///
/// # Errors
/// The step that failed, in words.
pub fn try_tls(host: RendezvousHost, setting: &ProxySetting, time: Duration) -> Result<TlsWay, TlsTrouble> {
    let begin = std::time::Instant::now();
    let wrong = |text| TlsTrouble { text, is_by_proxy: true, wants_password: false };
    let way = Way::new(host, setting, false).map_err(wrong)?;
    let (to, has_proxy) = (way.to_string(), way.proxy.is_some());
    let trouble = |text, is_by_proxy| TlsTrouble { text, is_by_proxy, wants_password: false };
    let here = |e: std::io::Error| trouble(e.to_string(), false);
    let RendezvousHost { name, port } = way.first();
    let looked_up = (name.as_str(), *port).to_socket_addrs();
    let addresses = looked_up.map_err(|e| trouble(format!("{name}: {e}"), has_proxy))?;
    let mut poll = mio::Poll::new().map_err(here)?;
    let (mut events, mut join) = (mio::Events::with_capacity(8), Join::new(Instant::ZERO, way, addresses.collect()));
    loop {
        let passed = begin.elapsed();
        let text = match join.advance(Instant::ZERO + passed, (poll.registry(), 0)) {
            Progress::Stands(_) => return Ok(TlsWay { to, took: passed }),
            Progress::Failed(text) => Some(text),
            Progress::Waits => (passed >= time).then(|| join.silence()),
        };
        if let Some(text) = text {
            return Err(TlsTrouble { text, is_by_proxy: join.is_at_proxy(), wants_password: join.wants_password() });
        }
        let next = join.poll_timeout().since(Instant::ZERO).min(time);
        match poll.poll(&mut events, Some(next.saturating_sub(begin.elapsed()))) {
            Err(e) if e.kind() != std::io::ErrorKind::Interrupted => return Err(here(e)),
            _ => {}
        }
    }
}
