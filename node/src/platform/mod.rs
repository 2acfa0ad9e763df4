//! What differs by system: pairs of sockets, packets on them, signals between threads, credentials, and news of addresses.
//!
//! | | `linux` | `portable` |
//! |---|---|---|
//! | [`Signal`] | eventfd | pipe |
//! | [`StreamSocket`]: its end without an end of the other | the other reads ECONNRESET | the other reads the end |
//! | [`PacketSocket`] and the client's end | SOCK_SEQPACKET | a stream; each packet follows its length |
//! | [`AddressWatch`] | netlink tells | the addresses are looked at again at intervals |
//! | [`StepWatch`] | a timer that a step of the wall clock cancels | the clock is looked at again at intervals |
//! | addresses of interfaces | netlink lists them | getifaddrs |
//! | gateways | netlink names them | unknown |
//! | flags of descriptors | with the call that makes them | by fcntl, after it |
//! | writing to a closed socket | MSG_NOSIGNAL | the same, or SO_NOSIGPIPE where the system lacks it |
//!
//! Linux takes `linux`, and `portable` with the feature `portable-platform`; every other system takes `portable`. Tests of
//! units check both.

mod common;
mod edges;
#[cfg(any(test, not(target_os = "linux"), feature = "portable-platform"))]
mod framed;
#[cfg(all(target_os = "linux", any(test, not(feature = "portable-platform"))))]
#[allow(unreachable_pub, reason = "reachable where this one is chosen")]
mod linux;
#[cfg(all(target_os = "linux", any(test, not(feature = "portable-platform"))))]
mod netlink;
#[cfg(any(test, not(target_os = "linux"), feature = "portable-platform"))]
#[allow(unreachable_pub, reason = "reachable where this one is chosen")]
mod portable;
#[allow(unsafe_code, reason = "pages are mapped and given back by system calls")]
mod ring_memory;
#[cfg(all(feature = "discovery", target_os = "linux", any(test, not(feature = "portable-platform"))))]
mod route;
#[cfg(all(test, target_os = "linux"))]
mod tests;

#[cfg(all(target_os = "linux", not(feature = "portable-platform")))]
use linux as chosen;
#[cfg(any(not(target_os = "linux"), feature = "portable-platform"))]
use portable as chosen;

pub(crate) use chosen::{
    AddressWatch, PacketSocket, QUIET, StepWatch, StreamSocket, interfaces, recv_with_fds, udp_socket_of_both,
};
pub use chosen::{Signal, recv_packet, send_now, send_packet};
#[cfg(feature = "discovery")]
pub(crate) use chosen::{gateway, udp_socket_shared};
pub use common::keep_memory_private;
pub(crate) use common::{is_listening, keep_quiet, peer_is_ours, peer_pid, peer_uid, send_at_once};
pub use edges::Edges;
#[cfg(target_os = "linux")]
use ring_memory::discard_rings;
pub use ring_memory::map_rings;

/// Gives pages of rings back to the system, where the system can be told.
pub(crate) const DISCARD_RINGS: Option<fn(&mut [u8])> = {
    #[cfg(target_os = "linux")]
    let discard: Option<fn(&mut [u8])> = Some(discard_rings);
    #[cfg(not(target_os = "linux"))]
    let discard: Option<fn(&mut [u8])> = None;
    discard
};
