//! The machine alone.

use super::*;
use crate::limits::Limits;
use crate::state::NoJournal;
use pilot_core::Identity;
use pilot_core::control::{Grant, LetterId, Query};
use pilot_core::endpoint::DirectoryState;
use pilot_core::trust::Terms;

/// More than the time that an unused channel lasts.
const IDLE_OF_CHANNELS: Duration = Duration::from_secs(1200);

/// A client of a machine, in memory.
struct Node {
    endpoint: Endpoint,
    addr: SocketAddr,
}

struct Lab {
    rendezvous: Rendezvous,
    nodes: Vec<Node>,
    now: Instant,
}

const RENDEZVOUS: ([u8; 4], u16) = ([198, 51, 100, 1], 9000);

impl Lab {
    fn new(nodes: u16, limits: Limits) -> Self {
        let identity = Identity::from_seed([200; 32]);
        let key = identity.static_key();
        let config = Config::new(identity, Rng::entropy([2; 32]));
        let rendezvous = Rendezvous::new(config, State::default().with_limits(limits), Box::new(NoJournal));
        let node = |n: u16| {
            let mut seed = [n as u8; 32];
            seed[0] = (n >> 8) as u8;
            let mut config = Config::new(Identity::from_seed(seed), Rng::entropy(seed));
            config.rendezvous = Some((key, SocketAddr::from(RENDEZVOUS)));
            Node { endpoint: Endpoint::new(config), addr: SocketAddr::from(([192, 0, 2, n as u8], 4000 + n)) }
        };
        Self { rendezvous, nodes: (1..=nodes).map(node).collect(), now: Instant::ZERO }
    }

    /// Lets time pass in small steps, with the nodes connected or not.
    fn run(&mut self, span: Duration, is_connected: bool) {
        let (end, mut batch) = (self.now + span, Vec::new());
        let step = if is_connected { Duration::from_millis(10) } else { Duration::from_secs(1) };
        while self.now < end {
            let now = self.now;
            self.rendezvous.handle_timeout(now);
            for node in &mut self.nodes {
                node.endpoint.handle_timeout(now);
                while let Some(transmit) = node.endpoint.poll_transmit(now, &mut batch) {
                    if is_connected && transmit.to == SocketAddr::from(RENDEZVOUS) {
                        let datagrams = batch.chunks_mut(transmit.segment_len);
                        datagrams.for_each(|datagram| self.rendezvous.handle_datagram(now, node.addr, datagram));
                    }
                }
                while let Some(event) = node.endpoint.poll_event() {
                    if let Event::SaveTrust(version) = event {
                        node.endpoint.trust_saved(now, version);
                    }
                }
            }
            while let Some(transmit) = self.rendezvous.poll_transmit(now, &mut batch) {
                let to = self.nodes.iter_mut().find(|node| is_connected && node.addr == transmit.to);
                let Some(node) = to else { continue };
                for datagram in batch.chunks_mut(transmit.segment_len) {
                    let _ = node.endpoint.handle_datagram(now, SocketAddr::from(RENDEZVOUS), datagram, &mut NoSink);
                }
            }
            self.now = now + step;
        }
    }

    fn registered(&self) -> usize {
        let is_ready = |node: &&Node| matches!(node.endpoint.directory_state(), DirectoryState::Ready(_));
        self.nodes.iter().filter(is_ready).count()
    }
}

/// Every table of the machine is filled to its maximum, and is empty once its clients have been gone for long.
#[test]
fn every_table_has_a_maximum_and_comes_back_to_zero() {
    let limits = Limits { clients: 12, registrations_per_source: 8, channels: 6, ..Limits::default() };
    let mut lab = Lab::new(20, limits);
    lab.run(Duration::from_secs(2), true);
    let machine = &mut lab.rendezvous;
    assert_eq!(machine.identities.len(), 12, "connected clients");
    assert!(machine.clients.len() >= 8 && machine.clients.len() <= 12, "first registrations of one network");
    assert_eq!(machine.sources.len(), 1);
    let keys: Vec<IdentityKey> = machine.clients.keys().copied().collect();
    let granted = keys[1..].iter().filter(|key| {
        let grant = Grant { is_whole: true, add: vec![keys[0]], remove: Vec::new() };
        machine.state.grant(key, grant, &mut NoJournal).is_ok()
    });
    assert_eq!(granted.count(), keys.len() - 1);
    let answers: Vec<Answer> = keys[1..].iter().map(|to| machine.open_relay(lab.now, keys[0], *to)).collect();
    let open = answers.iter().filter(|answer| matches!(answer, Answer::Relay { .. })).count();
    assert_eq!((open, machine.channels.len()), (3, 6), "{answers:?}");
    lab.run(FORGET_AFTER * 2 + IDLE_OF_CHANNELS, false);
    let machine = &lab.rendezvous;
    let rows = [
        machine.identities.len(),
        machine.clients.len(),
        machine.calls.len(),
        machine.channels.len(),
        machine.sources.len(),
        machine.forward.len(),
        machine.endpoint.peers().count(),
    ];
    assert_eq!(rows, [0; 7]);
    assert_eq!(lab.registered(), 0);
    // There is room for others, and for those that were here before.
    lab.run(Duration::from_secs(130), true);
    assert!(lab.registered() >= 8, "{}", lab.registered());
}

/// Requests of made-up keys from one network crowd out each other only; a stranger from elsewhere and a peer are not touched.
#[test]
fn a_network_with_many_keys_takes_sixteen_places_of_an_owner() {
    const KEYS: u16 = 256;
    let mut lab = Lab::new(KEYS + 3, Limits { registrations_per_source: 1000, ..Limits::default() });
    let (target, stranger, peer) = (0, 1, 2);
    for (node, network) in [(target, 1), (stranger, 2)] {
        lab.nodes[node].addr = SocketAddr::from(([203, 0, network, 1], 4000));
    }
    lab.run(Duration::from_secs(4), true);
    assert_eq!(lab.registered(), lab.nodes.len());
    let key = |lab: &Lab, node: usize| lab.nodes[node].endpoint.identity().public();
    let ask = |lab: &mut Lab, from: usize| {
        let (of_target, now, terms) = (key(lab, target), lab.now, Terms::default());
        let record = lab.rendezvous.state.lookup(&of_target, &Query::Key(of_target)).expect("registered");
        let record = NodeRecord::parse(&record).expect("signed");
        lab.nodes[from].endpoint.request_trust(now, &record, &terms).expect("allowed");
    };
    let pending = |lab: &Lab| lab.nodes[target].endpoint.trust().pending().count();
    ask(&mut lab, peer);
    lab.run(Duration::from_secs(1), true);
    let (now, of_peer, of_stranger) = (lab.now, key(&lab, peer), key(&lab, stranger));
    lab.nodes[target].endpoint.approve(now, &of_peer, &Terms::default()).expect("it waits");
    ask(&mut lab, stranger);
    (3..lab.nodes.len()).for_each(|sybil| ask(&mut lab, sybil));
    lab.run(Duration::from_secs(20), true);
    assert_eq!(lab.rendezvous.state.letters(), 0, "every letter was taken");
    let trust = lab.nodes[target].endpoint.trust();
    assert!(trust.pin(&of_peer).is_some(), "a peer from the same network");
    assert!(trust.pending().any(|request| request.record.identity == of_stranger));
    assert_eq!(pending(&lab), 16 + 1);
}

/// Strangers that no RESP reaches, as those with forged addresses: nothing of them stays.
#[test]
fn key_handshakes_that_are_never_finished_are_forgotten() {
    let mut lab = Lab::new(20, Limits::default());
    let mut batch = Vec::new();
    for node in &mut lab.nodes {
        node.endpoint.handle_timeout(lab.now);
        while let Some(transmit) = node.endpoint.poll_transmit(lab.now, &mut batch) {
            let datagrams = batch.chunks_mut(transmit.segment_len);
            datagrams.for_each(|datagram| lab.rendezvous.handle_datagram(lab.now, node.addr, datagram));
        }
    }
    assert_eq!(lab.rendezvous.endpoint.peers().count(), 20);
    lab.run(FORGET_AFTER * 2, false);
    assert_eq!((lab.rendezvous.endpoint.peers().count(), lab.rendezvous.calls.len()), (0, 0));
}

/// More than the channels pass is told to the sender, and not for each datagram.
#[test]
fn a_sender_of_dropped_datagrams_is_told_ten_times_a_second_at_most() {
    let mut lab = Lab::new(2, Limits { forward_len: 100, ..Limits::default() });
    lab.run(Duration::from_secs(2), true);
    let keys: Vec<IdentityKey> = lab.rendezvous.clients.keys().copied().collect();
    let grant = Grant { is_whole: true, add: vec![keys[0]], remove: Vec::new() };
    lab.rendezvous.state.grant(&keys[1], grant, &mut NoJournal).expect("registered");
    let Answer::Relay { channel, .. } = lab.rendezvous.open_relay(lab.now, keys[0], keys[1]) else {
        panic!("no channel")
    };
    let relay_key = lab.rendezvous.clients[&keys[0]].relay_key;
    let payload = [7; 64];
    let tag = relay_tag(&relay_key, wire::Channel(channel), &payload);
    let mut told = 0;
    for ms in 0..1000 {
        let now = lab.now + Duration::from_millis(ms);
        let before = lab.rendezvous.clients[&keys[0]].congested_at;
        (0..10).for_each(|_| lab.rendezvous.relay(now, channel, tag, &payload));
        told += usize::from(lab.rendezvous.clients[&keys[0]].congested_at != before);
    }
    assert_eq!((told, lab.rendezvous.forward.len()), (10, payload.len() + RELAY_HEADER_LEN));
}

/// What is forged for a channel, or cut off, goes to nobody; all behind the first 32 bytes is sealed end to end.
#[test]
fn a_datagram_without_the_tag_of_its_channels_owner_is_not_relayed() {
    let mut lab = Lab::new(2, Limits::default());
    lab.run(Duration::from_secs(2), true);
    let keys: Vec<IdentityKey> = lab.rendezvous.clients.keys().copied().collect();
    let grant = Grant { is_whole: true, add: vec![keys[0]], remove: Vec::new() };
    lab.rendezvous.state.grant(&keys[1], grant, &mut NoJournal).expect("registered");
    let Answer::Relay { channel, .. } = lab.rendezvous.open_relay(lab.now, keys[0], keys[1]) else {
        panic!("no channel")
    };
    let [owner, other] = [0, 1].map(|n| lab.rendezvous.clients[&keys[n]].relay_key);
    let payload = [7; 64];
    let mut relayed = |key: &[u8; 32], tagged: u32, given: u32, sent: &[u8]| {
        let tag = relay_tag(key, wire::Channel(tagged), &payload);
        lab.rendezvous.relay(lab.now, given, tag, sent);
        let mut batch = Vec::new();
        let mut relayed = 0;
        while let Some(transmit) = lab.rendezvous.poll_transmit(lab.now, &mut batch) {
            relayed += batch.chunks(transmit.segment_len).filter(|datagram| datagram[0] == 5).count();
        }
        relayed
    };
    assert_eq!(relayed(&owner, channel, channel, &payload), 1);
    assert_eq!(relayed(&other, channel, channel, &payload), 0, "the key of the other side");
    assert_eq!(relayed(&owner, channel ^ 1, channel, &payload), 0, "the tag of another channel");
    assert_eq!(relayed(&owner, channel, channel ^ 1, &payload), 0, "a channel of nobody");
    assert_eq!(relayed(&owner, channel, channel, &[&[6], &payload[1..]].concat()), 0, "another first byte");
    assert_eq!(relayed(&owner, channel, channel, &payload[1..]), 0, "another length");
}

/// A relay channel ends with trust on either side, with either client's leave, and with a long absence; all of them are freed.
#[test]
fn channels_end_with_trust_and_with_clients() {
    let mut lab = Lab::new(4, Limits::default());
    lab.run(Duration::from_secs(2), true);
    let keys: Vec<IdentityKey> = lab.nodes.iter().map(|node| node.endpoint.identity().public()).collect();
    let grant = |lab: &mut Lab, of: usize, is_whole, add: &[usize], remove: &[usize]| {
        let keys_of = |list: &[usize]| list.iter().map(|n| keys[*n]).collect();
        let grant = Grant { is_whole, add: keys_of(add), remove: keys_of(remove) };
        let peer = lab.rendezvous.clients[&keys[of]].peer;
        assert_eq!(lab.rendezvous.answer(lab.now, peer, Call::Grant(grant)), Answer::Ok);
    };
    let open = |lab: &mut Lab, pairs: &[(usize, usize)]| {
        for (from, to) in pairs {
            let answer = lab.rendezvous.open_relay(lab.now, keys[*from], keys[*to]);
            assert!(matches!(answer, Answer::Relay { .. }), "{from} to {to}: {answer:?}");
        }
        assert_eq!(lab.rendezvous.channels.len(), 2 * pairs.len());
    };
    let all = [(0, 1), (2, 0), (3, 1)];
    let everyone = |lab: &mut Lab| (0..4).for_each(|of| grant(lab, of, true, &[0, 1, 2, 3], &[]));
    everyone(&mut lab);
    open(&mut lab, &all);
    // Either side withdraws one grant, or tells all that there are.
    for (of, is_whole, add, remove, left) in
        [(0, false, &[][..], &[1][..], 4), (1, false, &[], &[0], 4), (0, true, &[2, 3], &[], 4), (1, true, &[], &[], 2)]
    {
        grant(&mut lab, of, is_whole, add, remove);
        assert_eq!(lab.rendezvous.channels.len(), left, "{of} {is_whole}");
        everyone(&mut lab);
        open(&mut lab, &all);
    }
    // One leaves in order; the others stay.
    let now = lab.now;
    lab.nodes[1].endpoint.close_all();
    lab.run(Duration::from_millis(20), true);
    assert_eq!(lab.rendezvous.channels.len(), 2, "those of the node that left");
    // A pair with a node that is not there lasts for a while.
    lab.rendezvous.open_relay(now, keys[3], keys[1]);
    assert_eq!(lab.rendezvous.channels.len(), 4);
    lab.run(Duration::from_secs(60), false);
    assert_eq!(lab.rendezvous.channels.len(), 2);
    lab.run(FORGET_AFTER * 2, false);
    assert_eq!((lab.rendezvous.channels.len(), lab.rendezvous.clients.len()), (0, 0));
}

/// A rendezvous that is sent elsewhere takes its clients along, one after the other.
#[test]
fn clients_are_sent_elsewhere_spread_over_the_time_that_is_given() {
    let mut lab = Lab::new(20, Limits::default());
    lab.run(Duration::from_secs(2), true);
    assert_eq!(lab.registered(), 20);
    let to = SocketAddr::from(([198, 51, 100, 2], 9000));
    lab.rendezvous.send_away(lab.now, to, Duration::from_secs(4));
    let gone = |lab: &Lab| {
        let is_there = |node: &&Node| node.endpoint.rendezvous_address().is_some_and(|(_, addr)| addr == to);
        lab.nodes.iter().filter(is_there).count()
    };
    let mut counts = Vec::new();
    for _ in 0..5 {
        lab.run(Duration::from_secs(1), true);
        counts.push(gone(&lab));
    }
    assert!((1..20).contains(&counts[1]) && counts[4] == 20, "{counts:?}");
}

/// A clock that is wrong for one start of the rendezvous, or is set while it runs, costs no node its name and no letter.
#[test]
fn a_wrong_clock_of_one_start_ages_nothing_by_more_than_a_day() {
    const RIGHT_S: u64 = 1_700_000_000;
    const YEARS_S: u64 = 3000 * 86_400;
    for wrong_s in [RIGHT_S + YEARS_S, RIGHT_S - 40 * 86_400, 0] {
        for is_wrong_first in [false, true] {
            let mut lab = Lab::new(2, Limits::default());
            let walls = if is_wrong_first { [wrong_s, RIGHT_S] } else { [RIGHT_S, wrong_s] };
            lab.rendezvous.set_wall(lab.now, walls[0] * 1_000_000);
            lab.run(Duration::from_secs(2), true);
            let keys: Vec<IdentityKey> = lab.rendezvous.clients.keys().copied().collect();
            let peer = lab.rendezvous.clients[&keys[0]].peer;
            let letter = Call::Post(keys[1], LetterId([1; 16]), vec![7; 9]);
            let posted = lab.rendezvous.answer(lab.now, peer, letter);
            assert_eq!((lab.registered(), posted), (2, Answer::Ok));
            let told = lab.nodes[0].endpoint.clock_behind_s(lab.now).unwrap_or_default();
            assert!(told.abs_diff(walls[0] as i64) <= 1, "clients are told the clock as it is: {told} s");
            // Another process has the books and the other clock, which is set right after a while; no client is connected.
            let books = std::mem::take(&mut lab.rendezvous.state);
            let config = Config::new(Identity::from_seed([200; 32]), Rng::entropy([3; 32]));
            lab.rendezvous = Rendezvous::new(config, books, Box::new(NoJournal));
            for wall_s in [walls[1], RIGHT_S] {
                lab.rendezvous.set_wall(lab.now, wall_s * 1_000_000);
                lab.run(Duration::from_secs(1200), false);
                let state = &lab.rendezvous.state;
                assert_eq!((state.len(), state.letters()), (2, 1), "{walls:?}");
            }
        }
    }
}

/// The INIT that comes with the question for a relay goes on where the destination has granted that, and only as long as one.
#[test]
fn an_init_is_passed_on_with_the_question_for_a_relay_and_nothing_else_is() {
    let mut lab = Lab::new(3, Limits::default());
    lab.run(Duration::from_secs(2), true);
    let key = |lab: &Lab, node: usize| lab.nodes[node].endpoint.identity().public();
    let (from, friend, other) = (key(&lab, 0), key(&lab, 1), key(&lab, 2));
    let grant = Grant { is_whole: true, add: vec![from], remove: Vec::new() };
    lab.rendezvous.state.grant(&friend, grant, &mut NoJournal).expect("room");
    let mut ask = |to: IdentityKey, len: usize| {
        let (now, init) = (lab.now, Extensions::NONE.with(ExtensionType::INIT, &vec![7; len]).expect("room"));
        let machine = &mut lab.rendezvous;
        let Answer::Relay { channel, .. } = machine.open_relay(now, from, to) else { return None };
        let is_passed_on = machine.pass_init(now, channel, &init);
        let said = machine.whereabouts(&to, is_passed_on);
        let mut batch = Vec::new();
        let mut relayed = 0;
        while let Some(transmit) = machine.poll_transmit(now, &mut batch) {
            relayed += batch.chunks(transmit.segment_len).filter(|datagram| datagram[0] == 5).count();
        }
        Some((said.get(ExtensionType::INIT).is_some(), said.get(ExtensionType::SEEN).is_some(), relayed))
    };
    assert_eq!(ask(friend, INIT_LEN), Some((true, true, 1)));
    assert_eq!(ask(friend, INIT_LEN - 1), Some((false, true, 0)));
    assert_eq!(ask(friend, INIT_LEN + 1), Some((false, true, 0)));
    assert_eq!(ask(other, INIT_LEN), None, "it has granted nothing");
}

#[test]
fn a_node_that_leaves_gives_everything_back_and_its_end_is_in_order() {
    let mut lab = Lab::new(3, Limits::default());
    lab.run(Duration::from_secs(2), true);
    assert_eq!((lab.registered(), lab.rendezvous.state.len()), (3, 3));
    let (now, node) = (lab.now, &mut lab.nodes[0].endpoint);
    node.leave(now);
    assert!(node.is_leaving());
    lab.run(Duration::from_millis(100), true);
    let node = &mut lab.nodes[0].endpoint;
    assert_eq!((node.is_leaving(), node.is_forgotten()), (false, true));
    assert_eq!((lab.rendezvous.state.len(), lab.rendezvous.clients.len()), (2, 2));
    // It does not come back by itself, and the tunnel ends when it is closed.
    lab.run(Duration::from_secs(90), true);
    assert_eq!(lab.rendezvous.state.len(), 2);
    lab.nodes[0].endpoint.close_all();
    lab.run(Duration::from_secs(1), true);
    assert_eq!(lab.rendezvous.identities.len(), 2);
}
