//! Owns calls to a daemon in the official framing: `length u32 | command u8 | payload`. Each call has a connection of its own,
//! so that no call waits for another.

use super::Text;
use pilot_node::framing::{ERROR, FRAME_LEN_MAX, frame};
use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// Longest time of an answer, above the 30 s that waiting for trust may take (`docs/official-abi.md, "C ABI"`).
const ANSWER_TIMEOUT: Duration = Duration::from_secs(40);

/// Opens a connection to the daemon.
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

/// Sends a command and waits for its answer; skips datagrams, which another connection receives too.
pub(super) fn ask(path: &Path, command: u8, payload: &[&[u8]]) -> Result<Vec<u8>, Text> {
    let lost = |e: io::Error| format!("daemon connection lost: {e}");
    let mut socket = connect(path)?;
    socket.set_read_timeout(Some(ANSWER_TIMEOUT)).map_err(lost)?;
    socket.write_all(&frame(command, payload)).map_err(lost)?;
    loop {
        match read_frame(&socket).map_err(lost)? {
            (ERROR, payload) => {
                let text = String::from_utf8_lossy(payload.get(2..).unwrap_or_default()).into_owned();
                return Err(format!("daemon: {text}"));
            }
            (answered, payload) if answered == command + 1 => return Ok(payload),
            // A datagram that came meanwhile: the Driver's own connection receives datagrams.
            _ => {}
        }
    }
}
