//! Comments say of which thing they speak, and the machines state what must hold inside them.

use crate::source::{self, Source};

/// Words that stand for a subject without naming it.
const NAMELESS: [&str; 5] = ["who", "whoever", "whose", "nobody", "somebody"];
/// Lines with one of them, of a thousand lines of comments.
const NAMELESS_MAX: f64 = 3.0;
/// Crates of machines with assertions.
const ASSERTING: [&str; 3] = ["core", "stack", "node"];
/// Assertions in a thousand lines of their code.
const ASSERTIONS_MIN: f64 = 2.0;

/// Lines of comments, and those of them with a nameless subject.
fn nameless(source: &Source) -> (usize, usize) {
    let has = |line: &str| {
        let mut words = line.split(|c: char| !(c.is_alphanumeric() || c == '_'));
        words.any(|word| NAMELESS.iter().any(|nameless| word.eq_ignore_ascii_case(nameless)))
    };
    let lines: Vec<bool> = source.comment_lines().map(|(_, line)| has(line)).collect();
    (lines.len(), lines.iter().filter(|has| **has).count())
}

/// Lines of code, and the assertions that only builds for tests run.
fn assertions(source: &Source) -> (usize, usize) {
    let found = ["debug_assert!", "debug_assert_eq!", "debug_assert_ne!"];
    (source.code_lines(), found.iter().map(|name| source.code.matches(name).count()).sum())
}

fn per_thousand((lines, found): (usize, usize)) -> f64 {
    1000.0 * found as f64 / lines.max(1) as f64
}

fn sum(parts: impl Iterator<Item = (usize, usize)>) -> (usize, usize) {
    parts.fold((0, 0), |(lines, found), (l, f)| (lines + l, found + f))
}

#[test]
fn comments_name_their_subjects() {
    let mut files: Vec<_> = source::with_extension("rs").map(|s| (nameless(s), &s.name)).collect();
    files.sort_by_key(|((_, found), _)| std::cmp::Reverse(*found));
    let rate = per_thousand(sum(files.iter().map(|(counts, _)| *counts)));
    let worst: Vec<String> =
        files.iter().take(20).map(|((lines, found), name)| format!("{found} of {lines}: {name}")).collect();
    assert!(rate <= NAMELESS_MAX, "{rate:.1} of 1,000 lines of comments, {NAMELESS_MAX} allowed\n{}", worst.join("\n"));
}

#[test]
fn machines_assert_what_must_hold_inside_them() {
    let mut missing = Vec::new();
    for name in ASSERTING {
        let of_crate = |s: &&Source| s.name.starts_with(&format!("{name}/src/")) && !s.is_test();
        let counts = sum(source::with_extension("rs").filter(of_crate).map(assertions));
        if per_thousand(counts) < ASSERTIONS_MIN {
            missing.push(format!("{name}: {} in {} lines, {:.2} of 1,000", counts.1, counts.0, per_thousand(counts)));
        }
    }
    assert!(missing.is_empty(), "{ASSERTIONS_MIN} assertions of 1,000 lines wanted\n{}", missing.join("\n"));
}

#[test]
fn nameless_subjects_and_assertions_are_counted() {
    let text = "//! Whoever waits.\n/// The node whose key this is, or nobody's.\n// A whole sentence.\nfn f() {\n    \
                debug_assert!(true); // who\n    assert!(true);\n}\n#[cfg(test)]\nmod tests {\n    // debug_assert!\n}\n";
    let source = Source::new("x/src/lib.rs", text);
    assert_eq!(nameless(&source), (4, 2));
    assert_eq!(assertions(&source), (4, 1));
    assert!(per_thousand((4, 2)) > NAMELESS_MAX);
}
