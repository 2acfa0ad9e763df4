//! How long datagrams are, on paths that carry much, little, or less than before.
#![allow(clippy::unwrap_used, reason = "tests")]

use pilot_core::time::Duration;
use pilot_stack::Recv;
use pilot_tests::{Conditions, NatKind, World, seed};

fn friends(seed: u64) -> World {
    println!("seed {seed}");
    let mut world = World::new(seed, 2);
    world.make_friends(0, 1);
    world.nodes[1].stack.listen(1000).unwrap();
    world
}

/// The longest datagram that the first node sends to the second one.
fn datagram_len(world: &World) -> usize {
    world.nodes[0].stack.endpoint().peer_info(world.now, world.peer(0, 1)).unwrap().datagram_len
}

#[test]
fn a_shrinking_path_is_survived() {
    let mut world = friends(seed(23));
    world.set_conditions(Conditions { mtu: 9000, ..Conditions::default() });
    let (a, b) = world.open(0, 1, 1000);
    world.transfer((0, a), (1, b), 4_000_000);
    assert_eq!(datagram_len(&world), 8944, "larger datagrams were proven");
    world.set_conditions(Conditions { mtu: 1300, ..Conditions::default() });
    world.transfer((0, a), (1, b), 1_000_000);
}

#[test]
fn a_path_that_swallows_what_is_longer_than_it_says_is_survived() {
    for (is_relayed, mtu) in [(false, 1100), (false, 800), (false, 560), (true, 1100), (true, 560)] {
        println!("relayed {is_relayed}, mtu {mtu}");
        let mut world = World::new(seed(27), 2);
        if is_relayed {
            (0..2).for_each(|node| world.set_nat(node, NatKind::Symmetric));
        }
        world.make_friends(0, 1);
        world.nodes[1].stack.listen(1000).unwrap();
        let (chat, chatting) = world.open(0, 1, 1000);
        let (a, b) = world.open(0, 1, 1000);
        world.set_conditions(Conditions { mtu, ..Conditions::default() });
        // Short datagrams pass meanwhile.
        world.nodes[1].stack.send(chatting, b"short").unwrap();
        let took = world.transfer((0, a), (1, b), 300_000);
        assert!(took < Duration::from_secs(10), "{took:?}");
        let mut room = [0; 64];
        assert_eq!(world.nodes[0].stack.recv(chat, &mut room), Recv::Data(5));
        assert_eq!(&room[..5], b"short");
        let len = datagram_len(&world);
        assert!((532..=mtu).contains(&len), "{len}");
        // A path that is better later is used so.
        world.set_conditions(Conditions::default());
        world.run_for(Duration::from_secs(40));
        world.transfer((0, a), (1, b), 300_000);
        assert!(datagram_len(&world) >= 1216, "{}", datagram_len(&world));
    }
}

#[test]
fn tunnels_of_others_and_mobile_networks_carry_more_than_the_base() {
    // What an MTU of 1400 and 1420 leaves for UDP under IPv4.
    for mtu in [1372, 1392] {
        let mut world = friends(seed(28));
        world.set_conditions(Conditions { mtu, ..Conditions::default() });
        let (a, b) = world.open(0, 1, 1000);
        world.transfer((0, a), (1, b), 1_000_000);
        assert_eq!(datagram_len(&world), 1372);
    }
}
