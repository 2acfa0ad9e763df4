//! Owns the log: rows that survive crashes, in append-only segments, with an index in memory.
//!
//! ```text
//! segment   head | batch | batch | …              one file; 2 MiB, then the next one begins
//! head      magic 8 | number 4 | previous 4 | its end 8 | oldest 4 | hash 16
//! batch     length 4 | its complement 4 | hash 16 | rows      written and synced as one: all of it counts, or nothing
//! row       key 8 | length 4 | value               or length 0xffffffff, no value: the row is gone
//! ```
//! 1. A commit appends one batch and syncs it. When either fails, the commit fails and nothing is ever appended behind that
//!    batch: the head of the segment that the next commit begins says where the last whole batch of this one ends.
//! 2. Opening reads the newest segment's head, and the segments before it as far as `oldest`, in order. The newest segment may
//!    end with a torn batch, which counts as not there; anywhere else, bytes that do not match their hash are damage and an
//!    error.
//! 3. When rows that are gone take more than half of the files, cleaning copies the rows of the oldest segments to the end; the
//!    next head says that those segments are not needed, and then their files are removed (cleaning of a log-structured
//!    store, as in Rosenblum and Ousterhout 1992, oldest first).
//! 4. The number of each new segment is noted apart from the files ([`Disk::mark`]) before a batch is appended, so that opening
//!    finds out when the newest segments are missing.
//! 5. A part of the disk is kept as a reserve. Batches that are not urgent need it to be there; on a full disk it is given up
//!    for urgent ones, which remove rows or must not wait for room, and for the copies of a cleaning that makes room.

mod full;
mod salvage;

use crate::disk::{Disk, NoRoom, is_full};
use crate::hash::hash;
use pilot_core::codec::{Malformed, Put as _, Reader};
use pilot_core::sort::sort_by;
use std::collections::{BTreeMap, VecDeque};
use std::io;

const MAGIC: &[u8; 8] = b"PilotLg1";
const HEAD_LEN: usize = 44;
const BATCH_HEAD_LEN: usize = 24;
const ROW_HEAD_LEN: usize = 12;
/// Stands in the length of a row that is gone.
const GONE: u32 = u32::MAX;
/// Longest batch, without its head. Unit: bytes.
pub const BATCH_LEN_MAX: usize = 64 << 20;
/// Places behind a torn batch where the hash of a possible batch is computed.
const CANDIDATES_MAX: usize = 64;
/// Length after which cleaning commits the rows it has copied. Unit: bytes.
const COPY_LEN: usize = 1 << 20;

/// Limits after which segments end and are cleaned.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Length after which the next segment begins. Unit: bytes.
    pub segment_len: u64,
    /// Bytes that rows that are gone may take beyond as many as live rows take. Unit: bytes.
    pub slack: u64,
    /// Cost of a file beside its bytes, so that many small files are cleaned too. Unit: bytes.
    pub segment_cost: u64,
    /// Part of the disk that is kept for urgent batches: as long as a segment, so that the rows of a whole segment can be removed
    /// one by one. Unit: bytes.
    pub reserve_len: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { segment_len: 2 << 20, slack: 1 << 20, segment_cost: 64 << 10, reserve_len: 2 << 20 }
    }
}

/// Name of a row: a table, and a number below 2^56 in that table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key(u64);

impl Key {
    const ID_BITS: u32 = 56;
    /// The largest number in a table.
    pub const ID_MAX: u64 = (1 << Self::ID_BITS) - 1;

    /// Makes a key. A number above [`Key::ID_MAX`] becomes `ID_MAX`, which no table reaches.
    pub fn new(table: u8, id: u64) -> Self {
        Self(u64::from(table) << Self::ID_BITS | id.min(Self::ID_MAX))
    }

    /// Returns the number in its table.
    pub const fn id(self) -> u64 {
        self.0 & Self::ID_MAX
    }
}

/// Changes that reach the disk together or not at all.
#[derive(Default)]
pub struct Batch {
    /// Room for the head, then the rows.
    bytes: Vec<u8>,
    /// Offset and length of each value in `bytes`; `None` when the row is gone.
    rows: Vec<(Key, Option<(u32, u32)>)>,
    is_urgent: bool,
}

impl Batch {
    /// Makes a batch that may use the reserve of a full disk: one that removes rows, or that must not wait for room.
    pub fn urgent() -> Self {
        Self { is_urgent: true, ..Self::default() }
    }

    /// Adds the changes of another batch.
    pub fn append(&mut self, other: &Self) {
        let Some(rows) = other.bytes.get(BATCH_HEAD_LEN..) else { return };
        if self.bytes.is_empty() {
            self.bytes.resize(BATCH_HEAD_LEN, 0);
        }
        let shift = (self.bytes.len() - BATCH_HEAD_LEN) as u32;
        self.bytes.put(rows);
        let moved = |(at, len)| (at + shift, len);
        self.rows.extend(other.rows.iter().map(|(key, place)| (*key, place.map(moved))));
        debug_assert_eq!(self.is_empty(), self.bytes.len() <= BATCH_HEAD_LEN, "each row has a head");
    }

    /// Tells whether the batch changes nothing.
    pub const fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Sets a row to the parts, one after the other.
    pub fn put(&mut self, key: Key, parts: &[&[u8]]) {
        let len: usize = parts.iter().map(|part| part.len()).sum();
        self.row(key, len as u32);
        self.rows.push((key, Some((self.bytes.len() as u32, len as u32))));
        parts.iter().for_each(|part| self.bytes.put(part));
    }

    /// Removes a row.
    pub fn remove(&mut self, key: Key) {
        self.row(key, GONE);
        self.rows.push((key, None));
    }

    fn row(&mut self, key: Key, len: u32) {
        if self.bytes.is_empty() {
            self.bytes.resize(BATCH_HEAD_LEN, 0);
        }
        self.bytes.put_u64(key.0);
        self.bytes.put_u32(len);
    }

    /// Fills in the head. Its hash covers the segment and the offset, so that a batch copied elsewhere does not count.
    fn finish(&mut self, segment: u32, offset: u64) -> io::Result<&[u8]> {
        let (head, rows) = self.bytes.split_at_mut(BATCH_HEAD_LEN);
        if rows.len() > BATCH_LEN_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "more than a log takes at once"));
        }
        let len = (rows.len() as u32).to_le_bytes();
        head[..4].copy_from_slice(&len);
        head[4..8].copy_from_slice(&len.map(|b| !b));
        head[8..].copy_from_slice(&batch_hash(segment, offset, rows));
        Ok(&self.bytes)
    }
}

/// The beginning of a segment.
#[derive(Clone, Copy, Debug)]
struct Head {
    number: u32,
    /// The segment before this one, and the end of its last batch.
    previous: u32,
    previous_end: u64,
    /// The oldest segment that is still needed.
    oldest: u32,
}

impl Head {
    fn emit(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        out.put_u32(self.number);
        out.put_u32(self.previous);
        out.put_u64(self.previous_end);
        out.put_u32(self.oldest);
        let hash = hash(&[&out]);
        out.put(&hash);
        out
    }

    fn parse(bytes: &[u8; HEAD_LEN]) -> Result<Self, Malformed> {
        let mut r = Reader::new(bytes);
        r.take(MAGIC.len())?;
        let head = Self { number: r.u32()?, previous: r.u32()?, previous_end: r.u64()?, oldest: r.u32()? };
        if head.emit() == bytes { Ok(head) } else { Err(Malformed) }
    }
}

/// Place of a row's value.
#[derive(Clone, Copy, Debug)]
struct Place {
    segment: u32,
    offset: u32,
    len: u32,
}

impl Place {
    const fn cost(self) -> u64 {
        ROW_HEAD_LEN as u64 + self.len as u64
    }
}

#[derive(Clone, Copy, Debug)]
struct Segment {
    number: u32,
    /// Length up to the end of the last batch. Unit: bytes.
    len: u64,
}

/// Rows on a disk. Every method may block.
pub struct Log<D> {
    disk: D,
    limits: Limits,
    index: BTreeMap<Key, Place>,
    /// Oldest first.
    segments: VecDeque<Segment>,
    /// The last segment grows no more: an earlier process began it, or a write to it failed.
    sealed: bool,
    next: u32,
    /// Bytes that live rows take in the segments. Unit: bytes.
    live: u64,
    /// Bytes of rows that went since room was last made on a full disk. Unit: bytes.
    freed: u64,
    has_reserve: bool,
}

impl<D: Disk> Log<D> {
    /// Reads every segment into the index, and removes segments that are not needed.
    ///
    /// # Errors
    /// `InvalidData` when a file is damaged or missing; otherwise the error of the disk.
    pub fn open(disk: D, limits: Limits) -> io::Result<Self> {
        let mut log = Self::empty(disk, limits)?;
        let mut numbers = log.disk.list()?;
        sort_by(&mut numbers, |a, b| a < b);
        let chain = chain(&mut log.disk, &numbers)?;
        let (newest, marked) = (chain.last().map_or(0, |(number, _)| *number), log.disk.marked()?.unwrap_or(0));
        if newest < marked {
            let text = format!("segment {marked:010} is missing");
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        log.next = numbers.last().map_or(1, |n| n.saturating_add(1));
        for (number, end) in chain {
            log.replay(number, end)?;
        }
        if let Some(newest) = log.segments.back() {
            // A process that was killed may have left its last batch in the system's cache; the batch counts from now on.
            log.disk.sync(newest.number)?;
        }
        log.forget_files(numbers);
        Ok(log)
    }

    /// A log without rows and segments.
    fn empty(mut disk: D, limits: Limits) -> io::Result<Self> {
        // A full disk has no room for the reserve; a later commit tries again.
        let has_reserve = disk.reserve(limits.reserve_len).is_ok();
        Ok(Self {
            disk,
            limits,
            index: BTreeMap::new(),
            segments: VecDeque::new(),
            sealed: true,
            next: 1,
            live: 0,
            freed: 0,
            has_reserve,
        })
    }

    /// Removes the files that are no segments of the log.
    fn forget_files(&mut self, numbers: Vec<u32>) {
        for number in numbers {
            if self.segments.iter().all(|s| s.number != number) {
                // The file is not needed; the next opening tries again.
                let _ = self.disk.remove(number);
            }
        }
    }

    /// Takes one segment's rows into the index. `end` is known for every segment but the newest.
    fn replay(&mut self, number: u32, end: Option<u64>) -> io::Result<()> {
        let file_len = self.disk.len(number)?;
        let offset = self.replay_batches(number, end.unwrap_or(file_len))?;
        let is_whole = match end {
            Some(end) => end == offset,
            // Nothing is appended behind a batch that may be torn.
            None => !self.is_batch_behind(number, offset, file_len)?,
        };
        if !is_whole {
            return Err(damaged(number, offset));
        }
        self.note_segment(number, offset);
        Ok(())
    }

    fn note_segment(&mut self, number: u32, len: u64) {
        debug_assert!(self.segments.back().is_none_or(|s| s.number < number), "segments are noted in order");
        self.segments.push_back(Segment { number, len });
    }

    /// Takes the rows of the whole batches at the beginning of a segment into the index; gives the end of the last one.
    fn replay_batches(&mut self, number: u32, end: u64) -> io::Result<u64> {
        let file_len = self.disk.len(number)?;
        let mut offset = HEAD_LEN as u64;
        let mut rows = Vec::new();
        while offset < end {
            let mut head = [0; BATCH_HEAD_LEN];
            if offset + BATCH_HEAD_LEN as u64 > file_len {
                break;
            }
            self.disk.read(number, offset, &mut head)?;
            let Ok((len, wanted)) = parse_batch_head(&head) else { break };
            let batch_end = offset + BATCH_HEAD_LEN as u64 + u64::from(len);
            if batch_end > file_len {
                break;
            }
            rows.resize(len as usize, 0);
            self.disk.read(number, offset + BATCH_HEAD_LEN as u64, &mut rows)?;
            if batch_hash(number, offset, &rows) != wanted {
                break;
            }
            self.take(&rows, number, offset + BATCH_HEAD_LEN as u64).map_err(|_| damaged(number, offset))?;
            offset = batch_end;
        }
        Ok(offset)
    }

    /// Tells whether a whole batch is anywhere behind `offset`, which a torn last batch never is.
    fn is_batch_behind(&mut self, number: u32, offset: u64, file_len: u64) -> io::Result<bool> {
        let mut rest = vec![0; (file_len - offset) as usize];
        self.disk.read(number, offset, &mut rest)?;
        let batch = |at: usize| {
            let (head, behind) = rest[at..].split_first_chunk()?;
            let (len, wanted) = parse_batch_head(head).ok().filter(|(len, _)| *len > 0)?;
            Some((at, behind.get(..len as usize)?, wanted))
        };
        // A peer can send a message that looks like many heads, so the number of hashes is bounded.
        let mut candidates = (0..rest.len()).filter_map(batch).take(CANDIDATES_MAX);
        Ok(candidates.any(|(at, rows, wanted)| batch_hash(number, offset + at as u64, rows) == wanted))
    }

    fn take(&mut self, rows: &[u8], segment: u32, offset: u64) -> Result<(), Malformed> {
        let mut r = Reader::new(rows);
        while !r.is_empty() {
            let (key, len) = (Key(r.u64()?), r.u32()?);
            let at = offset + (rows.len() - r.rest().len()) as u64;
            let place = match len {
                GONE => None,
                len => {
                    r.take(len as usize)?;
                    Some(Place { segment, offset: u32::try_from(at).map_err(|_| Malformed)?, len })
                }
            };
            self.enter(key, place);
        }
        Ok(())
    }

    fn enter(&mut self, key: Key, place: Option<Place>) {
        let before = match place {
            Some(place) => self.index.insert(key, place),
            None => self.index.remove(&key),
        };
        self.live += place.map_or(0, Place::cost);
        let freed = before.map_or(0, Place::cost);
        debug_assert!(freed <= self.live, "every row of the index is counted");
        self.live -= freed;
        self.freed += freed;
    }

    /// Writes and syncs a batch: it is on the disk when this succeeds, and counts as not there otherwise. The batch is empty
    /// afterwards.
    ///
    /// # Errors
    /// `InvalidInput` when the batch is longer than [`BATCH_LEN_MAX`]; otherwise the error of the disk, with a [`NoRoom`] inside
    /// when the disk is full. The next commit may work again.
    pub fn commit(&mut self, batch: &mut Batch) -> io::Result<()> {
        let empty = Batch { is_urgent: batch.is_urgent, ..Batch::default() };
        let mut batch = std::mem::replace(batch, empty);
        let done = match self.write(&mut batch) {
            // Rows that are gone may be all that is in the way.
            Err(e) if is_full(&e) && !batch.is_urgent && self.has_reserve && self.freed > 0 => {
                self.clean_full().and_then(|()| self.write(&mut batch))
            }
            done => done,
        };
        done.map_err(|e| {
            let reserve = if batch.is_urgent || self.has_reserve { 0 } else { self.limits.reserve_len };
            // The next batch begins a segment.
            NoRoom::explain(e, (HEAD_LEN + batch.bytes.len()) as u64 + reserve, self.free())
        })
    }

    /// Room on the disk; 0 when the disk does not tell. Unit: bytes.
    fn free(&self) -> u64 {
        self.disk.free().unwrap_or(0)
    }

    /// Does the work of [`Log::commit`]; nothing is cleaned on the way. The batch is left as it is.
    fn write(&mut self, batch: &mut Batch) -> io::Result<()> {
        if batch.is_empty() {
            return Ok(());
        }
        if batch.is_urgent {
            self.urgently(|log| log.append(batch))?;
        } else {
            self.secure()?;
            self.append(batch)?;
        }
        let Segment { number, len: end } = *self.segments.back().ok_or(io::ErrorKind::NotFound)?;
        let offset = end - batch.bytes.len() as u64;
        for (key, value) in &batch.rows {
            // Offsets fit into 32 bits: a segment takes one batch at most beyond its limit, and a batch is bounded.
            let place = value.map(|(at, len)| Place { segment: number, offset: offset as u32 + at, len });
            self.enter(*key, place);
        }
        Ok(())
    }

    /// Appends a batch to the last segment, or to a new one, and syncs it.
    fn append(&mut self, batch: &mut Batch) -> io::Result<()> {
        let has_ended = self.segments.back().is_none_or(|s| s.len >= self.limits.segment_len);
        if self.sealed || has_ended {
            self.begin_segment(self.segments.front().map(|s| s.number))?;
        }
        let Segment { number, len: offset } = *self.segments.back().ok_or(io::ErrorKind::NotFound)?;
        debug_assert!(!self.sealed, "a sealed segment grows no more");
        let bytes = batch.finish(number, offset)?;
        if let Err(e) = self.disk.append(bytes).and_then(|()| self.disk.sync(number)) {
            self.sealed = true;
            // A part of a batch takes room for nothing. When cutting fails, that part is ignored.
            let _ = self.disk.cut(number, offset);
            return Err(e);
        }
        if let Some(last) = self.segments.back_mut() {
            last.len += bytes.len() as u64;
        }
        Ok(())
    }

    /// Begins a segment and removes the segments before `oldest`, which are not needed any more.
    fn begin_segment(&mut self, oldest: Option<u32>) -> io::Result<()> {
        let number = self.next;
        self.next = number.checked_add(1).ok_or(io::ErrorKind::StorageFull)?;
        let (previous, previous_end) = self.segments.back().map_or((0, 0), |s| (s.number, s.len));
        let oldest = oldest.unwrap_or(number);
        debug_assert!(previous < number && oldest <= number, "numbers of segments grow");
        let head = Head { number, previous, previous_end, oldest }.emit();
        // When this fails, the head may still be found at the next opening, and then the segment before it has ended.
        self.sealed = true;
        self.disk.create(number)?;
        let written = self.disk.append(&head).and_then(|()| self.disk.sync(number));
        if let Err(e) = written.and_then(|()| self.disk.sync_folder()) {
            // An empty segment does no harm.
            let _ = self.disk.remove(number);
            return Err(e);
        }
        // After an error the note may be there, so the segment must stay.
        self.disk.mark(number)?;
        self.sealed = false;
        self.segments.push_back(Segment { number, len: head.len() as u64 });
        while self.segments.front().is_some_and(|first| first.number < oldest) {
            if let Some(first) = self.segments.pop_front() {
                // The file is not needed; the next opening tries again.
                let _ = self.disk.remove(first.number);
            }
        }
        Ok(())
    }

    /// Tells whether rows that are gone take too much, were the files shorter by `bytes` and fewer by `files`.
    fn is_wasteful(&self, bytes: u64, files: u64) -> bool {
        let total: u64 = self.segments.iter().map(|s| s.len).sum();
        let cost = total - bytes + (self.segments.len() as u64 - files) * self.limits.segment_cost;
        cost > 2 * self.live + self.limits.slack
    }

    /// Frees space when rows that are gone take more than half of the files. Copies a segment and a half at most. On a full
    /// disk, frees what it can with little room.
    ///
    /// # Errors
    /// The error of the disk; every row is as before then.
    pub fn clean(&mut self) -> io::Result<()> {
        match self.secure().and_then(|()| self.clean_wasteful()) {
            Err(e) if is_full(&e) => self.clean_full(),
            done => done,
        }
    }

    fn clean_wasteful(&mut self) -> io::Result<()> {
        if !self.is_wasteful(0, 0) {
            return Ok(());
        }
        if self.sealed || self.segments.len() == 1 {
            self.begin_segment(self.segments.front().map(|s| s.number))?;
        }
        let old: Vec<Segment> = self.segments.iter().take(self.segments.len() - 1).copied().collect();
        let (mut bytes, mut files, mut copied) = (0, 0, 0);
        let mut batch = Batch::default();
        for segment in old {
            if copied >= self.limits.segment_len || !self.is_wasteful(bytes, files) {
                break;
            }
            let rows: Vec<Key> =
                self.index.iter().filter(|(_, place)| place.segment == segment.number).map(|(key, _)| *key).collect();
            for key in rows {
                let value = self.read(key, usize::MAX)?.unwrap_or_default();
                batch.put(key, &[&value]);
                copied += value.len() as u64;
                if batch.bytes.len() >= COPY_LEN {
                    self.write(&mut batch)?;
                    batch = Batch::default();
                }
            }
            bytes += segment.len;
            files += 1;
        }
        self.write(&mut batch)?;
        let oldest = self.segments.get(files as usize).map(|s| s.number);
        self.begin_segment(oldest)
    }

    /// Returns a row's value, or its first `len_max` bytes; `None` when there is no such row.
    ///
    /// # Errors
    /// The error of the disk.
    pub fn read(&mut self, key: Key, len_max: usize) -> io::Result<Option<Vec<u8>>> {
        let Some(place) = self.index.get(&key) else { return Ok(None) };
        let mut value = vec![0; len_max.min(place.len as usize)];
        self.disk.read(place.segment, place.offset.into(), &mut value)?;
        Ok(Some(value))
    }

    /// Returns the length of a row's value. Unit: bytes.
    pub fn len_of(&self, key: Key) -> Option<u64> {
        self.index.get(&key).map(|place| place.len.into())
    }

    /// Iterates over a table's rows with numbers in `from..to`, by number.
    pub fn rows(&self, table: u8, from: u64, to: u64) -> impl DoubleEndedIterator<Item = Key> {
        // A backward range is an empty one; `BTreeMap::range` would panic.
        let to = to.max(from);
        self.index.range(Key::new(table, from)..Key::new(table, to)).map(|(key, _)| *key)
    }
}

/// Returns the segments that are needed, oldest first, each with the end that the next segment's head names.
fn chain<D: Disk>(disk: &mut D, numbers: &[u32]) -> io::Result<Vec<(u32, Option<u64>)>> {
    let mut newest = None;
    for number in numbers.iter().rev() {
        newest = read_head(disk, *number)?;
        if newest.is_some() {
            break;
        }
        // A head is synced before a batch is appended behind it, so a file with more than a torn head is damaged.
        if disk.len(*number)? > HEAD_LEN as u64 {
            return Err(damaged(*number, 0));
        }
    }
    let Some(newest) = newest else { return Ok(Vec::new()) };
    let mut chain = vec![(newest.number, None)];
    let mut head = newest;
    while head.number != newest.oldest {
        let end = head.previous_end;
        if head.previous >= head.number || !numbers.contains(&head.previous) {
            return Err(damaged(head.number, 0));
        }
        head = read_head(disk, head.previous)?.ok_or_else(|| damaged(head.previous, 0))?;
        chain.push((head.number, Some(end)));
    }
    chain.reverse();
    Ok(chain)
}

/// Reads a segment's head; `None` when the head is not whole.
fn read_head<D: Disk>(disk: &mut D, number: u32) -> io::Result<Option<Head>> {
    let mut bytes = [0; HEAD_LEN];
    if disk.len(number)? < HEAD_LEN as u64 {
        return Ok(None);
    }
    disk.read(number, 0, &mut bytes)?;
    Ok(Head::parse(&bytes).ok().filter(|head| head.number == number))
}

/// Parses the head of a batch: the length of its rows, and their hash.
fn parse_batch_head(bytes: &[u8; BATCH_HEAD_LEN]) -> Result<(u32, [u8; 16]), Malformed> {
    let mut r = Reader::new(bytes);
    let (len, complement, hash) = (r.u32()?, r.u32()?, r.array()?);
    if len == !complement && len as usize <= BATCH_LEN_MAX { Ok((len, hash)) } else { Err(Malformed) }
}

fn batch_hash(segment: u32, offset: u64, rows: &[u8]) -> [u8; 16] {
    hash(&[&segment.to_le_bytes(), &offset.to_le_bytes(), rows])
}

fn damaged(number: u32, offset: u64) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("segment {number:010} is damaged at byte {offset} or before"))
}
