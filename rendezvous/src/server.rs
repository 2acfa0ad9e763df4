//! Drives a [`Rendezvous`] with a UDP socket, a clock and files.

use crate::{LogJournal, Rendezvous};
use mio::net::UdpSocket;
use mio::{Events, Interest, Poll, Token, Waker};
use pilot_core::identity::StaticKey;
use pilot_core::{Config, Identity, Instant};
use pilot_store::{Folder, Limits, Log};
use std::fs;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

const SOCKET: Token = Token(0);
const WAKER: Token = Token(1);
/// Largest UDP payload.
const DATAGRAM_LEN_MAX: usize = 65_535;
/// Datagrams taken per turn before timers and output get theirs.
const BATCH: usize = 256;

/// What a rendezvous is started with.
pub struct ServerConfig {
    /// Folder for identity and books; made if missing.
    pub home: PathBuf,
    /// UDP address to serve on.
    pub listen: SocketAddr,
    /// End when no node has been connected for this long.
    pub idle_exit: Option<Duration>,
}

/// Why a rendezvous cannot start or go on.
#[derive(Debug)]
pub enum ServerError {
    /// A file or the socket.
    Io(PathBuf, io::Error),
    /// The socket address.
    Bind(SocketAddr, io::Error),
    /// The file of versions before the log, which cannot be read here.
    Older(PathBuf),
    /// The identity file has the wrong size.
    Identity(PathBuf),
}

impl std::fmt::Display for ServerError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Io(path, e) => write!(f, "{}: {e}", path.display()),
            Self::Bind(addr, e) => write!(f, "cannot serve on {addr}: {e}"),
            Self::Older(path) => {
                write!(f, "{} was written by an earlier version; move it away to begin anew", path.display())
            }
            Self::Identity(path) => write!(f, "{}: not an identity file of 32 bytes", path.display()),
        }
    }
}

impl std::error::Error for ServerError {}

/// A bound rendezvous, ready to run.
pub struct Server {
    machine: Rendezvous,
    socket: UdpSocket,
    poll: Poll,
    start: std::time::Instant,
    key: StaticKey,
    local: SocketAddr,
    idle_exit: Option<Duration>,
    stop: Arc<AtomicBool>,
    waker: Arc<Waker>,
}

/// Ends a running [`Server`] from another thread.
#[derive(Clone)]
pub struct Stopper(Arc<AtomicBool>, Arc<Waker>);

impl Stopper {
    /// Asks the server to end; its `run` returns soon.
    pub fn stop(&self) {
        self.0.store(true, Ordering::SeqCst);
        // A loop that cannot be woken notices at its next turn.
        let _ = self.1.wake();
    }
}

impl Server {
    /// Opens files and socket.
    ///
    /// # Errors
    /// See [`ServerError`].
    pub fn bind(config: &ServerConfig) -> Result<Self, ServerError> {
        let io_error = |path: &Path| {
            let path = path.to_owned();
            move |e| ServerError::Io(path, e)
        };
        fs::create_dir_all(&config.home).map_err(io_error(&config.home))?;
        let identity = load_identity(&config.home.join("identity"))?;
        let key = identity.static_key();
        let older = config.home.join("rendezvous.redb");
        if older.exists() {
            return Err(ServerError::Older(older));
        }
        let books = config.home.join("books");
        let log = Folder::open(books.clone()).and_then(|folder| Log::open(folder, Limits::default()));
        let (journal, state) = log.and_then(LogJournal::open).map_err(io_error(&books))?;
        let bind_error = |e| ServerError::Bind(config.listen, e);
        let mut socket = UdpSocket::bind(config.listen).map_err(bind_error)?;
        let local = socket.local_addr().map_err(bind_error)?;
        let poll = Poll::new().map_err(bind_error)?;
        poll.registry().register(&mut socket, SOCKET, Interest::READABLE).map_err(bind_error)?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER).map_err(bind_error)?);
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).map_err(|e| ServerError::Bind(config.listen, io::Error::other(e.to_string())))?;
        let mut core = Config::new(identity, seed);
        core.wall_at_zero_us = SystemTime::UNIX_EPOCH.elapsed().map_or(0, |d| d.as_micros() as u64);
        let machine = Rendezvous::new(core, state, Box::new(journal));
        let stop = Arc::new(AtomicBool::new(false));
        let start = std::time::Instant::now();
        Ok(Self { machine, socket, poll, start, key, local, idle_exit: config.idle_exit, stop, waker })
    }

    /// The key that nodes pin, and the address they use.
    pub const fn endpoint(&self) -> (StaticKey, SocketAddr) {
        (self.key, self.local)
    }

    /// A handle that ends the server.
    pub fn stopper(&self) -> Stopper {
        Stopper(self.stop.clone(), self.waker.clone())
    }

    /// Serves until stopped (or idle for long enough).
    ///
    /// # Errors
    /// When the operating system's poll fails.
    pub fn run(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(8);
        let mut buffer = vec![0; DATAGRAM_LEN_MAX];
        let mut batch = Vec::new();
        let mut last_connected = self.now();
        let mut readable = true;
        while !self.stop.load(Ordering::SeqCst) {
            let now = self.now();
            self.machine.handle_timeout(now);
            readable = readable && self.receive(&mut buffer);
            self.transmit(&mut batch);
            let mut timeout = self.machine.poll_timeout().map(|(at, _)| at.since(self.now()));
            if let Some(patience) = self.idle_exit {
                if self.machine.connected(now) > 0 {
                    last_connected = now;
                }
                let left = (last_connected + patience).since(now);
                if left.is_zero() {
                    break;
                }
                timeout = Some(timeout.map_or(left, |t| t.min(left)));
            }
            if readable {
                timeout = Some(Duration::ZERO);
            }
            match self.poll.poll(&mut events, timeout) {
                Err(e) if e.kind() != io::ErrorKind::Interrupted => return Err(e),
                _ => readable |= events.iter().any(|e| e.token() == SOCKET),
            }
        }
        self.machine.close_all();
        self.transmit(&mut batch);
        Ok(())
    }

    fn now(&self) -> Instant {
        Instant::from_micros(self.start.elapsed().as_micros() as u64)
    }

    /// Takes a bounded number of datagrams; true when more may wait.
    fn receive(&mut self, buffer: &mut [u8]) -> bool {
        for _ in 0..BATCH {
            match self.socket.recv_from(buffer) {
                Ok((len, from)) => {
                    let now = self.now();
                    self.machine.handle_datagram(now, from, &mut buffer[..len]);
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return false,
                // ICMP errors of earlier sends are nobody's fault here.
                Err(_) => {}
            }
        }
        true
    }

    fn transmit(&mut self, batch: &mut Vec<u8>) {
        let now = self.now();
        while let Some(transmit) = self.machine.poll_transmit(now, batch) {
            for datagram in batch.chunks(transmit.segment_len) {
                // A full socket buffer is a lossy network; the link recovers.
                let _ = self.socket.send_to(datagram, transmit.to);
            }
        }
    }
}

/// Reads the seed, or makes one (mode 0600, complete before it has its name).
fn load_identity(path: &Path) -> Result<Identity, ServerError> {
    let error = |e| ServerError::Io(path.to_owned(), e);
    match fs::read(path) {
        Ok(bytes) => {
            let seed = bytes.try_into().map_err(|_| ServerError::Identity(path.to_owned()))?;
            Ok(Identity::from_seed(seed))
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            let mut seed = [0; 32];
            getrandom::fill(&mut seed).map_err(|e| error(io::Error::other(e.to_string())))?;
            let partial = path.with_extension("new");
            let mut file = fs::OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&partial)
                .map_err(error)?;
            file.write_all(&seed).and_then(|()| file.sync_all()).map_err(error)?;
            fs::rename(&partial, path).map_err(error)?;
            Ok(Identity::from_seed(seed))
        }
        Err(e) => Err(error(e)),
    }
}
