//! Owns the UDP socket: batches of datagrams in and out (recvmmsg with GRO, sendmsg with GSO) through quinn-udp.

use quinn_udp::{BATCH_SIZE, RecvMeta, Transmit, UdpSockRef, UdpSocketState};
use std::io::{self, IoSliceMut};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsRawFd, RawFd};

/// Wanted size of the kernel's buffers. Unit: bytes. The kernel may grant less.
const SOCKET_BUFFER_LEN: usize = 4 << 20;
/// Room for one batch of datagrams that GRO has joined. Unit: bytes.
const SLOT_LEN: usize = 65_535;
/// Batches that one receive call takes at most.
const SLOTS: usize = if BATCH_SIZE < 8 { BATCH_SIZE } else { 8 };

/// A non-blocking UDP socket that moves many datagrams per system call.
pub struct Udp {
    socket: UdpSocket,
    state: UdpSocketState,
    buffers: [Vec<u8>; SLOTS],
    meta: [RecvMeta; SLOTS],
    /// A batch for which the kernel had no room: destination, length of each datagram but the last, bytes.
    blocked: Option<(SocketAddr, usize, Vec<u8>)>,
    /// The kernel cuts batches into datagrams.
    gso: bool,
}

impl Udp {
    /// Binds a socket and asks the kernel for large buffers.
    ///
    /// # Errors
    /// The error of the operating system: the address is taken or not this machine's, or no descriptors are left.
    pub fn bind(addr: SocketAddr) -> io::Result<Self> {
        let socket = UdpSocket::bind(addr)?;
        let state = UdpSocketState::new(UdpSockRef::from(&socket))?;
        // Smaller buffers lose more datagrams, but work.
        let _ = state.set_send_buffer_size(UdpSockRef::from(&socket), SOCKET_BUFFER_LEN);
        let _ = state.set_recv_buffer_size(UdpSockRef::from(&socket), SOCKET_BUFFER_LEN);
        let buffers = std::array::from_fn(|_| vec![0; SLOT_LEN]);
        let gso = state.max_gso_segments() > 1;
        Ok(Self { socket, state, buffers, meta: [RecvMeta::default(); SLOTS], blocked: None, gso })
    }

    /// The bound address.
    ///
    /// # Errors
    /// The error of the operating system.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Takes datagrams with one receive call and gives them to `f` in batches: the source, its datagrams behind each other,
    /// and the length of each but the last. Bounded by eight batches of 65,535 bytes; never blocks. False when the socket has
    /// no more.
    pub fn recv_batch(&mut self, mut f: impl FnMut(SocketAddr, &mut [u8], usize)) -> bool {
        let mut slices = self.buffers.each_mut().map(|buffer| IoSliceMut::new(buffer));
        let count = match self.state.recv(UdpSockRef::from(&self.socket), &mut slices, &mut self.meta) {
            Ok(count) => count,
            Err(e) => return e.kind() != io::ErrorKind::WouldBlock,
        };
        let mut len = 0;
        for (meta, buffer) in self.meta.iter().zip(&mut self.buffers).take(count) {
            len += meta.len;
            f(meta.addr, &mut buffer[..meta.len], meta.stride);
        }
        // The kernel fills all slots while it has more. After many bytes, more have probably arrived meanwhile.
        count == SLOTS || len > SLOT_LEN / 2
    }

    /// Tries to send the batch that waits for room in the kernel. True while it still waits; the caller must not send another
    /// batch before.
    pub fn is_blocked(&mut self) -> bool {
        if let Some((to, segment_len, batch)) = self.blocked.take() {
            self.send_batch(to, segment_len, &batch);
        }
        self.blocked.is_some()
    }

    /// Sends a batch of datagrams that have `segment_len` bytes each, the last one perhaps fewer. The part for which the
    /// kernel has no room is kept; other errors lose datagrams, as a network does.
    pub fn send_batch(&mut self, to: SocketAddr, segment_len: usize, batch: &[u8]) {
        let chunk = if self.gso { batch.len() } else { segment_len };
        for part in batch.chunks(chunk.max(1)) {
            let segment_size = (part.len() > segment_len).then_some(segment_len);
            let transmit = Transmit { destination: to, ecn: None, contents: part, segment_size, src_ip: None };
            match self.state.try_send(UdpSockRef::from(&self.socket), &transmit) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    self.blocked = Some((to, segment_len, part.to_vec()));
                    return;
                }
                // The kernel or the network card refuses GSO: datagrams leave one by one from now on.
                Err(_) if self.gso && segment_size.is_some() && self.state.max_gso_segments() <= 1 => {
                    self.gso = false;
                    return self.send_batch(to, segment_len, part);
                }
                _ => {}
            }
        }
    }
}

impl AsRawFd for Udp {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}
