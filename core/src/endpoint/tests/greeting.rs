//! The greeting of new peers: tried once, in a bounded number at once, and without a word where it fails.

use super::*;
use crate::endpoint::greeting::GREETINGS_MAX;

/// A node that asks `end` for trust, as `end` asks it: both have approved.
fn cross(end: &mut Endpoint, now: Instant, number: u16) -> IdentityKey {
    let mut seed = [0; 32];
    seed[..2].copy_from_slice(&number.to_le_bytes());
    seed[2] = 77;
    let identity = Identity::from_seed(seed);
    let record = NodeRecord::sign(&identity, Addr::new(3, number.into()), &Profile::default(), 1);
    end.request_trust(now, &record, &Terms::default()).expect("allowed");
    let (bytes, own) = (record.emit(), NodeRecord::parse(&end.directory.record()).expect("signed"));
    let now_s = WALL_US / 1_000_000;
    let me = Me { identity: &identity, record: &bytes, now_s, common_s: now_s };
    let request = TrustBook::default().request(&me, &own, &Terms::default(), &mut Rng::new([9; 32])).expect("allowed");
    end.with_directory(now, |directory, cx| directory.handle_trust(cx, &request));
    identity.public()
}

fn greeted(end: &Endpoint) -> usize {
    end.peers.iter().filter(|(_, entry)| entry.peer.is_greeting()).count()
}

#[test]
fn greetings_have_a_maximum_and_end_without_a_word() {
    let (mut end, now) = (Endpoint::new(config(0, 0)), Instant::ZERO);
    for number in 0..GREETINGS_MAX as u16 + 9 {
        let key = cross(&mut end, now, number);
        assert!(end.trust().pin(&key).is_some(), "both have approved");
        let before = greeted(&end);
        assert_eq!(before, usize::from(number).min(GREETINGS_MAX), "what is not on disk is not shown");
        end.trust_saved(now, end.trust().version());
    }
    assert_eq!(greeted(&end), GREETINGS_MAX);
    let mut out = Vec::new();
    while end.poll_event().is_some() || end.poll_transmit(now, &mut out).is_some() {}
    let later = now + Duration::from_secs(7);
    end.handle_timeout(later);
    assert_eq!(greeted(&end), 0, "each is tried once");
    let mut events = core::iter::from_fn(|| end.poll_event());
    assert!(events.all(|event| !matches!(event, Event::Reset(..) | Event::Away(_))), "nothing has waited for them");
    cross(&mut end, later, 1000);
    end.trust_saved(later, end.trust().version());
    assert_eq!(greeted(&end), 1, "there is room again");
}

/// A stream that comes while a greeting is under way does not wait for longer than for a key handshake of its own.
#[test]
fn a_greeting_in_vain_gives_way_to_who_waits() {
    let (mut end, now) = (Endpoint::new(config(0, 0)), Instant::ZERO);
    let key = cross(&mut end, now, 1);
    end.trust_saved(now, end.trust().version());
    let peer = end.peer_by_identity(&key).expect("pinned");
    end.with_link(peer, |link| link.send_packet(b"data".to_vec().into()));
    let mut out = Vec::new();
    while end.poll_transmit(now, &mut out).is_some() {}
    assert_eq!(greeted(&end), 0, "something waits for it");
    let later = now + Duration::from_millis(1400);
    end.handle_timeout(later);
    while end.poll_transmit(later, &mut out).is_some() {}
    let entry = end.peers.get(&peer).expect("pinned");
    assert!(entry.peer.handshake().is_some() && !entry.peer.is_greeting(), "an ordinary one, which is repeated");
}
