//! Owns the verbs about messages.

use crate::answer::{Accepted, Delivered, Inbox, Message, Question, Questions, Replied, Taken};
use crate::failure::{Code, Failure};
use crate::node::Node;
use crate::request::{InboxPart, MessageKind, Request};
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

/// How a question is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AskOptions {
    /// Longest wait for the answer, at most until the deadline.
    pub timeout: Duration,
    /// When the question is not handed out any more: 1 second to 7 days from now.
    pub deadline: Duration,
}

impl Default for AskOptions {
    /// The wait is ten minutes, the deadline in seven days.
    fn default() -> Self {
        Self { timeout: Duration::from_secs(600), deadline: Duration::from_secs(7 * 24 * 3600) }
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
            timeout_ms: Some(milliseconds(options.timeout)),
        };
        Ok(self.0.ask_with(request, body.to_vec())?.0)
    }

    /// Asks a peer and waits for the answer, with its bytes beside; without one ([`Question::answer`] is `None`) it may come later,
    /// for [`Messages::wait_answer`]. An answer stays until [`Messages::take`] takes its number.
    ///
    /// ```no_run
    /// # fn with(node: &pilot_node::Node) -> Result<(), pilot_node::Failure> {
    /// use pilot_node::{AskOptions, MessageKind};
    ///
    /// let (question, body) =
    ///     node.messages().ask("worker-node", MessageKind::Text, b"how many?", AskOptions::default())?;
    /// if let Some(answer) = question.answer {
    ///     println!("{}", String::from_utf8_lossy(&body));
    ///     node.messages().take(&[answer.id])?;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `TrustRequired`; `NotFound`; `InvalidArgument` when the bytes are not of the kind; `ConnectionRefused` when the peer knows no
    /// questions; `Full`. Of a peer that cannot be reached the question waits.
    pub fn ask(
        &self,
        node: &str,
        kind: MessageKind,
        body: &[u8],
        options: AskOptions,
    ) -> Result<(Question, Vec<u8>), Failure> {
        let request = Request::Ask {
            node: node.into(),
            kind: Some(kind),
            timeout_ms: Some(milliseconds(options.timeout)),
            deadline_s: Some(options.deadline.as_secs()),
        };
        self.0.ask_with(request, body.to_vec())
    }

    /// How far a question is, by its [`Question::message_id`]; waits for its answer, with its bytes beside.
    ///
    /// # Errors
    /// `NotFound`; `Full` when too many callers wait for it.
    pub fn wait_answer(&self, question: &str, timeout: Duration) -> Result<(Question, Vec<u8>), Failure> {
        let timeout_ms = Some(milliseconds(timeout));
        self.0.ask_with(Request::WaitAnswer { question: question.into(), timeout_ms }, Vec::new())
    }

    /// The newest questions of this node that wait for an answer, or have one that was not taken; at most `limit`.
    ///
    /// # Errors
    /// When the disk fails, or the node has ended.
    pub fn asked(&self, limit: u64) -> Result<Questions, Failure> {
        self.0.ask(Request::Answers { limit: Some(limit) })
    }

    /// The oldest question of a peer with a greater number that waits for an answer, and its bytes; `None` when there is none.
    ///
    /// # Errors
    /// When the disk fails, or the node has ended.
    pub fn next_question(&self, after: u64) -> Result<Option<(Message, Vec<u8>)>, Failure> {
        self.next_of(after, Some(InboxPart::Questions))
    }

    /// Answers a question, named by its number in the inbox or by its [`Message::message_id`], and takes it away: both in one step
    /// on the disk. The same answer again changes nothing.
    ///
    /// # Errors
    /// `Conflict` when the question has another answer; `NotFound` when it was taken away, or its deadline is over; `InvalidArgument`
    /// when the bytes are not of the kind; `Full`.
    pub fn reply(&self, question: &str, kind: MessageKind, body: &[u8]) -> Result<Replied, Failure> {
        let request = Request::Reply { question: question.into(), kind: Some(kind) };
        Ok(self.0.ask_with(request, body.to_vec())?.0)
    }

    /// Marks a question as failed, so that [`Messages::next_question`] gives it no more; without a reason, gives it again.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn fail_question(&self, id: u64, reason: Option<&str>) -> Result<(), Failure> {
        let request = Request::FailQuestion { seq: id, reason: reason.map(str::to_owned) };
        self.0.ask::<Accepted>(request).map(drop)
    }

    /// The newest messages of the inbox, at most `limit`.
    ///
    /// # Errors
    /// When the disk fails, or the node has ended.
    pub fn inbox(&self, limit: u64) -> Result<Inbox, Failure> {
        self.0.ask(Request::Inbox { limit: Some(limit), before: None, only: None })
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
        self.next_of(after, None)
    }

    fn next_of(&self, after: u64, only: Option<InboxPart>) -> Result<Option<(Message, Vec<u8>)>, Failure> {
        match self.0.ask_with(Request::InboxNext { after: Some(after), only }, Vec::new()) {
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

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
