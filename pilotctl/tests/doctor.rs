//! The doctor, on nodes that are well, on one without its rendezvous, and without a daemon.
#![allow(clippy::unwrap_used, reason = "tests")]

mod harness;

use harness::{Lab, Node};
use serde_json::Value;
use std::time::{Duration, Instant};

/// The checks of a run, which ends in time, and its exit status.
fn examine(node: &Node, more: &[&str]) -> (Vec<Value>, Option<i32>) {
    let begin = Instant::now();
    let output = node.run(&[&["doctor", "--json"][..], more].concat());
    assert!(begin.elapsed() < Duration::from_secs(30), "the time of a busy machine: {:?}", begin.elapsed());
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    let checks = told["data"]["checks"].as_array().unwrap().clone();
    for check in &checks {
        let text = |name: &str| check[name].as_str().unwrap();
        assert!(["ok", "warn", "fail"].contains(&text("status")) && !text("evidence").is_empty(), "{check}");
        assert!(text("status") != "fail" || !text("todo").is_empty(), "{check}");
    }
    (checks, output.status.code())
}

fn status<'a>(checks: &'a [Value], id: &str) -> &'a str {
    checks.iter().find(|check| check["id"] == id).unwrap()["status"].as_str().unwrap()
}

#[test]
fn a_node_that_is_well_passes_and_its_report_has_no_secrets() {
    let mut lab = Lab::new();
    let (a, b) = lab.friends();
    a.ok(&["send-message", "worker-node", "--data", "the text of a message"]);
    b.ok(&["send-message", "primary-node", "--data", "the text of an answer"]);
    let report = lab.folder.join("report.json");
    let (checks, code) = examine(&a, &["--report", report.to_str().unwrap()]);
    assert_eq!((checks.len(), code), (14, Some(0)), "{checks:?}");
    for id in ["daemon", "versions", "permissions", "ipv4", "udp", "tls", "rendezvous", "relay", "clock", "nat", "mtu"]
    {
        assert_eq!(status(&checks, id), "ok", "{id}: {checks:?}");
    }
    let versions = checks.iter().find(|check| check["id"] == "versions").unwrap();
    let own = env!("CARGO_PKG_VERSION");
    assert_eq!(versions["evidence"], format!("pilotctl and daemon {own}, rendezvous {own}"));
    let bundle: Value = serde_json::from_str(&std::fs::read_to_string(&report).unwrap()).unwrap();
    assert_eq!(bundle["info"]["hostname"], "primary-node");
    assert_eq!(
        (&bundle["paths"][0]["hostname"], &bundle["checks"][0]["id"]),
        (&"worker-node".into(), &"daemon".into())
    );
    assert!(
        bundle["log"].as_array().unwrap().iter().any(|line| line.as_str().unwrap().contains("peer_up")),
        "{bundle}"
    );
    let text = bundle.to_string();
    let info = a.json(&["info"]);
    let rendezvous = info["rendezvous_address"].as_str().unwrap().split_once('@').unwrap().0;
    let pin = a.json(&["trust"])["trusted"][0]["public_key"].as_str().unwrap().to_owned();
    let seed: String = std::fs::read(a.home.join("identity")).unwrap().iter().map(|b| format!("{b:02x}")).collect();
    for secret in
        [info["public_key"].as_str().unwrap(), rendezvous, &pin, &seed[..32], &seed[seed.len() - 32..], "the text of"]
    {
        assert!(!text.contains(secret), "{secret}");
    }
    assert_eq!(std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(&report).unwrap()) & 0o777, 0o600);
    let again = a.run(&["doctor", "--report", report.to_str().unwrap()]);
    assert_eq!(again.status.code(), Some(8), "a report replaces no file");
    assert!(
        String::from_utf8_lossy(&again.stdout).lines().next().unwrap().starts_with("ok    daemon          process ")
    );
}

#[test]
fn a_dead_rendezvous_fails_its_checks_and_no_others() {
    let mut lab = Lab::new();
    let node = lab.node("lonely-node");
    lab.kill_rendezvous();
    let (checks, code) = examine(&node, &[]);
    assert_eq!(code, Some(1));
    let failed: Vec<&str> =
        checks.iter().filter(|check| check["status"] == "fail").map(|check| check["id"].as_str().unwrap()).collect();
    assert_eq!(failed, ["udp", "rendezvous"], "{checks:?}");
    let error = String::from_utf8_lossy(&node.run(&["doctor"]).stderr).into_owned();
    assert!(error.contains("checks failed: udp, rendezvous"), "{error}");
}

#[test]
fn without_a_daemon_what_needs_none_is_examined() {
    let mut lab = Lab::new();
    let node = lab.node("sleeping-node");
    node.ok(&["config", "--set", &format!("rendezvous={}", lab.endpoint().unwrap())]);
    node.ok(&["daemon", "stop"]);
    let (checks, code) = examine(&node, &[]);
    assert_eq!((checks.len(), code), (14, Some(0)), "{checks:?}");
    for (id, wanted) in
        [("daemon", "warn"), ("rendezvous", "warn"), ("mtu", "warn"), ("udp", "ok"), ("permissions", "ok")]
    {
        assert_eq!(status(&checks, id), wanted, "{id}: {checks:?}");
    }
    let daemon = checks.iter().find(|check| check["id"] == "daemon").unwrap();
    assert_eq!(daemon["todo"], "pilotctl daemon start");
}
