//! Streams: their holders, and the movement of their bytes.

pub(crate) mod byte_queue;
pub(crate) mod socket;
