//! Runs the official Python package from PyPI, unmodified, on our library and our daemon, and checks that slow clients hold no
//! other client back.
#![allow(clippy::unwrap_used, reason = "tests")]

mod harness;

use harness::{Lab, here, library_folder, run, tool};
use pilot_node::Client;
use pilot_node::framing::{self, frame};
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

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

/// A client that speaks the official framing itself, and reads only when it is told to.
struct Raw(UnixStream);

impl Raw {
    fn dial(socket: &Path, addr: &str, port: u16) -> (Self, u32) {
        let mut raw = Self(UnixStream::connect(socket).unwrap());
        raw.0.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let addr: pilot_node::Addr = addr.parse().unwrap();
        raw.0.write_all(&frame(framing::DIAL, &[&addr.to_bytes(), &port.to_be_bytes()])).unwrap();
        let (command, payload) = raw.next();
        assert_eq!(command, framing::DIAL_OK, "{}", String::from_utf8_lossy(&payload));
        (raw, u32::from_be_bytes(payload.try_into().unwrap()))
    }

    fn send(&mut self, connection: u32, bytes: &[u8]) -> std::io::Result<()> {
        self.0.write_all(&frame(framing::SEND, &[&connection.to_be_bytes(), bytes]))
    }

    fn next(&mut self) -> (u8, Vec<u8>) {
        let mut head = [0; 5];
        self.0.read_exact(&mut head).unwrap();
        let mut payload = vec![0; u32::from_be_bytes([head[0], head[1], head[2], head[3]]) as usize - 1];
        self.0.read_exact(&mut payload).unwrap();
        (head[4], payload)
    }
}

#[test]
fn one_slow_client_or_stream_never_holds_back_another() {
    let lab = Lab::new("slow");
    let (_a, b) = lab.pair();
    let (socket, to) = (lab.socket("node-a"), b.info().unwrap().address);
    let to = to.as_str();
    // An official client fills an echo and never reads, until the daemon takes no more from it.
    let (mut slow, connection) = Raw::dial(&socket, to, 7);
    slow.0.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
    let chunk = vec![1; 500_000];
    let taken = (0..1000).take_while(|_| slow.send(connection, &chunk).is_ok()).count();
    assert!(taken < 1000, "what waits for it is bounded");
    // A stream by descriptor does the same.
    let mut client = Client::connect(&socket).unwrap();
    let slow_stream = client.open("node-b", 7, None).unwrap().socket;
    slow_stream.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
    while (&slow_stream).write_all(&chunk).is_ok() {}

    // Another official client and another stream of the same client go on as usual.
    let begin = Instant::now();
    let (mut quick, connection) = Raw::dial(&socket, to, 7);
    for round in 0..100u8 {
        quick.send(connection, &[round; 1000]).unwrap();
        let mut got = Vec::new();
        while got.len() < 1000 {
            let (command, payload) = quick.next();
            assert_eq!(command, framing::RECV);
            got.extend_from_slice(&payload[4..]);
        }
        assert_eq!(got, [round; 1000]);
    }
    let stream = client.open("node-b", 7, None).unwrap().socket;
    for round in 0..100u8 {
        (&stream).write_all(&[round; 1000]).unwrap();
        let mut got = [0; 1000];
        (&stream).read_exact(&mut got).unwrap();
        assert_eq!(got, [round; 1000]);
    }
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
    drop((slow, slow_stream));
}
