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
    /// The error of the operating system, which has no netlink, or of a sandbox that forbids it.
    pub(crate) fn open() -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None)?;
        bind(&socket, &SocketAddrNetlink::new(0, GROUPS))?;
        Ok(Self(socket))
    }

    /// Takes the messages that have arrived; true when there was one. Their contents do not matter, so some may be lost when many
    /// arrive at once. Bounded by the socket's buffer.
    pub(crate) fn drain(&self) -> bool {
        let (mut told, mut message) = (false, [0; 4096]);
        loop {
            match recv(self.0.as_fd(), &mut message, RecvFlags::empty()) {
                // A longer message is cut, which does not matter.
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
        // Messages that were under way when the socket was opened.
        watch.drain();
        assert!(!watch.drain());
    }
}
