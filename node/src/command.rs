//! Owns the messages from other threads to the loop.

use crate::effect::{Accepted, Answered};
use crate::failure::Failure;
use crate::request::Request;
use crossbeam_channel::Sender;
use pilot_core::Level;
use pilot_stack::StreamId;
use std::os::unix::net::UnixStream;

/// Commands that may wait for the loop.
pub(crate) const COMMANDS_MAX: usize = 1024;
/// Streams of one listener that may wait for `accept`. Source: `StackConfig::backlog_max`, above which the stack lets peers
/// ask again.
pub(crate) const ACCEPT_MAX: usize = 2048;

/// One message to the loop.
pub(crate) enum Command {
    /// Run a request, with the bytes beside it.
    Request(Request, Vec<u8>, Sender<Answered>),
    /// Open a stream to a node's port. The bytes are its first, [`EARLY_LEN_MAX`](pilot_stack::EARLY_LEN_MAX) at most.
    Connect(String, u16, Vec<u8>, Sender<Result<Accepted, Failure>>),
    /// Give the stream that a client of this process has accepted with `hold`.
    Claim(StreamId, Sender<Result<Accepted, Failure>>),
    /// Accept streams on a port.
    Listen(u16, Sender<Accepted>, Sender<Result<(), Failure>>),
    /// Threads have taken streams of a port from a rather full queue.
    Taken(u16),
    /// Stop accepting; the receiver of accepted streams is gone.
    Unlisten(u16),
    /// A thread has stopped waiting for the stream it asked for, which may have been on its way.
    GivenUp,
    /// A stream's queues have changed.
    Look(StreamId),
    /// The application dropped its handles.
    Close(StreamId),
    /// Serve this socket as one that an IPC client has connected.
    Attach(UnixStream),
    /// The log's file may have been moved away.
    ReopenLog,
    /// Records up to this level are wanted from now on.
    SetLogLevel(Level),
    /// The owner has changed this setting: it is in force, or it is not for this reason.
    NoteSetting(String, Result<(), String>),
    /// The webhook's server does not take events, for this reason; so many are lost.
    NoteWebhook(String, u64),
    /// End the loop.
    Stop,
    /// Panic outside the guarded parts.
    #[cfg(test)]
    Break,
}
