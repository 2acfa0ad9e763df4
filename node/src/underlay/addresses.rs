//! The room of this machine's own addresses, and of the way from a network that has IPv6 alone to IPv4 addresses.

use crate::context::Context;
use crate::platform::{AddressWatch, interfaces};
use crate::underlay::nat64::{Nat64, WELL_KNOWN_NAME};
use crate::underlay::resolver::Resolver;
use crate::underlay::udp::Udp;
use mio::Waker;
use pilot_core::Instant;
use pilot_core::time::Duration;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;

/// Pause before a look: an address and its routes come one after the other. Source: `docs/paths.md`, "Roaming".
const SETTLING: Duration = Duration::from_millis(20);
/// Bounds of the pause before a network without IPv4 is asked again whether it translates. Source: own choice; names are often
/// unknown in the first seconds of a network, and an answer is known for five.
const ASK_PAUSE_MIN: Duration = Duration::from_secs(6);
const ASK_PAUSE_MAX: Duration = Duration::from_secs(3600);
/// Most addresses of this machine that peers are told. Source: `docs/paths.md`, "Rules": a list has sixteen, and one of them is the
/// address that the rendezvous saw.
const OWN_MAX: usize = 12;

/// Addresses that stand for the internet. Nothing is sent there. Source: RFC 5737, RFC 3849 (documentation).
pub(crate) const ANYWHERE_V4: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 9);
pub(crate) const ANYWHERE_V6: SocketAddr =
    SocketAddr::new(IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)), 9);

/// The watch on this machine's addresses.
pub(crate) struct Addresses {
    /// `None` where the system has no such thing; then a node that moved is found again with its next keepalive.
    watch: Option<AddressWatch>,
    has_changed: bool,
    look_at: Option<Instant>,
    /// What was found last.
    own: Own,
    resolver: Resolver,
    nat64: Option<Nat64>,
    /// When the network is asked again whether it translates.
    ask_at: Option<Instant>,
    ask_pause: Duration,
}

/// This machine's underlay addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Own {
    /// What peers are told, with the port: the addresses from which this node sends, and then those of other interfaces.
    pub(crate) candidates: Vec<SocketAddr>,
    /// How many of those the node sends from.
    routed: usize,
    /// Nothing can be sent to an IPv4 address, but to IPv6 addresses.
    lacks_ipv4: bool,
}

impl Addresses {
    /// Begins at the loop's time 0 with the addresses that were found before.
    pub(crate) fn new(watch: Option<AddressWatch>, own: Own, waker: Arc<Waker>) -> Self {
        let resolver = Resolver::new(waker);
        let ask_at = own.lacks_ipv4.then_some(Instant::ZERO);
        let (has_changed, look_at, nat64) = (false, None, None);
        let mut addresses =
            Self { watch, has_changed, look_at, own, resolver, nat64, ask_at, ask_pause: ASK_PAUSE_MIN };
        addresses.look_again(Instant::ZERO);
        addresses
    }

    /// Where the system does not tell of changes, they are looked for.
    fn look_again(&mut self, now: Instant) {
        self.look_at = self.watch.as_ref().and_then(AddressWatch::look_every).map(|pause| now + pause);
    }

    /// The watch is readable.
    pub(crate) fn readiness(&mut self) {
        self.has_changed |= self.watch.as_ref().is_some_and(AddressWatch::drain);
    }

    /// Does what is due; true when routes or addresses may have changed.
    pub(crate) fn handle_timeout(&mut self, cx: &mut Context, udp: &mut Udp) -> bool {
        if std::mem::take(&mut self.has_changed) {
            self.look_at.get_or_insert(cx.now + SETTLING);
        }
        let looks = self.look_at.take_if(|at| *at <= cx.now).is_some();
        if looks {
            self.look_again(cx.now);
            let rendezvous = cx.stack.endpoint().rendezvous_address().map(|(_, addr)| addr);
            self.found(cx, udp, own_addresses(udp.local_addr(), rendezvous));
        }
        let has_answer = self.resolver.poll(cx.now);
        if has_answer || self.ask_at.is_some_and(|at| at <= cx.now) {
            self.ask(cx.now, udp);
        }
        looks
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.look_at.into_iter().chain(self.ask_at).min()
    }

    /// A look has found these addresses. Between two networks there is no address to tell.
    fn found(&mut self, cx: &mut Context, udp: &mut Udp, own: Own) {
        if own.candidates.is_empty() || own == self.own {
            return;
        }
        let (sent_from, others) = self.own.candidates.split_at(self.own.routed);
        let has_moved = sent_from.iter().any(|addr| !own.candidates[..own.routed].contains(addr))
            || others.iter().any(|addr| !own.candidates.contains(addr));
        if has_moved || own.lacks_ipv4 != self.own.lacks_ipv4 {
            (self.nat64, self.ask_pause) = (None, ASK_PAUSE_MIN);
            self.ask_at = own.lacks_ipv4.then_some(cx.now);
            udp.network_changed(None);
        }
        let (endpoint, candidates) = (cx.stack.endpoint_mut(), own.candidates.clone());
        if has_moved {
            endpoint.set_candidates(cx.now, candidates);
        } else {
            endpoint.add_candidates(cx.now, candidates); // paths go on as before
        }
        self.own = own;
    }

    /// Asks the network without IPv4 for its prefix, or takes the answer.
    fn ask(&mut self, now: Instant, udp: &mut Udp) {
        if !self.own.lacks_ipv4 || self.nat64.is_some() {
            self.ask_at = None;
            return;
        }
        if self.ask_at.is_none_or(|at| at <= now) {
            self.ask_at = Some(now + self.ask_pause);
            self.ask_pause = (self.ask_pause * 2).min(ASK_PAUSE_MAX);
        }
        if let Some(Ok(ips)) = self.resolver.addresses(now, WELL_KNOWN_NAME)
            && let Some(nat64) = Nat64::found(&ips)
        {
            (self.nat64, self.ask_at) = (Some(nat64), None);
            udp.network_changed(self.nat64);
        }
    }
}

/// This machine's underlay addresses for a socket that is bound to `bound`: the source addresses of datagrams to the rendezvous, and
/// to anywhere in both families, and the addresses of all interfaces.
pub(crate) fn own_addresses(bound: SocketAddr, rendezvous: Option<SocketAddr>) -> Own {
    if !bound.ip().is_unspecified() {
        return Own { candidates: vec![bound], routed: 1, lacks_ipv4: bound.is_ipv6() && !bound.ip().is_loopback() };
    }
    let anywhere = [ANYWHERE_V6, ANYWHERE_V4];
    let routed: Vec<IpAddr> = rendezvous
        .into_iter()
        .chain(anywhere)
        .filter(|to| bound.is_ipv6() || to.is_ipv4())
        .filter_map(source)
        .collect();
    // A sandbox may forbid the list.
    let listed = interfaces().unwrap_or_default();
    arranged(bound, routed, listed.into_iter().map(|(ip, _)| ip).collect())
}

/// The address from which datagrams leave for `to`. Connecting a UDP socket sends nothing; it only asks the routing table.
pub(crate) fn source(to: SocketAddr) -> Option<IpAddr> {
    let any = if to.is_ipv4() { IpAddr::V4(Ipv4Addr::UNSPECIFIED) } else { IpAddr::V6(Ipv6Addr::UNSPECIFIED) };
    let probe = UdpSocket::bind((any, 0)).ok()?;
    probe.connect(to).ok()?;
    probe.local_addr().ok().map(|addr| addr.ip())
}

/// Puts what is known of this machine into the order in which peers are told: what this node sends from, private addresses of
/// interfaces, public ones. Of a network of IPv6 one address is enough.
fn arranged(bound: SocketAddr, routed: Vec<IpAddr>, interfaces: Vec<IpAddr>) -> Own {
    let mut list: Vec<IpAddr> = Vec::new();
    for ip in routed.into_iter().filter(|ip| !ip.is_unspecified() && !is_link_local(*ip)) {
        if !list.contains(&ip) {
            list.push(ip);
        }
    }
    let routed = list.len();
    let has = |is_family: fn(&IpAddr) -> bool| list.iter().any(|ip| is_family(ip) && !ip.is_loopback());
    let lacks_ipv4 = has(IpAddr::is_ipv6) && !has(IpAddr::is_ipv4);
    let (private, public): (Vec<IpAddr>, Vec<IpAddr>) = interfaces
        .into_iter()
        .filter(|ip| !(ip.is_loopback() || ip.is_multicast() || ip.is_unspecified() || is_link_local(*ip)))
        .filter(|ip| bound.is_ipv6() || ip.is_ipv4())
        .partition(|ip| is_private(*ip));
    for ip in private.into_iter().chain(public) {
        if list.len() < OWN_MAX && !list.iter().any(|known| is_one_network(*known, ip)) {
            list.push(ip);
        }
    }
    debug_assert!(list.len() <= OWN_MAX, "peers are told a few");
    let candidates = list.into_iter().map(|ip| SocketAddr::new(ip, bound.port())).collect();
    Own { candidates, routed, lacks_ipv4 }
}

const fn is_link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    }
}

/// True for addresses that mean nothing outside of a site or a carrier's network. Source: RFC 1918, RFC 6598, RFC 4193.
pub(crate) fn is_private(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_private() || ip.octets()[0] == 100 && ip.octets()[1] & 0xc0 == 64,
        IpAddr::V6(ip) => ip.is_unique_local(),
    }
}

/// True for the same address, or two of one IPv6 network (/64).
fn is_one_network(a: IpAddr, b: IpAddr) -> bool {
    match (a, b) {
        (IpAddr::V6(a), IpAddr::V6(b)) => a.to_bits() >> 64 == b.to_bits() >> 64,
        _ => a == b,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::Lab;

    fn ips(text: &str) -> Vec<IpAddr> {
        text.split_whitespace().map(|ip| ip.parse().expect(ip)).collect()
    }

    fn told(bound: &str, routed: &str, interfaces: &str) -> Own {
        arranged(bound.parse().expect(bound), ips(routed), ips(interfaces))
    }

    fn shown(own: &Own) -> String {
        own.candidates.iter().map(|addr| addr.ip().to_string()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn peers_are_told_what_is_sent_from_then_private_addresses_then_public_ones() {
        let interfaces = "127.0.0.1 203.0.113.5 10.1.0.1 100.64.0.9 ::1 fe80::1 2001:db8::7 2001:db8:1::7 fd00::7 169.254.1.1 10.2.0.1";
        let own = told("[::]:7", "10.2.0.1 2001:db8::5 10.2.0.1", interfaces);
        assert_eq!(shown(&own), "10.2.0.1 2001:db8::5 10.1.0.1 100.64.0.9 fd00::7 203.0.113.5 2001:db8:1::7");
        assert_eq!((own.routed, own.lacks_ipv4), (2, false));
        assert!(own.candidates.iter().all(|addr| addr.port() == 7));
        assert_eq!(shown(&told("0.0.0.0:7", "10.2.0.1", interfaces)), "10.2.0.1 10.1.0.1 100.64.0.9 203.0.113.5");
        assert_eq!(shown(&told("[::]:7", "127.0.0.1 ::1", "127.0.0.1 ::1")), "127.0.0.1 ::1");
        assert!(told("[::]:7", "2001:db8::5 127.0.0.1", "").lacks_ipv4);
        assert!(!told("[::]:7", "::1", "").lacks_ipv4, "a machine without a network");
        let bound = "192.0.2.7:7".parse().expect("one");
        assert_eq!(own_addresses(bound, None), Own { candidates: vec![bound], routed: 1, lacks_ipv4: false });
    }

    #[test]
    fn addresses_that_peers_are_told_have_a_maximum() {
        let many: Vec<IpAddr> = (0..100).map(|n| IpAddr::from([10, 0, n, 1])).collect();
        let own = arranged("0.0.0.0:7".parse().expect("one"), ips("192.0.2.1"), many);
        assert_eq!(own.candidates.len(), OWN_MAX);
        assert!(told("0.0.0.0:7", "", "").candidates.is_empty());
    }

    #[test]
    fn the_interfaces_of_this_machine_are_listed() {
        let any = "[::]:7".parse().expect("one");
        let own = own_addresses(any, Some("127.0.0.1:9".parse().expect("one")));
        assert_eq!(own.candidates.first().map(SocketAddr::ip), Some(IpAddr::from([127, 0, 0, 1])));
        #[cfg(all(target_os = "linux", not(feature = "portable-platform")))]
        assert!(interfaces().expect("netlink").iter().any(|(ip, number)| ip.is_loopback() && *number > 0));
    }

    #[test]
    fn another_interface_is_told_without_a_move_and_a_network_without_ipv4_is_asked_for_its_prefix() {
        let mut lab = Lab::strangers(1);
        let cx = &mut lab.nodes[0];
        let mut udp = Udp::bind("[::]:0".parse().expect("one")).expect("a socket");
        let poll = mio::Poll::new().expect("a poll");
        let waker = Arc::new(Waker::new(poll.registry(), mio::Token(0)).expect("a waker"));
        let first = told("[::]:7", "10.0.0.1", "10.0.0.1");
        let mut room = Addresses::new(None, first, waker.clone());
        let (resolver, asked, answers) = Resolver::played(waker);
        room.resolver = resolver;
        assert_eq!(room.poll_timeout(), None);
        room.found(cx, &mut udp, told("[::]:7", "10.0.0.1", "10.0.0.1 10.9.0.1"));
        assert!(cx.stack.endpoint().candidates().starts_with(&room.own.candidates));
        room.found(cx, &mut udp, told("[::]:7", "2001:db8::5 10.0.0.1", "10.0.0.1 10.9.0.1"));
        assert!(cx.stack.endpoint().reflexive().is_some(), "no move either");
        room.found(cx, &mut udp, told("[::]:7", "10.9.0.1", "10.0.0.1 10.9.0.1"));
        assert!(cx.stack.endpoint().reflexive().is_none(), "the node sends from another address");
        room.found(cx, &mut udp, told("[::]:7", "10.0.0.1", "10.0.0.1 10.9.0.1"));
        room.found(cx, &mut udp, Own::default());
        assert_eq!(shown(&room.own), "10.0.0.1 10.9.0.1", "between two networks");
        room.found(cx, &mut udp, told("[::]:7", "2001:db8::5", ""));
        for _ in 0..2 {
            cx.now = room.poll_timeout().expect("a question").max(cx.now);
            room.handle_timeout(cx, &mut udp);
            assert_eq!(asked.try_recv().as_deref(), Ok(WELL_KNOWN_NAME));
            answers.send((WELL_KNOWN_NAME.into(), Err("unknown".into()))).expect("it listens");
            room.handle_timeout(cx, &mut udp);
            assert_eq!(room.nat64, None);
        }
        cx.now = room.poll_timeout().expect("asked again");
        room.handle_timeout(cx, &mut udp);
        answers.send((WELL_KNOWN_NAME.into(), Ok(ips("64:ff9b::192.0.0.170")))).expect("it listens");
        room.handle_timeout(cx, &mut udp);
        assert!(room.nat64.is_some() && room.poll_timeout().is_none());
        room.found(cx, &mut udp, told("[::]:7", "10.0.0.1", ""));
        assert_eq!((room.nat64, room.poll_timeout()), (None, None), "the network has IPv4");
    }
}
