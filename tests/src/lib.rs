//! The simulator: nodes, a rendezvous, NATs and a network of links, in one thread and in virtual time.
//!
//! All chance follows from one seed. `World::trace` is a hash over every datagram; two runs with one seed give one trace.
//!
//! ```text
//!  node 1 (10.0.1.1) ── NAT 203.0.113.1 ──┐
//!  node 2 (10.0.2.1) ── NAT 203.0.113.2 ──┼── network (delay, loss, …) ── rendezvous (198.51.100.1)
//!  node 3 (203.0.113.3, no NAT) ──────────┘
//! ```
#![forbid(unsafe_code)]

mod books;
mod codes;
mod disk;
mod friend;
pub mod lab;
mod ledger;
mod liar;
mod nat;
#[cfg(target_os = "linux")]
pub mod netlab;
mod network;
mod owner;
mod strangers;
mod traitor;
mod witness;
mod world;

pub use codes::enrolment_code;
pub use nat::{Nat, NatKind};
pub use network::Conditions;
pub use strangers::Siege;
pub use world::{NodeIndex, RENDEZVOUS_ADDR, SimNode, World};

/// Returns the seed of a simulation: `PILOT_SEED` when it is set, else `default`.
pub fn seed(default: u64) -> u64 {
    std::env::var("PILOT_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(default)
}
