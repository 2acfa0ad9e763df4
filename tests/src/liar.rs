//! Owns a rendezvous that lies: a machine with the keys of the honest one, that answers each call with something else than what is
//! asked, tells its clients what is not so, and relays datagrams to whom it likes. Of trust and sessions it has nothing.

use pilot_core::control::{Answer, Call, InboxNumber, Push, Refusal};
use pilot_core::endpoint::{Event, NoSink, Strangers};
use pilot_core::extensions::Extensions;
use pilot_core::identity::IdentityKey;
use pilot_core::rng::Rng;
use pilot_core::time::{Duration, earliest};
use pilot_core::wire::Datagram;
use pilot_core::{Addr, Config, Endpoint, Instant, NodeRecord, PeerId};
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// Pause between two lies to each client, at most.
const PAUSE: Duration = Duration::from_millis(200);
/// Most clients.
const CLIENTS_MAX: usize = 16;
/// Datagrams that are relayed now and again, to another client than they are for.
const KEPT_MAX: usize = 8;
/// Hosts that the liar names, to have them flooded.
const VICTIMS: u64 = 4;

/// A rendezvous that lies.
pub(crate) struct Liar {
    endpoint: Endpoint,
    rng: Rng,
    /// What it knows of its clients, to lie with.
    records: BTreeMap<PeerId, NodeRecord>,
    lie_at: Instant,
    /// Relayed datagrams that it has seen.
    kept: Vec<Vec<u8>>,
    relayed: Vec<(SocketAddr, Vec<u8>)>,
    /// Lies so far: answers, and what was told unasked.
    pub(crate) told: (u64, u64),
}

impl Liar {
    /// A liar with these keys and this clock.
    pub(crate) fn new(now: Instant, mut config: Config, seed: [u8; 32]) -> Self {
        config.strangers = Strangers::Serve { max: CLIENTS_MAX };
        let (endpoint, records) = (Endpoint::new(config), BTreeMap::new());
        Self {
            endpoint,
            rng: Rng::new(seed),
            records,
            lie_at: now,
            kept: Vec::new(),
            relayed: Vec::new(),
            told: (0, 0),
        }
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        earliest(Some(self.lie_at), self.endpoint.poll_timeout().map(|(at, _)| at))
    }

    pub(crate) fn handle_datagram(&mut self, now: Instant, from: SocketAddr, datagram: &mut [u8]) {
        if let Ok(Datagram::Relay { .. }) = Datagram::parse(datagram) {
            return self.relay(datagram);
        }
        // What is ignored was for the honest one.
        let _ = self.endpoint.handle_datagram(now, from, datagram, &mut NoSink);
        self.answer_all();
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        self.endpoint.handle_timeout(now);
        self.answer_all();
        if self.lie_at <= now {
            self.lie_at = now + Duration::from_millis(1 + self.rng.below(PAUSE.as_millis() as u64));
            for peer in self.endpoint.peers().collect::<Vec<_>>() {
                let push = self.push();
                self.told.1 += u64::from(self.endpoint.push(peer, push));
            }
        }
    }

    /// Puts the next datagrams into `out`; gives where they go, and the length of each.
    pub(crate) fn poll_transmit(&mut self, now: Instant, out: &mut Vec<u8>) -> Option<(SocketAddr, usize)> {
        if let Some((to, datagram)) = self.relayed.pop() {
            *out = datagram;
            return Some((to, out.len()));
        }
        self.endpoint.poll_transmit(now, out).map(|transmit| (transmit.to, transmit.segment_len))
    }

    /// Keeps a datagram, and hands others to anybody.
    fn relay(&mut self, datagram: &[u8]) {
        if self.kept.len() == KEPT_MAX {
            let at = self.rng.below(KEPT_MAX as u64) as usize;
            self.kept.swap_remove(at);
        }
        self.kept.push(datagram.to_vec());
        let clients: Vec<PeerId> = self.endpoint.peers().collect();
        for kept in self.kept.clone() {
            let to = clients.get(self.rng.below(1 + clients.len() as u64) as usize);
            let to = to.and_then(|peer| self.endpoint.direct_address(*peer));
            self.relayed.extend(to.map(|to| (to, kept)));
        }
    }

    fn answer_all(&mut self) {
        while let Some(event) = self.endpoint.poll_event() {
            match event {
                Event::Introduced(peer, record) => {
                    self.records.insert(peer, *record);
                }
                Event::Call(peer, ticket, call, _) => {
                    let answer = self.answer(&call);
                    self.told.0 += u64::from(self.endpoint.answer(peer, ticket, answer, Extensions::default()));
                }
                _ => {}
            }
        }
    }

    fn answer(&mut self, call: &Call) -> Answer {
        let refusals = [Refusal::NotFound, Refusal::NameTaken, Refusal::BadRecord, Refusal::Full, Refusal::Storage];
        match (self.rng.below(6), call) {
            (0, _) => Answer::Refused(refusals[self.rng.below(5) as usize]),
            (1, _) => Answer::Unknown(200),
            (2, _) => Answer::Found(self.record()),
            (_, Call::Register(_)) => {
                let (reflexive, relay_key) = (self.victim(), self.rng.bytes());
                let addr = Addr { network: 0, node: self.rng.u32() };
                Answer::Registered { addr, reflexive, relay_key }
            }
            (_, Call::Lookup(_)) => Answer::Found(self.record()),
            (_, Call::Search(_)) => Answer::List(vec![self.record(), self.record()]),
            (_, Call::OpenRelay(_)) => {
                Answer::Relay { channel: self.rng.below(8) as u32, online: self.rng.below(2) == 0 }
            }
            _ => Answer::Ok,
        }
    }

    fn push(&mut self) -> Push {
        let channel = self.rng.below(8) as u32;
        match self.rng.below(8) {
            0 => Push::Letter(InboxNumber(self.rng.u64()), None, self.noise()),
            1 => Push::RelayOpened(channel, self.somebody()),
            2 | 3 => Push::Congested(channel),
            4 => Push::Move { to: self.victim(), after_ms: self.rng.below(1000) as u32 },
            5 => Push::Elsewhere(self.victim()),
            6 => Push::Observed(self.victim()),
            _ => Push::Unknown(200),
        }
    }

    /// A key of a client, or of nobody.
    fn somebody(&mut self) -> IdentityKey {
        let at = self.rng.below(1 + self.records.len() as u64) as usize;
        let known = self.records.values().nth(at).map(|record| record.identity);
        known.unwrap_or_else(|| IdentityKey(self.rng.bytes()))
    }

    /// A record of some client, whole or damaged, or noise.
    fn record(&mut self) -> Vec<u8> {
        let at = self.rng.below(1 + self.records.len() as u64) as usize;
        let Some(mut bytes) = self.records.values().nth(at).map(NodeRecord::emit) else { return self.noise() };
        if self.rng.below(2) == 0 {
            let at = self.rng.below(bytes.len() as u64) as usize;
            bytes[at] ^= 1 + self.rng.below(255) as u8;
        }
        bytes
    }

    fn noise(&mut self) -> Vec<u8> {
        let len = self.rng.below(300);
        (0..len).map(|_| self.rng.below(256) as u8).collect()
    }

    fn victim(&mut self) -> SocketAddr {
        SocketAddr::from(([100, 99, 0, 1 + self.rng.below(VICTIMS) as u8], 53))
    }
}
