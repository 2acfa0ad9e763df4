//! Scenarios in the simulator. A failure prints its seed; `PILOT_SEED` repeats that seed.
#![allow(clippy::unwrap_used, reason = "tests")]

use pilot_core::endpoint::{Event as EndpointEvent, ResetReason};
use pilot_core::path::PathAddr;
use pilot_core::rng::Rng;
use pilot_core::time::Duration;
use pilot_core::trust::TrustBook;
use pilot_stack::{CommandError, EARLY_LEN_MAX, Event, Recv, StackConfig, StreamEnd, StreamId};
use pilot_tests::{Conditions, NatKind, World, seed};

const MS: Duration = Duration::from_millis(1);
/// Round trip over links in their default condition.
const ROUND_TRIP: Duration = Duration::from_millis(20);
const MARKER: &[u8] = b"THIS-IS-PLAINTEXT";

fn friends(seed: u64) -> World {
    println!("seed {seed}");
    let mut world = World::new(seed, 2);
    world.make_friends(0, 1);
    world.nodes[1].stack.listen(1000).unwrap();
    world
}

fn path(world: &World, node: usize, other: usize) -> Option<PathAddr> {
    world.nodes[node].stack.endpoint().peer_info(world.now, world.peer(node, other)).and_then(|i| i.path)
}

fn is_direct(path: PathAddr) -> bool {
    matches!(path, PathAddr::Direct(_))
}

fn read_all(world: &mut World, node: usize, stream: StreamId) -> (Vec<u8>, Recv) {
    let (mut all, mut buffer) = (Vec::new(), vec![0; 65536]);
    loop {
        match world.nodes[node].stack.recv(stream, &mut buffer) {
            Recv::Data(n) => all.extend_from_slice(&buffer[..n]),
            other => return (all, other),
        }
    }
}

#[test]
fn approval_to_first_byte_takes_less_than_a_second() {
    let mut world = World::new(seed(1), 2);
    world.capture = Some(Vec::new());
    world.make_friends(0, 1);
    let approved = world.now;
    world.nodes[1].stack.listen(1000).unwrap();
    let (ours, theirs) = world.open(0, 1, 1000);
    world.nodes[0].stack.send(ours, MARKER).unwrap();
    let mut got = Vec::new();
    world.run_until("the marker arrives", |w| {
        got.extend(read_all(w, 1, theirs).0);
        got == MARKER
    });
    assert!(world.now.since(approved) < Duration::from_secs(1), "{:?}", world.now.since(approved));
    let capture = world.capture.take().unwrap();
    assert!(capture.len() > 10);
    assert!(!capture.iter().any(|d| d.windows(MARKER.len()).any(|w| w == MARKER)), "plaintext on the wire");
}

#[test]
fn one_seed_gives_one_trace_and_another_seed_another() {
    let run = |seed| {
        let mut world = friends(seed);
        world.set_conditions(Conditions { loss: 20, reorder: 50, duplicate: 20, ..Conditions::default() });
        let (a, b) = world.open(0, 1, 1000);
        world.transfer((0, a), (1, b), 300_000);
        world.trace()
    };
    assert_eq!(run(7), run(7));
    assert_ne!(run(7), run(8));
}

#[test]
fn streams_complete_at_every_loss_rate() {
    for (loss, total) in [(0, 3_000_000), (10, 3_000_000), (50, 2_000_000), (100, 1_000_000), (300, 100_000)] {
        let mut world = friends(seed(11));
        world.set_conditions(Conditions { loss, ..Conditions::default() });
        let (a, b) = world.open(0, 1, 1000);
        let took = world.transfer((0, a), (1, b), total);
        let peer = world.peer(0, 1);
        let info = world.nodes[0].stack.endpoint().peer_info(world.now, peer).unwrap();
        println!(
            "loss {loss} per mille: {took:?} window {} {:?} min_rtt {:?} {:?}",
            info.window, info.srtt, info.min_rtt, info.link
        );
        assert!(took < Duration::from_secs(60), "loss {loss}: {took:?}");
    }
}

#[test]
fn reordering_duplication_and_bit_flips_harm_nothing() {
    let mut world = friends(seed(12));
    world.set_conditions(Conditions { reorder: 250, duplicate: 1000, corrupt: 10, ..Conditions::default() });
    let (a, b) = world.open(0, 1, 1000);
    world.transfer((0, a), (1, b), 2_000_000);
    let resets = world
        .nodes
        .iter()
        .flat_map(|n| &n.events)
        .filter(|e| matches!(e, Event::Endpoint(EndpointEvent::Reset(..))))
        .count();
    assert_eq!(resets, 0, "no session was torn down");
}

#[test]
fn half_close_delivers_everything_both_ways() {
    let mut world = friends(seed(13));
    let (a, b) = world.open(0, 1, 1000);
    world.nodes[0].stack.send(a, b"question").unwrap();
    world.nodes[0].stack.shutdown_write(a);
    let mut question = Vec::new();
    world.run_until("the question and its end arrive", |w| {
        let (bytes, end) = read_all(w, 1, b);
        question.extend(bytes);
        end == Recv::Fin
    });
    assert_eq!(question, b"question");
    world.nodes[1].stack.send(b, b"answer after the end").unwrap();
    world.nodes[1].stack.shutdown_write(b);
    let mut answer = Vec::new();
    world.run_until("the answer and its end arrive", |w| {
        let (bytes, end) = read_all(w, 0, a);
        answer.extend(bytes);
        end == Recv::Fin
    });
    assert_eq!(answer, b"answer after the end");
    let now = world.now;
    world.nodes[0].stack.close(now, a);
    world.nodes[1].stack.close(now, b);
    world.run_for(Duration::from_secs(20));
    assert!(world.nodes.iter().all(|n| n.stack.streams().count() == 0));
}

#[test]
fn a_port_without_listener_refuses_at_once_and_so_does_one_not_granted() {
    let mut world = friends(seed(14));
    world.nodes[1].stack.listen(22).unwrap(); // not in the default grant
    for port in [1001, 22] {
        let (peer, now) = (world.peer(0, 1), world.now);
        let stream = world.nodes[0].stack.connect(now, peer, port).unwrap();
        world.run_until("it is refused", |w| {
            w.nodes[0].stack.stream_info(stream).unwrap().end == Some(StreamEnd::Refused)
        });
        assert!(world.now.since(now) < Duration::from_millis(500));
    }
}

#[test]
fn a_request_that_travels_with_the_syn_is_answered_in_one_round_trip() {
    let mut world = friends(seed(31));
    world.set_conditions(Conditions { delay: 20 * MS, ..Conditions::default() });
    world.open(0, 1, 1000); // the tunnel stands
    let time_of = |world: &mut World, early: &[u8]| {
        let start = world.now;
        let (a, b) = world.open_with(0, 1, 1000, early);
        if early.is_empty() {
            world.run_until("the stream stands here", |w| w.nodes[0].stack.stream_info(a).unwrap().connected);
            world.nodes[0].stack.send(a, b"?").unwrap();
        }
        world.run_until("the request is there", |w| read_all(w, 1, b).0 == b"?");
        world.nodes[1].stack.send(b, b"!").unwrap();
        world.run_until("the answer is there", |w| read_all(w, 0, a).0 == b"!");
        world.now.since(start)
    };
    let (late, early) = (time_of(&mut world, b""), time_of(&mut world, b"?"));
    assert!(late >= 80 * MS && early < 42 * MS, "two round trips of 40 ms {late:?}, one {early:?}");
}

#[test]
fn what_travels_with_the_syn_arrives_once_and_first_whatever_the_path_does() {
    for n in 0..20 {
        let mut world = friends(seed(100 + n));
        world.set_conditions(Conditions { loss: 200, reorder: 200, duplicate: 100, ..Conditions::default() });
        let early: Vec<u8> = (0..EARLY_LEN_MAX >> (n % 4)).map(|i| i as u8 ^ n as u8).collect();
        let (a, b) = world.open_with(0, 1, 1000, &early);
        let mut got = Vec::new();
        world.run_until("early data arrives", |w| {
            got.extend(read_all(w, 1, b).0);
            got.len() >= early.len()
        });
        assert_eq!(got, early);
        world.run_until("the stream stands here", |w| w.nodes[0].stack.stream_info(a).unwrap().connected);
        world.transfer((0, a), (1, b), 50_000);
        world.transfer((1, b), (0, a), 50_000);
        world.nodes[0].stack.shutdown_write(a);
        world.run_until("the end arrives", |w| read_all(w, 1, b) == (Vec::new(), Recv::Fin));
    }
}

#[test]
fn early_data_is_never_given_to_two_processes() {
    let mut world = friends(seed(33));
    world.open(0, 1, 1000);
    let stream = {
        let (peer, now) = (world.peer(0, 1), world.now);
        world.nodes[0].stack.connect_with(now, peer, 1000, b"do it once".to_vec()).unwrap()
    };
    let before = world.nodes[1].events.len();
    let is_incoming = |e: &Event| matches!(e, Event::Incoming { .. });
    world.run_until("the peer has it", |w| w.nodes[1].events[before..].iter().any(is_incoming));
    world.lose_what_is_under_way(); // its answer, too
    world.restart(1);
    world.nodes[1].stack.listen(1000).unwrap();
    world.run_until("the stream ends", |w| {
        w.nodes[0].stack.stream_info(stream).unwrap().end == Some(StreamEnd::Tunnel(ResetReason::Restarted))
    });
    world.run_for(Duration::from_secs(5));
    assert!(!world.nodes[1].events.iter().any(is_incoming), "the new process has it too");
}

#[test]
fn early_data_for_a_process_that_ran_already_is_given_to_it_once() {
    for (n, after) in [30, 100, 900, 3000, 20_000].into_iter().enumerate() {
        let mut world = friends(seed(400 + n as u64));
        let (old, _) = world.open(0, 1, 1000);
        world.restart(1);
        world.nodes[1].stack.listen(1000).unwrap();
        world.run_for(after * MS);
        let start = world.now;
        let (a, b) = world.open_with(0, 1, 1000, b"do it once");
        assert!(world.now.since(start) < Duration::from_secs(2), "{:?}", world.now.since(start));
        let stood = read_all(&mut world, 0, old).1;
        assert_eq!(stood, Recv::Ended(StreamEnd::Tunnel(ResetReason::Restarted)), "a stream that stood");
        world.run_for(Duration::from_secs(5));
        assert_eq!(read_all(&mut world, 1, b).0, b"do it once", "{after} ms after the start");
        let arrivals = world.nodes[1].events.iter().filter(|e| matches!(e, Event::Incoming { .. })).count();
        assert_eq!(arrivals, 1, "{after} ms after the start");
        world.transfer((1, b), (0, a), 10_000);
    }
}

/// The process that ran when the bytes left is gone, too, before it has answered.
#[test]
fn early_data_does_not_pass_from_restart_to_restart() {
    let mut world = friends(seed(34));
    world.open(0, 1, 1000);
    world.restart(1);
    world.run_for(100 * MS);
    let (peer, now) = (world.peer(0, 1), world.now);
    let stream = world.nodes[0].stack.connect_with(now, peer, 1000, b"do it once".to_vec()).unwrap();
    world.run_for(50 * MS);
    world.restart(1);
    world.nodes[1].stack.listen(1000).unwrap();
    world.run_until("the stream ends", |w| {
        w.nodes[0].stack.stream_info(stream).unwrap().end == Some(StreamEnd::Tunnel(ResetReason::Restarted))
    });
    assert!(!world.nodes[1].events.iter().any(|e| matches!(e, Event::Incoming { .. })));
}

#[test]
fn early_data_is_refused_with_its_stream_and_has_a_maximum() {
    let mut world = friends(seed(32));
    let (peer, now) = (world.peer(0, 1), world.now);
    let stack = &mut world.nodes[0].stack;
    let stream = stack.connect_with(now, peer, 22, b"for nobody".to_vec()).unwrap();
    let long = stack.connect_with(now, peer, 1000, vec![0; EARLY_LEN_MAX + 1]);
    assert_eq!(long, Err(CommandError::TooLong));
    world.run_until("it is refused", |w| w.nodes[0].stack.stream_info(stream).unwrap().end == Some(StreamEnd::Refused));
    assert!(world.now.since(now) < Duration::from_millis(500));
}

#[test]
fn a_killed_peer_is_an_error_and_never_a_clean_end() {
    let mut world = friends(seed(15));
    let (a, b) = world.open(0, 1, 1000);
    world.nodes[1].stack.send(b, b"half of a sent").unwrap();
    world.run_for(100 * MS);
    world.restart(1);
    world.nodes[0].stack.send(a, b"x").unwrap();
    let mut got = Vec::new();
    let start = world.now;
    world.run_until("the stream ends", |w| {
        let (bytes, end) = read_all(w, 0, a);
        got.extend(bytes);
        assert_ne!(end, Recv::Fin, "a clean end");
        end == Recv::Ended(StreamEnd::Tunnel(ResetReason::Restarted))
    });
    assert_eq!(got, b"half of a sent");
    assert!(world.now.since(start) < Duration::from_secs(4), "{:?}", world.now.since(start));
}

#[test]
fn a_reader_that_stops_blocks_its_sender_and_nobody_else() {
    let rings = StackConfig { ring_len_max: 1 << 20, ..StackConfig::default() };
    let mut world = World::with_config(seed(16), 2, rings);
    world.make_friends(0, 1);
    world.nodes[1].stack.listen(1000).unwrap();
    let (stopped, _unread) = world.open(0, 1, 1000);
    let (a, b) = world.open(0, 1, 1000);
    let mut written = 0;
    for _ in 0..200 {
        written += world.nodes[0].stack.send(stopped, &[7; 65536]).unwrap();
        world.run_for(20 * MS);
    }
    assert!(written < 3 << 20, "{written} bytes were taken although nobody reads");
    world.transfer((0, a), (1, b), 1_000_000);
}

#[test]
fn revocation_stops_data_within_100_ms_and_holds_after_a_restart() {
    let mut world = friends(seed(17));
    let (a, b) = world.open(0, 1, 1000);
    world.transfer((0, a), (1, b), 100_000);
    let (key, now) = (world.nodes[0].stack.endpoint().identity().public(), world.now);
    world.nodes[1].stack.endpoint_mut().revoke(now, &key).unwrap();
    world.run_for(100 * MS);
    assert!(matches!(read_all(&mut world, 0, a).1, Recv::Ended(_)));
    assert!(matches!(read_all(&mut world, 1, b).1, Recv::Ended(_) | Recv::Fin));
    world.restart(1);
    assert_eq!(world.nodes[1].stack.endpoint().peers().count(), 1, "only the rendezvous is left");
}

#[test]
fn strangers_reach_nothing_even_when_they_know_everything() {
    let mut world = World::new(seed(18), 3);
    world.make_friends(0, 1);
    world.nodes[1].stack.listen(1000).unwrap();
    // Node 2 replays every datagram between nodes 0 and 1 from its own address.
    let victim = world.nodes[1].addr;
    let datagrams: Vec<Vec<u8>> = {
        world.capture = Some(Vec::new());
        let (a, b) = world.open(0, 1, 1000);
        world.transfer((0, a), (1, b), 50_000);
        world.capture.take().unwrap()
    };
    let before = world.nodes[1].events.len();
    let (from, now) = (world.nodes[2].addr, world.now);
    for datagram in datagrams {
        let _ = world.nodes[1].stack.handle_datagram(now, from, &mut datagram.clone());
    }
    world.run_for(Duration::from_secs(1));
    let news: Vec<_> = world.nodes[1].events[before..]
        .iter()
        .filter(|e| matches!(e, Event::Incoming { .. } | Event::Datagram { .. }))
        .collect();
    assert!(news.is_empty(), "{news:?}");
    assert_eq!(path(&world, 0, 1), Some(PathAddr::Direct(victim)), "the path did not move");
}

#[test]
fn nats_are_punched_where_they_can_be_and_relayed_where_not() {
    use NatKind::{AddressDependent, Block, PortRestricted, Sequential, Symmetric};
    for (a, b, direct) in [
        (None, None, true),
        (Some(PortRestricted), None, true),
        (Some(PortRestricted), Some(PortRestricted), true),
        (Some(Symmetric), None, true),
        (Some(Symmetric), Some(PortRestricted), true),
        (Some(Sequential), Some(PortRestricted), true),
        (Some(Sequential), Some(Sequential), true),
        (Some(Block), Some(PortRestricted), true),
        (Some(AddressDependent), Some(PortRestricted), true),
        (Some(Symmetric), Some(Symmetric), false),
        (Some(Symmetric), Some(Block), false),
        (Some(Sequential), Some(Block), false),
    ] {
        let mut world = World::new(seed(19), 2);
        a.into_iter().for_each(|kind| world.set_nat(0, kind));
        b.into_iter().for_each(|kind| world.set_nat(1, kind));
        world.make_friends(0, 1);
        world.nodes[1].stack.listen(1000).unwrap();
        let start = world.now;
        let (from, to) = world.open(0, 1, 1000);
        assert!(world.now.since(start) < Duration::from_secs(2), "{a:?} {b:?}: {:?}", world.now.since(start));
        world.run_for(Duration::from_secs(2));
        world.transfer((0, from), (1, to), 200_000);
        let selected = path(&world, 0, 1);
        assert_eq!(selected.is_some_and(PathAddr::is_direct), direct, "{a:?} × {b:?}: {selected:?}");
    }
}

#[test]
fn a_roaming_node_and_a_rebooting_nat_break_no_stream() {
    let mut world = friends(seed(20));
    let (a, b) = world.open(0, 1, 1000);
    world.transfer((0, a), (1, b), 100_000);
    world.roam(0);
    world.transfer((0, a), (1, b), 100_000);
    world.transfer((1, b), (0, a), 100_000);

    let mut world = World::new(seed(21), 2);
    world.set_nat(0, NatKind::PortRestricted);
    world.set_nat(1, NatKind::PortRestricted);
    world.make_friends(0, 1);
    world.nodes[1].stack.listen(1000).unwrap();
    let (a, b) = world.open(0, 1, 1000);
    world.transfer((0, a), (1, b), 100_000);
    world.reboot_nat(0);
    world.transfer((0, a), (1, b), 100_000);
}

/// The goal is a round trip and 50 ms (`docs/paths.md, "Roaming"`).
#[test]
fn an_idle_node_that_is_told_of_its_move_is_found_at_once() {
    for nat in [None, Some(NatKind::PortRestricted)] {
        let mut world = World::new(seed(24), 2);
        for node in [0, 1] {
            nat.into_iter().for_each(|kind| world.set_nat(node, kind));
        }
        world.make_friends(0, 1);
        world.nodes[1].stack.listen(1000).unwrap();
        let (a, b) = world.open(0, 1, 1000);
        world.transfer((0, a), (1, b), 100_000);
        world.run_for(Duration::from_secs(10));
        assert!(path(&world, 1, 0).is_some_and(is_direct));
        world.roam_knowingly(0);
        world.run_for(ROUND_TRIP + 50 * MS);
        // The node that stayed sends first.
        let begin = world.now;
        world.transfer((1, b), (0, a), 1000);
        let took = world.now.since(begin);
        assert!(took <= ROUND_TRIP, "{nat:?}: {took:?}");
        world.run_for(Duration::from_secs(2));
        assert!(path(&world, 1, 0).is_some_and(is_direct), "{nat:?}");
        assert!(path(&world, 0, 1).is_some_and(is_direct), "{nat:?}");
    }
}

#[test]
fn friends_need_no_rendezvous() {
    let mut world = friends(seed(22));
    let (a, b) = world.open(0, 1, 1000);
    world.rendezvous = None;
    for _ in 0..4 {
        world.run_for(Duration::from_secs(400));
        world.transfer((0, a), (1, b), 10_000);
    }
    let (c, d) = world.open(0, 1, 1000);
    world.transfer((0, c), (1, d), 10_000);
}

#[test]
fn many_streams_share_one_tunnel_fairly() {
    let mut world = friends(seed(24));
    world.set_conditions(Conditions { rate: Some(20_000_000), queue: 100_000, ..Conditions::default() });
    let pairs: Vec<_> = (0..8).map(|_| world.open(0, 1, 1000)).collect();
    let (mut got, chunk, mut buffer) = ([0usize; 8], [1u8; 16384], vec![0; 65536]);
    let end = world.now + Duration::from_secs(5);
    world.run_until("five seconds have passed", |w| {
        for (i, (a, b)) in pairs.iter().enumerate() {
            while w.nodes[0].stack.send(*a, &chunk).unwrap() > 0 {}
            while let Recv::Data(n) = w.nodes[1].stack.recv(*b, &mut buffer) {
                got[i] += n;
            }
        }
        w.now >= end
    });
    let (sum, squares) = got.iter().fold((0f64, 0f64), |(s, q), n| (s + *n as f64, q + (*n as f64).powi(2)));
    let jain = sum * sum / (8.0 * squares);
    assert!(jain > 0.98, "Jain {jain:.3}: {got:?}");
    assert!(sum * 8.0 / 5.0 > 0.85 * 20e6, "{:.1} Mbit/s of 20", sum * 8.0 / 5e6);
}

#[test]
fn datagrams_arrive_or_are_lost_but_never_come_from_strangers() {
    let mut world = friends(seed(25));
    world.nodes[1].stack.bind(1002).unwrap();
    let peer = world.peer(0, 1);
    for i in 0..10u8 {
        world.nodes[0].stack.send_datagram(peer, (5000, 1002), &[i; 100]).unwrap();
    }
    world.nodes[0].stack.send_datagram(peer, (5000, 22), b"not granted").unwrap();
    assert!(world.nodes[0].stack.send_datagram(peer, (5000, 1002), &[0; 3000]).is_err());
    world.run_for(Duration::from_secs(1));
    let count = world.nodes[1].events.iter().filter(|e| matches!(e, Event::Datagram { port: 1002, .. })).count();
    assert_eq!(count, 10);
}

/// A node that ends says farewell to peers behind the relay before it leaves the rendezvous, which relays the farewell.
#[test]
fn a_farewell_reaches_peers_behind_the_relay() {
    let mut world = World::new(seed(28), 2);
    (0..2).for_each(|node| world.set_nat(node, NatKind::Symmetric));
    world.make_friends(0, 1);
    world.nodes[1].stack.listen(1000).unwrap();
    let (a, _) = world.open(0, 1, 1000);
    assert!(matches!(path(&world, 0, 1), Some(PathAddr::Relay(_))));
    world.nodes[1].stack.endpoint_mut().close_all();
    let start = world.now;
    world.run_until("the stream ends", |w| read_all(w, 0, a).1 == Recv::Ended(StreamEnd::Tunnel(ResetReason::Closed)));
    assert!(world.now.since(start) < 200 * MS);
}

/// TCP's resets for streams of an ended tunnel do not open a tunnel to the peer that left.
#[test]
fn a_peer_that_left_is_not_called_back_to_be_told_that_its_streams_are_over() {
    let mut world = friends(seed(35));
    let (a, _) = world.open(0, 1, 1000);
    world.nodes[1].stack.endpoint_mut().close_all();
    world.run_until("the stream ends", |w| read_all(w, 0, a).1 == Recv::Ended(StreamEnd::Tunnel(ResetReason::Closed)));
    let before = world.nodes[0].events.len();
    world.run_for(Duration::from_secs(5));
    let news = &world.nodes[0].events[before..];
    assert!(!news.iter().any(|e| matches!(e, Event::Endpoint(EndpointEvent::Up(_)))), "{news:?}");
}

/// The first stream of a new process may arrive in the datagram that shows the restart; it is not a stream of the old
/// process.
#[test]
fn the_first_stream_of_a_peer_that_was_killed_stands_at_once() {
    let mut world = friends(seed(36));
    world.nodes[0].stack.listen(1000).unwrap();
    let (old, _) = world.open(1, 0, 1000);
    world.restart(0);
    world.run_until("it is registered again", |w| w.is_registered(0));
    let start = world.now;
    world.open_with(0, 1, 1000, b"early");
    assert!(world.now.since(start) < 300 * MS, "{:?}", world.now.since(start));
    assert_eq!(read_all(&mut world, 1, old).1, Recv::Ended(StreamEnd::Tunnel(ResetReason::Restarted)));
}

/// It has not saved the other's address, so that its INIT travels over the relay; the direct path that stood leads to the
/// process that is gone.
#[test]
fn a_peer_that_was_killed_and_starts_at_another_address_is_answered_there() {
    let mut world = friends(seed(39));
    let book = world.nodes[0].stack.endpoint().trust().emit();
    world.nodes[0].stack.listen(1000).unwrap();
    world.open(1, 0, 1000);
    world.run_until("the path is direct", |w| path(w, 1, 0).is_some_and(is_direct));
    world.boot_with(0, TrustBook::parse(&book).unwrap());
    world.roam(0);
    world.run_until("it is registered again", |w| w.is_registered(0));
    let start = world.now;
    let (a, b) = world.open_with(0, 1, 1000, b"early");
    assert!(world.now.since(start) < 300 * MS, "{:?}", world.now.since(start));
    assert_eq!(read_all(&mut world, 1, b).0, b"early");
    world.transfer((1, b), (0, a), 10_000);
    assert!(world.now.since(start) < 600 * MS, "{:?}", world.now.since(start));
}

/// TCP alone would resend its SYN after one second, then two, then four.
#[test]
fn a_stream_to_a_peer_that_was_killed_asks_the_new_process_at_once() {
    let mut world = friends(seed(38));
    world.open(0, 1, 1000);
    world.restart(1);
    world.nodes[1].stack.listen(1000).unwrap();
    let start = world.now;
    let (a, b) = world.open(0, 1, 1000);
    assert!(world.now.since(start) < 1500 * MS, "{:?}", world.now.since(start));
    world.transfer((0, a), (1, b), 10_000);
}

/// Such a stream takes no place in the backlog and is never handed to an application.
#[test]
fn streams_given_up_before_they_stand_leave_nothing_behind() {
    let mut world = friends(seed(37));
    world.open(0, 1, 1000);
    let (before, max) = (world.nodes[1].events.len(), StackConfig::default().backlog_max);
    for _ in 0..max + 10 {
        let (peer, now) = (world.peer(0, 1), world.now);
        let stream = world.nodes[0].stack.connect(now, peer, 1000).unwrap();
        world.run_for(15 * MS); // the SYN has arrived, the answer has not
        let now = world.now;
        world.nodes[0].stack.abort(now, stream);
        world.run_for(100 * MS);
    }
    let news = &world.nodes[1].events[before..];
    assert!(!news.iter().any(|e| matches!(e, Event::Incoming { .. })), "{news:?}");
    assert_eq!(world.nodes[1].stack.streams().count(), 1);
    world.open(0, 1, 1000);
}

/// The link resends the newest acknowledgement, so that a stream goes on when the datagram that reopens its window is lost.
#[test]
fn a_lost_window_update_never_stalls_a_stream() {
    for n in 0..4 {
        let rings = StackConfig { ring_len_max: 64 << 10, ..StackConfig::default() };
        let mut world = World::with_config(seed(200 + n), 2, rings);
        world.make_friends(0, 1);
        world.nodes[1].stack.listen(1000).unwrap();
        let (a, b) = world.open(0, 1, 1000);
        world.set_conditions(Conditions { loss: 150, ..Conditions::default() });
        for round in 0..8 {
            // The receiver does not read until the window is closed, and for a while longer.
            let mut full = 0;
            while full < 20 {
                while world.nodes[0].stack.send(a, &[7; 16384]).unwrap() > 0 {}
                world.run_for(20 * MS);
                full += u32::from(world.nodes[1].stack.stream_info(b).unwrap().readable > 60_000);
            }
            read_all(&mut world, 1, b);
            let start = world.now;
            world.run_until("more comes", |w| w.nodes[1].stack.stream_info(b).unwrap().readable > 0);
            let pause = world.now.since(start);
            assert!(pause < Duration::from_secs(3), "seed {n}, round {round}: {pause:?}");
        }
    }
}

/// With data both ways, acknowledgements may overtake data inside the link; TCP must not take a stale window for a new one
/// and send beyond it.
#[test]
fn an_echo_through_full_windows_never_stalls() {
    let mut world = friends(seed(26));
    world.set_conditions(Conditions { delay: MS / 10, mtu: 65_507, ..Conditions::default() });
    let (a, b) = world.open(0, 1, 1000);
    let (total, chunk, mut buffer) = (32 << 20, [7u8; 65536], vec![0; 16384]);
    let (mut sent, mut back, mut echo) = (0, 0, Vec::new());
    world.run_until("everything came back", |w| {
        while sent < total {
            let n = w.nodes[0].stack.send(a, &chunk[..chunk.len().min(total - sent)]).unwrap();
            sent += n;
            if n == 0 {
                break;
            }
        }
        loop {
            let n = w.nodes[1].stack.send(b, &echo).unwrap();
            echo.drain(..n);
            match w.nodes[1].stack.recv(b, &mut buffer) {
                Recv::Data(n) if echo.len() < 65536 => echo.extend_from_slice(&buffer[..n]),
                Recv::Data(n) => {
                    echo.extend_from_slice(&buffer[..n]);
                    break;
                }
                _ => break,
            }
        }
        while let Recv::Data(n) = w.nodes[0].stack.recv(a, &mut buffer) {
            back += n;
        }
        back == total
    });
}

/// A node that restarts twice sends the same introduction twice, and is introduced both times.
#[test]
fn a_node_may_restart_any_number_of_times() {
    let mut world = friends(seed(27));
    for _ in 0..4 {
        world.restart(1);
        world.nodes[1].stack.listen(1000).unwrap();
        world.run_until("it is registered again", |w| w.is_registered(1));
        let (a, b) = world.open(0, 1, 1000);
        world.transfer((0, a), (1, b), 10_000);
    }
}

/// Window scaling rounds the advertised window down, which must not move its right edge back: the receiver would cut off
/// those bytes, and the sender would wait a second for its timer.
#[test]
fn echoes_through_full_windows_in_any_rhythm_never_pause() {
    for n in 0..6 {
        let mut world = friends(seed(100 + n));
        let mut rng = Rng::new([n as u8; 32]);
        world.set_conditions(Conditions { delay: MS / 20, mtu: 65_507, ..Conditions::default() });
        let (a, b) = world.open(0, 1, 1000);
        let (total, chunk, mut buffer) = (16 << 20, [7u8; 65536], vec![0; 16384]);
        let (mut sent, mut back, mut echo, mut progress) = (0, 0, Vec::new(), world.now);
        while back < total {
            if rng.below(3) > 0 {
                let len = (1 + rng.below(65536) as usize).min(total - sent);
                sent += world.nodes[0].stack.send(a, &chunk[..len]).unwrap();
            }
            while rng.below(20) > 0 && echo.len() < 65536 {
                let Recv::Data(n) = world.nodes[1].stack.recv(b, &mut buffer) else { break };
                echo.extend_from_slice(&buffer[..n]);
            }
            let n = world.nodes[1].stack.send(b, &echo).unwrap();
            echo.drain(..n);
            while rng.below(20) > 0 {
                let Recv::Data(n) = world.nodes[0].stack.recv(a, &mut buffer) else { break };
                back += n;
                progress = world.now;
            }
            let pause = world.now.since(progress);
            assert!(pause < 50 * MS, "seed {n}: {pause:?} without a byte, {back} of {total} are back");
            world.run_for(MS / 20 + Duration::from_micros(rng.below(200)));
        }
    }
}

/// The first attempt of a node that boots before its friend does ends in vain, or goes on; what follows does not wait for the
/// next datagram of somebody else.
#[test]
fn a_friend_that_boots_later_is_reached() {
    for (n, (leaves, has_rendezvous, within)) in
        [(true, true, 2000), (false, true, 3000), (true, false, 3000)].into_iter().cycle().take(60).enumerate()
    {
        let mut world = friends(seed(500 + n as u64));
        world.open(0, 1, 1000);
        if leaves {
            world.nodes[1].stack.endpoint_mut().close_all();
            world.run_for(100 * MS);
        }
        world.restart(0);
        let (peer, friend) = (world.peer(0, 1), world.nodes.pop().unwrap());
        if !has_rendezvous {
            world.rendezvous = None;
        }
        let mut stream = world.nodes[0].stack.connect(world.now, peer, 1000).unwrap();
        world.run_for((1000 + 100 * (n as u32 / 3)) * MS);
        world.nodes.push(friend);
        world.restart(1);
        world.nodes[1].stack.listen(1000).unwrap();
        let (booted, mut again_at) = (world.now, None);
        loop {
            let info = world.nodes[0].stack.stream_info(stream);
            if info.is_some_and(|info| info.connected) {
                break;
            }
            if again_at.is_some_and(|at| at <= world.now) {
                again_at = None;
                stream = world.nodes[0].stack.connect(world.now, peer, 1000).unwrap();
            } else if info.is_some_and(|info| info.end.is_some()) {
                world.nodes[0].stack.close(world.now, stream);
                again_at = Some(world.now + Duration::from_secs(1));
            }
            world.run_for(10 * MS);
            let took = world.now.since(booted);
            assert!(took <= within * MS, "{n}: not reached after {took:?}");
        }
    }
}

/// The INIT of a new process meets that with which the other side asks for a process that is gone. Both sides know each other
/// by the same names afterwards, and new keys end nothing.
#[test]
fn handshakes_that_meet_after_a_restart_leave_one_name_on_both_sides() {
    for n in 0..60 {
        let mut world = friends(seed(600 + n));
        world.nodes[0].stack.listen(1000).unwrap();
        world.open(0, 1, 1000);
        world.restart(1);
        world.nodes[1].stack.listen(1000).unwrap();
        let connect = |w: &mut World, a: usize| {
            let (peer, now) = (w.peer(a, 1 - a), w.now);
            w.nodes[a].stack.connect(now, peer, 1000).unwrap()
        };
        let ours = connect(&mut world, 0);
        world.run_for((900 + 10 * n as u32) * MS);
        let theirs = connect(&mut world, 1);
        world.run_until("both streams stand", |w| {
            [(0, ours), (1, theirs)].iter().all(|(a, id)| w.nodes[*a].stack.stream_info(*id).unwrap().connected)
        });
        world.nodes.iter_mut().for_each(|node| node.events.clear());
        world.run_for(Duration::from_secs(300));
        for node in &world.nodes {
            let reset = node.events.iter().find(|event| matches!(event, Event::Endpoint(EndpointEvent::Reset(..))));
            assert!(reset.is_none(), "{n}: {reset:?}");
        }
    }
}
