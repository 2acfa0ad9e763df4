//! Owns the proxies: their requests, and the servers that their clients want.

use crate::answer::{Proxies, Proxy as ProxyAnswer};
use crate::calls::{connect, resolve};
use crate::context::Context;
use crate::effect::{Effect, Opener};
use crate::failure::{Code, Failure};
use crate::programs::authority::{Authority, pilot_name};
use crate::programs::entry::{Entry, Kind, Life, Listener, Proxy};
use crate::programs::filter::Access;
use crate::programs::joint::Phase;
use crate::programs::joint_id::JointId;
use crate::programs::listen::Listen;
use crate::programs::relay::{Moved, Server};
use crate::programs::room::{ENTRIES_MAX, Programs};
use pilot_stack::EARLY_LEN_MAX;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;

/// Longest file of users. Unit: bytes. Own choice: some thousand users.
const AUTH_FILE_LEN_MAX: u64 = 256 * 1024;

/// A proxy as it was asked for.
pub(crate) struct ProxyTerms {
    pub(crate) listen: String,
    /// The socket beside the request.
    pub(crate) fd: Option<OwnedFd>,
    pub(crate) direct: bool,
    pub(crate) auth_file: Option<String>,
}

impl Programs {
    /// Sets up a proxy, which listens from now on, or later when it need not at once.
    ///
    /// # Errors
    /// `InvalidArgument`, also for an address that other machines reach without a file of users, and for a file of users that
    /// others may read; `Conflict` when the address is taken; `Full`.
    pub(crate) fn proxy(
        &mut self,
        cx: &Context,
        terms: ProxyTerms,
        life: Life,
        must_listen: bool,
    ) -> Result<ProxyAnswer, Failure> {
        let ProxyTerms { listen, fd, direct, auth_file } = terms;
        let listen = Listen::asked(&listen, fd.as_ref(), life == Life::Kept)?;
        if listen.warning().is_some() && auth_file.is_none() {
            let text = format!("other machines would reach the proxy at {listen} without a password");
            return Err(Failure::new(Code::InvalidArgument, text).hint("--auth FILE, or a loopback address"));
        }
        let passwords = auth_file.as_deref().map_or(Ok(Vec::new()), |path| read_users(Path::new(path)))?;
        if self.entries.iter().filter(|entry| entry.as_proxy().is_some()).count() >= ENTRIES_MAX {
            return Err(Failure::new(Code::Full, format!("there are {ENTRIES_MAX} proxies")));
        }
        let mut listeners = self.entries.iter_mut().filter_map(Entry::listener_mut);
        if listeners.any(|listener| listener.listen == listen) {
            let text = format!("{listen} is a forward's or a proxy's already");
            return Err(Failure::new(Code::Conflict, text).hint("pilotctl forward --list; pilotctl proxy --list"));
        }
        let number = self.next_number();
        let listener = Listener::begin(listen, fd, must_listen, (cx.now, &self.registry, number))?;
        if listener.door.is_none() {
            self.note_closed(&listener);
        }
        let kind = Kind::Proxy(Proxy { listener, direct, auth_file, access: Arc::new(Access::new(passwords)) });
        let entry = Entry::new(number, life, kind);
        let answer = entry.as_proxy();
        self.entries.push(entry);
        answer.ok_or_else(|| Failure::new(Code::Internal, "a proxy of another kind"))
    }

    /// Removes the proxy at this address; connections that stand go on.
    ///
    /// # Errors
    /// `NotFound`; `InvalidArgument`.
    pub(crate) fn unproxy(&mut self, listen: &str) -> Result<(ProxyAnswer, Life), Failure> {
        let listen = Listen::parse(listen)?;
        let is_it = |e: &&Entry| matches!(&e.kind, Kind::Proxy(proxy) if proxy.listener.listen == listen);
        let number = self.entries.iter().find(is_it).map(|e| e.number);
        let removed =
            number.and_then(|number| self.remove_entry(number)).and_then(|entry| Some((entry.as_proxy()?, entry.life)));
        removed.ok_or_else(|| {
            Failure::new(Code::NotFound, format!("there is no proxy at {listen}")).hint("pilotctl proxy --list")
        })
    }

    /// Lists the proxies.
    pub(crate) fn proxies(&self) -> Proxies {
        let proxies: Vec<ProxyAnswer> = self.entries.iter().filter_map(Entry::as_proxy).collect();
        Proxies { total: proxies.len() as u64, proxies }
    }

    /// A client of a proxy wants this server. `waits`: it says nothing more before the stream stands.
    pub(super) fn reach(&mut self, cx: &mut Context, id: JointId, to: &Authority, waits: bool) -> Moved {
        let Some(joint) = self.joints.get_mut(id) else { return Moved::On(false) };
        // A client goes on to the next server once the last one has answered.
        cx.out.extend(joint.stream.take().map(Effect::Close));
        let number = joint.entry;
        // The entry may have been removed; its connections go on as they were set up, but reach no host beside nodes.
        let is_direct = matches!(self.entry_mut(number).map(|e| &e.kind), Some(Kind::Proxy(proxy)) if proxy.direct);
        let Some(joint) = self.joints.get_mut(id) else { return Moved::On(false) };
        let Phase::Relayed(relay) = &mut joint.phase else { return Moved::On(false) };
        relay.server = Server::Nowhere;
        let place = match place(cx, to, is_direct) {
            Ok(place) => place,
            Err(failure) => return relay.unreached(&failure),
        };
        if !waits && let Err(moved) = relay.connected() {
            return moved;
        }
        match place {
            Place::Node(name) => {
                relay.server = Server::Opening;
                let early = relay.take_early(EARLY_LEN_MAX);
                connect::connect(cx, &name, to.port, early, Opener::Program(id));
            }
            Place::Host => {
                relay.server = Server::Naming(to.clone());
                self.name_server(cx, id);
            }
        }
        Moved::On(false)
    }
}

/// What a host means.
enum Place {
    /// A node of this name.
    Node(String),
    /// A host that is no node.
    Host,
}

fn place(cx: &Context, to: &Authority, is_direct: bool) -> Result<Place, Failure> {
    let name = pilot_name(&to.host);
    let trust = cx.stack.endpoint().trust();
    match name {
        // With other hosts, a name without suffix means a node only if a peer has that name.
        Some((name, is_sure)) if is_sure || !is_direct || resolve::pinned(trust, &name).is_ok() => {
            Ok(Place::Node(name))
        }
        _ if is_direct => Ok(Place::Host),
        _ => Err(Failure::new(Code::NotFound, format!("{} is no Pilot name", to.host))
            .hint("this proxy reaches nodes: worker-node, worker-node.pilot")),
    }
}

/// Reads a file of users: a line `user:password` for each. Empty lines and those that begin with `#` say nothing.
fn read_users(path: &Path) -> Result<Vec<String>, Failure> {
    let shown = path.display();
    let invalid = |text: String| Failure::new(Code::InvalidArgument, text);
    let found = std::fs::metadata(path).map_err(|e| invalid(format!("{shown}: {e}")))?;
    if found.mode() & 0o077 != 0 {
        return Err(invalid(format!("others may read {shown}")).hint(format!("chmod 600 {shown}")));
    }
    if !found.is_file() || found.len() > AUTH_FILE_LEN_MAX {
        return Err(invalid(format!("{shown} is no file of at most {AUTH_FILE_LEN_MAX} bytes")));
    }
    let text = std::fs::read_to_string(path).map_err(|e| invalid(format!("{shown}: {e}")))?;
    let lines = text.lines().map(str::trim_end).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let users: Vec<String> = lines.map(str::to_owned).collect();
    match users.iter().all(|line| line.split_once(':').is_some_and(|(user, _)| !user.is_empty())) {
        true if !users.is_empty() => Ok(users),
        _ => Err(invalid(format!("{shown} has another form than lines of user:password"))),
    }
}
