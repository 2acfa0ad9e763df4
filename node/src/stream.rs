//! Owns the application's end of a stream: reads and writes of any thread, over two bounded byte queues to the loop.

use crate::command::Command;
use crate::event_loop::handover::INTERACTIVE;
use crate::handle::Handle;
use crate::platform::Signal;
use crate::streams::byte_queue::{CHUNK_LEN, Spare, Taken};
use crate::streams::queues::{QUEUE_MAX, Queues, Shared};
use pilot_core::AddrPort;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Longest write that is copied under the queue's lock and shares a chunk with others. Unit: bytes.
const SMALL_LEN: usize = 4096;

/// A byte stream to a peer, with the methods of `std::net::TcpStream`. Clones share one stream. When the last clone is
/// dropped, the stream is closed, and the bytes that were written before are still delivered. When bytes of the peer were
/// not read by then, or arrive later, the peer's writing fails (RFC 1122 §4.2.2.13). A thread that panics drops its last
/// clone with [`Stream::abort`], so that half a message never looks whole.
///
/// Reading gives `Ok(0)` only after the peer's FIN; a stream that broke gives an error.
#[derive(Clone)]
pub struct Stream(Arc<Owned>);

struct Owned {
    shared: Arc<Shared>,
    handle: Handle,
    local: AddrPort,
    peer: AddrPort,
    options: Mutex<Options>,
}

#[derive(Default)]
struct Options {
    read_timeout: Option<Duration>,
    write_timeout: Option<Duration>,
    nonblocking: bool,
    /// The time at which the last wait of a thread on this stream ended; at first, the time at which the stream was made.
    last_wait: Option<Instant>,
    /// The last read or write was longer than [`SMALL_LEN`]: the application and the loop then run on two threads.
    is_bulk: bool,
}

impl Stream {
    pub(crate) fn new(shared: Arc<Shared>, handle: Handle, local: AddrPort, peer: AddrPort) -> Self {
        shared.taken.store(true, Ordering::SeqCst);
        let options = Mutex::new(Options { last_wait: Some(Instant::now()), ..Options::default() });
        Self(Arc::new(Owned { shared, handle, local, peer, options }))
    }

    /// The peer's address and port.
    pub fn peer_addr(&self) -> AddrPort {
        self.0.peer
    }

    /// This node's address and port.
    pub fn local_addr(&self) -> AddrPort {
        self.0.local
    }

    /// Makes another handle to the same stream.
    ///
    /// # Errors
    /// Never; the signature is `TcpStream`'s.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(self.clone())
    }

    /// Ends reading, writing, or both. The end of writing sends FIN after the bytes that were written.
    ///
    /// # Errors
    /// `NotConnected` when the node has ended.
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        {
            let mut queues = self.0.shared.lock();
            queues.shut |= how != Shutdown::Read;
            queues.deaf |= how != Shutdown::Write;
        }
        self.0.shared.notify();
        self.0.tell(false)
    }

    /// Resets the stream: bytes that wait in either direction are dropped, and every use of the stream fails from now on,
    /// here and at the peer. The same as closing a TCP socket after `SO_LINGER` with a time of zero. Does not wait.
    pub fn abort(&self) {
        self.0.shared.lock().abort();
        self.0.shared.notify();
        // A node that has ended has closed its streams.
        let _ = self.0.tell(true);
    }

    /// Closes the stream for every clone, as dropping the last one does. Afterwards reads give `Ok(0)` and writes fail.
    /// Does not wait.
    pub fn close(&self) {
        {
            let mut queues = self.0.shared.lock();
            (queues.gone, queues.deaf) = (true, true);
        }
        self.0.shared.notify();
        // A node that has ended has closed its streams.
        let _ = self.0.tell(false);
    }

    /// Sets the time for which a read blocks; `None`: for ever.
    ///
    /// # Errors
    /// `InvalidInput` for a zero duration, as `TcpStream`.
    pub fn set_read_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        check_timeout(timeout)?;
        self.0.options().read_timeout = timeout;
        Ok(())
    }

    /// Sets the time for which a write blocks; `None`: for ever.
    ///
    /// # Errors
    /// `InvalidInput` for a zero duration, as `TcpStream`.
    pub fn set_write_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        check_timeout(timeout)?;
        self.0.options().write_timeout = timeout;
        Ok(())
    }

    /// Sets whether reads and writes give `WouldBlock` instead of waiting.
    ///
    /// # Errors
    /// Never; the signature is `TcpStream`'s.
    pub fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()> {
        self.0.options().nonblocking = nonblocking;
        Ok(())
    }

    /// The value of [`Stream::set_read_timeout`].
    ///
    /// # Errors
    /// Never; the signature is `TcpStream`'s.
    pub fn read_timeout(&self) -> io::Result<Option<Duration>> {
        Ok(self.0.options().read_timeout)
    }

    /// The value of [`Stream::set_write_timeout`].
    ///
    /// # Errors
    /// Never; the signature is `TcpStream`'s.
    pub fn write_timeout(&self) -> io::Result<Option<Duration>> {
        Ok(self.0.options().write_timeout)
    }

    /// Reads as [`Read::read`] does, but waits at most `timeout` (`None`: for ever; zero: not at all). The stream's own
    /// options do not count.
    ///
    /// # Errors
    /// `WouldBlock` when no byte arrived in time; otherwise as reading.
    pub fn read_within(&self, buf: &mut [u8], timeout: Option<Duration>) -> io::Result<usize> {
        self.0.ready(timeout, |patience| self.0.read(buf, patience))
    }

    /// Writes as [`Write::write`] does, but waits at most `timeout` (`None`: for ever; zero: not at all). The stream's own
    /// options do not count.
    ///
    /// # Errors
    /// `WouldBlock` when there was no room in time; otherwise as writing.
    pub fn write_within(&self, buf: &[u8], timeout: Option<Duration>) -> io::Result<usize> {
        self.0.ready(timeout, |patience| self.0.write(buf, patience))
    }

    /// A descriptor that is readable when a read or a write may succeed. [`Stream::read_within`] and
    /// [`Stream::write_within`] with a timeout of zero make it unreadable again when they give `WouldBlock`. The descriptor
    /// belongs to the stream, which closes it.
    ///
    /// # Errors
    /// The text of the operating system when no descriptors are left.
    pub fn readiness(&self) -> io::Result<BorrowedFd<'_>> {
        let shared = &self.0.shared;
        if shared.readiness.get().is_none() {
            // Readable at first, since earlier changes did not make it readable.
            let signal = Signal::new()?;
            signal.notify();
            // When another thread has set a descriptor meanwhile, that one stays.
            let _ = shared.readiness.set(signal);
        }
        shared.readiness.get().map(|signal| signal.as_fd()).ok_or_else(|| io::ErrorKind::OutOfMemory.into())
    }

    /// Reads without taking: the next read gives the same bytes. Blocks as a read does.
    ///
    /// # Errors
    /// As reading.
    pub fn peek(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.0.wait(self.0.patience(|o| o.read_timeout), |queues| {
            if queues.incoming.is_empty() {
                let failure = queues.failure.clone().map(|f| Err(f.into()));
                return queues.fin.then_some(Ok(0)).or(failure);
            }
            Some(Ok(queues.incoming.peek(buf)))
        })?
    }

    /// Changes nothing: small writes leave at once in any case.
    ///
    /// # Errors
    /// Never; the signature is `TcpStream`'s.
    pub fn set_nodelay(&self, _nodelay: bool) -> io::Result<()> {
        Ok(())
    }
}

fn check_timeout(timeout: Option<Duration>) -> io::Result<()> {
    match timeout {
        Some(Duration::ZERO) => Err(io::Error::new(io::ErrorKind::InvalidInput, "a timeout of zero")),
        _ => Ok(()),
    }
}

/// The time for which an operation waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Patience {
    Never,
    AtMost(Duration),
    ForEver,
}

impl Owned {
    /// The patience that the options ask for.
    fn patience(&self, timeout: impl FnOnce(&Options) -> Option<Duration>) -> Patience {
        let options = self.options();
        match timeout(&options) {
            _ if options.nonblocking => Patience::Never,
            Some(timeout) => Patience::AtMost(timeout),
            None => Patience::ForEver,
        }
    }

    /// Runs `act`. When `act` may not wait and would block, makes the readiness descriptor unreadable and runs `act` again.
    fn ready<T>(&self, timeout: Option<Duration>, mut act: impl FnMut(Patience) -> io::Result<T>) -> io::Result<T> {
        let patience = match timeout {
            None => Patience::ForEver,
            Some(Duration::ZERO) => Patience::Never,
            Some(timeout) => Patience::AtMost(timeout),
        };
        let result = act(patience);
        match (&result, self.shared.readiness.get()) {
            (Err(e), Some(readiness)) if patience == Patience::Never && e.kind() == io::ErrorKind::WouldBlock => {
                readiness.drain();
                act(patience)
            }
            _ => result,
        }
    }

    fn options(&self) -> MutexGuard<'_, Options> {
        self.options.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the loop to look at the queues, unless the loop was told and has not looked yet.
    fn tell(&self, at_once: bool) -> io::Result<()> {
        if self.shared.told.swap(true, Ordering::SeqCst) {
            return Ok(());
        }
        self.handle.look(self.shared.id, at_once)
    }

    /// Waits until `ready` has a result: runs the loop meanwhile, or sleeps.
    fn wait<T>(&self, patience: Patience, mut ready: impl FnMut(&mut Queues) -> Option<T>) -> io::Result<T> {
        if let Some(result) = ready(&mut self.shared.lock()) {
            return Ok(result);
        }
        let timeout = match patience {
            Patience::Never => return Err(io::ErrorKind::WouldBlock.into()),
            Patience::AtMost(timeout) => Some(timeout),
            Patience::ForEver => None,
        };
        let (is_bulk, last_wait) = {
            let options = self.options();
            (options.is_bulk, options.last_wait)
        };
        let begin = Instant::now();
        let deadline = timeout.and_then(|t| begin.checked_add(t));
        if !is_bulk
            && last_wait.is_some_and(|at| begin.duration_since(at) < INTERACTIVE)
            && let Some(result) = self.handle.handover.visit(timeout, || ready(&mut self.shared.lock()))
        {
            self.options().last_wait = Some(Instant::now());
            return Ok(result);
        }
        self.handle.handover.call_back();
        let result = self.sleep(deadline, ready);
        self.options().last_wait = Some(Instant::now());
        result
    }

    fn sleep<T>(&self, deadline: Option<Instant>, mut ready: impl FnMut(&mut Queues) -> Option<T>) -> io::Result<T> {
        let mut queues = self.shared.lock();
        loop {
            if let Some(result) = ready(&mut queues) {
                return Ok(result);
            }
            let left = match deadline {
                None => Duration::from_secs(3600),
                Some(at) => at.checked_duration_since(Instant::now()).ok_or(io::ErrorKind::WouldBlock)?,
            };
            queues = self.shared.changed.wait_timeout(queues, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn read(&self, buf: &mut [u8], patience: Patience) -> io::Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        let taken = self.wait(patience, |queues| {
            if queues.deaf {
                return Some(Ok(None));
            }
            if queues.incoming.is_empty() {
                let failure = queues.failure.clone().map(|f| Err(io::Error::from(f)));
                return queues.fin.then_some(Ok(None)).or(failure);
            }
            let was_full = queues.incoming.len() >= QUEUE_MAX / 2;
            let taken = queues.incoming.take(buf);
            Some(Ok(taken.map(|taken| (taken, was_full && queues.incoming.len() < QUEUE_MAX / 2))))
        })??;
        let Some((taken, has_room_again)) = taken else { return Ok(0) };
        let n = match taken {
            Taken::Part(n) => n,
            Taken::Whole(chunk) => {
                let n = chunk.rest().len();
                buf[..n].copy_from_slice(chunk.rest());
                self.shared.lock().spare.give(chunk.into_buffer());
                n
            }
        };
        if has_room_again {
            self.tell(false)?;
        }
        self.options().is_bulk = n > SMALL_LEN;
        Ok(n)
    }

    fn write(&self, buf: &[u8], patience: Patience) -> io::Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        self.options().is_bulk = buf.len() > SMALL_LEN;
        let n = self.wait(patience, |queues| {
            let room = QUEUE_MAX.saturating_sub(queues.outgoing.len());
            match queues.writable() {
                Ok(()) if room == 0 => None,
                Ok(()) => {
                    let n = room.min(buf.len()).min(CHUNK_LEN);
                    if n <= SMALL_LEN {
                        queues.outgoing.extend(&buf[..n]);
                    }
                    Some(Ok(n))
                }
                Err(e) => Some(Err(e)),
            }
        })??;
        if n > SMALL_LEN {
            // The copy is made without the lock. The loop goes on meanwhile, and the stream may end.
            let buffer = self.shared.lock().spare.take();
            let chunk = Spare::fill(buffer, &buf[..n]);
            let mut queues = self.shared.lock();
            queues.writable()?;
            queues.outgoing.push(chunk);
        }
        self.tell(n <= SMALL_LEN)?;
        Ok(n)
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.shared.lock().abort();
        }
        // A node that has ended has closed its streams.
        let _ = self.handle.send(Command::Close(self.shared.id));
    }
}

impl Read for &Stream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.0.read(buf, self.0.patience(|o| o.read_timeout))
    }
}

impl Write for &Stream {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.0.write(buf, self.0.patience(|o| o.write_timeout))
    }
    /// Does nothing: a write leaves as soon as TCP allows.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Read for Stream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.0.read(buf, self.0.patience(|o| o.read_timeout))
    }
}

impl Write for Stream {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.0.write(buf, self.0.patience(|o| o.write_timeout))
    }
    /// Does nothing: a write leaves as soon as TCP allows.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl std::fmt::Debug for Stream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stream").field("local", &self.0.local).field("peer", &self.0.peer).finish()
    }
}
