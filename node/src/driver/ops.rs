//! Owns the operations: what CLI, C and Rust callers ask in JSON, and what is answered.
//!
//! | op | arguments | answer |
//! |---|---|---|
//! | info, peers, connections, pending, trust | | state |
//! | find, search | node / tag | record(s) |
//! | handshake | node, note, ports, fingerprint | status |
//! | approve, reject, untrust | node, ports, expires_s / note | status, after it is on disk |
//! | profile | hostname, public, tags | status, after the registry agreed |
//! | send_message | node, type, queue, timeout_ms + bytes | ack, after the recipient has it on disk |
//! | inbox, inbox_read, inbox_take | limit, before / seq / seqs | messages |
//! | connect, accept (IPC only) | node, port / port | a descriptor |
//! | disconnect, stop, version | stream | |

use super::streams::{ConnectReply, name_of};
use super::{Driver, Reply, emit_profile};
use crate::command::Answer;
use crate::courier::Fate;
use crate::exchange::id_text;
use crate::failure::{Code, Failure};
use crate::resolve;
use crate::services::Receipt;
use crate::store::{Done, Job, Kind, MESSAGE_LEN_MAX, Message, Outgoing, outbox_expiry, wall_s};
use pilot_core::control::{Answer as DirectoryAnswer, Refusal};
use pilot_core::endpoint::DirectoryState;
use pilot_core::identity::{IdentityKey, NodeRecord, valid_hostname};
use pilot_core::path::PathAddr;
use pilot_core::trust::{Pin, Ports, Terms, TrustError};
use pilot_stack::StreamId;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// Longest a caller may wait for a message to be taken.
const SEND_TIMEOUT_MAX: Duration = Duration::from_secs(600);
/// Wait when the caller does not say.
const SEND_TIMEOUT: Duration = Duration::from_secs(10);
/// Messages on one page of the inbox.
const PAGE: u64 = 50;
const PAGE_MAX: u64 = 10_000;

/// What happens once the disk is done.
pub(crate) enum Then {
    Nothing,
    Answer(Reply, Value),
    LetterTaken(u64),
    Delivered { stream: StreamId, kind: Kind, len: usize },
    Queued { message: Outgoing, reply: Reply, deadline: Instant, keep: bool },
    Inbox(Reply),
}

/// What a question to the rendezvous was for.
pub(crate) struct Lookup {
    target: String,
    purpose: Purpose,
}

enum Purpose {
    Find(Reply),
    Search(Reply),
    Handshake {
        reply: Reply,
        terms: Terms,
        fingerprint: Option<String>,
    },
    /// Somebody wanted a stream to a node that is not trusted: say whether it exists.
    Explain(ConnectReply),
    ExplainOp(Reply),
}

/// Somebody waits for a message to be taken.
pub(crate) struct Waiter {
    pub(crate) deadline: Instant,
    reply: Reply,
    keep: bool,
    kind: Kind,
    len: usize,
    to: IdentityKey,
    id: [u8; 16],
}

impl Driver {
    pub(crate) fn reply(&mut self, reply: Reply, answer: Result<Value, Failure>) {
        self.reply_bytes(reply, answer.map(|data| (data, Vec::new())));
    }

    fn reply_bytes(&mut self, reply: Reply, answer: Answer) {
        match reply {
            Reply::App(sender) => drop(sender.send(answer)), // whoever asked may have gone
            Reply::Ipc(client, request) => {
                if let Some(ipc) = &mut self.ipc {
                    ipc.reply(client, request, answer);
                }
            }
            Reply::Official(client, command) => {
                if let Some(ipc) = &mut self.ipc {
                    ipc.send(client, crate::ipc::official::answer(command, answer.map(|(data, _)| data)));
                }
            }
        }
    }

    /// Runs one operation; its answer may come later.
    pub(crate) fn op(&mut self, op: &Value, blob: Vec<u8>, reply: Reply) {
        let text = |key: &str| op[key].as_str().unwrap_or_default().to_owned();
        let node = text("node");
        let answer = match op["op"].as_str().unwrap_or_default() {
            "info" => Ok(self.info()),
            "version" => Ok(json!({"version": env!("CARGO_PKG_VERSION")})),
            "peers" => Ok(self.peers()),
            "connections" => Ok(self.connections()),
            "pending" => Ok(self.pending()),
            "trust" => Ok(self.trusted()),
            "find" => return self.find(&node, reply),
            "search" => return self.search(text("tag"), reply),
            "handshake" => return self.handshake(op, node, reply),
            "approve" => return self.approve(op, &node, reply),
            "reject" => return self.reject(&node, &text("note"), reply),
            "untrust" => return self.untrust(&node, reply),
            "profile" => return self.set_profile(op, reply),
            "send_message" => return self.send_message(op, &node, blob, reply),
            "inbox" => {
                let limit = op["limit"].as_u64().unwrap_or(PAGE).min(PAGE_MAX) as usize;
                return self.submit(Job::List { limit, before: op["before"].as_u64() }, Then::Inbox(reply));
            }
            "inbox_read" => return self.submit(Job::Read(op["seq"].as_u64().unwrap_or(0)), Then::Inbox(reply)),
            "inbox_take" => {
                let list = op["seqs"].as_array().map(|l| l.iter().filter_map(Value::as_u64).collect());
                return self.submit(Job::Take(list), Then::Inbox(reply));
            }
            "connect" | "accept" => match (reply, u16::try_from(op["port"].as_u64().unwrap_or(u64::MAX))) {
                (reply, Err(_)) => {
                    return self
                        .reply(reply, Err(Failure::new(Code::InvalidArgument, "a port is a number from 0 to 65535")));
                }
                (Reply::Ipc(client, request), Ok(port)) if op["op"] == "connect" => {
                    return self.connect(&node, port, ConnectReply::Fd(client, request));
                }
                (Reply::Ipc(client, request), Ok(port)) => match self.accept_for(client, request, port) {
                    Ok(()) => return,
                    Err(failure) => return self.reply(Reply::Ipc(client, request), Err(failure)),
                },
                (reply, _) => {
                    return self
                        .reply(reply, Err(Failure::new(Code::InvalidArgument, "descriptors travel over IPC only")));
                }
            },
            "disconnect" => self.disconnect(op["stream"].as_u64().unwrap_or(0)),
            "stop" => {
                self.stopping = true;
                Ok(json!({"status": "stopping"}))
            }
            other => Err(Failure::new(Code::InvalidArgument, format!("unknown operation {other:?}"))),
        };
        self.reply(reply, answer);
    }

    // State.

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

    fn disconnect(&mut self, number: u64) -> Result<Value, Failure> {
        let id = self.stack.streams().find(|id| id.number() == number);
        let id = id.ok_or_else(|| {
            Failure::new(Code::NotFound, format!("there is no stream {number}")).hint("pilotctl connections")
        })?;
        let now = self.now();
        self.stack.abort(now, id);
        self.look(id);
        Ok(json!({"conn_id": number}))
    }

    // The rendezvous.

    fn ask(&mut self, target: &str, purpose: Purpose) {
        let now = self.now();
        let query = match resolve::query(target) {
            Ok(query) => query,
            Err(failure) => return self.lookup_failed(purpose, failure),
        };
        match self.stack.endpoint_mut().lookup(now, query) {
            Some(ticket) => drop(self.lookups.insert(ticket, Lookup { target: target.into(), purpose })),
            None => self.lookup_failed(purpose, no_rendezvous(target)),
        }
    }

    fn find(&mut self, target: &str, reply: Reply) {
        if let Ok(pin) = resolve::pinned(self.stack.endpoint().trust(), target) {
            let data = pin_json(pin);
            return self.reply(reply, Ok(data));
        }
        self.ask(target, Purpose::Find(reply));
    }

    fn search(&mut self, tag: String, reply: Reply) {
        let now = self.now();
        match self.stack.endpoint_mut().search(now, tag.clone()) {
            Some(ticket) => drop(self.lookups.insert(ticket, Lookup { target: tag, purpose: Purpose::Search(reply) })),
            None => self.reply(reply, Err(no_rendezvous("other nodes"))),
        }
    }

    /// A stream is wanted to a node that is not trusted.
    pub(super) fn explain_unknown(&mut self, target: &str, reply: ConnectReply) {
        self.ask(target, Purpose::Explain(reply));
    }

    fn lookup_failed(&mut self, purpose: Purpose, failure: Failure) {
        match purpose {
            Purpose::Find(reply)
            | Purpose::Search(reply)
            | Purpose::Handshake { reply, .. }
            | Purpose::ExplainOp(reply) => self.reply(reply, Err(failure)),
            Purpose::Explain(reply) => self.connect_failed(reply, failure),
        }
    }

    pub(super) fn lookup_answered(&mut self, ticket: u32, answer: Option<DirectoryAnswer>) {
        let Some(Lookup { target, purpose }) = self.lookups.remove(&ticket) else { return };
        match answer {
            Some(DirectoryAnswer::Found(bytes)) => match NodeRecord::parse(&bytes) {
                Ok(record) => self.found(&target, &record, purpose),
                Err(_) => {
                    self.lookup_failed(purpose, Failure::new(Code::Internal, "the rendezvous sent a forged record"))
                }
            },
            Some(DirectoryAnswer::List(list)) => {
                let rows: Vec<Value> =
                    list.iter().filter_map(|b| NodeRecord::parse(b).ok()).map(|r| record_json(&r)).collect();
                if let Purpose::Search(reply) = purpose {
                    self.reply(reply, Ok(json!({"total": rows.len(), "nodes": rows})));
                }
            }
            Some(DirectoryAnswer::Refused(Refusal::NotFound)) => {
                let failure =
                    Failure::new(Code::NotFound, format!("no node is called {target}, or it cannot be found that way"));
                self.lookup_failed(purpose, failure.hint("private nodes are found by their exact hostname"));
            }
            Some(DirectoryAnswer::Refused(why)) => {
                self.lookup_failed(purpose, Failure::new(Code::Conflict, refusal_text(why)))
            }
            _ => self.lookup_failed(purpose, no_rendezvous(&target)),
        }
    }

    fn found(&mut self, target: &str, record: &NodeRecord, purpose: Purpose) {
        let untrusted = || {
            Failure::new(Code::TrustRequired, format!("{target} is not trusted: nothing was sent"))
                .hint(format!("pilotctl handshake {target}"))
        };
        match purpose {
            Purpose::Find(reply) => self.reply(reply, Ok(record_json(record))),
            Purpose::Explain(reply) => self.connect_failed(reply, untrusted()),
            Purpose::ExplainOp(reply) => self.reply(reply, Err(untrusted())),
            Purpose::Search(reply) => {
                self.reply(reply, Err(Failure::new(Code::Internal, "the rendezvous answered another question")))
            }
            Purpose::Handshake { reply, mut terms, fingerprint } => {
                let actual = record.identity.fingerprint();
                if let Some(wanted) = fingerprint {
                    if wanted != actual {
                        let text = format!(
                            "the fingerprint of {target} is {actual}, not {wanted}: somebody else may have its name"
                        );
                        return self.reply(reply, Err(Failure::new(Code::TrustRequired, text)));
                    }
                    terms.verified = true;
                }
                let waiting = self.stack.endpoint().trust().pending().any(|p| p.record.identity == record.identity);
                if waiting {
                    return self.approve_key(&record.identity, &terms, reply); // both sides have asked now
                }
                let now = self.now();
                let data = json!({"status": "sent", "node_id": record.addr.node, "address": record.addr.to_string(),
                    "hostname": record.hostname, "fingerprint": actual, "verified": terms.verified});
                match self.stack.endpoint_mut().request_trust(now, record, &terms) {
                    Ok(()) => self.save_trust(Then::Answer(reply, data)),
                    Err(TrustError::AlreadyTrusted) => {
                        let data = json!({"status": "trusted", "node_id": record.addr.node, "address": record.addr.to_string(),
                            "hostname": record.hostname, "fingerprint": actual});
                        self.reply(reply, Ok(data));
                    }
                    Err(e) => self.reply(reply, Err(trust_failure(e, target))),
                }
            }
        }
    }

    // Trust.

    fn handshake(&mut self, op: &Value, target: String, reply: Reply) {
        let terms = match self.terms(op) {
            Ok(terms) => terms,
            Err(failure) => return self.reply(reply, Err(failure)),
        };
        let (name, fingerprint) = match target.split_once('#') {
            Some((name, fingerprint)) => (name.to_owned(), Some(fingerprint.to_owned())),
            None => (target, None),
        };
        if let Ok(pin) = resolve::pinned(self.stack.endpoint().trust(), &name) {
            let mut data = pin_json(pin);
            data["status"] = "trusted".into();
            return self.reply(reply, Ok(data));
        }
        self.ask(&name, Purpose::Handshake { reply, terms, fingerprint });
    }

    fn terms(&self, op: &Value) -> Result<Terms, Failure> {
        let ports = match op["ports"].as_str() {
            None => self.config.default_ports.clone(),
            Some(text) => {
                text.parse().map_err(|_| Failure::new(Code::InvalidArgument, "ports are given as 1000,1001 or all"))?
            }
        };
        let not_after = op["expires_s"].as_u64().map(|s| wall_s() + s);
        Ok(Terms { ports, note: op["note"].as_str().unwrap_or_default().into(), not_after, verified: false })
    }

    fn pending_key(&self, target: &str) -> Result<IdentityKey, Failure> {
        let trust = self.stack.endpoint().trust();
        let fits: Vec<_> = trust
            .pending()
            .filter(|p| resolve::is_called(target, p.record.addr, &p.record.hostname, &p.record.identity))
            .collect();
        match fits.as_slice() {
            [one] => Ok(one.record.identity),
            [] => Err(Failure::new(Code::NotFound, format!("{target} has not asked")).hint("pilotctl pending")),
            _ => Err(Failure::new(Code::Ambiguous, format!("{target} means several requests")).hint("use the address")),
        }
    }

    fn approve(&mut self, op: &Value, target: &str, reply: Reply) {
        let terms = self.terms(op).and_then(|terms| Ok((self.pending_key(target)?, terms)));
        match terms {
            Ok((key, terms)) => self.approve_key(&key, &terms, reply),
            Err(failure) => self.reply(reply, Err(failure)),
        }
    }

    fn approve_key(&mut self, key: &IdentityKey, terms: &Terms, reply: Reply) {
        let now = self.now();
        match self.stack.endpoint_mut().approve(now, key, terms) {
            Ok(()) => {
                let mut data = self.stack.endpoint().trust().pin(key).map(pin_json).unwrap_or_default();
                data["status"] = "approved".into();
                self.save_trust(Then::Answer(reply, data));
            }
            Err(e) => self.reply(reply, Err(trust_failure(e, &key.fingerprint()))),
        }
    }

    fn reject(&mut self, target: &str, note: &str, reply: Reply) {
        let now = self.now();
        let result = self
            .pending_key(target)
            .and_then(|key| self.stack.endpoint_mut().reject(now, &key, note).map_err(|e| trust_failure(e, target)));
        match result {
            Ok(()) => self.save_trust(Then::Answer(reply, json!({"status": "rejected", "node": target}))),
            Err(failure) => self.reply(reply, Err(failure)),
        }
    }

    fn untrust(&mut self, target: &str, reply: Reply) {
        let now = self.now();
        let key = resolve::pinned(self.stack.endpoint().trust(), target).map(|p| p.identity);
        let result =
            key.and_then(|key| self.stack.endpoint_mut().revoke(now, &key).map_err(|e| trust_failure(e, target)));
        match result {
            Ok(pin) => {
                let data = json!({"status": "revoked", "node_id": pin.addr.node, "address": pin.addr.to_string(), "hostname": pin.hostname});
                self.save_trust(Then::Answer(reply, data));
            }
            Err(failure) => self.reply(reply, Err(failure)),
        }
    }

    // Profile.

    fn set_profile(&mut self, op: &Value, reply: Reply) {
        if self.profile_change.is_some() {
            let failure = Failure::new(Code::Conflict, "another change of this node's record is under way");
            return self.reply(reply, Err(failure.hint("try again in a moment")));
        }
        let mut profile = self.stack.endpoint().profile().clone();
        if let Some(hostname) = op["hostname"].as_str() {
            if !hostname.is_empty() && !valid_hostname(hostname) {
                let failure = Failure::new(Code::InvalidArgument, format!("{hostname:?} cannot be a hostname"));
                return self.reply(reply, Err(failure.hint("1–63 characters of a–z 0–9 -, not only digits")));
            }
            profile.hostname = hostname.into();
        }
        if let Some(public) = op["public"].as_bool() {
            profile.public = public;
        }
        if let Some(tags) = op["tags"].as_array() {
            profile.tags = tags.iter().filter_map(|t| t.as_str().map(str::to_owned)).collect();
            if profile.tags.len() > NodeRecord::TAGS_MAX {
                return self.reply(reply, Err(Failure::new(Code::InvalidArgument, "set_tags: maximum 3 tags allowed")));
            }
            if !profile.tags.iter().all(|t| valid_hostname(t)) {
                return self.reply(reply, Err(Failure::new(Code::InvalidArgument, "tags are shaped like hostnames")));
            }
        }
        let now = self.now();
        let before = self.stack.endpoint().profile().clone();
        self.stack.endpoint_mut().set_profile(now, profile.clone());
        let data = json!({"hostname": profile.hostname, "public": profile.public, "tags": profile.tags,
            "node_id": self.stack.endpoint().addr().node, "visibility": if profile.public { "public" } else { "private" }});
        if matches!(self.stack.endpoint().directory_state(), DirectoryState::Registering) {
            self.profile_change = Some((reply, data, before));
        } else {
            // Registered as soon as a rendezvous is reached.
            self.submit(Job::Put("profile", emit_profile(&profile)), Then::Answer(reply, data));
        }
    }

    /// The rendezvous has agreed to our record, or not: then the old one stands again.
    pub(super) fn profile_settled(&mut self, state: DirectoryState) {
        if matches!(state, DirectoryState::Registering) {
            return;
        }
        let Some((reply, data, before)) = self.profile_change.take() else { return };
        match state {
            DirectoryState::Refused(why) => {
                let now = self.now();
                self.stack.endpoint_mut().set_profile(now, before);
                self.reply(reply, Err(Failure::new(Code::Conflict, refusal_text(why))));
            }
            _ => {
                let profile = emit_profile(self.stack.endpoint().profile());
                self.submit(Job::Put("profile", profile), Then::Answer(reply, data));
            }
        }
    }

    // Messages.

    fn send_message(&mut self, op: &Value, target: &str, body: Vec<u8>, reply: Reply) {
        let kind = match op["type"].as_str().unwrap_or("text") {
            "text" => Kind::Text,
            "binary" => Kind::Binary,
            "json" => Kind::Json,
            other => {
                return self.reply(
                    reply,
                    Err(Failure::new(Code::InvalidArgument, format!("unknown type {other:?}; text, json or binary"))),
                );
            }
        };
        if body.len() > MESSAGE_LEN_MAX {
            let text = format!("a message may have at most 16 MiB, this one has {} bytes", body.len());
            return self.reply(
                reply,
                Err(Failure::new(Code::InvalidArgument, text).hint("send it through a stream: pilotctl connect")),
            );
        }
        if kind == Kind::Json && serde_json::from_slice::<serde::de::IgnoredAny>(&body).is_err() {
            return self.reply(
                reply,
                Err(Failure::new(Code::InvalidArgument, "the data is not valid JSON; nothing was sent")),
            );
        }
        if kind == Kind::Text && std::str::from_utf8(&body).is_err() {
            return self.reply(
                reply,
                Err(Failure::new(Code::InvalidArgument, "the data is not UTF-8 text").hint("--type binary")),
            );
        }
        let to = match resolve::pinned(self.stack.endpoint().trust(), target) {
            Ok(pin) => pin.identity,
            Err(failure) if failure.code == Code::NotFound => return self.ask(target, Purpose::ExplainOp(reply)),
            Err(failure) => return self.reply(reply, Err(failure)),
        };
        let timeout = op["timeout_ms"].as_u64().map_or(SEND_TIMEOUT, Duration::from_millis).min(SEND_TIMEOUT_MAX);
        let message = Outgoing { id: crate::home::entropy(), to, kind, expires: outbox_expiry(), body };
        let keep = op["queue"].as_bool().unwrap_or(true);
        let then = Then::Queued { message: message.clone(), reply, deadline: Instant::now() + timeout, keep };
        self.submit(Job::Queue(message), then);
    }

    pub(super) fn run_courier(&mut self, wall: Instant) {
        let now = self.now();
        for id in self.courier.idle(wall) {
            self.owners.remove(&id);
            self.stack.close(now, id);
        }
        for key in self.courier.wanted(wall) {
            let who = self.stack.endpoint().trust().pin(&key).map(name_of);
            match who {
                Some(who) => self.connect_to(&key, who, crate::services::DATA_EXCHANGE, ConnectReply::Courier(key)),
                None => self
                    .courier_failed(&key, &Failure::new(Code::TrustRequired, "the recipient is not trusted any more")),
            }
        }
    }

    pub(super) fn courier_failed(&mut self, key: &IdentityKey, failure: &Failure) {
        self.courier.failed(Instant::now(), key);
        // Those who did not want to wait learn at once.
        let impatient: Vec<u64> =
            self.waiters.iter().filter(|(_, w)| w.to == *key && !w.keep).map(|(seq, _)| *seq).collect();
        for seq in impatient {
            self.courier.cancel(seq);
            self.submit(Job::Unqueue(seq), Then::Nothing);
            if let Some(waiter) = self.waiters.remove(&seq) {
                self.reply(waiter.reply, Err(failure.clone()));
            }
        }
    }

    pub(super) fn serve_courier(&mut self, id: StreamId, key: &IdentityKey) -> bool {
        let (fates, over) = self.courier.pump(Instant::now(), key, &mut self.stack);
        for (seq, fate) in fates {
            self.submit(Job::Unqueue(seq), Then::Nothing);
            let Some(w) = self.waiters.remove(&seq) else { continue };
            let answer = match fate {
                Fate::Taken(ack) => Ok(
                    json!({"ack": ack, "type": w.kind.name(), "bytes": w.len, "message_id": id_text(&w.id), "delivered": true}),
                ),
                Fate::Refused(text) => Err(Failure::new(Code::Full, format!("the recipient refused: {text}"))),
            };
            self.reply(w.reply, answer);
        }
        if over {
            let now = self.now();
            self.stack.close(now, id);
            self.courier_failed(key, &Failure::new(Code::ConnectionReset, "the recipient ended the stream"));
        }
        !over
    }

    pub(super) fn time_out_waiters(&mut self, wall: Instant) {
        let late: Vec<u64> = self.waiters.iter().filter(|(_, w)| w.deadline <= wall).map(|(seq, _)| *seq).collect();
        for seq in late {
            let Some(w) = self.waiters.remove(&seq) else { continue };
            let failure = if w.keep {
                let text = "the recipient cannot be reached now; the message waits in the outbox and will be delivered";
                Failure::new(Code::Unreachable, text)
                    .hint("pilotctl info shows the outbox; --no-queue fails instead of waiting")
            } else {
                let unsent = self.courier.cancel(seq);
                self.submit(Job::Unqueue(seq), Then::Nothing);
                let text = if unsent {
                    "the recipient did not answer in time; nothing was sent"
                } else {
                    "the recipient did not answer in time; it may have the message"
                };
                Failure::new(Code::Timeout, text)
            };
            self.reply(w.reply, Err(failure));
        }
    }

    // After the disk.

    pub(super) fn finish(&mut self, then: Then, done: Done) {
        let failure = match &done {
            Done::Full(why) => Some(Failure::new(Code::Full, *why)),
            Done::Failed(why) => Some(Failure::new(Code::Internal, format!("the disk failed: {why}"))),
            _ => None,
        };
        match (then, failure) {
            (Then::Nothing, _) | (Then::LetterTaken(_), Some(_)) => {}
            (Then::Answer(reply, data), None) => self.reply(reply, Ok(data)),
            (Then::Answer(reply, _) | Then::Inbox(reply) | Then::Queued { reply, .. }, Some(failure)) => {
                self.reply(reply, Err(failure))
            }
            (Then::LetterTaken(id), None) => {
                let now = self.now();
                self.stack.endpoint_mut().letter_taken(now, id);
            }
            (Then::Delivered { stream, kind, len }, failure) => {
                let outcome = match (failure, done) {
                    (Some(failure), _) => Err(failure.message),
                    (None, Done::Delivered { fresh, seq }) => Ok(Receipt { fresh, seq }),
                    (None, _) => return,
                };
                self.delivered(stream, kind, len, outcome);
            }
            (Then::Queued { message, reply, deadline, keep }, None) => {
                let Done::Queued(seq) = done else { return };
                let (kind, len, to, id) = (message.kind, message.body.len(), message.to, message.id);
                if !self.courier.add(seq, message) {
                    self.submit(Job::Unqueue(seq), Then::Nothing);
                    return self.reply(reply, Err(Failure::new(Code::Full, "too many bytes wait in the outbox")));
                }
                self.waiters.insert(seq, Waiter { deadline, reply, keep, kind, len, to, id });
                self.looked.extend(self.courier.stream_to(&to));
            }
            (Then::Inbox(reply), None) => self.inbox_answer(reply, done),
        }
    }

    fn inbox_answer(&mut self, reply: Reply, done: Done) {
        let answer = match done {
            Done::Listing(listing) => {
                let rows: Vec<Value> =
                    listing.rows.iter().map(|(seq, m, len)| self.message_json(*seq, m, *len, m.preview())).collect();
                Ok((json!({"total": listing.total, "shown": rows.len(), "messages": rows}), Vec::new()))
            }
            Done::Message(Some((seq, message))) => {
                let preview = message.preview();
                let json = self.message_json(seq, &message, message.body.len(), preview);
                Ok((json, message.body))
            }
            Done::Message(None) => Err(Failure::new(Code::NotFound, "there is no such message").hint("pilotctl inbox")),
            Done::Taken(count) => Ok((json!({"cleared": count}), Vec::new())),
            _ => Ok((json!({}), Vec::new())),
        };
        self.reply_bytes(reply, answer);
    }

    fn message_json(&self, seq: u64, m: &Message, len: usize, preview: String) -> Value {
        json!({
            "id": seq, "message_id": id_text(&m.id), "type": m.kind.name(), "from": m.addr.to_string(),
            "hostname": self.hostname_of(m.addr), "sender_key": m.sender.to_string(), "bytes": len,
            "received_at": m.at, "preview": preview,
        })
    }
}

fn pin_json(pin: &Pin) -> Value {
    json!({
        "node_id": pin.addr.node, "address": pin.addr.to_string(), "hostname": pin.hostname,
        "public_key": pin.identity.to_string(), "fingerprint": pin.identity.fingerprint(), "verified": pin.verified,
        "approved_at": pin.approved_at, "expires_at": pin.not_after, "ports": pin.ports.to_string(),
        "all_ports": pin.ports == Ports::All, "mutual": true, "network": pin.addr.network,
    })
}

fn record_json(record: &NodeRecord) -> Value {
    json!({
        "node_id": record.addr.node, "address": record.addr.to_string(), "hostname": record.hostname, "public": record.public,
        "tags": record.tags, "public_key": record.identity.to_string(), "fingerprint": record.identity.fingerprint(),
    })
}

fn no_rendezvous(target: &str) -> Failure {
    Failure::new(
        Code::Unreachable,
        format!("{target} is not a trusted peer, and the rendezvous cannot be reached to look it up"),
    )
    .hint("pilotctl info shows the rendezvous; peers you trust already need none")
}

fn refusal_text(why: Refusal) -> &'static str {
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

fn trust_failure(error: TrustError, who: &str) -> Failure {
    match error {
        TrustError::Unknown => Failure::new(Code::NotFound, format!("{who} is neither trusted nor waiting"))
            .hint("pilotctl trust; pilotctl pending"),
        TrustError::AlreadyTrusted => Failure::new(Code::Conflict, format!("{who} is trusted already")),
        TrustError::Full => Failure::new(Code::Full, "too many requests or peers"),
        TrustError::AddressTaken => {
            Failure::new(Code::Conflict, format!("another trusted peer has the address of {who}"))
                .hint("pilotctl trust; pilotctl untrust")
        }
        TrustError::NoteTooLong => Failure::new(Code::InvalidArgument, "a justification has at most 256 bytes"),
        TrustError::Oneself => Failure::new(Code::InvalidArgument, "that is this node itself"),
    }
}
