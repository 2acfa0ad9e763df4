//! libpilot: a node for C programs, and for every language that can call C.
//!
//! One library has two interfaces: ours (`pilot_*`, described by `include/pilot.h`, which is made from the comments here) and
//! the official one (`Pilot*`, in [`official`]), for programs written for the official library.
//!
//! The library has no logic of its own; it translates. Every entry catches panics, checks its pointers and lengths, looks its
//! handle up in a table, and turns failures into negative codes with a text for the caller. A handle that is closed, unknown
//! or of another kind is an error, never undefined behaviour. The library starts no thread but those of a node that lives in
//! this process, installs no signal handler, and prints nothing.
#![allow(non_camel_case_types, reason = "names of C")]
#![allow(clippy::missing_safety_doc, reason = "pointers of every function: NULL or valid, as the header says")]

mod datagram;
mod error;
mod event;
mod fork;
mod groups;
mod listener;
mod node;
pub mod official;
mod peer;
mod programs;
mod questions;
mod stream;
mod table;

pub use datagram::*;
pub use error::*;
pub use event::*;
pub use groups::*;
pub use listener::*;
pub use node::*;
pub use peer::*;
pub use programs::*;
pub use questions::*;
pub use stream::*;
pub use table::*;
