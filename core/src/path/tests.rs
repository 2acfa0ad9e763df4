//! The paths to one peer, in virtual time.

use super::*;

fn direct(port: u16) -> PathAddr {
    PathAddr::Direct(SocketAddr::from(([192, 0, 2, 1], port)))
}

fn soonest(paths: &Paths, loaded: bool) -> Option<Instant> {
    let mut soonest = Soonest::default();
    paths.note_deadlines(loaded, &mut soonest);
    soonest.get().map(|(at, _)| at)
}

fn answered(paths: &mut Paths, now: Instant, to: PathAddr) -> bool {
    let probe = core::iter::from_fn(|| paths.poll_probe()).find(|p| p.to == to && !p.is_answer).expect("a probe");
    paths.on_probe_ok(now, probe.id, to)
}

#[test]
fn data_starts_on_the_relay_and_moves_to_a_direct_path_that_answers() {
    let (mut paths, mut rng, now) = (Paths::default(), Rng::new([1; 32]), Instant::ZERO);
    paths.set_relay(Channel(7));
    paths.select_working(PathAddr::Relay(Channel(7)), false);
    paths.add(direct(1));
    paths.start_round(now);
    paths.handle_timeout(now, true, true, &mut rng);
    assert_eq!(paths.selected(), Some(PathAddr::Relay(Channel(7))), "a candidate alone is not a path");
    assert!(answered(&mut paths, now + Duration::from_millis(5), direct(1)));
    assert_eq!(paths.selected(), Some(direct(1)));
    paths.on_suspect(now);
    assert_eq!(paths.selected(), Some(PathAddr::Relay(Channel(7))), "the relay was kept");
}

#[test]
fn a_new_tunnel_uses_the_path_that_answered_and_an_old_one_keeps_its_direct_path() {
    let mut paths = Paths::default();
    paths.set_relay(Channel(7));
    paths.select_working(direct(1), false);
    paths.select_working(PathAddr::Relay(Channel(7)), true);
    assert_eq!(paths.selected(), Some(direct(1)));
    paths.select_working(PathAddr::Relay(Channel(7)), false);
    assert_eq!(paths.selected(), Some(PathAddr::Relay(Channel(7))), "the address may be another's by now");
}

#[test]
fn of_a_process_that_is_gone_only_the_relay_and_the_address_in_use_are_kept() {
    let mut paths = Paths::default();
    (1..9).for_each(|port| paths.add(direct(port)));
    paths.set_relay(Channel(7));
    paths.select_working(direct(4), false);
    paths.forget_candidates();
    let left: alloc::vec::Vec<_> = paths.list().iter().map(|path| path.addr).collect();
    assert_eq!(left, [direct(4), PathAddr::Relay(Channel(7))]);
}

#[test]
fn rounds_follow_the_schedule_and_stop_for_peers_out_of_use() {
    let (mut paths, mut rng, mut now) = (Paths::default(), Rng::new([1; 32]), Instant::ZERO);
    paths.set_relay(Channel(7));
    paths.select_working(PathAddr::Relay(Channel(7)), false);
    paths.add(direct(1));
    paths.start_round(now);
    let mut times = Vec::new();
    while let Some(at) = soonest(&paths, true).filter(|at| at.as_micros() < 4_000_000) {
        now = at.max(now);
        paths.handle_timeout(now, true, false, &mut rng);
        if core::iter::from_fn(|| paths.poll_probe()).count() > 0 {
            times.push(now.as_micros() / 1000);
        }
    }
    assert_eq!(times, [0, 20, 60, 140, 300, 600, 1000, 3000, 3020, 3060, 3140, 3300, 3600]);
    now = now + Duration::from_secs(10);
    (0..3).for_each(|_| paths.handle_timeout(now, false, false, &mut rng));
    assert_eq!(soonest(&paths, false), None);
}

#[test]
fn larger_datagrams_are_used_once_proven_and_given_up_when_refused() {
    let (mut paths, mut rng, mut now) = (Paths::default(), Rng::new([1; 32]), Instant::ZERO);
    paths.select_working(direct(1), false);
    assert_eq!(paths.datagram_len(), DATAGRAM_LEN_BASE);
    for size in [1452, 1472] {
        paths.handle_timeout(now, true, true, &mut rng);
        let probe = paths.poll_probe().expect("a size probe");
        assert_eq!(probe.len, Some(size));
        paths.on_probe_ok(now, probe.id, direct(1));
        assert_eq!(paths.datagram_len(), size);
    }
    paths.handle_timeout(now, true, true, &mut rng);
    let mut tries = 0;
    while let Some(at) = soonest(&paths, true) {
        tries += usize::from(paths.poll_probe().is_some());
        now = at;
        paths.handle_timeout(now, true, true, &mut rng);
    }
    assert_eq!((tries, paths.datagram_len()), (usize::from(SIZE_PROBE_TRIES), 1472));
    paths.handle_timeout(now, true, true, &mut rng);
    assert!(paths.poll_probe().is_none(), "refused sizes are not tried again on this path");
}

#[test]
fn the_table_has_a_maximum_and_keeps_what_works() {
    let mut paths = Paths::default();
    paths.select_working(direct(1), false);
    (2..200).for_each(|port| paths.add(direct(port)));
    assert_eq!(paths.list().len(), PATHS_MAX);
    assert_eq!(paths.selected(), Some(direct(1)));
    assert!(paths.find(direct(1)).is_some());
}

#[test]
fn a_moved_peer_is_followed_only_after_a_probe_round_trip() {
    let (mut paths, mut rng, now) = (Paths::default(), Rng::new([1; 32]), Instant::ZERO);
    paths.select_working(direct(1), false);
    paths.on_moved(now, direct(2), &mut rng);
    assert_eq!(paths.selected(), Some(direct(1)));
    assert!(answered(&mut paths, now, direct(2)));
    assert_eq!(paths.selected(), Some(direct(2)));
}

#[test]
fn harmful_candidates_are_refused() {
    let own = ["192.0.2.9:5".parse().expect("address")];
    for bad in ["224.0.0.1:5", "0.0.0.0:5", "192.0.2.1:0", "255.255.255.255:5", "127.0.0.1:5", "[ff02::1]:5"] {
        assert!(!is_acceptable_candidate(&bad.parse().expect("address"), &own), "{bad}");
    }
    assert!(is_acceptable_candidate(&"198.51.100.1:5".parse().expect("address"), &own));
    assert!(is_acceptable_candidate(
        &"127.0.0.1:5".parse().expect("address"),
        &["127.0.0.1:6".parse().expect("address")]
    ));
}
