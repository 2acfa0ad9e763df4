//! Work on the project that needs more than cargo: installing it, and checking that it stays small.
//!
//! ```text
//! cargo run -p xtask -- install --prefix /usr/local      # also PREFIX and DESTDIR in the environment
//! cargo run -p xtask -- sizes                            # fails when something is larger than its budget
//! ```

mod install;
mod sizes;

use argh::FromArgs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// work on the project
#[derive(FromArgs)]
struct Arguments {
    #[argh(subcommand)]
    task: Task,
}

#[derive(FromArgs)]
#[argh(subcommand)]
enum Task {
    Install(install::Install),
    Sizes(sizes::Sizes),
}

type Outcome<T = ()> = Result<T, String>;

fn main() -> ExitCode {
    let arguments: Arguments = argh::from_env();
    let outcome = match arguments.task {
        Task::Install(task) => install::run(&task),
        Task::Sizes(task) => sizes::run(&task),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(text) => {
            eprintln!("error: {text}");
            ExitCode::FAILURE
        }
    }
}

/// The workspace's folder.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."))
}

/// Where cargo puts what it builds with a profile.
fn target(profile: &str) -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
    target.join(if profile == "dev" { "debug" } else { profile })
}

/// Runs a program that must succeed.
fn run(command: &mut Command) -> Outcome {
    let status = command.current_dir(root()).status().map_err(|e| format!("{command:?}: {e}"))?;
    if status.success() { Ok(()) } else { Err(format!("{command:?} failed: {status}")) }
}

/// Builds everything that is installed. The library is built once for each of its forms, since only so it is optimised as
/// a whole.
fn build(profile: &str, portable: bool) -> Outcome {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let base = |verb: &str, package: &str| {
        let mut command = Command::new(&cargo);
        command.args([verb, "--quiet", "--locked", "--profile", profile, "--package", package]);
        if portable {
            command.arg("--no-default-features");
        }
        command
    };
    run(&mut base("build", "pilotctl"))?;
    for kind in ["staticlib", "cdylib"] {
        run(base("rustc", "pilot-ffi").args(["--lib", "--crate-type", kind]))?;
    }
    Ok(())
}
