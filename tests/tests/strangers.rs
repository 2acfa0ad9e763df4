//! Strangers with a great deal of bandwidth: a node that the rendezvous knows is served within two seconds all the time.
//! `cargo test --release -p pilot-tests --test strangers -- --nocapture` prints how long it waited.
#![allow(clippy::unwrap_used, reason = "tests")]

use pilot_core::endpoint::Discard;
use pilot_core::time::Duration;
use pilot_tests::{Siege, World, seed};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_known_node_is_served_in_two_seconds_under_twenty_thousand_datagrams_in_a_second() {
    for addresses in [1, 1000] {
        let mut world = World::new(seed(41), 2);
        world.make_friends(0, 1);
        world.nodes[1].stack.listen(1000).unwrap();
        world.add_witness();
        world.run_for(SECOND * 10);
        let calm = world.witness_waited();
        let seed = world.now.as_micros();
        world.besiege(Siege { addresses, per_second: 20_000, lasts: SECOND * 10 }, seed);
        world.run_for(SECOND);
        // A pair of which one end begins anew meets again, too.
        world.restart(0);
        let start = world.now;
        let (a, b) = world.open(0, 1, 1000);
        let met = world.now.since(start);
        let took = world.transfer((0, a), (1, b), 1 << 20);
        world.run_for(SECOND * 8);
        let rendezvous = world.rendezvous.as_ref().unwrap();
        let discards = rendezvous.endpoint().discards();
        let counts =
            [Discard::CookieSent, Discard::Overload, Discard::Replay, Discard::Mac1].map(|reason| discards.of(reason));
        assert!(counts.iter().sum::<u64>() > 10_000, "no siege: {counts:?}");
        println!(
            "20,000 datagrams a second, three in eight of them INITs, to three machines from {addresses} addresses ({counts:?} \
             discarded): the longest wait was {:.1?} ({calm:.1?} before); a stream of a new process stood after {met:.1?}, 1 MiB in {took:.1?}",
            world.witness_waited()
        );
        assert!(calm < SECOND && met <= SECOND * 2, "{met:?}");
    }
}
