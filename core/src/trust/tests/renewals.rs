//! Pins that one side has lost, secrets that differ, and requests that are taken back.

use super::*;

impl Owner {
    fn ask_to_compare(&mut self, peer: &Owner) -> Option<Vec<u8>> {
        let key = peer.key();
        self.at(NOW + 5, |b, me, rng| b.ask_to_compare(me, &key, rng))
    }

    /// Approves whatever waits of a node, and gives what is to be sent.
    fn approve_again(&mut self, peer: &Owner) -> Vec<u8> {
        let key = peer.key();
        self.at(NOW + 6, |b, me, rng| b.approve(me, &key, &Terms::default(), rng)).expect("pending")
    }

    fn secret_with(&self, peer: &Owner) -> Option<[u8; 32]> {
        self.book.pin(&peer.key()).map(|pin| *pin.secret)
    }

    fn cancel(&mut self, of: &Owner) -> Result<Vec<u8>, TrustError> {
        let key = of.key();
        self.at(NOW + 5, |b, me, rng| b.cancel(me, &key, rng)).map(|(_, message)| message)
    }
}

#[test]
fn the_identity_alone_regains_nothing_and_one_approval_gives_all_that_there_was() {
    let (mut a, mut b) = trusting_pair();
    let key = a.key();
    b.at(NOW, |book, me, rng| book.regrant(me, &key, &Regrant::Grant(Ports::one(80), Some(NOW + 900)), rng))
        .expect("a peer");
    b.book.pins.get_mut(&key).expect("pinned").not_after = Some(NOW + 9000);
    let before = b.book.pin(&key).expect("pinned").clone();
    a.book = TrustBook::default(); // only the identity was restored, or somebody has copied it
    let request = a.at(NOW + 5, |book, me, rng| book.request(me, &b.public_record(), &Terms::default(), rng));
    assert_eq!(b.receive(&request.expect("allowed")), Outcome::Pending(key), "the owner decides");
    b.book = TrustBook::parse(&b.book.emit()).expect("own form");
    assert_eq!(b.secret_with(&a), Some(*before.secret), "the pin is as it was");
    assert!(b.book.secret_differs(&key) && !b.book.secret_differs(&Owner::new(9).key()));
    let accept = b.approve_again(&a);
    assert_eq!(a.receive(&accept), Outcome::Pinned(b.key()));
    assert!(a.secret_with(&b).is_some() && a.secret_with(&b) == b.secret_with(&a));
    assert_ne!(b.secret_with(&a), Some(*before.secret), "what the other has forgotten opens nothing");
    let after = b.book.pin(&key).expect("pinned");
    assert_eq!((&after.ports, &after.temporary, after.not_after), (&before.ports, &before.temporary, before.not_after));
    assert!(!b.book.secret_differs(&key));
}

#[test]
fn a_node_in_doubt_asks_once_and_the_same_secret_changes_nothing() {
    let (mut a, mut b) = trusting_pair();
    let question = a.ask_to_compare(&b).expect("a peer");
    assert!(a.ask_to_compare(&b).is_none(), "it waits for the answer");
    let (version, secret) = (b.book.version(), b.secret_with(&a));
    assert_eq!(b.receive(&question), Outcome::Discarded(Discarded::AlreadyTrusted));
    assert!(b.book.version() == version && b.secret_with(&a) == secret);
    a.book.note_agreement(&b.key()); // a tunnel stands
    assert!(a.ask_to_compare(&b).is_some());
    assert_eq!(a.ask_to_compare(&Owner::new(9)), None);
}

#[test]
fn a_question_is_no_consent_whoever_answers_it() {
    let (mut a, mut b) = trusting_pair();
    let secret = a.secret_with(&b);
    b.book = TrustBook::default();
    let question = a.ask_to_compare(&b).expect("a peer");
    assert_eq!(b.receive(&question), Outcome::Pending(a.key()));
    // An accept, as another program might make one, counts for nothing.
    b.book.pending.get_mut(&a.key()).expect("waits").is_question = false;
    let accept = b.approve_again(&a);
    assert_eq!(a.receive(&accept), Outcome::Discarded(Discarded::Unsolicited));
    assert_eq!(a.secret_with(&b), secret);
}

#[test]
fn a_node_without_the_pin_approves_the_question_and_the_other_owner_its_request() {
    let (mut a, mut b) = trusting_pair();
    b.book = TrustBook::default();
    let question = a.ask_to_compare(&b).expect("a peer");
    assert_eq!(b.receive(&question), Outcome::Pending(a.key()));
    let request = b.approve_again(&a);
    assert!(b.book.secret_differs(&a.key()), "until the other owner has answered");
    assert_eq!(a.receive(&request), Outcome::Pending(b.key()));
    let accept = a.approve_again(&b);
    assert_eq!(b.receive(&accept), Outcome::Pinned(a.key()));
    assert!(a.secret_with(&b).is_some() && a.secret_with(&b) == b.secret_with(&a));
    assert!(!a.book.secret_differs(&b.key()) && !b.book.secret_differs(&a.key()));
}

#[test]
fn secrets_that_differ_are_renewed_by_one_approval_on_each_side() {
    for both_at_once in [false, true] {
        let (mut a, mut b) = trusting_pair();
        a.book.pins.get_mut(&b.key()).expect("pinned").secret = [7; 32].into();
        let from_a = a.ask_to_compare(&b).expect("a peer");
        if both_at_once {
            let from_b = b.ask_to_compare(&a).expect("a peer");
            assert_eq!(a.receive(&from_b), Outcome::Pending(b.key()));
            assert_eq!(b.receive(&from_a), Outcome::Pending(a.key()));
            let (from_a, from_b) = (a.approve_again(&b), b.approve_again(&a));
            assert_eq!(a.receive(&from_b), Outcome::Pinned(b.key()));
            assert_eq!(b.receive(&from_a), Outcome::Pinned(a.key()));
        } else {
            assert_eq!(b.receive(&from_a), Outcome::Pending(a.key()));
            assert!(b.ask_to_compare(&a).is_none(), "the other has asked");
            let request = b.approve_again(&a);
            assert_eq!(a.receive(&request), Outcome::Pending(b.key()));
            let accept = a.approve_again(&b);
            assert_eq!(b.receive(&accept), Outcome::Pinned(a.key()));
        }
        assert!(a.secret_with(&b).is_some() && a.secret_with(&b) == b.secret_with(&a), "{both_at_once}");
    }
}

#[test]
fn an_owner_may_name_all_that_a_peer_may_reach() {
    let (a, mut b) = trusting_pair();
    let key = a.key();
    let temporary = Regrant::Grant(Ports::one(80), Some(NOW + 900));
    b.at(NOW, |book, me, rng| book.regrant(me, &key, &temporary, rng)).expect("a peer");
    let only = Regrant::Only("22,90".parse().expect("ports"));
    for _ in 0..2 {
        let statement = b.at(NOW + 1, |book, me, rng| book.regrant(me, &key, &only, rng)).expect("also once more");
        let Regrant::Only(ports) = &only else { return };
        assert_eq!((&b.book.pin(&key).expect("pinned").reach(), statement.is_empty()), (ports, false));
    }
}

#[test]
fn a_peers_request_takes_no_strangers_room() {
    let (mut a, mut b) = trusting_pair();
    a.book.pins.get_mut(&b.key()).expect("pinned").secret = [7; 32].into();
    let question = a.ask_to_compare(&b).expect("a peer");
    assert_eq!(b.receive(&question), Outcome::Pending(a.key()));
    assert_eq!((b.book.pending().count(), b.book.strangers().count()), (1, 0));
}

#[test]
fn a_request_that_was_taken_back_leaves_nothing_in_whatever_order_it_arrives() {
    for overtakes in [false, true] {
        let (mut a, mut b) = (Owner::new(1), Owner::new(2));
        let request = a.request(&b);
        let cancel = a.cancel(&b).expect("asked");
        assert_eq!(a.cancel(&b), Err(TrustError::Unknown));
        if overtakes {
            assert_eq!(b.receive(&cancel), Outcome::Discarded(Discarded::Unsolicited));
            assert_eq!(b.receive(&request), Outcome::Discarded(Discarded::Replayed), "the epoch is remembered");
        } else {
            assert_eq!(b.receive(&request), Outcome::Pending(a.key()));
            assert_eq!(b.receive(&cancel), Outcome::Cancelled(a.key()));
            assert_eq!(b.receive(&request), Outcome::Discarded(Discarded::Replayed));
        }
        let book = TrustBook::parse(&b.book.emit()).expect("own form");
        assert_eq!((book.pending().count(), book.epoch_of(&a.key())), (0, b.book.epoch_of(&a.key())));
    }
    // An approval that crosses the cancellation ends with it.
    let (mut a, mut b) = (Owner::new(1), Owner::new(2));
    let request = a.request(&b);
    b.receive(&request);
    let accept = b.approve(a.key());
    let cancel = a.cancel(&b).expect("asked");
    assert_eq!(a.receive(&accept), Outcome::Discarded(Discarded::Unsolicited));
    assert_eq!(b.receive(&cancel), Outcome::Revoked(a.key()));
}

#[test]
fn a_wish_is_taken_back() {
    let (mut a, mut b) = trusting_pair();
    let (key, wanted) = (b.key(), Ports::one(80));
    let wish = a.at(NOW, |book, me, rng| book.wish(me, &key, (&wanted, ""), rng)).expect("allowed");
    assert_eq!(b.receive(&wish), Outcome::Wished(a.key()));
    let cancel = a.cancel(&b).expect("asked");
    assert_eq!(b.receive(&cancel), Outcome::Cancelled(a.key()));
    assert!(b.book.waiting() == 0 && b.book.pin(&a.key()).is_some(), "trust stays");
    assert_eq!(b.receive(&wish), Outcome::Discarded(Discarded::Replayed));
    assert_eq!(a.cancel(&b), Err(TrustError::Unknown));
}

#[test]
fn an_accept_from_before_a_revocation_is_void_also_for_a_node_that_has_no_pin() {
    let (mut a, mut b) = (Owner::new(1), Owner::new(2));
    let request = a.request(&b);
    b.receive(&request);
    let accept = b.approve(a.key());
    let (_, revoke) = b.at(NOW + 1, |book, me, rng| book.revoke(me, &a.key(), rng)).expect("pinned");
    assert_eq!(a.receive(&revoke), Outcome::Discarded(Discarded::Unsolicited), "it overtook the accept");
    a.book = TrustBook::parse(&a.book.emit()).expect("own form");
    assert_eq!(a.receive(&accept), Outcome::Discarded(Discarded::Replayed));
    assert!(a.book.pin(&b.key()).is_none());
}
