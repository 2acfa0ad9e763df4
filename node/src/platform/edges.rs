//! Owns the watch on a descriptor's readiness, through what the system has for many descriptors (epoll, kqueue).

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// A descriptor that is readable once another one's readiness, for reading or writing, has changed.
#[derive(Debug)]
pub struct Edges {
    fd: RawFd,
    poll: Mutex<Poll>,
}

impl Edges {
    /// Begins to watch `watched`, which must live as long as the watch; readable at first if `watched` is ready.
    ///
    /// # Errors
    /// When no descriptors are left.
    pub fn new(watched: impl AsFd) -> io::Result<Self> {
        let poll = Poll::new()?;
        let interest = Interest::READABLE | Interest::WRITABLE;
        poll.registry().register(&mut SourceFd(&watched.as_fd().as_raw_fd()), Token(0), interest)?;
        Ok(Self { fd: poll.as_raw_fd(), poll: Mutex::new(poll) })
    }

    /// Makes the descriptor unreadable until the next change. Any thread; does not wait.
    ///
    /// # Errors
    /// The operating system's.
    pub fn clear(&self) -> io::Result<()> {
        let mut poll = self.poll.lock().unwrap_or_else(PoisonError::into_inner);
        match poll.poll(&mut Events::with_capacity(1), Some(Duration::ZERO)) {
            // A signal may interrupt even this; a readable descriptor costs its user one more look.
            Err(e) if e.kind() == io::ErrorKind::Interrupted => Ok(()),
            result => result,
        }
    }
}

impl AsRawFd for Edges {
    fn as_raw_fd(&self) -> RawFd {
        self.fd
    }
}
