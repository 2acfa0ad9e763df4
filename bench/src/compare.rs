//! `pilot-bench compare`: contestants side by side, in one run, on loopback and over a pair of virtual cards.
//!
//! Each round runs every contestant once, so that other load of the machine meets all of them; figures are medians of the
//! rounds. CPU time is user and system time of both processes while the clock runs.

use crate::contest::Outcome;
use crate::figures::Figures;
use argh::FromArgs;
use serde_json::Value;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

/// Contestants side by side: throughput, CPU time per byte, latency.
#[derive(FromArgs)]
#[argh(subcommand, name = "compare")]
pub(crate) struct Compare {
    /// JSON instead of a table
    #[argh(switch)]
    json: bool,
    /// rounds, of which the median counts (default 5)
    #[argh(option, default = "5")]
    pub(crate) rounds: usize,
    /// megabytes of each bulk transfer (default 1000)
    #[argh(option, default = "1000")]
    pub(crate) mb: u64,
    /// without quinn and iroh, which take minutes to build the first time
    #[argh(switch)]
    pub(crate) no_rivals: bool,
}

/// A network that contestants meet on.
struct Field {
    name: &'static str,
    /// Words before the command of the driver and of the server.
    prefixes: [Vec<String>; 2],
    bind: &'static str,
}

/// Name of a contestant, its subcommand, and its arguments.
type Contestant = (&'static str, &'static str, &'static [&'static str]);

const BULK: [Contestant; 8] = [
    ("udp-1400", "udp", &["--datagram", "1400"]),
    ("limit-1400", "limit", &["--datagram", "1400"]),
    ("tcp", "tcp", &[]),
    ("tls", "tls", &[]),
    ("quinn", "quinn", &[]),
    ("iroh", "iroh", &[]),
    ("pilot-1400", "pilot", &["--datagram", "1400"]),
    ("pilot", "pilot", &[]),
];
const PING: [Contestant; 6] = [
    ("udp", "udp", &[]),
    ("tcp", "tcp", &[]),
    ("tls", "tls", &[]),
    ("quinn", "quinn", &[]),
    ("iroh", "iroh", &[]),
    ("pilot", "pilot", &[]),
];
const STREAMS: [Contestant; 3] = [("quinn", "quinn", &[]), ("iroh", "iroh", &[]), ("pilot", "pilot", &[])];
const PINGS: u64 = 10_000;
const OPENS: u64 = 1000;
const EXCHANGES: u64 = 25;

impl Compare {
    /// Measures and prints the figures.
    ///
    /// # Errors
    /// When a contestant fails.
    pub(crate) fn run(&self) -> Outcome<()> {
        let figures = self.measure()?;
        if self.json {
            println!("{}", figures.json());
        } else {
            println!("{}", figures.markdown());
        }
        Ok(())
    }

    pub(crate) fn measure(&self) -> Outcome<Figures> {
        let mut figures = Figures::default();
        let rivals = self.rivals(&mut figures);
        let veths = Veths::new(&mut figures);
        let own = std::env::current_exe()?;
        let loopback = Field { name: "loopback", prefixes: Default::default(), bind: "127.0.0.1" };
        let pinned = vec!["taskset".to_owned(), "-c".into(), "0".into()];
        let one_core = Field { name: "one-core", prefixes: [pinned.clone(), pinned], bind: "127.0.0.1" };
        for round in 0..self.rounds {
            eprintln!("round {} of {}", round + 1, self.rounds);
            let mut run = |field: &Field, task: &'static str, contestants: &[Contestant], count: u64| -> Outcome<()> {
                for contestant in contestants {
                    let program = match contestant.1 {
                        "quinn" | "iroh" => match &rivals {
                            Some(rivals) => (rivals, None),
                            None => continue,
                        },
                        _ => (&own, Some("contest")),
                    };
                    meet(field, program, contestant, (task, count), &mut figures)
                        .map_err(|e| format!("{} at {task} on {}: {e}", contestant.0, field.name))?;
                }
                Ok(())
            };
            let bytes = self.mb * 1_000_000;
            run(&loopback, "bulk", &BULK, bytes)?;
            for field in veths.iter().flat_map(|veths| &veths.fields) {
                run(field, "bulk", &BULK, bytes)?;
            }
            run(&loopback, "ping", &PING, PINGS)?;
            run(&one_core, "ping", &PING, PINGS)?;
            run(&loopback, "open", &STREAMS, OPENS)?;
            run(&loopback, "exchange", &STREAMS, EXCHANGES)?;
        }
        crate::sizes::measure_apart(self.rounds, &mut figures)?;
        Ok(figures)
    }

    /// Builds the program of the rivals and returns its path; `None` when it is not built.
    fn rivals(&self, figures: &mut Figures) -> Option<PathBuf> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("rivals");
        let built = !self.no_rivals && {
            eprintln!("building quinn and iroh (minutes, the first time) …");
            let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
            let status = Command::new(cargo).args(["build", "--release", "--quiet"]).current_dir(&folder).status();
            status.is_ok_and(|status| status.success())
        };
        if !built {
            figures.skipped.push("quinn and iroh: not built".into());
        }
        built.then(|| folder.join("target/release/pilot-rivals"))
    }
}

/// Runs the server and the driver of one contestant for one task, and adds its figures.
fn meet(
    field: &Field,
    (program, subcommand): (&PathBuf, Option<&str>),
    (name, who, arguments): &Contestant,
    (task, count): (&'static str, u64),
    figures: &mut Figures,
) -> Outcome<()> {
    let start = |side: usize, arguments: &[&str]| -> Outcome<Side> {
        let prefix = &field.prefixes[side];
        let mut words = prefix.iter().map(Into::into).chain([program.clone().into_os_string()]);
        let mut command = Command::new(words.next().ok_or("nothing to run")?);
        command.args(words).args(subcommand).arg(who).args(arguments);
        Side::start(command)
    };
    let arguments_of = |side: &'static [&'static str]| side.iter().chain(*arguments).copied().collect::<Vec<_>>();
    let mut server = start(1, &[&arguments_of(&["serve"])[..], &["--bind", field.bind]].concat())?;
    let to = server.expect("ready")?;
    let count_text = count.to_string();
    let driven = [&arguments_of(&["drive"])[..], &["--to", &to, "--task", task, "--count", &count_text]].concat();
    let mut driver = start(0, &driven)?;
    driver.expect("begin")?;
    let before = driver.cpu_s()? + server.cpu_s()?;
    driver.say("go")?;
    let result: Value = serde_json::from_str(&driver.expect("end")?)?;
    let cpu = driver.cpu_s()? + server.cpu_s()? - before;
    let figure = |what: &str| format!("{}/{task}/{name}/{what}", field.name);
    if task == "bulk" {
        let seconds = result["seconds"].as_f64().ok_or("no time")?;
        figures.add(figure("throughput"), count as f64 / 1e6 / seconds, "MB/s");
        figures.add(figure("cpu"), cpu * 1e9 / count as f64, "ns/B");
    } else {
        for quantile in ["p50", "p99"] {
            let us = result[format!("{quantile}_us")].as_f64().ok_or("no quantile")?;
            figures.add(figure(quantile), us, "µs");
        }
        if (field.name, task) == ("loopback", "ping") {
            let points = result["curve"].as_array().into_iter().flatten();
            let curve = points.filter_map(|point| Some((point[0].as_f64()?, point[1].as_f64()?))).collect();
            figures.curves.insert((*name).to_owned(), curve);
        }
    }
    Ok(())
}

/// A process of a contest, which ends when its standard input does.
pub(crate) struct Side {
    child: Child,
    output: BufReader<ChildStdout>,
}

impl Side {
    pub(crate) fn start(mut command: Command) -> Outcome<Self> {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let output = BufReader::new(child.stdout.take().ok_or("no output")?);
        Ok(Self { child, output })
    }

    /// Returns the rest of the next line, which must begin with `word`.
    pub(crate) fn expect(&mut self, word: &str) -> Outcome<String> {
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        let rest = line.trim_end().strip_prefix(word).ok_or_else(|| format!("{line:?} instead of {word}"))?;
        Ok(rest.trim_start().to_owned())
    }

    pub(crate) fn say(&mut self, line: &str) -> Outcome<()> {
        Ok(writeln!(self.child.stdin.as_mut().ok_or("no input")?, "{line}")?)
    }

    /// Returns the user and system time so far, of all threads, ended ones too. Unit: seconds, which the kernel counts in
    /// steps of 1/100.
    fn cpu_s(&self) -> Outcome<f64> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        let fields = stat.rsplit_once(')').ok_or("a strange /proc/…/stat")?.1;
        let ticks: u64 = fields.split_whitespace().skip(11).take(2).filter_map(|f| f.parse::<u64>().ok()).sum();
        Ok(ticks as f64 / 100.0)
    }
}

impl Drop for Side {
    fn drop(&mut self) {
        self.child.stdin.take();
        // The error of a driver was reported before; a server that does not end by itself is killed.
        for _ in 0..100 {
            if self.child.try_wait().is_ok_and(|status| status.is_some()) {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Two pairs of namespaces, each joined by a pair of virtual cards with an MTU of 1500: one with the kernel's offloads, one
/// without, which cuts to the MTU as a plain card does.
struct Veths {
    names: Vec<String>,
    fields: Vec<Field>,
}

impl Veths {
    fn new(figures: &mut Figures) -> Option<Self> {
        let mut veths = Self { names: Vec::new(), fields: Vec::new() };
        let pairs = [("veth", true), ("veth-plain", false)];
        match pairs.into_iter().try_for_each(|(name, offloads)| veths.add(name, offloads)) {
            Ok(()) => Some(veths),
            Err(e) => {
                figures.skipped.push(format!("virtual cards (they need root, iproute2 and ethtool): {e}"));
                None
            }
        }
    }

    fn add(&mut self, name: &'static str, offloads: bool) -> Outcome<()> {
        let pair = ["a", "b"].map(|side| format!("pilot-{}-{name}-{side}", std::process::id()));
        for namespace in &pair {
            sh(&format!("ip netns add {namespace}"))?;
            self.names.push(namespace.clone());
        }
        let [a, b] = &pair;
        sh(&format!("ip link add card netns {a} type veth peer name card netns {b}"))?;
        for (namespace, number) in [(a, 1), (b, 2)] {
            sh(&format!("ip -n {namespace} addr add 10.77.0.{number}/24 dev card"))?;
            sh(&format!("ip -n {namespace} link set card up && ip -n {namespace} link set lo up"))?;
            if !offloads {
                let off = "tx off rx off tso off gso off gro off tx-udp-segmentation off";
                sh(&format!("ip netns exec {namespace} ethtool -K card {off}"))?;
            }
        }
        let enter = |namespace: &String| ["ip", "netns", "exec", namespace].map(str::to_owned).to_vec();
        self.fields.push(Field { name, prefixes: [enter(a), enter(b)], bind: "10.77.0.2" });
        Ok(())
    }
}

impl Drop for Veths {
    fn drop(&mut self) {
        // The cards go with their namespaces.
        self.names.iter().for_each(|name| drop(sh(&format!("ip netns del {name}"))));
    }
}

pub(crate) fn sh(line: &str) -> Outcome<()> {
    let output = Command::new("sh").args(["-c", line]).output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{line}: {}", String::from_utf8_lossy(&output.stderr).trim()).into())
}
