//! Linux: eventfd, SOCK_SEQPACKET, and netlink, which tells when addresses change (rtnetlink(7)).

use super::{common, netlink};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::{Errno, Result, ioctl_fionread, read};
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::sockopt::socket_error;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvFlags, SendAncillaryBuffer, SendFlags, SocketFlags, SocketType, bind, recv,
    recvmsg, send, sendmsg, socket_with, socketpair,
};
use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create, timerfd_settime};
use std::io::{IoSlice, IoSliceMut};
use std::net::IpAddr;
#[cfg(any(test, feature = "discovery"))]
use std::net::SocketAddr;
use std::time::Duration;

/// The flag with which writing to a closed socket is an error, never a signal.
pub(crate) const QUIET: SendFlags = SendFlags::NOSIGNAL;
/// Sockets go to no program that is started, and do not wait.
const FLAGS: SocketFlags = SocketFlags::CLOEXEC.union(SocketFlags::NONBLOCK);
/// Groups of messages: an address or route of either family comes or goes. Source: linux/rtnetlink.h (RTMGRP_IPV4_IFADDR,
/// RTMGRP_IPV4_ROUTE, RTMGRP_IPV6_IFADDR, RTMGRP_IPV6_ROUTE).
const GROUPS: u32 = 0x10 | 0x40 | 0x100 | 0x400;

/// Makes a pair of stream sockets; neither waits, and no started program inherits them.
pub(super) fn socket_pair_stream() -> Result<(OwnedFd, OwnedFd)> {
    socketpair(AddressFamily::UNIX, SocketType::STREAM, FLAGS, None)
}

/// Makes a UDP socket that sends to addresses of both families, and is bound to a port of all addresses.
///
/// # Errors
/// `AFNOSUPPORT` on a machine without IPv6; `ADDRINUSE` when the port is taken.
pub(crate) fn udp_socket_of_both(port: u16) -> Result<OwnedFd> {
    common::bind_to_both(socket_with(AddressFamily::INET6, SocketType::DGRAM, FLAGS, None)?, port)
}

/// Makes a UDP socket at an address whose port other programs of this machine may use as well.
///
/// # Errors
/// The error of the operating system.
#[cfg(any(test, feature = "discovery"))]
pub(crate) fn udp_socket_shared(addr: SocketAddr) -> Result<OwnedFd> {
    let family = if addr.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    common::bind_shared(socket_with(family, SocketType::DGRAM, FLAGS, None)?, addr)
}

/// The addresses of all interfaces with the interfaces' numbers, those first that are for outgoing connections.
///
/// # Errors
/// The system has no netlink, or a sandbox forbids it.
pub(crate) fn interfaces() -> Result<Vec<(IpAddr, u32)>> {
    netlink::addresses(socket_with(AddressFamily::NETLINK, SocketType::RAW, FLAGS, None)?)
}

/// The machine to which datagrams for `to` go first, with port 0; `None` where no other machine is between.
///
/// # Errors
/// There is no way there; the system has no netlink, or a sandbox forbids it.
#[cfg(feature = "discovery")]
pub(crate) fn gateway(to: IpAddr) -> Result<Option<SocketAddr>> {
    super::route::gateway(socket_with(AddressFamily::NETLINK, SocketType::RAW, FLAGS, None)?, to)
}

/// Most bytes, written at a time, of which the last one is left. Linux wakes a blocked writer when its unread buffers, with all their
/// bytes, are a quarter of its limit or less, and one buffer holds up to 64 KiB. Unit: bytes. Source: `unix_writable`;
/// a writer with a limit of 20 KiB goes on.
const LEFT_LEN_MAX: usize = 4096;

/// The node's end of a pair that carries a stream; a client has the other end.
///
/// Closing an end of such a pair gives the other end ECONNRESET when bytes were left unread, and an orderly end otherwise
/// (unix(7) does not say so; `unix_release_sock` does, since Linux 2.6). So this end always leaves one byte unread, until
/// [`StreamSocket::end`], unless the client writes much: a stream that breaks, and a node that dies, reset the client's end.
#[derive(Debug)]
pub(crate) struct StreamSocket {
    fd: OwnedFd,
    /// The first byte in the socket was given to the caller before.
    is_stale: bool,
    /// Bytes taken since there were none: the next ones may stand in one buffer with these.
    taken: usize,
}

impl StreamSocket {
    /// Makes a pair; neither end waits, and no started program inherits them.
    pub(crate) fn pair() -> Result<(Self, OwnedFd)> {
        let (fd, theirs) = socket_pair_stream()?;
        send_now(&theirs, &[0])?;
        Ok((Self { fd, is_stale: true, taken: 0 }, theirs))
    }

    /// Takes what the client has written, into `room`, which is not empty. Gives 0 when the client has ended its writing, or
    /// closed its end. `may_end`: the system has reported such an end.
    ///
    /// # Errors
    /// `AGAIN` when there is nothing; `CONNRESET` when the client has closed its end and left bytes unread.
    pub(crate) fn recv(&mut self, room: &mut [u8], may_end: bool) -> Result<usize> {
        loop {
            let stale = usize::from(self.is_stale);
            let waiting = ioctl_fionread(&self.fd)? as usize;
            debug_assert!(waiting >= stale, "a byte that was left is there");
            let fresh = waiting.saturating_sub(stale);
            if fresh == 0 {
                self.taken = 0;
                return if may_end { self.end_of_client() } else { Err(Errno::AGAIN) };
            }
            let len = fresh.min(room.len());
            // The last byte is read and left, unless its buffer may be so large that a blocked writer would wait for it.
            let taken = if len == fresh && self.taken + fresh <= LEFT_LEN_MAX { len - 1 } else { len };
            let (mut skipped, mut n) = ([0], 0);
            if stale + taken > 0 {
                let parts = &mut [IoSliceMut::new(&mut skipped[..stale]), IoSliceMut::new(&mut room[..taken])];
                let received =
                    recvmsg(&self.fd, parts, &mut RecvAncillaryBuffer::default(), RecvFlags::DONTWAIT)?.bytes;
                n = received.saturating_sub(stale);
                self.is_stale = false;
            }
            // Fewer bytes come where a descriptor travelled along, which this end closes.
            if n == taken && taken < len {
                recv(&self.fd, &mut room[taken..len], RecvFlags::DONTWAIT | RecvFlags::PEEK)?;
                self.is_stale = true;
                n = len;
            }
            if n > 0 {
                self.taken = self.taken.saturating_add(n);
                return Ok(n);
            }
        }
    }

    fn end_of_client(&self) -> Result<usize> {
        let mut fds = [PollFd::new(&self.fd, PollFlags::RDHUP)];
        poll(&mut fds, Some(&Timespec::default()))?;
        if !fds[0].revents().intersects(PollFlags::RDHUP | PollFlags::HUP) {
            return Err(Errno::AGAIN);
        }
        socket_error(&self.fd)?.map(|()| 0)
    }

    /// True when the client has closed its end and left bytes unread. Tells once.
    pub(crate) fn takes_reset(&self) -> bool {
        matches!(socket_error(&self.fd), Ok(Err(Errno::CONNRESET)))
    }

    /// Prepares an orderly end: the client reads the end instead of an error when this end is closed.
    pub(crate) fn end(&mut self) {
        if self.is_stale {
            // A failure leaves the byte, and the client reads an error.
            let _ = recv(&self.fd, &mut [0], RecvFlags::DONTWAIT);
            self.is_stale = false;
        }
    }
}

impl AsFd for StreamSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Takes what a socket has without waiting, and appends the descriptors that came along to `fds`. Gives 0 at the end.
pub(crate) fn recv_with_fds(socket: impl AsFd, buffer: &mut [u8], fds: &mut impl Extend<OwnedFd>) -> Result<usize> {
    common::recv_with_fds(socket, buffer, fds, RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC)
}

/// Writes what a stream socket has room for, without waiting.
///
/// # Errors
/// `AGAIN` when there is no room; `PIPE` when the other end is closed, without a signal.
pub fn send_now(socket: impl AsFd, bytes: &[u8]) -> Result<usize> {
    send(socket, bytes, SendFlags::DONTWAIT | QUIET)
}

/// A flag between threads with a descriptor that is readable while it is raised.
#[derive(Debug)]
pub struct Signal(OwnedFd);

impl Signal {
    /// Makes a signal that is not raised.
    ///
    /// # Errors
    /// When no descriptors are left.
    pub fn new() -> Result<Self> {
        eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map(Self)
    }

    /// Raises the signal. Any thread; does not wait.
    pub fn notify(&self) {
        // A full counter is readable already.
        let _ = rustix::io::write(&self.0, &1u64.to_ne_bytes());
    }

    /// Takes the signal back. Any thread; does not wait.
    pub fn drain(&self) {
        // Empty as well when the signal was not raised.
        let _ = rustix::io::read(&self.0, &mut [0; 8]);
    }
}

impl AsFd for Signal {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// The node's end of a pair that carries packets; a client has the other end.
#[derive(Debug)]
pub(crate) struct PacketSocket(OwnedFd);

impl PacketSocket {
    /// Readiness for writing means nothing to a socket that sends a packet whole or not at all.
    pub(crate) const INTEREST: mio::Interest = mio::Interest::READABLE;

    /// Makes a pair; neither end waits, and no started program inherits them.
    pub(crate) fn pair() -> Result<(Self, OwnedFd)> {
        let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, FLAGS, None)?;
        Ok((Self(ours), theirs))
    }

    /// Sends a packet whole.
    ///
    /// # Errors
    /// `AGAIN` when there is no room; otherwise the client has closed its end.
    pub(crate) fn send(&mut self, packet: &[u8]) -> Result<()> {
        send_now(&self.0, packet).map(drop)
    }

    /// Takes the next packet, cut to the buffer. Gives 0 when the client has closed its end.
    ///
    /// # Errors
    /// `AGAIN` when there is none.
    pub(crate) fn recv(&mut self, buffer: &mut [u8]) -> Result<usize> {
        match recv(&self.0, buffer, RecvFlags::DONTWAIT) {
            Ok((_, n)) => Ok(n),
            Err(Errno::CONNRESET) => Ok(0),
            Err(e) => Err(e),
        }
    }
}

impl AsFd for PacketSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Sends a packet from the client's end of a port for datagrams. Any thread; blocks as the descriptor says.
///
/// # Errors
/// `AGAIN` for a descriptor that does not wait; `PIPE` when the node has ended; `MSGSIZE` for a packet that no path carries.
pub fn send_packet(fd: impl AsFd, parts: &[IoSlice<'_>]) -> Result<()> {
    sendmsg(fd, parts, &mut SendAncillaryBuffer::default(), QUIET).map(drop)
}

/// Takes the next packet at the client's end of a port for datagrams, cut to the parts. Gives 0 when the node has ended. Any
/// thread; blocks as the descriptor says.
///
/// # Errors
/// `AGAIN` for a descriptor that does not wait, when there is no packet.
pub fn recv_packet(fd: impl AsFd, parts: &mut [IoSliceMut<'_>]) -> Result<usize> {
    Ok(recvmsg(fd, parts, &mut RecvAncillaryBuffer::default(), RecvFlags::empty())?.bytes)
}

/// A socket that is readable after addresses changed.
#[derive(Debug)]
pub(crate) struct AddressWatch(OwnedFd);

impl AddressWatch {
    /// # Errors
    /// The system has no netlink, or a sandbox forbids it.
    pub(crate) fn open() -> Result<Self> {
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, FLAGS, None)?;
        bind(&socket, &SocketAddrNetlink::new(0, GROUPS))?;
        Ok(Self(socket))
    }

    /// The descriptor that becomes readable.
    pub(crate) fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        Some(self.0.as_fd())
    }

    /// The system tells of changes.
    pub(crate) const fn look_every(&self) -> Option<Duration> {
        None
    }

    /// Takes the news; true when there was any. The contents do not matter, and some news may be lost when much happens at
    /// once. Bounded by the socket's buffer.
    pub(crate) fn drain(&self) -> bool {
        let (mut told, mut message) = (false, [0; 4096]);
        loop {
            match recv(&self.0, &mut message, RecvFlags::empty()) {
                // Longer messages are cut.
                Ok(_) | Err(Errno::NOBUFS) => told = true,
                Err(Errno::INTR) => {}
                Err(_) => return told,
            }
        }
    }
}

/// A timer that is readable after the wall clock was set, or the machine has slept.
#[derive(Debug)]
pub(crate) struct StepWatch(OwnedFd);

/// A time at which no watch is needed any more. Unit: seconds since 1970.
const NEVER_S: i64 = i64::MAX / 4_000_000_000;

impl StepWatch {
    /// # Errors
    /// A sandbox forbids it, or no descriptors are left.
    pub(crate) fn open() -> Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let watch = Self(timerfd_create(TimerfdClockId::Realtime, flags)?);
        watch.arm()?;
        Ok(watch)
    }

    fn arm(&self) -> Result<()> {
        let never = Itimerspec {
            it_interval: Timespec { tv_sec: 0, tv_nsec: 0 },
            it_value: Timespec { tv_sec: NEVER_S, tv_nsec: 0 },
        };
        let flags = TimerfdTimerFlags::ABSTIME | TimerfdTimerFlags::CANCEL_ON_SET;
        timerfd_settime(&self.0, flags, &never)?;
        Ok(())
    }

    /// The descriptor that becomes readable.
    pub(crate) fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        Some(self.0.as_fd())
    }

    /// The system tells of steps.
    pub(crate) const fn look_every() -> Option<Duration> {
        None
    }

    /// Takes the news.
    pub(crate) fn drain(&self) {
        let mut count = [0; 8];
        while matches!(read(&self.0, &mut count), Ok(_) | Err(Errno::CANCELED | Errno::INTR)) {
            if self.arm().is_err() {
                return; // never: the same call has succeeded before
            }
        }
    }
}
