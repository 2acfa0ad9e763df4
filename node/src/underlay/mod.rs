//! What carries datagrams below the tunnels: sockets, and this machine's own addresses.

pub(crate) mod addresses;
pub(crate) mod udp;
