//! Owns the names of received files: what is left of the name that the sender gives.

use crate::harmful::is_harmful;

/// Longest name of a kept file. Unit: bytes. Source: the usual limit of file systems, less room for a number.
pub(super) const NAME_LEN_MAX: usize = 240;
/// Longest ending of a name that stays when the name is cut, its dot included. Unit: bytes.
const ENDING_LEN_MAX: usize = 32;
/// Names that are devices on Windows, whatever their ending.
const DEVICES: [&str; 6] = ["con", "prn", "aux", "nul", "com", "lpt"];

/// The last component of `name`, made safe; `None` when nothing is left. Harmful characters, and those that a file system may
/// refuse, become `_`. The name begins with neither a dot nor a dash, ends with neither a dot nor a space, and is no device.
pub(super) fn safe_name(name: &str) -> Option<String> {
    let last = name.rsplit(['/', '\\']).next().unwrap_or_default();
    let is_refused = |c: char| is_harmful(c) || "\n\t<>:\"|?*".contains(c);
    let safe: String = last.chars().map(|c| if is_refused(c) { '_' } else { c }).collect();
    let safe = safe.trim_start_matches(|c: char| c == '.' || c.is_whitespace());
    let safe = safe.trim_end_matches(|c: char| c == '.' || c.is_whitespace());
    if safe.is_empty() {
        return None;
    }
    let prefix = if safe.starts_with('-') || is_device(safe) { "_" } else { "" };
    Some(cut(format!("{prefix}{safe}")))
}

/// Cuts a name to [`NAME_LEN_MAX`] in front of its ending.
fn cut(mut name: String) -> String {
    if name.len() <= NAME_LEN_MAX {
        return name;
    }
    let at = Some(split(&name).0.len()).filter(|at| name.len() - at <= ENDING_LEN_MAX);
    let ending = name.split_off(at.unwrap_or(name.len()));
    while name.len() + ending.len() > NAME_LEN_MAX {
        name.pop();
    }
    debug_assert!(!name.is_empty(), "an ending leaves room for a name");
    name + &ending
}

/// A name without its ending, and the ending with its dot.
pub(super) fn split(name: &str) -> (&str, &str) {
    match name.rfind('.') {
        Some(at) if at > 0 => name.split_at(at),
        _ => (name, ""),
    }
}

fn is_device(name: &str) -> bool {
    let stem = name.split('.').next().unwrap_or_default().trim_end().to_ascii_lowercase();
    let has_number = |device: &str| {
        let number = stem.strip_prefix(device).map(str::as_bytes);
        matches!((device, number), ("com" | "lpt", Some([b'0'..=b'9'])) | ("con" | "prn" | "aux" | "nul", Some([])))
    };
    DEVICES.into_iter().any(has_number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_component_that_every_file_system_and_terminal_can_bear() {
        for (name, safe) in [
            ("a.txt", Some("a.txt")),
            ("Bericht für März.pdf", Some("Bericht für März.pdf")),
            ("../../etc/passwd", Some("passwd")),
            ("c:\\x\\y", Some("y")),
            (".bashrc", Some("bashrc")),
            (" . .hidden", Some("hidden")),
            ("-rf", Some("_-rf")),
            ("..", None),
            ("a/", None),
            ("", None),
            (" . ", None),
            ("\u{1b}[2J", Some("_[2J")),
            ("a\u{9b}b\nc\td\0e", Some("a_b_c_d_e")),
            ("invoice\u{202e}fdp.exe", Some("invoice_fdp.exe")),
            ("a\u{200b}\u{feff}\u{2028}b", Some("a___b")),
            ("a:b*c?d|e<f>\"g", Some("a_b_c_d_e_f__g")),
            ("trailing. . ", Some("trailing")),
            ("CON", Some("_CON")),
            ("nul.tar.gz", Some("_nul.tar.gz")),
            ("com7 .txt", Some("_com7 .txt")),
            ("com", Some("com")),
            ("console", Some("console")),
        ] {
            assert_eq!(safe_name(name).as_deref(), safe, "{name:?}");
        }
    }

    #[test]
    fn a_name_that_is_too_long_keeps_its_ending() {
        for (name, ending) in [
            (format!("{}.pdf", "ä".repeat(400)), ".pdf"),
            ("x".repeat(NAME_LEN_MAX + 1), "x"),
            (format!("a.{}", "b".repeat(400)), "b"),
            (format!("{}.{}", "🦀".repeat(100), "e".repeat(ENDING_LEN_MAX - 1)), "🦀.eeeeeeeeeeeeeeeeeeeeeeeeeeeeeee"),
        ] {
            let safe = safe_name(&name).expect("not empty");
            assert!(safe.len() <= NAME_LEN_MAX && safe.ends_with(ending), "{safe}");
            assert!(safe.starts_with(name.chars().next().expect("not empty")), "{safe}");
        }
        let longest = "n".repeat(NAME_LEN_MAX);
        assert_eq!(safe_name(&longest), Some(longest));
    }
}
