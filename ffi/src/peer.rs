//! Owns the struct for the peer of a stream, of a datagram, of an event.

use crate::error::{Fault, copy_text};
use pilot_node::answer::Opened;
use pilot_node::{Addr, AddrPort};
use std::ffi::c_char;

/// A node's address, a port there, and the node's hostname. Set struct_size to sizeof(pilot_peer).
#[repr(C)]
pub struct pilot_peer {
    /// sizeof(pilot_peer).
    pub struct_size: usize,
    /// Network part of the address; 0 is the common network.
    pub network: u16,
    /// Port; 0 where there is none.
    pub port: u16,
    /// Node part of the address.
    pub node: u32,
    /// Hostname, or empty when unknown; NUL-terminated.
    pub hostname: [c_char; 64],
}

impl pilot_peer {
    pub(crate) fn set(&mut self, at: AddrPort, hostname: &str) {
        (self.network, self.node, self.port) = (at.addr.network, at.addr.node, at.port);
        copy_text(hostname, &mut self.hostname);
    }

    pub(crate) const fn addr(&self) -> AddrPort {
        AddrPort { addr: Addr { network: self.network, node: self.node }, port: self.port }
    }
}

/// Views a struct of C that is to be filled; `None` for NULL.
///
/// # Safety
/// `out` is NULL or a valid struct of its own size, which no other thread uses during the call.
pub(crate) unsafe fn out<'a>(out: *mut pilot_peer) -> Result<Option<&'a mut pilot_peer>, Fault> {
    if out.is_null() {
        return Ok(None);
    }
    // SAFETY: not NULL; its size, which comes first, is looked at before anything else.
    unsafe {
        if (*out).struct_size < size_of::<pilot_peer>() {
            return Err(Fault::invalid("struct_size is not sizeof(pilot_peer)"));
        }
        Ok(Some(&mut *out))
    }
}

/// Views a struct of C that names a destination.
///
/// # Safety
/// `given` is NULL or a valid struct of its own size.
pub(crate) unsafe fn given<'a>(given: *const pilot_peer) -> Result<&'a pilot_peer, Fault> {
    // SAFETY: by the caller's promise; its size, which comes first, is looked at before anything else.
    unsafe { given.as_ref() }
        .filter(|peer| peer.struct_size >= size_of::<pilot_peer>())
        .ok_or_else(|| Fault::invalid("an address is NULL, or its struct_size is not sizeof(pilot_peer)"))
}

/// Fills `peer` from the node's description of a stream's other end.
pub(crate) fn fill(peer: Option<&mut pilot_peer>, data: &Opened) {
    if let Some(peer) = peer {
        let at = data.peer.parse().unwrap_or(AddrPort { addr: Addr::default(), port: 0 });
        peer.set(at, &data.hostname);
    }
}
