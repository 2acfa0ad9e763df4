//! Checks that bad input gets a clear error and an exit status of its own, and harms nothing.
#![allow(clippy::unwrap_used, reason = "tests")]

mod harness;

use harness::{Lab, Node, befriend, until};
use std::io::{Read as _, Write as _};
use std::net::UdpSocket;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::process::Stdio;
use std::time::{Duration, Instant};

#[test]
fn commands_without_a_daemon_say_so() {
    let mut lab = Lab::new();
    let node = lab.node("lonely");
    node.ok(&["daemon", "stop"]);
    for args in [
        &["info"][..],
        &["handshake", "x"],
        &["connect", "x"],
        &["inbox"],
        &["daemon", "stop"],
        &["daemon", "status", "--check"],
    ] {
        let error = node.fails(args, 3, "not_running");
        assert!(error["hint"].as_str().unwrap().contains("daemon start"));
    }
    assert_eq!(node.json(&["daemon", "status"])["running"], false);
}

#[test]
fn names_trust_and_ports_are_told_apart() {
    let mut lab = Lab::new();
    let (a, b) = (lab.node("primary-node"), lab.node("worker-node"));
    a.fails(&["connect", "nobody", "1000"], 4, "not_found");
    a.fails(&["connect", "Not A Name", "1000"], 2, "invalid_argument");
    let error = a.fails(&["connect", "worker-node", "1000"], 5, "trust_required");
    assert_eq!(error["hint"], "pilotctl handshake worker-node");
    a.fails(&["send-message", "worker-node", "--data", "x"], 5, "trust_required");
    assert_eq!(b.json(&["inbox"])["total"], 0, "before approval nothing arrives");
    befriend(&a, &b);
    a.fails(&["connect", "worker-node", "1003", "--message", "x"], 5, "trust_required");
    a.fails(&["connect", "worker-node", "22", "--message", "x"], 5, "trust_required");
    b.ok(&["grant", "primary-node", "--ports", "1003"]);
    until("the grant is known", || {
        a.json(&["grant", "worker-node", "--list"])["granted_to_us"].as_array().unwrap().iter().any(|p| p == "1003")
    });
    let begin = Instant::now();
    a.fails(&["connect", "worker-node", "1003", "--message", "x"], 1, "connection_refused");
    assert!(begin.elapsed() < Duration::from_secs(2), "refused at once");
    b.ok(&["daemon", "stop"]);
    let begin = Instant::now();
    let error = a.fails(&["connect", "worker-node", "1000", "--message", "x"], 7, "unreachable");
    assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", begin.elapsed());
    assert!(error["hint"].as_str().unwrap().contains("send-message"), "{error}");
    b.start();
    b.ok(&["untrust", "primary-node"]);
    until("the withdrawal arrives", || a.json(&["trust"])["total"] == 0);
    a.fails(&["connect", "worker-node", "1000"], 5, "trust_required");
}

#[test]
fn a_freed_name_never_means_two_peers() {
    let mut lab = Lab::new();
    let (a, b, c) = (lab.node("primary-node"), lab.node("worker"), lab.node("other"));
    befriend(&a, &b);
    // The tunnel of the approval would bring A the new name.
    a.ok(&["daemon", "stop"]);
    b.ok(&["set-hostname", "renamed"]);
    c.ok(&["set-hostname", "worker"]);
    a.start();
    // A knows the old worker by this name, so A names the new worker by its address.
    let key = c.json(&["info"])["address"].as_str().unwrap().to_owned();
    c.ok(&["set-public"]);
    a.ok(&["handshake", &key]);
    until("the request arrives", || c.json(&["pending"])["pending"].as_array().is_some_and(|p| !p.is_empty()));
    c.ok(&["approve", "primary-node"]);
    until("both are trusted", || a.json(&["trust"])["total"] == 2);
    let name_of = |node: &str, name: &str| {
        let trusted = a.json(&["trust"])["trusted"].clone();
        trusted.as_array().unwrap().iter().any(|pin| pin["address"] == node && pin["hostname"] == name)
    };
    let old = b.json(&["info"])["address"].as_str().unwrap().to_owned();
    assert!(name_of(&old, "worker") && name_of(&key, ""), "the name means the peer that was approved under it");
    a.ok(&["ping", "worker", "--count", "1"]);
    // The tunnel brings the new name, which ends the confusion.
    until("the old worker has its new name", || name_of(&old, "renamed"));
    a.ok(&["ping", "renamed", "--count", "1"]);
    // A session brings a name again that was another's when the session before began.
    a.ok(&["daemon", "stop"]);
    a.start();
    a.ok(&["ping", &key, "--count", "1"]);
    until("the new worker has the name", || name_of(&key, "worker"));
    let error = c.fails(&["set-hostname", "renamed"], 8, "already_exists");
    assert!(error["message"].as_str().unwrap().contains("belongs to another"));
    c.fails(&["set-hostname", "Bad Name"], 2, "invalid_argument");
}

#[test]
fn one_home_takes_one_daemon_and_a_damaged_identity_is_never_replaced() {
    let mut lab = Lab::new();
    let node = lab.node("single");
    node.fails(&["daemon", "start"], 8, "already_exists");
    let endpoint = lab.endpoint().unwrap();
    let mut second = node.command(&["daemon", "run", "--json", "--rendezvous", &endpoint]);
    let output = second.env("PILOT_SOCKET", lab.folder.join("other.sock")).output().unwrap();
    assert_eq!(output.status.code(), Some(8), "the folder is locked, whatever the socket");
    node.ok(&["daemon", "stop"]);
    let identity = node.home.join("identity");
    let start = ["daemon", "start", "--rendezvous", endpoint.as_str()];
    std::fs::set_permissions(&identity, std::fs::Permissions::from_mode(0o644)).unwrap();
    let error = node.fails(&start, 2, "invalid_argument");
    assert!(error["hint"].as_str().unwrap().contains("chmod 600"), "{error}");
    std::fs::set_permissions(&identity, std::fs::Permissions::from_mode(0o600)).unwrap();
    std::fs::write(&identity, b"short").unwrap();
    let error = node.fails(&start, 2, "invalid_argument");
    assert!(error["message"].as_str().unwrap().contains("damaged"), "{error}");
    assert_eq!(std::fs::read(&identity).unwrap(), b"short");
}

#[test]
fn a_damaged_log_and_one_of_an_earlier_version_are_told_and_never_replaced() {
    let mut lab = Lab::new();
    let (_, b) = lab.friends();
    b.ok(&["daemon", "stop"]);
    let endpoint = lab.endpoint().unwrap();
    let start = ["daemon", "start", "--rendezvous", endpoint.as_str()];
    let first = std::fs::read_dir(b.home.join("books")).unwrap().map(|e| e.unwrap().path()).min().unwrap();
    let good = std::fs::read(&first).unwrap();
    let mut bad = good.clone();
    bad[100] ^= 1;
    std::fs::write(&first, &bad).unwrap();
    let error = b.fails(&start, 1, "internal");
    assert!(error["message"].as_str().unwrap().contains("is damaged"), "{error}");
    assert!(error["hint"].as_str().unwrap().contains("backup"), "{error}");
    assert_eq!(std::fs::read(&first).unwrap(), bad);
    std::fs::write(&first, &good).unwrap();
    std::fs::write(b.home.join("node.redb"), b"").unwrap();
    let error = b.fails(&start, 8, "already_exists");
    assert!(error["hint"].as_str().unwrap().contains("move it away"), "{error}");
    std::fs::remove_file(b.home.join("node.redb")).unwrap();
    b.start();
    assert_eq!(b.json(&["trust"])["total"], 1);
}

#[test]
fn messages_are_checked_before_anything_is_sent() {
    let mut lab = Lab::new();
    let (a, b) = lab.friends();
    a.fails(&["send-message", "worker-node", "--data", "{\"a\":", "--type", "json"], 2, "invalid_argument");
    a.fails(&["send-message", "worker-node", "--data", "x", "--type", "picture"], 2, "invalid_argument");
    a.fails(&["send-message", "worker-node"], 2, "invalid_argument");
    let big = lab.folder.join("big");
    std::fs::write(&big, vec![b'x'; (16 << 20) + 1]).unwrap();
    let error = a.fails(&["send-message", "worker-node", "--data-file", big.to_str().unwrap()], 2, "invalid_argument");
    assert!(error["message"].as_str().unwrap().contains("16 MiB"), "{error}");
    assert_eq!(b.json(&["inbox"])["total"], 0);
    std::fs::write(&big, vec![b'x'; 16 << 20]).unwrap();
    a.ok(&["send-message", "worker-node", "--data-file", big.to_str().unwrap(), "--timeout", "60"]);
    assert_eq!(b.json(&["inbox"])["messages"][0]["bytes"], 16 << 20);
    a.fails(&["inbox", "read", "77"], 4, "not_found");
    a.fails(&["inbox", "read", "x"], 2, "invalid_argument");
    a.fails(&["frobnicate"], 2, "invalid_argument");
    a.fails(&["approve", "nobody"], 4, "not_found");
}

#[test]
fn a_peer_killed_in_mid_stream_is_an_error_and_never_a_clean_end() {
    let mut lab = Lab::new();
    let (a, b) = lab.friends();
    let listener = b
        .command(&["listen", "1000"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut reader = a
        .command(&["connect", "worker-node", "1000"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    until("the stream stands", || a.json(&["connections"])["connections"][0]["state"] == "ESTABLISHED");
    b.kill();
    b.start();
    reader.stdin.as_mut().unwrap().write_all(b"are you there?\n").unwrap();
    let begin = Instant::now();
    let output = reader.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("restarted"),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", begin.elapsed());
    drop(listener);
}

#[test]
fn random_datagrams_are_met_with_silence() {
    let mut lab = Lab::new();
    let (a, b) = lab.friends();
    let target = b.json(&["info"])["udp"].as_str().unwrap().to_owned();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut state = 1u64;
    for n in 0..20_000u32 {
        let junk: Vec<u8> = (0..n % 300)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (state >> 56) as u8 % if n % 2 == 0 { 6 } else { 255 }
            })
            .collect();
        socket.send_to(&junk, &target).unwrap();
    }
    socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    assert!(socket.recv(&mut [0; 2000]).is_err(), "no reply of any kind");
    a.ok(&["ping", "worker-node", "--count", "2"]);
}

#[test]
fn malformed_ipc_frames_cost_only_their_client() {
    let mut lab = Lab::new();
    let node = lab.node("target");
    let connect = || UnixStream::connect(node.home.join("pilot.sock")).unwrap();
    for bytes in [
        &[0, 0, 0, 0, 0][..],
        &[0xff; 64],
        &[0, 0, 0, 2, 0x80, 1],
        &[0, 0, 0, 9, 0x80, 0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff],
        &[0, 0, 0, 1, 0x77],
    ] {
        let mut socket = connect();
        socket.write_all(bytes).unwrap();
        socket.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answer = Vec::new();
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        // The daemon may answer with an error, or close the connection.
        let _ = socket.read_to_end(&mut answer);
        assert!(answer.is_empty() || answer[4] == 0x0a, "{answer:?}");
    }
    node.ok(&["info"]);
}

/// Processor time that a process has used. Unit: seconds. `None` where the system does not say.
fn cpu_s(pid: &str) -> Option<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<f64>().ok();
    Some((ticks()? + ticks()?) / 100.0)
}

/// Sends so many frames of five bytes, and asks as another client until the last one is answered; gives the number of the requests.
fn flood(node: &Node, frames: usize) -> usize {
    let mut socket = UnixStream::connect(node.home.join("pilot.sock")).unwrap();
    let mut writer = socket.try_clone().unwrap();
    // An INFO behind all the others is answered last.
    let writer = std::thread::spawn(move || {
        writer.write_all(&[0, 0, 0, 1, 0x06].repeat(frames)).unwrap();
        writer.write_all(&[0, 0, 0, 1, 0x0d]).unwrap();
    });
    let reader = std::thread::spawn(move || {
        let mut head = [0; 5];
        while head[4] != 0x0e {
            socket.read_exact(&mut head).unwrap();
            let mut payload = vec![0; u32::from_be_bytes([head[0], head[1], head[2], head[3]]) as usize - 1];
            socket.read_exact(&mut payload).unwrap();
        }
    });
    let (mut client, mut asked) = (node.client(), 0);
    while asked < 10 || !reader.is_finished() {
        // The time limit ends the test of a daemon that hangs, and is no measure.
        client.request(&pilot_node::Request::Version, &[], Some(Duration::from_secs(60))).unwrap();
        asked += 1;
    }
    writer.join().unwrap();
    reader.join().unwrap();
    asked
}

/// Four times as many frames cost about four times the processor time, whatever the machine does beside; a daemon that moved the
/// rest of its buffer for each frame needed sixteen times as much. How soon others are served, `pilot-node` tests in turns. Prints
/// its figures (`--nocapture`).
#[test]
fn megabytes_of_tiny_frames_are_linear_work_and_other_clients_are_served() {
    const FRAMES: usize = (1 << 20) / 5;
    let mut lab = Lab::new();
    let node = lab.node("target");
    let pid = node.pid();
    let cost = |frames| {
        let before = cpu_s(&pid);
        let asked = flood(&node, frames);
        let cost = cpu_s(&pid).zip(before).map(|(after, before)| after - before);
        println!("{frames} frames of 5 bytes: {cost:.2?} s of processor time; {asked} requests of others meanwhile");
        cost
    };
    if let (Some(few), Some(many)) = (cost(FRAMES), cost(4 * FRAMES)) {
        assert!(many < 8.0 * few.max(0.1), "{few} s, and four times the frames {many} s");
    }
}

/// Frames of the official protocol (`len u32 | command u8 | payload`), as official clients send them.
#[test]
fn official_commands_drive_the_daemon() {
    let mut lab = Lab::new();
    let (a, b) = lab.friends();
    let mut socket = UnixStream::connect(a.home.join("pilot.sock")).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let mut call = |command: u8, payload: &[u8]| {
        let mut frame = (1 + payload.len() as u32).to_be_bytes().to_vec();
        frame.push(command);
        frame.extend_from_slice(payload);
        socket.write_all(&frame).unwrap();
        let mut read = || {
            let mut head = [0; 5];
            socket.read_exact(&mut head).unwrap();
            let mut payload = vec![0; u32::from_be_bytes([head[0], head[1], head[2], head[3]]) as usize - 1];
            socket.read_exact(&mut payload).unwrap();
            (head[4], payload)
        };
        if command == 0x06 { (0, Vec::new()) } else { read() }
    };
    let (reply, info) = call(0x0d, &[]);
    let info: serde_json::Value = serde_json::from_slice(&info).unwrap();
    assert_eq!((reply, info["hostname"].as_str()), (0x0e, Some("primary-node")));
    let (reply, found) = call(0x11, b"worker-node");
    let found: serde_json::Value = serde_json::from_slice(&found).unwrap();
    assert_eq!((reply, found["type"].as_str()), (0x12, Some("resolve_hostname_ok")));
    let node = u32::try_from(found["node_id"].as_u64().unwrap()).unwrap().to_be_bytes();
    let (reply, trust) = call(0x0f, &[&[7][..], &node, &[0; 4]].concat());
    assert!(reply == 0x10 && String::from_utf8_lossy(&trust).contains("\"trusted\":true"));
    let (reply, connection) = call(0x03, &[&[0, 0][..], &node, &7u16.to_be_bytes()].concat());
    assert_eq!(reply, 0x04);
    call(0x06, &[&connection[..], b"echo me"].concat());
    let (reply, echoed) = call(0x77, &[]); // an unknown command gets an error; the echo may come first
    let texts =
        [String::from_utf8_lossy(&echoed).into_owned(), String::from_utf8_lossy(&call(0x0d, &[]).1).into_owned()];
    assert!(reply == 0x0a || reply == 0x07);
    assert!(texts.iter().any(|t| t.contains("unknown command: 0x77")), "{texts:?}");
    assert!(b.ok(&["connections"]).contains('7'));
}
