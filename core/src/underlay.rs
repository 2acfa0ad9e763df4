//! Owns the bytes of underlay addresses, as control messages and the trust book hold them: a family byte (0 for none, 4 or
//! 6), the address, the port.

use crate::codec::{Malformed, Put as _, Reader};
use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Appends an optional underlay address.
pub(crate) fn put_endpoint(out: &mut Vec<u8>, endpoint: Option<&SocketAddr>) {
    let Some(endpoint) = endpoint else { return out.put_u8(0) };
    match endpoint.ip() {
        IpAddr::V4(ip) => {
            out.put_u8(4);
            out.put(&ip.octets());
        }
        IpAddr::V6(ip) => {
            out.put_u8(6);
            out.put(&ip.octets());
        }
    }
    out.put_u16(endpoint.port());
}

/// Reads what [`put_endpoint`] wrote.
///
/// # Errors
/// When the family is unknown or the bytes end too early.
pub(crate) fn parse_endpoint(r: &mut Reader<'_>) -> Result<Option<SocketAddr>, Malformed> {
    let ip = match r.u8()? {
        0 => return Ok(None),
        4 => IpAddr::V4(Ipv4Addr::from(r.array::<4>()?)),
        6 => IpAddr::V6(Ipv6Addr::from(r.array::<16>()?)),
        _ => return Err(Malformed),
    };
    Ok(Some(SocketAddr::new(ip, r.u16()?)))
}
