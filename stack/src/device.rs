//! Owns the smoltcp device of one peer: one packet in, any number out, and the IPv6 header that the tunnel implies.

use alloc::vec::Vec;
use core::net::Ipv6Addr;
use smoltcp::phy::{ChecksumCapabilities, Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::time::Instant;

/// Bytes of an IPv6 header, which never travels.
pub(crate) const IPV6_HEADER_LEN: usize = 40;
/// IPv6 next-header value of TCP.
const TCP: u8 = 6;

/// What smoltcp sends and receives through.
pub(crate) struct PeerDevice {
    /// The packet that the next `receive` hands over.
    incoming: Vec<u8>,
    is_incoming: bool,
    /// Segments that smoltcp wrote, without their IPv6 header.
    pub(crate) outgoing: Vec<Vec<u8>>,
    /// Longest segment that fits a datagram now.
    pub(crate) segment_len_max: usize,
}

impl PeerDevice {
    pub(crate) fn new(segment_len_max: usize) -> Self {
        Self { incoming: Vec::new(), is_incoming: false, outgoing: Vec::new(), segment_len_max }
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

    /// Replaces acknowledgement and window of the offered segment.
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
        offered.then_some((Incoming(&self.incoming), Outgoing(&mut self.outgoing)))
    }

    // Never `None`: smoltcp would begin the next pass at the first socket again and starve the others (link.md, hazard
    // 1). The stack asks only while the link has room.
    fn transmit(&mut self, _: Instant) -> Option<Outgoing<'_>> {
        Some(Outgoing(&mut self.outgoing))
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

pub(crate) struct Incoming<'a>(&'a [u8]);

impl RxToken for Incoming<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(self.0)
    }
}

pub(crate) struct Outgoing<'a>(&'a mut Vec<Vec<u8>>);

impl TxToken for Outgoing<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut packet = alloc::vec![0; len];
        let result = f(&mut packet);
        if packet.len() > IPV6_HEADER_LEN && packet[6] == TCP {
            packet.drain(..IPV6_HEADER_LEN);
            self.0.push(packet);
        }
        result
    }
}
