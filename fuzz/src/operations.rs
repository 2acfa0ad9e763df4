//! Owns two nodes that trust each other, with applications that do anything, on a network that does anything; a model knows
//! what was written, and so what may be read.

use crate::pair::run_due;
use pilot_core::Instant;
use pilot_core::aead::PORTABLE;
use pilot_stack::{Event, Recv, Stack, StackConfig, StreamId};
use pilot_tests::lab::{befriended, underlay};
use std::collections::VecDeque;
use std::time::Duration;

/// Most steps of one input.
const STEPS_MAX: usize = 300;
const PORT: u16 = 1000;
/// Most streams of one input.
const STREAMS_MAX: usize = 8;
/// Most datagrams under way; with more the oldest are lost.
const FLIGHT_MAX: usize = 2000;
/// Short rings, so that they fill. Unit: bytes.
const RING_LEN: usize = 16 * 1024;
/// Time after the faults in which everything pending arrives.
const CALM: Duration = Duration::from_secs(120);
/// First byte of a datagram with a tag over all of it.
const DATA: u8 = 4;

/// One end of a stream.
struct End {
    side: usize,
    id: StreamId,
    written: u64,
    read: u64,
    has_finished: bool,
    saw_end: bool,
    is_gone: bool,
}

struct Pair {
    stacks: [Stack; 2],
    now: Instant,
    /// (receiver, bytes)
    flight: VecDeque<(usize, Vec<u8>)>,
    /// Openers first; the other end is there once the stream has arrived.
    streams: Vec<(End, Option<End>)>,
    batch: Vec<u8>,
}

/// Runs two nodes against a model. The input is a list of steps of four bytes: an action, a stream or datagram, and two
/// details.
///
/// Invariants: a reader gets a prefix of what was written, and an orderly end only behind all of it; a damaged datagram has no
/// effect; once the network is calm, every stream that was not aborted delivers everything.
pub fn operations(bytes: &[u8]) {
    let mut pair = Pair::new();
    for step in bytes.chunks_exact(4).take(STEPS_MAX) {
        pair.step(step[0], step[1], step[2], step[3]);
        pair.settle();
        pair.read();
    }
    pair.calm();
}

/// The byte that one side of a stream writes at a position. The opener's first one names the stream.
fn byte(stream: usize, is_opener: bool, position: u64) -> u8 {
    if position == 0 && is_opener {
        return stream as u8;
    }
    (position.wrapping_mul(0x9e37_79b9) >> 7) as u8 ^ (stream as u8) << 1 ^ u8::from(is_opener)
}

impl End {
    const fn new(side: usize, id: StreamId) -> Self {
        Self { side, id, written: 0, read: 0, has_finished: false, saw_end: false, is_gone: false }
    }
}

impl Pair {
    fn new() -> Self {
        let config = StackConfig { ring_len_max: RING_LEN, ..StackConfig::default() };
        let mut stacks = befriended(&PORTABLE, config, 3);
        stacks.iter_mut().for_each(|stack| stack.listen(PORT).expect("a new stack"));
        Self { stacks, now: Instant::ZERO, flight: VecDeque::new(), streams: Vec::new(), batch: Vec::new() }
    }

    fn step(&mut self, what: u8, which: u8, how: u8, more: u8) {
        match what % 16 {
            0 => self.open(usize::from(which % 2), usize::from(how)),
            1..=3 => self.write(which, usize::from(how) << 6 | usize::from(more)),
            4 => self.finish(which),
            5 => self.abort(which),
            6 | 7 => self.deliver(usize::from(which), 1 + usize::from(how % 32)),
            8 => drop(self.flight.remove(usize::from(which) % self.flight.len().max(1))),
            9 => {
                if let Some(copy) = self.flight.get(usize::from(which) % self.flight.len().max(1)).cloned() {
                    self.flight.push_back(copy);
                }
            }
            10 => self.damage(which, usize::from(how) << 3 | usize::from(more % 8)),
            11 => self.wait(Duration::from_millis(u64::from(how) << 4)),
            12 => self.wait(Duration::from_secs(u64::from(how))),
            _ => self.deliver(0, usize::MAX),
        }
    }

    fn open(&mut self, side: usize, early: usize) {
        if self.streams.len() == STREAMS_MAX {
            return;
        }
        let (number, now) = (self.streams.len(), self.now);
        let first: Vec<u8> = (0..early.max(1) as u64).map(|at| byte(number, true, at)).collect();
        let peer = self.stacks[side].endpoint().peers().next().expect("one is pinned");
        let id = self.stacks[side].connect_with(now, peer, PORT, first.clone()).expect("trusted");
        let mut end = End::new(side, id);
        end.written = first.len() as u64;
        self.streams.push((end, None));
    }

    /// One end by a number: bit 0 says which of the two.
    fn end(&mut self, which: u8) -> Option<(usize, bool, &mut End)> {
        let count = self.streams.len().max(1);
        let number = usize::from(which >> 1) % count;
        let (opener, other) = self.streams.get_mut(number)?;
        let is_opener = which.is_multiple_of(2);
        let end = if is_opener { Some(opener) } else { other.as_mut() };
        end.filter(|end| !end.is_gone).map(|end| (number, is_opener, end))
    }

    fn write(&mut self, which: u8, len: usize) {
        let Some((number, is_opener, end)) = self.end(which).filter(|(.., end)| !end.has_finished) else { return };
        let bytes: Vec<u8> = (end.written..end.written + len as u64).map(|at| byte(number, is_opener, at)).collect();
        let (side, id) = (end.side, end.id);
        // A stream that has broken takes nothing.
        let taken = self.stacks[side].send(id, &bytes).unwrap_or(0) as u64;
        if let Some((.., end)) = self.end(which) {
            end.written += taken;
        }
    }

    fn finish(&mut self, which: u8) {
        let Some((.., end)) = self.end(which) else { return };
        end.has_finished = true;
        let (side, id) = (end.side, end.id);
        self.stacks[side].shutdown_write(id);
    }

    fn abort(&mut self, which: u8) {
        let now = self.now;
        let Some((.., end)) = self.end(which) else { return };
        end.is_gone = true;
        let (side, id) = (end.side, end.id);
        self.stacks[side].abort(now, id);
    }

    /// Delivers some datagrams, from one of those under way on.
    fn deliver(&mut self, from: usize, count: usize) {
        for _ in 0..count.min(self.flight.len()) {
            let at = from % self.flight.len();
            let Some((to, mut datagram)) = self.flight.remove(at) else { return };
            // The stack counts what it discards.
            let _ = self.stacks[to].handle_datagram(self.now, underlay(1 - to), &mut datagram);
        }
    }

    /// Delivers a damaged copy.
    fn damage(&mut self, which: u8, place: usize) {
        let at = usize::from(which) % self.flight.len().max(1);
        let Some((to, mut datagram)) = self.flight.get(at).cloned() else { return };
        let bits = datagram.len() * 8;
        datagram[place * 13 % bits / 8] ^= 1 << (place * 13 % bits % 8);
        let is_sealed = self.flight[at].1[0] == DATA;
        let outcome = self.stacks[to].handle_datagram(self.now, underlay(1 - to), &mut datagram);
        assert!(!is_sealed || outcome.is_err(), "a damaged datagram had an effect");
    }

    fn wait(&mut self, span: Duration) {
        let end = self.now + span;
        while let Some(next) = run_due(&mut self.stacks, self.now, end) {
            self.now = next;
            self.settle();
        }
        self.now = end;
    }

    /// Handles events and takes what the stacks send.
    fn settle(&mut self) {
        let (now, mut batch) = (self.now, std::mem::take(&mut self.batch));
        for side in 0..2 {
            loop {
                while let Some(event) = self.stacks[side].poll_event() {
                    if let Event::Incoming { stream, .. } = event {
                        self.accept(side, stream);
                    }
                }
                let Some(transmit) = self.stacks[side].poll_transmit(now, &mut batch) else { break };
                self.flight.extend(batch.chunks(transmit.segment_len).map(|datagram| (1 - side, datagram.to_vec())));
            }
        }
        while self.flight.len() > FLIGHT_MAX {
            self.flight.pop_front();
        }
        self.batch = batch;
    }

    /// Takes a stream; its first byte, which travels with its SYN, says which one it is.
    fn accept(&mut self, side: usize, id: StreamId) {
        self.stacks[side].accepted(id);
        let mut name = [0];
        let Recv::Data(1) = self.stacks[side].recv(id, &mut name) else { panic!("a stream without its early data") };
        let (opener, other) = self.streams.get_mut(usize::from(name[0])).expect("a stream that was opened");
        assert!(other.is_none() && opener.side != side, "a stream arrived twice");
        *other = Some(End { read: 1, ..End::new(side, id) });
    }

    fn read(&mut self) {
        let mut buffer = [0; 4096];
        for (number, (opener, other)) in self.streams.iter_mut().enumerate() {
            let (a, b) = (Some(opener), other.as_mut());
            let told = [&a, &b].map(|end| end.as_ref().map_or((0, false), |end| (end.written, end.has_finished)));
            for (i, end) in [a, b].into_iter().enumerate() {
                let Some(end) = end.filter(|end| !end.is_gone && !end.saw_end) else { continue };
                let (written, has_finished) = told[1 - i];
                loop {
                    match self.stacks[end.side].recv(end.id, &mut buffer) {
                        Recv::Data(n) => {
                            for got in &buffer[..n] {
                                assert_eq!(*got, byte(number, i == 1, end.read), "stream {number} at {}", end.read);
                                end.read += 1;
                            }
                            assert!(end.read <= written, "more than was written");
                        }
                        Recv::Blocked => break,
                        Recv::Fin => {
                            assert!(has_finished && end.read == written, "an orderly end too early");
                            end.saw_end = true;
                            break;
                        }
                        Recv::Ended(_) => {
                            (end.saw_end, end.is_gone) = (true, true);
                            break;
                        }
                    }
                }
            }
        }
    }

    /// Ends the faults: everything that can still arrive does.
    fn calm(&mut self) {
        let end = self.now + CALM;
        for which in 0..2 * self.streams.len() as u8 {
            self.finish(which);
        }
        while self.now < end {
            self.deliver(0, usize::MAX);
            self.settle();
            self.read();
            for which in 0..2 * self.streams.len() as u8 {
                self.finish(which); // of ends that have arrived meanwhile
            }
            self.wait(Duration::from_millis(20));
            if self.flight.is_empty() && self.streams.iter().all(is_over) {
                return;
            }
        }
        let open = self.streams.iter().filter(|stream| !is_over(stream)).count();
        assert!(open == 0, "{open} streams did not end in two minutes of calm");
    }
}

/// Both ends know that the stream is over.
fn is_over((opener, other): &(End, Option<End>)) -> bool {
    let is_over = |end: &End| end.is_gone || end.saw_end;
    is_over(opener) && other.as_ref().map_or(opener.is_gone, is_over)
}
