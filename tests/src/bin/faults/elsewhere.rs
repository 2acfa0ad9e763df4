//! Owns the run of tests that are proofs: cargo runs each target once, with the names of its tests, and says which passed.

use crate::measured::Measured;
use crate::rows::Test;
use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

/// The tests that passed, and those that were asked for.
pub(crate) struct Verdicts {
    passed: BTreeSet<Test>,
    /// Commands whose target could not be built or run.
    broken: BTreeMap<Target, String>,
}

/// A package and the words that choose its target.
type Target = (&'static str, &'static [&'static str]);

impl Verdicts {
    /// What a test has shown.
    pub(crate) fn of(&self, test: &Test) -> Measured {
        if let Some(why) = self.broken.get(&(test.package, test.target)) {
            return Measured::new(false, format!("{}: {why}", test.package));
        }
        let is_ok = self.passed.contains(test);
        let verdict = if is_ok { "passed" } else { "failed or gone" };
        Measured::new(is_ok, format!("test {} of {} {verdict}", test.name, test.package))
    }
}

/// Runs the tests, target by target.
pub(crate) fn run(tests: &[Test]) -> Verdicts {
    let mut verdicts = Verdicts { passed: BTreeSet::new(), broken: BTreeMap::new() };
    let mut targets: BTreeMap<Target, BTreeSet<&'static str>> = BTreeMap::new();
    for test in tests {
        targets.entry((test.package, test.target)).or_default().insert(test.name);
    }
    for ((package, target), names) in targets {
        eprintln!("cargo test -p {package} {} ({} tests) …", target.join(" "), names.len());
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.args(["test", "--quiet", "--package", package]).args(target).args(["--", "--exact", "--format=pretty"]);
        let output = match cargo.args(&names).current_dir(root()).output() {
            Ok(output) => output,
            Err(error) => {
                verdicts.broken.insert((package, target), error.to_string());
                continue;
            }
        };
        let text = String::from_utf8_lossy(&output.stdout);
        let passed = passed(&text);
        let found = names.iter().filter(|name| passed.contains(**name));
        verdicts.passed.extend(found.map(|name| Test { package, target, name }));
        if !text.contains("test result:") {
            let error = String::from_utf8_lossy(&output.stderr);
            let line = error.lines().find(|line| line.starts_with("error")).unwrap_or("cargo failed");
            verdicts.broken.insert((package, target), line.replace('|', " "));
        }
    }
    verdicts
}

fn root() -> &'static std::path::Path {
    let own = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    own.parent().unwrap_or(own)
}

/// The names of the tests that passed, from the output of libtest. What a test prints may stand between its name and its
/// verdict.
fn passed(text: &str) -> BTreeSet<&str> {
    let lines = text.lines().filter_map(|line| line.strip_prefix("test "));
    let verdicts =
        lines.filter_map(|line| line.split_once(" ... ").or_else(|| line.split_once(" - should panic ... ")));
    verdicts.filter(|(_, verdict)| verdict.trim() == "ok").map(|(name, _)| name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_tests_that_say_ok_have_passed() {
        let text = "\nrunning 3 tests\ntest a::b ... ok\ntest c ... FAILED\ntest d ... ignored\n\ntest result: FAILED. 1 passed";
        assert_eq!(passed(text), BTreeSet::from(["a::b"]));
        let nothing = Verdicts { passed: BTreeSet::new(), broken: BTreeMap::new() };
        assert!(!nothing.of(&Test { package: "p", target: &["--lib"], name: "gone" }).is_ok);
    }

    /// All sources of a package.
    fn sources(folder: &std::path::Path, out: &mut String) {
        for entry in std::fs::read_dir(folder).into_iter().flatten() {
            let path = entry.expect("readable").path();
            if path.is_dir() {
                sources(&path, out);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                *out += &std::fs::read_to_string(path).expect("readable");
            }
        }
    }

    #[test]
    fn every_test_that_is_a_proof_exists() {
        let mut packages: BTreeMap<&str, String> = BTreeMap::new();
        for test in crate::rows::ROWS.iter().flat_map(|(_, proofs)| *proofs).filter_map(crate::rows::Proof::test) {
            let text = packages.entry(test.package).or_insert_with(|| {
                let folder = root().join(test.package.trim_start_matches("pilot-"));
                let mut text = String::new();
                ["src", "tests"].iter().for_each(|part| sources(&folder.join(part), &mut text));
                text
            });
            let name = test.name.rsplit("::").next().unwrap_or_default();
            assert!(text.contains(&format!("fn {name}(")), "{} has no test {name}", test.package);
        }
    }
}
