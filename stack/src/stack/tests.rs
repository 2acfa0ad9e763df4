//! A hub and many peers, joined in memory.

use super::*;
use crate::flow::Recv;
use core::net::SocketAddr;
use core::time::Duration;
use pilot_core::identity::{NodeRecord, Profile};
use pilot_core::trust::{Me, Terms, TrustBook};
use pilot_core::{Addr, Identity};
use std::vec;

const PORT: u16 = 1000;
const MS: Duration = Duration::from_millis(1);

/// Stacks that all trust the first and are trusted by it.
struct Star {
    stacks: Vec<Stack>,
    now: Instant,
}

fn underlay(number: usize) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1], 4000 + number as u16))
}

fn identity(number: usize) -> Identity {
    let mut seed = [1; 32];
    seed[..8].copy_from_slice(&(number as u64).to_le_bytes());
    Identity::from_seed(seed)
}

/// A disk that takes no time.
fn save_trust(stack: &mut Stack, now: Instant) {
    if !stack.endpoint().trust_is_saved() {
        let version = stack.endpoint().trust().version();
        stack.endpoint_mut().trust_saved(now, version);
    }
}

impl Star {
    fn new(peers: usize, ring_len_max: usize) -> Self {
        Self::with(peers, StackConfig { ring_len_max, ..StackConfig::default() })
    }

    fn with(peers: usize, sizes: StackConfig) -> Self {
        let (mut rng, terms) = (Rng::new([9; 32]), Terms::default());
        let addr = |number: usize| Addr::new(0, 1 + number as u32);
        let sign = |number: usize| NodeRecord::sign(&identity(number), addr(number), &Profile::default(), 1);
        let make = |number: usize, trust: TrustBook, rng: &mut Rng| {
            let mut config = Config::new(identity(number), Rng::entropy(rng.bytes()));
            (config.addr, config.trust, config.wall_at_zero_us) = (addr(number), trust, 1_000_000);
            Stack::new(config, sizes)
        };
        let (hub, hub_record, mut hub_book) = (identity(0), sign(0), TrustBook::default());
        let hub_bytes = hub_record.emit();
        let mut stacks = vec![];
        for number in 1..=peers {
            let (own, record, mut book) = (identity(number), sign(number), TrustBook::default());
            let bytes = record.emit();
            let hub_me = Me { identity: &hub, record: &hub_bytes, now_s: 1, common_s: 1 };
            let me = Me { identity: &own, record: &bytes, now_s: 1, common_s: 1 };
            let request = hub_book.request(&hub_me, &record, &terms, &mut rng).expect("allowed");
            book.receive(&me, &request, None);
            let accept = book.approve(&me, &hub_record.identity, &terms, &mut rng).expect("pending");
            hub_book.receive(&hub_me, &accept, None);
            hub_book.note_endpoint(&record.identity, underlay(number));
            let mut stack = make(number, book, &mut rng);
            stack.listen(PORT).expect("free");
            stacks.push(stack);
        }
        stacks.insert(0, make(0, hub_book, &mut rng));
        Self { stacks, now: Instant::ZERO }
    }

    /// Delivers all datagrams of all stacks, then lets `pause` pass.
    fn step(&mut self, pause: Duration) {
        let mut batch = vec![];
        for number in 0..self.stacks.len() {
            self.stacks[number].handle_timeout(self.now);
            save_trust(&mut self.stacks[number], self.now);
            while let Some(transmit) = self.stacks[number].poll_transmit(self.now, &mut batch) {
                let to = usize::from(transmit.to.port()) - 4000;
                self.stacks[to].handle_batch(self.now, underlay(number), &mut batch, transmit.segment_len);
            }
        }
        self.now = self.now + pause;
    }

    /// One stream of the hub to every peer, in use once and quiet since.
    fn connected(peers: usize, ring_len_max: usize) -> (Self, Vec<StreamId>) {
        let mut star = Self::new(peers, ring_len_max);
        let ids: Vec<PeerId> = star.stacks[0].endpoint().peers().collect();
        let streams: Vec<StreamId> =
            ids.iter().map(|peer| star.stacks[0].connect(star.now, *peer, PORT).expect("trusted")).collect();
        (0..300).for_each(|_| star.step(MS * 20));
        for stack in &mut star.stacks {
            while stack.poll_event().is_some() {}
        }
        let info = |id: &StreamId| star.stacks[0].stream_info(*id).expect("open");
        assert!(streams.iter().all(|id| info(id).connected));
        (star, streams)
    }

    /// Stacks of peers that the hub looked at since the last call.
    fn looks(&self) -> u64 {
        self.stacks[0].slots.looks.take()
    }
}

#[test]
fn a_turn_in_which_nothing_happened_looks_at_no_peer() {
    let (mut star, streams) = Star::connected(1000, 4096);
    star.looks();
    let now = star.now;
    let hub = &mut star.stacks[0];
    for _ in 0..10 {
        hub.handle_timeout(now);
        assert_eq!((hub.poll_event(), hub.poll_transmit(now, &mut vec![])), (None, None));
        hub.poll_timeout();
    }
    assert_eq!(star.looks(), 0);

    assert_eq!(star.stacks[0].send(streams[7], b"ping"), Ok(4));
    star.stacks[0].poll_transmit(now, &mut vec![]).expect("a datagram");
    assert!((1..10).contains(&star.looks()), "only at the peer it is for");
}

#[test]
fn streams_are_listed_once_until_they_are_looked_at() {
    let (mut star, streams) = Star::connected(1, 4096);
    let [hub, peer] = &mut star.stacks[..] else { panic!("two") };
    hub.look(streams[0]);
    hub.look(streams[0]);
    assert_eq!((hub.poll_event(), hub.poll_event()), (Some(Event::Stream(streams[0])), None));
    let theirs = peer.streams().next().expect("accepted");
    for _ in 0..3 {
        assert_eq!(star.stacks[1].send(theirs, b"more"), Ok(4));
        star.step(MS);
    }
    let hub = &mut star.stacks[0];
    assert_eq!((hub.poll_event(), hub.poll_event()), (Some(Event::Stream(streams[0])), None));
    assert_eq!(hub.recv(streams[0], &mut [0; 99]), Recv::Data(12));
    let unknown = StreamId::from_number(99);
    hub.look(unknown);
    assert_eq!((hub.poll_event(), hub.poll_event()), (Some(Event::Stream(unknown)), None), "its owner knows why");
}

#[test]
fn a_peer_whose_link_is_full_is_asked_again_when_there_is_room() {
    let (mut star, streams) = Star::connected(1, 1 << 20);
    let theirs = star.stacks[1].streams().next().expect("accepted");
    let (mut sent, mut received, mut was_full) = (0, 0, false);
    while received < 20 << 20 {
        sent += star.stacks[0].send(streams[0], &[7; 1 << 20]).expect("open");
        star.step(MS);
        let info = star.stacks[0].stream_info(streams[0]).expect("open");
        was_full |= info.unacknowledged > 512 * 1024;
        while let Recv::Data(n) = star.stacks[1].recv_with(theirs, |bytes| bytes.len()) {
            received += n;
        }
        assert!(star.now < Instant::ZERO + MS * 60_000, "{received} of {sent} bytes");
    }
    assert!(was_full, "more waits than a link takes");
}

#[test]
fn however_slowly_the_application_reads_the_window_opens_again() {
    for (ring_len, step) in [(4096, 1), (4096, 1000), (1 << 20, 50_000)] {
        let (mut star, streams) = Star::connected(1, ring_len);
        let theirs = star.stacks[1].streams().next().expect("accepted");
        let (mut received, total) = (0, ring_len * 3);
        let mut left = total;
        while received < total {
            let n = star.stacks[0].send(streams[0], &vec![7; left.min(ring_len)]).expect("open");
            left -= n;
            for _ in 0..20 {
                star.step(MS);
            }
            let mut taken = 1;
            while taken > 0 && received < total {
                taken = match star.stacks[1].recv_with(theirs, |bytes| bytes.len().min(step)) {
                    Recv::Data(n) => n,
                    _ => 0,
                };
                received += taken;
                if step > 1 {
                    star.step(MS);
                }
            }
            assert!(star.now < Instant::ZERO + MS * 60_000, "{received} of {total} bytes by {step}");
        }
    }
}

#[test]
fn a_listener_that_takes_no_streams_loses_none_above_its_backlog() {
    let mut star = Star::connected(1, 4096).0;
    let max = star.stacks[1].config.backlog_max / 2; // one peer gets as many as are free
    star.stacks[1].streams().collect::<Vec<_>>().into_iter().for_each(|id| star.stacks[1].accepted(id));
    let peer = star.stacks[0].endpoint().peers().next().expect("trusted");
    let all: Vec<StreamId> =
        (0..max + 76).map(|_| star.stacks[0].connect(star.now, peer, PORT).expect("few")).collect();
    let incoming = |star: &mut Star| -> Vec<StreamId> {
        let events = core::iter::from_fn(|| star.stacks[1].poll_event());
        events.filter_map(|e| if let Event::Incoming { stream, .. } = e { Some(stream) } else { None }).collect()
    };
    (0..500).for_each(|_| star.step(MS * 20));
    let waiting = incoming(&mut star);
    let hub = star.stacks[1].endpoint().peers().next().expect("trusted");
    let room = |star: &Star, max| star.stacks[1].ports.has_room(hub, PORT, max);
    assert_eq!((waiting.len(), room(&star, 2 * max), room(&star, 2 * max + 1)), (max, Some(false), Some(true)));
    let info = |star: &Star, id: &StreamId| star.stacks[0].stream_info(*id).expect("open");
    let standing = all.iter().filter(|id| info(&star, id).connected).count();
    assert_eq!(standing, max, "the others have no answer yet");
    assert!(all.iter().all(|id| info(&star, id).end.is_none()), "none is reset");

    // Streams that end while they wait make room, as those do that are taken.
    star.stacks[1].abort(star.now, waiting[0]);
    star.stacks[1].close(star.now, waiting[1]);
    waiting[2..].iter().for_each(|id| star.stacks[1].accepted(*id));
    assert_eq!(room(&star, 1), Some(true));
    (0..500).for_each(|_| star.step(MS * 20));
    assert_eq!(incoming(&mut star).len(), 76, "their TCP has asked again");
}

/// The flow of the first stream that the first peer of `star` has accepted, and the segment that would tell its window.
fn accepted(star: &mut Star) -> (PeerId, crate::segment::FlowKey, Vec<u8>) {
    let theirs = star.stacks[1].streams().next().expect("accepted");
    let (peer, key) = star.stacks[1].streams[&theirs];
    let flow = star.stacks[1].slots.get_mut(peer).and_then(|stack| stack.flows.get_mut(&key)).expect("open");
    (peer, key, flow.window_segment(4096).expect("it stands"))
}

/// A segment of the peer with these bytes and FIN; `ours` is one to the peer.
fn last_segment(ours: &[u8], sequence: u32, bytes: &[u8]) -> Vec<u8> {
    let header = [&ours[2..4], &ours[..2], &sequence.to_be_bytes(), &ours[4..8], &[5 << 4, 0x11], &[16, 0], &[0; 4]];
    [&header.concat(), bytes].concat()
}

fn acknowledged(segment: &[u8]) -> u32 {
    crate::segment::Segment::parse(segment).expect("a header").acknowledged
}

/// Early data, and all bytes whose acknowledgement is late, go once more with the FIN that follows them.
#[test]
fn a_fin_behind_bytes_that_have_arrived_is_taken_at_once() {
    let (mut star, streams) = Star::connected(1, 4096);
    star.stacks[0].send(streams[0], &[7; 100]).expect("open");
    (0..20).for_each(|_| star.step(MS));
    let (peer, _, ours) = accepted(&mut star);
    let bytes = last_segment(&ours, acknowledged(&ours).wrapping_sub(100), &[7; 100]);
    let segment = crate::segment::Segment::parse(&bytes).expect("a header");
    let (now, stack) = (star.now, &mut star.stacks[1]);
    let agenda = &mut stack.shared.agenda;
    stack.slots.with_stack(peer, |stack| assert!(stack.handle_segment(now, &segment, &bytes, agenda)));
    let theirs = stack.streams().next().expect("accepted");
    assert_eq!(stack.recv(theirs, &mut [0; 200]), Recv::Data(100));
    assert_eq!(stack.recv(theirs, &mut [0; 200]), Recv::Fin);
}

/// The peer would not send again what was acknowledged.
#[test]
fn a_window_acknowledges_what_tcp_has_taken_and_no_more() {
    let (mut star, streams) = Star::connected(1, 4096);
    star.stacks[0].send(streams[0], &[7; 100]).expect("open");
    (0..20).for_each(|_| star.step(MS));
    let (peer, key, ours) = accepted(&mut star);
    let bytes = last_segment(&ours, acknowledged(&ours), &[7; 50]);
    let segment = crate::segment::Segment::parse(&bytes).expect("a header");
    let flow = star.stacks[1].slots.get_mut(peer).and_then(|stack| stack.flows.get_mut(&key)).expect("open");
    assert!(flow.admit(&segment, &bytes), "it comes to TCP, which may not take it");
    assert_eq!(accepted(&mut star).2, ours);
    let theirs = star.stacks[1].streams().next().expect("accepted");
    assert_eq!(star.stacks[1].recv(theirs, &mut [0; 200]), Recv::Data(100));
    assert_eq!(acknowledged(&accepted(&mut star).2), acknowledged(&ours), "bytes that were read stay taken");
}

/// TCP answers such a reset with a question, once a second at most, and nothing is there to hear it.
#[test]
fn a_reset_behind_bytes_that_tcp_had_no_room_for_ends_the_stream_at_once() {
    let mut star = Star::connected(1, 4096).0;
    let (peer, key, ours) = accepted(&mut star);
    let next = acknowledged(&ours);
    let refused = last_segment(&ours, next, &[7; 50]);
    let segment = crate::segment::Segment::parse(&refused).expect("a header");
    let flow = star.stacks[1].slots.get_mut(peer).and_then(|stack| stack.flows.get_mut(&key)).expect("open");
    assert!(flow.admit(&segment, &refused), "it comes to TCP, which does not take it");
    let mut bytes = last_segment(&ours, segment.end(), &[]);
    bytes[13] = 0x04;
    let reset = crate::segment::Segment::parse(&bytes).expect("a header");
    let (now, stack) = (star.now, &mut star.stacks[1]);
    let agenda = &mut stack.shared.agenda;
    stack.slots.with_stack(peer, |stack| assert!(stack.handle_segment(now, &reset, &bytes, agenda)));
    let theirs = stack.streams().next().expect("accepted");
    assert_eq!(stack.stream_info(theirs).expect("open").end, Some(crate::flow::StreamEnd::Reset));
}

/// Found by `chaos`: a stream that asked a new process once more took the answer to its first question for its peer's SYN.
#[test]
fn an_answer_to_a_question_that_was_taken_back_is_none() {
    let mut star = Star::connected(1, 4096).0;
    let peer = star.stacks[0].endpoint().peers().next().expect("trusted");
    let ours = star.stacks[0].connect(star.now, peer, PORT).expect("trusted");
    let mut syn = vec![];
    star.stacks[0].poll_transmit(star.now, &mut syn).expect("a SYN leaves");
    let (now, stack) = (star.now, &mut star.stacks[0]);
    let (_, (port, _)) = stack.streams[&ours];
    let ports = [PORT.to_be_bytes(), port.to_be_bytes()].concat();
    let bytes = [&ports[..], &[1, 2, 3, 4], &[9; 4], &[5 << 4, 0x12], &[16, 0], &[0; 4]].concat();
    let segment = crate::segment::Segment::parse(&bytes).expect("a header");
    let agenda = &mut stack.shared.agenda;
    stack.slots.with_stack(peer, |stack| assert!(stack.handle_segment(now, &segment, &bytes, agenda)));
    star.stacks[1].handle_batch(now, underlay(0), &mut syn, 65_535);
    (0..20).for_each(|_| star.step(MS));
    assert!(star.stacks[0].stream_info(ours).expect("open").connected);
}

/// Found by `chaos`: on a path that grew, the SYN went without early data first and with them later.
#[test]
fn a_late_syn_that_brings_early_data_opens_no_stream_that_is_over() {
    let (mut star, streams) = Star::connected(1, 4096);
    let (peer, key, _) = accepted(&mut star);
    let flow = star.stacks[1].slots.get_mut(peer).and_then(|stack| stack.flows.get_mut(&key)).expect("open");
    let syn = flow.syn.expect("the hub has opened it");
    let header =
        [&key.1.to_be_bytes(), &key.0.to_be_bytes(), &syn.to_be_bytes()[..], &[0; 4], &[6 << 4, 0x02], &[16, 0]];
    let late = [&header.concat(), &[0; 4][..], &[3, 3, 4, 0], b"early"].concat();
    let theirs = star.stacks[1].streams().next().expect("accepted");
    star.stacks[1].abort(star.now, theirs);
    star.stacks[0].abort(star.now, streams[0]);
    (0..20).for_each(|_| star.step(MS * 20));
    star.stacks[1].handle_unknown(star.now, peer, &late);
    (0..20).for_each(|_| star.step(MS * 20));
    assert_eq!(star.stacks[1].streams().count(), 0);
}

mod memory;
