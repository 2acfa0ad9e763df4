//! Owns real processes for `churn` and `inbox`: a rendezvous, daemons in a temporary folder, and a small disk. All of them end with
//! their laboratory.

use pilot_node::answer::Info;
use pilot_node::{Client, Failure, Home, Request};
use rustix::process::{Pid, Signal, kill_process};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Longest wait for a process or a change of trust.
const PATIENCE: Duration = Duration::from_secs(30);
/// Size of the small disk, as mount takes it.
const DISK_LEN: &str = "size=24m";

/// What a process holds.
pub(crate) struct Held {
    /// Memory that belongs to the process alone, without file pages. Unit: bytes.
    pub(crate) memory: u64,
    pub(crate) descriptors: usize,
    /// Sizes of a node's tables: pins, requests, streams, ports and letters; empty for the rendezvous.
    pub(crate) tables: String,
}

fn held(pid: u32, tables: String) -> Result<Held, String> {
    let folder = PathBuf::from(format!("/proc/{pid}"));
    let status = std::fs::read_to_string(folder.join("status")).map_err(|e| format!("process {pid}: {e}"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap_or_default();
    let memory = line.trim().trim_end_matches(" kB").trim().parse::<u64>().unwrap_or(0) * 1024;
    let descriptors = std::fs::read_dir(folder.join("fd")).map_err(|e| format!("process {pid}: {e}"))?.count();
    Ok(Held { memory, descriptors, tables })
}

/// A folder with a rendezvous and nodes.
pub(crate) struct Lab {
    folder: PathBuf,
    programs: PathBuf,
    rendezvous: Option<Child>,
    homes: Vec<PathBuf>,
    disk: Option<PathBuf>,
}

impl Lab {
    /// Builds the programs and starts a rendezvous.
    pub(crate) fn new() -> Result<Self, String> {
        let folder = std::env::temp_dir().join(format!("pilot-churn-{}", std::process::id()));
        std::fs::create_dir_all(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
        let programs = build()?;
        let mut lab = Self { folder, programs, rendezvous: None, homes: Vec::new(), disk: None };
        lab.start_rendezvous()?;
        Ok(lab)
    }

    fn pilotctl(&self) -> PathBuf {
        self.programs.join("pilotctl")
    }

    fn start_rendezvous(&mut self) -> Result<(), String> {
        let home = self.folder.join("rendezvous");
        let known = self.endpoint();
        let listen = known.as_deref().and_then(|endpoint| endpoint.split_once('@')).map_or("127.0.0.1:0", |(_, at)| at);
        // The file tells when the new process is ready; a rendezvous that starts for the first time has none.
        let _ = std::fs::remove_file(home.join("endpoint"));
        let mut command = Command::new(self.pilotctl());
        command.args(["rendezvous", "run", "--listen", listen, "--home"]).arg(&home);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        self.rendezvous = Some(command.spawn().map_err(|e| format!("the rendezvous: {e}"))?);
        until("the rendezvous starts", || self.endpoint().is_some())
    }

    fn endpoint(&self) -> Option<String> {
        std::fs::read_to_string(self.folder.join("rendezvous/endpoint")).ok()
    }

    /// Kills the rendezvous and starts it again.
    pub(crate) fn restart_rendezvous(&mut self) -> Result<(), String> {
        self.kill_rendezvous();
        self.start_rendezvous()
    }

    fn kill_rendezvous(&mut self) {
        if let Some(mut child) = self.rendezvous.take() {
            // A process that has ended already is what is wanted.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    pub(crate) fn rendezvous_held(&self) -> Result<Held, String> {
        let child = self.rendezvous.as_ref().ok_or("the rendezvous does not run")?;
        held(child.id(), String::new())
    }

    pub(crate) fn node(&mut self, name: &str) -> Result<Daemon, String> {
        let home = self.folder.join(name);
        std::fs::create_dir_all(&home).map_err(|e| format!("{}: {e}", home.display()))?;
        self.homes.push(home.clone());
        let endpoint = self.endpoint().ok_or("the rendezvous has no endpoint")?;
        let daemon = Daemon { name: name.into(), home, endpoint, pilotctl: self.pilotctl() };
        daemon.start()?;
        Ok(daemon)
    }

    /// Starts a node on a disk of its own, where one can be mounted.
    pub(crate) fn node_on_small_disk(&mut self, name: &str) -> Result<Daemon, String> {
        let home = self.folder.join(name);
        std::fs::create_dir_all(&home).map_err(|e| format!("{}: {e}", home.display()))?;
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", DISK_LEN, "tmpfs"]).arg(&home).stderr(Stdio::null());
        if mount.status().is_ok_and(|status| status.success()) {
            self.disk = Some(home);
        }
        self.node(name)
    }

    pub(crate) const fn has_small_disk(&self) -> bool {
        self.disk.is_some()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for home in &self.homes {
            let _ = Command::new(self.pilotctl()).args(["daemon", "stop"]).env("PILOT_HOME", home).output();
        }
        self.kill_rendezvous();
        if let Some(disk) = &self.disk {
            let _ = Command::new("umount").arg(disk).status();
        }
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// Builds the programs in the profile of this one; returns their folder.
fn build() -> Result<PathBuf, String> {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["build", "--quiet", "--package", "pilotctl", "--bins"]);
    if !cfg!(debug_assertions) {
        cargo.arg("--release");
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().ok_or("the repository has no root")?;
    let status = cargo.current_dir(root).status().map_err(|e| format!("cargo: {e}"))?;
    let own = std::env::current_exe().map_err(|e| e.to_string())?;
    let folder = own.parent().map(Path::to_owned).ok_or("this program lies in no folder")?;
    if status.success() { Ok(folder) } else { Err("pilotctl cannot be built".into()) }
}

fn until(what: &str, mut done: impl FnMut() -> bool) -> Result<(), String> {
    let end = Instant::now() + PATIENCE;
    while !done() {
        if Instant::now() > end {
            return Err(format!("until {what}: {PATIENCE:?} have passed"));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// One node.
pub(crate) struct Daemon {
    pub(crate) name: String,
    home: PathBuf,
    endpoint: String,
    pilotctl: PathBuf,
}

impl Daemon {
    fn run(&self, words: &[&str]) -> Result<String, String> {
        let mut command = Command::new(&self.pilotctl);
        command.args(words).env("PILOT_HOME", &self.home).stdin(Stdio::null());
        for variable in ["PILOT_SOCKET", "PILOT_RENDEZVOUS", "PILOT_HOSTNAME"] {
            command.env_remove(variable);
        }
        let output = command.output().map_err(|e| format!("{}: {e}", self.pilotctl.display()))?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        Err(format!("{}: {words:?}: {}", self.name, String::from_utf8_lossy(&output.stderr).trim()))
    }

    pub(crate) fn start(&self) -> Result<(), String> {
        let words =
            ["daemon", "start", "--listen", "127.0.0.1:0", "--hostname", &self.name, "--rendezvous", &self.endpoint];
        self.run(&words).map(|_| ())
    }

    /// Starts the process, and gives the time until it has answered a client. The rendezvous may know it later.
    pub(crate) fn start_timed(&self) -> Result<Duration, String> {
        let begin = Instant::now();
        std::thread::scope(|scope| {
            let starts = scope.spawn(|| self.start());
            let serves = || self.with_client(|client| client.request(&Request::Version, &[], Some(PATIENCE))).is_ok();
            while !serves() && !starts.is_finished() {
                std::thread::sleep(Duration::from_millis(1));
            }
            let took = begin.elapsed();
            starts.join().unwrap_or_else(|_| Err("a starter panicked".into())).map(|()| took)
        })
    }

    /// Kills the process without warning, and waits until its home is free.
    pub(crate) fn kill(&self) -> Result<(), String> {
        let info = self.with_client(|client| client.ask::<Info>(&Request::Info, Some(PATIENCE)));
        let pid = info.map_err(|failure| format!("{}: {failure}", self.name))?.pid;
        let pid = Pid::from_raw(pid as i32).ok_or("no process")?;
        kill_process(pid, Signal::KILL).map_err(|e| format!("process {pid:?}: {e}"))?;
        until("the process is gone", || Home::open(&self.home).is_ok())
    }

    pub(crate) fn stop(&self) -> Result<(), String> {
        self.run(&["daemon", "stop"]).map(|_| ())
    }

    /// Lets both owners agree.
    pub(crate) fn befriend(&self, other: &Self) -> Result<(), String> {
        self.run(&["handshake", &other.name])?;
        until("the request is approved", || other.run(&["approve", &self.name]).is_ok())?;
        until("the approval arrives", || self.run(&["trust"]).is_ok_and(|trusted| trusted.contains(&other.name)))
    }

    pub(crate) fn with_client<T>(&self, act: impl FnOnce(&mut Client) -> Result<T, Failure>) -> Result<T, Failure> {
        act(&mut Client::connect(&self.home.join("pilot.sock"))?)
    }

    pub(crate) fn held(&self) -> Result<Held, String> {
        let info = self.with_client(|client| client.ask::<Info>(&Request::Info, Some(PATIENCE)));
        let info = info.map_err(|failure| format!("{}: {failure}", self.name))?;
        let tables =
            format!("{}/{}/{}/{}/{}", info.trusted, info.pending, info.connections, info.ports.len(), info.outbox);
        held(info.pid, tables)
    }

    /// Takes all the room that the disk has.
    pub(crate) fn fill_disk(&self) -> Result<(), String> {
        let file = std::fs::File::create(self.home.join("filler")).map_err(|e| e.to_string())?;
        let (block, mut writer) = (vec![0; 64 * 1024], file);
        // The write that fails is the purpose.
        while std::io::Write::write_all(&mut writer, &block).is_ok() {}
        Ok(())
    }

    pub(crate) fn free_disk(&self) -> Result<(), String> {
        std::fs::remove_file(self.home.join("filler")).map_err(|e| e.to_string())
    }
}
