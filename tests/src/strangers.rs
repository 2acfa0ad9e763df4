//! Owns what strangers do in a world: INITs with and without cookies, from one address or many; copies of what they overhear,
//! whole and damaged; noise.

use pilot_core::endpoint::NoSink;
use pilot_core::identity::StaticKey;
use pilot_core::rng::Rng;
use pilot_core::time::Duration;
use pilot_core::{Config, Endpoint, Identity, Instant};
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;

/// Time between two handfuls of datagrams.
const TICK: Duration = Duration::from_millis(10);
/// Time that a datagram of a stranger is under way.
const DELAY: Duration = Duration::from_millis(10);
/// Time after which a copy arrives: later than what was copied.
const COPY_DELAY: Duration = Duration::from_millis(200);
/// Time after which a mask repeats its INIT whatever happens, on its own clock.
const RESEND: Duration = Duration::from_secs(7);
/// Keys that the strangers have for each machine.
const MASKS: u64 = 4;
/// Cookies that the strangers keep for each machine.
const COOKIES_MAX: usize = 64;
/// Overheard datagrams that are kept.
const HEARD_MAX: usize = 64;
/// Lengths of INIT and COOKIE. Unit: bytes.
const INIT_LEN: usize = pilot_core::wire::INIT_LEN;
const COOKIE_LEN: usize = pilot_core::wire::COOKIE_LEN;

/// An attack on every machine that strangers can reach.
#[derive(Clone, Copy, Debug)]
pub struct Siege {
    /// Addresses of the strangers, each in a network of its own.
    pub addresses: u16,
    /// Datagrams of all strangers in a second.
    pub per_second: u64,
    /// How long the attack goes on.
    pub lasts: Duration,
}

/// A datagram of a stranger: when it arrives, its source, which may be forged, and its destination.
pub(crate) type Sent = (Instant, SocketAddr, SocketAddr, Vec<u8>);

/// A key of the strangers for one machine, with a clock that runs as fast as they like.
struct Mask {
    endpoint: Endpoint,
    now: Instant,
    init: Vec<u8>,
}

impl Mask {
    fn new(seed: [u8; 32], target: (StaticKey, SocketAddr)) -> Self {
        let mut config = Config::new(Identity::from_seed(seed), Rng::entropy(seed));
        (config.rendezvous, config.wall_at_zero_us) = (Some(target), 1_700_000_000_000_000);
        let mut mask = Self { endpoint: Endpoint::new(config), now: Instant::ZERO, init: Vec::new() };
        mask.go_on();
        mask
    }

    /// Makes another INIT, with the newest cookie.
    fn go_on(&mut self) {
        self.now = self.now + RESEND;
        self.endpoint.handle_timeout(self.now);
        while self.endpoint.poll_event().is_some() {}
        let mut out = Vec::new();
        while self.endpoint.poll_transmit(self.now, &mut out).is_some() {
            if out.len() == INIT_LEN {
                self.init.clone_from(&out);
            }
        }
    }

    /// Takes a COOKIE; false when it answers another INIT.
    fn take(&mut self, from: SocketAddr, cookie: &[u8]) -> bool {
        let is_mine = self.endpoint.handle_datagram(self.now, from, &mut cookie.to_vec(), &mut NoSink).is_ok();
        if is_mine {
            self.go_on();
        }
        is_mine
    }
}

/// What the strangers have for one machine.
struct Forge {
    target: SocketAddr,
    masks: Vec<Mask>,
    /// An INIT with a valid cookie, by the address for which it is valid.
    proven: BTreeMap<SocketAddr, Vec<u8>>,
}

/// All strangers of a world.
pub(crate) struct Strangers {
    rng: Rng,
    siege: Siege,
    next: Instant,
    end: Instant,
    forges: Vec<Forge>,
    heard: VecDeque<(SocketAddr, SocketAddr, Vec<u8>)>,
}

impl Strangers {
    /// Strangers that attack these machines from `now` on.
    pub(crate) fn new(now: Instant, siege: Siege, seed: u64, targets: Vec<(StaticKey, SocketAddr)>) -> Self {
        let mut rng = Rng::new([&seed.to_le_bytes()[..], &[66; 24]].concat().try_into().expect("32 bytes"));
        let forge = |target: (StaticKey, SocketAddr)| Forge {
            target: target.1,
            masks: (0..MASKS).map(|_| Mask::new(rng.bytes(), target)).collect(),
            proven: BTreeMap::new(),
        };
        let forges = targets.into_iter().map(forge).collect();
        Self { rng, siege, next: now, end: now + siege.lasts, forges, heard: VecDeque::new() }
    }

    /// When they send again; `None` when the siege is over.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        (self.next < self.end).then_some(self.next)
    }

    /// Notes a datagram of others.
    pub(crate) fn overhear(&mut self, from: SocketAddr, to: SocketAddr, datagram: &[u8]) {
        if self.heard.len() == HEARD_MAX {
            self.heard.pop_front();
        }
        self.heard.push_back((from, to, datagram.to_vec()));
    }

    /// The sender of the datagram of which this one, sent from `place`, is a copy: what that sender proved arrives with the copy.
    pub(crate) fn author(&self, place: SocketAddr, datagram: &[u8]) -> Option<SocketAddr> {
        self.heard.iter().find(|(from, _, bytes)| *from != place && bytes == datagram).map(|(from, ..)| *from)
    }

    /// Takes a datagram that arrived at one of their addresses.
    pub(crate) fn receive(&mut self, from: SocketAddr, to: SocketAddr, datagram: &[u8]) {
        let forge = self.forges.iter_mut().find(|forge| forge.target == from);
        let Some(forge) = forge.filter(|forge| datagram.len() == COOKIE_LEN && forge.proven.len() < COOKIES_MAX) else {
            return;
        };
        if let Some(mask) = forge.masks.iter_mut().find_map(|mask| mask.take(from, datagram).then_some(mask)) {
            forge.proven.insert(to, mask.init.clone());
        }
    }

    /// The datagrams that they send by `now`.
    pub(crate) fn send(&mut self, now: Instant) -> Vec<Sent> {
        let mut sent = Vec::new();
        while self.poll_timeout().is_some_and(|at| at <= now) {
            self.next = self.next + TICK;
            let each = self.siege.per_second * TICK.as_millis() as u64;
            let count = each / 1000 + u64::from(self.rng.below(1000) < each % 1000);
            sent.extend((0..count).filter_map(|_| self.send_one(now)));
        }
        sent
    }

    fn place(&mut self) -> SocketAddr {
        let [high, low] = (self.rng.below(self.siege.addresses.into()) as u16).to_be_bytes();
        SocketAddr::from(([100, high, low, 1], 4000))
    }

    fn send_one(&mut self, now: Instant) -> Option<Sent> {
        let (place, kind) = (self.place(), self.rng.below(8));
        let now = now + Duration::from_micros(self.rng.below(TICK.as_micros() as u64));
        if kind >= 4 && !self.heard.is_empty() {
            let (from, to, mut bytes) = self.heard[self.rng.below(self.heard.len() as u64) as usize].clone();
            if kind > 4 {
                let bit = self.rng.below(bytes.len() as u64 * 8) as usize;
                bytes[bit / 8] ^= 1 << (bit % 8);
            }
            // A damaged copy may claim to come from where the original came from.
            return Some((now + COPY_DELAY, if kind == 6 { from } else { place }, to, bytes));
        }
        let forge = self.rng.below(self.forges.len() as u64) as usize;
        let (mask, noise) = (self.rng.below(MASKS) as usize, self.rng.bytes::<32>());
        let forge = self.forges.get(forge)?;
        let bytes = match forge.proven.get(&place) {
            _ if kind == 3 => [&[1 + noise[0] % 5, 2, 0, 0], &noise[..], &noise].concat(),
            Some(proven) => proven.clone(),
            None => forge.masks[mask].init.clone(),
        };
        Some((now + DELAY, place, forge.target, bytes))
    }
}
