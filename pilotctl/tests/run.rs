//! `run`: programs that reach peers by a proxy of the daemon, and with `--only` nothing else.
#![allow(clippy::unwrap_used, reason = "tests")]

mod harness;

use harness::net::Running;
use harness::{Lab, Node, until};
use serde_json::{Value, json};
use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, Output, Stdio};

/// A server of one answer: reads the head of a request, answers, and is done.
const SERVER: &str = r#"while read -r line && [ "$line" != "$(printf '\r')" ]; do :; done
printf 'HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello'"#;

fn has(program: &str) -> bool {
    let found = Command::new("which").arg(program).stdout(Stdio::null()).status().is_ok_and(|s| s.success());
    if !found {
        println!("skipped: {program} is missing");
        assert!(std::env::var_os("CI").is_none(), "CI installs {program}");
    }
    found
}

/// Serves a port that a peer may reach without being granted more.
fn serve(node: &Node) -> Running {
    let mut command = node.command(&["listen", "1000", "--exec", "sh", "-c", SERVER]);
    let mut child = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    BufReader::new(child.stderr.take().unwrap()).read_line(&mut String::new()).unwrap();
    Running(child)
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn a_program_finds_the_proxy_and_ends_as_if_run_alone() {
    let mut lab = Lab::new();
    let (a, b) = lab.friends();
    let _server = serve(&b);
    if has("curl") {
        let output = a.run(&["run", "curl", "-sS", "http://worker-node.pilot:1000/"]);
        assert_eq!((output.status.code(), &*text(&output)), (Some(0), "hello"));
        let output = a.run(&["run", "--", "curl", "-sS", "--noproxy", "", "http://example.org/"]);
        assert!(text(&output).contains("no Pilot name"), "{}", text(&output));
    }
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let forward = format!("--forward={free}=worker-node:1000");
    let output = a.run(&["run", &forward, "--", "sh", "-c", "echo $HTTP_PROXY $no_proxy; exit 7"]);
    assert_eq!(output.status.code(), Some(7));
    assert!(text(&output).starts_with("http://127.0.0.1:"), "{}", text(&output));
    let forwards = |node: &Node| node.json(&["proxy", "--list"])["total"].as_u64().unwrap();
    until("the proxy is gone", || forwards(&a) == 0);

    let killed = a.run(&["run", "--", "sh", "-c", "kill -TERM $$"]);
    assert_eq!((killed.status.code(), killed.status.signal()), (None, Some(15)));
    assert_eq!(a.run(&["run", "--", "no-such-program"]).status.code(), Some(127));
    assert_eq!(a.run(&["run", "--", "/etc/passwd"]).status.code(), Some(126));
    a.fails(&["run", "--json"], 2, "invalid_argument");
    a.fails(&["run", "--json", "--forward", "80"], 2, "invalid_argument");

    let script = "trap 'exit 9' TERM; echo ready; while :; do sleep 0.05; done";
    let mut child = a.command(&["run", "--", "sh", "-c", script]).stdout(Stdio::piped()).spawn().unwrap();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut String::new()).unwrap();
    assert!(Command::new("kill").arg(child.id().to_string()).status().unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(9), "the signal is the program's");
}

/// What a program finds that lives in a network of its own. Its arguments: a port of the host, the daemon's folder and socket.
const INSIDE: &str = r#"
import ctypes, json, os, socket, sys, urllib.request
port, home, daemon = int(sys.argv[1]), sys.argv[2], sys.argv[3]
def tried(what):
    try:
        return str(what())
    except Exception as e:
        return type(e).__name__
def ask(addr):
    with socket.create_connection(addr, 5) as s:
        s.sendall(b"GET / HTTP/1.1\r\n\r\n")
        got = b""
        while piece := s.recv(999):
            got += piece
        return got[-5:].decode()
def to_daemon():
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(daemon)
        return "reached"
libc = ctypes.CDLL(None)
print(json.dumps({
    "proxy": tried(lambda: urllib.request.urlopen("http://worker-node.pilot:1000/", timeout=10).read().decode()),
    "forward": tried(lambda: ask(("127.0.0.1", 80))),
    "host": tried(lambda: ask(("127.0.0.1", port))),
    "network": tried(lambda: ask(("192.0.2.1", 80))),
    "name": tried(lambda: socket.getaddrinfo("example.org", 80)),
    "interfaces": [name for _, name in socket.if_nameindex()],
    "daemon": tried(to_daemon),
    "home": tried(lambda: os.listdir(home)),
    "parent": tried(lambda: os.listdir(f"/proc/{os.getppid()}/fd") and os.open(f"/proc/{os.getppid()}/mem", os.O_RDONLY)),
    "unmount": libc.umount2(home.encode(), 2),
    "mount": libc.mount(b"x", b"/mnt", b"tmpfs", 0, None),
    "socket": os.environ.get("PILOT_SOCKET"),
    "uid": os.getuid(),
}))
"#;

/// Whether namespaces may be made here by this user.
fn can_isolate(user: &[&str]) -> bool {
    let words = [user, &["unshare", "--user", "--net", "--mount", "true"]].concat();
    let output = Command::new(words[0]).args(&words[1..]).output();
    let can = output.is_ok_and(|output| output.status.success());
    if !can {
        println!("skipped: the kernel does not let this user make namespaces: {words:?}");
    }
    can
}

/// A command of `node` as another user.
fn as_user(user: &[&str], command: &Command) -> Command {
    let words: Vec<&OsStr> =
        user.iter().map(OsStr::new).chain([command.get_program()]).chain(command.get_args()).collect();
    let mut wrapped = Command::new(words[0]);
    wrapped.args(&words[1..]);
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => wrapped.env(name, value),
            None => wrapped.env_remove(name),
        };
    }
    wrapped
}

/// Checks what a program of this user reaches; `user`: the words that begin its commands.
fn check_inside(node: &Node, user: &[&str]) {
    let host = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = host.local_addr().unwrap().port().to_string();
    let (home, socket) = (node.home.display().to_string(), node.home.join("pilot.sock").display().to_string());
    let words =
        ["run", "--only", "--forward", "80=worker-node:1000", "--", "python3", "-c", INSIDE, &port, &home, &socket];
    let mut command = as_user(user, &node.command(&words));
    let output = command.current_dir("/").stdin(Stdio::null()).output().unwrap();
    let found: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {}", text(&output)));
    let uid = if user.is_empty() { rustix::process::getuid().as_raw() } else { 65534 };
    let wanted = json!({
        "proxy": "hello", "forward": "hello", "host": "ConnectionRefusedError", "network": "OSError", "name": "gaierror",
        "interfaces": ["lo"], "daemon": found["daemon"], "home": "[]", "parent": "PermissionError", "unmount": -1,
        "mount": -1, "socket": null, "uid": uid,
    });
    assert_eq!(found, wanted, "{}", text(&output));
    assert!(["ConnectionRefusedError", "FileNotFoundError"].contains(&found["daemon"].as_str().unwrap()), "{found}");
    until("proxy and forward are gone", || {
        let node = as_user(user, &node.command(&["proxy", "--list", "--json"])).output().unwrap();
        serde_json::from_slice::<Value>(&node.stdout).unwrap()["data"]["total"] == 0
    });
}

#[test]
fn only_peers_are_reached_from_a_network_of_its_own() {
    let user = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
    if !has("python3") || !can_isolate(&[]) {
        return;
    }
    let mut lab = Lab::new();
    let (a, b) = lab.friends();
    let _server = serve(&b);
    check_inside(&a, &[]);
    a.ok(&["daemon", "stop"]);
    if !rustix::process::getuid().is_root() || !can_isolate(&user) {
        return;
    }
    // The same as a user without rights.
    assert!(Command::new("chown").args(["-R", "65534:65534"]).arg(&a.home).status().unwrap().success());
    let started = as_user(&user, &a.start_command()).stdin(Stdio::null()).output().unwrap();
    if started.status.success() {
        check_inside(&a, &user);
    } else {
        println!("skipped: another user cannot run a daemon here: {}", text(&started));
    }
}

#[test]
fn an_isolated_program_ends_with_the_daemon() {
    if !can_isolate(&[]) {
        return;
    }
    let mut lab = Lab::new();
    let node = lab.node("primary-node");
    let script = "echo ready; while :; do sleep 0.05; done";
    let mut command = node.command(&["run", "--only", "--", "sh", "-c", script]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    stdout.read_line(&mut String::new()).unwrap();
    node.kill();
    assert_eq!(child.wait().unwrap().signal(), Some(9));
    assert_eq!(stdout.read_line(&mut String::new()).unwrap(), 0, "the program has gone too");
    let inside = node.home.to_str().unwrap().to_owned();
    node.start();
    let output = node.command(&["run", "--only", "--", "true"]).current_dir(&inside).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
}
