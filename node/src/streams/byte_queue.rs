//! Owns a queue of bytes in chunks, so that whoever copies does not hold the lock meanwhile: a chunk is taken out, copied,
//! and what is left of it put back.

use std::collections::VecDeque;

/// Largest chunk that is made at once. Unit: bytes.
pub(crate) const CHUNK_LEN: usize = 64 * 1024;

/// Bytes in the order in which they were pushed.
#[derive(Default)]
pub(crate) struct ByteQueue {
    chunks: VecDeque<Chunk>,
    len: usize,
}

/// Some bytes of a queue, partly used.
pub(crate) struct Chunk {
    bytes: Vec<u8>,
    start: usize,
}

/// What [`ByteQueue::take`] gives.
pub(crate) enum Taken {
    /// A chunk that fits.
    Whole(Chunk),
    /// So many bytes, copied already.
    Part(usize),
}

impl Chunk {
    pub(crate) fn rest(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    pub(crate) const fn consume(&mut self, len: usize) {
        self.start += len;
    }

    pub(crate) fn into_buffer(self) -> Vec<u8> {
        self.bytes
    }
}

/// Buffers of chunks that were used up, for chunks to come: large ones cost the kernel a page fault per page otherwise.
#[derive(Default)]
pub(crate) struct Spare(Vec<Vec<u8>>);

/// Buffers that are kept.
const SPARE_MAX: usize = 8;

impl Spare {
    /// A chunk with a copy of `bytes`.
    pub(crate) fn fill(buffer: Option<Vec<u8>>, bytes: &[u8]) -> Vec<u8> {
        let mut buffer = buffer.unwrap_or_else(|| Vec::with_capacity(bytes.len()));
        buffer.clear();
        buffer.extend_from_slice(bytes);
        buffer
    }

    /// A buffer for a large chunk, if there is one.
    pub(crate) fn take(&mut self) -> Option<Vec<u8>> {
        self.0.pop()
    }

    /// Keeps a buffer, unless it is small or there are enough.
    pub(crate) fn give(&mut self, buffer: Vec<u8>) {
        if buffer.capacity() >= CHUNK_LEN / 2 && self.0.len() < SPARE_MAX {
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

    /// Appends a chunk as it is.
    pub(crate) fn push(&mut self, bytes: Vec<u8>) {
        if !bytes.is_empty() {
            self.len += bytes.len();
            self.chunks.push_back(bytes.into());
        }
    }

    /// Appends a copy of a few bytes, to the last chunk if it has room.
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

    /// Puts back what is left of a chunk that was popped.
    pub(crate) fn put_back(&mut self, chunk: Chunk) {
        if !chunk.rest().is_empty() {
            self.len += chunk.rest().len();
            self.chunks.push_front(chunk);
        }
    }

    /// Takes what `buf` has room for: the oldest chunk where all of it fits, to be copied without the lock, or a copied part
    /// of it. What is taken is the caller's at once, so that readers beside it never miss or reorder anything.
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

    /// Copies from the front without taking; how many bytes.
    pub(crate) fn peek(&self, buf: &mut [u8]) -> usize {
        let mut done = 0;
        for chunk in &self.chunks {
            let len = chunk.rest().len().min(buf.len() - done);
            buf[done..done + len].copy_from_slice(&chunk.rest()[..len]);
            done += len;
        }
        done
    }

    /// Forgets everything.
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
