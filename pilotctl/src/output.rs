//! Owns the form of results and failures: one JSON object, or lines of text.

use crate::clean;
use pilot_node::{Code, Failure};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde_json::{Value, json};
use std::cell::OnceCell;
use std::io::{self, IsTerminal as _, Write as _};
use std::process::ExitCode;

/// Standard output takes no more.
pub(crate) struct Closed;

/// The way of everything that is shown. What other nodes wrote cannot act on a terminal: see [`clean`].
#[derive(Default)]
pub(crate) struct Output {
    pub(crate) json: bool,
    /// The first failure of standard output: something was not written.
    lost: OnceCell<Failure>,
}

impl Output {
    pub(crate) fn new(json: bool) -> Self {
        Self { json, lost: OnceCell::new() }
    }

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
            tell(&error.to_string());
        } else {
            tell(&format!("error: {}", clean::cell(&failure.message)));
            if let Some(bytes) = failure.acknowledged {
                tell(&format!("  acknowledged by the other node: {bytes} bytes"));
            }
            if !failure.hint.is_empty() {
                tell(&format!("  try: {}", clean::cell(&failure.hint)));
            }
        }
        ExitCode::from(failure.code.exit_status())
    }

    /// Ends a command with its exit status, unless something was not written.
    pub(crate) fn end(&self, status: ExitCode) -> ExitCode {
        self.lost.get().map_or(status, |lost| self.fail(lost))
    }

    /// Whether something that was to be shown was not.
    pub(crate) fn has_lost(&self) -> bool {
        self.lost.get().is_some()
    }

    /// Writes lines of data.
    pub(crate) fn line(&self, text: &str) {
        self.write(format!("{}\n", clean::lines(text)).as_bytes(), |_| true);
    }

    /// Writes one line of many; fails when standard output takes no more, and more lines would be in vain. A reader that has
    /// gone (`| head`) has its lines.
    pub(crate) fn next_line(&self, text: &str) -> Result<(), Closed> {
        let text = format!("{}\n", clean::lines(text));
        let is_loss = |e: &io::Error| e.kind() != io::ErrorKind::BrokenPipe;
        if self.write(text.as_bytes(), is_loss) { Ok(()) } else { Err(Closed) }
    }

    /// Writes the contents of a message or stream: as they are, but for a terminal.
    pub(crate) fn bytes(&self, bytes: &[u8]) {
        if io::stdout().is_terminal() {
            let text = clean::lines(&String::from_utf8_lossy(bytes));
            self.write(text.as_bytes(), |_| true);
        } else {
            self.write(bytes, |_| true);
        }
    }

    fn write(&self, bytes: &[u8], is_loss: impl Fn(&io::Error) -> bool) -> bool {
        let mut stdout = io::stdout().lock();
        let written = stdout.write_all(bytes).and_then(|()| stdout.flush());
        if let Err(e) = &written
            && is_loss(e)
        {
            // Only the first failure is told.
            let _ = self.lost.set(Failure::new(Code::Internal, format!("standard output: {e}")));
        }
        written.is_ok()
    }

    /// True when the reader of standard output has gone.
    pub(crate) fn is_closed(&self) -> bool {
        let stdout = io::stdout();
        let mut fds = [PollFd::new(&stdout, PollFlags::empty())];
        poll(&mut fds, Some(&Timespec::default())).is_ok()
            && fds[0].revents().intersects(PollFlags::ERR | PollFlags::HUP | PollFlags::NVAL)
    }

    /// Writes a remark, unless the output is JSON.
    pub(crate) fn note(&self, text: &str) {
        if !self.json {
            tell(text);
        }
    }
}

/// Writes to standard error, which may be closed.
pub(crate) fn tell(text: &str) {
    let _ = writeln!(io::stderr(), "{}", clean::lines(text));
}

/// Formats objects as `name  value` lines, and lists of objects as tables.
pub(crate) fn human(data: &Value) -> String {
    let Some(object) = data.as_object() else { return plain(data) };
    let mut out = Vec::new();
    let width = object.iter().filter(|(_, v)| !is_table(v)).map(|(k, _)| k.len()).max().unwrap_or(0);
    for (key, value) in object {
        if !is_table(value) && !value.is_null() {
            out.push(format!("{:width$}  {}", clean::cell(key), plain(value)));
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
        Value::String(text) => clean::cell(text),
        Value::Array(list) => list.iter().map(plain).collect::<Vec<_>>().join(" "),
        Value::Number(n) => n.as_f64().filter(|_| n.is_f64()).map_or_else(|| n.to_string(), |f| format!("{f:.3}")),
        other => other.to_string(),
    }
}

/// Columns of tables, in this order; long keys and details are for `--json`.
const COLUMNS: [&str; 47] = [
    "listen",
    "question",
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
    "of",
    "sender",
    "preview",
    "failed",
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
    "asked_at",
    "deadline_at",
    "reply_to",
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peers_text_makes_no_lines_of_its_own() {
        let note = "x\nverified  true\u{1b}[2J\u{202e}";
        let shown = human(&json!({"note": note, "pending": [{"hostname": "a", "justification": note}]}));
        assert_eq!(shown.lines().count(), 3, "{shown}");
        assert!(!shown.contains(clean::is_harmful), "{shown}");
    }
}
