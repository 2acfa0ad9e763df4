//! The room of the way to the rendezvous over TLS, for networks that let no UDP pass: the same datagrams in messages of a
//! WebSocket, perhaps through a proxy. Nothing above notices: datagrams for the address of the rendezvous leave this way while UDP
//! is silent, and what comes this way comes from that address (`docs/paths.md`, "Without UDP").

mod channel;
mod frame;
mod http;
mod join;
mod pipe;
pub(crate) mod probe;
mod proxy;
mod server;
mod trial;
mod udp_watch;
mod verify;

pub use channel::{Channel, QUEUE_LEN_MAX};
pub use proxy::Proxy;
pub(crate) use proxy::is_exempt;
pub use server::{Entered, Entering};
pub use trial::{TlsTrouble, TlsWay, try_tls};

use crate::answer::TlsRoute;
use crate::config::TlsConfig;
use crate::context::Context;
use crate::host::RendezvousHost;
use crate::log::record::Record;
use crate::token::{NUMBERS, Room};
use crate::underlay::rendezvous::RendezvousPlace;
use crate::underlay::resolver::Resolver;
use crate::underlay::udp::Udp;
use join::{Join, Progress, Way};
use mio::{Registry, Token, Waker};
use pilot_core::{Instant, Level};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use udp_watch::UdpWatch;

/// Bounds of the pause between two attempts. Source: `docs/paths.md`, "Without UDP".
const PAUSE_MIN: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// Time that a look-up of a name may take.
const LOOK_UP_TIME: Duration = Duration::from_secs(5);
/// How often UDP is tried while datagrams go over TLS. Source: as above.
const UDP_PAUSE: Duration = Duration::from_secs(60);
/// Time for which a connection stays open after UDP works again: what the rendezvous sends this way arrives.
const LINGER: Duration = Duration::from_secs(10);
/// Time without an answer after which the other side is asked for a sign of life, and after which the connection is given up.
const PING_AFTER: Duration = Duration::from_secs(1);
const GIVE_UP_AFTER: Duration = Duration::from_secs(5);
/// A connection that was of use for so long is replaced at once when it breaks.
const OF_USE: Duration = Duration::from_secs(10);

enum State {
    /// UDP works, or there is nothing to send.
    Idle,
    /// An attempt failed; the next one begins then.
    Paused(Instant),
    /// The first machine on the way is looked up until then.
    LooksUp(Box<Way>, Instant),
    Joins(Box<Join>),
    Open(Box<Open>),
}

/// A connection that stands.
struct Open {
    channel: Box<Channel>,
    since: Instant,
    /// Datagrams go this way; else UDP works, and the connection ends at `until`.
    carries: bool,
    until: Option<Instant>,
    /// When the first message left that has no answer.
    unanswered: Option<Instant>,
    has_pinged: bool,
    /// A datagram came: the way leads to the rendezvous and back.
    is_proven: bool,
    try_udp_at: Instant,
    is_readable: bool,
    broken: Option<io::Error>,
}

/// The way over TLS.
pub(crate) struct TlsLink {
    config: TlsConfig,
    registry: Registry,
    resolver: Resolver,
    /// The address at which the core has the rendezvous; `None` while there is none, or when UDP alone is used.
    rendezvous: Option<SocketAddr>,
    udp: UdpWatch,
    state: State,
    /// Where the next attempt leads, and the newest one.
    next_host: Option<RendezvousHost>,
    leads_to: String,
    pause: Duration,
    attempts: usize,
    /// The number of the newest descriptor.
    number: usize,
    /// The newest failure that was told.
    told: String,
}

impl TlsLink {
    pub(crate) fn new(config: &TlsConfig, registry: Registry, waker: Arc<Waker>) -> Self {
        Self {
            config: config.clone(),
            registry,
            resolver: Resolver::new(waker),
            rendezvous: None,
            udp: UdpWatch::default(),
            state: State::Idle,
            next_host: None,
            leads_to: String::new(),
            pause: PAUSE_MIN,
            attempts: 0,
            number: 0,
            told: String::new(),
        }
    }

    // Inputs.

    /// A descriptor of this room is ready.
    pub(crate) fn readiness(&mut self, token: Token, is_readable: bool) {
        if let State::Open(open) = &mut self.state
            && Room::Tls.number(token) == self.number
        {
            open.is_readable |= is_readable;
        }
    }

    /// Takes a batch that may be for the rendezvous; true when it leaves this way, and must not leave by UDP.
    pub(crate) fn takes(&mut self, now: Instant, to: SocketAddr, segment_len: usize, batch: &[u8]) -> bool {
        if self.rendezvous != Some(to) {
            return false;
        }
        let datagrams = batch.chunks(segment_len.max(1));
        match &mut self.state {
            State::Open(open) if open.carries => {
                datagrams.for_each(|datagram| open.channel.send(datagram));
                open.unanswered.get_or_insert(now);
                true
            }
            _ => {
                self.udp.sent(now, datagrams);
                false
            }
        }
    }

    /// Looks at a batch that came by UDP; true when it is the answer to a question of this room, and is for no other.
    pub(crate) fn hears(&mut self, cx: &mut Context, from: SocketAddr, segment_len: usize, batch: &[u8]) -> bool {
        if self.rendezvous != Some(from) {
            return false;
        }
        let is_echo = batch.chunks(segment_len.max(1)).any(|datagram| self.udp.is_echo(datagram));
        match &mut self.state {
            // A forged datagram must not bring a node back to a UDP that does not work.
            State::Open(open) if open.carries && !is_echo => return false,
            State::Open(open) if open.carries => {
                (open.carries, open.until) = (false, Some(cx.now + LINGER));
                cx.carrier.move_to_udp(cx.now);
                cx.trace(Level::Info, |_| carrier("udp"));
            }
            State::Open(_) => {}
            _ => {
                (self.state, self.pause) = (State::Idle, PAUSE_MIN);
                cx.carrier.move_to_udp(cx.now);
            }
        }
        self.udp.answered(cx.now);
        is_echo
    }

    /// Gives what has come over TLS to the stack.
    pub(crate) fn receive(&mut self, cx: &mut Context) {
        let (State::Open(open), Some(from)) = (&mut self.state, self.rendezvous) else { return };
        if !std::mem::take(&mut open.is_readable) {
            return;
        }
        let (now, mut has_any) = (cx.now, false);
        let read = open.channel.receive(|datagram| {
            has_any = true;
            let len = datagram.len();
            cx.stack.handle_batch(now, from, datagram, len);
        });
        match read {
            Ok(has_more) => open.is_readable = has_more,
            Err(e) => open.broken = Some(e),
        }
        if has_any && !std::mem::replace(&mut open.is_proven, true) {
            self.pause = PAUSE_MIN;
            self.told.clear();
        }
        if has_any || open.is_proven && open.channel.take_sign_of_life() {
            (open.unanswered, open.has_pinged) = (None, false);
        }
    }

    /// Sends what the kernel has room for.
    pub(crate) fn flush(&mut self) {
        if let State::Open(open) = &mut self.state
            && let Err(e) = open.channel.flush()
        {
            open.broken.get_or_insert(e);
        }
    }

    /// True while there is work that no deadline or readiness announces.
    pub(crate) fn has_more(&self) -> bool {
        matches!(&self.state, State::Open(open) if open.is_readable || open.broken.is_some())
    }

    // Time.

    pub(crate) fn handle_timeout(&mut self, cx: &mut Context, place: &RendezvousPlace, udp: &mut Udp) {
        let address = cx.stack.endpoint().rendezvous_address().map(|(_, addr)| addr);
        let host = self.host(place);
        self.rendezvous = address.filter(|_| host.is_some());
        if host != self.next_host {
            cx.carrier.tls = host.clone().map(|host| self.route(host));
            self.next_host = host;
        }
        match &mut self.state {
            State::Idle if self.udp.is_silent(cx.now) => self.begin(cx, place),
            State::Paused(at) if *at <= cx.now => {
                self.state = State::Idle;
                if self.udp.is_silent(cx.now) {
                    self.begin(cx, place);
                }
            }
            State::LooksUp(..) => self.look_up(cx),
            State::Joins(_) => self.advance(cx),
            State::Open(_) => self.tend(cx),
            State::Idle | State::Paused(_) => {}
        }
        if let Some(to) = self.rendezvous
            && !udp.is_blocked()
            && let Some(question) = self.udp.question(cx.now)
        {
            udp.send_batch(to, question.len(), &question);
        }
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let own = match &self.state {
            State::Idle => self.udp.silent_at(),
            State::Paused(at) | State::LooksUp(_, at) => Some(*at),
            State::Joins(join) => Some(join.poll_timeout()),
            State::Open(open) if open.carries => {
                let patience = if open.has_pinged { GIVE_UP_AFTER } else { PING_AFTER };
                let answer = open.unanswered.map(|at| at + patience);
                Some(answer.map_or(open.try_udp_at, |at| at.min(open.try_udp_at)))
            }
            State::Open(open) => open.until.into_iter().chain(self.udp.silent_at()).min(),
        };
        own.into_iter().chain(self.udp.ask_at()).min().filter(|_| self.rendezvous.is_some())
    }

    // Attempts.

    /// The place of the next attempt; `None` when this way is not used: it is off, or the rendezvous is on this machine.
    fn host(&self, place: &RendezvousPlace) -> Option<RendezvousHost> {
        if !self.config.is_on {
            return None;
        }
        if let Some(at) = &self.config.at {
            return Some(at.clone());
        }
        let hosts = place.hosts();
        let host = hosts.get(self.attempts % hosts.len().max(1))?;
        let is_here = host.name == "localhost" || host.name.parse().is_ok_and(|ip: IpAddr| ip.is_loopback());
        (!is_here).then(|| RendezvousHost { name: host.name.clone(), port: TlsConfig::DEFAULT_PORT })
    }

    /// The way to a host, to be told.
    fn route(&self, host: RendezvousHost) -> TlsRoute {
        let (place, way) = (host.to_string(), Way::new(host, &self.config.proxy, self.config.verify));
        let proxy = way.as_ref().ok().and_then(|way| way.proxy.as_ref());
        TlsRoute {
            place,
            proxy: proxy.map(|proxy| proxy.at.to_string()),
            has_password: proxy.is_some_and(|proxy| proxy.credentials().is_some()),
            wrong: way.as_ref().err().cloned(),
        }
    }

    fn begin(&mut self, cx: &mut Context, place: &RendezvousPlace) {
        let Some(host) = self.host(place) else { return };
        match Way::new(host, &self.config.proxy, self.config.verify) {
            Ok(way) => {
                self.leads_to = way.to_string();
                self.state = State::LooksUp(Box::new(way), cx.now + LOOK_UP_TIME);
                self.look_up(cx);
            }
            Err(text) => self.fail(cx, &text),
        }
    }

    fn look_up(&mut self, cx: &mut Context) {
        self.resolver.poll(cx.now);
        let State::LooksUp(way, until) = &mut self.state else { return };
        let RendezvousHost { name, port } = way.first();
        match self.resolver.addresses(cx.now, name) {
            Some(Ok(ips)) => {
                let addresses = ips.into_iter().map(|ip| SocketAddr::new(ip, *port)).collect();
                let join = Join::new(cx.now, (**way).clone(), addresses);
                self.number = (self.number + 1) % NUMBERS;
                self.state = State::Joins(Box::new(join));
                self.advance(cx);
            }
            Some(Err(text)) => self.fail(cx, &text),
            None if *until <= cx.now => {
                let text = format!("{name} cannot be looked up");
                self.fail(cx, &text);
            }
            None => {}
        }
    }

    fn advance(&mut self, cx: &mut Context) {
        let State::Joins(join) = &mut self.state else { return };
        match join.advance(cx.now, (&self.registry, self.number)) {
            Progress::Waits => {}
            Progress::Failed(text) => self.fail(cx, &text),
            Progress::Stands(channel) => {
                let mut open = Open {
                    channel,
                    since: cx.now,
                    carries: false,
                    until: Some(cx.now + LINGER),
                    unanswered: None,
                    has_pinged: false,
                    is_proven: false,
                    try_udp_at: cx.now + UDP_PAUSE,
                    is_readable: true,
                    broken: None,
                };
                if self.udp.is_silent(cx.now) {
                    open.carry(cx, &mut self.udp, &self.leads_to);
                    for datagram in self.udp.take_kept() {
                        open.channel.send(&datagram);
                        open.unanswered.get_or_insert(cx.now);
                    }
                }
                self.state = State::Open(Box::new(open));
            }
        }
    }

    fn fail(&mut self, cx: &mut Context, text: &str) {
        self.state = State::Paused(cx.now + self.pause);
        self.pause = (self.pause * 2).min(PAUSE_MAX);
        self.attempts += 1;
        text.clone_into(&mut cx.carrier.tls_failure);
        if self.told != text {
            self.told = text.into();
            cx.trace(Level::Warn, |_| Record::new(Level::Warn, "tls_failed").with("reason", text));
        }
    }

    // A connection that stands.

    fn tend(&mut self, cx: &mut Context) {
        let State::Open(open) = &mut self.state else { return };
        if let Some(e) = open.broken.take() {
            let is_of_use = open.is_proven && cx.now.since(open.since) >= OF_USE;
            if !open.carries {
                self.state = State::Idle;
            } else if is_of_use {
                self.state = State::Paused(cx.now); // the next one begins at once
            } else {
                self.fail(cx, &format!("the connection broke: {e}"));
            }
            return;
        }
        if !open.carries {
            if open.until.is_some_and(|until| until <= cx.now) {
                self.state = State::Idle;
            } else if self.udp.is_silent(cx.now) {
                open.carry(cx, &mut self.udp, &self.leads_to);
                self.udp.take_kept().iter().for_each(|datagram| open.channel.send(datagram));
            }
            return;
        }
        if open.try_udp_at <= cx.now {
            open.try_udp_at = cx.now + UDP_PAUSE;
            self.udp.ask(cx.now);
        }
        match open.unanswered.map(|at| cx.now.since(at)) {
            Some(silence) if silence >= GIVE_UP_AFTER => {
                self.fail(cx, "nothing comes back through the WebSocket");
            }
            Some(silence) if silence >= PING_AFTER && !open.has_pinged => {
                open.has_pinged = true;
                open.channel.ping();
            }
            _ => {}
        }
    }
}

impl Open {
    /// Datagrams go this way from now on.
    fn carry(&mut self, cx: &mut Context, udp: &mut UdpWatch, leads_to: &str) {
        udp.stop_asking();
        (self.carries, self.until) = (true, None);
        self.try_udp_at = cx.now + UDP_PAUSE;
        cx.carrier.move_to_tls(cx.now, leads_to);
        cx.trace(Level::Info, |_| carrier("tls"));
    }
}

/// The record of the way that datagrams to the rendezvous take from now on.
fn carrier(by: &'static str) -> Record {
    Record::new(Level::Info, "rendezvous_by").with("carrier", by)
}

#[cfg(test)]
mod tests;
