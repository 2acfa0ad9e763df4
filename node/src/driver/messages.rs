//! Owns messages on their way out and in: the outbox's courier, those who wait for it, the inbox.

use super::directory::Purpose;
use super::ops::Then;
use super::streams::{ConnectReply, name_of};
use super::{Driver, Reply};
use crate::courier::Fate;
use crate::exchange::id_text;
use crate::failure::{Code, Failure};
use crate::files::FileDone;
use crate::resolve;
use crate::store::{Done, Job, Kind, MESSAGE_LEN_MAX, Message, Outgoing, outbox_expiry};
use pilot_core::identity::IdentityKey;
use pilot_stack::StreamId;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// Longest a caller may wait for a message to be taken.
const SEND_TIMEOUT_MAX: Duration = Duration::from_secs(600);
/// Wait when the caller does not say.
const SEND_TIMEOUT: Duration = Duration::from_secs(10);

/// Somebody waits for a message to be taken.
pub(crate) struct Waiter {
    pub(crate) deadline: Instant,
    pub(super) reply: Reply,
    pub(super) keep: bool,
    pub(super) kind: Kind,
    pub(super) len: usize,
    pub(super) to: IdentityKey,
    pub(super) id: [u8; 16],
}

impl Driver {
    /// `terms`: whether the message stays in the outbox when it cannot be delivered in time, and that time in ms.
    pub(super) fn send_message(
        &mut self,
        target: &str,
        kind: Kind,
        body: Vec<u8>,
        terms: (bool, Option<u64>),
        reply: Reply,
    ) {
        let (keep, timeout_ms) = terms;
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
        let timeout = timeout_ms.map_or(SEND_TIMEOUT, Duration::from_millis).min(SEND_TIMEOUT_MAX);
        let message = Outgoing { id: crate::home::entropy(), to, kind, expires: outbox_expiry(), body };
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
                Some(who) => {
                    let peer = self.stack.endpoint().peer_by_identity(&key);
                    // Without a tunnel the question waits, and until it leaves its messages may be cancelled.
                    let is_up = peer.is_some_and(|peer| self.stack.endpoint().is_up(now, peer));
                    let early = if is_up { self.courier.early(&key) } else { Vec::new() };
                    self.connect_to(&key, who, crate::services::DATA_EXCHANGE, early, ConnectReply::Courier(key));
                }
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

    // The inbox.

    pub(super) fn inbox_answer(&mut self, reply: Reply, done: Done) {
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
            Done::File(FileDone::Listed(rows)) => {
                let files: Vec<Value> = rows
                    .iter()
                    .map(|(name, bytes, at)| json!({"name": name, "bytes": bytes, "received_at": at}))
                    .collect();
                let folder = self.home.path().join("received");
                Ok((json!({"total": files.len(), "folder": folder, "files": files}), Vec::new()))
            }
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
