//! Owns the UDP socket: batches in and out (recvmmsg with GRO, sendmsg with GSO) through quinn-udp.

use quinn_udp::{BATCH_SIZE, RecvMeta, Transmit, UdpSockRef, UdpSocketState};
use std::io::{self, IoSliceMut};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsRawFd, RawFd};

/// Wanted size of the kernel's buffers. Unit: bytes. The kernel may grant less.
const SOCKET_BUFFER_LEN: usize = 4 << 20;
/// One GRO batch at most. Unit: bytes.
const SLOT_LEN: usize = 65_535;
/// Slots of one receive call.
const SLOTS: usize = if BATCH_SIZE < 8 { BATCH_SIZE } else { 8 };

/// A non-blocking UDP socket that moves many datagrams per system call.
pub struct Udp {
    socket: UdpSocket,
    state: UdpSocketState,
    buffers: [Vec<u8>; SLOTS],
    meta: [RecvMeta; SLOTS],
    /// A batch that the kernel had no room for.
    blocked: Option<(SocketAddr, usize, Vec<u8>)>,
    gso: bool,
}

impl Udp {
    /// Binds a socket and asks the kernel for large buffers.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn bind(addr: SocketAddr) -> io::Result<Self> {
        let socket = UdpSocket::bind(addr)?;
        let state = UdpSocketState::new(UdpSockRef::from(&socket))?;
        // More is better, less works.
        let _ = state.set_send_buffer_size(UdpSockRef::from(&socket), SOCKET_BUFFER_LEN);
        let _ = state.set_recv_buffer_size(UdpSockRef::from(&socket), SOCKET_BUFFER_LEN);
        let buffers = std::array::from_fn(|_| vec![0; SLOT_LEN]);
        let gso = state.max_gso_segments() > 1;
        Ok(Self { socket, state, buffers, meta: [RecvMeta::default(); SLOTS], blocked: None, gso })
    }

    /// The bound address.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Takes one round of datagrams and gives them to `f` as they came: datagrams of one source behind each other, and the
    /// size of all but the last. False when none are left for now.
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
        // The kernel gives fewer than asked only when it has no more; after much, more has come meanwhile.
        count == SLOTS || len > SLOT_LEN / 2
    }

    /// True when a batch waits for room in the kernel; more must not be sent before it left.
    pub fn is_blocked(&mut self) -> bool {
        if let Some((to, segment_len, batch)) = self.blocked.take() {
            self.send_batch(to, segment_len, &batch);
        }
        self.blocked.is_some()
    }

    /// Sends a batch. What the kernel has no room for is kept; other errors are a lossy network.
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
                // The kernel or the card refuses segmentation: one by one from now on.
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
