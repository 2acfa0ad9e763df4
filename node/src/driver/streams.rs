//! Owns who has which stream: application threads, handed-out descriptors, the daemon's services, the courier.

use super::{Driver, Reply};
use crate::clock::wall_s;
use crate::command::Accepted;
use crate::disk::files::FileJob;
use crate::disk::job::Job;
use crate::driver::ops::Then;
use crate::failure::{Code, Failure};
use crate::ipc::server::ClientId;
use crate::mail::message::Message;
use crate::services::{PORTS, Served, Service};
use crate::stream::{LoopEnd, QUEUE_MAX, Shared};
use crate::streams::byte_queue::{CHUNK_LEN, Spare};
use crate::streams::socket::{FdStream, Pumped};
use crossbeam_channel::Sender;
use mio::unix::SourceFd;
use mio::{Interest, Token};
use pilot_core::identity::IdentityKey;
use pilot_core::{Addr, AddrPort};
use pilot_stack::{CommandError, Recv, StreamEnd, StreamId};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::time::Instant;

/// Streams that wait for one IPC listener.
const IPC_BACKLOG_MAX: usize = 128;
/// Ends of handed-out streams that can still be asked for.
pub(crate) const ENDS_MAX: usize = 4096;

pub(crate) enum Owner {
    App(LoopEnd),
    Fd {
        stream: FdStream,
        token: Token,
        client: ClientId,
        /// Number of the client's end in the kernel's socket file system, by which its holder can ask for the stream.
        inode: u64,
    },
    Service(Service),
    Courier(IdentityKey),
    /// Official IPC: bytes travel in frames under this number.
    Framed {
        client: ClientId,
        connection: u32,
    },
    /// Taken by nobody yet.
    Waiting,
    /// Accepted by a client that has not said yet how it wants the stream.
    Held(ClientId),
}

/// How an accepted stream is given to its client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hold {
    /// As a descriptor.
    No,
    /// By its number: the client takes or claims it later.
    Yes,
}

pub(crate) enum ConnectReply {
    App(Sender<Result<Accepted, Failure>>),
    Fd(ClientId, u32),
    Framed(ClientId),
    Courier(IdentityKey),
}

pub(crate) struct Connecting {
    pub(crate) deadline: Instant,
    reply: ConnectReply,
    who: String,
    port: u16,
}

pub(crate) enum ListenerOwner {
    App(Sender<Accepted>),
    Service,
    /// Requests of a client that wait for a stream, or streams that wait for a request.
    Ipc {
        client: ClientId,
        requests: VecDeque<(u32, Hold)>,
        streams: VecDeque<StreamId>,
    },
    Framed(ClientId),
}

impl Driver {
    // Ports.

    pub(crate) fn listen(&mut self, port: u16, owner: ListenerOwner) -> Result<(), Failure> {
        match self.listeners.get(&port) {
            None => {
                let taken = |_| Failure::new(Code::Conflict, format!("port {port} already bound"));
                self.stack.listen(port).map_err(taken)?;
            }
            // A program takes a service's place; the service comes back when the program goes.
            Some(ListenerOwner::Service) => {}
            Some(_) => {
                return Err(
                    Failure::new(Code::Conflict, format!("port {port} already bound")).hint("pilotctl connections")
                );
            }
        }
        self.listeners.insert(port, owner);
        Ok(())
    }

    pub(crate) fn unlisten(&mut self, port: u16) {
        let Some(owner) = self.listeners.remove(&port) else { return };
        match owner {
            ListenerOwner::Ipc { streams, .. } => streams.into_iter().for_each(|id| self.abort(id)),
            ListenerOwner::App(streams) => {
                drop(streams); // and with it those that nobody has received
                self.abort_orphans();
            }
            _ => {}
        }
        if self.config.services && PORTS.contains(&port) {
            self.listeners.insert(port, ListenerOwner::Service);
        } else {
            self.stack.unlisten(port);
        }
    }

    /// Ends streams that were on their way to a thread which has given up waiting for them.
    pub(super) fn abort_orphans(&mut self) {
        let is_orphan = |owner: &Owner| matches!(owner, Owner::App(end) if end.is_orphan());
        let ids: Vec<StreamId> = self.owners.iter().filter(|(_, owner)| is_orphan(owner)).map(|(id, _)| *id).collect();
        ids.into_iter().for_each(|id| self.abort(id));
    }

    fn abort(&mut self, id: StreamId) {
        self.owners.remove(&id);
        let now = self.now();
        self.stack.abort(now, id);
    }

    /// Ports that a client has bound, to be given up with it.
    pub(crate) fn ports_of(&self, client: ClientId) -> Vec<u16> {
        let has = |owner: &ListenerOwner| match owner {
            ListenerOwner::Ipc { client: c, .. } | ListenerOwner::Framed(c) => *c == client,
            _ => false,
        };
        self.listeners.iter().filter(|(_, owner)| has(owner)).map(|(port, _)| *port).collect()
    }

    /// Streams that end with a client.
    pub(crate) fn framed_streams_of(&self, client: ClientId) -> Vec<StreamId> {
        let has = |owner: &Owner| matches!(owner, Owner::Framed { client: c, .. } if *c == client);
        self.owners.iter().filter(|(_, owner)| has(owner)).map(|(id, _)| *id).collect()
    }

    pub(super) fn incoming(&mut self, port: u16, id: StreamId) {
        let ends = self.ends(id);
        let now = self.now();
        match self.listeners.get_mut(&port) {
            Some(ListenerOwner::App(streams)) => {
                let shared = Shared::new(id);
                match streams.try_send(Accepted { shared: shared.clone(), local: ends.0, peer: ends.1 }) {
                    Ok(()) => drop(self.owners.insert(id, Owner::App(LoopEnd::new(shared)))),
                    Err(_) => self.stack.abort(now, id), // more than it accepts
                }
            }
            Some(ListenerOwner::Service) => match Service::for_port(port, id) {
                Some(service) => drop(self.owners.insert(id, Owner::Service(service))),
                None => self.stack.abort(now, id),
            },
            Some(ListenerOwner::Ipc { client, requests, streams }) => match requests.pop_front() {
                Some((request, hold)) => {
                    let client = *client;
                    self.hand_over(id, client, request, hold);
                }
                None if streams.len() < IPC_BACKLOG_MAX => {
                    streams.push_back(id);
                    self.owners.insert(id, Owner::Waiting);
                }
                None => self.stack.abort(now, id),
            },
            Some(ListenerOwner::Framed(client)) => {
                let client = *client;
                self.frame_incoming(client, port, id, ends.1);
            }
            None => self.stack.abort(now, id),
        }
        self.look(id);
    }

    fn frame_incoming(&mut self, client: ClientId, port: u16, id: StreamId, peer: AddrPort) {
        let connection = id.number() as u32;
        self.owners.insert(id, Owner::Framed { client, connection });
        if let Some(ipc) = &mut self.ipc {
            ipc.push_accept(client, port, connection, peer);
        }
    }

    /// Binds `port` to a client.
    pub(crate) fn listen_for(&mut self, client: ClientId, port: u16) -> Result<(), Failure> {
        self.listen(port, ListenerOwner::Ipc { client, requests: VecDeque::new(), streams: VecDeque::new() })
    }

    /// The next stream on `port` goes to this request.
    pub(crate) fn accept_for(&mut self, client: ClientId, request: u32, port: u16, hold: Hold) -> Result<(), Failure> {
        if !matches!(self.listeners.get(&port), Some(ListenerOwner::Ipc { client: c, .. }) if *c == client) {
            self.listen_for(client, port)?;
        }
        let Some(ListenerOwner::Ipc { requests, streams, .. }) = self.listeners.get_mut(&port) else { return Ok(()) };
        match streams.pop_front() {
            Some(id) => self.hand_over(id, client, request, hold),
            None if requests.len() >= IPC_BACKLOG_MAX => {
                return Err(Failure::new(Code::Full, "too many requests wait for streams on this port"));
            }
            None => requests.push_back((request, hold)),
        }
        Ok(())
    }

    fn hand_over(&mut self, id: StreamId, client: ClientId, request: u32, hold: Hold) {
        if hold == Hold::No {
            return self.hand_out(id, client, request);
        }
        self.owners.insert(id, Owner::Held(client));
        let data = self.describe(id);
        self.reply(Reply::Ipc(client, request), Ok(data));
    }

    /// Hands a held stream out.
    pub(crate) fn take_held(&mut self, client: ClientId, request: u32, number: u64) -> Result<(), Failure> {
        let id = StreamId::from_number(number);
        match self.owners.get(&id) {
            Some(Owner::Held(of)) if *of == client => {
                self.hand_out(id, client, request);
                Ok(())
            }
            _ => Err(Failure::new(Code::NotFound, "no such stream is held for this client")),
        }
    }

    /// A held stream for a thread of this process.
    pub(super) fn claim_held(&mut self, number: u64) -> Result<Accepted, Failure> {
        let id = StreamId::from_number(number);
        if !matches!(self.owners.get(&id), Some(Owner::Held(_))) {
            return Err(Failure::new(Code::NotFound, "no such stream is held"));
        }
        let (shared, (local, peer)) = (Shared::new(id), self.ends(id));
        self.owners.insert(id, Owner::App(LoopEnd::new(shared.clone())));
        self.look(id);
        Ok(Accepted { shared, local, peer })
    }

    /// Ends what a client has accepted and not taken.
    pub(crate) fn drop_held(&mut self, client: ClientId) {
        let held = |owner: &Owner| matches!(owner, Owner::Held(of) if *of == client);
        let ids: Vec<StreamId> = self.owners.iter().filter(|(_, owner)| held(owner)).map(|(id, _)| *id).collect();
        ids.into_iter().for_each(|id| self.abort(id));
    }

    /// What a client is told of a stream.
    fn describe(&self, id: StreamId) -> Value {
        let (local, peer) = self.ends(id);
        json!({
            "stream": id.number(), "local": local.to_string(), "peer": peer.to_string(),
            "hostname": self.hostname_of(peer.addr),
        })
    }

    // Connecting.

    /// `early` travels with the question.
    pub(crate) fn connect(&mut self, target: &str, port: u16, early: Vec<u8>, reply: ConnectReply) {
        let pin =
            crate::calls::resolve::pinned(self.stack.endpoint().trust(), target).map(|p| (p.identity, name_of(p)));
        match pin {
            Ok((key, who)) => self.connect_to(&key, who, port, early, reply),
            Err(failure) if failure.code == Code::NotFound => self.explain_unknown(target, reply),
            Err(failure) => self.connect_failed(reply, failure),
        }
    }

    pub(crate) fn connect_to(
        &mut self,
        key: &IdentityKey,
        who: String,
        port: u16,
        early: Vec<u8>,
        reply: ConnectReply,
    ) {
        let now = self.now();
        let peer = self.stack.endpoint().peer_by_identity(key).ok_or(CommandError::UnknownPeer);
        let result = peer.and_then(|peer| self.stack.connect_with(now, peer, port, early));
        match result {
            Ok(id) => {
                if let ConnectReply::Courier(key) = &reply {
                    self.courier.opened(key, id);
                }
                let deadline = Instant::now() + self.config.connect_timeout;
                self.connecting.insert(id, Connecting { deadline, reply, who, port });
                self.look(id);
            }
            Err(CommandError::TooMany) => {
                self.connect_failed(reply, Failure::new(Code::Full, "too many streams to this peer"))
            }
            Err(_) => self.connect_failed(reply, Failure::new(Code::TrustRequired, format!("{who} is not trusted"))),
        }
    }

    pub(crate) fn connect_failed(&mut self, reply: ConnectReply, failure: Failure) {
        match reply {
            ConnectReply::App(sender) => drop(sender.send(Err(failure))),
            ConnectReply::Fd(client, request) => self.reply(Reply::Ipc(client, request), Err(failure)),
            ConnectReply::Framed(client) => {
                if let Some(ipc) = &mut self.ipc {
                    ipc.push_error(client, &failure.message);
                }
            }
            ConnectReply::Courier(key) => self.courier_failed(&key, &failure),
        }
    }

    /// Gives up the connects of a client: that of one request, or all. Gives their number.
    pub(crate) fn cancel_connects(&mut self, client: ClientId, request: Option<u32>) -> usize {
        let its = |c: &Connecting| match &c.reply {
            ConnectReply::Fd(of, number) => *of == client && request.is_none_or(|wanted| wanted == *number),
            ConnectReply::Framed(of) => *of == client && request.is_none(),
            _ => false,
        };
        let given_up: Vec<StreamId> = self.connecting.iter().filter(|(_, c)| its(c)).map(|(id, _)| *id).collect();
        for id in &given_up {
            let now = self.now();
            self.stack.abort(now, *id);
            if let Some(c) = self.connecting.remove(id) {
                self.connect_failed(c.reply, Failure::new(Code::ConnectionReset, "the connect was cancelled"));
            }
        }
        given_up.len()
    }

    pub(super) fn time_out_connects(&mut self, wall: Instant) {
        let late: Vec<StreamId> =
            self.connecting.iter().filter(|(_, c)| c.deadline <= wall).map(|(id, _)| *id).collect();
        for id in late {
            let now = self.now();
            self.stack.abort(now, id);
            if let Some(c) = self.connecting.remove(&id) {
                let text = format!("{} did not answer on port {} in time", c.who, c.port);
                self.connect_failed(c.reply, Failure::new(Code::Timeout, text).hint("pilotctl ping; pilotctl peers"));
            }
        }
    }

    fn connect_progressed(&mut self, id: StreamId) {
        let info = self.stack.stream_info(id);
        let ended = info.and_then(|i| i.end);
        let connected = info.is_some_and(|i| i.connected);
        if !connected && ended.is_none() && info.is_some() {
            return;
        }
        let Some(connecting) = self.connecting.remove(&id) else { return };
        if !connected {
            let failure = Failure::from_end(ended.unwrap_or(StreamEnd::Reset), &connecting.who, connecting.port);
            let now = self.now();
            self.stack.close(now, id);
            return self.connect_failed(connecting.reply, failure);
        }
        let (local, peer) = self.ends(id);
        match connecting.reply {
            ConnectReply::App(sender) => {
                let shared = Shared::new(id);
                if sender.send(Ok(Accepted { shared: shared.clone(), local, peer })).is_ok() {
                    self.owners.insert(id, Owner::App(LoopEnd::new(shared)));
                } else {
                    self.close(id); // nobody waits any more
                }
            }
            ConnectReply::Fd(client, request) => self.hand_out(id, client, request),
            ConnectReply::Framed(client) => {
                let connection = id.number() as u32;
                self.owners.insert(id, Owner::Framed { client, connection });
                if let Some(ipc) = &mut self.ipc {
                    ipc.push_dialed(client, connection);
                }
            }
            ConnectReply::Courier(key) => drop(self.owners.insert(id, Owner::Courier(key))),
        }
        self.look(id);
    }

    // Handing out descriptors.

    fn hand_out(&mut self, id: StreamId, client: ClientId, request: u32) {
        let pair =
            socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None);
        let Ok((ours, theirs)) = pair else {
            self.close(id);
            let failure = Failure::new(Code::Full, "no file descriptors are left");
            return self.reply(Reply::Ipc(client, request), Err(failure));
        };
        let token = self.new_token();
        let inode = rustix::fs::fstat(&theirs).map_or(0, |stat| stat.st_ino);
        let registered =
            self.registry().register(&mut SourceFd(&ours.as_raw_fd()), token, Interest::READABLE | Interest::WRITABLE);
        if registered.is_err() {
            self.close(id);
            return self.reply(Reply::Ipc(client, request), Err(Failure::new(Code::Full, "too many streams")));
        }
        self.tokens.insert(token, id);
        self.owners.insert(id, Owner::Fd { stream: FdStream::new(ours), token, client, inode });
        let data = self.describe(id);
        self.reply_with_fd(client, request, data, theirs);
        self.look(id);
    }

    pub(super) fn reply_with_fd(&mut self, client: ClientId, request: u32, data: Value, fd: OwnedFd) {
        // The other side blocks as its user expects of a socket; only our half is non-blocking.
        let _ = rustix::io::ioctl_fionbio(&fd, false);
        if let Some(ipc) = &mut self.ipc {
            ipc.reply_fd(client, request, &data, fd);
        }
    }

    pub(super) fn new_token(&mut self) -> Token {
        self.next_token += 1;
        Token(self.next_token)
    }

    /// How a handed-out stream ended, by the number of its descriptor's inode.
    pub(super) fn stream_end(&self, inode: u64) -> Result<Value, Failure> {
        let open = self.owners.values().any(|owner| matches!(owner, Owner::Fd { inode: i, .. } if *i == inode));
        let ended = self.ends.iter().rev().find(|(i, _)| *i == inode).map(|(_, end)| end.clone());
        match ended {
            _ if open => Ok(json!({"end": "open"})),
            Some(end) => Ok(end),
            None => Err(Failure::new(Code::NotFound, "that descriptor is no stream of this node")),
        }
    }

    pub(super) fn note_readiness(&mut self, token: Token, readable: bool, writable: bool) {
        if let Some(&id) = self.tokens.get(&token) {
            if let Some(Owner::Fd { stream, .. }) = self.owners.get_mut(&id) {
                stream.readable |= readable;
                stream.writable |= writable;
            }
            self.look(id);
        } else if let Some(&port) = self.datagram_tokens.get(&token) {
            self.datagrams_left.insert(port);
        } else if let Some(ipc) = &mut self.ipc {
            ipc.note_readiness(token, readable, writable);
        }
    }

    // Serving.

    /// Moves a stream's bytes, whoever has it.
    pub(super) fn serve(&mut self, id: StreamId) {
        if self.connecting.contains_key(&id) {
            return self.connect_progressed(id);
        }
        // Out of the table while it is served, so that serving may use everything else.
        let Some(mut owner) = self.owners.remove(&id) else { return };
        let keep = match &mut owner {
            Owner::App(end) => {
                let shared = end.shared().clone();
                self.serve_app(id, &shared)
            }
            Owner::Fd { stream, token, client, inode } => self.serve_fd(id, stream, (*token, *client, *inode)),
            Owner::Service(service) => self.serve_service(id, service),
            Owner::Courier(key) => {
                let key = *key;
                self.serve_courier(id, &key)
            }
            Owner::Framed { client, connection } => self.serve_framed(id, *client, *connection),
            Owner::Waiting | Owner::Held(_) => true,
        };
        if keep {
            self.owners.insert(id, owner);
        }
    }

    /// False when the application is gone and everything it wrote has left.
    fn serve_app(&mut self, id: StreamId, shared: &Shared) -> bool {
        shared.loop_looks();
        let failed_as = self.stack.stream_info(id).and_then(|i| i.end).map(|end| self.failure_of(id, end));
        let mut changed = self.take_outgoing(id, shared);
        let (deaf, room) = {
            let queues = shared.lock();
            (queues.deaf, QUEUE_MAX.saturating_sub(queues.incoming.len()))
        };
        // Read without the lock, handed over at once.
        let (chunks, end) = self.read_chunks(id, room, deaf, shared);
        let mut queues = shared.lock();
        changed |= !chunks.is_empty();
        chunks.into_iter().for_each(|chunk| queues.incoming.push(chunk));
        match end {
            Recv::Fin => {
                changed |= !queues.fin;
                queues.fin = true;
            }
            Recv::Ended(end) if queues.failure.is_none() => {
                changed = true;
                queues.failure = Some(failed_as.unwrap_or_else(|| Failure::from_end(end, "the peer", 0)));
            }
            _ => {}
        }
        let over = queues.gone && queues.outgoing.is_empty();
        drop(queues);
        if changed {
            shared.notify();
        }
        if over {
            let now = self.now();
            self.stack.close(now, id);
        }
        !over
    }

    /// Moves what the application wrote into the stream; true when there is room again.
    fn take_outgoing(&mut self, id: StreamId, shared: &Shared) -> bool {
        let mut changed = false;
        loop {
            let mut queues = shared.lock();
            let Some(mut chunk) = queues.outgoing.pop() else {
                if queues.shut {
                    self.stack.shutdown_write(id);
                }
                return changed;
            };
            drop(queues);
            let sent = self.stack.send(id, chunk.rest());
            changed |= !matches!(sent, Ok(0));
            match sent {
                Ok(n) if n == chunk.rest().len() => shared.lock().spare.give(chunk.into_buffer()),
                Ok(n) => {
                    chunk.consume(n);
                    shared.lock().outgoing.put_back(chunk);
                    return changed;
                }
                // It will never be sent; why is told with the stream's end.
                Err(_) => shared.lock().outgoing.clear(),
            }
        }
    }

    /// Up to `room` bytes that have arrived, and why there are not more. What a deaf application would get is dropped.
    fn read_chunks(&mut self, id: StreamId, room: usize, deaf: bool, shared: &Shared) -> (Vec<Vec<u8>>, Recv) {
        let (mut chunks, mut left) = (Vec::new(), room);
        while left > 0 {
            let result = self.stack.recv_with(id, |bytes| {
                let n = bytes.len().min(left).min(CHUNK_LEN);
                if !deaf {
                    let buffer = if n < CHUNK_LEN / 2 { None } else { shared.lock().spare.take() };
                    chunks.push(Spare::fill(buffer, &bytes[..n]));
                }
                n
            });
            match result {
                Recv::Data(_) if deaf => {}
                Recv::Data(n) => left -= n,
                end => return (chunks, end),
            }
        }
        (chunks, Recv::Blocked)
    }

    fn serve_fd(&mut self, id: StreamId, stream: &mut FdStream, of: (Token, ClientId, u64)) -> bool {
        let (token, client, inode) = of;
        let data = match stream.pump(&mut self.stack, id) {
            Pumped::Open => return true,
            Pumped::Finished => json!({"stream": id.number(), "end": "fin"}),
            Pumped::Broken(end) => {
                let failure = self.failure_of(id, end);
                json!({"stream": id.number(), "end": "error", "code": failure.code.name(), "message": failure.message, "hint": failure.hint})
            }
        };
        // The descriptor is closed right after; a failure here leaves nothing behind.
        let _ = self.registry().deregister(&mut SourceFd(&stream.fd.as_raw_fd()));
        self.tokens.remove(&token);
        let now = self.now();
        self.stack.close(now, id);
        if let Some(ipc) = &mut self.ipc {
            ipc.push_stream_end(client, &data);
        }
        self.ends.push_back((inode, data));
        if self.ends.len() > ENDS_MAX {
            self.ends.pop_front();
        }
        false
    }

    fn serve_service(&mut self, id: StreamId, service: &mut Service) -> bool {
        let info = self.stack.stream_info(id);
        let sender = info.and_then(|i| self.stack.endpoint().identity_of(i.peer));
        let name = sender.map(|key| key.fingerprint()).unwrap_or_default();
        let Served { deliveries, files, published, finished, broken } = service.serve(&mut self.stack, id, &name);
        if let Some(sender) = sender {
            let (_, peer) = self.ends(id);
            for (ticket, delivery) in deliveries {
                let (kind, len) = (delivery.kind, delivery.body.len());
                let message = Message {
                    id: delivery.id.unwrap_or_else(crate::crypto::entropy),
                    sender,
                    addr: peer.addr,
                    kind,
                    at: wall_s(),
                    body: delivery.body,
                };
                self.submit(Job::Deliver(message), Then::Delivered { stream: id, ticket, kind, len });
            }
        }
        for job in files {
            let then = match &job {
                FileJob::Open { id: file, .. } | FileJob::End { id: file } => {
                    Then::File { stream: id, file: *file, len: 0 }
                }
                FileJob::Data { id: file, bytes, .. } => Then::File { stream: id, file: *file, len: bytes.len() },
                FileJob::Drop { .. } | FileJob::List => Then::Nothing,
            };
            self.submit(Job::File(job), then);
        }
        if service.is_subscriber() {
            self.subscribers.insert(id);
            for event in published {
                self.publish(Some(id), &event);
            }
        }
        if finished || broken {
            self.subscribers.remove(&id);
            let now = self.now();
            self.stack.close(now, id);
        }
        !(finished || broken)
    }

    fn serve_framed(&mut self, id: StreamId, client: ClientId, connection: u32) -> bool {
        let Some(ipc) = &mut self.ipc else { return false };
        let over = ipc.serve_framed(&mut self.stack, id, client, connection);
        if over {
            let now = self.now();
            self.stack.close(now, id);
        }
        !over
    }

    /// The stream that an official client knows under this number.
    pub(crate) fn framed_stream(&self, client: ClientId, connection: u32) -> Option<StreamId> {
        let is = |owner: &Owner| matches!(owner, Owner::Framed { client: c, connection: n } if (*c, *n) == (client, connection));
        // The number is that of the stream, until there have been more streams than numbers.
        let likely = StreamId::from_number(connection.into());
        if self.owners.get(&likely).is_some_and(is) {
            return Some(likely);
        }
        self.owners.iter().find(|(_, owner)| is(owner)).map(|(id, _)| *id)
    }

    /// The application is done with a stream; what it wrote last may still be in its queue.
    pub(crate) fn close(&mut self, id: StreamId) {
        if let Some(Owner::App(end)) = self.owners.get(&id) {
            let mut queues = end.shared().lock();
            (queues.gone, queues.deaf) = (true, true);
            drop(queues);
            return self.look(id);
        }
        self.owners.remove(&id);
        let now = self.now();
        self.stack.close(now, id);
    }

    // Helpers.

    pub(crate) fn ends(&self, id: StreamId) -> (AddrPort, AddrPort) {
        let info = self.stack.stream_info(id);
        let key = info.and_then(|i| self.stack.endpoint().identity_of(i.peer));
        let addr = key.and_then(|key| self.stack.endpoint().trust().pin(&key)).map(|p| p.addr).unwrap_or_default();
        let (local_port, remote_port) = info.map_or((0, 0), |i| (i.local_port, i.remote_port));
        (AddrPort { addr: self.stack.endpoint().addr(), port: local_port }, AddrPort { addr, port: remote_port })
    }

    pub(crate) fn hostname_of(&self, addr: Addr) -> String {
        self.stack.endpoint().trust().pins().find(|p| p.addr == addr).map(|p| p.hostname.clone()).unwrap_or_default()
    }

    fn failure_of(&self, id: StreamId, end: StreamEnd) -> Failure {
        let (_, peer) = self.ends(id);
        let hostname = self.hostname_of(peer.addr);
        let who = if hostname.is_empty() { peer.addr.to_string() } else { hostname };
        Failure::from_end(end, &who, peer.port)
    }
}

/// What people call a pinned peer.
pub(crate) fn name_of(pin: &pilot_core::trust::Pin) -> String {
    if pin.hostname.is_empty() { pin.addr.to_string() } else { pin.hostname.clone() }
}
