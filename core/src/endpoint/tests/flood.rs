//! Floods of key handshakes: an honest node that is known is served within two seconds.

use super::*;
use crate::agreement::{self, KeyPair};
use crate::tunnel::handshake::{Age, Cookie, Incarnation, Introduction};
use crate::tunnel::stance::Stance;
use crate::wire::COOKIE_LEN;
use std::collections::BTreeMap;

/// INITs of all attackers in a millisecond.
const INITS_PER_MS: usize = 10;
/// Time in which a known node is served. Source: `docs/wire.md`, "Denial of service".
const SERVED_WITHIN: Duration = Duration::from_secs(2);

/// One address with a key of its own, which takes the cookies that it is sent.
struct Attacker {
    addr: SocketAddr,
    identity: Identity,
    pending: Pending,
}

impl Attacker {
    fn init(identity: &Identity, victim: &StaticKey, cookie: Option<&Cookie>) -> Pending {
        let opening = Opening {
            responder: victim,
            shared: &StaticShared::new(identity.static_pair(), &victim.0).expect("an honest key"),
            local_index: LocalIndex(7),
            stamp: &tai64n(WALL_US),
            own: Introduction { incarnation: Incarnation([7; 6]), age: Age(0), stance: Stance::new(false) },
            cookie: cookie.copied(),
        };
        Pending::start(identity, &opening, KeyPair::new(&agreement::PORTABLE, [7; 32])).expect("an honest key")
    }

    /// Each attacker sends from a network of its own.
    fn new(number: u16, victim: &StaticKey) -> Self {
        let mut seed = [99; 32];
        seed[..2].copy_from_slice(&number.to_le_bytes());
        let [high, low] = number.to_be_bytes();
        let identity = Identity::from_seed(seed);
        let pending = Self::init(&identity, victim, None);
        Self { addr: SocketAddr::from(([100, high, low, 1], 4000)), identity, pending }
    }
}

/// Lets attackers send for a second before the node, and until it is served; gives the time that took.
fn served_after(victim: &mut Endpoint, honest: &mut Endpoint, attackers: u16) -> Duration {
    let key = victim.identity().static_key();
    let mut attackers: Vec<_> = (0..attackers).map(|number| Attacker::new(number, &key)).collect();
    let places: BTreeMap<_, _> = attackers.iter().enumerate().map(|(i, attacker)| (attacker.addr, i)).collect();
    let (mut now, mut out, mut next) = (Instant::ZERO, Vec::new(), 0);
    let start = now + Duration::from_secs(1);
    let peer = honest.peers().next().expect("it knows the victim");
    while !honest.is_up(now, peer) {
        assert!(now < start + Duration::from_secs(20), "never served");
        now = now + Duration::from_millis(1);
        for _ in 0..INITS_PER_MS {
            next = (next + 1) % attackers.len();
            let attacker = &attackers[next];
            let _ = victim.handle_datagram(now, attacker.addr, &mut attacker.pending.datagram.clone(), &mut NoSink);
        }
        victim.handle_timeout(now);
        if now >= start {
            honest.reach(now, peer);
            honest.handle_timeout(now);
            while let Some(transmit) = honest.poll_transmit(now, &mut out) {
                for datagram in out.chunks_mut(transmit.segment_len) {
                    let _ = victim.handle_datagram(now, addr_of(0), datagram, &mut NoSink);
                }
            }
        }
        while let Some(transmit) = victim.poll_transmit(now, &mut out) {
            if transmit.to == addr_of(0) {
                let _ = honest.handle_datagram(now, addr_of(1), &mut out, &mut NoSink);
            } else if let (Some(i), Ok(bytes)) = (places.get(&transmit.to), <&[u8; COOKIE_LEN]>::try_from(&out[..])) {
                let attacker = &mut attackers[*i];
                let cookie = attacker.pending.open_cookie(&key, bytes).map(|(cookie, _)| cookie);
                attacker.pending = Attacker::init(&attacker.identity, &key, cookie.as_ref());
            }
        }
    }
    now.since(start)
}

#[test]
fn a_trusted_peer_reaches_a_node_under_a_flood_of_key_handshakes() {
    for attackers in [1, 1000] {
        let [mut honest, mut victim] = [Endpoint::new(config(0, 10)), Endpoint::new(config(1, 20))];
        let took = served_after(&mut victim, &mut honest, attackers);
        assert!(took <= SERVED_WITHIN, "{attackers} attackers: {took:?}");
        assert!(victim.discards().of(Discard::CookieSent) > 0 && victim.discards().of(Discard::Stranger) > 1000);
    }
}

#[test]
fn a_known_node_reaches_a_rendezvous_under_a_flood_of_key_handshakes() {
    for attackers in [1, 1000] {
        let mut served = Config::new(Identity::from_seed([1; 32]), Rng::entropy([2; 32]));
        served.strangers = Strangers::Serve { max: 100_000 };
        let mut victim = Endpoint::new(served);
        let mut asking = Config::new(Identity::from_seed([3; 32]), Rng::entropy([4; 32]));
        asking.rendezvous = Some((victim.identity().static_key(), addr_of(1)));
        asking.wall_at_zero_us = WALL_US;
        victim.remember(&asking.identity.static_key());
        let mut honest = Endpoint::new(asking);
        let took = served_after(&mut victim, &mut honest, attackers);
        assert!(took <= SERVED_WITHIN, "{attackers} attackers: {took:?}");
        assert!(victim.discards().of(Discard::CookieSent) > 0);
        assert!(victim.held_len() <= victim.held_len_max());
    }
}

/// Strangers that send INITs from forged addresses cannot go on: they take room until others come, and no more.
#[test]
fn key_handshakes_that_are_never_finished_have_a_maximum() {
    let mut served = Config::new(Identity::from_seed([1; 32]), Rng::entropy([2; 32]));
    served.strangers = Strangers::Serve { max: 100_000 };
    let mut victim = Endpoint::new(served);
    for i in 0..HALF_OPEN_MAX as u32 + 500 {
        let mut key = [8; 32];
        key[..4].copy_from_slice(&i.to_le_bytes());
        victim.add_stranger(Instant::ZERO, StaticKey(key)).expect("there is room");
    }
    assert_eq!(victim.peers().count(), HALF_OPEN_MAX);
    victim.handle_timeout(Instant::ZERO + crate::tunnel::GIVE_UP_AFTER);
    assert_eq!((victim.peers().count(), victim.half_open.len()), (0, 0));
}

/// Cookies for which the socket has no room at once.
#[test]
fn datagrams_outside_any_peer_have_a_maximum_and_leave() {
    let mut end = Endpoint::new(Config::new(Identity::from_seed([1; 32]), Rng::entropy([2; 32])));
    let to = PathAddr::Direct(SocketAddr::from(([192, 0, 2, 1], 4000)));
    (0..STRAY_MAX + 9).for_each(|_| end.send_stray(to, vec![7; 66]));
    assert_eq!(end.stray.len(), STRAY_MAX);
    let (mut out, mut left) = (Vec::new(), 0);
    while let Some(transmit) = end.poll_transmit(Instant::ZERO, &mut out) {
        left += out.chunks(transmit.segment_len).count();
    }
    assert_eq!((left, end.stray.len()), (STRAY_MAX, 0));
}

#[test]
fn datagrams_of_key_handshakes_that_wait_have_a_maximum_and_leave() {
    let mut end = Endpoint::new(config(0, 1));
    let id = end.peers().next().expect("a peer");
    let to = PathAddr::Direct(addr_of(1));
    for _ in 0..100 {
        end.peers.get_mut(&id).expect("there").peer.send_raw(to, vec![7; 101]);
    }
    end.touch(id);
    let (mut out, mut left) = (Vec::new(), 0);
    while let Some(transmit) = end.poll_transmit(Instant::ZERO, &mut out) {
        left += out.chunks(transmit.segment_len).filter(|datagram| datagram[0] == 7).count();
    }
    assert_eq!(left, 64, "`RAW_MAX` of the peer");
}
