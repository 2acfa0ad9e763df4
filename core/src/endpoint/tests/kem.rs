//! The KEM secret of a pair: made in its first session, mixed into all others, and made anew where it is lost.

use super::*;
use crate::noise::{Received, TrafficKeys};
use crate::tunnel::PROLOGUE;
use crate::tunnel::kem::mixed_psk;
use crate::tunnel::session::{Indexes, Session, Side};
use crate::wire::{Counter, RemoteIndex};

fn secrets(pair: &Pair) -> [Option<[u8; 32]>; 2] {
    [0, 1].map(|side| {
        let peer = Identity::from_seed([2 - side as u8; 32]).public();
        pair.ends[side].trust().pin(&peer).expect("pinned").kem.as_deref().copied()
    })
}

/// Makes a KEM secret that the two sides do not share, or none, of those that they have.
fn set_book(pair: &mut Pair, side: usize, kem: Option<[u8; 32]>, incarnation: u8) {
    let peer = Identity::from_seed([2 - side as u8; 32]).public();
    let mut config = config(side, incarnation);
    kem.into_iter().for_each(|secret| config.trust.set_kem(&peer, &secret));
    config.trust.note_endpoint(&peer, addr_of(1 - side));
    pair.ends[side] = Endpoint::new(config);
}

fn exchange(pair: &mut Pair, side: usize, bytes: &[u8], within: Duration) {
    pair.send(side, bytes);
    pair.run_for(within);
    assert!(pair.inboxes[1 - side].0.contains(&bytes.to_vec()), "not within {within:?}");
    assert!(pair.ends.iter().all(|end| end.discards().of(Discard::NotMixed) == 0), "no inner packet is sent too soon");
}

#[test]
fn the_first_byte_of_a_pair_costs_one_more_round_trip() {
    let mut pair = Pair::new();
    pair.send(0, b"first");
    pair.run_for(DELAY * 4);
    assert!(pair.inboxes[1].0.is_empty(), "INIT, RESP, key, answer: nothing of the application");
    pair.run_for(DELAY);
    assert_eq!(pair.inboxes[1].0, [b"first".to_vec()]);
    let [ours, theirs] = secrets(&pair);
    assert!(ours.is_some() && ours == theirs, "one secret, with the pin");
    // Another process of the same node uses it from its first key handshake on.
    set_book(&mut pair, 0, ours, 11);
    exchange(&mut pair, 0, b"again", DELAY * 3);
    assert_eq!(secrets(&pair), [ours, ours]);
}

#[test]
fn two_that_begin_at_once_make_one_secret() {
    let mut pair = Pair::new();
    for side in 0..2 {
        set_book(&mut pair, side, None, 10 + side as u8);
    }
    [0, 1].into_iter().for_each(|side| pair.send(side, &[side as u8; 9]));
    pair.run_for(DELAY * 20);
    assert!([0u8, 1].iter().all(|side| pair.inboxes[1 - usize::from(*side)].0.contains(&[*side; 9].to_vec())));
    let [ours, theirs] = secrets(&pair);
    assert!(ours.is_some() && ours == theirs);
}

#[test]
fn a_lost_or_another_secret_is_made_anew() {
    for (ours, theirs) in [(None, Some([1; 32])), (Some([1; 32]), None), (Some([1; 32]), Some([2; 32]))] {
        for first in 0..2 {
            let mut pair = Pair::new();
            set_book(&mut pair, 0, ours, 10);
            set_book(&mut pair, 1, theirs, 20);
            exchange(&mut pair, first, b"after a restored disk", DELAY * 20);
            let [now_ours, now_theirs] = secrets(&pair);
            assert!(now_ours == now_theirs && now_ours != ours && now_ours != theirs, "{ours:?} {theirs:?}");
        }
    }
}

/// Found by `chaos`: a side that waited for the answer to a key which the peer never got refused the peer's own, and
/// nothing flowed until the next key handshake.
#[test]
fn a_key_that_was_offered_in_an_older_session_refuses_no_other() {
    let (mut pair, mut out) = (Pair::new(), Vec::new());
    let low = usize::from(Identity::from_seed([2; 32]).public() < Identity::from_seed([1; 32]).public());
    (0..2).for_each(|side| set_book(&mut pair, side, None, 10 + side as u8));
    // Of what the lower side says only answers to INITs arrive, and its own first INIT.
    let mut inits = 0;
    for turn in 0..100 {
        let begins = [(0, low), (20, 1 - low)].into_iter().find(|(at, _)| *at == turn);
        begins.into_iter().for_each(|(_, side)| pair.send(side, b"data"));
        for side in 0..2 {
            while let Some(transmit) = pair.ends[side].poll_transmit(pair.now, &mut out) {
                for datagram in out.chunks_mut(transmit.segment_len) {
                    inits += u8::from(side == low && datagram.len() == INIT_LEN);
                    let is_heard = datagram.len() == RESP_LEN || datagram.len() == INIT_LEN && inits == 1;
                    if side != low || is_heard {
                        let _ = pair.deliver(1 - side, datagram);
                    }
                }
            }
        }
        pair.now = pair.now + Duration::from_millis(10);
        let now = pair.now;
        pair.ends.iter_mut().for_each(|end| end.handle_timeout(now));
    }
    assert!(secrets(&pair)[low].is_some(), "the lower side has answered");
}

/// Found by `chaos`: the higher side's own key gave way to one that was offered in an older session, and the lower side's to
/// that of the newer; each answered the other, and nothing flowed until the next key handshake.
#[test]
fn of_two_offers_the_one_in_the_later_session_is_answered() {
    let low = usize::from(Identity::from_seed([2; 32]).public() < Identity::from_seed([1; 32]).public());
    let mut pair = Pair::new();
    (0..2).for_each(|side| set_book(&mut pair, side, None, 10 + side as u8));
    let is_handshake = |datagram: &[u8]| matches!(datagram[0], 1 | 2);
    pair.send(low, b"early");
    pump(&mut pair, 200, |_, datagram| is_handshake(datagram)); // both are up, and the offer is on its way for two seconds
    let peer = pair.peer(1 - low);
    pair.ends[1 - low].with_link(peer, |link| link.link.ping());
    pair.send(1 - low, b"late");
    // The higher side gets no answer under the old keys and makes others.
    pump(&mut pair, 600, |from, datagram| is_handshake(datagram) && from != low || datagram[0] == 2);
    pump(&mut pair, 200, |_, _| true);
    let [ours, theirs] = secrets(&pair);
    assert!(ours.is_some() && ours == theirs, "one secret");
    assert_eq!(
        (&pair.inboxes[low].0[..], &pair.inboxes[1 - low].0[..]),
        (&[b"late".to_vec()][..], &[b"early".to_vec()][..])
    );
}

/// Found by `chaos`: the side that answered a key handshake waited for a key of a process that was gone, and had nothing to send
/// that could have gone unanswered.
#[test]
fn a_key_that_never_comes_makes_another_session() {
    let (mut pair, waiting) = (Pair::new(), 1);
    (0..2).for_each(|side| set_book(&mut pair, side, None, 10 + side as u8));
    pair.send(0, b"of a process that ends");
    // Its last word is a datagram without the key. It ends before it holds the path for one that swallows long datagrams.
    pump(&mut pair, 25, |_, datagram| datagram.len() < 1100);
    set_book(&mut pair, 0, None, 20);
    let peer = pair.peer(waiting);
    pair.ends[waiting].set_in_use(Instant::ZERO, peer, true);
    pump(&mut pair, 700, |_, _| true);
    assert_eq!(secrets(&pair), [None; 2], "a slow disk has its time");
    pump(&mut pair, 500, |_, _| true);
    // Packets for the process that is gone are lost with it.
    exchange(&mut pair, waiting, b"for the next one", Duration::from_secs(1));
    let [ours, theirs] = secrets(&pair);
    assert!(ours.is_some() && ours == theirs, "one secret");
}

/// Runs for so many hundredths of a second; only datagrams for which `arrives` is true, of a side and its bytes, arrive.
fn pump(pair: &mut Pair, turns: usize, arrives: impl Fn(usize, &[u8]) -> bool) {
    let mut out = Vec::new();
    for _ in 0..turns {
        for side in 0..2 {
            while let Some(transmit) = pair.ends[side].poll_transmit(pair.now, &mut out) {
                for datagram in out.chunks_mut(transmit.segment_len).filter(|datagram| arrives(side, datagram)) {
                    let _ = pair.deliver(1 - side, datagram);
                }
            }
            while let Some(event) = pair.ends[side].poll_event() {
                if let Event::SaveTrust(version) = event {
                    let now = pair.now;
                    pair.ends[side].trust_saved(now, version);
                }
            }
        }
        pair.now = pair.now + Duration::from_millis(10);
        let now = pair.now;
        pair.ends.iter_mut().for_each(|end| end.handle_timeout(now));
    }
}

#[test]
fn data_waits_for_the_disk_of_the_side_that_answers() {
    let mut pair = Pair::new();
    pair.send(0, b"first");
    let (mut out, mut saves) = (Vec::new(), Vec::new());
    for turn in 0..60 {
        for side in 0..2 {
            while let Some(transmit) = pair.ends[side].poll_transmit(pair.now, &mut out) {
                for datagram in out.chunks_mut(transmit.segment_len) {
                    let _ = pair.deliver(1 - side, datagram);
                }
            }
            while let Some(event) = pair.ends[side].poll_event() {
                if let Event::SaveTrust(version) = event {
                    saves.push((side, version));
                }
            }
        }
        pair.now = pair.now + Duration::from_millis(10);
        let now = pair.now;
        pair.ends.iter_mut().for_each(|end| end.handle_timeout(now));
        if turn == 50 {
            assert!(pair.inboxes[1].0.is_empty(), "the answer has not left");
            let newest = saves.iter().rev().find(|(side, _)| *side == 1).expect("a save was asked for").1;
            pair.ends[1].trust_saved(now, newest);
        }
    }
    assert_eq!(pair.inboxes[1].0, [b"first".to_vec()]);
}

/// The keys of the session that an INIT and its RESP begin, for the initiator, computed of everything but ML-KEM: both
/// static keys, the psk, and the responder's ephemeral key.
fn keys_of(init: &[u8], resp: &[u8], psk: &[u8; 32], ephemerals: &[[u8; 32]]) -> Option<TrafficKeys> {
    let mut prologue = PROLOGUE.to_vec();
    prologue.extend_from_slice(&init[..8]);
    let responder = Identity::from_seed([2; 32]);
    let received = Received::read(&prologue, responder.static_pair(), &init[8..init.len() - 32], |_| None).ok()?;
    let ephemeral = ephemerals.iter().map(|secret| KeyPair::new(&agreement::PORTABLE, *secret));
    let ephemeral = ephemeral.into_iter().find(|pair| pair.public() == &resp[12..44])?;
    let (keys, _) = received.respond(&ephemeral, psk, (&resp[..12], b"")).ok()?;
    Some(TrafficKeys { send: keys.receive, receive: keys.send, exporter: keys.exporter })
}

/// True when `keys` open a recorded datagram to side 1.
fn opens(keys: &TrafficKeys, datagram: &[u8]) -> bool {
    let flipped = TrafficKeys { send: keys.receive, receive: keys.send, exporter: [0; 32] };
    let indexes = Indexes { local: LocalIndex(1), remote: RemoteIndex(1) };
    let mut session = Session::new(&aead::PORTABLE, &flipped, indexes, Side::Responder, Instant::ZERO);
    let counter = Counter(u64::from_le_bytes(datagram[8..16].try_into().expect("eight")));
    session.open(counter, &mut datagram.to_vec()).is_ok()
}

/// What a listener has recorded stays shut when X25519 falls: with both static keys, the pair secret and every ephemeral
/// key. With the KEM secret besides, the second key handshake opens, which shows that the rest is there.
#[test]
fn recorded_sessions_stay_shut_without_the_kem_secret() {
    let mut pair = Pair::new();
    // The seeded generator of side 1 gives again every ephemeral key that it has given.
    let mut entropy = Rng::entropy([20; 32]);
    let ephemerals: Vec<[u8; 32]> = (0..20).map(|_| *entropy.secret()).collect();
    pair.send(0, b"first");
    pair.run_for(Duration::from_secs(1));
    let peer = pair.peer(0);
    pair.ends[0].set_in_use(Instant::ZERO, peer, true);
    pair.run_for(Duration::from_secs(130)); // the key handshake after the first session's
    pair.send(0, b"second");
    pair.run_for(Duration::from_secs(1));
    assert_eq!(pair.inboxes[1].0, [b"first".to_vec(), b"second".to_vec()]);

    let pin = pair.ends[1].trust().pin(&Identity::from_seed([1; 32]).public()).expect("pinned").clone();
    let with_kem = *mixed_psk(&pin.secret, &pin.kem.expect("made"));
    let of = |kind: u8| pair.capture.iter().filter(move |(_, d)| d[0] == kind).map(|(_, d)| d);
    let (inits, resps): (Vec<_>, Vec<_>) = (of(1).collect(), of(2).collect());
    assert!(inits.len() == 2 && resps.len() == 2, "{} {}", inits.len(), resps.len());
    let first = keys_of(inits[0], resps[0], &pin.secret, &ephemerals).expect("its ephemeral key is known");
    let second = keys_of(inits[1], resps[1], &pin.secret, &ephemerals).expect("its ephemeral key is known");
    let mixed = keys_of(inits[1], resps[1], &with_kem, &ephemerals).expect("its ephemeral key is known");
    let data: Vec<_> = pair.capture.iter().filter(|(to, d)| *to == 1 && d[0] == 4).map(|(_, d)| &d[..]).collect();
    let opened = |keys: &TrafficKeys| data.iter().filter(|datagram| opens(keys, datagram)).count();
    let (by_first, by_mixed) = (opened(&first), opened(&mixed));
    assert!(by_first > 0, "the session of the exchange itself opens, and holds nothing of the application");
    assert_eq!(opened(&second), 0, "the second key handshake stays shut");
    assert!(by_mixed > 0, "with the KEM secret it opens");
    assert!(by_first + by_mixed < data.len(), "the session that the exchange made opens with none of this");
}
