//! Owns the calls of cargo: what is built, with which options, and the folder of the output.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Result of a task; the text of a failure is printed.
pub(crate) type Outcome<T = ()> = Result<T, String>;

/// Returns the workspace's folder.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."))
}

/// Returns the folder of cargo's output for a machine (`None`: the host, without `--target`) and a profile.
pub(crate) fn target(machine: Option<&str>, profile: &str) -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
    target.join(machine.unwrap_or_default()).join(if profile == "dev" { "debug" } else { profile })
}

/// Runs a program that must succeed.
pub(crate) fn run(command: &mut Command) -> Outcome {
    let status = command.current_dir(root()).status().map_err(|e| format!("{command:?}: {e}"))?;
    if status.success() { Ok(()) } else { Err(format!("{command:?} failed: {status}")) }
}

/// Programs that are installed.
pub(crate) const PROGRAMS: [&str; 3] = ["pilotctl", "pilot-daemon", "pilot-rendezvous"];

/// Options of a build.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Build<'a> {
    pub(crate) profile: &'a str,
    /// Uses the portable cipher, which needs no C compiler.
    pub(crate) portable: bool,
    /// Leaves out what devices can do without: the webhook, with its TLS. `small` does so too.
    pub(crate) lean: bool,
    /// Features beside the usual ones; empty for none.
    pub(crate) features: &'a str,
    /// Builds programs that need no library of the system, and no shared library.
    pub(crate) fixed: bool,
    /// Builds the standard library from its sources, for size and without backtraces.
    pub(crate) small: bool,
}

impl Build<'_> {
    /// Builds everything that is installed; returns the folder with it.
    pub(crate) fn run(self) -> Outcome<PathBuf> {
        self.run_for(&PROGRAMS, if self.fixed { &["staticlib"] } else { &["staticlib", "cdylib"] })
    }

    /// Builds programs and forms of the library. Each form is a build of its own, so that it is optimised as a whole.
    pub(crate) fn run_for(self, programs: &[&str], forms: &[&str]) -> Outcome<PathBuf> {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let machine = if self.fixed || self.small { Some(machine()?) } else { None };
        let base = |verb: &str, package: &str| {
            let mut command = Command::new(&cargo);
            command.args([verb, "--quiet", "--locked", "--profile", self.profile, "--package", package]);
            if self.portable {
                command.arg("--no-default-features");
            } else if self.lean || self.small {
                command.args(["--no-default-features", "--features", "ring,graviola"]);
            }
            if !self.features.is_empty() {
                command.args(["--features", self.features]);
            }
            if let Some(machine) = &machine {
                // The host is named too, so that RUSTFLAGS do not reach build scripts.
                command.args(["--target", machine]);
            }
            if self.fixed {
                command.env("RUSTFLAGS", "-C target-feature=+crt-static");
            }
            if self.small {
                // Both flags of cargo are unstable.
                command.args(["-Zbuild-std=std,panic_unwind", "-Zbuild-std-features=optimize_for_size"]);
                command.env("RUSTC_BOOTSTRAP", "1");
                // Panics name no place: a device has nowhere to tell it, and each place is 24 bytes and a name.
                command.env("RUSTFLAGS", "-Zlocation-detail=none");
            }
            command
        };
        run(base("build", "pilotctl").args(programs.iter().flat_map(|program| ["--bin", program])))?;
        for form in forms {
            run(base("rustc", "pilot-ffi").args(["--lib", "--crate-type", form]))?;
        }
        Ok(target(machine.as_deref(), self.profile))
    }
}

/// Returns the host's target triple.
fn machine() -> Outcome<String> {
    let output = Command::new("rustc").arg("-vV").output().map_err(|e| format!("rustc: {e}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).ok_or_else(|| "rustc does not say what machine this is".into())
}
