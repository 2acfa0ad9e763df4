//! Owns the answers about programs that know nothing of this node.

use serde::{Deserialize, Serialize};

/// A listener on this machine; its connections become streams to a peer's port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forward {
    /// The listener's address that is bound, as `ADDRESS:PORT` or `unix:PATH`.
    pub listen: String,
    /// The peer, as its owner named it.
    pub node: String,
    /// The peer's port.
    pub port: u16,
    /// Whether it ends with the client that asked for it, or with the node.
    pub temporary: bool,
    /// Connections at this moment.
    pub connections: u64,
    /// Connections since the node's start.
    pub total: u64,
    /// Why the listener is not bound, and is tried again.
    pub error: Option<String>,
    /// Why the last connection failed that did.
    pub last_error: Option<String>,
    /// What its owner should know: other machines may reach the listener.
    pub warning: Option<String>,
}

/// The forwards of a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forwards {
    /// How many there are.
    pub total: u64,
    /// Each of them.
    pub forwards: Vec<Forward>,
}

/// A port of this node; its streams become connections to a program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exposed {
    /// The port.
    pub port: u16,
    /// The program's listener, as `HOST:PORT` or `unix:PATH`.
    pub target: String,
    /// Whether the program is told the peer in headers of HTTP.
    pub http: bool,
    /// Whether addresses in an A2A agent's card are changed.
    pub a2a: bool,
    /// Whether the program is told the peer by the PROXY protocol.
    pub proxy_protocol: bool,
    /// The only peers that may come; empty: all that trust lets in.
    pub nodes: Vec<String>,
    /// Whether it ends with the client that asked for it, or with the node.
    pub temporary: bool,
    /// Connections at this moment.
    pub connections: u64,
    /// Connections since the node's start.
    pub total: u64,
    /// Why the last connection failed that did.
    pub last_error: Option<String>,
}

/// The exposed ports of a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exposes {
    /// How many there are.
    pub total: u64,
    /// Each of them.
    pub exposes: Vec<Exposed>,
}

/// A listener on this machine at which programs say which node they want.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proxy {
    /// The listener's address that is bound, as `ADDRESS:PORT` or `unix:PATH`.
    pub listen: String,
    /// Whether hosts that are no nodes are reached too.
    pub direct: bool,
    /// The file of users with their passwords.
    pub auth_file: Option<String>,
    /// Whether it ends with the client that asked for it, or with the node.
    pub temporary: bool,
    /// Connections at this moment.
    pub connections: u64,
    /// Connections since the node's start.
    pub total: u64,
    /// Why the listener is not bound, and is tried again.
    pub error: Option<String>,
    /// Why the last connection failed that did.
    pub last_error: Option<String>,
}

/// The proxies of a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proxies {
    /// How many there are.
    pub total: u64,
    /// Each of them.
    pub proxies: Vec<Proxy>,
}

/// The peer behind a connection that a program has accepted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Whois {
    /// The peer's hostname, or empty.
    pub hostname: String,
    /// The peer's address.
    pub address: String,
    /// The fingerprint of the peer's key.
    pub fingerprint: String,
    /// The exposed port that the peer has reached.
    pub port: u16,
    /// The peer's own port.
    pub peer_port: u16,
}
