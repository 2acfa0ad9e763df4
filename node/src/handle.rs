//! Owns the callers' end of the loop: the mailbox of commands, and the hand-over of the loop to a thread that waits.

use crate::command::Command;
use crate::event_loop::EventLoop;
use crate::event_loop::handover::Handover;
use crate::failure::Failure;
use crossbeam_channel::Sender;
use mio::Waker;
use pilot_stack::StreamId;
use std::io;
use std::sync::Arc;

/// Sends commands to the loop and wakes it, or runs it. Any thread but the loop's own.
#[derive(Clone)]
pub(crate) struct Handle {
    commands: Sender<Command>,
    waker: Arc<Waker>,
    pub(crate) handover: Arc<Handover<EventLoop>>,
}

impl Handle {
    pub(crate) const fn new(commands: Sender<Command>, waker: Arc<Waker>, handover: Arc<Handover<EventLoop>>) -> Self {
        Self { commands, waker, handover }
    }

    /// Blocks while [`COMMANDS_MAX`](crate::command::COMMANDS_MAX) commands wait.
    ///
    /// # Errors
    /// When the node has ended.
    pub(crate) fn send(&self, command: Command) -> io::Result<()> {
        self.commands.send(command).map_err(|_| io::Error::from(Failure::stopped()))?;
        self.handover.call_back();
        self.waker.wake()
    }

    /// A stream's queues have changed. `at_once`: this thread runs the loop for it, unless another thread has the loop.
    ///
    /// # Errors
    /// When the node has ended.
    pub(crate) fn look(&self, id: StreamId, at_once: bool) -> io::Result<()> {
        if at_once && self.handover.try_turn(|event_loop| event_loop.look(id)).map_err(io::Error::from)? {
            return Ok(());
        }
        self.send(Command::Look(id))
    }
}
