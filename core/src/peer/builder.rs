//! Owns the layout of a datagram in a batch: relay header, DATA header, frames, tag.
//!
//! ```text
//!   | relay header 16, only by relay | DATA header 16 | frames | tag 16 |
//! ```
//! The frames are written where they are sealed and sent from: building a datagram copies no byte.

use crate::aead::TAG_LEN;
use crate::inner::PeerId;
use crate::path::PathAddr;
use crate::relay::{Keys, Route};
use crate::tap::Tap;
use crate::time::Instant;
use crate::tunnel::session::Session;
use crate::wire::DATA_HEADER_LEN;
use alloc::vec::Vec;

/// A datagram that was begun: room for its headers is there, its tag is not.
#[must_use = "a begun datagram is sealed or cancelled"]
pub(crate) struct Draft<'a> {
    route: Route<'a>,
    /// Where the datagram begins in the batch.
    start: usize,
    /// Where its frames begin.
    frames: usize,
}

/// Appends datagrams to a batch, one behind the other.
pub(crate) struct PacketBuilder<'a> {
    out: &'a mut Vec<u8>,
    keys: Keys<'a>,
    tap: Option<&'a mut Tap>,
}

impl<'a> PacketBuilder<'a> {
    /// A builder that appends to `out`.
    pub(crate) const fn new(out: &'a mut Vec<u8>, keys: Keys<'a>) -> Self {
        Self { out, keys, tap: None }
    }

    /// The same, with a tap for the packets in the datagrams, if it is on.
    pub(crate) fn tapped(self, tap: Option<&'a mut Tap>) -> Self {
        Self { tap, ..self }
    }

    /// Bytes of the batch so far, relay headers included.
    pub(crate) const fn len(&self) -> usize {
        self.out.len()
    }

    /// Appends a datagram that needs nothing more than its relay header.
    pub(crate) fn push(&mut self, to: PathAddr, datagram: &[u8]) {
        let (route, start) = (self.keys.route(to), self.out.len());
        self.out.resize(start + route.header_len(), 0);
        self.out.extend_from_slice(datagram);
        route.emit_header(&mut self.out[start..]);
    }

    /// Appends a datagram that [`PacketBuilder::split_off`] took out of a batch, with the header that it has.
    pub(crate) fn push_finished(&mut self, datagram: &[u8]) {
        self.out.extend_from_slice(datagram);
    }

    /// Begins a datagram: append its frames to [`PacketBuilder::frames`], then seal or cancel it.
    pub(crate) fn begin(&mut self, to: PathAddr) -> Draft<'a> {
        let (route, start) = (self.keys.route(to), self.out.len());
        let frames = start + route.header_len() + DATA_HEADER_LEN;
        self.out.resize(frames, 0);
        Draft { route, start, frames }
    }

    /// Where the frames of the begun datagram go: behind everything that is there.
    pub(crate) const fn frames(&mut self) -> &mut Vec<u8> {
        self.out
    }

    /// Leaves the batch as it was before the datagram was begun.
    pub(crate) fn cancel(&mut self, draft: Draft<'a>) {
        self.out.truncate(draft.start);
    }

    /// Lets the tap see the frames of the begun datagram.
    pub(crate) fn show(&mut self, draft: &Draft<'a>, now: Instant, peer: PeerId) {
        if let Some(tap) = &mut self.tap {
            tap.keep_frames(now, peer, &self.out[draft.frames..]);
        }
    }

    /// Seals the begun datagram under `session`; gives its size.
    pub(crate) fn seal(&mut self, Draft { route, start, frames }: Draft<'a>, session: &mut Session) -> usize {
        debug_assert!(self.out.len() > frames, "a datagram without frames says nothing");
        self.out.resize(self.out.len() + TAG_LEN, 0);
        let datagram = &mut self.out[start..];
        session.seal(&mut datagram[frames - start - DATA_HEADER_LEN..]);
        route.emit_header(datagram);
        datagram.len()
    }

    /// The batch so far, relay headers included.
    pub(crate) fn to_vec(&self) -> Vec<u8> {
        self.out.clone()
    }

    /// Takes the bytes from `start` on out of the batch.
    pub(crate) fn split_off(&mut self, start: usize) -> Vec<u8> {
        self.out.split_off(start)
    }
}
