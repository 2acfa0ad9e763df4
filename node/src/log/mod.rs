//! Owns the log: records of what a node decides, from where they are made to the [`LogSink`](sink::LogSink) that keeps them.
//!
//! 1. A room makes a [`Record`](record::Record) (`Context::trace`), or the core leaves a note in its trace, which [`notes`] puts into words.
//! 2. [`limit`] lets it through unless there are too many of its kind from its source.
//! 3. [`writer`] hands it to the disk's thread, so that a slow disk does not hold the loop up.
//! 4. The sink writes it: to a file of bounded size ([`mod@file`]), to standard error, or into memory.
//!
//! Without [`Config::log`](crate::Config::log) none of this runs and nothing is made.

mod clock_watch;
pub(crate) mod file;
pub(crate) mod format;
mod limit;
pub(crate) mod notes;
pub(crate) mod record;
pub(crate) mod room;
pub(crate) mod sink;
pub(crate) mod writer;
