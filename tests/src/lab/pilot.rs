//! Owns our own stack as a [`Host`], with the applications that the scenarios need.

use super::Host;
use pilot_core::aead::{AeadKey, AeadProvider, TAG_LEN};
use pilot_core::identity::Profile;
use pilot_core::rng::Rng;
use pilot_core::time::{Duration, earliest};
use pilot_core::trust::{Me, Terms, TrustBook};
use pilot_core::{Addr, Config, Identity, Instant, NodeRecord};
use pilot_stack::{Event, Recv, Stack, StackConfig, StreamId};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

/// Port that reads and drops every byte.
const SINK_PORT: u16 = 1000;
/// Port that sends every byte back.
const ECHO_PORT: u16 = 1001;
/// Length of a request and of its answer. Unit: bytes.
const REQUEST_LEN: usize = 200;
/// Pause between an answer and the next request.
const REQUEST_PAUSE: Duration = Duration::from_millis(23);

/// A cipher for simulations only: it hides nothing, and its tag is the counter. The lab measures a path, and billions of
/// bytes of real ciphertext would only take time.
pub struct Transparent;

/// The only value of [`Transparent`].
pub static TRANSPARENT: Transparent = Transparent;

struct TransparentKey;

impl AeadProvider for Transparent {
    fn key(&self, _: &[u8; 32]) -> Box<dyn AeadKey> {
        Box::new(TransparentKey)
    }
    fn name(&self) -> &'static str {
        "transparent (simulation)"
    }
}

impl AeadKey for TransparentKey {
    fn seal(&self, counter: u64, _: &[u8], buf: &mut [u8]) {
        let (_, tag) = buf.split_last_chunk_mut::<TAG_LEN>().expect("callers leave room for the tag");
        tag[..8].copy_from_slice(&counter.to_le_bytes());
    }
    fn open(&self, counter: u64, _: &[u8], buf: &mut [u8]) -> bool {
        buf.split_last_chunk::<TAG_LEN>().is_some_and(|(_, tag)| tag[..8] == counter.to_le_bytes())
    }
}

/// Returns the underlay address of one side of [`befriended`], or of one stack of [`star`] (0: the hub).
pub fn underlay(number: usize) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1], 4000 + number as u16))
}

/// Makes two stacks that trust each other and know each other's address, without a rendezvous.
///
/// # Panics
/// When trust cannot be made, which would be a bug.
pub fn befriended(aead: &'static dyn AeadProvider, config: StackConfig, seed: u64) -> [Stack; 2] {
    let (hub, mut others) = star(aead, config, 1, seed);
    [Stack::new(hub, config), others.remove(0)]
}

/// Makes a hub and `count` other stacks: the hub, returned as its configuration, trusts and knows the others, and each of
/// them trusts the hub alone.
///
/// # Panics
/// When trust cannot be made, which would be a bug.
pub fn star(aead: &'static dyn AeadProvider, config: StackConfig, count: usize, seed: u64) -> (Config, Vec<Stack>) {
    star_again(aead, config, count, seed, 0)
}

/// The machines of [`star`] with their identities and trust, as other processes for every `life`: what a process draws for
/// itself differs.
///
/// # Panics
/// When trust cannot be made, which would be a bug.
pub fn star_again(
    aead: &'static dyn AeadProvider,
    config: StackConfig,
    count: usize,
    seed: u64,
    life: u64,
) -> (Config, Vec<Stack>) {
    let mut bytes = [9; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let mut rng = Rng::new(bytes);
    let identity = |number: usize| {
        let mut seed = [1; 32];
        seed[..8].copy_from_slice(&(number as u64).to_le_bytes());
        Identity::from_seed(seed)
    };
    let sign =
        |number: usize| NodeRecord::sign(&identity(number), Addr::new(0, 1 + number as u32), &Profile::default(), 1);
    let make = |number: usize, trust: TrustBook, rng: &mut Rng| {
        let mut drawn: [u8; 32] = rng.bytes();
        drawn.iter_mut().zip(life.to_le_bytes()).for_each(|(byte, life)| *byte ^= life);
        let mut core = Config::new(identity(number), Rng::entropy(drawn));
        core.aead = aead;
        core.addr = Addr::new(0, 1 + number as u32);
        core.wall_at_zero_us = 1_000_000;
        core.trust = trust;
        core
    };
    let (hub, hub_record, mut hub_book) = (identity(0), sign(0), TrustBook::default());
    let hub_bytes = hub_record.emit();
    let others = (1..=count).map(|number| {
        let (own, record, mut book) = (identity(number), sign(number), TrustBook::default());
        let bytes = record.emit();
        let hub_me = Me { identity: &hub, record: &hub_bytes, now_s: 1, common_s: 1 };
        let me = Me { identity: &own, record: &bytes, now_s: 1, common_s: 1 };
        let request = hub_book.request(&hub_me, &record, &Terms::default(), &mut rng).expect("allowed");
        book.receive(&me, &request, None);
        let accept = book.approve(&me, &hub_record.identity, &Terms::default(), &mut rng).expect("pending");
        hub_book.receive(&hub_me, &accept, None);
        hub_book.note_endpoint(&record.identity, underlay(number));
        book.note_endpoint(&hub_record.identity, underlay(0));
        // They have met before: nothing waits for a first session.
        let kem = rng.bytes();
        book.set_kem(&hub_record.identity, &kem);
        hub_book.set_kem(&record.identity, &kem);
        Stack::new(make(number, book, &mut rng), config)
    });
    let others = others.collect();
    (make(0, hub_book, &mut rng), others)
}

/// Work of the application on a sender.
#[derive(Clone, Copy, Debug)]
pub struct Work {
    /// Streams that are kept full.
    pub streams: usize,
    /// Bytes of each stream.
    pub bytes: u64,
    /// A request of 200 bytes, again and again, on a stream of its own.
    pub requests: bool,
}

impl Work {
    /// One stream that never ends.
    pub const BULK: Self = Self { streams: 1, bytes: u64::MAX, requests: false };
}

/// Our stack and an application.
pub struct PilotHost {
    /// The machine.
    pub stack: Stack,
    side: usize,
    work: Option<Work>,
    streams: BTreeMap<StreamId, (usize, u64)>,
    connected: BTreeSet<StreamId>,
    echoes: BTreeMap<StreamId, Vec<u8>>,
    asker: Option<StreamId>,
    asked_at: Option<Instant>,
    ask_at: Option<Instant>,
    answer_len: usize,
    /// Round trips of the requests.
    pub answers: Vec<Duration>,
    received: Vec<u64>,
    /// Time of the last read byte.
    pub progress: Instant,
    /// Longest time between two reads; a test sets it to zero to begin anew.
    pub longest_pause: Duration,
    batch: Vec<u8>,
    chunk: Vec<u8>,
}

/// Makes a sender that does `work`, and its receiver.
pub fn pilot_pair(work: Work, config: StackConfig, seed: u64) -> [PilotHost; 2] {
    let mut side = 0;
    befriended(&TRANSPARENT, config, seed).map(|mut stack| {
        if side == 1 {
            stack.listen(SINK_PORT).expect("free");
            stack.listen(ECHO_PORT).expect("free");
        }
        side += 1;
        PilotHost {
            stack,
            side: side - 1,
            work: (side == 1).then_some(work),
            streams: BTreeMap::new(),
            connected: BTreeSet::new(),
            echoes: BTreeMap::new(),
            asker: None,
            asked_at: None,
            ask_at: None,
            answer_len: 0,
            answers: Vec::new(),
            received: Vec::new(),
            progress: Instant::ZERO,
            longest_pause: Duration::ZERO,
            batch: Vec::new(),
            chunk: vec![7; 64 * 1024],
        }
    })
}

impl PilotHost {
    fn start(&mut self, now: Instant) {
        let Some(work) = self.work.filter(|_| self.streams.is_empty()) else { return };
        let peer = self.stack.endpoint().peers().next().expect("pinned");
        for i in 0..work.streams {
            let id = self.stack.connect(now, peer, SINK_PORT).expect("trusted");
            self.streams.insert(id, (i, work.bytes));
        }
        if work.requests {
            self.asker = Some(self.stack.connect(now, peer, ECHO_PORT).expect("trusted"));
            self.ask_at = Some(now + Duration::from_secs(1));
        }
    }

    fn handle_events(&mut self, now: Instant) {
        while let Some(event) = self.stack.poll_event() {
            match event {
                Event::Incoming { port: ECHO_PORT, stream } => {
                    self.stack.accepted(stream);
                    self.echoes.insert(stream, Vec::new());
                }
                Event::Incoming { stream, .. } => {
                    self.stack.accepted(stream);
                    self.streams.insert(stream, (self.received.len(), 0));
                    self.received.push(0);
                }
                Event::Stream(id) if self.echoes.contains_key(&id) => self.echo(id),
                Event::Stream(id) if self.asker == Some(id) => self.take_answer(now, id),
                Event::Stream(id) if self.side == 0 => self.fill(id),
                Event::Stream(id) => self.empty(now, id),
                _ => {}
            }
        }
        if self.ask_at.is_some_and(|at| at <= now)
            && let Some(id) = self.asker
        {
            self.ask_at = None;
            self.asked_at = Some(now);
            self.stack.send(id, &self.chunk[..REQUEST_LEN]).expect("the stream stands");
        }
    }

    fn fill(&mut self, id: StreamId) {
        let Some((_, left)) = self.streams.get_mut(&id) else { return };
        if !self.connected.contains(&id) {
            if self.stack.stream_info(id).is_none_or(|i| !i.connected) {
                return;
            }
            self.connected.insert(id);
        }
        while *left > 0 {
            let len = self.chunk.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
            let n = self.stack.send(id, &self.chunk[..len]).expect("the stream stands");
            *left -= n as u64;
            if n < len {
                break;
            }
        }
    }

    fn empty(&mut self, now: Instant, id: StreamId) {
        let Some((index, _)) = self.streams.get(&id) else { return };
        let mut got = 0;
        while let Recv::Data(n) = self.stack.recv_with(id, |bytes| bytes.len()) {
            got += n as u64;
        }
        if got > 0 {
            self.received[*index] += got;
            self.longest_pause = self.longest_pause.max(now.since(self.progress));
            self.progress = now;
        }
    }

    fn echo(&mut self, id: StreamId) {
        let Some(held) = self.echoes.get_mut(&id) else { return };
        let mut buffer = [0; 4096];
        while let Recv::Data(n) = self.stack.recv(id, &mut buffer) {
            held.extend_from_slice(&buffer[..n]);
        }
        let n = self.stack.send(id, held).expect("the stream stands");
        held.drain(..n);
    }

    fn take_answer(&mut self, now: Instant, id: StreamId) {
        let mut buffer = [0; 4096];
        while let Recv::Data(n) = self.stack.recv(id, &mut buffer) {
            self.answer_len += n;
        }
        if self.answer_len >= REQUEST_LEN
            && let Some(at) = self.asked_at.take()
        {
            self.answer_len = 0;
            self.answers.push(now.since(at));
            self.ask_at = Some(now + REQUEST_PAUSE);
        }
    }
}

impl Host for PilotHost {
    fn handle_datagram(&mut self, now: Instant, datagram: &mut [u8]) {
        // The stack counts discards.
        let _ = self.stack.handle_datagram(now, underlay(1 - self.side), datagram);
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.start(now);
        self.stack.handle_timeout(now);
    }

    fn poll_transmit(&mut self, now: Instant, send: &mut dyn FnMut(&[u8])) {
        loop {
            self.handle_events(now);
            let Some(transmit) = self.stack.poll_transmit(now, &mut self.batch) else { break };
            self.batch.chunks(transmit.segment_len).for_each(&mut *send);
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        earliest(self.stack.poll_timeout().map(|(at, _)| at), self.ask_at)
    }

    fn received(&self) -> &[u64] {
        &self.received
    }

    fn is_ready(&self) -> bool {
        !self.streams.is_empty() && self.connected.len() == self.streams.len()
    }
}
