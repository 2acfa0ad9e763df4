//! Owns the exposes: their requests, and the programs that they call for peers' streams.

use crate::answer::{Exposed, Exposes, Whois};
use crate::calls::resolve;
use crate::context::Context;
use crate::effect::Effect;
use crate::failure::{Code, Failure};
use crate::programs::entry::{Entry, Expose, Kind, Life};
use crate::programs::joint::{Joint, Phase};
use crate::programs::joint_id::JointId;
use crate::programs::relays::introduce;
use crate::programs::room::{ENTRIES_MAX, Programs};
use crate::programs::sockets::local_address;
use crate::programs::target::Target;
use crate::streams::names::{ends, name_of};
use crate::underlay::dial::{Address, CONNECT_TIMEOUT, Dial, Dialed};
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
    pub(crate) fn unexpose(&mut self, cx: &Context, port: u16) -> Result<(Exposed, Life), Failure> {
        let number = self.exposing(port).map(|entry| entry.number);
        let removed = number.and_then(|number| self.remove_entry(number));
        let trust = cx.stack.endpoint().trust();
        let removed = removed.and_then(|entry| Some((entry.as_exposed(trust)?, entry.life)));
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
                cx.stack.accepted(stream);
                self.call(cx, id);
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
        if self.joints.len() >= self.connections_max {
            return Err("too many connections".into());
        }
        Ok(self.add(Joint::new(number, Phase::Naming, Some(stream))))
    }

    /// Calls the program behind a connection's port, once the addresses of its host are known.
    fn call(&mut self, cx: &mut Context, id: JointId) {
        let Some(joint) = self.joints.get_mut(id) else { return };
        let Phase::Naming = joint.phase else { return };
        let number = joint.entry;
        let expose = self.entries.iter().find(|entry| entry.number == number).and_then(Entry::expose);
        let addresses = match expose.map(|expose| &expose.target) {
            Some(Target::Unix(path)) => Some(Ok(vec![Address::Unix(path.clone())])),
            Some(Target::Tcp(host, port)) => {
                let told = self.resolver.addresses(cx.now, host);
                let with_port = |ip| Address::Tcp(SocketAddr::new(ip, *port));
                told.map(|told| told.map(|ips| ips.into_iter().map(with_port).collect()))
            }
            None => Some(Err("the port is not exposed any more".into())),
        };
        match addresses {
            Some(Ok(addresses)) => {
                let (dial, stream) = (Dial::new(addresses, cx.now), joint.stream);
                match expose.zip(stream).and_then(|(expose, stream)| introduce(cx, expose, stream)) {
                    None => {
                        joint.phase = Phase::Dialing(dial);
                        self.dial(cx, id);
                    }
                    Some(relay) => {
                        joint.phase = Phase::Relayed(Box::new(relay));
                        self.call_server(cx, id, dial);
                    }
                }
            }
            Some(Err(why)) => self.refuse(cx, id, &why),
            None => {
                self.named.push(id);
                self.joints.set_deadline(id, Some(cx.now + CONNECT_TIMEOUT));
            }
        }
    }

    /// Goes on with the connections to hosts that are known now.
    pub(super) fn hosts_are_known(&mut self, cx: &mut Context) {
        for id in std::mem::take(&mut self.named) {
            self.call(cx, id);
            self.name_server(cx, id);
        }
    }

    /// Ends a connection of which the program could not be reached.
    pub(super) fn refuse(&mut self, cx: &mut Context, id: JointId, why: &str) {
        let Some(joint) = self.joints.get_mut(id) else { return };
        let (number, stream) = (joint.entry, joint.stream);
        let target = self.entry_mut(number).and_then(|e| e.expose()).map(|e| e.target.to_string());
        self.note_failure(cx, number, &format!("{}: {why}", target.unwrap_or_default()));
        self.end(id, true);
        cx.out.extend(stream.map(Effect::Abort));
    }

    /// Goes on with the call of a program.
    pub(super) fn dial(&mut self, cx: &mut Context, id: JointId) {
        let Some(joint) = self.joints.get_mut(id) else { return };
        let Phase::Dialing(dial) = &mut joint.phase else { return };
        match dial.progress(cx.now, &self.registry, Self::joint_token(id)) {
            Dialed::Waits(until) => self.joints.set_deadline(id, Some(until)),
            Dialed::Connected(socket) => {
                joint.local = local_address(&socket);
                self.join(cx, id, socket);
            }
            Dialed::Failed(why) => self.refuse(cx, id, &why),
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
