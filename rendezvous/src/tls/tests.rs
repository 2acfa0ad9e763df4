//! The clients that come by TCP, with real sockets and virtual time.

use super::*;
use mio::{Events, Poll};
use std::io::{Read as _, Write as _};
use std::net::TcpStream as Client;

const UPGRADE: &str = "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: pilot-pn1\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

struct Lab {
    poll: Poll,
    door: Door,
    addr: SocketAddr,
    now: Instant,
    got: Vec<(SocketAddr, Vec<u8>)>,
}

impl Lab {
    fn new() -> Self {
        let (poll, mut door) = (Poll::new().expect("a poll"), Door::default());
        let addr = "127.0.0.1:0".parse().expect("an address");
        let addr = door.listen(poll.registry(), addr, None).expect("a listener");
        Self { poll, door, addr, now: Instant::ZERO, got: Vec::new() }
    }

    fn client(&self) -> Client {
        let client = Client::connect(self.addr).expect("it listens");
        client.set_read_timeout(Some(Duration::from_secs(30))).expect("a time-out");
        client
    }

    fn turn(&mut self) {
        let mut events = Events::with_capacity(64);
        self.poll.poll(&mut events, Some(Duration::from_millis(5))).expect("a poll");
        events.iter().for_each(|event| self.door.readiness(event.token()));
        let got = &mut self.got;
        self.door.receive(self.now, self.poll.registry(), |from, datagram| got.push((from, datagram.to_vec())));
        self.door.flush();
    }

    fn turn_until(&mut self, what: &str, done: impl Fn(&Self) -> bool) {
        let end = std::time::Instant::now() + Duration::from_secs(30);
        while !done(self) {
            assert!(std::time::Instant::now() < end, "{what}");
            self.turn();
        }
    }

    fn count(&self) -> usize {
        self.door.connections.iter().flatten().count()
    }

    /// A client that has said `more` in its question and then a datagram of one byte.
    fn enter(&mut self, more: &str) -> (Client, SocketAddr) {
        let mut client = self.client();
        let masked = [0x82, 0x81, 1, 2, 3, 4, 9 ^ 1];
        client.write_all(&[UPGRADE.as_bytes(), more.as_bytes(), b"\r\n", &masked].concat()).expect("sent");
        let before = self.got.len();
        self.turn_until("its datagram comes", |lab| lab.got.len() > before);
        let (from, datagram) = self.got[before].clone();
        assert_eq!(datagram, [9]);
        (client, from)
    }
}

fn read_head(client: &mut Client) -> String {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        client.read_exact(&mut byte).expect("an answer");
        head.push(byte[0]);
    }
    String::from_utf8(head).expect("text")
}

#[test]
fn datagrams_go_both_ways_under_an_address_of_its_own_until_the_client_leaves() {
    let mut lab = Lab::new();
    let (mut client, from) = lab.enter("");
    let (mut other, second) = lab.enter("X-Forwarded-For: 203.0.113.9, 192.0.2.77\r\n");
    assert!(is_origin(&from) && is_origin(&second) && from != second);
    assert_eq!(second.ip().to_string().split("::").next(), Some("104:c000:200"), "the network of the client");
    assert!(read_head(&mut client).starts_with("HTTP/1.1 101 "));
    lab.door.send(from, 2, &[1, 2, 3]);
    lab.door.send(SocketAddr::new(from.ip(), 444), 9, &[0]);
    lab.turn();
    let mut bytes = [0; 7];
    client.read_exact(&mut bytes).expect("two messages");
    assert_eq!(bytes, [0x82, 2, 1, 2, 0x82, 1, 3]);
    drop(client);
    lab.turn_until("it has left", |lab| lab.count() == 1);
    lab.door.send(from, 9, &[0]);
    let (_third, third) = lab.enter("");
    assert_ne!(third, from, "a number that is used again has another address");
    lab.door.send(from, 9, &[0]);
    assert!(lab.door.filled.is_empty(), "what is for the one before reaches nobody");
    lab.now = lab.now + SILENCE_MAX / 2;
    let before = lab.got.len();
    other.write_all(&[0x82, 0x80, 0, 0, 0, 0]).expect("sent");
    lab.turn_until("it comes", |lab| lab.got.len() > before);
    lab.now = lab.now + SILENCE_MAX / 2;
    lab.turn_until("the silent one is closed", |lab| lab.count() == 1);
}

#[test]
fn a_stranger_gets_a_short_answer_and_one_that_says_nothing_is_closed() {
    let mut lab = Lab::new();
    let mut stranger = lab.client();
    stranger.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").expect("sent");
    lab.turn_until("it is there", |lab| lab.count() == 1);
    lab.turn();
    assert!(read_head(&mut stranger).starts_with("HTTP/1.1 426 Upgrade Required\r\n"));
    let silent = lab.client();
    lab.turn_until("both are there", |lab| lab.count() == 2);
    lab.now = lab.now + ENTER_TIME;
    lab.turn_until("both are closed", |lab| lab.count() == 0);
    drop(silent);
    assert_eq!(lab.door.poll_timeout(), None);
}

#[test]
fn connections_that_enter_have_a_maximum_and_the_oldest_gives_way() {
    let mut lab = Lab::new();
    let (_entered, from) = lab.enter("");
    let mut clients = Vec::new();
    for n in 0..ENTERING_MAX + 3 {
        clients.push(lab.client());
        let before = lab.door.generation;
        lab.turn_until("it is accepted", |lab| lab.door.generation > before);
        lab.now = lab.now + Duration::from_millis(1);
        assert_eq!(lab.count(), 1 + (n + 1).min(ENTERING_MAX));
    }
    let first = clients[0].read(&mut [0]);
    assert!(matches!(first, Ok(0)), "the oldest is closed: {first:?}");
    lab.door.send(from, 9, &[1]);
    assert_eq!(lab.door.filled.len(), 1, "one that has entered stays");
}

#[test]
fn connections_have_a_maximum_and_places_are_free_again() {
    let mut lab = Lab::new();
    // Places that are taken, without a descriptor each.
    let (_entered, _) = lab.enter("");
    lab.door.connections.resize_with(CONNECTIONS_MAX, || None);
    let client = lab.client();
    client.set_nonblocking(true).expect("non-blocking");
    lab.turn_until("it is closed", |_| matches!((&client).read(&mut [0]), Ok(0)));
    lab.door.free.push(7);
    let (_another, _) = lab.enter("");
    assert_eq!(lab.count(), 2);
}

#[test]
fn listeners_have_a_maximum() {
    let mut lab = Lab::new();
    let addr = "127.0.0.1:0".parse().expect("an address");
    let listen = |lab: &mut Lab| lab.door.listen(lab.poll.registry(), addr, None);
    (1..LISTENERS_MAX).for_each(|_| assert!(listen(&mut lab).is_ok()));
    assert!(listen(&mut lab).is_err());
}
