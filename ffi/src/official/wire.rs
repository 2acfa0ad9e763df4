//! Owns questions to a daemon in the official framing: `length u32 | command u8 | payload`, one connection for each, so that
//! no call waits for another.

use super::Text;
use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

pub(super) const SEND_TO: u8 = 0x0b;
pub(super) const RECV_FROM: u8 = 0x0c;
pub(super) const INFO: u8 = 0x0d;
pub(super) const HANDSHAKE: u8 = 0x0f;
pub(super) const RESOLVE: u8 = 0x11;
pub(super) const SET_HOSTNAME: u8 = 0x13;
pub(super) const SET_VISIBILITY: u8 = 0x15;
pub(super) const DEREGISTER: u8 = 0x17;
pub(super) const SET_TAGS: u8 = 0x19;
pub(super) const SET_WEBHOOK: u8 = 0x1b;
pub(super) const NETWORK: u8 = 0x1f;
pub(super) const HEALTH: u8 = 0x21;
pub(super) const MANAGED: u8 = 0x23;
pub(super) const ROTATE_KEY: u8 = 0x25;
pub(super) const BROADCAST: u8 = 0x29;
const ERROR: u8 = 0x0a;

/// Longest frame. Unit: bytes. Source: official-abi.md.
const FRAME_LEN_MAX: usize = 1 << 20;
/// How long an answer may take. Source: official-abi.md: waiting for trust takes at most 30 s.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(40);

/// Opens a connection.
pub(super) fn connect(path: &Path) -> Result<UnixStream, Text> {
    UnixStream::connect(path).map_err(|e| {
        let why = match e.kind() {
            io::ErrorKind::NotFound => "no such file or directory".to_owned(),
            io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
            io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
            _ => e.to_string(),
        };
        format!("dial unix {}: connect: {why}", path.display())
    })
}

pub(super) fn emit_frame(command: u8, payload: &[&[u8]]) -> Vec<u8> {
    let len: usize = 1 + payload.iter().map(|p| p.len()).sum::<usize>();
    let mut out = (len as u32).to_be_bytes().to_vec();
    out.push(command);
    payload.iter().for_each(|p| out.extend_from_slice(p));
    out
}

/// Reads one frame.
pub(super) fn read_frame(mut socket: &UnixStream) -> io::Result<(u8, Vec<u8>)> {
    let mut head = [0; 5];
    socket.read_exact(&mut head)?;
    let len = u32::from_be_bytes([head[0], head[1], head[2], head[3]]) as usize;
    if len == 0 || len > FRAME_LEN_MAX {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut payload = vec![0; len - 1];
    socket.read_exact(&mut payload)?;
    Ok((head[4], payload))
}

/// Asks and waits for the answer.
pub(super) fn ask(path: &Path, command: u8, payload: &[&[u8]]) -> Result<Vec<u8>, Text> {
    let lost = |e: io::Error| format!("daemon connection lost: {e}");
    let mut socket = connect(path)?;
    socket.set_read_timeout(Some(ANSWER_TIMEOUT)).map_err(lost)?;
    socket.write_all(&emit_frame(command, payload)).map_err(lost)?;
    loop {
        match read_frame(&socket).map_err(lost)? {
            (ERROR, payload) => {
                let text = String::from_utf8_lossy(payload.get(2..).unwrap_or_default()).into_owned();
                return Err(format!("daemon: {text}"));
            }
            (answered, payload) if answered == command + 1 => return Ok(payload),
            // A datagram that came meanwhile is for whoever receives them.
            _ => {}
        }
    }
}
