//! The node's state: what `info`, `peers`, `connections`, `pending` and `trust` answer.

use crate::context::Context;
use crate::streams::names::{ends, hostname_of};
use pilot_core::control::Refusal;
use pilot_core::endpoint::DirectoryState;
use pilot_core::identity::NodeRecord;
use pilot_core::path::PathAddr;
use pilot_core::trust::{Pin, Ports};
use serde_json::{Value, json};

/// The part of the state that other rooms own.
#[derive(Clone, Debug, Default)]
pub(crate) struct Facts {
    /// The bound UDP address; empty when unknown.
    pub(crate) udp: String,
    /// Messages in the outbox.
    pub(crate) outbox: usize,
    /// Datagrams that clients did not make room for.
    pub(crate) datagrams_dropped: u64,
    /// Time of the node's start. Unit: seconds since 1970.
    pub(crate) started_s: u64,
}

/// The answer to `info`.
pub(crate) fn info(cx: &Context, facts: &Facts) -> Value {
    let endpoint = cx.stack.endpoint();
    let (state, why) = match endpoint.directory_state() {
        DirectoryState::Absent => ("absent", None),
        DirectoryState::Connecting => ("connecting", None),
        DirectoryState::Registering => ("registering", None),
        DirectoryState::Ready(_) => ("ready", None),
        DirectoryState::Refused(why) => ("refused", Some(refusal_text(why))),
        _ => ("unknown", None),
    };
    let discards: serde_json::Map<String, Value> =
        endpoint.discards().iter().map(|(k, v)| (k.into(), v.into())).collect();
    json!({
        "node_id": endpoint.addr().node,
        "address": endpoint.addr().to_string(),
        "hostname": endpoint.profile().hostname,
        "public": endpoint.profile().public,
        "tags": endpoint.profile().tags,
        "public_key": endpoint.identity().public().to_string(),
        "fingerprint": endpoint.identity().public().fingerprint(),
        "pid": std::process::id(),
        "home": cx.config.home,
        "udp": facts.udp,
        "cipher": endpoint.cipher(),
        "key_agreement": endpoint.key_agreement(),
        "rendezvous": state,
        "rendezvous_refusal": why,
        "rendezvous_address": endpoint.rendezvous_address().map(|(key, addr)| format!("{key}@{addr}")),
        "reflexive": endpoint.reflexive().map(|a| a.to_string()),
        "uptime_secs": cx.now.as_micros() as f64 / 1e6,
        "started_at": facts.started_s,
        "trusted": endpoint.trust().pins().count(),
        "pending": endpoint.trust().pending().count(),
        "connections": cx.stack.streams().count(),
        "ports": cx.stack.ports().collect::<Vec<_>>(),
        "outbox": facts.outbox,
        "version": env!("CARGO_PKG_VERSION"),
        "discards": discards,
        "datagrams_dropped": facts.datagrams_dropped,
    })
}

/// The answer to `peers`.
pub(crate) fn peers(cx: &Context) -> Value {
    let endpoint = cx.stack.endpoint();
    let rows: Vec<Value> = endpoint.trust().pins().filter_map(|pin| peer_json(cx, pin)).collect();
    let encrypted = rows.iter().filter(|r| r["encrypted"] == true).count();
    json!({"total": rows.len(), "encrypted": encrypted, "peers": rows})
}

fn peer_json(cx: &Context, pin: &Pin) -> Option<Value> {
    let endpoint = cx.stack.endpoint();
    let info = endpoint.peer_info(cx.now, endpoint.peer_by_identity(&pin.identity)?)?;
    let paths = info.paths.iter().map(|p| {
        json!({
            "path": p.addr.to_string(), "validated": p.validated,
            "rtt_ms": p.rtt.map(|d| d.as_secs_f64() * 1e3), "datagram_len": p.datagram_len,
        })
    });
    Some(json!({
        "node_id": pin.addr.node, "address": pin.addr.to_string(), "hostname": pin.hostname,
        "encrypted": info.up, "authenticated": info.up,
        "relay": matches!(info.path, Some(PathAddr::Relay(_))),
        "path": info.path.map(|p| p.to_string()),
        "endpoint": info.path.map(|p| p.to_string()).unwrap_or_default(),
        "datagram_len": info.datagram_len,
        "srtt_ms": info.srtt.map(|d| d.as_secs_f64() * 1e3),
        "session_age_secs": info.session_age.map(|d| d.as_secs()),
        "congestion_control": info.controller, "window": info.window, "in_flight": info.in_flight,
        "bytes_sent": info.bytes_sent, "bytes_received": info.bytes_received,
        "datagrams_sent": info.link.sent, "datagrams_lost": info.link.lost, "cipher": endpoint.cipher(),
        "paths": paths.collect::<Vec<_>>(),
    }))
}

/// The answer to `connections`.
pub(crate) fn connections(cx: &Context) -> Value {
    let rows: Vec<Value> = cx
        .stack
        .streams()
        .filter_map(|id| {
            let info = cx.stack.stream_info(id)?;
            let (_, peer) = ends(&cx.stack, id);
            Some(json!({
                "id": id.number(), "local_port": info.local_port, "remote_addr": peer.addr.to_string(),
                "remote_port": info.remote_port, "state": info.state, "hostname": hostname_of(&cx.stack, peer.addr),
                "unacked": info.unacknowledged, "readable": info.readable,
            }))
        })
        .collect();
    json!({"total": rows.len(), "connections": rows})
}

/// The answer to `pending`.
pub(crate) fn pending(cx: &Context) -> Value {
    let rows: Vec<Value> = cx
        .stack
        .endpoint()
        .trust()
        .pending()
        .map(|p| {
            json!({
                "node_id": p.record.addr.node, "address": p.record.addr.to_string(), "hostname": p.record.hostname,
                "public_key": p.record.identity.to_string(), "fingerprint": p.record.identity.fingerprint(),
                "justification": p.note, "received_at": p.received_at,
            })
        })
        .collect();
    json!({"pending": rows})
}

/// The answer to `trust`.
pub(crate) fn trusted(cx: &Context) -> Value {
    let trust = cx.stack.endpoint().trust();
    let rows: Vec<Value> = trust.pins().map(pin_json).collect();
    let asked: Vec<Value> = trust
        .outgoing()
        .map(|r| {
            json!({"node_id": r.addr.node, "address": r.addr.to_string(), "hostname": r.hostname,
                "fingerprint": r.identity.fingerprint()})
        })
        .collect();
    json!({"total": rows.len(), "trusted": rows, "asked": asked})
}

/// A pin as JSON.
pub(crate) fn pin_json(pin: &Pin) -> Value {
    json!({
        "node_id": pin.addr.node, "address": pin.addr.to_string(), "hostname": pin.hostname,
        "public_key": pin.identity.to_string(), "fingerprint": pin.identity.fingerprint(), "verified": pin.verified,
        "approved_at": pin.approved_at, "expires_at": pin.not_after, "ports": pin.ports.to_string(),
        "all_ports": pin.ports == Ports::All, "mutual": true, "network": pin.addr.network,
    })
}

/// A node's record as JSON.
pub(crate) fn record_json(record: &NodeRecord) -> Value {
    json!({
        "node_id": record.addr.node, "address": record.addr.to_string(), "hostname": record.hostname, "public": record.public,
        "tags": record.tags, "public_key": record.identity.to_string(), "fingerprint": record.identity.fingerprint(),
    })
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
        _ => "no such node",
    }
}
