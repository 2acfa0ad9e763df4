//! Owns the events of a node, typed, and their JSON: one object with a member `event` that names the kind.

use crate::failure::{Code, Failure};
use crate::request::MessageKind;
use serde::de::Error as _;
use serde::{Deserialize, Serialize};
use serde_json::{Error, Value};

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
        let mut event = Event::parse(&self.data)
            .map_err(|e| Failure::new(Code::Internal, format!("an event cannot be read: {e}")))?;
        if let Event::Published { payload, .. } = &mut event {
            payload.clone_from(&self.payload);
        }
        Ok(event)
    }
}

/// One event of a node.
#[derive(Clone, Debug, PartialEq, Serialize)]
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
    /// The roster of a group of this node has changed.
    Group {
        /// Name of the group.
        group: String,
        /// Its name for machines.
        id: String,
        /// How many members it has.
        members: u64,
    },
    /// Something that the owner should know: `name_taken`, `identity_elsewhere`, `clock_skew`, `invite_dead`, `over_used`.
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
    /// A question is in the inbox, on disk, and waits for its answer.
    Question {
        /// Its number in the inbox.
        id: u64,
        /// Its identity, 32 hexadecimal digits, the same at both ends.
        message_id: String,
        /// Kind of its bytes.
        #[serde(rename = "type")]
        kind: MessageKind,
        /// Its length.
        bytes: u64,
        /// When it is not handed out any more. Unit: seconds since 1970.
        deadline_at: u64,
        /// The sender.
        #[serde(flatten)]
        from: Sender,
    },
    /// The answer to a question of this node has come, and is on disk.
    Answer {
        /// Its number, with which it is taken away.
        id: u64,
        /// The identity of the question, 32 hexadecimal digits.
        reply_to: String,
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
        #[serde(skip_serializing_if = "Option::is_none")]
        address: Option<String>,
        /// Hostname of that peer, or empty.
        #[serde(skip_serializing_if = "Option::is_none")]
        hostname: Option<String>,
        /// Its bytes, which travel beside the JSON.
        #[serde(skip)]
        payload: Vec<u8>,
    },
    /// A capture of this node's inner packets has begun or ended.
    Capture(CaptureEvent),
    /// The client read too slowly and missed events.
    Missed {
        /// How many.
        count: u64,
    },
    /// An event of a kind that this version does not know.
    Unknown,
}

impl Event {
    /// Reads an event's JSON. Derived code would keep each member in a buffer of serde's first, and is many times as long.
    fn parse(data: &Value) -> Result<Self, Error> {
        let all = Members(data);
        let event = match all.get::<String>("event")?.as_str() {
            "trust_request" => Self::TrustRequest(TrustEvent::parse(all)?),
            "trusted" => Self::Trusted(TrustEvent::parse(all)?),
            "trust_rejected" => Self::TrustRejected(TrustEvent::parse(all)?),
            "untrusted" => Self::Untrusted(TrustEvent::parse(all)?),
            "trust_changed" => Self::TrustChanged(TrustChange::parse(all)?),
            "peer_up" => Self::PeerUp(PeerEvent::parse(all)?),
            "peer_down" => Self::PeerDown(PeerEvent::parse(all)?),
            "path" => Self::Path(PeerEvent::parse(all)?),
            "warning" => Self::Warning { reason: all.get("reason")?, text: all.get("text")? },
            "group" => Self::Group { group: all.get("group")?, id: all.get("id")?, members: all.get("members")? },
            "message" => Self::Message {
                id: all.get("id")?,
                kind: all.get("type")?,
                bytes: all.get("bytes")?,
                from: Sender::parse(all)?,
            },
            "question" => Self::Question {
                id: all.get("id")?,
                message_id: all.get("message_id")?,
                kind: all.get("type")?,
                bytes: all.get("bytes")?,
                deadline_at: all.get("deadline_at")?,
                from: Sender::parse(all)?,
            },
            "answer" => Self::Answer {
                id: all.get("id")?,
                reply_to: all.get("reply_to")?,
                kind: all.get("type")?,
                bytes: all.get("bytes")?,
                from: Sender::parse(all)?,
            },
            "given_up" => Self::GivenUp {
                message_id: all.get("message_id")?,
                to: all.get("to")?,
                bytes: all.get("bytes")?,
                reason: all.get("reason")?,
            },
            "file" => Self::File { path: all.get("path")?, bytes: all.get("bytes")?, from: Sender::parse(all)? },
            "published" => Self::Published {
                topic: all.get("topic")?,
                address: all.get("address")?,
                hostname: all.get("hostname")?,
                payload: Vec::new(),
            },
            "capture" => Self::Capture(CaptureEvent::parse(all)?),
            "missed" => Self::Missed { count: all.get("count")? },
            _ => Self::Unknown,
        };
        Ok(event)
    }

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
            Self::Message { from, .. }
            | Self::Question { from, .. }
            | Self::Answer { from, .. }
            | Self::File { from, .. } => (Some(&from.address), Some(&from.hostname)),
            Self::GivenUp { to, .. } => (None, Some(to)),
            Self::Published { address, hostname, .. } => (address.as_deref(), hostname.as_deref()),
            Self::Group { .. } | Self::Warning { .. } | Self::Capture(_) | Self::Missed { .. } | Self::Unknown => {
                (None, None)
            }
        }
    }
}

/// The node that an event is about. Members that are not known are absent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Subject {
    /// Node number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_id: Option<u32>,
    /// Address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// Hostname, or empty.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// Fingerprint of the identity key.
    pub fingerprint: String,
}

impl Subject {
    fn parse(all: Members<'_>) -> Result<Self, Error> {
        let (node_id, address, hostname) = (all.get("node_id")?, all.get("address")?, all.get("hostname")?);
        Ok(Self { node_id, address, hostname, fingerprint: all.get("fingerprint")? })
    }
}

/// A change of trust.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TrustEvent {
    /// With which node.
    #[serde(flatten)]
    pub node: Subject,
    /// The note of a node that asks, or why a code of another node is not taken any more; absent otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub justification: Option<String>,
}

impl TrustEvent {
    fn parse(all: Members<'_>) -> Result<Self, Error> {
        Ok(Self { node: Subject::parse(all)?, justification: all.get("justification")? })
    }
}

/// A change of grants or of a peer's name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
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
    #[serde(skip_serializing_if = "Option::is_none")]
    pub asks_for: Option<Vec<String>>,
    /// The peer's name before; with `name_refused` the name that it wants.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

impl TrustChange {
    fn parse(all: Members<'_>) -> Result<Self, Error> {
        Ok(Self {
            node: Subject::parse(all)?,
            reason: all.get("reason")?,
            granted: all.get("granted")?,
            granted_to_us: all.get("granted_to_us")?,
            asks_for: all.get("asks_for")?,
            name: all.get("name")?,
        })
    }
}

/// A change of a tunnel or its path.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PeerEvent {
    /// With which peer.
    #[serde(flatten)]
    pub node: Subject,
    /// The path; absent when the peer is gone.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub path: Option<PathState>,
    /// The path that was in use before; absent when that has not changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Why the tunnel has ended, for people; or why the path has changed, as the stable word of
    /// [`PeerPaths::reason`](crate::answer::PeerPaths::reason); absent when neither has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl PeerEvent {
    fn parse(all: Members<'_>) -> Result<Self, Error> {
        let has_path = all.0.get("datagram_len").is_some();
        let path = if has_path { Some(PathState::parse(all)?) } else { None };
        Ok(Self { node: Subject::parse(all)?, path, from: all.get("from")?, reason: all.get("reason")? })
    }
}

/// The path to a peer.
#[derive(Clone, Debug, PartialEq, Serialize)]
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

impl PathState {
    fn parse(all: Members<'_>) -> Result<Self, Error> {
        let (path, relay) = (all.get("path")?, all.get("relay")?);
        Ok(Self { path, relay, datagram_len: all.get("datagram_len")?, srtt_ms: all.get("srtt_ms")? })
    }
}

/// The beginning or the end of a capture of inner packets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CaptureEvent {
    /// `began` or `ended`.
    pub state: String,
    /// The name of the peer, if only its packets are captured; absent: those of all peers are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer: Option<String>,
    /// The port at either end of the packets that are captured; absent: all are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Packets that the client was given.
    pub packets: u64,
    /// Packets that it missed.
    pub missed: u64,
}

impl CaptureEvent {
    fn parse(all: Members<'_>) -> Result<Self, Error> {
        let (peer, port) = (all.get("peer")?, all.get("port")?);
        Ok(Self { state: all.get("state")?, peer, port, packets: all.get("packets")?, missed: all.get("missed")? })
    }
}

/// The peer that a message or file comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Sender {
    /// Node number.
    pub node_id: u32,
    /// Address.
    pub address: String,
    /// Hostname, or empty.
    pub hostname: String,
}

impl Sender {
    fn parse(all: Members<'_>) -> Result<Self, Error> {
        Ok(Self { node_id: all.get("node_id")?, address: all.get("address")?, hostname: all.get("hostname")? })
    }
}

/// An event's JSON.
#[derive(Clone, Copy)]
struct Members<'a>(&'a Value);

impl<'a> Members<'a> {
    /// Reads a member; one that is absent is null.
    fn get<T: Deserialize<'a>>(self, name: &str) -> Result<T, Error> {
        let value = self.0.get(name).unwrap_or(&Value::Null);
        T::deserialize(value).map_err(|e| Error::custom(format_args!("{name}: {e}")))
    }
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
            with(
                json!({"event": "path", "path": "direct 192.0.2.1:4000", "relay": false, "datagram_len": 1216, "srtt_ms": 1.5,
                "from": "relay channel 3", "reason": "answered"}),
            ),
            json!({"event": "message", "id": 1, "type": "json", "bytes": 2, "node_id": 7, "address": "a", "hostname": ""}),
            json!({"event": "question", "id": 1, "message_id": "07", "type": "json", "bytes": 2, "deadline_at": 9, "node_id": 7,
                "address": "a", "hostname": ""}),
            json!({"event": "answer", "id": 1, "reply_to": "07", "type": "text", "bytes": 2, "node_id": 7, "address": "a",
                "hostname": ""}),
            json!({"event": "file", "path": "/a/b", "bytes": 2, "node_id": 7, "address": "a", "hostname": "node-a"}),
            json!({"event": "published", "topic": "a.b"}),
            json!({"event": "published", "topic": "a.b", "address": "a", "hostname": "node-a"}),
            json!({"event": "given_up", "message_id": "07", "to": "node-a", "bytes": 2, "reason": "too old"}),
            json!({"event": "capture", "state": "began", "packets": 0, "missed": 0}),
            json!({"event": "capture", "state": "ended", "peer": "node-a", "port": 80, "packets": 7, "missed": 1}),
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
