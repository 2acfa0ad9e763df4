//! Tests of the log on a simulated disk. Power cuts are tested beside the books that the log keeps, in `pilot-node` and
//! `pilot-rendezvous`.

use crate::sim::SimDisk;
use crate::{BATCH_LEN_MAX, Batch, Folder, Key, Limits, Log};
use std::io;

/// Small limits, so that segments end and are cleaned all the time.
const LIMITS: Limits = Limits { segment_len: 2000, slack: 2000, segment_cost: 100 };

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
    disk.lose(files[0].0);
    assert_eq!(log(&disk).err().map(|e| e.kind()), Some(io::ErrorKind::InvalidData));
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
