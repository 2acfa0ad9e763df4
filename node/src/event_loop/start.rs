//! The start of a node: opens the folder, the books and the sockets, and starts the loop's thread.

use crate::call::{Call, Calls};
use crate::calls::profile;
use crate::calls::report::Facts;
use crate::calls::trust::Expiry;
use crate::calls::webhook;
use crate::capture::Captures;
use crate::clock::{wall_s, wall_us};
use crate::command::{COMMANDS_MAX, Command};
use crate::config::Config;
use crate::context::Context;
use crate::crypto::{SystemEntropy, aead, agreement};
use crate::disk::home::Home;
use crate::disk::identity_file;
use crate::disk::job::{Job, Meta, Saved};
use crate::disk::worker::{DAMAGED_HINT, Worker};
use crate::event_loop::EventLoop;
use crate::event_loop::dispatch;
use crate::event_loop::handover::Handover;
use crate::event_loop::rooms::Rooms;
use crate::event_loop::turns::Turns;
use crate::failure::{Code, Failure};
use crate::ipc::server::Ipc;
use crate::lan::Lan;
use crate::log::room::LogRoom;
use crate::mail::post::PostOffice;
use crate::mapping::Mapping;
use crate::platform::{AddressWatch, DISCARD_RINGS, StepWatch, map_rings};
use crate::programs::Programs;
use crate::services::{PORTS, STDIO, Services};
use crate::streams::datagrams::Datagrams;
use crate::streams::table::Streams;
use crate::token::Room;
use crate::underlay::addresses::{Addresses, own_addresses};
use crate::underlay::relays::{self, RelayPlaces};
use crate::underlay::rendezvous::{self, RendezvousPlace};
use crate::underlay::sides::Sides;
use crate::underlay::tls::TlsLink;
use crate::underlay::udp::Udp;
use crossbeam_channel::{Sender, bounded};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Registry, Waker};
use pilot_core::identity::valid_hostname;
use pilot_core::trust::TrustBook;
use pilot_core::{Identity, Instant};
use pilot_stack::{Stack, StackConfig};
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;

/// Events of one poll.
const EVENTS_MAX: usize = 256;

/// A node that runs: its mailbox, and the ways to its loop.
pub(crate) struct Started {
    pub(crate) commands: Sender<Command>,
    pub(crate) waker: Arc<Waker>,
    pub(crate) handover: Arc<Handover<EventLoop>>,
    pub(crate) thread: JoinHandle<()>,
}

/// Opens everything and starts the loop's thread.
///
/// # Errors
/// See [`Node::start`](crate::Node::start).
pub(crate) fn start(config: Config) -> Result<Started, Failure> {
    check(&config)?;
    let home = Home::open(&config.home)?;
    if config.accept_loss {
        identity_file::accept(home.path())?;
    }
    let identity = home.identity()?;
    let poll = Poll::new().map_err(internal("poll"))?;
    let waker = Arc::new(Waker::new(poll.registry(), Room::Waker.token(0)).map_err(internal("waker"))?);
    let (commands_tx, commands) = bounded(COMMANDS_MAX);
    refuse_older(&home)?;
    let (log, lines) = LogRoom::new(config.log.as_ref());
    let (worker, saved) = Worker::start(home.path(), config.accept_loss, waker.clone(), lines)?;
    let udp = bind(config.listen, saved.port)?;
    register(poll.registry(), &udp, Room::Underlay)?;
    let watch = AddressWatch::open().ok();
    if let Some(descriptor) = watch.as_ref().and_then(AddressWatch::descriptor) {
        register(poll.registry(), &descriptor, Room::Addresses)?;
    }
    let steps = StepWatch::open().ok();
    if let Some(descriptor) = steps.as_ref().and_then(StepWatch::descriptor) {
        register(poll.registry(), &descriptor, Room::Clock)?;
    }
    #[cfg(feature = "tls")]
    let tls = {
        let registry = poll.registry().try_clone().map_err(internal("poll"))?;
        TlsLink::new(&config.tls, registry, waker.clone())
    };
    #[cfg(not(feature = "tls"))]
    let tls = TlsLink;
    let known = rendezvous::known(&config.rendezvous);
    let own = own_addresses(udp.local_addr(), known.map(|(_, addr)| addr));
    let mut core = core_config(identity, &saved, &config)?;
    (core.rendezvous, core.candidates) = (known, own.candidates.clone());
    let rooms = rooms((poll.registry(), waker.clone()), core, config, (worker, log, &udp))?;
    let mut event_loop = EventLoop {
        sides: Sides::new(poll.registry()).map_err(internal("poll"))?,
        rooms,
        poll,
        udp,
        udp_readable: true,
        addresses: Addresses::new(watch, own, waker.clone()),
        tls,
        steps,
        zero: std::time::Instant::now(),
        commands,
        settled: None,
        is_behind: false,
        _home: home,
        polled: Events::with_capacity(EVENTS_MAX),
        batch: Vec::new(),
    };
    let port = event_loop.udp.local_addr().port();
    prepare(&mut event_loop.rooms, saved, port);
    let handover = Handover::new(event_loop, waker.clone());
    let looped = handover.clone();
    let body = move || {
        if catch_unwind(AssertUnwindSafe(|| looped.run())).is_err() {
            looped.abandon();
        }
    };
    let thread = std::thread::Builder::new().name("pilot-loop".into()).spawn(body).map_err(internal("thread"))?;
    Ok(Started { commands: commands_tx, waker, handover, thread })
}

/// Refuses settings with which no node can start.
fn check(config: &Config) -> Result<(), Failure> {
    if let Some(name) = &config.hostname
        && !valid_hostname(name)
    {
        return Err(
            Failure::new(Code::InvalidArgument, format!("{name:?} cannot be a hostname")).hint(profile::HOSTNAME_HINT)
        );
    }
    relays::check(&config.relays, &config.rendezvous)
}

/// Binds the UDP socket. Without a port in `listen` the port of the run before is taken again, since peers and NATs know this
/// node by it, unless another program has it now.
fn bind(listen: SocketAddr, before: u16) -> Result<Udp, Failure> {
    let again = SocketAddr::new(listen.ip(), before);
    let kept = if listen.port() == 0 && before != 0 { Udp::bind(again).ok() } else { None };
    kept.map_or_else(|| Udp::bind(listen), Ok).map_err(|e| {
        Failure::new(Code::Conflict, format!("cannot bind UDP {listen}: {e}")).hint("another --listen address or port")
    })
}

fn internal(what: &'static str) -> impl Fn(io::Error) -> Failure {
    move |e| Failure::new(Code::Internal, format!("{what}: {e}"))
}

fn register(registry: &Registry, source: &impl AsRawFd, room: Room) -> Result<(), Failure> {
    let registered = registry.register(&mut SourceFd(&source.as_raw_fd()), room.token(0), Interest::READABLE);
    registered.map_err(internal("poll"))
}

fn rooms(
    (registry, waker): (&Registry, Arc<Waker>),
    core: pilot_core::Config,
    config: Config,
    (worker, log, udp): (Worker, LogRoom, &Udp),
) -> Result<Rooms, Failure> {
    let another = || registry.try_clone().map_err(internal("poll"));
    let ipc = match &config.socket {
        Some(path) => Ipc::bind(path, another()?)?,
        None => Ipc::private(another()?),
    };
    let stack_config = StackConfig {
        ring_len_max: config.stream_ring_len_max,
        ring_memory: map_rings,
        ring_discard: DISCARD_RINGS,
        ..StackConfig::default()
    };
    let rendezvous = RendezvousPlace::new(&config.rendezvous, waker.clone());
    let relays = RelayPlaces::new(&config.relays, waker.clone());
    let mut mapping = Mapping::new(config.port_mapping, another()?, waker.clone());
    mapping.look(Instant::ZERO, udp.local_addr());
    let mut lan = Lan::new(config.lan, another()?);
    lan.look(Instant::ZERO, udp.local_addr());
    let udp = udp.local_addr().to_string();
    Ok(Rooms {
        cx: Context::new(Stack::new(core, stack_config), wall_s, Calls::default(), config),
        streams: Streams::new(another()?),
        datagrams: Datagrams::new(another()?),
        services: Services::default(),
        post: PostOffice::default(),
        programs: Programs::new(another()?, waker),
        ipc,
        expiry: Expiry::default(),
        rendezvous,
        relays,
        mapping,
        lan,
        captures: Captures::default(),
        worker,
        log,
        facts: Facts { udp, started_s: wall_s(), ..Facts::default() },
        ready: Vec::new(),
        turns: Turns::default(),
        refused: Vec::new(),
        is_stopping: false,
        leave_by: None,
        beside: None,
        effects: Vec::new(),
    })
}

/// Gives the rooms what they begin with. `port`: the bound UDP port.
fn prepare(rooms: &mut Rooms, saved: Saved, port: u16) {
    let cx = &mut rooms.cx;
    LogRoom::note_start(cx, &rooms.facts.udp);
    if saved.port != port {
        if saved.port != 0 && cx.config.listen.port() == 0 {
            LogRoom::note_port_taken(cx, saved.port, port);
        }
        cx.submit(Job::Put(Meta::Port, port.to_le_bytes().to_vec()), Call::Forgotten);
    }
    if cx.config.services {
        rooms.streams.serve_ports(cx, &PORTS, STDIO);
    }
    if cx.config.socket.is_some() {
        cx.stack.bind_all();
    }
    if let (Some(webhook), Some(row)) = (&cx.config.webhook, &saved.webhook) {
        webhook.set(webhook::parse(row));
    }
    cx.has_questions = saved.has_questions;
    rooms.post.restore(cx, saved.outbox, saved.given_up, saved.counted.as_deref());
    let profile = profile::emit(cx.stack.endpoint().profile());
    if saved.profile.as_ref() != Some(&profile) {
        cx.submit(Job::Put(Meta::Profile, profile), Call::Forgotten);
    }
    rooms.carry_out();
    for line in saved.programs.split(|b| *b == b'\n').filter(|line| !line.is_empty()) {
        dispatch::restore(rooms, line);
    }
}

/// The database of versions before the log cannot be read here, and beginning without it would lose all trust.
fn refuse_older(home: &Home) -> Result<(), Failure> {
    let older = home.path().join("node.redb");
    if !older.exists() {
        return Ok(());
    }
    let text = format!("{} was written by an earlier version, which is needed to read it", older.display());
    Err(Failure::new(Code::Conflict, text)
        .hint("move it away to begin anew; the address stays, but every peer must be approved again"))
}

fn core_config(identity: Identity, saved: &Saved, config: &Config) -> Result<pilot_core::Config, Failure> {
    let damaged = |what: &str| {
        Failure::new(Code::Internal, format!("{}/books: {what} is damaged", config.home.display())).hint(DAMAGED_HINT)
    };
    let mut core = pilot_core::Config::new(identity, Box::new(SystemEntropy));
    core.aead = aead::fastest();
    core.agreement = agreement::fastest();
    core.wall_at_zero_us = wall_us();
    core.used_us = saved.used_us;
    core.addr = saved.addr;
    core.datagram_len_max = config.datagram_len_max;
    if let Some(bytes) = &saved.trust {
        core.trust = TrustBook::parse(bytes).map_err(|_| damaged("the trust book"))?;
    }
    if let Some(bytes) = &saved.profile {
        core.profile = profile::parse(bytes).ok_or_else(|| damaged("the profile"))?;
    }
    if let Some(hostname) = &config.hostname {
        core.profile.hostname.clone_from(hostname);
    }
    Ok(core)
}
