//! What peers and a rendezvous can make a node do in meetings.

use super::super::meetings::PROBES_MAX;
use super::*;
use crate::endpoint::tests::config;
use crate::identity::Identity;
use crate::seen;
use core::net::IpAddr;
use std::vec;

const BEACON: ([u8; 4], u16) = ([198, 51, 100, 1], 9000);

/// An endpoint with one peer and a rendezvous, and that peer.
fn node() -> (Endpoint, PeerId) {
    let mut endpoint = Endpoint::new(config(0, 10));
    let peer = endpoint.peers().next().expect("one pinned peer");
    endpoint.set_rendezvous(Instant::ZERO, Identity::from_seed([200; 32]).static_key(), BEACON.into());
    endpoint.directory.rendezvous_is_at(BEACON.into());
    (endpoint, peer)
}

fn meeting(number: u32, at: [u8; 4], ports: Ports) -> Meeting {
    let mapping = if ports == Ports::Unknown { Mapping::Independent } else { Mapping::PortDependent };
    let at = SocketAddr::from((at, 30_000));
    Meeting { number, is_answer: false, nat: Nat { mapping, ports }, at, span: (29_900, 30_099) }
}

/// Everything that leaves, by socket and address; `answers` says which questions the rendezvous answers.
fn leaving(node: &mut Endpoint, now: Instant, answers: impl Fn(SocketAddr) -> bool) -> Vec<(Source, SocketAddr)> {
    let (mut out, mut all) = (Vec::new(), Vec::new());
    while let Some(transmit) = node.poll_transmit(now, &mut out) {
        all.push((transmit.source, transmit.to));
        let public = SocketAddr::from(([203, 0, 113, 9], 1000 + transmit.source.0 as u16));
        if let Some(mut answer) = seen::answer(&out, &public).filter(|_| answers(transmit.to)) {
            let from = (transmit.to, transmit.source);
            node.handle_datagram_at(now, from, &mut answer, &mut crate::endpoint::NoSink).expect("an answer");
            assert!(node.handle_datagram_at(now, from, &mut answer, &mut crate::endpoint::NoSink).is_err(), "a copy");
        }
    }
    all
}

fn closed(node: &mut Endpoint) -> usize {
    core::iter::from_fn(|| node.poll_closed_source()).count()
}

#[test]
fn meetings_and_questions_have_maxima_and_walk_back_to_none() {
    let (mut node, _) = node();
    let mut now = Instant::ZERO;
    let probes: Vec<_> = (1..9).map(|port| SocketAddr::from(([0, 0, 0, 0], port))).collect();
    node.survey(now, &probes);
    assert_eq!(node.meetings.probes.len(), PROBES_MAX);
    (0..9).for_each(|_| node.begin_meeting(now, None, None));
    assert_eq!(node.meetings.list.len(), MEETINGS_MAX);
    let mut asked = leaving(&mut node, now, |_| false);
    asked.retain(|(source, _)| *source != Source::MAIN);
    assert_eq!(asked.len(), MEETINGS_MAX * (1 + PROBES_MAX + 1));
    while let Some(due) = node.meetings.poll_timeout() {
        now = now.max(due);
        node.handle_timeout(now);
        leaving(&mut node, now, |_| false);
    }
    assert!(node.meetings.list.is_empty() && now < Instant::ZERO + survey::WAIT * 3);
    assert_eq!(closed(&mut node), MEETINGS_MAX * 2);
}

#[test]
fn what_no_address_answers_is_not_asked_again_and_a_lie_is_no_answer() {
    let (mut node, _) = node();
    let now = Instant::ZERO;
    let other = SocketAddr::from(([192, 0, 2, 77], 9));
    node.survey(now, &[other]);
    leaving(&mut node, now, |to| to != other);
    let mut lie = seen::answer(&seen::question(&[7; 16]), &other).expect("a question");
    assert!(node.handle_datagram_at(now, (other, Source(1)), &mut lie, &mut crate::endpoint::NoSink).is_err());
    let later = now + survey::WAIT;
    node.handle_timeout(later);
    assert!(leaving(&mut node, later, |_| true).iter().all(|(_, to)| *to != other), "asked once");
    assert!(node.meetings.list.is_empty() && node.meetings.probes.is_empty());
}

#[test]
fn a_peer_that_names_a_victim_causes_no_probe() {
    for ports in [Ports::Unknown, Ports::Sequential(1), Ports::Block, Ports::Random] {
        let (mut node, peer) = node();
        let mut now = Instant::ZERO;
        for number in 0..50 {
            node.on_meeting(now, peer, meeting(number, [192, 0, 2, 77], ports));
            assert!(node.meetings.list.len() <= 1, "one a second");
            node.on_peer_seen(peer, SocketAddr::from(([192, 0, 2, 2], 4000)));
            for _ in 0..40 {
                let left = leaving(&mut node, now, |_| true);
                assert!(left.iter().all(|(_, to)| to.ip() != IpAddr::from([192, 0, 2, 77])), "{left:?}");
                now = now + Duration::from_millis(25);
                node.handle_timeout(now);
            }
        }
        assert!(
            !node
                .peers
                .get(&peer)
                .expect("pinned")
                .peer
                .paths
                .list()
                .iter()
                .any(|path| path.addr.source() != Source::MAIN)
        );
    }
}

#[test]
fn a_birthday_has_its_maximum_and_its_pause() {
    let (mut node, peer) = node();
    let mut now = Instant::ZERO;
    let mut birthdays = 0;
    for number in 0..700 {
        node.on_meeting(now, peer, meeting(number, [192, 0, 2, 2], Ports::Random));
        node.on_peer_seen(peer, SocketAddr::from(([192, 0, 2, 2], 4000)));
        leaving(&mut node, now, |_| true);
        now = now + Duration::from_millis(500);
        node.tend_meetings(now);
        let past = node.peers.get(&peer).expect("pinned").peer.paths.acquaintance();
        birthdays += usize::from(past.birthday_at == Some(now));
        now = now + FIRED_LASTS;
        node.tend_meetings(now);
    }
    let minutes = now.since(Instant::ZERO).as_secs() / BIRTHDAY_PAUSE.as_secs();
    assert_eq!(birthdays as u64, 1 + minutes);
}

#[test]
fn sockets_that_are_kept_have_a_maximum_and_are_closed_with_their_peer() {
    let (mut node, peer) = node();
    let kept: Vec<_> = (0..KEPT_MAX).map(|_| (peer, node.meetings.fresh())).collect();
    node.meetings.kept = kept;
    node.begin_meeting(Instant::ZERO, Some(peer), None);
    assert!(node.meetings.list.is_empty(), "there is no room");
    node.tidy_sources(peer);
    assert_eq!((node.meetings.kept.len(), closed(&mut node)), (0, KEPT_MAX), "none of them is used");
    node.meetings.kept = vec![(peer, Source(7_000))];
    node.remove_peer(peer);
    assert_eq!((node.meetings.kept.len(), closed(&mut node)), (0, 1));
}
