//! Owns the embedded node of the official interface: one in this process, serving a socket for [`super::PilotConnect`].
#![allow(non_snake_case, reason = "official names")]

use super::{Text, input, string};
use base64ct::{Base64, Encoding as _};
use pilot_node::answer::{Info, RendezvousState};
use pilot_node::{Config, Node, RendezvousConfig};
use serde_json::{Value, json};
use std::ffi::c_char;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Longest time of the first registration.
const REGISTER_TIMEOUT: Duration = Duration::from_secs(10);

static NODE: Mutex<Option<Node>> = Mutex::new(None);

/// Starts the node. configJSON: `data_dir` and `socket_path` (required), `registry_addr` (KEY@host:port; "" for none),
/// `trust_auto_approve`; `beacon_addr`, `keepalive_sec` and `version` are accepted and ignored.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn PilotEmbeddedStart(configJSON: *const c_char) -> *mut c_char {
    string(|| {
        if configJSON.is_null() {
            return Err("parse config: nil".into());
        }
        // SAFETY: not NULL, valid by the interface.
        let config: Value = serde_json::from_slice(unsafe { input(configJSON)? }.as_bytes())
            .map_err(|e| format!("parse config: {e}"))?;
        start(&config).map(Some)
    })
}

fn start(given: &Value) -> Result<Value, Text> {
    let text = |key: &str| given[key].as_str().unwrap_or_default();
    let needed = |key: &str| match text(key) {
        "" => Err(format!("{key} required")),
        value => Ok(value),
    };
    let mut config = Config::new(needed("data_dir")?);
    let socket = needed("socket_path")?;
    config.socket = Some(socket.into());
    config.services = true;
    config.approve_all = given["trust_auto_approve"] == true;
    if !text("registry_addr").is_empty() {
        config.rendezvous =
            text("registry_addr").parse::<RendezvousConfig>().map_err(|e| format!("registry_addr: {e}"))?;
    }
    let mut slot = NODE.lock().unwrap_or_else(PoisonError::into_inner);
    if slot.is_some() {
        return Err("embedded daemon already started".into());
    }
    let node = Node::start(config).map_err(|e| format!("daemon start: {e}"))?;
    crate::fork::own();
    let info = registered(&node)?;
    *slot = Some(node);
    let key = &info.public_key;
    let digit = |at: usize| key.get(at..at + 2).and_then(|pair| u8::from_str_radix(pair, 16).ok());
    let key: Vec<u8> = (0..key.len()).step_by(2).filter_map(digit).collect();
    Ok(json!({
        "address": info.node_id.to_string(), "node_id": info.node_id, "public_key": Base64::encode_string(&key),
        "socket": socket, "pilot_address": info.address,
    }))
}

/// Waits until the node has an address, which a new node gets from the rendezvous; returns its state.
fn registered(node: &Node) -> Result<Info, Text> {
    let end = Instant::now() + REGISTER_TIMEOUT;
    loop {
        let info = node.info().map_err(|e| format!("daemon start: {e}"))?;
        match info.rendezvous {
            RendezvousState::Ready | RendezvousState::Absent => return Ok(info),
            RendezvousState::Refused => {
                return Err(format!("daemon start: register: {}", info.rendezvous_refusal.unwrap_or_default()));
            }
            // A node that was registered before serves the peers it knows, while the registration goes on.
            _ if Instant::now() >= end && info.node_id != 0 => return Ok(info),
            _ if Instant::now() >= end => return Err("daemon start: register: the rendezvous does not answer".into()),
            _ => std::thread::sleep(Duration::from_millis(5)),
        }
    }
}

/// Ends the node in order.
#[unsafe(no_mangle)]
pub extern "C" fn PilotEmbeddedStop() -> *mut c_char {
    string(|| {
        let node = NODE.lock().unwrap_or_else(PoisonError::into_inner).take();
        let status = if node.is_some() { "stopped" } else { "not_started" };
        drop(node);
        Ok(Some(json!({"status": status})))
    })
}
