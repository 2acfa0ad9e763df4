//! Owns what other threads can ask of the loop, and how they wake it.

use crate::failure::{Code, Failure};
use crate::helm::Helm;
use crate::request::Request;
use crate::stream::Shared;
use crossbeam_channel::Sender;
use mio::Waker;
use pilot_core::AddrPort;
use pilot_stack::StreamId;
use serde_json::Value;
use std::io;
use std::sync::Arc;

/// Commands that may wait for the loop.
pub(crate) const COMMANDS_MAX: usize = 1024;
/// Streams of one listener that may wait for `accept`.
pub(crate) const ACCEPT_MAX: usize = 128;

/// A stream that stands, on its way to the thread that wanted it.
pub(crate) struct Accepted {
    pub(crate) shared: Arc<Shared>,
    pub(crate) local: AddrPort,
    pub(crate) peer: AddrPort,
}

pub(crate) type Answer = Result<(Value, Vec<u8>), Failure>;

/// What other threads ask.
pub(crate) enum Command {
    /// A request, with the bytes beside it.
    Op(Request, Vec<u8>, Sender<Answer>),
    /// Open a stream; the bytes are its first ones, [`EARLY_LEN_MAX`](pilot_stack::EARLY_LEN_MAX) at most.
    Connect(String, u16, Vec<u8>, Sender<Result<Accepted, Failure>>),
    /// A stream that a client of this process has accepted with `hold`.
    Claim(u64, Sender<Result<Accepted, Failure>>),
    /// Accept streams on a port.
    Listen(u16, Sender<Accepted>, Sender<Result<(), Failure>>),
    /// Stop accepting; the receiver of accepted streams is gone.
    Unlisten(u16),
    /// A thread has stopped waiting for the stream it asked for; it may have been on its way.
    GivenUp,
    /// A stream's queues have changed.
    Look(StreamId),
    /// The application dropped its handles.
    Close(StreamId),
    /// Serve this socket as one that an IPC client has connected.
    Attach(std::os::unix::net::UnixStream),
    /// End the loop.
    Stop,
    /// Panic where nothing may.
    #[cfg(test)]
    Break,
}

/// Sends commands and wakes the loop, or runs it.
#[derive(Clone)]
pub(crate) struct Handle {
    pub(crate) commands: Sender<Command>,
    pub(crate) waker: Arc<Waker>,
    pub(crate) helm: Arc<Helm>,
}

impl Handle {
    /// Blocks while [`COMMANDS_MAX`] commands wait. Never called on the loop's own thread.
    pub(crate) fn send(&self, command: Command) -> io::Result<()> {
        self.commands.send(command).map_err(|_| io::Error::from(stopped()))?;
        self.helm.call_back();
        self.waker.wake()
    }

    /// A stream's queues have changed. `at_once`: the loop looks on this thread, if it may.
    pub(crate) fn look(&self, id: StreamId, at_once: bool) -> io::Result<()> {
        if at_once && self.helm.try_turn(|driver| driver.look(id)).map_err(io::Error::from)? {
            return Ok(());
        }
        self.send(Command::Look(id))
    }
}

pub(crate) fn stopped() -> Failure {
    Failure::new(Code::NotRunning, "the node has ended")
}
