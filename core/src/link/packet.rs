//! Owns an inner packet on its way out. The first bytes of its buffer (an IPv6 header, which the tunnel implies) may be
//! hidden, that is, not sent.

use alloc::vec::Vec;

/// Cuts a packet in two: `first` is the packet, of which `room` bytes stay; the packet with the rest is appended to
/// `rest`. False when the packet cannot be cut so.
pub type Cut = fn(first: &mut [u8], room: usize, rest: &mut Vec<u8>) -> bool;

/// The properties that packets of one kind share. The layer above has one constant for each kind it sends.
#[derive(Debug)]
pub struct PacketKind {
    /// Bytes at the beginning of the buffer that are not sent.
    pub hidden_len: usize,
    /// For a path that shrank after the packet was made. A packet that cannot be cut is dropped then.
    pub cut: Option<Cut>,
}

/// Packets that begin with their buffer and cannot be cut.
static WHOLE: PacketKind = PacketKind { hidden_len: 0, cut: None };

/// A segment or inner datagram, somewhere inside the buffer it was written into, so that nothing is moved to drop the
/// header in front of it. The buffer is used again once the packet was acknowledged.
#[derive(Debug)]
pub struct Packet {
    buffer: Vec<u8>,
    kind: &'static PacketKind,
}

impl Packet {
    /// The packet behind the hidden bytes of `buffer`.
    ///
    /// # Panics
    /// When the buffer is shorter than its hidden part.
    pub fn new(buffer: Vec<u8>, kind: &'static PacketKind) -> Self {
        assert!(kind.hidden_len <= buffer.len(), "a packet begins inside its buffer");
        Self { buffer, kind }
    }

    /// The bytes that are sent.
    pub fn bytes(&self) -> &[u8] {
        &self.buffer[self.kind.hidden_len..]
    }

    /// The same, to be changed.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.buffer[self.kind.hidden_len..]
    }

    /// Puts bytes behind the packet.
    pub fn append(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    pub(crate) fn len(&self) -> usize {
        self.buffer.len() - self.kind.hidden_len
    }

    pub(crate) fn into_buffer(self) -> Vec<u8> {
        self.buffer
    }

    /// Cuts the packet in two so that the first part has at most `room` bytes; `None` when it cannot be cut.
    pub(super) fn cut(mut self, room: usize) -> Option<(Self, Self)> {
        let (kind, len) = (self.kind, self.len());
        let cut = kind.cut.filter(|_| room < len)?;
        let mut rest = Vec::with_capacity(self.buffer.len());
        rest.resize(kind.hidden_len, 0);
        if !cut(self.bytes_mut(), room, &mut rest) {
            return None;
        }
        debug_assert!(rest.len() > kind.hidden_len, "something is left for the second part");
        self.buffer.truncate(kind.hidden_len + room);
        Some((self, Self { buffer: rest, kind }))
    }
}

impl From<Vec<u8>> for Packet {
    fn from(buffer: Vec<u8>) -> Self {
        Self { buffer, kind: &WHOLE }
    }
}
