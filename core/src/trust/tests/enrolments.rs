//! Enrolments in the trust book.

use super::*;
use crate::group::{Enrolment, GroupId, Refusal, Role, Row, Statement};
use crate::invite::{EnrolmentCode, Rendezvous};
use crate::trust::GroupError;
use crate::trust::groups::News;

const DAY_S: u64 = 24 * 3600;

impl Owner {
    fn named(n: u8, hostname: &str) -> Self {
        let mut owner = Self::new(n);
        let profile = Profile { hostname: hostname.into(), ..Profile::default() };
        owner.record = NodeRecord::sign(&owner.identity, Addr::new(0, n.into()), &profile, 1).emit();
        owner
    }

    fn founds(&mut self) -> GroupId {
        self.at(NOW, |b, me, rng| b.create_group(me, "fleet", Ports::one(80), rng)).expect("room")
    }

    fn code(&mut self, id: &GroupId, uses: u16) -> Result<EnrolmentCode, GroupError> {
        let (enrolment, seed, _) = self.at(NOW, |b, me, rng| b.enrolment(me, id, (uses, 7 * DAY_S), rng))?;
        let group = self.book.group("fleet").expect("its group").roster.group().clone();
        let (contacts, rendezvous) = (vec![self.key()], Some(Rendezvous::same(&StaticKey([1; 32]))));
        Ok(EnrolmentCode { group, key_row: None, seed, enrolment, contacts, candidates: vec![], rendezvous })
    }

    fn enrol(&mut self, code: &EnrolmentCode) -> Result<GroupId, GroupError> {
        self.at(NOW, |b, me, _| b.enrol(me, code, Ports::one(22)))
    }

    /// What this member tells of a node, in the ears of another one.
    fn tells(&self, id: &GroupId, other: &mut Self, of: &IdentityKey) {
        let rows = self.book.group("fleet").expect("its group").roster.judge(NOW).credentials(of).expect("a member");
        let from = self.key();
        other.at(NOW, |b, me, _| b.take_rows(me, &from, id, &rows, true, &mut News::default()));
    }

    fn names(&self) -> Vec<(IdentityKey, String)> {
        let judge = self.book.group("fleet").expect("its group").roster.judge(NOW);
        judge.members().map(|row| (row.identity, row.name.clone())).collect()
    }

    fn over_used(&mut self) -> usize {
        self.at(NOW, |b, me, _| b.over_used(me)).len()
    }
}

#[test]
fn the_group_key_alone_makes_enrolments_and_a_member_withdraws_none() {
    let (mut a, mut b) = (Owner::new(1), Owner::new(2));
    let id = a.founds();
    for terms in [(0, DAY_S), (1, 0), (1001, DAY_S), (1, 31 * DAY_S)] {
        let made = a.at(NOW, |book, me, rng| book.enrolment(me, &id, terms, rng).map(drop));
        assert_eq!(made, Err(GroupError::OutOfRange), "{terms:?}");
    }
    let code = a.code(&id, 2).expect("its key is there");
    assert_eq!(b.code(&id, 2).err(), Some(GroupError::Unknown));
    assert_eq!(b.enrol(&code), Ok(id));
    assert_eq!(b.code(&id, 2).err(), Some(GroupError::NoKey), "a chain has two links");
    let number = code.enrolment.number();
    let withdraw = |owner: &mut Owner| owner.at(NOW, |book, me, _| book.withdraw_enrolment(me, number).map(drop));
    assert_eq!((withdraw(&mut b), withdraw(&mut a)), (Err(GroupError::NotAnAdmin), Ok(())));
    assert_eq!(withdraw(&mut a), Err(GroupError::Unknown), "it is gone");
}

#[test]
fn a_code_that_is_damaged_or_over_or_of_a_taken_name_leaves_no_group_behind() {
    let (mut a, mut b) = (Owner::new(1), Owner::new(2));
    let id = a.founds();
    let code = a.code(&id, 1).expect("its key is there");
    let enrolment = Enrolment { uses: 9, ..code.enrolment.clone() };
    let damaged = EnrolmentCode { enrolment, ..code.clone() };
    assert_eq!(b.enrol(&damaged), Err(GroupError::NotAMember(Refusal::Signature)));
    let late = NOW + 7 * DAY_S;
    assert_eq!(b.at(late, |book, me, _| book.enrol(me, &code, Ports::NONE)), Err(GroupError::CodeEnded));
    assert_eq!(b.book.groups().count(), 0);
    b.founds();
    assert_eq!(b.enrol(&code), Err(GroupError::NameTaken));
    assert_eq!(b.book.groups().count(), 1);
}

#[test]
fn a_clock_that_is_behind_makes_no_membership_older_than_its_code() {
    let (mut a, mut b) = (Owner::new(1), Owner::new(2));
    let id = a.founds();
    let code = a.code(&id, 1).expect("its key is there");
    assert_eq!(b.at(NOW - DAY_S, |book, me, _| book.enrol(me, &code, Ports::NONE)), Ok(id));
    let own = b.key();
    b.tells(&id, &mut a, &own);
    let judge = a.book.group("fleet").expect("its group").roster.judge(NOW);
    assert_eq!(judge.standing(&own).map(|row| u64::from(row.since)), Ok(NOW));
}

/// Two nodes of one hostname come by different members: all members call the same one by the name, and an admin settles it.
#[test]
fn of_two_that_enrol_under_one_name_one_has_it_and_an_admin_gives_the_other_another() {
    let mut a = Owner::named(1, "founder");
    let (mut b, mut c) = (Owner::named(2, "worker"), Owner::named(3, "worker"));
    let id = a.founds();
    let code = a.code(&id, 2).expect("its key is there");
    assert_eq!((b.enrol(&code), c.enrol(&code)), (Ok(id), Ok(id)));
    let (of_b, of_c) = (b.key(), c.key());
    b.tells(&id, &mut c, &of_b);
    c.tells(&id, &mut b, &of_c);
    let first = of_b.min(of_c);
    for owner in [&b, &c] {
        let named = owner.book.member_named("worker.fleet", NOW).map(|(_, row)| row.identity);
        assert_eq!(named, Some(first), "they are equally old");
    }
    for owner in [&c, &b] {
        owner.tells(&id, &mut a, &owner.key());
    }
    let adopted = a.at(NOW, |book, me, _| book.adopt(me));
    assert_eq!(adopted.len(), 2);
    assert!(a.at(NOW, |book, me, _| book.adopt(me)).is_empty(), "once each");
    let name = |key| a.names().into_iter().find(|(of, _)| *of == key).map(|(_, name)| name);
    assert_eq!(name(first).as_deref(), Some("worker"));
    assert_eq!(name(of_b.max(of_c)).as_deref(), Some("worker-2"));
}

#[test]
fn over_use_is_told_once_in_a_run_and_those_beyond_are_not_renewed_by_themselves() {
    let mut a = Owner::new(1);
    let id = a.founds();
    let code = a.code(&id, 1).expect("its key is there");
    let mut joiners: Vec<Owner> = (2..4).map(Owner::new).collect();
    for joiner in &mut joiners {
        assert_eq!(joiner.enrol(&code), Ok(id));
        let own = joiner.key();
        joiner.tells(&id, &mut a, &own);
    }
    assert_eq!((a.over_used(), a.over_used()), (1, 0));
    assert_eq!(a.at(NOW, |book, me, _| book.adopt(me)).len(), 1);
    let judged = |a: &Owner, key: &IdentityKey| {
        a.book.group("fleet").expect("its group").roster.judge(NOW).standing(key).map(Statement::is_enrolled)
    };
    let beyond = joiners.iter().map(Owner::key).find(|key| judged(&a, key) == Ok(true)).expect("one of the two");
    // The owner may let it in all the same.
    let rows = a.at(NOW, |book, me, _| book.renew_member(me, &id, &beyond)).expect("an admin");
    assert!(matches!(&rows[..], [Row::Statement(row)] if row.role == Role::Member));
    assert_eq!(judged(&a, &beyond), Ok(false));
}

#[test]
fn a_book_with_enrolments_survives_the_disk() {
    let (mut a, mut b) = (Owner::new(1), Owner::new(2));
    let id = a.founds();
    let code = a.code(&id, 1).expect("its key is there");
    assert_eq!(b.enrol(&code), Ok(id));
    let (to, mut read) = (a.key(), TrustBook::parse(&b.book.emit()).expect("own form"));
    assert_eq!(read.emit(), b.book.emit());
    std::mem::swap(&mut read, &mut b.book);
    let asked = b.at(NOW, |book, me, rng| book.ask_contact(me, &id, &to, rng)).expect("a member");
    let read = TrustBook::parse(&b.book.emit()).expect("own form");
    assert!(read.is_joining(&to));
    let joined = a.at(NOW, |book, me, rng| book.receive_join(me, &asked, rng));
    assert_eq!(joined.outcome, Outcome::Pinned(b.key()));
    let (_, _, answer) = joined.answer.expect("a welcome");
    assert_eq!(b.receive(&answer), Outcome::Pinned(to));
    assert_eq!(b.book.pin(&to).map(|pin| pin.by_hand), Some(false));
}
