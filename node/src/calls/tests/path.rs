//! How a peer is reached, and why so.

use crate::answer::RendezvousState;
use crate::calls::report::{self, Facts};
use crate::calls::{path, watch};
use crate::context::Context;
use crate::effect::Effect;
use crate::failure::Code;
use crate::tests::{Lab, json, key};
use pilot_core::endpoint::PathChange;
use pilot_core::path::{PathAddr, PathReason};
use pilot_core::time::Duration;
use pilot_core::wire::Channel;
use serde_json::Value;

fn told(cx: &Context) -> Value {
    json(&path::report(cx, "node-1").expect("a peer"))
}

#[test]
fn a_peer_is_explained_from_rest_to_silence() {
    let mut lab = Lab::friends(2);
    let peer = lab.nodes[0].stack.endpoint().peer_by_identity(&key(1)).expect("a peer");
    let rest = told(&lab.nodes[0]);
    assert_eq!((&rest["up"], &rest["not_direct"]), (&false.into(), &"not_in_use".into()));
    assert_eq!((&rest["paths"][0]["source"], &rest["paths"][0]["standing"]), (&"saved".into(), &"known".into()));
    lab.is_cut = true;
    let now = lab.nodes[0].now;
    lab.nodes[0].stack.endpoint_mut().reach(now, peer);
    lab.run_until(|lab| told(&lab.nodes[0])["not_direct"] == "no_tunnel");
    lab.is_cut = false;
    lab.run_until(|lab| told(&lab.nodes[0])["not_direct"].is_null());
    let direct = told(&lab.nodes[0]);
    assert_eq!((&direct["up"], &direct["relay"]), (&true.into(), &false.into()));
    assert_eq!((&direct["reason"], &direct["next_round"]), (&"handshake".into(), &Value::Null));
    assert_eq!((&direct["path"], &direct["paths"][0]["standing"]), (&direct["paths"][0]["path"], &"proven".into()));
    assert!(direct["chosen_s"].as_f64().is_some_and(|s| s < 1.0), "{direct}");
    lab.is_cut = true;
    let now = lab.nodes[0].now;
    lab.nodes[0].stack.connect(now, peer, 80).expect("a stream");
    lab.run_until(|lab| told(&lab.nodes[0])["not_direct"] == "silent");
    let silent = told(&lab.nodes[0]);
    assert!(silent["not_direct_text"].as_str().is_some_and(|text| text.contains("fallen silent")), "{silent}");
    assert!(silent["next_round"].as_u64().is_some_and(|number| number >= 1), "{silent}");
    lab.run_until(|lab| told(&lab.nodes[0])["paths"][0]["loss"] == 1.0);
    assert!(told(&lab.nodes[0])["paths"][0]["last_probe_s"].as_f64().is_some_and(|s| s < 6.0));
}

/// Two nodes that talk, and have found out that no direct path comes about.
fn unpredictable() -> Lab {
    let mut lab = Lab::apart();
    let (now, peer) = (lab.nodes[0].now, lab.nodes[0].stack.endpoint().peer_by_identity(&key(1)).expect("a peer"));
    lab.nodes[0].stack.connect(now, peer, 80).expect("a stream");
    lab.run_until(|lab| told(&lab.nodes[0])["not_direct"] == "probing");
    lab.run_until(|lab| told(&lab.nodes[0])["not_direct"] == "nats_unpredictable");
    lab
}

#[test]
fn routers_that_cannot_be_passed_are_the_reason_for_a_relay() {
    let relayed = told(&unpredictable().nodes[0]);
    assert!(relayed["not_direct_text"].as_str().is_some_and(|text| text.contains("cannot be predicted")), "{relayed}");
    let kind = "port_dependent, ports random";
    assert_eq!((&relayed["nat"]["here"], &relayed["nat"]["there"]), (&kind.into(), &kind.into()));
    assert_eq!((&relayed["up"], &relayed["relay"]), (&true.into(), &true.into()));
    let of_relay = relayed["paths"].as_array().into_iter().flatten().find(|path| path["source"] == "relay");
    assert_eq!(of_relay.expect("one")["relay"], "192.0.2.1:3000");
    assert_eq!(relayed.get("relays"), None, "there is one alone");
}

#[cfg(feature = "tls")]
#[test]
fn a_network_without_udp_is_the_reason_for_a_relay() {
    let mut lab = unpredictable();
    let cx = &mut lab.nodes[0];
    cx.carrier.move_to_tls(cx.now, "rdv.example:443");
    let over_tls = told(cx);
    assert_eq!(over_tls["not_direct"], "udp_blocked");
    assert!(over_tls["not_direct_text"].as_str().is_some_and(|text| text.contains("no UDP passes")), "{over_tls}");
    let sources: Vec<&Value> = over_tls["paths"].as_array().into_iter().flatten().map(|path| &path["source"]).collect();
    assert!(sources.contains(&&"relay_tls".into()) && !sources.contains(&&"relay".into()), "{over_tls}");
    cx.carrier.move_to_udp(cx.now);
    assert_eq!(told(cx)["not_direct"], "nats_unpredictable");
}

#[test]
fn relays_are_told_with_what_they_do_for_the_node_and_for_a_pair() {
    let mut lab = Lab::apart();
    let dead = |n: u8| format!("{}@192.0.2.{n}:9000", format!("{n:02x}").repeat(32)).parse().expect("a relay");
    let far = format!("{}@rdv.example,192.0.2.9:7", "04".repeat(32)).parse().expect("a relay");
    lab.nodes[0].config.relays = vec![dead(2), dead(3), far];
    for n in [2, 3] {
        let (now, addr) = (lab.nodes[0].now, ([192, 0, 2, n], 9000).into());
        assert!(lab.nodes[0].stack.endpoint_mut().add_relay(now, pilot_core::identity::StaticKey([n; 32]), addr));
    }
    let (now, peer) = (lab.nodes[0].now, lab.nodes[0].stack.endpoint().peer_by_identity(&key(1)).expect("a peer"));
    lab.nodes[0].stack.connect(now, peer, 80).expect("a stream");
    lab.run_until(|lab| told(&lab.nodes[0])["up"] == true);
    let pair = told(&lab.nodes[0])["relays"].clone();
    let expected = [("192.0.2.1:3000", "in_use"), ("192.0.2.2:9000", "away"), ("192.0.2.3:9000", "away")];
    assert_eq!(pair, json(&expected.map(|(address, state)| serde_json::json!({"address": address, "state": state}))));
    let info = json(&report::info(&lab.nodes[0], &Facts { has_rendezvous: true, ..Facts::default() }));
    let relays = info["relays"].as_array().expect("relays");
    let said = |n: usize| {
        (
            relays[n]["address"].as_str().unwrap_or_default(),
            &relays[n]["spare"],
            &relays[n]["ready"],
            &relays[n]["peers"],
        )
    };
    assert_eq!(relays.len(), 4, "{info}");
    assert_eq!(said(0), ("192.0.2.1:3000", &false.into(), &true.into(), &1.into()));
    assert!(relays[0]["rtt_ms"].is_number() && relays[1]["rtt_ms"].is_null());
    assert_eq!(said(1), ("192.0.2.2:9000", &true.into(), &false.into(), &0.into()));
    assert_eq!(said(3), ("rdv.example:9000,192.0.2.9:7", &true.into(), &false.into(), &0.into()));
}

#[test]
fn a_node_that_is_no_peer_has_no_paths() {
    let lab = Lab::friends(2);
    let failure = path::report(&lab.nodes[0], "nobody").expect_err("no peer");
    assert_eq!((failure.code, failure.hint.as_str()), (Code::TrustRequired, "pilotctl handshake nobody"));
    assert!(failure.message.contains("nobody"), "{failure}");
}

/// A node that rests, and its rendezvous: a sign of life is asked for with each question and costs one datagram each way.
#[test]
fn a_rendezvous_that_died_is_noticed_with_the_second_question() {
    let mut lab = Lab::strangers(1);
    let info = |lab: &Lab| report::info(&lab.nodes[0], &Facts { has_rendezvous: true, ..Facts::default() });
    let ask = |lab: &mut Lab| {
        let now = lab.nodes[0].now;
        lab.nodes[0].stack.endpoint_mut().ask_rendezvous(now);
    };
    let pass = |lab: &mut Lab, time: Duration| {
        let end = lab.nodes[0].now + time;
        lab.run_until(|lab| lab.nodes[0].now >= end);
    };
    let heard = |lab: &Lab| info(lab).rendezvous_link.and_then(|link| link.heard_s).expect("it was heard");
    pass(&mut lab, Duration::from_secs(10));
    assert!(heard(&lab) > 5.0 && info(&lab).rendezvous == RendezvousState::Ready);
    (0..100).for_each(|_| ask(&mut lab));
    let sent = |lab: &Lab| lab.nodes[0].stack.endpoint().rendezvous_info(lab.nodes[0].now).expect("one").link.sent;
    let before = sent(&lab);
    pass(&mut lab, Duration::from_millis(200));
    assert_eq!(sent(&lab), before + 1, "many questions at once are one");
    let link = info(&lab).rendezvous_link.expect("a rendezvous");
    assert_eq!((link.carrier.as_str(), link.reason.as_str(), link.udp.as_str()), ("udp", "usual", "works"));
    assert!(heard(&lab) < 0.3 && link.rtt_ms.is_some() && link.address.contains(':'), "{link:?}");

    lab.is_cut = true;
    pass(&mut lab, Duration::from_secs(1));
    assert_eq!(info(&lab).rendezvous, RendezvousState::Ready, "nothing has asked yet");
    ask(&mut lab);
    pass(&mut lab, Duration::from_secs(3));
    assert_eq!(info(&lab).rendezvous, RendezvousState::Silent);
    assert!(info(&lab).rendezvous_link.is_some_and(|link| link.udp == "unknown" && link.heard_s > Some(3.0)));
    lab.is_cut = false;
    lab.run_until(|lab| info(lab).rendezvous == RendezvousState::Ready);
}

#[test]
fn a_change_of_path_is_told_with_its_reason_and_both_paths() {
    let mut lab = Lab::friends(2);
    let cx = &mut lab.nodes[0];
    let peer = cx.stack.endpoint().peer_by_identity(&key(1)).expect("a peer");
    let (from, to) = (PathAddr::Direct(([192, 0, 2, 9], 7).into()), PathAddr::Relay(Channel(3)));
    let change = PathChange { from, to, why: PathReason::Silence };
    watch::tell_path(cx, peer, Some(change));
    assert!(cx.effects().is_empty(), "no client watches");
    cx.is_watched = true;
    watch::tell_path(cx, peer, Some(change));
    watch::tell_path(cx, peer, None);
    let events: Vec<Value> = cx
        .effects()
        .iter()
        .map(|effect| match effect {
            Effect::Tell(event) => json(event),
            other => panic!("{other:?}"),
        })
        .collect();
    let [changed, size] = events.as_slice() else { panic!("{events:?}") };
    for (name, value) in
        [("event", "path"), ("from", "direct 192.0.2.9:7"), ("path", "relay channel 00000003"), ("reason", "silence")]
    {
        assert_eq!(changed[name], value, "{changed}");
    }
    assert_eq!((&changed["relay"], &changed["hostname"]), (&true.into(), &"node-1".into()));
    assert!(size.get("from").is_none() && size.get("reason").is_none(), "{size}");
}
