//! Owns the mark of the process that the library belongs to: after `fork` the threads of a node run in the parent only,
//! so every call in the child is an error.

use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};

static FORKED: AtomicBool = AtomicBool::new(false);
static WATCH_FORKS: Once = Once::new();

/// Tells whether this process was forked from the one that uses the library.
pub(crate) fn forked() -> bool {
    FORKED.load(Ordering::Relaxed)
}

/// Makes the library this process's own: in a child that is forked later, [`forked`] is true. A fork handler sets the flag,
/// because asking for the process number in every call costs a system call.
pub(crate) fn own() {
    WATCH_FORKS.call_once(|| {
        // SAFETY: the handler only stores into an atomic, which is allowed in a child.
        unsafe { libc::pthread_atfork(None, None, Some(in_child)) };
    });
}

extern "C" fn in_child() {
    FORKED.store(true, Ordering::Relaxed);
}
