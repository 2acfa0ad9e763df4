//! Owns the command `path`: how a peer is reached, why so, and each change of that.

use crate::args;
use crate::clean;
use crate::client::{CALL_TIMEOUT, daemon};
use crate::output::Output;
use pilot_node::answer::{PairRelay, PeerPath, PeerPaths};
use pilot_node::{Client, Event, Failure, NodeEvent, Request};
use std::time::Duration;

/// Longest sleep between two looks at whether the output is still read.
const LOOK: Duration = Duration::from_millis(500);

/// Shows how a peer is reached.
pub(crate) fn path(args: &args::Path, output: &Output) -> Result<(), Failure> {
    let mut client = daemon()?;
    if args.watch {
        client.watch(None)?; // before the first look, so that no change falls between
    }
    let reply = client.request(&Request::Path { node: args.node.clone() }, &[], Some(CALL_TIMEOUT))?;
    let report: PeerPaths = reply.read()?;
    if !output.json {
        output.line(&text(&report));
    } else if args.watch {
        // Lines of one kind follow: objects without a status.
        output.line(&reply.data.to_string());
    } else {
        output.ok(&reply.data);
    }
    if args.watch { watch(&mut client, &report.address, output) } else { Ok(()) }
}

/// How a peer is reached, asked of a daemon.
pub(crate) fn ask(client: &mut Client, node: &str) -> Result<PeerPaths, Failure> {
    client.request(&Request::Path { node: node.into() }, &[], Some(CALL_TIMEOUT))?.read()
}

/// Shows each change of the path to the node with this address, until nothing reads the output any more.
fn watch(client: &mut Client, address: &str, output: &Output) -> Result<(), Failure> {
    while !output.is_closed() {
        let Some(event) = client.next_event(Some(LOOK))? else { continue };
        let read = event.read()?;
        let is_its = read.about().0 == Some(address);
        let line = match read {
            Event::Path(_) | Event::PeerUp(_) | Event::PeerDown(_) if is_its => line(&event),
            Event::Missed { count } => format!("{} events were missed", count),
            _ => continue,
        };
        let shown = if output.json { event.data.to_string() } else { line };
        if output.next_line(&shown).is_err() {
            break;
        }
    }
    Ok(())
}

/// One change on one line: when, what, from where to where, and why.
fn line(event: &NodeEvent) -> String {
    let of = |name: &str| event.data[name].as_str().map(clean::cell);
    let (kind, time) = (of("event").unwrap_or_default(), clock());
    let to = of("path").unwrap_or_else(|| "no path".into());
    match (of("from"), of("reason")) {
        (Some(from), Some(why)) => format!("{time}  {from} -> {to}: {why}"),
        (_, Some(why)) => format!("{time}  {kind}: {why}"),
        _ => format!("{time}  {kind}: {to}, datagrams of {} bytes", event.data["datagram_len"].as_u64().unwrap_or(0)),
    }
}

/// The time of day. UTC.
fn clock() -> String {
    let since = std::time::UNIX_EPOCH.elapsed().unwrap_or_default();
    let (seconds, millis) = (since.as_secs() % 86_400, since.subsec_millis());
    format!("{:02}:{:02}:{:02}.{millis:03}Z", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

/// The report for people, at most 100 columns wide as long as names are short.
fn text(report: &PeerPaths) -> String {
    let name = if report.hostname.is_empty() { "peer" } else { &report.hostname };
    let mut out = vec![format!("{}  {}", clean::cell(name), report.address)];
    let mut say = |name: &str, text: String| out.push(format!("{name:<9} {text}"));
    say("in use", in_use(report));
    if let Some(rtt) = report.srtt_ms {
        say("speed", format!("round trip {rtt:.1} ms, datagrams of {} bytes", report.datagram_len));
    }
    match (&report.not_direct, &report.not_direct_text) {
        (Some(word), text) => say("direct", format!("no, {word}: {}", text.as_deref().unwrap_or_default())),
        (None, _) => say("direct", "yes".into()),
    }
    if report.not_direct.is_some() {
        say("next try", next_try(report));
    }
    if !report.relays.is_empty() {
        let told = |relay: &PairRelay| format!("{} {}", relay.address, relay.state.replace('_', " "));
        say("relays", clean::cell(&report.relays.iter().map(told).collect::<Vec<_>>().join(", ")));
    }
    if let Some(nat) = &report.nat {
        let kind = |kind: &Option<String>| kind.as_deref().map_or("not known".into(), clean::cell);
        say("NAT", format!("here {}, there {}", kind(&nat.here), kind(&nat.there)));
    }
    out.extend(table(report));
    out.join("\n")
}

fn in_use(report: &PeerPaths) -> String {
    let Some(path) = &report.path else { return "no path".into() };
    match (&report.reason, report.chosen_s) {
        (Some(word), Some(age)) => {
            let text = report.reason_text.as_deref().unwrap_or_default();
            format!("{path} for {}, {word}: {text}", ago(age))
        }
        _ => path.clone(),
    }
}

fn next_try(report: &PeerPaths) -> String {
    match (report.next_round, report.next_round_s) {
        (Some(round), Some(s)) if s > 0.0 => format!("round {round} of probes in {}", ago(s)),
        (Some(round), _) => format!("round {round} of probes is under way"),
        _ => "when a program uses the peer".into(),
    }
}

/// All paths; the one in use has a star.
fn table(report: &PeerPaths) -> Vec<String> {
    let row = |path: &PeerPath| {
        let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".into());
        [
            format!(
                "{} {}",
                if report.path.as_ref() == Some(&path.path) { "*" } else { " " },
                path.path.trim_start_matches("direct ")
            ),
            path.source.clone(),
            if path.validated { "works".into() } else { path.standing.clone() },
            or_dash(path.last_probe_s.map(|s| format!("{} ago", ago(s)))),
            or_dash(path.rtt_ms.map(|ms| format!("{ms:.1} ms"))),
            or_dash(path.loss.map(|part| format!("{:.0} %", part * 100.0))),
            path.datagram_len.to_string(),
        ]
    };
    let head = ["  PATH", "SOURCE", "STANDING", "PROBED", "RTT", "LOSS", "BYTES"].map(String::from);
    let rows: Vec<[String; 7]> = std::iter::once(head).chain(report.paths.iter().map(row)).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..7).map(width).collect();
    let line = |row: &[String; 7]| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

/// A time in one unit.
pub(crate) fn ago(seconds: f64) -> String {
    match seconds {
        s if s < 10.0 => format!("{s:.1} s"),
        s if s < 120.0 => format!("{s:.0} s"),
        s if s < 7200.0 => format!("{:.0} min", s / 60.0),
        s => format!("{:.0} h", s / 3600.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn report() -> PeerPaths {
        let path = |path: &str, source: &str, standing: &str, validated: bool, rtt: Option<f64>, loss: Option<f64>| {
            json!({"path": path, "source": source, "standing": standing, "validated": validated, "rtt_ms": rtt,
                "last_probe_s": loss.map(|_| 2.04), "loss": loss, "datagram_len": 1216})
        };
        serde_json::from_value(json!({
            "node_id": 2, "address": "0:0000.0000.0002", "hostname": "worker-node", "up": true, "path": "relay channel 3",
            "relay": true, "reason": "handshake", "reason_text": "the key handshake finished over it", "chosen_s": 61.5,
            "srtt_ms": 80.25, "datagram_len": 1216, "not_direct": "no_answer", "rounds": 2, "next_round": 3,
            "not_direct_text": "no answer to 6 probes to 2 addresses in 2 rounds", "next_round_s": 3.1, "nat": null,
            "paths": [
                path("relay channel 3", "relay", "proven", true, None, None),
                path("direct [2001:db8:1234:5678:9abc:def0:1234:5678]:40000", "named", "named", false, None, Some(1.0)),
                path("direct 192.168.1.7:40000", "lan", "proven", true, Some(0.4), Some(0.25)),
            ],
        }))
        .expect("a report")
    }

    #[test]
    fn a_relayed_peer_is_explained_within_100_columns() {
        let text = text(&report());
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "worker-node  0:0000.0000.0002");
        assert_eq!(lines[1], "in use    relay channel 3 for 62 s, handshake: the key handshake finished over it");
        assert_eq!(lines[3], "direct    no, no_answer: no answer to 6 probes to 2 addresses in 2 rounds");
        assert_eq!(lines[4], "next try  round 3 of probes in 3.1 s");
        assert!(lines[6].starts_with("* relay channel 3 ") && lines[6].contains("works"), "{text}");
        assert!(lines[7].contains("2.0 s ago") && lines[7].contains("100 %"), "{text}");
        assert!(lines[8].contains("0.4 ms") && lines[8].contains("25 %"), "{text}");
        assert!(lines.iter().all(|line| line.chars().count() <= 100), "{text}");
    }

    #[test]
    fn a_change_is_one_line_and_the_peers_text_adds_none() {
        let event = |data: Value| line(&NodeEvent { data, payload: Vec::new() });
        let changed = event(
            json!({"event": "path", "from": "relay channel 3", "path": "direct 192.0.2.1:7", "reason": "answered"}),
        );
        assert!(changed.ends_with("Z  relay channel 3 -> direct 192.0.2.1:7: answered"), "{changed}");
        let down = event(json!({"event": "peer_down", "reason": "worker\nwas shut down"}));
        assert!(down.contains("peer_down: worker") && down.lines().count() == 1, "{down}");
        let up = event(json!({"event": "peer_up", "path": "direct 192.0.2.1:7", "datagram_len": 1216}));
        assert!(up.ends_with("peer_up: direct 192.0.2.1:7, datagrams of 1216 bytes"), "{up}");
        assert_eq!(
            (ago(0.04), ago(59.0), ago(300.0), ago(90_000.0)),
            ("0.0 s".into(), "59 s".into(), "5 min".into(), "25 h".into())
        );
    }
}
