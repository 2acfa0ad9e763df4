//! Ends of trust and of grants, and clocks that differ.

use super::*;

const DAY: u64 = 24 * 3600;

impl Owner {
    /// Gives an input while the rendezvous' clock says something else than ours.
    fn between<R>(
        &mut self,
        (now_s, common_s): (u64, u64),
        f: impl FnOnce(&mut TrustBook, &Me<'_>, &mut Rng) -> R,
    ) -> R {
        f(&mut self.book, &Me { identity: &self.identity, record: &self.record, now_s, common_s }, &mut self.rng)
    }

    fn approve_until(&mut self, key: IdentityKey, end: u64) -> Vec<u8> {
        let terms = Terms { not_after: Some(end), ..Terms::default() };
        self.at(NOW, |book, me, rng| book.approve(me, &key, &terms, rng)).expect("pending")
    }

    fn end_of(&self, peer: &Owner) -> Option<u64> {
        self.book.pin(&peer.key()).expect("pinned").not_after
    }
}

#[test]
fn trust_ends_at_its_second_on_both_sides_and_both_tell() {
    let (mut a, mut b) = (Owner::new(1), Owner::new(2));
    let request = a.request(&b);
    b.receive(&request);
    let accept = b.approve_until(a.key(), NOW + 60);
    assert_eq!(a.receive(&accept), Outcome::Pinned(b.key()));
    assert_eq!((a.end_of(&b), b.end_of(&a)), (Some(NOW + 60), Some(NOW + 60)));
    for owner in [&mut a, &mut b] {
        assert_eq!(owner.book.next_end(), Some(NOW + 60));
        assert!(owner.at(NOW + 59, |book, me, rng| book.expire_pins(me, rng)).is_empty());
    }
    let over = b.at(NOW + 60, |book, me, rng| book.expire_pins(me, rng));
    assert_eq!(over.iter().map(|(pin, _)| pin.identity).collect::<Vec<_>>(), [a.key()]);
    assert_eq!(a.receive(&over[0].1), Outcome::Revoked(b.key()), "also a peer with a slow clock learns it");
    assert!(a.at(NOW + 60, |book, me, rng| book.expire_pins(me, rng)).is_empty());
    assert_eq!(a.receive(&accept), Outcome::Discarded(Discarded::Replayed));
}

/// Quota and end are said when the owner asks, and hold for the pin that comes of it, after a restart as well.
#[test]
fn what_an_owner_says_when_asking_holds_once_the_other_one_has_approved() {
    let quota: Quota = "memory=2MB,streams=7".parse().expect("a quota");
    let terms = Terms { quota: Some(quota), not_after: Some(NOW + 60), ..Terms::default() };
    for (their_end, end, is_crossing) in
        [(None, 60, false), (Some(30), 30, false), (Some(90), 60, false), (None, 60, true)]
    {
        let (mut a, mut b) = (Owner::new(1), Owner::new(2));
        let record = b.public_record();
        let request = a.at(NOW, |book, me, rng| book.request(me, &record, &terms, rng)).expect("allowed");
        a.book = TrustBook::parse(&a.book.emit()).expect("own form");
        let answer = if is_crossing {
            b.request(&a)
        } else {
            b.receive(&request);
            match their_end {
                Some(after) => b.approve_until(a.key(), NOW + after),
                None => b.approve(a.key()),
            }
        };
        assert_eq!(a.receive(&answer), Outcome::Pinned(b.key()));
        let pin = a.book.pin(&b.key()).expect("pinned");
        assert_eq!((pin.quota(), pin.not_after), (quota, Some(NOW + end)), "{their_end:?}");
    }
    // A node that has asked already is approved by asking: the terms are those of the approval, and the defaults are no quota.
    let (mut a, mut b) = (Owner::new(1), Owner::new(2));
    let request = b.request(&a);
    a.receive(&request);
    for (said, kept) in [(Some(quota), Some(quota)), (None, None), (Some(Quota::default()), None)] {
        let mut owner = TrustBook::parse(&a.book.emit()).expect("own form");
        std::mem::swap(&mut owner, &mut a.book);
        let terms = Terms { quota: said, ..Terms::default() };
        a.at(NOW, |book, me, rng| book.approve(me, &b.key(), &terms, rng)).expect("it waits");
        assert_eq!(a.book.pin(&b.key()).expect("pinned").quota.as_deref().copied(), kept);
        a.book = owner;
    }
}

#[test]
fn ends_are_told_by_the_common_clock() {
    // A's clock is a year behind, B's two hours ahead; the rendezvous has told both.
    let (a_clocks, b_clocks) = ((NOW - 365 * DAY, NOW), (NOW + 7200, NOW));
    let (mut a, mut b) = (Owner::new(1), Owner::new(2));
    let record = b.public_record();
    let request = a.between(a_clocks, |book, me, rng| book.request(me, &record, &Terms::default(), rng));
    let outcome = b.between(b_clocks, |book, me, _| book.receive(me, &request.expect("allowed"), None));
    assert_eq!(outcome, Outcome::Pending(a.key()));
    let terms = Terms { not_after: Some(b_clocks.0 + 60), ..Terms::default() };
    let accept = b.between(b_clocks, |book, me, rng| book.approve(me, &a.key(), &terms, rng)).expect("pending");
    assert_eq!(
        a.between(a_clocks, |book, me, _| book.receive(me, &accept, None)),
        Outcome::Pinned(b.key()),
        "a wrong clock keeps no two nodes apart"
    );
    assert_eq!(a.end_of(&b), Some(a_clocks.0 + 60));
    // So is the end of a grant.
    let change = Regrant::Grant(Ports::one(80), Some(b_clocks.0 + 30));
    let statement = b.between(b_clocks, |book, me, rng| book.regrant(me, &a.key(), &change, rng)).expect("a peer");
    a.between(a_clocks, |book, me, _| book.receive(me, &statement, None));
    assert_eq!(a.book.next_end(), Some(a_clocks.0 + 30));
    let ended = a.between((a_clocks.0 + 30, NOW + 30), |book, me, _| book.expire_grants(me));
    assert_eq!(ended.theirs, [b.key()]);
    let pin = a.book.pin(&b.key()).expect("pinned");
    assert!(pin.is_denied(80) && !pin.is_denied(1000) && pin.granted_ends.is_empty());
}

#[test]
fn an_end_that_is_over_by_a_clock_that_runs_ahead_is_counted_from_now() {
    let (mut a, mut b) = (Owner::new(1), Owner::new(2));
    let request = a.request(&b);
    b.receive(&request);
    let accept = b.approve_until(a.key(), NOW + 60);
    let ahead = NOW + 7200;
    assert_eq!(a.at(ahead, |book, me, _| book.receive(me, &accept, None)), Outcome::Pinned(b.key()));
    assert_eq!(a.end_of(&b), Some(ahead + 60));
}

#[test]
fn a_request_is_too_old_when_no_clock_says_otherwise_and_never_too_new() {
    let (mut a, mut b) = (Owner::new(1), Owner::new(2));
    let request = a.request(&b);
    let late = NOW + REQUEST_LIFETIME_S + 1;
    let outcome = b.between((late, late), |book, me, _| book.receive(me, &request, None));
    assert_eq!(outcome, Outcome::Discarded(Discarded::Expired));
    for clocks in [(late, NOW), (0, 0), (NOW - 400 * DAY, NOW)] {
        b.book = TrustBook::default();
        let outcome = b.between(clocks, |book, me, _| book.receive(me, &request, None));
        assert_eq!(outcome, Outcome::Pending(a.key()), "{clocks:?}");
    }
    // What waits survives a clock that is a year ahead for a while.
    let outcome = b.between((NOW + 365 * DAY, NOW), |book, me, _| book.receive(me, &request, None));
    assert_eq!(outcome, Outcome::Discarded(Discarded::Replayed));
    assert_eq!(b.book.pending().count(), 1);
}

#[test]
fn a_revocation_is_never_too_old() {
    let (mut a, mut b) = trusting_pair();
    let (_, revoke) = b.at(NOW + 1, |book, me, rng| book.revoke(me, &a.key(), rng)).expect("pinned");
    let late = NOW + 100 * DAY;
    assert_eq!(a.at(late, |book, me, _| book.receive(me, &revoke, None)), Outcome::Revoked(b.key()));
}
