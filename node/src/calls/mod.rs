//! Calls that wait for something: the rendezvous, the disk, a peer.

pub(crate) mod resolve;
