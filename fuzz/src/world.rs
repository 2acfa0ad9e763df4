//! Owns a whole world of two nodes and a rendezvous, with faults and restarts in the order that the input says.

use pilot_core::time::Duration;
use pilot_stack::Event;
use pilot_tests::{Conditions, NatKind, NodeIndex, World};

/// Most steps of one input; each costs up to half a simulated minute.
const STEPS_MAX: usize = 40;
const PORT: u16 = 1000;
/// Longest time until a node that moved without a notice is reached again: its next keepalive shows the new address, and
/// a stream that was tried before then is tried again.
const FOUND_AGAIN: Duration = Duration::from_secs(60);

/// Runs a world. The first byte chooses the NATs; the rest is a list of steps of two bytes: an action and a detail.
///
/// Invariants: nothing spins or panics, a transfer never has a wrong byte, and once the faults are over the nodes reach each
/// other both ways.
pub fn world(bytes: &[u8]) {
    let Some((nats, steps)) = bytes.split_first() else { return };
    let mut world = World::new(u64::from(*nats), 2);
    for node in 0..2 {
        match (nats >> (2 * node)) % 3 {
            0 => {}
            1 => world.set_nat(node, NatKind::PortRestricted),
            _ => world.set_nat(node, NatKind::Symmetric),
        }
    }
    world.make_friends(0, 1);
    (0..2).for_each(|node| listen(&mut world, node));
    let mut hidden = None;
    for step in steps.chunks_exact(2).take(STEPS_MAX) {
        let node = usize::from(step[1] % 2);
        match step[0] % 10 {
            0 => world.roam(node),
            1 => world.roam_knowingly(node),
            2 => world.reboot_nat(node),
            3 => {
                world.restart(node);
                listen(&mut world, node);
            }
            4 => {
                world.cut_power(node);
                listen(&mut world, node);
            }
            5 => world.lose_what_is_under_way(),
            6 if hidden.is_some() => world.rendezvous = hidden.take(),
            6 => hidden = world.rendezvous.take(),
            7 => world.set_conditions(conditions(step[1])),
            8 => start_stream(&mut world, node),
            _ => world.run_for(Duration::from_millis(u64::from(step[1]) * 100)),
        }
        world.run_for(Duration::from_millis(10));
    }
    if let Some(rendezvous) = hidden {
        world.rendezvous = Some(rendezvous);
    }
    world.set_conditions(Conditions::default());
    world.run_for(FOUND_AGAIN);
    for (from, to) in [(0, 1), (1, 0)] {
        let (a, b) = world.open(from, to, PORT);
        world.transfer((from, a), (to, b), 10_000);
    }
}

fn listen(world: &mut World, node: NodeIndex) {
    world.nodes[node].stack.listen(PORT).expect("a new stack");
}

/// Opens a stream with early data that is left to its fate.
fn start_stream(world: &mut World, node: NodeIndex) {
    let (peer, now) = (world.peer(node, 1 - node), world.now);
    let stream = world.nodes[node].stack.connect_with(now, peer, PORT, b"early".to_vec()).expect("trusted");
    // The stream may break before it takes more.
    let _ = world.nodes[node].stack.send(stream, &[5; 5000]);
    for event in std::mem::take(&mut world.nodes[1 - node].events) {
        if let Event::Incoming { stream, .. } = event {
            world.nodes[1 - node].stack.accepted(stream);
            world.nodes[1 - node].stack.abort(now, stream);
        }
    }
}

fn conditions(how: u8) -> Conditions {
    Conditions {
        loss: [0, 10, 100, 300, 1000][usize::from(how % 5)],
        reorder: u64::from(how) * 2,
        duplicate: u64::from(how / 2),
        corrupt: u64::from(how % 4),
        ..Conditions::default()
    }
}
