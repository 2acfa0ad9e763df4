//! Owns the blocks of a pcapng file, as the Internet draft `draft-ietf-opsawg-pcapng` has them, in little-endian order.
//!
//! ```text
//!   | type 4 | length 4 | body, padded to 4 | length 4 |
//! ```
//! A file has a section header, one interface for all peers, names of peers, packets, and statistics of the interface.

use std::net::Ipv6Addr;

const SECTION_HEADER: u32 = 0x0a0d_0d0a;
const INTERFACE_DESCRIPTION: u32 = 1;
const NAME_RESOLUTION: u32 = 4;
const INTERFACE_STATISTICS: u32 = 5;
const ENHANCED_PACKET: u32 = 6;

/// The packets begin with their IPv6 or IPv4 header. Source: the list of link types of tcpdump, LINKTYPE_RAW.
const LINKTYPE_RAW: u16 = 101;
/// A name resolution record of an IPv6 address.
const NAME_RECORD_IPV6: u16 = 2;

/// Numbers of options: two of several blocks, then those of one block each.
const END: u16 = 0;
const SECTION_PROGRAM: u16 = 4;
const INTERFACE_NAME: u16 = 2;
const INTERFACE_ABOUT: u16 = 3;
const PACKET_FLAGS: u16 = 2;
const STATISTICS_RECEIVED: u16 = 4;
const STATISTICS_DROPPED: u16 = 5;

/// Bytes of a packet's block besides the packet.
pub(crate) const PACKET_OVERHEAD: usize = 44;

/// Appends a block, of which `body` writes the body.
fn block(out: &mut Vec<u8>, kind: u32, body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&kind.to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    body(out);
    pad(out, start);
    let len = (out.len() - start + 4) as u32;
    out[start + 4..start + 8].copy_from_slice(&len.to_le_bytes());
    out.extend_from_slice(&len.to_le_bytes());
}

/// Pads what lies behind `start` to whole words.
fn pad(out: &mut Vec<u8>, start: usize) {
    out.resize(start + (out.len() - start).next_multiple_of(4), 0);
}

fn option(out: &mut Vec<u8>, number: u16, value: &[u8]) {
    let start = out.len();
    out.extend_from_slice(&number.to_le_bytes());
    out.extend_from_slice(&(value.len() as u16).to_le_bytes());
    out.extend_from_slice(value);
    pad(out, start);
}

/// A moment since 1970 in microseconds, the usual unit of a file, as two words.
fn time(out: &mut Vec<u8>, at_us: u64) {
    out.extend_from_slice(&((at_us >> 32) as u32).to_le_bytes());
    out.extend_from_slice(&(at_us as u32).to_le_bytes());
}

/// Begins a file, with an interface of this name, at most 63 bytes, and a line about it.
pub(crate) fn begin(out: &mut Vec<u8>, name: &str, about: &str) {
    block(out, SECTION_HEADER, |out| {
        out.extend_from_slice(&0x1a2b_3c4du32.to_le_bytes());
        out.extend_from_slice(&[1, 0, 0, 0]); // version 1.0
        out.extend_from_slice(&u64::MAX.to_le_bytes()); // the section's length is not known
        option(out, SECTION_PROGRAM, concat!("pilotctl ", env!("CARGO_PKG_VERSION")).as_bytes());
        option(out, END, b"");
    });
    block(out, INTERFACE_DESCRIPTION, |out| {
        out.extend_from_slice(&LINKTYPE_RAW.to_le_bytes());
        out.extend_from_slice(&[0; 6]); // reserved; packets are whole, whatever their length
        option(out, INTERFACE_NAME, name.as_bytes());
        option(out, INTERFACE_ABOUT, about.as_bytes());
        option(out, END, b"");
    });
}

/// Names an address, so that it is shown by its name.
pub(crate) fn name(out: &mut Vec<u8>, addr: Ipv6Addr, name: &str) {
    block(out, NAME_RESOLUTION, |out| {
        let value = [&addr.octets()[..], name.as_bytes(), &[0]].concat();
        option(out, NAME_RECORD_IPV6, &value);
        option(out, END, b""); // ends the records
    });
}

/// Appends a packet of `len` bytes that `write` writes. `is_out`: it left this node.
pub(crate) fn packet(out: &mut Vec<u8>, at_us: u64, is_out: bool, len: usize, write: impl FnOnce(&mut Vec<u8>)) {
    block(out, ENHANCED_PACKET, |out| {
        out.extend_from_slice(&0u32.to_le_bytes()); // the interface
        time(out, at_us);
        out.extend_from_slice(&(len as u32).to_le_bytes());
        out.extend_from_slice(&(len as u32).to_le_bytes());
        let start = out.len();
        write(out);
        debug_assert_eq!(out.len() - start, len, "the packet has the length that was said");
        pad(out, start);
        let direction: u32 = if is_out { 2 } else { 1 };
        option(out, PACKET_FLAGS, &direction.to_le_bytes());
        option(out, END, b"");
    });
}

/// Tells how many packets were seen so far, and how many of them are missing in the file.
pub(crate) fn statistics(out: &mut Vec<u8>, at_us: u64, seen: u64, dropped: u64) {
    block(out, INTERFACE_STATISTICS, |out| {
        out.extend_from_slice(&0u32.to_le_bytes()); // the interface
        time(out, at_us);
        option(out, STATISTICS_RECEIVED, &seen.to_le_bytes());
        option(out, STATISTICS_DROPPED, &dropped.to_le_bytes());
        option(out, END, b"");
    });
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    fn word(bytes: &[u8], at: usize) -> u32 {
        u32::from_le_bytes(*bytes[at..].first_chunk().expect("a word"))
    }

    /// The kinds and bodies of the blocks of a file, which has nothing else.
    pub(crate) fn blocks(mut file: &[u8]) -> Vec<(u32, Vec<u8>)> {
        let mut blocks = Vec::new();
        while !file.is_empty() {
            let (kind, len) = (word(file, 0), word(file, 4) as usize);
            assert_eq!((len % 4, word(file, len - 4) as usize), (0, len), "block {kind:#x}");
            blocks.push((kind, file[8..len - 4].to_vec()));
            file = &file[len..];
        }
        blocks
    }

    #[test]
    fn a_file_has_the_blocks_and_fields_that_the_draft_asks_for() {
        let mut file = Vec::new();
        begin(&mut file, "pilot:node-a", "inner packets");
        name(&mut file, Ipv6Addr::LOCALHOST, "node-b");
        packet(&mut file, 0x5_0000_0007, true, 5, |out| out.extend_from_slice(b"hello"));
        statistics(&mut file, 9, 3, 2);
        let blocks = blocks(&file);
        let kinds: Vec<u32> = blocks.iter().map(|(kind, _)| *kind).collect();
        let expected = [SECTION_HEADER, INTERFACE_DESCRIPTION, NAME_RESOLUTION, ENHANCED_PACKET, INTERFACE_STATISTICS];
        assert_eq!(kinds, expected);
        let [(_, section), (_, interface), (_, name), (_, packet), (_, statistics)] = &blocks[..] else { panic!() };
        assert_eq!((word(section, 0), word(section, 4), word(section, 8)), (0x1a2b_3c4d, 1, u32::MAX));
        assert_eq!((word(interface, 0), word(interface, 4)), (101, 0));
        assert!(interface.windows(12).any(|bytes| bytes == b"pilot:node-a"));
        assert_eq!(name[..4], [2, 0, 23, 0], "an address and a name with its end");
        assert_eq!(name[20..27], *b"node-b\0");
        let head: Vec<u32> = (0..5).map(|at| word(packet, 4 * at)).collect();
        assert_eq!(head, [0, 5, 7, 5, 5], "interface, time, lengths");
        assert_eq!(packet[20..28], *b"hello\0\0\0");
        assert_eq!((word(packet, 28), word(packet, 32)), (4 << 16 | 2, 2), "outbound");
        assert_eq!(packet.len() + 12, PACKET_OVERHEAD + 8);
        assert_eq!((word(statistics, 12), word(statistics, 16)), (8 << 16 | 4, 3));
        assert_eq!((word(statistics, 24), word(statistics, 28)), (8 << 16 | 5, 2));
    }
}
