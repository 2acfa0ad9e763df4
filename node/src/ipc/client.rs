//! Owns the client's end of the socket, with which a program drives a daemon. Blocking, for one thread at a time.

use crate::answer::{Opened, StreamState};
use crate::failure::{Code, Failure};
use crate::frame_reader::FrameReader;
use crate::ipc::frame::{
    ANSWER, EVENT, REQUEST, REQUEST_WITH_FD, STREAM_END, numbered_text, parse_frame, parse_numbered,
};
use crate::ipc::passing::send_with_fd;
use crate::ipc::place;
use crate::node_event::NodeEvent;
use crate::platform::{keep_quiet, peer_pid, recv_with_fds};
use crate::request::Request;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::collections::VecDeque;
use std::io::{self, Write as _};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The text of a request whose time is over. A connect names the peer instead, for whose answer the daemon waits.
const NO_ANSWER: &str = "the daemon did not answer in time";
/// Longest wait for the word why a peer does not answer.
const WHY_TIMEOUT: Duration = Duration::from_secs(1);

/// The number of requests with an answer that no caller waits for; other numbers begin with 1.
const WORD: u32 = 0;
/// Longest wait for the answer to the request for events.
const WATCH_TIMEOUT: Duration = Duration::from_secs(30);

/// Most ends of streams that wait for [`Client::stream_end`]; the oldest is forgotten first. Own choice: as many as the node
/// remembers ([`ENDS_MAX`](crate::streams::table::ENDS_MAX)).
const ENDS_MAX: usize = 4096;

/// A daemon's answer.
#[derive(Debug)]
pub struct Reply {
    /// The answer as JSON, of which [`Reply::read`] gives the typed form.
    pub data: Value,
    /// Bytes beside the JSON, such as a message's body.
    pub blob: Vec<u8>,
    /// The descriptor of the stream or datagram port that was opened.
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

/// A stream from the daemon: an ordinary socket, and a description of both ends.
#[derive(Debug)]
pub struct StreamReply {
    /// The stream as a socket, to read, write, shut down and poll.
    pub socket: UnixStream,
    /// The number of the stream, and both ends.
    pub data: Opened,
}

/// The word that a program gives before it ends a stream of [`Client::end_explicitly`].
#[derive(Debug)]
pub struct Finisher {
    socket: UnixStream,
    word: Vec<u8>,
}

impl Finisher {
    /// Tells the node that the end of this side, which follows, is meant. Any thread, while no other thread makes a request
    /// with the [`Client`]; its answer is passed over.
    ///
    /// # Errors
    /// When the daemon has ended.
    pub fn finish(&self) -> io::Result<()> {
        (&self.socket).write_all(&self.word)
    }
}

/// A connection to a daemon, or to a node of this process.
pub struct Client {
    socket: UnixStream,
    path: PathBuf,
    incoming: FrameReader,
    fds: VecDeque<OwnedFd>,
    ends: VecDeque<StreamState>,
    events: VecDeque<NodeEvent>,
    next: u32,
}

impl Client {
    /// Connects to the daemon that serves `path`, if that runs as this user or as root. Root is also served by the owner of
    /// the socket's folder.
    ///
    /// # Errors
    /// `NotRunning` when no daemon serves it; `Conflict` when another user's does; `Timeout` when it takes no clients.
    pub fn connect(path: &Path) -> Result<Self, Failure> {
        Ok(Self::over(place::connect(path)?, path))
    }

    /// The number of the daemon's process, also when the daemon answers nothing; `None` where the system does not tell.
    pub fn process(&self) -> Option<u32> {
        peer_pid(&self.socket)
    }

    /// Makes a client of a socket that the node serves already. `path` is for error texts.
    pub(crate) fn over(socket: UnixStream, path: &Path) -> Self {
        keep_quiet(&socket);
        Self {
            socket,
            path: path.into(),
            incoming: FrameReader::new(),
            fds: VecDeque::new(),
            ends: VecDeque::new(),
            events: VecDeque::new(),
            next: 1,
        }
    }

    /// Makes a request, with the bytes beside it, and waits for its answer, at most `timeout` (`None`: for ever).
    ///
    /// # Errors
    /// The failure that the daemon answers; `NotRunning` when the daemon ends meanwhile; `Timeout`.
    pub fn request(&mut self, request: &Request, blob: &[u8], timeout: Option<Duration>) -> Result<Reply, Failure> {
        let number = self.send(request, blob)?;
        let deadline = timeout.map(|t| Instant::now() + t);
        self.answer(number, deadline)
    }

    /// Makes a request with a descriptor beside it, of which the daemon gets a copy, and waits for its answer. For
    /// [`Request::Forward`] and [`Request::Proxy`] that listen on `fd`: on this socket.
    ///
    /// # Errors
    /// As [`Client::request`].
    pub fn request_with_fd(
        &mut self,
        request: &Request,
        fd: BorrowedFd<'_>,
        timeout: Option<Duration>,
    ) -> Result<Reply, Failure> {
        let number = self.next;
        self.next += 1;
        let frame = numbered_text(REQUEST_WITH_FD, number, &request.to_json(), &[]);
        let sent = send_with_fd(&self.socket, &frame, fd).and_then(|sent| self.socket.write_all(&frame[sent..]));
        sent.map_err(|e| self.lost(&e))?;
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

    /// Sends a request without waiting; gives its number, for [`Client::answer`].
    ///
    /// # Errors
    /// `NotRunning` when the daemon has ended.
    pub fn send(&mut self, request: &Request, blob: &[u8]) -> Result<u32, Failure> {
        let number = self.next;
        self.next += 1;
        self.socket.write_all(&numbered_text(REQUEST, number, &request.to_json(), blob)).map_err(|e| self.lost(&e))?;
        Ok(number)
    }

    /// Waits for the answer to a request. Answers to other requests that arrive before are dropped.
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

    /// The next answer that has arrived, with the number of its request. Does not wait.
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

    /// Asks for the node's events from now on, and for events of its event stream with topics that match `topics`.
    ///
    /// # Errors
    /// As [`Client::request`].
    pub fn watch(&mut self, topics: Option<&str>) -> Result<(), Failure> {
        let request = Request::Events { topics: topics.map(str::to_owned) };
        self.request(&request, &[], Some(WATCH_TIMEOUT)).map(drop)
    }

    /// The next event, waiting at most `timeout` (`None`: for ever); `None` when no event arrived in time.
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

    /// Keeps a frame that is no answer for later; gives an answer with its number.
    fn sort(&mut self, command: u8, payload: &[u8]) -> Option<NumberedAnswer> {
        let (number, json, blob) = parse_numbered(payload)?;
        let mut json: Value = serde_json::from_slice(json).ok()?;
        match command {
            ANSWER => {
                // Descriptors arrive in the order of the answers that announce them.
                let fd = if json["fd"] == true { self.fds.pop_front() } else { None };
                let reply = match json["status"].as_str() {
                    // The kernel has dropped the descriptor, since this process may have no more.
                    _ if json["fd"] == true && fd.is_none() => {
                        Err(Failure::new(Code::Full, "no file descriptors are left"))
                    }
                    Some("ok") => Ok(Reply { data: json["data"].take(), blob, fd }),
                    _ => Err(read(&json).unwrap_or_else(|failure| failure)),
                };
                return (number != WORD).then_some((number, reply));
            }
            STREAM_END => {
                self.ends.extend(read(&json));
                if self.ends.len() > ENDS_MAX {
                    self.ends.pop_front();
                }
            }
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
        let opened = self.stream_with(&Request::Connect { node: node.into(), port }, first, timeout);
        opened.map_err(|failure| match failure.code {
            Code::Timeout if failure.message == NO_ANSWER => self.unanswered(node, port, failure),
            _ => failure,
        })
    }

    /// The failure of a peer that did not answer in time, with what the daemon knows of the path there; `late`, that of the daemon,
    /// if the daemon answers nothing else either.
    fn unanswered(&mut self, node: &str, port: u16, late: Failure) -> Failure {
        let report = match self.request(&Request::Path { node: node.into() }, &[], Some(WHY_TIMEOUT)) {
            Err(failure) if failure.code == Code::Timeout => return late,
            report => report.map_or(Value::Null, |reply| reply.data),
        };
        let mut text = format!("{node} did not answer on port {port} in time");
        if let Some(path) = report["path"].as_str() {
            text.extend([" by ", path]);
        }
        if let Some(why) = report["not_direct_text"].as_str() {
            text.extend([": ", why]);
        }
        Failure::new(Code::Timeout, text).hint(format!("pilotctl path {node}"))
    }

    /// Waits for the end of the stream with this number, at most `timeout` (`None`: for ever). `Ok`: both sides ended in order.
    ///
    /// # Errors
    /// The reason for which the stream broke; `Timeout`; `NotRunning` when the daemon ends meanwhile.
    pub fn stream_end(&mut self, stream: u64, timeout: Option<Duration>) -> Result<(), Failure> {
        let deadline = timeout.map(|t| Instant::now() + t);
        let is_its = |end: &StreamState| match end {
            StreamState::Open => false,
            StreamState::Fin { stream: of } | StreamState::Error { stream: of, .. } => *of == stream,
        };
        loop {
            if let Some(i) = self.ends.iter().position(is_its) {
                return match self.ends.remove(i) {
                    Some(StreamState::Error { failure, .. }) => Err(failure),
                    Some(StreamState::Fin { .. } | StreamState::Open) | None => Ok(()),
                };
            }
            let (command, payload) = self.next_frame(deadline)?;
            self.sort(command, &payload);
        }
    }

    /// From now on a stream that this client gets is reset when its descriptor ends without a word ([`Client::finisher`]): the
    /// peer then tells a program that died from one that was done. Without this, closing a descriptor ends the stream as
    /// closing a TCP socket does.
    ///
    /// # Errors
    /// `NotRunning` when the daemon has ended.
    pub fn end_explicitly(&mut self) -> Result<(), Failure> {
        let word = numbered_text(REQUEST, WORD, &Request::EndExplicitly { inode: None }.to_json(), &[]);
        self.socket.write_all(&word).map_err(|e| self.lost(&e))
    }

    /// Prepares the word that the end of a stream is meant: give it before shutting the stream's writing down or closing it.
    ///
    /// # Errors
    /// The operating system's.
    pub fn finisher(&self, stream: &StreamReply) -> io::Result<Finisher> {
        let inode = rustix::fs::fstat(&stream.socket)?.st_ino;
        let word = numbered_text(REQUEST, WORD, &Request::Finish { inode, reset: None }.to_json(), &[]);
        Ok(Finisher { socket: self.socket.try_clone()?, word })
    }

    fn lost(&self, e: &io::Error) -> Failure {
        Failure::new(Code::NotRunning, format!("the daemon at {} ended ({e})", self.path.display()))
            .hint("pilotctl daemon status")
    }

    fn buffered_frame(&mut self) -> Result<Option<(u8, Vec<u8>)>, Failure> {
        let frame = self.incoming.next(parse_frame);
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
                    Duration::ZERO => {
                        return Err(Failure::new(Code::Timeout, NO_ANSWER).hint("pilotctl daemon status"));
                    }
                    left => Some(left),
                },
            };
            // The socket may be non-blocking, so the wait is a poll.
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

    /// Takes the bytes and descriptors that the socket has; false when it has none.
    fn receive(&mut self) -> Result<bool, Failure> {
        let mut buffer = [0; 64 * 1024];
        match recv_with_fds(&self.socket, &mut buffer, &mut self.fds) {
            Ok(0) => Err(self.lost(&io::ErrorKind::UnexpectedEof.into())),
            Ok(n) => {
                self.incoming.extend(&buffer[..n]);
                Ok(true)
            }
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => Ok(false),
            Err(e) => Err(self.lost(&e.into())),
        }
    }
}

impl std::os::fd::AsFd for Client {
    /// A descriptor that is readable when an answer or event may have arrived.
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ipc::frame::stream_end;

    #[test]
    fn the_oldest_end_is_forgotten_when_too_many_wait() {
        let (ours, mut theirs) = UnixStream::pair().expect("a pair");
        let mut client = Client::over(ours, Path::new("test"));
        let last = ENDS_MAX as u64;
        let daemon = std::thread::spawn(move || {
            for stream in 0..=last {
                theirs.write_all(&stream_end(&StreamState::Fin { stream })).expect("a client that reads");
            }
            theirs
        });
        assert_eq!(client.stream_end(last, Some(WATCH_TIMEOUT)), Ok(()));
        assert_eq!(client.stream_end(1, Some(WATCH_TIMEOUT)), Ok(()));
        let forgotten = client.stream_end(0, Some(Duration::ZERO)).expect_err("forgotten");
        assert_eq!(forgotten.code, Code::Timeout);
        drop(daemon.join());
    }
}
