//! Nodes for the tests of rooms: each is a [`Context`] with a stack of its own. They are joined in memory and live in virtual
//! time, with neither socket nor disk. A test plays the event loop: it hands events to the rooms, and reads their effects.

use crate::call::Calls;
use crate::config::Config;
use crate::context::Context;
use crate::disk::job::Job;
use crate::effect::{Caller, Effect, Ticket};
use crate::failure::{Code, Failure};
use crate::ipc::client_id::{ClientId, RequestNumber};
use pilot_core::endpoint::DirectoryState;
use pilot_core::identity::{IdentityKey, NodeRecord, Profile};
use pilot_core::path::Source;
use pilot_core::rng::Rng;
use pilot_core::time::Duration;
use pilot_core::trust::{Me, Ports, Terms, TrustBook};
use pilot_core::{Addr, Identity, Instant, seen};
use pilot_rendezvous::{NoJournal, Rendezvous, State};
use pilot_stack::{Event, Stack, StackConfig};
use serde::Serialize;
use serde_json::Value;
use std::net::SocketAddr;

/// The wall clock of every node. Unit: seconds since 1970.
pub(crate) const WALL_S: u64 = 1_700_000_000;
/// Simulated time of one step.
pub(crate) const STEP: Duration = Duration::from_millis(5);
/// Steps after which a test that waits has failed: 50 s.
const STEPS_MAX: usize = 10_000;
/// The underlay port of the rendezvous; node `n` has port `FIRST_PORT + n`.
const RENDEZVOUS_PORT: u16 = 3000;
const FIRST_PORT: u16 = 4000;
/// Where the rendezvous says what it sees, beside its own port.
const PROBE_PORT: u16 = RENDEZVOUS_PORT + 1;
/// The lowest port of routers.
const FIRST_OUTER_PORT: u16 = 10_000;

/// Nodes `node-0`, `node-1`, … on one underlay.
pub(crate) struct Lab {
    pub(crate) nodes: Vec<Context>,
    pub(crate) rendezvous: Option<Rendezvous>,
    /// Datagrams are lost.
    pub(crate) is_cut: bool,
    now: Instant,
    /// Each node is behind a router of its own.
    routers: Option<Routers>,
}

/// Routers that give every flow to the rendezvous another port, which cannot be predicted, and let nothing in that was not asked for.
#[derive(Default)]
struct Routers {
    /// The node, its socket and the port of the rendezvous; and the outer port.
    flows: Vec<((usize, Source, u16), u16)>,
}

impl Routers {
    /// The outer port of a flow.
    fn outer(&mut self, flow: (usize, Source, u16)) -> u16 {
        if let Some((_, outer)) = self.flows.iter().find(|(known, _)| *known == flow) {
            return *outer;
        }
        // Far from each other, and none twice: the step has no divisor of the range.
        let outer = FIRST_OUTER_PORT + (self.flows.len() * 7919 % 50_000) as u16;
        self.flows.push((flow, outer));
        outer
    }

    /// The node and the socket behind an outer port, for what comes from this port of the rendezvous.
    fn inner(&self, outer: u16, from: u16) -> Option<(usize, Source)> {
        let ((node, socket, to), _) = self.flows.iter().find(|(_, known)| *known == outer)?;
        (*to == from).then_some((*node, *socket))
    }
}

fn underlay(port: u16) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1], port))
}

pub(crate) fn identity(node: usize) -> Identity {
    Identity::from_seed([node as u8 + 1; 32])
}

pub(crate) fn key(node: usize) -> IdentityKey {
    identity(node).public()
}

fn name(node: usize) -> String {
    format!("node-{node}")
}

fn core_config(node: usize, trust: TrustBook) -> pilot_core::Config {
    let mut core = pilot_core::Config::new(identity(node), Rng::entropy([node as u8 + 100; 32]));
    core.wall_at_zero_us = WALL_S * 1_000_000;
    core.profile = Profile { hostname: name(node), ..Profile::default() };
    core.candidates = vec![underlay(FIRST_PORT + node as u16)];
    core.trust = trust;
    core
}

fn record(node: usize) -> NodeRecord {
    let profile = Profile { hostname: name(node), ..Profile::default() };
    NodeRecord::sign(&identity(node), addr(node), &profile, 1)
}

/// The trust books of nodes that all trust node 0 and are trusted by it, for all ports; with `met`, no first session is to
/// come.
fn books(nodes: usize, met: bool) -> Vec<TrustBook> {
    let (mut rng, terms) = (Rng::new([9; 32]), Terms { ports: Ports::All, ..Terms::default() });
    let (hub, hub_record) = (identity(0), record(0));
    let hub_bytes = hub_record.emit();
    let mut books = vec![TrustBook::default()];
    for node in 1..nodes {
        let (own, own_record, mut book) = (identity(node), record(node), TrustBook::default());
        let bytes = own_record.emit();
        let hub_me = Me { identity: &hub, record: &hub_bytes, now_s: WALL_S, common_s: WALL_S };
        let me = Me { identity: &own, record: &bytes, now_s: WALL_S, common_s: WALL_S };
        let request = books[0].request(&hub_me, &own_record, &terms, &mut rng).expect("allowed");
        book.receive(&me, &request, None);
        let accept = book.approve(&me, &hub.public(), &terms, &mut rng).expect("pending");
        books[0].receive(&hub_me, &accept, None);
        books[0].note_endpoint(&own.public(), underlay(FIRST_PORT + node as u16));
        book.note_endpoint(&hub.public(), underlay(FIRST_PORT));
        if met {
            let kem = rng.bytes();
            book.set_kem(&hub.public(), &kem);
            books[0].set_kem(&own.public(), &kem);
        }
        books.push(book);
    }
    books
}

/// The record of a node that is in no lab.
pub(crate) fn record_of_stranger(number: u32) -> NodeRecord {
    let mut seed = [0xee; 32];
    seed[..4].copy_from_slice(&number.to_le_bytes());
    NodeRecord::sign(&Identity::from_seed(seed), Addr::new(0, 1000 + number), &Profile::default(), 1)
}

/// The address of a node of [`Lab::friends`].
pub(crate) fn addr(node: usize) -> Addr {
    Addr::new(0, node as u32 + 1)
}

/// The context of a node with this configuration.
fn context(core: pilot_core::Config) -> Context {
    let sizes = StackConfig { ring_len_max: 256 << 10, ..StackConfig::default() };
    Context::new(Stack::new(core, sizes), || WALL_S, Calls::default(), Config::new("/nowhere"))
}

impl Lab {
    /// One node that trusts no other and has no rendezvous.
    pub(crate) fn alone() -> Self {
        let nodes = vec![context(core_config(0, TrustBook::default()))];
        Self { nodes, rendezvous: None, is_cut: false, now: Instant::ZERO, routers: None }
    }

    /// Nodes that all trust node 0 and are trusted by it, for all ports; without a rendezvous.
    pub(crate) fn friends(nodes: usize) -> Self {
        Self::of(books(nodes, true))
    }

    /// Two nodes that trust each other, of which the first knows a former address of the second.
    pub(crate) fn misplaced() -> Self {
        let mut books = books(2, true);
        books[0].note_endpoint(&key(1), underlay(FIRST_PORT - 1));
        Self::of(books)
    }

    /// The same nodes after a power cut that left what `saved` holds of the first one's trust book.
    pub(crate) fn after_power_cut(saved: &[u8]) -> Self {
        let mut books = books(2, true);
        books[0] = TrustBook::parse(saved).expect("a book");
        Self::of(books)
    }

    /// Two nodes that trust each other and have not met.
    pub(crate) fn unmet() -> Self {
        Self::of(books(2, false))
    }

    /// Two nodes, of which the second has nothing but its identity left, and has asked the first, which trusts it, anew.
    pub(crate) fn asked_anew() -> Self {
        let (mut books, mut rng) = (books(2, true), Rng::new([8; 32]));
        let (now_s, owners, records) = (WALL_S + 1, [0, 1].map(identity), [0, 1].map(record));
        let bytes = [0, 1].map(|node| records[node].emit());
        let me = |node: usize| Me { identity: &owners[node], record: &bytes[node], now_s, common_s: now_s };
        books[1] = TrustBook::default();
        let request = books[1].request(&me(1), &records[0], &Terms::default(), &mut rng).expect("allowed");
        books[0].receive(&me(0), &request, None);
        Self::of(books)
    }

    fn of(books: Vec<TrustBook>) -> Self {
        let make = |(node, book)| {
            let mut core = core_config(node, book);
            core.addr = addr(node);
            context(core)
        };
        Self { nodes: books.into_iter().enumerate().map(make).collect(), ..Self::alone() }
    }

    /// Nodes that trust no other, and are registered with a rendezvous.
    pub(crate) fn strangers(nodes: usize) -> Self {
        Self::served((0..nodes).map(|_| TrustBook::default()).collect(), None)
    }

    /// Two nodes that trust each other and are registered with a rendezvous, behind routers that let no direct path come about.
    pub(crate) fn apart() -> Self {
        Self::served(books(2, true), Some(Routers::default()))
    }

    fn served(books: Vec<TrustBook>, routers: Option<Routers>) -> Self {
        let identity = Identity::from_seed([200; 32]);
        let key = identity.static_key();
        let mut config = pilot_core::Config::new(identity, Rng::entropy([7; 32]));
        config.wall_at_zero_us = WALL_S * 1_000_000;
        let make = |(node, book)| {
            let mut core = core_config(node, book);
            core.rendezvous = Some((key, underlay(RENDEZVOUS_PORT)));
            context(core)
        };
        let mut rendezvous = Rendezvous::new(config, State::default(), Box::new(NoJournal));
        if routers.is_some() {
            rendezvous.set_probes(&[SocketAddr::from(([0; 4], PROBE_PORT))]);
        }
        let nodes = books.into_iter().enumerate().map(make).collect();
        let mut lab = Self { nodes, rendezvous: Some(rendezvous), routers, ..Self::alone() };
        let is_ready = |cx: &Context| matches!(cx.stack.endpoint().directory_state(), DirectoryState::Ready(_));
        lab.run_until(|lab| lab.nodes.iter().all(is_ready));
        lab.nodes.iter_mut().for_each(|cx| while cx.stack.poll_event().is_some() {});
        lab
    }

    /// Delivers the datagrams that every machine has to send, then lets time pass.
    pub(crate) fn step(&mut self) {
        let (now, mut batch) = (self.now, Vec::new());
        if let Some(rendezvous) = &mut self.rendezvous {
            rendezvous.handle_timeout(now);
            while let Some(transmit) = rendezvous.poll_transmit(now, &mut batch) {
                let (from, to) = (underlay(RENDEZVOUS_PORT), transmit.to.port());
                let (node, socket) = match &self.routers {
                    Some(routers) => routers.inner(to, RENDEZVOUS_PORT).expect("it was asked from there"),
                    None => (usize::from(to - FIRST_PORT), Source::MAIN),
                };
                if !self.is_cut {
                    self.nodes[node].stack.handle_batch_at(now, (from, socket), &mut batch, transmit.segment_len);
                }
            }
        }
        for node in 0..self.nodes.len() {
            self.nodes[node].now = now;
            self.nodes[node].stack.handle_timeout(now);
            while let Some(transmit) = self.nodes[node].stack.poll_transmit(now, &mut batch) {
                if !self.is_cut {
                    self.deliver((node, transmit.source), transmit.to.port(), &mut batch, transmit.segment_len);
                }
            }
        }
        self.now = now + STEP;
        self.nodes.iter_mut().for_each(|cx| cx.now = now + STEP);
    }

    fn deliver(&mut self, (node, socket): (usize, Source), to: u16, batch: &mut [u8], segment_len: usize) {
        let mut from = underlay(FIRST_PORT + node as u16);
        if let Some(routers) = &mut self.routers {
            if ![RENDEZVOUS_PORT, PROBE_PORT].contains(&to) {
                return;
            }
            from = underlay(routers.outer((node, socket, to)));
            if let Some(mut answer) = seen::answer(batch, &from) {
                self.nodes[node].stack.handle_batch_at(self.now, (underlay(to), socket), &mut answer, segment_len);
                return;
            }
        }
        match &mut self.rendezvous {
            Some(rendezvous) if to == RENDEZVOUS_PORT => {
                batch.chunks_mut(segment_len).for_each(|datagram| rendezvous.handle_datagram(self.now, from, datagram));
            }
            _ => {
                let node = usize::from(to.wrapping_sub(FIRST_PORT));
                if let Some(cx) = self.nodes.get_mut(node) {
                    cx.stack.handle_batch(self.now, from, batch, segment_len);
                }
            }
        }
    }

    /// Lets time pass until `is_done`.
    pub(crate) fn run_until(&mut self, mut is_done: impl FnMut(&mut Self) -> bool) {
        for _ in 0..STEPS_MAX {
            if is_done(self) {
                return;
            }
            self.step();
        }
        panic!("nothing more happens after {:?}", self.now);
    }

    /// Lets time pass until `take` accepts an event of a node. The events before are lost.
    pub(crate) fn event<R>(&mut self, node: usize, mut take: impl FnMut(&mut Context, Event) -> Option<R>) -> R {
        let mut found = None;
        self.run_until(|lab| {
            let cx = &mut lab.nodes[node];
            while found.is_none()
                && let Some(event) = cx.stack.poll_event()
            {
                found = take(cx, event);
            }
            found.is_some()
        });
        found.expect("found above")
    }
}

/// A client of the node's socket, under request `number`.
pub(crate) fn caller(number: u32) -> Caller {
    Caller::Client(ClientId(1), RequestNumber(number))
}

/// An answer or event as JSON.
pub(crate) fn json(value: &impl Serialize) -> Value {
    serde_json::to_value(value).expect("answers and events are JSON")
}

impl Context {
    /// Takes the effects.
    pub(crate) fn effects(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.out)
    }

    /// Takes the answers among the effects as JSON, by the number of the request. The other effects stay.
    pub(crate) fn answers(&mut self) -> Vec<(u32, Result<Value, Failure>)> {
        let (replies, others) = self.effects().into_iter().partition(|effect| matches!(effect, Effect::Reply(..)));
        self.out = others;
        let of = |effect| match effect {
            Effect::Reply(Caller::Client(_, number), answer) => (number.0, answer.map(|(data, _)| json(&data))),
            other => panic!("{other:?}"),
        };
        Vec::into_iter(replies).map(of).collect()
    }

    /// Takes the only answer, which is to request 1.
    pub(crate) fn answer_of_one(&mut self) -> Result<Value, Failure> {
        let mut answers = self.answers();
        assert_eq!((answers.len(), answers[0].0), (1, 1));
        answers.remove(0).1
    }

    /// Takes the code of the only failure, which is the answer to request 1.
    pub(crate) fn failure_of_one(&mut self) -> Code {
        self.answer_of_one().expect_err("a failure").code
    }

    /// Takes the jobs for the disk among the effects. The other effects stay.
    pub(crate) fn jobs(&mut self) -> Vec<(Job, Ticket)> {
        let (jobs, others) = self.effects().into_iter().partition(|effect| matches!(effect, Effect::Submit(..)));
        self.out = others;
        let of = |effect| match effect {
            Effect::Submit(job, ticket) => (job, ticket),
            other => panic!("{other:?}"),
        };
        Vec::into_iter(jobs).map(of).collect()
    }
}
