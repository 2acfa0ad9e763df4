//! Grants that change, requests for more, and peers with other names, with real processes.
#![allow(clippy::unwrap_used, reason = "tests")]

mod harness;

use harness::{Lab, until};
use serde_json::json;
use std::process::Stdio;

#[test]
fn a_sender_without_a_grant_is_told_at_once_and_asks_for_it() {
    let mut lab = Lab::new();
    let (a, b) = (lab.node("primary-node"), lab.node("worker-node"));
    a.ok(&["handshake", "worker-node"]);
    until("the request arrives", || b.json(&["pending"])["pending"].as_array().is_some_and(|p| !p.is_empty()));
    let approved = b.run(&["approve", "primary-node", "--ports", "echo,8000-8010"]);
    let words = String::from_utf8(approved.stderr).unwrap();
    assert!(approved.status.success(), "{words}");
    assert!(words.contains("can reach here: echo, 8000-8010") && words.contains("warning: primary-node"), "{words}");
    until("the approval arrives", || a.json(&["trust"])["total"] == 1);

    // The first attempt may still have to make a tunnel; it has the true reason all the same.
    let error = a.fails(&["send-message", "worker-node", "--data", "x"], 5, "trust_required");
    assert_eq!(error["message"], "messages are not granted by worker-node");
    assert_eq!(error["hint"], "ask: pilotctl handshake worker-node --ports messages");
    let file = lab.folder.join("file");
    std::fs::write(&file, b"text").unwrap();
    a.fails(&["send-file", "worker-node", file.to_str().unwrap()], 5, "trust_required");
    a.fails(&["subscribe", "worker-node", "a"], 5, "trust_required");
    a.fails(&["publish", "worker-node", "a", "--data", "1"], 5, "trust_required");
    a.fails(&["connect", "worker-node", "22"], 5, "trust_required");
    assert_eq!(a.json(&["info"])["outbox"], 0, "nothing is queued");
    a.ok(&["ping", "worker-node", "--count", "1"]);

    // Both sides show the grants, both ways.
    let ours = a.json(&["trust"])["trusted"][0].clone();
    assert_eq!((&ours["granted_to_us"], &ours["granted"][0]), (&json!(["echo", "8000-8010"]), &json!("echo")));
    let theirs = b.json(&["peers"])["peers"][0].clone();
    assert_eq!((&theirs["granted"], &theirs["granted_to_us"][2]), (&json!(["echo", "8000-8010"]), &json!("messages")));

    let asked = a.json(&["handshake", "worker-node", "--ports", "messages", "to report"]);
    assert_eq!((&asked["status"], &asked["asked_for"]), (&json!("sent"), &json!(["messages"])));
    until("the wish arrives", || !b.json(&["pending"])["pending"].as_array().unwrap().is_empty());
    let pending = b.json(&["pending"])["pending"][0].clone();
    assert_eq!((&pending["asks_for"], &pending["granted"]), (&json!(["messages"]), &json!(["echo", "8000-8010"])));
    b.ok(&["reject", "primary-node", "not today"]);
    until("the answer arrives", || a.json(&["trust"])["trusted"][0]["asked_for"].is_null());
    a.fails(&["send-message", "worker-node", "--data", "x"], 5, "trust_required");
    a.ok(&["handshake", "worker-node", "--ports", "messages"]);
    until("the wish arrives", || !b.json(&["pending"])["pending"].as_array().unwrap().is_empty());
    assert_eq!(b.json(&["approve", "primary-node"])["granted"], json!(["echo", "messages", "8000-8010"]));
    until("the answer arrives", || a.json(&["trust"])["trusted"][0]["granted_to_us"][1] == "messages");
    a.ok(&["send-message", "worker-node", "--data", "x"]);
}

#[test]
fn grants_change_at_once_and_survive_the_death_of_the_daemon() {
    let mut lab = Lab::new();
    let (a, b) = lab.friends();
    a.ok(&["ping", "worker-node", "--count", "1"]);
    let mut events = b.command(&["events", "--count", "1", "--timeout", "20"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut held = b.client();
    held.request(&pilot_node::Request::Listen { port: 8001 }, &[], None).unwrap();
    let granted = b.json(&["grant", "primary-node", "--ports", "8000-8010", "--expires", "24h"]);
    assert_eq!((&granted["status"], &granted["temporary"][0]["ports"]), (&json!("granted"), &json!(["8000-8010"])));
    // At once, and on disk: the daemon dies right after.
    let withdrawn = b.json(&["revoke", "primary-node", "--ports", "events,stdio"]);
    assert_eq!((&withdrawn["status"], &withdrawn["withheld"]), (&json!("withdrawn"), &json!(["stdio", "events"])));
    let event = events.wait().is_ok_and(|status| status.success());
    assert!(event, "an event was told");
    b.kill();
    b.start();
    let list = b.json(&["grant", "primary-node", "--list"]);
    assert_eq!(
        (&list["granted"], &list["temporary"][0]["ports"]),
        (&json!(["echo", "messages", "8000-8010"]), &json!(["8000-8010"]))
    );
    until("the other side has heard", || {
        a.json(&["grant", "worker-node", "--list"])["granted_to_us"] == json!(["echo", "messages", "8000-8010"])
    });
    let log = b.ok(&["log", "--lines", "200"]);
    assert!(log.contains("step=withdrawn by=owner ports=") && log.contains("step=granted by=owner ports="), "{log}");

    for (args, status, code) in [
        (&["grant", "primary-node", "--ports", "0"][..], 2, "invalid_argument"),
        (&["grant", "primary-node", "--ports", "65536"], 2, "invalid_argument"),
        (&["grant", "primary-node", "--ports", "mail"], 2, "invalid_argument"),
        (&["grant", "primary-node", "--ports", "80", "--expires", "0"], 2, "invalid_argument"),
        (&["grant", "primary-node", "--ports", "80", "--list"], 2, "invalid_argument"),
        (&["grant", "primary-node"], 2, "invalid_argument"),
        (&["grant", "no-such-node", "--ports", "80"], 4, "not_found"),
        (&["revoke", "primary-node", "--ports", "443"], 4, "not_found"),
    ] {
        b.fails(args, status, code);
    }
}

#[test]
fn a_stream_on_a_withdrawn_port_is_reset() {
    let mut lab = Lab::new();
    let (a, b) = lab.friends();
    let mut client = b.client();
    client.request(&pilot_node::Request::Listen { port: 1000 }, &[], None).unwrap();
    let mut feeder = a.command(&["connect", "worker-node", "1000"]);
    let mut feeder = feeder.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let accept = pilot_node::Request::Accept { port: 1000, hold: None };
    let stream = client.stream(&accept, Some(std::time::Duration::from_secs(20))).unwrap();
    until("the stream stands", || a.json(&["connections"])["connections"][0]["state"] == "ESTABLISHED");
    b.ok(&["revoke", "primary-node", "--ports", "stdio"]);
    let end = client.stream_end(stream.data.stream, Some(std::time::Duration::from_secs(20))).unwrap_err();
    assert!(end.message.contains("not granted to primary-node any more"), "{end}");
    // The news of the grant and the reset travel apart: the reason is the grant (5) when that comes first, else the reset (1).
    let code = feeder.wait().unwrap().code();
    assert!(matches!(code, Some(1 | 5)), "never a clean end: {code:?}");
    a.fails(&["connect", "worker-node", "1000"], 5, "trust_required");
}

#[test]
fn messages_that_wait_say_why_and_leave_when_the_grant_comes_back() {
    let mut lab = Lab::new();
    let (a, b) = lab.friends();
    a.ok(&["send-message", "worker-node", "--data", "first"]);
    b.ok(&["daemon", "stop"]);
    a.fails(&["send-message", "worker-node", "--data", "second", "--timeout", "1"], 7, "unreachable");
    b.start();
    b.ok(&["revoke", "primary-node", "--ports", "messages"]);
    // The message waited before the grant went; it may have arrived in between.
    until("the reason is told, or the message has arrived", || {
        let waiting = a.json(&["info"])["outbox_waiting"].clone();
        waiting == json!([]) || waiting[0]["reason"] == "messages are not granted by worker-node"
    });
    a.fails(&["send-message", "worker-node", "--data", "third"], 5, "trust_required");
    b.ok(&["grant", "primary-node", "--ports", "messages"]);
    until("the outbox is empty", || a.json(&["info"])["outbox"] == 0);
    until("all have arrived", || b.json(&["inbox"])["total"] == 2);
}

#[test]
fn a_peer_that_renames_itself_is_found_under_its_new_name() {
    let mut lab = Lab::new();
    let (a, b) = lab.friends();
    a.ok(&["ping", "worker-node", "--count", "1"]);
    b.ok(&["set-hostname", "renamed-node"]);
    until("the new name is known", || a.json(&["trust"])["trusted"][0]["hostname"] == "renamed-node");
    assert_eq!(a.json(&["trust"])["total"], 1);
    a.ok(&["ping", "renamed-node", "--count", "1"]);
    a.fails(&["connect", "worker-node", "7"], 4, "not_found");
    // Without a tunnel, the name is found by looking it up.
    a.ok(&["daemon", "stop"]);
    b.ok(&["set-hostname", "third-name"]);
    a.start();
    a.ok(&["send-message", "third-name", "--data", "hello"]);
    assert_eq!(a.json(&["trust"])["trusted"][0]["hostname"], "third-name");
    // Another node takes the freed name: it is not the peer.
    let c = lab.node("other-node");
    c.ok(&["set-hostname", "worker-node"]);
    c.ok(&["handshake", "primary-node"]);
    a.fails(&["send-message", "worker-node", "--data", "not for you"], 5, "trust_required");
    until("the request arrives", || !a.json(&["pending"])["pending"].as_array().unwrap().is_empty());
    a.ok(&["approve", "worker-node"]);
    assert_eq!(a.json(&["trust"])["total"], 2);
}

#[test]
fn quotas_are_set_shown_and_survive_a_restart() {
    let mut lab = Lab::new();
    let (_a, b) = lab.friends();
    let limited = b.run(&["grant", "primary-node", "--quota", "memory=2MB,messages=10000/day"]);
    let words = String::from_utf8(limited.stderr).unwrap();
    assert!(words.contains("may use here at most: memory=2MB,messages=10000/day"), "{words}");
    b.kill();
    b.start();
    assert_eq!(b.json(&["grant", "primary-node", "--list"])["quota"], "memory=2MB,messages=10000/day");
    for (bad, why) in
        [("memory=1KB", "1MB"), ("cpu=1", "the keys are"), ("disk=1GB,disk=2GB", "twice"), ("streams=0", "0 is")]
    {
        let error = b.fails(&["grant", "primary-node", "--quota", bad], 2, "invalid_argument");
        assert!(error["message"].as_str().is_some_and(|text| text.contains(why)), "{error}");
    }
    b.fails(&["grant", "primary-node", "--quota", "streams=7", "--expires", "60s"], 2, "invalid_argument");
    assert_eq!(b.json(&["grant", "primary-node", "--quota", "default"]).get("quota"), None);
    // What is said when a node is asked holds once its owner has approved.
    b.fails(&["handshake", "primary-node", "--quota", "streams=7"], 2, "invalid_argument");
    let c = lab.node("third-node");
    c.fails(&["handshake", "worker-node", "--quota", "streams=0"], 2, "invalid_argument");
    c.ok(&["handshake", "worker-node", "--quota", "streams=7,memory=2MB"]);
    until("the request arrives", || !b.json(&["pending"])["pending"].as_array().unwrap().is_empty());
    b.ok(&["approve", "third-node"]);
    until("the approval arrives", || c.json(&["trust"])["total"] == 1);
    assert_eq!(c.json(&["trust"])["trusted"][0]["quota"], "memory=2MB,streams=7");
}
