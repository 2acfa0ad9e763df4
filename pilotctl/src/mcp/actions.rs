//! Owns the tools that are one request to the daemon, or two: messages, events, trust, peers.

use crate::client::CALL_TIMEOUT;
use crate::deliver;
use crate::mcp::arguments::{Arguments, invalid};
use crate::mcp::bytes;
use crate::mcp::calls::Call;
use crate::mcp::resources::message_uri;
use pilot_node::answer::{Handshake, Peers, Pending, Status};
use pilot_node::{Code, Failure, Request};
use serde_json::{Value, json};
use std::time::Duration;

/// Longest body of a message that is shown. Unit: bytes.
pub(super) const BODY_MAX: usize = 1 << 20;

pub(super) fn send_message(call: &Call, mut arguments: Arguments) -> Result<Value, Failure> {
    let body = bytes::take(&mut arguments)?;
    let timeout = arguments.seconds("timeout_s", 10)?;
    arguments.set("timeout_ms", timeout.as_millis() as u64);
    let request = arguments.request("send_message")?;
    Ok(call.client()?.request(&request, &body, Some(timeout + CALL_TIMEOUT))?.data)
}

/// Lists messages, each with the address of its resource.
pub(super) fn inbox(call: &Call, arguments: Arguments) -> Result<Value, Failure> {
    let mut data = call.client()?.request(&arguments.request("inbox")?, &[], Some(CALL_TIMEOUT))?.data;
    for message in data["messages"].as_array_mut().into_iter().flatten() {
        message["uri"] = message_uri(message["id"].as_u64().unwrap_or_default()).into();
    }
    Ok(data)
}

pub(super) fn read(call: &Call, arguments: Arguments) -> Result<Value, Failure> {
    let reply = call.client()?.request(&arguments.request("inbox_read")?, &[], Some(CALL_TIMEOUT))?;
    let Value::Object(mut data) = reply.data else { return Ok(reply.data) };
    data.remove("preview");
    let shown = &reply.blob[..reply.blob.len().min(BODY_MAX)];
    if shown.len() < reply.blob.len() {
        data.insert("is_complete".into(), false.into());
        data.insert("hint".into(), format!("all of it: pilotctl inbox read {}", data["id"]).into());
    }
    bytes::show(&mut data, shown);
    Ok(Value::Object(data))
}

/// Publishes at this node, or at a peer.
pub(super) fn publish(call: &Call, mut arguments: Arguments) -> Result<Value, Failure> {
    let payload = bytes::take(&mut arguments)?;
    let node = arguments.text("node")?.filter(|node| node != ".");
    let mut client = call.client()?;
    match node {
        None => Ok(client.request(&arguments.request("publish")?, &payload, Some(CALL_TIMEOUT))?.data),
        Some(node) => {
            let topic = arguments.needed_text("topic")?;
            let stream = deliver::open_events(&mut client, &node, &topic, &payload)?;
            call.ends(&stream.socket)?;
            deliver::emit(&mut client, &stream, &topic, &payload)
        }
    }
}

/// Asks for trust and, if the agent wants, waits for it. Without `may_approve`, a node that has asked already is left to the
/// owner, since asking it would approve its request.
pub(super) fn handshake(call: &Call, mut arguments: Arguments, may_approve: bool) -> Result<Value, Failure> {
    let wait = arguments.seconds("wait_s", 0)?;
    let node = arguments.peek("node").unwrap_or_default().to_owned();
    let request = arguments.request("handshake")?;
    let mut client = call.client()?;
    if !may_approve {
        let name = node.split('#').next().unwrap_or_default();
        let found = client.request(&Request::Find { node: name.into() }, &[], Some(CALL_TIMEOUT));
        let address = found.ok().and_then(|reply| Some(reply.data["address"].as_str()?.to_owned()));
        let waiting: Pending = client.ask(&Request::Pending, Some(CALL_TIMEOUT))?;
        let is_named = |text: &str| text == name || Some(text) == address.as_deref();
        let asked = waiting.pending.iter().find(|p| {
            [&p.hostname, &p.address, &p.public_key, &p.fingerprint, &p.node_id.to_string()]
                .into_iter()
                .any(|t| is_named(t))
        });
        if let Some(asked) = asked {
            return Err(Failure::new(
                Code::TrustRequired,
                format!("{name} has asked already; its owner's approval is wanted"),
            )
            .hint(format!("this node's owner decides: pilotctl approve {}", asked.address)));
        }
    }
    let reply = client.request(&request, &[], Some(CALL_TIMEOUT))?;
    let mut data = reply.data.clone();
    if reply.read::<Handshake>()?.status() == Status::Sent && !wait.is_zero() {
        let node = data["address"].as_str().filter(|address| !address.is_empty()).unwrap_or(&node).to_owned();
        let request = Request::WaitTrust { node, timeout_ms: Some(wait.as_millis() as u64) };
        data["trusted"] = client.request(&request, &[], Some(wait + CALL_TIMEOUT))?.data["trusted"].take();
    }
    Ok(data)
}

/// Joins the maker of a code, and waits for it.
pub(super) fn join(call: &Call, arguments: Arguments) -> Result<Value, Failure> {
    let request = arguments.request("join")?;
    let wait = match &request {
        Request::Join { timeout_ms: Some(ms), .. } => Duration::from_millis(*ms),
        _ => Duration::from_secs(60),
    };
    Ok(call.client()?.request(&request, &[], Some(wait.saturating_add(CALL_TIMEOUT)))?.data)
}

/// Tells of one trusted peer how it is reached.
pub(super) fn path(call: &Call, mut arguments: Arguments) -> Result<Value, Failure> {
    let node = arguments.needed_text("node")?;
    let mut client = call.client()?;
    let found = client.request(&Request::Find { node: node.clone() }, &[], Some(CALL_TIMEOUT))?.data;
    let peers: Peers = client.ask(&Request::Peers, Some(CALL_TIMEOUT))?;
    let peer = peers.peers.into_iter().find(|peer| found["address"] == peer.address.as_str());
    peer.map(|peer| json!(peer)).ok_or_else(|| {
        Failure::new(Code::TrustRequired, format!("{node} is no trusted peer"))
            .hint(format!("pilotctl handshake {node}"))
    })
}

/// Lists the trusted peers: all, or those with a text in their names.
pub(super) fn peers(call: &Call, mut arguments: Arguments) -> Result<Value, Failure> {
    let search = arguments.text("search")?.unwrap_or_default();
    let mut peers: Peers = call.client()?.ask(&arguments.request("peers")?, Some(CALL_TIMEOUT))?;
    peers.peers.retain(|peer| peer.hostname.contains(&search) || peer.address.contains(&search));
    peers.total = peers.peers.len() as u64;
    Ok(json!(peers))
}

/// Makes one request and gives its answer.
pub(super) fn plain(call: &Call, arguments: Arguments, verb: &str) -> Result<Value, Failure> {
    Ok(call.client()?.request(&arguments.request(verb)?, &[], Some(CALL_TIMEOUT))?.data)
}

/// Founds or changes a group, but for what its members may reach at this node.
pub(super) fn group(call: &Call, arguments: Arguments) -> Result<Value, Failure> {
    if arguments.peek("act") == Some("allow") {
        return Err(invalid("act: what members may reach here is said by this node's owner")
            .hint("the owner can: pilotctl group allow GROUP --ports PORTS"));
    }
    plain(call, arguments, "group")
}

/// Where a forward may listen for an agent: on this machine alone.
pub(super) fn loopback(listen: &str) -> Result<(), Failure> {
    let host = listen.rsplit_once(':').map_or("127.0.0.1", |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let is_loopback = host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
    if is_loopback {
        return Ok(());
    }
    Err(invalid(format!("listen: {listen:?} is not on this machine's loopback; PORT or 127.0.0.1:PORT"))
        .hint(format!("this node's owner can: pilotctl forward {listen} NODE:PORT")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_listens_on_loopback_only() {
        for good in ["8080", "127.0.0.1:0", "localhost:80", "[::1]:80", "127.9.9.9:1"] {
            assert_eq!(loopback(good), Ok(()), "{good}");
        }
        for bad in ["0.0.0.0:80", "[::]:80", "10.0.0.1:80", "unix:/tmp/x", "example.com:80", ":80", "*:80"] {
            assert!(loopback(bad).is_err(), "{bad}");
        }
    }
}
