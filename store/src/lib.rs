//! Rows that survive crashes: an append-only [`Log`] with an index in memory, for the books of nodes and rendezvous.
//!
//! A row is a number of a table ([`Key`]) and some bytes. A [`Batch`] of changes is on the disk as a whole when
//! [`Log::commit`] returns, or counts as not there. The index takes about 30 bytes for each row. The log suits rows that are
//! written in small commits and read rarely; it is no database: it has no queries, no concurrent transactions and no types.
//! A log has no thread, and every call may block.
//!
//! ```
//! use pilot_store::{Batch, Folder, Key, Limits, Log};
//!
//! # let folder = std::env::temp_dir().join(format!("pilot-store-doc-{}", std::process::id()));
//! let mut log = Log::open(Folder::open(folder.join("books"))?, Limits::default())?;
//! let mut batch = Batch::default();
//! batch.put(Key::new(1, 7), &[b"hello"]);
//! log.commit(&mut batch)?;
//! assert_eq!(log.read(Key::new(1, 7), usize::MAX)?, Some(b"hello".to_vec()));
//! # std::fs::remove_dir_all(folder)?;
//! # Ok::<(), std::io::Error>(())
//! ```
#![forbid(unsafe_code)]

mod disk;
mod hash;
mod log;
#[cfg(feature = "sim")]
pub mod sim;
#[cfg(test)]
mod tests;

pub use disk::{Disk, Folder, NoRoom, is_full};
pub use log::{BATCH_LEN_MAX, Batch, Key, Limits, Log};
