//! The Pilot protocol as pure state machines: addresses, the PN1 tunnel, the loss-recovering link, paths, trust.
//!
//! The main type is [`Endpoint`], which owns every peer on one UDP socket. It never reads a clock, opens a socket,
//! starts a thread, touches a file or draws its own randomness: time is an argument and randomness is a seed, so a
//! whole network of endpoints runs in one thread, in virtual time, reproducibly.
//!
//! Like the machines of quinn-proto it has four kinds of methods: getters (`&self`), `handle_*` for input from the
//! network and the clock, verbs for commands, and `poll_*` for output. After every `handle_*` or verb, drain every
//! `poll_*`.
//!
//! ```
//! use pilot_core::{Config, Endpoint, Identity, Instant};
//!
//! let identity = Identity::from_seed([7; 32]);
//! let mut endpoint = Endpoint::new(Config::new(identity, [1; 32]));
//! let mut batch = Vec::new();
//! assert!(endpoint.poll_transmit(Instant::ZERO, &mut batch).is_none(), "a quiet endpoint sends nothing");
//! assert!(endpoint.poll_timeout().is_none(), "and has nothing to wait for");
//! ```
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod addr;
pub mod aead;
pub mod agreement;
pub mod codec;
pub mod control;
pub mod endpoint;
mod hash;
pub mod identity;
pub mod link;
pub mod noise;
pub mod path;
mod peer;
pub mod rng;
pub mod time;
pub mod trust;
pub mod tunnel;
pub mod wire;

pub use addr::{Addr, AddrPort};
pub use endpoint::{Config, Endpoint, Event, PeerId};
pub use identity::{Identity, NodeRecord};
pub use time::Instant;
