//! Owns what is told of the node's state, in JSON.

use super::Driver;
use super::directory::refusal_text;
use pilot_core::endpoint::DirectoryState;
use pilot_core::identity::NodeRecord;
use pilot_core::path::PathAddr;
use pilot_core::trust::{Pin, Ports};
use serde_json::{Value, json};

impl Driver {
    pub(crate) fn info(&self) -> Value {
        let endpoint = self.stack.endpoint();
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
            "home": self.home.path(),
            "udp": self.udp.local_addr().map(|a| a.to_string()).unwrap_or_default(),
            "cipher": endpoint.cipher(),
            "key_agreement": endpoint.key_agreement(),
            "rendezvous": state,
            "rendezvous_refusal": why,
            "rendezvous_address": endpoint.rendezvous_address().map(|(key, addr)| format!("{key}@{addr}")),
            "reflexive": endpoint.reflexive().map(|a| a.to_string()),
            "uptime_secs": self.start.elapsed().as_secs_f64(),
            "started_at": self.started_s,
            "trusted": endpoint.trust().pins().count(),
            "pending": endpoint.trust().pending().count(),
            "connections": self.stack.streams().count(),
            "ports": self.stack.ports().collect::<Vec<_>>(),
            "outbox": self.courier.len(),
            "version": env!("CARGO_PKG_VERSION"),
            "discards": discards,
            "datagrams_dropped": self.datagrams_dropped,
        })
    }

    pub(crate) fn peers(&self) -> Value {
        let (endpoint, now) = (self.stack.endpoint(), self.now());
        let rows: Vec<Value> = endpoint
            .trust()
            .pins()
            .filter_map(|pin| {
                let info = endpoint.peer_info(now, endpoint.peer_by_identity(&pin.identity)?)?;
                let relayed = matches!(info.path, Some(PathAddr::Relay(_)));
                Some(json!({
                    "node_id": pin.addr.node, "address": pin.addr.to_string(), "hostname": pin.hostname,
                    "encrypted": info.up, "authenticated": info.up, "relay": relayed,
                    "path": info.path.map(|p| p.to_string()),
                    "endpoint": info.path.map(|p| p.to_string()).unwrap_or_default(),
                    "datagram_len": info.datagram_len,
                    "srtt_ms": info.srtt.map(|d| d.as_secs_f64() * 1e3),
                    "session_age_secs": info.session_age.map(|d| d.as_secs()),
                    "congestion_control": info.controller, "window": info.window, "in_flight": info.in_flight,
                    "bytes_sent": info.bytes_sent, "bytes_received": info.bytes_received,
                    "datagrams_sent": info.link.sent, "datagrams_lost": info.link.lost, "cipher": endpoint.cipher(),
                    "paths": info.paths.iter().map(|p| json!({
                        "path": p.addr.to_string(), "validated": p.validated,
                        "rtt_ms": p.rtt.map(|d| d.as_secs_f64() * 1e3), "datagram_len": p.datagram_len,
                    })).collect::<Vec<_>>(),
                }))
            })
            .collect();
        json!({"total": rows.len(), "encrypted": rows.iter().filter(|r| r["encrypted"] == true).count(), "peers": rows})
    }

    pub(crate) fn connections(&self) -> Value {
        let rows: Vec<Value> = self
            .stack
            .streams()
            .filter_map(|id| {
                let info = self.stack.stream_info(id)?;
                let (_, peer) = self.ends(id);
                Some(json!({
                    "id": id.number(), "local_port": info.local_port, "remote_addr": peer.addr.to_string(),
                    "remote_port": info.remote_port, "state": info.state, "hostname": self.hostname_of(peer.addr),
                    "unacked": info.unacknowledged, "readable": info.readable,
                }))
            })
            .collect();
        json!({"total": rows.len(), "connections": rows})
    }

    pub(crate) fn pending(&self) -> Value {
        let rows: Vec<Value> = self
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

    pub(crate) fn trusted(&self) -> Value {
        let trust = self.stack.endpoint().trust();
        let rows: Vec<Value> = trust.pins().map(pin_json).collect();
        let asked: Vec<Value> = trust.outgoing().map(|r| json!({
            "node_id": r.addr.node, "address": r.addr.to_string(), "hostname": r.hostname, "fingerprint": r.identity.fingerprint(),
        })).collect();
        json!({"total": rows.len(), "trusted": rows, "asked": asked})
    }
}

pub(super) fn pin_json(pin: &Pin) -> Value {
    json!({
        "node_id": pin.addr.node, "address": pin.addr.to_string(), "hostname": pin.hostname,
        "public_key": pin.identity.to_string(), "fingerprint": pin.identity.fingerprint(), "verified": pin.verified,
        "approved_at": pin.approved_at, "expires_at": pin.not_after, "ports": pin.ports.to_string(),
        "all_ports": pin.ports == Ports::All, "mutual": true, "network": pin.addr.network,
    })
}

pub(super) fn record_json(record: &NodeRecord) -> Value {
    json!({
        "node_id": record.addr.node, "address": record.addr.to_string(), "hostname": record.hostname, "public": record.public,
        "tags": record.tags, "public_key": record.identity.to_string(), "fingerprint": record.identity.fingerprint(),
    })
}
