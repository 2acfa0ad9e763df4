//! Every message and its bytes.

use super::*;
use crate::codec::Malformed;
use crate::extensions::ExtensionType;
use crate::identity::NodeRecord;
use crate::path::{Mapping, Ports};
use crate::wire::INIT_LEN;
use std::fmt::Write as _;
use std::string::String;
use std::vec;

/// One small message of each kind: these bytes are frozen (`golden.txt`).
fn samples() -> Vec<(&'static str, Control)> {
    let (key, addr) = (IdentityKey([3; 32]), Addr::new(1, 2));
    let v4: SocketAddr = "192.0.2.1:9".parse().expect("address");
    let v6: SocketAddr = "[2001:db8::1]:9".parse().expect("address");
    let call = |n, call| Control::Call(Ticket(n), call, Extensions::NONE);
    let answer = |n, answer| Control::Answer(Ticket(n), answer, Extensions::NONE);
    let clock = Extensions::NONE.with_u64(ExtensionType::CLOCK, 1).with_u64(ExtensionType::SEQUENCE, 2);
    let ticket = Extensions::NONE.with(ExtensionType::TICKET, b"ticket").expect("room");
    let init = Extensions::NONE.with(ExtensionType::INIT, &[1; INIT_LEN]).expect("room");
    let passed_on = Extensions::NONE.with(ExtensionType::INIT, &[]).expect("room");
    let nat = Nat { mapping: Mapping::PortDependent, ports: Ports::Sequential(-2) };
    let difference = Grant { is_whole: false, add: vec![key], remove: vec![IdentityKey([4; 32]); 2] };
    vec![
        ("register", call(1, Call::Register(vec![1, 2]))),
        ("lookup name", call(2, Call::Lookup(Query::Name("a".into())))),
        ("lookup address", call(2, Call::Lookup(Query::Addr(addr)))),
        ("lookup key", call(2, Call::Lookup(Query::Key(key)))),
        ("search", call(3, Call::Search("gpu".into()))),
        ("post", call(4, Call::Post(key, LetterId([8; 16]), vec![9; 3]))),
        ("taken", call(5, Call::Taken(vec![InboxNumber(1), InboxNumber(u64::MAX)]))),
        ("grant difference", call(6, Call::Grant(difference))),
        ("grant whole", call(6, Call::Grant(Grant { is_whole: true, add: vec![key], remove: vec![] }))),
        ("leave", call(8, Call::Leave(vec![1, 2, 3]))),
        ("open relay", call(7, Call::OpenRelay(key))),
        ("open relay, ticket", Control::Call(Ticket(7), Call::OpenRelay(key), ticket)),
        ("open relay, INIT", Control::Call(Ticket(7), Call::OpenRelay(key), init)),
        ("registered", answer(1, Answer::Registered { addr, reflexive: v4, relay_key: [4; 32] })),
        ("found", answer(2, Answer::Found(vec![5]))),
        ("list", answer(3, Answer::List(vec![vec![5], vec![6]]))),
        ("relay", answer(4, Answer::Relay { channel: 7, online: true })),
        ("relay, INIT", Control::Answer(Ticket(4), Answer::Relay { channel: 7, online: true }, passed_on)),
        ("ok", answer(5, Answer::Ok)),
        ("refused", answer(6, Answer::Refused(Refusal::NameTaken))),
        ("refused, clock", Control::Answer(Ticket(6), Answer::Refused(Refusal::BadRecord), clock)),
        ("refused later", answer(6, Answer::Refused(Refusal::Later(200)))),
        ("letter", Control::Push(Push::Letter(InboxNumber(8), Source::from_number(9), vec![1]))),
        ("relay opened", Control::Push(Push::RelayOpened(9, key))),
        ("congested", Control::Push(Push::Congested(9))),
        ("move", Control::Push(Push::Move { to: v6, after_ms: 1500 })),
        ("elsewhere", Control::Push(Push::Elsewhere(v4))),
        ("observed", Control::Push(Push::Observed(v6))),
        ("candidates", Control::Candidates(Candidates { list: vec![v4, v6], ..Candidates::default() })),
        ("candidates with a NAT", Control::Candidates(Candidates { list: vec![v4], mapped: vec![], nat })),
        ("candidates, mapped", Control::Candidates(Candidates { list: vec![v4, v6], mapped: vec![v6], nat })),
        ("meeting", Control::Meeting(Meeting { number: 7, is_answer: true, nat, at: v4, span: (9, 11) })),
        ("trust", Control::Trust(vec![1; 3])),
        ("kem offer", Control::KemOffer(KemOffer { session: 1, index: 2, key: Box::new([5; OFFER_LEN]) })),
        ("kem answer", Control::KemAnswer(KemAnswer { offer: 2, index: 3, answer: Box::new([6; ANSWER_LEN]) })),
    ]
}

/// The largest message of each kind that has a list or text.
fn largest() -> Vec<Control> {
    let key = IdentityKey([3; 32]);
    let full = || Extensions::NONE.with(ExtensionType(9), &[7; 508]).expect("just fits");
    let call = |call| Control::Call(Ticket(u32::MAX), call, full());
    let half = vec![key; GRANTS_MAX / 2];
    vec![
        call(Call::Register(vec![1; NodeRecord::LEN_MAX])),
        call(Call::Leave(vec![1; NodeRecord::LEN_MAX])),
        call(Call::Post(key, LetterId([1; 16]), vec![9; LETTER_LEN_MAX])),
        call(Call::Taken(vec![InboxNumber(1); GRANTS_MAX])),
        call(Call::Grant(Grant { is_whole: true, add: half.clone(), remove: half })),
        Control::Answer(Ticket(1), Answer::List(vec![vec![1; NodeRecord::LEN_MAX]; SEARCH_MAX]), Extensions::NONE),
        Control::Push(Push::Letter(InboxNumber(1), None, vec![1; LETTER_LEN_MAX])),
        Control::Trust(vec![1; crate::trust::MESSAGE_LEN_MAX]),
    ]
}

#[test]
fn every_message_round_trips_and_no_prefix_of_one_is_a_message() {
    for message in samples().into_iter().map(|(_, message)| message).chain(largest()) {
        let bytes = message.emit();
        assert!(bytes.len() <= MESSAGE_LEN_MAX);
        assert_eq!(Control::parse(&bytes).as_ref(), Ok(&message));
        for len in (0..bytes.len()).step_by(1 + bytes.len() / 50) {
            assert!(Control::parse(&bytes[..len]).is_err(), "{message:?} cut at {len}");
        }
    }
}

/// `PILOT_BLESS=1` writes the file anew: for a new version of PN1 only.
#[test]
fn the_bytes_of_every_message_are_those_of_version_2() {
    let mut lines = String::new();
    for (name, message) in samples() {
        let bytes = message.emit();
        write!(lines, "{name}: ").expect("a string takes all");
        bytes.iter().for_each(|byte| write!(lines, "{byte:02x}").expect("a string takes all"));
        lines.push('\n');
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/control/golden.txt");
    if std::env::var_os("PILOT_BLESS").is_some() {
        std::fs::write(path, &lines).expect("writable");
    }
    assert_eq!(lines, include_str!("golden.txt"), "{path} differs");
}

#[test]
fn kinds_of_a_later_version_are_unknown_and_not_malformed() {
    let parse = |bytes: &[u8]| Control::parse(bytes);
    assert_eq!(parse(&[200, 1, 2, 3]), Ok(Control::Unknown(200)));
    assert_eq!(parse(&[1, 7, 0, 0, 0, 99, 5, 5]), Ok(Control::Call(Ticket(7), Call::Unknown(99), Extensions::NONE)));
    assert_eq!(parse(&[2, 7, 0, 0, 0, 99, 5]), Ok(Control::Answer(Ticket(7), Answer::Unknown(99), Extensions::NONE)));
    assert_eq!(parse(&[3, 99, 5, 5, 5]), Ok(Control::Push(Push::Unknown(99))));
    let refused = |code| parse(&[2, 7, 0, 0, 0, 6, code, 0]);
    let later = Answer::Refused(Refusal::Later(200));
    assert_eq!(refused(200), Ok(Control::Answer(Ticket(7), later, Extensions::NONE)));
    assert!(!Refusal::Later(200).is_final(), "try later, never not found");
    assert_eq!(parse(&[]), Err(Malformed));
}

/// A trust message has its own form, signed as a whole; all other bodies end in a list.
#[test]
fn an_extension_of_a_later_version_is_no_fault_in_any_message() {
    for (name, message) in samples() {
        let mut bytes = message.emit();
        let has_list = match &message {
            Control::Call(_, _, list) | Control::Answer(_, _, list) => *list != Extensions::NONE,
            Control::Candidates(candidates) => candidates.nat != Nat::default(),
            _ => false,
        };
        if has_list || matches!(message, Control::Trust(_)) {
            continue;
        }
        assert_eq!(bytes.pop(), Some(0), "{name} ends in an empty list");
        let list = Extensions::NONE.with(ExtensionType(0xfff0), b"later").expect("room");
        list.emit(&mut bytes);
        let expected = match message {
            Control::Call(ticket, call, _) => Control::Call(ticket, call, list),
            Control::Answer(ticket, answer, _) => Control::Answer(ticket, answer, list),
            other => other,
        };
        assert_eq!(Control::parse(&bytes), Ok(expected), "{name}");
    }
}

#[test]
fn a_grant_has_a_maximum_of_keys_in_both_lists_together() {
    let key = IdentityKey([3; 32]);
    let grant = Grant { is_whole: false, add: vec![key; GRANTS_MAX], remove: vec![key] };
    let mut bytes = vec![1, 0, 0, 0, 0, 6, 0];
    for keys in [&grant.add, &grant.remove] {
        crate::codec::Put::put_varint(&mut bytes, keys.len() as u64);
        keys.iter().for_each(|key| bytes.extend(key.0));
    }
    bytes.push(0);
    assert_eq!(Control::parse(&bytes), Err(Malformed));
}
