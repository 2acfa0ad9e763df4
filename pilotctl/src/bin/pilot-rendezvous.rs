//! `pilot-rendezvous`: `pilotctl rendezvous run` under the name that packagers expect.
#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    pilotctl::run(["rendezvous", "run"].map(String::from).into_iter().chain(std::env::args().skip(1)).collect())
}
