//! The room of outgoing messages: their callers, and the streams of the outbox.

mod questions;

use crate::answer::{self, Delivered, Waiting};
use crate::call::{Call, Post, Purpose, Queue};
use crate::calls::connect::{connect_to, is_up};
use crate::calls::{meet, resolve};
use crate::context::Context;
use crate::crypto::entropy;
use crate::disk::job::{Job, Meta};
use crate::effect::{Caller, Effect, Opener, Ticket};
use crate::failure::{Code, Failure};
use crate::log::record::{Cause, Record, Source};
use crate::mail::claims::Claims;
use crate::mail::counted::Counted;
use crate::mail::frame::{id_text, knows_no_questions};
use crate::mail::given_up::{GIVEN_UP_MAX, GivenUp};
use crate::mail::message::{DEADLINE_MAX_S, Kind, Letter, MESSAGE_LEN_MAX, OUTBOX_LIFETIME_S, Outgoing, Tag};
use crate::mail::outbox::{Fate, Outbox, Over, Settled};
use crate::mail::waits::{self, Waits};
use crate::node_event::Event;
use crate::streams::names::{failure_of, name_of};
use litemap::LiteMap;
use pilot_core::identity::IdentityKey;
use pilot_core::sort::sort_by;
use pilot_core::time::{Duration, earliest};
use pilot_core::{Instant, Level};
use pilot_stack::StreamId;
use std::collections::VecDeque;

/// Port of messages and files.
pub(crate) const MAIL_PORT: u16 = 1001;
/// Longest wait of a caller for a message's acknowledgement.
const SEND_TIMEOUT_MAX: Duration = Duration::from_secs(600);
/// Wait of a caller that names no time.
const SEND_TIMEOUT: Duration = Duration::from_secs(10);

/// Time between two looks at the age of messages, and between two notes of counted time on the disk. Source:
/// `docs/messages.md`, "Counted time".
const CHECK_EVERY: Duration = Duration::from_secs(3600);
/// Most messages that a list of the outbox shows, and the number when its reader names none.
const SHOWN_MAX: u64 = 10_000;
const SHOWN: u64 = 50;
/// Why a message was given up, in the log and in events.
const NOT_TRUSTED: &str = "the recipient is not trusted any more";
const TOO_OLD: &str = "the message waited for seven days";

/// Most recipients of which the reason is told for which messages wait for them.
const WAITING_TOLD_MAX: usize = 100;

/// The outbox and the callers that wait for its messages.
#[derive(Default)]
pub(crate) struct PostOffice {
    outbox: Outbox,
    /// By the message's number in the outbox.
    waiting: LiteMap<u64, Ticket>,
    /// The next look at the age of messages; `None` while there are none.
    check_at: Option<Instant>,
    /// The newest [`GIVEN_UP_MAX`] messages that were given up, oldest first.
    given_up: VecDeque<GivenUp>,
    /// Callers that wait for answers to questions.
    waits: Waits,
    /// Questions of the inbox on which clients work.
    claims: Claims,
    /// Bytes of answers that are on their way into the outbox. Unit: bytes.
    replying_len: usize,
}

impl PostOffice {
    /// Messages that wait or are in flight.
    pub(crate) fn len(&self) -> usize {
        self.outbox.len()
    }

    /// Takes over what was in the books when the node started: messages, those that were given up, and counted time.
    pub(crate) fn restore(
        &mut self,
        cx: &mut Context,
        outbox: Vec<(u64, Outgoing)>,
        given_up: Vec<GivenUp>,
        counted: Option<&[u8]>,
    ) {
        cx.counted = Counted::resume(counted, (cx.wall)());
        self.given_up = given_up.into();
        let now = cx.counted_s();
        for (seq, mut message) in outbox {
            // Counted time that was not saved before a crash is gone.
            message.since = message.since.min(now);
            // A message beyond the limit of memory stays on the disk for the next start.
            self.outbox.add(seq, message);
        }
        if self.outbox.len() > 0 || cx.has_questions {
            self.check_age(cx);
        }
    }

    /// A question of a peer is on disk: its time is counted from now on.
    pub(crate) fn count(&mut self, cx: &Context) {
        self.check_at = self.check_at.or(Some(cx.now + CHECK_EVERY));
    }

    /// Gives up the messages that are too old, and notes counted time on the disk.
    fn check_age(&mut self, cx: &mut Context) {
        if let Some(until) = cx.counted_s().checked_sub(OUTBOX_LIFETIME_S) {
            for key in self.outbox.recipients() {
                let taken = self.outbox.take(&key, until);
                self.give_up(cx, &key, taken, &Failure::new(Code::Timeout, TOO_OLD));
            }
        }
        let row = cx.counted.emit(cx.now, (cx.wall)());
        cx.submit(Job::Put(Meta::Counted, row), Call::Forgotten);
        cx.expire_questions();
        self.check_at = (self.outbox.len() > 0 || cx.has_questions).then_some(cx.now + CHECK_EVERY);
    }

    /// Messages leave the outbox undelivered: their owner is told by an event, the log and the list of the outbox.
    fn give_up(&mut self, cx: &mut Context, to: &IdentityKey, messages: Vec<(u64, Outgoing)>, failure: &Failure) {
        if messages.is_empty() {
            return;
        }
        let (node, reason) = (self.names(cx, to), failure.message.as_str());
        for (seq, message) in messages {
            self.waiting.remove(&seq).and_then(|ticket| cx.calls.take(ticket));
            let row = GivenUp::new((seq, &message), (cx.wall)(), &node, reason);
            cx.submit(Job::GiveUp(row.clone()), Call::Forgotten);
            self.fail_waits(cx, &message.id, failure);
            let id = id_text(&row.id);
            cx.trace(Level::Warn, |_| {
                let record =
                    Record::new(Level::Warn, "mail_given_up").with("peer", node.clone()).with("message", id.clone());
                record.with("reason", reason).from(Source::Key(*to), Cause::Known)
            });
            let bytes = row.len;
            cx.tell(|_| Event::GivenUp { message_id: id, to: node.clone(), bytes, reason: reason.into() });
            self.given_up.push_back(row);
            if self.given_up.len() > GIVEN_UP_MAX {
                self.given_up.pop_front();
            }
        }
        debug_assert!(self.given_up.len() <= GIVEN_UP_MAX);
    }

    /// The name of a recipient.
    fn names(&self, cx: &Context, key: &IdentityKey) -> String {
        cx.stack.endpoint().trust().pin(key).map_or_else(|| key.fingerprint(), name_of)
    }

    /// Lists the messages that were given up, and those that wait, each oldest first.
    pub(crate) fn list(&self, cx: &Context, limit: Option<u64>) -> answer::Outbox {
        let now = cx.counted_s();
        let gone = self.given_up.iter().map(|row| answer::OutboxMessage {
            message_id: id_text(&row.id),
            node: row.node.clone(),
            kind: row.kind.into(),
            bytes: row.len,
            state: answer::OutboxState::GivenUp,
            waited_s: None,
            given_up_at: Some(row.at),
            reason: Some(row.reason.clone()),
        });
        let mut waiting: Vec<_> = self.outbox.messages().collect();
        sort_by(&mut waiting, |a, b| a.0 < b.0);
        let rows = waiting.iter().map(|(_, message, is_sent, reason)| answer::OutboxMessage {
            message_id: id_text(&message.id),
            node: self.names(cx, &message.to),
            kind: message.kind.into(),
            bytes: message.body.len() as u64,
            state: if *is_sent { answer::OutboxState::Sent } else { answer::OutboxState::Waiting },
            waited_s: Some(now.saturating_sub(message.since)),
            given_up_at: None,
            reason: reason.map(str::to_owned),
        });
        let limit = limit.unwrap_or(SHOWN).min(SHOWN_MAX) as usize;
        let messages: Vec<answer::OutboxMessage> = gone.chain(rows).take(limit).collect();
        let (waiting, given_up) = (waiting.len() as u64, self.given_up.len() as u64);
        answer::Outbox { waiting, given_up, shown: messages.len() as u64, messages }
    }

    /// Sends a message. The caller is answered when the recipient has the message on disk, or cannot be reached in time; of a question
    /// when its answer has come, or the time is over.
    pub(crate) fn send(&mut self, cx: &mut Context, letter: Letter, caller: Caller) {
        if let Err(failure) = check(letter.kind, &letter.body).and_then(|()| check_question(cx, letter.asks)) {
            return cx.fail(caller, failure);
        }
        let to = match resolve::pinned(cx.stack.endpoint().trust(), &letter.node) {
            Ok(pin) if pin.is_denied(MAIL_PORT) => {
                let (key, failure) = (pin.identity, Failure::not_granted(&name_of(pin), MAIL_PORT));
                self.ask_again(cx, &key);
                return cx.fail(caller, failure);
            }
            Ok(pin) if letter.asks.is_some() && !pin.allows(MAIL_PORT) => {
                let failure = cannot_answer(&name_of(pin));
                return cx.fail(caller, failure);
            }
            Ok(pin) => pin.identity,
            Err(failure) if failure.code == Code::NotFound => {
                let node = letter.node.clone();
                return meet::ask(cx, &node, Purpose::Send(caller, letter));
            }
            Err(failure) => return cx.fail(caller, failure),
        };
        let since = cx.counted_s();
        let wall = (cx.wall)();
        let tag = letter.asks.map_or(Tag::Plain, |asks| Tag::Question { deadline: since + asks });
        cx.has_questions |= tag.is_question();
        let message = Outgoing { id: entropy(), to, kind: letter.kind, since, tag, body: letter.body };
        let most = letter.asks.map_or(SEND_TIMEOUT_MAX, Duration::from_secs);
        let deadline = cx.now + letter.timeout.unwrap_or(SEND_TIMEOUT).min(most);
        let call = Queue { message: message.clone(), caller, deadline, keep: letter.keep };
        let job = if tag.is_question() { Job::Ask(message, wall) } else { Job::Queue(message) };
        cx.submit(job, Call::Queue(call));
    }

    /// A message is in the books under `seq`, and may leave now.
    pub(crate) fn queued(&mut self, cx: &mut Context, seq: u64, call: Queue) {
        let Queue { message, caller, deadline, keep } = call;
        let (kind, len, to, id, tag) = (message.kind, message.body.len(), message.to, message.id, message.tag);
        if !self.outbox.add(seq, message) {
            cx.submit(Job::Unqueue(seq), Call::Forgotten);
            if tag.is_question() {
                cx.submit(Job::Forget(id), Call::Forgotten);
            }
            return cx.fail(caller, Failure::new(Code::Full, "too many bytes wait in the outbox"));
        }
        if tag.is_question() {
            self.look_for_answer(cx, caller, id, Some(deadline));
        } else {
            let post = Post { seq, caller, keep, kind, len, to, id };
            let ticket = cx.calls.open_until(Call::Post(post), deadline);
            let before = self.waiting.insert(seq, ticket);
            debug_assert!(before.is_none(), "a number in the outbox means one message");
        }
        self.hurry(cx, &to);
    }

    /// A message has joined the outbox: its owner may wait, so that a long pause is over.
    fn hurry(&mut self, cx: &mut Context, to: &IdentityKey) {
        self.count(cx);
        self.outbox.hasten(to);
        if let Some(stream) = self.outbox.stream_to(to) {
            cx.ready(stream);
        }
    }

    /// Opens streams to recipients, and closes idle ones.
    pub(crate) fn handle_timeout(&mut self, cx: &mut Context) {
        if self.check_at.is_some_and(|at| at <= cx.now) {
            self.check_age(cx);
        }
        for id in self.outbox.idle(cx.now) {
            cx.out.push(Effect::Close(id));
        }
        for key in self.outbox.wanted(cx.now) {
            let Some(name) = cx.stack.endpoint().trust().pin(&key).map(name_of) else {
                let failure = Failure::new(Code::TrustRequired, NOT_TRUSTED);
                self.failed(cx, &key, &failure);
                continue;
            };
            // Without a tunnel the question would wait, and messages that travel with it could not be cancelled meanwhile.
            let is_up = is_up(cx, &key);
            if let Some(failure) = self.denial(cx, &key).filter(|_| is_up) {
                self.failed(cx, &key, &failure);
                continue;
            }
            let early = if is_up { self.outbox.early(&key, cx.counted_s()) } else { Vec::new() };
            if let Some(stream) = connect_to(cx, &key, (name, MAIL_PORT), early, Opener::Mail(key)) {
                self.outbox.opened(&key, stream);
            }
        }
    }

    /// The time at which [`PostOffice::handle_timeout`] has something to do.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        earliest(self.outbox.next_deadline(), self.check_at)
    }

    /// The stream to a recipient ended or could not be opened. When that is because the recipient's owner keeps messages out,
    /// callers that wait are told so, and their messages do not stay; those that waited before stay, since the grant may come
    /// back. Messages for a recipient that is not trusted any more are given up.
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
        if cx.stack.endpoint().trust().pin(key).is_none() {
            let failure = Failure::new(Code::TrustRequired, NOT_TRUSTED);
            self.give_back(cx, key, &failure, true);
            let messages = self.outbox.take(key, u64::MAX);
            self.give_up(cx, key, messages, &failure);
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
        let waiting = self.outbox.waiting().take(WAITING_TOLD_MAX).map(|(key, count, reason)| Waiting {
            node: self.names(cx, key),
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
            let record =
                Record::new(Level::Warn, "mail_held").with("peer", self.names(cx, key)).with("messages", count as u64);
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
        let (fates, over) = self.outbox.pump((cx.now, cx.counted_s()), key, &mut cx.stack);
        for (seq, fate) in fates {
            let waiting = self.waiting.remove(&seq).and_then(|ticket| cx.calls.take(ticket));
            let Some(Call::Post(post)) = waiting else {
                match fate {
                    Fate::Taken(text, message) | Fate::Refused(text, message)
                        if message.tag.is_question() && knows_no_questions(&text) =>
                    {
                        let failure = waits::unknown(&self.names(cx, key), &text);
                        self.give_up(cx, key, vec![(seq, message)], &failure);
                    }
                    Fate::Taken(..) => cx.submit(Job::Unqueue(seq), Call::Forgotten),
                    Fate::Refused(text, message) => {
                        let failure = Failure::new(Code::Full, format!("the recipient refused: {text}"));
                        self.give_up(cx, key, vec![(seq, message)], &failure);
                    }
                    Fate::Later(_) => {} // the message stays in the outbox
                }
                continue;
            };
            cx.submit(Job::Unqueue(seq), Call::Forgotten);
            match fate {
                Fate::Taken(ack, _) => {
                    let delivered = Delivered {
                        ack,
                        kind: post.kind.into(),
                        bytes: post.len as u64,
                        message_id: id_text(&post.id),
                        delivered: true,
                    };
                    cx.reply(post.caller, delivered);
                }
                Fate::Refused(text, _) | Fate::Later(text) => {
                    // A caller that is told does not want the message to stay.
                    self.outbox.cancel(seq);
                    cx.fail(post.caller, Failure::new(Code::Full, format!("the recipient refused: {text}")))
                }
            }
        }
        self.go_on(cx, stream, key, over);
    }

    /// The stream to a recipient is over, or messages that stay were refused, or everything in flight is answered.
    fn go_on(&mut self, cx: &mut Context, stream: StreamId, key: &IdentityKey, over: Option<Over>) {
        let code = Code::ConnectionReset;
        let (effect, failure) = match over {
            Some(Over::Ended) => {
                let why = cx.stack.broken(stream).map(|end| failure_of(&cx.stack, stream, end).message);
                (Effect::Close(stream), Failure::new(code, why.unwrap_or("the recipient ended the stream".into())))
            }
            Some(Over::Broken) => {
                (Effect::Abort(stream), Failure::new(code, "the recipient's answers cannot be understood"))
            }
            None => match self.outbox.settle(key) {
                Settled::Refused(text) => {
                    (Effect::Close(stream), Failure::new(Code::Full, format!("the recipient refused for now: {text}")))
                }
                Settled::GoOn => return cx.ready(stream),
                Settled::Nothing => return,
            },
        };
        cx.out.push(effect);
        self.failed(cx, key, &failure);
    }

    /// The time of a caller that waits for an acknowledgement is over.
    pub(crate) fn expired(&mut self, cx: &mut Context, post: Post) {
        self.waiting.remove(&post.seq);
        let failure = if post.keep {
            let reason = self
                .reason_for(&post.to)
                .map_or_else(|| format!("{} cannot be reached now", self.names(cx, &post.to)), str::to_owned);
            let text = format!("{reason}; the message waits in the outbox and will be delivered");
            Failure::new(Code::Unreachable, text)
                .hint("pilotctl info shows the outbox; --no-queue fails instead of waiting")
        } else {
            let is_unsent = self.outbox.cancel(post.seq);
            cx.submit(Job::Unqueue(post.seq), Call::Forgotten);
            let outcome = if is_unsent { "nothing was sent" } else { "it may have the message" };
            let name = self.names(cx, &post.to);
            Failure::new(Code::Timeout, format!("{name} did not answer in time; {outcome}"))
                .hint(format!("pilotctl path {name}"))
        };
        cx.fail(post.caller, failure);
    }
}

/// The failure of a question to a peer of which this node takes no messages, and so no answer.
fn cannot_answer(name: &str) -> Failure {
    let text = format!("{name} could not answer: messages are not granted to it by this node");
    Failure::new(Code::TrustRequired, text).hint(format!("pilotctl grant {name} --ports messages"))
}

/// Whether a message may be a question for so many seconds.
fn check_question(cx: &Context, asks: Option<u64>) -> Result<(), Failure> {
    let invalid = |text: &str| Failure::new(Code::InvalidArgument, text);
    match asks {
        Some(_) if !cx.config.services => Err(invalid("no answer could come, since this node takes no messages")
            .hint("turn its services on: Config::services, pilot_config.services")),
        Some(seconds) if !(1..=DEADLINE_MAX_S).contains(&seconds) => {
            Err(invalid(&format!("a question's deadline is 1 to {DEADLINE_MAX_S} seconds away")))
        }
        _ => Ok(()),
    }
}

fn check(kind: Kind, body: &[u8]) -> Result<(), Failure> {
    let invalid = |text: &str| Failure::new(Code::InvalidArgument, text);
    if body.len() > MESSAGE_LEN_MAX {
        let text = format!("a message may have at most 16 MiB, this one has {} bytes", body.len());
        return Err(invalid(&text).hint("send it through a stream: pilotctl connect"));
    }
    match kind {
        Kind::Json if serde_json::from_slice::<serde::de::IgnoredAny>(body).is_err() => {
            Err(invalid("the data is not valid JSON; nothing was sent"))
        }
        Kind::Text if std::str::from_utf8(body).is_err() => {
            Err(invalid("the data is not UTF-8 text").hint("--type binary"))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
