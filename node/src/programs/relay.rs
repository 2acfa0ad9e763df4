//! Owns one connection with a filter: its client, its server once there is one, and the bytes on the way.
//!
//! 1. What the client says goes to the filter, which may want a server ([`Moved::Wants`]).
//! 2. When both stand, bytes go both ways through the filter. Each way reads no more while what was read before waits.
//! 3. A refusal ends the server's side at once. Its last bytes go to the client, and what the client still says is dropped,
//!    so that the bytes arrive.
//! 4. When the filter has nothing more to look at, the ends are given back ([`Moved::Raw`]).

use crate::failure::{Code, Failure};
use crate::frame_reader::FrameReader;
use crate::platform::send_now;
use crate::programs::authority::Authority;
use crate::programs::filter::{Filter, Out, Refusal};
use crate::programs::wire::Readiness;
use crate::streams::names::failure_of;
use crate::underlay::dial::Dial;
use pilot_core::Instant;
use pilot_stack::{CommandError, Recv, Stack, StreamId};
use rustix::io::Errno;
use rustix::net::{RecvFlags, Shutdown, recv, shutdown};
use std::os::fd::OwnedFd;

/// Bytes that one call reads, and most bytes that wait for the filter. Unit: bytes. Own choice.
const READ_LEN: usize = 16 * 1024;
/// Bytes behind the filter from which on no more are read. With a head, an agent's card and what one call reads, fewer than
/// [`RELAY_MAX`] wait. Unit: bytes. Own choice.
const BEHIND_MAX: usize = 32 * 1024;
/// Most bytes that wait in one direction, besides the rings. Unit: bytes. Source: `docs/programs.md`, "Limits".
pub(super) const RELAY_MAX: usize = 256 * 1024;
/// Rounds of one call. Own choice: a mebibyte each way, then others have their turn.
const ROUNDS_MAX: usize = 64;

/// A socket of a program.
pub(super) struct Plug {
    pub(super) fd: OwnedFd,
    readable: bool,
    writable: bool,
}

/// One end of the connection.
pub(super) enum End {
    Socket(Plug),
    Stream(StreamId),
}

/// The side of the server.
pub(super) enum Server {
    /// None is wanted yet.
    Nowhere,
    /// A stream to it is being opened.
    Opening,
    /// A host that is no node, of which the addresses are looked up.
    Naming(Authority),
    /// A connection to it is being opened.
    Dialing(Dial),
    Joined(End),
}

/// The state of the connection after its bytes were moved.
#[derive(Debug)]
pub(super) enum Moved {
    /// The connection goes on. True: there is more to move now.
    On(bool),
    /// The client wants this server. True: it waits for the stream before it says anything.
    Wants(Authority, bool),
    /// The filter has nothing more to look at.
    Raw,
    /// The server is not needed any more, be it for this reason.
    Closing(Option<String>),
    /// Both directions ended in order.
    Finished,
    /// An end broke, for this reason.
    Broken(String),
}

/// The outcome of reading.
enum Read {
    Data(usize),
    Blocked,
    Fin,
    Broken(Failure),
}

impl End {
    pub(super) const fn socket(fd: OwnedFd) -> Self {
        Self::Socket(Plug { fd, readable: true, writable: true })
    }

    fn note(&mut self, news: Readiness) {
        if let Self::Socket(plug) = self {
            plug.readable |= news.readable || news.is_ended || news.is_broken;
            plug.writable |= news.writable;
        }
    }

    fn read(&mut self, stack: &mut Stack, buffer: &mut [u8]) -> Read {
        match self {
            Self::Stream(id) => match stack.recv(*id, buffer) {
                Recv::Data(len) => Read::Data(len),
                Recv::Blocked => Read::Blocked,
                Recv::Fin => Read::Fin,
                Recv::Ended(end) => Read::Broken(failure_of(stack, *id, end)),
            },
            Self::Socket(plug) if !plug.readable => Read::Blocked,
            Self::Socket(plug) => match recv(&plug.fd, buffer, RecvFlags::DONTWAIT) {
                Ok((_, 0)) => Read::Fin,
                Ok((_, len)) => Read::Data(len),
                Err(Errno::INTR) => Read::Data(0),
                Err(Errno::AGAIN) => {
                    plug.readable = false;
                    Read::Blocked
                }
                Err(e) => Read::Broken(Failure::new(Code::ConnectionReset, std::io::Error::from(e).to_string())),
            },
        }
    }

    /// Writes what fits, and takes it out of `bytes`; true when something was written.
    fn write(&mut self, stack: &mut Stack, bytes: &mut FrameReader) -> Result<bool, Failure> {
        let broken = |text: String| Failure::new(Code::ConnectionReset, text);
        let sent = match self {
            Self::Stream(id) => match stack.send(*id, bytes.rest()) {
                Ok(len) => len,
                Err(CommandError::Ended(end)) => return Err(failure_of(stack, *id, end)),
                Err(_) => return Err(broken("the stream was closed".to_owned())),
            },
            Self::Socket(plug) if !plug.writable => 0,
            Self::Socket(plug) => match send_now(&plug.fd, bytes.rest()) {
                Ok(len) => {
                    plug.writable = len == bytes.rest().len();
                    len
                }
                Err(Errno::INTR) => 0,
                Err(Errno::AGAIN) => {
                    plug.writable = false;
                    0
                }
                Err(e) => return Err(broken(std::io::Error::from(e).to_string())),
            },
        };
        bytes.consume(sent);
        Ok(sent > 0)
    }

    fn end_write(&self, stack: &mut Stack) {
        match self {
            Self::Stream(id) => stack.shutdown_write(*id),
            // A socket that is closed at the other end cannot be shut down.
            Self::Socket(plug) => drop(shutdown(&plug.fd, Shutdown::Write)),
        }
    }
}

/// How far one direction has ended.
#[derive(Default)]
struct Ends {
    /// The last byte was read.
    has_ended: bool,
    /// The end was passed on.
    is_told: bool,
}

/// One connection.
pub(super) struct Relay {
    filter: Filter,
    client: End,
    pub(super) server: Server,
    /// Bytes of the client's that the filter has not taken.
    unread: FrameReader,
    out: Out,
    from_client: Ends,
    from_server: Ends,
    /// Nothing goes to a server any more.
    is_closing: bool,
    /// The head that is awaited, since when.
    awaited: Option<(u32, Instant)>,
}

impl Relay {
    pub(super) fn new(filter: Filter, client: End) -> Self {
        Self {
            filter,
            client,
            server: Server::Nowhere,
            unread: FrameReader::new(),
            out: Out::default(),
            from_client: Ends::default(),
            from_server: Ends::default(),
            is_closing: false,
            awaited: None,
        }
    }

    /// Bytes that the server gets before all others.
    pub(super) fn lead_in(&mut self, bytes: &[u8]) {
        self.out.to_server.extend(bytes);
    }

    /// The descriptors of the connection.
    pub(super) fn descriptors(&self) -> Vec<&OwnedFd> {
        let mut all = Vec::new();
        match &self.server {
            Server::Dialing(dial) => all.extend(dial.descriptors()),
            Server::Joined(End::Socket(plug)) => all.push(&plug.fd),
            _ => {}
        }
        if let End::Socket(plug) = &self.client {
            all.push(&plug.fd);
        }
        all
    }

    /// Bytes that wait, in both directions together.
    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        self.unread.rest().len() + self.out.to_server.rest().len() + self.out.to_client.rest().len()
    }

    /// The kernel has reported readiness of one of the sockets.
    pub(super) fn note(&mut self, news: Readiness) {
        self.client.note(news);
        if let Server::Joined(end) = &mut self.server {
            end.note(news);
        }
    }

    /// The moment since which a head is awaited.
    pub(super) fn awaited_since(&mut self, now: Instant) -> Option<Instant> {
        let head = self.filter.awaited_head().filter(|_| !self.is_closing);
        self.awaited = head.map(|head| match self.awaited {
            Some((awaited, since)) if awaited == head => (head, since),
            _ => (head, now),
        });
        self.awaited.map(|(_, since)| since)
    }

    /// True once nothing goes to a server any more.
    pub(super) const fn is_closing(&self) -> bool {
        self.is_closing
    }

    /// The stream or connection to the wanted server stands, or is being opened and the client does not wait for it.
    pub(super) fn connected(&mut self) -> Result<(), Moved> {
        self.filter.connected(&mut self.out).map_err(|refusal| self.refuse(refusal))
    }

    /// The first bytes for the server, at most `max`, to travel with the question for a stream.
    pub(super) fn take_early(&mut self, max: usize) -> Vec<u8> {
        let all = self.out.to_server.rest();
        let early = all[..all.len().min(max)].to_vec();
        self.out.to_server.consume(early.len());
        early
    }

    /// The server cannot be reached, or has broken.
    pub(super) fn unreached(&mut self, failure: &Failure) -> Moved {
        let refusal = self.filter.unreached(failure);
        if refusal.bytes.is_empty() { Moved::Broken(refusal.text) } else { self.refuse(refusal) }
    }

    /// The client has taken too long for a head.
    pub(super) fn too_slow(&mut self) -> Moved {
        let refusal = self.filter.too_slow();
        self.refuse(refusal)
    }

    /// Refuses the client.
    pub(super) fn refuse(&mut self, refusal: Refusal) -> Moved {
        self.out.to_client.extend(&refusal.bytes);
        self.close(Some(refusal.text))
    }

    /// Lets the server go. What was read of it still goes to the client.
    fn close(&mut self, why: Option<String>) -> Moved {
        self.is_closing = true;
        self.unread.clear();
        self.out.to_server.clear();
        (self.from_server.has_ended, self.from_client.is_told) = (true, true);
        Moved::Closing(why)
    }

    /// The server stands: a client that waits for it is told.
    pub(super) fn joined(&mut self, server: End) -> Result<(), Moved> {
        self.server = Server::Joined(server);
        if self.filter.wanted().is_some() { self.connected() } else { Ok(()) }
    }

    /// The socket of a connection in which nothing waits; `None` when there is not exactly one.
    pub(super) fn into_socket(self) -> Option<OwnedFd> {
        debug_assert!(self.unread.is_empty() && self.out.to_client.is_empty() && self.out.to_server.is_empty());
        match (self.client, self.server) {
            (End::Socket(plug), Server::Joined(End::Stream(_)))
            | (End::Stream(_), Server::Joined(End::Socket(plug))) => Some(plug.fd),
            _ => None,
        }
    }

    /// Moves bytes until none can be moved, at most [`ROUNDS_MAX`] times.
    pub(super) fn pump(&mut self, stack: &mut Stack) -> Moved {
        for _ in 0..ROUNDS_MAX {
            let mut has_moved = match self.flush(stack) {
                Ok(moved) => moved,
                Err(moved) => return moved,
            };
            if let Some((to, waits)) = self.filter.wanted()
                && !self.is_closing
            {
                // The client has gone, or its last server is told first.
                if matches!(self.server, Server::Opening | Server::Naming(_) | Server::Dialing(_))
                    || !self.out.to_server.is_empty()
                {
                    return Moved::On(false);
                }
                return Moved::Wants(to.clone(), waits);
            }
            for read in [Self::read_client, Self::read_server] {
                match read(self, stack) {
                    Ok(moved) => has_moved |= moved,
                    Err(moved) => return moved,
                }
            }
            debug_assert!(self.unread.rest().len() <= READ_LEN && self.out.to_server.rest().len() <= RELAY_MAX);
            debug_assert!(self.out.to_client.rest().len() <= RELAY_MAX);
            if !has_moved {
                return self.settle();
            }
        }
        Moved::On(true)
    }

    /// Writes what waits behind the filter, and passes ends on.
    fn flush(&mut self, stack: &mut Stack) -> Result<bool, Moved> {
        let mut has_moved = false;
        if !self.out.to_client.is_empty() {
            let written = self.client.write(stack, &mut self.out.to_client);
            has_moved |= written.map_err(|failure| Moved::Broken(failure.message))?;
        }
        if let Server::Joined(server) = &mut self.server {
            if !self.out.to_server.is_empty() {
                match server.write(stack, &mut self.out.to_server) {
                    Ok(written) => has_moved |= written,
                    Err(failure) if self.from_server.has_ended => return Err(Moved::Broken(failure.message)),
                    // Its last bytes may say why it takes no more, and reading tells its end.
                    Err(_) => self.out.to_server.clear(),
                }
            }
            let is_over = self.from_client.has_ended && self.unread.is_empty() && self.out.to_server.is_empty();
            if is_over && !std::mem::replace(&mut self.from_client.is_told, is_over) {
                server.end_write(stack);
            }
        }
        let is_over = self.from_server.has_ended && self.out.to_client.is_empty();
        if is_over && !std::mem::replace(&mut self.from_server.is_told, is_over) {
            self.client.end_write(stack);
        }
        Ok(has_moved)
    }

    /// Reads of the client what the filter takes.
    fn read_client(&mut self, stack: &mut Stack) -> Result<bool, Moved> {
        let mut has_moved = false;
        let room = READ_LEN - self.unread.rest().len();
        if !self.from_client.has_ended && room > 0 && self.out.to_server.rest().len() < BEHIND_MAX {
            let mut buffer = [0; READ_LEN];
            match self.client.read(stack, &mut buffer[..room]) {
                Read::Data(len) => {
                    has_moved = true;
                    if !self.is_closing {
                        self.unread.extend(&buffer[..len]);
                    }
                }
                Read::Blocked => {}
                Read::Fin => (self.from_client.has_ended, has_moved) = (true, true),
                Read::Broken(failure) => return Err(Moved::Broken(failure.message)),
            }
        }
        if !self.unread.is_empty() && self.out.to_server.rest().len() < BEHIND_MAX {
            match self.filter.push_request(self.unread.rest(), &mut self.out) {
                Ok(used) => {
                    self.unread.consume(used);
                    has_moved |= used > 0;
                }
                Err(refusal) => return Err(self.refuse(refusal)),
            }
        }
        Ok(has_moved)
    }

    /// Reads of the server what there is.
    fn read_server(&mut self, stack: &mut Stack) -> Result<bool, Moved> {
        let Server::Joined(server) = &mut self.server else { return Ok(false) };
        if self.from_server.has_ended || self.out.to_client.rest().len() >= BEHIND_MAX {
            return Ok(false);
        }
        let mut buffer = [0; READ_LEN];
        match server.read(stack, &mut buffer) {
            Read::Data(len) => match self.filter.push_response(&buffer[..len], &mut self.out) {
                Ok(()) => Ok(true),
                Err(refusal) => Err(self.refuse(refusal)),
            },
            Read::Blocked => Ok(false),
            Read::Broken(failure) => Err(self.unreached(&failure)),
            Read::Fin => {
                self.from_server.has_ended = true;
                match self.filter.end_response(&mut self.out) {
                    Err(refusal) => Err(self.refuse(refusal)),
                    Ok(()) if self.filter.ends_with_server() => Err(self.close(None)),
                    Ok(()) => Ok(true),
                }
            }
        }
    }

    /// The state when nothing can be moved.
    fn settle(&self) -> Moved {
        let is_empty = self.unread.is_empty() && self.out.to_client.is_empty() && self.out.to_server.is_empty();
        let is_alone = matches!(self.server, Server::Nowhere) && !self.is_closing;
        if self.from_client.has_ended && is_empty && (self.from_server.is_told || is_alone) {
            return Moved::Finished;
        }
        let is_passed_on = matches!(
            (&self.client, &self.server),
            (End::Socket(_), Server::Joined(End::Stream(_))) | (End::Stream(_), Server::Joined(End::Socket(_)))
        );
        let has_ended = self.from_client.has_ended || self.from_server.has_ended;
        if self.filter.is_raw() && is_empty && is_passed_on && !has_ended { Moved::Raw } else { Moved::On(false) }
    }
}
