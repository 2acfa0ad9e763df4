//! Streams: their holders, and the movement of their bytes.

pub(crate) mod byte_queue;
pub(crate) mod datagrams;
pub(crate) mod names;
pub(crate) mod queues;
pub(crate) mod socket;
pub(crate) mod table;
