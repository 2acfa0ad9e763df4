//! The state that survives a restart: the node's folder, its books, and received files. One worker thread does the work.

pub(crate) mod books;
mod file_name;
pub(crate) mod files;
pub(crate) mod home;
pub(crate) mod identity_file;
pub(crate) mod job;
mod ledger;
pub(crate) mod part;
pub(crate) mod probe;
pub(crate) mod schedule;
pub(crate) mod worker;

#[cfg(test)]
mod tests;
