//! Owns a disk in memory that fails, and that loses its power, for tests of books kept in a log.

use crate::Disk;
use pilot_core::rng::Rng;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::rc::Rc;

/// Bytes that are written as one or not at all; few, so that a file has many sectors. Unit: bytes.
const SECTOR_LEN: usize = 16;

#[derive(Clone, Default)]
struct File {
    /// Bytes that a reader sees.
    seen: Vec<u8>,
    /// Length of the part that was synced. Unit: bytes.
    synced: usize,
    /// The folder was synced since the file was made.
    is_certain: bool,
}

struct Inner {
    files: BTreeMap<u32, File>,
    /// Files removed since the folder was synced.
    leaving: BTreeMap<u32, File>,
    growing: u32,
    /// Bytes that the disk has room for. Unit: bytes.
    capacity: usize,
    reserve: usize,
    mark: Option<u32>,
    /// Operations until one fails.
    countdown: Option<u32>,
    /// The power goes at the failure, until [`SimDisk::restart`].
    is_cut: bool,
    rng: Rng,
}

/// A simulated disk; copies share it.
#[derive(Clone)]
pub struct SimDisk(Rc<RefCell<Inner>>);

impl SimDisk {
    /// Makes an empty disk; all chance follows from the seed.
    pub fn new(seed: u64) -> Self {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        Self(Rc::new(RefCell::new(Inner {
            files: BTreeMap::new(),
            leaving: BTreeMap::new(),
            growing: 0,
            capacity: usize::MAX,
            reserve: 0,
            mark: None,
            countdown: None,
            is_cut: false,
            rng: Rng::new(bytes),
        })))
    }

    /// Returns a random number below `bound`, for tests that have no other source of chance.
    pub fn below(&self, bound: u64) -> u64 {
        self.0.borrow_mut().rng.below(bound)
    }

    /// Lets one operation fail after `operations` more, or every one from then on when `is_cut`.
    pub fn fail_after(&self, operations: u32, is_cut: bool) {
        let mut inner = self.0.borrow_mut();
        (inner.countdown, inner.is_cut) = (Some(operations), is_cut);
    }

    /// Tells whether the power is gone.
    pub fn is_off(&self) -> bool {
        let inner = self.0.borrow();
        inner.is_cut && inner.countdown == Some(0)
    }

    /// Gives the disk room for so many bytes in all; each file takes a sector beside its own. Unit: bytes.
    pub fn limit(&self, capacity: usize) {
        self.0.borrow_mut().capacity = capacity;
    }

    /// Returns the bytes that are taken. Unit: bytes.
    pub fn used(&self) -> usize {
        self.0.borrow().used()
    }

    /// Ends the failures.
    pub fn heal(&self) {
        self.0.borrow_mut().countdown = None;
    }

    /// Brings the power back. Bytes that were not synced are there or not, sector by sector, by chance.
    pub fn restart(&self) {
        let inner = &mut *self.0.borrow_mut();
        let rng = &mut inner.rng;
        inner.countdown = None;
        for (number, file) in std::mem::take(&mut inner.leaving) {
            if rng.below(2) == 0 {
                inner.files.entry(number).or_insert(file);
            }
        }
        inner.files.retain(|_, file| file.is_certain || rng.below(2) == 0);
        for file in inner.files.values_mut() {
            let unsure = (file.seen.len() - file.synced) as u64;
            file.seen.truncate(file.synced + rng.below(unsure + 1) as usize);
            let losses = rng.below(4);
            for sector in file.synced.div_ceil(SECTOR_LEN)..file.seen.len().div_ceil(SECTOR_LEN) {
                if rng.below(4) < losses {
                    let end = ((sector + 1) * SECTOR_LEN).min(file.seen.len());
                    file.seen[sector * SECTOR_LEN..end].fill(0);
                }
            }
            (file.synced, file.is_certain) = (file.seen.len(), true);
        }
    }

    /// Turns one bit of a file's byte at `offset`.
    pub fn damage(&self, number: u32, offset: usize) {
        if let Some(byte) = self.0.borrow_mut().files.get_mut(&number).and_then(|file| file.seen.get_mut(offset)) {
            *byte ^= 1;
        }
    }

    /// Removes a file as a damaged file system does.
    pub fn lose(&self, number: u32) {
        self.0.borrow_mut().files.remove(&number);
    }

    /// Returns numbers and lengths of all files. Unit: bytes.
    pub fn files(&self) -> Vec<(u32, usize)> {
        self.0.borrow().files.iter().map(|(number, file)| (*number, file.seen.len())).collect()
    }
}

impl Inner {
    fn step(&mut self) -> io::Result<()> {
        match &mut self.countdown {
            None => Ok(()),
            Some(0) => {
                if !self.is_cut {
                    self.countdown = None;
                }
                Err(io::Error::other("simulated"))
            }
            Some(n) => {
                *n -= 1;
                Ok(())
            }
        }
    }

    fn used(&self) -> usize {
        let files = self.files.values().map(|file| SECTOR_LEN + file.seen.len().next_multiple_of(SECTOR_LEN));
        files.sum::<usize>() + self.reserve
    }

    fn room(&self) -> usize {
        self.capacity.saturating_sub(self.used())
    }

    fn file(&mut self, number: u32) -> io::Result<&mut File> {
        self.files.get_mut(&number).ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl Disk for SimDisk {
    fn list(&self) -> io::Result<Vec<u32>> {
        Ok(self.0.borrow().files.keys().copied().collect())
    }

    fn create(&mut self, number: u32) -> io::Result<()> {
        let inner = &mut *self.0.borrow_mut();
        inner.step()?;
        if inner.room() < SECTOR_LEN {
            return Err(io::ErrorKind::StorageFull.into());
        }
        assert!(inner.files.insert(number, File::default()).is_none(), "made twice");
        inner.growing = number;
        Ok(())
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let inner = &mut *self.0.borrow_mut();
        let mut result = inner.step();
        let mut done = if result.is_ok() { bytes.len() } else { inner.rng.below(bytes.len() as u64 + 1) as usize };
        let (number, room) = (inner.growing, inner.room());
        let len = inner.file(number)?.seen.len();
        let fits = room / SECTOR_LEN * SECTOR_LEN + (len.next_multiple_of(SECTOR_LEN) - len);
        if done > fits {
            (done, result) = (fits, Err(io::ErrorKind::StorageFull.into()));
        }
        inner.file(number)?.seen.extend_from_slice(&bytes[..done]);
        result
    }

    fn sync(&mut self, number: u32) -> io::Result<()> {
        let inner = &mut *self.0.borrow_mut();
        let result = inner.step();
        // A sync that fails may have done its work.
        if result.is_ok() || inner.rng.below(2) == 0 {
            let file = inner.file(number)?;
            file.synced = file.seen.len();
        }
        result
    }

    fn sync_folder(&mut self) -> io::Result<()> {
        let inner = &mut *self.0.borrow_mut();
        inner.step()?;
        inner.files.values_mut().for_each(|file| file.is_certain = true);
        inner.leaving.clear();
        Ok(())
    }

    fn len(&self, number: u32) -> io::Result<u64> {
        Ok(self.0.borrow_mut().file(number)?.seen.len() as u64)
    }

    fn read(&mut self, number: u32, offset: u64, into: &mut [u8]) -> io::Result<()> {
        let inner = &mut *self.0.borrow_mut();
        inner.step()?;
        let from = inner.file(number)?.seen.get(offset as usize..).ok_or(io::ErrorKind::UnexpectedEof)?;
        into.copy_from_slice(from.get(..into.len()).ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn remove(&mut self, number: u32) -> io::Result<()> {
        let inner = &mut *self.0.borrow_mut();
        inner.step()?;
        let file = inner.files.remove(&number).ok_or(io::ErrorKind::NotFound)?;
        inner.leaving.insert(number, file);
        Ok(())
    }

    fn cut(&mut self, number: u32, len: u64) -> io::Result<()> {
        let inner = &mut *self.0.borrow_mut();
        inner.step()?;
        let file = inner.file(number)?;
        file.seen.truncate(len as usize);
        file.synced = file.synced.min(file.seen.len());
        Ok(())
    }

    fn reserve(&mut self, len: u64) -> io::Result<()> {
        let inner = &mut *self.0.borrow_mut();
        let len = len as usize;
        if inner.reserve == len {
            return Ok(());
        }
        inner.step()?;
        if len > inner.room() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        inner.reserve = len;
        Ok(())
    }

    fn mark(&mut self, number: u32) -> io::Result<()> {
        let inner = &mut *self.0.borrow_mut();
        let result = inner.step();
        // A note whose sync fails may be there.
        if result.is_ok() || inner.rng.below(2) == 0 {
            inner.mark = inner.mark.max(Some(number));
        }
        result
    }

    fn marked(&self) -> io::Result<Option<u32>> {
        Ok(self.0.borrow().mark)
    }

    fn free(&self) -> io::Result<u64> {
        Ok(self.0.borrow().room() as u64)
    }
}
