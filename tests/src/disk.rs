//! Owns a node's disk: the trust book as a power cut leaves it, and the saves that are under way.

use pilot_core::Instant;
use pilot_core::rng::Rng;
use pilot_core::time::Duration;
use pilot_core::trust::{TrustBook, TrustVersion};
use std::collections::VecDeque;
use std::ops::Range;

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
}

impl Disk {
    /// A disk that holds `book` and takes no time.
    pub(crate) fn new(book: &TrustBook) -> Self {
        Self { book: book.emit(), saves: VecDeque::new(), delay_us: 0..1 }
    }

    /// Begins to save a book. Saves finish in order.
    pub(crate) fn save(&mut self, now: Instant, book: &TrustBook, rng: &mut Rng) {
        let span = self.delay_us.end - self.delay_us.start;
        // Draws nothing for a disk that takes no time, so that worlds without slow disks stay what they were.
        let delay_us = self.delay_us.start + if span > 1 { rng.below(span) } else { 0 };
        let last = self.saves.back().map_or(now, |save| save.done_at);
        let done_at = last.max(now + Duration::from_micros(delay_us));
        self.saves.push_back(Save { done_at, version: book.version(), book: book.emit() });
    }

    /// Finishes one save that is due by `now`.
    pub(crate) fn finish(&mut self, now: Instant) -> Option<TrustVersion> {
        self.next_done().filter(|at| *at <= now)?;
        let save = self.saves.pop_front()?;
        self.book = save.book;
        Some(save.version)
    }

    /// When the next save is done.
    pub(crate) fn next_done(&self) -> Option<Instant> {
        self.saves.front().map(|save| save.done_at)
    }

    /// What is left after a power cut: every save under way is lost.
    pub(crate) fn cut_power(&mut self) -> TrustBook {
        self.saves.clear();
        TrustBook::parse(&self.book).expect("own form")
    }
}
