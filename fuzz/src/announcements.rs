//! Owns two nodes that trust each other and announce themselves on one network, with an attacker there that hears everything.

use crate::pair::run_due;
use pilot_core::Instant;
use pilot_core::aead::PORTABLE;
use pilot_core::endpoint::ANNOUNCEMENT_LEN_MAX;
use pilot_stack::{Stack, StackConfig};
use pilot_tests::lab::{befriended, underlay};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// Most steps of one input.
const STEPS_MAX: usize = 400;
/// Most announcements that the attacker keeps; with more the oldest are gone.
const KEPT_MAX: usize = 16;
/// Bytes before the marks, and of a mark. Source: `docs/paths.md`, "Without a rendezvous on one network".
const HEADER_LEN: usize = 18;
const MARK_LEN: usize = 8;
/// Time of one slot. Unit: seconds. Source: as above.
const SLOT_S: u64 = 300;
/// Datagrams that an address is sent in five minutes before it has answered, and all such addresses. Source: `docs/paths.md`, "Rules".
const TRIES_MAX: u64 = 3;
const PEER_TRIES_MAX: u64 = 48;
const TRIES_AGAIN_S: u64 = 300;

/// Addresses to which nothing may go, whatever announcements say.
const HARMFUL: [&str; 5] = ["224.0.0.1:5", "127.0.0.1:5", "192.0.2.9:0", "[::1]:5", "[ff02::1]:5"];
/// Addresses of the network.
const GOOD: [&str; 3] = ["198.51.100.7:5000", "10.0.0.9:5000", "[fe80::7]:5000"];

/// An announcement as its author made it.
struct Kept {
    author: usize,
    ip: IpAddr,
    slot: u64,
    bytes: Vec<u8>,
}

struct Network {
    stacks: [Stack; 2],
    now: Instant,
    kept: Vec<Kept>,
    /// Datagrams that each side has sent to each address.
    sent: BTreeMap<(usize, SocketAddr), u64>,
    batch: Vec<u8>,
}

/// Runs the announcements of two friends under an attacker, which copies, changes, joins and delays them; nothing that the friends
/// answer arrives. The input is a list of steps of four bytes: an action, an announcement, and two details.
///
/// Invariants: an announcement is heard when it is the other side's own, of this address and of late, and only if its header and one
/// of its marks are; nothing is sent to addresses that are no node's, and three datagrams in five minutes to any other.
pub fn announcements(bytes: &[u8]) {
    let mut network = Network::new();
    for step in bytes.chunks_exact(4).take(STEPS_MAX) {
        network.step([step[0], step[1], step[2], step[3]]);
        network.settle();
        network.check();
    }
}

fn place(number: u8) -> SocketAddr {
    let all: Vec<&str> = GOOD.iter().chain(&HARMFUL).copied().collect();
    all[usize::from(number) % all.len()].parse().expect("an address")
}

fn slot(now: Instant) -> u64 {
    // The clock of both is a second ahead of the time of this program.
    (now.since(Instant::ZERO).as_secs() + 1) / SLOT_S
}

impl Network {
    fn new() -> Self {
        let mut stacks = befriended(&PORTABLE, StackConfig::default(), 4);
        for (side, stack) in stacks.iter_mut().enumerate() {
            let own = vec![underlay(side), SocketAddr::from(([10, 0, 0, side as u8 + 1], 4000))];
            stack.endpoint_mut().set_candidates(Instant::ZERO, own);
        }
        Self { stacks, now: Instant::ZERO, kept: Vec::new(), sent: BTreeMap::new(), batch: Vec::new() }
    }

    fn step(&mut self, [what, which, how, more]: [u8; 4]) {
        let wide = usize::from(how) << 8 | usize::from(more);
        match what % 8 {
            0 => self.announce(usize::from(which % 2), place(how)),
            1 | 2 => self.hear(which, None, |_| {}),
            3 => self.hear(which, None, |bytes| {
                let at = wide % bytes.len();
                bytes[at] ^= 1 << (more % 8);
            }),
            4 => self.hear(which, None, |bytes| bytes.resize(wide % (ANNOUNCEMENT_LEN_MAX + 20), more)),
            5 => self.hear(which, Some(place(how)), |_| {}),
            6 => {
                let other = self.kept.get(usize::from(how) % self.kept.len().max(1)).map(|kept| kept.bytes.clone());
                let cut = HEADER_LEN + usize::from(more % 10) * 4; // within a mark, too
                self.hear(which, None, |bytes| {
                    bytes.truncate(cut);
                    bytes.extend(other.iter().flat_map(|other| other.get(cut..).unwrap_or_default()));
                });
            }
            _ => self.wait(Duration::from_secs(u64::from(how) * u64::from(more % 4))),
        }
    }

    fn announce(&mut self, author: usize, from: SocketAddr) {
        let made = self.stacks[author].endpoint_mut().announcement(self.now, from);
        let bytes = made.expect("the other side is missed");
        assert!(bytes.len() <= ANNOUNCEMENT_LEN_MAX);
        if self.kept.len() == KEPT_MAX {
            self.kept.remove(0);
        }
        self.kept.push(Kept { author, ip: from.ip(), slot: slot(self.now), bytes });
    }

    /// Gives both sides an announcement that is changed so, from its own address or another one.
    fn hear(&mut self, which: u8, from: Option<SocketAddr>, change: impl FnOnce(&mut Vec<u8>)) {
        let Some(kept) = self.kept.get(usize::from(which) % self.kept.len().max(1)) else { return };
        let (author, mut bytes, ip) = (kept.author, kept.bytes.clone(), from.map_or(kept.ip, |from| from.ip()));
        let (is_timely, is_its) = (kept.slot.abs_diff(slot(self.now)) <= 1, ip == kept.ip);
        change(&mut bytes);
        let is_whole = bytes == kept.bytes;
        let source = SocketAddr::new(ip, 50_000);
        for side in 0..2 {
            let may = self.may_be_heard(1 - side, ip, &bytes);
            let is_heard = self.stacks[side].endpoint_mut().handle_announcement(self.now, source, &bytes);
            assert!(!is_heard || may, "side {side} hears what the other one has not said");
            let port = u16::from_be_bytes([kept_port(&bytes, 0), kept_port(&bytes, 1)]);
            let is_good = GOOD.iter().any(|good| *good == SocketAddr::new(ip, port).to_string());
            if is_whole && is_timely && is_its && is_good && side != author {
                assert!(is_heard, "side {side} does not hear the other one");
            }
        }
    }

    /// True for bytes that have the header and a mark of an announcement which this author has made at this address lately.
    fn may_be_heard(&self, author: usize, ip: IpAddr, bytes: &[u8]) -> bool {
        let marks = |bytes: &[u8]| {
            bytes.get(HEADER_LEN..).unwrap_or_default().chunks_exact(MARK_LEN).map(<[u8]>::to_vec).collect::<Vec<_>>()
        };
        let its = self.kept.iter().filter(|kept| kept.author == author && kept.ip == ip);
        let timely = its.filter(|kept| kept.slot.abs_diff(slot(self.now)) <= 1);
        let same = |kept: &&Kept| bytes.get(..HEADER_LEN) == Some(&kept.bytes[..HEADER_LEN]);
        let known = marks(bytes);
        timely.filter(same).any(|kept| marks(&kept.bytes).iter().any(|mark| known.contains(mark)))
    }

    fn wait(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(next) = run_due(&mut self.stacks, self.now, end) {
            self.now = next;
            self.settle();
        }
        self.now = end;
    }

    /// Loses everything that the nodes send, and counts it.
    fn settle(&mut self) {
        for side in 0..2 {
            while self.stacks[side].poll_event().is_some() {}
            while let Some(transmit) = self.stacks[side].poll_transmit(self.now, &mut self.batch) {
                let count = self.batch.chunks(transmit.segment_len).count() as u64;
                *self.sent.entry((side, transmit.to)).or_default() += count;
            }
        }
    }

    fn check(&self) {
        let spans = self.now.since(Instant::ZERO).as_secs() / TRIES_AGAIN_S + 1;
        let harmful = HARMFUL.map(|addr| addr.parse::<SocketAddr>().expect("an address"));
        for side in 0..2 {
            // The address of the other side is known.
            let unproven = self.sent.iter().filter(|((from, to), _)| *from == side && *to != underlay(1 - side));
            let mut all = 0;
            for ((_, to), count) in unproven {
                assert!(!harmful.contains(to), "{to} was sent {count} datagrams");
                assert!(*count <= TRIES_MAX * spans, "{to} was sent {count} datagrams in {spans} times five minutes");
                all += count;
            }
            assert!(all <= PEER_TRIES_MAX * spans, "{all} datagrams in {spans} times five minutes");
        }
    }
}

/// A byte of the port in a header.
fn kept_port(bytes: &[u8], at: usize) -> u8 {
    bytes.get(16 + at).copied().unwrap_or(0)
}
