//! Owns fuzzing with libFuzzer, built by the same compiler as everything else.

use crate::cargo::{Outcome, root, run, target};
use argh::FromArgs;
use std::path::Path;
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

/// fuzz the targets of the folder `fuzz` with libFuzzer, and show the executions; what is found is kept beside what is built
#[derive(FromArgs)]
#[argh(subcommand, name = "fuzz")]
pub(crate) struct Fuzz {
    /// targets (default: all of fuzz/fuzz_targets)
    #[argh(positional)]
    targets: Vec<String>,
    /// how long each. Unit: seconds
    #[argh(option, default = "60")]
    seconds: u32,
}

pub(crate) fn run_targets(task: &Fuzz) -> Outcome {
    let machine = if cfg!(target_arch = "aarch64") { "aarch64-unknown-linux-gnu" } else { "x86_64-unknown-linux-gnu" };
    let folder = target(None, "fuzz");
    let targets = if task.targets.is_empty() { all()? } else { task.targets.clone() };
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--package", "pilot-fuzz", "--features", "libfuzzer", "--release"]);
    cargo.args(targets.iter().flat_map(|target| ["--bin", target]));
    // With `--target` the flags reach the program only, and not build scripts and macros.
    cargo.args(["--config", "profile.release.lto=false", "--target", machine, "--target-dir"]).arg(&folder);
    // Coverage passes are not stable yet.
    cargo.env("RUSTC_BOOTSTRAP", "1").env("RUSTFLAGS", COVERAGE.join(" "));
    run(&mut cargo)?;
    let programs = folder.join(machine).join("release");
    let runs: Vec<Run> =
        targets.iter().map(|target| fuzz(target, &folder, &programs, task.seconds)).collect::<Result<_, _>>()?;
    println!("| target | executions | seconds | result |\n|---|---|---|---|");
    for run in &runs {
        println!("| {} | {} | {} | {} |", run.target, run.executions, task.seconds, run.verdict());
    }
    let failed: Vec<&str> = runs.iter().filter(|run| !run.is_clean).map(|run| &*run.target).collect();
    if failed.is_empty() { Ok(()) } else { Err(format!("found something: {}", failed.join(", "))) }
}

/// The outcome of one target.
struct Run {
    target: String,
    executions: String,
    is_clean: bool,
}

impl Run {
    const fn verdict(&self) -> &'static str {
        if self.is_clean { "clean" } else { "failed; the input lies in target/fuzz" }
    }
}

/// The names of all targets.
fn all() -> Outcome<Vec<String>> {
    let folder = root().join("fuzz/fuzz_targets");
    let entries = std::fs::read_dir(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    let names = entries.filter_map(|entry| entry.ok()?.path().file_stem()?.to_str().map(str::to_owned));
    let mut names: Vec<String> = names.collect();
    names.sort();
    Ok(names)
}

/// Runs one target on what earlier runs found and on the committed corpus.
fn fuzz(target: &str, folder: &Path, programs: &Path, seconds: u32) -> Outcome<Run> {
    let corpus = folder.join("corpus").join(target);
    std::fs::create_dir_all(&corpus).map_err(|e| format!("{}: {e}", corpus.display()))?;
    let log = folder.join(format!("{target}.log"));
    let file = std::fs::File::create(&log).map_err(|e| format!("{}: {e}", log.display()))?;
    let mut fuzzer = Command::new(programs.join(target));
    fuzzer.arg(&corpus).arg(root().join("fuzz/corpus").join(target)).arg(format!("-max_total_time={seconds}"));
    fuzzer.arg(format!("-artifact_prefix={}/{target}-", folder.display()));
    fuzzer.args(["-max_len=2400", "-len_control=0", "-timeout=60", "-print_final_stats=1"]);
    eprintln!("fuzzing {target} for {seconds} s; its output goes into {}", log.display());
    let status = fuzzer.stderr(file).status().map_err(|e| format!("{fuzzer:?}: {e}"))?;
    let text = std::fs::read_to_string(&log).unwrap_or_default();
    let executions = text.lines().find_map(|line| line.strip_prefix("stat::number_of_executed_units:"));
    let executions = executions.map_or("unknown", str::trim).to_owned();
    Ok(Run { target: target.into(), executions, is_clean: status.success() })
}
