//! Owns the exposes: their requests, and the programs that they call for peers' streams.

use crate::answer::{Exposed, Exposes, Whois};
use crate::calls::resolve;
use crate::context::Context;
use crate::effect::Effect;
use crate::failure::{Code, Failure};
use crate::programs::dial::{Address, Dial, Dialed};
use crate::programs::entry::{Entry, Expose, Kind, Life};
use crate::programs::joint::{Joint, Phase, local_address};
use crate::programs::joint_id::JointId;
use crate::programs::relay::{End, Relay, Server};
use crate::programs::relays::introduce;
use crate::programs::room::{ENTRIES_MAX, Programs};
use crate::programs::target::Target;
use crate::streams::names::{ends, name_of};
use pilot_core::identity::IdentityKey;
use pilot_stack::StreamId;
use std::net::SocketAddr;

/// An expose as it was asked for.
pub(crate) struct ExposeTerms {
    pub(crate) port: u16,
    pub(crate) target: String,
    pub(crate) http: bool,
    pub(crate) a2a: bool,
    pub(crate) proxy_protocol: bool,
    pub(crate) nodes: Vec<String>,
}

impl Programs {
    /// Checks an expose before its port is bound, and enters it.
    ///
    /// # Errors
    /// `InvalidArgument`; `Conflict` when the port is exposed; `NotFound` and `Ambiguous` for the peers; `Full`.
    pub(crate) fn expose(&mut self, cx: &Context, terms: ExposeTerms, life: Life) -> Result<Exposed, Failure> {
        let ExposeTerms { port, target, http, a2a, proxy_protocol, nodes } = terms;
        if port == 0 {
            return Err(Failure::new(Code::InvalidArgument, "port 0 cannot be reached"));
        }
        let target = Target::parse(&target)?;
        let trust = cx.stack.endpoint().trust();
        // A key is taken as it is: its owner may have been trusted when the expose was saved.
        let key = |text: &String| text.parse().or_else(|_| resolve::pinned(trust, text).map(|pin| pin.identity));
        let nodes: Vec<IdentityKey> = nodes.iter().map(key).collect::<Result<_, Failure>>()?;
        let mut exposes = self.entries.iter().filter_map(Entry::expose);
        if exposes.any(|expose| expose.port == port) {
            return Err(Failure::new(Code::Conflict, format!("port {port} is exposed already"))
                .hint(format!("pilotctl expose --remove {port}")));
        }
        if self.entries.iter().filter_map(Entry::expose).count() >= ENTRIES_MAX {
            return Err(Failure::new(Code::Full, format!("{ENTRIES_MAX} ports are exposed")));
        }
        let kind = Kind::Expose(Expose { port, target, http, a2a, proxy_protocol, nodes });
        let entry = Entry::new(self.next_number(), life, kind);
        let answer = entry.as_exposed(trust);
        self.entries.push(entry);
        answer.ok_or_else(|| Failure::new(Code::Internal, "an expose of another kind"))
    }

    /// Removes the expose of a port, which the caller gives up; connections that stand go on.
    ///
    /// # Errors
    /// `NotFound`.
    pub(crate) fn unexpose(&mut self, cx: &Context, port: u16) -> Result<Exposed, Failure> {
        let number = self.exposing(port).map(|entry| entry.number);
        let removed = number.and_then(|number| self.remove_entry(number));
        let removed = removed.and_then(|entry| entry.as_exposed(cx.stack.endpoint().trust()));
        removed.ok_or_else(|| {
            Failure::new(Code::NotFound, format!("port {port} is not exposed")).hint("pilotctl expose --list")
        })
    }

    /// Lists the exposed ports.
    pub(crate) fn exposes(&self, cx: &Context) -> Exposes {
        let trust = cx.stack.endpoint().trust();
        let exposes: Vec<Exposed> = self.entries.iter().filter_map(|entry| entry.as_exposed(trust)).collect();
        Exposes { total: exposes.len() as u64, exposes }
    }

    fn exposing(&self, port: u16) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.expose().is_some_and(|expose| expose.port == port))
    }

    /// A peer has opened a stream to an exposed port. `None`: the stream is reset.
    pub(crate) fn incoming(&mut self, cx: &mut Context, stream: StreamId, port: u16) -> Option<JointId> {
        let number = self.exposing(port).map(|entry| entry.number);
        let outcome = number.ok_or(String::new()).and_then(|number| self.admit(cx, stream, number));
        match outcome {
            Ok(id) => {
                self.dial(cx, id);
                self.dial_server(cx, id);
                Some(id)
            }
            Err(why) => {
                if let Some(number) = number {
                    self.note_failure(cx, number, &why);
                }
                cx.out.push(Effect::Abort(stream));
                None
            }
        }
    }

    /// Enters a connection for a peer's stream, unless the owner or a maximum forbids it.
    fn admit(&mut self, cx: &Context, stream: StreamId, number: u32) -> Result<JointId, String> {
        let peer = cx.stack.stream_info(stream).and_then(|info| cx.stack.endpoint().identity_of(info.peer));
        let expose = self.entries.iter().find(|entry| entry.number == number).and_then(Entry::expose);
        let Some((expose, peer)) = expose.zip(peer) else { return Err("the peer has gone".into()) };
        if !expose.nodes.is_empty() && !expose.nodes.contains(&peer) {
            let pin = cx.stack.endpoint().trust().pin(&peer);
            return Err(format!("{} is not among the peers of this port", pin.map(name_of).unwrap_or_default()));
        }
        let addresses = match &expose.target {
            Target::Unix(path) => vec![Address::Unix(path.clone())],
            Target::Tcp(host, port) => {
                let ip = host.parse().map_err(|_| format!("{host} is no address"))?;
                vec![Address::Tcp(SocketAddr::new(ip, *port))]
            }
        };
        if self.joints.len() >= self.connections_max {
            return Err("too many connections".into());
        }
        let dial = Dial::new(addresses, cx.now);
        let phase = match introduce(cx, expose, stream, &peer) {
            None => Phase::Dialing(dial),
            Some((filter, first)) => {
                let mut relay = Relay::new(filter, End::Stream(stream), Server::Dialing(dial));
                relay.lead_in(&first);
                Phase::Relayed(Box::new(relay))
            }
        };
        Ok(self.add(Joint::new(number, phase, Some(stream))))
    }

    /// Goes on with the call of a program.
    pub(super) fn dial(&mut self, cx: &mut Context, id: JointId) {
        let Some(joint) = self.joints.get_mut(id) else { return };
        let Phase::Dialing(dial) = &mut joint.phase else { return };
        let (entry, stream) = (joint.entry, joint.stream);
        match dial.progress(cx.now, &self.registry, Self::joint_token(id)) {
            Dialed::Waits(until) => self.joints.set_deadline(id, Some(until)),
            Dialed::Connected(socket) => {
                joint.local = local_address(&socket);
                self.join(cx, id, socket);
            }
            Dialed::Failed(why) => {
                let target = self.entry_mut(entry).and_then(|e| e.expose()).map(|e| e.target.to_string());
                self.note_failure(cx, entry, &format!("{}: {why}", target.unwrap_or_default()));
                self.end(id, true);
                cx.out.extend(stream.map(Effect::Abort));
            }
        }
    }

    /// Tells which peer is behind a connection that a program has accepted, by the address that the program sees.
    ///
    /// # Errors
    /// `NotFound`; `InvalidArgument` for a text that is no address with a port.
    pub(crate) fn whois(&self, cx: &Context, local: &str) -> Result<Whois, Failure> {
        let addr: SocketAddr = local.parse().map_err(|_| {
            Failure::new(Code::InvalidArgument, format!("{local:?} is no address with a port")).hint("ADDRESS:PORT")
        })?;
        let stream = self.joints.iter().find(|joint| joint.local == Some(addr)).and_then(|joint| joint.stream);
        let stream = stream.ok_or_else(|| {
            Failure::new(Code::NotFound, format!("no peer's connection comes from {addr}"))
                .hint("the address of the client, as the server behind an exposed port sees it")
        })?;
        let (ours, theirs) = ends(&cx.stack, stream);
        let pin = cx.stack.endpoint().trust().pins().find(|pin| pin.addr == theirs.addr);
        Ok(Whois {
            hostname: pin.map(|pin| pin.hostname.clone()).unwrap_or_default(),
            address: theirs.addr.to_string(),
            fingerprint: pin.map(|pin| pin.identity.fingerprint()).unwrap_or_default(),
            port: ours.port,
            peer_port: theirs.port,
        })
    }
}
