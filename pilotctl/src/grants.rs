//! Owns the commands that say what a trusted peer may reach, and the words for that.

use crate::args;
use crate::client::{CALL_TIMEOUT, daemon, duration};
use crate::output::Output;
use pilot_node::answer::{Approved, Found, Peers, Pin};
use pilot_node::{Code, Failure, Request};

/// Changes what a peer may reach, or shows that.
pub(crate) fn grant(args: args::Grant, output: &Output) -> Result<(), Failure> {
    let expires_s = seconds(args.expires.as_deref())?;
    let names_ports = args.ports.is_some();
    let is_complete = names_ports || args.quota.is_some() && expires_s.is_none();
    match (args.list, is_complete) {
        (true, false) if expires_s.is_none() => list(args.node, output),
        (false, true) => {
            change(&Request::Grant { node: args.node, ports: args.ports, expires_s, quota: args.quota }, output)
        }
        _ => Err(Failure::new(
            Code::InvalidArgument,
            "either --ports, perhaps with --expires, or --quota, or --list is needed",
        )
        .hint("pilotctl grant NODE --ports messages,80,8000-8010 --expires 24h; grant NODE --quota memory=64MB")),
    }
}

/// Withdraws ports from a peer.
pub(crate) fn revoke(args: args::Revoke, output: &Output) -> Result<(), Failure> {
    change(&Request::Revoke { node: args.node, ports: args.ports }, output)
}

/// Approves a request for trust or for ports.
pub(crate) fn approve(args: args::Approve, output: &Output) -> Result<(), Failure> {
    let expires_s = seconds(args.expires.as_deref())?;
    let args::Approve { node, ports, quota, .. } = args;
    change(&Request::Approve { node, note: None, ports, expires_s, quota }, output)
}

fn change(request: &Request, output: &Output) -> Result<(), Failure> {
    let reply = daemon()?.request(request, &[], Some(CALL_TIMEOUT))?;
    output.ok(&reply.data);
    explain(&reply.read::<Approved>()?.pin, output);
    Ok(())
}

fn list(node: String, output: &Output) -> Result<(), Failure> {
    let reply = daemon()?.request(&Request::Find { node: node.clone() }, &[], Some(CALL_TIMEOUT))?;
    match reply.read()? {
        Found::Trusted(pin) => {
            output.ok(&reply.data);
            explain(&pin, output);
            Ok(())
        }
        Found::Stranger(_) => Err(Failure::new(Code::TrustRequired, format!("{node} is not trusted"))
            .hint(format!("pilotctl handshake {node}"))),
    }
}

/// Says what a peer can and cannot do at this node.
fn explain(pin: &Pin, output: &Output) {
    let name = if pin.hostname.is_empty() { &pin.address } else { &pin.hostname };
    let list = |ports: &[String]| if ports.is_empty() { "nothing".into() } else { ports.join(", ") };
    output.note(&format!(
        "{name} can reach here: {}; services it cannot reach: {}",
        list(&pin.granted),
        list(&pin.withheld)
    ));
    for part in &pin.temporary {
        output.note(&format!("{} until {} s after 1970", part.ports.join(", "), part.expires_at));
    }
    if let Some(quota) = &pin.quota {
        output.note(&format!("{name} may use here at most: {quota}"));
    }
    if pin.withheld.iter().any(|service| service == "messages") {
        output.note(&format!(
            "warning: {name} can send neither messages nor files here; pilotctl grant {name} --ports messages"
        ));
    }
}

/// Names the peers that use more than half of what they may.
pub(crate) fn note_budgets(peers: &Peers, output: &Output) {
    for peer in &peers.peers {
        let name = if peer.hostname.is_empty() { &peer.address } else { &peer.hostname };
        let all = [
            ("bytes of memory", Some(peer.budget.memory)),
            ("streams", Some(peer.budget.streams)),
            ("bytes of disk", peer.budget.disk),
            ("messages a day", peer.budget.messages),
        ];
        for (what, used) in all.into_iter().filter_map(|(what, used)| Some((what, used?))) {
            if used.used > used.max / 2 {
                output.note(&format!("{name} uses {} of {} {what}", used.used, used.max));
            }
        }
    }
}

/// The whole seconds of a time limit, from 1.
pub(crate) fn seconds(text: Option<&str>) -> Result<Option<u64>, Failure> {
    let Some(text) = text else { return Ok(None) };
    match duration(text)?.as_secs() {
        0 => Err(Failure::new(Code::InvalidArgument, "--expires wants at least one second").hint("--expires 24h")),
        seconds => Ok(Some(seconds)),
    }
}
