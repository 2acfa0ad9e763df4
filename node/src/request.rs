//! Owns the verbs of a node: every request that a program may make of it, and the JSON that carries one.
//!
//! A request travels as one JSON object with a member `op` that names the verb, such as `{"op":"connect","node":"worker-node",
//! "port":1000}`, with any bytes beside it (`docs/interfaces.md`, "IPC"). This file is the only place that spells the
//! names. The CLI, the C library, the translation of official commands and the tests build [`Request`] values; the Go
//! package writes the same JSON, which a test compares with this file.
//!
//! A new verb is a new variant: the compiler then lists every place that must handle it.

use crate::failure::{Code, Failure};
use crate::mail::message::Kind;
use crate::verb_json::{self, Members};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// One request to a node.
///
/// `node` names another node in any of the ways that people name nodes: a hostname, an address such as
/// `0:0000.0001.F00D`, a node number, a public key or its fingerprint. A *client* is one connection to the node's socket,
/// or a [`Client`](crate::Client) of the same process.
///
/// [`Request::to_json`] and [`Request::from_json`] are the form of the wire; serde's own form of this type is another.
///
/// ```
/// use pilot_node::Request;
///
/// let request = Request::from_json(br#"{"op": "connect", "node": "worker-node", "port": 1000}"#)?;
/// assert_eq!(request, Request::Connect { node: "worker-node".into(), port: 1000 });
/// assert!(Request::from_json(br#"{"op": "connect", "node": "worker-node", "prot": 1000}"#).is_err());
/// # Ok::<(), pilot_node::Failure>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(tag = "op"))]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// Tells the node's own state.
    Info,
    /// Tells the version of the program.
    Version,
    /// Lists the trusted peers with their tunnels and paths.
    Peers,
    /// Lists the streams.
    Connections,
    /// Lists the requests for trust that wait for a decision of this node's owner.
    Pending,
    /// Lists the trusted peers with the terms of their trust, and the requests that this node has sent.
    Trust,
    /// Looks a node up: among the trusted peers, then at the rendezvous.
    Find {
        /// The node.
        node: String,
    },
    /// Lists the public nodes that carry a tag.
    Search {
        /// The tag; 1 to 63 characters.
        tag: String,
    },
    /// Asks for trust. When the other node has asked already, this approves its request.
    Handshake {
        /// The node; `NAME#FINGERPRINT` also checks that the node of that name has that key.
        node: String,
        /// Text for the other node's owner; at most 256 bytes.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        note: Option<String>,
        /// Of a node that is not trusted yet: ports of this node that the other may reach; absent: as configured. Of a
        /// trusted peer: ports of the peer for which its owner is asked. Written as `messages,80,8000-8010` or `all`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        ports: Option<String>,
        /// When the trust ends; absent: never. From 1. Unit: seconds from now.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        expires_s: Option<u64>,
    },
    /// Approves a request for trust, or a trusted peer's request for more ports; answered once that is on disk.
    Approve {
        /// The node that asked.
        node: String,
        /// Text for the other node's owner; at most 256 bytes.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        note: Option<String>,
        /// Ports of this node that the other may reach, as `messages,80,8000-8010` or `all`; absent: as configured, or what a
        /// trusted peer asks for.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        ports: Option<String>,
        /// When the trust ends, or what a trusted peer is granted now; absent: never. From 1. Unit: seconds from now.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        expires_s: Option<u64>,
    },
    /// Declines a request for trust or for more ports; answered once that is on disk.
    Reject {
        /// The node that asked.
        node: String,
        /// The reason, for the other node's owner; at most 256 bytes.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        note: Option<String>,
    },
    /// Lets a trusted peer reach more ports of this node; answered once that is on disk.
    Grant {
        /// The peer.
        node: String,
        /// The ports, as `messages,80,8000-8010` or `all`. Services: `echo`, `stdio`, `messages`, `events`.
        ports: String,
        /// When the grant of these ports ends; absent: with the trust. From 1. Unit: seconds from now.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        expires_s: Option<u64>,
    },
    /// Lets a trusted peer reach fewer ports of this node: its streams on the others are reset at once. Answered once that is
    /// on disk.
    Revoke {
        /// The peer.
        node: String,
        /// The ports, as `messages,80,8000-8010` or `all`.
        ports: String,
    },
    /// Withdraws trust: every stream with the peer ends; answered once that is on disk.
    Untrust {
        /// The peer.
        node: String,
    },
    /// Waits until a node is trusted, and tells whether it is.
    WaitTrust {
        /// The node.
        node: String,
        /// Longest wait, at most 3,600,000; absent or 0: none. Unit: milliseconds.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        timeout_ms: Option<u64>,
    },
    /// Changes what this node says of itself; absent members stay. Answered once the rendezvous agrees.
    Profile {
        /// The hostname, 1 to 63 characters of a–z, 0–9 and `-`; empty: none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        hostname: Option<String>,
        /// Whether other nodes find this one without knowing its name.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        public: Option<bool>,
        /// The tags, at most three, shaped like hostnames.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        tags: Option<Vec<String>>,
    },
    /// Puts the bytes beside the request into a peer's inbox; answered once they are on the peer's disk.
    SendMessage {
        /// The peer.
        node: String,
        /// The kind of the bytes; absent: text.
        #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
        kind: Option<MessageKind>,
        /// Whether the message stays in the outbox when the peer does not answer in time; absent: it does.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        queue: Option<bool>,
        /// Longest wait, at most 600,000; absent: 10,000. Unit: milliseconds.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        timeout_ms: Option<u64>,
    },
    /// Lists the newest messages of the inbox.
    Inbox {
        /// Most messages, up to 10,000; absent: 50.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        limit: Option<u64>,
        /// Only messages with a smaller number.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        before: Option<u64>,
    },
    /// Reads one message; its bytes come beside the answer.
    InboxRead {
        /// The message's number.
        seq: u64,
    },
    /// Reads the oldest message with a greater number; its bytes come beside the answer.
    InboxNext {
        /// The number; absent: 0.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        after: Option<u64>,
    },
    /// Takes messages out of the inbox.
    InboxTake {
        /// Their numbers; absent: all.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        seqs: Option<Vec<u64>>,
    },
    /// Lists the files that have arrived.
    Received,
    /// Gives the bytes beside the request, 1 to 1,048,576, to the subscribers of this node's event stream.
    Publish {
        /// The topic; 1 to 4096 bytes.
        topic: String,
    },
    /// Sends the bytes beside the request as one datagram, which may be lost.
    SendDatagram {
        /// The peer.
        node: String,
        /// The peer's port.
        port: u16,
        /// The port that the datagram comes from; absent: the same as `port`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        source: Option<u16>,
    },
    /// Aborts a stream.
    Disconnect {
        /// The stream's number, as [`Request::Connections`] tells it.
        stream: u64,
    },
    /// Lets programs of this machine reach a peer's port: each connection to a local listener becomes a stream.
    Forward {
        /// The peer.
        node: String,
        /// The peer's port.
        port: u16,
        /// The listener, as `[HOST:]PORT` or `unix:PATH`; the loopback address without a host, any free port with port 0.
        listen: String,
        /// Whether it ends with the client that asks, or else with the node; absent: it is kept on disk.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        temporary: Option<bool>,
    },
    /// Lists the forwards.
    Forwards,
    /// Removes a forward; connections that stand go on.
    Unforward {
        /// Its listener.
        listen: String,
    },
    /// Lets peers reach a program of this machine: each stream to a port of this node becomes a connection.
    Expose {
        /// The port.
        port: u16,
        /// The program's own listener, as `PORT` on this machine, `HOST:PORT` or `unix:PATH`.
        target: String,
        /// Whether the program speaks HTTP/1, and is told the peer in headers; absent: it is not.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        http: Option<bool>,
        /// Whether the addresses in an A2A agent's card become the ones that the caller used; with `http`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        a2a: Option<bool>,
        /// Whether the program is told the peer by a header of the PROXY protocol, version 2.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        proxy_protocol: Option<bool>,
        /// The only peers that may come, besides what trust says; absent: all that trust lets in.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        nodes: Option<Vec<String>>,
        /// Whether it ends with the client that asks, or else with the node; absent: it is kept on disk.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        temporary: Option<bool>,
    },
    /// Lists the exposed ports.
    Exposes,
    /// Ends an expose; connections that stand go on.
    Unexpose {
        /// Its port.
        port: u16,
    },
    /// Lets programs of this machine say which peer they want: a listener speaks SOCKS 5 and the forms of HTTP for proxies.
    Proxy {
        /// The listener, as [`Request::Forward`] has it; other than on loopback addresses only with `auth_file`.
        listen: String,
        /// Whether hosts that are no nodes are reached too; absent: they are refused.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        direct: Option<bool>,
        /// A file of mode 0600 with lines `user:password`, one of which clients must know; absent: none is asked for.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        auth_file: Option<String>,
        /// Whether it ends with the client that asks, or else with the node; absent: it is kept on disk.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        temporary: Option<bool>,
    },
    /// Lists the proxies.
    Proxies,
    /// Removes a proxy; connections that stand go on.
    Unproxy {
        /// Its listener.
        listen: String,
    },
    /// Tells which peer is behind a connection that a program behind an exposed port has accepted.
    Whois {
        /// The address of the connection's client as that program sees it, as `ADDRESS:PORT`.
        local: String,
    },
    /// Posts what happens at this node to a URL, signed; only a daemon does so. Answered once that is on disk.
    SetWebhook {
        /// The URL: https, or http to this machine; empty: none.
        url: String,
        /// Whether plain http may leave this machine; absent: it may not.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        insecure: Option<bool>,
        /// The key of the signatures, 16 to 256 bytes; absent: one is made and told with the answer.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        secret: Option<String>,
    },
    /// Ends the node in order.
    Stop,
    /// Opens a stream to a peer and gives its descriptor. The bytes beside the request, at most
    /// [`EARLY_LEN_MAX`](crate::EARLY_LEN_MAX), are the stream's first. Clients only.
    Connect {
        /// The peer.
        node: String,
        /// The peer's port.
        port: u16,
    },
    /// Gives up a connect that the same client has under way. Clients only.
    Cancel {
        /// The number of the connect's request; absent: every connect of the client.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        request: Option<u32>,
    },
    /// Binds a port to the client without accepting yet. Clients only.
    Listen {
        /// The port.
        port: u16,
    },
    /// Gives a port of the client up and aborts the streams that it has not accepted. Clients only.
    Unlisten {
        /// The port.
        port: u16,
    },
    /// Accepts the next stream on a port, which is bound to the client if it is not yet. Clients only.
    Accept {
        /// The port.
        port: u16,
        /// Whether the stream stays with the node, under its number, until the client takes or claims it; absent: its
        /// descriptor comes with the answer.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        hold: Option<bool>,
    },
    /// Gives the descriptor of a stream that the client has accepted with `hold`. Clients only.
    Take {
        /// The stream's number, from the answer to [`Request::Accept`].
        stream: u64,
    },
    /// Tells how a stream that was given as a descriptor has ended, or that it is open. Clients only.
    StreamEnd {
        /// The descriptor's inode (`st_ino` of `fstat`).
        inode: u64,
    },
    /// From now on the end of a descriptor that the client gets means a reset of its stream, unless [`Request::Finish`] came
    /// before: so the death of a program is told from its orderly end. Clients only.
    EndExplicitly {
        /// Only for the descriptor with this inode, which any client may have got; absent: for every later one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        inode: Option<u64>,
    },
    /// Tells that the end of a descriptor, which follows, is meant; or resets its stream at once. Any client may ask, and the
    /// answer is that of [`Request::StreamEnd`]. Clients only.
    Finish {
        /// The descriptor's inode (`st_ino` of `fstat`).
        inode: u64,
        /// Whether the stream is reset at once; absent: it is not.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reset: Option<bool>,
    },
    /// Opens a port for datagrams and gives a descriptor that carries them. Clients only.
    Datagrams {
        /// The port; 0: any free one from 49152 up.
        port: u16,
    },
    /// Sends the node's events to the client from now on. Clients only.
    Events {
        /// Also what is published on this node's event stream under this topic, or below a prefix such as `sensor.*`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        topics: Option<String>,
    },
}

/// The kind of a message's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum MessageKind {
    /// UTF-8 text.
    Text,
    /// Any bytes.
    Binary,
    /// One JSON value.
    Json,
}

impl From<MessageKind> for Kind {
    fn from(kind: MessageKind) -> Self {
        match kind {
            MessageKind::Text => Self::Text,
            MessageKind::Binary => Self::Binary,
            MessageKind::Json => Self::Json,
        }
    }
}

impl From<Kind> for MessageKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Text => Self::Text,
            Kind::Binary => Self::Binary,
            Kind::Json => Self::Json,
        }
    }
}

impl std::str::FromStr for MessageKind {
    type Err = Failure;

    /// Reads `text`, `binary` or `json`.
    fn from_str(text: &str) -> Result<Self, Failure> {
        match text {
            "text" => Ok(Self::Text),
            "binary" => Ok(Self::Binary),
            "json" => Ok(Self::Json),
            other => Err(Failure::new(Code::InvalidArgument, format!("unknown type {other:?}; text, json or binary"))),
        }
    }
}

impl Request {
    /// Reads a request from JSON, which may come from anywhere.
    ///
    /// # Errors
    /// `InvalidArgument`, with a text that names the member at fault: the text is no JSON object, the verb is unknown, a
    /// member is missing, unknown, given twice, or has the wrong type.
    pub fn from_json(json: &[u8]) -> Result<Self, Failure> {
        let invalid = |text: String| Failure::new(Code::InvalidArgument, text);
        let members = serde_json::from_slice::<Members>(json);
        let members = members.map_err(|e| invalid(format!("a request is a JSON object: {e}")))?;
        members.clone().read().map_err(|e| invalid(members.explain::<Self>(&e)))
    }

    /// Reads the request of one verb from its members, which may come from anywhere.
    ///
    /// # Errors
    /// As [`Request::from_json`]; `InvalidArgument` also for a member that would name another verb.
    pub fn from_members(verb: &str, mut members: Map<String, Value>) -> Result<Self, Failure> {
        if members.insert("op".into(), verb.into()).is_some() {
            return Err(Failure::new(Code::InvalidArgument, format!("{verb}: unknown field `op`")));
        }
        Self::from_json(Value::Object(members).to_string().as_bytes())
    }

    /// Whether only clients may make the request, because its outcome stays with the client: a descriptor, a port, events.
    pub const fn is_of_client(&self) -> bool {
        match self {
            Self::Connect { .. }
            | Self::Cancel { .. }
            | Self::Listen { .. }
            | Self::Unlisten { .. }
            | Self::Accept { .. }
            | Self::Take { .. }
            | Self::StreamEnd { .. }
            | Self::EndExplicitly { .. }
            | Self::Finish { .. }
            | Self::Datagrams { .. }
            | Self::Events { .. } => true,
            Self::Info
            | Self::Version
            | Self::Peers
            | Self::Connections
            | Self::Pending
            | Self::Trust
            | Self::Find { .. }
            | Self::Search { .. }
            | Self::Handshake { .. }
            | Self::Approve { .. }
            | Self::Reject { .. }
            | Self::Grant { .. }
            | Self::Revoke { .. }
            | Self::Untrust { .. }
            | Self::WaitTrust { .. }
            | Self::Profile { .. }
            | Self::SendMessage { .. }
            | Self::Inbox { .. }
            | Self::InboxRead { .. }
            | Self::InboxNext { .. }
            | Self::InboxTake { .. }
            | Self::Received
            | Self::Publish { .. }
            | Self::SendDatagram { .. }
            | Self::Disconnect { .. }
            | Self::Forward { .. }
            | Self::Forwards
            | Self::Unforward { .. }
            | Self::Expose { .. }
            | Self::Exposes
            | Self::Unexpose { .. }
            | Self::Proxy { .. }
            | Self::Proxies
            | Self::Unproxy { .. }
            | Self::Whois { .. }
            | Self::SetWebhook { .. }
            | Self::Stop => false,
        }
    }

    /// The request as JSON, on one line.
    pub fn to_json(&self) -> String {
        verb_json::write(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The JSON of every verb, as the CLI, the C library, the Go package and the translation of official commands send it,
    /// and the request that it means.
    fn table() -> Vec<(&'static str, Request)> {
        let node = || "worker-node".to_owned();
        vec![
            (r#"{"op":"info"}"#, Request::Info),
            (r#"{"op":"version"}"#, Request::Version),
            (r#"{"op":"peers"}"#, Request::Peers),
            (r#"{"op":"connections"}"#, Request::Connections),
            (r#"{"op":"pending"}"#, Request::Pending),
            (r#"{"op":"trust"}"#, Request::Trust),
            (r#"{"op":"received"}"#, Request::Received),
            (r#"{"op":"stop"}"#, Request::Stop),
            (r#"{"op":"find","node":"worker-node"}"#, Request::Find { node: node() }),
            (r#"{"op":"search","tag":"gpu"}"#, Request::Search { tag: "gpu".into() }),
            (
                r#"{"op":"handshake","node":"worker-node"}"#,
                Request::Handshake { node: node(), note: None, ports: None, expires_s: None },
            ),
            (
                r#"{"op":"handshake","node":"worker-node","note":"demo","ports":"all","expires_s":60}"#,
                Request::Handshake {
                    node: node(),
                    note: Some("demo".into()),
                    ports: Some("all".into()),
                    expires_s: Some(60),
                },
            ),
            (
                r#"{"op":"approve","node":"worker-node","ports":"1000,1001","expires_s":60}"#,
                Request::Approve { node: node(), note: None, ports: Some("1000,1001".into()), expires_s: Some(60) },
            ),
            (r#"{"op":"reject","node":"worker-node"}"#, Request::Reject { node: node(), note: None }),
            (
                r#"{"op":"reject","node":"worker-node","note":"no"}"#,
                Request::Reject { node: node(), note: Some("no".into()) },
            ),
            (
                r#"{"op":"grant","node":"worker-node","ports":"messages,80,8000-8010"}"#,
                Request::Grant { node: node(), ports: "messages,80,8000-8010".into(), expires_s: None },
            ),
            (
                r#"{"op":"grant","node":"worker-node","ports":"all","expires_s":86400}"#,
                Request::Grant { node: node(), ports: "all".into(), expires_s: Some(86_400) },
            ),
            (
                r#"{"op":"revoke","node":"worker-node","ports":"80"}"#,
                Request::Revoke { node: node(), ports: "80".into() },
            ),
            (r#"{"op":"untrust","node":"worker-node"}"#, Request::Untrust { node: node() }),
            (
                r#"{"op":"wait_trust","node":"worker-node","timeout_ms":200}"#,
                Request::WaitTrust { node: node(), timeout_ms: Some(200) },
            ),
            (
                r#"{"op":"profile","hostname":""}"#,
                Request::Profile { hostname: Some(String::new()), public: None, tags: None },
            ),
            (
                r#"{"op":"profile","hostname":"a","public":false,"tags":["x","y"]}"#,
                Request::Profile {
                    hostname: Some("a".into()),
                    public: Some(false),
                    tags: Some(vec!["x".into(), "y".into()]),
                },
            ),
            (
                r#"{"op":"send_message","node":"worker-node","type":"json","queue":false,"timeout_ms":10000}"#,
                Request::SendMessage {
                    node: node(),
                    kind: Some(MessageKind::Json),
                    queue: Some(false),
                    timeout_ms: Some(10_000),
                },
            ),
            (r#"{"op":"inbox"}"#, Request::Inbox { limit: None, before: None }),
            (r#"{"op":"inbox","limit":20,"before":7}"#, Request::Inbox { limit: Some(20), before: Some(7) }),
            (r#"{"op":"inbox_read","seq":7}"#, Request::InboxRead { seq: 7 }),
            (r#"{"op":"inbox_next","after":7}"#, Request::InboxNext { after: Some(7) }),
            (r#"{"op":"inbox_take"}"#, Request::InboxTake { seqs: None }),
            (r#"{"op":"inbox_take","seqs":[1,2]}"#, Request::InboxTake { seqs: Some(vec![1, 2]) }),
            (r#"{"op":"inbox_take","seqs":[]}"#, Request::InboxTake { seqs: Some(Vec::new()) }),
            (r#"{"op":"publish","topic":"a.b"}"#, Request::Publish { topic: "a.b".into() }),
            (
                r#"{"op":"send_datagram","node":"worker-node","port":5353}"#,
                Request::SendDatagram { node: node(), port: 5353, source: None },
            ),
            (
                r#"{"op":"send_datagram","node":"worker-node","port":5353,"source":65535}"#,
                Request::SendDatagram { node: node(), port: 5353, source: Some(65_535) },
            ),
            (r#"{"op":"disconnect","stream":18446744073709551615}"#, Request::Disconnect { stream: u64::MAX }),
            (
                r#"{"op":"set_webhook","url":""}"#,
                Request::SetWebhook { url: String::new(), insecure: None, secret: None },
            ),
            (
                r#"{"op":"set_webhook","url":"http://a/","insecure":true,"secret":"0123456789abcdef"}"#,
                Request::SetWebhook {
                    url: "http://a/".into(),
                    insecure: Some(true),
                    secret: Some("0123456789abcdef".into()),
                },
            ),
            (r#"{"op":"connect","node":"worker-node","port":1000}"#, Request::Connect { node: node(), port: 1000 }),
            (
                r#"{"op":"forward","node":"worker-node","port":22,"listen":"2222"}"#,
                Request::Forward { node: node(), port: 22, listen: "2222".into(), temporary: None },
            ),
            (
                r#"{"op":"forward","node":"worker-node","port":22,"listen":"unix:/run/x","temporary":true}"#,
                Request::Forward { node: node(), port: 22, listen: "unix:/run/x".into(), temporary: Some(true) },
            ),
            (r#"{"op":"forwards"}"#, Request::Forwards),
            (r#"{"op":"unforward","listen":"2222"}"#, Request::Unforward { listen: "2222".into() }),
            (
                r#"{"op":"expose","port":80,"target":"8080"}"#,
                Request::Expose {
                    port: 80,
                    target: "8080".into(),
                    http: None,
                    a2a: None,
                    proxy_protocol: None,
                    nodes: None,
                    temporary: None,
                },
            ),
            (
                r#"{"op":"expose","port":80,"target":"8080","http":true,"a2a":true,"nodes":["worker-node"],"temporary":true}"#,
                Request::Expose {
                    port: 80,
                    target: "8080".into(),
                    http: Some(true),
                    a2a: Some(true),
                    proxy_protocol: None,
                    nodes: Some(vec![node()]),
                    temporary: Some(true),
                },
            ),
            (r#"{"op":"exposes"}"#, Request::Exposes),
            (r#"{"op":"unexpose","port":80}"#, Request::Unexpose { port: 80 }),
            (
                r#"{"op":"proxy","listen":"1080"}"#,
                Request::Proxy { listen: "1080".into(), direct: None, auth_file: None, temporary: None },
            ),
            (
                r#"{"op":"proxy","listen":"0.0.0.0:1080","direct":true,"auth_file":"/etc/users","temporary":true}"#,
                Request::Proxy {
                    listen: "0.0.0.0:1080".into(),
                    direct: Some(true),
                    auth_file: Some("/etc/users".into()),
                    temporary: Some(true),
                },
            ),
            (r#"{"op":"proxies"}"#, Request::Proxies),
            (r#"{"op":"unproxy","listen":"1080"}"#, Request::Unproxy { listen: "1080".into() }),
            (r#"{"op":"whois","local":"127.0.0.1:40000"}"#, Request::Whois { local: "127.0.0.1:40000".into() }),
            (r#"{"op":"cancel"}"#, Request::Cancel { request: None }),
            (r#"{"op":"cancel","request":3}"#, Request::Cancel { request: Some(3) }),
            (r#"{"op":"listen","port":0}"#, Request::Listen { port: 0 }),
            (r#"{"op":"unlisten","port":1000}"#, Request::Unlisten { port: 1000 }),
            (r#"{"op":"accept","port":1000}"#, Request::Accept { port: 1000, hold: None }),
            (r#"{"op":"accept","port":1000,"hold":true}"#, Request::Accept { port: 1000, hold: Some(true) }),
            (r#"{"op":"take","stream":9}"#, Request::Take { stream: 9 }),
            (r#"{"op":"stream_end","inode":123456}"#, Request::StreamEnd { inode: 123_456 }),
            (r#"{"op":"end_explicitly"}"#, Request::EndExplicitly { inode: None }),
            (r#"{"op":"end_explicitly","inode":123456}"#, Request::EndExplicitly { inode: Some(123_456) }),
            (r#"{"op":"finish","inode":123456}"#, Request::Finish { inode: 123_456, reset: None }),
            (r#"{"op":"finish","inode":123456,"reset":true}"#, Request::Finish { inode: 123_456, reset: Some(true) }),
            (r#"{"op":"datagrams","port":0}"#, Request::Datagrams { port: 0 }),
            (r#"{"op":"events"}"#, Request::Events { topics: None }),
            (r#"{"op":"events","topics":"sensor.*"}"#, Request::Events { topics: Some("sensor.*".into()) }),
        ]
    }

    fn refused(json: &str) -> String {
        let failure = Request::from_json(json.as_bytes()).expect_err(json);
        assert_eq!(failure.code, Code::InvalidArgument, "{json}");
        failure.message
    }

    #[test]
    fn every_request_is_read_and_written_as_the_same_json() {
        for (json, request) in table() {
            assert_eq!(Request::from_json(json.as_bytes()).as_ref(), Ok(&request), "{json}");
            assert_eq!(request.to_json(), json);
        }
    }

    /// The Go package writes requests itself: its tests compare what it writes with this table of those that it may make.
    #[test]
    fn the_go_package_knows_every_request() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../ffi/go/testdata/requests.json");
        let lines: Vec<&str> =
            table().iter().filter(|(_, request)| !request.is_of_client()).map(|(json, _)| *json).collect();
        let made = format!("[\n{}\n]\n", lines.join(",\n"));
        if std::env::var_os("PILOT_BLESS").is_some() {
            std::fs::write(path, &made).expect("a writable file");
        }
        let known = std::fs::read_to_string(path).expect("a file");
        assert!(known == made, "requests.json is stale: PILOT_BLESS=1 cargo test -p pilot-node --lib request");
    }

    /// The members of every verb, for `pilotctl mcp`, which describes its tools by them: JSON schemas as small as they can be.
    fn schemas() -> Map<String, Value> {
        let settings = schemars::generate::SchemaSettings::draft2020_12().with(|s| s.inline_subschemas = true);
        let mut schema = settings.into_generator().into_root_schema_for::<Request>().to_value();
        let verbs = schema["oneOf"].as_array_mut().expect("a list of verbs");
        verbs
            .iter_mut()
            .map(|verb| {
                let Some(tag) = verb["properties"].as_object_mut().and_then(|p| p.remove("op")) else {
                    panic!("{verb}")
                };
                let name = tag["const"].as_str().expect("a name").to_owned();
                let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
                let required: Vec<Value> = list(&verb["required"]).into_iter().filter(|key| key != "op").collect();
                for member in verb["properties"].as_object_mut().expect("members").values_mut() {
                    simplify(member);
                }
                let text = one_line(&verb["description"]);
                (name, serde_json::json!({"description": text, "properties": verb["properties"], "required": required}))
            })
            .collect()
    }

    /// Takes away what the description of one member need not say: formats that only Rust knows, and null beside a type.
    fn simplify(member: &mut Value) {
        if let Some(kinds) = member["anyOf"].as_array() {
            let (kind, text) = (kinds[0].clone(), member["description"].clone());
            *member = kind;
            member["description"] = text;
        }
        // The kinds of a message, each with its own description.
        if let Some(kinds) = member["oneOf"].as_array() {
            let names: Vec<Value> = kinds.iter().map(|kind| kind["const"].clone()).collect();
            *member = serde_json::json!({"type": "string", "enum": names, "description": member["description"]});
        }
        let text = one_line(&member["description"]);
        let object = member.as_object_mut().expect("a schema");
        object.insert("description".into(), text.into());
        object.retain(|key, _| !["format", "default"].contains(&key.as_str()));
        if let Some(kind) = object.get_mut("type").filter(|kind| kind.is_array()) {
            *kind = kind[0].take();
        }
        if let Some(items) = object.get_mut("items").and_then(Value::as_object_mut) {
            items.remove("format");
        }
    }

    fn one_line(text: &Value) -> String {
        text.as_str().expect("a description").split_whitespace().collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn the_schemas_of_all_requests_are_written_down() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../pilotctl/src/mcp/schemas.json");
        let schemas = schemas();
        for (json, request) in table() {
            let members = serde_json::from_str::<Value>(json).expect("JSON");
            let name = members["op"].as_str().expect("a verb");
            let schema = &schemas[name];
            let known = |key: &str| key == "op" || schema["properties"].get(key).is_some();
            assert!(members.as_object().is_some_and(|m| m.keys().all(|key| known(key))), "{request:?}: {schema}");
        }
        let lines: Vec<String> = schemas.iter().map(|(name, schema)| format!("\"{name}\":{schema}")).collect();
        let made = format!("{{\n{}\n}}\n", lines.join(",\n"));
        if std::env::var_os("PILOT_BLESS").is_some() {
            std::fs::write(path, &made).expect("a writable file");
        }
        let known = std::fs::read_to_string(path).expect("a file");
        assert!(known == made, "schemas.json is stale: PILOT_BLESS=1 cargo test -p pilot-node --lib request");
    }

    #[test]
    fn the_request_of_a_verb_is_read_from_its_members() {
        for (json, request) in table() {
            let Ok(Value::Object(mut members)) = serde_json::from_str(json) else { panic!("{json}") };
            let again = Request::from_members(request.to_json().split('"').nth(3).expect("a verb"), members.clone());
            assert!(again.is_err_and(|f| f.message.contains("unknown field `op`")), "{json}");
            let verb = members.remove("op").expect("a verb");
            assert_eq!(Request::from_members(verb.as_str().expect("text"), members), Ok(request));
        }
        assert!(Request::from_members("fly", Map::new()).is_err());
    }

    #[test]
    fn a_member_that_is_null_is_absent() {
        let json = r#"{ "op": "approve", "node": "worker-node", "ports": null, "expires_s": null }"#;
        let approve = Request::Approve { node: "worker-node".into(), note: None, ports: None, expires_s: None };
        assert_eq!(Request::from_json(json.as_bytes()), Ok(approve));
        assert_eq!(Request::from_json(br#"{"topics":null,"op":"events"}"#), Ok(Request::Events { topics: None }));
    }

    #[test]
    fn no_verb_takes_an_unknown_member() {
        for (json, _) in table() {
            let more = json.replacen("{", r#"{"colour":"red","#, 1);
            let text = refused(&more);
            assert!(text.contains("unknown field `colour`"), "{more}: {text}");
        }
    }

    #[test]
    fn a_member_that_is_missing_is_named() {
        for (json, _) in table() {
            let Ok(Value::Object(members)) = serde_json::from_str(json) else { panic!("{json}") };
            for key in members.keys() {
                let mut less = members.clone();
                less.remove(key);
                if let Err(failure) = Request::from_json(Value::Object(less).to_string().as_bytes()) {
                    assert!(failure.message.contains(&format!("missing field `{key}`")), "{json}: {failure}");
                }
            }
        }
    }

    #[test]
    fn a_member_with_a_wrong_type_is_named() {
        for (json, _) in table() {
            let Ok(Value::Object(members)) = serde_json::from_str(json) else { panic!("{json}") };
            for key in members.keys() {
                let mut wrong = members.clone();
                wrong.insert(key.clone(), serde_json::json!({"not": "this"}));
                let text = refused(&Value::Object(wrong).to_string());
                assert!(text.contains(&format!("{key}: ")), "{json}: {text}");
            }
        }
    }

    #[test]
    fn bad_requests_are_explained() {
        for (json, text) in [
            ("", "a request is a JSON object"),
            ("[\"info\"]", "a request is a JSON object"),
            ("not json", "a request is a JSON object"),
            ("{\"op\":\"info\"", "a request is a JSON object: EOF"),
            ("{\"op\":\"info\"} {}", "a request is a JSON object: trailing characters"),
            ("{}", "missing field `op`"),
            (r#"{"op":7}"#, "op: "),
            (r#"{"op":"fly"}"#, "unknown operation \"fly\""),
            (r#"{"op":"info","op":"stop"}"#, "stop: duplicate field `op`"),
            (r#"{"op":"listen","port":1,"port":2}"#, "listen: duplicate field `port`"),
            (r#"{"op":"listen","port":65536}"#, "listen: port: invalid value: integer `65536`, expected u16"),
            (r#"{"op":"listen","port":-1}"#, "listen: port: invalid value: integer `-1`, expected u16"),
            (r#"{"op":"listen","port":"1000"}"#, "listen: port: invalid type: string \"1000\", expected u16"),
            (r#"{"op":"send_message","node":"a","type":"xml"}"#, "send_message: type: unknown variant `xml`"),
            (r#"{"op":"inbox_take","seqs":[1,"2"]}"#, "inbox_take: seqs: invalid type: string \"2\", expected u64"),
        ] {
            let message = refused(json);
            assert!(message.starts_with(text), "{json}: {message}");
        }
    }

    #[test]
    fn damaged_json_is_refused_or_is_another_request() {
        for (json, _) in table() {
            for at in 0..json.len() {
                assert!(Request::from_json(&json.as_bytes()[..at]).is_err(), "{json} up to {at}");
                for flip in [1, 2, 16, 32, 128] {
                    let mut damaged = json.as_bytes().to_vec();
                    damaged[at] ^= flip;
                    if let Ok(request) = Request::from_json(&damaged) {
                        assert_eq!(Request::from_json(request.to_json().as_bytes()), Ok(request));
                    }
                }
            }
        }
    }

    #[test]
    fn kinds_are_read_from_their_names() {
        for (name, kind) in [("text", MessageKind::Text), ("binary", MessageKind::Binary), ("json", MessageKind::Json)]
        {
            assert_eq!((name.parse(), Kind::from(kind).name()), (Ok(kind), name));
        }
        assert_eq!("xml".parse::<MessageKind>().expect_err("no kind").code, Code::InvalidArgument);
    }
}
