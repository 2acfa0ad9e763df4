//! Owns one attempt to reach a rendezvous over TLS: TCP, perhaps a proxy, TLS, the upgrade to WebSocket.

use crate::config::ProxySetting;
use crate::crypto::entropy;
use crate::host::RendezvousHost;
use crate::token::Room;
use crate::underlay::dial::{Address, Dial, Dialed};
use crate::underlay::tls::channel::Channel;
use crate::underlay::tls::http::{self, Answer};
use crate::underlay::tls::pipe::Pipe;
use crate::underlay::tls::proxy::Proxy;
use crate::underlay::tls::verify;
use mio::Registry;
use mio::net::TcpStream;
use pilot_core::Instant;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

/// Time for all steps together.
const ALL_TIME: Duration = Duration::from_secs(10);

/// Status of a proxy's answer to a question without the right password. Source: RFC 9110 §15.5.8.
const WANTS_PASSWORD: u16 = 407;
/// Reads of one turn; no answer is longer.
const EXCHANGES: usize = 8;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// TCP does not stand yet.
    Tcp,
    /// The proxy was asked.
    Proxy,
    /// TLS begins, and the question for the upgrade is in it.
    Upgrade,
}

/// What an attempt has come to.
pub(super) enum Progress {
    /// It waits.
    Waits,
    /// The connection carries datagrams.
    Stands(Box<Channel>),
    /// It failed, with a text for people.
    Failed(String),
}

/// Where an attempt leads.
#[derive(Clone, Debug)]
pub(super) struct Way {
    /// The rendezvous.
    pub(super) host: RendezvousHost,
    pub(super) proxy: Option<Proxy>,
    /// The certificate of the rendezvous must be one of the system's authorities.
    pub(super) verify: bool,
}

impl Way {
    /// The way to a host.
    ///
    /// # Errors
    /// The text that names the proxy is none.
    pub(super) fn new(host: RendezvousHost, proxy: &ProxySetting, verify: bool) -> Result<Self, String> {
        let proxy = proxy.proxy_for(&host.name).map_err(|text| format!("HTTPS_PROXY: {text}"))?;
        Ok(Self { host, proxy, verify })
    }

    /// The machine to which TCP leads.
    pub(super) fn first(&self) -> &RendezvousHost {
        self.proxy.as_ref().map_or(&self.host, |proxy| &proxy.at)
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.host)?;
        self.proxy.as_ref().map_or(Ok(()), |proxy| write!(f, " by the proxy {}", proxy.at))
    }
}

/// An attempt.
pub(super) struct Join {
    way: Way,
    step: Step,
    /// TCP to the addresses, until it stands.
    dial: Option<Dial>,
    /// When another address is due, or TCP is over.
    dial_at: Instant,
    pipe: Option<Pipe>,
    nonce: [u8; 16],
    head: Vec<u8>,
    until: Instant,
}

impl Join {
    pub(super) fn new(now: Instant, way: Way, addresses: Vec<SocketAddr>) -> Self {
        Self {
            way,
            step: Step::Tcp,
            dial: Some(Dial::new(addresses.into_iter().map(Address::Tcp).collect(), now)),
            dial_at: now,
            pipe: None,
            nonce: entropy(),
            head: Vec::new(),
            until: now + ALL_TIME,
        }
    }

    pub(super) fn poll_timeout(&self) -> Instant {
        if self.step == Step::Tcp { self.dial_at.min(self.until) } else { self.until }
    }

    /// Goes on as far as it can. `registered`: the registry and the number of the descriptor's token.
    pub(super) fn advance(&mut self, now: Instant, registered: (&Registry, usize)) -> Progress {
        if now >= self.until {
            return Progress::Failed(self.silence());
        }
        match self.step(now, registered) {
            Ok(progress) => progress,
            Err(text) => Progress::Failed(text),
        }
    }

    /// What is to be said when no answer comes, for people.
    pub(super) fn silence(&self) -> String {
        format!("{} does not answer", self.asked())
    }

    /// True while a proxy is to answer, and not the rendezvous.
    pub(super) fn is_at_proxy(&self) -> bool {
        self.step != Step::Upgrade && self.way.proxy.is_some()
    }

    /// True when the proxy has answered that it wants a password, or another one.
    pub(super) fn wants_password(&self) -> bool {
        self.step == Step::Proxy
            && matches!(Answer::parse(&self.head), Ok(Some(answer)) if answer.status == WANTS_PASSWORD)
    }

    /// The one that is to answer, for people.
    fn asked(&self) -> String {
        let RendezvousHost { name, port } = if self.step == Step::Upgrade { &self.way.host } else { self.way.first() };
        let kind = if self.is_at_proxy() { "the proxy " } else { "" };
        format!("{kind}{name}, TCP port {port},")
    }

    fn step(&mut self, now: Instant, registered: (&Registry, usize)) -> Result<Progress, String> {
        if self.step == Step::Tcp {
            if !self.has_tcp(now, registered)? {
                return Ok(Progress::Waits);
            }
            match &self.way.proxy {
                Some(proxy) => {
                    let RendezvousHost { name, port } = &self.way.host;
                    let is_ipv6 = name.contains(':');
                    let target = if is_ipv6 { format!("[{name}]:{port}") } else { format!("{name}:{port}") };
                    let question = http::connect(&target, proxy.credentials());
                    self.pipe.iter_mut().for_each(|pipe| pipe.write(question.as_bytes()));
                    self.step = Step::Proxy;
                }
                None => self.secure()?,
            }
        }
        loop {
            let read = self.exchange();
            match Answer::parse(&self.head) {
                Ok(Some(answer)) if self.step == Step::Proxy => self.proxy_answered(&answer)?,
                Ok(Some(answer)) => return self.rendezvous_answered(&answer),
                Ok(None) => {
                    read.map_err(|e| self.broken(&e))?;
                    return Ok(Progress::Waits);
                }
                Err(http::NotHttp) => return Err(format!("{} answers with something that is not HTTP", self.asked())),
            }
        }
    }

    /// Sends and reads what there is. What came before an error is in the head all the same.
    fn exchange(&mut self) -> io::Result<()> {
        let Some(pipe) = &mut self.pipe else { return Ok(()) };
        let mut sent = pipe.flush().map(drop);
        for _ in 0..EXCHANGES {
            let has_more = pipe.read(&mut self.head)?;
            // TLS answers what it read.
            sent = sent.and(pipe.flush().map(drop));
            if !has_more {
                break;
            }
        }
        sent
    }

    fn broken(&self, e: &io::Error) -> String {
        match e.kind() {
            io::ErrorKind::InvalidData => format!("{} does not speak TLS as it should: {e}", self.asked()),
            io::ErrorKind::UnexpectedEof => format!("{} ends the connection without an answer", self.asked()),
            _ => format!("{} breaks the connection: {e}", self.asked()),
        }
    }

    /// True when TCP stands.
    fn has_tcp(&mut self, now: Instant, (registry, number): (&Registry, usize)) -> Result<bool, String> {
        let Some(dial) = &mut self.dial else { return Ok(true) };
        match dial.progress(now, registry, Room::Tls.token(number)) {
            Dialed::Waits(until) => {
                self.dial_at = until;
                Ok(false)
            }
            Dialed::Connected(socket) => {
                (self.dial, self.pipe) = (None, Some(Pipe::new(TcpStream::from_std(socket.into()))));
                Ok(true)
            }
            Dialed::Failed(why) => Err(format!("{} cannot be reached: {why}", self.asked())),
        }
    }

    /// Begins TLS, and asks for the upgrade inside.
    fn secure(&mut self) -> Result<(), String> {
        let host = &self.way.host;
        let tls = verify::client(&host.name, self.way.verify)?;
        if let Some(pipe) = &mut self.pipe {
            pipe.start_tls(tls.into());
            pipe.write(http::upgrade(&host.name, &self.nonce).as_bytes());
        }
        self.step = Step::Upgrade;
        Ok(())
    }

    fn proxy_answered(&mut self, answer: &Answer) -> Result<(), String> {
        match answer.status {
            200..300 if self.head.len() == answer.len => {
                self.head.clear();
                self.secure()
            }
            200..300 => Err(format!("{} says more than a proxy does: no TLS begins so", self.asked())),
            WANTS_PASSWORD => Err(format!("{} wants a password: http://USER:PASSWORD@HOST:PORT", self.asked())),
            status => Err(format!("{} refuses: {status} {}", self.asked(), answer.reason)),
        }
    }

    fn rendezvous_answered(&mut self, answer: &Answer) -> Result<Progress, String> {
        if !answer.is_upgrade(&self.nonce) {
            let Answer { status, reason, .. } = answer;
            return Err(format!("{} is no rendezvous of Pilot: {status} {reason}", self.asked()));
        }
        let rest = self.head.split_off(answer.len);
        let mask = u32::from_le_bytes(entropy()) | 1; // the generator needs a bit that is set
        let pipe = self.pipe.take().ok_or("the connection is gone")?;
        Ok(Progress::Stands(Box::new(Channel::new(pipe, rest, Some(mask)))))
    }
}
