//! Owns the rendezvous as a pure machine: takes calls, gives answers and pushes, and passes relayed datagrams on.

use crate::age::Age;
use crate::bucket::Bucket;
use crate::channels::Channels;
use crate::forward::{Forward, Waiting};
use crate::letters::Letter;
use crate::limits::{Limits, Sizes};
use crate::sources::{Sources, network};
use crate::state::{Journal, State, day};
use pilot_core::control::{Answer, Call, GRANTS_MAX, Grant, Push, Refusal};
use pilot_core::endpoint::{Event, NoSink, Strangers, Timer, Transmit};
use pilot_core::extensions::{ExtensionType, Extensions, emit_endpoints};
use pilot_core::identity::IdentityKey;
use pilot_core::rng::Rng;
use pilot_core::time::Duration;
use pilot_core::trust::Source;
use pilot_core::wire::{self, Datagram, INIT_LEN, RELAY_HEADER_LEN, emit_relay_header, relay_tag};
use pilot_core::{Config, Endpoint, Instant, NodeRecord, PeerId};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

/// Silence after which a client counts as away. Clients send a keepalive every 15 s ± 20 %.
const AWAY_AFTER: Duration = Duration::from_secs(45);
/// Calls per second that a client may make.
const CALLS_PER_SECOND: u64 = 50;
/// Calls that a client may make at once.
const CALLS_BURST: u64 = 200;
/// Rate at which a client may have datagrams relayed, and its burst. Unit: bytes per second, of payload.
pub const RELAY_BYTES_PER_SECOND: u64 = 64 << 20;
/// Grants that a node may have for each call that one change of its grants counts as, since all of them are written anew.
const GRANTS_PER_CALL: usize = 512;
/// Pause between two looks at what has become old.
const SWEEP_PAUSE: Duration = Duration::from_secs(10);
/// Silence after which a client is forgotten; no key of its tunnel is left then. Source: `docs/wire.md`, "Rekey".
const FORGET_AFTER: Duration = Duration::from_secs(600);
/// What nodes are told of this program.
const VERSION: &str = env!("CARGO_PKG_VERSION");
/// Time that a stranger has to register.
const REGISTER_WITHIN: Duration = Duration::from_secs(60);
/// Pause between two words to one client that datagrams of its channels do not pass. Source: own choice; a hundred in a second
/// are enough for ten channels with a round trip of 100 ms.
const CONGESTED_PAUSE: Duration = Duration::from_millis(10);
/// Time in which two processes with one identity take each other's place at least once.
const TWIN_WITHIN: Duration = Duration::from_secs(300);
struct Client {
    peer: PeerId,
    relay_key: [u8; 32],
    relay_tokens: Bucket,
    congested_at: Option<Instant>,
    /// The process that has the tunnel now is registered.
    is_registered: bool,
    /// Where this process registered from.
    addr: SocketAddr,
    /// Where the process before this one registered from, and when it was replaced.
    before: Option<(SocketAddr, Instant)>,
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
    /// Clients that have shown their records, and since when those that have not registered are here.
    identities: BTreeMap<PeerId, (IdentityKey, Instant)>,
    clients: BTreeMap<IdentityKey, Client>,
    calls: BTreeMap<PeerId, Bucket>,
    channels: Channels,
    sources: Sources,
    forward: Forward,
    /// Wall clock at the machine's time 0. Unit: microseconds since 1970.
    wall_at_zero_us: u64,
    /// The clock of the books, from the first look at it on.
    age: Option<Age>,
    sweep_at: Instant,
    /// Where clients are sent, and the moment at which all have gone.
    away: Option<(SocketAddr, Instant)>,
    /// Where else nodes are told what is seen of them, as an extension has the addresses.
    probes: Vec<u8>,
}

impl Rendezvous {
    /// Makes a rendezvous with the books in `state`. The journal gets every later change.
    pub fn new(mut config: Config, state: State, journal: Box<dyn Journal + Send>) -> Self {
        let mut rng = Rng::new(config.seed);
        config.seed = rng.bytes();
        let relay_secret = *config.entropy.secret();
        let wall_at_zero_us = config.wall_at_zero_us;
        config.strangers = Strangers::Serve { max: state.limits().clients };
        let mut endpoint = Endpoint::new(config);
        state.static_keys().for_each(|key| endpoint.remember(key));
        Self {
            wall_at_zero_us,
            age: None,
            forward: Forward::new(state.limits().forward_len),
            endpoint,
            state,
            journal,
            rng,
            relay_secret,
            identities: BTreeMap::new(),
            clients: BTreeMap::new(),
            calls: BTreeMap::new(),
            channels: Channels::default(),
            sources: Sources::default(),
            sweep_at: Instant::ZERO + SWEEP_PAUSE,
            away: None,
            probes: Vec::new(),
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

    /// The sizes of the tables, each of which has its maximum in [`Rendezvous::limits`]. Work grows with the number of mailboxes.
    pub fn sizes(&self) -> Sizes {
        Sizes {
            clients: self.identities.len(),
            channels: self.channels.len(),
            forward_len: self.forward.len(),
            sources: self.sources.len(),
            ..self.state.sizes()
        }
    }

    /// The maxima of the tables.
    pub const fn limits(&self) -> &Limits {
        self.state.limits()
    }

    /// Takes the time of the wall clock, which may have been set. Unit: microseconds since 1970.
    pub const fn set_wall(&mut self, now: Instant, wall_us: u64) {
        self.wall_at_zero_us = wall_us.saturating_sub(now.as_micros());
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
        if self.sweep_at <= now {
            self.sweep_at = now + SWEEP_PAUSE;
            self.sweep(now);
        }
    }

    /// Says where else nodes may ask what is seen of them; an unspecified address stands for the one at which they know this
    /// rendezvous.
    pub fn set_probes(&mut self, addrs: &[SocketAddr]) {
        self.probes = emit_endpoints(addrs);
    }

    /// Sends every client to another address of this rendezvous, each at a random moment within `span`, so that they do not
    /// arrive at once; those that register meanwhile as well. Work grows with the number of clients.
    pub fn send_away(&mut self, now: Instant, to: SocketAddr, span: Duration) {
        self.away = Some((to, now + span));
        let peers: Vec<PeerId> = self.clients.values().map(|client| client.peer).collect();
        peers.into_iter().for_each(|peer| self.push_away(now, peer));
    }

    fn push_away(&mut self, now: Instant, peer: PeerId) {
        let Some((to, end)) = self.away else { return };
        let after_ms = self.rng.below(1 + end.since(now).as_millis() as u64) as u32;
        self.endpoint.push(peer, Push::Move { to, after_ms });
    }

    /// Closes every tunnel in order; call `poll_transmit` until it gives `None` afterwards.
    pub fn close_all(&mut self) {
        self.endpoint.close_all();
    }

    /// Fills `out` with the next batch; see [`Endpoint::poll_transmit`].
    pub fn poll_transmit(&mut self, now: Instant, out: &mut Vec<u8>) -> Option<Transmit> {
        // Control first: while the socket has no room, senders of relayed datagrams are told so.
        self.endpoint.poll_transmit(now, out).or_else(|| {
            let mut told = Vec::new();
            let transmit = self.forward.poll(now, out, |sender, channel| told.push((sender, channel)));
            told.into_iter().for_each(|(sender, channel)| self.tell_congestion(now, &sender, channel));
            transmit
        })
    }

    /// Relays so many bytes in a second from now on, headers of IP and UDP included; `None`: as many as the socket takes.
    pub fn set_relay_budget(&mut self, now: Instant, per_second: Option<u64>) {
        self.forward.set_budget(now, per_second);
    }

    /// Tells a client that what it sends into a channel does not pass, or waits.
    fn tell_congestion(&mut self, now: Instant, sender: &IdentityKey, channel: u32) {
        let Some(client) = self.clients.get_mut(sender) else { return };
        if client.congested_at.is_none_or(|at| now.since(at) >= CONGESTED_PAUSE)
            && self.channels.tells_congestion(now, channel)
        {
            client.congested_at = Some(now);
            self.endpoint.push(client.peer, Push::Congested(channel));
        }
    }

    /// Returns the next deadline and its reason; `None` when no timer runs.
    pub fn poll_timeout(&self) -> Option<(Instant, Timer)> {
        let is_empty = self.identities.is_empty() && self.calls.is_empty() && self.endpoint.peers().next().is_none();
        let is_idle = is_empty && self.channels.len() + self.sources.len() + self.state.letters() == 0;
        let sweep = (!is_idle).then_some((self.sweep_at, Timer::Directory));
        let forward = self.forward.poll_timeout().map(|at| (at, Timer::Directory));
        self.endpoint.poll_timeout().into_iter().chain(sweep).chain(forward).min_by_key(|(at, _)| *at)
    }

    /// The time by which rows grow old. Unit: seconds.
    fn age_s(&mut self, now: Instant) -> u64 {
        let wall_s = (self.wall_at_zero_us + now.as_micros()) / 1_000_000;
        self.age.get_or_insert_with(|| Age::begin(now, self.state.newest_s(), wall_s)).at(now)
    }

    fn drain(&mut self, now: Instant) {
        while let Some(event) = self.endpoint.poll_event() {
            match event {
                Event::Introduced(peer, record) => {
                    self.identities.insert(peer, (record.identity, now));
                }
                Event::Call(peer, id, call, extensions) => {
                    let is_register = matches!(call, Call::Register(_));
                    let relay_to = if let Call::OpenRelay(to) = &call { Some(*to) } else { None };
                    let answer = self.answer(now, peer, call);
                    let facts = match (&answer, relay_to) {
                        (Answer::Relay { channel, .. }, Some(to)) => {
                            let is_passed_on = self.pass_init(now, *channel, &extensions);
                            self.whereabouts(&to, is_passed_on)
                        }
                        _ => self.facts(now, peer, &answer, is_register),
                    };
                    self.endpoint.answer(peer, id, answer, facts);
                }
                Event::PathChanged(peer, _) => self.tell_address(peer),
                Event::Reset(peer, reason) if reason.is_new_beginning() => self.replaced(now, peer),
                Event::Reset(peer, _) => self.forget(peer),
                _ => {}
            }
        }
    }

    /// Tells a client that its datagrams come from another address than it knows.
    fn tell_address(&mut self, peer: PeerId) {
        let Some(addr) = self.endpoint.direct_address(peer) else { return };
        let client = self.identities.get(&peer).and_then(|(key, _)| self.clients.get_mut(key));
        let client = client.filter(|client| client.peer == peer && client.is_registered && client.addr != addr);
        if let Some(client) = client {
            client.addr = addr;
            self.endpoint.push(peer, Push::Observed(addr));
        }
    }

    /// What one is told that may open a relay to a node: where that is seen, since an address that the node itself names may be
    /// another's, and whether the INIT to it was passed on.
    fn whereabouts(&self, of: &IdentityKey, is_passed_on: bool) -> Extensions {
        let seen = self.clients.get(of).and_then(|client| self.endpoint.direct_address(client.peer));
        let seen = seen.map(|seen| (ExtensionType::SEEN, emit_endpoints(&[seen])));
        let passed_on = is_passed_on.then_some((ExtensionType::INIT, Vec::new()));
        let add = |list: Extensions, (of, value): (ExtensionType, Vec<u8>)| list.with(of, &value).unwrap_or_default();
        seen.into_iter().chain(passed_on).fold(Extensions::NONE, add)
    }

    /// Passes the INIT on that came with the question for this channel of the caller; false when there is none, or no room.
    fn pass_init(&mut self, now: Instant, channel: u32, extensions: &Extensions) -> bool {
        let init = extensions.get(ExtensionType::INIT).filter(|init| init.len() == INIT_LEN);
        init.is_some_and(|init| self.pass_on(now, channel, init))
    }

    /// What an answer says besides its content: a refusal and a registration have the clock.
    fn facts(&self, now: Instant, peer: PeerId, answer: &Answer, is_register: bool) -> Extensions {
        let why = match answer {
            Answer::Refused(why) => Some(*why),
            Answer::Registered { .. } => None,
            _ => return Extensions::NONE,
        };
        let mut facts = Extensions::NONE.with_u64(ExtensionType::CLOCK, self.wall_at_zero_us + now.as_micros());
        if why.is_none() {
            for (of, value) in [(ExtensionType::PROBES, &*self.probes), (ExtensionType::PROGRAM, VERSION.as_bytes())] {
                let without = facts.clone();
                facts = if value.is_empty() { without } else { facts.with(of, value).unwrap_or(without) };
            }
        }
        let caller = self.identities.get(&peer).filter(|_| is_register && why == Some(Refusal::BadRecord));
        let known = caller.and_then(|(caller, _)| self.state.sequence(caller));
        known.map_or(facts.clone(), |known| facts.with_u64(ExtensionType::SEQUENCE, known))
    }

    /// Another process has the tunnel: the client is away until that process has registered.
    fn replaced(&mut self, now: Instant, peer: PeerId) {
        let key = self.identities.get(&peer).map(|(key, _)| *key);
        if let Some(client) = key.and_then(|key| self.clients.get_mut(&key)).filter(|client| client.is_registered) {
            client.is_registered = false;
            client.before = client.before.filter(|(_, at)| now.since(*at) < TWIN_WITHIN);
        }
    }

    fn forget(&mut self, peer: PeerId) {
        self.calls.remove(&peer);
        let Some((key, _)) = self.identities.remove(&peer) else { return };
        if self.clients.get(&key).is_some_and(|c| c.peer == peer) {
            self.clients.remove(&key);
            self.channels.close_of(&key, |_| true);
        }
    }

    /// Forgets what nothing uses any more. Bounded by the sizes of the tables.
    fn sweep(&mut self, now: Instant) {
        let is_silent = |peer: &PeerId| {
            let heard = self.endpoint.last_received(*peer);
            let is_client = |(key, since): &(IdentityKey, Instant)| {
                self.clients.get(key).is_some_and(|c| c.peer == *peer) || now.since(*since) < REGISTER_WITHIN
            };
            let is_welcome = self.identities.get(peer).map_or(heard.is_none(), is_client);
            heard.is_some_and(|at| now.since(at) >= FORGET_AFTER) || !is_welcome
        };
        let gone: Vec<PeerId> = self.endpoint.peers().filter(is_silent).collect();
        gone.into_iter().for_each(|peer| self.endpoint.drop_client(now, peer));
        self.drain(now);
        let peers: BTreeSet<PeerId> = self.endpoint.peers().collect();
        self.calls.retain(|peer, bucket| peers.contains(peer) && !bucket.is_full(now, CALLS_PER_SECOND, CALLS_BURST));
        let may_relay = |from: &IdentityKey, to: &IdentityKey| self.state.may_relay(from, to);
        self.channels.sweep(now, |key| self.clients.contains_key(key), may_relay);
        self.sources.sweep(now, self.state.limits().registrations_per_source);
        let now_s = self.age_s(now);
        self.state.sweep(now_s, |key| self.clients.contains_key(key), &mut *self.journal);
    }

    fn answer(&mut self, now: Instant, peer: PeerId, call: Call) -> Answer {
        let caller = self.identities.get(&peer).map(|(key, _)| *key);
        let rows = |key: &IdentityKey| (self.state.grants_of(key) / GRANTS_PER_CALL) as u64;
        let cost = if let (Call::Grant(_), Some(key)) = (&call, &caller) { 1 + rows(key) } else { 1 };
        let bucket = self.calls.entry(peer).or_insert_with(|| Bucket::new(CALLS_BURST, now));
        if !bucket.take(now, cost, CALLS_PER_SECOND, CALLS_BURST) {
            return Answer::Refused(Refusal::TooMany);
        }
        let Some(caller) = caller else { return Answer::Refused(Refusal::NotRegistered) };
        let registered = self.clients.get(&caller).is_some_and(|c| c.peer == peer && c.is_registered);
        let now_s = self.age_s(now);
        match call {
            Call::Register(record) => self.register(now, peer, &caller, &record),
            Call::Unknown(_) => Answer::Refused(Refusal::Unsupported),
            _ if !registered => Answer::Refused(Refusal::NotRegistered),
            Call::Lookup(query) => self.state.lookup(&caller, &query).map_or_else(Answer::Refused, Answer::Found),
            Call::Search(tag) => Answer::List(self.state.search(&tag)),
            Call::Post(to, id, sealed) => {
                self.post(peer, Letter { to, from: caller, id, posted_s: now_s, source: None, sealed })
            }
            Call::Taken(ids) => done(self.state.taken(&caller, &ids, (now_s, &mut *self.journal))),
            Call::Grant(grant) => done(self.grant(&caller, grant)),
            Call::OpenRelay(to) => self.open_relay(now, caller, to),
            Call::Leave(record) => done(self.leave(now_s, &caller, &record)),
        }
    }

    fn register(&mut self, now: Instant, peer: PeerId, caller: &IdentityKey, record: &[u8]) -> Answer {
        let Ok(record) = NodeRecord::parse(record) else { return Answer::Refused(Refusal::BadRecord) };
        let Some(reflexive) = self.endpoint.newest_address(peer) else { return Answer::Refused(Refusal::NotFound) };
        let limits = self.state.limits();
        let (sources, burst) = (limits.sources, limits.registrations_per_source);
        if !self.state.is_known(caller) && !self.sources.admits(now, &reflexive, sources, burst) {
            return Answer::Refused(Refusal::TooMany);
        }
        let (today, static_key) = (day(self.age_s(now)), record.static_key);
        let rng = &mut self.rng;
        let addr = match self.state.register(caller, record, || rng.u32(), (today, &mut *self.journal)) {
            Ok(addr) => addr,
            Err(why) => return Answer::Refused(why),
        };
        // A client's relay key stays the same for the life of this process, so that channels survive a reconnect.
        let mut seed = self.relay_secret;
        seed.iter_mut().zip(caller.0).for_each(|(s, k)| *s ^= k);
        let relay_key = Rng::new(seed).bytes();
        let known = self.clients.remove(caller).filter(|client| client.peer == peer);
        let is_new = known.as_ref().is_none_or(|client| !client.is_registered);
        let mut client = known.unwrap_or_else(|| Client {
            peer,
            relay_key,
            relay_tokens: Bucket::new(RELAY_BYTES_PER_SECOND, now),
            congested_at: None,
            is_registered: false,
            addr: reflexive,
            before: None,
        });
        let twin = client.registered_from(now, reflexive);
        self.clients.insert(*caller, client);
        if is_new {
            self.endpoint.remember(&static_key);
            for (number, letter) in self.state.letters_for(caller) {
                self.endpoint.push(peer, Push::Letter(number, letter.source, letter.sealed.clone()));
            }
        }
        if let Some(addr) = twin {
            self.endpoint.push(peer, Push::Elsewhere(addr));
        }
        if is_new {
            self.push_away(now, peer);
        }
        Answer::Registered { addr, reflexive, relay_key }
    }

    /// Keeps a letter with the network that its sender has shown to be in, and pushes it to its recipient.
    fn post(&mut self, peer: PeerId, mut letter: Letter) -> Answer {
        let network = self.endpoint.direct_address(peer).and_then(|addr| network(&addr));
        letter.source = network.map(|network| Source::new(self.endpoint.identity(), &letter.to, &network));
        let (to, push) = (letter.to, (letter.source, letter.sealed.clone()));
        match self.state.post(letter, &mut *self.journal) {
            Ok(number) => {
                if let (Some(number), Some(client)) = (number, self.clients.get(&to)) {
                    self.endpoint.push(client.peer, Push::Letter(number, push.0, push.1));
                }
                Answer::Ok
            }
            Err(why) => Answer::Refused(why),
        }
    }

    /// Changes who may relay to the caller; pairs of channels with those that may not any more are closed.
    fn grant(&mut self, caller: &IdentityKey, grant: Grant) -> Result<(), Refusal> {
        // What comes in several parts is known with the last one.
        let (is_whole, is_partial) = (grant.is_whole, grant.add.len() >= GRANTS_MAX);
        let removed = grant.remove.clone();
        self.state.grant(caller, grant, &mut *self.journal)?;
        removed.iter().for_each(|key| self.channels.close(caller, key));
        if is_whole && !is_partial {
            self.channels.close_of(caller, |other| !self.state.may_relay(other, caller));
        }
        Ok(())
    }

    /// Forgets a node that ends for good: its rows and its channels. Its tunnel stands until it is closed.
    fn leave(&mut self, now_s: u64, caller: &IdentityKey, record: &[u8]) -> Result<(), Refusal> {
        let record = NodeRecord::parse(record).map_err(|_| Refusal::BadRecord)?;
        self.state.leave(caller, &record, (now_s, &mut *self.journal))?;
        self.channels.close_of(caller, |_| true);
        self.clients.remove(caller);
        Ok(())
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
        let max = self.state.limits().channels;
        let Some(channel) = self.channels.open(now, (from, to), max, &mut self.rng) else {
            return Answer::Refused(Refusal::Full);
        };
        if let (Some(client), Some(channel)) = (self.clients.get(&to), self.channels.number(to, from)) {
            self.endpoint.push(client.peer, Push::RelayOpened(channel, from));
        }
        Answer::Relay { channel, online }
    }

    /// Passes a datagram on: the tag proves the sender, the channel names the receiver. The payload stays sealed end to end.
    fn relay(&mut self, now: Instant, channel: u32, tag: [u8; 8], payload: &[u8]) {
        let sender = self.channels.leg(channel).and_then(|leg| self.clients.get(&leg.from));
        if sender.is_some_and(|sender| relay_tag(&sender.relay_key, wire::Channel(channel), payload) == tag) {
            self.pass_on(now, channel, payload);
        }
    }

    /// Passes on what the owner of a channel sends there; false when that is dropped.
    fn pass_on(&mut self, now: Instant, channel: u32, payload: &[u8]) -> bool {
        let Some(leg) = self.channels.leg(channel) else { return false };
        let Some(sender) = self.clients.get_mut(&leg.from) else { return false };
        let size = payload.len() as u64;
        if !sender.relay_tokens.take(now, size, RELAY_BYTES_PER_SECOND, RELAY_BYTES_PER_SECOND) {
            self.tell_congestion(now, &leg.from, channel);
            return false;
        }
        self.channels.touch(now, channel);
        let Some(receiver) = self.clients.get(&leg.to) else { return false };
        let Some(to) = self.endpoint.direct_address(receiver.peer) else { return false };
        let other = wire::Channel(leg.other);
        let mut datagram = Vec::with_capacity(RELAY_HEADER_LEN + payload.len());
        datagram.extend_from_slice(&emit_relay_header(other, relay_tag(&receiver.relay_key, other, payload)));
        datagram.extend_from_slice(payload);
        let has_room = self.forward.push(leg.from, Waiting { to, channel, at: now, datagram });
        if !has_room {
            self.tell_congestion(now, &leg.from, channel);
        }
        has_room
    }
}

impl Client {
    /// The process that has the tunnel has registered from `addr`. Gives the address of another one with the same identity, if
    /// the two take turns: this one was here before the last one came.
    fn registered_from(&mut self, now: Instant, addr: SocketAddr) -> Option<SocketAddr> {
        let is_another = !std::mem::replace(&mut self.is_registered, true) && self.addr != addr;
        let last = std::mem::replace(&mut self.addr, addr);
        if !is_another {
            return None;
        }
        let is_back = self.before.is_some_and(|(before, at)| before == addr && now.since(at) < TWIN_WITHIN);
        self.before = Some((last, now));
        is_back.then_some(last)
    }
}

fn done(result: Result<(), Refusal>) -> Answer {
    result.map_or_else(Answer::Refused, |()| Answer::Ok)
}

#[cfg(test)]
mod tests;
