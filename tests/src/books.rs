//! Owns the books of the rendezvous as its disk holds them: they outlive its process, and the disk may be full.

use pilot_rendezvous::{Change, Journal, State, StorageFailed};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

#[derive(Default)]
struct Rows {
    nodes: BTreeMap<[u8; 32], Vec<u8>>,
    letters: BTreeMap<u64, Vec<u8>>,
    is_full: bool,
}

/// The disk of the rendezvous.
#[derive(Clone, Default)]
pub(crate) struct Books(Arc<Mutex<Rows>>);

impl Books {
    fn rows(&self) -> MutexGuard<'_, Rows> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets every change fail, or none.
    pub(crate) fn set_full(&self, is_full: bool) {
        self.rows().is_full = is_full;
    }

    /// True while every change fails.
    pub(crate) fn is_full(&self) -> bool {
        self.rows().is_full
    }

    /// Forgets everything.
    pub(crate) fn clear(&self) {
        *self.rows() = Rows::default();
    }

    /// What a new process reads.
    pub(crate) fn state(&self) -> State {
        let rows = self.rows();
        let nodes = rows.nodes.iter().map(|(key, row)| Change::Node(*key, Some(row.clone())));
        let letters = rows.letters.iter().map(|(number, row)| Change::Letter(*number, Some(row.clone())));
        State::load(nodes.chain(letters)).expect("own rows")
    }
}

impl Journal for Books {
    fn commit(&mut self, changes: &[Change]) -> Result<(), StorageFailed> {
        let mut rows = self.rows();
        if rows.is_full {
            return Err(StorageFailed);
        }
        for change in changes.iter().cloned() {
            match change {
                Change::Node(key, Some(row)) => drop(rows.nodes.insert(key, row)),
                Change::Node(key, None) => drop(rows.nodes.remove(&key)),
                Change::Letter(number, Some(row)) => drop(rows.letters.insert(number, row)),
                Change::Letter(number, None) => drop(rows.letters.remove(&number)),
            }
        }
        Ok(())
    }
}
