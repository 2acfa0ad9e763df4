//! Owns the commands `ask`, `reply` and `answers`.

use crate::args;
use crate::client::{CALL_TIMEOUT, daemon, duration};
use crate::input;
use crate::output::Output;
use pilot_node::answer::{Message, Question, QuestionState, Replied, Taken};
use pilot_node::{Client, Code, Event, Failure, Reply, Request};
use serde_json::Value;
use std::path::Path;
use std::time::{Duration, Instant};

/// Longest silence of `answers --follow` until it looks whether its reader has gone.
const LOOK: Duration = Duration::from_secs(1);
/// Answers that `answers --follow` looks at for those that have come before.
const LISTED: u64 = 10_000;

pub(crate) fn ask(args: &args::Ask, output: &Output) -> Result<(), Failure> {
    let (timeout, deadline) = (duration(&args.timeout)?, duration(&args.deadline)?);
    let bytes = data(args.data.as_deref(), args.data_file.as_deref(), timeout)?;
    let request = Request::Ask {
        node: args.node.clone(),
        kind: Some(args.kind.parse()?),
        timeout_ms: Some(timeout.as_millis() as u64),
        deadline_s: Some(deadline.as_secs()),
    };
    let mut client = daemon()?;
    let reply = client.request(&request, &bytes, Some(timeout.min(deadline) + CALL_TIMEOUT))?;
    finish(&mut client, &reply, false, output)
}

/// The bytes of a message as the options name them.
pub(crate) fn data(data: Option<&str>, file: Option<&Path>, timeout: Duration) -> Result<Vec<u8>, Failure> {
    match (data, file) {
        (Some("-"), None) => input::stdin(),
        (Some(text), None) => Ok(text.as_bytes().to_vec()),
        (None, Some(path)) => input::file(path, timeout),
        _ => Err(Failure::new(Code::InvalidArgument, "either --data or --data-file is needed")),
    }
}

/// Shows the answer to a question and takes it away, or tells that it has not come.
fn finish(client: &mut Client, reply: &Reply, keep: bool, output: &Output) -> Result<(), Failure> {
    let question: Question = reply.read()?;
    let Some(answer) = &question.answer else { return Err(not_yet(&question)) };
    if output.json {
        output.ok(&with_data(reply.data.clone(), &reply.blob));
    } else {
        output.bytes(&reply.blob);
    }
    // What was not shown stays.
    if keep || output.has_lost() { Ok(()) } else { take(client, answer.id) }
}

fn not_yet(question: &Question) -> Failure {
    let (id, node) = (&question.message_id, &question.node);
    let text = match (question.state, &question.reason) {
        (QuestionState::Expired, _) => format!("{node} has not answered question {id}, whose deadline is over"),
        (QuestionState::Waiting, Some(why)) => format!("question {id} has not reached {node}: {why}"),
        (QuestionState::Waiting, None) => format!("question {id} has not reached {node}"),
        _ => format!("{node} has question {id} and has not answered it"),
    };
    Failure::new(Code::Timeout, text).hint(format!("pilotctl answers {id} --follow"))
}

/// Adds the text of an answer.
fn with_data(mut data: Value, bytes: &[u8]) -> Value {
    data["data"] = String::from_utf8_lossy(bytes).into();
    data
}

fn take(client: &mut Client, answer: u64) -> Result<(), Failure> {
    client.ask::<Taken>(&Request::InboxTake { seqs: Some(vec![answer]) }, Some(CALL_TIMEOUT)).map(drop)
}

pub(crate) fn reply(args: &args::Reply, output: &Output) -> Result<(), Failure> {
    let bytes = data(args.data.as_deref(), args.data_file.as_deref(), CALL_TIMEOUT)?;
    let request = Request::Reply { question: args.id.clone(), kind: Some(args.kind.parse()?) };
    let reply = daemon()?.request(&request, &bytes, Some(CALL_TIMEOUT))?;
    output.ok(&reply.data);
    if let Some(why) = reply.read::<Replied>()?.waits {
        output.note(&format!("the answer waits in the outbox: {why}"));
    }
    Ok(())
}

pub(crate) fn answers(args: &args::Answers, output: &Output) -> Result<(), Failure> {
    let timeout = args.timeout.as_deref().map(duration).transpose()?;
    match (&args.id, args.follow) {
        (Some(id), follow) => {
            let most = Duration::from_secs(7 * 24 * 3600);
            let wait = if follow { timeout.unwrap_or(most).min(most) } else { Duration::ZERO };
            let request = Request::WaitAnswer { question: id.clone(), timeout_ms: Some(wait.as_millis() as u64) };
            let mut client = daemon()?;
            let reply = client.request(&request, &[], Some(wait + CALL_TIMEOUT))?;
            finish(&mut client, &reply, args.keep, output)
        }
        (None, true) => follow(args.keep, timeout, output),
        (None, false) => {
            let reply = daemon()?.request(&Request::Answers { limit: Some(args.limit) }, &[], Some(CALL_TIMEOUT))?;
            output.ok(&if output.json { reply.data } else { flat(reply.data) });
            Ok(())
        }
    }
}

/// The list for people: a question's id, and of its answer the number, length and beginning.
fn flat(mut data: Value) -> Value {
    for question in data["questions"].as_array_mut().into_iter().flatten() {
        let answer = question["answer"].take();
        question["question"] = question["message_id"].take();
        for member in ["id", "type", "bytes", "preview"] {
            question[member] = answer[member].clone();
        }
    }
    data
}

/// Shows the answers that have come and those that come, each once.
fn follow(keep: bool, timeout: Option<Duration>, output: &Output) -> Result<(), Failure> {
    let end = timeout.map(|timeout| Instant::now() + timeout);
    let mut client = daemon()?;
    // Before the list, so that no answer comes between; one that comes twice is gone the second time, unless it is kept.
    client.watch(None)?;
    let listed = client.request(&Request::Answers { limit: Some(LISTED) }, &[], Some(CALL_TIMEOUT))?;
    let mut shown = Vec::new();
    let known = listed.data["questions"].as_array().into_iter().flatten();
    let mut ready: Vec<String> = known
        .filter(|question| question["answer"].is_object())
        .filter_map(|question| question["message_id"].as_str().map(str::to_owned))
        .collect();
    loop {
        for id in std::mem::take(&mut ready) {
            if shown.contains(&id) {
                continue;
            }
            let wait = Request::WaitAnswer { question: id.clone(), timeout_ms: None };
            let reply = match client.request(&wait, &[], Some(CALL_TIMEOUT)) {
                Err(failure) if failure.code == Code::NotFound => continue,
                reply => reply?,
            };
            let question: Question = reply.read()?;
            let Some(Message { id: number, .. }) = question.answer else { continue };
            if output.next_line(&with_data(reply.data, &reply.blob).to_string()).is_err() {
                return Ok(()); // `| head` has its lines
            }
            if keep { shown.push(id) } else { take(&mut client, number)? }
        }
        let left = end.map_or(LOOK, |end| end.saturating_duration_since(Instant::now()).min(LOOK));
        if left.is_zero() || output.is_closed() {
            return Ok(());
        }
        if let Some(event) = client.next_event(Some(left))? {
            match event.read()? {
                Event::Answer { reply_to, .. } => ready.push(reply_to),
                Event::Missed { .. } => return Err(missed()),
                _ => {}
            }
        }
    }
}

fn missed() -> Failure {
    Failure::new(Code::Full, "answers came faster than they were read").hint("pilotctl answers --follow")
}
