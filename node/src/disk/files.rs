//! Owns received files: their parts on disk, their hashes, and the folder they end in. Runs on the disk's thread.
//!
//! A file grows as `received/.part/…` and gets its name only when it is complete, verified and synced. The part of a
//! resumable transfer stays when the stream breaks, and the next attempt continues it (`docs/messages.md`, "Services on
//! well-known ports").

use litemap::LiteMap;
use sha2::{Digest as _, Sha256};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Longest file. Unit: bytes (64 GiB).
pub(crate) const FILE_LEN_MAX: u64 = 64 << 30;
/// Most files that arrive at once.
pub(crate) const OPEN_MAX: usize = 64;
/// Most parts of broken transfers that are kept; the oldest is removed first.
pub(crate) const PARTS_MAX: usize = 64;
/// Longest name of a kept file. Unit: bytes. Source: the usual limit of file systems, less room for a number.
const NAME_LEN_MAX: usize = 240;
/// Bytes of a file between two syncs, so that the last sync is short. Unit: bytes.
const SYNC_EVERY: u64 = 64 << 20;

/// The name of a resumable transfer: another attempt under the same name continues its part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Resume {
    /// Fingerprint of the sender's key.
    pub(crate) sender: String,
    /// The sender's name for the transfer.
    pub(crate) transfer: [u8; 16],
    /// SHA-256 of the whole file.
    pub(crate) hash: [u8; 32],
}

/// Work on one file; `id` is the loop's number for it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum FileJob {
    /// Begin a file, or continue the part of an earlier attempt.
    Open { id: u64, name: String, len: u64, resume: Option<Resume> },
    /// Append the next bytes.
    Data { id: u64, offset: u64, bytes: Vec<u8> },
    /// Verify, sync and name the file: its last byte has arrived.
    End { id: u64 },
    /// Close the file: its stream is gone.
    Drop { id: u64 },
    /// List the folder.
    List,
}

/// The outcome of a [`FileJob`].
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum FileDone {
    /// The file is open; the sender continues at `offset`. Unit: bytes.
    Opened { offset: u64 },
    /// The first `len` bytes are written, not yet synced.
    Written { len: u64 },
    /// The file is complete, verified and synced under this path.
    Kept { path: PathBuf, len: u64 },
    /// The file is closed.
    Dropped,
    /// Name, length and time of change (seconds since 1970), newest last.
    Listed(Vec<(String, u64, u64)>),
    /// The reason, for the sender.
    Failed(String),
}

/// The folder for received files.
pub(crate) struct Files {
    folder: PathBuf,
    open: LiteMap<u64, Part>,
}

struct Part {
    file: File,
    path: PathBuf,
    name: String,
    hash: Sha256,
    wanted: Option<[u8; 32]>,
    len: u64,
    next: u64,
    synced: u64,
}

impl Files {
    pub(crate) fn new(folder: PathBuf) -> Self {
        // Parts that cannot be resumed are left from a process that ended in the middle.
        for (path, _) in entries(&folder.join(".part")) {
            if path.extension().is_some_and(|e| e == "once") {
                let _ = fs::remove_file(path);
            }
        }
        Self { folder, open: LiteMap::new() }
    }

    /// Does one job. After a failure the file is closed; the part of a resumable transfer is kept.
    pub(crate) fn run(&mut self, job: FileJob) -> FileDone {
        let id = match &job {
            FileJob::Data { id, .. } | FileJob::End { id } => Some(*id),
            _ => None,
        };
        let result = match job {
            FileJob::Open { id, name, len, resume } => self.start(id, &name, len, resume),
            FileJob::Data { id, offset, bytes } => self.write(id, offset, &bytes),
            FileJob::End { id } => self.finish(id),
            FileJob::Drop { id } => {
                self.drop_part(id);
                Ok(FileDone::Dropped)
            }
            FileJob::List => Ok(FileDone::Listed(self.list())),
        };
        result.unwrap_or_else(|why| {
            id.into_iter().for_each(|id| self.drop_part(id));
            FileDone::Failed(why)
        })
    }

    fn start(&mut self, id: u64, name: &str, len: u64, resume: Option<Resume>) -> Result<FileDone, String> {
        if self.open.len() >= OPEN_MAX {
            return Err("too many files arrive at once".into());
        }
        if len > FILE_LEN_MAX {
            return Err(format!("a file may have at most {FILE_LEN_MAX} bytes"));
        }
        let name = safe_name(name).ok_or("the file's name cannot be used")?;
        let parts = self.folder.join(".part");
        DirBuilder::new().recursive(true).mode(0o700).create(&parts).map_err(|e| explain(&e))?;
        let path = match &resume {
            Some(r) => parts.join(format!("{}-{}", r.sender, crate::mail::frame::id_text(&r.transfer))),
            None => parts.join(format!("{id}.once")),
        };
        if self.open.values().any(|part| part.path == path) {
            return Err("this file is arriving already".into());
        }
        self.forget_old_parts(&parts);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(resume.is_none()).mode(0o600);
        let mut file = options.open(&path).map_err(|e| explain(&e))?;
        let mut hash = Sha256::new();
        let mut next = 0;
        let mut buffer = vec![0; 256 * 1024];
        while next < len {
            let room = buffer.len().min((len - next) as usize);
            match file.read(&mut buffer[..room]).map_err(|e| explain(&e))? {
                0 => break,
                n => {
                    hash.update(&buffer[..n]);
                    next += n as u64;
                }
            }
        }
        file.set_len(next).map_err(|e| explain(&e))?;
        let part = Part { file, path, name, hash, wanted: resume.map(|r| r.hash), len, next, synced: next };
        self.open.insert(id, part);
        Ok(FileDone::Opened { offset: next })
    }

    fn write(&mut self, id: u64, offset: u64, bytes: &[u8]) -> Result<FileDone, String> {
        let part = self.open.get_mut(&id).ok_or("no such transfer")?;
        if offset != part.next || bytes.len() as u64 > part.len - part.next {
            return Err(format!("bytes at {offset} where {} were expected", part.next));
        }
        part.file.write_all(bytes).map_err(|e| explain(&e))?;
        part.hash.update(bytes);
        part.next += bytes.len() as u64;
        if part.next - part.synced >= SYNC_EVERY {
            part.file.sync_data().map_err(|e| explain(&e))?;
            part.synced = part.next;
        }
        Ok(FileDone::Written { len: part.next })
    }

    fn finish(&mut self, id: u64) -> Result<FileDone, String> {
        let part = self.open.get(&id).ok_or("no such transfer")?;
        if part.next != part.len {
            return Err(format!("it ended after {} of {} bytes", part.next, part.len));
        }
        let part = self.open.remove(&id).ok_or("no such transfer")?;
        if part.wanted.is_some_and(|wanted| wanted != *part.hash.finalize()) {
            // Another attempt that continued this part could never succeed.
            let _ = fs::remove_file(&part.path);
            return Err("the hash differs from what was announced".into());
        }
        part.file.sync_all().map_err(|e| explain(&e))?;
        let path = place(&part.path, &self.folder, &part.name).map_err(|e| explain(&e))?;
        File::open(&self.folder).and_then(|dir| dir.sync_all()).map_err(|e| explain(&e))?;
        Ok(FileDone::Kept { path, len: part.len })
    }

    fn drop_part(&mut self, id: u64) {
        if let Some(part) = self.open.remove(&id)
            && part.wanted.is_none()
        {
            let _ = fs::remove_file(part.path);
        }
    }

    fn forget_old_parts(&self, parts: &Path) {
        let mut kept = entries(parts);
        kept.sort_by_key(|(_, changed)| *changed);
        let open = |path: &PathBuf| self.open.values().any(|part| part.path == *path);
        let surplus = (kept.len() + 1).saturating_sub(PARTS_MAX + self.open.len());
        for (path, _) in kept.iter().filter(|(path, _)| !open(path)).take(surplus) {
            let _ = fs::remove_file(path); // another program may have removed the part already
        }
    }

    fn list(&self) -> Vec<(String, u64, u64)> {
        let mut rows: Vec<(String, u64, u64)> = entries(&self.folder)
            .into_iter()
            .filter_map(|(path, changed)| {
                let meta = fs::metadata(&path).ok().filter(fs::Metadata::is_file)?;
                let at = changed.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_secs());
                Some((path.file_name()?.to_str()?.to_owned(), meta.len(), at))
            })
            .collect();
        rows.sort_by(|a, b| (a.2, &a.0).cmp(&(b.2, &b.0)));
        rows
    }
}

/// The files of a folder with their times of change; none when the folder cannot be read.
fn entries(folder: &Path) -> Vec<(PathBuf, SystemTime)> {
    let Ok(list) = fs::read_dir(folder) else { return Vec::new() };
    list.flatten().filter_map(|entry| Some((entry.path(), entry.metadata().ok()?.modified().ok()?))).collect()
}

/// The last component of `name` without control characters, leading dots and spaces around; `None` when nothing is left.
fn safe_name(name: &str) -> Option<String> {
    let last = name.rsplit(['/', '\\']).next().unwrap_or_default();
    let mut safe: String = last.chars().map(|c| if c.is_control() { '_' } else { c }).collect();
    while safe.len() > NAME_LEN_MAX {
        safe.pop();
    }
    let safe = safe.trim_start_matches('.').trim();
    (!safe.is_empty()).then(|| safe.to_owned())
}

/// Gives the part its name in the folder. A file with that name stays, and the new one gets a number.
fn place(part: &Path, folder: &Path, name: &str) -> io::Result<PathBuf> {
    let (stem, end) = match name.rfind('.') {
        Some(at) if at > 0 => name.split_at(at),
        _ => (name, ""),
    };
    for number in 0..10_000 {
        let path = match number {
            0 => folder.join(name),
            n => folder.join(format!("{stem}-{n}{end}")),
        };
        match fs::hard_link(part, &path) {
            Ok(()) => return fs::remove_file(part).map(|()| path),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(e),
        }
    }
    Err(io::Error::other("too many files of that name"))
}

fn explain(e: &io::Error) -> String {
    match e.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "the disk is full; what has arrived is kept, send again when there is room".into()
        }
        _ => format!("the disk failed: {e}"),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("pilot-files-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        folder
    }

    fn resume(hash: [u8; 32]) -> Option<Resume> {
        Some(Resume { sender: "peer".into(), transfer: [7; 16], hash })
    }

    fn data(id: u64, offset: u64, bytes: &[u8]) -> FileJob {
        FileJob::Data { id, offset, bytes: bytes.to_vec() }
    }

    #[test]
    fn a_broken_transfer_goes_on_where_it_ended_and_is_verified() {
        let folder = folder("resume");
        let hash = Sha256::digest(b"hello world").into();
        let open = |id| FileJob::Open { id, name: "a.txt".into(), len: 11, resume: resume(hash) };
        let mut files = Files::new(folder.clone());
        assert_eq!(files.run(open(1)), FileDone::Opened { offset: 0 });
        assert_eq!(files.run(data(1, 0, b"hello")), FileDone::Written { len: 5 });
        assert!(matches!(files.run(open(2)), FileDone::Failed(why) if why.contains("already")));
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
    fn a_wrong_hash_and_a_short_file_are_refused_and_nothing_appears() {
        let folder = folder("wrong");
        let mut files = Files::new(folder.clone());
        let open = |id, len| FileJob::Open { id, name: "a".into(), len, resume: resume([0; 32]) };
        files.run(open(1, 1));
        files.run(data(1, 0, b"x"));
        assert!(matches!(files.run(FileJob::End { id: 1 }), FileDone::Failed(why) if why.contains("hash")));
        files.run(open(2, 5));
        assert!(matches!(files.run(FileJob::End { id: 2 }), FileDone::Failed(why) if why.contains("0 of 5")));
        assert_eq!(files.run(FileJob::List), FileDone::Listed(Vec::new()));
        assert!(matches!(files.run(FileJob::End { id: 9 }), FileDone::Failed(_)));
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn names_never_leave_the_folder_and_never_replace_a_file() {
        for (name, safe) in [
            ("a.txt", Some("a.txt")),
            ("../../etc/passwd", Some("passwd")),
            ("c:\\x\\y", Some("y")),
            (".bashrc", Some("bashrc")),
            ("..", None),
            ("a/", None),
            ("", None),
            ("\u{1b}[2J", Some("_[2J")),
        ] {
            assert_eq!(safe_name(name).as_deref(), safe, "{name:?}");
        }
        assert!(safe_name(&"ä".repeat(400)).unwrap().len() <= NAME_LEN_MAX);

        let folder = folder("names");
        let mut files = Files::new(folder.clone());
        for (id, kept) in [(1, "a.tar"), (2, "a-1.tar"), (3, "a-2.tar")] {
            files.run(FileJob::Open { id, name: "a.tar".into(), len: 0, resume: None });
            assert_eq!(files.run(FileJob::End { id }), FileDone::Kept { path: folder.join(kept), len: 0 });
        }
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn files_that_arrive_and_parts_that_are_kept_have_a_maximum() {
        let folder = folder("many");
        let mut files = Files::new(folder.clone());
        let open = |id: u64, transfer: u8| FileJob::Open {
            id,
            name: "a".into(),
            len: 9,
            resume: Some(Resume { sender: "peer".into(), transfer: [transfer; 16], hash: [0; 32] }),
        };
        for id in 0..OPEN_MAX as u64 {
            assert_eq!(files.run(open(id, id as u8)), FileDone::Opened { offset: 0 });
        }
        assert!(matches!(files.run(open(99, 99)), FileDone::Failed(why) if why.contains("too many")));
        (0..OPEN_MAX as u64).for_each(|id| drop(files.run(FileJob::Drop { id })));
        for id in 100..200 {
            files.run(open(id, id as u8));
            files.run(FileJob::Drop { id });
        }
        assert!(entries(&folder.join(".part")).len() <= PARTS_MAX);
        let huge = FileJob::Open { id: 1, name: "a".into(), len: FILE_LEN_MAX + 1, resume: None };
        assert!(matches!(files.run(huge), FileDone::Failed(_)));
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_full_disk_is_told_as_such() {
        assert!(explain(&io::ErrorKind::StorageFull.into()).contains("full"));
        // A write to /dev/full fails as one to a full disk does.
        let mut files = Files::new(folder("full"));
        let file = OpenOptions::new().write(true).open("/dev/full").unwrap();
        let part = Part {
            file,
            path: "/nowhere".into(),
            name: "a".into(),
            hash: Sha256::new(),
            wanted: None,
            len: 9,
            next: 0,
            synced: 0,
        };
        files.open.insert(1, part);
        assert!(matches!(files.run(data(1, 0, b"x")), FileDone::Failed(why) if why.contains("full")));
    }
}
