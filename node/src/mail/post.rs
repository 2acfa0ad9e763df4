//! The room of outgoing messages: their callers, and the streams of the outbox.

use crate::answer::{Delivered, Waiting};
use crate::call::{Call, Post, Purpose, Queue};
use crate::calls::connect::{connect_to, is_up};
use crate::calls::{lookup, resolve};
use crate::context::Context;
use crate::crypto::entropy;
use crate::disk::job::Job;
use crate::effect::{Caller, Effect, Opener, Ticket};
use crate::failure::{Code, Failure};
use crate::log::record::{Cause, Record, Source};
use crate::mail::frame::id_text;
use crate::mail::message::{Kind, Letter, MESSAGE_LEN_MAX, OUTBOX_LIFETIME_S, Outgoing};
use crate::mail::outbox::{Fate, Outbox};
use crate::streams::names::name_of;
use litemap::LiteMap;
use pilot_core::identity::IdentityKey;
use pilot_core::time::Duration;
use pilot_core::{Instant, Level};
use pilot_stack::StreamId;

/// Port of messages and files.
pub(crate) const MAIL_PORT: u16 = 1001;
/// Longest wait of a caller for a message's acknowledgement.
const SEND_TIMEOUT_MAX: Duration = Duration::from_secs(600);
/// Wait of a caller that names no time.
const SEND_TIMEOUT: Duration = Duration::from_secs(10);

/// Most recipients of which the reason is told for which messages wait for them.
const WAITING_TOLD_MAX: usize = 100;

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
            Ok(pin) if pin.is_denied(MAIL_PORT) => {
                let (key, failure) = (pin.identity, Failure::not_granted(&name_of(pin), MAIL_PORT));
                self.ask_again(cx, &key);
                return cx.fail(caller, failure);
            }
            Ok(pin) => pin.identity,
            Err(failure) if failure.code == Code::NotFound => {
                let node = letter.node.clone();
                return lookup::ask(cx, &node, Purpose::Send(caller, letter));
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
            // Without a tunnel the question would wait, and messages that travel with it could not be cancelled meanwhile.
            let is_up = is_up(cx, &key);
            if let Some(failure) = self.denial(cx, &key).filter(|_| is_up) {
                self.failed(cx, &key, &failure);
                continue;
            }
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

    /// The stream to a recipient ended or could not be opened. When that is because the recipient's owner keeps messages out,
    /// callers that wait are told so, and their messages do not stay; those that waited before stay, since the grant may come
    /// back.
    pub(crate) fn failed(&mut self, cx: &mut Context, key: &IdentityKey, failure: &Failure) {
        let denial = self.denial(cx, key);
        let failure = denial.as_ref().unwrap_or(failure);
        let is_news = self.reason_for(key) != Some(failure.message.as_str());
        self.outbox.failed(cx.now, key, &failure.message);
        // Callers that do not let their messages wait are told at once.
        self.give_back(cx, key, failure, denial.is_some());
        if denial.is_some() && is_news {
            self.note_held(cx, key);
        }
    }

    /// A peer has said what this node may reach: what waits for it is tried at once, or held.
    pub(crate) fn regranted(&mut self, cx: &mut Context, key: &IdentityKey) {
        match self.denial(cx, key) {
            Some(failure) if self.outbox.stream_to(key).is_none() => self.failed(cx, key, &failure),
            Some(_) => {} // the peer resets the stream
            None => self.outbox.encourage(key),
        }
    }

    /// For whom messages wait, and why.
    pub(crate) fn waiting(&self, cx: &Context) -> Vec<Waiting> {
        let trust = cx.stack.endpoint().trust();
        let waiting = self.outbox.waiting().take(WAITING_TOLD_MAX).map(|(key, count, reason)| Waiting {
            node: trust.pin(key).map_or_else(|| key.fingerprint(), name_of),
            messages: count as u64,
            reason: self.denial(cx, key).map(|failure| failure.message).or(reason.map(str::to_owned)),
        });
        waiting.collect()
    }

    /// Why the peer's owner keeps this node's messages out, if so.
    fn denial(&self, cx: &Context, key: &IdentityKey) -> Option<Failure> {
        let pin = cx.stack.endpoint().trust().pin(key).filter(|pin| pin.is_denied(MAIL_PORT))?;
        Some(Failure::not_granted(&name_of(pin), MAIL_PORT))
    }

    /// Why the last attempt to reach a recipient failed.
    fn reason_for(&self, key: &IdentityKey) -> Option<&str> {
        self.outbox.waiting().find(|(to, ..)| *to == key).and_then(|(_, _, reason)| reason)
    }

    /// Writes into the log that messages stay because their recipient does not grant messages.
    fn note_held(&self, cx: &mut Context, key: &IdentityKey) {
        let Some((_, count, _)) = self.outbox.waiting().find(|(to, ..)| *to == key) else { return };
        cx.trace(Level::Warn, |cx| {
            let name = cx.stack.endpoint().trust().pin(key).map_or_else(|| key.fingerprint(), name_of);
            let record = Record::new(Level::Warn, "mail_held").with("peer", name).with("messages", count as u64);
            record.with("reason", "not_granted").from(Source::Key(*key), Cause::Known)
        });
    }

    /// Makes a tunnel to a peer that has none, so that the peer can say what this node may reach by now.
    fn ask_again(&self, cx: &mut Context, key: &IdentityKey) {
        if let Some(peer) = cx.stack.endpoint().peer_by_identity(key) {
            cx.stack.endpoint_mut().reach(cx.now, peer);
        }
    }

    /// Fails callers that wait for a recipient: all, or those that do not let their messages stay. The messages go.
    fn give_back(&mut self, cx: &mut Context, key: &IdentityKey, failure: &Failure, all: bool) {
        let is_impatient = |call: &Call| matches!(call, Call::Post(p) if p.to == *key && (all || !p.keep));
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
            let reason = self.reason_for(&post.to).unwrap_or("the recipient cannot be reached now");
            let text = format!("{reason}; the message waits in the outbox and will be delivered");
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
