//! Owns the report that a person sends to another: one file with the checks, the state of the node, its paths and the newest lines of
//! its log, without what is secret.
//!
//! The members of the state are chosen one by one, so that a new one stays out until it is chosen. Keys appear nowhere, not
//! even public ones; messages neither.

use super::node::Told;
use crate::daemon::log_path;
use pilot_node::{Code, Failure};
use serde_json::{Map, Value, json};
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// Lines of the log, and the bytes at its end in which they are looked for.
const LINES_MAX: usize = 300;
const LOG_LEN_MAX: usize = 256 << 10;
/// A run of so many hexadecimal digits may be a key. Source: half of an identity key.
const KEY_DIGITS: usize = 32;
/// What is told of the node's state.
const OF_INFO: [&str; 28] = [
    "node_id",
    "address",
    "hostname",
    "version",
    "pid",
    "uptime_secs",
    "started_at",
    "home",
    "udp",
    "cipher",
    "key_agreement",
    "rendezvous",
    "rendezvous_refusal",
    "rendezvous_link",
    "relays",
    "reflexive",
    "nat",
    "mapping",
    "lan",
    "identity_elsewhere",
    "clock_behind_s",
    "warnings",
    "trusted",
    "pending",
    "connections",
    "ports",
    "outbox",
    "discards",
];
/// What is told of each peer, beside its paths.
const OF_PEER: [&str; 12] = [
    "node_id",
    "address",
    "hostname",
    "encrypted",
    "session_age_secs",
    "congestion_control",
    "window",
    "in_flight",
    "bytes_sent",
    "bytes_received",
    "datagrams_sent",
    "datagrams_lost",
];

/// Writes the report into a new file that only this user can read.
pub(super) fn write(path: &Path, checks: Vec<Value>, told: Option<&Told>) -> Result<(), Failure> {
    let log = tail(&log_path());
    let text = format!("{:#}\n", report(checks, told, &log));
    let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    made.and_then(|mut file| file.write_all(text.as_bytes())).map_err(|e| {
        let code = if e.kind() == io::ErrorKind::AlreadyExists { Code::Conflict } else { Code::Internal };
        Failure::new(code, format!("{}: {e}", path.display())).hint("pilotctl doctor --report NEW-FILE")
    })
}

fn report(checks: Vec<Value>, told: Option<&Told>, log: &str) -> Value {
    let seconds = std::time::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_secs());
    let mut report = json!({
        "format": 1,
        "made_at": seconds,
        "pilotctl": env!("CARGO_PKG_VERSION"),
        "system": format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
        "checks": checks,
        "info": told.map(|told| chosen(&json!(told.info), &OF_INFO)),
        "peers": told.map(|told| told.peers.peers.iter().map(|peer| chosen(&json!(peer), &OF_PEER)).collect::<Vec<_>>()),
        "paths": told.map(|told| json!(told.paths)),
        "log": lines(log),
    });
    hide(&mut report);
    report
}

/// The members of an object that are told.
fn chosen(all: &Value, names: &[&str]) -> Value {
    let member = |name: &&str| Some(((*name).to_owned(), all.get(*name)?.clone()));
    names.iter().filter_map(member).collect::<Map<_, _>>().into()
}

/// The end of the log; empty without one.
fn tail(path: &Path) -> String {
    let bytes = fs::read(path).unwrap_or_default();
    String::from_utf8_lossy(&bytes[bytes.len().saturating_sub(LOG_LEN_MAX)..]).into_owned()
}

/// The newest lines. A webhook's lines stay out, since its URL may hold a secret.
fn lines(log: &str) -> Vec<&str> {
    let told: Vec<&str> = log.lines().filter(|line| !line.contains("webhook")).collect();
    told[told.len().saturating_sub(LINES_MAX)..].to_vec()
}

/// Hides what may be a key in every text.
fn hide(value: &mut Value) {
    match value {
        Value::String(text) => *text = without_keys(text),
        Value::Array(list) => list.iter_mut().for_each(hide),
        Value::Object(members) => members.values_mut().for_each(hide),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn without_keys(text: &str) -> String {
    let (mut out, mut run) = (String::new(), String::new());
    let end = |run: &mut String, out: &mut String| {
        out.push_str(if run.len() >= KEY_DIGITS { "(key)" } else { run });
        run.clear();
    };
    for c in text.chars() {
        if c.is_ascii_hexdigit() {
            run.push(c);
        } else {
            end(&mut run, &mut out);
            out.push(c);
        }
    }
    end(&mut run, &mut out);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::node::tests::told;

    #[test]
    fn keys_messages_and_urls_are_not_in_a_report() {
        let key = "0123456789abcdef".repeat(4);
        let log =
            format!("info peer_up peer={key}\nwarn webhook_failed url=https://a/?token=hunter2\ninfo path_chosen");
        let checks = vec![json!({"id": "rendezvous", "evidence": format!("at {key}@192.0.2.1:9000")})];
        let report = report(checks, Some(&told()), &log);
        let text = report.to_string();
        for secret in [key.as_str(), &"ab".repeat(32), &"cd".repeat(32), "hunter2", "a secret text", "public_key"] {
            assert!(!text.contains(secret), "{secret}: {text}");
        }
        for wanted in ["192.0.2.1:9000", "path_chosen", "peer=(key)", "no_address", "198.51.100.7:4000"] {
            assert!(text.contains(wanted), "{wanted}: {text}");
        }
        assert_eq!(report["info"]["rendezvous_link"]["carrier"], "udp");
        assert_eq!(without_keys("fe80::1 ca39-14be 2001:db8::1"), "fe80::1 ca39-14be 2001:db8::1");
    }

    #[test]
    fn the_log_in_a_report_has_a_maximum_and_a_report_replaces_no_file() {
        let log = (0..1000).map(|n| format!("line {n}\n")).collect::<String>();
        assert_eq!((lines(&log).len(), lines(&log)[0]), (LINES_MAX, "line 700"));
        let path = std::env::temp_dir().join(format!("pilot-report-{}", std::process::id()));
        fs::write(&path, vec![b'x'; LOG_LEN_MAX + 9]).expect("a file");
        assert_eq!(tail(&path).len(), LOG_LEN_MAX);
        assert_eq!(write(&path, Vec::new(), None).expect_err("it exists").code, Code::Conflict);
        fs::remove_file(&path).expect("own file");
        write(&path, Vec::new(), None).expect("a new file");
        let made: Value = serde_json::from_str(&fs::read_to_string(&path).expect("a text")).expect("JSON");
        assert_eq!((&made["format"], &made["info"]), (&1.into(), &Value::Null));
        fs::remove_file(&path).expect("own file");
    }
}
