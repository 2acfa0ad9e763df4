//! `pilotctl`: daemon, rendezvous and every command in one program.
#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    pilotctl::run(std::env::args().skip(1).collect())
}
