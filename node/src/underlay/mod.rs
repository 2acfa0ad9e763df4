//! The carriers of datagrams below the tunnels: sockets, this machine's own addresses, and the address of the rendezvous.

pub(crate) mod addresses;
pub(crate) mod nat64;
pub(crate) mod rendezvous;
pub(crate) mod resolver;
mod sources;
pub(crate) mod udp;
