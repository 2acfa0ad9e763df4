//! Owns the UDP socket: batches of datagrams in and out (recvmmsg with GRO, sendmsg with GSO) through quinn-udp, and the forms that
//! addresses have at the socket: above this file an IPv4 address is never written as an IPv6 one.

use crate::platform::udp_socket_of_both;
use crate::underlay::nat64::{Nat64, Translation};
use crate::underlay::sources::Sources;
use quinn_udp::{BATCH_SIZE, RecvMeta, Transmit, UdpSockRef, UdpSocketState};
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, UdpSocket};
use std::os::fd::{AsRawFd, RawFd};

/// Wanted size of the kernel's buffers. Unit: bytes. The kernel may grant less.
pub const SOCKET_BUFFER_LEN: usize = 4 << 20;
/// Room for one batch of datagrams that GRO has joined. Unit: bytes.
const SLOT_LEN: usize = 65_535;
/// Batches that one receive call takes at most.
const SLOTS: usize = if BATCH_SIZE < 8 { BATCH_SIZE } else { 8 };

/// The addresses to which a socket can send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Carries {
    V4,
    V6,
    Both,
}

/// Room for what one receive call takes.
struct Buffers {
    slots: [Vec<u8>; SLOTS],
    meta: [RecvMeta; SLOTS],
}

/// A node's UDP socket, with room for what comes to that one and to its others.
pub struct Udp {
    main: Socket,
    buffers: Buffers,
}

/// A non-blocking UDP socket that moves many datagrams per system call.
pub(super) struct Socket {
    socket: UdpSocket,
    local: SocketAddr,
    carries: Carries,
    /// The way to IPv4 addresses on a network that has IPv6 alone.
    translation: Option<Translation>,
    /// The addresses of this machine that others speak to; `None` for a socket that is bound to one.
    sources: Option<Sources>,
    state: UdpSocketState,
    /// A batch for which the kernel had no room: destination, length of each datagram but the last, bytes.
    blocked: Option<(SocketAddr, usize, Vec<u8>)>,
    /// The kernel cuts batches into datagrams.
    gso: bool,
}

impl Udp {
    /// Binds a socket and asks the kernel for large buffers. `[::]` is every address of both families; on a machine without
    /// IPv6 it is every IPv4 address.
    ///
    /// # Errors
    /// The error of the operating system: the address is taken or not this machine's, or no descriptors are left.
    pub fn bind(addr: SocketAddr) -> io::Result<Self> {
        let slots = std::array::from_fn(|_| vec![0; SLOT_LEN]);
        let buffers = Buffers { slots, meta: [RecvMeta::default(); SLOTS] };
        Ok(Self { main: Socket::bind(addr)?, buffers })
    }

    /// The bound address; `[::]` stands for every address of both families.
    pub const fn local_addr(&self) -> SocketAddr {
        self.main.local
    }

    /// Sizes of the kernel's buffers for sending and receiving, as the kernel tells them; 0 where it does not. Unit: bytes.
    pub fn buffers(&self) -> (usize, usize) {
        self.main.buffers()
    }

    /// The routes or addresses of this machine have changed. `nat64`: the way to IPv4 addresses, on a network without IPv4.
    pub(crate) fn network_changed(&mut self, nat64: Option<Nat64>) {
        self.main.network_changed(nat64);
    }

    /// Binds another socket to the same addresses, on a port of its own.
    ///
    /// # Errors
    /// The error of the operating system, for instance that no descriptors are left.
    pub(super) fn another(&self) -> io::Result<Socket> {
        let mut socket = Socket::bind(SocketAddr::new(self.main.local.ip(), 0))?;
        socket.sources = None; // nothing comes here unasked
        socket.translation.clone_from(&self.main.translation);
        Ok(socket)
    }

    /// Takes datagrams with one receive call and gives them to `f` in batches: the source, its datagrams behind each other,
    /// and the length of each but the last. Bounded by eight batches of 65,535 bytes; never blocks. False when the socket has
    /// no more.
    pub fn recv_batch(&mut self, f: impl FnMut(SocketAddr, &mut [u8], usize)) -> bool {
        self.main.recv_batch(&mut self.buffers, f)
    }

    /// [`Udp::recv_batch`] for another socket.
    pub(super) fn recv_at(&mut self, socket: &mut Socket, f: impl FnMut(SocketAddr, &mut [u8], usize)) -> bool {
        socket.recv_batch(&mut self.buffers, f)
    }

    /// Tries to send the batch that waits for room in the kernel. True while it still waits; the caller must not send another
    /// batch before.
    pub fn is_blocked(&mut self) -> bool {
        self.main.is_blocked()
    }

    /// Sends a batch of datagrams that have `segment_len` bytes each, the last one perhaps fewer, from the address of this machine
    /// to which `to` spoke last. The part for which the kernel has no room is kept; other errors lose datagrams, as a network
    /// does.
    pub fn send_batch(&mut self, to: SocketAddr, segment_len: usize, batch: &[u8]) {
        self.main.send_batch(to, segment_len, batch);
    }
}

impl Socket {
    fn bind(addr: SocketAddr) -> io::Result<Self> {
        let addr = canonical(addr);
        let socket = match udp_socket(addr) {
            Err(e) if addr.ip() == Ipv6Addr::UNSPECIFIED && is_without_ipv6(&e) => {
                UdpSocket::bind((Ipv4Addr::UNSPECIFIED, addr.port()))?
            }
            bound => bound?,
        };
        let local = socket.local_addr()?;
        let carries = match local {
            SocketAddr::V4(_) => Carries::V4,
            SocketAddr::V6(addr) if addr.ip().is_unspecified() => Carries::Both,
            SocketAddr::V6(_) => Carries::V6,
        };
        let state = UdpSocketState::new(UdpSockRef::from(&socket))?;
        // Smaller buffers lose more datagrams, but work.
        let _ = state.set_send_buffer_size(UdpSockRef::from(&socket), SOCKET_BUFFER_LEN);
        let _ = state.set_recv_buffer_size(UdpSockRef::from(&socket), SOCKET_BUFFER_LEN);
        let gso = state.max_gso_segments() > 1;
        let sources = local.ip().is_unspecified().then(Sources::default);
        Ok(Self { socket, local, carries, translation: None, sources, state, blocked: None, gso })
    }

    /// Sizes of the kernel's buffers for sending and receiving, as the kernel tells them; 0 where it does not. Unit: bytes.
    fn buffers(&self) -> (usize, usize) {
        let socket = || UdpSockRef::from(&self.socket);
        (self.state.send_buffer_size(socket()).unwrap_or(0), self.state.recv_buffer_size(socket()).unwrap_or(0))
    }

    fn network_changed(&mut self, nat64: Option<Nat64>) {
        self.translation = nat64.filter(|_| self.carries != Carries::V4).map(Translation::new);
        if let Some(sources) = &mut self.sources {
            *sources = Sources::default();
        }
    }

    /// An address as the socket takes it; `None` when the socket cannot send there.
    fn destination(&mut self, to: SocketAddr) -> Option<SocketAddr> {
        let (ip, port) = (to.ip(), to.port());
        match (ip, self.carries) {
            (IpAddr::V4(_), Carries::V4) => Some(to),
            (IpAddr::V6(ip), carries) => {
                self.translation.iter_mut().for_each(|translation| translation.note(ip));
                (carries != Carries::V4).then_some(to)
            }
            (IpAddr::V4(ip), carries) => {
                let translated = self.translation.as_ref().and_then(|translation| translation.outwards(ip));
                let mapped = (carries == Carries::Both).then(|| ip.to_ipv6_mapped());
                translated.or(mapped).map(|ip| SocketAddr::from((ip, port)))
            }
        }
    }

    /// The address from which datagrams to `to`, in the form `wire`, leave; `None`: the one that the system chooses.
    fn source(&mut self, to: SocketAddr, wire: SocketAddr) -> Option<IpAddr> {
        let source = self.sources.as_mut()?.local(&to)?;
        let is_v4 = matches!(wire.ip().to_canonical(), IpAddr::V4(_));
        // Of the systems only Linux lets IPv4 datagrams of a socket for both families choose.
        let can_choose = cfg!(target_os = "linux") || !is_v4 || self.carries == Carries::V4;
        Some(source).filter(|source| can_choose && source.is_ipv4() == is_v4)
    }

    fn recv_batch(&mut self, buffers: &mut Buffers, mut f: impl FnMut(SocketAddr, &mut [u8], usize)) -> bool {
        let mut slices = buffers.slots.each_mut().map(|buffer| IoSliceMut::new(buffer));
        let count = match self.state.recv(UdpSockRef::from(&self.socket), &mut slices, &mut buffers.meta) {
            Ok(count) => count,
            Err(e) => return e.kind() != io::ErrorKind::WouldBlock,
        };
        let mut len = 0;
        for (meta, buffer) in buffers.meta.iter().zip(&mut buffers.slots).take(count) {
            len += meta.len;
            let mut from = canonical(meta.addr);
            if let (Some(translation), IpAddr::V6(ip)) = (&self.translation, from.ip())
                && let Some(ip) = translation.inwards(ip)
            {
                from.set_ip(IpAddr::V4(ip));
            }
            if let (Some(sources), Some(local)) = (&mut self.sources, meta.dst_ip) {
                sources.note(from, local.to_canonical());
            }
            f(from, &mut buffer[..meta.len], meta.stride);
        }
        // The kernel fills all slots while it has more. After many bytes, more have probably arrived meanwhile.
        count == SLOTS || len > SLOT_LEN / 2
    }

    /// As [`Udp::is_blocked`].
    pub(super) fn is_blocked(&mut self) -> bool {
        if let Some((to, segment_len, batch)) = self.blocked.take() {
            self.send_batch(to, segment_len, &batch);
        }
        self.blocked.is_some()
    }

    /// As [`Udp::send_batch`].
    pub(super) fn send_batch(&mut self, to: SocketAddr, segment_len: usize, batch: &[u8]) {
        let Some(destination) = self.destination(to) else { return };
        let src_ip = self.source(to, destination);
        let chunk = if self.gso { batch.len() } else { segment_len };
        for (at, part) in batch.chunks(chunk.max(1)).enumerate() {
            let segment_size = (part.len() > segment_len).then_some(segment_len);
            let transmit = Transmit { destination, ecn: None, contents: part, segment_size, src_ip };
            match self.state.try_send(UdpSockRef::from(&self.socket), &transmit) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    self.blocked = Some((to, segment_len, part.to_vec()));
                    return;
                }
                // The address that was asked is not this machine's any more: the system chooses.
                Err(e) if src_ip.is_some() && is_no_source(&e) => {
                    self.forget_source(&to);
                    return self.send_batch(to, segment_len, &batch[at * chunk..]);
                }
                // The kernel or the network card refuses GSO: datagrams leave one by one from now on.
                Err(_) if self.gso && segment_size.is_some() && self.state.max_gso_segments() <= 1 => {
                    self.gso = false;
                    return self.send_batch(to, segment_len, part);
                }
                _ => {}
            }
        }
    }

    fn forget_source(&mut self, to: &SocketAddr) {
        if let Some(sources) = &mut self.sources {
            sources.forget(to);
        }
        // The state may have taken the error for a refusal of GSO, which it remembers for ever.
        if self.gso
            && let Ok(state) = UdpSocketState::new(UdpSockRef::from(&self.socket))
        {
            self.state = state;
        }
    }
}

fn udp_socket(addr: SocketAddr) -> io::Result<UdpSocket> {
    if addr.ip() == Ipv6Addr::UNSPECIFIED { Ok(udp_socket_of_both(addr.port())?.into()) } else { UdpSocket::bind(addr) }
}

/// True for the errors of a machine without IPv6.
fn is_without_ipv6(e: &io::Error) -> bool {
    let of = rustix::io::Errno::from_io_error(e);
    matches!(of, Some(rustix::io::Errno::AFNOSUPPORT | rustix::io::Errno::ADDRNOTAVAIL))
}

/// True for the errors of a datagram that cannot leave from the address that was chosen for it.
fn is_no_source(e: &io::Error) -> bool {
    use io::ErrorKind::{AddrNotAvailable, HostUnreachable, InvalidInput, NetworkUnreachable};
    matches!(e.kind(), InvalidInput | AddrNotAvailable | NetworkUnreachable | HostUnreachable)
}

/// The one form of an address: IPv4 addresses are never written as IPv6 ones, and only link-local addresses name an interface.
fn canonical(addr: SocketAddr) -> SocketAddr {
    match addr {
        SocketAddr::V6(v6) => match v6.ip().to_canonical() {
            IpAddr::V4(ip) => SocketAddr::from((ip, v6.port())),
            IpAddr::V6(ip) => {
                let scope = if ip.is_unicast_link_local() { v6.scope_id() } else { 0 };
                SocketAddrV6::new(ip, v6.port(), 0, scope).into()
            }
        },
        SocketAddr::V4(_) => addr,
    }
}

impl AsRawFd for Udp {
    fn as_raw_fd(&self) -> RawFd {
        self.main.as_raw_fd()
    }
}

impl AsRawFd for Socket {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

#[cfg(test)]
mod tests;
