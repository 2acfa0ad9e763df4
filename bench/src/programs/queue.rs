//! Owns the link emulator: packets that arrive wait in a queue of the kernel's filter (`NFQUEUE`) until a verdict, which
//! comes after the link's delay and rate, or drops the packet.
//!
//! The kernel keeps the packets and copies their first bytes only. Messages are those of linux/netfilter/nfnetlink_queue.h.

use super::place::QUEUE;
use crate::contest::Outcome;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::netlink::{NETFILTER, SocketAddrNetlink};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, recv, send, socket_with};
use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

/// Half of the path's round trip.
const DELAY: Duration = Duration::from_millis(20);
/// Part of the packets that is lost.
const LOSS: f64 = 0.005;
/// Unit: bytes in a second.
const RATE: f64 = 80e6 / 8.0;
/// Longest backlog; beyond it packets are dropped. Unit: bytes. Own choice: what the path carries in a round trip.
const BACKLOG_MAX: f64 = RATE * 0.04;
/// Messages that wait in the socket. Unit: bytes. Own choice: a burst of thousands of packets.
const SOCKET_LEN: usize = 32 << 20;

// Source: linux/netfilter/nfnetlink.h and nfnetlink_queue.h.
const TYPE: u16 = 3 << 8;
const PACKET: u16 = TYPE;
const VERDICT: u16 = TYPE | 1;
const CONFIG: u16 = TYPE | 2;
const REQUEST: u16 = 1;
const ATTRIBUTE_PACKET: u16 = 1;
const ATTRIBUTE_VERDICT: u16 = 2;
const ATTRIBUTE_PAYLOAD: u16 = 10;
const CONFIG_COMMAND: u16 = 1;
const CONFIG_COPY: u16 = 2;
const CONFIG_LEN_MAX: u16 = 3;
const COMMAND_BIND: u8 = 1;
const COPY_BYTES: u8 = 2;
const DROP: u32 = 0;
const ACCEPT: u32 = 1;
/// Bytes of a packet that are copied: an IP header.
const COPIED: u32 = 40;
/// Heads of a message: netlink's and netfilter's. Unit: bytes.
const HEAD_LEN: usize = 20;

/// Gives verdicts on the packets of [`QUEUE`] until standard input ends.
pub(super) fn serve(seed: u64) -> Outcome<()> {
    let flags = SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, Some(NETFILTER))?;
    bind(&socket, &SocketAddrNetlink::new(0, 0))?;
    rustix::net::sockopt::set_socket_recv_buffer_size_force(&socket, SOCKET_LEN)?;
    let copy = [&COPIED.to_be_bytes()[..], &[COPY_BYTES]].concat();
    for (attribute, value) in [
        (CONFIG_COMMAND, &[COMMAND_BIND, 0, 0, 0][..]),
        (CONFIG_COPY, &copy),
        (CONFIG_LEN_MAX, &u32::from(u16::MAX).to_be_bytes()),
    ] {
        send(&socket, &message(CONFIG, attribute, value), SendFlags::empty())?;
    }
    super::place::say_ready_until_end("");
    let (mut link, mut buffer) = (Link::new(seed), vec![0; 1 << 16]);
    loop {
        let wait = link.next().map(|due| due.saturating_duration_since(Instant::now()));
        let wait = wait.map(|wait| Timespec { tv_sec: wait.as_secs() as i64, tv_nsec: i64::from(wait.subsec_nanos()) });
        match poll(&mut [PollFd::new(&socket, PollFlags::IN)], wait.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
        read(&socket, &mut buffer, &mut link)?;
        while let Some((id, verdict)) = link.poll(Instant::now()) {
            let value = [verdict.to_be_bytes(), id.to_be_bytes()].concat();
            send(&socket, &message(VERDICT, ATTRIBUTE_VERDICT, &value), SendFlags::empty())?;
        }
    }
}

/// Reads all packets that wait.
fn read(socket: &OwnedFd, buffer: &mut [u8], link: &mut Link) -> Outcome<()> {
    loop {
        match recv(socket, &mut *buffer, RecvFlags::DONTWAIT) {
            Ok((n, _)) => packets(&buffer[..n]).for_each(|(id, len)| link.take(Instant::now(), id, len)),
            Err(Errno::AGAIN) => return Ok(()),
            // Messages were lost, and with them packets, which is more loss.
            Err(Errno::NOBUFS | Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
}

/// One netlink message with one attribute, for the queue.
fn message(kind: u16, attribute: u16, value: &[u8]) -> Vec<u8> {
    let attribute_len = 4 + value.len();
    let len = HEAD_LEN + attribute_len.next_multiple_of(4);
    let mut out = Vec::with_capacity(len);
    out.extend((len as u32).to_ne_bytes());
    out.extend(kind.to_ne_bytes());
    out.extend(REQUEST.to_ne_bytes());
    out.extend([0; 8]); // number and sender
    out.extend([0, 0]); // family and version
    out.extend(QUEUE.to_be_bytes());
    out.extend((attribute_len as u16).to_ne_bytes());
    out.extend(attribute.to_ne_bytes());
    out.extend(value);
    out.resize(len, 0);
    out
}

/// Numbers and lengths of the packets that a buffer of messages tells of.
fn packets(mut bytes: &[u8]) -> impl Iterator<Item = (u32, usize)> + '_ {
    std::iter::from_fn(move || {
        loop {
            let len = u32::from_ne_bytes(*bytes.first_chunk()?) as usize;
            let (one, rest) = bytes.split_at_checked(len.next_multiple_of(4).min(bytes.len()))?;
            if len < HEAD_LEN || one.len() < len {
                return None;
            }
            bytes = rest;
            if one.get(4..6)? == PACKET.to_ne_bytes() {
                return packet(&one[HEAD_LEN..len]);
            }
        }
    })
}

/// Number and length of the packet with these attributes.
fn packet(mut attributes: &[u8]) -> Option<(u32, usize)> {
    let (mut id, mut length) = (None, 0);
    while let Some(&[len_low, len_high, kind_low, kind_high]) = attributes.first_chunk() {
        let len = usize::from(u16::from_ne_bytes([len_low, len_high]));
        let value = attributes.get(4..len)?;
        match u16::from_ne_bytes([kind_low, kind_high]) & 0x3fff {
            ATTRIBUTE_PACKET => id = Some(u32::from_be_bytes(*value.first_chunk()?)),
            ATTRIBUTE_PAYLOAD => length = ip_len(value)?,
            _ => {}
        }
        attributes = attributes.get(len.next_multiple_of(4)..).unwrap_or_default();
    }
    Some((id?, length))
}

/// Length that an IP header tells.
fn ip_len(header: &[u8]) -> Option<usize> {
    let at = |place: usize| Some(usize::from(u16::from_be_bytes(*header.get(place..)?.first_chunk()?)));
    if header.first()? >> 4 == 4 { at(2) } else { Some(40 + at(4)?) }
}

/// What the link does to packets; time is an argument.
struct Link {
    /// Packets with the time of their verdict, in the order of both.
    waiting: VecDeque<(Instant, u32)>,
    dropped: Vec<u32>,
    /// When the last byte taken will have left.
    free: Option<Instant>,
    random: u64,
}

impl Link {
    fn new(seed: u64) -> Self {
        Self {
            waiting: VecDeque::new(),
            dropped: Vec::new(),
            free: None,
            random: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
        }
    }

    fn take(&mut self, now: Instant, id: u32, len: usize) {
        let begin = self.free.map_or(now, |free| free.max(now));
        let backlog = (begin - now).as_secs_f64() * RATE;
        if self.chance() < LOSS || backlog + len as f64 > BACKLOG_MAX {
            self.dropped.push(id);
            return;
        }
        let left = begin + Duration::from_secs_f64(len as f64 / RATE);
        self.free = Some(left);
        self.waiting.push_back((left + DELAY, id));
    }

    /// Returns when the next verdict is due.
    fn next(&self) -> Option<Instant> {
        self.waiting.front().map(|(due, _)| *due)
    }

    /// Returns a packet and the verdict on it that is due.
    fn poll(&mut self, now: Instant) -> Option<(u32, u32)> {
        if let Some(id) = self.dropped.pop() {
            return Some((id, DROP));
        }
        let (_, id) = self.waiting.front().copied().filter(|(due, _)| *due <= now)?;
        self.waiting.pop_front();
        Some((id, ACCEPT))
    }

    /// A number from 0 to 1 (xorshift, Marsaglia 2003).
    fn chance(&mut self) -> f64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 11) as f64 / (1u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_is_read_from_its_message_and_broken_ones_are_not() {
        let mut header = vec![0x45, 0];
        header.extend(1234u16.to_be_bytes());
        header.resize(20, 0);
        let mut bytes = message(PACKET, ATTRIBUTE_PACKET, &[0, 0, 0, 9, 8, 0, 0]);
        bytes.extend(24u16.to_ne_bytes());
        bytes.extend(ATTRIBUTE_PAYLOAD.to_ne_bytes());
        bytes.extend(&header);
        let len = bytes.len() as u32;
        bytes[..4].copy_from_slice(&len.to_ne_bytes());
        let twice = [bytes.clone(), bytes.clone()].concat();
        assert_eq!(packets(&twice).collect::<Vec<_>>(), [(9, 1234), (9, 1234)]);
        for cut in 0..bytes.len() {
            assert_eq!(packets(&bytes[..cut]).count(), 0);
        }
        let mut config = message(CONFIG, CONFIG_COMMAND, &[1, 0, 0, 0]);
        config.extend(&bytes);
        assert_eq!(packets(&config).collect::<Vec<_>>(), [(9, 1234)]);
    }

    #[test]
    fn packets_wait_for_the_delay_and_the_rate_and_some_are_lost() {
        let (mut link, begin, len) = (Link::new(1), Instant::now(), 1500);
        let (mut now, mut lost, mut passed) = (begin, 0, 0);
        for id in 0..20_000 {
            // Half of the link's rate, so that nothing waits for another.
            now += Duration::from_secs_f64(2.0 * len as f64 / RATE);
            link.take(now, id, len);
            while let Some((_, verdict)) = link.poll(now) {
                if verdict == DROP { lost += 1 } else { passed += 1 }
            }
            let due = link.next().map_or(DELAY, |due| due - now);
            assert!(due <= DELAY + Duration::from_secs_f64(len as f64 / RATE));
        }
        assert!((60..150).contains(&lost), "{lost} of 20,000");
        assert!(passed > 19_000);
    }

    #[test]
    fn a_full_backlog_drops() {
        let (mut link, now) = (Link::new(1), Instant::now());
        (0..1000).for_each(|id| link.take(now, id, 1500));
        let carried = link.waiting.len() as f64 * 1500.0;
        assert!(carried <= BACKLOG_MAX && carried > 0.9 * BACKLOG_MAX, "{carried}");
    }
}
