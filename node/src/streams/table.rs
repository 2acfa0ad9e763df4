//! The room of streams: the holder of each stream, and the acceptor of each port's streams.
//!
//! 1. A stream comes from a peer ([`Streams::incoming`]) or stands because it was asked for ([`Streams::opened`]).
//! 2. It gets a [`Holder`]: a thread's queues, a descriptor of a client, or another room.
//! 3. When the stream may have bytes to move, [`Streams::serve`] moves those of threads and descriptors, and names the room
//!    that moves the others.
//! 4. The holder learns the stream's end, and the stream leaves the table.

use crate::answer::StreamState;
use crate::context::Context;
use crate::effect::{Accepted, Caller, Effect, Opener};
use crate::failure::{Code, Failure};
use crate::ipc::client_id::{ClientId, RequestNumber};
use crate::ipc::frame::stream_end;
use crate::ipc::official_frame;
use crate::platform::StreamSocket;
use crate::programs::joint_id::JointId;
use crate::streams::names::{describe, ends, failure_of};
use crate::streams::queues::{LoopEnd, Served, Shared};
use crate::streams::socket::{FdStream, Pumped};
use crate::token::{NUMBERS, Room};
use crossbeam_channel::Sender;
use litemap::LiteMap;
use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use pilot_core::identity::IdentityKey;
use pilot_stack::{StreamEnd, StreamId};
use std::collections::{BTreeMap, VecDeque};
use std::os::fd::{AsFd as _, AsRawFd as _};

/// Most requests that wait for the streams of one IPC listener.
const REQUESTS_MAX: usize = 128;
/// Most ends of handed-out streams that are remembered; the oldest is forgotten first.
pub(crate) const ENDS_MAX: usize = 4096;

/// The holder of a stream.
enum Holder {
    /// A thread of this process.
    Thread(LoopEnd),
    /// A client of the socket, which has a descriptor.
    Descriptor(Box<Descriptor>),
    /// A service.
    Service,
    /// The outbox, for this recipient.
    Mail(IdentityKey),
    /// A client of the official framing; the stream's bytes travel in frames under this number.
    Framed { client: ClientId, connection: u32 },
    /// An IPC listener that has not been asked for a stream.
    Backlog,
    /// A client that has accepted the stream with `hold`, and takes or claims it later.
    Held(ClientId),
    /// A connection of a program.
    Program(JointId),
}

struct Descriptor {
    stream: FdStream,
    token: Token,
    client: ClientId,
    /// The number of the client's end in the kernel's socket file system, by which its owner can ask for the stream.
    inode: u64,
}

/// The form in which an accepted stream is given to its client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hold {
    /// As a descriptor.
    No,
    /// By its number: the client takes or claims the stream later.
    Yes,
}

/// The acceptor of a port's streams.
pub(crate) enum Listener {
    /// Threads of this process; the streams that they have not taken, as far as is known.
    Thread(Sender<Accepted>, VecDeque<StreamId>),
    /// A service of this node.
    Service,
    /// A client of the socket: requests that wait for a stream, or streams that wait for a request. The stack bounds the
    /// streams (`StackConfig::backlog_max`).
    Client { client: ClientId, requests: VecDeque<(RequestNumber, Hold)>, streams: VecDeque<StreamId> },
    /// A client of the official framing.
    Framed(ClientId),
    /// A program that knows nothing of this node.
    Program,
}

impl Listener {
    /// The acceptor of threads that take streams from this channel.
    pub(crate) const fn thread(sender: Sender<Accepted>) -> Self {
        Self::Thread(sender, VecDeque::new())
    }
}

/// The room that moves a stream's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    Service,
    Mail(IdentityKey),
    Framed { client: ClientId, connection: u32 },
    Program(JointId),
}

/// Streams and listeners.
pub(crate) struct Streams {
    registry: Registry,
    holders: BTreeMap<StreamId, Holder>,
    listeners: LiteMap<u16, Listener>,
    /// The ports of services.
    served: &'static [u16],
    /// The one of them that a program may take, and that returns to its service when the program gives it up.
    lent: u16,
    tokens: LiteMap<Token, StreamId>,
    last_token: usize,
    /// How handed-out streams ended, by inode; the newest [`ENDS_MAX`].
    ends: VecDeque<(u64, StreamState)>,
    /// Handed-out streams by inode.
    inodes: LiteMap<u64, StreamId>,
    /// Clients that end their streams explicitly.
    explicit: LiteMap<ClientId, ()>,
    /// Descriptors that have ended without the word that their client gives before an orderly end.
    unexplained: Vec<StreamId>,
    /// Those of them that ended before the system was last asked what clients have written. The word was written before.
    doubtful: Vec<StreamId>,
}

impl Streams {
    pub(crate) const fn new(registry: Registry) -> Self {
        Self {
            registry,
            holders: BTreeMap::new(),
            listeners: LiteMap::new(),
            served: &[],
            lent: 0,
            tokens: LiteMap::new(),
            last_token: 0,
            ends: VecDeque::new(),
            inodes: LiteMap::new(),
            explicit: LiteMap::new(),
            unexplained: Vec::new(),
            doubtful: Vec::new(),
        }
    }

    // Ports.

    /// Gives `ports` to the services. A program may take `lent`, and none of the others.
    pub(crate) fn serve_ports(&mut self, cx: &mut Context, ports: &'static [u16], lent: u16) {
        (self.served, self.lent) = (ports, lent);
        for port in ports {
            // No program can have bound a port before the node has started.
            let _ = cx.stack.listen(*port);
            self.listeners.insert(*port, Listener::Service);
        }
    }

    /// Binds a port. A program may take the place of the service that is lent, which comes back when the program goes.
    pub(crate) fn listen(&mut self, cx: &mut Context, port: u16, listener: Listener) -> Result<(), Failure> {
        let taken = || Failure::new(Code::Conflict, format!("port {port} already bound"));
        match self.listeners.get(&port) {
            None => cx.stack.listen(port).map_err(|_| taken())?,
            Some(Listener::Service) if port == self.lent => {}
            Some(Listener::Service) => return Err(taken().hint("the node's own service has this port")),
            Some(_) => return Err(taken().hint("pilotctl connections")),
        }
        self.listeners.insert(port, listener);
        Ok(())
    }

    /// Binds a port to a client of the socket.
    pub(crate) fn listen_for(&mut self, cx: &mut Context, client: ClientId, port: u16) -> Result<(), Failure> {
        self.listen(cx, port, Listener::Client { client, requests: VecDeque::new(), streams: VecDeque::new() })
    }

    /// Gives a port up. Streams that were not accepted are reset.
    pub(crate) fn unlisten(&mut self, cx: &mut Context, port: u16) {
        let Some(listener) = self.listeners.remove(&port) else { return };
        match listener {
            Listener::Client { streams, .. } => streams.into_iter().for_each(|id| self.abort(cx, id)),
            Listener::Thread(sender, _) => {
                drop(sender); // and with the channel the streams that no thread has accepted
                self.abort_orphans(cx);
            }
            Listener::Service | Listener::Framed(_) | Listener::Program => {}
        }
        if self.served.contains(&port) {
            self.listeners.insert(port, Listener::Service);
        } else {
            cx.stack.unlisten(port);
        }
    }

    /// Gives a port up, if this client has bound it.
    pub(crate) fn unlisten_for(&mut self, cx: &mut Context, client: ClientId, port: u16) {
        if self.ports_of(client).contains(&port) {
            self.unlisten(cx, port);
        }
    }

    fn ports_of(&self, client: ClientId) -> Vec<u16> {
        let has = |listener: &Listener| match listener {
            Listener::Client { client: c, .. } | Listener::Framed(c) => *c == client,
            _ => false,
        };
        self.listeners.iter().filter(|(_, listener)| has(listener)).map(|(port, _)| *port).collect()
    }

    /// Gives the next stream on `port` to this request, now or when it comes.
    pub(crate) fn accept_for(
        &mut self,
        cx: &mut Context,
        client: ClientId,
        request: RequestNumber,
        (port, hold): (u16, Hold),
    ) -> Result<(), Failure> {
        if !matches!(self.listeners.get(&port), Some(Listener::Client { client: c, .. }) if *c == client) {
            self.listen_for(cx, client, port)?;
        }
        let Some(Listener::Client { requests, streams, .. }) = self.listeners.get_mut(&port) else { return Ok(()) };
        match streams.pop_front() {
            Some(id) => self.hand_over(cx, id, client, request, hold),
            None if requests.len() >= REQUESTS_MAX => {
                return Err(Failure::new(Code::Full, "too many requests wait for streams on this port"));
            }
            None => requests.push_back((request, hold)),
        }
        debug_assert!(!self.has_missed(port), "a request and a stream that wait meet at once");
        Ok(())
    }

    /// True when a request waits on this port and a stream does too.
    fn has_missed(&self, port: u16) -> bool {
        let listener = self.listeners.get(&port);
        matches!(listener, Some(Listener::Client { requests, streams, .. }) if !requests.is_empty() && !streams.is_empty())
    }

    // Streams that come.

    /// A peer has opened a stream to a port of this node.
    pub(crate) fn incoming(&mut self, cx: &mut Context, port: u16, id: StreamId) {
        match self.listeners.get_mut(&port) {
            Some(Listener::Thread(sender, waiting)) => {
                let (local, peer) = ends(&cx.stack, id);
                let shared = Shared::new(id);
                match sender.try_send(Accepted { shared: shared.clone(), local, peer }) {
                    Ok(()) => {
                        waiting.push_back(id);
                        self.holders.insert(id, Holder::Thread(LoopEnd::new(shared)));
                        self.note_taken(cx, port);
                    }
                    Err(_) => cx.stack.abort(cx.now, id), // the listener is gone
                }
            }
            Some(Listener::Service) => {
                cx.stack.accepted(id);
                self.holders.insert(id, Holder::Service);
                cx.out.push(Effect::Serve(id, port));
            }
            Some(Listener::Client { client, requests, streams }) => match requests.pop_front() {
                Some((request, hold)) => {
                    let client = *client;
                    self.hand_over(cx, id, client, request, hold);
                }
                None => {
                    streams.push_back(id);
                    self.holders.insert(id, Holder::Backlog);
                }
            },
            Some(Listener::Framed(client)) => {
                let client = *client;
                cx.stack.accepted(id);
                let (_, peer) = ends(&cx.stack, id);
                let connection = self.hold_framed(id, client);
                cx.out.push(Effect::Frame(client, official_frame::accepted(port, connection, peer)));
            }
            Some(Listener::Program) => cx.out.push(Effect::Expose(id, port)),
            None => cx.stack.abort(cx.now, id),
        }
        debug_assert!(!self.has_missed(port), "a request and a stream that wait meet at once");
        cx.ready(id);
    }

    /// Tells the stack which streams of a port the threads have taken: the oldest, until as many are left as wait in the
    /// channel.
    pub(crate) fn note_taken(&mut self, cx: &mut Context, port: u16) {
        let Some(Listener::Thread(sender, waiting)) = self.listeners.get_mut(&port) else { return };
        while waiting.len() > sender.len()
            && let Some(id) = waiting.pop_front()
        {
            cx.stack.accepted(id);
        }
    }

    /// A stream of this node stands.
    pub(crate) fn opened(&mut self, cx: &mut Context, id: StreamId, opener: Opener) {
        match opener {
            Opener::Thread(sender) => {
                let (local, peer) = ends(&cx.stack, id);
                let shared = Shared::new(id);
                if sender.send(Ok(Accepted { shared: shared.clone(), local, peer })).is_ok() {
                    self.holders.insert(id, Holder::Thread(LoopEnd::new(shared)));
                } else {
                    cx.stack.close(cx.now, id); // the thread has given up waiting
                }
            }
            Opener::Client(client, request) => self.hand_out(cx, id, client, request),
            Opener::Framed(client) => {
                let connection = self.hold_framed(id, client);
                cx.out.push(Effect::Frame(client, official_frame::dialed(connection)));
            }
            Opener::Mail(key) => drop(self.holders.insert(id, Holder::Mail(key))),
            Opener::Program(joint) => self.hold(id, joint),
        }
        cx.ready(id);
    }

    /// Gives a stream to a connection of a program.
    pub(crate) fn hold(&mut self, id: StreamId, joint: JointId) {
        self.holders.insert(id, Holder::Program(joint));
    }

    fn hold_framed(&mut self, id: StreamId, client: ClientId) -> u32 {
        let connection = id.number() as u32;
        self.holders.insert(id, Holder::Framed { client, connection });
        connection
    }

    fn hand_over(&mut self, cx: &mut Context, id: StreamId, client: ClientId, request: RequestNumber, hold: Hold) {
        cx.stack.accepted(id);
        match hold {
            Hold::No => self.hand_out(cx, id, client, request),
            Hold::Yes => {
                self.holders.insert(id, Holder::Held(client));
                let data = describe(&cx.stack, id);
                cx.reply(Caller::Client(client, request), data);
            }
        }
    }

    /// Gives a client a descriptor of the stream.
    fn hand_out(&mut self, cx: &mut Context, id: StreamId, client: ClientId, request: RequestNumber) {
        let made = StreamSocket::pair().map_err(|_| Failure::new(Code::Full, "no file descriptors are left")).and_then(
            |(ours, theirs)| {
                let token = self.new_token();
                let interest = Interest::READABLE | Interest::WRITABLE;
                let registered = self.registry.register(&mut SourceFd(&ours.as_fd().as_raw_fd()), token, interest);
                registered.map_err(|_| Failure::new(Code::Full, "too many streams"))?;
                Ok((ours, theirs, token))
            },
        );
        let (ours, theirs, token) = match made {
            Ok(made) => made,
            Err(failure) => {
                self.close(cx, id);
                return cx.fail(Caller::Client(client, request), failure);
            }
        };
        let inode = rustix::fs::fstat(&theirs).map_or(0, |stat| stat.st_ino);
        self.tokens.insert(token, id);
        self.inodes.insert(inode, id);
        let stream = FdStream::new(ours, self.explicit.contains_key(&client));
        let descriptor = Descriptor { stream, token, client, inode };
        self.holders.insert(id, Holder::Descriptor(Box::new(descriptor)));
        cx.out.push(Effect::ReplyDescriptor(client, request, describe(&cx.stack, id).into(), theirs));
        cx.ready(id);
    }

    fn new_token(&mut self) -> Token {
        loop {
            self.last_token = (self.last_token + 1) % NUMBERS;
            let token = Room::Streams.token(self.last_token);
            if !self.tokens.contains_key(&token) {
                return token;
            }
        }
    }

    /// Hands a held stream out.
    pub(crate) fn take_held(
        &mut self,
        cx: &mut Context,
        client: ClientId,
        request: RequestNumber,
        id: StreamId,
    ) -> Result<(), Failure> {
        match self.holders.get(&id) {
            Some(Holder::Held(of)) if *of == client => {
                self.hand_out(cx, id, client, request);
                Ok(())
            }
            _ => Err(Failure::new(Code::NotFound, "no such stream is held for this client")),
        }
    }

    /// Gives a held stream to a thread of this process.
    pub(crate) fn claim_held(&mut self, cx: &mut Context, id: StreamId) -> Result<Accepted, Failure> {
        if !matches!(self.holders.get(&id), Some(Holder::Held(_))) {
            return Err(Failure::new(Code::NotFound, "no such stream is held"));
        }
        let (shared, (local, peer)) = (Shared::new(id), ends(&cx.stack, id));
        self.holders.insert(id, Holder::Thread(LoopEnd::new(shared.clone())));
        cx.ready(id);
        Ok(Accepted { shared, local, peer })
    }

    /// The end of a handed-out stream, by the inode of its descriptor.
    pub(crate) fn end_of(&self, inode: u64) -> Result<StreamState, Failure> {
        if self.inodes.contains_key(&inode) {
            return Ok(StreamState::Open);
        }
        match self.ends.iter().rev().find(|(i, _)| *i == inode) {
            Some((_, end)) => Ok(end.clone()),
            None => Err(Failure::new(Code::NotFound, "that descriptor is no stream of this node")),
        }
    }

    // Explicit ends.

    /// From now on the end of a later descriptor of this client, or of that with the inode, is the death of a program, unless
    /// [`Streams::finish_of`] came before.
    pub(crate) fn end_explicitly(&mut self, client: ClientId, inode: Option<u64>) {
        let Some(inode) = inode else {
            self.explicit.insert(client, ());
            return;
        };
        let id = self.inodes.get(&inode);
        if let Some(Holder::Descriptor(descriptor)) = id.and_then(|id| self.holders.get_mut(id)) {
            descriptor.stream.is_explicit = true;
        }
    }

    /// The end of a descriptor, which follows, is meant; or the stream is reset. Gives the stream's state.
    pub(crate) fn finish_of(&mut self, cx: &mut Context, inode: u64, reset: bool) -> Result<StreamState, Failure> {
        if let Some(&id) = self.inodes.get(&inode) {
            if reset {
                cx.stack.abort(cx.now, id);
            } else if let Some(Holder::Descriptor(descriptor)) = self.holders.get_mut(&id) {
                descriptor.stream.is_finished = true;
            }
            cx.ready(id);
        }
        self.end_of(inode)
    }

    /// The system has told everything that clients have written before now, so their words can be read. True when streams wait for
    /// that; those that end meanwhile are for the next time, so that these do not wait for ever.
    pub(crate) fn note_polled(&mut self) -> bool {
        let is_asked = self.doubtful.is_empty() && !self.unexplained.is_empty();
        if is_asked {
            self.doubtful = std::mem::take(&mut self.unexplained);
        }
        is_asked
    }

    /// Everything that the system has told was read: streams that ended without a word are reset.
    pub(crate) fn settle_ends(&mut self, cx: &mut Context) {
        for id in std::mem::take(&mut self.doubtful) {
            match self.holders.get(&id) {
                Some(Holder::Descriptor(d)) if d.stream.is_finished => cx.ready(id),
                Some(Holder::Descriptor(_)) => self.end_descriptor(cx, id, Pumped::Unread),
                _ => {}
            }
        }
    }

    /// Streams that have a holder.
    #[cfg(test)]
    pub(crate) fn held(&self) -> usize {
        self.holders.len()
    }

    /// True while descriptors have ended without a word.
    pub(crate) const fn has_unexplained(&self) -> bool {
        !self.unexplained.is_empty() || !self.doubtful.is_empty()
    }

    // Bytes.

    /// A handed-out descriptor became readable or writable, or its client has ended its writing (`may_end`).
    pub(crate) fn readiness(
        &mut self,
        cx: &mut Context,
        token: Token,
        (readable, writable, may_end): (bool, bool, bool),
    ) {
        let Some(&id) = self.tokens.get(&token) else { return };
        if let Some(Holder::Descriptor(descriptor)) = self.holders.get_mut(&id) {
            descriptor.stream.readable |= readable;
            descriptor.stream.writable |= writable;
            descriptor.stream.may_end |= may_end;
        }
        cx.ready(id);
    }

    /// Moves the bytes of a stream that a thread or a descriptor holds. For other holders, names the room that moves them.
    pub(crate) fn serve(&mut self, cx: &mut Context, id: StreamId) -> Option<Turn> {
        match self.holders.get_mut(&id)? {
            Holder::Thread(end) => match end.serve(&mut cx.stack) {
                Served::Open => {}
                Served::Done => self.close(cx, id),
                Served::Unread => self.give_up(cx, id),
                Served::Aborted => self.abort(cx, id),
            },
            Holder::Descriptor(descriptor) => match descriptor.stream.pump(&mut cx.stack, id) {
                Pumped::Open => {}
                Pumped::Unexplained if self.unexplained.contains(&id) || self.doubtful.contains(&id) => {}
                Pumped::Unexplained => self.unexplained.push(id),
                over => self.end_descriptor(cx, id, over),
            },
            Holder::Service => return Some(Turn::Service),
            Holder::Mail(key) => return Some(Turn::Mail(*key)),
            Holder::Framed { client, connection } => {
                return Some(Turn::Framed { client: *client, connection: *connection });
            }
            Holder::Program(joint) => return Some(Turn::Program(*joint)),
            Holder::Backlog if cx.stack.stream_info(id).is_none() => self.forget_unaccepted(id),
            Holder::Backlog | Holder::Held(_) => {}
        }
        None
    }

    // Ends.

    /// Ends a handed-out stream, and tells its client how.
    fn end_descriptor(&mut self, cx: &mut Context, id: StreamId, over: Pumped) {
        let Some(Holder::Descriptor(descriptor)) = self.holders.get_mut(&id) else { return };
        let (client, inode, stream) = (descriptor.client, descriptor.inode, id.number());
        let end = match over {
            Pumped::Broken(end) => Some(end),
            Pumped::Unread => Some(StreamEnd::Aborted),
            Pumped::Open | Pumped::Finished | Pumped::Unexplained => {
                descriptor.stream.socket.end();
                None
            }
        };
        let data = match end {
            None => StreamState::Fin { stream },
            Some(end) => {
                let acknowledged = cx.stack.stream_info(id).map(|info| info.acknowledged);
                let failure = Failure { acknowledged, ..failure_of(&cx.stack, id, end) };
                StreamState::Error { stream, failure }
            }
        };
        if over == Pumped::Unread {
            self.give_up(cx, id)
        } else {
            self.close(cx, id)
        }
        cx.out.push(Effect::Frame(client, stream_end(&data)));
        self.ends.push_back((inode, data));
        if self.ends.len() > ENDS_MAX {
            self.ends.pop_front();
        }
    }

    /// The application is done with a stream. The bytes that it wrote last may still be in its queue.
    pub(crate) fn finish(&mut self, cx: &mut Context, id: StreamId) {
        if let Some(Holder::Thread(end)) = self.holders.get(&id) {
            let mut queues = end.shared().lock();
            queues.gone = true;
            drop(queues);
            return cx.ready(id);
        }
        self.close(cx, id);
    }

    /// Ends a stream in order.
    pub(crate) fn close(&mut self, cx: &mut Context, id: StreamId) {
        self.forget(id);
        cx.stack.close(cx.now, id);
    }

    /// Ends a stream of which the holder did not read everything, or did not write everything that it meant to.
    pub(crate) fn give_up(&mut self, cx: &mut Context, id: StreamId) {
        self.forget(id);
        cx.stack.give_up(cx.now, id);
    }

    /// Resets a stream.
    pub(crate) fn abort(&mut self, cx: &mut Context, id: StreamId) {
        self.forget(id);
        cx.stack.abort(cx.now, id);
    }

    /// Forgets a stream that the owner of the node has ended before a client accepted it.
    fn forget_unaccepted(&mut self, id: StreamId) {
        self.holders.remove(&id);
        for (_, listener) in &mut self.listeners {
            if let Listener::Client { streams, .. } = listener {
                streams.retain(|waiting| *waiting != id);
            }
        }
    }

    fn forget(&mut self, id: StreamId) {
        if let Some(Holder::Descriptor(descriptor)) = self.holders.remove(&id) {
            // The descriptor is closed right after; a failure here leaves nothing behind.
            let _ = self.registry.deregister(&mut SourceFd(&descriptor.stream.socket.as_fd().as_raw_fd()));
            let known = (self.tokens.remove(&descriptor.token), self.inodes.remove(&descriptor.inode));
            debug_assert_eq!(known, (Some(id), Some(id)), "a descriptor's token and inode name its stream");
        }
    }

    /// Resets streams that were on their way to a thread which has given up waiting for them.
    pub(crate) fn abort_orphans(&mut self, cx: &mut Context) {
        let is_orphan = |holder: &Holder| matches!(holder, Holder::Thread(end) if end.is_orphan());
        self.abort_all(cx, is_orphan);
    }

    fn abort_all(&mut self, cx: &mut Context, pick: impl Fn(&Holder) -> bool) {
        let ids: Vec<StreamId> = self.holders.iter().filter(|(_, h)| pick(h)).map(|(id, _)| *id).collect();
        ids.into_iter().for_each(|id| self.abort(cx, id));
    }

    /// A client is gone: its ports are given up, and its streams end. Handed-out descriptors live on.
    pub(crate) fn client_gone(&mut self, cx: &mut Context, client: ClientId) {
        self.explicit.remove(&client);
        self.abort_all(cx, |holder| matches!(holder, Holder::Held(of) if *of == client));
        for port in self.ports_of(client) {
            self.unlisten(cx, port);
        }
        // A client that was done has closed its streams before.
        for id in self.framed_of(client) {
            self.give_up(cx, id);
        }
    }

    /// The streams of a client of the official framing.
    pub(crate) fn framed_of(&self, client: ClientId) -> Vec<StreamId> {
        let has = |holder: &Holder| matches!(holder, Holder::Framed { client: c, .. } if *c == client);
        self.holders.iter().filter(|(_, holder)| has(holder)).map(|(id, _)| *id).collect()
    }

    /// The stream that a client of the official framing knows under this number.
    pub(crate) fn framed(&self, client: ClientId, connection: u32) -> Option<StreamId> {
        let is = |holder: &Holder| matches!(holder, Holder::Framed { client: c, connection: n } if (*c, *n) == (client, connection));
        // The number is that of the stream, until there have been more streams than numbers.
        let likely = StreamId::from_number(connection.into());
        if self.holders.get(&likely).is_some_and(is) {
            return Some(likely);
        }
        self.holders.iter().find(|(_, holder)| is(holder)).map(|(id, _)| *id)
    }

    /// The node has ended: threads that wait on their streams learn it.
    pub(crate) fn end(&self, failure: &Failure) {
        for holder in self.holders.values() {
            if let Holder::Thread(end) = holder {
                end.shared().lock().failure.get_or_insert_with(|| failure.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests;
