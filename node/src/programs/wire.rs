//! Owns the bytes between a program's socket and a stream. They go straight between the socket and TCP's rings.
//!
//! The socket is edge-triggered: `readable` and `writable` stay set until a call moves less than it could.

use crate::platform::send_now;
use pilot_stack::{Recv, Stack, StreamEnd, StreamId};
use rustix::io::Errno;
use rustix::net::{RecvFlags, Shutdown, recv, shutdown};
use std::os::fd::OwnedFd;

/// What the loop has been told of a socket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Readiness {
    pub(crate) readable: bool,
    pub(crate) writable: bool,
    /// The other side has ended its writing, or more.
    pub(crate) is_ended: bool,
    /// The socket has failed.
    pub(crate) is_broken: bool,
}

/// The state of a connection after its bytes were moved.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Moved {
    /// At least one direction goes on.
    On,
    /// Both directions ended in order.
    Finished,
    /// The program's side is reset.
    ProgramReset,
    /// The stream broke.
    StreamBroke(StreamEnd),
}

/// A program's socket, and the state of both directions.
pub(super) struct Wire {
    pub(super) socket: OwnedFd,
    ready: Readiness,
    /// The program has written its last byte.
    read_ended: bool,
    /// The peer's FIN was passed on to the program.
    write_ended: bool,
}

impl Wire {
    /// A socket of which nothing is known.
    pub(super) const fn new(socket: OwnedFd) -> Self {
        let ready = Readiness { readable: true, writable: true, is_ended: true, is_broken: false };
        Self { socket, ready, read_ended: false, write_ended: false }
    }

    /// Notes what the loop has been told; true while the socket has not failed.
    pub(super) const fn note(&mut self, news: Readiness) -> bool {
        self.ready.readable |= news.readable;
        self.ready.writable |= news.writable;
        self.ready.is_ended |= news.is_ended;
        self.ready.is_broken |= news.is_broken;
        !self.ready.is_broken
    }

    /// Moves bytes in both directions until none can be moved. Bounded by the rings of TCP.
    pub(super) fn pump(&mut self, stack: &mut Stack, stream: StreamId) -> Moved {
        if self.ready.is_broken {
            return Moved::ProgramReset;
        }
        if !self.read_program(stack, stream) || !self.write_program(stack, stream) {
            return Moved::ProgramReset;
        }
        // What has arrived before the end and fits is with the program now.
        if let Some(end) = stack.stream_info(stream).and_then(|info| info.end) {
            return Moved::StreamBroke(end);
        }
        if self.read_ended && (self.write_ended || self.is_closed()) { Moved::Finished } else { Moved::On }
    }

    /// True when the program has closed its socket, and not only ended its writing, where the kernel knows: for sockets
    /// between programs of this machine. Then arriving bytes will never be read.
    fn is_closed(&self) -> bool {
        send_now(&self.socket, &[]) == Err(Errno::PIPE)
    }

    /// Moves what the program has written; false when the program's side is reset.
    fn read_program(&mut self, stack: &mut Stack, stream: StreamId) -> bool {
        while self.ready.readable && !self.read_ended {
            // A ring without room does not ask for bytes.
            let (mut outcome, mut has_filled) = (Ok(0), true);
            let sent = stack.send_with(stream, |room| {
                outcome = recv(&self.socket, &mut *room, RecvFlags::DONTWAIT).map(|(_, n)| n);
                let n = outcome.unwrap_or(0);
                has_filled = n == room.len();
                n
            });
            match (sent, outcome) {
                (Err(_), _) => break, // `pump` tells the stream's end
                (Ok(_), Err(Errno::INTR)) => {}
                (Ok(_), Err(Errno::AGAIN)) => self.ready.readable = false,
                (Ok(_), Err(_)) => return false,
                (Ok(0), Ok(0)) if !has_filled => {
                    self.read_ended = true;
                    stack.shutdown_write(stream);
                }
                (Ok(0), _) => break, // the ring is full
                // The socket is empty, and will tell of more; an end that came before is not told again.
                (Ok(_), Ok(_)) => self.ready.readable = has_filled || self.ready.is_ended,
            }
        }
        true
    }

    /// Moves what the peer has written; false when the program's side is reset.
    fn write_program(&mut self, stack: &mut Stack, stream: StreamId) -> bool {
        while self.ready.writable && !self.write_ended {
            let mut outcome = Ok(0);
            let result = stack.recv_with(stream, |bytes| {
                outcome = send_now(&self.socket, bytes);
                outcome.unwrap_or(0)
            });
            match outcome {
                Ok(_) | Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => self.ready.writable = false,
                Err(_) => return false,
            }
            match result {
                Recv::Data(_) => {}
                Recv::Blocked | Recv::Ended(_) => break,
                Recv::Fin => {
                    self.write_ended = true;
                    // A socket that the program has closed cannot be shut down, and `pump` finds that out.
                    let _ = shutdown(&self.socket, Shutdown::Write);
                }
            }
        }
        true
    }
}
