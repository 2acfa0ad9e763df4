//! Mail: messages and files on port 1001, both directions (docs/messages.md).

pub(crate) mod frame;
pub(crate) mod message;
pub(crate) mod outbox;
pub(crate) mod receive_file;
pub(crate) mod send_file;
