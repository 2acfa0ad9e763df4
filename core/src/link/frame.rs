//! Owns the frames: the contents of a DATA datagram.
//!
//! | type | frame | recovered |
//! |---|---|---|
//! | 0 | PADDING (one zero byte) | |
//! | 1, 2 | ACK of this session; of the session with the receiver index that follows | |
//! | 3, 4 | PACKET: inner TCP segment, length in front; up to the end of the datagram | yes |
//! | 5, 6 | LOOSE: inner datagram (ports 2 + 2, payload), same two forms | never |
//! | 7 | CONTROL: offset, length, bytes of the control stream | yes |
//! | 8, 9 | PROBE, PROBE_OK: 8 bytes that the answer repeats | by the path machine |
//! | 10 | HELLO: the sender's signed record | yes |
//! | 11 | PING | elicits an ACK |
//! | 12 | CLOSE: reason | |
//! | 13 | PURE_ACK: inner TCP segment without payload; only the newest of a flow is resent | newest |
//! | 14 | EARLY: a control message that does not wait for its turn, with its length in front | never |
//!
//! Inner segments go without their IPv6 header: the session implies both addresses, the frame gives the length.

use crate::codec::{Malformed, Put, Reader};
use crate::wire::{LocalIndex, RemoteIndex};
use alloc::vec::Vec;
use core::ops::RangeInclusive;

const PADDING: u8 = 0;
const ACK: u8 = 1;
const ACK_OTHER: u8 = 2;
const PACKET: u8 = 3;
const PACKET_REST: u8 = 4;
const LOOSE: u8 = 5;
const LOOSE_REST: u8 = 6;
const CONTROL: u8 = 7;
const PROBE: u8 = 8;
const PROBE_OK: u8 = 9;
const HELLO: u8 = 10;
const PING: u8 = 11;
const CLOSE: u8 = 12;
const PURE_ACK: u8 = 13;
const EARLY: u8 = 14;

/// Most ranges in one ACK. Source: `docs/link.md`, "Frames".
pub const ACK_RANGES_MAX: usize = 64;

/// One frame, borrowing its datagram.
#[derive(Debug)]
pub enum Frame<'a> {
    /// Bytes without meaning.
    Padding,
    /// The datagrams that the other side has received.
    Ack(AckFrame<'a>),
    /// A recovered inner segment.
    Packet(&'a [u8]),
    /// An inner segment that only acknowledges.
    PureAck(&'a [u8]),
    /// An inner datagram, never resent.
    Loose(&'a [u8]),
    /// A piece of the control stream.
    Control {
        /// Where it belongs. Unit: bytes from the stream's start.
        offset: u64,
        /// The piece.
        bytes: &'a [u8],
    },
    /// A question about a path.
    Probe(u64),
    /// The answer.
    ProbeOk(u64),
    /// The sender's signed record, with its length in front.
    Hello(&'a [u8]),
    /// Asks for an acknowledgement.
    Ping,
    /// The tunnel ends.
    Close(u8),
    /// A control message that does not wait for its turn in the control stream.
    Early(&'a [u8]),
}

/// Reads the frames of one opened datagram, in order; stops after the first malformed one.
pub struct Frames<'a>(Option<Reader<'a>>);

impl<'a> Frames<'a> {
    /// The frames in `plaintext`.
    pub fn new(plaintext: &'a [u8]) -> Self {
        Self(Some(Reader::new(plaintext)))
    }
}

impl<'a> Iterator for Frames<'a> {
    type Item = Result<Frame<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        let reader = self.0.as_mut().filter(|r| !r.is_empty())?;
        let frame = parse(reader);
        if frame.is_err() {
            self.0 = None;
        }
        Some(frame)
    }
}

/// Longest inner segment or datagram in a frame: that of UDP.
const INNER_MAX: usize = 65_535;

fn parse<'a>(r: &mut Reader<'a>) -> Result<Frame<'a>, Malformed> {
    let rest = |r: &mut Reader<'a>| r.take(r.rest().len());
    Ok(match r.u8()? {
        PADDING => {
            // A run of padding is one frame, so that a large probe costs one step.
            let run = r.rest().iter().take_while(|b| **b == PADDING).count();
            r.take(run)?;
            Frame::Padding
        }
        ACK => Frame::Ack(AckFrame::parse(None, r)?),
        ACK_OTHER => {
            let index = r.u32()?;
            Frame::Ack(AckFrame::parse(Some(RemoteIndex(index)), r)?)
        }
        PACKET => Frame::Packet(r.bytes(INNER_MAX)?),
        PACKET_REST => Frame::Packet(rest(r)?),
        PURE_ACK => Frame::PureAck(r.bytes(INNER_MAX)?),
        LOOSE => Frame::Loose(r.bytes(INNER_MAX)?),
        LOOSE_REST => Frame::Loose(rest(r)?),
        CONTROL => Frame::Control { offset: r.varint()?, bytes: r.bytes(INNER_MAX)? },
        PROBE => Frame::Probe(r.u64()?),
        PROBE_OK => Frame::ProbeOk(r.u64()?),
        HELLO => Frame::Hello(r.bytes(INNER_MAX)?),
        PING => Frame::Ping,
        CLOSE => Frame::Close(r.u8()?),
        EARLY => Frame::Early(r.bytes(INNER_MAX)?),
        _ => return Err(Malformed),
    })
}

/// An acknowledgement: the newest counter, how long ago it came, and descending ranges.
#[derive(Debug)]
pub struct AckFrame<'a> {
    /// The session that it acknowledges, by the index that its receiver put there; `None` for the session it came in.
    pub session: Option<RemoteIndex>,
    /// How long the newest datagram waited for this acknowledgement. Unit: microseconds.
    pub delay_us: u64,
    largest: u64,
    first_len: u64,
    count: usize,
    ranges: Reader<'a>,
}

impl<'a> AckFrame<'a> {
    fn parse(session: Option<RemoteIndex>, r: &mut Reader<'a>) -> Result<Self, Malformed> {
        let (largest, delay_us, count, first_len) = (r.varint()?, r.varint()?, r.varint()?, r.varint()?);
        if count >= ACK_RANGES_MAX as u64 || first_len > largest {
            return Err(Malformed);
        }
        let ranges = *r;
        let mut low = largest - first_len;
        for _ in 0..count {
            // RFC 9000 §19.3.1: a gap of 0 means one missing number.
            let (gap, len) = (r.varint()?, r.varint()?);
            low = low.checked_sub(gap + 2).and_then(|high| high.checked_sub(len)).ok_or(Malformed)?;
        }
        Ok(Self { session, delay_us, largest, first_len, count: count as usize, ranges })
    }

    /// The newest acknowledged counter.
    pub const fn largest(&self) -> u64 {
        self.largest
    }

    /// All ranges, newest first.
    pub fn ranges(&self) -> impl Iterator<Item = RangeInclusive<u64>> + use<'a> {
        let mut reader = self.ranges;
        let mut low = self.largest - self.first_len;
        let first = low..=self.largest;
        let rest = (0..self.count).map_while(move |_| {
            let (gap, len) = (reader.varint().ok()?, reader.varint().ok()?);
            let high = low - gap - 2;
            low = high - len;
            Some(low..=high)
        });
        core::iter::once(first).chain(rest)
    }
}

/// Writes an ACK frame; `ranges` newest first, not touching each other, at most [`ACK_RANGES_MAX`] are written.
pub fn emit_ack(
    out: &mut Vec<u8>,
    session: Option<LocalIndex>,
    delay_us: u64,
    ranges: impl Iterator<Item = (u64, u64)> + Clone,
) {
    let mut ranges = ranges.take(ACK_RANGES_MAX);
    let count = ranges.clone().count();
    let Some((mut low, high)) = ranges.next() else { return };
    match session {
        None => out.put_u8(ACK),
        Some(LocalIndex(index)) => {
            out.put_u8(ACK_OTHER);
            out.put_u32(index);
        }
    }
    out.put_varint(high);
    out.put_varint(delay_us);
    out.put_varint(count as u64 - 1);
    out.put_varint(high - low);
    for (next_low, next_high) in ranges {
        out.put_varint(low - next_high - 2);
        out.put_varint(next_high - next_low);
        low = next_low;
    }
}

/// Writes a PACKET (`recovered`) or LOOSE frame; `last` says that nothing follows in the datagram.
pub fn emit_packet(out: &mut Vec<u8>, recovered: bool, last: bool, bytes: &[u8]) {
    match (recovered, last) {
        (true, true) => out.put_u8(PACKET_REST),
        (true, false) => out.put_u8(PACKET),
        (false, true) => out.put_u8(LOOSE_REST),
        (false, false) => out.put_u8(LOOSE),
    }
    if !last {
        out.put_varint(bytes.len() as u64);
    }
    out.put(bytes);
}

/// Writes a PURE_ACK frame.
pub fn emit_pure_ack(out: &mut Vec<u8>, bytes: &[u8]) {
    out.put_u8(PURE_ACK);
    out.put_bytes(bytes);
}

/// Writes a CONTROL frame.
pub fn emit_control(out: &mut Vec<u8>, offset: u64, bytes: &[u8]) {
    out.put_u8(CONTROL);
    out.put_varint(offset);
    out.put_bytes(bytes);
}

/// Writes a PROBE (`answer` false) or PROBE_OK frame.
pub fn emit_probe(out: &mut Vec<u8>, answer: bool, id: u64) {
    out.put_u8(if answer { PROBE_OK } else { PROBE });
    out.put_u64(id);
}

/// Writes a HELLO frame.
pub fn emit_hello(out: &mut Vec<u8>, bytes: &[u8]) {
    out.put_u8(HELLO);
    out.put_bytes(bytes);
}

/// Writes an EARLY frame.
pub fn emit_early(out: &mut Vec<u8>, message: &[u8]) {
    out.put_u8(EARLY);
    out.put_bytes(message);
}

/// Writes a PING frame.
pub fn emit_ping(out: &mut Vec<u8>) {
    out.put_u8(PING);
}

/// Writes a CLOSE frame.
pub fn emit_close(out: &mut Vec<u8>, reason: u8) {
    out.put(&[CLOSE, reason]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ack_frames_round_trip() {
        let ranges = [(90, 100), (80, 80), (3, 50)];
        for session in [None, Some(7)] {
            let mut out = Vec::new();
            emit_ack(&mut out, session.map(LocalIndex), 1234, ranges.into_iter());
            emit_ping(&mut out);
            let mut frames = Frames::new(&out);
            let Some(Ok(Frame::Ack(ack))) = frames.next() else { panic!("an ACK comes first") };
            assert_eq!((ack.session, ack.delay_us, ack.largest()), (session.map(RemoteIndex), 1234, 100));
            assert!(ack.ranges().eq([90..=100, 80..=80, 3..=50]));
            assert!(matches!(frames.next(), Some(Ok(Frame::Ping))));
            assert!(frames.next().is_none());
        }
    }

    #[test]
    fn ranges_below_zero_and_too_many_ranges_are_malformed() {
        for bytes in
            [&[ACK, 5, 0, 0, 6][..], &[ACK, 5, 0, 1, 2, 2, 0], &[ACK, 63, 0, 64, 64, 0], &[200], &[PACKET, 5, 1]]
        {
            assert!(matches!(Frames::new(bytes).next(), Some(Err(Malformed))), "{bytes:?}");
        }
    }

    #[test]
    fn packets_round_trip_in_both_forms() {
        let mut out = Vec::new();
        emit_packet(&mut out, true, false, b"one");
        emit_pure_ack(&mut out, b"ack");
        emit_control(&mut out, 300, b"ctl");
        emit_hello(&mut out, b"me");
        emit_early(&mut out, b"now");
        emit_probe(&mut out, true, 9);
        emit_packet(&mut out, false, true, b"two");
        let all: Vec<_> = Frames::new(&out).map(|f| f.expect("well-formed")).collect();
        let [
            Frame::Packet(b"one"),
            Frame::PureAck(b"ack"),
            Frame::Control { offset: 300, bytes: b"ctl" },
            Frame::Hello(b"me"),
            Frame::Early(b"now"),
            Frame::ProbeOk(9),
            Frame::Loose(b"two"),
        ] = all[..]
        else {
            panic!("{all:?}")
        };
    }
}
