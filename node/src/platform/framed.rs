//! Owns packets on a stream socket, for systems without SOCK_SEQPACKET among Unix sockets: each packet follows its length, a
//! u16 (big-endian).
//!
//! A system may take a part of the bytes. The node keeps the rest of a packet and sends it once there is room. A
//! client's end has no memory between two calls, so a call finishes the packet that was begun, and waits for the node, which
//! reads and completes packets whenever its loop turns.

use crate::frame_reader::FrameReader;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::{AsFd, BorrowedFd};
use rustix::fs::{OFlags, fcntl_getfl};
use rustix::io::{Errno, Result};
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags, recv as recv_bytes, sendmsg};
use std::io::{IoSlice, IoSliceMut};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Length of a packet's length. Unit: bytes.
const PREFIX_LEN: usize = 2;
/// Bytes taken with one call. Unit: bytes.
const CHUNK_LEN: usize = 64 * 1024;

/// Packets under way at an end that does not wait.
#[derive(Debug, Default)]
pub(super) struct Packets {
    incoming: FrameReader,
    /// The rest of a packet that has left in part.
    rest: FrameReader,
}

impl Packets {
    /// Sends a packet, of which the socket may keep a rest back.
    ///
    /// # Errors
    /// `AGAIN` when there is no room, also for the rest of the packet before; `MSGSIZE`; the socket's error.
    pub(super) fn send(&mut self, socket: impl AsFd, packet: &[u8], quiet: SendFlags) -> Result<()> {
        self.flush(&socket, quiet)?;
        let prefix = prefix(packet.len())?;
        let parts = [IoSlice::new(&prefix), IoSlice::new(packet)];
        let n = sendmsg(socket, &parts, &mut SendAncillaryBuffer::default(), SendFlags::DONTWAIT | quiet)?;
        if n < PREFIX_LEN + packet.len() {
            self.rest.extend(prefix.get(n..).unwrap_or_default());
            self.rest.extend(&packet[n.saturating_sub(PREFIX_LEN)..]);
        }
        Ok(())
    }

    /// Sends the rest of a packet, if there is one.
    ///
    /// # Errors
    /// `AGAIN` while a rest stays; the socket's error.
    pub(super) fn flush(&mut self, socket: impl AsFd, quiet: SendFlags) -> Result<()> {
        while !self.rest.is_empty() {
            let n = rustix::net::send(&socket, self.rest.rest(), SendFlags::DONTWAIT | quiet)?;
            self.rest.consume(n);
        }
        Ok(())
    }

    /// Takes the next packet, cut to the buffer; 0 at the end of the stream. Packets of no bytes are passed over.
    ///
    /// # Errors
    /// `AGAIN` when no packet is complete; the socket's error.
    pub(super) fn recv(&mut self, socket: impl AsFd, buffer: &mut [u8]) -> Result<usize> {
        loop {
            if let Some((packet, len)) = complete(self.incoming.rest()) {
                let n = packet.len().min(buffer.len());
                buffer[..n].copy_from_slice(&packet[..n]);
                self.incoming.consume(len);
                if len > PREFIX_LEN {
                    return Ok(n);
                }
                continue;
            }
            let begun = self.incoming.rest().len();
            debug_assert!(begun < PREFIX_LEN + usize::from(u16::MAX), "a complete packet was taken");
            let mut chunk = [0; CHUNK_LEN];
            match recv_bytes(&socket, &mut chunk, RecvFlags::DONTWAIT) {
                Ok((_, 0)) | Err(Errno::CONNRESET) => return Ok(0),
                Ok((_, n)) => self.incoming.extend(&chunk[..n]),
                Err(e) => return Err(e),
            }
        }
    }
}

/// The first packet in `bytes`, and its length with its prefix.
fn complete(bytes: &[u8]) -> Option<(&[u8], usize)> {
    let (prefix, rest) = bytes.split_first_chunk::<PREFIX_LEN>()?;
    let packet = rest.get(..usize::from(u16::from_be_bytes(*prefix)))?;
    Some((packet, PREFIX_LEN + packet.len()))
}

fn prefix(len: usize) -> Result<[u8; PREFIX_LEN]> {
    u16::try_from(len).map(u16::to_be_bytes).map_err(|_| Errno::MSGSIZE)
}

/// One client's thread sends or receives at a time: the packets of two would be mixed. A thread waits without the lock, except
/// for the rest of a packet.
static SENDING: Mutex<()> = Mutex::new(());
static RECEIVING: Mutex<()> = Mutex::new(());

fn lock(direction: &'static Mutex<()>) -> MutexGuard<'static, ()> {
    direction.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Sends a packet; waits for room if the descriptor says so.
///
/// # Errors
/// `AGAIN` when there is no room; `MSGSIZE`; the socket's error.
pub(super) fn send(fd: BorrowedFd<'_>, parts: &[IoSlice<'_>], quiet: SendFlags) -> Result<()> {
    let prefix = prefix(parts.iter().map(|part| part.len()).sum())?;
    let packet: Vec<u8> =
        [&prefix[..]].into_iter().chain(parts.iter().map(|part| &**part)).collect::<Vec<_>>().concat();
    loop {
        let guard = lock(&SENDING);
        let mut sent = match rustix::net::send(fd, &packet, SendFlags::DONTWAIT | quiet) {
            Ok(n) => n,
            Err(Errno::INTR) => continue,
            Err(Errno::AGAIN) if waits(fd)? => {
                drop(guard);
                wait(fd, PollFlags::OUT)?;
                continue;
            }
            Err(e) => return Err(e),
        };
        while sent < packet.len() {
            match rustix::net::send(fd, &packet[sent..], SendFlags::DONTWAIT | quiet) {
                Ok(n) => sent += n,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => wait(fd, PollFlags::OUT)?,
                Err(e) => return Err(e),
            }
        }
        return Ok(());
    }
}

/// Takes the next packet, cut to the parts; 0 at the end of the stream. Waits for a packet if the descriptor says so.
///
/// # Errors
/// `AGAIN` when there is no packet; the socket's error.
pub(super) fn recv(fd: BorrowedFd<'_>, parts: &mut [IoSliceMut<'_>]) -> Result<usize> {
    loop {
        let guard = lock(&RECEIVING);
        let mut prefix = [0; PREFIX_LEN];
        let begun = match recv_bytes(fd, &mut prefix, RecvFlags::DONTWAIT) {
            Ok((_, 0)) | Err(Errno::CONNRESET) => return Ok(0),
            Ok((_, n)) => n,
            Err(Errno::INTR) => continue,
            Err(Errno::AGAIN) if waits(fd)? => {
                drop(guard);
                wait(fd, PollFlags::IN)?;
                continue;
            }
            Err(e) => return Err(e),
        };
        if !fill(fd, &mut prefix[begun..])? {
            return Ok(0);
        }
        let mut packet = vec![0; usize::from(u16::from_be_bytes(prefix))];
        if !fill(fd, &mut packet)? {
            return Ok(0);
        }
        drop(guard);
        if !packet.is_empty() {
            return Ok(scatter(&packet, parts));
        }
    }
}

/// Fills the buffer; false when the stream ends before.
fn fill(fd: BorrowedFd<'_>, mut buffer: &mut [u8]) -> Result<bool> {
    while !buffer.is_empty() {
        match recv_bytes(fd, &mut *buffer, RecvFlags::DONTWAIT) {
            Ok((_, 0)) | Err(Errno::CONNRESET) => return Ok(false),
            Ok((_, n)) => buffer = &mut buffer[n..],
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => wait(fd, PollFlags::IN)?,
            Err(e) => return Err(e),
        }
    }
    Ok(true)
}

/// Copies a packet into the parts; gives how many bytes they had room for.
fn scatter(packet: &[u8], parts: &mut [IoSliceMut<'_>]) -> usize {
    let mut rest = packet;
    for part in parts {
        let (now, later) = rest.split_at(part.len().min(rest.len()));
        part[..now.len()].copy_from_slice(now);
        rest = later;
    }
    packet.len() - rest.len()
}

fn waits(fd: BorrowedFd<'_>) -> Result<bool> {
    Ok(!fcntl_getfl(fd)?.contains(OFlags::NONBLOCK))
}

fn wait(fd: BorrowedFd<'_>, ready: PollFlags) -> Result<()> {
    match poll(&mut [PollFd::new(&fd, ready)], None) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(e) => Err(e),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use rustix::net::sockopt::set_socket_send_buffer_size;
    use std::io::Write as _;
    use std::os::unix::net::UnixStream;

    const QUIET: SendFlags = SendFlags::empty();

    /// A pair of sockets that take a small part of a long packet at once.
    fn small_pair() -> (UnixStream, UnixStream) {
        let (a, b) = UnixStream::pair().unwrap();
        for socket in [&a, &b] {
            set_socket_send_buffer_size(socket, 1).unwrap();
        }
        (a, b)
    }

    #[test]
    fn the_rest_of_a_packet_leaves_before_the_next_packet() {
        let (ours, theirs) = small_pair();
        let (mut packets, long) = (Packets::default(), [7; 50_000]);
        packets.send(&ours, &long, QUIET).unwrap();
        assert!(!packets.rest.is_empty(), "the system took a part");
        assert_eq!(packets.send(&ours, b"too early", QUIET), Err(Errno::AGAIN));
        std::thread::scope(|scope| {
            let client = scope.spawn(|| {
                let (mut first, mut second) = (vec![0; 60_000], [0; 9]);
                assert_eq!(recv(theirs.as_fd(), &mut [IoSliceMut::new(&mut first)]), Ok(long.len()));
                assert_eq!(first[..long.len()], long);
                assert_eq!(recv(theirs.as_fd(), &mut [IoSliceMut::new(&mut second)]), Ok(4));
                assert_eq!(&second[..4], b"next");
            });
            while packets.send(&ours, b"next", QUIET) == Err(Errno::AGAIN) {
                wait(ours.as_fd(), PollFlags::OUT).unwrap();
            }
            client.join().unwrap();
        });
    }

    #[test]
    fn a_client_finishes_the_packet_that_it_began() {
        let (ours, theirs) = small_pair();
        theirs.set_nonblocking(true).unwrap();
        let (mut packets, mut buffer) = (Packets::default(), vec![0; 60_000]);
        std::thread::scope(|scope| {
            let client = scope.spawn(|| send(theirs.as_fd(), &[IoSlice::new(&[7; 50_000])], QUIET));
            let received = loop {
                match packets.recv(&ours, &mut buffer) {
                    Err(Errno::AGAIN) => wait(ours.as_fd(), PollFlags::IN).unwrap(),
                    received => break received,
                }
            };
            assert_eq!((received, client.join().unwrap()), (Ok(50_000), Ok(())));
        });
        assert!(buffer[..50_000].iter().all(|byte| *byte == 7));
    }

    #[test]
    fn packets_that_come_byte_by_byte_are_whole() {
        let (mut client, ours) = UnixStream::pair().unwrap();
        let (mut packets, mut buffer) = (Packets::default(), [0; 9]);
        let bytes = b"\0\x03one\0\0\0\x03two";
        let mut received = Vec::new();
        for byte in bytes {
            client.write_all(&[*byte]).unwrap();
            match packets.recv(&ours, &mut buffer) {
                Ok(n) => received.push(buffer[..n].to_vec()),
                Err(e) => assert_eq!(e, Errno::AGAIN),
            }
        }
        assert_eq!(received, [b"one", b"two"], "and an empty packet is passed over");
        client.write_all(b"\0\x09half").unwrap();
        drop(client);
        assert_eq!(packets.recv(&ours, &mut buffer), Ok(0));
    }

    #[test]
    fn a_packet_that_was_not_finished_is_an_end() {
        let (mut node, theirs) = UnixStream::pair().unwrap();
        node.write_all(b"\0\x09half").unwrap();
        drop(node);
        assert_eq!(recv(theirs.as_fd(), &mut [IoSliceMut::new(&mut [0; 9])]), Ok(0));
    }
}
