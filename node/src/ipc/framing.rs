//! The official framing (official-abi.md): `length u32 (big-endian) | command u8 | payload`. The reply to a command has the next
//! number, or is an [`ERROR`]: `code u16 | text`. For programs that speak it themselves.
#![allow(missing_docs, reason = "the commands have no more to them than their names")]

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

/// A whole frame.
pub fn frame(command: u8, payload: &[&[u8]]) -> Vec<u8> {
    let len: usize = 1 + payload.iter().map(|p| p.len()).sum::<usize>();
    let mut out = Vec::with_capacity(4 + len);
    out.extend_from_slice(&(len as u32).to_be_bytes());
    out.push(command);
    payload.iter().for_each(|p| out.extend_from_slice(p));
    out
}
