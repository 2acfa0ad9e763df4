//! When the trust book is saved without an owner's word.

use super::sync_trust;
use crate::calls::trust::{self, Expiry};
use crate::disk::job::{Job, Meta};
use crate::tests::{Lab, key, record_of_stranger};
use pilot_core::endpoint::Event as EndpointEvent;
use pilot_core::time::Duration;
use pilot_core::trust::Terms;
use pilot_stack::Event;

#[test]
fn what_others_cause_is_saved_once_in_a_second() {
    let mut lab = Lab::alone();
    let cx = &mut lab.nodes[0];
    let mut expiry = Expiry::default();
    let mut saves = 0;
    for n in 0..250 {
        cx.now = cx.now + Duration::from_millis(20);
        let record = record_of_stranger(n);
        // Each decision changes the book, as a stranger's letter does.
        let _ = cx.stack.endpoint_mut().request_trust(cx.now, &record, &Terms::default());
        let version = cx.stack.endpoint().trust().version();
        trust::save_wanted(cx, version);
        expiry.handle_timeout(cx);
        saves += sync_trust(cx);
    }
    assert!((5..=6).contains(&saves), "{saves} saves in five seconds");
    let at = expiry.poll_timeout(cx).expect("the rest is saved a little later");
    assert!(at <= cx.now + Duration::from_secs(1));
}

#[test]
fn the_secret_of_a_first_session_does_not_wait_for_the_pause() {
    let mut lab = Lab::unmet();
    let cx = &mut lab.nodes[0];
    let (begin, peer) = (cx.now, cx.stack.endpoint().peer_by_identity(&key(1)).expect("a peer"));
    cx.stack.endpoint_mut().reach(cx.now, peer);
    let mut expiry = [Expiry::default(), Expiry::default()];
    // A letter was saved just now.
    lab.nodes.iter_mut().for_each(|cx| cx.trust_saved_unasked = Some(cx.now));
    lab.run_until(|lab| {
        for (cx, expiry) in lab.nodes.iter_mut().zip(&mut expiry) {
            while let Some(event) = cx.stack.poll_event() {
                if let Event::Endpoint(EndpointEvent::SaveTrust(version)) = event {
                    trust::save_wanted(cx, version);
                }
            }
            expiry.handle_timeout(cx);
            sync_trust(cx);
        }
        lab.nodes.iter().all(|cx| cx.stack.endpoint().trust().pins().all(|pin| pin.kem.is_some()))
    });
    let took = lab.nodes[0].now.since(begin);
    assert!(took < Duration::from_millis(200), "{took:?}");
    assert!(lab.nodes.iter().all(|cx| !cx.stack.endpoint().trust_save_is_urgent()));
}

/// Lets the nodes meet, and the first one note the other's place when that is due; gives the saved book and the time.
fn note_places(lab: &mut Lab) -> (Vec<u8>, Duration) {
    let begin = lab.nodes[0].now;
    let peer = lab.nodes[1].stack.endpoint().peer_by_identity(&key(0)).expect("a peer");
    lab.nodes[1].stack.endpoint_mut().reach(begin, peer);
    let (mut expiry, mut book) = (Expiry::default(), None);
    lab.run_until(|lab| {
        while lab.nodes[1].stack.poll_event().is_some() {}
        let cx = &mut lab.nodes[0];
        while let Some(event) = cx.stack.poll_event() {
            if let Event::Endpoint(EndpointEvent::Up(_) | EndpointEvent::PathChanged(..)) = event {
                trust::place_changed(cx);
            }
        }
        assert!(expiry.poll_timeout(cx).is_none_or(|at| at <= cx.now + Duration::from_secs(60)));
        expiry.handle_timeout(cx);
        book = cx.jobs().pop().and_then(|(job, _)| match job {
            Job::Put(Meta::Trust, bytes) => Some(bytes),
            _ => None,
        });
        book.is_some()
    });
    (book.expect("found above"), lab.nodes[0].now.since(begin))
}

#[test]
fn a_peer_is_found_where_it_was_before_a_power_cut() {
    let (book, took) = note_places(&mut Lab::misplaced());
    assert!(took < Duration::from_secs(3), "{took:?}");
    let mut lab = Lab::after_power_cut(&book);
    let (begin, peer) = (lab.nodes[0].now, lab.nodes[0].stack.endpoint().peer_by_identity(&key(1)).expect("a peer"));
    lab.nodes[0].stack.endpoint_mut().reach(begin, peer);
    lab.run_until(|lab| lab.nodes[0].stack.endpoint().is_up(lab.nodes[0].now, peer));
    let took = lab.nodes[0].now.since(begin);
    assert!(took < Duration::from_secs(5), "{took:?}");
}

#[test]
fn places_are_looked_at_once_in_a_minute_and_saved_when_they_are_others() {
    let mut lab = Lab::misplaced();
    note_places(&mut lab);
    let (cx, mut expiry) = (&mut lab.nodes[0], Expiry::default());
    let begin = cx.now;
    for _ in 0..300 {
        cx.now = cx.now + Duration::from_secs(1);
        trust::place_changed(cx);
        expiry.handle_timeout(cx);
        assert!(cx.jobs().is_empty(), "the place is the same");
    }
    assert_eq!(cx.places_noted.map(|at| at.since(begin) >= Duration::from_secs(240)), Some(true));
    trust::place_changed(cx);
    let due = expiry.poll_timeout(cx).expect("a look");
    assert!(due <= cx.now + Duration::from_secs(60));
}
