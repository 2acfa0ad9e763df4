//! Owns the answer about one message.

use crate::request::MessageKind;
use serde::{Deserialize, Serialize};

/// A message of the inbox.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// Its number in this inbox.
    pub id: u64,
    /// Its identity, 32 hexadecimal digits, the same at sender and recipient.
    pub message_id: String,
    /// Kind of its bytes.
    #[serde(rename = "type")]
    pub kind: MessageKind,
    /// The sender's address.
    pub from: String,
    /// The sender's hostname, or empty.
    pub hostname: String,
    /// The sender's identity key.
    pub sender_key: String,
    /// Its length.
    pub bytes: u64,
    /// When it came.
    pub received_at: u64,
    /// Of a question: when it is not handed out any more; absent: it asks nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline_at: Option<u64>,
    /// Identity of the message that it answers; absent: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply_to: Option<String>,
    /// Of a listed question that got no answer and is not handed out any more: why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
    /// Its beginning, for people.
    pub preview: String,
}
