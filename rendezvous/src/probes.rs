//! Owns the sockets beside the main one at which nodes ask what is seen of them: their NATs show there what they do for another
//! destination (`docs/paths.md`, "NATs").

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use pilot_core::seen;
use pilot_node::parts::Udp;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::AsRawFd as _;

/// Most sockets. Source: nodes ask at no more.
pub(crate) const PROBES_MAX: usize = 3;
/// Receive calls of one turn for each socket.
const RECEIVES_PER_TURN: usize = 4;

/// The sockets, which all have one token.
#[derive(Default)]
pub(crate) struct Probes {
    list: Vec<Udp>,
    is_readable: bool,
}

impl Probes {
    /// Opens another one; gives its address.
    pub(crate) fn listen(&mut self, registry: &Registry, token: Token, addr: SocketAddr) -> io::Result<SocketAddr> {
        if self.list.len() >= PROBES_MAX {
            return Err(io::Error::other("there are as many already as nodes ask"));
        }
        let udp = Udp::bind(addr)?;
        registry.register(&mut SourceFd(&udp.as_raw_fd()), token, Interest::READABLE)?;
        let local = udp.local_addr();
        self.list.push(udp);
        Ok(local)
    }

    /// The addresses that nodes are told: one of all addresses stands for that at which they know the rendezvous.
    pub(crate) fn addrs(&self) -> Vec<SocketAddr> {
        let told = |addr: SocketAddr| match addr.ip() {
            ip if ip.is_unspecified() => SocketAddr::from((Ipv4Addr::UNSPECIFIED, addr.port())),
            _ => addr,
        };
        self.list.iter().map(|udp| told(udp.local_addr())).collect()
    }

    pub(crate) const fn readiness(&mut self) {
        self.is_readable = true;
    }

    pub(crate) const fn is_readable(&self) -> bool {
        self.is_readable
    }

    /// Answers a bounded number of questions.
    pub(crate) fn serve(&mut self) {
        if !core::mem::take(&mut self.is_readable) {
            return;
        }
        for udp in &mut self.list {
            self.is_readable |= (0..RECEIVES_PER_TURN).all(|_| answer(udp));
        }
    }
}

/// Takes what one receive call gives; false when there is no more.
fn answer(udp: &mut Udp) -> bool {
    let mut answers = Vec::new();
    let may_have_more = udp.recv_batch(|from, batch, len| {
        answers.extend(batch.chunks(len.max(1)).filter_map(|datagram| Some((from, seen::answer(datagram, &from)?))));
    });
    for (to, answer) in answers {
        // An answer for which the kernel has no room is lost, as in a network.
        if !udp.is_blocked() {
            udp.send_batch(to, answer.len(), &answer);
        }
    }
    may_have_more
}

/// The address for a socket beside `main`: the next port.
pub(crate) fn beside(main: SocketAddr) -> Option<SocketAddr> {
    let is_sensible = !matches!(main.ip(), IpAddr::V6(ip) if ip.is_unicast_link_local());
    main.port().checked_add(1).filter(|_| is_sensible).map(|port| SocketAddr::new(main.ip(), port))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;
    use std::time::Duration;

    #[test]
    fn questions_are_answered_with_their_source_and_sockets_have_a_maximum() {
        let (poll, any) = (mio::Poll::new().expect("a poll"), SocketAddr::from(([127, 0, 0, 1], 0)));
        let mut probes = Probes::default();
        for _ in 0..PROBES_MAX {
            probes.listen(poll.registry(), Token(7), any).expect("a socket");
        }
        assert!(probes.listen(poll.registry(), Token(7), any).is_err());
        let asker = UdpSocket::bind(any).expect("a socket");
        asker.set_read_timeout(Some(Duration::from_millis(20))).expect("a time");
        for addr in probes.addrs() {
            let (question, mut got) = (seen::question(&[7; 16]), [0; 100]);
            asker.send_to(b"something else", addr).expect("sent");
            asker.send_to(&question, addr).expect("sent");
            let len = loop {
                probes.readiness();
                probes.serve();
                if let Ok((len, _)) = asker.recv_from(&mut got) {
                    break len;
                }
            };
            let expected = seen::answer(&question, &asker.local_addr().expect("bound"));
            assert_eq!(Some(&got[..len]), expected.as_ref().map(|answer| &answer[..]));
        }
    }

    #[test]
    fn all_addresses_are_told_as_the_one_that_is_known() {
        let mut probes = Probes::default();
        let poll = mio::Poll::new().expect("a poll");
        let local = probes.listen(poll.registry(), Token(7), "[::]:0".parse().expect("one")).expect("a socket");
        assert_eq!(probes.addrs(), [SocketAddr::from(([0, 0, 0, 0], local.port()))]);
        assert_eq!(beside(SocketAddr::from(([192, 0, 2, 1], 65_535))), None);
        assert_eq!(beside("[::]:9000".parse().expect("one")), "[::]:9001".parse().ok());
    }
}
