//! Owns the answer to the question for the outbox.

use crate::request::MessageKind;
use serde::{Deserialize, Serialize};

/// The outbox.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outbox {
    /// How many messages wait.
    pub waiting: u64,
    /// How many were given up lately; at most 100.
    pub given_up: u64,
    /// How many are listed.
    pub shown: u64,
    /// Each listed one: those that were given up, then those that wait, each oldest first.
    pub messages: Vec<OutboxMessage>,
}

/// A message of the outbox.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutboxMessage {
    /// Its identity, 32 hexadecimal digits, the same at sender and recipient.
    pub message_id: String,
    /// The recipient's hostname, or its address or key.
    pub node: String,
    /// Kind of its bytes.
    #[serde(rename = "type")]
    pub kind: MessageKind,
    /// Its length.
    pub bytes: u64,
    /// The state of its delivery.
    pub state: OutboxState,
    /// Why the last attempt failed, or why the message was given up; absent: there was no attempt yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Its age in counted time; absent when it was given up. Unit: seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waited_s: Option<u64>,
    /// When it was given up; absent when it waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub given_up_at: Option<u64>,
}

/// The state of a message's delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutboxState {
    /// The message waits for the recipient.
    Waiting,
    /// The message is on its way, and not acknowledged.
    Sent,
    /// The message was not delivered, and its bytes are gone.
    GivenUp,
}
