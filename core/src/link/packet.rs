//! Owns an inner packet on its way out: a buffer whose first bytes (the IPv6 header that the tunnel implies) are not sent, or
//! a piece of one, cut so that it fits a datagram.

use crate::codec::Put as _;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::mem::replace;

/// Longest TCP header (RFC 9293 §3.1).
const HEADER_LEN_MAX: usize = 60;

/// A TCP segment or inner datagram, somewhere inside the buffer it was written into, so that nothing is moved to drop the
/// header in front of it. A segment may be longer than any datagram: TCP is asked once for what leaves in several pieces,
/// which share its buffer. The buffer is used again once all of it was acknowledged.
#[derive(Debug)]
pub struct Packet {
    buffer: Buffer,
    start: u32,
    /// Of a piece: length of its header, and where its payload begins and ends; a header of 0 bytes: all of it.
    header_len: u32,
    from: u32,
    to: u32,
}

#[derive(Debug)]
enum Buffer {
    Own(Vec<u8>),
    Shared(Arc<Vec<u8>>),
}

impl Buffer {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Own(bytes) => bytes,
            Self::Shared(bytes) => bytes,
        }
    }
}

impl Packet {
    /// The packet `buffer[start..]`.
    ///
    /// # Panics
    /// When `start` lies behind the buffer's end, or that beyond 4 GiB.
    pub fn new(buffer: Vec<u8>, start: usize) -> Self {
        assert!(start <= buffer.len(), "a packet begins inside its buffer");
        let to = u32::try_from(buffer.len()).expect("a packet is no larger than IPv6 lets it be");
        Self { buffer: Buffer::Own(buffer), start: start as u32, header_len: 0, from: start as u32, to }
    }

    /// What is sent. Unit: bytes.
    pub(crate) const fn len(&self) -> usize {
        (self.header_len + self.to - self.from) as usize
    }

    /// Appends what is sent.
    pub(crate) fn emit(&self, out: &mut Vec<u8>) {
        const FIN_PSH: u8 = 0x01 | 0x08;
        let bytes = self.buffer.bytes();
        let (start, header_len) = (self.start as usize, self.header_len as usize);
        if header_len > 0 {
            let mut copy = [0; HEADER_LEN_MAX];
            let header = &mut copy[..header_len];
            header.copy_from_slice(&bytes[start..start + header_len]);
            let sequence = u32::from_be_bytes([header[4], header[5], header[6], header[7]]);
            let sequence = sequence.wrapping_add(self.from - self.start - self.header_len);
            header[4..8].copy_from_slice(&sequence.to_be_bytes());
            if self.to as usize != bytes.len() {
                header[13] &= !FIN_PSH; // they belong to the last byte
            }
            out.put(header);
        }
        out.put(&bytes[self.from as usize..self.to as usize]);
    }

    /// True when the packet begins with these bytes (of a TCP segment: its ports).
    pub(crate) fn starts_with(&self, bytes: [u8; 4]) -> bool {
        self.buffer.bytes()[self.start as usize..].starts_with(&bytes)
    }

    /// The buffer, unless other pieces are still in it.
    pub(crate) fn into_buffer(self) -> Option<Vec<u8>> {
        match self.buffer {
            Buffer::Own(buffer) => Some(buffer),
            Buffer::Shared(buffer) => Arc::into_inner(buffer),
        }
    }

    /// Cuts the first piece off a TCP segment: at most `room` bytes with its header. `None` when there is no payload to cut,
    /// or no room for any. Checksums are not in use inside a tunnel (the tag covers every byte).
    pub(super) fn cut(&mut self, room: usize) -> Option<Self> {
        let (header_len, from) = match self.header_len {
            0 => {
                let header_len = u32::from(*self.buffer.bytes().get(self.start as usize + 12)? >> 4) * 4;
                (header_len, self.start + header_len)
            }
            header_len => (header_len, self.from),
        };
        let payload = u32::try_from(room).ok()?.checked_sub(header_len).filter(|_| header_len >= 20)?;
        if payload == 0 || from >= self.to || self.to - from <= payload {
            return None;
        }
        let shared = match replace(&mut self.buffer, Buffer::Own(Vec::new())) {
            Buffer::Own(buffer) => Arc::new(buffer),
            Buffer::Shared(buffer) => buffer,
        };
        let piece =
            Self { buffer: Buffer::Shared(shared.clone()), start: self.start, header_len, from, to: from + payload };
        *self = Self { buffer: Buffer::Shared(shared), start: self.start, header_len, from: piece.to, to: self.to };
        Some(piece)
    }
}

impl From<Vec<u8>> for Packet {
    fn from(buffer: Vec<u8>) -> Self {
        Self::new(buffer, 0)
    }
}
