//! The inbox and the received files as their owner asks for them: answers from the disk, as JSON.

use crate::answer;
use crate::context::Context;
use crate::disk::files::{FileDone, Listed};
use crate::disk::job::Done;
use crate::effect::{Answered, Caller};
use crate::failure::{Code, Failure};
use crate::mail::frame::id_text;
use crate::mail::message::{Message, Tag};
use crate::mail::waits::unanswerable;
use crate::streams::names::hostname_of;

/// Messages on one page of the inbox when the caller names no number.
pub(crate) const PAGE: u64 = 50;
/// Most messages on one page of the inbox.
pub(crate) const PAGE_MAX: u64 = 10_000;

/// Answers a caller with what was read from the disk.
pub(crate) fn answer(cx: &mut Context, caller: Caller, done: Done) {
    let answer = answer_to(cx, done);
    cx.answer(caller, answer);
}

fn answer_to(cx: &Context, done: Done) -> Answered {
    match done {
        Done::Listing(listing) => {
            let rows = listing.rows.iter().map(|(seq, m, len)| message(cx, *seq, m, *len));
            let mut messages: Vec<answer::Message> = rows.collect();
            for (seq, why) in listing.failed {
                messages.iter_mut().filter(|m| m.id == seq).for_each(|m| m.failed = Some(why.clone()));
            }
            let inbox = answer::Inbox { total: listing.total, shown: messages.len() as u64, messages };
            Ok((inbox.into(), Vec::new()))
        }
        Done::Message(Some((seq, m))) => Ok((message(cx, seq, &m, m.body.len()).into(), m.body)),
        Done::Message(None) => Err(Failure::new(Code::NotFound, "there is no such message").hint("pilotctl inbox")),
        Done::File(FileDone::Listed(files, parts)) => {
            let row = |row: Listed| {
                let (of, sender) = row.part.unzip();
                answer::ReceivedFile { name: row.name, bytes: row.len, received_at: row.at, of, sender }
            };
            let files: Vec<answer::ReceivedFile> = files.into_iter().map(row).collect();
            let folder = cx.config.home.join("received").to_string_lossy().into_owned();
            let unfinished = parts.into_iter().map(row).collect();
            Ok((answer::Received { total: files.len() as u64, folder, files, unfinished }.into(), Vec::new()))
        }
        Done::Written => Ok((answer::Accepted { status: answer::Status::Accepted }.into(), Vec::new())),
        Done::Unanswerable(why) => Err(unanswerable(why)),
        Done::Taken(count) => Ok((answer::Taken { cleared: count as u64 }.into(), Vec::new())),
        _ => Err(Failure::new(Code::Internal, "the disk answered another question")),
    }
}

/// A message as it is told.
pub(crate) fn message(cx: &Context, seq: u64, m: &Message, len: usize) -> answer::Message {
    let (deadline_at, reply_to) = match m.tag {
        Tag::Plain => (None, None),
        Tag::Question { deadline } => (Some(cx.wall_of(deadline)), None),
        Tag::Answer(question) => (None, Some(id_text(&question))),
    };
    answer::Message {
        id: seq,
        message_id: id_text(&m.id),
        kind: m.kind.into(),
        from: m.addr.to_string(),
        hostname: hostname_of(&cx.stack, m.addr),
        sender_key: m.sender.to_string(),
        bytes: len as u64,
        received_at: m.at,
        deadline_at,
        reply_to,
        failed: None,
        preview: m.preview(),
    }
}
