//! Owns the daemon's life: starting it in the background, and running it.

use crate::args::{Daemon, DaemonRun, DaemonStart, DaemonVerb};
use crate::client::daemon;
use crate::output::{Output, tell};
use crate::rendezvous::{ensure_local, local_endpoint};
use crate::settings::{self, Watched, setting};
use crate::start_code::StartCode;
use crate::stop;
use crate::temporary::TemporaryFolder;
use crate::tls::TlsOptions;
use pilot_node::answer::{Info, RendezvousState};
use pilot_node::parts::keep_memory_private;
use pilot_node::{
    Client, Code, Config, Failure, Home, LogConfig, LogFile, LogLevel, Node, RendezvousConfig, Request, StderrLog,
    Webhook, socket_path,
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::{Value, json};
use std::fs::{self, OpenOptions};
use std::io::{self, IsTerminal as _, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Longest time until the daemon serves its socket.
const START_TIMEOUT: Duration = Duration::from_secs(15);
/// Time that `start` waits for the registration; the daemon goes on trying after it.
const REGISTER_TIMEOUT: Duration = Duration::from_secs(3);
/// Time that `start` waits for the maker of a code; the request stands after it.
const JOIN_TIMEOUT: Duration = Duration::from_secs(60);
/// Pause between two looks for a descriptor while none is left.
const DESCRIPTOR_PAUSE: Duration = Duration::from_millis(100);
/// Longest time of an answer of the daemon.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);

pub(crate) fn run(args: Daemon, output: &Output) -> Result<(), Failure> {
    match args.verb {
        DaemonVerb::Start(args) => start(args, output),
        DaemonVerb::Run(args) => serve(args, ensure_local),
        DaemonVerb::Stop(args) => stop::stop(args.force, output),
        DaemonVerb::Status(args) => stop::status(args.check, output),
    }
}

/// Where a daemon in the background writes its log.
pub(crate) fn log_path() -> PathBuf {
    Home::default_path().join("pilot.log")
}

fn start(args: DaemonStart, output: &Output) -> Result<(), Failure> {
    let socket = socket_path();
    match Client::connect(&socket) {
        Ok(_) => {
            return Err(Failure::new(Code::Conflict, format!("a daemon already serves {}", socket.display()))
                .hint("pilotctl daemon status"));
        }
        Err(failure) if failure.code != Code::NotRunning => return Err(failure),
        Err(_) => {}
    }
    TlsOptions::of_start(&args).apply(&mut Config::new("")).and(relays(&args.relay))?; // what is malformed fails here
    let settings = settings::read()?;
    let hostname = setting(&settings, args.hostname, "PILOT_HOSTNAME", "hostname")?;
    let rendezvous = setting(&settings, args.rendezvous, "PILOT_RENDEZVOUS", "rendezvous")?;
    let join = StartCode::given(args.join.as_deref())?;
    let rendezvous = match (rendezvous, &join) {
        (None, Some(code)) if args.ephemeral => code.rendezvous(),
        (None, Some(code)) => settings::keep_rendezvous(code.rendezvous())?,
        (rendezvous, _) => rendezvous,
    };
    // A malformed rendezvous fails here, and not only in the daemon's log.
    let read = |text: &String| text.parse::<RendezvousConfig>().map_err(|e| Failure::new(Code::InvalidArgument, e));
    rendezvous.as_ref().map(read).transpose()?;
    let rendezvous_file = if rendezvous.is_some() { None } else { Some(ensure_local()?) };
    let log_level = settings::log_level(&settings, args.log_level)?;
    let folder = args.ephemeral.then(TemporaryFolder::make).transpose()?;
    let usual_log = || folder.as_ref().map_or_else(log_path, |folder| folder.path().join("pilot.log"));
    let log_file = args.log_file.or_else(|| (!args.foreground).then(usual_log));
    let run = DaemonRun {
        hostname,
        rendezvous,
        join: args.join,
        relay: args.relay,
        rendezvous_file,
        listen: args.listen,
        rendezvous_tls: args.rendezvous_tls,
        https_proxy: args.https_proxy,
        tls_verify: args.tls_verify,
        no_tls: args.no_tls,
        no_port_mapping: args.no_port_mapping,
        no_lan: args.no_lan,
        log_file,
        ephemeral: args.ephemeral,
        folder: folder.as_ref().map(|folder| folder.path().into()),
        accept_loss: args.accept_loss,
        log_level,
        log_format: args.log_format,
    };
    if args.foreground {
        return serve(run, ensure_local);
    }
    let log_path = run.log_file.clone().unwrap_or_else(log_path);
    let info = launch(&run, &log_path)?;
    folder.into_iter().for_each(TemporaryFolder::keep); // the daemon removes it
    if args.public {
        let public = Request::Profile { hostname: None, public: Some(true), tags: None };
        Client::connect(&socket)?.request(&public, &[], Some(CALL_TIMEOUT))?;
    }
    if let Some(code) = join {
        code.join(Client::connect(&socket)?, None, JOIN_TIMEOUT).map_err(|failure| Failure {
            message: format!("the daemon runs, and has not joined: {}", failure.message),
            ..failure
        })?;
    }
    tell_started(&info, &socket, &log_path, output);
    Ok(())
}

/// Starts the daemon in the background, and waits until it serves.
fn launch(run: &DaemonRun, log_path: &PathBuf) -> Result<Info, Failure> {
    let home = run.folder.clone().unwrap_or_else(Home::default_path);
    Home::make(&home)?;
    let log_error = |e: io::Error| Failure::new(Code::Internal, format!("{}: {e}", log_path.display()));
    let log = OpenOptions::new().append(true).create(true).mode(0o600).open(log_path).map_err(log_error)?;
    let log_start = log.metadata().map_err(log_error)?.len();
    let failure = |e: io::Error| Failure::new(Code::Internal, format!("{}: {e}", home.display()));
    let mut child = spawn(run, log).map_err(failure)?;
    wait_until_served(&mut child, log_path, log_start)
}

/// Connects to the daemon. When none runs, one is started in the background first, as `daemon start` does, with the settings
/// that there are and the rendezvous of a code that its owner has just given; standard error tells so.
pub(crate) fn daemon_or_start(
    code: Option<&StartCode>,
    hostname: Option<String>,
    output: &Output,
) -> Result<Client, Failure> {
    match daemon() {
        Err(failure) if failure.code == Code::NotRunning => {}
        client => return client,
    }
    match start_in_passing(code, hostname) {
        Ok(started) => output.note(&format!(
            "started the daemon of this machine: pid {}, log {}",
            started["data"]["pid"],
            started["data"]["log_file"].as_str().unwrap_or_default()
        )),
        Err(failure) if failure.code == Code::Conflict => {} // another command has started it meanwhile
        Err(failure) => return Err(failure),
    }
    daemon()
}

/// Starts the daemon for a command that needs one; returns what `daemon start` has said.
fn start_in_passing(code: Option<&StartCode>, hostname: Option<String>) -> Result<Value, Failure> {
    let mut command = Command::new(std::env::current_exe().map_err(|e| Failure::new(Code::Internal, e.to_string()))?);
    command.args(["daemon", "start", "--json"]);
    if let Some(code) = code {
        if setting(&settings::read()?, None, "PILOT_RENDEZVOUS", "rendezvous")?.is_none() {
            settings::keep_rendezvous(code.rendezvous())?;
        }
        command.env_remove("PILOT_JOIN").env_remove("PILOT_JOIN_FILE");
    }
    if let Some(name) = hostname {
        command.args(["--hostname", &name]);
    }
    let started = command.stdin(Stdio::null()).output();
    let started = started.map_err(|e| Failure::new(Code::Internal, format!("the daemon cannot be started: {e}")))?;
    match started.status.success() {
        true => Ok(serde_json::from_slice(&started.stdout).unwrap_or_default()),
        false => Err(daemon_failure(&String::from_utf8_lossy(&started.stderr))),
    }
}

fn tell_started(info: &Info, socket: &Path, log_path: &Path, output: &Output) {
    match info.rendezvous {
        RendezvousState::Ready => {}
        RendezvousState::Refused => {
            output.note(&format!("warning: {}", info.rendezvous_refusal.as_deref().unwrap_or_default()))
        }
        _ => output
            .note("warning: the rendezvous does not answer; the daemon goes on trying and serves the peers it knows"),
    }
    info.warnings.iter().for_each(|warning| output.note(&format!("warning: {warning}")));
    output.ok(&json!({
        "status": "started", "node_id": info.node_id, "address": info.address, "hostname": info.hostname,
        "fingerprint": info.fingerprint, "pid": info.pid, "socket": socket, "log_file": log_path, "rendezvous": info.rendezvous,
    }));
}

fn spawn(run: &DaemonRun, log: fs::File) -> io::Result<Child> {
    let mut command = Command::new(std::env::current_exe()?);
    // The one that starts the daemon has it join: a code in the arguments of a process is seen by every user.
    command.args(["daemon", "run"]).env_remove("PILOT_JOIN").env_remove("PILOT_JOIN_FILE");
    let mut option = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            command.args([name, &value]);
        }
    };
    option("--hostname", run.hostname.clone());
    option("--rendezvous", run.rendezvous.clone());
    option("--rendezvous-file", run.rendezvous_file.as_ref().map(|p| p.display().to_string()));
    option("--listen", run.listen.map(|l| l.to_string()));
    option("--log-file", run.log_file.as_ref().map(|p| p.display().to_string()));
    option("--log-level", run.log_level.map(|level| level.name().into()));
    option("--log-format", Some(run.log_format.name().into()));
    option("--folder", run.folder.as_ref().map(|p| p.display().to_string()));
    run.relay.iter().for_each(|relay| option("--relay", Some(relay.clone())));
    let switches = [
        (run.ephemeral, "--ephemeral"),
        (run.accept_loss, "--accept-loss"),
        (run.no_port_mapping, "--no-port-mapping"),
        (run.no_lan, "--no-lan"),
    ];
    for (is_given, name) in switches {
        if is_given {
            command.arg(name);
        }
    }
    TlsOptions::of_run(run).pass(&mut command);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).process_group(0).spawn()
}

/// Waits until the daemon serves and returns its state; when it ends instead, the failure in its log.
fn wait_until_served(child: &mut Child, log: &PathBuf, log_start: u64) -> Result<Info, Failure> {
    let (socket, begin) = (socket_path(), Instant::now());
    let mut served_since = None;
    loop {
        if let Ok(mut client) = Client::connect(&socket)
            && let Ok(info) = client.ask::<Info>(&Request::Info, Some(CALL_TIMEOUT))
        {
            let since = *served_since.get_or_insert_with(Instant::now);
            let settled =
                matches!(info.rendezvous, RendezvousState::Ready | RendezvousState::Refused | RendezvousState::Absent);
            if settled || since.elapsed() > REGISTER_TIMEOUT {
                return Ok(info);
            }
        }
        if let Ok(Some(_)) = child.try_wait() {
            let text = fs::read_to_string(log).unwrap_or_default();
            let said = text.get(log_start as usize..).unwrap_or_default().trim();
            return Err(daemon_failure(said));
        }
        if served_since.is_none() && begin.elapsed() > START_TIMEOUT {
            return Err(Failure::new(Code::Timeout, "the daemon does not serve its socket")
                .hint(format!("see {}", log.display())));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Parses the failure that the daemon wrote into its log as JSON.
fn daemon_failure(said: &str) -> Failure {
    // The log may have other lines of JSON.
    let last = said.lines().rev().find_map(|line| serde_json::from_str(line).ok());
    last.unwrap_or_else(|| Failure::new(Code::Internal, format!("the daemon ended at once: {said}")))
}

/// Runs the daemon of the program `pilot-daemon`: it takes the settings that `daemon start` takes, and starts no other process.
pub(crate) fn run_alone(mut args: DaemonRun) -> Result<(), Failure> {
    let settings = settings::read()?;
    args.log_level = settings::log_level(&settings, args.log_level)?;
    args.hostname = setting(&settings, args.hostname, "PILOT_HOSTNAME", "hostname")?;
    if args.rendezvous_file.is_none() {
        args.rendezvous = setting(&settings, args.rendezvous, "PILOT_RENDEZVOUS", "rendezvous")?;
    }
    serve(args, || Ok(local_endpoint()))
}

/// Reads the relays beside the rendezvous.
fn relays(given: &[String]) -> Result<Vec<RendezvousConfig>, Failure> {
    let relay = |text: &String| text.parse().map_err(|e| Failure::new(Code::InvalidArgument, format!("--relay: {e}")));
    given.iter().map(relay).collect()
}

/// Lets the daemon have as many descriptors as the system allows: each connection of a program takes one.
fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    // A daemon with fewer descriptors works, and pauses accepting when none is left.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
}

/// Runs the daemon. `local` gives the file that names the rendezvous of this machine, for arguments that name none.
fn serve(args: DaemonRun, local: impl FnOnce() -> Result<PathBuf, Failure>) -> Result<(), Failure> {
    raise_descriptor_limit();
    keep_memory_private();
    let folder = match (args.ephemeral, &args.folder) {
        (true, Some(folder)) => Some(TemporaryFolder::of(folder.clone())?),
        (true, None) => Some(TemporaryFolder::make()?),
        (false, None) => None,
        (false, Some(_)) => return Err(Failure::new(Code::InvalidArgument, "--folder goes with --ephemeral")),
    };
    let mut config = Config::daemon(folder.as_ref().map_or_else(Home::default_path, |folder| folder.path().into()));
    config.ephemeral = args.ephemeral;
    TlsOptions::of_run(&args).apply(&mut config)?;
    (config.hostname, config.accept_loss) = (args.hostname, args.accept_loss);
    (config.port_mapping, config.lan) = (!args.no_port_mapping, !args.no_lan);
    if let Some(listen) = args.listen {
        config.listen = listen;
    }
    let join = StartCode::given(args.join.as_deref())?;
    let named = args.rendezvous.or_else(|| join.as_ref().and_then(StartCode::rendezvous));
    config.rendezvous = match (named, args.rendezvous_file) {
        (Some(text), _) => text.parse().map_err(|e: String| Failure::new(Code::InvalidArgument, e))?,
        (None, Some(file)) => RendezvousConfig::File(file),
        (None, None) => RendezvousConfig::File(local()?),
    };
    config.relays = relays(&args.relay)?;
    // `daemon start` reads the failure from the log.
    let tell = |failure: &Failure| tell(&json!(failure).to_string());
    let (log_file, log_level) = (args.log_file, args.log_level.unwrap_or(LogLevel::Info));
    config.log = Some(match &log_file {
        None => LogConfig::new(log_level, StderrLog(args.log_format)),
        Some(path) => {
            let file = LogFile::open(path, args.log_format)
                .map_err(|e| Failure::new(Code::Internal, format!("{}: {e}", path.display())));
            LogConfig::new(log_level, file.inspect_err(tell)?)
        }
    });
    let webhook = webhook().inspect_err(tell)?;
    config.webhook.clone_from(&webhook);
    // Before the node, which gives all descriptors that are left to its clients.
    let signals = DaemonSignals::watch(log_file.is_some()).inspect_err(tell)?;
    let node = Node::start(config).inspect_err(tell)?;
    join.into_iter().for_each(|code| code.join_from_within(node.clone()));
    wait_for_end(&node, signals, webhook)
}

/// The place of the webhook, in a program that can post.
#[cfg(feature = "webhook")]
fn webhook() -> Result<Option<Webhook>, Failure> {
    Webhook::new().map(Some).map_err(|e| Failure::new(Code::Internal, format!("webhook: {e}")))
}

#[cfg(not(feature = "webhook"))]
fn webhook() -> Result<Option<Webhook>, Failure> {
    Ok(None)
}

/// Starts the thread that posts, when a webhook has been set; then `waiting` is `None`.
fn start_webhook(node: &Node, waiting: &mut Option<Webhook>) {
    let Some(webhook) = waiting.take_if(|webhook| webhook.setting().is_some()) else { return };
    #[cfg(feature = "webhook")]
    crate::webhook::start(node.clone(), webhook);
    #[cfg(not(feature = "webhook"))]
    let _ = (node, webhook); // there is none
}

/// The signals that a daemon hears, as descriptors that can be read then.
struct DaemonSignals {
    ended: UnixStream,
    hung_up: UnixStream,
}

impl DaemonSignals {
    /// A hang-up ends a daemon that logs to a terminal, as any other signal does.
    fn watch(has_file: bool) -> Result<Self, Failure> {
        use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
        let failed = |e: io::Error| Failure::new(Code::Internal, format!("signals: {e}"));
        let (ended, end) = UnixStream::pair().map_err(failed)?;
        let (hung_up, hang_up) = UnixStream::pair().map_err(failed)?;
        let hang_up = if has_file || !io::stderr().is_terminal() { &hang_up } else { &end };
        for (signal, writer) in [(SIGTERM, &end), (SIGINT, &end), (SIGHUP, hang_up)] {
            signal_hook::low_level::pipe::register(signal, writer.try_clone().map_err(failed)?).map_err(failed)?;
        }
        Ok(Self { ended, hung_up })
    }
}

/// Waits until the node ends. A signal ends the node in order; the thread that waits here handles it. A hang-up opens the
/// log's file anew, as programs that rotate logs ask, and the settings are read again; but a daemon that logs to a terminal
/// ends with the terminal.
fn wait_for_end(node: &Node, mut signals: DaemonSignals, mut webhook: Option<Webhook>) -> Result<(), Failure> {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let mut settings = Watched::new();
    // A connection to the node ends with the node, which wakes the poll.
    let mut client = None;
    loop {
        start_webhook(node, &mut webhook);
        if client.is_none() {
            client = match node.client() {
                Ok(client) => Some(client),
                Err(failure) if failure.code == Code::Full => None,
                Err(_) => break,
            };
        }
        let mut fds = vec![PollFd::new(&signals.ended, PollFlags::IN), PollFd::new(&signals.hung_up, PollFlags::IN)];
        fds.extend(client.as_ref().map(|client| PollFd::new(client, PollFlags::IN)));
        let own = fds.len();
        fds.extend(webhook.as_ref().map(|webhook| PollFd::new(webhook.changed(), PollFlags::IN)));
        let pause = Timespec::try_from(DESCRIPTOR_PAUSE).ok().filter(|_| client.is_none());
        if poll(&mut fds, pause.as_ref()) == Err(rustix::io::Errno::INTR) {
            continue;
        }
        if !fds[0].revents().is_empty() || fds[2..own].iter().any(|client| !client.revents().is_empty()) {
            break;
        }
        let is_hung_up = !fds[1].revents().is_empty();
        if let Some(webhook) = &webhook {
            webhook.changed().drain();
        }
        if is_hung_up {
            // Several signals may have come; the file is opened once.
            signals.hung_up.read(&mut [0; 64]).map_err(|e| Failure::new(Code::Internal, format!("signals: {e}")))?;
            node.reopen_log();
            settings.read_again(node);
        }
    }
    node.stopper()();
    node.wait();
    Ok(())
}
