//! Owns the header of the PROXY protocol, version 2, by which a server learns its client's address before the first byte.
//!
//! A node's address stands in it as the IPv6 address that also stands for it inside a tunnel ([`pilot_core::Addr::to_ipv6`]):
//! `fd50:494c:4f54::` with the 48 bits of the address behind it. The ports are those of the stream.

use pilot_core::AddrPort;

/// The twelve bytes that begin the header.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// Version 2, and the command PROXY.
const VERSION_AND_COMMAND: u8 = 0x21;
/// TCP over IPv6.
const TCP6: u8 = 0x21;
/// The peer's fingerprint, as text. The protocol leaves 0xE0 to 0xEF to applications.
pub(crate) const TLV_FINGERPRINT: u8 = 0xe0;
/// The peer's name, as text.
pub(crate) const TLV_NAME: u8 = 0xe1;

/// The header of a stream from `peer` to `local`.
pub(crate) fn header(peer: AddrPort, local: AddrPort, fingerprint: &str, name: &str) -> Vec<u8> {
    let mut body = Vec::with_capacity(128);
    body.extend_from_slice(&peer.addr.to_ipv6().octets());
    body.extend_from_slice(&local.addr.to_ipv6().octets());
    body.extend_from_slice(&peer.port.to_be_bytes());
    body.extend_from_slice(&local.port.to_be_bytes());
    for (kind, text) in [(TLV_FINGERPRINT, fingerprint), (TLV_NAME, name)] {
        debug_assert!(text.len() <= 255, "fingerprints and names are short");
        body.push(kind);
        body.extend_from_slice(&(text.len() as u16).to_be_bytes());
        body.extend_from_slice(text.as_bytes());
    }
    let mut header = SIGNATURE.to_vec();
    header.extend_from_slice(&[VERSION_AND_COMMAND, TCP6]);
    header.extend_from_slice(&(body.len() as u16).to_be_bytes());
    header.extend_from_slice(&body);
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_has_these_bytes() {
        let peer: AddrPort = "0:0000.0001.F00D:49152".parse().expect("address");
        let local: AddrPort = "2:0002.0000.0007:443".parse().expect("address");
        let expected =
            [
                &[
                    0x0d,
                    0x0a,
                    0x0d,
                    0x0a,
                    0x00,
                    0x0d,
                    0x0a,
                    0x51,
                    0x55,
                    0x49,
                    0x54,
                    0x0a,
                    0x21,
                    0x21,
                    0x00,
                    36 + 10 + 14,
                ][..],
                &[0xfd, 0x50, 0x49, 0x4c, 0x4f, 0x54, 0, 0, 0, 0, 0, 0, 0x00, 0x01, 0xf0, 0x0d],
                &[0xfd, 0x50, 0x49, 0x4c, 0x4f, 0x54, 0, 0, 0, 0, 0, 2, 0x00, 0x00, 0x00, 0x07],
                &[0xc0, 0x00, 0x01, 0xbb],
                &[0xe0, 0x00, 0x07],
                b"ab-cdef",
                &[0xe1, 0x00, 0x0b],
                b"worker-node",
            ]
            .concat();
        assert_eq!(header(peer, local, "ab-cdef", "worker-node"), expected);
    }
}
