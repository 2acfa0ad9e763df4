//! Owns fuzzing with libFuzzer, built by the same compiler as everything else.

use crate::cargo::{Outcome, run, target};
use argh::FromArgs;
use std::process::Command;

/// Flags that give libFuzzer its view of a program: the edges that ran, and the operands of comparisons.
const COVERAGE: [&str; 8] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Cdebug-assertions",
    "-Coverflow-checks=yes",
    "-Ccodegen-units=1",
];

/// fuzz a target of the folder `fuzz` with libFuzzer; corpus and failures are kept beside what is built
#[derive(FromArgs)]
#[argh(subcommand, name = "fuzz")]
pub(crate) struct Fuzz {
    /// parsers, segments, session_open or filters
    #[argh(positional)]
    target: String,
    /// how long. Unit: seconds
    #[argh(option, default = "60")]
    seconds: u32,
}

pub(crate) fn run_target(task: &Fuzz) -> Outcome {
    let machine = if cfg!(target_arch = "aarch64") { "aarch64-unknown-linux-gnu" } else { "x86_64-unknown-linux-gnu" };
    let folder = target(None, "fuzz");
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--package", "pilot-fuzz", "--features", "libfuzzer", "--bin", &task.target, "--release"]);
    // With `--target` the flags reach the program only, and not build scripts and macros.
    cargo.args(["--config", "profile.release.lto=false", "--target", machine, "--target-dir"]).arg(&folder);
    // Coverage passes are not stable yet.
    cargo.env("RUSTC_BOOTSTRAP", "1").env("RUSTFLAGS", COVERAGE.join(" "));
    run(&mut cargo)?;

    let corpus = folder.join("corpus").join(&task.target);
    std::fs::create_dir_all(&corpus).map_err(|e| format!("{}: {e}", corpus.display()))?;
    let mut fuzzer = Command::new(folder.join(machine).join("release").join(&task.target));
    fuzzer.arg(&corpus).arg(format!("-max_total_time={}", task.seconds));
    fuzzer.arg(format!("-artifact_prefix={}/{}-", folder.display(), task.target));
    fuzzer.args(["-max_len=2400", "-len_control=0", "-timeout=20"]);
    run(&mut fuzzer)
}
