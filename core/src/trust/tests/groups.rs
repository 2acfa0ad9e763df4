//! Groups in the trust book.

use super::*;
use crate::group::{Credentials, GROUPS_MAX, GroupId, Refusal, Role, Row, Signer, Statement};
use crate::trust::groups::News;
use crate::trust::message::{Kind, Message};
use crate::trust::{Discarded, GroupError, Joined, Membership};

impl Owner {
    fn found(&mut self, name: &str) -> Result<GroupId, GroupError> {
        self.at(NOW, |b, me, rng| b.create_group(me, name, Ports::one(80), rng))
    }
}

#[test]
fn groups_have_a_maximum_and_walk_back_to_none() {
    let mut a = Owner::new(1);
    let ids: Vec<_> = (0..GROUPS_MAX).map(|n| a.found(&format!("fleet-{n}")).expect("room")).collect();
    assert_eq!(a.found("one-more"), Err(GroupError::Full));
    let read = TrustBook::parse(&a.book.emit()).expect("own form");
    assert_eq!((read.groups().count(), read.emit()), (GROUPS_MAX, a.book.emit()));
    for id in &ids {
        a.at(NOW, |b, me, _| b.leave_group(me, id)).expect("its own");
    }
    assert_eq!(a.book.groups().count(), 0);
    assert!(a.found("fleet-0").is_ok());
    assert_eq!(a.found("fleet-0"), Err(GroupError::NameTaken));
    assert_eq!(a.found("no name"), Err(GroupError::BadName));
}

#[test]
fn a_statement_is_renewed_once_a_day_and_the_group_key_renews_its_own_node() {
    let mut a = Owner::new(1);
    let id = a.found("fleet").expect("room");
    let own = a.key();
    let renew = |a: &mut Owner, now| a.at(now, |b, me, _| b.renew_member(me, &id, &own)).map(|rows| rows.len());
    assert_eq!(renew(&mut a, NOW + 3600), Err(GroupError::TooSoon));
    assert_eq!(renew(&mut a, NOW + 24 * 3600), Ok(1));
    let end = |a: &Owner, now| {
        let group = a.book.groups().next().expect("its own");
        group.roster.judge(now).standing(&own).map(|row| row.not_after)
    };
    let before = end(&a, NOW);
    let late = NOW + 300 * 24 * 3600;
    a.at(late, |b, me, rng| b.settle_groups(me, rng));
    assert!(end(&a, late).expect("an admin") > before.expect("an admin"));
}

#[test]
fn a_clock_that_is_set_back_brings_no_membership_back() {
    let mut a = Owner::new(1);
    let id = a.found("fleet").expect("room");
    a.book.count_time(0, NOW);
    a.book.count_time(400 * 24 * 3600, NOW);
    let later = a.book.group_time(NOW);
    assert_eq!(later, NOW + 400 * 24 * 3600);
    assert_eq!(a.book.groups().next().expect("its own").roster.id(), id);
}

#[test]
fn only_the_group_key_makes_admins_and_only_the_founder_another_key() {
    let (mut a, mut b) = (Owner::new(1), Owner::new(2));
    let id = a.found("fleet").expect("room");
    assert_eq!(b.at(NOW, |book, me, rng| book.rekey_group(me, &id, &[], rng)), Err(GroupError::Unknown));
    let key = a.key();
    assert!(a.at(NOW, |book, me, rng| book.rekey_group(me, &id, &[], rng)).is_ok());
    let group = a.book.groups().next().expect("its own");
    assert_eq!(group.roster.judge(NOW).standing(&key).map(|row| row.role), Ok(Role::Admin));
    assert_ne!(group.roster.key(), group.roster.group().key);
}

#[test]
fn a_key_that_was_kept_makes_an_admin_of_a_member_while_it_is_the_group_s() {
    let (mut a, mut b) = (Owner::new(1), Owner::new(2));
    let id = a.found("fleet").expect("room");
    let group = |owner: &Owner| owner.book.groups().next().expect("its group").roster.group().clone();
    let key = |owner: &Owner| owner.book.groups().next().and_then(Membership::key_seed).copied();
    let record = b.public_record();
    let row = a.at(NOW, |book, me, _| book.issue(me, &id, &record, Role::Member)).expect("an admin");
    let rows = [a.book.groups().next().expect("its own").roster.rows().collect::<Vec<_>>(), vec![row]].concat();
    let kept = key(&a).expect("the founder has it");
    let import = |owner: &mut Owner, seed: &[u8; 32]| {
        owner.at(NOW, |book, me, _| book.import_group_key(me, &id, seed)).map(|rows| rows.len())
    };
    assert_eq!(import(&mut b, &kept), Err(GroupError::Unknown));
    b.at(NOW, |book, me, _| book.enter_group(me, group(&a), &rows, Ports::NONE)).expect("a member");
    assert_eq!(import(&mut b, &[7; 32]), Err(GroupError::WrongKey));
    assert_eq!((import(&mut b, &kept), import(&mut b, &kept)), (Ok(1), Ok(0)), "once an admin, always one");
    let own = b.key();
    let judged = b.book.groups().next().expect("its group").roster.judge(NOW).standing(&own).map(|row| row.role);
    assert_eq!(judged, Ok(Role::Admin));

    // The founder makes another key: the kept one is worth nothing any more, here and in the safe.
    let told = a.at(NOW, |book, me, rng| book.rekey_group(me, &id, &[own], rng)).expect("the founder");
    let from = a.key();
    b.at(NOW, |book, me, _| book.take_rows(me, &from, &id, &told, false, &mut News::default()));
    assert_eq!((key(&b), import(&mut b, &kept)), (None, Err(GroupError::WrongKey)));
}

/// Neither the second nor a clock that was ahead when the role before was given decides: what was said last counts.
#[test]
fn a_role_that_is_given_last_counts_also_within_one_second() {
    let (mut a, b) = (Owner::new(1), Owner::new(2));
    let id = a.found("fleet").expect("room");
    let record = b.public_record();
    a.at(NOW, |book, me, _| book.issue(me, &id, &record, Role::Member)).expect("an admin");
    let key = b.key();
    for (now, role) in (0..10).flat_map(|_| [(NOW + 3600, Role::Admin), (NOW, Role::Member)]) {
        let rows = a.at(now, |book, me, _| book.set_role(me, &id, &key, role)).expect("it has the key");
        assert_eq!(rows.len(), 1);
        let group = a.book.groups().next().expect("its own");
        assert_eq!(group.roster.judge(NOW).standing(&key).map(|row| row.role), Ok(role));
    }
}

/// A stranger proves its membership of another group, or with rows that it has signed itself in the name of an admin; and it has heard of
/// true ones, which are about others. None of that gets so much as an answer.
#[test]
fn a_stranger_is_no_member_by_what_it_signs_or_has_heard() {
    let (mut a, mut stranger) = (Owner::new(1), Owner::new(9));
    let id = a.found("fleet").expect("room");
    let own = stranger.found("fleet").expect("room");
    let known: Vec<Row> = a.book.groups().next().expect("its own").roster.rows().collect();
    let statement = |row: &Row| match row {
        Row::Statement(row) => row.clone(),
        other => panic!("no statement: {other:?}"),
    };
    let forged = Statement {
        identity: stranger.key(),
        static_key: stranger.identity.static_key(),
        role: Role::Member,
        signer: Signer::Admin(a.key()),
        ..statement(&known[0])
    };
    let forged = Row::Statement(forged).sign(&id, &stranger.identity);
    let other_group: Vec<Row> = stranger.book.groups().next().expect("its own").roster.rows().collect();
    for (group, rows) in [
        (own, other_group.clone()),
        (id, other_group),
        (id, known.clone()),
        (id, vec![forged.clone()]),
        (id, [known, vec![forged]].concat()),
    ] {
        let mut membership = Vec::new();
        Credentials { group, rows }.emit(&mut membership);
        let to = a.key();
        let message = stranger.at(NOW, |book, me, rng| {
            Message { membership, ..book.message(me, Kind::Meet, to, [0; 32], "", rng) }.emit(me.identity)
        });
        let Joined { outcome, answer } = a.at(NOW, |book, me, rng| book.receive_meet(me, &message, rng));
        assert_eq!((outcome, answer), (Outcome::Discarded(Discarded::NotAMember), None));
        assert_eq!(a.book.pins().count() + a.book.pending().count(), 0);
    }
    let rows = a.book.groups().next().expect("its own").roster.rows().count();
    assert_eq!(rows, 1, "nothing of it is kept");
}

/// What a former admin has decided stays: the members that it has let in, and its removals.
#[test]
fn an_admin_that_becomes_a_member_takes_no_member_with_it_and_brings_none_back() {
    let [mut a, mut b, c, d] = [1, 2, 3, 4].map(Owner::new);
    let id = a.found("fleet").expect("room");
    let (of_b, of_c, of_d) = (b.public_record(), c.public_record(), d.public_record());
    let group = |owner: &Owner| owner.book.groups().next().expect("its group").roster.clone();
    a.at(NOW, |book, me, _| book.issue(me, &id, &of_b, Role::Member)).expect("an admin");
    a.at(NOW, |book, me, _| book.issue(me, &id, &of_d, Role::Member)).expect("an admin");
    a.at(NOW, |book, me, _| book.set_role(me, &id, &of_b.identity, Role::Admin)).expect("it has the key");
    let rows: Vec<Row> = group(&a).rows().collect();
    b.at(NOW, |book, me, _| book.enter_group(me, group(&a).group().clone(), &rows, Ports::NONE)).expect("an admin");
    let let_in = b.at(NOW, |book, me, _| book.issue(me, &id, &of_c, Role::Member)).expect("an admin");
    let removed = b.at(NOW, |book, me, _| book.remove_member(me, &id, &of_d.identity)).expect("an admin");
    let told = [vec![let_in], removed].concat();
    a.at(NOW, |book, me, _| book.take_rows(me, &of_b.identity, &id, &told, false, &mut News::default()));

    let told = a.at(NOW, |book, me, _| book.set_role(me, &id, &of_b.identity, Role::Member)).expect("it has the key");
    let from = a.key();
    b.at(NOW, |book, me, _| book.take_rows(me, &from, &id, &told, false, &mut News::default()));
    for roster in [group(&a), group(&b)] {
        let judge = roster.judge(NOW);
        let role = |of: &NodeRecord| judge.standing(&of.identity).map(|row| row.role);
        assert_eq!((role(&of_b), role(&of_c)), (Ok(Role::Member), Ok(Role::Member)));
        assert_eq!(role(&of_d).err(), Some(Refusal::Removed));
    }
}
