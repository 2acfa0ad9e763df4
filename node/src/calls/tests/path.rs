//! How a peer is reached, and why so.

use crate::calls::{path, watch};
use crate::context::Context;
use crate::effect::Effect;
use crate::failure::Code;
use crate::tests::{Lab, json, key};
use pilot_core::endpoint::PathChange;
use pilot_core::path::{PathAddr, PathReason};
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

#[test]
fn a_node_that_is_no_peer_has_no_paths() {
    let lab = Lab::friends(2);
    let failure = path::report(&lab.nodes[0], "nobody").expect_err("no peer");
    assert_eq!((failure.code, failure.hint.as_str()), (Code::TrustRequired, "pilotctl handshake nobody"));
    assert!(failure.message.contains("nobody"), "{failure}");
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
