//! The room of this machine's own addresses.

use crate::context::Context;
use crate::platform::AddressWatch;
use crate::underlay::udp::Udp;
use pilot_core::Instant;
use pilot_core::time::Duration;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};

/// Pause before a look: an address and its routes come one after the other. Source: `docs/paths.md`, "Roaming".
const SETTLING: Duration = Duration::from_millis(20);

/// The watch on this machine's addresses.
pub(crate) struct Addresses {
    /// `None` where the system has no such thing; then a node that moved is found again with its next keepalive.
    watch: Option<AddressWatch>,
    has_changed: bool,
    look_at: Option<Instant>,
}

impl Addresses {
    /// Begins at the loop's time 0.
    pub(crate) fn new(watch: Option<AddressWatch>) -> Self {
        let mut addresses = Self { watch, has_changed: false, look_at: None };
        addresses.look_again(Instant::ZERO);
        addresses
    }

    /// Where the system does not tell of changes, they are looked for.
    fn look_again(&mut self, now: Instant) {
        self.look_at = self.watch.as_ref().and_then(AddressWatch::look_every).map(|pause| now + pause);
    }

    /// The watch is readable.
    pub(crate) fn readiness(&mut self) {
        self.has_changed |= self.watch.as_ref().is_some_and(AddressWatch::drain);
    }

    pub(crate) fn handle_timeout(&mut self, cx: &mut Context, udp: &Udp) {
        if std::mem::take(&mut self.has_changed) {
            self.look_at.get_or_insert(cx.now + SETTLING);
        }
        if self.look_at.take_if(|at| *at <= cx.now).is_none() {
            return;
        }
        self.look_again(cx.now);
        let rendezvous = cx.stack.endpoint().rendezvous_address().map(|(_, addr)| addr);
        let own = own_addresses(udp, rendezvous);
        // Between two networks there is no address to tell.
        if !own.is_empty() {
            cx.stack.endpoint_mut().set_candidates(cx.now, own);
        }
    }

    pub(crate) const fn poll_timeout(&self) -> Option<Instant> {
        self.look_at
    }
}

/// This machine's underlay addresses: the source addresses of datagrams to the rendezvous, and to anywhere.
pub(crate) fn own_addresses(udp: &Udp, rendezvous: Option<SocketAddr>) -> Vec<SocketAddr> {
    let Ok(bound) = udp.local_addr() else { return Vec::new() };
    if !bound.ip().is_unspecified() {
        return vec![bound];
    }
    // Connecting a UDP socket sends nothing; it only asks the routing table for our source address.
    let source = |to: SocketAddr| {
        let probe = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
        probe.connect(to).ok()?;
        probe.local_addr().ok().map(|addr| addr.ip())
    };
    let anywhere = SocketAddr::from(([192, 0, 2, 1], 9)); // TEST-NET-1, RFC 5737
    let mut ips: Vec<IpAddr> = rendezvous.into_iter().chain([anywhere]).filter_map(source).collect();
    ips.retain(|ip| !ip.is_unspecified());
    ips.dedup();
    ips.into_iter().map(|ip| SocketAddr::new(ip, bound.port())).collect()
}
