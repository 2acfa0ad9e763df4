//! The room of the places of spare relays: their names are looked up on a thread of their own, and one that does not answer is
//! sought at its next address, for ever.

use crate::config::{RendezvousConfig, RendezvousHost};
use crate::context::Context;
use crate::failure::{Code, Failure};
use crate::underlay::resolver::Resolver;
use mio::Waker;
use pilot_core::Instant;
use pilot_core::endpoint::SPARES_MAX;
use pilot_core::identity::StaticKey;
use pilot_core::time::Duration;
use std::net::SocketAddr;
use std::sync::Arc;

/// Bounds of the pause between two tries. Source: as for the rendezvous.
const PAUSE_MIN: Duration = Duration::from_secs(3);
const PAUSE_MAX: Duration = Duration::from_secs(24);

struct Place {
    key: StaticKey,
    hosts: Vec<RendezvousHost>,
    /// Addresses tried so far; `None`: the endpoint does not know the relay yet.
    tried: Option<usize>,
}

/// The places of all spare relays.
pub(crate) struct RelayPlaces {
    places: Vec<Place>,
    resolver: Resolver,
    due: Option<Instant>,
    pause: Duration,
}

/// The keys and places of the relays in the settings of a node.
///
/// # Errors
/// `InvalidArgument` when there are too many, or one has the key of another one or of the rendezvous.
pub(crate) fn check(relays: &[RendezvousConfig], rendezvous: &RendezvousConfig) -> Result<(), Failure> {
    let wrong = |text: &str| Err(Failure::new(Code::InvalidArgument, text));
    let key = |config: &RendezvousConfig| place(config).map(|(key, _)| key);
    let keys: Vec<_> = relays.iter().map(key).collect();
    if keys.len() > SPARES_MAX {
        return wrong("a node has at most three relays beside its rendezvous");
    }
    if keys.contains(&None) {
        return wrong("a relay is given as KEY@host[:port][,host[:port]…]");
    }
    let is_taken = |at: usize| keys[at] == key(rendezvous) || keys[..at].contains(&keys[at]);
    if (0..keys.len()).any(is_taken) {
        return wrong("each relay has a key of its own, which is not that of the rendezvous");
    }
    Ok(())
}

fn place(config: &RendezvousConfig) -> Option<(StaticKey, Vec<RendezvousHost>)> {
    match config {
        RendezvousConfig::At(key, addr) => Some((*key, vec![(*addr).into()])),
        RendezvousConfig::Hosts(key, hosts) => Some((*key, hosts.clone())),
        RendezvousConfig::File(_) | RendezvousConfig::None => None,
    }
}

impl RelayPlaces {
    pub(crate) fn new(relays: &[RendezvousConfig], waker: Arc<Waker>) -> Self {
        let places = relays.iter().filter_map(place).map(|(key, hosts)| Place { key, hosts, tried: None });
        let places: Vec<Place> = places.collect();
        let due = (!places.is_empty()).then_some(Instant::ZERO);
        Self { places, resolver: Resolver::new(waker), due, pause: PAUSE_MIN }
    }

    pub(crate) const fn poll_timeout(&self) -> Option<Instant> {
        self.due
    }

    pub(crate) fn handle_timeout(&mut self, cx: &mut Context) {
        let is_due = self.due.is_some_and(|at| at <= cx.now);
        if self.places.is_empty() || !(self.resolver.poll(cx.now) || is_due) {
            return;
        }
        let mut is_content = true;
        for place in &mut self.places {
            let relay = cx.stack.endpoint().spare_relays().find(|relay| relay.key == place.key);
            if relay.is_some_and(|relay| relay.is_ready) {
                continue;
            }
            is_content = false;
            let mut known: Vec<SocketAddr> = Vec::new();
            for host in &place.hosts {
                let found = self.resolver.addresses(cx.now, &host.name);
                let found = found.and_then(Result::ok).unwrap_or_default(); // asked again with the next try
                known.extend(found.into_iter().map(|ip| SocketAddr::new(ip, host.port)));
            }
            known.retain(|addr| cx.config.listen.is_ipv6() || addr.is_ipv4());
            let Some(first) = known.first() else { continue };
            match place.tried {
                None => {
                    cx.stack.endpoint_mut().add_relay(cx.now, place.key, *first);
                    place.tried = Some(1);
                }
                Some(tried) if is_due => {
                    let next = known[tried % known.len()];
                    place.tried = Some(tried + 1);
                    if relay.is_some_and(|relay| relay.addr != next) {
                        cx.stack.endpoint_mut().move_relay(cx.now, &place.key, next);
                    }
                }
                Some(_) => {}
            }
        }
        if is_due {
            // The endpoint tells of no relay that is lost, so all are looked at now and then.
            self.pause = if is_content { PAUSE_MIN } else { (self.pause * 2).min(PAUSE_MAX) };
            self.due = Some(cx.now + if is_content { PAUSE_MAX } else { self.pause });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::Lab;

    fn config(key: u8, hosts: &str) -> RendezvousConfig {
        format!("{}@{hosts}", format!("{key:02x}").repeat(32)).parse().expect(hosts)
    }

    #[test]
    fn relays_are_few_and_have_keys_of_their_own() {
        let (home, relay) = (config(1, "192.0.2.1"), |key| config(key, "rdv.example,192.0.2.1:7"));
        assert!(check(&[], &home).is_ok() && check(&[relay(2), relay(3), relay(4)], &home).is_ok());
        let none = RendezvousConfig::None;
        let many = [relay(2), relay(3), relay(4), relay(5)];
        for bad in [&many[..], &[relay(1)], &[relay(2), relay(2)], &[none], &[RendezvousConfig::File("x".into())]] {
            assert_eq!(check(bad, &home).map_err(|failure| failure.code), Err(Code::InvalidArgument), "{bad:?}");
        }
    }

    #[test]
    fn a_relay_that_does_not_answer_is_sought_at_its_other_addresses() {
        let mut lab = Lab::strangers(1);
        let cx = &mut lab.nodes[0];
        let poll = mio::Poll::new().expect("a poll");
        let waker = Arc::new(Waker::new(poll.registry(), mio::Token(0)).expect("a waker"));
        let relays = [config(2, "192.0.2.1,192.0.2.2:7"), config(3, "192.0.2.3")];
        let mut places = RelayPlaces::new(&relays, waker.clone());
        let mut seen = Vec::new();
        for _ in 0..5 {
            cx.now = places.poll_timeout().expect("for ever").max(cx.now);
            places.handle_timeout(cx);
            let addrs = cx.stack.endpoint().spare_relays().map(|relay| relay.addr.to_string());
            seen.push(addrs.collect::<Vec<_>>());
        }
        let [first, second] = ["192.0.2.1:9000", "192.0.2.2:7"].map(|addr| vec![addr, "192.0.2.3:9000"]);
        assert_eq!(seen, [&first, &second, &first, &second, &first].map(Clone::clone));
        assert!(places.poll_timeout().expect("for ever").since(cx.now) <= PAUSE_MAX);
        assert_eq!(RelayPlaces::new(&[], waker).poll_timeout(), None);
    }
}
