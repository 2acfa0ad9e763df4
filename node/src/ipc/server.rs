//! The room of IPC clients: the listening socket, the clients' connections, frames in and out.
//!
//! 1. Readiness marks a client ([`Ipc::readiness`]).
//! 2. [`Ipc::receive`] reads marked clients and gives the frames that are complete; the event loop runs their requests.
//! 3. Frames to clients leave at once while their sockets have room, and wait in bounded queues otherwise.
//! 4. [`Ipc::take_closed`] and [`Ipc::take_drained`] name the clients that are gone, and those that read again.

use crate::answer::Answer;
use crate::context::Context;
use crate::effect::Answered;
use crate::failure::{Code, Failure};
use crate::frame_reader::FrameReader;
use crate::ipc::client_id::{ClientId, RequestNumber};
use crate::ipc::frame::{ANSWER, EVENT, REQUEST_WITH_FD, numbered, parse_frame};
use crate::ipc::official_frame;
use crate::ipc::passing::send_with_fd;
use crate::ipc::place;
use crate::node_event::Event;
use crate::platform::{keep_quiet, peer_is_ours, recv_with_fds};
use crate::token::{NUMBERS, Room};
use litemap::LiteMap;
use mio::net::{UnixListener, UnixStream};
use mio::{Interest, Registry, Token};
use pilot_core::{Addr, Instant};
use pilot_stack::{Recv, StreamId};
use rustix::io::Errno;
use serde::Serialize;
use std::collections::{BTreeSet, VecDeque};
use std::io::{self, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Most clients. The official daemon serves 1024; here each program that waits for a connect is one.
const CLIENTS_MAX: usize = 8192;
/// Most bytes that wait for a client; a client that lets more wait is dropped. Unit: bytes.
const OUTGOING_MAX: usize = 64 << 20;
/// Bytes of one client that wait for its official streams; at the limit its frames are not read. Unit: bytes.
const UNSENT_MAX: usize = 8 << 20;
/// Bytes that wait for an official client; above the limit its streams are not read. Unit: bytes.
const FRAMED_WAITING_MAX: usize = 1 << 20;
/// Most bytes that wait for a client that watches; further events are missed, and their number is told. Unit: bytes.
const EVENTS_WAITING_MAX: usize = 4 << 20;
/// Bytes that wait for an official client; at the limit it misses datagrams. Unit: bytes.
const DATAGRAMS_WAITING_MAX: usize = 1 << 20;
/// Descriptors of a client that wait for the rest of their requests; further ones are closed. Own choice: each request has at
/// most one.
const FDS_MAX: usize = 4;
/// Refusals of clients that are told in one turn.
const REFUSALS_MAX: usize = 16;
/// Bytes read from one client at once. Unit: bytes.
const READ_PER_TURN: usize = 4 << 20;
/// Frames of one client that are given at once. Own choice: a frame takes some 10 µs, so that the others wait for a client that
/// has sent many for less than a millisecond.
const FRAMES_PER_CLIENT: usize = 64;
/// Frames of all clients that are given at once; the clients beyond are first the next time. Own choice: some 10 ms.
const FRAMES_PER_TURN: usize = 1024;
/// Pause of accepting while no descriptor is left. Own choice: one that becomes free is found before a program gives up.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// An answer on its way to a client.
#[derive(Serialize)]
#[serde(tag = "status", rename_all = "lowercase")]
enum Envelope<'a> {
    Ok {
        data: &'a Answer,
        /// A descriptor travels beside the frame.
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        fd: bool,
    },
    Error(&'a Failure),
}

/// One frame of a client.
pub(crate) struct Frame {
    pub(crate) client: ClientId,
    pub(crate) command: u8,
    pub(crate) payload: Vec<u8>,
    /// The descriptor beside a request that says so.
    pub(crate) fd: Option<OwnedFd>,
}

/// The clients of the node's socket.
pub(crate) struct Ipc {
    registry: Registry,
    /// With its path; `None`: clients come from this process only.
    listener: Option<(UnixListener, PathBuf)>,
    listener_ready: bool,
    /// Clients that are accepted next had come before [`Ipc::mark`].
    accepts_marked: bool,
    /// No descriptor was left for a client that waits: accepting goes on then.
    paused_until: Option<Instant>,
    clients: LiteMap<ClientId, Box<Client>>,
    /// [`CLIENTS_MAX`], or fewer in tests.
    clients_max: usize,
    last: usize,
    /// Clients that may have frames to give.
    ready: BTreeSet<ClientId>,
    /// The client whose frames are given first.
    first: ClientId,
    watchers: BTreeSet<ClientId>,
    closed: BTreeSet<ClientId>,
    drained: BTreeSet<ClientId>,
    /// Why clients were refused or dropped, for the log; at most [`REFUSALS_MAX`].
    refused: Vec<&'static str>,
}

struct Client {
    stream: UnixStream,
    readable: bool,
    writable: bool,
    /// Nothing more is read; the client goes once its complete frames are given.
    closed: bool,
    /// Nothing that is written reaches the client any more.
    mute: bool,
    incoming: FrameReader,
    /// Complete frames may wait in `incoming`; nothing is read before they are given.
    behind: bool,
    /// Times that `incoming` must still run empty before everything is given that was written before [`Ipc::mark`].
    marked: u8,
    /// Descriptors that have come, in the order of the requests that say so; at most [`FDS_MAX`].
    fds: VecDeque<OwnedFd>,
    outgoing: VecDeque<(Vec<u8>, Option<OwnedFd>)>,
    /// Bytes of the first outgoing frame that have left.
    sent: usize,
    outgoing_len: usize,
    /// Bytes that an official client wants to send, by connection.
    unsent: LiteMap<u32, VecDeque<u8>>,
    unsent_len: usize,
    /// Official connections of which the client was told the end.
    ended: Vec<u32>,
    /// Official connections that the client has closed while bytes of theirs were unsent.
    closing: Vec<u32>,
    /// The client gets datagrams, as every official one does, also one that has said nothing yet; ours ask for a port of their
    /// own.
    official: bool,
    /// The request under which the client watches events, and the topics of the event stream that it wants.
    watches: Option<(RequestNumber, Option<String>)>,
    /// Events that the client has missed.
    missed: u64,
    /// Stream bytes wait because the client did not read.
    was_full: bool,
}

impl Ipc {
    /// Binds the socket (mode 0600).
    ///
    /// # Errors
    /// As [`place::bind`].
    pub(crate) fn bind(path: &Path, registry: Registry) -> Result<Self, Failure> {
        let error = |e: io::Error| Failure::new(Code::Internal, format!("{}: {e}", path.display()));
        let mut listener = place::bind(path)?;
        // Credentials refuse the clients that connect before this. (An umask would be every thread's.)
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).map_err(error)?;
        registry.register(&mut listener, Room::Ipc.token(0), Interest::READABLE).map_err(error)?;
        Ok(Self { listener: Some((listener, path.into())), listener_ready: true, ..Self::private(registry) })
    }

    /// Without a socket that other processes could find.
    pub(crate) const fn private(registry: Registry) -> Self {
        Self {
            registry,
            listener: None,
            listener_ready: false,
            accepts_marked: false,
            paused_until: None,
            clients: LiteMap::new(),
            clients_max: CLIENTS_MAX,
            last: 0,
            ready: BTreeSet::new(),
            first: ClientId(0),
            watchers: BTreeSet::new(),
            closed: BTreeSet::new(),
            drained: BTreeSet::new(),
            refused: Vec::new(),
        }
    }

    /// The node has ended: the socket's file goes.
    pub(crate) fn end(self) {
        if let Some((_, path)) = &self.listener {
            // Another process may have removed it; then there is nothing to do.
            let _ = std::fs::remove_file(path);
        }
    }

    pub(crate) fn readiness(&mut self, token: Token, readable: bool, writable: bool) {
        if token == Room::Ipc.token(0) {
            self.listener_ready = true;
            return;
        }
        let id = ClientId(Room::Ipc.number(token) as u64);
        let Some(client) = self.clients.get_mut(&id) else { return };
        client.readable |= readable;
        client.writable |= writable;
        if readable {
            self.ready.insert(id);
        }
        if writable {
            client.write();
            self.settle(id);
        }
    }

    /// False in most turns of a busy node: no client has done anything, and none is owed anything.
    pub(crate) fn has_news(&self) -> bool {
        self.has_more() || !self.closed.is_empty() || !self.drained.is_empty() || !self.refused.is_empty()
    }

    /// True while a client may have more to give without further readiness.
    pub(crate) fn has_more(&self) -> bool {
        self.listener_ready || !self.ready.is_empty()
    }

    /// Begins to ask whether clients have been heard: what they have written before now, as far as the system has told.
    pub(crate) fn mark(&mut self) {
        self.accepts_marked = self.listener_ready;
        for id in &self.ready {
            if let Some(client) = self.clients.get_mut(id) {
                client.marked = 1 + u8::from(client.behind);
            }
        }
    }

    /// True once everything was given that clients had written before [`Ipc::mark`], however much they write since.
    pub(crate) fn has_heard(&self) -> bool {
        let is_heard = |id: &ClientId| self.clients.get(id).is_none_or(|client| client.marked == 0);
        !self.accepts_marked && self.ready.iter().all(is_heard)
    }

    /// When accepting goes on after a pause.
    pub(crate) const fn poll_timeout(&self) -> Option<Instant> {
        self.paused_until
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        if self.paused_until.is_some_and(|at| at <= now) {
            self.paused_until = None;
            self.listener_ready = true;
        }
    }

    fn accept(&mut self, now: Instant) {
        while self.listener_ready {
            let Some((listener, _)) = &self.listener else {
                self.listener_ready = false;
                break;
            };
            match listener.accept() {
                Ok((stream, _)) if peer_is_ours(&stream) => self.add(stream, true),
                Ok(_) => self.note_refusal("another_user"), // dropping the stream closes it
                Err(e) if matches!(e.kind(), io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted) => {}
                Err(e) => {
                    if e.kind() != io::ErrorKind::WouldBlock {
                        // The client goes on waiting, and its arrival is not told again.
                        self.note_refusal("no_descriptors");
                        self.paused_until = Some(now + ACCEPT_PAUSE);
                    }
                    self.listener_ready = false;
                }
            }
        }
        self.accepts_marked = false;
    }

    fn note_refusal(&mut self, reason: &'static str) {
        if self.refused.len() < REFUSALS_MAX {
            self.refused.push(reason);
        }
    }

    /// Why clients were refused or dropped since the last call.
    pub(crate) fn take_refused(&mut self) -> Vec<&'static str> {
        std::mem::take(&mut self.refused)
    }

    /// Serves another client, unless there are [`CLIENTS_MAX`]; then its socket is closed. `may_be_official`: until the client
    /// asks in our framing.
    pub(crate) fn add(&mut self, mut stream: UnixStream, may_be_official: bool) {
        if self.clients.len() >= self.clients_max {
            return self.note_refusal("too_many_clients");
        }
        let id = loop {
            self.last = self.last % (NUMBERS - 1) + 1; // 0 is the listener
            let id = ClientId(self.last as u64);
            if !self.clients.contains_key(&id) {
                break id;
            }
        };
        keep_quiet(&stream);
        let token = Room::Ipc.token(self.last);
        if self.registry.register(&mut stream, token, Interest::READABLE | Interest::WRITABLE).is_ok() {
            let mut client = Client::new(stream, may_be_official);
            client.marked = self.accepts_marked.into();
            self.clients.insert(id, Box::new(client));
            self.ready.insert(id);
        }
    }

    /// Reads the clients that have something, and gives their complete frames, in the order of each client: at most
    /// [`FRAMES_PER_CLIENT`] of each and some [`FRAMES_PER_TURN`] of all. [`Ipc::has_more`] tells whether others wait.
    pub(crate) fn receive(&mut self, now: Instant) -> Vec<Frame> {
        self.accept(now);
        let mut frames = Vec::new();
        let ready = std::mem::take(&mut self.ready);
        let mut order = ready.range(self.first..).chain(ready.range(..self.first));
        for &id in order.by_ref() {
            self.receive_from(id, &mut frames);
            if frames.len() >= FRAMES_PER_TURN {
                break;
            }
        }
        if let Some(&id) = order.next() {
            self.first = id;
            self.ready.insert(id);
            self.ready.extend(order);
        }
        debug_assert!(frames.len() < FRAMES_PER_TURN + FRAMES_PER_CLIENT);
        frames
    }

    fn receive_from(&mut self, id: ClientId, frames: &mut Vec<Frame>) {
        let Some(client) = self.clients.get_mut(&id) else { return };
        // A client at `UNSENT_MAX` is read again when its official streams have sent some bytes.
        if client.unsent_len >= UNSENT_MAX {
            return;
        }
        if !std::mem::replace(&mut client.behind, true) {
            client.read();
        }
        let most = frames.len() + FRAMES_PER_CLIENT;
        while client.behind && frames.len() < most {
            match client.incoming.next(parse_frame) {
                Ok(Some((command, payload))) => {
                    let fd = if command == REQUEST_WITH_FD { client.fds.pop_front() } else { None };
                    frames.push(Frame { client: id, command, payload, fd });
                }
                Ok(None) => client.behind = false,
                Err(len) => {
                    let text = format!("malformed frame: a length of {len} bytes");
                    client.send(official_frame::error(&text), None);
                    client.cut_off();
                }
            }
        }
        if !client.behind {
            client.marked = client.marked.saturating_sub(1);
        }
        if client.behind || client.readable {
            self.ready.insert(id);
        }
        self.settle(id);
    }

    /// Notes that a client is gone, or has read everything, after bytes went either way.
    fn settle(&mut self, id: ClientId) {
        let Some(client) = self.clients.get_mut(&id) else { return };
        if client.outgoing_len == 0 && std::mem::take(&mut client.was_full) {
            self.drained.insert(id);
        }
        if client.mute && client.readable && !client.closed {
            self.ready.insert(id); // what it has said before its end counts
        }
        if client.closed && !client.behind {
            let is_slow = client.outgoing_len > OUTGOING_MAX;
            if self.closed.insert(id) && is_slow {
                self.note_refusal("slow");
            }
        }
    }

    /// The clients that are gone, which this forgets.
    pub(crate) fn take_closed(&mut self) -> BTreeSet<ClientId> {
        let closed = std::mem::take(&mut self.closed);
        for id in &closed {
            self.clients.remove(id);
            self.ready.remove(id);
            self.watchers.remove(id);
        }
        debug_assert!(self.watchers.len() <= self.clients.len(), "a watcher is a client");
        closed
    }

    /// The official clients that have read everything after their streams had to wait.
    pub(crate) fn take_drained(&mut self) -> BTreeSet<ClientId> {
        std::mem::take(&mut self.drained)
    }

    // Output.

    pub(crate) fn send(&mut self, id: ClientId, frame: Vec<u8>) {
        self.send_with(id, frame, None);
    }

    fn send_with(&mut self, id: ClientId, frame: Vec<u8>, fd: Option<OwnedFd>) {
        if let Some(client) = self.clients.get_mut(&id) {
            client.send(frame, fd);
            self.settle(id);
        }
    }

    pub(crate) fn reply(&mut self, id: ClientId, request: RequestNumber, answer: Answered) {
        let (envelope, blob) = match &answer {
            Ok((data, blob)) => (Envelope::Ok { data, fd: false }, &blob[..]),
            Err(failure) => (Envelope::Error(failure), &[][..]),
        };
        self.send(id, numbered(ANSWER, request.0, &envelope, blob));
    }

    /// Answers with a descriptor, which blocks at the client's end as its user expects of a socket.
    pub(crate) fn reply_descriptor(&mut self, id: ClientId, request: RequestNumber, data: &Answer, fd: OwnedFd) {
        // Only our half of the pair is non-blocking.
        let _ = rustix::io::ioctl_fionbio(&fd, false);
        let frame = numbered(ANSWER, request.0, &Envelope::Ok { data, fd: true }, &[]);
        self.send_with(id, frame, Some(fd));
    }

    // Events.

    /// Tells a client of events from now on, and of published ones with a topic that matches `topics`.
    pub(crate) fn watch(&mut self, id: ClientId, request: RequestNumber, topics: Option<String>) {
        if let Some(client) = self.clients.get_mut(&id) {
            client.watches = Some((request, topics));
            self.watchers.insert(id);
        }
    }

    pub(crate) fn is_watched(&self) -> bool {
        !self.watchers.is_empty()
    }

    /// Sends an event to the clients that watch, if `wants` accepts their topics; gives their number.
    pub(crate) fn push_event(&mut self, event: &Event, blob: &[u8], wants: impl Fn(Option<&str>) -> bool) -> usize {
        let mut count = 0;
        for id in self.watchers.clone() {
            let Some(client) = self.clients.get_mut(&id) else { continue };
            let Some((request, topics)) = &client.watches else { continue };
            if !wants(topics.as_deref()) {
                continue;
            }
            let request = request.0;
            if client.outgoing_len + blob.len() > EVENTS_WAITING_MAX {
                client.missed += 1;
                continue;
            }
            if client.missed > 0 {
                let note = Event::Missed { count: std::mem::take(&mut client.missed) };
                client.send(numbered(EVENT, request, &note, &[]), None);
            }
            client.send(numbered(EVENT, request, event, blob), None);
            count += 1;
            self.settle(id);
        }
        count
    }

    // Official clients.

    /// Gives a datagram to every official client. Source: `docs/official-abi.md`, "IPC".
    pub(crate) fn push_datagram(&mut self, from: Addr, source_port: u16, port: u16, payload: &[u8]) {
        let official: Vec<ClientId> = self.clients.iter().filter(|(_, c)| c.official).map(|(id, _)| *id).collect();
        if official.is_empty() {
            return;
        }
        let bytes = official_frame::datagram(from, source_port, port, payload);
        for id in official {
            // A client that does not read misses datagrams, as on a full socket.
            if self.clients.get(&id).is_some_and(|c| c.outgoing_len < DATAGRAMS_WAITING_MAX) {
                self.send(id, bytes.clone());
            }
        }
    }

    /// The client speaks our framing.
    pub(crate) fn mark_ours(&mut self, id: ClientId) {
        if let Some(client) = self.clients.get_mut(&id) {
            client.official = false;
        }
    }

    /// Keeps bytes for an official stream until TCP takes them.
    pub(crate) fn keep_unsent(&mut self, id: ClientId, connection: u32, bytes: &[u8]) {
        if let Some(client) = self.clients.get_mut(&id).filter(|client| !client.closing.contains(&connection)) {
            client.unsent_len += bytes.len();
            client.unsent.entry(connection).or_default().extend(bytes);
        }
    }

    /// Moves an official stream's bytes; true when the stream broke, or when the client has closed it and everything is sent.
    pub(crate) fn serve_framed(&mut self, cx: &mut Context, stream: StreamId, id: ClientId, connection: u32) -> bool {
        let Some(client) = self.clients.get_mut(&id) else { return true };
        let was_stopped = client.unsent_len >= UNSENT_MAX;
        client.send_unsent(cx, stream, connection);
        if was_stopped && client.unsent_len < UNSENT_MAX {
            self.ready.insert(id);
        }
        if client.closing.contains(&connection) {
            let is_over = client.unsent.get(&connection).is_none_or(VecDeque::is_empty);
            if is_over {
                client.forget(connection);
            }
            return is_over;
        }
        let is_broken = client.receive_framed(cx, stream, connection);
        self.settle(id);
        is_broken
    }

    /// An official client has closed a stream: [`Ipc::serve_framed`] sends what is unsent, and then tells that it is over.
    pub(crate) fn close_framed(&mut self, id: ClientId, connection: u32) {
        if let Some(client) = self.clients.get_mut(&id)
            && !client.closing.contains(&connection)
        {
            client.closing.push(connection);
        }
    }

    /// Forgets an official connection that has no stream any more.
    pub(crate) fn forget_framed(&mut self, id: ClientId, connection: u32) {
        if let Some(client) = self.clients.get_mut(&id) {
            client.forget(connection);
            self.ready.insert(id);
        }
    }
}

impl Client {
    const fn new(stream: UnixStream, official: bool) -> Self {
        Self {
            stream,
            readable: true,
            writable: true,
            closed: false,
            mute: false,
            incoming: FrameReader::new(),
            behind: false,
            marked: 0,
            fds: VecDeque::new(),
            outgoing: VecDeque::new(),
            sent: 0,
            outgoing_len: 0,
            unsent: LiteMap::new(),
            unsent_len: 0,
            ended: Vec::new(),
            closing: Vec::new(),
            official,
            watches: None,
            missed: 0,
            was_full: false,
        }
    }

    fn forget(&mut self, connection: u32) {
        let unsent = self.unsent.remove(&connection).map_or(0, |u| u.len());
        debug_assert!(self.unsent_len >= unsent);
        self.unsent_len -= unsent;
        self.ended.retain(|c| *c != connection);
        self.closing.retain(|c| *c != connection);
    }

    fn read(&mut self) {
        let mut buffer = [0; 64 * 1024];
        let mut taken = 0;
        while self.readable && !self.closed && taken < READ_PER_TURN && self.unsent_len < UNSENT_MAX {
            match recv_with_fds(&self.stream, &mut buffer, &mut self.fds) {
                Ok(0) => (self.closed, self.readable) = (true, false),
                Ok(n) => {
                    self.incoming.extend(&buffer[..n]);
                    taken += n;
                    self.fds.truncate(FDS_MAX);
                }
                Err(Errno::AGAIN) => self.readable = false,
                Err(Errno::INTR) => {}
                Err(_) => (self.closed, self.readable) = (true, false),
            }
        }
    }

    fn send(&mut self, frame: Vec<u8>, fd: Option<OwnedFd>) {
        if self.mute {
            return;
        }
        self.outgoing_len += frame.len();
        self.outgoing.push_back((frame, fd));
        // A client that does not read loses its connection, and no other client loses anything.
        if self.outgoing_len > OUTGOING_MAX {
            self.cut_off();
        }
        self.write();
    }

    /// The client goes, with what it has sent.
    fn cut_off(&mut self) {
        (self.closed, self.readable, self.behind) = (true, false, false);
        self.incoming.clear();
    }

    fn write(&mut self) {
        while self.writable
            && let Some((frame, fd)) = self.outgoing.front_mut()
        {
            let rest = &frame[self.sent..];
            let result = match fd.take() {
                None => self.stream.write(rest),
                Some(passed) => {
                    let result = send_with_fd(&self.stream, rest, passed.as_fd());
                    if result.is_err() {
                        *fd = Some(passed);
                    }
                    result
                }
            };
            match result {
                Ok(n) => {
                    self.sent += n;
                    self.outgoing_len -= n;
                    if self.sent == frame.len() {
                        self.outgoing.pop_front();
                        self.sent = 0;
                    }
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => self.writable = false,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => {
                    // The client has ended; reading finds what it said before.
                    (self.mute, self.readable) = (true, true);
                    self.outgoing.clear();
                    (self.outgoing_len, self.sent) = (0, 0);
                }
            }
        }
        debug_assert_eq!(self.outgoing.is_empty(), self.outgoing_len == 0);
    }

    fn send_unsent(&mut self, cx: &mut Context, stream: StreamId, connection: u32) {
        let Some(unsent) = self.unsent.get_mut(&connection) else { return };
        while !unsent.is_empty() {
            let (front, _) = unsent.as_slices();
            match cx.stack.send(stream, front) {
                Ok(0) => break,
                Ok(n) => {
                    unsent.drain(..n);
                    self.unsent_len -= n;
                }
                Err(_) => {
                    self.unsent_len -= unsent.len();
                    unsent.clear();
                }
            }
        }
    }

    /// Frames the bytes that have arrived; true when the stream broke.
    fn receive_framed(&mut self, cx: &mut Context, stream: StreamId, connection: u32) -> bool {
        let mut buffer = [0; 16 * 1024];
        loop {
            if self.outgoing_len > FRAMED_WAITING_MAX {
                self.was_full = true;
                return false;
            }
            match cx.stack.recv(stream, &mut buffer) {
                Recv::Data(n) => self.send(official_frame::received(connection, &buffer[..n]), None),
                Recv::Blocked => return false,
                end @ (Recv::Fin | Recv::Ended(_)) => {
                    if !self.ended.contains(&connection) {
                        self.ended.push(connection);
                        self.send(official_frame::closed(connection), None);
                    }
                    return end != Recv::Fin;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
