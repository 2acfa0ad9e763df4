//! Owns `run`: a program that reaches peers through a proxy of the daemon, which its environment names. The proxy and the
//! forwards belong to this process' connection to the daemon, and end with it. No byte goes through this process.

use crate::args;
use crate::client::{CALL_TIMEOUT, daemon};
use crate::isolate;
use crate::output::Output;
use crate::signals::Signals;
use pilot_node::answer::Info;
use pilot_node::{Client, Code, Failure, Request, socket_path};
use rustix::process::{Pid, Resource, Rlimit, Signal, getpgrp, kill_process, setrlimit};
use rustix::termios::tcgetpgrp;
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook::low_level::emulate_default_handler;
use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::AsFd as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitCode, ExitStatus};
use std::str::FromStr;

/// Signals that are the program's.
const SIGNALS: [i32; 7] = [SIGCHLD, SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2];
/// Exit statuses for a program that is missing, and for one that cannot be run. Source: POSIX, sh, "Exit Status for Commands".
const MISSING: u8 = 127;
const NOT_RUN: u8 = 126;

/// A peer's port at a port of the program's machine: `PORT=NODE:PORT`.
#[derive(Debug, PartialEq, Eq)]
struct Forward {
    local: u16,
    node: String,
    port: u16,
}

impl FromStr for Forward {
    type Err = Failure;

    fn from_str(text: &str) -> Result<Self, Failure> {
        let parsed = text.split_once('=').and_then(|(local, remote)| {
            // An address has colons too.
            let (node, port) = remote.rsplit_once(':')?;
            Some(Self { local: local.parse().ok()?, node: node.to_owned(), port: port.parse().ok()? })
        });
        parsed.filter(|f| f.local > 0 && f.port > 0 && !f.node.is_empty()).ok_or_else(|| {
            Failure::new(Code::InvalidArgument, format!("{text:?} is no forward")).hint("--forward PORT=NODE:PORT")
        })
    }
}

/// Runs the program; its exit status is this one's.
pub(crate) fn run(args: &args::Run, output: &Output) -> Result<ExitCode, Failure> {
    let forwards = args.forward.iter().map(|text| text.parse()).collect::<Result<Vec<Forward>, _>>()?;
    let [program, words @ ..] = &args.command[..] else {
        return Err(Failure::new(Code::InvalidArgument, "run needs a program").hint("pilotctl run -- CMD ARG…"));
    };
    let mut client = daemon()?;
    let proxy = if args.only { open_inside(&mut client, &forwards)? } else { open(&mut client, &forwards)? };
    let mut signals = Signals::watch(&SIGNALS)?;
    let mut command = Command::new(program);
    command.args(words).envs(variables(&proxy));
    if args.only {
        command.env_remove("PILOT_SOCKET");
    }
    match command.spawn() {
        Ok(child) => watch(child, client, &mut signals, args.only, output).map(exit),
        Err(e) => {
            let is_missing = e.kind() == io::ErrorKind::NotFound;
            output.fail(&Failure::new(Code::NotFound, format!("{program}: {e}")));
            Ok(ExitCode::from(if is_missing { MISSING } else { NOT_RUN }))
        }
    }
}

/// The request for a temporary proxy.
fn proxy_at(listen: &str) -> Request {
    Request::Proxy { listen: listen.into(), direct: None, auth_file: None, temporary: Some(true) }
}

/// The request for a temporary forward.
fn forward_at(listen: String, forward: &Forward) -> Request {
    Request::Forward { node: forward.node.clone(), port: forward.port, listen, temporary: Some(true) }
}

/// Opens the proxy and the forwards on this machine; gives the proxy's address.
fn open(client: &mut Client, forwards: &[Forward]) -> Result<String, Failure> {
    for forward in forwards {
        client.request(&forward_at(forward.local.to_string(), forward), &[], Some(CALL_TIMEOUT))?;
    }
    let reply = client.request(&proxy_at("127.0.0.1:0"), &[], Some(CALL_TIMEOUT))?;
    let listen = reply.data["listen"].as_str();
    listen.map(str::to_owned).ok_or_else(|| Failure::new(Code::Internal, "the daemon names no proxy"))
}

/// Moves this process into a network of its own, and hands listeners in it to the daemon; gives the proxy's address.
fn open_inside(client: &mut Client, forwards: &[Forward]) -> Result<String, Failure> {
    let info: Info = client.ask(&Request::Info, Some(CALL_TIMEOUT))?;
    isolate::enter(Path::new(&info.home), &socket_path())?;
    let bind = |port: u16| {
        let bound = TcpListener::bind((Ipv4Addr::LOCALHOST, port));
        bound.map_err(|e| Failure::new(Code::Conflict, format!("port {port} in the program's network: {e}")))
    };
    let listeners: Vec<TcpListener> = forwards.iter().map(|f| bind(f.local)).collect::<Result<_, _>>()?;
    let proxy = bind(0)?;
    let addr = proxy.local_addr().map_err(|e| Failure::new(Code::Internal, e.to_string()))?;
    isolate::drop_rights()?;
    for (forward, listener) in forwards.iter().zip(&listeners) {
        client.request_with_fd(&forward_at("fd".into(), forward), listener.as_fd(), Some(CALL_TIMEOUT))?;
    }
    client.request_with_fd(&proxy_at("fd"), proxy.as_fd(), Some(CALL_TIMEOUT))?;
    Ok(addr.to_string())
}

/// The names of the variables by which programs find a proxy.
const VARIABLES: [&str; 7] =
    ["ALL_PROXY", "all_proxy", "HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "grpc_proxy"];

/// The variables by which programs find a proxy. None names SOCKS: Python's httpx, and with it most programs for agents,
/// does not start where one does and a package for SOCKS is missing; CONNECT carries the same streams.
fn variables(proxy: &str) -> Vec<(&'static str, String)> {
    let (http, here) = (format!("http://{proxy}"), "localhost,127.0.0.1".to_owned());
    let proxies = VARIABLES.map(|name| (name, http.clone()));
    proxies.into_iter().chain(["NO_PROXY", "no_proxy"].map(|name| (name, here.clone()))).collect()
}

/// Waits for the end of the program, and gives it the signals that come meanwhile.
fn watch(
    mut child: Child,
    client: Client,
    signals: &mut Signals,
    only: bool,
    output: &Output,
) -> Result<ExitStatus, Failure> {
    let local = |e: io::Error| Failure::new(Code::Internal, format!("the program: {e}"));
    let mut client = Some(client);
    loop {
        if let Some(status) = child.try_wait().map_err(local)? {
            return Ok(status);
        }
        let fd = client.as_ref().map(|client| client as &dyn std::os::fd::AsFd);
        for signal in signals.wait(fd, None)?.into_iter().filter(|signal| *signal != SIGCHLD) {
            // The terminal gives these two to all processes in its foreground, also to the program.
            let is_known = matches!(signal, SIGINT | SIGQUIT) && is_in_foreground();
            if let Some(signal) = Signal::from_named_raw(signal).filter(|_| !is_known) {
                // The program may have ended.
                let _ = kill_process(Pid::from_child(&child), signal);
            }
        }
        if client.as_mut().is_some_and(|client| client.try_answer().is_err()) {
            client = None;
            output.note("the daemon has ended, and with it the program's ways to peers");
            if only {
                // Another daemon's socket may appear where the program finds it.
                child.kill().map_err(local)?;
            }
        }
    }
}

fn is_in_foreground() -> bool {
    File::open("/dev/tty").is_ok_and(|terminal| tcgetpgrp(terminal).is_ok_and(|group| group == getpgrp()))
}

/// Ends as the program did: with its status, or by the same signal.
fn exit(status: ExitStatus) -> ExitCode {
    if let Some(signal) = status.signal() {
        // A dump would be this process', which says nothing of the program.
        let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
        // Returns only for signals that end no process.
        let _ = emulate_default_handler(signal);
        return ExitCode::from(128u8.saturating_add(signal.unsigned_abs() as u8));
    }
    ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forwards_are_read_and_wrong_ones_refused() {
        let forward = |local, node: &str, port| Forward { local, node: node.into(), port };
        assert_eq!("5432=worker-node:5433".parse(), Ok(forward(5432, "worker-node", 5433)));
        assert_eq!("80=0:0000.0001.F00D:8080".parse(), Ok(forward(80, "0:0000.0001.F00D", 8080)));
        for wrong in ["", "80", "80=", "80=node", "80=:80", "0=node:80", "80=node:0", "80=node:65536", "x=node:80"] {
            assert_eq!(wrong.parse::<Forward>().expect_err(wrong).code, Code::InvalidArgument);
        }
    }

    #[test]
    fn every_program_finds_the_proxy_under_the_name_that_it_knows() {
        let variables = variables("127.0.0.1:1080");
        let value = |name: &str| variables.iter().find(|(n, _)| *n == name).map(|(_, value)| &**value);
        assert_eq!(
            (value("ALL_PROXY"), value("no_proxy")),
            (Some("http://127.0.0.1:1080"), Some("localhost,127.0.0.1"))
        );
        assert_eq!((value("https_proxy"), value("HTTP_PROXY")), (value("grpc_proxy"), Some("http://127.0.0.1:1080")));
    }
}
