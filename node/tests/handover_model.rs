//! The hand-over of the loop between threads, in every order that the model checker finds (loom).
#![allow(dead_code, reason = "the module is the node's, and its other parts use the rest")]

#[path = "../src/event_loop/handover.rs"]
mod handover;

/// What the hand-over uses of the crate.
mod failure {
    #[derive(Debug)]
    pub(crate) struct Failure;

    impl Failure {
        pub(crate) fn stopped() -> Self {
            Self
        }
    }
}

mod sync {
    pub(crate) use loom::sync::Arc;
    use loom::sync::Condvar;
    pub(crate) use loom::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};
    use std::ops::{Deref, DerefMut};
    use std::sync::{LockResult, TryLockError, TryLockResult};

    /// A mutex with a `try_lock` that returns at once; loom's own waits for the holder.
    pub(crate) struct Mutex<T> {
        held: loom::sync::Mutex<bool>,
        released: Condvar,
        /// Locked by the holder alone.
        value: std::sync::Mutex<T>,
    }

    pub(crate) struct MutexGuard<'a, T> {
        mutex: &'a Mutex<T>,
        value: Option<std::sync::MutexGuard<'a, T>>,
    }

    impl<T> Mutex<T> {
        pub(crate) fn new(value: T) -> Self {
            let (held, released) = (loom::sync::Mutex::new(false), Condvar::new());
            Self { held, released, value: std::sync::Mutex::new(value) }
        }

        pub(crate) fn lock(&self) -> LockResult<MutexGuard<'_, T>> {
            let mut held = self.held.lock().expect("no panic");
            while *held {
                held = self.released.wait(held).expect("no panic");
            }
            *held = true;
            Ok(self.guard())
        }

        pub(crate) fn try_lock(&self) -> TryLockResult<MutexGuard<'_, T>> {
            let mut held = self.held.lock().expect("no panic");
            if *held {
                return Err(TryLockError::WouldBlock);
            }
            *held = true;
            Ok(self.guard())
        }

        fn guard(&self) -> MutexGuard<'_, T> {
            MutexGuard { mutex: self, value: self.value.try_lock().ok() }
        }
    }

    impl<T> Drop for MutexGuard<'_, T> {
        fn drop(&mut self) {
            self.value = None;
            *self.mutex.held.lock().expect("no panic") = false;
            self.mutex.released.notify_one();
        }
    }

    impl<T> Deref for MutexGuard<'_, T> {
        type Target = T;
        fn deref(&self) -> &T {
            self.value.as_ref().expect("held")
        }
    }

    impl<T> DerefMut for MutexGuard<'_, T> {
        fn deref_mut(&mut self) -> &mut T {
            self.value.as_mut().expect("held")
        }
    }

    pub(crate) mod thread {
        pub(crate) use loom::thread::{Thread, current, park};

        /// Time does not pass in the model: a pause may end at any moment.
        pub(crate) fn park_timeout(_: std::time::Duration) {
            loom::thread::yield_now();
        }
    }
}

use handover::{Handover, Turn, Wake};
use loom::model::Builder;
use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use loom::sync::{Arc, Condvar, Mutex};
use loom::thread;
use std::io;
use std::time::Duration;

/// The sockets of the model: work that has arrived, and the waker.
#[derive(Default)]
struct World {
    woken: Mutex<bool>,
    changed: Condvar,
    stop: AtomicBool,
    /// Requests that threads have sent, and answers that the loop has given.
    requests: AtomicUsize,
    answers: AtomicUsize,
    ends: AtomicUsize,
}

impl Wake for World {
    fn wake(&self) -> io::Result<()> {
        *self.woken.lock().expect("no panic") = true;
        self.changed.notify_all();
        Ok(())
    }
}

/// A loop that answers every request in its next turn, and sleeps until it is woken.
struct Model(Arc<World>);

impl Turn for Model {
    fn turn(&mut self) -> Option<Duration> {
        let asked = self.0.requests.load(Ordering::SeqCst);
        self.0.answers.store(asked, Ordering::SeqCst);
        None
    }

    fn sleep(&mut self, _: Option<Duration>) -> bool {
        let mut woken = self.0.woken.lock().expect("no panic");
        while !*woken {
            woken = self.0.changed.wait(woken).expect("no panic");
        }
        *woken = false;
        true
    }

    fn is_stopping(&self) -> bool {
        self.0.stop.load(Ordering::SeqCst)
    }

    fn end(self) {
        self.0.ends.fetch_add(1, Ordering::SeqCst);
    }
}

/// Runs `threads` beside the loop's thread, in every order; afterwards the node is stopped and has ended once.
fn check(threads: usize, body: fn(&Handover<Model, World>, &World)) {
    let mut builder = Builder::new();
    builder.preemption_bound = Some(2);
    builder.check(move || {
        let world = Arc::new(World::default());
        let handover = Handover::new(Model(world.clone()), world.clone());
        let looped = handover.clone();
        let loop_thread = thread::spawn(move || looped.run());
        let guests: Vec<_> = (0..threads)
            .map(|_| {
                let (handover, world) = (handover.clone(), world.clone());
                thread::spawn(move || body(&handover, &world))
            })
            .collect();
        guests.into_iter().for_each(|guest| guest.join().expect("no panic"));
        world.stop.store(true, Ordering::SeqCst);
        handover.call_back();
        world.wake().expect("the model's waker");
        loop_thread.join().expect("no panic");
        assert_eq!(world.ends.load(Ordering::SeqCst), 1, "the loop ends once");
        assert!(handover.visit(None, || Some(())).is_none(), "no thread has the loop any more");
    });
}

/// A thread sends a request as [`Handle::send`] does, and the loop's thread answers it, whatever it was doing.
#[test]
fn a_request_is_answered_although_its_thread_only_sleeps() {
    check(1, |handover, world| {
        let number = world.requests.fetch_add(1, Ordering::SeqCst) + 1;
        handover.call_back();
        world.wake().expect("the model's waker");
        while world.answers.load(Ordering::SeqCst) < number {
            thread::yield_now();
        }
    });
}

/// A thread that waits runs the loop itself and gets its answer. Afterwards the loop's thread is back: what a socket reports is
/// served without any call.
#[test]
fn a_guest_gets_its_answer_and_gives_the_loop_back() {
    check(1, |handover, world| {
        let number = world.requests.fetch_add(1, Ordering::SeqCst) + 1;
        let ready = || (world.answers.load(Ordering::SeqCst) >= number).then_some(());
        assert!(handover.visit(None, ready).is_some(), "the first turn of a lone guest answers");
        let number = world.requests.fetch_add(1, Ordering::SeqCst) + 1;
        world.wake().expect("the model's waker");
        while world.answers.load(Ordering::SeqCst) < number {
            thread::yield_now();
        }
    });
}

/// Of two guests one may find the loop taken; then the one that has it, or the loop's thread, answers both.
#[test]
fn two_threads_never_wait_for_each_other() {
    check(2, |handover, world| {
        let number = world.requests.fetch_add(1, Ordering::SeqCst) + 1;
        let ready = || (world.answers.load(Ordering::SeqCst) >= number).then_some(());
        if handover.visit(None, ready).is_none() {
            handover.call_back();
            world.wake().expect("the model's waker");
            while ready().is_none() {
                thread::yield_now();
            }
        }
    });
}

/// A thread may run one turn for its own work, or tell the loop when another one has it.
#[test]
fn work_that_is_handed_over_is_done() {
    check(1, |handover, world| {
        let number = world.requests.load(Ordering::SeqCst) + 1;
        let done = handover.try_turn(|model| {
            model.0.requests.fetch_add(1, Ordering::SeqCst);
        });
        if !done.expect("the node lives") {
            world.requests.fetch_add(1, Ordering::SeqCst);
            handover.call_back();
            world.wake().expect("the model's waker");
            while world.answers.load(Ordering::SeqCst) < number {
                thread::yield_now();
            }
        }
    });
}
