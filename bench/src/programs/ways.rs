//! Owns the three ways to a server: straight, through two plain relays, and through two daemons by `forward` and `expose`.

use super::place::{Place, part, say_ready_until_end};
use super::rows::{Row, Samples};
use crate::compare::Side;
use crate::contest::{Folder, Outcome, until};
use pilot_node::answer::RendezvousState;
use pilot_node::{Client, Config, Node, RendezvousConfig, Request};
use pilot_rendezvous::server::{Server, ServerConfig};
use serde_json::Value;
use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

/// First port of Pilot that a server is exposed on.
const PORT: u16 = 8080;
/// Longest wait for an answer of a daemon.
const ANSWER_TIME: Duration = Duration::from_secs(10);
/// Length of a ping. Unit: bytes. Source: `pilotctl ping`.
const PING_LEN: usize = 64;
const NAMES: [&str; 2] = ["bench-near", "bench-far"];

/// Serves a node with the services and the socket of a daemon.
pub(super) fn serve_node(home: &Path, name: &str, rendezvous: &str, bind: SocketAddr) -> Outcome<()> {
    let mut config = Config::daemon(home);
    config.socket = Some(home.join("socket"));
    config.hostname = Some(name.into());
    config.rendezvous = rendezvous.parse::<RendezvousConfig>()?;
    config.listen = bind;
    config.approve_all = true;
    config.default_ports = "all".parse().map_err(|_| "ports")?;
    let node = Node::start(config)?;
    until("registration", || Ok(node.info()?.rendezvous == RendezvousState::Ready))?;
    say_ready_until_end("");
    node.wait();
    Ok(())
}

/// Serves a rendezvous.
pub(super) fn serve_rendezvous(home: &Path, bind: SocketAddr) -> Outcome<()> {
    let server = Server::bind(&ServerConfig { home: home.to_owned(), listen: bind, idle_exit: None })?;
    let (key, addr) = server.endpoint();
    say_ready_until_end(&format!("{key}@{addr}"));
    Ok(server.run()?)
}

/// Two daemons that trust each other, one on each side of a place.
pub(super) struct Daemons {
    folder: Folder,
    next: u16,
    // Removed after the daemons.
    _parts: Vec<Side>,
}

impl Daemons {
    pub(super) fn start(place: &Place) -> Outcome<Self> {
        let folder = Folder::new("bench-programs");
        let bind = |side: usize| SocketAddr::new(place.address(side), 0).to_string();
        let home = |name: &str| folder.0.join(name).to_string_lossy().into_owned();
        let (rendezvous, to) = part(place, 1, &["rendezvous", "--home", &home("rendezvous"), "--bind", &bind(1)])?;
        let mut parts = Vec::new();
        for (side, name) in NAMES.into_iter().enumerate().rev() {
            let arguments = ["node", "--home", &home(name), "--name", name, "--to", &to, "--bind", &bind(side)];
            parts.push(part(place, side, &arguments)?.0);
        }
        parts.push(rendezvous);
        let daemons = Self { folder, next: PORT, _parts: parts };
        daemons.befriend()?;
        Ok(daemons)
    }

    fn befriend(&self) -> Outcome<()> {
        let ports = Some("all".into());
        self.ask(0, &Request::Handshake { node: NAMES[1].into(), note: None, ports, expires_s: None, quota: None })?;
        until("trust", || {
            Ok(self.ask(0, &Request::Trust)?["trusted"].as_array().is_some_and(|trusted| !trusted.is_empty()))
        })?;
        until("the tunnel", || Ok(self.ping(1).is_ok()))
    }

    fn client(&self, side: usize) -> Outcome<Client> {
        Ok(Client::connect(&self.folder.0.join(NAMES[side]).join("socket"))?)
    }

    fn ask(&self, side: usize, request: &Request) -> Outcome<Value> {
        Ok(self.client(side)?.ask(request, Some(ANSWER_TIME))?)
    }

    /// Opens a way to a server of the far side; returns the port on the near side's loopback.
    pub(super) fn open(&mut self, target: u16) -> Outcome<u16> {
        let port = self.next;
        self.next += 1;
        let target = target.to_string();
        let (http, a2a, proxy_protocol, nodes, temporary) = (None, None, None, None, None);
        self.ask(1, &Request::Expose { port, target, http, a2a, proxy_protocol, nodes, temporary })?;
        let listen = "0".into();
        let bound = self.ask(0, &Request::Forward { node: NAMES[1].into(), port, listen, temporary })?;
        let listen =
            bound["listen"].as_str().and_then(|listen| listen.rsplit_once(':')).ok_or("no address was bound")?;
        Ok(listen.1.parse()?)
    }

    /// Measures round trips as `pilotctl ping` does, each on a stream of its own. Unit: milliseconds.
    pub(super) fn ping(&self, count: usize) -> Outcome<Samples> {
        let (mut client, mut samples) = (self.client(0)?, Samples::default());
        for _ in 0..count {
            let stream = client.open(NAMES[1], 7, Some(ANSWER_TIME))?;
            let begin = Instant::now();
            (&stream.socket).write_all(&[7; PING_LEN])?;
            (&stream.socket).read_exact(&mut [0; PING_LEN])?;
            samples.add(begin.elapsed().as_secs_f64() * 1e3);
        }
        Ok(samples)
    }
}

/// The three ways to one server on this machine.
pub(super) struct Ways {
    pub(super) plain: SocketAddr,
    pub(super) relays: SocketAddr,
    pub(super) pilot: SocketAddr,
    pub(super) daemons: Daemons,
    _relays: Vec<Side>,
}

impl Ways {
    pub(super) fn to(target: u16) -> Outcome<Self> {
        let (place, plain) = (Place::here(), SocketAddr::from(([127, 0, 0, 1], target)));
        let (far, behind) = part(&place, 1, &["relay", "--to", &plain.to_string()])?;
        let (near, relays) = part(&place, 0, &["relay", "--to", &behind])?;
        let mut daemons = Daemons::start(&place)?;
        let pilot = SocketAddr::from(([127, 0, 0, 1], daemons.open(target)?));
        Ok(Self { plain, relays: relays.parse()?, pilot, daemons, _relays: vec![near, far] })
    }

    /// Measures every way once in each round.
    pub(super) fn rounds(&self, rounds: usize, row: &mut Row, run: impl Fn(SocketAddr) -> Outcome<f64>) -> Outcome<()> {
        for _ in 0..rounds {
            row.plain_tcp.add(run(self.plain)?);
            row.relays.add(run(self.relays)?);
            row.pilot.add(run(self.pilot)?);
        }
        Ok(())
    }
}
