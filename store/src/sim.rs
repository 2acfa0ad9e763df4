//! A disk in memory that fails, and that loses its power.

use crate::Disk;
use pilot_core::rng::Rng;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::rc::Rc;

/// What is written as one or not at all. Small, so that there are many of them. Unit: bytes.
const SECTOR_LEN: usize = 16;

#[derive(Clone, Default)]
struct File {
    /// What a reader sees.
    seen: Vec<u8>,
    /// How much of it was synced.
    synced: usize,
    /// That it exists was synced.
    is_certain: bool,
}

struct Inner {
    files: BTreeMap<u32, File>,
    /// Removed, which was not synced.
    leaving: BTreeMap<u32, File>,
    growing: u32,
    /// Operations until something happens.
    countdown: Option<u32>,
    /// The power goes then, and does not come back by itself.
    is_cut: bool,
    rng: Rng,
}

/// Copies share the disk.
#[derive(Clone)]
pub struct SimDisk(Rc<RefCell<Inner>>);

impl SimDisk {
    /// An empty disk; everything that happens by chance follows from the seed.
    pub fn new(seed: u64) -> Self {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        Self(Rc::new(RefCell::new(Inner {
            files: BTreeMap::new(),
            leaving: BTreeMap::new(),
            growing: 0,
            countdown: None,
            is_cut: false,
            rng: Rng::new(bytes),
        })))
    }

    /// A random number below `bound`, for tests that have no other source.
    pub fn below(&self, bound: u64) -> u64 {
        self.0.borrow_mut().rng.below(bound)
    }

    /// After so many operations one fails, or all do when the power goes.
    pub fn fail_after(&self, operations: u32, is_cut: bool) {
        let mut inner = self.0.borrow_mut();
        (inner.countdown, inner.is_cut) = (Some(operations), is_cut);
    }

    /// The power is gone.
    pub fn is_off(&self) -> bool {
        let inner = self.0.borrow();
        inner.is_cut && inner.countdown == Some(0)
    }

    /// Nothing fails any more.
    pub fn heal(&self) {
        self.0.borrow_mut().countdown = None;
    }

    /// The power was gone. What was not synced is there, or not, sector by sector.
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

    /// Turns one byte of a file.
    pub fn damage(&self, number: u32, offset: usize) {
        if let Some(byte) = self.0.borrow_mut().files.get_mut(&number).and_then(|file| file.seen.get_mut(offset)) {
            *byte ^= 1;
        }
    }

    /// A file is gone.
    pub fn lose(&self, number: u32) {
        self.0.borrow_mut().files.remove(&number);
    }

    /// Numbers and lengths of all files.
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
        assert!(inner.files.insert(number, File::default()).is_none(), "made twice");
        inner.growing = number;
        Ok(())
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let inner = &mut *self.0.borrow_mut();
        let result = inner.step();
        let done = if result.is_ok() { bytes.len() } else { inner.rng.below(bytes.len() as u64 + 1) as usize };
        let number = inner.growing;
        inner.file(number)?.seen.extend_from_slice(&bytes[..done]);
        result
    }

    fn sync(&mut self, number: u32) -> io::Result<()> {
        let inner = &mut *self.0.borrow_mut();
        let result = inner.step();
        // One that fails may have done its work.
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
}
