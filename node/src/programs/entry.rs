//! Owns what the owner has set up: one entry for each forward, expose and proxy, with what became of its connections.

use crate::answer::{Exposed, Forward as ForwardAnswer, Proxy as ProxyAnswer};
use crate::effect::Caller;
use crate::ipc::client_id::ClientId;
use crate::programs::filter::Access;
use crate::programs::listen::{Door, Listen};
use crate::programs::target::Target;
use crate::streams::names::name_of;
use pilot_core::Instant;
use pilot_core::identity::IdentityKey;
use pilot_core::trust::TrustBook;
use std::sync::Arc;

/// How long an entry lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Life {
    /// Until it is removed; it is kept on disk.
    Kept,
    /// Until the node ends.
    Run,
    /// Until this client is gone.
    Client(ClientId),
}

impl Life {
    /// The life of what a caller asks for.
    pub(crate) fn of(temporary: Option<bool>, caller: &Caller) -> Self {
        match (temporary, caller) {
            (Some(true), Caller::Client(client, _) | Caller::Official(client, _)) => Self::Client(*client),
            (Some(true), _) => Self::Run,
            _ => Self::Kept,
        }
    }
}

/// A listener on this machine, open or not.
pub(super) struct Listener {
    /// The address, as it shall be bound.
    pub(super) listen: Listen,
    pub(super) door: Option<Door>,
    /// The reason why the address could not be bound, and when it is tried again.
    pub(super) closed: Option<(String, Instant)>,
    /// Tries that have failed in a row.
    pub(super) tries: u32,
}

/// What an entry does with its connections.
pub(super) enum Kind {
    /// Programs that connect to the listener reach a port of a node.
    Forward { listener: Listener, node: String, port: u16 },
    /// Peers that open a stream to a port reach a program.
    Expose(Expose),
    /// Programs that connect to the listener say which node they want.
    Proxy(Proxy),
}

pub(super) struct Expose {
    pub(super) port: u16,
    pub(super) target: Target,
    pub(super) http: bool,
    pub(super) a2a: bool,
    pub(super) proxy_protocol: bool,
    /// The only peers that may come; empty: all that trust lets in.
    pub(super) nodes: Vec<IdentityKey>,
}

pub(super) struct Proxy {
    pub(super) listener: Listener,
    /// Hosts that are no nodes are reached too.
    pub(super) direct: bool,
    pub(super) auth_file: Option<String>,
    pub(super) access: Arc<Access>,
}

/// One entry.
pub(super) struct Entry {
    /// The entry's own number; none is given twice.
    pub(super) number: u32,
    pub(super) life: Life,
    pub(super) kind: Kind,
    /// Connections at this moment.
    pub(super) connections: u32,
    /// Connections since the node's start.
    pub(super) total: u64,
    pub(super) last_error: Option<String>,
}

impl Entry {
    pub(super) const fn new(number: u32, life: Life, kind: Kind) -> Self {
        Self { number, life, kind, connections: 0, total: 0, last_error: None }
    }

    /// The listener of an entry that has one.
    pub(super) const fn listener_mut(&mut self) -> Option<&mut Listener> {
        match &mut self.kind {
            Kind::Forward { listener, .. } => Some(listener),
            Kind::Proxy(proxy) => Some(&mut proxy.listener),
            Kind::Expose(_) => None,
        }
    }

    pub(super) const fn expose(&self) -> Option<&Expose> {
        match &self.kind {
            Kind::Expose(expose) => Some(expose),
            _ => None,
        }
    }

    /// The forward as its owner is told of it; `None` for another kind.
    pub(super) fn as_forward(&self) -> Option<ForwardAnswer> {
        let Kind::Forward { listener, node, port } = &self.kind else { return None };
        Some(ForwardAnswer {
            listen: listener.listen.to_string(),
            node: node.clone(),
            port: *port,
            temporary: self.life != Life::Kept,
            connections: self.connections.into(),
            total: self.total,
            error: listener.closed.as_ref().map(|(why, _)| why.clone()),
            last_error: self.last_error.clone(),
            warning: listener.listen.warning(),
        })
    }

    /// The proxy as its owner is told of it; `None` for another kind.
    pub(super) fn as_proxy(&self) -> Option<ProxyAnswer> {
        let Kind::Proxy(proxy) = &self.kind else { return None };
        Some(ProxyAnswer {
            listen: proxy.listener.listen.to_string(),
            direct: proxy.direct,
            auth_file: proxy.auth_file.clone(),
            temporary: self.life != Life::Kept,
            connections: self.connections.into(),
            total: self.total,
            error: proxy.listener.closed.as_ref().map(|(why, _)| why.clone()),
            last_error: self.last_error.clone(),
        })
    }

    /// The expose as its owner is told of it; `None` for another kind.
    pub(super) fn as_exposed(&self, trust: &TrustBook) -> Option<Exposed> {
        let expose = self.expose()?;
        Some(Exposed {
            port: expose.port,
            target: expose.target.to_string(),
            http: expose.http,
            a2a: expose.a2a,
            proxy_protocol: expose.proxy_protocol,
            nodes: expose.nodes.iter().map(|key| trust.pin(key).map_or_else(|| key.fingerprint(), name_of)).collect(),
            temporary: self.life != Life::Kept,
            connections: self.connections.into(),
            total: self.total,
            last_error: self.last_error.clone(),
        })
    }
}
