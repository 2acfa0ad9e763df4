//! Two endpoints that trust each other and a wire in memory, in virtual time.

use super::*;
use crate::addr::Addr;
use crate::aead::{self, AeadKey};
use crate::agreement::{self, KeyPair};
use crate::identity::{NodeRecord, Profile};
use crate::path::{Origin, Path, PathReason};
use crate::trust::{Me, Terms, TrustBook};
use crate::tunnel::handshake::{Age, Incarnation, Introduction};
use crate::tunnel::stance::Stance;
use crate::wire::{Channel, INIT_LEN, RELAY_HEADER_LEN, RESP_LEN};
use core::sync::atomic::{AtomicUsize, Ordering};
use std::boxed::Box;
use std::vec;

#[derive(Default)]
struct Inbox(Vec<Vec<u8>>);

impl Sink for Inbox {
    fn packet(&mut self, _: PeerId, segment: &[u8]) {
        self.0.push(segment.to_vec());
    }
    fn loose(&mut self, _: PeerId, datagram: &[u8]) {
        self.0.push(datagram.to_vec());
    }
}

const DELAY: Duration = Duration::from_millis(5);
const WALL_US: u64 = 1_700_000_000_000_000;

type Filter = Box<dyn FnMut(usize, &[u8]) -> bool>;

struct Pair {
    ends: [Endpoint; 2],
    inboxes: [Inbox; 2],
    now: Instant,
    wire: Vec<(Instant, usize, Vec<u8>)>,
    capture: Vec<(usize, Vec<u8>)>,
    /// Decides about every datagram: true lets it pass.
    filter: Filter,
    events: [Vec<Event>; 2],
}

fn addr_of(side: usize) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1 + side as u8], 4000))
}

pub(super) fn config(side: usize, incarnation: u8) -> Config {
    let mut config = Config::new(Identity::from_seed([1 + side as u8; 32]), Rng::entropy([incarnation; 32]));
    config.addr = Addr::new(0, 1 + side as u32);
    config.wall_at_zero_us = WALL_US;
    config.trust = books().into_iter().nth(side).expect("two books");
    config
}

/// What both owners' approval leaves behind, and one knows where the other is.
fn books() -> [TrustBook; 2] {
    let mut books = books_without_places();
    books[0].note_endpoint(&Identity::from_seed([2; 32]).public(), addr_of(1));
    books
}

/// What both owners' approval leaves behind.
fn books_without_places() -> [TrustBook; 2] {
    let identities = [0, 1].map(|side| Identity::from_seed([1 + side as u8; 32]));
    let records =
        [0, 1].map(|side| NodeRecord::sign(&identities[side], Addr::new(0, 1 + side as u32), &Profile::default(), 1));
    let bytes = [records[0].emit(), records[1].emit()];
    let mut books = [TrustBook::default(), TrustBook::default()];
    let mut rng = Rng::new([9; 32]);
    let me = |side: usize| Me {
        identity: &identities[side],
        record: &bytes[side],
        now_s: WALL_US / 1_000_000,
        common_s: WALL_US / 1_000_000,
    };
    let request = books[0].request(&me(0), &records[1], &Terms::default(), &mut rng).expect("allowed");
    books[1].receive(&me(1), &request, None);
    let accept = books[1].approve(&me(1), &identities[0].public(), &Terms::default(), &mut rng).expect("pending");
    books[0].receive(&me(0), &accept, None);
    books
}

impl Pair {
    fn new() -> Self {
        Self {
            ends: [Endpoint::new(config(0, 10)), Endpoint::new(config(1, 20))],
            inboxes: Default::default(),
            now: Instant::ZERO,
            wire: Vec::new(),
            capture: Vec::new(),
            filter: Box::new(|_, _| true),
            events: Default::default(),
        }
    }

    fn peer(&self, side: usize) -> PeerId {
        self.ends[side].peers().next().expect("one pinned peer")
    }

    fn send(&mut self, side: usize, bytes: &[u8]) {
        let peer = self.peer(side);
        self.ends[side].with_link(peer, |link| link.send_packet(bytes.to_vec().into()));
    }

    fn drain(&mut self) {
        let mut out = Vec::new();
        for side in 0..2 {
            let mut quiet = false;
            while !quiet {
                quiet = true;
                while let Some(transmit) = self.ends[side].poll_transmit(self.now, &mut out) {
                    for datagram in out.chunks(transmit.segment_len) {
                        self.capture.push((1 - side, datagram.to_vec()));
                        if transmit.to == addr_of(1 - side) && (self.filter)(side, datagram) {
                            self.wire.push((self.now + DELAY, 1 - side, datagram.to_vec()));
                        }
                    }
                }
                while let Some(event) = self.ends[side].poll_event() {
                    if let Event::SaveTrust(version) = event {
                        self.ends[side].trust_saved(self.now, version); // a disk that takes no time
                        quiet = false;
                    }
                    self.events[side].push(event);
                }
            }
        }
    }

    fn deliver(&mut self, side: usize, datagram: &mut [u8]) -> Result<(), Discard> {
        let from = addr_of(1 - side);
        self.ends[side].handle_datagram(self.now, from, datagram, &mut self.inboxes[side])
    }

    /// Goes to the next moment at which something happens, if that is not after `end`.
    fn step(&mut self, end: Instant) -> bool {
        self.drain();
        let timers = self.ends.iter().filter_map(|e| e.poll_timeout()).map(|(at, _)| at);
        let Some(next) = timers.chain(self.wire.iter().map(|w| w.0)).min().filter(|at| *at <= end) else {
            return false;
        };
        self.now = self.now.max(next);
        let due: Vec<_> = self.wire.extract_if(.., |w| w.0 <= self.now).collect();
        for (_, side, mut datagram) in due {
            let _ = self.deliver(side, &mut datagram);
        }
        self.ends.iter_mut().for_each(|e| e.handle_timeout(self.now));
        self.drain();
        true
    }

    fn run_for(&mut self, span: Duration) {
        let end = self.now + span;
        let mut steps = 0;
        while self.step(end) {
            steps += 1;
            let why = self.ends.iter().map(|e| e.poll_timeout()).collect::<Vec<_>>();
            assert!(steps < 100_000, "spins at {:?}: {why:?}", self.now);
        }
        self.now = self.now.max(end);
    }
}

#[test]
fn trusted_peers_agree_on_keys_and_packets() {
    let mut pair = Pair::new();
    pair.send(0, b"ping");
    pair.run_for(DELAY * 10);
    assert_eq!(pair.inboxes[1].0, [b"ping"]);
    pair.send(1, b"pong");
    pair.run_for(DELAY * 10);
    assert_eq!(pair.inboxes[0].0, [b"pong"]);
    assert!(pair.events.iter().all(|e| e.iter().any(|e| matches!(e, Event::Up(_)))));
    let first_data = pair.capture.iter().position(|(_, d)| d[0] == 4).expect("data");
    assert_eq!(first_data, 2, "INIT, RESP, then data at once");
    assert!(pair.capture.iter().all(|(_, d)| !d.windows(4).any(|w| w == b"ping" || w == b"pong")), "nothing in clear");
}

/// Found by `chaos`: a copy of the RESP came from a stranger's address and the RESP itself was lost. The path in use never
/// answered, nothing might leave on it, and so nothing went unanswered.
#[test]
fn a_resp_that_a_stranger_has_copied_delays_a_tunnel_by_seconds() {
    let (mut pair, mut out) = (Pair::new(), Vec::new());
    let stranger = SocketAddr::from(([100, 3, 15, 1], 4000));
    // Until then nothing else arrives, and so no probe of the true address.
    let came_back = pair.now + Duration::from_millis(4500);
    pair.send(0, b"hello");
    let mut is_copied = false;
    for _ in 0..1000 {
        for side in 0..2 {
            while let Some(transmit) = pair.ends[side].poll_transmit(pair.now, &mut out) {
                for datagram in out.chunks_mut(transmit.segment_len) {
                    if datagram.len() == RESP_LEN && !is_copied {
                        is_copied = true;
                        let (now, inbox) = (pair.now, &mut pair.inboxes[1 - side]);
                        pair.ends[1 - side].handle_datagram(now, stranger, datagram, inbox).expect("valid keys");
                    } else if transmit.to != stranger && (!is_copied || pair.now > came_back) {
                        let _ = pair.deliver(1 - side, datagram);
                    }
                }
            }
            while let Some(event) = pair.ends[side].poll_event() {
                if let Event::SaveTrust(version) = event {
                    let now = pair.now;
                    pair.ends[side].trust_saved(now, version);
                }
            }
        }
        pair.now = pair.now + Duration::from_millis(10);
        let now = pair.now;
        pair.ends.iter_mut().for_each(|end| end.handle_timeout(now));
    }
    assert!(is_copied && pair.inboxes[1].0 == [b"hello".to_vec()], "ten seconds have passed");
}

#[test]
fn a_stranger_is_met_with_silence() {
    let mut pair = Pair::new();
    let mut stranger = config(0, 10);
    stranger.identity = Identity::from_seed([77; 32]);
    pair.ends[0] = Endpoint::new(stranger);
    pair.send(0, b"let me in");
    pair.run_for(Duration::from_secs(20));
    assert!(pair.inboxes[1].0.is_empty());
    assert!(pair.ends[1].discards().of(Discard::Stranger) >= 3);
    assert!(pair.capture.iter().all(|(to, _)| *to == 1), "no reply of any kind");
}

/// An answer could not be authenticated: it would let others talk two nodes down to a version, and would go to forged
/// addresses.
#[test]
fn an_init_of_another_version_is_met_with_silence() {
    let mut pair = Pair::new();
    pair.send(0, b"first");
    pair.drain();
    let init = pair.capture.first().expect("an INIT").1.clone();
    assert_eq!((init[0], init[1]), (1, crate::wire::VERSION));
    for version in [0, 1, 3, 255] {
        let mut other = init.clone();
        other[1] = version;
        assert_eq!(pair.deliver(1, &mut other), Err(Discard::Version), "version {version}");
        assert!(pair.ends[1].poll_transmit(pair.now, &mut Vec::new()).is_none(), "version {version}");
    }
    pair.run_for(DELAY * 10);
    assert_eq!(pair.inboxes[1].0, [b"first".to_vec()], "nothing has changed");
}

/// Gives side 1 an INIT of side 0 with this stance, and gives what side 1 thinks of it and answers.
fn answer_to(pair: &mut Pair, stance: u8) -> (Result<(), Discard>, Option<Vec<u8>>) {
    let (own, peer) = (Identity::from_seed([1; 32]), Identity::from_seed([2; 32]).static_key());
    let opening = Opening {
        responder: &peer,
        shared: &StaticShared::new(own.static_pair(), &peer.0).expect("an honest key"),
        local_index: LocalIndex(7),
        stamp: &tai64n(WALL_US + u64::from(stance)),
        own: Introduction { incarnation: Incarnation([1; 6]), age: Age(0), stance: Stance(stance) },
        cookie: None,
    };
    let pending = Pending::start(&own, &opening, KeyPair::new(&agreement::PORTABLE, [stance; 32]));
    let mut init = pending.expect("an honest key").datagram;
    let result = pair.deliver(1, &mut init);
    let mut out = Vec::new();
    let answered = pair.ends[1].poll_transmit(pair.now, &mut out).is_some();
    (result, answered.then_some(out))
}

#[test]
fn an_init_that_offers_no_known_suite_is_met_with_silence() {
    let mut pair = Pair::new();
    for stance in [0, 0b0000_0010, 0b1100_0010, 0b0011_1100] {
        assert_eq!(answer_to(&mut pair, stance), (Err(Discard::Suite), None), "{stance:08b}");
    }
    let (result, answer) = answer_to(&mut pair, 0b0011_1111);
    assert_eq!((result, answer.map(|resp| resp.len())), (Ok(()), Some(RESP_LEN)), "reserved bits are ignored");
}

#[test]
fn no_bit_of_a_handshake_can_be_changed_on_the_way() {
    for kind in [1, 2] {
        let mut pair = Pair::new();
        pair.send(0, b"packet");
        pair.filter = Box::new(move |_, datagram| datagram[0] != kind);
        pair.run_for(DELAY * 4);
        let (to, intact) = pair.capture.iter().find(|(_, d)| d[0] == kind).cloned().expect("sent");
        for bit in 0..8 * (intact.len() - 16) {
            let mut bad = intact.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(pair.deliver(to, &mut bad).is_err(), "type {kind}, bit {bit}");
        }
        assert_eq!(pair.deliver(to, &mut intact.clone()), Ok(()));
    }
}

/// Pins that come and go leave the newest identities behind, so that what ends with them can be told.
#[test]
fn identities_of_former_peers_have_a_maximum() {
    let (mut end, mut rng, now) = (Endpoint::new(config(0, 0)), Rng::new([9; 32]), Instant::ZERO);
    let former = end.peers().next().expect("a peer");
    let (mut ids, own) = (vec![former], NodeRecord::parse(&end.directory.record()).expect("signed"));
    let former = end.identity_of(former).expect("known");
    end.revoke(now, &former).expect("pinned");
    for round in 1..relations::GONE_MAX as u8 + 9 {
        let identity = Identity::from_seed([100 + round; 32]);
        let record = NodeRecord::sign(&identity, Addr::new(2, round.into()), &Profile::default(), 1).emit();
        let me = Me { identity: &identity, record: &record, now_s: WALL_US / 1_000_000, common_s: WALL_US / 1_000_000 };
        let request = TrustBook::default().request(&me, &own, &Terms::default(), &mut rng).expect("allowed");
        end.with_directory(now, |directory, cx| directory.handle_trust(cx, &request));
        end.approve(now, &identity.public(), &Terms::default()).expect("it waits");
        ids.extend(end.peers());
        end.revoke(now, &identity.public()).expect("pinned");
        end.trust_saved(now, end.trust().version());
        while end.poll_event().is_some() {}
        assert_eq!((end.peers().count(), end.gone.len()), (0, usize::from(round + 1).min(relations::GONE_MAX)));
    }
    assert!(end.former_identity(ids[0]).is_none() && ids.last().is_some_and(|id| end.former_identity(*id).is_some()));
}

#[test]
fn the_wrong_pair_secret_makes_no_session() {
    let mut pair = Pair::new();
    let mut other = config(0, 10);
    other.trust = TrustBook::default();
    // The same two keys, approved another time: another secret.
    let (identity, mut rng) = (Identity::from_seed([2; 32]), Rng::new([55; 32]));
    let record = NodeRecord::sign(&identity, Addr::new(0, 2), &Profile::default(), 1).emit();
    let own = NodeRecord::sign(&other.identity, Addr::new(0, 1), &Profile::default(), 1);
    let me = Me { identity: &identity, record: &record, now_s: WALL_US / 1_000_000, common_s: WALL_US / 1_000_000 };
    let mut book = TrustBook::default();
    let request = book.request(&me, &own, &Terms::default(), &mut rng).expect("allowed");
    let me = Me {
        identity: &other.identity,
        record: &own.emit(),
        now_s: WALL_US / 1_000_000,
        common_s: WALL_US / 1_000_000,
    };
    other.trust.receive(&me, &request, None);
    other.trust.approve(&me, &identity.public(), &Terms::default(), &mut rng).expect("pending");
    other.trust.note_endpoint(&identity.public(), addr_of(1));
    pair.ends[0] = Endpoint::new(other);
    pair.send(0, b"hello");
    pair.run_for(Duration::from_secs(20));
    assert!(pair.inboxes[1].0.is_empty());
    assert!(pair.ends[0].discards().of(Discard::Tag) > 0);
}

#[test]
fn a_hello_that_names_somebody_else_introduces_nobody() {
    let mut pair = Pair::new();
    let somebody = NodeRecord::sign(&Identity::from_seed([9; 32]), Addr::new(0, 1), &Profile::default(), 1);
    let peers = pair.ends[0].peers.values_mut();
    peers.for_each(|entry| entry.peer.set_record(somebody.emit().into()));
    pair.send(0, b"packet");
    pair.run_for(Duration::from_secs(3));
    assert!(pair.ends[1].discards().of(Discard::WrongIdentity) > 0);
    assert!(pair.inboxes[1].0.is_empty());
}

#[test]
fn the_relay_is_asked_for_after_a_moment_when_the_address_is_known() {
    let mut pair = Pair::new();
    let ids = [pair.peer(0), pair.peer(1)];
    for side in 0..2 {
        pair.send(side, b"packet"); // only side 0 knows where the other is
        assert!(pair.ends[side].poll_transmit(Instant::ZERO, &mut Vec::new()).is_some() == (side == 0));
    }
    let mut wishes = |side: usize, ms| {
        let peer = &mut pair.ends[side].peers.get_mut(&ids[side]).expect("pinned").peer;
        peer.take_relay_wish(Instant::ZERO + Duration::from_millis(ms))
    };
    assert!(!wishes(1, 1000), "it was asked for at once");
    assert!(!wishes(0, 4) && wishes(0, 5) && !wishes(0, 1000), "once");
}

/// Found where a peer was asked over the relay 5 ms after its old address: the answer passed for one that took that
/// much longer, and streams got rings for such a path.
#[test]
fn a_relayed_handshake_waits_for_the_direct_one_and_does_not_count_that_as_delay() {
    let mut pair = Pair::new();
    let beacon: SocketAddr = SocketAddr::from(([192, 0, 2, 99], 4000));
    let key = Identity::from_seed([9; 32]).static_key();
    for end in &mut pair.ends {
        end.set_rendezvous(Instant::ZERO, key, beacon);
        end.directory.rendezvous_is_at(beacon);
    }
    let ids = [pair.peer(0), pair.peer(1)];
    let paths = &mut pair.ends[0].peers.get_mut(&ids[0]).expect("pinned").peer.paths;
    paths.set_relay(Channel(7));
    paths.note_resp(PathAddr::Direct(addr_of(1)));
    paths.on_resp_used(Instant::ZERO, PathAddr::Direct(addr_of(1)), false);
    let relayed = |end: &mut Endpoint, ms: u64, len| {
        let (mut out, mut found) = (Vec::new(), None);
        while let Some(transmit) = end.poll_transmit(Instant::from_micros(ms * 1000), &mut out) {
            if transmit.to == beacon && out.len() == RELAY_HEADER_LEN + len {
                found = Some(out[RELAY_HEADER_LEN..].to_vec());
            }
        }
        found
    };
    pair.send(0, b"packet");
    assert_eq!(relayed(&mut pair.ends[0], 0, INIT_LEN), None);
    pair.ends[0].handle_timeout(Instant::from_micros(5000));
    let init = relayed(&mut pair.ends[0], 5, INIT_LEN).expect("by now").try_into().expect("its length");
    pair.ends[1].handle_init(Instant::from_micros(6000), PathAddr::Relay(Channel(8)), &init).expect("valid");
    let resp = relayed(&mut pair.ends[1], 6, RESP_LEN).expect("an answer").try_into().expect("its length");
    pair.ends[0].handle_resp(Instant::from_micros(8000), PathAddr::Relay(Channel(7)), &resp).expect("valid");
    assert_eq!(pair.ends[0].srtt(ids[0]), Some(Duration::from_millis(3)));
    let peer = &pair.ends[0].peers.get(&ids[0]).expect("pinned").peer;
    assert_eq!(peer.paths.selected(), Some(PathAddr::Relay(Channel(7))), "the way that is known to work");
}

/// Found by `chaos`: one side had given its tunnel up and forgotten the link, the other had not, and held on to streams
/// that only it still knew.
#[test]
fn a_side_that_gave_up_is_another_incarnation_to_the_other() {
    for who_speaks_first in [0, 1] {
        let mut pair = Pair::new();
        pair.send(0, b"one");
        pair.run_for(DELAY * 10);
        let id = pair.peer(0);
        pair.ends[0].reset_peer(pair.now, id, ResetReason::Unreachable);
        pair.events[1].clear();
        pair.send(who_speaks_first, b"lost or not");
        pair.run_for(Duration::from_secs(5));
        let id = pair.peer(1);
        assert!(pair.events[1].contains(&Event::Reset(id, ResetReason::GivenUp)), "{:?}", pair.events[1]);
        [0, 1].into_iter().for_each(|side| pair.send(side, b"two"));
        pair.run_for(DELAY * 10);
        assert!([0, 1].iter().all(|side| pair.inboxes[*side].0.contains(&b"two".to_vec())));
    }
}

#[test]
fn a_forged_datagram_with_a_huge_counter_changes_nothing() {
    let mut pair = Pair::new();
    pair.send(0, b"one");
    pair.run_for(DELAY * 10);
    let (_, data) = pair.capture.iter().rev().find(|(to, d)| *to == 1 && d[0] == 4).cloned().expect("data");
    for counter in [u64::MAX, u64::MAX - 20_000, 1 << 40] {
        let mut forged = data.clone();
        forged[8..16].copy_from_slice(&counter.to_le_bytes());
        assert_eq!(pair.deliver(1, &mut forged), Err(Discard::Tag));
    }
    pair.send(0, b"two");
    pair.run_for(DELAY * 10);
    assert_eq!(pair.inboxes[1].0, [b"one", b"two"]);
}

#[test]
fn replaying_a_whole_capture_has_no_effect() {
    let mut pair = Pair::new();
    for i in 0..20u8 {
        pair.send(usize::from(i % 2), &[i; 100]);
        pair.run_for(DELAY * 5);
    }
    let before = [pair.inboxes[0].0.len(), pair.inboxes[1].0.len()];
    let sessions: Vec<_> =
        (0..2).map(|s| pair.ends[s].peer_info(pair.now, pair.peer(s)).and_then(|i| i.path)).collect();
    for _ in 0..3 {
        for (to, datagram) in pair.capture.clone() {
            let from = SocketAddr::from(([203, 0, 113, 9], 9));
            let result = pair.ends[to].handle_datagram(pair.now, from, &mut datagram.clone(), &mut pair.inboxes[to]);
            assert!(result.is_err(), "a replayed datagram of type {} was taken", datagram[0]);
        }
    }
    pair.run_for(DELAY * 20);
    assert_eq!([pair.inboxes[0].0.len(), pair.inboxes[1].0.len()], before);
    let after: Vec<_> = (0..2).map(|s| pair.ends[s].peer_info(pair.now, pair.peer(s)).and_then(|i| i.path)).collect();
    assert_eq!(sessions, after, "the path did not move");
}

#[test]
fn keys_are_replaced_after_two_minutes_without_loss() {
    let mut pair = Pair::new();
    for i in 0..400u32 {
        pair.send((i % 2) as usize, &i.to_le_bytes());
        pair.run_for(Duration::from_secs(1));
    }
    let handshakes = pair.capture.iter().filter(|(_, d)| d[0] == 2).count();
    assert!((3..=6).contains(&handshakes), "{handshakes} handshakes in 400 s");
    for side in 0..2 {
        assert_eq!(pair.inboxes[side].0.len(), 200);
        assert!(pair.events[side].iter().all(|e| !matches!(e, Event::Reset(..))));
    }
}

#[test]
fn a_restarted_peer_is_noticed_and_reached_again() {
    let mut pair = Pair::new();
    pair.send(0, b"before");
    pair.run_for(DELAY * 10);
    pair.ends[1] = Endpoint::new(config(1, 21));
    pair.send(0, b"lost");
    pair.run_for(Duration::from_secs(3));
    assert!(pair.events[0].iter().any(|e| matches!(e, Event::Reset(_, ResetReason::Restarted))));
    pair.send(0, b"after");
    pair.run_for(DELAY * 20);
    assert_eq!(pair.inboxes[1].0.last().map(Vec::as_slice), Some(&b"after"[..]));
}

#[test]
fn the_trace_tells_of_discards_silent_paths_and_restarts() {
    let mut pair = Pair::new();
    pair.ends[0].set_trace_level(Some(Level::Debug));
    pair.send(0, b"one");
    pair.run_for(DELAY * 10);
    let _ = pair.deliver(0, &mut [9; 40]);
    let (id, direct, relay) = (pair.peer(0), PathAddr::Direct(addr_of(1)), PathAddr::Relay(Channel(7)));
    pair.ends[0].peers.get_mut(&id).expect("pinned").peer.paths.set_relay(Channel(7));
    pair.filter = Box::new(|_, _| false);
    pair.send(0, b"lost");
    pair.run_for(Duration::from_secs(2));
    pair.filter = Box::new(|_, _| true);
    pair.ends[1] = Endpoint::new(config(1, 21));
    pair.run_for(Duration::from_secs(10));
    let traces: Vec<_> = core::iter::from_fn(|| pair.ends[0].poll_trace()).collect();
    let expected = [
        Trace::Handshake { peer: id, step: HandshakeStep::Started },
        Trace::Handshake { peer: id, step: HandshakeStep::Finished },
        Trace::PeerUp { peer: id, path: Some(direct) },
        Trace::PathChosen { peer: id, from: None, to: direct, why: PathReason::Handshake },
        Trace::Discarded { from: addr_of(1), reason: Discard::NotOurs },
        Trace::PathSilent { peer: id, path: direct },
        Trace::PathChosen { peer: id, from: Some(direct), to: relay, why: PathReason::Silence },
        Trace::PeerRestarted { peer: id },
    ];
    let mut rest = traces.iter();
    for trace in &expected {
        assert!(rest.any(|t| t == trace), "{trace} is missing or out of order in {traces:#?}");
    }
    pair.ends[0].set_trace_level(None);
    let _ = pair.deliver(0, &mut [9; 40]);
    assert_eq!((pair.ends[0].poll_trace(), pair.ends[0].traces_lost()), (None, 0));
}

/// The word comes from the rendezvous alone, and concerns the link that uses this channel.
#[test]
fn a_word_of_congestion_is_heard_by_the_relayed_link_alone() {
    let mut pair = Pair::new();
    pair.send(0, b"one");
    pair.run_for(DELAY * 10);
    let id = pair.peer(0);
    pair.ends[0].set_rendezvous(pair.now, Identity::from_seed([77; 32]).static_key(), addr_of(7));
    let rendezvous = pair.ends[0].rendezvous_peer().expect("just set");
    let tell = |pair: &mut Pair, from: PeerId, channel: u32| {
        pair.ends[0].handle_control(pair.now, from, Control::Push(Push::Congested(channel)));
        pair.ends[0].peer_info(pair.now, id).expect("pinned").window
    };
    let before = tell(&mut pair, rendezvous, 7);
    pair.ends[0].peers.get_mut(&id).expect("pinned").peer.paths.set_relay(Channel(7));
    assert_eq!(tell(&mut pair, rendezvous, 7), before, "the path in use is direct");
    pair.filter = Box::new(|_, _| false);
    pair.send(0, b"lost");
    pair.run_for(Duration::from_millis(600));
    assert_eq!(pair.ends[0].peer_info(pair.now, id).expect("pinned").path, Some(PathAddr::Relay(Channel(7))));
    let before = tell(&mut pair, id, 7);
    assert_eq!(tell(&mut pair, rendezvous, 8), before, "another channel");
    assert_eq!(tell(&mut pair, rendezvous, 7), before * 7 / 10);
    assert_eq!(tell(&mut pair, rendezvous, 7), before * 7 / 10, "once in a round trip");
}

#[test]
fn a_silent_peer_is_given_up_and_an_orderly_close_is_told_at_once() {
    let mut pair = Pair::new();
    pair.filter = Box::new(|_, _| false);
    pair.send(0, b"anybody?");
    pair.run_for(Duration::from_secs(89));
    assert!(!pair.events[0].iter().any(|e| matches!(e, Event::Reset(..))));
    pair.run_for(Duration::from_secs(2));
    assert!(pair.events[0].iter().any(|e| matches!(e, Event::Reset(_, ResetReason::Unreachable))));
    pair.filter = Box::new(|_, _| true);
    pair.send(0, b"hello");
    pair.run_for(Duration::from_secs(2));
    assert_eq!(pair.inboxes[1].0, [b"hello"]);
    pair.ends[0].close_all();
    pair.run_for(DELAY * 4);
    assert!(pair.events[1].iter().any(|e| matches!(e, Event::Reset(_, ResetReason::Closed))));
}

#[test]
fn handshakes_finish_at_thirty_percent_loss() {
    for seed in 0..20 {
        let mut pair = Pair::new();
        let mut rng = Rng::new([seed; 32]);
        pair.filter = Box::new(move |_, _| rng.below(100) >= 30);
        pair.send(0, b"x");
        while pair.inboxes[1].0.is_empty() {
            pair.run_for(Duration::from_millis(100));
            assert!(pair.now < Instant::from_micros(40_000_000), "seed {seed}");
        }
    }
}

#[test]
fn revoking_ends_the_session_at_once_on_both_sides() {
    let mut pair = Pair::new();
    pair.send(0, b"x");
    pair.run_for(DELAY * 10);
    let key = pair.ends[1].identity_of(pair.peer(1)).expect("known");
    pair.ends[1].revoke(pair.now, &key).expect("pinned");
    assert_eq!(pair.ends[1].peers().count(), 0);
    pair.run_for(Duration::from_millis(100));
    assert_eq!(pair.ends[0].peers().count(), 0, "told directly");
    assert!(pair.events[0].iter().any(|e| matches!(e, Event::Reset(_, ResetReason::Revoked))));
    assert!(pair.events[0].iter().any(|e| matches!(e, Event::Trust(_))));
}

#[test]
fn what_stood_under_a_former_pair_secret_ends_with_the_true_reason() {
    let mut pair = Pair::new();
    pair.send(0, b"x");
    pair.run_for(DELAY * 10);
    // The other side has only its identity left, and asks anew.
    let identities = [0, 1].map(|side| Identity::from_seed([1 + side; 32]));
    let records =
        [0, 1].map(|side| NodeRecord::sign(&identities[side], Addr::new(0, 1 + side as u32), &Profile::default(), 1));
    let now_s = WALL_US / 1_000_000 + 9;
    let me = Me { identity: &identities[1], record: &records[1].emit(), now_s, common_s: now_s };
    let request = TrustBook::default().request(&me, &records[0], &Terms::default(), &mut Rng::new([8; 32]));
    let (key, request) = (identities[1].public(), request.expect("allowed"));
    pair.ends[0].with_directory(pair.now, |directory, cx| directory.handle_trust(cx, &request));
    pair.events = Default::default();
    pair.ends[0].approve(pair.now, &key, &Terms::default()).expect("it waits");
    pair.drain();
    let resets: Vec<_> = pair.events[0].iter().filter(|e| matches!(e, Event::Reset(..))).collect();
    assert!(matches!(resets[..], [Event::Reset(_, ResetReason::Renewed)]), "{resets:?}");
}

/// Keys of [`Counting`] that exist.
static KEYS: AtomicUsize = AtomicUsize::new(0);

/// The portable cipher, with its keys counted.
struct Counting;

struct CountedKey(Box<dyn AeadKey>);

impl AeadProvider for Counting {
    fn key(&self, key: &[u8; 32]) -> Box<dyn AeadKey> {
        KEYS.fetch_add(1, Ordering::Relaxed);
        Box::new(CountedKey(aead::PORTABLE.key(key)))
    }
    fn name(&self) -> &'static str {
        "counting"
    }
}

impl AeadKey for CountedKey {
    fn seal(&self, counter: u64, aad: &[u8], buf: &mut [u8]) {
        self.0.seal(counter, aad, buf);
    }
    fn open(&self, counter: u64, aad: &[u8], buf: &mut [u8]) -> bool {
        self.0.open(counter, aad, buf)
    }
}

impl Drop for CountedKey {
    fn drop(&mut self) {
        KEYS.fetch_sub(1, Ordering::Relaxed);
    }
}

#[test]
fn peers_at_rest_keep_no_keys_ready_and_no_buffers() {
    let mut pair = Pair::new();
    pair.ends.iter_mut().for_each(|end| end.aead = &Counting);
    pair.send(0, b"first");
    pair.run_for(Duration::from_secs(5)); // the session in which a KEM secret is made is followed by the one that lasts
    for _ in 0..3 {
        let taken = pair.inboxes[1].0.len();
        (0..100).for_each(|_| pair.send(0, &[7; 1000]));
        pair.run_for(Duration::from_secs(1));
        assert_eq!(pair.inboxes[1].0.len(), taken + 100, "the tunnel is as it was");
        let spare = |pair: &mut Pair| {
            let peer = pair.peer(0);
            pair.ends[0].with_link(peer, |link| link.spare_buffers().capacity()).expect("known")
        };
        assert!(KEYS.load(Ordering::Relaxed) == 4 && spare(&mut pair) > 0);
        pair.run_for(Duration::from_secs(4));
        assert_eq!((KEYS.load(Ordering::Relaxed), spare(&mut pair)), (0, 0));
    }
}

#[test]
fn an_idle_pair_sends_nothing_and_random_datagrams_have_no_effect() {
    let mut pair = Pair::new();
    pair.send(0, b"x");
    pair.run_for(Duration::from_secs(30));
    let sent = pair.capture.len();
    pair.run_for(Duration::from_secs(80));
    assert_eq!(pair.capture.len(), sent, "no keepalive without streams");
    let mut rng = Rng::new([3; 32]);
    for _ in 0..2000 {
        let mut junk = vec![0u8; rng.below(300) as usize];
        junk.iter_mut().for_each(|b| *b = rng.u32() as u8);
        if let Some(first) = junk.first_mut() {
            *first %= 8;
        }
        assert!(pair.deliver(1, &mut junk).is_err());
    }
    pair.drain();
    assert_eq!(pair.capture.len(), sent, "and no reply");
}

#[test]
fn a_pair_whose_streams_are_over_costs_no_datagram() {
    let mut pair = Pair::new();
    pair.send(0, b"x");
    pair.run_for(Duration::from_secs(1));
    let use_it = |pair: &mut Pair, is_used: bool| {
        (0..2).for_each(|side| {
            let peer = pair.peer(side);
            pair.ends[side].set_in_use(pair.now, peer, is_used);
        });
        pair.run_for(Duration::from_secs(120));
        pair.capture.len()
    };
    let before = pair.capture.len();
    let in_use = use_it(&mut pair, true);
    assert!(in_use > before + 8, "a path in use is kept alive");
    let settled = use_it(&mut pair, false);
    assert!(settled < in_use + 4, "what was under way has its answers: {settled} after {in_use}");
    assert_eq!(use_it(&mut pair, false), settled);
}

#[test]
fn a_turn_in_which_nothing_is_due_looks_at_no_peer() {
    let mut config = Config::new(Identity::from_seed([1; 32]), Rng::entropy([2; 32]));
    config.candidates = [addr_of(0)].into();
    let mut endpoint = Endpoint::new(config);
    let mut key = [9; 32];
    let ids: Vec<PeerId> = (0..100u8)
        .map(|i| {
            key[0] = i;
            endpoint.add_peer(Instant::ZERO, Role::Trusted, StaticKey(key), &[0; 32])
        })
        .collect();
    let (mut now, mut out) = (Instant::ZERO, Vec::new());
    for id in &ids[..3] {
        endpoint.peers.get_mut(id).expect("added").peer.paths.add_known(addr_of(1));
        endpoint.reach(now, *id);
    }
    let mut turn = |now: Instant| {
        let before = endpoint.peers.looks();
        endpoint.handle_timeout(now);
        let mut batches = 0;
        while endpoint.poll_transmit(now, &mut out).is_some() {
            batches += 1;
        }
        (batches, endpoint.poll_timeout(), endpoint.peers.looks() - before)
    };
    let (batches, mut due, looks) = turn(now);
    assert!(batches == 3 && looks <= 15 * 3, "three peers want to send, {looks} looks");
    let mut resends = 0;
    for _ in 0..200 {
        now = now + Duration::from_millis(10);
        let (batches, next, looks) = turn(now);
        let is_due = due.is_some_and(|(at, _)| at <= now);
        assert!(is_due || (batches, looks) == (0, 0), "{looks} looks at {now:?} for {due:?}");
        assert!(looks <= 15 * 3, "only peers that are due are looked at, {looks} looks for {due:?}");
        (due, resends) = (next, resends + batches);
    }
    assert!(resends >= 3, "every INIT is repeated");
}

mod ages;
mod flood;
mod greeting;
mod kem;
mod lan;
mod mapped;
#[cfg(target_os = "linux")]
#[allow(clippy::unwrap_used, reason = "tests")]
mod memory;
mod strangers;
mod tap;
