//! Owns the sending of a file over a stream to a peer's port 1001: resumable, in acknowledged pieces, verified by hash.

use crate::failure::{Code, Failure};
use crate::frame_reader::FrameReader;
use crate::mail::frame::{FILE_STREAM, parse_frame};
use crate::mail::receive_file::sender::{CHUNK_LEN, FromReceiver, data, end, open, parse};
use rustix::fs::{Mode, OFlags, open as open_path};
use sha2::{Digest as _, Sha256};
use std::fs::File;
use std::io::{self, Read, Seek as _, SeekFrom, Write};
use std::path::Path;

/// Most unacknowledged pieces. Source: the official program keeps as many under way.
const WINDOW: u64 = 16;

/// The facts of a file that was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SentFile {
    /// The file's name at the receiver, before the receiver made it safe.
    pub name: String,
    /// Length of the file. Unit: bytes.
    pub len: u64,
    /// Bytes that the receiver had from an earlier attempt. 0 to `len`.
    pub resumed: u64,
    /// SHA-256 of the whole file, which the receiver has verified.
    pub sha256: [u8; 32],
}

/// Sends the file at `path` over `stream`, which leads to port 1001 of the receiver, and waits until the receiver has
/// synced and verified the file. A transfer that broke continues when the same file is sent again. `progress` gets the
/// number of acknowledged bytes and the length of the file. Any thread; blocks.
///
/// # Errors
/// `NotFound` (no such file), `InvalidArgument` (not a file, or changed meanwhile), `Full` or `Internal` with the
/// receiver's reason, `ConnectionReset` (the stream ended), `Timeout` (the stream's own).
pub fn send_file(
    stream: &mut (impl Read + Write),
    path: &Path,
    mut progress: impl FnMut(u64, u64),
) -> Result<SentFile, Failure> {
    let local = |e: io::Error| unreadable(path, &e);
    let mut file = open_file(path)?;
    let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let (len, sha256) = hash(&mut file).map_err(local)?;
    // The next attempt to send the same file gives the transfer the same name.
    let mut transfer = [0; 16];
    transfer.copy_from_slice(&sha256[..16]);

    let mut replies = Replies { buffer: FrameReader::new() };
    stream.write_all(&open(&transfer, len, &sha256, &name)).map_err(|e| lost(&e))?;
    let resumed = match replies.next(stream)? {
        FromReceiver::Accept(offset) if offset <= len => offset,
        other => return Err(unexpected(other)),
    };
    file.seek(SeekFrom::Start(resumed)).map_err(local)?;
    let (mut sent, mut acknowledged) = (resumed, resumed);
    let mut chunk = vec![0; CHUNK_LEN];
    while acknowledged < len {
        while sent < len && sent - acknowledged < WINDOW * CHUNK_LEN as u64 {
            let n = chunk.len().min((len - sent) as usize);
            file.read_exact(&mut chunk[..n]).map_err(local)?;
            stream.write_all(&data(&transfer, sent, &chunk[..n])).map_err(|e| lost(&e))?;
            sent += n as u64;
        }
        match replies.next(stream)? {
            FromReceiver::Ack(offset) if offset <= sent => acknowledged = acknowledged.max(offset),
            other => return Err(unexpected(other)),
        }
        progress(acknowledged, len);
    }
    stream.write_all(&end(&transfer)).map_err(|e| lost(&e))?;
    match replies.next(stream)? {
        FromReceiver::Kept => Ok(SentFile { name, len, resumed, sha256 }),
        other => Err(unexpected(other)),
    }
}

fn unreadable(path: &Path, e: &io::Error) -> Failure {
    let is_missing = e.kind() == io::ErrorKind::NotFound;
    let code = if is_missing { Code::NotFound } else { Code::InvalidArgument };
    Failure::new(code, format!("{}: {e}", path.display()))
}

/// Opens a file, of which the length is known. Does not wait: opening a named pipe would, for a writer.
fn open_file(path: &Path) -> Result<File, Failure> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = open_path(path, flags, Mode::empty()).map_err(|e| unreadable(path, &e.into()))?;
    let file = File::from(file);
    if file.metadata().is_ok_and(|meta| meta.is_file()) {
        return Ok(file);
    }
    Err(Failure::new(Code::InvalidArgument, format!("{} is not a file", path.display()))
        .hint("a folder, pipe or device has no length: send a file made of it"))
}

fn hash(file: &mut File) -> io::Result<(u64, [u8; 32])> {
    let (mut hasher, mut len, mut buffer) = (Sha256::new(), 0, vec![0; 256 * 1024]);
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok((len, hasher.finalize().into())),
            n => {
                hasher.update(&buffer[..n]);
                len += n as u64;
            }
        }
    }
}

struct Replies {
    buffer: FrameReader,
}

impl Replies {
    fn next(&mut self, stream: &mut impl Read) -> Result<FromReceiver, Failure> {
        let malformed = || Failure::new(Code::Internal, "the receiver's answer cannot be understood");
        loop {
            if let Some((kind, payload)) = self.buffer.next(parse_frame).map_err(|_| malformed())? {
                if kind == FILE_STREAM {
                    return parse(&payload).ok_or_else(malformed);
                }
                return Err(refused(String::from_utf8_lossy(&payload).into_owned()));
            }
            let mut bytes = [0; 4096];
            match stream.read(&mut bytes) {
                Ok(0) => return Err(lost(&io::ErrorKind::UnexpectedEof.into())),
                Ok(n) => self.buffer.extend(&bytes[..n]),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(lost(&e)),
            }
        }
    }
}

fn unexpected(reply: FromReceiver) -> Failure {
    match reply {
        FromReceiver::Refused(why) => refused(why),
        other => Failure::new(Code::Internal, format!("the receiver's answer makes no sense here: {other:?}")),
    }
}

fn refused(why: String) -> Failure {
    let code = if why.contains("full") || why.contains("too ") { Code::Full } else { Code::Internal };
    Failure::new(code, format!("the receiver refused the file: {why}"))
}

fn lost(e: &io::Error) -> Failure {
    let code = if e.kind() == io::ErrorKind::WouldBlock { Code::Timeout } else { Code::ConnectionReset };
    Failure::new(code, format!("the stream ended before the file was through: {e}"))
        .hint("send it again: it goes on where it was")
}
