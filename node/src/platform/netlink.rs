//! Owns the addresses of this machine's interfaces as rtnetlink(7) lists them.

use rustix::fd::AsFd;
use rustix::io::{Errno, Result};
use rustix::net::{RecvFlags, SendFlags, recv, send};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Room for one part of the list. Unit: bytes. Source: netlink(7), the kernel's largest part is 32 KiB.
pub(super) const PART_LEN_MAX: usize = 32 << 10;
/// Most addresses that are read. Source: own choice, far more than are told to peers.
const LISTED_MAX: usize = 256;

// Source of these numbers: linux/netlink.h, linux/rtnetlink.h, linux/if_addr.h.
pub(super) const HEADER_LEN: usize = 16;
const ADDRESS_HEADER_LEN: usize = 8;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const RTM_NEWADDR: u16 = 20;
const RTM_GETADDR: u16 = 22;
const REQUEST_OF_ALL: u16 = 0x301;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_FLAGS: u16 = 8;
pub(super) const AF_INET6: u8 = 10;
const IFA_F_TEMPORARY: u32 = 0x01;
/// A duplicate of another machine's address, one that is not for new connections, and one that is being checked.
const IFA_F_UNUSABLE: u32 = 0x08 | 0x20 | 0x40;

/// An address of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Listed {
    ip: IpAddr,
    interface: u32,
    is_temporary: bool,
}

/// Asks for the addresses of all interfaces that may be used with the interfaces' numbers, temporary ones first (RFC 8981).
pub(super) fn addresses(socket: impl AsFd) -> Result<Vec<(IpAddr, u32)>> {
    let mut request = Vec::with_capacity(HEADER_LEN + ADDRESS_HEADER_LEN);
    request.extend(((HEADER_LEN + ADDRESS_HEADER_LEN) as u32).to_ne_bytes());
    request.extend(RTM_GETADDR.to_ne_bytes());
    request.extend(REQUEST_OF_ALL.to_ne_bytes());
    request.extend([0; 8 + ADDRESS_HEADER_LEN]); // any sequence, from the kernel, every family
    send(&socket, &request, SendFlags::empty())?;
    let (mut listed, mut part) = (Vec::new(), vec![0; PART_LEN_MAX]);
    loop {
        match recv(&socket, &mut part[..], RecvFlags::empty()) {
            Ok((_, len)) => {
                if take_part(&part[..len.min(PART_LEN_MAX)], &mut listed) {
                    break;
                }
            }
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => break, // the kernel answers at once, so this is all
            Err(e) => return Err(e),
        }
    }
    let (temporary, others): (Vec<_>, Vec<_>) = listed.into_iter().partition(|listed| listed.is_temporary);
    Ok(temporary.into_iter().chain(others).map(|listed| (listed.ip, listed.interface)).collect())
}

/// Takes the addresses of one part of the list; true when it was the last part.
fn take_part(mut part: &[u8], listed: &mut Vec<Listed>) -> bool {
    while let Some((kind, body, rest)) = next_record(part, 4, HEADER_LEN) {
        match kind {
            NLMSG_DONE | NLMSG_ERROR => return true,
            RTM_NEWADDR if listed.len() < LISTED_MAX => listed.extend(address(body)),
            _ => {}
        }
        part = rest;
    }
    false
}

/// Splits off a record: its kind, what follows its header, and the other records.
pub(super) fn next_record(bytes: &[u8], len_len: usize, header_len: usize) -> Option<(u16, &[u8], &[u8])> {
    let len = match *bytes.get(..len_len)? {
        [a, b] => usize::from(u16::from_ne_bytes([a, b])),
        [a, b, c, d] => u32::from_ne_bytes([a, b, c, d]) as usize,
        _ => return None,
    };
    let body = bytes.get(header_len..len)?;
    let kind = u16::from_ne_bytes([*bytes.get(len_len)?, *bytes.get(len_len + 1)?]);
    Some((kind, body, bytes.get(len.next_multiple_of(4)..).unwrap_or_default()))
}

/// The address of a message; `None` for one that may not be used.
fn address(body: &[u8]) -> Option<Listed> {
    let interface = u32::from_ne_bytes(body.get(4..8)?.try_into().ok()?);
    let (family, mut flags) = (*body.first()?, u32::from(*body.get(2)?));
    let (mut local, mut other) = (None, None);
    let mut attributes = body.get(ADDRESS_HEADER_LEN..)?;
    while let Some((kind, value, rest)) = next_record(attributes, 2, 4) {
        match kind {
            IFA_LOCAL => local = ip_of(value),
            // On a line between two machines this is the other machine, and IFA_LOCAL tells this one's.
            IFA_ADDRESS => other = ip_of(value),
            IFA_FLAGS => flags = u32::from_ne_bytes(value.try_into().ok()?),
            _ => {}
        }
        attributes = rest;
    }
    let is_temporary = family == AF_INET6 && flags & IFA_F_TEMPORARY != 0;
    (flags & IFA_F_UNUSABLE == 0).then_some(Listed { ip: local.or(other)?, interface, is_temporary })
}

pub(super) fn ip_of(value: &[u8]) -> Option<IpAddr> {
    match value.len() {
        4 => Some(Ipv4Addr::from(<[u8; 4]>::try_from(value).ok()?).into()),
        16 => Some(Ipv6Addr::from(<[u8; 16]>::try_from(value).ok()?).into()),
        _ => None,
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::platform) fn record(len_len: usize, header_len: usize, kind: u16, body: &[u8]) -> Vec<u8> {
        let len = header_len + body.len();
        let mut bytes =
            if len_len == 2 { (len as u16).to_ne_bytes().to_vec() } else { (len as u32).to_ne_bytes().to_vec() };
        bytes.extend(kind.to_ne_bytes());
        bytes.resize(header_len, 0);
        bytes.extend(body);
        bytes.resize(len.next_multiple_of(4), 0);
        bytes
    }

    fn message(family: u8, flags: u32, attributes: &[(u16, &[u8])]) -> Vec<u8> {
        let mut body = vec![family, 24, flags as u8, 0];
        body.extend(7u32.to_ne_bytes());
        attributes.iter().for_each(|(kind, value)| body.extend(record(2, 4, *kind, value)));
        body.extend(record(2, 4, IFA_FLAGS, &flags.to_ne_bytes()));
        record(4, HEADER_LEN, RTM_NEWADDR, &body)
    }

    #[test]
    fn usable_addresses_are_taken_from_the_list() {
        let v6 = |last: u8| Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, u16::from(last));
        let mut part = message(2, 0x80, &[(IFA_ADDRESS, &[10, 0, 0, 2]), (IFA_LOCAL, &[10, 0, 0, 1])]);
        part.extend(message(AF_INET6, 0x80, &[(IFA_ADDRESS, &v6(1).octets())]));
        part.extend(message(AF_INET6, IFA_F_TEMPORARY, &[(IFA_ADDRESS, &v6(2).octets())]));
        for unusable in [0x08, 0x20, 0x40] {
            part.extend(message(AF_INET6, unusable, &[(IFA_ADDRESS, &v6(3).octets())]));
        }
        part.extend(message(2, 0x80, &[(IFA_ADDRESS, &[1, 2, 3])]));
        let mut listed = Vec::new();
        assert!(!take_part(&part, &mut listed));
        let of = |ip: IpAddr, is_temporary| Listed { ip, interface: 7, is_temporary };
        assert_eq!(listed, [of([10, 0, 0, 1].into(), false), of(v6(1).into(), false), of(v6(2).into(), true)]);
        assert!(take_part(&record(4, HEADER_LEN, NLMSG_DONE, &[]), &mut listed));
        // Cut anywhere, the list is shorter, and nothing else happens.
        for len in 0..part.len() {
            let mut cut = Vec::new();
            take_part(&part[..len], &mut cut);
            assert!(listed.starts_with(&cut));
        }
        for byte in 0..=255 {
            take_part(&[byte; 64], &mut listed);
        }
    }

    #[test]
    fn listed_addresses_have_a_maximum() {
        let one = message(2, 0, &[(IFA_LOCAL, &[10, 0, 0, 1])]);
        let mut listed = Vec::new();
        for _ in 0..LISTED_MAX + 5 {
            take_part(&one, &mut listed);
        }
        assert_eq!(listed.len(), LISTED_MAX);
    }
}
