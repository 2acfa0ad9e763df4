//! Owns the bytes of the Port Control Protocol (RFC 6887) and of NAT-PMP (RFC 6886): requests for a mapping of one UDP port, and
//! what a gateway says.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Longest datagram of either protocol. Unit: bytes. Source: RFC 6887 §7.
pub(super) const DATAGRAM_LEN_MAX: usize = 1100;
/// The number of UDP among the protocols of IP, and in NAT-PMP.
const UDP: u8 = 17;
const NAT_PMP_UDP: u8 = 1;
const NAT_PMP_ADDRESS: u8 = 0;
/// Versions of the protocols, and the bit of an answer.
const PCP: u8 = 2;
const NAT_PMP: u8 = 0;
const ANSWER: u8 = 0x80;
const PCP_ANNOUNCE: u8 = 0;
const PCP_MAP: u8 = 1;
/// The result of both protocols for a version that the gateway does not speak.
pub(super) const UNSUPPORTED_VERSION: u16 = 1;

/// What names one mapping in PCP, and proves that an answer is to this node's question.
pub(super) type Nonce = [u8; 12];

/// A wish for a mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wish {
    /// The address from which the request comes, and the port that is to be reached there.
    pub(super) client: SocketAddr,
    pub(super) nonce: Nonce,
    /// The external address to be given, if it is free.
    pub(super) suggested: SocketAddr,
    /// Unit: seconds. 0 ends the mapping.
    pub(super) lifetime_s: u32,
}

/// What a gateway says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// PCP: an answer to a [`Wish`].
    Mapped { result: u8, lifetime_s: u32, epoch_s: u32, mapping: Option<(Nonce, u16, SocketAddr)> },
    /// PCP: the gateway has begun anew, or changed.
    Announced { epoch_s: u32 },
    /// NAT-PMP: the gateway's external address; unasked after it has begun anew.
    Address { epoch_s: u32, ip: Ipv4Addr },
    /// NAT-PMP: the port `external` leads to `internal`.
    Port { epoch_s: u32, internal: u16, external: u16, lifetime_s: u32 },
    /// NAT-PMP: the gateway refuses, or speaks no other version.
    Refused { result: u16 },
}

/// The request of PCP.
pub(super) fn pcp_request(wish: &Wish) -> Vec<u8> {
    let mut bytes = vec![PCP, PCP_MAP, 0, 0];
    bytes.extend(wish.lifetime_s.to_be_bytes());
    bytes.extend(in_ipv6(wish.client.ip()).octets());
    bytes.extend(wish.nonce);
    bytes.extend([UDP, 0, 0, 0]);
    bytes.extend(wish.client.port().to_be_bytes());
    bytes.extend(wish.suggested.port().to_be_bytes());
    bytes.extend(in_ipv6(wish.suggested.ip()).octets());
    debug_assert_eq!(bytes.len(), 60, "RFC 6887 §7.1, §11.1");
    bytes
}

/// The question of NAT-PMP for the external address.
pub(super) fn nat_pmp_question() -> Vec<u8> {
    vec![NAT_PMP, NAT_PMP_ADDRESS]
}

/// The request of NAT-PMP.
pub(super) fn nat_pmp_request(internal: u16, suggested: u16, lifetime_s: u32) -> Vec<u8> {
    let mut bytes = vec![NAT_PMP, NAT_PMP_UDP, 0, 0];
    bytes.extend(internal.to_be_bytes());
    bytes.extend(suggested.to_be_bytes());
    bytes.extend(lifetime_s.to_be_bytes());
    debug_assert_eq!(bytes.len(), 12, "RFC 6886 §3.3");
    bytes
}

/// Reads what a gateway sent; `None` for anything else.
pub(super) fn parse(bytes: &[u8]) -> Option<Heard> {
    if bytes.len() > DATAGRAM_LEN_MAX || bytes.get(1)? & ANSWER == 0 {
        return None;
    }
    match (bytes[0], bytes[1] & !ANSWER) {
        (PCP, PCP_ANNOUNCE) if bytes.len() >= 24 && bytes[3] == 0 => {
            Some(Heard::Announced { epoch_s: u32_at(bytes, 8)? })
        }
        (PCP, PCP_MAP) => Some(Heard::Mapped {
            result: bytes[..24.min(bytes.len())].get(3).copied()?,
            lifetime_s: u32_at(bytes, 4)?,
            epoch_s: u32_at(bytes, 8)?,
            mapping: pcp_mapping(bytes),
        }),
        (NAT_PMP, _) if u16_at(bytes, 2)? != 0 => Some(Heard::Refused { result: u16_at(bytes, 2)? }),
        (NAT_PMP, NAT_PMP_ADDRESS) => {
            Some(Heard::Address { epoch_s: u32_at(bytes, 4)?, ip: Ipv4Addr::from(u32_at(bytes, 8)?) })
        }
        (NAT_PMP, NAT_PMP_UDP) => Some(Heard::Port {
            epoch_s: u32_at(bytes, 4)?,
            internal: u16_at(bytes, 8)?,
            external: u16_at(bytes, 10)?,
            lifetime_s: u32_at(bytes, 12)?,
        }),
        _ => None,
    }
}

/// The mapping of UDP that an answer of PCP names: its nonce, the port inside, and the address outside.
fn pcp_mapping(bytes: &[u8]) -> Option<(Nonce, u16, SocketAddr)> {
    let body = bytes.get(24..60)?;
    let ip = Ipv6Addr::from(<[u8; 16]>::try_from(&body[20..36]).ok()?);
    let external = SocketAddr::new(IpAddr::V6(ip).to_canonical(), u16_at(body, 18)?);
    (body[12] == UDP).then_some((body[..12].try_into().ok()?, u16_at(body, 16)?, external))
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// The form of an address in PCP (RFC 6887 §5).
fn in_ipv6(ip: IpAddr) -> Ipv6Addr {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    }
}

/// Answers as gateways give them, for tests.
#[cfg(test)]
pub(super) mod answers {
    use super::*;

    /// PCP's answer to a request.
    pub(in crate::mapping) fn pcp(
        request: &[u8],
        result: u8,
        (lifetime_s, epoch_s): (u32, u32),
        external: SocketAddr,
    ) -> Vec<u8> {
        let mut bytes = vec![PCP, request[1] | ANSWER, 0, result];
        bytes.extend(lifetime_s.to_be_bytes());
        bytes.extend(epoch_s.to_be_bytes());
        bytes.extend([0; 12]);
        bytes.extend(&request[24..42]);
        bytes.extend(external.port().to_be_bytes());
        bytes.extend(in_ipv6(external.ip()).octets());
        bytes
    }

    /// PCP's news of a gateway that has begun anew.
    pub(in crate::mapping) fn announcement(epoch_s: u32) -> Vec<u8> {
        let mut bytes = vec![PCP, PCP_ANNOUNCE | ANSWER, 0, 0, 0, 0, 0, 0];
        bytes.extend(epoch_s.to_be_bytes());
        bytes.extend([0; 12]);
        bytes
    }

    /// NAT-PMP's answers to both questions.
    pub(in crate::mapping) fn nat_pmp(
        internal: u16,
        (lifetime_s, epoch_s): (u32, u32),
        (ip, external): (Ipv4Addr, u16),
    ) -> [Vec<u8>; 2] {
        let mut address = vec![NAT_PMP, NAT_PMP_ADDRESS | ANSWER, 0, 0];
        address.extend(epoch_s.to_be_bytes());
        address.extend(ip.octets());
        let mut port = vec![NAT_PMP, NAT_PMP_UDP | ANSWER, 0, 0];
        port.extend(epoch_s.to_be_bytes());
        port.extend(internal.to_be_bytes());
        port.extend(external.to_be_bytes());
        port.extend(lifetime_s.to_be_bytes());
        [address, port]
    }

    /// The answer of a gateway that speaks NAT-PMP only.
    pub(in crate::mapping) fn unsupported() -> Vec<u8> {
        vec![NAT_PMP, PCP_MAP | ANSWER, 0, UNSUPPORTED_VERSION as u8, 0, 0, 0, 9]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish() -> Wish {
        Wish {
            client: "192.168.1.2:5000".parse().expect("one"),
            nonce: *b"abcdefghijkl",
            suggested: "0.0.0.0:5000".parse().expect("one"),
            lifetime_s: 7200,
        }
    }

    #[test]
    fn requests_have_the_bytes_of_the_protocols() {
        let mut pcp = vec![2, 1, 0, 0, 0, 0, 0x1c, 0x20];
        pcp.extend([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 168, 1, 2]);
        pcp.extend(b"abcdefghijkl");
        pcp.extend([17, 0, 0, 0, 0x13, 0x88, 0x13, 0x88]);
        pcp.extend([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 0, 0]);
        assert_eq!(pcp_request(&wish()), pcp);
        assert_eq!(nat_pmp_question(), [0, 0]);
        assert_eq!(nat_pmp_request(5000, 6000, 7200), [0, 1, 0, 0, 0x13, 0x88, 0x17, 0x70, 0, 0, 0x1c, 0x20]);
    }

    #[test]
    fn answers_are_read_and_what_is_cut_or_no_answer_is_not() {
        let external = "203.0.113.9:6000".parse().expect("one");
        let pcp = answers::pcp(&pcp_request(&wish()), 0, (3600, 77), external);
        let mapping = Some((wish().nonce, 5000, external));
        assert_eq!(parse(&pcp), Some(Heard::Mapped { result: 0, lifetime_s: 3600, epoch_s: 77, mapping }));
        let [address, port] = answers::nat_pmp(5000, (3600, 7), ([203, 0, 113, 9].into(), 6000));
        assert_eq!(parse(&address), Some(Heard::Address { epoch_s: 7, ip: [203, 0, 113, 9].into() }));
        assert_eq!(parse(&port), Some(Heard::Port { epoch_s: 7, internal: 5000, external: 6000, lifetime_s: 3600 }));
        assert_eq!(parse(&answers::unsupported()), Some(Heard::Refused { result: UNSUPPORTED_VERSION }));
        assert_eq!(parse(&answers::announcement(5)), Some(Heard::Announced { epoch_s: 5 }));
        for whole in [&pcp, &address, &port] {
            for len in 0..whole.len() {
                let heard = parse(&whole[..len]);
                assert!(matches!(heard, None | Some(Heard::Mapped { mapping: None, .. })), "{len}: {heard:?}");
            }
        }
        assert_eq!(parse(&pcp_request(&wish())), None, "a question");
        assert_eq!(parse(&[vec![2, 0x81], vec![0; DATAGRAM_LEN_MAX]].concat()), None, "too long");
        assert!((0..=255).filter_map(|byte| parse(&[byte; 60])).count() < 3, "noise is hardly ever an answer");
    }
}
