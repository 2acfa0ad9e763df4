//! Every dependency has a licence that `deny.toml` allows and comes from the registry, and none is banned there.

use crate::source;
use serde_json::Value;
use std::process::Command;

/// What `deny.toml` says.
struct Rules {
    allowed: Vec<String>,
    /// Package and licence.
    exceptions: Vec<(String, String)>,
    banned: Vec<String>,
}

/// The texts in quotes.
fn quoted(text: &str) -> Vec<String> {
    text.split('"').skip(1).step_by(2).map(str::to_owned).collect()
}

/// The value of a key that is a list.
fn list<'a>(text: &'a str, key: &str) -> &'a str {
    let begin = text.find(&format!("\n{key} = [")).expect("the key is there");
    let rest = &text[begin + key.len() + 5..];
    let end = rest.find("]\n").expect("the list has an end");
    &rest[..end]
}

impl Rules {
    fn read(text: &str) -> Self {
        let pairs =
            list(text, "exceptions").split('{').map(quoted).filter_map(|pair| <[String; 2]>::try_from(pair).ok());
        Self {
            allowed: quoted(list(text, "allow")),
            exceptions: pairs.map(|[licence, package]| (package, licence)).collect(),
            banned: quoted(list(text, "deny")),
        }
    }

    /// True when an expression of SPDX can be met with what is allowed for the package.
    fn allow(&self, package: &str, expression: &str) -> bool {
        let is_allowed = |licence: &str| {
            let is_exception = |(name, own): &(String, String)| name == package && own == licence;
            self.allowed.iter().any(|own| own == licence) || self.exceptions.iter().any(is_exception)
        };
        is_met(&expression.replace('/', " OR "), &is_allowed)
    }

    /// What is wrong with the packages that cargo names.
    fn wrong(&self, packages: &[Value]) -> Vec<String> {
        let mut wrong = Vec::new();
        for package in packages {
            let text = |key: &str| package[key].as_str().unwrap_or_default();
            let (name, licence, source) = (text("name"), text("license"), text("source"));
            if !self.allow(name, licence) {
                wrong.push(format!("{name}: licence {licence:?}"));
            }
            if !source.is_empty() && !source.starts_with("registry+") {
                wrong.push(format!("{name}: from {source}"));
            }
            if self.banned.iter().any(|banned| banned == name) {
                wrong.push(format!("{name} is banned"));
            }
        }
        wrong
    }
}

/// Splits an expression at an operator that stands outside of parentheses.
fn parts<'a>(expression: &'a str, operator: &str) -> Vec<&'a str> {
    let (mut out, mut depth, mut begin) = (Vec::new(), 0, 0);
    for (at, c) in expression.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ if depth == 0 && at >= begin && expression[at..].starts_with(operator) => {
                out.push(&expression[begin..at]);
                begin = at + operator.len();
            }
            _ => {}
        }
    }
    out.push(&expression[begin..]);
    out
}

fn is_met(expression: &str, is_allowed: &impl Fn(&str) -> bool) -> bool {
    let expression = expression.trim();
    let any = parts(expression, " OR ");
    if any.len() > 1 {
        return any.into_iter().any(|part| is_met(part, is_allowed));
    }
    let all = parts(expression, " AND ");
    if all.len() > 1 {
        return all.into_iter().all(|part| is_met(part, is_allowed));
    }
    match expression.strip_prefix('(').and_then(|inner| inner.strip_suffix(')')) {
        Some(inner) => is_met(inner, is_allowed),
        None => is_allowed(expression),
    }
}

fn rules() -> Rules {
    let path = source::root().join("deny.toml");
    Rules::read(&std::fs::read_to_string(path).expect("deny.toml"))
}

#[test]
fn every_dependency_has_an_allowed_licence_and_source() {
    let version = Command::new("rustc").arg("-vV").output().expect("rustc");
    let version = String::from_utf8_lossy(&version.stdout).into_owned();
    let host = version.lines().find_map(|line| line.strip_prefix("host: ")).expect("rustc names its machine");
    let mut cargo = Command::new(env!("CARGO"));
    // These packages are there already: this test was built with them.
    cargo.args(["metadata", "--format-version", "1", "--locked", "--offline", "--filter-platform", host]);
    let output = cargo.current_dir(source::root()).output().expect("cargo");
    let metadata: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&output.stderr)));
    let packages = metadata["packages"].as_array().expect("a list");
    assert!(packages.len() > 50, "{} packages", packages.len());
    let wrong = rules().wrong(packages);
    assert!(wrong.is_empty(), "{} wrong dependencies\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn bad_licences_sources_and_packages_are_found() {
    let rules = rules();
    for (expression, is_allowed) in [
        ("MIT", true),
        ("GPL-3.0", false),
        ("", false),
        ("MIT/Apache-2.0", true),
        ("GPL-2.0-only OR Apache-2.0", true),
        ("MIT AND GPL-3.0", false),
        ("(MIT OR GPL-3.0) AND Unicode-3.0", true),
        ("(MIT AND GPL-3.0) OR LGPL-2.1", false),
        ("MPL-2.0", false),
    ] {
        assert_eq!(rules.allow("any", expression), is_allowed, "{expression:?}");
    }
    assert!(rules.allow("cbindgen", "MPL-2.0"));
    let package = |name: &str, source: &str| serde_json::json!({"name": name, "license": "MIT", "source": source});
    let packages = [package("good", "registry+x"), package("tokio", "registry+x"), package("other", "git+https://x")];
    assert_eq!(rules.wrong(&packages), ["tokio is banned", "other: from git+https://x"]);
}
