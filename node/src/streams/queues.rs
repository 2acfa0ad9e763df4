//! Owns the two bounded byte queues between an application's thread and the loop, and the loop's end of them.

use crate::failure::{Code, Failure};
use crate::platform::Signal;
use crate::streams::byte_queue::{ByteQueue, CHUNK_LEN, Spare};
use crate::streams::names::failure_of;
use pilot_stack::{Recv, Stack, StreamEnd, StreamId};
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
    /// The stream broke: nothing more will be sent, and reading fails once `incoming` is empty, unless `fin` is set.
    pub(crate) failure: Option<Failure>,
    /// Nothing more will be sent, while bytes that arrived before still wait for room in `incoming`.
    pub(crate) is_broken: bool,
    /// The application wants FIN to be sent after `outgoing`.
    pub(crate) shut: bool,
    /// The application does not read any more.
    pub(crate) deaf: bool,
    /// The application dropped its last handle, or closed the stream: close once `outgoing` has left.
    pub(crate) gone: bool,
    /// The application wants the stream to be reset.
    pub(crate) reset: bool,
}

impl Queues {
    /// The application resets the stream.
    pub(crate) fn abort(&mut self) {
        self.incoming.clear();
        self.outgoing.clear();
        self.reset = true;
        self.failure.get_or_insert_with(|| Failure::new(Code::ConnectionReset, "the stream was aborted here"));
    }

    /// Tells whether more may be written.
    ///
    /// # Errors
    /// The stream's failure; `BrokenPipe` after the application ended its writing.
    pub(crate) fn writable(&self) -> io::Result<()> {
        match &self.failure {
            _ if self.gone => Err(io::ErrorKind::BrokenPipe.into()),
            Some(failure) => Err(failure.clone().into()),
            None if self.is_broken => Err(io::ErrorKind::ConnectionReset.into()),
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

    /// Moves bytes between the application and its stream.
    pub(crate) fn serve(&self, stack: &mut Stack) -> Served {
        let shared = &*self.0;
        shared.loop_looks();
        if shared.lock().reset {
            return Served::Aborted;
        }
        let Outgoing { mut changed, reading, room } = take_outgoing(stack, shared);
        // Where the peer's budget is spent, bytes wait for the application in the ring, and the window closes.
        let may_keep = stack.keep(shared.id, QUEUE_MAX.saturating_sub(room));
        let is_full = room == 0;
        let room = room.min(may_keep);
        // Read without the lock, handed over at once.
        let (chunks, end) = read_chunks(stack, room, reading, shared);
        let is_broken = (is_full || may_keep == 0 || end == Recv::Fin) && stack.broken(shared.id).is_some();
        let has_unread = reading == Reading::Over && stack.stream_info(shared.id).is_some_and(|info| info.readable > 0);
        let mut queues = shared.lock();
        changed |= is_broken && !queues.is_broken;
        queues.is_broken |= is_broken;
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
        let served = match queues.gone {
            true if !queues.outgoing.is_empty() => Served::Open,
            true if queues.incoming.is_empty() => Served::Done,
            true => Served::Unread,
            false if has_unread => {
                queues.failure.get_or_insert_with(|| failure_of(stack, shared.id, StreamEnd::Aborted));
                Served::Unread
            }
            false => Served::Open,
        };
        let kept = queues.incoming.len();
        drop(queues);
        stack.keep(shared.id, kept);
        if changed {
            shared.notify();
        }
        served
    }
}

/// The state of a thread's stream after its bytes were moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Served {
    /// The stream goes on.
    Open,
    /// The application is gone, and everything that it wrote has left.
    Done,
    /// The same, or the application has ended both directions, and bytes of the peer are not read.
    Unread,
    /// The application wants a reset.
    Aborted,
}

/// The application's way with bytes that arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reading {
    /// It reads them.
    On,
    /// It has ended its reading and writes on: they are dropped.
    Deaf,
    /// It has ended both directions, or is gone: they are left, and mean a reset.
    Over,
}

/// The state of a stream's queues after the bytes of the application have moved.
struct Outgoing {
    /// There is room again, or nothing will be sent any more.
    changed: bool,
    reading: Reading,
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
            Err(_) => {
                let mut queues = shared.lock();
                queues.outgoing.clear();
                queues.is_broken |= stack.broken(shared.id).is_some();
            }
        }
    }
}

impl Outgoing {
    fn of(queues: &Queues) -> Self {
        let room = QUEUE_MAX.saturating_sub(queues.incoming.len());
        let reading = match (queues.gone, queues.deaf, queues.shut) {
            (true, ..) | (_, true, true) => Reading::Over,
            (_, true, _) => Reading::Deaf,
            _ => Reading::On,
        };
        Self { changed: false, reading, room }
    }
}

/// Up to `room` bytes that have arrived, and the reason why there are not more.
fn read_chunks(stack: &mut Stack, room: usize, reading: Reading, shared: &Shared) -> (Vec<Vec<u8>>, Recv) {
    let (mut chunks, mut left) = (Vec::new(), room);
    let deaf = reading == Reading::Deaf;
    if reading == Reading::Over {
        return (chunks, Recv::Blocked);
    }
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
