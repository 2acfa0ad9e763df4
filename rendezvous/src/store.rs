//! Owns the rendezvous' file: a redb database with a table of nodes and a table of letters.

use crate::state::{Change, Journal, State, StorageFailed};
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use std::path::Path;

const NODES: TableDefinition<'_, &[u8; 32], &[u8]> = TableDefinition::new("nodes");
const LETTERS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("letters");
/// redb's own cache. Unit: bytes. The books are in memory anyway.
const CACHE_LEN: usize = 1 << 20;

/// The database cannot be opened.
#[derive(Debug)]
pub enum OpenError {
    /// The file system or redb refuses.
    Storage(redb::Error),
    /// A row is damaged.
    Damaged,
}

impl std::fmt::Display for OpenError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Storage(e) => write!(f, "{e}"),
            Self::Damaged => f.write_str("a row of the database is damaged"),
        }
    }
}

impl std::error::Error for OpenError {}

impl<E: Into<redb::Error>> From<E> for OpenError {
    fn from(e: E) -> Self {
        Self::Storage(e.into())
    }
}

/// A journal on disk; each commit is synced before it returns.
pub struct RedbJournal(Database);

impl RedbJournal {
    /// Opens or creates the file and reads the books.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open(path: &Path) -> Result<(Self, State), OpenError> {
        let db = Database::builder().set_cache_size(CACHE_LEN).create(path)?;
        let write = db.begin_write()?;
        write.open_table(NODES)?;
        write.open_table(LETTERS)?;
        write.commit()?;
        let read = db.begin_read()?;
        let mut rows = Vec::new();
        for row in read.open_table(NODES)?.iter()? {
            let (key, value) = row?;
            rows.push(Change::Node(*key.value(), Some(value.value().to_vec())));
        }
        for row in read.open_table(LETTERS)?.iter()? {
            let (key, value) = row?;
            rows.push(Change::Letter(key.value(), Some(value.value().to_vec())));
        }
        drop(read);
        let state = State::load(rows).map_err(|_| OpenError::Damaged)?;
        Ok((Self(db), state))
    }

    fn write(&self, changes: &[Change]) -> Result<(), redb::Error> {
        let write = self.0.begin_write()?;
        {
            let (mut nodes, mut letters) = (write.open_table(NODES)?, write.open_table(LETTERS)?);
            for change in changes {
                match change {
                    Change::Node(key, Some(row)) => drop(nodes.insert(key, row.as_slice())?),
                    Change::Node(key, None) => drop(nodes.remove(key)?),
                    Change::Letter(id, Some(row)) => drop(letters.insert(id, row.as_slice())?),
                    Change::Letter(id, None) => drop(letters.remove(id)?),
                }
            }
        }
        write.commit()?;
        Ok(())
    }
}

impl Journal for RedbJournal {
    fn commit(&mut self, changes: &[Change]) -> Result<(), StorageFailed> {
        self.write(changes).map_err(|_| StorageFailed)
    }
}
