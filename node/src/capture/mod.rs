//! Captures: the inner packets of this node as a pcapng file, for its owner.

pub(crate) mod packet;
pub(crate) mod pcapng;
pub(crate) mod room;

pub(crate) use room::Captures;
