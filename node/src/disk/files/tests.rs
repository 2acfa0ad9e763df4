//! Received files in real folders, on disks with as much room as the tests tell.

use super::*;

fn folder(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("pilot-files-{name}-{}", std::process::id()));
    let _ = fs::remove_dir_all(&folder);
    folder
}

fn resume(hash: [u8; 32]) -> Option<Resume> {
    Some(Resume { transfer: [7; 16], hash })
}

fn announced(name: &str, len: u64, resume: Option<Resume>) -> Announced {
    Announced { name: name.into(), len, sender: "peer".into(), quota: u64::MAX, resume }
}

fn open(id: u64, file: Announced) -> FileJob {
    FileJob::Open { id, file }
}

fn data(id: u64, offset: u64, bytes: &[u8]) -> FileJob {
    FileJob::Data { id, offset, bytes: bytes.to_vec() }
}

fn reason(done: FileDone) -> String {
    let FileDone::Failed(why) = done else { panic!("{done:?}") };
    why
}

/// Files of transfers with different names for them.
fn transfer(id: u64, sender: &str, len: u64) -> FileJob {
    let mut transfer = [0; 16];
    transfer[..8].copy_from_slice(&id.to_le_bytes());
    let file = announced("a", len, Some(Resume { transfer, hash: [0; 32] }));
    open(id, Announced { sender: sender.into(), ..file })
}

#[test]
fn a_broken_transfer_goes_on_where_it_ended_and_is_verified() {
    let folder = folder("resume");
    let hash = Sha256::digest(b"hello world").into();
    let open = |id| open(id, announced("a.txt", 11, resume(hash)));
    let mut files = Files::new(folder.clone());
    assert_eq!(files.run(open(1)), FileDone::Opened { offset: 0 });
    assert_eq!(files.run(data(1, 0, b"hello")), FileDone::Written { len: 5 });
    assert_eq!(files.run(FileJob::Drop { id: 1 }), FileDone::Dropped);

    let mut files = Files::new(folder.clone()); // another process
    assert_eq!(files.run(open(3)), FileDone::Opened { offset: 5 });
    assert!(matches!(files.run(data(3, 6, b"x")), FileDone::Failed(_)), "a gap");
    files.run(open(4));
    assert!(matches!(files.run(data(4, 5, b"1234567")), FileDone::Failed(_)), "too much");
    assert_eq!(files.run(open(5)), FileDone::Opened { offset: 5 });
    assert_eq!(files.run(data(5, 5, b" world")), FileDone::Written { len: 11 });
    assert_eq!(files.run(FileJob::End { id: 5 }), FileDone::Kept { path: folder.join("a.txt"), len: 11 });
    assert_eq!(fs::read(folder.join("a.txt")).unwrap(), b"hello world");
    assert!(entries(&folder.join(".part")).is_empty());
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_transfer_goes_on_without_reading_what_has_arrived() {
    let folder = folder("state");
    let body: Vec<u8> = (0..100_000u32).map(|n| n as u8).collect();
    let hash = Sha256::digest(&body).into();
    let open = |id| open(id, announced("a", body.len() as u64, resume(hash)));
    let mut files = Files::new(folder.clone());
    files.run(open(1));
    files.run(data(1, 0, &body[..70_001]));
    files.run(FileJob::Drop { id: 1 });
    // The hash is that of the bytes as they came: it is not made of the part, which has other bytes by now.
    let part = files.parts().remove(0).path;
    let mut changed = fs::read(&part).unwrap();
    changed[5] ^= 1;
    fs::write(&part, &changed).unwrap();
    assert_eq!(files.run(open(2)), FileDone::Opened { offset: 70_001 });
    files.run(data(2, 70_001, &body[70_001..]));
    assert!(matches!(files.run(FileJob::End { id: 2 }), FileDone::Kept { .. }));
    // Without a whole note, or with less than the note says, the file begins anew.
    for spoil in [|note: &Path| fs::write(note, b"torn"), |note: &Path| fs::write(note.with_extension(""), b"short")] {
        files.run(open(3));
        files.run(data(3, 0, &body[..10]));
        files.run(FileJob::Drop { id: 3 });
        spoil(&part.with_extension(NOTE)).unwrap();
        assert_eq!(files.run(open(4)), FileDone::Opened { offset: 0 });
        files.run(FileJob::Drop { id: 4 });
    }
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn the_same_content_at_once_arrives_twice() {
    let folder = folder("twice");
    let hash = Sha256::digest(b"same").into();
    let mut files = Files::new(folder.clone());
    for names in [["a", "b"], ["c", "c"]] {
        for (id, name) in [(1, names[0]), (2, names[1])] {
            assert_eq!(files.run(open(id, announced(name, 4, resume(hash)))), FileDone::Opened { offset: 0 });
            files.run(data(id, 0, b"sa"));
        }
        for id in [1, 2] {
            files.run(data(id, 2, b"me"));
            assert!(matches!(files.run(FileJob::End { id }), FileDone::Kept { .. }));
        }
    }
    for name in ["a", "b", "c", "c-1"] {
        assert_eq!(fs::read(folder.join(name)).unwrap(), b"same", "{name}");
    }
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_wrong_hash_and_a_short_file_are_refused_and_nothing_appears() {
    let folder = folder("wrong");
    let mut files = Files::new(folder.clone());
    let open = |id, len| open(id, announced("a", len, resume([0; 32])));
    files.run(open(1, 1));
    files.run(data(1, 0, b"x"));
    assert!(reason(files.run(FileJob::End { id: 1 })).contains("hash"));
    files.run(open(2, 5));
    assert!(reason(files.run(FileJob::End { id: 2 })).contains("0 of 5"));
    assert_eq!(files.run(FileJob::List), FileDone::Listed(Vec::new(), Vec::new()));
    assert!(matches!(files.run(FileJob::End { id: 9 }), FileDone::Failed(_)));
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_file_never_leaves_the_folder_and_never_replaces_another() {
    let folder = folder("names");
    let mut files = Files::new(folder.clone());
    for (id, kept) in [(1, "a.tar"), (2, "a-1.tar"), (3, "a-2.tar")] {
        files.run(open(id, announced("a.tar", 0, None)));
        assert_eq!(files.run(FileJob::End { id }), FileDone::Kept { path: folder.join(kept), len: 0 });
    }
    files.run(open(4, announced("../../\u{202e}gpj.sh", 0, None)));
    assert_eq!(files.run(FileJob::End { id: 4 }), FileDone::Kept { path: folder.join("_gpj.sh"), len: 0 });
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn without_hard_links_a_name_is_taken_before_its_file_is_there() {
    let folder = folder("links");
    fs::create_dir_all(&folder).unwrap();
    let (part, path) = (folder.join("part"), folder.join("name"));
    fs::write(&part, b"new").unwrap();
    take_name(&part, &path).unwrap();
    assert!(fs::read(&path).unwrap() == b"new" && !part.exists());
    fs::write(&part, b"newer").unwrap();
    assert_eq!(take_name(&part, &path).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
    assert!(fs::read(&path).unwrap() == b"new" && part.exists());
    fs::remove_file(&part).unwrap();
    assert!(take_name(&part, &folder.join("other")).is_err());
    assert!(!folder.join("other").exists(), "no empty file stays");
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn files_that_arrive_have_maxima_and_idle_ones_give_way() {
    let folder = folder("many");
    let mut files = Files::new(folder.clone());
    for id in 0..OPEN_MAX as u64 {
        let sender = format!("peer{}", id / OPEN_OF_PEER_MAX as u64);
        assert_eq!(files.run(transfer(id, &sender, 9)), FileDone::Opened { offset: 0 });
    }
    assert!(reason(files.run(transfer(99, "peer0", 9))).contains("of this sender"));
    assert!(reason(files.run(transfer(99, "peer99", 9))).contains("too many files arrive"));
    // A file of the same sender gives way to its sender's next file, and any file to that of another sender.
    let now = std::time::Instant::now();
    let Some(long_ago) = now.checked_sub(IDLE) else { return fs::remove_dir_all(folder).unwrap() };
    for (idle, sender) in [(0, "peer0"), (3, "peer99")] {
        files.open.get_mut(&idle).unwrap().touched = long_ago;
        assert_eq!(files.run(transfer(100 + idle, sender, 9)), FileDone::Opened { offset: 0 });
        assert!(reason(files.run(data(idle, 0, b"x"))).contains("no such transfer"));
    }
    let huge = open(1, announced("a", FILE_LEN_MAX + 1, None));
    assert!(reason(files.run(huge)).contains("too long"));
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn the_use_of_a_senders_quota_is_told() {
    let folder = folder("measure");
    let mut files = Files::new(folder.clone());
    let sizes = |files: &mut Files| {
        let FileDone::Measured(sizes) = files.run(FileJob::Measure) else { panic!("no sizes") };
        sizes.into_iter().collect::<Vec<_>>()
    };
    let of = |sender: &str, len| (sender.to_owned(), len);
    assert_eq!(sizes(&mut files), []);
    assert_eq!(files.run(transfer(1, "a", 9)), FileDone::Opened { offset: 0 });
    files.run(data(1, 0, b"part"));
    assert_eq!(sizes(&mut files), [of("a", 9)], "room is kept for a file that arrives");
    files.run(FileJob::Drop { id: 1 });
    assert_eq!(sizes(&mut files), [of("a", 4)], "an unfinished file");
    files.run(open(2, Announced { sender: "b".into(), ..announced("whole", 5, None) }));
    files.run(data(2, 0, b"whole"));
    let FileDone::Kept { path, .. } = files.run(FileJob::End { id: 2 }) else { panic!("not kept") };
    assert_eq!(sizes(&mut files), [of("a", 4), of("b", 5)]);
    fs::remove_file(path).unwrap();
    assert_eq!(sizes(&mut files), [of("a", 4)], "the reader has taken it away");
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn parts_of_broken_transfers_have_maxima_an_age_and_a_line_in_the_list() {
    let folder = folder("parts");
    let mut files = Files::new(folder.clone());
    let broken = |files: &mut Files, id: u64, sender: &str| {
        files.run(transfer(id, sender, 9));
        files.run(data(id, 0, b"part"));
        files.run(FileJob::Drop { id });
    };
    for id in 0..20 {
        broken(&mut files, id, "peer");
    }
    assert_eq!(files.parts().len(), PARTS_OF_PEER_MAX + 1, "the newest is looked at with the next file");
    for id in 100..200 {
        broken(&mut files, id, &format!("peer{id}"));
    }
    assert_eq!(files.parts().len(), PARTS_MAX + 1);
    let FileDone::Listed(whole, parts) = files.run(FileJob::List) else { panic!("no list") };
    assert_eq!((whole.len(), parts.len()), (0, PARTS_MAX + 1));
    assert_eq!((parts[0].name.as_str(), parts[0].len, parts[0].part.as_ref().map(|p| p.0)), ("a", 4, Some(9)));
    // Old parts go, and so do those that take too much of what is free.
    let old = SystemTime::now() - PART_AGE_MAX - Duration::from_secs(60);
    File::options().write(true).open(files.parts()[9].path.clone()).unwrap().set_modified(old).unwrap();
    let files = Files::new(folder.clone());
    assert_eq!(files.parts().len(), PARTS_MAX);
    let tight = Files { room: |_| Ok(Room { free: 400, all: 4000 }), ..files };
    tight.forget_old_parts();
    let left = tight.parts();
    // 64 parts of 4 bytes beside 400 free ones: a quarter of them is 150, in hundreds.
    assert_eq!((left.iter().map(|kept| kept.len).sum::<u64>(), left.len()), (148, 37));
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_file_that_does_not_fit_is_refused_before_its_first_byte() {
    let folder = folder("room");
    let mut files = Files { room: |_| Ok(Room { free: 1000, all: 2000 }), ..Files::new(folder.clone()) };
    // 5 % of the disk are spared.
    assert_eq!(files.run(transfer(1, "one", 500)), FileDone::Opened { offset: 0 });
    let why = reason(files.run(transfer(2, "two", 401)));
    assert!(why.contains("too full") && why.contains("1 bytes are missing"), "{why}");
    assert_eq!(files.run(transfer(3, "two", 400)), FileDone::Opened { offset: 0 });
    assert!(reason(files.run(transfer(4, "three", 1))).contains("full"));
    assert_eq!(entries(&folder.join(".part")).len(), 2, "nothing is left of the others");
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn files_and_parts_of_a_sender_have_a_quota() {
    let folder = folder("quota");
    let mut files = Files::new(folder.clone());
    let limited = |id: u64, name: &str, len| {
        let resume = Some(Resume { transfer: [id as u8; 16], hash: Sha256::digest(b"12345").into() });
        open(id, Announced { quota: 14, ..announced(name, len, resume) })
    };
    assert!(reason(files.run(limited(1, "a", 15))).contains("may take 14 bytes"));
    files.run(limited(1, "a", 5));
    files.run(data(1, 0, b"12345"));
    assert!(matches!(files.run(FileJob::End { id: 1 }), FileDone::Kept { .. }));
    // A part that is left counts as far as it has come, and once.
    files.run(limited(2, "b", 9));
    files.run(data(2, 0, b"1234"));
    files.run(FileJob::Drop { id: 2 });
    assert!(reason(files.run(limited(3, "c", 6))).contains("too much"));
    assert_eq!(files.run(limited(4, "d", 5)), FileDone::Opened { offset: 0 });
    assert!(reason(files.run(limited(5, "e", 1))).contains("too much"), "open files count whole");
    files.run(FileJob::Drop { id: 4 });
    assert_eq!(files.run(limited(2, "b", 9)), FileDone::Opened { offset: 4 });
    files.run(FileJob::Drop { id: 2 });
    fs::remove_file(folder.join("a")).unwrap();
    assert_eq!(
        files.run(limited(6, "f", 10)),
        FileDone::Opened { offset: 0 },
        "what its reader removed counts no more"
    );
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_full_disk_is_told_as_such() {
    assert!(explain(&io::ErrorKind::StorageFull.into()).contains("full"));
    assert!(explain(&io::ErrorKind::Other.into()).contains("failed"));
}
