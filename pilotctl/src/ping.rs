//! Owns the command `ping`: round trips over streams, perhaps until the path is direct.

use crate::args;
use crate::clean;
use crate::client::{daemon, daemon_for_streams, duration};
use crate::output::{Output, tell};
use crate::path;
use crate::pipe;
use pilot_node::answer::PeerPaths;
use pilot_node::{Client, Code, Failure, StreamReply, ports};
use serde_json::{Value, json};
use std::io::{self, Read as _, Write as _};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

/// Length of a ping. Unit: bytes.
const PING_LEN: usize = 64;
/// Pause between two pings that wait for a direct path.
const PAUSE: Duration = Duration::from_millis(200);
/// Longest wait for one of them.
const WAIT_MAX: Duration = Duration::from_secs(5);
/// Time without an answer after which is said what it waits for. Source: own choice; a person wonders from then on.
const WORD_AFTER: Duration = Duration::from_secs(3);

/// One answer.
struct Echo {
    peer: String,
    dial_ms: f64,
    rtt_ms: f64,
}

/// Pings a peer.
pub(crate) fn ping(args: &args::Ping, output: &Output) -> Result<(), Failure> {
    let timeout = duration(&args.timeout)?;
    let mut client = daemon_for_streams()?;
    if args.until_direct {
        return until_direct(&mut client, &args.node, timeout, output);
    }
    let mut results = Vec::new();
    for seq in 0..args.count {
        let echo = one(&mut client, &args.node, seq, timeout, output)?;
        if !output.json {
            output.line(&line(seq, &echo));
        }
        results.push(result(seq, &echo));
    }
    if output.json {
        output.ok(&json!({"target": args.node, "results": results, "timeout": false}));
    }
    Ok(())
}

/// Pings a peer until its path is direct, for at most `timeout`. A ping without an answer is shown and followed by others.
fn until_direct(client: &mut Client, node: &str, timeout: Duration, output: &Output) -> Result<(), Failure> {
    let (begin, mut results) = (Instant::now(), Vec::new());
    for seq in 0.. {
        let left = timeout.saturating_sub(begin.elapsed());
        let echo = match one(client, node, seq, left.clamp(PAUSE, WAIT_MAX), output) {
            Err(failure) if !matches!(failure.code, Code::Timeout | Code::Unreachable) => return Err(failure),
            echo => echo,
        };
        let report = path::ask(client, node)?;
        let path = report.path.as_deref().unwrap_or("no path");
        let mut row = match &echo {
            Ok(echo) => result(seq, echo),
            Err(failure) => json!({"seq": seq, "error": failure.message}),
        };
        (row["path"], row["relay"]) = (path.into(), report.relay.into());
        results.push(row);
        if !output.json {
            let shown = echo.as_ref().map_or_else(|failure| format!("seq={seq} {}", failure.message), |e| line(seq, e));
            output.line(&format!("{shown} by {path}"));
        }
        if echo.is_ok() && is_direct(&report) {
            if output.json {
                let took_ms = begin.elapsed().as_secs_f64() * 1e3;
                output.ok(&json!({"target": node, "results": results, "direct": true, "took_ms": took_ms}));
            }
            return Ok(());
        }
        if begin.elapsed() + PAUSE >= timeout {
            return Err(not_direct(node, timeout, &report));
        }
        std::thread::sleep(PAUSE);
    }
    Ok(())
}

fn is_direct(report: &PeerPaths) -> bool {
    report.up && !report.relay && report.not_direct.is_none()
}

/// The failure of a peer that is not reached directly in time.
fn not_direct(node: &str, timeout: Duration, report: &PeerPaths) -> Failure {
    let word = report.not_direct.as_deref().unwrap_or("no_answer");
    let text = report.not_direct_text.as_deref().unwrap_or("the peer does not answer");
    let seconds = timeout.as_secs_f64();
    Failure::new(Code::Timeout, format!("{node} was not reached directly within {seconds} s ({word}): {text}"))
        .hint(format!("pilotctl path {node}; pilotctl doctor"))
}

/// Opens a stream and sends bytes there and back.
fn one(client: &mut Client, node: &str, seq: u64, timeout: Duration, output: &Output) -> Result<Echo, Failure> {
    let begin = Instant::now();
    let stream = open(client, node, timeout, output)?;
    let dialed = begin.elapsed();
    let echoed = Instant::now();
    let lost = |e: io::Error| Failure::new(Code::Timeout, format!("no echo from {node}: {e}"));
    stream.socket.set_read_timeout(Some(timeout)).map_err(lost)?;
    (&stream.socket).write_all(&[seq as u8; PING_LEN]).map_err(lost)?;
    let mut answer = [0; PING_LEN];
    (&stream.socket).read_exact(&mut answer).map_err(lost)?;
    let rtt = echoed.elapsed();
    pipe::end_writing(client, &stream).map_err(lost)?;
    if answer != [seq as u8; PING_LEN] {
        return Err(Failure::new(Code::Internal, format!("the echo of {node} differs from what was sent")));
    }
    Ok(Echo { peer: stream.data.peer, dial_ms: dialed.as_secs_f64() * 1e3, rtt_ms: rtt.as_secs_f64() * 1e3 })
}

/// Opens a stream. When that takes long, and may take longer, people are told what it waits for.
fn open(client: &mut Client, node: &str, timeout: Duration, output: &Output) -> Result<StreamReply, Failure> {
    let has_word = !output.json && timeout > WAIT_MAX;
    let (end, opened) = channel::<()>();
    thread::scope(|scope| {
        if has_word {
            scope.spawn(move || {
                if opened.recv_timeout(WORD_AFTER) == Err(RecvTimeoutError::Timeout) {
                    let report = daemon().and_then(|mut client| path::ask(&mut client, node));
                    tell(&waiting(node, report.ok().as_ref()));
                }
            });
        }
        let stream = client.open(node, ports::ECHO, Some(timeout));
        drop(end); // the other thread ends
        stream
    })
}

/// What a ping waits for, on one line.
fn waiting(node: &str, report: Option<&PeerPaths>) -> String {
    let way = report.and_then(|report| report.path.as_deref()).map_or(String::new(), |path| format!(" by {path}"));
    let why = report.and_then(|report| report.not_direct_text.as_deref()).unwrap_or("no answer yet");
    clean::cell(&format!("waiting for {node}{way}: {why}"))
}

fn line(seq: u64, echo: &Echo) -> String {
    let Echo { peer, dial_ms, rtt_ms } = echo;
    format!("{PING_LEN} bytes from {peer}: seq={seq} time={rtt_ms:.3} ms (open {dial_ms:.3} ms)")
}

fn result(seq: u64, echo: &Echo) -> Value {
    json!({"seq": seq, "bytes": PING_LEN, "rtt_ms": echo.rtt_ms, "dial_ms": echo.dial_ms})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_that_stays_relayed_is_named_with_the_reason() {
        let report: PeerPaths = serde_json::from_value(json!({
            "node_id": 2, "address": "0:0000.0000.0002", "hostname": "b", "up": true, "path": "relay channel 3", "relay": true,
            "reason": null, "reason_text": null, "chosen_s": null, "srtt_ms": null, "datagram_len": 1216, "rounds": 1,
            "not_direct": "no_address", "not_direct_text": "the peer has named no address that this node may try",
            "next_round": null, "next_round_s": null, "nat": null, "paths": [],
        }))
        .expect("a report");
        assert!(!is_direct(&report));
        let text = "waiting for b by relay channel 3: the peer has named no address that this node may try";
        assert_eq!(waiting("b", Some(&report)), text);
        assert_eq!(waiting("b\n", None), "waiting for b\\n: no answer yet");
        let failure = not_direct("b", Duration::from_secs(3), &report);
        assert_eq!(failure.code, Code::Timeout);
        assert_eq!(
            failure.message,
            "b was not reached directly within 3 s (no_address): the peer has named no address that this node may try"
        );
        assert!(failure.hint.contains("pilotctl path b"));
    }
}
