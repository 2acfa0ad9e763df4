use super::*;
use crate::addr::Addr;
use crate::identity::Identity;
use alloc::format;
use alloc::string::{String, ToString as _};
use alloc::vec;

mod enrolments;

const NOW: u64 = 1_800_000_000;
const DAY: u32 = 24 * 3600;

fn node(n: u8) -> Identity {
    Identity::from_seed([n; 32])
}

/// The group key is that of node 200, the founder node 1.
fn group() -> Group {
    Group { name: "fleet".into(), key: node(200).public(), founder: node(1).public() }
}

fn statement(of: &Identity, role: Role, signer: Option<&Identity>, epoch: u32) -> Statement {
    let now = NOW as u32;
    Statement {
        identity: of.public(),
        static_key: of.static_key(),
        addr: Addr::new(0, 7),
        name: "worker".into(),
        role,
        since: now,
        issued: now,
        not_after: now + 30 * DAY,
        epoch,
        signer: signer.map_or(Signer::GroupKey, |by| Signer::Admin(by.public())),
        signature: [0; 64],
    }
}

fn sign(row: Statement, by: &Identity) -> Row {
    Row::Statement(row).sign(&group().id(), by)
}

fn admin(n: u8, since: u32) -> Row {
    sign(Statement { since, ..statement(&node(n), Role::Admin, None, 1) }, &node(200))
}

fn member(n: u8, by: u8) -> Row {
    sign(statement(&node(n), Role::Member, Some(&node(by)), 1), &node(by))
}

fn removal(of: u8, by: u8, epoch: u32) -> Row {
    let (member, signer) = (node(of).public(), Some(node(by).public()));
    let row = Removal { member, is_enrolment: false, epoch, until: NOW as u32 + 30 * DAY, signer, signature: [0; 64] };
    Row::Removal(row).sign(&group().id(), &node(by))
}

fn roster(rows: &[Row]) -> Roster {
    let mut roster = Roster::new(group());
    rows.iter().for_each(|row| assert_eq!(roster.insert(row, NOW), Ok(true), "{row:?}"));
    roster
}

fn standing(roster: &Roster, n: u8) -> Result<(), Refusal> {
    roster.judge(NOW).standing(&node(n).public()).map(drop)
}

#[test]
fn a_chain_has_two_links_and_every_other_signer_is_refused() {
    let mut roster = roster(&[admin(1, 1), member(2, 1)]);
    assert_eq!(
        (standing(&roster, 1), standing(&roster, 2), standing(&roster, 3)),
        (Ok(()), Ok(()), Err(Refusal::Unknown))
    );
    // A member is no admin, and an admin makes none.
    assert_eq!(roster.insert(&member(3, 2), NOW), Err(Refusal::NotAnAdmin));
    let third = sign(statement(&node(3), Role::Admin, Some(&node(1)), 1), &node(1));
    assert_eq!(roster.insert(&third, NOW), Err(Refusal::NotAnAdmin));
    let forged = sign(statement(&node(3), Role::Admin, None, 1), &node(3));
    assert_eq!(roster.insert(&forged, NOW), Err(Refusal::Signature));
    // The same statement for another group.
    let other = Row::Statement(statement(&node(3), Role::Member, Some(&node(1)), 1)).sign(&GroupId([7; 16]), &node(1));
    assert_eq!(roster.insert(&other, NOW), Err(Refusal::Signature));
}

#[test]
fn a_membership_ends_at_its_second_and_with_that_of_the_admin() {
    let mut roster = roster(&[admin(1, 1), member(2, 1)]);
    let end = NOW + 30 * u64::from(DAY);
    let at = |roster: &Roster, now| roster.judge(now).standing(&node(2).public()).map(drop);
    assert_eq!(at(&roster, end - 1), Ok(()));
    assert_eq!(at(&roster, end), Err(Refusal::Ended));
    let mut other = roster.clone();
    assert_eq!(other.insert(&member(3, 1), end), Ok(true), "what has ended just now is known to all members");
    assert_eq!(other.judge(end).standing(&node(3).public()).map(drop), Err(Refusal::Ended));
    let long =
        sign(Statement { not_after: u32::MAX, ..statement(&node(3), Role::Member, Some(&node(1)), 2) }, &node(1));
    assert_eq!(other.insert(&long, end), Ok(true));
    let standing = other.judge(end).standing(&node(3).public()).map(drop);
    assert_eq!(standing, Err(Refusal::NotAnAdmin), "the admin has ended as well");
    let later = end + u64::from(DAY);
    assert_eq!(roster.insert(&member(3, 1), later), Err(Refusal::NotAnAdmin));
    assert!(!roster.prune(end + 1), "what has ended just now is still told as that");
    assert!(roster.prune(end + u64::from(DAY)));
    assert_eq!(roster.rows().count(), 0);
}

#[test]
fn a_removed_node_comes_back_by_a_newer_statement_only() {
    let mut roster = roster(&[admin(1, 1), member(2, 1)]);
    let old = member(2, 1);
    assert_eq!(roster.insert(&removal(2, 1, roster.epoch() + 1), NOW), Ok(true));
    assert_eq!(standing(&roster, 2), Err(Refusal::Removed));
    assert_eq!(roster.insert(&old, NOW), Err(Refusal::Removed), "its epoch is old");
    let again = sign(statement(&node(2), Role::Member, Some(&node(1)), roster.epoch() + 1), &node(1));
    assert_eq!(roster.insert(&again, NOW), Ok(true));
    assert_eq!(standing(&roster, 2), Ok(()));
}

#[test]
fn of_two_admins_that_remove_each_other_the_older_stays_in_whatever_order_the_rows_come() {
    let rows = [admin(1, 5), admin(2, 6), member(3, 2), removal(1, 2, 1), removal(2, 1, 1), removal(3, 2, 1)];
    let mut orders: Vec<Vec<usize>> = vec![vec![]];
    for i in 0..rows.len() {
        orders = orders
            .into_iter()
            .flat_map(|order| {
                (0..=order.len()).map(move |at| {
                    let mut next = order.clone();
                    next.insert(at, i);
                    next
                })
            })
            .collect();
    }
    let mut digests = Vec::new();
    for order in orders {
        let mut roster = Roster::new(group());
        // As over several meetings: what is refused for lack of another row comes again.
        for _ in 0..3 {
            order.iter().for_each(|i| _ = roster.insert(&rows[*i], NOW));
        }
        assert_eq!(
            (standing(&roster, 1), standing(&roster, 2).is_err(), standing(&roster, 3).is_err()),
            (Ok(()), true, true)
        );
        digests.push(roster.digest());
    }
    assert_eq!(digests.len(), 720);
    assert!(digests.iter().all(|digest| *digest == digests[0]));
}

#[test]
fn a_member_leaves_by_its_own_word_and_removes_no_other() {
    let mut roster = roster(&[admin(1, 1), member(2, 1), member(3, 1)]);
    assert_eq!(roster.insert(&removal(3, 2, 1), NOW), Err(Refusal::NotAnAdmin));
    assert_eq!(roster.insert(&removal(2, 2, 1), NOW), Ok(true));
    assert_eq!((standing(&roster, 2), standing(&roster, 3)), (Err(Refusal::Removed), Ok(())));
}

#[test]
fn the_founder_gives_a_group_another_key_and_the_stolen_one_signs_nothing_any_more() {
    let mut roster = roster(&[admin(1, 1), admin(9, 0), member(2, 1)]);
    let key = |by: &Identity| {
        Row::Key(KeyRow { number: 1, key: node(201).public(), signature: [0; 64] }).sign(&group().id(), by)
    };
    assert_eq!(roster.insert(&key(&node(200)), NOW), Err(Refusal::Signature), "the group key does not replace itself");
    assert_eq!(roster.insert(&key(&node(1)), NOW), Ok(true));
    assert_eq!(standing(&roster, 9), Err(Refusal::Unknown), "the thief's admin");
    assert_eq!(roster.insert(&admin(9, 0), NOW), Err(Refusal::Signature));
    assert_eq!(roster.insert(&sign(statement(&node(1), Role::Admin, None, 1), &node(201)), NOW), Ok(true));
    assert_eq!(standing(&roster, 2), Ok(()), "members of an admin that stays stay with it");
    roster.prune(NOW);
    assert_eq!(standing(&roster, 2), Ok(()));
}

/// A founder that was set back may give a number twice, and a signer may end a removal twice.
#[test]
fn of_two_rows_for_one_place_all_members_keep_the_same() {
    let key =
        |n: u8| Row::Key(KeyRow { number: 1, key: node(n).public(), signature: [0; 64] }).sign(&group().id(), &node(1));
    let until = |days: u32| {
        let (member, signer) = (node(2).public(), Some(node(1).public()));
        let row = Removal {
            member,
            is_enrolment: false,
            epoch: 1,
            until: NOW as u32 + days * DAY,
            signer,
            signature: [0; 64],
        };
        Row::Removal(row).sign(&group().id(), &node(1))
    };
    for (first, second, before) in [(key(201), key(202), vec![]), (until(30), until(31), vec![admin(1, 1)])] {
        let [mut a, mut b] = [(); 2].map(|()| roster(&before));
        [&first, &second].iter().for_each(|row| _ = a.insert(row, NOW));
        [&second, &first].iter().for_each(|row| _ = b.insert(row, NOW));
        assert_eq!((a.digest(), a.rows().count()), (b.digest(), b.rows().count()));
    }
}

#[test]
fn credentials_convince_a_member_that_knows_nothing_but_the_group() {
    let roster = roster(&[admin(1, 1), member(2, 1)]);
    let rows = roster.judge(NOW).credentials(&node(2).public()).expect("a member");
    let credentials = Credentials { group: roster.id(), rows };
    let mut bytes = Vec::new();
    credentials.emit(&mut bytes);
    let read = Credentials::parse(&mut Reader::new(&bytes)).expect("own form");
    assert_eq!(read, credentials);
    let mut other = Roster::new(group());
    read.rows.iter().for_each(|row| assert_eq!(other.insert(row, NOW), Ok(true)));
    assert_eq!(standing(&other, 2), Ok(()));
    let longest = Statement { name: "n".repeat(63), ..statement(&node(2), Role::Member, Some(&node(1)), 1) };
    assert!(sign(longest, &node(1)).emit().len() <= STATEMENT_LEN_MAX);
}

#[test]
fn many_rows_are_told_with_several_messages_of_which_the_last_is_the_fullest() {
    let rows: Vec<Row> = [member(3, 1)].into_iter().cycle().take(600).chain([removal(2, 1, 1)]).collect();
    let messages = Talk::all(group().id(), rows.clone());
    assert!(messages.len() > 1 && messages.iter().all(|message| message.emit().len() <= TOLD_LEN_MAX + 100));
    let told: Vec<Vec<Row>> = messages
        .into_iter()
        .map(|message| match message {
            Talk::Rows(_, rows, None) => rows,
            other => panic!("{other:?}"),
        })
        .collect();
    assert!(told[0].len() < told[told.len() - 1].len());
    assert_eq!(told.concat(), rows);
    assert_eq!(Talk::all(group().id(), Vec::new()), []);
}

#[test]
fn a_roster_has_maxima_and_walks_back() {
    let mut full = Roster::new(group());
    assert_eq!(full.insert(&admin(1, 1), NOW), Ok(true));
    let one = |n: u32, name: &str| {
        let mut row = statement(&node(2), Role::Member, Some(&node(1)), 1);
        row.identity.0[..4].copy_from_slice(&n.to_le_bytes());
        row.name = name.into();
        sign(row, &node(1))
    };
    for n in 1..MEMBERS_MAX as u32 {
        assert_eq!(full.insert(&one(n, "m"), NOW), Ok(true));
    }
    assert_eq!(full.insert(&one(9_999, "m"), NOW), Err(Refusal::Full));
    assert_eq!(full.judge(NOW).members().count(), MEMBERS_MAX);
    let mut bytes = Vec::new();
    full.emit(&mut bytes);
    assert!(bytes.len() <= ROSTER_LEN_MAX);
    let read = Roster::parse(&mut Reader::new(&bytes)).expect("own form");
    assert_eq!(read.digest(), full.digest());
    // Another one in the place of a removed one.
    let gone = node(2).public();
    let gone = IdentityKey({
        let mut key = gone.0;
        key[..4].copy_from_slice(&7_u32.to_le_bytes());
        key
    });
    let remove = |member, epoch| {
        let (until, signer) = (NOW as u32 + 30 * DAY, Some(node(1).public()));
        let row = Removal { member, is_enrolment: false, epoch, until, signer, signature: [0; 64] };
        Row::Removal(row).sign(&group().id(), &node(1))
    };
    assert_eq!(full.insert(&remove(gone, 1), NOW), Ok(true));
    assert_eq!(full.insert(&one(9_999, "m"), NOW), Ok(true));
    // With longer names the bytes are at their end first.
    let mut bytes = Vec::new();
    group().emit(&mut bytes);
    bytes.put_varint(MEMBERS_MAX as u64);
    bytes.put_bytes(&admin(1, 1).emit());
    (1..MEMBERS_MAX as u32).for_each(|n| bytes.put_bytes(&one(n, &"n".repeat(63)).emit()));
    let mut long = Roster::parse(&mut Reader::new(&bytes)).expect("just fits");
    let other = |n: u32| {
        IdentityKey({
            let mut key = [9; 32];
            key[..4].copy_from_slice(&n.to_le_bytes());
            key
        })
    };
    let count = (0..).take_while(|n| long.insert(&remove(other(*n), 1), NOW) == Ok(true)).count();
    let mut bytes = Vec::new();
    long.emit(&mut bytes);
    assert!(count < 300 && bytes.len() > ROSTER_LEN_MAX - 200, "{count} {}", bytes.len());
    assert_eq!(long.insert(&remove(other(5_000), 1), NOW), Err(Refusal::Full));
    assert!(full.prune(NOW + 400 * u64::from(DAY)));
    assert_eq!(full.rows().count(), 0);
}

/// To the byte: what is just as long as a roster may be is read, and with one byte more it is not.
#[test]
fn a_roster_of_a_mebibyte_is_read_and_one_byte_more_is_refused() {
    let key = |n: u32| IdentityKey([&n.to_le_bytes(), [3; 28].as_slice()].concat().try_into().expect("32 bytes"));
    let stays = |n: u32, name_len: usize| {
        let of = statement(&node(2), Role::Member, Some(&node(1)), 1);
        Row::Statement(Statement { identity: key(n), name: "n".repeat(name_len), ..of }).emit()
    };
    let goes = |n: u32| {
        let (member, signer) = (key(n), Some(node(1).public()));
        let row = Removal { member, is_enrolment: false, epoch: 1, until: u32::MAX, signer, signature: [0; 64] };
        Row::Removal(row).emit()
    };
    let len_of = |row: &[u8]| row.len() + 2;
    // Names of 63 letters, then removals, and the names of the first members are shorter by what that is too long.
    let of_length = |len: usize| {
        let members = MEMBERS_MAX as u32 - 1;
        let longest = len_of(&admin(1, 1).emit()) + members as usize * len_of(&stays(0, 63));
        let removals = (len - longest).div_ceil(len_of(&goes(0)));
        let mut over = longest + removals * len_of(&goes(0)) - len;
        let mut rows = vec![admin(1, 1).emit()];
        rows.extend((0..members).map(|n| {
            let cut = over.min(62);
            over -= cut;
            stays(n, 63 - cut)
        }));
        rows.extend((0..removals as u32).map(|n| goes(members + n)));
        assert_eq!(rows.iter().map(|row| len_of(row)).sum::<usize>(), len);
        let mut bytes = Vec::new();
        group().emit(&mut bytes);
        bytes.put_varint(rows.len() as u64);
        rows.iter().for_each(|row| bytes.put_bytes(row));
        bytes
    };
    let longest = Roster::parse(&mut Reader::new(&of_length(ROSTER_LEN_MAX))).expect("just fits");
    assert!(longest.rows().count() > MEMBERS_MAX);
    assert!(Roster::parse(&mut Reader::new(&of_length(ROSTER_LEN_MAX + 1))).is_err());
}

#[test]
fn removals_have_a_maximum() {
    let mut roster = roster(&[admin(1, 1)]);
    let remove = |n: u32| {
        let member = IdentityKey({
            let mut key = [0; 32];
            key[..4].copy_from_slice(&n.to_le_bytes());
            key
        });
        let (until, signer) = (NOW as u32 + DAY, Some(node(1).public()));
        let row = Removal { member, is_enrolment: false, epoch: 1, until, signer, signature: [0; 64] };
        Row::Removal(row).sign(&group().id(), &node(1))
    };
    let mut bytes = Vec::new();
    group().emit(&mut bytes);
    bytes.put_varint(REMOVALS_MAX as u64 + 1);
    bytes.put_bytes(&admin(1, 1).emit());
    (0..REMOVALS_MAX as u32).for_each(|n| bytes.put_bytes(&remove(n).emit()));
    let mut full = Roster::parse(&mut Reader::new(&bytes)).expect("just full");
    assert_eq!(full.insert(&remove(REMOVALS_MAX as u32), NOW), Err(Refusal::Full));
    assert!(full.prune(NOW + 3 * u64::from(DAY)));
    assert_eq!(full.insert(&remove(5), NOW).err(), None);
    assert_eq!(roster.insert(&remove(5), NOW), Ok(true));
}

/// Any key can say that it leaves: made-up ones fill a quarter of the table, and no admin's removal nor anybody's epoch suffers.
#[test]
fn nodes_that_leave_and_were_never_here_have_a_maximum_and_raise_no_epoch() {
    let mut roster = roster(&[admin(1, 1), member(2, 1)]);
    let leave = |n: u32, epoch: u32| {
        let own = Identity::from_seed([[9; 28].as_slice(), &n.to_le_bytes()].concat().try_into().expect("32 bytes"));
        let (member, signer) = (own.public(), Some(own.public()));
        let until = NOW as u32 + DAY;
        let row = Removal { member, is_enrolment: false, epoch, until, signer, signature: [0; 64] };
        Row::Removal(row).sign(&group().id(), &own)
    };
    for n in 0..LEAVERS_MAX as u32 {
        assert_eq!(roster.insert(&leave(n, u32::MAX), NOW), Ok(true));
    }
    assert_eq!(roster.insert(&leave(LEAVERS_MAX as u32, 1), NOW), Err(Refusal::Full));
    assert_eq!(roster.epoch(), 0, "such rows are about their signers alone");
    assert_eq!(roster.next_epoch(&node(2).public()), 1);
    assert_eq!(roster.insert(&removal(2, 1, 1), NOW), Ok(true), "a member is removed all the same");
    let stranger = Credentials { group: group().id(), rows: vec![leave(1, 1)] };
    let mut bytes = Vec::new();
    stranger.emit(&mut bytes);
    assert_eq!(Credentials::parse(&mut Reader::new(&bytes)), Err(Malformed), "a stranger tells none");
}

#[test]
fn the_bytes_of_every_row_are_known_and_damaged_ones_are_refused() {
    let rows = [
        admin(1, 1),
        member(2, 1),
        removal(2, 1, 1),
        Row::Key(KeyRow { number: 1, key: node(201).public(), signature: [0; 64] }).sign(&group().id(), &node(1)),
        enrolments::enrolment(50, 1),
        enrolments::enrolled(2, 50, 1),
        enrolments::withdrawal(50, 1, 1),
    ];
    let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
    let lines: Vec<_> = rows.iter().map(|row| hex(&row.emit())).collect();
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/group/golden.txt");
    if std::env::var_os("PILOT_BLESS").is_some() {
        std::fs::write(path, lines.join("\n") + "\n").expect("the file is written");
    }
    assert_eq!(lines, std::fs::read_to_string(path).expect("the frozen rows").lines().collect::<Vec<_>>());
    for row in &rows {
        let bytes = row.emit();
        assert_eq!(Row::parse(&bytes).as_ref(), Ok(row));
        (0..bytes.len()).for_each(|len| assert!(Row::parse(&bytes[..len]).is_err()));
        let mut flags = bytes.clone();
        flags[1] |= 0x80;
        assert!(matches!(row, Row::Key(_)) || Row::parse(&flags).is_err());
    }
    assert_eq!(group().id().to_string().parse(), Ok(group().id()));
    assert!("xyz".parse::<GroupId>().is_err());
}

#[test]
fn messages_between_members_keep_their_form() {
    let id = group().id();
    let credentials = Credentials { group: id, rows: vec![admin(1, 1), member(2, 1)] };
    let hello = Hello { credentials, digest: [3; 16] };
    for talk in [
        Talk::Back(vec![hello.clone()]),
        Talk::Hello(vec![hello; 2]),
        Talk::Want(id, 9),
        Talk::Rows(id, vec![member(2, 1)], Some(4)),
        Talk::Rows(id, vec![], None),
    ] {
        let bytes = talk.emit();
        assert_eq!(Talk::parse(&bytes), Ok(talk));
        assert!(Talk::parse(&bytes[..bytes.len() - 1]).is_err());
    }
    let many = Talk::Hello(Vec::new()).emit();
    assert!(Talk::parse(&[many[0], GROUPS_MAX as u8 + 1]).is_err());
}
