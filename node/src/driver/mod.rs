//! The loop: one thread that owns the stack and drives it with a UDP socket, a clock, commands, the disk and IPC.
//!
//! A turn: due timeouts → received batches (bounded) → commands (bounded) → disk outcomes → IPC → streams → output → new
//! deadline. Nothing in a turn may end the loop: one bad peer, socket or client costs only itself.

mod datagrams;
mod directory;
mod messages;
mod ops;
mod state;
mod streams;
mod watch;

use crate::command::{Answer, COMMANDS_MAX, Command, Handle, stopped};
use crate::config::{Config, RendezvousConfig};
use crate::courier::Courier;
use crate::failure::{Code, Failure};
use crate::helm::Helm;
use crate::home::{Home, entropy};
use crate::ipc::server::{ClientId, Ipc};
use crate::network::{self, NetworkWatch};
use crate::store::{DAMAGED_HINT, Done, Job, Meta, Saved, Worker, wall_s};
use crate::udp::Udp;
use crate::{aead, agreement};
use crossbeam_channel::{Receiver, Sender, bounded};
use litemap::LiteMap;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};
use ops::Then;
use pilot_core::codec::{Put as _, Reader};
use pilot_core::control::Ticket;
use pilot_core::endpoint::{DirectoryState, Event as EndpointEvent};
use pilot_core::identity::{NodeRecord, Profile, valid_hostname};
use pilot_core::trust::{Outcome, TrustBook, TrustVersion};
use pilot_core::{Instant, PeerId};
use pilot_stack::{Event, Stack, StackConfig, StreamId};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};
pub(crate) use streams::{ConnectReply, ListenerOwner};
use streams::{Connecting, Owner};

const UDP: Token = Token(0);
const WAKER: Token = Token(1);
const NETWORK: Token = Token(2);
/// Tokens from here on belong to IPC and handed-out descriptors.
pub(crate) const FIRST_FREE_TOKEN: usize = 3;
/// Receive calls per turn.
const RECEIVES_PER_TURN: usize = 8;
/// Commands per turn.
const COMMANDS_PER_TURN: usize = 256;
/// Pause after which an unreachable rendezvous named by a file is looked up again.
const RENDEZVOUS_REREAD: Duration = Duration::from_secs(5);

/// Who gets an operation's answer.
pub(crate) enum Reply {
    /// A thread of this process.
    App(Sender<Answer>),
    /// An IPC client, under its request's number.
    Ipc(ClientId, u32),
    /// An official client, as this command.
    Official(ClientId, u8),
    /// It is nobody's.
    Nobody,
}

pub(crate) struct Driver {
    pub(crate) stack: Stack,
    poll: Poll,
    udp: Udp,
    udp_readable: bool,
    /// `None` where the system has no such thing.
    network: Option<NetworkWatch>,
    /// When to see which addresses there are now.
    network_look_at: Option<std::time::Instant>,
    start: std::time::Instant,
    started_s: u64,
    home: Home,
    config: Config,
    commands: Receiver<Command>,
    worker: Worker,
    then: BTreeMap<u64, Then>,
    /// What waited for work that the disk did not take.
    refused: Vec<Then>,
    owners: BTreeMap<StreamId, Owner>,
    connecting: BTreeMap<StreamId, Connecting>,
    listeners: LiteMap<u16, ListenerOwner>,
    lookups: LiteMap<Ticket, directory::Lookup>,
    /// The newest [`directory::MET_MAX`] records that were found.
    met: VecDeque<NodeRecord>,
    /// Handed-out descriptors by token.
    tokens: BTreeMap<Token, StreamId>,
    next_token: usize,
    pub(crate) ipc: Option<Ipc>,
    courier: Courier,
    waiters: BTreeMap<u64, messages::Waiter>,
    trust_waiters: Vec<watch::TrustWaiter>,
    /// Streams that subscribe to the event stream.
    subscribers: BTreeSet<StreamId>,
    /// How handed-out streams ended, by inode; the newest [`streams::ENDS_MAX`].
    ends: VecDeque<(u64, serde_json::Value)>,
    datagrams: LiteMap<u16, datagrams::DatagramPort>,
    datagram_tokens: LiteMap<Token, u16>,
    /// Datagrams that clients did not make room for.
    datagrams_dropped: u64,
    /// Ports whose descriptors have more to say.
    datagrams_left: BTreeSet<u16>,
    looked: BTreeSet<StreamId>,
    /// Newest version of the trust book that was given to the disk.
    trust_submitted: TrustVersion,
    /// A change of our record that the rendezvous has not decided about: who waits, the answer, the profile before.
    profile_change: Option<(Reply, serde_json::Value, Profile)>,
    reread_at: Option<std::time::Instant>,
    pins_check_at: std::time::Instant,
    stopping: bool,
    /// Room for what poll says.
    polled: Events,
    /// Room for one batch to be sent.
    batch: Vec<u8>,
}

/// Opens everything and starts the loop's thread.
pub(crate) fn start(config: Config) -> Result<(Handle, JoinHandle<()>), Failure> {
    if let Some(name) = &config.hostname
        && !valid_hostname(name)
    {
        return Err(Failure::new(Code::InvalidArgument, format!("{name:?} cannot be a hostname"))
            .hint("1–63 characters of a–z 0–9 -, not only digits"));
    }
    let home = Home::open(&config.home)?;
    let identity = home.identity()?;
    let internal = |what: &str| {
        let what = what.to_owned();
        move |e: io::Error| Failure::new(Code::Internal, format!("{what}: {e}"))
    };
    let poll = Poll::new().map_err(internal("poll"))?;
    let waker = Arc::new(Waker::new(poll.registry(), WAKER).map_err(internal("waker"))?);
    let (commands_tx, commands) = bounded(COMMANDS_MAX);
    refuse_older(&home)?;
    let (worker, saved) = Worker::start(home.path(), waker.clone())?;
    let udp = Udp::bind(config.listen).map_err(|e| {
        Failure::new(Code::Conflict, format!("cannot bind UDP {}: {e}", config.listen))
            .hint("another --listen address or port")
    })?;
    poll.registry()
        .register(&mut SourceFd(&udp.as_raw_fd()), UDP, Interest::READABLE)
        .map_err(internal("UDP socket"))?;
    // Without it a node that moved is found again with its next keepalive.
    let network = NetworkWatch::open().ok();
    if let Some(network) = &network {
        let registered = poll.registry().register(&mut SourceFd(&network.as_raw_fd()), NETWORK, Interest::READABLE);
        registered.map_err(internal("netlink socket"))?;
    }
    let ipc = match &config.socket {
        Some(path) => Ipc::bind(path, poll.registry())?,
        None => Ipc::private(),
    };
    let core = core_config(identity, &saved, &config, &udp)?;
    let stack_config = StackConfig { ring_len_max: config.stream_ring_len_max, ..StackConfig::default() };
    let mut driver = Driver {
        stack: Stack::new(core, stack_config),
        poll,
        udp,
        udp_readable: true,
        network,
        network_look_at: None,
        start: std::time::Instant::now(),
        started_s: wall_s(),
        home,
        commands,
        worker,
        then: BTreeMap::new(),
        refused: Vec::new(),
        owners: BTreeMap::new(),
        connecting: BTreeMap::new(),
        listeners: LiteMap::new(),
        lookups: LiteMap::new(),
        met: VecDeque::new(),
        tokens: BTreeMap::new(),
        next_token: FIRST_FREE_TOKEN + 1,
        ipc: Some(ipc),
        courier: Courier::default(),
        waiters: BTreeMap::new(),
        trust_waiters: Vec::new(),
        subscribers: BTreeSet::new(),
        ends: VecDeque::new(),
        datagrams: LiteMap::new(),
        datagram_tokens: LiteMap::new(),
        datagrams_dropped: 0,
        datagrams_left: BTreeSet::new(),
        looked: BTreeSet::new(),
        trust_submitted: TrustVersion::default(),
        profile_change: None,
        reread_at: None,
        pins_check_at: std::time::Instant::now(),
        stopping: false,
        polled: Events::with_capacity(256),
        batch: Vec::new(),
        config,
    };
    driver.prepare(saved);
    let helm = Helm::new(driver, waker.clone());
    let looped = helm.clone();
    let body = move || {
        if catch_unwind(AssertUnwindSafe(|| looped.run())).is_err() {
            looped.abandon();
        }
    };
    let thread = std::thread::Builder::new().name("pilot-loop".into()).spawn(body);
    Ok((Handle { commands: commands_tx, waker, helm }, thread.map_err(internal("thread"))?))
}

/// The database of versions before the log cannot be read here, and beginning without it would lose whom the node trusts.
fn refuse_older(home: &Home) -> Result<(), Failure> {
    let older = home.path().join("node.redb");
    if !older.exists() {
        return Ok(());
    }
    let text = format!("{} was written by an earlier version, which is needed to read it", older.display());
    Err(Failure::new(Code::Conflict, text)
        .hint("move it away to begin anew; the address stays, but every peer must be approved again"))
}

fn core_config(
    identity: pilot_core::Identity,
    saved: &Saved,
    config: &Config,
    udp: &Udp,
) -> Result<pilot_core::Config, Failure> {
    let damaged = |what: &str| {
        Failure::new(Code::Internal, format!("{}/books: {what} is damaged", config.home.display())).hint(DAMAGED_HINT)
    };
    let mut core = pilot_core::Config::new(identity, entropy());
    core.aead = aead::fastest();
    core.agreement = agreement::fastest();
    core.wall_at_zero_us = SystemTime::UNIX_EPOCH.elapsed().map_or(0, |d| d.as_micros() as u64);
    core.addr = saved.addr;
    core.datagram_len_max = config.datagram_len_max;
    if let Some(bytes) = &saved.trust {
        core.trust = TrustBook::parse(bytes).map_err(|_| damaged("the trust book"))?;
    }
    if let Some(bytes) = &saved.profile {
        core.profile = parse_profile(bytes).ok_or_else(|| damaged("the profile"))?;
    }
    if let Some(hostname) = &config.hostname {
        core.profile.hostname.clone_from(hostname);
    }
    core.rendezvous = match &config.rendezvous {
        RendezvousConfig::At(key, addr) => Some((*key, *addr)),
        RendezvousConfig::File(path) => read_rendezvous(path),
        RendezvousConfig::None => None,
    };
    core.candidates = candidates(udp, core.rendezvous.map(|(_, addr)| addr));
    Ok(core)
}

fn read_rendezvous(path: &std::path::Path) -> Option<(pilot_core::identity::StaticKey, SocketAddr)> {
    match std::fs::read_to_string(path).ok()?.parse() {
        Ok(RendezvousConfig::At(key, addr)) => Some((key, addr)),
        _ => None,
    }
}

/// Our own underlay addresses: those we would send from to the rendezvous, or to anywhere.
fn candidates(udp: &Udp, rendezvous: Option<SocketAddr>) -> Vec<SocketAddr> {
    let Ok(bound) = udp.local_addr() else { return Vec::new() };
    if !bound.ip().is_unspecified() {
        return vec![bound];
    }
    // Connecting a UDP socket sends nothing; it only asks the routing table for our source address.
    let source = |to: SocketAddr| {
        let probe = std::net::UdpSocket::bind((std::net::Ipv4Addr::UNSPECIFIED, 0)).ok()?;
        probe.connect(to).ok()?;
        probe.local_addr().ok().map(|addr| addr.ip())
    };
    let anywhere = SocketAddr::from(([192, 0, 2, 1], 9)); // TEST-NET-1, RFC 5737
    let mut ips: Vec<IpAddr> = rendezvous.into_iter().chain([anywhere]).filter_map(source).collect();
    ips.retain(|ip| !ip.is_unspecified());
    ips.dedup();
    ips.into_iter().map(|ip| SocketAddr::new(ip, bound.port())).collect()
}

fn emit_profile(profile: &Profile) -> Vec<u8> {
    let mut out = Vec::new();
    out.put_u8(profile.public.into());
    out.put_bytes(profile.hostname.as_bytes());
    profile.tags.iter().for_each(|tag| out.put_bytes(tag.as_bytes()));
    out
}

fn parse_profile(bytes: &[u8]) -> Option<Profile> {
    let mut r = Reader::new(bytes);
    let mut profile = Profile { public: r.u8().ok()? != 0, hostname: r.str(63).ok()?.into(), tags: Vec::new() };
    while !r.is_empty() && profile.tags.len() < NodeRecord::TAGS_MAX {
        profile.tags.push(r.str(63).ok()?.into());
    }
    Some(profile)
}

impl Driver {
    pub(crate) fn now(&self) -> Instant {
        Instant::from_micros(self.start.elapsed().as_micros() as u64)
    }

    pub(crate) fn registry(&self) -> &mio::Registry {
        self.poll.registry()
    }

    fn prepare(&mut self, saved: Saved) {
        if self.config.services {
            for port in crate::services::PORTS {
                // Nobody else can have bound a port yet.
                let _ = self.stack.listen(port);
                self.listeners.insert(port, ListenerOwner::Service);
            }
        }
        if self.config.socket.is_some() {
            self.stack.bind_all();
        }
        let now_s = wall_s();
        for (seq, message) in saved.outbox {
            let keep = message.expires > now_s && self.courier.add(seq, message);
            if !keep {
                self.submit(Job::Unqueue(seq), Then::Nothing);
            }
        }
        let profile = emit_profile(self.stack.endpoint().profile());
        if saved.profile.as_ref() != Some(&profile) {
            self.submit(Job::Put(Meta::Profile, profile), Then::Nothing);
        }
    }

    /// Does everything there is to do, and says how long to [`Driver::sleep`] afterwards. Bounded work; never blocks.
    pub(crate) fn turn(&mut self) -> Option<Duration> {
        self.guarded(|d| {
            let now = d.now();
            d.stack.handle_timeout(now);
        });
        self.receive();
        for _ in 0..COMMANDS_PER_TURN {
            match self.commands.try_recv() {
                Ok(command) => self.command(command),
                Err(_) => break,
            }
        }
        while let Some((number, done)) = self.worker.poll() {
            self.done(number, done);
        }
        for then in std::mem::take(&mut self.refused) {
            self.finish(then, Done::Full("the disk is too far behind"));
        }
        self.serve_ipc();
        self.housekeeping();
        self.drain();
        self.serve_ipc();
        self.deadline()
    }

    /// Waits until something happens; false when that cannot be done any more.
    pub(crate) fn sleep(&mut self, timeout: Option<Duration>) -> bool {
        let mut polled = std::mem::replace(&mut self.polled, Events::with_capacity(0));
        let result = self.poll.poll(&mut polled, timeout);
        let interrupted = result.as_ref().is_err_and(|e| e.kind() == io::ErrorKind::Interrupted);
        for event in polled.iter().filter(|_| result.is_ok()) {
            match event.token() {
                UDP => self.udp_readable = true,
                WAKER => {}
                NETWORK => {
                    if self.network.as_ref().is_some_and(NetworkWatch::drain) {
                        self.network_look_at.get_or_insert(std::time::Instant::now() + network::SETTLING);
                    }
                }
                token => self.note_readiness(token, event.is_readable(), event.is_writable()),
            }
        }
        self.polled = polled;
        result.is_ok() || interrupted
    }

    pub(crate) const fn is_stopping(&self) -> bool {
        self.stopping
    }

    /// Runs what drives smoltcp, which may panic on a peer's arithmetic (link.md, hazard 6): that peer's streams are lost,
    /// the loop is not. The stack takes what it works on out of its slot first, so nothing half-changed is used again.
    fn guarded<R: Default>(&mut self, f: impl FnOnce(&mut Self) -> R) -> R {
        catch_unwind(AssertUnwindSafe(|| f(self))).unwrap_or_else(|_| {
            eprintln!("pilot: a peer's packets broke its TCP stack; its streams are lost");
            self.stack.recover();
            R::default()
        })
    }

    fn receive(&mut self) {
        for _ in 0..RECEIVES_PER_TURN {
            if !self.udp_readable {
                return;
            }
            // After a panic the rest of the batch is a lossy network's loss, and more may wait (edge-triggered).
            let drained = self.guarded(|d| {
                let now = d.now();
                let stack = &mut d.stack;
                !d.udp.recv_batch(|from, batch, segment_len| stack.handle_batch(now, from, batch, segment_len))
            });
            self.udp_readable = !drained;
        }
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Op(op, blob, reply) => self.op(&op, blob, Reply::App(reply)),
            Command::Connect(target, port, early, reply) => {
                self.connect(&target, port, early, streams::ConnectReply::App(reply));
            }
            Command::Listen(port, streams, reply) => {
                let result = self.listen(port, ListenerOwner::App(streams));
                let _ = reply.send(result); // whoever asked may have gone
            }
            Command::Claim(number, reply) => {
                let claimed = self.claim_held(number);
                let _ = reply.send(claimed); // whoever asked may have gone
            }
            Command::Unlisten(port) => self.unlisten(port),
            Command::GivenUp => self.abort_orphans(),
            Command::Look(id) => self.look(id),
            Command::Close(id) => self.close(id),
            Command::Attach(socket) => self.attach(socket),
            Command::Stop => self.stopping = true,
            #[cfg(test)]
            Command::Break => panic!("broken on purpose"),
        }
    }

    pub(crate) fn look(&mut self, id: StreamId) {
        self.looked.insert(id);
    }

    /// Sends and handles events until nothing is left to do.
    fn drain(&mut self) {
        // Each round serves what changed; what serving causes to change is for the next. The bound keeps a turn short.
        for _ in 0..64 {
            while let Some(event) = self.stack.poll_event() {
                self.event(event);
            }
            let looked = std::mem::take(&mut self.looked);
            let quiet = looked.is_empty();
            looked.into_iter().for_each(|id| self.serve(id));
            let sent = self.guarded(Self::transmit);
            if quiet && !sent {
                return;
            }
        }
    }

    /// True when something was sent.
    fn transmit(&mut self) -> bool {
        let mut sent = false;
        let now = self.now();
        while !self.udp.is_blocked()
            && let Some(transmit) = self.stack.poll_transmit(now, &mut self.batch)
        {
            self.udp.send_batch(transmit.to, transmit.segment_len, &self.batch);
            sent = true;
        }
        sent
    }

    fn event(&mut self, event: Event) {
        match event {
            Event::Incoming { port, stream } => self.incoming(port, stream),
            Event::Stream(id) => self.look(id),
            Event::Datagram { from, source_port, port, payload } => {
                let addr = self.stack.endpoint().trust().pin(&from).map(|p| p.addr).unwrap_or_default();
                self.deliver_datagram(addr, source_port, port, &payload);
                if let Some(ipc) = &mut self.ipc {
                    ipc.push_datagram(addr, source_port, port, &payload);
                }
            }
            Event::Endpoint(event) => self.endpoint_event(event),
            _ => {}
        }
    }

    fn endpoint_event(&mut self, event: EndpointEvent) {
        match event {
            EndpointEvent::SaveTrust(version) => {
                // A verb of ours saves by itself, and answers when that is done.
                if version > self.trust_submitted {
                    self.save_trust(Then::Nothing);
                }
            }
            EndpointEvent::Trust(outcome) => {
                self.tell_trust(&outcome);
                if let (Outcome::Pending(key), true) = (&outcome, self.config.approve_all) {
                    self.approve_unasked(key);
                }
            }
            EndpointEvent::Directory(state) => self.directory_changed(state),
            EndpointEvent::Answer(ticket, answer) => self.lookup_answered(ticket, answer),
            EndpointEvent::Up(peer) => {
                self.encourage(peer);
                self.tell_peer(peer, "peer_up", None);
            }
            EndpointEvent::Reset(peer, reason) => self.tell_peer(peer, "peer_down", Some(reason)),
            EndpointEvent::PathChanged(peer) => self.tell_peer(peer, "path", None),
            _ => {}
        }
    }

    fn encourage(&mut self, peer: PeerId) {
        if let Some(key) = self.stack.endpoint().identity_of(peer) {
            self.courier.encourage(&key);
        }
    }

    fn directory_changed(&mut self, state: DirectoryState) {
        match state {
            DirectoryState::Ready(addr) => {
                self.submit(Job::Put(Meta::Addr, addr.to_bytes().to_vec()), Then::Nothing);
                self.reread_at = None;
            }
            DirectoryState::Connecting => self.reread_at = Some(std::time::Instant::now() + RENDEZVOUS_REREAD),
            _ => {}
        }
        self.profile_settled(state);
    }

    pub(crate) fn save_trust(&mut self, then: Then) {
        let trust = self.stack.endpoint().trust();
        let (version, bytes) = (trust.version(), trust.emit());
        self.trust_submitted = version;
        self.submit(Job::Put(Meta::Trust, bytes), Then::TrustSaved(version, Box::new(then)));
    }

    /// Hands work to the disk; when it is too far behind, `then` fails in this turn or the next, never inside this call: who
    /// asks may be out of its table meanwhile.
    pub(crate) fn submit(&mut self, job: Job, then: Then) {
        match self.worker.submit(job) {
            Some(number) => {
                self.then.insert(number, then);
            }
            None => self.refused.push(then),
        }
    }

    fn done(&mut self, number: u64, done: Done) {
        if let Some(then) = self.then.remove(&number) {
            self.finish(then, done);
        }
    }

    fn housekeeping(&mut self) {
        let (wall, now) = (std::time::Instant::now(), self.now());
        self.time_out_connects(wall);
        self.time_out_waiters(wall);
        self.time_out_trust(wall);
        self.serve_left_datagrams();
        self.run_courier(wall);
        if self.reread_at.is_some_and(|at| at <= wall) {
            self.reread_at = Some(wall + RENDEZVOUS_REREAD);
            if let RendezvousConfig::File(path) = &self.config.rendezvous
                && let Some((key, addr)) = read_rendezvous(path)
                && self.stack.endpoint().rendezvous_address() != Some((key, addr))
            {
                self.stack.endpoint_mut().set_rendezvous(now, key, addr);
            }
        }
        if self.network_look_at.take_if(|at| *at <= wall).is_some() {
            let rendezvous = self.stack.endpoint().rendezvous_address().map(|(_, addr)| addr);
            let own = candidates(&self.udp, rendezvous);
            // Between two networks there is nothing to tell, and nobody to tell it to.
            if !own.is_empty() {
                self.stack.endpoint_mut().set_candidates(now, own);
            }
        }
        if wall >= self.pins_check_at {
            self.pins_check_at = wall + Duration::from_secs(60);
            self.stack.endpoint_mut().expire_trust(now);
            // A save that failed is tried again.
            if !self.stack.endpoint().trust_is_saved() {
                self.save_trust(Then::Nothing);
            }
        }
    }

    fn deadline(&mut self) -> Option<Duration> {
        let busy = self.udp_readable || !self.commands.is_empty() || !self.looked.is_empty();
        if busy || !self.datagrams_left.is_empty() || !self.refused.is_empty() || self.stopping {
            return Some(Duration::ZERO);
        }
        if self.udp.is_blocked() {
            return Some(Duration::from_millis(1));
        }
        let stack = self.stack.poll_timeout().map(|(at, _)| at.since(self.now()));
        let wall = std::time::Instant::now();
        let own = [
            self.connecting.values().map(|c| c.deadline).min(),
            self.waiters.values().map(|w| w.deadline).min(),
            self.trust_waiters.iter().map(|w| w.deadline).min(),
            self.courier.next_deadline(),
            self.network_look_at,
            // Only a file can name another rendezvous later.
            self.reread_at.filter(|_| matches!(self.config.rendezvous, RendezvousConfig::File(_))),
            Some(self.pins_check_at),
        ];
        let own = own.into_iter().flatten().min().map(|at| at.saturating_duration_since(wall));
        pilot_core::time::earliest(stack, own)
    }

    /// Says goodbye to peers, clients and applications, and waits for the disk.
    pub(crate) fn end(mut self) {
        self.stack.endpoint_mut().close_all();
        self.transmit();
        self.save_trust(Then::Nothing);
        self.worker.stop();
        if let Some(ipc) = self.ipc.take() {
            ipc.end();
        }
        for owner in self.owners.values() {
            if let Owner::App(end) = owner {
                end.shared().lock().failure.get_or_insert_with(stopped);
            }
        }
        // Those who wait are told as their streams go.
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::{LoopEnd, Shared, Stream};
    use pilot_core::{Addr, AddrPort};
    use std::io::Read as _;

    /// A panic outside the guarded parts, on the loop's thread or under a guest, ends the node and leaves nobody waiting.
    #[test]
    fn when_the_loop_breaks_those_who_wait_are_told() {
        for under_guest in [true, false] {
            let home = std::env::temp_dir().join(format!("pilot-broken-{}-{under_guest}", std::process::id()));
            let (handle, thread) = start(Config::new(&home)).expect("a fresh folder");
            let (id, nobody) = (StreamId::from_number(u64::MAX), AddrPort { addr: Addr::default(), port: 0 });
            let shared = Shared::new(id);
            // The loop gives the driver away only to guests, so that somebody visits first.
            let at_helm = |act: &mut dyn FnMut(&mut Driver)| loop {
                handle.helm.visit(None, || Some(()));
                if handle.helm.try_turn(&mut *act).expect("the node lives") {
                    break;
                }
            };
            at_helm(&mut |driver| drop(driver.owners.insert(id, Owner::App(LoopEnd::new(shared.clone())))));
            let mut stream = Stream::new(shared.clone(), handle.clone(), nobody, nobody);
            let waiting = std::thread::spawn(move || stream.read(&mut [0]));
            std::thread::sleep(crate::helm::GUEST_MAX + Duration::from_millis(50)); // it has left the helm
            if under_guest {
                let guest = catch_unwind(AssertUnwindSafe(|| at_helm(&mut |_| panic!("broken on purpose"))));
                assert!(guest.is_err());
            } else {
                handle.send(Command::Break).expect("the node lives");
            }
            thread.join().expect("it ends in order");
            assert!(waiting.join().expect("no panic there").is_err());
            assert!(handle.send(Command::Stop).is_err(), "the node has ended");
            std::fs::remove_dir_all(home).expect("made above");
        }
    }
}
