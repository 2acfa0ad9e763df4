//! How long files and functions are, and where what must stand in one place stands.

use crate::source::{self, Source};

/// Most lines of a file, without the tests of units.
const FILE_LINES_MAX: usize = 800;
/// Most lines of a function, from its head to its last brace.
const FUNCTION_LINES_MAX: usize = 70;
/// Where code may be unsafe, with the reason.
const UNSAFE: [(&str, &str); 3] = [
    ("ffi/", "C hands in pointers"),
    ("node/src/platform", "system calls that rustix does not wrap"),
    ("node/src/underlay", "system calls of the socket"),
];
/// Where JSON requests may be written out, with the reason.
const REQUESTS: [(&str, &str); 3] = [
    ("node/src/request", "the one form of requests that CLI, C, tests and IPC share, and its tests"),
    ("node/src/verb_json.rs", "reads and writes that form"),
    ("ffi/go/request.go", "Go has no access to that one"),
];

fn is_in(source: &Source, places: &[(&str, &str)]) -> bool {
    places.iter().any(|(place, _)| source.name.starts_with(place))
}

/// Functions by first line and length. Expects what rustfmt writes: a body's last brace is indented as its head.
fn functions(source: &Source) -> Vec<(usize, usize)> {
    let mut out = Vec::new();
    let mut open: Vec<(usize, usize)> = Vec::new();
    for (i, line) in source.code.lines().enumerate() {
        let indent = line.len() - line.trim_start().len();
        if is_head(line.trim_start()) && !line.trim_end().ends_with([';', '}']) {
            open.push((i, indent));
        }
        if line.trim() == "}"
            && let Some(at) = open.iter().rposition(|(_, head)| *head == indent)
        {
            out.push((open[at].0 + 1, i + 1 - open[at].0));
            open.truncate(at);
        }
        // The head of a function without a body.
        if line.trim_end().ends_with(';') {
            open.pop_if(|(_, head)| *head == indent);
        }
    }
    out
}

/// The line begins a function.
fn is_head(line: &str) -> bool {
    const BEFORE: [&str; 7] = ["pub", "const", "async", "unsafe", "extern", "\"\"", "default"];
    let mut words = line.split([' ', '(']).filter(|word| !word.is_empty());
    let is_before = |word: &&str| BEFORE.contains(word) || word.ends_with(')');
    words.find(|word| !is_before(word)) == Some("fn")
}

fn long_functions(source: &Source) -> Vec<String> {
    let long = functions(source).into_iter().filter(|(_, len)| *len > FUNCTION_LINES_MAX);
    long.map(|(line, len)| format!("{}:{line}: a function of {len} lines", source.name)).collect()
}

fn code_len(source: &Source) -> usize {
    source.code.trim_end().lines().count()
}

/// Lines with unsafe code where there may be none.
fn stray_unsafe(source: &Source) -> Vec<String> {
    let has = |line: &str| line.split(|c: char| !(c.is_alphanumeric() || c == '_')).any(|word| word == "unsafe");
    let lines = source.code.lines().enumerate().filter(|(_, line)| has(line) && !is_in(source, &UNSAFE));
    lines.map(|(i, _)| format!("{}:{}: unsafe code", source.name, i + 1)).collect()
}

/// JSON requests that are written out where they may not be.
fn stray_requests(source: &Source) -> Vec<String> {
    let key = concat!("o", "p");
    let has = |text: &String| *text == key || text.replace('\\', "").contains(&format!("\"{key}\""));
    let strings = source.strings.iter().filter(|(_, text)| has(text) && !is_in(source, &REQUESTS));
    strings.map(|(line, _)| format!("{}:{line}: a request in JSON", source.name)).collect()
}

fn check(extensions: &[&str], rule: impl Fn(&Source) -> Vec<String>) {
    let sources = extensions.iter().flat_map(|extension| source::with_extension(extension));
    let wrong: Vec<String> = sources.flat_map(rule).collect();
    assert!(wrong.is_empty(), "{} places\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn files_stay_short() {
    check(&["rs"], |source| {
        let len = code_len(source);
        (len > FILE_LINES_MAX).then(|| format!("{} has {len} lines", source.name)).into_iter().collect()
    });
}

#[test]
fn functions_stay_short() {
    check(&["rs"], long_functions);
}

#[test]
fn unsafe_code_stands_where_c_or_the_system_asks_for_it() {
    check(&["rs"], stray_unsafe);
}

#[test]
fn requests_are_written_in_one_file() {
    check(&["rs", "go"], stray_requests);
}

#[cfg(test)]
mod samples {
    use super::*;

    #[test]
    fn long_functions_are_found() {
        let body = "        x();\n".repeat(FUNCTION_LINES_MAX - 1);
        let text = format!(
            "impl A {{\n    fn none();\n    pub(crate) const unsafe fn long(\n    ) {{\n{body}    }}\n}}\nfn one() {{}}\n"
        );
        let source = Source::new("x/src/lib.rs", &text);
        assert_eq!(functions(&source), [(3, FUNCTION_LINES_MAX + 2)]);
        assert_eq!(long_functions(&source).len(), 1);
        assert_eq!(
            long_functions(&Source::new("x/src/lib.rs", &text.replacen("        x();\n        x();\n", "", 1))).len(),
            0
        );
    }

    #[test]
    fn files_are_counted_without_their_tests() {
        let source = Source::new("x/src/lib.rs", "fn f() {}\n\n#[cfg(test)]\nmod tests {\n\n\n}\n");
        assert_eq!(code_len(&source), 1);
        assert_eq!(code_len(&Source::new("x/src/lib.rs", &"x\n".repeat(FILE_LINES_MAX + 1))), FILE_LINES_MAX + 1);
    }

    #[test]
    fn unsafe_code_is_found_outside_its_places() {
        let text = "#![forbid(unsafe_code)]\n// unsafe\nlet a = \"unsafe\";\nunsafe { f() }\n";
        assert_eq!(stray_unsafe(&Source::new("core/src/lib.rs", text)), ["core/src/lib.rs:4: unsafe code"]);
        assert_eq!(stray_unsafe(&Source::new("ffi/src/lib.rs", text)).len(), 0);
        assert_eq!(stray_unsafe(&Source::new("node/src/node.rs", text)).len(), 1);
    }

    #[test]
    fn requests_are_found_in_every_form() {
        let key = concat!("o", "p");
        let quoted = format!("\"{key}\"");
        for (name, text) in [
            ("x.rs", format!("json!({{{quoted}: 1}})")),
            ("x.rs", format!("let a = r#\"{{{quoted}:1}}\"#;")),
            ("x.rs", format!("let a = \"{{\\{quoted}:1}}\";").replace(&format!("{key}\""), &format!("{key}\\\""))),
            ("x.go", format!("map[string]any{{{quoted}: 1}}")),
            ("x.go", format!("A int `json:{quoted}`")),
        ] {
            assert_eq!(stray_requests(&Source::new(name, &text)).len(), 1, "{text}");
        }
        let text = format!("// {quoted}\nlet {key} = 1;");
        assert_eq!(stray_requests(&Source::new("x.rs", &text)).len(), 0);
        assert_eq!(stray_requests(&Source::new("node/src/request.rs", &quoted)).len(), 0);
    }
}
