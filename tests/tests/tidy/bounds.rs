//! Every maximum of the sources stands in `docs/bounds.md`, those of tables and queues with a test that exists.

use crate::source::{self, Source};

/// The page, and the crates whose maxima it lists.
const PAGE: &str = "docs/bounds.md";
const CRATES: [&str; 7] = ["core", "stack", "store", "node", "rendezvous", "ffi", "pilotctl"];

/// A row of a table of the page.
#[derive(Debug, Default, PartialEq, Eq)]
struct Row<'a> {
    maxima: Vec<&'a str>,
    /// File, or the beginning of its name.
    place: &'a str,
    /// Empty in the table of other maxima.
    test: &'a str,
}

fn is_maximum(name: &str) -> bool {
    let is_constant = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
    name.contains("MAX") && name.chars().all(is_constant)
}

fn rows(page: &str) -> Vec<Row<'_>> {
    page.lines()
        .filter(|line| line.starts_with("| `"))
        .map(|line| {
            let mut row = Row::default();
            for span in line.split('`').skip(1).step_by(2) {
                match span {
                    name if is_maximum(name) => row.maxima.push(name),
                    place if place.contains('/') => row.place = place,
                    test => row.test = test,
                }
            }
            row
        })
        .collect()
}

/// The maxima that are whole numbers, by the file that has them.
fn maxima(sources: &[Source]) -> Vec<(&str, &str)> {
    let is_counted = |source: &&Source| {
        let crate_name = source.name.split_once("/src/").map(|(name, _)| name);
        source.is("rs") && !source.is_test() && crate_name.is_some_and(|name| CRATES.contains(&name))
    };
    sources
        .iter()
        .filter(is_counted)
        .flat_map(|source| constants(&source.code).map(|name| (&*source.name, name)))
        .collect()
}

fn constants(code: &str) -> impl Iterator<Item = &str> {
    code.split("const ").skip(1).filter_map(|behind| {
        let (name, kind) = behind.split_once(": ")?;
        let is_number = ["usize", "u8", "u16", "u32", "u64", "i32"]
            .iter()
            .any(|number| kind.strip_prefix(number).is_some_and(|rest| rest.starts_with([' ', ';'])));
        (is_number && is_maximum(name)).then_some(name)
    })
}

fn wrong_bounds(page: &str, sources: &[Source]) -> Vec<String> {
    let (rows, maxima) = (rows(page), maxima(sources));
    let has = |row: &Row<'_>, file: &str, name: &str| file.starts_with(row.place) && row.maxima.contains(&name);
    let missing = maxima.iter().filter(|(file, name)| !rows.iter().any(|row| has(row, file, name)));
    let mut wrong: Vec<String> =
        missing.map(|(file, name)| format!("{file}: {name} is not listed in {PAGE}")).collect();
    for row in &rows {
        let is_there = |name: &&&str| maxima.iter().any(|(file, other)| file.starts_with(row.place) && other == *name);
        wrong.extend(
            row.maxima.iter().filter(|name| !is_there(name)).map(|name| format!("{PAGE}: no {name} in {}", row.place)),
        );
        let head = format!("fn {}(", row.test);
        if !row.test.is_empty() && !sources.iter().any(|source| source.is("rs") && source.text.contains(&head)) {
            wrong.push(format!("{PAGE}: no test {}", row.test));
        }
    }
    wrong
}

#[test]
fn every_maximum_is_listed_and_tables_have_tests() {
    let page = source::all().iter().find(|source| source.name == PAGE).unwrap();
    let wrong = wrong_bounds(&page.text, source::all());
    assert!(wrong.is_empty(), "{} wrong bounds\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn missing_and_stale_rows_are_found() {
    let sources = [
        Source::new(
            "core/src/a.rs",
            "const A_MAX: usize = 1;\nconst B_MAX: u8 = 2;\nconst C_MAX: Duration = D;\nfn fills_a() {}",
        ),
        Source::new("bench/src/a.rs", "const E_MAX: usize = 1;"),
    ];
    let page = "| `A_MAX` | things | `core/src/` | `fills_a` |\n| `core/src/` | `B_MAX` |";
    assert_eq!(wrong_bounds(page, &sources), Vec::<String>::new());
    let stale = "| `A_MAX` | things | `core/src/` | `fills` |\n| `node/src/` | `B_MAX` |";
    let wrong = wrong_bounds(stale, &sources);
    assert!(wrong.len() == 3 && wrong[0].contains("B_MAX is not listed"), "{wrong:?}");
}
