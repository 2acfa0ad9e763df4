//! Owns the other end: what a program needs to drive a daemon over its Unix socket. Blocking, for one thread at a time.

use super::{ANSWER, REQUEST, STREAM_END, numbered, parse_numbered, take_frame};
use crate::failure::{Code, Failure};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use serde_json::{Value, json};
use std::io::{self, IoSliceMut, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A daemon's answer.
#[derive(Debug)]
pub struct Reply {
    /// What it says.
    pub data: Value,
    /// Bytes beside it (a message's body).
    pub blob: Vec<u8>,
}

/// A stream from the daemon: an ordinary socket, and what is known of the other end.
#[derive(Debug)]
pub struct StreamReply {
    /// Read, write, shut down, poll.
    pub socket: UnixStream,
    /// `stream`, `local`, `peer`, `hostname`.
    pub data: Value,
}

/// A connection to a daemon.
pub struct Client {
    socket: UnixStream,
    path: PathBuf,
    incoming: Vec<u8>,
    fds: Vec<OwnedFd>,
    ends: Vec<Value>,
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
        Ok(Self { socket, path: path.into(), incoming: Vec::new(), fds: Vec::new(), ends: Vec::new(), next: 1 })
    }

    /// Runs one operation and waits for its answer, at most as long as `timeout` says.
    ///
    /// # Errors
    /// What the daemon answers; `NotRunning` when it ends meanwhile; `Timeout`.
    pub fn call(&mut self, op: &Value, blob: &[u8], timeout: Option<Duration>) -> Result<Reply, Failure> {
        let number = self.next;
        self.next += 1;
        self.socket.write_all(&numbered(REQUEST, number, op, blob)).map_err(|e| self.lost(&e))?;
        let deadline = timeout.map(|t| Instant::now() + t);
        loop {
            let (command, payload) = self.next_frame(deadline)?;
            let Some((answered, mut json, blob)) = parse_numbered(&payload) else { continue };
            match command {
                STREAM_END => self.ends.push(json),
                ANSWER if answered == number => {
                    if json["status"] == "ok" {
                        return Ok(Reply { data: json["data"].take(), blob });
                    }
                    let text = |key: &str| json[key].as_str().unwrap_or_default().to_owned();
                    return Err(Failure::new(Code::from_name(&text("code")), text("message")).hint(text("hint")));
                }
                _ => {}
            }
        }
    }

    /// Runs an operation that gives a stream (`connect`, `accept`).
    ///
    /// # Errors
    /// As [`Client::call`].
    pub fn stream(&mut self, op: &Value, timeout: Option<Duration>) -> Result<StreamReply, Failure> {
        let reply = self.call(op, &[], timeout)?;
        let fd = self.fds.pop().ok_or_else(|| Failure::new(Code::Internal, "the daemon sent no descriptor"))?;
        Ok(StreamReply { socket: fd.into(), data: reply.data })
    }

    /// Opens a stream to a node's port.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub fn open(&mut self, node: &str, port: u16, timeout: Option<Duration>) -> Result<StreamReply, Failure> {
        self.stream(&json!({"op": "connect", "node": node, "port": port}), timeout)
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
            if command == STREAM_END
                && let Some((_, json, _)) = parse_numbered(&payload)
            {
                self.ends.push(json);
            }
        }
    }

    fn lost(&self, e: &io::Error) -> Failure {
        Failure::new(Code::NotRunning, format!("the daemon at {} ended ({e})", self.path.display()))
            .hint("pilotctl daemon status")
    }

    fn next_frame(&mut self, deadline: Option<Instant>) -> Result<(u8, Vec<u8>), Failure> {
        loop {
            let frame = take_frame(&mut self.incoming);
            if let Some(frame) = frame.map_err(|_| Failure::new(Code::Internal, "the daemon sent a malformed frame"))? {
                return Ok(frame);
            }
            let left = match deadline {
                None => None,
                Some(at) => match at.saturating_duration_since(Instant::now()) {
                    Duration::ZERO => return Err(Failure::new(Code::Timeout, "the daemon did not answer in time")),
                    left => Some(left),
                },
            };
            self.socket.set_read_timeout(left).map_err(|e| self.lost(&e))?;
            self.receive()?;
        }
    }

    fn receive(&mut self) -> Result<(), Failure> {
        let mut buffer = [0; 64 * 1024];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        match recvmsg(&self.socket, &mut [IoSliceMut::new(&mut buffer)], &mut ancillary, RecvFlags::CMSG_CLOEXEC) {
            Ok(message) if message.bytes == 0 => return Err(self.lost(&io::ErrorKind::UnexpectedEof.into())),
            Ok(message) => self.incoming.extend_from_slice(&buffer[..message.bytes]),
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => return Ok(()),
            Err(e) => return Err(self.lost(&e.into())),
        }
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(fds) = message {
                self.fds.extend(fds);
            }
        }
        Ok(())
    }
}
