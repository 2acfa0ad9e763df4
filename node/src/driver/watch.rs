//! Owns those who wait for something to happen: IPC clients that watch events, callers that wait for trust, subscribers of
//! the event stream.

use super::streams::Owner;
use super::{Driver, Reply};
use crate::failure::{Code, Failure};
use crate::files::FileDone;
use crate::ipc::server::ClientId;
use crate::resolve;
use crate::services::Receipt;
use crate::services::events::{Published, matches};
use crate::store::Kind;
use pilot_core::PeerId;
use pilot_core::endpoint::ResetReason;
use pilot_core::identity::IdentityKey;
use pilot_core::path::PathAddr;
use pilot_core::trust::Outcome;
use pilot_stack::StreamId;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// Longest that a caller may wait for trust.
const TRUST_WAIT_MAX: Duration = Duration::from_secs(3600);
/// Callers that may wait for trust.
const TRUST_WAITERS_MAX: usize = 1024;

/// Somebody waits until a node is trusted.
pub(crate) struct TrustWaiter {
    node: String,
    pub(crate) deadline: Instant,
    reply: Reply,
}

impl Driver {
    // Events for clients.

    pub(super) fn watch(&mut self, client: ClientId, request: u32, topics: Option<String>) {
        if let Some(ipc) = &mut self.ipc {
            ipc.watch(client, request, topics);
        }
    }

    fn tell(&mut self, event: impl FnOnce(&Self) -> Value) {
        if self.ipc.as_ref().is_some_and(|ipc| ipc.is_watched()) {
            let event = event(self);
            if let Some(ipc) = &mut self.ipc {
                ipc.push_event(&event, &[], |_| true);
            }
        }
    }

    /// How people know the owner of a key, as part of an event.
    fn whose(&self, key: &IdentityKey, mut event: Value) -> Value {
        let trust = self.stack.endpoint().trust();
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

    pub(super) fn tell_trust(&mut self, outcome: &Outcome) {
        let (kind, key) = match outcome {
            Outcome::Pending(key) => ("trust_request", key),
            Outcome::Pinned(key) => ("trusted", key),
            Outcome::Rejected(key) => ("trust_rejected", key),
            Outcome::Revoked(key) => ("untrusted", key),
            Outcome::Discarded(_) => return,
        };
        self.tell(|d| {
            let mut event = d.whose(key, json!({"event": kind}));
            if let Some(p) = d.stack.endpoint().trust().pending().find(|p| p.record.identity == *key) {
                event["justification"] = p.note.clone().into();
            }
            event
        });
        self.trust_changed();
    }

    pub(super) fn tell_peer(&mut self, peer: PeerId, kind: &str, reason: Option<ResetReason>) {
        let Some(key) = self.stack.endpoint().identity_of(peer) else { return };
        self.tell(|d| {
            let mut event = d.whose(&key, json!({"event": kind}));
            if let Some(info) = d.stack.endpoint().peer_info(d.now(), peer) {
                event["path"] = info.path.map(|p| p.to_string()).into();
                event["relay"] = matches!(info.path, Some(PathAddr::Relay(_))).into();
                event["datagram_len"] = info.datagram_len.into();
                event["srtt_ms"] = info.srtt.map(|d| d.as_secs_f64() * 1e3).into();
            }
            if let Some(reason) = reason {
                let who = event["hostname"].as_str().unwrap_or("the peer").to_owned();
                event["reason"] = Failure::from_reset(reason, &who).message.into();
            }
            event
        });
    }

    /// A message or a file has arrived and is on disk.
    fn tell_arrival(&mut self, id: StreamId, mut event: Value) {
        self.tell(|d| {
            let (_, peer) = d.ends(id);
            event["address"] = peer.addr.to_string().into();
            event["hostname"] = d.hostname_of(peer.addr).into();
            event["node_id"] = peer.addr.node.into();
            event
        });
    }

    // Trust.

    /// Answers when the node is trusted, or in time that it is not.
    pub(super) fn wait_trust(&mut self, node: &str, timeout_ms: Option<u64>, reply: Reply) {
        let timeout = Duration::from_millis(timeout_ms.unwrap_or(0)).min(TRUST_WAIT_MAX);
        if self.is_trusted(node) || timeout.is_zero() {
            let answer = self.trust_answer(node);
            return self.reply(reply, Ok(answer));
        }
        if self.trust_waiters.len() >= TRUST_WAITERS_MAX {
            return self.reply(reply, Err(Failure::new(Code::Full, "too many callers wait for trust")));
        }
        self.trust_waiters.push(TrustWaiter { node: node.into(), deadline: Instant::now() + timeout, reply });
    }

    fn is_trusted(&self, node: &str) -> bool {
        resolve::pinned(self.stack.endpoint().trust(), node).is_ok()
    }

    fn trust_answer(&self, node: &str) -> Value {
        match resolve::pinned(self.stack.endpoint().trust(), node) {
            Ok(pin) => json!({"node_id": pin.addr.node, "trusted": true}),
            Err(_) => json!({"node_id": node.parse::<u32>().unwrap_or(0), "trusted": false}),
        }
    }

    /// Answers those whose node is trusted now.
    pub(crate) fn trust_changed(&mut self) {
        let waiters = std::mem::take(&mut self.trust_waiters);
        for waiter in waiters {
            if self.is_trusted(&waiter.node) {
                let answer = self.trust_answer(&waiter.node);
                self.reply(waiter.reply, Ok(answer));
            } else {
                self.trust_waiters.push(waiter);
            }
        }
    }

    /// The client is gone, and nobody waits for it.
    pub(crate) fn forget_waiting(&mut self, client: ClientId) {
        let its = |reply: &Reply| matches!(reply, Reply::Ipc(of, _) | Reply::Official(of, _) if *of == client);
        self.trust_waiters.retain(|waiter| !its(&waiter.reply));
    }

    pub(super) fn time_out_trust(&mut self, wall: Instant) {
        while let Some(at) = self.trust_waiters.iter().position(|w| w.deadline <= wall) {
            let waiter = self.trust_waiters.swap_remove(at);
            let answer = self.trust_answer(&waiter.node);
            self.reply(waiter.reply, Ok(answer));
        }
    }

    // Services.

    /// Gives an event to every subscriber but the stream it came from, and to clients that asked for its topic; gives their
    /// number.
    pub(super) fn publish(&mut self, from: Option<StreamId>, event: &Published) -> usize {
        let mut count = 0;
        self.subscribers.retain(|id| self.owners.contains_key(id) || from == Some(*id));
        for id in self.subscribers.clone() {
            if let Some(Owner::Service(service)) = self.owners.get_mut(&id)
                && from != Some(id)
                && service.offer(event)
            {
                count += 1;
                self.looked.insert(id);
            }
        }
        if let Some(mut ipc) = self.ipc.take() {
            if ipc.is_watched() {
                let mut json = json!({"event": "published", "topic": event.topic});
                if let Some(id) = from {
                    let (_, peer) = self.ends(id);
                    json["address"] = peer.addr.to_string().into();
                    json["hostname"] = self.hostname_of(peer.addr).into();
                }
                let wants = |topics: Option<&str>| topics.is_some_and(|pattern| matches(pattern, &event.topic));
                count += ipc.push_event(&json, &event.payload, wants);
            }
            self.ipc = Some(ipc);
        }
        count
    }

    /// The disk has decided about a delivery.
    pub(super) fn delivered(
        &mut self,
        id: StreamId,
        ticket: u64,
        kind: Kind,
        len: usize,
        outcome: Result<Receipt, String>,
    ) {
        if let Ok(Receipt { fresh: true, seq }) = &outcome {
            self.tell_arrival(id, json!({"event": "message", "id": seq, "type": kind.name(), "bytes": len}));
        }
        if let Some(Owner::Service(service)) = self.owners.get_mut(&id) {
            service.written(ticket, kind, len, outcome);
            self.look(id);
        }
    }

    /// The disk has done a job of `len` bytes for a file.
    pub(super) fn file_done(&mut self, id: StreamId, file: u64, len: usize, done: FileDone) {
        if let FileDone::Kept { path, len } = &done {
            self.tell_arrival(id, json!({"event": "file", "path": path, "bytes": len}));
        }
        if let Some(Owner::Service(service)) = self.owners.get_mut(&id) {
            service.file_done(file, len, done);
            self.look(id);
        }
    }
}
