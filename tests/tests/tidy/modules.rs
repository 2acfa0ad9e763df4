//! Owns the modules of a crate: which file each is in, and which other modules its code names.
//!
//! A crate begins at a root file; `mod name;` leads to the other files. Tests of units are no part of it.

use crate::source::Source;
use std::collections::{BTreeMap, BTreeSet};

/// A module's place, from the crate's root on.
pub(crate) type ModulePath = Vec<String>;

/// A path as it is written, and under which name a `use` makes it known.
#[derive(Debug)]
struct Import {
    path: Vec<String>,
    name: String,
}

/// One module, in a file of its own or within another's.
#[derive(Debug, Default)]
struct Module {
    file: String,
    imports: Vec<Import>,
    /// What is made known to others: named by others, this module alone needs nothing of it.
    exports: Vec<Import>,
    /// Paths in expressions and types.
    named: Vec<Vec<String>>,
    /// Names of items, for globs.
    items: BTreeSet<String>,
    /// Every identifier of the code outside `use`.
    words: BTreeSet<String>,
}

/// The modules of one crate.
#[derive(Debug, Default)]
pub(crate) struct Modules(BTreeMap<ModulePath, Module>);

/// Steps through re-exports that are followed; more are a circle.
const HOPS_MAX: usize = 8;

impl Modules {
    /// Of the crate that begins in `root`.
    pub(crate) fn of(root: &Source, files: &BTreeMap<&str, &Source>) -> Self {
        let mut modules = Self::default();
        let mut waiting = vec![(Vec::new(), root)];
        while let Some((path, source)) = waiting.pop() {
            let children = modules.read(&path, source);
            for child in children {
                let name = child.join("/");
                let folder = folder_of(root, source, path.len());
                let inner = child[path.len()..].join("/");
                let places = [format!("{folder}/{inner}.rs"), format!("{folder}/{inner}/mod.rs")];
                let found = places.iter().find_map(|place| files.get(place.as_str()));
                let source = found.unwrap_or_else(|| panic!("module {name} of {} has no file: {places:?}", root.name));
                waiting.push((child, *source));
            }
        }
        modules
    }

    /// Reads one file; gives the modules that have files of their own.
    fn read(&mut self, path: &ModulePath, source: &Source) -> Vec<ModulePath> {
        let tokens = tokens(&source.code);
        let mut children = Vec::new();
        // Inline modules, with the depth of braces at which each ends.
        let (mut inside, mut depth, mut at) = (vec![(path.clone(), 0usize)], 0usize, 0);
        self.module(path, source);
        while at < tokens.len() {
            let here = inside.last().unwrap().0.clone();
            match &tokens[at..] {
                // A file of another target, which that target's own root leads to.
                ["mod", _, ";", ..]
                    if tokens[at.saturating_sub(6)..at].windows(2).any(|pair| *pair == ["path", "="]) =>
                {
                    at += 3
                }
                ["mod", name, ";", ..] => {
                    children.push([&here[..], &[(*name).to_owned()]].concat());
                    at += 3;
                }
                ["mod", name, "{", ..] => {
                    depth += 1;
                    inside.push(([&here[..], &[(*name).to_owned()]].concat(), depth));
                    self.module(&inside.last().unwrap().0, source);
                    at += 3;
                }
                ["use", next, ..] if *next != "<" => {
                    let end = tokens[at..].iter().position(|t| *t == ";").map_or(tokens.len(), |len| at + len);
                    let mut imports = Vec::new();
                    use_tree(&[], &mut tokens[at + 1..end].iter().copied().peekable(), &mut imports);
                    let module = self.module(&here, source);
                    let is_export = at > 0 && (tokens[at - 1] == "pub" || tokens[at - 1] == ")");
                    if is_export {
                        module.exports.extend(imports)
                    } else {
                        module.imports.extend(imports)
                    }
                    at = end;
                }
                ["{", ..] => (depth, at) = (depth + 1, at + 1),
                ["}", ..] => {
                    if inside.len() > 1 && inside.last().unwrap().1 == depth {
                        inside.pop();
                    }
                    (depth, at) = (depth.saturating_sub(1), at + 1);
                }
                [word, ..] if is_word(word) => {
                    let at_top = depth == inside.last().unwrap().1;
                    at += self.module(&here, source).note(&tokens[at..], at_top);
                }
                _ => at += 1,
            }
        }
        children
    }

    fn module(&mut self, path: &ModulePath, source: &Source) -> &mut Module {
        self.0.entry(path.clone()).or_insert_with(|| Module { file: source.name.clone(), ..Module::default() })
    }

    /// Which files each file needs.
    pub(crate) fn edges(&self) -> BTreeMap<String, BTreeSet<String>> {
        let mut edges: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (path, module) in &self.0 {
            let used = |export: &&Import| module.words.contains(&export.name);
            let imports = module.imports.iter().chain(module.exports.iter().filter(used)).map(|import| &import.path);
            let needs = edges.entry(module.file.clone()).or_default();
            for named in imports.chain(&module.named) {
                needs.extend(self.file_of(path, named, 0).filter(|file| *file != module.file));
            }
        }
        edges
    }

    /// The file of what `path` means in the module `here`; `None` for other crates.
    fn file_of(&self, here: &ModulePath, path: &[String], hops: usize) -> Option<String> {
        let absolute = self.absolute(here, path)?;
        let len = (0..=absolute.len()).rev().find(|len| self.0.contains_key(&absolute[..*len]))?;
        let found = &absolute[..len];
        let module = &self.0[found];
        let Some(item) = absolute.get(len).filter(|_| hops < HOPS_MAX) else { return Some(module.file.clone()) };
        let elsewhere = || {
            let mut known = module.exports.iter().chain(&module.imports);
            let by_name = known.find(|import| import.name == *item).map(|import| import.path.clone());
            by_name.or_else(|| self.through_glob(&found.to_vec(), item))
        };
        let elsewhere = if module.items.contains(item) { None } else { elsewhere() };
        let file = elsewhere.and_then(|path| self.file_of(&found.to_vec(), &path, hops + 1));
        file.or_else(|| Some(module.file.clone()))
    }

    /// The path of an item that a module has from another one's `*`.
    fn through_glob(&self, here: &ModulePath, item: &String) -> Option<Vec<String>> {
        let globs = self.0[here].exports.iter().chain(&self.0[here].imports).filter(|import| import.name == "*");
        globs.map(|glob| &glob.path).find_map(|path| {
            let target = self.absolute(here, path)?;
            let module = self.0.get(&target)?;
            let has = module.items.contains(item) || module.exports.iter().any(|export| export.name == *item);
            has.then(|| [&path[..], std::slice::from_ref(item)].concat())
        })
    }

    /// The path from the crate's root on; `None` when it does not begin in this crate.
    fn absolute(&self, here: &ModulePath, path: &[String]) -> Option<ModulePath> {
        let (first, rest) = path.split_first()?;
        match first.as_str() {
            "crate" => Some(rest.to_vec()),
            "self" => Some([here, rest].concat()),
            "super" => {
                let up = path.iter().take_while(|part| *part == "super").count();
                Some([&here[..here.len().checked_sub(up)?], &path[up..]].concat())
            }
            _ => {
                let child = [&here[..], std::slice::from_ref(first)].concat();
                self.0.contains_key(&child).then(|| [here, path].concat())
            }
        }
    }
}

impl Module {
    /// Notes the path, item or word at the front of `tokens`; gives how many tokens it has.
    fn note(&mut self, tokens: &[&str], at_top: bool) -> usize {
        const ITEMS: [&str; 8] = ["fn", "struct", "enum", "const", "static", "type", "trait", "union"];
        if at_top && ITEMS.contains(&tokens[0]) {
            let name = tokens[1..].iter().find(|t| !["mut", "fn", "unsafe", "extern"].contains(*t));
            self.items.extend(name.map(|name| (*name).to_owned()));
            return 1;
        }
        if at_top && tokens.starts_with(&["macro_rules", "!"]) && tokens.len() > 2 {
            self.items.insert(tokens[2].to_owned());
        }
        let (mut path, mut len) = (vec![tokens[0].to_owned()], 1);
        while let [":", ":", next, ..] = &tokens[len..] {
            if !is_word(next) {
                break;
            }
            path.push((*next).to_owned());
            len += 3;
        }
        self.words.insert(path[0].clone());
        if path.len() > 1 {
            self.named.push(path);
        }
        len
    }
}

/// The folder in which a file's modules lie.
fn folder_of(root: &Source, source: &Source, depth: usize) -> String {
    let (folder, file) = source.name.rsplit_once('/').unwrap_or((".", &source.name));
    let is_folder = file == "mod.rs" || (depth == 0 && source.name == root.name);
    if is_folder { folder.to_owned() } else { format!("{folder}/{}", file.trim_end_matches(".rs")) }
}

fn is_word(token: &str) -> bool {
    token.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

/// Words and signs, without lifetimes.
fn tokens(code: &str) -> Vec<&str> {
    let (mut out, mut rest) = (Vec::new(), code);
    while let Some(c) = rest.chars().next() {
        let is_part = |c: char| c.is_alphanumeric() || c == '_';
        let word = |text: &str| text.find(|c| !is_part(c)).unwrap_or(text.len());
        let len = match c {
            '\'' => 1 + word(&rest[1..]),
            c if is_part(c) => word(rest),
            c => c.len_utf8(),
        };
        let (token, behind) = rest.split_at(len);
        if !c.is_whitespace() && c != '\'' {
            out.push(token);
        }
        rest = behind;
    }
    out
}

type Tokens<'a, 'b> = std::iter::Peekable<std::iter::Copied<std::slice::Iter<'b, &'a str>>>;

/// Takes one tree of a `use`, to the comma or brace behind it.
fn use_tree(prefix: &[String], tokens: &mut Tokens<'_, '_>, out: &mut Vec<Import>) {
    let mut path = prefix.to_vec();
    let mut name = None;
    while let Some(token) = tokens.next_if(|t| !["}", ","].contains(t)) {
        match token {
            ":" => {}
            "{" => {
                while tokens.peek().is_some_and(|t| *t != "}") {
                    use_tree(&path, tokens, out);
                    tokens.next_if(|t| *t == ",");
                }
                tokens.next();
                return;
            }
            "as" => name = tokens.next().map(str::to_owned),
            "*" => name = Some("*".to_owned()),
            "self" if !path.is_empty() => {}
            part => path.push(part.to_owned()),
        }
    }
    let name = name.or_else(|| path.last().cloned());
    out.extend(name.map(|name| Import { path, name }));
}

#[test]
fn trees_of_a_use_become_paths() {
    let code = "use crate::{a::{self, B as C}, d::e::*,\n    f};";
    let (mut module, root) = (Modules::default(), Source::new("x/src/lib.rs", code));
    module.read(&Vec::new(), &root);
    let found: Vec<_> =
        module.0[&Vec::new()].imports.iter().map(|i| format!("{} {}", i.path.join("::"), i.name)).collect();
    assert_eq!(found, ["crate::a a", "crate::a::B C", "crate::d::e *", "crate::f f"]);
}
