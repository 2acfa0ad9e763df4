//! Owns what is said early: with the RESP, under keys that the initiator has not used yet.
//!
//! The INIT names its sender, and that peer alone can open what is said here. What it says so early changes nothing
//! here, and is said again once the peer has shown that it has the keys: it may be lost.

use super::{Peer, Role};
use crate::aead::TAG_LEN;
use crate::link::frame::emit_early;
use crate::path::PathAddr;
use crate::tunnel::session::Session;
use crate::wire::DATA_HEADER_LEN;
use alloc::vec;
use alloc::vec::Vec;

/// Datagrams of key handshakes behind which an early one still leaves: more than one key handshake at a time is not worth the
/// room. Source: own choice.
const BEHIND: usize = 3;

impl Peer {
    /// Seals a control message behind the RESP that leaves for `to`. False, and nothing leaves, unless that is a relay, where no
    /// address can be forged to which an answer would go that is longer than its question.
    pub(crate) fn say_early(&mut self, to: PathAddr, message: &[u8]) -> bool {
        let may_leave = self.role == Role::Trusted && !to.is_direct() && self.raw.len() < BEHIND;
        let Some(next) = self.sessions.next_mut().filter(|_| may_leave) else { return false };
        let datagram = seal_early(next, message);
        self.send_raw(to, datagram);
        true
    }
}

/// A datagram of its own with this control message.
pub(super) fn seal_early(session: &mut Session, message: &[u8]) -> Vec<u8> {
    let mut datagram = vec![0; DATA_HEADER_LEN];
    emit_early(&mut datagram, message);
    datagram.resize(datagram.len() + TAG_LEN, 0);
    session.seal(&mut datagram);
    datagram
}
