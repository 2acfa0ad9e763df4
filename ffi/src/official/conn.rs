//! Owns Conns: streams of the official interface, each over the descriptor that the daemon handed out.
#![allow(non_snake_case, reason = "official names")]

use super::{ReadResult, Text, WriteResult, allocate, emit_error, get, guarded, input_bytes, string};
use crate::node::NodeObject;
use crate::table::{Kind, Used, remove};
use pilot_node::system::Signal;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use std::ffi::{c_char, c_int, c_void};
use std::io::{self, Write as _};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

/// Most bytes of one read. Unit: bytes. Source: `docs/official-abi.md, "C ABI"`.
const READ_LEN_MAX: usize = 16 << 20;

pub(crate) struct Conn {
    socket: UnixStream,
    node: NodeObject,
    /// End of reading. Unit: nanoseconds since 1970; 0: none.
    deadline: AtomicI64,
    /// Readable when the deadline has changed.
    changed: Signal,
    reading: Mutex<()>,
    closed: AtomicBool,
}

impl Conn {
    pub(super) fn new(socket: UnixStream, daemon: PathBuf) -> io::Result<Self> {
        let changed = Signal::new()?;
        let (deadline, reading, closed) = (AtomicI64::new(0), Mutex::new(()), AtomicBool::new(false));
        Ok(Self { socket, node: NodeObject::attached(daemon), deadline, changed, reading, closed })
    }

    fn set_deadline(&self, unix_nanos: i64) {
        self.deadline.store(unix_nanos, Ordering::SeqCst);
        self.changed.notify();
    }

    /// Returns the time until the deadline (`None`: no deadline); fails when the deadline has passed.
    fn left(&self) -> Result<Option<Duration>, Text> {
        let deadline = self.deadline.load(Ordering::SeqCst);
        if deadline == 0 {
            return Ok(None);
        }
        let now = SystemTime::UNIX_EPOCH.elapsed().map_or(0, |d| d.as_nanos() as i64);
        match deadline - now {
            left if left > 0 => Ok(Some(Duration::from_nanos(left as u64))),
            _ => Err("i/o timeout".into()),
        }
    }

    fn read(&self, buffer: &mut [u8]) -> Result<usize, Text> {
        let _one_at_a_time = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let left = self.left()?;
            match rustix::net::recv(&self.socket, &mut *buffer, rustix::net::RecvFlags::DONTWAIT) {
                _ if self.closed.load(Ordering::SeqCst) => return Err("invalid conn handle".into()),
                // A stream that broke says so once; the daemon knows why.
                Ok((_, 0)) | Err(Errno::CONNRESET) => return Err(self.end()),
                Ok((_, n)) => return Ok(n),
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(e) => return Err(io::Error::from(e).to_string()),
            }
            let mut fds = [PollFd::new(&self.socket, PollFlags::IN), PollFd::new(&self.changed, PollFlags::IN)];
            let limit = left.and_then(|left| Timespec::try_from(left).ok());
            match poll(&mut fds, limit.as_ref()) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(e) => return Err(io::Error::from(e).to_string()),
            }
            // The next round reads the new deadline.
            self.changed.drain();
        }
    }

    /// Returns the reason of the end of reading.
    fn end(&self) -> Text {
        match crate::stream::ended(&self.node, &self.socket) {
            Ok(_) => "EOF".into(),
            // The stream broke, or the daemon has gone, and the stream with it.
            Err(fault) => fault.message,
        }
    }
}

impl Kind for Conn {
    const NAME: &'static str = "a Conn";

    fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        // The stream may have ended already; written bytes are delivered.
        let _ = self.socket.shutdown(Shutdown::Both);
        self.changed.notify();
    }
}

/// Reads the bytes that have arrived, at most bufSize; waits for the first one.
#[unsafe(no_mangle)]
pub extern "C" fn PilotConnRead(ch: u64, bufSize: c_int) -> ReadResult {
    let read = guarded(|| {
        let conn: Used<Conn> = get(ch, "conn ")?;
        let size = usize::try_from(bufSize).ok().filter(|size| *size > 0);
        let size = size.ok_or_else(|| format!("invalid read size: {bufSize}"))?.min(READ_LEN_MAX);
        // The daemon's socket holds less than that at once.
        let mut buffer = vec![0; size.min(256 * 1024)];
        let n = conn.read(&mut buffer)?;
        buffer.truncate(n);
        Ok(buffer)
    });
    let none = std::ptr::null_mut();
    match read {
        Ok(bytes) => ReadResult { n: bytes.len() as c_int, data: allocate(&bytes), err: none },
        Err(text) => ReadResult { n: 0, data: none, err: emit_error(&text) },
    }
}

/// Writes all bytes; waits for room.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn PilotConnWrite(ch: u64, data: *const c_void, dataLen: c_int) -> WriteResult {
    let written = guarded(|| {
        let conn: Used<Conn> = get(ch, "conn ")?;
        // SAFETY: NULL or valid, by the interface.
        let data = unsafe { input_bytes(data, dataLen)? };
        (&conn.socket).write_all(data).map_err(|e| match e.kind() {
            io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => "connection closed".to_owned(),
            _ => e.to_string(),
        })?;
        Ok(dataLen)
    });
    match written {
        Ok(n) => WriteResult { n, err: std::ptr::null_mut() },
        Err(text) => WriteResult { n: 0, err: emit_error(&text) },
    }
}

/// Closes a stream; written bytes are delivered.
#[unsafe(no_mangle)]
pub extern "C" fn PilotConnClose(ch: u64) -> *mut c_char {
    string(|| {
        get::<Conn>(ch, "conn ")?;
        remove(ch as i64);
        Ok(None)
    })
}

/// Sets the end of waiting reads. Unit: nanoseconds since 1970; 0: for ever. A read that waits sees the change at once.
#[unsafe(no_mangle)]
pub extern "C" fn PilotConnSetReadDeadline(ch: u64, deadlineUnixNanos: i64) -> *mut c_char {
    string(|| {
        get::<Conn>(ch, "conn ")?.set_deadline(deadlineUnixNanos);
        Ok(None)
    })
}
