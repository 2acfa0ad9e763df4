//! The books alone.

use super::*;
use pilot_core::Identity;
use pilot_core::control::LetterId;
use pilot_core::identity::Profile;
use pilot_core::trust::Source;
use std::cell::Cell;

fn record(n: u8, addr: Addr, hostname: &str, sequence: u64) -> NodeRecord {
    let profile = Profile { hostname: hostname.into(), ..Profile::default() };
    NodeRecord::sign(&Identity::from_seed([n; 32]), addr, &profile, sequence)
}

fn key(n: u8) -> IdentityKey {
    Identity::from_seed([n; 32]).public()
}

fn whole(add: Vec<IdentityKey>) -> Grant {
    Grant { is_whole: true, add, remove: Vec::new() }
}

std::thread_local! {
    static NEXT: Cell<u64> = const { Cell::new(0) };
}

/// Posts another letter.
fn post_new(
    state: &mut State,
    from: IdentityKey,
    to: IdentityKey,
    journal: &mut dyn Journal,
) -> Result<Option<InboxNumber>, Refusal> {
    state.post(new_letter(from, to, None), journal)
}

fn new_letter(from: IdentityKey, to: IdentityKey, source: Option<Source>) -> Letter {
    NEXT.set(NEXT.get() + 1);
    let mut id = LetterId([0; 16]);
    id.0[..8].copy_from_slice(&NEXT.get().to_le_bytes());
    Letter { to, from, id, posted_s: 0, source, sealed: vec![1] }
}

fn register(state: &mut State, n: u8, name: &str, sequence: u64) -> Result<Addr, Refusal> {
    let mut next = 100 + u32::from(n);
    let mut register = |addr| {
        let fresh = || {
            next += 1;
            next
        };
        state.register(&key(n), record(n, addr, name, sequence), fresh, (0, &mut NoJournal))
    };
    // As nodes do, registers twice: the second record names the address that the first one asked for.
    let addr = register(Addr::default())?;
    register(addr)
}

#[test]
fn a_record_that_no_node_could_verify_is_not_given_out() {
    let mut state = State::default();
    let asking = record(1, Addr::default(), "new", 1);
    let addr = state.register(&key(1), asking, || 7, (0, &mut NoJournal)).expect("free");
    assert_eq!(state.lookup(&key(2), &Query::Name("new".into())), Err(Refusal::NotFound));
    assert_eq!(state.grant(&key(1), whole(vec![key(2)]), &mut NoJournal), Err(Refusal::NotRegistered));
    assert_eq!(state.register(&key(1), record(1, addr, "new", 1), || 8, (0, &mut NoJournal)), Ok(addr));
    let found = state.lookup(&key(2), &Query::Name("new".into())).expect("registered");
    assert_eq!(NodeRecord::parse(&found).expect("signed").addr, addr);
}

#[test]
fn addresses_are_kept_for_life_and_names_are_unique() {
    let mut state = State::default();
    let addr = register(&mut state, 1, "one", 1).expect("free");
    assert_eq!(register(&mut state, 1, "one-renamed", 2), Ok(addr));
    assert_eq!(register(&mut state, 2, "one-renamed", 1), Err(Refusal::NameTaken));
    assert!(register(&mut state, 2, "one", 1).is_ok_and(|a| a != addr), "the old name is free again");
    assert_eq!(register(&mut state, 1, "one-renamed", 1), Err(Refusal::BadRecord), "an older record");
    assert_eq!(
        state.register(&key(3), record(4, Addr::default(), "x", 1), || 9, (0, &mut NoJournal)),
        Err(Refusal::BadRecord)
    );
}

#[test]
fn a_node_gets_its_address_back_from_a_fresh_registry_unless_it_is_taken() {
    let mut state = State::default();
    let wanted = Addr::new(0, 777);
    assert_eq!(state.register(&key(1), record(1, wanted, "", 1), || 5, (0, &mut NoJournal)), Ok(wanted));
    assert_eq!(state.register(&key(2), record(2, wanted, "", 1), || 5, (0, &mut NoJournal)), Ok(Addr::new(0, 5)));
}

#[test]
fn private_nodes_are_found_by_exact_name_or_by_those_they_granted() {
    let mut state = State::default();
    let addr = register(&mut state, 1, "hidden", 1).expect("free");
    register(&mut state, 2, "", 1).expect("free");
    assert!(state.lookup(&key(2), &Query::Name("hidden".into())).is_ok());
    for query in [Query::Addr(addr), Query::Key(key(1))] {
        assert_eq!(state.lookup(&key(2), &query), Err(Refusal::NotFound));
    }
    state.grant(&key(1), whole(vec![key(2)]), &mut NoJournal).expect("registered");
    assert!(state.lookup(&key(2), &Query::Addr(addr)).is_ok());
    assert!(state.search("").is_empty());
}

#[test]
fn mailboxes_have_a_maximum_per_sender_for_strangers_and_in_all() {
    let mut state = State::default();
    let limits = *state.limits();
    register(&mut state, 1, "", 1).expect("free");
    let sender = |n: usize| {
        let mut bytes = [0; 32];
        bytes[..2].copy_from_slice(&(n as u16).to_le_bytes());
        IdentityKey(bytes)
    };
    let post = |state: &mut State, n| post_new(state, sender(n), key(1), &mut NoJournal);
    for i in 0..=limits.letters_per_sender {
        assert_eq!(post(&mut state, 0).is_ok(), i < limits.letters_per_sender);
    }
    let strangers = (1..).take_while(|n| post(&mut state, *n).is_ok()).count();
    assert_eq!(strangers, limits.letters_per_node / 2 - limits.letters_per_sender, "strangers fill half a mailbox");
    let peers: Vec<_> = (1000..1500).map(sender).collect();
    state.grant(&key(1), whole(peers), &mut NoJournal).expect("room");
    let accepted = (1000..).take_while(|n| post(&mut state, *n).is_ok()).count();
    assert_eq!(accepted, limits.letters_per_node / 2);
    let ids: Vec<InboxNumber> = state.letters_for(&key(1)).map(|l| l.0).collect();
    state.taken(&key(2), &ids, (0, &mut NoJournal)).expect("works");
    assert_eq!(state.letters_for(&key(1)).count(), limits.letters_per_node, "only their owner takes letters away");
    state.taken(&key(1), &ids, (0, &mut NoJournal)).expect("works");
    assert_eq!(state.letters_for(&key(1)).count(), 0);
}

/// Strangers of one network leave room for those of another, and for peers wherever they are.
#[test]
fn a_network_of_strangers_takes_sixteen_places_of_a_mailbox() {
    let mut state = State::default();
    register(&mut state, 1, "", 1).expect("free");
    state.grant(&key(1), whole(vec![key(50)]), &mut NoJournal).expect("registered");
    let mut post =
        |from, source| state.post(new_letter(key(from), key(1), Source::from_number(source)), &mut NoJournal).is_ok();
    let near = (100..200).filter(|n| post(*n, 7)).count();
    assert_eq!(near, Limits::default().letters_per_source);
    assert!(post(50, 7), "a peer from the same network");
    assert!(post(60, 8), "a stranger from another");
    let own = (61..90).filter(|n| post(*n, 0)).count();
    assert_eq!(own, 29, "nodes of the rendezvous' own machine have no network");
    let numbers: Vec<InboxNumber> = state.letters_for(&key(1)).map(|(number, _)| number).collect();
    state.taken(&key(1), &numbers, (0, &mut NoJournal)).expect("works");
    assert_eq!(state.letters(), 0);
    assert!(state.post(new_letter(key(100), key(1), Source::from_number(7)), &mut NoJournal).is_ok());
}

#[test]
fn a_letter_that_is_posted_again_has_no_second_effect() {
    let mut state = State::default();
    register(&mut state, 1, "", 1).expect("free");
    let letter = new_letter(key(2), key(1), None);
    let post = |state: &mut State| state.post(letter.clone(), &mut NoJournal);
    let number = post(&mut state).expect("room").expect("new");
    assert_eq!(post(&mut state), Ok(None), "while the letter waits");
    state.taken(&key(1), &[number], (9, &mut NoJournal)).expect("works");
    assert_eq!(post(&mut state), Ok(None), "and after it was taken");
    assert_eq!(state.letters(), 0);
}

#[test]
fn a_name_is_free_once_its_owner_was_not_seen_for_thirty_days() {
    let mut state = State::default();
    register(&mut state, 1, "name", 1).expect("free");
    let mut later = |n: u8, today| {
        let addr = Addr::new(0, n.into());
        state.register(&key(n), record(n, addr, "name", 2), || 5, (today, &mut NoJournal)).map(|_| ())
    };
    assert_eq!(later(2, NAME_LASTS_DAYS), Err(Refusal::NameTaken));
    assert_eq!(later(2, NAME_LASTS_DAYS + 1), Ok(()));
    assert_eq!(later(1, NAME_LASTS_DAYS + 1), Err(Refusal::NameTaken), "its former owner is late");
    assert_eq!(state.lookup(&key(9), &Query::Key(key(1))), Err(Refusal::NotFound), "a record with a lost name is gone");
    // A node that is connected keeps its name however long ago it registered.
    let month = u64::from(NAME_LASTS_DAYS + 40) * 86_400;
    state.sweep(month, |_| true, &mut NoJournal);
    let today = day(month) + NAME_LASTS_DAYS;
    let asked = state.register(&key(3), record(3, Addr::new(0, 3), "name", 2), || 5, (today, &mut NoJournal));
    assert_eq!(asked, Err(Refusal::NameTaken));
}

#[test]
fn grants_change_by_differences_and_have_maxima() {
    let limits = Limits { grants_per_node: 3, grants: 4, ..Limits::default() };
    let mut state = State::default().with_limits(limits);
    register(&mut state, 1, "", 1).expect("free");
    register(&mut state, 2, "", 1).expect("free");
    let keys: Vec<_> = (10..20).map(key).collect();
    let add = |keys: &[IdentityKey]| Grant { add: keys.to_vec(), ..Grant::default() };
    assert_eq!(state.grant(&key(1), whole(keys[..2].to_vec()), &mut NoJournal), Ok(()));
    assert_eq!(state.grant(&key(1), add(&keys[1..3]), &mut NoJournal), Ok(()), "one of them was there");
    assert_eq!(state.grant(&key(1), add(&keys[3..4]), &mut NoJournal), Err(Refusal::Full));
    assert_eq!(state.grant(&key(2), add(&keys[..1]), &mut NoJournal), Ok(()));
    assert_eq!(state.grant(&key(2), add(&keys[1..2]), &mut NoJournal), Err(Refusal::Full), "those of all nodes");
    let remove = Grant { remove: keys[..2].to_vec(), ..Grant::default() };
    assert_eq!(state.grant(&key(1), remove, &mut NoJournal), Ok(()));
    let may: Vec<_> = keys.iter().filter(|from| state.may_relay(from, &key(1))).collect();
    assert_eq!(may, [&keys[2]]);
    assert_eq!((state.grants, state.grants_of(&key(1))), (2, 1));
}

/// Every table of the books is filled to its maximum, and is empty once time has passed.
#[test]
fn every_table_has_a_maximum_and_comes_back_to_zero() {
    let limits = Limits { nodes: 20, letters_len: 50, letters_per_sender: 60, ..Limits::default() };
    let mut state = State::default().with_limits(limits);
    let registered = (1..=30).filter(|n| register(&mut state, *n, &format!("n-{n}"), 1).is_ok()).count();
    assert_eq!(registered, 20);
    assert_eq!(register(&mut state, 31, "", 1), Err(Refusal::Full));
    state.grant(&key(1), whole((40..90).map(key).collect()), &mut NoJournal).expect("room");
    let letters =
        (0..).take_while(|n| post_new(&mut state, key(2), key(1 + *n as u8 % 9), &mut NoJournal).is_ok()).count();
    assert_eq!((letters, state.letters()), (50, 50), "bytes of all letters");
    let old = limits.letter_age_s;
    state.sweep(old - 1, |_| false, &mut NoJournal);
    assert_eq!(state.letters(), 50);
    state.sweep(old, |_| false, &mut NoJournal);
    assert_eq!((state.letters(), state.len()), (0, 20));
    let gone = u64::from(NODE_LASTS_DAYS + 1) * 86_400;
    state.sweep(gone, |_| true, &mut NoJournal);
    assert_eq!(state.len(), 20, "connected nodes stay");
    state.sweep(2 * gone, |_| false, &mut NoJournal);
    assert_eq!(state.rows(), 0);
}

/// Takes removals only, as a full disk does, and notes how much it is given at once.
#[derive(Default)]
struct FullDisk(Vec<usize>);

impl Journal for FullDisk {
    fn commit(&mut self, changes: &[Change]) -> Result<(), StorageFailed> {
        let len = |change: &Change| match change {
            Change::Node(_, row) | Change::Letter(_, row) => row.as_ref().map_or(0, Vec::len),
        };
        self.0.push(changes.iter().map(len).sum());
        if self.0.last() == Some(&0) { Ok(()) } else { Err(StorageFailed) }
    }
}

#[test]
fn a_sweep_removes_what_is_old_on_a_full_disk_and_writes_in_slices() {
    let mut state = State::default();
    for n in 0..20 {
        register(&mut state, n, "", 1).expect("free");
        let grants = (0..5000u32).map(|i| IdentityKey(core::array::from_fn(|at| (i >> (8 * (at % 4))) as u8)));
        state.grant(&key(n), whole(grants.collect()), &mut NoJournal).expect("room");
    }
    let mut full = FullDisk::default();
    let gone = u64::from(NODE_LASTS_DAYS + 1) * 86_400;
    let stays: Vec<IdentityKey> = (0..15).map(key).collect();
    for _ in 0..4 {
        state.sweep(gone, |key| stays.contains(key), &mut full);
    }
    assert_eq!(state.len(), 15, "old nodes are gone, the others stay though their days cannot be noted");
    assert!(full.0.iter().all(|len| *len < SWEEP_LEN_MAX + 200_000), "{:?}", full.0);
    assert!(full.0.iter().any(|len| *len >= SWEEP_LEN_MAX), "the rows are longer than a slice: {:?}", full.0);
}

#[test]
fn nothing_changes_when_the_journal_fails() {
    struct Broken;
    impl Journal for Broken {
        fn commit(&mut self, _: &[Change]) -> Result<(), StorageFailed> {
            Err(StorageFailed)
        }
    }
    let mut state = State::default();
    let refused = state.register(&key(1), record(1, Addr::default(), "a", 1), || 5, (0, &mut Broken));
    assert_eq!((refused, state.len()), (Err(Refusal::Storage), 0));
    register(&mut state, 1, "a", 1).expect("free");
    assert_eq!(post_new(&mut state, key(2), key(1), &mut Broken), Err(Refusal::Storage));
    assert_eq!(state.letters_for(&key(1)).count(), 0);
}

#[test]
fn rows_rebuild_the_books() {
    #[derive(Default)]
    struct Rows(Vec<Change>);
    impl Journal for Rows {
        fn commit(&mut self, changes: &[Change]) -> Result<(), StorageFailed> {
            self.0.extend_from_slice(changes);
            Ok(())
        }
    }
    let (mut state, mut rows) = (State::default(), Rows::default());
    let addr = state.register(&key(1), record(1, Addr::default(), "a", 1), || 5, (0, &mut rows)).expect("free");
    state.register(&key(1), record(1, addr, "a", 2), || 6, (0, &mut rows)).expect("own");
    let letter = new_letter(key(2), key(1), Source::from_number(7));
    let _kept = state.post(letter, &mut rows).expect("room");
    let again = State::load(rows.0).expect("own rows");
    assert_eq!(again.lookup(&key(9), &Query::Name("a".into())), state.lookup(&key(9), &Query::Name("a".into())));
    assert!(again.letters_for(&key(1)).eq(state.letters_for(&key(1))));
    assert_eq!(again.letters(), 1);
}

#[test]
fn a_node_that_leaves_is_forgotten_with_its_name_and_its_letters() {
    let mut state = State::default();
    let addr = register(&mut state, 1, "worker", 1).expect("free");
    register(&mut state, 2, "other", 1).expect("free");
    state.grant(&key(1), whole(vec![key(2)]), &mut NoJournal).expect("registered");
    post_new(&mut state, key(2), key(1), &mut NoJournal).expect("room");
    post_new(&mut state, key(1), key(2), &mut NoJournal).expect("room");
    let mut leave =
        |caller: u8, n: u8, sequence| state.leave(&key(caller), &record(n, addr, "", sequence), (0, &mut NoJournal));
    assert_eq!(leave(1, 2, 9), Err(Refusal::BadRecord), "another node's word");
    assert_eq!(leave(1, 1, 1), Err(Refusal::BadRecord), "an old one");
    assert_eq!(leave(3, 3, 9), Err(Refusal::NotRegistered));
    assert_eq!(leave(1, 1, 2), Ok(()));
    assert_eq!(leave(1, 1, 3), Err(Refusal::NotRegistered));
    assert_eq!((state.len(), state.letters(), state.grants), (1, 1, 0), "what it has posted stays");
    for query in [Query::Name("worker".into()), Query::Addr(addr), Query::Key(key(1))] {
        assert_eq!(state.lookup(&key(2), &query), Err(Refusal::NotFound));
    }
    assert_eq!(register(&mut state, 3, "worker", 1).map(|_| ()), Ok(()), "the name is free at once");
}

#[test]
fn a_node_whose_end_cannot_be_written_is_kept() {
    struct Full;
    impl Journal for Full {
        fn commit(&mut self, _: &[Change]) -> Result<(), StorageFailed> {
            Err(StorageFailed)
        }
    }
    let mut state = State::default();
    let addr = register(&mut state, 1, "worker", 1).expect("free");
    assert_eq!(state.leave(&key(1), &record(1, addr, "", 2), (0, &mut Full)), Err(Refusal::Storage));
    assert_eq!((state.len(), state.lookup(&key(2), &Query::Name("worker".into())).is_ok()), (1, true));
}
