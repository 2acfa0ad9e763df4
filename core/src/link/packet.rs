//! Owns an inner packet on its way out: a buffer whose first bytes (the IPv6 header that the tunnel implies) are not sent.

use crate::codec::Put as _;
use alloc::vec::Vec;

/// A TCP segment or inner datagram, somewhere inside the buffer it was written into, so that nothing is moved to drop the
/// header in front of it. The buffer is used again once the packet was acknowledged.
#[derive(Debug)]
pub struct Packet {
    buffer: Vec<u8>,
    start: usize,
}

impl Packet {
    /// The packet `buffer[start..]`.
    ///
    /// # Panics
    /// When `start` lies behind the buffer's end.
    pub fn new(buffer: Vec<u8>, start: usize) -> Self {
        assert!(start <= buffer.len(), "a packet begins inside its buffer");
        Self { buffer, start }
    }

    /// What is sent.
    pub fn bytes(&self) -> &[u8] {
        &self.buffer[self.start..]
    }

    /// The same, to be changed.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.buffer[self.start..]
    }

    /// Puts bytes behind the packet.
    pub fn append(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    pub(crate) fn len(&self) -> usize {
        self.buffer.len() - self.start
    }

    pub(crate) fn into_buffer(self) -> Vec<u8> {
        self.buffer
    }

    /// Cuts a TCP segment in two so that the first part has at most `room` bytes; `None` when it has no payload to cut.
    /// Checksums are not in use inside a tunnel (the tag covers every byte).
    pub(super) fn split(mut self, room: usize) -> Option<(Self, Self)> {
        const FIN_PSH: u8 = 0x01 | 0x08;
        let segment = self.bytes_mut();
        let header_len = usize::from(*segment.get(12)? >> 4) * 4;
        if header_len < 20 || room <= header_len || segment.len() <= room {
            return None;
        }
        let mut rest = segment.get(..header_len)?.to_vec();
        rest.put(segment.get(room..)?);
        let sequence = u32::from_be_bytes(*segment.get(4..)?.first_chunk()?);
        let behind = sequence.wrapping_add((room - header_len) as u32);
        rest.get_mut(4..8)?.copy_from_slice(&behind.to_be_bytes());
        *segment.get_mut(13)? &= !FIN_PSH; // they belong to the last byte
        self.buffer.truncate(self.start + room);
        Some((self, rest.into()))
    }
}

impl From<Vec<u8>> for Packet {
    fn from(buffer: Vec<u8>) -> Self {
        Self { buffer, start: 0 }
    }
}
