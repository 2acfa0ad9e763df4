//! Events for clients that watch: what happened.

use crate::context::Context;
use crate::failure::Failure;
use crate::streams::names::{ends, hostname_of};
use pilot_core::PeerId;
use pilot_core::endpoint::ResetReason;
use pilot_core::identity::IdentityKey;
use pilot_core::path::PathAddr;
use pilot_core::trust::Outcome;
use pilot_stack::StreamId;
use serde_json::{Value, json};

/// An event about the owner of a key, with the name under which people know it.
fn about(cx: &Context, key: &IdentityKey, kind: &str) -> Value {
    let mut event = json!({"event": kind});
    let trust = cx.stack.endpoint().trust();
    let known = trust.pin(key).map(|p| (p.addr, p.hostname.clone())).or_else(|| {
        trust.pending().find(|p| p.record.identity == *key).map(|p| (p.record.addr, p.record.hostname.clone()))
    });
    if let Some((addr, hostname)) = known {
        event["node_id"] = addr.node.into();
        event["address"] = addr.to_string().into();
        event["hostname"] = hostname.into();
    }
    event["fingerprint"] = key.fingerprint().into();
    event
}

/// Tells of a change of the trust book.
pub(crate) fn tell_trust(cx: &mut Context, outcome: &Outcome) {
    let (kind, key) = match outcome {
        Outcome::Pending(key) => ("trust_request", key),
        Outcome::Pinned(key) => ("trusted", key),
        Outcome::Rejected(key) => ("trust_rejected", key),
        Outcome::Revoked(key) => ("untrusted", key),
        Outcome::Discarded(_) => return,
    };
    cx.tell(|cx| {
        let mut event = about(cx, key, kind);
        if let Some(p) = cx.stack.endpoint().trust().pending().find(|p| p.record.identity == *key) {
            event["justification"] = p.note.clone().into();
        }
        event
    });
}

/// Tells of a peer's tunnel or path.
pub(crate) fn tell_peer(cx: &mut Context, peer: PeerId, kind: &str, reason: Option<ResetReason>) {
    let Some(key) = cx.stack.endpoint().identity_of(peer) else { return };
    cx.tell(|cx| {
        let mut event = about(cx, &key, kind);
        if let Some(info) = cx.stack.endpoint().peer_info(cx.now, peer) {
            event["path"] = info.path.map(|p| p.to_string()).into();
            event["relay"] = matches!(info.path, Some(PathAddr::Relay(_))).into();
            event["datagram_len"] = info.datagram_len.into();
            event["srtt_ms"] = info.srtt.map(|d| d.as_secs_f64() * 1e3).into();
        }
        if let Some(reason) = reason {
            let name = event["hostname"].as_str().unwrap_or("the peer").to_owned();
            event["reason"] = Failure::from_reset(reason, &name).message.into();
        }
        event
    });
}

/// Tells of a message or a file that is on disk now. `event`: its kind and own members.
pub(crate) fn tell_arrival(cx: &mut Context, stream: StreamId, mut event: Value) {
    cx.tell(|cx| {
        let (_, peer) = ends(&cx.stack, stream);
        event["address"] = peer.addr.to_string().into();
        event["hostname"] = hostname_of(&cx.stack, peer.addr).into();
        event["node_id"] = peer.addr.node.into();
        event
    });
}
