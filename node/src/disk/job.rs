//! Owns what the loop asks of the disk, and what comes of it.

use crate::disk::files::{FileDone, FileJob};
use crate::mail::message::{Message, Outgoing};
use pilot_core::Addr;

/// What there is one of.
#[derive(Clone, Copy, Debug)]
#[repr(u64)]
pub(crate) enum Meta {
    Trust = 1,
    Addr = 2,
    Profile = 3,
}

/// Work for the disk.
#[derive(Debug)]
pub(crate) enum Job {
    /// Remember this instead of what was there.
    Put(Meta, Vec<u8>),
    /// Accept a message into the inbox, unless it was accepted before.
    Deliver(Message),
    /// Remember a message to be sent.
    Queue(Outgoing),
    /// It was taken, or nobody waits for it any more.
    Unqueue(u64),
    /// List the inbox.
    List { limit: usize, before: Option<u64> },
    /// One whole message.
    Read(u64),
    /// The oldest message behind this one.
    Next(u64),
    /// The reader has taken these (or everything).
    Take(Option<Vec<u64>>),
    /// Work on a received file; no part of any transaction.
    File(FileJob),
}

/// A job's outcome.
#[derive(Debug)]
pub(crate) enum Done {
    Written,
    /// The message is on disk; `fresh` unless it already was.
    Delivered {
        fresh: bool,
        seq: u64,
    },
    /// The message has this number in the outbox.
    Queued(u64),
    Listing(Listing),
    Message(Option<(u64, Message)>),
    Taken(usize),
    File(FileDone),
    /// The job is against a limit.
    Full(&'static str),
    /// Nothing was changed.
    Failed(String),
}

/// One page of the inbox.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    /// Number and message, its body cut to a preview; newest last.
    pub(crate) rows: Vec<(u64, Message, usize)>,
    pub(crate) total: u64,
}

/// What a node finds on its disk.
pub(crate) struct Saved {
    pub(crate) trust: Option<Vec<u8>>,
    pub(crate) addr: Addr,
    pub(crate) profile: Option<Vec<u8>>,
    pub(crate) outbox: Vec<(u64, Outgoing)>,
}

impl Job {
    /// What it adds to a commit. Unit: bytes.
    pub(crate) const fn len(&self) -> usize {
        match self {
            Self::Put(_, value) => value.len(),
            Self::Deliver(message) => message.body.len(),
            Self::Queue(message) => message.body.len(),
            _ => 0,
        }
    }
}
