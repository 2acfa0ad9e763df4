//! Calls that wait for something: a peer, the rendezvous, an owner's decision. Each file has one kind of call: its
//! beginning, its steps, and its end.

pub(crate) mod connect;
pub(crate) mod grants;
pub(crate) mod groups;
pub(crate) mod handshake;
pub(crate) mod lookup;
pub(crate) mod meet;
pub(crate) mod pairing;
pub(crate) mod path;
pub(crate) mod profile;
pub(crate) mod relays;
pub(crate) mod report;
pub(crate) mod resolve;
pub(crate) mod trust;
pub(crate) mod watch;
pub(crate) mod webhook;

#[cfg(test)]
mod tests;
