//! The rules that no compiler checks, each with a bad sample that it must find.
//!
//! | module | rule |
//! |---|---|
//! | `bounds` | every maximum stands in `docs/bounds.md`, those of tables with a test |
//! | `crates` | the direction of imports between crates; nothing impure below the wall; nothing async |
//! | `rings` | no files of a crate import each other in a ring |
//! | `pages` | every cited page, section, path and name exists |
//! | `words` | comments have their subjects, the inner crates their assertions |
//! | `needs` | programs that tests insist on are installed by CI |
//! | `licences` | dependencies have licences and sources that `deny.toml` allows |
//! | `shape` | lengths of files and functions; where unsafe code and JSON requests may stand |
#![allow(clippy::unwrap_used, reason = "tests")]

mod bounds;
mod crates;
mod licences;
mod modules;
mod needs;
mod pages;
mod rings;
mod shape;
mod source;
mod words;
