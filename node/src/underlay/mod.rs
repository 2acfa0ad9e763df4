//! The carriers of datagrams below the tunnels: sockets, this machine's own addresses, and the address of the rendezvous.

pub(crate) mod addresses;
pub(crate) mod carrier;
pub(crate) mod dial;
pub(crate) mod echo;
pub(crate) mod nat64;
pub(crate) mod relays;
pub(crate) mod rendezvous;
pub(crate) mod resolver;
pub(crate) mod sides;
mod sources;
#[cfg(feature = "tls")]
pub(crate) mod tls;
#[cfg(not(feature = "tls"))]
#[path = "without_tls.rs"]
pub(crate) mod tls;
pub(crate) mod udp;
