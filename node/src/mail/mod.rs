//! Mail: messages and files on port 1001, both directions (`docs/messages.md`).
//!
//! [`post`] is the room of outgoing messages: a message enters the books, then the [`outbox`], travels over one stream to its
//! recipient, and leaves the books with the acknowledgement. [`receive`] is the service that takes messages and files, and
//! [`inbox`] answers the owner's questions about them.

pub(crate) mod claims;
pub(crate) mod counted;
pub(crate) mod frame;
pub(crate) mod given_up;
pub(crate) mod inbox;
pub(crate) mod message;
pub(crate) mod outbox;
pub(crate) mod post;
pub(crate) mod receive;
pub(crate) mod receive_file;
pub(crate) mod send_file;
pub(crate) mod waits;
