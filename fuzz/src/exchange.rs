//! Owns two nodes that trust each other and make keys, with an attacker between and beside them that knows everything but
//! their keys.

use crate::pair::run_due;
use pilot_core::Instant;
use pilot_core::aead::PORTABLE;
use pilot_core::wire::Datagram;
use pilot_stack::{Event, Recv, Stack, StackConfig, StreamEnd, StreamId};
use pilot_tests::lab::{befriended, underlay};
use std::net::SocketAddr;
use std::time::Duration;

/// Most steps of one input.
const STEPS_MAX: usize = 400;
/// Most datagrams that the attacker keeps, with copies of those delivered; with more the oldest are gone.
const KEPT_MAX: usize = 64;
/// Addresses of the attacker. Datagrams from these are the attacker's, whatever they hold.
const STRANGERS: u8 = 3;
/// Datagrams that a stranger's address may be sent, in units of what came from it, until it has proven itself.
const AMPLIFICATION_MAX: usize = 3;
const PORT: u16 = 1000;
/// Streams that are opened one after the other until one arrives.
const TRIES_MAX: u8 = 3;
/// Time after the attack in which two nodes have keys and an echo.
const CALM: Duration = Duration::from_secs(60);

/// A datagram that was sent, which the attacker may deliver, change, repeat or keep for ever.
struct Kept {
    to: usize,
    bytes: Vec<u8>,
}

/// What went to and came from one of the attacker's addresses. Unit: bytes.
#[derive(Clone, Copy, Default)]
struct Traffic {
    sent: usize,
    received: usize,
}

struct Exchange {
    stacks: [Stack; 2],
    now: Instant,
    kept: Vec<Kept>,
    strangers: [Traffic; STRANGERS as usize],
    batch: Vec<u8>,
}

/// Runs the key exchange of two friends under an attacker. The input is a list of steps of four bytes: an action, a datagram,
/// and two details.
///
/// Invariants: a changed datagram of a session has no effect; what a node holds stays within its budget; an address of the
/// attacker is never sent more than three times what came from it; once the attacker has stopped, both nodes can open a
/// stream to each other.
pub fn exchange(bytes: &[u8]) {
    let mut exchange = Exchange::new();
    for step in bytes.chunks_exact(4).take(STEPS_MAX) {
        exchange.step(step[0], usize::from(step[1]), step[2], step[3]);
        exchange.settle();
        exchange.check();
    }
    exchange.calm();
}

fn stranger(number: u8) -> SocketAddr {
    SocketAddr::from(([198, 51, 100, number % STRANGERS], 999))
}

impl Exchange {
    fn new() -> Self {
        let mut stacks = befriended(&PORTABLE, StackConfig::default(), 4);
        stacks.iter_mut().for_each(|stack| stack.listen(PORT).expect("a new stack"));
        Self {
            stacks,
            now: Instant::ZERO,
            kept: Vec::new(),
            strangers: [Traffic::default(); STRANGERS as usize],
            batch: Vec::new(),
        }
    }

    fn step(&mut self, what: u8, which: usize, how: u8, more: u8) {
        let at = which % self.kept.len().max(1);
        match what % 16 {
            0 | 1 => self.reach(which % 2),
            2..=4 => self.deliver(at, None),
            5 => self.deliver(at, Some(stranger(how))),
            6 => self.repeat(at, how),
            7 | 8 => self.damage(at, usize::from(how) << 8 | usize::from(more)),
            9 => self.cut(at, usize::from(how) << 8 | usize::from(more), how),
            10 => self.splice(at, usize::from(how), usize::from(more)),
            11 => self.invent(which % 2, how, more),
            12 if !self.kept.is_empty() => drop(self.kept.remove(at)),
            13 => self.wait(Duration::from_millis(u64::from(how) << 4)),
            14 => self.wait(Duration::from_secs(u64::from(how))),
            _ => self.deliver_all(),
        }
    }

    /// One side wants a session.
    fn reach(&mut self, side: usize) {
        let now = self.now;
        let peer = self.stacks[side].endpoint().peers().next().expect("one is pinned");
        if let Ok(id) = self.stacks[side].connect(now, peer, PORT) {
            self.stacks[side].abort(now, id);
        }
    }

    /// Gives one side bytes; the answer tells whether they had an effect.
    fn hand(&mut self, side: usize, from: Option<SocketAddr>, bytes: &[u8]) -> bool {
        let from = from.unwrap_or_else(|| underlay(1 - side));
        if let Some(traffic) = self.traffic(from) {
            traffic.received += bytes.len();
        }
        self.stacks[side].handle_datagram(self.now, from, &mut bytes.to_vec()).is_ok()
    }

    fn traffic(&mut self, addr: SocketAddr) -> Option<&mut Traffic> {
        (0..STRANGERS).find(|number| stranger(*number) == addr).map(|number| &mut self.strangers[usize::from(number)])
    }

    fn deliver(&mut self, at: usize, from: Option<SocketAddr>) {
        if at < self.kept.len() {
            let kept = self.kept.remove(at);
            self.hand(kept.to, from, &kept.bytes);
        }
    }

    fn deliver_all(&mut self) {
        for kept in std::mem::take(&mut self.kept) {
            self.hand(kept.to, None, &kept.bytes);
        }
    }

    /// Delivers a copy, to its receiver or back to its sender, from the peer or a stranger.
    fn repeat(&mut self, at: usize, how: u8) {
        let Some(Kept { to, bytes }) = self.kept.get(at) else { return };
        let (side, bytes) = (if how & 1 == 0 { *to } else { 1 - *to }, bytes.clone());
        self.hand(side, (how & 2 != 0).then(|| stranger(how >> 2)), &bytes);
    }

    /// Delivers a copy with one changed bit.
    fn damage(&mut self, at: usize, place: usize) {
        let Some(Kept { to, bytes }) = self.kept.get(at) else { return };
        let (side, mut bytes) = (*to, bytes.clone());
        let place = place % (8 * bytes.len());
        bytes[place / 8] ^= 1 << (place % 8);
        self.must_not_open(side, at, &bytes);
    }

    /// Delivers a copy that is shorter, or longer.
    fn cut(&mut self, at: usize, len: usize, how: u8) {
        let Some(Kept { to, bytes }) = self.kept.get(at) else { return };
        let (side, mut bytes) = (*to, bytes.clone());
        bytes.resize(len % (bytes.len() + 8), how);
        if bytes.len() != self.kept[at].bytes.len() {
            self.must_not_open(side, at, &bytes);
        }
    }

    /// Delivers the beginning of one datagram with the end of another.
    fn splice(&mut self, at: usize, other: usize, len: usize) {
        let (Some(first), Some(second)) = (self.kept.get(at), self.kept.get(other % self.kept.len().max(1))) else {
            return;
        };
        let len = len % first.bytes.len();
        let bytes = [&first.bytes[..len], second.bytes.get(len..).unwrap_or_default()].concat();
        if bytes != first.bytes && bytes != second.bytes {
            self.must_not_open(first.to, at, &bytes);
        }
    }

    /// Delivers bytes of a likely size and kind from a stranger.
    fn invent(&mut self, side: usize, how: u8, more: u8) {
        let len = [0, 1, 20, 66, 101, 157, 1200, 2000][usize::from(how % 8)];
        let bytes: Vec<u8> = (0..len).map(|i| if i == 0 { how >> 4 } else { more.wrapping_mul(i as u8) }).collect();
        assert!(!self.hand(side, Some(stranger(more)), &bytes), "invented bytes had an effect");
    }

    /// Delivers bytes that the peer never sent. What names a session must be refused; of a handshake that is not true: a door
    /// that is busy answers whatever has the first of its two codes.
    fn must_not_open(&mut self, side: usize, at: usize, bytes: &[u8]) {
        let is_sealed = matches!(Datagram::parse(&self.kept[at].bytes), Ok(Datagram::Data { .. }));
        let had_effect = self.hand(side, None, bytes);
        assert!(!had_effect || !is_sealed, "a changed datagram had an effect");
    }

    fn wait(&mut self, span: Duration) {
        let end = self.now + span;
        while let Some(next) = run_due(&mut self.stacks, self.now, end) {
            self.now = next;
            self.settle();
        }
        self.now = end;
    }

    /// Ends the streams that arrive, and takes what the nodes send.
    fn settle(&mut self) {
        let (now, mut batch) = (self.now, std::mem::take(&mut self.batch));
        for side in 0..2 {
            loop {
                while let Some(event) = self.stacks[side].poll_event() {
                    if let Event::Incoming { stream, .. } = event {
                        self.stacks[side].abort(now, stream);
                    }
                }
                let Some(transmit) = self.stacks[side].poll_transmit(now, &mut batch) else { break };
                if let Some(traffic) = self.traffic(transmit.to) {
                    traffic.sent += batch.len();
                    continue;
                }
                let datagrams = batch.chunks(transmit.segment_len);
                self.kept.extend(datagrams.map(|bytes| Kept { to: 1 - side, bytes: bytes.to_vec() }));
            }
        }
        self.kept.drain(..self.kept.len().saturating_sub(KEPT_MAX));
        self.batch = batch;
    }

    fn check(&self) {
        for stack in &self.stacks {
            let endpoint = stack.endpoint();
            assert!(endpoint.held_len() <= endpoint.held_len_max(), "a node holds more than its budget");
        }
        for traffic in &self.strangers {
            let most = AMPLIFICATION_MAX * traffic.received;
            assert!(traffic.sent <= most, "{} bytes for {} of a stranger", traffic.sent, traffic.received);
        }
    }

    /// Ends the attack: a stream of each side reaches the other. The first ones may share the end of a key handshake that was
    /// begun long before, or be the ones by which both sides learn that a tunnel began anew.
    fn calm(&mut self) {
        self.kept.clear();
        let end = self.now + CALM;
        let (mut opened, mut tries) = ([None; 2], [0; 2]);
        let mut has_arrived = [false; 2];
        while has_arrived != [true; 2] {
            assert!(self.now < end, "no stream arrived in a minute of calm: {has_arrived:?}");
            for side in 0..2 {
                let stream = opened[side].map(|id| self.stacks[side].recv(id, &mut [0]));
                let is_over = matches!(stream, Some(Recv::Ended(StreamEnd::Tunnel(_))));
                let is_broken = matches!(stream, Some(Recv::Ended(_))) && !is_over;
                assert!(has_arrived[side] || !is_broken, "a stream ended before it arrived: {stream:?}");
                if stream.is_none() || is_over && !has_arrived[side] {
                    assert!(tries[side] < TRIES_MAX, "{TRIES_MAX} streams in a row did not arrive: {stream:?}");
                    (opened[side], tries[side]) = (Some(self.open(side)), tries[side] + 1);
                }
            }
            self.calm_step(&mut has_arrived);
        }
    }

    fn open(&mut self, side: usize) -> StreamId {
        let now = self.now;
        let peer = self.stacks[side].endpoint().peers().next().expect("one is pinned");
        self.stacks[side].connect_with(now, peer, PORT, vec![side as u8]).expect("trusted")
    }

    /// Delivers everything and lets time go on; notes which streams have arrived.
    fn calm_step(&mut self, has_arrived: &mut [bool; 2]) {
        let (now, mut batch) = (self.now, std::mem::take(&mut self.batch));
        for side in 0..2 {
            while let Some(event) = self.stacks[side].poll_event() {
                let Event::Incoming { stream, .. } = event else { continue };
                self.stacks[side].accepted(stream);
                let mut name = [0];
                // Streams from before the calm carry nothing.
                if matches!(self.stacks[side].recv(stream, &mut name), Recv::Data(1)) {
                    has_arrived[usize::from(name[0])] = true;
                }
            }
            while let Some(transmit) = self.stacks[side].poll_transmit(now, &mut batch) {
                for datagram in batch.chunks_mut(transmit.segment_len) {
                    if transmit.to == underlay(1 - side) {
                        let _ = self.stacks[1 - side].handle_datagram(now, underlay(side), datagram);
                    }
                }
            }
        }
        self.batch = batch;
        self.now = now + Duration::from_millis(20);
        let now = self.now;
        for stack in &mut self.stacks {
            if stack.poll_timeout().is_some_and(|(at, _)| at <= now) {
                stack.handle_timeout(now);
            }
        }
    }
}
