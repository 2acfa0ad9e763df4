//! Owns the signals of commands that look after other programs: they are waited for together with the daemon.

use pilot_node::{Code, Failure};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use signal_hook::iterator::backend::SignalDelivery;
use signal_hook::iterator::exfiltrator::SignalOnly;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// Signals that no longer act on this process by themselves.
pub(crate) struct Signals(SignalDelivery<UnixStream, SignalOnly>);

impl Signals {
    /// Takes these signals from now on.
    pub(crate) fn watch(signals: &[i32]) -> Result<Self, Failure> {
        let failed = |e: std::io::Error| Failure::new(Code::Internal, format!("signals: {e}"));
        let (reader, writer) = UnixStream::pair().map_err(failed)?;
        SignalDelivery::with_pipe(reader, writer, SignalOnly, signals).map(Self).map_err(failed)
    }

    /// Waits until a signal has come or `also` is readable, at most `limit` (`None`: for ever); gives the signals.
    pub(crate) fn wait(&mut self, also: Option<&dyn AsFd>, limit: Option<Duration>) -> Result<Vec<i32>, Failure> {
        let also = also.map(|fd| PollFd::from_borrowed_fd(fd.as_fd(), PollFlags::IN));
        self.wait_for(also.into_iter().collect(), limit)
    }

    /// The same with any descriptors that are waited for.
    pub(crate) fn wait_for(&mut self, also: Vec<PollFd<'_>>, limit: Option<Duration>) -> Result<Vec<i32>, Failure> {
        let limit = limit.and_then(|limit| Timespec::try_from(limit).ok());
        // These live for the wait only, so that the signals can be taken afterwards.
        let mut fds: Vec<PollFd<'_>> = also;
        fds.push(PollFd::new(self.0.get_read(), PollFlags::IN));
        let polled = poll(&mut fds, limit.as_ref());
        drop(fds);
        match polled {
            Ok(_) | Err(Errno::INTR) => Ok(self.0.pending().collect()),
            Err(e) => Err(Failure::new(Code::Internal, format!("poll: {e}"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use signal_hook::consts::{SIGUSR1, SIGUSR2};
    use signal_hook::low_level::raise;

    #[test]
    fn signals_are_told_once_and_waiting_ends_by_itself() {
        let mut signals = Signals::watch(&[SIGUSR1, SIGUSR2]).expect("a pipe");
        raise(SIGUSR2).expect("a signal");
        let mut wait = |also, limit| signals.wait(also, limit).expect("a poll");
        assert_eq!(wait(None, None), [SIGUSR2]);
        assert!(wait(None, Some(Duration::from_millis(1))).is_empty());
        let (ours, theirs) = UnixStream::pair().expect("a pair");
        drop(theirs);
        assert!(wait(Some(&ours), None).is_empty(), "the end of the other descriptor wakes");
    }
}
