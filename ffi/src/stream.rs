//! Owns streams by handle, which move bytes between a node of this process and the caller's buffer without the kernel, and
//! the ends of streams on descriptors.

use crate::error::{
    Fault, PILOT_E_CLOSED, PILOT_E_FULL, PILOT_E_RESET, PILOT_E_TIMEOUT, PILOT_E_WOULD_BLOCK, bytes, deadline, guarded,
    needed, pilot_error, room, timeout, wait_ready,
};
use crate::listener::{Listener, Want, early};
use crate::node::NodeObject;
use crate::peer::{fill, out, pilot_peer};
use crate::table::{Kind, Used, get, insert, pilot_handle};
use pilot_node::answer::StreamState;
use pilot_node::system::{Edges, send_now};
use pilot_node::{Request, Stream};
use rustix::event::PollFlags;
use std::ffi::{c_char, c_int};
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Ends reading: bytes that arrive are dropped.
pub const PILOT_SHUT_READ: c_int = 0;
/// Ends writing: the peer reads the end after all written bytes.
pub const PILOT_SHUT_WRITE: c_int = 1;
/// Ends both directions.
pub const PILOT_SHUT_BOTH: c_int = 2;
/// Value of pilot_stream_end: the stream has not ended.
pub const PILOT_STREAM_OPEN: c_int = 1;

/// Longest time until the node tells how a stream ended.
const END_TIMEOUT: Duration = Duration::from_secs(30);

pub(crate) struct StreamObject {
    way: Way,
    closed: AtomicBool,
    /// The word before the end of writing was given; see [`StreamObject::finish`].
    finished: AtomicBool,
}

enum Way {
    /// A stream of a node in this process.
    Local(Stream),
    /// A stream of a daemon, by descriptor.
    Socket { socket: UnixStream, readiness: OnceLock<Edges>, node: Used<NodeObject> },
}

impl StreamObject {
    const fn new(way: Way) -> Self {
        Self { way, closed: AtomicBool::new(false), finished: AtomicBool::new(false) }
    }

    fn socket(fd: OwnedFd, node: Used<NodeObject>) -> Self {
        Self::new(Way::Socket { socket: fd.into(), readiness: OnceLock::new(), node })
    }

    fn shutdown(&self, how: Shutdown) -> Result<(), Fault> {
        match &self.way {
            Way::Local(stream) => stream.shutdown(how)?,
            Way::Socket { socket, node, .. } => {
                if how != Shutdown::Read {
                    self.finish(node, socket)?;
                }
                socket.shutdown(how)?;
            }
        }
        Ok(())
    }

    /// Tells the node that the end of writing, which follows, is meant: the death of the program has no such word.
    fn finish(&self, node: &NodeObject, socket: &UnixStream) -> Result<(), Fault> {
        if !self.finished.swap(true, Ordering::SeqCst) {
            word(node, socket, false)?;
        }
        Ok(())
    }

    fn abort(&self) -> Result<(), Fault> {
        match &self.way {
            Way::Local(stream) => stream.abort(),
            Way::Socket { socket, node, .. } => word(node, socket, true)?,
        }
        Ok(())
    }

    fn read(&self, buffer: &mut [u8], ms: c_int) -> Result<i64, Fault> {
        let result = match &self.way {
            Way::Local(stream) => stream.read_within(buffer, timeout(ms)).map_err(|e| in_time(e.into(), ms)),
            Way::Socket { .. } if buffer.is_empty() => Ok(0),
            Way::Socket { socket, node, .. } => self.on_socket(ms, PollFlags::IN, || {
                match rustix::net::recv(socket, &mut *buffer, rustix::net::RecvFlags::DONTWAIT) {
                    // The error is told once; its reason can be asked for.
                    Ok((_, 0)) | Err(rustix::io::Errno::CONNRESET) => ended(node, socket).map(|_| 0),
                    Ok((_, n)) => Ok(n),
                    Err(e) => Err(e.into()),
                }
            }),
        };
        self.outcome(result)
    }

    fn write(&self, data: &[u8], ms: c_int) -> Result<i64, Fault> {
        let result = match &self.way {
            Way::Local(stream) => stream.write_within(data, timeout(ms)).map_err(|e| in_time(e.into(), ms)),
            Way::Socket { socket, .. } => self.on_socket(ms, PollFlags::OUT, || Ok(send_now(socket, data)?)),
        };
        self.outcome(result)
    }

    fn outcome(&self, result: Result<usize, Fault>) -> Result<i64, Fault> {
        match result {
            Ok(0) | Err(_) if self.closed.load(Ordering::SeqCst) => {
                Err(Fault::new(PILOT_E_CLOSED, "the stream was closed meanwhile"))
            }
            result => Ok(result? as i64),
        }
    }

    /// Repeats `act` until it need not wait, for at most `ms`.
    fn on_socket(
        &self,
        ms: c_int,
        what: PollFlags,
        mut act: impl FnMut() -> Result<usize, Fault>,
    ) -> Result<usize, Fault> {
        let Way::Socket { socket, readiness, .. } = &self.way else { return Ok(0) };
        let until = deadline(ms);
        loop {
            match act() {
                Err(fault) if fault.code == PILOT_E_WOULD_BLOCK => {}
                result => return result,
            }
            if ms == 0 {
                // Clears the edge-triggered readiness, so that the next change makes the descriptor readable.
                if let Some(edges) = readiness.get() {
                    edges.clear()?;
                }
                return act();
            }
            wait_ready(socket, what, until)?;
        }
    }

    fn readiness(&self) -> Result<RawFd, Fault> {
        match &self.way {
            Way::Local(stream) => Ok(stream.readiness()?.as_raw_fd()),
            Way::Socket { socket, readiness, .. } => {
                if readiness.get().is_none() {
                    // When another thread was faster, its descriptor stays.
                    let _ = readiness.set(Edges::new(socket)?);
                }
                readiness.get().map(Edges::as_raw_fd).ok_or_else(|| Fault::invalid("no descriptor"))
            }
        }
    }
}

impl Kind for StreamObject {
    const NAME: &'static str = "a stream";

    fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        // The stream may have ended already. Bytes that were not read mean a reset, as when a descriptor is closed.
        let _ = match &self.way {
            Way::Local(stream) => {
                stream.close();
                Ok(())
            }
            Way::Socket { socket, node, .. } => {
                let has_unread = rustix::io::ioctl_fionread(socket).is_ok_and(|len| len > 0);
                let told = match has_unread {
                    true if self.finished.load(Ordering::SeqCst) => self.abort(),
                    true => Ok(()), // an end without a word
                    false => self.finish(node, socket),
                };
                told.and(socket.shutdown(Shutdown::Both).map_err(Fault::from))
            }
        };
    }
}

/// Turns the end of a limited wait into a time-out.
fn in_time(fault: Fault, ms: c_int) -> Fault {
    match fault.code {
        PILOT_E_WOULD_BLOCK if ms != 0 => Fault::new(PILOT_E_TIMEOUT, "nothing happened in time"),
        _ => fault,
    }
}

/// Gives the word before an orderly end of a descriptor, or resets its stream.
fn word(node: &NodeObject, fd: impl AsFd, reset: bool) -> Result<(), Fault> {
    let inode = rustix::fs::fstat(&fd)?.st_ino;
    Ok(node.tell(&Request::Finish { inode, reset: reset.then_some(true) })?)
}

/// Views a descriptor of C.
fn borrowed<'a>(fd: c_int) -> Result<BorrowedFd<'a>, Fault> {
    if fd < 0 {
        return Err(Fault::invalid("a descriptor is not negative"));
    }
    // SAFETY: not negative; only looked at by fstat, which fails for what is none.
    Ok(unsafe { BorrowedFd::borrow_raw(fd) })
}

/// Returns how a stream on a descriptor has ended: 0 in order, [`PILOT_STREAM_OPEN`] not yet, or a failure.
pub(crate) fn ended(node: &NodeObject, fd: impl AsFd) -> Result<c_int, Fault> {
    let inode = rustix::fs::fstat(&fd)?.st_ino;
    let mut client = node.client()?;
    match client.ask(&Request::StreamEnd { inode }, Some(END_TIMEOUT))? {
        StreamState::Open => Ok(PILOT_STREAM_OPEN),
        StreamState::Error { failure, .. } => Err(failure.into()),
        StreamState::Fin { .. } => Ok(0),
    }
}

/// Returns the state of the stream behind a descriptor of pilot_connect or pilot_accept: PILOT_STREAM_OPEN, 0 (both sides
/// have ended in order), or the code of the failure that broke the stream. When reading the descriptor gives 0 and the state
/// is PILOT_STREAM_OPEN, the peer has ended its side in order. The node remembers the last 4096 ends.
/// Any thread. PILOT_E_NOT_FOUND: no stream of this node; PILOT_E_CLOSED: no descriptor.
#[unsafe(no_mangle)]
pub extern "C" fn pilot_stream_end(node: pilot_handle, fd: c_int, error: *mut pilot_error) -> c_int {
    guarded(error, || {
        let fd = borrowed(fd)?;
        ended(&*get::<NodeObject>(node)?, fd)
    })
}

/// Tells that the end of a descriptor, which follows, is meant: call it before shutting its writing down or closing it, on a
/// node with pilot_end_explicitly. Any thread; does not wait for the network. PILOT_E_CLOSED: no descriptor.
#[unsafe(no_mangle)]
pub extern "C" fn pilot_finish(node: pilot_handle, fd: c_int, error: *mut pilot_error) -> c_int {
    guarded(error, || {
        let fd = borrowed(fd)?;
        word(&*get::<NodeObject>(node)?, fd, false).map(|()| 0)
    })
}

/// Resets the stream behind a descriptor of pilot_connect or pilot_accept, as closing a TCP socket after SO_LINGER with a time
/// of 0 does: bytes on their way are dropped, and every use of the stream fails at both ends. The caller closes the
/// descriptor. Any thread; does not wait for the network. PILOT_E_CLOSED: no descriptor.
#[unsafe(no_mangle)]
pub extern "C" fn pilot_abort(node: pilot_handle, fd: c_int, error: *mut pilot_error) -> c_int {
    guarded(error, || {
        let fd = borrowed(fd)?;
        word(&*get::<NodeObject>(node)?, fd, true).map(|()| 0)
    })
}

/// Opens a stream as pilot_connect does, and returns a handle for pilot_stream_read and pilot_stream_write instead of a
/// descriptor: with a node of this process, bytes go to and from the caller's buffer without the kernel. pilot_close ends the
/// stream in order, or resets it when bytes are unread; when the program dies before, the peer sees a reset.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pilot_stream_connect(
    node: pilot_handle,
    peer: *const c_char,
    port: u16,
    timeout_ms: c_int,
    error: *mut pilot_error,
) -> pilot_handle {
    // SAFETY: the caller's promises are the same.
    unsafe { pilot_stream_connect_with(node, peer, port, std::ptr::null(), 0, timeout_ms, error) }
}

/// Opens a stream as pilot_connect_with does, and returns a handle as pilot_stream_connect does.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pilot_stream_connect_with(
    node: pilot_handle,
    peer: *const c_char,
    port: u16,
    first: *const u8,
    first_len: usize,
    timeout_ms: c_int,
    error: *mut pilot_error,
) -> pilot_handle {
    guarded(error, || {
        // SAFETY: NULL or valid, by the header.
        let (peer, first) = unsafe { (needed(peer, "peer")?, early(first, first_len)?) };
        let node: Used<NodeObject> = get(node)?;
        let limit = timeout(timeout_ms);
        insert(match node.local() {
            Some(local) => {
                let limit = limit.unwrap_or(Duration::MAX);
                StreamObject::new(Way::Local(local.connect_with_timeout(peer, port, first, limit)?))
            }
            None => {
                let mut client = node.client()?;
                client.end_explicitly()?;
                StreamObject::socket(client.open_with(peer, port, first, limit)?.socket.into(), node)
            }
        })
    })
}

/// Accepts a stream as pilot_accept does, and returns a handle as pilot_stream_connect does.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pilot_stream_accept(
    listener: pilot_handle,
    timeout_ms: c_int,
    from: *mut pilot_peer,
    error: *mut pilot_error,
) -> pilot_handle {
    guarded(error, || {
        // SAFETY: NULL or valid, by the header.
        let from = unsafe { out(from)? };
        let listener: Used<Listener> = get(listener)?;
        let node = listener.node.clone().ok_or_else(|| Fault::invalid("the listener has no node"))?;
        let local = node.local();
        let want = if local.is_some() { Want::Number } else { Want::Descriptor };
        let (fd, data) = listener.accept(timeout_ms, want)?;
        fill(from, &data);
        insert(match (local, fd) {
            (Some(local), _) => StreamObject::new(Way::Local(local.claim(data.stream)?)),
            (None, Some(fd)) => {
                let inode = rustix::fs::fstat(&fd)?.st_ino;
                node.tell(&Request::EndExplicitly { inode: Some(inode) })?;
                StreamObject::socket(fd, node)
            }
            (None, None) => return Err(Fault::new(PILOT_E_FULL, "no descriptors are left")),
        })
    })
}

/// Reads at most len bytes and returns their number; 0 when the peer has ended its side in order. Waits at most timeout_ms (0:
/// not at all; negative: for ever). Any thread; use one thread at a time per direction.
/// PILOT_E_WOULD_BLOCK, PILOT_E_TIMEOUT, PILOT_E_RESET and other codes for a stream that broke, PILOT_E_CLOSED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pilot_stream_read(
    stream: pilot_handle,
    buffer: *mut u8,
    len: usize,
    timeout_ms: c_int,
    error: *mut pilot_error,
) -> i64 {
    guarded(error, || {
        // SAFETY: NULL or valid, by the header.
        let buffer = unsafe { room(buffer, len)? };
        get::<StreamObject>(stream)?.read(buffer, timeout_ms)
    })
}

/// Writes at most len bytes and returns how many were taken, at least 1 unless len is 0. Waits for room at most timeout_ms (0:
/// not at all; negative: for ever). Bytes that were taken are delivered, also when the handle is closed right after.
/// Any thread; use one thread at a time per direction. Codes as pilot_stream_read.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pilot_stream_write(
    stream: pilot_handle,
    data: *const u8,
    len: usize,
    timeout_ms: c_int,
    error: *mut pilot_error,
) -> i64 {
    guarded(error, || {
        // SAFETY: NULL or valid, by the header.
        let data = unsafe { bytes(data, len)? };
        let stream: Used<StreamObject> = get(stream)?;
        if data.is_empty() { Ok(0) } else { stream.write(data, timeout_ms) }
    })
}

/// Ends one direction or both: PILOT_SHUT_READ, PILOT_SHUT_WRITE, PILOT_SHUT_BOTH. Any thread; does not wait.
#[unsafe(no_mangle)]
pub extern "C" fn pilot_stream_shutdown(stream: pilot_handle, how: c_int, error: *mut pilot_error) -> c_int {
    guarded(error, || {
        let stream: Used<StreamObject> = get(stream)?;
        let how = match how {
            PILOT_SHUT_READ => Shutdown::Read,
            PILOT_SHUT_WRITE => Shutdown::Write,
            PILOT_SHUT_BOTH => Shutdown::Both,
            _ => return Err(Fault::invalid("how is PILOT_SHUT_READ, PILOT_SHUT_WRITE or PILOT_SHUT_BOTH")),
        };
        match stream.shutdown(how) {
            // The direction has ended already.
            Err(fault) if fault.code == PILOT_E_RESET => Ok(0),
            result => result.map(|()| 0),
        }
    })
}

/// Resets a stream, as closing a TCP socket after SO_LINGER with a time of 0 does: bytes on their way are dropped, and every
/// use of the stream fails from now on at both ends. The handle is still to be closed. Any thread; does not wait.
#[unsafe(no_mangle)]
pub extern "C" fn pilot_stream_abort(stream: pilot_handle, error: *mut pilot_error) -> c_int {
    guarded(error, || get::<StreamObject>(stream)?.abort().map(|()| 0))
}

/// Returns a descriptor that is readable when reading or writing may make progress; made on first use. Poll it for reading,
/// then read and write with a time limit of 0 until PILOT_E_WOULD_BLOCK, which makes it unreadable again. The descriptor
/// belongs to the handle.
#[unsafe(no_mangle)]
pub extern "C" fn pilot_stream_event_fd(stream: pilot_handle, error: *mut pilot_error) -> c_int {
    guarded(error, || get::<StreamObject>(stream)?.readiness())
}
