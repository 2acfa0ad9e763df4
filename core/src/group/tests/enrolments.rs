//! Enrolments in a roster.

use super::*;

/// The keys of the enrolment with this number.
fn keys(n: u8) -> Identity {
    EnrolmentSeed::new([n; EnrolmentSeed::LEN]).identity()
}

fn with(n: u8, uses: u16, not_after: u32, epoch: u32) -> Row {
    let row = Enrolment { key: keys(n).public(), uses, issued: NOW as u32, not_after, epoch, signature: [0; 64] };
    Row::Enrolment(row).sign(&group().id(), &node(200))
}

/// For two nodes and seven days.
pub(super) fn enrolment(n: u8, epoch: u32) -> Row {
    with(n, 2, NOW as u32 + 7 * DAY, epoch)
}

fn own(n: u8, by: u8, epoch: u32) -> Statement {
    let signer = Signer::Enrolment(keys(by).public());
    Statement { signer, not_after: NOW as u32 + 7 * DAY, ..statement(&node(n), Role::Member, None, epoch) }
}

/// The node's own statement.
pub(super) fn enrolled(n: u8, by: u8, epoch: u32) -> Row {
    sign(own(n, by, epoch), &keys(by))
}

pub(super) fn withdrawal(of: u8, by: u8, epoch: u32) -> Row {
    let (member, signer, until) = (keys(of).public(), Some(node(by).public()), NOW as u32 + 7 * DAY);
    let row = Removal { member, is_enrolment: true, epoch, until, signer, signature: [0; 64] };
    Row::Removal(row).sign(&group().id(), &node(by))
}

fn usage(roster: &Roster) -> Vec<(u16, usize)> {
    roster.judge(NOW).enrolments().map(|usage| (usage.enrolment.uses, usage.used)).collect()
}

fn adoptable(roster: &Roster) -> Vec<IdentityKey> {
    roster.judge(NOW).adoptable().iter().map(|row| row.identity).collect()
}

#[test]
fn the_holder_of_a_code_is_a_member_by_its_own_word_and_no_more_than_that() {
    let mut roster = roster(&[admin(1, 1), enrolment(50, 1), enrolled(2, 50, 1)]);
    assert_eq!(standing(&roster, 2), Ok(()));
    assert!(!roster.judge(NOW).is_admin(&node(2).public()));
    // A node that has enrolled signs nothing: a chain has two links.
    assert_eq!(roster.insert(&member(3, 2), NOW), Err(Refusal::NotAnAdmin));
    let third = sign(Statement { signer: Signer::Enrolment(node(2).public()), ..own(3, 50, 1) }, &node(2));
    assert_eq!(roster.insert(&third, NOW), Err(Refusal::NotEnrolled));
    let by_member = Row::Enrolment(Enrolment { key: keys(51).public(), ..row_of(&enrolment(50, 1)) });
    assert_eq!(roster.insert(&by_member.clone().sign(&group().id(), &node(2)), NOW), Err(Refusal::Signature));
    assert_eq!(
        roster.insert(&by_member.sign(&group().id(), &node(1)), NOW),
        Err(Refusal::Signature),
        "an admin makes none"
    );
    // Nor is it an admin, nor a member for longer than the enrolment, nor since before it, nor beyond a removal.
    let (now, end) = (NOW as u32, NOW as u32 + 7 * DAY);
    for bad in [
        Statement { role: Role::Admin, ..own(3, 50, 1) },
        Statement { not_after: end + 1, ..own(3, 50, 1) },
        Statement { since: now - 1, ..own(3, 50, 1) },
        Statement { issued: end, ..own(3, 50, 1) },
        own(3, 50, 2),
        own(3, 50, 0),
    ] {
        assert_eq!(roster.insert(&sign(bad.clone(), &keys(50)), NOW), Err(Refusal::NotEnrolled), "{bad:?}");
    }
    assert_eq!(roster.insert(&sign(own(3, 50, 1), &keys(51)), NOW), Err(Refusal::Signature));
    let other = Row::Statement(own(3, 50, 1)).sign(&GroupId([7; 16]), &keys(50));
    assert_eq!(roster.insert(&other, NOW), Err(Refusal::Signature), "of another group");
    let bytes = sign(Statement { role: Role::Admin, ..own(3, 50, 1) }, &keys(50)).emit();
    assert_eq!(Row::parse(&bytes), Err(Malformed), "an enrolled admin has no form");
}

fn row_of(row: &Row) -> Enrolment {
    let Row::Enrolment(enrolment) = row else { panic!("an enrolment") };
    enrolment.clone()
}

#[test]
fn an_enrolment_ends_with_all_that_it_has_signed_and_a_clock_that_is_set_back_gains_nothing() {
    let mut roster = roster(&[admin(1, 1), enrolment(50, 1), enrolled(2, 50, 1)]);
    let end = NOW + 7 * u64::from(DAY);
    let at = |roster: &Roster, now| roster.judge(now).standing(&node(2).public()).map(drop);
    assert_eq!((at(&roster, end - 1), at(&roster, end)), (Ok(()), Err(Refusal::Ended)));
    let mut other = roster.clone();
    assert_eq!(other.insert(&enrolled(3, 50, 1), end), Ok(true), "what has ended just now is known to all members");
    assert_eq!(other.judge(end).standing(&node(3).public()).map(drop), Err(Refusal::Ended));
    assert_eq!(roster.insert(&enrolled(3, 50, 1), end + u64::from(DAY)), Err(Refusal::Ended));
    assert!(roster.prune(end + u64::from(DAY)));
    assert_eq!(roster.rows().count(), 1, "the admin alone");
    assert_eq!(roster.insert(&enrolment(50, 1), end + u64::from(DAY)), Err(Refusal::Ended));
}

#[test]
fn an_enrolment_that_is_withdrawn_takes_along_whom_no_admin_has_signed() {
    let mut roster = roster(&[admin(1, 1), enrolment(50, 1), enrolment(51, 1)]);
    for row in [enrolled(2, 50, 1), enrolled(3, 50, 1), enrolled(4, 51, 1), member(3, 1)] {
        assert_eq!(roster.insert(&row, NOW), Ok(true));
    }
    let own_word = Row::Removal(Removal { signer: Some(keys(50).public()), ..removal_of(&withdrawal(50, 1, 1)) });
    assert_eq!(roster.insert(&own_word.sign(&group().id(), &keys(50)), NOW), Err(Refusal::NotAnAdmin));
    assert_eq!(roster.insert(&withdrawal(50, 2, 1), NOW), Err(Refusal::NotAnAdmin));
    let (epoch, before) = (roster.epoch(), roster.digest());
    assert_eq!(roster.insert(&withdrawal(50, 1, 1), NOW), Ok(true));
    assert_ne!(roster.digest(), before);
    assert_eq!(roster.epoch(), epoch, "other codes go on");
    let now = (standing(&roster, 2), standing(&roster, 3), standing(&roster, 4));
    assert_eq!(now, (Err(Refusal::Unknown), Ok(()), Ok(())));
    assert_eq!(roster.insert(&enrolment(50, 1), NOW), Err(Refusal::Withdrawn));
    assert_eq!(roster.insert(&enrolled(5, 50, 1), NOW), Err(Refusal::NotEnrolled));
    assert_eq!(roster.insert(&enrolled(5, 51, 1), NOW), Ok(true));
}

fn removal_of(row: &Row) -> Removal {
    let Row::Removal(removal) = row else { panic!("a removal") };
    removal.clone()
}

#[test]
fn a_removal_of_a_member_voids_all_enrolments_and_who_has_left_does_not_come_back_by_the_same_one() {
    let mut roster = roster(&[admin(1, 1), member(2, 1), enrolment(50, 1), enrolled(3, 50, 1), enrolled(4, 50, 1)]);
    assert_eq!(roster.next_epoch(&node(3).public()), 1);
    assert_eq!(roster.insert(&removal(3, 3, 1), NOW), Ok(true), "it leaves");
    assert_eq!((standing(&roster, 3), standing(&roster, 4)), (Err(Refusal::Removed), Ok(())));
    assert_eq!(roster.insert(&enrolled(3, 50, 1), NOW), Err(Refusal::Removed));
    assert_eq!(roster.insert(&removal(2, 1, 1), NOW), Ok(true));
    assert_eq!(standing(&roster, 4), Err(Refusal::Unknown));
    assert_eq!(roster.insert(&enrolment(50, 1), NOW), Err(Refusal::Withdrawn));
    assert_eq!(roster.insert(&enrolment(52, 2), NOW), Ok(true), "a new one counts");
    assert_eq!(roster.next_epoch(&node(3).public()), 2);
}

#[test]
fn another_group_key_voids_the_enrolments_of_the_first_one() {
    let mut roster = roster(&[admin(1, 1), enrolment(50, 1), enrolled(2, 50, 1)]);
    let key = Row::Key(KeyRow { number: 1, key: node(201).public(), signature: [0; 64] }).sign(&group().id(), &node(1));
    assert_eq!(roster.insert(&key, NOW), Ok(true));
    assert_eq!(standing(&roster, 2), Err(Refusal::NotEnrolled));
    assert!(roster.prune(NOW));
    assert_eq!(roster.rows().count(), 1, "the key alone");
    assert_eq!(roster.insert(&enrolment(50, 1), NOW), Err(Refusal::Signature));
}

#[test]
fn an_admin_takes_over_as_many_as_an_enrolment_has_uses_and_more_are_told() {
    let mut roster = roster(&[admin(1, 1), enrolment(50, 1)]);
    let at = |n: u8, later: u32| {
        let issued = NOW as u32 + later;
        sign(Statement { since: issued, issued, ..own(n, 50, 1) }, &keys(50))
    };
    for row in [at(2, 9), at(3, 5), at(4, 5)] {
        assert_eq!(roster.insert(&row, NOW), Ok(true));
    }
    let mut first = [node(3).public(), node(4).public()];
    first.sort();
    assert_eq!((usage(&roster), adoptable(&roster)), (vec![(2, 3)], first.to_vec()));
    assert!(roster.judge(NOW).enrolments().all(|usage| usage.is_over_used()));
    assert_eq!(roster.insert(&member(2, 1), NOW), Ok(true), "the owner lets the last one in");
    assert_eq!(adoptable(&roster).len(), 1, "of two uses one is taken");
    assert_eq!(roster.insert(&member(3, 1), NOW), Ok(true));
    assert_eq!((usage(&roster), adoptable(&roster)), (vec![(2, 3)], vec![]));
    assert_eq!(standing(&roster, 4), Ok(()), "until the enrolment ends");
}

#[test]
fn a_name_is_that_of_whom_an_admin_has_signed_then_of_the_older_then_of_the_smaller_key() {
    let mut roster = roster(&[admin(1, 1), enrolment(50, 1)]);
    let named = |roster: &Roster| roster.judge(NOW).named("worker").map(|row| row.identity);
    let late = sign(Statement { since: NOW as u32 + 5, issued: NOW as u32 + 5, ..own(2, 50, 1) }, &keys(50));
    assert_eq!(roster.insert(&late, NOW), Ok(true));
    assert_eq!(named(&roster), Some(node(1).public()), "the admin has the name");
    let mut roster = super::roster(&[sign(
        Statement { name: "founder".into(), ..statement(&node(1), Role::Admin, None, 1) },
        &node(200),
    )]);
    assert_eq!(roster.insert(&enrolment(50, 1), NOW), Ok(true));
    for row in [late, enrolled(3, 50, 1), enrolled(4, 50, 1)] {
        assert_eq!(roster.insert(&row, NOW), Ok(true));
    }
    assert_eq!(named(&roster), Some(node(3).public().min(node(4).public())));
    let signed = Statement { since: NOW as u32 + 99, ..statement(&node(5), Role::Member, Some(&node(1)), 1) };
    assert_eq!(roster.insert(&sign(signed, &node(1)), NOW), Ok(true));
    assert_eq!(named(&roster), Some(node(5).public()), "what an admin has signed comes first");
}

#[test]
fn rosters_that_have_heard_the_same_rows_judge_alike_in_whatever_order_they_came() {
    let rows =
        [admin(1, 5), enrolment(50, 1), enrolled(2, 50, 1), enrolled(3, 50, 1), member(3, 1), withdrawal(50, 1, 1)];
    let mut digests = Vec::new();
    for first in 0..rows.len() {
        for second in 0..rows.len() {
            let mut order: Vec<usize> = (0..rows.len()).rev().collect();
            order.swap(0, first);
            order.swap(1, second);
            let mut roster = Roster::new(group());
            // As over several meetings: what is refused for lack of another row comes again.
            for _ in 0..3 {
                order.iter().for_each(|i| _ = roster.insert(&rows[*i], NOW));
            }
            assert_eq!((standing(&roster, 2).is_err(), standing(&roster, 3)), (true, Ok(())));
            digests.push(roster.digest());
        }
    }
    assert!(digests.iter().all(|digest| *digest == digests[0]));
}

#[test]
fn credentials_of_an_enrolled_member_convince_a_member_that_has_not_heard_of_the_enrolment() {
    let roster = roster(&[admin(1, 1), enrolment(50, 1), enrolled(2, 50, 1)]);
    let rows = roster.judge(NOW).credentials(&node(2).public()).expect("a member");
    let mut bytes = Vec::new();
    Credentials { group: roster.id(), rows }.emit(&mut bytes);
    let read = Credentials::parse(&mut Reader::new(&bytes)).expect("own form");
    let mut other = super::roster(&[admin(1, 1)]);
    read.rows.iter().for_each(|row| assert_eq!(other.insert(row, NOW), Ok(true)));
    assert_eq!(standing(&other, 2), Ok(()));
    let mut bytes = Vec::new();
    other.emit(&mut bytes);
    let read = Roster::parse(&mut Reader::new(&bytes)).expect("own form");
    assert_eq!((read.digest(), standing(&read, 2)), (other.digest(), Ok(())));
}

#[test]
fn enrolments_and_what_one_signs_have_maxima() {
    let mut roster = roster(&[admin(1, 1)]);
    for n in 0..ENROLMENTS_MAX as u8 {
        assert_eq!(roster.insert(&enrolment(50 + n, 1), NOW), Ok(true));
    }
    assert_eq!(roster.insert(&enrolment(99, 1), NOW), Err(Refusal::Full));
    assert_eq!(roster.insert(&withdrawal(51, 1, 1), NOW), Ok(true));
    assert_eq!(roster.insert(&enrolment(99, 1), NOW), Ok(true), "in the place of one that was withdrawn");
    let one = |n: u32| {
        let mut row = own(2, 50, 1);
        row.identity.0[..4].copy_from_slice(&n.to_le_bytes());
        sign(row, &keys(50))
    };
    for n in 0..(2 + OVER_USES_MAX) as u32 {
        assert_eq!(roster.insert(&one(n), NOW), Ok(true));
    }
    assert_eq!(roster.insert(&one(9_999), NOW), Err(Refusal::Full), "a code that leaked fills no roster");
    assert_eq!(roster.judge(NOW).members().count(), 1 + 2 + OVER_USES_MAX);
    let (now, most) = (NOW as u32, ENROLMENT_TERM_MAX_S);
    assert!(Row::parse(&with(60, ENROLMENT_USES_MAX, now + most, 1).emit()).is_ok());
    for bad in [
        with(60, 0, now + 1, 1),
        with(60, ENROLMENT_USES_MAX + 1, now + 1, 1),
        with(60, 1, now + most + 1, 1),
        with(60, 1, now, 1),
    ] {
        assert_eq!(Row::parse(&bad.emit()), Err(Malformed), "{bad:?}");
    }
}
