//! TCP/IP for each peer: smoltcp on top of `pilot-core`, still pure — no clock, socket, thread or file.
//!
//! The main type is [`Stack`]: it owns the [`Endpoint`](pilot_core::Endpoint), one smoltcp interface per peer (made on
//! first use, dropped when idle) and the port table. It never sees an unauthenticated byte, never listens on the
//! underlay, and never congests: recovery and congestion control are the link's business, below.
//!
//! ```
//! use pilot_core::{Config, Identity, Instant};
//! use pilot_stack::{Stack, StackConfig};
//!
//! let mut stack = Stack::new(Config::new(Identity::from_seed([7; 32]), [1; 32]), StackConfig::default());
//! stack.listen(1000).expect("the port is free");
//! assert!(stack.poll_timeout().is_none());
//! ```
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod asked;
mod config;
mod device;
mod early;
mod flow;
mod peer_stack;
mod segment;
mod sink;
mod stack;

pub use config::StackConfig;
pub use early::EARLY_LEN_MAX;
pub use flow::{Recv, StreamEnd};
pub use stack::{CommandError, Event, Stack, StreamId, StreamInfo};

/// First ephemeral port. Source: RFC 6335 §6.
pub const EPHEMERAL_FIRST: u16 = 49_152;
