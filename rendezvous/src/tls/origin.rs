//! Owns the underlay addresses of clients that come by TCP: of a range from which no datagram comes, and in the same network as
//! each other exactly when the clients are.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// First byte of such an address: the range 100::/8 is reserved by the IETF and given to no network (RFC 4291 §2.4; its first /64
/// discards all packets, RFC 6666).
const RANGE: u8 = 1;
/// Port of such an address, which means nothing.
const PORT: u16 = 443;

/// The address of a client that comes from `ip` by connection `number`. Seven bytes say the network, as limits for each network
/// take it: /24 of IPv4, a hash of the /56 of IPv6.
pub(super) fn origin(ip: IpAddr, number: u32, generation: u32) -> SocketAddr {
    let mut bytes = [0; 16];
    bytes[0] = RANGE;
    match ip.to_canonical() {
        IpAddr::V4(ip) => {
            bytes[1] = 4;
            bytes[2..5].copy_from_slice(&ip.octets()[..3]);
        }
        IpAddr::V6(ip) => {
            bytes[1] = 6;
            // FNV-1a of 64 bits.
            let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
            let hash = ip.octets()[..7].iter().fold(0xcbf2_9ce4_8422_2325, step);
            bytes[2..7].copy_from_slice(&hash.to_be_bytes()[..5]);
        }
    }
    bytes[8..12].copy_from_slice(&number.to_be_bytes());
    bytes[12..].copy_from_slice(&generation.to_be_bytes());
    SocketAddr::new(Ipv6Addr::from(bytes).into(), PORT)
}

/// True for an address that [`origin`] makes, from which no honest UDP datagram comes.
pub(crate) fn is_origin(addr: &SocketAddr) -> bool {
    matches!(addr.ip(), IpAddr::V6(ip) if ip.octets()[0] == RANGE)
}

/// The connection of an address; `None` for one that [`origin`] has not made.
pub(super) fn number(addr: &SocketAddr) -> Option<usize> {
    let IpAddr::V6(ip) = addr.ip() else { return None };
    let [.., a, b, c, d, _, _, _, _] = ip.octets();
    is_origin(addr).then_some(u32::from_be_bytes([a, b, c, d]) as usize)
}

/// The network of an address that [`origin`] has made.
pub(super) fn network(addr: &SocketAddr) -> Option<[u8; 7]> {
    let IpAddr::V6(ip) = addr.ip() else { return None };
    ip.octets().first_chunk().copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_of_one_network_are_of_one_network_and_others_are_not() {
        let of = |ip: &str, number| origin(ip.parse().expect("an address"), number, 7);
        let pairs = [
            ("192.0.2.1", "192.0.2.200", true),
            ("192.0.2.1", "192.0.3.1", false),
            ("::ffff:192.0.2.1", "192.0.2.9", true),
            ("2001:db8::1", "2001:db8:0:ff::2", true),
            ("2001:db8::1", "2001:db8:0:100::1", false),
        ];
        for (a, b, same) in pairs {
            assert_eq!(network(&of(a, 1)) == network(&of(b, 2)), same, "{a} {b}");
            assert_eq!((number(&of(a, 5)), is_origin(&of(a, 5))), (Some(5), true));
        }
        assert_eq!(of("192.0.2.1", 5).to_string(), "[104:c000:200::5:0:7]:443");
        let other = "[2001:db8::1]:443".parse().expect("an address");
        assert!(!is_origin(&other) && number(&other).is_none());
    }
}
