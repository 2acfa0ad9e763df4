//! What a node costs its network while its peers rest: a thousand of them, half of which it reaches by the relay alone.
#![allow(clippy::unwrap_used, reason = "tests")]

use pilot_core::aead::PORTABLE;
use pilot_core::endpoint::DirectoryState;
use pilot_core::path::PathAddr;
use pilot_core::rng::Rng;
use pilot_core::time::Duration;
use pilot_core::{Config, Identity, Instant, PeerId};
use pilot_rendezvous::{NoJournal, Rendezvous, State};
use pilot_stack::{Event, Recv, Stack, StackConfig, StreamId};
use pilot_tests::lab::{star, underlay};
use pilot_tests::{RENDEZVOUS_ADDR, seed};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

/// Peers of the node. Source: `docs/paths.md`, "Times to reach".
const PEERS: usize = 1000;
/// Time that they rest: beyond the life of their keys and of every pause that is counted in minutes.
const REST: Duration = Duration::from_secs(900);
/// Time in which what was under way at the end of the use is acknowledged, and rounds of probes end.
const SETTLE: Duration = Duration::from_secs(30);
/// One way through the network.
const DELAY: Duration = Duration::from_millis(10);
/// Rounding of time, so that one look at the timers serves many peers.
const STEP: Duration = Duration::from_millis(1);
const PORT: u16 = 1000;
/// First byte of a relayed datagram.
const RELAY: u8 = 5;

/// What the node has sent. Unit: datagrams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sent {
    to_peers: usize,
    /// To the rendezvous itself: what keeps the registration and the NAT's mapping.
    to_rendezvous: usize,
}

/// A node (number 0), its peers, and their rendezvous.
struct Crowd {
    stacks: Vec<Stack>,
    /// When each of them has something to do next, as of its newest turn.
    due: Vec<Option<Instant>>,
    rendezvous: Rendezvous,
    now: Instant,
    queue: BTreeMap<(Instant, u64), (SocketAddr, SocketAddr, Vec<u8>)>,
    sequence: u64,
    sent: Sent,
    /// Streams that have arrived.
    arrived: usize,
}

impl Crowd {
    fn new(seed: u64) -> Self {
        println!("seed {seed}");
        let (node, peers) = star(&PORTABLE, StackConfig::default(), PEERS, seed);
        let mut stacks = vec![Stack::new(node, StackConfig::default())];
        stacks.extend(peers);
        stacks[0].listen(PORT).unwrap();
        let identity = Identity::from_seed([200; 32]);
        let key = identity.static_key();
        let mut config = Config::new(identity, Rng::entropy([7; 32]));
        config.wall_at_zero_us = 1_000_000; // as the clocks of the others
        let rendezvous = Rendezvous::new(config, State::default(), Box::new(NoJournal));
        for (number, stack) in stacks.iter_mut().enumerate() {
            stack.endpoint_mut().set_candidates(Instant::ZERO, vec![underlay(number)]);
            stack.endpoint_mut().set_rendezvous(Instant::ZERO, key, RENDEZVOUS_ADDR);
        }
        let due = vec![None; stacks.len()];
        let (queue, sent) = (BTreeMap::new(), Sent::default());
        Self { stacks, due, rendezvous, now: Instant::ZERO, queue, sequence: 0, sent, arrived: 0 }
    }

    /// The peers that the node cannot reach straight.
    const fn is_relayed(number: usize) -> bool {
        number % 2 == 1
    }

    fn number_at(&self, addr: SocketAddr) -> Option<usize> {
        let number = usize::from(addr.port().checked_sub(underlay(0).port())?);
        (number < self.stacks.len() && underlay(number) == addr).then_some(number)
    }

    fn run_until(&mut self, what: &str, span: Duration, mut done: impl FnMut(&Self) -> bool) {
        let end = self.now + span;
        let mut touched: BTreeSet<usize> = (0..self.stacks.len()).collect();
        loop {
            std::mem::take(&mut touched).into_iter().for_each(|number| self.settle(number));
            self.settle_rendezvous();
            if done(self) {
                return;
            }
            assert!(self.step(end, &mut touched), "until {what}: {span:?} have passed");
        }
    }

    fn run_for(&mut self, span: Duration) {
        let end = self.now + span;
        let mut touched = BTreeSet::new();
        while self.step(end, &mut touched) {
            std::mem::take(&mut touched).into_iter().for_each(|number| self.settle(number));
            self.settle_rendezvous();
        }
        self.now = end;
    }

    /// Goes on to the next arrival or timer; false when there is none until `end`. Adds the machines that have work.
    fn step(&mut self, end: Instant, touched: &mut BTreeSet<usize>) -> bool {
        let timers = self.due.iter().flatten().copied();
        let others = self.rendezvous.poll_timeout().map(|(at, _)| at).into_iter();
        let arrival = self.queue.keys().next().map(|(at, _)| *at).into_iter();
        let Some(next) = timers.chain(others).chain(arrival).min().filter(|next| *next <= end) else { return false };
        self.now = self.now.max(next) + STEP;
        while let Some(entry) = self.queue.first_entry().filter(|entry| entry.key().0 <= self.now) {
            let (from, to, mut datagram) = entry.remove();
            match self.number_at(to) {
                _ if to == RENDEZVOUS_ADDR => self.rendezvous.handle_datagram(self.now, from, &mut datagram),
                Some(number) => {
                    // The stack counts what it discards.
                    let _ = self.stacks[number].handle_datagram(self.now, from, &mut datagram);
                    touched.insert(number);
                }
                None => {}
            }
        }
        for (number, due) in self.due.iter().enumerate() {
            if due.is_some_and(|at| at <= self.now) {
                self.stacks[number].handle_timeout(self.now);
                touched.insert(number);
            }
        }
        self.rendezvous.handle_timeout(self.now);
        true
    }

    /// Handles the events of a node and sends what it has to send.
    fn settle(&mut self, number: usize) {
        let (now, mut batch) = (self.now, Vec::new());
        loop {
            while let Some(event) = self.stacks[number].poll_event() {
                if let Event::Incoming { stream, .. } = event {
                    self.stacks[number].accepted(stream);
                    assert!(matches!(self.stacks[number].recv(stream, &mut [0; 64]), Recv::Data(1)));
                    self.arrived += 1;
                }
            }
            let Some(transmit) = self.stacks[number].poll_transmit(now, &mut batch) else { break };
            for datagram in batch.chunks(transmit.segment_len) {
                if number == 0 {
                    let is_its = transmit.to == RENDEZVOUS_ADDR && datagram[0] != RELAY;
                    *(if is_its { &mut self.sent.to_rendezvous } else { &mut self.sent.to_peers }) += 1;
                }
                self.launch(underlay(number), transmit.to, datagram);
            }
        }
        self.due[number] = self.stacks[number].poll_timeout().map(|(at, _)| at);
    }

    fn settle_rendezvous(&mut self) {
        let mut batch = Vec::new();
        while let Some(transmit) = self.rendezvous.poll_transmit(self.now, &mut batch) {
            for datagram in batch.chunks(transmit.segment_len) {
                self.launch(RENDEZVOUS_ADDR, transmit.to, datagram);
            }
        }
    }

    fn launch(&mut self, from: SocketAddr, to: SocketAddr, datagram: &[u8]) {
        let ends = [self.number_at(from), self.number_at(to)];
        if let [Some(a), Some(b)] = ends
            && Self::is_relayed(a.max(b))
        {
            return;
        }
        self.sequence += 1;
        self.queue.insert((self.now + DELAY, self.sequence), (from, to, datagram.to_vec()));
    }

    /// The nodes that a node trusts.
    fn friends(&self, number: usize) -> Vec<PeerId> {
        let endpoint = self.stacks[number].endpoint();
        endpoint.trust().pins().map(|pin| endpoint.peer_by_identity(&pin.identity).unwrap()).collect()
    }

    /// Every peer opens a stream to the node with a byte on it, and all streams are closed once all have arrived.
    fn use_all(&mut self) {
        let now = self.now;
        for number in 1..self.stacks.len() {
            let node = self.friends(number)[0];
            self.stacks[number].connect_with(now, node, PORT, b"?".to_vec()).unwrap();
        }
        let wanted = self.arrived + PEERS;
        self.run_until("all streams have arrived", Duration::from_secs(120), |crowd| crowd.arrived == wanted);
        // Paths are found meanwhile.
        self.run_for(Duration::from_secs(10));
        let now = self.now;
        for stack in &mut self.stacks {
            let streams: Vec<StreamId> = stack.streams().collect();
            streams.into_iter().for_each(|stream| stack.close(now, stream));
        }
        let is_over = |crowd: &Self| crowd.stacks.iter().all(|stack| stack.streams().count() == 0);
        self.run_until("all streams are over", Duration::from_secs(60), is_over);
    }
}

#[test]
fn a_thousand_peers_that_rest_cost_at_most_a_packet_in_a_second() {
    let mut crowd = Crowd::new(seed(1));
    let is_ready = |stack: &Stack| matches!(stack.endpoint().directory_state(), DirectoryState::Ready(_));
    crowd.run_until("all are registered", Duration::from_secs(120), |crowd| crowd.stacks.iter().all(is_ready));
    crowd.use_all();
    let endpoint = crowd.stacks[0].endpoint();
    let path = |peer| endpoint.peer_info(crowd.now, peer).and_then(|info| info.path);
    let paths: Vec<Option<PathAddr>> = crowd.friends(0).into_iter().map(path).collect();
    let relayed = paths.iter().filter(|path| matches!(path, Some(PathAddr::Relay(_)))).count();
    let direct = paths.iter().filter(|path| path.is_some_and(PathAddr::is_direct)).count();
    // A thousand that begin at once wait for the budget of probes.
    assert!(relayed + direct == PEERS && direct >= PEERS / 2 * 9 / 10, "{relayed} relayed, {direct} direct");
    println!("in use: {:?}", crowd.sent);
    assert!(crowd.sent.to_peers > PEERS, "what is sent is counted: {:?}", crowd.sent);
    crowd.run_for(SETTLE);
    crowd.sent = Sent::default();
    crowd.run_for(REST);
    println!("at rest for {REST:?}: {:?}", crowd.sent);
    assert!(crowd.sent.to_peers as u64 <= REST.as_secs(), "{:?} in {REST:?}", crowd.sent);
    assert!(crowd.sent.to_rendezvous as u64 <= REST.as_secs() / 10, "{:?} in {REST:?}", crowd.sent);
    // All are reached again.
    crowd.use_all();
}
