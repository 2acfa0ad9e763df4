//! Real daemons on the hosts of a laboratory, driven by `pilotctl`.

use super::{BESIDE, Lab, Outcome, RENDEZVOUS, Side, proxy};
use serde_json::Value;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// Where it serves those without UDP.
const TLS: &str = "203.0.113.10:443";
/// Ports of the spare relay and of the HTTPS proxy, which serve beside the rendezvous.
const SPARE_PORT: u16 = 9000;
const PROXY_PORT: u16 = 3128;
/// Longest time for what takes moments on a quiet machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// The program that lies beside this one, unless the environment names another by `PILOTCTL`.
///
/// # Errors
/// When there is none.
pub fn pilotctl() -> Outcome<PathBuf> {
    let beside = || Some(std::env::current_exe().ok()?.parent()?.join("pilotctl"));
    let program = std::env::var_os("PILOTCTL").map(PathBuf::from).or_else(beside).unwrap_or_default();
    let hint = "build it (`cargo build --release -p pilotctl`), or name it by PILOTCTL";
    program.exists().then_some(program).ok_or(format!("there is no pilotctl beside this program; {hint}"))
}

/// A rendezvous and the daemons of both sides, which trust each other.
pub struct Daemons<'a> {
    lab: &'a Lab,
    program: PathBuf,
    folder: PathBuf,
    rendezvous: Option<Child>,
    endpoint: String,
    /// The relay beside the rendezvous, and its key and address.
    spare: Option<(Child, String)>,
    proxy: Option<Child>,
}

impl<'a> Daemons<'a> {
    /// Starts the rendezvous and both daemons.
    ///
    /// # Errors
    /// When one of them does not come up.
    pub fn start(lab: &'a Lab) -> Outcome<Self> {
        let folder = std::env::temp_dir().join(lab.namespace("daemons"));
        std::fs::create_dir_all(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
        let (program, endpoint) = (pilotctl()?, String::new());
        let mut daemons = Self { lab, program, folder, rendezvous: None, endpoint, spare: None, proxy: None };
        daemons.start_rendezvous()?;
        for side in Side::BOTH {
            daemons.start_daemon(side)?;
        }
        Ok(daemons)
    }

    /// Starts a side's daemon, again where it was stopped.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn start_daemon(&self, side: Side) -> Outcome<()> {
        let words = ["daemon", "start", "--hostname", side.host(), "--rendezvous", &self.endpoint];
        let relay = self.spare.iter().flat_map(|(_, endpoint)| ["--relay", endpoint]);
        let url = format!("http://{BESIDE}:{PROXY_PORT}");
        let mut words: Vec<&str> = words.into_iter().chain(relay).collect();
        if self.proxy.is_some() {
            words.extend(["--https-proxy", &url]);
        }
        self.ask(side, &words).map(|_| ())
    }

    /// Starts the rendezvous, again where it was stopped.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn start_rendezvous(&mut self) -> Outcome<()> {
        let (child, endpoint) = self.serve("rendezvous", &["--listen", RENDEZVOUS, "--tls-listen", TLS])?;
        (self.rendezvous, self.endpoint) = (Some(child), endpoint);
        Ok(())
    }

    /// Starts a relay beside the rendezvous, and both daemons anew, which use it as well from then on.
    ///
    /// # Errors
    /// When one of them does not come up.
    pub fn add_spare(&mut self) -> Outcome<()> {
        self.spare = Some(self.serve("spare", &["--listen", &format!("{BESIDE}:{SPARE_PORT}")])?);
        for side in Side::BOTH {
            self.ask(side, &["daemon", "stop"])?;
            self.start_daemon(side)?;
        }
        Ok(())
    }

    /// Starts an HTTPS proxy beside the rendezvous; daemons that are started from then on know it.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn add_proxy(&mut self) -> Outcome<()> {
        let program = std::env::current_exe().map_err(|e| e.to_string())?;
        let words =
            [&*program.to_string_lossy(), proxy::ARGUMENT, &format!("{BESIDE}:{PROXY_PORT}")].map(str::to_owned);
        let mut command = self.lab.command("pub", &words.each_ref().map(String::as_str));
        self.proxy = Some(command.stdin(Stdio::null()).spawn().map_err(|e| format!("the proxy: {e}"))?);
        Ok(())
    }

    /// Starts a rendezvous with a folder of its own; gives its process, and its key and address.
    fn serve(&self, name: &str, listen: &[&str]) -> Outcome<(Child, String)> {
        let home = self.folder.join(name);
        let file = home.join("endpoint");
        let _ = std::fs::remove_file(&file);
        let home = home.to_string_lossy();
        let words = [&["rendezvous", "run", "--home", &home][..], listen].concat();
        let quiet = self.command("pub", &words).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let mut child = quiet.map_err(|e| format!("{name}: {e}"))?;
        let written = || Ok(std::fs::read_to_string(&file).ok().filter(|text| text.contains('@')));
        match until(&format!("{name} serves"), written) {
            Ok(endpoint) => Ok((child, endpoint.trim().to_owned())),
            Err(why) => {
                end(&mut child);
                Err(why)
            }
        }
    }

    /// Kills the rendezvous.
    pub fn kill_rendezvous(&mut self) {
        self.rendezvous.take().iter_mut().for_each(end);
    }

    /// Has both owners approve each other.
    ///
    /// # Errors
    /// When the approval does not arrive.
    pub fn befriend(&self) -> Outcome<()> {
        until("side b is registered", || Ok(self.ask(Side::A, &["handshake", "b", "--ports", "all"]).ok()))?;
        until("the request arrives", || Ok(self.ask(Side::B, &["approve", "a", "--ports", "all"]).ok()))?;
        until("the approval arrives", || self.peer(Side::A))?;
        Ok(())
    }

    fn command(&self, host: &str, words: &[&str]) -> Command {
        let program = self.program.to_string_lossy();
        let mut command = self.lab.command(host, &[&[&*program], words].concat());
        command.env("PILOT_HOME", self.folder.join(host));
        for variable in ["PILOT_SOCKET", "PILOT_RENDEZVOUS", "PILOT_HOSTNAME"] {
            command.env_remove(variable);
        }
        command
    }

    /// Runs `pilotctl` on a side; gives what it writes.
    ///
    /// # Errors
    /// When it fails, with what it says.
    pub fn ask(&self, side: Side, words: &[&str]) -> Outcome<String> {
        let output = self.command(side.host(), words).stdin(Stdio::null()).output().map_err(|e| e.to_string())?;
        let said = String::from_utf8_lossy(if output.status.success() { &output.stdout } else { &output.stderr });
        let said = said.trim().to_owned();
        if output.status.success() { Ok(said) } else { Err(format!("{words:?}: {said}")) }
    }

    /// What a side's daemon says of the other side.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn peer(&self, side: Side) -> Outcome<Option<Value>> {
        let said = self.ask(side, &["peers", "--json"])?;
        let value: Value = serde_json::from_str(&said).map_err(|e| format!("{said}: {e}"))?;
        Ok(value["data"]["peers"].get(0).cloned())
    }

    /// What carries the datagrams of a side to the rendezvous: `udp` or `tls`.
    ///
    /// # Errors
    /// When the daemon does not answer.
    pub fn carrier(&self, side: Side) -> Outcome<String> {
        let said = self.ask(side, &["info", "--json"])?;
        let value: Value = serde_json::from_str(&said).map_err(|e| format!("{said}: {e}"))?;
        Ok(value["data"]["rendezvous_link"]["carrier"].as_str().unwrap_or_default().to_owned())
    }

    /// Why a side does not reach the other one directly, as its daemon says.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn why_not_direct(&self, side: Side) -> Outcome<String> {
        let other = Side::BOTH[1 - side as usize].host();
        let said = self.ask(side, &["path", other, "--json"])?;
        let value: Value = serde_json::from_str(&said).map_err(|e| format!("{said}: {e}"))?;
        let of = |name: &str| value["data"][name].as_str().unwrap_or_default().to_owned();
        Ok(format!("{}: {}", of("not_direct"), of("not_direct_text")))
    }

    /// Opens a stream from side a to the echo service of side b.
    ///
    /// # Errors
    /// When `pilotctl` cannot be started.
    pub fn echo(&self) -> Outcome<Echo> {
        let mut command = self.command("a", &["connect", "b", "7"]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let child = child.as_mut().map_err(|e| format!("connect: {e}"))?;
        let (stdin, stdout) = (child.stdin.take().ok_or("no input")?, child.stdout.take());
        let stderr = child.stderr.take();
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in stdout.into_iter().flat_map(|stdout| BufReader::new(stdout).lines()) {
                if line.is_err() || sender.send((Instant::now(), line.unwrap_or_default())).is_err() {
                    return;
                }
            }
            let mut text = String::new();
            let _ = stderr.map(|mut stderr| stderr.read_to_string(&mut text));
            let _ = sender.send((Instant::now(), format!("{}{}", Lines::IN_ORDER, text.trim())));
        });
        Ok(Echo { sender: Sender(stdin), lines: Lines(lines) })
    }
}

impl Drop for Daemons<'_> {
    fn drop(&mut self) {
        for side in Side::BOTH {
            let _ = self.ask(side, &["daemon", "stop"]);
        }
        self.kill_rendezvous();
        self.spare.iter_mut().map(|(spare, _)| spare).chain(&mut self.proxy).for_each(end);
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// A stream to the echo service.
pub struct Echo {
    sender: Sender,
    lines: Lines,
}

/// Sends lines; the stream's direction ends when the value is dropped.
pub struct Sender(ChildStdin);

/// The lines that come back.
pub struct Lines(Receiver<(Instant, String)>);

impl Echo {
    /// Sends a line, and waits until it comes back; gives the time that took.
    ///
    /// # Errors
    /// When the stream has ended, or the line is another one, or none within half a minute.
    pub fn exchange(&mut self, line: &str) -> Outcome<Duration> {
        let begin = Instant::now();
        // A broken pipe is told with the reason that stands on the other one.
        let _ = self.sender.send(line);
        let (at, came) = self.lines.next(PATIENCE).ok_or(format!("nothing came back in {PATIENCE:?}"))?;
        if came == line { Ok(at - begin) } else { Err(format!("{line:?} came back as {came:?}")) }
    }

    /// Both directions apart, for two threads.
    pub fn split(self) -> (Sender, Lines) {
        (self.sender, self.lines)
    }
}

impl Sender {
    /// Sends a line.
    ///
    /// # Errors
    /// When the stream has ended.
    pub fn send(&mut self, line: &str) -> std::io::Result<()> {
        self.0.write_all(format!("{line}\n").as_bytes())
    }
}

impl Lines {
    /// What stands in place of a line when the stream has ended in order.
    pub const IN_ORDER: &'static str = "ended: ";

    /// The next line and when it came; `None` when none comes for so long.
    pub fn next(&self, patience: Duration) -> Option<(Instant, String)> {
        self.0.recv_timeout(patience).ok()
    }
}

/// Kills a process, unless it has ended.
fn end(child: &mut Child) {
    let _ = child.kill();
    let _ = child.wait();
}

/// Waits until `look` gives something.
fn until<T>(what: &str, mut look: impl FnMut() -> Outcome<Option<T>>) -> Outcome<T> {
    let begin = Instant::now();
    while begin.elapsed() < PATIENCE {
        if let Some(found) = look()? {
            return Ok(found);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Err(format!("{what}: not within {PATIENCE:?}"))
}
