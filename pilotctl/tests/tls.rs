//! The options of the way to the rendezvous over TLS, as users give them: real processes. Their UDP leads to a port where nothing
//! listens.
#![cfg(feature = "tls")]
#![allow(clippy::unwrap_used, reason = "tests")]

mod harness;

use harness::{pilotctl, until};
use serde_json::Value;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Output, Stdio};

/// A rendezvous that serves TLS and plain WebSockets, and a UDP socket that answers nothing.
struct Served {
    folder: PathBuf,
    child: Child,
    key: String,
    tls: SocketAddr,
    ws: SocketAddr,
    nowhere: UdpSocket,
}

impl Served {
    fn start(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("pilot-{name}-{}", std::process::id()));
        let any = "127.0.0.1:0";
        let home = folder.join("rendezvous");
        let words = ["rendezvous", "run", "--json", "--listen", any, "--tls-listen", any, "--ws-listen", any, "--home"];
        let mut child = pilotctl(&[&words[..], &[home.to_str().unwrap()]].concat())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut said = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut said).unwrap();
        let said = serde_json::from_str::<Value>(&said).unwrap()["data"].clone();
        let at = |name: &str| said[name].as_str().unwrap().parse().unwrap();
        let (key, nowhere) = (said["key"].as_str().unwrap().to_owned(), UdpSocket::bind(any).unwrap());
        Self { folder, child, key, tls: at("tls"), ws: at("ws"), nowhere }
    }

    /// A node with UDP that leads nowhere, started with these options.
    fn node(&self, name: &str, options: &[&str]) -> Node {
        let node = Node(self.folder.join(name));
        let rendezvous = format!("{}@{}", self.key, self.nowhere.local_addr().unwrap());
        let words = ["daemon", "start", "--listen", "127.0.0.1:0", "--hostname", name, "--rendezvous", &rendezvous];
        node.ok(&[&words[..], options].concat());
        node
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// A node in its folder; it ends when this is dropped.
struct Node(PathBuf);

impl Node {
    fn run(&self, args: &[&str]) -> Output {
        let mut command = pilotctl(args);
        command.env("PILOT_HOME", &self.0).env_remove("HTTPS_PROXY").env_remove("NO_PROXY");
        command.stdin(Stdio::null()).output().unwrap()
    }

    fn ok(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    fn info(&self) -> Value {
        serde_json::from_str::<Value>(&self.ok(&["info", "--json"])).unwrap()["data"].clone()
    }

    /// Waits until it is registered over TLS; gives the place to which that leads.
    fn place(&self) -> String {
        until("it is registered", || self.info()["rendezvous"] == "ready");
        let link = self.info()["rendezvous_link"].clone();
        assert_eq!((&link["carrier"], &link["udp"]), (&"tls".into(), &"blocked".into()), "{link}");
        link["address"].as_str().unwrap().to_owned()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.run(&["daemon", "stop"]);
    }
}

/// A proxy that leads those with the password to one place.
fn proxy(authorization: &'static str, to: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        while let Ok((mut near, _)) = listener.accept() {
            let mut head = [0; 2048];
            let len = near.read(&mut head).unwrap_or(0);
            if !String::from_utf8_lossy(&head[..len]).contains(&format!("Proxy-Authorization: {authorization}\r\n")) {
                let _ = near.write_all(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n");
                continue;
            }
            let far = TcpStream::connect(to).unwrap();
            near.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
            for (from, to) in [(&near, &far), (&far, &near)] {
                let (mut from, mut to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                std::thread::spawn(move || {
                    let _ = std::io::copy(&mut from, &mut to);
                    let _ = to.shutdown(Shutdown::Both);
                });
            }
        }
    });
    addr
}

#[test]
fn daemons_without_udp_register_over_tls_straight_and_through_a_proxy() {
    let served = Served::start("tls-options");
    let straight = served.node("straight", &["--rendezvous-tls", &served.tls.to_string()]);
    assert_eq!(straight.place(), served.tls.to_string());
    let note = String::from_utf8_lossy(&straight.run(&["info"]).stderr).into_owned();
    assert!(note.contains(&format!("over TLS to {} for ", served.tls)), "{note}");
    let doctor = straight.run(&["doctor"]);
    let text = String::from_utf8_lossy(&doctor.stdout).into_owned();
    assert!(text.contains("ok    tls             the daemon reaches the rendezvous this way, at 127.0.0.1:"), "{text}");
    assert_eq!(doctor.status.code(), Some(0), "no UDP is a warning where TLS works: {text}");

    let proxy = proxy("Basic dXNlcjpvcGVuIHNlc2FtZQ==", served.tls);
    let url = |password: &str| format!("http://user:{password}@{proxy}");
    // The name means something to the proxy alone.
    let around = |name: &str, password: &str| {
        served.node(name, &["--rendezvous-tls", "rdv.invalid:443", "--https-proxy", &url(password)])
    };
    let through = around("through", "open%20sesame");
    assert_eq!(through.place(), format!("rdv.invalid:443 by the proxy {proxy}"));
    if cfg!(target_os = "linux") {
        let command_line = std::fs::read_to_string(format!("/proc/{}/cmdline", through.info()["pid"])).unwrap();
        assert!(!command_line.contains("sesame"), "every user may read that: {command_line}");
    }
    let refused = around("refused", "wrong");
    let failure = || refused.info()["rendezvous_link"]["tls_failure"].as_str().map(str::to_owned);
    until("the refusal is told", || failure().is_some());
    assert!(failure().unwrap().contains("wants a password: http://USER:PASSWORD@HOST:PORT"), "{:?}", failure());

    let route = refused.info()["rendezvous_link"]["tls"].clone();
    let told = serde_json::json!({"place": "rdv.invalid:443", "proxy": proxy.to_string(), "has_password": true});
    assert_eq!(route, told, "no password is told");
    let text = String::from_utf8(refused.run(&["doctor"]).stdout).unwrap();
    assert!(text.contains(&format!("the proxy {proxy} answers and wants the daemon's password")), "{text}");

    straight.ok(&["handshake", "through"]);
    until("the approval", || through.run(&["approve", "straight"]).status.success());
    until("they talk", || straight.run(&["ping", "through", "--count", "1", "--timeout", "5"]).status.success());
}

#[test]
fn web_sockets_in_plain_are_for_a_reverse_proxy() {
    let served = Served::start("ws-listen");
    let ask = |question: &str| {
        let mut stream = TcpStream::connect(served.ws).unwrap();
        stream.write_all(question.as_bytes()).unwrap();
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).unwrap();
        line
    };
    let upgrade = "GET /pilot HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
        Sec-WebSocket-Protocol: pilot-pn1\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nX-Forwarded-For: 192.0.2.1\r\n\r\n";
    assert_eq!(ask(upgrade), "HTTP/1.1 101 Switching Protocols\r\n");
    assert_eq!(ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n"), "HTTP/1.1 426 Upgrade Required\r\n");
}

/// Runs a command that must fail with this exit status and say this.
fn refuses(home: &Path, args: &[&str], status: i32, text: &str) {
    let output = pilotctl(args).env("PILOT_HOME", home).stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(status) && said.contains(text), "{args:?}: {:?} {said}", output.status);
}

#[test]
fn false_options_are_refused_with_their_names() {
    let served = Served::start("tls-false");
    let home = served.folder.join("node");
    let start = |more: &[&str], text: &str| {
        let rendezvous = format!("{}@127.0.0.1:9", served.key);
        refuses(&home, &[&["daemon", "start", "--rendezvous", &rendezvous][..], more].concat(), 2, text);
    };
    start(&["--rendezvous-tls", "a b"], "--rendezvous-tls: \"a b\" is no HOST[:PORT]");
    start(&["--rendezvous-tls", "a:0"], "is no HOST[:PORT]");
    start(&["--https-proxy", "socks5://a:1"], "--https-proxy: a proxy is given as http://[USER:PASSWORD@]HOST[:PORT]");
    start(&["--https-proxy", "http://u:%4@a"], "--https-proxy: ");

    let relay = served.folder.join("second");
    let run = |more: &[&str], status: i32, text: &str| {
        let words = ["rendezvous", "run", "--listen", "127.0.0.1:0", "--home", relay.to_str().unwrap()];
        refuses(&home, &[&words[..], more].concat(), status, text);
    };
    let missing = served.folder.join("missing.pem");
    let missing = missing.to_str().unwrap();
    run(&["--tls-listen", "nonsense"], 2, "tls-listen");
    run(&["--ws-listen", "127.0.0.1"], 2, "ws-listen");
    run(&["--tls-listen", "127.0.0.1:0", "--tls-cert", missing], 2, "--tls-cert and --tls-key belong together");
    run(&["--tls-listen", "127.0.0.1:0", "--tls-cert", missing, "--tls-key", missing], 8, "missing.pem");
    run(&["--tls-listen", &served.tls.to_string()], 8, "in use");
    run(&["--ws-listen", &served.ws.to_string()], 8, "in use");
}
