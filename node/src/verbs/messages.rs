//! Owns the verbs about messages.

use crate::answer::{Delivered, Inbox, Message, Taken};
use crate::failure::{Code, Failure};
use crate::node::Node;
use crate::request::{MessageKind, Request};
use std::time::Duration;

/// The verbs about messages; see [`Node::messages`].
///
/// ```no_run
/// # fn with(node: &pilot_node::Node) -> Result<(), pilot_node::Failure> {
/// use pilot_node::MessageKind;
///
/// node.messages().send("worker-node", MessageKind::Json, b"{\"task\":1}")?;
/// let mut last = 0;
/// while let Some((message, body)) = node.messages().next(last)? {
///     println!("{}: {}", message.hostname, String::from_utf8_lossy(&body));
///     last = message.id;
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy)]
pub struct Messages<'a>(pub(super) &'a Node);

/// How a message is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SendOptions {
    /// Whether the message stays in the outbox when the peer does not answer in time.
    pub queue: bool,
    /// Longest wait for the peer, at most ten minutes.
    pub timeout: Duration,
}

impl Default for SendOptions {
    /// The message stays; the wait is ten seconds.
    fn default() -> Self {
        Self { queue: true, timeout: Duration::from_secs(10) }
    }
}

impl Messages<'_> {
    /// Puts a message of at most 16 MiB into a peer's inbox; returns once it is on the peer's disk.
    ///
    /// # Errors
    /// `Unreachable` when the peer does not answer within ten seconds: then the message waits in the outbox. `TrustRequired`;
    /// `NotFound`; `InvalidArgument` when the bytes are not of the kind; `Full`.
    pub fn send(&self, node: &str, kind: MessageKind, body: &[u8]) -> Result<Delivered, Failure> {
        self.send_with(node, kind, body, SendOptions::default())
    }

    /// As [`Messages::send`], with other limits.
    ///
    /// # Errors
    /// As [`Messages::send`]; `Timeout` instead of `Unreachable` when the message does not wait.
    pub fn send_with(
        &self,
        node: &str,
        kind: MessageKind,
        body: &[u8],
        options: SendOptions,
    ) -> Result<Delivered, Failure> {
        let request = Request::SendMessage {
            node: node.into(),
            kind: Some(kind),
            queue: Some(options.queue),
            timeout_ms: Some(u64::try_from(options.timeout.as_millis()).unwrap_or(u64::MAX)),
        };
        Ok(self.0.ask_with(request, body.to_vec())?.0)
    }

    /// The newest messages of the inbox, at most `limit`.
    ///
    /// # Errors
    /// When the disk fails, or the node has ended.
    pub fn inbox(&self, limit: u64) -> Result<Inbox, Failure> {
        self.0.ask(Request::Inbox { limit: Some(limit), before: None })
    }

    /// The message with this number, and its bytes.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn read(&self, id: u64) -> Result<(Message, Vec<u8>), Failure> {
        self.0.ask_with(Request::InboxRead { seq: id }, Vec::new())
    }

    /// The oldest message with a greater number, and its bytes; `None` when there is none.
    ///
    /// # Errors
    /// When the disk fails, or the node has ended.
    pub fn next(&self, after: u64) -> Result<Option<(Message, Vec<u8>)>, Failure> {
        match self.0.ask_with(Request::InboxNext { after: Some(after) }, Vec::new()) {
            Err(failure) if failure.code == Code::NotFound => Ok(None),
            found => found.map(Some),
        }
    }

    /// Takes messages out of the inbox and gives the number of those that were there.
    ///
    /// # Errors
    /// When the disk fails, or the node has ended.
    pub fn take(&self, ids: &[u64]) -> Result<u64, Failure> {
        Ok(self.0.ask::<Taken>(Request::InboxTake { seqs: Some(ids.to_vec()) })?.cleared)
    }

    /// Empties the inbox and gives the number of messages that were there.
    ///
    /// # Errors
    /// As [`Messages::take`].
    pub fn clear(&self) -> Result<u64, Failure> {
        Ok(self.0.ask::<Taken>(Request::InboxTake { seqs: None })?.cleared)
    }
}
