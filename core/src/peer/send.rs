//! Owns the way out: which datagrams a peer sends next, and how they make a batch.
//!
//! CLOSE → datagrams of the key handshake → the one that did not fit the batch before → probes → the link's frames.

use super::builder::PacketBuilder;
use super::{CLOSE_LEN, Peer, RAW_MAX, REST_AFTER};
use crate::link::Outgoing;
use crate::link::frame::emit_close;
use crate::path::{PathAddr, emit_probe_frames};
use crate::time::Instant;
use crate::wire::DATA_OVERHEAD;
use alloc::boxed::Box;
use alloc::vec::Vec;

/// Most datagrams in one batch. Source: Linux's limit for UDP segmentation offload.
const BATCH_SEGMENTS_MAX: usize = 64;
/// Most bytes in one batch.
const BATCH_LEN_MAX: usize = 65_000;

impl Peer {
    /// Appends datagrams for one destination to the batch; gives the destination and the size of each but the last.
    pub(crate) fn poll_transmit(&mut self, now: Instant, batch: &mut PacketBuilder<'_>) -> Option<(PathAddr, usize)> {
        if let (Some(reason), Some(to), true) = (self.close, self.paths.selected(), self.is_up(now)) {
            self.close = None;
            if self.paths.charge(to, CLOSE_LEN) {
                self.seal_untracked(now, to, batch, |out| emit_close(out, reason));
                return Some((to, batch.len()));
            }
        }
        if let Some((to, datagram)) = self.raw.pop_front() {
            batch.push(to, &datagram);
            return Some((to, batch.len()));
        }
        if let Some((to, datagram)) = self.overflow.take().map(|overflow| *overflow) {
            batch.push_finished(&datagram);
            if self.paths.selected() != Some(to) {
                return Some((to, batch.len()));
            }
            return Some(self.fill_batch(now, to, batch));
        }
        if !self.is_up(now) {
            return None;
        }
        if let Some(probe) = self.paths.poll_probe() {
            self.seal_untracked(now, probe.to, batch, |out| emit_probe_frames(&probe, DATA_OVERHEAD, out));
            return Some((probe.to, batch.len()));
        }
        let to = self.paths.selected()?;
        if let Some(second) = self.second_way() {
            return self.seal_frames(now, to, batch).then(|| {
                self.raw.push_front((second, batch.to_vec()));
                (to, batch.len())
            });
        }
        self.seal_frames(now, to, batch).then(|| self.fill_batch(now, to, batch))
    }

    /// Where a copy of each datagram goes while an answer on the direct path in use is overdue by a probe timeout: over the relay. So
    /// a path that is cut in one direction carries on until it is suspect. The copy has the same counter, and counts once.
    fn second_way(&self) -> Option<PathAddr> {
        let is_doubted = self.link.unanswered_probes() > 0 && self.paths.has_direct() && self.raw.len() < RAW_MAX;
        self.paths.relay().filter(|_| is_doubted)
    }

    /// True when [`Peer::poll_transmit`] has nothing to send right after a batch of one datagram: the usual case of a
    /// request or an answer, for which looking twice would cost as much as sending once.
    pub(crate) fn is_silent(&self, now: Instant) -> bool {
        let is_waiting = self.close.is_some() || !self.raw.is_empty() || self.overflow.is_some();
        !is_waiting && !self.paths.has_probe() && !self.link.has_output(now)
    }

    /// Goes on after a first datagram: equal sizes, the last may be smaller, a larger one waits for the next batch.
    fn fill_batch(&mut self, now: Instant, to: PathAddr, batch: &mut PacketBuilder<'_>) -> (PathAddr, usize) {
        let size = batch.len();
        for _ in 1..BATCH_SEGMENTS_MAX {
            let start = batch.len();
            if start + size > BATCH_LEN_MAX || !self.seal_frames(now, to, batch) {
                break;
            }
            match (batch.len() - start).cmp(&size) {
                core::cmp::Ordering::Equal => {}
                core::cmp::Ordering::Less => break,
                core::cmp::Ordering::Greater => {
                    self.overflow = Some(Box::new((to, batch.split_off(start))));
                    break;
                }
            }
        }
        (to, size)
    }

    /// Size of the datagrams that may leave now. Unit: bytes.
    fn room(&self) -> usize {
        let second = self.second_way().map(|path| self.paths.datagram_len_of(path));
        second.unwrap_or(usize::MAX).min(self.paths.datagram_len())
    }

    /// Seals one datagram of the link's frames; false when there is nothing to send.
    fn seal_frames(&mut self, now: Instant, to: PathAddr, batch: &mut PacketBuilder<'_>) -> bool {
        if !self.paths.may_send() || !self.link.has_output(now) {
            return false;
        }
        let room = self.room() - DATA_OVERHEAD;
        let Some(session) = self.sessions.current_mut().filter(|session| session.usable(now)) else { return false };
        let draft = batch.begin(to);
        let Some(outgoing) = self.link.poll_frames(now, session.indexes.local, room, batch.frames()) else {
            batch.cancel(draft);
            return false;
        };
        batch.show(&draft, now, self.id);
        let size = batch.seal(draft, session);
        let may_leave = self.paths.charge(to, size);
        debug_assert!(may_leave, "the datagram was made for what the path may be sent");
        self.on_sealed(now, size, outgoing);
        true
    }

    /// Seals one datagram of frames that need no acknowledgement.
    fn seal_untracked(
        &mut self,
        now: Instant,
        to: PathAddr,
        batch: &mut PacketBuilder<'_>,
        write: impl FnOnce(&mut Vec<u8>),
    ) {
        let Some(session) = self.sessions.current_mut() else { return };
        let draft = batch.begin(to);
        write(batch.frames());
        let size = batch.seal(draft, session);
        self.on_sealed(now, size, Outgoing::untracked());
    }

    fn on_sealed(&mut self, now: Instant, size: usize, outgoing: Outgoing) {
        self.link.on_sent(now, size, outgoing);
        self.bytes_sent += size as u64;
        self.last_sent = now;
        self.rest_at.get_or_insert(now + REST_AFTER);
    }
}
