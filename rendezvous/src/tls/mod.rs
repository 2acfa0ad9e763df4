//! Owns the clients that come by TCP, over TLS or as plain WebSockets behind a reverse proxy, and gives each an underlay address of
//! its own, so that the machine serves them as it serves all others.

mod certificate;
mod origin;

pub use certificate::Certificate;
pub(crate) use origin::is_origin;

use mio::net::{TcpListener, TcpStream};
use mio::{Interest, Registry, Token};
use origin::origin;
use pilot_core::Instant;
use pilot_node::parts::{Channel, Entered, Entering};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// Connections that are served at once. Source: own choice; a connection over TLS takes up to 100 KiB and a descriptor.
const CONNECTIONS_MAX: usize = 4096;
/// Connections of one network among them, while they carry no datagrams yet: a stranger that says nothing takes no more.
const ENTERING_MAX: usize = 256;
/// Time for TLS and the upgrade.
const ENTER_TIME: Duration = Duration::from_secs(10);
/// Silence after which a connection is closed. Source: more than two keepalives of a node (`docs/paths.md`, "Rules").
const SILENCE_MAX: Duration = Duration::from_secs(75);
/// How often connections that are over time are looked for.
const SWEEP_PAUSE: Duration = Duration::from_secs(1);
/// Connections that one turn accepts.
const ACCEPTS_PER_TURN: usize = 64;
/// Pause before connections are accepted again when no descriptor was left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Number of the first token of a listener; those of connections follow.
const TOKEN_BASE: usize = 16;
/// Listeners at most.
const LISTENERS_MAX: usize = 8;

struct Listener {
    socket: TcpListener,
    /// `None`: a plain WebSocket.
    tls: Option<Arc<rustls::ServerConfig>>,
}

enum Phase {
    Enters(Entering),
    Open(Channel),
}

struct Connection {
    phase: Phase,
    /// The address under which the machine knows the client.
    addr: SocketAddr,
    /// Behind a reverse proxy, which says where the client is.
    is_forwarded: bool,
    is_ready: bool,
    /// Something waits for the socket.
    is_filled: bool,
    /// When the connection ends unless something comes.
    until: Instant,
}

/// The listeners and connections.
#[derive(Default)]
pub(crate) struct Door {
    listeners: Vec<Listener>,
    is_knocked: bool,
    accept_at: Option<Instant>,
    /// By the number in their addresses.
    connections: Vec<Option<Box<Connection>>>,
    free: Vec<usize>,
    /// Connections with something to do, perhaps more than once, or gone.
    ready: Vec<usize>,
    filled: Vec<usize>,
    /// Tells two connections with the same number apart.
    generation: u32,
    sweep_at: Option<Instant>,
}

impl Door {
    /// Listens at `addr`; gives the bound address.
    ///
    /// # Errors
    /// The error of the operating system.
    pub(crate) fn listen(
        &mut self,
        registry: &Registry,
        addr: SocketAddr,
        tls: Option<Arc<rustls::ServerConfig>>,
    ) -> io::Result<SocketAddr> {
        if self.listeners.len() == LISTENERS_MAX {
            return Err(io::ErrorKind::QuotaExceeded.into());
        }
        let mut socket = TcpListener::bind(addr)?;
        registry.register(&mut socket, Token(TOKEN_BASE + self.listeners.len()), Interest::READABLE)?;
        let bound = socket.local_addr()?;
        self.listeners.push(Listener { socket, tls });
        self.is_knocked = true;
        Ok(bound)
    }

    /// A descriptor is ready.
    pub(crate) fn readiness(&mut self, token: Token) {
        let Some(number) = token.0.checked_sub(TOKEN_BASE) else { return };
        match number.checked_sub(LISTENERS_MAX) {
            None => self.is_knocked = true,
            Some(number) => self.mark(number),
        }
    }

    fn mark(&mut self, number: usize) {
        if let Some(Some(connection)) = self.connections.get_mut(number)
            && !std::mem::replace(&mut connection.is_ready, true)
        {
            self.ready.push(number);
        }
    }

    /// Takes new connections and what has come; each datagram goes to `f` with the address of its client.
    pub(crate) fn receive(&mut self, now: Instant, registry: &Registry, mut f: impl FnMut(SocketAddr, &mut [u8])) {
        if self.listeners.is_empty() {
            return;
        }
        if self.accept_at.take_if(|at| *at <= now).is_some() {
            self.is_knocked = true;
        }
        if std::mem::take(&mut self.is_knocked) {
            self.accept(now, registry);
        }
        for number in std::mem::take(&mut self.ready) {
            self.serve(now, number, &mut f);
        }
        if self.sweep_at.is_none_or(|at| at <= now) {
            self.sweep_at = Some(now + SWEEP_PAUSE);
            for number in 0..self.connections.len() {
                if self.connections[number].as_ref().is_some_and(|connection| connection.until <= now) {
                    self.end(number);
                }
            }
        }
    }

    fn accept(&mut self, now: Instant, registry: &Registry) {
        let (mut accepted, mut count) = (Vec::new(), 0);
        for (at, listener) in self.listeners.iter().enumerate() {
            while count < ACCEPTS_PER_TURN {
                match listener.socket.accept() {
                    Ok((socket, from)) => accepted.push((at, socket, from)),
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                    Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                    Err(_) => {
                        self.accept_at = Some(now + ACCEPT_PAUSE);
                        break;
                    }
                }
                count += 1;
            }
        }
        self.is_knocked |= count == ACCEPTS_PER_TURN;
        for (at, socket, from) in accepted {
            // A connection for which there is no room, no TLS or no place at the poll is closed.
            let _ = self.enter(now, registry, (at, socket), from.ip());
        }
    }

    fn enter(
        &mut self,
        now: Instant,
        registry: &Registry,
        (listener, socket): (usize, TcpStream),
        from: IpAddr,
    ) -> Option<()> {
        let tls = &self.listeners[listener].tls;
        let is_forwarded = tls.is_none();
        let session = tls.clone().map(rustls::ServerConnection::new).transpose().ok()?;
        if self.connections.len() - self.free.len() >= CONNECTIONS_MAX || self.entering(from) >= ENTERING_MAX {
            // The one that has entered for the longest without a word of ours gives way.
            let enters = |connection: &Connection| matches!(connection.phase, Phase::Enters(_));
            let entering = self.connections.iter().enumerate().filter_map(|(n, c)| Some((n, c.as_ref()?)));
            let (oldest, _) = entering.filter(|(_, c)| enters(c)).min_by_key(|(_, c)| c.until)?;
            self.end(oldest);
        }
        let mut entering = Entering::new(socket, session);
        let number = self.free.pop().unwrap_or(self.connections.len());
        let interest = Interest::READABLE | Interest::WRITABLE;
        let token = Token(TOKEN_BASE + LISTENERS_MAX + number);
        let registered = registry.register(entering.socket(), token, interest);
        if number == self.connections.len() {
            self.connections.push(None);
        }
        if registered.is_err() {
            self.free.push(number);
            return None;
        }
        self.generation = self.generation.wrapping_add(1);
        self.connections[number] = Some(Box::new(Connection {
            phase: Phase::Enters(entering),
            addr: origin(from, number as u32, self.generation),
            is_forwarded,
            is_ready: false,
            is_filled: false,
            until: now + ENTER_TIME,
        }));
        debug_assert!(self.connections.len() <= CONNECTIONS_MAX);
        self.mark(number);
        Some(())
    }

    /// Connections of an address's network that carry nothing yet.
    fn entering(&self, from: IpAddr) -> usize {
        let of = |addr: &SocketAddr| origin::network(addr);
        let network = of(&origin(from, 0, 0));
        let open = self.connections.iter().flatten();
        open.filter(|c| matches!(c.phase, Phase::Enters(_)) && of(&c.addr) == network).count()
    }

    fn serve(&mut self, now: Instant, number: usize, f: &mut impl FnMut(SocketAddr, &mut [u8])) {
        let Some(mut connection) = self.connections.get_mut(number).and_then(Option::take) else { return };
        connection.is_ready = false;
        let mut is_entered = false;
        connection.phase = match connection.phase {
            Phase::Enters(entering) => match entering.advance() {
                Entered::Waits(entering) => Phase::Enters(entering),
                Entered::Over => return self.free.push(number),
                Entered::Stands(channel, forwarded) => {
                    if let Some(ip) = forwarded.filter(|_| connection.is_forwarded) {
                        self.generation = self.generation.wrapping_add(1);
                        connection.addr = origin(ip, number as u32, self.generation);
                    }
                    is_entered = true;
                    Phase::Open(channel)
                }
            },
            open => open,
        };
        let (addr, mut is_alive, mut has_more) = (connection.addr, true, is_entered);
        if let Phase::Open(channel) = &mut connection.phase {
            let read = channel.receive(|datagram| f(addr, datagram));
            match read {
                Ok(more) => has_more = more,
                Err(_) => is_alive = false,
            }
            is_alive &= channel.flush().is_ok();
            // A socket that can be written to says nothing of the client.
            if channel.take_sign_of_life() | is_entered {
                connection.until = now + SILENCE_MAX;
            }
        }
        if !is_alive {
            return self.free.push(number);
        }
        self.connections[number] = Some(connection);
        if has_more {
            self.mark(number);
        }
    }

    fn end(&mut self, number: usize) {
        if self.connections[number].take().is_some() {
            self.free.push(number);
        }
    }

    /// Queues a batch for the client with this address; one that is gone loses it.
    pub(crate) fn send(&mut self, to: SocketAddr, segment_len: usize, batch: &[u8]) {
        let Some(number) = origin::number(&to) else { return };
        let connection = self.connections.get_mut(number).and_then(Option::as_mut);
        let Some(connection) = connection.filter(|connection| connection.addr == to) else { return };
        let Phase::Open(channel) = &mut connection.phase else { return };
        batch.chunks(segment_len.max(1)).for_each(|datagram| channel.send(datagram));
        if !std::mem::replace(&mut connection.is_filled, true) {
            self.filled.push(number);
        }
    }

    /// Gives the sockets what was queued, as far as they have room.
    pub(crate) fn flush(&mut self) {
        for number in std::mem::take(&mut self.filled) {
            let Some(Some(connection)) = self.connections.get_mut(number) else { continue };
            connection.is_filled = false;
            if let Phase::Open(channel) = &mut connection.phase
                && channel.flush().is_err()
            {
                self.end(number);
            }
        }
    }

    /// True while there is work that no readiness announces.
    pub(crate) const fn has_more(&self) -> bool {
        !self.ready.is_empty() || self.is_knocked
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let has_any = self.connections.len() > self.free.len();
        self.sweep_at.filter(|_| has_any).into_iter().chain(self.accept_at).min()
    }
}

#[cfg(test)]
mod tests;
