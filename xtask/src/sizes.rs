//! Owns the budgets for small devices (`docs/interfaces.md, "Small devices"`): sizes of the installed files, and memory,
//! threads and wake-ups of an idle daemon.

use crate::cargo::{Build, Outcome};
use argh::FromArgs;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Size of libpilot.so without TLS and discovery. Unit: bytes. Wanted: 1,900,000; what is above that stands in `docs/decisions.md`.
const LIBRARY_MAX: u64 = 2_462_000;
/// Size of libpilot.so as `install --small` builds it. Unit: bytes.
const SMALL_LIBRARY_MAX: u64 = 1_808_000;
/// Size of pilot-daemon without the webhook. Unit: bytes.
const DAEMON_MAX: u64 = 2_295_000;
/// Size of pilot-daemon as `install --small` builds it. Unit: bytes.
const SMALL_DAEMON_MAX: u64 = 1_681_000;
/// Size of pilot-daemon as it is usually built: with the webhook, which brings TLS. Unit: bytes. Why it is so large stands
/// in `docs/decisions.md`.
const WEBHOOK_DAEMON_MAX: u64 = 3_579_000;
/// What each of them, but the small ones, may be larger where the standard library cannot be built along: the compiler's own brings
/// what reads backtraces. Unit: bytes.
const PREBUILT_STD_MAX: u64 = 250_000;
/// Memory of an idle daemon in RAM. Unit: KiB (5 MB).
const IDLE_KIB_MAX: u64 = 5_000_000 / 1024;
/// Threads of a daemon: the loop, the disk's worker, and the main thread, which waits for signals.
const THREADS_MAX: u64 = 3;
/// Times that an idle daemon wakes up in [`IDLE_TIME`], for keepalives.
const WAKEUPS_MAX: u64 = 20;
/// Time of the measurement of an idle daemon.
const IDLE_TIME: Duration = Duration::from_secs(10);

/// measure what is installed against the budgets for small devices
#[derive(FromArgs)]
#[argh(subcommand, name = "sizes")]
pub(crate) struct Sizes {
    /// cargo's profile (default: dist)
    #[argh(option, default = "String::from(\"dist\")")]
    profile: String,
}

pub(crate) fn run(task: &Sizes) -> Outcome {
    let build = Build { profile: &task.profile, portable: false, lean: true, features: "", fixed: false, small: false };
    let built = build.run_for(&["pilot-daemon"], &["cdylib"])?;
    let size = |name: PathBuf| fs::metadata(&name).map(|m| m.len()).map_err(|e| format!("{}: {e}", name.display()));
    let idle = idle(&built.join("pilot-daemon"))?;
    let is_along = build.is_std_along()?;
    let more = if is_along { 0 } else { PREBUILT_STD_MAX };
    let mut rows = vec![
        ("libpilot.so, bytes", size(built.join("libpilot.so"))?, LIBRARY_MAX + more),
        ("pilot-daemon, bytes", size(built.join("pilot-daemon"))?, DAEMON_MAX + more),
        ("idle daemon in RAM, KiB", idle.kib, IDLE_KIB_MAX),
        ("idle daemon, threads", idle.threads, THREADS_MAX),
        ("idle daemon, wake-ups in 10 s", idle.wakeups, WAKEUPS_MAX),
    ];
    // This build takes the place of the one above, which is measured already.
    let usual = Build { lean: false, ..build }.run_for(&["pilot-daemon"], &[])?;
    rows.push(("pilot-daemon with webhook, bytes", size(usual.join("pilot-daemon"))?, WEBHOOK_DAEMON_MAX + more));
    if is_along {
        let built = Build { small: true, ..build }.run_for(&["pilot-daemon"], &["cdylib"])?;
        rows.push(("small libpilot.so, bytes", size(built.join("libpilot.so"))?, SMALL_LIBRARY_MAX));
        rows.push(("small pilot-daemon, bytes", size(built.join("pilot-daemon"))?, SMALL_DAEMON_MAX));
    } else {
        println!(
            "the small build is skipped: the standard library's sources are missing (rustup component add rust-src)"
        );
    }
    println!("{:32} {:>12} {:>12}", "", "is", "may be");
    let mut over = Vec::new();
    for (what, is, may) in rows {
        println!("{what:32} {is:>12} {may:>12}{}", if is > may { "  too much" } else { "" });
        if is > may {
            over.push(what);
        }
    }
    if over.is_empty() { Ok(()) } else { Err(format!("over budget: {}", over.join(", "))) }
}

struct Idle {
    kib: u64,
    threads: u64,
    wakeups: u64,
}

/// A running daemon and its folder; dropping the value ends both.
struct Running(Child, PathBuf);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
        let _ = fs::remove_dir_all(&self.1);
    }
}

fn idle(daemon: &Path) -> Outcome<Idle> {
    let home = std::env::temp_dir().join(format!("pilot-sizes-{}", std::process::id()));
    let failed = |e: std::io::Error| format!("{}: {e}", daemon.display());
    let mut command = Command::new(daemon);
    command.env("PILOT_HOME", &home).env("PILOT_SOCKET", home.join("pilot.sock")).stdin(Stdio::null());
    command.args(["--listen", "127.0.0.1:0"]);
    let running = Running(command.spawn().map_err(failed)?, home.clone());
    let end = Instant::now() + Duration::from_secs(10);
    while !home.join("pilot.sock").exists() {
        if Instant::now() >= end {
            return Err("the daemon does not start".into());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    std::thread::sleep(Duration::from_secs(2));
    let id = running.0.id();
    let before = wakeups(id)?;
    std::thread::sleep(IDLE_TIME);
    let status = status(&format!("/proc/{id}/status"))?;
    Ok(Idle { kib: field(&status, "VmRSS:")?, threads: field(&status, "Threads:")?, wakeups: wakeups(id)? - before })
}

fn status(path: &str) -> Outcome<String> {
    fs::read_to_string(path).map_err(|e| format!("{path}: {e}"))
}

fn field(status: &str, name: &str) -> Outcome<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|rest| rest.split_whitespace().next()?.parse().ok());
    number.ok_or_else(|| format!("/proc has no {name}"))
}

/// Counts how often the threads of a process have waited and then run again.
fn wakeups(id: u32) -> Outcome<u64> {
    let tasks = fs::read_dir(format!("/proc/{id}/task")).map_err(|e| e.to_string())?;
    let mut sum = 0;
    for task in tasks.flatten() {
        sum += field(&status(&task.path().join("status").display().to_string())?, "voluntary_ctxt_switches:")?;
    }
    Ok(sum)
}
