//! Owns three members of one group that hear the rows of its roster in any order, again and again, and damaged.

use pilot_core::codec::Reader;
use pilot_core::group::{Group, GroupId, Roster, Row};
use pilot_core::{Addr, Identity};

/// Nodes, of which the first one has founded the group.
const NODES: u8 = 5;
/// Group keys: the first one and those that may take its place.
const KEYS: u8 = 3;
/// Keys of enrolments.
const ENROLMENTS: u8 = 2;
/// Flags of a row: signed by the group key, and signed by an enrolment or removing one.
const BY_KEY: u8 = 2;
const OF_ENROLMENT: u8 = 4;
const ROSTERS: usize = 3;
/// Most steps of one input.
const STEPS_MAX: usize = 200;
/// Most rows that are under way.
const ROWS_MAX: usize = 48;
/// Most rounds after which members that hear each other know the same.
const ROUNDS_MAX: usize = 6;
/// The time of the first step. Unit: seconds since 1970.
const START_S: u32 = 1_800_000_000;
const DAY_S: u32 = 24 * 3600;

/// Runs three rosters. The input is a list of steps of four bytes: an action and three details.
///
/// Invariants: no row makes a member but by a chain of two links from a group key of the founder's; what was saved and read again
/// is the same; members that hear each other have the same roster and judge alike after some rounds, whatever came before in
/// whatever order.
pub fn rosters(bytes: &[u8]) {
    let group = Group { name: "fleet".into(), key: key(0).public(), founder: node(0).public() };
    let id = group.id();
    let mut rosters: Vec<Roster> = (0..ROSTERS).map(|_| Roster::new(group.clone())).collect();
    let (mut rows, mut now_s) = (Vec::new(), START_S);
    for step in bytes.chunks_exact(4).take(STEPS_MAX) {
        let [what, a, b, c] = [step[0], step[1], step[2], step[3]];
        let at = usize::from(b) % ROSTERS;
        match what % 8 {
            0..=3 if rows.len() < ROWS_MAX => rows.push(row(&id, [what % 8, a, b, c], now_s)),
            4 | 5 if !rows.is_empty() => hear(&mut rosters[at], &rows[usize::from(a) % rows.len()], now_s),
            6 if !rows.is_empty() => damage(&mut rosters[at], &rows[usize::from(a) % rows.len()], c, now_s),
            7 => match c % 4 {
                0 => now_s += u32::from(a) * 600,
                1 => _ = rosters[at].prune(now_s.into()),
                2 => rosters[at] = saved_and_read(&rosters[at]),
                _ => tell(&mut rosters, (usize::from(a) % ROSTERS, at), now_s),
            },
            _ => {}
        }
        rosters.iter().for_each(|roster| check(roster, now_s));
    }
    agree(&mut rosters, now_s);
}

fn node(number: u8) -> Identity {
    Identity::from_seed([number % NODES + 1; 32])
}

fn key(number: u8) -> Identity {
    Identity::from_seed([200 + number % KEYS; 32])
}

fn enrolment(number: u8) -> Identity {
    Identity::from_seed([100 + number % ENROLMENTS; 32])
}

/// A signed row in the form of `core/src/group/row.rs`, whether or not its signer may sign it.
fn row(id: &GroupId, [what, a, b, c]: [u8; 4], now_s: u32) -> Row {
    let (member, is_other, epoch) = (node(a), a >> 7, u32::from(c % 8));
    let (signer, flag) = match b % 4 {
        1 => (key(b >> 2), BY_KEY),
        3 => (enrolment(b >> 2), OF_ENROLMENT),
        _ => (node(b >> 2), 0),
    };
    let days = |bits: u8| DAY_S * (1 + u32::from(bits));
    let mut body = Vec::new();
    let times = match what {
        0 | 1 => {
            body.extend([1, if flag == OF_ENROLMENT { flag } else { is_other | flag }]);
            body.extend(member.public().0);
            body.extend(member.static_key().0);
            body.extend(Addr::new(0, 7).to_bytes());
            body.extend([1, b'a' + a % 3]);
            vec![now_s - u32::from(c >> 6), now_s, now_s + days(c >> 5), epoch]
        }
        2 => {
            body.extend([2, (flag & BY_KEY) | (is_other * OF_ENROLMENT)]);
            body.extend(if is_other == 0 { member.public().0 } else { enrolment(a).public().0 });
            vec![epoch, now_s + days(c >> 3)]
        }
        _ if is_other == 1 => {
            body.extend([4, 0]);
            body.extend(enrolment(a).public().0);
            body.extend([1 + (c >> 7), 0]);
            vec![now_s, now_s + days(c >> 4), epoch]
        }
        _ => {
            body.push(3);
            body.extend((1 + epoch % 2).to_le_bytes());
            body.extend(key(1 + a % 2).public().0);
            vec![]
        }
    };
    times.iter().for_each(|n| body.extend(n.to_le_bytes()));
    if what < 3 && flag != BY_KEY {
        body.extend(signer.public().0);
    }
    body.extend([0; 64]);
    let signer = match what {
        0..=2 => signer,
        _ if is_other == 1 => key(b >> 2),
        _ => node(0),
    };
    Row::parse(&body).expect("a row").sign(id, &signer)
}

/// Whether the row is taken does not matter; what it leads to is checked afterwards.
fn hear(roster: &mut Roster, row: &Row, now_s: u32) {
    let _ = roster.insert(row, now_s.into());
}

fn damage(roster: &mut Roster, row: &Row, how: u8, now_s: u32) {
    let mut bytes = row.emit();
    let place = usize::from(how) % bytes.len();
    bytes[place] ^= 1 << (how % 8);
    if let Ok(row) = Row::parse(&bytes) {
        assert!(!matches!(roster.insert(&row, now_s.into()), Ok(true)), "a damaged row was taken");
    }
}

fn tell(rosters: &mut [Roster], (from, to): (usize, usize), now_s: u32) {
    let rows: Vec<Row> = rosters[from].rows().collect();
    rows.iter().for_each(|row| hear(&mut rosters[to], row, now_s));
}

fn saved_and_read(roster: &Roster) -> Roster {
    let mut bytes = Vec::new();
    roster.emit(&mut bytes);
    let read = Roster::parse(&mut Reader::new(&bytes)).expect("own form");
    assert_eq!(read.digest(), roster.digest(), "a row was lost or made by saving");
    read
}

fn check(roster: &Roster, now_s: u32) {
    let judge = roster.judge(now_s.into());
    for member in judge.members() {
        let rows = judge.credentials(&member.identity).expect("a member has credentials");
        let links: Vec<&Row> = rows.iter().filter(|row| !matches!(row, Row::Key(_))).collect();
        let [first, rest @ ..] = &links[..] else { panic!("no statement") };
        assert!(first.is_signed(&roster.id(), &roster.key()), "the chain begins with the group key");
        assert!(rest.len() < 2, "a chain has two links");
    }
}

/// All members hear each other until nothing is new.
fn agree(rosters: &mut [Roster], now_s: u32) {
    for _ in 0..ROUNDS_MAX {
        for from in 0..ROSTERS {
            (0..ROSTERS).filter(|to| *to != from).for_each(|to| tell(rosters, (from, to), now_s));
        }
        rosters.iter_mut().for_each(|roster| _ = roster.prune(now_s.into()));
    }
    let members = |roster: &Roster| roster.judge(now_s.into()).members().cloned().collect::<Vec<_>>();
    for roster in &rosters[1..] {
        assert_eq!(members(roster), members(&rosters[0]), "members judge alike");
        assert_eq!(roster.digest(), rosters[0].digest(), "and have the same rows");
    }
}
