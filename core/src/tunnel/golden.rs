//! The frozen bytes of INIT, RESP and COOKIE. What changes them changes the protocol's version.

use super::door::{cookie_key, emit_cookie};
use super::handshake::{Age, Cookie, Incarnation, InitReceived, Introduction, NO_PSK, Opening, Pending, tai64n};
use super::stance::Stance;
use crate::agreement::{KeyPair, PORTABLE};
use crate::identity::Identity;
use crate::noise::StaticShared;
use crate::time::Duration;
use crate::wire::{INIT_LEN, LocalIndex, RESP_LEN};
use std::string::String;
use std::vec::Vec;

fn hex(bytes: &[u8]) -> String {
    let digits = |byte: &u8| [byte >> 4, byte & 15].map(|n| char::from_digit(n.into(), 16).expect("a digit"));
    bytes.iter().flat_map(digits).collect()
}

fn introduction(n: u8, is_rendezvous: bool) -> Introduction {
    Introduction { incarnation: Incarnation([n; 6]), age: Age(0x0201), stance: Stance::new(is_rendezvous) }
}

fn init(responder: &Identity) -> (Identity, Pending, Vec<u8>) {
    let initiator = Identity::from_seed([1; 32]);
    let key = responder.static_key();
    let opening = Opening {
        responder: &key,
        shared: &StaticShared::new(initiator.static_pair(), &key.0).expect("an honest key"),
        local_index: LocalIndex(0x0403_0201),
        stamp: &tai64n(1_000_000_000_000_000),
        own: introduction(6, false),
        cookie: Some(Cookie([5; 16])),
    };
    let pending = Pending::start(&initiator, &opening, KeyPair::new(&PORTABLE, [3; 32])).expect("an honest key");
    let datagram = pending.datagram.clone();
    (initiator, pending, datagram)
}

#[test]
fn init_and_resp_have_their_frozen_bytes() {
    let responder = Identity::from_seed([2; 32]);
    let (initiator, pending, datagram) = init(&responder);
    assert_eq!(hex(&datagram), INIT);
    let datagram: [u8; INIT_LEN] = datagram.try_into().expect("its length");
    let received = InitReceived::read(&responder, &datagram, |_| None).expect("valid");
    let answer = (LocalIndex(0x0807_0605), introduction(7, true));
    let (resp, _) = received.respond(answer, &NO_PSK, &KeyPair::new(&PORTABLE, [4; 32])).expect("valid");
    assert_eq!(hex(&resp), RESP);
    let resp: [u8; RESP_LEN] = resp.try_into().expect("its length");
    let (_, peer, _) = pending.finish(&initiator, (&NO_PSK, None), &resp).expect("valid");
    assert_eq!(peer, introduction(7, true));
}

#[test]
fn a_cookie_has_its_frozen_bytes() {
    let responder = Identity::from_seed([2; 32]);
    let (_, pending, datagram) = init(&responder);
    let datagram: [u8; INIT_LEN] = datagram.try_into().expect("its length");
    let key = responder.static_key();
    let wait = Duration::from_millis(1200);
    let cookie = emit_cookie(&cookie_key(&key), &datagram, &[8; 24], (&[9; 16], wait));
    assert_eq!(hex(&cookie), COOKIE);
    assert_eq!(pending.open_cookie(&key, &cookie), Some((Cookie([9; 16]), wait)));
    for bit in 0..8 * cookie.len() {
        let mut bad = cookie;
        bad[bit / 8] ^= 1 << (bit % 8);
        let is_index = (8 * 4..8 * 8).contains(&bit); // it finds the handshake
        let is_header = bit < 8 * 4; // `wire` has checked it
        assert!(is_index || is_header || pending.open_cookie(&key, &bad).is_none(), "bit {bit}");
    }
}

const INIT: &str = "\
    01020000010203045dfedd3b6bd47f6fa28ee15d969d5bb0ea53774d488bdaf9df1c6e0124b3ef2254b6ea4c785aca5edc5d\
    99dc5706fe0d440524635b1a2afa555c7d96b37c142d438f86152128d9c6acd79d4c8a6d5e7c2a597d731ceef55cba958d43\
    7176cf95e495ce1f124150cc43c128fcb898856b8fb3c1dd5bea28f525e06776e4b4ea5751323dc3a3d8b94da9892f329b73\
    fee55ae226a759";
const RESP: &str = "\
    020200000506070801020304ac01b2209e86354fb853237b5de0f4fab13c7fcbf433a61c019369617fecf10bf066ec165c14\
    434c095e47f9dbc62b2ddc7a4243cb11dbe7a1b425b90de18db51adab15c8ccce970bb000000000000000000000000000000\
    00";
const COOKIE: &str = "\
    03020000010203040808080808080808080808080808080808080808080808083c05efc82b72d6ef0b3d37dbf847ed714780\
    112f7e9ef6f898f700f9cb30fdcbd1eb";
