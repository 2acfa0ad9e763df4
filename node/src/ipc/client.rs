//! Owns the other end: what a program needs to drive a daemon over its Unix socket. Blocking, for one thread at a time.

use super::{ANSWER, EVENT, REQUEST, STREAM_END, numbered, parse_numbered, take_frame};
use crate::answer::{Opened, StreamState};
use crate::failure::{Code, Failure};
use crate::node_event::NodeEvent;
use crate::request::Request;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::collections::VecDeque;
use std::io::{self, IoSliceMut, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long the node may take to turn events on.
const WATCH_TIMEOUT: Duration = Duration::from_secs(30);

/// A daemon's answer.
#[derive(Debug)]
pub struct Reply {
    /// Its JSON, of which [`Reply::read`] gives the typed form.
    pub data: Value,
    /// Bytes beside it (a message's body).
    pub blob: Vec<u8>,
    /// The descriptor of what was opened.
    pub fd: Option<OwnedFd>,
}

impl Reply {
    /// The typed form: for each request, the type in [`answer`](crate::answer) that [`Answer`](crate::answer::Answer) names.
    ///
    /// # Errors
    /// `Internal` when the daemon sent something else.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        read(&self.data)
    }
}

fn read<T: DeserializeOwned>(data: &Value) -> Result<T, Failure> {
    T::deserialize(data).map_err(|e| Failure::new(Code::Internal, format!("the daemon's answer cannot be read: {e}")))
}

/// The answer to the request with this number.
pub type NumberedAnswer = (u32, Result<Reply, Failure>);

/// A stream from the daemon: an ordinary socket, and what is known of the other end.
#[derive(Debug)]
pub struct StreamReply {
    /// Read, write, shut down, poll.
    pub socket: UnixStream,
    /// Its number and both ends.
    pub data: Opened,
}

/// A connection to a daemon, or to a node of this process.
pub struct Client {
    socket: UnixStream,
    path: PathBuf,
    incoming: Vec<u8>,
    fds: VecDeque<OwnedFd>,
    ends: Vec<StreamState>,
    events: VecDeque<NodeEvent>,
    next: u32,
}

impl Client {
    /// Connects to the daemon that serves `path`.
    ///
    /// # Errors
    /// `NotRunning` when nobody does.
    pub fn connect(path: &Path) -> Result<Self, Failure> {
        let socket = UnixStream::connect(path).map_err(|e| {
            Failure::new(Code::NotRunning, format!("no daemon answers at {} ({e})", path.display()))
                .hint("pilotctl daemon start")
        })?;
        Ok(Self::over(socket, path))
    }

    /// Over a socket that the node serves already. `path` is for error texts.
    pub(crate) fn over(socket: UnixStream, path: &Path) -> Self {
        Self {
            socket,
            path: path.into(),
            incoming: Vec::new(),
            fds: VecDeque::new(),
            ends: Vec::new(),
            events: VecDeque::new(),
            next: 1,
        }
    }

    /// Makes a request, with the bytes beside it, and waits for its answer, at most as long as `timeout` says.
    ///
    /// # Errors
    /// What the daemon answers; `NotRunning` when it ends meanwhile; `Timeout`.
    pub fn request(&mut self, request: &Request, blob: &[u8], timeout: Option<Duration>) -> Result<Reply, Failure> {
        let number = self.send(request, blob)?;
        let deadline = timeout.map(|t| Instant::now() + t);
        self.answer(number, deadline)
    }

    /// Makes a request without bytes beside it, and reads its answer as the type that [`Reply::read`] tells of.
    ///
    /// # Errors
    /// As [`Client::request`] and [`Reply::read`].
    pub fn ask<T: DeserializeOwned>(&mut self, request: &Request, timeout: Option<Duration>) -> Result<T, Failure> {
        self.request(request, &[], timeout)?.read()
    }

    /// Sends a request without waiting; its number is for [`Client::answer`].
    ///
    /// # Errors
    /// `NotRunning` when the daemon has ended.
    pub fn send(&mut self, request: &Request, blob: &[u8]) -> Result<u32, Failure> {
        let number = self.next;
        self.next += 1;
        self.socket.write_all(&numbered(REQUEST, number, request, blob)).map_err(|e| self.lost(&e))?;
        Ok(number)
    }

    /// Waits for the answer to a request; answers to others that come before are dropped.
    ///
    /// # Errors
    /// As [`Client::request`].
    pub fn answer(&mut self, number: u32, deadline: Option<Instant>) -> Result<Reply, Failure> {
        loop {
            let (command, payload) = self.next_frame(deadline)?;
            match self.sort(command, &payload) {
                Some((answered, reply)) if answered == number => return reply,
                _ => {}
            }
        }
    }

    /// The answer that has come, without waiting: to any request, with its number.
    ///
    /// # Errors
    /// `NotRunning` when the daemon has ended.
    pub fn try_answer(&mut self) -> Result<Option<NumberedAnswer>, Failure> {
        loop {
            match self.buffered_frame()? {
                Some((command, payload)) => {
                    if let Some(answer) = self.sort(command, &payload) {
                        return Ok(Some(answer));
                    }
                }
                None if !self.receive()? => return Ok(None),
                None => {}
            }
        }
    }

    /// Asks for events from now on, and for what is published on the node's event stream under topics that match.
    ///
    /// # Errors
    /// As [`Client::request`].
    pub fn watch(&mut self, topics: Option<&str>) -> Result<(), Failure> {
        let request = Request::Events { topics: topics.map(str::to_owned) };
        self.request(&request, &[], Some(WATCH_TIMEOUT)).map(drop)
    }

    /// The next event, waiting at most `timeout`; `None`: none came.
    ///
    /// # Errors
    /// `NotRunning` when the daemon has ended.
    pub fn next_event(&mut self, timeout: Option<Duration>) -> Result<Option<NodeEvent>, Failure> {
        let deadline = timeout.map(|t| Instant::now() + t);
        loop {
            if let Some(event) = self.events.pop_front() {
                return Ok(Some(event));
            }
            if timeout == Some(Duration::ZERO) {
                if self.try_answer()?.is_none() && self.events.is_empty() {
                    return Ok(None);
                }
                continue;
            }
            match self.next_frame(deadline) {
                Ok((command, payload)) => drop(self.sort(command, &payload)),
                Err(failure) if failure.code == Code::Timeout => return Ok(None),
                Err(failure) => return Err(failure),
            }
        }
    }

    /// Puts aside what is no answer; gives what is.
    fn sort(&mut self, command: u8, payload: &[u8]) -> Option<NumberedAnswer> {
        let (number, json, blob) = parse_numbered(payload)?;
        let (mut json, blob) = (serde_json::from_slice::<Value>(json).ok()?, blob.to_vec());
        match command {
            ANSWER => {
                // Descriptors come in the order of the answers that say so.
                let fd = if json["fd"] == true { self.fds.pop_front() } else { None };
                let reply = match json["status"].as_str() {
                    // The kernel had no room for it in our table.
                    _ if json["fd"] == true && fd.is_none() => {
                        Err(Failure::new(Code::Full, "no file descriptors are left"))
                    }
                    Some("ok") => Ok(Reply { data: json["data"].take(), blob, fd }),
                    _ => Err(read(&json).unwrap_or_else(|failure| failure)),
                };
                return Some((number, reply));
            }
            STREAM_END => self.ends.extend(read(&json)),
            EVENT => self.events.push_back(NodeEvent { data: json, payload: blob }),
            _ => {}
        }
        None
    }

    /// Makes a request that gives a stream: [`Request::Connect`], [`Request::Accept`] without `hold`, [`Request::Take`].
    ///
    /// # Errors
    /// As [`Client::request`].
    pub fn stream(&mut self, request: &Request, timeout: Option<Duration>) -> Result<StreamReply, Failure> {
        self.stream_with(request, &[], timeout)
    }

    fn stream_with(
        &mut self,
        request: &Request,
        blob: &[u8],
        timeout: Option<Duration>,
    ) -> Result<StreamReply, Failure> {
        let reply = self.request(request, blob, timeout)?;
        let data = reply.read()?;
        let fd = reply.fd.ok_or_else(|| Failure::new(Code::Internal, "the daemon sent no descriptor"))?;
        Ok(StreamReply { socket: fd.into(), data })
    }

    /// Opens a stream to a node's port.
    ///
    /// # Errors
    /// As [`Client::request`].
    pub fn open(&mut self, node: &str, port: u16, timeout: Option<Duration>) -> Result<StreamReply, Failure> {
        self.open_with(node, port, &[], timeout)
    }

    /// Opens a stream that begins with `first`, which travels with the question: at most
    /// [`EARLY_LEN_MAX`](crate::EARLY_LEN_MAX) bytes. See [`Node::connect_with`](crate::Node::connect_with).
    ///
    /// # Errors
    /// As [`Client::request`]; `InvalidArgument` for more bytes.
    pub fn open_with(
        &mut self,
        node: &str,
        port: u16,
        first: &[u8],
        timeout: Option<Duration>,
    ) -> Result<StreamReply, Failure> {
        self.stream_with(&Request::Connect { node: node.into(), port }, first, timeout)
    }

    /// Waits until the daemon says how the stream with this number has ended: `Ok` for an orderly end.
    ///
    /// # Errors
    /// Why it broke; a stream never ends silently.
    pub fn stream_end(&mut self, stream: u64, timeout: Option<Duration>) -> Result<(), Failure> {
        let deadline = timeout.map(|t| Instant::now() + t);
        let is_its = |end: &StreamState| match end {
            StreamState::Open => false,
            StreamState::Fin { stream: of } | StreamState::Error { stream: of, .. } => *of == stream,
        };
        loop {
            if let Some(i) = self.ends.iter().position(is_its) {
                return match self.ends.swap_remove(i) {
                    StreamState::Error { failure, .. } => Err(failure),
                    StreamState::Fin { .. } | StreamState::Open => Ok(()),
                };
            }
            let (command, payload) = self.next_frame(deadline)?;
            self.sort(command, &payload);
        }
    }

    fn lost(&self, e: &io::Error) -> Failure {
        Failure::new(Code::NotRunning, format!("the daemon at {} ended ({e})", self.path.display()))
            .hint("pilotctl daemon status")
    }

    fn buffered_frame(&mut self) -> Result<Option<(u8, Vec<u8>)>, Failure> {
        let frame = take_frame(&mut self.incoming);
        frame.map_err(|_| Failure::new(Code::Internal, "the daemon sent a malformed frame"))
    }

    fn next_frame(&mut self, deadline: Option<Instant>) -> Result<(u8, Vec<u8>), Failure> {
        loop {
            if let Some(frame) = self.buffered_frame()? {
                return Ok(frame);
            }
            let left = match deadline {
                None => None,
                Some(at) => match at.saturating_duration_since(Instant::now()) {
                    Duration::ZERO => return Err(Failure::new(Code::Timeout, "the daemon did not answer in time")),
                    left => Some(left),
                },
            };
            // Whether the socket itself waits is its holder's choice.
            if !self.receive()? {
                let limit = left.and_then(|left| Timespec::try_from(left).ok());
                let mut fds = [PollFd::new(&self.socket, PollFlags::IN)];
                match poll(&mut fds, limit.as_ref()) {
                    Ok(_) | Err(rustix::io::Errno::INTR) => {}
                    Err(e) => return Err(self.lost(&e.into())),
                }
            }
        }
    }

    /// Takes what the socket has; false when it has nothing.
    fn receive(&mut self) -> Result<bool, Failure> {
        let mut buffer = [0; 64 * 1024];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
        match recvmsg(&self.socket, &mut [IoSliceMut::new(&mut buffer)], &mut ancillary, flags) {
            Ok(message) if message.bytes == 0 => return Err(self.lost(&io::ErrorKind::UnexpectedEof.into())),
            Ok(message) => self.incoming.extend_from_slice(&buffer[..message.bytes]),
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => return Ok(false),
            Err(e) => return Err(self.lost(&e.into())),
        }
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(fds) = message {
                self.fds.extend(fds);
            }
        }
        Ok(true)
    }
}

impl std::os::fd::AsFd for Client {
    /// Readable when an answer or event may have come.
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
