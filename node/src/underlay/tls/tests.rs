//! The way over TLS with real sockets and a real rendezvous, in virtual time.

use super::*;
use crate::call::Calls;
use crate::config::ProxySetting;
use crate::crypto::{SystemEntropy, aead, agreement};
use pilot_core::endpoint::DirectoryState;
use pilot_core::identity::StaticKey;
use pilot_rendezvous::Certificate;
use pilot_rendezvous::server::{Server, ServerConfig, Stopper};
use pilot_stack::{Stack, StackConfig};
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

fn loopback() -> SocketAddr {
    "127.0.0.1:0".parse().expect("an address")
}

/// A rendezvous with a UDP address that no node of these tests is told.
struct Far {
    key: StaticKey,
    tls: SocketAddr,
    home: PathBuf,
    stopper: Stopper,
    thread: Option<std::thread::JoinHandle<io::Result<()>>>,
}

impl Far {
    fn new(name: &str) -> Self {
        let home = std::env::temp_dir().join(format!("pilot-tls-{name}-{}", std::process::id()));
        let config = ServerConfig { home: home.clone(), listen: loopback(), idle_exit: None };
        let mut server = Server::bind(&config).expect("a rendezvous");
        let tls = server.listen_tcp(loopback(), Some(&Certificate::Own)).expect("a listener");
        let (key, stopper) = (server.endpoint().0, server.stopper());
        Self { key, tls, home, stopper, thread: Some(std::thread::spawn(move || server.run())) }
    }
}

impl Drop for Far {
    fn drop(&mut self) {
        self.stopper.stop();
        let ended = self.thread.take().map(std::thread::JoinHandle::join);
        let _ = std::fs::remove_dir_all(&self.home);
        assert!(std::thread::panicking() || matches!(ended, Some(Ok(Ok(())))));
    }
}

/// A machine on the way, which loses everything while the flag is set.
fn middle(to: SocketAddr) -> (SocketAddr, Arc<AtomicBool>) {
    let (listener, swallows) = (TcpListener::bind(loopback()).expect("a listener"), Arc::new(AtomicBool::new(false)));
    let (addr, flag) = (listener.local_addr().expect("an address"), swallows.clone());
    std::thread::spawn(move || {
        while let Ok((near, _)) = listener.accept() {
            let far = TcpStream::connect(to).expect("the far end");
            for (mut from, mut to) in [(&near, &far), (&far, &near)].map(|(a, b)| (clone(a), clone(b))) {
                let flag = flag.clone();
                std::thread::spawn(move || {
                    let mut bytes = [0; 4096];
                    while let Ok(len @ 1..) = from.read(&mut bytes) {
                        if !flag.load(Ordering::SeqCst) && to.write_all(&bytes[..len]).is_err() {
                            break;
                        }
                    }
                    let _ = to.shutdown(Shutdown::Both);
                });
            }
        }
    });
    (addr, swallows)
}

fn clone(stream: &TcpStream) -> TcpStream {
    stream.try_clone().expect("a descriptor")
}

/// A node's loop as far as this room is concerned.
struct Near {
    poll: mio::Poll,
    link: TlsLink,
    cx: Context,
    place: RendezvousPlace,
    udp: Udp,
    /// Where the node sends its UDP.
    hole: UdpSocket,
    batch: Vec<u8>,
    waker: Arc<Waker>,
}

impl Near {
    fn new(key: StaticKey, at: SocketAddr) -> Self {
        let hole = UdpSocket::bind(loopback()).expect("a socket");
        hole.set_nonblocking(true).expect("non-blocking");
        let address = hole.local_addr().expect("an address");
        let mut core = pilot_core::Config::new(pilot_core::Identity::from_seed([3; 32]), Box::new(SystemEntropy));
        (core.aead, core.agreement) = (aead::fastest(), agreement::fastest());
        core.rendezvous = Some((key, address));
        core.wall_at_zero_us = crate::clock::wall_us();
        let mut config = crate::Config::new("");
        config.tls = TlsConfig { at: Some(at.into()), proxy: ProxySetting::None, ..TlsConfig::default() };
        let poll = mio::Poll::new().expect("a poll");
        let waker = Arc::new(Waker::new(poll.registry(), Room::Waker.token(0)).expect("a waker"));
        let registry = poll.registry().try_clone().expect("a registry");
        let link = TlsLink::new(&config.tls, registry, waker.clone());
        let place = RendezvousPlace::new(&crate::RendezvousConfig::At(key, address), waker.clone());
        let cx = Context::new(Stack::new(core, StackConfig::default()), || 0, Calls::default(), config);
        let udp = Udp::bind(loopback()).expect("a socket");
        Self { poll, link, cx, place, udp, hole, batch: Vec::new(), waker }
    }

    /// A turn of the loop, which waits for sockets but not for time.
    fn turn(&mut self) {
        let mut events = mio::Events::with_capacity(8);
        self.poll.poll(&mut events, Some(Duration::from_millis(5))).expect("a poll");
        for event in &events {
            if Room::of(event.token()) == Some(Room::Tls) {
                self.link.readiness(event.token(), event.is_readable());
            }
        }
        self.cx.stack.handle_timeout(self.cx.now);
        self.link.receive(&mut self.cx);
        self.link.handle_timeout(&mut self.cx, &self.place, &mut self.udp);
        while let Some(transmit) = self.cx.stack.poll_transmit(self.cx.now, &mut self.batch) {
            self.link.takes(self.cx.now, transmit.to, transmit.segment_len, &self.batch);
        }
        self.link.flush();
    }

    fn turn_until(&mut self, what: &str, done: impl Fn(&Self) -> bool) {
        let end = std::time::Instant::now() + Duration::from_secs(30);
        while !done(self) {
            assert!(std::time::Instant::now() < end, "{what}; {}", self.link.told);
            self.turn();
        }
    }

    fn later(&mut self, time: Duration) {
        self.cx.now = self.cx.now + time;
        self.turn();
    }

    fn carries(&self) -> bool {
        matches!(&self.link.state, State::Open(open) if open.carries)
    }

    fn is_paused(&self) -> bool {
        matches!(self.link.state, State::Paused(_))
    }

    fn is_ready(&self) -> bool {
        matches!(self.cx.stack.endpoint().directory_state(), DirectoryState::Ready(_))
    }

    /// The next question for an echo that the hole has got.
    fn question(&self) -> Option<Vec<u8>> {
        let mut bytes = [0; 2000];
        while let Ok(len) = self.hole.recv(&mut bytes) {
            if crate::underlay::echo::echo(&bytes[..len]).is_some() {
                return Some(bytes[..len].to_vec());
            }
        }
        None
    }
}

#[test]
fn tls_is_taken_when_udp_is_silent_and_left_when_udp_is_not() {
    let far = Far::new("both");
    let mut near = Near::new(far.key, far.tls);
    near.turn();
    near.turn();
    assert!(near.link.udp.silent_at().is_some(), "the first INIT has left");
    near.later(Duration::from_millis(299));
    assert!(matches!(near.link.state, State::Idle) && near.question().is_some(), "an echo was asked for before");
    near.later(Duration::from_millis(1));
    near.turn_until("it registers over TLS", |near| near.carries() && near.is_ready());
    let told = |near: &Near| crate::calls::path::rendezvous(&near.cx).expect("a rendezvous");
    let link = told(&near);
    assert_eq!((link.carrier.as_str(), link.reason.as_str(), link.udp.as_str()), ("tls", "udp_silent", "blocked"));
    assert!(link.address.starts_with("127.0.0.1:") && link.tls_failure.is_none(), "{link:?}");
    near.cx.now = near.cx.now + PING_AFTER;
    near.turn_until(
        "the other side lives",
        |near| matches!(&near.link.state, State::Open(open) if open.unanswered.is_none()),
    );
    while near.question().is_some() {}
    let State::Open(open) = &near.link.state else { panic!("it is open") };
    assert_eq!(near.link.poll_timeout(), Some(open.try_udp_at));
    near.cx.now = open.try_udp_at;
    near.link.handle_timeout(&mut near.cx, &near.place, &mut near.udp);
    let answer = crate::underlay::echo::echo(&near.question().expect("UDP is tried")).expect("a question");
    let from = near.hole.local_addr().expect("an address");
    let mut forged = answer;
    forged[5] ^= 1;
    near.link.hears(&mut near.cx, from, forged.len(), &forged);
    assert!(near.carries(), "nothing off the way brings a node back to UDP");
    assert!(near.link.hears(&mut near.cx, from, answer.len(), &answer));
    assert!(!near.carries() && !near.link.takes(near.cx.now, from, 9, &[1; 9]), "UDP is used");
    assert_eq!((told(&near).carrier.as_str(), told(&near).reason.as_str()), ("udp", "udp_answers"));
    // UDP is silent again while the connection stands.
    near.cx.now = near.cx.now + Duration::from_millis(300);
    near.link.handle_timeout(&mut near.cx, &near.place, &mut near.udp);
    assert!(near.carries());
    assert!(near.link.hears(&mut near.cx, from, answer.len(), &answer));
    near.cx.now = near.cx.now + LINGER;
    near.link.handle_timeout(&mut near.cx, &near.place, &mut near.udp);
    assert!(matches!(near.link.state, State::Idle), "the connection is over");
}

#[test]
fn a_way_that_swallows_what_follows_the_upgrade_is_given_up_and_tried_again_later_and_later() {
    let far = Far::new("swallows");
    let (middle, swallows) = middle(far.tls);
    let mut near = Near::new(far.key, middle);
    near.turn();
    near.later(Duration::from_millis(300));
    let mut pauses = Vec::new();
    for _ in 0..8 {
        near.turn_until("the upgrade", |near| matches!(near.link.state, State::Joins(_) | State::Open(_)));
        near.turn_until("the upgrade", |near| !matches!(near.link.state, State::Joins(_)));
        swallows.store(true, Ordering::SeqCst);
        let State::Open(open) = &mut near.link.state else { panic!("it is open: {}", near.link.told) };
        assert!(open.carries);
        // What the rendezvous has answered before the way was cut is not what this test is about.
        (open.is_readable, open.is_proven, open.unanswered) = (false, false, Some(near.cx.now));
        let given_up = near.cx.now + GIVE_UP_AFTER;
        while matches!(near.link.state, State::Open(_)) {
            near.cx.now = near.link.poll_timeout().expect("it gives up").max(near.cx.now);
            near.link.handle_timeout(&mut near.cx, &near.place, &mut near.udp);
        }
        assert!(near.cx.now == given_up && near.is_paused() && near.link.told.contains("WebSocket"));
        let next = near.link.poll_timeout().expect("another attempt");
        pauses.push(next.since(near.cx.now).as_secs());
        near.cx.now = next;
        swallows.store(false, Ordering::SeqCst);
        near.turn();
    }
    assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60]);
}

#[test]
fn the_newest_datagrams_before_tls_stands_are_said_again_there() {
    let far = Far::new("kept");
    let mut near = Near::new(far.key, far.tls);
    near.turn();
    near.later(Duration::from_millis(300));
    // Virtual time stands still, so that the core sends no INIT again.
    near.turn_until("the first INIT is answered", |near| near.cx.stack.endpoint().rendezvous_heard().is_some());
    assert_eq!(near.cx.now, Instant::ZERO + Duration::from_millis(300));
}

#[test]
fn a_rendezvous_on_this_machine_is_not_looked_for_at_port_443_and_tls_can_be_off() {
    let key = StaticKey([1; 32]);
    for (host, is_on, used) in [
        ("127.0.0.1:7", true, false),
        ("localhost:7", true, false),
        ("[::1]:7", true, false),
        ("192.0.2.1:7", true, true),
        ("192.0.2.1:7", false, false),
    ] {
        let mut near = Near::new(key, loopback());
        (near.link.config.at, near.link.config.is_on) = (None, is_on);
        let config = format!("{key}@{host}").parse().expect("a rendezvous");
        near.place = RendezvousPlace::new(&config, near.waker.clone());
        let found = near.link.host(&near.place).map(|host| host.port);
        assert_eq!(found, used.then_some(443), "{host} {is_on}");
    }
}

#[test]
fn a_certificate_must_be_known_when_that_is_asked_for() {
    let far = Far::new("verify");
    let mut near = Near::new(far.key, far.tls);
    near.link.config.verify = true;
    near.turn();
    near.later(Duration::from_millis(300));
    near.turn_until("it fails", Near::is_paused);
    let told = &near.link.told;
    assert!(told.contains("certificate"), "{told}");
}

/// An address at which nothing answers TCP, and what keeps it so: a listener with a full queue of those that wait.
fn silent_address() -> (SocketAddr, impl Sized) {
    let socket =
        rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::STREAM, None).expect("a socket");
    rustix::net::bind(&socket, &loopback()).expect("an address");
    rustix::net::listen(&socket, 0).expect("a listener");
    let listener = TcpListener::from(socket);
    let addr = listener.local_addr().expect("an address");
    let mut waiting = Vec::new();
    while let Ok(stream) = TcpStream::connect_timeout(&addr, Duration::from_millis(200)) {
        waiting.push(stream);
        assert!(waiting.len() < 100, "the queue has no end");
    }
    (addr, (listener, waiting))
}

#[test]
fn an_address_that_says_nothing_costs_a_quarter_of_a_second() {
    let (silent, _kept) = silent_address();
    let listener = TcpListener::bind(loopback()).expect("a listener");
    let addr = listener.local_addr().expect("an address");
    let poll = mio::Poll::new().expect("a poll");
    let way = Way { host: addr.into(), proxy: None, verify: false };
    let mut join = Join::new(Instant::ZERO, way, vec![silent, addr]);
    let mut advance = |now| assert!(matches!(join.advance(now, (poll.registry(), 1)), Progress::Waits));
    advance(Instant::ZERO);
    listener.set_nonblocking(true).expect("it works");
    assert!(listener.accept().is_err(), "the first address has its time");
    advance(Instant::ZERO + Duration::from_millis(250));
    listener.set_nonblocking(false).expect("it works");
    let (mut stream, _) = listener.accept().expect("it works");
    // The one that answers is used, and TLS begins there.
    stream.set_read_timeout(Some(Duration::from_millis(5))).expect("it works");
    let mut byte = [0];
    let end = std::time::Instant::now() + Duration::from_secs(30);
    while stream.read(&mut byte).is_err() {
        assert!(std::time::Instant::now() < end, "TLS does not begin");
        advance(Instant::ZERO + Duration::from_millis(250));
    }
    assert_eq!(byte, [22], "a handshake of TLS");
}

/// What an attempt says of a machine that answers so; `None`: the machine says nothing and holds the connection.
fn attempt(answer: Option<&'static [u8]>, by_proxy: bool) -> String {
    let listener = TcpListener::bind(loopback()).expect("a listener");
    let at: RendezvousHost = listener.local_addr().expect("an address").into();
    let far = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a node");
        let mut bytes = [0; 2048];
        let _ = stream.read(&mut bytes);
        match answer {
            Some(answer) => drop(stream.write_all(answer)),
            None => while matches!(stream.read(&mut bytes), Ok(1..)) {},
        }
    });
    let poll = mio::Poll::new().expect("a poll");
    let proxy = by_proxy.then(|| format!("http://{}:{}", at.name, at.port).parse().expect("a proxy"));
    let host = if by_proxy { RendezvousHost::parse("rdv.example", 443).expect("a host") } else { at.clone() };
    let way = Way { host, proxy, verify: false };
    let addresses = vec![SocketAddr::new(at.name.parse().expect("an address"), at.port)];
    let mut join = Join::new(Instant::ZERO, way, addresses);
    let end = std::time::Instant::now() + Duration::from_secs(30);
    let text = loop {
        assert!(std::time::Instant::now() < end, "it neither stands nor fails");
        // Where nothing is said the time is over at once.
        let now = if answer.is_none() { join.poll_timeout() } else { Instant::ZERO };
        match join.advance(now, (poll.registry(), 1)) {
            Progress::Failed(text) => break text,
            Progress::Stands(_) => panic!("there is no rendezvous"),
            Progress::Waits => std::thread::sleep(Duration::from_millis(1)),
        }
    };
    drop(join);
    far.join().expect("it ends");
    text
}

#[test]
fn machines_that_are_no_rendezvous_and_no_proxy_are_named_with_what_they_said() {
    let cases: [(&str, bool, Option<&[u8]>); 10] = [
        ("wants a password", true, Some(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n")),
        ("refuses: 502 Bad Gateway", true, Some(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")),
        ("not HTTP", true, Some(b"<!DOCTYPE html><html>Welcome to the hotel</html>")),
        ("refuses: 302 Found", true, Some(b"HTTP/1.1 302 Found\r\nLocation: http://login/\r\n\r\n<html>")),
        ("without an answer", true, Some(b"")),
        ("does not answer", true, None),
        ("does not speak TLS", false, Some(b"HTTP/1.1 400 Bad Request\r\n\r\n")),
        ("does not speak TLS", false, Some(&[0xff; 300])),
        ("without an answer", false, Some(b"")),
        ("no TLS begins so", true, Some(b"HTTP/1.1 200 OK\r\n\r\n<html>")),
    ];
    for (expected, by_proxy, answer) in cases {
        let text = attempt(answer, by_proxy);
        assert!(text.contains(expected), "{expected}: {text}");
        assert_eq!(text.starts_with("the proxy 127.0.0.1, TCP port "), by_proxy, "{text}");
    }
}
