//! Owns ports that accept streams, and connects under way: both wait for answers on a connection to the node.

use crate::error::{
    Fault, PILOT_E_CLOSED, PILOT_E_FULL, bytes, deadline, guarded, needed, pilot_error, timeout, wait_ready,
};
use crate::node::NodeObject;
use crate::peer::{fill, out, pilot_peer};
use crate::table::{Kind, Used, get, insert, pilot_handle};
use pilot_node::answer::Opened;
use pilot_node::{Client, Failure, Request};
use rustix::event::PollFlags;
use std::ffi::{c_char, c_int};
use std::os::fd::{AsFd as _, AsRawFd as _, IntoRawFd as _, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Most bytes of early data, which travel with the request for a stream (pilot_connect_with). Unit: bytes.
pub const PILOT_FIRST_MAX: usize = 1024;
const _: () = assert!(PILOT_FIRST_MAX == pilot_node::EARLY_LEN_MAX);

/// Longest time that closing a listener waits for its port to be free.
const FREE_TIMEOUT: Duration = Duration::from_secs(2);
/// Longest time until a port is bound.
const BIND_TIMEOUT: Duration = Duration::from_secs(60);

/// A connection to the node that several threads may wait for answers on.
pub(crate) struct Answers {
    client: Mutex<Client>,
    /// A duplicate of the client's socket, to be polled and shut down without the lock.
    socket: OwnedFd,
    closed: AtomicBool,
}

impl Answers {
    pub(crate) fn new(client: Client) -> Result<Self, Fault> {
        let socket = client.as_fd().try_clone_to_owned()?;
        Ok(Self { client: Mutex::new(client), socket, closed: AtomicBool::new(false) })
    }

    pub(crate) fn client(&self) -> MutexGuard<'_, Client> {
        self.client.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn fd(&self) -> c_int {
        self.socket.as_raw_fd()
    }

    /// Runs `take` now, and again after each answer, until it gives a value; for at most `ms` (0: once).
    pub(crate) fn wait<T>(
        &self,
        ms: c_int,
        mut take: impl FnMut(&mut Client) -> Result<Option<T>, Failure>,
    ) -> Result<T, Fault> {
        let until = deadline(ms);
        loop {
            // The lock is not held while waiting, so that every thread keeps to its own time limit.
            let taken = {
                let mut client = self.client();
                if self.closed.load(Ordering::SeqCst) {
                    return Err(Fault::new(PILOT_E_CLOSED, "it was closed meanwhile"));
                }
                take(&mut client)
            };
            match taken {
                Ok(Some(value)) => return Ok(value),
                Ok(None) if ms == 0 => return Err(Fault::would_block()),
                Ok(None) => wait_ready(&self.socket, PollFlags::IN, until)?,
                Err(_) if self.closed.load(Ordering::SeqCst) => {
                    return Err(Fault::new(PILOT_E_CLOSED, "it was closed meanwhile"));
                }
                Err(failure) => return Err(failure.into()),
            }
        }
    }

    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        // The node may have closed the connection already.
        let _ = rustix::net::shutdown(&self.socket, rustix::net::Shutdown::Both);
    }
}

/// A port that accepts streams.
pub(crate) struct Listener {
    answers: Answers,
    port: u16,
    /// The node that claims accepted streams; `None` for listeners of the official interface.
    pub(crate) node: Option<Used<NodeObject>>,
}

impl Listener {
    /// Binds the port and asks for the first stream, so that its arrival makes the socket readable.
    pub(crate) fn bind_on(node: &NodeObject, port: u16) -> Result<Self, Fault> {
        let mut client = node.client_for_streams()?;
        client.request(&Request::Listen { port }, &[], Some(BIND_TIMEOUT))?;
        client.send(&accept(port), &[])?;
        Ok(Self { answers: Answers::new(client)?, port, node: None })
    }

    /// Waits for the next stream; returns its descriptor, or its number for a node of this process to claim.
    pub(crate) fn accept(&self, ms: c_int, want: Want) -> Result<(Option<OwnedFd>, Opened), Fault> {
        self.answers.wait(ms, |client| {
            let Some((_, answer)) = client.try_answer()? else { return Ok(None) };
            let data: Opened = answer?.read()?;
            let fd = match want {
                Want::Number => None,
                Want::Descriptor => client.request(&Request::Take { stream: data.stream }, &[], Some(BIND_TIMEOUT))?.fd,
            };
            client.send(&accept(self.port), &[])?;
            Ok(Some((fd, data)))
        })
    }
}

impl Kind for Listener {
    const NAME: &'static str = "a listener";

    /// Frees the port and ends the waiting of other threads.
    fn close(&self) {
        self.answers.closed.store(true, Ordering::SeqCst);
        // A node that has ended has no ports.
        let _ = self.answers.client().request(&Request::Unlisten { port: self.port }, &[], Some(FREE_TIMEOUT));
        self.answers.close();
    }
}

/// Makes the request for the next stream of a port.
const fn accept(port: u16) -> Request {
    Request::Accept { port, hold: Some(true) }
}

/// Form in which an accepted stream is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Want {
    Descriptor,
    Number,
}

/// A connect under way.
pub(crate) struct Dial {
    answers: Answers,
}

impl Kind for Dial {
    const NAME: &'static str = "a connect";

    fn close(&self) {
        self.answers.close();
    }
}

/// Opens a stream to a port of a trusted peer (hostname, address, node number, key or fingerprint) and returns its
/// descriptor, which the caller closes: a Unix socket, blocking, close-on-exec, for read, write, poll, shutdown, sendfile and
/// close. It ends as a TCP socket does: reading gives 0 after the peer's orderly end; a stream that broke fails reading with
/// ECONNRESET, once, and writing with EPIPE; closing sends what was written and the end (FIN), or, with bytes unread, a reset.
/// (Only Linux has ECONNRESET for reading, while at most 4096 bytes are written at a time: pilot_stream_end always tells how a
/// stream ended.) *at (or NULL) gets the other end.
/// Any thread; blocks at most timeout_ms (negative: the node's own limit, 30 s).
/// PILOT_E_NOT_TRUSTED, PILOT_E_NOT_FOUND, PILOT_E_REFUSED, PILOT_E_TIMEOUT, PILOT_E_UNREACHABLE, PILOT_E_FULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pilot_connect(
    node: pilot_handle,
    peer: *const c_char,
    port: u16,
    timeout_ms: c_int,
    at: *mut pilot_peer,
    error: *mut pilot_error,
) -> c_int {
    // SAFETY: the caller's promises are the same.
    unsafe { pilot_connect_with(node, peer, port, std::ptr::null(), 0, timeout_ms, at, error) }
}

/// Opens a stream as pilot_connect does, with early data: at most PILOT_FIRST_MAX bytes that travel with the request for the
/// stream and are read first, so that a question and its answer take one round trip instead of two. A peer that refuses the
/// stream never sees the bytes. When the peer restarts meanwhile, the stream ends with an error: the process before may have
/// read the bytes, so the process after does not get them.
/// Any thread; blocks as pilot_connect. PILOT_E_INVALID (too many bytes); otherwise as pilot_connect.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pilot_connect_with(
    node: pilot_handle,
    peer: *const c_char,
    port: u16,
    first: *const u8,
    first_len: usize,
    timeout_ms: c_int,
    at: *mut pilot_peer,
    error: *mut pilot_error,
) -> c_int {
    guarded(error, || {
        // SAFETY: NULL or valid, by the header.
        let (peer, first, at) = unsafe { (needed(peer, "peer")?, early(first, first_len)?, out(at)?) };
        let node: Used<NodeObject> = get(node)?;
        let stream = node.client_for_streams()?.open_with(peer, port, first, timeout(timeout_ms))?;
        fill(at, &stream.data);
        Ok(stream.socket.into_raw_fd())
    })
}

/// Views early data of C.
///
/// # Safety
/// As [`bytes`].
pub(crate) unsafe fn early<'a>(first: *const u8, len: usize) -> Result<&'a [u8], Fault> {
    if len > PILOT_FIRST_MAX {
        return Err(Fault::invalid(format!("at most {PILOT_FIRST_MAX} bytes travel with the question for a stream")));
    }
    // SAFETY: passed on.
    unsafe { bytes(first, len) }
}

/// Starts a connect without waiting and returns its handle. Poll pilot_connect_fd for reading, then call
/// pilot_connect_finish; pilot_close gives the connect up. Any thread; does not wait for the network.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pilot_connect_start(
    node: pilot_handle,
    peer: *const c_char,
    port: u16,
    error: *mut pilot_error,
) -> pilot_handle {
    // SAFETY: the caller's promises are the same.
    unsafe { pilot_connect_start_with(node, peer, port, std::ptr::null(), 0, error) }
}

/// Starts a connect with early data, as pilot_connect_with and pilot_connect_start do.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pilot_connect_start_with(
    node: pilot_handle,
    peer: *const c_char,
    port: u16,
    first: *const u8,
    first_len: usize,
    error: *mut pilot_error,
) -> pilot_handle {
    guarded(error, || {
        // SAFETY: NULL or valid, by the header.
        let (peer, first) = unsafe { (needed(peer, "peer")?, early(first, first_len)?) };
        let node: Used<NodeObject> = get(node)?;
        let mut client = node.client_for_streams()?;
        client.send(&Request::Connect { node: peer.into(), port }, first)?;
        insert(Dial { answers: Answers::new(client)? })
    })
}

/// Returns a descriptor that is readable when pilot_connect_finish has an outcome. The descriptor belongs to the handle.
#[unsafe(no_mangle)]
pub extern "C" fn pilot_connect_fd(connect: pilot_handle, error: *mut pilot_error) -> c_int {
    guarded(error, || Ok(get::<Dial>(connect)?.answers.fd()))
}

/// Returns the outcome of a connect: the stream's descriptor as pilot_connect returns it, once, or the failure. Close the
/// handle in any case. Waits at most timeout_ms (0: not at all; negative: until the outcome is known). Any thread.
/// PILOT_E_WOULD_BLOCK or PILOT_E_TIMEOUT: not known yet; otherwise as pilot_connect.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pilot_connect_finish(
    connect: pilot_handle,
    timeout_ms: c_int,
    at: *mut pilot_peer,
    error: *mut pilot_error,
) -> c_int {
    guarded(error, || {
        // SAFETY: NULL or valid, by the header.
        let at = unsafe { out(at)? };
        let dial: Used<Dial> = get(connect)?;
        let answer = dial.answers.wait(timeout_ms, |client| client.try_answer())?;
        let reply = answer.1?;
        fill(at, &reply.read()?);
        reply.fd.map(OwnedFd::into_raw_fd).ok_or_else(|| Fault::invalid("the descriptor was taken already"))
    })
}

/// Accepts streams on a port from peers that were granted the port, from now until the handle is closed. On port 1000 a
/// listener takes the place of the node's own service; ports 7, 1001 and 1002 stay with theirs.
/// Any thread; does not wait for the network. PILOT_E_CONFLICT (the port is bound).
#[unsafe(no_mangle)]
pub extern "C" fn pilot_listen(node: pilot_handle, port: u16, error: *mut pilot_error) -> pilot_handle {
    guarded(error, || {
        let node: Used<NodeObject> = get(node)?;
        insert(Listener { node: Some(node.clone()), ..Listener::bind_on(&node, port)? })
    })
}

/// Returns a descriptor that is readable when pilot_accept may have a stream at once. The descriptor belongs to the handle.
#[unsafe(no_mangle)]
pub extern "C" fn pilot_listener_fd(listener: pilot_handle, error: *mut pilot_error) -> c_int {
    guarded(error, || Ok(get::<Listener>(listener)?.answers.fd()))
}

/// Returns the descriptor of the next stream, as pilot_connect does. *from (or NULL) gets the node that opened the stream.
/// Waits at most timeout_ms (0: not at all; negative: for ever). Any thread; several may wait at once.
/// PILOT_E_WOULD_BLOCK, PILOT_E_TIMEOUT, PILOT_E_CLOSED (the handle was closed meanwhile), PILOT_E_NOT_RUNNING,
/// PILOT_E_FULL (no descriptors are left).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pilot_accept(
    listener: pilot_handle,
    timeout_ms: c_int,
    from: *mut pilot_peer,
    error: *mut pilot_error,
) -> c_int {
    guarded(error, || {
        // SAFETY: NULL or valid, by the header.
        let from = unsafe { out(from)? };
        let listener: Used<Listener> = get(listener)?;
        let (fd, data) = listener.accept(timeout_ms, Want::Descriptor)?;
        fill(from, &data);
        fd.map(OwnedFd::into_raw_fd).ok_or_else(|| Fault::new(PILOT_E_FULL, "no descriptors are left"))
    })
}
