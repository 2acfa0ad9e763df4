//! Owns the bytes between a stream and a file descriptor, which is one end of a socket pair; the application has the other.
//!
//! Bytes go straight between the descriptor and TCP's rings. The descriptor is edge-triggered: `readable` and `writable` stay
//! set until a call says `WouldBlock`.
//!
//! Ends are those of a TCP socket: the end of the application's writing is FIN, closing with unread bytes is a reset, and a
//! reset of the peer is ECONNRESET for a reader and EPIPE for a writer.

use crate::platform::{StreamSocket, send_now};
use pilot_stack::{Recv, Stack, StreamEnd, StreamId};
use rustix::io::Errno;
use rustix::net::{Shutdown, shutdown};

/// The state of a handed-out stream after its bytes were moved.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Pumped {
    /// At least one direction goes on.
    Open,
    /// Both directions ended in order, or the application closed its end.
    Finished,
    /// The application closed its end before it had read everything.
    Unread,
    /// The application's end is closed or shut for writing without the word that [`FdStream::is_explicit`] asks for.
    Unexplained,
    /// The stream broke.
    Broken(StreamEnd),
}

/// A stream's descriptor, and the state of both directions.
pub(crate) struct FdStream {
    pub(crate) socket: StreamSocket,
    pub(crate) readable: bool,
    pub(crate) writable: bool,
    /// The system has reported the end of the application's writing, or of its end of the pair.
    pub(crate) may_end: bool,
    /// The end of the application's writing needs a word before it; without the word that end is the death of a program.
    pub(crate) is_explicit: bool,
    /// The word has come.
    pub(crate) is_finished: bool,
    /// The application has written its last byte, or writes in vain.
    read_ended: bool,
    /// The peer's FIN was passed on to the application.
    write_ended: bool,
    /// The application has ended its reading: arriving bytes are dropped.
    deaf: bool,
}

impl FdStream {
    pub(crate) const fn new(socket: StreamSocket, is_explicit: bool) -> Self {
        Self {
            socket,
            readable: true,
            writable: true,
            may_end: false,
            is_explicit,
            is_finished: false,
            read_ended: false,
            write_ended: false,
            deaf: false,
        }
    }

    /// Moves bytes in both directions until none can be moved. Bounded by the rings of TCP.
    pub(crate) fn pump(&mut self, stack: &mut Stack, id: StreamId) -> Pumped {
        let broken = stack.broken(id);
        if broken.is_some() && !self.read_ended {
            // The writer learns it at once, also while bytes that arrived before wait for a reader.
            let _ = shutdown(&self.socket, Shutdown::Read);
            self.read_ended = true;
        }
        let mut has_looked_again = false;
        loop {
            match self.read_application(stack, id) {
                Pumped::Open => {}
                over => return over,
            }
            match self.write_application(stack, id) {
                Err(end) => return Pumped::Broken(end),
                Ok(Written::Done) => break,
                // Neither direction goes on.
                Ok(Written::Refused) if self.read_ended => return broken.map_or_else(|| self.over(), Pumped::Broken),
                // Closing would have ended the writing of the application too. The system reports both at once.
                Ok(Written::Refused) if !has_looked_again => {
                    (has_looked_again, self.readable, self.may_end) = (true, true, true);
                }
                Ok(Written::Refused) if self.readable => break, // TCP has no room for the bytes before that end
                Ok(Written::Refused) => self.deaf = true,
            }
        }
        match broken {
            Some(end) if self.write_ended => Pumped::Broken(end),
            None if self.read_ended && (self.write_ended || self.deaf || self.is_closed()) => self.over(),
            _ => Pumped::Open,
        }
    }

    /// The end of both directions, unless the application left bytes unread.
    fn over(&self) -> Pumped {
        if self.socket.takes_reset() { Pumped::Unread } else { Pumped::Finished }
    }

    /// True when the application has closed its end, and not only ended its writing. Then arriving bytes will never be read,
    /// and a peer that does not end its own side must not keep the stream.
    fn is_closed(&self) -> bool {
        self.read_ended && !self.write_ended && send_now(&self.socket, &[]) == Err(Errno::PIPE)
    }

    fn read_application(&mut self, stack: &mut Stack, id: StreamId) -> Pumped {
        while self.readable && !self.read_ended {
            let (mut ended, mut blocked) = (None, false);
            let (socket, may_end) = (&mut self.socket, self.may_end);
            let result = stack.send_with(id, |room| match socket.recv(room, may_end) {
                Ok(0) => {
                    ended = Some(Pumped::Finished);
                    0
                }
                Ok(n) => n,
                Err(Errno::CONNRESET) => {
                    ended = Some(Pumped::Unread);
                    0
                }
                Err(Errno::INTR) => 0,
                Err(_) => {
                    blocked = true;
                    0
                }
            });
            self.readable = !blocked;
            match ended {
                Some(Pumped::Unread) => return Pumped::Unread,
                Some(_) if self.is_explicit && !self.is_finished => return Pumped::Unexplained,
                Some(_) => {
                    self.read_ended = true;
                    stack.shutdown_write(id);
                }
                // No room, or the stream has ended: `write_application` reports that, after the bytes before it.
                None if !result.is_ok_and(|n| n > 0) => break,
                None => {}
            }
        }
        Pumped::Open
    }

    fn write_application(&mut self, stack: &mut Stack, id: StreamId) -> Result<Written, StreamEnd> {
        while (self.writable || self.deaf) && !self.write_ended {
            let (mut blocked, mut refused) = (false, false);
            let (socket, deaf) = (&self.socket, self.deaf);
            let result = stack.recv_with(id, |bytes| {
                if deaf {
                    return bytes.len();
                }
                match send_now(socket, bytes) {
                    Ok(n) => return n,
                    Err(Errno::INTR) => {}
                    Err(Errno::AGAIN) => blocked = true,
                    Err(_) => refused = true,
                }
                0
            });
            self.writable = !blocked;
            if refused {
                return Ok(Written::Refused);
            }
            match result {
                Recv::Data(_) => {}
                Recv::Blocked => break,
                Recv::Fin => {
                    self.write_ended = true;
                    // A descriptor that the application has closed cannot be shut down.
                    let _ = shutdown(&self.socket, Shutdown::Write);
                }
                Recv::Ended(end) => return Err(end),
            }
        }
        Ok(Written::Done)
    }
}

/// The outcome of handing arrived bytes to the application.
enum Written {
    /// None are left, or the application reads them later.
    Done,
    /// The application has ended its reading, or closed its end.
    Refused,
}
