//! Owns the target of the inbox's recovery: books with any rows, as damage that no hash tells or another version leaves them.

use pilot_node::probe::{Recovered, recover};
use pilot_store::sim::SimDisk;
use pilot_store::{Batch, Key, Limits, Log};

const LIMITS: Limits = Limits { segment_len: 2000, slack: 2000, segment_cost: 100, reserve_len: 2000 };
/// Tables of the books, and one that they do not know.
const TABLES: u8 = 6;

/// Puts rows of any contents into a log and opens the books there. The input is a list of rows: table, number, length (each one
/// byte), contents. Invariants: nothing panics; a new message is accepted under a number of its own and read back; the inbox
/// shows no more than it has; and it can be emptied.
pub fn inbox(mut bytes: &[u8]) {
    let disk = SimDisk::new(1);
    let mut log = Log::open(disk.clone(), LIMITS).expect("an empty disk");
    while let [table, id, len, rest @ ..] = bytes {
        let (row, rest) = rest.split_at(usize::from(*len).min(rest.len()));
        let mut batch = Batch::default();
        batch.put(Key::new(1 + table % TABLES, u64::from(*id)), &[row]);
        log.commit(&mut batch).expect("a disk with room");
        bytes = rest;
    }
    drop(log);
    let log = Log::open(disk.clone(), LIMITS).expect("not damaged");
    let first = recover(log).expect("a disk that can be read");
    assert!(first.accepted.is_some() && first.is_read_back, "{first:?}");
    let Some((total, shown)) = first.listed else { panic!("the inbox cannot be listed: {first:?}") };
    assert!(total >= 1 && shown as u64 <= total && shown <= Recovered::PAGE, "{first:?}");
    assert_eq!(first.taken.map(|taken| taken as u64), Some(total), "the inbox is emptied");
    // The message is known, although it was taken: another process does not take it again, and its inbox is empty.
    let second = recover(Log::open(disk, LIMITS).expect("not damaged")).expect("a disk that can be read");
    assert_eq!((second.accepted, second.listed, second.taken), (None, Some((0, 0)), Some(0)), "{second:?}");
}
