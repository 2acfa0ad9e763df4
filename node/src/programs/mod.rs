//! The room of programs: connections between programs of this machine, which know nothing of this node, and peers
//! (`docs/programs.md`).
//!
//! 1. An [`Entry`](entry::Entry) is what the owner has set up: a forward has a listener on this machine, an expose a port
//!    that peers reach.
//! 2. Each connection that comes, from either side, is a [`Joint`](joint::Joint): a socket and a stream. It passes phases
//!    until both stand, and then bytes move between them.
//! 3. An end of one side is passed on to the other as what it was: an ended half, or a reset.

mod accept;
mod authority;
mod entry;
mod expose;
mod filter;
mod forward;
mod http;
mod joint;
pub(crate) mod joint_id;
mod joints;
mod listen;
pub(crate) mod probe;
mod proxy;
mod proxy_protocol;
mod relay;
mod relays;
mod room;
mod settings;
mod sockets;
mod socks;
mod target;
mod wire;

pub(crate) use entry::Life;
pub(crate) use expose::ExposeTerms;
pub(crate) use forward::ForwardTerms;
pub(crate) use proxy::ProxyTerms;
pub(crate) use room::Programs;
pub(crate) use wire::Readiness;

#[cfg(test)]
mod tests;
