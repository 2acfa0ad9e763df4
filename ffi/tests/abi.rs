//! Checks that the header, the exported symbols and the SONAME are those of the repository. `PILOT_BLESS=1` writes the header
//! and the list of symbols anew.
#![allow(clippy::unwrap_used, reason = "tests")]

mod harness;

use cbindgen::{Builder, Config, DocumentationStyle, Language, Style};
use harness::{here, library_folder, tool};
use std::collections::BTreeSet;
use std::process::Command;

const INTRODUCTION: &str = "\
/* libpilot: a Pilot node for C programs. C99 and C++11. Made from the library's sources: do not edit.
 *
 * Functions that give an int, an int64_t or a pilot_handle give a value >= 0, or a negative PILOT_E_ code with its text in
 * *error, which may be NULL. Every function may be called from any thread, and a handle may be used by several threads at
 * once. Strings are UTF-8 and NUL-terminated; nothing that is handed in is kept after the call. Time limits are in
 * milliseconds: 0 does not wait, a negative one waits for ever. A handle that was closed, or is of another kind, is an error.
 *
 * A stream is a file descriptor (pilot_connect, pilot_accept), or a handle that moves bytes without the kernel
 * (pilot_stream_connect, pilot_stream_accept). After fork() the child has the descriptors; the library is the parent's.
 */";

fn bless() -> bool {
    std::env::var_os("PILOT_BLESS").is_some()
}

fn listed() -> BTreeSet<String> {
    let text = std::fs::read_to_string(here().join("symbols.txt")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

#[test]
fn the_header_is_made_from_the_sources() {
    let mut config = Config {
        language: Language::C,
        style: Style::Both,
        cpp_compat: true,
        include_guard: Some("PILOT_H".into()),
        header: Some(INTRODUCTION.into()),
        no_includes: true,
        sys_includes: vec!["stddef.h".into(), "stdint.h".into()],
        usize_is_size_t: true,
        documentation_style: DocumentationStyle::C,
        line_length: 120,
        tab_width: 2,
        ..Config::default()
    };
    // The official interface has a header of its own.
    config.export.exclude = listed().into_iter().filter(|name| !name.starts_with("pilot_")).collect();
    config.export.exclude.extend(["HandleErr".into(), "ReadResult".into(), "WriteResult".into()]);
    config.export.include = vec!["pilot_handle".into()];
    let mut made = Vec::new();
    Builder::new().with_src(here().join("src/lib.rs")).with_config(config).generate().unwrap().write(&mut made);
    let made = String::from_utf8(made).unwrap();
    let path = here().join("include/pilot.h");
    if bless() {
        std::fs::write(&path, &made).unwrap();
    }
    let committed = std::fs::read_to_string(path).unwrap();
    assert!(committed == made, "include/pilot.h is stale: PILOT_BLESS=1 cargo test -p pilot-ffi --test abi");
    let functions = listed().into_iter().filter(|name| name.starts_with("pilot_"));
    functions.for_each(|name| assert!(made.contains(&format!("{name}(")), "{name} is missing in the header"));
}

#[test]
fn exactly_the_listed_symbols_are_exported() {
    let library = library_folder().join("libpilot.so");
    let output = Command::new("nm").args(["-D", "--defined-only"]).arg(&library).output().unwrap();
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    let exported: BTreeSet<String> =
        text.lines().filter_map(|line| line.split_whitespace().nth(2)).map(str::to_owned).collect();
    if bless() {
        let list: Vec<&str> = exported.iter().map(String::as_str).collect();
        std::fs::write(here().join("symbols.txt"), list.join("\n") + "\n").unwrap();
    }
    assert_eq!(exported, listed());
    let official = exported.iter().filter(|name| !name.starts_with("pilot_"));
    assert_eq!(official.count(), 48, "the official library has 48");

    let output = Command::new("readelf").arg("-d").arg(&library).output().unwrap();
    assert!(String::from_utf8_lossy(&output.stdout).contains("[libpilot.so.0]"), "the SONAME");
}

#[test]
fn the_header_is_clean_for_every_compiler() {
    let folder = harness::Folder::new("header");
    let source = "#include \"pilot.h\"\nint main(void) { return pilot_version() == NULL; }\n";
    let mut count = 0;
    for (compiler, standard, name) in
        [("gcc", "c99", "a.c"), ("g++", "c++11", "a.cpp"), ("clang", "c99", "a.c"), ("clang++", "c++11", "a.cpp")]
    {
        let Some(compiler) = tool(compiler) else { continue };
        std::fs::write(folder.path.join(name), source).unwrap();
        let compiled = Command::new(compiler)
            .args([&format!("-std={standard}"), "-Wall", "-Wextra", "-Werror", "-pedantic", "-fsyntax-only", "-I"])
            .arg(here().join("include"))
            .arg(folder.path.join(name))
            .status()
            .unwrap();
        assert!(compiled.success(), "{name} as {standard}");
        count += 1;
    }
    assert!(count >= 1);
}
