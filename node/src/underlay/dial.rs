//! Owns the calling of a server: its addresses are tried in order, the next one also before the last has failed (RFC 8305).

use crate::platform::{keep_quiet, send_at_once};
use crate::underlay::resolver::ADDRESSES_MAX;
use mio::net::{TcpStream, UnixStream};
use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use pilot_core::Instant;
use rustix::net::{getpeername, sockopt};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::PathBuf;
use std::time::Duration;

/// Longest call of a server. Source: own choice; a dead target on this machine refuses at once.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long one address has before the next is tried beside it. Source: RFC 8305 §5.
const STAGGER: Duration = Duration::from_millis(250);
/// Pause before a server with a full queue of waiting connections is called again. Own choice.
const QUEUE_PAUSE: Duration = Duration::from_millis(10);

/// An address to call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Address {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

/// The state of a call.
pub(crate) enum Dialed {
    /// An answer or this moment is waited for.
    Waits(Instant),
    Connected(OwnedFd),
    Failed(String),
}

/// A call under way.
pub(crate) struct Dial {
    /// The last one is tried next.
    untried: Vec<Address>,
    tried: Vec<OwnedFd>,
    next_at: Instant,
    until: Instant,
    /// The reason of the last failure.
    why: String,
}

impl Dial {
    /// A call of these addresses, of which at most [`ADDRESSES_MAX`] are tried.
    pub(crate) fn new(mut addresses: Vec<Address>, now: Instant) -> Self {
        addresses.truncate(ADDRESSES_MAX);
        addresses.reverse();
        let why = "it has no address".into();
        Self { untried: addresses, tried: Vec::new(), next_at: now, until: now + CONNECT_TIMEOUT, why }
    }

    /// The sockets under way.
    pub(crate) fn descriptors(&self) -> &[OwnedFd] {
        &self.tried
    }

    /// Looks at the sockets under way, and tries the next address when that is due. Sockets are registered under `token`.
    pub(crate) fn progress(&mut self, now: Instant, registry: &Registry, token: Token) -> Dialed {
        loop {
            if let Some(socket) = self.connected() {
                return Dialed::Connected(socket);
            }
            if now >= self.until {
                return Dialed::Failed(format!("no answer within {} s", CONNECT_TIMEOUT.as_secs()));
            }
            if !self.tried.is_empty() && now < self.next_at {
                break;
            }
            match self.untried.pop() {
                Some(address) => {
                    if let Some(again_at) = self.try_address(address, now, registry, token) {
                        return Dialed::Waits(again_at);
                    }
                }
                None if self.tried.is_empty() => return Dialed::Failed(std::mem::take(&mut self.why)),
                None => break,
            }
        }
        Dialed::Waits(if self.untried.is_empty() { self.until } else { self.next_at.min(self.until) })
    }

    /// Takes a socket that is connected out, and forgets those that have failed.
    fn connected(&mut self) -> Option<OwnedFd> {
        let mut at = 0;
        while let Some(socket) = self.tried.get(at) {
            match sockopt::socket_error(socket).and_then(|result| result) {
                Err(why) => {
                    self.why = io::Error::from(why).to_string();
                    self.tried.remove(at);
                }
                Ok(()) if getpeername(socket).is_ok() => return Some(self.tried.remove(at)),
                Ok(()) => at += 1,
            }
        }
        None
    }

    /// Calls one address. Gives the moment of another try when the server has no room for the call now.
    fn try_address(&mut self, address: Address, now: Instant, registry: &Registry, token: Token) -> Option<Instant> {
        let socket = match &address {
            Address::Tcp(addr) => TcpStream::connect(*addr).map(OwnedFd::from),
            Address::Unix(path) => UnixStream::connect(path).map(OwnedFd::from),
        };
        let registered = socket.and_then(|socket| {
            let interest = Interest::READABLE | Interest::WRITABLE;
            registry.register(&mut SourceFd(&socket.as_raw_fd()), token, interest)?;
            Ok(socket)
        });
        match registered {
            Ok(socket) => {
                send_at_once(&socket);
                keep_quiet(&socket);
                self.tried.push(socket);
                self.next_at = now + STAGGER;
                debug_assert!(self.tried.len() <= ADDRESSES_MAX);
                None
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                self.untried.push(address);
                Some((now + QUEUE_PAUSE).min(self.until))
            }
            Err(e) => {
                self.why = e.to_string();
                None
            }
        }
    }
}
