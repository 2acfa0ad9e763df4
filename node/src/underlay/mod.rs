//! The carriers of datagrams below the tunnels: sockets, this machine's own addresses, and the address of the rendezvous.

pub(crate) mod addresses;
pub(crate) mod rendezvous;
pub(crate) mod resolver;
pub(crate) mod udp;
