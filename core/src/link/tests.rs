//! Two links and a wire in memory, in virtual time.

use super::frame::{Frame, Frames};
use super::*;
use crate::rng::Rng;
use std::collections::BTreeSet;
use std::vec;

/// One direction per entry: (arrival, to b?, counter, frames).
struct Pair {
    links: [Link; 2],
    counters: [u64; 2],
    now: Instant,
    wire: Vec<(Instant, usize, u64, Vec<u8>)>,
    rng: Rng,
    loss_percent: u64,
    got: [Vec<Vec<u8>>; 2],
    acks: [Vec<Vec<u8>>; 2],
}

const DELAY: Duration = Duration::from_millis(10);
const ROOM: usize = 1200;

fn soonest(link: &Link) -> Option<Instant> {
    let mut soonest = Soonest::default();
    link.note_deadlines(&mut soonest);
    soonest.get().map(|(at, _)| at)
}

impl Pair {
    fn new(loss_percent: u64) -> Self {
        let mut links = [Link::new(1232), Link::new(1232)];
        // Each side's index of the session is its own number.
        links[0].start_epoch(RemoteIndex(1), Counter(0), vec![7; 50]);
        links[1].start_epoch(RemoteIndex(0), Counter(0), vec![8; 50]);
        Self {
            links,
            counters: [0; 2],
            now: Instant::ZERO,
            wire: Vec::new(),
            rng: Rng::new([6; 32]),
            loss_percent,
            got: [vec![], vec![]],
            acks: [vec![], vec![]],
        }
    }

    fn transmit(&mut self) {
        for side in 0..2 {
            let mut out = Vec::new();
            let mut has_output = self.links[side].has_output(self.now);
            while let Some(outgoing) = self.links[side].poll_frames(self.now, LocalIndex(side as u32), ROOM, &mut out) {
                assert!(has_output, "only a link that says so has something to send");
                assert!(out.len() <= ROOM);
                let counter = self.counters[side];
                self.counters[side] += 1;
                self.links[side].on_sent(self.now, out.len() + 32, outgoing);
                if self.rng.below(100) >= self.loss_percent {
                    self.wire.push((self.now + DELAY, 1 - side, counter, core::mem::take(&mut out)));
                }
                out.clear();
                has_output = self.links[side].has_output(self.now);
            }
        }
    }

    fn step(&mut self) -> bool {
        self.transmit();
        let next = self.links.iter().filter_map(soonest).chain(self.wire.iter().map(|w| w.0)).min();
        let Some(next) = next else { return false };
        self.now = self.now.max(next);
        let due: Vec<_> = self.wire.extract_if(.., |w| w.0 <= self.now).collect();
        for (_, side, counter, bytes) in due {
            self.receive(side, counter, &bytes);
        }
        self.links.iter_mut().for_each(|l| l.handle_timeout(self.now));
        true
    }

    fn receive(&mut self, side: usize, counter: u64, bytes: &[u8]) {
        let mut urgency = Urgency::None;
        for frame in Frames::new(bytes) {
            match frame.expect("well-formed") {
                Frame::Ack(ack) => self.links[side].on_ack(self.now, RemoteIndex(1 - side as u32), &ack),
                Frame::Packet(p) => {
                    self.got[side].push(p.to_vec());
                    urgency = Urgency::Normal;
                }
                Frame::PureAck(p) => {
                    self.acks[side].push(p.to_vec());
                    urgency = urgency.max(Urgency::Relaxed);
                }
                _ => urgency = Urgency::Normal,
            }
        }
        self.links[side].on_received(self.now, LocalIndex(side as u32), Counter(counter), urgency);
    }
}

#[test]
fn every_packet_arrives_at_any_loss() {
    for loss in [0, 5, 30] {
        let mut pair = Pair::new(loss);
        let (mut queued, mut seen) = (0u32, BTreeSet::new());
        while seen.len() < 2000 {
            while queued < 2000 && pair.links[0].room() > 0 {
                pair.links[0].enqueue_packet([&queued.to_le_bytes()[..], &[0; 1000]].concat().into());
                queued += 1;
            }
            assert!(pair.step(), "stalled at {loss} % with {}", pair.got[1].len());
            assert!(pair.now < Instant::from_micros(600_000_000), "too slow at {loss} %");
            seen.extend(pair.got[1].iter().map(|p| p[..4].to_vec()));
        }
        if loss == 0 {
            assert_eq!((pair.got[1].len(), pair.links[0].stats().lost), (2000, 0), "nothing is sent twice");
        }
    }
}

#[test]
fn only_the_newest_pure_acknowledgement_of_a_flow_is_sent_and_it_survives_loss() {
    for seed in 0..30 {
        let mut pair = Pair::new(40);
        pair.rng = Rng::new([seed; 32]);
        for i in 0..10u8 {
            pair.links[0].enqueue_pure_ack(5, vec![i; 20].into());
            if i % 3 == 0 {
                pair.step();
            }
        }
        while pair.acks[1].last() != Some(&vec![9; 20]) {
            assert!(pair.step(), "seed {seed}: the newest acknowledgement was lost for good");
        }
        assert!(pair.acks[1].len() <= 10);
    }
}

#[test]
fn the_queue_for_the_stack_and_the_loose_queue_have_their_maximum() {
    let mut link = Link::new(1232);
    (0..QUEUE_MAX).for_each(|_| link.enqueue_packet(vec![0; 10].into()));
    assert_eq!(link.room(), 0);
    let mut other = Link::new(1232);
    (0..2).for_each(|_| other.enqueue_packet(vec![0; QUEUE_LEN_MAX / 2].into()));
    assert_eq!(other.room(), 0, "large packets fill it sooner");
    (0..2 * LOOSE_QUEUE_MAX).for_each(|i| link.enqueue_loose(vec![i as u8].into()));
    assert_eq!(link.loose.len(), LOOSE_QUEUE_MAX);
    assert_eq!(link.loose.back().expect("not empty").bytes(), [2 * LOOSE_QUEUE_MAX as u8 - 1], "the oldest went");
}

/// Sends all that waits, as fast as the pacer lets it.
fn send_all(link: &mut Link) -> usize {
    let (mut now, mut out, mut frames) = (Instant::ZERO, Vec::new(), 0);
    for _ in 0..1_000_000 {
        if link.pure_acks.is_empty() && link.loose.is_empty() {
            break;
        }
        now = now + Duration::from_millis(1);
        while let Some(outgoing) = link.poll_frames(now, LocalIndex(0), ROOM, &mut out) {
            frames += Frames::new(&out).count();
            link.on_sent(now, out.len() + 32, outgoing);
            out.clear();
        }
    }
    frames
}

#[test]
fn acknowledgements_and_loose_datagrams_have_maxima_and_leave() {
    let mut link = Link::new(1232);
    link.start_epoch(RemoteIndex(1), Counter(0), vec![7; 50]);
    (0..PURE_ACKS_MAX as u32 + 9).for_each(|flow| link.enqueue_pure_ack(flow, vec![flow as u8; 20].into()));
    (0..2 * LOOSE_QUEUE_MAX).for_each(|_| link.enqueue_loose(vec![1; 20].into()));
    assert_eq!((link.pure_acks.len(), link.loose.len()), (PURE_ACKS_MAX, LOOSE_QUEUE_MAX));
    assert!(send_all(&mut link) >= PURE_ACKS_MAX + LOOSE_QUEUE_MAX);
    assert_eq!((link.pure_acks.len(), link.loose.len()), (0, 0));
}

#[test]
fn the_newest_sessions_are_known_and_older_ones_forgotten() {
    let mut link = Link::new(1232);
    for n in 0..2 * SESSIONS_MAX as u32 {
        link.start_epoch(RemoteIndex(n), Counter(0), Vec::new());
        link.on_received(Instant::ZERO, LocalIndex(n), Counter(0), Urgency::None);
    }
    assert_eq!((link.epochs.len(), link.received.len()), (SESSIONS_MAX, SESSIONS_MAX));
    assert_eq!((link.epochs[0].index, link.received[0].index), (RemoteIndex(4), LocalIndex(4)));
}

#[test]
fn buffers_of_acknowledged_packets_are_kept_up_to_a_maximum() {
    let mut pair = Pair::new(0);
    let mut most = 0;
    while pair.got[1].len() < 4 * SPARE_MAX {
        while pair.links[0].room() > 0 {
            pair.links[0].enqueue_packet(vec![5; 100].into());
        }
        assert!(pair.step());
        most = most.max(pair.links[0].spare.len());
    }
    assert_eq!(most, SPARE_MAX);
    while pair.step() {}
    pair.links[0].rest();
    assert_eq!((pair.links[0].in_flight(), pair.links[0].spare.len()), (0, 0));
}

/// A kind of packets that begin with four bytes that say where their payload lies, behind ten hidden ones.
static NUMBERED: PacketKind = PacketKind {
    hidden_len: 10,
    cut: Some(|first, room, rest| {
        let Some(payload) = first.get(room..).filter(|_| room > 4) else { return false };
        let at = u32::from_be_bytes(first[..4].try_into().expect("four bytes")) + (room - 4) as u32;
        rest.extend_from_slice(&at.to_be_bytes());
        rest.extend_from_slice(payload);
        true
    }),
};

#[test]
fn packets_too_large_for_the_path_are_cut_without_loss() {
    let mut link = Link::new(1232);
    let payload: Vec<u8> = (0..3000).map(|i| (i % 251) as u8).collect();
    link.enqueue_packet(Packet::new([&[9; 10][..], &[0; 4], &payload].concat(), &NUMBERED));
    let (mut received, mut out) = (Vec::new(), Vec::new());
    while let Some(outgoing) = link.poll_frames(Instant::ZERO, LocalIndex(0), ROOM, &mut out) {
        for frame in Frames::new(&out) {
            let Ok(Frame::Packet(part)) = frame else { continue };
            assert_eq!(part[..4], (received.len() as u32).to_be_bytes());
            received.extend_from_slice(&part[4..]);
        }
        link.on_sent(Instant::ZERO, out.len(), outgoing);
        out.clear();
    }
    assert_eq!(received, payload);
    link.enqueue_packet(vec![0; 2000].into()); // cannot be cut: dropped, never stuck
    link.enqueue_packet(vec![1; 100].into());
    assert!(link.poll_frames(Instant::ZERO, LocalIndex(0), ROOM, &mut out).is_some());
    assert!(out.ends_with(&[1; 100]));
}

#[test]
fn a_quiet_link_has_no_timer() {
    let mut pair = Pair::new(0);
    while pair.step() {}
    assert!(pair.links.iter().all(|l| soonest(l).is_none() && !l.is_busy()));
}

#[test]
fn after_silence_the_window_collapses_and_probes_go_on() {
    let mut pair = Pair::new(0);
    while pair.step() {}
    pair.loss_percent = 100;
    let before = pair.links[0].window();
    pair.links[0].enqueue_packet(vec![0; 100].into());
    for _ in 0..12 {
        pair.step();
    }
    assert!(pair.links[0].unanswered_probes() >= 5);
    assert!(pair.links[0].window() < before);
    pair.loss_percent = 0;
    while pair.got[1].is_empty() {
        assert!(pair.step());
    }
    while pair.step() {}
    assert_eq!(pair.links[0].unanswered_probes(), 0);
}

#[test]
fn acknowledgements_alone_fill_no_window() {
    let mut link = Link::new(1232);
    let mut out = Vec::new();
    let mut sent = 0;
    while sent <= link.window() {
        link.enqueue_pure_ack(sent as u32, vec![0; 20].into());
        let outgoing = link.poll_frames(Instant::ZERO, LocalIndex(0), ROOM, &mut out).expect("no window holds it back");
        sent += out.len() as u64;
        link.on_sent(Instant::ZERO, out.len(), outgoing);
        out.clear();
    }
    link.enqueue_packet(vec![1; 100].into());
    assert!(link.poll_frames(Instant::ZERO, LocalIndex(0), ROOM, &mut out).is_some());
    assert!(out.ends_with(&[1; 100]));
}

/// What leaves under a session before the link uses it, or after the link has gone on to the next one, has no packet number: its
/// acknowledgement must not stand for another datagram.
#[test]
fn acknowledgements_of_what_left_beside_the_link_acknowledge_nothing_else() {
    let mut link = Link::new(1232);
    let send = |link: &mut Link| {
        link.enqueue_packet(vec![1; 100].into());
        let mut out = Vec::new();
        let outgoing = link.poll_frames(Instant::ZERO, LocalIndex(0), ROOM, &mut out).expect("a packet");
        link.on_sent(Instant::ZERO, out.len() + 32, outgoing);
    };
    let acknowledge = |link: &mut Link, session: u32, counters: (u64, u64)| {
        let mut out = Vec::new();
        super::frame::emit_ack(&mut out, None, 0, [counters].into_iter());
        let Some(Ok(Frame::Ack(ack))) = Frames::new(&out).next() else { panic!("an ACK") };
        link.on_ack(Instant::ZERO, RemoteIndex(session), &ack);
    };
    link.start_epoch(RemoteIndex(1), Counter(0), vec![7; 50]);
    send(&mut link);
    // Two datagrams have left under the second session already.
    link.start_epoch(RemoteIndex(2), Counter(2), vec![7; 50]);
    send(&mut link);
    let all = link.in_flight();
    acknowledge(&mut link, 2, (0, 1));
    assert_eq!(link.in_flight(), all, "the datagram of the first session is under way");
    acknowledge(&mut link, 1, (1, 5));
    assert_eq!(link.in_flight(), all, "and so is that of the second");
    acknowledge(&mut link, 2, (0, 2));
    acknowledge(&mut link, 1, (0, 5));
    assert_eq!(link.in_flight(), 0);
}
