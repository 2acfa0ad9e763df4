//! Owns what is said early: with the RESP, under keys that the initiator has not used yet.
//!
//! The responder knows who asks, and that the answer can be opened by that peer alone. What it says so early changes nothing
//! here, and is said again once the peer has shown that it has the keys: it may be lost.

use super::{Peer, Role};
use crate::aead::TAG_LEN;
use crate::link::frame::emit_early;
use crate::path::PathAddr;
use crate::wire::DATA_HEADER_LEN;
use alloc::vec;

impl Peer {
    /// Seals a control message behind the RESP that leaves for `to`. False, and nothing leaves, unless that is a relay, where no
    /// address can be forged to which an answer would go that is longer than its question.
    pub(crate) fn say_early(&mut self, to: PathAddr, message: &[u8]) -> bool {
        // More than one key handshake at a time is not worth the room.
        let may_leave = self.role == Role::Trusted && !to.is_direct() && self.raw.len() <= 1;
        let Some(next) = self.sessions.next_mut().filter(|_| may_leave) else { return false };
        let mut datagram = vec![0; DATA_HEADER_LEN];
        emit_early(&mut datagram, message);
        datagram.resize(datagram.len() + TAG_LEN, 0);
        next.seal(&mut datagram);
        self.send_raw(to, datagram);
        true
    }
}
