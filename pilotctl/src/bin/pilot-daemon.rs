//! `pilot-daemon`: `pilotctl daemon run` under the name that packagers expect.
#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    pilotctl::run(["daemon", "run"].map(String::from).into_iter().chain(std::env::args().skip(1)).collect())
}
