//! Pairing by a code, with real processes.
#![allow(clippy::unwrap_used, reason = "tests")]

mod harness;

use harness::{Lab, next_event, pilotctl, until};
use pilot_core::Addr;
use pilot_core::identity::{IdentityKey, StaticKey};
use pilot_core::invite::{Host, InviteCode, InviteId, InviteSecret, Rendezvous};
use serde_json::json;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

/// A machine without any configuration.
struct Fresh(PathBuf);

impl Fresh {
    fn command(&self, args: &[&str]) -> Command {
        let mut command = pilotctl(args);
        let local = self.0.join("local-rendezvous");
        command.env("PILOT_HOME", &self.0).env("PILOT_LOCAL_RENDEZVOUS", local).stdin(Stdio::null());
        command
    }

    fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    fn json(&self, args: &[&str]) -> serde_json::Value {
        let output = self.run(&[args, &["--json"]].concat());
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap()["data"].clone()
    }
}

impl Drop for Fresh {
    fn drop(&mut self) {
        let _ = self.run(&["daemon", "stop"]);
    }
}

/// Two nodes that know nothing of each other pair over addresses alone; each says what the other may reach.
#[test]
fn two_nodes_without_a_rendezvous_in_common_pair_by_a_code() {
    let mut lab = Lab::new();
    let a = lab.node("inviter");
    let b = Fresh(lab.folder.join("fresh"));
    let invited = a.json(&["invite", "--direct", "--ports", "messages,8080", "--expires", "10m"]);
    let code = invited["code"].as_str().unwrap();
    assert!(code.starts_with("pilot:") && code.len() <= 200, "{code}");
    assert_eq!((&invited["over"], &invited["uses"]), (&json!(["addresses"]), &json!(1)));

    // What was typed wrongly is named, and no daemon is started for it.
    let wrong = format!("{}{}", &code[..20], code[21..].replacen('-', "", 1));
    let refused = b.run(&["join", &wrong]);
    assert_eq!(refused.status.code(), Some(2), "{}", String::from_utf8_lossy(&refused.stderr));
    assert_eq!(b.run(&["daemon", "status", "--check"]).status.code(), Some(3));

    let joined = b.json(&["join", code, "--hostname", "joiner"]);
    assert_eq!((&joined["status"], &joined["verified"]), (&json!("trusted"), &json!(true)));
    assert_eq!((&joined["hostname"], &joined["mutual"]), (&json!("inviter"), &json!(true)));
    let pin = a.json(&["trust"])["trusted"][0].clone();
    assert_eq!((&pin["verified"], &pin["granted"]), (&json!(true), &json!(["messages", "8080"])));
    let invites = a.json(&["invites"])["invites"][0].clone();
    assert_eq!((&invites["state"], &invites["used"]), (&json!("used_up"), &json!(1)));
    b.json(&["send-message", "inviter", "--data", "paired"]);
    assert_eq!(a.json(&["inbox"])["messages"].as_array().unwrap().len(), 1);

    // The same code again changes nothing; another node is told that it is used up.
    b.json(&["join", code]);
    let c = Fresh(lab.folder.join("third"));
    let late = c.run(&["join", code, "--json"]);
    let text = String::from_utf8_lossy(&late.stderr).into_owned();
    assert!(late.status.code() == Some(5) && text.contains("the invite is used up"), "{text}");
}

/// The words of a command that README.md prints, and its variable `PILOT_JOIN`, with a code or the number of one in its place.
fn readme(start: &str, code: &str) -> (Option<String>, Vec<String>) {
    let line = include_str!("../../README.md").lines().find(|line| line.starts_with(start)).unwrap();
    let words = line.split('#').next().unwrap().split_whitespace();
    let mut words = words.map(|word| word.replace("pilot:…", code)).peekable();
    let join = words.next_if(|word| word.starts_with("PILOT_JOIN="));
    (join.map(|word| word["PILOT_JOIN=".len()..].to_owned()), words.skip(1).collect())
}

/// Nothing is configured, and no daemon runs: `invite` here, `join` there, as README.md prints them, and they talk. Standard error
/// tells of the daemons.
#[test]
fn two_fresh_machines_talk_after_two_commands_and_one_copied_line() {
    let lab = Lab::new();
    let [a, b] = ["one", "other"].map(|name| Fresh(lab.folder.join(name)));
    let run = |machine: &Fresh, start: &str, code: &str| {
        let (join, words) = readme(start, code);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        machine.command(&words).envs(join.map(|join| ("PILOT_JOIN", join))).output().unwrap()
    };
    let invited = run(&a, "pilotctl invite --ports", "");
    let (code, told) = texts(&invited);
    assert!(invited.status.success() && told.contains("started the daemon of this machine: pid "), "{told}");
    assert_eq!(code.lines().count(), 1, "standard output has the code alone: {code}");
    let joined = run(&b, "pilotctl join pilot:…", code.trim());
    let (_, told) = texts(&joined);
    assert!(joined.status.success() && told.contains("started the daemon of this machine: pid "), "{told}");

    let inviter = b.json(&["trust"])["trusted"][0]["address"].clone();
    b.json(&["send-message", inviter.as_str().unwrap(), "--data", "hello"]);
    assert_eq!(a.json(&["inbox"])["messages"][0]["preview"], "hello");

    // A container comes up paired, also one for one run alone.
    for (n, start) in
        ["PILOT_JOIN=pilot:… pilotctl daemon start ", "PILOT_JOIN=pilot:… pilotctl daemon start --ephemeral"]
            .into_iter()
            .enumerate()
    {
        let invited = run(&a, "pilotctl invite --ports", "");
        let (code, told) = texts(&invited);
        assert!(!told.contains("started"), "one runs: {told}");
        let machine = Fresh(lab.folder.join(format!("container-{n}")));
        let started = run(&machine, start, code.trim());
        assert!(started.status.success(), "{}", texts(&started).1);
        until("the inviter has it", || a.json(&["trust"])["total"] == 2 + n);
    }
    assert!(texts(&run(&a, "pilotctl invites", "")).0.contains("used_up"));
}

/// The same for a group: its founder needs no daemon before, nor does a member.
#[test]
fn a_fleet_begins_on_fresh_machines() {
    let lab = Lab::new();
    let [a, b] = ["founder", "worker"].map(|name| Fresh(lab.folder.join(name)));
    let created = a.run(&["group", "create", "fleet"]);
    assert!(created.status.success() && texts(&created).1.contains("started the daemon"), "{created:?}");
    a.json(&["daemon", "stop"]);
    let code = a.json(&["group", "invite", "fleet"])["code"].as_str().unwrap().to_owned();
    b.json(&["group", "join", &code, "--hostname", "worker"]);
    a.json(&["send-message", "worker.fleet", "--data", "welcome"]);
    assert_eq!(b.json(&["inbox"])["messages"][0]["preview"], "welcome");
    // Only what begins something starts a daemon.
    let c = Fresh(lab.folder.join("third"));
    assert_eq!(c.run(&["group", "list"]).status.code(), Some(3));
    assert_eq!(c.run(&["group", "leave", "fleet"]).status.code(), Some(3));
}

/// Standard output and standard error.
fn texts(output: &Output) -> (String, String) {
    (String::from_utf8_lossy(&output.stdout).into_owned(), String::from_utf8_lossy(&output.stderr).into_owned())
}

/// A group over addresses alone: its founder and each member reach each other by their names in it.
#[test]
fn machines_without_a_rendezvous_in_common_join_a_group_by_one_code() {
    let mut lab = Lab::new();
    let a = lab.node("founder");
    a.json(&["group", "create", "fleet", "--ports", "messages"]);
    let invited = a.json(&["group", "invite", "fleet", "--uses", "2", "--direct"]);
    assert_eq!(invited["over"], json!(["addresses"]));
    let code = invited["code"].as_str().unwrap();
    let machines = ["worker", "helper"].map(|name| (name, Fresh(lab.folder.join(name))));
    for (name, machine) in &machines {
        machine.json(&["join", code, "--hostname", name]);
        machine.json(&["send-message", "founder.fleet", "--data", name]);
        a.json(&["send-message", &format!("{name}.fleet"), "--data", "welcome"]);
        assert_eq!(machine.json(&["inbox"])["messages"].as_array().unwrap().len(), 1);
    }
    assert_eq!(a.json(&["inbox"])["messages"].as_array().unwrap().len(), 2);
    let know_all = |members: serde_json::Value| members["members"].as_array().unwrap().len() == 3;
    until("each knows all", || machines.iter().all(|(_, m)| know_all(m.json(&["group", "members", "fleet"]))));
}

#[test]
fn a_daemon_comes_up_paired_with_a_code_from_its_environment() {
    let mut lab = Lab::new();
    let a = lab.node("inviter");
    // A rendezvous of this machine is told by its key; the joiner is configured for it.
    let short = a.json(&["invite", "--short"]);
    let code = short["code"].as_str().unwrap().to_owned();
    assert!(code.len() <= 130, "{code}");
    let b = Fresh(lab.folder.join("board"));
    let endpoint = lab.endpoint().unwrap();
    let file = lab.folder.join("code");
    std::fs::write(&file, format!("{code}\n")).unwrap();
    let start = ["daemon", "start", "--listen", "127.0.0.1:0", "--hostname", "board", "--rendezvous", &endpoint];
    let started = b.command(&start).env("PILOT_JOIN_FILE", &file).output().unwrap();
    assert!(started.status.success(), "{}", String::from_utf8_lossy(&started.stderr));
    assert_eq!(b.json(&["trust"])["trusted"][0]["hostname"], "inviter");
    until("the inviter has it, too", || a.json(&["trust"])["trusted"][0]["hostname"] == "board");
    // The next start has the same variable, and nothing happens.
    b.json(&["daemon", "stop"]);
    let again = b.command(&start).env("PILOT_JOIN_FILE", &file).output().unwrap();
    assert!(again.status.success(), "{}", String::from_utf8_lossy(&again.stderr));
}

/// A code of a node that is nowhere.
fn code_over(rendezvous: &str) -> String {
    let code = InviteCode {
        inviter: IdentityKey([9; 32]),
        addr: Addr::new(0, 9),
        invite: InviteId(9),
        secret: InviteSecret::new([9; 10]),
        expires: 0,
        candidates: Vec::new(),
        group: None,
        rendezvous: Some(Rendezvous::At(StaticKey([9; 32]), vec![Host::At(rendezvous.parse().unwrap())])),
    };
    code.emit().unwrap()
}

#[test]
fn a_rendezvous_that_is_dead_or_another_ones_is_named() {
    let mut lab = Lab::new();
    let dead = code_over("127.0.0.1:9");
    let b = Fresh(lab.folder.join("fresh"));
    let refused = b.run(&["join", &dead, "--timeout", "1", "--json"]);
    let text = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(refused.status.code() == Some(7) && text.contains("the rendezvous in the code does not answer"), "{text}");
    let a = lab.node("elsewhere");
    let error = a.fails(&["join", &dead], 7, "unreachable");
    assert!(error["message"].as_str().unwrap().contains("leads over another rendezvous"), "{error}");
}

#[test]
fn invites_are_withdrawn_and_bad_ones_refused() {
    let mut lab = Lab::new();
    let a = lab.node("inviter");
    let invited = a.json(&["invite", "--uses", "2", "--direct"]);
    let number = invited["invite"].as_str().unwrap();
    a.ok(&["uninvite", number]);
    a.fails(&["uninvite", number], 4, "not_found");
    a.fails(&["uninvite", "what"], 4, "not_found");
    assert_eq!(a.json(&["invites"])["invites"][0]["state"], "withdrawn");
    for bad in [
        &["--uses", "0"][..],
        &["--uses", "1001"],
        &["--expires", "31h", "--ports", "no-service"],
        &["--expires", "745h"],
    ] {
        a.fails(&[&["invite"], bad].concat(), 2, "invalid_argument");
    }
    let own = a.json(&["invite", "--direct"]);
    a.fails(&["join", own["code"].as_str().unwrap()], 2, "invalid_argument");
    let b = lab.node("joiner");
    let error = b.fails(&["join", invited["code"].as_str().unwrap()], 5, "trust_required");
    assert_eq!(error["message"], "the invite was withdrawn");
}

#[test]
fn ten_wrong_codes_end_an_invite_and_the_programs_of_its_owner_are_told() {
    let mut lab = Lab::new();
    let a = lab.node("inviter");
    let b = Fresh(lab.folder.join("guesser"));
    let invited = a.json(&["invite", "--direct"]);
    let code: InviteCode = invited["code"].as_str().unwrap().parse().unwrap();
    let mut watcher = a.watcher();
    for guess in 0..10 {
        let wrong = InviteCode { secret: InviteSecret::new([guess; 10]), ..code.clone() };
        let refused = b.run(&["join", &wrong.emit().unwrap(), "--timeout", "200ms"]);
        assert!(!refused.status.success());
    }
    let warning = next_event(&mut watcher, "warning");
    assert_eq!(warning["reason"], "invite_dead");
    assert!(warning["text"].as_str().unwrap().contains(invited["invite"].as_str().unwrap()), "{warning}");
    assert_eq!(a.json(&["invites"])["invites"][0]["state"], "dead");
    assert_eq!(a.json(&["trust"])["total"], 0);
}
