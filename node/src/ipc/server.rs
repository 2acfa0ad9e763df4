//! Owns the listening socket and the clients' connections: frames in, frames and descriptors out.

use super::framing::{self, frame};
use super::{ANSWER, EVENT, REQUEST, STREAM_END, numbered, official, parse_numbered, take_frame};
use crate::command::Answer;
use crate::driver::{Driver, FIRST_FREE_TOKEN, Reply};
use crate::failure::{Code, Failure};
use crate::request::Request;
use litemap::LiteMap;
use mio::net::{UnixListener, UnixStream};
use mio::{Interest, Registry, Token};
use pilot_core::{Addr, AddrPort};
use pilot_stack::{Recv, Stack, StreamId};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg, sockopt};
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::io::{self, IoSlice, Read as _, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// A connection of another program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ClientId(usize);

const LISTENER: Token = Token(FIRST_FREE_TOKEN);
/// Clients' tokens: far from those of handed-out descriptors.
const FIRST_CLIENT: usize = 1 << 40;
/// Most clients. The official daemon has 1024; here each connect under way is one.
const CLIENTS_MAX: usize = 8192;
/// Bytes that may wait for a client that does not read; beyond it the client is dropped. Unit: bytes.
const OUTGOING_MAX: usize = 64 << 20;
/// Bytes for official streams that may wait before its frames are not read any more. Unit: bytes.
const UNSENT_MAX: usize = 8 << 20;
/// Received stream bytes are framed only while fewer than this wait for the client. Unit: bytes.
const FRAMED_WAITING_MAX: usize = 1 << 20;
/// Bytes that may wait for a client that watches events; what comes then it misses, and is told how much. Unit: bytes.
const EVENTS_WAITING_MAX: usize = 4 << 20;
/// Bytes that may wait for an official client before it misses datagrams. Unit: bytes.
const DATAGRAMS_WAITING_MAX: usize = 1 << 20;
/// Bytes read from one client in a turn. Unit: bytes.
const READ_PER_TURN: usize = 4 << 20;

pub(crate) struct Ipc {
    /// And where it is bound; `None`: clients come from this process only.
    listener: Option<(UnixListener, PathBuf)>,
    listener_ready: bool,
    clients: LiteMap<ClientId, Client>,
    next_client: usize,
}

struct Client {
    stream: UnixStream,
    readable: bool,
    writable: bool,
    closed: bool,
    incoming: Vec<u8>,
    outgoing: VecDeque<(Vec<u8>, Option<OwnedFd>)>,
    /// Bytes of the first outgoing frame that have left.
    sent: usize,
    outgoing_len: usize,
    /// Bytes that an official client wants to send, by connection.
    unsent: LiteMap<u32, VecDeque<u8>>,
    unsent_len: usize,
    /// Official connections whose end was told.
    ended: Vec<u32>,
    /// Wants datagrams, as every official client does, also one that says nothing; ours ask for a port of their own.
    official: bool,
    /// Under which request it watches events, and which topics of the event stream it wants.
    watches: Option<(u32, Option<String>)>,
    /// Events that it missed.
    missed: u64,
    was_full: bool,
}

impl Ipc {
    /// Binds the socket (mode 0600), replacing one that nobody serves.
    pub(crate) fn bind(path: &Path, registry: &Registry) -> Result<Self, Failure> {
        let error = |e: io::Error| Failure::new(Code::Internal, format!("{}: {e}", path.display()));
        if std::os::unix::net::UnixStream::connect(path).is_ok() {
            return Err(Failure::new(Code::Conflict, format!("a daemon already serves {}", path.display()))
                .hint("pilotctl daemon stop"));
        }
        match std::fs::remove_file(path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(error(e)),
            _ => {}
        }
        if let Some(dir) = path.parent() {
            std::fs::create_dir_all(dir).map_err(error)?;
        }
        let mut listener = UnixListener::bind(path).map_err(error)?;
        // Whoever connects before this is refused by its credentials. (An umask would be every thread's.)
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).map_err(error)?;
        registry.register(&mut listener, LISTENER, Interest::READABLE).map_err(error)?;
        Ok(Self { listener: Some((listener, path.into())), listener_ready: true, ..Self::private() })
    }

    /// Without a socket that others could find.
    pub(crate) const fn private() -> Self {
        Self { listener: None, listener_ready: false, clients: LiteMap::new(), next_client: FIRST_CLIENT }
    }

    pub(crate) fn end(mut self) {
        self.flush();
        if let Some((_, path)) = &self.listener {
            // Somebody else may have removed it; then there is nothing to do.
            let _ = std::fs::remove_file(path);
        }
    }

    pub(crate) fn note_readiness(&mut self, token: Token, readable: bool, writable: bool) {
        if token == LISTENER {
            self.listener_ready = true;
        } else if let Some(client) = self.clients.get_mut(&ClientId(token.0)) {
            client.readable |= readable;
            client.writable |= writable;
        }
    }

    fn accept(&mut self, registry: &Registry) {
        while self.listener_ready {
            let Some((listener, _)) = &self.listener else { return };
            match listener.accept() {
                // Dropping it closes it.
                Ok((stream, _)) if is_ours(&stream) => self.add(stream, registry, true),
                Ok(_) => {}
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                // Out of descriptors counts as "none waits": the next client's arrival tells again.
                Err(_) => self.listener_ready = false,
            }
        }
    }

    /// Serves another client, unless there are [`CLIENTS_MAX`]; then its socket is closed. `may_be_official`: until it asks in
    /// our way.
    pub(crate) fn add(&mut self, mut stream: UnixStream, registry: &Registry, may_be_official: bool) {
        if self.clients.len() >= CLIENTS_MAX {
            return;
        }
        let id = ClientId(self.next_client);
        self.next_client += 1;
        if registry.register(&mut stream, Token(id.0), Interest::READABLE | Interest::WRITABLE).is_ok() {
            self.clients.insert(id, Client::new(stream, may_be_official));
        }
    }

    /// The frames that have arrived.
    fn frames(&mut self) -> Vec<(ClientId, u8, Vec<u8>)> {
        let mut frames = Vec::new();
        for (id, client) in &mut self.clients {
            client.read();
            while client.unsent_len < UNSENT_MAX {
                match take_frame(&mut client.incoming) {
                    Ok(Some((command, payload))) => frames.push((*id, command, payload)),
                    Ok(None) => break,
                    Err(len) => {
                        client.send(official::error(&format!("malformed frame: a length of {len} bytes")), None);
                        client.closed = true;
                        client.incoming.clear();
                        break;
                    }
                }
            }
        }
        frames
    }

    fn flush(&mut self) {
        self.clients.iter_mut().for_each(|(_, client)| client.write());
    }

    fn take_closed(&mut self) -> Vec<ClientId> {
        let closed: Vec<ClientId> = self.clients.iter().filter(|(_, c)| c.closed).map(|(id, _)| *id).collect();
        for id in &closed {
            self.clients.remove(id);
        }
        closed
    }

    fn drained(&mut self) -> Vec<ClientId> {
        let drained = |c: &mut Client| c.outgoing_len == 0 && std::mem::take(&mut c.was_full);
        self.clients.iter_mut().filter_map(|(id, c)| drained(c).then_some(*id)).collect()
    }

    // Output.

    pub(crate) fn send(&mut self, client: ClientId, frame: Vec<u8>) {
        if let Some(client) = self.clients.get_mut(&client) {
            client.send(frame, None);
        }
    }

    pub(crate) fn reply(&mut self, client: ClientId, request: u32, answer: Answer) {
        let (json, blob) = match answer {
            Ok((data, blob)) => (json!({"status": "ok", "data": data}), blob),
            Err(f) => {
                (json!({"status": "error", "code": f.code.name(), "message": f.message, "hint": f.hint}), Vec::new())
            }
        };
        self.send(client, numbered(ANSWER, request, &json, &blob));
    }

    pub(crate) fn reply_fd(&mut self, client: ClientId, request: u32, data: &Value, fd: OwnedFd) {
        let frame = numbered(ANSWER, request, &json!({"status": "ok", "data": data, "fd": true}), &[]);
        if let Some(client) = self.clients.get_mut(&client) {
            client.send(frame, Some(fd));
        }
    }

    pub(crate) fn push_stream_end(&mut self, client: ClientId, data: &Value) {
        self.send(client, numbered(STREAM_END, 0, data, &[]));
    }

    // Events.

    pub(crate) fn watch(&mut self, client: ClientId, request: u32, topics: Option<String>) {
        if let Some(client) = self.clients.get_mut(&client) {
            client.watches = Some((request, topics));
        }
    }

    pub(crate) fn is_watched(&self) -> bool {
        self.clients.values().any(|c| c.watches.is_some())
    }

    /// Sends an event to the clients that watch and whose topics `wants` accepts; gives their number.
    pub(crate) fn push_event(&mut self, event: &Value, blob: &[u8], wants: impl Fn(Option<&str>) -> bool) -> usize {
        let mut count = 0;
        for (_, client) in &mut self.clients {
            let Some((request, topics)) = &client.watches else { continue };
            if !wants(topics.as_deref()) {
                continue;
            }
            let request = *request;
            if client.outgoing_len + blob.len() > EVENTS_WAITING_MAX {
                client.missed += 1;
                continue;
            }
            if client.missed > 0 {
                let note = json!({"event": "missed", "count": std::mem::take(&mut client.missed)});
                client.send(numbered(EVENT, request, &note, &[]), None);
            }
            client.send(numbered(EVENT, request, event, blob), None);
            count += 1;
        }
        count
    }

    // Official clients.

    pub(crate) fn push_error(&mut self, client: ClientId, text: &str) {
        self.send(client, official::error(text));
    }

    pub(crate) fn push_dialed(&mut self, client: ClientId, connection: u32) {
        self.send(client, frame(framing::DIAL_OK, &[&connection.to_be_bytes()]));
    }

    pub(crate) fn push_accept(&mut self, client: ClientId, port: u16, connection: u32, peer: AddrPort) {
        let parts: [&[u8]; 4] =
            [&port.to_be_bytes(), &connection.to_be_bytes(), &peer.addr.to_bytes(), &peer.port.to_be_bytes()];
        self.send(client, frame(framing::ACCEPT, &parts));
    }

    /// Official clients all see every datagram. Source: official-abi.md.
    pub(crate) fn push_datagram(&mut self, from: Addr, source_port: u16, port: u16, payload: &[u8]) {
        let parts: [&[u8]; 4] = [&from.to_bytes(), &source_port.to_be_bytes(), &port.to_be_bytes(), payload];
        let bytes = frame(framing::RECV_FROM, &parts);
        for (_, client) in self.clients.iter_mut().filter(|(_, c)| c.official) {
            // One that does not read misses them, as on a full socket.
            if client.outgoing_len < DATAGRAMS_WAITING_MAX {
                client.send(bytes.clone(), None);
            }
        }
    }

    fn mark_ours(&mut self, client: ClientId) {
        if let Some(client) = self.clients.get_mut(&client) {
            client.official = false;
        }
    }

    /// Keeps bytes for an official stream until TCP takes them.
    pub(crate) fn keep_unsent(&mut self, client: ClientId, connection: u32, bytes: &[u8]) {
        if let Some(client) = self.clients.get_mut(&client) {
            client.unsent_len += bytes.len();
            client.unsent.entry(connection).or_default().extend(bytes);
        }
    }

    /// Moves an official stream's bytes; true when it broke.
    pub(crate) fn serve_framed(&mut self, stack: &mut Stack, id: StreamId, client: ClientId, connection: u32) -> bool {
        let Some(client) = self.clients.get_mut(&client) else { return true };
        if let Some(unsent) = client.unsent.get_mut(&connection) {
            while !unsent.is_empty() {
                let (front, _) = unsent.as_slices();
                match stack.send(id, front) {
                    Ok(0) => break,
                    Ok(n) => {
                        unsent.drain(..n);
                        client.unsent_len -= n;
                    }
                    Err(_) => {
                        client.unsent_len -= unsent.len();
                        unsent.clear();
                    }
                }
            }
        }
        let mut buffer = [0; 16 * 1024];
        loop {
            if client.outgoing_len > FRAMED_WAITING_MAX {
                client.was_full = true;
                return false;
            }
            match stack.recv(id, &mut buffer) {
                Recv::Data(n) => client.send(frame(framing::RECV, &[&connection.to_be_bytes(), &buffer[..n]]), None),
                Recv::Blocked => return false,
                end @ (Recv::Fin | Recv::Ended(_)) => {
                    if !client.ended.contains(&connection) {
                        client.ended.push(connection);
                        client.send(frame(framing::CLOSE_OK, &[&connection.to_be_bytes()]), None);
                    }
                    return end != Recv::Fin;
                }
            }
        }
    }

    /// An official client closes a stream: what it wrote goes first.
    pub(crate) fn forget_framed(&mut self, client: ClientId, connection: u32) {
        if let Some(client) = self.clients.get_mut(&client) {
            let unsent = client.unsent.remove(&connection).map_or(0, |u| u.len());
            client.unsent_len -= unsent;
            client.ended.retain(|c| *c != connection);
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
            incoming: Vec::new(),
            outgoing: VecDeque::new(),
            sent: 0,
            outgoing_len: 0,
            unsent: LiteMap::new(),
            unsent_len: 0,
            ended: Vec::new(),
            official,
            watches: None,
            missed: 0,
            was_full: false,
        }
    }

    fn read(&mut self) {
        if !self.readable {
            return; // most clients, most of the time
        }
        let mut buffer = [0; 64 * 1024];
        let mut taken = 0;
        while self.readable && !self.closed && taken < READ_PER_TURN && self.unsent_len < UNSENT_MAX {
            match self.stream.read(&mut buffer) {
                Ok(0) => self.closed = true,
                Ok(n) => {
                    self.incoming.extend_from_slice(&buffer[..n]);
                    taken += n;
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => self.readable = false,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => self.closed = true,
            }
        }
    }

    fn send(&mut self, frame: Vec<u8>, fd: Option<OwnedFd>) {
        self.outgoing_len += frame.len();
        self.outgoing.push_back((frame, fd));
        // It does not read: it loses its connection, nobody else loses anything.
        self.closed |= self.outgoing_len > OUTGOING_MAX;
        self.write();
    }

    fn write(&mut self) {
        while self.writable
            && let Some((frame, fd)) = self.outgoing.front_mut()
        {
            let rest = &frame[self.sent..];
            let result = match fd.take() {
                None => self.stream.write(rest),
                Some(passed) => {
                    let result = send_with_fd(&self.stream, rest, &passed);
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
                    self.closed = true;
                    return;
                }
            }
        }
    }
}

fn send_with_fd(stream: &UnixStream, bytes: &[u8], fd: &OwnedFd) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let fds = [fd.as_fd()];
    ancillary.push(SendAncillaryMessage::ScmRights(&fds));
    Ok(sendmsg(stream, &[IoSlice::new(bytes)], &mut ancillary, SendFlags::NOSIGNAL)?)
}

/// The peer process runs as the same user (or as root). Source: interfaces.md (SO_PEERCRED).
fn is_ours(stream: &UnixStream) -> bool {
    let own = rustix::process::geteuid();
    sockopt::socket_peercred(stream).is_ok_and(|cred| cred.uid == own || cred.uid.is_root())
}

impl Driver {
    /// Takes what clients ask, sends what they are owed, and cleans up behind those who left.
    pub(crate) fn serve_ipc(&mut self) {
        let Some(mut ipc) = self.ipc.take() else { return };
        ipc.accept(self.registry());
        let frames = ipc.frames();
        self.ipc = Some(ipc);
        for (client, command, payload) in frames {
            self.handle_frame(client, command, &payload);
        }
        let Some(ipc) = &mut self.ipc else { return };
        ipc.flush();
        let (closed, drained) = (ipc.take_closed(), ipc.drained());
        for client in drained {
            self.framed_streams_of(client).into_iter().for_each(|id| self.look(id));
        }
        for client in closed {
            self.cancel_connects(client, None);
            self.drop_held(client);
            self.forget_waiting(client);
            for port in self.ports_of(client) {
                self.unlisten(port);
            }
            for id in self.framed_streams_of(client) {
                self.close(id);
            }
        }
    }

    /// Serves a socket whose other end this process has.
    pub(crate) fn attach(&mut self, socket: std::os::unix::net::UnixStream) {
        if socket.set_nonblocking(true).is_err() {
            return; // dropped, which its holder sees
        }
        if let Some(mut ipc) = self.ipc.take() {
            ipc.add(UnixStream::from_std(socket), self.registry(), false);
            self.ipc = Some(ipc);
        }
    }

    fn handle_frame(&mut self, client: ClientId, command: u8, payload: &[u8]) {
        if command != REQUEST {
            return self.handle_official(client, command, payload);
        }
        if let Some(ipc) = &mut self.ipc {
            ipc.mark_ours(client);
        }
        match parse_numbered(payload) {
            Some((number, json, blob)) => {
                let reply = Reply::Ipc(client, number);
                match Request::from_json(json) {
                    Ok(request) => self.op(request, blob.to_vec(), reply),
                    Err(failure) => self.reply(reply, Err(failure)),
                }
            }
            None => {
                if let Some(ipc) = &mut self.ipc {
                    ipc.push_error(client, "malformed request");
                }
            }
        }
    }
}
