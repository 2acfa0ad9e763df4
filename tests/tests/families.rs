//! Nodes on an underlay of IPv6, and nodes that change the family of their addresses.
#![allow(clippy::unwrap_used, reason = "tests")]

use pilot_core::path::PathAddr;
use pilot_core::time::Duration;
use pilot_tests::{NodeIndex, World, seed};
use std::net::SocketAddr;

fn of_family(node: NodeIndex, is_v6: bool) -> SocketAddr {
    let number = node as u8 + 1;
    let v6 = [0x20, 1, 0x0d, 0xb8, 0, 0, 0, number, 0, 0, 0, 0, 0, 0, 0, 1];
    if is_v6 { SocketAddr::from((v6, 4000)) } else { SocketAddr::from(([10, 9, number, 1], 4000)) }
}

/// Gives a node another address and tells the node, as its operating system would.
fn give(world: &mut World, node: NodeIndex, is_v6: bool) {
    let (addr, now) = (of_family(node, is_v6), world.now);
    world.nodes[node].addr = addr;
    world.nodes[node].stack.endpoint_mut().set_candidates(now, vec![addr]);
}

fn path(world: &World, from: NodeIndex, to: NodeIndex) -> Option<PathAddr> {
    let peer = world.peer(from, to);
    world.nodes[from].stack.endpoint().peer_info(world.now, peer).and_then(|info| info.path)
}

#[test]
fn nodes_with_ipv6_meet_directly_and_streams_survive_a_change_of_family() {
    let mut world = World::new(seed(70), 2);
    (0..2).for_each(|node| give(&mut world, node, true));
    world.make_friends(0, 1);
    world.nodes[1].stack.listen(1000).unwrap();
    let (a, b) = world.open(0, 1, 1000);
    for is_v6 in [true, false, true] {
        (0..2).for_each(|node| give(&mut world, node, is_v6));
        world.transfer((0, a), (1, b), 200_000);
        world.run_for(Duration::from_secs(2));
        world.transfer((1, b), (0, a), 200_000);
        for (from, to) in [(0, 1), (1, 0)] {
            assert_eq!(path(&world, from, to), Some(PathAddr::Direct(of_family(to, is_v6))), "IPv6: {is_v6}");
        }
    }
}

#[test]
fn another_address_of_a_node_disturbs_no_path_and_is_told() {
    let mut world = World::new(seed(71), 2);
    world.make_friends(0, 1);
    world.nodes[1].stack.listen(1000).unwrap();
    let (a, b) = world.open(0, 1, 1000);
    world.transfer((0, a), (1, b), 100_000);
    world.run_for(Duration::from_secs(2));
    let (before, now, old) = (path(&world, 0, 1), world.now, world.nodes[1].addr);
    assert_eq!(before, Some(PathAddr::Direct(old)));
    let more = of_family(1, true);
    world.nodes[1].stack.endpoint_mut().add_candidates(now, vec![old, more]);
    for _ in 0..20 {
        world.run_for(Duration::from_millis(50));
        assert_eq!(
            (path(&world, 0, 1), path(&world, 1, 0).map(|path| matches!(path, PathAddr::Direct(_)))),
            (before, Some(true))
        );
    }
    // The node leaves its old address, and is found at the other one at once.
    let now = world.now;
    world.nodes[1].addr = more;
    world.nodes[1].stack.endpoint_mut().set_candidates(now, vec![more]);
    world.run_for(Duration::from_secs(1));
    world.transfer((0, a), (1, b), 100_000);
    assert_eq!(path(&world, 0, 1), Some(PathAddr::Direct(more)));
}
