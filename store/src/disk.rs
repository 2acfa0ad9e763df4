//! Owns the log's files: a folder with one file for each segment. [`Disk`] is a trait so that tests can give the log a disk
//! that fails and loses its power (`SimDisk`, with feature `sim`).

use crate::hash::{HASH_LEN, hash};
use std::error::Error;
use std::fmt;
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _};
use std::path::PathBuf;

/// Append-only files with numbers for names. Appended bytes survive a power cut once their file was synced, and a file's
/// existence once the folder was. Every method may block, and may fail with any error of the file system.
pub trait Disk {
    /// Returns the numbers of all files, in any order.
    fn list(&self) -> io::Result<Vec<u32>>;
    /// Makes an empty file, the one that [`Disk::append`] appends to from now on; fails when the file exists.
    fn create(&mut self, number: u32) -> io::Result<()>;
    /// Appends to the file made last. After an error the file may have any part of `bytes`.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Puts everything appended to a file on the disk before it returns.
    fn sync(&mut self, number: u32) -> io::Result<()>;
    /// Puts the list of files on the disk before it returns.
    fn sync_folder(&mut self) -> io::Result<()>;
    /// Returns the length of a file. Unit: bytes.
    fn len(&self, number: u32) -> io::Result<u64>;
    /// Fills `into` with the bytes from `offset` on; fails when the file ends before. Unit of `offset`: bytes.
    fn read(&mut self, number: u32, offset: u64, into: &mut [u8]) -> io::Result<()>;
    /// Removes a file.
    fn remove(&mut self, number: u32) -> io::Result<()>;
    /// Takes the bytes from `len` on away from the file made last, so that they take no room. Unit: bytes.
    fn cut(&mut self, number: u32, len: u64) -> io::Result<()>;
    /// Keeps `len` bytes of the disk free of anything else, until a call with 0 gives them back. Does nothing when they are kept
    /// already. Unit: bytes.
    fn reserve(&mut self, len: u64) -> io::Result<()>;
    /// Notes, apart from the files, that a file with this number exists. The note is on the disk when this succeeds. The file
    /// of the note never grows.
    fn mark(&mut self, number: u32) -> io::Result<()>;
    /// Returns the greatest number that was noted; `None` when there is no whole note.
    fn marked(&self) -> io::Result<Option<u32>>;
    /// Returns what the disk has room for, without the bytes that are kept. Unit: bytes.
    fn free(&self) -> io::Result<u64>;
}

/// Whether an error says that the disk has no room.
pub fn is_full(e: &io::Error) -> bool {
    matches!(e.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// The disk has no room for what is to be written. Every error of a full disk that a [`Log`](crate::Log) returns for a batch, or
/// for its reserve, has one inside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoRoom {
    /// What the file system says.
    reason: String,
    /// Unit: bytes.
    wanted: u64,
    free: u64,
}

impl NoRoom {
    /// Takes the one out of an error.
    pub fn of(e: &io::Error) -> Option<&Self> {
        e.get_ref()?.downcast_ref()
    }

    /// Makes an error of a full disk say that `wanted` bytes are to be written while `free` ones are there; leaves others as they are.
    pub(crate) fn explain(e: io::Error, wanted: u64, free: u64) -> io::Error {
        if !is_full(&e) {
            return e;
        }
        let reason = Self::of(&e).map_or_else(|| e.to_string(), |inner| inner.reason.clone());
        io::Error::new(e.kind(), Self { reason, wanted, free })
    }

    /// The same with `len` more bytes to be written. Unit: bytes.
    #[must_use]
    pub fn with(&self, len: u64) -> Self {
        Self { wanted: self.wanted + len, ..self.clone() }
    }

    /// Returns what the disk lacks; 1 at least, since a file system needs bytes of its own, and may keep some from this user. Unit:
    /// bytes.
    pub fn missing(&self) -> u64 {
        self.wanted.saturating_sub(self.free).max(1)
    }
}

impl fmt::Display for NoRoom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (reason, missing) = (&self.reason, self.missing());
        write!(f, "{reason}; {missing} bytes are missing")
    }
}

impl Error for NoRoom {}

/// Name of the file that keeps room on the disk.
const RESERVE: &str = "reserve";
/// Length of a note: a number and its hash.
const MARK_LEN: usize = 4 + HASH_LEN;

/// A folder of a real file system, locked against other processes. Three files are open at most: the lock, the one that
/// grows, and the one read last. The number of the newest file is noted beside the folder, in a file with the folder's name and
/// the ending `.newest`, so that a folder that was emptied is not taken for a new one.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    _lock: File,
    growing: Option<(u32, File)>,
    reading: Option<(u32, File)>,
}

impl Folder {
    /// Makes the folder if it is missing, and locks it for the lifetime of the value.
    ///
    /// # Errors
    /// `ResourceBusy` when another process has the lock; otherwise the error of the file system.
    pub fn open(path: PathBuf) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(&path)?;
        if let Some(parent) = path.parent() {
            File::open(parent)?.sync_all()?;
        }
        let lock = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path.join("lock"))?;
        lock.try_lock().map_err(|e| match e {
            TryLockError::WouldBlock => io::Error::new(io::ErrorKind::ResourceBusy, "another process uses it"),
            TryLockError::Error(e) => e,
        })?;
        Ok(Self { path, _lock: lock, growing: None, reading: None })
    }

    fn name(&self, number: u32) -> PathBuf {
        self.path.join(format!("{number:010}"))
    }

    fn mark_path(&self) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(".newest");
        name.into()
    }
}

impl Disk for Folder {
    fn list(&self) -> io::Result<Vec<u32>> {
        let mut numbers = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            // Only segments have numbers for names.
            numbers.extend(entry?.file_name().to_str().and_then(|name| name.parse::<u32>().ok()));
        }
        Ok(numbers)
    }

    fn create(&mut self, number: u32) -> io::Result<()> {
        let file = OpenOptions::new().append(true).create_new(true).mode(0o600).open(self.name(number))?;
        self.growing = Some((number, file));
        Ok(())
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let (_, file) = self.growing.as_mut().ok_or(io::ErrorKind::NotFound)?;
        file.write_all(bytes)
    }

    fn sync(&mut self, number: u32) -> io::Result<()> {
        match &self.growing {
            Some((growing, file)) if *growing == number => file.sync_data(),
            _ => File::open(self.name(number))?.sync_data(),
        }
    }

    fn sync_folder(&mut self) -> io::Result<()> {
        File::open(&self.path)?.sync_all()
    }

    fn len(&self, number: u32) -> io::Result<u64> {
        Ok(fs::metadata(self.name(number))?.len())
    }

    fn read(&mut self, number: u32, offset: u64, into: &mut [u8]) -> io::Result<()> {
        if self.reading.as_ref().is_none_or(|(n, _)| *n != number) {
            self.reading = Some((number, File::open(self.name(number))?));
        }
        let (_, file) = self.reading.as_ref().ok_or(io::ErrorKind::NotFound)?;
        file.read_exact_at(into, offset)
    }

    fn remove(&mut self, number: u32) -> io::Result<()> {
        // A removed file takes space on the disk as long as it is open.
        self.reading.take_if(|(n, _)| *n == number);
        fs::remove_file(self.name(number))
    }

    fn cut(&mut self, number: u32, len: u64) -> io::Result<()> {
        match &self.growing {
            Some((growing, file)) if *growing == number => file.set_len(len),
            _ => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn reserve(&mut self, len: u64) -> io::Result<()> {
        let path = self.path.join(RESERVE);
        if len == 0 {
            fs::remove_file(&path)?;
            // Some file systems give the room back only when the removal is on the disk.
            return self.sync_folder();
        }
        if fs::metadata(&path).is_ok_and(|meta| meta.len() == len) {
            return Ok(());
        }
        let write = || {
            let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path)?;
            // Bytes that no file system can compress or leave out.
            let mut state = 1u64;
            let noise = std::iter::repeat_with(|| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (state >> 56) as u8
            });
            file.write_all(&noise.take(len as usize).collect::<Vec<u8>>())?;
            file.sync_all()
        };
        write().inspect_err(|_| drop(fs::remove_file(&path)))
    }

    fn mark(&mut self, number: u32) -> io::Result<()> {
        let path = self.mark_path();
        let is_new = !path.exists();
        let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path)?;
        // Two places take turns, so that a torn note leaves the one before.
        file.write_all_at(&emit_mark(number), u64::from(number % 2) * MARK_LEN as u64)?;
        file.sync_all()?;
        match path.parent() {
            Some(parent) if is_new => File::open(parent)?.sync_all(),
            _ => Ok(()),
        }
    }

    fn marked(&self) -> io::Result<Option<u32>> {
        let notes = match fs::read(self.mark_path()) {
            Ok(notes) => notes,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(e),
        };
        let number = |note: &[u8]| {
            let number = u32::from_le_bytes(*note.first_chunk()?);
            (emit_mark(number) == note).then_some(number)
        };
        Ok(notes.chunks(MARK_LEN).filter_map(number).max())
    }

    fn free(&self) -> io::Result<u64> {
        let disk = rustix::fs::statvfs(&self.path)?;
        Ok(disk.f_bavail * disk.f_frsize)
    }
}

fn emit_mark(number: u32) -> [u8; MARK_LEN] {
    let (mut note, bytes) = ([0; MARK_LEN], number.to_le_bytes());
    note[..4].copy_from_slice(&bytes);
    note[4..].copy_from_slice(&hash(&[b"newest", &bytes]));
    note
}
