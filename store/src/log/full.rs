//! The log on a full disk: a reserve, which only urgent batches may use, and cleaning that makes room with little of it.

use super::{Batch, Key, Log};
use crate::disk::{Disk, NoRoom, is_full};
use std::io;

/// Most passes over the oldest segments of one cleaning on a full disk.
const PASSES_MAX: usize = 8;

impl<D: Disk> Log<D> {
    /// Makes the reserve when it is missing. Without it, no batch is committed that is not urgent.
    ///
    /// # Errors
    /// The error of the disk, which has no room, with a [`NoRoom`] inside.
    pub fn secure(&mut self) -> io::Result<()> {
        if !self.has_reserve {
            let (len, made) = (self.limits.reserve_len, self.disk.reserve(self.limits.reserve_len));
            made.map_err(|e| NoRoom::explain(e, len, self.free()))?;
            self.has_reserve = true;
        }
        Ok(())
    }

    /// Runs `write`, and once more without the reserve if the disk is full.
    pub(super) fn urgently(&mut self, mut write: impl FnMut(&mut Self) -> io::Result<()>) -> io::Result<()> {
        match write(self) {
            Err(e) if self.has_reserve && is_full(&e) => {
                self.has_reserve = false;
                self.disk.reserve(0)?;
                write(self)
            }
            done => done,
        }
    }

    /// Makes room while rows that are gone take more than half of the files. Copies as much as [`PASSES_MAX`] reserves at most;
    /// the next call goes on.
    pub(super) fn clean_full(&mut self) -> io::Result<()> {
        for _ in 0..PASSES_MAX {
            let len: u64 = self.segments.iter().map(|s| s.len).sum();
            if self.freed == 0 || len <= 2 * self.live {
                self.freed = 0;
                break;
            }
            let first = self.segments.front().map(|s| s.number);
            let freed = self.free_oldest();
            if freed.is_err() || self.segments.front().map(|s| s.number) == first {
                self.freed = 0;
            }
            freed?;
        }
        // Without room for the reserve, only urgent batches are committed.
        let _ = self.secure();
        Ok(())
    }

    /// Frees the oldest segments whose live rows fit into half of the reserve together, which is used for the copies; the first
    /// one also when its rows need all of the reserve. A copy that does not fit is cut off and takes no room.
    fn free_oldest(&mut self) -> io::Result<()> {
        let live_in = |segment: u32| {
            let rows = self.index.values().filter(|place| place.segment == segment);
            rows.map(|place| place.cost()).sum::<u64>()
        };
        let (mut copied, mut oldest) = (0, None);
        for segment in &self.segments {
            let live = live_in(segment.number);
            let most = if oldest.is_none() { self.limits.reserve_len } else { self.limits.reserve_len / 2 };
            if copied + live > most {
                break;
            }
            copied += live;
            oldest = Some(segment.number + 1);
        }
        let Some(oldest) = oldest else { return Ok(()) };
        if self.segments.back().is_some_and(|last| last.number < oldest) {
            self.urgently(|log| log.begin_segment(log.segments.front().map(|s| s.number)))?;
        }
        let rows = self.index.iter().filter(|(_, place)| place.segment < oldest);
        let rows: Vec<Key> = rows.map(|(key, _)| *key).collect();
        let mut batch = Batch::urgent();
        for key in rows {
            let value = self.read(key, usize::MAX)?.unwrap_or_default();
            batch.put(key, &[&value]);
        }
        self.commit(&mut batch)?;
        let oldest = self.segments.iter().map(|s| s.number).find(|number| *number >= oldest);
        self.urgently(|log| log.begin_segment(oldest))?;
        Ok(())
    }
}
