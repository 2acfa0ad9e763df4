//! Owns the log of the rendezvous: a table of nodes and a table of letters.

use crate::state::{Change, Journal, State, StorageFailed};
use pilot_store::{Batch, Disk, Key, Log};
use std::collections::BTreeMap;
use std::io;

const NODES: u8 = 1;
const LETTERS: u8 = 2;
/// Length of the identity key before a node's row. Unit: bytes.
const KEY_LEN: usize = 32;

/// A journal on a disk; each commit is synced before it returns.
pub struct LogJournal<D> {
    log: Log<D>,
    /// Number of each node's row in the table.
    numbers: BTreeMap<[u8; KEY_LEN], u64>,
    next: u64,
}

impl<D: Disk> LogJournal<D> {
    /// Reads the books from a log.
    ///
    /// # Errors
    /// `InvalidData` when a row is damaged; otherwise the error of the disk.
    pub fn open(log: Log<D>) -> io::Result<(Self, State)> {
        let (journal, rows) = Self::read(log)?;
        Ok((journal, State::load(rows).map_err(|_| damaged())?))
    }

    fn read(mut log: Log<D>) -> io::Result<(Self, Vec<Change>)> {
        let mut rows = Vec::new();
        let (mut numbers, mut next) = (BTreeMap::new(), 1);
        for key in log.rows(NODES, 0, Key::ID_MAX).collect::<Vec<_>>() {
            let row = log.read(key, usize::MAX)?.unwrap_or_default();
            let (node, row) = row.split_first_chunk().ok_or_else(damaged)?;
            numbers.insert(*node, key.id());
            next = key.id() + 1;
            rows.push(Change::Node(*node, Some(row.to_vec())));
        }
        for key in log.rows(LETTERS, 0, Key::ID_MAX).collect::<Vec<_>>() {
            rows.push(Change::Letter(key.id(), log.read(key, usize::MAX)?));
        }
        Ok((Self { log, numbers, next }, rows))
    }

    fn write(&mut self, changes: &[Change]) -> io::Result<()> {
        let mut batch = Batch::default();
        for change in changes {
            match change {
                Change::Node(node, Some(row)) => {
                    // The node keeps its number when the commit fails, and its next row uses that number.
                    let number = *self.numbers.entry(*node).or_insert(self.next);
                    self.next = self.next.max(number + 1);
                    debug_assert!(number < Key::ID_MAX, "a table has fewer nodes than numbers");
                    batch.put(Key::new(NODES, number), &[node, row]);
                }
                Change::Node(node, None) => {
                    if let Some(number) = self.numbers.get(node) {
                        batch.remove(Key::new(NODES, *number));
                    }
                }
                Change::Letter(id, Some(row)) => batch.put(Key::new(LETTERS, *id), &[row]),
                Change::Letter(id, None) => batch.remove(Key::new(LETTERS, *id)),
            }
        }
        self.log.commit(&mut batch)?;
        for change in changes {
            if let Change::Node(node, None) = change {
                self.numbers.remove(node);
            }
        }
        // Cleaning runs before the answer, so that its cost limits the rate of changes. A disk that fails here also fails
        // the next commit, which reports the failure.
        let _ = self.log.clean();
        Ok(())
    }
}

impl<D: Disk> Journal for LogJournal<D> {
    fn commit(&mut self, changes: &[Change]) -> Result<(), StorageFailed> {
        self.write(changes).map_err(|_| StorageFailed)
    }
}

fn damaged() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "a row is damaged")
}

#[cfg(test)]
mod tests {
    use super::*;
    use pilot_store::Limits;
    use pilot_store::sim::SimDisk;
    use std::collections::BTreeMap;

    type Books = BTreeMap<(u8, u64), Vec<u8>>;

    fn open(disk: &SimDisk) -> (LogJournal<SimDisk>, Books) {
        let limits = Limits { segment_len: 2000, slack: 2000, segment_cost: 100, reserve_len: 2000 };
        let log = Log::open(disk.clone(), limits).expect("not damaged");
        let (journal, rows) = LogJournal::read(log).expect("readable");
        let rows = rows.into_iter().map(|change| match change {
            Change::Node(key, Some(row)) => ((NODES, key[0].into()), row),
            Change::Letter(id, Some(row)) => ((LETTERS, id), row),
            gone => panic!("{gone:?}"),
        });
        (journal, rows.collect())
    }

    /// Makes some changes; returns them, and the books with the changes made.
    fn changes(disk: &SimDisk, books: &Books) -> (Vec<Change>, Books) {
        let mut after = books.clone();
        let change = |_| {
            let (id, row) = (disk.below(20), vec![b'r'; disk.below(200) as usize]);
            if disk.below(2) == 0 {
                after.insert((NODES, id), row.clone());
                return Change::Node([id as u8; 32], Some(row));
            }
            let row = (disk.below(2) == 0).then_some(row);
            match row.clone() {
                Some(row) => drop(after.insert((LETTERS, id), row)),
                None => drop(after.remove(&(LETTERS, id))),
            }
            Change::Letter(id, row)
        };
        let changes = (0..=disk.below(3)).map(change).collect();
        (changes, after)
    }

    #[test]
    fn no_power_cut_or_failure_takes_back_what_was_answered() {
        let mut cuts = 0;
        for seed in 0..1000 {
            let disk = SimDisk::new(seed);
            let (mut journal, mut books) = open(&disk);
            let mut unsure = Vec::new();
            for _ in 0..40 {
                let (changes, after) = changes(&disk, &books);
                if disk.below(4) == 0 {
                    disk.fail_after(disk.below(8) as u32, disk.below(2) == 0);
                }
                match journal.commit(&changes) {
                    Ok(()) => {
                        books = after;
                        unsure.clear();
                    }
                    Err(StorageFailed) => unsure.push(after),
                }
                if !disk.is_off() {
                    disk.heal();
                    continue;
                }
                cuts += 1;
                disk.restart();
                let found;
                (journal, found) = open(&disk);
                assert!(found == books || unsure.contains(&found), "seed {seed}: {found:?} instead of {books:?}");
                (books, unsure) = (found, Vec::new());
            }
        }
        assert!(cuts > 1000, "{cuts} cuts only");
    }
}
