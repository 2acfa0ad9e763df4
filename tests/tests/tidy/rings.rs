//! No files of a crate import each other in a ring: each file can be understood, built and tested after those it names.
//!
//! An import is a `use` or a path in the code. What a module hands on (`pub use`) counts for the file that has it, as does a
//! name that a module's children find in its imports; `mod` alone counts for nothing.

use crate::modules::Modules;
use crate::source::{self, Source};
use std::collections::{BTreeMap, BTreeSet};

/// The rings of all crates among these files, each as the names of its files.
fn rings(sources: &[&Source]) -> Vec<Vec<String>> {
    let files: BTreeMap<&str, &Source> = sources.iter().map(|s| (s.name.as_str(), *s)).collect();
    let roots = sources.iter().filter(|s| is_root(&s.name));
    roots.flat_map(|root| components(&Modules::of(root, &files).edges())).filter(|ring| ring.len() > 1).collect()
}

/// The file begins a crate: a library, a program, a test, an example, a bench.
fn is_root(name: &str) -> bool {
    let parts: Vec<&str> = name.split('/').collect();
    let crate_len = if name.starts_with("bench/rivals/") { 2 } else { 1 };
    let (folders, programs) = (["tests", "examples", "benches", "fuzz_targets"], ["lib.rs", "main.rs"]);
    match parts.get(crate_len..).unwrap_or_default() {
        ["src", "bin", _] | ["src", "bin", _, "main.rs"] | ["build.rs"] => true,
        ["src", file] => programs.contains(file),
        [folder, _] | [folder, _, "main.rs"] => folders.contains(folder),
        _ => false,
    }
}

/// The strongly connected components of a graph (Tarjan 1972).
fn components(edges: &BTreeMap<String, BTreeSet<String>>) -> Vec<Vec<String>> {
    #[derive(Default)]
    struct Search<'a> {
        /// When a node was found, and the earliest node that it reaches.
        found: BTreeMap<&'a str, (usize, usize)>,
        open: Vec<&'a str>,
        out: Vec<Vec<String>>,
    }
    fn visit<'a>(search: &mut Search<'a>, edges: &'a BTreeMap<String, BTreeSet<String>>, node: &'a str) -> usize {
        let number = search.found.len();
        search.found.insert(node, (number, number));
        search.open.push(node);
        let mut low = number;
        for next in edges.get(node).into_iter().flatten() {
            match search.found.get(next.as_str()) {
                None => low = low.min(visit(search, edges, next)),
                Some((found, _)) if search.open.contains(&next.as_str()) => low = low.min(*found),
                Some(_) => {}
            }
        }
        search.found.insert(node, (number, low));
        if low == number {
            let at = search.open.iter().position(|n| *n == node).expect("it was put there above");
            search.out.push(search.open.drain(at..).map(str::to_owned).collect());
        }
        low
    }
    let mut search = Search::default();
    for node in edges.keys() {
        if !search.found.contains_key(node.as_str()) {
            visit(&mut search, edges, node);
        }
    }
    search.out
}

#[test]
fn no_files_import_each_other_in_a_ring() {
    let sources: Vec<&Source> = source::with_extension("rs").collect();
    let mut rings = rings(&sources);
    rings.sort_by_key(|ring| std::cmp::Reverse(ring.len()));
    let text: Vec<String> = rings.iter().map(|ring| format!("{}: {}", ring.len(), ring.join(", "))).collect();
    assert!(rings.is_empty(), "{} rings of imports\n{}", rings.len(), text.join("\n"));
}

#[cfg(test)]
mod samples {
    use super::*;

    fn rings_of(files: &[(&str, &str)]) -> Vec<Vec<String>> {
        let sources: Vec<Source> =
            files.iter().map(|(name, text)| Source::new(&format!("x/src/{name}"), text)).collect();
        rings(&sources.iter().collect::<Vec<_>>())
    }

    #[test]
    fn a_ring_is_found_however_it_is_written() {
        for (a, b) in [
            ("use crate::b::B;", "use super::a::A;"),
            ("use crate::{\n    b::{\n        B,\n    },\n};", "fn f() { crate::a::f(); }"),
            ("use super::B;", "use super::A;"),
            ("mod inner { use super::super::b; }", "use crate::a;"),
            ("fn f(b: &super::b::B) {}", "fn f() { use crate::a::A as C; }"),
        ] {
            let lib = "mod a;\nmod b;\npub use a::A;\npub use b::B;";
            let found = rings_of(&[("lib.rs", lib), ("a.rs", a), ("b.rs", b)]);
            assert_eq!(found, [["x/src/a.rs", "x/src/b.rs"]], "{a} and {b}");
        }
    }

    #[test]
    fn parent_and_child_are_a_ring_when_both_need_each_other() {
        let files = |parent, child| [("lib.rs", "mod p;"), ("p/mod.rs", parent), ("p/c.rs", child)];
        let mutual = files("mod c;\npub use c::C;\npub struct P(C);", "use super::P;\npub struct C;");
        assert_eq!(rings_of(&mutual).len(), 1);
        let handed_on = files("mod c;\npub use c::C;\npub struct P;", "use super::P;\npub struct C;");
        assert_eq!(rings_of(&handed_on), Vec::<Vec<String>>::new(), "handing a name on is no need");
    }

    #[test]
    fn what_a_module_hands_on_counts_for_the_file_that_has_it() {
        let files = [
            ("lib.rs", "mod p;\nmod q;"),
            ("p/mod.rs", "mod c;\npub use c::*;\nuse crate::q::Q;\npub struct P(Q);"),
            ("p/c.rs", "pub struct C;"),
            ("q.rs", "use crate::p::C;\npub struct Q(C);"),
        ];
        assert_eq!(rings_of(&files), Vec::<Vec<String>>::new());
    }

    #[test]
    fn tests_of_units_and_other_crates_do_not_count() {
        let a = "use other::b::B;\n#[cfg(test)]\nmod tests {\n    use crate::b::B;\n}";
        assert_eq!(rings_of(&[("lib.rs", "mod a;\nmod b;"), ("a.rs", a), ("b.rs", "use crate::a::A;")]).len(), 0);
    }
}
