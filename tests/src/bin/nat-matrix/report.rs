//! Owns the rows of the matrix, as a table and as JSON.

use pilot_tests::netlab::router::Kind;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

/// Packets between the sides, beside the relay, that a pair may need: where every port is known or follows from others, and where
/// many are tried by chance. Source: `docs/paths.md`, "Times to reach".
const PACKETS_MAX: u64 = 60;
const PACKETS_BY_CHANCE_MAX: u64 = 2500;

/// What one ordered pair came to.
pub(crate) struct Row {
    pub(crate) kinds: [Kind; 2],
    /// From the start of `pilotctl connect` to the first byte that came back; `None` when the pair failed.
    pub(crate) first_byte: Option<Duration>,
    /// From the same start to the moment at which both sides said that they use a direct path.
    pub(crate) direct: Option<Duration>,
    /// UDP packets between the sides, beside the relay.
    pub(crate) packets: u64,
    /// The path of a pair that is relayed, or why it failed.
    pub(crate) reason: String,
}

impl Row {
    pub(crate) const fn failed(kinds: [Kind; 2], reason: String) -> Self {
        Self { kinds, first_byte: None, direct: None, packets: 0, reason }
    }

    const fn outcome(&self) -> &'static str {
        match (self.first_byte, self.direct) {
            (None, _) => "failed",
            (Some(_), Some(_)) => "direct",
            (Some(_), None) => "relay",
        }
    }

    fn expected(&self) -> &'static str {
        if self.kinds[0].meets(self.kinds[1]) { "direct" } else { "relay" }
    }

    /// True when a direct path is found by chance, if there is one.
    pub(crate) fn is_by_chance(&self) -> bool {
        self.kinds.iter().any(|kind| kind.is_random())
    }

    /// True when the outcome is the expected one, or better, with no more packets than it may need.
    pub(crate) fn is_ok(&self) -> bool {
        let packets_max = if self.is_by_chance() { PACKETS_BY_CHANCE_MAX } else { PACKETS_MAX };
        self.packets <= packets_max && (self.outcome() == "direct" || self.outcome() == self.expected())
    }
}

fn ms(time: Option<Duration>) -> Value {
    time.map_or(Value::Null, |time| json!(time.as_millis() as u64))
}

/// One row, for people.
pub(crate) fn line(row: &Row) -> String {
    let [a, b] = row.kinds;
    let verdict = if row.is_ok() { "ok" } else { "NOT AS EXPECTED" };
    let (outcome, first, direct) = (row.outcome(), ms(row.first_byte), ms(row.direct));
    format!(
        "{a:>8} : {b:8} {outcome:6} first byte {first} ms, direct {direct} ms, {} packets, {verdict} {}",
        row.packets, row.reason
    )
}

/// All rows.
pub(crate) fn json(rows: &[Row]) -> Value {
    let row = |row: &Row| {
        json!({
            "a": row.kinds[0].to_string(),
            "b": row.kinds[1].to_string(),
            "outcome": row.outcome(),
            "expected": row.expected(),
            "ok": row.is_ok(),
            "first_byte_ms": ms(row.first_byte),
            "direct_ms": ms(row.direct),
            "packets": row.packets,
            "reason": row.reason,
        })
    };
    Value::Array(rows.iter().map(row).collect())
}

/// All rows as a table, and what they come to.
pub(crate) fn table(rows: &[Row]) -> String {
    let mut text = String::from(
        "| a | b | outcome | expected | first byte | direct | packets | ok |\n|---|---|---|---|---|---|---|---|\n",
    );
    let mut counts = BTreeMap::new();
    for row in rows {
        *counts.entry(row.outcome()).or_insert(0) += 1;
        let ([a, b], ok) = (row.kinds, if row.is_ok() { "yes" } else { "no" });
        let (outcome, expected, packets) = (row.outcome(), row.expected(), row.packets);
        let (first, direct) = (ms(row.first_byte), ms(row.direct));
        let _ = writeln!(text, "| {a} | {b} | {outcome} | {expected} | {first} ms | {direct} ms | {packets} | {ok} |");
    }
    let counts: Vec<String> = counts.iter().map(|(outcome, count)| format!("{outcome} {count}")).collect();
    let median = |of: fn(&Row) -> Option<Duration>| {
        let mut times: Vec<Duration> = rows.iter().filter_map(of).collect();
        times.sort_unstable();
        times.get(times.len() / 2).map_or(0, Duration::as_millis)
    };
    let (first, direct) = (median(|row| row.first_byte), median(|row| row.direct));
    let _ = writeln!(text, "\n{}; median first byte {first} ms, direct {direct} ms", counts.join(", "));
    text
}
