//! Groups by the typed verbs, between two nodes of one process.
#![allow(clippy::unwrap_used, reason = "tests")]

mod lab;

use lab::Lab;
use pilot_node::{Code, GroupChange, GroupCode, GroupRole, Node};
use std::time::{Duration, Instant};

const SOON: Duration = Duration::from_secs(10);

fn until(what: &str, done: impl Fn() -> bool) {
    let end = Instant::now() + SOON;
    while !done() {
        assert!(Instant::now() < end, "until {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The ports that the only peer of a node may reach by its group.
fn by_group(node: &Node) -> Vec<String> {
    let pins = node.trust().pins().unwrap().trusted;
    pins[0].groups.iter().flat_map(|grant| grant.granted.clone()).collect()
}

#[test]
fn roles_codes_and_keys_of_a_group_are_given_by_typed_verbs() {
    let lab = Lab::new("groups");
    let (founder, worker) = lab.nodes();
    let (founder, worker) = (founder.trust(), worker.trust());
    founder.group("fleet", GroupChange::Create { ports: Some("echo") }).unwrap();
    let allow = |role, ports| founder.group("fleet", GroupChange::Allow { role, ports }).unwrap();
    assert_eq!(allow(GroupRole::Admin, "80").granted_to_admins, ["80"]);
    let terms = GroupCode::default().uses(1).expires_in(Duration::from_secs(600));
    let code = founder.group_invite("fleet", terms).unwrap();
    assert_eq!((code.uses, code.offline), (1, false));
    worker.join(&code.code, SOON).unwrap();
    let (a, b) = lab.nodes();
    until("both are peers by the group, too", || by_group(a) == ["echo"] && !by_group(b).is_empty());

    // The role decides which allowance counts.
    founder.group("fleet", GroupChange::Role("node-b", GroupRole::Admin)).unwrap();
    until("the admin has what admins may", || by_group(a) == ["80"]);
    until("it knows", || worker.groups().unwrap().groups[0].role == "admin");
    founder.group("fleet", GroupChange::Role("node-b", GroupRole::Member)).unwrap();
    until("the member has what members may", || by_group(a) == ["echo"]);
    until("it knows", || worker.groups().unwrap().groups[0].role == "member");

    // With the group key a member makes itself an admin, and codes for a time without any.
    assert_eq!(worker.group_export("fleet").unwrap_err().code, Code::TrustRequired);
    let offline = GroupCode::default().offline();
    assert_eq!(worker.group_invite("fleet", offline).unwrap_err().code, Code::TrustRequired);
    assert_eq!(worker.group_import("fleet", &"5".repeat(64)).unwrap_err().code, Code::InvalidArgument);
    let key = founder.group_export("fleet").unwrap().key;
    assert_eq!(worker.group_import("fleet", &key).unwrap().role, "admin");
    assert!(worker.group_invite("fleet", offline).unwrap().offline);

    // The founder gives the group another key, keeps the admin, and removes it after that.
    until("the founder knows the admin", || by_group(a) == ["80"]);
    founder.group("fleet", GroupChange::Rekey { keep: &["node-b"] }).unwrap();
    until("it hears of it", || !worker.groups().unwrap().groups[0].has_key || worker.group_export("fleet").is_err());
    assert_eq!(founder.group("fleet", GroupChange::Renew("node-b")).unwrap_err().code, Code::Conflict);
    founder.group("fleet", GroupChange::Remove("node-b")).unwrap();
    assert_eq!(by_group(a), [""; 0]);
    assert!(a.trust().pins().unwrap().trusted[0].by_hand, "what the owners said stays");
    assert_eq!(worker.group("fleet", GroupChange::Leave).unwrap().role, "left");
    assert_eq!(worker.groups().unwrap().groups.len(), 0);
}
