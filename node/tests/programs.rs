//! Programs that know nothing of Pilot, on plain sockets of this machine, across two nodes.
#![allow(clippy::unwrap_used, reason = "tests")]

mod lab;

use lab::Lab;
use pilot_node::answer::{Exposes, Forward, Forwards};
use pilot_node::{Code, ExposeOptions, Exposure, Failure, Forwarding, Node, Request};
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(20);

/// A server that is exposed at port 80 of `node-b`, and the forward of `node-a` to the port.
struct Ways {
    server: TcpListener,
    forward: Forwarding,
    _exposure: Exposure,
}

impl Ways {
    fn new(lab: &Lab) -> Self {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let (a, b) = lab.nodes();
        let target = server.local_addr().unwrap().port().to_string();
        let exposure = b.expose(80, &target, ExposeOptions::default()).unwrap();
        let forward = a.forward("0", "node-b", 80).unwrap();
        Self { server, forward, _exposure: exposure }
    }

    fn connect(&self) -> TcpStream {
        connect(&self.forward.forward.listen)
    }

    /// A client and the connection that the server has accepted for it.
    fn pair(&self) -> (TcpStream, TcpStream) {
        let client = self.connect();
        let (server, _) = self.server.accept().unwrap();
        server.set_read_timeout(Some(PATIENCE)).unwrap();
        (client, server)
    }
}

fn connect(listen: &str) -> TcpStream {
    let stream = TcpStream::connect(listen).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn until(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < end, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn forwards(node: &Node) -> Vec<Forward> {
    Forwards::try_from(node.request(Request::Forwards, Vec::new()).unwrap().0).unwrap().forwards
}

fn code<T>(result: Result<T, Failure>) -> Option<Code> {
    result.err().map(|failure| failure.code)
}

/// Lets closing a socket send a reset.
fn reset_on_close(socket: impl AsFd) {
    rustix::net::sockopt::set_socket_linger(socket, Some(Duration::ZERO)).unwrap();
}

/// Bytes without a short period.
fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed;
    std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 56) as u8
    })
    .take(len)
    .collect()
}

#[test]
fn halves_end_one_after_the_other() {
    let lab = Lab::new("halves");
    let ways = Ways::new(&lab);
    for client_first in [true, false] {
        let (client, peer) = ways.pair();
        let (first, second) = if client_first { (&client, &peer) } else { (&peer, &client) };
        for (mut from, mut to, text) in [(first, second, b"question"), (second, first, b"an answr")] {
            from.write_all(text).unwrap();
            from.shutdown(Shutdown::Write).unwrap();
            let mut read = Vec::new();
            to.read_to_end(&mut read).unwrap();
            assert_eq!(read, text);
        }
    }
    until("both nodes have forgotten the connections", || forwards(lab.nodes().0)[0].connections == 0);
    assert_eq!(forwards(lab.nodes().0)[0].total, 2);
}

#[test]
fn a_reset_on_either_side_is_a_reset_on_the_other() {
    let lab = Lab::new("resets");
    let ways = Ways::new(&lab);
    for client_first in [true, false] {
        let (mut client, mut peer) = ways.pair();
        client.write_all(b"x").unwrap();
        peer.read_exact(&mut [0]).unwrap();
        let (first, mut second) = if client_first { (client, peer) } else { (peer, client) };
        reset_on_close(&first);
        drop(first);
        let broken = second.read(&mut [0]).unwrap_err();
        assert_eq!(broken.kind(), ErrorKind::ConnectionReset);
    }
}

#[test]
fn a_program_that_closes_with_unread_bytes_resets() {
    let lab = Lab::new("unread");
    let ways = Ways::new(&lab);
    let (client, mut peer) = ways.pair();
    peer.write_all(b"never read").unwrap();
    until("the bytes are with the client", || client.peek(&mut [0; 16]).is_ok_and(|n| n == 10));
    drop(client);
    assert_eq!(peer.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
}

#[test]
fn two_hundred_connections_at_once_each_get_their_own_bytes() {
    let lab = Lab::new("many");
    let ways = Ways::new(&lab);
    let clients: Vec<TcpStream> = (0..200).map(|_| ways.connect()).collect();
    for (n, mut client) in clients.iter().enumerate() {
        client.write_all(&(n as u32).to_le_bytes()).unwrap();
    }
    let mut served = Vec::new();
    for _ in 0..clients.len() {
        let (mut peer, _) = ways.server.accept().unwrap();
        let mut number = [0; 4];
        peer.read_exact(&mut number).unwrap();
        peer.write_all(&number).unwrap();
        served.push(peer);
    }
    assert_eq!(forwards(lab.nodes().0)[0].connections, 200);
    for (n, mut client) in clients.iter().enumerate() {
        let mut number = [0; 4];
        client.read_exact(&mut number).unwrap();
        assert_eq!(u32::from_le_bytes(number), n as u32);
    }
    drop((clients, served));
    until("all have ended", || forwards(lab.nodes().0)[0].connections == 0);
}

#[test]
fn bulk_arrives_whole_both_ways_at_once() {
    const LEN: usize = 100 << 20;
    let lab = Lab::new("bulk");
    let ways = Ways::new(&lab);
    let (client, server) = ways.pair();
    let write = |mut to: TcpStream, seed| {
        std::thread::spawn(move || {
            let bytes = noise(1 << 20, seed);
            (0..LEN >> 20).for_each(|_| to.write_all(&bytes).unwrap());
            to.shutdown(Shutdown::Write).unwrap();
        })
    };
    let writers = [write(client.try_clone().unwrap(), 1), write(server.try_clone().unwrap(), 2)];
    let read = |mut from: TcpStream, seed| {
        std::thread::spawn(move || {
            let (expected, mut got, mut part) = (noise(1 << 20, seed), 0, vec![0; 64 << 10]);
            loop {
                let n = from.read(&mut part).unwrap();
                if n == 0 {
                    return got;
                }
                let at = got % expected.len();
                let first = n.min(expected.len() - at);
                assert!(part[..first] == expected[at..at + first] && part[first..n] == expected[..n - first]);
                got += n;
            }
        })
    };
    let readers = [read(server, 1), read(client, 2)];
    writers.into_iter().for_each(|thread| thread.join().unwrap());
    assert_eq!(readers.map(|thread| thread.join().unwrap()), [LEN; 2]);
}

#[test]
fn a_reader_that_stops_stops_its_writer() {
    let lab = Lab::new("stopped");
    let ways = Ways::new(&lab);
    let (mut client, server) = ways.pair();
    client.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    let (bytes, mut taken) = (noise(1 << 20, 1), 0);
    let stopped = loop {
        match client.write(&bytes) {
            Ok(n) => taken += n,
            Err(e) => break e,
        }
        // Rings of 32 MiB at either end, and the kernel's buffers.
        assert!(taken < 256 << 20, "nothing holds the writer back");
    };
    assert!(matches!(stopped.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{stopped}");
    drop(server);
}

#[test]
fn sockets_of_files_work_at_both_ends() {
    let lab = Lab::new("unix");
    let (a, b) = lab.nodes();
    let [at, to] = ["a.sock", "b.sock"].map(|name| format!("unix:{}", lab.folder.join(name).display()));
    let server = UnixListener::bind(&to[5..]).unwrap();
    let _exposure = b.expose(80, &to, ExposeOptions::default()).unwrap();
    let forward = a.forward(&at, "node-b", 80).unwrap();
    assert_eq!(forward.forward.listen, at);
    use std::os::unix::fs::PermissionsExt as _;
    assert_eq!(std::fs::metadata(&at[5..]).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(code(a.forward(&at, "node-b", 80)), Some(Code::Conflict));
    let mut client = UnixStream::connect(&at[5..]).unwrap();
    client.write_all(b"question").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let (mut peer, _) = server.accept().unwrap();
    let mut text = String::new();
    peer.read_to_string(&mut text).unwrap();
    assert_eq!(text, "question");
    drop(peer);
    client.read_to_string(&mut text).unwrap();

    // A file that is no socket, and one that no program serves.
    let file = lab.folder.join("file");
    std::fs::write(&file, b"kept").unwrap();
    assert_eq!(code(a.forward(&format!("unix:{}", file.display()), "node-b", 80)), Some(Code::Conflict));
    assert_eq!(std::fs::read(&file).unwrap(), b"kept");
    let dead = lab.folder.join("dead.sock");
    drop(UnixListener::bind(&dead).unwrap());
    let taken_over = a.forward(&format!("unix:{}", dead.display()), "node-b", 80).unwrap();
    drop(taken_over);
    until("the file goes with the forward", || !dead.exists());
}

#[test]
fn a_dead_target_refuses_at_once_and_says_so() {
    let lab = Lab::new("dead");
    let ways = Ways::new(&lab);
    let (a, b) = lab.nodes();
    let Ways { server, forward, _exposure } = ways;
    drop(server);
    let begin = Instant::now();
    let mut client = connect(&forward.forward.listen);
    assert_eq!(client.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert!(begin.elapsed() < Duration::from_secs(8), "this took the time-out's time");
    let exposes = Exposes::try_from(b.request(Request::Exposes, Vec::new()).unwrap().0).unwrap();
    let why = exposes.exposes[0].last_error.as_deref().unwrap();
    assert!(why.contains("refused"), "{why}");
    until("the forward tells too", || forwards(a)[0].last_error.is_some());

    // A port that is not exposed.
    let forward = a.forward("0", "node-b", 81).unwrap();
    let mut client = connect(&forward.forward.listen);
    assert_eq!(client.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    let told = || forwards(a).into_iter().find(|f| f.port == 81).and_then(|f| f.last_error);
    until("the reason is listed", || told().is_some_and(|why| why.contains("refuses port 81")));
}

#[test]
fn names_of_hosts_are_looked_up_beside_the_loop() {
    let lab = Lab::new("names");
    let (a, b) = lab.nodes();
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = server.local_addr().unwrap().port();
    let _exposure = b.expose(80, &format!("localhost:{port}"), ExposeOptions::default()).unwrap();
    let _nowhere = b.expose(81, "no-such-host.invalid:80", ExposeOptions::default()).unwrap();
    let (forward, nowhere) = (a.forward("0", "node-b", 80).unwrap(), a.forward("0", "node-b", 81).unwrap());
    let mut client = connect(&forward.forward.listen);
    client.write_all(b"x").unwrap();
    server.accept().unwrap().0.read_exact(&mut [0]).unwrap();
    let mut client = connect(&nowhere.forward.listen);
    client.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    assert_eq!(client.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
}

#[test]
fn a_server_asks_which_peer_has_come() {
    let lab = Lab::new("whois");
    let (a, b) = lab.nodes();
    let ways = Ways::new(&lab);
    let _client = ways.connect();
    let (_accepted, from) = ways.server.accept().unwrap();
    let whois = b.whois(from).unwrap();
    let info = a.info().unwrap();
    assert_eq!((whois.hostname, whois.address, whois.port), ("node-a".into(), info.address, 80));
    assert_eq!(whois.fingerprint, info.fingerprint);
    let other: SocketAddr = "127.0.0.1:1".parse().unwrap();
    assert_eq!(code(b.whois(other)), Some(Code::NotFound));
}

#[test]
fn ports_may_be_for_some_peers_and_belong_to_one_program() {
    let lab = Lab::new("for");
    let (a, b) = lab.nodes();
    assert_eq!(code(b.expose(80, "1", ExposeOptions::default().nodes(&["stranger"]))), Some(Code::NotFound));
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let target = server.local_addr().unwrap().port().to_string();
    let exposure = b.expose(80, &target, ExposeOptions::default().nodes(&["node-a"])).unwrap();
    assert_eq!(exposure.exposed.nodes, ["node-a"]);
    assert_eq!(code(b.expose(80, "1", ExposeOptions::default())), Some(Code::Conflict));
    assert_eq!(code(b.listen(80).map_err(Failure::from)), Some(Code::Conflict));
    assert_eq!(code(b.expose(1001, "1", ExposeOptions::default())), Some(Code::Conflict), "a service has this port");
    let _text = b.expose(1000, "1", ExposeOptions::default()).unwrap();
    let forward = a.forward("0", "node-b", 80).unwrap();
    let mut client = connect(&forward.forward.listen);
    client.write_all(b"x").unwrap();
    let (mut peer, _) = server.accept().unwrap();
    peer.read_exact(&mut [0]).unwrap();

    // The port is free again with the handle, and what stands goes on.
    drop(exposure);
    until("the port is free", || b.listen(80).is_ok());
    peer.write_all(b"y").unwrap();
    client.read_exact(&mut [0]).unwrap();
    for (bad, port) in [("", 80), ("80x", 80), ("a.b:80", 80), ("0", 0)] {
        assert_eq!(code(a.forward(bad, "node-b", port)), Some(Code::InvalidArgument), "{bad}");
    }
    assert_eq!(code(a.forward("0", "no name", 80)), Some(Code::InvalidArgument));
    assert_eq!(code(b.expose(82, "http://x", ExposeOptions::default())), Some(Code::InvalidArgument));
}
