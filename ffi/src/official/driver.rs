//! Owns Drivers, a program's connections to a daemon, and every call of the official interface to the daemon.
#![allow(non_snake_case, reason = "official names")]

use super::conn::Conn;
use super::wire;
use super::{HandleErr, Text, get, handle, input, input_bytes, string};
use crate::table::{Kind, Used, insert, remove};
use base64ct::{Base64, Encoding as _};
use pilot_node::framing::{
    BROADCAST, DEREGISTER, HANDSHAKE, HEALTH, INFO, MANAGED, NETWORK, RECV_FROM, RESOLVE, ROTATE_KEY, SEND_TO,
    SET_HOSTNAME, SET_TAGS, SET_VISIBILITY, SET_WEBHOOK, frame,
};
use pilot_node::{Addr, AddrPort, Client, Code, Request};
use serde_json::{Value, json};
use std::ffi::{c_char, c_int, c_void};
use std::io::Write as _;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Longest time of a dial without a limit of its own. Source: `docs/official-abi.md, "C ABI"`.
const DIAL_TIMEOUT: Duration = Duration::from_secs(30);

pub(crate) struct Driver {
    pub(super) path: PathBuf,
    /// Connection for received datagrams; one thread at a time reads it.
    datagrams: UnixStream,
    reading: Mutex<()>,
    /// Handles that close with this Driver.
    owned: Mutex<Vec<u64>>,
}

impl Driver {
    fn connect(path: PathBuf) -> Result<Self, Text> {
        let mut datagrams = wire::connect(&path)?;
        // After any official command the daemon sends datagrams on this connection.
        datagrams.write_all(&frame(INFO, &[])).map_err(|e| e.to_string())?;
        Ok(Self { path, datagrams, reading: Mutex::new(()), owned: Mutex::new(Vec::new()) })
    }

    /// Adds a handle that closes with this Driver, and returns it.
    pub(super) fn own(&self, handle: i64) -> i64 {
        debug_assert!(handle > 0, "only open handles are owned");
        let mut owned = self.owned.lock().unwrap_or_else(PoisonError::into_inner);
        // Before the list grows it drops closed handles, so that its length follows the number of open ones.
        if owned.len() == owned.capacity() {
            owned.retain(|h| crate::table::is_open(*h as i64));
        }
        owned.push(handle as u64);
        handle
    }

    fn ask(&self, command: u8, payload: &[&[u8]]) -> Result<Value, Text> {
        let answer = wire::ask(&self.path, command, payload)?;
        match serde_json::from_slice(&answer) {
            Ok(value @ Value::Object(_)) => Ok(value),
            _ => Err("the daemon's answer is no JSON object".into()),
        }
    }

    fn receive(&self) -> Result<Value, Text> {
        let _one_at_a_time = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let (command, payload) = wire::read_frame(&self.datagrams).map_err(|_| "connection closed".to_owned())?;
            let (RECV_FROM, Some((head, data))) = (command, payload.split_first_chunk::<10>()) else { continue };
            let [a, b, c, d, e, f, source_high, source_low, port_high, port_low] = *head;
            return Ok(json!({
                "src_addr": Addr::from_bytes([a, b, c, d, e, f]).to_string(),
                "src_port": u16::from_be_bytes([source_high, source_low]),
                "dst_port": u16::from_be_bytes([port_high, port_low]),
                "data": Base64::encode_string(data),
            }));
        }
    }

    fn dial(&self, to: AddrPort, limit: Option<Duration>) -> Result<i64, Text> {
        let failed = |failure: pilot_node::Failure| match failure.code {
            Code::Timeout => "dial: dial timeout".to_owned(),
            Code::ConnectionRefused => "dial: daemon: connection refused".to_owned(),
            _ => format!("dial: daemon: {}", failure.message),
        };
        let mut client = Client::connect(&self.path).map_err(failed)?;
        let stream = client.open(&to.addr.to_string(), to.port, limit).map_err(failed)?;
        let conn = Conn::new(stream.socket, self.path.clone()).map_err(|e| format!("dial: {e}"))?;
        insert(conn).map(|handle| self.own(handle)).map_err(|fault| fault.message)
    }
}

impl Kind for Driver {
    const NAME: &'static str = "a Driver";

    fn close(&self) {
        let _ = self.datagrams.shutdown(std::net::Shutdown::Both);
        let owned = std::mem::take(&mut *self.owned.lock().unwrap_or_else(PoisonError::into_inner));
        for handle in owned {
            remove(handle as i64);
        }
    }
}

/// Parses `N:XXXX.YYYY.YYYY:PORT`.
fn socket_address(text: &str) -> Result<AddrPort, Text> {
    let Some((addr, port)) = text.rsplit_once(':').filter(|(addr, _)| addr.contains(':')) else {
        return Err(format!("invalid socket address: {text:?} (no port)"));
    };
    let addr = addr
        .parse()
        .map_err(|_| format!("invalid socket address: invalid address: {addr:?} (expected N:XXXX.YYYY.YYYY)"))?;
    let port = port.parse().map_err(|_| format!("invalid socket address: invalid port: {port:?}"))?;
    Ok(AddrPort { addr, port })
}

/// Runs a call that answers with an object. `prefix` stands before an error, as in the official library.
fn question(h: u64, prefix: &str, ask: impl FnOnce(&Used<Driver>) -> Result<Value, Text>) -> *mut c_char {
    string(|| {
        let driver: Used<Driver> = get(h, "driver ")?;
        match ask(&driver) {
            Ok(value) => Ok(Some(value)),
            Err(text) if prefix.is_empty() => Err(text),
            Err(text) => Err(format!("{prefix}: {text}")),
        }
    })
}

/// Connects to the daemon at a Unix socket; "": the usual place, as for pilot_attach.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn PilotConnect(socketPath: *const c_char) -> HandleErr {
    handle(|| {
        // SAFETY: NULL or valid, by the interface.
        let path = match unsafe { input(socketPath)? } {
            "" => pilot_node::socket_path(),
            path => path.into(),
        };
        let driver = Driver::connect(path).map_err(|e| format!("connect to daemon: {e}"))?;
        insert(driver).map_err(|fault| fault.message)
    })
}

/// Closes a Driver with its streams and listeners.
#[unsafe(no_mangle)]
pub extern "C" fn PilotClose(h: u64) -> *mut c_char {
    string(|| {
        get::<Driver>(h, "")?;
        remove(h as i64);
        Ok(None)
    })
}

/// Returns the state of the daemon.
#[unsafe(no_mangle)]
pub extern "C" fn PilotInfo(h: u64) -> *mut c_char {
    question(h, "info", |driver| driver.ask(INFO, &[]))
}

/// Returns a short state of the daemon.
#[unsafe(no_mangle)]
pub extern "C" fn PilotHealth(h: u64) -> *mut c_char {
    question(h, "health", |driver| driver.ask(HEALTH, &[]))
}

/// Asks for a new key, which the daemon refuses: the key is the node's identity.
#[unsafe(no_mangle)]
pub extern "C" fn PilotRotateKey(h: u64) -> *mut c_char {
    question(h, "rotate_key", |driver| driver.ask(ROTATE_KEY, &[]))
}

/// Withdraws the node's hostname, tags and visibility from the registry.
#[unsafe(no_mangle)]
pub extern "C" fn PilotDeregister(h: u64) -> *mut c_char {
    question(h, "deregister", |driver| driver.ask(DEREGISTER, &[]))
}

fn trust(h: u64, prefix: &str, sub: u8, payload: &[&[u8]]) -> *mut c_char {
    let sub = [sub];
    let parts = [&[&sub[..]], payload].concat();
    question(h, prefix, |driver| driver.ask(HANDSHAKE, &parts))
}

/// Asks a node for trust.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn PilotHandshake(h: u64, nodeID: u32, justification: *const c_char) -> *mut c_char {
    // SAFETY: NULL or valid, by the interface.
    match unsafe { input(justification) } {
        Ok(text) => trust(h, "handshake", 1, &[&nodeID.to_be_bytes(), text.as_bytes()]),
        Err(text) => super::emit_error(&text),
    }
}

/// Waits until a node is trusted, at most 30 s: `{"node_id", "trusted"}`.
#[unsafe(no_mangle)]
pub extern "C" fn PilotWaitForTrust(h: u64, nodeID: u32, timeoutMs: u32) -> *mut c_char {
    trust(h, "wait for trust", 7, &[&nodeID.to_be_bytes(), &timeoutMs.to_be_bytes()])
}

/// Approves a request.
#[unsafe(no_mangle)]
pub extern "C" fn PilotApproveHandshake(h: u64, nodeID: u32) -> *mut c_char {
    trust(h, "approve", 2, &[&nodeID.to_be_bytes()])
}

/// Declines a request.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn PilotRejectHandshake(h: u64, nodeID: u32, reason: *const c_char) -> *mut c_char {
    // SAFETY: NULL or valid, by the interface.
    match unsafe { input(reason) } {
        Ok(text) => trust(h, "reject", 3, &[&nodeID.to_be_bytes(), text.as_bytes()]),
        Err(text) => super::emit_error(&text),
    }
}

/// Returns the requests that wait: `{"pending": [...]}`.
#[unsafe(no_mangle)]
pub extern "C" fn PilotPendingHandshakes(h: u64) -> *mut c_char {
    trust(h, "pending", 4, &[])
}

/// Returns the trusted nodes, under "trusted" and under "peers".
#[unsafe(no_mangle)]
pub extern "C" fn PilotTrustedPeers(h: u64) -> *mut c_char {
    trust(h, "trusted", 5, &[])
}

/// Withdraws trust.
#[unsafe(no_mangle)]
pub extern "C" fn PilotRevokeTrust(h: u64, nodeID: u32) -> *mut c_char {
    trust(h, "revoke", 6, &[&nodeID.to_be_bytes()])
}

/// # Safety
/// `text` is NULL or valid, by the interface.
unsafe fn with_text(h: u64, prefix: &str, command: u8, text: *const c_char) -> *mut c_char {
    // SAFETY: passed on.
    question(h, prefix, |driver| driver.ask(command, &[unsafe { input(text)? }.as_bytes()]))
}

/// Looks a hostname up.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn PilotResolveHostname(h: u64, hostname: *const c_char) -> *mut c_char {
    // SAFETY: passed on.
    unsafe { with_text(h, "resolve_hostname", RESOLVE, hostname) }
}

/// Changes the node's hostname; "" gives it up.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn PilotSetHostname(h: u64, hostname: *const c_char) -> *mut c_char {
    // SAFETY: passed on.
    unsafe { with_text(h, "set_hostname", SET_HOSTNAME, hostname) }
}

/// Makes the node public (not 0) or private.
#[unsafe(no_mangle)]
pub extern "C" fn PilotSetVisibility(h: u64, public: c_int) -> *mut c_char {
    question(h, "set_visibility", |driver| driver.ask(SET_VISIBILITY, &[&[u8::from(public != 0)]]))
}

/// Sets the tags, a JSON array of strings.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn PilotSetTags(h: u64, tagsJSON: *const c_char) -> *mut c_char {
    question(h, "", |driver| {
        // SAFETY: NULL or valid, by the interface.
        let text = unsafe { input(tagsJSON)? };
        let tags: Vec<String> =
            serde_json::from_slice(text.as_bytes()).map_err(|e| format!("invalid tags JSON: {e}"))?;
        driver.ask(SET_TAGS, &[json!(tags).to_string().as_bytes()]).map_err(|e| format!("set_tags: {e}"))
    })
}

/// Sets the webhook; "" clears it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn PilotSetWebhook(h: u64, url: *const c_char) -> *mut c_char {
    // SAFETY: passed on.
    unsafe { with_text(h, "set_webhook", SET_WEBHOOK, url) }
}

/// Ends a stream by its number in the daemon; an unknown number is no failure.
#[unsafe(no_mangle)]
pub extern "C" fn PilotDisconnect(h: u64, connID: u32) -> *mut c_char {
    string(|| {
        let driver: Used<Driver> = get(h, "driver ")?;
        let request = Request::Disconnect { stream: connID.into() };
        match Client::connect(&driver.path).and_then(|mut c| c.request(&request, &[], Some(DIAL_TIMEOUT))) {
            Err(failure) if failure.code != Code::NotFound => Err(failure.message),
            _ => Ok(None),
        }
    })
}

/// Opens a stream to `N:XXXX.YYYY.YYYY:PORT`, within 30 s.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn PilotDial(h: u64, addr: *const c_char) -> HandleErr {
    handle(|| {
        let driver: Used<Driver> = get(h, "driver ")?;
        // SAFETY: NULL or valid, by the interface.
        let to = socket_address(unsafe { input(addr)? }).map_err(|e| format!("parse address: {e}"))?;
        driver.dial(to, Some(DIAL_TIMEOUT))
    })
}

/// Opens a stream as PilotDial does, within a time limit. Unit: milliseconds; 0: none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn PilotDialTimeout(h: u64, addr: *const c_char, timeoutMs: u64) -> HandleErr {
    handle(|| {
        let driver: Used<Driver> = get(h, "driver ")?;
        // SAFETY: NULL or valid, by the interface.
        let to = socket_address(unsafe { input(addr)? })?;
        driver.dial(to, (timeoutMs > 0).then(|| Duration::from_millis(timeoutMs)))
    })
}

/// Sends a datagram, which may be lost.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn PilotSendTo(
    h: u64,
    fullAddr: *const c_char,
    data: *const c_void,
    dataLen: c_int,
) -> *mut c_char {
    string(|| {
        let driver: Used<Driver> = get(h, "driver ")?;
        // SAFETY: NULL or valid, by the interface.
        let (to, data) = unsafe { (socket_address(input(fullAddr)?)?, input_bytes(data, dataLen)?) };
        let frame = frame(SEND_TO, &[&to.addr.to_bytes(), &to.port.to_be_bytes(), data]);
        let mut socket = wire::connect(&driver.path)?;
        socket.write_all(&frame).map_err(|e| e.to_string())?;
        Ok(None)
    })
}

/// Waits for the next datagram to any port and returns it: `{"src_addr", "src_port", "dst_port", "data"}`, data in base64.
#[unsafe(no_mangle)]
pub extern "C" fn PilotRecvFrom(h: u64) -> *mut c_char {
    question(h, "", |driver| driver.receive())
}

/// Sends a datagram to every member of a network, which the daemon refuses.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn PilotBroadcast(
    h: u64,
    netID: u16,
    port: u16,
    data: *const c_void,
    dataLen: c_int,
    adminToken: *const c_char,
) -> *mut c_char {
    question(h, "", |driver| {
        // SAFETY: NULL or valid, by the interface.
        let (data, token) = unsafe { (input_bytes(data, dataLen)?, input(adminToken)?) };
        let token_len = u16::try_from(token.len()).map_err(|_| "the token is too long")?.to_be_bytes();
        driver.ask(BROADCAST, &[&netID.to_be_bytes(), &port.to_be_bytes(), &token_len, token.as_bytes(), data])
    })
}

fn network(h: u64, prefix: &str, payload: &[&[u8]]) -> *mut c_char {
    question(h, prefix, |driver| driver.ask(NETWORK, payload))
}

/// Returns the networks: the common one.
#[unsafe(no_mangle)]
pub extern "C" fn PilotNetworkList(h: u64) -> *mut c_char {
    network(h, "network list", &[&[1]])
}

/// Joins a network, which the daemon refuses.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn PilotNetworkJoin(h: u64, networkID: u16, token: *const c_char) -> *mut c_char {
    // SAFETY: NULL or valid, by the interface.
    match unsafe { input(token) } {
        Ok(token) => network(h, "network join", &[&[2], &networkID.to_be_bytes(), token.as_bytes()]),
        Err(text) => super::emit_error(&text),
    }
}

/// Leaves a network, which the daemon refuses.
#[unsafe(no_mangle)]
pub extern "C" fn PilotNetworkLeave(h: u64, networkID: u16) -> *mut c_char {
    network(h, "network leave", &[&[3], &networkID.to_be_bytes()])
}

/// Asks for the members of a network, which the daemon refuses.
#[unsafe(no_mangle)]
pub extern "C" fn PilotNetworkMembers(h: u64, networkID: u16) -> *mut c_char {
    network(h, "network members", &[&[4], &networkID.to_be_bytes()])
}

/// Invites a node into a network, which the daemon refuses.
#[unsafe(no_mangle)]
pub extern "C" fn PilotNetworkInvite(h: u64, networkID: u16, targetNodeID: u32) -> *mut c_char {
    network(h, "network invite", &[&[5], &networkID.to_be_bytes(), &targetNodeID.to_be_bytes()])
}

/// Asks for invitations, which the daemon refuses.
#[unsafe(no_mangle)]
pub extern "C" fn PilotNetworkPollInvites(h: u64) -> *mut c_char {
    network(h, "network poll invites", &[&[6]])
}

/// Answers an invitation, which the daemon refuses.
#[unsafe(no_mangle)]
pub extern "C" fn PilotNetworkRespondInvite(h: u64, networkID: u16, accept: c_int) -> *mut c_char {
    network(h, "network respond invite", &[&[7], &networkID.to_be_bytes(), &[u8::from(accept != 0)]])
}

fn managed(h: u64, payload: &[&[u8]]) -> *mut c_char {
    question(h, "", |driver| driver.ask(MANAGED, payload).map_err(|e| e.trim_start_matches("daemon: ").to_owned()))
}

/// Asks for the state of a managed network, which the daemon refuses.
#[unsafe(no_mangle)]
pub extern "C" fn PilotManagedStatus(h: u64, networkID: u16) -> *mut c_char {
    managed(h, &[&[2], &networkID.to_be_bytes()])
}

/// Runs a managed network's policy, which the daemon refuses.
#[unsafe(no_mangle)]
pub extern "C" fn PilotManagedForceCycle(h: u64, networkID: u16) -> *mut c_char {
    managed(h, &[&[4], &networkID.to_be_bytes()])
}

/// Refreshes a managed network's members, which the daemon refuses.
#[unsafe(no_mangle)]
pub extern "C" fn PilotManagedReconcile(h: u64, networkID: u16) -> *mut c_char {
    managed(h, &[&[7], &networkID.to_be_bytes()])
}

/// Asks for a network's policy, which the daemon refuses.
#[unsafe(no_mangle)]
pub extern "C" fn PilotPolicyGet(h: u64, networkID: u16) -> *mut c_char {
    managed(h, &[&[5, 0], &networkID.to_be_bytes()])
}

/// Sets a network's policy, which the daemon refuses.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn PilotPolicySet(
    h: u64,
    networkID: u16,
    policyJSON: *const c_char,
    adminToken: *const c_char,
) -> *mut c_char {
    // Some callers pass no token, so the pointer is never read.
    let _ = adminToken;
    // SAFETY: NULL or valid, by the interface.
    match unsafe { input(policyJSON) } {
        Ok(policy) => managed(h, &[&[5, 1], &networkID.to_be_bytes(), &[0, 0], policy.as_bytes()]),
        Err(text) => super::emit_error(&text),
    }
}

/// Asks for a member's tags, which the daemon refuses.
#[unsafe(no_mangle)]
pub extern "C" fn PilotMemberTagsGet(h: u64, networkID: u16, nodeID: u32) -> *mut c_char {
    managed(h, &[&[6, 0], &networkID.to_be_bytes(), &nodeID.to_be_bytes()])
}

/// Sets a member's tags, which the daemon refuses.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn PilotMemberTagsSet(
    h: u64,
    networkID: u16,
    nodeID: u32,
    tagsJSON: *const c_char,
) -> *mut c_char {
    // SAFETY: NULL or valid, by the interface.
    match unsafe { input(tagsJSON) } {
        Ok(tags) => managed(h, &[&[6, 1], &networkID.to_be_bytes(), &nodeID.to_be_bytes(), tags.as_bytes()]),
        Err(text) => super::emit_error(&text),
    }
}
