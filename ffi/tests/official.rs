//! The official Python package from PyPI, unmodified, on our library and our daemon; and what the 48 official symbols do with
//! nonsense.
#![allow(clippy::unwrap_used, reason = "tests")]

mod harness;

use harness::{Lab, here, library_folder, run, tool};
use std::path::PathBuf;
use std::process::Command;

/// The official package, installed once beside the build.
fn package() -> Option<PathBuf> {
    let python = tool("python3")?;
    let target = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("official-1.18.0");
    if !target.join("pilotprotocol").is_dir() {
        let installed = Command::new(python)
            .args(["-m", "pip", "install", "--quiet", "--no-deps", "--target"])
            .arg(&target)
            .arg("pilotprotocol==1.18.0")
            .status();
        if !installed.is_ok_and(|s| s.success()) {
            assert!(std::env::var_os("CI").is_none(), "the official package is needed in CI");
            println!("skipped: pip cannot install the official package");
            return None;
        }
    }
    Some(target)
}

#[test]
fn the_official_python_package_runs_unmodified() {
    let Some(package) = package() else { return };
    let lab = Lab::new("sdk");
    let _nodes = (lab.daemon("node-a"), lab.daemon("node-b"));
    let text = run(Command::new("python3")
        .arg(here().join("tests/official/sdk.py"))
        .args([lab.socket("node-a"), lab.socket("node-b")])
        .arg(&lab.endpoint)
        .arg(&lab.folder.path)
        .env("PYTHONPATH", package)
        .env("PILOT_LIB_PATH", library_folder().join("libpilot.so"))
        .env("HOME", &lab.folder.path));
    assert!(text.contains("the official package works"), "{text}");
}
