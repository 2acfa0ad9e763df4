//! Owns what is said of the rows, as a table and as JSON.

use crate::rows::{Fault, Result};
use pilot_tests::netlab::Outcome;
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::time::Duration;

/// What one fault came to.
pub(crate) struct Row {
    fault: &'static Fault,
    result: Outcome<Result>,
}

impl Row {
    pub(crate) const fn new(fault: &'static Fault, result: Outcome<Result>) -> Self {
        Self { fault, result }
    }

    /// True when the goal was reached.
    pub(crate) fn is_ok(&self) -> bool {
        let Ok(Result { fared, direct }) = &self.result else { return false };
        let is_direct = self.fault.direct.is_none_or(|goal| direct.is_some_and(|took| took <= goal));
        is_direct && fared.lost == 0 && fared.end.is_none() && fared.longest_stall <= self.fault.stall
    }

    fn goal(&self) -> String {
        let direct = self.fault.direct.map_or(String::new(), |direct| format!(", direct ≤ {} ms", direct.as_millis()));
        format!("stall ≤ {} ms, lost 0{direct}", self.fault.stall.as_millis())
    }

    fn stall(&self) -> Option<Duration> {
        self.result.as_ref().ok().map(|result| result.fared.longest_stall)
    }

    fn direct(&self) -> Option<Duration> {
        self.result.as_ref().ok().and_then(|result| result.direct)
    }

    /// Why the row could not be measured, or its stream ended.
    fn reason(&self) -> &str {
        match &self.result {
            Ok(result) => result.fared.end.as_deref().unwrap_or_default(),
            Err(why) => why,
        }
    }
}

fn ms(time: Option<Duration>) -> Value {
    time.map_or(Value::Null, |time| json!(time.as_millis() as u64))
}

/// One row, for people.
pub(crate) fn line(row: &Row) -> String {
    let (stall, direct, lost) = (ms(row.stall()), ms(row.direct()), lost(row));
    let verdict = if row.is_ok() { "ok" } else { "NOT REACHED" };
    format!("{:24} stall {stall} ms, direct {direct} ms, lost {lost}, {verdict} {}", row.fault.name, row.reason())
}

fn lost(row: &Row) -> Value {
    row.result.as_ref().map_or(Value::Null, |result| json!(result.fared.lost))
}

/// All rows.
pub(crate) fn json(rows: &[Row]) -> Value {
    let row = |row: &Row| {
        json!({
            "fault": row.fault.name,
            "longest_stall_ms": ms(row.stall()),
            "direct_ms": ms(row.direct()),
            "lost": lost(row),
            "goal": row.goal(),
            "ok": row.is_ok(),
            "reason": row.reason(),
        })
    };
    Value::Array(rows.iter().map(row).collect())
}

/// All rows as a table.
pub(crate) fn table(rows: &[Row]) -> String {
    let mut text =
        String::from("| fault | longest stall | direct again | lost | goal | ok |\n|---|---|---|---|---|---|\n");
    for row in rows {
        let (stall, direct, lost) = (ms(row.stall()), ms(row.direct()), lost(row));
        let (name, goal, ok) = (row.fault.name, row.goal(), if row.is_ok() { "yes" } else { "no" });
        let _ = writeln!(text, "| {name} | {stall} ms | {direct} ms | {lost} | {goal} | {ok} |");
    }
    text
}
