//! Joins that come directly.

use super::super::joins::ANSWERED_MAX;
use super::*;
use crate::invite::{EnrolmentCode, InviteCode};
use crate::trust::unanswered::JOINS_MAX;
use crate::trust::{GroupError, InviteTerms, Ports};
use alloc::format;

/// An inviter with a code for so many nodes.
fn inviter(uses: u16) -> (Node, InviteCode) {
    let mut node = Node::new(1);
    let terms = InviteTerms { ports: Ports::default(), uses, lifetime_s: 3600 };
    let invite = node.input(0, |d, cx| d.invite(cx, terms)).0.expect("allowed");
    let code = InviteCode {
        inviter: node.identity.public(),
        addr: node.directory.addr(),
        invite: invite.id,
        secret: invite.secret,
        expires: 0,
        candidates: vec![addr_of(1)],
        group: None,
        rendezvous: None,
    };
    (node, code)
}

/// The datagrams that leave once the book is on disk.
fn sent(node: &mut Node, ms: u64) -> Vec<(PathAddr, Vec<u8>)> {
    let version = node.directory.trust().version();
    let mut effects = node.input(ms, |d, cx| d.trust_saved(cx.now, version)).1;
    effects.extend(node.input(ms, |d, cx| d.handle_timeout(cx)).1);
    datagrams(effects)
}

fn datagrams(effects: Vec<Effect>) -> Vec<(PathAddr, Vec<u8>)> {
    let datagram = |effect| match effect {
        Effect::Send(to, datagram) => Some((to, datagram)),
        _ => None,
    };
    effects.into_iter().filter_map(datagram).collect()
}

/// The JOIN of a node with this number.
fn join(n: u8, code: &InviteCode) -> (Node, Vec<u8>) {
    let mut node = Node::new(n);
    let (joined, effects) = node.input(0, |d, cx| d.join(cx, code, &Terms::default()));
    assert!(
        joined.is_ok() && !effects.iter().any(|effect| matches!(effect, Effect::Send(..))),
        "saved before it is sent"
    );
    let datagrams = sent(&mut node, 0);
    let [(to, datagram)] = &datagrams[..] else { panic!("{} datagrams", datagrams.len()) };
    assert_eq!((*to, datagram.len()), (PathAddr::Direct(addr_of(1)), crate::wire::DATAGRAM_LEN_BASE));
    (node, datagram.clone())
}

#[test]
fn a_join_goes_out_again_with_growing_pauses_until_it_is_answered() {
    let (mut inviter, code) = inviter(1);
    let (mut joiner, datagram) = join(2, &code);
    let mut times = vec![];
    while let Some(at) = joiner.directory.poll_timeout().filter(|at| at.as_micros() < 4_000_000) {
        let ms = at.as_micros() / 1000;
        assert_eq!(sent(&mut joiner, ms), [(PathAddr::Direct(addr_of(1)), datagram.clone())], "{ms} ms");
        times.push(ms);
    }
    assert_eq!(times, [250, 750, 1750, 3750]);

    assert!(inviter.input(0, |d, cx| d.handle_join(cx, addr_of(2), &datagram)).0);
    let answer = sent(&mut inviter, 0).remove(0);
    assert_eq!(answer.0, PathAddr::Direct(addr_of(2)));
    assert!(answer.1.len() <= datagram.len(), "no more goes back than came");
    let sealed = crate::trust::join::parse_answer(&answer.1).expect("an answer");
    let elsewhere = joiner.input(4000, |d, cx| d.handle_join_answer(cx, addr_of(3), sealed)).0;
    assert!(!elsewhere, "nothing was asked there");
    assert!(joiner.input(4000, |d, cx| d.handle_join_answer(cx, addr_of(1), sealed)).0);
    let pin = joiner.directory.trust().pin(&code.inviter).expect("pinned");
    assert_eq!(pin.last_endpoint, Some(addr_of(1)));
    assert!(sent(&mut joiner, 40_000).is_empty());
    assert_eq!(joiner.directory.poll_timeout(), None, "nothing is left to do");
}

#[test]
fn a_join_that_comes_again_has_the_same_answer_without_another_signature() {
    let uses = ANSWERED_MAX as u16 + 1;
    let (mut inviter, code) = inviter(uses);
    let (_, first) = join(2, &code);
    let mut answer = |datagram: &[u8]| {
        let (is_answered, effects) = inviter.input(0, |d, cx| d.handle_join(cx, addr_of(2), datagram));
        assert!(is_answered && inviter.directory.answered.len() <= ANSWERED_MAX);
        datagrams(effects).into_iter().chain(sent(&mut inviter, 0)).next().expect("an answer").1
    };
    let made = answer(&first);
    assert_eq!(answer(&first), made, "the copy of an answer");
    // What another one has changed may have made the answer wrong: it is made anew.
    (3..2 + uses as u8).for_each(|n| drop(answer(&join(n, &code).1)));
    assert_ne!(answer(&first), made);
}

#[test]
fn a_code_without_a_way_that_this_node_has_is_refused() {
    let (_, code) = inviter(1);
    let mut node = Node::registered(2);
    let other = crate::invite::Rendezvous::same(&StaticKey([7; 32]));
    let code = InviteCode { candidates: vec![], rendezvous: Some(other), ..code };
    let refused = node.input(0, |d, cx| d.join(cx, &code, &Terms::default())).0;
    assert_eq!(refused, Err(TrustError::NoWay));
    assert!(!node.directory.trust().is_joining(&code.inviter));
}

/// The node with this number after a power cut: its book is what was on disk.
fn restarted(node: &Node, n: u8) -> Node {
    let book = node.directory.trust().emit();
    assert!((0..book.len()).all(|len| TrustBook::parse(&book[..len]).is_err()), "a part is no book");
    let book = TrustBook::parse(&book).expect("own form");
    assert_eq!(book.emit(), node.directory.trust().emit());
    Node::with_book(n, book, [n + 100; 32])
}

#[test]
fn a_node_that_starts_again_goes_on_with_a_join_until_it_is_answered() {
    let (mut inviter, code) = inviter(1);
    let (before, datagram) = join(2, &code);
    let mut joiner = restarted(&before, 2);
    assert_eq!(
        datagrams(joiner.input(0, |d, cx| d.handle_timeout(cx)).1),
        [(PathAddr::Direct(addr_of(1)), datagram.clone())]
    );
    assert_eq!(joiner.directory.poll_timeout(), Some(at(250)));

    inviter.input(0, |d, cx| d.handle_join(cx, addr_of(2), &datagram));
    let answer = sent(&mut inviter, 0).remove(0).1;
    let sealed = crate::trust::join::parse_answer(&answer).expect("an answer");
    assert!(joiner.input(100, |d, cx| d.handle_join_answer(cx, addr_of(1), sealed)).0);
    assert!(sent(&mut joiner, 250).is_empty());
    let mut again = restarted(&joiner, 2);
    assert!(datagrams(again.input(0, |d, cx| d.handle_timeout(cx)).1).is_empty());
}

#[test]
fn a_node_that_starts_again_asks_the_members_that_it_has_not_asked() {
    let (mut node, code) = (Node::registered(1), group_code(2));
    node.input(0, |d, cx| d.enrol(cx, &code, Ports::default())).0.expect("room");
    let asked = |node: &Node| node.directory.trust().outgoing().map(|record| record.identity).collect::<Vec<_>>();
    assert_eq!(asked(&node), code.contacts[..1]);
    node.input(3_000, |d, cx| d.handle_timeout(cx));
    assert_eq!(asked(&node).len(), 2);

    let mut node = restarted(&node, 1);
    (0..3).for_each(|n| drop(node.input(n * 3_000, |d, cx| d.handle_timeout(cx))));
    let (mut all, mut expected) = (asked(&node), code.contacts.clone());
    [&mut all, &mut expected].into_iter().for_each(|keys| keys.sort_unstable());
    assert_eq!(all, expected);
    assert_eq!(node.directory.trust().letters().count(), code.contacts.len());
    assert!(node.directory.enrolling.is_empty());
}

/// The code of an enrolment of a group that node `n` has founded.
fn group_code(n: u8) -> EnrolmentCode {
    let mut founder = Node::registered(n);
    let name = format!("group-{n}");
    let id = founder.input(0, |d, cx| d.create_group(cx, &name, Ports::default())).0.expect("room");
    let (enrolment, seed) = founder.input(0, |d, cx| d.make_enrolment(cx, &id, (1, 3600))).0.expect("the group key");
    let group = founder.directory.trust().group(&name).expect("founded").roster.group().clone();
    let contacts = [n, 101, 102, 103].map(|n| Identity::from_seed([n; 32]).public()).to_vec();
    let rendezvous = Some(crate::invite::Rendezvous::same(&Identity::from_seed([99; 32]).static_key()));
    EnrolmentCode { group, key_row: None, seed, enrolment, contacts, candidates: vec![], rendezvous }
}

#[test]
fn groups_whose_contacts_are_asked_have_a_maximum_and_walk_back_to_none() {
    let mut node = Node::registered(1);
    let codes: Vec<_> = (0..=JOINS_MAX as u8).map(|n| group_code(n + 2)).collect();
    for (n, code) in codes.iter().enumerate() {
        let entered = node.input(0, |d, cx| d.enrol(cx, code, Ports::default())).0;
        assert_eq!(entered, if n < JOINS_MAX { Ok(()) } else { Err(GroupError::Full) });
    }
    assert_eq!((node.directory.enrolling.len(), node.directory.trust().groups().count()), (JOINS_MAX, JOINS_MAX));
    // Nothing is left to do once all contacts were asked.
    (1..8).for_each(|n| drop(node.input(n * 4_000, |d, cx| d.handle_timeout(cx))));
    assert!(node.directory.enrolling.is_empty());
    assert_eq!(node.input(60_000, |d, cx| d.enrol(cx, &codes[JOINS_MAX], Ports::default())).0, Ok(()));
}
