//! Owns the filter of everything that is shown: text may come from other nodes, and terminals and readers obey some characters.

pub(crate) use pilot_node::text::is_harmful;
use std::fmt::Write as _;

/// The text with harmful characters written as JSON writes them (`\u001b`), so that JSON stays the same value.
pub(crate) fn lines(text: &str) -> String {
    escape(text, is_harmful)
}

/// The same for a text that belongs on one line.
pub(crate) fn cell(text: &str) -> String {
    escape(text, |c| is_harmful(c) || matches!(c, '\n' | '\t'))
}

fn escape(text: &str, is_escaped: impl Fn(char) -> bool) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            _ if !is_escaped(c) => out.push(c),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            _ => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    let _ = write!(out, "\\u{unit:04x}"); // writing to a String cannot fail
                }
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn what_acts_on_a_terminal_or_hides_is_shown_as_an_escape() {
        assert_eq!(lines("a\x1b[2Jb\u{9b}c\u{7f}\r\n\td"), "a\\u001b[2Jb\\u009bc\\u007f\\u000d\n\td");
        assert_eq!(lines("x\u{202e}y\u{2028}z\u{e0041}"), "x\\u202ey\\u2028z\\udb40\\udc41");
        assert_eq!(lines("grüße – 漢字 👩\u{200d}💻"), "grüße – 漢字 👩\u{200d}💻");
        assert_eq!(cell("one\ntwo\tthree"), "one\\ntwo\\tthree");
    }

    #[test]
    fn json_stays_the_same_value() {
        let hostile: String = ('\0'..'\u{3000}').chain('\u{e0000}'..'\u{e0080}').collect();
        let value = json!({"name": hostile, "\u{202e}": ["\x1b]0;x\x07"]});
        let shown = lines(&value.to_string());
        assert!(!shown.contains(is_harmful) && !shown.contains(char::is_control));
        assert_eq!(serde_json::from_str::<Value>(&shown).expect("JSON"), value);
    }
}
