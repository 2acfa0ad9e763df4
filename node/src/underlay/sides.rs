//! Owns the sockets beside the node's own one: each gives peers another port of this node's NAT, for as long as the endpoint
//! uses that socket.

use crate::token::Room;
use crate::underlay::udp::{Socket, Udp};
use mio::unix::SourceFd;
use mio::{Interest, Registry};
use pilot_core::endpoint::Transmit;
use pilot_core::path::Source;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd as _;

/// Most sockets at once: those of one birthday, of meetings, and of peers that are reached from such a socket. Source:
/// `docs/paths.md`, "Meeting".
pub(crate) const SIDES_MAX: usize = 384;
/// Receive calls for one socket in a turn.
const RECEIVES_PER_TURN: usize = 4;

/// The sockets, by their numbers, ascending.
pub(crate) struct Sides {
    registry: Registry,
    list: Vec<(Source, Socket)>,
    /// The highest number so far: a datagram for a lower one that is not there has come too late.
    newest: Source,
    is_readable: bool,
}

impl Sides {
    /// No sockets, which will be watched by the poll of `registry`.
    pub(crate) fn new(registry: &Registry) -> io::Result<Self> {
        Ok(Self { registry: registry.try_clone()?, list: Vec::new(), newest: Source::MAIN, is_readable: false })
    }

    /// Something has come to one of them.
    pub(crate) const fn readiness(&mut self) {
        self.is_readable = true;
    }

    /// True while more may wait.
    pub(crate) const fn is_readable(&self) -> bool {
        self.is_readable
    }

    /// Sends a batch from the socket that it names, which is opened first when it is a new one. Without a descriptor the batch is lost,
    /// as in a network.
    pub(crate) fn send(&mut self, udp: &Udp, transmit: &Transmit, batch: &[u8]) {
        if transmit.source > self.newest && self.list.len() < SIDES_MAX {
            self.newest = transmit.source;
            // What cannot be opened now is not opened later either: the endpoint takes another number.
            if let Ok(socket) = self.open(udp) {
                self.list.push((transmit.source, socket));
            }
        }
        if let Ok(at) = self.position(transmit.source) {
            self.list[at].1.send_batch(transmit.to, transmit.segment_len, batch);
        }
    }

    fn open(&self, udp: &Udp) -> io::Result<Socket> {
        let socket = udp.another()?;
        self.registry.register(&mut SourceFd(&socket.as_raw_fd()), Room::Sides.token(0), Interest::READABLE)?;
        Ok(socket)
    }

    fn position(&self, source: Source) -> Result<usize, usize> {
        self.list.binary_search_by(|(number, _)| number.cmp(&source))
    }

    pub(crate) fn close(&mut self, source: Source) {
        self.newest = self.newest.max(source);
        if let Ok(at) = self.position(source) {
            self.list.remove(at); // a descriptor that is closed is not watched any more
        }
    }

    /// Takes what has come; as [`Udp::recv_batch`]. Bounded for each socket.
    pub(crate) fn receive(&mut self, udp: &mut Udp, mut f: impl FnMut(SocketAddr, Source, &mut [u8], usize)) {
        if !core::mem::take(&mut self.is_readable) {
            return;
        }
        for (source, socket) in &mut self.list {
            let is_drained =
                (0..RECEIVES_PER_TURN).any(|_| !udp.recv_at(socket, |from, batch, len| f(from, *source, batch, len)));
            self.is_readable |= !is_drained;
        }
    }

    /// As [`Udp::is_blocked`], for all of them.
    pub(crate) fn is_blocked(&mut self) -> bool {
        self.list.iter_mut().fold(false, |blocked, (_, socket)| socket.is_blocked() || blocked)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    fn transmit(to: SocketAddr, source: u32) -> Transmit {
        Transmit { to, source: Source(source), segment_len: 100 }
    }

    #[test]
    fn sockets_have_ports_of_their_own_a_maximum_and_are_not_opened_again() {
        let poll = mio::Poll::new().expect("a poll");
        let mut sides = Sides::new(poll.registry()).expect("a registry");
        let mut udp = Udp::bind("127.0.0.1:0".parse().expect("one")).expect("a socket");
        let other = std::net::UdpSocket::bind("127.0.0.1:0").expect("a socket");
        other.set_read_timeout(Some(Duration::from_secs(10))).expect("a time");
        let to = other.local_addr().expect("bound");
        let mut ports = Vec::new();
        for source in [1, 2, 1, 7] {
            sides.send(&udp, &transmit(to, source), &[source as u8; 3]);
            let (_, from) = other.recv_from(&mut [0; 9]).expect("a datagram");
            ports.push(from.port());
        }
        assert!(ports[0] == ports[2] && ports[0] != ports[1] && !ports.contains(&udp.local_addr().port()));
        other.send_to(&[9; 5], SocketAddr::new(to.ip(), ports[1])).expect("sent");
        let (begin, mut got) = (Instant::now(), None);
        while got.is_none() && begin.elapsed() < Duration::from_secs(10) {
            sides.readiness();
            sides.receive(&mut udp, |from, source, batch, _| got = Some((from, source, batch.len())));
        }
        assert_eq!(got, Some((to, Source(2), 5)));
        [1, 2, 7, 9].into_iter().for_each(|source| sides.close(Source(source)));
        [1, 2, 8, 9].into_iter().for_each(|source| sides.send(&udp, &transmit(to, source), &[1; 3]));
        assert!(sides.list.is_empty(), "what comes too late opens nothing");
        (10..20 + SIDES_MAX as u32).for_each(|source| sides.send(&udp, &transmit(to, source), &[1; 3]));
        assert_eq!(sides.list.len(), SIDES_MAX);
        assert!(!sides.is_blocked());
    }
}
