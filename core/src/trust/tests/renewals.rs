//! Pins that one side has lost, secrets that differ, and requests that are taken back.

use super::*;

impl Owner {
    fn ask_to_renew(&mut self, peer: &Owner) -> Option<Vec<u8>> {
        let key = peer.key();
        self.at(NOW + 5, |b, me, rng| b.ask_to_renew(me, &key, rng))
    }

    /// Receives the request of a pinned node and answers it, as a node does by itself.
    fn answer(&mut self, from: &Owner, request: &[u8]) -> Vec<u8> {
        let key = from.key();
        assert_eq!(self.at(NOW + 6, |b, me, _| b.receive(me, request, None)), Outcome::Renewed(key));
        self.at(NOW + 6, |b, me, rng| b.renew(me, &key, rng)).expect("a peer asks")
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
fn a_peer_that_lost_its_pin_asks_anew_and_is_answered_with_what_it_had() {
    let (mut a, mut b) = trusting_pair();
    let key = a.key();
    b.at(NOW, |book, me, rng| book.regrant(me, &key, &Regrant::Grant(Ports::one(80), Some(NOW + 900)), rng))
        .expect("a peer");
    let before = b.book.pin(&key).expect("pinned").clone();
    a.book = TrustBook::default(); // only the identity was restored
    let request = a.at(NOW + 5, |book, me, rng| book.request(me, &b.public_record(), &Terms::default(), rng));
    let accept = b.answer(&a, &request.expect("allowed"));
    assert_eq!(a.at(NOW + 6, |book, me, _| book.receive(me, &accept, None)), Outcome::Pinned(b.key()));
    assert!(a.secret_with(&b).is_some() && a.secret_with(&b) == b.secret_with(&a));
    assert_ne!(b.secret_with(&a), Some(*before.secret), "what the other has forgotten opens nothing");
    let after = b.book.pin(&key).expect("pinned");
    assert_eq!((&after.ports, &after.temporary), (&before.ports, &before.temporary));
    assert_eq!(b.book.pending().count(), 0, "no owner decides twice");
}

#[test]
fn a_node_in_doubt_asks_once_and_the_same_secret_changes_nothing() {
    let (mut a, mut b) = trusting_pair();
    let request = a.ask_to_renew(&b).expect("a peer");
    assert!(a.ask_to_renew(&b).is_none() && a.book.is_renewing(&b.key()), "it waits for the answer");
    let (version, secret) = (b.book.version(), b.secret_with(&a));
    assert_eq!(b.receive(&request), Outcome::Discarded(Discarded::AlreadyTrusted));
    assert!(b.book.version() == version && b.secret_with(&a) == secret);
    a.book.note_agreement(&b.key()); // a tunnel stands
    assert!(!a.book.is_renewing(&b.key()) && a.ask_to_renew(&b).is_some());
    assert_eq!(a.ask_to_renew(&Owner::new(9)), None);
}

#[test]
fn a_node_without_the_pin_gets_a_request_that_its_owner_approves() {
    let (mut a, mut b) = trusting_pair();
    b.book = TrustBook::default();
    let request = a.ask_to_renew(&b).expect("a peer");
    assert_eq!(b.receive(&request), Outcome::Pending(a.key()));
    let accept = b.at(NOW + 6, |book, me, rng| book.approve(me, &a.key(), &Terms::default(), rng)).expect("pending");
    assert_eq!(a.at(NOW + 6, |book, me, _| book.receive(me, &accept, None)), Outcome::Pinned(b.key()));
    assert!(a.secret_with(&b).is_some() && a.secret_with(&b) == b.secret_with(&a));
}

#[test]
fn secrets_that_differ_are_renewed_whichever_side_notices() {
    for both in [false, true] {
        let (mut a, mut b) = trusting_pair();
        a.book.pins.get_mut(&b.key()).expect("pinned").secret = [7; 32].into();
        let from_a = a.ask_to_renew(&b).expect("a peer");
        if both {
            let from_b = b.ask_to_renew(&a).expect("a peer");
            assert_eq!(a.at(NOW + 6, |book, me, _| book.receive(me, &from_b, None)), Outcome::Pinned(b.key()));
            assert_eq!(b.at(NOW + 6, |book, me, _| book.receive(me, &from_a, None)), Outcome::Pinned(a.key()));
            // Each repeats its request once, which is recognised.
            let keys = [b.key(), a.key()];
            let again = [(&mut a, keys[0]), (&mut b, keys[1])].map(|(owner, key)| {
                let message = owner.at(NOW + 7, |book, me, rng| book.repeat_renewal(me, &key, rng)).expect("crossed");
                assert!(owner.at(NOW + 7, |book, me, rng| book.repeat_renewal(me, &key, rng)).is_none());
                message
            });
            assert_eq!(b.receive(&again[0]), Outcome::Discarded(Discarded::AlreadyTrusted));
            assert_eq!(a.receive(&again[1]), Outcome::Discarded(Discarded::AlreadyTrusted));
        } else {
            let accept = b.answer(&a, &from_a);
            assert_eq!(a.at(NOW + 6, |book, me, _| book.receive(me, &accept, None)), Outcome::Pinned(b.key()));
        }
        assert!(a.secret_with(&b).is_some() && a.secret_with(&b) == b.secret_with(&a), "{both}");
    }
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
