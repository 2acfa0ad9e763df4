//! libpilot: a node for C programs. The header `include/pilot.h` documents every function.
//!
//! The method: no logic here, only translation. Every entry catches panics, checks its pointers, and turns failures into
//! negative codes. A stream is one half of a socket pair, so nothing of ours is called while it is used.

use pilot_node::{Client, Code, Config, Failure, Node, RendezvousConfig, socket_path};
use serde_json::{Value, json};
use std::ffi::{CStr, c_char, c_int, c_void};
use std::os::fd::IntoRawFd as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::time::Duration;

/// A node of this process, or a daemon; opaque to C.
pub struct PilotNode {
    socket: PathBuf,
    /// Dropped last: it ends the node.
    _node: Option<Node>,
}

/// `pilot_error` of the header.
#[repr(C)]
pub struct PilotError {
    code: c_int,
    message: [c_char; 256],
    hint: [c_char; 128],
}

/// `pilot_config` of the header.
#[repr(C)]
pub struct PilotConfig {
    struct_size: usize,
    home: *const c_char,
    hostname: *const c_char,
    rendezvous: *const c_char,
    services: c_int,
}

/// How long an operation without a timeout of its own may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(60);

const fn number(code: Code) -> c_int {
    match code {
        Code::InvalidArgument | Code::Ambiguous => -2,
        Code::NotRunning => -3,
        Code::NotFound => -4,
        Code::TrustRequired => -5,
        Code::Timeout => -6,
        Code::Unreachable => -7,
        Code::Conflict => -8,
        Code::ConnectionRefused => -9,
        Code::ConnectionReset => -10,
        Code::Full => -11,
        _ => -1,
    }
}

fn copy_text(text: &str, out: &mut [c_char]) {
    let len = text.len().min(out.len() - 1);
    for (slot, byte) in out.iter_mut().zip(text.as_bytes()[..len].iter().chain([&0])) {
        *slot = *byte as c_char;
    }
}

/// Runs `f`; a failure or panic becomes a code, and its text goes to `error`.
fn guarded(error: *mut PilotError, f: impl FnOnce() -> Result<c_int, Failure>) -> c_int {
    let result = catch_unwind(AssertUnwindSafe(f));
    let failure = match result {
        Ok(Ok(value)) => return value,
        Ok(Err(failure)) => failure,
        Err(_) => Failure::new(Code::Internal, "libpilot panicked; please report this"),
    };
    // SAFETY: the header requires NULL or a valid pilot_error that nobody else uses during the call.
    if let Some(error) = unsafe { error.as_mut() } {
        error.code = number(failure.code);
        copy_text(&failure.message, &mut error.message);
        copy_text(&failure.hint, &mut error.hint);
    }
    number(failure.code)
}

/// # Safety
/// `text` is NULL or a NUL-terminated string that lives for the call.
unsafe fn text<'a>(text: *const c_char) -> Result<Option<&'a str>, Failure> {
    if text.is_null() {
        return Ok(None);
    }
    // SAFETY: not NULL; the caller promises termination.
    let text = unsafe { CStr::from_ptr(text) }.to_str();
    text.map(Some).map_err(|_| Failure::new(Code::InvalidArgument, "a string is not UTF-8"))
}

fn missing(what: &str) -> Failure {
    Failure::new(Code::InvalidArgument, format!("{what} is NULL"))
}

fn timeout(ms: c_int) -> Option<Duration> {
    u64::try_from(ms).ok().map(Duration::from_millis)
}

/// See the header.
#[unsafe(no_mangle)]
pub extern "C" fn pilot_version() -> *const c_char {
    concat!(env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast()
}

/// See the header.
///
/// # Safety
/// Pointers are NULL or valid as the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pilot_node_start(config: *const PilotConfig, error: *mut PilotError) -> *mut PilotNode {
    let mut started = std::ptr::null_mut();
    guarded(error, || {
        // SAFETY: NULL or valid, by the header.
        let config = unsafe { config.as_ref() }.ok_or_else(|| missing("config"))?;
        if config.struct_size < size_of::<PilotConfig>() {
            return Err(Failure::new(Code::InvalidArgument, "struct_size is not sizeof(pilot_config)"));
        }
        // SAFETY: the strings are NULL or valid, by the header.
        let (home, hostname, rendezvous) =
            unsafe { (text(config.home)?, text(config.hostname)?, text(config.rendezvous)?) };
        let mut node = Config::new(home.ok_or_else(|| missing("home"))?);
        node.hostname = hostname.map(str::to_owned);
        node.services = config.services != 0;
        let socket = node.home.join("pilot.sock");
        node.socket = Some(socket.clone());
        if let Some(text) = rendezvous {
            node.rendezvous = text.parse::<RendezvousConfig>().map_err(|e| Failure::new(Code::InvalidArgument, e))?;
        }
        let node = Node::start(node).map_err(|e| match e.downcast::<Failure>() {
            Ok(failure) => failure,
            Err(e) => Failure::new(Code::Internal, e.to_string()),
        })?;
        started = Box::into_raw(Box::new(PilotNode { socket, _node: Some(node) }));
        Ok(0)
    });
    started
}

/// See the header.
///
/// # Safety
/// Pointers are NULL or valid as the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pilot_attach(socket: *const c_char, error: *mut PilotError) -> *mut PilotNode {
    let mut attached = std::ptr::null_mut();
    guarded(error, || {
        // SAFETY: NULL or valid, by the header.
        let socket = unsafe { text(socket)? }.map_or_else(socket_path, PathBuf::from);
        Client::connect(&socket)?;
        attached = Box::into_raw(Box::new(PilotNode { socket, _node: None }));
        Ok(0)
    });
    attached
}

/// See the header.
///
/// # Safety
/// `node` is NULL or came from this library and is not in use.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pilot_node_free(node: *mut PilotNode) {
    if !node.is_null() {
        guarded(std::ptr::null_mut(), || {
            // SAFETY: made by Box::into_raw above, given back once, by the header.
            drop(unsafe { Box::from_raw(node) });
            Ok(0)
        });
    }
}

/// # Safety
/// As `pilot_connect`'s.
unsafe fn open_stream(
    node: *mut PilotNode,
    op: impl FnOnce() -> Result<Value, Failure>,
    ms: c_int,
) -> Result<c_int, Failure> {
    // SAFETY: NULL or valid, by the header; never changed while shared.
    let node = unsafe { node.as_ref() }.ok_or_else(|| missing("node"))?;
    let stream = Client::connect(&node.socket)?.stream(&op()?, timeout(ms))?;
    Ok(stream.socket.into_raw_fd())
}

/// See the header.
///
/// # Safety
/// Pointers are NULL or valid as the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pilot_connect(
    node: *mut PilotNode,
    peer: *const c_char,
    port: u16,
    timeout_ms: c_int,
    error: *mut PilotError,
) -> c_int {
    guarded(error, || {
        let op = || {
            // SAFETY: NULL or valid, by the header.
            let peer = unsafe { text(peer)? }.ok_or_else(|| missing("peer"))?;
            Ok(json!({"op": "connect", "node": peer, "port": port}))
        };
        // SAFETY: passed on.
        unsafe { open_stream(node, op, timeout_ms) }
    })
}

/// See the header.
///
/// # Safety
/// Pointers are NULL or valid as the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pilot_accept(
    node: *mut PilotNode,
    port: u16,
    timeout_ms: c_int,
    error: *mut PilotError,
) -> c_int {
    // SAFETY: passed on.
    guarded(error, || unsafe { open_stream(node, || Ok(json!({"op": "accept", "port": port})), timeout_ms) })
}

/// See the header.
///
/// # Safety
/// Pointers are NULL or valid as the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pilot_call(
    node: *mut PilotNode,
    operation: *const c_char,
    data: *const c_void,
    data_len: usize,
    answer: *mut c_char,
    answer_len: usize,
    error: *mut PilotError,
) -> c_int {
    guarded(error, || {
        // SAFETY: NULL or valid, by the header.
        let (node, operation) = unsafe { (node.as_ref().ok_or_else(|| missing("node"))?, text(operation)?) };
        let operation: Value = serde_json::from_str(operation.ok_or_else(|| missing("operation"))?)
            .map_err(|e| Failure::new(Code::InvalidArgument, format!("operation: {e}")))?;
        if (data.is_null() && data_len > 0) || (answer.is_null() && answer_len > 0) {
            return Err(missing("a buffer"));
        }
        if data_len > isize::MAX as usize || answer_len > isize::MAX as usize {
            return Err(Failure::new(Code::InvalidArgument, "a length is impossible"));
        }
        // SAFETY: not NULL when the length is not 0, and valid for it, by the header.
        let data = if data_len == 0 { &[] } else { unsafe { std::slice::from_raw_parts(data.cast::<u8>(), data_len) } };
        let reply = Client::connect(&node.socket)?.call(&operation, data, Some(CALL_TIMEOUT))?;
        let json = reply.data.to_string();
        if answer_len > 0 {
            // SAFETY: not NULL and valid for answer_len, by the header.
            copy_text(&json, unsafe { std::slice::from_raw_parts_mut(answer, answer_len) });
        }
        Ok(c_int::try_from(json.len()).unwrap_or(c_int::MAX))
    })
}
