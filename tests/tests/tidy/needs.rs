//! Programs of the system that a test insists on in CI are programs that `.ci/run` installs.

use crate::source::{self, Source};

/// How the tests ask for a program: by this call with its name.
const CALLS: [&str; 2] = ["has(\"", "tool(\""];

/// The programs that a test's file asks for.
fn asked(source: &Source) -> impl Iterator<Item = &str> {
    let calls = CALLS.into_iter().flat_map(|call| source.text.match_indices(call).map(move |(at, _)| at + call.len()));
    calls.filter_map(|begin| source.text[begin..].split('"').next())
}

/// The programs that the script looks for and installs.
fn wanted(script: &str) -> impl Iterator<Item = &str> {
    // The toolchains are all that a machine must have had before.
    let before = ["go", "cargo"];
    let wants = script.lines().flat_map(|line| line.split(';')).filter_map(|part| part.trim().strip_prefix("want "));
    before.into_iter().chain(wants.filter_map(|rest| rest.split(' ').next()))
}

#[test]
fn ci_installs_the_programs_that_tests_insist_on() {
    let script = std::fs::read_to_string(source::root().join(".ci/run")).unwrap();
    let tests = source::with_extension("rs").filter(|source| source.name.contains("/tests/"));
    let mut count = 0;
    for source in tests.filter(|source| source.name != "tests/tests/tidy/needs.rs") {
        for program in asked(source) {
            count += 1;
            assert!(wanted(&script).any(|one| one == program), "{}: .ci/run does not want {program}", source.name);
        }
    }
    assert!(count >= 8, "the calls are found: {count}");
}

#[test]
fn a_program_that_nothing_installs_is_found() {
    let source = Source::new("x/tests/x.rs", r#"fn f() { if !has("ssh") || tool("make").is_none() {} }"#);
    assert_eq!(asked(&source).collect::<Vec<_>>(), ["ssh", "make"]);
    let script = "want() { command -v \"$1\"; }\nwant cc gcc; want make make\n";
    assert_eq!(wanted(script).collect::<Vec<_>>(), ["go", "cargo", "cc", "make"]);
}
