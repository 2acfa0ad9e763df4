//! Owns the rendezvous as a pure machine: takes calls, gives answers and pushes, and passes relayed datagrams on.

use crate::state::{Journal, State};
use pilot_core::control::{Answer, Call, Push, Refusal};
use pilot_core::endpoint::{Event, NoSink, Strangers, Timer, Transmit};
use pilot_core::identity::IdentityKey;
use pilot_core::rng::Rng;
use pilot_core::time::Duration;
use pilot_core::wire::{self, Datagram, RELAY_HEADER_LEN, emit_relay_header, relay_tag};
use pilot_core::{Config, Endpoint, Instant, NodeRecord, PeerId};
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;

/// Most connected clients.
const CLIENTS_MAX: usize = 100_000;
/// Silence after which a client counts as away. Clients send a keepalive every 15 s ± 20 %.
const AWAY_AFTER: Duration = Duration::from_secs(45);
/// Calls per second that a client may make.
const CALLS_PER_SECOND: u64 = 50;
/// Calls that a client may make at once.
const CALLS_BURST: u64 = 200;
/// Rate at which a client may have datagrams relayed, and its burst. Unit: bytes per second, of payload.
pub const RELAY_BYTES_PER_SECOND: u64 = 64 << 20;
/// Most relay channels (two for each pair).
const CHANNELS_MAX: usize = 1 << 20;
/// Most relayed datagrams that wait to be sent.
const FORWARD_MAX: usize = 4096;
/// Most datagrams of one batch. Source: UDP_MAX_SEGMENTS of Linux.
const BATCH_SEGMENTS_MAX: usize = 64;
/// Longest batch. Unit: bytes. Source: below 2^16 with headers.
const BATCH_LEN_MAX: usize = 65_000;

struct Client {
    peer: PeerId,
    relay_key: [u8; 32],
    relay_tokens: Bucket,
}

struct Channel {
    owner: IdentityKey,
    other: u32,
}

/// A token bucket in virtual time.
struct Bucket {
    tokens: u64,
    at: Instant,
}

impl Bucket {
    fn take(&mut self, now: Instant, cost: u64, per_second: u64, burst: u64) -> bool {
        let earned = (now.since(self.at).as_micros() as u64).saturating_mul(per_second) / 1_000_000;
        if earned > 0 {
            self.tokens = self.tokens.saturating_add(earned).min(burst);
            self.at = now;
        }
        debug_assert!(self.tokens <= burst, "a bucket holds at most its burst");
        let enough = self.tokens >= cost;
        if enough {
            self.tokens -= cost;
        }
        enough
    }
}

/// Registry and beacon; see the crate's documentation.
///
/// Feed it with the `handle_*` methods, then call [`Rendezvous::poll_transmit`] until it gives `None`, and
/// [`Rendezvous::poll_timeout`] for the next deadline.
pub struct Rendezvous {
    endpoint: Endpoint,
    state: State,
    journal: Box<dyn Journal + Send>,
    rng: Rng,
    relay_secret: [u8; 32],
    identities: BTreeMap<PeerId, IdentityKey>,
    clients: BTreeMap<IdentityKey, Client>,
    calls: BTreeMap<PeerId, Bucket>,
    channels: BTreeMap<u32, Channel>,
    pairs: BTreeMap<(IdentityKey, IdentityKey), u32>,
    forward: VecDeque<(SocketAddr, Vec<u8>)>,
}

impl Rendezvous {
    /// Makes a rendezvous with the books in `state`. The journal gets every later change.
    pub fn new(mut config: Config, state: State, journal: Box<dyn Journal + Send>) -> Self {
        let mut rng = Rng::new(config.seed);
        config.seed = rng.bytes();
        let relay_secret = *config.entropy.secret();
        config.strangers = Strangers::Serve { max: CLIENTS_MAX };
        let mut endpoint = Endpoint::new(config);
        state.static_keys().for_each(|key| endpoint.remember(key));
        Self {
            endpoint,
            state,
            journal,
            rng,
            relay_secret,
            identities: BTreeMap::new(),
            clients: BTreeMap::new(),
            calls: BTreeMap::new(),
            channels: BTreeMap::new(),
            pairs: BTreeMap::new(),
            forward: VecDeque::new(),
        }
    }

    /// Returns the endpoint that holds the tunnels of all clients.
    pub const fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Returns the books.
    pub const fn state(&self) -> &State {
        &self.state
    }

    /// Counts the registered nodes that are connected. Work grows with the number of clients.
    pub fn connected(&self, now: Instant) -> usize {
        self.clients.keys().filter(|key| self.is_online(now, key)).count()
    }

    /// Takes a datagram from the network. Bounded work.
    pub fn handle_datagram(&mut self, now: Instant, from: SocketAddr, datagram: &mut [u8]) {
        if let Ok(Datagram::Relay { channel: wire::Channel(channel), tag }) = Datagram::parse(datagram) {
            return self.relay(now, channel, tag, &datagram[RELAY_HEADER_LEN..]);
        }
        // The endpoint counts discards.
        let _ = self.endpoint.handle_datagram(now, from, datagram, &mut NoSink);
        self.drain(now);
    }

    /// Runs the timers that are due at `now`.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.endpoint.handle_timeout(now);
        self.drain(now);
    }

    /// Closes every tunnel in order; call `poll_transmit` until it gives `None` afterwards.
    pub fn close_all(&mut self) {
        self.endpoint.close_all();
    }

    /// Fills `out` with the next batch; see [`Endpoint::poll_transmit`].
    pub fn poll_transmit(&mut self, now: Instant, out: &mut Vec<u8>) -> Option<Transmit> {
        self.poll_forward(out).or_else(|| self.endpoint.poll_transmit(now, out))
    }

    /// Fills `out` with relayed datagrams to one address: the first one, and those behind it that make a batch with it.
    fn poll_forward(&mut self, out: &mut Vec<u8>) -> Option<Transmit> {
        let (to, first) = self.forward.pop_front()?;
        let segment_len = first.len();
        debug_assert!(segment_len >= RELAY_HEADER_LEN, "a relayed datagram has its header");
        out.clear();
        out.extend_from_slice(&first);
        for _ in 1..BATCH_SEGMENTS_MAX {
            let Some((_, next)) = self.forward.front().filter(|(next_to, _)| *next_to == to) else { break };
            // Only the last datagram of a batch may be shorter than the others.
            let is_open = out.len().is_multiple_of(segment_len);
            if !is_open || next.len() > segment_len || out.len() + next.len() > BATCH_LEN_MAX {
                break;
            }
            out.extend_from_slice(next);
            self.forward.pop_front();
        }
        Some(Transmit { to, segment_len })
    }

    /// Returns the next deadline and its reason; `None` when no timer runs.
    pub fn poll_timeout(&self) -> Option<(Instant, Timer)> {
        self.endpoint.poll_timeout()
    }

    fn drain(&mut self, now: Instant) {
        while let Some(event) = self.endpoint.poll_event() {
            match event {
                Event::Introduced(peer, record) => {
                    self.identities.insert(peer, record.identity);
                }
                Event::Call(peer, id, call) => {
                    let answer = self.answer(now, peer, call);
                    self.endpoint.answer(peer, id, answer);
                }
                Event::Reset(peer, _) => self.forget(peer),
                _ => {}
            }
        }
    }

    fn forget(&mut self, peer: PeerId) {
        self.calls.remove(&peer);
        let Some(key) = self.identities.remove(&peer) else { return };
        if self.clients.get(&key).is_some_and(|c| c.peer == peer) {
            self.clients.remove(&key);
        }
    }

    fn answer(&mut self, now: Instant, peer: PeerId, call: Call) -> Answer {
        let bucket = self.calls.entry(peer).or_insert(Bucket { tokens: CALLS_BURST, at: now });
        if !bucket.take(now, 1, CALLS_PER_SECOND, CALLS_BURST) {
            return Answer::Refused(Refusal::TooMany);
        }
        let Some(caller) = self.identities.get(&peer).copied() else {
            return Answer::Refused(Refusal::NotRegistered);
        };
        let registered = self.clients.get(&caller).is_some_and(|c| c.peer == peer);
        match call {
            Call::Register(record) => self.register(now, peer, &caller, &record),
            _ if !registered => Answer::Refused(Refusal::NotRegistered),
            Call::Lookup(query) => self.state.lookup(&caller, &query).map_or_else(Answer::Refused, Answer::Found),
            Call::Search(tag) => Answer::List(self.state.search(&tag)),
            Call::Post(to, sealed) => self.post(&caller, &to, sealed),
            Call::Taken(ids) => done(self.state.taken(&caller, &ids, &mut *self.journal)),
            Call::Grant(keys) => done(self.state.grant(&caller, keys, &mut *self.journal)),
            Call::OpenRelay(to) => self.open_relay(now, caller, to),
        }
    }

    fn register(&mut self, now: Instant, peer: PeerId, caller: &IdentityKey, record: &[u8]) -> Answer {
        let Ok(record) = NodeRecord::parse(record) else { return Answer::Refused(Refusal::BadRecord) };
        let (rng, static_key) = (&mut self.rng, record.static_key);
        let addr = match self.state.register(caller, record, || rng.u32(), &mut *self.journal) {
            Ok(addr) => addr,
            Err(why) => return Answer::Refused(why),
        };
        let Some(reflexive) = self.endpoint.newest_address(peer) else { return Answer::Refused(Refusal::NotFound) };
        // A client's relay key stays the same for the life of this process, so that channels survive a reconnect.
        let mut seed = self.relay_secret;
        seed.iter_mut().zip(caller.0).for_each(|(s, k)| *s ^= k);
        let relay_key = Rng::new(seed).bytes();
        let is_new = self.clients.get(caller).is_none_or(|c| c.peer != peer);
        let relay_tokens = Bucket { tokens: RELAY_BYTES_PER_SECOND, at: now };
        self.clients.insert(*caller, Client { peer, relay_key, relay_tokens });
        if is_new {
            self.endpoint.remember(&static_key);
            for (id, sealed) in self.state.letters_for(caller) {
                self.endpoint.push(peer, Push::Letter(id, sealed));
            }
        }
        Answer::Registered { addr, reflexive, relay_key }
    }

    fn post(&mut self, from: &IdentityKey, to: &IdentityKey, sealed: Vec<u8>) -> Answer {
        match self.state.post(from, to, sealed.clone(), &mut *self.journal) {
            Ok(id) => {
                if let Some(client) = self.clients.get(to) {
                    self.endpoint.push(client.peer, Push::Letter(id, sealed));
                }
                Answer::Ok
            }
            Err(why) => Answer::Refused(why),
        }
    }

    fn is_online(&self, now: Instant, key: &IdentityKey) -> bool {
        let heard = self.clients.get(key).and_then(|c| self.endpoint.last_received(c.peer));
        heard.is_some_and(|at| now.since(at) < AWAY_AFTER)
    }

    /// Opens (or confirms) the pair of channels between two nodes, if the destination has granted the caller.
    fn open_relay(&mut self, now: Instant, from: IdentityKey, to: IdentityKey) -> Answer {
        if !self.state.may_relay(&from, &to) {
            return Answer::Refused(Refusal::NotFound);
        }
        let online = self.is_online(now, &to);
        if let Some(channel) = self.pairs.get(&(from, to)).copied() {
            self.announce(from, to);
            return Answer::Relay { channel, online };
        }
        if self.channels.len() + 2 > CHANNELS_MAX {
            return Answer::Refused(Refusal::Full);
        }
        let a = self.fresh_channel(None);
        let b = self.fresh_channel(Some(a));
        debug_assert!(a != b && !self.pairs.contains_key(&(to, from)), "channels are distinct and come in pairs");
        self.channels.insert(a, Channel { owner: from, other: b });
        self.channels.insert(b, Channel { owner: to, other: a });
        self.pairs.insert((from, to), a);
        self.pairs.insert((to, from), b);
        self.announce(from, to);
        Answer::Relay { channel: a, online }
    }

    fn announce(&mut self, from: IdentityKey, to: IdentityKey) {
        if let (Some(client), Some(channel)) = (self.clients.get(&to), self.pairs.get(&(to, from))) {
            self.endpoint.push(client.peer, Push::RelayOpened(*channel, from));
        }
    }

    /// Draws the number of a channel that is neither open nor `taken`.
    fn fresh_channel(&mut self, taken: Option<u32>) -> u32 {
        loop {
            let channel = self.rng.u32();
            if Some(channel) != taken && !self.channels.contains_key(&channel) {
                return channel;
            }
        }
    }

    /// Passes a datagram on: the tag proves the sender, the channel names the receiver. The payload stays sealed end to end.
    fn relay(&mut self, now: Instant, channel: u32, tag: [u8; 8], payload: &[u8]) {
        let Some(from) = self.channels.get(&channel) else { return };
        let other = from.other;
        let Some(sender) = self.clients.get_mut(&from.owner) else { return };
        if relay_tag(&sender.relay_key, wire::Channel(channel), payload) != tag {
            return;
        }
        let size = payload.len() as u64;
        if !sender.relay_tokens.take(now, size, RELAY_BYTES_PER_SECOND, RELAY_BYTES_PER_SECOND)
            || self.forward.len() >= FORWARD_MAX
        {
            return;
        }
        let Some(receiver) = self.channels.get(&other).and_then(|c| self.clients.get(&c.owner)) else { return };
        let Some(to) = self.endpoint.direct_address(receiver.peer) else { return };
        let mut datagram =
            emit_relay_header(wire::Channel(other), relay_tag(&receiver.relay_key, wire::Channel(other), payload))
                .to_vec();
        datagram.extend_from_slice(payload);
        self.forward.push_back((to, datagram));
    }
}

fn done(result: Result<(), Refusal>) -> Answer {
    result.map_or_else(Answer::Refused, |()| Answer::Ok)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::NoJournal;
    use pilot_core::Identity;

    #[test]
    fn relayed_datagrams_to_one_address_leave_in_batches() {
        let config = Config::new(Identity::from_seed([1; 32]), Rng::entropy([2; 32]));
        let mut rendezvous = Rendezvous::new(config, State::default(), Box::new(NoJournal));
        let [a, b] = ["192.0.2.1:9", "192.0.2.2:9"].map(|addr| addr.parse::<SocketAddr>().expect("an address"));
        let lens = [(a, 100), (a, 100), (a, 60), (a, 100), (b, 100), (b, 120)].into_iter();
        rendezvous.forward.extend(lens.chain([(a, 40_000); 2]).map(|(to, len)| (to, vec![7; len])));
        let mut out = Vec::new();
        let batches: Vec<_> = std::iter::from_fn(|| {
            let transmit = rendezvous.poll_transmit(Instant::ZERO, &mut out)?;
            Some((transmit.to, transmit.segment_len, out.len()))
        })
        .collect();
        let expected =
            [(a, 100, 260), (a, 100, 100), (b, 100, 100), (b, 120, 120), (a, 40_000, 40_000), (a, 40_000, 40_000)];
        assert_eq!(batches, expected);
    }
}
