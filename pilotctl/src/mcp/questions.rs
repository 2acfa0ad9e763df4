//! Owns the tools that ask peers and answer them.

use crate::client::CALL_TIMEOUT;
use crate::mcp::actions::BODY_MAX;
use crate::mcp::arguments::Arguments;
use crate::mcp::bytes;
use crate::mcp::calls::Call;
use pilot_node::answer::{Question, Taken};
use pilot_node::{Client, Failure, Reply, Request};
use serde_json::Value;

pub(super) fn ask(call: &Call, mut arguments: Arguments) -> Result<Value, Failure> {
    let body = bytes::take(&mut arguments)?;
    let timeout = arguments.seconds("timeout_s", 60)?;
    arguments.set("timeout_ms", timeout.as_millis() as u64);
    let request = arguments.request("ask")?;
    let mut client = call.client()?;
    let reply = client.request(&request, &body, Some(timeout + CALL_TIMEOUT))?;
    told(&mut client, reply)
}

pub(super) fn wait_answer(call: &Call, mut arguments: Arguments) -> Result<Value, Failure> {
    let timeout = arguments.seconds("timeout_s", 0)?;
    arguments.set("timeout_ms", timeout.as_millis() as u64);
    let request = arguments.request("wait_answer")?;
    let mut client = call.client()?;
    let reply = client.request(&request, &[], Some(timeout + CALL_TIMEOUT))?;
    told(&mut client, reply)
}

/// A question with its answer as text or base64, which is taken away if all of it is shown.
fn told(client: &mut Client, reply: Reply) -> Result<Value, Failure> {
    let question: Question = reply.read()?;
    let Value::Object(mut data) = reply.data else { return Ok(reply.data) };
    let Some(answer) = question.answer else { return Ok(Value::Object(data)) };
    let shown = &reply.blob[..reply.blob.len().min(BODY_MAX)];
    bytes::show(&mut data, shown);
    if shown.len() < reply.blob.len() {
        data.insert("is_complete".into(), false.into());
        data.insert("hint".into(), format!("all of it: pilotctl answers {}", question.message_id).into());
    } else {
        client.ask::<Taken>(&Request::InboxTake { seqs: Some(vec![answer.id]) }, Some(CALL_TIMEOUT))?;
    }
    Ok(Value::Object(data))
}

pub(super) fn reply(call: &Call, mut arguments: Arguments) -> Result<Value, Failure> {
    let body = bytes::take(&mut arguments)?;
    let request = arguments.request("reply")?;
    Ok(call.client()?.request(&request, &body, Some(CALL_TIMEOUT))?.data)
}
