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
//! | inbox, inbox_read, inbox_next, inbox_take | limit, before / seq / after / seqs | messages |
//! | received | | files that have arrived |
//! | publish | topic + bytes | how many subscribers get the event |
//! | wait_trust | node, timeout_ms | whether it is trusted, at once or when it becomes so |
//! | send_datagram | node, port, source + bytes | status |
//! | disconnect, stop, version | stream | |
//!
//! Over IPC only, because something stays with the client: `connect` (node, port), `accept` (port, hold) and `datagrams`
//! (port) give a descriptor, `take` (stream) gives that of a stream accepted with `hold`, `listen` and `unlisten` bind a port to the client, `events` (topics) turns pushed events on, `cancel`
//! (request) gives a connect up, `stream_end` (inode) tells how a handed-out stream ended.

use super::{Driver, Reply};
use crate::command::Answer;
use crate::driver::streams::{ConnectReply, Hold};
use crate::failure::{Code, Failure};
use crate::files::FileJob;
use crate::ipc::server::ClientId;
use crate::services::Receipt;
use crate::services::events::Published;
use crate::store::{Done, Job, Kind, Outgoing};
use pilot_core::trust::TrustVersion;
use pilot_stack::{EARLY_LEN_MAX, StreamId};
use serde_json::{Value, json};
use std::time::Instant;

/// Messages on one page of the inbox.
const PAGE: u64 = 50;
const PAGE_MAX: u64 = 10_000;

/// What happens once the disk is done.
pub(crate) enum Then {
    Nothing,
    Answer(Reply, Value),
    /// The trust book with this version is on disk; what waits for that may leave.
    TrustSaved(TrustVersion, Box<Then>),
    /// The answer under this ticket of the stream.
    Delivered {
        stream: StreamId,
        ticket: u64,
        kind: Kind,
        len: usize,
    },
    /// A job of `len` bytes for a file that arrives on the stream.
    File {
        stream: StreamId,
        file: u64,
        len: usize,
    },
    Queued {
        message: Outgoing,
        reply: Reply,
        deadline: Instant,
        keep: bool,
    },
    Inbox(Reply),
}

impl Driver {
    pub(crate) fn reply(&mut self, reply: Reply, answer: Result<Value, Failure>) {
        self.reply_bytes(reply, answer.map(|data| (data, Vec::new())));
    }

    pub(super) fn reply_bytes(&mut self, reply: Reply, answer: Answer) {
        match reply {
            Reply::Nobody => {}
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
            "inbox_next" => return self.submit(Job::Next(op["after"].as_u64().unwrap_or(0)), Then::Inbox(reply)),
            "inbox_take" => {
                let list = op["seqs"].as_array().map(|l| l.iter().filter_map(Value::as_u64).collect());
                return self.submit(Job::Take(list), Then::Inbox(reply));
            }
            "received" => return self.submit(Job::File(FileJob::List), Then::Inbox(reply)),
            "publish" => self.publish_here(text("topic"), blob),
            "wait_trust" => return self.wait_trust(op, &node, reply),
            "send_datagram" => self.send_datagram(op, &node, &blob),
            "connect" | "accept" | "listen" | "unlisten" | "datagrams" | "events" | "cancel" | "stream_end"
            | "take" => {
                let Reply::Ipc(client, request) = reply else {
                    let failure =
                        Failure::new(Code::InvalidArgument, "this operation belongs to a client of the socket");
                    return self.reply(reply, Err(failure));
                };
                match self.client_op(op, blob, client, request) {
                    Some(answer) => return self.reply(Reply::Ipc(client, request), answer),
                    None => return,
                }
            }
            "disconnect" => self.disconnect(op["stream"].as_u64().unwrap_or(0)),
            "stop" => {
                self.stopping = true;
                Ok(json!({"status": "stopping"}))
            }
            other => Err(Failure::new(Code::InvalidArgument, format!("unknown operation {other:?}"))),
        };
        self.reply(reply, answer);
    }

    /// Operations whose outcome stays with the client; `None`: the answer comes later, or with a descriptor.
    fn client_op(
        &mut self,
        op: &Value,
        blob: Vec<u8>,
        client: ClientId,
        request: u32,
    ) -> Option<Result<Value, Failure>> {
        let name = op["op"].as_str().unwrap_or_default();
        let port = || {
            let port = op["port"].as_u64().and_then(|p| u16::try_from(p).ok());
            port.ok_or_else(|| Failure::new(Code::InvalidArgument, "a port is a number from 0 to 65535"))
        };
        match name {
            "events" => {
                let topics = op["topics"].as_str().map(str::to_owned);
                self.watch(client, request, topics);
                return Some(Ok(json!({"status": "watching"})));
            }
            "cancel" => {
                let cancelled = self.cancel_connects(client, op["request"].as_u64().map(|n| n as u32));
                return Some(Ok(json!({"cancelled": cancelled})));
            }
            "take" => return self.take_held(client, request, op["stream"].as_u64().unwrap_or(0)).err().map(Err),
            "stream_end" => return Some(self.stream_end(op["inode"].as_u64().unwrap_or(0))),
            _ => {}
        }
        let port = match port() {
            Ok(port) => port,
            Err(failure) => return Some(Err(failure)),
        };
        match name {
            "connect" => {
                if blob.len() > EARLY_LEN_MAX {
                    let text = format!("at most {EARLY_LEN_MAX} bytes travel with a connect");
                    return Some(Err(Failure::new(Code::InvalidArgument, text)));
                }
                let node = op["node"].as_str().unwrap_or_default();
                self.connect(node, port, blob, ConnectReply::Fd(client, request));
                None
            }
            "accept" => {
                let hold = if op["hold"] == true { Hold::Yes } else { Hold::No };
                self.accept_for(client, request, port, hold).err().map(Err)
            }
            "listen" => Some(self.listen_for(client, port).map(|()| json!({"port": port}))),
            "unlisten" => {
                if self.ports_of(client).contains(&port) {
                    self.unlisten(port);
                }
                Some(Ok(json!({"port": port})))
            }
            _ => self.open_datagrams(client, request, port).err().map(Err),
        }
    }

    /// Publishes to the subscribers of this node's event stream.
    fn publish_here(&mut self, topic: String, payload: Vec<u8>) -> Result<Value, Failure> {
        use crate::services::events::{PAYLOAD_LEN_MAX, TOPIC_LEN_MAX};
        if topic.is_empty() || topic.len() > TOPIC_LEN_MAX || payload.is_empty() || payload.len() > PAYLOAD_LEN_MAX {
            let text = format!("a topic has 1 to {TOPIC_LEN_MAX} bytes, a payload 1 to {PAYLOAD_LEN_MAX}");
            return Err(Failure::new(Code::InvalidArgument, text));
        }
        let (bytes, event) = (payload.len(), Published { topic, payload });
        let subscribers = self.publish(None, &event);
        Ok(json!({"status": "published", "topic": event.topic, "bytes": bytes, "subscribers": subscribers}))
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

    // After the disk.

    pub(super) fn finish(&mut self, then: Then, done: Done) {
        let failure = match &done {
            Done::Full(why) => Some(Failure::new(Code::Full, *why)),
            Done::Failed(why) => Some(Failure::new(Code::Internal, format!("the disk failed: {why}"))),
            _ => None,
        };
        match (then, failure) {
            (Then::Nothing, _) => {}
            (Then::Answer(reply, data), None) => self.reply(reply, Ok(data)),
            (Then::Answer(reply, _) | Then::Inbox(reply) | Then::Queued { reply, .. }, Some(failure)) => {
                self.reply(reply, Err(failure))
            }
            (Then::TrustSaved(version, then), failure) => {
                if failure.is_none() {
                    let now = self.now();
                    self.stack.endpoint_mut().trust_saved(now, version);
                }
                self.finish(*then, done);
            }
            (Then::File { stream, file, len }, failure) => {
                let done = match (failure, done) {
                    (Some(failure), _) => crate::files::FileDone::Failed(failure.message),
                    (None, Done::File(done)) => done,
                    (None, _) => return,
                };
                self.file_done(stream, file, len, done);
            }
            (Then::Delivered { stream, ticket, kind, len }, failure) => {
                let outcome = match (failure, done) {
                    (Some(failure), _) => Err(failure.message),
                    (None, Done::Delivered { fresh, seq }) => Ok(Receipt { fresh, seq }),
                    (None, _) => return,
                };
                self.delivered(stream, ticket, kind, len, outcome);
            }
            (Then::Queued { message, reply, deadline, keep }, None) => {
                let Done::Queued(seq) = done else { return };
                let (kind, len, to, id) = (message.kind, message.body.len(), message.to, message.id);
                if !self.courier.add(seq, message) {
                    self.submit(Job::Unqueue(seq), Then::Nothing);
                    return self.reply(reply, Err(Failure::new(Code::Full, "too many bytes wait in the outbox")));
                }
                self.waiters.insert(seq, super::messages::Waiter { deadline, reply, keep, kind, len, to, id });
                self.looked.extend(self.courier.stream_to(&to));
            }
            (Then::Inbox(reply), None) => self.inbox_answer(reply, done),
        }
    }
}
