//! Owns the limit: UDP batches as large as the kernel takes them, without and with the cipher. A credit of a megabyte keeps
//! the sender from overrunning the receiver.

use super::task::{BALL, Outcome, Task, await_begin, await_end, sample, say_end, say_ready};
use quinn_udp::{RecvMeta, Transmit, UdpSockRef, UdpSocketState};
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde_json::json;
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr, UdpSocket};

/// Most bytes in flight. Unit: bytes.
const CREDIT: u64 = 1 << 20;
/// Bytes after which the receiver reports how many have arrived. Unit: bytes.
const REPORT_EVERY: u64 = 128 << 10;
/// Length of a datagram's counter and tag. Unit: bytes.
const OVERHEAD: usize = 8 + 16;
const SEGMENTS_MAX: usize = 64;
const BATCH_LEN_MAX: usize = 65_000;
const SLOTS: usize = 8;
/// First byte of a datagram that is sent back.
const PING: u8 = 1;
/// First byte of a datagram that announces the length of a transfer, for which the receiver starts counting anew.
const START: u8 = 2;

struct Socket {
    socket: UdpSocket,
    state: UdpSocketState,
    key: Option<LessSafeKey>,
}

fn nonce(counter: u64) -> Nonce {
    let mut nonce = [0; 12];
    nonce[4..].copy_from_slice(&counter.to_le_bytes());
    Nonce::assume_unique_for_key(nonce)
}

impl Socket {
    fn bind(addr: IpAddr, sealed: bool) -> Outcome<Self> {
        let socket = UdpSocket::bind((addr, 0))?;
        let state = UdpSocketState::new(UdpSockRef::from(&socket))?;
        state.set_send_buffer_size(UdpSockRef::from(&socket), 4 << 20)?;
        state.set_recv_buffer_size(UdpSockRef::from(&socket), 4 << 20)?;
        let key = UnboundKey::new(&CHACHA20_POLY1305, &[7; 32]).map_err(|_| "a key of the cipher's length")?;
        Ok(Self { socket, state, key: sealed.then(|| LessSafeKey::new(key)) })
    }

    /// Waits for a datagram; tells whether one came within 200 ms.
    fn wait(&self) -> Outcome<bool> {
        let mut fds = [PollFd::new(&self.socket, PollFlags::IN)];
        Ok(poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 200_000_000 }))? > 0)
    }

    /// Seals `datagram` (8 bytes of counter, payload, 16 of tag) in place.
    fn seal(&self, counter: u64, datagram: &mut [u8]) -> Outcome<()> {
        datagram[..8].copy_from_slice(&counter.to_le_bytes());
        let Some(key) = &self.key else { return Ok(()) };
        let (text, tag) = datagram[8..].split_last_chunk_mut::<16>().ok_or("too short")?;
        let sealed = key.seal_in_place_separate_tag(nonce(counter), Aad::empty(), text).map_err(|_| "sealing")?;
        tag.copy_from_slice(sealed.as_ref());
        Ok(())
    }

    /// Opens a datagram in place and returns the length of its payload. Unit: bytes.
    fn open(&self, datagram: &mut [u8]) -> Outcome<u64> {
        let (counter, body) = datagram.split_first_chunk_mut::<8>().ok_or("too short")?;
        let len = body.len() - 16;
        if let Some(key) = &self.key {
            key.open_in_place(nonce(u64::from_le_bytes(*counter)), Aad::empty(), body).map_err(|_| "a forgery")?;
        }
        Ok(len as u64)
    }
}

pub(super) fn serve(bind: IpAddr, sealed: bool) -> Outcome<()> {
    let socket = Socket::bind(bind, sealed)?;
    say_ready(&socket.socket.local_addr()?.to_string());
    std::thread::spawn(move || {
        if let Err(e) = receive(&socket) {
            eprintln!("{e}");
        }
    });
    await_end()
}

fn receive(socket: &Socket) -> Outcome<()> {
    let mut buffers = vec![vec![0; 65_535]; SLOTS];
    let mut meta = [RecvMeta::default(); SLOTS];
    let (mut total, mut reported) = (0, 0);
    loop {
        let mut slices: Vec<_> = buffers.iter_mut().map(|b| IoSliceMut::new(b)).collect();
        let count = match socket.state.recv(UdpSockRef::from(&socket.socket), &mut slices, &mut meta) {
            Ok(count) => count,
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                socket.wait()?;
                continue;
            }
            Err(e) => return Err(e.into()),
        };
        for (meta, buffer) in meta.iter().zip(&mut buffers).take(count) {
            for datagram in buffer[..meta.len].chunks_mut(meta.stride.max(1)) {
                match datagram {
                    [PING, ..] if datagram.len() <= BALL + OVERHEAD => {
                        socket.socket.send_to(datagram, meta.addr)?;
                    }
                    [START] => (total, reported) = (0, 0),
                    _ => total += socket.open(datagram)?,
                }
            }
            if total - reported >= REPORT_EVERY {
                reported = total;
                socket.socket.send_to(&total.to_le_bytes(), meta.addr)?;
            }
        }
    }
}

pub(super) fn drive(to: &str, task: Task, count: u64, datagram_len: usize, sealed: bool) -> Outcome<()> {
    let to: SocketAddr = to.parse()?;
    let any = if to.ip().is_loopback() { to.ip() } else { IpAddr::from([0, 0, 0, 0]) };
    let socket = Socket::bind(any, sealed)?;
    let result = match task {
        Task::Bulk => {
            let ((), took) = await_begin(|| send(&socket, to, count, datagram_len))?;
            json!({"seconds": took.as_secs_f64(), "bytes": count})
        }
        Task::Ping => {
            let (ball, mut back) = ([PING; BALL], [0; 2 * BALL]);
            sample(count, || {
                socket.socket.send_to(&ball, to)?;
                socket.wait()?;
                socket.socket.recv(&mut back)?;
                Ok(())
            })?
        }
        Task::Open | Task::Exchange => return Err("datagrams have no connections".into()),
    };
    say_end(&result);
    Ok(())
}

fn send(socket: &Socket, to: SocketAddr, bytes: u64, datagram_len: usize) -> Outcome<()> {
    socket.socket.send_to(&[START], to)?;
    let segments = (BATCH_LEN_MAX / datagram_len).clamp(1, SEGMENTS_MAX);
    let payload = (datagram_len - OVERHEAD) as u64;
    let mut batch = vec![7; segments * datagram_len];
    let source = vec![7; segments * datagram_len];
    let (mut sent, mut arrived, mut counter, mut report) = (0, 0, 0, [0; 8]);
    // With the credit nothing is lost; a loss would not be waited for beyond the last report.
    while arrived + REPORT_EVERY + segments as u64 * payload < bytes {
        while sent < bytes && sent - arrived < CREDIT {
            // The copy stands for the one from an application's buffer.
            batch.copy_from_slice(&source);
            for datagram in batch.chunks_mut(datagram_len) {
                counter += 1;
                socket.seal(counter, datagram)?;
            }
            let segment_size = (segments > 1).then_some(datagram_len);
            let transmit = Transmit { destination: to, ecn: None, contents: &batch, segment_size, src_ip: None };
            match socket.state.try_send(UdpSockRef::from(&socket.socket), &transmit) {
                Ok(()) => sent += segments as u64 * payload,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(e) => return Err(e.into()),
            }
        }
        match socket.socket.recv(&mut report) {
            Ok(_) => arrived = u64::from_le_bytes(report),
            // A report or datagrams are lost: the sender goes on as if everything had arrived.
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                if !socket.wait()? {
                    arrived = sent;
                }
            }
            Err(e) => return Err(e.into()),
        }
    }
    Ok(())
}
