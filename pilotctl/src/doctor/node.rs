//! Owns the checks that a running daemon answers, and what it has told for them.

use super::check::{Check, Grade};
use crate::client::daemon;
use crate::path::ago;
use pilot_node::answer::{Info, PeerPaths, Peers, Relay, RendezvousState};
use pilot_node::{Client, Code, Failure, Request};
use std::sync::mpsc::Sender;
use std::thread;
use std::time::{Duration, Instant};

/// Time for one answer of the daemon.
const ANSWER_TIME: Duration = Duration::from_secs(2);
/// Time for the rendezvous to give the sign of life that each `info` asks for, and the pause between two of them.
const LIFE_TIME: Duration = Duration::from_secs(4);
const LIFE_PAUSE: Duration = Duration::from_millis(300);
/// Most peers whose paths are asked for.
const PATHS_MAX: usize = 50;
/// A datagram that every path should carry. Unit: bytes. Source: `docs/wire.md`, the base.
const BASE_LEN: u64 = 1216;
/// Difference from the rendezvous' clock that is worth a word. Unit: seconds.
const SKEW_TOLD_S: u64 = 60;
const START: &str = "pilotctl daemon start";
/// The checks of this file.
const IDS: [&str; 8] = ["daemon", "versions", "rendezvous", "relay", "clock", "nat", "port_mapping", "mtu"];

/// What the daemon has told.
#[derive(Clone)]
pub(super) struct Told {
    pub(super) info: Info,
    pub(super) peers: Peers,
    pub(super) paths: Vec<PeerPaths>,
}

/// What the threads of the checks send.
pub(super) enum News {
    /// What the daemon has told first, or why it has told nothing.
    Told(Box<Result<Told, Failure>>),
    Checks(Vec<Check>),
}

/// Asks the daemon at once, and again until the rendezvous has given a sign of life since then, or has not in time.
pub(super) fn examine(sender: &Sender<News>) {
    let first = daemon().and_then(|mut client| Ok((ask(&mut client)?, client)));
    let (mut told, mut client) = match first {
        Ok(first) => first,
        Err(failure) => {
            let checks = without_daemon(&failure);
            // Nothing reads what comes too late.
            let _ = sender.send(News::Told(Box::new(Err(failure))));
            let _ = sender.send(News::Checks(checks));
            return;
        }
    };
    let _ = sender.send(News::Told(Box::new(Ok(told.clone()))));
    let begin = Instant::now();
    while told.info.rendezvous == RendezvousState::Ready && begin.elapsed() < LIFE_TIME {
        thread::sleep(LIFE_PAUSE);
        let asked = begin.elapsed().as_secs_f64();
        match ask(&mut client) {
            Ok(again) => told = again,
            Err(_) => break, // what was told before counts
        }
        if told.info.rendezvous_link.as_ref().and_then(|link| link.heard_s).is_some_and(|heard| heard < asked) {
            break;
        }
    }
    let _ = sender.send(News::Checks(checks(&told)));
}

fn ask(client: &mut Client) -> Result<Told, Failure> {
    let info = client.ask(&Request::Info, Some(ANSWER_TIME))?;
    let peers: Peers = client.ask(&Request::Peers, Some(ANSWER_TIME))?;
    let mut paths = Vec::new();
    for peer in peers.peers.iter().take(PATHS_MAX) {
        match client.ask(&Request::Path { node: peer.address.clone() }, Some(ANSWER_TIME)) {
            Ok(path) => paths.push(path),
            Err(failure) if failure.code == Code::Timeout => break,
            Err(_) => {} // the trust has ended meanwhile
        }
    }
    Ok(Told { info, peers, paths })
}

/// The same checks when no daemon answers.
fn without_daemon(failure: &Failure) -> Vec<Check> {
    let is_absent = failure.code == Code::NotRunning;
    let text = failure.message.clone();
    let first = match is_absent {
        true => Check::warn("daemon", text, START),
        false => {
            Check::fail("daemon", text, "pilotctl daemon status; a daemon that hangs: pilotctl daemon stop --force")
        }
    };
    let todo = if is_absent { START } else { "" };
    let rest = IDS[1..].iter().map(|id| match *id {
        "versions" => Check::ok("versions", format!("pilotctl {}; no daemon tells its own", env!("CARGO_PKG_VERSION"))),
        id => Check::warn(id, "a running daemon is needed for this", todo),
    });
    std::iter::once(first).chain(rest).collect()
}

fn checks(told: &Told) -> Vec<Check> {
    let Told { info, .. } = told;
    let up = format!("process {} of version {} for {}", info.pid, info.version, ago(info.uptime_secs));
    vec![
        Check::ok("daemon", up),
        versions(info),
        rendezvous(info),
        relay(told),
        clock(info),
        nat(info),
        port_mapping(info),
        mtu(told),
    ]
}

fn versions(info: &Info) -> Check {
    let (own, of_daemon) = (env!("CARGO_PKG_VERSION"), &info.version);
    let of_rendezvous = info.rendezvous_link.as_ref().and_then(|link| link.version.as_deref());
    let told = of_rendezvous.map_or_else(String::new, |version| format!(", rendezvous {version}"));
    if own == of_daemon {
        return Check::ok("versions", format!("pilotctl and daemon {own}{told}"));
    }
    let restart = "pilotctl daemon stop; pilotctl daemon start";
    Check::warn("versions", format!("pilotctl {own}, daemon {of_daemon}{told}"), restart)
}

fn rendezvous(info: &Info) -> Check {
    let id = "rendezvous";
    let Some(link) = &info.rendezvous_link else {
        let set = "pilotctl daemon start --rendezvous KEY@HOST";
        return match info.rendezvous {
            RendezvousState::Absent => {
                Check::warn(id, "none is configured: only peers that are known are reached", set)
            }
            _ => Check::fail(
                id,
                "its address is not known: its name cannot be looked up",
                "is the name right? is DNS up?",
            ),
        };
    };
    let heard = link.heard_s.map_or("never heard".into(), |s| format!("heard {} ago", ago(s)));
    let rtt = link.rtt_ms.map_or_else(String::new, |ms| format!(", round trip {ms:.1} ms"));
    let way = format!("{heard}{rtt}, over {} to {}", link.carrier, link.address);
    match info.rendezvous {
        RendezvousState::Ready => Check::ok(id, format!("registered, {way}")),
        RendezvousState::Registering => Check::warn(id, format!("being registered, {way}"), "try again in a second"),
        RendezvousState::Refused => {
            let why = info.rendezvous_refusal.as_deref().unwrap_or("no reason is known");
            Check::fail(id, format!("it refuses this node: {why}"), "pilotctl info")
        }
        _ => {
            let mut text = format!("it gives no answer: {way}");
            if let Some(failure) = &link.tls_failure {
                text.extend(["; TLS failed: ", failure]);
            }
            Check::fail(id, text, "is it running? does a firewall let UDP out? peers that are known go on meanwhile")
        }
    }
}

fn relay(told: &Told) -> Check {
    let up: Vec<&PeerPaths> = told.paths.iter().filter(|path| path.up).collect();
    let relayed: Vec<String> = up
        .iter()
        .filter(|path| path.relay)
        .map(|path| {
            let name = if path.hostname.is_empty() { &path.address } else { &path.hostname };
            let why = path.not_direct.as_deref().unwrap_or("direct soon");
            let rtt = path.srtt_ms.map_or_else(String::new, |ms| format!(" {ms:.1} ms"));
            format!("{name}{rtt} ({why})")
        })
        .collect();
    let evidence = match (up.len(), relayed.len()) {
        (0, _) => "no peer has a tunnel now".into(),
        (up, 0) => format!("none of {up} peers with a tunnel is relayed"),
        (up, some) => format!("{some} of {up} peers with a tunnel: {}", relayed.join(", ")),
    };
    // The state of the first one is a check of its own.
    let spares = || told.info.relays.iter().filter(|relay| relay.spare);
    let silent: Vec<&str> = spares().filter(|relay| !relay.ready).map(|relay| relay.address.as_str()).collect();
    if !silent.is_empty() {
        let evidence = format!("{evidence}; no answer of the spare {}", silent.join(", "));
        return Check::warn("relay", evidence, "are they running? does a firewall let UDP out to them?");
    }
    let with_rtt = |relay: &Relay| match relay.rtt_ms {
        Some(ms) => format!("; spare {} {ms:.1} ms", relay.address),
        None => format!("; spare {}", relay.address),
    };
    let evidence = evidence + &spares().map(with_rtt).collect::<String>();
    match relayed.is_empty() {
        true => Check::ok("relay", evidence),
        false => Check { todo: "pilotctl path NODE says why".into(), ..Check::ok("relay", evidence) },
    }
}

fn clock(info: &Info) -> Check {
    match info.clock_behind_s {
        None => Check::warn("clock", "not compared: the rendezvous has not told its time", ""),
        Some(s) if s.unsigned_abs() < SKEW_TOLD_S => {
            Check::ok("clock", format!("within {} s of the rendezvous'", s.abs()))
        }
        Some(s) => {
            let way = if s > 0 { "behind" } else { "ahead of" };
            let text = format!("{} s {way} the rendezvous'", s.unsigned_abs());
            Check::warn("clock", text, "timedatectl set-ntp true; date")
        }
    }
}

fn nat(info: &Info) -> Check {
    let kind = info.nat.as_deref().unwrap_or("kind not known");
    match &info.reflexive {
        None => Check::warn("nat", "the rendezvous has not told how it sees this node", ""),
        Some(seen) => Check::ok("nat", format!("{kind}; bound to {}, seen by the rendezvous as {seen}", info.udp)),
    }
}

fn port_mapping(info: &Info) -> Check {
    let mapping = &info.mapping;
    let evidence = match (&mapping.kind, &mapping.external) {
        (Some(kind), Some(external)) => format!("{external}, by {kind}"),
        _ => mapping.why.clone().unwrap_or_else(|| "off".into()),
    };
    if mapping.why.as_deref() == Some("not_public") {
        let todo = "the gateway has no address of the internet itself: ask the provider for one, or use IPv6";
        return Check::warn("port_mapping", "the gateway is behind another NAT", todo);
    }
    Check::ok("port_mapping", evidence)
}

fn mtu(told: &Told) -> Check {
    let name = |path: &PeerPaths| if path.hostname.is_empty() { path.address.clone() } else { path.hostname.clone() };
    let of_peers = told.paths.iter().filter(|path| path.up).map(|path| (path.datagram_len, name(path)));
    let of_rendezvous = told.info.rendezvous_link.as_ref().map(|link| (link.datagram_len, "the rendezvous".to_owned()));
    let all: Vec<(u64, String)> = of_rendezvous.into_iter().chain(of_peers).collect();
    let (Some((smallest, to)), Some((largest, _))) = (all.iter().min(), all.iter().max()) else {
        return Check::warn("mtu", "no path has carried anything yet", "");
    };
    let evidence = format!("the smallest path, to {to}, carries {smallest} bytes, the largest {largest}");
    if *smallest >= BASE_LEN {
        return Check::ok("mtu", evidence);
    }
    let todo = "a tunnel or firewall on the way swallows larger datagrams: ping -M do -s 1400 HOST";
    Check { grade: Grade::Warn, todo: todo.into(), ..Check::ok("mtu", evidence) }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use serde_json::json;

    /// A daemon that is well and has one relayed peer.
    pub(crate) fn told() -> Told {
        let link = json!({"carrier": "udp", "address": "192.0.2.1:9000", "since_s": 60.0, "reason": "usual", "udp": "works",
            "heard_s": 0.2, "rtt_ms": 40.0, "datagram_len": 1216, "version": "0.9.0"});
        let info = json!({"node_id": 1, "address": "0:0000.0000.0001", "hostname": "a", "public": false, "tags": [],
            "public_key": "ab".repeat(32), "fingerprint": "f", "pid": 7, "home": "/h", "udp": "[::]:4000", "cipher": "c",
            "key_agreement": "k", "rendezvous": "ready", "rendezvous_refusal": null, "rendezvous_link": link,
            "rendezvous_address": format!("{}@192.0.2.1:9000", "cd".repeat(32)), "reflexive": "198.51.100.7:4000",
            "clock_behind_s": 1, "uptime_secs": 60.0, "started_at": 1, "trusted": 1, "pending": 0, "connections": 0,
            "ports": [7], "outbox": 1, "outbox_waiting": [{"node": "b", "messages": 1, "reason": "a secret text"}],
            "version": env!("CARGO_PKG_VERSION"), "discards": {}, "datagrams_dropped": 0});
        let path = json!({"node_id": 2, "address": "0:0000.0000.0002", "hostname": "b", "up": true, "path": "relay channel 3",
            "relay": true, "reason": "handshake", "reason_text": "x", "chosen_s": 1.0, "srtt_ms": 80.0, "datagram_len": 1216,
            "not_direct": "no_address", "not_direct_text": "x", "rounds": 1, "next_round": null, "next_round_s": null,
            "nat": null, "paths": []});
        Told {
            info: serde_json::from_value(info).expect("an answer"),
            peers: Peers { total: 1, encrypted: 1, peers: Vec::new() },
            paths: vec![serde_json::from_value(path).expect("an answer")],
        }
    }

    fn grades(told: &Told) -> Vec<(&'static str, Grade)> {
        checks(told).iter().filter(|check| check.grade != Grade::Ok).map(|check| (check.id, check.grade)).collect()
    }

    #[test]
    fn a_node_that_is_well_passes_and_each_trouble_has_its_check() {
        let mut told = told();
        assert_eq!(grades(&told), []);
        let own = env!("CARGO_PKG_VERSION");
        assert_eq!(versions(&told.info).evidence, format!("pilotctl and daemon {own}, rendezvous 0.9.0"));
        assert_eq!(checks(&told).iter().map(|check| check.id).collect::<Vec<_>>(), IDS);
        let relay = relay(&told);
        assert_eq!(
            (relay.evidence.as_str(), relay.grade),
            ("1 of 1 peers with a tunnel: b 80.0 ms (no_address)", Grade::Ok)
        );
        let spare = json!({"address": "192.0.2.5:9000", "spare": true, "ready": true, "rtt_ms": 41.5, "peers": 0});
        told.info.relays = vec![serde_json::from_value(spare).expect("a relay")];
        assert!(super::relay(&told).evidence.ends_with("; spare 192.0.2.5:9000 41.5 ms"));
        told.info.relays[0].ready = false;
        let without = super::relay(&told);
        assert!(without.grade == Grade::Warn && without.evidence.ends_with("spare 192.0.2.5:9000"), "{without:?}");
        told.info.relays.clear();
        assert_eq!(port_mapping(&told.info).evidence, "off");
        told.info.mapping.why = Some("no_answer".into());
        assert_eq!(port_mapping(&told.info).evidence, "no_answer");
        (told.info.mapping.kind, told.info.mapping.external) = (Some("pcp".into()), Some("198.51.100.7:4000".into()));
        assert_eq!(port_mapping(&told.info).evidence, "198.51.100.7:4000, by pcp");
        told.info.rendezvous = RendezvousState::Silent;
        (told.info.clock_behind_s, told.info.version) = (Some(-300), "0.0.1".into());
        told.paths[0].datagram_len = 532;
        let wanted =
            [("versions", Grade::Warn), ("rendezvous", Grade::Fail), ("clock", Grade::Warn), ("mtu", Grade::Warn)];
        assert_eq!(grades(&told), wanted);
        assert!(clock(&told.info).evidence.contains("300 s ahead of"));
        assert!(mtu(&told).evidence.contains("to b, carries 532 bytes, the largest 1216"), "{:?}", mtu(&told));
        told.info.rendezvous_link = None;
        assert_eq!(rendezvous(&told.info).grade, Grade::Fail, "its name cannot be looked up");
        told.info.rendezvous = RendezvousState::Absent;
        assert_eq!(rendezvous(&told.info).grade, Grade::Warn);
    }

    #[test]
    fn without_a_daemon_the_same_checks_say_so() {
        for (code, grade) in [(Code::NotRunning, Grade::Warn), (Code::Timeout, Grade::Fail)] {
            let checks = without_daemon(&Failure::new(code, "no answer"));
            assert_eq!(checks.iter().map(|check| check.id).collect::<Vec<_>>(), IDS);
            assert_eq!(checks[0].grade, grade);
        }
    }
}
