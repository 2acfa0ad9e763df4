//! Owns what the daemon itself answers: echo on 7, stdio on 1000, data exchange on 1001.

use crate::exchange::{self, Request, emit_answer};
use crate::store::{Kind, MESSAGE_LEN_MAX};
use pilot_stack::{Recv, Stack, StreamId};
use serde_json::json;
use std::collections::VecDeque;

/// Echo (RFC 862).
pub(crate) const ECHO: u16 = 7;
/// Text streams; what arrives while no program listens becomes a message.
pub(crate) const STDIO: u16 = 1000;
/// Messages.
pub(crate) const DATA_EXCHANGE: u16 = 1001;
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
    /// Answers to deliveries in order; `None` while the disk is busy with it.
    answers: VecDeque<Option<Vec<u8>>>,
    ended: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ServiceKind {
    Echo,
    Stdio,
    DataExchange,
}

/// What serving a stream came to.
#[derive(Default)]
pub(crate) struct Served {
    pub(crate) deliveries: Vec<Delivery>,
    pub(crate) finished: bool,
    pub(crate) broken: bool,
}

impl Service {
    pub(crate) fn for_port(port: u16) -> Option<Self> {
        let kind = match port {
            ECHO => ServiceKind::Echo,
            STDIO => ServiceKind::Stdio,
            DATA_EXCHANGE => ServiceKind::DataExchange,
            _ => return None,
        };
        Some(Self { kind, incoming: Vec::new(), outgoing: VecDeque::new(), answers: VecDeque::new(), ended: false })
    }

    /// Reads what arrived, answers what can be answered. Bounded by the stream's window.
    pub(crate) fn serve(&mut self, stack: &mut Stack, stream: StreamId) -> Served {
        let mut served = Served::default();
        self.flush(stack, stream, &mut served);
        let mut buffer = [0; 16 * 1024];
        while !self.ended && self.answers.len() < UNWRITTEN_MAX && !served.broken {
            if self.outgoing.len() >= ECHO_MAX {
                self.flush(stack, stream, &mut served);
                if self.outgoing.len() >= ECHO_MAX {
                    break; // the peer's acknowledgements will tell when to go on
                }
            }
            match stack.recv(stream, &mut buffer) {
                Recv::Data(n) => self.take(&buffer[..n], &mut served),
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
        served
    }

    fn take(&mut self, bytes: &[u8], served: &mut Served) {
        if self.kind == ServiceKind::Echo {
            self.outgoing.extend(bytes);
            return;
        }
        self.incoming.extend_from_slice(bytes);
        if self.kind == ServiceKind::Stdio {
            served.broken |= self.incoming.len() > MESSAGE_LEN_MAX;
            return;
        }
        loop {
            match exchange::take_frame(&mut self.incoming) {
                Ok(Some(frame)) => match exchange::parse_request(frame) {
                    Request::Message { id, kind, body } => {
                        self.answers.push_back(None);
                        served.deliveries.push(Delivery { id, kind, body });
                    }
                    Request::Refuse(text) => self.answers.push_back(Some(emit_answer(&text))),
                },
                Ok(None) => return,
                Err(exchange::Broken) => {
                    served.broken = true;
                    return;
                }
            }
        }
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
            self.answers.push_back(None);
            served.deliveries.push(Delivery { id: None, kind, body });
        }
    }

    /// The oldest delivery without outcome is on disk, or was refused for the reason given.
    pub(crate) fn written(&mut self, kind: Kind, len: usize, outcome: Result<Receipt, String>) {
        let stdio = self.kind == ServiceKind::Stdio;
        let answer = match outcome {
            Ok(Receipt { fresh, seq }) if stdio => {
                let data =
                    json!({"status": "stored", "id": seq, "bytes": len, "type": kind.name(), "duplicate": !fresh});
                format!("{data}\n").into_bytes()
            }
            Err(why) if stdio => format!("{}\n", json!({"status": "error", "message": why})).into_bytes(),
            Ok(_) => emit_answer(&exchange::ack_text(kind, len)),
            Err(why) => emit_answer(&format!("ERR {why}")),
        };
        if let Some(slot) = self.answers.iter_mut().find(|a| a.is_none()) {
            *slot = Some(answer);
        }
    }

    fn flush(&mut self, stack: &mut Stack, stream: StreamId, served: &mut Served) {
        while let Some(Some(_)) = self.answers.front() {
            self.outgoing.extend(self.answers.pop_front().flatten().unwrap_or_default());
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
