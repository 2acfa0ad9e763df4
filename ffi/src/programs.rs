//! Owns forwards and exposes, which end with their handles.

use crate::error::{Fault, guarded, needed, pilot_error, text};
use crate::node::{NodeObject, give};
use crate::table::{Kind, Used, get, insert, pilot_handle};
use pilot_node::answer::Forward;
use pilot_node::{Client, Request};
use std::ffi::{c_char, c_int};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Flag of pilot_expose: the program speaks HTTP/1 and is told the peer in headers.
pub const PILOT_HTTP: c_int = 1;
/// Flag of pilot_expose, with PILOT_HTTP: an A2A agent's card names the address that its caller used.
pub const PILOT_A2A: c_int = 2;
/// Flag of pilot_expose: the program is told the peer by the PROXY protocol, version 2.
pub const PILOT_PROXY_PROTOCOL: c_int = 4;

/// Longest wait for the node. The disk has no part in what ends with a handle.
const SET_UP_TIMEOUT: Duration = Duration::from_secs(60);

/// What the connection's end ends.
struct SetUp(Mutex<Option<Client>>);

impl Kind for SetUp {
    const NAME: &'static str = "a forward or expose";

    fn close(&self) {
        drop(self.0.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}

/// Lets programs of this machine reach a peer's port by a listener, PORT (of loopback; any free one with 0),
/// HOST:PORT or unix:PATH, until the returned handle is closed; connections that stand then go on. Writes the address that is
/// bound into bound (NULL when bound_len is 0), cut to bound_len and NUL-terminated; 128 bytes hold any but a path.
/// Any thread. PILOT_E_INVALID, PILOT_E_CONFLICT (the address is taken), PILOT_E_FULL, PILOT_E_NOT_RUNNING.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pilot_forward(
    node: pilot_handle,
    listen: *const c_char,
    peer: *const c_char,
    port: u16,
    bound: *mut c_char,
    bound_len: usize,
    error: *mut pilot_error,
) -> pilot_handle {
    guarded(error, || {
        // SAFETY: NULL or valid, by the header.
        let (listen, peer, bound) = unsafe {
            (needed(listen, "listen")?, needed(peer, "peer")?, crate::error::room(bound.cast::<u8>(), bound_len)?)
        };
        let mut client = get::<NodeObject>(node)?.client()?;
        let (node, listen) = (peer.to_owned(), listen.to_owned());
        let request = Request::Forward { node, port, listen, temporary: Some(true) };
        let forward: Forward = client.request(&request, &[], Some(SET_UP_TIMEOUT))?.read()?;
        give(&forward.listen, bound);
        insert(SetUp(Mutex::new(Some(client))))
    })
}

/// Lets peers reach a program at a port of this node until the returned handle is closed; connections that stand then go on.
/// target: where the program listens, as PORT on this machine, HOST:PORT or unix:PATH. flags: PILOT_HTTP, PILOT_A2A,
/// PILOT_PROXY_PROTOCOL, or 0. nodes: the only peers that may come, separated by commas; NULL: all that trust lets in.
/// Any thread. PILOT_E_INVALID, PILOT_E_CONFLICT (the port is bound), PILOT_E_NOT_FOUND (a node is not trusted),
/// PILOT_E_FULL, PILOT_E_NOT_RUNNING.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pilot_expose(
    node: pilot_handle,
    port: u16,
    target: *const c_char,
    flags: c_int,
    nodes: *const c_char,
    error: *mut pilot_error,
) -> pilot_handle {
    guarded(error, || {
        // SAFETY: NULL or valid, by the header.
        let (target, nodes) = unsafe { (needed(target, "target")?, text(nodes)?) };
        if flags & !(PILOT_HTTP | PILOT_A2A | PILOT_PROXY_PROTOCOL) != 0 {
            return Err(Fault::invalid("an unknown flag"));
        }
        let flag = |flag| (flags & flag != 0).then_some(true);
        let request = Request::Expose {
            port,
            target: target.into(),
            http: flag(PILOT_HTTP),
            a2a: flag(PILOT_A2A),
            proxy_protocol: flag(PILOT_PROXY_PROTOCOL),
            nodes: nodes.map(|list| list.split(',').map(|node| node.trim().to_owned()).collect()),
            temporary: Some(true),
        };
        let node: Used<NodeObject> = get(node)?;
        let mut client = node.client()?;
        client.request(&request, &[], Some(SET_UP_TIMEOUT))?;
        insert(SetUp(Mutex::new(Some(client))))
    })
}
