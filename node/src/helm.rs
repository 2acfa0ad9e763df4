//! Owns who runs the loop. Usually its own thread does; but a thread of the application that waits for the node can run it
//! meanwhile, so that what it waits for reaches it without a change of threads, and what it writes leaves at once.
//!
//! * The loop's thread holds the driver, also while it sleeps, until a guest asks for it.
//! * A guest (an application thread that waits) has it for at most [`GUEST_MAX`]; whoever waits longer sleeps like others.
//! * After a guest has left, the loop's thread waits [`GRACE`] for the next one before it takes the driver back: threads
//!   that ask and answer come back at once. Nobody looks at sockets and timers for that long, which is the price.

use crate::command::stopped;
use crate::driver::Driver;
use crate::failure::Failure;
use mio::Waker;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, TryLockError};
use std::thread::Thread;
use std::time::{Duration, Instant};

/// How long the loop's thread waits for another guest. Source: measured; a thread that asks and answers is back in 50 µs.
const GRACE: Duration = Duration::from_micros(500);
/// Longest that a guest runs the loop without getting what it waits for. Source: own choice; a server's next request comes
/// without a change of threads when it comes within this time.
pub(crate) const GUEST_MAX: Duration = Duration::from_millis(250);
/// After so many [`GRACE`]s of the same visit the loop's thread no longer looks whether it is over, but is told.
const GRACES_OF_A_VISIT: usize = 4;

/// A thread that waits again so soon after its last wait runs the loop itself meanwhile.
pub(crate) const INTERACTIVE: Duration = Duration::from_millis(2);

pub(crate) struct Helm {
    /// `None` once the node has ended.
    driver: Mutex<Option<Box<Driver>>>,
    waker: Arc<Waker>,
    /// Guests that have the driver or want it.
    guests: AtomicUsize,
    /// Counts the times a guest has had it.
    visits: AtomicU64,
    /// The loop's thread waits for guests, and nobody may be at the helm.
    gives_way: AtomicBool,
    /// The loop's thread sleeps until a guest leaves.
    dozes: AtomicBool,
    loop_thread: OnceLock<Thread>,
}

impl Helm {
    pub(crate) fn new(driver: Driver, waker: Arc<Waker>) -> Arc<Self> {
        Arc::new(Self {
            driver: Mutex::new(Some(Box::new(driver))),
            waker,
            guests: AtomicUsize::new(0),
            visits: AtomicU64::new(0),
            gives_way: AtomicBool::new(false),
            dozes: AtomicBool::new(false),
            loop_thread: OnceLock::new(),
        })
    }

    /// The loop's thread has panicked: nobody shall have the driver any more, and who waits for it is told.
    pub(crate) fn abandon(&self) {
        drop(self.lock());
    }

    fn lock(&self) -> MutexGuard<'_, Option<Box<Driver>>> {
        // A panic outside the guarded parts is a bug of ours; the node has ended then, and with the driver go its streams.
        self.driver.lock().unwrap_or_else(|poisoned| {
            let mut slot = poisoned.into_inner();
            *slot = None;
            slot
        })
    }

    /// The loop's own thread, until the node ends.
    pub(crate) fn run(&self) {
        self.loop_thread.get_or_init(std::thread::current);
        loop {
            let mut slot = self.lock();
            let Some(driver) = slot.as_mut() else { return };
            let goes_on = loop {
                let timeout = driver.turn();
                if driver.is_stopping() {
                    break false;
                }
                if self.guests.load(Ordering::SeqCst) > 0 {
                    break true;
                }
                if !driver.sleep(timeout) {
                    break false; // without poll there is no loop
                }
            };
            let ended = if goes_on { None } else { slot.take() };
            drop(slot);
            if let Some(driver) = ended {
                return driver.end();
            }
            self.give_way();
        }
    }

    /// Waits until no guest has come for a while.
    fn give_way(&self) {
        self.gives_way.store(true, Ordering::SeqCst);
        let mut graces = 0;
        while self.gives_way.load(Ordering::SeqCst) {
            let visits = self.visits.load(Ordering::SeqCst);
            if graces < GRACES_OF_A_VISIT {
                std::thread::park_timeout(GRACE);
            } else {
                self.doze();
            }
            let unchanged = self.visits.load(Ordering::SeqCst) == visits;
            if unchanged && self.guests.load(Ordering::SeqCst) == 0 {
                break;
            }
            graces = if unchanged { graces + 1 } else { 0 };
        }
        self.gives_way.store(false, Ordering::SeqCst);
    }

    /// Sleeps until a guest leaves or somebody calls.
    fn doze(&self) {
        self.dozes.store(true, Ordering::SeqCst);
        // Whoever leaves or calls from now on wakes this thread, also before it sleeps.
        if self.guests.load(Ordering::SeqCst) > 0 && self.gives_way.load(Ordering::SeqCst) {
            std::thread::park();
        }
        self.dozes.store(false, Ordering::SeqCst);
    }

    fn wake_loop_thread(&self) {
        if let Some(thread) = self.loop_thread.get() {
            thread.unpark();
        }
    }

    /// Somebody needs the loop and will not run it: its thread takes the driver back now, not after the grace.
    pub(crate) fn call_back(&self) {
        if self.gives_way.swap(false, Ordering::SeqCst) {
            self.wake_loop_thread();
        }
    }

    /// Runs the loop on this thread until `ready` gives something; `None` when another guest has it, or when it takes
    /// longer than a guest may stay. Never called on the loop's thread.
    pub(crate) fn visit<T>(&self, patience: Option<Duration>, mut ready: impl FnMut() -> Option<T>) -> Option<T> {
        /// Counts while it lives, also when the loop panics under a guest.
        struct Guest<'a>(&'a Helm);
        impl Drop for Guest<'_> {
            fn drop(&mut self) {
                self.0.guests.fetch_sub(1, Ordering::SeqCst);
                if self.0.dozes.swap(false, Ordering::SeqCst) {
                    self.0.wake_loop_thread();
                }
            }
        }
        let others = self.guests.fetch_add(1, Ordering::SeqCst);
        let guest = Guest(self);
        if others > 0 {
            return None;
        }
        let result = self.steer(Instant::now() + patience.map_or(GUEST_MAX, |p| p.min(GUEST_MAX)), &mut ready);
        self.visits.fetch_add(1, Ordering::SeqCst);
        drop(guest);
        if result.is_none() {
            self.call_back(); // it will take longer
        }
        result
    }

    fn steer<T>(&self, end: Instant, ready: &mut impl FnMut() -> Option<T>) -> Option<T> {
        let mut slot = match self.driver.try_lock() {
            Ok(slot) => slot,
            Err(TryLockError::WouldBlock) => {
                self.waker.wake().ok()?;
                self.lock()
            }
            Err(TryLockError::Poisoned(_)) => return None,
        };
        let driver = slot.as_mut()?;
        loop {
            let timeout = driver.turn();
            if let Some(result) = ready() {
                return Some(result);
            }
            let left = end.checked_duration_since(Instant::now()).filter(|_| !driver.is_stopping())?;
            if !driver.sleep(Some(timeout.map_or(left, |t| t.min(left)))) {
                return None;
            }
        }
    }

    /// Runs one turn for what `prepare` asks of the driver, if nobody has it: false when somebody has.
    pub(crate) fn try_turn(&self, prepare: impl FnOnce(&mut Driver)) -> Result<bool, Failure> {
        match self.driver.try_lock() {
            Ok(mut slot) => {
                let driver = slot.as_mut().ok_or_else(stopped)?;
                prepare(driver);
                driver.turn();
                self.visits.fetch_add(1, Ordering::SeqCst);
                Ok(true)
            }
            Err(TryLockError::WouldBlock) => Ok(false),
            Err(TryLockError::Poisoned(_)) => Err(stopped()),
        }
    }
}
