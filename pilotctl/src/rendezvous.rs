//! Owns `rendezvous run` and `rendezvous drain`, and the local rendezvous that daemons of this machine share when none is configured.

use crate::args::{Rendezvous, RendezvousDrain, RendezvousRun, RendezvousVerb};
use crate::output::Output;
use pilot_node::parts::keep_memory_private;
use pilot_node::{Code, Failure, Home};
use pilot_rendezvous::Drain;
use pilot_rendezvous::server::{Server, ServerConfig, ServerError};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Time without a connected node after which a local rendezvous ends. Unit: seconds.
const LOCAL_IDLE_EXIT_S: u64 = 120;
/// Longest time that a drained rendezvous takes to end after its nodes have left.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(15);
/// Longest time until a local rendezvous serves.
const START_TIMEOUT: Duration = Duration::from_secs(10);

pub(crate) fn run(args: Rendezvous, output: &Output) -> Result<(), Failure> {
    match args.verb {
        RendezvousVerb::Run(args) => serve(args, output),
        RendezvousVerb::Drain(args) => drain(&args, output),
    }
}

/// Leaves the order, ends the process in order, and waits until it has.
fn drain(args: &RendezvousDrain, output: &Output) -> Result<(), Failure> {
    let file = |e: io::Error| Failure::new(Code::Internal, format!("{}: {e}", args.home.display()));
    let none = || Failure::new(Code::NotRunning, format!("no rendezvous runs in {}", args.home.display()));
    if !is_running(&args.home) {
        return Err(none().hint("--home names the folder that `rendezvous run` was given"));
    }
    let pid = fs::read_to_string(args.home.join("lock")).ok().and_then(|text| text.trim().parse().ok());
    let pid = pid.and_then(Pid::from_raw).ok_or_else(none)?;
    let span = Duration::from_secs(args.seconds.into());
    Drain { to: args.to, span }.leave(&args.home).map_err(|e| match e.kind() {
        io::ErrorKind::InvalidInput => Failure::new(Code::InvalidArgument, format!("--seconds: {e}")),
        _ => file(e),
    })?;
    kill_process(pid, Signal::TERM).map_err(|e| file(e.into()))?;
    let end = Instant::now() + span + DRAIN_TIMEOUT;
    while is_running(&args.home) {
        if Instant::now() > end {
            let text = format!("the rendezvous (pid {pid}) does not end");
            return Err(Failure::new(Code::Timeout, text).hint(format!("kill -9 {pid}")));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    output.ok(&json!({"status": "drained", "to": args.to.to_string(), "pid": pid.as_raw_nonzero().get()}));
    Ok(())
}

fn serve(args: RendezvousRun, output: &Output) -> Result<(), Failure> {
    let file = |e: io::Error| Failure::new(Code::Internal, format!("{}: {e}", args.home.display()));
    fs::create_dir_all(&args.home).map_err(file)?;
    let lock =
        OpenOptions::new().write(true).create(true).truncate(false).open(args.home.join("lock")).map_err(file)?;
    flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(|e| match e {
        Errno::WOULDBLOCK => {
            Failure::new(Code::Conflict, format!("a rendezvous already runs in {}", args.home.display()))
        }
        e => file(e.into()).hint("it cannot be locked; --home names a folder on a local disk"),
    })?;
    // `rendezvous drain` finds the process by its number; a full disk, which has no room for that, must not matter.
    let _ = lock.set_len(0).and_then(|()| (&lock).write_all(std::process::id().to_string().as_bytes()));
    let config = ServerConfig {
        home: args.home.clone(),
        listen: args.listen,
        idle_exit: args.idle_exit.map(Duration::from_secs),
    };
    keep_memory_private();
    if args.accept_loss {
        Server::accept_loss(&args.home).map_err(|e| Failure::new(Code::Internal, e.to_string()))?;
    }
    let mut server = Server::bind(&config).map_err(|e| Failure::new(Code::Conflict, e.to_string()).hint(hint(&e)))?;
    server.set_relay_budget(args.relay_bytes_per_second);
    let (key, addr) = server.endpoint();
    let endpoint = format!("{key}@{addr}");
    let (tls, ws) = crate::tls::listen(&mut server, &args)?;
    listen_probes(&mut server, &args.probe_listen)?;
    write_whole(&args.home.join("endpoint"), &endpoint).map_err(file)?;
    let mut said = json!({"endpoint": endpoint, "key": key.to_string(), "address": addr.to_string()});
    for (name, addr) in [("tls", tls), ("ws", ws)] {
        if let Some(addr) = addr {
            said[name] = json!(addr.to_string());
        }
    }
    output.ok(&said);
    let stopper = server.stopper();
    on_signal(move || stopper.stop())?;
    server.run().map_err(|e| Failure::new(Code::Internal, e.to_string()))
}

/// Opens the sockets at which nodes learn what their NATs do. Without the one beside the main port they learn less.
fn listen_probes(server: &mut Server, addrs: &[SocketAddr]) -> Result<(), Failure> {
    if addrs.is_empty() {
        let _ = server.listen_probe(None);
    }
    addrs.iter().try_for_each(|addr| {
        let bound = server.listen_probe(Some(*addr)).map(drop);
        bound.map_err(|e| Failure::new(Code::Conflict, e.to_string()).hint("another --probe-listen address or port"))
    })
}

/// The remedy of a rendezvous that cannot start.
fn hint(e: &ServerError) -> &'static str {
    match e {
        ServerError::Io(_, e) if e.kind() == io::ErrorKind::InvalidData => {
            "restore it from a backup, or go on with what is left: --accept-loss"
        }
        ServerError::Identity(_) => "restore it from a backup, or go on with another key: --accept-loss",
        _ => "",
    }
}

/// Returns the folder of the local rendezvous, which daemons of one user share.
fn local_home() -> PathBuf {
    match std::env::var_os("PILOT_LOCAL_RENDEZVOUS").filter(|v| !v.is_empty()) {
        Some(home) => home.into(),
        None => Home::shared_path().join("rendezvous"),
    }
}

/// Returns the file that names the local rendezvous, which need not run.
pub(crate) fn local_endpoint() -> PathBuf {
    local_home().join("endpoint")
}

/// Starts the local rendezvous unless it runs; returns the file that names it.
pub(crate) fn ensure_local() -> Result<PathBuf, Failure> {
    let home = local_home();
    let file = |e: io::Error| Failure::new(Code::Internal, format!("{}: {e}", home.display()));
    Home::make(&home)?;
    let endpoint = local_endpoint();
    // The lock lets one of two daemons that start at once start the rendezvous.
    let starting =
        OpenOptions::new().write(true).create(true).truncate(false).open(home.join("starting")).map_err(file)?;
    flock(&starting, FlockOperation::LockExclusive).map_err(|e| file(e.into()))?;
    if is_running(&home) && endpoint.exists() {
        return Ok(endpoint);
    }
    // The port of the last run is used if it is free, so that running daemons find the rendezvous again.
    let last = fs::read_to_string(&endpoint).ok().and_then(|text| Some(text.trim().split_once('@')?.1.to_owned()));
    for listen in last.into_iter().chain([String::from("127.0.0.1:0")]) {
        // The file may be missing already.
        let _ = fs::remove_file(&endpoint);
        if start_local(&home, &endpoint, &listen)? {
            return Ok(endpoint);
        }
    }
    let log = fs::read_to_string(home.join("rendezvous.log")).unwrap_or_default();
    let last = log.lines().last().unwrap_or("no reason was given").to_owned();
    Err(Failure::new(Code::Internal, format!("the local rendezvous cannot start: {last}")))
}

fn start_local(home: &Path, endpoint: &Path, listen: &str) -> Result<bool, Failure> {
    let file = |e: io::Error| Failure::new(Code::Internal, format!("{}: {e}", home.display()));
    let program = std::env::current_exe().map_err(file)?;
    let log = OpenOptions::new().append(true).create(true).open(home.join("rendezvous.log")).map_err(file)?;
    let mut child = Command::new(program)
        .args(["rendezvous", "run", "--listen", listen, "--idle-exit", &LOCAL_IDLE_EXIT_S.to_string(), "--home"])
        .arg(home)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .process_group(0)
        .spawn()
        .map_err(file)?;
    write_whole(&home.join("pid"), &child.id().to_string()).map_err(file)?;
    let end = Instant::now() + START_TIMEOUT;
    while Instant::now() < end {
        if endpoint.exists() {
            return Ok(true);
        }
        if child.try_wait().map_err(file)?.is_some() {
            return Ok(false);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(false)
}

fn is_running(home: &Path) -> bool {
    let Ok(lock) = OpenOptions::new().write(true).open(home.join("lock")) else { return false };
    flock(&lock, FlockOperation::NonBlockingLockExclusive) == Err(Errno::WOULDBLOCK)
}

/// Writes a file so that readers see the old content or the new one, never a part.
pub(crate) fn write_whole(path: &Path, text: &str) -> io::Result<()> {
    let partial = path.with_extension("new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).open(&partial)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(partial, path)
}

/// Runs `f` at the first SIGTERM, SIGINT or SIGHUP.
pub(crate) fn on_signal(f: impl FnOnce() + Send + 'static) -> Result<(), Failure> {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    let mut signals = signal_hook::iterator::Signals::new([SIGTERM, SIGINT, SIGHUP])
        .map_err(|e| Failure::new(Code::Internal, format!("signals: {e}")))?;
    std::thread::spawn(move || {
        if signals.forever().next().is_some() {
            f();
        }
    });
    Ok(())
}
