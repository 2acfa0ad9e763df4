//! `pilot-bench`: goodput of the link on simulated paths, and speed of the packet path beside other transports.
#![forbid(unsafe_code)]

mod clients;
mod compare;
mod contest;
mod figures;
mod link;
mod packets;
mod plot;
mod programs;
mod questions;
mod report;
mod sizes;

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
    Link(link::Link),
    Clients(clients::Clients),
    Compare(compare::Compare),
    Report(report::Report),
    Packets(packets::Packets),
    Programs(programs::Programs),
    Part(programs::Part),
    Questions(questions::Questions),
    Sizes(sizes::Sizes),
    Contest(contest::Contest),
}

fn main() -> contest::Outcome<()> {
    let arguments: Arguments = argh::from_env();
    match arguments.command {
        Command::Link(link) => link.run(),
        Command::Clients(clients) => clients.run(),
        Command::Compare(compare) => compare.run(),
        Command::Report(report) => report.run(),
        Command::Packets(packets) => packets.run(),
        Command::Programs(programs) => programs.run(),
        Command::Part(part) => part.run(),
        Command::Questions(questions) => questions.run(),
        Command::Sizes(sizes) => sizes.run(),
        Command::Contest(contest) => contest.run(),
    }
}
