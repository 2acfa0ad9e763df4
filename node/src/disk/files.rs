//! Owns received files: their parts on disk, and the folder they end in. Runs on the disk's thread.
//!
//! A file grows as `received/.part/…` and gets its name only when it is complete, verified and synced. The part of a
//! resumable transfer stays when the stream breaks, and the next attempt continues it (`docs/messages.md`, "Services on
//! well-known ports"). A file is taken only when the disk has room for all of it, with room to spare for messages, and when
//! its sender's quota has. Unfinished parts have budgets and an age.

use crate::disk::file_name::{safe_name, split};
use crate::disk::ledger::Ledger;
use crate::disk::part::{self, NOTE, Note, ONCE, Part, entries};
use litemap::LiteMap;
use pilot_core::sort::sort_by;
use sha2::{Digest as _, Sha256};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// Longest file. Unit: bytes (64 GiB).
pub(crate) const FILE_LEN_MAX: u64 = 64 << 30;
/// Most files that arrive at once.
pub(crate) const OPEN_MAX: usize = 64;
/// Most files of one sender that arrive at once.
pub(crate) const OPEN_OF_PEER_MAX: usize = 2;
/// Time without a byte after which another file may take the place of one that is arriving.
const IDLE: Duration = Duration::from_secs(60);
/// Most parts of broken transfers that are kept, in all and of one sender; the oldest is removed first.
pub(crate) const PARTS_MAX: usize = 64;
pub(crate) const PARTS_OF_PEER_MAX: usize = 8;
/// Age after which the part of a broken transfer is removed.
const PART_AGE_MAX: Duration = Duration::from_secs(7 * 24 * 3600);
/// Share of the free room, with the room that they take, that parts of broken transfers may take together. Unit: per cent.
const PARTS_SHARE: u64 = 25;
/// Room that a file leaves for messages: this share of the disk, and no more than [`SPARE_LEN_MAX`]. Unit: per cent.
const SPARE_SHARE: u64 = 5;
/// Unit: bytes.
const SPARE_LEN_MAX: u64 = 64 << 20;

/// The name of a resumable transfer: another attempt under the same name continues its part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Resume {
    /// The sender's name for the transfer.
    pub(crate) transfer: [u8; 16],
    /// SHA-256 of the whole file.
    pub(crate) hash: [u8; 32],
}

/// A file as its sender announces it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Announced {
    pub(crate) name: String,
    /// Unit: bytes.
    pub(crate) len: u64,
    /// Fingerprint of the sender's key.
    pub(crate) sender: String,
    /// Most bytes of the sender's files and parts, by its pin; 0 until the job is handed to the disk. Unit: bytes.
    pub(crate) quota: u64,
    pub(crate) resume: Option<Resume>,
}

/// Work on one file; `id` is the loop's number for it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum FileJob {
    /// Begin a file, or continue the part of an earlier attempt.
    Open { id: u64, file: Announced },
    /// Append the next bytes.
    Data { id: u64, offset: u64, bytes: Vec<u8> },
    /// Verify, sync and name the file: its last byte has arrived.
    End { id: u64 },
    /// Close the file: its stream is gone.
    Drop { id: u64 },
    /// List the folder.
    List,
    /// Add up what the senders' files take.
    Measure,
}

impl FileJob {
    /// Bytes that the job writes.
    pub(crate) const fn len(&self) -> usize {
        match self {
            Self::Data { bytes, .. } => bytes.len(),
            _ => 0,
        }
    }
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
    /// The files, and the parts of files that are not complete; each newest last.
    Listed(Vec<Listed>, Vec<Listed>),
    /// The bytes of each sender's files and parts that count against its quota, by its fingerprint. Unit: bytes.
    Measured(LiteMap<String, u64>),
    /// The reason, for the sender.
    Failed(String),
}

/// A file of the folder, or a part.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Listed {
    pub(crate) name: String,
    /// Bytes that are there.
    pub(crate) len: u64,
    /// Time of change. Unit: seconds since 1970.
    pub(crate) at: u64,
    /// Bytes that the whole file will have, and its sender's fingerprint.
    pub(crate) part: Option<(u64, String)>,
}

/// The folder for received files.
pub(crate) struct Files {
    folder: PathBuf,
    open: LiteMap<u64, Part>,
    ledger: Ledger,
    /// The room of the disk; a test brings its own.
    pub(crate) room: fn(&Path) -> io::Result<Room>,
}

/// The room of a disk. Unit: bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Room {
    pub(crate) free: u64,
    pub(crate) all: u64,
}

/// The part of an earlier attempt, or of one that goes on.
struct Kept {
    path: PathBuf,
    sender: String,
    len: u64,
    changed: SystemTime,
}

impl Files {
    pub(crate) fn new(folder: PathBuf) -> Self {
        // Parts that cannot be resumed are left from a process that ended in the middle.
        for (path, _) in entries(&folder.join(".part")) {
            let ending = path.extension().and_then(|ending| ending.to_str());
            if ending == Some(ONCE) || ending == Some(NOTE) && !path.with_extension("").exists() {
                let _ = fs::remove_file(path);
            }
        }
        let ledger = Ledger::open(&folder);
        let files = Self { folder, open: LiteMap::new(), ledger, room };
        files.forget_old_parts();
        files
    }

    /// Does one job. After a failure the file is closed; the part of a resumable transfer is kept.
    pub(crate) fn run(&mut self, job: FileJob) -> FileDone {
        let id = match &job {
            FileJob::Data { id, .. } | FileJob::End { id } => Some(*id),
            _ => None,
        };
        let result = match job {
            FileJob::Open { id, file } => self.start(id, file),
            FileJob::Data { id, offset, bytes } => self.write(id, offset, &bytes),
            FileJob::End { id } => self.finish(id),
            FileJob::Drop { id } => {
                self.close(id);
                Ok(FileDone::Dropped)
            }
            FileJob::List => Ok(FileDone::Listed(self.list(), self.list_parts())),
            FileJob::Measure => Ok(FileDone::Measured(self.measure())),
        };
        result.unwrap_or_else(|why| {
            id.into_iter().for_each(|id| self.close(id));
            FileDone::Failed(why)
        })
    }

    fn start(&mut self, id: u64, file: Announced) -> Result<FileDone, String> {
        if file.len > FILE_LEN_MAX {
            return Err(format!("a file may have at most {FILE_LEN_MAX} bytes, this one is too long"));
        }
        let name = safe_name(&file.name).ok_or("the file's name cannot be used")?;
        self.find_place(&file.sender)?;
        let parts = self.folder.join(".part");
        DirBuilder::new().recursive(true).mode(0o700).create(&parts).map_err(|e| explain(&e))?;
        let resumed = file.resume.as_ref().map(|resume| parts.join(part_name(&file.sender, resume, &name)));
        // The same file that arrives twice at once has a part of its own each time, of which one can be resumed.
        let is_free = |path: &PathBuf| self.open.values().all(|part| part.path != *path);
        let (path, can_resume) = match resumed.filter(is_free) {
            Some(path) => (path, true),
            None => (parts.join(format!("{id}.{ONCE}")), false),
        };
        self.check_quota(&file, &path)?;
        let wanted = file.resume.map(|resume| resume.hash);
        let part = Part::open(path, (file.sender, name), file.len, (wanted, can_resume)).map_err(|e| explain(&e))?;
        if let Err(why) = self.check_room(part.len - part.next) {
            part.close();
            return Err(why);
        }
        let offset = part.next;
        self.open.insert(id, part);
        self.forget_old_parts();
        debug_assert!(self.open.len() <= OPEN_MAX);
        Ok(FileDone::Opened { offset })
    }

    /// Finds a place for another file of a sender; one that was idle for [`IDLE`] gives way.
    fn find_place(&mut self, sender: &str) -> Result<(), String> {
        let of_sender = self.open.values().filter(|part| part.sender == sender).count();
        let why = match (of_sender >= OPEN_OF_PEER_MAX, self.open.len() >= OPEN_MAX) {
            (true, _) => "too many files of this sender arrive at once",
            (_, true) => "too many files arrive at once",
            _ => return Ok(()),
        };
        let is_rival = |part: &Part| of_sender < OPEN_OF_PEER_MAX || part.sender == sender;
        let idle = self.open.iter().filter(|(_, part)| is_rival(part) && part.touched.elapsed() >= IDLE);
        let idlest = idle.min_by_key(|(_, part)| part.touched).map(|(id, _)| *id);
        self.close(idlest.ok_or(why)?);
        Ok(())
    }

    /// Checks that a sender's files and parts have room for another file, of which `path` is the part.
    fn check_quota(&mut self, file: &Announced, path: &Path) -> Result<(), String> {
        let open: u64 = self.open.values().filter(|part| part.sender == file.sender).map(|part| part.len).sum();
        let is_other = |kept: &Kept| kept.sender == file.sender && kept.path != path && !self.is_open(&kept.path);
        let closed: u64 = self.parts().iter().filter(|kept| is_other(kept)).map(|kept| kept.len).sum();
        let left = file.quota.checked_sub(open + closed).and_then(|left| left.checked_sub(file.len));
        match left {
            Some(left) if self.ledger.len_of(&file.sender, left) <= left => Ok(()),
            _ => Err(format!("this sender's files take too much of the disk; they may take {} bytes", file.quota)),
        }
    }

    /// The bytes of each sender's files and parts; a file that arrives counts with its whole length. Unit: bytes.
    fn measure(&mut self) -> LiteMap<String, u64> {
        let mut sizes = LiteMap::new();
        self.ledger.add_to(&mut sizes);
        let closed = self.parts().into_iter().filter(|kept| !self.is_open(&kept.path));
        let open = self.open.values().map(|part| (part.sender.clone(), part.len));
        for (sender, len) in closed.map(|kept| (kept.sender, kept.len)).chain(open) {
            *sizes.entry(sender).or_default() += len;
        }
        sizes
    }

    /// Checks that the disk has room for `len` more bytes beside the files that are arriving and some to spare.
    fn check_room(&self, len: u64) -> Result<(), String> {
        let room = (self.room)(&self.folder).map_err(|e| explain(&e))?;
        let arriving: u64 = self.open.values().map(|part| part.len - part.next).sum();
        let spare = (room.all / 100 * SPARE_SHARE).min(SPARE_LEN_MAX);
        match (len + arriving + spare).checked_sub(room.free) {
            None | Some(0) => Ok(()),
            Some(missing) => Err(format!("the disk is too full for the file, {missing} bytes are missing")),
        }
    }

    fn is_open(&self, path: &Path) -> bool {
        self.open.values().any(|part| part.path == path)
    }

    fn write(&mut self, id: u64, offset: u64, bytes: &[u8]) -> Result<FileDone, String> {
        let part = self.open.get_mut(&id).ok_or("no such transfer")?;
        if offset != part.next || bytes.len() as u64 > part.len - part.next {
            return Err(format!("bytes at {offset} where {} were expected", part.next));
        }
        if let Err(e) = part.write(bytes) {
            // A part that fills the disk would keep everything else from it.
            if pilot_store::is_full(&e)
                && let Some(part) = self.open.remove(&id)
            {
                part::remove(&part.path);
            }
            return Err(explain(&e));
        }
        Ok(FileDone::Written { len: part.next })
    }

    fn finish(&mut self, id: u64) -> Result<FileDone, String> {
        let part = self.open.get(&id).ok_or("no such transfer")?;
        if part.next != part.len {
            return Err(format!("it ended after {} of {} bytes", part.next, part.len));
        }
        let part = self.open.remove(&id).ok_or("no such transfer")?;
        if !part.complete().map_err(|e| explain(&e))? {
            // Another attempt that continued this part could never succeed.
            part::remove(&part.path);
            return Err("the hash differs from what was announced".into());
        }
        let path = place(&part.path, &self.folder, &part.name).map_err(|e| explain(&e))?;
        part::remove(&part.path);
        File::open(&self.folder).and_then(|dir| dir.sync_all()).map_err(|e| explain(&e))?;
        self.ledger.add(&part.sender, part.len, &path);
        Ok(FileDone::Kept { path, len: part.len })
    }

    fn close(&mut self, id: u64) {
        if let Some(part) = self.open.remove(&id) {
            part.close();
        }
    }

    /// The parts on disk, those that are arriving included; oldest first.
    fn parts(&self) -> Vec<Kept> {
        let part = |(path, changed): (PathBuf, SystemTime)| {
            let (sender, _) = path.file_name()?.to_str()?.split_once('-').filter(|_| path.extension().is_none())?;
            Some(Kept { sender: sender.into(), len: fs::metadata(&path).ok()?.len(), path, changed })
        };
        let mut parts: Vec<Kept> = entries(&self.folder.join(".part")).into_iter().filter_map(part).collect();
        sort_by(&mut parts, |a, b| a.changed < b.changed);
        parts
    }

    /// Removes parts of broken transfers that are too old, too many or too long together, oldest first.
    fn forget_old_parts(&self) {
        let parts: Vec<Kept> = self.parts().into_iter().filter(|kept| !self.is_open(&kept.path)).collect();
        let mut len: u64 = parts.iter().map(|kept| kept.len).sum();
        let free = (self.room)(&self.folder).map_or(0, |room| room.free);
        let budget = (free + len) / 100 * PARTS_SHARE;
        let count = parts.len();
        for (i, kept) in parts.iter().enumerate() {
            let is_old = kept.changed.elapsed().is_ok_and(|age| age > PART_AGE_MAX);
            let of_sender = parts[i..].iter().filter(|other| other.sender == kept.sender).count();
            if is_old || count - i > PARTS_MAX || of_sender > PARTS_OF_PEER_MAX || len > budget {
                part::remove(&kept.path);
                len -= kept.len;
            }
        }
    }

    fn list(&self) -> Vec<Listed> {
        let file = |(path, changed): (PathBuf, SystemTime)| {
            let meta = fs::metadata(&path).ok().filter(fs::Metadata::is_file)?;
            let name = path.file_name()?.to_str().filter(|name| !name.starts_with('.'))?.to_owned();
            Some(Listed { name, len: meta.len(), at: seconds(changed), part: None })
        };
        let mut rows: Vec<Listed> = entries(&self.folder).into_iter().filter_map(file).collect();
        sort_by(&mut rows, |a, b| (a.at, &a.name) < (b.at, &b.name));
        rows
    }

    fn list_parts(&self) -> Vec<Listed> {
        let part = |kept: Kept| {
            let open = self.open.values().find(|part| part.path == kept.path).map(|part| (part.name.clone(), part.len));
            // A part without a note begins anew, and is removed by its age.
            let (name, of) = open.or_else(|| Note::read(&kept.path).map(|note| (note.name, note.len)))?;
            Some(Listed { name, len: kept.len, at: seconds(kept.changed), part: Some((of, kept.sender)) })
        };
        self.parts().into_iter().filter_map(part).collect()
    }
}

/// The name of the part of a transfer: a file with the same content and another name has another part.
fn part_name(sender: &str, resume: &Resume, name: &str) -> String {
    let hash = Sha256::digest(name.as_bytes());
    let short: String = hash[..4].iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{sender}-{}-{short}", crate::mail::frame::id_text(&resume.transfer))
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

/// The room of the disk that a folder is on, or is to be made on.
fn room(folder: &Path) -> io::Result<Room> {
    let existing = folder.ancestors().find(|path| path.exists()).unwrap_or(folder);
    let disk = rustix::fs::statvfs(existing)?;
    Ok(Room { free: disk.f_bavail * disk.f_frsize, all: disk.f_blocks * disk.f_frsize })
}

/// Gives the part its name in the folder. A file with that name stays, and the new one gets a number.
fn place(part: &Path, folder: &Path, name: &str) -> io::Result<PathBuf> {
    let (stem, end) = split(name);
    for number in 0..10_000 {
        let path = match number {
            0 => folder.join(name),
            n => folder.join(format!("{stem}-{n}{end}")),
        };
        match give_name(part, &path) {
            Ok(()) => return Ok(path),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(e),
        }
    }
    Err(io::Error::other("too many files of that name"))
}

/// Gives the part a name that no file has, by the first way that the file system knows.
fn give_name(part: &Path, path: &Path) -> io::Result<()> {
    match fs::hard_link(part, path) {
        Ok(()) => return fs::remove_file(part),
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => return Err(e),
        Err(_) => {}
    }
    #[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
    {
        use rustix::fs::{CWD, RenameFlags, renameat_with};
        match renameat_with(CWD, part, CWD, path, RenameFlags::NOREPLACE) {
            Ok(()) => return Ok(()),
            Err(e) if e == rustix::io::Errno::EXIST => return Err(e.into()),
            Err(_) => {}
        }
    }
    take_name(part, path)
}

/// Makes an empty file of that name, which fails when there is one, and puts the part in its place.
fn take_name(part: &Path, path: &Path) -> io::Result<()> {
    OpenOptions::new().write(true).create_new(true).open(path)?;
    fs::rename(part, path).inspect_err(|_| drop(fs::remove_file(path)))
}

fn explain(e: &io::Error) -> String {
    match e.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "the disk is full; send the file again when there is room".into()
        }
        _ => format!("the disk failed: {e}"),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests;
