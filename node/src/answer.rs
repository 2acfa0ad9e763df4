//! Owns the answers to [`Request`](crate::Request)s, one type for each, and their JSON.
//!
//! The node builds an [`Answer`]; a program in another process reads the same type from the JSON with
//! [`Reply::read`](crate::Reply::read). The names of the fields are the names of the JSON's members. A member that is
//! `None` is `null` unless its field says that it is absent. Times are in seconds since 1970.

mod capture;
mod groups;
mod invites;
mod message;
mod network;
mod outbox;
mod paths;
mod pins;
mod programs;
mod questions;

pub use capture::Captured;
pub use groups::{Enrolment, Group, GroupKey, GroupOrigin, Groups, Member, Members};
pub(crate) use groups::{enrolments, role_name};
pub use invites::{Invite, Invited, Invites};
pub use message::Message;
pub use network::{Lan, PortMapping, Relay};
pub use outbox::{Outbox, OutboxMessage, OutboxState};
pub use paths::{NatKinds, PairRelay, PeerPath, PeerPaths, RendezvousLink, TlsRoute};
pub use pins::{Asked, Found, Nodes, Pending, PendingRequest, Pin, Record, Temporary, Trust};
pub use programs::{Exposed, Exposes, Forward, Forwards, Proxies, Proxy, Whois};
pub use questions::{Question, QuestionState, Questions, Replied};

use crate::failure::{Code, Failure};
use crate::request::MessageKind;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

/// Declares [`Answer`] and its conversions: each variant holds the answer of the same name.
macro_rules! answers {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// The answer to any request.
        #[derive(Clone, Debug, PartialEq, Serialize)]
        #[serde(untagged)]
        pub enum Answer {
            $($(#[$doc])* $name(Box<$name>),)*
        }

        $(impl From<$name> for Answer {
            fn from(answer: $name) -> Self {
                Self::$name(Box::new(answer))
            }
        }

        impl TryFrom<Answer> for $name {
            type Error = Failure;

            fn try_from(answer: Answer) -> Result<Self, Failure> {
                match answer {
                    Answer::$name(answer) => Ok(*answer),
                    _ => Err(Failure::new(Code::Internal, "the answer is to another request")),
                }
            }
        })*
    };
}

answers! {
    /// To `Info`.
    Info,
    /// To `Version`.
    Version,
    /// To `Peers`.
    Peers,
    /// To `Path`.
    PeerPaths,
    /// To `Connections`.
    Connections,
    /// To `Pending`.
    Pending,
    /// To `Trust`.
    Trust,
    /// To `Find`.
    Found,
    /// To `Search`.
    Nodes,
    /// To `Handshake`.
    Handshake,
    /// To `Approve`, `Grant`, `Revoke` and `Join`.
    Approved,
    /// To `Reject`.
    Rejected,
    /// To `Untrust`.
    Untrusted,
    /// To `WaitTrust`.
    Trusted,
    /// To `Invite` and `GroupInvite`.
    Invited,
    /// To `Invites`.
    Invites,
    /// To `Uninvite`.
    Uninvited,
    /// To `Group`.
    Group,
    /// To `Groups`.
    Groups,
    /// To `GroupMembers`.
    Members,
    /// To `GroupExport`.
    GroupKey,
    /// To `Profile`.
    Profile,
    /// To `SendMessage`.
    Delivered,
    /// To `Inbox`.
    Inbox,
    /// To `InboxRead` and `InboxNext`; the message's bytes come beside the answer.
    Message,
    /// To `InboxTake`.
    Taken,
    /// To `Ask` and `WaitAnswer`; the bytes of the question's answer come beside it.
    Question,
    /// To `Answers`.
    Questions,
    /// To `Reply`.
    Replied,
    /// To `Received`.
    Received,
    /// To `Outbox`.
    Outbox,
    /// To `Publish`.
    Published,
    /// To `SendDatagram`.
    Sent,
    /// To `Disconnect`.
    Disconnected,
    /// To `Forward` and `Unforward`.
    Forward,
    /// To `Forwards`.
    Forwards,
    /// To `Expose` and `Unexpose`.
    Exposed,
    /// To `Exposes`.
    Exposes,
    /// To `Proxy` and `Unproxy`.
    Proxy,
    /// To `Proxies`.
    Proxies,
    /// To `Whois`.
    Whois,
    /// To `Capture` and `CaptureNext`; blocks of the file come beside the answer.
    Captured,
    /// To `SetWebhook`.
    WebhookSet,
    /// To `Stop`, `Events` and `FailQuestion`.
    Accepted,
    /// To `Connect`, `Accept` and `Take`.
    Opened,
    /// To `Cancel`.
    Cancelled,
    /// To `Listen`, `Unlisten` and `Datagrams`.
    Bound,
    /// To `StreamEnd` and `Finish`.
    StreamState,
}

/// The outcome of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// The request or datagram is on its way to the other node.
    Sent,
    /// The node is trusted already.
    Trusted,
    /// The node is trusted from now on.
    Approved,
    /// The peer may reach more ports than before.
    Granted,
    /// The peer may reach fewer ports than before.
    Withdrawn,
    /// The node's request is declined.
    Rejected,
    /// This node's request is taken back.
    Cancelled,
    /// The node is no longer trusted.
    Revoked,
    /// The subscribers get the event.
    Published,
    /// The client gets the node's events.
    Watching,
    /// The request is in force.
    Accepted,
    /// The node ends.
    Stopping,
}

/// An invite that is withdrawn.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Uninvited {
    /// Always `Withdrawn`.
    pub status: Status,
    /// Its number.
    pub invite: String,
}

/// How a node stands with its rendezvous.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RendezvousState {
    /// No rendezvous is configured.
    Absent,
    /// The rendezvous has not answered yet, or not lately.
    Connecting,
    /// The rendezvous answers, and this node's record is being registered.
    Registering,
    /// This node is registered.
    Ready,
    /// This node is registered, and an answer of the rendezvous is overdue.
    Silent,
    /// The rendezvous refuses this node's record.
    Refused,
    /// A state that this version does not know.
    #[serde(other)]
    Unknown,
}

/// A node's own state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Info {
    /// Node number; 0 until the rendezvous has given one.
    pub node_id: u32,
    /// Address.
    pub address: String,
    /// Hostname, or empty.
    pub hostname: String,
    /// Whether other nodes find the node without knowing its name.
    pub public: bool,
    /// Tags.
    pub tags: Vec<String>,
    /// Identity key, 64 hexadecimal digits.
    pub public_key: String,
    /// Fingerprint of the identity key, for people to compare.
    pub fingerprint: String,
    /// Process.
    pub pid: u32,
    /// Folder with identity and books.
    pub home: String,
    /// Where the UDP socket is bound, or empty.
    pub udp: String,
    /// The cipher of tunnels, and which implementation.
    pub cipher: String,
    /// The key agreement, and which implementation.
    pub key_agreement: String,
    /// How the node stands with its rendezvous.
    pub rendezvous: RendezvousState,
    /// Why the rendezvous refuses the node's record.
    pub rendezvous_refusal: Option<String>,
    /// The rendezvous, as `KEY@ADDRESS:PORT`.
    pub rendezvous_address: Option<String>,
    /// How the node reaches the rendezvous; absent while it has no address of one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rendezvous_link: Option<RendezvousLink>,
    /// The relays of this node, that of its rendezvous first; absent without spare ones.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub relays: Vec<Relay>,
    /// The node's address as the rendezvous sees it.
    pub reflexive: Option<String>,
    /// The kind of NAT before this node, in the terms of RFC 4787; absent while that is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nat: Option<String>,
    /// The address of another process with this node's identity, which the rendezvous has seen of late; absent when there is
    /// none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity_elsewhere: Option<String>,
    /// How far this machine's clock lies behind the rendezvous', or ahead of it when negative; absent while that is not known.
    /// Unit: seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clock_behind_s: Option<i64>,
    /// What the owner should know, for people; absent when there is nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// How long the node runs. Unit: seconds.
    pub uptime_secs: f64,
    /// When the node was started.
    pub started_at: u64,
    /// Trusted peers.
    pub trusted: u64,
    /// Requests for trust that wait for a decision.
    pub pending: u64,
    /// Streams.
    pub connections: u64,
    /// Ports on which streams or datagrams are accepted.
    pub ports: Vec<u16>,
    /// Messages that wait for their recipients.
    pub outbox: u64,
    /// For whom they wait, and why; at most 100 recipients.
    pub outbox_waiting: Vec<Waiting>,
    /// Version of the program.
    pub version: String,
    /// Datagrams that were ignored, by reason.
    pub discards: BTreeMap<String, u64>,
    /// Datagrams that were dropped because a client did not read them.
    pub datagrams_dropped: u64,
    /// The port that a gateway maps to this node.
    #[serde(default)]
    pub mapping: PortMapping,
    /// What nodes of one network announce to each other.
    #[serde(default)]
    pub lan: Lan,
    /// The webhook; absent when there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook: Option<WebhookState>,
}

/// A webhook, and how it fares since it was set or the daemon was started.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WebhookState {
    /// The URL to which events are posted.
    pub url: String,
    /// Events that wait.
    pub waiting: u64,
    /// Events that the server has taken.
    pub delivered: u64,
    /// Events that were given up: the server refused them, was away too long, or too many waited.
    pub lost: u64,
    /// Why the last attempt failed; absent when it did not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
}

/// Messages that wait for one recipient.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiting {
    /// The recipient's hostname, or its address.
    pub node: String,
    /// How many messages wait.
    pub messages: u64,
    /// Why the last attempt failed; absent: there was none yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// The version of the program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    /// As in `Cargo.toml`.
    pub version: String,
}

/// The trusted peers with their tunnels.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Peers {
    /// How many there are.
    pub total: u64,
    /// How many have a tunnel that is up.
    pub encrypted: u64,
    /// Each of them.
    pub peers: Vec<Peer>,
}

/// A trusted peer and its tunnel.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Peer {
    /// Node number.
    pub node_id: u32,
    /// Address.
    pub address: String,
    /// Hostname, or empty.
    pub hostname: String,
    /// What the peer may reach at this node: services by name, other ports by number.
    pub granted: Vec<String>,
    /// What this node may reach at the peer, as the peer has said.
    pub granted_to_us: Option<Vec<String>>,
    /// Whether the tunnel is up.
    pub encrypted: bool,
    /// The same: a tunnel that is up is authenticated.
    pub authenticated: bool,
    /// Whether the path in use goes through the beacon.
    pub relay: bool,
    /// The path in use.
    pub path: Option<String>,
    /// The same, or empty.
    pub endpoint: String,
    /// Largest datagram on the path in use. Unit: bytes.
    pub datagram_len: u64,
    /// Smoothed round-trip time. Unit: milliseconds.
    pub srtt_ms: Option<f64>,
    /// Age of the session. Unit: seconds.
    pub session_age_secs: Option<u64>,
    /// The congestion controller.
    pub congestion_control: String,
    /// The congestion window. Unit: bytes.
    pub window: u64,
    /// Bytes sent and neither acknowledged nor lost.
    pub in_flight: u64,
    /// Bytes sent in UDP datagrams.
    pub bytes_sent: u64,
    /// Bytes received in UDP datagrams.
    pub bytes_received: u64,
    /// Datagrams sent.
    pub datagrams_sent: u64,
    /// Datagrams lost.
    pub datagrams_lost: u64,
    /// The cipher.
    pub cipher: String,
    /// Why there is no tunnel, where that is known: `pair_secret_differs`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What the peer uses of its quota.
    pub budget: Budget,
    /// Every path that is known.
    pub paths: Vec<PeerPath>,
}

/// What a peer uses of its quota.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Budget {
    /// Memory that the peer makes this node hold. Unit: bytes.
    pub memory: Used,
    /// Streams with the peer.
    pub streams: Used,
    /// The peer's files on disk, unfinished ones included. Absent when the disk does not answer within a second. Unit: bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk: Option<Used>,
    /// The peer's messages of today (UTC) since this node was started. Absent without a quota of messages: none are counted then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub messages: Option<Used>,
}

/// A part of a quota.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Used {
    /// In use now.
    pub used: u64,
    /// The most.
    pub max: u64,
}

/// The streams of a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connections {
    /// How many there are.
    pub total: u64,
    /// Each of them.
    pub connections: Vec<Connection>,
}

/// One stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connection {
    /// Its number.
    pub id: u64,
    /// This node's port.
    pub local_port: u16,
    /// The peer's address.
    pub remote_addr: String,
    /// The peer's port.
    pub remote_port: u16,
    /// State of the TCP connection (RFC 9293).
    pub state: String,
    /// The peer's hostname, or empty.
    pub hostname: String,
    /// Bytes sent that the peer has not acknowledged.
    pub unacked: u64,
    /// Bytes received that are not read yet.
    pub readable: u64,
}

/// The outcome of a request for trust.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Handshake {
    /// The node is a trusted peer, from now on or already.
    Trusted(Box<Approved>),
    /// The request is on its way, or the key belongs to a trusted peer of another name.
    Asked(HandshakeSent),
}

impl Handshake {
    /// Whether the request is on its way, or the node is trusted.
    pub const fn status(&self) -> Status {
        match self {
            Self::Trusted(approved) => approved.status,
            Self::Asked(sent) => sent.status,
        }
    }
}

/// A request for trust that is on its way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HandshakeSent {
    /// Sent, or trusted.
    pub status: Status,
    /// The node that was asked.
    #[serde(flatten)]
    pub node: Asked,
    /// Whether the fingerprint was given with the request; absent when the node is trusted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verified: Option<bool>,
    /// What a trusted peer was asked for; absent: the node was asked for trust.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked_for: Option<Vec<String>>,
}

/// A peer that is trusted from now on, or already, perhaps on other terms than before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Approved {
    /// Approved, trusted, granted or withdrawn.
    pub status: Status,
    /// The peer.
    #[serde(flatten)]
    pub pin: Pin,
}

/// A request for trust that was declined.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rejected {
    /// Rejected, or cancelled.
    pub status: Status,
    /// The node, as the request named it.
    pub node: String,
}

/// A peer that is no longer trusted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Untrusted {
    /// Revoked.
    pub status: Status,
    /// Its node number.
    pub node_id: u32,
    /// Its address.
    pub address: String,
    /// Its hostname, or empty.
    pub hostname: String,
}

/// Whether a node is trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trusted {
    /// Node number; 0 for a node that is not trusted and was not named by its number.
    pub node_id: u32,
    /// Whether the node is trusted.
    pub trusted: bool,
}

/// The public description of a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Profile {
    /// Hostname, or empty.
    pub hostname: String,
    /// Whether other nodes find the node without knowing its name.
    pub public: bool,
    /// Tags.
    pub tags: Vec<String>,
    /// Node number.
    pub node_id: u32,
    /// `public` or `private`.
    pub visibility: String,
}

/// A message that is on its recipient's disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivered {
    /// The recipient's acknowledgement, as text.
    pub ack: String,
    /// Kind of the message's bytes.
    #[serde(rename = "type")]
    pub kind: MessageKind,
    /// Length of the message.
    pub bytes: u64,
    /// Identity of the message, 32 hexadecimal digits.
    pub message_id: String,
    /// True.
    pub delivered: bool,
}

/// Messages of the inbox.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inbox {
    /// How many the inbox holds.
    pub total: u64,
    /// How many are listed.
    pub shown: u64,
    /// Each listed one, the newest last.
    pub messages: Vec<Message>,
}

/// How many messages were taken out of the inbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Taken {
    /// Their number.
    pub cleared: u64,
}

/// The files that have arrived.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Received {
    /// How many there are.
    pub total: u64,
    /// Where they are.
    pub folder: String,
    /// Each of them.
    pub files: Vec<ReceivedFile>,
    /// Files of which bytes are missing: they are arriving, or their sender can go on with them for seven days.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unfinished: Vec<ReceivedFile>,
}

/// A file that has arrived, or a part of one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReceivedFile {
    /// Its name in the folder.
    pub name: String,
    /// Its length.
    pub bytes: u64,
    /// When it was complete; of an unfinished file: when bytes of it came last.
    pub received_at: u64,
    /// Of an unfinished file: the bytes that it will have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of: Option<u64>,
    /// Of an unfinished file: the fingerprint of its sender's key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sender: Option<String>,
}

/// An event that the subscribers get.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Published {
    /// Published.
    pub status: Status,
    /// Its topic.
    pub topic: String,
    /// Length of its payload.
    pub bytes: u64,
    /// How many subscribers get it.
    pub subscribers: u64,
}

/// A datagram that was handed to the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sent {
    /// Sent.
    pub status: Status,
    /// Its length.
    pub bytes: u64,
}

/// A stream that was aborted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disconnected {
    /// Its number.
    pub conn_id: u64,
}

/// The webhook that is set from now on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WebhookSet {
    /// The URL; empty: none.
    pub webhook: String,
    /// Whether plain http may leave this machine.
    pub insecure: bool,
    /// Whether this node posts events at all.
    pub applied: bool,
    /// The key of the signatures, if it was made; it is told only here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
}

/// A request that has no more to tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accepted {
    /// The outcome.
    pub status: Status,
}

/// A stream that a client has opened or accepted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opened {
    /// Its number.
    pub stream: u64,
    /// This node's address and port.
    pub local: String,
    /// The peer's address and port.
    pub peer: String,
    /// The peer's hostname, or empty.
    pub hostname: String,
    /// Fingerprint of the peer's identity key, or empty when the peer is gone already.
    pub fingerprint: String,
}

/// How many connects were given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cancelled {
    /// Their number.
    pub cancelled: u64,
}

/// A port that was bound, or given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bound {
    /// The port.
    pub port: u16,
}

/// Whether a stream that was given as a descriptor has ended, and how.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "end", rename_all = "lowercase")]
pub enum StreamState {
    /// The stream has not ended.
    Open,
    /// The stream has ended in order: both sides had ended their halves.
    Fin {
        /// Its number.
        stream: u64,
    },
    /// The stream broke.
    Error {
        /// Its number.
        stream: u64,
        /// The reason.
        #[serde(flatten)]
        failure: Failure,
    },
}

impl<'de> Deserialize<'de> for StreamState {
    /// Derived code would copy each member into a buffer of serde's first.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let state = Value::deserialize(deserializer)?;
        let stream = || state["stream"].as_u64().ok_or_else(|| D::Error::missing_field("stream"));
        match state["end"].as_str() {
            Some("open") => Ok(Self::Open),
            Some("fin") => Ok(Self::Fin { stream: stream()? }),
            Some("error") => {
                let failure = Failure::deserialize(&state).map_err(D::Error::custom)?;
                Ok(Self::Error { stream: stream()?, failure })
            }
            _ => Err(D::Error::custom("an unknown end of a stream")),
        }
    }
}
