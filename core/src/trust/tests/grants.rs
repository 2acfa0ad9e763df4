//! Grants that change, wishes, and peers with other names.

use super::*;
use crate::extensions::{EXTENSIONS_LEN_MAX, ExtensionType, Extensions};
use std::vec;

fn ports(text: &str) -> Ports {
    text.parse().expect(text)
}

impl Owner {
    fn regrant(&mut self, to: &Owner, change: &Regrant) -> Result<Vec<u8>, TrustError> {
        let key = to.key();
        self.at(NOW, |b, me, rng| b.regrant(me, &key, change, rng))
    }

    fn wish(&mut self, of: &Owner, text: &str) -> Vec<u8> {
        let (key, wanted) = (of.key(), ports(text));
        self.at(NOW, |b, me, rng| b.wish(me, &key, (&wanted, "why\x07"), rng)).expect("allowed")
    }

    fn pin(&self, of: &Owner) -> &Pin {
        self.book.pin(&of.key()).expect("pinned")
    }

    /// Signs a record with this name.
    fn rename(&mut self, hostname: &str, sequence: u64) {
        let profile = Profile { hostname: hostname.into(), ..Profile::default() };
        let addr = self.public_record().addr;
        self.record = NodeRecord::sign(&self.identity, addr, &profile, sequence).emit();
    }

    /// The peers that may reach less of this node since then.
    fn ended(&mut self, now_s: u64) -> Vec<IdentityKey> {
        self.at(now_s, |b, me, _| b.expire_grants(me)).ours
    }

    /// What this owner's node says when a tunnel with `to` comes up.
    fn standing(&mut self, to: &Owner) -> Vec<Vec<u8>> {
        let key = to.key();
        self.at(NOW, |b, me, rng| b.standing(me, &key, rng))
    }
}

/// A third owner; `a` and this one trust each other.
fn befriend(a: &mut Owner, n: u8) -> Owner {
    let mut c = Owner::new(n);
    let request = c.request(a);
    a.receive(&request);
    let accept = a.approve(c.key());
    assert_eq!(c.receive(&accept), Outcome::Pinned(a.key()));
    c
}

#[test]
fn a_grant_and_its_withdrawal_count_at_once_and_are_told() {
    let (mut a, mut b) = trusting_pair();
    let grant = b.regrant(&a, &Regrant::Grant(ports("80,8000-8100"), None)).expect("a peer");
    assert!(b.pin(&a).allows(80) && b.pin(&a).allows(8055) && b.pin(&a).allows(1000));
    assert_eq!(a.pin(&b).granted, None, "nothing was said");
    assert_eq!(a.receive(&grant), Outcome::Granted(b.key()));
    assert_eq!(a.pin(&b).granted, Some(ports("7,80,1000-1002,8000-8100")));
    let withdrawal = b.regrant(&a, &Regrant::Withdraw(ports("80,messages"))).expect("granted");
    assert!(!b.pin(&a).allows(80) && !b.pin(&a).allows(1001) && b.pin(&a).allows(8055));
    assert_eq!(b.regrant(&a, &Regrant::Withdraw(ports("80"))), Err(TrustError::NotGranted));
    assert_eq!(a.receive(&withdrawal), Outcome::Granted(b.key()));
    assert!(a.pin(&b).is_denied(1001) && !a.pin(&b).is_denied(7));
    assert_eq!(b.regrant(&Owner::new(9), &Regrant::Grant(Ports::All, None)), Err(TrustError::Unknown));
}

#[test]
fn older_statements_never_undo_newer_ones() {
    let (mut a, mut b) = trusting_pair();
    let older = b.regrant(&a, &Regrant::Grant(ports("80"), None)).expect("a peer");
    let newer = b.regrant(&a, &Regrant::Withdraw(ports("80"))).expect("granted");
    assert_eq!(a.receive(&newer), Outcome::Granted(b.key()));
    let version = a.book.version();
    for replayed in [&older, &newer] {
        assert_eq!(a.receive(replayed), Outcome::Discarded(Discarded::Replayed));
    }
    assert!(a.pin(&b).is_denied(80) && a.book.version() == version, "nothing to save");
    for i in 0..newer.len() {
        let mut forged = newer.clone();
        forged[i] ^= 1;
        assert!(matches!(a.receive(&forged), Outcome::Discarded(_)), "byte {i}");
    }
    // Trust that was made anew is not changed by what was said before.
    let (_, revoke) = b.at(NOW + 1, |book, me, rng| book.revoke(me, &a.key(), rng)).expect("pinned");
    a.receive(&revoke);
    assert_eq!(a.receive(&older), Outcome::Discarded(Discarded::Unsolicited));
    let request = a.at(NOW + 2, |book, me, rng| book.request(me, &b.public_record(), &Terms::default(), rng));
    b.at(NOW + 2, |book, me, _| book.receive(me, &request.expect("allowed"), None));
    let accept = b.at(NOW + 3, |book, me, rng| book.approve(me, &a.key(), &Terms::default(), rng)).expect("pending");
    assert_eq!(a.at(NOW + 3, |book, me, _| book.receive(me, &accept, None)), Outcome::Pinned(b.key()));
    assert_eq!(a.receive(&newer), Outcome::Discarded(Discarded::Replayed));
    assert_eq!(a.pin(&b).granted, None);
    let standing = b.standing(&a);
    assert_eq!(a.at(NOW + 3, |book, me, _| book.receive(me, &standing[0], None)), Outcome::Granted(b.key()));
}

#[test]
fn temporary_grants_end_and_the_newest_decision_about_a_port_counts() {
    let (mut a, mut b) = trusting_pair();
    b.regrant(&a, &Regrant::Grant(ports("80,81"), Some(NOW + 60))).expect("a peer");
    b.regrant(&a, &Regrant::Grant(ports("81,82"), Some(NOW + 90))).expect("a peer");
    b.regrant(&a, &Regrant::Grant(ports("echo"), Some(NOW + 60))).expect("a peer");
    b.regrant(&a, &Regrant::Grant(ports("82"), None)).expect("a peer");
    assert_eq!(b.book.next_end(), Some(NOW + 60));
    assert_eq!(b.ended(NOW + 59), []);
    assert_eq!(b.ended(NOW + 60), [a.key()]);
    assert_eq!(b.pin(&a).reach(), ports("81,82,1000-1002"));
    let standing = b.standing(&a);
    assert_eq!(a.receive(&standing[0]), Outcome::Granted(b.key()));
    assert!(a.pin(&b).is_denied(80) && !a.pin(&b).is_denied(81));
    assert_eq!(b.ended(NOW + 90), [a.key()]);
    assert_eq!((b.pin(&a).reach(), b.book.next_end()), (ports("82,1000-1002"), None));
}

#[test]
fn temporary_grants_and_ranges_have_maxima() {
    let (a, mut b) = trusting_pair();
    for n in 0..=Pin::TEMPORARY_MAX as u16 {
        let result = b.regrant(&a, &Regrant::Grant(Ports::one(2000 + 2 * n), Some(NOW + 1 + u64::from(n))));
        assert_eq!(result.err(), (usize::from(n) == Pin::TEMPORARY_MAX).then_some(TrustError::Full), "{n}");
    }
    for n in 0..100 {
        let before = b.pin(&a).clone();
        if b.regrant(&a, &Regrant::Grant(Ports::one(3000 + 2 * n), None)) == Err(TrustError::Full) {
            assert!(n > 40 && *b.pin(&a) == before, "what is refused changes nothing");
            return;
        }
    }
    panic!("no maximum");
}

#[test]
fn a_wish_waits_for_the_owner_who_grants_or_declines() {
    let (mut a, mut b) = trusting_pair();
    let wish = a.wish(&b, "80,messages");
    assert_eq!(b.receive(&wish), Outcome::Wished(a.key()));
    assert_eq!(b.receive(&wish), Outcome::Discarded(Discarded::Replayed));
    let waiting = b.pin(&a).wish.clone().expect("waits");
    assert_eq!((&waiting.ports, waiting.note.as_str()), (&ports("80,1001"), "why "));
    assert!(!b.pin(&a).allows(80), "asking is not being granted");
    assert_eq!((b.book.waiting(), a.pin(&b).asked.as_ref().map(|asked| asked.ports.clone())), (1, Some(waiting.ports)));
    let granted = b.regrant(&a, &Regrant::Approve(ports("80"), None)).expect("asked");
    assert_eq!(a.receive(&granted), Outcome::Granted(b.key()));
    assert!(a.pin(&b).asked.is_none() && b.pin(&a).wish.is_none() && b.pin(&a).allows(80));
    assert_eq!(b.regrant(&a, &Regrant::Decline("no".into())), Err(TrustError::Unknown), "nothing waits");
    let again = a.at(NOW, |book, me, rng| book.wish(me, &b.key(), (&ports("80"), ""), rng));
    assert_eq!(again, Err(TrustError::AlreadyTrusted));

    let wish = a.wish(&b, "22");
    assert_eq!(b.receive(&wish), Outcome::Wished(a.key()));
    let declined = b.regrant(&a, &Regrant::Decline("no".into())).expect("asked");
    assert_eq!(a.receive(&declined), Outcome::Declined(b.key()));
    assert!(a.pin(&b).asked.is_none() && !b.pin(&a).allows(22));
}

#[test]
fn lost_wishes_and_answers_come_again_with_the_next_tunnel() {
    let (mut a, mut b) = trusting_pair();
    a.wish(&b, "22"); // lost
    let standing = a.standing(&b);
    assert_eq!(standing.len(), 2);
    let outcomes: Vec<_> = standing.iter().map(|message| b.receive(message)).collect();
    assert_eq!(outcomes, [Outcome::Granted(a.key()), Outcome::Wished(a.key())]);
    b.regrant(&a, &Regrant::Decline(String::new())).expect("asked"); // lost
    let standing = b.standing(&a);
    // The first statement of all is news besides.
    assert_eq!(a.receive(&standing[0]), Outcome::Granted(b.key()));
    assert!(a.pin(&b).asked.is_none() && a.standing(&b).len() == 1);
}

#[test]
fn crossing_wishes_are_two_questions() {
    let (mut a, mut b) = trusting_pair();
    let (from_a, from_b) = (a.wish(&b, "80"), b.wish(&a, "90"));
    assert_eq!((b.receive(&from_a), a.receive(&from_b)), (Outcome::Wished(a.key()), Outcome::Wished(b.key())));
    assert!(!a.pin(&b).allows(90) && !b.pin(&a).allows(80));
    let granted = a.regrant(&b, &Regrant::Approve(ports("90"), None)).expect("asked");
    assert_eq!(b.receive(&granted), Outcome::Granted(a.key()));
    assert!(a.pin(&b).allows(90) && a.pin(&b).asked.is_some(), "ours still waits");
}

#[test]
fn wishes_need_trust_but_no_room_among_strangers_and_grow_old() {
    let (mut a, mut b) = trusting_pair();
    let wish = a.wish(&b, "22");
    assert_eq!(Owner::new(2).receive(&wish), Outcome::Discarded(Discarded::Unsolicited));
    for i in 0..PENDING_MAX {
        let mut seed = [7; 32];
        seed[..8].copy_from_slice(&(i as u64).to_le_bytes());
        let identity = Identity::from_seed(seed);
        let record = NodeRecord::sign(&identity, Addr::new(0, 9), &Profile::default(), 1).emit();
        let me = Me { identity: &identity, record: &record, now_s: NOW, common_s: NOW };
        let request = TrustBook::default().request(&me, &b.public_record(), &Terms::default(), &mut Rng::new(seed));
        b.receive(&request.expect("allowed"));
    }
    assert_eq!(b.book.pending().count(), PENDING_MAX);
    assert_eq!(b.receive(&wish), Outcome::Wished(a.key()));
    b.ended(NOW + REQUEST_LIFETIME_S);
    assert!(b.pin(&a).wish.is_none());
}

#[test]
fn a_peer_that_renames_itself_is_known_by_its_new_name() {
    let (mut a, mut b) = trusting_pair();
    b.rename("new-name", 2);
    let standing = b.standing(&a);
    let renaming = Renaming { former: "node-2".into(), wanted: "new-name".into(), is_refused: false };
    assert_eq!(a.receive(&standing[0]), Outcome::Renamed(b.key(), renaming));
    assert_eq!((a.pin(&b).hostname.as_str(), &a.pin(&b).granted), ("new-name", &Some(Ports::default())));
    b.rename("older", 1);
    assert_eq!(a.at(NOW, |book, _, _| book.refresh(&b.public_record())), None, "an old record is worth nothing");
    b.rename("", 3);
    assert!(a.at(NOW, |book, _, _| book.refresh(&b.public_record())).is_some());
    assert_eq!(a.pin(&b).hostname, "");
}

#[test]
fn no_peer_takes_the_name_of_another() {
    let (mut a, mut b) = trusting_pair();
    let mut c = befriend(&mut a, 3);
    c.rename("node-2", u64::MAX);
    let standing = c.standing(&a);
    let renaming = Renaming { former: "node-3".into(), wanted: "node-2".into(), is_refused: true };
    assert_eq!(a.receive(&standing[0]), Outcome::Renamed(c.key(), renaming));
    assert_eq!((a.pin(&b).hostname.as_str(), a.pin(&c).hostname.as_str()), ("node-2", ""));
    // Once the name is given up, the other has it.
    b.rename("node-9", 2);
    assert!(a.at(NOW, |book, _, _| book.refresh(&b.public_record())).is_some());
    assert!(a.at(NOW, |book, _, _| book.refresh(&c.public_record())).is_some());
    assert_eq!((a.pin(&b).hostname.as_str(), a.pin(&c).hostname.as_str()), ("node-9", "node-2"));
}

#[test]
fn a_node_that_the_owner_approves_under_the_name_of_a_peer_has_the_name() {
    let (mut a, b) = trusting_pair();
    let mut c = Owner::new(3);
    c.rename("node-2", 5);
    let request = c.request(&a);
    a.receive(&request);
    a.approve(c.key());
    assert_eq!((a.pin(&b).hostname.as_str(), a.pin(&c).hostname.as_str()), ("", "node-2"), "the newer record wins");
    let mut d = Owner::new(4);
    d.rename("node-2", 4);
    let request = d.request(&a);
    a.receive(&request);
    a.approve(d.key());
    assert_eq!((a.pin(&c).hostname.as_str(), a.pin(&d).hostname.as_str()), ("node-2", ""));
}

#[test]
fn grants_survive_the_disk() {
    let (mut a, mut b) = trusting_pair();
    b.regrant(&a, &Regrant::Grant(ports("80"), Some(NOW + 60))).expect("a peer");
    let (wish, statement) = (a.wish(&b, "22"), b.standing(&a).remove(0));
    b.receive(&wish);
    a.receive(&statement);
    for owner in [&a, &b] {
        let bytes = owner.book.emit();
        let again = TrustBook::parse(&bytes).expect("own form");
        assert!(again.emit() == bytes && again.pins().eq(owner.book.pins()));
        assert!((0..bytes.len()).all(|len| TrustBook::parse(&bytes[..len]).is_err()));
    }
}

#[test]
fn the_largest_statement_fits_a_message() {
    let (mut a, mut b) = trusting_pair();
    let wide = (0..40).map(|n| format!("{}-{}", 2000 + 10 * n, 2005 + 10 * n)).collect::<Vec<_>>().join(",");
    let profile = Profile { hostname: "h".repeat(63), public: true, tags: vec!["t".repeat(63); 3] };
    let extensions = Extensions::NONE.with(ExtensionType(0xfff0), &[7; EXTENSIONS_LEN_MAX - 4]).expect("just fits");
    b.record = NodeRecord::sign_with(&b.identity, Addr::new(0, 2), &profile, 9, extensions).emit();
    b.regrant(&a, &Regrant::Grant(ports(&wide), None)).expect("a peer");
    for n in 0..Pin::TEMPORARY_MAX as u16 {
        b.regrant(
            &a,
            &Regrant::Grant(ports(&format!("{}-{}", 3000 + 100 * n, 3090 + 100 * n)), Some(NOW + 1 + u64::from(n))),
        )
        .expect("a peer");
    }
    b.wish(&a, "99");
    let asked = a.wish(&b, "7000");
    b.receive(&asked);
    let message = b.regrant(&a, &Regrant::Decline("n".repeat(NOTE_LEN_MAX))).expect("asked");
    assert!(message.len() <= MESSAGE_LEN_MAX, "{}", message.len());
    assert!(b.key().0.len() + message.len() + 16 <= LETTER_LEN_MAX);
    assert!(matches!(a.receive(&message), Outcome::Renamed(..)));
    assert!(!a.pin(&b).is_denied(2395) && !a.pin(&b).is_denied(4590) && a.pin(&b).is_denied(4595));
}

#[test]
fn a_quota_is_kept_in_the_book_and_changes_by_key() {
    let (mut a, b) = trusting_pair();
    assert_eq!((a.pin(&b).quota(), a.pin(&b).quota.clone()), (Quota::default(), None));
    let quota = |text: &str| Some(text.parse::<Quota>().expect(text));
    a.book.set_quota(&b.key(), quota("memory=2MB,streams=7")).expect("a peer");
    a.book.set_quota(&b.key(), quota("streams=8,messages=9")).expect("a peer");
    a.book = TrustBook::parse(&a.book.emit()).expect("own bytes");
    assert_eq!(Some(a.pin(&b).quota()), quota("memory=2MB,streams=8,messages=9"));
    a.book.set_quota(&b.key(), None).expect("a peer");
    assert_eq!(a.pin(&b).quota, None);
    assert_eq!(a.book.set_quota(&Owner::new(9).key(), None), Err(TrustError::Unknown));
}
