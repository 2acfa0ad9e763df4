//! Owns the way to the real clients of `tests/programs`: builds the programs and lets Python run the laboratory.

use crate::cargo::{Outcome, root, run, target};
use argh::FromArgs;
use std::path::PathBuf;
use std::process::Command;

/// run programs of others (curl, nginx, gRPC, MCP, ssh …) across Pilot, behind two NATs; needs root. The environment may
/// name a pilotctl that is built already by PILOTCTL
#[derive(FromArgs)]
#[argh(subcommand, name = "programs")]
pub(crate) struct Programs {
    /// which clients (default: all); the files of tests/programs/clients
    #[argh(positional)]
    names: Vec<String>,
    /// print the rows as JSON at the end
    #[argh(switch)]
    json: bool,
    /// without Pilot and without namespaces: shows whether a failure is Pilot's
    #[argh(switch)]
    plain: bool,
    /// cargo's profile (default: dev)
    #[argh(option, default = "String::from(\"dev\")")]
    profile: String,
}

pub(crate) fn run_lab(task: &Programs) -> Outcome {
    let pilotctl = match std::env::var_os("PILOTCTL") {
        Some(made) => PathBuf::from(made),
        None => {
            let mut cargo = Command::new(env!("CARGO"));
            run(cargo.args(["build", "--quiet", "--package", "pilotctl", "--bins", "--profile", &task.profile]))?;
            target(None, &task.profile).join("pilotctl")
        }
    };
    let mut python = Command::new("python3");
    python.arg(root().join("tests/programs/run.py"));
    python.arg("--pilotctl").arg(pilotctl);
    python.args(task.json.then_some("--json")).args(task.plain.then_some("--plain")).args(&task.names);
    run(&mut python).map_err(|_| "a client has failed; its row is above".into())
}
