//! The callers that wait for answers to this node's questions, and the answers that this node gives (`docs/messages.md`,
//! "Questions").
//!
//! The disk's thread knows which questions have answers. A caller that wants to wait is entered once the disk has said that there is
//! none, so that no answer comes between.

use super::{PostOffice, check};
use crate::answer::{self, QuestionState, Replied};
use crate::call::{AskedFor, Call};
use crate::context::Context;
use crate::disk::job::{Done, Exchange, Job};
use crate::effect::{Answered, Caller};
use crate::failure::{Code, Failure};
use crate::ipc::client_id::ClientId;
use crate::mail::frame::{id_text, parse_id};
use crate::mail::inbox;
use crate::mail::message::{Kind, Outgoing, QuestionName, Reply};
use crate::mail::waits::{WAITERS_MAX, no_such_question, unanswerable};
use pilot_core::Instant;
use pilot_core::time::Duration;

/// Questions on a list when the caller names no number, and the most.
const SHOWN: u64 = 50;
const SHOWN_MAX: u64 = 10_000;

impl PostOffice {
    /// Tells a caller about a question of this node, which may wait for the answer until `until`.
    pub(super) fn look_for_answer(
        &mut self,
        cx: &mut Context,
        caller: Caller,
        question: [u8; 16],
        until: Option<Instant>,
    ) {
        cx.submit(Job::Asked(question), Call::AskedFor(AskedFor { caller, question, until }));
    }

    /// The same, for a question that the caller names.
    pub(crate) fn wait_answer(&mut self, cx: &mut Context, question: &str, timeout: Option<Duration>, caller: Caller) {
        match parse_id(question) {
            Some(id) => {
                let until = timeout.map(|timeout| cx.now + timeout);
                self.look_for_answer(cx, caller, id, until);
            }
            None => cx.fail(caller, no_such_question(question)),
        }
    }

    /// The disk has looked for a question and its answer.
    pub(crate) fn found_asked(&mut self, cx: &mut Context, call: AskedFor, found: Option<Box<Exchange>>) {
        let AskedFor { caller, question, until } = call;
        let Some(exchange) = found else { return cx.fail(caller, no_such_question(&id_text(&question))) };
        let has_time = until.is_some_and(|until| until > cx.now) && exchange.1.deadline > cx.counted_s();
        match until.filter(|_| exchange.2.is_none() && has_time) {
            Some(until) => self.enter_wait(cx, AskedFor { caller, question, until: Some(until) }, until),
            None => {
                let answer = self.told(cx, *exchange);
                cx.answer(caller, answer);
            }
        }
    }

    fn enter_wait(&mut self, cx: &mut Context, call: AskedFor, until: Instant) {
        let waits = self.waits.0.entry(call.question).or_default();
        if waits.len() >= WAITERS_MAX {
            return cx.fail(call.caller, Failure::new(Code::Full, "too many callers wait for this answer"));
        }
        waits.push(cx.calls.open_until(Call::AwaitAnswer(call), until));
    }

    /// The time of a caller that waits for an answer is over: it is told what is known.
    pub(crate) fn answer_is_late(&mut self, cx: &mut Context, call: AskedFor) {
        self.prune(cx, &call.question);
        self.look_for_answer(cx, call.caller, call.question, None);
    }

    /// Forgets the tickets of calls that wait no longer.
    fn prune(&mut self, cx: &Context, question: &[u8; 16]) {
        let Some(waits) = self.waits.0.get_mut(question) else { return };
        waits.retain(|ticket| cx.calls.waits(*ticket));
        if waits.is_empty() {
            self.waits.0.remove(question);
        }
    }

    /// An answer is on disk: those that wait for it get it.
    pub(crate) fn answered(&mut self, cx: &mut Context, exchange: Exchange) {
        let Some(waits) = self.waits.0.remove(&exchange.0) else { return };
        for ticket in waits {
            if let Some(Call::AwaitAnswer(call)) = cx.calls.take(ticket) {
                let answer = self.told(cx, exchange.clone());
                cx.answer(call.caller, answer);
            }
        }
    }

    /// Callers that wait for the answer to a question learn that there will be none.
    pub(super) fn fail_waits(&mut self, cx: &mut Context, question: &[u8; 16], failure: &Failure) {
        for ticket in self.waits.0.remove(question).into_iter().flatten() {
            if let Some(Call::AwaitAnswer(call)) = cx.calls.take(ticket) {
                cx.fail(call.caller, failure.clone());
            }
        }
    }

    /// A client has gone, and waits no longer.
    pub(crate) fn client_gone(&mut self, cx: &mut Context, client: ClientId) {
        self.claims.client_gone(client);
        let is_its = |call: &Call| matches!(call, Call::AwaitAnswer(wait) if wait.caller.is(client));
        for ticket in cx.calls.tickets(is_its) {
            if let Some(Call::AwaitAnswer(call)) = cx.calls.take(ticket) {
                self.prune(cx, &call.question);
            }
        }
    }

    pub(crate) fn list_asked(&mut self, cx: &mut Context, limit: Option<u64>, caller: Caller) {
        let limit = limit.unwrap_or(SHOWN).min(SHOWN_MAX) as usize;
        cx.submit(Job::ListAsked { limit, now: cx.counted_s() }, Call::ListAsked(caller));
    }

    /// Answers a caller with the questions that the disk has read.
    pub(crate) fn listed_asked(&mut self, cx: &mut Context, caller: Caller, (rows, total): (Vec<Exchange>, u64)) {
        let questions: Vec<answer::Question> = rows.iter().map(|row| self.question(cx, row)).collect();
        cx.reply(caller, answer::Questions { total, shown: questions.len() as u64, questions });
    }

    fn told(&self, cx: &Context, exchange: Exchange) -> Answered {
        let question = self.question(cx, &exchange);
        Ok((question.into(), exchange.2.map(|(message, _)| message.body).unwrap_or_default()))
    }

    fn question(&self, cx: &Context, (id, asked, answer): &Exchange) -> answer::Question {
        let waits = self.outbox.messages().find(|(seq, ..)| *seq == asked.seq && answer.is_none());
        let state = match (answer, &waits) {
            (Some(_), _) => QuestionState::Answered,
            (None, _) if asked.deadline <= cx.counted_s() => QuestionState::Expired,
            (None, Some(_)) => QuestionState::Waiting,
            (None, None) => QuestionState::Delivered,
        };
        let answer = answer.as_ref().zip(asked.answer);
        answer::Question {
            message_id: id_text(id),
            node: self.names(cx, &asked.to),
            state,
            reason: waits.and_then(|(.., reason)| reason.map(str::to_owned)),
            asked_at: asked.asked_at,
            deadline_at: cx.wall_of(asked.deadline),
            answer: answer.map(|((message, len), seq)| inbox::message(cx, seq, message, *len)),
        }
    }

    /// Gives a question of the inbox to a client that works on it, and to no other for so long.
    pub(crate) fn claim(
        &mut self,
        cx: &Context,
        seq: u64,
        client: ClientId,
        time: Duration,
    ) -> Result<answer::Accepted, Failure> {
        self.claims.claim(cx.now, seq, client, time)?;
        Ok(answer::Accepted { status: answer::Status::Accepted })
    }

    /// A question of the inbox was marked as failed, or is handed out again: no client works on it.
    pub(crate) fn end_claim(&mut self, seq: u64) {
        self.claims.give_back(seq);
    }

    /// Answers a question of the inbox. The caller is answered once that is on disk.
    pub(crate) fn reply(&mut self, cx: &mut Context, question: &str, kind: Kind, body: Vec<u8>, caller: Caller) {
        let name = parse_id(question).map(QuestionName::Id);
        let name = name.or_else(|| question.parse().ok().map(QuestionName::Number));
        let Some(question) = name else { return cx.fail(caller, no_such_question(question)) };
        if let Err(failure) = check(kind, &body) {
            return cx.fail(caller, failure);
        }
        let len = body.len();
        if !self.outbox.has_room(self.replying_len + len) {
            return cx.fail(caller, Failure::new(Code::Full, "too many bytes wait in the outbox"));
        }
        self.replying_len += len;
        let number = if let QuestionName::Number(number) = question { Some(number) } else { None };
        let since = cx.counted_s();
        cx.submit(Job::Reply(Reply { question, kind, since, body }), Call::Reply(caller, len, number));
    }

    /// The disk has taken a question and its answer, or has not.
    pub(crate) fn replied(
        &mut self,
        cx: &mut Context,
        (caller, len, number): (Caller, usize, Option<u64>),
        done: Result<Done, Failure>,
    ) {
        self.replying_len -= len;
        let replied = match done {
            Err(failure) => Err(failure),
            Ok(Done::Replied { question, entered }) => {
                number.into_iter().for_each(|number| self.claims.answered(number));
                let (again, to) = (entered.is_none(), entered.as_ref().map(|(_, answer)| answer.to));
                entered.into_iter().for_each(|(seq, answer)| self.enter_answer(cx, seq, answer));
                let waits = to.and_then(|to| self.denial(cx, &to)).map(|failure| failure.message);
                Ok(Replied { reply_to: id_text(&question), bytes: len as u64, again, waits })
            }
            Ok(Done::Unanswerable(why)) => Err(unanswerable(why)),
            Ok(_) => Err(Failure::new(Code::Internal, "the disk answered another question")),
        };
        cx.answer(caller, replied.map(|replied| (replied.into(), Vec::new())));
    }

    fn enter_answer(&mut self, cx: &mut Context, seq: u64, answer: Outgoing) {
        let to = answer.to;
        // Room was kept for it, unless messages came meanwhile: then it leaves after the next start.
        if self.outbox.add(seq, answer) {
            self.hurry(cx, &to);
        }
    }
}
