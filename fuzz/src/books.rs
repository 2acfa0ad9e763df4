//! Owns the recovery of the books: a log is written, its disk fails, loses its power, decays and loses files, and the log is
//! opened again. Inbox, outbox, trust and the rendezvous' names are rows of such a log.

use pilot_store::sim::SimDisk;
use pilot_store::{Batch, Key, Limits, Log};
use std::collections::{BTreeMap, BTreeSet};

/// Most steps of one input.
const STEPS_MAX: usize = 300;
/// Small limits, so that segments end and are cleaned all the time.
const LIMITS: Limits = Limits { segment_len: 2000, slack: 2000, segment_cost: 100, reserve_len: 0 };
/// Longest row. Unit: bytes.
const ROW_LEN_MAX: usize = 1024;
/// Rows of the table.
const ROWS: u64 = 16;
const TABLE: u8 = 1;

/// The disk, the log while it is open, and what the log was told.
struct Story {
    disk: SimDisk,
    log: Option<Log<SimDisk>>,
    /// The rows that are on the disk for certain.
    rows: BTreeMap<u64, Vec<u8>>,
    /// Every value that was ever put under a number, which are all values that may be shown after damage.
    ever: BTreeSet<(u64, Vec<u8>)>,
    /// The last commit failed: it may have happened or not.
    unsure: Option<BTreeMap<u64, Vec<u8>>>,
    is_damaged: bool,
}

/// Runs a log against a model. The input is a list of steps of four bytes: an action, a number, a length, a detail.
///
/// Invariants: nothing panics; a disk that only failed or lost its power keeps what was committed, and an unfinished commit
/// as a whole or not at all; a damaged disk is refused, or shows values that were once put and nothing else.
pub fn books(bytes: &[u8]) {
    let disk = SimDisk::new(1);
    let log = Log::open(disk.clone(), LIMITS).ok();
    let mut story = Story { disk, log, rows: BTreeMap::new(), ever: BTreeSet::new(), unsure: None, is_damaged: false };
    for step in bytes.chunks_exact(4).take(STEPS_MAX) {
        story.step(step[0], step[1], step[2], step[3]);
    }
    story.reopen();
}

impl Story {
    fn step(&mut self, what: u8, which: u8, len: u8, how: u8) {
        match what % 12 {
            0..=5 => self.commit(which, len, how),
            6 => {
                if let Some(log) = &mut self.log {
                    // A disk that fails now shows it at the next commit.
                    let _ = log.clean();
                }
            }
            7 => self.disk.fail_after(u32::from(which % 16), how.is_multiple_of(2)),
            8 => self.reopen(),
            9 => {
                self.log = None;
                self.disk.restart();
                self.reopen();
            }
            _ => self.decay(what % 12 == 10, which, usize::from(len) << 8 | usize::from(how)),
        }
    }

    /// Puts or removes up to four rows at once.
    fn commit(&mut self, which: u8, len: u8, how: u8) {
        let Some(log) = self.log.as_mut().filter(|_| self.unsure.is_none()) else { return self.reopen() };
        let (mut batch, mut rows) = (Batch::default(), self.rows.clone());
        for i in 0..u64::from(how % 4) + 1 {
            let id = (u64::from(which) + i * 5) % ROWS;
            if (u64::from(how >> 2) + i).is_multiple_of(3) {
                batch.remove(Key::new(TABLE, id));
                rows.remove(&id);
            } else {
                let value = vec![which ^ how; usize::from(len) * 3];
                batch.put(Key::new(TABLE, id), &[&value]);
                self.ever.insert((id, value.clone()));
                rows.insert(id, value);
            }
        }
        match log.commit(&mut batch) {
            Ok(()) => self.rows = rows,
            Err(_) => self.unsure = Some(rows),
        }
    }

    /// Turns a bit of a file, or removes the file.
    fn decay(&mut self, removes: bool, which: u8, offset: usize) {
        let files = self.disk.files();
        let Some((number, len)) = files.get(usize::from(which) % files.len().max(1)) else { return };
        self.log = None;
        if removes {
            self.disk.lose(*number);
        } else if *len > 0 {
            self.disk.damage(*number, offset % len);
        }
        self.is_damaged = true;
        self.reopen();
    }

    fn reopen(&mut self) {
        self.log = None;
        if self.disk.is_off() {
            self.disk.restart();
        }
        self.disk.heal();
        let opened = Log::open(self.disk.clone(), LIMITS);
        if self.is_damaged {
            self.look_at_damaged(opened.ok());
            return;
        }
        let mut log = opened.expect("failures and power cuts damage nothing");
        let found = rows(&mut log);
        let is_either = found == self.rows || self.unsure.as_ref() == Some(&found);
        assert!(is_either, "not what was committed: {:?} and {:?}", found.keys(), self.rows.keys());
        (self.rows, self.unsure, self.log) = (found, None, Some(log));
    }

    /// A damaged log that is taken all the same shows old values at worst; the story begins anew on another disk.
    fn look_at_damaged(&mut self, log: Option<Log<SimDisk>>) {
        if let Some(mut log) = log {
            let strange = rows(&mut log).into_iter().find(|row| !self.ever.contains(row));
            assert!(strange.is_none(), "a row that was never put: {strange:?}");
        }
        self.disk = SimDisk::new(1);
        self.log = Log::open(self.disk.clone(), LIMITS).ok();
        (self.rows, self.unsure, self.is_damaged) = (BTreeMap::new(), None, false);
    }
}

/// Every readable row.
fn rows(log: &mut Log<SimDisk>) -> BTreeMap<u64, Vec<u8>> {
    let keys: Vec<Key> = log.rows(TABLE, 0, Key::ID_MAX).collect();
    let read = |key: Key| log.read(key, ROW_LEN_MAX).ok().flatten().map(|value| (key.id(), value));
    keys.into_iter().filter_map(read).collect()
}
