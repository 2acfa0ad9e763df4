//! Owns the log's files: a folder with one file for each segment. [`Disk`] is a trait so that tests can give the log a disk
//! that fails and loses its power (`SimDisk`, with feature `sim`).

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
}

/// A folder of a real file system, locked against other processes. Three files are open at most: the lock, the one that
/// grows, and the one read last.
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
}
