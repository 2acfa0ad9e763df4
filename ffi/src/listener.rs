//! Owns ports that accept streams, and connects under way: both are answers that the node's socket will bring.

use crate::error::{
    Fault, PILOT_E_CLOSED, PILOT_E_FULL, bytes, deadline, guarded, needed, pilot_error, timeout, wait_ready,
};
use crate::node::NodeObject;
use crate::peer::{fill, out, pilot_peer};
use crate::table::{Used, get, insert, pilot_handle};
use pilot_node::answer::Opened;
use pilot_node::{Client, Failure, Request};
use rustix::event::PollFlags;
use std::ffi::{c_char, c_int};
use std::os::fd::{AsFd as _, AsRawFd as _, IntoRawFd as _, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Most bytes that travel together with the question for a stream (pilot_connect_with).
pub const PILOT_FIRST_MAX: usize = 1024;
const _: () = assert!(PILOT_FIRST_MAX == pilot_node::EARLY_LEN_MAX);

/// How long a port may take to be free again before its listener is closed anyway.
const FREE_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a port may take to be bound.
const BIND_TIMEOUT: Duration = Duration::from_secs(60);

/// A connection to the node whose answers several threads may wait for.
pub(crate) struct Answers {
    client: Mutex<Client>,
    /// The same socket, to be polled and shut down without the lock.
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

    /// Runs `take` until it gives something, whenever something has come, for at most `ms` (0: once).
    pub(crate) fn wait<T>(
        &self,
        ms: c_int,
        mut take: impl FnMut(&mut Client) -> Result<Option<T>, Failure>,
    ) -> Result<T, Fault> {
        let until = deadline(ms);
        loop {
            // The lock is not held while waiting: every thread keeps to its own time.
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
        // The node may have closed it already.
        let _ = rustix::net::shutdown(&self.socket, rustix::net::Shutdown::Both);
    }
}

/// A port that accepts streams.
pub(crate) struct Listener {
    answers: Answers,
    port: u16,
    /// Whose it is; `None`: nobody asks.
    pub(crate) node: Option<Used<NodeObject>>,
}

impl Listener {
    /// Binds the port and asks for the first stream, so that its arrival makes the socket readable.
    pub(crate) fn bind_on(node: &NodeObject, port: u16) -> Result<Self, Fault> {
        let mut client = node.client()?;
        client.request(&Request::Listen { port }, &[], Some(BIND_TIMEOUT))?;
        client.send(&accept(port), &[])?;
        Ok(Self { answers: Answers::new(client)?, port, node: None })
    }

    /// The next stream: its descriptor, or its number for the node of this process to claim.
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

    /// Frees the port, and ends the waiting of others.
    pub(crate) fn close(&self) {
        self.answers.closed.store(true, Ordering::SeqCst);
        // A node that has ended has no ports.
        let _ = self.answers.client().request(&Request::Unlisten { port: self.port }, &[], Some(FREE_TIMEOUT));
        self.answers.close();
    }
}

/// Asks for the next stream of a port.
const fn accept(port: u16) -> Request {
    Request::Accept { port, hold: Some(true) }
}

/// How an accepted stream is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Want {
    Descriptor,
    Number,
}

/// A connect under way.
pub(crate) struct Dial {
    answers: Answers,
}

impl Dial {
    pub(crate) fn close(&self) {
        self.answers.close();
    }
}

/// Opens a stream to a port of a trusted peer (hostname, address, node number, key or fingerprint) and gives its
/// descriptor, which the caller closes: a Unix socket, blocking, close-on-exec, for read, write, poll, shutdown, sendfile and
/// close. Reading gives 0 at the end; pilot_stream_end tells whether that was in order. *at (or NULL) gets the other end.
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

/// Opens a stream as pilot_connect does and writes into it what is to be read first: at most PILOT_FIRST_MAX bytes, which
/// travel together with the question for the stream, so that a request and its answer take one round trip instead of two.
/// Who refuses the stream never sees them. When the peer restarts meanwhile the stream ends with an error: the peer before
/// may have read them, so they are not given to the one after.
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
        let stream = node.client()?.open_with(peer, port, first, timeout(timeout_ms))?;
        fill(at, &stream.data);
        Ok(stream.socket.into_raw_fd())
    })
}

/// What a stream begins with.
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

/// Does what pilot_connect does without waiting: gives the handle of a connect under way. Poll pilot_connect_fd for reading, then call
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

/// Starts what pilot_connect_with does, as pilot_connect_start does.
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
        let mut client = node.client()?;
        client.send(&Request::Connect { node: peer.into(), port }, first)?;
        insert(Dial { answers: Answers::new(client)? })
    })
}

/// A descriptor that is readable when pilot_connect_finish has something to say. It belongs to the handle.
#[unsafe(no_mangle)]
pub extern "C" fn pilot_connect_fd(connect: pilot_handle, error: *mut pilot_error) -> c_int {
    guarded(error, || Ok(get::<Dial>(connect)?.answers.fd()))
}

/// The outcome of a connect: the stream's descriptor as pilot_connect gives it, once, or why there is none. The handle is to
/// be closed in any case. Waits at most timeout_ms (0: not at all; negative: until it is known). Any thread.
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

/// Accepts streams on a port from peers that were granted it, from now until the handle is closed. A program takes the place
/// of the daemon's own service on a port.
/// Any thread; does not wait for the network. PILOT_E_CONFLICT (the port is bound).
#[unsafe(no_mangle)]
pub extern "C" fn pilot_listen(node: pilot_handle, port: u16, error: *mut pilot_error) -> pilot_handle {
    guarded(error, || {
        let node: Used<NodeObject> = get(node)?;
        insert(Listener { node: Some(node.clone()), ..Listener::bind_on(&node, port)? })
    })
}

/// A descriptor that is readable when pilot_accept may give a stream at once. It belongs to the handle.
#[unsafe(no_mangle)]
pub extern "C" fn pilot_listener_fd(listener: pilot_handle, error: *mut pilot_error) -> c_int {
    guarded(error, || Ok(get::<Listener>(listener)?.answers.fd()))
}

/// Gives the descriptor of the next stream, as pilot_connect does, and who opened it in *from (or NULL). Waits at most
/// timeout_ms (0: not at all; negative: for ever). Any thread; several may wait at once.
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
