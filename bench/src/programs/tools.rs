//! Owns the figures that programs from outside measure: grpc-go and iperf3; and those of other parts of this program.

use super::amounts::Sizes;
use super::rows::{Against, Row};
use super::ways::Ways;
use crate::contest::{Outcome, until};
use serde_json::Value;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Clients of gRPC, each with its own connection.
const GRPC_CLIENTS: u32 = 50;
/// Length of a message. Unit: bytes.
const GRPC_LEN: u32 = 1024;
/// Tries to start a test of iperf3, and the time between two. Own choice: a server needs a moment to end a test.
const TRIES_MAX: usize = 20;
const PAUSE: Duration = Duration::from_millis(200);
/// Clients of the measurement of memory.
const MEMORY_CLIENTS: u32 = 200;

/// A server from outside, killed when the value is dropped.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        // A server that has ended already has failed its figure.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts a server on a free port of loopback; returns the ways to it.
fn serve(command: impl FnOnce(u16) -> Command) -> Outcome<(Server, Ways)> {
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let mut command = command(port);
    let server = Server(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?);
    // The table of sockets is read, so that the server sees no connection that asks nothing.
    let entry = format!(":{port:04X} 00000000:0000 0A");
    until("the server listens", || Ok(std::fs::read_to_string("/proc/net/tcp")?.contains(&entry)))?;
    Ok((server, Ways::to(port)?))
}

/// Runs a client; returns its output.
fn output(command: &mut Command) -> Outcome<String> {
    let output = command.stdin(Stdio::null()).output()?;
    if output.status.success() {
        return Ok(String::from_utf8(output.stdout)?);
    }
    Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr).trim()).into())
}

/// Measures unary calls of grpc-go.
pub(super) fn grpc(sizes: Sizes) -> Outcome<Vec<Row>> {
    let mut row = Row::new("50 gRPC clients, unary 1 KiB", "calls/s", Against::Relays, "≥ 0.6");
    let program = grpc_program()?;
    let (_server, ways) = serve(|port| {
        let mut command = Command::new(&program);
        command.args(["serve", &port.to_string()]);
        command
    })?;
    ways.rounds(sizes.rounds, &mut row, |to: SocketAddr| {
        let words = [to.to_string(), sizes.load_s.to_string(), GRPC_CLIENTS.to_string(), GRPC_LEN.to_string()];
        Ok(output(Command::new(&program).arg("load").args(words))?.trim().parse()?)
    })?;
    Ok(vec![row])
}

/// Builds the program of the laboratory (`tests/programs/go`).
fn grpc_program() -> Outcome<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let folder = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    let program = folder.join("programs/grpc-go");
    let mut go = Command::new("go");
    go.args(["build", "-o"]).arg(&program).arg(".").current_dir(root.join("tests/programs/go"));
    output(&mut go).map_err(|e| format!("grpc-go is not built: {e}"))?;
    Ok(program)
}

/// Measures one stream of iperf3.
pub(super) fn iperf3(sizes: Sizes) -> Outcome<Vec<Row>> {
    let mut row = Row::new("iperf3, one stream", "Gbit/s", Against::Relays, "≥ 0.6");
    let (_server, ways) = serve(|port| {
        let mut command = Command::new("iperf3");
        command.args(["-s", "-B", "127.0.0.1", "-p", &port.to_string()]);
        command
    })
    .map_err(|e| format!("iperf3: {e}"))?;
    ways.rounds(sizes.rounds, &mut row, |to: SocketAddr| {
        let (port, seconds) = (to.port().to_string(), sizes.load_s.to_string());
        // The server takes one test at a time, and may still be at the end of the one before.
        let mut result = Value::Null;
        for _ in 0..TRIES_MAX {
            let mut client = Command::new("iperf3");
            client.args(["-J", "-c", "127.0.0.1", "-p", &port, "-t", &seconds]).stdin(Stdio::null());
            result = serde_json::from_slice(&client.output()?.stdout)?;
            if !result["error"].as_str().is_some_and(|error| error.contains("busy")) {
                break;
            }
            std::thread::sleep(PAUSE);
        }
        let said = || format!("iperf3 says no rate: {}", result["error"]);
        let rate = result["end"]["sum_received"]["bits_per_second"].as_f64().ok_or_else(said)?;
        Ok(rate / 1e9)
    })?;
    Ok(vec![row])
}

/// Measures a program with a node of its own and many clients, a stream for each request, against the same program
/// attached to another process's node.
pub(super) fn memory(sizes: Sizes) -> Outcome<Vec<Row>> {
    let figure = |what: &str| format!("{MEMORY_CLIENTS} clients of one program, a stream a request: {what}");
    let mut memory = Row::new(&figure("memory"), "MB", Against::Nothing, "≤ 60");
    let mut rate = Row::new(&figure("requests"), "requests/s", Against::Base("attached"), "≥ 0.6");
    for _ in 0..sizes.rounds {
        let (requests, peak) = clients(sizes, None)?;
        rate.pilot.add(requests);
        memory.pilot.add(peak);
        rate.base.add(clients(sizes, Some("--attached"))?.0);
    }
    Ok(vec![memory, rate])
}

/// Runs `pilot-bench clients`; returns requests a second and the most memory. Unit: MB.
fn clients(sizes: Sizes, attached: Option<&str>) -> Outcome<(f64, f64)> {
    let (count, clients) = ((2 * sizes.connections).to_string(), MEMORY_CLIENTS.to_string());
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["clients", "--clients", &clients, "--count", &count]).args(attached);
    let said = output(&mut command)?;
    let number_after = |word: &str| {
        let rest = said.split_once(word)?.1.trim_start();
        rest.split(|c: char| !(c.is_ascii_digit() || c == '.')).next()?.parse::<f64>().ok()
    };
    let strange = || format!("a strange answer: {said}");
    Ok((number_after("").ok_or_else(strange)?, number_after("at most").ok_or_else(strange)? * 1024.0 / 1e6))
}
