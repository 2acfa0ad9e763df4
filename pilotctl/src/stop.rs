//! Owns the end of the daemon, and its status: whether it runs, answers, or hangs.

use crate::output::Output;
use pilot_node::answer::Info;
use pilot_node::{Client, Code, Failure, Home, Request, socket_path};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use std::path::Path;
use std::time::{Duration, Instant};

/// Time after which a daemon that does not answer hangs. Own choice: a daemon under full load answers within milliseconds.
const HUNG_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest time that the daemon takes to end.
const STOP_TIMEOUT: Duration = Duration::from_secs(15);
/// Pause between two looks meanwhile.
const PAUSE: Duration = Duration::from_millis(10);

/// Ends the daemon in order; with `force`, one that does not answer or end is killed.
pub(crate) fn stop(force: bool, output: &Output) -> Result<(), Failure> {
    let mut client = Client::connect(&socket_path())?;
    let pid = client.process();
    let asked = client.ask::<Info>(&Request::Info, Some(HUNG_TIMEOUT)).and_then(|info| {
        client.request(&Request::Stop, &[], Some(HUNG_TIMEOUT))?;
        Ok(info)
    });
    let status = match asked {
        Ok(info) if has_ended(&mut client, Some(Path::new(&info.home))) => "stopped",
        Err(failure) if failure.code != Code::Timeout => return Err(failure),
        _ if !force => return Err(hung(pid)),
        _ => {
            kill(pid)?;
            if !has_ended(&mut client, None) {
                return Err(Failure::new(Code::Timeout, "the daemon does not end: the system does not let it go"));
            }
            "killed"
        }
    };
    output.ok(&json!({"status": status, "pid": pid}));
    Ok(())
}

/// Waits until the process at the other end of the connection is gone, and `home` is unlocked; false when it takes too long.
fn has_ended(client: &mut Client, home: Option<&Path>) -> bool {
    let end = Instant::now() + STOP_TIMEOUT;
    while Instant::now() < end {
        // The daemon gives up its clients first and its lock last: then another daemon may start.
        if client.try_answer().is_err() && !home.is_some_and(Home::is_locked) {
            return true;
        }
        std::thread::sleep(PAUSE);
    }
    false
}

fn kill(pid: Option<u32>) -> Result<(), Failure> {
    let unknown = || Failure::new(Code::Internal, "the system does not tell the number of the daemon's process");
    let pid = pid.and_then(|pid| Pid::from_raw(pid.try_into().ok()?)).ok_or_else(unknown)?;
    kill_process(pid, Signal::KILL).map_err(|e| {
        Failure::new(Code::Internal, format!("the daemon (pid {pid}) cannot be killed: {}", std::io::Error::from(e)))
    })
}

fn hung(pid: Option<u32>) -> Failure {
    let pid = pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default();
    Failure::new(Code::Timeout, format!("the daemon{pid} is hung: it does not answer"))
        .hint("pilotctl daemon stop --force")
}

/// Tells whether the daemon runs; with `check`, one that does not is a failure.
pub(crate) fn status(check: bool, output: &Output) -> Result<(), Failure> {
    let socket = socket_path();
    let mut pid = None;
    let info = Client::connect(&socket).and_then(|mut client| {
        pid = client.process();
        client.ask::<Info>(&Request::Info, Some(HUNG_TIMEOUT))
    });
    match info {
        Ok(i) => output.ok(&json!({
            "running": true, "responsive": true, "state": "running", "pid": i.pid, "socket": socket, "node_id": i.node_id,
            "address": i.address, "hostname": i.hostname, "uptime_secs": i.uptime_secs, "peers": i.trusted,
            "connections": i.connections, "rendezvous": i.rendezvous,
        })),
        Err(failure) if failure.code == Code::Timeout => {
            if check {
                return Err(hung(pid));
            }
            output.ok(&json!({"running": true, "responsive": false, "state": "hung", "pid": pid, "socket": socket}));
            output.note(&hung(pid).to_string());
        }
        Err(failure) if failure.code == Code::NotRunning && !check => {
            output.ok(&json!({"running": false, "responsive": false, "state": "stopped", "socket": socket}));
        }
        Err(failure) => return Err(failure),
    }
    Ok(())
}
