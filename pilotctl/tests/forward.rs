//! The commands `forward`, `expose` and `whois` with real daemons.
#![allow(clippy::unwrap_used, reason = "tests")]

mod harness;

use harness::{Lab, Node, until};
use serde_json::Value;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::time::Duration;

/// A program that answers each connection with what it said, in capitals; gives its port.
fn shouter() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut text = String::new();
            // A client that has gone needs no answer.
            let _ = stream.read_to_string(&mut text).and_then(|_| stream.write_all(text.to_uppercase().as_bytes()));
        }
    });
    port
}

/// What the program behind a listener answers.
fn ask(listen: &str, text: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(listen)?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    stream.write_all(text.as_bytes())?;
    stream.shutdown(std::net::Shutdown::Write)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

fn forwards(node: &Node) -> Vec<Value> {
    node.json(&["forward", "--list"])["forwards"].as_array().unwrap().clone()
}

#[test]
fn what_is_set_up_outlives_the_daemons_until_it_is_removed() {
    let mut lab = Lab::new();
    let (a, b) = lab.friends();
    b.ok(&["grant", "primary-node", "--ports", "8080"]);
    let port = shouter();
    let exposed = b.json(&["expose", "8080", &port]);
    assert_eq!((&exposed["port"], text(&exposed["target"])), (&8080.into(), format!("127.0.0.1:{port}")));
    let listen = text(&a.json(&["forward", "0", "worker-node:8080"])["listen"]);
    assert_eq!(ask(&listen, "hello").unwrap(), "HELLO");

    a.kill();
    b.kill();
    a.start();
    b.start();
    assert_eq!(text(&forwards(&a)[0]["listen"]), listen);
    until("the peers meet again", || ask(&listen, "again").is_ok_and(|answer| answer == "AGAIN"));

    // The port is taken while the daemon is away.
    a.kill();
    let taken = TcpListener::bind(&listen).unwrap();
    a.start();
    assert!(text(&forwards(&a)[0]["error"]).contains("in use"));
    drop(taken);
    until("it is bound again", || forwards(&a)[0]["error"].is_null());
    until("the peers meet again", || ask(&listen, "more").is_ok_and(|answer| answer == "MORE"));

    a.ok(&["forward", "--remove", &listen]);
    b.ok(&["expose", "--remove", "8080"]);
    assert!(TcpStream::connect(&listen).is_err());
    a.kill();
    a.start();
    assert!(forwards(&a).is_empty());
    assert_eq!(b.json(&["expose"])["total"], 0);
    a.fails(&["forward", "--remove", &listen], 4, "not_found");
    b.fails(&["expose", "--remove", "8080"], 4, "not_found");
}

#[test]
fn a_forward_in_the_foreground_ends_with_its_command() {
    let mut lab = Lab::new();
    let (a, b) = lab.friends();
    b.ok(&["grant", "primary-node", "--ports", "8080"]);
    b.ok(&["expose", "8080", &shouter()]);
    let mut command = a.command(&["forward", "--foreground", "0", "worker-node:8080", "--json"]);
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let made: Value = serde_json::from_str(&line).unwrap();
    let listen = text(&made["data"]["listen"]);
    assert_eq!(made["data"]["temporary"], true);
    assert_eq!(ask(&listen, "hello").unwrap(), "HELLO");
    child.kill().unwrap();
    child.wait().unwrap();
    until("the listener is gone", || TcpStream::connect(&listen).is_err());
    assert!(forwards(&a).is_empty());
}

#[test]
fn mistakes_are_told_and_nothing_is_set_up() {
    let mut lab = Lab::new();
    let a = lab.node("primary-node");
    for bad in [
        &["forward", "8080"][..],
        &["forward", "x", "worker-node:80"],
        &["forward", "0", "worker-node"],
        &["forward", "0", "worker-node:0"],
        &["forward", "--list", "0", "worker-node:80"],
        &["expose", "80"],
        &["expose", "0", "80"],
        &["expose", "65536", "80"],
        &["expose", "80", "http://127.0.0.1"],
        &["expose", "80", "80", "--proxy-protocol", "v1"],
        &["whois", "--local", "nowhere"],
    ] {
        a.fails(bad, 2, "invalid_argument");
    }
    a.fails(&["expose", "80", "80", "--ports-for", "stranger"], 4, "not_found");
    a.fails(&["expose", "1001", "80"], 8, "already_exists");
    a.fails(&["whois", "--local", "127.0.0.1:1"], 4, "not_found");
    assert!(forwards(&a).is_empty());
    let output = a.run(&["forward", "0.0.0.0:0", "worker-node:80"]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("warning: other machines"));
}

#[test]
#[cfg(target_os = "linux")]
fn the_daemon_has_as_many_descriptors_as_the_system_allows() {
    let mut lab = Lab::new();
    let a = lab.node("primary-node");
    a.ok(&["daemon", "stop"]);
    let start = a.start_command();
    let mut shell = Command::new("sh");
    shell.args(["-c", r#"ulimit -Sn 64 && exec "$0" "$@""#]).arg(start.get_program()).args(start.get_args());
    shell.envs(start.get_envs().filter_map(|(name, value)| Some((name, value?))));
    assert!(shell.stdin(Stdio::null()).output().unwrap().status.success());
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", a.pid())).unwrap();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files")).unwrap();
    let [soft, hard] = [0, 1].map(|i| line.split_whitespace().nth(i).unwrap());
    assert!(soft == hard && soft != "64", "{line}");
}
