//! Which crate may import which, and what may not come in below the wall.

use crate::source;
use serde_json::Value;
use std::process::Command;

/// The rings of ARCHITECTURE.md: each crate and the crates of ours that it may use.
const RINGS: [(&str, &[&str]); 11] = [
    ("pilot-core", &[]),
    ("pilot-stack", &["pilot-core"]),
    ("pilot-store", &["pilot-core"]),
    ("pilot-node", &["pilot-core", "pilot-stack", "pilot-store"]),
    ("pilot-rendezvous", &["pilot-core", "pilot-store", "pilot-node"]),
    ("pilotctl", &["pilot-core", "pilot-node", "pilot-rendezvous"]),
    ("pilot-ffi", &["pilot-node"]),
    ("pilot-bench", &["pilot-core", "pilot-stack", "pilot-node", "pilot-rendezvous", "pilot-tests"]),
    ("pilot-fuzz", &["pilot-core", "pilot-stack", "pilot-store", "pilot-node", "pilot-tests"]),
    ("pilot-tests", &["pilot-core", "pilot-stack", "pilot-node", "pilot-rendezvous"]),
    ("xtask", &[]),
];

/// What the pure crates may take from outside: no clock, socket, thread or file among them.
const PURE: [&str; 12] = [
    "blake2",
    "chacha20",
    "chacha20poly1305",
    "ed25519-dalek",
    "hmac",
    "litemap",
    "ml-kem",
    "self_cell",
    "smoltcp",
    "x25519-dalek",
    "zeroize",
    "pilot-core",
];

/// What the code of the pure crates may not name.
const IMPURE: [&str; 6] = ["std::time", "std::net::Udp", "std::thread", "std::fs", "HashMap", "SystemTime"];

/// What is wrong with one crate's imports.
fn wrong_imports(name: &str, dependencies: &[&str]) -> Vec<String> {
    let Some((_, allowed)) = RINGS.iter().find(|(known, _)| *known == name) else {
        return vec![format!("{name} is in no ring")];
    };
    let is_pure = ["pilot-core", "pilot-stack"].contains(&name);
    let is_wrong = |dependency: &str| {
        let is_ours = dependency.starts_with("pilot");
        (is_ours && !allowed.contains(&dependency)) || (is_pure && !PURE.contains(&dependency))
    };
    let wrong = dependencies.iter().filter(|dependency| is_wrong(dependency));
    wrong.map(|dependency| format!("{name} must not use {dependency}")).collect()
}

/// Impure names in the code of a pure crate.
fn impure_names(source: &source::Source) -> Vec<String> {
    let is_pure = ["core/src/", "stack/src/"].iter().any(|folder| source.name.starts_with(folder)) && !source.is_test();
    let named = IMPURE.iter().filter(|word| is_pure && source.code.contains(*word));
    named.map(|word| format!("{} names {word}", source.name)).collect()
}

#[test]
fn imports_go_inwards_only_and_nothing_async_ships() {
    let mut cargo = Command::new(env!("CARGO"));
    let output = cargo.args(["metadata", "--format-version=1"]).current_dir(source::root()).output().unwrap();
    assert!(output.status.success());
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let members: Vec<&Value> = metadata["workspace_members"].as_array().unwrap().iter().collect();
    let packages = metadata["packages"].as_array().unwrap();
    let (mut seen, mut wrong) = (0, Vec::new());
    for package in packages.iter().filter(|p| members.contains(&&p["id"])) {
        let normal = package["dependencies"].as_array().unwrap().iter().filter(|d| d["kind"].is_null());
        let dependencies: Vec<&str> = normal.map(|d| d["name"].as_str().unwrap()).collect();
        wrong.extend(wrong_imports(package["name"].as_str().unwrap(), &dependencies));
        seen += 1;
    }
    assert_eq!(wrong, Vec::<String>::new());
    assert_eq!(seen, RINGS.len());
    let async_runtime = packages.iter().find(|p| ["tokio", "async-std", "smol"].contains(&p["name"].as_str().unwrap()));
    assert!(async_runtime.is_none(), "an async runtime has come in");
}

#[test]
fn pure_crates_name_no_clock_socket_thread_file_or_hash_map() {
    assert!(source::with_extension("rs").count() > 40);
    let wrong: Vec<String> = source::with_extension("rs").flat_map(impure_names).collect();
    assert_eq!(wrong, Vec::<String>::new());
}

#[test]
fn imports_outwards_and_impure_names_are_found() {
    assert_eq!(wrong_imports("pilot-core", &["blake2", "pilot-node", "mio"]).len(), 2);
    assert_eq!(wrong_imports("pilot-node", &["pilot-stack", "mio"]).len(), 0);
    assert_eq!(wrong_imports("pilot-other", &[]).len(), 1);
    let sample = |name| source::Source::new(name, "use std::fs::File;\n// SystemTime\n");
    assert_eq!(impure_names(&sample("core/src/lib.rs")), ["core/src/lib.rs names std::fs"]);
    assert_eq!(impure_names(&sample("node/src/lib.rs")).len(), 0);
}
