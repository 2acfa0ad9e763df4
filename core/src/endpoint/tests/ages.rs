//! Since when a peer's state of the link has lasted, as the peer says in its key handshakes.

use super::*;

/// How much later than it was a beginning may look: the way of the RESP, and what the number cannot tell.
const LATE_MAX: Duration = Duration::from_millis(5 + 2);

/// A pair with a tunnel, whose side 1 changes after 5 s as `change` says; gives that moment, and the one at which side 1 began
/// anew at the latest, as side 0 was told with `reason`.
fn told_after(reason: ResetReason, change: impl FnOnce(&mut Pair)) -> (Pair, Instant, Instant) {
    let mut pair = Pair::new();
    pair.send(0, b"before");
    pair.run_for(Duration::from_secs(5));
    assert!(pair.events[0].iter().all(|e| !matches!(e, Event::Reset(..))));
    let at = pair.now;
    change(&mut pair);
    pair.run_for(Duration::from_millis(700));
    pair.send(0, b"to the other");
    pair.run_for(Duration::from_secs(3));
    let id = pair.peer(0);
    assert!(pair.events[0].contains(&Event::Reset(id, reason)), "{:?}", pair.events[0]);
    let told = pair.ends[0].peer_began(id).expect("a peer");
    (pair, at, told)
}

#[test]
fn another_process_says_since_when_it_runs() {
    let (mut pair, at, told) = told_after(ResetReason::Restarted, |pair| {
        pair.ends[1] = Endpoint::new(config(1, 21));
        let now = pair.now;
        pair.ends[1].handle_timeout(now);
    });
    assert!(told >= at && told <= at + LATE_MAX, "{at:?} {told:?}");
    // The peer has counted a sleep of this machine; the clock here has not.
    let (now, id) = (pair.now, pair.peer(0));
    pair.ends[0].set_wall(now, WALL_US + now.as_micros() + 500_000);
    assert_eq!(pair.ends[0].peer_began(id), Some(told), "the clock was set a little");
    pair.ends[0].set_wall(now, WALL_US + now.as_micros() + 60_000_000);
    assert_eq!(pair.ends[0].peer_began(id), Some(now));
}

#[test]
fn a_process_that_forgot_its_tunnel_says_since_when() {
    let (_, at, told) = told_after(ResetReason::GivenUp, |pair| {
        let (now, id) = (pair.now, pair.peer(1));
        pair.ends[1].reset_peer(now, id, ResetReason::Unreachable);
    });
    assert!(told >= at && told <= at + LATE_MAX, "{at:?} {told:?}");
}

/// Side 1 has answered an INIT of side 0, which has forgotten its tunnel long ago, and has a packet itself before side 0 uses
/// the new keys. The old keys are too old.
#[test]
fn a_node_that_has_just_answered_a_new_beginning_waits_for_it() {
    let mut pair = Pair::new();
    pair.send(0, b"before");
    pair.run_for(Duration::from_secs(1000));
    let (now, id) = (pair.now, pair.peer(0));
    pair.ends[0].reset_peer(now, id, ResetReason::Unreachable);
    pair.run_for(Duration::from_secs(10));
    let spoken = pair.now;
    pair.send(0, b"from 0");
    pair.run_for(DELAY);
    pair.send(1, b"from 1");
    pair.run_for(Duration::from_secs(3));
    let told = pair.ends[1].peer_began(pair.peer(1)).expect("a peer");
    assert!(told <= now + LATE_MAX && told < spoken, "side 0 has begun at {now:?}, and not at {told:?}");
    for side in 0..2 {
        let restarts = pair.events[side].iter().filter(|event| matches!(event, Event::Reset(..))).count();
        assert_eq!(restarts, 1, "side {side} begins anew once: {:?}", pair.events[side]);
    }
}

/// Side 0 has forgotten its tunnel. Of the new one it gets the RESP, but nothing that it says arrives, so that it makes keys
/// again and again.
#[test]
fn a_node_has_one_new_name_for_one_new_beginning() {
    let mut pair = Pair::new();
    pair.send(0, b"before");
    pair.run_for(Duration::from_secs(5));
    let (now, id) = (pair.now, pair.peer(0));
    pair.ends[0].reset_peer(now, id, ResetReason::Unreachable);
    pair.filter = Box::new(|side, datagram| side == 1 || datagram.len() == INIT_LEN);
    let known = pair.events[0].len();
    pair.send(0, b"again");
    pair.run_for(Duration::from_secs(20));
    pair.filter = Box::new(|_, _| true);
    pair.run_for(Duration::from_secs(10));
    let inits = pair.capture.iter().filter(|(to, datagram)| *to == 1 && datagram.len() == INIT_LEN).count();
    assert!(inits > 3, "{inits}");
    let has_begun = |event: &Event| matches!(event, Event::Reset(_, reason) if reason.is_new_beginning());
    assert!(!pair.events[0][known..].iter().any(has_begun), "side 1 is who it was all the time");
    assert_eq!(pair.inboxes[1].0, [b"before".to_vec(), b"again".to_vec()]);
}
