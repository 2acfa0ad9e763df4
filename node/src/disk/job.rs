//! Owns the vocabulary between the loop and the disk: jobs, and their outcomes.

use crate::disk::files::{FileDone, FileJob};
use crate::mail::given_up::GivenUp;
use crate::mail::message::{Line, Message, Outgoing, Reply};
use pilot_core::Addr;
use pilot_core::identity::IdentityKey;

/// A value of which the books hold one.
#[derive(Clone, Copy, Debug)]
#[repr(u64)]
pub(crate) enum Meta {
    Trust = 1,
    Addr = 2,
    Profile = 3,
    /// The forwards, exposes and other settings for programs.
    Programs = 4,
    Webhook = 5,
    /// The newest time that this node may have used: 8 bytes, microseconds since 1970.
    Times = 6,
    /// The UDP port of this node: 2 bytes.
    Port = 7,
    /// Counted time; see [`Counted`](crate::mail::counted::Counted).
    Counted = 10,
}

/// Work for the disk.
#[derive(Debug)]
pub(crate) enum Job {
    /// Put this value in the place of the one before.
    Put(Meta, Vec<u8>),
    /// Accept a message into the inbox, unless it was accepted before.
    Deliver(Message),
    /// The same, unless a message before it in its line was refused.
    DeliverInLine(Message, Line),
    /// Put a message into the outbox.
    Queue(Outgoing),
    /// The same with a question, which is known from then on, so that its answer is. The time is in seconds since 1970.
    Ask(Outgoing, u64),
    /// Take a question out of the inbox and put its answer into the outbox, in one commit.
    Reply(Reply),
    /// Do not hand out the question with this number any more, for this reason; `None`: hand it out again.
    Fail(u64, Option<String>),
    /// Forget a question of this node; its answer becomes an ordinary message.
    Forget([u8; 16]),
    /// Read a question of this node, and its answer.
    Asked([u8; 16]),
    /// List the newest `limit` questions of this node. The time is counted. Unit: seconds.
    ListAsked { limit: usize, now: u64 },
    /// Remove a message from the outbox: its recipient has taken or refused it, or its sender has given it up.
    Unqueue(u64),
    /// Remove a message from the outbox that was not delivered, and remember this of it.
    GiveUp(GivenUp),
    /// List the newest `limit` messages of the inbox with numbers less than `before`; of all, or of a part.
    List { limit: usize, before: Option<u64>, part: Part },
    /// Read the message with this number.
    Read(u64),
    /// Read the oldest message of a part with a greater number.
    Next(u64, Part),
    /// Take the questions out of the inbox that are over at this counted time. Unit: seconds.
    Expire(u64),
    /// Take the messages with these numbers out of the inbox; `None`: all.
    Take(Option<Vec<u64>>),
    /// Work on a received file, which is no part of a commit.
    File(FileJob),
}

/// A part of the inbox. Unit of times: seconds of counted time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// Every message.
    All,
    /// The questions that are handed out at this time.
    Open(u64),
    /// The questions that failed.
    Failed,
}

/// A question of this node, as the books know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Asked {
    /// The number that the question has in the outbox, until it is delivered.
    pub(crate) seq: u64,
    pub(crate) to: IdentityKey,
    /// Unit: seconds since 1970.
    pub(crate) asked_at: u64,
    /// Unit: seconds of counted time.
    pub(crate) deadline: u64,
    /// The number of the answer.
    pub(crate) answer: Option<u64>,
}

/// A question of this node with its id and, where it has one, its answer and the length of that in bytes.
pub(crate) type Exchange = ([u8; 16], Asked, Option<(Message, usize)>);

/// Why a question gets no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unanswerable {
    /// The inbox has no such question, and had none lately.
    Unknown,
    /// The question was taken away, or its deadline is over.
    Gone,
    /// The question has another answer.
    Answered,
}

/// A job's outcome.
#[derive(Debug)]
pub(crate) enum Done {
    Written,
    /// The message is on disk; `fresh`: it was not there before.
    Delivered {
        fresh: bool,
        seq: u64,
    },
    /// The message is on disk, and answers a question of this node. It comes back for callers that wait.
    Answered(Box<Exchange>),
    /// The message has this number in the outbox.
    Queued(u64),
    /// The question is taken, and the answer has this number in the outbox; `None`: that was done before.
    Replied {
        question: [u8; 16],
        entered: Option<(u64, Outgoing)>,
    },
    Unanswerable(Unanswerable),
    /// `None`: there is no such question.
    Asked(Option<Box<Exchange>>),
    /// Newest last.
    ListAsked(Vec<Exchange>, u64),
    Listing(Listing),
    Message(Option<(u64, Message)>),
    Taken(usize),
    File(FileDone),
    /// The job would go beyond a maximum; nothing was changed.
    Full(&'static str),
    /// The disk has no room; nothing was changed.
    DiskFull(String),
    /// The disk failed; nothing was changed.
    Failed(String),
}

/// One page of the inbox.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    /// Number, message with its body cut to a preview, and length of the whole body in bytes; newest last.
    pub(crate) rows: Vec<(u64, Message, usize)>,
    /// The listed questions that failed, and why.
    pub(crate) failed: Vec<(u64, String)>,
    /// Messages in the whole part.
    pub(crate) total: u64,
}

/// The part of the books that a node reads when it starts.
pub(crate) struct Saved {
    pub(crate) trust: Option<Vec<u8>>,
    pub(crate) addr: Addr,
    pub(crate) profile: Option<Vec<u8>>,
    /// The UDP port of the run before; 0 when there was none.
    pub(crate) port: u16,
    pub(crate) webhook: Option<Vec<u8>>,
    /// No time that this node has used is greater. Unit: microseconds since 1970.
    pub(crate) used_us: u64,
    /// Requests as JSON, one on each line.
    pub(crate) programs: Vec<u8>,
    pub(crate) outbox: Vec<(u64, Outgoing)>,
    /// Oldest first.
    pub(crate) given_up: Vec<GivenUp>,
    pub(crate) counted: Option<Vec<u8>>,
    /// Questions of this node or of peers are there.
    pub(crate) has_questions: bool,
}

impl Job {
    /// The sender of a message that has arrived.
    pub(crate) const fn sender(&self) -> Option<&IdentityKey> {
        match self {
            Self::Deliver(message) | Self::DeliverInLine(message, _) => Some(&message.sender),
            _ => None,
        }
    }

    /// Bytes that the job adds to a commit.
    pub(crate) const fn len(&self) -> usize {
        match self {
            Self::Put(_, value) => value.len(),
            Self::Deliver(message) | Self::DeliverInLine(message, _) => message.body.len(),
            Self::Queue(message) | Self::Ask(message, _) => message.body.len(),
            Self::Reply(reply) => reply.body.len(),
            _ => 0,
        }
    }
}
