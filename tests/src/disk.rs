//! Owns a node's disk: the trust book as a power cut leaves it, the saves that are under way, and those that were refused.

use pilot_core::Instant;
use pilot_core::rng::Rng;
use pilot_core::time::{Duration, earliest};
use pilot_core::trust::{TrustBook, TrustVersion};
use std::collections::VecDeque;
use std::ops::Range;

/// Time after which a node saves again what its disk refused. Source: `SAVE_PAUSE` of the node.
pub(crate) const AGAIN: Duration = Duration::from_secs(1);

/// One save under way.
struct Save {
    done_at: Instant,
    version: TrustVersion,
    book: Vec<u8>,
}

/// The disk of one node.
pub(crate) struct Disk {
    book: Vec<u8>,
    saves: VecDeque<Save>,
    /// Time that a save takes. Unit: microseconds.
    pub(crate) delay_us: Range<u64>,
    /// Saves for which there is room: the reserve, while other programs have filled the disk. `None`: every one.
    pub(crate) room: Option<u32>,
    /// The newest version that was saved for an owner, without being asked for by the endpoint.
    pub(crate) decided: TrustVersion,
    /// A save was refused: the book, as it is then, is saved again.
    again_at: Option<Instant>,
}

impl Disk {
    /// A disk that holds `book`, takes no time and has room.
    pub(crate) fn new(book: &TrustBook) -> Self {
        Self {
            book: book.emit(),
            saves: VecDeque::new(),
            delay_us: 0..1,
            room: None,
            decided: TrustVersion::default(),
            again_at: None,
        }
    }

    /// Begins to save a book; false when the disk is full. Saves finish in order.
    pub(crate) fn save(&mut self, now: Instant, book: &TrustBook, rng: &mut Rng) -> bool {
        if self.room == Some(0) {
            self.again_at = Some(now + AGAIN);
            return false;
        }
        self.room = self.room.map(|saves| saves - 1);
        self.again_at = None;
        let span = self.delay_us.end - self.delay_us.start;
        // Draws nothing for a disk that takes no time, so that worlds without slow disks stay what they were.
        let delay_us = self.delay_us.start + if span > 1 { rng.below(span) } else { 0 };
        let last = self.saves.back().map_or(now, |save| save.done_at);
        let done_at = last.max(now + Duration::from_micros(delay_us));
        self.saves.push_back(Save { done_at, version: book.version(), book: book.emit() });
        true
    }

    /// Finishes one save that is due by `now`.
    pub(crate) fn finish(&mut self, now: Instant) -> Option<TrustVersion> {
        self.saves.front().filter(|save| save.done_at <= now)?;
        let save = self.saves.pop_front()?;
        self.book = save.book;
        Some(save.version)
    }

    /// When the next save is done, or made again.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        earliest(self.saves.front().map(|save| save.done_at), self.again_at)
    }

    /// True when a refused save is to be made again.
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        self.again_at.is_some_and(|at| at <= now)
    }

    /// What is left after a power cut: every save under way is lost.
    pub(crate) fn cut_power(&mut self) -> TrustBook {
        self.saves.clear();
        TrustBook::parse(&self.book).expect("own form")
    }

    /// What a killed process leaves when the disk has refused something: the saves that had begun. `None` when everything was
    /// taken.
    pub(crate) fn kill(&self) -> Option<TrustBook> {
        self.again_at?;
        let book = self.saves.back().map_or(&self.book, |save| &save.book);
        Some(TrustBook::parse(book).expect("own form"))
    }
}
