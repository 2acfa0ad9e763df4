//! Systems with no more than POSIX and descriptors over sockets: pipes, flags by fcntl, and looking again.

use super::{common, framed};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::{FdFlags, Result, fcntl_setfd};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket, socketpair, sockopt,
};
use std::io::{IoSlice, IoSliceMut};
#[cfg(any(not(target_os = "linux"), feature = "portable-platform"))]
use std::net::IpAddr;
#[cfg(any(test, feature = "discovery"))]
use std::net::SocketAddr;
use std::time::Duration;

/// The flag with which writing to a closed socket is an error, never a signal.
#[cfg(not(target_vendor = "apple"))]
pub(crate) const QUIET: SendFlags = SendFlags::NOSIGNAL;
/// No flag: [`common::keep_quiet`] makes writing to a closed socket an error.
#[cfg(target_vendor = "apple")]
pub(crate) const QUIET: SendFlags = SendFlags::empty();
/// Wanted size of a pair's buffers, as Linux has it. Unit: bytes. Other systems give 8 KiB, which is no burst.
const BUFFER_LEN: usize = 208 * 1024;
/// Pause between two looks at the addresses. Own choice: a node that moved is found within about a second, and an idle
/// node wakes up once more in each second.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Makes a pair of stream sockets; neither waits, and no started program inherits them.
pub(super) fn socket_pair_stream() -> Result<(OwnedFd, OwnedFd)> {
    let (a, b) = socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::empty(), None)?;
    for socket in [&a, &b] {
        set_flags(socket)?;
        common::keep_quiet(socket);
        // Smaller buffers work, and are slower.
        let _ = sockopt::set_socket_send_buffer_size(socket, BUFFER_LEN);
        let _ = sockopt::set_socket_recv_buffer_size(socket, BUFFER_LEN);
    }
    Ok((a, b))
}

/// Makes a UDP socket that sends to addresses of both families, and is bound to a port of all addresses.
///
/// # Errors
/// `AFNOSUPPORT` on a machine without IPv6; `ADDRINUSE` when the port is taken.
pub(crate) fn udp_socket_of_both(port: u16) -> Result<OwnedFd> {
    let fd = socket(AddressFamily::INET6, SocketType::DGRAM, None)?;
    set_flags(&fd)?;
    common::bind_to_both(fd, port)
}

/// Makes a UDP socket at an address whose port other programs of this machine may use as well.
///
/// # Errors
/// The error of the operating system.
#[cfg(any(test, feature = "discovery"))]
pub(crate) fn udp_socket_shared(addr: SocketAddr) -> Result<OwnedFd> {
    let family = if addr.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let fd = socket(family, SocketType::DGRAM, None)?;
    set_flags(&fd)?;
    common::bind_shared(fd, addr)
}

/// The addresses of all interfaces with the interfaces' numbers.
///
/// # Errors
/// The error of the operating system.
#[cfg(not(target_os = "linux"))]
pub(crate) fn interfaces() -> Result<Vec<(IpAddr, u32)>> {
    let listed = nix::ifaddrs::getifaddrs().map_err(|e| rustix::io::Errno::from_raw_os_error(e as i32))?;
    let ip = |address: nix::sys::socket::SockaddrStorage| {
        let v4 = address.as_sockaddr_in().map(|addr| IpAddr::V4(addr.ip()));
        v4.or_else(|| address.as_sockaddr_in6().map(|addr| IpAddr::V6(addr.ip())))
    };
    let number = |name: &str| nix::net::if_::if_nametoindex(name).unwrap_or_default();
    Ok(listed.filter_map(|interface| Some((ip(interface.address?)?, number(&interface.interface_name)))).collect())
}

/// None: Linux tells them in a way of its own.
///
/// # Errors
/// Never; other systems have something to ask.
#[cfg(all(target_os = "linux", feature = "portable-platform"))]
pub(crate) const fn interfaces() -> Result<Vec<(IpAddr, u32)>> {
    Ok(Vec::new())
}

/// None: what asks a gateway does so on Linux only.
///
/// # Errors
/// Never.
#[cfg(all(feature = "discovery", any(not(target_os = "linux"), feature = "portable-platform")))]
pub(crate) const fn gateway(_: IpAddr) -> Result<Option<SocketAddr>> {
    Ok(None)
}

/// Makes a descriptor that no started program inherits and that does not wait. A program that another thread starts right
/// now may inherit the descriptor.
fn set_flags(fd: &OwnedFd) -> Result<()> {
    fcntl_setfd(fd, FdFlags::CLOEXEC)?;
    fcntl_setfl(fd, fcntl_getfl(fd)? | OFlags::NONBLOCK)
}

/// The node's end of a pair that carries a stream; a client has the other end. Closing this end is an orderly end for the
/// client, which asks the node how the stream ended.
#[derive(Debug)]
pub(crate) struct StreamSocket(OwnedFd);

impl StreamSocket {
    /// Makes a pair; neither end waits, and no started program inherits them.
    pub(crate) fn pair() -> Result<(Self, OwnedFd)> {
        let (ours, theirs) = socket_pair_stream()?;
        Ok((Self(ours), theirs))
    }

    /// Takes what the client has written, into `room`, which is not empty. Gives 0 when the client has ended its writing, or
    /// closed its end.
    ///
    /// # Errors
    /// `AGAIN` when there is nothing; `CONNRESET` when the client has closed its end and left bytes unread, where the system
    /// tells that.
    pub(crate) fn recv(&mut self, room: &mut [u8], _may_end: bool) -> Result<usize> {
        recv(&self.0, room, RecvFlags::DONTWAIT).map(|(_, n)| n)
    }

    /// True when the client has closed its end and left bytes unread, where the system tells that. Tells once.
    pub(crate) fn takes_reset(&self) -> bool {
        matches!(sockopt::socket_error(&self.0), Ok(Err(rustix::io::Errno::CONNRESET)))
    }

    /// Prepares an orderly end, which needs nothing.
    #[allow(clippy::unused_self, reason = "the other implementation needs it")]
    pub(crate) const fn end(&mut self) {}
}

impl AsFd for StreamSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Takes what a socket has without waiting, and appends the descriptors that came along to `fds`. Gives 0 at the end.
pub(crate) fn recv_with_fds(socket: impl AsFd, buffer: &mut [u8], fds: &mut impl Extend<OwnedFd>) -> Result<usize> {
    let mut received = Vec::new();
    let n = common::recv_with_fds(socket, buffer, &mut received, RecvFlags::DONTWAIT)?;
    for fd in &received {
        fcntl_setfd(fd, FdFlags::CLOEXEC)?;
    }
    fds.extend(received);
    Ok(n)
}

/// Writes what a stream socket has room for, without waiting.
///
/// # Errors
/// `AGAIN` when there is no room; `PIPE` when the other end is closed, without a signal.
pub fn send_now(socket: impl AsFd, bytes: &[u8]) -> Result<usize> {
    send(socket, bytes, SendFlags::DONTWAIT | QUIET)
}

/// A flag between threads with a descriptor that is readable while it is raised: a pipe that is not empty.
#[derive(Debug)]
pub struct Signal {
    reader: OwnedFd,
    writer: OwnedFd,
}

impl Signal {
    /// Makes a signal that is not raised.
    ///
    /// # Errors
    /// When no descriptors are left.
    pub fn new() -> Result<Self> {
        let (reader, writer) = rustix::pipe::pipe()?;
        set_flags(&reader)?;
        set_flags(&writer)?;
        Ok(Self { reader, writer })
    }

    /// Raises the signal. Any thread; does not wait.
    pub fn notify(&self) {
        // A full pipe is readable already.
        let _ = rustix::io::write(&self.writer, &[1]);
    }

    /// Takes the signal back. Any thread; does not wait.
    pub fn drain(&self) {
        // Bounded: a pipe holds 64 KiB, and a signal raised meanwhile may stay.
        while rustix::io::read(&self.reader, &mut [0; 4096]).is_ok_and(|n| n == 4096) {}
    }
}

impl AsFd for Signal {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.reader.as_fd()
    }
}

/// The node's end of a pair that carries packets; a client has the other end.
#[derive(Debug)]
pub(crate) struct PacketSocket {
    socket: OwnedFd,
    packets: framed::Packets,
}

impl PacketSocket {
    /// A packet may have left in part; its rest leaves once there is room.
    pub(crate) const INTEREST: mio::Interest = mio::Interest::READABLE.add(mio::Interest::WRITABLE);

    /// Makes a pair; neither end waits, and no started program inherits them.
    pub(crate) fn pair() -> Result<(Self, OwnedFd)> {
        let (socket, theirs) = socket_pair_stream()?;
        Ok((Self { socket, packets: framed::Packets::default() }, theirs))
    }

    /// Sends a packet whole.
    ///
    /// # Errors
    /// `AGAIN` when there is no room; otherwise the client has closed its end.
    pub(crate) fn send(&mut self, packet: &[u8]) -> Result<()> {
        self.packets.send(&self.socket, packet, QUIET)
    }

    /// Takes the next packet, cut to the buffer. Gives 0 when the client has closed its end.
    ///
    /// # Errors
    /// `AGAIN` when there is none.
    pub(crate) fn recv(&mut self, buffer: &mut [u8]) -> Result<usize> {
        // Readiness for writing is told as a reason to read.
        let _ = self.packets.flush(&self.socket, QUIET);
        self.packets.recv(&self.socket, buffer)
    }
}

impl AsFd for PacketSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Sends a packet from the client's end of a port for datagrams. Any thread; blocks as the descriptor says.
///
/// # Errors
/// `AGAIN` for a descriptor that does not wait; `PIPE` when the node has ended; `MSGSIZE` for a packet that no path carries.
pub fn send_packet(fd: impl AsFd, parts: &[IoSlice<'_>]) -> Result<()> {
    framed::send(fd.as_fd(), parts, QUIET)
}

/// Takes the next packet at the client's end of a port for datagrams, cut to the parts. Gives 0 when the node has ended. Any
/// thread; blocks as the descriptor says.
///
/// # Errors
/// `AGAIN` for a descriptor that does not wait, when there is no packet.
pub fn recv_packet(fd: impl AsFd, parts: &mut [IoSliceMut<'_>]) -> Result<usize> {
    framed::recv(fd.as_fd(), parts)
}

/// A reason to look at the addresses from time to time.
#[derive(Debug)]
pub(crate) struct AddressWatch;

impl AddressWatch {
    /// # Errors
    /// Never; other systems have something to open.
    pub(crate) fn open() -> Result<Self> {
        Ok(Self)
    }

    /// No descriptor becomes readable.
    pub(crate) const fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    /// The pause between two looks at the addresses.
    pub(crate) const fn look_every(&self) -> Option<Duration> {
        Some(LOOK_EVERY)
    }

    /// There is no news.
    pub(crate) const fn drain(&self) -> bool {
        false
    }
}

/// A reason to look at the wall clock from time to time.
#[derive(Debug)]
pub(crate) struct StepWatch;

impl StepWatch {
    /// # Errors
    /// Never; other systems have something to open.
    pub(crate) fn open() -> Result<Self> {
        Ok(Self)
    }

    /// No descriptor becomes readable.
    pub(crate) const fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    /// The pause between two looks at the clock while something ends at a time of it.
    pub(crate) const fn look_every() -> Option<Duration> {
        Some(LOOK_EVERY)
    }

    /// There is no news.
    pub(crate) const fn drain(&self) {}
}
