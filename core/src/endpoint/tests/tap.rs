//! The tap: what it copies of the packets between two peers.

use super::*;
use crate::tap::Direction::{In, Out};
use crate::tap::Form::{Datagram, Segment};
use crate::tap::{Direction, Form};

type Copy = (Direction, Form, Vec<u8>);

fn copies(pair: &mut Pair, side: usize) -> Vec<Copy> {
    let (mut copies, id) = (Vec::new(), pair.peer(side));
    let missed = pair.ends[side].poll_tapped(|_, tapped| {
        assert_eq!(tapped.peer, id);
        copies.push((tapped.direction, tapped.form, tapped.bytes.to_vec()));
    });
    assert_eq!(missed, 0);
    copies
}

#[test]
fn the_tap_copies_every_packet_each_time_that_it_leaves_or_arrives() {
    let mut pair = Pair::new();
    pair.send(0, b"before");
    pair.run_for(DELAY * 10);
    pair.ends.iter_mut().for_each(|end| end.set_tap(true));
    let mut is_lost = false;
    pair.filter = Box::new(move |side, datagram| {
        let is_first = side == 0 && datagram.len() > 1000 && !is_lost;
        is_lost |= is_first;
        !is_first
    });
    let long = vec![7; 1000];
    pair.send(0, &long);
    pair.run_for(Duration::from_secs(1));
    let peer = pair.peer(0);
    pair.ends[0].with_link(peer, |link| link.send_loose(b"loose".to_vec().into()));
    pair.send(1, b"back");
    pair.run_for(DELAY * 10);
    let (twice, loose, back) = ((Out, Segment, long.clone()), (Out, Datagram, b"loose".to_vec()), b"back".to_vec());
    assert_eq!(copies(&mut pair, 0), [twice.clone(), twice, loose, (In, Segment, back.clone())], "one was lost");
    let mut others = copies(&mut pair, 1);
    others.sort_by_key(|(direction, ..)| *direction == Out);
    let expected = [(In, Segment, long), (In, Datagram, b"loose".to_vec()), (Out, Segment, back)];
    assert_eq!(others, expected);

    pair.ends.iter_mut().for_each(|end| end.set_tap(false));
    pair.send(0, b"after");
    pair.run_for(DELAY * 10);
    assert!(copies(&mut pair, 0).is_empty() && copies(&mut pair, 1).is_empty());
    assert_eq!(pair.inboxes[1].0.last(), Some(&b"after".to_vec()), "packets pass as before");
}

#[test]
fn the_tap_has_no_packets_of_strangers() {
    let mut pair = Pair::new();
    pair.send(0, b"hello");
    pair.run_for(DELAY * 10);
    pair.ends[1].set_tap(true);
    let key = pair.ends[0].identity().public();
    pair.send(0, b"late");
    pair.drain();
    let (now, inbox) = (pair.now, pair.inboxes[1].0.len());
    pair.ends[1].revoke(now, &key).expect("a peer");
    pair.run_for(DELAY * 10);
    assert_eq!((pair.ends[1].poll_tapped(|_, tapped| panic!("{tapped:?}")), pair.inboxes[1].0.len()), (0, inbox));
}
