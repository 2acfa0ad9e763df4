//! Owns the world: the hosts, one clock for all of them, and the queue of datagrams under way.

mod cuts;
mod machines;
mod memory;
mod sides;
mod spare;

use crate::books::Books;
use crate::disk::Disk;
use crate::friend::{self, FRIEND_ADDR, Friend, Whereabouts};
use crate::ledger::Ledger;
use crate::liar::Liar;
use crate::nat::{Nat, NatKind};
use crate::network::{Conditions, Network};
use crate::owner::Owner;
use crate::strangers::{Siege, Strangers};
use crate::witness::{self, WITNESS_ADDR, Witness};
use pilot_core::aead::{AeadProvider, PORTABLE};
use pilot_core::endpoint::Event as EndpointEvent;
use pilot_core::identity::{Profile, StaticKey};
use pilot_core::path::Source;
use pilot_core::rng::Rng;
use pilot_core::time::Duration;
use pilot_core::trust::{Terms, TrustBook, TrustVersion};
use pilot_core::{Addr, Config, Identity, Instant, Level, NodeRecord, PeerId, Trace, seen};
use pilot_rendezvous::Rendezvous;
use pilot_stack::{Event, Recv, Stack, StackConfig, StreamId};
use sides::Sides;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;

/// Number of a node in its world.
pub type NodeIndex = usize;

/// Address of the rendezvous.
pub const RENDEZVOUS_ADDR: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(198, 51, 100, 1)), 9000);
/// Address of the relay beside the rendezvous.
pub(crate) const SPARE_ADDR: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(198, 51, 100, 3)), 9000);
/// Where the rendezvous says what it sees, beside its address: on another port, and at another address.
const PROBES: [SocketAddr; 2] = [
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), 9001),
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(198, 51, 100, 2)), 9001),
];
const WALL_AT_ZERO_US: u64 = 1_700_000_000_000_000;
/// Turns without progress in time that count as a spin.
const SPIN_MAX: usize = 200_000;
/// Notes of the nodes' traces that are kept for a scenario that fails.
const NOTES_MAX: usize = 400;

/// True for an address of [`PROBES`].
fn is_probe(addr: SocketAddr) -> bool {
    PROBES.iter().any(|probe| {
        let ip = if probe.ip().is_unspecified() { RENDEZVOUS_ADDR.ip() } else { probe.ip() };
        addr == SocketAddr::new(ip, probe.port())
    })
}

/// One node: the whole pure stack and the events it reported.
pub struct SimNode {
    /// The machine.
    pub stack: Stack,
    /// Events of the machine, oldest first.
    pub events: Vec<Event>,
    /// Inner address of the node's socket.
    pub addr: SocketAddr,
    /// The machine has no network: what it sends and what others send to it is lost.
    pub is_offline: bool,
    nat: Option<Nat>,
    /// The sockets beside the node's own one.
    sides: Sides,
    ledger: Ledger,
    disk: Disk,
    owner: Owner,
    aead: &'static dyn AeadProvider,
    seed: u8,
    incarnation: u8,
    /// How far the machine's clock is ahead of the others'. Unit: seconds.
    ahead_s: i64,
    /// The newest time that the machine has on disk as used. Unit: microseconds since 1970.
    used_us: u64,
}

impl SimNode {
    fn new(stack: Stack, addr: SocketAddr, number: u8, disk: Disk) -> Self {
        Self {
            stack,
            events: Vec::new(),
            addr,
            is_offline: false,
            nat: None,
            sides: Sides::default(),
            ledger: Ledger::default(),
            disk,
            owner: Owner::default(),
            aead: &PORTABLE,
            seed: number,
            incarnation: 0,
            ahead_s: 0,
            used_us: 0,
        }
    }

    /// The disk has synced the trust book with this version.
    fn saved(&mut self, now: Instant, version: TrustVersion) {
        self.stack.endpoint_mut().trust_saved(now, version);
        self.owner.confirm(version);
    }

    /// The inner address of a socket.
    fn addr_of(&mut self, source: Source) -> SocketAddr {
        let port = if source == Source::MAIN { self.addr.port() } else { self.sides.port_of(source) };
        SocketAddr::new(self.addr.ip(), port)
    }

    /// The socket at an inner address.
    fn socket_at(&self, inner: SocketAddr) -> Option<Source> {
        if inner == self.addr {
            return Some(Source::MAIN);
        }
        self.sides.source_at(inner.port()).filter(|_| inner.ip() == self.addr.ip())
    }

    const fn whereabouts(&self) -> Whereabouts {
        Whereabouts { addr: self.addr, incarnation: self.incarnation }
    }
}

/// The simulated world.
pub struct World {
    /// The one clock of all hosts.
    pub now: Instant,
    /// All nodes.
    pub nodes: Vec<SimNode>,
    /// The rendezvous, unless it is down.
    pub rendezvous: Option<Rendezvous>,
    /// What has taken its place, and lies.
    liar: Option<Liar>,
    /// The relay beside the rendezvous, if there is one; it shares nothing with the rendezvous.
    spare: Option<Rendezvous>,
    /// When nodes were last seen to live there.
    homes: BTreeMap<std::net::IpAddr, Instant>,
    ledger: Ledger,
    network: Network,
    /// Pairs of nodes of which the first one's datagrams do not reach the second one straight.
    cuts: BTreeSet<(NodeIndex, NodeIndex)>,
    rng: Rng,
    queue: BTreeMap<(Instant, u64), (SocketAddr, SocketAddr, Vec<u8>)>,
    sequence: u64,
    /// Steps since time last moved.
    turns: usize,
    trace: u64,
    /// The newest notes of all nodes, printed when a scenario fails.
    notes: VecDeque<(Instant, NodeIndex, Trace)>,
    /// Every datagram as it left its host, when recording.
    pub capture: Option<Vec<Vec<u8>>>,
    sizes: StackConfig,
    rendezvous_key: StaticKey,
    books: Books,
    /// Attack every machine that they can reach.
    strangers: Option<Strangers>,
    /// Is served whatever the strangers do.
    witness: Option<Witness>,
    /// A machine that this node trusts, and that it serves whatever others do.
    friend: Option<(NodeIndex, Friend)>,
}

impl World {
    /// Makes a world with a rendezvous and `nodes` nodes without NATs.
    pub fn new(seed: u64, nodes: usize) -> Self {
        Self::with_config(seed, nodes, StackConfig::default())
    }

    /// Makes a world as [`World::new`] does; its stacks have the sizes of `config`.
    pub fn with_config(seed: u64, nodes: usize, sizes: StackConfig) -> Self {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        let mut rng = Rng::new(bytes);
        let identity = Identity::from_seed([200; 32]);
        let (rendezvous_key, books) = (identity.static_key(), Books::default());
        let mut config = Config::new(identity, Rng::entropy(rng.bytes()));
        config.wall_at_zero_us = WALL_AT_ZERO_US;
        let mut rendezvous = Rendezvous::new(config, books.state(), Box::new(books.clone()));
        rendezvous.set_probes(&PROBES);
        let mut world = Self {
            now: Instant::ZERO,
            nodes: Vec::new(),
            rendezvous: Some(rendezvous),
            liar: None,
            spare: None,
            homes: BTreeMap::new(),
            ledger: Ledger::default(),
            network: Network::default(),
            cuts: BTreeSet::new(),
            rng,
            queue: BTreeMap::new(),
            sequence: 0,
            turns: 0,
            trace: 0xcbf2_9ce4_8422_2325,
            notes: VecDeque::new(),
            capture: None,
            sizes,
            rendezvous_key,
            books,
            strangers: None,
            witness: None,
            friend: None,
        };
        (1..=nodes as u8).for_each(|n| world.add_machine(n, SocketAddr::from(([10, 0, n, 1], 4000))));
        world
    }

    fn add_machine(&mut self, number: u8, addr: SocketAddr) {
        let stack = self.make_stack((number, &PORTABLE), 0, TrustBook::default(), (Addr::default(), 0), addr);
        self.nodes.push(SimNode::new(stack, addr, number, Disk::new(&TrustBook::default())));
    }

    fn make_stack(
        &mut self,
        (number, aead): (u8, &'static dyn AeadProvider),
        incarnation: u8,
        trust: TrustBook,
        (address, used_us): (Addr, u64),
        addr: SocketAddr,
    ) -> Stack {
        let mut seed: [u8; 32] = self.rng.bytes();
        seed[0] = incarnation;
        let mut config = Config::new(Identity::from_seed([number; 32]), Rng::entropy(seed));
        config.wall_at_zero_us = WALL_AT_ZERO_US;
        config.profile = Profile { hostname: format!("node-{number}"), ..Profile::default() };
        config.rendezvous = Some((self.rendezvous_key, RENDEZVOUS_ADDR));
        (config.trust, config.aead) = (trust, aead);
        (config.addr, config.used_us) = (address, used_us);
        config.candidates = vec![addr];
        let mut stack = Stack::new(config, self.sizes);
        stack.endpoint_mut().set_trace_level(Some(Level::Debug));
        stack
    }

    // Faults.

    /// Changes what every link does from now on.
    pub fn set_conditions(&mut self, conditions: Conditions) {
        self.network.conditions = conditions;
    }

    /// Loses every datagram that is under way.
    pub fn lose_what_is_under_way(&mut self) {
        self.queue.retain(|_, (from, to, _)| [WITNESS_ADDR, FRIEND_ADDR].iter().any(|safe| from == safe || to == safe));
    }

    /// Puts a node behind a NAT.
    pub fn set_nat(&mut self, node: NodeIndex, kind: NatKind) {
        let public = std::net::IpAddr::from([203, 0, 113, node as u8 + 1]);
        self.nodes[node].nat = Some(Nat::new(kind, public));
    }

    /// Switches a node's NAT off and on.
    pub fn reboot_nat(&mut self, node: NodeIndex) {
        if let Some(nat) = &mut self.nodes[node].nat {
            nat.reboot();
        }
    }

    /// Moves a node to another underlay address, as roaming between networks does, without telling the node.
    pub fn roam(&mut self, node: NodeIndex) {
        let SocketAddr::V4(old) = self.nodes[node].addr else { return };
        let [a, b, c, d] = old.ip().octets();
        self.nodes[node].addr = SocketAddr::from(([a, b, c, d + 1], old.port()));
    }

    /// Moves a node as [`World::roam`] does and tells the node, as its operating system would.
    pub fn roam_knowingly(&mut self, node: NodeIndex) {
        self.roam(node);
        let addr = self.nodes[node].addr;
        self.nodes[node].ledger.give_chance();
        self.nodes[node].stack.endpoint_mut().set_candidates(self.now, vec![addr]);
    }

    /// Kills the process of the rendezvous and starts another with the same books.
    pub fn restart_rendezvous(&mut self) {
        let mut config = Config::new(Identity::from_seed([200; 32]), Rng::entropy(self.rng.bytes()));
        config.wall_at_zero_us = WALL_AT_ZERO_US;
        let mut rendezvous = Rendezvous::new(config, self.books.state(), Box::new(self.books.clone()));
        rendezvous.set_probes(&PROBES);
        rendezvous.handle_timeout(self.now);
        self.rendezvous = Some(rendezvous);
    }

    /// Adds an honest node that registers again and again from now on. Once it was served, it is served within two seconds.
    pub fn add_witness(&mut self) {
        let rendezvous = (self.rendezvous_key, RENDEZVOUS_ADDR);
        self.witness = Some(Witness::new(self.now, rendezvous, WALL_AT_ZERO_US + self.now.as_micros()));
    }

    /// The longest that the witness has waited.
    pub fn witness_waited(&self) -> Duration {
        self.witness.as_ref().map_or(Duration::ZERO, |witness| witness.longest)
    }

    /// Lets strangers attack the rendezvous and all nodes without a NAT.
    pub fn besiege(&mut self, siege: Siege, seed: u64) {
        let open = self.nodes.iter().filter(|node| node.nat.is_none());
        let nodes = open.map(|node| (node.stack.endpoint().identity().static_key(), node.addr));
        let targets = std::iter::once((self.rendezvous_key, RENDEZVOUS_ADDR)).chain(nodes).collect();
        self.strangers = Some(Strangers::new(self.now, siege, seed, targets));
    }

    /// Ends the attack.
    pub fn relieve(&mut self) {
        self.strangers = None;
    }

    /// Nodes that the books of the rendezvous have.
    pub fn nodes_in_books(&self) -> usize {
        self.books.state().len()
    }

    /// Fills the disk of the rendezvous, or makes room there.
    pub fn set_rendezvous_full(&mut self, is_full: bool) {
        self.books.set_full(is_full);
    }

    /// Takes the books of the rendezvous away; its next process begins with none.
    pub fn lose_books(&mut self) {
        self.books.clear();
    }

    /// Starts a copy of a node, with its identity and trust, at another underlay address.
    pub fn copy(&mut self, node: NodeIndex) -> NodeIndex {
        let number = self.nodes[node].seed;
        let addr = SocketAddr::from(([10, 1, number, 1], 4000));
        let endpoint = self.nodes[node].stack.endpoint();
        let (book, address) = (endpoint.trust().emit(), endpoint.addr());
        let trust = || TrustBook::parse(&book).expect("own form");
        let mut stack = self.make_stack((number, &PORTABLE), 99, trust(), (address, 0), addr);
        stack.handle_timeout(self.now);
        let node = SimNode { incarnation: 99, ..SimNode::new(stack, addr, number, Disk::new(&trust())) };
        self.nodes.push(node);
        self.nodes.len() - 1
    }

    /// Ends the process of the node that was made last, without a word.
    pub fn kill_last(&mut self) {
        self.nodes.pop();
    }

    /// Makes a node's disk take a random time for each save of its trust book. Unit: microseconds.
    pub fn set_disk_delay(&mut self, node: NodeIndex, delay_us: std::ops::Range<u64>) {
        self.nodes[node].disk.delay_us = delay_us;
    }

    /// Kills a node's process and starts it again with its identity, its address, and its trust, which is saved first if the
    /// disk takes it.
    pub fn restart(&mut self, node: NodeIndex) {
        let book = self.nodes[node].stack.endpoint().trust().emit();
        let taken = || TrustBook::parse(&book).expect("own form");
        let (trust, used_us) = (self.nodes[node].disk.kill(), self.nodes[node].stack.endpoint().used_us());
        self.boot(node, trust.unwrap_or_else(taken), used_us);
    }

    /// Sets the clock of a node's machine so many seconds ahead of all others', or behind them when negative.
    pub fn set_clock(&mut self, node: NodeIndex, ahead_s: i64) {
        self.nodes[node].ahead_s = ahead_s;
        let wall_us = WALL_AT_ZERO_US.saturating_add_signed(ahead_s * 1_000_000) + self.now.as_micros();
        self.nodes[node].stack.endpoint_mut().set_wall(self.now, wall_us);
    }

    /// Cuts a node's power and starts it again with its identity, its address, and the trust that its disk holds.
    pub fn cut_power(&mut self, node: NodeIndex) {
        let (trust, used_us) = (self.nodes[node].disk.cut_power(), self.nodes[node].used_us);
        self.boot(node, trust, used_us);
    }

    /// Kills a node's process and starts it again with this trust, as from a backup.
    pub fn boot_with(&mut self, node: NodeIndex, trust: TrustBook) {
        let used_us = self.nodes[node].stack.endpoint().used_us();
        self.boot(node, trust, used_us);
    }

    fn boot(&mut self, node: NodeIndex, trust: TrustBook, used_us: u64) {
        let address = self.nodes[node].stack.endpoint().addr();
        let disk = Disk::new(&trust);
        let old = std::mem::replace(&mut self.nodes[node].disk, disk);
        (self.nodes[node].disk.delay_us, self.nodes[node].disk.room) = (old.delay_us, old.room);
        let SimNode { seed, aead, incarnation, addr, .. } = self.nodes[node];
        let incarnation = incarnation + 1;
        self.nodes[node].stack = self.make_stack((seed, aead), incarnation, trust, (address, used_us), addr);
        let started = &mut self.nodes[node];
        started.sides.close_all();
        started.owner.check(started.stack.endpoint().trust());
        self.set_clock(node, self.nodes[node].ahead_s);
        self.nodes[node].stack.handle_timeout(self.now);
        self.nodes[node].incarnation = incarnation;
        self.nodes[node].ledger = Ledger::default();
        self.nodes.iter_mut().for_each(|node| node.ledger.give_chance());
        self.nodes[node].events.clear();
    }

    // Actions of applications and owners.

    /// Returns the peer of `node` that is node `other`.
    pub fn peer(&self, node: NodeIndex, other: NodeIndex) -> PeerId {
        let key = self.nodes[other].stack.endpoint().identity().public();
        self.nodes[node].stack.endpoint().peer_by_identity(&key).expect("they trust each other")
    }

    /// Lets the owner of `a` ask for trust and the owner of `b` approve; both pins stand when this returns.
    pub fn make_friends(&mut self, a: NodeIndex, b: NodeIndex) {
        self.approve_without_an_answer(a, b);
        let friend = self.nodes[b].stack.endpoint().identity().public();
        self.run_until("the answer arrives", |w| w.nodes[a].stack.endpoint().trust().pin(&friend).is_some());
    }

    /// Does the same, and returns when the owner of `b` has approved, of which `a` does not know yet.
    pub fn approve_without_an_answer(&mut self, a: NodeIndex, b: NodeIndex) {
        self.run_until("both are registered", |w| [a, b].iter().all(|n| w.is_registered(*n)));
        let record = self.find(a, b);
        let now = self.now;
        self.nodes[a].stack.endpoint_mut().request_trust(now, &record, &Terms::default()).expect("allowed");
        let asker = self.nodes[a].stack.endpoint().identity().public();
        self.run_until("the request arrives", |w| w.nodes[b].stack.endpoint().trust().pending().count() > 0);
        let now = self.now;
        self.nodes[b].stack.endpoint_mut().approve(now, &asker, &Terms::default()).expect("pending");
    }

    /// Looks a node up by its name. Both must be registered.
    pub fn find(&mut self, a: NodeIndex, b: NodeIndex) -> NodeRecord {
        let query = pilot_core::control::Query::Name(format!("node-{}", b + 1));
        let now = self.now;
        let ticket = self.nodes[a].stack.endpoint_mut().lookup(now, query).expect("connected");
        let mut found = None;
        self.run_until("the name is found", |w| {
            found = w.nodes[a].events.iter().find_map(|e| match e {
                Event::Endpoint(EndpointEvent::Answer(id, Some(pilot_core::control::Answer::Found(record))))
                    if *id == ticket =>
                {
                    NodeRecord::parse(record).ok()
                }
                _ => None,
            });
            found.is_some()
        });
        found.expect("just found")
    }

    /// Tells whether the node has its address.
    pub fn is_registered(&self, node: NodeIndex) -> bool {
        matches!(self.nodes[node].stack.endpoint().directory_state(), pilot_core::endpoint::DirectoryState::Ready(_))
    }

    /// Opens a stream and gives both ends once it stands. `b` must listen on `port`.
    pub fn open(&mut self, a: NodeIndex, b: NodeIndex, port: u16) -> (StreamId, StreamId) {
        self.open_with(a, b, port, &[])
    }

    /// Opens a stream as [`World::open`] does, with early data.
    pub fn open_with(&mut self, a: NodeIndex, b: NodeIndex, port: u16, early: &[u8]) -> (StreamId, StreamId) {
        let (peer, now) = (self.peer(a, b), self.now);
        let ours = self.nodes[a].stack.connect_with(now, peer, port, early.to_vec()).expect("trusted");
        let seen = self.nodes[b].events.len();
        let mut theirs = None;
        self.run_until("the stream stands", |w| {
            // Streams that were opened before may arrive as well.
            let own_port = w.nodes[a].stack.stream_info(ours).map(|info| info.local_port);
            let other = &w.nodes[b];
            theirs = other.events[seen..].iter().find_map(|e| match e {
                Event::Incoming { port: p, stream } if *p == port => Some(*stream)
                    .filter(|stream| own_port == other.stack.stream_info(*stream).map(|info| info.remote_port)),
                _ => None,
            });
            theirs.is_some()
        });
        let theirs = theirs.expect("just seen");
        self.nodes[b].stack.accepted(theirs);
        (ours, theirs)
    }

    /// Sends `total` bytes of a known pattern from one end to the other, checks every byte, and gives the time it took.
    pub fn transfer(
        &mut self,
        (a, from): (NodeIndex, StreamId),
        (b, to): (NodeIndex, StreamId),
        total: usize,
    ) -> Duration {
        let (start, mut sent, mut got) = (self.now, 0, 0);
        let pattern = |i: usize| (i.wrapping_mul(2_654_435_761) >> 13) as u8;
        let mut buffer = vec![0; 64 * 1024];
        self.run_until("the transfer is complete", |w| {
            while sent < total {
                let chunk: Vec<u8> = (sent..total.min(sent + 16 * 1024)).map(pattern).collect();
                let n = w.nodes[a].stack.send(from, &chunk).expect("the stream stands");
                sent += n;
                if n < chunk.len() {
                    break;
                }
            }
            while let Recv::Data(n) = w.nodes[b].stack.recv(to, &mut buffer) {
                for (i, byte) in buffer[..n].iter().enumerate() {
                    assert_eq!(*byte, pattern(got + i), "byte {} is wrong", got + i);
                }
                got += n;
            }
            got == total
        });
        self.now.since(start)
    }

    // Time.

    /// Runs until `done`, which is called after all steps of one moment.
    ///
    /// # Panics
    /// When `done` does not hold within ten simulated minutes, or no timer and no datagram is left.
    pub fn run_until(&mut self, what: &str, mut done: impl FnMut(&mut Self) -> bool) {
        let end = self.now + Duration::from_secs(600);
        loop {
            self.drain();
            if done(self) {
                self.drain();
                return;
            }
            self.drain();
            assert!(self.step(end), "until {what}: nothing happens any more, or 600 s have passed at {:?}", self.now);
        }
    }

    /// Runs for a span of simulated time.
    pub fn run_for(&mut self, span: Duration) {
        let end = self.now + span;
        self.drain();
        while self.step(end) {
            self.drain();
        }
        self.now = end;
    }

    /// Goes to the next arrival or timer; false when there is none within ten minutes.
    pub fn turn(&mut self) -> bool {
        self.drain();
        let has_moved = self.step(self.now + Duration::from_secs(600));
        self.drain();
        has_moved
    }

    /// Goes to the next arrival or timer, if it is not after `end`.
    fn step(&mut self, end: Instant) -> bool {
        let timers = self.nodes.iter().filter_map(|n| n.stack.poll_timeout().map(|(at, _)| at));
        let rendezvous = self.rendezvous.iter().chain(&self.spare).filter_map(|r| r.poll_timeout().map(|(at, _)| at));
        let arrival = self.queue.keys().next().map(|(at, _)| *at);
        let disks = self.nodes.iter().filter_map(|n| n.disk.poll_timeout());
        let strangers = self.strangers.as_ref().and_then(Strangers::poll_timeout);
        let others = strangers.into_iter().chain(self.witness.as_ref().and_then(Witness::poll_timeout));
        let others = others.chain(self.friend.as_ref().and_then(|(_, friend)| friend.poll_timeout()));
        let others = others.chain(self.liar.as_ref().and_then(Liar::poll_timeout));
        let others = others.chain(self.nodes.iter().filter_map(|n| n.next_end(self.now)));
        let Some(next) =
            timers.chain(rendezvous).chain(arrival).chain(disks).chain(others).min().filter(|at| *at <= end)
        else {
            return false;
        };
        if next > self.now {
            self.now = next;
            self.turns = 0;
        } else {
            self.turns += 1;
            assert!(
                self.turns < SPIN_MAX,
                "spins at {:?}: {:?}",
                self.now,
                self.nodes.iter().map(|n| n.stack.poll_timeout()).collect::<Vec<_>>()
            );
        }
        while let Some(entry) = self.queue.first_entry().filter(|e| e.key().0 <= self.now) {
            let (from, to, datagram) = entry.remove();
            self.arrive(from, to, datagram);
        }
        let now = self.now;
        for node in &mut self.nodes {
            while let Some(version) = node.disk.finish(now) {
                node.saved(now, version);
            }
            if node.disk.is_due(now) {
                // A disk without room asks to be tried again.
                node.disk.save(now, node.stack.endpoint().trust(), &mut self.rng);
            }
            node.end_trust(now);
            node.stack.handle_timeout(now);
        }
        self.rendezvous.iter_mut().chain(&mut self.spare).for_each(|rendezvous| rendezvous.handle_timeout(now));
        self.liar.iter_mut().for_each(|liar| liar.handle_timeout(now));
        let wall_us = WALL_AT_ZERO_US + now.as_micros();
        if let Some(witness) = &mut self.witness {
            witness.handle_timeout(now, wall_us, self.rendezvous.is_some() && !self.books.is_full());
        }
        if let Some((of, friend)) = &mut self.friend {
            friend.handle_timeout(now, wall_us, self.nodes[*of].whereabouts());
        }
        self.check_memory();
        true
    }

    fn arrive(&mut self, from: SocketAddr, to: SocketAddr, mut datagram: Vec<u8>) {
        let now = self.now;
        if let Some(witness) = self.witness.as_mut().filter(|_| to == WITNESS_ADDR) {
            return witness.handle_datagram(now, from, &mut datagram);
        }
        if let Some((_, friend)) = self.friend.as_mut().filter(|_| to == FRIEND_ADDR) {
            return friend.handle_datagram(now, from, &mut datagram);
        }
        let is_ear = to == RENDEZVOUS_ADDR || is_probe(to);
        if is_ear && let Some(answer) = seen::answer(&datagram, &from).filter(|_| self.rendezvous.is_some()) {
            return self.launch(to.ip(), to, from, &answer);
        }
        if to == RENDEZVOUS_ADDR {
            if let Some(rendezvous) = &mut self.rendezvous {
                self.ledger.receive(from, datagram.len());
                rendezvous.handle_datagram(now, from, &mut datagram);
            }
            return self.liar.iter_mut().for_each(|liar| liar.handle_datagram(now, from, &mut datagram));
        }
        if to == SPARE_ADDR {
            let spare = self.spare.as_mut();
            return spare.into_iter().for_each(|spare| spare.handle_datagram(now, from, &mut datagram));
        }
        for node in &mut self.nodes {
            let inner = match &mut node.nat {
                Some(nat) if nat.public() == to.ip() => nat.inbound(now, from, to.port()),
                Some(_) => None,
                None => Some(to),
            };
            let socket = inner.and_then(|inner| node.socket_at(inner));
            if let Some(socket) = socket.filter(|_| !node.is_offline) {
                node.ledger.receive(from, datagram.len());
                let author = self.strangers.as_ref().and_then(|strangers| strangers.author(from, &datagram));
                author.into_iter().for_each(|author| node.ledger.receive(author, datagram.len()));
                // The stack counts discards, and tests read its counters.
                let len = datagram.len();
                node.stack.handle_batch_at(now, (from, socket), &mut datagram, len);
                return;
            }
        }
        if let Some(strangers) = &mut self.strangers {
            strangers.receive(from, to, &datagram);
        }
    }

    /// Sends every datagram that the machines have to send.
    fn drain(&mut self) {
        let (mut batch, now) = (Vec::new(), self.now);
        for i in 0..self.nodes.len() {
            self.transmit(i, &mut batch);
            while let Some(event) = self.nodes[i].stack.poll_event() {
                let node = &mut self.nodes[i];
                if let Event::Endpoint(EndpointEvent::SaveTrust(version)) = event
                    && version > node.disk.decided
                {
                    // A disk without room asks to be tried again.
                    node.disk.save(now, node.stack.endpoint().trust(), &mut self.rng);
                    while let Some(version) = node.disk.finish(now) {
                        node.saved(now, version);
                    }
                }
                if let Event::Endpoint(EndpointEvent::SaveTimes(used_us)) = event {
                    // A row of some bytes, for which every reserve has room.
                    node.used_us = used_us;
                }
                node.events.push(event);
            }
            while let Some(note) = self.nodes[i].stack.endpoint_mut().poll_trace() {
                if self.notes.len() >= NOTES_MAX {
                    self.notes.pop_front();
                }
                self.notes.push_back((now, i, note));
            }
            // Handling an event may have made more output.
            self.transmit(i, &mut batch);
            while let Some(closed) = self.nodes[i].stack.endpoint_mut().poll_closed_source() {
                self.nodes[i].sides.close(closed);
            }
        }
        while let Some(transmit) = self.rendezvous.as_mut().and_then(|r| r.poll_transmit(now, &mut batch)) {
            for datagram in batch.chunks(transmit.segment_len) {
                if let Some(rendezvous) = &self.rendezvous {
                    self.ledger.send(now, (transmit.to, false), datagram.len(), rendezvous.endpoint());
                }
                self.launch(RENDEZVOUS_ADDR.ip(), RENDEZVOUS_ADDR, transmit.to, datagram);
            }
        }
        self.transmit_of_spare(&mut batch);
        self.transmit_of_liar(&mut batch);
        while let Some(datagrams) = self.witness.as_mut().and_then(|witness| witness.poll_transmit(now)) {
            datagrams.into_iter().for_each(|d| self.put(now + witness::DELAY, WITNESS_ADDR, RENDEZVOUS_ADDR, d));
        }
        while let Some((to, datagrams)) = self.friend.as_mut().and_then(|(_, friend)| friend.poll_transmit(now)) {
            for datagram in datagrams {
                if let Some(strangers) = &mut self.strangers {
                    strangers.overhear(FRIEND_ADDR, to, &datagram);
                }
                self.put(now + friend::DELAY, FRIEND_ADDR, to, datagram);
            }
        }
        for (at, from, to, datagram) in self.strangers.as_mut().map(|s| s.send(now)).unwrap_or_default() {
            self.put(at, from, to, datagram);
        }
    }

    /// Puts a datagram on its way that nothing happens to.
    fn put(&mut self, at: Instant, from: SocketAddr, to: SocketAddr, datagram: Vec<u8>) {
        self.note(from, to, &datagram);
        self.sequence += 1;
        self.queue.insert((at, self.sequence), (from, to, datagram));
    }

    fn transmit(&mut self, i: NodeIndex, batch: &mut Vec<u8>) {
        let now = self.now;
        while let Some(transmit) = self.nodes[i].stack.poll_transmit(now, batch) {
            let node = &mut self.nodes[i];
            let (inner, to) = (node.addr_of(transmit.source), transmit.to);
            let source = node.nat.as_mut().map_or(inner, |nat| nat.outbound(now, inner, to));
            if self.is_cut(i, to) {
                continue;
            }
            let is_home = self.is_home(to);
            for datagram in batch.chunks(transmit.segment_len) {
                let node = &mut self.nodes[i];
                node.ledger.send(now, (to, is_home), datagram.len(), node.stack.endpoint());
                if node.is_offline {
                    continue;
                }
                self.launch(inner.ip(), source, to, datagram);
            }
        }
    }

    fn launch(&mut self, host: std::net::IpAddr, from: SocketAddr, to: SocketAddr, datagram: &[u8]) {
        if self.witness.is_some() && to == WITNESS_ADDR {
            return self.put(self.now + witness::DELAY, from, to, datagram.to_vec());
        }
        if let Some(strangers) = &mut self.strangers {
            strangers.overhear(from, to, datagram);
        }
        if self.friend.is_some() && to == FRIEND_ADDR {
            return self.put(self.now + friend::DELAY, from, to, datagram.to_vec());
        }
        self.note(from, to, datagram);
        if let Some(capture) = &mut self.capture {
            capture.push(datagram.to_vec());
        }
        for (at, bytes) in self.network.send(self.now, host, datagram, &mut self.rng) {
            self.sequence += 1;
            self.queue.insert((at, self.sequence), (from, to, bytes));
        }
    }

    fn note(&mut self, from: SocketAddr, to: SocketAddr, datagram: &[u8]) {
        let text = format!("{} {from} {to}", self.now.as_micros());
        for byte in text.bytes().chain(datagram.iter().copied()) {
            // FNV-1a
            self.trace = (self.trace ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
        }
    }

    /// Returns a hash over the sender, time and bytes of every datagram.
    pub const fn trace(&self) -> u64 {
        self.trace
    }
}

/// A scenario that fails shows what its nodes decided before.
impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for (at, node, note) in &self.notes {
                println!("{:>12.6} node-{} {note}", at.since(Instant::ZERO).as_secs_f64(), node + 1);
            }
        }
    }
}
