//! The reasons behind a path and behind its absence, as people and programs are told them by real nodes.
#![allow(clippy::unwrap_used, reason = "tests")]

mod harness;

use harness::{Lab, until};
use std::io::{BufRead as _, BufReader};
use std::process::Stdio;
use std::time::{Duration, Instant};

#[test]
fn a_peer_on_this_machine_is_direct_and_each_change_is_a_line() {
    let mut lab = Lab::new();
    let (a, b) = lab.friends();
    a.ok(&["ping", "worker-node", "--count", "1"]);
    let told = a.json(&["path", "worker-node"]);
    assert_eq!((&told["up"], &told["relay"], &told["not_direct"]), (&true.into(), &false.into(), &().into()), "{told}");
    assert!(told["reason"].is_string() && told["chosen_s"].as_f64().unwrap() < 60.0, "{told}");
    let paths = told["paths"].as_array().unwrap();
    let in_use = paths.iter().find(|path| path["path"] == told["path"]).unwrap();
    assert_eq!((&in_use["standing"], &in_use["validated"]), (&"proven".into(), &true.into()));
    let text = a.ok(&["path", "worker-node"]);
    assert!(text.starts_with("worker-node  ") && text.contains("\ndirect    yes\n"), "{text}");
    assert!(text.lines().any(|line| line.starts_with("* 127.0.0.1:")), "{text}");
    let error = a.fails(&["path", "stranger"], 5, "trust_required");
    assert!(error["message"].as_str().unwrap().contains("stranger"), "{error}");

    let watch = |more: &[&str]| {
        let words = [&["path", "worker-node", "--watch"][..], more].concat();
        a.command(&words).stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap()
    };
    let (mut people, mut programs) = (watch(&[]), watch(&["--json"]));
    let mut lines = BufReader::new(people.stdout.take().unwrap()).lines().map(|line| line.unwrap());
    let mut objects = BufReader::new(programs.stdout.take().unwrap())
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(&line.unwrap()).unwrap());
    assert_eq!(objects.next().unwrap()["hostname"], "worker-node");
    lines.find(|line| line.starts_with("* 127.0.0.1:")).unwrap();
    b.ok(&["daemon", "stop"]);
    lines.find(|line| line.contains("peer_down") && line.contains("worker-node was shut down")).unwrap();
    objects.find(|event| event["event"] == "peer_down" && event["hostname"] == "worker-node").unwrap();
    for mut child in [people, programs] {
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let away = a.json(&["path", "worker-node"]);
    assert_eq!((&away["up"], &away["not_direct"]), (&false.into(), &"not_in_use".into()), "{away}");
}

#[test]
fn pings_go_on_until_the_path_is_direct_or_say_why_it_is_not() {
    let mut lab = Lab::new();
    let (a, b) = lab.friends();
    let told = a.json(&["ping", "worker-node", "--until-direct", "--timeout", "20"]);
    let rows = told["results"].as_array().unwrap();
    assert!(told["direct"] == true && rows.last().unwrap()["relay"] == false, "{told}");
    assert!(rows.last().unwrap()["path"].as_str().unwrap().starts_with("direct 127.0.0.1:"), "{told}");
    let text = a.ok(&["ping", "worker-node", "--until-direct"]);
    assert!(text.trim_end().lines().last().unwrap().contains(" by direct 127.0.0.1:"), "{text}");
    a.fails(&["ping", "stranger", "--until-direct"], 4, "not_found");
    b.kill();
    let error = a.fails(&["ping", "worker-node", "--until-direct", "--timeout", "1"], 6, "timeout");
    let message = error["message"].as_str().unwrap();
    assert!(message.starts_with("worker-node was not reached directly within 1 s ("), "{error}");
    assert_eq!(error["hint"], "pilotctl path worker-node; pilotctl doctor");
}

#[test]
fn a_rendezvous_that_died_is_shown_within_ten_seconds_and_so_is_its_return() {
    let mut lab = Lab::new();
    let node = lab.node("lonely-node");
    let info = node.json(&["info"]);
    let link = &info["rendezvous_link"];
    assert_eq!(
        (&info["rendezvous"], &link["carrier"], &link["udp"]),
        (&"ready".into(), &"udp".into(), &"works".into())
    );
    assert!(link["heard_s"].is_number() && link["rtt_ms"].is_number(), "{link}");
    lab.kill_rendezvous();
    let begin = Instant::now();
    until("the silence is told", || node.json(&["info"])["rendezvous"] == "silent");
    println!("told after {:?}", begin.elapsed());
    let told = node.run(&["info"]);
    let note = String::from_utf8_lossy(&told.stderr).into_owned();
    assert!(told.status.success() && note.contains("rendezvous: silent, heard "), "{note}");
    assert!(node.json(&["info"])["rendezvous_link"]["heard_s"].as_f64().unwrap() > 0.1);
    lab.start_rendezvous();
    until("it is back", || node.json(&["info"])["rendezvous"] == "ready");
}

/// Nothing is left that could answer: that is said long before the ping gives up.
#[test]
fn a_ping_without_rendezvous_and_peer_says_what_it_waits_for() {
    let mut lab = Lab::new();
    let (a, b) = lab.friends();
    a.ok(&["ping", "worker-node", "--count", "1"]);
    lab.kill_rendezvous();
    b.kill();
    let mut command = a.command(&["ping", "worker-node", "--count", "1", "--timeout", "60"]);
    let mut ping = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let begin = Instant::now();
    let word = BufReader::new(ping.stderr.take().unwrap()).lines().next().unwrap().unwrap();
    println!("told after {:?}: {word}", begin.elapsed());
    assert!(word.starts_with("waiting for worker-node") && word.contains(": "), "{word}");
    assert!(begin.elapsed() < Duration::from_secs(25), "{:?}", begin.elapsed());
    ping.kill().unwrap();
    ping.wait().unwrap();
    let error = a.fails(&["ping", "worker-node", "--count", "1", "--timeout", "1"], 6, "timeout");
    assert!(error["message"].as_str().unwrap().starts_with("worker-node did not answer on port 7 in time"), "{error}");
}

#[test]
fn a_peer_that_is_gone_is_named_by_the_command_that_waits_for_it() {
    let mut lab = Lab::new();
    let (a, b) = lab.friends();
    a.ok(&["ping", "worker-node", "--count", "1"]);
    b.kill();
    let begin = Instant::now();
    let error = a.fails(&["ping", "worker-node", "--count", "1", "--timeout", "1"], 6, "timeout");
    assert!(
        error["message"].as_str().unwrap().starts_with("worker-node did not answer on port 7 in time by "),
        "{error}"
    );
    assert_eq!(error["hint"], "pilotctl path worker-node");
    assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", begin.elapsed());
}
