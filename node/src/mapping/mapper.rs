//! Owns the mapping of one port at one gateway: time and datagrams come in, datagrams go out. PCP (RFC 6887) is asked first, and
//! NAT-PMP (RFC 6886) where a gateway does not speak it.

use super::codec::{Heard, Nonce, UNSUPPORTED_VERSION, Wish, nat_pmp_question, nat_pmp_request, parse, pcp_request};
use pilot_core::Instant;
use pilot_core::time::Duration;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// Lifetime that is asked for. Unit: seconds. Source: RFC 6886 §3.3.
const LIFETIME_S: u32 = 7200;
/// Bounds of a lifetime that is granted: with less, a mapping is not worth its renewals, and a longer one is renewed as if it had
/// this. Unit: seconds. Source: own choice; RFC 6887 §15, a day.
const LIFETIME_MIN_S: u32 = 60;
const LIFETIME_MAX_S: u32 = 86_400;
/// Shortest pause between two renewals. Source: RFC 6887 §11.2.1.
const RENEW_PAUSE_MIN: Duration = Duration::from_secs(4);
/// What one round asks, and how long an answer is awaited. Source: RFC 6887 §8.1.1 for the first pause; own choice.
const STEPS: [(Protocol, Duration); 4] = [
    (Protocol::Pcp, Duration::from_secs(3)),
    (Protocol::Pcp, Duration::from_secs(3)),
    (Protocol::NatPmp, Duration::from_secs(1)),
    (Protocol::NatPmp, Duration::from_secs(3)),
];
/// Pauses after rounds without a mapping: a gateway that never answers gets three small datagrams in an hour. Source: own choice.
const PAUSE_MIN: Duration = Duration::from_secs(600);
const PAUSE_MAX: Duration = Duration::from_secs(3600);
/// Shortest pause between two moments at which a gateway is asked anew, whatever seems to have happened. Source: own choice.
const ANEW_PAUSE: Duration = Duration::from_secs(10);
/// Datagrams that wait to be sent: those of one step.
const OUT_MAX: usize = 4;

/// A protocol for mappings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    Pcp,
    NatPmp,
}

impl Protocol {
    /// Its name in answers: a stable word.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Pcp => "pcp",
            Self::NatPmp => "nat_pmp",
        }
    }
}

/// Why there is no mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lack {
    /// The first answer is awaited.
    Asking,
    /// The gateway gave no answer.
    Silent,
    /// The gateway refuses.
    Refused,
    /// The address that the gateway gives is not one of the internet: another NAT is behind it.
    NotPublic,
    /// The gateway gives a mapping that is over before it is worth anything.
    TooShort,
}

impl Lack {
    /// Its name in answers: a stable word in snake_case.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Asking => "asking",
            Self::Silent => "no_answer",
            Self::Refused => "refused",
            Self::NotPublic => "not_public",
            Self::TooShort => "too_short",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The step of the round that comes next, and when.
    Asks(usize, Instant),
    /// Nothing is asked until then.
    Rests(Instant),
    Holds(Held),
}

/// A mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) by: Protocol,
    pub(super) external: SocketAddr,
    pub(super) until: Instant,
    renew_at: Instant,
}

/// The mapping at one gateway.
pub(super) struct Mapper {
    client: SocketAddr,
    nonce: Nonce,
    phase: Phase,
    lack: Lack,
    /// Rounds that gave no mapping.
    failures: u32,
    /// The protocol that was asked last and may answer.
    awaits: Option<Protocol>,
    /// The address that NAT-PMP told, and the port with its lifetime.
    address: Option<Ipv4Addr>,
    port: Option<(u16, u32)>,
    /// The gateway's clock, and when it was heard.
    epoch: Option<(Instant, u32)>,
    anew_at: Option<Instant>,
    /// The external address of before, which is asked for again.
    before: Option<SocketAddr>,
    out: Vec<Vec<u8>>,
}

impl Mapper {
    /// A mapping for the port of `client`, this machine's address towards the gateway; the first question leaves at once.
    pub(super) fn new(now: Instant, client: SocketAddr, nonce: Nonce) -> Self {
        Self {
            client,
            nonce,
            phase: Phase::Asks(0, now),
            lack: Lack::Asking,
            failures: 0,
            awaits: None,
            address: None,
            port: None,
            epoch: None,
            anew_at: None,
            before: None,
            out: Vec::new(),
        }
    }

    pub(super) const fn client(&self) -> SocketAddr {
        self.client
    }

    /// The mapping, or why there is none.
    pub(super) const fn held(&self) -> Result<Held, Lack> {
        match self.phase {
            Phase::Holds(held) => Ok(held),
            Phase::Asks(..) | Phase::Rests(_) => Err(self.lack),
        }
    }

    pub(super) const fn poll_timeout(&self) -> Instant {
        match self.phase {
            Phase::Asks(_, at) | Phase::Rests(at) => at,
            Phase::Holds(held) => held.renew_at,
        }
    }

    /// The next datagram for the gateway.
    pub(super) fn poll_transmit(&mut self) -> Option<Vec<u8>> {
        if self.out.is_empty() { None } else { Some(self.out.remove(0)) }
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        match self.phase {
            Phase::Rests(at) if at <= now => self.ask(now, 0),
            Phase::Asks(step, at) if at <= now => self.ask(now, step),
            Phase::Holds(held) if held.until <= now => {
                self.lack = Lack::Silent;
                self.ask(now, 0);
            }
            Phase::Holds(held) if held.renew_at <= now => {
                let left = held.until.since(now);
                let renew_at = (now + (left / 2).max(RENEW_PAUSE_MIN)).min(held.until);
                self.phase = Phase::Holds(Held { renew_at, ..held });
                self.send(held.by);
            }
            _ => {}
        }
    }

    /// Asks from this step of a round on. Later rounds have each question once.
    fn ask(&mut self, now: Instant, mut step: usize) {
        let is_left_out = |step: usize| {
            let is_repeated = step > 0 && STEPS[step - 1].0 == STEPS[step].0;
            self.failures > 0 && is_repeated || self.client.is_ipv6() && STEPS[step].0 == Protocol::NatPmp
        };
        while step < STEPS.len() && is_left_out(step) {
            step += 1;
        }
        let Some((protocol, pause)) = STEPS.get(step).copied() else { return self.fail(now, Lack::Silent) };
        self.phase = Phase::Asks(step + 1, now + pause);
        self.send(protocol);
    }

    fn send(&mut self, protocol: Protocol) {
        self.awaits = Some(protocol);
        self.out.clear(); // a socket without room loses what is old
        self.out.extend(self.questions(protocol, LIFETIME_S));
        debug_assert!(self.out.len() <= OUT_MAX, "a step has few datagrams");
    }

    fn questions(&self, protocol: Protocol, lifetime_s: u32) -> Vec<Vec<u8>> {
        let any = if self.client.is_ipv4() { IpAddr::from([0; 4]) } else { IpAddr::from([0; 16]) };
        let suggested = match self.before {
            Some(before) if lifetime_s > 0 => before,
            _ => SocketAddr::new(any, if lifetime_s > 0 { self.client.port() } else { 0 }),
        };
        let wish = Wish { client: self.client, nonce: self.nonce, suggested, lifetime_s };
        match protocol {
            Protocol::Pcp => vec![pcp_request(&wish)],
            Protocol::NatPmp if lifetime_s == 0 => vec![nat_pmp_request(self.client.port(), 0, 0)],
            Protocol::NatPmp => {
                vec![nat_pmp_question(), nat_pmp_request(self.client.port(), suggested.port(), lifetime_s)]
            }
        }
    }

    /// A round has given no mapping.
    fn fail(&mut self, now: Instant, lack: Lack) {
        (self.lack, self.awaits) = (lack, None);
        let pause = (PAUSE_MIN * 2u32.pow(self.failures.min(6))).min(PAUSE_MAX);
        self.failures = self.failures.saturating_add(1);
        self.phase = Phase::Rests(now + pause);
    }

    /// The gateway may have forgotten the mapping, or have another address: it is asked at once, unless that was so just before.
    pub(super) fn ask_anew(&mut self, now: Instant) {
        if self.anew_at.is_some_and(|at| now.since(at) < ANEW_PAUSE) {
            return;
        }
        self.anew_at = Some(now);
        match self.phase {
            Phase::Holds(held) => self.phase = Phase::Holds(Held { renew_at: now, ..held }),
            Phase::Asks(..) | Phase::Rests(_) => {
                self.failures = 0;
                self.phase = Phase::Asks(0, now);
            }
        }
    }

    /// No program at the gateway takes the datagrams.
    pub(super) fn on_unreachable(&mut self, now: Instant) {
        if let Phase::Asks(step, _) = self.phase
            && let Some(asked) = self.awaits.take()
        {
            let next = (step..STEPS.len()).find(|step| STEPS[*step].0 != asked);
            self.phase = Phase::Asks(next.unwrap_or(STEPS.len()), now);
        }
    }

    /// Takes a datagram that came from the gateway to this node.
    pub(super) fn handle(&mut self, now: Instant, datagram: &[u8]) {
        let Some(awaits) = self.awaits else { return };
        match (awaits, parse(datagram)) {
            (Protocol::Pcp, Some(Heard::Mapped { result, lifetime_s, epoch_s, mapping })) => match mapping {
                Some((nonce, port, external)) if nonce == self.nonce && port == self.client.port() => {
                    self.note_epoch(now, epoch_s);
                    if result == 0 {
                        self.hold(now, Protocol::Pcp, external, lifetime_s);
                    } else {
                        self.on_refused(now, u16::from(result));
                    }
                }
                // A refusal may be short; of another version alone the nonce is not known.
                None if u16::from(result) == UNSUPPORTED_VERSION => self.on_refused(now, UNSUPPORTED_VERSION),
                _ => {}
            },
            (_, Some(Heard::Refused { result })) => self.on_refused(now, result),
            (Protocol::NatPmp, Some(Heard::Address { epoch_s, ip })) => {
                self.note_epoch(now, epoch_s);
                self.address = Some(ip);
                self.combine(now);
            }
            (Protocol::NatPmp, Some(Heard::Port { epoch_s, internal, external, lifetime_s }))
                if internal == self.client.port() =>
            {
                self.note_epoch(now, epoch_s);
                self.port = Some((external, lifetime_s));
                self.combine(now);
            }
            _ => {}
        }
    }

    /// Takes what the gateway has told everybody. It says that its mappings may be gone, and no more.
    pub(super) fn hear(&mut self, now: Instant, datagram: &[u8]) {
        if let Some(Heard::Announced { epoch_s } | Heard::Address { epoch_s, .. }) = parse(datagram)
            && self.note_epoch(now, epoch_s)
        {
            self.ask_anew(now);
        }
    }

    /// Uses the two answers of NAT-PMP, once both are there.
    fn combine(&mut self, now: Instant) {
        if let (Some(ip), Some((port, lifetime_s))) = (self.address, self.port) {
            (self.address, self.port) = (None, None);
            self.hold(now, Protocol::NatPmp, SocketAddr::new(ip.into(), port), lifetime_s);
        }
    }

    fn on_refused(&mut self, now: Instant, result: u16) {
        let asked = self.awaits.take();
        if matches!(self.phase, Phase::Holds(_)) && result != UNSUPPORTED_VERSION {
            return; // the mapping stays as long as was promised, and its renewal is tried again
        }
        if result == UNSUPPORTED_VERSION && asked == Some(Protocol::Pcp) && self.client.is_ipv4() {
            let first = STEPS.iter().position(|(protocol, _)| *protocol == Protocol::NatPmp);
            self.phase = Phase::Asks(first.unwrap_or(STEPS.len()), now);
        } else {
            self.fail(now, Lack::Refused);
        }
    }

    fn hold(&mut self, now: Instant, by: Protocol, external: SocketAddr, lifetime_s: u32) {
        self.awaits = None;
        let is_kept = lifetime_s >= LIFETIME_MIN_S && is_public(external);
        if !is_kept {
            // Without a use for the mapping it is given back.
            self.out.extend(self.questions(by, 0));
            return self.fail(now, if is_public(external) { Lack::TooShort } else { Lack::NotPublic });
        }
        let lifetime = Duration::from_secs(lifetime_s.min(LIFETIME_MAX_S).into());
        (self.failures, self.before) = (0, Some(external));
        self.phase = Phase::Holds(Held { by, external, until: now + lifetime, renew_at: now + lifetime / 2 });
    }

    /// Notes the gateway's clock; true when it has begun anew since it was last heard. Source: RFC 6887 §8.5.
    fn note_epoch(&mut self, now: Instant, epoch_s: u32) -> bool {
        let before = self.epoch.replace((now, epoch_s));
        let Some((at, before_s)) = before else { return false };
        let (here, there) = (now.since(at).as_secs(), u64::from(epoch_s.saturating_sub(before_s)));
        epoch_s.saturating_add(1) < before_s || here + 2 < there - there / 16 || there + 2 < here - here / 16
    }

    /// What gives the mapping back.
    pub(super) fn farewell(&self) -> Vec<Vec<u8>> {
        match self.phase {
            Phase::Holds(held) => self.questions(held.by, 0),
            Phase::Asks(..) | Phase::Rests(_) => Vec::new(),
        }
    }
}

/// True for an address at which nodes of the internet may reach this one.
pub(super) fn is_public(addr: SocketAddr) -> bool {
    addr.port() != 0
        && match addr.ip() {
            IpAddr::V4(ip) => {
                let [a, b, ..] = ip.octets();
                let is_near = ip.is_private() || ip.is_loopback() || ip.is_link_local() || a == 100 && b & 0xc0 == 64;
                !is_near && a != 0 && a < 224
            }
            IpAddr::V6(ip) => ip.segments()[0] & 0xe000 == 0x2000,
        }
}

#[cfg(test)]
mod tests;
