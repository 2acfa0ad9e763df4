//! Owns the loop that drives a [`Rendezvous`] with a UDP socket, a clock and files.

use crate::drain::{self, Drain};
use crate::probes::{self, Probes};
#[cfg(feature = "tls")]
use crate::tls::{self, Door};
use crate::{LogJournal, Rendezvous};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};
use pilot_core::identity::StaticKey;
use pilot_core::{Config, Instant, seen};
use pilot_node::parts::{SystemEntropy, Udp, accept_identity, echo, load_or_create_identity};
use pilot_node::{Failure, fastest_aead, fastest_agreement};
use pilot_store::{Folder, Limits, Log};
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

const SOCKET: Token = Token(0);
const WAKER: Token = Token(1);
const PROBES: Token = Token(2);
/// Receive calls of one turn, each of many datagrams, before timers and output run.
const RECEIVES_PER_TURN: usize = 8;
/// Pause while the kernel has no room for datagrams.
const BLOCKED_PAUSE: Duration = Duration::from_millis(1);

/// Time that a rendezvous serves on after the last client should have gone elsewhere.
const DRAIN_GRACE: Duration = Duration::from_secs(2);

/// Settings of a rendezvous.
pub struct ServerConfig {
    /// Folder for identity and books; made when it is missing.
    pub home: PathBuf,
    /// UDP address to serve on; `[::]` is every address of both families, and on a machine without IPv6 every IPv4 address.
    pub listen: SocketAddr,
    /// Time without a connected node after which the rendezvous ends; `None`: it never ends by itself.
    pub idle_exit: Option<Duration>,
}

/// Reason why a rendezvous cannot start.
#[derive(Debug)]
pub enum ServerError {
    /// A file or folder cannot be read or written.
    Io(PathBuf, io::Error),
    /// The UDP address cannot be served; most likely another process uses it.
    Bind(SocketAddr, io::Error),
    /// The certificate for clients over TLS cannot be used.
    Certificate(String),
    /// The folder has the books of a version that kept them in another format.
    Older(PathBuf),
    /// The identity file is damaged, other users can read it, or it cannot be made.
    Identity(Failure),
}

impl std::fmt::Display for ServerError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Io(path, e) => write!(f, "{}: {e}", path.display()),
            Self::Bind(addr, e) => write!(f, "cannot serve on {addr}: {e}"),
            Self::Older(path) => {
                write!(f, "{} was written by an earlier version; move it away to begin anew", path.display())
            }
            Self::Certificate(text) => write!(f, "TLS: {text}"),
            Self::Identity(failure) => failure.fmt(f),
        }
    }
}

impl std::error::Error for ServerError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io(_, e) | Self::Bind(_, e) => Some(e),
            Self::Older(_) | Self::Certificate(_) => None,
            Self::Identity(failure) => Some(failure),
        }
    }
}

/// A bound rendezvous, ready to run.
pub struct Server {
    machine: Rendezvous,
    udp: Udp,
    probes: Probes,
    #[cfg(feature = "tls")]
    door: Door,
    poll: Poll,
    start: std::time::Instant,
    key: StaticKey,
    local: SocketAddr,
    idle_exit: Option<Duration>,
    home: PathBuf,
    stop: Arc<AtomicBool>,
    waker: Arc<Waker>,
}

/// Ends a running [`Server`] from another thread.
#[derive(Clone)]
pub struct Stopper(Arc<AtomicBool>, Arc<Waker>);

impl Stopper {
    /// Asks the server to end; its `run` returns soon, or after the time that a [`Drain`] in its folder gives.
    pub fn stop(&self) {
        self.0.store(true, Ordering::SeqCst);
        // A loop that cannot be woken sees the flag at its next turn.
        let _ = self.1.wake();
    }
}

impl Server {
    /// Takes what is left of damaged books, and whatever identity is in the folder, for the right ones from now on.
    ///
    /// # Errors
    /// [`ServerError::Io`] and [`ServerError::Identity`] with what the file system says.
    pub fn accept_loss(home: &Path) -> Result<(), ServerError> {
        accept_identity(home).map_err(ServerError::Identity)?;
        let books = home.join("books");
        let salvaged = Folder::open(books.clone()).and_then(|folder| Log::salvage(folder, log_limits()));
        salvaged.map(drop).map_err(|e| ServerError::Io(books, e))
    }

    /// Opens the files and the socket.
    ///
    /// # Errors
    /// See [`ServerError`].
    pub fn bind(config: &ServerConfig) -> Result<Self, ServerError> {
        let io_error = |path: &Path| {
            let path = path.to_owned();
            move |e| ServerError::Io(path, e)
        };
        fs::create_dir_all(&config.home).map_err(io_error(&config.home))?;
        let identity = load_or_create_identity(&config.home).map_err(ServerError::Identity)?;
        let key = identity.static_key();
        let older = config.home.join("rendezvous.redb");
        if older.exists() {
            return Err(ServerError::Older(older));
        }
        let books = config.home.join("books");
        let log = Folder::open(books.clone()).and_then(|folder| Log::open(folder, log_limits()));
        let (journal, state) = log.and_then(LogJournal::open).map_err(io_error(&books))?;
        let bind_error = |e| ServerError::Bind(config.listen, e);
        let udp = Udp::bind(config.listen).map_err(bind_error)?;
        let local = udp.local_addr();
        let poll = Poll::new().map_err(bind_error)?;
        poll.registry().register(&mut SourceFd(&udp.as_raw_fd()), SOCKET, Interest::READABLE).map_err(bind_error)?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER).map_err(bind_error)?);
        let mut core = Config::new(identity, Box::new(SystemEntropy));
        (core.aead, core.agreement) = (fastest_aead(), fastest_agreement());
        core.wall_at_zero_us = wall_us();
        let machine = Rendezvous::new(core, state, Box::new(journal));
        let stop = Arc::new(AtomicBool::new(false));
        let start = std::time::Instant::now();
        drain::forget(&config.home);
        let (idle_exit, home) = (config.idle_exit, config.home.clone());
        Ok(Self {
            machine,
            udp,
            probes: Probes::default(),
            #[cfg(feature = "tls")]
            door: Door::default(),
            poll,
            start,
            key,
            local,
            idle_exit,
            home,
            stop,
            waker,
        })
    }

    /// Returns the key that nodes pin, and the bound address.
    pub const fn endpoint(&self) -> (StaticKey, SocketAddr) {
        (self.key, self.local)
    }

    /// Serves clients over TLS, too, or as plain WebSockets for a reverse proxy (`certificate`: `None`). Returns the bound address.
    ///
    /// # Errors
    /// [`ServerError::Bind`] and [`ServerError::Certificate`].
    #[cfg(feature = "tls")]
    pub fn listen_tcp(
        &mut self,
        addr: SocketAddr,
        certificate: Option<&tls::Certificate>,
    ) -> Result<SocketAddr, ServerError> {
        let config = certificate.map(tls::Certificate::config).transpose().map_err(ServerError::Certificate)?;
        self.door.listen(self.poll.registry(), addr, config).map_err(|e| ServerError::Bind(addr, e))
    }

    /// Answers nodes at another address, or on another port, what is seen of them, so that they learn what their NATs do. Returns the
    /// bound address. `None`: on the port above the main one.
    ///
    /// # Errors
    /// [`ServerError::Bind`], also for more than three addresses.
    pub fn listen_probe(&mut self, addr: Option<SocketAddr>) -> Result<SocketAddr, ServerError> {
        let none = || ServerError::Bind(self.local, io::ErrorKind::AddrNotAvailable.into());
        let addr = addr.or_else(|| probes::beside(self.local)).ok_or_else(none)?;
        let bound = self.probes.listen(self.poll.registry(), PROBES, addr);
        let bound = bound.map_err(|e| ServerError::Bind(addr, e))?;
        self.machine.set_probes(&self.probes.addrs());
        Ok(bound)
    }

    /// Relays so many bytes in a second at most, shared fairly among the clients that send; `None`: as many as the socket takes.
    pub fn set_relay_budget(&mut self, per_second: Option<u64>) {
        self.machine.set_relay_budget(self.now(), per_second);
    }

    /// Returns a handle that ends the server from any thread.
    pub fn stopper(&self) -> Stopper {
        Stopper(self.stop.clone(), self.waker.clone())
    }

    /// Serves until [`Stopper::stop`], or until no node has been connected for `idle_exit`; then clients are told of the end, or
    /// have been sent elsewhere. Blocks the calling thread.
    ///
    /// # Errors
    /// When the operating system cannot wait for the socket.
    pub fn run(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(256);
        let mut batch = Vec::new();
        let mut last_connected = self.now();
        let (mut readable, mut ends_at) = (true, None);
        loop {
            let now = self.now();
            if ends_at.is_none() && self.stop.load(Ordering::SeqCst) {
                let Some(drain) = Drain::take(&self.home) else { break };
                self.machine.send_away(now, drain.to, drain.span);
                ends_at = Some(now + drain.span + DRAIN_GRACE);
            }
            if ends_at.is_some_and(|at| at <= now) {
                return Ok(()); // the tunnels of clients that have gone elsewhere are not closed
            }
            self.machine.set_wall(now, wall_us());
            self.machine.handle_timeout(now);
            readable = readable && self.receive();
            self.probes.serve();
            #[cfg(feature = "tls")]
            {
                let (machine, now) = (&mut self.machine, Instant::from_micros(self.start.elapsed().as_micros() as u64));
                self.door.receive(now, self.poll.registry(), |from, datagram| {
                    machine.handle_datagram(now, from, datagram);
                });
            }
            self.transmit(&mut batch);
            let due = self.machine.poll_timeout().map(|(at, _)| at).into_iter().chain(ends_at);
            #[cfg(feature = "tls")]
            let due = due.chain(self.door.poll_timeout());
            let due = due.min();
            let mut timeout = due.map(|at| at.since(self.now()));
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
            if self.udp.is_blocked() {
                timeout = Some(timeout.map_or(BLOCKED_PAUSE, |t| t.min(BLOCKED_PAUSE)));
            }
            #[cfg(feature = "tls")]
            let has_more = readable || self.door.has_more();
            #[cfg(not(feature = "tls"))]
            let has_more = readable;
            if has_more || self.probes.is_readable() {
                timeout = Some(Duration::ZERO);
            }
            match self.poll.poll(&mut events, timeout) {
                Err(e) if e.kind() != io::ErrorKind::Interrupted => return Err(e),
                _ => readable |= events.iter().any(|e| e.token() == SOCKET),
            }
            if events.iter().any(|e| e.token() == PROBES) {
                self.probes.readiness();
            }
            #[cfg(feature = "tls")]
            events.iter().for_each(|event| self.door.readiness(event.token()));
        }
        self.machine.close_all();
        self.transmit(&mut batch);
        Ok(())
    }

    fn now(&self) -> Instant {
        Instant::from_micros(self.start.elapsed().as_micros() as u64)
    }

    /// Takes a bounded number of datagrams; tells whether more may wait.
    fn receive(&mut self) -> bool {
        let mut echoes = Vec::new();
        for _ in 0..RECEIVES_PER_TURN {
            let now = self.now();
            let machine = &mut self.machine;
            let may_have_more = self.udp.recv_batch(|from, batch, segment_len| {
                #[cfg(feature = "tls")]
                if tls::is_origin(&from) {
                    return; // a forged address: no datagram comes from there
                }
                for datagram in batch.chunks_mut(segment_len.max(1)) {
                    let seen = || seen::answer(datagram, &from).map(Vec::from);
                    match echo(datagram).map(Vec::from).or_else(seen) {
                        Some(answer) => echoes.push((from, answer)),
                        None => machine.handle_datagram(now, from, datagram),
                    }
                }
            });
            for (to, answer) in echoes.drain(..) {
                // An answer for which the kernel has no room is lost, as in a network.
                if !self.udp.is_blocked() {
                    self.udp.send_batch(to, answer.len(), &answer);
                }
            }
            if !may_have_more {
                return false;
            }
        }
        true
    }

    /// Sends every datagram that the machine has, until the kernel has no room.
    fn transmit(&mut self, batch: &mut Vec<u8>) {
        let now = self.now();
        while !self.udp.is_blocked()
            && let Some(transmit) = self.machine.poll_transmit(now, batch)
        {
            #[cfg(feature = "tls")]
            if tls::is_origin(&transmit.to) {
                self.door.send(transmit.to, transmit.segment_len, batch);
                continue;
            }
            self.udp.send_batch(transmit.to, transmit.segment_len, batch);
        }
        #[cfg(feature = "tls")]
        self.door.flush();
    }
}

/// The sizes of the log. Small disks serve too: the reserve has to hold the removal of letters only.
fn log_limits() -> Limits {
    Limits { reserve_len: 64 << 10, ..Limits::default() }
}

/// The wall clock. Unit: microseconds since 1970.
fn wall_us() -> u64 {
    SystemTime::UNIX_EPOCH.elapsed().map_or(0, |d| d.as_micros() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_second_start_has_the_same_key_and_a_damaged_identity_is_never_replaced() {
        let home = std::env::temp_dir().join(format!("pilot-rendezvous-{}", std::process::id()));
        let config =
            ServerConfig { home: home.clone(), listen: "127.0.0.1:0".parse().expect("valid"), idle_exit: None };
        let key = || Server::bind(&config).map(|server| server.endpoint().0);
        let first = key().expect("a fresh folder");
        assert_eq!(key().expect("the same folder"), first);
        let file = home.join("identity");
        assert_eq!(fs::metadata(&file).expect("made").permissions().mode() & 0o777, 0o600);
        fs::write(&file, [7; 31]).expect("writable");
        assert!(matches!(key(), Err(ServerError::Identity(_))));
        assert_eq!(fs::read(&file).expect("readable"), [7; 31]);
        fs::remove_dir_all(home).expect("made above");
    }
}
