//! Spare relays alone: what they are told, and which of their words have an effect.

use super::*;
use crate::addr::Addr;
use crate::control::Grant;
use crate::endpoint::Config;
use crate::endpoint::spares::ASKS_MAX;
use crate::identity::Identity;
use crate::rng::Rng;
use crate::trust::{Me, Terms, TrustBook};
use std::vec;

const WALL_S: u64 = 1_700_000_000;
const NOW: Instant = Instant::from_micros(1_000_000);

fn identity(n: u8) -> Identity {
    Identity::from_seed([n; 32])
}

fn addr(n: u8) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, n], 9000))
}

/// A node with so many pinned peers and one spare relay, which is registered.
fn node(peers: u8) -> Endpoint {
    let me = identity(1);
    let record = |identity: &Identity, n| NodeRecord::sign(identity, Addr::new(0, n), &Profile::default(), 1);
    let (mut book, mut rng) = (TrustBook::default(), Rng::new([9; 32]));
    for n in 0..peers {
        let peer = identity(100 + n);
        let (mine, theirs) = (record(&me, 1).emit(), record(&peer, 100 + u32::from(n)).emit());
        let side = |identity, record| Me { identity, record, now_s: WALL_S, common_s: WALL_S };
        let mut other = TrustBook::default();
        let request = book
            .request(&side(&me, &mine), &record(&peer, 100 + u32::from(n)), &Terms::default(), &mut rng)
            .expect("allowed");
        other.receive(&side(&peer, &theirs), &request, None);
        let accept = other.approve(&side(&peer, &theirs), &me.public(), &Terms::default(), &mut rng).expect("pending");
        book.receive(&side(&me, &mine), &accept, None);
    }
    let mut config = Config::new(me, Rng::entropy([5; 32]));
    (config.trust, config.wall_at_zero_us) = (book, WALL_S * 1_000_000);
    let mut node = Endpoint::new(config);
    assert!(node.add_relay(NOW, identity(50).static_key(), addr(50)));
    node.spares.0[0].stage = Stage::Up;
    node.tend_spare(NOW, 0);
    let registered = |n| Answer::Registered { addr: Addr::new(0, n), reflexive: addr(1), relay_key: [3; 32] };
    answer(&mut node, registered(7));
    assert!(node.spare_relays().all(|relay| !relay.is_ready), "the record has to name the address");
    answer(&mut node, registered(7));
    assert!(node.spare_relays().all(|relay| relay.is_ready));
    node
}

/// Answers the oldest call.
fn answer(node: &mut Endpoint, answer: Answer) {
    let ticket = node.spares.0[0].calls[0].0;
    node.on_spare_answer(NOW, 0, (ticket, answer, &Extensions::NONE));
}

#[test]
fn spare_relays_have_a_maximum_and_keys_of_their_own() {
    let mut node = node(1);
    let key = |n| identity(n).static_key();
    assert!(!node.add_relay(NOW, key(50), addr(51)), "a key twice");
    assert!(!node.add_relay(NOW, key(100), addr(51)), "that of a peer");
    let added = (51..60).filter(|n| node.add_relay(NOW, key(*n), addr(*n)));
    assert_eq!(added.count(), SPARES_MAX - 1);
    node.set_rendezvous(NOW, key(51), addr(51));
    assert!(node.rendezvous_peer().is_some(), "a relay that becomes the rendezvous is a spare no more");
    assert_eq!(node.spares.0[1].reach_at, None);
}

#[test]
fn all_grants_are_told_before_channels_are_asked_for_a_few_at_a_time() {
    let mut node = node(40);
    let keys: Vec<IdentityKey> = (0..40).map(|n| identity(100 + n).public()).collect();
    keys.iter().for_each(|key| node.ask_spares(NOW, *key));
    let calls = |node: &Endpoint| node.spares.0[0].calls.len();
    let [(_, _, Purpose::Grant(grant))] = &node.spares.0[0].calls[..] else { panic!("grants alone") };
    assert!(grant.is_whole && grant.add.len() == 40);
    answer(&mut node, Answer::Ok);
    assert_eq!((calls(&node), node.spares.0[0].wanted.len()), (ASKED_MAX, 40 - ASKED_MAX));
    // A peer that is not there is asked for a few times.
    for _ in 0..usize::from(ASKS_MAX) * 40 {
        node.spares.0[0].quiet_until = None;
        node.tend_spare(NOW, 0);
        if calls(&node) > 0 {
            answer(&mut node, Answer::Refused(Refusal::NotFound));
        }
    }
    assert_eq!((calls(&node), node.spares.0[0].wanted.len()), (0, 0));
    // A change is told as a difference.
    let now = NOW + PAUSE_MAX * 2;
    node.tend_spares(now);
    node.revoke(now, &keys[3]).expect("trusted");
    let grant = node.spares.0[0].calls.iter().find_map(|(_, _, purpose)| match purpose {
        Purpose::Grant(grant) => Some(grant.clone()),
        _ => None,
    });
    assert_eq!(grant, Some(Grant { is_whole: false, add: Vec::new(), remove: vec![keys[3]] }));
}

#[test]
fn a_channel_is_open_while_its_peer_is_trusted_and_belongs_to_one_relay() {
    let mut node = node(2);
    let [a, b] = [100, 101].map(|n| identity(n).public());
    let spare = node.peers.by_static(&identity(50).static_key()).expect("added");
    let opened = |channel, key| Control::Push(Push::RelayOpened(channel, key));
    node.handle_spare(NOW, spare, opened(7, a));
    node.handle_spare(NOW, spare, opened(8, a));
    node.handle_spare(NOW, spare, opened(9, identity(99).public()));
    let relays = |node: &Endpoint, key| {
        let id = node.peer_by_identity(&key).expect("pinned");
        node.peers.get(&id).expect("there").peer.paths.relays().map(|path| path.addr).collect::<Vec<_>>()
    };
    assert_eq!(relays(&node, a), [PathAddr::Relay(Channel(8))], "the newest, and none to a stranger");
    assert_eq!(node.legs.channels(), 1);
    assert_eq!(node.resolve(PathAddr::Relay(Channel(8))), Some(addr(50)));
    // A relay that gives a number of another one has no effect.
    assert!(node.add_relay(NOW, identity(51).static_key(), addr(51)));
    let other = node.peers.by_static(&identity(51).static_key()).expect("added");
    node.handle_spare(NOW, other, opened(8, b));
    assert!(relays(&node, b).is_empty());
    node.revoke(NOW, &a).expect("trusted");
    assert_eq!(node.legs.channels(), 0);
}
