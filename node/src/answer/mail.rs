//! Owns the answers about messages and files.

use super::Status;
use crate::request::MessageKind;
use serde::{Deserialize, Serialize};

/// A message that is on its recipient's disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivered {
    /// The recipient's acknowledgement, as text.
    pub ack: String,
    /// Kind of the message's bytes.
    #[serde(rename = "type")]
    pub kind: MessageKind,
    /// Length of the message.
    pub bytes: u64,
    /// Identity of the message, 32 hexadecimal digits.
    pub message_id: String,
    /// True.
    pub delivered: bool,
}

/// Messages of the inbox.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inbox {
    /// How many the inbox holds.
    pub total: u64,
    /// How many are listed.
    pub shown: u64,
    /// Each listed one, the newest last.
    pub messages: Vec<Message>,
}

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
    /// Its beginning, for people.
    pub preview: String,
}

/// How many messages were taken out of the inbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Taken {
    /// Their number.
    pub cleared: u64,
}

/// The files that have arrived.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Received {
    /// How many there are.
    pub total: u64,
    /// Where they are.
    pub folder: String,
    /// Each of them.
    pub files: Vec<ReceivedFile>,
}

/// A file that has arrived.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReceivedFile {
    /// Its name in the folder.
    pub name: String,
    /// Its length.
    pub bytes: u64,
    /// When it was complete.
    pub received_at: u64,
}
