//! Owns datagram ports: a SOCK_SEQPACKET descriptor on which each packet begins with the address of the other end.

use crate::error::{Fault, bytes, guarded, pilot_error, room};
use crate::node::NodeObject;
use crate::peer::{given, out, pilot_peer};
use crate::table::{Used, get, pilot_handle};
use pilot_node::answer::Bound;
use pilot_node::{Addr, AddrPort, Request};
use rustix::net::{RecvAncillaryBuffer, RecvFlags, SendAncillaryBuffer, SendFlags, recvmsg, sendmsg};
use std::ffi::c_int;
use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{BorrowedFd, IntoRawFd as _, OwnedFd};
use std::time::Duration;

/// Length of a packet's head: address and port of the other end. Unit: bytes.
const HEAD_LEN: usize = 8;
const OPEN_TIMEOUT: Duration = Duration::from_secs(60);

/// Opens a port for datagrams (0: any free one) and returns its descriptor. The caller closes the descriptor, which frees the
/// port. The descriptor is a SOCK_SEQPACKET socket, blocking, close-on-exec, for poll, pilot_datagram_send and
/// pilot_datagram_recv. *port_out (or NULL) gets the port. A peer reaches the port when it was granted the port, or has been
/// sent a datagram from it.
/// Any thread. PILOT_E_CONFLICT (the port is bound), PILOT_E_FULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pilot_datagram_open(
    node: pilot_handle,
    port: u16,
    port_out: *mut u16,
    error: *mut pilot_error,
) -> c_int {
    guarded(error, || {
        let node: Used<NodeObject> = get(node)?;
        let reply = node.client()?.request(&Request::Datagrams { port }, &[], Some(OPEN_TIMEOUT))?;
        let bound: Bound = reply.read()?;
        let fd = reply.fd.ok_or_else(|| Fault::invalid("the node gave no descriptor"))?;
        // SAFETY: NULL or valid, by the header.
        if let Some(out) = unsafe { port_out.as_mut() } {
            *out = bound.port;
        }
        Ok(OwnedFd::into_raw_fd(fd))
    })
}

/// # Safety
/// The header promises an open descriptor.
unsafe fn borrow<'a>(fd: c_int) -> Result<BorrowedFd<'a>, Fault> {
    if fd < 0 {
        return Err(Fault::invalid("a descriptor is not negative"));
    }
    // SAFETY: not negative; every call on what is no descriptor fails with EBADF.
    Ok(unsafe { BorrowedFd::borrow_raw(fd) })
}

/// Sends a datagram to the address and port in *to. Datagrams may be lost, and one too long for the path is lost: 1100 bytes
/// always fit; the node finds paths that carry more while streams move data. Blocks as the descriptor says, which is rare.
/// Returns 0.
/// Any thread. PILOT_E_INVALID, PILOT_E_WOULD_BLOCK (a non-blocking descriptor), PILOT_E_CLOSED (no descriptor),
/// PILOT_E_RESET (the node has ended).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pilot_datagram_send(
    fd: c_int,
    to: *const pilot_peer,
    data: *const u8,
    len: usize,
    error: *mut pilot_error,
) -> c_int {
    guarded(error, || {
        // SAFETY: NULL or valid, by the header.
        let (fd, to, data) = unsafe { (borrow(fd)?, given(to)?.addr(), bytes(data, len)?) };
        let mut head = [0; HEAD_LEN];
        head[..6].copy_from_slice(&to.addr.to_bytes());
        head[6..].copy_from_slice(&to.port.to_be_bytes());
        let parts = [IoSlice::new(&head), IoSlice::new(data)];
        sendmsg(fd, &parts, &mut SendAncillaryBuffer::default(), SendFlags::NOSIGNAL)?;
        Ok(0)
    })
}

/// Takes the next datagram and returns its length; a datagram longer than the buffer is cut off. *from (or NULL) gets its
/// sender (without hostname). Blocks as the descriptor says.
/// Any thread. PILOT_E_WOULD_BLOCK (a non-blocking descriptor), PILOT_E_CLOSED (no descriptor), PILOT_E_NOT_RUNNING (the node
/// has ended).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pilot_datagram_recv(
    fd: c_int,
    from: *mut pilot_peer,
    buffer: *mut u8,
    len: usize,
    error: *mut pilot_error,
) -> i64 {
    guarded(error, || {
        // SAFETY: NULL or valid, by the header.
        let (fd, from, buffer) = unsafe { (borrow(fd)?, out(from)?, room(buffer, len)?) };
        let mut head = [0; HEAD_LEN];
        let mut parts = [IoSliceMut::new(&mut head), IoSliceMut::new(buffer)];
        let n = recvmsg(fd, &mut parts, &mut RecvAncillaryBuffer::default(), RecvFlags::empty())?.bytes;
        let Some(n) = n.checked_sub(HEAD_LEN) else {
            return Err(Fault::new(crate::error::PILOT_E_NOT_RUNNING, "the node has ended"));
        };
        if let Some(from) = from {
            let [a, b, c, d, e, f, high, low] = head;
            let addr = Addr::from_bytes([a, b, c, d, e, f]);
            from.set(AddrPort { addr, port: u16::from_be_bytes([high, low]) }, "");
        }
        Ok(n as i64)
    })
}
