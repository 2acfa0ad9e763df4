//! The node's Unix socket: the official framing and commands, and our own from 0x80 up. The server gives the requests of clients as
//! values and runs nothing itself.

pub(crate) mod client;
pub(crate) mod client_id;
pub(crate) mod frame;
pub(crate) mod official;
pub mod official_frame;
pub(crate) mod passing;
pub(crate) mod place;
pub(crate) mod probe;
pub(crate) mod server;
