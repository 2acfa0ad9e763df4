//! Owns the checks of the network that need no daemon: both families, UDP to the rendezvous and back, and its port for HTTPS.

use super::check::{Check, Grade};
use super::node::Told;
use crate::rendezvous::local_endpoint;
use crate::settings;
use pilot_node::parts::{ECHO_LEN, echo_question, entropy, is_echo_answer};
#[cfg(feature = "tls")]
use pilot_node::parts::{TlsTrouble, TlsWay, try_tls};
#[cfg(feature = "tls")]
use pilot_node::{Proxy, ProxySetting, TlsConfig, answer::TlsRoute};
use pilot_node::{RendezvousConfig, RendezvousHost};
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs as _, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

/// Pause before an echo is asked for again, and how often it is.
const ECHO_PAUSE: Duration = Duration::from_millis(400);
const ECHOES: usize = 4;
/// Most addresses of a rendezvous that are asked.
const ADDRESSES_MAX: usize = 4;
/// Time for TCP, a proxy, TLS and the upgrade together.
#[cfg(feature = "tls")]
const TLS_TIME: Duration = Duration::from_secs(5);

/// Where the rendezvous is, as far as that is known.
#[derive(Clone, Default)]
pub(super) struct Places {
    hosts: Vec<RendezvousHost>,
    /// The daemon reaches it over TLS now, at this place.
    over_tls: Option<String>,
    /// The way over TLS that the daemon takes where no UDP passes.
    #[cfg(feature = "tls")]
    tls: Option<TlsRoute>,
}

impl Places {
    /// The places that the daemon uses; without its word those of the settings.
    pub(super) fn new(told: Option<&Told>) -> Self {
        let link = told.and_then(|told| told.info.rendezvous_link.as_ref());
        let over_tls = link.filter(|link| link.carrier == "tls").map(|link| link.address.clone());
        let in_use = told.and_then(|told| told.info.rendezvous_address.as_deref()?.split_once('@')?.1.parse().ok());
        let in_use = in_use.filter(|_| over_tls.is_none()).map(|addr: SocketAddr| vec![addr.into()]);
        Self {
            hosts: in_use.unwrap_or_else(configured),
            over_tls,
            #[cfg(feature = "tls")]
            tls: link.and_then(|link| link.tls.clone()),
        }
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

/// Whether the way over TLS would lead to the rendezvous: the daemon's, with its proxy. Without its word that of the settings and of
/// this program's environment.
pub(super) fn tls(places: &Places) -> Vec<Check> {
    #[cfg(feature = "tls")]
    return vec![match &places.tls {
        Some(route) => tls_of_daemon(places, route),
        None => tls_check(places, TlsConfig::DEFAULT_PORT, &ProxySetting::Environment),
    }];
    #[cfg(not(feature = "tls"))]
    return vec![tls_known(places).unwrap_or_else(|| Check::ok("tls", "this build has no way over TLS"))];
}

/// What is known of that way without trying it.
fn tls_known(places: &Places) -> Option<Check> {
    let id = "tls";
    match &places.over_tls {
        Some(place) => Some(Check::ok(id, format!("the daemon reaches the rendezvous this way, at {place}"))),
        None if places.hosts.is_empty() => {
            Some(Check::warn(id, "no rendezvous is known", "pilotctl daemon start --rendezvous KEY@HOST"))
        }
        None => None,
    }
}

/// Does what a daemon does where no UDP passes: TCP, perhaps CONNECT through a proxy, TLS, and the upgrade to WebSocket.
#[cfg(feature = "tls")]
fn tls_check(places: &Places, port: u16, proxy: &ProxySetting) -> Check {
    let id = "tls";
    if let Some(known) = tls_known(places) {
        return known;
    }
    if places.is_here() && port == TlsConfig::DEFAULT_PORT {
        return Check::ok(id, "not needed: the rendezvous is on this machine");
    }
    let host = RendezvousHost { name: places.hosts[0].name.clone(), port };
    let place = host.to_string();
    tls_found(&place, try_tls(host, proxy, TLS_TIME))
}

/// Does the same by the daemon's way. The daemon does not tell its password for the proxy: the proxy's question for one is the last
/// step that can be seen from here, unless this program's environment has it.
#[cfg(feature = "tls")]
fn tls_of_daemon(places: &Places, route: &TlsRoute) -> Check {
    let id = "tls";
    if let Some(known) = tls_known(places) {
        return known;
    }
    if let Some(wrong) = &route.wrong {
        return Check::warn(id, wrong, PROXY_TODO);
    }
    let proxy: Option<Proxy> = route.proxy.as_deref().and_then(|at| at.parse().ok());
    let setting = proxy.map_or(ProxySetting::None, |at| ProxySetting::Always(at.or_of_environment()));
    let Some(host) = RendezvousHost::parse(&route.place, TlsConfig::DEFAULT_PORT) else {
        return Check::warn(id, format!("{} is no place", route.place), "pilotctl info");
    };
    match try_tls(host, &setting, TLS_TIME) {
        Err(trouble) if trouble.wants_password && route.has_password => {
            let proxy = route.proxy.as_deref().unwrap_or_default();
            Check::ok(id, format!("the proxy {proxy} answers and wants the daemon's password, which is not tried here"))
        }
        found => tls_found(&route.place, found),
    }
}

/// What to do about a proxy in the way.
#[cfg(feature = "tls")]
const PROXY_TODO: &str = "pilotctl daemon start --https-proxy http://[USER:PASSWORD@]HOST:PORT";

/// What a try of the way over TLS to `place` has found.
#[cfg(feature = "tls")]
fn tls_found(place: &str, found: Result<TlsWay, TlsTrouble>) -> Check {
    let id = "tls";
    match found {
        Ok(way) => {
            let ms = way.took.as_secs_f64() * 1e3;
            Check::ok(id, format!("{} answers TLS and the upgrade to WebSocket in {ms:.1} ms", way.to))
        }
        Err(trouble) => {
            let todo = if trouble.is_by_proxy {
                format!("have the proxy let CONNECT {place} pass, or name another: {PROXY_TODO}")
            } else {
                "rendezvous run --tls-listen 0.0.0.0:443; behind a proxy: pilotctl daemon start --https-proxy http://HOST:PORT".into()
            };
            Check::warn(id, format!("{}; needed only where no UDP passes", trouble.text), todo)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(feature = "tls")]
    use std::io::{Read as _, Write as _};
    #[cfg(feature = "tls")]
    use std::net::{TcpListener, TcpStream};

    fn at(addr: SocketAddr) -> Places {
        Places { hosts: vec![addr.into()], ..Places::default() }
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
        assert_eq!((udp_check(&over_tls).grade, tls(&over_tls)[0].grade), (Grade::Warn, Grade::Ok));
        assert_eq!(udp_check(&Places::default()).grade, Grade::Warn);
        assert_eq!(tls(&Places::default())[0].grade, Grade::Warn);
    }

    /// A machine that answers each of its callers so, once it has heard something; `None`: it says nothing and waits.
    #[cfg(feature = "tls")]
    fn says(answer: Option<&'static str>) -> SocketAddr {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a listener");
        let addr = listener.local_addr().expect("an address");
        thread::spawn(move || {
            let mut held = Vec::new();
            while let Ok((mut stream, _)) = listener.accept() {
                let _ = stream.read(&mut [0; 2048]);
                if let Some(answer) = answer {
                    let _ = stream.write_all(answer.as_bytes());
                }
                held.extend(answer.is_none().then_some(stream));
            }
        });
        addr
    }

    /// A proxy that leads those who ask for `rdv.example` there.
    #[cfg(feature = "tls")]
    fn proxy(to: SocketAddr) -> SocketAddr {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a listener");
        let addr = listener.local_addr().expect("an address");
        thread::spawn(move || {
            while let Ok((mut near, _)) = listener.accept() {
                let mut head = [0; 2048];
                let len = near.read(&mut head).expect("a question");
                assert!(head[..len].starts_with(b"CONNECT rdv.example:443 HTTP/1.1\r\n"));
                let far = TcpStream::connect(to).expect("the rendezvous");
                near.write_all(b"HTTP/1.1 200 Connected\r\n\r\n").expect("sent");
                for (from, to) in [(&near, &far), (&far, &near)] {
                    let (from, to) = (from.try_clone(), to.try_clone());
                    let (mut from, mut to) = (from.expect("a descriptor"), to.expect("a descriptor"));
                    thread::spawn(move || {
                        let _ = io::copy(&mut from, &mut to);
                        let _ = to.shutdown(std::net::Shutdown::Both);
                    });
                }
            }
        });
        addr
    }

    #[cfg(feature = "tls")]
    fn by(proxy: SocketAddr) -> ProxySetting {
        ProxySetting::At(format!("http://{proxy}").parse().expect("a proxy"))
    }

    #[cfg(feature = "tls")]
    #[test]
    fn a_rendezvous_that_serves_tls_is_well_straight_and_through_a_proxy() {
        use pilot_rendezvous::server::{Server, ServerConfig};
        let home = std::env::temp_dir().join(format!("pilot-doctor-tls-{}", std::process::id()));
        let any = || SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let config = ServerConfig { home: home.clone(), listen: any(), idle_exit: None };
        let mut server = Server::bind(&config).expect("a rendezvous");
        let addr = server.listen_tcp(any(), Some(&pilot_rendezvous::Certificate::Own)).expect("a listener");
        let stopper = server.stopper();
        let thread = thread::spawn(move || server.run());
        let straight = tls_check(&at(addr), addr.port(), &ProxySetting::None);
        assert_eq!(straight.grade, Grade::Ok, "{straight:?}");
        assert!(straight.evidence.starts_with(&format!("{addr} answers TLS")), "{straight:?}");
        let proxy = proxy(addr);
        let far = Places { hosts: vec!["rdv.example".parse().expect("a host")], ..Places::default() };
        let around = tls_check(&far, 443, &by(proxy));
        assert_eq!(around.grade, Grade::Ok, "{around:?}");
        assert!(
            around.evidence.starts_with(&format!("rdv.example:443 by the proxy {proxy} answers TLS")),
            "{around:?}"
        );
        let route = TlsRoute { place: "rdv.example:443".into(), proxy: Some(proxy.to_string()), ..TlsRoute::default() };
        let told = tls(&Places { tls: Some(route), ..far })[0].clone();
        assert!(
            told.grade == Grade::Ok && told.evidence.contains(&format!("by the proxy {proxy} answers")),
            "{told:?}"
        );
        assert!(tls_check(&at(addr), 443, &ProxySetting::None).evidence.contains("on this machine"));
        stopper.stop();
        thread.join().expect("it ends").expect("in order");
        let _ = fs::remove_dir_all(&home);
    }

    #[cfg(feature = "tls")]
    #[test]
    fn what_stands_in_the_way_of_tls_is_named_with_what_to_do() {
        let dead = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|l| l.local_addr()).expect("an address");
        let rendezvous = at(([192, 0, 2, 1], 9).into());
        for (answer, wanted) in [
            (Some("HTTP/1.1 407 Proxy Authentication Required\r\n\r\n"), "wants a password"),
            (Some("HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n"), "refuses: 502 Bad Gateway"),
            (Some("<!DOCTYPE html><html>Welcome to the hotel</html>"), "answers with something that is not HTTP"),
            (Some(""), "ends the connection without an answer"),
            (None, "does not answer"),
        ] {
            let proxy = says(answer);
            let check = tls_check(&rendezvous, 443, &by(proxy));
            assert_eq!(check.grade, Grade::Warn, "{check:?}");
            assert!(
                check.evidence.contains(&format!("the proxy 127.0.0.1, TCP port {}, {wanted}", proxy.port())),
                "{check:?}"
            );
            assert!(check.todo.starts_with("have the proxy let CONNECT 192.0.2.1:443 pass"), "{check:?}");
        }
        let wants = says(Some("HTTP/1.1 407 Proxy Authentication Required\r\n\r\n")).to_string();
        let route = TlsRoute { place: "192.0.2.1:443".into(), proxy: Some(wants.clone()), ..TlsRoute::default() };
        assert!(tls_of_daemon(&rendezvous, &route).evidence.contains("wants a password"));
        let check = tls_of_daemon(&rendezvous, &TlsRoute { has_password: true, ..route.clone() });
        let asked = format!("the proxy {wants} answers and wants the daemon's password");
        assert!(check.grade == Grade::Ok && check.evidence.starts_with(&asked), "{check:?}");
        let check = tls_of_daemon(&rendezvous, &TlsRoute { wrong: Some("HTTPS_PROXY: no".into()), ..route });
        assert!(check.grade == Grade::Warn && check.todo.contains("--https-proxy"), "{check:?}");
        let check = tls_check(&rendezvous, 443, &by(dead));
        assert!(check.evidence.contains("cannot be reached") && check.todo.contains("--https-proxy"), "{check:?}");
        for (addr, wanted) in
            [(dead, "cannot be reached"), (says(Some("HTTP/1.1 400 Bad\r\n\r\n")), "does not speak TLS")]
        {
            let check = tls_check(&at(addr), addr.port(), &ProxySetting::None);
            assert!(check.grade == Grade::Warn && check.evidence.contains(wanted), "{check:?}");
            assert!(check.evidence.ends_with("needed only where no UDP passes"), "{check:?}");
            assert!(check.todo.starts_with("rendezvous run --tls-listen"), "{check:?}");
        }
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
