//! `pilot-bench`: what the link reaches on simulated paths, and how fast the packet path is beside others.
#![forbid(unsafe_code)]

mod contest;

use argh::FromArgs;

/// Measure.
#[derive(FromArgs)]
struct Arguments {
    #[argh(subcommand)]
    command: Command,
}

#[derive(FromArgs)]
#[argh(subcommand)]
enum Command {
    Contest(contest::Contest),
}

fn main() -> contest::Outcome<()> {
    let arguments: Arguments = argh::from_env();
    match arguments.command {
        Command::Contest(contest) => contest.run(),
    }
}
