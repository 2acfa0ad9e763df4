//! `pilot-rendezvous`: `pilotctl rendezvous run` under the name that packagers expect.
#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    pilotctl::run(["rendezvous", "run"].map(Into::into).into_iter().chain(std::env::args_os().skip(1)))
}
