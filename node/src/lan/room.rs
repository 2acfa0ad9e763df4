//! The room of the announcements on this machine's networks: when they leave, and how many of others are looked at.

use crate::answer;
use crate::context::Context;
use crate::crypto::entropy;
use crate::platform::{interfaces, udp_socket_shared};
use crate::token::Room;
use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use pilot_core::Instant;
use pilot_core::endpoint::ANNOUNCEMENT_LEN_MAX;
use pilot_core::time::Duration;
use rustix::net::sockopt::{set_ip_multicast_if, set_ipv6_multicast_if};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, UdpSocket};
use std::os::fd::AsRawFd as _;

/// Port and groups of announcements, of which routers let nothing pass. Source: own choice; RFC 2365 and RFC 4291 §2.7, groups that
/// no registry gives.
const PORT: u16 = 0x504e;
const GROUP_V4: Ipv4Addr = Ipv4Addr::new(239, 255, 0x50, 0x4e);
const GROUP_V6: Ipv6Addr = Ipv6Addr::new(0xff12, 0, 0, 0, 0, 0, 0, 0x504e);
/// Most addresses from which announcements leave. Source: own choice, as many as peers are told.
const SPOTS_MAX: usize = 12;
/// Pauses between announcements while a peer is missed, ± 20 %; the last one repeats. Unit: seconds. Source: own choice.
const PAUSES_S: [u64; 4] = [3, 10, 60, 300];
/// Shortest pause before an announcement that another node or the loss of a peer causes. Source: own choice.
const CAUSED_PAUSE: Duration = Duration::from_secs(5);
/// Time within which nodes that have the same reason announce themselves. Unit: milliseconds. Source: own choice.
const SPREAD_MS: u64 = 500;
/// Announcements that are looked at in a second, and at once. Source: own choice; each costs a hash for each peer.
const HEARD_PER_SECOND_MAX: u64 = 20;
/// Most datagrams that are read when a socket has some; what is beyond waits for the next one. Source: own choice.
const RECEIVES_MAX: usize = 16;

/// The announcements of this node.
pub(crate) struct Lan {
    is_on: bool,
    registry: Registry,
    /// The node's port, to which peers answer.
    port: u16,
    /// Where announcements leave.
    spots: Vec<Spot>,
    /// The sockets that hear those of others, by family.
    ears: [Option<UdpSocket>; 2],
    announce_at: Option<Instant>,
    announced_at: Option<Instant>,
    /// Announcements since this machine's addresses changed.
    step: usize,
    /// Announcements that may be looked at, and since when more were allowed.
    left: u64,
    since: Instant,
    heard: u64,
}

/// An address of this machine, and the number of its interface.
type Spot = (IpAddr, u32);

impl Lan {
    pub(crate) const fn new(is_on: bool, registry: Registry) -> Self {
        Self {
            is_on,
            registry,
            port: 0,
            spots: Vec::new(),
            ears: [const { None }; 2],
            announce_at: None,
            announced_at: None,
            step: 0,
            left: HEARD_PER_SECOND_MAX,
            since: Instant::ZERO,
            heard: 0,
        }
    }

    /// Addresses of this machine may have changed. `bound`: where the node's socket is bound.
    pub(crate) fn look(&mut self, now: Instant, bound: SocketAddr) {
        // A sandbox may forbid the list.
        if let (true, Ok(listed)) = (self.is_on, interfaces()) {
            self.use_spots(now, bound.port(), spots(bound, &listed));
        }
    }

    fn use_spots(&mut self, now: Instant, port: u16, spots: Vec<Spot>) {
        debug_assert!(spots.len() <= SPOTS_MAX, "announcements leave from a few addresses");
        if (port, &spots) == (self.port, &self.spots) {
            return;
        }
        (self.port, self.spots, self.step) = (port, spots, 0);
        self.ears = [false, true].map(|is_v6| {
            let on = |(ip, _): &&Spot| ip.is_ipv6() == is_v6;
            let ear = self.spots.iter().any(|spot| on(&spot)).then(|| ear(is_v6).ok()).flatten()?;
            // An interface that is going is not joined.
            self.spots.iter().filter(on).for_each(|spot| drop(join(&ear, spot)));
            let token = Room::Lan.token(usize::from(is_v6));
            let registered = self.registry.register(&mut SourceFd(&ear.as_raw_fd()), token, Interest::READABLE);
            registered.is_ok().then_some(ear)
        });
        self.announce_at = (!self.spots.is_empty()).then(|| now + spread());
    }

    /// A socket has something.
    pub(crate) fn readiness(&mut self, cx: &mut Context, token: Token) {
        let Some(ear) = self.ears.get(Room::Lan.number(token)).and_then(Option::as_ref) else { return };
        let mut room = [0; ANNOUNCEMENT_LEN_MAX + 1];
        let mut is_known = false;
        for _ in 0..RECEIVES_MAX {
            let Ok((len, from)) = ear.recv_from(&mut room) else { break };
            if cx.now.since(self.since) >= Duration::from_secs(1) {
                (self.left, self.since) = (HEARD_PER_SECOND_MAX, cx.now);
            }
            let Some(left) = self.left.checked_sub(1) else { break };
            self.left = left;
            if cx.stack.endpoint_mut().handle_announcement(cx.now, from, &room[..len]) {
                self.heard += 1;
                is_known = true;
            }
        }
        if is_known {
            self.hurry(cx.now); // so that the peer finds this node, too, if a datagram is lost
        }
    }

    /// A reason to announce this node soon: a peer is there, or cannot be reached.
    pub(crate) fn hurry(&mut self, now: Instant) {
        let may = self.announced_at.is_none_or(|at| now.since(at) >= CAUSED_PAUSE);
        self.announce_at = self.announce_at.map(|at| if may { at.min(now + spread()) } else { at });
    }

    pub(crate) fn handle_timeout(&mut self, cx: &mut Context) {
        if self.announce_at.take_if(|at| *at <= cx.now).is_none() {
            return;
        }
        for spot in &self.spots {
            let from = SocketAddr::new(spot.0, self.port);
            let Some(announcement) = cx.stack.endpoint_mut().announcement(cx.now, from) else { break };
            // The interface may be gone, which is told soon.
            let _ = send(spot, &announcement);
            self.announced_at = Some(cx.now);
        }
        let pause_ms = 1000 * PAUSES_S[self.step.min(PAUSES_S.len() - 1)];
        let jitter = u64::from(u16::from_le_bytes(entropy())) * (2 * pause_ms / 5) / 0x1_0000;
        self.announce_at = Some(cx.now + Duration::from_millis(pause_ms * 4 / 5 + jitter));
        self.step += 1;
    }

    pub(crate) const fn poll_timeout(&self) -> Option<Instant> {
        self.announce_at
    }

    /// What `info` says.
    pub(crate) const fn report(&self) -> answer::Lan {
        answer::Lan { on: self.is_on, heard: self.heard }
    }
}

fn spread() -> Duration {
    Duration::from_millis(u64::from(u16::from_le_bytes(entropy())) % SPREAD_MS)
}

/// The addresses from which announcements leave: those of IPv4, and of IPv6 one for each interface, if possible one that is not
/// link-local. Other nodes of this machine hear them as well; a node that is bound to one address has one.
fn spots(bound: SocketAddr, listed: &[Spot]) -> Vec<Spot> {
    let is_any = bound.ip().is_unspecified();
    let is_used = |(ip, _): &&Spot| {
        let is_far = !ip.is_loopback() && !ip.is_multicast() && !ip.is_unspecified();
        is_far && (bound.is_ipv6() || ip.is_ipv4()) && (is_any || *ip == bound.ip())
    };
    let is_near = |ip: &IpAddr| matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local());
    let mut spots: Vec<Spot> = Vec::new();
    let (near, far): (Vec<&Spot>, Vec<&Spot>) = listed.iter().filter(is_used).partition(|(ip, _)| is_near(ip));
    for (ip, interface) in far.into_iter().chain(near) {
        let is_double = |(known, on): &Spot| known == ip || known.is_ipv6() && ip.is_ipv6() && on == interface;
        if spots.len() < SPOTS_MAX && !spots.iter().any(is_double) {
            spots.push((*ip, *interface));
        }
    }
    spots
}

/// A socket that hears announcements, as other nodes of this machine do.
fn ear(is_v6: bool) -> rustix::io::Result<UdpSocket> {
    let any = if is_v6 { IpAddr::V6(Ipv6Addr::UNSPECIFIED) } else { IpAddr::V4(Ipv4Addr::UNSPECIFIED) };
    udp_socket_shared(SocketAddr::new(any, PORT)).map(UdpSocket::from)
}

fn join(ear: &UdpSocket, (ip, interface): &Spot) -> io::Result<()> {
    match ip {
        IpAddr::V4(ip) => ear.join_multicast_v4(&GROUP_V4, ip),
        IpAddr::V6(_) => ear.join_multicast_v6(&GROUP_V6, *interface),
    }
}

/// Sends an announcement to the network of an address; its hop limit is the system's for multicast, which is one.
fn send((ip, interface): &Spot, announcement: &[u8]) -> io::Result<()> {
    let (from, to): (SocketAddr, SocketAddr) = match ip {
        IpAddr::V4(ip) => ((*ip, 0).into(), (GROUP_V4, PORT).into()),
        IpAddr::V6(ip) => {
            let scope = if ip.is_unicast_link_local() { *interface } else { 0 };
            (SocketAddrV6::new(*ip, 0, 0, scope).into(), SocketAddrV6::new(GROUP_V6, PORT, 0, *interface).into())
        }
    };
    let socket = UdpSocket::bind(from)?;
    socket.set_nonblocking(true)?;
    match ip {
        IpAddr::V4(ip) => set_ip_multicast_if(&socket, ip)?,
        IpAddr::V6(_) => set_ipv6_multicast_if(&socket, *interface)?,
    }
    socket.send_to(announcement, to).map(drop)
}

#[cfg(test)]
mod tests;
