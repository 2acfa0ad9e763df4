//! Owns what is told of paths: to one peer, and to the rendezvous.

use serde::{Deserialize, Serialize};

/// One path to a peer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PeerPath {
    /// The address, or the relay.
    pub path: String,
    /// Where the relay is that it leads through; null for a direct path.
    #[serde(default)]
    pub relay: Option<String>,
    /// How the address became known: `lan` or `named` (by the peer, on a local network or not), `heard` (a datagram came from
    /// there), `saved` (in the configuration or the trust book), `relay`, `relay_tls` (the relay, over TLS); later versions may
    /// know others.
    pub source: String,
    /// Why datagrams may be sent there: `heard`, `named`, `known` (to this node's configuration or trust book), `proven` (the peer
    /// has answered from there).
    pub standing: String,
    /// Whether the peer has answered on it, and it has not gone silent since.
    pub validated: bool,
    /// How long ago the newest probe left; null before the first one. Unit: seconds.
    pub last_probe_s: Option<f64>,
    /// Round-trip time of the probes that were answered. Unit: milliseconds.
    pub rtt_ms: Option<f64>,
    /// The part of the probes that have no answer, from 0 to 1; null before an answer was due.
    pub loss: Option<f32>,
    /// Largest datagram that has passed. Unit: bytes.
    pub datagram_len: u64,
}

/// What a relay of this node does for a pair.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PairRelay {
    /// Where it is.
    pub address: String,
    /// `in_use` (the path in use leads through it), `ready` (a path does), `not_shared` (it relays for this node, and has given no
    /// channel to the peer, which does not use it or is away), `away` (it does not relay for this node now); later versions may
    /// know others.
    pub state: String,
}

/// The kinds of NAT before this node and before a peer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NatKinds {
    /// Before this node; null while that is not known.
    pub here: Option<String>,
    /// Before the peer; null while that is not known.
    pub there: Option<String>,
}

/// How a peer is reached, and why so.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PeerPaths {
    /// Node number.
    pub node_id: u32,
    /// Address.
    pub address: String,
    /// Hostname, or empty.
    pub hostname: String,
    /// Whether a tunnel is up.
    pub up: bool,
    /// The path in use.
    pub path: Option<String>,
    /// Whether that goes through the relay.
    pub relay: bool,
    /// Why that path is in use: `handshake`, `answered`, `followed`, `faster`, `silence` or `renumbered`; later versions may know others.
    pub reason: Option<String>,
    /// The same for people.
    pub reason_text: Option<String>,
    /// How long it has been in use. Unit: seconds.
    pub chosen_s: Option<f64>,
    /// Smoothed round-trip time. Unit: milliseconds.
    pub srtt_ms: Option<f64>,
    /// Largest datagram on the path in use. Unit: bytes.
    pub datagram_len: u64,
    /// Why the peer is not reached directly: `not_in_use`, `peer_away`, `no_tunnel`, `no_address`, `udp_blocked`, `probing`,
    /// `no_answer`, `nats_unpredictable`, `slower` or `silent`; later versions may know others. Null: it is reached directly.
    pub not_direct: Option<String>,
    /// The same for people.
    pub not_direct_text: Option<String>,
    /// Rounds of probes that are over since they began anew.
    pub rounds: u64,
    /// The number of the round that is under way or comes next; null: none before the peer is used again.
    pub next_round: Option<u64>,
    /// When its next probes leave. Unit: seconds from now.
    pub next_round_s: Option<f64>,
    /// The kinds of NAT on both sides; null while neither is known.
    pub nat: Option<NatKinds>,
    /// Every path that is known.
    pub paths: Vec<PeerPath>,
    /// What the relays of this node do for the pair, that of its rendezvous first; absent without spare ones.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub relays: Vec<PairRelay>,
}

/// How a node reaches its rendezvous.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RendezvousLink {
    /// What carries the datagrams: `udp` or `tls`.
    pub carrier: String,
    /// Where they go: an address; over TLS the place, and the proxy on the way.
    pub address: String,
    /// How long they have gone this way. Unit: seconds.
    pub since_s: f64,
    /// Why this way is taken: `usual`, `udp_silent`, or `udp_answers` (again).
    pub reason: String,
    /// Whether UDP passes to the rendezvous and back: `works`, `blocked` or `unknown`.
    pub udp: String,
    /// How long ago it was last heard; null before the first answer. The question `info` asks it for a sign of life, at most once in
    /// a second. Unit: seconds.
    pub heard_s: Option<f64>,
    /// Smoothed round-trip time. Unit: milliseconds.
    pub rtt_ms: Option<f64>,
    /// Largest datagram that has passed. Unit: bytes.
    pub datagram_len: u64,
    /// The version of its program; absent before it has said one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Why the newest attempt over TLS failed; absent when it did not, or none was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls_failure: Option<String>,
    /// The way over TLS that is taken where no UDP passes; absent where none is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsRoute>,
}

/// The way over TLS that a node takes to its rendezvous where no UDP passes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TlsRoute {
    /// Where the rendezvous serves it: `HOST:PORT`.
    pub place: String,
    /// The proxy on the way, of the node's settings or its environment: `HOST:PORT`, without user and password; absent without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy: Option<String>,
    /// The node has a password for the proxy.
    pub has_password: bool,
    /// Why the text that is to name the proxy names none; absent when it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wrong: Option<String>,
}
