//! Owns the answers that show other nodes: pins with their grants, the requests for them, and records.

use crate::answer::groups::GroupOrigin;
use pilot_core::identity::NodeRecord;
use pilot_core::trust::{Pin as CorePin, Ports};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

/// The requests for trust that wait for a decision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pending {
    /// Each of them.
    pub pending: Vec<PendingRequest>,
}

/// A request for trust that waits for a decision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PendingRequest {
    /// Node number of the node that asks.
    pub node_id: u32,
    /// Its address.
    pub address: String,
    /// Its hostname, or empty.
    pub hostname: String,
    /// Its identity key.
    pub public_key: String,
    /// Fingerprint of the key.
    pub fingerprint: String,
    /// The note of the node's owner.
    pub justification: String,
    /// When the request came.
    pub received_at: u64,
    /// What a peer that is trusted already asks for; absent: the node asks for trust.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asks_for: Option<Vec<String>>,
    /// What that peer may reach now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub granted: Option<Vec<String>>,
    /// What the owner should know before approving.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warning: Option<String>,
}

/// The trusted peers, and the requests that this node has sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trust {
    /// How many peers are trusted.
    pub total: u64,
    /// Each of them.
    pub trusted: Vec<Pin>,
    /// Nodes that were asked and have not answered.
    pub asked: Vec<Asked>,
}

/// A trusted peer, and on which terms.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pin {
    /// Node number.
    pub node_id: u32,
    /// Address at the time of the approval.
    pub address: String,
    /// Hostname, or empty.
    pub hostname: String,
    /// Identity key.
    pub public_key: String,
    /// Fingerprint of the key.
    pub fingerprint: String,
    /// Whether the fingerprint was compared when trust was asked for.
    pub verified: bool,
    /// Time of the approval.
    pub approved_at: u64,
    /// When the trust ends.
    pub expires_at: Option<u64>,
    /// Ports of this node that the peer may reach, as `1000,1001,8000-8010` or `all`.
    pub ports: String,
    /// The same: services by name, other ports by number.
    pub granted: Vec<String>,
    /// Services of this node that the peer may not reach.
    pub withheld: Vec<String>,
    /// Ports among them that end before the trust does.
    pub temporary: Vec<Temporary>,
    /// What this node may reach at the peer, as the peer has said.
    pub granted_to_us: Option<Vec<String>>,
    /// What this node has asked the peer for and has no answer to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked_for: Option<Vec<String>>,
    /// How much of this node the peer may use, as far as the owner has said: `memory=64MB,streams=1000`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quota: Option<String>,
    /// Whether both owners have approved each other; otherwise the peer is one by its groups alone.
    #[serde(default = "yes", skip_serializing_if = "Clone::clone")]
    pub by_hand: bool,
    /// What the peer has by groups, besides.
    #[serde(default, skip_serializing_if = "<[_]>::is_empty")]
    pub groups: Box<[GroupOrigin]>,
    /// Whether the peer may reach every port.
    pub all_ports: bool,
    /// True: both owners have approved.
    pub mutual: bool,
    /// Network of the address.
    pub network: u16,
}

/// What a node that does not say so means.
const fn yes() -> bool {
    true
}

impl From<&CorePin> for Pin {
    fn from(pin: &CorePin) -> Self {
        let reach = pin.reach();
        Self {
            node_id: pin.addr.node,
            address: pin.addr.to_string(),
            hostname: pin.hostname.clone(),
            public_key: pin.identity.to_string(),
            fingerprint: pin.identity.fingerprint(),
            verified: pin.verified,
            approved_at: pin.approved_at,
            expires_at: pin.not_after,
            ports: reach.to_string(),
            granted: reach.names(),
            withheld: reach.withheld(),
            temporary: pin.temporary.iter().map(Temporary::from).collect(),
            granted_to_us: pin.granted.as_ref().map(Ports::names),
            asked_for: pin.asked.as_ref().map(|asked| asked.ports.names()),
            quota: pin.quota.as_ref().map(|quota| quota.to_string()),
            by_hand: pin.by_hand,
            groups: pin.groups.iter().map(GroupOrigin::from).collect(),
            all_ports: reach == Ports::All,
            mutual: true,
            network: pin.addr.network,
        }
    }
}

/// Ports that are granted until a time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Temporary {
    /// The ports: services by name, others by number.
    pub ports: Vec<String>,
    /// When the grant ends.
    pub expires_at: u64,
}

impl From<&(u64, Ports)> for Temporary {
    fn from((at, ports): &(u64, Ports)) -> Self {
        Self { ports: ports.names(), expires_at: *at }
    }
}

/// A node that was asked for trust and has not answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// Node number.
    pub node_id: u32,
    /// Address.
    pub address: String,
    /// Hostname, or empty.
    pub hostname: String,
    /// Fingerprint of its identity key.
    pub fingerprint: String,
}

impl From<&NodeRecord> for Asked {
    fn from(record: &NodeRecord) -> Self {
        Self {
            node_id: record.addr.node,
            address: record.addr.to_string(),
            hostname: record.hostname.clone(),
            fingerprint: record.identity.fingerprint(),
        }
    }
}

/// A node as the rendezvous knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Node number.
    pub node_id: u32,
    /// Address.
    pub address: String,
    /// Hostname, or empty.
    pub hostname: String,
    /// Whether other nodes find the node without knowing its name.
    pub public: bool,
    /// Tags.
    pub tags: Vec<String>,
    /// Identity key.
    pub public_key: String,
    /// Fingerprint of the key.
    pub fingerprint: String,
}

impl From<&NodeRecord> for Record {
    fn from(record: &NodeRecord) -> Self {
        Self {
            node_id: record.addr.node,
            address: record.addr.to_string(),
            hostname: record.hostname.clone(),
            public: record.public,
            tags: record.tags.clone(),
            public_key: record.identity.to_string(),
            fingerprint: record.identity.fingerprint(),
        }
    }
}

/// The node that was looked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Found {
    /// A trusted peer.
    Trusted(Pin),
    /// A node that is not trusted.
    Stranger(Record),
}

impl<'de> Deserialize<'de> for Found {
    /// A peer is known by the time of its approval; serde would try one form after the other, and copy each member first.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let node = Value::deserialize(deserializer)?;
        let found = match node.get("approved_at") {
            Some(_) => Pin::deserialize(&node).map(Self::Trusted),
            None => Record::deserialize(&node).map(Self::Stranger),
        };
        found.map_err(D::Error::custom)
    }
}

impl Found {
    /// Node number.
    pub const fn node_id(&self) -> u32 {
        match self {
            Self::Trusted(pin) => pin.node_id,
            Self::Stranger(record) => record.node_id,
        }
    }

    /// Address.
    pub fn address(&self) -> &str {
        match self {
            Self::Trusted(pin) => &pin.address,
            Self::Stranger(record) => &record.address,
        }
    }

    /// Hostname, or empty.
    pub fn hostname(&self) -> &str {
        match self {
            Self::Trusted(pin) => &pin.hostname,
            Self::Stranger(record) => &record.hostname,
        }
    }
}

/// The nodes that carry a tag.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nodes {
    /// How many there are.
    pub total: u64,
    /// Each of them.
    pub nodes: Vec<Record>,
}
