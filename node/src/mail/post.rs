//! The room of outgoing messages: their callers, and the streams of the outbox.

use crate::answer::Delivered;
use crate::call::{Call, Post, Purpose, Queue};
use crate::calls::connect::connect_to;
use crate::calls::{lookup, resolve};
use crate::context::Context;
use crate::crypto::entropy;
use crate::disk::job::Job;
use crate::effect::{Caller, Effect, Opener, Ticket};
use crate::failure::{Code, Failure};
use crate::mail::frame::id_text;
use crate::mail::message::{Kind, MESSAGE_LEN_MAX, OUTBOX_LIFETIME_S, Outgoing};
use crate::mail::outbox::{Fate, Outbox};
use crate::streams::names::name_of;
use litemap::LiteMap;
use pilot_core::Instant;
use pilot_core::identity::IdentityKey;
use pilot_core::time::Duration;
use pilot_stack::StreamId;

/// Port of messages and files.
pub(crate) const MAIL_PORT: u16 = 1001;
/// Longest wait of a caller for a message's acknowledgement.
const SEND_TIMEOUT_MAX: Duration = Duration::from_secs(600);
/// Wait of a caller that names no time.
const SEND_TIMEOUT: Duration = Duration::from_secs(10);

/// A message in its sender's words.
pub(crate) struct Letter {
    /// The recipient.
    pub(crate) node: String,
    pub(crate) kind: Kind,
    /// The message stays in the outbox when the recipient does not answer in time.
    pub(crate) keep: bool,
    /// Longest wait of the caller, at most 600 s; absent: 10 s.
    pub(crate) timeout: Option<Duration>,
    pub(crate) body: Vec<u8>,
}

/// The outbox and the callers that wait for its messages.
#[derive(Default)]
pub(crate) struct PostOffice {
    outbox: Outbox,
    /// By the message's number in the outbox.
    waiting: LiteMap<u64, Ticket>,
}

impl PostOffice {
    /// Messages that wait or are in flight.
    pub(crate) fn len(&self) -> usize {
        self.outbox.len()
    }

    /// Takes over a message that was in the books when the node started, unless its lifetime is over.
    pub(crate) fn restore(&mut self, cx: &mut Context, seq: u64, message: Outgoing) {
        let keep = message.expires > (cx.wall)() && self.outbox.add(seq, message);
        if !keep {
            cx.submit(Job::Unqueue(seq), Call::Forgotten);
        }
    }

    /// Sends a message. The caller is answered when the recipient has the message on disk, or cannot be reached in time.
    pub(crate) fn send(&mut self, cx: &mut Context, letter: Letter, caller: Caller) {
        if let Err(failure) = check(&letter) {
            return cx.fail(caller, failure);
        }
        let to = match resolve::pinned(cx.stack.endpoint().trust(), &letter.node) {
            Ok(pin) => pin.identity,
            Err(failure) if failure.code == Code::NotFound => {
                return lookup::ask(cx, &letter.node, Purpose::Explain(caller));
            }
            Err(failure) => return cx.fail(caller, failure),
        };
        let expires = (cx.wall)().saturating_add(OUTBOX_LIFETIME_S);
        let message = Outgoing { id: entropy(), to, kind: letter.kind, expires, body: letter.body };
        let deadline = cx.now + letter.timeout.unwrap_or(SEND_TIMEOUT).min(SEND_TIMEOUT_MAX);
        let call = Queue { message: message.clone(), caller, deadline, keep: letter.keep };
        cx.submit(Job::Queue(message), Call::Queue(call));
    }

    /// A message is in the books under `seq`, and may leave now.
    pub(crate) fn queued(&mut self, cx: &mut Context, seq: u64, call: Queue) {
        let Queue { message, caller, deadline, keep } = call;
        let (kind, len, to, id) = (message.kind, message.body.len(), message.to, message.id);
        if !self.outbox.add(seq, message) {
            cx.submit(Job::Unqueue(seq), Call::Forgotten);
            return cx.fail(caller, Failure::new(Code::Full, "too many bytes wait in the outbox"));
        }
        let post = Post { seq, caller, keep, kind, len, to, id };
        let ticket = cx.calls.open_until(Call::Post(post), deadline);
        let before = self.waiting.insert(seq, ticket);
        debug_assert!(before.is_none(), "a number in the outbox means one message");
        if let Some(stream) = self.outbox.stream_to(&to) {
            cx.ready(stream);
        }
    }

    /// Opens streams to recipients, and closes idle ones.
    pub(crate) fn handle_timeout(&mut self, cx: &mut Context) {
        for id in self.outbox.idle(cx.now) {
            cx.out.push(Effect::Close(id));
        }
        for key in self.outbox.wanted(cx.now) {
            let Some(name) = cx.stack.endpoint().trust().pin(&key).map(name_of) else {
                let failure = Failure::new(Code::TrustRequired, "the recipient is not trusted any more");
                self.failed(cx, &key, &failure);
                continue;
            };
            let peer = cx.stack.endpoint().peer_by_identity(&key);
            // Without a tunnel the question would wait, and messages that travel with it could not be cancelled meanwhile.
            let is_up = peer.is_some_and(|peer| cx.stack.endpoint().is_up(cx.now, peer));
            let early = if is_up { self.outbox.early(&key) } else { Vec::new() };
            if let Some(stream) = connect_to(cx, &key, (name, MAIL_PORT), early, Opener::Mail(key)) {
                self.outbox.opened(&key, stream);
            }
        }
    }

    /// The time at which [`PostOffice::handle_timeout`] has something to do.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.outbox.next_deadline()
    }

    /// The stream to a recipient ended or could not be opened.
    pub(crate) fn failed(&mut self, cx: &mut Context, key: &IdentityKey, failure: &Failure) {
        self.outbox.failed(cx.now, key);
        // Callers that do not let their messages wait are told at once.
        let is_impatient = |call: &Call| matches!(call, Call::Post(p) if p.to == *key && !p.keep);
        for ticket in cx.calls.tickets(is_impatient) {
            let Some(Call::Post(post)) = cx.calls.take(ticket) else { continue };
            self.outbox.cancel(post.seq);
            self.waiting.remove(&post.seq);
            cx.submit(Job::Unqueue(post.seq), Call::Forgotten);
            cx.fail(post.caller, failure.clone());
        }
    }

    /// A peer has sent something: the messages for it are tried at once.
    pub(crate) fn encourage(&mut self, key: &IdentityKey) {
        self.outbox.encourage(key);
    }

    /// Moves the bytes of the stream to a recipient.
    pub(crate) fn serve(&mut self, cx: &mut Context, stream: StreamId, key: &IdentityKey) {
        let (fates, is_over) = self.outbox.pump(cx.now, key, &mut cx.stack);
        for (seq, fate) in fates {
            cx.submit(Job::Unqueue(seq), Call::Forgotten);
            let waiting = self.waiting.remove(&seq).and_then(|ticket| cx.calls.take(ticket));
            let Some(Call::Post(post)) = waiting else { continue };
            match fate {
                Fate::Taken(ack) => {
                    let delivered = Delivered {
                        ack,
                        kind: post.kind.into(),
                        bytes: post.len as u64,
                        message_id: id_text(&post.id),
                        delivered: true,
                    };
                    cx.reply(post.caller, delivered);
                }
                Fate::Refused(text) => {
                    cx.fail(post.caller, Failure::new(Code::Full, format!("the recipient refused: {text}")))
                }
            }
        }
        if is_over {
            cx.out.push(Effect::Close(stream));
            self.failed(cx, key, &Failure::new(Code::ConnectionReset, "the recipient ended the stream"));
        }
    }

    /// The time of a caller that waits for an acknowledgement is over.
    pub(crate) fn expired(&mut self, cx: &mut Context, post: Post) {
        self.waiting.remove(&post.seq);
        let failure = if post.keep {
            let text = "the recipient cannot be reached now; the message waits in the outbox and will be delivered";
            Failure::new(Code::Unreachable, text)
                .hint("pilotctl info shows the outbox; --no-queue fails instead of waiting")
        } else {
            let is_unsent = self.outbox.cancel(post.seq);
            cx.submit(Job::Unqueue(post.seq), Call::Forgotten);
            let text = if is_unsent {
                "the recipient did not answer in time; nothing was sent"
            } else {
                "the recipient did not answer in time; it may have the message"
            };
            Failure::new(Code::Timeout, text)
        };
        cx.fail(post.caller, failure);
    }
}

fn check(letter: &Letter) -> Result<(), Failure> {
    let invalid = |text: &str| Failure::new(Code::InvalidArgument, text);
    if letter.body.len() > MESSAGE_LEN_MAX {
        let text = format!("a message may have at most 16 MiB, this one has {} bytes", letter.body.len());
        return Err(invalid(&text).hint("send it through a stream: pilotctl connect"));
    }
    match letter.kind {
        Kind::Json if serde_json::from_slice::<serde::de::IgnoredAny>(&letter.body).is_err() => {
            Err(invalid("the data is not valid JSON; nothing was sent"))
        }
        Kind::Text if std::str::from_utf8(&letter.body).is_err() => {
            Err(invalid("the data is not UTF-8 text").hint("--type binary"))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
