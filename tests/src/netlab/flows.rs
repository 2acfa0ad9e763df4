//! Owns how a router forgets its flows: the kernel drops every entry of a network namespace's connection tracking.

use rustix::io::Errno;
use rustix::net::netlink::{NETFILTER, SocketAddrNetlink};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, recv, send, socket_with};

/// The argument with which a program of this crate drops the flows of its network namespace, and ends.
pub(super) const ARGUMENT: &str = "--forget-flows";

// linux/netfilter/nfnetlink_conntrack.h, linux/netlink.h
const DELETE: u16 = 0x102;
const REQUEST_AND_ACK: u16 = 5;
const ERROR: u16 = 2;
/// Lengths of a netlink header with what netfilter adds. Unit: bytes.
const HEADER_LEN: u32 = 20;

/// Drops the flows, if the arguments of this process ask for it; never comes back then.
pub(super) fn forget_if_asked() {
    if std::env::args().any(|argument| argument == ARGUMENT) {
        let result = forget();
        if let Err(why) = &result {
            eprintln!("error: flows: {why}");
        }
        std::process::exit(result.is_err().into());
    }
}

/// Drops every flow of this network namespace.
fn forget() -> rustix::io::Result<()> {
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, Some(NETFILTER))?;
    bind(&socket, &SocketAddrNetlink::new(0, 0))?;
    let mut request = HEADER_LEN.to_ne_bytes().to_vec();
    request.extend(DELETE.to_ne_bytes());
    request.extend(REQUEST_AND_ACK.to_ne_bytes());
    request.resize(HEADER_LEN as usize, 0); // sequence, port, any family, version, no number
    send(&socket, &request, SendFlags::empty())?;
    let mut answer = [0; 64];
    let (len, _) = recv(&socket, &mut answer[..], RecvFlags::empty())?;
    let kind = u16::from_ne_bytes([answer[4], answer[5]]);
    let code = i32::from_ne_bytes([answer[16], answer[17], answer[18], answer[19]]);
    match code {
        0 if len >= 20 && kind == ERROR => Ok(()),
        code => Err(Errno::from_raw_os_error(-code)),
    }
}
