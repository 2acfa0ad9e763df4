//! A machine changes its address while its streams are idle: real processes in network namespaces, which only root may make.
#![allow(clippy::unwrap_used, reason = "tests")]

mod harness;

use harness::{pilotctl, until};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// Namespaces joined by a bridge in one more namespace, each with an interface `eth0`; removed when the value is dropped.
struct Net {
    names: Vec<String>,
    folder: PathBuf,
}

impl Net {
    /// Makes the namespaces; `None` where this is not allowed.
    fn new(machines: &[&str]) -> Option<Self> {
        let tag = std::process::id();
        let folder = std::env::temp_dir().join(format!("pilot-roam-{tag}"));
        std::fs::create_dir_all(&folder).unwrap();
        let names = std::iter::once(&"wire").chain(machines).map(|name| format!("pilot-{name}-{tag}")).collect();
        let net = Self { names, folder };
        net.set_up(machines).map_err(|why| println!("skipped: no network of namespaces here: {why}")).ok()?;
        Some(net)
    }

    fn set_up(&self, machines: &[&str]) -> Result<(), String> {
        let wire = self.name("wire");
        self.try_ip(&["netns", "add", &wire])?;
        self.try_ip(&["-n", &wire, "link", "add", "bridge", "type", "bridge"])?;
        self.try_ip(&["-n", &wire, "link", "set", "bridge", "up"])?;
        for (i, machine) in machines.iter().enumerate() {
            let (name, port) = (self.name(machine), format!("port{i}"));
            self.try_ip(&["netns", "add", &name])?;
            self.try_ip(&["-n", &wire, "link", "add", &port, "type", "veth", "peer", "name", "eth0", "netns", &name])?;
            self.try_ip(&["-n", &wire, "link", "set", &port, "master", "bridge", "up"])?;
            self.try_ip(&["-n", &name, "link", "set", "eth0", "up"])?;
            self.try_ip(&["-n", &name, "addr", "add", &format!("10.9.0.{}/24", i + 1), "dev", "eth0"])?;
        }
        Ok(())
    }

    fn name(&self, machine: &str) -> String {
        format!("pilot-{machine}-{}", std::process::id())
    }

    fn try_ip(&self, args: &[&str]) -> Result<(), String> {
        let output = Command::new("ip").args(args).output().map_err(|e| format!("ip: {e}"))?;
        let text = || format!("ip {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        output.status.success().then_some(()).ok_or_else(text)
    }

    fn ip(&self, args: &[&str]) {
        self.try_ip(args).unwrap();
    }

    fn command(&self, machine: &str, args: &[&str]) -> Command {
        let inner = pilotctl(args);
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name(machine)]).arg(inner.get_program()).args(inner.get_args());
        command.env("PILOT_HOME", self.folder.join(machine));
        for variable in ["PILOT_SOCKET", "PILOT_RENDEZVOUS", "PILOT_HOSTNAME"] {
            command.env_remove(variable);
        }
        command
    }

    fn run(&self, machine: &str, args: &[&str]) -> Output {
        self.command(machine, args).stdin(Stdio::null()).output().unwrap()
    }

    fn ok(&self, machine: &str, args: &[&str]) {
        let output = self.run(machine, args);
        assert!(output.status.success(), "{machine} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        for name in &self.names {
            let pids = Command::new("ip").args(["netns", "pids", name]).output().map(|o| o.stdout).unwrap_or_default();
            let pids = String::from_utf8_lossy(&pids).into_owned();
            for pid in pids.split_whitespace() {
                let _ = Command::new("kill").args(["-9", pid]).status();
            }
            let _ = Command::new("ip").args(["netns", "del", name]).stderr(Stdio::null()).status();
        }
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn an_idle_node_whose_machine_moves_is_found_at_once() {
    let Some(net) = Net::new(&["beacon", "mover", "stayer"]) else { return };
    let home = net.folder.join("rendezvous");
    let said = net.folder.join("said");
    let mut serve =
        net.command("beacon", &["rendezvous", "run", "--home", home.to_str().unwrap(), "--listen", "10.9.0.1:9000"]);
    let _rendezvous = Running(serve.stdout(std::fs::File::create(&said).unwrap()).spawn().unwrap());
    let mut endpoint = String::new();
    until("the rendezvous serves", || {
        let text = std::fs::read_to_string(&said).unwrap();
        endpoint = text.split_whitespace().find(|word| word.contains('@')).unwrap_or_default().into();
        !endpoint.is_empty()
    });
    for machine in ["mover", "stayer"] {
        net.ok(machine, &["daemon", "start", "--hostname", machine, "--rendezvous", &endpoint]);
    }
    net.ok("mover", &["handshake", "stayer"]);
    until("the approval", || net.run("stayer", &["approve", "mover", "--ports", "all"]).status.success());
    until("the tunnel", || net.run("stayer", &["ping", "mover", "--count", "1"]).status.success());
    std::thread::sleep(Duration::from_secs(2));

    let mover = net.name("mover");
    net.ip(&["-n", &mover, "addr", "del", "10.9.0.2/24", "dev", "eth0"]);
    net.ip(&["-n", &mover, "addr", "add", "10.9.0.77/24", "dev", "eth0"]);
    std::thread::sleep(Duration::from_millis(300));
    // The node that stayed sends first. Without a notice it would learn the new address with the next keepalive, some ten
    // seconds later.
    let begin = Instant::now();
    net.ok("stayer", &["ping", "mover", "--count", "1"]);
    assert!(begin.elapsed() < Duration::from_secs(2), "{:?}", begin.elapsed());
}
