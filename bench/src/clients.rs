//! Owns the measurement of short connections: many clients of one program, each request over a stream of its own.

use crate::compare::Side;
use crate::contest::{DRIVER, Folder, Outcome, PORT, REQUEST_LEN, SERVER, befriend, start, until_registered};
use argh::FromArgs;
use pilot_node::{Client, Node, RendezvousConfig, Request};
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Longest datagram on loopback. Unit: bytes.
const DATAGRAM_LEN: usize = 65_000;
/// Time after the last request until memory is read again. Unit: seconds.
const REST_S: u64 = 3;

/// Measure requests that each have a stream of their own, and the memory that the program then has.
#[derive(FromArgs)]
#[argh(subcommand, name = "clients")]
pub(crate) struct Clients {
    /// threads that make requests
    #[argh(option, default = "200")]
    clients: u64,
    /// requests of all threads together
    #[argh(option, default = "20000")]
    count: u64,
    /// ask another process's node over its socket, instead of a node in this process
    #[argh(switch)]
    attached: bool,
    /// be that other process, with its socket in this folder
    #[argh(option)]
    hold: Option<String>,
    /// the rendezvous of the server (with --hold)
    #[argh(option, default = "String::new()")]
    to: String,
}

impl Clients {
    /// Measures, and prints a line for people.
    ///
    /// # Errors
    /// When a request fails.
    pub(crate) fn run(&self) -> Outcome<()> {
        if let Some(folder) = &self.hold {
            let _node = self.node(Path::new(folder), &self.to, true)?;
            println!("ready");
            std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink())?;
            return Ok(());
        }
        let program = std::env::current_exe()?;
        let mut command = Command::new(&program);
        command.args(["contest", "pilot", "serve"]);
        let mut server = Side::start(command)?;
        let to = server.expect("ready")?;
        let folder = Folder::new("bench-clients");
        let (program_before, peak) = (anonymous()?, AtomicU64::new(0));
        let (seconds, after) = if self.attached {
            let mut command = Command::new(program);
            command.args(["clients", "--to", &to, "--hold"]).arg(&folder.0);
            let mut holder = Side::start(command)?;
            holder.expect("ready")?;
            let socket = folder.0.join("socket");
            let seconds = self.drive(&peak, || {
                let mut client = Client::connect(&socket)?;
                Ok(move |first: &[u8]| {
                    let connect = Request::Connect { node: SERVER.into(), port: PORT };
                    let reply = client.request(&connect, first, None)?;
                    Ok(UnixStream::from(reply.fd.ok_or("no descriptor")?))
                })
            })?;
            (seconds, anonymous()?)
        } else {
            let node = self.node(&folder.0, &to, false)?;
            let seconds = self.drive(&peak, || Ok(|first: &[u8]| Ok(node.connect_with(SERVER, PORT, first)?)))?;
            (seconds, anonymous()?)
        };
        std::thread::sleep(Duration::from_secs(REST_S));
        println!(
            "{:.0} requests/s; anonymous memory of the program: {} KiB before, at most {}, {after} at the end, {} after {REST_S} s",
            self.count as f64 / seconds,
            program_before,
            peak.load(Ordering::Relaxed),
            anonymous()?,
        );
        Ok(())
    }

    /// A node that the server trusts and reaches.
    fn node(&self, folder: &Path, to: &str, with_socket: bool) -> Outcome<Node> {
        let rendezvous: RendezvousConfig = to.parse()?;
        let socket = with_socket.then(|| folder.join("socket"));
        let node = start(folder, DRIVER, IpAddr::from(Ipv4Addr::LOCALHOST), rendezvous, DATAGRAM_LEN, socket)?;
        until_registered(&node)?;
        befriend(&node)?;
        Ok(node)
    }

    /// Lets all threads make their requests; gives the time. Unit: seconds.
    fn drive<S: Read + Write, C: FnMut(&[u8]) -> Outcome<S>>(
        &self,
        peak: &AtomicU64,
        make: impl Fn() -> Outcome<C> + Sync,
    ) -> Outcome<f64> {
        let (begin, left) = (Instant::now(), AtomicU64::new(self.count));
        let each = || -> Result<(), String> {
            let run = || -> Outcome<()> {
                let mut connect = make()?;
                let mut request = [0; REQUEST_LEN];
                request[0] = b'H';
                while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1)).is_ok() {
                    let mut stream = connect(&request)?;
                    let mut answer = Vec::new();
                    stream.read_to_end(&mut answer)?;
                    if answer.len() < REQUEST_LEN {
                        return Err(format!("an answer of {} bytes", answer.len()).into());
                    }
                }
                Ok(())
            };
            run().map_err(|e| e.to_string())
        };
        std::thread::scope(|scope| -> Outcome<()> {
            let clients: Vec<_> = (0..self.clients).map(|_| scope.spawn(each)).collect();
            while clients.iter().any(|client| !client.is_finished()) {
                peak.fetch_max(anonymous()?, Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(50));
            }
            for client in clients {
                client.join().map_err(|_| "a client failed")??;
            }
            Ok(())
        })?;
        Ok(begin.elapsed().as_secs_f64())
    }
}

/// Anonymous memory of this process. Unit: KiB.
fn anonymous() -> Outcome<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).ok_or("a strange /proc/self/status")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}
