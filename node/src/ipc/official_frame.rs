//! The official framing (`docs/official-abi.md`, "IPC"): `length u32 (big-endian) | command u8 | payload`. The reply to a
//! command has the next number, or is an [`ERROR`]: `code u16 | text`. Public for programs that speak this framing themselves.
#![allow(missing_docs, reason = "the commands have no more to them than their names")]

use pilot_core::{Addr, AddrPort};

pub const BIND: u8 = 0x01;
pub const BIND_OK: u8 = 0x02;
pub const DIAL: u8 = 0x03;
pub const DIAL_OK: u8 = 0x04;
pub const ACCEPT: u8 = 0x05;
pub const SEND: u8 = 0x06;
pub const RECV: u8 = 0x07;
pub const CLOSE: u8 = 0x08;
pub const CLOSE_OK: u8 = 0x09;
pub const ERROR: u8 = 0x0a;
pub const SEND_TO: u8 = 0x0b;
pub const RECV_FROM: u8 = 0x0c;
pub const INFO: u8 = 0x0d;
pub const HANDSHAKE: u8 = 0x0f;
pub const RESOLVE: u8 = 0x11;
pub const SET_HOSTNAME: u8 = 0x13;
pub const SET_VISIBILITY: u8 = 0x15;
pub const DEREGISTER: u8 = 0x17;
pub const SET_TAGS: u8 = 0x19;
pub const SET_WEBHOOK: u8 = 0x1b;
pub const NETWORK: u8 = 0x1f;
pub const HEALTH: u8 = 0x21;
pub const MANAGED: u8 = 0x23;
pub const ROTATE_KEY: u8 = 0x25;
pub const BROADCAST: u8 = 0x29;
pub const CANCEL: u8 = 0x2b;
pub const PREFER_DIRECT: u8 = 0x2d;
pub const UNBIND: u8 = 0x37;
pub const SEND_TO_CONFIRM: u8 = 0x39;

/// Longest frame of the official commands. Unit: bytes.
pub const FRAME_LEN_MAX: usize = 1 << 20;

/// Makes a whole frame; `payload` in pieces, which are joined.
pub fn frame(command: u8, payload: &[&[u8]]) -> Vec<u8> {
    let len: usize = 1 + payload.iter().map(|p| p.len()).sum::<usize>();
    let mut out = Vec::with_capacity(4 + len);
    out.extend_from_slice(&(len as u32).to_be_bytes());
    out.push(command);
    payload.iter().for_each(|p| out.extend_from_slice(p));
    out
}

/// Makes an Error frame: code 1, then text.
pub(crate) fn error(text: &str) -> Vec<u8> {
    frame(ERROR, &[&1u16.to_be_bytes(), text.as_bytes()])
}

/// The frame that tells a client of a stream which a peer has opened to its port.
pub(crate) fn accepted(port: u16, connection: u32, peer: AddrPort) -> Vec<u8> {
    let parts: [&[u8]; 4] =
        [&port.to_be_bytes(), &connection.to_be_bytes(), &peer.addr.to_bytes(), &peer.port.to_be_bytes()];
    frame(ACCEPT, &parts)
}

/// The frame that tells a client that its stream stands.
pub(crate) fn dialed(connection: u32) -> Vec<u8> {
    frame(DIAL_OK, &[&connection.to_be_bytes()])
}

/// The frame with bytes that have arrived on a stream.
pub(crate) fn received(connection: u32, bytes: &[u8]) -> Vec<u8> {
    frame(RECV, &[&connection.to_be_bytes(), bytes])
}

/// The frame that tells a client that its stream has ended.
pub(crate) fn closed(connection: u32) -> Vec<u8> {
    frame(CLOSE_OK, &[&connection.to_be_bytes()])
}

/// The frame with a datagram.
pub(crate) fn datagram(from: Addr, source_port: u16, port: u16, payload: &[u8]) -> Vec<u8> {
    frame(RECV_FROM, &[&from.to_bytes(), &source_port.to_be_bytes(), &port.to_be_bytes(), payload])
}
