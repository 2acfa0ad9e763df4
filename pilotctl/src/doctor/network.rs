//! Owns the checks of the network that need no daemon: both families, UDP to the rendezvous and back, and its port for HTTPS.

use super::check::{Check, Grade};
use super::node::Told;
use crate::rendezvous::local_endpoint;
use crate::settings;
use pilot_node::parts::{ECHO_LEN, echo_question, entropy, is_echo_answer};
use pilot_node::{RendezvousConfig, RendezvousHost};
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs as _, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

/// Pause before an echo is asked for again, and how often it is.
const ECHO_PAUSE: Duration = Duration::from_millis(400);
const ECHOES: usize = 4;
/// Most addresses of a rendezvous that are asked.
const ADDRESSES_MAX: usize = 4;
/// Time for a connection by TCP.
const TCP_TIME: Duration = Duration::from_secs(3);
const TLS_PORT: u16 = 443;

/// Where the rendezvous is, as far as that is known.
#[derive(Clone, Default)]
pub(super) struct Places {
    hosts: Vec<RendezvousHost>,
    /// The daemon reaches it over TLS now, at this place.
    over_tls: Option<String>,
}

impl Places {
    /// The places that the daemon uses; without its word those of the settings.
    pub(super) fn new(told: Option<&Told>) -> Self {
        let link = told.and_then(|told| told.info.rendezvous_link.as_ref());
        let over_tls = link.filter(|link| link.carrier == "tls").map(|link| link.address.clone());
        let in_use = told.and_then(|told| told.info.rendezvous_address.as_deref()?.split_once('@')?.1.parse().ok());
        let in_use = in_use.filter(|_| over_tls.is_none()).map(|addr: SocketAddr| vec![addr.into()]);
        Self { hosts: in_use.unwrap_or_else(configured), over_tls }
    }

    /// True when the rendezvous is on this machine.
    fn is_here(&self) -> bool {
        let is_here = |host: &RendezvousHost| host.name.parse().is_ok_and(|ip: IpAddr| ip.is_loopback());
        !self.hosts.is_empty() && self.hosts.iter().all(is_here)
    }

    /// The addresses of the places. Names are looked up, which may take long.
    fn addresses(&self) -> Vec<SocketAddr> {
        let of = |host: &RendezvousHost| (host.name.as_str(), host.port).to_socket_addrs().into_iter().flatten();
        let mut all: Vec<SocketAddr> = self.hosts.iter().flat_map(of).collect();
        all.truncate(ADDRESSES_MAX);
        all
    }
}

/// The rendezvous of the settings, or else the one on this machine.
fn configured() -> Vec<RendezvousHost> {
    let settings = settings::read().unwrap_or_default();
    let text = settings::setting(&settings, None, "PILOT_RENDEZVOUS", "rendezvous").ok().flatten();
    let text = text.or_else(|| fs::read_to_string(local_endpoint()).ok());
    match text.and_then(|text| text.trim().parse().ok()) {
        Some(RendezvousConfig::At(_, addr)) => vec![addr.into()],
        Some(RendezvousConfig::Hosts(_, hosts)) => hosts,
        _ => Vec::new(),
    }
}

/// Whether the kernel has a route for each family.
pub(super) fn families(places: &Places) -> Vec<Check> {
    // Addresses for documentation; connecting a UDP socket sends nothing.
    let v4 = route(Ipv4Addr::UNSPECIFIED.into(), (Ipv4Addr::new(192, 0, 2, 1), 9).into());
    let v6 = route(Ipv6Addr::UNSPECIFIED.into(), (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1), 9).into());
    let any = v4.is_ok() || v6.is_ok() || places.is_here();
    vec![family("ipv4", "IPv4", v4, any), family("ipv6", "IPv6", v6, any)]
}

/// The address from which datagrams to `to` leave.
fn route(own: IpAddr, to: SocketAddr) -> io::Result<IpAddr> {
    let socket = UdpSocket::bind((own, 0))?;
    socket.connect(to)?;
    Ok(socket.local_addr()?.ip())
}

fn family(id: &'static str, name: &str, route: io::Result<IpAddr>, any: bool) -> Check {
    match route {
        Ok(from) => Check::ok(id, format!("{name} leaves from {from}")),
        Err(_) if any => Check::ok(id, format!("no route for {name}, and none is needed to reach the rendezvous")),
        Err(e) => Check::fail(id, format!("no route for {name}: {e}"), "connect this machine to a network: ip route"),
    }
}

/// Whether UDP passes to the rendezvous and back, by echoes that need no key.
pub(super) fn udp(places: &Places) -> Vec<Check> {
    vec![udp_check(places)]
}

fn udp_check(places: &Places) -> Check {
    let id = "udp";
    if places.hosts.is_empty() {
        return Check::warn(id, "no rendezvous is known to ask", "pilotctl daemon start --rendezvous KEY@HOST");
    }
    let addresses = places.addresses();
    if addresses.is_empty() {
        let names: Vec<&str> = places.hosts.iter().map(|host| host.name.as_str()).collect();
        return Check::fail(id, format!("{} cannot be looked up", names.join(", ")), "is the name right? is DNS up?");
    }
    let answered: Vec<(SocketAddr, Duration)> = thread::scope(|scope| {
        let asked: Vec<_> = addresses.iter().map(|addr| (*addr, scope.spawn(|| echo(*addr)))).collect();
        asked.into_iter().filter_map(|(addr, echo)| Some((addr, echo.join().ok()?.ok()??))).collect()
    });
    if let Some((addr, took)) = answered.first() {
        let (ms, asked) = (took.as_secs_f64() * 1e3, addresses.len());
        return Check::ok(id, format!("{addr} answers in {ms:.1} ms ({} of {asked} addresses answer)", answered.len()));
    }
    let list: Vec<String> = addresses.iter().map(SocketAddr::to_string).collect();
    let evidence = format!("no answer from {}", list.join(", "));
    let grade = if places.over_tls.is_some() { Grade::Warn } else { Grade::Fail };
    let todo = match grade {
        Grade::Warn => "peers are reached by the relay over TLS; let UDP out for direct paths",
        _ => "is the rendezvous running? let UDP out, or let it serve TLS: rendezvous run --tls-listen 0.0.0.0:443",
    };
    Check { id, grade, evidence, todo: todo.into() }
}

/// The time that an echo takes; `None` when none comes.
fn echo(to: SocketAddr) -> io::Result<Option<Duration>> {
    let own: IpAddr = if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((own, 0))?;
    socket.connect(to)?;
    let nonce: [u8; 16] = entropy();
    for _ in 0..ECHOES {
        let begin = Instant::now();
        // A refusal of an earlier question may be told here; the next one is asked all the same.
        let _ = socket.send(&echo_question(&nonce));
        while let Some(left) = ECHO_PAUSE.checked_sub(begin.elapsed()).filter(|left| !left.is_zero()) {
            socket.set_read_timeout(Some(left))?;
            let mut answer = [0; ECHO_LEN + 1];
            match socket.recv(&mut answer) {
                Ok(len) if is_echo_answer(&answer[..len], &nonce) => return Ok(Some(begin.elapsed())),
                Ok(_) => {}
                Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => thread::sleep(left),
                Err(_) => break,
            }
        }
    }
    Ok(None)
}

/// Whether the way over TLS would lead to the rendezvous.
pub(super) fn tls(places: &Places) -> Vec<Check> {
    vec![tls_check(places, TLS_PORT)]
}

fn tls_check(places: &Places, port: u16) -> Check {
    let id = "tls";
    if cfg!(not(feature = "tls")) {
        return Check::ok(id, "this build has no way over TLS");
    }
    if let Some(place) = &places.over_tls {
        return Check::ok(id, format!("the daemon reaches the rendezvous this way, at {place}"));
    }
    let Some(host) = places.hosts.first() else {
        return Check::warn(id, "no rendezvous is known", "pilotctl daemon start --rendezvous KEY@HOST");
    };
    if places.is_here() && port == TLS_PORT {
        return Check::ok(id, "not needed: the rendezvous is on this machine");
    }
    let begin = Instant::now();
    let found = (host.name.as_str(), port).to_socket_addrs().and_then(|mut addrs| {
        let addr = addrs.next().ok_or(io::ErrorKind::NotFound)?;
        TcpStream::connect_timeout(&addr, TCP_TIME)
    });
    match found {
        Ok(_) => {
            let ms = begin.elapsed().as_secs_f64() * 1e3;
            Check::ok(id, format!("TCP port {port} of {} answers in {ms:.1} ms", host.name))
        }
        Err(e) => Check::warn(
            id,
            format!("TCP port {port} of {}: {e}; needed only where no UDP passes", host.name),
            "rendezvous run --tls-listen 0.0.0.0:443; behind a proxy: HTTPS_PROXY=http://HOST:PORT",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    fn at(addr: SocketAddr) -> Places {
        Places { hosts: vec![addr.into()], over_tls: None }
    }

    #[test]
    fn an_echo_shows_that_udp_passes_and_other_answers_do_not() {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a socket");
        let addr = socket.local_addr().expect("an address");
        let server = thread::spawn(move || {
            let mut question = [0; ECHO_LEN];
            let (_, from) = socket.recv_from(&mut question).expect("a question");
            socket.send_to(b"noise", from).expect("sent");
            socket.send_to(&pilot_node::parts::echo(&question).expect("a question"), from).expect("sent");
            socket // stays bound and says nothing more
        });
        let check = udp_check(&at(addr));
        assert_eq!(check.grade, Grade::Ok, "{check:?}");
        let _silent = server.join().expect("a server");
        let check = udp_check(&at(addr));
        assert_eq!(check.grade, Grade::Fail, "{check:?}");
        assert!(check.evidence.contains(&addr.to_string()) && check.todo.contains("--tls-listen"), "{check:?}");
        let over_tls = Places { over_tls: Some("rdv.example:443".into()), ..at(addr) };
        assert_eq!((udp_check(&over_tls).grade, tls_check(&over_tls, 1).grade), (Grade::Warn, Grade::Ok));
        assert_eq!(udp_check(&Places::default()).grade, Grade::Warn);
        assert_eq!(tls_check(&Places::default(), 1).grade, Grade::Warn);
    }

    #[cfg(feature = "tls")]
    #[test]
    fn a_port_that_is_closed_is_a_warning_and_one_that_is_open_is_well() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a listener");
        let addr = listener.local_addr().expect("an address");
        assert_eq!(tls_check(&at(addr), addr.port()).grade, Grade::Ok);
        assert!(tls_check(&at(addr), TLS_PORT).evidence.contains("on this machine"));
        drop(listener);
        let check = tls_check(&at(addr), addr.port());
        assert!(check.grade == Grade::Warn && check.evidence.contains("needed only where no UDP passes"), "{check:?}");
    }

    #[test]
    fn a_machine_without_any_network_fails_and_one_family_is_enough() {
        let none = || Err(io::ErrorKind::NetworkUnreachable.into());
        assert_eq!(family("ipv4", "IPv4", none(), false).grade, Grade::Fail);
        assert_eq!(family("ipv6", "IPv6", none(), true).grade, Grade::Ok);
        assert_eq!(family("ipv6", "IPv6", Ok(Ipv6Addr::LOCALHOST.into()), true).evidence, "IPv6 leaves from ::1");
        assert_eq!(families(&Places::default()).len(), 2);
    }
}
