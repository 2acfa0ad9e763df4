//! The fault table: runs the rows of `docs/faults.md` and writes `tests/RESULTS.md`.
//!
//! ```text
//! cargo run --release -p pilot-tests --bin faults                      # everything
//! cargo run --release -p pilot-tests --bin faults -- --only loss,R13   # some rows; writes with `--write`
//! cargo run --release -p pilot-tests --bin faults -- --only churn --minutes 60
//! ```
#![forbid(unsafe_code)]

mod elsewhere;
mod measured;
mod page;
mod report;
mod rows;
mod scenarios;

use argh::FromArgs;
use measured::Measured;
use page::Fault;
use report::Outcome;
use rows::Proof;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::Instant;

/// run the rows of docs/faults.md
#[derive(FromArgs)]
struct Arguments {
    /// rows to run, separated by commas; all rows when absent
    #[argh(option)]
    only: Option<String>,
    /// write the page also when some rows run; the others keep their lines
    #[argh(switch)]
    write: bool,
    /// rows as JSON instead of a table
    #[argh(switch)]
    json: bool,
    /// length of the row `churn` (default: 1). Unit: minutes
    #[argh(option)]
    minutes: Option<f64>,
}

fn main() -> ExitCode {
    let arguments: Arguments = argh::from_env();
    let wanted: Option<Vec<&str>> = arguments.only.as_ref().map(|names| names.split(',').map(str::trim).collect());
    let faults = page::faults();
    if let Some(unknown) = wanted.iter().flatten().find(|name| !faults.iter().any(|fault| fault.name == **name)) {
        let names: Vec<&str> = faults.iter().map(|fault| fault.name).collect();
        eprintln!("error: there is no row {unknown}\nhint: the rows are {}", names.join(", "));
        return ExitCode::FAILURE;
    }
    let is_wanted = |fault: &&Fault| wanted.as_ref().is_none_or(|names| names.contains(&fault.name));
    let chosen: Vec<Fault> = faults.iter().filter(is_wanted).copied().collect();
    let outcomes = run(&chosen, arguments.minutes);
    if arguments.json {
        println!("{}", report::json(&outcomes));
    } else {
        print!("{}", report::markdown(&outcomes));
    }
    if (wanted.is_none() || arguments.write)
        && let Err(error) = report::write(&faults, &outcomes)
    {
        eprintln!("error: {error}");
        return ExitCode::FAILURE;
    }
    if outcomes.iter().all(|outcome| outcome.measured.is_ok) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Runs the tests elsewhere first, target by target, then each row.
fn run(faults: &[Fault], minutes: Option<f64>) -> Vec<Outcome> {
    let tests: Vec<_> = faults.iter().flat_map(|fault| rows::proofs(fault.name)).filter_map(Proof::test).collect();
    let verdicts = elsewhere::run(&tests);
    let measure = |fault: &Fault| {
        eprintln!("{} …", fault.name);
        let begin = Instant::now();
        let parts: Vec<Measured> = rows::proofs(fault.name)
            .iter()
            .map(|proof| match proof {
                Proof::Here(scenario) => guarded(*scenario),
                Proof::Churn => guarded(|| scenarios::churn::run(minutes)),
                Proof::Elsewhere(test) => verdicts.of(test),
            })
            .collect();
        let is_ok = !parts.is_empty() && parts.iter().all(|part| part.is_ok);
        let texts: Vec<String> = parts.into_iter().map(|part| part.text).collect();
        let text = if texts.is_empty() { "no proof yet".to_owned() } else { texts.join("; ") };
        Outcome { fault: *fault, measured: Measured::new(is_ok, text), seconds: begin.elapsed().as_secs_f64() }
    };
    faults.iter().map(measure).collect()
}

/// A scenario that panics has failed, and the panic's text is its result.
fn guarded(scenario: impl FnOnce() -> Measured) -> Measured {
    catch_unwind(AssertUnwindSafe(scenario)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Measured::new(false, text.unwrap_or_else(|| "panicked".to_owned()).replace(['\n', '|'], " "))
    })
}
