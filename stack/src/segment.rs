//! Owns the reading and changing of TCP headers outside smoltcp: ports, order, the size of segments, and how segments
//! are cut.

use alloc::vec::Vec;
use pilot_core::link::PacketKind;

/// Bytes of an IPv6 header, which never travels.
pub(crate) const IPV6_HEADER_LEN: usize = 40;

/// A flow of one peer: the local port, then the peer's.
pub(crate) type FlowKey = (u16, u16);

/// The fields of a TCP header that the stack reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) source: u16,
    pub(crate) destination: u16,
    pub(crate) sequence: u32,
    pub(crate) acknowledged: u32,
    pub(crate) window: u16,
    pub(crate) payload_len: u32,
    pub(crate) syn: bool,
    pub(crate) fin: bool,
    pub(crate) rst: bool,
    pub(crate) ack: bool,
    /// The receiver had no room for bytes that had arrived, and wants them again ([`ASKS_AGAIN`]).
    pub(crate) asks_again: bool,
    /// Nothing but ACK and PSH is set, and there are no options.
    plain: bool,
}

/// Bytes of a TCP header without options (RFC 9293 §3.1).
pub(crate) const TCP_HEADER_LEN: usize = 20;

/// The flag of an acknowledgement that asks for everything behind it again. It is that of ECN-Echo, which has no use inside a
/// tunnel (RFC 3168 §6.1).
pub(crate) const ASKS_AGAIN: u8 = 0x40;

impl Segment {
    /// Reads the header; `None` when it is shorter than it says.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let header: &[u8; TCP_HEADER_LEN] = bytes.first_chunk()?;
        let header_len = usize::from(header[12] >> 4) * 4;
        let payload_len = bytes.len().checked_sub(header_len).filter(|_| header_len >= TCP_HEADER_LEN)?;
        let flags = header[13];
        Some(Self {
            source: u16::from_be_bytes([header[0], header[1]]),
            destination: u16::from_be_bytes([header[2], header[3]]),
            sequence: u32::from_be_bytes([header[4], header[5], header[6], header[7]]),
            acknowledged: u32::from_be_bytes([header[8], header[9], header[10], header[11]]),
            window: u16::from_be_bytes([header[14], header[15]]),
            payload_len: payload_len as u32,
            fin: flags & 0x01 != 0,
            syn: flags & 0x02 != 0,
            rst: flags & 0x04 != 0,
            ack: flags & 0x10 != 0,
            asks_again: flags & ASKS_AGAIN != 0,
            plain: flags & !0x08 == 0x10 && header_len == TCP_HEADER_LEN,
        })
    }

    /// The segment without its payload, the bytes of its header, and the payload.
    pub(crate) fn split<'a>(&self, bytes: &'a [u8]) -> (Self, &'a [u8], &'a [u8]) {
        let (header, payload) = bytes.split_at(bytes.len().saturating_sub(self.payload_len as usize));
        (Self { payload_len: 0, ..*self }, header, payload)
    }

    /// The flow on the sending side.
    pub(crate) const fn outgoing_key(&self) -> FlowKey {
        (self.source, self.destination)
    }

    /// The flow on the sending side, as one number.
    pub(crate) const fn label(&self) -> u32 {
        (self.source as u32) << 16 | self.destination as u32
    }

    /// The flow on the receiving side.
    pub(crate) const fn incoming_key(&self) -> FlowKey {
        (self.destination, self.source)
    }

    /// Sequence numbers that the segment takes (RFC 9293 §3.4).
    pub(crate) const fn sequence_len(&self) -> u32 {
        self.payload_len + self.syn as u32 + self.fin as u32
    }

    /// Sequence number after the segment's last.
    pub(crate) const fn end(&self) -> u32 {
        self.sequence.wrapping_add(self.sequence_len())
    }

    /// True for a segment that carries payload and no news but an acknowledgement.
    pub(crate) const fn is_plain_data(&self) -> bool {
        self.plain && self.payload_len > 0
    }

    /// True for a segment that only acknowledges or opens the window.
    pub(crate) const fn is_pure_ack(&self) -> bool {
        self.sequence_len() == 0 && !self.rst
    }
}

/// Raises the maximum segment size in a SYN to the most that any path could carry. The path at the moment of sending
/// decides how large segments are, and may grow after the stream was opened.
pub(crate) fn raise_mss(segment: &mut [u8]) {
    const MSS: u8 = 2;
    if let Some(at) = option(segment, MSS, 4)
        && let Some(value) = segment.get_mut(at..at + 2)
    {
        value.copy_from_slice(&65_475u16.to_be_bytes());
    }
}

/// The shift of the windows that follow this SYN; 0 without the option (RFC 7323 §2.2). Unit: bits.
pub(crate) fn window_scale(syn: &[u8]) -> u32 {
    const WINDOW_SCALE: u8 = 3;
    const SHIFT_MAX: u8 = 14;
    let shift = option(syn, WINDOW_SCALE, 3).and_then(|at| syn.get(at)).copied();
    shift.map_or(0, |shift| shift.min(SHIFT_MAX).into())
}

/// The offset of the value of an option of this kind and length (RFC 9293 §3.1).
fn option(segment: &[u8], kind: u8, len: u8) -> Option<usize> {
    let end = usize::from(*segment.get(12)? >> 4) * 4;
    let mut at = TCP_HEADER_LEN;
    loop {
        match segment.get(at..end)? {
            [] | [0, ..] => return None,
            [1, ..] => at += 1,
            [k, l, ..] if *k == kind && *l == len => return Some(at + 2),
            [_, l, ..] => at += usize::from(*l).max(2),
            [_] => return None,
        }
    }
}

/// Segments as smoltcp writes them: behind an IPv6 header, which the tunnel implies.
pub static SEGMENT: PacketKind = PacketKind { hidden_len: IPV6_HEADER_LEN, cut: Some(cut) };

/// Cuts a segment in two; false when it has no payload to cut, or is a SYN: the payload takes no part in TCP's handshake, and TCP
/// sends both again. Checksums are not in use inside a tunnel (the tag covers
/// every byte).
fn cut(first: &mut [u8], room: usize, rest: &mut Vec<u8>) -> bool {
    const FIN_PSH: u8 = 0x01 | 0x08;
    let Some(segment) = Segment::parse(first) else { return false };
    let header_len = first.len() - segment.payload_len as usize;
    let Some(payload) = first.get(room..).filter(|_| room > header_len && !segment.syn) else { return false };
    let start = rest.len();
    rest.extend_from_slice(&first[..header_len]);
    rest.extend_from_slice(payload);
    let behind = segment.sequence.wrapping_add((room - header_len) as u32);
    rest[start + 4..start + 8].copy_from_slice(&behind.to_be_bytes());
    first[13] &= !FIN_PSH; // both belong to the last byte
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec;

    #[test]
    fn headers_shorter_than_they_say_are_refused() {
        let mut bytes = vec![0u8; 24];
        bytes[12] = 6 << 4;
        assert_eq!(Segment::parse(&bytes).map(|s| s.payload_len), Some(0));
        bytes[12] = 7 << 4;
        assert_eq!(Segment::parse(&bytes), None);
        bytes[12] = 4 << 4;
        assert_eq!(Segment::parse(&bytes), None);
        assert_eq!(Segment::parse(&bytes[..19]), None);
    }

    #[test]
    fn the_segment_size_in_a_syn_is_raised_wherever_it_stands() {
        for options in [&[2, 4, 5, 0][..], &[1, 1, 2, 4, 5, 0, 0, 0], &[3, 3, 7, 1, 2, 4, 5, 0]] {
            let mut bytes = vec![0u8; TCP_HEADER_LEN];
            bytes[12] = ((TCP_HEADER_LEN + options.len()) as u8 / 4) << 4;
            bytes.extend_from_slice(options);
            raise_mss(&mut bytes);
            assert!(bytes.windows(4).any(|w| w == [2, 4, 0xff, 0xc3]), "{options:?}");
        }
        for broken in [&[9u8, 0, 0, 0][..], &[2, 4, 5], &[9, 200, 0, 0], &[1, 1, 2, 4], &[1, 1, 1, 3]] {
            let mut bytes = vec![0u8; TCP_HEADER_LEN];
            bytes[12] = 6 << 4;
            bytes.extend_from_slice(broken);
            raise_mss(&mut bytes); // must not panic
            assert_eq!(window_scale(&bytes), 0, "{broken:?}");
        }
    }

    #[test]
    fn the_window_scale_is_found_and_has_a_maximum() {
        for (options, shift) in
            [(&[3u8, 3, 7, 1][..], 7), (&[1, 3, 3, 9], 9), (&[3, 3, 255, 0], 14), (&[0, 3, 3, 7], 0)]
        {
            let mut bytes = vec![0u8; TCP_HEADER_LEN];
            bytes[12] = 6 << 4;
            bytes.extend_from_slice(options);
            assert_eq!(window_scale(&bytes), shift, "{options:?}");
        }
    }

    #[test]
    fn segments_are_cut_without_loss_across_the_wrap() {
        let mut segment: Vec<u8> = (0..3020).map(|i| (i % 251) as u8).collect();
        segment[4..8].copy_from_slice(&(u32::MAX - 5).to_be_bytes());
        (segment[12], segment[13]) = (5 << 4, 0x19);
        let (mut payload, mut next, mut left) = (Vec::new(), u32::MAX - 5, segment.clone());
        while !left.is_empty() {
            let mut rest = Vec::new();
            if cut(&mut left, 1200, &mut rest) {
                left.truncate(1200);
            }
            assert_eq!(left[4..8], next.to_be_bytes());
            payload.extend_from_slice(&left[20..]);
            next = next.wrapping_add(left.len() as u32 - 20);
            assert_eq!(left[13] & 1 == 1, payload.len() == 3000, "FIN only at the end");
            left = rest;
        }
        assert_eq!(payload, segment[20..]);
        for (mut broken, room) in [(vec![0; 2000], 1200), (segment.clone(), 20), (segment[..19].to_vec(), 10)] {
            assert!(!cut(&mut broken, room, &mut Vec::new()), "no segment, or no room for payload");
        }
        segment[13] = 0x02;
        assert!(!cut(&mut segment, 1200, &mut Vec::new()), "a SYN");
    }
}
