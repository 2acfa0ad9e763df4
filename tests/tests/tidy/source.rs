//! Owns the text of the repository: its files, and each split into code, comments and strings.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

/// Extensions of the files that are read.
const EXTENSIONS: [&str; 5] = ["rs", "go", "c", "h", "md"];

/// One file, with its place counted from the repository's root.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) name: String,
    pub(crate) text: String,
    /// The text with comments and contents of strings blanked; as many lines, and in Rust the tests of units blanked too.
    pub(crate) code: String,
    /// Comments by line.
    pub(crate) comments: Vec<(usize, String)>,
    /// Contents of string literals by line.
    pub(crate) strings: Vec<(usize, String)>,
}

/// Every file of the repository, read once.
static ALL: LazyLock<Vec<Source>> = LazyLock::new(|| {
    let mut paths = Vec::new();
    walk(&root(), &mut paths);
    paths.sort();
    let read = |path: &PathBuf| {
        let name = path.strip_prefix(root()).unwrap().to_str().unwrap();
        Source::new(name, &std::fs::read_to_string(path).unwrap())
    };
    paths.iter().map(read).collect()
});

pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

pub(crate) fn all() -> &'static [Source] {
    &ALL
}

/// The files with this extension.
pub(crate) fn with_extension(extension: &str) -> impl Iterator<Item = &'static Source> {
    all().iter().filter(move |source| source.is(extension))
}

fn walk(folder: &Path, out: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        // Beside the crates and the pages lies what builds and people leave there.
        let is_ours = folder != root() || name == "docs" || path.join("Cargo.toml").is_file();
        if path.is_dir() && is_ours && !name.starts_with('.') && !["target", "node_modules"].contains(&name) {
            walk(&path, out);
        } else if path.is_file() && path.extension().is_some_and(|e| EXTENSIONS.iter().any(|known| e == *known)) {
            out.push(path);
        }
    }
}

impl Source {
    pub(crate) fn new(name: &str, text: &str) -> Self {
        let (name, text) = (name.to_owned(), text.to_owned());
        let mut source = Self { name, code: String::new(), comments: Vec::new(), strings: Vec::new(), text };
        if !source.is("md") {
            let text = std::mem::take(&mut source.text);
            Lexer { rest: &text, line: 1, source: &mut source }.run();
            source.text = text;
        }
        if source.is("rs") {
            source.code = without_tests(&source.code);
        }
        source
    }

    pub(crate) fn is(&self, extension: &str) -> bool {
        self.name.rsplit_once('.').is_some_and(|(_, own)| own == extension)
    }

    /// A file of tests alone: of integration tests, or the tests of units in a file of their own.
    pub(crate) fn is_test(&self) -> bool {
        let folders = self.name.split('/').skip(1);
        let mut parts = folders.map(|part| part.trim_end_matches(".rs"));
        parts.any(|part| part == "tests" || part == "benches")
    }

    /// The lines of code, without those that are blank.
    pub(crate) fn code_lines(&self) -> usize {
        self.code.lines().filter(|line| !line.trim().is_empty()).count()
    }

    /// The lines that are comments and nothing else.
    pub(crate) fn comment_lines(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines = self.text.lines().enumerate().map(|(i, line)| (i + 1, line.trim()));
        lines.filter(|(_, line)| line.starts_with("//"))
    }
}

/// Splits a file into code, comments and strings.
struct Lexer<'a> {
    rest: &'a str,
    line: usize,
    source: &'a mut Source,
}

impl<'a> Lexer<'a> {
    fn run(mut self) {
        while let Some(next) = self.rest.chars().next() {
            let before_is_word = self.source.code.ends_with(|c: char| c.is_alphanumeric() || c == '_');
            if self.rest.starts_with("//") {
                let end = self.rest.find('\n').unwrap_or(self.rest.len());
                self.comment(end);
            } else if self.rest.starts_with("/*") {
                let end = self.block_end();
                self.comment(end);
            } else if let Some((open, close)) = self.raw_string().filter(|_| !before_is_word) {
                let body = self.rest[open..].find(&close).unwrap_or(self.rest.len() - open - close.len());
                self.string(open, body, close.len());
            } else if next == '"' {
                let body = self.escaped_end('"');
                self.string(1, body, 1);
            } else if let Some(len) = self.char_literal() {
                self.blank(len);
            } else {
                self.line += usize::from(next == '\n');
                self.source.code.push(next);
                self.rest = &self.rest[next.len_utf8()..];
            }
        }
    }

    /// Takes `len` bytes and leaves their lines in the code.
    fn blank(&mut self, len: usize) -> &'a str {
        let (taken, rest) = self.rest.split_at(len);
        let lines = taken.matches('\n').count();
        self.source.code.extend(std::iter::repeat_n('\n', lines));
        (self.line, self.rest) = (self.line + lines, rest);
        taken
    }

    fn comment(&mut self, len: usize) {
        let line = self.line;
        for (i, text) in self.blank(len).lines().enumerate() {
            let text = text.trim().trim_start_matches(['/', '!', '*']).trim_end_matches("*/").trim();
            self.source.comments.push((line + i, text.to_owned()));
        }
    }

    fn string(&mut self, open: usize, body: usize, close: usize) {
        let line = self.line;
        self.source.code.push('"');
        let taken = self.blank((open + body + close).min(self.rest.len()));
        self.source.code.push('"');
        self.source.strings.push((line, taken[open..open + body].to_owned()));
    }

    /// Length of a block comment; Rust's nest.
    fn block_end(&self) -> usize {
        let (mut depth, mut at) = (0usize, 0);
        while at < self.rest.len() {
            let rest = &self.rest[at..];
            if rest.starts_with("/*") && (depth == 0 || self.source.is("rs")) {
                (depth, at) = (depth + 1, at + 2);
            } else if rest.starts_with("*/") {
                (depth, at) = (depth - 1, at + 2);
                if depth == 0 {
                    return at;
                }
            } else {
                at += rest.chars().next().map_or(1, char::len_utf8);
            }
        }
        self.rest.len()
    }

    /// What opens a raw string here, as its length, and what closes it.
    fn raw_string(&self) -> Option<(usize, String)> {
        if self.source.is("go") {
            return self.rest.starts_with('`').then(|| (1, "`".to_owned()));
        }
        let prefix = ["br", "cr", "r"].into_iter().find(|prefix| self.rest.starts_with(prefix))?;
        let hashes = self.rest[prefix.len()..].bytes().take_while(|b| *b == b'#').count();
        let open = prefix.len() + hashes + 1;
        let is_string = self.source.is("rs") && self.rest.as_bytes().get(open - 1) == Some(&b'"');
        is_string.then(|| (open, format!("\"{}", "#".repeat(hashes))))
    }

    /// Bytes between an opening quote and the quote that closes it.
    fn escaped_end(&self, quote: char) -> usize {
        let mut escaped = false;
        for (at, c) in self.rest.char_indices().skip(1) {
            if c == quote && !escaped {
                return at - 1;
            }
            escaped = c == '\\' && !escaped;
        }
        self.rest.len() - 1
    }

    /// Length of a character literal, which in Rust is none when it is a lifetime.
    fn char_literal(&self) -> Option<usize> {
        let mut chars = self.rest.chars();
        let (first, second, third) = (chars.next()?, chars.next()?, chars.next()?);
        if first != '\'' {
            return None;
        }
        let is_literal = second == '\\' || third == '\'' || !self.source.is("rs");
        is_literal.then(|| (self.escaped_end('\'') + 2).min(self.rest.len()))
    }
}

/// Blanks the items under `#[cfg(test)]` and `#[cfg(all(test, …))]`.
fn without_tests(code: &str) -> String {
    let mut out = String::with_capacity(code.len());
    let mut rest = code;
    while let Some(at) = ["#[cfg(test)]", "#[cfg(all(test,"].iter().filter_map(|test| rest.find(test)).min() {
        let len = item_len(&rest[at..]);
        out.push_str(&rest[..at]);
        out.extend(std::iter::repeat_n('\n', rest[at..at + len].matches('\n').count()));
        rest = &rest[at + len..];
    }
    out + rest
}

/// Length of an item with its attributes; also of a field, variant or statement.
fn item_len(code: &str) -> usize {
    let (mut depth, mut in_attribute) = (0usize, false);
    for (at, c) in code.char_indices() {
        match c {
            '#' if depth == 0 => in_attribute = true,
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' if depth == 0 => return at, // of what it stands in
            ')' | ']' | '}' => {
                depth -= 1;
                match (depth, c, in_attribute) {
                    (0, ']', true) => in_attribute = false,
                    (0, '}', _) => return at + 1,
                    _ => {}
                }
            }
            ';' if depth == 0 => return at + 1,
            _ => {}
        }
    }
    code.len()
}

#[test]
fn code_comments_and_strings_are_told_apart() {
    let text = "let a = \"// no \\\" comment\"; // a comment\nlet b = r#\"raw \" text\"#; /* two\nlines /* nested */ */ let c = '\"';\nfn f<'a>(x: &'a str) {}\n";
    let source = Source::new("x/src/lib.rs", text);
    assert_eq!(source.code, "let a = \"\"; \nlet b = \"\"; \n let c = ;\nfn f<'a>(x: &'a str) {}\n");
    assert_eq!(source.comments, [(1, "a comment".into()), (2, "two".into()), (3, "lines /* nested */".into())]);
    assert_eq!(source.strings, [(1, "// no \\\" comment".into()), (2, "raw \" text".into())]);
}

#[test]
fn tests_of_units_are_blanked_and_everything_else_stays() {
    let text = "use a;\n#[cfg(test)]\nextern crate std;\n#[cfg(all(test, unix))]\n#[allow(x)]\nmod tests {\n    fn f() {}\n}\n#[cfg(test)]\nfn g() -> [u8; 2] {\n}\nfn h() {}\n";
    let source = Source::new("x/src/lib.rs", text);
    let left: Vec<_> = source.code.lines().filter(|line| !line.is_empty()).collect();
    assert_eq!(left, ["use a;", "fn h() {}"]);
    assert_eq!(source.code.lines().count(), text.lines().count());
}

#[test]
fn go_has_raw_strings_and_characters() {
    let source = Source::new("x/a.go", "c := '\"'\ns := `raw \" // text`\n// comment\n");
    assert_eq!(source.strings, [(2, "raw \" // text".into())]);
    assert_eq!(source.comments, [(3, "comment".into())]);
}
