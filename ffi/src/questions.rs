//! Owns questions to peers and their answers, as C asks and gives them.

use crate::error::{Fault, bytes, guarded, needed, pilot_error, room, timeout};
use crate::node::{CALL_TIMEOUT, NodeObject, fill, kind, message_of, pilot_message};
use crate::table::{Used, get, pilot_handle};
use pilot_node::answer::{Message, Question};
use pilot_node::{Code, InboxPart, Reply, Request};
use std::ffi::{c_char, c_int};
use std::time::Duration;

/// Room for the id of a question: 32 hexadecimal digits and a NUL.
pub const PILOT_QUESTION_ID_SIZE: usize = 33;
/// Longest life of a question.
const DEADLINE_MAX: Duration = Duration::from_secs(7 * 24 * 3600);

/// Tells whether a question has its answer, which goes to *answer and the buffer.
fn told(reply: &Reply, answer: &mut pilot_message, buffer: &mut [u8]) -> Result<c_int, Fault> {
    let question: Question = reply.read()?;
    let Some(message) = question.answer else { return Ok(0) };
    fill(answer, &message, &reply.blob, buffer)
}

/// Asks a peer and waits for the answer, at most timeout_ms (negative: until the deadline). kind: PILOT_TEXT, PILOT_BINARY or
/// PILOT_JSON; at most 16777216 bytes. deadline_s: seconds until the question is not handed out any more, 1 to 604800; 0: 604800.
/// question: room for PILOT_QUESTION_ID_SIZE bytes, which gets the id of the question, also with PILOT_E_FULL.
/// Returns 1 with the answer in *answer and buffer, or 0 when it has not come: pilot_wait_answer gives it later. An answer stays on
/// the disk until pilot_take_message(node, answer->id). Any thread; blocks. PILOT_E_NOT_TRUSTED, PILOT_E_NOT_FOUND,
/// PILOT_E_INVALID, PILOT_E_REFUSED (the peer knows no questions), PILOT_E_FULL (the answer is longer than buffer_len, and
/// answer->len has its length; or this node has asked as much as it may).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pilot_ask(
    node: pilot_handle,
    peer: *const c_char,
    kind_of_data: c_int,
    data: *const u8,
    len: usize,
    timeout_ms: c_int,
    deadline_s: u32,
    question: *mut c_char,
    answer: *mut pilot_message,
    buffer: *mut u8,
    buffer_len: usize,
    error: *mut pilot_error,
) -> c_int {
    guarded(error, || {
        // SAFETY: NULL or valid, by the header.
        let (peer, data, id, answer, buffer) = unsafe {
            let id = room(question.cast::<u8>(), if question.is_null() { 0 } else { PILOT_QUESTION_ID_SIZE })?;
            (needed(peer, "peer")?, bytes(data, len)?, id, message_of(answer)?, room(buffer, buffer_len)?)
        };
        let object: Used<NodeObject> = get(node)?;
        let limit = timeout(timeout_ms).unwrap_or(DEADLINE_MAX);
        let request = Request::Ask {
            node: peer.into(),
            kind: Some(kind(kind_of_data)?),
            timeout_ms: Some(limit.as_millis() as u64),
            deadline_s: (deadline_s > 0).then_some(deadline_s.into()),
        };
        let reply = object.request(&request, data, limit + CALL_TIMEOUT)?;
        let name = reply.data["message_id"].as_str().unwrap_or_default();
        if let Some((end, digits)) = id.split_last_mut().filter(|(_, digits)| digits.len() == name.len()) {
            digits.copy_from_slice(name.as_bytes());
            *end = 0;
        }
        told(&reply, answer, buffer)
    })
}

/// Waits for the answer to a question of this node, which its id names, at most timeout_ms (0: does not wait; negative: for the life
/// of the question). Returns 1 with the answer in *answer and buffer, or 0. Any thread; blocks. PILOT_E_NOT_FOUND, PILOT_E_INVALID,
/// PILOT_E_FULL (as pilot_ask has it).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pilot_wait_answer(
    node: pilot_handle,
    question: *const c_char,
    timeout_ms: c_int,
    answer: *mut pilot_message,
    buffer: *mut u8,
    buffer_len: usize,
    error: *mut pilot_error,
) -> c_int {
    guarded(error, || {
        // SAFETY: NULL or valid, by the header.
        let (question, answer, buffer) =
            unsafe { (needed(question, "question")?, message_of(answer)?, room(buffer, buffer_len)?) };
        let object: Used<NodeObject> = get(node)?;
        let limit = timeout(timeout_ms).unwrap_or(DEADLINE_MAX);
        let timeout_ms = Some(limit.as_millis() as u64);
        let request = Request::WaitAnswer { question: question.into(), timeout_ms };
        told(&object.request(&request, &[], limit + CALL_TIMEOUT)?, answer, buffer)
    })
}

/// Reads the oldest question of the inbox that waits for an answer and has an id greater than after_id, and leaves it there. Returns
/// 1, or 0 when there is none. PILOT_E_FULL: the body is longer than buffer_len; *question has its length. Any thread; blocks for
/// the disk.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pilot_next_question(
    node: pilot_handle,
    after_id: u64,
    question: *mut pilot_message,
    buffer: *mut u8,
    buffer_len: usize,
    error: *mut pilot_error,
) -> c_int {
    guarded(error, || {
        // SAFETY: NULL or valid, by the header.
        let (question, buffer) = unsafe { (message_of(question)?, room(buffer, buffer_len)?) };
        let object: Used<NodeObject> = get(node)?;
        let next = Request::InboxNext { after: Some(after_id), only: Some(InboxPart::Questions) };
        match object.client()?.request(&next, &[], Some(CALL_TIMEOUT)) {
            Err(failure) if failure.code == Code::NotFound => Ok(0),
            reply => {
                let reply = reply?;
                fill(question, &reply.read::<Message>()?, &reply.blob, buffer)
            }
        }
    })
}

/// Answers a question of the inbox, by its id there, and takes it away: both in one step on the disk. The same answer again changes
/// nothing. Returns 0 once that is on this node's disk; the answer leaves when the peer can be reached.
/// Any thread; blocks for the disk. PILOT_E_CONFLICT (the question has another answer), PILOT_E_NOT_FOUND (it was taken away, or its
/// deadline is over), PILOT_E_INVALID, PILOT_E_FULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pilot_reply(
    node: pilot_handle,
    question_id: u64,
    kind_of_data: c_int,
    data: *const u8,
    len: usize,
    error: *mut pilot_error,
) -> c_int {
    guarded(error, || {
        // SAFETY: NULL or valid, by the header.
        let data = unsafe { bytes(data, len)? };
        let object: Used<NodeObject> = get(node)?;
        let request = Request::Reply { question: question_id.to_string(), kind: Some(kind(kind_of_data)?) };
        object.request(&request, data, CALL_TIMEOUT)?;
        Ok(0)
    })
}
