//! Owns the two bounded byte queues between an application's thread and the loop, and the loop's end of them.

use crate::failure::{Code, Failure};
use crate::platform::Signal;
use crate::streams::byte_queue::{ByteQueue, CHUNK_LEN, Spare};
use crate::streams::names::failure_of;
use pilot_stack::{Recv, Stack, StreamId};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};

/// Most bytes that wait in each direction between application and loop; a full queue closes TCP's window. Unit: bytes.
pub(crate) const QUEUE_MAX: usize = 512 * 1024;
/// A stream's queues and flags, shared by the application's handles and the loop.
pub(crate) struct Shared {
    pub(crate) id: StreamId,
    queues: Mutex<Queues>,
    pub(crate) changed: Condvar,
    /// Made readable by every change, from the first call of `Stream::readiness` on.
    pub(crate) readiness: OnceLock<Signal>,
    /// The loop has been told to serve the stream and has not begun.
    pub(crate) told: AtomicBool,
    /// A `Stream` of the application exists or existed.
    pub(crate) taken: AtomicBool,
}

#[derive(Default)]
pub(crate) struct Queues {
    pub(crate) incoming: ByteQueue,
    pub(crate) outgoing: ByteQueue,
    pub(crate) spare: Spare,
    /// The peer's FIN has arrived.
    pub(crate) fin: bool,
    pub(crate) failure: Option<Failure>,
    /// The application wants FIN to be sent after `outgoing`.
    pub(crate) shut: bool,
    /// The application does not read any more.
    pub(crate) deaf: bool,
    /// The application dropped its last handle: close once `outgoing` has left.
    pub(crate) gone: bool,
}

impl Queues {
    /// Tells whether more may be written.
    ///
    /// # Errors
    /// The stream's failure; `BrokenPipe` after the application ended its writing.
    pub(crate) fn writable(&self) -> io::Result<()> {
        match &self.failure {
            Some(failure) => Err(failure.clone().into()),
            None if self.shut => Err(io::ErrorKind::BrokenPipe.into()),
            None => Ok(()),
        }
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Shared {
    pub(crate) fn new(id: StreamId) -> Arc<Self> {
        Arc::new(Self {
            id,
            queues: Mutex::default(),
            changed: Condvar::new(),
            readiness: OnceLock::new(),
            told: AtomicBool::new(false),
            taken: AtomicBool::new(false),
        })
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Queues> {
        // No holder of the lock panics; after a panic the queues would still be bytes.
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn notify(&self) {
        self.changed.notify_all();
        if let Some(readiness) = self.readiness.get() {
            readiness.notify();
        }
    }

    /// Notes that the loop serves the stream now; later changes must be told again.
    pub(crate) fn loop_looks(&self) {
        self.told.store(false, Ordering::SeqCst);
    }
}

/// The loop's end of a stream. Dropping it, for whatever reason, tells the application's threads that no more will arrive.
pub(crate) struct LoopEnd(Arc<Shared>);

impl LoopEnd {
    pub(crate) const fn new(shared: Arc<Shared>) -> Self {
        Self(shared)
    }

    pub(crate) const fn shared(&self) -> &Arc<Shared> {
        &self.0
    }

    /// True when the stream was on its way to a thread that has given up waiting.
    pub(crate) fn is_orphan(&self) -> bool {
        Arc::strong_count(&self.0) == 1 && !self.0.taken.load(Ordering::SeqCst)
    }

    /// Moves bytes between the application and its stream. False when the application is gone and everything that it wrote
    /// has left.
    pub(crate) fn serve(&self, stack: &mut Stack) -> bool {
        let shared = &*self.0;
        shared.loop_looks();
        let Outgoing { mut changed, deaf, room } = take_outgoing(stack, shared);
        // Read without the lock, handed over at once.
        let (chunks, end) = read_chunks(stack, room, deaf, shared);
        let mut queues = shared.lock();
        changed |= !chunks.is_empty();
        chunks.into_iter().for_each(|chunk| queues.incoming.push(chunk));
        debug_assert!(queues.incoming.len() <= QUEUE_MAX, "a full queue closes the window");
        match end {
            Recv::Fin => {
                changed |= !queues.fin;
                queues.fin = true;
            }
            Recv::Ended(end) if queues.failure.is_none() => {
                changed = true;
                queues.failure = Some(failure_of(stack, shared.id, end));
            }
            _ => {}
        }
        let is_over = queues.gone && queues.outgoing.is_empty();
        drop(queues);
        if changed {
            shared.notify();
        }
        !is_over
    }
}

/// The state of a stream's queues after the bytes of the application have moved.
struct Outgoing {
    /// There is room again, or nothing will be sent any more.
    changed: bool,
    /// The application does not read.
    deaf: bool,
    /// Room for bytes that arrive. Unit: bytes.
    room: usize,
}

/// Moves the bytes that the application wrote into the stream.
fn take_outgoing(stack: &mut Stack, shared: &Shared) -> Outgoing {
    let mut changed = false;
    loop {
        let mut queues = shared.lock();
        let chunk = queues.outgoing.pop();
        let Some(mut chunk) = chunk else {
            if queues.shut {
                stack.shutdown_write(shared.id);
            }
            return Outgoing { changed, ..Outgoing::of(&queues) };
        };
        drop(queues);
        let sent = stack.send(shared.id, chunk.rest());
        changed |= !matches!(sent, Ok(0));
        match sent {
            Ok(n) if n == chunk.rest().len() => {
                let buffer = chunk.into_buffer();
                if Spare::wants(&buffer) {
                    shared.lock().spare.give(buffer);
                }
            }
            Ok(n) => {
                chunk.consume(n);
                let mut queues = shared.lock();
                queues.outgoing.put_back(chunk);
                return Outgoing { changed, ..Outgoing::of(&queues) };
            }
            // Nothing will be sent any more; the reason is told with the stream's end.
            Err(_) => shared.lock().outgoing.clear(),
        }
    }
}

impl Outgoing {
    fn of(queues: &Queues) -> Self {
        let room = QUEUE_MAX.saturating_sub(queues.incoming.len());
        Self { changed: false, deaf: queues.deaf, room }
    }
}

/// Up to `room` bytes that have arrived, and the reason why there are not more. The bytes for a deaf application are dropped.
fn read_chunks(stack: &mut Stack, room: usize, deaf: bool, shared: &Shared) -> (Vec<Vec<u8>>, Recv) {
    let (mut chunks, mut left) = (Vec::new(), room);
    while left > 0 {
        let result = stack.recv_with(shared.id, |bytes| {
            let n = bytes.len().min(left).min(CHUNK_LEN);
            if !deaf {
                let buffer = if n < CHUNK_LEN / 2 { None } else { shared.lock().spare.take() };
                chunks.push(Spare::fill(buffer, &bytes[..n]));
            }
            n
        });
        match result {
            Recv::Data(_) if deaf => {}
            Recv::Data(n) => left -= n,
            end => return (chunks, end),
        }
    }
    (chunks, Recv::Blocked)
}

impl Drop for LoopEnd {
    fn drop(&mut self) {
        self.0
            .lock()
            .failure
            .get_or_insert_with(|| Failure::new(Code::Internal, "the node failed, and the stream with it"));
        self.0.notify();
    }
}
