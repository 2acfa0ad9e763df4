//! Owns the calls of cargo: what is built, with which options, and the folder of the output.

use std::ffi::OsString;
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
    /// Leaves out what devices can do without: the webhook, the rendezvous over TLS, and discovery. `small` does so too.
    pub(crate) lean: bool,
    /// Features beside the usual ones; empty for none.
    pub(crate) features: &'a str,
    /// Builds programs that need no library of the system, and no shared library.
    pub(crate) fixed: bool,
    /// Builds the standard library from its sources, for size and without backtraces; a panic ends the process.
    pub(crate) small: bool,
}

/// Profile of what is installed.
const DIST: &str = "dist";
/// What the compiler is told for [`DIST`]: the portable SHA-2 is made small, since processors with instructions for it do not use that
/// one, and signatures are checked without a second set of code for AVX2.
const SMALLER: [&str; 2] = ["--cfg=sha2_backend_soft=\"compact\"", "--cfg=curve25519_dalek_backend=\"serial\""];
/// Beside that, where panics unwind: with frame pointers the tables for it are a quarter smaller.
const UNWINDING: &str = "-Cforce-frame-pointers=yes";
/// Beside that, where the standard library is built along: unwinding from calls alone, which is all that panics need.
const ALONG: &str = "-Zuse-sync-unwind=yes";
/// Beside that, on [`LLD_MACHINE`]: the linker keeps one of several equal functions.
const FOLDING: [&str; 3] = ["-Zunstable-options", "-Clinker-features=+lld", "-Clink-arg=-Wl,--icf=all"];
/// The machine on which every compiler brings the linker lld along.
const LLD_MACHINE: &str = "x86_64-unknown-linux-gnu";
/// Beside [`SMALLER`], for `small`: a panic ends the process at once, without a text, so nothing is built that unwinds or names
/// places.
const SMALLEST: [&str; 4] =
    ["-Zlocation-detail=none", "-Zunstable-options", "-Cpanic=immediate-abort", "-Cforce-unwind-tables=no"];

impl Build<'_> {
    /// Builds everything that is installed; returns the folder with it.
    pub(crate) fn run(self) -> Outcome<PathBuf> {
        self.run_for(&PROGRAMS, if self.fixed { &["staticlib"] } else { &["staticlib", "cdylib"] })
    }

    /// Builds programs and forms of the library. Each form is a build of its own, so that it is optimised as a whole.
    pub(crate) fn run_for(self, programs: &[&str], forms: &[&str]) -> Outcome<PathBuf> {
        let cargo = cargo();
        let is_along = self.is_std_along()?;
        let machine = if self.fixed || is_along { Some(machine()?) } else { None };
        let flags = self.flags(is_along)?;
        let base = |verb: &str, package: &str| {
            let mut command = Command::new(&cargo);
            command.args([verb, "--quiet", "--locked", "--profile", self.profile, "--package", package]);
            if self.portable {
                command.args(["--no-default-features", "--features", "discovery"]);
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
            if is_along {
                command.args(self.std_args()).env("RUSTC_BOOTSTRAP", "1");
            }
            if !flags.is_empty() {
                command.env("CARGO_ENCODED_RUSTFLAGS", &flags);
            }
            command
        };
        run(base("build", "pilotctl").args(programs.iter().flat_map(|program| ["--bin", program])))?;
        for form in forms {
            run(base("rustc", "pilot-ffi").args(["--lib", "--crate-type", form]))?;
        }
        Ok(target(machine.as_deref(), self.profile))
    }

    /// Tells whether the standard library is built along. That is so for `small`, and for everything that is installed where its
    /// sources and what they need are at hand: the compiler's own one brings what reads backtraces, which tells nothing in files
    /// without symbols and is a tenth of libpilot.
    pub(crate) fn is_std_along(self) -> Outcome<bool> {
        if self.small || self.profile != DIST || self.fixed {
            return Ok(self.small);
        }
        let mut fetch = Command::new(cargo());
        fetch.args(["fetch", "--quiet", "--locked", "--target", &machine()?]).args(self.std_args());
        let output = fetch.env("RUSTC_BOOTSTRAP", "1").current_dir(root()).output();
        Ok(output.map_err(|e| format!("{fetch:?}: {e}"))?.status.success())
    }

    /// Returns the arguments with which cargo builds the standard library; both are unstable.
    fn std_args(self) -> [&'static str; 2] {
        match self.small {
            true => ["-Zbuild-std=std,panic_abort", "-Zbuild-std-features=optimize_for_size"],
            false => ["-Zbuild-std=std,panic_unwind", "-Zbuild-std-features=panic-unwind,optimize_for_size"],
        }
    }

    /// Returns the compiler's flags, those of the environment first, in the form of `CARGO_ENCODED_RUSTFLAGS`.
    fn flags(self, is_along: bool) -> Outcome<String> {
        let given = std::env::var("RUSTFLAGS").unwrap_or_default();
        let mut flags: Vec<String> = given.split_whitespace().map(str::to_owned).collect();
        if self.fixed {
            flags.push("-Ctarget-feature=+crt-static".into());
        }
        if self.profile == DIST {
            flags.extend(SMALLER.map(str::to_owned));
            flags.extend(short_names()?);
        }
        if self.profile == DIST && !self.small {
            flags.push(UNWINDING.into());
        }
        if self.small {
            flags.extend(SMALLEST.map(str::to_owned));
        } else if is_along {
            flags.push(ALONG.into());
        }
        if is_along && machine()? == LLD_MACHINE {
            flags.extend(FOLDING.map(str::to_owned));
        }
        Ok(flags.join("\x1f"))
    }
}

/// Returns the program that builds.
fn cargo() -> OsString {
    std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

/// Returns flags by which panics name files without the folders of the machine that has built them.
fn short_names() -> Outcome<Vec<String>> {
    let home = |variable: &str| std::env::var_os(variable).map(PathBuf::from);
    let cargo = home("CARGO_HOME").or_else(|| Some(home("HOME")?.join(".cargo")));
    let registries = cargo.and_then(|cargo| std::fs::read_dir(cargo.join("registry/src")).ok());
    let mut folders: Vec<PathBuf> = registries.into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    folders.sort();
    folders.push(root().into());
    let library = Path::new(&answer(&["--print", "sysroot"])?).join("lib/rustlib/src/rust/library");
    let names = folders.into_iter().map(|folder| (folder, ".")).chain([(library, "std")]);
    Ok(names.map(|(folder, name)| format!("--remap-path-prefix={}={name}", folder.display())).collect())
}

/// Asks the compiler something.
fn answer(question: &[&str]) -> Outcome<String> {
    let output = Command::new("rustc").args(question).output().map_err(|e| format!("rustc: {e}"))?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Returns the host's target triple.
fn machine() -> Outcome<String> {
    let text = answer(&["-vV"])?;
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).ok_or_else(|| "rustc does not say what machine this is".into())
}
