//! Owns the form of results and failures: one JSON object, or lines of text.

use pilot_node::Failure;
use serde_json::{Value, json};
use std::io::Write as _;
use std::process::ExitCode;

/// Standard output takes no more.
pub(crate) struct Closed;

pub(crate) struct Output {
    pub(crate) json: bool,
}

impl Output {
    /// Shows a result.
    pub(crate) fn ok(&self, data: &Value) {
        if self.json {
            self.line(&json!({"status": "ok", "data": data}).to_string());
        } else {
            self.line(&human(data));
        }
    }

    /// Shows a failure and returns its exit status.
    pub(crate) fn fail(&self, failure: &Failure) -> ExitCode {
        if self.json {
            let mut error = json!({"status": "error", "code": failure.code.name(), "message": failure.message, "hint": failure.hint});
            if let Some(bytes) = failure.acknowledged {
                error["acknowledged"] = bytes.into();
            }
            eprintln!("{error}");
        } else {
            eprintln!("error: {}", failure.message);
            if let Some(bytes) = failure.acknowledged {
                eprintln!("  acknowledged by the other node: {bytes} bytes");
            }
            if !failure.hint.is_empty() {
                eprintln!("  try: {}", failure.hint);
            }
        }
        ExitCode::from(failure.code.exit_status())
    }

    /// Writes one line of data.
    pub(crate) fn line(&self, text: &str) {
        // A closed standard output (`| head`) is no failure.
        let _ = self.next_line(text);
    }

    /// Writes one line of many; fails when standard output is closed, and more lines would be in vain.
    pub(crate) fn next_line(&self, text: &str) -> Result<(), Closed> {
        writeln!(std::io::stdout(), "{text}").map_err(|_| Closed)
    }

    /// Writes a remark, unless the output is JSON.
    pub(crate) fn note(&self, text: &str) {
        if !self.json {
            eprintln!("{text}");
        }
    }
}

/// Formats objects as `name  value` lines, and lists of objects as tables.
pub(crate) fn human(data: &Value) -> String {
    let Some(object) = data.as_object() else { return plain(data) };
    let mut out = Vec::new();
    let width = object.iter().filter(|(_, v)| !is_table(v)).map(|(k, _)| k.len()).max().unwrap_or(0);
    for (key, value) in object {
        if !is_table(value) && !value.is_null() {
            out.push(format!("{key:width$}  {}", plain(value)));
        }
    }
    for value in object.values().filter(|v| is_table(v)) {
        out.extend(table(value));
    }
    out.join("\n")
}

fn is_table(value: &Value) -> bool {
    value.as_array().is_some_and(|rows| rows.first().is_some_and(Value::is_object))
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(list) => list.iter().map(plain).collect::<Vec<_>>().join(" "),
        Value::Number(n) => n.as_f64().filter(|_| n.is_f64()).map_or_else(|| n.to_string(), |f| format!("{f:.3}")),
        other => other.to_string(),
    }
}

/// Columns of tables, in this order; long keys and details are for `--json`.
const COLUMNS: [&str; 40] = [
    "listen",
    "node",
    "port",
    "target",
    "id",
    "seq",
    "name",
    "hostname",
    "address",
    "from",
    "type",
    "bytes",
    "preview",
    "fingerprint",
    "justification",
    "warning",
    "asks_for",
    "granted",
    "granted_to_us",
    "ports",
    "expires_at",
    "verified",
    "path",
    "srtt_ms",
    "encrypted",
    "rtt_ms",
    "dial_ms",
    "local_port",
    "remote_addr",
    "remote_port",
    "state",
    "reason",
    "waited_s",
    "given_up_at",
    "data",
    "received_at",
    "temporary",
    "connections",
    "error",
    "last_error",
];

fn table(rows: &Value) -> Vec<String> {
    let rows: Vec<&Value> = rows.as_array().into_iter().flatten().collect();
    let has = |column: &str| rows.iter().any(|row| !row[column].is_null());
    // Ports by name need no column with their numbers.
    let columns: Vec<&str> = COLUMNS.into_iter().filter(|c| has(c) && !(*c == "ports" && has("granted"))).collect();
    let cells: Vec<Vec<String>> =
        rows.iter().map(|r| columns.iter().map(|c| plain(&r[*c]).replace("null", "-")).collect()).collect();
    let width = |i: usize| cells.iter().map(|r| r[i].chars().count()).chain([columns[i].len()]).max().unwrap_or(0);
    let line = |row: Vec<&str>| {
        let cells = row.iter().enumerate().map(|(i, cell)| format!("{cell:<w$}", w = width(i)));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    let head = line(columns.clone());
    std::iter::once(head).chain(cells.iter().map(|row| line(row.iter().map(String::as_str).collect()))).collect()
}
