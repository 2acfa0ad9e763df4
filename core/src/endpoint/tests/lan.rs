//! Announcements of nodes on one network.

use super::*;

/// Two nodes that trust each other, of which neither knows where the other is.
fn lost() -> Pair {
    let mut pair = Pair::new();
    for (side, book) in books_without_places().into_iter().enumerate() {
        let mut config = config(side, 10 + side as u8);
        config.trust = book;
        config.candidates = vec![addr_of(side)];
        pair.ends[side] = Endpoint::new(config);
    }
    pair
}

fn is_up(pair: &Pair, side: usize) -> bool {
    pair.ends[side].is_up(pair.now, pair.peer(side))
}

/// INITs that a side has sent.
fn inits(pair: &Pair, side: usize) -> usize {
    pair.capture.iter().filter(|(to, datagram)| *to != side && datagram.len() == INIT_LEN).count()
}

#[test]
fn an_announcement_makes_a_tunnel_without_a_rendezvous_and_then_none_is_made() {
    let mut pair = lost();
    pair.send(1, b"hello");
    pair.run_for(Duration::from_secs(1));
    assert!(!is_up(&pair, 0));
    let announcement = pair.ends[0].announcement(pair.now, addr_of(0)).expect("a peer is missed");
    assert!(announcement.len() <= ANNOUNCEMENT_LEN_MAX);
    let source = SocketAddr::new(addr_of(0).ip(), 50_000); // another socket than the node's
    assert!(pair.ends[1].handle_announcement(pair.now, source, &announcement));
    pair.run_for(Duration::from_secs(1));
    assert!(is_up(&pair, 0) && is_up(&pair, 1));
    assert_eq!(pair.inboxes[0].0, [b"hello"]);
    let path = pair.ends[1].peer_info(pair.now, pair.peer(1)).expect("a peer").path;
    assert_eq!(path, Some(PathAddr::Direct(addr_of(0))));
    assert!((0..2).all(|side| pair.ends[side].announcement(pair.now, addr_of(side)).is_none()));
    assert!(!pair.ends[1].handle_announcement(pair.now, source, &announcement), "nothing is missed");
}

#[test]
fn announcements_mean_nothing_to_strangers_or_from_elsewhere_or_later() {
    let mut pair = lost();
    let good = pair.ends[0].announcement(pair.now, addr_of(0)).expect("one");
    let again = pair.ends[0].announcement(pair.now, addr_of(0)).expect("another");
    assert_eq!(good.len(), 18 + 8 * 8, "one peer looks like eight");
    let marks = |bytes: &[u8]| bytes[18..].chunks(8).map(<[u8]>::to_vec).collect::<Vec<_>>();
    assert!(marks(&good).iter().all(|mark| !marks(&again).contains(mark)), "no mark comes twice");
    let key = pair.ends[0].identity().static_key().0;
    assert!(!good.windows(4).any(|w| w == &key[..4]), "no key in clear");
    // Of another address, changed anywhere, cut, its own, a stranger's.
    assert!(!pair.ends[1].handle_announcement(pair.now, addr_of(1), &good));
    let mut is_changed_heard = 0;
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 1;
        is_changed_heard += usize::from(pair.ends[1].handle_announcement(pair.now, addr_of(0), &bad));
        assert!(at < 18 || !pair.ends[1].handle_announcement(pair.now, addr_of(0), &good[..17.min(at)]));
    }
    // A change of another mark than this peer's is none.
    assert_eq!(is_changed_heard, good.len() - 18 - 8);
    let mut pair = lost();
    assert!(!pair.ends[0].handle_announcement(pair.now, addr_of(0), &good));
    let mut stranger = config(1, 9);
    stranger.identity = Identity::from_seed([77; 32]);
    assert!(!Endpoint::new(stranger).handle_announcement(pair.now, addr_of(0), &good));
    for (s, is_heard) in [(299, true), (601, false)] {
        let mut pair = lost();
        pair.now = pair.now + Duration::from_secs(s);
        assert_eq!(pair.ends[1].handle_announcement(pair.now, addr_of(0), &good), is_heard, "after {s} s");
    }
}

#[test]
fn copies_of_an_announcement_cost_three_datagrams_in_five_minutes() {
    let mut pair = lost();
    pair.filter = Box::new(|_, _| false); // nothing arrives
    for _ in 0..100 {
        let announcement = pair.ends[0].announcement(pair.now, addr_of(0)).expect("one");
        for _ in 0..10 {
            assert!(pair.ends[1].handle_announcement(pair.now, addr_of(0), &announcement));
        }
        pair.run_for(Duration::from_secs(1));
    }
    assert_eq!(inits(&pair, 1), 3);
    let harmful = ["224.0.0.1:5", "127.0.0.1:5", "192.0.2.1:0", "[::1]:5", "[ff02::1]:5"];
    for addr in harmful.map(|addr| addr.parse().expect("one")) {
        let announcement = pair.ends[0].announcement(pair.now, addr).expect("one");
        assert!(!pair.ends[1].handle_announcement(pair.now, addr, &announcement), "{addr}");
    }
}
