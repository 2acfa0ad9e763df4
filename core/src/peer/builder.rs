//! Owns the layout of a datagram in a batch: relay header, DATA header, frames, tag.
//!
//! ```text
//!   | relay header 16, only by relay | DATA header 16 | frames | tag 16 |
//! ```
//! The frames are written where they are sealed and sent from: building a datagram copies no byte.

use crate::aead::TAG_LEN;
use crate::path::PathAddr;
use crate::relay::{RelayKey, Route};
use crate::tunnel::session::Session;
use crate::wire::DATA_HEADER_LEN;
use alloc::vec::Vec;

/// Appends datagrams to a batch, one behind the other.
pub(crate) struct PacketBuilder<'a> {
    out: &'a mut Vec<u8>,
    relay_key: &'a RelayKey,
}

impl<'a> PacketBuilder<'a> {
    /// A builder that appends to `out`.
    pub(crate) const fn new(out: &'a mut Vec<u8>, relay_key: &'a RelayKey) -> Self {
        Self { out, relay_key }
    }

    /// Bytes of the batch so far, relay headers included.
    pub(crate) const fn len(&self) -> usize {
        self.out.len()
    }

    /// Appends a datagram that needs nothing more than its relay header.
    pub(crate) fn push(&mut self, to: PathAddr, datagram: &[u8]) {
        let (route, start) = (Route::new(to, self.relay_key), self.out.len());
        self.out.resize(start + route.header_len(), 0);
        self.out.extend_from_slice(datagram);
        route.emit_header(&mut self.out[start..]);
    }

    /// Appends a datagram that [`PacketBuilder::split_off`] took out of a batch, with the header that it has.
    pub(crate) fn push_finished(&mut self, datagram: &[u8]) {
        self.out.extend_from_slice(datagram);
    }

    /// Appends a datagram of the frames that `write` appends, sealed under `session`; gives its size and what `write`
    /// gave. `None` leaves the batch as it was.
    pub(crate) fn seal<T>(
        &mut self,
        to: PathAddr,
        session: &mut Session,
        write: impl FnOnce(&mut Vec<u8>) -> Option<T>,
    ) -> Option<(usize, T)> {
        let (route, start) = (Route::new(to, self.relay_key), self.out.len());
        let head = route.header_len();
        self.out.resize(start + head + DATA_HEADER_LEN, 0);
        let Some(written) = write(self.out) else {
            self.out.truncate(start);
            return None;
        };
        debug_assert!(self.out.len() > start + head + DATA_HEADER_LEN, "a datagram without frames says nothing");
        self.out.resize(self.out.len() + TAG_LEN, 0);
        let datagram = &mut self.out[start..];
        session.seal(&mut datagram[head..]);
        route.emit_header(datagram);
        Some((datagram.len(), written))
    }

    /// Takes the bytes from `start` on out of the batch.
    pub(crate) fn split_off(&mut self, start: usize) -> Vec<u8> {
        self.out.split_off(start)
    }
}
