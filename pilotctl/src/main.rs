//! `pilotctl`: daemon, rendezvous and every command in one program.
#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    pilotctl::run(std::env::args_os().skip(1))
}
