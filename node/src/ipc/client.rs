//! Owns the other end: what a program needs to drive a daemon over its Unix socket. Blocking, for one thread at a time.

use crate::failure::{Code, Failure};
use crate::ipc::frame::{ANSWER, EVENT, REQUEST, STREAM_END, numbered, parse_numbered, take_frame};
use crate::platform::{keep_quiet, recv_with_fds};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::io::{self, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long the node may take to turn events on.
const WATCH_TIMEOUT: Duration = Duration::from_secs(30);

/// A daemon's answer.
#[derive(Debug)]
pub struct Reply {
    /// What it says.
    pub data: Value,
    /// Bytes beside it (a message's body).
    pub blob: Vec<u8>,
    /// The descriptor of what was opened.
    pub fd: Option<OwnedFd>,
}

/// The answer to the operation with this number.
pub type NumberedAnswer = (u32, Result<Reply, Failure>);

/// A stream from the daemon: an ordinary socket, and what is known of the other end.
#[derive(Debug)]
pub struct StreamReply {
    /// Read, write, shut down, poll.
    pub socket: UnixStream,
    /// `stream`, `local`, `peer`, `hostname`.
    pub data: Value,
}

/// Something that happened in the node; see [`Client::watch`].
#[derive(Clone, Debug, PartialEq)]
pub struct NodeEvent {
    /// `{"event": KIND, …}`. Kinds: `trust_request`, `trusted`, `trust_rejected`, `untrusted`, `peer_up`, `peer_down`, `path`,
    /// `message`, `file`, `published`, and `missed` (this client read too slowly; `count`).
    pub data: Value,
    /// The payload of what was published.
    pub payload: Vec<u8>,
}

/// A connection to a daemon, or to a node of this process.
pub struct Client {
    socket: UnixStream,
    path: PathBuf,
    incoming: Vec<u8>,
    fds: VecDeque<OwnedFd>,
    ends: Vec<Value>,
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
        keep_quiet(&socket);
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

    /// Runs one operation and waits for its answer, at most as long as `timeout` says.
    ///
    /// # Errors
    /// What the daemon answers; `NotRunning` when it ends meanwhile; `Timeout`.
    pub fn call(&mut self, op: &Value, blob: &[u8], timeout: Option<Duration>) -> Result<Reply, Failure> {
        let number = self.send(op, blob)?;
        let deadline = timeout.map(|t| Instant::now() + t);
        self.answer(number, deadline)
    }

    /// Sends an operation without waiting; its number is for [`Client::answer`].
    ///
    /// # Errors
    /// `NotRunning` when the daemon has ended.
    pub fn send(&mut self, op: &Value, blob: &[u8]) -> Result<u32, Failure> {
        let number = self.next;
        self.next += 1;
        self.socket.write_all(&numbered(REQUEST, number, op, blob)).map_err(|e| self.lost(&e))?;
        Ok(number)
    }

    /// Waits for the answer to an operation; answers of others that come before are dropped.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub fn answer(&mut self, number: u32, deadline: Option<Instant>) -> Result<Reply, Failure> {
        loop {
            let (command, payload) = self.next_frame(deadline)?;
            match self.sort(command, &payload) {
                Some((answered, reply)) if answered == number => return reply,
                _ => {}
            }
        }
    }

    /// The answer that has come, without waiting: to whichever operation, with its number.
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
    /// As [`Client::call`].
    pub fn watch(&mut self, topics: Option<&str>) -> Result<(), Failure> {
        self.call(&json!({"op": "events", "topics": topics}), &[], Some(WATCH_TIMEOUT)).map(drop)
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
        let mut json: Value = serde_json::from_slice(json).ok()?;
        match command {
            ANSWER => {
                // Descriptors come in the order of the answers that say so.
                let fd = if json["fd"] == true { self.fds.pop_front() } else { None };
                let text = |key: &str| json[key].as_str().unwrap_or_default().to_owned();
                let reply = match json["status"].as_str() {
                    // The kernel had no room for it in our table.
                    _ if json["fd"] == true && fd.is_none() => {
                        Err(Failure::new(Code::Full, "no file descriptors are left"))
                    }
                    Some("ok") => Ok(Reply { data: json["data"].take(), blob, fd }),
                    _ => Err(Failure::new(Code::from_name(&text("code")), text("message")).hint(text("hint"))),
                };
                return Some((number, reply));
            }
            STREAM_END => self.ends.push(json),
            EVENT => self.events.push_back(NodeEvent { data: json, payload: blob }),
            _ => {}
        }
        None
    }

    /// Runs an operation that gives a stream (`connect`, `accept`).
    ///
    /// # Errors
    /// As [`Client::call`].
    pub fn stream(&mut self, op: &Value, timeout: Option<Duration>) -> Result<StreamReply, Failure> {
        self.stream_with(op, &[], timeout)
    }

    fn stream_with(&mut self, op: &Value, blob: &[u8], timeout: Option<Duration>) -> Result<StreamReply, Failure> {
        let reply = self.call(op, blob, timeout)?;
        let fd = reply.fd.ok_or_else(|| Failure::new(Code::Internal, "the daemon sent no descriptor"))?;
        Ok(StreamReply { socket: fd.into(), data: reply.data })
    }

    /// Opens a stream to a node's port.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub fn open(&mut self, node: &str, port: u16, timeout: Option<Duration>) -> Result<StreamReply, Failure> {
        self.open_with(node, port, &[], timeout)
    }

    /// Opens a stream that begins with `first`, which travels with the question: at most
    /// [`EARLY_LEN_MAX`](crate::EARLY_LEN_MAX) bytes. See [`Node::connect_with`](crate::Node::connect_with).
    ///
    /// # Errors
    /// As [`Client::call`]; `InvalidArgument` for more bytes.
    pub fn open_with(
        &mut self,
        node: &str,
        port: u16,
        first: &[u8],
        timeout: Option<Duration>,
    ) -> Result<StreamReply, Failure> {
        self.stream_with(&json!({"op": "connect", "node": node, "port": port}), first, timeout)
    }

    /// How a stream ended, waiting for the daemon to say so: `Ok` for an orderly end.
    ///
    /// # Errors
    /// Why it broke; a stream never ends silently.
    pub fn stream_end(&mut self, stream: &Value, timeout: Option<Duration>) -> Result<(), Failure> {
        let deadline = timeout.map(|t| Instant::now() + t);
        loop {
            if let Some(i) = self.ends.iter().position(|e| e["stream"] == stream["stream"]) {
                let end = self.ends.swap_remove(i);
                if end["end"] == "fin" {
                    return Ok(());
                }
                let text = |key: &str| end[key].as_str().unwrap_or_default().to_owned();
                return Err(Failure::new(Code::from_name(&text("code")), text("message")).hint(text("hint")));
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
        match recv_with_fds(&self.socket, &mut buffer, &mut self.fds) {
            Ok(0) => Err(self.lost(&io::ErrorKind::UnexpectedEof.into())),
            Ok(n) => {
                self.incoming.extend_from_slice(&buffer[..n]);
                Ok(true)
            }
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => Ok(false),
            Err(e) => Err(self.lost(&e.into())),
        }
    }
}

impl std::os::fd::AsFd for Client {
    /// Readable when an answer or event may have come.
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
