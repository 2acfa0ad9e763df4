//! Sessions of a user with real processes.
#![allow(clippy::unwrap_used, reason = "tests")]

mod harness;

use harness::{Lab, pilotctl, until};
use pilot_node::Request;
use serde_json::Value;
use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

#[test]
fn the_four_commands_work_letter_for_letter_without_any_configuration() {
    let folder = std::env::temp_dir().join(format!("pilot-zero-{}", std::process::id()));
    let run = |home: &str, line: &str| {
        let script = format!("PATH=\"$(dirname {}):$PATH\"; {line}", env!("CARGO_BIN_EXE_pilotctl"));
        let mut command = std::process::Command::new("bash");
        command
            .args(["-c", &script])
            .env("PILOT_HOME", folder.join(home))
            .env("PILOT_LOCAL_RENDEZVOUS", folder.join("rendezvous"));
        for variable in ["PILOT_SOCKET", "PILOT_RENDEZVOUS", "PILOT_HOSTNAME"] {
            command.env_remove(variable);
        }
        let output = command.stdin(Stdio::null()).output().unwrap();
        (
            output.status.code(),
            String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr),
        )
    };
    let ok = |home: &str, line: &str| {
        let (code, text) = run(home, line);
        assert_eq!(code, Some(0), "{line}: {text}");
        text
    };
    ok("a", "pilotctl daemon start --hostname primary-node");
    ok("b", "pilotctl daemon start --hostname worker-node");
    let address = ok("a", "pilotctl info --json");
    ok("a", "pilotctl handshake worker-node");
    until("the request arrives", || run("b", "pilotctl pending").1.contains("primary-node"));
    ok("b", "pilotctl approve primary-node");
    until("the approval arrives", || run("a", "pilotctl trust").1.contains("worker-node"));
    let answer = ok("a", r#"echo '{"action":"execute_query"}' | pilotctl connect worker-node 1000"#);
    assert!(answer.contains("stored"), "{answer}");
    let sent = ok("a", r#"pilotctl send-message worker-node --data '{"status":"complete"}' --type json"#);
    assert!(sent.contains("ACK JSON 21 bytes"), "{sent}");
    let inbox = ok("b", "pilotctl inbox");
    assert!(inbox.contains(r#"{"action":"execute_query"}"#) && inbox.contains(r#"{"status":"complete"}"#), "{inbox}");
    for home in ["a", "b"] {
        ok(home, "pilotctl daemon stop");
    }
    ok("a", "pilotctl daemon start");
    let data = |text: &str| serde_json::from_str::<Value>(text).unwrap()["data"].clone();
    let (before, after) = (data(&address), data(&ok("a", "pilotctl info --json")));
    assert_eq!(
        (&before["address"], &before["hostname"]),
        (&after["address"], &after["hostname"]),
        "both survive a restart"
    );
    ok("a", "pilotctl daemon stop");
    let rendezvous = std::fs::read_to_string(folder.join("rendezvous/pid")).unwrap();
    std::process::Command::new("kill").arg(rendezvous).status().unwrap();
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_program_that_listens_is_reached_and_answers() {
    let mut lab = Lab::new();
    let (a, b) = lab.friends();
    let receiver = b.command(&["recv", "1000", "--reply", "pong", "--json"]).stdout(Stdio::piped()).spawn().unwrap();
    until("the port is bound", || {
        let connected = a.feed(&["connect", "worker-node", "1000", "--json"], b"ping");
        let reply: Value = serde_json::from_slice(&connected.stdout).unwrap_or_default();
        reply["data"]["response"] == "pong"
    });
    let output = receiver.wait_with_output().unwrap();
    let got: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(got["data"]["messages"][0]["data"], "ping");
}

#[test]
fn pipes_carry_any_bytes_and_half_close_works() {
    let mut lab = Lab::new();
    let (a, b) = lab.friends();
    let binary: Vec<u8> = (0..5_000_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 9) as u8).collect();
    for (input, back) in [(binary, &b"the end came before this answer"[..]), (Vec::new(), b"nothing was said")] {
        let mut client = b.client();
        let port = 1000;
        // Until a program binds the port, the daemon's own service has it; that it hears of the end of the client before takes a moment.
        until("the port is free", || {
            client.request(&Request::Listen { port }, &[], Some(Duration::from_secs(20))).is_ok()
        });
        let expected = input.clone();
        let server = std::thread::spawn(move || {
            let stream = client.stream(&Request::Accept { port, hold: None }, Some(Duration::from_secs(20))).unwrap();
            let mut got = Vec::new();
            (&stream.socket).read_to_end(&mut got).unwrap();
            assert!(got == expected, "{} bytes arrived of {}", got.len(), expected.len());
            (&stream.socket).write_all(back).unwrap();
            stream.socket.shutdown(Shutdown::Write).unwrap();
            client.stream_end(stream.data.stream, Some(Duration::from_secs(20))).unwrap();
        });
        let output = a.feed(&["connect", "worker-node", "1000"], &input);
        assert!(output.status.success() && output.stdout == back, "{output:?}");
        server.join().unwrap();
    }
}

#[test]
fn a_thousand_messages_in_one_burst_are_in_the_inbox_in_order_and_once() {
    let mut lab = Lab::new();
    let (a, b) = lab.friends();
    let frame = |n: u32| {
        let (meta, body) = (format!("{{\"message_id\":\"{n:032x}\"}}"), format!("{{\"n\":{n}}}"));
        let mut out = 10u32.to_be_bytes().to_vec();
        out.extend((2 + meta.len() as u32 + 4 + body.len() as u32).to_be_bytes());
        out.extend((meta.len() as u16).to_be_bytes());
        out.extend(meta.as_bytes());
        out.extend(3u32.to_be_bytes());
        out.extend(body.as_bytes());
        out
    };
    let burst: Vec<u8> = (0..1000).flat_map(frame).collect();
    // The burst is sent twice: the second time as a sender does that lost every acknowledgement.
    for _ in 0..2 {
        let mut client = a.client();
        let stream = client.open("worker-node", 1001, Some(Duration::from_secs(10))).unwrap();
        (&stream.socket).write_all(&burst).unwrap();
        stream.socket.shutdown(Shutdown::Write).unwrap();
        let mut answers = String::new();
        (&stream.socket).read_to_string(&mut answers).unwrap();
        assert_eq!(answers.matches("ACK JSON").count(), 1000);
    }
    let inbox = b.json(&["inbox", "--limit", "2000"]);
    assert_eq!(inbox["total"], 1000);
    let rows = inbox["messages"].as_array().unwrap();
    assert!(rows.iter().enumerate().all(|(n, row)| row["preview"] == format!("{{\"n\":{n}}}")), "in order");
}

#[test]
fn what_was_acknowledged_survives_kill_minus_nine_of_the_receiver() {
    let mut lab = Lab::new();
    let (a, b) = lab.friends();
    for n in 0..5 {
        let data = format!("message {n}");
        a.ok(&["send-message", "worker-node", "--data", &data, "--timeout", "20"]);
        b.kill();
        b.start();
        let inbox = b.json(&["inbox"]);
        let previews: Vec<&str> =
            inbox["messages"].as_array().unwrap().iter().map(|m| m["preview"].as_str().unwrap()).collect();
        let expected: Vec<String> = (0..=n).map(|i| format!("message {i}")).collect();
        assert_eq!(previews, expected);
    }
}

#[test]
fn kills_at_random_moments_lose_and_double_no_message() {
    const KILLS: u64 = 15;
    let mut lab = Lab::new();
    let (a, b) = lab.friends();
    let sent = AtomicU64::new(0);
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // Four senders at once, so that some message is always on its way to the disk.
        for _ in 0..4 {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    let data = format!("message {}", sent.fetch_add(1, Ordering::Relaxed));
                    // Acknowledged in time or left in the outbox, the message must arrive.
                    a.run(&["send-message", "worker-node", "--data", &data, "--timeout", "5"]);
                }
            });
        }
        let mut pause = 1;
        for _ in 0..KILLS {
            // A time below 0.4 s, from Lehmer's generator.
            pause = pause * 48271 % 0x7fff_ffff;
            std::thread::sleep(Duration::from_millis(pause % 400));
            b.kill();
            b.start();
        }
        is_over.store(true, Ordering::Relaxed);
    });
    until("the outbox is empty", || a.json(&["info"])["outbox"] == 0);
    let inbox = b.json(&["inbox", "--limit", "100000"]);
    let rows = inbox["messages"].as_array().unwrap();
    let mut arrived: Vec<u64> =
        rows.iter().map(|row| row["preview"].as_str().unwrap()["message ".len()..].parse().unwrap()).collect();
    arrived.sort_unstable();
    assert!(arrived.iter().copied().eq(0..sent.into_inner()), "{arrived:?}");
}

#[test]
fn messages_wait_in_the_outbox_across_restarts_of_both_sides() {
    let mut lab = Lab::new();
    let (a, b) = lab.friends();
    b.ok(&["daemon", "stop"]);
    let error = a.fails(&["send-message", "worker-node", "--data", "later", "--timeout", "1"], 7, "unreachable");
    assert!(error["message"].as_str().unwrap().contains("outbox"), "{error}");
    a.fails(&["send-message", "worker-node", "--data", "never", "--no-queue", "--timeout", "1"], 6, "timeout");
    a.kill();
    b.start();
    a.start();
    until("the message arrives", || b.json(&["inbox"])["total"] == 1);
    assert_eq!(b.json(&["inbox"])["messages"][0]["preview"], "later");
}

#[test]
fn friends_need_no_rendezvous_and_daemons_start_without_one() {
    let mut lab = Lab::new();
    let (a, b) = lab.friends();
    a.ok(&["ping", "worker-node", "--count", "1"]);
    b.ok(&["daemon", "stop"]);
    lab.kill_rendezvous();
    a.ok(&["daemon", "status", "--check"]);
    b.start();
    // No rendezvous can tell A the new port of B; B knows the address of A.
    until("B reaches A", || b.run(&["ping", "primary-node", "--count", "1", "--timeout", "3"]).status.success());
    a.ok(&["ping", "worker-node", "--count", "1"]);
    let begin = Instant::now();
    a.fails(&["handshake", "somebody-new"], 7, "unreachable");
    assert!(begin.elapsed() < Duration::from_secs(5));
}

#[test]
fn demo_shows_the_main_job_and_leaves_nothing_behind() {
    let temporary = std::env::temp_dir().join(format!("pilot-demo-test-{}", std::process::id()));
    std::fs::create_dir_all(&temporary).unwrap();
    let output = pilotctl(&["demo", "--json"]).env("TMPDIR", &temporary).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let shown: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(shown["data"]["transfer_bytes"], 64_000_000);
    assert_eq!(shown["data"]["message"], "{\"status\":\"complete\"}");
    assert!(shown["data"]["approval_to_answer_ms"].as_f64().unwrap() < 1000.0);
    assert_eq!(std::fs::read_dir(&temporary).unwrap().count(), 0);

    let mut interrupted = pilotctl(&["demo"]).env("TMPDIR", &temporary).stdout(Stdio::null()).spawn().unwrap();
    until("it has begun", || std::fs::read_dir(&temporary).unwrap().count() > 0);
    std::thread::sleep(Duration::from_millis(100));
    std::process::Command::new("kill").args(["-INT", &interrupted.id().to_string()]).status().unwrap();
    interrupted.wait().unwrap();
    assert_eq!(std::fs::read_dir(&temporary).unwrap().count(), 0);
    std::fs::remove_dir_all(temporary).unwrap();
}
