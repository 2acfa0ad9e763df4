//! The way to the rendezvous over TLS in a build that has none: nothing is ever taken.

use crate::context::Context;
use crate::underlay::rendezvous::RendezvousPlace;
use crate::underlay::udp::Udp;
use pilot_core::Instant;
use std::net::SocketAddr;

/// The way over TLS.
pub(crate) struct TlsLink;

impl TlsLink {
    pub(crate) const fn takes(&self, _: Instant, _: SocketAddr, _: usize, _: &[u8]) -> bool {
        false
    }

    pub(crate) const fn hears(&self, _: &mut Context, _: SocketAddr, _: usize, _: &[u8]) -> bool {
        false
    }

    pub(crate) const fn receive(&self, _: &mut Context) {}

    pub(crate) const fn flush(&self) {}

    pub(crate) const fn has_more(&self) -> bool {
        false
    }

    pub(crate) const fn handle_timeout(&self, _: &mut Context, _: &RendezvousPlace, _: &mut Udp) {}

    pub(crate) const fn poll_timeout(&self) -> Option<Instant> {
        None
    }
}
