//! Owns a queue of bytes in chunks, so that a thread that copies does not hold the queue's lock meanwhile: it takes a chunk
//! out, copies, and puts the rest back.

use std::collections::VecDeque;

/// Largest chunk. Unit: bytes.
pub(crate) const CHUNK_LEN: usize = 64 * 1024;

/// Bytes in the order in which they were pushed.
#[derive(Default)]
pub(crate) struct ByteQueue {
    chunks: VecDeque<Chunk>,
    len: usize,
}

/// Some bytes of a queue; those before `start` are consumed.
pub(crate) struct Chunk {
    bytes: Vec<u8>,
    start: usize,
}

/// The result of [`ByteQueue::take`].
pub(crate) enum Taken {
    /// A chunk that fits into the caller's buffer, for the caller to copy.
    Whole(Chunk),
    /// The number of bytes that were copied into the caller's buffer.
    Part(usize),
}

impl Chunk {
    /// The bytes that are not consumed.
    pub(crate) fn rest(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    /// Consumes the first `len` bytes of the rest.
    pub(crate) const fn consume(&mut self, len: usize) {
        self.start += len;
        debug_assert!(self.start <= self.bytes.len(), "no more is consumed than there is");
    }

    pub(crate) fn into_buffer(self) -> Vec<u8> {
        self.bytes
    }
}

/// Buffers of consumed chunks, for later chunks: a new large buffer costs the kernel one page fault per page.
#[derive(Default)]
pub(crate) struct Spare(Vec<Vec<u8>>);

/// Most buffers that are kept.
const SPARE_MAX: usize = 8;

impl Spare {
    /// A copy of `bytes`, in `buffer` where there is one.
    pub(crate) fn fill(buffer: Option<Vec<u8>>, bytes: &[u8]) -> Vec<u8> {
        let mut buffer = buffer.unwrap_or_else(|| Vec::with_capacity(bytes.len()));
        buffer.clear();
        buffer.extend_from_slice(bytes);
        buffer
    }

    /// A buffer for a large chunk, if one is kept.
    pub(crate) fn take(&mut self) -> Option<Vec<u8>> {
        self.0.pop()
    }

    /// True for a buffer that is worth keeping.
    pub(crate) const fn wants(buffer: &Vec<u8>) -> bool {
        buffer.capacity() >= CHUNK_LEN / 2
    }

    /// Keeps a buffer, unless the buffer is small or [`SPARE_MAX`] are kept.
    pub(crate) fn give(&mut self, buffer: Vec<u8>) {
        if Self::wants(&buffer) && self.0.len() < SPARE_MAX {
            self.0.push(buffer);
        }
    }
}

impl From<Vec<u8>> for Chunk {
    fn from(bytes: Vec<u8>) -> Self {
        Self { bytes, start: 0 }
    }
}

impl ByteQueue {
    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Appends `bytes` as a chunk of their own.
    pub(crate) fn push(&mut self, bytes: Vec<u8>) {
        if !bytes.is_empty() {
            self.len += bytes.len();
            self.chunks.push_back(bytes.into());
        }
    }

    /// Appends a copy of a few bytes, to the last chunk if its buffer has room.
    pub(crate) fn extend(&mut self, bytes: &[u8]) {
        match self.chunks.back_mut().filter(|last| last.bytes.len() + bytes.len() <= last.bytes.capacity()) {
            Some(last) => {
                self.len += bytes.len();
                last.bytes.extend_from_slice(bytes);
            }
            None => self.push(bytes.to_vec()),
        }
    }

    /// Takes the oldest chunk out.
    pub(crate) fn pop(&mut self) -> Option<Chunk> {
        let chunk = self.chunks.pop_front()?;
        self.len -= chunk.rest().len();
        Some(chunk)
    }

    /// Puts the rest of a popped chunk back to the front.
    pub(crate) fn put_back(&mut self, chunk: Chunk) {
        if !chunk.rest().is_empty() {
            self.len += chunk.rest().len();
            self.chunks.push_front(chunk);
        }
    }

    /// Takes as many bytes as `buf` has room for: the oldest chunk when all of it fits, to be copied without the lock, or a
    /// copied part of the chunk. Taken bytes leave the queue at once, so that other readers neither miss nor reorder any.
    pub(crate) fn take(&mut self, buf: &mut [u8]) -> Option<Taken> {
        let chunk = self.chunks.front_mut()?;
        if chunk.rest().len() <= buf.len() {
            return self.pop().map(Taken::Whole);
        }
        buf.copy_from_slice(&chunk.rest()[..buf.len()]);
        chunk.consume(buf.len());
        self.len -= buf.len();
        Some(Taken::Part(buf.len()))
    }

    /// Copies from the front without taking; gives the number of copied bytes.
    pub(crate) fn peek(&self, buf: &mut [u8]) -> usize {
        let mut done = 0;
        for chunk in &self.chunks {
            let len = chunk.rest().len().min(buf.len() - done);
            buf[done..done + len].copy_from_slice(&chunk.rest()[..len]);
            done += len;
        }
        done
    }

    /// Drops all bytes.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_some_large_buffers_are_kept() {
        let mut spare = Spare::default();
        spare.give(vec![1; 100]);
        assert!(spare.take().is_none());
        (0..SPARE_MAX + 3).for_each(|_| spare.give(vec![1; CHUNK_LEN]));
        assert_eq!(spare.0.len(), SPARE_MAX);
        assert_eq!(Spare::fill(spare.take(), b"abc"), b"abc");
    }

    #[test]
    fn bytes_come_out_in_order_however_they_went_in() {
        let (mut queue, mut expected, mut got) = (ByteQueue::default(), Vec::new(), Vec::new());
        for i in 0..200u8 {
            let bytes = vec![i; usize::from(i % 7) * 30];
            expected.extend_from_slice(&bytes);
            if i % 2 == 0 {
                queue.push(bytes)
            } else {
                queue.extend(&bytes)
            }
            let mut front = [0; 16];
            let peeked = queue.peek(&mut front);
            assert_eq!(front[..peeked], expected[got.len()..(got.len() + 16).min(expected.len())]);
            let mut part = [0; 20];
            match queue.take(&mut part) {
                Some(Taken::Whole(chunk)) => got.extend_from_slice(chunk.rest()),
                Some(Taken::Part(len)) => got.extend_from_slice(&part[..len]),
                None => {}
            }
            if let Some(mut chunk) = queue.pop() {
                let len = chunk.rest().len().min(50);
                got.extend_from_slice(&chunk.rest()[..len]);
                chunk.consume(len);
                queue.put_back(chunk);
            }
            assert_eq!(queue.len(), expected.len() - got.len());
        }
        while let Some(chunk) = queue.pop() {
            got.extend_from_slice(chunk.rest());
        }
        assert!(queue.is_empty());
        assert_eq!(got, expected);
    }
}
