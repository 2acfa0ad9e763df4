//! Floods of requests and of revocations by keys that cost nothing.

use super::*;
use crate::trust::strangers::limits;

fn sybil(i: usize) -> Owner {
    let mut seed = [0xee; 32];
    seed[..8].copy_from_slice(&(i as u64).to_le_bytes());
    let identity = Identity::from_seed(seed);
    let record = NodeRecord::sign(&identity, Addr::new(0, 1000 + i as u32), &Profile::default(), 1).emit();
    Owner { identity, record, book: TrustBook::default(), rng: Rng::new(seed) }
}

impl Owner {
    /// Receives a request of this sybil, one second after the one before.
    fn flood(&mut self, i: usize, source: Option<Source>) -> Outcome {
        let request = sybil(i).request(self);
        self.at(NOW + i as u64, |book, me, _| book.receive(me, &request, source))
    }

    fn waits(&self, i: usize) -> bool {
        self.book.pending.contains_key(&sybil(i).key())
    }
}

#[test]
fn the_oldest_request_that_no_owner_has_seen_gives_way() {
    let mut target = Owner::new(1);
    for i in 0..3 {
        assert_eq!(target.flood(i, None), Outcome::Pending(sybil(i).key()));
    }
    target.book.note_seen();
    for i in 3..PENDING_MAX + 10 {
        assert_eq!(target.flood(i, None), Outcome::Pending(sybil(i).key()), "an honest request always arrives");
    }
    assert_eq!(target.book.pending().count(), PENDING_MAX);
    assert!((0..3).all(|i| target.waits(i)), "what the owner has seen stays");
    assert!((3..13).all(|i| !target.waits(i)) && (13..PENDING_MAX + 10).all(|i| target.waits(i)));
    // Seen requests never take all the room.
    target.book.note_seen();
    let (_, seen_max, _) = limits();
    assert_eq!(target.book.pending().filter(|request| request.is_seen).count(), seen_max);
    // The table empties.
    let late = NOW + 2 * REQUEST_LIFETIME_S;
    target
        .at(late, |book, me, rng| book.request(me, &sybil(7).public_record(), &Terms::default(), rng))
        .expect("allowed");
    assert_eq!(target.book.pending().count(), 0);
}

#[test]
fn one_source_takes_sixteen_places_and_crowds_out_only_itself() {
    let mut target = Owner::new(1);
    let (per_source, ..) = limits();
    for i in 0..100 {
        target.flood(i, Source::from_number(7));
    }
    assert_eq!((target.book.pending().count(), per_source), (16, 16));
    assert!((84..100).all(|i| target.waits(i)));
    target.flood(200, Source::from_number(8));
    for i in 300..300 + 2 * PENDING_MAX {
        target.flood(i, Source::from_number(9 + (i % 40) as u64));
    }
    assert!(target.waits(200), "many sources, each with more, give way before one with a single request");
    assert_eq!(target.book.pending().count(), PENDING_MAX);
}

#[test]
fn no_flood_touches_peers_or_those_that_were_asked() {
    let (mut a, mut b) = trusting_pair();
    let mut asked = Owner::new(3);
    let to_asked = a.request(&asked);
    asked.receive(&to_asked);
    let near = Source::from_number(7);
    for i in 0..PENDING_MAX + 5 {
        a.flood(i, near.filter(|_| i % 2 == 0));
    }
    assert!(a.book.pin(&b.key()).is_some());
    assert_eq!(a.book.epochs.len(), 1, "strangers leave no epochs");
    // A peer that lost its book is answered, and a node that was asked is approved by its own request.
    b.book = TrustBook::default();
    let request = b.at(NOW + 60, |book, me, rng| book.request(me, &a.public_record(), &Terms::default(), rng));
    let waiting = a.book.strangers().count();
    let outcome = a.at(NOW + 60, |book, me, _| book.receive(me, &request.expect("allowed"), near));
    assert_eq!(outcome, Outcome::Pending(b.key()));
    assert_eq!(a.book.strangers().count(), waiting, "a peer from the crowded network takes the place of none");
    let request = asked.request(&a);
    asked.book.pending = LiteMap::new();
    assert_eq!(a.receive(&request), Outcome::Pinned(asked.key()));
}

#[test]
fn revocations_of_unknown_keys_are_remembered_up_to_a_maximum() {
    let mut target = Owner::new(1);
    let (.., revoked_max) = limits();
    let mut first = Vec::new();
    for i in 0..=revoked_max {
        let mut stranger = sybil(i);
        let request = stranger.request(&target);
        let key = target.key();
        let (_, revoke) = stranger.at(NOW + 1, |book, me, rng| book.cancel(me, &key, rng)).expect("asked");
        assert_eq!(target.receive(&revoke), Outcome::Discarded(Discarded::Unsolicited));
        first.push(request);
    }
    assert_eq!(target.book.revoked.len(), revoked_max);
    assert_eq!(target.receive(&first[1]), Outcome::Discarded(Discarded::Replayed));
    assert_eq!(target.receive(&first[0]), Outcome::Pending(sybil(0).key()), "the oldest was forgotten");
}

#[test]
fn notes_of_strangers_are_safe_for_terminals() {
    let mut target = Owner::new(1);
    target.flood(0, None);
    assert!(target.book.pending().all(|request| request.note == "hi [2J"));
}

#[test]
fn epochs_of_former_peers_are_kept_up_to_a_maximum_and_the_oldest_goes() {
    let mut book = TrustBook::default();
    let key = nth_key;
    for i in 0..=EPOCHS_MAX as u64 {
        book.note_epoch(key(i), 100 + i);
    }
    assert_eq!(book.epochs.len(), EPOCHS_MAX);
    assert_eq!((book.epoch_of(&key(0)), book.epoch_of(&key(1))), (0, 101));
    book.note_epoch(key(1), 5);
    assert_eq!(book.epoch_of(&key(1)), 101, "epochs only rise");
}
