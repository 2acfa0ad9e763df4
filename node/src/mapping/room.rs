//! The room of the port that this machine's gateways map to this node: a socket for each gateway, and what peers are told.

use super::codec::DATAGRAM_LEN_MAX;
use super::mapper::{Lack, Mapper};
use super::upnp::Lease;
use crate::answer::PortMapping;
use crate::context::Context;
use crate::crypto::entropy;
use crate::platform::{gateway, udp_socket_shared};
use crate::token::Room;
use crate::underlay::addresses::{ANYWHERE_V4, ANYWHERE_V6, is_private, source};
use mio::unix::SourceFd;
use mio::{Interest, Registry, Token, Waker};
use pilot_core::Instant;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::sync::Arc;

/// Port of gateways that map ports, and the one at which they tell everybody that they have begun anew. Source: RFC 6887 §19.
const GATEWAY_PORT: u16 = 5351;
const NEWS_PORT: u16 = 5350;
/// Most datagrams that are read when a socket has some; what is beyond waits for the next one. Source: own choice.
const RECEIVES_MAX: usize = 16;
/// Gateways: one of each family.
const GATES_MAX: usize = 2;
/// The number of the socket for news among those of this room.
const NEWS: usize = GATES_MAX;

/// The mappings of this node.
pub(crate) struct Mapping {
    is_on: bool,
    registry: Registry,
    waker: Arc<Waker>,
    gates: Vec<Gate>,
    news: Option<UdpSocket>,
    /// The addresses that peers were told.
    told: Vec<SocketAddr>,
    /// Where the rendezvous saw this node last.
    reflexive: Option<SocketAddr>,
}

/// A gateway, and this machine's address towards it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Door {
    at: SocketAddr,
    client: SocketAddr,
}

struct Gate {
    at: SocketAddr,
    /// Connected to the gateway: the system lets nothing else in.
    socket: UdpSocket,
    mapper: Mapper,
    /// What is tried beside, once the gateway has not answered or refused.
    lease: Option<Lease>,
}

impl Mapping {
    pub(crate) const fn new(is_on: bool, registry: Registry, waker: Arc<Waker>) -> Self {
        Self { is_on, registry, waker, gates: Vec::new(), news: None, told: Vec::new(), reflexive: None }
    }

    /// Routes or addresses may have changed. `bound`: where the node's socket is bound.
    pub(crate) fn look(&mut self, now: Instant, bound: SocketAddr) {
        if self.is_on {
            self.use_doors(now, &doors(bound));
        }
    }

    /// Asks these gateways, and no others. A mapping at one that is left ends with its lifetime.
    fn use_doors(&mut self, now: Instant, doors: &[Door]) {
        debug_assert!(doors.len() <= GATES_MAX, "one gateway of each family");
        self.gates.retain(|gate| doors.contains(&Door { at: gate.at, client: gate.mapper.client() }));
        for door in doors {
            let number = usize::from(door.at.is_ipv6());
            if !self.gates.iter().any(|gate| gate.at == door.at)
                && let Some(socket) = connected(door)
                && self.register(&socket, number)
            {
                let mapper = Mapper::new(now, door.client, entropy());
                self.gates.push(Gate { at: door.at, socket, mapper, lease: None });
            }
        }
        if self.gates.is_empty() {
            self.news = None;
        } else if self.news.is_none() {
            let any = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), NEWS_PORT);
            let socket = udp_socket_shared(any).ok().map(UdpSocket::from);
            self.news = socket.filter(|socket| self.register(socket, NEWS)); // without it restarts show at the renewal
        }
    }

    fn register(&self, socket: &UdpSocket, number: usize) -> bool {
        let token = Room::Mapping.token(number);
        self.registry.register(&mut SourceFd(&socket.as_raw_fd()), token, Interest::READABLE).is_ok()
    }

    /// A socket has something.
    pub(crate) fn readiness(&mut self, now: Instant, token: Token) {
        let mut room = [0; DATAGRAM_LEN_MAX + 1];
        if Room::Mapping.number(token) == NEWS {
            let Some(socket) = &self.news else { return };
            for _ in 0..RECEIVES_MAX {
                let Ok((len, from)) = socket.recv_from(&mut room) else { return };
                let of_sender = self.gates.iter_mut().filter(|gate| gate.at.ip() == from.ip());
                of_sender.for_each(|gate| gate.mapper.hear(now, &room[..len]));
            }
            return;
        }
        let is_v6 = Room::Mapping.number(token) == 1;
        for gate in self.gates.iter_mut().filter(|gate| gate.at.is_ipv6() == is_v6) {
            for _ in 0..RECEIVES_MAX {
                match gate.socket.recv(&mut room) {
                    Ok(len) => gate.mapper.handle(now, &room[..len]),
                    Err(e) if e.kind() == ErrorKind::ConnectionRefused => gate.mapper.on_unreachable(now),
                    Err(_) => break,
                }
            }
        }
    }

    pub(crate) fn handle_timeout(&mut self, cx: &mut Context) {
        if self.gates.is_empty() && self.told.is_empty() {
            return;
        }
        let seen = cx.stack.endpoint().reflexive();
        let is_another = seen.is_some() && self.reflexive.is_some_and(|before| Some(before) != seen);
        self.reflexive = seen.or(self.reflexive);
        for gate in &mut self.gates {
            if is_another {
                gate.mapper.ask_anew(cx.now);
            }
            gate.mapper.handle_timeout(cx.now);
            gate.send();
            gate.try_lease(cx.now, &self.waker);
        }
        let mapped: Vec<SocketAddr> =
            self.gates.iter().filter_map(|gate| gate.held().ok()).map(|held| held.1).collect();
        if mapped != self.told {
            self.told.clone_from(&mapped);
            cx.stack.endpoint_mut().set_mapped(cx.now, mapped);
        }
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let of = |gate: &Gate| {
            let lease = gate.lease.as_ref().map(Lease::poll_timeout);
            lease.map_or(gate.mapper.poll_timeout(), |at| at.min(gate.mapper.poll_timeout()))
        };
        self.gates.iter().map(of).min()
    }

    /// What `info` says: of a mapping, or of the gateway that was asked first.
    pub(crate) fn report(&self, cx: &Context) -> PortMapping {
        let mut states = self.gates.iter().map(Gate::held);
        let best = states.clone().find(Result::is_ok).or_else(|| states.next());
        let why = |why: &str| PortMapping { why: Some(why.into()), ..PortMapping::default() };
        match best {
            Some(Ok((by, external, until))) => PortMapping {
                kind: Some(by.into()),
                external: Some(external.to_string()),
                until: Some((cx.wall)() + until.since(cx.now).as_secs()),
                why: None,
            },
            Some(Err(lack)) => why(lack.name()),
            None => why(if self.is_on { "not_needed" } else { "off" }),
        }
    }

    /// Gives the mappings back. Only one by UPnP is waited for, a moment; what is lost ends with its lifetime.
    pub(crate) fn end(&self) {
        for gate in &self.gates {
            for datagram in gate.mapper.farewell().into_iter().cycle().take(2) {
                // The gateway may be gone.
                let _ = gate.socket.send(&datagram);
            }
            gate.lease.iter().for_each(Lease::end);
        }
    }
}

impl Gate {
    /// By which protocol which address is mapped, and until when.
    fn held(&self) -> Result<(&'static str, SocketAddr, Instant), Lack> {
        let lease = || self.lease.as_ref().and_then(Lease::held);
        match self.mapper.held() {
            Ok(held) => Ok((held.by.name(), held.external, held.until)),
            Err(lack) => lease().map(|(external, until)| ("upnp", external, until)).ok_or(lack),
        }
    }

    /// UPnP is for a gateway that speaks nothing better.
    fn try_lease(&mut self, now: Instant, waker: &Arc<Waker>) {
        let lacks = matches!(self.mapper.held(), Err(Lack::Silent | Lack::Refused));
        if self.lease.is_none() && lacks && self.at.is_ipv4() {
            self.lease = Some(Lease::new(now, self.at.ip(), self.mapper.client(), waker.clone()));
        }
        self.lease.take_if(|lease| !lacks && lease.held().is_none());
        if let Some(lease) = &mut self.lease {
            lease.handle_timeout(now);
        }
    }

    fn send(&mut self) {
        while let Some(datagram) = self.mapper.poll_transmit() {
            // What is lost is asked again.
            let _ = self.socket.send(&datagram);
        }
    }
}

/// The gateways that are worth a question: there is one on the way to the internet, and this machine has an address there that the
/// internet cannot reach. A machine with a public IPv4 address is behind no gateway that maps ports.
fn doors(bound: SocketAddr) -> Vec<Door> {
    let is_any = bound.ip().is_unspecified();
    let v4 = Some(ANYWHERE_V4).filter(|_| is_any || bound.is_ipv4()).and_then(|to| door(bound, to));
    let has_public_v4 = source(ANYWHERE_V4).is_some_and(|ip| !is_private(ip) && !ip.is_loopback());
    let asks_v6 = bound.is_ipv6() && !has_public_v4;
    let v6 = Some(ANYWHERE_V6).filter(|_| asks_v6).and_then(|to| door(bound, to));
    v4.filter(|door| is_private(door.client.ip())).into_iter().chain(v6).collect()
}

/// The gateway on the way to `to`, which speaks to the address from which datagrams leave for there.
fn door(bound: SocketAddr, to: SocketAddr) -> Option<Door> {
    let mut at = gateway(to.ip()).ok()??;
    at.set_port(GATEWAY_PORT);
    let client = if bound.ip().is_unspecified() { source(to)? } else { bound.ip() };
    let is_usable = client.is_ipv4() == at.is_ipv4() && !client.is_loopback() && !client.is_multicast();
    is_usable.then_some(Door { at, client: SocketAddr::new(client, bound.port()) })
}

/// A socket from this machine's address to the gateway: PCP wants the request to come from the address that it names.
fn connected(door: &Door) -> Option<UdpSocket> {
    let socket = UdpSocket::bind((door.client.ip(), 0)).ok()?;
    socket.set_nonblocking(true).ok()?;
    socket.connect(door.at).ok()?;
    Some(socket)
}

#[cfg(test)]
mod tests;
