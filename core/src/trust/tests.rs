use super::*;
use crate::addr::Addr;
use crate::identity::Profile;
use std::format;
use std::vec;

mod ends;
mod enrolments;
mod golden;
mod grants;
mod groups;
mod joins;
mod renewals;
mod strangers;

const NOW: u64 = 1_700_000_000;

struct Owner {
    identity: Identity,
    record: Vec<u8>,
    book: TrustBook,
    rng: Rng,
}

impl Owner {
    fn new(n: u8) -> Self {
        let identity = Identity::from_seed([n; 32]);
        let profile = Profile { hostname: format!("node-{n}"), ..Profile::default() };
        let record = NodeRecord::sign(&identity, Addr::new(0, n.into()), &profile, 1).emit();
        Self { identity, record, book: TrustBook::default(), rng: Rng::new([n; 32]) }
    }

    fn key(&self) -> IdentityKey {
        self.identity.public()
    }

    fn public_record(&self) -> NodeRecord {
        NodeRecord::parse(&self.record).expect("own record")
    }

    fn at<R>(&mut self, now_s: u64, f: impl FnOnce(&mut TrustBook, &Me<'_>, &mut Rng) -> R) -> R {
        f(&mut self.book, &Me { identity: &self.identity, record: &self.record, now_s, common_s: now_s }, &mut self.rng)
    }

    fn request(&mut self, to: &Owner) -> Vec<u8> {
        let record = to.public_record();
        self.at(NOW, |b, me, rng| b.request(me, &record, &Terms { note: "hi\x1b[2J".into(), ..Terms::default() }, rng))
            .expect("allowed")
    }

    fn receive(&mut self, bytes: &[u8]) -> Outcome {
        self.at(NOW, |b, me, _| b.receive(me, bytes, None))
    }

    fn approve(&mut self, key: IdentityKey) -> Vec<u8> {
        self.at(NOW, |b, me, rng| b.approve(me, &key, &Terms::default(), rng)).expect("pending")
    }
}

fn trusting_pair() -> (Owner, Owner) {
    let (mut a, mut b) = (Owner::new(1), Owner::new(2));
    let request = a.request(&b);
    b.receive(&request);
    let accept = b.approve(a.key());
    assert_eq!(a.receive(&accept), Outcome::Pinned(b.key()));
    (a, b)
}

#[test]
fn request_and_accept_pin_both_sides_with_one_secret() {
    let (a, b) = trusting_pair();
    let (of_b, of_a) = (a.book.pin(&b.key()).expect("pinned"), b.book.pin(&a.key()).expect("pinned"));
    assert_eq!(of_b.secret, of_a.secret);
    assert_ne!(*of_b.secret, [0; 32]);
    assert_eq!(of_b.hostname, "node-2");
    assert!(of_a.ports.allow(1000) && !of_a.ports.allow(22), "the default grant names four services");
}

#[test]
fn crossing_requests_approve_each_other_with_one_secret() {
    let (mut a, mut b) = (Owner::new(1), Owner::new(2));
    let (from_a, from_b) = (a.request(&b), b.request(&a));
    assert_eq!(a.receive(&from_b), Outcome::Pinned(b.key()));
    assert_eq!(b.receive(&from_a), Outcome::Pinned(a.key()));
    assert_eq!(a.book.pin(&b.key()).map(|p| *p.secret), b.book.pin(&a.key()).map(|p| *p.secret));
}

#[test]
fn forged_accepts_and_accepts_nobody_asked_for_are_discarded() {
    let (mut a, mut b, mut c) = (Owner::new(1), Owner::new(2), Owner::new(3));
    let request = a.request(&b);
    b.receive(&request);
    let accept = b.approve(a.key());
    for i in 0..accept.len() {
        let mut forged = accept.clone();
        forged[i] ^= 1;
        assert!(matches!(a.receive(&forged), Outcome::Discarded(_)), "byte {i}");
    }
    assert_eq!(c.receive(&accept), Outcome::Discarded(Discarded::NotForUs));
    // C makes an accept of its own for a request A sent to B.
    let from_c = c.request(&a);
    a.at(NOW, |book, me, _| book.receive(me, &from_c, None));
    assert!(a.book.pin(&c.key()).is_none(), "asking is not being approved");
    assert_eq!(a.receive(&accept), Outcome::Pinned(b.key()), "forgeries spoiled nothing");
}

#[test]
fn a_request_cannot_be_replayed_as_approval_nor_an_old_accept_after_revocation() {
    let (mut a, mut b) = (Owner::new(1), Owner::new(2));
    let request = a.request(&b);
    b.receive(&request);
    assert_eq!(b.receive(&request), Outcome::Discarded(Discarded::Replayed));
    let accept = b.approve(a.key());
    a.receive(&accept);
    let (_, revoke) = b.at(NOW + 1, |book, me, rng| book.revoke(me, &a.key(), rng)).expect("pinned");
    assert_eq!(a.receive(&revoke), Outcome::Revoked(b.key()));
    assert!(a.book.pin(&b.key()).is_none());
    assert_eq!(a.receive(&accept), Outcome::Discarded(Discarded::Replayed));
    assert_eq!(a.receive(&revoke), Outcome::Discarded(Discarded::Replayed));
}

#[test]
fn outgoing_requests_have_a_maximum_and_long_notes_are_refused() {
    let mut a = Owner::new(1);
    for i in 0..=OUTGOING_MAX {
        let mut seed = [7; 32];
        seed[..8].copy_from_slice(&(i as u64).to_le_bytes());
        let record = NodeRecord::sign(&Identity::from_seed(seed), Addr::new(0, 9), &Profile::default(), 1);
        let result = a.at(NOW, |b, me, rng| b.request(me, &record, &Terms::default(), rng));
        assert_eq!(result.err(), (i == OUTGOING_MAX).then_some(TrustError::Full));
    }
    let asked: Vec<IdentityKey> = a.book.outgoing().map(|record| record.identity).collect();
    asked.iter().for_each(|key| drop(a.at(NOW, |b, me, rng| b.cancel(me, key, rng)).expect("asked")));
    assert_eq!(a.book.outgoing().count(), 0);
    let long = Terms { note: "x".repeat(NOTE_LEN_MAX + 1), ..Terms::default() };
    let record = Owner::new(2).public_record();
    assert_eq!(a.at(NOW, |b, me, rng| b.request(me, &record, &long, rng)), Err(TrustError::NoteTooLong));
}

fn nth_key(i: u64) -> IdentityKey {
    IdentityKey([[i.to_le_bytes(); 2].concat(), [1; 16].into()].concat().try_into().expect("32 bytes"))
}

/// A node with as many peers as it may have takes one more when another has gone, and keeps nothing of those that went but
/// what is bounded.
#[test]
fn pins_have_a_maximum_and_walk_back_to_none() {
    let (mut a, b) = trusting_pair();
    let pin = a.book.pin(&b.key()).expect("pinned").clone();
    for i in 1..PINS_MAX as u64 {
        let (identity, addr) = (nth_key(i), Addr::new(1, i as u32));
        a.book.pins.insert(identity, Pin { identity, addr, not_after: Some(NOW + 60), ..pin.clone() });
    }
    let mut stranger = Owner::new(3);
    let request = stranger.request(&a);
    assert_eq!(a.receive(&request), Outcome::Pending(stranger.key()));
    let approve = |a: &mut Owner, key| a.at(NOW, |book, me, rng| book.approve(me, &key, &Terms::default(), rng));
    assert_eq!(approve(&mut a, stranger.key()).err(), Some(TrustError::Full));
    a.at(NOW, |book, me, rng| book.revoke(me, &b.key(), rng)).expect("pinned");
    assert!(approve(&mut a, stranger.key()).is_ok());
    assert_eq!(a.book.pins().count(), PINS_MAX);
    let over = a.at(NOW + 60, |book, me, rng| book.expire_pins(me, rng));
    a.at(NOW, |book, me, rng| book.revoke(me, &stranger.key(), rng)).expect("pinned");
    assert_eq!((over.len(), a.book.pins().count(), a.book.pending().count()), (PINS_MAX - 1, 0, 0));
    assert_eq!(a.book.former.len(), FORMER_MAX, "names of those that went last");
}

#[test]
fn letters_have_a_maximum_and_walk_back_to_none() {
    let mut book = TrustBook::default();
    let numbers: Vec<_> = (0..LETTERS_MAX as u64).map(|i| book.add_letter(nth_key(i), vec![1])).collect();
    assert!(numbers.iter().all(Option::is_some) && book.add_letter(nth_key(9), vec![1]).is_none());
    let gone = numbers.into_iter().flatten().filter_map(|number| book.remove_letter(number));
    assert_eq!(gone.count(), LETTERS_MAX);
    assert_eq!(book.letters().count(), 0);
    assert!(book.add_letter(nth_key(9), vec![1]).is_some());
}

#[test]
fn two_pins_never_share_an_address() {
    let (mut a, _) = trusting_pair();
    let thief = Identity::from_seed([8; 32]);
    let record = NodeRecord::sign(&thief, Addr::new(0, 2), &Profile::default(), 1).emit();
    let me = Me { identity: &thief, record: &record, now_s: NOW, common_s: NOW };
    let request = TrustBook::default()
        .request(&me, &a.public_record(), &Terms::default(), &mut Rng::new([9; 32]))
        .expect("allowed");
    assert_eq!(a.receive(&request), Outcome::Pending(thief.public()));
    let refused = a.at(NOW, |b, me, rng| b.approve(me, &thief.public(), &Terms::default(), rng));
    assert_eq!(refused, Err(TrustError::AddressTaken));
}

#[test]
fn the_book_survives_its_disk_form_and_damage_is_noticed() {
    let (mut a, _) = trusting_pair();
    a.book.note_endpoint(&Owner::new(2).key(), "192.0.2.1:9".parse().expect("address"));
    a.request(&Owner::new(5));
    let request = Owner::new(6).request(&a);
    a.receive(&request);
    let bytes = a.book.emit();
    let again = TrustBook::parse(&bytes).expect("own form");
    assert_eq!(again.emit(), bytes);
    assert!((0..bytes.len()).all(|len| TrustBook::parse(&bytes[..len]).is_err()));
}

#[test]
fn requests_that_cross_more_than_once_give_one_secret() {
    let (mut a, mut b) = (Owner::new(1), Owner::new(2));
    let from_a = [a.request(&b), a.request(&b)];
    let from_b = [b.request(&a), b.request(&a)];
    assert_eq!(a.receive(&from_b[0]), Outcome::Pinned(b.key()));
    assert_eq!(b.receive(&from_a[0]), Outcome::Pinned(a.key()));
    let before = a.book.version();
    for (owner, again) in [(&mut a, &from_b[1]), (&mut b, &from_a[1])] {
        assert_eq!(owner.receive(again), Outcome::Discarded(Discarded::AlreadyTrusted));
    }
    assert_eq!(a.book.version(), before, "there is nothing to save");
    assert_eq!(a.book.pin(&b.key()).map(|p| *p.secret), b.book.pin(&a.key()).map(|p| *p.secret));
    assert_eq!((a.book.outgoing().count(), b.book.outgoing().count()), (0, 0));
    // Trust that ended takes the crossed request with it: asking anew is decided anew.
    let (_, revoke) = a.at(NOW + 1, |book, me, rng| book.revoke(me, &b.key(), rng)).expect("pinned");
    assert_eq!(b.receive(&revoke), Outcome::Revoked(a.key()));
    let request = a.request(&b);
    assert_eq!(b.receive(&request), Outcome::Pending(a.key()));
}
