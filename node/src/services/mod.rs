//! Owns what the daemon itself answers: echo on 7, stdio on 1000, messages and files on 1001, events on 1002.

pub(crate) mod events;

use crate::disk::files::{FileDone, FileJob};
use crate::mail::frame::{self, Request, emit_answer};
use crate::mail::message::{Kind, MESSAGE_LEN_MAX};
use crate::mail::receive_file::{Say, Transfers};
use events::{Published, Subscription};
use pilot_stack::{Recv, Stack, StreamId};
use serde_json::json;
use std::collections::VecDeque;

/// Echo (RFC 862).
pub const ECHO: u16 = 7;
/// Text streams; what arrives while no program listens becomes a message.
pub const STDIO: u16 = 1000;
/// Messages and files.
pub const DATA_EXCHANGE: u16 = 1001;
/// Events.
pub const EVENT_STREAM: u16 = 1002;
/// Every port that is served.
pub(crate) const PORTS: [u16; 4] = [ECHO, STDIO, DATA_EXCHANGE, EVENT_STREAM];
/// Most messages of one stream that wait for the disk. Beyond it the stream is not read.
const UNWRITTEN_MAX: usize = 256;
/// Echoed bytes that may wait. Unit: bytes.
const ECHO_MAX: usize = 64 * 1024;

/// Something to put into the inbox; the outcome comes back through [`Service::written`].
pub(crate) struct Delivery {
    pub(crate) id: Option<[u8; 16]>,
    pub(crate) kind: Kind,
    pub(crate) body: Vec<u8>,
}

/// Where a delivered message is.
pub(crate) struct Receipt {
    /// It was not there before.
    pub(crate) fresh: bool,
    /// Its number in the inbox.
    pub(crate) seq: u64,
}

/// One stream that the daemon serves itself.
pub(crate) struct Service {
    kind: ServiceKind,
    incoming: Vec<u8>,
    outgoing: VecDeque<u8>,
    /// Answers in order, by ticket; `None` while the disk is busy with it.
    answers: VecDeque<(u64, Option<Vec<u8>>)>,
    next_ticket: u64,
    transfers: Transfers,
    subscription: Subscription,
    ended: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ServiceKind {
    Echo,
    Stdio,
    DataExchange,
    Events,
}

/// What serving a stream came to.
#[derive(Default)]
pub(crate) struct Served {
    /// Each with the ticket of its answer.
    pub(crate) deliveries: Vec<(u64, Delivery)>,
    pub(crate) files: Vec<FileJob>,
    pub(crate) published: Vec<Published>,
    pub(crate) finished: bool,
    pub(crate) broken: bool,
}

impl Service {
    /// The service of a port, for one stream.
    pub(crate) fn for_port(port: u16, stream: StreamId) -> Option<Self> {
        let kind = match port {
            ECHO => ServiceKind::Echo,
            STDIO => ServiceKind::Stdio,
            DATA_EXCHANGE => ServiceKind::DataExchange,
            EVENT_STREAM => ServiceKind::Events,
            _ => return None,
        };
        Some(Self {
            kind,
            incoming: Vec::new(),
            outgoing: VecDeque::new(),
            answers: VecDeque::new(),
            next_ticket: 0,
            transfers: Transfers::new(stream.number() << 32),
            subscription: Subscription::default(),
            ended: false,
        })
    }

    /// Reads what arrived, answers what can be answered. Bounded by the stream's window. `sender`: the fingerprint of the
    /// peer's key.
    pub(crate) fn serve(&mut self, stack: &mut Stack, stream: StreamId, sender: &str) -> Served {
        let mut served = Served::default();
        self.flush(stack, stream, &mut served);
        let mut buffer = [0; 16 * 1024];
        while !self.ended && self.answers.len() < UNWRITTEN_MAX && !self.transfers.is_full() && !served.broken {
            if self.kind == ServiceKind::Echo && self.outgoing.len() >= ECHO_MAX {
                self.flush(stack, stream, &mut served);
                if self.outgoing.len() >= ECHO_MAX {
                    break; // the peer's acknowledgements will tell when to go on
                }
            }
            match stack.recv(stream, &mut buffer) {
                Recv::Data(n) => self.take(&buffer[..n], sender, &mut served),
                Recv::Blocked => break,
                Recv::Fin => {
                    self.ended = true;
                    self.at_end(&mut served);
                }
                Recv::Ended(_) => served.broken = true,
            }
        }
        self.flush(stack, stream, &mut served);
        served.finished = self.ended && self.answers.is_empty() && self.outgoing.is_empty();
        if served.finished || served.broken {
            served.files.extend(self.transfers.give_up());
        }
        served
    }

    fn take(&mut self, bytes: &[u8], sender: &str, served: &mut Served) {
        match self.kind {
            ServiceKind::Echo => self.outgoing.extend(bytes),
            ServiceKind::Stdio => {
                self.incoming.extend_from_slice(bytes);
                served.broken |= self.incoming.len() > MESSAGE_LEN_MAX;
            }
            ServiceKind::Events => {
                self.incoming.extend_from_slice(bytes);
                match self.subscription.take(&mut self.incoming) {
                    Ok(published) => served.published.extend(published),
                    Err(events::NotAnEvent) => served.broken = true,
                }
            }
            ServiceKind::DataExchange => {
                self.incoming.extend_from_slice(bytes);
                self.take_frames(sender, served);
            }
        }
    }

    fn take_frames(&mut self, sender: &str, served: &mut Served) {
        loop {
            if self.transfers.is_inside() {
                self.transfers.take(&mut self.incoming, &mut served.files);
                if self.transfers.is_inside() {
                    return;
                }
            }
            if self.incoming.first_chunk() == Some(&frame::FILE.to_be_bytes()) {
                match self.transfers.begin(&mut self.incoming, self.next_ticket, &mut served.files) {
                    Some(true) => self.promise(),
                    Some(false) => {
                        // Where the next frame begins is unknown: what came before is still answered.
                        self.answers.push_back((u64::MAX, Some(emit_answer("ERR malformed file"))));
                        return self.ended = true;
                    }
                    None => return,
                };
                continue;
            }
            let request = match frame::take_frame(&mut self.incoming) {
                Ok(Some(frame)) => frame::parse_request(frame),
                Ok(None) => return,
                Err(frame::Broken) => return served.broken = true,
            };
            match request {
                Request::Message { id, kind, body } => {
                    let ticket = self.promise();
                    served.deliveries.push((ticket, Delivery { id, kind, body }));
                }
                Request::File(payload) => {
                    match self.transfers.take_frame(&payload, sender, self.next_ticket, &mut served.files) {
                        Ok(true) => drop(self.promise()),
                        Ok(false) => {}
                        Err(answer) => self.answers.push_back((u64::MAX, Some(answer))),
                    }
                }
                Request::Refuse(text) => self.answers.push_back((u64::MAX, Some(emit_answer(&text)))),
            }
        }
    }

    /// An answer will come; its place in the order is now.
    fn promise(&mut self) -> u64 {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.answers.push_back((ticket, None));
        ticket
    }

    /// The peer has said everything. A text stream that nobody here reads becomes a message.
    fn at_end(&mut self, served: &mut Served) {
        if self.kind == ServiceKind::Stdio && !self.incoming.is_empty() {
            let body = std::mem::take(&mut self.incoming);
            let kind = match std::str::from_utf8(&body) {
                Ok(text) if serde_json::from_str::<serde_json::Value>(text.trim()).is_ok() => Kind::Json,
                Ok(_) => Kind::Text,
                Err(_) => Kind::Binary,
            };
            let ticket = self.promise();
            served.deliveries.push((ticket, Delivery { id: None, kind, body }));
        }
        // A file that ends early will never get its answer.
        served.broken |= self.transfers.is_inside();
    }

    /// A delivery is on disk, or was refused for the reason given.
    pub(crate) fn written(&mut self, ticket: u64, kind: Kind, len: usize, outcome: Result<Receipt, String>) {
        let stdio = self.kind == ServiceKind::Stdio;
        let answer = match outcome {
            Ok(Receipt { fresh, seq }) if stdio => {
                let data =
                    json!({"status": "stored", "id": seq, "bytes": len, "type": kind.name(), "duplicate": !fresh});
                format!("{data}\n").into_bytes()
            }
            Err(why) if stdio => format!("{}\n", json!({"status": "error", "message": why})).into_bytes(),
            Ok(_) => emit_answer(&frame::ack_text(kind, len)),
            Err(why) => emit_answer(&format!("ERR {why}")),
        };
        self.answer(ticket, answer);
    }

    /// The disk has done a job of `len` bytes for a file.
    pub(crate) fn file_done(&mut self, id: u64, len: usize, done: FileDone) {
        match self.transfers.done(id, len, done) {
            Say::Nothing => {}
            Say::Answer(ticket, answer) => self.answer(ticket, answer),
            Say::Now(bytes) => self.outgoing.extend(bytes),
        }
    }

    fn answer(&mut self, ticket: u64, answer: Vec<u8>) {
        match self.answers.iter_mut().find(|(t, a)| *t == ticket && a.is_none()) {
            Some((_, slot)) => *slot = Some(answer),
            None => self.outgoing.extend(answer),
        }
    }

    /// Whether this stream subscribes to events.
    pub(crate) fn is_subscriber(&self) -> bool {
        self.kind == ServiceKind::Events
    }

    /// Queues an event for the subscriber at the other end; true when there is something to send.
    pub(crate) fn offer(&mut self, event: &Published) -> bool {
        self.subscription.offer(event, &mut self.outgoing)
    }

    fn flush(&mut self, stack: &mut Stack, stream: StreamId, served: &mut Served) {
        while let Some((_, Some(_))) = self.answers.front() {
            self.outgoing.extend(self.answers.pop_front().and_then(|(_, answer)| answer).unwrap_or_default());
        }
        while !self.outgoing.is_empty() {
            let (front, _) = self.outgoing.as_slices();
            match stack.send(stream, front) {
                Ok(0) => return,
                Ok(n) => drop(self.outgoing.drain(..n)),
                Err(_) => {
                    served.broken = true;
                    return;
                }
            }
        }
    }
}
