//! `pilot-daemon`: the daemon alone, under the name that packagers expect.
#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    pilotctl::run_daemon(std::env::args_os().skip(1))
}
