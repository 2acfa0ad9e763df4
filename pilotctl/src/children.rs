//! Owns the programs that a command runs for peers: how they are found, what they know of their peer, and how they end.

use crate::signals::Signals;
use pilot_node::{Code, Failure};
use rustix::process::{Pid, Signal, kill_process_group};
use signal_hook::consts::SIGCHLD;
use std::ffi::OsStr;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

/// Time from the request to end until programs are ended. Own choice: a program may say goodbye to its peer.
const GRACE: Duration = Duration::from_secs(5);

/// The peer that a program runs for.
pub(crate) struct Peer<'a> {
    /// Its hostname, or empty.
    pub(crate) hostname: &'a str,
    pub(crate) address: &'a str,
    pub(crate) fingerprint: &'a str,
}

/// The program that the words of a command line name, if the system has it; `usage` is shown when there are no words.
pub(crate) fn find<'a>(words: &'a [String], usage: &str) -> Result<&'a str, Failure> {
    let missing = || Failure::new(Code::InvalidArgument, "--exec needs a program").hint(usage);
    let program = words.first().ok_or_else(missing)?;
    if !can_run(program, std::env::var_os("PATH").as_deref()) {
        return Err(
            Failure::new(Code::NotFound, format!("there is no program {program:?}")).hint("name it by its path")
        );
    }
    Ok(program)
}

/// Prepares a program, which finds its peer in its environment.
pub(crate) fn command(words: &[String], peer: &Peer<'_>) -> io::Result<Command> {
    let [program, words @ ..] = words else { return Err(io::ErrorKind::InvalidInput.into()) };
    let name = if peer.hostname.is_empty() { peer.address } else { peer.hostname };
    let mut command = Command::new(program);
    command
        .args(words)
        .envs([
            ("PILOT_PEER", name),
            ("PILOT_PEER_ADDRESS", peer.address),
            ("PILOT_PEER_FINGERPRINT", peer.fingerprint),
        ])
        // With a group of its own it gets the terminal's signals from this process only, and ends with its own children.
        .process_group(0);
    Ok(command)
}

/// Asks programs to end, and ends those that do not.
pub(crate) fn end(mut children: Vec<Child>, signals: &mut Signals) -> Result<(), Failure> {
    children.iter().for_each(|child| signal(child, Signal::TERM));
    let until = Instant::now() + GRACE;
    loop {
        // A child that cannot be waited for is gone.
        children.retain_mut(|child| matches!(child.try_wait(), Ok(None)));
        let left = until.saturating_duration_since(Instant::now());
        if children.is_empty() || left.is_zero() {
            break;
        }
        // A second request to end is not waited for.
        if signals.wait(None, Some(left))?.iter().any(|signal| *signal != SIGCHLD) {
            break;
        }
    }
    for child in &mut children {
        signal(child, Signal::KILL);
        // It was ended, so this does not wait long.
        let _ = child.wait();
    }
    Ok(())
}

/// Sends a signal to a program and its own children.
pub(crate) fn signal(child: &Child, signal: Signal) {
    // The group may have ended meanwhile.
    let _ = kill_process_group(Pid::from_child(child), signal);
}

/// Whether the system finds this program; `path`: the folders to look in, when its name has no `/`.
fn can_run(program: &str, path: Option<&OsStr>) -> bool {
    let is_program =
        |path: &Path| path.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0);
    if program.contains('/') {
        return is_program(Path::new(program));
    }
    path.is_some_and(|path| std::env::split_paths(path).any(|folder| is_program(&folder.join(program))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found_by_path_and_by_name() {
        let path = Some(OsStr::new("/nowhere:/bin"));
        assert!(can_run("/bin/sh", None) && can_run("sh", path));
        for missing in ["", "/bin", "/etc/passwd", "./sh", "no-such-program"] {
            assert!(!can_run(missing, path), "{missing:?}");
        }
        assert!(!can_run("sh", None));
    }
}
