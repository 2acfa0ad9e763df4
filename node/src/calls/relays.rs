//! Owns what is told of the relays of this node: its rendezvous, and the spare ones beside it.

use crate::answer::{PairRelay, Relay};
use crate::config::RendezvousConfig;
use crate::context::Context;
use pilot_core::endpoint::{DirectoryState, PeerInfo, SpareRelay};
use pilot_core::path::PathAddr;
use pilot_core::time::Duration;
use std::net::SocketAddr;

/// True when an answer of the rendezvous is overdue.
pub(crate) fn is_overdue(cx: &Context) -> bool {
    cx.stack.endpoint().rendezvous_info(cx.now).is_some_and(|info| info.is_overdue)
}

/// True while the rendezvous that this node has does not serve it.
pub(crate) fn lacks_rendezvous(cx: &Context) -> bool {
    match cx.stack.endpoint().directory_state() {
        DirectoryState::Absent => false,
        DirectoryState::Ready(_) => is_overdue(cx),
        _ => true,
    }
}

/// The relays of this node, for `info`; none without spare ones.
pub(crate) fn all(cx: &Context) -> Vec<Relay> {
    if cx.config.relays.is_empty() {
        return Vec::new();
    }
    let endpoint = cx.stack.endpoint();
    let [of_rendezvous, of_spares @ ..] = endpoint.relayed(cx.now);
    let home = endpoint.rendezvous_address().map(|(_, addr)| Relay {
        address: addr.to_string(),
        spare: false,
        ready: !lacks_rendezvous(cx),
        rtt_ms: millis(endpoint.rendezvous_info(cx.now).and_then(|info| info.srtt)),
        peers: of_rendezvous as u64,
    });
    let known: Vec<(SpareRelay, usize)> = endpoint.spare_relays().zip(of_spares).collect();
    let spares = cx.config.relays.iter().map(|config| match known.iter().find(|(relay, _)| is_it(config, relay)) {
        Some((relay, peers)) => Relay {
            address: relay.addr.to_string(),
            spare: true,
            ready: relay.is_ready,
            rtt_ms: millis(relay.srtt),
            peers: *peers as u64,
        },
        None => Relay { address: hosts(config), spare: true, ..Relay::default() },
    });
    home.into_iter().chain(spares).collect()
}

fn is_it(config: &RendezvousConfig, relay: &SpareRelay) -> bool {
    matches!(config, RendezvousConfig::At(key, _) | RendezvousConfig::Hosts(key, _) if *key == relay.key)
}

/// The places of a relay as they are configured.
fn hosts(config: &RendezvousConfig) -> String {
    match config {
        RendezvousConfig::At(_, addr) => addr.to_string(),
        RendezvousConfig::Hosts(_, hosts) => hosts.iter().map(ToString::to_string).collect::<Vec<_>>().join(","),
        RendezvousConfig::File(_) | RendezvousConfig::None => String::new(),
    }
}

/// What the relays of this node do for it and a peer; nothing without spare ones.
pub(crate) fn of_pair(cx: &Context, info: &PeerInfo) -> Vec<PairRelay> {
    let endpoint = cx.stack.endpoint();
    let place = |path: PathAddr| endpoint.relay_address(path);
    let in_use = info.path.and_then(place);
    let has = |addr: SocketAddr| info.paths.iter().any(|path| place(path.addr) == Some(addr));
    let spares: Vec<(SocketAddr, bool)> = endpoint.spare_relays().map(|relay| (relay.addr, relay.is_ready)).collect();
    if spares.is_empty() {
        return Vec::new();
    }
    let home = endpoint.rendezvous_address().map(|(_, addr)| (addr, !lacks_rendezvous(cx)));
    let state = |(addr, is_ready): (SocketAddr, bool)| match (in_use == Some(addr), is_ready, has(addr)) {
        (true, ..) => "in_use",
        (_, false, _) => "away",
        (_, true, true) => "ready",
        (_, true, false) => "not_shared",
    };
    let told = |relay: (SocketAddr, bool)| PairRelay { address: relay.0.to_string(), state: state(relay).into() };
    home.into_iter().chain(spares).map(told).collect()
}

/// A time in milliseconds.
pub(crate) fn millis(time: Option<Duration>) -> Option<f64> {
    time.map(|time| time.as_secs_f64() * 1e3)
}
