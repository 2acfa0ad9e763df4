//! Owns the recovery of the books without a node, for the fuzz targets (`fuzz/`).

use super::books::Books;
use super::job::{Done, Job, Part};
use crate::mail::message::{Kind, Message, Tag};
use pilot_core::Addr;
use pilot_core::identity::IdentityKey;
use pilot_store::{Disk, Log};
use std::io;

/// Messages of one page.
const PAGE: usize = 1000;

/// What books with any rows do.
#[derive(Debug, PartialEq, Eq)]
pub struct Recovered {
    /// A new message was taken, and its number.
    pub accepted: Option<u64>,
    /// The new message is read back by its number, unchanged.
    pub is_read_back: bool,
    /// Messages in the inbox, and those that a page of [`Recovered::PAGE`] shows. Both are `None` where the page cannot be read.
    pub listed: Option<(u64, usize)>,
    /// Messages that were taken out of the inbox, when all were asked for.
    pub taken: Option<usize>,
}

impl Recovered {
    /// Most messages that are listed.
    pub const PAGE: usize = PAGE;
}

/// Opens the books of a log, reads what a starting node reads, and accepts, lists and takes messages. Blocks for the disk.
///
/// # Errors
/// When the log cannot be read, as a node that starts is told.
pub fn recover<D: Disk>(log: Log<D>) -> io::Result<Recovered> {
    let mut books = Books::open(log)?;
    books.saved()?;
    let (id, sender, addr) = ([0xaa; 16], IdentityKey([0xbb; 32]), Addr::new(0, 1));
    let message = Message { id, sender, addr, kind: Kind::Text, at: 1, tag: Tag::Plain, body: b"new".to_vec() };
    let mut run = |job| books.run(std::iter::once(job)).pop();
    let accepted = match run(Job::Deliver(message.clone())) {
        Some(Done::Delivered { fresh: true, seq }) => Some(seq),
        _ => None,
    };
    let read = accepted.and_then(|seq| run(Job::Read(seq)));
    let is_read_back = matches!(read, Some(Done::Message(Some((_, found)))) if found == message);
    let listed = match run(Job::List { limit: PAGE, before: None, part: Part::All }) {
        Some(Done::Listing(listing)) => Some((listing.total, listing.rows.len())),
        _ => None,
    };
    let taken = match run(Job::Take(None)) {
        Some(Done::Taken(count)) => Some(count),
        _ => None,
    };
    Ok(Recovered { accepted, is_read_back, listed, taken })
}
