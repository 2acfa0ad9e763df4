//! The paths to one peer, in virtual time.

use super::choice::FASTER_TIMES;
use super::relays::LEFT_AFTER;
use super::round::{PEER_TRIES_MAX, TRIES_AGAIN, TRIES_MAX};
use super::size::SIZE_PROBE_TRIES;
use super::*;
use crate::wire::Channel;

fn direct(port: u16) -> PathAddr {
    PathAddr::Direct(SocketAddr::from(([192, 0, 2, 1], port)))
}

fn soonest(paths: &Paths, loaded: bool) -> Option<Instant> {
    let mut soonest = Soonest::default();
    paths.note_deadlines(loaded, &mut soonest);
    soonest.get().map(|(at, _)| at)
}

/// A generator and a budget for probes.
struct Dice(Rng, ProbeBudget);

impl Dice {
    fn new() -> Self {
        Self(Rng::new([1; 32]), ProbeBudget::new())
    }

    fn prober(&mut self) -> Prober<'_> {
        Prober { rng: &mut self.0, budget: &mut self.1 }
    }
}

fn answered(paths: &mut Paths, now: Instant, to: PathAddr) -> bool {
    let before = paths.selected();
    let probe = core::iter::from_fn(|| paths.poll_probe()).find(|p| p.to == to && !p.is_answer).expect("a probe");
    paths.on_probe_ok(now, probe.id, to);
    paths.selected() != before
}

#[test]
fn data_starts_on_the_relay_and_moves_to_a_direct_path_that_answers() {
    let (mut paths, mut dice, now) = (Paths::default(), Dice::new(), Instant::ZERO);
    paths.set_relay(Channel(7));
    paths.select_working(PathAddr::Relay(Channel(7)), false);
    paths.add(direct(1));
    paths.begin_rounds(now);
    paths.handle_timeout(now, true, true, &mut dice.prober());
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
    (1..9).for_each(|port| paths.add_known(SocketAddr::from(([192, 0, 2, 1], port))));
    paths.set_relay(Channel(7));
    paths.select_working(direct(4), false);
    paths.forget_candidates();
    let left: alloc::vec::Vec<_> = paths.list().iter().map(|path| path.addr).collect();
    assert_eq!(left, [direct(4), PathAddr::Relay(Channel(7))]);
}

#[test]
fn rounds_follow_the_schedule_and_stop_for_peers_out_of_use() {
    let (mut paths, mut dice, mut now) = (Paths::default(), Dice::new(), Instant::ZERO);
    paths.set_relay(Channel(7));
    paths.select_working(PathAddr::Relay(Channel(7)), false);
    paths.add_known(SocketAddr::from(([192, 0, 2, 1], 1)));
    paths.begin_rounds(now);
    let mut times = Vec::new();
    while let Some(at) = soonest(&paths, true).filter(|at| at.as_micros() < 4_000_000) {
        now = at.max(now);
        paths.handle_timeout(now, true, false, &mut dice.prober());
        if core::iter::from_fn(|| paths.poll_probe()).count() > 0 {
            times.push(now.as_micros() / 1000);
        }
    }
    assert_eq!(times, [0, 20, 60, 140, 300, 600, 1000, 3000, 3020, 3060, 3140, 3300, 3600]);
    now = now + Duration::from_secs(10);
    (0..3).for_each(|_| paths.handle_timeout(now, false, false, &mut dice.prober()));
    assert_eq!(soonest(&paths, false), None);
}

#[test]
fn larger_datagrams_are_used_once_proven_and_given_up_when_refused() {
    let (mut paths, mut dice, mut now) = (Paths::default(), Dice::new(), Instant::ZERO);
    paths.select_working(direct(1), false);
    assert_eq!(paths.datagram_len(), DATAGRAM_LEN_BASE);
    for size in [1372, 1452, 1472] {
        paths.handle_timeout(now, true, true, &mut dice.prober());
        let probe = paths.poll_probe().expect("a size probe");
        assert_eq!(probe.len, Some(size));
        paths.on_probe_ok(now, probe.id, direct(1));
        assert_eq!(paths.datagram_len(), size);
    }
    paths.handle_timeout(now, true, true, &mut dice.prober());
    let mut tries = 0;
    while let Some(at) = soonest(&paths, true) {
        tries += usize::from(paths.poll_probe().is_some());
        now = at;
        paths.handle_timeout(now, true, true, &mut dice.prober());
    }
    assert_eq!((tries, paths.datagram_len()), (usize::from(SIZE_PROBE_TRIES), 1472));
    paths.handle_timeout(now, true, true, &mut dice.prober());
    assert!(paths.poll_probe().is_none(), "refused sizes are not tried again on this path");
}

#[test]
fn the_table_has_a_maximum_and_keeps_what_works() {
    let mut paths = Paths::default();
    paths.select_working(direct(1), false);
    (2..200).for_each(|port| assert!(paths.add(direct(port))));
    assert_eq!(paths.list().len(), PATHS_MAX);
    assert_eq!(paths.selected(), Some(direct(1)));
    assert!(paths.find(direct(1)).is_some());
}

#[test]
fn a_moved_peer_is_followed_only_after_a_probe_round_trip() {
    let (mut paths, mut dice, now) = (Paths::default(), Dice::new(), Instant::ZERO);
    paths.select_working(direct(1), false);
    paths.on_authentic(now, (direct(2), 41), true, &mut dice.prober());
    assert_eq!(paths.selected(), Some(direct(1)));
    assert!(answered(&mut paths, now, direct(2)));
    assert_eq!(paths.selected(), Some(direct(2)));
}

/// Found by review: a path in use that had become suspect counted as one that never worked, and went.
#[test]
fn a_full_table_never_forgets_the_path_in_use_nor_the_relay() {
    let mut paths = Paths::default();
    paths.select_working(direct(1), false);
    paths.on_suspect(Instant::ZERO);
    paths.set_relay(Channel(7));
    (2..200).for_each(|port| assert!(paths.add(direct(port))));
    assert!(paths.selected() == Some(direct(1)) && paths.find(direct(1)).is_some() && paths.relay().is_some());
    (2..200).for_each(|port| paths.select_working(direct(port), false));
    assert!(paths.list().len() == PATHS_MAX && paths.relay().is_some() && paths.find(direct(199)).is_some());
}

/// An address that never answered gets [`TRIES_MAX`] probes, however often rounds begin, and a peer cannot name so many
/// that the sum is large.
#[test]
fn probes_to_addresses_that_never_answered_have_a_maximum() {
    let (mut paths, mut dice, mut now) = (Paths::default(), Dice::new(), Instant::ZERO);
    paths.set_relay(Channel(7));
    paths.select_working(PathAddr::Relay(Channel(7)), false);
    let mut sent = std::collections::BTreeMap::new();
    // The relay is no address that was named.
    let take =
        |paths: &mut Paths| core::iter::from_fn(|| paths.poll_probe()).filter(|p| p.to.is_direct()).collect::<Vec<_>>();
    for round in 0..250u16 {
        let has_news = (1..17).filter(|i| paths.add(direct(round / 50 * 100 + i))).count() > 0;
        assert_eq!(has_news, round % 50 == 0);
        paths.on_candidates(now, has_news || round % 2 == 0);
        for _ in 0..20 {
            now = now + Duration::from_millis(50);
            paths.handle_timeout(now, true, false, &mut dice.prober());
            take(&mut paths).iter().for_each(|probe| *sent.entry(probe.to).or_insert(0) += 1);
        }
    }
    assert!(now.since(Instant::ZERO) < TRIES_AGAIN && sent.values().all(|n| *n <= TRIES_MAX), "{sent:?}");
    assert_eq!(sent.values().sum::<u8>(), PEER_TRIES_MAX, "however many addresses are named");
    (now, sent) = (now + TRIES_AGAIN, Default::default());
    paths.on_candidates(now, true);
    for _ in 0..20 {
        now = now + Duration::from_millis(50);
        paths.handle_timeout(now, true, false, &mut dice.prober());
        take(&mut paths).iter().for_each(|probe| *sent.entry(probe.to).or_insert(0) += 1);
    }
    assert_eq!(sent.values().sum::<u8>(), PEER_TRIES_MAX, "later they get another chance");
}

#[test]
fn all_peers_together_probe_within_the_budget_of_the_node() {
    let (mut dice, mut now) = (Dice::new(), Instant::ZERO);
    let mut peers: Vec<Paths> = (0..100).map(|_| Paths::default()).collect();
    for paths in &mut peers {
        paths.set_relay(Channel(7));
        (1..4).for_each(|port| paths.select_working(direct(port), false));
        paths.on_own_move(now);
    }
    let mut sent = 0;
    for second in 1..8 {
        while now < Instant::from_micros(second * 1_000_000) {
            now = now + Duration::from_millis(5);
            for paths in &mut peers {
                paths.handle_timeout(now, true, false, &mut dice.prober());
                sent += core::iter::from_fn(|| paths.poll_probe()).count() as u64;
            }
        }
        assert!(sent <= (second + 1) * budget::PROBES_PER_SECOND_MAX, "{sent} probes in {second} s");
    }
    assert!(sent > 1000, "the rest is only put off");
}

/// RFC 9000 §8.1: an address that has not answered is sent at most three times what came from there.
#[test]
fn an_address_that_has_not_answered_costs_its_owner_little() {
    let (mut paths, mut dice, mut now) = (Paths::default(), Dice::new(), Instant::ZERO);
    paths.select_working(direct(1), false);
    for len in [41, 60, 1200] {
        let (victim, mut sent) = (direct(1000 + len as u16), 0);
        for _ in 0..20 {
            now = now + Duration::from_millis(300);
            paths.on_authentic(now, (victim, len), true, &mut dice.prober());
            // A datagram has room for a probe in nine bytes.
            (0..(len - 32) / 9).for_each(|id| paths.on_probe(now, victim, id as u64, &mut dice.prober()));
            sent += core::iter::from_fn(|| paths.poll_probe()).count() * PROBE_LEN;
        }
        assert!(sent > 20 * PROBE_LEN && sent <= 20 * len * AMPLIFICATION_MAX, "{sent} bytes for 20 × {len}");
        assert_eq!(paths.selected(), Some(direct(1)), "and nothing else goes there");
    }
}

/// The peer cannot be reached for an hour, so that this side looks for a way to it all the time.
#[test]
fn an_address_that_was_heard_once_is_not_tried_again_and_again() {
    let (named, authentic, resp, init) = (direct(1), direct(2), direct(3), direct(4));
    let (mut paths, mut dice, mut now) = (Paths::default(), Dice::new(), Instant::ZERO);
    paths.set_relay(Channel(7));
    paths.select_working(PathAddr::Relay(Channel(7)), false);
    paths.add(named);
    paths.on_authentic(now, (authentic, 42), true, &mut dice.prober());
    paths.on_resp(now, (resp, 100), true, &mut dice.prober());
    paths.note_resp(init);
    paths.begin_rounds(now);
    let mut sent = [0; 5];
    for _ in 0..3600 {
        now = now + Duration::from_secs(1);
        paths.handle_timeout(now, true, false, &mut dice.prober());
        while let Some(PathAddr::Direct(to)) = paths.poll_probe().map(|probe| probe.to) {
            sent[usize::from(to.port())] += PROBE_LEN;
        }
    }
    let [_, named, authentic, resp, init] = sent;
    assert!(named > 12 * PROBE_LEN && authentic <= 3 * 42 && resp <= 3 * 100, "{named} {authentic} {resp}");
    assert_eq!(init, 0, "the RESP that went there has an INIT that was longer");
    assert!(paths.add(direct(2)) && !paths.add(direct(2)), "the peer names it, which is news");
}

#[test]
fn keys_that_are_used_prove_where_their_resp_went_and_nothing_else() {
    let mut paths = Paths::default();
    paths.note_resp(direct(1));
    paths.on_resp_used(Instant::ZERO, direct(2), false); // from the address of a victim
    assert_eq!((paths.selected(), paths.allowance()), (Some(direct(1)), usize::MAX));
    assert!(!paths.is_open(direct(2)));
}

#[test]
fn a_resp_from_an_address_that_never_answered_opens_it_for_three_times_its_size() {
    let (mut paths, mut dice, now) = (Paths::default(), Dice::new(), Instant::ZERO);
    paths.on_resp(now, (direct(1), 100), false, &mut dice.prober());
    assert_eq!((paths.selected(), paths.allowance()), (Some(direct(1)), 300 - PROBE_LEN));
    assert!(paths.charge(direct(1), 200) && !paths.charge(direct(1), 200), "that is all");
    answered(&mut paths, now, direct(1));
    assert_eq!(paths.allowance(), usize::MAX);
    paths.on_resp(now, (direct(2), 100), true, &mut dice.prober());
    assert_eq!(paths.selected(), Some(direct(1)), "a tunnel that stands does not move by it");
    paths.add_known(SocketAddr::from(([192, 0, 2, 1], 3)));
    paths.on_resp(now, (direct(3), 100), true, &mut dice.prober());
    assert_eq!((paths.selected(), paths.allowance()), (Some(direct(3)), usize::MAX), "our own books name it");
}

/// The one that the peer sent is lost, and a stranger that has heard it sends a copy. The INIT went to open addresses alone.
#[test]
fn a_resp_from_elsewhere_does_not_lead_data_away() {
    let now = Instant::ZERO;
    for relay in [None, Some(Channel(7))] {
        let (mut paths, mut dice) = (Paths::default(), Dice::new());
        paths.add_known(SocketAddr::from(([192, 0, 2, 1], 3)));
        relay.into_iter().for_each(|channel| paths.set_relay(channel));
        paths.on_resp(now, (direct(1), 100), false, &mut dice.prober());
        assert_eq!(paths.selected(), Some(relay.map_or(direct(1), PathAddr::Relay)));
        assert!(relay.is_some() || paths.allowance() <= 300, "an address that may be anybody's");
        paths.handle_timeout(now, true, false, &mut dice.prober());
        assert!(answered(&mut paths, now, direct(3)), "what is known is asked at once");
        assert_eq!((paths.selected(), paths.allowance()), (Some(direct(3)), usize::MAX));
        paths.on_resp(now, (direct(2), 100), false, &mut dice.prober());
        assert_eq!(paths.selected(), Some(relay.map_or(direct(3), PathAddr::Relay)), "and used from then on");
    }
}

/// Probes that are never answered, and probes of a peer that are answered faster than they leave.
#[test]
fn probes_and_answers_that_wait_have_a_maximum_and_walk_back_to_none() {
    let (mut paths, mut dice, now) = (Paths::default(), Dice::new(), Instant::ZERO);
    paths.select_working(direct(1), true);
    for _ in 0..OUTSTANDING_MAX + 9 {
        paths.probe(now, direct(1), None, &mut dice.0);
        while paths.poll_probe().is_some() {}
    }
    assert_eq!(paths.outstanding.len(), OUTSTANDING_MAX);
    (0..OUTSTANDING_MAX as u64 + 9).for_each(|id| paths.on_probe(now, direct(1), id, &mut dice.prober()));
    assert_eq!(paths.ready.len(), OUTSTANDING_MAX);
    while paths.poll_probe().is_some() {}
    paths.handle_timeout(now + PROBE_LIFETIME, false, false, &mut dice.prober());
    assert_eq!((paths.ready.len(), paths.outstanding.len()), (0, 0));
}

#[test]
fn decisions_for_the_trace_have_a_maximum_and_are_taken() {
    let mut paths = Paths::default();
    (1..100).for_each(|port| paths.select_working(direct(port), false));
    assert_eq!(paths.news.len(), NEWS_MAX);
    assert_eq!((paths.take_news(Instant::ZERO).len(), paths.news.len()), (NEWS_MAX, 0));
}

/// A pair on a direct path, with a relay over which a round trip takes 80 ms.
fn direct_with_relay(now: Instant) -> Paths {
    let mut paths = Paths::default();
    paths.set_relay(Channel(7));
    paths.on_round_trip(PathAddr::Relay(Channel(7)), Duration::from_millis(80));
    paths.on_resp_used(now, PathAddr::Relay(Channel(7)), false);
    paths.select_working(direct(1), false);
    paths
}

#[test]
fn both_sides_probe_when_the_candidates_of_both_have_arrived() {
    let now = Instant::ZERO + Duration::from_secs(9);
    let ms = |n| now + Duration::from_millis(n);
    let begins = |paths: &Paths| paths.round.as_ref().map(PunchRound::due_at);
    let mut paths = direct_with_relay(now);
    paths.on_suspect(now);
    assert_eq!(begins(&paths), Some(ms(40)), "the peer has to be told first");
    let mut paths = direct_with_relay(now);
    paths.select(PathAddr::Relay(Channel(7)), PathReason::Handshake);
    paths.on_told(now, false);
    paths.on_candidates(ms(10), true);
    assert_eq!(begins(&paths), Some(ms(40)), "those of this side are under way");
    paths.on_candidates(ms(700), false);
    assert_eq!(begins(&paths), Some(ms(40)), "no news, and a round began a moment ago");
    paths.on_candidates(ms(2000), false);
    assert_eq!(begins(&paths), Some(ms(2000)));
}

#[test]
fn a_peer_that_speaks_over_the_relay_is_followed_once_the_direct_path_is_silent() {
    let (mut dice, relay) = (Dice::new(), PathAddr::Relay(Channel(7)));
    let mut now = Instant::ZERO + Duration::from_secs(9);
    let mut paths = direct_with_relay(now);
    for _ in 0..20 {
        now = now + Duration::from_millis(100);
        paths.on_authentic(now, (relay, 100), true, &mut dice.prober());
        paths.on_authentic(now, (direct(1), 100), true, &mut dice.prober());
    }
    assert_eq!(paths.selected(), Some(direct(1)), "what was under way over the relay says nothing");
    paths.on_authentic(now + LEFT_AFTER, (relay, 100), false, &mut dice.prober());
    assert_eq!(paths.selected(), Some(direct(1)), "an old datagram neither");
    paths.on_authentic(now + LEFT_AFTER, (relay, 100), true, &mut dice.prober());
    assert!(paths.selected() == Some(relay) && !paths.is_valid(direct(1)));
}

#[test]
fn a_direct_path_is_stale_after_a_silence_unless_it_is_local_or_the_only_one() {
    let now = Instant::ZERO + Duration::from_secs(9);
    let mut paths = direct_with_relay(now);
    assert!(!paths.is_stale(now + Duration::from_secs(19)) && paths.is_stale(now + STALE_AFTER));
    paths.on_stale(now + STALE_AFTER);
    assert_eq!(paths.selected(), paths.relay());
    assert!(!paths.is_stale(now + STALE_AFTER), "once");
    let mut paths = direct_with_relay(now);
    paths.select_working(PathAddr::Direct(SocketAddr::from(([192, 168, 1, 2], 4))), false);
    assert!(!paths.is_stale(now + STALE_AFTER), "no NAT is on the way");
    let mut paths = Paths::default();
    paths.select_working(direct(1), false);
    assert!(!paths.is_stale(now + STALE_AFTER), "there is no other way");
}

fn side(port: u16, source: u32) -> PathAddr {
    PathAddr::Side(SocketAddr::from(([192, 0, 2, 1], port)), Source(source))
}

#[test]
fn paths_from_other_sockets_have_a_maximum_and_go_with_their_sockets() {
    let mut paths = Paths::default();
    paths.select_working(direct(1), false);
    let added = (1..200).filter(|n| paths.add(side(*n, u32::from(*n)))).count();
    assert_eq!((added, paths.list().len()), (SIDE_PATHS_MAX, 1 + SIDE_PATHS_MAX));
    (2..200).for_each(|port| assert!(paths.add(direct(port)), "they drive out no others"));
    let mut rng = Rng::new([1; 32]);
    (0..1000).for_each(|_| paths.spray(side(7, 7), &mut rng));
    assert_eq!(paths.ready.len(), meet::WAITING_MAX);
    (1..200).for_each(|source| paths.forget_source(Source(source)));
    assert!(paths.ready.is_empty() && paths.list().iter().all(|path| path.addr.source() == Source::MAIN));
}

#[test]
fn what_a_meeting_names_is_probed_first_and_three_times() {
    let (mut paths, mut dice, mut now) = (Paths::default(), Dice::new(), Instant::ZERO);
    paths.set_relay(Channel(7));
    paths.select_working(PathAddr::Relay(Channel(7)), false);
    paths.add(direct(1));
    let named = [9, 8, 7].map(|port| side(port, 3));
    paths.meet(now, named.into_iter());
    paths.handle_timeout(now, true, false, &mut dice.prober());
    let first: Vec<_> = core::iter::from_fn(|| paths.poll_probe()).map(|probe| probe.to).collect();
    let relay = PathAddr::Relay(Channel(7));
    assert_eq!(first, [named[0], named[1], named[2], direct(1), relay], "ports of some NATs count flows");
    let mut probes = 3;
    while let Some(at) = soonest(&paths, true).filter(|at| at.as_micros() < 900_000_000) {
        now = at.max(now);
        paths.handle_timeout(now, true, false, &mut dice.prober());
        probes += core::iter::from_fn(|| paths.poll_probe()).filter(|probe| probe.to.source() == Source(3)).count();
    }
    assert!(probes <= 3 * named.len() * (1 + 900 / TRIES_AGAIN.as_secs() as usize), "{probes}");
}

#[test]
fn of_two_direct_paths_the_faster_one_is_used_after_three_answers() {
    let ms = |ms| Instant::ZERO + Duration::from_millis(ms);
    let (mut paths, mut dice) = (Paths::default(), Dice::new());
    (1..3).for_each(|port| paths.add_known(SocketAddr::from(([192, 0, 2, 1], port))));
    paths.set_relay(Channel(7));
    paths.select_working(PathAddr::Relay(Channel(7)), false);
    paths.begin_rounds(ms(0));
    // One path answers after 60 ms, the other after 20, but at first it keeps its answers back until 70 ms have passed.
    let late = |to, at: u64| if to == direct(1) { at + 60 } else { (at + 20).max(70) };
    let (mut wire, mut switched, mut faster) = (Vec::new(), None, 0);
    for at in 0..1500 {
        paths.handle_timeout(ms(at), true, false, &mut dice.prober());
        wire.extend(core::iter::from_fn(|| paths.poll_probe()).map(|probe| (late(probe.to, at), at, probe)));
        let due: Vec<_> = wire.extract_if(.., |(due, ..)| *due == at).collect();
        for (_, asked, probe) in due {
            paths.on_probe_ok(ms(at), probe.id, PathAddr::Relay(Channel(7)));
            faster += usize::from(probe.to == direct(2) && at - asked < 60);
            if paths.selected() == Some(direct(2)) {
                switched.get_or_insert(faster);
            }
        }
    }
    assert_eq!(switched, Some(usize::from(FASTER_TIMES)));
    assert_eq!(soonest(&paths, false), None, "the comparison has ended");
}

#[test]
fn two_sides_on_different_paths_do_not_change_places_for_ever() {
    let ms = |ms| Instant::ZERO + Duration::from_millis(ms);
    let (mut paths, mut dice) = (Paths::default(), Dice::new());
    (1..3).for_each(|port| paths.select_working(direct(port), false));
    let mut changes = 0;
    for at in (0..1000).step_by(20) {
        // The peer always speaks on the other path.
        let other = if paths.selected() == Some(direct(1)) { direct(2) } else { direct(1) };
        paths.on_authentic(ms(at), (other, 100), true, &mut dice.prober());
        while let Some(probe) = paths.poll_probe() {
            let before = paths.selected();
            paths.on_probe_ok(ms(at + 10), probe.id, other);
            changes += usize::from(paths.selected() != before);
        }
    }
    assert_eq!(changes, 1);
}

/// The peer's NAT loses probes that come before the peer has sent its own; the address has had its tries.
#[test]
fn an_address_from_which_the_peer_speaks_is_probed_again_soon_after_a_probe_that_may_be_lost() {
    let (mut paths, mut dice, now) = (Paths::default(), Dice::new(), Instant::ZERO);
    paths.set_relay(Channel(7));
    paths.select_working(PathAddr::Relay(Channel(7)), false);
    paths.add(direct(1));
    paths.begin_rounds(now);
    let mut at = now;
    while let Some(next) = soonest(&paths, false).filter(|next| *next < now + Duration::from_millis(310)) {
        at = at.max(next);
        paths.handle_timeout(at, true, false, &mut dice.prober());
    }
    while paths.poll_probe().is_some() {}
    for (after_ms, is_probed) in [(100, false), (200, true), (300, false), (400, true)] {
        let at = now + Duration::from_millis(300 + after_ms);
        paths.on_authentic(at, (direct(1), 100), true, &mut dice.prober());
        let probes: Vec<_> = core::iter::from_fn(|| paths.poll_probe()).map(|probe| probe.to).collect();
        assert_eq!(probes.contains(&direct(1)), is_probed, "{after_ms} ms after the last one");
    }
}
