//! The rules that no compiler checks: who may import whom, and how long a file may be.
#![allow(clippy::unwrap_used, reason = "tests")]

use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// The rings of ARCHITECTURE.md: each crate and the crates of ours that it may use.
const RINGS: [(&str, &[&str]); 11] = [
    ("pilot-core", &[]),
    ("pilot-stack", &["pilot-core"]),
    ("pilot-store", &["pilot-core"]),
    ("pilot-node", &["pilot-core", "pilot-stack", "pilot-store"]),
    ("pilot-rendezvous", &["pilot-core", "pilot-store"]),
    ("pilotctl", &["pilot-core", "pilot-node", "pilot-rendezvous"]),
    ("pilot-ffi", &["pilot-node"]),
    ("pilot-bench", &["pilot-core", "pilot-stack", "pilot-node", "pilot-rendezvous", "pilot-tests"]),
    ("pilot-fuzz", &["pilot-core", "pilot-stack", "pilot-tests"]),
    ("pilot-tests", &["pilot-core", "pilot-stack", "pilot-rendezvous"]),
    ("xtask", &[]),
];

/// What the pure rings may take from outside: no clock, socket, thread or file among them.
const PURE: [&str; 10] = [
    "blake2",
    "chacha20",
    "chacha20poly1305",
    "ed25519-dalek",
    "hmac",
    "litemap",
    "smoltcp",
    "x25519-dalek",
    "zeroize",
    "pilot-core",
];

#[test]
fn imports_go_inwards_only_and_nothing_async_ships() {
    let output =
        Command::new(env!("CARGO")).args(["metadata", "--format-version=1"]).current_dir(root()).output().unwrap();
    assert!(output.status.success());
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let members: Vec<&Value> = metadata["workspace_members"].as_array().unwrap().iter().collect();
    let packages = metadata["packages"].as_array().unwrap();
    let mut seen = 0;
    for package in packages.iter().filter(|p| members.contains(&&p["id"])) {
        let name = package["name"].as_str().unwrap();
        let (_, allowed) = RINGS.iter().find(|(n, _)| *n == name).unwrap_or_else(|| panic!("{name} is in no ring"));
        let normal = package["dependencies"].as_array().unwrap().iter().filter(|d| d["kind"].is_null());
        for dependency in normal.map(|d| d["name"].as_str().unwrap()) {
            assert!(
                !dependency.starts_with("pilot") || allowed.contains(&dependency),
                "{name} must not use {dependency}"
            );
            let pure = ["pilot-core", "pilot-stack"].contains(&name);
            assert!(!pure || PURE.contains(&dependency), "{name} is pure and must not use {dependency}");
        }
        seen += 1;
    }
    assert_eq!(seen, RINGS.len());
    let async_runtime = packages.iter().find(|p| ["tokio", "async-std", "smol"].contains(&p["name"].as_str().unwrap()));
    assert!(async_runtime.is_none(), "an async runtime has come in");
}

fn sources(folder: &Path, out: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.file_name().and_then(|n| n.to_str()) {
            Some("target" | ".git") => {}
            _ if path.is_dir() => sources(&path, out),
            Some(name) if name.ends_with(".rs") => out.push(path),
            _ => {}
        }
    }
}

#[test]
fn pure_rings_name_no_clock_socket_thread_file_or_hash_map_and_files_stay_short() {
    let mut files = Vec::new();
    sources(&root(), &mut files);
    assert!(files.len() > 40);
    for path in files {
        let text = std::fs::read_to_string(&path).unwrap();
        let name = path.strip_prefix(root()).unwrap().display().to_string();
        let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
        assert!(code.lines().count() <= 800, "{name} has {} lines", code.lines().count());
        let pure = (name.starts_with("core/src") || name.starts_with("stack/src")) && !name.contains("tests");
        for word in ["std::time", "std::net::Udp", "std::thread", "std::fs", "HashMap", "SystemTime"] {
            assert!(!pure || !code.contains(word), "{name} names {word}");
        }
        let unsafe_here = code.contains("unsafe ") && !code.contains("forbid(unsafe_code)");
        let may =
            name.starts_with("ffi/") || name.starts_with("tests/tests/tidy") || name.starts_with("node/src/lib.rs");
        assert!(!unsafe_here || may, "{name} uses unsafe");
    }
}
