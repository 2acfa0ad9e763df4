//! Programs that know nothing of Pilot at both ends of a stream: `listen --exec`, and `connect` as a client's command.
#![allow(clippy::unwrap_used, reason = "tests")]

mod harness;

use harness::net::Running;
use harness::{Lab, Node, until};
use serde_json::{Value, json};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

/// A port that a peer may reach without being granted more.
const PORT: &str = "1000";
const LIMIT: Option<Duration> = Some(Duration::from_secs(20));

/// Starts a listener and waits until it has the port.
fn listen(node: &Node, words: &[&str]) -> Running {
    let mut command = node.command(&[&["listen", PORT], words].concat());
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut said = String::new();
    BufReader::new(child.stderr.take().unwrap()).read_line(&mut said).unwrap();
    assert!(said.starts_with("each stream on port 1000 runs "), "{said}");
    Running(child)
}

fn open(node: &Node) -> UnixStream {
    let stream = node.client().open("worker-node", 1000, LIMIT).unwrap();
    stream.socket.set_read_timeout(LIMIT).unwrap();
    stream.socket
}

fn echo(mut stream: &UnixStream) {
    stream.write_all(b"echo").unwrap();
    let mut answer = [0; 4];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"echo");
}

fn signal(listener: &Running, name: &str) {
    assert!(Command::new("kill").args([name, &listener.0.id().to_string()]).status().unwrap().success());
}

fn has(program: &str) -> bool {
    let found = Command::new("which").arg(program).stdout(Stdio::null()).status().is_ok_and(|s| s.success());
    if !found {
        println!("skipped: {program} is missing");
        assert!(std::env::var_os("CI").is_none(), "CI installs {program}");
    }
    found
}

#[test]
fn each_stream_has_a_program_that_knows_its_peer() {
    let mut lab = Lab::new();
    let (a, b) = lab.friends();
    let script = r#"echo "$PILOT_PEER $PILOT_PEER_ADDRESS $PILOT_PEER_FINGERPRINT $PILOT_PORT $1"; exec cat"#;
    let mut listener = listen(&b, &["--count", "3", "--exec", "sh", "-c", script, "sh", "--json"]);
    let info = a.json(&["info"]);
    let text = |member: &str| info[member].as_str().unwrap().to_owned();
    let wanted = format!("primary-node {} {} 1000 --json\nhello", text("address"), text("fingerprint"));
    // An open stream does not stop the next one.
    let first = open(&a);
    for _ in 0..2 {
        let output = a.feed(&["connect", "worker-node", PORT], b"hello");
        assert_eq!((output.status.code(), String::from_utf8(output.stdout).unwrap()), (Some(0), wanted.clone()));
    }
    (&first).write_all(b"hello").unwrap();
    first.shutdown(Shutdown::Write).unwrap();
    let mut said = String::new();
    (&first).read_to_string(&mut said).unwrap();
    assert_eq!(said, wanted);
    assert!(listener.0.wait().unwrap().success(), "--count 3 ends after three streams");
}

#[test]
fn at_the_limit_the_next_stream_waits() {
    let mut lab = Lab::new();
    let (a, b) = lab.friends();
    let log = lab.folder.join("runs");
    let script = format!("echo run >> {}; exec cat", log.display());
    let _listener = listen(&b, &["--max", "1", "--exec", "sh", "-c", &script]);
    let first = open(&a);
    echo(&first);
    let second = open(&a);
    (&second).write_all(b"echo").unwrap();
    echo(&first);
    assert_eq!(std::fs::read_to_string(&log).unwrap(), "run\n");
    drop(first);
    let mut answer = [0; 4];
    (&second).read_exact(&mut answer).unwrap();
    assert_eq!((&answer, &*std::fs::read_to_string(&log).unwrap()), (b"echo", "run\nrun\n"));
}

#[test]
fn a_signal_ends_the_listener_with_its_programs() {
    let mut lab = Lab::new();
    let (a, b) = lab.friends();
    // The group gets the signal: `cat` is a child of the shell, which waits for it.
    let mut listener = listen(&b, &["--exec", "sh", "-c", "cat; exit 1"]);
    let stream = open(&a);
    echo(&stream);
    signal(&listener, "-TERM");
    assert_eq!((&stream).read(&mut [0; 9]).unwrap(), 0, "the program is gone");
    assert!(listener.0.wait().unwrap().success());

    let mut listener = listen(&b, &["--exec", "sh", "-c", "trap '' TERM INT; cat; cat"]);
    let stream = open(&a);
    echo(&stream);
    signal(&listener, "-INT");
    // The port is given up first, and the service of the port answers again.
    until("the port is free", || {
        let output = a.feed(&["connect", "worker-node", PORT], b"a message");
        String::from_utf8_lossy(&output.stdout).contains("stored")
    });
    signal(&listener, "-INT");
    assert_eq!((&stream).read(&mut [0; 9]).unwrap(), 0, "the program is ended");
    assert!(listener.0.wait().unwrap().success());
}

#[test]
fn wrong_uses_of_listen_are_explained() {
    let mut lab = Lab::new();
    let node = lab.node("primary-node");
    for (words, text) in [
        (&["--max", "0", "--exec", "cat"][..], "--max is 1 to 4096"),
        (&["--max", "4097", "--exec", "cat"], "--max is 1 to 4096"),
        (&["--timeout", "5", "--exec", "cat"], "--timeout is for one stream"),
        (&["cat"], "\"cat\" is no argument of listen"),
    ] {
        let error = node.fails(&[&["--json", "listen", PORT], words].concat(), 2, "invalid_argument");
        assert!(error["message"].as_str().unwrap().contains(text), "{error}");
    }
    let output = node.run(&["listen", PORT, "--exec"]);
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), text.contains("--exec needs a program")), (Some(2), true), "{text}");
    node.fails(&["--json", "listen", PORT, "--exec", "no-such-program"], 4, "not_found");
    let _listener = listen(&node, &["--exec", "cat"]);
    node.fails(&["--json", "listen", PORT, "--exec", "cat"], 8, "already_exists");
}

/// A server on standard input and output, as MCP has them: one JSON-RPC message a line.
const SERVER: &str = r#"
import json, sys
for line in sys.stdin:
    asked = json.loads(line)
    if "id" in asked:
        print(json.dumps({"jsonrpc": "2.0", "id": asked["id"], "result": {"method": asked["method"]}}), flush=True)
"#;

#[test]
fn a_server_of_lines_is_reached_by_a_client_that_starts_connect() {
    if !has("python3") {
        return;
    }
    let mut lab = Lab::new();
    let (a, b) = lab.friends();
    let _listener = listen(&b, &["--exec", "python3", "-c", SERVER]);
    let mut command = a.command(&["connect", "worker-node", PORT]);
    let mut connect = Running(command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap());
    let mut requests = connect.0.stdin.take().unwrap();
    let mut answers = BufReader::new(connect.0.stdout.take().unwrap());
    for id in 0..3 {
        writeln!(requests, "{}", json!({"jsonrpc": "2.0", "method": "notifications/nothing"})).unwrap();
        writeln!(requests, "{}", json!({"jsonrpc": "2.0", "id": id, "method": "tools/list"})).unwrap();
        let mut line = String::new();
        answers.read_line(&mut line).unwrap();
        let answer: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(answer, json!({"jsonrpc": "2.0", "id": id, "result": {"method": "tools/list"}}));
    }
    drop(requests);
    assert_eq!(answers.read_line(&mut String::new()).unwrap(), 0, "the server ends with its input");
    assert!(connect.0.wait().unwrap().success());
}

#[test]
fn ssh_runs_over_connect_and_sshd_over_listen() {
    const SSHD: &str = "/usr/sbin/sshd";
    if !has("ssh") || !has("ssh-keygen") || !has("/usr/sbin/sshd") {
        return;
    }
    let mut lab = Lab::new();
    let (a, b) = lab.friends();
    let path = |name: &str| lab.folder.join(name).display().to_string();
    let (host, user, config) = (path("host_key"), path("user_key"), path("sshd_config"));
    for key in [&host, &user] {
        let made = Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f", key]).status().unwrap();
        assert!(made.success());
    }
    let settings = format!("HostKey {host}\nAuthorizedKeysFile {user}.pub\nStrictModes no\nUsePAM no\nPidFile none\n");
    std::fs::write(&config, settings).unwrap();
    // Where sshd runs as root, it wants this folder, which the system's service makes.
    let is_root = rustix::process::getuid().is_root();
    if is_root && !Path::new("/run/sshd").exists() && std::fs::create_dir("/run/sshd").is_err() {
        return println!("skipped: sshd cannot run here");
    }
    let _listener = listen(&b, &["--exec", SSHD, "-i", "-e", "-f", &config]);
    let proxy = format!("ProxyCommand={} connect %h {PORT}", a.command(&[]).get_program().to_str().unwrap());
    let mut ssh = Command::new("ssh");
    ssh.env("PILOT_HOME", &a.home).env_remove("PILOT_SOCKET").args(["-F", "none", "-i", &user, "-o", &proxy]);
    ssh.args(["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "BatchMode=yes"]);
    let mut ssh = ssh
        .args(["worker-node", "wc -c; exit 7"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = ssh.stdin.take().unwrap();
    let writer = std::thread::spawn(move || drop(stdin.write_all(&vec![b'x'; 3_000_000])));
    let output = ssh.wait_with_output().unwrap();
    writer.join().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!((output.status.code(), String::from_utf8_lossy(&output.stdout).trim()), (Some(7), "3000000"), "{said}");
}
