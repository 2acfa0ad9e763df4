//! Invites and the nodes that join by them.

use super::*;
use crate::invite::{InviteCode, InviteSecret, Rendezvous};
use crate::trust::join::{is_join, parse_answer};
use crate::trust::{InviteState, InviteTerms};

const HOUR_S: u64 = 3600;

fn terms(uses: u16, lifetime_s: u64) -> InviteTerms {
    InviteTerms { ports: Ports::one(80), uses, lifetime_s }
}

impl Owner {
    fn invite(&mut self, uses: u16, lifetime_s: u64) -> InviteCode {
        let invite = self.at(NOW, |b, me, rng| b.invite(me, terms(uses, lifetime_s), rng)).expect("allowed");
        InviteCode {
            inviter: self.key(),
            addr: self.public_record().addr,
            invite: invite.id,
            secret: invite.secret,
            expires: (NOW + lifetime_s) as u32,
            candidates: vec![],
            group: None,
            rendezvous: Some(Rendezvous::same(&StaticKey([1; 32]))),
        }
    }

    fn join(&mut self, now_s: u64, code: &InviteCode) -> Vec<u8> {
        let terms = Terms { ports: Ports::one(22), ..Terms::default() };
        self.at(now_s, |b, me, rng| b.join(me, code, &terms, rng)).expect("allowed")
    }

    fn receive_join(&mut self, now_s: u64, datagram: &[u8]) -> (Outcome, Option<Vec<u8>>) {
        let joined = self.at(now_s, |b, me, rng| b.receive_join(me, datagram, rng));
        (joined.outcome, joined.answer.map(|answer| answer.2))
    }

    fn state(&self) -> InviteState {
        self.book.invites().next().expect("an invite").1
    }

    /// What the inviter's answer to a JOIN does at the joiner.
    fn joins(&mut self, inviter: &mut Owner, code: &InviteCode) -> Outcome {
        let datagram = self.join(NOW, code);
        let answer = inviter.receive_join(NOW, &datagram).1.expect("an answer");
        self.receive(&answer)
    }
}

#[test]
fn a_code_makes_two_verified_pins_with_one_secret_and_the_ports_that_each_owner_said() {
    let (mut a, mut b) = (Owner::new(1), Owner::new(2));
    let code = a.invite(1, HOUR_S);
    let datagram = b.join(NOW, &code);
    assert!(is_join(&datagram) && b.book.is_joining(&a.key()));
    let (outcome, answer) = a.receive_join(NOW, &datagram);
    assert_eq!(outcome, Outcome::Pinned(b.key()));
    assert_eq!(b.receive(&answer.expect("an accept")), Outcome::Pinned(a.key()));
    let (of_b, of_a) = (a.book.pin(&b.key()).expect("pinned"), b.book.pin(&a.key()).expect("pinned"));
    assert_eq!(of_b.secret, of_a.secret);
    assert!(of_b.verified && of_a.verified);
    assert_eq!((of_b.ports.clone(), of_a.ports.clone()), (Ports::one(80), Ports::one(22)));
    assert_eq!((of_b.hostname.as_str(), of_a.hostname.as_str()), ("node-2", "node-1"));
    assert_eq!((a.state(), b.book.is_joining(&a.key())), (InviteState::UsedUp, false));
}

#[test]
fn the_same_join_again_counts_no_use_and_has_an_answer_that_makes_the_same_secret() {
    let (mut a, mut b) = (Owner::new(1), Owner::new(2));
    let code = a.invite(2, HOUR_S);
    let datagram = b.join(NOW, &code);
    a.receive_join(NOW, &datagram);
    // The answer was lost, and the joiner has started anew since.
    b.book = TrustBook::parse(&b.book.emit()).expect("own form");
    let version = a.book.version();
    for datagram in [datagram, b.join(NOW + 1, &code)] {
        let (outcome, answer) = a.receive_join(NOW, &datagram);
        assert_eq!(outcome, Outcome::Discarded(Discarded::AlreadyTrusted));
        b.receive(&answer.expect("the accept again"));
    }
    assert_eq!(a.book.version(), version);
    assert_eq!(a.book.pin(&b.key()).expect("pinned").secret, b.book.pin(&a.key()).expect("pinned").secret);
    assert_eq!(a.book.invites().next().expect("an invite").0.used, 1);
}

#[test]
fn a_join_from_before_the_end_of_trust_is_void() {
    let (mut a, mut b) = (Owner::new(1), Owner::new(2));
    let code = a.invite(2, HOUR_S);
    let datagram = b.join(NOW, &code);
    a.receive_join(NOW, &datagram);
    let key = b.key();
    a.at(NOW, |book, me, rng| book.revoke(me, &key, rng)).expect("a peer");
    assert_eq!(a.receive_join(NOW, &datagram), (Outcome::Discarded(Discarded::Replayed), None));
}

#[test]
fn a_code_that_is_over_is_refused_with_the_reason() {
    let refusal = |wear: &dyn Fn(&mut Owner, &InviteCode), at_s: u64| {
        let (mut a, mut b) = (Owner::new(1), Owner::new(2));
        a.book.count_time(0, NOW);
        let code = a.invite(1, HOUR_S);
        wear(&mut a, &code);
        a.book.count_time(at_s, NOW + at_s);
        let outcome = b.joins(&mut a, &code);
        assert!(!b.book.is_joining(&a.key()) && b.book.pin(&a.key()).is_none() && a.book.pin(&b.key()).is_none());
        match outcome {
            Outcome::JoinRefused(_, why) => why,
            other => panic!("{other:?}"),
        }
    };
    let nothing = |_: &mut Owner, _: &InviteCode| {};
    assert_eq!(refusal(&|a, code| drop(Owner::new(3).joins(a, code)), 1), JoinRefusal::UsedUp);
    assert_eq!(refusal(&nothing, HOUR_S), JoinRefusal::Expired);
    assert_eq!(refusal(&|a, code| a.book.withdraw_invite(code.invite).expect("open"), 1), JoinRefusal::Withdrawn);
    let guess = |a: &mut Owner, code: &InviteCode| {
        let wrong = InviteCode { secret: InviteSecret::new([0; 10]), ..code.clone() };
        (0..10).for_each(|n| drop(a.receive_join(NOW, &Owner::new(10 + n).join(NOW, &wrong))));
    };
    assert_eq!(refusal(&guess, 1), JoinRefusal::Dead);
}

#[test]
fn a_reason_that_is_not_known_is_kept_and_those_that_are_come_through() {
    for number in 0..=u8::MAX {
        assert_eq!(JoinRefusal::from_number(number).number(), number);
    }
    assert_eq!(JoinRefusal::from_number(1), JoinRefusal::UsedUp);
    assert_eq!(JoinRefusal::from_number(90), JoinRefusal::Other(90));
}

#[test]
fn ten_guesses_end_an_invite_and_its_owner_is_told_once() {
    let (mut a, mut b) = (Owner::new(1), Owner::new(2));
    let code = a.invite(1, HOUR_S);
    let mut outcomes = vec![];
    for guess in 0..12 {
        let wrong = InviteCode { secret: InviteSecret::new([guess; 10]), ..code.clone() };
        outcomes.push(a.receive_join(NOW, &b.join(NOW, &wrong)));
        a.book = TrustBook::parse(&a.book.emit()).expect("guesses are counted across restarts");
    }
    let (ninth, tenth) = (&outcomes[8], &outcomes[9]);
    assert_eq!(*ninth, (Outcome::Discarded(Discarded::WrongCode), None));
    assert_eq!(*tenth, (Outcome::InviteDead(code.invite), None));
    assert!(outcomes[10..].iter().all(|outcome| *outcome == (Outcome::Discarded(Discarded::Malformed), None)));
    assert_eq!(a.state(), InviteState::Dead);
}

#[test]
fn a_number_that_no_invite_has_is_no_guess() {
    let (mut a, mut b) = (Owner::new(1), Owner::new(2));
    let code = a.invite(1, HOUR_S);
    let version = a.book.version();
    let other = InviteCode { invite: InviteId(code.invite.0 ^ 1), ..code.clone() };
    let datagram = b.join(NOW, &other);
    assert_eq!(a.receive_join(NOW, &datagram), (Outcome::Discarded(Discarded::Unsolicited), None));
    assert_eq!(a.book.version(), version, "what strangers send is not saved");
}

#[test]
fn a_join_for_another_node_or_changed_on_the_way_does_nothing() {
    let (mut a, mut b) = (Owner::new(1), Owner::new(2));
    let code = a.invite(1, HOUR_S);
    let datagram = b.join(NOW, &code);
    for place in (8..datagram.len()).step_by(157) {
        let mut changed = datagram.clone();
        changed[place] ^= 1;
        assert_eq!(a.receive_join(NOW, &changed), (Outcome::Discarded(Discarded::WrongCode), None), "byte {place}");
    }
    // An invite of the same number and secret at another node.
    let mut c = Owner::new(3);
    c.book.count_time(0, NOW);
    let copy = a.book.invites.list[0].clone();
    c.book.invites.list.push(copy);
    assert_eq!(c.receive_join(NOW, &datagram).1, None);
    assert!(c.book.pin(&b.key()).is_none());
    assert_eq!(a.receive_join(NOW, &datagram).0, Outcome::Pinned(b.key()));
}

#[test]
fn a_clock_that_is_wrong_by_a_day_keeps_no_holder_of_a_code_away() {
    const DAY_S: u64 = 24 * HOUR_S;
    for (joiner_s, inviter_s) in [(NOW - DAY_S, NOW), (NOW + DAY_S, NOW), (NOW, NOW + DAY_S), (0, NOW)] {
        let (mut a, mut b) = (Owner::new(1), Owner::new(2));
        a.book.count_time(0, NOW);
        let code = a.invite(1, HOUR_S);
        // The inviter's clock is set while it runs, or was wrong for one start.
        a.book.count_time(60, inviter_s);
        let datagram = b.join(joiner_s, &code);
        let (outcome, answer) = a.receive_join(inviter_s, &datagram);
        assert_eq!(outcome, Outcome::Pinned(b.key()), "{joiner_s} {inviter_s}");
        let answer = answer.expect("an accept");
        let outcome = b.at(joiner_s, |book, me, _| book.receive(me, &answer, None));
        assert_eq!(outcome, Outcome::Pinned(a.key()));
    }
}

#[test]
fn an_invite_grows_old_while_its_node_runs_and_a_day_at_most_between_runs() {
    let mut a = Owner::new(1);
    a.book.count_time(0, NOW);
    a.invite(1, 3 * 24 * HOUR_S);
    let mut wall_s = NOW;
    for run in 0..3 {
        assert_eq!(a.state(), InviteState::Open, "run {run}");
        a.book = TrustBook::parse(&a.book.emit()).expect("own form");
        wall_s += 1000 * 24 * HOUR_S;
        a.book.count_time(7, wall_s);
    }
    assert_eq!(a.state(), InviteState::Expired);
    // A clock that goes back counts nothing.
    let mut b = Owner::new(2);
    b.book.count_time(0, NOW);
    b.invite(1, HOUR_S);
    b.book = TrustBook::parse(&b.book.emit()).expect("own form");
    for (uptime_s, wall_s, state) in
        [(0, 1000, InviteState::Open), (HOUR_S - 1, 1000, InviteState::Open), (HOUR_S, NOW, InviteState::Expired)]
    {
        b.book.count_time(uptime_s, wall_s);
        assert_eq!(b.state(), state, "{uptime_s} s");
    }
}

#[test]
fn a_crash_makes_no_invite_younger_by_more_than_an_hour() {
    let mut a = Owner::new(1);
    a.book.count_time(0, NOW);
    let idle = a.book.version();
    a.book.count_time(HOUR_S, NOW + HOUR_S);
    assert_eq!(a.book.version(), idle, "without an invite nothing is to be saved");
    a.invite(1, 10 * 24 * HOUR_S);
    let (mut saved, mut version, mut saves) = (a.book.emit(), a.book.version(), 0);
    // Four days without another change of the book, then power is cut.
    for minute in 0..4 * 24 * 60 {
        a.book.count_time(HOUR_S + minute * 60, NOW + HOUR_S + minute * 60);
        if a.book.version() != version {
            (saved, version, saves) = (a.book.emit(), a.book.version(), saves + 1);
        }
    }
    assert!((90..100).contains(&saves), "{saves}");
    a.book = TrustBook::parse(&saved).expect("own form");
    a.book.count_time(0, NOW + HOUR_S + 4 * 24 * HOUR_S);
    a.book.count_time(6 * 24 * HOUR_S + HOUR_S, NOW + 12 * 24 * HOUR_S);
    assert_eq!(a.state(), InviteState::Expired);
}

#[test]
fn invites_have_a_maximum_and_those_that_are_over_give_way() {
    let mut a = Owner::new(1);
    a.book.count_time(0, NOW);
    let first = a.invite(1, HOUR_S);
    (1..INVITES_MAX).for_each(|_| drop(a.invite(1, HOUR_S)));
    let refused = |a: &mut Owner, terms| a.at(NOW, |b, me, rng| b.invite(me, terms, rng)).err();
    assert_eq!(refused(&mut a, terms(1, HOUR_S)), Some(TrustError::Full));
    a.book.withdraw_invite(first.invite).expect("open");
    assert_eq!(a.book.withdraw_invite(first.invite), Err(TrustError::Unknown), "it is not open any more");
    a.invite(1, HOUR_S);
    assert!(a.book.invites().all(|(invite, _)| invite.id != first.invite));
    assert_eq!(a.book.invites().count(), INVITES_MAX);
    a.book.count_time(32 * 24 * HOUR_S, NOW);
    a.invite(1, HOUR_S);
    assert_eq!(a.book.invites().count(), 1, "what is over is kept for thirty days");
    for bad in [terms(0, 1), terms(USES_MAX + 1, 1), terms(1, 0), terms(1, INVITE_LIFETIME_MAX_S + 1)] {
        assert_eq!(refused(&mut a, bad), Some(TrustError::OutOfRange));
    }
}

#[test]
fn an_invite_for_several_takes_as_many_and_a_peer_that_joins_again_keeps_its_grants() {
    let mut a = Owner::new(1);
    let code = a.invite(3, HOUR_S);
    let mut b = Owner::new(2);
    assert_eq!(b.joins(&mut a, &code), Outcome::Pinned(a.key()));
    let key = b.key();
    a.at(NOW, |book, me, rng| book.regrant(me, &key, &Regrant::Grant(Ports::one(443), None), rng)).expect("a peer");
    // The disk of the joiner is lost, and its identity was kept.
    b.book = TrustBook::default();
    b.at(NOW + 9, |_, _, _| ());
    let datagram = b.join(NOW + 9, &code);
    let (outcome, answer) = a.receive_join(NOW + 9, &datagram);
    assert_eq!(outcome, Outcome::Pinned(key));
    assert_eq!(b.receive(&answer.expect("an accept")), Outcome::Pinned(a.key()));
    let pin = a.book.pin(&key).expect("pinned");
    assert!(pin.allows(443) && pin.allows(80));
    assert_eq!(pin.secret, b.book.pin(&a.key()).expect("pinned").secret);
    assert_eq!(Owner::new(3).joins(&mut a, &code), Outcome::Pinned(a.key()));
    assert!(matches!(Owner::new(4).joins(&mut a, &code), Outcome::JoinRefused(_, JoinRefusal::UsedUp)));
}

#[test]
fn two_that_join_each_other_and_one_that_was_asked_before_end_with_one_secret() {
    let (mut a, mut b) = (Owner::new(1), Owner::new(2));
    let (of_a, of_b) = (a.invite(1, HOUR_S), b.invite(1, HOUR_S));
    let (from_a, from_b) = (a.join(NOW, &of_b), b.join(NOW, &of_a));
    let (at_a, at_b) = (a.receive_join(NOW, &from_b), b.receive_join(NOW, &from_a));
    let answers = [(at_a.1, 1), (at_b.1, 0)];
    for (answer, to) in answers {
        let to = if to == 0 { &mut a } else { &mut b };
        answer.iter().for_each(|answer| drop(to.receive(answer)));
    }
    assert_eq!(a.book.pin(&b.key()).expect("pinned").secret, b.book.pin(&a.key()).expect("pinned").secret);

    // The inviter has asked the joiner before, and its letter arrives late.
    let (mut a, mut b) = (Owner::new(1), Owner::new(2));
    let request = a.request(&b);
    let code = a.invite(1, HOUR_S);
    assert_eq!(b.joins(&mut a, &code), Outcome::Pinned(a.key()));
    assert!(matches!(b.receive(&request), Outcome::Discarded(_)));
    assert_eq!(a.book.pin(&b.key()).expect("pinned").secret, b.book.pin(&a.key()).expect("pinned").secret);
}

#[test]
fn a_node_joins_neither_itself_nor_a_peer_nor_without_the_seal() {
    let (mut a, mut b) = (Owner::new(1), Owner::new(2));
    let code = a.invite(2, HOUR_S);
    let refused = |o: &mut Owner| o.at(NOW, |book, me, rng| book.join(me, &code, &Terms::default(), rng)).err();
    assert_eq!(refused(&mut a), Some(TrustError::Oneself));
    assert_eq!(b.joins(&mut a, &code), Outcome::Pinned(a.key()));
    assert_eq!(refused(&mut b), Some(TrustError::AlreadyTrusted));
    // The bare message, as a letter that was sealed to the static key has it.
    let mut c = Owner::new(3);
    let datagram = c.join(NOW, &code);
    let message = a.at(NOW, |book, me, _| book.open_join(me, &datagram)).expect("a right code").1;
    assert_eq!(a.receive(&message), Outcome::Discarded(Discarded::Unsolicited));
    assert!(parse_answer(&datagram).is_none());
}

#[test]
fn the_book_keeps_invites_and_joins() {
    let (mut a, mut b) = (Owner::new(1), Owner::new(2));
    a.book.count_time(5, NOW);
    let code = a.invite(7, HOUR_S);
    let bytes = a.book.emit();
    let read = TrustBook::parse(&bytes).expect("own form");
    assert_eq!(read.emit(), bytes);
    assert_eq!(read.invites().collect::<Vec<_>>(), a.book.invites().collect::<Vec<_>>());
    for len in 0..bytes.len() {
        assert!(TrustBook::parse(&bytes[..len]).is_err(), "{len} bytes are no book");
    }
    let datagram = b.join(NOW, &code);
    b.book = TrustBook::parse(&b.book.emit()).expect("own form");
    assert!(b.book.is_joining(&a.key()));
    let answer = a.receive_join(NOW, &datagram).1.expect("an accept");
    assert_eq!(b.receive(&answer), Outcome::Pinned(a.key()));
    assert!(b.book.pin(&a.key()).is_some_and(|pin| pin.verified));
}
