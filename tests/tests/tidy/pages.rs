//! Every page that a comment or another page cites exists, with the section in quotes behind it, and what the pages name exists
//! in the sources.
//!
//! A comment cites a page by its path from the repository's root, `docs/wire.md, "Rekey"`; a page does so by a link, or by a
//! path from its own folder.

use crate::source::{self, Source};
use std::collections::BTreeSet;

/// A page cited somewhere, with the beginning of a section's heading where one follows.
#[derive(Debug, PartialEq, Eq)]
struct Citation {
    line: usize,
    page: String,
    section: Option<String>,
}

/// The citations of one file.
fn citations(source: &Source) -> Vec<Citation> {
    let lines: Vec<(usize, String)> = if source.is("md") {
        source.text.lines().enumerate().map(|(i, line)| (i + 1, line.to_owned())).collect()
    } else {
        source.comments.clone()
    };
    let mut out = Vec::new();
    for (i, (line, text)) in lines.iter().enumerate() {
        // A section may stand on the next line.
        let next = lines.get(i + 1).filter(|(next, _)| *next == line + 1).map_or("", |(_, text)| text.trim());
        let joined = format!("{text} {next}");
        let mut at = 0;
        while let Some(found) = text[at..].find(".md") {
            let end = at + found + ".md".len();
            at = end;
            let is_path = |c: char| c.is_ascii_alphanumeric() || "._-/".contains(c);
            let begin = text[..end]
                .rfind(|c| !is_path(c))
                .map_or(0, |i| i + text[i..].chars().next().map_or(1, char::len_utf8));
            let page = &text[begin..end];
            let behind = text[end..].chars().next();
            if page == ".md" || behind.is_some_and(|c| c.is_ascii_alphanumeric()) || page.contains("//") {
                continue;
            }
            out.push(Citation { line: *line, page: page.to_owned(), section: section(&joined[end..]) });
        }
    }
    out
}

/// The text in quotes that follows a page at once: `, "…"` or ` ("…"`.
fn section(behind: &str) -> Option<String> {
    let behind = behind.trim_start_matches(['`', ')', ']']);
    let quoted = behind.strip_prefix(", \"").or_else(|| behind.strip_prefix(" (\""))?;
    Some(quoted[..quoted.find('"')?].to_owned())
}

/// The file that a page's name means in a file, by its name from the root.
fn resolve(source: &Source, page: &str) -> Vec<String> {
    let folder = source.name.rsplit_once('/').map_or("", |(folder, _)| folder);
    let mut beside: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in page.split('/') {
        match part {
            ".." => drop(beside.pop()),
            "." => {}
            part => beside.push(part),
        }
    }
    vec![page.to_owned(), beside.join("/")]
}

fn headings(page: &Source) -> impl Iterator<Item = String> {
    let lines = page.text.lines().filter(|line| line.starts_with('#'));
    lines.map(|line| line.trim_start_matches('#').trim().replace('`', ""))
}

/// What is wrong with the citations of these files.
fn wrong_citations(sources: &[Source]) -> Vec<String> {
    let mut wrong = Vec::new();
    for source in sources {
        for Citation { line, page, section } in citations(source) {
            let places = resolve(source, &page);
            let Some(found) = sources.iter().find(|s| places.contains(&s.name)) else {
                wrong.push(format!("{}:{line}: there is no {page}", source.name));
                continue;
            };
            let begins = |heading: &String, cited: &str| {
                let rest = heading.strip_prefix(&cited.replace('`', ""));
                rest.is_some_and(|rest| !rest.starts_with(char::is_alphanumeric))
            };
            if let Some(cited) = section.filter(|cited| !headings(found).any(|heading| begins(&heading, cited))) {
                wrong.push(format!("{}:{line}: {page} has no section {cited:?}", source.name));
            }
        }
    }
    wrong
}

/// Pages that name only what exists. Entries of docs/decisions.md tell of their day.
fn is_kept(page: &Source) -> bool {
    let is_doc = page.name.starts_with("docs/") && page.name != "docs/decisions.md";
    page.is("md") && (is_doc || ["ARCHITECTURE.md", "CONTRIBUTING.md"].contains(&page.name.as_str()))
}

/// What stands between backticks, by line.
fn code_spans(page: &Source) -> Vec<(usize, &str)> {
    let (mut out, mut fenced) = (Vec::new(), false);
    for (i, line) in page.text.lines().enumerate() {
        fenced ^= line.starts_with("```");
        if !fenced {
            out.extend(line.split('`').skip(1).step_by(2).map(|span| (i + 1, span)));
        }
    }
    out
}

/// A constant, a variable of the environment, or a path of identifiers such as `Stack::send`.
fn is_name(span: &str) -> bool {
    let is_part = |part: &str| {
        let first = part.starts_with(|c: char| c.is_ascii_alphabetic());
        first && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    };
    let is_constant =
        |part: &str| part.len() > 3 && part.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_');
    let parts: Vec<&str> = span.trim_end_matches("()").split("::").collect();
    parts.iter().all(|part| is_part(part)) && (parts.len() > 1 || is_constant(span))
}

/// `a/{b,c}` as `a/b` and `a/c`.
fn spread(path: &str) -> Vec<String> {
    let Some((head, (list, tail))) = path.split_once('{').and_then(|(h, rest)| Some((h, rest.split_once('}')?))) else {
        return vec![path.to_owned()];
    };
    list.split(',').map(|item| format!("{head}{}{tail}", item.trim())).collect()
}

/// What the pages name and the sources do not have.
fn wrong_names(sources: &[Source], exists: impl Fn(&str) -> bool) -> Vec<String> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let code = sources.iter().filter(|s| !s.is("md"));
    let words: BTreeSet<&str> = code.flat_map(|s| s.text.split(|c| !is_part(c))).collect();
    let folders: BTreeSet<&str> = sources.iter().filter_map(|s| Some(s.name.split_once('/')?.0)).collect();
    let mut wrong = Vec::new();
    for page in sources.iter().filter(|s| is_kept(s)) {
        for (line, span) in code_spans(page) {
            let missing = |name: &str| format!("{}:{line}: there is no `{name}`", page.name);
            if is_name(span) {
                let names = span.trim_end_matches("()").split("::");
                wrong.extend(names.filter(|name| !words.contains(name)).map(missing));
            }
            let in_tree = span.split_once('/').is_some_and(|(first, _)| folders.contains(first));
            let is_path = span.chars().all(|c| is_part(c) || "/.-{}, ".contains(c));
            if in_tree && is_path {
                let places = spread(span);
                let found = |place: &String| exists(place) || exists(&format!("{place}.rs"));
                wrong.extend(places.iter().filter(|place| !found(place)).map(|place| missing(place)));
            }
        }
    }
    wrong
}

#[test]
fn every_cited_page_and_section_exists() {
    let wrong = wrong_citations(source::all());
    assert!(wrong.is_empty(), "{} wrong citations\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn what_the_pages_name_exists() {
    let wrong = wrong_names(source::all(), |place| source::root().join(place).exists());
    assert!(wrong.is_empty(), "{} wrong names\n{}", wrong.len(), wrong.join("\n"));
}

#[cfg(test)]
mod samples {
    use super::*;

    fn repository(comment: &str, page: &str) -> Vec<Source> {
        vec![
            Source::new(
                "x/src/lib.rs",
                &format!("{comment}\npub const KNOWN_MAX: u8 = 1;\nimpl Known {{ fn verb() {{}} }}"),
            ),
            Source::new("docs/wire.md", &format!("# Wire\n## Rekey and `more`\n{page}\n")),
        ]
    }

    #[test]
    fn missing_pages_and_sections_are_found_and_others_are_not() {
        for (comment, problems) in [
            ("// See docs/wire.md, \"Rekey\".", 0),
            ("/// Source: docs/wire.md,\n/// \"Rekey and more\".", 0),
            ("// See docs/wire.md (\"Rekey\").", 0),
            ("// See docs/wire.md, \"Reke\".", 1),
            ("// See docs/wire.md, \"Rules\", and docs/wire.md (\"Rules\").", 2),
            ("// See wire.md.", 1),
            ("// See docs/link.md, \"Rekey\".", 1),
        ] {
            let wrong = wrong_citations(&repository(comment, ""));
            assert_eq!(wrong.len(), problems, "{comment}: {wrong:?}");
        }
        for (page, problems) in [
            ("[wire](wire.md), \"Rekey\"", 0),
            ("[the page](../docs/wire.md)", 0),
            ("[wire.md](wire.md), \"Nothing\"", 1),
            ("see docs/trust.md", 1),
        ] {
            let wrong = wrong_citations(&repository("", page));
            assert_eq!(wrong.len(), problems, "{page}: {wrong:?}");
        }
    }

    #[test]
    fn names_and_paths_that_are_gone_are_found() {
        for (page, problems) in [
            ("`KNOWN_MAX`, `Known::verb`, `x/src/lib.rs`, `x/src/{lib, other}`, `plain words`, `OK`", 1),
            ("`GONE_MAX`", 1),
            ("`Known::gone`", 1),
            ("`x/gone/`", 1),
        ] {
            let wrong = wrong_names(&repository("", page), |place| ["x/src/lib.rs"].contains(&place));
            assert_eq!(wrong.len(), problems, "{page}: {wrong:?}");
        }
    }
}
