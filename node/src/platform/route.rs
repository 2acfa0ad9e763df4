//! Owns the question of rtnetlink(7) for the gateway on the way to an address.

use super::netlink::{AF_INET6, HEADER_LEN, PART_LEN_MAX, ip_of, next_record};
use rustix::fd::AsFd;
use rustix::io::Result;
use rustix::net::{RecvFlags, SendFlags, recv, send};
use std::net::{IpAddr, SocketAddr, SocketAddrV6};

// Source of these numbers: linux/rtnetlink.h, linux/netlink.h.
const ROUTE_HEADER_LEN: usize = 12;
const RTM_NEWROUTE: u16 = 24;
const RTM_GETROUTE: u16 = 26;
const REQUEST: u16 = 0x1;
const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const AF_INET: u8 = 2;

/// Asks for the machine to which datagrams for `to` go first, with port 0; `None` where no other machine is between.
pub(super) fn gateway(socket: impl AsFd, to: IpAddr) -> Result<Option<SocketAddr>> {
    let (family, dst) = match to {
        IpAddr::V4(ip) => (AF_INET, ip.octets().to_vec()),
        IpAddr::V6(ip) => (AF_INET6, ip.octets().to_vec()),
    };
    let len = HEADER_LEN + ROUTE_HEADER_LEN + 4 + dst.len();
    let mut request = Vec::with_capacity(len);
    request.extend((len as u32).to_ne_bytes());
    request.extend(RTM_GETROUTE.to_ne_bytes());
    request.extend(REQUEST.to_ne_bytes());
    request.extend([0; 8]); // any sequence, from the kernel
    request.extend([family, 8 * dst.len() as u8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    request.extend((4 + dst.len() as u16).to_ne_bytes());
    request.extend(RTA_DST.to_ne_bytes());
    request.extend(dst);
    send(&socket, &request, SendFlags::empty())?;
    let mut answer = vec![0; PART_LEN_MAX];
    let (_, len) = recv(&socket, &mut answer[..], RecvFlags::empty())?;
    Ok(gateway_of(&answer[..len.min(PART_LEN_MAX)]))
}

/// The gateway that an answer names.
fn gateway_of(answer: &[u8]) -> Option<SocketAddr> {
    let (RTM_NEWROUTE, body, _) = next_record(answer, 4, HEADER_LEN)? else { return None };
    let (mut gateway, mut interface) = (None, 0);
    let mut attributes = body.get(ROUTE_HEADER_LEN..)?;
    while let Some((kind, value, rest)) = next_record(attributes, 2, 4) {
        match kind {
            RTA_GATEWAY => gateway = ip_of(value),
            RTA_OIF => interface = u32::from_ne_bytes(value.try_into().ok()?),
            _ => {}
        }
        attributes = rest;
    }
    Some(match gateway? {
        IpAddr::V6(ip) if ip.is_unicast_link_local() => SocketAddrV6::new(ip, 0, 0, interface).into(),
        ip => SocketAddr::new(ip, 0),
    })
}

#[cfg(test)]
mod tests {
    use super::super::netlink::tests::record;
    use super::*;
    use std::net::Ipv6Addr;

    #[test]
    fn the_gateway_of_a_route_is_read() {
        let route = |attributes: &[(u16, &[u8])]| {
            let mut body = vec![0; ROUTE_HEADER_LEN];
            attributes.iter().for_each(|(kind, value)| body.extend(record(2, 4, *kind, value)));
            record(4, HEADER_LEN, RTM_NEWROUTE, &body)
        };
        let interface: (u16, &[u8]) = (RTA_OIF, &3u32.to_ne_bytes());
        let v4 = route(&[(RTA_DST, &[192, 0, 2, 1]), interface, (RTA_GATEWAY, &[10, 0, 0, 1])]);
        assert_eq!(gateway_of(&v4), Some(([10, 0, 0, 1], 0).into()));
        let near = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
        let v6 = gateway_of(&route(&[(RTA_GATEWAY, &near.octets()), interface]));
        assert_eq!(v6, Some(SocketAddrV6::new(near, 0, 0, 3).into()));
        assert_eq!(gateway_of(&route(&[interface])), None, "no machine is between");
        assert_eq!(gateway_of(&record(4, HEADER_LEN, 2, &[0; 20])), None);
        for len in 0..v4.len() {
            assert_eq!(gateway_of(&v4[..len]), None, "{len}");
        }
    }
}
