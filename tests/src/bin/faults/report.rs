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

const HEAD: &str = "| name | fault | goal | result | ok |\n|---|---|---|---|---|\n";
/// How the line of a row that holds ends.
const HOLDS: &str = "| yes |";

fn line(Fault { name, fault, goal }: &Fault, result: &str, verdict: &str) -> String {
    format!("| {name} | {fault} | {goal} | {result} {verdict}\n")
}

impl Outcome {
    fn line(&self) -> String {
        line(&self.fault, &self.measured.text, if self.measured.is_ok { HOLDS } else { "| **no** |" })
    }
}

/// The rows as a table in Markdown.
pub(crate) fn markdown(outcomes: &[Outcome]) -> String {
    std::iter::once(HEAD.to_owned()).chain(outcomes.iter().map(Outcome::line)).collect()
}

/// Writes `tests/RESULTS.md`. Rows of `faults` that were not run keep the line that they have there.
pub(crate) fn write(faults: &[Fault], outcomes: &[Outcome]) -> io::Result<()> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("RESULTS.md");
    let before = std::fs::read_to_string(&path).unwrap_or_default();
    std::fs::write(path, page(&before, faults, outcomes))
}

fn page(before: &str, faults: &[Fault], outcomes: &[Outcome]) -> String {
    let own = |fault: &Fault| outcomes.iter().find(|outcome| outcome.fault.name == fault.name).map(Outcome::line);
    let old = |fault: &Fault| {
        let begin = format!("| {} | {} | {} |", fault.name, fault.fault, fault.goal);
        before.lines().find(|line| line.starts_with(&begin)).map(|line| format!("{line}\n"))
    };
    let none = |fault: &Fault| line(fault, "not run", "| **no** |");
    let lines: Vec<String> =
        faults.iter().map(|fault| own(fault).or_else(|| old(fault)).unwrap_or_else(|| none(fault))).collect();
    let holding = lines.iter().filter(|line| line.trim_end().ends_with(HOLDS)).count();
    let build = if cfg!(debug_assertions) { "debug" } else { "release" };
    format!(
        "# Faults: results\n\nWritten by `cargo run --release -p pilot-tests --bin faults`; not by hand. The rows are those of \
         [docs/faults.md](../docs/faults.md). {holding} of {} hold. The newest run had {} rows, of commit {}, in the {build} \
         build.\n\n{HEAD}{}",
        lines.len(),
        outcomes.len(),
        commit(),
        lines.concat(),
    )
}

fn commit() -> String {
    let output = Command::new("git").args(["rev-parse", "--short", "HEAD"]).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    text.ok().filter(|text| !text.is_empty()).unwrap_or_else(|| "unknown".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_that_were_not_run_keep_their_line() {
        let fault = |name| Fault { name, fault: "f", goal: "g" };
        let faults = [fault("a"), fault("b"), fault("c")];
        let outcome = |name, is_ok| Outcome { fault: fault(name), measured: Measured::new(is_ok, "r"), seconds: 1.0 };
        let first = page("", &faults, &[outcome("a", true), outcome("b", true)]);
        assert!(first.contains("2 of 3 hold") && first.contains("| c | f | g | not run | **no** |"), "{first}");
        let second = page(&first, &faults, &[outcome("b", false)]);
        assert!(second.contains("1 of 3 hold") && second.contains("| a | f | g | r | yes |"), "{second}");
        assert_eq!(json(&[outcome("b", false)])[0]["ok"], false);
    }
}
