//! The inbox and the received files as their owner asks for them: answers from the disk, as JSON.

use crate::context::Context;
use crate::disk::files::FileDone;
use crate::disk::job::Done;
use crate::effect::{Answer, Caller};
use crate::failure::{Code, Failure};
use crate::mail::frame::id_text;
use crate::mail::message::Message;
use crate::streams::names::hostname_of;
use serde_json::{Value, json};

/// Messages on one page of the inbox when the caller names no number.
pub(crate) const PAGE: u64 = 50;
/// Most messages on one page of the inbox.
pub(crate) const PAGE_MAX: u64 = 10_000;

/// Answers a caller with the outcome of a reading job.
pub(crate) fn answer(cx: &mut Context, caller: Caller, done: Done) {
    let answer = to_json(cx, done);
    cx.answer(caller, answer);
}

fn to_json(cx: &Context, done: Done) -> Answer {
    match done {
        Done::Listing(listing) => {
            let rows = listing.rows.iter().map(|(seq, m, len)| message_json(cx, *seq, m, *len, m.preview()));
            let rows: Vec<Value> = rows.collect();
            Ok((json!({"total": listing.total, "shown": rows.len(), "messages": rows}), Vec::new()))
        }
        Done::Message(Some((seq, message))) => {
            let data = message_json(cx, seq, &message, message.body.len(), message.preview());
            Ok((data, message.body))
        }
        Done::Message(None) => Err(Failure::new(Code::NotFound, "there is no such message").hint("pilotctl inbox")),
        Done::File(FileDone::Listed(rows)) => {
            let files: Vec<Value> =
                rows.iter().map(|(name, bytes, at)| json!({"name": name, "bytes": bytes, "received_at": at})).collect();
            let folder = cx.config.home.join("received");
            Ok((json!({"total": files.len(), "folder": folder, "files": files}), Vec::new()))
        }
        Done::Taken(count) => Ok((json!({"cleared": count}), Vec::new())),
        _ => Ok((json!({}), Vec::new())),
    }
}

fn message_json(cx: &Context, seq: u64, m: &Message, len: usize, preview: String) -> Value {
    json!({
        "id": seq, "message_id": id_text(&m.id), "type": m.kind.name(), "from": m.addr.to_string(),
        "hostname": hostname_of(&cx.stack, m.addr), "sender_key": m.sender.to_string(), "bytes": len,
        "received_at": m.at, "preview": preview,
    })
}
