//! Owns the bytes between a stream and a file descriptor, which is one end of a socket pair; the application has the other.
//!
//! Bytes go straight between the descriptor and TCP's rings. The descriptor is edge-triggered: `readable` and `writable` stay
//! set until a call says `WouldBlock`.

use crate::platform::send_now;
use pilot_stack::{CommandError, Recv, Stack, StreamEnd, StreamId};
use rustix::io::Errno;
use rustix::net::{RecvFlags, Shutdown, recv, shutdown};
use std::os::fd::OwnedFd;

/// The state of a handed-out stream after its bytes were moved.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Pumped {
    /// At least one direction goes on.
    Open,
    /// Both directions ended in order.
    Finished,
    /// The stream broke.
    Broken(StreamEnd),
}

/// A stream's descriptor, and the state of both directions.
pub(crate) struct FdStream {
    pub(crate) fd: OwnedFd,
    pub(crate) readable: bool,
    pub(crate) writable: bool,
    /// The application has written its last byte.
    read_ended: bool,
    /// The peer's FIN was passed on to the application.
    write_ended: bool,
    /// The application has closed its end: the bytes that it wrote before are still sent, arriving bytes are dropped.
    deaf: bool,
    /// The application's end was reset, or refuses what the peer sent.
    pub(crate) is_reset: bool,
}

impl FdStream {
    pub(crate) const fn new(fd: OwnedFd) -> Self {
        Self { fd, readable: true, writable: true, read_ended: false, write_ended: false, deaf: false, is_reset: false }
    }

    /// Moves bytes in both directions until none can be moved. Bounded by the rings of TCP.
    pub(crate) fn pump(&mut self, stack: &mut Stack, id: StreamId) -> Pumped {
        let outcome = self.read_application(stack, id).and_then(|()| {
            self.deaf |= self.is_closed();
            self.write_application(stack, id)
        });
        match outcome {
            Err(end) => end,
            Ok(()) if self.read_ended && (self.write_ended || self.deaf) => Pumped::Finished,
            Ok(()) => Pumped::Open,
        }
    }

    /// True when the application has closed its end, and not only ended its writing. Then arriving bytes will never be read,
    /// and a peer that does not end its own side must not keep the stream.
    fn is_closed(&self) -> bool {
        self.read_ended && !self.write_ended && send_now(&self.fd, &[]) == Err(Errno::PIPE)
    }

    fn read_application(&mut self, stack: &mut Stack, id: StreamId) -> Result<(), Pumped> {
        while self.readable && !self.read_ended {
            let (mut ended, mut blocked) = (false, false);
            let result = stack.send_with(id, |room| match recv(&self.fd, &mut *room, RecvFlags::DONTWAIT) {
                Ok((_, 0)) => {
                    ended = true;
                    0
                }
                Ok((_, n)) => n,
                Err(Errno::CONNRESET) => {
                    (ended, self.is_reset) = (true, true);
                    0
                }
                Err(Errno::INTR) => 0,
                Err(_) => {
                    blocked = true;
                    0
                }
            });
            self.readable = !blocked;
            if ended {
                self.read_ended = true;
                stack.shutdown_write(id);
            }
            match result {
                Ok(0) => break,
                Ok(_) => {}
                Err(CommandError::Ended(_)) => break, // `write_application` reports the end, after the bytes before it
                Err(_) => self.read_ended = true,
            }
        }
        Ok(())
    }

    fn write_application(&mut self, stack: &mut Stack, id: StreamId) -> Result<(), Pumped> {
        while (self.writable || self.deaf) && !self.write_ended {
            let (mut blocked, mut gone) = (false, self.deaf);
            let result = stack.recv_with(id, |bytes| {
                if gone {
                    bytes.len()
                } else {
                    match send_now(&self.fd, bytes) {
                        Ok(n) => n,
                        Err(Errno::INTR) => 0,
                        Err(Errno::AGAIN) => {
                            blocked = true;
                            0
                        }
                        Err(_) => {
                            (gone, self.is_reset) = (true, true);
                            0
                        }
                    }
                }
            });
            self.deaf = gone;
            self.writable = !blocked;
            match result {
                Recv::Data(_) => {}
                Recv::Blocked => break,
                Recv::Fin => {
                    self.write_ended = true;
                    // A descriptor that the application has closed cannot be shut down.
                    let _ = shutdown(&self.fd, Shutdown::Write);
                }
                Recv::Ended(end) => return Err(Pumped::Broken(end)),
            }
        }
        Ok(())
    }
}
