//! Questions between two daemons: asked, answered by hand and by a program, across absences and deaths of both sides.
#![allow(clippy::unwrap_used, reason = "tests")]

mod harness;

use harness::net::Running;
use harness::{Lab, Node, until};
use serde_json::Value;
use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

/// Asks without waiting for the answer; gives the question's id.
fn ask(node: &Node, text: &str, more: &[&str]) -> String {
    let words = [&["ask", "worker-node", "--data", text, "--timeout", "0"], more].concat();
    let error = node.fails(&words, 6, "timeout");
    let hint = error["hint"].as_str().unwrap();
    let id = hint.split(' ').nth(2).unwrap().to_owned();
    assert!(id.len() == 32 && error["message"].as_str().unwrap().contains(&id), "{error}");
    id
}

/// The open questions of a node, once there are so many.
fn questions(node: &Node, count: usize) -> Vec<Value> {
    let list = || node.json(&["inbox", "--questions"])["messages"].as_array().unwrap().clone();
    until("the questions arrive", || list().len() == count);
    list()
}

fn serve(node: &Node, words: &[&str]) -> Running {
    let mut command = node.command(&[&["serve"], words].concat());
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut said = String::new();
    BufReader::new(child.stderr.take().unwrap()).read_line(&mut said).unwrap();
    assert!(said.starts_with("each question runs "), "{said}");
    Running(child)
}

#[test]
fn a_question_is_answered_by_hand_once_and_its_answer_waits_for_its_reader() {
    let mut lab = Lab::new();
    let (a, b) = lab.friends();
    let id = ask(&a, "how many?", &[]);
    let listed = &questions(&b, 1)[0];
    assert_eq!((&listed["preview"], &listed["message_id"]), (&"how many?".into(), &id.as_str().into()));
    assert!(listed["deadline_at"].is_u64(), "{listed}");
    let number = listed["id"].to_string();

    // Both sides die while the question waits.
    a.kill();
    b.kill();
    b.start();
    assert_eq!(b.json(&["reply", &number, "--data", "42", "--type", "json"])["again"], false);
    assert_eq!(b.json(&["reply", &id, "--data", "42", "--type", "json"])["again"], true, "the same answer");
    b.fails(&["reply", &id, "--data", "43", "--type", "json"], 8, "already_exists");
    b.fails(&["reply", "99", "--data", "43"], 4, "not_found");
    assert!(questions(&b, 0).is_empty());
    a.start();
    until("the answer comes", || a.json(&["answers"])["questions"][0]["state"] == "answered");
    assert!(a.json(&["inbox"])["messages"].as_array().unwrap().is_empty(), "an answer is no message of the inbox");
    assert_eq!(a.ok(&["answers", &id, "--keep"]), "42");
    let shown = a.json(&["answers", &id, "--follow"]);
    assert_eq!((&shown["data"], &shown["answer"]["type"]), (&"42".into(), &"json".into()));
    a.fails(&["answers", &id], 4, "not_found");
}

#[test]
fn a_caller_waits_for_the_answer_of_a_program() {
    let mut lab = Lab::new();
    let (a, b) = lab.friends();
    let script = r#"echo "$PILOT_PEER"; tr a-z A-Z"#;
    let mut server = serve(&b, &["--type", "text", "--count", "2", "--exec", "sh", "-c", script]);
    assert_eq!(a.ok(&["ask", "worker-node", "--data", "hello", "--timeout", "20"]), "primary-node\nHELLO");
    let binary = ask(&a, "left alone", &["--type", "binary"]);
    let shown = a.json(&["ask", "worker-node", "--data", "again", "--timeout", "20"]);
    assert_eq!((&shown["data"], &shown["state"]), (&"primary-node\nAGAIN".into(), &"answered".into()));
    assert!(server.0.wait().unwrap().success(), "--count 2 ends after two questions");
    assert_eq!(questions(&b, 1)[0]["message_id"], binary.as_str());
    let open = a.json(&["answers"]);
    assert_eq!((&open["total"], &open["questions"][0]["state"]), (&1.into(), &"delivered".into()), "taken with ask");
}

#[test]
fn a_program_that_fails_is_run_again_and_then_the_question_is_marked() {
    let mut lab = Lab::new();
    let (a, b) = lab.friends();
    let (good, bad) = (ask(&a, "good", &[]), ask(&a, "bad", &[]));
    let known = questions(&b, 2);
    // The first question needs a second run, the second one fails in each.
    let state = lab.folder.join("tried");
    let script = format!(
        r#"text=$(cat); [ "$text" = good ] || exit 3; [ -e {0} ] || {{ touch {0}; exit 1; }}; printf done"#,
        state.display()
    );
    let _server = serve(&b, &["--retry", "1", "--exec", "sh", "-c", &script]);
    assert_eq!(a.ok(&["answers", &good, "--follow", "--timeout", "20"]), "done");
    let failed = || b.json(&["inbox", "--failed"])["messages"].as_array().unwrap().clone();
    until("the other one is marked", || failed().len() == 1);
    assert_eq!((&failed()[0]["failed"], &failed()[0]["message_id"]), (&"its exit status was 3".into(), &bad.into()));
    assert!(questions(&b, 0).is_empty());
    let number = known[1]["id"].to_string();
    b.json(&["inbox", "retry", &number]);
    assert_eq!(questions(&b, 1).len(), 1);
    b.ok(&["reply", &number, "--data", "by hand"]);
    assert!(failed().is_empty());
}

#[test]
fn answers_are_followed_as_they_come() {
    let mut lab = Lab::new();
    let (a, b) = lab.friends();
    let ids = [ask(&a, "1", &[]), ask(&a, "2", &[])];
    questions(&b, 2);
    b.ok(&["reply", &ids[0], "--data", "one"]);
    until("the answer comes", || a.json(&["answers"])["questions"][0]["state"] == "answered");
    let mut follower =
        a.command(&["answers", "--follow"]).stdin(Stdio::null()).stdout(Stdio::piped()).spawn().map(Running).unwrap();
    let mut lines = BufReader::new(follower.0.stdout.take().unwrap()).lines();
    let mut next = || serde_json::from_str::<Value>(&lines.next().unwrap().unwrap()).unwrap();
    assert_eq!(next()["data"], "one");
    b.ok(&["reply", &ids[1], "--data", "two"]);
    let second = next();
    assert_eq!((&second["data"], &second["message_id"]), (&"two".into(), &ids[1].as_str().into()));
    until("both are taken", || a.json(&["answers"])["total"] == 0);
}

#[test]
fn bad_questions_and_answers_are_explained() {
    let mut lab = Lab::new();
    let (a, b) = lab.friends();
    a.fails(&["ask", "worker-node"], 2, "invalid_argument");
    a.fails(&["ask", "worker-node", "--data", "{", "--type", "json"], 2, "invalid_argument");
    a.fails(&["ask", "worker-node", "--data", "x", "--deadline", "0"], 2, "invalid_argument");
    a.fails(&["ask", "worker-node", "--data", "x", "--deadline", "169h"], 2, "invalid_argument");
    a.fails(&["answers", "7"], 4, "not_found");
    a.fails(&["reply", "x", "--data", "y"], 4, "not_found");
    // What stands behind --exec belongs to the program, --json too.
    for (words, status, why) in [
        (&["--parallel", "0", "--exec", "cat"][..], 2, "--parallel is 1 to 256"),
        (&["--exec"], 2, "--exec needs a program"),
        (&["cat"], 2, "no argument of serve"),
        (&["--exec", "no-such-program"], 4, "there is no program"),
        (&["--from", "stranger", "--exec", "cat"], 4, "stranger"),
    ] {
        let refused = b.run(&[&["serve"], words].concat());
        let said = String::from_utf8(refused.stderr).unwrap();
        assert!(refused.status.code() == Some(status) && said.contains(why), "{words:?}: {said}");
    }
    // A question whose deadline is over is handed out no more.
    ask(&a, "soon", &["--deadline", "1"]);
    until("the deadline is over", || a.json(&["answers"])["questions"][0]["state"] == "expired");
    assert!(questions(&b, 0).is_empty());
}

#[test]
fn two_servers_beside_each_other_run_a_program_once_for_each_question() {
    let mut lab = Lab::new();
    let (a, b) = lab.friends();
    let runs = lab.folder.join("runs");
    let count = || std::fs::read_to_string(&runs).unwrap_or_default().lines().count();
    let script = format!("echo run >> {}; sleep 0.3; cat", runs.display());
    let words = ["--parallel", "2", "--exec", "sh", "-c", &script];
    let servers = [serve(&b, &words), serve(&b, &words)];
    let ids: Vec<String> = (0..6).map(|n| ask(&a, &format!("question {n}"), &[])).collect();
    for (n, id) in ids.iter().enumerate() {
        assert_eq!(a.json(&["answers", id, "--follow", "--timeout", "30"])["data"], format!("question {n}"));
    }
    assert_eq!(count(), 6, "once for each");
    drop(servers);

    // A server that dies gives its questions back; the program of a dead one runs once more.
    let script = format!("echo run >> {}; sleep 1; cat", runs.display());
    let words = ["--exec", "sh", "-c", &script];
    let first = serve(&b, &words);
    let id = ask(&a, "the last one", &[]);
    until("the first one works on it", || count() == 7);
    let _second = serve(&b, &words);
    drop(first);
    assert_eq!(a.json(&["answers", &id, "--follow", "--timeout", "30"])["data"], "the last one");
    assert_eq!(count(), 8);
}

#[test]
fn a_question_whose_answer_could_not_come_is_refused_at_once() {
    let mut lab = Lab::new();
    let (a, b) = lab.friends();
    let id = ask(&a, "before", &[]);
    questions(&b, 1);
    a.ok(&["revoke", "worker-node", "--ports", "messages"]);
    let error = a.fails(&["ask", "worker-node", "--data", "x"], 5, "trust_required");
    assert_eq!(error["hint"], "pilotctl grant worker-node --ports messages");
    // The grant went while the question lay there: its answer waits, and is told to.
    until("the other side knows", || {
        let replied = b.json(&["reply", &id, "--data", "42"]);
        replied["waits"].is_string() || replied["again"] == true
    });
    a.ok(&["grant", "worker-node", "--ports", "messages"]);
    assert_eq!(a.json(&["answers", &id, "--follow", "--timeout", "30"])["data"], "42");
}
