//! Owns the answers about questions.

use crate::answer::message::Message;
use serde::{Deserialize, Serialize};

/// A question of this node. Times are in seconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Question {
    /// Its identity, 32 hexadecimal digits, the same at both ends.
    pub message_id: String,
    /// The hostname of the peer that was asked, or its address or key.
    pub node: String,
    /// How far it is.
    pub state: QuestionState,
    /// Why it has not reached the peer; absent: it has, or there was no attempt yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// When it was asked.
    pub asked_at: u64,
    /// When it is not handed out any more.
    pub deadline_at: u64,
    /// Its answer, which lies on this node's disk until its `id` is taken out of the inbox; absent: it has not come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<Message>,
}

/// How far a question is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum QuestionState {
    /// The question waits for the peer in the outbox.
    Waiting,
    /// The peer has the question on its disk.
    Delivered,
    /// The answer is on this node's disk.
    Answered,
    /// The deadline is over, and there is no answer; one that was given before may still come.
    Expired,
}

/// Questions of this node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Questions {
    /// How many wait for an answer, or have one that was not taken.
    pub total: u64,
    /// How many are listed.
    pub shown: u64,
    /// Each listed one, the newest last.
    pub questions: Vec<Question>,
}

/// A question that has its answer, which is on this node's disk and on its way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replied {
    /// Identity of the question, 32 hexadecimal digits.
    pub reply_to: String,
    /// Length of the answer.
    pub bytes: u64,
    /// Whether the same answer was given before; then nothing has changed.
    pub again: bool,
    /// Why the answer waits in the outbox: the asker grants this node no messages. Absent: it is on its way, as far as is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits: Option<String>,
}
