//! The rendezvous: registry (addresses, names, records, mailbox) and beacon (reflexive addresses, relay) in one.
//!
//! [`Rendezvous`] is the pure machine: it speaks PN1 with its clients through a `pilot_core::Endpoint`, keeps its books in
//! a [`State`], and hands every change to a [`Journal`] before it answers. [`server`] drives it with a UDP socket and a
//! log. A rendezvous is a phone book and a mailbox, not an authority: it can withhold, but it cannot forge, read letters or
//! relayed traffic, or grant trust (`docs/trust.md, "Registry"`).
#![forbid(unsafe_code)]

mod age;
mod bucket;
mod channels;
mod drain;
mod forward;
mod letters;
mod limits;
mod machine;
mod probes;
pub mod server;
mod sources;
mod state;
mod store;
#[cfg(feature = "tls")]
mod tls;

pub use drain::Drain;
pub use limits::{Limits, Sizes};
pub use machine::{RELAY_BYTES_PER_SECOND, Rendezvous};
pub use state::{Change, Journal, NoJournal, State, StorageFailed};
pub use store::LogJournal;
#[cfg(feature = "tls")]
pub use tls::Certificate;
