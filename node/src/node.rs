//! The node as applications see it.

use crate::answer::Answer;
use crate::command::{ACCEPT_MAX, Command};
use crate::config::Config;
use crate::effect::{Accepted, Answered};
use crate::event_loop;
use crate::event_loop::handover::INTERACTIVE;
use crate::failure::{Code, Failure};
use crate::handle::Handle;
use crate::ipc::client::Client;
use crate::request::Request;
use crate::stream::Stream;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use pilot_core::Level;
use pilot_stack::{EARLY_LEN_MAX, StreamId};
use std::io::{self, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A running node. Clones share it; when the last one is dropped the node ends in order: tunnels are closed, the disk is
/// synced, threads are joined.
#[derive(Clone)]
pub struct Node(Arc<Running>);

struct Running {
    handle: Handle,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Node {
    /// Opens the folder, binds the sockets and starts the threads.
    ///
    /// # Errors
    /// `Conflict` when another node has the folder or the socket, or the UDP address cannot be bound; `InvalidArgument` when
    /// the identity file is damaged or readable by others, or the hostname cannot be one; `Internal` when the books are
    /// damaged.
    pub fn start(config: Config) -> Result<Self, Failure> {
        let started = event_loop::start(config)?;
        let handle = Handle::new(started.commands, started.waker, started.handover);
        Ok(Self(Arc::new(Running { handle, thread: Mutex::new(Some(started.thread)) })))
    }

    /// Makes a request, with the bytes beside it, and waits for its answer and the bytes beside that. The typed verbs do
    /// this for programs that know what they ask. Any thread; blocks.
    ///
    /// # Errors
    /// What the node answers; `InvalidArgument` for requests of clients only.
    pub fn request(&self, request: Request, blob: Vec<u8>) -> Result<(Answer, Vec<u8>), Failure> {
        let (reply, answer): (Sender<Answered>, _) = bounded(1);
        self.0.send(Command::Request(request, blob, reply))?;
        answer.recv().map_err(|_| Failure::stopped())?
    }

    /// Opens a stream to a trusted peer, waiting as long as the configuration says.
    ///
    /// # Errors
    /// `PermissionDenied` (not trusted), `NotFound`, `ConnectionRefused` (no listener on the port, or not granted),
    /// `TimedOut`, `HostUnreachable`.
    pub fn connect(&self, node: &str, port: u16) -> io::Result<Stream> {
        self.open(node, port, Duration::MAX, Vec::new())
    }

    /// Opens a stream and writes `first` into it. Up to [`EARLY_LEN_MAX`] bytes travel together with the question for the
    /// stream, so a request and its answer take one round trip instead of two. A peer that refuses the stream never sees them.
    ///
    /// # Errors
    /// As [`Node::connect`] and as writing. When the peer restarts meanwhile, an error says so: the peer before may have
    /// read them already, so they are not given to the one after.
    pub fn connect_with(&self, node: &str, port: u16, first: &[u8]) -> io::Result<Stream> {
        self.connect_with_timeout(node, port, first, Duration::MAX)
    }

    /// As [`Node::connect`], waiting at most `timeout`.
    ///
    /// # Errors
    /// As [`Node::connect`].
    pub fn connect_timeout(&self, node: &str, port: u16, timeout: Duration) -> io::Result<Stream> {
        self.open(node, port, timeout, Vec::new())
    }

    /// As [`Node::connect_with`], waiting at most `timeout` for the stream.
    ///
    /// # Errors
    /// As [`Node::connect_with`].
    pub fn connect_with_timeout(&self, node: &str, port: u16, first: &[u8], timeout: Duration) -> io::Result<Stream> {
        let (early, rest) = first.split_at(first.len().min(EARLY_LEN_MAX));
        let mut stream = self.open(node, port, timeout, early.to_vec())?;
        stream.write_all(rest)?;
        Ok(stream)
    }

    fn open(&self, node: &str, port: u16, timeout: Duration, early: Vec<u8>) -> io::Result<Stream> {
        let (reply, answer) = bounded(1);
        self.0.send(Command::Connect(node.into(), port, early, reply))?;
        let deadline = std::time::Instant::now().checked_add(timeout);
        // This thread waits for the stream, so it may as well run the loop: no change of threads is on the way.
        let made = self.0.handle.handover.visit(Some(timeout), || answer.try_recv().ok());
        let accepted = match deadline {
            _ if made.is_some() => made.ok_or_else(Failure::stopped)?,
            None => answer.recv().map_err(|_| Failure::stopped())?,
            Some(at) => match answer.recv_deadline(at) {
                Ok(result) => result,
                Err(RecvTimeoutError::Timeout) => {
                    drop(answer);
                    self.0.send(Command::GivenUp)?;
                    return Err(Failure::new(Code::Timeout, format!("{node} did not answer in time")).into());
                }
                Err(RecvTimeoutError::Disconnected) => return Err(Failure::stopped().into()),
            },
        }?;
        Ok(self.stream(accepted))
    }

    /// Accepts streams on `port` from peers that were granted it.
    ///
    /// # Errors
    /// `AddrInUse`.
    pub fn listen(&self, port: u16) -> io::Result<Listener> {
        let (streams, accepted) = bounded(ACCEPT_MAX);
        let (reply, answer) = bounded(1);
        self.0.send(Command::Listen(port, streams, reply))?;
        answer.recv().map_err(|_| Failure::stopped())??;
        Ok(Listener { node: self.clone(), port, accepted, last: Mutex::new(None) })
    }

    /// The stream with this number, which a [`Client`] of this node has accepted with `"hold": true`.
    ///
    /// # Errors
    /// `NotFound` when there is none, or it was taken already.
    pub fn claim(&self, stream: u64) -> io::Result<Stream> {
        let (reply, answer) = bounded(1);
        self.0.send(Command::Claim(StreamId::from_number(stream), reply))?;
        Ok(self.stream(answer.recv().map_err(|_| Failure::stopped())??))
    }

    /// A connection to this node such as other programs have to a daemon: for descriptors, events, many operations at once.
    ///
    /// # Errors
    /// `NotRunning` when the node has ended; `Full` when no file descriptors are left.
    pub fn client(&self) -> Result<Client, Failure> {
        let pair = UnixStream::pair();
        let (ours, theirs) = pair.map_err(|_| Failure::new(Code::Full, "no file descriptors are left"))?;
        self.0.send(Command::Attach(theirs))?;
        Ok(Client::over(ours, Path::new("(this process)")))
    }

    /// Waits until the node ends by itself (an IPC client asked it to).
    pub fn wait(&self) {
        let thread = self.0.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            // A loop that panicked has ended as well.
            let _ = thread.join();
        }
    }

    /// Opens the file of the log anew, after it was moved away.
    pub fn reopen_log(&self) {
        // A node that has ended has no log.
        let _ = self.0.handle.send(Command::ReopenLog);
    }

    /// Makes records up to `level` from now on. A node that was started without a log stays without.
    pub fn set_log_level(&self, level: Level) {
        // A node that has ended has no log.
        let _ = self.0.handle.send(Command::SetLogLevel(level));
    }

    /// Tells the log that the owner has changed a setting: that it is in force, or the reason for which it is not.
    pub fn note_setting(&self, setting: &str, outcome: Result<(), String>) {
        // A node that has ended has no log.
        let _ = self.0.handle.send(Command::NoteSetting(setting.into(), outcome));
    }

    /// Tells the log that the webhook's server does not take events, and how many are lost. For the worker that posts.
    pub fn note_webhook(&self, reason: &str, lost: u64) {
        // A node that has ended has no log.
        let _ = self.0.handle.send(Command::NoteWebhook(reason.into(), lost));
    }

    /// A function that ends the node, for signal handlers' threads.
    pub fn stopper(&self) -> impl Fn() + Send + 'static {
        let handle = self.0.handle.clone();
        move || drop(handle.send(Command::Stop))
    }

    fn stream(&self, accepted: Accepted) -> Stream {
        Stream::new(accepted.shared, self.0.handle.clone(), accepted.local, accepted.peer)
    }
}

impl Running {
    fn send(&self, command: Command) -> Result<(), Failure> {
        self.handle.send(command).map_err(|_| Failure::stopped())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // A node that has ended already needs no telling.
        let _ = self.handle.send(Command::Stop);
        if let Some(thread) = self.thread.get_mut().unwrap_or_else(PoisonError::into_inner).take() {
            let _ = thread.join();
        }
    }
}

/// Accepts streams on one port. Dropping the listener gives the port up and resets streams that were not accepted.
pub struct Listener {
    node: Node,
    port: u16,
    accepted: Receiver<Accepted>,
    /// When a stream was last accepted.
    last: Mutex<Option<Instant>>,
}

impl Listener {
    /// The port.
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Waits for the next stream.
    ///
    /// # Errors
    /// When the node has ended.
    pub fn accept(&self) -> io::Result<Stream> {
        self.wait(None)
    }

    /// The same, waiting at most `timeout`.
    ///
    /// # Errors
    /// `TimedOut`; when the node has ended.
    pub fn accept_timeout(&self, timeout: Duration) -> io::Result<Stream> {
        self.wait(Some(timeout))
    }

    fn wait(&self, timeout: Option<Duration>) -> io::Result<Stream> {
        let deadline = timeout.and_then(|t| Instant::now().checked_add(t));
        let mut accepted = self.accepted.try_recv().ok();
        if accepted.is_none() && self.last().is_some_and(|at| at.elapsed() < INTERACTIVE) {
            accepted = self.node.0.handle.handover.visit(timeout, || self.accepted.try_recv().ok());
        }
        let accepted = match (accepted, deadline) {
            (Some(accepted), _) => Ok(accepted),
            (None, None) => self.accepted.recv().map_err(|_| RecvTimeoutError::Disconnected),
            (None, Some(at)) => self.accepted.recv_deadline(at),
        };
        *self.last() = Some(Instant::now());
        if self.accepted.len() >= ACCEPT_MAX / 2 {
            // The next stream that comes would tell the loop; but none comes while the backlog is full.
            self.node.0.send(Command::Taken(self.port))?;
        }
        match accepted {
            Ok(accepted) => Ok(self.node.stream(accepted)),
            Err(RecvTimeoutError::Timeout) => Err(Failure::new(Code::Timeout, "nobody connected in time").into()),
            Err(RecvTimeoutError::Disconnected) => Err(Failure::stopped().into()),
        }
    }

    fn last(&self) -> MutexGuard<'_, Option<Instant>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Streams as they come, until the node ends.
    pub fn incoming(&self) -> impl Iterator<Item = io::Result<Stream>> + '_ {
        std::iter::from_fn(|| Some(self.accept())).take_while(|s| s.is_ok())
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // First the queue: giving up the port ends the streams that wait in it.
        self.accepted = crossbeam_channel::never();
        // A node that has ended has no ports.
        let _ = self.node.0.handle.send(Command::Unlisten(self.port));
    }
}
