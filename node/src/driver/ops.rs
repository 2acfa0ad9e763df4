//! Runs the requests of CLI, C and Rust callers ([`Request`]) and gives their answers, some of them later.

use super::{Driver, Reply};
use crate::command::Answer;
use crate::driver::streams::{ConnectReply, Hold};
use crate::failure::{Code, Failure};
use crate::files::FileJob;
use crate::request::Request;
use crate::services::Receipt;
use crate::services::events::Published;
use crate::store::{Done, Job, Kind, Outgoing};
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
    LetterTaken(u64),
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

    /// Runs one request; its answer may come later.
    pub(crate) fn op(&mut self, request: Request, blob: Vec<u8>, reply: Reply) {
        let answer = match request {
            Request::Info => Ok(self.info()),
            Request::Version => Ok(json!({"version": env!("CARGO_PKG_VERSION")})),
            Request::Peers => Ok(self.peers()),
            Request::Connections => Ok(self.connections()),
            Request::Pending => Ok(self.pending()),
            Request::Trust => Ok(self.trusted()),
            Request::Find { node } => return self.find(&node, reply),
            Request::Search { tag } => return self.search(tag, reply),
            Request::Handshake { node, note, ports, expires_s } => {
                let terms = self.terms(note, ports.as_deref(), expires_s);
                return self.handshake(node, terms, reply);
            }
            Request::Approve { node, note, ports, expires_s } => {
                let terms = self.terms(note, ports.as_deref(), expires_s);
                return self.approve(&node, terms, reply);
            }
            Request::Reject { node, note } => return self.reject(&node, &note.unwrap_or_default(), reply),
            Request::Untrust { node } => return self.untrust(&node, reply),
            Request::WaitTrust { node, timeout_ms } => return self.wait_trust(&node, timeout_ms, reply),
            Request::Profile { hostname, public, tags } => return self.set_profile(hostname, public, tags, reply),
            Request::SendMessage { node, kind, queue, timeout_ms } => {
                let kind = kind.map_or(Kind::Text, Kind::from);
                return self.send_message(&node, kind, blob, (queue.unwrap_or(true), timeout_ms), reply);
            }
            Request::Inbox { limit, before } => {
                let limit = limit.unwrap_or(PAGE).min(PAGE_MAX) as usize;
                return self.submit(Job::List { limit, before }, Then::Inbox(reply));
            }
            Request::InboxRead { seq } => return self.submit(Job::Read(seq), Then::Inbox(reply)),
            Request::InboxNext { after } => return self.submit(Job::Next(after.unwrap_or(0)), Then::Inbox(reply)),
            Request::InboxTake { seqs } => return self.submit(Job::Take(seqs), Then::Inbox(reply)),
            Request::Received => return self.submit(Job::File(FileJob::List), Then::Inbox(reply)),
            Request::Publish { topic } => self.publish_here(topic, blob),
            Request::SendDatagram { node, port, source } => {
                let sent = self.send_one(&node, (source.unwrap_or(port), port), &blob);
                sent.map(|()| json!({"status": "sent", "bytes": blob.len()}))
            }
            Request::Disconnect { stream } => self.disconnect(stream),
            Request::Stop => {
                self.stopping = true;
                Ok(json!({"status": "stopping"}))
            }
            Request::Connect { .. }
            | Request::Cancel { .. }
            | Request::Listen { .. }
            | Request::Unlisten { .. }
            | Request::Accept { .. }
            | Request::Take { .. }
            | Request::StreamEnd { .. }
            | Request::Datagrams { .. }
            | Request::Events { .. } => return self.client_op(request, blob, reply),
        };
        self.reply(reply, answer);
    }

    /// Runs a request whose outcome stays with the client; its answer may come later, or with a descriptor.
    fn client_op(&mut self, request: Request, blob: Vec<u8>, reply: Reply) {
        let Reply::Ipc(client, number) = reply else {
            let failure = Failure::new(Code::InvalidArgument, "this operation belongs to a client of the socket");
            return self.reply(reply, Err(failure));
        };
        let answer = match request {
            Request::Connect { node, port } => {
                if blob.len() <= EARLY_LEN_MAX {
                    return self.connect(&node, port, blob, ConnectReply::Fd(client, number));
                }
                let text = format!("at most {EARLY_LEN_MAX} bytes travel with a connect");
                Err(Failure::new(Code::InvalidArgument, text))
            }
            Request::Cancel { request } => Ok(json!({"cancelled": self.cancel_connects(client, request)})),
            Request::Listen { port } => self.listen_for(client, port).map(|()| json!({"port": port})),
            Request::Unlisten { port } => {
                if self.ports_of(client).contains(&port) {
                    self.unlisten(port);
                }
                Ok(json!({"port": port}))
            }
            Request::Accept { port, hold } => {
                let hold = if hold == Some(true) { Hold::Yes } else { Hold::No };
                let Err(failure) = self.accept_for(client, number, port, hold) else { return };
                Err(failure)
            }
            Request::Take { stream } => {
                let Err(failure) = self.take_held(client, number, stream) else { return };
                Err(failure)
            }
            Request::StreamEnd { inode } => self.stream_end(inode),
            Request::Datagrams { port } => {
                let Err(failure) = self.open_datagrams(client, number, port) else { return };
                Err(failure)
            }
            Request::Events { topics } => {
                self.watch(client, number, topics);
                Ok(json!({"status": "watching"}))
            }
            other => {
                debug_assert!(false, "{other:?} is no request of a client");
                Err(Failure::new(Code::Internal, "no request of a client"))
            }
        };
        self.reply(reply, answer);
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
            (Then::Nothing, _) | (Then::LetterTaken(_), Some(_)) => {}
            (Then::Answer(reply, data), None) => self.reply(reply, Ok(data)),
            (Then::Answer(reply, _) | Then::Inbox(reply) | Then::Queued { reply, .. }, Some(failure)) => {
                self.reply(reply, Err(failure))
            }
            (Then::LetterTaken(id), None) => {
                let now = self.now();
                self.stack.endpoint_mut().letter_taken(now, id);
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
