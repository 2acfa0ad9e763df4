//! Machines of their own for daemons: network namespaces, which only root may make.
#![allow(dead_code, reason = "each test program uses a part of it")]

use super::{pilotctl, until};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

/// Namespaces joined by a bridge in one more namespace, each with an interface `eth0`; removed when the value is dropped.
pub(crate) struct Net {
    names: Vec<String>,
    pub(crate) folder: PathBuf,
}

impl Net {
    /// Makes the namespaces; `None` where this is not allowed.
    pub(crate) fn new(machines: &[&str]) -> Option<Self> {
        let tag = std::process::id();
        let folder = std::env::temp_dir().join(format!("pilot-net-{tag}"));
        std::fs::create_dir_all(&folder).unwrap();
        let names = std::iter::once(&"wire").chain(machines).map(|name| format!("pilot-{name}-{tag}")).collect();
        let has_ip = Command::new("ip").arg("-V").output().is_ok_and(|output| output.status.success());
        let is_wanted = std::env::var_os("CI").is_some() && rustix::process::geteuid().is_root();
        assert!(has_ip || !is_wanted, "CI installs ip");
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

    pub(crate) fn name(&self, machine: &str) -> String {
        format!("pilot-{machine}-{}", std::process::id())
    }

    fn try_ip(&self, args: &[&str]) -> Result<(), String> {
        let output = Command::new("ip").args(args).output().map_err(|e| format!("ip: {e}"))?;
        let text = || format!("ip {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        output.status.success().then_some(()).ok_or_else(text)
    }

    pub(crate) fn ip(&self, args: &[&str]) {
        self.try_ip(args).unwrap();
    }

    pub(crate) fn command(&self, machine: &str, args: &[&str]) -> Command {
        let inner = pilotctl(args);
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name(machine)]).arg(inner.get_program()).args(inner.get_args());
        command.env("PILOT_HOME", self.folder.join(machine));
        for variable in ["PILOT_SOCKET", "PILOT_RENDEZVOUS", "PILOT_HOSTNAME"] {
            command.env_remove(variable);
        }
        command
    }

    pub(crate) fn run(&self, machine: &str, args: &[&str]) -> Output {
        self.command(machine, args).stdin(Stdio::null()).output().unwrap()
    }

    pub(crate) fn ok(&self, machine: &str, args: &[&str]) {
        let output = self.run(machine, args);
        assert!(output.status.success(), "{machine} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// Starts a rendezvous on the first machine; gives how nodes name it.
    pub(crate) fn serve_rendezvous(&self, machine: &str) -> (Running, String) {
        self.serve_rendezvous_at(machine, Some("10.9.0.1:9000"))
    }

    /// Starts a rendezvous that serves on this address, or where it does by default; gives its key and address.
    pub(crate) fn serve_rendezvous_at(&self, machine: &str, listen: Option<&str>) -> (Running, String) {
        let home = self.folder.join("rendezvous");
        let said = self.folder.join("said");
        let mut serve = self.command(machine, &["rendezvous", "run", "--home", home.to_str().unwrap()]);
        serve.args(listen.into_iter().flat_map(|listen| ["--listen", listen]));
        let rendezvous = Running(serve.stdout(std::fs::File::create(&said).unwrap()).spawn().unwrap());
        let mut endpoint = String::new();
        until("the rendezvous serves", || {
            let text = std::fs::read_to_string(&said).unwrap();
            endpoint = text.split_whitespace().find(|word| word.contains('@')).unwrap_or_default().into();
            !endpoint.is_empty()
        });
        (rendezvous, endpoint)
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

/// A process that is killed when the value is dropped.
pub(crate) struct Running(pub(crate) Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
