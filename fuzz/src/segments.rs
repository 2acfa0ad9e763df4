//! Owns a trusted peer that sends arbitrary inner segments: the peer has the keys, so its segments reach the TCP stack.

use pilot_core::aead::PORTABLE;
use pilot_core::endpoint::Sink;
use pilot_core::link::Packet;
use pilot_core::{Endpoint, Instant, PeerId};
use pilot_stack::{Event, Recv, SEGMENT, Stack, StackConfig, StreamId};
use pilot_tests::lab::{star, underlay};
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, Location, catch_unwind, resume_unwind};
use std::sync::Once;
use std::time::Duration;

/// A port that trusted peers may reach.
const PORT: u16 = 1000;
/// First source port of the hostile peer, which uses [`FLOWS`] and one more.
const SOURCE: u16 = 50_000;
/// Flows of the hostile peer, one for each source port.
const FLOWS: usize = 4;
/// Most steps of one input.
const STEPS_MAX: usize = 300;
/// Longest ring of the victim's streams; short, so that rings fill. Unit: bytes.
const RING_LEN: usize = 16 * 1024;

const FIN: u8 = 0x01;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const ACK: u8 = 0x10;

thread_local! {
    /// File in which this thread last panicked.
    static PANICKED_AT: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Runs a victim's stack against a trusted peer that is hostile. smoltcp may panic on its arithmetic, which costs that peer
/// its streams; our own code may not panic, and after every input an orderly stream of the same peer works.
///
/// The input is a list of steps of eight bytes; see [`Hostile::step`].
pub fn segments(bytes: &[u8]) {
    let mut hostile = Hostile::new();
    for step in bytes.chunks_exact(8).take(STEPS_MAX) {
        hostile.step(step.try_into().expect("eight bytes"));
    }
    hostile.finish();
}

/// Sequence numbers of one flow, as the hostile peer knows them.
#[derive(Clone, Copy, Default)]
struct Known {
    /// Next sequence number of the hostile peer, if it keeps to the rules.
    next: u32,
    /// Next sequence number of the victim.
    theirs: u32,
}

/// Keeps the segments of the victim's TCP.
#[derive(Default)]
struct Heard(Vec<Vec<u8>>);

impl Sink for Heard {
    fn packet(&mut self, _: PeerId, segment: &[u8]) {
        self.0.push(segment.to_vec());
    }
    fn loose(&mut self, _: PeerId, _: &[u8]) {}
}

struct Hostile {
    attacker: Endpoint,
    peer: PeerId,
    heard: Heard,
    victim: Stack,
    streams: Vec<StreamId>,
    flows: [Known; FLOWS + 1],
    now: Instant,
    batch: Vec<u8>,
}

impl Hostile {
    fn new() -> Self {
        note_panics();
        let config = StackConfig { ring_len_max: RING_LEN, ..StackConfig::default() };
        let (hub, mut others) = star(&PORTABLE, config, 1, 7);
        let attacker = Endpoint::new(hub);
        let mut victim = others.remove(0);
        victim.listen(PORT).expect("a new stack");
        let peer = attacker.peers().next().expect("one is pinned");
        Self {
            attacker,
            peer,
            heard: Heard::default(),
            victim,
            streams: Vec::new(),
            flows: [Known::default(); FLOWS + 1],
            now: Instant::ZERO,
            batch: Vec::new(),
        }
    }

    /// Runs one step: an action, a flow, and numbers for the action.
    fn step(&mut self, [what, flow, x, y, a0, a1, b0, b1]: [u8; 8]) {
        let (index, a, b) = (usize::from(flow) % FLOWS, u16::from_le_bytes([a0, a1]), u16::from_le_bytes([b0, b1]));
        let delta = i32::from(a as i16);
        let len = usize::from(b) % 1300;
        match what % 9 {
            0 => self.ask(index, u32::from(a) << 16 | u32::from(b), len),
            1 => {
                let known = self.flows[index];
                self.send(index, ACK, (known.next, known.theirs), 0xffff, &vec![y; len]);
                self.flows[index].next = known.next.wrapping_add(len as u32);
            }
            2 => self.send_near(index, x, (delta, i32::from(y as i8)), b, y.into()),
            3 => self.send_near(index, ACK | x & FIN, (delta, 0), b, len),
            4 => {
                let bytes: Vec<u8> = (0..usize::from(y)).map(|i| x.wrapping_mul(i as u8).wrapping_add(a0)).collect();
                self.inject(bytes);
            }
            5 => drop(self.read_all()),
            6 => {
                if let Some(id) = self.stream(flow) {
                    // A stream that is shut down or gone refuses the bytes, which is no fault.
                    let _ = self.victim.send(id, &vec![x; usize::from(b) % (2 * RING_LEN)]);
                }
            }
            7 => {
                if let Some(id) = self.stream(flow) {
                    match x % 3 {
                        0 => self.victim.shutdown_write(id),
                        1 => self.victim.close(self.now, id),
                        _ => self.victim.abort(self.now, id),
                    }
                }
            }
            _ => self.now = self.now + Duration::from_millis(a.into()),
        }
        self.exchange();
    }

    fn stream(&self, which: u8) -> Option<StreamId> {
        self.streams.get(usize::from(which) % self.streams.len().max(1)).copied()
    }

    /// Sends a SYN with early data.
    fn ask(&mut self, index: usize, sequence: u32, early: usize) {
        self.flows[index] = Known { next: sequence.wrapping_add(1 + early as u32), theirs: 0 };
        let options = [2, 4, 5, 180, 3, 3, 7, 0]; // a segment size, a window scale
        let bytes = segment(index, (SYN, 7), (sequence, 0), 0xffff, &[&options[..], &vec![1; early]].concat());
        self.inject(bytes);
    }

    /// Sends a segment with sequence numbers that are off by a little.
    fn send_near(&mut self, index: usize, flags: u8, (off, ack_off): (i32, i32), window: u16, len: usize) {
        let Known { next, theirs } = self.flows[index];
        let numbers = (next.wrapping_add_signed(off), theirs.wrapping_add_signed(ack_off));
        self.send(index, flags, numbers, window, &vec![flags; len]);
    }

    fn send(&mut self, index: usize, flags: u8, numbers: (u32, u32), window: u16, payload: &[u8]) {
        self.inject(segment(index, (flags, 5), numbers, window, payload));
    }

    fn inject(&mut self, bytes: Vec<u8>) {
        let packet = Packet::new([vec![0; SEGMENT.hidden_len], bytes].concat(), &SEGMENT);
        self.attacker.with_link(self.peer, |link| link.send_packet(packet));
    }

    /// Accepts every stream and reads all bytes that have arrived.
    fn read_all(&mut self) -> Vec<u8> {
        let mut read = Vec::new();
        while let Some(event) = self.victim.poll_event() {
            if let Event::Incoming { stream, .. } = event {
                self.victim.accepted(stream);
                self.streams.push(stream);
            }
        }
        for id in &self.streams {
            let mut take = |bytes: &mut [u8]| {
                read.extend_from_slice(bytes);
                bytes.len()
            };
            while let Recv::Data(_) = self.victim.recv_with(*id, &mut take) {}
        }
        read
    }

    /// Delivers the datagrams of both sides, and lets a few milliseconds pass.
    fn exchange(&mut self) {
        for _ in 0..4 {
            let (now, mut batch) = (self.now, std::mem::take(&mut self.batch));
            while let Some(transmit) = self.attacker.poll_transmit(now, &mut batch) {
                self.guarded(|victim| victim.handle_batch(now, underlay(0), &mut batch, transmit.segment_len));
            }
            while let Some(Some(transmit)) = self.guarded(|victim| victim.poll_transmit(now, &mut batch)) {
                for datagram in batch.chunks_mut(transmit.segment_len) {
                    // The attacker's own discards do not matter.
                    let _ = self.attacker.handle_datagram(now, underlay(1), datagram, &mut self.heard);
                }
            }
            self.batch = batch;
            while self.attacker.poll_event().is_some() {}
            self.listen();
            self.now = now + Duration::from_millis(2);
            self.attacker.handle_timeout(self.now);
            let now = self.now;
            self.guarded(|victim| victim.handle_timeout(now));
        }
    }

    /// Learns the victim's sequence numbers from its segments.
    fn listen(&mut self) {
        for bytes in std::mem::take(&mut self.heard.0) {
            let word = |at: usize| u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
            let (to, header, flags) = (word(0) as u16, usize::from(bytes[12] >> 4) * 4, bytes[13]);
            let Some(known) = self.flows.get_mut(usize::from(to.wrapping_sub(SOURCE))) else { continue };
            let len = bytes.len() - header + usize::from(flags & SYN > 0) + usize::from(flags & FIN > 0);
            if flags & RST == 0 {
                known.theirs = word(4).wrapping_add(len as u32);
            }
        }
    }

    /// Calls the victim's stack as a node does: a panic of smoltcp costs the peer its streams, a panic of ours is a bug.
    fn guarded<R>(&mut self, f: impl FnOnce(&mut Stack) -> R) -> Option<R> {
        match catch_unwind(AssertUnwindSafe(|| f(&mut self.victim))) {
            Ok(result) => Some(result),
            Err(panic) => {
                let is_smoltcps = PANICKED_AT.with_borrow(|at| at.contains("smoltcp"));
                if !is_smoltcps {
                    resume_unwind(panic);
                }
                self.victim.recover();
                None
            }
        }
    }

    /// Checks that an orderly stream of the same peer works.
    fn finish(mut self) {
        let now = self.now;
        self.read_all();
        for id in std::mem::take(&mut self.streams) {
            self.victim.abort(now, id);
        }
        for _ in 0..100 {
            self.exchange(); // datagrams under way arrive
        }
        self.read_all();
        self.ask(FLOWS, 77, 0);
        self.until("the SYN is answered", |hostile| hostile.flows[FLOWS].theirs != 0);
        let Known { next, theirs } = self.flows[FLOWS];
        self.send(FLOWS, ACK, (next, theirs), 0xffff, b"in order");
        self.until("what was sent is read", |hostile| hostile.read_all().ends_with(b"in order"));
    }

    /// Waits until `done`. The peer may have made its path look slow, so that answers are paced; ten seconds are enough.
    fn until(&mut self, what: &str, mut done: impl FnMut(&mut Self) -> bool) {
        let arrived = (0..1250).any(|_| {
            self.exchange();
            done(self)
        });
        assert!(arrived, "not in ten seconds: {what}");
    }
}

/// Makes a TCP segment of one of the hostile flows. Unit of `words`, the length of the header: 4 bytes.
fn segment(index: usize, (flags, words): (u8, u8), numbers: (u32, u32), window: u16, rest: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(20 + rest.len());
    bytes.extend_from_slice(&(SOURCE + index as u16).to_be_bytes());
    bytes.extend_from_slice(&PORT.to_be_bytes());
    bytes.extend_from_slice(&numbers.0.to_be_bytes());
    bytes.extend_from_slice(&numbers.1.to_be_bytes());
    bytes.extend_from_slice(&[words << 4, flags]);
    bytes.extend_from_slice(&window.to_be_bytes());
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(rest);
    bytes
}

/// Notes the file of every panic, and prints only panics outside smoltcp, which are unexpected.
fn note_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let at = info.location().map(Location::file).unwrap_or_default();
            PANICKED_AT.with_borrow_mut(|place| at.clone_into(place));
            // libFuzzer's own hook ends the program, so smoltcp's panics do not reach it.
            if !at.contains("smoltcp") {
                usual(info);
            }
        }));
    });
}
