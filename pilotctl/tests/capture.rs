//! Captures of real daemons, read by `tshark`.
#![allow(clippy::unwrap_used, reason = "tests")]

mod harness;

use harness::net::{Net, Running};
use harness::{Lab, until};
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Whether a program is there; CI must have it.
fn has(program: &str) -> bool {
    let has = Command::new(program).arg("--version").output().is_ok();
    assert!(has || std::env::var_os("CI").is_none(), "CI must have {program}");
    has
}

/// The lines that `tshark` shows of a file: these fields of the packets that a filter picks.
fn packets(file: &Path, filter: &str, fields: &[&str]) -> Vec<String> {
    let mut tshark = Command::new("tshark");
    tshark.arg("-r").arg(file).args(["-o", "tcp.check_checksum:TRUE", "-o", "udp.check_checksum:TRUE"]);
    tshark.args(["-Y", filter, "-T", "fields"]).args(fields.iter().flat_map(|field| ["-e", field]));
    let output = tshark.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

/// Begins a capture, once packets are taken.
fn begin(command: &mut Command) -> Running {
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut said = String::new();
    BufReader::new(child.stderr.take().unwrap()).read_line(&mut said).unwrap();
    assert!(said.starts_with("captures packets"), "{said}");
    Running(child)
}

/// Ends a capture as Ctrl-C does; gives what it said on standard output.
fn end(child: &mut Child) -> String {
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let mut said = String::new();
    child.stdout.take().unwrap().read_to_string(&mut said).unwrap();
    assert!(child.wait().unwrap().success(), "{said}");
    said
}

#[test]
fn a_capture_shows_streams_and_retransmissions() {
    if !has("tshark") || !has("nft") {
        return;
    }
    let Some(net) = Net::new(&["beacon", "primary", "worker"]) else { return };
    let (_rendezvous, endpoint) = net.serve_rendezvous("beacon");
    for machine in ["primary", "worker"] {
        net.ok(machine, &["daemon", "start", "--hostname", machine, "--rendezvous", &endpoint]);
    }
    net.ok("primary", &["handshake", "worker"]);
    until("the approval", || net.run("worker", &["approve", "primary", "--ports", "all"]).status.success());
    until("the tunnel", || net.run("primary", &["ping", "worker", "--count", "1"]).status.success());

    // Every fifth long datagram that reaches the worker is lost.
    let rule = "add table inet lossy; add chain inet lossy in { type filter hook input priority 0; }; \
        add rule inet lossy in udp length > 600 numgen inc mod 5 == 0 drop";
    let nft = Command::new("ip").args(["netns", "exec", &net.name("worker"), "nft", rule]).output().unwrap();
    assert!(nft.status.success(), "{}", String::from_utf8_lossy(&nft.stderr));

    let file = net.folder.join("primary.pcapng");
    let words = ["capture", "worker", "--port", "7", "-w", file.to_str().unwrap()];
    let mut capture = begin(&mut net.command("primary", &words));
    let text = "a line that must be seen in clear\n".repeat(3000);
    let mut connect = net.command("primary", &["connect", "worker", "7", "--message", &text]);
    assert_eq!(connect.output().unwrap().stdout.len(), text.len(), "the echo comes whole");
    let said = end(&mut capture.0);
    assert!(said.contains("missed") && said.contains("packets"), "{said}");

    let found = packets(&file, "tcp.port == 7", &["frame.number"]);
    assert_eq!(found.len(), packets(&file, "frame", &["frame.number"]).len(), "only the stream of that port");
    let payload: String = packets(&file, "tcp.payload", &["tcp.payload"]).concat();
    let wanted: String = "must be seen in clear\na line".bytes().map(|byte| format!("{byte:02x}")).collect();
    assert!(payload.contains(&wanted), "the bytes of the stream");
    assert!(!packets(&file, "tcp.analysis.retransmission", &["tcp.seq"]).is_empty(), "what was lost leaves again");
    assert!(!packets(&file, "tcp.flags.syn == 1 && tcp.flags.ack == 0", &["tcp.seq"]).is_empty());
    assert!(!packets(&file, "tcp.flags.fin == 1", &["tcp.seq"]).is_empty());
    let bad = "tcp.checksum.status == 0 || tcp.checksum.status == \"Bad\" || _ws.malformed";
    assert_eq!(packets(&file, bad, &["frame.number"]), [""; 0], "valid packets");
    assert!(packets(&file, "frame.packet_flags_direction == 2", &["frame.number"]).len() > 50, "and their way");
}

#[test]
fn a_capture_is_told_bounded_and_lets_no_slow_reader_hold_up_the_daemon() {
    let mut lab = Lab::new();
    let (a, b) = lab.friends();
    let file = lab.folder.join("a.pcapng");
    let name = file.to_str().unwrap();
    a.fails(&["capture", "nobody", "-w", name], 4, "not_found");
    a.fails(&["capture", "-w", "/nowhere/at/all", "--seconds", "1"], 1, "internal");
    a.fails(&["capture", "-w", name, "--max-bytes", "9"], 2, "invalid_argument");

    // A full disk ends the capture, and nothing else.
    if Path::new("/dev/full").exists() {
        let error = a.fails(&["capture", "-w", "/dev/full", "--seconds", "20"], 1, "internal");
        assert!(error["message"].as_str().unwrap().contains("No space left on device"), "{error}");
    }

    // A reader that does not read misses packets; the stream does not wait for it.
    let mut slow = begin(&mut a.command(&["capture", "-w", "-", "--max-bytes", "1000000000"]));
    let text = "x".repeat(100_000);
    for _ in 0..5 {
        assert_eq!(a.ok(&["connect", "worker-node", "7", "--message", &text]).len(), text.len());
    }
    drop(slow.0.stdout.take());
    assert!(slow.0.wait().unwrap().success(), "its reader has gone");

    let mut capture = a.command(&["--json", "capture", "-w", name, "--max-bytes", "20000"]);
    let capture = capture.stdout(Stdio::piped()).spawn().unwrap();
    until("the capture is under way", || a.ok(&["log"]).matches("capture_began").count() >= 2);
    a.ok(&["connect", "worker-node", "7", "--message", &text]);
    let said = capture.wait_with_output().unwrap();
    let said: serde_json::Value = serde_json::from_slice(&said.stdout).unwrap();
    let len = std::fs::metadata(&file).unwrap().len();
    assert!(len <= 20_000 && said["data"]["bytes"] == len, "{said}");
    until("its end is in the log", || a.ok(&["log"]).contains("capture_ended"));
    assert!(!b.ok(&["log"]).contains("capture"));
    if has("tshark") {
        assert_eq!(packets(&file, "tcp", &["frame.number"]).len() as u64, said["data"]["packets"].as_u64().unwrap());
    }
}
