//! Tasks that need more than cargo: installing, checking sizes against their budgets, and fuzzing.
//!
//! ```text
//! cargo run -p xtask -- install --prefix /usr/local      # also PREFIX and DESTDIR in the environment
//! cargo run -p xtask -- install --static                 # programs that run on every Linux of this kind of machine
//! cargo run -p xtask -- install --small                  # a quarter smaller; needs the component rust-src
//! cargo run -p xtask -- sizes                            # fails when something is larger than its budget
//! cargo run -p xtask -- programs curl                    # real clients across Pilot, in namespaces; needs root
//! cargo run -p xtask -- fuzz --seconds 600               # libFuzzer, every target; failures go into target/fuzz
//! ```

mod cargo;
mod fuzz;
mod install;
mod programs;
mod sizes;

use argh::FromArgs;
use std::process::ExitCode;

/// work on the project
#[derive(FromArgs)]
struct Arguments {
    #[argh(subcommand)]
    task: Task,
}

#[derive(FromArgs)]
#[argh(subcommand)]
enum Task {
    Fuzz(fuzz::Fuzz),
    Install(install::Install),
    Programs(programs::Programs),
    Sizes(sizes::Sizes),
}

fn main() -> ExitCode {
    let arguments: Arguments = argh::from_env();
    let outcome = match arguments.task {
        Task::Fuzz(task) => fuzz::run_targets(&task),
        Task::Install(task) => install::run(&task),
        Task::Programs(task) => programs::run_lab(&task),
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
