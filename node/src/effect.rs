//! Owns the outputs of the node's rooms: work for other rooms, as values that the event loop carries out.

use crate::answer::Answer;
use crate::disk::job::Job;
use crate::failure::Failure;
use crate::ipc::client_id::{ClientId, RequestNumber};
use crate::log::record::Record;
use crate::mail::message::Letter;
use crate::node_event::Event;
use crate::programs::joint_id::JointId;
use crate::services::event::Published;
use crate::streams::queues::Shared;
use crossbeam_channel::Sender;
use pilot_core::AddrPort;
use pilot_core::identity::IdentityKey;
use pilot_stack::StreamId;
use std::sync::Arc;

/// Names one waiting call in the node's table of calls ([`Calls`](crate::call::Calls)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Ticket(pub(crate) u64);

/// The answer to a request with the bytes beside it, or the reason of its failure.
pub(crate) type Answered = Result<(Answer, Vec<u8>), Failure>;

/// The recipient of a request's answer.
#[derive(Debug)]
pub(crate) enum Caller {
    /// A thread of this process.
    Thread(Sender<Answered>),
    /// An IPC client, under the number of its request.
    Client(ClientId, RequestNumber),
    /// A client of the official framing, as the reply with this command number.
    Official(ClientId, u8),
    /// The node itself, which needs no answer.
    Node,
}

impl Caller {
    /// True for a caller at the other end of this client's connection.
    pub(crate) fn is(&self, client: ClientId) -> bool {
        matches!(self, Self::Client(of, _) | Self::Official(of, _) if *of == client)
    }
}

/// A stream that stands, on its way to the thread that asked for it.
#[derive(Debug)]
pub(crate) struct Accepted {
    pub(crate) shared: Arc<Shared>,
    pub(crate) local: AddrPort,
    pub(crate) peer: AddrPort,
}

/// The future holder of a stream that is being opened.
#[derive(Debug)]
pub(crate) enum Opener {
    /// A thread of this process.
    Thread(Sender<Result<Accepted, Failure>>),
    /// An IPC client, which gets a descriptor under the number of its request.
    Client(ClientId, RequestNumber),
    /// A client of the official framing.
    Framed(ClientId),
    /// The outbox, for its messages to this recipient.
    Mail(IdentityKey),
    /// A connection of a program.
    Program(JointId),
}

/// One thing to be done by another room or by the event loop.
#[derive(Debug)]
pub(crate) enum Effect {
    /// Give the answer to its caller.
    Reply(Caller, Answered),
    /// Hand work to the disk. The ticket's call goes on with the outcome, after the sync.
    Submit(Job, Ticket),
    /// Open a stream to the node of this name, with first bytes: the name means a trusted peer now.
    Connect(String, u16, Vec<u8>, Opener),
    /// Send a message: the name of its recipient means a trusted peer now.
    Send(Letter, Caller),
    /// Move the bytes of a stream that may have something to move.
    Ready(StreamId),
    /// Give a stream that stands to its opener.
    Opened(StreamId, Opener),
    /// Tell the opener of a stream why there is none.
    NotOpened(Opener, Failure),
    /// End a stream in order, and forget its holder.
    Close(StreamId),
    /// Reset a stream after what was written to it, and forget its holder.
    GiveUp(StreamId),
    /// Reset a stream at once, and forget its holder.
    Abort(StreamId),
    /// Give a peer's stream on a served port to the services.
    Serve(StreamId, u16),
    /// Give a peer's stream on an exposed port to the program behind the port.
    Expose(StreamId, u16),
    /// Tell the clients that watch events.
    Tell(Event),
    /// Give an event of the event stream to its subscribers; the publishing stream, if any, is none of them.
    Publish(Option<StreamId>, Published),
    /// Answer a client's request with a descriptor.
    ReplyDescriptor(ClientId, RequestNumber, Answer, std::os::fd::OwnedFd),
    /// Send a frame to a client.
    Frame(ClientId, Vec<u8>),
    /// Write a record into the log.
    Trace(Record),
}
