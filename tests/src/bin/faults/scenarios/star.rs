//! Owns a hub and many peers without a rendezvous, on a network that delays and loses nothing.

use super::{MS, PORT};
use pilot_core::Instant;
use pilot_core::aead::PORTABLE;
use pilot_core::time::Duration;
use pilot_node::system::map_rings;
use pilot_stack::{Event, Recv, Stack, StackConfig, StreamId};
use pilot_tests::lab::{star_again, underlay};
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// One-way delay of the network.
const DELAY: Duration = Duration::from_millis(10);
/// Longest time until something that is awaited has come.
const PATIENCE: Duration = Duration::from_secs(120);

/// Datagrams that the socket of a process that stands still keeps; later ones are lost.
const SOCKET_MAX: usize = 256;

/// The hub is stack 0.
pub(crate) struct Star {
    pub(crate) stacks: Vec<Stack>,
    pub(crate) now: Instant,
    queue: BTreeMap<(Instant, u64), (usize, SocketAddr, Vec<u8>)>,
    sequence: u64,
    batch: Vec<u8>,
    /// Streams that came to the hub, and bytes that came back to the others.
    pub(crate) arrived: usize,
    pub(crate) answers: BTreeMap<(usize, StreamId), Instant>,
    echoes: Vec<StreamId>,
    /// The machine whose process stands still, and the datagrams that its socket keeps.
    stopped: Option<usize>,
    kept: Vec<(SocketAddr, Vec<u8>)>,
    /// Steps in time.
    pub(crate) turns: usize,
}

impl Star {
    pub(crate) fn new(others: usize, seed: u64) -> Self {
        let mut stacks = Self::make(others, seed, 0);
        stacks[0].listen(PORT).expect("a new stack");
        let (queue, answers, echoes) = (BTreeMap::new(), BTreeMap::new(), Vec::new());
        Self {
            stacks,
            now: Instant::ZERO,
            queue,
            sequence: 0,
            batch: Vec::new(),
            arrived: 0,
            answers,
            echoes,
            stopped: None,
            kept: Vec::new(),
            turns: 0,
        }
    }

    fn make(others: usize, seed: u64, life: u64) -> Vec<Stack> {
        // As nodes do: a stream costs the pages that it has used.
        let config = StackConfig { ring_len_max: 16 * 1024, ring_memory: map_rings, ..StackConfig::default() };
        let (hub, others) = star_again(&PORTABLE, config, others, seed, life);
        std::iter::once(Stack::new(hub, config)).chain(others).collect()
    }

    /// Gives each of the others a new process with its identity and its trust.
    pub(crate) fn restart_others(&mut self, seed: u64) {
        let fresh = Self::make(self.stacks.len() - 1, seed, 1);
        for (old, new) in self.stacks.iter_mut().zip(fresh).skip(1) {
            *old = new;
        }
        self.queue.clear();
    }

    /// Lets each of the others open a stream to the hub and ask; returns the time until each has its answer.
    pub(crate) fn call_hub(&mut self) -> Duration {
        let start = self.now;
        self.answers.clear();
        for other in 1..self.stacks.len() {
            self.ask(other);
        }
        let wanted = self.stacks.len() - 1;
        self.run_until("each has its answer", |star| star.answers.len() == wanted);
        self.now.since(start)
    }

    /// Opens a stream with a question from a stack that is not the hub.
    pub(crate) fn ask(&mut self, other: usize) -> StreamId {
        let now = self.now;
        // A new process has the time of its own birth behind it.
        self.stacks[other].handle_timeout(now);
        let peer = self.stacks[other].endpoint().peers().next().expect("the hub is pinned");
        self.stacks[other].connect_with(now, peer, PORT, b"question".to_vec()).expect("trusted")
    }

    pub(crate) fn run_until(&mut self, what: &str, mut done: impl FnMut(&mut Self) -> bool) {
        let end = self.now + PATIENCE;
        let mut touched = self.running();
        loop {
            for at in touched.drain(..) {
                self.settle(at);
            }
            if done(self) {
                return;
            }
            assert!(self.step(end, &mut touched), "until {what}: nothing more in {PATIENCE:?}");
        }
    }

    /// Lets time pass.
    pub(crate) fn pass(&mut self, span: Duration) {
        let end = self.now + span;
        let mut touched = self.running();
        loop {
            for at in touched.drain(..) {
                self.settle(at);
            }
            if !self.step(end, &mut touched) {
                break;
            }
        }
        self.now = self.now.max(end);
    }

    /// Stops a machine's process for this time: it hears and does nothing, and finds the oldest datagrams that its socket
    /// could keep afterwards.
    pub(crate) fn stop(&mut self, machine: usize, span: Duration) {
        self.stopped = Some(machine);
        self.pass(span);
        self.stopped = None;
        for (from, datagram) in std::mem::take(&mut self.kept) {
            self.sequence += 1;
            self.queue.insert((self.now, self.sequence), (machine, from, datagram));
        }
    }

    /// Sets the wall clock of a machine.
    pub(crate) fn set_wall(&mut self, machine: usize, wall_us: u64) {
        let now = self.now;
        self.stacks[machine].endpoint_mut().set_wall(now, wall_us);
    }

    fn running(&self) -> Vec<usize> {
        (0..self.stacks.len()).filter(|at| self.stopped != Some(*at)).collect()
    }

    /// Goes on to the next arrival or timer; false when there is none until `end`. Adds the machines that have work.
    fn step(&mut self, end: Instant, touched: &mut Vec<usize>) -> bool {
        let stopped = self.stopped;
        let arrival = self.queue.keys().next().map(|(at, _)| *at);
        let timers = self.stacks.iter().enumerate().filter(|(i, _)| stopped != Some(*i));
        let timer = timers.filter_map(|(_, stack)| stack.poll_timeout()).map(|(at, _)| at).min();
        let Some(next) = arrival.into_iter().chain(timer).min().filter(|next| *next <= end) else { return false };
        self.turns += 1;
        // Rounding up to a millisecond lets one pass over the timers serve many peers.
        self.now = self.now.max(next) + MS;
        while let Some(entry) = self.queue.first_entry().filter(|entry| entry.key().0 <= self.now) {
            let (to, from, mut datagram) = entry.remove();
            if stopped == Some(to) {
                if self.kept.len() < SOCKET_MAX {
                    self.kept.push((from, datagram));
                }
                continue;
            }
            // The stack counts what it discards.
            let _ = self.stacks[to].handle_datagram(self.now, from, &mut datagram);
            touched.push(to);
        }
        for (i, stack) in self.stacks.iter_mut().enumerate().filter(|(i, _)| stopped != Some(*i)) {
            if stack.poll_timeout().is_some_and(|(at, _)| at <= self.now) {
                stack.handle_timeout(self.now);
                touched.push(i);
            }
        }
        touched.sort_unstable();
        touched.dedup();
        true
    }

    /// Handles the events of one stack and sends what it has to send.
    fn settle(&mut self, at: usize) {
        let (now, mut batch) = (self.now, std::mem::take(&mut self.batch));
        loop {
            while let Some(event) = self.stacks[at].poll_event() {
                self.handle(at, event);
            }
            let Some(transmit) = self.stacks[at].poll_transmit(now, &mut batch) else { break };
            let to = (0..self.stacks.len()).find(|to| underlay(*to) == transmit.to);
            for datagram in batch.chunks(transmit.segment_len) {
                if let Some(to) = to {
                    self.sequence += 1;
                    self.queue.insert((now + DELAY, self.sequence), (to, underlay(at), datagram.to_vec()));
                }
            }
        }
        self.batch = batch;
    }

    /// The hub answers each question on its stream; the others note when their answer came.
    fn handle(&mut self, at: usize, event: Event) {
        let stack = &mut self.stacks[at];
        let mut buffer = [0; 1024];
        match event {
            Event::Incoming { stream, .. } if at == 0 => {
                stack.accepted(stream);
                self.arrived += 1;
                self.echoes.push(stream);
                self.answer(stream);
            }
            Event::Stream(stream) if at == 0 => self.answer(stream),
            Event::Stream(stream) => {
                if matches!(stack.recv(stream, &mut buffer), Recv::Data(_)) {
                    self.answers.insert((at, stream), self.now);
                }
            }
            _ => {}
        }
    }

    fn answer(&mut self, stream: StreamId) {
        let mut buffer = [0; 1024];
        while let Recv::Data(n) = self.stacks[0].recv(stream, &mut buffer) {
            // A stream that broke meanwhile takes no answer.
            let _ = self.stacks[0].send(stream, &buffer[..n]);
        }
    }

    /// Closes every stream on all sides and runs until none is left.
    pub(crate) fn close_all(&mut self) {
        let now = self.now;
        for stack in &mut self.stacks {
            let streams: Vec<StreamId> = stack.streams().collect();
            streams.into_iter().for_each(|stream| stack.close(now, stream));
        }
        self.run_until("every stream is given back", |star| star.stacks.iter().all(|s| s.streams().count() == 0));
    }
}
