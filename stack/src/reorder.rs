//! Owns the order in which one flow's segments reach TCP. The link resends what is lost, but delivers what comes first.

use crate::segment::Segment;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

/// Most segments that are held back.
const HELD_MAX: usize = 32_768;
/// Most bytes that are held back. Unit: rings; the window allows one, and segments may overlap.
const HELD_RINGS: usize = 2;

/// What keeping a segment costs beside its bytes: its place in the map and its buffer's. Unit: bytes.
const OVERHEAD: usize = 64;

/// Segments that wait for those before them. TCP would have to guess that the link resends the missing one.
#[derive(Default)]
pub(crate) struct Reorder {
    /// Next sequence number expected from the peer; `None` before its SYN.
    next: Option<u32>,
    /// By sequence number: the count of sequence numbers that the segment takes, and its bytes.
    held: BTreeMap<u32, (u32, Vec<u8>)>,
    /// Bytes of segments in `held`.
    held_len: usize,
}

impl Reorder {
    /// True until the peer's SYN has come.
    pub(crate) const fn is_before_syn(&self) -> bool {
        self.next.is_none()
    }

    /// Waits for the peer's SYN again: TCP has not taken the one that came.
    pub(crate) const fn forget_syn(&mut self) {
        self.next = None;
    }

    /// True while segments wait for one before them.
    pub(crate) fn is_holding(&self) -> bool {
        !self.held.is_empty()
    }

    /// Bytes of segments that are held back.
    pub(crate) const fn held_len(&self) -> usize {
        self.held_len
    }

    /// What is held back counts as so much. Unit: bytes. A budget leaves a quarter to what is not counted (`budget.rs`), which the
    /// overhead of large segments fits into; that of small ones does not.
    pub(crate) fn memory(&self) -> usize {
        self.held_len.max((self.held_len + OVERHEAD * self.held.len()) / 4 * 3)
    }

    /// Sequence number after the last that TCP may have seen; `None` before the peer's SYN.
    pub(crate) const fn next(&self) -> Option<u32> {
        self.next
    }

    /// Decides when TCP may see a segment: `true` now, `false` when it was held back or is not wanted. The flow's rings
    /// have `ring_len` bytes each.
    pub(crate) fn admit(&mut self, segment: &Segment, bytes: &[u8], ring_len: usize) -> bool {
        if segment.syn {
            // A second SYN is a late copy. As a new one it would ask for everything again that has come since.
            let is_first = self.next.is_none();
            self.next.get_or_insert(segment.end());
            return is_first;
        }
        if self.next.is_none() && !segment.rst {
            // The segment has overtaken the peer's SYN, as an early answer can. TCP could not make sense of it.
            self.hold(segment, bytes, ring_len);
            return false;
        }
        let Some(next) = self.next.filter(|_| segment.sequence_len() > 0) else { return true };
        if is_after(segment.sequence, next) {
            self.hold(segment, bytes, ring_len);
            return false;
        }
        self.advance(next, segment.end());
        true
    }

    /// True for a segment that TCP may see now.
    pub(crate) fn is_due(&self, segment: &Segment) -> bool {
        self.next.is_some_and(|next| !is_after(segment.sequence, next))
    }

    /// Drops the segments that are held back, of which TCP has acknowledged none; gives the sequence number after the last.
    pub(crate) fn drop_held(&mut self) -> Option<u32> {
        self.held_len = 0;
        let ends = core::mem::take(&mut self.held).into_iter().map(|(sequence, (len, _))| sequence.wrapping_add(len));
        ends.reduce(|a, b| if is_after(a, b) { a } else { b })
    }

    /// The next held segment that TCP may see.
    pub(crate) fn release(&mut self) -> Option<Vec<u8>> {
        let next = self.next.filter(|_| !self.held.is_empty())?;
        // The map is in numeric order and sequence numbers wrap: a due segment may lie on the other side of the wrap.
        let is_due = |sequence: &u32| !is_after(*sequence, next);
        let here = self.held.range(..=next).next_back().map(|(sequence, _)| *sequence).filter(is_due);
        let beyond = || self.held.range(next..).next_back().map(|(sequence, _)| *sequence).filter(is_due);
        let due = here.or_else(beyond)?;
        let (len, bytes) = self.held.remove(&due)?;
        debug_assert!(self.held_len >= bytes.len(), "every held byte was counted");
        self.held_len -= bytes.len();
        self.advance(next, due.wrapping_add(len));
        Some(bytes)
    }

    fn advance(&mut self, next: u32, end: u32) {
        if is_after(end, next) {
            self.next = Some(end);
        }
    }

    /// Keeps a segment until those before it have come. A segment beyond the maxima, which no honest peer sends, is
    /// dropped.
    fn hold(&mut self, segment: &Segment, bytes: &[u8], ring_len: usize) {
        let is_full = self.held.len() == HELD_MAX || self.held_len + bytes.len() > HELD_RINGS * ring_len;
        let says_nothing_new = segment.sequence_len() == 0 && self.held.contains_key(&segment.sequence);
        if is_full || says_nothing_new {
            return;
        }
        self.held_len += bytes.len();
        if let Some((_, old)) = self.held.insert(segment.sequence, (segment.sequence_len(), bytes.to_vec())) {
            self.held_len -= old.len();
        }
    }
}

/// True when `a` comes after `b`, across the wrap (RFC 9293 §3.4).
pub(crate) const fn is_after(a: u32, b: u32) -> bool {
    a.wrapping_sub(b) as i32 > 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::segment::TCP_HEADER_LEN;
    use std::vec;

    fn data(sequence: u32, len: usize) -> Vec<u8> {
        let mut bytes = vec![0u8; TCP_HEADER_LEN + len];
        bytes[4..8].copy_from_slice(&sequence.to_be_bytes());
        bytes[12] = 5 << 4;
        bytes[13] = 0x10;
        bytes
    }

    fn admit(order: &mut Reorder, bytes: &[u8], ring_len: usize) -> bool {
        order.admit(&Segment::parse(bytes).expect("header"), bytes, ring_len)
    }

    #[test]
    fn segments_reach_tcp_in_order_across_the_wrap() {
        let mut reorder = Reorder { next: Some(u32::MAX - 99), ..Reorder::default() };
        let mut order = Vec::new();
        for sequence in [100, 0, u32::MAX - 99] {
            if admit(&mut reorder, &data(sequence, 100), 4096) {
                order.push(sequence);
                while let Some(bytes) = reorder.release() {
                    order.push(Segment::parse(&bytes).expect("header").sequence);
                }
            }
        }
        assert_eq!(order, [u32::MAX - 99, 0, 100]);
    }

    #[test]
    fn held_segments_have_a_maximum() {
        let mut many = Reorder { next: Some(0), ..Reorder::default() };
        for i in 0..HELD_MAX as u32 + 10 {
            assert!(!admit(&mut many, &data(1 + i * 10, 10), 32 << 20));
        }
        assert_eq!((many.held.len(), many.memory()), (HELD_MAX, HELD_MAX * (TCP_HEADER_LEN + 10 + OVERHEAD) / 4 * 3));

        let mut large = Reorder { next: Some(0), ..Reorder::default() };
        for i in 0..100 {
            assert!(!admit(&mut large, &data(1 + i, 10_000), 100_000)); // each covers nearly the same
        }
        assert!(large.held_len <= HELD_RINGS * 100_000 && large.held.len() > 15, "{}", large.held_len);
        large.next = Some(2);
        while large.release().is_some() {}
        assert_eq!((large.held_len, large.is_holding()), (0, false));

        assert!(!admit(&mut many, &data(100, 10), 32 << 20));
        assert!(many.is_due(&Segment::parse(&data(0, 10)).expect("header")));
        assert!(!many.is_due(&Segment::parse(&data(5, 10)).expect("header")));
        many.drop_held();
        assert_eq!((many.held_len(), many.is_holding(), many.release()), (0, false, None));
    }
}
