//! What strangers can do to a rendezvous with a session of their own.

use super::super::hoard;
use super::*;
use crate::aead::{PORTABLE, TAG_LEN};
use crate::agreement::{self, KeyPair};
use crate::codec::Put as _;
use crate::control::InboxNumber;
use crate::link::frame;
use crate::tunnel::handshake::{Age, Incarnation, Introduction, NO_PSK};
use crate::tunnel::session::{Ends, Indexes, Session, Side};
use crate::tunnel::stance::Stance;
use crate::wire::DATA_HEADER_LEN;

/// A rendezvous with one stranger that speaks whatever frames the test wants.
struct Stranger {
    rendezvous: Endpoint,
    session: Session,
    addr: SocketAddr,
    now: Instant,
}

/// A stranger's keys, and its INIT.
fn init(rendezvous: &Endpoint, number: u16) -> (Identity, Pending) {
    let own = Identity::from_seed([number.to_le_bytes(); 16].concat().try_into().expect("32 bytes"));
    let responder = rendezvous.identity().static_key();
    let opening = Opening {
        responder: &responder,
        shared: &StaticShared::new(own.static_pair(), &responder.0).expect("an honest key"),
        local_index: LocalIndex(7),
        stamp: &tai64n(WALL_US),
        own: Introduction { incarnation: Incarnation([number as u8; 6]), age: Age(0), stance: Stance::new(false) },
        cookie: None,
    };
    let ephemeral = KeyPair::new(&agreement::PORTABLE, [number as u8; 32]);
    let pending = Pending::start(&own, &opening, ephemeral).expect("an honest key");
    (own, pending)
}

impl Stranger {
    /// `number` names the stranger; the rendezvous is made when there is none yet.
    fn new(rendezvous: Option<Endpoint>, number: u16) -> Self {
        let mut rendezvous = rendezvous.unwrap_or_else(|| {
            let mut config = Config::new(Identity::from_seed([1; 32]), Rng::entropy([2; 32]));
            config.strangers = Strangers::Serve { max: 1000 };
            Endpoint::new(config)
        });
        let (own, pending) = init(&rendezvous, number);
        let addr = SocketAddr::from(([198, 51, (number >> 8) as u8, number as u8], 4000));
        let now = Instant::ZERO + Duration::from_millis(10 * u64::from(number));
        rendezvous.handle_timeout(now);
        rendezvous.handle_datagram(now, addr, &mut pending.datagram.clone(), &mut NoSink).expect("a valid INIT");
        let mut out = Vec::new();
        while out.len() != RESP_LEN {
            rendezvous.poll_transmit(now, &mut out).expect("a RESP");
        }
        let resp: [u8; RESP_LEN] = out.try_into().expect("its length");
        let (remote, introduction, keys) = pending.finish(&own, (&NO_PSK, None), &resp).expect("valid");
        let indexes = Indexes { local: LocalIndex(7), remote };
        let session = Session::new(&PORTABLE, &keys, indexes, Side::Initiator, now).of(introduction, Ends::Rendezvous);
        let mut stranger = Self { rendezvous, session, addr, now };
        let record = NodeRecord::sign(&own, Addr::default(), &Profile::default(), 1).emit();
        let mut hello = Vec::new();
        hello.put_bytes(&record);
        let mut frames = Vec::new();
        frame::emit_hello(&mut frames, &hello);
        stranger.say(&frames).expect("introduced");
        stranger
    }

    fn sealed(&mut self, frames: &[u8]) -> Vec<u8> {
        let mut datagram = vec![0; DATA_HEADER_LEN];
        datagram.extend(frames);
        datagram.resize(datagram.len() + TAG_LEN, 0);
        self.session.seal(&mut datagram);
        datagram
    }

    fn say(&mut self, frames: &[u8]) -> Result<(), Discard> {
        let mut datagram = self.sealed(frames);
        self.rendezvous.handle_datagram(self.now, self.addr, &mut datagram, &mut NoSink)
    }

    fn control(&mut self, offset: u64, bytes: &[u8]) -> Result<(), Discard> {
        let mut frames = Vec::new();
        frame::emit_control(&mut frames, offset, bytes);
        self.say(&frames)
    }
}

/// Found by an attack that filled a rendezvous with 1.5 GB in 18 s: after an impossible length every byte was kept.
#[test]
fn a_broken_control_stream_ends_the_tunnel() {
    for (offset, bytes) in [(0, &[0xff; 8][..]), (0, &[0; 4]), (1 << 40, b"x"), (u64::MAX - 3, b"xxx")] {
        let mut stranger = Stranger::new(None, 1);
        assert_eq!(stranger.rendezvous.peers().count(), 1);
        assert_eq!(stranger.control(offset, bytes), Err(Discard::Malformed), "{offset} {bytes:?}");
        assert_eq!(stranger.rendezvous.peers().count(), 0, "a stranger is forgotten");
        assert_eq!(stranger.control(8, &[1; 1000]), Err(Discard::UnknownIndex));
    }
}

#[test]
fn strangers_hold_no_more_than_their_pool_however_many_they_are() {
    let mut rendezvous = None;
    for number in 0..600 {
        let mut stranger = Stranger::new(rendezvous.take(), 300 + number);
        stranger.control(130_000, &[9; 1000]).expect("a piece within the window");
        let (held, max) = (stranger.rendezvous.held_len(), stranger.rendezvous.held_len_max());
        assert!(held <= max, "{held} bytes of {max}");
        rendezvous = Some(stranger.rendezvous);
    }
    let mut rendezvous = rendezvous.expect("one");
    let left = rendezvous.peers().count();
    assert!((480..600).contains(&left) && rendezvous.held_len() > hoard::POOL * 9 / 10, "{left} strangers are left");
    let resets = core::iter::from_fn(|| rendezvous.poll_event()).filter(|e| matches!(e, Event::Reset(..))).count();
    assert_eq!(left + resets, 600, "the others have lost their tunnels");
}

/// What an address that never answers is sent for the bytes that seem to come from there, within ten seconds.
struct Measured {
    received: usize,
    sent: usize,
}

impl Measured {
    fn new(rendezvous: &mut Endpoint, begin: Instant, datagrams: &[Vec<u8>], then: impl FnOnce(&mut Endpoint)) -> Self {
        let (from, mut now, mut out) = (SocketAddr::from(([203, 0, 113, 77], 7)), begin, Vec::new());
        let mut measured = Self { received: 0, sent: 0 };
        for datagram in datagrams {
            measured.received += datagram.len();
            let _ = rendezvous.handle_datagram(now, from, &mut datagram.clone(), &mut NoSink);
        }
        then(rendezvous);
        for _ in 0..1000 {
            rendezvous.handle_timeout(now);
            while let Some(transmit) = rendezvous.poll_transmit(now, &mut out) {
                measured.sent += if transmit.to == from { out.len() } else { 0 };
            }
            now = now + Duration::from_millis(10);
        }
        measured
    }

    fn check(&self, what: &str) {
        let ratio = self.sent as f64 / self.received as f64;
        std::println!("{what:60} {:6} B in {:6} B out, {ratio:.2}", self.received, self.sent);
        assert!(ratio <= 3.0, "{what}: {ratio}");
    }
}

/// The table of `docs/paths.md`, "Amplification". Found by an attack in which 344 forged bytes made a rendezvous send 118 kB.
#[test]
fn no_input_makes_an_address_that_has_not_answered_get_more_than_three_times_its_bytes() {
    let fresh = || Stranger::new(None, 1);
    let valid = |number| init(&fresh().rendezvous, number).1.datagram;
    let now = Instant::ZERO + Duration::from_secs(1);
    let measure = |datagrams: &[Vec<u8>]| Measured::new(&mut fresh().rendezvous, now, datagrams, |_| ());
    measure(&[valid(9)]).check("INIT of an unknown key, to a rendezvous: RESP");
    measure(&vec![valid(9); 100]).check("the same INIT a hundred times");
    let mut node = Endpoint::new(config(1, 20));
    let to_node = init(&node, 9).1.datagram;
    Measured::new(&mut node, now, &[to_node], |_| ()).check("INIT of an unknown key, to a node: nothing");
    let many: Vec<_> = (10..400).map(valid).collect();
    measure(&many).check("390 INITs at once: RESP, then COOKIE");
    let spoiled = |mut bytes: Vec<u8>, at: usize| {
        bytes[at] ^= 1;
        bytes
    };
    measure(&[spoiled(valid(9), 130)]).check("INIT with a wrong mac1: nothing");
    let noise: Vec<_> = (0..=255).map(|kind| [[kind; 4], [2, 0, 0, 0]].concat().repeat(100)).collect();
    measure(&noise).check("noise of every type: nothing");

    let mut stranger = fresh();
    let mut ping = Vec::new();
    frame::emit_ping(&mut ping);
    let (own, copy) = (stranger.sealed(&ping), stranger.sealed(&ping));
    let now = stranger.now;
    let damaged = spoiled(copy, 20);
    Measured::new(&mut stranger.rendezvous, now, &[damaged], |_| ()).check("DATA with a wrong tag: nothing");
    let asked = &[own];
    Measured::new(&mut stranger.rendezvous, now, asked, |_| ())
        .check("DATA of a stranger, under a forged source: a probe");

    let mut stranger = fresh();
    let (ping, now) = (stranger.sealed(&ping), stranger.now);
    let answer = |rendezvous: &mut Endpoint| {
        let peer = rendezvous.peers().next().expect("the stranger");
        (0..8).for_each(|_| {
            let letter = Push::Letter(InboxNumber(1), None, vec![7; 60_000]);
            rendezvous.push(peer, letter);
        });
    };
    Measured::new(&mut stranger.rendezvous, now, &[ping], answer).check("the same while 480 kB of answers wait");
}

/// Memory of a rendezvous that one stranger feeds: 1.5 GB in 18 s before control streams had a bound.
#[test]
fn a_control_stream_of_any_length_costs_a_window() {
    let mut stranger = Stranger::new(None, 1);
    let mut most = 0;
    for round in 0..200_000u64 {
        let _ = stranger.control(1 + round % 100_000, &[9; 1000]);
        most = most.max(stranger.rendezvous.held_len());
    }
    std::println!("200 MB of overlapping pieces of a control stream: {most} B held");
    assert!(most <= stranger.rendezvous.held_len_max() && most < 1 << 20);
    let mut most = 0;
    let mut stranger = Stranger::new(None, 1);
    for round in 0..200_000u64 {
        let _ = stranger.control(round * 1000, &[0xff; 1000]);
        most = most.max(stranger.rendezvous.held_len());
    }
    std::println!("200 MB after a length that no message has: {most} B held");
    assert!(most < 1 << 16);
}
