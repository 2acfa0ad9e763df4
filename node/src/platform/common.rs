//! Owns the parts that both implementations share.

use rustix::fd::{AsFd, OwnedFd};
use rustix::io::Result;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use rustix::process::Uid;
use std::io::IoSliceMut;
use std::mem::MaybeUninit;
#[cfg(any(test, feature = "discovery"))]
use std::net::SocketAddr;
use std::net::{Ipv6Addr, SocketAddrV6};

/// Descriptors that one call takes.
const FDS_MAX: usize = 4;

/// Takes what a socket has, and appends the descriptors that came along to `fds`. Gives 0 at the end.
pub(super) fn recv_with_fds(
    socket: impl AsFd,
    buffer: &mut [u8],
    fds: &mut impl Extend<OwnedFd>,
    flags: RecvFlags,
) -> Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_MAX))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let n = recvmsg(socket, &mut [IoSliceMut::new(buffer)], &mut ancillary, flags)?.bytes;
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = message {
            fds.extend(received);
        }
    }
    Ok(n)
}

/// Binds a UDP socket to a port of all addresses of both families.
pub(super) fn bind_to_both(fd: OwnedFd, port: u16) -> Result<OwnedFd> {
    rustix::net::sockopt::set_ipv6_v6only(&fd, false)?;
    rustix::net::bind(&fd, &SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, port, 0, 0))?;
    Ok(fd)
}

/// Binds a UDP socket to a port that several programs hear.
#[cfg(any(test, feature = "discovery"))]
pub(super) fn bind_shared(fd: OwnedFd, addr: SocketAddr) -> Result<OwnedFd> {
    rustix::net::sockopt::set_socket_reuseaddr(&fd, true)?;
    #[cfg(not(target_os = "linux"))]
    rustix::net::sockopt::set_socket_reuseport(&fd, true)?;
    if addr.is_ipv6() {
        rustix::net::sockopt::set_ipv6_v6only(&fd, true)?;
    }
    rustix::net::bind(&fd, &addr)?;
    Ok(fd)
}

/// True when the peer process runs as the same user, or as root. Source: docs/interfaces.md, "IPC".
pub(crate) fn peer_is_ours(stream: impl AsFd) -> bool {
    peer_uid(stream).is_some_and(|uid| uid == rustix::process::geteuid() || uid.is_root())
}

/// The user as which the process at the other end runs: the one that connected, or that listened.
#[cfg(target_os = "linux")]
pub(crate) fn peer_uid(stream: impl AsFd) -> Option<Uid> {
    rustix::net::sockopt::socket_peercred(stream).ok().map(|credentials| credentials.uid)
}

/// The user as which the process at the other end runs: the one that connected, or that listened.
#[cfg(not(target_os = "linux"))]
pub(crate) fn peer_uid(stream: impl AsFd) -> Option<Uid> {
    nix::unistd::getpeereid(stream).ok().map(|(uid, _)| Uid::from_raw(uid.as_raw()))
}

/// The number of the process at the other end; `None` where the system does not tell, or has no number for it here.
#[cfg(target_os = "linux")]
pub(crate) fn peer_pid(stream: impl AsFd) -> Option<u32> {
    let pid = rustix::net::sockopt::socket_peercred(stream).ok()?.pid.as_raw_pid();
    u32::try_from(pid).ok().filter(|pid| *pid > 0)
}

/// The number of the process at the other end; `None` where the system does not tell, or has no number for it here.
#[cfg(not(target_os = "linux"))]
pub(crate) fn peer_pid(_: impl AsFd) -> Option<u32> {
    None
}

/// True for a socket that accepts connections.
#[cfg(target_os = "linux")]
pub(crate) fn is_listening(socket: impl AsFd) -> bool {
    rustix::net::sockopt::socket_acceptconn(socket) == Ok(true)
}

/// True for a socket that accepts connections, from now on or already. A connected one cannot.
#[cfg(not(target_os = "linux"))]
pub(crate) fn is_listening(socket: impl AsFd) -> bool {
    /// Connections that may wait. Source: the standard library's listeners.
    const WAITING_MAX: i32 = 128;
    rustix::net::listen(socket, WAITING_MAX).is_ok()
}

/// Makes writing to a socket with a closed other end an error, never a signal, where that is a property of the socket.
/// Elsewhere the calls that write say so.
pub(crate) fn keep_quiet(socket: impl AsFd) {
    #[cfg(target_vendor = "apple")]
    // A socket that is closed at both ends refuses, and no bytes are written to such a socket.
    let _ = rustix::net::sockopt::set_socket_nosigpipe(socket, true);
    #[cfg(not(target_vendor = "apple"))]
    let _ = socket;
}

/// Sets a TCP socket to send small writes at once, as the stream behind it does.
pub(crate) fn send_at_once(socket: impl AsFd) {
    // A socket of another kind needs no such setting.
    let _ = rustix::net::sockopt::set_tcp_nodelay(socket, true);
}

/// Lets nothing of this process' memory, which holds keys, get into a core dump, or to another process of this user. For a
/// process that is a server alone: a debugger of the same user cannot look into it any more.
pub fn keep_memory_private() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    // A process that cannot be kept from dumping works all the same.
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), ..getrlimit(Resource::Core) });
    #[cfg(target_os = "linux")]
    let _ = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
}
