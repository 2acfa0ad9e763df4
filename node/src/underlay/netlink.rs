//! Owns the watch on this machine's addresses: Linux tells through a netlink socket when they change (rtnetlink(7)).

use rustix::fd::{AsFd as _, AsRawFd, OwnedFd, RawFd};
use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, bind, recv, socket_with};
use std::io;

/// Groups of messages: an IPv4 address or route comes or goes. Source: linux/rtnetlink.h (RTMGRP_IPV4_IFADDR, RTMGRP_IPV4_ROUTE).
const GROUPS: u32 = 0x10 | 0x40;
/// A socket that is readable after addresses changed.
#[derive(Debug)]
pub(crate) struct NetworkWatch(OwnedFd);

impl NetworkWatch {
    /// # Errors
    /// What the system says: it has no netlink, or a sandbox forbids it.
    pub(crate) fn open() -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None)?;
        bind(&socket, &SocketAddrNetlink::new(0, GROUPS))?;
        Ok(Self(socket))
    }

    /// Takes what has been told; true when it was anything. What exactly does not matter, and some of it may be lost when much
    /// happens at once. Bounded by the socket's buffer.
    pub(crate) fn drain(&self) -> bool {
        let (mut told, mut message) = (false, [0; 4096]);
        loop {
            match recv(self.0.as_fd(), &mut message, RecvFlags::empty()) {
                // Longer messages are cut.
                Ok(_) | Err(Errno::NOBUFS) => told = true,
                Err(Errno::INTR) => {}
                Err(_) => return told,
            }
        }
    }
}

impl AsRawFd for NetworkWatch {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_told_when_nothing_happens() {
        let watch = NetworkWatch::open().expect("Linux");
        // What was under way when it was opened.
        watch.drain();
        assert!(!watch.drain());
    }
}
