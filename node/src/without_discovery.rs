//! Gateways and nodes of one network in a build that asks and hears none.

use crate::answer;
use crate::context::Context;
use mio::{Registry, Token, Waker};
use pilot_core::Instant;
use std::net::SocketAddr;
use std::sync::Arc;

/// The mappings of this node.
pub(crate) struct Mapping;

impl Mapping {
    pub(crate) fn new(_: bool, _: Registry, _: Arc<Waker>) -> Self {
        Self
    }

    pub(crate) const fn look(&mut self, _: Instant, _: SocketAddr) {}

    pub(crate) const fn readiness(&self, _: Instant, _: Token) {}

    pub(crate) const fn handle_timeout(&self, _: &mut Context) {}

    pub(crate) const fn poll_timeout(&self) -> Option<Instant> {
        None
    }

    pub(crate) fn report(&self, _: &Context) -> answer::PortMapping {
        answer::PortMapping { why: Some("off".into()), ..answer::PortMapping::default() }
    }

    pub(crate) const fn end(&self) {}
}

/// The announcements of this node.
pub(crate) struct Lan;

impl Lan {
    pub(crate) fn new(_: bool, _: Registry) -> Self {
        Self
    }

    pub(crate) const fn look(&mut self, _: Instant, _: SocketAddr) {}

    pub(crate) const fn readiness(&self, _: &mut Context, _: Token) {}

    pub(crate) const fn hurry(&self, _: Instant) {}

    pub(crate) const fn handle_timeout(&self, _: &mut Context) {}

    pub(crate) const fn poll_timeout(&self) -> Option<Instant> {
        None
    }

    pub(crate) const fn report(&self) -> answer::Lan {
        answer::Lan { on: false, heard: 0 }
    }
}
