//! Owns the smoltcp device of one peer: one packet in, any number out, each behind the IPv6 header that the tunnel
//! implies.

use crate::segment::{IPV6_HEADER_LEN, SEGMENT, Segment};
use alloc::vec::Vec;
use core::net::Ipv6Addr;
use pilot_core::link::Packet;
use smoltcp::phy::{ChecksumCapabilities, Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::time::Instant;

/// Longest gathered packet. Unit: bytes; the length field of IPv6 ends at 65,535.
const INCOMING_MAX: usize = 65_000;
/// IPv6 next-header value of TCP.
const TCP: u8 = 6;

/// Most buffers that are kept for packets to come.
const SPARE_MAX: usize = 64;

/// The network card that smoltcp believes it has.
pub(crate) struct PeerDevice {
    /// The packet that the next `receive` hands over.
    incoming: Vec<u8>,
    /// `incoming` was not handed over yet.
    is_incoming: bool,
    /// Segments that smoltcp wrote.
    pub(crate) outgoing: Vec<Packet>,
    /// Buffers for segments to come.
    pub(crate) spare: Vec<Vec<u8>>,
    /// Longest segment that fits a datagram on the path in use. Unit: bytes.
    pub(crate) segment_len_max: usize,
}

impl PeerDevice {
    pub(crate) fn new(segment_len_max: usize) -> Self {
        Self { incoming: Vec::new(), is_incoming: false, outgoing: Vec::new(), spare: Vec::new(), segment_len_max }
    }

    /// Takes some of the buffers that the link does not need any more.
    pub(crate) fn take_spare(&mut self, from: &mut Vec<Vec<u8>>) {
        if self.spare.is_empty() {
            self.spare.extend(from.drain(from.len().saturating_sub(SPARE_MAX)..));
        }
    }

    /// True when the last segment that smoltcp wrote is as long as one may be, or smoltcp wrote none.
    pub(crate) fn is_last_full(&self) -> bool {
        self.outgoing.last().is_none_or(|packet| packet.bytes().len() >= self.segment_len_max)
    }

    /// Puts an IPv6 header in front of a segment and offers it to smoltcp.
    pub(crate) fn offer(&mut self, segment: &[u8], source: Ipv6Addr, destination: Ipv6Addr) {
        self.incoming.clear();
        self.incoming.extend_from_slice(&[0x60, 0, 0, 0]);
        self.incoming.extend_from_slice(&(segment.len() as u16).to_be_bytes());
        self.incoming.extend_from_slice(&[TCP, 64]);
        self.incoming.extend_from_slice(&source.octets());
        self.incoming.extend_from_slice(&destination.octets());
        self.incoming.extend_from_slice(segment);
        self.is_incoming = true;
    }

    /// True when the offered segment can grow by this one's payload.
    pub(crate) fn has_room_for(&self, segment: &Segment) -> bool {
        self.incoming.len() + segment.payload_len as usize <= INCOMING_MAX
    }

    /// Appends payload to the offered segment.
    pub(crate) fn extend(&mut self, payload: &[u8]) {
        debug_assert!(self.is_incoming && self.incoming.len() >= IPV6_HEADER_LEN, "a segment was offered");
        self.incoming.extend_from_slice(payload);
        debug_assert!(self.incoming.len() <= INCOMING_MAX, "the caller asked for room");
        let len = (self.incoming.len() - IPV6_HEADER_LEN) as u16;
        self.incoming[4..6].copy_from_slice(&len.to_be_bytes());
    }

    /// Replaces the acknowledgement and the window of the offered segment.
    pub(crate) fn set_acknowledgement(&mut self, (acknowledged, window): (u32, u16)) {
        if let Some(header) = self.incoming.get_mut(IPV6_HEADER_LEN..IPV6_HEADER_LEN + 16) {
            header[8..12].copy_from_slice(&acknowledged.to_be_bytes());
            header[14..16].copy_from_slice(&window.to_be_bytes());
        }
    }
}

impl Device for PeerDevice {
    type RxToken<'a> = Incoming<'a>;
    type TxToken<'a> = Outgoing<'a>;

    fn receive(&mut self, _: Instant) -> Option<(Incoming<'_>, Outgoing<'_>)> {
        let offered = core::mem::take(&mut self.is_incoming);
        let outgoing = Outgoing { packets: &mut self.outgoing, spare: &mut self.spare };
        offered.then_some((Incoming(&self.incoming), outgoing))
    }

    // Never `None`: smoltcp would begin the next pass at the first socket again and starve the others (`docs/link.md`,
    // "Hazards met while prototyping"). The stack asks only while the link has room.
    fn transmit(&mut self, _: Instant) -> Option<Outgoing<'_>> {
        Some(Outgoing { packets: &mut self.outgoing, spare: &mut self.spare })
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = self.segment_len_max + IPV6_HEADER_LEN;
        // The tunnel's tag covers every byte.
        capabilities.checksum = ChecksumCapabilities::ignored();
        capabilities
    }
}

/// The offered packet.
pub(crate) struct Incoming<'a>(&'a [u8]);

impl RxToken for Incoming<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(self.0)
    }
}

/// Room for one packet.
pub(crate) struct Outgoing<'a> {
    packets: &'a mut Vec<Packet>,
    spare: &'a mut Vec<Vec<u8>>,
}

impl TxToken for Outgoing<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut buffer = self.spare.pop().unwrap_or_default();
        // smoltcp writes every byte, so a used buffer need not be cleared.
        buffer.resize(len, 0);
        let result = f(&mut buffer);
        if buffer.len() > IPV6_HEADER_LEN && buffer[6] == TCP {
            self.packets.push(Packet::new(buffer, &SEGMENT));
        }
        result
    }
}
