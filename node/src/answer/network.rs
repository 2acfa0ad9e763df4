//! Owns the part of the answer to `Info` that says how the networks of this machine help the node.

use serde::{Deserialize, Serialize};

/// The port that a gateway maps to the node, or why there is none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortMapping {
    /// The protocol by which it was got: `pcp`, `nat_pmp` or `upnp`, later versions know more; absent without a mapping.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// The address at which the gateway lets peers in; absent without a mapping.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external: Option<String>,
    /// Until when the gateway has promised it; it is renewed before. Absent without a mapping.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<u64>,
    /// Why there is none: `off`, `not_needed`, `asking`, `no_answer`, `refused`, `not_public` (the gateway is behind another NAT) or
    /// `too_short`, later versions know more; absent with a mapping.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// A relay of a node: its rendezvous, or a spare one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Relay {
    /// Where it is: an address, or the hosts of the configuration while none of them is known.
    pub address: String,
    /// Whether it is a spare relay, and not that of the rendezvous.
    pub spare: bool,
    /// Whether it relays for this node now.
    pub ready: bool,
    /// Smoothed round-trip time. Unit: milliseconds.
    pub rtt_ms: Option<f64>,
    /// Peers that are reached through it now.
    pub peers: u64,
}

/// What nodes of one network announce to each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lan {
    /// Whether this node announces itself, and hears others.
    pub on: bool,
    /// Announcements of trusted peers that could not be reached directly.
    pub heard: u64,
}
