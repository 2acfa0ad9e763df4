//! Owns the translation of the official commands (`docs/official-abi.md`, "IPC"), with which official clients drive this
//! daemon.
//!
//! Replies carry no number: a client has one request under way at a time. Addresses are six bytes, ports two, all
//! big-endian. A command that is not served is answered with Error.

use crate::failure::{Code, Failure};
use crate::ipc::official_frame::{
    BIND, BROADCAST, CANCEL, CLOSE, DEREGISTER, DIAL, HANDSHAKE, HEALTH, INFO, MANAGED, NETWORK, PREFER_DIRECT,
    RESOLVE, ROTATE_KEY, SEND, SEND_TO, SEND_TO_CONFIRM, SET_HOSTNAME, SET_TAGS, SET_VISIBILITY, SET_WEBHOOK, UNBIND,
    error, frame,
};
use crate::request::Request;
use pilot_core::{Addr, AddrPort};
use serde::Serialize;
use serde_json::{Value, json};

/// Longest wait of an official client for trust. Unit: ms. Source: `docs/official-abi.md`, "IPC".
const WAIT_TRUST_MAX_MS: u32 = 30_000;

/// One official command.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Official {
    /// Bind a port to the client.
    Bind(u16),
    Unbind(u16),
    /// Open a stream.
    Dial(AddrPort),
    /// Bytes for a stream of the client.
    Send {
        connection: u32,
        bytes: Vec<u8>,
    },
    Close {
        connection: u32,
    },
    /// Send a datagram; `confirm`: the client waits for the outcome.
    SendTo {
        to: AddrPort,
        bytes: Vec<u8>,
        confirm: bool,
    },
    /// Run the request that means the same.
    Request(Request),
    /// Tell the node's state in one answer.
    Info,
    Health,
    /// Tell the networks to which this node belongs.
    Networks,
    /// Give up the connects of the client.
    Cancel,
    /// Answer with this frame, which is known already.
    Reply(Vec<u8>),
    /// Do nothing: the command has no answer and no meaning here.
    Nothing,
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|b| u16::from_be_bytes(*b))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|b| u32::from_be_bytes(*b))
}

fn addr_port(bytes: &[u8]) -> Option<AddrPort> {
    Some(AddrPort { addr: Addr::from_bytes(*bytes.first_chunk()?), port: u16_at(bytes, 6)? })
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Understands a command. An error is the text of the Error frame that answers it.
pub(crate) fn translate(command: u8, payload: &[u8]) -> Result<Official, String> {
    let malformed = || "malformed request".to_owned();
    Ok(match command {
        BIND => Official::Bind(u16_at(payload, 0).ok_or_else(malformed)?),
        UNBIND => Official::Unbind(u16_at(payload, 0).ok_or_else(malformed)?),
        DIAL => Official::Dial(addr_port(payload).ok_or_else(malformed)?),
        SEND => match (u32_at(payload, 0), payload.get(4..)) {
            (Some(connection), Some(bytes)) => Official::Send { connection, bytes: bytes.into() },
            _ => Official::Nothing,
        },
        CLOSE => u32_at(payload, 0).map_or(Official::Nothing, |connection| Official::Close { connection }),
        SEND_TO | SEND_TO_CONFIRM => match addr_port(payload) {
            Some(to) => {
                let bytes = payload.get(8..).unwrap_or_default().into();
                Official::SendTo { to, bytes, confirm: command == SEND_TO_CONFIRM }
            }
            None if command == SEND_TO_CONFIRM => return Err("sendto: malformed request".into()),
            None => Official::Nothing,
        },
        INFO => Official::Info,
        HEALTH => Official::Health,
        HANDSHAKE => return handshake(payload),
        RESOLVE => Official::Request(Request::Find { node: text(payload) }),
        SET_HOSTNAME => profile(Some(text(payload)), None, None),
        SET_VISIBILITY => match payload.first() {
            Some(public) => profile(None, Some(*public != 0), None),
            None => Official::Nothing,
        },
        SET_TAGS => match serde_json::from_slice(payload) {
            Ok(tags) => profile(None, None, Some(tags)),
            Err(_) => return Err("set_tags: invalid tags JSON".into()),
        },
        // Afterwards the node is found by no name, tag or listing; peers that trust it still reach it.
        DEREGISTER => profile(Some(String::new()), Some(false), Some(Vec::new())),
        CANCEL => Official::Cancel,
        _ => return extra(command, payload),
    })
}

fn profile(hostname: Option<String>, public: Option<bool>, tags: Option<Vec<String>>) -> Official {
    Official::Request(Request::Profile { hostname, public, tags })
}

/// `sub u8`, then its arguments: 1 send (node u32, text), 2 approve (u32), 3 reject (u32, text), 4 pending, 5 trusted,
/// 6 revoke (u32), 7 wait (node u32, ms u32).
fn handshake(payload: &[u8]) -> Result<Official, String> {
    let Some((sub, rest)) = payload.split_first() else { return Ok(Official::Nothing) };
    let node = u32_at(rest, 0).unwrap_or(0).to_string();
    let note = Some(text(rest.get(4..).unwrap_or_default()));
    // Official clients know trust without ports: theirs opens all of them.
    let ports = Some("all".to_owned());
    Ok(Official::Request(match sub {
        1 => Request::Handshake { node, note, ports, expires_s: None, quota: None },
        2 => Request::Approve { node, note: None, ports, expires_s: None, quota: None },
        3 => Request::Reject { node, note },
        4 => Request::Pending,
        5 => Request::Trust,
        6 => Request::Untrust { node },
        7 => {
            let ms = u32_at(rest, 4).unwrap_or(0).min(WAIT_TRUST_MAX_MS);
            Request::WaitTrust { node, timeout_ms: Some(ms.into()) }
        }
        other => return Err(format!("handshake: unknown subcommand {other}")),
    }))
}

/// Commands of features that this daemon does without, with the answers that are true here.
fn extra(command: u8, payload: &[u8]) -> Result<Official, String> {
    let answer = |data: Value| Ok(Official::Reply(reply(command + 1, &data)));
    match command {
        SET_WEBHOOK => Ok(Official::Request(Request::SetWebhook { url: text(payload), insecure: None, secret: None })),
        NETWORK if payload.first() == Some(&1) => Ok(Official::Networks),
        NETWORK => Err("network: this daemon knows the backbone network only".into()),
        MANAGED => Err("managed: no active managed networks".into()),
        ROTATE_KEY => Err("rotate_key: the key is this node's identity; a new one is a new node".into()),
        BROADCAST => Err("broadcast: broadcast denied: daemon has no admin token configured".into()),
        PREFER_DIRECT => {
            let node = u32_at(payload, 0).ok_or("malformed request")?;
            // This daemon always prefers direct paths.
            answer(json!({"node_id": node, "prefer_direct": true}))
        }
        other => Err(format!("unknown command: 0x{other:02X}")),
    }
}

/// The state of the node as official clients read it. `info`, `peers`, `connections`: the answers to these requests.
pub(crate) fn info(mut info: Value, mut peers: Value, mut connections: Value) -> Value {
    info["features"] = json!(["dgram_confirm"]);
    info["peers"] = peers["total"].clone();
    info["encrypted_peers"] = peers["encrypted"].clone();
    info["authenticated_peers"] = peers["encrypted"].clone();
    info["peer_list"] = peers["peers"].take();
    info["conn_list"] = connections["connections"].take();
    info["encrypt"] = true.into();
    info["identity"] = true.into();
    info
}

/// The health of the node as official clients read it. `info`: the answer to that request.
pub(crate) fn health(info: &Value) -> Value {
    let mut health = json!({"status": "ok", "uptime_seconds": info["uptime_secs"],
        "connections": info["connections"], "peers": info["trusted"]});
    info.get("clock_behind_s").into_iter().for_each(|behind| health["clock_behind_s"] = behind.clone());
    health
}

/// The networks of the node as official clients read them: the trusted peers and the node itself are one.
pub(crate) fn networks(trusted: usize) -> Value {
    let backbone = json!({"id": 0, "name": "backbone", "join_rule": "trust", "members": trusted + 1});
    json!({"networks": [backbone], "type": "list_networks_ok"})
}

/// An answer as JSON.
pub(crate) fn json(answer: &impl Serialize) -> Value {
    // By way of the text: a second form of every answer's writing would be a twentieth of the library. Answers have nothing in
    // them that JSON cannot carry.
    serde_json::to_vec(answer).and_then(|text| serde_json::from_slice(&text)).unwrap_or_default()
}

/// A reply with JSON.
pub(crate) fn reply(command: u8, data: &Value) -> Vec<u8> {
    frame(command, &[data.to_string().as_bytes()])
}

/// The official form of a request's answer.
pub(crate) fn answer(command: u8, answer: Result<Value, Failure>) -> Vec<u8> {
    match answer {
        Ok(mut data) => {
            let kind = match command - 1 {
                RESOLVE => "resolve_hostname_ok",
                SET_HOSTNAME => "set_hostname_ok",
                SET_VISIBILITY => "set_visibility_ok",
                SET_TAGS => "set_tags_ok",
                DEREGISTER => "deregister_ok",
                _ => "",
            };
            if !kind.is_empty() {
                data["type"] = kind.into();
            }
            // The official SDK waits for this name of the trusted peers.
            if command - 1 == HANDSHAKE && data["trusted"].is_array() {
                data["peers"] = data["trusted"].clone();
            }
            reply(command, &data)
        }
        Err(failure) if failure.code == Code::NotFound && command - 1 == RESOLVE => {
            error(&format!("resolve_hostname: {}", failure.message))
        }
        Err(failure) => error(&failure.message),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_become_requests() {
        let request = |command, payload: &[u8]| match translate(command, payload) {
            Ok(Official::Request(request)) => request,
            other => panic!("{other:?}"),
        };
        assert_eq!(request(RESOLVE, b"worker"), Request::Find { node: "worker".into() });
        let approve =
            Request::Approve { node: "5".into(), note: None, ports: Some("all".into()), expires_s: None, quota: None };
        assert_eq!(request(HANDSHAKE, &[2, 0, 0, 0, 5]), approve);
        let wait = Request::WaitTrust { node: "5".into(), timeout_ms: Some(30_000) };
        assert_eq!(request(HANDSHAKE, &[7, 0, 0, 0, 5, 0xff, 0xff, 0xff, 0xff]), wait);
        let tags = Request::Profile { hostname: None, public: None, tags: Some(vec!["a".into()]) };
        assert_eq!(request(SET_TAGS, b"[\"a\"]"), tags);
        let webhook = |url: &str| Request::SetWebhook { url: url.into(), insecure: None, secret: None };
        assert_eq!(request(SET_WEBHOOK, b"https://a/"), webhook("https://a/"));
        assert_eq!(request(SET_WEBHOOK, b""), webhook(""));
    }

    #[test]
    fn short_and_unknown_commands_are_answered_or_ignored_and_never_panic() {
        for command in 0..=0x7f {
            for payload in [&[][..], &[1], &[0xff; 3], &[0xff; 9]] {
                let _ = translate(command, payload);
            }
        }
        assert_eq!(translate(BIND, &[1]), Err("malformed request".into()));
        assert_eq!(translate(SEND, &[1]), Ok(Official::Nothing));
        assert_eq!(translate(0x7e, &[]), Err("unknown command: 0x7E".into()));
    }
}
