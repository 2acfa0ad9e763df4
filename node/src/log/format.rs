//! Owns the written forms of a record: a line of text, and a line of JSON.

use crate::log::record::{FieldValue, Record};
use serde_json::{Map, Value};
use std::fmt::Write as _;

/// The written form of a record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// `2026-11-26T21:45:00.123Z warn refused peer=worker-node port=22 reason=not_granted`
    #[default]
    Text,
    /// One object: `time`, `level`, `kind`, and each field under its name.
    Json,
}

impl std::str::FromStr for LogFormat {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err("a log format is text or json"),
        }
    }
}

impl LogFormat {
    /// Its name on command lines.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Json => "json",
        }
    }

    /// The record as one line, with its end. Text has printable ASCII characters only, whatever a field holds.
    pub fn line(self, record: &Record) -> String {
        let mut line = match self {
            Self::Text => text(record),
            Self::Json => json(record).to_string(),
        };
        line.push('\n');
        line
    }
}

fn text(record: &Record) -> String {
    let mut line = format!("{} {} {}", timestamp(record.at_ms()), record.level().name(), record.kind());
    for (key, value) in record.fields() {
        line.push(' ');
        line.push_str(key);
        line.push('=');
        match value {
            FieldValue::Number(number) => line.push_str(&number.to_string()),
            FieldValue::Text(text) => push_value(&mut line, text),
        }
    }
    line
}

/// Appends a value: as it is when it is one plain word, otherwise as a JSON string.
fn push_value(line: &mut String, value: &str) {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.:/@+[]*".contains(c);
    if !value.is_empty() && value.chars().all(is_plain) {
        return line.push_str(value);
    }
    line.push('"');
    for c in value.chars() {
        match c {
            '"' | '\\' => line.extend(['\\', c]),
            ' '..='~' => line.push(c),
            _ => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    // A `String` takes everything.
                    let _ = write!(line, "\\u{unit:04x}");
                }
            }
        }
    }
    line.push('"');
}

fn json(record: &Record) -> Value {
    let mut object = Map::new();
    object.insert("time".into(), timestamp(record.at_ms()).into());
    object.insert("level".into(), record.level().name().into());
    object.insert("kind".into(), record.kind().into());
    for (key, value) in record.fields() {
        debug_assert!(!object.contains_key(*key), "{key} is a name of every record");
        let value = match value {
            FieldValue::Text(text) => text.as_str().into(),
            FieldValue::Number(number) => (*number).into(),
        };
        object.insert((*key).into(), value);
    }
    object.into()
}

/// Days of 400 years, after which the calendar repeats.
const CYCLE_DAYS: u64 = 146_097;

/// A time as RFC 3339 writes it, in UTC. `at_ms`: unit: milliseconds since 1970.
fn timestamp(at_ms: u64) -> String {
    let (mut day, ms) = (at_ms / 86_400_000, at_ms % 86_400_000);
    let mut year = 1970 + 400 * (day / CYCLE_DAYS);
    day %= CYCLE_DAYS;
    let is_leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    while day >= 365 + u64::from(is_leap(year)) {
        day -= 365 + u64::from(is_leap(year));
        year += 1;
    }
    let february = 28 + u64::from(is_leap(year));
    let mut month = 1;
    for len in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30] {
        if day < len {
            break;
        }
        day -= len;
        month += 1;
    }
    let (hour, minute, second) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1000 % 60);
    format!("{year:04}-{month:02}-{:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", day + 1, ms % 1000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use pilot_core::Level;

    #[test]
    fn times_are_those_of_the_calendar() {
        let cases = [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399_999, "2000-02-28T23:59:59.999Z"),
            (951_868_800_000, "2000-03-01T00:00:00.000Z"),
            (1_709_164_800_000, "2024-02-29T00:00:00.000Z"),
            (1_795_729_500_123, "2026-11-26T21:45:00.123Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
        ];
        for (at_ms, text) in cases {
            assert_eq!(timestamp(at_ms), text);
        }
        assert!(timestamp(u64::MAX).ends_with('Z'));
    }

    #[test]
    fn a_record_has_two_forms() {
        let mut record = Record::new(Level::Warn, "refused").with("peer", "worker-node").with("port", 22);
        record = record.with("reason", "not granted");
        record.set_time(1_795_729_500_123);
        let text = "2026-11-26T21:45:00.123Z warn refused peer=worker-node port=22 reason=\"not granted\"\n";
        assert_eq!(LogFormat::Text.line(&record), text);
        let json: Value = serde_json::from_str(&LogFormat::Json.line(&record)).expect("an object");
        assert_eq!((&json["time"], &json["port"]), (&"2026-11-26T21:45:00.123Z".into(), &22.into()));
    }

    #[test]
    fn no_value_breaks_a_line_or_reaches_a_terminal() {
        let hostile = "a\n\x1b[31m\u{9b}\u{202e}\u{1f980}\"\\=";
        let record = Record::new(Level::Info, "trust").with("peer", hostile).with("empty", "");
        let line = LogFormat::Text.line(&record);
        assert!(line.trim_end().chars().all(|c| matches!(c, ' '..='~')), "{line:?}");
        let (_, value) = line.split_once("peer=").expect("a field");
        let (value, _) = value.split_once(" empty=\"\"").expect("another field");
        assert_eq!(serde_json::from_str::<String>(value).expect("a string"), hostile);
        assert_eq!(LogFormat::Json.line(&record).lines().count(), 1);
    }
}
