//! Grants, quotas and names of trusted peers, in memory.

use super::super::{connect, grants, handshake, lookup, report, trust};
use super::{Expiry, Wanted, answer_lookup, asked, change_trust, not_opened, opener, saved_trust, sync, sync_trust};
use crate::context::Context;
use crate::effect::Effect;
use crate::failure::Code;
use crate::tests::{Lab, WALL_S, caller, json, key};
use pilot_core::endpoint::DirectoryState;
use pilot_core::time::Duration;

fn to_ports(ports: &str, expires_s: Option<u64>) -> Wanted {
    Wanted { ports: Some(ports.into()), expires_s, ..Wanted::default() }
}

#[test]
fn grants_change_with_the_disks_outcome_and_are_told() {
    let mut lab = Lab::friends(2);
    let cx = &mut lab.nodes[0];
    (cx.is_watched, cx.trace_level) = (true, Some(pilot_core::Level::Info));
    grants::revoke(cx, "node-1", "messages,22", caller(1));
    let answer = saved_trust(cx);
    assert_eq!((&answer["status"], &answer["withheld"]), (&"withdrawn".into(), &serde_json::json!(["messages"])));
    let effects = cx.effects();
    assert!(matches!(&effects[..], [Effect::Trace(record), Effect::Tell(event)]
        if record.kind() == "trust" && json(event)["reason"] == "withdrawn" && json(event)["event"] == "trust_changed"));
    assert!(!cx.stack.endpoint().trust().pin(&key(1)).expect("pinned").allows(22));

    grants::grant(cx, "node-1", to_ports("22", Some(60)), caller(1));
    let answer = saved_trust(cx);
    assert_eq!(answer["temporary"], serde_json::json!([{"ports": ["22"], "expires_at": WALL_S + 60}]));
    cx.effects();
    for (ports, expires_s) in [("22", Some(0)), ("", None), ("mail", None), ("0", None), ("70000", None), ("9-8", None)]
    {
        grants::grant(cx, "node-1", to_ports(ports, expires_s), caller(1));
        assert_eq!(cx.failure_of_one(), Code::InvalidArgument, "{ports:?}");
    }
    grants::grant(cx, "node-9", to_ports("22", None), caller(1));
    assert_eq!(cx.failure_of_one(), Code::NotFound);
    grants::revoke(cx, "node-1", "messages", caller(1));
    assert_eq!(cx.failure_of_one(), Code::NotFound, "it was not granted");
    // At the end of the minute the port is withdrawn.
    let mut expiry = Expiry::default();
    expiry.handle_timeout(cx);
    cx.jobs();
    assert!(expiry.poll_timeout(cx).is_some_and(|end| end <= cx.now + Duration::from_secs(60)));
    cx.now = cx.now + Duration::from_secs(60);
    expiry.handle_timeout(cx);
    assert!(!cx.stack.endpoint().trust().pin(&key(1)).expect("pinned").allows(22));
    let told: Vec<_> =
        cx.effects().iter().filter_map(|e| if let Effect::Tell(e) = e { Some(json(e)) } else { None }).collect();
    assert_eq!((told.len(), &told[0]["reason"]), (1, &"expired".into()));
}

#[test]
fn ports_that_an_owner_names_when_approving_a_peer_anew_are_all_that_it_may_reach() {
    for named in [None, Some("22,90")] {
        let mut lab = Lab::asked_anew();
        let cx = &mut lab.nodes[0];
        let before = cx.stack.endpoint().trust().pin(&key(1)).expect("pinned").reach();
        let wanted = Wanted { ports: named.map(String::from), quota: Some("streams=9".into()), ..Wanted::default() };
        grants::approve(cx, "node-1", wanted, caller(1));
        let answer = saved_trust(cx);
        assert_eq!(answer["status"], "approved");
        let pin = cx.stack.endpoint().trust().pin(&key(1)).expect("pinned");
        let expected = named.map_or(before, |ports| ports.parse().expect("ports"));
        assert_eq!((pin.reach(), pin.quota().streams), (expected, Some(9)));
    }
}

/// Runs until node 1 has a wish of node 0.
fn wished(lab: &mut Lab) {
    lab.run_until(|lab| lab.nodes[1].stack.endpoint().trust().pins().any(|pin| pin.wish.is_some()));
}

/// Two nodes with a tunnel, of which the second grants the first no messages.
fn without_messages() -> Lab {
    let mut lab = Lab::friends(2);
    let now = lab.nodes[1].now;
    let change = pilot_core::trust::Regrant::Withdraw("messages".parse().expect("a service"));
    lab.nodes[1].stack.endpoint_mut().regrant(now, &key(0), &change).expect("a peer");
    let version = lab.nodes[1].stack.endpoint().trust().version();
    lab.nodes[1].stack.endpoint_mut().trust_saved(now, version);
    let cx = &mut lab.nodes[0];
    let peer = cx.stack.endpoint().peer_by_identity(&key(1)).expect("a peer");
    cx.stack.endpoint_mut().reach(cx.now, peer);
    lab.run_until(|lab| lab.nodes[0].stack.endpoint().trust().pins().all(|pin| pin.is_denied(1001)));
    sync(&mut lab, 0);
    lab.nodes[0].effects();
    lab
}

#[test]
fn a_port_that_is_known_not_to_be_granted_is_refused_at_once() {
    let mut lab = without_messages();
    let cx = &mut lab.nodes[0];
    connect::connect(cx, "node-1", 1001, Vec::new(), opener(1, 1));
    let effects = cx.effects();
    let [Effect::NotOpened(_, failure)] = &effects[..] else { panic!("{effects:?}") };
    assert_eq!((failure.code, failure.message.as_str()), (Code::TrustRequired, "messages are not granted by node-1"));
    assert_eq!(cx.stack.streams().count(), 0);
    connect::connect(cx, "node-1", 22, Vec::new(), opener(1, 1));
    assert_eq!((not_opened(cx).len(), cx.stack.streams().count()), (0, 1), "others are tried");
}

#[test]
fn a_trusted_peer_that_asks_for_ports_waits_for_the_owner() {
    let mut lab = without_messages();
    let cx = &mut lab.nodes[0];
    let wanted = |ports: &str| Wanted { ports: Some(ports.into()), note: Some("mail".into()), ..Wanted::default() };
    handshake::handshake(cx, "node-1", wanted("events"), caller(1));
    assert_eq!(cx.answer_of_one().expect("granted already")["status"], "trusted");
    handshake::handshake(cx, "node-1", wanted("messages"), caller(1));
    let answer = saved_trust(cx);
    assert_eq!((&answer["status"], &answer["asked_for"]), (&"sent".into(), &serde_json::json!(["messages"])));
    assert_eq!(json(&report::trusted(cx))["trusted"][0]["asked_for"], serde_json::json!(["messages"]));
    sync(&mut lab, 0);
    wished(&mut lab);
    let cx = &mut lab.nodes[1];
    let pending = json(&report::pending(cx));
    assert_eq!(
        (&pending["pending"][0]["hostname"], &pending["pending"][0]["asks_for"]),
        (&"node-0".into(), &serde_json::json!(["messages"]))
    );
    assert_eq!(pending["pending"][0]["justification"], "mail");
    cx.effects();
    grants::reject(cx, "node-0", "no", caller(1));
    assert_eq!(saved_trust(cx)["status"], "rejected");
    grants::reject(cx, "node-0", "no", caller(1));
    assert_eq!(cx.failure_of_one(), Code::NotFound, "it is declined once");
    sync(&mut lab, 1);
    lab.run_until(|lab| {
        lab.nodes[0].stack.endpoint().trust().pins().all(|pin| pin.asked.is_none() && pin.is_denied(1001))
    });

    handshake::handshake(&mut lab.nodes[0], "node-1", wanted("messages"), caller(1));
    sync(&mut lab, 0);
    wished(&mut lab);
    let cx = &mut lab.nodes[1];
    cx.effects();
    grants::approve(cx, "node-0", Wanted::default(), caller(1));
    assert_eq!(saved_trust(cx)["status"], "approved");
    sync(&mut lab, 1);
    lab.run_until(|lab| lab.nodes[0].stack.endpoint().trust().pins().all(|pin| !pin.is_denied(1001)));
}

#[test]
fn a_node_under_the_name_of_a_trusted_peer_is_approved_by_address_only() {
    let mut lab = Lab::strangers(3);
    for asker in [0, 1] {
        if asker == 1 {
            // Node 0 has given its name up, and node 1 takes it.
            lab.nodes[0].stack.endpoint_mut().set_profile(pilot_core::Instant::ZERO, Default::default());
            lab.run_until(|lab| lab.nodes[0].stack.endpoint().directory_state() != DirectoryState::Registering);
            let profile = pilot_core::identity::Profile { hostname: "node-0".into(), ..Default::default() };
            let now = lab.nodes[1].now;
            lab.nodes[1].stack.endpoint_mut().set_profile(now, profile);
            lab.run_until(|lab| lab.nodes[1].stack.endpoint().directory_state() != DirectoryState::Registering);
        }
        handshake::handshake(&mut lab.nodes[asker], "node-2", Wanted::default(), caller(1));
        answer_lookup(&mut lab, asker);
        sync(&mut lab, asker);
        lab.run_until(|lab| lab.nodes[2].stack.endpoint().trust().pending().count() == 1);
        lab.nodes[2].effects();
        if asker == 0 {
            grants::approve(&mut lab.nodes[2], "node-0", Wanted::default(), caller(1));
            sync(&mut lab, 2);
            lab.nodes[2].effects();
        }
    }
    let cx = &mut lab.nodes[2];
    let pending = json(&report::pending(cx));
    assert!(pending["pending"][0]["warning"].as_str().is_some_and(|text| text.contains("another key")), "{pending}");
    grants::approve(cx, "node-0", Wanted::default(), caller(1));
    assert_eq!(cx.failure_of_one(), Code::Conflict);
    let name_of = |cx: &Context, node| cx.stack.endpoint().trust().pin(&key(node)).expect("pinned").hostname.clone();
    assert_eq!(name_of(cx, 0), "node-0");
    let address = pending["pending"][0]["address"].as_str().expect("an address").to_owned();
    grants::approve(cx, &address, Wanted::default(), caller(1));
    assert_eq!((name_of(cx, 0).as_str(), name_of(cx, 1).as_str()), ("", "node-0"), "the owner knows both now");
}

#[test]
fn a_peer_is_found_under_its_new_name_and_what_was_asked_goes_on() {
    let mut lab = Lab::strangers(2);
    handshake::handshake(&mut lab.nodes[0], "node-1", Wanted::default(), caller(1));
    answer_lookup(&mut lab, 0);
    sync(&mut lab, 0);
    lab.run_until(|lab| lab.nodes[1].stack.endpoint().trust().pending().count() == 1);
    grants::approve(&mut lab.nodes[1], "node-0", Wanted::default(), caller(1));
    sync(&mut lab, 1);
    lab.run_until(|lab| lab.nodes[0].stack.endpoint().trust().pins().count() == 1);
    let (now, profile) =
        (lab.nodes[1].now, pilot_core::identity::Profile { hostname: "new-name".into(), ..Default::default() });
    lab.nodes[1].stack.endpoint_mut().set_profile(now, profile);
    lab.run_until(|lab| lab.nodes[1].stack.endpoint().directory_state() != DirectoryState::Registering);
    lab.nodes[0].effects();

    connect::connect(&mut lab.nodes[0], "new-name", 7, b"first".to_vec(), opener(1, 1));
    answer_lookup(&mut lab, 0);
    let effects = lab.nodes[0].effects();
    assert!(
        matches!(&effects[..], [Effect::Connect(name, 7, early, _)] if name == "new-name" && early == b"first"),
        "{effects:?}"
    );
    let trusted = json(&report::trusted(&lab.nodes[0]));
    assert_eq!(
        (&trusted["total"], &trusted["trusted"][0]["hostname"]),
        (&1.into(), &"new-name".into()),
        "the old name is gone"
    );
    lookup::find(&mut lab.nodes[0], "new-name", caller(1));
    assert_eq!(lab.nodes[0].answer_of_one().expect("a peer")["mutual"], true);
}

#[test]
fn a_quota_is_set_by_an_approval_or_a_grant_and_bad_ones_are_refused() {
    let mut lab = asked();
    change_trust(&mut lab, 1);
    let cx = &mut lab.nodes[1];
    sync_trust(cx);
    cx.effects();
    let wanted = |quota: &str| Wanted { quota: Some(quota.into()), ..Wanted::default() };
    for bad in ["memory=0", "memory=64MB,memory=1GB", "disk=99999999999TB", "speed=9", "memory"] {
        trust::approve(cx, "node-0", wanted(bad), caller(1));
        assert_eq!(cx.failure_of_one(), Code::InvalidArgument, "{bad}");
    }
    trust::approve(cx, "node-0", wanted("memory=2MB,streams=7"), caller(1));
    assert_eq!(saved_trust(cx)["quota"], "memory=2MB,streams=7");
    cx.effects();
    grants::grant(cx, "node-0", wanted("streams=9"), caller(1));
    assert_eq!(saved_trust(cx)["quota"], "memory=2MB,streams=9", "the other keys stay");
    cx.effects();
    let both = Wanted { ports: Some("80".into()), ..wanted("default") };
    grants::grant(cx, "node-0", both, caller(1));
    let answer = saved_trust(cx);
    assert_eq!((answer.get("quota"), &answer["granted"][4]), (None, &"80".into()));
    cx.effects();
    // A node that is trusted already is not asked.
    for words in ["streams=9", "default", "streams=0"] {
        handshake::handshake(cx, "node-0", wanted(words), caller(1));
        assert_eq!(cx.failure_of_one(), Code::InvalidArgument, "{words}");
    }
    for nothing in [Wanted::default(), Wanted { expires_s: Some(60), ..wanted("streams=9") }] {
        grants::grant(cx, "node-0", nothing, caller(1));
        assert_eq!(cx.failure_of_one(), Code::InvalidArgument);
    }
}
