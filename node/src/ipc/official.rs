//! Owns the official commands (official-abi.md), so that official clients can drive this daemon.
//!
//! Replies carry no number: a client has one request under way at a time. Addresses are six bytes, ports two, all
//! big-endian. What is not served is answered with Error.

use super::framing::{
    BIND, BIND_OK, BROADCAST, CANCEL, CLOSE, CLOSE_OK, DEREGISTER, DIAL, ERROR, HANDSHAKE, HEALTH, INFO, MANAGED,
    NETWORK, PREFER_DIRECT, RESOLVE, ROTATE_KEY, SEND, SEND_TO, SEND_TO_CONFIRM, SET_HOSTNAME, SET_TAGS,
    SET_VISIBILITY, SET_WEBHOOK, UNBIND, frame,
};
use super::server::ClientId;
use crate::driver::{ConnectReply, Driver, ListenerOwner, Reply};
use crate::failure::{Code, Failure};
use crate::request::Request;
use pilot_core::{Addr, AddrPort};
use serde_json::{Value, json};

/// Longest that an official client may wait for trust. Unit: ms. Source: official-abi.md.
const WAIT_TRUST_MAX_MS: u32 = 30_000;

/// An Error frame: code 1, then text.
pub(super) fn error(text: &str) -> Vec<u8> {
    frame(ERROR, &[&1u16.to_be_bytes(), text.as_bytes()])
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

fn profile(hostname: Option<String>, public: Option<bool>, tags: Option<Vec<String>>) -> Request {
    Request::Profile { hostname, public, tags }
}

impl Driver {
    pub(super) fn handle_official(&mut self, client: ClientId, command: u8, payload: &[u8]) {
        let answer = self.official(client, command, payload);
        let Some(ipc) = &mut self.ipc else { return };
        match answer {
            Some(Ok(frame)) => ipc.send(client, frame),
            Some(Err(text)) => ipc.push_error(client, &text),
            None => {}
        }
    }

    /// The reply, if it is known at once.
    fn official(&mut self, client: ClientId, command: u8, payload: &[u8]) -> Option<Result<Vec<u8>, String>> {
        let malformed = || Some(Err("malformed request".to_owned()));
        let later = Reply::Official(client, command + 1);
        match command {
            BIND => {
                let Some(port) = u16_at(payload, 0) else { return malformed() };
                let bound = self.listen(port, ListenerOwner::Framed(client));
                Some(bound.map(|()| frame(BIND_OK, &[&port.to_be_bytes()])).map_err(|f| format!("bind: {}", f.message)))
            }
            UNBIND => {
                let Some(port) = u16_at(payload, 0) else { return malformed() };
                if self.ports_of(client).contains(&port) {
                    self.unlisten(port);
                }
                Some(Ok(frame(UNBIND + 1, &[&port.to_be_bytes()])))
            }
            DIAL => {
                let Some(to) = addr_port(payload) else { return malformed() };
                self.connect(&to.addr.to_string(), to.port, Vec::new(), ConnectReply::Framed(client));
                None
            }
            SEND => {
                let (connection, bytes) = (u32_at(payload, 0)?, payload.get(4..)?);
                let id = self.framed_stream(client, connection)?;
                if let Some(ipc) = &mut self.ipc {
                    ipc.keep_unsent(client, connection, bytes);
                }
                self.look(id);
                None
            }
            CLOSE => {
                let connection = u32_at(payload, 0)?;
                if let Some(id) = self.framed_stream(client, connection) {
                    // Everything sent before goes out first.
                    if let Some(mut ipc) = self.ipc.take() {
                        ipc.serve_framed(&mut self.stack, id, client, connection);
                        ipc.forget_framed(client, connection);
                        self.ipc = Some(ipc);
                    }
                    self.close(id);
                }
                Some(Ok(frame(CLOSE_OK, &[&connection.to_be_bytes()])))
            }
            SEND_TO | SEND_TO_CONFIRM => {
                let sent = self.official_send_to(payload);
                match (command, sent) {
                    (SEND_TO_CONFIRM, Ok(())) => Some(Ok(frame(SEND_TO_CONFIRM + 1, &[]))),
                    (SEND_TO_CONFIRM, Err(text)) => Some(Err(format!("sendto: {text}"))),
                    _ => None, // fire and forget
                }
            }
            INFO => Some(Ok(frame(INFO + 1, &[self.official_info().to_string().as_bytes()]))),
            HEALTH => Some(Ok(frame(HEALTH + 1, &[self.official_health().to_string().as_bytes()]))),
            HANDSHAKE => self.official_handshake(payload, later),
            RESOLVE => {
                let name = String::from_utf8_lossy(payload).into_owned();
                self.op(Request::Find { node: name }, Vec::new(), later);
                None
            }
            SET_HOSTNAME => {
                let name = String::from_utf8_lossy(payload).into_owned();
                self.op(profile(Some(name), None, None), Vec::new(), later);
                None
            }
            SET_VISIBILITY => {
                let public = *payload.first()? != 0;
                self.op(profile(None, Some(public), None), Vec::new(), later);
                None
            }
            SET_TAGS => match serde_json::from_slice::<Value>(payload) {
                Ok(Value::Array(tags)) => {
                    // Official clients may send other things beside the names, which count as nothing.
                    let tags = tags.iter().filter_map(|tag| tag.as_str().map(str::to_owned)).collect();
                    self.op(profile(None, None, Some(tags)), Vec::new(), later);
                    None
                }
                _ => Some(Err("set_tags: invalid tags JSON".into())),
            },
            DEREGISTER => {
                // Nobody finds this node by name, tag or listing any more; peers that trust it still reach it.
                self.op(profile(Some(String::new()), Some(false), Some(Vec::new())), Vec::new(), later);
                None
            }
            CANCEL => {
                self.cancel_connects(client, None);
                None
            }
            _ => Some(self.official_extra(command, payload)),
        }
    }

    /// Commands of features that this daemon does without, and what is true of them here.
    fn official_extra(&self, command: u8, payload: &[u8]) -> Result<Vec<u8>, String> {
        let answer = |data: Value| Ok(frame(command + 1, &[data.to_string().as_bytes()]));
        match command {
            SET_WEBHOOK if payload.is_empty() => answer(json!({"webhook": ""})),
            SET_WEBHOOK => Err("set_webhook: this daemon calls no URL; watch its events instead".into()),
            NETWORK if payload.first() == Some(&1) => {
                let members = self.stack.endpoint().trust().pins().count() + 1;
                let backbone = json!({"id": 0, "name": "backbone", "join_rule": "trust", "members": members});
                answer(json!({"networks": [backbone], "type": "list_networks_ok"}))
            }
            NETWORK => Err("network: this daemon knows the backbone network only".into()),
            MANAGED => Err("managed: no active managed networks".into()),
            ROTATE_KEY => Err("rotate_key: the key is this node's identity; a new one is a new node".into()),
            BROADCAST => Err("broadcast: broadcast denied: daemon has no admin token configured".into()),
            PREFER_DIRECT => {
                let node = u32_at(payload, 0).ok_or("malformed request")?;
                // It always does.
                answer(json!({"node_id": node, "prefer_direct": true}))
            }
            other => Err(format!("unknown command: 0x{other:02X}")),
        }
    }

    fn official_send_to(&mut self, payload: &[u8]) -> Result<(), String> {
        let to = addr_port(payload).ok_or("malformed request")?;
        let bytes = payload.get(8..).unwrap_or_default();
        self.send_one(&to.addr.to_string(), (to.port, to.port), bytes).map_err(|f| f.message)
    }

    /// `sub u8`, then its arguments: 1 send (node u32, text), 2 approve (u32), 3 reject (u32, text), 4 pending, 5 trusted,
    /// 6 revoke (u32), 7 wait (node u32, ms u32).
    fn official_handshake(&mut self, payload: &[u8], later: Reply) -> Option<Result<Vec<u8>, String>> {
        let (sub, rest) = payload.split_first()?;
        let node = u32_at(rest, 0).unwrap_or(0).to_string();
        let text = String::from_utf8_lossy(rest.get(4..).unwrap_or_default()).into_owned();
        let now = |data: Value| Some(Ok(frame(HANDSHAKE + 1, &[data.to_string().as_bytes()])));
        // Official clients know trust without ports: it opens all of them.
        let ports = Some("all".to_owned());
        let request = match sub {
            1 => Request::Handshake { node, note: Some(text), ports, expires_s: None },
            2 => Request::Approve { node, note: None, ports, expires_s: None },
            3 => Request::Reject { node, note: Some(text) },
            4 => return now(self.pending()),
            5 => {
                let mut data = self.trusted();
                // The official SDK waits for this name.
                data["peers"] = data["trusted"].clone();
                return now(data);
            }
            6 => Request::Untrust { node },
            7 => {
                let ms = u32_at(rest, 4).unwrap_or(0);
                Request::WaitTrust { node, timeout_ms: Some(ms.min(WAIT_TRUST_MAX_MS).into()) }
            }
            other => return Some(Err(format!("handshake: unknown subcommand {other}"))),
        };
        self.op(request, Vec::new(), later);
        None
    }

    fn official_info(&self) -> Value {
        let mut info = self.info();
        let peers = self.peers();
        info["features"] = json!(["dgram_confirm"]);
        info["peers"] = peers["total"].clone();
        info["encrypted_peers"] = peers["encrypted"].clone();
        info["authenticated_peers"] = peers["encrypted"].clone();
        info["peer_list"] = peers["peers"].clone();
        info["conn_list"] = self.connections()["connections"].clone();
        info["encrypt"] = true.into();
        info["identity"] = true.into();
        info
    }

    fn official_health(&self) -> Value {
        let info = self.info();
        json!({"status": "ok", "uptime_seconds": info["uptime_secs"], "connections": info["connections"], "peers": info["trusted"]})
    }
}

/// The official form of an operation's answer.
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
            frame(command, &[data.to_string().as_bytes()])
        }
        Err(failure) if failure.code == Code::NotFound && command - 1 == RESOLVE => {
            error(&format!("resolve_hostname: {}", failure.message))
        }
        Err(failure) => error(&failure.message),
    }
}
