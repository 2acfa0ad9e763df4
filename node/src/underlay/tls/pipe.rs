//! Owns one TCP connection that never blocks, in plain or inside TLS.

use mio::net::TcpStream;
use rustls::Connection;
use std::io::{self, Read as _, Write as _};
use std::os::fd::AsFd;

/// Looks at the socket of one call, so that no connection takes a turn of the loop for itself.
const READS: usize = 16;
/// Bytes of one look.
const CHUNK_LEN: usize = 16 << 10;
/// Size of the kernel's buffer for what leaves. Unit: bytes. Source: own choice; what waits longer is dropped by this side, which
/// the link's control of congestion sees, and not delayed by seconds.
const SEND_BUFFER_LEN: usize = 256 << 10;

/// A connection.
pub(crate) struct Pipe {
    socket: TcpStream,
    tls: Option<Box<Connection>>,
    /// Bytes for the socket, where there is no TLS.
    out: Vec<u8>,
    /// Those of them that have left.
    sent: usize,
    is_ended: bool,
}

impl Pipe {
    /// A connection in plain, which may not stand yet.
    pub(crate) fn new(socket: TcpStream) -> Self {
        // Without these a connection is slower and works.
        let _ = socket.set_nodelay(true);
        let _ = rustix::net::sockopt::set_socket_send_buffer_size(socket.as_fd(), SEND_BUFFER_LEN);
        Self { socket, tls: None, out: Vec::new(), sent: 0, is_ended: false }
    }

    /// What is said from now on is said inside TLS.
    pub(crate) fn start_tls(&mut self, mut tls: Connection) {
        debug_assert!(self.tls.is_none() && self.sent == self.out.len());
        tls.set_buffer_limit(None); // what writes here waits for `flush` first
        self.tls = Some(Box::new(tls));
    }

    pub(crate) const fn socket(&mut self) -> &mut TcpStream {
        &mut self.socket
    }

    /// Appends what has arrived; true when more may wait.
    ///
    /// # Errors
    /// The connection has ended or broken, or TLS refuses what came. What arrived before is in `into`.
    pub(crate) fn read(&mut self, into: &mut Vec<u8>) -> io::Result<bool> {
        for _ in 0..READS {
            match self.read_some(into) {
                Ok(()) => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(true)
    }

    fn read_some(&mut self, into: &mut Vec<u8>) -> io::Result<()> {
        let ended = || io::Error::new(io::ErrorKind::UnexpectedEof, "the connection has ended");
        if self.is_ended {
            return Err(ended());
        }
        let Some(tls) = &mut self.tls else {
            let mut chunk = [0; CHUNK_LEN];
            match self.socket.read(&mut chunk)? {
                0 => return Err(ended()),
                len => into.extend_from_slice(&chunk[..len]),
            }
            return Ok(());
        };
        let has_ended = tls.read_tls(&mut self.socket)? == 0;
        let state = tls.process_new_packets().map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e));
        let state = match state {
            Ok(state) => state,
            Err(e) => {
                let _ = tls.write_tls(&mut self.socket); // the alert; nothing follows
                return Err(e);
            }
        };
        let begin = into.len();
        into.resize(begin + state.plaintext_bytes_to_read(), 0);
        let read = tls.reader().read_exact(&mut into[begin..]);
        self.is_ended = has_ended || state.peer_has_closed();
        read
    }

    /// Takes bytes; [`flush`](Self::flush) sends them.
    pub(crate) fn write(&mut self, bytes: &[u8]) {
        match &mut self.tls {
            // Without a limit nothing is refused.
            Some(tls) => drop(tls.writer().write_all(bytes)),
            None => self.out.extend_from_slice(bytes),
        }
    }

    /// Sends what the kernel has room for; true when nothing is left.
    ///
    /// # Errors
    /// The connection is broken.
    pub(crate) fn flush(&mut self) -> io::Result<bool> {
        loop {
            let written = match &mut self.tls {
                Some(tls) if tls.wants_write() => tls.write_tls(&mut self.socket),
                None if self.sent < self.out.len() => self.socket.write(&self.out[self.sent..]),
                _ => break,
            };
            match written {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(len) if self.tls.is_none() => self.sent += len,
                Ok(_) => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        self.out.clear();
        self.sent = 0;
        Ok(true)
    }
}
