//! The node's state: what `info`, `peers`, `connections`, `pending` and `trust` answer.

use crate::answer::{
    Asked, Budget, Connection, Connections, Info, Lan, Peer, Peers, Pending, PendingRequest, Pin, PortMapping,
    RendezvousState, Trust, Used, Waiting,
};
use crate::calls::relays::{self, millis};
use crate::calls::{path, resolve};
use crate::context::Context;
use crate::streams::names::{ends, hostname_of};
use crate::webhook::Webhook;
use litemap::LiteMap;
use pilot_core::control::Refusal;
use pilot_core::endpoint::{DirectoryState, Warning};
use pilot_core::identity::IdentityKey;
use pilot_core::path::PathAddr;
use pilot_core::trust::{Pin as CorePin, Ports};
use std::collections::BTreeMap;

/// Difference from the rendezvous' clock that is worth a word. Unit: seconds. Source: own choice; NTP keeps far closer.
const SKEW_TOLD_S: u64 = 60;

/// The part of the state that other rooms own.
#[derive(Clone, Debug, Default)]
pub(crate) struct Facts {
    /// The bound UDP address; empty when unknown.
    pub(crate) udp: String,
    /// Messages in the outbox.
    pub(crate) outbox: usize,
    pub(crate) outbox_waiting: Vec<Waiting>,
    /// Datagrams that clients did not make room for.
    pub(crate) datagrams_dropped: u64,
    /// A rendezvous is configured; its address may not be known yet.
    pub(crate) has_rendezvous: bool,
    pub(crate) mapping: PortMapping,
    pub(crate) lan: Lan,
    /// Time of the node's start. Unit: seconds since 1970.
    pub(crate) started_s: u64,
}

/// The answer to `info`.
pub(crate) fn info(cx: &Context, facts: &Facts) -> Info {
    let endpoint = cx.stack.endpoint();
    // Collecting would sort them first.
    let mut discards = BTreeMap::new();
    discards.extend(endpoint.discards().iter().map(|(name, count)| (name.to_owned(), count)));
    let (rendezvous, why) = match endpoint.directory_state() {
        DirectoryState::Absent if facts.has_rendezvous => (RendezvousState::Connecting, None),
        DirectoryState::Absent => (RendezvousState::Absent, None),
        DirectoryState::Connecting => (RendezvousState::Connecting, None),
        DirectoryState::Registering => (RendezvousState::Registering, None),
        DirectoryState::Ready(_) if relays::is_overdue(cx) => (RendezvousState::Silent, None),
        DirectoryState::Ready(_) => (RendezvousState::Ready, None),
        DirectoryState::Refused(why) => (RendezvousState::Refused, Some(refusal_text(why))),
        _ => (RendezvousState::Unknown, None),
    };
    let profile = endpoint.profile();
    Info {
        node_id: endpoint.addr().node,
        address: endpoint.addr().to_string(),
        hostname: profile.hostname.clone(),
        public: profile.public,
        tags: profile.tags.clone(),
        public_key: endpoint.identity().public().to_string(),
        fingerprint: endpoint.identity().public().fingerprint(),
        pid: std::process::id(),
        home: cx.config.home.to_string_lossy().into_owned(),
        udp: facts.udp.clone(),
        cipher: endpoint.cipher().into(),
        key_agreement: endpoint.key_agreement().into(),
        rendezvous,
        rendezvous_refusal: why.map(str::to_owned),
        rendezvous_address: endpoint.rendezvous_address().map(|(key, addr)| format!("{key}@{addr}")),
        rendezvous_link: path::rendezvous(cx),
        relays: relays::all(cx),
        nat: path::kind(cx.stack.endpoint().nat()),
        reflexive: endpoint.reflexive().map(|a| a.to_string()),
        identity_elsewhere: endpoint.identity_elsewhere(cx.now).map(|a| a.to_string()),
        clock_behind_s: endpoint.clock_behind_s(cx.now),
        warnings: warnings(cx),
        uptime_secs: cx.now.as_micros() as f64 / 1e6,
        started_at: facts.started_s,
        trusted: endpoint.trust().pins().count() as u64,
        pending: endpoint.trust().pending().count() as u64,
        connections: cx.stack.streams().count() as u64,
        ports: cx.stack.ports().collect(),
        outbox: facts.outbox as u64,
        outbox_waiting: facts.outbox_waiting.clone(),
        version: env!("CARGO_PKG_VERSION").into(),
        discards,
        datagrams_dropped: facts.datagrams_dropped,
        mapping: facts.mapping.clone(),
        lan: facts.lan,
        webhook: cx.config.webhook.as_ref().and_then(Webhook::state),
    }
}

/// What other rooms know of the use of quotas.
pub(crate) struct Uses<'a> {
    /// The bytes of files, by the senders' fingerprints, when the disk has told them.
    pub(crate) disk: Option<&'a LiteMap<String, u64>>,
    /// Counts a peer's messages of today, where there is a quota of them.
    pub(crate) messages: &'a dyn Fn(&IdentityKey) -> u32,
}

impl Uses<'_> {
    fn disk(&self, pin: &CorePin) -> Option<Used> {
        let used = self.disk?.get(&pin.identity.fingerprint()).copied().unwrap_or(0);
        Some(Used { used, max: pin.quota().disk() })
    }

    fn messages(&self, pin: &CorePin) -> Option<Used> {
        let max = pin.quota().messages?.into();
        Some(Used { used: (self.messages)(&pin.identity).into(), max })
    }
}

/// The answer to `peers`.
pub(crate) fn peers(cx: &Context, uses: &Uses<'_>) -> Peers {
    let peers: Vec<Peer> = cx.stack.endpoint().trust().pins().filter_map(|pin| peer(cx, uses, pin)).collect();
    let encrypted = peers.iter().filter(|peer| peer.encrypted).count() as u64;
    Peers { total: peers.len() as u64, encrypted, peers }
}

fn peer(cx: &Context, uses: &Uses<'_>, pin: &CorePin) -> Option<Peer> {
    let endpoint = cx.stack.endpoint();
    let id = endpoint.peer_by_identity(&pin.identity)?;
    let info = endpoint.peer_info(cx.now, id)?;
    let usage = cx.stack.usage(id);
    let used = |used: usize, max: usize| Used { used: used as u64, max: max as u64 };
    Some(Peer {
        node_id: pin.addr.node,
        address: pin.addr.to_string(),
        hostname: pin.hostname.clone(),
        granted: pin.reach().names(),
        granted_to_us: pin.granted.as_ref().map(Ports::names),
        encrypted: info.up,
        authenticated: info.up,
        relay: matches!(info.path, Some(PathAddr::Relay(_))),
        path: info.path.map(|p| p.to_string()),
        endpoint: info.path.map(|p| p.to_string()).unwrap_or_default(),
        datagram_len: info.datagram_len as u64,
        srtt_ms: millis(info.srtt),
        session_age_secs: info.session_age.map(|d| d.as_secs()),
        congestion_control: info.controller.into(),
        window: info.window,
        in_flight: info.in_flight,
        bytes_sent: info.bytes_sent,
        bytes_received: info.bytes_received,
        datagrams_sent: info.link.sent,
        datagrams_lost: info.link.lost,
        cipher: endpoint.cipher().into(),
        reason: info.secret_differs.then(|| "pair_secret_differs".into()),
        budget: Budget {
            memory: used(usage.memory, usage.memory_max),
            streams: used(usage.streams, usage.streams_max),
            disk: uses.disk(pin),
            messages: uses.messages(pin),
        },
        paths: path::described(cx, &info),
    })
}

/// The answer to `connections`.
pub(crate) fn connections(cx: &Context) -> Connections {
    let connections: Vec<Connection> = cx
        .stack
        .streams()
        .filter_map(|id| {
            let info = cx.stack.stream_info(id)?;
            let (_, peer) = ends(&cx.stack, id);
            Some(Connection {
                id: id.number(),
                local_port: info.local_port,
                remote_addr: peer.addr.to_string(),
                remote_port: info.remote_port,
                state: info.state.into(),
                hostname: hostname_of(&cx.stack, peer.addr),
                unacked: info.unacknowledged as u64,
                readable: info.readable as u64,
            })
        })
        .collect();
    Connections { total: connections.len() as u64, connections }
}

/// The answer to `pending`: what the owner has seen gives way last.
pub(crate) fn pending(cx: &mut Context) -> Pending {
    cx.stack.endpoint_mut().note_requests_seen();
    let trust = cx.stack.endpoint().trust();
    let strangers = trust.pending().map(|p| PendingRequest {
        node_id: p.record.addr.node,
        address: p.record.addr.to_string(),
        hostname: p.record.hostname.clone(),
        public_key: p.record.identity.to_string(),
        fingerprint: p.record.identity.fingerprint(),
        justification: p.note.clone(),
        received_at: p.received_at,
        asks_for: None,
        granted: None,
        warning: if trust.secret_differs(&p.record.identity) {
            Some(
                "this peer is trusted and does not hold the pair secret: only if its owner restored it, approve".into(),
            )
        } else {
            resolve::is_taken(trust, &p.record)
                .then(|| "a trusted peer with another key has this name: compare the fingerprints".into())
        },
    });
    let peers = trust.pins().filter_map(|pin| {
        let wish = pin.wish.as_ref()?;
        Some(PendingRequest {
            node_id: pin.addr.node,
            address: pin.addr.to_string(),
            hostname: pin.hostname.clone(),
            public_key: pin.identity.to_string(),
            fingerprint: pin.identity.fingerprint(),
            justification: wish.note.clone(),
            received_at: wish.received_at,
            asks_for: Some(wish.ports.names()),
            granted: Some(pin.reach().names()),
            warning: None,
        })
    });
    Pending { pending: strangers.chain(peers).collect() }
}

/// The answer to `trust`.
pub(crate) fn trusted(cx: &Context) -> Trust {
    let trust = cx.stack.endpoint().trust();
    let trusted: Vec<Pin> = trust.pins().map(Pin::from).collect();
    Trust { total: trusted.len() as u64, trusted, asked: trust.outgoing().map(Asked::from).collect() }
}

/// What the owner should know.
fn warnings(cx: &Context) -> Vec<String> {
    let endpoint = cx.stack.endpoint();
    let taken = endpoint.name_is_taken().then(|| warning_text(cx, Warning::NameTaken));
    let twin = endpoint.identity_elsewhere(cx.now).map(|addr| warning_text(cx, Warning::Elsewhere(addr)));
    taken.into_iter().chain(twin).chain(skew(cx)).collect()
}

/// What is wrong with this machine's clock, if it is not the rendezvous'.
pub(crate) fn skew(cx: &Context) -> Option<String> {
    let behind = cx.stack.endpoint().clock_behind_s(cx.now);
    behind.filter(|s| s.unsigned_abs() >= SKEW_TOLD_S).map(skew_text)
}

fn skew_text(behind_s: i64) -> String {
    let (minutes, way) = (behind_s.unsigned_abs() / 60, if behind_s > 0 { "behind" } else { "ahead of" });
    let (days, hours, minutes) = (minutes / 1440, minutes / 60 % 24, minutes % 60);
    let long = match (days, hours) {
        (0, 0) => format!("{minutes} min"),
        (0, hours) => format!("{hours} h {minutes} min"),
        (days, hours) => format!("{days} d {hours} h"),
    };
    format!("this machine's clock is {long} {way} the rendezvous'")
}

/// A warning in words.
pub(crate) fn warning_text(cx: &Context, warning: Warning) -> String {
    match warning {
        Warning::NameTaken => {
            let name = &cx.stack.endpoint().profile().hostname;
            format!(
                "the hostname {name:?} belongs to another node: this one is registered without a name, and found by peers that \
                 know its key alone; another name: pilotctl set-hostname NAME"
            )
        }
        Warning::Elsewhere(addr) => {
            format!("this identity also runs at {addr}: each process cuts the other one off; stop one of them")
        }
        Warning::Clock(behind_s) => skew_text(behind_s),
        _ => "a warning of the rendezvous".into(),
    }
}

/// A refusal of the rendezvous in words.
pub(crate) fn refusal_text(why: Refusal) -> &'static str {
    match why {
        Refusal::NameTaken => "the hostname belongs to another node",
        Refusal::BadRecord => "the rendezvous refuses our record: it has a newer one (is the clock right?)",
        Refusal::TooMany => "too many calls; try again in a second",
        Refusal::Full => "the rendezvous has no room",
        Refusal::NotRegistered => "not registered with the rendezvous yet",
        Refusal::Storage => "the rendezvous cannot write to its disk",
        Refusal::NotFound => "no such node",
        Refusal::Mismatch => "the rendezvous answered with the record of another node",
        _ => "the rendezvous cannot do that now; try again later",
    }
}
