//! A copy of a process' memory opens nothing of a session that is over: neither the keys that sealed it nor the ephemeral
//! keys that they came from are there any more.

use super::super::{Config, Endpoint, Event, NoSink};
use crate::addr::Addr;
use crate::agreement::{KeyPair, PORTABLE};
use crate::identity::{Identity, NodeRecord, Profile};
use crate::noise::{Received, TrafficKeys};
use crate::rng::{Entropy, Rng};
use crate::time::{Duration, Instant};
use crate::trust::{Me, Terms, TrustBook};
use crate::tunnel::PROLOGUE;
use crate::tunnel::kem::mixed_psk;
use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;
use core::net::SocketAddr;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

const WALL_S: u64 = 1_700_000_000;
/// Hides what the test itself keeps of secrets from its search.
const MASK: u8 = 0xa5;

/// The system's randomness. What it has given is kept, masked.
struct Recorder(Arc<Mutex<Vec<[u8; 32]>>>);

impl Entropy for Recorder {
    fn fill(&mut self, out: &mut [u8]) {
        File::open("/dev/urandom").unwrap().read_exact(out).unwrap();
        if let Ok(secret) = <[u8; 32]>::try_from(&*out) {
            self.0.lock().unwrap().push(secret.map(|byte| byte ^ MASK));
        }
    }
}

fn identity(side: usize) -> Identity {
    Identity::from_seed([1 + side as u8; 32])
}

fn addr_of(side: usize) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1 + side as u8], 4000))
}

fn books() -> [TrustBook; 2] {
    let records =
        [0, 1].map(|side| NodeRecord::sign(&identity(side), Addr::new(0, 1 + side as u32), &Profile::default(), 1));
    let (identities, bytes) = ([identity(0), identity(1)], [records[0].emit(), records[1].emit()]);
    let (mut books, mut rng) = ([TrustBook::default(), TrustBook::default()], Rng::new([9; 32]));
    let me = |side: usize| Me { identity: &identities[side], record: &bytes[side], now_s: WALL_S, common_s: WALL_S };
    let request = books[0].request(&me(0), &records[1], &Terms::default(), &mut rng).unwrap();
    books[1].receive(&me(1), &request, None);
    let accept = books[1].approve(&me(1), &identities[0].public(), &Terms::default(), &mut rng).unwrap();
    books[0].receive(&me(0), &accept, None);
    books[0].note_endpoint(&identities[1].public(), addr_of(1));
    books
}

struct Pair {
    ends: Vec<Endpoint>,
    now: Instant,
    /// INIT and RESP datagrams, in the order in which they left.
    handshakes: Vec<Vec<u8>>,
}

impl Pair {
    /// Carries datagrams and runs timers until `end`; the wire takes no time.
    fn run_until(&mut self, end: Duration) {
        let (end, mut out) = (Instant::ZERO + end, Vec::new());
        loop {
            for side in 0..2 {
                while let Some(transmit) = self.ends[side].poll_transmit(self.now, &mut out) {
                    for datagram in out.chunks_mut(transmit.segment_len) {
                        if datagram[0] < 3 {
                            self.handshakes.push(datagram.to_vec());
                        }
                        let from = addr_of(side);
                        let _ = self.ends[1 - side].handle_datagram(self.now, from, datagram, &mut NoSink);
                    }
                }
                while let Some(event) = self.ends[side].poll_event() {
                    if let Event::SaveTrust(version) = event {
                        self.ends[side].trust_saved(self.now, version);
                    }
                }
            }
            let next = self.ends.iter().filter_map(|end| end.poll_timeout()).map(|(at, _)| at).min();
            let Some(at) = next.filter(|at| *at <= end) else { break };
            self.now = self.now.max(at);
            self.ends.iter_mut().for_each(|end| end.handle_timeout(self.now));
        }
        self.now = end;
    }
}

/// Copies all memory that this process can write into a file.
fn copy_memory(name: &str) -> PathBuf {
    let path = std::env::temp_dir().join(std::format!("pilot-memory-{}-{name}", std::process::id()));
    let (mut copy, memory) = (File::create(&path).unwrap(), File::open("/proc/self/mem").unwrap());
    let mut chunk = vec![0; 1 << 16];
    for line in std::fs::read_to_string("/proc/self/maps").unwrap().lines() {
        let mut words = line.split(' ');
        let (range, rights) = (words.next().unwrap(), words.next().unwrap());
        if !rights.starts_with("rw") || line.ends_with("[vvar]") {
            continue;
        }
        let (start, end) = range.split_once('-').unwrap();
        let (mut at, end) = (u64::from_str_radix(start, 16).unwrap(), u64::from_str_radix(end, 16).unwrap());
        while at < end {
            let wanted = chunk.len().min((end - at) as usize);
            let Ok(n @ 1..) = memory.read_at(&mut chunk[..wanted], at) else { break };
            copy.write_all(&chunk[..n]).unwrap();
            at += n as u64;
        }
    }
    path
}

/// Overwrites what functions that have returned left on the stack, as any other work would.
#[inline(never)]
fn scrub(depth: usize) -> u8 {
    let page = std::hint::black_box([depth as u8; 4096]);
    if depth == 0 { page[7] } else { scrub(depth - 1) ^ page[9] }
}

fn holds(copy: &[u8], secret: &[u8; 32]) -> bool {
    copy.windows(32).any(|window| window == secret)
}

/// The keys of the session that these datagrams began, computed of the responder's secrets.
fn keys_of(init: &[u8], resp: &[u8], psk: &[u8; 32], secrets: &[[u8; 32]]) -> (TrafficKeys, [u8; 32]) {
    let mut prologue = PROLOGUE.to_vec();
    prologue.extend_from_slice(&init[..8]);
    let responder = identity(1);
    let received = Received::read(&prologue, responder.static_pair(), &init[8..init.len() - 32], |_| None).unwrap();
    let secret = secrets.iter().find(|secret| KeyPair::new(&PORTABLE, **secret).public() == &resp[12..44]).unwrap();
    let (keys, _) = received.respond(&KeyPair::new(&PORTABLE, *secret), psk, (&resp[..12], b"")).unwrap();
    (keys, *secret)
}

#[test]
fn a_copy_of_the_memory_opens_no_session_that_is_over() {
    let recorded: Arc<Mutex<Vec<[u8; 32]>>> = Arc::default();
    let ends = books().into_iter().enumerate().map(|(side, book)| {
        let mut config = Config::new(identity(side), Box::new(Recorder(recorded.clone())));
        (config.trust, config.wall_at_zero_us) = (book, WALL_S * 1_000_000);
        Endpoint::new(config)
    });
    let mut pair = Pair { ends: ends.collect(), now: Instant::ZERO, handshakes: Vec::new() };
    let peers: Vec<_> = pair.ends.iter().map(|end| end.peers().next().unwrap()).collect();
    pair.ends[0].reach(Instant::ZERO, peers[0]);
    pair.ends[0].set_in_use(Instant::ZERO, peers[0], true);
    pair.run_until(Duration::from_secs(130)); // the keys have been replaced
    let second = pair.handshakes.len();
    assert_eq!(second % 2, 0, "INIT and RESP in turn");
    scrub(100);
    let during = copy_memory("during");
    pair.run_until(Duration::from_secs(130 + 240)); // and twice more, and those before are erased
    assert!(pair.handshakes.len() >= second + 2, "{}", pair.handshakes.len());
    scrub(100);
    let after = copy_memory("after");

    let secrets: Vec<_> = recorded.lock().unwrap().iter().map(|secret| secret.map(|byte| byte ^ MASK)).collect();
    let pin = pair.ends[1].trust().pin(&identity(0).public()).unwrap();
    let psk = *mixed_psk(&pin.secret, pin.kem.as_ref().expect("made in the first session"));
    let [init, resp] = &pair.handshakes[second - 2..second] else { unreachable!("two") };
    let (keys, ephemeral) = keys_of(init, resp, &psk, &secrets);
    let [during, after] = [during, after].map(|path| {
        let copy = std::fs::read(&path).unwrap();
        std::fs::remove_file(path).unwrap();
        copy
    });
    assert!(holds(&during, &keys.send) && holds(&during, &keys.receive), "the search finds keys that are in use");
    assert!(!holds(&during, &ephemeral), "an ephemeral key is erased with the key handshake");
    assert!(holds(&after, &pin.secret), "the search finds what is kept");
    assert!(!holds(&after, &keys.send) && !holds(&after, &keys.receive), "keys are erased");
    let unused = secrets.iter().filter(|secret| holds(&after, secret)).count();
    assert!(unused <= 2 * 2, "{unused} secrets are left: more than a seed and one key in reserve for each end");
}
