//! Owns nodes, in this process or a daemon, and the operations that are one call and one answer.

use crate::error::{Fault, PILOT_E_FULL, bytes, guarded, needed, pilot_error, text, timeout};
use crate::peer::{out, pilot_peer};
use crate::table::{Kind, Used, get, insert, pilot_handle};
use pilot_node::answer::{Invited, Message, Published, Taken, Trusted};
use pilot_node::{
    AddrPort, Client, Code, Config, Failure, MessageKind, Node, RendezvousConfig, Reply, Request, ports, socket_path,
};
use std::ffi::{c_char, c_int};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Longest time of an operation without a limit of its own.
pub(crate) const CALL_TIMEOUT: Duration = Duration::from_secs(60);

/// Type of a message: text.
pub const PILOT_TEXT: c_int = 1;
/// Type of a message: any bytes.
pub const PILOT_BINARY: c_int = 2;
/// Type of a message: JSON, which is checked before it is sent.
pub const PILOT_JSON: c_int = 3;

/// Settings of a node. Set struct_size to sizeof(pilot_config); every other field but home may be zero.
#[repr(C)]
pub struct pilot_config {
    /// sizeof(pilot_config).
    pub struct_size: usize,
    /// Folder for identity and books, made when it is missing; one node at a time uses it. Required.
    pub home: *const c_char,
    /// Hostname to register: 1-63 characters of a-z 0-9 -; NULL: the one registered before, if any.
    pub hostname: *const c_char,
    /// KEY@host:port; NULL: none, only peers known from before are reached, at their last addresses.
    pub rendezvous: *const c_char,
    /// Unix socket to serve for other programs, as a daemon does; NULL: none.
    pub socket: *const c_char,
    /// ADDRESS:PORT to bind for UDP; NULL: every address, any port.
    pub listen: *const c_char,
    /// Longest ring of a stream in each direction. Unit: bytes. 0: 33554432. For small devices 262144 or less.
    pub stream_ring_len_max: usize,
    /// Not 0: the node answers on ports 7 (echo), 1000 (text), 1001 (messages, files) and 1002 (events), as the daemon does.
    pub services: c_int,
}

/// A message in the inbox. Set struct_size to sizeof(pilot_message).
#[repr(C)]
pub struct pilot_message {
    /// sizeof(pilot_message).
    pub struct_size: usize,
    /// Number of the message; grows with every message.
    pub id: u64,
    /// Time of arrival. Unit: seconds since 1970.
    pub received_at: u64,
    /// Length of the body. Unit: bytes, at most 16777216.
    pub len: usize,
    /// PILOT_TEXT, PILOT_BINARY or PILOT_JSON.
    pub kind: c_int,
    /// The node that sent the message.
    pub from: pilot_peer,
}

pub(crate) struct NodeObject {
    /// `None` for a daemon, and for a node of this process that was closed.
    node: Mutex<Option<Node>>,
    /// Socket of the daemon; `None` for a node of this process.
    socket: Option<PathBuf>,
    /// Descriptors end explicitly (pilot_end_explicitly).
    explicit: AtomicBool,
    /// The connection for words about the ends of streams, made on first use.
    words: Mutex<Option<Client>>,
}

impl NodeObject {
    pub(crate) const fn attached(socket: PathBuf) -> Self {
        Self { node: Mutex::new(None), socket: Some(socket), explicit: AtomicBool::new(false), words: Mutex::new(None) }
    }

    const fn own(node: Node) -> Self {
        Self { node: Mutex::new(Some(node)), socket: None, explicit: AtomicBool::new(false), words: Mutex::new(None) }
    }

    /// Returns the node when it lives in this process.
    pub(crate) fn local(&self) -> Option<Node> {
        self.node.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Opens a connection to the node, for one call or for longer.
    pub(crate) fn client(&self) -> Result<Client, Failure> {
        match (&self.socket, self.local()) {
            (Some(path), _) => Client::connect(path),
            (None, Some(node)) => node.client(),
            (None, None) => Err(Failure::new(Code::NotRunning, "the node was closed")),
        }
    }

    /// Opens a connection for streams that are handed out as descriptors.
    pub(crate) fn client_for_streams(&self) -> Result<Client, Failure> {
        let mut client = self.client()?;
        if self.explicit.load(Ordering::SeqCst) {
            client.end_explicitly()?;
        }
        Ok(client)
    }

    /// Tells the node something about the end of a stream, without waiting.
    pub(crate) fn tell(&self, word: &Request) -> Result<(), Failure> {
        let mut words = self.words.lock().unwrap_or_else(PoisonError::into_inner);
        let client = match &mut *words {
            Some(client) => client,
            none => none.insert(self.client()?),
        };
        // Answers to earlier words have arrived meanwhile.
        let mut told = Ok(());
        while told.is_ok() && matches!(client.try_answer().map_err(|e| told = Err(e)), Ok(Some(_))) {}
        let told = told.and_then(|()| client.send(word, &[]).map(drop));
        if told.is_err() {
            *words = None; // the next word makes another connection
        }
        told
    }

    pub(crate) fn request(&self, request: &Request, data: &[u8], limit: Duration) -> Result<Reply, Fault> {
        Ok(self.client()?.request(request, data, Some(limit))?)
    }
}

impl Kind for NodeObject {
    const NAME: &'static str = "a node";

    fn close(&self) {
        let node = self.node.lock().unwrap_or_else(PoisonError::into_inner).take();
        *self.words.lock().unwrap_or_else(PoisonError::into_inner) = None;
        if let Some(node) = node {
            node.stopper()();
            node.wait();
        }
    }
}

/// From now on the end of a descriptor that pilot_connect, pilot_connect_start or pilot_accept returns for this node resets its
/// stream, unless pilot_finish came before: so the peer tells a program that died from one that was done. Otherwise closing
/// a descriptor ends the stream as closing a TCP socket does, also when a program dies. Listeners that exist stay as they are.
/// Any thread; does not wait.
#[unsafe(no_mangle)]
pub extern "C" fn pilot_end_explicitly(node: pilot_handle, error: *mut pilot_error) -> c_int {
    guarded(error, || {
        get::<NodeObject>(node)?.explicit.store(true, Ordering::SeqCst);
        Ok(0)
    })
}

/// Makes a request that returns 0; `request` makes it from the arguments of the call.
fn simple(node: pilot_handle, error: *mut pilot_error, request: impl FnOnce() -> Result<Request, Fault>) -> c_int {
    guarded(error, || {
        let node: Used<NodeObject> = get(node)?;
        node.request(&request()?, &[], CALL_TIMEOUT)?;
        Ok(0)
    })
}

/// Starts a node in this process and returns its handle. The node has two threads: the loop, and a worker for the disk.
/// Any thread; blocks until the node serves, which takes milliseconds; the rendezvous is reached later.
/// PILOT_E_INVALID (an argument, or the identity file is damaged), PILOT_E_CONFLICT (the folder, the socket or the UDP
/// address is in use), PILOT_E_FULL, PILOT_E_INTERNAL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pilot_node_start(config: *const pilot_config, error: *mut pilot_error) -> pilot_handle {
    guarded(error, || {
        // SAFETY: NULL or valid, by the header; its size, which comes first, is looked at before anything else.
        let given = unsafe { config.as_ref() }.ok_or_else(|| Fault::invalid("config is NULL"))?;
        if given.struct_size < size_of::<pilot_config>() {
            return Err(Fault::invalid("struct_size is not sizeof(pilot_config)"));
        }
        // SAFETY: the strings are NULL or valid, by the header.
        let (home, hostname, rendezvous, socket, listen) = unsafe {
            (
                needed(given.home, "home")?,
                text(given.hostname)?,
                text(given.rendezvous)?,
                text(given.socket)?,
                text(given.listen)?,
            )
        };
        let mut config = Config::new(home);
        config.hostname = hostname.map(str::to_owned);
        config.services = given.services != 0;
        config.socket = socket.map(PathBuf::from);
        if let Some(rendezvous) = rendezvous {
            config.rendezvous = rendezvous.parse::<RendezvousConfig>().map_err(Fault::invalid)?;
        }
        if let Some(listen) = listen {
            config.listen = listen.parse().map_err(|_| Fault::invalid("listen is not ADDRESS:PORT"))?;
        }
        if given.stream_ring_len_max > 0 {
            config.stream_ring_len_max = given.stream_ring_len_max.max(4096);
        }
        insert(NodeObject::own(Node::start(config)?))
    })
}

/// Returns a handle for the daemon that serves this Unix socket (NULL: the usual place: $PILOT_SOCKET, else pilot.sock in
/// $PILOT_HOME or in $XDG_RUNTIME_DIR, else in /tmp/pilot-UID). The daemon runs as this user or as root. The handle stays
/// valid when the daemon restarts. Any thread; waits at most 5 s, for a daemon that takes no clients. PILOT_E_NOT_RUNNING,
/// PILOT_E_CONFLICT (another user serves the socket), PILOT_E_TIMEOUT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pilot_attach(socket: *const c_char, error: *mut pilot_error) -> pilot_handle {
    guarded(error, || {
        // SAFETY: NULL or valid, by the header.
        let socket = unsafe { text(socket)? }.map_or_else(socket_path, PathBuf::from);
        Client::connect(&socket)?;
        insert(NodeObject::attached(socket))
    })
}

/// Runs one operation that has no function of its own, given as JSON: {"op":"info"}, {"op":"peers"},
/// {"op":"trust"}, {"op":"pending"}, {"op":"find","node":"worker-node"}, {"op":"profile","hostname":"new-name"}, and the
/// others of the daemon. data (NULL when data_len is 0) goes with the operation. Writes at most answer_len bytes of the JSON
/// answer, NUL-terminated, and returns the full length of the answer, so that a call with answer_len 0 tells the size to
/// provide. Any thread; blocks, at most a minute. PILOT_E_INVALID, and the failures of the operation.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pilot_call(
    node: pilot_handle,
    operation: *const c_char,
    data: *const u8,
    data_len: usize,
    answer: *mut c_char,
    answer_len: usize,
    error: *mut pilot_error,
) -> i64 {
    guarded(error, || {
        // SAFETY: NULL or valid, by the header.
        let (operation, data, answer) = unsafe {
            (needed(operation, "operation")?, bytes(data, data_len)?, crate::error::room(answer.cast(), answer_len)?)
        };
        let node: Used<NodeObject> = get(node)?;
        let request = Request::from_json(operation.as_bytes())?;
        let json = node.request(&request, data, CALL_TIMEOUT)?.data.to_string();
        Ok(give(&json, answer))
    })
}

/// Writes a text into the buffer of a caller, cut to its length and NUL-terminated, and returns its full length.
pub(crate) fn give(text: &str, buffer: &mut [u8]) -> i64 {
    if let Some(room) = buffer.len().checked_sub(1) {
        let len = text.len().min(room);
        buffer[..len].copy_from_slice(&text.as_bytes()[..len]);
        buffer[len] = 0;
    }
    text.len() as i64
}

/// Looks a node up by hostname, address, node number, key or fingerprint, and writes its address (port 0) and hostname.
/// Any thread; blocks while the rendezvous is asked, which trusted peers do not need. PILOT_E_NOT_FOUND, PILOT_E_UNREACHABLE
/// (the rendezvous does not answer), PILOT_E_INVALID.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pilot_find(
    node: pilot_handle,
    name: *const c_char,
    found: *mut pilot_peer,
    error: *mut pilot_error,
) -> c_int {
    guarded(error, || {
        // SAFETY: NULL or valid, by the header.
        let (name, found) = unsafe { (needed(name, "name")?, out(found)?) };
        let node: Used<NodeObject> = get(node)?;
        let answer = node.request(&Request::Find { node: name.into() }, &[], CALL_TIMEOUT)?.data;
        // The typed answer has ten times as many members, and the code that reads them is 20 KB.
        let text = |member: &str| answer[member].as_str().unwrap_or_default();
        if let (Some(found), Ok(addr)) = (found, text("address").parse()) {
            found.set(AddrPort { addr, port: 0 }, text("hostname"));
        }
        Ok(0)
    })
}

/// Asks a node's owner for trust, with a note of at most 256 bytes (or NULL). The approval arrives later: use
/// pilot_wait_trust, or an event. When the peer has asked already, the call approves that request.
/// Any thread; blocks until the request is on the disk. PILOT_E_NOT_FOUND, PILOT_E_UNREACHABLE, PILOT_E_INVALID.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pilot_handshake(
    node: pilot_handle,
    peer: *const c_char,
    note: *const c_char,
    error: *mut pilot_error,
) -> c_int {
    // SAFETY: NULL or valid, by the header.
    simple(node, error, || unsafe {
        let (node, note) = (needed(peer, "peer")?.into(), text(note)?.map(str::to_owned));
        Ok(Request::Handshake { node, note, ports: None, expires_s: None, quota: None })
    })
}

/// Approves a request for trust. ports: ports of this node that the peer may reach, "1000,8080" or "all"; NULL:
/// 7,1000,1001,1002. pilot_set_quota bounds what the peer may use. Any thread; blocks until the approval is on the disk.
/// PILOT_E_NOT_FOUND (the peer has not asked), PILOT_E_INVALID.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pilot_approve(
    node: pilot_handle,
    peer: *const c_char,
    ports: *const c_char,
    error: *mut pilot_error,
) -> c_int {
    // SAFETY: NULL or valid, by the header.
    simple(node, error, || unsafe {
        let (node, ports) = (needed(peer, "peer")?.into(), text(ports)?.map(str::to_owned));
        Ok(Request::Approve { node, note: None, ports, expires_s: None, quota: None })
    })
}

/// Bounds how much of this node a trusted peer may use: quota is "memory=64MB,streams=1000,disk=1GB,messages=10000/day" or some of
/// these, and the keys that are not named stay as they are; "default" takes back what was said before. Holds at once.
/// Any thread; blocks until that is on the disk. PILOT_E_NOT_FOUND (the peer is not trusted), PILOT_E_INVALID.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pilot_set_quota(
    node: pilot_handle,
    peer: *const c_char,
    quota: *const c_char,
    error: *mut pilot_error,
) -> c_int {
    // SAFETY: NULL or valid, by the header.
    simple(node, error, || unsafe {
        let (node, quota) = (needed(peer, "peer")?.into(), Some(needed(quota, "quota")?.into()));
        Ok(Request::Grant { node, ports: None, expires_s: None, quota })
    })
}

/// Declines a request for trust, with a reason (or NULL). Any thread; blocks until that is on the disk. PILOT_E_NOT_FOUND.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pilot_reject(
    node: pilot_handle,
    peer: *const c_char,
    reason: *const c_char,
    error: *mut pilot_error,
) -> c_int {
    // SAFETY: NULL or valid, by the header.
    simple(node, error, || unsafe {
        Ok(Request::Reject { node: needed(peer, "peer")?.into(), note: text(reason)?.map(str::to_owned) })
    })
}

/// Withdraws trust: every stream with the peer ends at once. Any thread; blocks until that is on the disk.
/// PILOT_E_NOT_FOUND.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pilot_untrust(node: pilot_handle, peer: *const c_char, error: *mut pilot_error) -> c_int {
    // SAFETY: NULL or valid, by the header.
    simple(node, error, || unsafe { Ok(Request::Untrust { node: needed(peer, "peer")?.into() }) })
}

/// Waits until a peer is trusted, at most timeout_ms (0: does not wait; negative: an hour). Returns 1 when the peer is
/// trusted, 0 when not. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pilot_wait_trust(
    node: pilot_handle,
    peer: *const c_char,
    timeout_ms: c_int,
    error: *mut pilot_error,
) -> c_int {
    guarded(error, || {
        // SAFETY: NULL or valid, by the header.
        let peer = unsafe { needed(peer, "peer")? };
        let node: Used<NodeObject> = get(node)?;
        let limit = timeout(timeout_ms).unwrap_or(Duration::from_secs(3600));
        let request = Request::WaitTrust { node: peer.into(), timeout_ms: Some(limit.as_millis() as u64) };
        let answer: Trusted = node.request(&request, &[], limit + CALL_TIMEOUT)?.read()?;
        Ok(c_int::from(answer.trusted))
    })
}

/// Makes a code by which `uses` other nodes (1 to 1000) become trusted peers at once: pilot_join. ports as in pilot_approve; the
/// code can be used for expires_s seconds (0: an hour, at most 30 days). Writes at most code_len bytes of it, NUL-terminated,
/// and returns its full length; 640 bytes hold any. Any holder of the code may join, so keep it secret. Any thread; blocks until
/// the invite is on the disk. PILOT_E_INVALID, PILOT_E_FULL (64 are open), PILOT_E_UNREACHABLE (no way leads to this node).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pilot_invite(
    node: pilot_handle,
    ports: *const c_char,
    uses: u16,
    expires_s: u64,
    code: *mut c_char,
    code_len: usize,
    error: *mut pilot_error,
) -> i64 {
    guarded(error, || {
        // SAFETY: NULL or valid, by the header.
        let (ports, code) = unsafe { (text(ports)?.map(str::to_owned), crate::error::room(code.cast(), code_len)?) };
        let expires_s = (expires_s > 0).then_some(expires_s);
        let request = Request::Invite { ports, expires_s, uses: Some(uses), short: None, direct: None };
        let node: Used<NodeObject> = get(node)?;
        let invited: Invited = node.request(&request, &[], CALL_TIMEOUT)?.read()?;
        Ok(give(&invited.code, code))
    })
}

/// Makes a trusted peer of the node that has made a code. Returns 0 once both trust each other; after timeout_ms (negative: an
/// hour) PILOT_E_TIMEOUT, and the request stands. A node without a rendezvous of its own, and one with another than the
/// code's, joins over the addresses in the code. Any thread; blocks. PILOT_E_INVALID (typed wrongly: the text says where),
/// PILOT_E_NOT_TRUSTED (used up, expired, withdrawn or dead), PILOT_E_UNREACHABLE.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pilot_join(
    node: pilot_handle,
    code: *const c_char,
    timeout_ms: c_int,
    error: *mut pilot_error,
) -> c_int {
    guarded(error, || {
        // SAFETY: NULL or valid, by the header.
        let code = unsafe { needed(code, "code")? };
        let node: Used<NodeObject> = get(node)?;
        let limit = timeout(timeout_ms).unwrap_or(Duration::from_secs(3600));
        let timeout_ms = Some(limit.as_millis() as u64);
        let request = Request::Join { code: code.into(), ports: None, timeout_ms };
        node.request(&request, &[], limit + CALL_TIMEOUT)?;
        Ok(0)
    })
}

/// Puts a message into a peer's inbox. kind: PILOT_TEXT, PILOT_BINARY or PILOT_JSON; at most 16777216 bytes.
/// Returns 0 when the peer has the message on its disk. When the peer does not answer within timeout_ms (negative: 10 s), the
/// message waits in the outbox and is delivered later: PILOT_E_UNREACHABLE.
/// Any thread; blocks. PILOT_E_NOT_TRUSTED, PILOT_E_NOT_FOUND, PILOT_E_INVALID, PILOT_E_FULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pilot_send_message(
    node: pilot_handle,
    peer: *const c_char,
    kind: c_int,
    data: *const u8,
    len: usize,
    timeout_ms: c_int,
    error: *mut pilot_error,
) -> c_int {
    guarded(error, || {
        // SAFETY: NULL or valid, by the header.
        let (peer, data) = unsafe { (needed(peer, "peer")?, bytes(data, len)?) };
        let node: Used<NodeObject> = get(node)?;
        let kind = self::kind(kind)?;
        let limit = timeout(timeout_ms).unwrap_or(Duration::from_secs(10)).min(Duration::from_secs(600));
        let timeout_ms = Some(limit.as_millis() as u64);
        let request = Request::SendMessage { node: peer.into(), kind: Some(kind), queue: None, timeout_ms };
        node.request(&request, data, limit + CALL_TIMEOUT)?;
        Ok(0)
    })
}

/// Reads the oldest message of the inbox with an id greater than after_id, and leaves it there. Returns 1, or 0 when there is
/// none. PILOT_E_FULL: the body is longer than buffer_len; *message has its length, and the message stays.
/// Any thread; blocks for the disk.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pilot_read_message(
    node: pilot_handle,
    after_id: u64,
    message: *mut pilot_message,
    buffer: *mut u8,
    buffer_len: usize,
    error: *mut pilot_error,
) -> c_int {
    guarded(error, || {
        // SAFETY: NULL or valid, by the header.
        let (message, buffer) = unsafe { (message_of(message)?, crate::error::room(buffer, buffer_len)?) };
        let node: Used<NodeObject> = get(node)?;
        let next = Request::InboxNext { after: Some(after_id), only: None };
        let reply = node.client()?.request(&next, &[], Some(CALL_TIMEOUT));
        let reply = match reply {
            Err(failure) if failure.code == Code::NotFound => return Ok(0),
            reply => reply?,
        };
        fill(message, &reply.read::<Message>()?, &reply.blob, buffer)
    })
}

/// The kind of a message's bytes that a constant means.
pub(crate) fn kind(number: c_int) -> Result<MessageKind, Fault> {
    match number {
        PILOT_TEXT => Ok(MessageKind::Text),
        PILOT_BINARY => Ok(MessageKind::Binary),
        PILOT_JSON => Ok(MessageKind::Json),
        _ => Err(Fault::invalid("a message is PILOT_TEXT, PILOT_BINARY or PILOT_JSON")),
    }
}

/// The caller's place for a message.
///
/// # Safety
/// The pointer is NULL or valid, and no other reference to its value is in use.
pub(crate) unsafe fn message_of<'a>(message: *mut pilot_message) -> Result<&'a mut pilot_message, Fault> {
    // SAFETY: as this function asks; its size, which comes first, is looked at before anything else.
    let message = unsafe { message.as_mut() }.ok_or_else(|| Fault::invalid("message is NULL"))?;
    if message.struct_size < size_of::<pilot_message>() {
        return Err(Fault::invalid("struct_size is not sizeof(pilot_message)"));
    }
    Ok(message)
}

/// Writes a message and its body to the caller's places; 1, unless the body has no room.
pub(crate) fn fill(
    place: &mut pilot_message,
    message: &Message,
    body: &[u8],
    buffer: &mut [u8],
) -> Result<c_int, Fault> {
    (place.id, place.received_at, place.len) = (message.id, message.received_at, body.len());
    place.kind = match message.kind {
        MessageKind::Json => PILOT_JSON,
        MessageKind::Binary => PILOT_BINARY,
        MessageKind::Text => PILOT_TEXT,
    };
    place.from.set(AddrPort { addr: message.from.parse().unwrap_or_default(), port: 0 }, &message.hostname);
    let Some(room) = buffer.get_mut(..body.len()) else {
        return Err(Fault::new(PILOT_E_FULL, format!("the message has {} bytes", body.len())));
    };
    room.copy_from_slice(body);
    Ok(1)
}

/// Takes a message out of the inbox. Returns 1, or 0 when there is no such message. Any thread; blocks for the disk.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pilot_take_message(node: pilot_handle, id: u64, error: *mut pilot_error) -> c_int {
    guarded(error, || {
        let node: Used<NodeObject> = get(node)?;
        let taken: Taken = node.request(&Request::InboxTake { seqs: Some(vec![id]) }, &[], CALL_TIMEOUT)?.read()?;
        Ok(c_int::from(taken.cleared == 1))
    })
}

/// Sends a file to a peer and waits until the peer has verified and synced the file. A transfer that broke goes on where it
/// ended when the same file is sent again. timeout_ms: longest silence of the peer (negative: a minute). Returns the number
/// of bytes that this call sent.
/// Any thread; blocks. PILOT_E_NOT_FOUND (no such file or node), PILOT_E_NOT_TRUSTED, PILOT_E_RESET, PILOT_E_TIMEOUT,
/// PILOT_E_FULL (the peer's disk).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pilot_send_file(
    node: pilot_handle,
    peer: *const c_char,
    path: *const c_char,
    timeout_ms: c_int,
    error: *mut pilot_error,
) -> i64 {
    guarded(error, || {
        // SAFETY: NULL or valid, by the header.
        let (peer, path) = unsafe { (needed(peer, "peer")?, needed(path, "path")?) };
        let node: Used<NodeObject> = get(node)?;
        let limit = timeout(timeout_ms).unwrap_or(CALL_TIMEOUT).max(Duration::from_millis(1));
        let stream = node.client()?.open(peer, ports::DATA_EXCHANGE, Some(limit))?;
        stream.socket.set_read_timeout(Some(limit))?;
        stream.socket.set_write_timeout(Some(limit))?;
        let sent = pilot_node::send_file(&mut &stream.socket, Path::new(path), |_, _| {})?;
        Ok((sent.len - sent.resumed) as i64)
    })
}

/// Publishes an event to the subscribers of this node's event stream (port 1002) and returns their number. topic: 1 to 4096
/// bytes; data: 1 to 1048576. To publish at another node, open a stream to its port 1002. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pilot_publish(
    node: pilot_handle,
    topic: *const c_char,
    data: *const u8,
    len: usize,
    error: *mut pilot_error,
) -> c_int {
    guarded(error, || {
        // SAFETY: NULL or valid, by the header.
        let (topic, data) = unsafe { (needed(topic, "topic")?, bytes(data, len)?) };
        let node: Used<NodeObject> = get(node)?;
        let request = Request::Publish { topic: topic.into() };
        let published: Published = node.request(&request, data, CALL_TIMEOUT)?.read()?;
        Ok(c_int::try_from(published.subscribers).unwrap_or(c_int::MAX))
    })
}
