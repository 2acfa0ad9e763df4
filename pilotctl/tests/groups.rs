//! A group of real daemons.
#![allow(clippy::unwrap_used, reason = "tests")]

mod harness;

use harness::{Lab, Node, next_event, until};
use serde_json::{Value, json};

fn count(value: &Value) -> usize {
    value.as_array().unwrap().len()
}

/// One founds, the others join by one code; each reaches each by its name inside the group, and no owner is asked.
#[test]
fn nodes_of_one_group_reach_each_other_by_name_until_one_is_removed() {
    let mut lab = Lab::new();
    let names = ["founder", "worker", "helper"];
    let nodes: Vec<_> = names.iter().map(|name| lab.node(name)).collect();
    let [a, b, c] = [&nodes[0], &nodes[1], &nodes[2]];
    let created = a.json(&["group", "create", "fleet"]);
    assert_eq!(
        (&created["role"], &created["has_key"], &created["members"]),
        (&json!("admin"), &json!(true), &json!(1))
    );
    a.fails(&["group", "create", "fleet"], 8, "already_exists");
    let code = a.json(&["group", "invite", "fleet", "--uses", "2"])["code"].as_str().unwrap().to_owned();
    let mut watcher = a.watcher();
    b.json(&["join", &code]);
    let event = next_event(&mut watcher, "group");
    assert_eq!((&event["group"], &event["id"], &event["members"]), (&json!("fleet"), &created["id"], &json!(2)));
    c.json(&["group", "join", &code]);
    assert_eq!(next_event(&mut watcher, "group")["members"], 3);
    until("all know all", || nodes.iter().all(|n| count(&n.json(&["group", "members", "fleet"])["members"]) == 3));

    // No owner approves anything; the first message makes them peers.
    assert_eq!(count(&b.json(&["trust"])["trusted"]), 1);
    b.json(&["send-message", "helper.fleet", "--data", "hello"]);
    assert_eq!(count(&c.json(&["inbox"])["messages"]), 1);
    let pins = c.json(&["trust"])["trusted"].clone();
    let pin = pins.as_array().unwrap().iter().find(|pin| pin["hostname"] == "worker").unwrap();
    assert_eq!((&pin["by_hand"], &pin["groups"][0]["group"]), (&json!(false), &created["id"]));

    // What members may reach is said by each node's owner.
    c.json(&["group", "allow", "fleet", "--ports", "echo"]);
    until("messages are refused", || {
        b.run(&["send-message", "helper.fleet", "--data", "again"]).status.code() == Some(5)
    });

    // A stranger has no part in it, and the code is used up.
    let d = lab.node("stranger");
    d.fails(&["join", &code], 5, "trust_required");
    d.fails(&["send-message", "helper.fleet", "--data", "hi"], 2, "invalid_argument");

    a.json(&["group", "remove", "fleet", "worker"]);
    until("the removed one is out", || count(&c.json(&["group", "members", "fleet"])["members"]) == 2);
    assert!(c.json(&["trust"])["trusted"].as_array().unwrap().iter().all(|pin| pin["hostname"] != "worker"));
    c.json(&["group", "leave", "fleet"]);
    assert_eq!(c.json(&["group", "list"])["groups"], json!([]));
    until("the founder is alone", || a.json(&["group", "list"])["groups"][0]["members"] == 1);
    let kept = a.ok(&["group", "export", "fleet"]);
    assert_eq!(a.json(&["group", "export", "fleet"])["key"].as_str().unwrap().len(), 64);

    // The key in the safe makes an admin of another member.
    let code = a.json(&["group", "invite", "fleet"])["code"].as_str().unwrap().to_owned();
    c.json(&["join", &code]);
    assert_eq!(c.json(&["group", "list"])["groups"][0]["role"], "member");
    let wrong = c.feed(&["group", "import", "fleet"], b"0123456789abcdef");
    assert_eq!(wrong.status.code(), Some(2), "{}", String::from_utf8_lossy(&wrong.stderr));
    assert!(c.feed(&["group", "import", "fleet"], kept.as_bytes()).status.success());
    let state = c.json(&["group", "list"])["groups"][0].clone();
    assert_eq!((&state["role"], &state["has_key"]), (&json!("admin"), &json!(true)));
    c.json(&["group", "leave", "fleet"]);
    until("the founder is alone again", || a.json(&["group", "list"])["groups"][0]["members"] == 1);
    a.json(&["group", "rekey", "fleet"]);
    a.fails(&["group", "remove", "fleet", "worker"], 4, "not_found");
}

/// The founder is off: a holder of its code joins by another member. Once it is back, it signs for as many as the code is for.
#[test]
fn a_code_works_while_the_founder_is_off_and_too_many_uses_are_shown_and_undone() {
    let mut lab = Lab::new();
    let nodes: Vec<_> = ["founder", "worker", "late", "surplus"].iter().map(|name| lab.node(name)).collect();
    let [founder, worker, late, surplus] = [&nodes[0], &nodes[1], &nodes[2], &nodes[3]];
    founder.json(&["group", "create", "fleet"]);
    let online = founder.json(&["group", "invite", "fleet"])["code"].as_str().unwrap().to_owned();
    worker.json(&["join", &online]);
    worker.fails(&["group", "invite", "fleet", "--offline"], 5, "trust_required");
    let invited = founder.json(&["group", "invite", "fleet", "--offline", "--uses", "1"]);
    let (code, number) = (invited["code"].as_str().unwrap(), invited["invite"].as_str().unwrap());
    assert_eq!((&invited["offline"], &invited["uses"]), (&json!(true), &json!(1)));
    let wrong = code.replacen(&code[30..31], if &code[30..31] == "q" { "p" } else { "q" }, 1);
    late.fails(&["join", &wrong], 2, "invalid_argument");
    founder.json(&["daemon", "stop"]);

    let joined = late.json(&["join", code]);
    assert_eq!((&joined["status"], &joined["hostname"]), (&json!("trusted"), &json!("worker")));
    assert_eq!(late.json(&["join", code])["status"], "trusted", "nothing is left to do");
    let state = |node: &Node| node.json(&["group", "members", "fleet"]);
    until("it knows all", || count(&state(late)["members"]) == 3);
    worker.json(&["send-message", "late.fleet", "--data", "welcome"]);
    let mut watcher = worker.watcher();
    surplus.json(&["join", code]);
    let warning = next_event(&mut watcher, "warning");
    assert_eq!(warning["reason"], "over_used");
    assert!(warning["text"].as_str().unwrap().contains(number), "{warning}");
    until("the surplus is shown", || state(worker)["enrolments"][0]["over_used"] == true);
    assert_eq!(state(worker)["enrolments"][0]["used"], 2);
    let is_enrolled = |node: &Node, name: &str| {
        let members = state(node)["members"].clone();
        members.as_array().unwrap().iter().find(|member| member["name"] == name).map(|m| m["enrolled_by"] == number)
    };
    assert_eq!((is_enrolled(worker, "late"), is_enrolled(worker, "surplus")), (Some(true), Some(true)));
    worker.fails(&["uninvite", number], 5, "trust_required");

    // The founder hears of both, signs for one, and ends the code: the other one is out.
    founder.start();
    let list = || founder.json(&["group", "list"])["groups"][0].clone();
    until("the founder sees the surplus", || list()["enrolments"][0]["over_used"] == true);
    founder.json(&["uninvite", number]);
    assert_eq!((&list()["enrolments"], &list()["members"]), (&json!([]), &json!(3)));
    until("the member knows", || count(&state(worker)["members"]) == 3);
    assert_eq!(state(worker)["enrolments"], json!([]));
    let latest = lab.node("latest");
    let refused = latest.fails(&["join", code], 5, "trust_required");
    assert!(refused["message"].as_str().unwrap().contains("withdrawn"), "{refused}");
    assert_eq!(latest.json(&["group", "list"])["groups"], json!([]));
}

/// No member in the code answers: what was asked is said, and the node is in as soon as one is back.
#[test]
fn who_finds_no_member_of_a_code_is_told_whom_it_has_asked() {
    let mut lab = Lab::new();
    let (founder, late) = (lab.node("founder"), lab.node("late"));
    founder.json(&["group", "create", "fleet"]);
    let code = founder.json(&["group", "invite", "fleet", "--offline"])["code"].as_str().unwrap().to_owned();
    let fingerprint = founder.json(&["info"])["fingerprint"].as_str().unwrap().to_owned();
    founder.json(&["daemon", "stop"]);
    let failed = late.fails(&["join", &code, "--timeout", "5s"], 6, "timeout");
    assert!(failed["message"].as_str().unwrap().contains(&fingerprint), "{failed}");
    founder.start();
    until("they have met", || count(&late.json(&["trust"])["trusted"]) == 1);
    until("the founder has signed", || {
        let members = late.json(&["group", "members", "fleet"])["members"].clone();
        count(&members) == 2 && members.as_array().unwrap().iter().all(|member| member["enrolled_by"].is_null())
    });
}

/// Twelve daemons by one code, each of which writes to the next; those that have not met yet meet also while the founder is away.
#[test]
fn twelve_daemons_of_one_code_reach_each_other_while_the_founder_is_away() {
    const NODES: usize = 12;
    let mut lab = Lab::new();
    let nodes: Vec<_> = (0..NODES).map(|n| lab.node(&format!("node-{n}"))).collect();
    let code = {
        nodes[0].json(&["group", "create", "fleet"]);
        let uses = (NODES - 1).to_string();
        nodes[0].json(&["group", "invite", "fleet", "--uses", &uses])["code"].as_str().unwrap().to_owned()
    };
    std::thread::scope(|scope| {
        nodes[1..].iter().for_each(|node| _ = scope.spawn(|| node.json(&["join", &code])));
    });
    let know_all = |n: &Node| count(&n.json(&["group", "members", "fleet"])["members"]) == NODES;
    until("all know all", || nodes.iter().all(know_all));
    let write_to = |from: usize, to: usize| {
        nodes[from].json(&["send-message", &format!("node-{to}.fleet"), "--data", "hello"]);
    };
    (0..NODES).for_each(|n| write_to(n, (n + 1) % NODES));
    until("each has its message", || nodes.iter().all(|n| count(&n.json(&["inbox"])["messages"]) == 1));

    nodes[0].json(&["daemon", "stop"]);
    (1..NODES).for_each(|n| write_to(n, 1 + (n + 4) % (NODES - 1)));
    until("each has another", || nodes[1..].iter().all(|n| count(&n.json(&["inbox"])["messages"]) == 2));
}

/// The commands in the blocks of docs/fleet.md, as they are printed there.
#[test]
fn the_commands_of_the_page_about_fleets_work_as_printed() {
    let page = include_str!("../../docs/fleet.md");
    let blocks = page.split("```\n").skip(1).step_by(2);
    let commands: Vec<Vec<&str>> = blocks.flat_map(str::lines).map(|line| line.split(' ').skip(1).collect()).collect();
    assert_eq!(commands.len(), 6, "{commands:?}");
    let mut lab = Lab::new();
    let nodes: Vec<_> = ["founder", "worker", "helper"].iter().map(|name| lab.node(name)).collect();
    nodes[0].json(&commands[0]);
    let code = nodes[0].json(&commands[1])["code"].as_str().unwrap().to_owned();
    let join: Vec<&str> = commands[2].iter().map(|word| if *word == "CODE" { &code } else { *word }).collect();
    nodes[1..].iter().for_each(|node| _ = node.json(&join));
    until("all know all", || nodes.iter().all(|n| count(&n.json(&commands[3])["members"]) == 3));
    nodes[2].json(&commands[4]);
    assert_eq!(nodes[1].json(&["inbox"])["messages"][0]["preview"], "hello");

    // By the code that needs no admin, while the first machine is off.
    let code = nodes[0].json(&commands[5])["code"].as_str().unwrap().to_owned();
    nodes[0].json(&["daemon", "stop"]);
    let late = lab.node("late");
    late.json(&["join", &code]);
    until("it knows all", || count(&late.json(&commands[3])["members"]) == 4);
    late.json(&commands[4]);
    until("it has arrived", || count(&nodes[1].json(&["inbox"])["messages"]) == 2);
}

/// The commands that docs/fleet.md prints in its table and below.
struct Printed {
    all: Vec<&'static str>,
    taken: Vec<&'static str>,
}

impl Printed {
    fn new() -> Self {
        let (_, rest) = include_str!("../../docs/fleet.md").split_once("| you want | command |").unwrap();
        let all = rest.split('`').filter_map(|text| text.strip_prefix("pilotctl ")).collect();
        Self { all, taken: Vec::new() }
    }

    /// The command that begins so, without its redirections, and with what a reader puts in place of `word`.
    fn take(&mut self, start: &str, (word, place): (&str, &str)) -> Vec<String> {
        let found = self.all.iter().find(|command| command.starts_with(start));
        let found = found.unwrap_or_else(|| panic!("{start} is not printed"));
        self.taken.push(found);
        let words = found.split(' ').take_while(|word| ![">", "<"].contains(word));
        words.map(|printed| if printed == word { place.into() } else { printed.into() }).collect()
    }

    /// The same for a command in which nothing is replaced, run by a node.
    fn run(&mut self, node: &Node, start: &str) -> Value {
        node.json(&words(&self.take(start, ("", ""))))
    }
}

fn words(command: &[String]) -> Vec<&str> {
    command.iter().map(String::as_str).collect()
}

#[test]
fn the_commands_of_the_table_about_fleets_work_as_printed() {
    let mut page = Printed::new();
    let mut lab = Lab::new();
    let nodes: Vec<_> = ["founder", "worker", "helper"].iter().map(|name| lab.node(name)).collect();
    let [founder, worker, helper] = [&nodes[0], &nodes[1], &nodes[2]];
    founder.json(&["group", "create", "fleet"]);
    let code = founder.json(&["group", "invite", "fleet"])["code"].as_str().unwrap().to_owned();
    [worker, helper].into_iter().for_each(|node| _ = node.json(&["join", &code]));

    let allowed = page.run(founder, "group allow fleet --ports messages");
    assert_eq!(allowed["granted"], json!(["messages", "80", "8080"]));
    let allowed = page.run(founder, "group allow fleet --ports all --role admin");
    assert_ne!(allowed["granted_to_admins"], allowed["granted"]);
    founder.fails(&words(&page.take("group renew", ("", ""))), 8, "already_exists"); // the term has just begun
    page.run(founder, "group role");
    let is_admin = |node: &Node| node.json(&["group", "list"])["groups"][0]["role"] == "admin";
    until("the worker is an admin", || is_admin(worker));
    let kept = founder.ok(&words(&page.take("group export", ("", ""))));
    let imported = helper.feed(&words(&page.take("group import", ("", ""))), kept.as_bytes());
    assert!(imported.status.success() && is_admin(helper), "{}", String::from_utf8_lossy(&imported.stderr));
    let number = founder.json(&["group", "invite", "fleet", "--offline"])["invite"].as_str().unwrap().to_owned();
    founder.json(&words(&page.take("uninvite", ("NUMBER", &number))));

    let members = || founder.json(&["group", "members", "fleet"])["members"].as_array().unwrap().clone();
    until("the founder knows both", || members().iter().filter(|member| member["role"] == "admin").count() == 3);
    founder.json(&words(&page.take("group rekey fleet --keep", ("NAME,…", "worker,helper"))));
    page.run(helper, "group leave");
    until("the helper is out", || members().len() == 2);
    page.run(founder, "group remove fleet worker");
    assert_eq!(members().len(), 1);
    page.taken.push("group remove fleet NAME"); // the same for any member
    let missing: Vec<_> = page.all.iter().filter(|command| !page.taken.contains(command)).collect();
    assert!(missing.is_empty(), "printed and not run: {missing:?}");
}
