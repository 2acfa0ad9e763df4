//! Owns the right to run the loop. Usually its own thread does; an application thread that waits for the node may run it
//! meanwhile, so that the awaited thing reaches it without a change of threads, and its writes leave at once.
//!
//! * The loop's thread holds the loop, also while it sleeps, until a guest asks for it.
//! * A guest (an application thread that waits) has the loop for at most [`VISIT_MAX`]; a longer wait is a sleep.
//! * After a guest has left, the loop's thread waits [`GRACE`] for the next one before it takes the loop back: threads that ask
//!   and answer come back at once. Sockets and timers are not looked at for that long, which is the price.

use crate::failure::Failure;
use crate::sync::thread::{Thread, current, park, park_timeout};
use crate::sync::{Arc, AtomicBool, AtomicU64, AtomicUsize, Mutex, MutexGuard};
use std::io;
use std::sync::atomic::Ordering;
use std::sync::{OnceLock, TryLockError};
use std::time::{Duration, Instant};

/// How long the loop's thread waits for another guest. Source: measured; a thread that asks and answers is back in 50 µs.
const GRACE: Duration = Duration::from_micros(500);
/// Longest visit of a guest that does not get what it waits for. Source: own choice; a server's next request comes without a
/// change of threads when it comes within this time.
pub(crate) const VISIT_MAX: Duration = Duration::from_millis(250);
/// After so many [`GRACE`]s of the same visit the loop's thread does not look any more whether the visit is over, but is told.
const GRACES_OF_A_VISIT: usize = 4;

/// A thread that waits again so soon after its last wait runs the loop itself meanwhile.
pub(crate) const INTERACTIVE: Duration = Duration::from_millis(2);

/// A loop that any thread may run for a while.
pub(crate) trait Turn {
    /// Does everything there is to do, and says how long to [`sleep`](Self::sleep) afterwards. Bounded work; never blocks.
    fn turn(&mut self) -> Option<Duration>;
    /// Waits until something happens or the time is over (`None`: no limit); false when waiting has become impossible.
    fn sleep(&mut self, timeout: Option<Duration>) -> bool;
    /// True when the loop shall end.
    fn is_stopping(&self) -> bool;
    /// Ends the loop in order. Blocks until the disk is synced.
    fn end(self);
}

/// Wakes a loop out of its sleep.
pub(crate) trait Wake {
    /// # Errors
    /// What the operating system says.
    fn wake(&self) -> io::Result<()>;
}

impl Wake for mio::Waker {
    fn wake(&self) -> io::Result<()> {
        mio::Waker::wake(self)
    }
}

/// The loop, and the threads that run it in turns.
pub(crate) struct Handover<T, W = mio::Waker> {
    /// `None` once the node has ended.
    event_loop: Mutex<Option<Box<T>>>,
    waker: Arc<W>,
    /// Guests that have the loop or want it.
    guests: AtomicUsize,
    /// Counts the visits that are over.
    visits: AtomicU64,
    /// The loop's thread waits for guests, and perhaps no thread has the loop.
    gives_way: AtomicBool,
    /// The loop's thread sleeps until a guest leaves.
    sleeps: AtomicBool,
    loop_thread: OnceLock<Thread>,
}

impl<T: Turn, W: Wake> Handover<T, W> {
    pub(crate) fn new(event_loop: T, waker: Arc<W>) -> Arc<Self> {
        Arc::new(Self {
            event_loop: Mutex::new(Some(Box::new(event_loop))),
            waker,
            guests: AtomicUsize::new(0),
            visits: AtomicU64::new(0),
            gives_way: AtomicBool::new(false),
            sleeps: AtomicBool::new(false),
            loop_thread: OnceLock::new(),
        })
    }

    /// The loop's thread has panicked: the loop is dropped, which tells the threads that wait for it.
    pub(crate) fn abandon(&self) {
        drop(self.lock());
    }

    fn lock(&self) -> MutexGuard<'_, Option<Box<T>>> {
        // A panic outside the guarded parts is a bug of ours; the node has ended then, and its streams go with the loop.
        self.event_loop.lock().unwrap_or_else(|poisoned| {
            let mut slot = poisoned.into_inner();
            *slot = None;
            slot
        })
    }

    /// The loop's own thread, until the node ends.
    pub(crate) fn run(&self) {
        self.loop_thread.get_or_init(current);
        loop {
            let mut slot = self.lock();
            let Some(event_loop) = slot.as_mut() else { return };
            let goes_on = loop {
                let timeout = event_loop.turn();
                if event_loop.is_stopping() {
                    break false;
                }
                if self.guests.load(Ordering::SeqCst) > 0 {
                    break true;
                }
                if !event_loop.sleep(timeout) {
                    break false; // without poll there is no loop
                }
            };
            let ended = if goes_on { None } else { slot.take() };
            drop(slot);
            if let Some(event_loop) = ended {
                return event_loop.end();
            }
            self.give_way();
        }
    }

    /// Waits until no guest has come for a while.
    fn give_way(&self) {
        self.gives_way.swap(true, Ordering::SeqCst);
        let mut graces = 0;
        while self.gives_way.load(Ordering::SeqCst) {
            let visits = self.visits.load(Ordering::SeqCst);
            if graces < GRACES_OF_A_VISIT {
                park_timeout(GRACE);
            } else {
                self.sleep_through_the_visit();
            }
            let unchanged = self.visits.load(Ordering::SeqCst) == visits;
            if unchanged && self.guests.load(Ordering::SeqCst) == 0 {
                break;
            }
            graces = if unchanged { graces + 1 } else { 0 };
        }
        self.gives_way.store(false, Ordering::SeqCst);
    }

    /// Sleeps until a guest leaves or another thread calls the loop back.
    fn sleep_through_the_visit(&self) {
        self.sleeps.swap(true, Ordering::SeqCst);
        // A thread that leaves or calls from now on wakes this one, also before it sleeps.
        if self.guests.load(Ordering::SeqCst) > 0 && self.gives_way.load(Ordering::SeqCst) {
            park();
        }
        self.sleeps.store(false, Ordering::SeqCst);
    }

    fn wake_loop_thread(&self) {
        if let Some(thread) = self.loop_thread.get() {
            thread.unpark();
        }
    }

    /// A thread needs the loop and will not run it: the loop's thread takes it back now, not after the grace.
    pub(crate) fn call_back(&self) {
        if self.gives_way.swap(false, Ordering::SeqCst) {
            self.wake_loop_thread();
        }
    }

    /// Runs the loop on this thread until `ready` gives something; `None` when another guest has the loop, or after
    /// [`VISIT_MAX`]. Never called on the loop's thread.
    pub(crate) fn visit<R>(&self, patience: Option<Duration>, mut ready: impl FnMut() -> Option<R>) -> Option<R> {
        /// Counts while it lives, also when the loop panics under a guest.
        struct Guest<'a, T: Turn, W: Wake>(&'a Handover<T, W>);
        impl<T: Turn, W: Wake> Drop for Guest<'_, T, W> {
            fn drop(&mut self) {
                self.0.guests.fetch_sub(1, Ordering::SeqCst);
                if self.0.sleeps.swap(false, Ordering::SeqCst) {
                    self.0.wake_loop_thread();
                }
            }
        }
        let others = self.guests.fetch_add(1, Ordering::SeqCst);
        debug_assert!(others < usize::MAX / 2, "every guest that came has left once");
        let guest = Guest(self);
        if others > 0 {
            return None;
        }
        let result = self.steer(Instant::now() + patience.map_or(VISIT_MAX, |p| p.min(VISIT_MAX)), &mut ready);
        self.visits.fetch_add(1, Ordering::SeqCst);
        drop(guest);
        if result.is_none() {
            self.call_back(); // it will take longer
        }
        result
    }

    fn steer<R>(&self, end: Instant, ready: &mut impl FnMut() -> Option<R>) -> Option<R> {
        let mut slot = match self.event_loop.try_lock() {
            Ok(slot) => slot,
            Err(TryLockError::WouldBlock) => {
                self.waker.wake().ok()?;
                self.lock()
            }
            Err(TryLockError::Poisoned(_)) => return None,
        };
        let event_loop = slot.as_mut()?;
        loop {
            let timeout = event_loop.turn();
            if let Some(result) = ready() {
                return Some(result);
            }
            let left = end.checked_duration_since(Instant::now()).filter(|_| !event_loop.is_stopping())?;
            if !event_loop.sleep(Some(timeout.map_or(left, |t| t.min(left)))) {
                return None;
            }
        }
    }

    /// Runs one turn for the work that `prepare` gives the loop; false when another thread has the loop.
    pub(crate) fn try_turn(&self, prepare: impl FnOnce(&mut T)) -> Result<bool, Failure> {
        match self.event_loop.try_lock() {
            Ok(mut slot) => {
                let event_loop = slot.as_mut().ok_or_else(Failure::stopped)?;
                prepare(event_loop);
                event_loop.turn();
                self.visits.fetch_add(1, Ordering::SeqCst);
                Ok(true)
            }
            Err(TryLockError::WouldBlock) => Ok(false),
            Err(TryLockError::Poisoned(_)) => Err(Failure::stopped()),
        }
    }
}
