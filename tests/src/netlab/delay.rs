//! Owns the emulator of a link's delay: the kernel keeps each packet and asks; the answer comes later. For kernels without netem.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::netlink::{NETFILTER, SocketAddrNetlink};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, recv, send, socket_with};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// The argument with which a program of this crate becomes the emulator; the delay in microseconds follows.
pub(super) const ARGUMENT: &str = "--emulate-delay";
/// What the emulator writes once packets are delayed.
pub(super) const READY: &str = "ready";

/// Number of the queue.
const QUEUE: u16 = 1;
/// Packets that the kernel keeps for the emulator; more pass at once.
const PACKETS_MAX: u32 = 65_535;
// linux/netfilter/nfnetlink_queue.h
const PACKET: u16 = 0x300;
const VERDICT: u16 = 0x301;
const CONFIG: u16 = 0x302;
const ACCEPT: u32 = 1;

/// Runs the emulator, if the arguments of this process ask for it; never comes back then.
pub(super) fn become_emulator() {
    let mut arguments = std::env::args().skip_while(|argument| argument != ARGUMENT).skip(1);
    if let Some(us) = arguments.next().and_then(|us| us.parse().ok()) {
        let failed = run(Duration::from_micros(us)).err();
        eprintln!("error: the emulator: {}", failed.unwrap_or_default());
        std::process::exit(1);
    }
}

/// Delays every packet of the queue of this network namespace, for ever.
fn run(delay: Duration) -> Result<(), String> {
    let socket = open().map_err(|e| e.to_string())?;
    println!("{READY}");
    let (mut waiting, mut room) = (VecDeque::<(Instant, u32)>::new(), vec![0; 1 << 16]);
    loop {
        let now = Instant::now();
        while let Some((_, packet)) = waiting.front().copied().filter(|(due, _)| *due <= now) {
            waiting.pop_front();
            let answer = [ACCEPT.to_be_bytes(), packet.to_be_bytes()].concat();
            send(&socket, &message(VERDICT, 2, &answer), SendFlags::empty()).map_err(|e| e.to_string())?;
        }
        let left = waiting.front().map_or(Duration::from_secs(1), |(due, _)| due.saturating_duration_since(now));
        let left = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
        if poll(&mut [PollFd::new(&socket, PollFlags::IN)], Some(&left)).map_err(|e| e.to_string())? == 0 {
            continue;
        }
        match recv(&socket, &mut room[..], RecvFlags::DONTWAIT) {
            Ok((n, _)) => waiting.extend(packets(&room[..n]).map(|packet| (Instant::now() + delay, packet))),
            Err(Errno::AGAIN | Errno::NOBUFS | Errno::INTR) => {}
            Err(e) => return Err(e.to_string()),
        }
    }
}

fn open() -> rustix::io::Result<OwnedFd> {
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, Some(NETFILTER))?;
    bind(&socket, &SocketAddrNetlink::new(0, 0))?;
    const BIND: [u8; 4] = [1, 0, 0, 0];
    const NAMES_ONLY: [u8; 5] = [0, 0, 0, 0, 1];
    for (attribute, value) in [(1, &BIND[..]), (2, &NAMES_ONLY[..]), (3, &PACKETS_MAX.to_be_bytes()[..])] {
        send(&socket, &message(CONFIG, attribute, value), SendFlags::empty())?;
    }
    Ok(socket)
}

/// A netlink message with one attribute.
fn message(kind: u16, attribute: u16, value: &[u8]) -> Vec<u8> {
    const REQUEST: u16 = 1;
    let attribute_len = 4 + value.len();
    let len = 20 + attribute_len.next_multiple_of(4);
    let mut out = Vec::with_capacity(len);
    out.extend((len as u32).to_ne_bytes());
    out.extend(kind.to_ne_bytes());
    out.extend(REQUEST.to_ne_bytes());
    out.extend([0; 8]); // sequence and port
    out.extend([0; 2]); // family and version
    out.extend(QUEUE.to_be_bytes());
    out.extend((attribute_len as u16).to_ne_bytes());
    out.extend(attribute.to_ne_bytes());
    out.extend(value);
    out.resize(len, 0);
    out
}

/// The numbers of the packets that netlink messages tell of.
fn packets(mut bytes: &[u8]) -> impl Iterator<Item = u32> {
    std::iter::from_fn(move || {
        loop {
            let len = u32::from_ne_bytes(*bytes.first_chunk()?) as usize;
            let (this, rest) = bytes.split_at_checked(len.next_multiple_of(4).min(bytes.len()).max(20))?;
            bytes = rest;
            if this.get(4..6) == Some(&PACKET.to_ne_bytes()) {
                return number(this.get(20..)?);
            }
        }
    })
}

/// The packet's number in these attributes.
fn number(mut attributes: &[u8]) -> Option<u32> {
    const HEADER: u16 = 1;
    loop {
        let [len, kind] = [attributes.get(..2)?, attributes.get(2..4)?].map(|two| u16::from_ne_bytes([two[0], two[1]]));
        if kind & 0x3fff == HEADER {
            return Some(u32::from_be_bytes(*attributes.get(4..)?.first_chunk()?));
        }
        attributes = attributes.get(usize::from(len.max(4)).next_multiple_of(4)..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_packets_are_read_from_any_number_of_messages() {
        let packet = |number: u32| message(PACKET, 1, &[&number.to_be_bytes()[..], &[8, 0, 3]].concat());
        let other = message(CONFIG, 1, &[0; 4]);
        let bytes = [packet(7), other, packet(0x0102_0304)].concat();
        assert_eq!(packets(&bytes).collect::<Vec<_>>(), [7, 0x0102_0304]);
        for cut in 0..bytes.len() {
            assert!(packets(&bytes[..cut]).count() <= 2);
        }
    }
}
