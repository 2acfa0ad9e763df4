//! Owns how outcomes are shown: a table, JSON, and the page `tests/RESULTS.md`.

use crate::measured::Measured;
use crate::page::Fault;
use serde_json::{Value, json};
use std::io;
use std::path::Path;
use std::process::Command;

/// One row that was run.
pub(crate) struct Outcome {
    pub(crate) fault: Fault,
    pub(crate) measured: Measured,
    pub(crate) seconds: f64,
}

/// The rows as JSON: `{fault, goal, result, ok}` and the row's name.
pub(crate) fn json(outcomes: &[Outcome]) -> Value {
    let row = |outcome: &Outcome| {
        json!({
            "name": outcome.fault.name, "fault": outcome.fault.fault, "goal": outcome.fault.goal,
            "result": outcome.measured.text, "ok": outcome.measured.is_ok,
            "seconds": (outcome.seconds * 10.0).round() / 10.0,
        })
    };
    outcomes.iter().map(row).collect()
}

/// The rows as a table in Markdown.
pub(crate) fn markdown(outcomes: &[Outcome]) -> String {
    let mut out = String::from("| name | fault | goal | result | ok |\n|---|---|---|---|---|\n");
    for Outcome { fault, measured, .. } in outcomes {
        let verdict = if measured.is_ok { "yes" } else { "**no**" };
        out += &format!("| {} | {} | {} | {} | {verdict} |\n", fault.name, fault.fault, fault.goal, measured.text);
    }
    out
}

/// Writes `tests/RESULTS.md`.
pub(crate) fn write(outcomes: &[Outcome]) -> io::Result<()> {
    let passed = outcomes.iter().filter(|outcome| outcome.measured.is_ok).count();
    let page = format!(
        "# Faults: results\n\nWritten by `cargo run --release -p pilot-tests --bin faults`; not by hand. The rows are those of \
         [docs/faults.md](../docs/faults.md). Commit {}, {passed} of {} rows hold.\n\n{}",
        commit(),
        outcomes.len(),
        markdown(outcomes),
    );
    std::fs::write(Path::new(env!("CARGO_MANIFEST_DIR")).join("RESULTS.md"), page)
}

fn commit() -> String {
    let output = Command::new("git").args(["rev-parse", "--short", "HEAD"]).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    text.ok().filter(|text| !text.is_empty()).unwrap_or_else(|| "unknown".into())
}
