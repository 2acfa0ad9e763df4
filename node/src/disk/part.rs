//! Owns the part of a file that is arriving: its bytes, and beside them a note by which a later attempt goes on. The note has
//! the state of the hash, so that no attempt reads again what has arrived.

use pilot_core::codec::{Malformed, Put as _, Reader};
use sha2::digest::common::hazmat::SerializableState as _;
use sha2::{Digest as _, Sha256};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime};

/// Ending of the name of a part of a transfer that cannot be resumed.
pub(super) const ONCE: &str = "once";
/// Ending of the name of a note.
pub(super) const NOTE: &str = "note";
/// Bytes of a file between two notes, and between two syncs, so that each sync is short: some 40 ms of a disk that writes
/// 100 MB/s. Unit: bytes.
pub(crate) const SYNC_EVERY: u64 = 4 << 20;
/// Longest note. Unit: bytes.
const NOTE_LEN_MAX: u64 = 4096;

/// A file that is arriving.
pub(super) struct Part {
    file: File,
    pub(super) path: PathBuf,
    /// The sender's fingerprint.
    pub(super) sender: String,
    /// The safe name that the file gets.
    pub(super) name: String,
    hash: Sha256,
    /// The hash of the whole file, when the sender has told.
    wanted: Option<[u8; 32]>,
    can_resume: bool,
    /// Length of the whole file. Unit: bytes.
    pub(super) len: u64,
    /// Bytes that have arrived.
    pub(super) next: u64,
    synced: u64,
    /// When a byte of the file has arrived last.
    pub(super) touched: Instant,
}

/// The facts of an unfinished part without its bytes.
pub(super) struct Note {
    pub(super) name: String,
    pub(super) len: u64,
    wanted: [u8; 32],
    /// Bytes that the hash has taken, all of which are synced.
    next: u64,
    hash: Sha256,
}

impl Part {
    /// Makes an empty part, or goes on with one of an earlier attempt as far as its note says.
    pub(super) fn open(
        path: PathBuf,
        (sender, name): (String, String),
        len: u64,
        (wanted, can_resume): (Option<[u8; 32]>, bool),
    ) -> io::Result<Self> {
        let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path)?;
        let note = Note::read(&path).filter(|note| {
            let is_same = Some(note.wanted) == wanted && note.len == len && note.name == name;
            is_same && file.metadata().is_ok_and(|meta| meta.len() >= note.next)
        });
        let (next, hash) = note.map(|note| (note.next, note.hash)).unwrap_or_default();
        file.set_len(next)?;
        Ok(Self {
            file,
            path,
            sender,
            name,
            hash,
            wanted,
            can_resume,
            len,
            next,
            synced: next,
            touched: Instant::now(),
        })
    }

    /// Appends bytes.
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        debug_assert!(self.next + bytes.len() as u64 <= self.len, "more than was announced");
        self.file.write_all_at(bytes, self.next)?;
        self.hash.update(bytes);
        self.next += bytes.len() as u64;
        self.touched = Instant::now();
        if self.next - self.synced >= SYNC_EVERY {
            self.sync()?;
        }
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        self.file.sync_data()?;
        self.synced = self.next;
        if self.can_resume { self.note() } else { Ok(()) }
    }

    /// Writes the note. A note that a crash tore is none; then the file begins anew.
    fn note(&self) -> io::Result<()> {
        let Some(wanted) = self.wanted else { return Ok(()) };
        let mut note = self.hash.serialize().to_vec();
        note.put(&wanted);
        note.put_u64(self.len);
        note.put_u64(self.next);
        note.put(self.name.as_bytes());
        let sum = Sha256::digest(&note);
        note.put(&sum);
        let (path, new) = (self.path.with_extension(NOTE), self.path.with_extension("new"));
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        file.write_all(&note).and_then(|()| fs::rename(&new, path)).inspect_err(|_| drop(fs::remove_file(&new)))
    }

    /// Syncs the whole file, and checks its hash. True when the hash is the announced one.
    pub(super) fn complete(&self) -> io::Result<bool> {
        debug_assert!(self.next == self.len, "every byte has arrived");
        let is_right = self.wanted.is_none_or(|wanted| wanted == *self.hash.clone().finalize());
        self.file.sync_all().map(|()| is_right)
    }

    /// Closes the part of a transfer that broke: it stays with its note if it can be resumed.
    pub(super) fn close(mut self) {
        let is_kept = self.can_resume && self.next > 0 && self.sync().is_ok();
        if !is_kept {
            remove(&self.path);
        }
    }
}

impl Note {
    /// The whole note beside a part.
    pub(super) fn read(part: &Path) -> Option<Self> {
        let path = part.with_extension(NOTE);
        let len = fs::metadata(&path).ok()?.len();
        let bytes = (len <= NOTE_LEN_MAX).then(|| fs::read(&path).ok())??;
        let (note, sum) = bytes.split_last_chunk::<32>()?;
        if *sum != *Sha256::digest(note) {
            return None;
        }
        let mut r = Reader::new(note);
        let mut state = sha2::digest::common::hazmat::SerializedState::<Sha256>::default();
        let len = state.len();
        state.copy_from_slice(r.take(len).ok()?);
        let hash = Sha256::deserialize(&state).ok()?;
        Self::parse(&mut r, hash).ok()
    }

    fn parse(r: &mut Reader<'_>, hash: Sha256) -> Result<Self, Malformed> {
        let (wanted, len, next) = (r.array()?, r.u64()?, r.u64()?);
        let name = String::from_utf8(r.rest().to_vec()).map_err(|_| Malformed)?;
        Ok(Self { name, len, wanted, next, hash })
    }
}

/// Removes a part and its note. Another program may have done so already.
pub(super) fn remove(part: &Path) {
    let _ = fs::remove_file(part);
    let _ = fs::remove_file(part.with_extension(NOTE));
}

/// The files of a folder with their times of change; none when the folder cannot be read.
pub(super) fn entries(folder: &Path) -> Vec<(PathBuf, SystemTime)> {
    let Ok(list) = fs::read_dir(folder) else { return Vec::new() };
    list.flatten().filter_map(|entry| Some((entry.path(), entry.metadata().ok()?.modified().ok()?))).collect()
}
