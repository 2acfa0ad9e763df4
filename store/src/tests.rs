//! Tests of the log on a simulated disk. Power cuts are tested beside the books that the log keeps, in `pilot-node` and
//! `pilot-rendezvous`.

use crate::sim::SimDisk;
use crate::{BATCH_LEN_MAX, Batch, Disk as _, Folder, Key, Limits, Log, NoRoom, is_full};
use std::io;

/// Small limits, so that segments end and are cleaned all the time.
const LIMITS: Limits = Limits { segment_len: 2000, slack: 2000, segment_cost: 100, reserve_len: 2000 };

fn log(disk: &SimDisk) -> io::Result<Log<SimDisk>> {
    Log::open(disk.clone(), LIMITS)
}

/// Commits twelve batches of 500 bytes, which fill several segments.
fn filled(disk: &SimDisk) {
    let mut log = log(disk).expect("a fresh disk");
    for id in 0..12 {
        let mut batch = Batch::default();
        batch.put(Key::new(1, id), &[&[id as u8; 500]]);
        log.commit(&mut batch).expect("works");
    }
}

#[test]
fn what_decayed_is_an_error_and_never_a_silent_loss() {
    let disk = SimDisk::new(1);
    filled(&disk);
    let files = disk.files();
    assert!(files.len() >= 3, "{files:?}");
    let (newest, newest_len) = files[files.len() - 1];
    for (number, len) in &files {
        // A damaged last batch of the newest segment cannot be told from a torn one.
        let certain = if *number == newest { len - 600 } else { *len };
        for offset in (0..certain).step_by(7) {
            disk.damage(*number, offset);
            let error = log(&disk).err().unwrap_or_else(|| panic!("{number} at {offset} of {len}"));
            assert_eq!(error.kind(), io::ErrorKind::InvalidData);
            disk.damage(*number, offset);
        }
    }
    disk.damage(newest, newest_len - 1);
    let mut torn = log(&disk).expect("as if the power had gone");
    assert_eq!(torn.read(Key::new(1, 10), 600).expect("readable"), Some(vec![10; 500]));
    assert_eq!(torn.read(Key::new(1, 11), 600).expect("readable"), None);
    // The first, the newest, then all of them are missing.
    for lost in [files[0].0..files[0].0 + 1, newest..newest + 1, 0..u32::MAX] {
        let disk = SimDisk::new(1);
        filled(&disk);
        files.iter().filter(|(number, _)| lost.contains(number)).for_each(|(number, _)| disk.lose(*number));
        assert_eq!(log(&disk).err().map(|e| e.kind()), Some(io::ErrorKind::InvalidData), "{lost:?}");
    }
}

#[test]
fn what_is_left_of_damaged_files_is_salvaged_into_whole_ones() {
    let whole = SimDisk::new(1);
    filled(&whole);
    for (number, len) in whole.files() {
        for damage in (0..len).step_by(97).map(Some).chain([None]) {
            let disk = SimDisk::new(1);
            filled(&disk);
            match damage {
                Some(offset) => disk.damage(number, offset),
                None => disk.lose(number),
            }
            let mut salvaged = Log::salvage(disk.clone(), LIMITS).expect("the disk works");
            let ids: Vec<u64> = salvaged.rows(1, 0, 99).map(Key::id).collect();
            assert!((8..=12).contains(&ids.len()), "{number} at {damage:?}: {ids:?}");
            for id in &ids {
                assert_eq!(salvaged.read(Key::new(1, *id), 600).expect("readable"), Some(vec![*id as u8; 500]));
            }
            drop(salvaged);
            let mut again = log(&disk).expect("whole");
            assert!(again.rows(1, 0, 99).map(Key::id).eq(ids));
            let mut batch = Batch::default();
            batch.put(Key::new(1, 50), &[b"more"]);
            again.commit(&mut batch).expect("works");
        }
    }
}

fn put(log: &mut Log<SimDisk>, id: u64) -> io::Result<()> {
    let mut batch = Batch::default();
    batch.put(Key::new(1, id), &[&[id as u8; 90]]);
    log.commit(&mut batch)
}

#[test]
fn a_full_disk_takes_urgent_batches_and_removed_rows_make_room() {
    // A disk has whole sectors, so these are all sizes up to three segments behind the reserve.
    for capacity in (2100..8200).step_by(16) {
        let disk = SimDisk::new(capacity);
        disk.limit(capacity as usize);
        let mut full = log(&disk).expect("a fresh disk");
        let mut count = 0;
        let error = loop {
            match put(&mut full, count) {
                Ok(()) => count += 1,
                Err(e) => break e,
            }
        };
        assert!(is_full(&error), "{capacity}: {error}");
        assert!(put(&mut full, count).is_err_and(|e| is_full(&e)), "{capacity}: there is no more room");
        let mut urgent = Batch::urgent();
        urgent.put(Key::new(2, 1), &[b"a change of trust"]);
        full.commit(&mut urgent).unwrap_or_else(|e| panic!("{capacity}: {e}"));
        let mut left = count;
        while left > 0 {
            // The process may be restarted in the middle.
            if left == count / 2 {
                full = log(&disk).expect("a full disk opens");
            }
            urgent.remove(Key::new(1, count - left));
            full.commit(&mut urgent).unwrap_or_else(|e| panic!("{capacity}: {left} of {count} are left: {e}"));
            full.clean().unwrap_or_else(|e| panic!("{capacity}: {left} of {count} are left: {e}"));
            left -= 1;
        }
        assert_eq!(full.read(Key::new(2, 1), 99).expect("readable"), Some(b"a change of trust".to_vec()));
        // The change of trust takes the room of a row or two.
        if count > 2 {
            assert!(full.secure().is_ok(), "{capacity}: {count} rows were removed and left no room");
            put(&mut full, 1000).unwrap_or_else(|e| panic!("{capacity}: {e}"));
        }
        drop(full);
        disk.limit(usize::MAX);
        let mut roomy = log(&disk).expect("whole");
        put(&mut roomy, 1001).expect("there is room");
    }
}

#[test]
fn a_full_disk_tells_the_bytes_that_are_missing() {
    // With the reserve, which a batch that is not urgent leaves alone, and after an urgent one has used it up.
    for is_reserve_there in [true, false] {
        let disk = SimDisk::new(1);
        let mut log = log(&disk).expect("a fresh disk");
        put(&mut log, 1).expect("room");
        disk.limit(disk.used());
        if !is_reserve_there {
            let mut urgent = Batch::urgent();
            urgent.put(Key::new(2, 1), &[&[0; 90]]);
            log.commit(&mut urgent).expect("the reserve");
        }
        let free = disk.free().expect("told");
        let mut long = Batch::default();
        long.put(Key::new(1, 2), &[&[0; 5000]]);
        let error = log.commit(&mut long).expect_err("no room");
        let missing = NoRoom::of(&error).expect("inside").missing();
        let reserve = if is_reserve_there { 0 } else { LIMITS.reserve_len };
        assert!((5000..5200).contains(&(missing + free - reserve)), "{missing} with {free} free");
        assert!(error.to_string().ends_with(&format!("; {missing} bytes are missing")), "{error}");
        // Without the bytes that the disk takes for itself.
        disk.limit(disk.used() + (missing + free) as usize + 64);
        long.put(Key::new(1, 2), &[&[0; 5000]]);
        log.commit(&mut long).expect("room");
    }
}

#[test]
fn a_batch_that_does_not_fit_takes_no_room() {
    let disk = SimDisk::new(1);
    let mut log = log(&disk).expect("a fresh disk");
    put(&mut log, 1).expect("room");
    disk.limit(disk.used() + 300);
    let used = disk.used();
    let mut long = Batch::default();
    long.put(Key::new(1, 2), &[&[0; 900]]);
    assert!(log.commit(&mut long).is_err_and(|e| is_full(&e)));
    assert_eq!(disk.used(), used, "the part that fitted is gone");
}

#[test]
fn batches_are_joined() {
    let mut log = log(&SimDisk::new(1)).expect("a fresh disk");
    let (mut first, mut second) = (Batch::default(), Batch::urgent());
    second.put(Key::new(1, 2), &[b"two"]);
    first.append(&second);
    first.put(Key::new(1, 1), &[b"one"]);
    second.remove(Key::new(1, 1));
    second.put(Key::new(1, 3), &[b"three"]);
    first.append(&second);
    first.append(&Batch::default());
    log.commit(&mut first).expect("works");
    let rows: Vec<u64> = log.rows(1, 0, 9).map(Key::id).collect();
    assert_eq!(rows, [2, 3]);
    assert_eq!(log.read(Key::new(1, 3), 9).expect("readable"), Some(b"three".to_vec()));
}

#[test]
fn what_is_gone_takes_no_room_for_long() {
    let disk = SimDisk::new(1);
    let mut log = log(&disk).expect("a fresh disk");
    let mut batch = Batch::default();
    batch.put(Key::new(2, 7), &[b"stays"]);
    for n in 0..1000u64 {
        batch.put(Key::new(1, n), &[&[0; 300]]);
        if n > 0 {
            batch.remove(Key::new(1, n - 1));
        }
        log.commit(&mut batch).expect("works");
        log.clean().expect("works");
        let files = disk.files();
        let total: usize = files.iter().map(|(_, len)| len).sum();
        assert!(total < 6000, "{n}: {files:?}");
    }
    assert_eq!(log.read(Key::new(2, 7), 9).expect("readable"), Some(b"stays".to_vec()));
    // The number of files stays bounded, too, when the log is opened and written again and again.
    for _ in 0..100 {
        log = self::log(&disk).expect("not damaged");
        batch.put(Key::new(2, 7), &[b"stays"]);
        log.commit(&mut batch).expect("works");
        log.clean().expect("works");
        assert!(disk.files().len() < 25, "{:?}", disk.files());
    }
}

#[test]
fn more_than_a_log_takes_at_once_is_refused() {
    let mut log = log(&SimDisk::new(1)).expect("a fresh disk");
    let mut batch = Batch::default();
    let part = vec![0; BATCH_LEN_MAX / 4];
    batch.put(Key::new(1, 1), &[&part, &part, &part, &part]);
    assert_eq!(log.commit(&mut batch).err().map(|e| e.kind()), Some(io::ErrorKind::InvalidInput));
    batch.put(Key::new(1, 1), &[b"fits"]);
    log.commit(&mut batch).expect("fits");
}

#[test]
fn a_folder_takes_one_process() {
    let path = std::env::temp_dir().join(format!("pilot-store-lock-{}", std::process::id()));
    let first = Folder::open(path.clone()).expect("free");
    assert_eq!(Folder::open(path.clone()).err().map(|e| e.kind()), Some(io::ErrorKind::ResourceBusy));
    drop(first);
    Folder::open(path.clone()).expect("free again");
    std::fs::remove_dir_all(path).expect("made above");
}

#[test]
fn a_folder_keeps_room_and_the_number_of_its_newest_file() {
    let scratch = std::env::temp_dir().join(format!("pilot-store-notes-{}", std::process::id()));
    let mut folder = Folder::open(scratch.join("books")).expect("free");
    assert_eq!(folder.marked().expect("readable"), None);
    for number in 1..=3 {
        folder.mark(number).expect("room");
        assert_eq!(folder.marked().expect("readable"), Some(number));
    }
    let note = scratch.join("books.newest");
    let mut torn = std::fs::read(&note).expect("written");
    torn[21] ^= 1;
    std::fs::write(&note, torn).expect("writable");
    assert_eq!(folder.marked().expect("readable"), Some(2), "the note before");
    for len in [4000, 4000, 5000] {
        folder.reserve(len).expect("room");
        assert_eq!(std::fs::metadata(scratch.join("books/reserve")).expect("kept").len(), len);
    }
    folder.reserve(0).expect("removed");
    assert!(!scratch.join("books/reserve").exists() && folder.list().expect("readable").is_empty());
    folder.create(7).and_then(|()| folder.append(b"12345")).and_then(|()| folder.cut(7, 3)).expect("works");
    assert_eq!(folder.len(7).expect("there"), 3);
    drop(folder);
    std::fs::remove_dir_all(scratch).expect("made above");
}
