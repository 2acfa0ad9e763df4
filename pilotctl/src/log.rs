//! Owns the command `log`: reads the daemon's log, chooses lines by level, and follows the file when it is opened anew.

use crate::args::Log;
use crate::daemon::log_path;
use crate::output::{Closed, Output};
use pilot_node::{Code, Failure, LogFile, LogLevel};
use serde_json::{Map, Value, json};
use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Pause between two looks at a log that is followed.
const PAUSE: Duration = Duration::from_millis(200);

/// Shows the log.
pub(crate) fn run(args: &Log, output: &Output) -> Result<(), Failure> {
    let path = args.log_file.clone().unwrap_or_else(log_path);
    let failed = |e: io::Error| {
        let code = if e.kind() == io::ErrorKind::NotFound { Code::NotFound } else { Code::Internal };
        Failure::new(code, format!("{}: {e}", path.display()))
            .hint("pilotctl daemon start; a daemon in the foreground logs to standard error")
    };
    let (mut tail, current) = Tail::open(&path).map_err(failed)?;
    let is_shown = |line: &String| level_of(line).is_none_or(|level| level <= args.level);
    let mut shown: VecDeque<String> = current.into_iter().filter(is_shown).collect();
    if shown.len() < args.lines
        && let Ok(before) = fs::read(LogFile::predecessor(&path))
    {
        let before: Vec<String> = String::from_utf8_lossy(&before).lines().map(str::to_owned).collect();
        before.into_iter().filter(is_shown).rev().for_each(|line| shown.push_front(line));
    }
    shown.drain(..shown.len().saturating_sub(args.lines));
    if !args.follow {
        shown.extend(tail.rest().filter(is_shown));
    }
    let mut lines = Vec::from(shown);
    loop {
        for line in lines {
            // The reader has gone (`| head`): that is no failure.
            if show(&line, output).is_err() {
                return Ok(());
            }
        }
        if !args.follow {
            return Ok(());
        }
        std::thread::sleep(PAUSE);
        if output.is_closed() {
            return Ok(());
        }
        lines = tail.read().map_err(failed)?;
        lines.retain(is_shown);
    }
}

fn show(line: &str, output: &Output) -> Result<(), Closed> {
    if !output.json {
        return output.next_line(line);
    }
    let object = parse(line).unwrap_or_else(|| Map::from_iter([("text".to_owned(), line.into())]));
    output.next_line(&json!(object).to_string())
}

/// The level of a line; `None` for one that is no record: the text of a panic, which is always shown.
fn level_of(line: &str) -> Option<LogLevel> {
    parse(line)?.get("level")?.as_str()?.parse().ok()
}

/// The fields of a record, from either form.
fn parse(line: &str) -> Option<Map<String, Value>> {
    if line.starts_with('{') {
        let object: Map<String, Value> = serde_json::from_str(line).ok()?;
        return ["time", "level", "kind"].iter().all(|key| object.contains_key(*key)).then_some(object);
    }
    let mut parts = line.splitn(4, ' ');
    let (time, level, kind) = (parts.next()?, parts.next()?, parts.next()?);
    level.parse::<LogLevel>().ok()?;
    let mut object = Map::new();
    for (key, value) in [("time", time), ("level", level), ("kind", kind)] {
        object.insert(key.into(), value.into());
    }
    let mut rest = parts.next().unwrap_or_default();
    while !rest.is_empty() {
        let (key, after) = rest.split_once('=')?;
        let (value, after) = take_value(after)?;
        object.insert(key.into(), value);
        rest = after;
    }
    Some(object)
}

/// One value, and what stands behind it and a space.
fn take_value(text: &str) -> Option<(Value, &str)> {
    if !text.starts_with('"') {
        let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
        let number = word.parse::<u64>().ok().filter(|number| number.to_string() == word);
        return Some((number.map_or_else(|| word.into(), Value::from), rest));
    }
    let mut values = serde_json::Deserializer::from_str(text).into_iter::<Value>();
    let value = values.next()?.ok()?;
    let rest = &text[values.byte_offset()..];
    Some((value, rest.strip_prefix(' ').unwrap_or(rest)))
}

/// The end of a growing file.
struct Tail {
    path: PathBuf,
    file: File,
    /// Bytes after the last complete line.
    partial: Vec<u8>,
}

impl Tail {
    /// Opens a file, and gives its complete lines.
    fn open(path: &Path) -> io::Result<(Self, Vec<String>)> {
        let mut tail = Self { path: path.into(), file: File::open(path)?, partial: Vec::new() };
        let lines = tail.read_file()?;
        Ok((tail, lines))
    }

    /// The complete lines that have come since, also when the path names another file now, or the file was emptied.
    fn read(&mut self) -> io::Result<Vec<String>> {
        let (named, ours) = (fs::metadata(&self.path), self.file.metadata()?);
        if ours.len() < self.file.stream_position()? {
            self.file.rewind()?;
        }
        let mut lines = self.read_file()?;
        // While no file has the name, another one is about to come.
        if named.is_ok_and(|named| (named.dev(), named.ino()) != (ours.dev(), ours.ino())) {
            lines.extend(self.rest());
            self.file = File::open(&self.path)?;
            lines.extend(self.read_file()?);
        }
        Ok(lines)
    }

    fn read_file(&mut self) -> io::Result<Vec<String>> {
        self.file.read_to_end(&mut self.partial)?;
        let end = self.partial.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let complete: Vec<u8> = self.partial.drain(..end).collect();
        Ok(String::from_utf8_lossy(&complete).lines().map(str::to_owned).collect())
    }

    /// The line that has no end.
    fn rest(&mut self) -> impl Iterator<Item = String> + use<> {
        let rest = std::mem::take(&mut self.partial);
        (!rest.is_empty()).then(|| String::from_utf8_lossy(&rest).into_owned()).into_iter()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use std::io::Write as _;

    #[test]
    fn both_forms_of_a_record_are_read() {
        let text =
            "2026-11-26T21:45:00.123Z warn refused peer=worker-node port=22 reason=\"not \\\"granted\\\"\" key=007";
        let object = parse(text).unwrap();
        let expected = json!({"time": "2026-11-26T21:45:00.123Z", "level": "warn", "kind": "refused", "peer": "worker-node",
            "port": 22, "reason": "not \"granted\"", "key": "007"});
        assert_eq!(Value::from(object), expected);
        assert_eq!(Value::from(parse(&expected.to_string()).unwrap()), expected);
        assert_eq!(level_of(text), Some(LogLevel::Warn));
        assert_eq!(parse("2026-11-26T21:45:00.123Z info stopped").unwrap()["kind"], "stopped");
    }

    #[test]
    fn other_lines_are_no_records() {
        for line in
            ["", "thread 'main' panicked at src/x.rs:1:2:", "{\"code\":\"conflict\"}", "a info b c", "a warn b c=\"d"]
        {
            assert_eq!(parse(line), None, "{line}");
        }
    }

    #[test]
    fn a_file_is_followed_when_it_grows_is_replaced_or_emptied() {
        let folder = std::env::temp_dir().join(format!("pilot-tail-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join("pilot.log");
        let append = |text: &str| {
            let mut file = fs::OpenOptions::new().append(true).create(true).open(&path).unwrap();
            file.write_all(text.as_bytes()).unwrap();
        };
        append("one\ntw");
        let (mut tail, lines) = Tail::open(&path).unwrap();
        assert_eq!(lines, ["one"]);
        append("o\nthree\n");
        assert_eq!(tail.read().unwrap(), ["two", "three"]);
        append("four\n");
        fs::rename(&path, folder.join("pilot.log.1")).unwrap();
        assert_eq!(tail.read().unwrap(), ["four"], "what the old file still got is not lost");
        append("five\n");
        assert_eq!(tail.read().unwrap(), ["five"]);
        File::create(&path).unwrap();
        append("6\n");
        assert_eq!(tail.read().unwrap(), ["6"]);
        assert!(tail.read().unwrap().is_empty());
        fs::remove_dir_all(folder).unwrap();
    }
}
