//! Owns the events of a node, typed, and their JSON: one object with a member `event` that names the kind.

use crate::failure::{Code, Failure};
use crate::request::MessageKind;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// One event of a node as it comes to a client; see [`Client::watch`](crate::Client::watch).
#[derive(Clone, Debug, PartialEq)]
pub struct NodeEvent {
    /// The event's JSON: `{"event": KIND, …}`, of which [`NodeEvent::read`] gives the typed form.
    pub data: Value,
    /// The payload of an event that was published.
    pub payload: Vec<u8>,
}

impl NodeEvent {
    /// The typed form.
    ///
    /// # Errors
    /// `Internal` when the node sent something else.
    pub fn read(&self) -> Result<Event, Failure> {
        let mut event = Event::deserialize(&self.data)
            .map_err(|e| Failure::new(Code::Internal, format!("an event cannot be read: {e}")))?;
        if let Event::Published { payload, .. } = &mut event {
            payload.clone_from(&self.payload);
        }
        Ok(event)
    }
}

/// One event of a node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Event {
    /// A node asks for trust.
    TrustRequest(TrustEvent),
    /// A node is trusted from now on.
    Trusted(TrustEvent),
    /// A node has declined this node's request.
    TrustRejected(TrustEvent),
    /// Trust with a node has ended.
    Untrusted(TrustEvent),
    /// What a trusted peer and this node may reach at each other has changed, or the peer's name.
    TrustChanged(TrustChange),
    /// A tunnel with a peer is up.
    PeerUp(PeerEvent),
    /// A tunnel with a peer has ended.
    PeerDown(PeerEvent),
    /// A peer is reached on another path, or with larger datagrams.
    Path(PeerEvent),
    /// Something that the owner should know: `name_taken`, `identity_elsewhere`.
    Warning {
        /// A stable word.
        reason: String,
        /// The same for people.
        text: String,
    },
    /// A message is in the inbox, on disk.
    Message {
        /// Its number in the inbox.
        id: u64,
        /// Kind of its bytes.
        #[serde(rename = "type")]
        kind: MessageKind,
        /// Its length.
        bytes: u64,
        /// The sender.
        #[serde(flatten)]
        from: Sender,
    },
    /// A message has left the outbox without being delivered.
    GivenUp {
        /// Its identity, 32 hexadecimal digits.
        message_id: String,
        /// The recipient's hostname, or its address or key.
        to: String,
        /// Its length.
        bytes: u64,
        /// Why.
        reason: String,
    },
    /// A file has arrived, verified and on disk.
    File {
        /// Where it is.
        path: String,
        /// Its length.
        bytes: u64,
        /// The sender.
        #[serde(flatten)]
        from: Sender,
    },
    /// Something was published on this node's event stream.
    Published {
        /// Its topic.
        topic: String,
        /// Address of the peer that published it; absent: this node.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        address: Option<String>,
        /// Hostname of that peer, or empty.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        hostname: Option<String>,
        /// Its bytes, which travel beside the JSON.
        #[serde(skip)]
        payload: Vec<u8>,
    },
    /// The client read too slowly and missed events.
    Missed {
        /// How many.
        count: u64,
    },
    /// An event of a kind that this version does not know.
    #[serde(other)]
    Unknown,
}

impl Event {
    /// Address and hostname of the node that the event is about, where it is about one that is known.
    pub fn about(&self) -> (Option<&str>, Option<&str>) {
        match self {
            Self::TrustRequest(TrustEvent { node, .. })
            | Self::Trusted(TrustEvent { node, .. })
            | Self::TrustRejected(TrustEvent { node, .. })
            | Self::Untrusted(TrustEvent { node, .. })
            | Self::TrustChanged(TrustChange { node, .. })
            | Self::PeerUp(PeerEvent { node, .. })
            | Self::PeerDown(PeerEvent { node, .. })
            | Self::Path(PeerEvent { node, .. }) => (node.address.as_deref(), node.hostname.as_deref()),
            Self::Message { from, .. } | Self::File { from, .. } => (Some(&from.address), Some(&from.hostname)),
            Self::GivenUp { to, .. } => (None, Some(to)),
            Self::Published { address, hostname, .. } => (address.as_deref(), hostname.as_deref()),
            Self::Warning { .. } | Self::Missed { .. } | Self::Unknown => (None, None),
        }
    }
}

/// The node that an event is about. Members that are not known are absent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subject {
    /// Node number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_id: Option<u32>,
    /// Address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// Hostname, or empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// Fingerprint of the identity key.
    pub fingerprint: String,
}

/// A change of trust.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrustEvent {
    /// With which node.
    #[serde(flatten)]
    pub node: Subject,
    /// The note of a node that asks; absent when it does not ask.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub justification: Option<String>,
}

/// A change of grants or of a peer's name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrustChange {
    /// With which peer.
    #[serde(flatten)]
    pub node: Subject,
    /// What has changed: `granted` or `withdrawn` by this node's owner, `expired`, `granted_to_us` (by the peer's owner: more
    /// or less than before), `asks_for_ports` (the peer, which waits for this node's owner),
    /// `ports_declined` (by the peer's owner), `renamed`, or `name_refused` (another peer has that name).
    pub reason: String,
    /// What the peer may reach: services by name, other ports by number.
    pub granted: Vec<String>,
    /// What this node may reach at the peer, as the peer has said.
    pub granted_to_us: Option<Vec<String>>,
    /// What the peer asks for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asks_for: Option<Vec<String>>,
    /// The peer's name before; with `name_refused` the name that it wants.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// A change of a tunnel or its path.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PeerEvent {
    /// With which peer.
    #[serde(flatten)]
    pub node: Subject,
    /// The path; absent when the peer is gone.
    #[serde(flatten, default, skip_serializing_if = "Option::is_none")]
    pub path: Option<PathState>,
    /// Why the tunnel has ended; absent when it has not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// The path to a peer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PathState {
    /// The path in use.
    pub path: Option<String>,
    /// Whether it goes through the beacon.
    pub relay: bool,
    /// Largest datagram on it. Unit: bytes.
    pub datagram_len: u64,
    /// Smoothed round-trip time. Unit: milliseconds.
    pub srtt_ms: Option<f64>,
}

/// The peer that a message or file comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sender {
    /// Node number.
    pub node_id: u32,
    /// Address.
    pub address: String,
    /// Hostname, or empty.
    pub hostname: String,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_kind_is_read_and_written_as_the_same_json() {
        let who = json!({"node_id": 7, "address": "0:0000.0000.0007", "hostname": "node-a", "fingerprint": "ABCD"});
        let with = |more: Value| {
            let mut all = who.clone();
            let (Value::Object(all_members), Value::Object(more)) = (&mut all, more) else { panic!("objects") };
            all_members.extend(more);
            all
        };
        let path = json!({"path": "192.0.2.1:4000", "relay": false, "datagram_len": 1452, "srtt_ms": 0.25});
        let mut down = path.clone();
        (down["event"], down["reason"]) = ("peer_down".into(), "node-a was shut down".into());
        for data in [
            with(json!({"event": "trust_request", "justification": "again"})),
            with(json!({"event": "trusted"})),
            json!({"event": "trust_rejected", "fingerprint": "ABCD"}),
            with(json!({"event": "untrusted"})),
            with(
                json!({"event": "trust_changed", "reason": "granted", "granted": ["messages"], "granted_to_us": null}),
            ),
            with(json!({"event": "trust_changed", "reason": "asks_for_ports", "granted": [], "granted_to_us": ["80"],
                "asks_for": ["81"]})),
            with(json!({"event": "trust_changed", "reason": "renamed", "granted": ["all"], "granted_to_us": ["80"],
                "name": "node-z"})),
            with(json!({"event": "peer_up", "path": null, "relay": false, "datagram_len": 1216, "srtt_ms": null})),
            with(down),
            json!({"event": "peer_down", "fingerprint": "ABCD", "reason": "trust was withdrawn"}),
            with(json!({"event": "path", "path": "relay", "relay": true, "datagram_len": 1216, "srtt_ms": 1.5})),
            json!({"event": "message", "id": 1, "type": "json", "bytes": 2, "node_id": 7, "address": "a", "hostname": ""}),
            json!({"event": "file", "path": "/a/b", "bytes": 2, "node_id": 7, "address": "a", "hostname": "node-a"}),
            json!({"event": "published", "topic": "a.b"}),
            json!({"event": "published", "topic": "a.b", "address": "a", "hostname": "node-a"}),
            json!({"event": "given_up", "message_id": "07", "to": "node-a", "bytes": 2, "reason": "too old"}),
            json!({"event": "missed", "count": 3}),
        ] {
            let event = NodeEvent { data: data.clone(), payload: b"x".to_vec() }.read().expect("a known kind");
            assert_ne!(event, Event::Unknown, "{data}");
            assert_eq!(serde_json::to_value(&event).expect("JSON"), data);
            assert!(!matches!(event, Event::Published { payload, .. } if payload != b"x"));
        }
        let later = NodeEvent { data: json!({"event": "of_a_later_version", "x": 1}), payload: Vec::new() };
        assert_eq!(later.read(), Ok(Event::Unknown));
        let damaged = NodeEvent { data: json!({"event": "missed"}), payload: Vec::new() };
        assert_eq!(damaged.read().expect_err("no count").code, Code::Internal);
    }
}
