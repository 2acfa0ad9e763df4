//! `pilotctl mcp` with the official SDKs of MCP as clients, in the newest revision and in those before it.
#![allow(clippy::unwrap_used, reason = "tests")]

mod harness;

use harness::{Lab, Node};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const PYTHON: &str = "mcp==2.3.0";
const TYPESCRIPT: [&str; 2] = ["@modelcontextprotocol/client@2.4.0", "@modelcontextprotocol/sdk@1.32.2"];

/// A folder beside the build, in which `install` has put something once.
fn installed(name: &str, install: impl FnOnce(&Path) -> Command) -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let (done, unfinished) = (folder.join("installed"), folder.with_extension(std::process::id().to_string()));
    if !done.is_file() {
        std::fs::create_dir_all(&unfinished).unwrap();
        let mut command = install(&unfinished);
        let is_installed = command.stdin(Stdio::null()).status().is_ok_and(|status| status.success());
        if is_installed {
            std::fs::write(unfinished.join("installed"), "").unwrap();
            let _ = std::fs::rename(&unfinished, &folder);
        }
        let _ = std::fs::remove_dir_all(&unfinished);
    }
    if !done.is_file() {
        assert!(std::env::var_os("CI").is_none(), "{name} is needed in CI");
        println!("skipped: {name} cannot be installed");
        return None;
    }
    Some(folder)
}

/// Runs a client, which must succeed; gives what it tells.
fn told(mut command: Command, nodes: [&Node; 2], mode: &str) -> Value {
    command.arg(env!("CARGO_BIN_EXE_pilotctl")).args(nodes.map(|node| &node.home)).arg(mode);
    let output = command.stdin(Stdio::null()).output().unwrap();
    let (text, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{mode}: {text}{errors}");
    serde_json::from_str(text.trim()).unwrap_or_else(|e| panic!("{mode}: {e}: {text}"))
}

fn check(told: &Value, revision: &str, message: &str) {
    let tools: Vec<&str> = told["tools"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    for name in [
        "find",
        "handshake",
        "pending",
        "connect_and_ask",
        "send_message",
        "inbox",
        "read",
        "ack",
        "send_file",
        "peers",
    ] {
        assert!(tools.contains(&name), "{name} of {tools:?}");
    }
    assert!(!tools.contains(&"approve"));
    assert_eq!(told["templates"], json!(["pilot://inbox/{seq}", "pilot://received/{name}"]));
    assert_eq!(told["ack"], format!("ACK TEXT {} bytes", message.len()));
    assert_eq!((&told["message"], &told["answer"]), (&json!(message), &json!("echo")));
    assert_eq!((&told["is_error"], &told["code"]), (&json!(true), &json!("not_found")));
    assert_eq!((&told["is_listed"], &told["revision"]), (&json!(true), &json!(revision)));
}

#[test]
fn the_python_sdk_drives_pilot() {
    let folder = installed("mcp-python-2.3.0", |folder| {
        let mut pip = Command::new("python3");
        pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--target"])
            .arg(folder)
            .arg(PYTHON);
        pip
    });
    let Some(folder) = folder else { return };
    let mut lab = Lab::new();
    let (a, b) = lab.friends();
    for (mode, revision) in [("auto", "2026-07-28"), ("legacy", "2025-11-25")] {
        let mut python = Command::new("python3");
        python.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sdk/client.py")).env("PYTHONPATH", &folder);
        let told = told(python, [&a, &b], mode);
        check(&told, revision, &format!("from python {mode}"));
        assert_eq!(told["updates"], if mode == "auto" { json!(["pilot://inbox"]) } else { json!([]) });
    }
}

#[test]
fn the_typescript_sdks_drive_pilot() {
    let folder = installed("mcp-typescript-2.4.0", |folder| {
        let mut npm = Command::new("npm");
        npm.args(["install", "--silent", "--no-audit", "--no-fund", "--prefix"]).arg(folder).args(TYPESCRIPT);
        npm
    });
    let Some(folder) = folder else { return };
    // A module is looked for beside the script that imports it.
    let script = folder.join("client.mjs");
    std::fs::copy(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sdk/client.mjs"), &script).unwrap();
    let mut lab = Lab::new();
    let (a, b) = lab.friends();
    for (mode, revision) in [("auto", "2026-07-28"), ("legacy", "2025-11-25")] {
        let mut node = Command::new("node");
        node.arg(&script);
        check(&told(node, [&a, &b], mode), revision, &format!("from typescript {mode}"));
    }
}
