//! Owns the IPv6 form of inner packets. Headers that the tunnel implies, and checksums that it makes needless, are filled in here.

use pilot_core::tap::{Direction, Form, Tapped};
use std::net::Ipv6Addr;

/// Bytes of an IPv6 header (RFC 8200 §3).
const IPV6_HEADER_LEN: usize = 40;
/// Bytes of a UDP header (RFC 768).
const UDP_HEADER_LEN: usize = 8;
/// IPv6 next-header values.
const TCP: u8 = 6;
const UDP: u8 = 17;

/// Writes a packet between this node and a peer as IPv6: segments as TCP, inner datagrams as UDP.
pub(crate) fn emit(out: &mut Vec<u8>, tapped: &Tapped<'_>, own: Ipv6Addr, peer: Ipv6Addr) {
    let (source, destination) = if tapped.direction == Direction::Out { (own, peer) } else { (peer, own) };
    // Inner packets are shorter than a datagram of the underlay, so their lengths fit.
    let (protocol, checksum_at, len) = match tapped.form {
        Form::Segment => (TCP, 16, tapped.bytes.len()),
        Form::Datagram => (UDP, 6, tapped.bytes.len() + UDP_HEADER_LEN - 4),
    };
    out.extend_from_slice(&[0x60, 0, 0, 0]);
    out.extend_from_slice(&(len as u16).to_be_bytes());
    out.extend_from_slice(&[protocol, 64]);
    out.extend_from_slice(&source.octets());
    out.extend_from_slice(&destination.octets());
    let payload = out.len();
    match (tapped.form, tapped.bytes.split_at_checked(4)) {
        (Form::Datagram, Some((ports, data))) => {
            out.extend_from_slice(ports);
            out.extend_from_slice(&(len as u16).to_be_bytes());
            out.extend_from_slice(&[0, 0]);
            out.extend_from_slice(data);
        }
        _ => out.extend_from_slice(tapped.bytes),
    }
    let addresses = payload - 32;
    if let Some(field) = out.get_mut(payload + checksum_at..payload + checksum_at + 2) {
        field.fill(0);
        // The pseudo-header: addresses, length, next header (RFC 8200 §8.1).
        let sum = sum(&out[addresses..]) + len as u64 + u64::from(protocol);
        let checksum = match !fold(sum) {
            0 if protocol == UDP => 0xffff,
            checksum => checksum,
        };
        out[payload + checksum_at..payload + checksum_at + 2].copy_from_slice(&checksum.to_be_bytes());
    }
}

/// Length of the packet that [`emit`] writes.
pub(crate) const fn len(tapped: &Tapped<'_>) -> usize {
    let more = match tapped.form {
        Form::Segment => 0,
        Form::Datagram => UDP_HEADER_LEN - 4,
    };
    IPV6_HEADER_LEN + more + tapped.bytes.len()
}

/// Ports of the sender and of the receiver.
pub(crate) fn ports(bytes: &[u8]) -> Option<(u16, u16)> {
    let [a, b, c, d] = *bytes.first_chunk()?;
    Some((u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])))
}

/// The sum of 16-bit words (RFC 1071), not folded yet; a last odd byte counts as the upper half of a word.
fn sum(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<2>();
    let sum: u64 = words.iter().map(|word| u64::from(u16::from_be_bytes(*word))).sum();
    sum + rest.first().map_or(0, |byte| u64::from(*byte) << 8)
}

const fn fold(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::Lab;
    use pilot_core::Instant;

    fn tapped(direction: Direction, form: Form, bytes: &[u8]) -> Tapped<'_> {
        let peer = Lab::friends(2).nodes[0].stack.endpoint().peers().next().expect("a peer");
        Tapped { at: Instant::ZERO, peer, direction, form, bytes }
    }

    /// A receiver adds everything up, the checksum included, and gets all ones.
    fn is_valid(packet: &[u8]) -> bool {
        let (len, protocol) = (packet.len() as u64 - 40, u64::from(packet[6]));
        fold(sum(&packet[8..]) + len + protocol) == 0xffff
    }

    #[test]
    fn packets_get_their_addresses_and_valid_checksums() {
        let (own, peer): (Ipv6Addr, Ipv6Addr) = ("fd00::1".parse().expect("one"), "fd00::2".parse().expect("one"));
        let mut segment = vec![0; 20];
        segment[..4].copy_from_slice(&[3, 232, 192, 1]);
        segment[12] = 5 << 4;
        for len in 0..5 {
            segment.resize(20 + len, 0xe1);
            for (direction, form) in
                [(Direction::In, Form::Segment), (Direction::Out, Form::Segment), (Direction::Out, Form::Datagram)]
            {
                let (mut out, tapped) = (Vec::new(), tapped(direction, form, &segment));
                emit(&mut out, &tapped, own, peer);
                assert!(is_valid(&out), "{form:?} {len}");
                assert_eq!(out.len(), super::len(&tapped));
                let (source, destination) = if direction == Direction::Out { (own, peer) } else { (peer, own) };
                assert_eq!((&out[8..24], &out[24..40]), (&source.octets()[..], &destination.octets()[..]));
                assert_eq!(usize::from(out[4]) << 8 | usize::from(out[5]), out.len() - 40);
                assert_eq!(ports(&out[40..]), Some((1000, 49153)));
                assert_eq!(out[out.len() - len..], segment[20..], "the payload is last");
            }
        }
    }

    #[test]
    fn packets_that_are_too_short_for_their_form_do_no_harm() {
        for len in 0..20 {
            for form in [Form::Segment, Form::Datagram] {
                let bytes = vec![7; len];
                emit(&mut Vec::new(), &tapped(Direction::In, form, &bytes), Ipv6Addr::LOCALHOST, Ipv6Addr::LOCALHOST);
            }
        }
    }
}
