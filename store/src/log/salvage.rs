//! What a log can still give after files were damaged or lost.

use super::{Batch, COPY_LEN, HEAD_LEN, Key, Limits, Log, read_head};
use crate::disk::Disk;
use pilot_core::sort::sort_by;
use std::io;

impl<D: Disk> Log<D> {
    /// Opens a log as far as its files can be read, and writes what they hold into new ones: a last resort, with the owner's
    /// consent. In each file the batches before the first damaged one count. Rows that were removed in a lost batch come back.
    ///
    /// # Errors
    /// The error of the disk; the files are as before then.
    pub fn salvage(disk: D, limits: Limits) -> io::Result<Self> {
        let mut log = Self::empty(disk, limits)?;
        let mut numbers = log.disk.list()?;
        sort_by(&mut numbers, |a, b| a < b);
        log.next = numbers.last().copied().max(log.disk.marked()?).map_or(1, |n| n.saturating_add(1));
        for number in &numbers {
            if read_head(&mut log.disk, *number)?.is_some() {
                let file_len = log.disk.len(*number)?;
                let end = log.replay_batches(*number, file_len)?;
                debug_assert!(end >= HEAD_LEN as u64, "a head was read");
                log.note_segment(*number, end);
            }
        }
        let rows: Vec<Key> = log.index.keys().copied().collect();
        log.begin_segment(log.segments.front().map(|s| s.number))?;
        let first = log.segments.back().map(|s| s.number);
        let mut batch = Batch::urgent();
        for key in rows {
            let value = log.read(key, usize::MAX)?.unwrap_or_default();
            batch.put(key, &[&value]);
            if batch.bytes.len() >= COPY_LEN {
                log.commit(&mut batch)?;
            }
        }
        log.commit(&mut batch)?;
        log.begin_segment(first)?;
        log.forget_files(numbers);
        Ok(log)
    }
}
